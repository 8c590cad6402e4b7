"""Removing structures: the name is free, handles say what happened, nothing else changes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads import u32, u64

MAKERS: dict[str, Callable[[arenads.Arena], Any]] = {
    "hash map": lambda arena: arena.hashmap("it", key=u32, value=u64),
    "set": lambda arena: arena.set("it", key=u32),
    "list": lambda arena: arena.list("it", value=u64),
    "queue": lambda arena: arena.queue("it", value=u64),
    "pool": lambda arena: arena.pool("it", value=u64),
    "array": lambda arena: arena.array("it", value=u64, max_entries=10),
    "ordered map": lambda arena: arena.orderedmap("it", key=u32, value=u64),
    "ring": lambda arena: arena.ring("it", size=4096),
    "MPMC queue": lambda arena: arena.mpmc("it", value=u64),
}
OPERATIONS: dict[str, list[Callable[[Any], object]]] = {
    "hash map": [
        lambda it: it[1],
        lambda it: it.get(1),
        lambda it: 1 in it,
        lambda it: it.update({1: 1}),
        lambda it: it.pop(1),
        lambda it: it.add(1, 1),
        list,
        len,
    ],
    "set": [lambda it: 1 in it, lambda it: it.add(1), lambda it: it.discard(1), list, len],
    "list": [lambda it: it.push(1), lambda it: it.get(1), lambda it: it.delete(1), list, len],
    "queue": [lambda it: it.push(1), lambda it: it.pop(), len],
    "pool": [lambda it: it.alloc(1), lambda it: it.free(it.arena.base + 4096), len],
    "array": [
        lambda it: it[1],
        lambda it: it.__setitem__(1, 1),
        lambda it: it.add(1, 1),
        lambda it: it.load(1),
        lambda it: it.populated,
        list,
    ],
    "ordered map": [
        lambda it: it[1],
        lambda it: 1 in it,
        lambda it: it.update({1: 1}),
        lambda it: it.pop(1),
        lambda it: it.pop_first(),
        lambda it: it.lower_bound(1),
        lambda it: it.snapshot(1, 2),
        lambda it: it.add(1, 1),
        list,
        len,
    ],
    "ring": [
        lambda it: it.push(b"one"),
        lambda it: it.push_many([b"one", b"two"]),
        lambda it: it.pop(),
        lambda it: it.drain(),
        lambda it: list(it.records()),
        len,
    ],
    "MPMC queue": [lambda it: it.push(1), lambda it: it.pop(), lambda it: it.drain(), len],
}


@pytest.mark.parametrize("kind", MAKERS)
def test_every_operation_on_a_removed_structure_says_so(kind: str, engine: str) -> None:
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        it = MAKERS[kind](arena)
        arena.remove("it")
        assert "it" not in arena.structures
        for operation in OPERATIONS[kind]:
            with pytest.raises(arenads.RemovedError, match="'it' was removed"):
                operation(it)


def test_a_removed_name_can_be_given_to_another_kind(engine: str) -> None:
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        old = arena.hashmap("it", key=u32, value=u64)
        old[1] = 1
        arena.remove("it")
        new = arena.list("it", value=u32)
        new.push(7)
        assert list(arena.structures) == ["it"]
        assert list(arena.structures["it"]) == [7]  # type: ignore[call-overload]
        with pytest.raises(arenads.RemovedError):
            old[1]


def test_removing_what_is_not_there_says_what_is(engine: str) -> None:
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        arena.set("blocked", key=u32)
        with pytest.raises(arenads.StructureAbsentError, match="'blocked'"):
            arena.remove("other")
        arena.remove("blocked")
        with pytest.raises(arenads.StructureAbsentError, match="nothing"):
            arena.remove("blocked")


def test_names_go_and_come_many_times(engine: str) -> None:
    with arenads.create("8MiB", engine=engine) as arena:  # type: ignore[arg-type]
        for number in range(200):
            arena.set("it", key=u32, max_entries=4).add(number)
            assert set(arena.structures["it"]) == {number}  # type: ignore[call-overload]
            arena.remove("it")
        assert list(arena.structures) == []


def test_programs_get_the_code_for_a_structure_that_was_removed(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("sets", engine), engine=engine) as program:  # type: ignore[arg-type]
        program.arena.remove("blocked")
        context = struct.pack("=QQQqQ", 0, 1, 1, 0, 0)  # insert 1
        result = program.run("run_set", context)
        assert struct.unpack("=QQQqQ", result.context)[3] == -116  # ADS_REMOVED
