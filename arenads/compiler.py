"""Finds C compilers and compiles programs for both engines.

A program `prog.bpf.c` is compiled for the kernel engine into the BPF object
`prog.bpf.o`, and for the native engine into the shared object `prog.native.so`
(with `prog.bpf.o` beside it, because the types are read from its BTF).

BPF programs that use an arena need clang 19 or newer, or the `ziglang` package
from PyPI, which brings one. A compiler is chosen by trying it on a few lines,
never by its version.

Only the standard library is used here: the package's own build loads this
module before anything is installed.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from arenads.errors import CompileError, CompilerMissingError, EngineError, ObjectError

__all__ = [
    "CLANG_MINIMUM",
    "ZIG_VERSION",
    "Compiler",
    "cflags",
    "compile",
    "compile_shared",
    "find_bpf_compiler",
    "find_host_compiler",
    "include_dir",
    "programs_dir",
    "shipped_program",
    "shipped_source",
]

ZIG_VERSION = "0.15.2"
"""The release of the `ziglang` package that this release was tested with."""

CLANG_MINIMUM = 19
"""The first clang that knows the arena's address space. For messages: what counts is the trial."""

Kind = Literal["clang", "zig", "cc"]
Target = Literal["bpf", "host"]
StrPath = str | os.PathLike[str]

_PACKAGE = Path(__file__).resolve().parent
_PROBE_SECONDS = 300

# v3 and not v4: every kernel that has arenas runs it, while v4 lets newer compilers emit
# load-acquire instructions, which kernels before 6.15 refuse. `-ffreestanding` keeps
# <stdint.h> from reaching for the C library's headers, which know nothing of BPF.
_BPF_FLAGS = (
    "-std=gnu11",
    "-O2",
    "-g",
    "-mcpu=v3",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
)
_HOST_FLAGS = ("-std=gnu11", "-O2", "-g", "-fPIC", "-shared")
# A program that ignores its context is ordinary: its type demands the parameter.
# A pointer to a record of another type is a wrong layout, not a matter of style.
_WARNING_FLAGS = (
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=implicit-function-declaration",
)
# What `zig cc` adds on its own and other compilers do not.
_ZIG_UNDO = ("-fno-sanitize=all", "-UNDEBUG")

