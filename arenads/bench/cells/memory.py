"""Memory held and time to create: a map for a million entries, filled to some part.

Ours is counted in pages that the arena has, with what it keeps ahead of need by default; the
kernel's maps in what the kernel says of them (`memlock` in the fdinfo of the map).
"""

from __future__ import annotations

import re
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arenads.annotations import Array, u64
from arenads.arena import Arena
from arenads.bench.cell import Amounts, Cell, Side, Sides
from arenads.bench.order import key_of
from arenads.bench.workshop import Workshop
from arenads.codec import Codec
from arenads.errors import ArenadsError
from arenads.libbpf import KernelMap, create_map

__all__ = ["cells"]

HASH, ARRAY, NO_PREALLOC = 1, 2, 1
ENTRIES = 1_000_000
VALUE_SIZE = 64
VALUE_TYPE: Any = Array[u64, VALUE_SIZE // 8]
VALUE = tuple(range(VALUE_SIZE // 8))
FILLS = (0, 1, 10, 50, 100)
PEERS: dict[str, Callable[[int], KernelMap]] = {
    "hash": lambda entries: create_map(HASH, 8, VALUE_SIZE, entries, name="bench"),
    "hash, not preallocated": lambda entries: create_map(
        HASH, 8, VALUE_SIZE, entries, NO_PREALLOC, name="bench"
    ),
    "array": lambda entries: create_map(ARRAY, 4, VALUE_SIZE, entries, name="bench"),
}


def kernel_bytes(fd: int) -> int:
    """Return what the kernel holds for a map."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    found = re.search(r"^memlock:\s*(\d+)$", text, re.M)
    if found is None:
        raise ArenadsError("this kernel does not say how much memory a map takes")
    return int(found[1])


@contextmanager
def filled(entries: int, indexes: array[int]) -> Iterator[int]:
    """Fill ours, as it is by default: it grows on the way. Yields the bytes of its arena."""
    with Arena.create("1GiB", engine="kernel") as arena:
        ours = arena.hashmap("map", key=u64, value=VALUE_TYPE, max_entries=entries)
        ours.update((key_of(index), VALUE) for index in indexes)
        if len(ours) != len(indexes):
            raise ArenadsError(f"expected {len(indexes)} entries, found {len(ours)}")
        yield arena.populated


@contextmanager
def open_bytes(cell: Cell, workshop: Workshop) -> Iterator[Amounts]:
    """Fill both to the part that the cell's name says."""
    count = cell.entries * int(cell.name.rpartition("_")[2]) // 100
    indexes = workshop.order(cell.entries, "uniform")[:count]
    key = ("memory.hashmap", cell.entries, count)
    ours = workshop.shared(key, lambda: filled(cell.entries, indexes))
    with PEERS[cell.peer](cell.entries) as peer:
        packed = Codec(VALUE_TYPE).pack(VALUE)
        width, of_index = (4, int) if cell.peer == "array" else (8, key_of)
        for index in indexes:
            peer.update(of_index(index).to_bytes(width, sys.byteorder), packed)
        yield Amounts(ours=ours, peer=kernel_bytes(peer.fd))


@contextmanager
def open_create(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Make an empty map: ours with an arena of its own; what takes it away is not counted."""

    def create_ours() -> Arena:
        arena = Arena.create("1GiB", engine="kernel")
        arena.hashmap("map", key=u64, value=Array[u64, VALUE_SIZE // 8], max_entries=cell.entries)
        return arena

    def timed(create: Callable[[], Arena | KernelMap]) -> Side:
        def run(operations: int) -> int:
            took = 0
            for _ in range(operations):
                start = time.perf_counter_ns()
                made = create()
                took += time.perf_counter_ns() - start
                made.close()
            return took

        return run

    peer = PEERS[cell.peer]
    yield Sides(ours=timed(create_ours), peer=timed(lambda: peer(cell.entries)), most=1000)


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    openers: dict[str, Any] = {f"memory.hashmap.fill_{fill}": open_bytes for fill in FILLS}
    openers["memory.hashmap.create"] = open_create
    for name, opener in openers.items():
        for peer in PEERS:
            yield Cell(
                name=name,
                peer=peer,
                open=opener,
                unit="bytes" if opener is open_bytes else "ns",
                entries=ENTRIES,
                key_size=8,
                value_size=VALUE_SIZE,
                needs=frozenset({"kernel"}),
                quick=not name.endswith(("_50", "_100")),
            )
