"""Histories of real concurrent work, checked for linearizability; see history.c.

BPF programs on two CPUs, BPF programs that interrupt whatever runs there, and two user processes
work on the same structure and write down each operation (programs/history.h). Then the test is
tested: histories of headers with a mistake must be refused, and the checker must agree with one
that tries every order.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest
from conftest import PROGRAMS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interleavings import Mistake, headers_with

import arenads
from arenads import Array, compiler, u64

SOURCE = Path(__file__).with_name("history.c")
CPUS = sorted(os.sched_getaffinity(0))
FIRST_CPU, LAST_CPU = CPUS[0], CPUS[-1]
OK, ABSENT, EXISTS, FULL = 0, -2, -17, -28
REGISTER, SORTED, QUEUE, FIFO = range(4)
ACCEPTED, REFUSED, MALFORMED = 0, 1, -1
DONE, WAIT = 2, 1
INTERRUPTS = 8  # number of the actor that interrupts CPU 0
PARTIES = 4  # actors that wait for each other
LEAD = 4000  # operations that an actor may be ahead of the slowest
SLICE = 500  # operations between two looks at how far the others are
BURST = 3  # operations of one interrupt
INTERRUPT_PERIOD = 50_000  # nanoseconds of a CPU's clock

TABLE_OFFSET = 24  # in struct ads_header

EVENT = numpy.dtype(
    [
        ("invoked", "u8"),
        ("returned", "u8"),
        ("operation", "u4"),
        ("code", "i4"),
        ("key", "u8"),
        ("in", "u8"),
        ("out", "u8"),
    ]
)


# --- the checker ------------------------------------------------------------------------


class Report(ctypes.Structure):
    """What the checker found; see struct report."""

    _fields_ = (
        ("operations", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("concurrent", ctypes.c_uint64),
        ("overlaps", ctypes.c_uint64),
        ("handovers", ctypes.c_uint64),
        ("open", ctypes.c_uint64),
        ("configurations", ctypes.c_uint64),
        ("full", ctypes.c_uint64),
        ("present", ctypes.c_uint64),
        ("problem", ctypes.c_char * 4096),
    )


class Checker:
    """history.c, compiled."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.history_operation_name.restype = ctypes.c_char_p
        names = itertools.takewhile(
            bool, (self.library.history_operation_name(number) for number in range(256))
        )
        self.operations: dict[str, int] = {
            name.decode(): number for number, name in enumerate(names)
        }

    def check(
        self, model: int, logs: list[numpy.ndarray[Any, Any]], capacity: int = 0
    ) -> tuple[int, Report]:
        report = Report()
        count = len(logs)
        addresses = (ctypes.c_void_p * count)(*(log.ctypes.data for log in logs))
        counts = (ctypes.c_uint64 * count)(*map(len, logs))
        verdict = self.library.history_check(
            model, count, addresses, counts, ctypes.c_uint64(capacity), ctypes.byref(report)
        )
        return verdict, report


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    library = compiler.compile_shared(
        SOURCE, tmp_path_factory.mktemp("history") / "history.so", flags=["-O2", "-Werror"]
    )
    return Checker(library)


# --- the actors -------------------------------------------------------------------------


