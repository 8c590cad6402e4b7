"""Snapshots as Arrow data: every C type, the consumers, and who frees what."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schema import plain, records
from test_snapshot import Colour, Point

import arenads
from arenads import Array, Bits, Bytes, Codec, Schema, Str, i16, u32, u64
from arenads._core import ffi, lib
from arenads.schema import (
    ArrayType,
    BytesType,
    CType,
    EnumType,
    Field,
    PointerType,
    Record,
    Scalar,
    StrType,
)
from arenads.snapshot import Layout, Snapshot

pyarrow = pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
polars = pytest.importorskip("polars", reason="the extra arenads[arrow]")
duckdb = pytest.importorskip("duckdb", reason="the extra arenads[arrow]")


class Task(msgspec.Struct):
    calls: u64
    comm: Str[16]
    colour: Colour
    points: Array[Point, 2]
    low: Annotated[u32, Bits(3)]
    busy: bool


ROWS = {
    number: Task(
        number << 40,
        f"täsk {number}",
        Colour.GREEN if number % 2 else Colour.RED,
        [Point(1, number), Point(2, 3)],
        number % 8,
        number % 3 == 0,
    )
    for number in range(1000)
}


@pytest.fixture
def tasks(arena: arenads.Arena) -> Snapshot[Any]:
    made = arena.orderedmap("tasks", key=u32, value=Task, max_entries=1000)
    made.update_many(ROWS)
    return made.snapshot()


def snapshot_of(ctype: CType, raw: list[bytes]) -> Snapshot[Any]:
    """Records of one column `value`, without an arena."""
    layout = Layout(("test", "values"), ("value", Codec(Schema(ctype))))
    packed = b"".join(each.ljust(layout.size, b"\0") for each in raw)
    memory = ffi.gc(lib.core_block_resize(ffi.NULL, max(len(packed), 1)), lib.core_block_release)
    ffi.buffer(memory, len(packed))[:] = packed
    return Snapshot(memory, len(raw), layout)


def column(ctype: CType, *raw: bytes) -> list[Any]:
    table = pyarrow.table(snapshot_of(ctype, list(raw)))
    table.validate(full=True)
    found: list[Any] = table.column("value").to_pylist()
    return found


# --- every type -----------------------------------------------------------------------------


def expected(ctype: CType, value: Any, raw: bytes) -> Any:
    """What a value becomes, as pyarrow gives it back to Python."""
    if isinstance(ctype, EnumType):
        return {number: name for name, number in ctype.members}.get(value, str(value))
    if isinstance(ctype, ArrayType):
        size = ctype.element.size
        return [
            expected(ctype.element, item, raw[at * size : (at + 1) * size])
            for at, item in enumerate(value)
        ]
    if isinstance(ctype, Record):
        fields = [field for field in ctype.fields if field.type.size]
        return {
            field.name: expected(
                field.type,
                value[field.name],
                raw[field.offset : field.offset + field.type.size],
            )
            for field in fields
        } or raw
    return value


@given(st.data())
@settings(max_examples=150)
def test_any_record_is_the_same_in_arrow(data: st.DataObject) -> None:
    record, strategy = data.draw(records().filter(lambda pair: pair[0].size > 0))
    values = data.draw(st.lists(strategy, max_size=20))
    codec = Codec(Schema(record))
    raw = [codec.pack(value) for value in values]
    assert [plain(codec.unpack(each)) for each in raw] == values
    assert column(record, *raw) == [
        expected(record, value, each) for value, each in zip(values, raw, strict=True)
    ]


def test_a_value_without_a_name_is_its_number() -> None:
    kind = EnumType("e", "i32", (("A", 5), ("SAME", 5), ("B", -1)))
    numbers = [5, -1, 70_000, -9, 70_000, *range(100, 1100)]
    raw = [number.to_bytes(4, "little", signed=True) for number in numbers]
    names = ["A", "B", "70000", "-9", "70000", *map(str, range(100, 1100))]
    assert column(kind, *raw) == names
    wide = EnumType("w", "u64", (("MOST", (1 << 64) - 1),))
    assert column(wide, b"\xff" * 8, b"\xfe" + b"\xff" * 7) == ["MOST", str((1 << 64) - 2)]


def test_an_enum_without_members_is_its_number() -> None:
    assert column(EnumType("e", "u16", ()), b"\1\1") == [257]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"abcdefgh", "abcdefgh"),
        (b"ab\0cd", "ab"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xff" * 8, "\ufffd" * 8),
        ("€é".encode(), "€é"),
        ("€".encode()[:2], "\ufffd\ufffd"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),
        ("\U0010ffff".encode(), "\U0010ffff"),
    ],
)
def test_text_is_utf8_whatever_the_bytes_are(raw: bytes, text: str) -> None:
    assert column(StrType(8), raw) == [text]


@given(st.lists(st.binary(max_size=12), max_size=30))
def test_text_of_any_bytes_is_valid(raw: list[bytes]) -> None:
    found = column(StrType(12), *raw)
    for text, each in zip(found, raw, strict=True):
        whole = each.partition(b"\0")[0]
        assert text.replace("\ufffd", "") == whole.decode(errors="ignore").replace("\ufffd", "")


def test_a_union_is_its_bytes_and_names_its_members() -> None:
    union = Record(
        "both",
        8,
        8,
        (Field("number", Scalar("u64"), 0), Field("real", Scalar("f32"), 0)),
        is_union=True,
    )
    record = Record("r", 16, 8, (Field("", union, 0), Field("named", union, 8)))
    table = pyarrow.table(snapshot_of(record, [bytes(range(16))]))
    assert table.column("value").to_pylist() == [
        {"number|real": bytes(range(8)), "named": bytes(range(8, 16))}
    ]
    field = table.schema.field("value").type.field("named")
    assert field.metadata == {
        b"arenads:type": b"both",
        b"arenads:members": b"u64 number, f32 real",
    }


def test_members_of_anonymous_structs_are_in_place() -> None:
    inner = Record("", 4, 2, (Field("a", Scalar("u16"), 0), Field("b", Scalar("i16"), 2)))
    record = Record("r", 8, 4, (Field("", inner, 4), Field("c", PointerType(), 8)), False)
    record = msgspec.structs.replace(record, size=16, align=8)
    raw = bytes(4) + b"\1\0\xff\xff" + b"\2" + bytes(7)
    assert column(record, raw) == [{"a": 1, "b": -1, "c": 2}]


def test_members_of_no_size_are_left_out() -> None:
    record = Record("r", 4, 4, (Field("a", Scalar("u32"), 0), Field("rest", BytesType(0), 4)))
    assert column(record, b"\1\0\0\0") == [{"a": 1}]
    empty = Record("r", 4, 4, ())
    assert column(empty, b"abcd") == [b"abcd"]


def test_metadata_say_what_it_is_of(tasks: Snapshot[Any]) -> None:
    schema = pyarrow.schema(tasks)
    assert schema.metadata == {b"arenads:kind": b"ordered map", b"arenads:name": b"tasks"}
    assert schema.field("key").metadata == {b"arenads:type": b"u32"}
    value = schema.field("value")
    assert value.metadata == {b"arenads:type": b"Task"}
    assert value.type.field("points").metadata == {b"arenads:type": b"Point[2]"}
    assert value.type.field("low").metadata == {b"arenads:type": b"u32", b"arenads:bits": b"3"}
    assert value.type.field("colour").type == pyarrow.dictionary(pyarrow.int32(), pyarrow.utf8())


# --- consumers ------------------------------------------------------------------------------


def row(number: int) -> dict[str, Any]:
    task = ROWS[number]
    return {
        "calls": task.calls,
        "comm": task.comm,
        "colour": task.colour.name,
        "points": [{"x": point.x, "y": point.y} for point in task.points],
        "low": task.low,
        "busy": task.busy,
    }


def test_pyarrow_takes_a_snapshot(tasks: Snapshot[Any]) -> None:
    table = pyarrow.table(tasks)
    table.validate(full=True)
    assert table.to_pylist() == [{"key": number, "value": row(number)} for number in ROWS]
    assert table.schema == pyarrow.schema(tasks)


def test_polars_takes_a_snapshot(tasks: Snapshot[Any]) -> None:
    frame = polars.DataFrame(tasks)
    assert frame.to_dicts() == [{"key": number, "value": row(number)} for number in ROWS]
    assert frame["value"].struct.field("colour").dtype == polars.Categorical


def test_duckdb_takes_a_snapshot(tasks: Snapshot[Any]) -> None:
    with duckdb.connect() as connection:
        found = connection.sql(
            "select key, value.comm, value.colour, value.points[1].y from tasks order by key"
        ).fetchall()
    assert found == [
        (number, task.comm, task.colour.name, task.points[0].y) for number, task in ROWS.items()
    ]


def test_all_three_take_a_flattened_snapshot(tasks: Snapshot[Any]) -> None:
    flat = tasks.flatten()
    names = ["key", "calls", "comm", "colour", "points", "low", "busy"]
    assert pyarrow.table(flat).to_pylist() == [{"key": number, **row(number)} for number in ROWS]
    assert polars.DataFrame(flat).columns == names
    with duckdb.connect() as connection:
        found = connection.sql("select * from flat where calls >> 40 = 999")
        assert found.columns == names
        assert found.fetchall()[0][2] == "täsk 999"


def test_names_that_key_and_value_share_are_told_apart(arena: arenads.Arena) -> None:
    same = arena.hashmap("same", key=Bytes[4], value=Point)
    pairs = arena.hashmap("pairs", key=PackedPoint, value=Point)
    same[b"abcd"] = Point(1, 2)
    pairs[PackedPoint(1, 2)] = Point(3, 4)
    assert pyarrow.table(same.snapshot().flatten()).column_names == ["key", "x", "y"]
    names = ["key.x", "key.y", "value.x", "value.y"]
    flat = pairs.snapshot().flatten()
    assert pyarrow.table(flat).column_names == names == list(flat.array.dtype.names)
    assert pyarrow.table(flat).to_pylist() == [dict(zip(names, (1, 2, 3, 4), strict=True))]


class PackedPoint(msgspec.Struct, frozen=True):
    x: u32
    y: u32


@pytest.mark.parametrize("entries", [0, 1])
def test_small_snapshots_are_taken_too(arena: arenads.Arena, entries: int) -> None:
    few = arena.hashmap("few", key=u32, value=Task)
    few.update_many({number: ROWS[number] for number in range(entries)})
    taken = few.snapshot()
    assert pyarrow.table(taken).num_rows == polars.DataFrame(taken).height == entries
    with duckdb.connect() as connection:
        assert connection.sql("select count(*) from taken").fetchall() == [(entries,)]


def test_sets_lists_and_arrays_are_taken_too(arena: arenads.Arena) -> None:
    seen, events = arena.set("seen", key=i16), arena.list("events", value=u32)
    counts = arena.array("counts", value=u64, max_entries=3)
    seen.add(-5)
    events.insert(3, 30)
    counts[1] = 7
    assert pyarrow.table(seen.snapshot()).to_pylist() == [{"key": -5}]
    assert pyarrow.table(events.snapshot()).to_pylist() == [{"order": 3, "value": 30}]
    assert pyarrow.table(counts.snapshot()).to_pydict() == {
        "index": [0, 1, 2],
        "value": [0, 7, 0],
    }


def test_long_snapshots_come_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arenads.arrow._BATCH", 300)
    raw = [number.to_bytes(4, "little") for number in range(1000)]
    table = pyarrow.table(snapshot_of(Scalar("u32"), raw))
    assert [len(chunk) for chunk in table.column("value").chunks] == [300, 300, 300, 100]
    assert table.column("value").to_pylist() == list(range(1000))


def test_much_text_comes_in_batches_that_its_offsets_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arenads.arrow._TEXT_LIMIT", 100)
    table = pyarrow.table(snapshot_of(ArrayType(StrType(5), 2), [b"\xff" * 10] * 10))
    assert [len(chunk) for chunk in table.column("value").chunks] == [3, 3, 3, 1]
    assert table.column("value").to_pylist() == [["\ufffd" * 5] * 2] * 10


def test_bool_lists_may_begin_within_a_byte() -> None:
    raw = [bytes([number % 2, number % 3 == 0, number % 5 == 0]) for number in range(100)]
    assert column(ArrayType(Scalar("bool"), 3), *raw) == [list(map(bool, each)) for each in raw]


# --- who frees what -------------------------------------------------------------------------


POINTER_SIZE = ctypes.sizeof(ctypes.c_void_p)


class CArray(ctypes.Structure):
    pass


CArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(CArray))),
    ("dictionary", ctypes.POINTER(CArray)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(CArray))),
    ("private_data", ctypes.c_void_p),
]


class CStream(ctypes.Structure):
    pass


CStream._fields_ = [
    ("get_schema", ctypes.c_void_p),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(CStream), ctypes.POINTER(CArray))),
    ("get_last_error", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(CStream))),
    ("private_data", ctypes.c_void_p),
]


def stream_in(capsule: object) -> Any:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(get(capsule, b"arrow_array_stream"), ctypes.POINTER(CStream))


def first_array(tasks: Snapshot[Any]) -> CArray:
    capsule = tasks.__arrow_c_stream__()
    stream, array = stream_in(capsule), CArray()
    assert stream.contents.get_next(stream, array) == 0
    return array


def test_an_array_outlives_its_stream_and_its_snapshot(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u64)
    numbers[5] = 6
    array = first_array(numbers.snapshot())
    gc.collect()
    values = array.children[1].contents
    assert ctypes.cast(values.buffers[1], ctypes.POINTER(ctypes.c_uint64))[0] == 6
    array.release(array)
    assert not array.release


def test_a_child_can_be_moved_out_and_outlives_the_rest(tasks: Snapshot[Any]) -> None:
    array = first_array(tasks)
    moved = CArray()
    ctypes.memmove(ctypes.byref(moved), array.children[0], ctypes.sizeof(CArray))
    ctypes.memset(
        ctypes.byref(array.children[0].contents, CArray.release.offset),
        0,
        ctypes.sizeof(ctypes.c_void_p),
    )
    array.release(array)
    keys = ctypes.cast(moved.buffers[1], ctypes.POINTER(ctypes.c_uint32))[: moved.length]
    assert keys == list(ROWS)
    moved.release(moved)
    assert not moved.release


def test_a_stream_goes_on_after_the_end_and_is_released_once(tasks: Snapshot[Any]) -> None:
    capsule = tasks.__arrow_c_stream__()
    stream, array = stream_in(capsule), CArray()
    assert stream.contents.get_next(stream, array) == 0
    array.release(array)
    for _ in range(2):
        assert stream.contents.get_next(stream, array) == 0
        assert not array.release
    stream.contents.release(stream)
    assert not stream.contents.release
    del capsule  # whose destructor sees that


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("how", ["whole", "schema", "unused", "closed early", "a column"])
def test_exports_leave_no_memory_behind(how: str) -> None:
    record = Record(
        "r",
        32,
        8,
        (
            Field("text", StrType(16), 0),
            Field("kind", EnumType("e", "u32", (("A", 0),)), 16),
            Field("flags", ArrayType(Scalar("bool"), 12), 20),
        ),
    )
    raw = [number.to_bytes(4, "little") * 8 for number in range(20_000)]
    taken = snapshot_of(record, raw)

    def export() -> None:
        if how == "whole":
            pyarrow.table(taken)
        elif how == "schema":
            for _ in range(100):
                pyarrow.schema(taken)
        elif how == "unused":
            taken.__arrow_c_stream__()
            taken.__arrow_c_schema__()
            snapshot_of(Scalar("u64"), raw[:10]).__arrow_c_stream__()
        elif how == "closed early":
            reader = pyarrow.RecordBatchReader.from_stream(taken)
            reader.close()
        else:
            kept = pyarrow.table(taken).column("value").chunk(0).field(0)
            assert len(kept) == len(raw)

    for _ in range(5):
        export()
    before = memory()
    for _ in range(60):  # of 0.6 MB each, or more
        export()
    assert memory() - before < 12 << 20


def test_threads_may_take_the_same_snapshot(tasks: Snapshot[Any]) -> None:
    wanted = pyarrow.table(tasks)
    found: list[bool] = []

    def take() -> None:
        found.extend(pyarrow.table(tasks).equals(wanted) for _ in range(10))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40


def test_the_core_needs_none_of_them(python: Any) -> None:
    done = python(
        """
        import sys
        for name in ("numpy", "pyarrow", "polars", "duckdb"):
            sys.modules[name] = None
        import arenads
        with arenads.create("1MiB", engine="native") as arena:
            numbers = arena.hashmap("n", key=arenads.u32, value=arenads.u64)
            numbers.update_many([1, 2], [3, 4])
            taken = numbers.snapshot()
            print(sorted(taken), numbers.get_many([2, 3]), numbers.delete_many([1]))
            print(type(taken.__arrow_c_stream__()).__name__)
            try:
                taken.array
            except arenads.SchemaError as error:
                print(error)
        """
    )
    assert done.stdout.splitlines() == [
        "[(1, 3), (2, 4)] [4, None] 1",
        "PyCapsule",
        "numpy_dtype needs NumPy: pip install numpy",
    ]


def test_numpy_and_arrow_agree(tasks: Snapshot[Any]) -> None:
    table = pyarrow.table(tasks.flatten())
    assert numpy.array_equal(table.column("calls").to_numpy(), tasks.array["value"]["calls"])
