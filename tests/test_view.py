"""Views: against the codec for any record, along pointers, at wrong addresses, in both engines."""

from __future__ import annotations

import copy
import enum
import itertools
import pickle
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schema import plain, records, union_of

import arenads
from arenads import (
    Align,
    Array,
    Bits,
    Bytes,
    Codec,
    Node,
    Ptr,
    Str,
    View,
    char,
    f32,
    f64,
    i8,
    i32,
    i64,
    packed,
    u8,
    u16,
    u32,
    u64,
)
from arenads._core import ffi, lib
from arenads.schema import (
    ArrayType,
    EnumType,
    Field,
    PointerType,
    Record,
    Scalar,
    Schema,
    members,
    spell,
)
from arenads.view_types import _type_named

STEP = struct.Struct("<4Q")
MASK = (1 << 64) - 1
UNREAD = int(lib.CORE_UNREAD)


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


class Point(msgspec.Struct):
    x: i32
    y: i32


class Item(msgspec.Struct):
    value: u64
    next: Ptr[Item] = 0
    point: Point = msgspec.field(default_factory=lambda: Point(0, 0))
    color: Color = Color.RED
    flag: bool = False
    letter: char = b"\0"
    name: Str[12] = ""
    digest: Bytes[3] = bytes(3)
    numbers: Array[u16, 4] = msgspec.field(default_factory=lambda: [0] * 4)
    path: Array[Point, 2] = msgspec.field(default_factory=lambda: [Point(0, 0), Point(0, 0)])
    ratio: f64 = 0.0
    small: f32 = 0.0
    low: Annotated[u32, Bits(3)] = 0
    signed: Annotated[i32, Bits(5)] = 0
    high: Annotated[u64, Bits(40)] = 0
    below: i64 = 0


class Limited(msgspec.Struct):
    percent: Annotated[u8, msgspec.Meta(ge=1, le=100)]
    name: Annotated[str, arenads.Size(8), msgspec.Meta(min_length=2, pattern="^[a-z]+$")]
    even: Annotated[u32, msgspec.Meta(multiple_of=2)] = 0
    bits: Annotated[u32, Bits(4), msgspec.Meta(le=9)] = 0
    next: Ptr[Limited] = 0


class Link(msgspec.Struct):
    next: Ptr[Link] = 0
    previous: Ptr[Link] = 0


class Job(msgspec.Struct):
    number: u64
    link: Link = msgspec.field(default_factory=Link)


class Task(msgspec.Struct):
    pid: u32
    node: Node = Node()
    calls: u64 = 0


class TreeNode(msgspec.Struct):
    key: u64
    hits: u64 = 0
    left: Ptr[TreeNode] = 0
    right: Ptr[TreeNode] = 0
    depth: u32 = 0
    label: Str[12] = ""


class Tree(msgspec.Struct):
    root: Ptr[TreeNode]
    size: u64


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def item(arena: arenads.Arena) -> Any:
    items = arena.pool("items", value=Item)
    return items.view(items.alloc(Item(7)))


SHORT = msgspec.defstruct("Part", [("a", u32)])
LONG = msgspec.defstruct("Part", [("a", u64), ("b", u64)])
PARTED = msgspec.defstruct("Parted", [("p", Ptr[SHORT]), ("q", Ptr[LONG])])


def memory(arena: arenads.Arena) -> bytes:
    """Everything that is populated, to see that nothing was written."""
    return bytes(ffi.buffer(arena._core.base, arena.populated))


# --- against the codec ------------------------------------------------------------------------


class Place:
    """Room in an arena for records, as bytes that the codec reads and writes."""

    SIZE = 1 << 16

    def __init__(self, engine: Any) -> None:
        self.arena = arenads.create("1MiB", engine=engine, populate="256KiB", provision=None)
        pool = self.arena.pool("place", value=Bytes[self.SIZE], max_entries=1)
        self.address = pool.alloc(bytes(self.SIZE))
        self.buffer = ffi.buffer(ffi.cast("char *", self.address), self.SIZE)


@pytest.fixture(scope="module")
def place(engine: str) -> Iterator[Place]:
    place = Place(engine)
    yield place
    place.arena.close()


def read_by_view(value: Any) -> Any:
    """Turn a view into mappings, lists and numbers, one access each."""
    if isinstance(value, arenads.ArrayView):
        return [read_by_view(item) for item in value]
    if isinstance(value, View) and isinstance(value.schema.type, Record):
        names = [field.name for field in members(value.schema.type)]
        return {name: read_by_view(getattr(value, name)) for name in names}
    return value


def address_or_value(ctype: Any, value: Any) -> Any:
    """Spell pointers as the codec has them."""
    if isinstance(ctype, PointerType):
        return 0 if value is None else int(value)
    if isinstance(ctype, ArrayType):
        return [address_or_value(ctype.element, item) for item in value]
    if isinstance(ctype, Record):
        fields = members(ctype)
        return {
            field.name: address_or_value(field.type, getattr(value, field.name)) for field in fields
        }
    return value


def write_by_view(view: Any, ctype: Any, value: Any, whole: Callable[[], bool]) -> None:
    """Write a record member by member, or a part of it at once where `whole` says so."""
    if isinstance(ctype, ArrayType):
        for index, item in enumerate(value):
            if isinstance(ctype.element, (Record, ArrayType)) and not whole():
                write_by_view(view[index], ctype.element, item, whole)
            else:
                view[index] = item
        return
    for field in members(ctype):
        if isinstance(field.type, (Record, ArrayType)) and not whole():
            write_by_view(getattr(view, field.name), field.type, value[field.name], whole)
        else:
            setattr(view, field.name, value[field.name])


