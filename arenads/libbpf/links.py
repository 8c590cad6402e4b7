"""Attaching programs, target by target."""

from __future__ import annotations

import errno as _errno
import functools
import os
import platform
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Self

from arenads import capabilities
from arenads.errors import ArenadsError, ClosedError, LoadError, ProgramTypeError
from arenads.libbpf.library import (
    ENOTSUPP,
    collect_messages,
    explain_errno,
    library,
    options,
    plain_errno,
)
from arenads.libbpf.refusals import (
    forbidden_by_lockdown,
    needed_capabilities,
    quote,
    refuse_permission,
)

__all__ = ["Attacher", "Link", "LoadedProgram", "PerfEvent", "StrPath", "Uprobe"]

StrPath = str | os.PathLike[str]

# enum bpf_attach_type, enum bpf_tc_attach_point, XDP_FLAGS_*
_XDP: Final = 37
_TCX: Final = {"ingress": 46, "egress": 47}
_CLASSIC_TC: Final = {"ingress": 1, "egress": 2}
_XDP_MODES: Final = {"auto": 0, "generic": 1 << 1, "driver": 1 << 2, "offload": 1 << 3}

_KPROBE: Final = re.compile(r"k(ret)?probe(\.multi)?/|ksyscall/|kretsyscall/")
_KPROBE_EVENTS: Final = "/sys/bus/event_source/devices/kprobe"

_CGROUP_TYPES: Final = (
    "cgroup_skb",
    "cgroup_sock",
    "cgroup_sock_addr",
    "cgroup_sockopt",
    "cgroup_device",
    "cgroup_sysctl",
    "sock_ops",
)

_PERF_EVENT_OPEN: Final = {
    "x86_64": 298,
    "aarch64": 241,
    "riscv64": 241,
    "loongarch64": 241,
    "s390x": 331,
    "ppc64le": 319,
}


class Uprobe(NamedTuple):
    """A place in user programs: `place` is a function's name, or an offset in the file in bytes.

    `process` is a process id, 0 for this process, or -1 for all that run `binary`.
    """

    process: int
    binary: StrPath
    place: str | int


@dataclass(frozen=True, slots=True)
class PerfEvent:
    """A perf event, opened once per CPU.

    `type` and `config` are the numbers of perf_event_open(2); the default is the
    software CPU clock, which every machine has. Give `frequency` (samples per
    second) or `period` (events per sample). `process` is a process id, 0 for this
    process, -1 for all. `cpus` are the CPU numbers, None for all that are online.
    """

    type: int = 1
    config: int = 0
    frequency: int = 0
    period: int = 0
    process: int = -1
    cpus: tuple[int, ...] | None = None


class LoadedProgram(NamedTuple):
    """A program in the kernel: libbpf's pointer to it, and its descriptor."""

    pointer: Any
    name: str
    section: str
    type: str
    fd: int

    def __str__(self) -> str:
        return f"program {self.name!r} (section {self.section!r}, type {self.type})"


