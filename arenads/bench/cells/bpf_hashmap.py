"""Inside BPF programs: the hash map against the kernel's, of the same keys, values and size."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from arenads.arena import Arena
from arenads.bench.cell import Cell, Concurrent, Need, Sides
from arenads.bench.cells.c_hashmap import library as hashmap_library
from arenads.bench.loops import (
    LONGEST,
    Loaded,
    Loops,
    declared_types,
    expect_equal,
)
from arenads.bench.measure import allowed_cpus
from arenads.bench.order import key_of
from arenads.bench.userspace import Functions, Neighbour
from arenads.bench.workshop import Workshop
from arenads.libbpf import KernelMap, create_map
from arenads.program import load

__all__ = ["NEIGHBOURS", "beside_user_space", "cells"]

HASH = 1  # BPF_MAP_TYPE_HASH
NO_PREALLOC = 1
PEERS = {"hash": 0, "hash, not preallocated": NO_PREALLOC}

ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
KEY_SIZES = (8, 16, 40)
VALUE_SIZES = (8, 64, 256)
# Which functions in accompany() a neighbour calls: this one and the next, which is the peer's.
NEIGHBOURS: dict[Concurrent, int] = {"reader": 0, "writer": 2}
OPERATIONS = (
    "lookup_hit",
    "lookup_miss",
    "update_in_place",
    "replace",
    "insert",
    "delete",
    "iterate",
)
# With keys that come again and again; what inserts or deletes needs each of them once.
_ZIPF = ("lookup_hit", "update_in_place", "replace")


def defines(cell: Cell) -> list[str]:
    """Return the definitions that bpf_progs/bench_hashmap.bpf.c is compiled with."""
    if (cell.key_size, cell.value_size) == (8, 8):
        return []  # as it comes with the package
    return [f"KEY_SIZE={cell.key_size}", f"VALUE_SIZE={cell.value_size}"]


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Loaded]:
    """Load the program with an arena map and its peer, and fill both."""
    entries, sizes = cell.entries, (cell.key_size, cell.value_size)
    built = workshop.program("bench_hashmap", defines(cell))
    # Entries with their links, the tables that grow on the way, and room to spare.
    needed = entries * (sum(sizes) + 128) + (1 << 20)
    with (
        create_map(HASH, *sizes, entries, PEERS[cell.peer], name="bench") as peer,
        Arena.create("4GiB", engine="kernel") as arena,
    ):
        # Made here, for the program declares no number of entries: it shares what it finds.
        types = declared_types(built, "map")
        # Its table is made at once, as the kernel's is.
        arena.hashmap("map", **types, max_entries=entries, initial_entries=entries)
        with load(built, arena=arena, maps={"peer": peer.fd}) as program:
            both = Loaded(program, key_of, peer.fd)
            loops = Loops(program, both.order(workshop, entries))
            arena.populate(needed)
            for name in ("ours_fill", "peer_fill"):
                done = loops.do(name, entries, name)
                expect_equal(f"{name} of {cell.title}", done, entries)
            yield both


def shared(cell: Cell, workshop: Workshop) -> Loaded:
    """Return what `filled` gives, of the cell before if that has the same maps."""
    key = ("bpf.hashmap", cell.peer, cell.entries, cell.key_size, cell.value_size)
    return workshop.shared(key, lambda: filled(cell, workshop))


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides do the operation for one key after the other."""
    operation = cell.name.rpartition(".")[2]
    empty = {"lookup_miss": "empty_lookup_miss", "replace": "empty_replace"}
    both = shared(cell, workshop)
    sides = both.sides(cell, workshop, empty.get(operation, "empty"))
    if not cell.concurrent:
        yield sides
        return
    code = hashmap_library(workshop, cell.key_size, cell.value_size)
    numbers = array("I", map(key_of, workshop.order(cell.entries, "uniform")))
    with beside_user_space(cell, sides, both, code, "map", numbers) as accompanied:
        yield accompanied


