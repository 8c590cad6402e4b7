"""BPF object files: open, prepare, load, attach, run."""

from __future__ import annotations

import errno as _errno
import os
import re
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Self

from arenads import capabilities
from arenads.btf import ObjectFile
from arenads.errors import (
    ArenadsError,
    ClosedError,
    LoadError,
    ObjectError,
    OpenError,
    ProgramTypeError,
    SchemaError,
    WrongMapTypeError,
)
from arenads.libbpf.library import (
    ENOTSUPP,
    collect_messages,
    explain_errno,
    library,
    options,
    plain_errno,
    text,
    version,
)
from arenads.libbpf.links import Attacher, Link, LoadedProgram, PerfEvent, StrPath, Uprobe
from arenads.libbpf.maps import MapInfo, map_info, map_type_name
from arenads.libbpf.refusals import (
    forbidden_by_lockdown,
    needed_capabilities,
    quote,
    refuse_permission,
    refused_types,
)

__all__ = ["BpfObject", "ProgramInfo", "RunResult", "Runner"]

_LARGEST_FILE: Final = 64 << 20
_LARGEST_CONTEXT: Final = (1 << 16) - 1  # the kernel's limit for syscall programs
_PACKET_ROOM: Final = 4096  # a program may make its packet larger

# Sections that libbpf learned after 1.1, and the program type that they stand for.
_SCHED_CLS: Final = 3
_NEWER_SECTIONS: Final = dict.fromkeys(
    ("tc/ingress", "tc/egress", "tcx/ingress", "tcx/egress"), _SCHED_CLS
)

