"""From Python: the hash map against bpf() by a module of cffi, one by one and in batches.

Both sides get the same keys and give the same objects: integers, or records of eight fields.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from arenads.annotations import u64
from arenads.arena import Arena
from arenads.bench.cell import Cell, Need, Side, Sides
from arenads.bench.loops import expect_equal
from arenads.bench.order import key_of
from arenads.bench.syscalls import PythonMap
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map

__all__ = ["cells", "for_each", "rows", "timed", "values_of"]

HASH = 1  # BPF_MAP_TYPE_HASH
ENTRIES = (10_000, 100_000, 1_000_000)
SINGLE, BATCHES = "bpf()", "bpf(), batches"


MANY = 1000  # keys of one call


class Words(msgspec.Struct, frozen=True):
    """A value of 64 bytes."""

    a: u64
    b: u64
    c: u64
    d: u64
    e: u64
    f: u64
    g: u64
    h: u64


VALUES: dict[int, Any] = {8: u64, 64: Words}


class Both(NamedTuple):
    """Both maps, full, and the keys in their order."""

    ours: Any
    peer: PythonMap
    keys: list[int]
    values: list[Any]


def values_of(numbers: list[int], size: int) -> list[Any]:
    """Return what is stored under these keys."""
    if size == 8:
        return numbers
    return [Words(number, 1, 2, 3, 4, 5, 6, 7) for number in numbers]


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Both]:
    """Make both maps and fill them from Python."""
    entries, size = cell.entries, cell.value_size
    with (
        create_map(HASH, 8, size, entries, name="bench") as peer,
        Arena.create("2GiB", engine="kernel") as arena,
    ):
        value = VALUES[size]
        ours = arena.hashmap(
            "map", key=u64, value=value, max_entries=entries, initial_entries=entries
        )
        keys = [key_of(index) for index in workshop.order(entries, "uniform")]
        both = Both(
            ours,
            PythonMap(workshop, peer.fd, value=value),
            keys,
            values_of(keys, size),
        )
        pairs = list(zip(both.keys, both.values, strict=True))
        ours.update(pairs)
        put = both.peer.putter()
        for key, one in pairs:
            put(key, one)
        yield both


def for_each(function: Callable[..., Any] | None, *columns: list[Any]) -> Side:
    """Return a side that calls a function with one row of the columns after the other."""
    following = rows(*columns)
    return lambda operations: timed(function, following(operations))


def whole(items: Callable[[], Iterable[Any]], entries: int) -> Side:
    """Return a side that goes through all of `items()`, which are `entries`."""

    def run(operations: int) -> int:
        start = time.perf_counter_ns()
        for _ in range(operations // entries):
            for _ in items():
                pass
        return time.perf_counter_ns() - start

    return run


def rows(*columns: list[Any]) -> Callable[[int], list[Any]]:
    """Return a function that gives the next so many of each column, around the end."""
    position = 0

    def following(operations: int) -> list[Any]:
        nonlocal position
        parts = [
            tuple(itertools.islice(itertools.cycle(column), position, position + operations))
            if position + operations > len(column)
            else column[position : position + operations]
            for column in columns
        ]
        position = (position + operations) % len(columns[0])
        return parts

    return following


def timed(function: Callable[..., Any] | None, parts: list[Any]) -> int:
    """Return the nanoseconds that a function takes for each row of one or two columns."""
    return _timed_one(function, parts[0]) if len(parts) == 1 else _timed_two(function, *parts)


def _timed_one(function: Callable[..., Any] | None, row: Iterable[Any]) -> int:
    start = time.perf_counter_ns()
    if function is None:
        for _ in row:
            pass
    else:
        for each in row:
            function(each)
    return time.perf_counter_ns() - start


def _timed_two(
    function: Callable[..., Any] | None, first: Iterable[Any], second: Iterable[Any]
) -> int:
    start = time.perf_counter_ns()
    if function is None:
        for _ in zip(first, second, strict=True):
            pass
    else:
        for one, other in zip(first, second, strict=True):
            function(one, other)
    return time.perf_counter_ns() - start


def shared(cell: Cell, workshop: Workshop) -> Both:
    """Return what `filled` gives, of the cell before if that has the same maps."""
    key = ("python.hashmap", cell.entries, cell.value_size)
    return workshop.shared(key, lambda: filled(cell, workshop))


def columns_of(cell: Cell, workshop: Workshop, both: Both) -> tuple[list[int], list[Any]]:
    """Return the keys and values in the cell's order."""
    if cell.distribution != "zipf":
        return both.keys, both.values
    keys = [key_of(index) for index in workshop.order(cell.entries, "zipf")]
    return keys, values_of(keys, cell.value_size)


