"""Ordered lists from Python: against a sorted dict, at their limits, under traffic."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, Str, u32, u64
from arenads.bulk import PIECE
from arenads.list import _WALKS

LARGEST = (1 << 64) - 1
FIRST = 1 << 63  # the order of the first push


class Event(msgspec.Struct):
    when: u64
    pid: u32
    comm: Str[12]


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def events(arena: arenads.Arena) -> Any:
    return arena.list("events", value=u64)


def balanced(collection: Any, live: int) -> bool:
    report = collection.check()
    return (report.live, report.leaked, report.errors) == (live, 0, 0)


class AgainstSortedDict(RuleBasedStateMachine):
    engine = "native"
    capacity = 10

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("512KiB", engine=self.engine, populate="64KiB", provision=None)
        self.list = self.arena.list("list", value=u64, max_entries=self.capacity)
        self.model: dict[int, int] = {}
        self.refused = 0

    def teardown(self) -> None:
        report = self.list.check()
        assert (report.live, report.leaked, report.errors) == (len(self.model), 0, 0)
        self.arena.close()

    orders = st.sampled_from([0, 1, 2, 3, 5, 8, FIRST - 1, FIRST, FIRST + 1, LARGEST - 1, LARGEST])
    values = st.integers(0, LARGEST)

    @rule(value=values)
    def push(self, value: int) -> None:
        first = min(self.model, default=None)
        if len(self.model) == self.capacity or first == 0:
            with pytest.raises(arenads.CapacityError):
                self.list.push(value)
            self.refused += 1
        else:
            order = self.list.push(value)
            assert order == (FIRST if first is None else first - 1)
            self.model[order] = value

    @rule(order=orders, value=values)
    def insert(self, order: int, value: int) -> None:
        if order in self.model:
            with pytest.raises(arenads.KeyExistsError):
                self.list.insert(order, value)
        elif len(self.model) == self.capacity:
            with pytest.raises(arenads.CapacityError):
                self.list.insert(order, value)
            self.refused += 1
        else:
            self.list.insert(order, value)
            self.model[order] = value

    @rule(order=orders, value=values)
    def replace(self, order: int, value: int) -> None:
        if order in self.model:
            self.list.replace(order, value)
            self.model[order] = value
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.list.replace(order, value)

    @rule(order=orders, value=values)
    def update(self, order: int, value: int) -> None:
        if order in self.model or len(self.model) < self.capacity:
            self.list.update(order, value)
            self.model[order] = value
        else:
            with pytest.raises(arenads.CapacityError):
                self.list.update(order, value)
            self.refused += 1

    @rule(order=orders)
    def delete(self, order: int) -> None:
        if order in self.model:
            self.list.delete(order)
            del self.model[order]
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.list.delete(order)

    @rule(order=orders)
    def pop(self, order: int) -> None:
        if order in self.model:
            assert self.list.pop(order) == self.model.pop(order)
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.list.pop(order)

    @rule()
    def pop_first(self) -> None:
        if self.model:
            first = min(self.model)
            assert self.list.first() == (first, self.model[first])
            assert self.list.pop_first() == (first, self.model.pop(first))
        else:
            for use in (self.list.first, self.list.pop_first):
                with pytest.raises(arenads.KeyAbsentError, match="is empty"):
                    use()

    @rule(many=st.lists(values, max_size=4), as_array=st.booleans())
    def push_many(self, many: list[int], as_array: bool) -> None:
        first = min(self.model, default=FIRST + 1)
        room = min(self.capacity - len(self.model), first)
        expected = [first - 1 - place for place in range(min(len(many), room))]
        given = numpy.array(many, "u8") if as_array else many
        if len(many) > room:
            with pytest.raises(arenads.CapacityError) as caught:
                self.list.push_many(given)
            assert (caught.value.done, caught.value.orders) == (room, expected)
            self.refused += 1
        else:
            assert list(self.list.push_many(given)) == expected
        self.model.update(zip(expected, many, strict=False))

    @rule(many=st.lists(st.tuples(orders, values), max_size=4), as_array=st.booleans())
    def insert_many(self, many: list[tuple[int, int]], as_array: bool) -> None:
        done, error = 0, None
        for order, value in many:
            if order in self.model:
                error = arenads.KeyExistsError
                break
            if len(self.model) == self.capacity:
                error = arenads.CapacityError
                self.refused += 1
                break
            self.model[order] = value
            done += 1
        columns = [[order for order, _ in many], [value for _, value in many]]
        given = [numpy.array(column, "u8") for column in columns] if as_array else columns
        if error is None:
            self.list.insert_many(*given)
        else:
            with pytest.raises(error) as caught:
                self.list.insert_many(*given)
            assert caught.value.done == done

    @rule(many=st.dictionaries(orders, values, max_size=4))
    def update_many(self, many: dict[int, int]) -> None:
        if len(self.model | many) <= self.capacity - 1:
            self.list.update_many(many)
            self.model |= many

    @rule(many=st.lists(orders, max_size=4), as_array=st.booleans())
    def delete_many(self, many: list[int], as_array: bool) -> None:
        there = set(many) & set(self.model)
        assert self.list.delete_many(numpy.array(many, "u8") if as_array else many) == len(there)
        for order in there:
            del self.model[order]

    @rule(order=orders)
    def go_on(self, order: int) -> None:
        behind = sorted(pair for pair in self.model.items() if pair[0] > order)
        assert list(self.list.items(after=order)) == behind

    @rule(order=orders)
    def get(self, order: int) -> None:
        if order in self.model:
            assert self.list.get(order) == self.model[order]
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.list.get(order)

    @invariant()
    def same(self) -> None:
        assert list(self.list.items()) == sorted(self.model.items())
        assert list(self.list) == [value for _, value in sorted(self.model.items())]
        assert len(self.list) == len(self.model)
        assert self.list.counters().full == self.refused


def test_it_behaves_like_a_sorted_dict_with_a_limit(engine: str) -> None:
    machine = type("AgainstSortedDict", (AgainstSortedDict,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))


# --- one entry ------------------------------------------------------------------------


def test_pushing_puts_values_at_the_head(events: Any) -> None:
    orders = [events.push(number) for number in range(5)]
    assert list(events) == [4, 3, 2, 1, 0]
    assert orders == [FIRST, FIRST - 1, FIRST - 2, FIRST - 3, FIRST - 4]


def test_the_order_of_a_push_finds_its_value(events: Any) -> None:
    order = events.push(7)
    assert events.get(order) == 7


def test_iteration_goes_by_order_whatever_came_first(events: Any) -> None:
    for order in (5, 1, LARGEST, 3, 0):
        events.insert(order, order)
    assert list(events.items()) == [(n, n) for n in (0, 1, 3, 5, LARGEST)]


def test_pushing_onto_an_emptied_list_starts_in_the_middle_again(events: Any) -> None:
    events.delete(events.push(1))
    assert events.push(2) == FIRST


def test_a_list_whose_first_order_is_0_takes_no_push(events: Any) -> None:
    events.insert(0, 1)
    with pytest.raises(arenads.CapacityError):
        events.push(2)
    assert list(events) == [1]
    assert balanced(events, 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda events: events.get(7),
        lambda events: events.delete(7),
        lambda events: events.pop(7),
        lambda events: events.replace(7, 1),
    ],
    ids=["get", "delete", "pop", "replace"],
)
def test_an_absent_order_is_a_key_error(events: Any, use: Any) -> None:
    with pytest.raises(arenads.KeyAbsentError, match="order 7 is not in list 'events'") as caught:
        use(events)
    assert isinstance(caught.value, KeyError)
    assert caught.value.key == 7


def test_a_taken_order_is_a_key_error_and_changes_nothing(events: Any) -> None:
    events.insert(7, 1)
    with pytest.raises(arenads.KeyExistsError, match="order 7"):
        events.insert(7, 2)
    assert list(events.items()) == [(7, 1)]
    assert balanced(events, 1)


def test_an_iteration_goes_on_where_another_has_stopped(events: Any) -> None:
    for order in range(0, 1000, 2):
        events.insert(order, order)
    part = list(itertools.islice(events.items(), 300))
    events.delete(part[-1][0])
    events.insert(part[-1][0] + 1, 7)
    rest = list(events.items(after=part[-1][0]))
    assert rest[0] == (599, 7)
    assert [order for order, _ in part + rest if order % 2 == 0] == list(range(0, 1000, 2))


def test_entries_popped_by_several_threads_come_once_each(arena: arenads.Arena) -> None:
    events = arena.list("events", value=u64, max_entries=3000)
    for number in range(3000):
        events.insert(number, number)
    popped: list[list[int]] = [[], [], []]

    def pop(into: list[int]) -> None:
        try:
            while True:
                order, value = events.pop_first()
                assert order == value
                into.append(value)
        except arenads.KeyAbsentError:
            pass

    threads = [threading.Thread(target=pop, args=(into,)) for into in popped]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(into == sorted(into) for into in popped)
    assert sorted(itertools.chain(*popped)) == list(range(3000))
    assert balanced(events, 0)


@pytest.mark.parametrize("order", [-1, 1 << 64, 1.5, None, "7", b"7"])
def test_what_is_no_order_is_refused(events: Any, order: Any) -> None:
    for use in (
        lambda: events.insert(order, 1),
        lambda: events.replace(order, 1),
        lambda: events.update(order, 1),
        lambda: events.get(order),
        lambda: events.delete(order),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert len(events) == 0


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, None, "7", {}])
def test_a_value_that_does_not_fit_is_refused(events: Any, value: Any) -> None:
    for use in (
        lambda: events.push(value),
        lambda: events.insert(1, value),
        lambda: events.update(1, value),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert len(events) == 0
    assert balanced(events, 0)


# --- many in one call -------------------------------------------------------------------


def test_many_values_are_pushed_as_one_after_the_other(arena: arenads.Arena) -> None:
    one, many = (arena.list(name, value=Event) for name in ("one", "many"))
    values = [Event(number, number, f"event {number}") for number in range(100)]
    assert [one.push(value) for value in values] == many.push_many(values)
    assert list(one.items()) == list(many.items())
    assert balanced(many, 100)


def test_batches_of_any_length_are_done_to_the_end(arena: arenads.Arena) -> None:
    count = PIECE + 7
    events = arena.list("events", value=u32, max_entries=count)
    orders = events.push_many(numpy.arange(count, dtype="u4"))
    assert orders.dtype == "u8"
    pairs = enumerate(orders.tolist())
    assert list(events.items()) == [(order, number) for number, order in pairs][::-1]
    assert events.delete_many(orders[::-1][: 3 * _WALKS + 1]) == 3 * _WALKS + 1
    back = orders[::-1][: 2 * _WALKS + 1][::-1]
    events.insert_many(back, numpy.zeros(len(back), "u4"))
    assert len(events) == count - _WALKS
    assert balanced(events, count - _WALKS)


def test_what_a_snapshot_gives_another_list_takes(arena: arenads.Arena, events: Any) -> None:
    events.insert_many([(3, 30), (1, 10), (2, 20)])
    for name, taken in [("a", events.snapshot()), ("b", events.snapshot().array)]:
        other = arena.list(name, value=u64)
        other.insert_many(taken)
        assert list(other.items()) == [(1, 10), (2, 20), (3, 30)]


def test_an_order_that_is_taken_ends_a_batch_and_says_which(events: Any) -> None:
    events.insert(7, 70)
    with pytest.raises(arenads.KeyExistsError, match=r"order 7 .* Done before: 2 of 4") as caught:
        events.insert_many([9, 8, 7, 6], [1, 2, 3, 4])
    assert (caught.value.key, caught.value.done) == (7, 2)
    assert list(events.items()) == [(7, 70), (8, 2), (9, 1)]


@pytest.mark.parametrize("wrong", [[1, -1], [1, 1 << 64], ["1"], "12", None, 1.5])
def test_many_that_do_not_fit_are_refused_and_nothing_is_done(events: Any, wrong: Any) -> None:
    events.insert(1, 1)
    for use in (
        lambda: events.push_many(wrong),
        lambda: events.insert_many(wrong, [1] * 2),
        lambda: events.insert_many([5, 6], wrong),
        lambda: events.update_many(wrong, [1] * 2),
        lambda: events.update_many(wrong),
        lambda: events.delete_many(wrong),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert list(events.items()) == [(1, 1)]


def test_as_many_values_as_orders_are_expected(events: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="found 2 orders and 1 values"):
        events.insert_many([1, 2], [3])
    assert len(events) == 0


def test_many_of_a_removed_or_closed_list_are_refused(arena: arenads.Arena, events: Any) -> None:
    arena.remove("events")
    acts = (events.push_many, lambda many: events.insert_many(many, many), events.delete_many)
    for act in acts:
        for many in ([], [1]):
            with pytest.raises(arenads.RemovedError):
                act(many)
    arena.close()
    for act in acts:
        with pytest.raises(arenads.ClosedError):
            act([])


def test_a_read_only_list_refuses_many_and_says_that_nothing_was_done(
    arena: arenads.Arena, events: Any, pin: Any, python: Any
) -> None:
    events.insert(1, 1)
    arena.pin(pin)
    done = python(
        """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            events = arena.structures["events"]
            update = lambda orders: events.update_many(orders, orders)
            for act in (events.push_many, update, events.delete_many):
                try:
                    act([1, 2])
                except arenads.ReadOnlyError as error:
                    print(error.done)
            print(list(events.items()))
        """,
        pin,
    )
    assert done.stdout == "0\n0\n0\n[(1, 1)]\n"


def test_membership_is_that_of_values(events: Any) -> None:
    events.push(7)
    assert 7 in events
    assert 8 not in events


def test_struct_values_come_back_as_the_class(arena: arenads.Arena) -> None:
    events = arena.list("structs", value=Event)
    event = Event(when=1, pid=2, comm="init")
    events.push(event)
    assert list(events) == [event]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 9, 17, 4096, 5001, 65536])
def test_values_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    things = arena.list("things", value=Bytes[size], max_entries=4)
    patterns = [bytes((seed + 5 * at) & 255 for at in range(size)) for seed in (1, 2, 3)]
    for pattern in patterns:
        things.push(pattern)
    assert list(things) == patterns[::-1]


# --- the limit ---------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 63, 64, 65, 300])
def test_exactly_max_entries_fit(arena: arenads.Arena, capacity: int) -> None:
    events = arena.list("events", value=u64, max_entries=capacity)
    for number in range(capacity):
        events.push(number)
    with pytest.raises(arenads.CapacityError, match=f"max_entries={capacity}"):
        events.push(capacity)
    assert list(events) == list(range(capacity))[::-1]
    assert events.counters().full == 1


def test_the_limit_holds_exactly_after_replacing_while_full(arena: arenads.Arena) -> None:
    events = arena.list("events", value=u64, max_entries=5)
    orders = [events.push(number) for number in range(5)]
    for turn in range(40):
        events.replace(orders[turn % 5], turn)
        with pytest.raises(arenads.CapacityError):
            events.push(turn)
    events.delete(orders[0])
    events.push(99)
    with pytest.raises(arenads.CapacityError):
        events.push(100)
    assert balanced(events, 5)


def test_a_list_can_be_used_as_a_ring_of_the_last_entries(arena: arenads.Arena) -> None:
    recent = arena.list("recent", value=u64, max_entries=10)
    for number in range(500):
        order = recent.push(number)
        if number >= 9:
            recent.delete(order + 9)
    assert list(recent) == list(range(499, 490, -1))
    assert balanced(recent, 9)


def test_many_entries_are_iterated_in_order(arena: arenads.Arena) -> None:
    events = arena.list("events", value=u64, max_entries=3000)
    for number in range(3000):
        events.push(number)
    assert list(events) == list(range(2999, -1, -1))


# --- under traffic --------------------------------------------------------------------------


def test_entries_may_be_deleted_while_they_are_iterated(events: Any) -> None:
    for number in range(800):
        events.push(number)
    seen = []
    for order, value in events.items():
        seen.append(value)
        events.delete(order)
    assert seen == list(range(799, -1, -1))
    assert balanced(events, 0)


def test_iteration_is_ordered_and_whole_while_a_process_writes(
    arena: arenads.Arena, pin: Any, start_python: Any
) -> None:
    events = arena.list("events", value=u64, max_entries=2000)
    for order in range(1, 300, 2):
        events.insert(order, order)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            events = arena.structures["events"]
            print("ready", flush=True)
            while True:
                for order in range(0, 300, 2):
                    events.insert(order, order)
                    events.replace(order + 1, order + 1)
                for order in range(0, 300, 2):
                    events.delete(order)
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "ready\n"
    for _ in range(200):
        seen = list(events.items())
        assert seen == sorted(set(seen))
        assert all(order == value for order, value in seen)
        assert [order for order, _ in seen if order % 2] == list(range(1, 300, 2))
    assert child.poll() is None
    child.kill()
    child.wait()
    report = events.check()
    assert report.errors == 0
    assert report.leaked <= 1


def test_pushes_of_several_threads_all_arrive_in_the_order_of_each(
    arena: arenads.Arena,
) -> None:
    events = arena.list("events", value=u64, max_entries=4000)

    def push(start: int) -> None:
        for number in range(1000):
            events.push(start + number)

    threads = [threading.Thread(target=push, args=(start,)) for start in (0, 10000, 20000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pushed = list(events)[::-1]
    assert len(pushed) == 3000
    for start in (0, 10000, 20000):
        own = [value for value in pushed if start <= value < start + 1000]
        assert own == list(range(start, start + 1000))
    assert balanced(events, 3000)


# --- opening again ----------------------------------------------------------------------------


def test_opening_with_the_same_type_finds_the_same_list(events: Any) -> None:
    events.push(7)
    assert list(events.arena.list("events", value=u64)) == [7]


def test_opening_with_another_type_shows_both_layouts(events: Any) -> None:
    with pytest.raises(arenads.LayoutError, match="value of 'events'") as caught:
        events.arena.list("events", value=Event)
    assert "u64" in str(caught.value)
    assert "comm" in str(caught.value)


@pytest.mark.parametrize("kind", ["hashmap", "queue"])
def test_a_name_of_another_kind_is_taken(events: Any, kind: str) -> None:
    key = {"key": u64} if kind == "hashmap" else {}
    with pytest.raises(arenads.NameExistsError, match="list"):
        getattr(events.arena, kind)("events", value=u64, **key)


def test_a_walk_that_does_not_end_is_cut_off(engine: str) -> None:
    """An entry that leads to itself: the budget ends the walk, and the counter says so."""
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        events = arena.list("events", value=u64)
        events.insert(5, 50)
        head = ctypes.c_uint64.from_address(arena.base + events.offset + 128)
        entry = head.value & 0xFFFFFFFF
        ctypes.c_uint32.from_address(arena.base + entry).value = entry
        with pytest.raises(arenads.BudgetError, match="budget"):
            events.get(6)
        assert events.counters().budget == 1