def bits_of(ctype: Any, at: int, to: bytearray) -> None:
    """Mark the bits that belong to a member."""
    if isinstance(ctype, Record):
        for field in members(ctype):
            if field.bit_size:
                first = 8 * (at + field.offset) + field.bit_offset
                for bit in range(first, first + field.bit_size):
                    to[bit // 8] |= 1 << bit % 8
            else:
                bits_of(field.type, at + field.offset, to)
    elif isinstance(ctype, ArrayType):
        for index in range(ctype.count):
            bits_of(ctype.element, at + index * ctype.element.size, to)
    else:
        to[at : at + ctype.size] = b"\xff" * ctype.size


some_records = records().filter(lambda pair: pair[0].size > 0)


@given(data=st.data())
@settings(max_examples=150)
def test_what_a_view_writes_the_codec_reads(place: Place, data: st.DataObject) -> None:
    record, strategy = data.draw(some_records)
    shift, value = data.draw(st.integers(0, 16)), data.draw(strategy)
    choose = random.Random(data.draw(st.integers(0, 1000)))
    view: Any = place.arena.view(place.address + 64 + shift, record)
    start = 64 + shift
    place.buffer[0 : start + record.size + 64] = choose.randbytes(start + record.size + 64)
    before = place.buffer[0 : start + record.size + 64]
    write_by_view(view, record, value, lambda: choose.random() < 0.5)
    assert plain(Codec(record).unpack(place.buffer, start)) == value
    after = place.buffer[0 : start + record.size + 64]
    assert after[:start] == before[:start]
    assert after[start + record.size :] == before[start + record.size :]


@given(data=st.data())
@settings(max_examples=150)
def test_writing_members_changes_no_other_bit(place: Place, data: st.DataObject) -> None:
    record, strategy = data.draw(some_records)
    value = data.draw(strategy)
    view: Any = place.arena.view(place.address + 3, record)
    filler = data.draw(st.sampled_from([0, 0xFF, 0xA5]))
    place.buffer[0 : record.size + 16] = bytes([filler]) * (record.size + 16)
    write_by_view(view, record, value, lambda: False)
    mine = bytearray(record.size)
    bits_of(record, 0, mine)
    for at, (mask, byte) in enumerate(zip(mine, place.buffer[3 : 3 + record.size], strict=True)):
        assert byte & ~mask & 0xFF == filler & ~mask & 0xFF, at


@given(data=st.data())
@settings(max_examples=150)
def test_what_the_codec_writes_a_view_reads(place: Place, data: st.DataObject) -> None:
    record, strategy = data.draw(some_records)
    shift, value = data.draw(st.integers(0, 16)), data.draw(strategy)
    raw = Codec(record).pack(value)
    place.buffer[shift : shift + len(raw)] = raw
    view: Any = place.arena.view(place.address + shift, record)
    assert address_or_value(record, view) == value
    assert plain(view.copy()) == value


@given(data=st.data())
@settings(max_examples=100)
def test_any_bytes_are_shown_and_never_an_error(place: Place, data: st.DataObject) -> None:
    record, _strategy = data.draw(some_records)
    raw = data.draw(st.binary(min_size=record.size, max_size=record.size))
    place.buffer[0 : len(raw)] = raw
    view: Any = place.arena.view(place.address, record)
    assert repr(view).startswith(f"<struct at {place.address:#x}: ")
    assert address_or_value(record, view) is not None


@given(data=st.data())
@settings(max_examples=60)
def test_a_whole_record_is_assigned_as_the_codec_packs_it(
    place: Place, data: st.DataObject
) -> None:
    record, strategy = data.draw(some_records)
    one, two = data.draw(strategy), data.draw(strategy)
    first: Any = place.arena.view(place.address, record)
    second: Any = place.arena.view(place.address + 4096, record)
    first.assign(one)
    second.assign(first)
    first.assign(Codec(record).unpack(Codec(record).pack(two)))
    assert (plain(second.copy()), plain(first.copy())) == (one, two)


# --- members ------------------------------------------------------------------------------------


def test_members_are_what_they_are_in_a_record(item: Any) -> None:
    item.color = Color.GREEN
    item.flag = True
    item.letter = b"x"
    item.name = "täxt"
    item.digest = b"abc"
    item.ratio = 0.5
    item.small = 0.1
    item.low, item.signed, item.high = 5, -16, (1 << 40) - 1
    item.below = -1
    assert item.color is Color.GREEN
    assert (item.flag, item.letter, item.name, item.digest) == (True, b"x", "täxt", b"abc")
    assert (item.ratio, item.small) == (0.5, struct.unpack("f", struct.pack("f", 0.1))[0])
    assert (item.low, item.signed, item.high, item.below) == (5, -16, (1 << 40) - 1, -1)
    assert item.value == 7
    copy = item.copy()
    assert type(copy) is Item
    assert (copy.color, copy.high, copy.name) == (Color.GREEN, (1 << 40) - 1, "täxt")


def test_an_enum_value_without_a_name_is_an_int(item: Any) -> None:
    item.color = 77
    assert item.color == 77
    assert "color=77" in repr(item)


@pytest.mark.parametrize("hint", [u64, i64, Annotated[u64, Bits(64)]])
def test_the_number_that_says_unread_is_a_number_like_others(
    arena: arenads.Arena, hint: Any
) -> None:
    cls = msgspec.defstruct("One", [("number", hint)])
    pool = arena.pool("pool", value=cls)
    number = UNREAD - (1 << 64) if hint is i64 else UNREAD
    view: Any = pool.view(pool.alloc(cls(number)))
    assert view.number == number
    view.number = 0
    view.number = number
    assert view.copy().number == number


def test_not_a_number_is_read(item: Any) -> None:
    item.ratio = item.small = float("nan")
    assert item.ratio != item.ratio
    assert item.small != item.small


def test_a_nested_record_is_a_view_into_the_outer_one(item: Any) -> None:
    point = item.point
    point.x = -3
    item.point.y = 4
    assert item.copy().point == Point(-3, 4)
    assert point.address == item.address + 16
    item.point = Point(5, 6)
    assert (point.x, point.y) == (5, 6)
    item.point = {"x": 7, "y": 8}
    item.path[1] = item.point
    assert item.path[1].copy() == Point(7, 8)


def test_an_unknown_member_is_refused_with_those_that_there_are(item: Any) -> None:
    with pytest.raises(AttributeError, match="Item has no member 'vlaue'; it has value, next"):
        _ = item.vlaue
    with pytest.raises(AttributeError):
        item.vlaue = 1
    assert not hasattr(item, "vlaue")


class Clash(msgspec.Struct):
    address: u32
    offset: u32
    copy: u32
    schema: u32
    load: u32
    class_: u32
    cast: u32


def test_a_member_hides_a_method_of_the_same_name_which_stays_callable(
    arena: arenads.Arena,
) -> None:
    pool = arena.pool("pool", value=Clash)
    address = pool.alloc(Clash(1, 2, 3, 4, 5, 6, 7))
    view: Any = pool.view(address)
    assert (view.address, view.offset, view.copy, view.schema, view.load) == (1, 2, 3, 4, 5)
    assert (view.class_, view.cast) == (6, 7)
    assert int(view) == address
    assert View.copy(view) == Clash(1, 2, 3, 4, 5, 6, 7)
    assert View.cast(view, u32).value == 1
    assert view == pool.view(view)
    assert "address=1, offset=2" in repr(view)


def test_members_with_leading_underscores_do_not_disturb_a_view(arena: arenads.Arena) -> None:
    names = ["__core__", "__address__", "__arena__", "_View__x", "__slots__", "__view__", "__pad"]
    fields = [Field(name, Scalar("u32"), 4 * at) for at, name in enumerate(names)]
    record = Record("nasty", 4 * len(names), 4, tuple(fields))
    pool = arena.pool("pool", value=Schema(record))
    view: Any = pool.view(pool.alloc(tuple(range(7))))
    assert (view._core__, view._address__, view._pad) == (0, 1, 6)
    assert view.address in range(arena.base, arena.base + arena.size)


def test_members_of_unions_share_their_place(arena: arenads.Arena) -> None:
    union = union_of(Field("number", Scalar("u32"), 0), Field("real", Scalar("f32"), 0))
    record = Record(
        "r", 12, 4, (Field("", union, 0), Field("named", union, 4), Field("", Record(
            "", 4, 4, (Field("low", Scalar("u16"), 0), Field("high", Scalar("u16"), 2))), 8))
    )  # fmt: skip
    pool = arena.pool("pool", value=Schema(record))
    view: Any = pool.view(pool.alloc({"number": 0, "named": {"number": 0}, "low": 1, "high": 2}))
    view.real = 1.0
    assert view.number == 0x3F800000
    view.named.number = 0x40000000
    assert view.named.real == 2.0
    view.named = {"real": 1.0}
    assert view.named.number == 0x3F800000
    assert (view.low, view.high) == (1, 2)
    assert "named={number=" in repr(view)


@packed
class Tight(msgspec.Struct):
    kind: u8
    number: u64
    real: f64
    next: Ptr[Tight]
    half: u16


def test_members_of_packed_records_are_read_and_written(arena: arenads.Arena) -> None:
    pool = arena.pool("pool", value=Tight)
    address = pool.alloc(Tight(1, 2, 0.5, 0, 3))
    view: Any = pool.view(address)
    view.number, view.real, view.next, view.half = MASK - 1, -1.5, view, 4
    assert pool[address] == Tight(1, MASK - 1, -1.5, address, 4)
    assert view.next.next == view
    with pytest.raises(arenads.SchemaError, match="aligned 64-bit integer: 'number' is at"):
        view.add(1, "number")


# --- what does not fit --------------------------------------------------------------------------

MISFITS: list[tuple[str, Any]] = [
    ("value", -1),
    ("value", 1 << 64),
    ("value", 1.0),
    ("value", "1"),
    ("value", None),
    ("below", 1 << 63),
    ("color", 1 << 32),
    ("color", "RED"),
    ("flag", 2),
    ("letter", b"ab"),
    ("name", "x" * 13),
    ("name", "a\0b"),
    ("name", 5),
    ("digest", b"ab"),
    ("digest", 3),
    ("ratio", "1"),
    ("small", 1e300),
    ("low", 8),
    ("signed", 16),
    ("low", "1"),
    ("numbers", [1, 2, 3]),
    ("numbers", [1, 2, 3, -1]),
    ("numbers", 5),
    ("point", (1, 2, 3)),
    ("point", {"x": 1}),
    ("point", {"x": 1, "y": 2, "z": 3}),
    ("path", [(1, 2)]),
    ("next", -1),
    ("next", 1 << 64),
    ("next", "x"),
    ("next", 1.5),
]


@pytest.mark.parametrize(("name", "value"), MISFITS)
def test_a_value_that_does_not_fit_is_refused_and_nothing_is_written(
    arena: arenads.Arena, item: Any, name: str, value: Any
) -> None:
    before = memory(arena)
    with pytest.raises(arenads.SchemaError) as caught:
        setattr(item, name, value)
    assert memory(arena) == before
    if name not in ("point", "path", "numbers"):  # there the path begins at the part
        with pytest.raises(arenads.SchemaError) as expected:
            Codec(Item).pack({**msgspec.structs.asdict(item.copy()), name: value})
        assert str(caught.value) == str(expected.value)
        assert caught.value.facts == expected.value.facts


@pytest.mark.parametrize(
    ("name", "value"),
    [("percent", 0), ("percent", 101), ("name", "a"), ("name", "Ab"), ("even", 3), ("bits", 10)],
)
def test_constraints_are_enforced_as_the_codec_does(
    arena: arenads.Arena, name: str, value: Any
) -> None:
    pool = arena.pool("pool", value=Limited)
    first: Any = pool.view(pool.alloc(Limited(50, "ab")))
    first.next = pool.alloc(Limited(50, "cd"))
    for view in (first, first.next, arena.view(first, Limited), first.cast(Limited)):
        with pytest.raises(arenads.SchemaError) as caught:
            setattr(view, name, value)
        with pytest.raises(arenads.SchemaError) as expected:
            Codec(Limited).pack({**msgspec.structs.asdict(view.copy()), name: value})
        assert str(caught.value) == str(expected.value)
    first.next.percent = 100
    assert (first.copy().percent, first.next.copy().percent) == (50, 100)


# --- arrays -------------------------------------------------------------------------------------


def test_an_array_is_a_sequence_in_place(item: Any) -> None:
    numbers = item.numbers
    numbers[0], numbers[-1] = 7, 9
    assert list(numbers) == [7, 0, 0, 9] == numbers.copy() == item.copy().numbers
    assert (len(numbers), 9 in numbers, numbers.index(9)) == (4, True, 3)
    assert list(reversed(numbers)) == [9, 0, 0, 7]
    numbers[1:3] = [1, 2]
    assert numbers[::-1] == [9, 2, 1, 7]
    item.numbers = range(4)
    assert numbers[1:] == [1, 2, 3]
    numbers.assign([4, 3, 2, 1])
    assert numbers[:] == [4, 3, 2, 1]


def test_elements_that_are_records_are_views(item: Any) -> None:
    item.path[1].x = 5
    item.path[0] = (3, 4)
    assert item.copy().path == [Point(3, 4), Point(5, 0)]
    assert [point.x for point in item.path] == [3, 5]
    assert item.path[0:2] == list(item.path)
    item.path = [item.path[1], (9, 9)]
    assert item.path[1:][0].copy() == Point(9, 9)


@pytest.mark.parametrize("index", [4, -5, 1 << 70])
def test_an_index_beyond_an_array_is_refused(arena: arenads.Arena, item: Any, index: int) -> None:
    before = memory(arena)
    with pytest.raises(arenads.RangeError, match=r"u16\[4\] has 4 elements"):
        _ = item.numbers[index]
    with pytest.raises(arenads.RangeError):
        item.numbers[index] = 1
    assert memory(arena) == before


class Slots(msgspec.Struct):
    numbers: Array[u32, 4]
    ratios: Array[f32, 4]
    flags: Array[bool, 4]
    letters: Array[char, 4]
    colors: Array[Color, 4]
    names: Array[Str[4], 4]
    digests: Array[Bytes[2], 4]
    points: Array[Point, 4]
    rows: Array[u16, 4, 2]
    links: Array[Ptr[Item], 4]
    percents: Array[Annotated[u8, msgspec.Meta(le=100)], 4]


@pytest.fixture
def slots(arena: arenads.Arena) -> Any:
    pool = arena.pool("slots", value=Slots)
    return pool.view(
        pool.alloc(
            Slots(
                [1, 2, 3, 4],
                [0.5] * 4,
                [True] * 4,
                [b"a"] * 4,
                [Color.GREEN] * 4,
                ["four"] * 4,
                [b"ab"] * 4,
                [Point(1, 2)] * 4,
                [[1, 2]] * 4,
                [0] * 4,
                [50] * 4,
            )
        )
    )


REFUSED_SLICES = [
    ("numbers", [9, 8, 7, -1], "[3]: expected an integer from 0 to 4294967295 (u32), found -1"),
    ("numbers", numpy.array([9.0, 8.0, 7.0, 6.0]), "[0]: expected an integer from 0"),
    ("numbers", [numpy.uint32(9), numpy.float32(8), 7, 6], "[1]: expected an integer from 0"),
    ("ratios", [9.5, numpy.float64(8.5), 7.5, 1e300], "[3]: expected a number (f32), found 1e+300"),
    ("ratios", [9.5, 8.5, 7.5, "6.5"], "[3]: expected a number (f32), found '6.5'"),
    ("flags", [False, False, False, 2], "[3]: expected a bool, found 2"),
    ("letters", [b"b", b"c", b"d", b"ef"], "[3]: expected bytes of length 1, found b'ef'"),
    ("colors", [Color.RED, Color.RED, 0, "RED"], "[3]: expected an integer from 0"),
    ("names", ["a", "b", "c", "5 long"], "[3]: expected text of at most 4 bytes"),
    ("digests", [b"12", [3, 4], b"56", [7, 256]], "[3][1]: expected an integer from 0 to 255"),
    ("digests", [b"12", b"34", b"5", b"78"], "[2]: expected 2 bytes, found b'5'"),
    ("points", [(9, 9), (8, 8), {"x": 7, "y": 7}, (6, 1 << 31)], "[3].y: expected an integer"),
    ("points", [(9, 9), (8, 8), 7, (6, 6)], "[2]: Point: expected a Point, a mapping or a tuple"),
    ("rows", [[9, 9], [8, 8], [7, 7], [6, -6]], "[3][1]: expected an integer from 0 to 65535"),
    ("links", [0, None, 0, 4096], "[3]: no Item can be at 0x1000: "),
    ("links", [0, None, 0, -1], "[3]: expected an integer from 0 to 18446744073709551615"),
    ("percents", [1, 2, 3, 101], "[3]: expected a value at most 100, found 101"),
]


@pytest.mark.parametrize(("member", "values", "complaint"), REFUSED_SLICES)
def test_a_slice_with_a_value_that_does_not_fit_writes_nothing(
    arena: arenads.Arena, slots: Any, member: str, values: Any, complaint: str
) -> None:
    before = memory(arena)
    with pytest.raises((arenads.SchemaError, arenads.AddressError)) as refused:
        getattr(slots, member)[:] = values
    assert str(refused.value).startswith(complaint)
    assert memory(arena) == before


def test_a_slice_with_a_view_of_another_type_writes_nothing(
    arena: arenads.Arena, slots: Any, item: Any
) -> None:
    before = memory(arena)
    with pytest.raises(arenads.SchemaError, match=r"^\[3\]: expected a view of Item, found one of"):
        slots.links[2:4] = [item, item.point]
    with pytest.raises(arenads.SchemaError, match=r"^\[0\]: expected a value of type Point"):
        slots.points[2::-2] = [(1, 1), item]
    assert memory(arena) == before


@pytest.mark.parametrize(
    ("member", "values", "complaint"),
    [
        (member, values, complaint)
        for member, values, complaint in REFUSED_SLICES
        if not complaint.startswith("[3]: no Item")  # a copy has addresses, which are not followed
    ],
)
def test_an_array_or_a_record_with_a_value_that_does_not_fit_writes_nothing(
    arena: arenads.Arena, slots: Any, member: str, values: Any, complaint: str
) -> None:
    before = memory(arena)
    with pytest.raises(arenads.SchemaError):
        setattr(slots, member, values)
    with pytest.raises(arenads.SchemaError, match=member):
        slots.assign({**msgspec.structs.asdict(slots.copy()), "numbers": [9] * 4, member: values})
    assert memory(arena) == before


def test_a_slice_takes_all_that_its_elements_take(slots: Any, item: Any) -> None:
    slots.numbers[1:3] = numpy.array([8, 7], dtype=numpy.uint32)
    slots.ratios[:2] = [numpy.float32(1.5), numpy.float64(2.5)]
    slots.letters[:2] = ["b", 99]
    slots.flags[::2] = (False, 0)
    slots.colors[:2] = [Color.RED, 0]
    slots.names[2:] = ["a", b"bc"]
    slots.links[1:3] = [item, item.address]
    slots.percents[:] = [100] * 4
    assert slots.numbers[:] == [1, 8, 7, 4]
    assert slots.ratios[:] == [1.5, 2.5, 0.5, 0.5]
    assert slots.letters[:] == [b"b", b"c", b"a", b"a"]
    assert slots.flags[:] == [False, True, False, True]
    assert slots.colors[:] == [Color.RED, Color.RED, Color.GREEN, Color.GREEN]
    assert slots.names[:] == ["four", "four", "a", "bc"]
    assert slots.links[:] == [None, item, item, None]


def test_a_slice_may_be_assigned_to_one_that_it_overlaps(slots: Any) -> None:
    slots.points[:] = [(0, 0), (1, 1), (2, 2), (3, 3)]
    slots.points[1:4] = slots.points[0:3]
    assert slots.points.copy() == [Point(0, 0), Point(0, 0), Point(1, 1), Point(2, 2)]


def test_two_pointees_of_one_name_make_no_pool(arena: arenads.Arena) -> None:
    before = memory(arena)
    with pytest.raises(arenads.SchemaError, match="are called 'Part'"):
        arena.pool("parted", value=PARTED)
    assert memory(arena) == before
    assert "parted" not in arena.structures


def test_two_pointees_of_one_name_make_no_view(arena: arenads.Arena, item: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="are called 'Part'"):
        arena.view(item.address, PARTED)
    with pytest.raises(arenads.SchemaError, match="are called 'Part'"):
        item.cast(PARTED)


def test_two_classes_of_one_name_with_the_same_members_are_one_record(
    arena: arenads.Arena,
) -> None:
    again = msgspec.defstruct("Part", [("a", u32)])
    both = msgspec.defstruct("Both", [("p", Ptr[SHORT]), ("q", Ptr[again])])
    parts, pairs = arena.pool("parts", value=again), arena.pool("pairs", value=both)
    pair = pairs.view(pairs.alloc(both(parts.alloc(again(7)), parts.alloc(again(8)))))
    assert (pair.p.a, pair.q.a) == (7, 8)


def test_a_slice_of_another_length_is_refused(arena: arenads.Arena, item: Any) -> None:
    before = memory(arena)
    with pytest.raises(arenads.SchemaError, match="expected 2 values for a slice"):
        item.numbers[1:3] = [1]
    with pytest.raises(arenads.SchemaError, match="expected an index or a slice"):
        _ = item.numbers["x"]
    assert memory(arena) == before


def test_arrays_of_arrays_and_of_pointers(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct("Grid", [("grid", Array[u8, 2, 3]), ("to", Array[Ptr[Point], 2])])
    points, pool = arena.pool("points", value=Point), arena.pool("grids", value=cls)
    point: Any = points.view(points.alloc(Point(1, 2)))
    view: Any = pool.view(pool.alloc(cls([[0] * 3] * 2, [0, 0])))
    view.grid[1][2] = 200
    view.grid[0] = [1, 2, 3]
    view.to[1] = point
    assert view.copy() == cls([[1, 2, 3], [0, 0, 200]], [0, point.address])
    assert view.to[0] is None
    assert view.to[1] == point
    assert view.to[1].y == 2
    assert f"to=[None, {point.address:#x}]" in repr(view)


def test_an_array_of_no_elements_is_empty(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct("Open", [("count", u64), ("rest", Array[u16, 0]), ("raw", Bytes[0])])
    pool = arena.pool("pool", value=cls)
    view: Any = pool.view(pool.alloc(cls(1, [], b"")))
    assert (list(view.rest), view.rest[:], view.rest.copy(), view.raw) == ([], [], [], b"")
    view.rest, view.raw = [], b""
    view.rest[0:1] = ()
    assert view.copy() == cls(1, [], b"")
    assert "rest=[]" in repr(view) and repr(view.rest).startswith("<u16[0] at 0x")
    with pytest.raises(arenads.RangeError):
        _ = view.rest[0]


# --- pointers -----------------------------------------------------------------------------------


def test_a_pointer_is_a_view_of_its_target_or_none(arena: arenads.Arena, item: Any) -> None:
    other = arena.structures["items"].alloc(item.copy())  # type: ignore[attr-defined]
    assert item.next is None
    item.next = other
    item.next.value = 41
    item.next.next = item
    assert item.next.next.next.value == 41
    assert type(item.next) is type(item)
    assert item.next.next == item
    assert item.copy().next == other
    item.next.next = None
    assert item.next.next is None


def test_pointers_to_numbers_text_and_arrays_have_a_value(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct(
        "Many",
        [
            ("number", Ptr[u64]),
            ("text", Ptr[Str[8]]),
            ("numbers", Ptr[Array[u16, 3]]),
            ("pointer", Ptr[Ptr[Point]]),
        ],
    )
    place: Any = arena.pool("place", value=Bytes[64])
    points: Any = arena.pool("points", value=Point)
    many: Any = arena.pool("many", value=cls)
    at, point = place.alloc(bytes(64)), points.alloc(Point(1, 2))
    view = many.view(many.alloc(cls(at, at + 8, at + 16, at + 24)))
    view.number.value += 5
    view.text.value = "text"
    view.numbers[1] = 7
    view.pointer.value = point
    assert struct.unpack_from("<Q8s3H2xQ", place[at]) == (
        5, b"text\0\0\0\0", 0, 7, 0, point
    )  # fmt: skip
    assert view.number.add(1) == 5
    assert view.numbers.copy() == [0, 7, 0]
    assert view.pointer.value.x == 1
    assert view.text.value == "text"
    assert repr(view.number) == f"<u64 at {at:#x}: 6>"
    assert repr(view.pointer) == f"<Point * at {at + 24:#x}: {point:#x}>"


def test_what_is_behind_an_unknown_pointer_is_cast(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct("Any", [("data", Ptr[None]), ("other", Ptr["elsewhere"])])
    pool, points = arena.pool("pool", value=cls), arena.pool("points", value=Point)
    point: Any = points.view(points.alloc(Point(1, 2)))
    view: Any = pool.view(pool.alloc(cls(0, 0)))
    assert (view.data, view.other) == (None, None)
    view.data, view.other = point, point.address
    assert int(view.data) == view.other.address == point.address
    assert repr(view.data) == f"<void at {point.address:#x}>"
    assert repr(view.other) == f"<elsewhere at {point.address:#x}>"
    assert view.data.cast(Point) == point
    with pytest.raises(AttributeError, match="what elsewhere is, is not known here"):
        _ = view.other.x
    for use in (view.data.copy, lambda: view.data.cast("Elsewhere"), lambda: view.data.assign(1)):
        with pytest.raises(arenads.SchemaError):
            use()
    # A kernel pointer, say: it can be looked at, and not followed.
    view.data = 0xFFFF_8880_0000_1000
    assert int(view.data) == 0xFFFF_8880_0000_1000
    with pytest.raises(arenads.AddressError):
        view.data.cast(Point)


def test_a_record_that_the_schema_knows_is_cast_to_by_its_name(item: Any) -> None:
    assert item.point.cast("Item").address == item.point.address
    with pytest.raises(arenads.SchemaError, match=r"the name of a record \(Item\), found 'Imet'"):
        item.cast("Imet")


def test_a_view_of_another_type_is_no_target(item: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="expected a view of Item, found one of Point"):
        item.next = item.point
    with pytest.raises(arenads.SchemaError, match="expected a value of type Point"):
        item.point = item
    assert item.next is None
    item.next = item.cast(Item)
    assert item.next == item


def test_a_view_of_another_arena_is_no_target(item: Any) -> None:
    with arenads.create("1MiB", engine="native") as other:
        items = other.pool("items", value=Item)
        with pytest.raises(arenads.SchemaError, match="the same arena"):
            item.next = items.view(items.alloc(Item(1)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("u64", "u64"),
        ("unsigned long long", "u64"),
        ("long unsigned int", "u64"),
        ("long", "i64"),
        ("int", "i32"),
        ("unsigned int", "u32"),
        ("short unsigned int", "u16"),
        ("signed char", "i8"),
        ("unsigned char", "u8"),
        ("char", "char"),
        ("_Bool", "bool"),
        ("double", "f64"),
        ("char[16]", "char[16]"),
        ("unsigned char[4]", "u8[4]"),
        ("int[2][3]", "i32[2][3]"),
        ("struct node *", "node *"),
        ("void *", "void *"),
        ("enum Color", None),
        ("node", None),
        ("", None),
        ("long[", None),
    ],
)
def test_the_types_that_pointers_name(name: str, expected: str | None) -> None:
    found = _type_named(name)
    assert (found and spell(found)) == expected


# --- wrong addresses ----------------------------------------------------------------------------

WRONG: dict[str, Callable[[arenads.Arena, int], Any]] = {
    "odd": lambda arena, address: address + 1,
    "half a word": lambda arena, address: address + 4,
    "the base": lambda arena, address: arena.base,
    "before the arena": lambda arena, address: arena.base - 8,
    "behind the arena": lambda arena, address: arena.base + arena.size,
    "across the end": lambda arena, address: arena.base + arena.size - 8,
    "not populated": lambda arena, address: arena.base + arena.populated,
    "partly populated": lambda arena, address: arena.base + arena.populated - 8,
    "its offset": lambda arena, address: address - arena.base,
    "1": lambda arena, address: 1,
    "8": lambda arena, address: 8,
    "the last": lambda arena, address: MASK,
    "the last word": lambda arena, address: MASK - 7,
    "another window": lambda arena, address: address + (1 << 32),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_address_where_no_record_can_be_is_refused(
    engine: Any, wrong: Callable[[arenads.Arena, int], int]
) -> None:
    with arenads.create("1MiB", engine=engine, populate="64KiB", provision=None) as arena:
        items: Any = arena.pool("items", value=Item)
        item = items.view(items.alloc(Item(7)))
        address = wrong(arena, item.address)
        item.store(address, "next")
        before = memory(arena)
        for use in (
            lambda: arena.view(address, Item),
            lambda: item.next,
            lambda: item.next.value,
            lambda: setattr(item, "next", address),
            lambda: arena.view(item.address + 8, Ptr[Item]).value,
        ):
            with pytest.raises(arenads.AddressError) as caught:
                use()
            facts = caught.value
            assert (facts.address, facts.size, facts.align) == (address, Codec(Item).size, 8)
            assert f"no Item can be at {address:#x}: " in str(facts)
        assert memory(arena) == before
        assert f"next={address:#x}" in repr(item)
        assert item.load("next") == address


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (0, arenads.AddressError),
        (-8, arenads.AddressError),
        (1 << 64, arenads.AddressError),
        ("text", arenads.SchemaError),
        (None, arenads.SchemaError),
        (1.5, arenads.SchemaError),
    ],
)
def test_what_is_no_address_at_all_is_refused(
    arena: arenads.Arena, wrong: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        arena.view(wrong, Item)


def test_the_error_says_what_is_wrong_with_an_address(arena: arenads.Arena, item: Any) -> None:
    for address, words in (
        (0, "it is NULL"),
        (item.address + 1, "expected a multiple of 8"),
        (item.offset, r"it looks like an offset: BPF stores pointers with ads_user_form\(\)"),
        (arena.base + arena.size, f"the arena has the addresses {arena.base:#x} to"),
        (arena.base + arena.size - 8, "go beyond the arena's end"),
        (arena.base, "the first 64 bytes of an arena are nobody's"),
    ):
        with pytest.raises(arenads.AddressError, match=words):
            arena.view(address, Item)
    item.store(3, "next")
    with pytest.raises(
        arenads.AddressError, match=f"pointer 'next' at {item.address + 8:#x}: no Item"
    ):
        _ = item.next


@pytest.mark.parametrize("type_", [int, dict, "nowhere", None, Record("r", 8, 3, ()), 5])
def test_what_is_no_type_is_refused(arena: arenads.Arena, item: Any, type_: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.view(item.address, type_)
    with pytest.raises(arenads.SchemaError):
        item.cast(type_)


def test_a_type_may_be_given_in_many_forms(arena: arenads.Arena, item: Any) -> None:
    schema = item.schema
    for type_ in (Item, schema, schema.type, type(item)):
        view: Any = arena.view(item.address, type_)
        assert view == item
        assert view.value == 7


def test_a_type_aligned_to_more_than_words_needs_words_only(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct("Wide", [("value", Annotated[u64, Align(64)])])
    pool = arena.pool("pool", value=cls)
    view: Any = pool.view(pool.alloc(cls(7)))
    assert view.address % 64 and view.value == 7


def test_views_are_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match=r"made by Arena\.view"):
        View()


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps])
def test_arenas_and_structures_are_neither_copied_nor_pickled(use: Any) -> None:
    with arenads.create("1MiB", engine="native") as arena:
        ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u64)
        ages[1] = 2  # from here on it is of a class of its own
        for each in (arena, ages):
            with pytest.raises(TypeError, match="pin"):
                use(each)


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_view_is_neither_copied_nor_pickled_but_its_copy_is(item: Any, use: Any) -> None:
    with pytest.raises(TypeError, match=r"its copy\(\) can"):
        use(item)
    use(item.copy())


def test_a_constraint_that_cannot_be_hashed_is_enforced_too(arena: arenads.Arena) -> None:
    hint = Annotated[u64, msgspec.Meta(le=10, extra={"what": ["a list"]})]
    pool = arena.pool("pool", value=u64)
    view: Any = arena.view(pool.alloc(5), hint)
    with pytest.raises(arenads.SchemaError, match="a value at most 10"):
        view.value = 11
    assert view.value == 5


# --- closed, read-only, forked ----------------------------------------------------------------


def every_use(item: Any) -> list[Callable[[], Any]]:
    numbers, point = item.numbers, item.point
    return [
        *(lambda name=name: getattr(item, name) for name in ("value", "next", "name", "color")),
        *(lambda name=name: getattr(item, name) for name in ("flag", "ratio", "small", "low")),
        lambda: item.copy(),
        lambda: numbers[0],
        lambda: numbers[:],
        lambda: list(numbers),
        lambda: point.x,
        lambda: item.load("value"),
        *every_change(item),
    ]


def every_change(item: Any) -> list[Callable[[], Any]]:
    numbers, point = item.numbers, item.point
    values = {"value": 1, "next": None, "name": "x", "color": 5, "flag": True, "ratio": 1.0}
    values |= {"small": 1.0, "low": 1, "point": (1, 2), "numbers": [1, 2, 3, 4]}
    return [
        *(lambda name=name, value=value: setattr(item, name, value)
          for name, value in values.items()),
        lambda: item.assign(Item(1)),
        lambda: numbers.__setitem__(0, 1),
        lambda: setattr(point, "x", 1),
        lambda: item.store(1, "value"),
        lambda: item.exchange(1, "value"),
        lambda: item.add(1, "value"),
        lambda: item.cas(7, 1, "value"),
    ]  # fmt: skip


def test_a_view_of_a_closed_arena_says_so(arena: arenads.Arena, item: Any) -> None:
    uses = every_use(item)
    address = item.address
    twin = arena.view(address, Item)
    arena.close()
    for use in (*uses, lambda: item.cast(Point), lambda: arena.view(address, Item)):
        with pytest.raises(arenads.ClosedError):
            use()
    assert repr(item) == f"<Item at {address:#x}, arena closed>"
    assert (item.address, item == twin, hash(item)) == (address, True, hash(twin))


def test_structures_of_a_closed_arena_have_no_views(arena: arenads.Arena) -> None:
    pool, array = arena.pool("p", value=u64), arena.array("a", value=u64, max_entries=9)
    mapping, values = arena.hashmap("m", key=u32, value=u64), arena.list("l", value=u64)
    mapping[1] = 1
    address, order = pool.alloc(1), values.push(1)
    arena.close()
    for structure, key in ((pool, address), (array, 1), (mapping, 1), (values, order)):
        with pytest.raises(arenads.ClosedError):
            structure.view(key)  # type: ignore[attr-defined]


def test_a_view_of_a_read_only_arena_reads_and_refuses_to_write(
    arena: arenads.Arena, item: Any, pin: Path
) -> None:
    address = item.address
    arena.pin(pin)
    arena.close()
    with arenads.open(pin, readonly=True) as again:
        view: Any = again.structures["items"].view(address)  # type: ignore[attr-defined]
        before = memory(again)
        for change in every_change(view):
            with pytest.raises(arenads.ReadOnlyError):
                change()
        assert memory(again) == before
        assert (view.value, view.next, view.name) == (7, None, "")
        assert view.load("value") == 7


def test_a_view_works_in_a_forked_child(item: Any, in_fork: Any) -> None:
    def child() -> None:
        assert item.value == 7
        item.add(1, "value")

    in_fork(child)
    assert item.value == 8


def test_a_view_keeps_its_arena_from_being_collected(
    engine: Any, leaves_nothing: Callable[[], Any]
) -> None:
    def made() -> Any:
        items = arenads.create("1MiB", engine=engine).pool("items", value=Item)
        return items.view(items.alloc(Item(7)))

    with leaves_nothing():
        view = made()
        assert view.value == 7
        del view


# --- equality -------------------------------------------------------------------------------


def test_views_of_one_place_and_type_are_equal(arena: arenads.Arena, item: Any) -> None:
    twin: Any = arena.view(item.address, item.schema)
    assert item == twin and hash(item) == hash(twin) and item is not twin
    assert len({item, twin, item.point, arena.view(item, u64)}) == 3
    assert item != arena.view(item, u64)
    assert item != item.address
    assert item.numbers == item.numbers
    assert item.numbers != [0, 0, 0, 0]


def test_views_of_the_same_address_in_other_arenas_differ(engine: Any, item: Any) -> None:
    with arenads.create("1MiB", engine=engine) as other:
        items: Any = other.pool("items", value=Item)
        assert items.view(items.alloc(Item(7))) != item


# --- atomics ------------------------------------------------------------------------------------


def test_atomics_return_what_was_there(item: Any) -> None:
    assert item.add(3, "value") == 7
    assert item.add(-10, "value") == 10
    assert item.exchange(5, "value") == 0
    assert item.cas(4, 9, "value") is False
    assert item.cas(5, 9, "value") is True
    item.store(MASK, "value")
    assert item.load("value") == MASK == item.value
    assert item.add(2, "value") == MASK
    assert item.value == 1
    assert item.add(-5, "below") == 0
    assert item.load("below") == -5
    assert item.cas(-5, -6, "below")


def test_pointers_are_exchanged_atomically(arena: arenads.Arena, item: Any) -> None:
    other = arena.structures["items"].view(  # type: ignore[attr-defined]
        arena.structures["items"].alloc(Item(1))  # type: ignore[attr-defined]
    )
    assert item.cas(None, other, "next")
    assert not item.cas(None, item, "next")
    assert item.next == other
    assert item.load("next") == other.address
    assert item.exchange(None, "next") == other.address
    assert item.next is None


def test_a_path_leads_to_a_member_of_a_member(arena: arenads.Arena) -> None:
    cls = msgspec.defstruct("Cpus", [("cpu", Array[Job, 3]), ("words", Array[u64, 2])])
    pool = arena.pool("pool", value=cls)
    view: Any = pool.view(pool.alloc(cls([Job(0)] * 3, [0, 0])))
    assert view.add(5, "cpu[2].number") == 0
    assert view.add(6, "words[1]") == 0
    assert view.words.add(1, "[1]") == 6
    assert view.words.add(1, 1) == 7
    assert (view.cpu[2].number, list(view.words)) == (5, [0, 8])


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("color", "is a u32"),
        ("ratio", "is a f64"),
        ("high", "bit field"),
        ("nothing", "has no member 'nothing'"),
        ("point", "expected a number"),
        ("numbers[9]", "expected an index below 4"),
        ("", "expected a number"),
        (None, "expected a member"),
    ],
)
def test_atomics_on_what_is_no_word_are_refused(item: Any, field: Any, words: str) -> None:
    for use in (
        lambda: item.load(field),
        lambda: item.store(1, field),
        lambda: item.add(1, field),
        lambda: item.exchange(1, field),
        lambda: item.cas(0, 1, field),
    ):
        with pytest.raises(arenads.SchemaError, match=words):
            use()


def test_the_word_that_stands_for_an_error_is_a_value_too(arena: arenads.Arena, item: Any) -> None:
    item.store(UNREAD, "value")
    assert item.load("value") == item.add(1, "value") == UNREAD
    item.store(UNREAD, "value")
    assert item.cas(UNREAD, UNREAD, "value")
    assert item.exchange(7, "value") == UNREAD
    assert item.load("value") == 7


def test_what_paths_mean_is_not_kept_without_end(arena: arenads.Arena) -> None:
    many: Any = arena.view(
        arena.pool("many", value=Array[u64, 3000]).alloc([0] * 3000), Array[u64, 3000]
    )
    for index in range(3000):
        assert many.add(index, index) == 0
    kind = type(many).__view__
    assert 0 < len(kind.writable_words) <= 1024
    assert all(many.load(f"[{index}]") == index for index in range(3000))
    assert 0 < len(kind.words) <= 1024


@pytest.mark.parametrize("number", [-1, 1 << 64, 1.5, "1"])
def test_a_number_that_does_not_fit_a_word_is_refused(item: Any, number: Any) -> None:
    uses: list[Callable[[], object]] = [
        lambda: item.store(number, "value"),
        lambda: item.exchange(number, "value"),
        lambda: item.cas(number, 1, "value"),
        lambda: item.cas(7, number, "value"),
    ]
    for use in uses:
        with pytest.raises(arenads.SchemaError):
            use()
    assert item.value == 7


def in_threads(*work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_additions_of_threads_are_not_lost(item: Any) -> None:
    def add() -> None:
        for _ in range(5000):
            item.add(1, "value")

    in_threads(add, add, add)
    assert item.value == 15007


def test_writers_of_neighbouring_bit_fields_lose_nothing(item: Any) -> None:
    def count(name: str, most: int) -> Callable[[], None]:
        def run() -> None:
            for number in range(4000):
                setattr(item, name, number % most)
                assert getattr(item, name) == number % most

        return run

    in_threads(count("low", 8), count("signed", 16), count("high", 1 << 30))
    assert (item.low, item.signed, item.high) == (3999 % 8, 3999 % 16, 3999)


NEIGHBOUR = """
#include <arenads/bpf.h>
struct shared { __u32 low : 3, middle : 20, : 9; __u32 count; };
ADS_ARENA(ADS_MIB);
ADS_ARRAY(shared, struct shared, 1);
char LICENSE[] SEC("license") = "GPL";
struct work { __u64 count, done; };

/* Count in the upper half of the word that the bit fields are in. */
SEC("syscall") int count(struct work *work)
{
	__u64 __arena *word = (__u64 __arena *)shared_lookup(0);
	__u64 done, count = work->count;

	for (done = 0; word && done < count && ads_may_loop(); done++)
		ads_add(word, 1ull << 32);
	work->done = done;
	return 0;
}
"""


def test_a_bit_field_is_written_without_harm_to_what_a_program_changes_beside_it(
    engine: Any, tmp_path: Path
) -> None:
    source = tmp_path / "neighbour.bpf.c"
    source.write_text(NEIGHBOUR)
    for chosen in ("kernel", "native"):
        arenads.compile(source, engine=chosen)  # type: ignore[arg-type]
    with arenads.load(tmp_path / "neighbour.bpf.o", engine=engine) as program:
        view: Any = program["shared"].view(0)  # type: ignore[attr-defined]
        done: list[int] = []
        ended = threading.Event()

        def run() -> None:
            for _ in range(4):  # long, so that both do run at the same time
                context = program.run("count", struct.pack("<QQ", 40_000_000, 0)).context
                done.append(struct.unpack("<QQ", context)[1])
            ended.set()

        def write() -> None:
            number = 0
            while not ended.is_set():
                view.middle = number = (number + 1) % (1 << 20)
                # Having just read the word makes a lost update likely, where one can be.
                assert view.middle == number and view.count >= 0

        in_threads(run, write)
        assert view.count == sum(done) % (1 << 32)


def test_an_aligned_member_is_never_seen_half_written(item: Any) -> None:
    values = (0, MASK, 0x0123456789ABCDEF)
    done = threading.Event()
    seen = set()

    def write() -> None:
        for number in range(5000):
            item.value = values[number % 3]
        done.set()

    def read() -> None:
        while not done.is_set():
            seen.add(item.value)

    item.value = 0
    in_threads(write, read)
    assert seen <= set(values)


# --- structures -----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", ["hashmap", "orderedmap"])
def test_a_value_of_a_map_is_viewed_in_place(arena: arenads.Arena, maker: str) -> None:
    items: Any = getattr(arena, maker)("items", key=u32, value=Item)
    items[5] = Item(7)
    view = items.view(5)
    view.value += 1
    view.name = "here"
    view.next = view
    assert items[5].value == 8
    assert items[5].name == "here"
    assert type(view.copy()) is Item
    assert items.view(5) == view == view.next
    items.add(5, 2, "value")
    assert view.value == 10
    with pytest.raises(arenads.KeyAbsentError):
        items.view(6)


def test_an_element_of_an_array_is_viewed_in_place(arena: arenads.Arena) -> None:
    items: Any = arena.array("items", value=Item, max_entries=1000)
    items.view(-1).value = 9
    assert items[999].value == 9
    assert items.view(0).next is None
    with pytest.raises(arenads.RangeError):
        items.view(1000)


def test_an_untouched_element_of_a_read_only_array_has_no_view(
    arena: arenads.Arena, pin: Path
) -> None:
    items = arena.array("items", value=Item, max_entries=100_000)
    items[0] = Item(3)
    arena.pin(pin)
    arena.close()
    with arenads.open(pin, readonly=True) as again:
        items = again.structures["items"]  # type: ignore[assignment]
        assert items.view(0).value == 3
        with pytest.raises(arenads.ReadOnlyError):
            items.view(99_999)


def test_a_value_of_a_list_is_viewed_in_place(arena: arenads.Arena) -> None:
    items: Any = arena.list("items", value=Item)
    order = items.push(Item(7))
    items.view(order).value += 1
    assert items.get(order).value == 8
    with pytest.raises(arenads.KeyAbsentError):
        items.view(order - 1)


def test_a_structure_that_was_removed_has_no_views(arena: arenads.Arena) -> None:
    items: Any = arena.hashmap("items", key=u32, value=Item)
    items[5] = Item(7)
    arena.remove("items")
    with pytest.raises(arenads.RemovedError):
        items.view(5)


def test_a_view_stands_for_its_address_in_a_pool(arena: arenads.Arena) -> None:
    items: Any = arena.pool("items", value=Item)
    view = items.view(items.alloc(Item(7)))
    assert items[view].value == 7
    items[view] = Item(8)
    assert view.value == 8
    items.free(view)
    with pytest.raises(arenads.KeyAbsentError):
        items.view(view)
    with pytest.raises(arenads.KeyAbsentError):
        items.free(view)


def test_records_of_an_intrusive_list_are_walked_and_linked_as_views(arena: arenads.Arena) -> None:
    tasks: Any = arena.pool("tasks", value=Task)
    ready = arena.intrusive("ready", pool=tasks, member="node")
    views = [tasks.view(tasks.alloc(Task(pid))) for pid in range(300)]
    for view in views:
        ready.push(view)
    for task in ready.views():
        task.add(task.pid, "calls")
    assert list(ready.views()) == views[::-1]
    assert sum(task.calls for task in ready.views()) == sum(range(300))
    assert views[7] in ready
    with pytest.raises(arenads.LinkedError):
        ready.push(views[7])
    with pytest.raises(arenads.LinkedError):
        tasks.free(views[7])
    ready.remove(views[7])
    assert not ready.discard(views[7])
    with pytest.raises(arenads.KeyAbsentError):
        ready.remove(views[7])
    ready.insert(1, views[7])
    assert next(iter(ready.views())) == views[7]


def test_nodes_are_changed_by_their_list_only(arena: arenads.Arena) -> None:
    tasks: Any = arena.pool("tasks", value=Task)
    ready = arena.intrusive("ready", pool=tasks, member="node")
    view = tasks.view(tasks.alloc(Task(1)))
    ready.push(view)
    before = memory(arena)
    for use in (
        lambda: setattr(view.node, "order", 5),
        lambda: setattr(view, "node", Node()),
        lambda: view.node.assign(Node()),
        lambda: view.store(0, "node.link"),
        lambda: view.node.add(1, "order"),
    ):
        with pytest.raises(arenads.SchemaError, match="by its intrusive list only"):
            use()
    assert memory(arena) == before
    view.assign(Task(2, Node(), 9))
    assert (view.pid, view.calls, view in ready, len(ready)) == (2, 9, True, 1)
    assert view.node.order == view.load("node.order") == view.copy().node.order > 0


def test_a_ring_of_links_is_walked_through_the_records_that_they_are_in(
    arena: arenads.Arena,
) -> None:
    jobs: Any = arena.pool("jobs", value=Job)
    heads: Any = arena.array("head", value=Link, max_entries=1)
    head = heads.view(0)
    head.next = head.previous = head
    for number in range(5):
        link = jobs.view(jobs.alloc(Job(number))).link
        last = head.previous
        link.previous, link.next = last, head
        last.next = head.previous = link
    found, link = [], head.next
    while link != head:
        found.append(link.container(Job, "link").number)
        link = link.next
    assert found == list(range(5))
    with pytest.raises(arenads.SchemaError, match="expected a member of type Link"):
        link.container(Job, "number")
    with pytest.raises(arenads.SchemaError, match="has no member 'lnk'"):
        link.container(Job, "lnk")


# --- a tree that a program builds -------------------------------------------------------------


class Grown:
    """A tree that a BPF program inserts into, and its views."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.nodes: Any = program["nodes"]
        self.tree: Any = program["tree"].view(0)  # type: ignore[attr-defined]

    def run(self, name: str, key: int) -> tuple[int, int, int, int]:
        result = self.program.run(name, STEP.pack(key, 0, 0, 0))
        _, hits, depth, where = STEP.unpack(result.context)
        return result.value, hits, depth, where

    def insert(self, key: int, **more: object) -> Any:
        """Insert from Python, as the program does: by one compare-exchange of a pointer."""
        at, field, depth = self.tree, "root", 0
        while node := getattr(at, field):
            if node.key == key:
                node.add(1, "hits")
                return node
            at, field, depth = node, "left" if key < node.key else "right", depth + 1
        fresh = self.nodes.view(self.nodes.alloc({"key": key, "hits": 1, "depth": depth, **more}))
        assert at.cas(None, fresh, field)
        self.tree.add(1, "size")
        return fresh


def walk(node: Any) -> Iterator[Any]:
    if node is not None:
        yield from walk(node.left)
        yield node
        yield from walk(node.right)


@pytest.fixture(params=["C first", "Python first"])
def grown(
    request: pytest.FixtureRequest, engine: Any, compiled: Callable[..., Path]
) -> Iterator[Grown]:
    path = compiled("tree", engine)
    if request.param == "C first":
        with arenads.load(path, engine=engine) as program:
            yield Grown(program)
        return
    with arenads.create("4MiB", engine=engine) as arena:
        nodes = arena.pool("nodes", value=TreeNode, max_entries=5000)
        array = arena.array("tree", value=Tree, max_entries=1)
        with arenads.load(path, arena=arena) as program:
            grown = Grown(program)
            grown.nodes, grown.tree = nodes, array.view(0)
            yield grown


def keys(count: int) -> list[int]:
    return random.Random(count).sample(range(10 * count), count)


def test_a_tree_that_a_program_built_is_walked_by_views_alone(grown: Grown) -> None:
    for key in keys(400):
        assert grown.run("insert", key)[0] == 0
    assert grown.tree.size == 400
    found = list(walk(grown.tree.root))
    assert [node.key for node in found] == sorted(keys(400))
    assert grown.tree.root.key == keys(400)[0]
    for node in found:
        assert grown.run("find", node.key) == (0, 1, node.depth, node.address)
        assert node.label == chr(ord("a") + node.key % 26)
        assert node.copy() == grown.nodes[node.address]


def test_a_program_finds_what_python_inserted(grown: Grown) -> None:
    for key in keys(200):
        node = grown.insert(key, label="py")
        assert grown.run("find", key) == (0, 1, node.depth, node.address)
    assert [node.key for node in walk(grown.tree.root)] == sorted(keys(200))
    assert grown.run("find", 10**6)[0] == -2  # ADS_ABSENT
    assert grown.nodes.check().errors == 0


def test_both_sides_grow_one_tree_by_turns(grown: Grown) -> None:
    expected: dict[int, int] = {}
    for number, key in enumerate(keys(150) + keys(150)):
        if number % 3:
            assert grown.run("insert", key)[0] == 0
        else:
            grown.insert(key)
        expected[key] = expected.get(key, 0) + 1
    found = {node.key: node.hits for node in walk(grown.tree.root)}
    assert found == dict(sorted(expected.items()))
    assert list(found) == sorted(expected)
    assert len(grown.nodes) == grown.tree.size == 150


def test_a_change_by_a_view_is_seen_by_the_program(grown: Grown) -> None:
    for key in (5, 3, 8):
        grown.run("insert", key)
    root = grown.tree.root
    root.hits = 100
    root.right.add(10, "hits")
    assert grown.run("find", 5)[1] == 100
    assert grown.run("insert", 8)[1] == 12
    root.left = None
    assert grown.run("find", 3)[0] == -2


def test_another_process_walks_the_tree_with_nothing_but_the_pin(
    grown: Grown, pin: Path, python: Any
) -> None:
    for key in keys(50):
        grown.run("insert", key)
    grown.program.arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            def walk(node):
                return walk(node.left) + [node.key] + walk(node.right) if node else []
            print(walk(arena.structures["tree"].view(0).root))
    """
    assert python(script, pin).stdout.strip() == str(sorted(keys(50)))


def test_a_damaged_tree_is_an_error_and_no_crash(grown: Grown) -> None:
    for key in keys(50):
        grown.run("insert", key)
    random.seed(4)
    arena = grown.program.arena
    nodes = list(walk(grown.tree.root))
    for node, value in itertools.product(nodes[:10], (1, 63, arena.base - 1, MASK, 1 << 63)):
        before = node.load("left")
        node.store(value, "left")
        with pytest.raises(arenads.AddressError):
            list(walk(grown.tree.root))
        assert f"left={value:#x}" in repr(node)
        node.store(before, "left")
    assert [node.key for node in walk(grown.tree.root)] == sorted(keys(50))


# --- C pointers of all sorts --------------------------------------------------------------------

POINTERS = """
#include <arenads/bpf.h>
enum color { RED };
struct leaf { int number; };
struct many {
    int __arena *number;
    unsigned long long __arena *wide;
    char (__arena *text)[8];
    struct leaf __arena *leaf;
    struct leaf __arena *__arena *deep;
    void __arena *any;
    const volatile unsigned char __arena *octet;
    enum color __arena *color;
};
ADS_ARENA(ADS_MIB);
ADS_POOL(many, struct many, 10);
ADS_POOL(place, struct many, 10);
ADS_POOL(leaves, struct leaf, 10); /* compilers leave out of BTF what is behind pointers only */
"""


def test_pointers_of_c_have_the_types_that_they_name(tmp_path: Path) -> None:
    source = tmp_path / "pointers.bpf.c"
    source.write_text(POINTERS + 'char LICENSE[] SEC("license") = "GPL";\n')
    for chosen in ("kernel", "native"):
        arenads.compile(source, engine=chosen)  # type: ignore[arg-type]
    with arenads.load(tmp_path / "pointers.bpf.o", engine="native") as program:
        many, place = program["many"], program["place"]
        to = place.alloc((0,) * 8)  # type: ignore[attr-defined]
        view = many.view(many.alloc((to,) * 8))  # type: ignore[attr-defined]
        names = {name: getattr(view, name).__view__.name for name in view.copy().__struct_fields__}
        assert names == {
            "number": "i32",
            "wide": "u64",
            "text": "char[8]",
            "leaf": "leaf",
            "deep": "leaf *",
            "any": "void",
            "octet": "u8",
            "color": "color",
        }
        view.number.value = -7
        assert view.leaf.number == -7
        view.deep.value = view.leaf
        assert view.deep.value.number == view.leaf.number


# --- type checkers ------------------------------------------------------------------------------

USER_CODE = """
from __future__ import annotations

import msgspec

import arenads
from arenads import Ptr, View, u64


class Item(msgspec.Struct):
    value: u64
    next: Ptr[Item] = 0


def total(item: View[Item] | None) -> int:
    found = 0
    while item is not None:
        found += item.value
        item = item.next
    return found


def use(arena: arenads.Arena) -> int:
    items = arena.pool("items", value=Item)
    item = arena.view(items.alloc(Item(1)), Item)
    reveal_type(item)
    reveal_type(item.copy())
    reveal_type(item.cast(Item))
    reveal_type(item.address)
    item.value += 1
    item.next = item
    item.next.next.value = 5
    for each in arena.intrusive("list", pool=items, member="node").views():
        each.value = 3
    other = arena.view(item, u64)
    other.value = 7
    before: int = item.add(1, "value")
    numbers: dict[str, View[Item]] = {"first": item}
    return total(item) + before + len(numbers) + int(item)
"""


def test_user_code_passes_a_strict_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    source = tmp_path / "user_code.py"
    source.write_text(USER_CODE)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"),
            *("--cache-dir", str(tmp_path), str(source)),
        ],
        capture_output=True,
        text=True,
        cwd=Path(arenads.__file__).parent.parent,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    revealed = [line.split('"')[1] for line in result.stdout.splitlines() if "Revealed" in line]
    view = "arenads.view.View[user_code.Item]"
    assert revealed == [view, "user_code.Item", view, "int"]


def test_small_numbers_of_every_width_come_back(arena: arenads.Arena) -> None:
    hints = {"a": u8, "b": i8, "c": u16, "d": arenads.i16, "e": u32, "f": i32, "g": u64, "h": i64}
    cls = msgspec.defstruct("Widths", [*hints.items()])
    pool = arena.pool("pool", value=cls)
    view: Any = pool.view(pool.alloc(cls(*[0] * 8)))
    for name, (bits, sign) in zip(hints, itertools.product((8, 16, 32, 64), (0, 1)), strict=True):
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if sign else (0, (1 << bits) - 1)
        for number in (low, high):
            setattr(view, name, number)
            assert getattr(view, name) == number == getattr(view.copy(), name)
        for number in (low - 1, high + 1):
            with pytest.raises(arenads.SchemaError, match=f"from {low} to {high}"):
                setattr(view, name, number)


def test_enums_of_c_are_read_as_their_members(arena: arenads.Arena) -> None:
    color = EnumType("color", "i16", (("BELOW", -1), ("GREEN", 5)))
    record = Record("r", 4, 2, (Field("color", color, 0), Field("bits", color, 2, 1, 4)))
    pool = arena.pool("pool", value=Schema(record))
    view: Any = pool.view(pool.alloc((5, -1)))
    assert (view.color.name, view.bits.name) == ("GREEN", "BELOW")
    view.color = -1
    assert view.color.name == "BELOW"
    assert "color=BELOW" in repr(view)
