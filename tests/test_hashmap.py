"""Hash maps from Python: against a dict, with all kinds of keys, at their limits, under traffic."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

import arenads
from arenads import Array, Bytes, Str, f64, i32, i64, u8, u16, u32, u64


class Point(msgspec.Struct, frozen=True):
    x: i32
    y: i32


class Stat(msgspec.Struct):
    calls: u64
    change: i64
    pid: u32
    ticks: Array[u64, 2]
    comm: Str[16]


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def numbers(arena: arenads.Arena) -> Any:
    return arena.hashmap("numbers", key=u64, value=u64)


@pytest.fixture
def stats(arena: arenads.Arena) -> Any:
    stats = arena.hashmap("stats", key=u32, value=Stat)
    stats[1] = Stat(calls=5, change=-5, pid=1, ticks=[7, 8], comm="init")
    return stats


def balanced(collection: Any, live: int) -> bool:
    """Whether every entry is where it belongs."""
    report = collection.check()
    return (report.live, report.leaked, report.errors) == (live, 0, 0)


def table_bits(numbers: Any) -> int:
    """How many bits of a hash choose the shortcut: the table's shift stands in the header."""
    return 64 - ctypes.c_uint32.from_address(numbers.arena.base + numbers.offset + 28).value


# --- against a dict -------------------------------------------------------------------


class AgainstDict(RuleBasedStateMachine):
    """A small map, so that it is often full, and few keys, so that they meet."""

    engine = "native"
    capacity = 12

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("512KiB", engine=self.engine, populate="64KiB", provision=None)
        self.map = self.arena.hashmap("map", key=u16, value=u64, max_entries=self.capacity)
        self.model: dict[int, int] = {}
        self.refused = 0

    def teardown(self) -> None:
        report = self.map.check()
        assert (report.live, report.leaked, report.errors) == (len(self.model), 0, 0)
        self.arena.close()

    keys = st.integers(0, 20)
    values = st.integers(0, (1 << 64) - 1)

    def room(self, key: int) -> bool:
        return key in self.model or len(self.model) < self.capacity

    @rule(key=keys, value=values)
    def assign(self, key: int, value: int) -> None:
        if self.room(key):
            self.map[key] = self.model[key] = value
        else:
            with pytest.raises(arenads.CapacityError):
                self.map[key] = value
            self.refused += 1

    @rule(key=keys, value=values)
    def insert(self, key: int, value: int) -> None:
        if key in self.model:
            with pytest.raises(arenads.KeyExistsError):
                self.map.insert(key, value)
        elif self.room(key):
            self.map.insert(key, value)
            self.model[key] = value
        else:
            with pytest.raises(arenads.CapacityError):
                self.map.insert(key, value)
            self.refused += 1

    @rule(key=keys, value=values)
    def replace(self, key: int, value: int) -> None:
        if key in self.model:
            self.map.replace(key, value)
            self.model[key] = value
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.map.replace(key, value)

    @rule(key=keys)
    def delete(self, key: int) -> None:
        if key in self.model:
            del self.map[key], self.model[key]
        else:
            with pytest.raises(arenads.KeyAbsentError):
                del self.map[key]

    @rule(key=keys, value=values)
    def pop_or_default(self, key: int, value: int) -> None:
        assert self.map.pop(key, value) == self.model.pop(key, value)

    @rule(key=keys, value=values)
    def setdefault(self, key: int, value: int) -> None:
        if self.room(key):
            assert self.map.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(key=keys, value=values)
    def popitem(self, key: int, value: int) -> None:
        # Of one entry, or which one it is depends on the map's seed.
        self.map.clear()
        self.map[key] = value
        assert self.map.popitem() == (key, value)
        self.model.clear()

    @rule(key=keys, amount=st.integers(-(1 << 63), (1 << 64) - 1))
    def add(self, key: int, amount: int) -> None:
        if key in self.model:
            assert self.map.add(key, amount) == self.model[key]
            self.model[key] = (self.model[key] + amount) % (1 << 64)
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.map.add(key, amount)

    @rule()
    def clear(self) -> None:
        self.map.clear()
        self.model.clear()

    @rule(key=keys)
    def get(self, key: int) -> None:
        assert self.map.get(key) == self.model.get(key)
        assert (key in self.map) == (key in self.model)

    @invariant()
    def same(self) -> None:
        assert dict(self.map.items()) == self.model
        assert len(self.map) == len(self.model)
        assert sorted(self.map) == sorted(self.model)
        assert sorted(self.map.values()) == sorted(self.model.values())
        assert self.map.counters().full == self.refused


