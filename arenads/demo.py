"""The demonstration: BPF programs and Python share what they know of every process.

On the kernel engine programs at each system call and each context switch fill an arena hash
map and a list, which Python walks. On the native engine the same C code, compiled for the host,
takes samples from /proc. Then Python sets a filter that the C code obeys from the next event
on, and both exchange messages over two queues. See bpf_progs/demo.bpf.c for the other side.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from arenads.annotations import Str, u32, u64
from arenads.arena import Engine
from arenads.codec import Codec
from arenads.compiler import shipped_program
from arenads.engine import take_engine
from arenads.program import Attachment, Program, load
from arenads.table import Table

__all__ = ["Outcome", "Report", "Sample", "pack_sample", "program_path", "run"]

TICK_SECONDS = 0.25
FILTERED_CALLS = 10_000
MESSAGES = 1_000
ROWS = 15

# What the program may need between two looks of the provisioner: a burst of new processes.
_POPULATED_AHEAD = "4MiB"
_SKIP = 1  # enum action in demo.bpf.c


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `demo --json` prints.

    Attributes
    ----------
    engine : "kernel" or "native"
    kernel : str
        Release of the running kernel.
    entries : int
        Processes in the map.
    events_bpf, events_user : int
        Events as counted by the program in a total of its own, and the sum that Python makes
        over the map. They must be equal.
    filtered_before, filtered_after : int
        Events of the filtered process that were counted before and after Python set the filter.
    messages_out, messages_in : int
        Messages from BPF to Python, and from Python to BPF.
    lost : int
        Events and messages that found no room.
    seconds : float
        How long events were counted.
    """

    engine: Literal["kernel", "native"]
    kernel: str
    entries: int
    events_bpf: int
    events_user: int
    filtered_before: int
    filtered_after: int
    messages_out: int
    messages_in: int
    lost: int
    seconds: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A report, what disagrees in it, and sentences for people.

    Attributes
    ----------
    report : Report
    problems : tuple of str
        One sentence for each thing that is not as it must be; empty if all is well.
    summary : tuple of str
        What was shown, a line each.
    """

    report: Report
    problems: tuple[str, ...]
    summary: tuple[str, ...]


class Sample(msgspec.Struct, frozen=True):
    """What became of one process since the last sample: `struct sample` in demo.bpf.c."""

    pid: u32
    syscalls: u64
    switches: u64
    comm: Str[16]


class Identity(msgspec.Struct, frozen=True):
    """`struct identity` in demo.bpf.c."""

    thread: u32
    process: u32


_sample = Codec(Sample)
_identity = Codec(Identity)


def pack_sample(sample: Sample) -> bytes:
    """Return a sample as the context of the program `sample`."""
    return _sample.pack(sample)


def program_path() -> Path:
    """Return the demonstration's program: built with the package, or else its source."""
    return shipped_program("demo")


def run(
    engine: Engine = "auto",
    seconds: float = 5.0,
    watch: Callable[[Table], None] | None = None,
) -> Outcome:
    """Count for some seconds, then filter, then talk, and compare what both sides know.

    Parameters
    ----------
    engine : "auto", "kernel" or "native"
    seconds : float
        How long to watch; the rest takes a fraction of a second.
    watch : callable, optional
        Called a few times a second with a table of the busiest processes.

    Raises
    ------
    ArenadsError
        The engine does not work here.
    """
    chosen, reason = take_engine(engine)
    with load(program_path(), engine=chosen) as program:
        program.arena.populate(_POPULATED_AHEAD)
        events: _Events = _KernelEvents(program) if chosen == "kernel" else _ProcSamples(program)
        return _Demo(program, events, reason, watch).run(seconds)


# --- where events come from ---------------------------------------------------------------


class _Events(Protocol):
    """Makes the program run."""

    process: int
    """This process, as the program knows it."""
    thread: int

    def start(self) -> None: ...

    def look(self) -> None:
        """Bring the program up to date."""

    def settle(self) -> None:
        """Wait until every run of the program that has begun is over."""

    def work(self, calls: int) -> None:
        """Make so many system calls that the program hears of."""

    def talk(self) -> None:
        """Make the program answer one question."""

    def stop(self) -> None: ...


