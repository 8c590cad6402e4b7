"""Byte rings: against a deque, in each role on each side, overwriting, and what they refuse."""

from __future__ import annotations

import collections
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads._core import ffi
from arenads.methods import records_of

SIZE = 256


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def log(arena: arenads.Arena) -> Any:
    return arena.ring("log", max_entries=SIZE)


@pytest.fixture
def recorder(arena: arenads.Arena) -> Any:
    return arena.ring("recorder", max_entries=SIZE, overwrite=True)


# --- against a deque --------------------------------------------------------------------


class AgainstDeque(RuleBasedStateMachine):
    """The model lays records out as the ring does, so it knows which have room."""

    engine = "native"
    overwrite = False

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("256KiB", engine=self.engine, populate="64KiB", provision=None)
        self.ring = self.arena.ring("ring", max_entries=SIZE, overwrite=self.overwrite)
        self.model: collections.deque[tuple[int, bytes]] = collections.deque()  # end, record
        self.unpublished: list[tuple[int, bytes]] = []
        self.head = self.end = 0
        self.refused = self.dropped = 0

    def teardown(self) -> None:
        self.arena.close()

    records = st.binary(max_size=SIZE // 2 - 8)

    def take(self) -> bytes:
        self.head, record = self.model.popleft()
        return record

    def place(self, record: bytes) -> bool:
        """Whether there is room, made if need be; then the record is committed."""
        need = 8 + -(-len(record) // 8) * 8
        left = SIZE - self.end % SIZE
        end = self.end + (left if need > left else 0) + need
        while end - self.head > SIZE:
            if not self.overwrite:
                return False
            if not self.model:
                self.publish()
            self.drop()
        self.end = end
        self.unpublished.append((end, record))
        return True

    def drop(self) -> None:
        """Drop the oldest record, or the padding before it."""
        end, record = self.model[0]
        start = end - 8 - -(-len(record) // 8) * 8
        if start != self.head:
            self.head = start
        else:
            self.take()
            self.dropped += 1

    def publish(self) -> None:
        self.model.extend(self.unpublished)
        self.unpublished.clear()

    @rule(record=records)
    def push(self, record: bytes) -> None:
        if self.place(record):
            self.ring.push(record)
            self.publish()
        else:
            with pytest.raises(arenads.CapacityError):
                self.ring.push(record)
            self.refused += 1

    @rule(records=st.lists(records, max_size=6))
    def push_many(self, records: list[bytes]) -> None:
        taken = 0
        while taken < len(records) and self.place(records[taken]):
            taken += 1
        if taken:
            self.publish()
        self.refused += taken < len(records)
        assert self.ring.push_many(records) == taken

    @rule(record=records, publish=st.booleans())
    def reserve(self, record: bytes, publish: bool) -> None:
        if not self.place(record):
            with pytest.raises(arenads.CapacityError), self.ring.reserve(len(record)):
                pass
            self.refused += 1
            return
        with self.ring.reserve(len(record), publish=publish) as place:
            place[:] = record
        if publish:
            self.publish()

    @rule(record=records)
    def discard(self, record: bytes) -> None:
        """Giving up a reservation leaves nothing, but what it dropped is dropped."""
        end = self.end
        if not self.place(record):
            return
        self.unpublished.pop()
        self.end = end
        with pytest.raises(KeyError), self.ring.reserve(len(record)):
            raise KeyError

    @rule()
    def publish_all(self) -> None:
        self.ring.publish()
        self.publish()

    @rule()
    def pop(self) -> None:
        assert self.ring.pop() == (self.take() if self.model else None)

    @rule(most=st.none() | st.integers(0, 6))
    def drain(self, most: int | None) -> None:
        count = len(self.model) if most is None else min(most, len(self.model))
        assert self.ring.drain(most) == [self.take() for _ in range(count)]

    @invariant()
    def same(self) -> None:
        assert list(self.ring.records()) == [record for _, record in self.model]
        assert len(self.ring) == len(self.model)
        assert bool(self.ring) == bool(self.model)
        assert self.ring.waiting == (self.model[-1][0] - self.head if self.model else 0)
        counters = self.ring.counters()
        assert (counters.full, counters.dropped) == (self.refused, self.dropped)
        report = self.ring.check()
        assert (report.live, report.errors) == (len(self.model), 0)


@pytest.mark.parametrize("overwrite", [False, True])
def test_it_behaves_like_a_deque_of_so_many_bytes(engine: str, overwrite: bool) -> None:
    machine = type("AgainstDeque", (AgainstDeque,), {"engine": engine, "overwrite": overwrite})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))


# --- records ----------------------------------------------------------------------------


def test_records_come_out_in_the_order_they_went_in(log: Any) -> None:
    for word in (b"a", b"", b"longer", b"12345678"):
        log.push(word)
    assert [log.pop() for _ in range(5)] == [b"a", b"", b"longer", b"12345678", None]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4095, 4096, 4097, 32760])