def build_actor(directory: Path, *flags: str) -> Path:
    """programs/actor.c, compiled."""
    program = directory / "actor"
    found = compiler.find_host_compiler()
    words = ["-std=gnu11", "-O2", *flags, f"-I{compiler.include_dir()}"]
    source = PROGRAMS / "actor.c"
    subprocess.run([*found.command, *words, str(source), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="session")
def actors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """User processes: one as it is, and one that dawdles in the middle of its operations."""
    flags = ("-Wall", "-Wextra", "-Werror")
    return (
        build_actor(tmp_path_factory.mktemp("actor"), *flags),
        build_actor(tmp_path_factory.mktemp("actor"), *flags, "-DADS_POINTS"),
    )


@dataclass(frozen=True)
class Plan:
    """What the actors do, and the model that their history must have."""

    name: str
    kind: str
    model: int
    capacity: int
    mix: str = ""  # operations, at most 16: each as likely as the others; they are repeated
    keys: int = 8
    counters: int = 0  # of the keys, the last
    lead: int = LEAD
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


QUEUES = ("queue",)
MIX = "GET GET GET FIND INSERT INSERT REPLACE UPDATE UPDATE DELETE DELETE POP POP"
PLANS = (
    Plan(
        "map",
        "map",
        REGISTER,
        64,
        MIX + " LOOKUP_OR_INSERT ADD SCAN",
        keys=8,
        counters=2,
    ),
    Plan("full map", "map", REGISTER, 6, MIX + " INSERT INSERT LOOKUP_OR_INSERT", keys=16),
    Plan(
        "growing map",
        "map",
        REGISTER,
        1024,
        MIX + " INSERT UPDATE ADD",
        keys=520,
        counters=8,
        more={"initial_entries": 1},
    ),
    # Full while what was deleted waits.
    Plan("map with grace periods", "grace", REGISTER, 1000, MIX, more={"reclaim": "grace"}),
    Plan("set", "set", REGISTER, 64, "FIND INSERT DELETE " * 5 + "SCAN"),
    Plan("full set", "set", REGISTER, 6, "FIND INSERT INSERT DELETE", keys=16),
    Plan("list", "list", REGISTER, 64, MIX + " GET SCAN SCAN"),
    Plan("full list", "list", REGISTER, 6, MIX + " INSERT INSERT INSERT", keys=16),
    Plan("pushed list", "list", SORTED, 8, "PUSH PUSH PUSH PUSH PUSH GET FIND INSERT REPLACE UPDATE"
         " DELETE DELETE POP POP POP POP"),
    # The ends of a queue wait for each other: it is not full or empty most of the time.
    Plan("queue", "queue", QUEUE, 32, lead=500),
    Plan("short queue", "queue", QUEUE, 2, lead=100),
    Plan("pool", "pool", REGISTER, 64, lead=500),
    Plan("full pool", "pool", REGISTER, 12, lead=500),
)  # fmt: skip


class History(NamedTuple):
    """What was written down, by actor."""

    logs: list[numpy.ndarray[Any, Any]]
    structures: list[Any]


class World:
    """An arena with room for logs, the BPF programs, and the user processes."""

    def __init__(
        self, engine: str, program: Path, pin: Path, actors: tuple[Path, Path], goal: int
    ) -> None:
        self.engine = engine
        self.goal = goal  # operations of each party
        self.pin = pin
        self.numbers = list(range(PARTIES))
        if engine == "kernel":
            self.numbers += [INTERRUPTS + cpu for cpu in {FIRST_CPU, LAST_CPU}]
        self.room = 2 * goal + 1000
        log_size = self.room * EVENT.itemsize
        size = (len(self.numbers) * log_size + (16 << 20)) // 4096 * 4096
        self.program = arenads.load(program, engine=engine, size=size)  # type: ignore[arg-type]
        self.arena = self.program.arena
        self.arena.populate(size - (1 << 20))
        self.arena.pin(pin)
        self.clock = self.allocate(128)
        self.logs = {number: self.allocate(log_size) for number in self.numbers}
        self.runs = itertools.count()
        self.processes = [
            subprocess.Popen(
                [str(actor), str(pin)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for actor in actors
        ]
        for process, cpu in zip(self.processes, (FIRST_CPU, LAST_CPU), strict=True):
            os.sched_setaffinity(process.pid, {cpu})

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.program.close()
        arenads.unlink(self.pin)

    def allocate(self, size: int) -> int:
        words = size.to_bytes(8, "little") + bytes(8)
        result = self.program.run("allocate", words)
        assert result.value == OK
        return int.from_bytes(result.context[8:], "little")

    def make(self, plan: Plan, name: str) -> Any:
        more = {**plan.more, "max_entries": plan.capacity}
        if plan.kind in ("map", "grace", "set"):
            more["key"] = u64
        if plan.kind != "set":
            more["value"] = Array[u64, 4]
        make = getattr(self.arena, {"map": "hashmap", "grace": "hashmap"}.get(plan.kind, plan.kind))
        return make(name, **more)

    def record(self, plan: Plan, checker: Checker) -> History:
        """Let all actors work on a new structure until each party has reached its goal."""
        run = next(self.runs)
        actors: Any = self.program["actors"]
        queues = 2 * len(self.numbers) if plan.kind == "queue" else 1
        structures = [self.make(plan, f"{plan} {run} {number}") for number in range(queues)]
        ctypes.memset(self.arena.base + self.clock, 0, 128)
        mix = bytes(checker.operations[name] for name in plan.mix.split())
        for place, number in enumerate(self.numbers):
            # Queue i is pushed to by actor i, and queue n + i too; others take from them.
            count = len(self.numbers)
            pushes = [place, count + place]
            takes = [(place - 1) % count, count + (place - 2) % count]
            ends = [
                [queue % queues << 32 | structures[queue % queues].offset for queue in which]
                for which in (pushes, takes)
            ]
            actors[number] = {
                "number": number,
                "goal": self.goal,
                "done": 0,
                "log": self.logs[number],
                "room": self.room,
                "events": 0,
                "clock": self.clock,
                "random": (run + 1) * 0x9E3779B97F4A7C15 + number & (1 << 64) - 1,
                "values": 0,
                "lead": plan.lead if number < PARTIES else BURST,
                "parties": PARTIES,
                "structure": structures[0].offset,
                "keys": plan.keys,
                "counters": plan.counters,
                "recent": 0 if "PUSH" not in plan.mix else 1 << 63,
                "pushes": ends[0],
                "takes": ends[1],
                "hands": [0] * 4,
                "mix": (mix * 16)[:16] if mix else bytes(16),
            }
        with self.interrupts(plan.kind):
            self.work(plan.kind, min(plan.lead, SLICE))
        logs = []
        for number in self.numbers:
            record = actors[number]
            assert number >= PARTIES or record.done == self.goal
            memory = ctypes.c_char * (record.events * EVENT.itemsize)
            address = self.arena.base + self.logs[number]
            logs.append(numpy.frombuffer(memory.from_address(address), EVENT))
        return History(logs, structures)

    def work(self, kind: str, operations: int) -> None:
        for process, number in zip(self.processes, (2, 3), strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{kind} {number} {operations}\n")
            process.stdin.flush()
        ended: dict[int, int] = {}
        threads = [
            threading.Thread(target=self.run_program, args=(kind, number, cpu, operations, ended))
            for number, cpu in enumerate((FIRST_CPU, LAST_CPU))
        ]
        for thread in threads:
            thread.start()
        if kind == "grace":
            while any(thread.is_alive() for thread in threads):
                self.arena.reclaim()
        for thread in threads:
            thread.join()
        for process, number in zip(self.processes, (2, 3), strict=True):
            assert process.stdout is not None
            ended[number] = int(process.stdout.readline())
        assert ended == dict.fromkeys(range(PARTIES), DONE)

    def run_program(
        self, kind: str, number: int, cpu: int, operations: int, ended: dict[int, int]
    ) -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        runner: Any = self.program.runner(f"record_{kind}", 16)
        runner.context[:] = b"".join(word.to_bytes(8, "little") for word in (number, operations))
        while (code := runner()) in (OK, WAIT):
            if code == WAIT:
                os.sched_yield()
        ended[number] = code

    @contextlib.contextmanager
    def interrupts(self, kind: str) -> Iterator[None]:
        if self.engine == "native":
            yield
            return
        from arenads.libbpf import PerfEvent

        event = PerfEvent(period=INTERRUPT_PERIOD, cpus=tuple({FIRST_CPU, LAST_CPU}))
        (link,) = self.program.attach(f"interrupt_{kind}", perf_event=event)
        try:
            yield
        finally:
            link.close()


def outcomes(history: History, checker: Checker) -> dict[str, int]:
    """How often each operation gave each code."""
    events = numpy.concatenate(history.logs)
    pairs, counts = numpy.unique(events[["operation", "code"]], return_counts=True)
    names = {number: name for name, number in checker.operations.items()}
    return {
        f"{names[int(operation)]} {int(code)}": int(count)
        for (operation, code), count in zip(pairs, counts, strict=True)
    }


def nested(inner: numpy.ndarray[Any, Any], outer: numpy.ndarray[Any, Any]) -> int:
    """How many operations of one actor lie within one of another actor."""
    before = numpy.searchsorted(outer["invoked"], inner["invoked"]) - 1
    return int(numpy.sum((before >= 0) & (outer["returned"][before] > inner["returned"])))


def record_and_check(world: World, plan: Plan, checker: Checker) -> None:
    history = world.record(plan, checker)
    verdict, report = checker.check(plan.model, history.logs, plan.capacity)
    seen = outcomes(history, checker)
    interrupted = [
        nested(inner, outer) for inner in history.logs[PARTIES:] for outer in history.logs[:PARTIES]
    ]
    print(
        f"\n{plan}, {world.engine}: {report.operations} operations"
        f" ({[len(log) for log in history.logs]} by actor) on {report.keys} keys;"
        f" {report.concurrent} pairs at the same time, {report.overlaps} of them on one key, up to"
        f" {report.open} there at once; {report.handovers} times a key went to another actor;"
        f" interrupts in the middle of an operation {interrupted};"
        f" up to {report.configurations} configurations; {report.full} times full;"
        f" {report.present} keys at once\n{seen}"
    )
    assert verdict == ACCEPTED, report.problem.decode()
    assert report.operations >= PARTIES * world.goal
    # A history of actors that did not meet says nothing.
    assert report.concurrent > report.operations // 50
    assert report.handovers > report.operations // 200
    assert world.engine == "native" or sum(interrupted) > 0
    if plan.kind in QUEUES:
        both = checker.check(FIFO, history.logs)
        assert both[0] == ACCEPTED, both[1].problem.decode()
    else:
        # Only the owner of an object works on it; in a large map two seldom meet.
        if plan.kind != "pool" and plan.keys <= 16:
            assert report.overlaps > report.operations // 1000
        for structure in history.structures:
            found = structure.check()
            assert (found.errors, found.leaked) == (0, 0)
    if plan.name.startswith(("full", "short")):
        assert report.full > 50
    if plan.name.startswith("full"):
        assert report.present == plan.capacity
    if plan.name.startswith("growing"):
        (grown,) = history.structures
        table = ctypes.c_uint64.from_address(world.arena.base + grown.offset + TABLE_OFFSET)
        assert 64 - (table.value >> 32) >= 9  # log2 of the shortcuts
    for name in {"PUSH", "TAKE"} if plan.kind in QUEUES else set(plan.mix.split()) - {"SCAN"}:
        assert seen[f"{name} 0"] > report.operations // 1000


@contextlib.contextmanager
def opened_world(
    program: Path, engine: str, pin: Path, actors: tuple[Path, Path], goal: int
) -> Iterator[World]:
    world = World(engine, program, pin, actors, goal)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def world(
    kernel_engine: str,
    compiled: Callable[..., Path],
    bpf_file_system: Path,
    actors: tuple[Path, Path],
) -> Iterator[World]:
    program = compiled("history", kernel_engine)
    pin = bpf_file_system / "history"
    with opened_world(program, kernel_engine, pin, actors, 25_000) as world:
        yield world


@pytest.fixture(scope="module")
def large_world(
    engine: str, compiled: Callable[..., Path], pin_directory: Path, actors: tuple[Path, Path]
) -> Iterator[World]:
    program, pin = compiled("history", engine), pin_directory / "large history"
    with opened_world(program, engine, pin, actors, 250_000) as world:
        yield world


@pytest.mark.kernel
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_history_is_explained_by_some_order(world: World, plan: Plan, checker: Checker) -> None:
    """100 000 operations and more."""
    record_and_check(world, plan, checker)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_million_operations_are_explained_by_some_order(
    large_world: World, plan: Plan, checker: Checker
) -> None:
    record_and_check(large_world, plan, checker)


# --- the test of the test: mistakes in the headers ------------------------------------------

# Each is found in most runs; the histories of so many runs without it say that it is not.
RUNS = 30
MISTAKES = (
    Mistake(
        "a value is not looked at again after it was copied",
        "full map",
        {
            "if (ads_load(ads_link_of(a, w.entry)) == w.link) return ADS_OK;": "return ADS_OK;",
        },
    ),
    Mistake(
        "a record is published before it is written",
        "short queue",
        {
            "ads_copy_in(a, slot, value, ref.value_size);": "",
            "ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */": (
                "ads_store_release(&ring->tail, tail + 1); ads_copy_in(a, slot, value, "
                "ref.value_size);"
            ),
        },
    ),
    Mistake(
        "a slot is given up before it is read",
        "short queue",
        {
            "ads_store_release(&ring->head, head + 1); /* R5. Commit. */": "",
            "ads_copy_out(a, value, slot, ref.value_size);": (
                "ads_store_release(&ring->head, head + 1); ads_copy_out(a, value, slot, "
                "ref.value_size);"
            ),
        },
    ),
)


@pytest.mark.slow
@pytest.mark.native
@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_the_histories_of_a_mistake_are_refused(
    mistake: Mistake, checker: Checker, tmp_path: Path
) -> None:
    headers = headers_with(mistake, tmp_path)
    program = arenads.compile(
        PROGRAMS / "history.bpf.c",
        tmp_path / "history.native.so",
        engine="native",
        include_dirs=[headers],
        flags=["-w"],
    ).with_name("history.bpf.o")
    flags = ("-w", f"-I{headers}", "-DADS_POINTS", "-DHISTORY_DAWDLE=4")
    actor = build_actor(tmp_path, *flags)
    plan = next(plan for plan in PLANS if plan.name == mistake.group)
    with (
        tempfile.TemporaryDirectory(prefix="arenads-tests-", dir="/dev/shm") as directory,
        opened_world(program, "native", Path(directory) / "pin", (actor, actor), 10_000) as world,
    ):
        for _ in range(RUNS):
            history = world.record(plan, checker)
            verdict, report = checker.check(plan.model, history.logs, plan.capacity)
            if verdict != ACCEPTED:
                break
    assert verdict == REFUSED
    print(report.problem.decode())


# --- the test of the checker ------------------------------------------------------------


class Event(NamedTuple):
    """One operation: who, what, from when to when, and what it gave."""

    actor: int
    operation: str
    invoked: int
    returned: int
    key: int = 0
    given: int = 0
    found: int = 0
    code: int = OK


def logs_of(checker: Checker, events: list[Event]) -> list[numpy.ndarray[Any, Any]]:
    logs: list[list[tuple[int, ...]]] = [[] for _ in range(4)]
    for e in sorted(events, key=lambda e: e.invoked):
        operation = checker.operations[e.operation]
        logs[e.actor].append((e.invoked, e.returned, operation, e.code, e.key, e.given, e.found))
    return [numpy.array(log, EVENT) for log in logs]


def put(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "UPDATE", invoked, returned, given=value, **more)


def get(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "GET", invoked, returned, found=value, code=OK if value else ABSENT, **more)


def push(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "PUSH", invoked, returned, given=value, **more)


def take(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(
        actor, "TAKE", invoked, returned, found=value, code=OK if value else ABSENT, **more
    )


TOP = 1 << 63

RIGHT: dict[str, tuple[int, list[Event]]] = {
    "nothing": (REGISTER, []),
    "a read while a value is replaced gives either one": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 8, 20), get(1, 4, 5, 10), get(1, 6, 7, 20)],
    ),
    "what overlaps may have happened in any order": (
        REGISTER,
        [put(0, 1, 6, 10), put(1, 2, 7, 20), put(2, 3, 8, 30), get(3, 4, 5, 20), get(3, 9, 10, 10)],
    ),
    "a key that is deleted meanwhile is found or not": (
        REGISTER,
        [
            put(0, 1, 2, 10),
            Event(0, "DELETE", 3, 8),
            get(1, 4, 5, 10),
            get(2, 6, 7, 0),
            get(1, 9, 10, 0),
        ],
    ),
    "of two that insert at once either one wins": (
        REGISTER,
        [
            Event(0, "INSERT", 1, 3, given=10),
            Event(1, "INSERT", 2, 4, given=20, code=EXISTS),
            get(0, 5, 6, 10),
        ],
    ),
    "a counter is added to twice": (
        REGISTER,
        [
            Event(0, "ADD", 1, 3, given=1, found=2),
            Event(1, "ADD", 2, 4, given=1, found=1),
            get(0, 5, 6, 3),
        ],
    ),
    "keys have nothing to do with each other": (
        REGISTER,
        [put(0, 1, 2, 10, key=1), get(1, 3, 4, 0, key=2), put(1, 5, 6, 20, key=2)],
    ),
    "an object changes owners": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 2, key=64, given=10),
            Event(1, "FREE", 3, 5, key=64, found=10),
            Event(0, "ALLOC", 4, 6, key=64, given=20),
        ],
    ),
    "of two that push either one is first": (
        SORTED,
        [push(0, 1, 3, 10, key=TOP - 1), push(1, 2, 4, 20, key=TOP)],
    ),
    "a list starts over when it is empty": (
        SORTED,
        [
            push(0, 1, 2, 10, key=TOP),
            push(0, 3, 4, 20, key=TOP - 1),
            Event(0, "DELETE", 5, 6, key=TOP),
            Event(0, "POP", 7, 8, key=TOP - 1, found=20),
            push(0, 9, 10, 30, key=TOP),
        ],
    ),
    "a queue gives what it has, in either order of two that were pushed at once": (
        QUEUE,
        [push(0, 1, 3, 10), push(1, 2, 4, 20), take(2, 5, 6, 20), take(2, 7, 8, 10)],
    ),
    "a queue is empty while a push has not returned": (
        QUEUE,
        [push(0, 1, 6, 10), take(1, 2, 3, 0), take(1, 4, 5, 10), take(1, 7, 8, 0)],
    ),
    "a queue of two is full with two": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), push(0, 5, 6, 30, code=FULL), take(1, 7, 8, 10)],
    ),
}