_BPF_PROBE = """\
#if !defined(__BPF_FEATURE_ADDR_SPACE_CAST) || !defined(__BPF_FEATURE_MAY_GOTO)
#error "no arena instructions (address space casts, may_goto) for BPF"
#endif
int probe(int __attribute__((address_space(1))) *cell) { return *cell; }
"""
_HOST_PROBE = """\
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
int probe(uint64_t *cell) { return memcmp(cell, cell + 1, 8) + munmap(cell, 8); }
"""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that has been seen to work.

    Attributes
    ----------
    kind : "clang", "zig" or "cc"
        Which family of options it takes; "cc" is gcc and whatever resembles it.
    command : tuple of str
        What to run, without options.
    version : str
        Its own version, such as "19.1.7".
    target : "bpf" or "host"
        What it was tried for.
    """

    kind: Kind
    command: tuple[str, ...]
    version: str
    target: Target

    def __str__(self) -> str:
        name = self.kind if self.kind == "zig" else Path(self.command[0]).name
        return f"{name} {self.version}".strip()


# --- where things are -----------------------------------------------------------


def include_dir() -> Path:
    """Return the directory to pass as `-I`, so that `<arenads/bpf.h>` is found.

    >>> (include_dir() / "arenads").is_dir()
    True
    """
    packaged = _PACKAGE / "include"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "include"


def programs_dir() -> Path:
    """Return the directory of the compiled programs that come with the package.

    It holds a `*.bpf.o` and a `*.native.so` for each of them.
    """
    return _PACKAGE / "programs"


def shipped_source(name: str) -> Path:
    """Return the source of a program that comes with the package, such as "demo".

    Raises
    ------
    ObjectError
        There is none of that name.
    """
    places = [
        programs_dir() / "src" / f"{name}.bpf.c",
        include_dir().parent / "bpf_progs" / f"{name}.bpf.c",
    ]
    for place in places:
        if place.is_file():
            return place
    raise ObjectError(
        f"expected the source of program {name!r} at {places[0]}, found none; install arenads anew",
        path=str(places[0]),
    )


def shipped_program(name: str) -> Path:
    """Return a program that comes with the package: built with it, or else its source."""
    built = programs_dir() / f"{name}.bpf.o"
    return built if built.is_file() else shipped_source(name)


def cflags(target: Target | None = None) -> list[str]:
    """Return compiler options for a build of your own.

    Without a target, only the include path; with "bpf", all that clang >= 19
    needs to make a BPF object; with "host", all that gcc or clang needs to make
    a shared object for the native engine. The items are separate arguments: join them
    with `shlex.join` for a shell.

    >>> cflags() == ["-I" + str(include_dir())]
    True
    >>> "-DADS_NATIVE" in cflags("host")
    True

    Raises
    ------
    CompileError
        There is no such target.
    """
    include = f"-I{include_dir()}"
    if target is None:
        return [include]
    if target == "bpf":
        return [*_bpf_target("clang"), *_BPF_FLAGS, *_bpf_defines(), include]
    if target == "host":
        return [*_HOST_FLAGS, "-DADS_NATIVE", include]
    raise CompileError(f"cflags: expected the target 'bpf' or 'host', found {target!r}")


# --- finding compilers ------------------------------------------------------------


def find_bpf_compiler() -> Compiler:
    """Return the compiler for BPF objects.

    That is the first of clang, clang-NN (newest first) on PATH and `ziglang` in
    the running interpreter that compiles a function with an arena pointer.
    The answer is kept for the life of the process.

    Raises
    ------
    CompilerMissingError
        None of them does; `tried` says what each of them answered.
    """
    return _find_bpf_compiler(os.environ.get("PATH", os.defpath), _zig_command())


@functools.lru_cache(maxsize=16)
def _find_bpf_compiler(path: str, zig: tuple[str, ...] | None) -> Compiler:
    return _first_working(
        "bpf",
        [*_clangs(path, CLANG_MINIMUM), *([zig] if zig else [])],
        wanted=f"clang >= {CLANG_MINIMUM} on PATH or the ziglang package",
        remedy=(
            f"Run `{_pip_install()}`, or install clang >= {CLANG_MINIMUM}"
            f" (Debian and Ubuntu: apt install clang-{CLANG_MINIMUM})."
        ),
    )


def find_host_compiler() -> Compiler:
    """Return the compiler for shared objects of this machine.

    That is $CC if it is set (and then nothing else), otherwise the first of
    cc, gcc, clang on PATH and `ziglang` in the running interpreter that compiles and
    links a shared object. The answer is kept for the life of the process.

    Raises
    ------
    CompilerMissingError
        None of them does; `tried` says what each of them answered.
    """
    return _find_host_compiler(
        os.environ.get("PATH", os.defpath), os.environ.get("CC", "").strip(), _zig_command()
    )


@functools.lru_cache(maxsize=16)
def _find_host_compiler(path: str, chosen: str, zig: tuple[str, ...] | None) -> Compiler:
    if chosen:
        try:
            candidates = [tuple(shlex.split(chosen))]
        except ValueError as error:
            raise CompilerMissingError(
                f"CC is not a command: {chosen!r} ({error}); correct it or unset it",
                tried={chosen: str(error)},
            ) from None
        remedy = "Correct CC, or unset it to let a compiler be found."
        return _first_working("host", candidates, wanted=f"CC={chosen} to work", remedy=remedy)
    found = [shutil.which(name, path=path) for name in ("cc", "gcc")]
    return _first_working(
        "host",
        [*((name,) for name in found if name), *_clangs(path, 0), *([zig] if zig else [])],
        wanted="cc, gcc or clang on PATH or the ziglang package",
        remedy=(
            f"Run `{_pip_install()}`, or install a C compiler with its headers"
            " (Debian and Ubuntu: apt install gcc libc6-dev)."
        ),
    )


def _pip_install() -> str:
    return f"pip install ziglang=={ZIG_VERSION}"


def _first_working(
    target: Target, candidates: Iterable[tuple[str, ...]], *, wanted: str, remedy: str
) -> Compiler:
    tried: dict[str, str] = {}
    for command in candidates:
        try:
            compiler = _identify(command, target)
            _probe(compiler)
        except (OSError, subprocess.SubprocessError, CompileError) as error:
            tried[shlex.join(command)] = _gist(error)
        else:
            return compiler
    purpose = "BPF programs" if target == "bpf" else "programs of this machine"
    answers = "".join(f"\n  {command}: {answer}" for command, answer in tried.items())
    raise CompilerMissingError(
        f"no C compiler for {purpose}: expected {wanted}, found "
        + (f"none that works:{answers}\n{remedy}" if tried else f"none. {remedy}"),
        tried=tried,
    )


def _gist(error: Exception) -> str:
    """Return the one line of a failed probe that says most."""
    if not isinstance(error, CompileError):
        return str(error)
    lines = [line.strip() for line in str(error.output).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [error.message])[0]


def _clangs(path: str, minimum: int) -> list[tuple[str, ...]]:
    """List clang, then clang-NN with NN >= minimum, newest first."""
    versions = set()
    for directory in path.split(os.pathsep):
        try:
            names = os.listdir(directory) if directory else []
        except OSError:
            continue
        matches = (re.fullmatch(r"clang-(\d{1,4})", name) for name in names)
        versions |= {int(match[1]) for match in matches if match}
    names = ["clang", *(f"clang-{v}" for v in sorted(versions, reverse=True) if v >= minimum)]
    found = (shutil.which(name, path=path) for name in names)
    return [(name,) for name in found if name]


def _zig_package() -> Path | None:
    try:
        spec = importlib.util.find_spec("ziglang")
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def _zig_command() -> tuple[str, ...] | None:
    # -P: a file in the current directory must not pass for a module of the standard library.
    if not sys.executable or _zig_package() is None:
        return None
    return (sys.executable, "-P", "-m", "ziglang", "cc")


def _identify(command: tuple[str, ...], target: Target) -> Compiler:
    zig = command == _zig_command()
    with _environment("zig" if zig else "cc") as environment:
        answer = subprocess.run(
            [*command, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_SECONDS,
            env=environment,
            check=False,
        ).stdout.decode("utf-8", "backslashreplace")
    line = answer.partition("\n")[0]
    numbers = re.findall(r"\d+\.\d+(?:\.\d+)?", line)
    if zig:
        return Compiler("zig", command, _zig_version(), target)
    if "clang version" in line:
        # Zig behind a CC of the user's calls itself clang, but not its folders.
        kind: Kind = "zig" if re.search(r"\bzig(lang)?\b", answer) else "clang"
        return Compiler(kind, command, "".join(numbers[:1]), target)
    return Compiler("cc", command, "".join(numbers[-1:]), target)


def _zig_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ziglang")
    except PackageNotFoundError:
        return ""


def _probe(compiler: Compiler) -> None:
    bpf = compiler.target == "bpf"
    with tempfile.TemporaryDirectory(prefix="arenads-") as directory:
        source = os.path.join(directory, "probe.c")
        output = os.path.join(directory, "probe.o" if bpf else "probe.so")
        Path(source).write_text(_BPF_PROBE if bpf else _HOST_PROBE)
        arguments = _bpf_arguments(compiler.kind) if bpf else _host_arguments(compiler.kind)
        _run(compiler, arguments, source, output, timeout=_PROBE_SECONDS)


# --- options ------------------------------------------------------------------------


def _bpf_target(kind: Kind) -> list[str]:
    byte_order = "bpfel" if sys.byteorder == "little" else "bpfeb"
    if kind == "zig":
        return ["-target", f"{byte_order}-freestanding-none"]
    return [f"--target={byte_order}"]


def _bpf_defines() -> list[str]:
    """Name the machine the way libbpf's bpf_tracing.h wants it."""
    machine = platform.machine().lower()
    for pattern, name in (
        (r"x86_64|amd64|i[3-6]86", "x86"),
        (r"aarch64.*|arm64", "arm64"),
        (r"arm.*", "arm"),
        (r"s390x?", "s390"),
        (r"ppc.*|powerpc.*", "powerpc"),
        (r"riscv.*", "riscv"),
        (r"loongarch.*", "loongarch"),
        (r"mips.*", "mips"),
        (r"sparc.*", "sparc"),
        (r"arc", "arc"),
    ):
        if re.fullmatch(pattern, machine):
            return [f"-D__TARGET_ARCH_{name}"]
    return []


