"""Queues from Python: against a deque, at their limits, between threads and processes."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, Str, u32, u64


class Message(msgspec.Struct):
    number: u64
    text: Str[20]
    kind: u32


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def inbox(arena: arenads.Arena) -> Any:
    return arena.queue("inbox", value=u64, max_entries=8)


class AgainstDeque(RuleBasedStateMachine):
    engine = "native"
    capacity = 8

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("256KiB", engine=self.engine, populate="64KiB", provision=None)
        self.queue = self.arena.queue("queue", value=u64, max_entries=self.capacity)
        self.model: collections.deque[int] = collections.deque()
        self.refused = 0

    def teardown(self) -> None:
        self.arena.close()

    values = st.integers(0, (1 << 64) - 1)

    @rule(value=values)
    def push(self, value: int) -> None:
        if len(self.model) < self.capacity:
            self.queue.push(value)
            self.model.append(value)
        else:
            with pytest.raises(arenads.CapacityError):
                self.queue.push(value)
            self.refused += 1

    @rule(values=st.lists(values, max_size=12))
    def push_many(self, values: list[int]) -> None:
        room = self.capacity - len(self.model)
        assert self.queue.push_many(values) == min(room, len(values))
        self.model.extend(values[:room])
        self.refused += len(values) > room

    @rule()
    def pop(self) -> None:
        assert self.queue.pop() == (self.model.popleft() if self.model else None)

    @rule(most=st.none() | st.integers(0, 12))
    def drain(self, most: int | None) -> None:
        count = len(self.model) if most is None else min(most, len(self.model))
        assert self.queue.drain(most) == [self.model.popleft() for _ in range(count)]

    @invariant()
    def same(self) -> None:
        assert len(self.queue) == len(self.model)
        assert bool(self.queue) == bool(self.model)
        assert self.queue.counters().full == self.refused


def test_it_behaves_like_a_deque_with_a_limit(engine: str) -> None:
    machine = type("AgainstDeque", (AgainstDeque,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))


def test_records_come_out_in_the_order_they_went_in(inbox: Any) -> None:
    for number in range(8):
        inbox.push(number)
    assert [inbox.pop() for _ in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, None]


def test_an_empty_queue_gives_none(inbox: Any) -> None:
    assert inbox.pop() is None
    assert inbox.drain() == []
    assert len(inbox) == 0
    assert not inbox


def test_a_full_queue_refuses_and_counts(inbox: Any) -> None:
    inbox.push_many(range(8))
    for attempt in range(1, 4):
        with pytest.raises(arenads.CapacityError, match="max_entries=8"):
            inbox.push(9)
        assert inbox.counters().full == attempt
    assert inbox.drain() == list(range(8))


@pytest.mark.parametrize(
    ("asked", "slots"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (1000, 1024)]
)
def test_slots_are_rounded_up_to_a_power_of_two(
    arena: arenads.Arena, asked: int, slots: int
) -> None:
    queue = arena.queue("queue", value=u32, max_entries=asked)
    assert queue.max_entries == slots
    assert queue.push_many(range(slots + 5)) == slots
    assert queue.drain() == list(range(slots))


@pytest.mark.parametrize("slots", [0, -1, (1 << 31) + 1, 1.5, None])
def test_an_impossible_number_of_slots_is_refused(arena: arenads.Arena, slots: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.queue("queue", value=u32, max_entries=slots)


@pytest.mark.parametrize("slots", [1 << 22, 1 << 30, 1 << 31])
def test_slots_that_the_arena_has_no_room_for_are_refused(arena: arenads.Arena, slots: int) -> None:
    with pytest.raises(arenads.ArenaFullError):
        arena.queue("queue", value=u64, max_entries=slots)
    assert "queue" not in arena.structures


def test_draining_takes_at_most_what_is_asked(inbox: Any) -> None:
    inbox.push_many(range(8))
    assert inbox.drain(3) == [0, 1, 2]
    assert inbox.drain(0) == []
    assert inbox.drain(100) == [3, 4, 5, 6, 7]


def test_pushing_many_takes_any_iterable(inbox: Any) -> None:
    assert inbox.push_many(iter([1, 2])) == 2
    assert inbox.push_many([]) == 0
    assert inbox.drain() == [1, 2]


@pytest.mark.parametrize("value", [-1, 1 << 64, None, "1", 1.5])
def test_a_record_of_another_type_is_refused(inbox: Any, value: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        inbox.push(value)
    with pytest.raises(arenads.SchemaError):
        inbox.push_many([1, value])
    assert len(inbox) == 0


def test_struct_records_come_back_as_the_class(arena: arenads.Arena) -> None:
    queue = arena.queue("queue", value=Message)
    messages = [Message(number, f"text {number}", number % 3) for number in range(100)]
    assert queue.push_many(messages) == 100
    assert queue.pop() == messages[0]
    assert queue.drain() == messages[1:]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 13, 4096, 5001, 65536])
def test_records_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    queue = arena.queue("queue", value=Bytes[size], max_entries=4)
    patterns = [bytes((seed + 3 * at) & 255 for at in range(size)) for seed in range(6)]
    for pattern in patterns:
        queue.push(pattern)
        assert queue.pop() == pattern
    assert queue.push_many(patterns) == 4
    assert queue.drain() == patterns[:4]


def test_positions_go_on_after_many_laps(inbox: Any) -> None:
    for number in range(5000):
        inbox.push(number)
        assert inbox.pop() == number
    assert inbox.counters().full == 0


def test_a_producer_thread_and_a_consumer_thread_lose_nothing(
    arena: arenads.Arena, quick_switches: None
) -> None:
    queue = arena.queue("queue", value=u64, max_entries=64)
    total = 5000
    taken: list[int] = []

    def consume() -> None:
        while len(taken) < total:
            taken.extend(queue.drain())

    consumer = threading.Thread(target=consume)
    consumer.start()
    sent = 0
    while sent < total:
        sent += queue.push_many(range(sent, min(sent + 50, total)))
    consumer.join()
    assert taken == list(range(total))


def test_a_producer_process_and_a_consumer_process_lose_nothing(
    arena: arenads.Arena, pin: Any, start_python: Any
) -> None:
    queue = arena.queue("queue", value=Message, max_entries=32)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            queue, number = arena.structures["queue"], 0
            while number < 5000:
                try:
                    queue.push({"number": number, "text": f"message {number}", "kind": 7})
                    number += 1
                except arenads.CapacityError:
                    pass
        print("done", flush=True)
    """
    child = start_python(script, pin)
    taken: list[Message] = []
    while len(taken) < 5000:
        taken += queue.drain()
        assert child.poll() in (None, 0)
    assert taken == [Message(number, f"message {number}", 7) for number in range(5000)]
    assert len(queue) == 0


def test_opening_with_another_type_shows_both_layouts(inbox: Any) -> None:
    with pytest.raises(arenads.LayoutError, match="value of 'inbox'"):
        inbox.arena.queue("inbox", value=u32)


@pytest.mark.parametrize("kind", ["hashmap", "list"])
def test_a_name_of_another_kind_is_taken(inbox: Any, kind: str) -> None:
    key = {"key": u64} if kind == "hashmap" else {}
    with pytest.raises(arenads.NameExistsError, match="queue"):
        getattr(inbox.arena, kind)("inbox", value=u64, **key)


def test_opening_finds_what_waits(inbox: Any) -> None:
    inbox.push(7)
    again = inbox.arena.queue("inbox", value=u64, max_entries=4096)
    assert again.max_entries == 8
    assert again.pop() == 7
    assert inbox.pop() is None