def test_it_behaves_like_a_dict_with_a_limit(engine: str) -> None:
    machine = type("AgainstDict", (AgainstDict,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))


# --- one key ----------------------------------------------------------------------------


def test_an_absent_key_is_a_key_error(numbers: Any) -> None:
    with pytest.raises(arenads.KeyAbsentError, match="7 is not in hash map 'numbers'") as caught:
        numbers[7]
    assert isinstance(caught.value, KeyError)
    assert caught.value.key == 7


@pytest.mark.parametrize(
    "use",
    [
        lambda numbers: numbers.__delitem__(7),
        lambda numbers: numbers.replace(7, 1),
        lambda numbers: numbers.pop(7),
        lambda numbers: numbers.add(7, 1),
        lambda numbers: numbers.load(7),
        lambda numbers: numbers.store(7, 1),
        lambda numbers: numbers.cas(7, 1, 1),
    ],
    ids=["del", "replace", "pop", "add", "load", "store", "cas"],
)
def test_what_needs_a_key_refuses_an_absent_one(numbers: Any, use: Any) -> None:
    with pytest.raises(arenads.KeyAbsentError):
        use(numbers)
    assert len(numbers) == 0


def test_popitem_of_an_empty_map_is_a_key_error(numbers: Any) -> None:
    with pytest.raises(KeyError):
        numbers.popitem()


def test_inserting_what_is_there_changes_nothing(numbers: Any) -> None:
    numbers.insert(1, 10)
    with pytest.raises(arenads.KeyExistsError) as caught:
        numbers.insert(1, 20)
    assert caught.value.key == 1
    assert dict(numbers) == {1: 10}
    assert balanced(numbers, 1)


def test_replacing_what_is_not_there_changes_nothing(numbers: Any) -> None:
    with pytest.raises(arenads.KeyAbsentError):
        numbers.replace(1, 10)
    assert dict(numbers) == {}
    assert balanced(numbers, 0)


def test_get_returns_the_default_for_an_absent_key(numbers: Any) -> None:
    assert numbers.get(1) is None
    assert numbers.get(1, "other") == "other"


def test_setdefault_inserts_only_what_is_absent(numbers: Any) -> None:
    assert numbers.setdefault(1, 10) == 10
    assert numbers.setdefault(1, 20) == 10


def test_a_value_that_was_read_is_a_copy(stats: Any) -> None:
    before = stats[1]
    stats.add(1, 1, "calls")
    assert (before.calls, stats[1].calls) == (5, 6)


def test_updating_takes_what_dict_update_takes(numbers: Any) -> None:
    numbers.update({1: 10})
    numbers.update([(2, 20)])
    assert dict(numbers) == {1: 10, 2: 20}
    assert numbers == {1: 10, 2: 20}


def test_clear_deletes_everything_and_the_map_goes_on(numbers: Any) -> None:
    numbers.update((n, n) for n in range(700))
    numbers.clear()
    assert len(numbers) == 0
    assert not numbers
    assert balanced(numbers, 0)
    numbers[1] = 2
    assert dict(numbers) == {1: 2}


# --- keys and values of all sizes -----------------------------------------------------------


