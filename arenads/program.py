"""Load BPF objects: create what they declare, attach and run their programs."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from arenads import compiler
from arenads._core import ffi, lib
from arenads.arena import PAGE, Arena, Engine, parse_size
from arenads.btf import ArenaMap, Declaration, Kind, ObjectFile
from arenads.btf_schema import from_btf
from arenads.closing import Loan
from arenads.codec import Codec
from arenads.engine import take_engine
from arenads.errors import (
    ArenadsError,
    ClosedError,
    CompileError,
    LoadError,
    ObjectError,
    ProgramTypeError,
    SchemaError,
    StructureAbsentError,
)
from arenads.kinds import KINDS
from arenads.native import NativeObject
from arenads.rings import Rings
from arenads.schema import Schema
from arenads.structure import Structure

__all__ = ["Attachment", "Program", "RunResult", "load"]

# Program types that libbpf attaches by what their section says.
_AUTO_ATTACHED = frozenset(
    {"tracing", "raw_tracepoint", "raw_tracepoint_writable", "tracepoint", "kprobe", "lsm", "ext"}
)


# How compilers say that a function is not declared; its name may be in any quotes.
_UNKNOWN_HELPER = re.compile(
    r"(?:implicit declaration of function|undeclared function) \W?(bpf_\w+)"
    r"|\W(bpf_\w+)\W (?:undeclared|was not declared)"
)
_LARGEST_CONTEXT = 65535
_LEAST_CONTEXT = 4096


class Attachment(Protocol):
    """What `Program.attach` returns, one for each attached program."""

    def close(self) -> None:
        """Detach; idempotent."""


class RunResult(msgspec.Struct, frozen=True):
    """What a program returned, and the context as it left it.

    Attributes
    ----------
    value : int
        What it returned, a C int.
    context : bytes
        As many bytes as were passed.

    >>> import arenads
    >>> from arenads.demo import program_path
    >>> with arenads.load(program_path(), engine="native") as program:
    ...     program.run("talk", bytes(4))
    RunResult(value=0, context=b'\\x00\\x00\\x00\\x00')
    """

    value: int
    context: bytes


class Program(Mapping[str, Any]):
    """A loaded object: its programs, and its structures by name.

    Made by `arenads.load`. A context manager: closing it detaches and unloads its programs,
    and closes the arena if the loader created it. What a name stands for is known when the object
    is loaded, so lookups are Any to a type checker; `program.arena.hashmap(...)` and the like say
    the types of what they open.

    >>> import arenads
    >>> from arenads.demo import Sample, pack_sample, program_path
    >>> with arenads.load(program_path(), engine="native") as program:
    ...     program.engine, list(program)[:2], program.programs["sample"]
    ...     done = program.run("sample", pack_sample(Sample(7, 3, 4, "init")))
    ...     again = program.runner("sample", context_size=len(done.context))
    ...     again(done.context), again()  # the second time with what the first left
    ...     program["tasks"][7].syscalls
    ('native', ['tasks', 'newcomers'], 'syscall')
    (0, 0)
    9
    >>> program.closed
    True
    >>> program.close()
    """

    def __init__(self, path: Path, arena: Arena, owns_arena: bool, file: ObjectFile) -> None:
        self.path = path
        """The object, or the source that it was compiled from."""
        self.arena = arena
        """The arena that its structures are in."""
        self.programs: dict[str, str] = dict(file.programs)
        """Program names and their sections."""
        self._context_sizes = _context_sizes(file)
        self._types = file.btf
        self._owns_arena = owns_arena
        self._structures: dict[str, Structure[Any] | Rings] = {}
        self._bpf: Any = None
        self._native: NativeObject | None = None
        self._loan: Loan | None = None  # of a native program
        self._inside: list[None] = []  # of those who run one
        self._closed = False

    @property
    def engine(self) -> Literal["kernel", "native"]:
        """Where the programs run."""
        return self.arena.engine

    # --- structures -----------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        try:
            return self._structures[name]
        except KeyError:
            have = ", ".join(self._structures) or "none"
            raise StructureAbsentError(
                f"{self.path} declares no structure {name!r}; it has {have}", name=name
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._structures

    def __iter__(self) -> Iterator[str]:
        return iter(self._structures)

    def __len__(self) -> int:
        return len(self._structures)

    def codec(self, name: str) -> Codec[Any]:
        """Return the codec of a type that the object's C code has: for records of its rings.

        `name` is as in C: "struct event". Compilers write those types into BTF that a structure, a
        global variable or a function's arguments have.

        Raises
        ------
        SchemaError
            There is no such type.

        >>> import arenads
        >>> from arenads.demo import program_path
        >>> with arenads.load(program_path(), engine="native") as program:
        ...     program.codec("struct task").size
        40
        """
        from arenads.schema_text import schema_named

        return Codec(schema_named(name, self._types), frozen=True)

    # --- programs -------------------------------------------------------------------------

    def attach(self, name: str | None = None, **target: Any) -> list[Attachment]:
        """Attach programs; they run at every event from now on.

        Without arguments: all whose section says where ("tp_btf/sys_enter",
        "tracepoint/sched/sched_switch", ...). With a name: that one. With a target too: where the
        section leaves it open, such as `interface="eth0"` for XDP and tc,
        `cgroup="/sys/fs/cgroup/x"`, `uprobe=(pid, binary, function)`, `perf_event=...`; see
        `arenads.libbpf.BpfObject.attach_to`.

        Returns
        -------
        list
            One object a program; its `close` detaches.

        Raises
        ------
        ProgramTypeError
            On the native engine, where there are no events; or nothing to attach to.
        LoadError, PrivilegeError, LockdownError
        TypeError
            A target of a name that there is not.

        >>> import arenads
        >>> from arenads.demo import program_path
        >>> with arenads.load(program_path(), engine="native") as program:
        ...     try:
        ...         links = program.attach()
        ...     except arenads.ProgramTypeError:  # the native engine: call programs instead
        ...         value = program.run("talk").value
        >>> value
        0
        """
        self._expect_open()
        if self._bpf is None:
            names = [name] if name else list(self.programs)
            each = ", ".join(f"{n} ({self.programs.get(n, 'unknown')})" for n in names)
            raise ProgramTypeError(
                f"the native engine has no events to attach to: {each}. Call the syscall programs"
                " with run(), or use the kernel engine."
            )
        if name is not None:
            known = self._bpf.attach_to.__func__.__kwdefaults__
            for each in target.keys() - known.keys():
                raise TypeError(
                    f"attach() takes no target {each!r}; it takes one of {', '.join(known)}"
                )
            one = self._bpf.attach_to(name, **target) if target else self._bpf.attach(name)
            return [one]
        if target:
            raise ProgramTypeError("a target is for one program: say which, by its name")
        links: list[Attachment] = []
        try:
            for info in self._bpf.programs().values():
                if info.type in _AUTO_ATTACHED and info.fd >= 0:
                    links.append(self._bpf.attach(info.name))
        except ArenadsError:
            for link in links:
                link.close()
            raise
        if not links:
            raise ProgramTypeError(
                f"{self.path} has no program whose section says where it attaches; name one and"
                " give its target"
            )
        return links

    def run(self, name: str, context: bytes = b"") -> RunResult:
        """Run a `SEC("syscall")` program once, with a context that it may change.

        Raises
        ------
        ProgramTypeError
            It is of another type.
        ObjectError
            There is no such program.
        SchemaError, LoadError
            The context is not bytes, or smaller than what the program reads.
        """
        self._expect_open()
        if self._bpf is not None:
            result = self._bpf.run(name, context)
            return RunResult(result.return_value, result.context)
        context = _as_bytes(context)
        runner = self._native_runner(name, len(context))
        value = runner(context)
        return RunResult(value, bytes(runner.context))

    def runner(self, name: str, context_size: int = 0) -> Callable[..., int]:
        """Return a quick way to run a syscall program again and again.

        The result is called with the context's bytes, or with nothing to pass what the last
        run left, and returns the program's value; its `context` attribute is the memory.

        Raises
        ------
        ProgramTypeError, ObjectError, LoadError
            As for `run`.
        """
        self._expect_open()
        if self._bpf is not None:
            runner: Callable[..., int] = self._bpf.runner(name, context_size)
            return runner
        return self._native_runner(name, context_size)

    def _native_runner(self, name: str, context_size: int) -> _NativeRunner:
        function = self._entry_point(name)
        return _NativeRunner(self, function, self._context_memory(name, context_size), context_size)

    def _context_memory(self, name: str, size: int) -> Any:
        """Return zeroed memory for a context, as large as the program's parameter says.

        The kernel refuses a run whose context is smaller than what the program reads. Compiled
        code cannot be asked: a parameter that is no record gets room to spare.
        """
        if not isinstance(size, int) or not 0 <= size <= _LARGEST_CONTEXT:
            raise LoadError(f"a context has 0 to {_LARGEST_CONTEXT} bytes; found {size!r}")
        needed = self._context_sizes.get(name, 0)
        if size < needed:
            raise LoadError(
                f"program {name!r} of {self.path} takes a context of {needed} bytes, found {size}",
                program=name,
            )
        return ffi.new("char[]", max(size, needed, _LEAST_CONTEXT))

    def _entry_point(self, name: str) -> Any:
        section = self.programs.get(name)
        if section is None:
            have = ", ".join(self.programs) or "none"
            raise ObjectError(f"{self.path} has no program {name!r}; it has {have}")
        if section.split("/")[0] not in ("syscall", "syscall.s"):
            raise ProgramTypeError(
                f"program {name!r} ({section}) has no meaning outside the kernel: the native engine"
                ' runs SEC("syscall") programs only',
                program=name,
                section=section,
            )
        assert self._native is not None
        return self._native.function(name)

    # --- closing ----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Detach and unload the programs; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._bpf is not None:
            self._bpf.close()
        if self._native is not None:
            self._native.unbind()
        if not self._inside:
            self._loan = None
        if self._owns_arena:
            self.arena.close()

    def __enter__(self) -> Program:
        self._expect_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<Program {str(self.path)!r}, {self.arena.engine} engine{state}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _expect_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} was closed; load it again")


def _context_sizes(file: ObjectFile) -> dict[str, int]:
    """Return the size of the record that each program takes, where it takes one."""
    sizes = {}
    for name in file.programs:
        function = file.btf.find(Kind.FUNC, name)
        prototype = function and file.btf.resolve(function.target)
        if not prototype or not prototype.parameters:
            continue
        pointer = file.btf.resolve(prototype.parameters[0].type)
        if pointer.kind is Kind.PTR and pointer.target:
            record = file.btf.resolve(pointer.target)
            if record.kind in (Kind.STRUCT, Kind.UNION):
                sizes[name] = record.size
    return sizes


def _as_bytes(context: object) -> bytes:
    if not isinstance(context, bytes | bytearray | memoryview):
        raise SchemaError(f"a context is bytes; found {type(context).__name__}")
    return bytes(context)


class _NativeRunner:
    """Calls an entry point with memory of its own."""

    def __init__(self, owner: Program, function: Any, memory: Any, context_size: int) -> None:
        self._owner = owner
        self._function = function
        self._size = context_size
        self._memory = memory
        self.context = memoryview(ffi.buffer(self._memory, context_size))

    def __call__(self, context: bytes | None = None) -> int:
        owner = self._owner
        # Whoever closes the program says so first, and looks at this list then.
        owner._inside.append(None)
        try:
            owner._expect_open()
            owner.arena._open()  # the code is about to follow pointers into it
            if context is not None:
                context = _as_bytes(context)
                if len(context) != self._size:
                    raise SchemaError(
                        f"expected a context of {self._size} bytes, found {len(context)}"
                    )
                self.context[:] = context
            return int(self._function(self._memory))
        finally:
            owner._inside.pop()


def load(
    path: str | os.PathLike[str],
    *,
    arena: Arena | None = None,
    engine: Engine = "auto",
    size: int | str | None = None,
    programs: list[str] | None = None,
    maps: Mapping[str, int] | None = None,
) -> Program:
    """Load a BPF object, with an arena and the structures that it declares.

    Parameters
    ----------
    path : path
        A `.bpf.o` file, or a `.bpf.c` source, which is compiled first. For the native engine the
        `.native.so` file must lie beside the `.bpf.o`; `arenads.compile` makes both.
    arena : Arena, optional
        The arena to use; else one is created, of the size that the object declares.
    engine : "auto", "kernel" or "native"
        Only without `arena`.
    size : int or str, optional
        Size of the arena that is created.
    programs : list of str, optional
        Load only these programs (kernel engine).
    maps : mapping of str to int, optional
        Descriptors of kernel maps to use instead of new ones that the object declares, by name
        (kernel engine). They stay the caller's.

    Returns
    -------
    Program

    Raises
    ------
    ObjectError
        The file is not a usable object, or has no such programs.
    LayoutError
        The arena has a structure of that name with other records.
    LoadError
        The kernel refused it: the verifier's last lines are in the message, all in `log`.
    CompileError
        The compiler refused the source. If it was for the native engine, `reason` says why that
        was taken.
    SchemaError
        `arena` is none.
    LibbpfMissingError, PrivilegeError, LockdownError

    >>> import arenads
    >>> from arenads.demo import program_path
    >>> with arenads.load(program_path(), engine="native", size="8MiB") as program:
    ...     program.arena.size, sorted(program.arena.structures) == sorted(program)
    (8388608, True)
    """
    try:
        place = Path(path)
    except TypeError:
        place = Path()
    if not place.name:
        raise ObjectError(f"expected the path of a BPF object or its source, found {path!r}")
    if isinstance(programs, str):
        raise ObjectError(f"programs: expected a list of names, found the text {programs!r}")
    if arena is not None and not isinstance(arena, Arena):
        raise SchemaError(
            f"arena: expected an Arena, of arenads.create or arenads.open, found {arena!r}"
        )
    if place.name.endswith(".c"):
        with tempfile.TemporaryDirectory(prefix="arenads-") as directory:
            if arena is not None:
                chosen, reason = arena.engine, arena.reason
            else:
                chosen, reason = take_engine(engine)
            output = Path(directory) / place.name.removesuffix(".c").removesuffix(".bpf")
            name = f"{output}.native.so" if chosen == "native" else f"{output}.bpf.o"
            try:
                built = compiler.compile(place, name, engine=chosen)
            except CompileError as error:
                raise _explained(error, reason) from None
            loaded = _load(built, place, arena, chosen, size, programs, maps)
        if arena is None:
            loaded.arena.reason = reason
        return loaded
    return _load(place, place, arena, engine, size, programs, maps)


def _load(
    place: Path,
    named: Path,
    arena: Arena | None,
    engine: Engine,
    size: int | str | None,
    programs: list[str] | None,
    maps: Mapping[str, int] | None,
) -> Program:
    """Load an object; `named` is what the user has named: it, or its source."""
    native = place.with_name(place.name.replace(".bpf.o", ".native.so"))
    if place.name.endswith(".native.so"):
        place = place.with_name(place.name.replace(".native.so", ".bpf.o"))
    if not named.name.endswith(".c"):
        named = place
    file = ObjectFile.open(place)
    declared = next(iter(file.arena_maps.values()), None)
    if declared is None:
        raise ObjectError(
            f"{named}: expected an arena, found none; declare it with ADS_ARENA(bytes)",
            path=str(named),
        )
    own = arena is None
    if arena is None:
        length = parse_size(size) if size is not None else _declared_size(named, declared)
        chosen, reason = take_engine(engine)
        arena = Arena.create(length, engine=chosen)
        arena.reason = reason
    program = Program(named, arena, own, file)
    try:
        _create_structures(program, file)
        handles = {
            name: _handles(program[name], found) for name, found in file.declarations.items()
        }
        if arena.engine == "native":
            compiled = NativeObject(native)
            program._loan = Loan(arena)
            compiled.bind(arena._open(), handles)
            program._native = compiled
        else:
            program._bpf = _load_bpf(
                place, named, arena, declared, file, handles, programs, maps or {}
            )
    except BaseException:
        program.close()
        raise
    return program


def _handles(made: Structure[Any] | Rings, found: Declaration) -> list[tuple[int, bytes]]:
    """Return what the program is told of a structure: bytes, and where in its declaration."""
    told = [(found.handle_offset, made.offset.to_bytes(8, "little"))]
    if isinstance(made, Rings):  # with fewer than there is room for they come again and again
        each = itertools.islice(itertools.cycle(made), found.each_count)
        told.append((found.each_offset, b"".join(r.offset.to_bytes(4, "little") for r in each)))
    return told


def _explained(error: CompileError, reason: str) -> CompileError:
    """Add to a refusal by the host's compiler why it was asked, and what it lacks."""
    facts = dict(error.facts)
    if "-DADS_NATIVE" not in facts.get("command", ()):  # type: ignore[operator]
        return error
    facts["reason"] = reason
    refused = _UNKNOWN_HELPER.finditer(str(facts["output"]))
    missing = sorted({found[1] or found[2] for found in refused})
    message = f"{error.message.rstrip()}\nThe native engine was taken: {reason.rstrip('.')}."
    if missing:
        message += (
            f" It has no {', '.join(missing)}: use the kernel engine, or leave that out where"
            " ADS_NATIVE is defined. arenads/native.h has the helpers that it has."
        )
    return CompileError(message, errno=error.errno, **facts)