# Test runs of these take a context and no packet, and the kernel does not time them.
_CONTEXT_ONLY: Final = frozenset({"syscall", "raw_tracepoint", "raw_tracepoint_writable"})


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """One program of an object; `fd` is -1 while it is not loaded."""

    name: str
    section: str
    type: str
    autoload: bool
    fd: int = -1


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run gave.

    `return_value` is signed, as C's int is. `duration_ns` is the mean of one
    repetition as the kernel measured it, or, for the program types that the kernel
    does not time (syscall, raw_tracepoint), the duration of the call as seen here.
    `context` and `data` are what the program left of them.
    """

    return_value: int
    duration_ns: int
    context: bytes
    data: bytes


class _Program(NamedTuple):
    pointer: Any
    name: str
    section: str
    type: str


class BpfObject:
    """The programs and maps of one BPF object file.

    Open it, prepare it (`reuse_map`, `initial_value`, `set_autoload`), `load` it,
    then attach and run its programs. Closing it detaches everything that was
    attached through it. A context manager, for one thread at a time.
    """

    def __init__(self, pointer: Any, path: Path, messages: list[str]) -> None:
        """Take over libbpf's object; use `open`."""
        self.path = path
        self.messages = messages
        """What libbpf said so far, one message an item."""
        self._pointer = pointer
        self._process = os.getpid()
        self._load_tried = False
        self._loaded = False
        self._links: list[Link] = []
        self._runners: weakref.WeakSet[Runner] = weakref.WeakSet()
        self._initial_values: dict[str, bytearray] = {}
        self._programs = {program.name: program for program in self._walk_programs()}
        # Kept by the names in the object: reusing a descriptor renames libbpf's map.
        self._maps = {text(library().libbpf.bpf_map__name(m)): m for m in self._walk_maps()}
        self._uses_arena = any(info.type == "arena" for info in self.maps().values())

    @classmethod
    def open(cls, path: StrPath, source: Path | None = None) -> Self:
        """Read an object file; nothing reaches the kernel yet.

        With `source`, what it was compiled from, messages name that.

        Raises
        ------
        ObjectError
            The file cannot be read or is not a usable BPF object.
        LibbpfMissingError
            libbpf is not installed.
        """
        content = _read_object(path)
        file = Path(os.fsdecode(path))
        shown = file if source is None else source
        ffi, libbpf, *_ = library()
        # libbpf puts the name in front of map names, which have 15 characters.
        name = ffi.new("char[]", os.fsencode(file.name.split(".")[0])[:15])
        more = options("bpf_object_open_opts", object_name=name)
        with collect_messages() as messages:
            buffer = ffi.from_buffer("char[]", content)
            pointer = libbpf.bpf_object__open_mem(buffer, len(content), more)
            number = ffi.errno
        if not pointer:
            raise ObjectError(
                f"{shown}: libbpf {_dotted_version()} cannot use this object:"
                f" {explain_errno(number)}.{quote('libbpf said', messages)}",
                path=str(shown),
                messages=messages,
            )
        return cls(pointer, shown, messages)

    def _walk_programs(self) -> Iterator[_Program]:
        ffi, libbpf, *_ = library()
        pointer = ffi.NULL
        while pointer := libbpf.bpf_object__next_program(self._pointer, pointer):
            section = text(libbpf.bpf_program__section_name(pointer))
            number = libbpf.bpf_program__type(pointer)
            if not number and section in _NEWER_SECTIONS:
                number = _NEWER_SECTIONS[section]
                libbpf.bpf_program__set_type(pointer, number)
            kind = text(libbpf.libbpf_bpf_prog_type_str(number)) or f"type {number}"
            yield _Program(pointer, text(libbpf.bpf_program__name(pointer)), section, kind)

    def _walk_maps(self) -> Iterator[Any]:
        ffi, libbpf, *_ = library()
        pointer = ffi.NULL
        while pointer := libbpf.bpf_object__next_map(self._pointer, pointer):
            yield pointer

    # -- what it holds --

    def maps(self) -> dict[str, MapInfo]:
        """Return the maps by name, in the order of the object."""
        self._expect_open()
        libbpf = library().libbpf
        return {
            name: MapInfo(
                name=name,
                type=map_type_name(libbpf.bpf_map__type(pointer)),
                key_size=libbpf.bpf_map__key_size(pointer),
                value_size=libbpf.bpf_map__value_size(pointer),
                max_entries=libbpf.bpf_map__max_entries(pointer),
                map_flags=libbpf.bpf_map__map_flags(pointer),
                map_extra=libbpf.bpf_map__map_extra(pointer),
                # Later versions of libbpf reserve a descriptor long before there is a map.
                fd=max(libbpf.bpf_map__fd(pointer), -1) if self._loaded else -1,
                internal=bool(libbpf.bpf_map__is_internal(pointer)),
            )
            for name, pointer in self._maps.items()
        }

    def programs(self) -> dict[str, ProgramInfo]:
        """Return the programs by name, in the order of the object."""
        self._expect_open()
        libbpf = library().libbpf
        return {
            program.name: ProgramInfo(
                name=program.name,
                section=program.section,
                type=program.type,
                autoload=bool(libbpf.bpf_program__autoload(program.pointer)),
                fd=self._program_fd(program),
            )
            for program in self._programs.values()
        }

    def _program_fd(self, program: _Program) -> int:
        if not self._loaded:
            return -1
        return max(int(library().libbpf.bpf_program__fd(program.pointer)), -1)

    # -- before the load --

    def set_autoload(self, name: str, autoload: bool) -> None:
        """Say whether `load` loads this program."""
        self._expect_not_loaded("choose its programs")
        library().libbpf.bpf_program__set_autoload(self._program(name).pointer, bool(autoload))

    def reuse_map(self, name: str, fd: int) -> None:
        """Have the programs use an existing map, by its descriptor, which libbpf copies.

        Raises
        ------
        OpenError
            The descriptor is not an open map.
        WrongMapTypeError
            It is a map of another type than the object declares.
        """
        self._expect_not_loaded("reuse a map")
        full_name, pointer = self._map(name)
        declared, found = self.maps()[full_name].type, map_info(fd).type
        if declared != found:
            raise WrongMapTypeError(
                f"map {full_name!r} of {self.path} is declared as {declared!r}; descriptor {fd}"
                f" is a map of type {found!r}",
                expected=declared,
                found=found,
            )
        with collect_messages() as messages:
            number = -library().libbpf.bpf_map__reuse_fd(pointer, fd)
        self.messages += messages
        if number:
            raise OpenError(
                f"descriptor {fd} cannot be used as map {full_name!r} of {self.path}:"
                f" {explain_errno(number)}.",
                errno=plain_errno(number),
            )

    def initial_value(self, name: str) -> memoryview:
        """Return the global variables of one section, writable, for `load` to put in place.

        `name` is the map's name or the section's (".data", ".rodata.config").
        Writing to the view after `load` has no effect.
        """
        self._expect_not_loaded("set initial values")
        full_name, pointer = self._map(name)
        if full_name not in self._initial_values:
            ffi, libbpf, *_ = library()
            size = ffi.new("size_t *")
            start = libbpf.bpf_map__initial_value(pointer, size)
            if not start:
                raise ObjectError(
                    f"map {full_name!r} of {self.path} holds no global variables",
                    errno=_errno.EINVAL,
                )
            # A copy: libbpf's own memory becomes read-only at the load and goes at the close.
            self._initial_values[full_name] = bytearray(ffi.buffer(start, size[0]))
        return memoryview(self._initial_values[full_name])

    # -- the load --

    def load(self) -> None:
        """Create the maps; have the kernel verify and load the programs.

        An object is loaded at most once; after a failure, open it again.

        Raises
        ------
        LoadError
            The kernel or libbpf refused. The message ends with the last lines of the
            verifier log; `log` is all of it, `program` and `section` name the
            program, `messages` is what libbpf said.
        PrivilegeError
            A capability is missing (`missing` names it), or something else forbids it.
        LockdownError
            Kernel lockdown forbids it.
        """
        self._expect_not_loaded("load it again")
        self._load_tried = True
        libbpf = library().libbpf
        with collect_messages() as messages:
            number = self._put_initial_values() or -libbpf.bpf_object__load(self._pointer)
        self.messages += messages
        if number:
            raise self._load_error(number, messages)
        self._loaded = True

    def _put_initial_values(self) -> int:
        set_initial_value = library().libbpf.bpf_map__set_initial_value
        for name, value in self._initial_values.items():
            number = -set_initial_value(self._maps[name], bytes(value), len(value))
            if number:
                return int(number)
        return 0

    def _load_error(self, number: int, messages: list[str]) -> ArenadsError:
        said = "\n".join(messages)
        name, log = _verifier_log(said)
        program = self._programs.get(name)
        section, kind = (program.section, program.type) if program else ("", "")
        of = f"program {name!r} (section {section!r}, type {kind}) of " if program else ""
        what = f"{of}{self.path} could not be loaded"
        # Without a verifier log, libbpf's words are all there is.
        quoted = quote("Verifier log", log.splitlines()) or quote("libbpf said", messages)
        types = refused_types(said)
        facts: dict[str, Any] = {
            "program": name,
            "section": section,
            "log": log or said,
            "messages": messages,
        }
        needed = needed_capabilities(kind, self._uses_arena)
        # EACCES is also the verifier's word for a program that is wrong.
        lacking = number == _errno.EACCES and capabilities.missing(*needed)
        forbidden = forbidden_by_lockdown(kind, log)
        forbidden_call = forbidden is not None and forbidden.startswith("the helper")
        if number == _errno.EPERM or lacking or forbidden_call:
            return refuse_permission(
                what, number, needed, forbidden=forbidden, quoted=quoted, **facts
            )
        if types:
            advice, quoted = types.advice, types.quoted + quoted
        else:
            advice = self._load_advice(number, said, log, section)
        return LoadError(
            f"{what}: {explain_errno(number)}.{advice}{quoted}", errno=plain_errno(number), **facts
        )

    def _load_advice(self, number: int, said: str, log: str, section: str) -> str:
        if number == _errno.EMFILE:
            return " This process has too many open files: close some, or raise ulimit -n."
        if "missing BPF prog type" in said:
            return (
                f" libbpf {_dotted_version()} does not know the section {section!r}: correct its"
                " name, or use a newer libbpf."
            )
        if "failed to find kernel BTF type ID" in said or "is not found in vmlinux BTF" in said:
            return f" This kernel has no {section.partition('/')[2]!r} to attach to."
        if "failed to find valid kernel BTF" in said:
            return (
                " This kernel has no type information (/sys/kernel/btf/vmlinux); one built with"
                " CONFIG_DEBUG_INFO_BTF has."
            )
        if failed_map := re.search(r"map '([^']*)': failed to create", said):
            return f" The map {failed_map[1]!r} could not be created."
        if number == _errno.E2BIG and log:
            return (
                " The program is too complex for the verifier: bound its loops with can_loop and"
                " start them from a value that the verifier does not know."
            )
        if "combined stack size" in log:
            return (
                " Programs and what they call share 512 bytes of stack: move large records from"
                " local variables to a global one, or to a per-CPU map."
            )
        if "GPL-restricted" in log or "from non-GPL compatible" in log:
            return ' Say what its license is: char LICENSE[] SEC("license") = "GPL";'
        if "write into map forbidden" in log:
            return (
                " A constant was passed where memory that may be written to is wanted: pass a"
                " variable."
            )
        if log:
            return " The end of the verifier log says why."
        if number in (_errno.EINVAL, _errno.EOPNOTSUPP, ENOTSUPP) and section:
            return f" This kernel does not support programs of section {section!r}."
        return ""

    # -- after the load --

    def attach(self, name: str) -> Link:
        """Attach a program to the place that its section names.

        That is for tracepoint, raw_tp, tp_btf, kprobe, uprobe, fentry, lsm and iter
        sections with a target; `attach_to` takes explicit ones.

        Raises
        ------
        LoadError
            libbpf or the kernel refused; the message says what to do.
        ProgramTypeError
            The section does not name a target.
        PrivilegeError, LockdownError
            It is not allowed.
        """
        return self._adopt(self._attacher(name).to_section())

    def attach_to(
        self,
        name: str,
        *,
        interface: str | int | None = None,
        direction: str | None = None,
        xdp_mode: str = "auto",
        cgroup: StrPath | None = None,
        network_namespace: StrPath | None = None,
        tracepoint: tuple[str, str] | None = None,
        raw_tracepoint: str | None = None,
        uprobe: Uprobe | tuple[int, StrPath, str | int] | None = None,
        perf_event: PerfEvent | int | None = None,
    ) -> Link:
        """Attach a program to exactly one explicit target.

        Parameters
        ----------
        interface : str or int
            Name or index of a network interface, for XDP and tc programs.
        direction : "ingress" or "egress"
            For tc programs; by default what the section says ("tc/egress"), else
            ingress. Where the kernel has no tcx links (before 6.6), a clsact queueing
            discipline is added to the interface, and stays there.
        xdp_mode : "auto", "generic", "driver" or "offload"
        cgroup : path
            A directory of the cgroup v2 tree, for cgroup and sockops programs.
        network_namespace : path
            Such as /proc/self/ns/net, for flow_dissector and sk_lookup programs.
        tracepoint : (category, name)
            Such as ("sched", "sched_switch"), for tracepoint programs.
        raw_tracepoint : str
            Such as "sched_switch", for raw_tp programs.
        uprobe : (process, binary, function name or file offset)
            For uprobe programs; see `Uprobe`. One whose section begins with
            "uretprobe" runs when the function returns.
        perf_event : PerfEvent or int
            An event, or the descriptor of one, which the link then owns.

        Raises
        ------
        LoadError
            libbpf or the kernel refused; the message says what to do.
        ProgramTypeError
            A program of this type cannot be attached to such a target.
        PrivilegeError, LockdownError
            It is not allowed.
        """
        attacher = self._attacher(name)
        targets = {
            "interface": interface,
            "cgroup": cgroup,
            "network_namespace": network_namespace,
            "tracepoint": tracepoint,
            "raw_tracepoint": raw_tracepoint,
            "uprobe": uprobe,
            "perf_event": perf_event,
        }
        given = [key for key, value in targets.items() if value is not None]
        if len(given) != 1:
            raise LoadError(
                f"expected exactly one target to attach to, of {', '.join(targets)};"
                f" found {', '.join(given) or 'none'}"
            )
        if interface is not None:
            return self._adopt(attacher.to_interface(interface, direction, xdp_mode))
        return self._adopt(getattr(attacher, f"to_{given[0]}")(targets[given[0]]))

    def _attacher(self, name: str) -> Attacher:
        program = self._loaded_program(name, "attach a program")
        return Attacher(program, uses_arena=self._uses_arena, messages=self.messages)

    def _adopt(self, link: Link) -> Link:
        self._links = [other for other in self._links if not other.closed] + [link]
        return link

    def run(
        self,
        name: str,
        context: bytes = b"",
        data: bytes = b"",
        *,
        repeat: int = 1,
        flags: int = 0,
        cpu: int = 0,
    ) -> RunResult:
        """Run a program by the kernel's test-run command.

        A syscall program gets `context`, at most 65535 bytes, and may change it. A
        network program gets `data` as its packet, Ethernet header included, and may
        have its context structure; `repeat` runs it that many times. A raw_tp program
        gets up to twelve 8-byte arguments in `context`; with `flags` 1 it runs on `cpu`.

        Raises
        ------
        ProgramTypeError
            The kernel cannot run a program of this type by itself.
        LoadError
            The kernel refused the run; the message says why.
        """
        program = self._loaded_program(name, "run a program")
        context, data = _as_bytes(context, "context"), _as_bytes(data, "packet")
        packet = program.type not in _CONTEXT_ONLY
        if not packet and (data or repeat != 1):
            raise ProgramTypeError(
                f"{program} takes no packet and is not repeated", program=program.name
            )
        if not isinstance(repeat, int) or not 0 < repeat < 1 << 31:
            raise LoadError(f"repeat is 1 to {(1 << 31) - 1}; found {repeat!r}")
        ffi, libbpf, *_ = library()
        try:
            more = options("bpf_test_run_opts", flags=flags, cpu=cpu)
        except (OverflowError, TypeError) as error:
            raise LoadError(f"flags and cpu are unsigned 32-bit numbers: {error}") from None
        # Named, because the structure does not keep what it points to alive.
        context_in = ffi.new("char[]", context)
        context_out = ffi.new("char[]", max(len(context), 1))
        data_in = ffi.new("char[]", data)
        data_out = ffi.new("char[]", len(data) + _PACKET_ROOM)
        if context:
            more.ctx_in, more.ctx_size_in = context_in, len(context)
        if packet:
            more.repeat = repeat
            more.data_in, more.data_size_in = data_in, len(data)
            more.data_out, more.data_size_out = data_out, len(data_out)
            if context:
                more.ctx_out, more.ctx_size_out = context_out, len(context)
        start = time.perf_counter_ns()
        number = -libbpf.bpf_prog_test_run_opts(program.fd, more)
        elapsed = time.perf_counter_ns() - start
        if number:
            raise self._run_error(program, number, len(context), len(data))
        if packet:
            return RunResult(
                return_value=more.retval,
                duration_ns=more.duration,
                context=bytes(ffi.buffer(context_out, min(more.ctx_size_out, len(context)))),
                data=bytes(ffi.buffer(data_out, min(more.data_size_out, len(data_out)))),
            )
        changed = bytes(ffi.buffer(context_in, len(context)))
        return RunResult(more.retval, elapsed, context=changed, data=b"")

    def runner(self, name: str, context_size: int = 0) -> Runner:
        """Prepare a syscall program for being run often, with contexts of one size in bytes."""
        program = self._loaded_program(name, "run a program")
        if program.type != "syscall":
            raise ProgramTypeError(f"{program} has no runner: that takes a program of type syscall")
        if not isinstance(context_size, int) or not 0 <= context_size <= _LARGEST_CONTEXT:
            raise LoadError(
                f"a context has 0 to {_LARGEST_CONTEXT} bytes; found a size of {context_size!r}"
            )
        runner = Runner(self, program, context_size)
        self._runners.add(runner)
        return runner

    def _run_error(
        self, program: LoadedProgram, number: int, context_size: int, data_size: int
    ) -> ArenadsError:
        what = f"{program} could not be run"
        facts: dict[str, Any] = {"program": program.name, "section": program.section}
        # The kernel's answer for tp_btf is EFAULT, whatever one gives it.
        if number in (ENOTSUPP, _errno.EOPNOTSUPP) or program.section.startswith("tp_btf"):
            return ProgramTypeError(
                f"{what}: the kernel has no test run for such programs. Attach it, or put the work"
                ' into a SEC("syscall") program.',
                **facts,
            )
        if number == _errno.EPERM:
            needed = needed_capabilities(program.type, self._uses_arena)
            return refuse_permission(what, number, needed, **facts)
        hint = ""
        if number in (_errno.EINVAL, _errno.EFAULT, _errno.E2BIG):
            hint = (
                f" The kernel does not take a context of {context_size} bytes with a packet of"
                f" {data_size} bytes for it: a context is at least as large as what the program"
                " reads of it, and a packet has at least 14 bytes."
            )
        return LoadError(f"{what}: {explain_errno(number)}.{hint}", errno=number, **facts)

    # -- the end --

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return not self._pointer

    def close(self) -> None:
        """Detach everything, unload the programs, close the maps. Idempotent.

        In a process that was forked after `open`, this only marks the object as
        closed: what it holds belongs to the parent.
        """
        pointer, self._pointer = self._pointer, None
        if not pointer:
            return
        for runner in self._runners:
            runner._close()
        for link in self._links:
            with suppress(ArenadsError):
                link.close()
        self._links.clear()
        if os.getpid() == self._process:
            with collect_messages():
                library().libbpf.bpf_object__close(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "loaded" if self._loaded else "open"
        return f"<BpfObject {str(self.path)!r}, {state}>"

    # -- checks --

    def _expect_open(self) -> None:
        if not self._pointer:
            raise ClosedError(f"the BPF object {self.path} is closed")

    def _expect_not_loaded(self, what: str) -> None:
        self._expect_open()
        if self._load_tried:
            raise LoadError(f"{self.path} has been loaded: it is too late to {what}")

    def _program(self, name: str) -> _Program:
        program = self._programs.get(name) if isinstance(name, str) else None
        if program is None:
            raise ObjectError(
                f"{self.path} has no program {name!r}; it has: {', '.join(self._programs) or '-'}",
                errno=_errno.ENOENT,
                path=str(self.path),
            )
        return program

    def _loaded_program(self, name: str, what: str) -> LoadedProgram:
        self._expect_open()
        if not self._loaded:
            raise LoadError(f"{self.path} is not loaded: call load() to {what}")
        program = self._program(name)
        fd = self._program_fd(program)
        if fd < 0:
            raise LoadError(
                f"program {name!r} of {self.path} was left out of the load: by set_autoload, or by"
                " a section name that begins with '?'",
                program=name,
                section=program.section,
            )
        return LoadedProgram(*program, fd)

    def _map(self, name: str) -> tuple[str, Any]:
        """The name and libbpf's pointer of a map; the name may be a section's."""
        if isinstance(name, str):
            if name in self._maps:
                return name, self._maps[name]
            if name in (".data", ".rodata", ".bss", ".kconfig"):
                for full_name, pointer in self._maps.items():
                    internal = library().libbpf.bpf_map__is_internal(pointer)
                    if internal and full_name.endswith(name):
                        return full_name, pointer
        raise ObjectError(
            f"{self.path} has no map {name!r}; it has: {', '.join(self._maps) or '-'}",
            errno=_errno.ENOENT,
            path=str(self.path),
        )


class Runner:
    """Runs one syscall program again and again, at little more than the system call costs.

    `context` is the memory that the program gets and may write to. Calling the
    runner with bytes of that size puts them there first; calling it without runs the
    program on what is there. The result is the program's return value, signed. Every
    thread needs a runner of its own.
    """

    __slots__ = (
        "__weakref__",
        "_fd",
        "_memory",
        "_options",
        "_owner",
        "_program",
        "_run",
        "context",
    )

    def __init__(self, owner: BpfObject, program: LoadedProgram, context_size: int) -> None:
        """Use `BpfObject.runner`."""
        ffi, libbpf, *_ = library()
        self._owner = owner
        self._program = program
        self._fd = program.fd
        self._run = libbpf.bpf_prog_test_run_opts
        self._options = options("bpf_test_run_opts")
        self._memory = ffi.new("char[]", max(context_size, 1))
        if context_size:
            self._options.ctx_in = self._memory
            self._options.ctx_size_in = context_size
        self.context = memoryview(ffi.buffer(self._memory, context_size)).cast("B")

    def __call__(self, context: bytes | bytearray | memoryview | None = None) -> int:
        """Run the program once.

        Raises
        ------
        ClosedError
            The object was closed.
        SchemaError
            The context has another size.
        LoadError
            The kernel refused the run.
        """
        if context is not None:
            try:
                self.context[:] = context
            except (TypeError, ValueError):
                self._refuse_context(context)
        number = self._run(self._fd, self._options)
        if number:
            self._fail(-number)
        return self._options.retval  # type: ignore[no-any-return]

    def _refuse_context(self, context: Any) -> NoReturn:
        found = f"{len(context)} bytes" if isinstance(context, bytes | bytearray) else repr(context)
        raise SchemaError(
            f"this runner of {self._program.name!r} takes a context of {len(self.context)} bytes;"
            f" found {found}"
        )

    def _fail(self, number: int) -> NoReturn:
        if self._fd < 0:
            raise ClosedError(f"the BPF object of program {self._program.name!r} is closed")
        raise self._owner._run_error(self._program, number, len(self.context), 0)

    def _close(self) -> None:
        self._fd = -1

    def __repr__(self) -> str:
        return f"<Runner of {self._program.name!r}, context of {len(self.context)} bytes>"


# --- files and logs ---------------------------------------------------------------


def _dotted_version() -> str:
    return ".".join(map(str, version()))


def _as_bytes(value: Any, what: str) -> bytes:
    try:
        return memoryview(value).tobytes()
    except (TypeError, ValueError, BufferError):
        raise SchemaError(f"a {what} is bytes; found {value!r}") from None


def _verifier_log(said: str) -> tuple[str, str]:
    """The program's name and its verifier log, in what libbpf said; empty if not there."""
    log = re.search(
        r"prog '([^']*)': -- BEGIN PROG LOAD LOG --\n(.*)-- END PROG LOAD LOG --", said, re.DOTALL
    )
    if log:
        return log[1], log[2]
    named = re.search(r"prog '([^']*)': (?:BPF program load )?fail", said)
    named = named or re.search(r"prog '([^']*)'", said)
    return (named[1] if named else ""), ""


def _read_object(path: StrPath) -> bytes:
    """The bytes of an object file, once they are known to be safe to give to libbpf."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            content = file.read(_LARGEST_FILE + 1) if regular else b""
    except (OSError, TypeError, ValueError) as error:
        raise ObjectError(
            f"{path}: expected a readable BPF object file, found:"
            f" {getattr(error, 'strerror', None) or error}. Compile the program with:"
            " python -m arenads compile prog.bpf.c",
            errno=getattr(error, "errno", None),
            path=str(path),
        ) from None
    if not regular or len(content) > _LARGEST_FILE:
        found = f"more than {_LARGEST_FILE >> 20} MiB" if regular else "something that is no file"
        raise ObjectError(f"{path}: expected a BPF object file, found {found}", path=str(path))
    btf = ObjectFile(content, path=os.fspath(path)).btf
    # libbpf 1.1 follows references between types without a look, and without an end.
    for kind in btf.types():
        btf.resolve(kind.id)
    return content