@pytest.mark.parametrize("size", [*range(1, 41), 63, 64, 65, 511, 512])
def test_keys_of_any_size_are_told_apart_by_every_byte(arena: arenads.Arena, size: int) -> None:
    things = arena.hashmap("things", key=Bytes[size], value=u32, max_entries=2000)
    keys = [bytes(size)]
    for at in range(size):
        for bit in (1, 128):
            key = bytearray(size)
            key[at] = bit
            keys.append(bytes(key))
    expected = {key: number for number, key in enumerate(keys)}
    things.update(expected)
    assert dict(things.items()) == expected
    assert all(things[key] == number for key, number in expected.items())
    for key in keys[::2]:
        del things[key]
    assert set(things) == set(keys[1::2])
    assert balanced(things, len(keys[1::2]))


@pytest.mark.parametrize("size", [*range(1, 26), 31, 32, 33, 255, 4088, 4096, 5001, 65535, 65536])
def test_values_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    things = arena.hashmap("things", key=u32, value=Bytes[size], max_entries=8)
    patterns = [bytes((seed + 7 * at) & 255 for at in range(size)) for seed in (1, 2, 3)]
    for key, pattern in enumerate(patterns):
        things[key] = pattern
    things[1] = patterns[0]
    assert dict(things.items()) == {0: patterns[0], 1: patterns[0], 2: patterns[2]}
    assert things.value_type.size == size


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        (u8, [0, 1, 255]),
        (i32, [0, -1, 1, -(1 << 31), (1 << 31) - 1]),
        (i64, [0, -1, -(1 << 63), (1 << 63) - 1]),
        (u64, [0, 1, (1 << 64) - 1]),
        (Str[8], ["", "a", "b", "ab", "ü", "12345678"]),
        (Bytes[3], [b"\0\0\0", b"\0\0a", b"abc"]),
        (Point, [Point(0, 0), Point(-1, 0), Point(0, -1)]),
        (bool, [False, True]),
    ],
    ids=["u8", "i32", "i64", "u64", "str", "bytes", "struct", "bool"],
)
def test_keys_of_any_type_come_back_as_they_were(
    arena: arenads.Arena, key: Any, keys: list[Any]
) -> None:
    things = arena.hashmap("things", key=key, value=u32)
    expected = {each: number for number, each in enumerate(keys)}
    things.update(expected)
    assert dict(things) == expected
    assert all(things[each] == number for each, number in expected.items())
    assert all(each in things for each in keys)


def test_struct_values_come_back_as_the_class(stats: Any) -> None:
    assert stats[1] == Stat(calls=5, change=-5, pid=1, ticks=[7, 8], comm="init")
    assert isinstance(stats[1], Stat)


@pytest.mark.parametrize("key", [-1, 1 << 64, 1.5, "1", None, b"12345678", [1], Point(1, 2)])
def test_a_key_of_another_type_is_refused(numbers: Any, key: Any) -> None:
    numbers[1] = 10
    for use in (
        lambda: numbers[key],
        lambda: numbers.get(key),
        lambda: numbers.__setitem__(key, 1),
        lambda: numbers.__delitem__(key),
        lambda: numbers.insert(key, 1),
        lambda: numbers.replace(key, 1),
        lambda: numbers.add(key, 1),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert dict(numbers) == {1: 10}


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, "1", None, b"12345678", {}, Point(1, 2)])
def test_a_value_of_another_type_is_refused_and_nothing_changes(numbers: Any, value: Any) -> None:
    numbers[1] = 10
    for use in (
        lambda: numbers.__setitem__(1, value),
        lambda: numbers.__setitem__(2, value),
        lambda: numbers.insert(2, value),
        lambda: numbers.replace(1, value),
        lambda: numbers.setdefault(2, value),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert dict(numbers) == {1: 10}
    assert balanced(numbers, 1)


@pytest.mark.parametrize("key", [b"", b"12", b"1234", "123"])
def test_a_key_of_another_length_is_refused(arena: arenads.Arena, key: Any) -> None:
    things = arena.hashmap("things", key=Bytes[3], value=u32)
    with pytest.raises(arenads.SchemaError):
        things[key] = 1
    assert len(things) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [(Bytes[513], u64), (u64, Bytes[65537]), (int, u64), (u64, int), (object, u64), (u64, None)],
    ids=["long key", "long value", "key without size", "value without size", "object", "None"],
)
def test_types_that_no_map_can_hold_are_refused(arena: arenads.Arena, key: Any, value: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.hashmap("things", key=key, value=value)
    assert list(arena.structures) == []


# --- the limit ------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 63, 64, 65, 100, 1000])
def test_exactly_max_entries_fit(arena: arenads.Arena, capacity: int) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=capacity)
    for number in range(capacity):
        numbers[number] = number
    assert numbers.max_entries == len(numbers) == capacity
    with pytest.raises(arenads.CapacityError, match=f"max_entries={capacity}") as caught:
        numbers[capacity] = 1
    assert caught.value.max_entries == capacity
    assert caught.value.name == "numbers"
    assert dict(numbers) == {number: number for number in range(capacity)}


