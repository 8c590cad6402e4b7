"""Inside BPF programs: the ordered map against the kernel's tree (bpf_rbtree) under its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from arenads.arena import Arena
from arenads.bench.cell import Cell, Sides
from arenads.bench.loops import Loaded, Loops, declared_types, expect_equal
from arenads.bench.order import key_of
from arenads.bench.workshop import Workshop
from arenads.program import load

__all__ = ["cells"]

ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
SIDES = ("ours", "peer")
_WALKS = 512  # in one run, of a hundred entries each


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Loaded]:
    """Load the program with an ordered map, and fill that and the tree."""
    built = workshop.program("bench_orderedmap")
    with Arena.create("4GiB", engine="kernel") as arena:
        # Made here: the program shares what it finds, however many entries that has.
        arena.orderedmap("map", **declared_types(built, "map"), max_entries=cell.entries)
        with load(built, arena=arena) as program:
            both = Loaded(program, key_of)
            loops = Loops(program, both.order(workshop, cell.entries))
            arena.populate(cell.entries * 160 + (1 << 20))
            for side in SIDES:
                done = loops.do(f"{side}_fill", cell.entries, side)
                expect_equal(f"{side}_fill of {cell.title}", done, cell.entries)
            yield both


def shared(cell: Cell, workshop: Workshop) -> Loaded:
    """Return what `filled` gives, of the cell before if that has the same map."""
    return workshop.shared(("bpf.orderedmap", cell.entries), lambda: filled(cell, workshop))


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides do the operation for one key after the other."""
    yield shared(cell, workshop).sides(cell, workshop)


@contextmanager
def open_range(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides visit the hundred entries behind one key after the other."""
    both = shared(cell, workshop)
    loops = Loops(both.program, both.order(workshop, cell.entries), longest=_WALKS)
    few = min(cell.entries, 1000)
    sums = [loops.do(f"{side}_range", few, f"check {side}") for side in SIDES]
    expect_equal(cell.title, *sums)
    yield Sides(ours=loops.side("ours_range", "ours"), peer=loops.side("peer_range", "peer"))


@contextmanager
def open_delete(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides delete keys and put others back in turn, and deleting is measured."""
    both = shared(cell, workshop)
    portion = max(1, min(cell.entries // 16, 1 << 12))
    loops = Loops(both.program, both.order(workshop, cell.entries), portion=portion)
    for side in SIDES:
        for what, count in (("take", 2 * portion), ("delete_turns", portion)):
            track = f"take {side}" if what == "take" else side
            done = loops.do(f"{side}_{what}", count, track)
            expect_equal(f"{side}_{what} of {cell.title}", done, 2 * portion)
    yield _turns(loops, "delete", portion)
    for side in SIDES:
        back = loops.do(f"{side}_fill", 2 * portion, side)
        expect_equal(f"{side}_fill of {cell.title}", back, 2 * portion)


@contextmanager
def open_turns(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides take what is first and insert in turn, and one of both is measured."""
    operation = cell.name.rpartition(".")[2]
    # A map of its own: keys change, and soon those of one side are others than the peer's.
    key = ("bpf.orderedmap, in turns", cell.entries, cell.cpus, operation)
    both = workshop.shared(key, lambda: filled(cell, workshop))
    portion = max(1, min(cell.entries // cell.cpus // 16, 1 << 12))
    loops = Loops(both.program, both.order(workshop, cell.entries), cell.cpus, portion)
    absent = portion if operation == "insert" else 0
    for what in ("clear", f"{operation}_turns"):
        count = absent if what == "clear" else portion
        sums = [loops.do(f"{side}_{what}", count, f"{side} {what}") for side in SIDES]
        expect_equal(f"{what} of {cell.title}", *sums)
    yield _turns(loops, operation, portion)
    for side in SIDES:
        back = loops.do(f"{side}_push", absent, side)
        expect_equal(f"{side}_push of {cell.title}", back, absent * cell.cpus)


def _turns(loops: Loops, operation: str, portion: int) -> Sides:
    return Sides(
        ours=loops.side(f"ours_{operation}_turns", "ours"),
        peer=loops.side(f"peer_{operation}_turns", "peer"),
        empty=loops.side("empty_turns", "empty"),
        step=portion,
    )


OPERATIONS: dict[str, Any] = {
    "lookup_hit": open_loops,
    "lookup_miss": open_loops,
    "update_in_place": open_loops,
    "first": open_loops,
    "range": open_range,
    "delete": open_delete,
    "insert": open_turns,
    "pop_first": open_turns,
}
_ZIPF = ("lookup_hit", "update_in_place")
_TWO_CPUS = ("lookup_hit", "insert")
# With so many entries a map takes seconds to fill: only some of those that share one.
_QUICK = {10_000: tuple(OPERATIONS), 1_000_000: ("lookup_hit", "lookup_miss", "delete")}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries in ENTRIES:
        for operation, opener in OPERATIONS.items():
            made = Cell(
                name=f"bpf.orderedmap.{operation}",
                peer="bpf_rbtree",
                open=opener,
                entries=entries,
                key_size=8,
                value_size=8,
                distribution="uniform",
                needs=frozenset({"kernel", "bpf_rbtree"}),
                quick=operation in _QUICK.get(entries, ()),
            )
            yield made
            if operation in _ZIPF:
                yield msgspec.structs.replace(made, distribution="zipf", quick=False)
            if operation in _TWO_CPUS:
                yield msgspec.structs.replace(made, cpus=2, quick=made.quick and entries == 10_000)
