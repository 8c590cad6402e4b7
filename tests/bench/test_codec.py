"""What types cost: an operation on a typed record against the bare call and making the object.

Run with `pytest tests/bench/test_codec.py -n0 -s`. Both sides run in turn on one pinned CPU; what
is printed is the best of each, and their ratio beside the goal. Nothing here fails because
something took long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import arenads
from arenads import Str, i32, u16, u32, u64
from arenads._core import ffi, lib

COMM = b"bash"
# Of 4 to 8 fields, no more than this times the bare call and making the object.
GOAL = 2.5
ROUNDS = 20
LOOPS = 2_000


class One(msgspec.Struct):
    calls: u64


class Four(msgspec.Struct):
    calls: u64
    cpu: u32
    flags: u32
    bytes: u64


class Eight(msgspec.Struct):
    calls: u64
    cpu: u32
    flags: u32
    bytes: u64
    errors: u64
    low: u16
    high: u16
    state: u32


class Point(msgspec.Struct):
    x: i32
    y: i32


class Text(msgspec.Struct):
    calls: u64
    comm: Str[16]
    cpu: u32
    flags: u32


class Mixed(msgspec.Struct):
    calls: u64
    comm: Str[16]
    place: Point
    cpu: u32
    flags: u32
    bytes: u64


def numbers(cls: Any) -> Callable[[], Any]:
    """What makes one object of numbers, as source would: with as many arguments."""
    count = len(cls.__struct_fields__)
    make: Callable[[], Any] = eval(
        f"lambda: cls({', '.join(str(number + 1) for number in range(count))})", {"cls": cls}
    )
    return make


CASES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "1 number": (One, numbers(One)),
    "4 numbers": (Four, numbers(Four)),
    "8 numbers": (Eight, numbers(Eight)),
    # Text is made of bytes; that is part of making the object.
    "4 with text": (Text, lambda: Text(7, COMM.decode(), 1, 2)),
    "6 with text and a record": (Mixed, lambda: Mixed(7, COMM.decode(), Point(1, -2), 3, 4, 5)),
}


def best(
    sides: dict[str, Callable[[], object]], before: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Return the least nanoseconds a call of each, without those of an empty function.

    `before` is called before each `LOOPS` calls, and does not count.
    """
    found = dict.fromkeys(["nothing", *sides], float("inf"))
    sides = {"nothing": lambda: None, **sides}
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        for _ in range(ROUNDS):
            for name, call in sides.items():
                before()
                start = time.perf_counter_ns()
                for _ in range(LOOPS):
                    call()
                found[name] = min(found[name], (time.perf_counter_ns() - start) / LOOPS)
    finally:
        os.sched_setaffinity(0, cpus)
    nothing = found.pop("nothing")
    return {name: max(taken - nothing, 0.0) for name, taken in found.items()}


# --- structures -----------------------------------------------------------------------------

# Each verb: the typed operation, the calls of the C core that it stands for, and what to do before
# some thousand of them.
Verbs = dict[str, tuple[Callable[[], object], ...]]


def keyed(maker: str, key_type: Any, key: Any) -> Callable[[arenads.Arena, Any, Any], Verbs]:
    def verbs(arena: arenads.Arena, cls: Any, value: Any) -> Verbs:
        records = getattr(arena, maker)("records", key=key_type, value=cls)
        records[key] = value
        assert records[key] == value
        packed_key, packed = records._key_codec.pack(key), records._value_codec.pack(value)
        memory = ffi.new("char[]", len(packed))
        handle = records._handle
        get, update = records._core_get, records._core_update

        def put() -> None:
            records[key] = value

        return {
            "get": (lambda: records[key], lambda: get(handle, packed_key, memory)),
            "put": (put, lambda: update(handle, packed_key, packed, 0)),
        }

    return verbs


def numbered(
    records: Any, number: int, value: Any, core_get: Any, core_set: Any
) -> tuple[Any, Verbs]:
    records[number] = value
    assert records[number] == value
    packed = records._value_codec.pack(value)
    memory, handle = ffi.new("char[]", len(packed)), records._handle

    def put() -> None:
        records[number] = value

    return packed, {
        "get": (lambda: records[number], lambda: core_get(handle, number, memory)),
        "put": (put, lambda: core_set(handle, number, packed)),
    }


