"""Rings for many producers: from all CPUs and both sides, taken, nested, and left by the dead."""

from __future__ import annotations

import collections
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import compiler

SIZE = 256
CPUS = sorted(os.sched_getaffinity(0))
WORK = struct.Struct("<QQQQ")
RECORD = struct.Struct("<QQQQ")


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def one_cpu() -> Iterator[int]:
    """This thread stays on one CPU: then it is known which ring it takes first."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPUS[0]})
    yield CPUS[0]
    os.sched_setaffinity(0, before)


# --- against deques ---------------------------------------------------------------------


class AgainstDeques(RuleBasedStateMachine):
    """Where a record went is seen by what waits; the model says whether it had room there."""

    engine = "native"

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("256KiB", engine=self.engine, populate="64KiB", provision=None)
        self.rings = self.arena.rings("rings", max_entries=SIZE, count=2)
        self.model: tuple[collections.deque[bytes], ...] = tuple(
            collections.deque() for _ in self.rings
        )
        self.refused = 0

    def teardown(self) -> None:
        self.arena.close()

    # No record needs padding: each takes a quarter of a ring, or an eighth.
    records = st.binary(min_size=SIZE // 4 - 8, max_size=SIZE // 4 - 8)

    def went(self, before: list[int]) -> int | None:
        """The ring that has more than before, if one has."""
        now = [ring.waiting for ring in self.rings]
        return next((i for i, (a, b) in enumerate(zip(before, now, strict=True)) if b > a), None)

    @rule(record=records)
    def push(self, record: bytes) -> None:
        before = [ring.waiting for ring in self.rings]
        try:
            self.rings.push(record)
        except arenads.CapacityError:
            self.refused += 1
            assert any(len(ring) == 4 for ring in self.model)
        else:
            at = self.went(before)
            assert at is not None
            self.model[at].append(record)

    @rule(many=st.lists(records, max_size=6))
    def push_many(self, many: list[bytes]) -> None:
        before = [ring.waiting for ring in self.rings]
        taken = self.rings.push_many(many)
        at = self.went(before)
        if at is not None:
            self.model[at].extend(many[:taken])
            assert taken == len(many) or len(self.model[at]) == 4
        self.refused += taken < len(many)

    @rule(record=records, keep=st.booleans())
    def reserve(self, record: bytes, keep: bool) -> None:
        before = [ring.waiting for ring in self.rings]
        try:
            with self.rings.reserve(len(record)) as place:
                place[:] = record
                if not keep:
                    raise KeyError
        except KeyError:
            assert self.went(before) is None
        except arenads.CapacityError:
            self.refused += 1
        else:
            at = self.went(before)
            assert at is not None
            self.model[at].append(record)

    @rule()
    def pop(self) -> None:
        record = self.rings.pop()
        if record is None:
            assert not any(self.model)
            return
        oldest = [ring for ring in self.model if ring and ring[0] == record]
        # The same record may be the oldest of both: then see which ring has less.
        for at, ring in enumerate(self.rings):
            if self.model[at] in oldest and len(ring) < len(self.model[at]):
                self.model[at].popleft()
                return
        raise AssertionError("no ring had this record as its oldest")

    @rule(most=st.none() | st.integers(0, 9))
    def drain(self, most: int | None) -> None:
        waiting = [list(ring) for ring in self.model]
        records = self.rings.drain(most)
        total = sum(map(len, waiting))
        assert len(records) == (total if most is None else min(most, total))
        taken: list[bytes] = []
        for at, ring in enumerate(self.rings):
            while len(self.model[at]) > len(ring):
                taken.append(self.model[at].popleft())
        assert sorted(taken) == sorted(records)

    @invariant()
    def the_same_waits(self) -> None:
        assert [list(ring.records()) for ring in self.rings] == [list(ring) for ring in self.model]
        assert self.rings.taken == 0
        assert self.rings.counters().full == self.refused


def test_they_behave_like_deques(engine: str) -> None:
    machine = type("Machine", (AgainstDeques,), {"engine": engine})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None)
    )


# --- what they are ------------------------------------------------------------------------


def test_they_are_ordinary_rings_with_numbered_names(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=3)
    assert sorted(arena.structures) == ["events.0", "events.1", "events.2"]
    assert [type(arena.structures[name]) for name in arena.structures] == [arenads.Ring] * 3
    assert [ring.name for ring in events] == sorted(arena.structures)
    assert (len(events), events.size, events.longest) == (3, 4096, 2040)


def test_without_a_number_there_is_one_for_each_cpu_and_a_second_one_at_least(
    arena: arenads.Arena,
) -> None:
    assert len(arena.rings("events", size="4KiB")) == min(64, max(2, os.cpu_count() or 1))


def test_another_process_opens_what_exists(
    arena: arenads.Arena, pin: Path, start_python: Any
) -> None:
    events = arena.rings("events", size="4KiB", count=5)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            events = arena.rings("events")
            events.push(b"from elsewhere")
            print(len(events), events.size)
    """
    child = start_python(script, pin)
    assert child.stdout.read() == "5 4096\n"
    assert events.drain() == [b"from elsewhere"]


