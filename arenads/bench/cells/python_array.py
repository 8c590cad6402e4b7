"""From Python: the array against the kernel's, by bpf() and mapped into the process.

Many elements are arrays of NumPy, and so is the mapped array where they are meant.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from arenads.annotations import u32, u64
from arenads.arena import Arena
from arenads.bench.cell import Cell, Sides
from arenads.bench.cells.python_hashmap import MANY, NEEDS, for_each, portions, repeated
from arenads.bench.loops import expect_equal
from arenads.bench.syscalls import PythonMap
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map

__all__ = ["cells"]

ARRAY = 2  # BPF_MAP_TYPE_ARRAY
MMAPABLE = 1024
ENTRIES = (10_000, 1_000_000)
SINGLE, BATCHES, MAPPED = "bpf()", "bpf(), batches", "mapped array"


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


@contextmanager
def open_get_many(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """A thousand elements in one call. In batches the kernel gives all, of which NumPy picks."""
    import numpy

    both = shared(cell, workshop)
    many = cell.entries if cell.peer == BATCHES else min(MANY, cell.entries)
    indexes = numpy.array(both.indexes, numpy.uint32)
    mapped = numpy.frombuffer(both.mapped, numpy.uint64)

    def batched(wanted: Any) -> Any:
        _, values, count = both.peer.batched_snapshot(cell.entries)
        return numpy.frombuffer(values, numpy.uint64, count)[wanted]

    theirs: Any = {
        SINGLE: lambda wanted: both.peer.get_arrays(wanted, numpy.uint64),
        BATCHES: batched,
        MAPPED: mapped.__getitem__,
    }[cell.peer]
    some = indexes[:many]
    expect_equal(cell.title, both.ours.get_many(some).tolist(), theirs(some).tolist())
    yield Sides(
        ours=portions(both.ours.get_many, many, indexes),
        peer=portions(theirs, many, indexes),
        step=many,
    )


@contextmanager
def open_update_many(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """A thousand elements in one call."""
    import numpy

    both = shared(cell, workshop)
    many = min(MANY, cell.entries)
    indexes = numpy.array(both.indexes, numpy.uint32)
    mapped = numpy.frombuffer(both.mapped, numpy.uint64)
    update, _ = both.peer.batches()
    values = indexes.astype(numpy.uint64)
    theirs: Any = update if cell.peer == BATCHES else mapped.__setitem__
    yield Sides(
        ours=portions(both.ours.update_many, many, indexes, values),
        peer=portions(theirs, many, indexes, values),
        step=many,
    )


@contextmanager
def open_snapshot(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Every index and element in memory of one's own; of a mapped array the elements alone."""
    import numpy

    both = shared(cell, workshop)
    mapped = numpy.frombuffer(both.mapped, numpy.uint64)
    theirs: Callable[[], Any] = (
        mapped.copy if cell.peer == MAPPED else lambda: both.peer.batched_snapshot(cell.entries)
    )
    mine = both.ours.snapshot().array
    expect_equal(cell.title, mine["value"].tolist(), mapped.tolist())
    if cell.peer == BATCHES:
        _, values, count = theirs()
        found = numpy.frombuffer(values, numpy.uint64, count)
        expect_equal(cell.title, found.tolist(), mapped.tolist())
    yield Sides(
        ours=repeated(both.ours.snapshot, cell.entries),
        peer=repeated(theirs, cell.entries),
        step=cell.entries,
    )


OPERATIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "get": (open_get, (SINGLE, MAPPED)),
    "put": (open_put, (SINGLE, MAPPED)),
    "get_many": (open_get_many, (SINGLE, BATCHES, MAPPED)),
    "update_many": (open_update_many, (BATCHES, MAPPED)),
    "snapshot": (open_snapshot, (BATCHES, MAPPED)),
}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same arrays follow each other."""
    for entries in ENTRIES:
        for operation, (opener, peers) in OPERATIONS.items():
            for peer in peers:
                yield Cell(
                    name=f"python.array.{operation}",
                    peer=peer,
                    open=opener,
                    entries=entries,
                    key_size=4,
                    value_size=8,
                    distribution="" if operation == "snapshot" else "uniform",
                    needs=NEEDS if operation in ("get", "put") else NEEDS | {"numpy"},
                    quick=entries == 10_000,
                )