def of_array(arena: arenads.Arena, cls: Any, value: Any) -> Verbs:
    records = arena.array("records", value=cls, max_entries=100)
    return numbered(records, 7, value, lib.core_array_get, lib.core_array_set)[1]


def of_pool(arena: arenads.Arena, cls: Any, value: Any) -> Verbs:
    records = arena.pool("records", value=cls)
    address = records.alloc(value)
    packed, verbs = numbered(records, address, value, lib.core_pool_get, lib.core_pool_set)
    handle, alloc, free = records._handle, lib.core_pool_alloc, lib.core_pool_free
    pair = lambda: records.free(records.alloc(value)), lambda: free(handle, alloc(handle, packed))
    return {**verbs, "alloc, free": pair}


def of_list(arena: arenads.Arena, cls: Any, value: Any) -> Verbs:
    records = arena.list("records", value=cls)
    records.update(7, value)
    assert records.get(7) == value
    packed = records._value_codec.pack(value)
    memory, handle, order = ffi.new("char[]", len(packed)), records._handle, ffi.new("__u64 *")
    get, update = lib.core_list_get, lib.core_list_update
    push, pop_first = lib.core_list_push, lib.core_list_pop_first
    others = arena.list("others", value=cls, max_entries=LOOPS)

    def empty() -> None:
        others.delete_many([order for order, _ in others.items()])

    def fill() -> None:
        empty()
        others.push_many([value] * LOOPS)

    ours = others._handle
    return {
        "get": (lambda: records.get(7), lambda: get(handle, 7, memory)),
        "update": (lambda: records.update(7, value), lambda: update(handle, 7, packed, 0)),
        "push": (lambda: others.push(value), lambda: push(ours, packed, order), empty),
        "pop first": (lambda: others.pop_first(), lambda: pop_first(ours, order, memory), fill),
    }


def of_queue(maker: str) -> Callable[[arenads.Arena, Any, Any], Verbs]:
    def verbs(arena: arenads.Arena, cls: Any, value: Any) -> Verbs:
        records = getattr(arena, maker)("records", value=cls, max_entries=LOOPS)
        records.push(value)
        assert records.pop() == value
        packed = records._value_codec.pack(value)
        memory, handle = ffi.new("char[]", len(packed)), records._handle
        push, pop = lib.core_queue_push, lib.core_queue_pop

        def fill() -> None:
            records.drain()
            records.push_many([value] * LOOPS)

        return {
            "push": (
                lambda: records.push(value),
                lambda: push(handle, packed),
                lambda: records.drain(),
            ),
            "pop": (lambda: records.pop(), lambda: pop(handle, memory), fill),
        }

    return verbs


class Pair(msgspec.Struct, frozen=True):
    pid: u32
    cpu: u32


STRUCTURES: dict[str, Callable[[arenads.Arena, Any, Any], Verbs]] = {
    "hash map, u64": keyed("hashmap", u64, 7),
    "hash map, text": keyed("hashmap", Str[16], "a key"),
    "hash map, record": keyed("hashmap", Pair, Pair(1, 2)),
    "ordered map, u64": keyed("orderedmap", u64, 7),
    "ordered map, text": keyed("orderedmap", Str[16], "a key"),
    "array": of_array,
    "pool": of_pool,
    "list": of_list,
    "queue": of_queue("queue"),
    "MPMC queue": of_queue("mpmc"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_typed_record(engine: Any, structure: str, name: str) -> None:
    cls, make = CASES[name]
    with arenads.create("4MiB", engine=engine) as arena:
        for verb, (typed, bare, *before) in STRUCTURES[structure](arena, cls, make()).items():
            taken = best({"typed": typed, "bare": bare, "make": make}, *before)
            ratio = taken["typed"] / (taken["bare"] + taken["make"])
            print(
                f"\n{engine:6} {structure:17} {name:24} {verb:11} {taken['typed']:6.1f} ns "
                f" bare {taken['bare']:6.1f} + object {taken['make']:5.1f} ns "
                f" ratio {ratio:5.2f} (goal {GOAL})",
                end="",
            )
