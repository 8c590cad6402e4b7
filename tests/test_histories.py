"""Histories of real concurrent work, checked for linearizability; see history.c.

BPF programs on two CPUs, BPF programs that interrupt whatever runs there, and two user processes
work on the same structure and write down each operation (programs/history.h). Then the test is
tested: histories of headers with a mistake must be refused. The checker has tests of its own in
test_history_checker.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy
import pytest
from conftest import PROGRAMS
from history_checker import (
    ACCEPTED,
    CELL,
    EVENT,
    FIFO,
    NODES,
    OK,
    OVERWRITING,
    QUEUE,
    REFUSED,
    REGISTER,
    RING,
    SORTED,
    Checker,
)
from mistakes import MISTAKES as EXPLORED
from mistakes import Mistake, headers_with

import arenads
from arenads import Array, Node, compiler, u64
from arenads.node import node_offset
from arenads.ring import Ring
from arenads.structure import Checkable

CPUS = sorted(os.sched_getaffinity(0))
FIRST_CPU, LAST_CPU = CPUS[0], CPUS[-1]
DONE, WAIT = 2, 1
INTERRUPTS = 8  # number of the actor that interrupts CPU 0
PARTIES = 4  # actors that wait for each other
LEAD = 4000  # operations that an actor may be ahead of the slowest
SLICE = 500  # operations between two looks at how far the others are
BURST = 3  # operations of one interrupt
INTERRUPT_PERIOD = 50_000  # nanoseconds of a CPU's clock

TABLE_OFFSET = 24  # in struct ads_header
APART = 512  # elements of an array that are in one chunk
SPARE = 48 << 20  # bytes of an arena besides the logs


class Linked(msgspec.Struct):
    """A record that can be in one list at a time."""

    number: u64
    node: Node


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
    window: int = 0  # elements of an array that are worked on at a time
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


QUEUES = ("queue", "mpmc")
RINGS = ("ring", "overwriting", "rings")
RINGS_MOST = 64  # of rings.h
MANY = 3  # HISTORY_RINGS of history_rings.h
MIX = "GET GET GET FIND INSERT INSERT REPLACE UPDATE UPDATE DELETE DELETE POP POP"
LINKING = (
    "PUSH PUSH PUSH INSERT INSERT INSERT REMOVE REMOVE CONTAINS CONTAINS GET POP POP_FIRST"
    " POP_FIRST FIRST RANGE"
)
ELEMENT = "GET GET UPDATE" + " EXCHANGE ADD" * 5 + " COMPARE" * 3
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
    Plan("pushed list", "list", SORTED, 8, "PUSH PUSH PUSH PUSH PUSH GET FIRST INSERT REPLACE"
         " UPDATE DELETE POP POP_FIRST POP_FIRST LOWER_BOUND RANGE"),
    # The ends of a queue wait for each other: it is not full or empty most of the time.
    Plan("queue", "queue", QUEUE, 32, lead=500),
    Plan("short queue", "queue", QUEUE, 2, lead=100),
    Plan("pool", "pool", REGISTER, 64, lead=500),
    Plan("full pool", "pool", REGISTER, 12, lead=500),
    Plan("ordered map", "ordered", REGISTER, 64, MIX + " LOOKUP_OR_INSERT ADD SCAN", counters=2),
    Plan("full ordered map", "ordered", REGISTER, 6, MIX + " INSERT INSERT LOOKUP_OR_INSERT",
         keys=16),
    # Enough of them for towers of several levels.
    Plan("large ordered map", "ordered", REGISTER, 1024, "GET FIND INSERT INSERT INSERT REPLACE"
         " UPDATE UPDATE UPDATE DELETE DELETE POP POP_FIRST LOWER_BOUND LOWER_BOUND RANGE",
         keys=800),
    Plan("ordered map in order", "ordered", SORTED, 24, "GET FIND INSERT INSERT INSERT REPLACE"
         " UPDATE UPDATE LOOKUP_OR_INSERT DELETE POP POP_FIRST POP_FIRST LOWER_BOUND LOWER_BOUND"
         " RANGE", keys=24),
    Plan("array", "array", CELL, 8 * APART, ELEMENT, keys=8),
    Plan("growing array", "array", CELL, 512 * APART, ELEMENT, keys=512, window=3, lead=100),
    # As long as any that fit, and longer than fit a short one.
    Plan("ring", "ring", RING, 512, keys=89, lead=500),
    Plan("short ring", "ring", RING, 64, keys=21, lead=100),
    Plan("overwriting ring", "overwriting", OVERWRITING, 512, keys=89, lead=500),
    Plan("short overwriting ring", "overwriting", OVERWRITING, 64, keys=21, lead=100),
    Plan("rings of many", "rings", RING, 512, keys=89, lead=50),
    Plan("short rings of many", "rings", RING, 64, keys=21, lead=50),
    Plan("queue of many", "mpmc", QUEUE, 16, lead=500),
    Plan("short queue of many", "mpmc", QUEUE, 2, lead=100),
    Plan("intrusive lists", "intrusive", NODES, 12, LINKING, keys=12),
    # Where two often want the same node at the same place.
    Plan("intrusive lists of few", "intrusive", NODES, 3, LINKING, keys=2),
)  # fmt: skip


class History(NamedTuple):
    """What was written down, by actor."""

    logs: list[numpy.ndarray[Any, Any]]
    structures: list[Any]
    refused: int  # for want of room, which was not written down


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
        size = (len(self.numbers) * log_size + SPARE) // 4096 * 4096
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

    def make(self, plan: Plan, name: str) -> list[Any]:
        """Make what the actors of a plan work on."""
        count = len(self.numbers)
        if plan.kind == "rings":
            self.arena.rings(name, max_entries=plan.capacity, count=MANY)
            return [self.arena.structures[f"{name}.{number}"] for number in range(MANY)]
        if plan.kind in RINGS:
            overwrite = plan.kind == "overwriting"
            return [
                self.arena.ring(f"{name} {number}", max_entries=plan.capacity, overwrite=overwrite)
                for number in range(2 * count)
            ]
        if plan.kind == "intrusive":
            pool = self.arena.pool(f"{name} records", value=Linked, max_entries=plan.capacity)
            return [
                self.arena.intrusive(f"{name} {number}", pool=pool, member="node")
                for number in range(2)
            ]
        more = {**plan.more, "max_entries": plan.capacity}
        if plan.kind in ("map", "grace", "set", "ordered"):
            more["key"] = u64
        if plan.kind != "set":
            more["value"] = Array[u64, 4]
        method = {"map": "hashmap", "grace": "hashmap", "ordered": "orderedmap"}
        make = getattr(self.arena, method.get(plan.kind, plan.kind))
        many = 2 * count if plan.kind == "queue" else 1
        return [make(f"{name} {number}", **more) for number in range(many)]

    def ring_words(self, plan: Plan, structures: list[Any]) -> int:
        """Tell the actors which rings there are; return where it stands."""
        if plan.kind != "rings":
            return 0
        words = self.allocate(8 * RINGS_MOST)
        for number in range(RINGS_MOST):
            word = ctypes.c_uint64.from_address(self.arena.base + words + 8 * number)
            word.value = structures[number % MANY].offset
        told = bytes(8) + words.to_bytes(8, "little")
        assert self.program.run("use_rings", told).value == OK
        return words

    def link_words(self, plan: Plan, structures: list[Any]) -> int:
        """Allocate the nodes of intrusive lists; return where the actors find their offsets."""
        if plan.kind != "intrusive":
            return 0
        pool = structures[0].pool
        node = node_offset(pool.value_type, "node")
        words = self.allocate(8 * plan.capacity)
        for number in range(plan.capacity):
            address = pool.alloc(Linked(number + 1, Node()))
            word = ctypes.c_uint64.from_address(self.arena.base + words + 8 * number)
            word.value = address - self.arena.base + node
        return words

    def record(self, plan: Plan, checker: Checker) -> History:
        """Let all actors work on a new structure until each party has reached its goal."""
        run = next(self.runs)
        actors: Any = self.program["actors"]
        structures = self.make(plan, f"{plan} {run}")
        node_words = self.link_words(plan, structures)
        ring_words = self.ring_words(plan, structures)
        ctypes.memset(self.arena.base + self.clock, 0, 128)
        mix = bytes(checker.operations[name] for name in plan.mix.split())
        queues, count = len(structures), len(self.numbers)
        for place, number in enumerate(self.numbers):
            # Queue i is pushed to by actor i, and queue n + i too; others take from them, and
            # others read in them.
            pushes, takes, reads = (
                [
                    queue % queues << 32 | structures[queue % queues].offset
                    for queue in ((place - by) % count, count + (place - 2 * by) % count)
                ]
                for by in (0, 1, 2)
            )
            if ring_words:  # each is consumed by one
                one = place - 1
                takes = [one << 32 | structures[one].offset] * 2 if 0 <= one < MANY else [0, 0]
                reads = [n << 32 | structures[n].offset for n in (place % MANY, (place + 1) % MANY)]
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
                "structure": ring_words or structures[0].offset,
                "keys": plan.keys,
                "counters": plan.counters,
                "recent": 0 if "PUSH" not in plan.mix else 1 << 63,
                "window": plan.window,
                "nodes": plan.capacity if node_words else 0,
                "node_words": node_words,
                "pushes": [each.offset for each in structures] if node_words else pushes,
                "takes": takes,
                "reads": reads,
                "hands": [0] * 4,
                "refused": 0,
                "mix": (mix * 16)[:16] if mix else bytes(16),
            }
        with self.interrupts(plan.kind):
            self.work(plan.kind, min(plan.lead, SLICE))
        logs, refused = [], 0
        for number in self.numbers:
            record = actors[number]
            refused += record.refused
            assert number >= PARTIES or record.done == self.goal
            memory = ctypes.c_char * (record.events * EVENT.itemsize)
            address = self.arena.base + self.logs[number]
            logs.append(numpy.frombuffer(memory.from_address(address), EVENT))
        return History(logs, structures, refused)

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


def check_books(history: History, checker: Checker, seen: dict[str, int]) -> None:
    """What went in came out, waits, or is counted as dropped; who was refused is counted."""
    events = numpy.concatenate(history.logs)
    released = events[events["operation"] == checker.operations["RELEASE"]]["in"].sum()
    waiting = 0
    for structure in history.structures:
        if isinstance(structure, Ring):
            structure.publish()
        waiting += len(structure)
    counters = [structure.counters() for structure in history.structures]
    dropped = sum(each.dropped for each in counters)
    names = ("PUSH", "APPEND", "DISCARD")
    full = history.refused + sum(seen.get(f"{name} -28", 0) for name in names)
    assert sum(each.full for each in counters) == full
    assert sum(seen.get(f"{name} 0", 0) for name in names[:2]) == (
        seen["TAKE 0"] + released + waiting + dropped
    )


def expected_operations(plan: Plan) -> set[str]:
    """Return what must have been done, and not in vain, for a history to say something."""
    if plan.kind in QUEUES:
        return {"PUSH", "TAKE"}
    if plan.kind in RINGS:
        more = {"LOOK", "RELEASE"} if plan.kind != "overwriting" else set()
        return {"PUSH", "APPEND", "PUBLISH", "DISCARD", "TAKE", "FIRST", *more}
    recorded_as = {"SCAN": "GET", "RANGE": "LOWER_BOUND", "FIRST": "LOWER_BOUND"}
    names = {recorded_as.get(name, name) for name in plan.mix.split()}
    return names - {"GET"} if plan.kind == "set" else names


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
    # Only the owner of an object works on it; in a large structure two seldom meet.
    elif plan.kind not in ("pool", *RINGS) and plan.keys <= 24:
        assert report.overlaps > report.operations // 1000
    if plan.kind in (*QUEUES, *RINGS):
        check_books(history, checker, seen)
    for structure in history.structures:
        if isinstance(structure, Checkable):
            found = structure.check()
            assert (found.errors, found.leaked) == (0, 0)
    if plan.name.startswith(("full", "short")) and plan.kind != "overwriting":
        assert report.full > 50
    if plan.name.startswith("full"):
        assert report.present == plan.capacity
    if plan.name.startswith("growing"):
        (grown,) = history.structures
        table = ctypes.c_uint64.from_address(world.arena.base + grown.offset + TABLE_OFFSET)
        assert 64 - (table.value >> 32) >= 9  # log2 of the shortcuts
    for name in expected_operations(plan):
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


def explored(name: str, group: str) -> Mistake:
    """One that the explorer must find too; here it is looked for in the histories of a group."""
    (known,) = (mistake for mistake in EXPLORED if mistake.name == name)
    return replace(known, group=group)


# Each is found in most runs; the histories of so many runs without it say that it is not.
RUNS = 30
MISTAKES = (
    explored("a value is not looked at again after it was copied", "full map"),
    explored("a record is published before it is written", "short queue"),
    explored("a slot is given up before it is read", "short queue"),
    Mistake(
        "whatever life an entry is in, a hint leads to it",
        "large ordered map",
        {
            "(__u32)ads_load(ads_at(a, __u64, (__u32)down + pool.life)) + 1 == down >> 32;": "1;",
            "return same && !(w->link & ADS_LINK_MARK) && (__u32)ads_load(ads_at(a, __u64, entry "
            "+ pool.life)) + 1 == hint >> 32;": "return same && !(w->link & ADS_LINK_MARK);",
            "(__u32)ads_load(ads_at(a, __u64, w->start + pool.life)) + 1 != w->life)": "0)",
        },
    ),
    Mistake(
        "an iteration does not look again at what it has copied",
        "ordered map in order",
        {
            "if (ads_load(ads_link_of(a, w->entry)) != w->link) return ADS_BUDGET; /* deleted or "
            "reused while we copied": "/* deleted or reused while we copied",
        },
    ),
    Mistake(
        "who comes too late for the first finds the map empty",
        "ordered map in order",
        {
            "if (rc != ADS_ABSENT) break; rc = ADS_BUDGET; } if (!rc) ads_orderedmap_raze(": (
                "break; } if (!rc) ads_orderedmap_raze("
            ),
        },
    ),
    explored("two chunks are claimed for one number of an array", "growing array"),
    Mistake(
        "a word of an element is stored in two halves",
        "array",
        {
            "if (!rc) ads_copy_in(a, element, value, ref.value_size); return rc;": (
                "if (!rc) { ads_store(ads_at(a, __u64, element), ads_load(ads_at(a, __u64, "
                "element)) >> 32 << 32 | (__u32)ads_word(value, 0, 8)); ads_copy_in(a, element, "
                "value, ref.value_size); } return rc;"
            )
        },
    ),
    explored("a record of a ring is written after it is published", "short ring"),
    explored("a ring's record is given up before it is read", "short ring"),
    Mistake(
        "a batch is what is committed",
        "ring",
        {
            "c->end = ads_load_acquire(&ring->tail); /* A31, pairs with R31: the records are": (
                "c->end = ads_load_acquire(all ? &ring->committed : &ring->tail); /* the records "
                "are"
            )
        },
    ),
    explored("padding takes no room", "ring"),
    explored(
        "a ring writes over its oldest records before it drops them", "short overwriting ring"
    ),
    explored(
        "a consumer of an overwriting ring does not look who was faster", "short overwriting ring"
    ),
    explored("a reader does not look whether the head has passed", "short overwriting ring"),
    explored("an overwriting ring drops what is not published", "overwriting ring"),
    explored("a record is copied after it was popped", "short queue of many"),
    explored("two consumers take one record", "queue of many"),
    Mistake(
        "a producer takes a ring that another has",
        "rings of many",
        {
            "ads_forget(found); /* else compilers for BPF make a number of whether it is 0, and "
            "look at that */ return found;": "return 0;"
        },
    ),
    explored("a slot that others have passed is taken for a full ring", "queue of many"),
    explored("a removed node is linked again while it is still in its list", "intrusive lists"),
    explored("two actors claim one node", "intrusive lists"),
    explored("whatever has the order of a node is removed in its place", "intrusive lists"),
    explored("a node that another has just linked stands in its own way", "intrusive lists of few"),
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