@contextmanager
def beside_user_space(
    cell: Cell, sides: Sides, both: Loaded, code: Any, structure: str, numbers: array[int]
) -> Iterator[Sides]:
    """Have user space read or write the same structures meanwhile, from C, on the next CPU.

    A million operations a second on either side, as far as bpf() can keep up. `code` has the
    function accompany(), and `numbers` are of the entries that it comes to.
    """
    program = both.program
    with KernelMap(os.dup(both.peer_fd)) as peer:
        functions = Functions(code, program.arena, program[structure].offset, peer.fd, numbers)
        made = Neighbour(functions, allowed_cpus()[-1 - cell.cpus])
        try:
            first = NEIGHBOURS[cell.concurrent]
            yield msgspec.structs.replace(
                sides,
                ours=made.beside(sides.ours, first),
                peer=made.beside(sides.peer, first + 1),
            )
        finally:
            made.close()


@contextmanager
def open_turns(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides insert and delete in turn, and one of both is measured."""
    operation = cell.name.rpartition(".")[2]
    both = shared(cell, workshop)
    order = both.order(workshop, cell.entries)
    # At most so many that a run ends in time, and that the maps stay nearly full.
    portion = max(1, min(cell.entries // cell.cpus // 16, LONGEST // 4))
    loops = Loops(both.program, order, cell.cpus, portion)
    sides = ("ours", "peer")
    for side in sides:
        absent = loops.do(f"{side}_clear", 2 * portion, "clear " + side)
        expect_equal(f"{side}_clear of {cell.title}", absent, 2 * portion * cell.cpus)
        turned = loops.do(f"{side}_{operation}_turns", portion, side)
        expect_equal(f"{side} of {cell.title}", turned, 2 * portion * cell.cpus)
    yield Sides(
        ours=loops.side(f"ours_{operation}_turns", "ours"),
        peer=loops.side(f"peer_{operation}_turns", "peer"),
        empty=loops.side("empty_turns", "empty"),
        step=portion,
    )
    for side in sides:
        back = loops.do(f"{side}_fill", 2 * portion, side)
        expect_equal(f"{side}_fill of {cell.title}", back, 2 * portion * cell.cpus)


@contextmanager
def open_iterate(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides visit each entry and copy its value."""
    both = shared(cell, workshop)
    order = both.order(workshop, cell.entries)
    loops = Loops(both.program, order, longest=cell.entries)  # whole passes
    sums = [loops.do(f"{side}_iterate", cell.entries, side) for side in ("ours", "peer")]
    expect_equal(cell.title, *sums)
    yield Sides(
        ours=loops.side("ours_iterate", "ours"),
        peer=loops.side("peer_iterate", "peer"),
        step=cell.entries,
    )


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries in ENTRIES:
        for key_size in KEY_SIZES:
            for value_size in VALUE_SIZES:
                if value_size > 8 and key_size > 8:
                    continue  # keys and values are varied one at a time
                for peer in PEERS:
                    yield from _of_one_map(entries, key_size, value_size, peer)


def _of_one_map(entries: int, key_size: int, value_size: int, peer: str) -> Iterator[Cell]:
    plain = (key_size, value_size) == (8, 8)
    needs: frozenset[Need] = frozenset({"kernel"} if plain else {"kernel", "bpf compiler"})
    quick = plain and peer == "hash" and entries in (10_000, 1_000_000)
    base: dict[str, Any] = {
        "peer": peer,
        "entries": entries,
        "key_size": key_size,
        "value_size": value_size,
        "needs": needs,
    }
    for operation in OPERATIONS:
        made = Cell(
            name=f"bpf.hashmap.{operation}",
            open=_OPENERS.get(operation, open_loops),
            distribution="" if operation == "iterate" else "uniform",
            quick=quick,
            **base,
        )
        yield made
        if not plain or operation == "iterate":
            continue
        if operation in _ZIPF:
            yield msgspec.structs.replace(made, distribution="zipf", quick=False)
        yield msgspec.structs.replace(
            made, cpus=2, quick=quick and operation in _ZIPF and entries == 10_000
        )
        if operation in _OPENERS:
            continue
        for concurrent in NEIGHBOURS:
            yield msgspec.structs.replace(
                made,
                concurrent=concurrent,
                needs=needs | {"host compiler"},
                quick=quick and operation == "lookup_hit",
            )


_OPENERS = {"insert": open_turns, "delete": open_turns, "iterate": open_iterate}
