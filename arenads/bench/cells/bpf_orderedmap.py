"""Inside BPF programs: the ordered map against the kernel's tree (bpf_rbtree) under its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from arenads.arena import Arena
from arenads.bench.cell import Cell, Sides
from arenads.bench.loops import Loaded, Loops, declared_types, expect_equal
from arenads.bench.order import key_of
from arenads.bench.workshop import Workshop
from arenads.program import load

__all__ = ["cells"]

ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
SIDES = ("ours", "peer")


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


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides do the operation for one key after the other."""
    key = ("bpf.orderedmap", cell.entries)
    yield workshop.shared(key, lambda: filled(cell, workshop)).sides(cell, workshop)


@contextmanager
def open_turns(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides take what is first and insert in turn, and one of both is measured."""
    operation = cell.name.rpartition(".")[2]
    # A map of its own: keys change, and soon those of one side are others than the peer's.
    key = ("bpf.orderedmap, in turns", cell.entries, operation)
    both = workshop.shared(key, lambda: filled(cell, workshop))
    portion = max(1, min(cell.entries // 16, 1 << 12))
    loops = Loops(both.program, both.order(workshop, cell.entries), portion=portion)
    absent = portion if operation == "insert" else 0
    for what in ("clear", f"{operation}_turns"):
        count = absent if what == "clear" else portion
        sums = [loops.do(f"{side}_{what}", count, f"{side} {what}") for side in SIDES]
        expect_equal(f"{what} of {cell.title}", *sums)
    yield Sides(
        ours=loops.side(f"ours_{operation}_turns", "ours"),
        peer=loops.side(f"peer_{operation}_turns", "peer"),
        empty=loops.side("empty_turns", "empty"),
        step=portion,
    )
    for side in SIDES:
        back = loops.do(f"{side}_push", absent, side)
        expect_equal(f"{side}_push of {cell.title}", back, absent)


OPERATIONS: dict[str, Any] = {
    "lookup_hit": open_loops,
    "first": open_loops,
    "insert": open_turns,
    "pop_first": open_turns,
}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries in ENTRIES:
        for operation, opener in OPERATIONS.items():
            yield Cell(
                name=f"bpf.orderedmap.{operation}",
                peer="bpf_rbtree",
                open=opener,
                entries=entries,
                key_size=8,
                value_size=8,
                distribution="uniform",
                needs=frozenset({"kernel", "bpf_rbtree"}),
                quick=entries == 10_000,
            )