WRONG: dict[str, tuple[int, list[Event]]] = {
    "a value that nobody stored": (REGISTER, [put(0, 1, 2, 10), get(1, 3, 4, 20)]),
    "a value that is still to be stored": (REGISTER, [get(1, 1, 2, 10), put(0, 3, 4, 10)]),
    "a value that was replaced before": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 4, 20), get(1, 5, 6, 10)],
    ),
    "the new value, and then the old one": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 8, 20), get(1, 4, 5, 20), get(2, 6, 7, 10)],
    ),
    "two readers that disagree on an order": (
        REGISTER,
        [
            put(0, 1, 20, 10),
            put(1, 2, 21, 20),
            get(2, 3, 4, 10),
            get(2, 5, 6, 20),
            get(3, 7, 8, 10),
        ],
    ),
    "a key that was there throughout, and was not found": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 4, 5, 20), get(1, 3, 6, 0)],
    ),
    "a key inserted twice": (
        REGISTER,
        [Event(0, "INSERT", 1, 3, given=10), Event(1, "INSERT", 2, 4, given=20)],
    ),
    "a key that existed though nobody had inserted it": (
        REGISTER,
        [Event(0, "INSERT", 1, 2, given=10, code=EXISTS)],
    ),
    "a key replaced after it was deleted": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "DELETE", 3, 4), Event(1, "REPLACE", 5, 6, given=20)],
    ),
    "a key deleted twice": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "DELETE", 3, 5), Event(1, "DELETE", 4, 6)],
    ),
    "a value popped by two": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "POP", 3, 5, found=10), Event(1, "POP", 4, 6, found=10)],
    ),
    "an addition that was lost": (
        REGISTER,
        [Event(0, "ADD", 1, 3, given=1, found=1), Event(1, "ADD", 2, 4, given=1, found=1)],
    ),
    "words of two values": (
        REGISTER,
        [put(0, 1, 2, 10), Event(1, "GET", 3, 4, found=10, code=1)],
    ),
    "a budget that ran out": (REGISTER, [put(0, 1, 2, 10, code=-40)]),
    "an object of two owners": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 3, key=64, given=10),
            Event(1, "ALLOC", 2, 4, key=64, given=20),
        ],
    ),
    "an object that somebody else wrote to": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 2, key=64, given=10),
            Event(0, "FREE", 3, 4, key=64, found=20),
        ],
    ),
    "three keys in a map for two": (
        REGISTER,
        [put(0, 1, 2, 10, key=1), put(0, 3, 4, 20, key=2), put(1, 5, 6, 30, key=3)],
    ),
    "a push that was not the first": (
        SORTED,
        [push(0, 1, 2, 10, key=TOP), push(0, 3, 4, 20, key=TOP)],
    ),
    "a push before one that it followed": (
        SORTED,
        [push(0, 1, 2, 10, key=TOP - 1), push(1, 3, 4, 20, key=TOP)],
    ),
    "three entries in a list for two": (
        SORTED,
        [
            push(0, 1, 2, 10, key=TOP),
            push(0, 3, 4, 20, key=TOP - 1),
            push(0, 5, 6, 30, key=TOP - 2),
        ],
    ),
    "a value taken by two": (
        QUEUE,
        [push(0, 1, 2, 10), take(1, 3, 5, 10), take(2, 4, 6, 10)],
    ),
    "a value taken before it was pushed": (QUEUE, [take(1, 1, 2, 10), push(0, 3, 4, 10)]),
    "a value that overtook another": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), take(1, 5, 6, 20), take(1, 7, 8, 10)],
    ),
    "a value that was left behind": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), take(1, 5, 6, 20)],
    ),
    "a queue that was never empty, found empty": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 4, 5, 20), take(1, 6, 7, 10), take(2, 3, 8, 0)],
    ),
    "a queue with room, found full": (QUEUE, [push(0, 1, 2, 10), push(0, 3, 4, 20, code=FULL)]),
    "three values in a queue of two": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), push(0, 5, 6, 30)],
    ),
}
# What the patterns say nothing of.
ABOUT_ROOM = {"a queue with room, found full", "three values in a queue of two"}