def test_another_number_is_refused(arena: arenads.Arena) -> None:
    arena.rings("events", size="4KiB", count=2)
    with pytest.raises(arenads.NameExistsError, match="exists as 2 rings, expected 3") as caught:
        arena.rings("events", size="4KiB", count=3)
    assert (caught.value.expected, caught.value.found) == (3, 2)  # type: ignore[attr-defined]


def test_the_other_mode_is_refused(arena: arenads.Arena) -> None:
    arena.rings("events", size="4KiB", count=2)
    with pytest.raises(arenads.NameExistsError, match="other options: expected overwrite"):
        arena.rings("events", size="4KiB", overwrite=True)


def test_a_name_that_something_else_has_is_refused(arena: arenads.Arena) -> None:
    arena.queue("events.0", value=arenads.u32)
    with pytest.raises(arenads.NameExistsError, match="exists as a queue"):
        arena.rings("events")


@pytest.mark.parametrize("count", [0, -1, 65, 1.5, True, "two"])
def test_an_impossible_number_is_refused(arena: arenads.Arena, count: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="expected 1 to 64 rings"):
        arena.rings("events", count=count)


def test_a_name_has_room_for_the_number(arena: arenads.Arena) -> None:
    assert len(arena.rings("e" * 60, size="4KiB", count=2)) == 2
    with pytest.raises(arenads.SchemaError, match="at most 60 bytes"):
        arena.rings("e" * 61, count=2)


def test_rings_that_the_arena_has_no_room_for_leave_no_name(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.ArenaFullError):
        arena.rings("events", size="2MiB", count=8)
    assert not list(arena.structures)
    assert len(arena.rings("events", size="4KiB", count=8)) == 8


def test_what_a_maker_left_half_done_is_made_whole(arena: arenads.Arena) -> None:
    arena.ring("events.1", size="4KiB")  # the first, which says that all are there, is not yet
    assert [ring.name for ring in arena.rings("events", size="4KiB", count=2)] == [
        "events.0",
        "events.1",
    ]