def test_a_refusal_for_lack_of_room_is_counted(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=2)
    numbers.update({1: 1, 2: 2})
    for attempt in range(1, 4):
        with pytest.raises(arenads.CapacityError):
            numbers.insert(3, 3)
        assert numbers.counters().full == attempt


def test_what_is_there_can_be_replaced_while_the_map_is_full(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=4)
    numbers.update((number, 0) for number in range(4))
    for turn in range(300):
        numbers.replace(turn % 4, turn)
        numbers[turn % 4] = turn
    assert dict(numbers) == {0: 296, 1: 297, 2: 298, 3: 299}
    assert numbers.counters().full == 0


@pytest.mark.parametrize("capacity", [1, 4, 100])
def test_the_limit_holds_exactly_after_replacing_while_full(
    arena: arenads.Arena, capacity: int
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=capacity)
    numbers.update((number, 0) for number in range(capacity))
    for turn in range(50):
        numbers.replace(turn % capacity, turn)
        with pytest.raises(arenads.CapacityError):
            numbers.insert(1000 + turn, 0)
    assert len(numbers) == capacity
    del numbers[0]
    numbers.insert(5000, 0)
    with pytest.raises(arenads.CapacityError):
        numbers.insert(5001, 0)
    assert len(numbers) == capacity
    assert balanced(numbers, capacity)


def test_deleting_makes_room(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=3)
    for number in range(500):
        numbers[number] = number
        if len(numbers) == 3:
            del numbers[number - 2]
    assert dict(numbers) == {498: 498, 499: 499}
    assert balanced(numbers, 2)
    assert numbers.check().carved <= 3 + 16 + min(os.cpu_count() or 1, 16)  # and the spare ones


def test_a_lost_spare_entry_of_a_shard_comes_back_and_makes_no_room(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=3)
    # Of the pool at 192 the shards at 128, of the first shard the word at 16 (layout.h).
    spare = ctypes.c_uint64.from_address(arena.base + numbers.offset + 192 + 128 + 16)
    assert spare.value & 0xFFFFFFFF
    spare.value &= ~0xFFFFFFFF
    assert numbers.check().leaked == 1
    assert numbers.check(repair=True).repaired == 1
    assert spare.value & 0xFFFFFFFF
    for number in range(3):
        numbers.insert(number, number)
    with pytest.raises(arenads.CapacityError):
        numbers.insert(3, 3)
    assert balanced(numbers, 3)


def test_reuse_takes_no_new_memory(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=100, initial_entries=100)
    numbers.update((number, number) for number in range(100))
    before = arena.used
    for turn in range(20):
        numbers.clear()
        numbers.update((number + turn, turn) for number in range(100))
    assert arena.used == before


