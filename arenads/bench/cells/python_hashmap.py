"""From Python: the hash map against bpf() by a module of cffi, one by one and in batches.

Both sides get the same keys and give the same objects. Keys are integers, or bytes if they are
longer; values are integers, records of eight fields, or of an array. Keys and values are varied one
at a time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from arenads.annotations import Array, Bytes, u64
from arenads.arena import Arena
from arenads.bench.cell import Cell, Need, Side, Sides
from arenads.bench.loops import expect_equal
from arenads.bench.order import ABSENT, key_of
from arenads.bench.syscalls import NEW, PythonMap
from arenads.bench.workshop import Workshop
from arenads.codec import Codec
from arenads.libbpf import create_map
from arenads.numpy_dtype import numpy_dtype

__all__ = [
    "MANY",
    "NEEDS",
    "VALUES",
    "cells",
    "for_each",
    "portions",
    "repeated",
    "rows",
    "timed",
    "values_of",
    "whole",
]

HASH = 1  # BPF_MAP_TYPE_HASH
ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
SIZES = ((8, 8), (16, 8), (40, 8), (8, 64), (8, 256))
SINGLE, BATCHES = "bpf()", "bpf(), batches"
MEMCPY = "floor: memcpy"
NEEDS: frozenset[Need] = frozenset({"kernel", "host compiler", "python headers"})

MANY = 1000  # keys of one call
_PORTION = 1 << 12  # keys of a large map that are deleted and put back
# Both sides' objects of a whole map are compared, which takes many times as much.
_MOST_COMPARED = 64 << 20
_RECORDS = 1_000_000  # of an export


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


class Block(msgspec.Struct, frozen=True):
    """A value of 256 bytes."""

    word: Array[u64, 32]


class Three(msgspec.Struct):
    """A value that makes a record of 32 bytes with its key."""

    first: u64
    second: u64
    third: u64


VALUES: dict[int, Any] = {8: u64, 64: Words}
ALL_VALUES: dict[int, Any] = {**VALUES, 256: Block}
KEYS: dict[int, Any] = {8: u64, 16: Bytes[16], 40: Bytes[40]}


class Both(NamedTuple):
    """Both maps, full, and the keys in their order."""

    ours: Any
    peer: PythonMap
    keys: list[Any]
    values: list[Any]


def keys_of(numbers: list[int], size: int) -> list[Any]:
    """Return keys of so many bytes."""
    if size == 8:
        return numbers
    return [number.to_bytes(8, "little") * (size // 8) for number in numbers]


def values_of(numbers: list[int], size: int) -> list[Any]:
    """Return what is stored under the keys of these numbers."""
    if size == 8:
        return numbers
    if size == 256:
        # Few different ones: a million of them would be a gigabyte.
        few = [Block([number, *range(1, 32)]) for number in range(MANY)]
        return [few[number % MANY] for number in numbers]
    return [Words(number, 1, 2, 3, 4, 5, 6, 7) for number in numbers]


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Both]:
    """Make both maps and fill them from Python."""
    entries, sizes = cell.entries, (cell.key_size, cell.value_size)
    with (
        create_map(HASH, *sizes, entries, name="bench") as peer,
        Arena.create("2GiB", engine="kernel") as arena,
    ):
        key, value = KEYS[cell.key_size], ALL_VALUES[cell.value_size]
        ours = arena.hashmap(
            "map", key=key, value=value, max_entries=entries, initial_entries=entries
        )
        numbers = [key_of(index) for index in workshop.order(entries, "uniform")]
        both = Both(
            ours,
            PythonMap(workshop, peer.fd, key, value),
            keys_of(numbers, cell.key_size),
            values_of(numbers, cell.value_size),
        )
        ours.update_many(both.keys, both.values)
        put = both.peer.putter()
        for one, stored in zip(both.keys, both.values, strict=True):
            put(one, stored)
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


def portions(function: Callable[..., object], many: int, *columns: Any) -> Side:
    """Return a side that calls a function with the next `many` of each column, lists or arrays."""
    place, length = 0, len(columns[0])

    def run(operations: int) -> int:
        nonlocal place
        took = 0
        for _ in range(operations // many):
            parts = [column[place : place + many] for column in columns]
            place = (place + many) % (length - many + 1)
            start = time.perf_counter_ns()
            function(*parts)
            took += time.perf_counter_ns() - start
        return took

    return run


def repeated(take: Callable[[], object], entries: int) -> Side:
    """Return a side that takes all `entries` at once."""

    def run(operations: int) -> int:
        start = time.perf_counter_ns()
        for _ in range(operations // entries):
            take()
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
    key = ("python.hashmap", cell.entries, cell.key_size, cell.value_size)
    return workshop.shared(key, lambda: filled(cell, workshop))


def columns_of(cell: Cell, workshop: Workshop, both: Both) -> tuple[list[Any], list[Any]]:
    """Return the keys and values in the cell's order."""
    if cell.distribution != "zipf":
        return both.keys, both.values
    numbers = [key_of(index) for index in workshop.order(cell.entries, "zipf")]
    return keys_of(numbers, cell.key_size), values_of(numbers, cell.value_size)


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
def open_contains(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Whether a key is there; all are, or none."""
    both = shared(cell, workshop)
    keys, there = both.keys, cell.name.endswith("_hit")
    if not there:
        numbers = [ABSENT | key_of(index) for index in workshop.order(cell.entries, "uniform")]
        keys = keys_of(numbers, cell.key_size)
    contains = both.peer.contains()
    for key in keys[:1000]:
        expect_equal(cell.title, (key in both.ours, contains(key)), (there, there))
    yield Sides(
        ours=for_each(both.ours.__contains__, keys),
        peer=for_each(contains, keys),
        empty=for_each(None, keys),
        most=cell.entries,
    )


@contextmanager
def open_add(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Add to a value in place; nothing, so that values stay what they are."""
    both = shared(cell, workshop)
    amounts = [0] * cell.entries
    add = both.peer.adder()
    for key in both.keys[:1000]:
        expect_equal(cell.title, both.ours.add(key, 0), add(key, 0))
    yield Sides(
        ours=for_each(both.ours.add, both.keys, amounts),
        peer=for_each(add, both.keys, amounts),
        empty=for_each(None, both.keys, amounts),
        most=cell.entries,
    )


@contextmanager
def open_turns(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Keys are deleted and inserted again, one by one; one of both is measured."""
    both = shared(cell, workshop)
    # At most so many that the maps stay nearly full.
    portion = max(1, min(cell.entries // 16, _PORTION))
    deleting = cell.name.endswith("delete")

    def side(insert: Callable[[Any, Any], None], delete: Callable[[Any], None]) -> Side:
        following = rows(both.keys, both.values)

        def run(operations: int) -> int:
            took = 0
            for _ in range(operations // portion):
                keys, values = following(portion)
                deleted = timed(delete, [keys])
                inserted = timed(insert, [keys, values])
                took += deleted if deleting else inserted
            return took

        return run

    columns = (both.keys,) if deleting else (both.keys, both.values)
    yield Sides(
        ours=side(both.ours.insert, both.ours.__delitem__),
        peer=side(both.peer.putter(NEW), both.peer.deleter()),
        empty=for_each(None, *columns),
        step=portion,
        most=max(cell.entries, portion),
    )
    expect_equal(cell.title, len(both.ours), cell.entries)


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

    yield Sides(
        ours=portions(both.ours.get_many, many, both.keys),
        peer=portions(theirs, many, both.keys),
        step=many,
    )


def arrays_of(cell: Cell, both: Both) -> tuple[Any, Any]:
    """Return the keys and values as arrays."""
    return (
        packed_array(KEYS[cell.key_size], both.keys),
        packed_array(ALL_VALUES[cell.value_size], both.values),
    )


def packed_array(hint: Any, objects: list[Any]) -> Any:
    """Return objects of a type as an array."""
    import numpy

    return numpy.frombuffer(b"".join(map(Codec(hint).pack, objects)), numpy_dtype(hint))


@contextmanager
def open_array_get_many(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """An array of values for one of keys: a thousand of them by a system call each.

    In batches the kernel walks the whole map, so that all of its keys are wanted, and NumPy sorts
    what came, to find the values of keys.
    """
    import numpy

    both = shared(cell, workshop)
    keys, values = arrays_of(cell, both)
    many = min(MANY, cell.entries) if cell.peer == SINGLE else cell.entries

    def each(wanted: Any) -> Any:
        return both.peer.get_arrays(wanted, values.dtype)

    def sorted_batch(wanted: Any) -> Any:
        found, those, count = both.peer.batched_snapshot(cell.entries)
        there = numpy.frombuffer(found, keys.dtype, count)
        order = numpy.argsort(there)
        places = order[numpy.searchsorted(there, wanted, sorter=order)]
        return numpy.frombuffer(those, values.dtype, count)[places]

    theirs = each if cell.peer == SINGLE else sorted_batch
    for found in (both.ours.get_many(keys[:many])[0], theirs(keys[:many])):
        expect_equal(cell.title, found.tobytes(), values[:many].tobytes())

    yield Sides(
        ours=portions(both.ours.get_many, many, keys),
        peer=portions(theirs, many, keys),
        step=many,
    )


@contextmanager
def open_snapshot(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Every key and value in memory of one's own, without an object for each."""
    both = shared(cell, workshop)
    theirs = both.peer.snapshot if cell.peer == SINGLE else both.peer.batched_snapshot
    keys, _, count = theirs(cell.entries)
    found = Codec(KEYS[cell.key_size]).unpack_many(keys, cell.key_size, 0, count)
    expect_equal(cell.title, sorted(key for key, _ in both.ours.snapshot()), sorted(found))
    yield Sides(
        ours=repeated(both.ours.snapshot, cell.entries),
        peer=repeated(lambda: theirs(cell.entries), cell.entries),
        step=cell.entries,
    )


@contextmanager
def open_arrow(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Records as an Arrow table, of a snapshot or with taking it; a copy of as many bytes."""
    import numpy
    import pyarrow

    entries = cell.entries
    with Arena.create("1GiB", engine="kernel") as arena:
        records = arena.hashmap(
            "records", key=u64, value=Three, max_entries=entries, initial_entries=entries
        )
        keys = numpy.arange(entries, dtype=numpy.uint64)
        values = numpy.zeros(entries, numpy_dtype(Three))
        values["first"] = keys
        records.update_many(keys, values)
        taken = records.snapshot()
        source = numpy.frombuffer(taken.array, numpy.uint8)
        expect_equal(cell.title, len(source), entries * (cell.key_size + cell.value_size))
        expect_equal(cell.title, pyarrow.table(taken).num_rows, entries)
        with_snapshot = cell.name.endswith("snapshot_and_arrow")
        yield Sides(
            ours=repeated(
                lambda: pyarrow.table(records.snapshot() if with_snapshot else taken), entries
            ),
            peer=repeated(source.copy, entries),
            step=entries,
        )


@contextmanager
def open_bulk(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """A thousand keys in one call, from the same arrays; what is deleted is put back unmeasured."""
    both = shared(cell, workshop)
    many = min(MANY, cell.entries)
    keys, records = arrays_of(cell, both)
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


OPERATIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "get": (open_get, (SINGLE,)),
    "contains_hit": (open_contains, (SINGLE,)),
    "contains_miss": (open_contains, (SINGLE,)),
    "put": (open_put, (SINGLE,)),
    "insert": (open_turns, (SINGLE,)),
    "delete": (open_turns, (SINGLE,)),
    "add": (open_add, (SINGLE,)),
    "get_many": (open_get_many, (SINGLE,)),
    "array_get_many": (open_array_get_many, (SINGLE, BATCHES)),
    "update_many": (open_bulk, (BATCHES,)),
    "delete_many": (open_bulk, (BATCHES,)),
    "items": (open_items, (SINGLE, BATCHES)),
    "snapshot": (open_snapshot, (SINGLE, BATCHES)),
}
_ARRAYS = ("array_get_many", "update_many", "delete_many")


def _is_there(operation: str, peer: str, entries: int, key_size: int, value_size: int) -> bool:
    if operation == "add":
        return value_size == 8
    if operation == "array_get_many" and peer == BATCHES:
        return key_size == 8 and value_size in VALUES  # NumPy sorts all, which takes its time
    return operation != "items" or entries * value_size <= _MOST_COMPARED


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same maps follow each other."""
    for entries, (key_size, value_size) in itertools.product(ENTRIES, SIZES):
        for operation, (opener, peers) in OPERATIONS.items():
            for peer in peers:
                if not _is_there(operation, peer, entries, key_size, value_size):
                    continue
                made = Cell(
                    name=f"python.hashmap.{operation}",
                    peer=peer,
                    open=opener,
                    entries=entries,
                    key_size=key_size,
                    value_size=value_size,
                    distribution="" if operation in ("items", "snapshot") else "uniform",
                    needs=NEEDS | {"numpy"} if operation in _ARRAYS else NEEDS,
                    quick=entries == 10_000 and key_size == 8 and value_size in VALUES,
                )
                yield made
                if operation in ("get", "put") and (key_size, value_size) == (8, 8):
                    yield msgspec.structs.replace(made, distribution="zipf", quick=False)
    for name in ("snapshot_arrow", "snapshot_and_arrow"):
        yield Cell(
            name=f"python.hashmap.{name}",
            peer=MEMCPY,
            open=open_arrow,
            entries=_RECORDS,
            key_size=8,
            value_size=24,
            needs=frozenset({"kernel", "numpy", "pyarrow"}),
            quick=True,
        )