def test_one_of_them_is_not_pushed_to_without_the_others(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    with pytest.raises(arenads.SchemaError, match="push to the rings 'events' instead"):
        events[0].push(b"past the others")


def test_a_record_longer_than_half_a_ring_is_refused(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    for push in (events.push, lambda record: events.push_many([record])):
        with pytest.raises(arenads.RecordSizeError, match=r"up to 2040 bytes .* found 2041"):
            push(bytes(2041))
    assert events.taken == 0


def test_overwriting_rings_keep_the_newest(arena: arenads.Arena, one_cpu: int) -> None:
    events = arena.rings("events", size="4KiB", count=2, overwrite=True)
    for number in range(1000):
        events.push(b"%04d" % number)
    records = events.drain()
    assert records == [b"%04d" % number for number in range(1000 - len(records), 1000)]
    assert events.counters().dropped == 1000 - len(records) > 0


def test_rings_that_were_removed_take_nothing(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    for ring in events:
        arena.remove(ring.name)
    with pytest.raises(arenads.RemovedError):
        events.push(b"late")
    assert "removed" in repr(events)


def test_a_read_only_arena_shows_what_waits(
    arena: arenads.Arena, pin: Path, start_python: Any
) -> None:
    arena.rings("events", size="4KiB", count=2).push(b"waits")
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            events = arena.rings("events")
            print(list(events.records()), len(events), events.taken)
            for refused in (lambda: events.push(b"no"), events.drain):
                try:
                    refused()
                except arenads.ReadOnlyError:
                    print("read-only")
    """
    lines = start_python(script, pin).stdout.read().splitlines()
    assert lines == ["[b'waits'] 2 0", "read-only", "read-only"]


def test_repr_says_how_much_waits(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    events.push(b"12345678")
    assert repr(events) == "<Rings 'events', 2 of 4096 bytes, 16 bytes wait>"
    arena.close()
    assert repr(events) == "<Rings 'events', arena closed>"


# --- who has a ring -----------------------------------------------------------------------


def test_who_is_interrupted_leaves_the_others_another_ring(
    arena: arenads.Arena, one_cpu: int
) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    with events.reserve(5) as place:
        place[:] = b"outer"
        events.push(b"inner")
        assert (events.taken, events.drain()) == (1, [b"inner"])
    assert (events.taken, events.drain()) == (0, [b"outer"])


def test_when_others_have_all_rings_a_push_is_refused_and_counted(arena: arenads.Arena) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    with events.reserve(1), events.reserve(1):
        with pytest.raises(arenads.CapacityError, match="2 have a producer now"):
            events.push(b"third")
        assert events.push_many([b"third"]) == 0
    assert events.counters().full == 2
    events.push(b"third")


def test_a_reservation_is_not_lost_with_the_arena_that_is_closed(
    arena: arenads.Arena, pin: Path, start_python: Any
) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    arena.pin(pin)
    script = """
        import sys, arenads
        arena = arenads.open(sys.argv[1])
        try:
            with arena.rings("events").reserve(100):
                arena.close()
        except arenads.ClosedError:
            print("closed", flush=True)
        sys.stdin.readline()
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "closed\n"
    assert events.taken == 0  # though the thread lives


def test_a_forked_child_neither_commits_nor_gives_up_a_reservation(
    arena: arenads.Arena, in_fork: Any
) -> None:
    events = arena.rings("events", size="4KiB", count=2)

    def child() -> None:
        with pytest.raises(arenads.ReservationError):
            reservation.__exit__(None, None, None)
        arena.close()

    reservation = events.reserve(1)
    reservation.__enter__()[:] = b"x"
    in_fork(child)
    assert events.taken == 1
    reservation.__exit__(None, None, None)
    assert events.drain() == [b"x"]


def test_a_ring_that_a_killed_thread_had_is_given_back(
    arena: arenads.Arena, pin: Path, start_python: Any
) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            events = arena.rings("events")
            events.push(b"before")
            with events.reserve(100), events.reserve(100):
                print("has both", flush=True)
                sys.stdin.readline()
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "has both\n"
    assert events.taken == 2
    arena.reap()
    assert events.taken == 2  # it lives
    with pytest.raises(arenads.CapacityError):
        events.push(b"meanwhile")
    child.send_signal(signal.SIGKILL)
    child.wait()
    arena.reap()
    assert events.taken == 0
    events.push(b"after")
    assert sorted(events.drain()) == [b"after", b"before"]


def test_a_thread_without_a_line_in_the_registry_is_refused(engine: str) -> None:
    with arenads.create("64KiB", engine=engine, provision=None) as arena:  # four lines
        events = arena.rings("events", max_entries=1024, count=2)
        refused: list[arenads.CapacityError] = []
        everybody = threading.Barrier(6)

        def write() -> None:
            try:
                events.push(b"x")
            except arenads.CapacityError as error:
                refused.append(error)
            everybody.wait()  # a thread that ends gives its line up

        threads = [threading.Thread(target=write) for _ in range(5)]
        for thread in threads:
            thread.start()
        everybody.wait()
        for thread in threads:
            thread.join()
        events.push(b"x")  # this thread has a line: it has made the rings
        assert len(refused) == 2
        assert "not registered as a writer" in str(refused[0])
        assert (events.taken, len(events.drain()), events.counters().full) == (0, 4, 2)


# --- with programs ------------------------------------------------------------------------


@pytest.fixture
def program(engine: str, compiled: Callable[..., Path]) -> Iterator[arenads.Program]:
    with arenads.load(compiled("producers", engine), engine=engine) as program:
        yield program


def test_the_declaration_says_how_large_they_are_and_whether_they_overwrite(
    program: arenads.Program,
) -> None:
    assert isinstance(program["events"], arenads.Rings)
    made = [program[name] for name in program]
    assert [(rings.size, rings.overwrite) for rings in made] == [(4096, False), (4096, True)]


def test_a_second_program_shares_the_rings_of_the_first(
    program: arenads.Program, engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("producers", engine), arena=program.arena) as second:
        second.run("push_many", WORK.pack(1, 0, 3, 0))
    assert len(program["events"].drain()) == 3


def test_a_program_takes_as_many_rings_as_there_are(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        events = arena.rings("events", size="4KiB", count=1)
        with arenads.load(compiled("producers", engine), arena=arena) as program:
            program.run("push_many", WORK.pack(1, 0, 3, 0))
        assert len(events.drain()) == 3


def test_an_object_that_declares_the_other_mode_is_refused(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        arena.rings("recorder", size="4KiB", count=2)
        with pytest.raises(arenads.NameExistsError, match="other options"):
            arenads.load(compiled("producers", engine), arena=arena)
        assert "events.0" not in arena.structures  # nothing was made


def test_a_program_is_refused_what_cannot_be(program: arenads.Program) -> None:
    assert program.run("refuse", bytes(32)).value == 0
    assert program["events"].taken == 0


def test_a_program_that_finds_the_ring_of_its_cpu_taken_takes_the_next(
    program: arenads.Program, one_cpu: int
) -> None:
    events = program["events"]
    mine, next_one = one_cpu % len(events), (one_cpu + 1) % len(events)
    with events.reserve(8):
        program.run("push_many", WORK.pack(1, 0, 1, 0))
        assert [at for at, ring in enumerate(events) if ring] == [next_one]
    events.drain()
    program.run("push_many", WORK.pack(1, 1, 1, 0))
    assert [at for at, ring in enumerate(events) if ring] == [mine]


def test_a_program_that_finds_all_rings_taken_is_refused_and_counted(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        events = arena.rings("events", size="4KiB", count=2)
        with arenads.load(compiled("producers", engine), arena=arena) as program:
            with events.reserve(8), events.reserve(8):
                result = program.run("push_many", WORK.pack(1, 0, 5, 0))
            assert WORK.unpack(result.context)[3] == 0
            assert events.counters().full == 1
            result = program.run("push_many", WORK.pack(1, 0, 5, 0))
            assert WORK.unpack(result.context)[3] == 5


def test_a_ring_that_a_program_kept_is_given_back_by_a_repair(program: arenads.Program) -> None:
    assert program.run("keep", bytes(32)).value == 0
    events = program["events"]
    assert events.taken == 1
    program.arena.reap()
    assert (events.taken, events.check().repaired) == (1, 0)
    assert events.check(repair=True).repaired == 1
    assert events.taken == 0


class Producer:
    """Runs a program on one CPU until all its records are out; counts what was refused."""

    def __init__(self, program: arenads.Program, name: str, number: int, records: int) -> None:
        self.runner = program.runner(name, WORK.size)
        self.number, self.records = number, records
        self.thread = threading.Thread(target=self.run)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            os.sched_setaffinity(threading.get_native_id(), {CPUS[self.number % len(CPUS)]})
            sent = 0
            while sent < self.records:
                count = min(37, self.records - sent)
                assert self.runner(WORK.pack(self.number, sent, count, 0)) == 0
                sent += WORK.unpack(self.runner.context)[3]  # type: ignore[attr-defined]
        except BaseException as error:
            self.error = error


def consume(rings: arenads.Rings, producers: list[Producer], expected: int) -> list[list[bytes]]:
    """Take records beside the producers; those of each ring in their order."""
    for producer in producers:
        producer.thread.start()
    taken: list[list[bytes]] = [[] for _ in rings]
    while sum(map(len, taken)) < expected and not any(each.error for each in producers):
        for ring, records in zip(rings, taken, strict=True):
            records += ring.drain()
    for producer in producers:
        producer.thread.join()
        assert producer.error is None
    assert rings.drain() == []
    return taken


@pytest.mark.parametrize("name", ["push_many", "reserve_many"])
def test_programs_on_all_cpus_lose_nothing_and_keep_the_order_of_each_ring(
    program: arenads.Program, name: str, quick_switches: None
) -> None:
    """Three producers on two CPUs, one of which preempts another in the native engine."""
    records = 3000
    kept = [n for n in range(records) if name == "push_many" or n % 5 != 4]
    producers = [Producer(program, name, number, records) for number in range(3)]
    taken = consume(program["events"], producers, 3 * len(kept))
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for of_ring in taken:
        last = dict.fromkeys(found, -1)
        for record in of_ring:
            words = struct.unpack(f"<{len(record) // 8}Q", record)
            producer, number, *rest = words
            assert rest == [producer ^ number << 8] * (2 if name == "push_many" else number & 3)
            assert number > last[producer]
            last[producer] = number
            found[producer].append(number)
    assert [sorted(numbers) for numbers in found.values()] == [kept] * 3
    assert program["events"].taken == 0


def test_processes_and_programs_push_to_the_same_rings(
    program: arenads.Program, pin: Path, start_python: Any, quick_switches: None
) -> None:
    records = 2000
    program.arena.pin(pin)
    script = """
        import sys, struct, arenads
        with arenads.open(sys.argv[1]) as arena:
            events, producer, records = arena.rings("events"), int(sys.argv[2]), int(sys.argv[3])
            sent = 0
            while sent < records:
                batch = range(sent, min(sent + 7, records))
                pack = lambda n: struct.pack("<QQQQ", producer, n, *[producer ^ n << 8] * 2)
                if sent % 2:
                    sent += events.push_many(map(pack, batch))
                    continue
                try:
                    with events.reserve(32) as place:
                        place[:] = pack(sent)
                    sent += 1
                except arenads.CapacityError:
                    pass
    """
    children = [start_python(script, pin, number, records) for number in (8, 9)]
    producers = [Producer(program, "push_many", number, records) for number in range(2)]
    taken = consume(program["events"], producers, 4 * records)
    assert [child.wait() for child in children] == [0, 0]
    for of_ring in taken:
        for record in of_ring:
            producer, number, *rest = RECORD.unpack(record)
            assert rest == [producer ^ number << 8] * 2
    everything = sorted(RECORD.unpack(record)[:2] for of_ring in taken for record in of_ring)
    assert everything == [(p, n) for p in (0, 1, 8, 9) for n in range(records)]


def test_the_books_of_overwriting_rings_balance_with_programs_on_all_cpus(
    program: arenads.Program, quick_switches: None
) -> None:
    recorder, runs, batch = program["recorder"], 100, 50
    threads = []
    failed: list[BaseException] = []

    def record(number: int) -> None:
        try:
            os.sched_setaffinity(threading.get_native_id(), {CPUS[number % len(CPUS)]})
            run = program.runner("record_many", WORK.size)
            for turn in range(runs):
                assert run(WORK.pack(number, turn * batch, batch, 0)) == 0
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += recorder.drain()
    taken += recorder.drain()
    assert not failed
    for item in taken:
        producer, number, *rest = RECORD.unpack(item)
        assert rest == [producer ^ number << 8] * 2
    assert len(set(taken)) == len(taken)
    assert len(taken) + recorder.counters().dropped == 2 * runs * batch


# --- with C programs ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiler.compile_shared(
        PROGRAMS / "many_rings.c",
        tmp_path_factory.mktemp("many_rings") / "many_rings.so",
        flags=["-Wall", "-Wextra", "-Werror"],
    )


USE_RINGS = """
    import ctypes, sys
    total = ctypes.c_uint64()
    library = ctypes.CDLL(sys.argv[1])
    print(library.use_rings(sys.argv[2].encode(), int(sys.argv[3]), ctypes.c_uint64(7),
        ctypes.byref(total)), total.value)
"""


def test_a_c_program_makes_rings_that_python_opens(
    arena: arenads.Arena, pin: Path, start_python: Any, c_program: Path
) -> None:
    arena.pin(pin)
    assert start_python(USE_RINGS, c_program, pin, 3).stdout.read() == "3 0\n"
    events = arena.rings("events")
    assert (len(events), events.size) == (3, 4096)
    assert sorted(events.drain()) == [number.to_bytes(8, "little") for number in (7, 8)]


def test_a_c_program_opens_rings_that_python_made(
    arena: arenads.Arena, pin: Path, start_python: Any, c_program: Path
) -> None:
    events = arena.rings("events", size="4KiB", count=2)
    events.push_many([number.to_bytes(8, "little") for number in (30, 12)])
    arena.pin(pin)
    assert start_python(USE_RINGS, c_program, pin, 5).stdout.read() == "2 42\n"
    assert len(events.drain()) == 2
