"""From user space in C: the array against the kernel's, by bpf() and mapped into the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from arenads.arena import Arena
from arenads.bench.cell import Cell, Sides
from arenads.bench.cells.c_hashmap import words
from arenads.bench.loops import expect_equal
from arenads.bench.userspace import Functions
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map

__all__ = ["cells"]

ARRAY = 2  # BPF_MAP_TYPE_ARRAY
MMAPABLE = 1024
ENTRIES = (10_000, 1_000_000)
VALUE_SIZES = (8, 64, 256)
BATCHES = "bpf(), batches"
PEERS = {"bpf()": "peer", "mapped array": "mapped", BATCHES: "batch"}
OPERATIONS = ("lookup", "update")
_IN_ORDER = ("c.array.lookup", BATCHES)


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Functions]:
    """Make both arrays, and store to each element."""
    entries, size = cell.entries, cell.value_size
    with (
        create_map(ARRAY, 4, size, entries, MMAPABLE, name="bench") as peer,
        Arena.create("4GiB", engine="kernel") as arena,
        mmap.mmap(peer.fd, entries * size) as mapped,
    ):
        ours = arena.array("array", value=words(size), max_entries=entries)
        memory = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        functions = Functions(
            workshop.library("array", [f"VALUE_SIZE={size}"]),
            arena,
            ours.offset,
            peer.fd,
            workshop.order(entries, cell.distribution),
            mapped=ctypes.addressof(memory),
        )
        for name in ("ours_update", "peer_update"):
            expect_equal(name, functions.do(name, entries, name), entries)
        try:
            yield functions
        finally:
            del memory  # or the mapping could not be closed


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides copy one element after the other."""
    operation, peer = cell.name.rpartition(".")[2], PEERS[cell.peer]
    key = ("c.array", cell.entries, cell.value_size, cell.distribution)
    functions = workshop.shared(key, lambda: filled(cell, workshop))
    functions.check(operation, min(cell.entries, 1000), "ours", peer)
    yield Sides(
        ours=functions.side(f"ours_{operation}", "ours"),
        peer=functions.side(f"{peer}_{operation}", "peer"),
        empty=functions.side("empty", "empty"),
    )


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same arrays follow each other."""
    for entries in ENTRIES:
        for value_size in VALUE_SIZES:
            base: dict[str, Any] = {"entries": entries, "value_size": value_size}
            made = [
                Cell(
                    name=f"c.array.{operation}",
                    peer=peer,
                    open=open_loops,
                    key_size=4,
                    distribution="uniform",
                    needs=frozenset({"kernel", "host compiler"}),
                    quick=(entries, value_size) == (10_000, 8),
                    **base,
                )
                for operation in OPERATIONS
                for peer in PEERS
            ]
            # The system call looks up many elements only as they follow each other.
            yield from (cell for cell in made if (cell.name, cell.peer) != _IN_ORDER)
            for cell in made:
                quick = cell.quick and (cell.name, cell.peer) == _IN_ORDER
                yield msgspec.structs.replace(cell, distribution="sequential", quick=quick)
