"""From Python, without BPF: maps and arrays that processes share, on the native engine."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from arenads.annotations import u64
from arenads.arena import Arena
from arenads.bench.cell import Cell, Concurrent, Need, Side, Sides
from arenads.bench.cells.python_hashmap import VALUES, for_each, rows, timed, values_of, whole
from arenads.bench.loops import expect_equal
from arenads.bench.measure import allowed_cpus
from arenads.bench.order import key_of
from arenads.bench.peers import (
    LMDB,
    MANAGER,
    PEERS,
    SHARED_DICT,
    SHARED_MEMORY,
    TRANSACTION,
    LmdbMap,
    accompany,
)
from arenads.bench.workshop import Workshop
from arenads.errors import ArenadsError

__all__ = ["cells"]

ENTRIES = (10_000, 1_000_000)
# Each process has a copy of it all, and a pickle of it all is shared.
MOST: dict[str, int] = {SHARED_DICT: 10_000}
NEEDS: dict[str, Need] = {LMDB: "lmdb", TRANSACTION: "lmdb", SHARED_DICT: "UltraDict2"}
OPERATIONS = ("get", "put", "delete", "items")
PORTION = 500  # keys that are deleted and put back
# A hundred thousand operations a second, as far as the side can keep up.
INTERVAL_NS = 10_000
WITHIN_S = 30  # for a process to start


class Both(NamedTuple):
    """Both sides, full; the keys in their order."""

    ours: Any
    peer: Any
    keys: list[int]
    values: list[Any]
    value: Any
    place: Path
    pin: str


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Both]:
    """Make both sides and fill them. In /dev/shm, which is a tmpfs."""
    entries, value = cell.entries, VALUES[cell.value_size]
    array = cell.peer == SHARED_MEMORY
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="arenads-bench-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        try:
            peer = PEERS[cell.peer](place, value, entries)
        except Exception as error:  # whatever the peer's library raises
            raise ArenadsError(f"{cell.peer} cannot be made: {error}") from error
        stack.callback(peer.close)
        arena = stack.enter_context(Arena.create("2GiB", engine="native"))
        pin = str(place / "arena")
        arena.pin(pin)
        if array:
            ours: Any = arena.array("map", value=value, max_entries=entries)
            keys = list(workshop.order(entries, "uniform"))
        else:
            ours = arena.hashmap(
                "map", key=u64, value=value, max_entries=entries, initial_entries=entries
            )
            keys = [key_of(index) for index in workshop.order(entries, "uniform")]
        values = values_of(keys, cell.value_size)
        ours.update_many(keys, values)
        peer.fill(keys, values)
        yield Both(ours, peer, keys, values, value, place, pin)


def shared(cell: Cell, workshop: Workshop) -> Both:
    """Return what `filled` gives, of the cell before if that has the same sides."""
    key = ("python.shared", PEERS[cell.peer], cell.entries, cell.value_size)
    return workshop.shared(key, lambda: filled(cell, workshop))


def in_transactions(peer: LmdbMap, which: int, *columns: list[Any]) -> Side:
    """Return a side whose every call is one transaction."""
    following = rows(*columns)

    def run(operations: int) -> int:
        parts = following(operations)
        start = time.perf_counter_ns()
        with peer.transaction(write=which > 0) as transaction:
            function = peer.inside(transaction)[which]
            timed(function, parts)
        return time.perf_counter_ns() - start

    return run


@contextmanager
def open_get(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One value after the other."""
    both = shared(cell, workshop)
    for key in both.keys[: min(1000, cell.entries)]:
        expect_equal(cell.title, both.ours[key], both.peer.get(key))
    theirs = (
        in_transactions(both.peer, 0, both.keys)
        if cell.peer == TRANSACTION
        else for_each(both.peer.get, both.keys)
    )
    with beside(cell, both) as during:
        yield Sides(
            ours=during(for_each(both.ours.__getitem__, both.keys), 1),
            peer=during(theirs, 2),
            empty=for_each(None, both.keys),
            most=cell.entries,
        )