class _KernelEvents:
    """The kernel's own tracepoints. After `start`, nothing here enters the kernel for BPF."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._links: list[Attachment] = []
        # Not getpid(): in a container BPF sees other numbers.
        known = _identity.unpack(program.run("whoami", bytes(_identity.size)).context)
        self.process, self.thread = known.process, known.thread

    def start(self) -> None:
        self._links = self._program.attach()

    def look(self) -> None:
        pass

    def settle(self) -> None:
        _wait_for_running_programs()

    def work(self, calls: int) -> None:
        for _ in range(calls):
            os.getppid()

    def talk(self) -> None:
        os.getppid()

    def stop(self) -> None:
        for link in self._links:
            link.close()
        self.settle()


class _ProcSamples:
    """Samples of /proc, for the native engine.

    System calls are the reads and writes of /proc/PID/io, where this process may read that;
    switches are those of each process's first thread.
    """

    def __init__(self, program: Program) -> None:
        self._take = program.runner("sample", _sample.size)
        self._talk = program.runner("talk")
        self._before: dict[tuple[int, str], tuple[int, int]] = {}
        self._started = False
        self.process, self.thread = os.getpid(), threading.get_native_id()

    def start(self) -> None:
        self.look()  # what happened so far does not count
        self._started = True

    def look(self) -> None:
        before, self._before = self._before, {}
        for name in os.listdir("/proc"):
            if name.isdecimal():
                self._look_at(int(name), before)

    def _look_at(self, pid: int, before: dict[tuple[int, str], tuple[int, int]]) -> None:
        place = f"/proc/{pid}"
        stat = _read(f"{place}/stat")
        opening, closing = stat.find(b"("), stat.rfind(b")")
        fields = stat[closing + 1 :].split()
        if opening < 0 or len(fields) < 20:
            return  # it ended
        started = fields[19].decode(errors="replace")
        now = (
            _sum_of(_read(f"{place}/io"), (b"syscr", b"syscw")),
            _sum_of(
                _read(f"{place}/status"),
                (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches"),
            ),
        )
        last = before.get((pid, started), (0, 0) if self._started else now)
        self._before[pid, started] = now
        # A file that could not be read this time makes a count smaller.
        syscalls, switches = (max(new - old, 0) for new, old in zip(now, last, strict=True))
        comm = stat[opening + 1 : closing].decode(errors="replace").encode()[:15]
        self._take(pack_sample(Sample(pid, syscalls, switches, comm.decode(errors="ignore"))))

    def settle(self) -> None:
        self._look_at(self.process, self._before)

    def work(self, calls: int) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for _ in range(calls):
                os.write(nowhere, b".")
        finally:
            os.close(nowhere)
        time.sleep(0.001)  # one switch, for where /proc/PID/io is absent

    def talk(self) -> None:
        self._talk()

    def stop(self) -> None:
        self.look()


def _read(path: str) -> bytes:
    """The bytes of a file of /proc; none if its process has ended or may not be looked at."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _sum_of(text: bytes, names: tuple[bytes, ...]) -> int:
    total = 0
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name in names and value.strip().isdigit():
            total += int(value)
    return total


# membarrier(2) has no wrapper in the C library. MEMBARRIER_CMD_GLOBAL waits for an RCU grace
# period, and so for the end of every BPF program that cannot sleep.
_MEMBARRIER = {"x86_64": 324, "ppc64le": 365, "s390x": 356}.get(platform.machine(), 283)
_MEMBARRIER_GLOBAL = 1


def _wait_for_running_programs() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(_MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0):
        time.sleep(0.1)  # refused (nohz_full, seccomp): far longer than a program runs


# --- the demonstration ----------------------------------------------------------------------