@contextmanager
def open_get(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One value after the other."""
    both = shared(cell, workshop)
    get = both.peer.getter()
    keys, _ = columns_of(cell, workshop, both)
    for key in keys[:1000]:
        expect_equal(cell.title, both.ours[key], get(key))
    yield Sides(
        ours=for_each(both.ours.__getitem__, keys),
        peer=for_each(get, keys),
        empty=for_each(None, keys),
        most=cell.entries,
    )


@contextmanager
def open_put(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One value after the other, of keys that are there."""
    both = shared(cell, workshop)
    columns = columns_of(cell, workshop, both)
    yield Sides(
        ours=for_each(both.ours.__setitem__, *columns),
        peer=for_each(both.peer.putter(), *columns),
        empty=for_each(None, *columns),
        most=cell.entries,
    )


@contextmanager
def open_items(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Every key and value, as objects."""
    both = shared(cell, workshop)
    theirs = both.peer.items if cell.peer == SINGLE else both.peer.batched_items
    expect_equal(cell.title, dict(both.ours.items()), dict(theirs()))

    yield Sides(
        ours=whole(both.ours.items, cell.entries),
        peer=whole(theirs, cell.entries),
        step=cell.entries,
    )


@contextmanager
def open_get_many(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """A list of a thousand values in one call; the kernel has no batch of keys to look up."""
    both = shared(cell, workshop)
    many = min(MANY, cell.entries)
    theirs = both.peer.get_many
    expect_equal(cell.title, both.ours.get_many(both.keys[:many]), theirs(both.keys[:many]))

    def lists(function: Callable[[list[int]], list[Any]]) -> Side:
        place = 0

        def run(operations: int) -> int:
            nonlocal place
            took = 0
            for _ in range(operations // many):
                keys = both.keys[place : place + many]
                place = (place + many) % (len(both.keys) - many + 1)
                start = time.perf_counter_ns()
                function(keys)
                took += time.perf_counter_ns() - start
            return took

        return run

    yield Sides(ours=lists(both.ours.get_many), peer=lists(theirs), step=many)


@contextmanager
def open_snapshot(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Every key and value in memory of one's own, without an object for each."""
    both = shared(cell, workshop)
    theirs = both.peer.snapshot if cell.peer == SINGLE else both.peer.batched_snapshot
    keys, _, count = theirs(cell.entries)
    mine = both.ours.snapshot()
    found = memoryview(keys)[: 8 * count].cast("Q").tolist()
    expect_equal(cell.title, sorted(key for key, _ in mine), sorted(found))

    def whole(take: Callable[[], object]) -> Side:
        def run(operations: int) -> int:
            start = time.perf_counter_ns()
            for _ in range(operations // cell.entries):
                take()
            return time.perf_counter_ns() - start

        return run

    yield Sides(
        ours=whole(both.ours.snapshot),
        peer=whole(lambda: theirs(cell.entries)),
        step=cell.entries,
    )


@contextmanager
def open_bulk(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """A thousand keys in one call, from the same arrays; what is deleted is put back unmeasured."""
    import numpy

    both = shared(cell, workshop)
    many = min(MANY, cell.entries)
    words = cell.value_size // 8
    keys = numpy.array(both.keys, dtype=numpy.uint64)
    values = numpy.zeros((len(keys), words), dtype=numpy.uint64)
    values[:, 0] = keys
    values[:, 1:] = numpy.arange(1, words)
    records = values.reshape(-1)
    if words > 1:
        names = Words.__struct_fields__
        records = records.view([(name, numpy.uint64) for name in names])
    update, delete = both.peer.batches()

    def side(store: Callable[[Any, Any], object], remove: Callable[[Any], object]) -> Side:
        place = 0

        def run(operations: int) -> int:
            nonlocal place
            took = 0
            for _ in range(operations // many):
                some, those = keys[place : place + many], records[place : place + many]
                place = (place + many) % (len(keys) - many + 1)
                start = time.perf_counter_ns()
                if deleting:
                    remove(some)
                else:
                    store(some, those)
                took += time.perf_counter_ns() - start
                if deleting:
                    store(some, those)
            return took

        return run

    deleting = cell.name.endswith("delete_many")
    for key in both.keys[:many]:
        expect_equal(cell.title, both.ours[key], both.peer.getter()(key))
    yield Sides(
        ours=side(both.ours.update_many, both.ours.delete_many),
        peer=side(update, delete),
        step=many,
        most=max(cell.entries, many),
    )


NEEDS: frozenset[Need] = frozenset({"kernel", "host compiler", "python headers"})
OPERATIONS = {
    "get": (open_get, (SINGLE,)),
    "get_many": (open_get_many, (SINGLE,)),
    "put": (open_put, (SINGLE,)),
    "update_many": (open_bulk, (BATCHES,)),
    "delete_many": (open_bulk, (BATCHES,)),
    "items": (open_items, (SINGLE, BATCHES)),
    "snapshot": (open_snapshot, (SINGLE, BATCHES)),
}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries in ENTRIES:
        for value_size in VALUES:
            for operation, (opener, peers) in OPERATIONS.items():
                for peer in peers:
                    made = Cell(
                        name=f"python.hashmap.{operation}",
                        peer=peer,
                        open=opener,
                        entries=entries,
                        key_size=8,
                        value_size=value_size,
                        distribution="" if operation in ("items", "snapshot") else "uniform",
                        needs=NEEDS | {"numpy"} if opener is open_bulk else NEEDS,
                        quick=entries == 10_000,
                    )
                    yield made
                    if operation in ("get", "put") and value_size == 8:
                        yield msgspec.structs.replace(made, distribution="zipf", quick=False)