@contextmanager
def open_put(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """One value after the other, of keys that are there."""
    both = shared(cell, workshop)
    columns = (both.keys, both.values)
    theirs = (
        in_transactions(both.peer, 1, *columns)
        if cell.peer == TRANSACTION
        else for_each(both.peer.put, *columns)
    )
    with beside(cell, both) as during:
        yield Sides(
            ours=during(for_each(both.ours.__setitem__, *columns), 1),
            peer=during(theirs, 2),
            empty=for_each(None, *columns),
            most=cell.entries,
        )


@contextmanager
def open_delete(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Keys that are there; they are put back, which is not measured."""
    both = shared(cell, workshop)
    portion = min(PORTION, cell.entries)

    def portions(delete: Side, refill: Callable[[list[int], list[Any]], None]) -> Side:
        following = rows(both.keys, both.values)

        def run(operations: int) -> int:
            took = 0
            for _ in range(operations // portion):
                took += delete(portion)
                refill(*map(list, following(portion)))
            return took

        return run

    theirs = (
        in_transactions(both.peer, 2, both.keys)
        if cell.peer == TRANSACTION
        else for_each(both.peer.delete, both.keys)
    )
    yield Sides(
        ours=portions(for_each(both.ours.__delitem__, both.keys), both.ours.update_many),
        peer=portions(theirs, both.peer.fill),
        step=portion,
        most=cell.entries,
    )


@contextmanager
def open_items(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Every key and value, as objects."""
    both = shared(cell, workshop)
    expect_equal(cell.title, dict(both.ours.items()), dict(both.peer.items()))

    yield Sides(
        ours=whole(both.ours.items, cell.entries),
        peer=whole(both.peer.items, cell.entries),
        step=cell.entries,
    )


@contextmanager
def beside(cell: Cell, both: Both) -> Iterator[Callable[[Side, int], Side]]:
    """Have another process read or write the side that is measured, on the next CPU."""
    if not cell.concurrent:
        yield lambda side, number: side
        return
    # Started anew and not forked: this process has threads.
    context = multiprocessing.get_context("spawn")
    wanted, doing = context.Value("i", 0, lock=False), context.Value("i", 0, lock=False)
    few = min(cell.entries, 10_000)
    process = context.Process(
        target=accompany,
        args=(
            wanted,
            doing,
            allowed_cpus()[-2],
            both.pin,
            cell.peer,
            both.place,
            both.value,
            cell.entries,
            both.peer.again(),
            both.keys[-few:],
            both.values[-few:],
            cell.concurrent == "reader",
            INTERVAL_NS,
        ),
        daemon=True,
    )
    process.start()

    def turn_to(number: int) -> None:
        wanted.value = number
        end = time.monotonic() + WITHIN_S
        while doing.value != number:
            if not process.is_alive() or time.monotonic() > end:
                raise ArenadsError("the process that was to work beside has ended or hangs")
            time.sleep(0.0001)

    def during(side: Side, number: int) -> Side:
        def run(operations: int) -> int:
            turn_to(number)
            try:
                return side(operations)
            finally:
                wanted.value = 0

        return run

    try:
        yield during
    finally:
        wanted.value = -1
        process.join(WITHIN_S)
        with contextlib.suppress(ValueError):
            process.kill()
            process.join()
            process.close()


_OPENERS = {"get": open_get, "put": open_put, "delete": open_delete, "items": open_items}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same sides follow each other."""
    for entries in ENTRIES:
        for value_size in VALUES:
            for peer in PEERS:
                if entries > MOST.get(peer, entries):
                    continue
                yield from _of_peer(entries, value_size, peer)


def _of_peer(entries: int, value_size: int, peer: str) -> Iterator[Cell]:
    array = peer == SHARED_MEMORY
    structure = "sharedarray" if array else "sharedmap"
    for operation in OPERATIONS:
        if array and operation == "delete":
            continue
        if peer == TRANSACTION and operation == "items":
            continue  # it is one transaction in any case
        made = Cell(
            name=f"python.{structure}.{operation}",
            peer=peer,
            open=_OPENERS[operation],
            entries=entries,
            key_size=8,
            value_size=value_size,
            distribution="" if operation == "items" else "uniform",
            needs=frozenset({NEEDS[peer]} if peer in NEEDS else ()),
            quick=(entries, value_size) == (10_000, 8)
            and operation in ("get", "put")
            and peer in (MANAGER, LMDB, SHARED_MEMORY),
        )
        yield made
        beside: dict[str, Concurrent] = {"get": "writer", "put": "reader"}
        if operation in beside and value_size == 8 and peer not in (TRANSACTION, SHARED_DICT):
            yield msgspec.structs.replace(made, concurrent=beside[operation], quick=False)
