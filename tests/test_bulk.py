"""Bulk verbs: many keys in one call, as sequences and as arrays, against a dict."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import numpy
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Array, Bits, Bytes, SchemaError, Str, f32, i8, i32, u8, u16, u32, u64
from arenads._core import ffi
from arenads.bulk import PIECE
from arenads.numpy_dtype import numpy_dtype
from arenads.schema import Field, Record, Scalar, Schema, StrType

LIMIT = 40
KEYS = st.lists(st.integers(0, 60), max_size=30)


class Pair(msgspec.Struct, frozen=True):
    first: u32
    second: u64


class Padded(msgspec.Struct, frozen=True):
    small: u8
    wide: u64


class Flagged(msgspec.Struct, frozen=True):
    flags: Annotated[u8, Bits(3)]
    number: u8


class Named(msgspec.Struct):
    names: Array[Str[4], 2]


class State(enum.IntEnum):
    ON = 1


class Constrained(msgspec.Struct):
    cpu: Annotated[u32, msgspec.Meta(lt=4096)]
    big: Annotated[u64, msgspec.Meta(le=2**63)]
    ok: bool
    share: Annotated[f32, msgspec.Meta(ge=0.0, le=1.0)]
    name: Annotated[Str[8], msgspec.Meta(max_length=4)]
    code: Annotated[Str[8], msgspec.Meta(pattern="^[0-9]*$")]
    steps: Array[Annotated[u8, msgspec.Meta(multiple_of=3)], 2]
    wide: Annotated[u8, msgspec.Meta(multiple_of=1000)]
    low: Annotated[i8, Bits(3), msgspec.Meta(ge=-3)]
    high: Annotated[u8, Bits(3), msgspec.Meta(lt=5)]


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("64MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture(params=["hashmap", "orderedmap"])
def make(request: pytest.FixtureRequest, arena: arenads.Arena) -> Callable[..., Any]:
    """Make a map of either kind: make(key, value, max_entries)."""

    def make(key: Any = u32, value: Any = u64, max_entries: int = 1000) -> Any:
        return getattr(arena, request.param)("map", key=key, value=value, max_entries=max_entries)

    return make


# --- against a dict ---------------------------------------------------------------------


class AgainstDict(RuleBasedStateMachine):
    """Many keys at once, as lists and as arrays; a full map takes those that fit."""

    engine: str
    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("1MiB", engine=self.engine, provision=None)  # type: ignore[arg-type]
        make = getattr(self.arena, self.kind)
        self.map: Any = make("map", key=u16, value=u32, max_entries=LIMIT)
        self.model: dict[int, int] = {}

    def teardown(self) -> None:
        self.arena.close()

    @rule(keys=KEYS, number=st.integers(0, 1000), as_array=st.booleans())
    def update(self, keys: list[int], number: int, as_array: bool) -> None:
        values = [number + place for place in range(len(keys))]
        done = 0
        for key, value in zip(keys, values, strict=True):
            if key not in self.model and len(self.model) == LIMIT:
                break
            self.model[key] = value
            done += 1
        give: Any = (lambda given: numpy.array(given, "i8")) if as_array else list
        try:
            self.map.update_many(give(keys), give(values))
            assert done == len(keys)
        except arenads.CapacityError as error:
            assert error.done == done

    @rule(keys=KEYS, as_array=st.booleans())
    def delete(self, keys: list[int], as_array: bool) -> None:
        there = len(self.model.keys() & set(keys))
        given = numpy.array(keys, "u2") if as_array else keys
        assert self.map.delete_many(given) == there
        for key in keys:
            self.model.pop(key, None)

    @rule(keys=KEYS)
    def look_up(self, keys: list[int]) -> None:
        expected = [self.model.get(key, -1) for key in keys]
        assert self.map.get_many(keys, -1) == expected
        values, found = self.map.get_many(numpy.array(keys, "i8"))
        assert found.tolist() == [key in self.model for key in keys] == self.map.contains_many(keys)
        assert values.tolist() == [self.model.get(key, 0) for key in keys]

    @invariant()
    def the_same(self) -> None:
        assert dict(self.map.snapshot()) == dict(self.map) == self.model
        assert len(self.map) == len(self.model)


@pytest.mark.parametrize("kind", ["hashmap", "orderedmap"])
def test_bulk_verbs_do_what_they_do_to_a_dict(engine: str, kind: str) -> None:
    machine = type("Machine", (AgainstDict,), {"engine": engine, "kind": kind})
    run_state_machine_as_test(machine)


# --- sequences and arrays ---------------------------------------------------------------


def test_missing_keys_get_the_default(make: Callable[..., Any]) -> None:
    numbers = make()
    numbers.update_many({1: 10, 3: 30})
    assert numbers.get_many([1, 2, 3]) == [10, None, 30]
    assert numbers.get_many((key for key in (2, 1)), "none") == ["none", 10]
    values, found = numbers.get_many(numpy.array([1, 2, 3], "u4"), default=7)
    assert (values.tolist(), found.tolist()) == ([10, 7, 30], [True, False, True])
    assert (values.dtype, found.dtype) == (numpy.uint64, numpy.bool_)


def test_nothing_is_many_too(make: Callable[..., Any]) -> None:
    numbers = make()
    numbers.update_many([], [])
    numbers.update_many({})
    values, found = numbers.get_many(numpy.array([], "u4"))
    assert (numbers.get_many([]), numbers.delete_many([]), len(values), len(found)) == ([], 0, 0, 0)
    assert numbers.contains_many(numpy.array([], "u4")).dtype == bool


def test_records_are_keys_and_values(arena: arenads.Arena) -> None:
    pairs = arena.hashmap("pairs", key=Bytes[6], value=Padded, max_entries=100)
    keys = [bytes([number]) * 6 for number in range(10)]
    pairs.update_many(keys, [Padded(number, number) for number in range(10)])
    assert pairs.get_many(keys[:2]) == [Padded(0, 0), Padded(1, 1)]
    array = numpy.frombuffer(b"".join(keys), "u1").reshape(-1, 6)
    values, found = pairs.get_many(array)
    assert found.all()
    assert values["wide"].tolist() == list(range(10))
    pairs.update_many(array[3:5], values[5:7])
    assert pairs[keys[3]] == Padded(5, 5)
    assert pairs.delete_many(array) == 10


def test_what_a_snapshot_gives_another_map_takes(arena: arenads.Arena) -> None:
    first = arena.hashmap("first", key=u32, value=Pair, max_entries=5000)
    second = arena.hashmap("second", key=u32, value=Pair, max_entries=5000)
    third = arena.hashmap("third", key=u32, value=Pair, max_entries=5000)
    first.update_many({number: Pair(number, 1) for number in range(5000)})
    taken = first.snapshot()
    second.update_many(taken)
    third.update_many(taken.array)
    assert dict(second) == dict(third) == dict(first)
    assert first.delete_many(taken.array["key"]) == 5000


def test_batches_of_any_length_are_done_to_the_end(make: Callable[..., Any]) -> None:
    count = 2 * PIECE + 3
    numbers = make(u32, u32, count)
    keys = numpy.arange(count, dtype="u4")
    numbers.update_many(keys, keys ^ 0xFFFF)
    values, found = numbers.get_many(keys[::-1])
    assert found.all()
    assert (values == keys[::-1] ^ 0xFFFF).all()
    assert numbers.delete_many(keys[: PIECE + 1]) == PIECE + 1
    assert len(numbers) == count - PIECE - 1


@pytest.mark.parametrize(
    "keys",
    [
        numpy.array([1, 2], "u2"),
        numpy.array([1, 2], "i8"),
        numpy.array([1, 2], ">u4"),
        numpy.array([1, 0, 2, 0], "u4")[::2],
    ],
    ids=["narrower", "wider", "other byte order", "with gaps"],
)
def test_integers_of_any_width_are_taken_in_range(make: Callable[..., Any], keys: Any) -> None:
    numbers = make(u32, i32)
    numbers.update_many(keys, numpy.array([-5, 6], "i2"))
    assert dict(numbers) == {1: -5, 2: 6}


def test_shorter_text_and_packed_records_are_taken(arena: arenads.Arena) -> None:
    words = arena.hashmap("words", key=Str[12], value=Padded, max_entries=10)
    packed = numpy.array([(1, 2), (3, 4)], [("small", "u1"), ("wide", "u8")])
    words.update_many(numpy.array([b"pear", b"fig"]), packed)
    assert dict(words) == {"pear": Padded(1, 2), "fig": Padded(3, 4)}


# --- what does not fit ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (numpy.array([1.0, 2.0]), "dtype uint32, found one of dtype float64"),
        (numpy.array([True]), "found one of dtype bool"),
        (numpy.array(["1"]), "found one of dtype <U1"),
        (numpy.array([1, None], object), "found one of dtype object"),
        (numpy.array([1, 1 << 32]), "from 0 to 4294967295.*found 4294967296.*int64"),
        (numpy.array([3, -1]), "found -1 in an array of dtype int64"),
        (numpy.array([[1, 2]], "u4"), r"shape \(n\), found \(1, 2\)"),
        (numpy.array(5, "u4"), r"shape \(n\), found \(\)"),
        ([1, "two"], "integer"),
        ([1, 1 << 32], "integer"),
        ("12", "expected an array or a sequence"),
        (12, "expected an array or a sequence"),
    ],
)
def test_keys_that_do_not_fit_are_refused_and_nothing_is_done(
    make: Callable[..., Any], keys: Any, message: str
) -> None:
    numbers = make()
    numbers.update_many({1: 1, 2: 2, 3: 3})
    values = [9] * (len(keys) if numpy.ndim(keys) else 1)
    for act in (
        lambda: numbers.update_many(keys, values),
        lambda: numbers.delete_many(keys),
        lambda: numbers.get_many(keys),
        lambda: numbers.contains_many(keys),
    ):
        with pytest.raises(arenads.SchemaError, match=message):
            act()
    assert dict(numbers) == {1: 1, 2: 2, 3: 3}


def test_padding_of_arrays_does_not_reach_the_arena(arena: arenads.Arena) -> None:
    pairs = arena.hashmap("pairs", key=Flagged, value=Padded, max_entries=100)
    keys = numpy.frombuffer(b"\xff" * 2, numpy_dtype(Flagged))
    values = numpy.frombuffer(b"\xee" * 16, numpy_dtype(Padded))
    pairs.update_many(keys, values)
    assert pairs[Flagged(7, 0xFF)] == Padded(0xEE, 0xEEEE_EEEE_EEEE_EEEE)
    raw = ffi.buffer(ffi.cast("char *", pairs.view(Flagged(7, 0xFF)).address), 16)
    assert raw[:] == b"\xee" + bytes(7) + b"\xee" * 8
    assert pairs.contains_many(keys).all()


def test_text_in_arrays_ends_at_its_nul(arena: arenads.Arena) -> None:
    ages = arena.hashmap("ages", key=Str[8], value=Named, max_entries=100)
    given = numpy.array([b"ab\0x", b"cd"], "S8")
    values = numpy.zeros(2, numpy_dtype(Named))
    values["names"] = [[b"e\0f\0", b"ghij"], [b"", b"k"]]
    ages.update_many(given, values)
    assert dict(ages) == {"ab": Named(["e", "ghij"]), "cd": Named(["", "k"])}
    assert ages.get("ab") == Named(["e", "ghij"])
    assert ages.delete_many(given) == 2
    assert given.tolist() == [b"ab\0x", b"cd"]


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("cpu", 4096, "index 3, cpu: expected a value less than 4096, found 4096"),
        ("big", 2**64 - 1, "index 3, big: expected a value at most 9223372036854775808"),
        ("ok", 5, "index 3, ok: expected a bool, found 5"),
        ("share", 1.5, "index 3, share: expected a value at most 1.0, found 1.5"),
        ("share", float("nan"), "index 3, share: expected a value"),
        ("name", b"abcde", "index 3, name: expected a length of at most 4, found 'abcde'"),
        ("name", "aüaüa".encode(), "index 3, name: expected a length of at most 4"),
        ("code", b"x", "index 3, code: expected text like .*, found 'x'"),
        ("steps", [3, 4], r"index 3, steps\[1\]: expected a multiple of 3, found 4"),
        ("wide", 1, "index 3, wide: expected a multiple of 1000, found 1"),
        ("low|high", 0b101_001, "index 3, high: expected a value less than 5, found 5"),
        ("low|high", 0b000_100, "index 3, low: expected a value at least -3, found -4"),
    ],
)
def test_constraints_hold_for_arrays(
    make: Callable[..., Any], member: str, value: Any, message: str
) -> None:
    records = make(u32, Constrained)
    given = numpy.zeros(5, numpy_dtype(Constrained))
    given["name"] = [text.encode() for text in ("", "ä", "äöüß", "abcd", "")]
    records.update_many(numpy.arange(5), given)
    records.clear()
    if member == "ok":
        given["ok"].view("u1")[3] = value
    else:
        given[member][3] = value
    with pytest.raises(SchemaError, match=message) as caught:
        records.update_many(numpy.arange(5), given)
    assert caught.value.index == 3
    assert len(records) == 0


def test_enums_in_arrays_may_have_values_without_a_name(make: Callable[..., Any]) -> None:
    """As in objects: C may store any."""
    states = make(u32, Annotated[State, u8])
    states.update_many(numpy.array([1]), numpy.array([77], "u1"))
    states[2] = 77
    assert states[1] == states[2] == 77


def test_unions_in_arrays_are_taken_as_they_are(make: Callable[..., Any]) -> None:
    halves = Record(
        "halves",
        8,
        8,
        (Field("whole", Scalar("u64"), 0), Field("text", StrType(4), 0)),
        is_union=True,
    )
    either = make(
        u32, Schema(Record("either", 16, 8, (Field("", halves, 0), Field("n", Scalar("u8"), 8))))
    )
    given = numpy.zeros(1, numpy_dtype(either.value_type))
    given["whole"], given["n"] = 0x11_0022, 3
    either.update_many(numpy.array([1]), given)
    assert (either[1].whole, either[1].n) == (0x11_0022, 3)


def test_masked_arrays_are_refused(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u32)
    slots = arena.array("slots", value=u32, max_entries=8)
    plain = numpy.arange(2, dtype="u4")
    masked = numpy.ma.array(plain, mask=[False, True])
    for call in (
        lambda: numbers.get_many(masked),
        lambda: numbers.update_many(masked, plain),
        lambda: numbers.update_many(plain, masked),
        lambda: numbers.delete_many(masked),
        lambda: slots.get_many(masked),
        lambda: slots.update_many(plain, masked),
    ):
        with pytest.raises(SchemaError, match="without a mask"):
            call()
    assert len(numbers) == slots.populated == 0


def test_both_dtypes_are_facts_of_the_error(make: Callable[..., Any]) -> None:
    with pytest.raises(arenads.SchemaError) as caught:
        make().get_many(numpy.array([1.5]))
    assert (caught.value.expected, caught.value.found) == (numpy.dtype("u4"), numpy.dtype("f8"))


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 3, "4"], numpy.array([1.0, 2.0, 3.0])])
def test_values_that_do_not_fit_are_refused_and_nothing_is_stored(
    make: Callable[..., Any], values: Any
) -> None:
    numbers = make()
    with pytest.raises(arenads.SchemaError):
        numbers.update_many([1, 2, 3], values)
    assert not dict(numbers)


def test_pairs_that_are_none_are_refused(make: Callable[..., Any]) -> None:
    for given in ([1, 2], [(1, 2, 3)], 5):
        with pytest.raises(arenads.SchemaError, match="iterable of pairs"):
            make().update_many(given)


def test_a_map_that_is_full_says_how_many_are_stored(make: Callable[..., Any]) -> None:
    numbers = make(max_entries=3)
    with pytest.raises(arenads.CapacityError, match=r"Done before: 3 of 5 keys") as caught:
        numbers.update_many([1, 2, 3, 4, 5], [0] * 5)
    assert caught.value.done == 3
    assert sorted(numbers) == [1, 2, 3]


def test_a_batch_waits_for_entries_that_wait_for_a_grace_period(kernel_engine: str) -> None:
    with arenads.create("4MiB", engine=kernel_engine) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("n", key=u32, value=u32, max_entries=50, reclaim="grace")
        for start in range(0, 500, 50):
            numbers.update_many(range(start, start + 50), range(50))
            assert numbers.delete_many(range(start, start + 50)) == 50
        assert len(numbers) <= 50


def test_a_read_only_arena_refuses_and_says_that_nothing_was_done(
    arena: arenads.Arena, pin: Any, python: Callable[..., Any]
) -> None:
    arena.hashmap("n", key=u32, value=u32)[1] = 1
    arena.pin(pin)
    done = python(
        """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            numbers = arena.structures["n"]
            for act in (numbers.delete_many, lambda keys: numbers.update_many(keys, keys)):
                try:
                    act([1, 2])
                except arenads.ReadOnlyError as error:
                    print(error.done)
            print(numbers.get_many([1, 2]))
        """,
        pin,
    )
    assert done.stdout == "0\n0\n[1, None]\n"


def test_a_closed_arena_refuses_even_nothing(
    make: Callable[..., Any], arena: arenads.Arena
) -> None:
    numbers = make()
    arena.close()
    for act in (numbers.get_many, numbers.delete_many, numbers.contains_many):
        with pytest.raises(arenads.ClosedError):
            act([])


# --- sets and arrays --------------------------------------------------------------------


def test_a_set_takes_and_gives_many(arena: arenads.Arena) -> None:
    seen = arena.set("seen", key=u32, max_entries=1000)
    seen.update(numpy.arange(10), [20, 20], {30})
    assert seen.delete_many([0, 1, 99]) == 2
    assert seen.contains_many([0, 2, 20]) == [False, True, True]
    assert seen.contains_many(numpy.array([30, 31])).tolist() == [True, False]
    assert set(seen.snapshot()) == {*range(2, 10), 20, 30}


def test_a_set_that_is_full_says_how_many_are_in(arena: arenads.Arena) -> None:
    few = arena.set("few", key=u32, max_entries=2)
    with pytest.raises(arenads.CapacityError) as caught:
        few.update([1, 2, 2, 3])
    assert (caught.value.done, set(few)) == (3, {1, 2})


def test_an_array_takes_and_gives_many(arena: arenads.Arena) -> None:
    counts = arena.array("counts", value=Pair, max_entries=100_000)
    counts.update_many([5, -1], [Pair(1, 2), Pair(3, 4)])
    assert counts.get_many([99_999, 5, 6]) == [Pair(3, 4), Pair(1, 2), Pair(0, 0)]
    indices = numpy.arange(-100_000, 0)
    values = counts.get_many(indices)
    assert values["second"].sum() == 6
    counts.update_many(indices[::-1], values)
    assert (counts[0], counts[99_994]) == (Pair(3, 4), Pair(1, 2))
    assert counts.get_many(numpy.array([], "u8")).tolist() == []


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([0, 10], arenads.RangeError),
        ([0, -11], arenads.RangeError),
        (numpy.array([0, 10]), arenads.RangeError),
        (numpy.array([0, 1 << 40], "u8"), arenads.RangeError),
        (numpy.array([-11, 0]), arenads.RangeError),
        (numpy.array([0.0, 1.0]), arenads.SchemaError),
        (numpy.array([[0, 1]]), arenads.SchemaError),
        ([0, "1"], arenads.SchemaError),
        ("01", arenads.SchemaError),
    ],
)
def test_indexes_that_do_not_fit_are_refused_and_nothing_is_stored(
    arena: arenads.Arena, indices: Any, error: type[Exception]
) -> None:
    counts = arena.array("counts", value=u64, max_entries=10)
    with pytest.raises(error):
        counts.update_many(indices, [1, 2])
    with pytest.raises(error):
        counts.get_many(indices)
    assert list(counts) == [0] * 10


def test_an_array_without_memory_says_how_many_are_stored(engine: str) -> None:
    with arenads.create("128KiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        counts = arena.array("counts", value=u64, max_entries=100_000)
        with pytest.raises(arenads.ArenaFullError) as caught:
            counts.update_many(numpy.arange(100_000), numpy.ones(100_000, "u8"))
        done: Any = caught.value.done
        assert 0 < done < 100_000
        assert counts[done - 1] == 1