@pytest.mark.parametrize("capacity", [0, -1, (1 << 31) + 1, 1 << 40, 1.5, None, "100"])
def test_an_impossible_capacity_is_refused(arena: arenads.Arena, capacity: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.hashmap("numbers", key=u64, value=u64, max_entries=capacity)
    assert list(arena.structures) == []


@pytest.mark.parametrize("capacity", [1 << 20, 1 << 27, 1 << 28, 1 << 29, 1 << 31])
def test_a_capacity_that_the_arena_has_no_room_for_is_refused(
    arena: arenads.Arena, capacity: int
) -> None:
    with pytest.raises(arenads.ArenaFullError) as caught:
        arena.hashmap("numbers", key=u64, value=u64, max_entries=capacity, initial_entries=capacity)
    assert isinstance(caught.value, MemoryError)
    assert "numbers" not in arena.structures
    arena.hashmap("numbers", key=u64, value=u64)[1] = 2


def test_what_was_refused_for_lack_of_room_takes_none(arena: arenads.Arena) -> None:
    arena.list("first", value=u64)
    before = arena.used
    for _ in range(5):
        with pytest.raises(arenads.ArenaFullError):
            arena.hashmap(
                "numbers", key=u64, value=u64, max_entries=1 << 27, initial_entries=1 << 27
            )
    assert arena.used == before


@pytest.mark.parametrize("shift", [0, 3, 8, 12, 16, 24, 32, 36, 40, 44, 48])
def test_a_map_grows_whatever_its_keys_look_like(arena: arenads.Arena, shift: int) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=8192)
    before = table_bits(numbers)
    numbers.update((number << shift, number) for number in range(8192))
    assert table_bits(numbers) >= 12 > before
    assert len(numbers) == 8192
    assert all(numbers[number << shift] == number for number in range(8192))
    assert balanced(numbers, 8192)


def test_a_map_with_all_its_room_from_the_start_never_grows(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=4096, initial_entries=4096)
    before = table_bits(numbers)
    numbers.update((number, number) for number in range(4096))
    assert table_bits(numbers) == before >= 12


def test_a_map_that_starts_with_one_entry_grows_to_its_limit(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=5000, initial_entries=1)
    for number in range(5000):
        numbers[number] = number
        if number % 500 == 0:
            assert sorted(numbers) == list(range(number + 1))
    assert dict(numbers) == {number: number for number in range(5000)}
    assert balanced(numbers, 5000)


def test_iteration_sees_every_lasting_key_once_while_the_map_grows(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=10000, initial_entries=1)
    numbers.update((number, 0) for number in range(20))
    seen = []
    for key in numbers:
        seen.append(key)
        for fresh in range(150):
            if len(numbers) < 9000:
                numbers[150 * len(seen) + 1000 + fresh] = 0
    assert len(seen) == len(set(seen))
    assert set(range(20)) <= set(seen)


