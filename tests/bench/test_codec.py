"""What types cost: `map[key]` against the bare call of the C core plus making the object.

Run with `pytest tests/bench -s`. Both sides run in turn on one pinned CPU; what is printed is the
best of each and their ratio. Nothing here fails because something took long.
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
ROUNDS = 60
LOOPS = 3_000


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


def best(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least nanoseconds a call of each, without those of an empty function."""
    found = dict.fromkeys(["nothing", *sides], float("inf"))
    sides = {"nothing": lambda: None, **sides}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        for _ in range(ROUNDS):
            for name, call in sides.items():
                start = time.perf_counter_ns()
                for _ in range(LOOPS):
                    call()
                found[name] = min(found[name], (time.perf_counter_ns() - start) / LOOPS)
    finally:
        os.sched_setaffinity(0, before)
    nothing = found.pop("nothing")
    return {name: max(taken - nothing, 0.0) for name, taken in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_typed_record(engine: Any, name: str) -> None:
    cls, make = CASES[name]
    value = make()
    with arenads.create("4MiB", engine=engine) as arena:
        records = arena.hashmap("records", key=u64, value=cls)
        records[7] = value
        assert records[7] == value
        key, packed = records._key_codec.pack(7), records._value_codec.pack(value)
        memory = ffi.new("char[]", len(packed))
        handle, get, update = records._handle, lib.core_hashmap_get, lib.core_hashmap_update

        def store() -> None:
            records[7] = value

        taken = best(
            {
                "get": lambda: get(handle, key, memory),
                "update": lambda: update(handle, key, packed, 0),
                "make": make,
                "typed get": lambda: records[7],
                "typed put": store,
            }
        )
    for ours, theirs in (("typed get", "get"), ("typed put", "update")):
        peer = taken[theirs] + taken["make"]
        print(
            f"\n{engine:6} {name:24} {ours} {taken[ours]:6.1f} ns  bare {taken[theirs]:6.1f} +"
            f" object {taken['make']:5.1f} ns  ratio {taken[ours] / peer:5.2f}"
            f"  (to the bare call alone {taken[ours] / taken[theirs]:.2f})",
            end="",
        )