def _bpf_arguments(kind: Kind) -> list[str]:
    undo = _ZIG_UNDO if kind == "zig" else ()
    return [*_bpf_target(kind), *_BPF_FLAGS, *undo, *_WARNING_FLAGS, *_bpf_defines(), "-c"]


def _host_arguments(kind: Kind) -> list[str]:
    target = _zig_host_target() if kind == "zig" else []
    undo = _ZIG_UNDO if kind == "zig" else ()
    return [*target, *_HOST_FLAGS, *undo, *_WARNING_FLAGS]


def _zig_host_target() -> list[str]:
    """Name this machine for zig, so that it takes its own C library headers and stubs.

    Left to itself it would compile for this very processor and this very C library.
    """
    machine = platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "powerpc64le", "i686": "x86"}
    machine = names.get(machine, machine)
    if machine not in {"x86_64", "aarch64", "riscv64", "s390x", "powerpc64le", "loongarch64"}:
        return ["-mcpu=baseline"]
    library, version = platform.libc_ver()
    if library != "glibc":
        return ["-target", f"{machine}-linux-musl", "-mcpu=baseline"]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    # Not newer than this one, and not newer than what zig knows.
    major, minor = min(numbers, (2, 28)) if len(numbers) == 2 else (2, 28)
    return ["-target", f"{machine}-linux-gnu.{major}.{minor}", "-mcpu=baseline"]


