"""Runs the loops of a benchmark's BPF program, on one CPU or on several at the same time.

See bpf_progs/bench.h for the other side.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from arenads._core import lib
from arenads.bench.cell import Cell, Distribution, Side, Sides
from arenads.bench.measure import allowed_cpus
from arenads.bench.workshop import Workshop
from arenads.btf import ObjectFile
from arenads.btf_schema import from_btf
from arenads.errors import ArenadsError
from arenads.program import Program

__all__ = [
    "LONGEST",
    "Done",
    "Loaded",
    "Loops",
    "OrderBlock",
    "SidesDifferError",
    "declared_types",
    "expect_equal",
    "on_each",
    "together",
]

LONGEST = 1 << 16
"""Operations of a first run: the kernel ends a program's loops after some 250 ms."""

# Later runs take up to so long: they begin with caches that have other things in them.
_FITTING_NS = 25_000_000

# How much of the longest run all have to share, or the run is repeated.
_OVERLAP = 0.7
_ATTEMPTS = 4
# From when threads are made until they all begin.
_HEAD_START_NS = 1_000_000
# Runs that the kernel ended early are resumed, so often at most.
_RESUMPTIONS = 50


class SidesDifferError(ArenadsError):
    """The two sides of a cell did not do the same: their figures would mean nothing."""