@pytest.mark.parametrize("name", RIGHT)
def test_what_some_order_explains_is_accepted(checker: Checker, name: str) -> None:
    model, events = RIGHT[name]
    verdict, report = checker.check(model, logs_of(checker, events), 2)
    assert verdict == ACCEPTED, report.problem.decode()
    if model == QUEUE:
        assert checker.check(FIFO, logs_of(checker, events))[0] == ACCEPTED


@pytest.mark.parametrize("name", WRONG)
def test_what_no_order_explains_is_refused(checker: Checker, name: str) -> None:
    model, events = WRONG[name]
    verdict, report = checker.check(model, logs_of(checker, events), 2)
    assert verdict == REFUSED
    assert report.problem
    if model == QUEUE and name not in ABOUT_ROOM:
        assert checker.check(FIFO, logs_of(checker, events))[0] == REFUSED


def test_what_is_no_history_is_not_judged(checker: Checker) -> None:
    backwards = [put(0, 2, 1, 10)]
    two_at_once = [put(0, 1, 3, 10), put(0, 2, 4, 20)]
    for events in (backwards, two_at_once):
        assert checker.check(REGISTER, logs_of(checker, events))[0] == MALFORMED


def test_overlaps_are_counted(checker: Checker) -> None:
    events = [put(0, 1, 4, 10), put(1, 2, 6, 20), put(2, 5, 7, 30), put(3, 3, 8, 40, key=1)]
    verdict, report = checker.check(REGISTER, logs_of(checker, events))
    assert verdict == ACCEPTED
    assert (report.operations, report.keys, report.open) == (4, 2, 2)
    assert (report.concurrent, report.overlaps, report.handovers) == (5, 2, 2)