class Link:
    """An attached program. Closing it detaches; a context manager."""

    def __init__(
        self, program: str, target: str, detach: Callable[[], int], *, fd: int = -1
    ) -> None:
        self.program = program
        self.target = target
        self._detach: Callable[[], int] | None = detach
        self._fd = fd
        self._process = os.getpid()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._detach is None

    def close(self) -> None:
        """Detach the program. Idempotent; a target that has gone is no error.

        In a process that was forked after the program was attached, this does
        nothing: the link belongs to the parent.

        Raises
        ------
        LoadError
            The kernel would not detach it.
        """
        detach, self._detach = self._detach, None
        if detach is None or os.getpid() != self._process:
            return
        with collect_messages():
            number = abs(detach())
        if number not in (0, _errno.ENOENT, _errno.ENODEV):
            raise LoadError(
                f"program {self.program!r} could not be detached from {self.target}:"
                f" {explain_errno(number)}.",
                errno=plain_errno(number),
                program=self.program,
                target=self.target,
            )

    def read(self) -> bytes:
        """Run an attached ``iter/...`` program once and return all that it wrote.

        Raises
        ------
        ProgramTypeError
            The program is not an iterator.
        """
        if self.closed:
            raise ClosedError(f"the link of program {self.program!r} is closed")
        fd = library().libbpf.bpf_iter_create(self._fd) if self._fd >= 0 else -_errno.EINVAL
        if fd < 0:
            raise ProgramTypeError(
                f"program {self.program!r} gives nothing to read: {explain_errno(fd)}."
                " Only programs in iter/... sections do.",
                errno=-fd,
            )
        with open(fd, "rb") as file:
            try:
                return file.read()
            except OSError as error:
                raise LoadError(
                    f"iterator {self.program!r} failed: {error.strerror}",
                    errno=error.errno,
                    program=self.program,
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "attached"
        return f"<Link {self.program!r} to {self.target}, {state}>"


class Attacher:
    """Attaches one program; each method takes one kind of target and returns a `Link`.

    `messages` is a list to which libbpf's messages are added.
    """

    def __init__(self, program: LoadedProgram, *, uses_arena: bool, messages: list[str]) -> None:
        self._program = program
        self._uses_arena = uses_arena
        self._messages = messages

    def to_section(self) -> Link:
        """Attach to the place that the program's section names."""
        program = self._program
        target = f"what its section {program.section!r} names"
        return self._link(
            target,
            lambda: library().libbpf.bpf_program__attach(program.pointer),
            {_errno.EOPNOTSUPP: self._fail_for_lack_of_target},
        )

    def to_interface(
        self, interface: str | int, direction: str | None = None, xdp_mode: str = "auto"
    ) -> Link:
        """Attach an XDP or tc program to a network interface, by name or index."""
        self._expect_type("network interface", "xdp", "sched_cls")
        index = _interface_index(interface)
        if self._program.type == "xdp":
            flags = _choose("xdp_mode", xdp_mode, _XDP_MODES)
            return self._create_link(f"interface {interface!r}", index, _XDP, flags)
        if direction is None:
            direction = "egress" if self._program.section.endswith("/egress") else "ingress"
        attach_type = _choose("direction", direction, _TCX)
        target = f"interface {interface!r} ({direction})"
        try:
            return self._create_link(target, index, attach_type)
        except LoadError as error:
            if error.errno != _errno.EINVAL:
                raise
        # Kernels before 6.6 have no tcx links.
        return self._classic_tc(target, index, _CLASSIC_TC[direction])

    def to_cgroup(self, path: StrPath) -> Link:
        """Attach a cgroup or sockops program to a directory of the cgroup v2 tree."""
        self._expect_type("cgroup", *_CGROUP_TYPES)
        attach = library().libbpf.bpf_program__attach_cgroup
        return self._to_path(f"cgroup {path!r}", path, attach)

    def to_network_namespace(self, path: StrPath) -> Link:
        """Attach a flow_dissector or sk_lookup program to a namespace, by path."""
        self._expect_type("network namespace", "flow_dissector", "sk_lookup")
        attach = library().libbpf.bpf_program__attach_netns
        return self._to_path(f"network namespace {path!r}", path, attach)

    def to_tracepoint(self, tracepoint: tuple[str, str]) -> Link:
        """Attach a tracepoint program to (category, name)."""
        self._expect_type("tracepoint", "tracepoint")
        try:
            category, event = (_name(part, "tracepoint") for part in tracepoint)
        except (TypeError, ValueError):
            self._refuse_target(f"tracepoint is a pair (category, name); found {tracepoint!r}")
        attach = library().libbpf.bpf_program__attach_tracepoint
        return self._link(
            f"tracepoint {tracepoint[0]}:{tracepoint[1]}",
            lambda: attach(self._program.pointer, category, event),
        )

    def to_raw_tracepoint(self, tracepoint: str) -> Link:
        """Attach a raw_tp program to the tracepoint of that name."""
        self._expect_type("raw tracepoint", "raw_tracepoint", "raw_tracepoint_writable")
        event = _name(tracepoint, "raw tracepoint")
        attach = library().libbpf.bpf_program__attach_raw_tracepoint
        return self._link(
            f"raw tracepoint {tracepoint!r}", lambda: attach(self._program.pointer, event)
        )

    def to_uprobe(self, uprobe: Uprobe | tuple[int, StrPath, str | int]) -> Link:
        """Attach a uprobe program; one whose section begins with uretprobe runs on return."""
        self._expect_type("uprobe", "kprobe")
        try:
            process, binary, place = uprobe
            path = _path(binary)
        except (TypeError, ValueError):
            self._refuse_target(
                f"uprobe is (process, binary, function name or file offset); found {uprobe!r}"
            )
        if not isinstance(process, int) or not -1 <= process < 1 << 31:
            self._refuse_target(f"a uprobe's process is a process id, 0 or -1; found {process!r}")
        ffi, libbpf, *_ = library()
        on_return = self._program.section.startswith("uret")
        more = options("bpf_uprobe_opts", retprobe=on_return)
        if isinstance(place, str):
            function = ffi.new("char[]", _name(place, "function"))
            more.func_name = function
            offset = 0
        elif isinstance(place, int) and 0 <= place < 1 << 63:
            offset = place
        else:
            self._refuse_target(f"a uprobe's place is a name or an offset >= 0; found {place!r}")
        return self._link(
            f"{'the return of ' if on_return else ''}{place!r} in {os.fspath(binary)!r}",
            lambda: libbpf.bpf_program__attach_uprobe_opts(
                self._program.pointer, process, path, offset, more
            ),
        )

    def to_perf_event(self, event: PerfEvent | int) -> Link:
        """Attach to a perf event, or to its descriptor, which the link then owns."""
        self._expect_type("perf event", "perf_event")
        if isinstance(event, int):
            return self._to_perf_descriptor(f"perf event descriptor {event}", event)
        if not isinstance(event, PerfEvent):
            self._refuse_target(f"perf_event is a PerfEvent or a descriptor; found {event!r}")
        links: list[Link] = []
        try:
            for cpu in _online_cpus() if event.cpus is None else event.cpus:
                links.append(self._to_perf_event_on(event, cpu))
        except ArenadsError:
            for link in links:
                link.close()
            raise

        def detach() -> int:
            for link in links:
                link.close()
            return 0

        target = f"perf event (type {event.type}, config {event.config}) on {len(links)} CPUs"
        return Link(self._program.name, target, detach)

    # -- how --

    def _link(
        self,
        target: str,
        attach: Callable[[], Any],
        failures: dict[int, Callable[[str], NoReturn]] | None = None,
    ) -> Link:
        """A `Link` for the bpf_link that `attach` returns, NULL being a failure."""
        ffi, libbpf, *_ = library()
        with collect_messages() as messages:
            pointer = attach()
            number = ffi.errno
        self._messages += messages
        if not pointer:
            if failures and number in failures:
                failures[number](target)
            raise self._error(target, number, messages)
        detach = functools.partial(libbpf.bpf_link__destroy, pointer)
        return Link(self._program.name, target, detach, fd=libbpf.bpf_link__fd(pointer))

    def _create_link(self, target: str, index: int, attach_type: int, flags: int = 0) -> Link:
        # Not libbpf's helpers for XDP and tcx: the first takes no mode, the second is not in 1.1.
        more = options("bpf_link_create_opts", flags=flags)
        with collect_messages() as messages:
            fd = library().libbpf.bpf_link_create(self._program.fd, index, attach_type, more)
        self._messages += messages
        if fd < 0:
            raise self._error(target, fd, messages)

        def detach() -> int:
            os.close(fd)
            return 0

        return Link(self._program.name, target, detach, fd=fd)

    def _classic_tc(self, target: str, index: int, attach_point: int) -> Link:
        """Attach through a clsact queueing discipline.

        It stays when the link closes: other programs may have come to use it.
        """
        libbpf = library().libbpf
        hook = options("bpf_tc_hook", ifindex=index, attach_point=attach_point)
        placed = options("bpf_tc_opts", prog_fd=self._program.fd)
        with collect_messages() as messages:
            number = -libbpf.bpf_tc_hook_create(hook)
            if number in (0, _errno.EEXIST):
                number = -libbpf.bpf_tc_attach(hook, placed)
        self._messages += messages
        if number:
            raise self._error(target, number, messages)
        # What the kernel chose, and nothing else, tells which filter to detach.
        chosen = options("bpf_tc_opts", handle=placed.handle, priority=placed.priority)
        detach = functools.partial(libbpf.bpf_tc_detach, hook, chosen)
        return Link(self._program.name, target, detach)

    def _to_path(self, target: str, path: StrPath, attach: Callable[[Any, int], Any]) -> Link:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, TypeError, ValueError) as error:
            number = getattr(error, "errno", None) or _errno.EINVAL
            raise LoadError(
                f"{self._program} could not be attached to {target}: it cannot be opened:"
                f" {explain_errno(number)}.",
                errno=number,
                program=self._program.name,
                section=self._program.section,
                target=target,
            ) from error
        try:
            return self._link(target, lambda: attach(self._program.pointer, fd))
        finally:
            os.close(fd)

    def _to_perf_event_on(self, event: PerfEvent, cpu: int) -> Link:
        target = f"perf event (type {event.type}, config {event.config}) on CPU {cpu}"
        fd = _perf_event_open(event, cpu)
        if fd < 0:
            raise self._error(target, fd, [])
        try:
            return self._to_perf_descriptor(target, fd)
        except ArenadsError:
            os.close(fd)
            raise

    def _to_perf_descriptor(self, target: str, fd: int) -> Link:
        attach = library().libbpf.bpf_program__attach_perf_event
        return self._link(target, lambda: attach(self._program.pointer, fd))

    # -- and how not --

    def _expect_type(self, target: str, *types: str) -> None:
        if self._program.type not in types:
            raise ProgramTypeError(
                f"{self._program} cannot be attached to a {target}: that takes a program of type"
                f" {' or '.join(types)}.",
                program=self._program.name,
                section=self._program.section,
            )

    def _refuse_target(self, message: str) -> NoReturn:
        raise LoadError(message, program=self._program.name, section=self._program.section)

    def _fail_for_lack_of_target(self, target: str) -> NoReturn:
        raise ProgramTypeError(
            f"{self._program} cannot be attached without a target, and its section names none:"
            f" {self._suggestion()}.",
            program=self._program.name,
            section=self._program.section,
            target=target,
        )

    def _suggestion(self) -> str:
        kind = self._program.type
        if kind in _CGROUP_TYPES:
            argument = "cgroup='/sys/fs/cgroup'"
        elif kind == "syscall":
            return "it is not attached but run"
        else:
            argument = {
                "xdp": "interface='eth0'",
                "sched_cls": "interface='eth0'",
                "flow_dissector": "network_namespace='/proc/self/ns/net'",
                "sk_lookup": "network_namespace='/proc/self/ns/net'",
                "perf_event": "perf_event=PerfEvent(frequency=99)",
                "kprobe": "uprobe=(-1, '/path/to/program', 'function')",
                "tracepoint": "tracepoint=('sched', 'sched_switch')",
                "raw_tracepoint": "raw_tracepoint='sched_switch'",
            }.get(kind, "")
        if not argument:
            return f'name one there, as in SEC("{self._program.section}/...")'
        return f"say it in the call, as in attach({self._program.name!r}, {argument})"

    def _error(self, target: str, number: int, messages: list[str]) -> ArenadsError:
        number = abs(number)
        program = self._program
        what = f"{program} could not be attached to {target}"
        facts: dict[str, Any] = {
            "program": program.name,
            "section": program.section,
            "target": target,
            "messages": messages,
        }
        quoted = quote("libbpf said", messages)
        if number in (_errno.EPERM, _errno.EACCES):
            return refuse_permission(
                what,
                number,
                needed_capabilities(program.type, self._uses_arena),
                forbidden=forbidden_by_lockdown(program.type),
                quoted=quoted,
                **facts,
            )
        return LoadError(
            f"{what}: {explain_errno(number)}.{self._advice(target, number)}{quoted}",
            errno=plain_errno(number),
            **facts,
        )

    def _advice(self, target: str, number: int) -> str:
        if number in (_errno.ENOENT, _errno.ENOTDIR):
            if _KPROBE.match(self._program.section) and not os.path.exists(_KPROBE_EVENTS):
                return (
                    " This kernel has no kprobes (CONFIG_KPROBE_EVENTS): use fentry, fexit or a"
                    " tracepoint."
                )
            if self._program.type != "tracepoint":
                return " There is no such target on this system."
            if not _tracefs_mounted():
                return " tracefs is not mounted: mount -t tracefs none /sys/kernel/tracing"
            return " There is no such tracepoint: see the folders in /sys/kernel/tracing/events."
        if number == _errno.EBADF and target.startswith("cgroup"):
            return " It is not a cgroup v2 directory: grep cgroup2 /proc/mounts shows where one is."
        if number in (_errno.EBUSY, _errno.EEXIST):
            return " Another program is attached there: detach it first."
        if number in (_errno.EINVAL, _errno.EOPNOTSUPP, ENOTSUPP):
            return (
                " This kernel, or this target, does not support it: use another section or target."
            )
        return ""