def test_records_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    ring = arena.ring("ring", size="64KiB")
    for seed in range(7):
        record = bytes((seed + 3 * at) & 255 for at in range(size))
        ring.push(record)
        assert list(ring.records()) == [record]
        assert ring.pop() == record
    assert ring.push_many([record, record[:-1]]) == 2
    assert ring.drain() == [record, record[:-1]]


def test_anything_that_is_bytes_can_be_a_record(log: Any) -> None:
    log.push(bytearray(b"one"))
    log.push_many([memoryview(b"--two")[2:], b"three"])
    assert log.drain() == [b"one", b"two", b"three"]


class Word(bytes):
    """Bytes of a class of somebody's own."""


def test_many_records_of_mixed_types_and_sizes_go_in_and_come_out_together(log: Any) -> None:
    words = memoryview(bytes(range(16))).cast("Q")
    given = [b"", b"a", bytearray(b"12345678"), words, b"123456789", memoryview(b"-two")[1:]]
    expected = [bytes(one) for one in given]
    assert log.push_many(given) == log.push_many(iter(given)) == len(given)
    assert list(log.records()) == 2 * expected
    assert log.drain(3) == expected[:3]
    assert log.drain() == expected[3:] + expected
    log.drain()
    assert log.push_many([Word(b"word"), b"x"]) == 2 and log.drain() == [b"word", b"x"]
    assert log.push_many(iter(())) == 0 and log.drain() == []


def test_a_record_that_outgrows_the_first_buffer_is_popped_whole(arena: arenads.Arena) -> None:
    log = arena.ring("long", size="64KiB")
    sent = [b"short", bytes(range(256)) * 60, b"", b"short again", bytes(range(256)) * 80]
    assert log.push_many(sent) == len(sent)
    assert [log.pop() for _ in sent] == sent
    assert log.pop() is None


def test_records_that_end_beyond_their_memory_are_no_records() -> None:
    memory = struct.pack("=Q8s", 8, b"12345678")
    assert records_of(ffi.from_buffer(memory), 1) == [b"12345678"]
    assert records_of(ffi.from_buffer(memory), 0) == []
    for wrong, count in (
        (memory[:-1], 1),
        (memory[:7], 1),
        (memory, 2),
        (struct.pack("=Q", (1 << 64) - 1), 1),
    ):
        with pytest.raises(ValueError, match="beyond the memory"):
            records_of(ffi.from_buffer(wrong), count)


def test_a_batch_is_seen_when_it_is_published(log: Any) -> None:
    for word in (b"one", b"two"):
        with log.reserve(3, publish=False) as place:
            place[:] = word
    assert log.pop() is None
    assert len(log) == log.waiting == 0
    log.publish()
    assert log.drain() == [b"one", b"two"]


def test_a_push_publishes_what_was_committed_before(log: Any) -> None:
    with log.reserve(3, publish=False) as place:
        place[:] = b"one"
    log.push(b"two")
    assert log.drain() == [b"one", b"two"]


def test_an_exception_discards_the_reservation(log: Any) -> None:
    with pytest.raises(ZeroDivisionError), log.reserve(10):
        1 / 0  # noqa: B018
    log.push(b"next")
    assert log.drain() == [b"next"]


def test_the_room_of_a_reservation_is_closed_after_its_block(log: Any) -> None:
    with log.reserve(4) as place:
        place[:] = b"kept"
    with pytest.raises(ValueError, match="released"):
        place[0] = 0
    assert log.pop() == b"kept"


def test_a_ring_is_found_with_what_waits(arena: arenads.Arena, log: Any) -> None:
    log.push(b"kept")
    again = arena.structures["log"]
    assert isinstance(again, arenads.Ring)
    assert (again.size, again.overwrite, again.pop()) == (SIZE, False, b"kept")
    assert arena.ring("log", size="1MiB").size == SIZE