# --- against a checker that tries every order -----------------------------------------------

State = dict[int, int]


def on_key(state: State, e: Event) -> tuple[int, int, int]:
    """Do an operation on a dictionary; return its code, its key and what it found."""
    there = e.key in state
    match e.operation:
        case "GET":
            return (OK, e.key, state[e.key]) if there else (ABSENT, e.key, 0)
        case "FIND":
            return OK if there else ABSENT, e.key, 0
        case "INSERT" if there:
            return EXISTS, e.key, 0
        case "REPLACE" if not there:
            return ABSENT, e.key, 0
        case "INSERT" | "REPLACE" | "UPDATE":
            state[e.key] = e.given
            return OK, e.key, 0
        case "LOOKUP_OR_INSERT":
            state.setdefault(e.key, e.given)
            return OK, e.key, 0
        case "ADD":
            before = state.get(e.key, 1)
            state[e.key] = before + e.given
            return OK, e.key, before
        case "DELETE":
            return (OK if state.pop(e.key, None) else ABSENT), e.key, 0
        case "POP":
            return (OK, e.key, state.pop(e.key)) if there else (ABSENT, e.key, 0)
    raise AssertionError(e.operation)


def on_sorted(state: State, e: Event) -> tuple[int, int, int]:
    if e.operation == "PUSH":
        order = min(state) - 1 if state else TOP
        state[order] = e.given
        return OK, order, 0
    return on_key(state, e)


