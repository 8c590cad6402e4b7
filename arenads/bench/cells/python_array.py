"""From Python: the array against the kernel's, by bpf() and mapped into the process."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from arenads.annotations import u32, u64
from arenads.arena import Arena
from arenads.bench.cell import Cell, Sides
from arenads.bench.cells.python_hashmap import NEEDS, for_each
from arenads.bench.loops import expect_equal
from arenads.bench.syscalls import PythonMap
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map

__all__ = ["cells"]

ARRAY = 2  # BPF_MAP_TYPE_ARRAY
MMAPABLE = 1024
ENTRIES = (10_000, 1_000_000)
MAPPED = "mapped array"


class Both(NamedTuple):
    """Both arrays of integers, and the indexes in their order."""

    ours: Any
    peer: PythonMap
    mapped: Any
    indexes: list[int]


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Both]:
    """Make both arrays and store to each element."""
    entries = cell.entries
    with (
        create_map(ARRAY, 4, 8, entries, MMAPABLE, name="bench") as peer,
        Arena.create("1GiB", engine="kernel") as arena,
        mmap.mmap(peer.fd, entries * 8) as memory,
        memoryview(memory).cast("Q") as mapped,
    ):
        ours = arena.array("array", value=u64, max_entries=entries)
        indexes = list(workshop.order(entries, cell.distribution))
        ours[:] = range(entries)
        for index in indexes:
            mapped[index] = index
        yield Both(ours, PythonMap(workshop, peer.fd, key=u32), mapped, indexes)


def shared(cell: Cell, workshop: Workshop) -> Both:
    """Return what `filled` gives, of the cell before if that has the same arrays."""
    return workshop.shared(("python.array", cell.entries), lambda: filled(cell, workshop))


@contextmanager
def open_get(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One element after the other."""
    both = shared(cell, workshop)
    get = both.mapped.__getitem__ if cell.peer == MAPPED else both.peer.getter()
    for index in both.indexes[:1000]:
        expect_equal(cell.title, both.ours[index], get(index))
    yield Sides(
        ours=for_each(both.ours.__getitem__, both.indexes),
        peer=for_each(get, both.indexes),
        empty=for_each(None, both.indexes),
        most=cell.entries,
    )


@contextmanager
def open_put(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One element after the other."""
    both = shared(cell, workshop)
    put = both.mapped.__setitem__ if cell.peer == MAPPED else both.peer.putter()
    yield Sides(
        ours=for_each(both.ours.__setitem__, both.indexes, both.indexes),
        peer=for_each(put, both.indexes, both.indexes),
        empty=for_each(None, both.indexes, both.indexes),
        most=cell.entries,
    )


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same arrays follow each other."""
    for entries in ENTRIES:
        for operation, opener in (("get", open_get), ("put", open_put)):
            for peer in ("bpf()", MAPPED):
                yield Cell(
                    name=f"python.array.{operation}",
                    peer=peer,
                    open=opener,
                    entries=entries,
                    key_size=4,
                    value_size=8,
                    distribution="uniform",
                    needs=NEEDS,
                    quick=entries == 10_000,
                )