def test_a_dump_takes_nothing_and_works_read_only(
    arena: arenads.Arena, recorder: Any, pin: Path, python: Any
) -> None:
    for number in range(100):
        recorder.push(f"event {number}".encode())
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            ring = arena.structures["recorder"]
            print(*[record.decode() for record in ring.records()], sep=",")
            print(len(ring), ring.counters().dropped, ring.check().errors)
            for change in (ring.pop, ring.drain, ring.publish, lambda: ring.push(b"")):
                try:
                    change()
                except arenads.ReadOnlyError:
                    print("refused")
    """
    lines = python(script, pin).stdout.split("\n")
    kept = [f"event {number}" for number in range(100 - len(recorder), 100)]
    assert lines[0].split(",") == kept
    assert lines[1:6] == [f"{len(kept)} {100 - len(kept)} 0", *["refused"] * 4]
    assert recorder.drain() == [event.encode() for event in kept]


# --- each role on each side ---------------------------------------------------------------


WORK = struct.Struct("<6QqQ")
ABSENT, FULL, TOO_LONG = -2, -28, -90


class Work(NamedTuple):
    first: int = 0
    count: int = 0
    size: int = 0
    batch: int = 0
    done: int = 0
    bad: int = 0
    code: int = 0
    sum: int = 0


def size_of(number: int) -> int:
    return 8 + number * 37 % 253


def numbered(number: int, size: int = 0) -> bytes:
    """As rings.bpf.c makes them."""
    size = size or size_of(number)
    return (number.to_bytes(8, "little") + bytes([number & 0xFF]) * size)[:size]


class Rings:
    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.out: Any = program["out"]
        self.inbox: Any = program["in"]
        self.recorder: Any = program["recorder"]
        self.tiny: Any = program["tiny"]

    def run(self, name: str, **work: int) -> Work:
        result = self.program.run(name, WORK.pack(*Work(**work)))
        assert result.value == 0, result.value
        return Work(*WORK.unpack(result.context))


@pytest.fixture
def rings(engine: str, compiled: Callable[..., Path]) -> Iterator[Rings]:
    with arenads.load(compiled("rings", engine), engine=engine) as program:
        yield Rings(program)


def test_the_declaration_says_how_large_it_is_and_whether_it_overwrites(rings: Rings) -> None:
    made = [rings.out, rings.inbox, rings.recorder, rings.tiny]
    assert [ring.size for ring in made] == [4096, 4096, 4096, 64]
    assert [ring.overwrite for ring in made] == [False, False, True, False]


def test_a_program_is_refused_what_cannot_be(rings: Rings) -> None:
    rings.run("refuse")
    assert rings.tiny.counters().full == 2
    assert not rings.tiny


@pytest.mark.parametrize("batch", [1, 3])
def test_a_program_produces_and_python_consumes(rings: Rings, batch: int) -> None:
    number, laps = 0, 0
    while laps < 50:
        work = rings.run("produce_out", first=number, count=40, batch=batch)
        assert work.bad == 0
        assert rings.out.drain() == [numbered(number + i) for i in range(work.done)]
        laps += work.code == FULL
        number += work.done
    assert rings.out.counters().full == laps


def test_python_produces_and_a_program_consumes_in_place(rings: Rings) -> None:
    number = 0
    for lap in range(50):
        sent = rings.inbox.push_many([numbered(number + i) for i in range(10 + lap)])
        work = rings.run("consume_in", first=number, count=1000)
        assert (work.done, work.bad, work.code) == (sent, 0, ABSENT)
        assert work.sum == sum(range(number, number + sent))
        number += sent
    assert rings.inbox.waiting == 0


def test_a_program_gives_up_part_of_a_batch(rings: Rings) -> None:
    rings.inbox.push_many([numbered(i) for i in range(10)])
    work = rings.run("consume_in", first=0, count=4)
    assert (work.done, work.bad) == (4, 0)
    assert rings.inbox.drain() == [numbered(i) for i in range(4, 10)]


def test_a_program_pushes_copies(rings: Rings) -> None:
    work = rings.run("push_out", first=7, count=1000)
    assert (work.done, work.code) == (4096 // 72, FULL)
    assert rings.out.drain() == [numbered(7 + i, 64) for i in range(work.done)]


def test_a_program_pops_copies_of_records_that_differ(rings: Rings) -> None:
    sent = [numbered(i, 1 + 7 * i % 64) for i in range(1, 64)]
    rings.inbox.push_many(sent)
    work = rings.run("pop_in", count=1000)
    assert (work.done, work.code) == (63, ABSENT)


def test_a_record_that_has_no_room_stays(rings: Rings) -> None:
    rings.inbox.push_many([b"short", b"l" * 65])
    work = rings.run("pop_in", count=2)
    assert (work.done, work.code, work.size) == (1, TOO_LONG, 65)
    assert rings.inbox.drain() == [b"l" * 65]


def test_the_books_of_an_overwriting_ring_balance_at_full_speed(rings: Rings) -> None:
    """A program pushes all the time; what Python does not take is dropped, and counted."""
    total, step = 200_000, 20_000
    pushed = 0

    def produce() -> None:
        nonlocal pushed
        for first in range(1, total, step):
            work = rings.run("produce_recorder", first=first, count=step, batch=1)
            assert (work.bad, work.code) == (0, 0)
            pushed += work.done

    producer = threading.Thread(target=produce)
    producer.start()
    taken: list[bytes] = []
    dumps = 0
    while producer.is_alive():
        record = rings.recorder.pop()
        if record is not None:
            taken.append(record)
        taken += rings.recorder.drain(5)
        dump = [int.from_bytes(record[:8], "little") for record in rings.recorder.records()]
        assert dump == sorted(set(dump))
        dumps += 1
    producer.join()
    waiting = rings.recorder.drain()
    counters = rings.recorder.counters()
    assert pushed == total == len(taken) + len(waiting) + counters.dropped
    assert (counters.full, counters.damaged) == (0, 0)
    numbers = [int.from_bytes(record[:8], "little") for record in taken + waiting]
    assert numbers == sorted(set(numbers))
    assert taken + waiting == [numbered(number) for number in numbers]
    assert counters.dropped > 0
    assert dumps > 0


def test_python_overwrites_while_a_program_consumes(rings: Rings) -> None:
    total, popped, summed = 20_000, 0, 0
    stop = threading.Event()

    def consume() -> None:
        nonlocal popped, summed
        while True:
            last = stop.is_set()
            work = rings.run("pop_recorder", count=1000)
            assert (work.bad, work.code in (0, ABSENT)) == (0, True)
            popped += work.done
            summed += work.sum
            if last and work.code == ABSENT:
                return

    consumer = threading.Thread(target=consume)
    consumer.start()
    for number in range(1, total + 1):
        rings.recorder.push(numbered(number, 8 + number % 57))
    stop.set()
    consumer.join()
    assert popped + rings.recorder.counters().dropped == total
    assert summed <= total * (total + 1) // 2


def test_two_processes_lose_nothing(arena: arenads.Arena, pin: Path, start_python: Any) -> None:
    ring = arena.ring("ring", size="4KiB")
    arena.pin(pin)
    script = """
        import sys, arenads
        def record(number):
            return number.to_bytes(4, "little") * (1 + number % 50)
        with arenads.open(sys.argv[1]) as arena:
            ring, number = arena.structures["ring"], 0
            while number < 20000:
                number += ring.push_many(record(each) for each in range(number, number + 20))
    """
    child = start_python(script, pin)
    taken: list[bytes] = []
    while len(taken) < 20_000:
        taken += ring.drain()
        assert child.poll() in (None, 0)
    assert taken[:20_000] == [
        number.to_bytes(4, "little") * (1 + number % 50) for number in range(20_000)
    ]


# --- what is refused ----------------------------------------------------------------------


def unchanged(ring: Any) -> tuple[Any, ...]:
    return list(ring.records()), ring.waiting, ring.counters().damaged


def test_a_record_longer_than_half_the_ring_is_refused(log: Any) -> None:
    log.push(b"before")
    before = unchanged(log)
    longest = SIZE // 2 - 8
    assert log.longest == longest
    for refused in (
        lambda: log.push(b"x" * (longest + 1)),
        lambda: log.push_many([b"short", b"x" * (longest + 1)]),
        lambda: log.reserve(longest + 1).__enter__(),
        lambda: log.reserve((1 << 32) - 1).__enter__(),
    ):
        with pytest.raises(arenads.RecordSizeError, match="up to 120 bytes") as caught:
            refused()
        assert caught.value.most == longest
        assert caught.value.size in (longest + 1, (1 << 32) - 1)
    assert unchanged(log) == before
    log.pop()
    log.push(b"x" * longest)


def test_a_full_ring_refuses_and_counts(log: Any) -> None:
    assert log.push_many([b"x" * 56] * 9) == 4
    for attempt in range(2, 5):
        before = unchanged(log)
        with pytest.raises(arenads.CapacityError, match="256 of its 256 bytes"):
            log.push(b"")
        assert log.counters().full == attempt
        assert unchanged(log) == before


def test_a_reservation_that_a_push_made_void_cannot_be_committed(log: Any) -> None:
    with pytest.raises(arenads.ReservationError, match="void"), log.reserve(10):
        log.push(b"kept")
    assert log.drain() == [b"kept"]


def test_of_two_reservations_the_first_that_is_committed_counts(log: Any) -> None:
    with pytest.raises(arenads.ReservationError), log.reserve(10):
        with log.reserve(5) as inner:
            inner[:] = b"inner"
    assert log.drain() == [b"inner"]


@pytest.mark.parametrize("record", [None, "text", 5, [1]])
def test_a_record_that_is_not_bytes_is_refused(log: Any, record: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="bytes"):
        log.push(record)
    with pytest.raises(arenads.SchemaError, match="bytes"):
        log.push_many([b"one", record])
    assert len(log) == 0


@pytest.mark.parametrize("size", [-1, 1.5, None, True, 1 << 32])
def test_a_size_that_is_none_cannot_be_reserved(log: Any, size: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="reserve"), log.reserve(size):
        pass


@pytest.mark.parametrize("size", [0, -1, "5 apples", None])
def test_an_impossible_size_is_refused(arena: arenads.Arena, size: Any) -> None:
    with pytest.raises(arenads.SizeError):
        arena.ring("ring", size=size)
    assert "ring" not in arena.structures


@pytest.mark.parametrize("size", ["8MiB", "2GiB"])
def test_a_ring_that_the_arena_has_no_room_for_is_refused(arena: arenads.Arena, size: str) -> None:
    with pytest.raises(arenads.ArenaFullError):
        arena.ring("ring", size=size)
    assert "ring" not in arena.structures


@pytest.mark.parametrize(("asked", "got"), [(1, 64), (64, 64), (65, 128), (5000, 8192)])
def test_bytes_are_rounded_up_to_a_power_of_two(arena: arenads.Arena, asked: int, got: int) -> None:
    assert arena.ring("ring", max_entries=asked).size == got


def test_a_ring_of_the_other_mode_is_another_structure(arena: arenads.Arena, log: Any) -> None:
    with pytest.raises(arenads.NameExistsError, match="overwrite"):
        arena.ring("log", overwrite=True)
    with pytest.raises(arenads.NameExistsError, match="ring"):
        arena.queue("log", value=arenads.u64)


def test_a_ring_that_was_removed_takes_and_gives_nothing(arena: arenads.Arena, log: Any) -> None:
    log.push(b"record")
    with pytest.raises(arenads.RemovedError), log.reserve(8):
        arena.remove("log")
    for use in (log.pop, log.drain, log.publish, lambda: log.push(b""), lambda: len(log)):
        with pytest.raises(arenads.RemovedError):
            use()
    assert arena.ring("log", size="4KiB").size == 4096


def test_a_closed_arena_is_said_to_be(log: Any) -> None:
    with pytest.raises(arenads.ClosedError), log.reserve(8):
        log.arena.close()
    for use in (log.pop, log.drain, log.publish, lambda: log.push(b""), lambda: len(log)):
        with pytest.raises(arenads.ClosedError):
            use()
    with pytest.raises(arenads.ClosedError):
        list(log.records())
    assert "closed" in repr(log)


# --- damage -------------------------------------------------------------------------------

COMMITTED, TAIL, HEAD, DATA = 128, 256, 384, 512  # in a ring


@pytest.mark.parametrize(
    ("at", "word"),
    [
        (TAIL, 1 << 40),
        (TAIL, 12),
        (HEAD, 1 << 40),
        (HEAD, 4),
        (DATA, 0),
        (DATA, 1 << 31),
        (DATA, 999),
    ],
)
def test_positions_and_lengths_that_cannot_be_are_damage(
    arena: arenads.Arena, log: Any, at: int, word: int
) -> None:
    from arenads._core import ffi

    log.push(b"record")
    memory = ffi.buffer(arena._core.base + log.offset + at, 8)
    memory[:] = word.to_bytes(8, "little")
    for use in (log.pop, log.drain, lambda: list(log.records()), lambda: len(log)):
        with pytest.raises(arenads.DamagedError, match="log"):
            use()
    report = log.check()
    assert report.errors == 1
    assert log.offset <= report.error_at < log.offset + DATA + SIZE