def test_a_map_grows_while_two_processes_fill_it(
    arena: arenads.Arena, pin: Any, start_python: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=20000, initial_entries=1)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            numbers = arena.structures["numbers"]
            print("ready", flush=True)
            for key in range(0, 16000, 2):
                numbers.insert(key, key)
                if key % 64 == 0:
                    assert numbers[key // 2 // 2 * 2] == key // 2 // 2 * 2
        print("done", flush=True)
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "ready\n"
    for key in range(1, 16000, 2):
        numbers.insert(key, key)
        assert numbers[key] == key
    assert child.stdout.readline() == "done\n"
    assert dict(numbers) == {key: key for key in range(16000)}
    assert table_bits(numbers) >= 13
    assert balanced(numbers, 16000)


# --- in place ---------------------------------------------------------------------------------


def test_add_returns_what_was_there_before(stats: Any) -> None:
    assert stats.add(1, 10, "calls") == 5
    assert stats.load(1, "calls") == 15
    assert stats[1] == Stat(calls=15, change=-5, pid=1, ticks=[7, 8], comm="init")


def test_signed_fields_are_signed(stats: Any) -> None:
    assert stats.add(1, -10, "change") == -5
    assert stats.load(1, "change") == -15
    stats.store(1, -(1 << 63), "change")
    assert stats.load(1, "change") == -(1 << 63)


def test_unsigned_fields_wrap_around(stats: Any) -> None:
    stats.add(1, -6, "calls")
    assert stats.load(1, "calls") == (1 << 64) - 1


def test_an_element_of_an_array_can_be_changed_in_place(stats: Any) -> None:
    stats.add(1, 1, "ticks[1]")
    assert stats[1].ticks == [7, 9]


def test_store_writes_one_field(stats: Any) -> None:
    stats.store(1, 99, "calls")
    assert stats[1] == Stat(calls=99, change=-5, pid=1, ticks=[7, 8], comm="init")


def test_exchange_returns_what_was_there_before(stats: Any) -> None:
    assert stats.exchange(1, 9, "calls") == 5
    assert stats.exchange(1, -7, "change") == -5
    assert (stats[1].calls, stats[1].change) == (9, -7)


def test_cas_writes_only_what_is_expected(stats: Any) -> None:
    assert not stats.cas(1, 4, 9, "calls")
    assert stats.load(1, "calls") == 5
    assert stats.cas(1, 5, 9, "calls")
    assert stats.load(1, "calls") == 9
    assert stats.cas(1, -5, -6, "change")
    assert stats.load(1, "change") == -6


@pytest.mark.parametrize(
    "field", ["", "pid", "comm", "ticks", "ticks[2]", "ticks[-1]", "no", "a.b"]
)
def test_only_aligned_64_bit_fields_can_be_changed_in_place(stats: Any, field: str) -> None:
    for use in (
        lambda: stats.add(1, 1, field),
        lambda: stats.load(1, field),
        lambda: stats.store(1, 1, field),
        lambda: stats.exchange(1, 1, field),
        lambda: stats.cas(1, 1, 2, field),
    ):
        with pytest.raises(arenads.SchemaError):
            use()


@pytest.mark.parametrize(
    "use",
    [
        lambda stats: stats.add("calls", 1, 1),
        lambda stats: stats.cas(1, "calls", 8, 9),
        lambda stats: stats.store(1, "calls", 7),
        lambda stats: stats.load(1, ["calls"]),
        lambda stats: stats.load(1, None),
        lambda stats: stats.add(1, 1),
    ],
)
def test_who_names_no_field_is_told_which_there_are(
    stats: Any, use: Callable[[Any], object]
) -> None:
    with pytest.raises(arenads.SchemaError, match="name a field: calls, change, pid, ticks, comm;"):
        use(stats)
    assert stats[1].calls == 5


def test_of_an_array_an_element_is_named(arena: arenads.Arena) -> None:
    pairs = arena.hashmap("pairs", key=u32, value=arenads.Array[u64, 2])
    pairs[1] = [5, 6]
    with pytest.raises(arenads.SchemaError, match=r'name an element, such as "\[0\]"; found none'):
        pairs.add(1, 1)
    assert pairs.add(1, 1, "[1]") == 6


def test_an_integer_has_no_field_to_name(numbers: Any) -> None:
    numbers[1] = 10
    with pytest.raises(arenads.SchemaError, match="name no field: the value has none; found 3"):
        numbers.add(1, 1, 3)


def test_a_value_that_is_no_integer_has_no_atomic_access(arena: arenads.Arena) -> None:
    for name, value in (("floats", f64), ("texts", Str[8]), ("small", u32), ("bytes", Bytes[8])):
        things = arena.hashmap(name, key=u32, value=value)
        with pytest.raises(arenads.SchemaError, match=r"64-bit integer|expected a number"):
            things.load(1)


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.0, None, "1"])
def test_storing_what_does_not_fit_is_refused(numbers: Any, value: Any) -> None:
    numbers[1] = 10
    with pytest.raises(arenads.SchemaError):
        numbers.store(1, value)
    with pytest.raises(arenads.SchemaError):
        numbers.cas(1, 10, value)
    with pytest.raises(arenads.SchemaError):
        numbers.cas(1, value, 10)
    assert numbers[1] == 10


