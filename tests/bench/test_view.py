"""A member read by a view against reading its bytes and unpacking them.

Run with `pytest tests/bench/test_view.py -n0 -s`. Both run in turn; what is printed is the median
of each and their ratio. Nothing here fails because something took long.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import arenads
from arenads import Array, Ptr, Str, u32, u64
from arenads._core import ffi, lib

ROUNDS, CALLS = 15, 20_000


class Item(msgspec.Struct):
    value: u64
    next: Ptr[Item] = 0
    name: Str[16] = "a name"
    small: u32 = 0
    numbers: Array[u64, 8] = msgspec.field(default_factory=lambda: [0] * 8)


@pytest.fixture(scope="module")
def item() -> Iterator[Any]:
    with arenads.create("1MiB", engine="native", provision=None) as arena:
        items = arena.pool("items", value=Item)
        item: Any = items.view(items.alloc(Item(7)))
        item.next = items.alloc(Item(8))
        yield item


def timed(call: Callable[[], object]) -> float:
    # Of this thread only: what else runs on the machine does not count.
    start = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - start) / CALLS


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Run both in turn and print nanoseconds a call and the ratio."""
    assert ours() == theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(ROUNDS)]
    mine = statistics.median(first for first, _ in pairs)
    peer = statistics.median(second for _, second in pairs)
    print(f"\n{name:24} view {mine:8.1f} ns  bytes {peer:8.1f} ns  {peer / mine:5.2f}", end="")


def by_bytes(item: Any, at: int, form: str) -> Callable[[], Any]:
    """Return what copies a member out of the arena and unpacks it."""
    member = struct.Struct("=" + form)
    memory = ffi.new("char[]", member.size)
    view, unpack, size = ffi.buffer(memory), member.unpack_from, member.size
    read, core, offset = lib.core_read, item.__core__, item.offset + at

    def get() -> Any:
        read(core, offset, memory, size)
        return unpack(view)[0]

    return get


def test_a_64_bit_integer(item: Any) -> None:
    compare("view.value, u64", lambda: item.value, by_bytes(item, 0, "Q"))


def test_a_32_bit_integer(item: Any) -> None:
    compare("view.small, u32", lambda: item.small, by_bytes(item, 32, "I"))


def test_text(item: Any) -> None:
    raw = by_bytes(item, 16, "16s")
    compare("view.name, char[16]", lambda: item.name, lambda: raw().partition(b"\0")[0].decode())


def test_a_pointer_followed(item: Any) -> None:
    """The bytes of the target's whole record, which a pool gives for an address, and a member."""
    items = item.__arena__.structures["items"]
    address = by_bytes(item, 8, "Q")
    compare("view.next.value", lambda: item.next.value, lambda: items[address()].value)


def test_an_element(item: Any) -> None:
    compare("view.numbers[3]", lambda: item.numbers[3], by_bytes(item, 40 + 24, "Q"))