def _fallback_includes(kind: Kind) -> list[str]:
    """Point at the system's headers after all others: BPF and zig builds do not look there."""
    machine = platform.machine().lower()
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{machine}-linux-gnu"
    directories = [Path("/usr/include"), Path("/usr/include") / multiarch]
    zig = _zig_package()
    if kind == "zig" and zig is not None:
        # The kernel's own headers, for a machine that has none.
        family = "".join(_bpf_defines()).rpartition("_")[2] or machine
        family = {"arm64": "aarch64", "s390": "s390x"}.get(family, family)
        headers = zig / "lib" / "libc" / "include"
        directories += [headers / f"{family}-linux-any", headers / "any-linux-any"]
    return [
        word for directory in directories if directory.is_dir()
        for word in ("-idirafter", str(directory))
    ]  # fmt: skip


# --- compiling ------------------------------------------------------------------------


def compile(
    source: StrPath,
    output: StrPath | None = None,
    *,
    engine: Literal["kernel", "native"] = "kernel",
    include_dirs: Sequence[StrPath] = (),
    defines: Sequence[str] = (),
    flags: Sequence[str] = (),
    debug: bool = False,
) -> Path:
    """Compile one program and return the path of the result.

    The result is put in place only when it is complete: a failure leaves what was
    there before. Warnings go to standard error as the compiler wrote them.

    Parameters
    ----------
    source : path
        A C file, by convention named `prog.bpf.c`.
    output : path, optional
        Where the result goes; by default beside the source, as `prog.bpf.o`
        (kernel engine) or `prog.native.so` (native engine). The native engine reads the
        types of a program from its BPF object, so that one is compiled too and put
        beside the shared object.
    engine : "kernel" or "native"
    include_dirs, defines, flags : sequence of str
        Passed as `-I`, `-D` and as they are, after the options chosen here, so that they
        win. With the native engine, `flags` go to the host compiler only.
    debug : bool
        Compile the shared object with `-Og -g3`, for a debugger. BPF objects are
        always optimised: the verifier refuses others.

    Raises
    ------
    CompileError
        The source or the output cannot be used, or the compiler refused the program;
        `output` is the compiler's own text, `command` what was run.
    CompilerMissingError
        No compiler was found.
    EngineError
        There is no engine of that name.

    >>> import pathlib, tempfile, arenads
    >>> folder = tempfile.TemporaryDirectory()
    >>> source = pathlib.Path(folder.name, "hits.bpf.c")
    >>> written = source.write_text('''
    ... #include <arenads/bpf.h>
    ... ADS_ARENA(ADS_MIB);
    ... ADS_HASHMAP(hits, __u32, __u64, 100);
    ... char LICENSE[] SEC("license") = "GPL";
    ... SEC("syscall") int hit(void *context)
    ... {
    ...     __u32 key = 7;
    ...     __u64 value = 42;
    ...     return hits_update(&key, &value);
    ... }
    ... ''')
    >>> compile(source, engine="native").name
    'hits.native.so'
    >>> with arenads.load(source.with_name("hits.native.so"), engine="native") as program:
    ...     program.run("hit").value, program["hits"][7]
    (0, 42)
    >>> folder.cleanup()
    """
    program = _source_file(source)
    if engine not in ("kernel", "native"):
        raise EngineError(
            f"cannot compile for the engine {engine!r}: expected 'kernel' or 'native'",
            errno=errno.EINVAL,
            reason="unknown engine",
        )
    suffix = ".bpf.o" if engine == "kernel" else ".native.so"
    base = re.sub(r"(\.bpf)?\.c$", "", program)
    target = _target_file(base + suffix if output is None else output, program)
    options = _options(include_dirs, defines)
    extra = _strings("flags", flags)
    if engine == "kernel":
        with _replacing(target) as (place,):
            _build_bpf(program, place, [*options, *extra])
    else:
        native = ["-DADS_NATIVE", *options, *(["-Og", "-g3"] if debug else []), *extra]
        types = _target_file(_types_beside(target), program)
        with _replacing(types, target) as (types_place, place):
            _build_bpf(program, types_place, options)
            _build_shared(program, place, native)
    return target