@pytest.mark.parametrize("amount", [1.0, None, "1"])
def test_adding_what_is_no_integer_is_refused(numbers: Any, amount: Any) -> None:
    numbers[1] = 10
    with pytest.raises(arenads.SchemaError):
        numbers.add(1, amount)
    assert numbers[1] == 10


def test_additions_of_threads_and_processes_lose_nothing(numbers: Any, in_fork: Any) -> None:
    numbers[1] = 0

    def add() -> None:
        for _ in range(3000):
            numbers.add(1, 1)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    in_fork(add)
    for thread in threads:
        thread.join()
    assert numbers[1] == 4 * 3000


# --- iteration while others write ---------------------------------------------------------------


@pytest.mark.parametrize("what", ["keys", "items", "values"])
def test_iteration_gives_every_key_once(numbers: Any, what: str) -> None:
    expected = {number: number * 3 for number in range(1000)}
    numbers.update(expected)
    if what == "keys":
        assert sorted(numbers) == sorted(expected)
    elif what == "items":
        assert sorted(numbers.items()) == sorted(expected.items())
    else:
        assert sorted(numbers.values()) == sorted(expected.values())


def test_views_know_their_length_and_contents(numbers: Any) -> None:
    numbers.update({1: 10, 2: 20})
    assert len(numbers.keys()) == len(numbers.items()) == len(numbers.values()) == 2
    assert (1, 10) in numbers.items()
    assert (1, 20) not in numbers.items()
    assert 20 in numbers.values()
    assert numbers.keys() == {1, 2}


def test_keys_may_be_deleted_while_they_are_iterated(numbers: Any) -> None:
    numbers.update((number, number) for number in range(1000))
    seen = []
    for key in numbers:
        seen.append(key)
        del numbers[key]
    assert sorted(seen) == list(range(1000))
    assert balanced(numbers, 0)


CHURN = """
    import random, sys, arenads
    with arenads.open(sys.argv[1]) as arena:
        numbers = arena.structures["numbers"]
        print("ready", flush=True)
        chosen = random.Random(7)
        while True:
            for _ in range(200):
                key = 1000 + chosen.randrange(600)
                if chosen.random() < 0.5:
                    numbers[key] = key
                else:
                    numbers.pop(key, None)
                numbers.replace(chosen.randrange(300), 1)
"""


def test_iteration_sees_every_lasting_key_once_while_a_process_inserts_and_deletes(
    arena: arenads.Arena, pin: Any, start_python: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=4096)
    numbers.update((number, 0) for number in range(300))
    arena.pin(pin)
    child = start_python(CHURN, pin)
    assert child.stdout.readline() == "ready\n"
    lasting = list(range(300))
    passing = 0
    for _ in range(300):
        seen = list(numbers)
        assert sorted(key for key in seen if key < 1000) == lasting
        assert len(seen) == len(set(seen))
        passing = max(passing, len(seen) - 300)
    assert child.poll() is None
    assert passing > 0
    child.kill()
    child.wait()
    report = numbers.check()
    assert report.errors == 0
    assert report.leaked <= 1


def test_iteration_sees_every_lasting_key_once_while_a_thread_inserts_and_deletes(
    arena: arenads.Arena,
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=4096)
    numbers.update((number, 0) for number in range(300))
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for key in range(1000, 1200):
                numbers[key] = key
            for key in range(1000, 1200):
                del numbers[key]

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(100):
            seen = list(numbers.items())
            assert sorted(key for key, _ in seen if key < 1000) == list(range(300))
            assert len({key for key, _ in seen}) == len(seen)
    finally:
        done.set()
        thread.join()
    assert balanced(numbers, 300)