# --- what a target is called ------------------------------------------------------


def _choose(what: str, value: str, choices: dict[str, int]) -> int:
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise LoadError(f"{what} is one of {', '.join(choices)}; found {value!r}") from None


def _name(value: str, what: str) -> bytes:
    """A name for C, which also becomes a part of a path in tracefs."""
    if not isinstance(value, str) or not value or "\0" in value or "/" in value or value[0] == ".":
        raise LoadError(f"expected the name of a {what}, found {value!r}")
    return value.encode(errors="replace")


def _path(value: StrPath) -> bytes:
    path = os.fsencode(value)
    if b"\0" in path:
        raise ValueError("a path has no NUL")
    return path


def _tracefs_mounted() -> bool:
    places = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
    return any(capabilities.is_mounted("tracefs", place) for place in places)


def _interface_index(interface: str | int) -> int:
    with suppress(OSError, OverflowError, TypeError, ValueError):
        index = interface if isinstance(interface, int) else socket.if_nametoindex(interface)
        socket.if_indextoname(index)
        return index
    names = ", ".join(name for _, name in socket.if_nameindex())
    raise LoadError(
        f"there is no network interface {interface!r}; there are: {names}", errno=_errno.ENODEV
    )


def _online_cpus() -> list[int]:
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _perf_event_open(event: PerfEvent, cpu: int) -> int:
    """A descriptor, or a negative errno. The C library has no function for this system call."""
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        return -_errno.ENOSYS
    ffi, _, libc, _ = library()
    frequency_flag, close_on_exec, size = 1 << 10, 1 << 3, 64  # PERF_ATTR_SIZE_VER0
    try:
        attributes = struct.pack(
            "=IIQQQQQIIQ",
            event.type,
            size,
            event.config,
            event.frequency or event.period,
            0,  # sample_type
            0,  # read_format
            frequency_flag if event.frequency else 0,
            0,  # wakeup_events
            0,  # bp_type
            0,  # bp_addr
        )
        arguments = [ffi.cast("long", int(n)) for n in (event.process, cpu, -1, close_on_exec)]
    except (struct.error, TypeError, ValueError):
        return -_errno.EINVAL
    fd = int(libc.syscall(ffi.cast("long", number), ffi.new("char[]", attributes), *arguments))
    return fd if fd >= 0 else -ffi.errno