def on_queue(state: State, e: Event, capacity: int) -> tuple[int, int, int]:
    """The keys of the dictionary are positions here."""
    if e.operation == "PUSH":
        if len(state) == capacity:
            return FULL, e.key, 0
        state[max(state, default=0) + 1] = e.given
        return OK, e.key, 0
    return (OK, e.key, state.pop(min(state))) if state else (ABSENT, e.key, 0)


KEYED = ("GET", "FIND", "INSERT", "REPLACE", "UPDATE", "LOOKUP_OR_INSERT", "ADD", "DELETE", "POP")
# For each model: what a dictionary does, the operations, the keys.
DICTIONARIES: dict[int, tuple[Callable[..., tuple[int, int, int]], tuple[str, ...], list[int]]] = {
    REGISTER: (on_key, KEYED, [0, 1]),
    SORTED: (on_sorted, ("PUSH", *KEYED[:6], *KEYED[7:]), [TOP, TOP - 1]),
    QUEUE: (functools.partial(on_queue, capacity=2), ("PUSH", "PUSH", "TAKE"), [0]),
    FIFO: (functools.partial(on_queue, capacity=100), ("PUSH", "TAKE"), [0]),
}


def some_order_explains(model: int, events: list[Event], state: State | None = None) -> bool:
    """Try each operation that may come first, and then the rest."""
    do, _, _ = DICTIONARIES[model]
    first_return = min((e.returned for e in events), default=0)
    for i, e in enumerate(events):
        after = dict(state or {})
        if e.invoked < first_return and do(after, e) == (e.code, e.key, e.found):
            if some_order_explains(model, events[:i] + events[i + 1 :], after):
                return True
    return not events