def compile_shared(
    source: StrPath,
    output: StrPath,
    *,
    include_dirs: Sequence[StrPath] = (),
    defines: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Path:
    """Compile one C file into a shared object of this machine and return its path.

    Like `compile(..., engine="native")`, but for any C file, without a BPF object and
    without `-DADS_NATIVE`. The same errors are raised.
    """
    file = _source_file(source)
    target = _target_file(output, file)
    options = [*_options(include_dirs, defines), *_strings("flags", flags)]
    with _replacing(target) as (place,):
        _build_shared(file, place, options)
    return target


def _build_bpf(source: str, output: str, options: Sequence[str]) -> None:
    compiler = find_bpf_compiler()
    words = [*_bpf_arguments(compiler.kind), *_fallback_includes(compiler.kind), *options]
    _run(compiler, words, source, output)


def _build_shared(source: str, output: str, options: Sequence[str]) -> None:
    compiler = find_host_compiler()
    fallback = _fallback_includes(compiler.kind) if compiler.kind == "zig" else []
    _run(compiler, [*_host_arguments(compiler.kind), *fallback, *options], source, output)


def _types_beside(native: Path) -> Path:
    base = re.sub(r"(\.native)?\.so$", "", native.name)
    return native.with_name(base + ".bpf.o")


def _path_text(what: str, path: StrPath) -> str:
    text: object = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise CompileError(
            f"{what}: expected a path, found {path!r}", path=path, output="", errno=errno.EINVAL
        )
    # The compiler would take these for an option or for a list of arguments.
    return os.path.join(".", text) if text[0] in "-@" else text


def _source_file(source: StrPath) -> str:
    text = _path_text("source", source)
    number, found = errno.EINVAL, ""
    try:
        mode = os.stat(text).st_mode
    except OSError as error:
        number = error.errno or errno.EIO
        found = "no such file" if number == errno.ENOENT else os.strerror(number)
    else:
        if stat.S_ISDIR(mode):
            number, found = errno.EISDIR, "a directory"
        elif not stat.S_ISREG(mode):
            found = "something that is not a regular file"
        elif not text.endswith(".c"):
            found = "a name that does not end in .c"
    if found:
        raise CompileError(
            f"cannot compile {text}: expected a C file (prog.bpf.c), found {found}",
            errno=number,
            path=text,
            output="",
        )
    return text


def _target_file(output: StrPath, source: str) -> Path:
    target = Path(_path_text("output", output))
    number, reason = errno.EINVAL, ""
    if target.is_dir():
        number, reason = errno.EISDIR, "expected the name of a file, found a directory"
    elif not target.parent.is_dir():
        number, reason = errno.ENOENT, f"{target.parent} is not a directory; create it first"
    elif target.exists() and os.path.samefile(target, source):
        reason = "it is the source itself; choose another output"
    if reason:
        raise CompileError(
            f"cannot write {target}: {reason}", errno=number, path=str(target), output=""
        )
    return target


def _strings(what: str, values: Sequence[str]) -> list[str]:
    words = [values] if isinstance(values, str) else list(values)
    if isinstance(values, str) or any(not isinstance(word, str) or "\0" in word for word in words):
        raise CompileError(
            f"{what}: expected a sequence of strings, found {values!r}", output="", path=""
        )
    return words


def _options(include_dirs: Sequence[StrPath], defines: Sequence[str]) -> list[str]:
    if isinstance(include_dirs, (str, bytes, os.PathLike)):
        raise CompileError(
            f"include_dirs: expected a sequence of paths, found {include_dirs!r}",
            output="",
            path="",
        )
    own = [f"-I{_path_text('include_dirs', directory)}" for directory in include_dirs]
    return [*own, f"-I{include_dir()}", *(f"-D{word}" for word in _strings("defines", defines))]


@contextmanager
def _replacing(*targets: Path) -> Iterator[tuple[str, ...]]:
    """Give a place to build each target in; move all of them home only if all went well."""
    try:
        # In the target's own directory: a rename must not cross file systems.
        holder = tempfile.TemporaryDirectory(prefix=".arenads-", dir=targets[0].parent)
    except OSError as error:
        raise CompileError(
            f"cannot write {targets[0]}: {error.strerror} in {targets[0].parent};"
            " choose another output or make the directory writable",
            errno=error.errno,
            path=str(targets[0]),
            output="",
        ) from None
    with holder as directory:
        places = tuple(os.path.join(directory, target.name) for target in targets)
        yield places
        for place, target in zip(places, targets, strict=True):
            try:
                os.replace(place, target)
            except OSError as error:
                raise CompileError(
                    f"cannot write {target}: {error.strerror}",
                    errno=error.errno,
                    path=str(target),
                    output="",
                ) from None


# What the macros of bpf.h come to where ADS_ARENA was forgotten; quotes are as the locale has them.
_NO_ARENA: Final = re.compile(r"undeclared identifier \Warena\W|\Warena\W undeclared")


def _run(
    compiler: Compiler,
    arguments: Sequence[str],
    source: str,
    output: str,
    timeout: float | None = None,
) -> None:
    command = [*compiler.command, *arguments, source, "-o", output]
    with _environment(compiler.kind) as environment:
        try:
            process = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except OSError as error:
            raise CompileError(
                f"cannot run {compiler.command[0]}: {error.strerror}",
                errno=error.errno,
                command=command,
                output="",
            ) from None
    text = process.stdout.decode("utf-8", "backslashreplace")
    if process.returncode != 0:
        how = (
            f"was ended by signal {-process.returncode} on" if process.returncode < 0 else "refused"
        )
        hint = ""
        if _NO_ARENA.search(text):
            hint = "\nDeclare the program's arena before its structures: ADS_ARENA(64 * ADS_MIB);"
        raise CompileError(
            f"{compiler} {how} {source}:\n{text}{hint}", command=command, output=text, path=source
        )
    if not os.path.isfile(output):
        raise CompileError(
            f"{compiler} wrote no output for {source}; do the flags ask for another step?\n{text}",
            command=command,
            output=text,
            path=source,
        )
    if text:
        sys.stderr.write(text)


@contextmanager
def _environment(kind: Kind) -> Iterator[dict[str, str]]:
    """Give the environment to run a compiler in; zig needs a place for its cache."""
    environment = dict(os.environ)
    if kind != "zig" or _zig_cache_works(environment):
        yield environment
        return
    # A fixed name under the temporary directory: what zig builds for the C library is kept
    # from one run to the next. If the name is not ours, a private one for this run.
    shared = os.path.join(tempfile.gettempdir(), f"arenads-zig-{os.getuid()}")
    if _own_directory(shared):
        yield {**environment, **_zig_caches(shared)}
        return
    with tempfile.TemporaryDirectory(prefix="arenads-zig-") as private:
        yield {**environment, **_zig_caches(private)}


def _zig_caches(directory: str) -> dict[str, str]:
    return {"ZIG_GLOBAL_CACHE_DIR": directory, "ZIG_LOCAL_CACHE_DIR": directory}


def _zig_cache_works(environment: dict[str, str]) -> bool:
    chosen = environment.get("ZIG_GLOBAL_CACHE_DIR")
    if not chosen:
        home = environment.get("HOME")
        base = environment.get("XDG_CACHE_HOME") or (home and os.path.join(home, ".cache"))
        if not base:
            return False
        chosen = os.path.join(base, "zig")
    try:
        os.makedirs(chosen, exist_ok=True)
    except OSError:
        return False
    return os.access(chosen, os.W_OK | os.X_OK)


def _own_directory(path: str) -> bool:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and (
        status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077 == 0
    )