def _declared_size(place: Path, declared: ArenaMap) -> int:
    length = declared.max_entries * PAGE
    if not 0 < length <= lib.ADS_MAX_SIZE:
        raise ObjectError(
            f"{place}: arena {declared.name!r} declares {declared.max_entries} pages; expected 1 to"
            f" {lib.ADS_MAX_SIZE // PAGE} (4 GiB)",
            path=str(place),
        )
    return length


def _create_structures(program: Program, file: ObjectFile) -> None:
    """Make or open what the object declares. Layouts are compared before anything is made."""
    arena = program.arena
    planned: list[tuple[Declaration, dict[str, Schema], dict[str, Any]]] = []
    for found in file.declarations.values():
        kind = KINDS.get(found.kind)
        has = (found.key is not None, found.value is not None)
        if kind is None or has != (kind.keyed, kind.valued):
            raise ObjectError(
                f"{program.path}: declaration {found.name!r} of kind {found.kind} lacks its key or"
                " value type, or is of a kind that this version does not know",
                path=str(program.path),
            )
        if not 0 < found.max_entries <= 1 << 31:
            raise ObjectError(
                f"{program.path}: declaration {found.name!r} is of {found.max_entries} entries;"
                " expected 1 to 2147483648",
                path=str(program.path),
            )
        types = {
            what: from_btf(file.btf, record.id)
            for what, record in (("key", found.key), ("value", found.value))
            if record is not None
        }
        options = kind.structure_type()._declared_options(found)
        planned.append((found, types, options))
        name = f"{found.name}.0" if found.each_count else found.name
        existing = arena._find(name.encode().ljust(lib.ADS_NAME_SIZE, b"\0"))
        if existing is not None:
            arena._compared(
                name,
                existing,
                found.kind,
                types.get("key"),
                types.get("value"),
                found.numbers.get("flags", 1) - 1,
                found.max_entries,
            )
    # Structures that are made of others come after those.
    for found, types, options in sorted(planned, key=lambda each: "pool" in each[2]):
        make = arena.rings if found.each_count else getattr(arena, KINDS[found.kind].maker)
        arguments = {"max_entries": found.max_entries, **types, **options}
        program._structures[found.name] = make(
            found.name, **{name: each for name, each in arguments.items() if each is not None}
        )


def _load_bpf(
    place: Path,
    named: Path,
    arena: Arena,
    declared: ArenaMap,
    file: ObjectFile,
    handles: dict[str, list[tuple[int, bytes]]],
    programs: list[str] | None,
    maps: Mapping[str, int],
) -> Any:
    from arenads.libbpf import BpfObject

    loaded = BpfObject.open(place, named)
    try:
        for name, fd in (*maps.items(), (declared.name, arena.fileno())):
            loaded.reuse_map(name, fd)
        if handles:
            values = loaded.initial_value(".rodata.arenads")
            for name, places in handles.items():
                for at, value in places:
                    start = file.declarations[name].offset + at
                    values[start : start + len(value)] = value
        if programs is not None:
            for name in loaded.programs():
                loaded.set_autoload(name, name in programs)
            for name in programs:
                loaded.set_autoload(name, True)
        loaded.load()
    except BaseException:
        loaded.close()
        raise
    return loaded
