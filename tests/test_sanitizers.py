"""The tests again, with AddressSanitizer and UndefinedBehaviorSanitizer in all of our C.

A copy of the package is made whose extension and programs are built with the sanitizers, and so
is whatever a test compiles for this machine: $CC is the compiler with the sanitizers. What they
find goes to files, one a process, because a test may expect its child to fail, and then nobody
reads what the child said.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import TESTS, core_source

import arenads
from arenads import compiler

SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
]
# What reads ahead in large maps only does so in small ones too.
EVERYTHING = ["-DADS_SCAN_AHEAD_FROM=1"]
# It sees less of what goes where in code that has sanitizers in it.
QUIET = ["-Wno-array-bounds"]
ADDRESS_OPTIONS = [
    "detect_leaks=0",  # Python keeps memory to the end of its life
    "detect_stack_use_after_return=1",
    "allocator_may_return_null=1",  # a process without memory is to be told so
    "quarantine_size_mb=8",  # tests look at what a process holds
    # A child that writes through a read-only mapping is to die of a signal, as without
    # sanitizers: that is what its test waits for.
    "handle_segv=0",
    "handle_sigbus=0",
    "handle_abort=0",
]


@dataclass(frozen=True)
class Sanitized:
    """A folder with the copy of the package, and the environment of processes that use it."""

    place: Path
    environment: dict[str, str]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run Python with the copy as the package."""
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.place,  # where Python looks first
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=3000,
            check=False,
        )

    def test(self, *words: object) -> None:
        """Run tests; fails with what the sanitizers found, or else with what pytest said."""
        root = TESTS.parent
        where = ["-c", root / "pyproject.toml", "--rootdir", root]
        done = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *where, *words)
        print(done.stdout)
        assert not self.findings()
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]

    def findings(self) -> str:
        """What the sanitizers reported since the last look, in whatever process."""
        files = sorted(self.place.glob("findings.*"))
        text = "\n".join(file.read_text(errors="replace") for file in files)
        for file in files:
            file.unlink()
        return text


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
    )


def library_of(found: compiler.Compiler, *names: str) -> Path | None:
    """The first of these libraries that the compiler has."""
    for name in names:
        path = Path(run(*found.command, f"-print-file-name={name}").stdout.strip())
        if path.is_absolute():
            return path.resolve()
    return None


def runtime(found: compiler.Compiler) -> list[Path]:
    """What must be loaded before all else, since Python is not sanitized; empty: there is none.

    With it the C++ library: AddressSanitizer looks for what throws exceptions when it starts.
    """
    asan = library_of(found, "libasan.so", f"libclang_rt.asan-{os.uname().machine}.so")
    return [each for each in (asan, library_of(found, "libstdc++.so.6")) if asan and each]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Sanitized:
    """The copy; skips, with what the compiler says, where there are no sanitizers."""
    place = tmp_path_factory.mktemp("sanitized")
    found = compiler.find_host_compiler()
    (place / "probe.c").write_text("int main(void) { return 0; }\n")
    command = [*found.command, *SANITIZERS, place / "probe.c", "-o", place / "probe"]
    probe = run(*command)
    if not probe.returncode:
        probe = run(place / "probe")
    libraries = runtime(found)
    if probe.returncode or not libraries:
        said = (probe.stderr or probe.stdout).strip() or "no library to load first"
        pytest.skip(f"{found} makes no sanitized programs here: {said.splitlines()[0]}")

    flags = [*SANITIZERS, *EVERYTHING]
    package = place / "arenads"
    without = shutil.ignore_patterns("*.native.so", "_core.*", "__pycache__")
    shutil.copytree(Path(arenads.__file__).parent, package, ignore=without)
    shutil.copytree(compiler.include_dir(), place / "include", dirs_exist_ok=True)
    shutil.copytree(TESTS.parent / "bpf_progs", place / "bpf_progs")
    compiler.compile_shared(
        core_source(place / "_core.c"),
        package / "_core.abi3.so",
        include_dirs=[sysconfig.get_path("include")],
        flags=["-O0", "-g1", *flags],
    )
    log = f"log_path={place / 'findings'}"
    return Sanitized(
        place,
        {
            **os.environ,
            # The compiler itself is not looked at.
            "CC": shlex.join(["env", "-u", "LD_PRELOAD", *found.command, *flags, *QUIET]),
            "PYTHONPATH": str(place),
            "LD_PRELOAD": ":".join(map(str, libraries)),
            # Each object by itself, so that one byte behind it is too far.
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": ":".join([*ADDRESS_OPTIONS, log]),
            "UBSAN_OPTIONS": f"print_stacktrace=1:{log}",
        },
    )


def test_sanitizers_see_what_our_code_does(sanitized: Sanitized) -> None:
    """The test of the test: a record too large for a buffer that Python allocated."""
    overflow = """
        import arenads
        from arenads._core import ffi, lib
        assert arenads.__file__.startswith({place!r}), arenads.__file__
        with arenads.create("1MiB", engine="native") as arena:
            inbox = arena.queue("inbox", value=arenads.u64)
            inbox.push(1)
            small = ffi.new("char[]", 7)
            lib.core_queue_pop(inbox._handle, small)
        """
    done = sanitized.run("-c", textwrap.dedent(overflow).format(place=str(sanitized.place)))
    assert done.returncode != 0
    assert "heap-buffer-overflow" in sanitized.findings(), done.stderr


def test_the_queue_and_the_list_are_clean(sanitized: Sanitized) -> None:
    """A part of the next test that takes seconds: no other processes, no random histories."""
    quick = ["-k", "not process and not lose_nothing and not behaves_like"]
    files = [TESTS / "test_queue.py", TESTS / "test_list.py"]
    sanitized.test("-n0", "-m", "native and not slow", *quick, *files)


@pytest.mark.slow
def test_the_suite_is_clean(sanitized: Sanitized) -> None:
    """All that needs no kernel."""
    for source in (TESTS.parent / "bpf_progs").glob("*.bpf.c"):
        if source.name.startswith("bench_"):  # about kernel maps: there is no native form
            continue
        compiler.compile(
            source,
            sanitized.place / "arenads" / "programs" / source.name.replace(".bpf.c", ".native.so"),
            engine="native",
            flags=["-O1", "-g1", *SANITIZERS],
        )
    # The explorer's actors have stacks of its own making, which it leaves when they die. The
    # disassembler is loaded in a way that sanitizers refuse, and ends the process.
    without = (
        "test_interleavings.py",
        "test_mistakes_in_maps.py",
        "test_mistakes_in_queues.py",
        "test_instructions.py",
        Path(__file__).name,
    )
    ignored = [f"--ignore={TESTS / name}" for name in without]
    sanitized.test("-m", "not kernel and not slow", TESTS, *ignored)
