"""What a map's own functions must keep: bad input, threads, and what others see of the map."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, MutableMapping
from fractions import Fraction
from typing import Annotated, Any

import msgspec
import numpy
import pytest

import arenads
from arenads import KeyAbsentError, SchemaError, Str, i8, i64, u32, u64


class Record(msgspec.Struct):
    number: u64
    text: Str[8]
    percent: Annotated[u32, msgspec.Meta(le=100)] = 0


@pytest.fixture
def arena() -> Iterator[arenads.Arena]:
    with arenads.create("1MiB", engine="native") as arena:
        yield arena


@pytest.fixture(params=["hashmap", "orderedmap"])
def records(request: pytest.FixtureRequest) -> Iterator[Any]:
    with arenads.create("1MiB", engine="native") as arena:
        yield getattr(arena, request.param)("records", key=u32, value=Record, max_entries=4)


def test_what_is_stored_is_read(records: Any) -> None:
    records[1] = Record(1, "größe", 5)
    assert records[1] == records.get(1) == Record(1, "größe", 5)
    records[2] = {"number": 2, "text": "b"}  # the patient way
    records[3] = (3, b"c", 1)
    assert (records[2].text, records.get(3).text) == ("b", "c")


def test_text_that_is_not_utf_8_is_read_as_surrogates_and_written_back(records: Any) -> None:
    records[1] = Record(1, b"a\xff")  # type: ignore[arg-type]
    assert records[1].text == records.get(1).text == "a\udcff"
    records[2] = records[1]
    assert records[2] == records[1]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (Record(-1, "a"), "number: expected an integer from 0"),
        (Record(1, "123456789"), "text: expected text of at most 8 bytes"),
        (Record(1, "a\0b"), "text: expected text of at most 8 bytes in UTF-8 without NUL"),
        (Record(1, "a", 101), "percent: expected a value at most 100"),
        (7, "expected a Record"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_written(
    records: Any, value: object, complaint: str
) -> None:
    with pytest.raises(SchemaError, match=complaint):
        records[1] = value
    assert 1 not in records


@pytest.mark.parametrize("key", [-1, 1 << 32, "a", None])
def test_a_key_that_does_not_fit_is_refused(records: Any, key: Any) -> None:
    for use in uses(records):
        with pytest.raises(SchemaError, match="expected an integer from 0 to 4294967295"):
            use(key)
    assert len(records) == 0


def uses(records: Any, value: Any = None) -> list[Any]:
    """What works on one key."""
    value = value or Record(1, "")
    return [
        records.__contains__,
        records.__getitem__,
        records.get,
        records.pop,
        lambda key: records.pop(key, None),
        records.__delitem__,
        lambda key: records.insert(key, value),
        lambda key: records.replace(key, value),
        lambda key: records.setdefault(key, value),
        lambda key: records.update({key: value}),
    ]


def set_uses(keys: Any) -> list[Any]:
    return [keys.__contains__, keys.add, keys.insert, keys.discard, keys.remove]


def test_an_absent_key_has_its_own_error_or_the_default(records: Any) -> None:
    with pytest.raises(KeyAbsentError) as caught:
        records[9]
    assert caught.value.facts["key"] == 9
    assert records.get(9) is None
    assert records.get(9, "none") == "none"
    assert records.pop(9, "none") == "none"
    for use in (records.pop, records.__delitem__, lambda key: records.replace(key, Record(1, ""))):
        with pytest.raises(KeyAbsentError, match="9 is not in") as caught:
            use(9)
        assert caught.value.facts["key"] == 9


def test_a_key_that_is_there_is_not_inserted_and_leaves_with_its_value(records: Any) -> None:
    records.insert(1, Record(1, "a"))
    with pytest.raises(arenads.KeyExistsError, match="1 is in") as caught:
        records.insert(1, Record(2, "b"))
    assert caught.value.facts["key"] == 1
    assert records.setdefault(1, Record(3, "c")) == Record(1, "a")
    assert records.setdefault(2, Record(3, "c")) == Record(3, "c")
    records.replace(1, {"number": 4, "text": "d"})
    assert records.pop(1, None) == Record(4, "d")
    assert 1 not in records and 2 in records
    assert len(records._buffers) == 1  # none is lost by finding nothing


def test_a_set_has_functions_of_its_own_for_one_key() -> None:
    with arenads.create("1MiB", engine="native") as arena:
        keys: Any = arena.set("keys", key=Str[8], max_entries=3)
        add, remove, contains = keys.add, keys.remove, keys.__contains__
        for _ in range(2):
            assert add("größe") is None
            assert contains("größe") and "größe" in keys
            assert not keys.insert("größe")
            assert keys.insert("b")
            assert remove("b") is None
            assert keys.discard("b") is None
            with pytest.raises(KeyAbsentError, match="'b' is not in set 'keys'"):
                remove("b")
        for use in set_uses(keys):
            with pytest.raises(SchemaError, match="expected text"):
                use("123456789")
        keys.update(["b", "c"])
        for use in (keys.add, keys.insert):
            with pytest.raises(arenads.CapacityError):
                use("d")
        assert type(keys).discard.__doc__ == "Delete a key, if it is there."
        arena.close()
        for use in set_uses(keys):
            with pytest.raises(arenads.ClosedError):
                use("b")


def with_one_key(arena: arenads.Arena, kind: str) -> Any:
    if kind == "set":
        keys: Any = arena.set("keys", key=u64)
        keys.add(1)
    else:
        keys = getattr(arena, kind)("keys", key=u64, value=u64)
        keys[1] = 1
    return keys


@pytest.mark.parametrize("kind", ["hashmap", "orderedmap", "set"])
def test_what_was_removed_says_so(kind: str) -> None:
    with arenads.create("1MiB", engine="native") as arena:
        keys = with_one_key(arena, kind)
        arena.remove("keys")
        for use in set_uses(keys) if kind == "set" else uses(keys, 1):
            with pytest.raises(arenads.RemovedError):
                use(1)


@pytest.mark.parametrize("kind", ["hashmap", "orderedmap", "set"])
def test_what_is_read_only_is_read_and_refuses_the_rest(kind: str, pin: Any, engine: Any) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        with_one_key(arena, kind)
        arena.pin(pin)
    with arenads.open(pin, readonly=True) as arena:
        keys: Any = arena.structures["keys"]
        assert 1 in keys and 2 not in keys
        for use in (keys.remove, keys.add) if kind == "set" else (keys.pop, keys.__delitem__):
            with pytest.raises(arenads.ReadOnlyError):
                use(1)
        if kind != "set":
            for use in (keys.insert, keys.replace, keys.setdefault, keys.__setitem__):
                with pytest.raises(arenads.ReadOnlyError):
                    use(2, 1)


def test_a_full_map_and_a_closed_arena_have_their_errors(records: Any) -> None:
    for key in range(4):
        records[key] = Record(key, "")
    with pytest.raises(arenads.CapacityError):
        records[4] = Record(4, "")
    records.arena.close()
    for use in uses(records):
        with pytest.raises(arenads.ClosedError):
            use(1)


def test_the_map_keeps_its_class_for_others(records: Any) -> None:
    before, text = type(records), repr(records)
    records[1] = Record(1, "a")
    assert isinstance(records, before) and isinstance(records, MutableMapping)
    assert type(records).__name__ == before.__name__
    assert repr(records) == text.replace("0 of", "1 of")
    assert (type(records).get.__doc__ or "").startswith("Return a copy of the value of `key`")


def test_methods_that_were_kept_from_before_the_first_use_work(records: Any) -> None:
    get, store = records.__getitem__, records.__setitem__
    for number in range(3):
        store(1, Record(number, "a"))
        assert get(1).number == number
    assert len(type(records).__mro__) <= len(type(get.__self__).__mro__)
    own = type(records)
    get(1)
    assert type(records) is own


def test_a_map_that_is_dropped_is_freed_at_once() -> None:
    with arenads.create("1MiB", engine="native") as arena:
        records = arena.hashmap("records", key=u32, value=Record)
        records[1] = Record(1, "a")
        gc.disable()
        try:
            gone = weakref.ref(records)
            del records
            assert gone() is None
        finally:
            gc.enable()


def test_two_maps_with_the_same_types_do_not_mix() -> None:
    with arenads.create("1MiB", engine="native") as arena:
        one = arena.hashmap("one", key=u32, value=Record)
        two = arena.hashmap("two", key=u32, value=Record)
        one[1], two[1] = Record(1, "one"), Record(2, "two")
        assert (one[1].text, two[1].text) == ("one", "two")


def test_threads_never_get_each_others_records() -> None:
    with arenads.create("4MiB", engine="native") as arena:
        records = arena.hashmap("records", key=u32, value=Record, max_entries=64)
        for key in range(8):
            records[key] = Record(key, str(key))
        wrong: list[Any] = []
        start = threading.Barrier(4)

        def work(first: int) -> None:
            start.wait()
            for turn in range(3000):
                key = (first + turn) % 8
                found = records[key]
                if (found.number, found.text) != (key, str(key)):
                    wrong.append(found)
                records[key] = found

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


# --- keys that are integers ---------------------------------------------------------------------

WIDTHS = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")


def limits(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "i" else (0, (1 << bits) - 1)


@pytest.mark.parametrize("kind", ["hashmap", "orderedmap"])
@pytest.mark.parametrize("name", WIDTHS)
def test_keys_of_each_width_are_taken_to_their_limits_and_no_further(kind: str, name: str) -> None:
    low, high = limits(name)
    with arenads.create("1MiB", engine="native") as arena:
        numbers = getattr(arena, kind)("numbers", key=getattr(arenads, name), value=u64)
        for key in (low, high, 1, True, numpy.int64(5)):
            numbers[key] = int(key) & 0xFF
            assert numbers[key] == numbers.get(key) == int(key) & 0xFF
        assert set(numbers) == {low, high, 1, 5}
        for key in (low - 1, high + 1, 1 << 70, -(1 << 70), 1.0, Fraction(1), "1", None):
            for use in uses(numbers, 7):
                with pytest.raises(SchemaError, match="expected an integer"):
                    use(key)
        assert set(numbers) == {low, high, 1, 5}
        for key in (low, numpy.int64(5), True):
            assert key in numbers
            assert numbers.pop(key) == int(key) & 0xFF
            assert key not in numbers
        del numbers[high]
        assert len(numbers) == 0


def test_the_constraints_of_integer_keys_are_enforced() -> None:
    with arenads.create("1MiB", engine="native") as arena:
        few = arena.hashmap("few", key=Annotated[u32, msgspec.Meta(le=9)], value=u64)
        few[9] = 1
        for use in uses(few, 7):
            with pytest.raises(SchemaError, match="at most 9"):
                use(10)


# --- in place -----------------------------------------------------------------------------------


class Task(msgspec.Struct):
    calls: u64
    balance: i64
    flags: u32 = 0


@pytest.mark.parametrize("key", [u64, i8, Str[8]])
@pytest.mark.parametrize("kind", ["hashmap", "orderedmap", "array"])
def test_fields_of_each_sign_are_worked_on_in_place(
    arena: arenads.Arena, kind: str, key: Any
) -> None:
    if kind == "array":
        tasks: Any = arena.array("tasks", value=Task, max_entries=4)
        at, absent = -1, 4
    else:
        tasks = getattr(arena, kind)("tasks", key=key, value=Task)
        at, absent = ("one", "two") if key == Str[8] else (1, 2)
    tasks[at] = Task(5, -5)
    kept = tasks.add, tasks.load, tasks.store, tasks.exchange, tasks.cas
    for add, load, store, exchange, cas in (
        kept,
        (tasks.add, tasks.load, tasks.store, tasks.exchange, tasks.cas),
        kept,
    ):
        assert (add(at, -6, "calls"), load(at, "calls")) == (5, (1 << 64) - 1)
        assert exchange(at, 5, field="calls") == (1 << 64) - 1
        assert (add(at, True, "balance"), load(at, "balance")) == (-5, -4)
        assert cas(at, -4, -5, "balance") and not cas(at, -4, 7, "balance")
        assert store(at, -(1 << 63), "balance") is None
        assert exchange(at, -5, "balance") == -(1 << 63)
    assert tasks[at] == Task(5, -5)
    for field in ("", "flags", "nothing", None, []):
        with pytest.raises(SchemaError):
            tasks.add(at, 1, field)
    for use in (
        lambda: tasks.store(at, -1, "calls"),
        lambda: tasks.exchange(at, 1 << 63, "balance"),
        lambda: tasks.cas(at, 1.0, 1, "calls"),
        lambda: tasks.cas(at, 1, "1", "calls"),
        lambda: tasks.add(at, 1.0, "calls"),
    ):
        with pytest.raises(SchemaError, match="expected a"):
            use()
    for use in (
        lambda key: tasks.add(key, 1, "calls"),
        lambda key: tasks.load(key, "calls"),
        lambda key: tasks.store(key, 1, "calls"),
    ):
        with pytest.raises(arenads.RangeError if kind == "array" else KeyAbsentError):
            use(absent)
        with pytest.raises(SchemaError, match="expected"):
            use(1.5)
    assert tasks[at] == Task(5, -5)
    arena.close()
    with pytest.raises(arenads.ClosedError):
        tasks.add(at, 1, "calls")


def test_threads_that_add_in_place_lose_nothing(arena: arenads.Arena) -> None:
    hits: Any = arena.hashmap("hits", key=u32, value=u64)
    hits[1] = 0
    seen: list[int] = []

    def work() -> None:
        seen.extend([hits.add(1, 1) for _ in range(3000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(12_000))


# --- lists, queues and pools --------------------------------------------------------------


def test_an_order_may_be_any_integer_that_fits(arena: arenads.Arena) -> None:
    values: Any = arena.list("values", value=u64)
    values.update(numpy.uint64(7), 70)
    values.update(True, 10)
    values.update((1 << 64) - 1, 99)
    assert values.get(numpy.int8(7)) == values.get(7) == 70
    assert values.get(True) == values.get(1) == 10
    assert list(values.items()) == [(1, 10), (7, 70), ((1 << 64) - 1, 99)]


@pytest.mark.parametrize("order", [-1, 1 << 64, "a", None, 1.0])
def test_what_is_no_order_is_refused(arena: arenads.Arena, order: Any) -> None:
    values: Any = arena.list("values", value=u64)
    for use in (lambda: values.get(order), lambda: values.update(order, 1)):
        with pytest.raises(SchemaError, match="expected an order from 0 to"):
            use()
    assert len(values) == 0


def test_an_order_that_is_absent_and_an_empty_list_have_their_errors(arena: arenads.Arena) -> None:
    values: Any = arena.list("values", value=u64)
    with pytest.raises(KeyAbsentError, match="order 7 is not in list 'values'") as caught:
        values.get(7)
    assert caught.value.facts["key"] == 7
    for use in (values.first, values.pop_first):
        with pytest.raises(KeyAbsentError, match="list 'values' is empty"):
            use()


def made(arena: arenads.Arena, maker: str) -> Any:
    return getattr(arena, maker)("records", value=Record, max_entries=4)


PUSHED = {"list": "push", "queue": "push", "mpmc": "push", "pool": "alloc"}


@pytest.mark.parametrize(("maker", "name"), PUSHED.items())
def test_a_value_is_pushed_as_it_is_stored_in_a_map(
    arena: arenads.Arena, maker: str, name: str
) -> None:
    records = made(arena, maker)
    kept = getattr(records, name)  # of the class, from before the first use
    for push in (kept, lambda value: getattr(records, name)(value), kept):
        push({"number": 2, "text": "größe"})  # the patient way
    with pytest.raises(SchemaError, match="number: expected an integer from 0"):
        kept(Record(-1, ""))
    with pytest.raises(SchemaError, match="percent: expected a value at most 100"):
        getattr(records, name)(Record(1, "", 101))
    assert len(records) == 3
    kept(Record(3, "last"))
    with pytest.raises(arenads.CapacityError):
        getattr(records, name)(Record(4, ""))
    assert getattr(type(records), name).__doc__ == kept.__func__.__doc__
    arena.close()
    with pytest.raises(arenads.ClosedError):
        getattr(records, name)(Record(5, ""))


@pytest.mark.parametrize("maker", ["queue", "mpmc"])
def test_a_queue_that_is_empty_gives_none_and_one_of_a_closed_arena_an_error(
    arena: arenads.Arena, maker: str
) -> None:
    records = made(arena, maker)
    kept = records.pop
    assert kept() is None
    assert records.push(Record(1, "a")) is None
    assert kept() == Record(1, "a")
    assert records.pop() is None
    assert len(records._buffers) == 1  # none is lost by finding nothing
    arena.close()
    for pop in (kept, records.pop):
        with pytest.raises(arenads.ClosedError):
            pop()


def test_threads_never_get_each_others_orders(arena: arenads.Arena) -> None:
    values: Any = arena.list("values", value=u64, max_entries=8192)
    pushed: list[dict[int, int]] = [{} for _ in range(3)]

    def work(number: int) -> None:
        for count in range(2000):
            value = number * 10_000 + count
            pushed[number][values.push(value)] = value

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(values.items()) == pushed[0] | pushed[1] | pushed[2]