class _Demo:
    def __init__(
        self,
        program: Program,
        events: _Events,
        reason: str,
        watch: Callable[[Table], None] | None,
    ) -> None:
        self.program = program
        self.events = events
        self.reason = reason
        self.watch = watch
        # Structures of the program; the types of their records were read from its BTF.
        self.tasks: Any = program["tasks"]
        self.totals: Any = program["totals"]
        self.newcomers: Any = program["newcomers"]
        self.filters: Any = program["filters"]
        self.settings: Any = program["settings"]
        self.inbox: Any = program["inbox"]
        self.outbox: Any = program["outbox"]
        self.seen = 0  # newcomers taken from the list
        self.problems: list[str] = []

    def run(self, seconds: float) -> Outcome:
        self.settings[0] = {"agent": 0}
        started = time.monotonic()
        self.events.start()
        try:
            self._observe(started, seconds)
            before, after, skipped = self._filter()
            sent, answered, each = self._talk()
        finally:
            self.events.stop()
        elapsed = time.monotonic() - started
        # Nobody writes any more, so the two sides must agree to the last event.
        self._greet()
        self._show(elapsed, elapsed, {})
        totals = list(self.totals.values())
        report = Report(
            engine=self.program.engine,
            kernel=os.uname().release,
            entries=len(self.tasks),
            events_bpf=sum(total.events for total in totals),
            events_user=sum(task.syscalls + task.switches for task in self.tasks.values()),
            filtered_before=before,
            filtered_after=after,
            messages_out=answered,
            messages_in=sent - len(self.inbox),
            lost=sum(total.lost for total in totals) + self._refused() + sent - answered,
            seconds=round(elapsed, 3),
        )
        self._judge(report, skipped)
        summary = (
            f"engine    {report.engine}: {self.reason}",
            f"processes {report.entries} in the map, {self.seen} announced in the list",
            f"events    {report.events_bpf} counted in C, {report.events_user} summed by Python"
            " from the map",
            f"filter    process {self.events.process}: {before} events counted before Python set"
            f" it, {after} after, {skipped} skipped",
            f"messages  {report.messages_in} to BPF, {report.messages_out} back,"
            f" {each * 1e6:.1f} us for a question and its answer",
            f"lost      {report.lost}",
        )
        return Outcome(report=report, problems=tuple(self.problems), summary=summary)

    def _refused(self) -> int:
        """Count what found no room, as the structures themselves did."""
        # `tasks` is not here: what it refused, the program has counted in `lost`.
        counters = [each.counters() for each in (self.totals, self.newcomers, self.outbox)]
        return sum(each.full + each.no_memory + each.budget + each.damaged for each in counters)

    # --- watching -----------------------------------------------------------------------

    def _observe(self, started: float, seconds: float) -> None:
        end = started + seconds
        earlier, last = started, self._counts()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            self.events.look()
            self._greet()
            now = time.monotonic()
            self._show(now - started, now - earlier, last)
            earlier, last = now, self._counts()

    def _counts(self) -> dict[int, tuple[int, int]]:
        return {pid: (task.syscalls, task.switches) for pid, task in self.tasks.items()}

    def _greet(self) -> None:
        """Take what the program put into the list, while it goes on putting."""
        for order, _ in self.newcomers.items():
            self.newcomers.delete(order)
            self.seen += 1

    def _show(self, since_start: float, interval: float, last: dict[int, tuple[int, int]]) -> None:
        if self.watch is None:
            return
        tasks = []
        for pid, task in self.tasks.items():
            syscalls, switches = last.get(pid, (0, 0))
            more = task.syscalls - syscalls, task.switches - switches
            tasks.append((more, pid, task))
        tasks.sort(key=lambda each: (each[0], each[1]), reverse=True)
        rows = [
            (
                pid,
                task.comm,
                f"{task.syscalls:,}",
                f"{more[0] / interval:,.0f}",
                f"{task.switches:,}",
                f"{more[1] / interval:,.0f}",
            )
            for more, pid, task in tasks[:ROWS]
        ]
        events = sum(task.syscalls + task.switches for _, _, task in tasks)
        new = sum(more[0] + more[1] for more, _, _ in tasks)
        arena = self.program.arena.statistics()
        self.watch(
            Table(
                ("PID", "PROCESS", "SYSCALLS", "PER SECOND", "SWITCHES", "PER SECOND"),
                rows,
                right={0, 2, 3, 4, 5},
                heading=(
                    f"{self.program.engine} engine, {since_start:.1f} s: {events:,} events"
                    f" ({new / interval:,.0f} a second) of {len(tasks):,} processes",
                    f"arena: {arena.used:,} bytes used, {arena.populated:,} populated,"
                    f" {arena.size:,} at most",
                ),
            )
        )

    # --- Python commands, BPF obeys ------------------------------------------------------

    def _counted(self) -> int:
        """Return this process's events, as the program counted them."""
        task = self.tasks.get(self.events.process)
        return task.syscalls + task.switches if task is not None else 0

    def _filter(self) -> tuple[int, int, int]:
        """Filter this process: events counted before and after, and events skipped."""
        process = self.events.process
        self.events.work(FILTERED_CALLS)
        self.events.settle()
        self.filters[process] = {"action": _SKIP, "skipped": 0}
        # Runs that looked before the filter was there may not have counted yet.
        self.events.settle()
        before = self._counted()
        self.events.work(FILTERED_CALLS)
        self.events.settle()
        after = self._counted() - before
        skipped = self.filters[process].skipped
        del self.filters[process]
        return before, after, skipped

    # --- both talk -----------------------------------------------------------------------

    def _talk(self) -> tuple[int, int, float]:
        """Ask and listen: questions, answers, seconds a pair."""
        known = {pid: sum(counts) for pid, counts in self._counts().items()}
        questions = list(enumerate(islice(cycle(known), MESSAGES)))
        sent = answered = 0
        self.settings.store(0, self.events.thread, "agent")
        started = time.perf_counter()
        try:
            while answered < len(questions):
                took = self.inbox.push_many(questions[sent : sent + self.inbox.max_entries])
                sent += took
                # One event, one answer; a few more, should the kernel have skipped a run.
                for _ in range(2 * took):
                    self.events.talk()
                    if len(self.outbox) == took:
                        break
                answers = self.outbox.drain()
                for answer, (sequence, pid) in zip(answers, questions[answered:], strict=False):
                    self._compare(answer, sequence, pid, known[pid])
                answered += len(answers)
                if not answers:
                    break
        finally:
            elapsed = time.perf_counter() - started
            self.settings.store(0, 0, "agent")
        return sent, answered, elapsed / max(answered, 1)

    def _compare(self, answer: Any, sequence: int, pid: int, known: int) -> None:
        if (answer.sequence, answer.pid) != (sequence, pid):
            self.problems.append(
                f"expected the answer to question {sequence} about process {pid}, found that to"
                f" {answer.sequence} about {answer.pid}"
            )
        elif not answer.known or answer.events < known:
            self.problems.append(
                f"expected at least {known} events of process {pid}, the program says"
                f" {answer.events}"
            )

    # --- the verdict -----------------------------------------------------------------------

    def _judge(self, report: Report, skipped: int) -> None:
        for fine, sentence in (
            (
                report.events_bpf == report.events_user,
                f"BPF counted {report.events_bpf} events, but the entries of the map sum up to"
                f" {report.events_user}",
            ),
            (report.filtered_before > 0, "the process to filter had no events before the filter"),
            (
                report.filtered_after == 0,
                f"{report.filtered_after} events of the filtered process were counted",
            ),
            (
                skipped > 0 and (report.engine == "native" or skipped >= FILTERED_CALLS),
                f"of {FILTERED_CALLS} events of the filtered process {skipped} were skipped",
            ),
            (
                report.messages_in == report.messages_out == MESSAGES,
                f"{MESSAGES} messages were to be exchanged: {report.messages_in} reached BPF,"
                f" {report.messages_out} came back",
            ),
            (report.lost == 0, f"{report.lost} events or messages found no room"),
            (
                self.seen == report.entries,
                f"{report.entries} processes are in the map, {self.seen} were announced",
            ),
        ):
            if not fine:
                self.problems.append(sentence)
