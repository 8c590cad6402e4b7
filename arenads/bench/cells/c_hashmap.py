"""From user space in C: the hash map by memory access, the kernel's by bpf(), also in batches."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from arenads.annotations import Array, u64
from arenads.arena import Arena, Engine
from arenads.bench.cell import Cell, Distribution, Need, Side, Sides
from arenads.bench.floor import khash
from arenads.bench.floor import table as floor_table
from arenads.bench.loops import Done, expect_equal, on_each, together
from arenads.bench.measure import allowed_cpus
from arenads.bench.order import key_of
from arenads.bench.userspace import Functions
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map

__all__ = ["cells", "library"]

HASH = 1  # BPF_MAP_TYPE_HASH
ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
SIZES = ((8, 8), (16, 8), (40, 8), (8, 64), (8, 256))
NO_PREALLOC = 1
SINGLE, BATCHES, ALLOCATING = "bpf()", "bpf(), batches", "bpf(), not preallocated"
GLIB, KHASH = "floor: GHashTable", "floor: khash"
FLOORS: dict[str, tuple[Need, str]] = {GLIB: ("glib", "floor"), KHASH: ("khash", "khash")}
"""What each needs, and which C file has its loops."""
PEERS = {SINGLE: "peer", BATCHES: "batch", ALLOCATING: "peer", GLIB: "floor", KHASH: "floor"}
OPERATIONS = {
    "lookup_hit": (SINGLE,),  # there is no batch of keys that are looked up
    "lookup_miss": (SINGLE,),
    "update_in_place": (SINGLE,),
    "replace": (SINGLE, BATCHES),
    "insert": (SINGLE, BATCHES),
    "delete": (SINGLE, BATCHES),
    "iterate": (SINGLE, BATCHES),
    "sweep": (BATCHES,),
}
# With keys that come again and again; what inserts or deletes needs each of them once.
_ZIPF = ("lookup_hit", "update_in_place", "replace")
_ALLOCATING = ("lookup_hit", "replace", "insert", "delete")
_TWO_CPUS = ("lookup_hit", "replace", "insert")
_ATTEMPTS = 4
_FLOOR = ("lookup_hit", "lookup_miss", "update_in_place", "replace", "insert", "delete")


def library(workshop: Workshop, key_size: int, value_size: int, name: str = "hashmap") -> Any:
    """Return the compiled hashmap.c, or that of a floor, for these sizes."""
    return workshop.library(name, [f"KEY_SIZE={key_size}", f"VALUE_SIZE={value_size}"])


def words(size: int) -> object:
    """Return a C type of so many bytes."""
    return u64 if size == 8 else Array[u64, size // 8]


class Maps(NamedTuple):
    """Both maps, full: the loops over all keys, and how those over other numbers are made."""

    functions: Functions
    over: Callable[[array[int]], Functions]


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Maps]:
    """Make both maps and fill them."""
    entries, sizes = cell.entries, (cell.key_size, cell.value_size)
    floor = cell.peer in FLOORS
    code = library(workshop, *sizes, FLOORS[cell.peer][1] if floor else "hashmap")
    flags = NO_PREALLOC if cell.peer == ALLOCATING else 0
    with ExitStack() as stack:
        fd, table = -1, 0
        if cell.peer == GLIB:
            table = stack.enter_context(floor_table(entries, *sizes))
        elif cell.peer == KHASH:
            table = stack.enter_context(khash(code, entries))
        else:
            fd = stack.enter_context(create_map(HASH, *sizes, entries, flags, name="bench")).fd
        engine: Engine = "native" if floor else "kernel"
        arena = stack.enter_context(Arena.create("4GiB", engine=engine))
        key, value = map(words, sizes)
        ours = arena.hashmap(
            "map", key=key, value=value, max_entries=entries, initial_entries=entries
        )
        # At most so many that the maps stay nearly full, whichever CPU they are of.
        portion = max(1, min(entries // 16 // cell.cpus, 1 << 14))

        def over(numbers: array[int]) -> Functions:
            return Functions(code, arena, ours.offset, fd, numbers, mapped=table, portion=portion)

        functions = over(_numbers(cell, workshop, "uniform"))
        for name in ("ours_fill", "floor_fill" if floor else "peer_fill"):
            expect_equal(name, functions.do(name, entries, name), entries)
        if cell.distribution == "zipf":
            functions = over(_numbers(cell, workshop, "zipf"))
        yield Maps(functions, over)


def _numbers(cell: Cell, workshop: Workshop, distribution: Distribution) -> array[int]:
    return array("I", map(key_of, workshop.order(cell.entries, distribution)))


def maps(cell: Cell, workshop: Workshop) -> Maps:
    """Return what `filled` gives, of the cell before if that has the same maps."""
    sizes = (cell.entries, cell.key_size, cell.value_size)
    which = cell.peer if cell.peer in (*FLOORS, ALLOCATING) else ""
    key = ("c.hashmap", *sizes, which, cell.distribution == "zipf", cell.cpus)
    return workshop.shared(key, lambda: filled(cell, workshop))


def shared(cell: Cell, workshop: Workshop) -> Functions:
    """Return the loops of one CPU over them."""
    return maps(cell, workshop).functions


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides do the operation for one key after the other."""
    operation, peer = cell.name.rpartition(".")[2], PEERS[cell.peer]
    functions = shared(cell, workshop)
    functions.check(operation, min(cell.entries, 1000), "ours", peer)
    yield Sides(
        ours=functions.side(f"ours_{operation}", "ours"),
        peer=functions.side(f"{peer}_{operation}", "peer"),
        empty=functions.side("empty", "empty"),
    )