class _Run(ctypes.Structure):
    """struct bench_run."""

    _fields_ = (
        ("operations", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
        ("sum", ctypes.c_uint64),
        ("start", ctypes.c_uint64),
        ("order", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("position", ctypes.c_uint32),
        ("portion", ctypes.c_uint32),
    )


class Done(NamedTuple):
    """What one CPU has done, and when it began."""

    start: int
    nanoseconds: int
    sum: int


class OrderBlock:
    """Numbers of entries in an arena, in the order in which loops come to them."""

    def __init__(self, program: Program, numbers: array[int]) -> None:
        arena, size = program.arena, 4 * len(numbers)
        arena.populate(size + 4096)
        done = program.run("bench_reserve", bytes(_Run(length=len(numbers))))
        if done.value:
            raise ArenadsError(f"no room for an order of {size} bytes", errno=-done.value)
        self.offset = int(_Run.from_buffer_copy(done.context).order)
        self.length = len(numbers)
        ctypes.memmove(arena.base + self.offset, numbers.tobytes(), size)


class _Tracer:
    """A runner of a tracing program, whose run lies in the arena; see PERF_LOOP."""

    def __init__(self, program: Program, name: str) -> None:
        self._program, self._name = program, name
        size = ctypes.sizeof(_Run)
        self.context = bytearray(size)
        self._offset = OrderBlock(program, array("I", bytes(size))).offset

    def __call__(self, context: bytes) -> int:
        place = self._program.arena.base + self._offset
        ctypes.memmove(place, context, len(context))
        done = self._program.run(self._name, struct.pack("<Q", self._offset))
        self.context[:] = ctypes.string_at(place, len(context))
        return ctypes.c_int32(done.value).value


class Loaded:
    """A loaded program with both its structures full, and the orders in which loops visit them.

    Parameters
    ----------
    program : Program
    number_of : callable, optional
        What the program is given for an index; by default the index.
    peer_fd : int
        Descriptor of the peer, if user space works on it too.
    """

    def __init__(
        self,
        program: Program,
        number_of: Callable[[int], int] | None = None,
        peer_fd: int = -1,
    ) -> None:
        self.program = program
        self.peer_fd = peer_fd
        self._number_of = number_of
        self._orders: dict[tuple[int, Distribution], OrderBlock] = {}

    def order(
        self, workshop: Workshop, entries: int, distribution: Distribution = "uniform"
    ) -> OrderBlock:
        """Return an order of entries, put into the arena when it is first asked for."""
        key = (entries, distribution)
        if key not in self._orders:
            numbers = workshop.order(entries, distribution)
            if self._number_of is not None:
                numbers = array("I", map(self._number_of, numbers))
            self._orders[key] = OrderBlock(self.program, numbers)
        return self._orders[key]

    def sides(self, cell: Cell, workshop: Workshop, empty: str = "empty") -> Sides:
        """Return the loops "ours_OPERATION" and "peer_OPERATION", once they found the same."""
        operation = cell.name.rpartition(".")[2]
        order = self.order(workshop, cell.entries, cell.distribution)
        loops = Loops(self.program, order, cell.cpus, shared=operation.startswith("lookup"))
        few = min(cell.entries // cell.cpus, 1000)
        sums = [loops.do(f"{side}_{operation}", few, f"check {side}") for side in ("ours", "peer")]
        expect_equal(cell.title, *sums)
        return Sides(
            ours=loops.side(f"ours_{operation}", "ours"),
            peer=loops.side(f"peer_{operation}", "peer"),
            empty=loops.side(empty, "empty"),
        )


class _Lane:
    """What one CPU goes through: an order, or part of one, and how far it has come in it."""

    def __init__(self, cpu: int, order: int, length: int, portion: int, first: int) -> None:
        self.cpu = cpu
        self.order = order
        self.length = length
        self.portion = portion
        self.positions: dict[str, int] = defaultdict(lambda: first)


class Loops:
    """The loops of one program over one order, on one CPU or several.

    Parameters
    ----------
    program : Program
    order : OrderBlock
    cpus : int
        They each get a part of the order, and every number of it is one CPU's.
    shared : bool
        Instead each gets all of it, from another place on, for what only reads: so they have to do
        with as many entries as one CPU alone, and their caches with as much.
    portion : int
        Of a part; see BENCH_TURNS in bench.h.
    longest : int
        Operations of one run at most, and then, if they took little time, of a multiple of that.
    """

    def __init__(
        self,
        program: Program,
        order: OrderBlock,
        cpus: int = 1,
        portion: int = 1,
        longest: int = LONGEST,
        *,
        shared: bool = False,
    ) -> None:
        self._program = program
        share = order.length // cpus
        self._lanes = [
            _Lane(cpu, order.offset, order.length, portion, share * number)
            if shared
            else _Lane(cpu, order.offset + 4 * share * number, share, portion, 0)
            for number, cpu in enumerate(allowed_cpus()[-cpus:])
        ]
        self._runners: dict[tuple[str, int], Callable[..., int]] = {}
        self._longest = longest - longest % portion
        self._fitting: dict[str, int] = {}  # operations of a run, by program

    def side(self, name: str, track: str) -> Side:
        """Return a side that runs the program `name`, on all CPUs at once.

        `track` names what goes through the order with it: each track has its own position.
        """

        def run(operations: int) -> int:
            took = 0
            longest = self._fitting.get(name, self._longest)
            for now in _portions(operations, longest):
                took += self._run_all(name, now, track)
            if operations >= self._longest:
                each = took * self._longest // operations
                self._fitting[name] = self._longest * max(1, _FITTING_NS // max(each, 1))
            return took

        return run

    def do(self, name: str, operations: int, track: str) -> int:
        """Do so many operations for each CPU, one after the other; the sum of what they found."""
        return sum(
            self._run_one(lane, name, now, track, 0).sum
            for lane in self._lanes
            for now in _portions(operations, self._longest)
        )

    def _run_all(self, name: str, operations: int, track: str) -> int:
        """Mean nanoseconds of a CPU."""
        for _ in range(_ATTEMPTS):
            runs = self.once(name, operations, track)
            if together(runs):
                break
        return sum(run.nanoseconds for run in runs) // len(runs)

    def once(self, name: str, operations: int, track: str) -> list[Done]:
        """Run the program `name` on all CPUs at once, whether or not they came together."""
        if len(self._lanes) == 1:
            return [self._run_one(self._lanes[0], name, operations, track, 0)]
        return self._run_together(name, operations, track)

    def _run_together(self, name: str, operations: int, track: str) -> list[Done]:
        lanes = {lane.cpu: lane for lane in self._lanes}
        return on_each(
            list(lanes),
            lambda cpu, start: self._run_one(lanes[cpu], name, operations, track, start),
        )

    def _run_one(self, lane: _Lane, name: str, operations: int, track: str, start: int) -> Done:
        key = (name, lane.cpu)
        if key not in self._runners:
            if self._program.programs[name] == "syscall":
                self._runners[key] = self._program.runner(name, ctypes.sizeof(_Run))
            else:
                self._runners[key] = _Tracer(self._program, name)
        runner = self._runners[key]
        took = total = done = 0
        began = start
        for _ in range(_RESUMPTIONS):
            run = _Run(
                operations=operations - done,
                start=start,
                order=lane.order,
                length=lane.length,
                position=lane.positions[track],
                portion=lane.portion,
            )
            code = runner(bytes(run))
            if code:
                break
            run = _Run.from_buffer_copy(runner.context)  # type: ignore[attr-defined]
            lane.positions[track] = run.position
            began = began if done else run.start
            took += run.nanoseconds
            total += run.sum
            done += run.operations
            if done >= operations:
                return Done(began, took, total)
        else:
            code = lib.ADS_BUDGET
        raise ArenadsError(
            f"program {name!r} of {self._program.path.name} ended with {code}"
            f" ({os.strerror(-code)}) after {done} of {operations} operations",
            errno=-code,
        )


def _portions(operations: int, longest: int) -> Iterator[int]:
    for start in range(0, operations, longest):
        yield min(longest, operations - start)


def on_each(cpus: Sequence[int], work: Callable[[int, int], Done]) -> list[Done]:
    """Return `work(cpu, start)` of each CPU, in threads there that begin together, at `start`."""
    start = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + _HEAD_START_NS

    def run(cpu: int) -> Done:
        os.sched_setaffinity(0, {cpu})
        return work(cpu, start)

    with ThreadPoolExecutor(len(cpus)) as threads:
        return list(threads.map(run, cpus))


def together(runs: list[Done]) -> bool:
    """Whether CPUs ran at the same time, but for a little."""
    begin = max(run.start for run in runs)
    end = min(run.start + run.nanoseconds for run in runs)
    return end - begin >= _OVERLAP * max(run.nanoseconds for run in runs)


def declared_types(built: Path, name: str) -> dict[str, Any]:
    """Return the key and value types that a BPF object declares for a structure."""
    file = ObjectFile.open(built)
    found = file.declarations[name]
    records = {"key": found.key, "value": found.value}
    types = {}
    for what, record in records.items():
        if record is not None:
            types[what] = from_btf(file.btf, record.id)
    return types


def expect_equal(name: str, ours: object, peer: object) -> None:
    """Raise if what both sides found differs."""
    if ours != peer:
        raise SidesDifferError(
            f"{name}: expected both sides to find the same, found {ours!r:.60} and {peer!r:.60}",
            expected=peer,
            found=ours,
        )