def test_two_processes_fill_one_map_and_no_entry_is_lost(
    arena: arenads.Arena, in_fork: Any, start_python: Any, pin: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=8192)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            numbers = arena.structures["numbers"]
            for key in range(0, 4000, 2):
                numbers.insert(key, key)
            for key in range(0, 4000, 4):
                del numbers[key]
        print("done", flush=True)
    """
    child = start_python(script, pin)
    for key in range(1, 4000, 2):
        numbers.insert(key, key)
    assert child.stdout.readline() == "done\n"
    expected = {key: key for key in range(4000) if key % 2 or key % 4}
    assert dict(numbers) == expected
    assert len(numbers) == len(expected)
    assert balanced(numbers, len(expected))


def test_of_two_that_insert_the_same_keys_one_wins_each(
    arena: arenads.Arena, start_python: Any, pin: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=8192)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            numbers, won = arena.structures["numbers"], 0
            print("ready", flush=True)
            for key in range(3000):
                try:
                    numbers.insert(key, 2)
                    won += 1
                except arenads.KeyExistsError:
                    pass
            print(won, flush=True)
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "ready\n"
    won = 0
    for key in range(3000):
        try:
            numbers.insert(key, 1)
            won += 1
        except arenads.KeyExistsError:
            pass
    theirs = int(child.stdout.readline())
    assert won + theirs == 3000
    values = list(numbers.values())
    assert (values.count(1), values.count(2)) == (won, theirs)
    assert balanced(numbers, 3000)


# --- opening again -------------------------------------------------------------------------------


def test_opening_with_the_same_types_finds_the_same_map(numbers: Any) -> None:
    numbers[1] = 10
    again = numbers.arena.hashmap("numbers", key=u64, value=u64, max_entries=7)
    assert again[1] == 10
    assert again.offset == numbers.offset
    assert again.max_entries == 1024


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [(u32, u64, "key"), (u64, u32, "value"), (u64, i64, "value"), (u64, Point, "value")],
)
def test_opening_with_other_types_shows_both_layouts(
    numbers: Any, key: Any, value: Any, part: str
) -> None:
    with pytest.raises(arenads.LayoutError, match=f"{part} of 'numbers'") as caught:
        numbers.arena.hashmap("numbers", key=key, value=value)
    assert "u64" in str(caught.value)
    expected = {u32: "u32", i64: "i64", Point: "x"}[key if part == "key" else value]
    assert expected in str(caught.value)


def test_a_difference_of_one_field_is_found(stats: Any) -> None:
    class Other(msgspec.Struct):
        calls: u64
        changes: i64
        pid: u32
        ticks: Array[u64, 2]
        comm: Str[16]

    with pytest.raises(arenads.LayoutError) as caught:
        stats.arena.hashmap("stats", key=u32, value=Other)
    assert "changes" in str(caught.value)
    assert "change" in str(caught.value)


@pytest.mark.parametrize("kind", ["list", "queue"])
def test_a_name_of_another_kind_is_taken(numbers: Any, kind: str) -> None:
    with pytest.raises(arenads.NameExistsError, match="hash map"):
        getattr(numbers.arena, kind)("numbers", value=u64)


# --- books --------------------------------------------------------------------------------


def test_the_check_counts_where_every_entry_is(numbers: Any) -> None:
    numbers.update((number, number) for number in range(200))
    for number in range(50):
        del numbers[number]
    report = numbers.check()
    assert report.live == 150
    assert report.errors == report.leaked == report.repaired == 0
    assert report.live + report.deleted + report.free + report.unused == report.carved


def test_repairing_a_healthy_map_changes_nothing(numbers: Any) -> None:
    numbers.update((number, number) for number in range(200))
    before = numbers.check()
    assert numbers.check(repair=True) == before
    assert dict(numbers) == {number: number for number in range(200)}


def test_it_cannot_be_hashed(numbers: Any) -> None:
    with pytest.raises(TypeError):
        hash(numbers)