@st.composite
def histories(draw: st.DrawFn, model: int) -> list[Event]:
    """What three actors may have done, and perhaps a lie."""
    do, operations, keys = DICTIONARIES[model]
    state: State = {}
    events: list[Event] = []
    running: dict[int, tuple[Event, bool]] = {}  # and whether it has happened
    steps = draw(st.lists(st.integers(0, 2), min_size=3, max_size=24))
    steps += [actor for actor in range(3) for _ in range(2)]  # all return in the end
    last = len(steps) - 6
    for time, actor in enumerate(steps):
        if actor not in running:
            if time < last:
                operation, key = draw(st.sampled_from(operations)), draw(st.sampled_from(keys))
                given = 1 if operation == "ADD" else time + 10
                given = 0 if operation in ("GET", "FIND", "DELETE", "POP", "TAKE") else given
                running[actor] = Event(actor, operation, time, 0, key, given), False
        elif not running[actor][1]:
            e = running[actor][0]
            code, key, found = do(state, e)
            running[actor] = e._replace(code=code, key=key, found=found), True
        else:
            events.append(running.pop(actor)[0]._replace(returned=time))
    if events and draw(st.booleans()):
        i = draw(st.integers(0, len(events) - 1))
        found = draw(st.sampled_from([e.given for e in events] + [e.found for e in events]))
        e = events[i]
        if e.code == OK and e.found and found and draw(st.booleans()):
            events[i] = e._replace(found=found)
        elif e.operation in ("GET", "TAKE", "POP"):
            events[i] = e._replace(code=OK if found else ABSENT, found=found)
        elif e.operation in ("FIND", "DELETE", "REPLACE"):
            events[i] = e._replace(code=ABSENT if e.code == OK else OK)
        elif e.operation == "INSERT":
            events[i] = e._replace(code=EXISTS if e.code == OK else OK)
        elif e.operation == "PUSH" and model == QUEUE:
            events[i] = e._replace(code=FULL if e.code == OK else OK)
        elif e.operation == "PUSH" and model == SORTED:
            events[i] = e._replace(key=e.key + draw(st.sampled_from([-1, 1])))
    return events


@pytest.mark.parametrize("model", DICTIONARIES)
@settings(max_examples=100)
@given(data=st.data())
def test_the_checker_agrees_with_one_that_tries_every_order(
    checker: Checker, model: int, data: st.DataObject
) -> None:
    events = data.draw(histories(model))
    verdict, report = checker.check(model, logs_of(checker, events), 2 if model == QUEUE else 16)
    assert verdict == (ACCEPTED if some_order_explains(model, events) else REFUSED), report.problem