@contextmanager
def open_turns(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides insert and delete in turn, and one of both is measured."""
    operation, peer = cell.name.rpartition(".")[2], PEERS[cell.peer]
    functions = shared(cell, workshop)
    absent = 2 * functions.portion
    # Of this cell alone: what is absent begins where the track is.
    single = "floor" if cell.peer in FLOORS else "peer"
    tracks = {side: f"{side} {cell.name} {cell.peer}" for side in ("ours", single)}
    for side, track in tracks.items():
        done = functions.do(f"{side}_clear", absent, f"clear {track}")
        expect_equal(f"{side}_clear", done, absent)
    for side, prefix in (("ours", "ours"), (single, peer)):
        name = f"{prefix}_{operation}_turns"
        expect_equal(name, functions.do(name, functions.portion, tracks[side]), absent)
    yield Sides(
        ours=functions.side(f"ours_{operation}_turns", tracks["ours"]),
        peer=functions.side(f"{peer}_{operation}_turns", tracks[single]),
        empty=functions.side("empty_turns", "empty"),
        step=functions.portion,
    )
    for side, track in tracks.items():
        expect_equal(f"{side}_fill", functions.do(f"{side}_fill", absent, track), absent)


@contextmanager
def open_together(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """As with one CPU, in a thread on each of two: that write, each to keys of its own."""
    operation = cell.name.rpartition(".")[2]
    made = maps(cell, workshop)
    numbers = _numbers(cell, workshop, "uniform")
    half = len(numbers) // 2
    if operation.startswith("lookup"):
        parts = [numbers, numbers[half:] + numbers[:half]]
    else:
        parts = [numbers[:half], numbers[half:]]
    lanes = [made.over(part) for part in parts]
    portion = lanes[0].portion
    turns = operation == "insert"
    absent = 2 * portion if turns else 0
    suffix = f"{operation}_turns" if turns else operation
    few = portion if turns else min(half, 1000)
    for lane in lanes:
        for side in ("ours", "peer"):
            done = lane.do(f"{side}_clear", absent, f"clear {side}")
            expect_equal(f"{side}_clear", done, absent)
        found = [lane.do(f"{side}_{suffix}", few, side) for side in ("ours", "peer")]
        expect_equal(cell.title, *found)
    yield Sides(
        ours=_together(lanes, f"ours_{suffix}", "ours"),
        peer=_together(lanes, f"peer_{suffix}", "peer"),
        empty=_together(lanes, "empty_turns" if turns else "empty", "empty"),
        step=portion if turns else 1,
    )
    for lane in lanes:
        for side in ("ours", "peer"):
            expect_equal(f"{side}_fill", lane.do(f"{side}_fill", absent, side), absent)


def _together(lanes: list[Functions], name: str, track: str) -> Side:
    """Return a side that calls the function `name` for each lane, on a CPU each."""
    by_cpu = dict(zip(allowed_cpus()[-len(lanes) :], lanes, strict=True))

    def run(operations: int) -> int:
        def work(cpu: int, start: int) -> Done:
            run = by_cpu[cpu].call(name, operations, track, start)
            return Done(int(run.start), int(run.nanoseconds), int(run.sum))

        for _ in range(_ATTEMPTS):
            runs = on_each(list(by_cpu), work)
            if together(runs):
                break
        return sum(done.nanoseconds for done in runs) // len(runs)

    return run


@contextmanager
def open_drain(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides take out each entry with its value; the maps are filled again off the clock."""
    functions = shared(cell, workshop)
    functions.check("drain", cell.entries, "ours", "batch")

    def drained(name: str, fill: str) -> Side:
        def run(operations: int) -> int:
            took = 0
            for _ in range(operations // cell.entries):
                took += int(functions.call(name, cell.entries, name).nanoseconds)
                expect_equal(fill, functions.do(fill, cell.entries, name), cell.entries)
            return took

        return run

    for fill in ("ours_fill", "peer_fill"):
        expect_equal(fill, functions.do(fill, cell.entries, fill), cell.entries)
    yield Sides(
        ours=drained("ours_drain", "ours_fill"),
        peer=drained("batch_drain", "peer_fill"),
        step=cell.entries,
    )


@contextmanager
def open_iterate(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides copy each key and value: one by one, or as fast as all of them can be had."""
    operation, peer = cell.name.rpartition(".")[2], PEERS[cell.peer]
    functions = shared(cell, workshop)
    functions.check(operation, cell.entries, "ours", peer)
    yield Sides(
        ours=functions.side(f"ours_{operation}", "ours"),
        peer=functions.side(f"{peer}_{operation}", "peer"),
        step=cell.entries if operation == "sweep" else 1,
    )


@contextmanager
def open_fill(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides fill a new map; ours starts small and grows on the way, as by default."""
    sizes = (cell.key_size, cell.value_size)
    numbers = array("I", map(key_of, workshop.order(cell.entries, "uniform")))
    code = library(workshop, *sizes)

    def new(name: str, operations: int) -> int:
        took = 0
        for _ in range(operations // cell.entries):
            with (
                create_map(HASH, *sizes, cell.entries, name="bench") as peer,
                Arena.create("1GiB", engine="kernel") as arena,
            ):
                key, value = map(words, sizes)
                ours = arena.hashmap("map", key=key, value=value, max_entries=cell.entries)
                functions = Functions(code, arena, ours.offset, peer.fd, numbers)
                took += functions.side(name, name)(cell.entries)
        return took

    yield Sides(
        ours=lambda operations: new("ours_fill", operations),
        peer=lambda operations: new("peer_fill", operations),
        step=cell.entries,
    )


_OPENERS = {
    "insert": open_turns,
    "delete": open_turns,
    "iterate": open_iterate,
    "sweep": open_iterate,
}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries in ENTRIES:
        for key_size, value_size in SIZES:
            plain = (key_size, value_size) == (8, 8)
            base: dict[str, Any] = {
                "entries": entries,
                "key_size": key_size,
                "value_size": value_size,
                "needs": frozenset({"kernel", "host compiler"}),
                "quick": plain and entries in (10_000, 1_000_000),
            }

            def cell(operation: str, peer: str, base: dict[str, Any] = base, **more: Any) -> Cell:
                made: dict[str, Any] = {
                    "open": _OPENERS.get(operation, open_loops),
                    "distribution": "uniform",
                    **base,
                    **more,
                }
                return Cell(name=f"c.hashmap.{operation}", peer=peer, **made)

            for operation, peers in OPERATIONS.items():
                for peer in peers:
                    order = "" if operation in ("iterate", "sweep") else "uniform"
                    yield cell(operation, peer, distribution=order)
            if not plain:
                continue
            for operation in _ZIPF:
                yield cell(operation, SINGLE, distribution="zipf", quick=False)
            for floor, (need, _) in FLOORS.items():
                needs = frozenset({"host compiler", need})
                for operation in _FLOOR:
                    quick = operation == "lookup_hit" and entries == 10_000
                    yield cell(operation, floor, needs=needs, quick=quick)
            for operation in _ALLOCATING:
                yield cell(operation, ALLOCATING, quick=False)
            quick = entries == 10_000
            for operation in _TWO_CPUS:
                yield cell(operation, SINGLE, open=open_together, cpus=2, quick=quick)
            if entries <= 100_000:
                whole: dict[str, Any] = {"distribution": "", "quick": quick}
                yield cell("drain", BATCHES, open=open_drain, **whole)
                yield cell("fill", SINGLE, open=open_fill, **whole)
