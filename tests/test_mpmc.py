"""MPMC queues: against a deque, at their limits, and with every role on either side at once."""

from __future__ import annotations

import collections
import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, Str, u32, u64
from arenads._core import ffi, lib

CPUS = sorted(os.sched_getaffinity(0))
SLOTS = 64  # of the queue of the program
WORK = struct.Struct("<4Q")


class Message(msgspec.Struct):
    number: u64
    text: Str[20]
    kind: u32


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("8MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def jobs(arena: arenads.Arena) -> Any:
    return arena.mpmc("jobs", value=u64, max_entries=8)


# --- alone ------------------------------------------------------------------------------


class AgainstDeque(RuleBasedStateMachine):
    engine: Any = "native"
    program: Path
    capacity = SLOTS

    def __init__(self) -> None:
        super().__init__()
        self.loaded = arenads.load(self.program, engine=self.engine)
        self.queue: Any = self.loaded["queue"]
        self.model: collections.deque[int] = collections.deque()
        self.refused = 0

    def teardown(self) -> None:
        self.loaded.close()
        self.loaded.arena.close()

    values = st.integers(0, (1 << 64) - 1)
    lists = st.lists(values, max_size=40)

    def record(self, value: int) -> dict[str, Any]:
        return {"producer": value, "number": ~value & (1 << 64) - 1, "rest": [value] * 6}

    def run(self, name: str, value: int = 0) -> tuple[int, int]:
        result = self.loaded.run(name, WORK.pack(value, 0, 0, 0))
        return result.value, WORK.unpack(result.context)[2]

    @rule(value=values)
    def push(self, value: int) -> None:
        if len(self.model) < self.capacity:
            self.queue.push(self.record(value))
            self.model.append(value)
        else:
            with pytest.raises(arenads.CapacityError):
                self.queue.push(self.record(value))
            self.refused += 1

    @rule(value=values)
    def push_from_the_program(self, value: int) -> None:
        code, _ = self.run("push_one", value)
        if len(self.model) < self.capacity:
            assert code == 0
            self.model.append(value)
        else:
            assert code == -28
            self.refused += 1

    @rule(values=lists)
    def push_many(self, values: list[int]) -> None:
        room = self.capacity - len(self.model)
        assert self.queue.push_many(map(self.record, values)) == min(room, len(values))
        self.model.extend(values[:room])
        self.refused += len(values) > room

    @rule()
    def pop(self) -> None:
        found = self.queue.pop()
        assert (found and found.producer) == (self.model.popleft() if self.model else None)

    @rule()
    def pop_from_the_program(self) -> None:
        code, value = self.run("pop_one")
        if self.model:
            assert (code, value) == (0, self.model.popleft())
        else:
            assert code == -2

    @rule(most=st.none() | st.integers(0, 100))
    def drain(self, most: int | None) -> None:
        count = len(self.model) if most is None else min(most, len(self.model))
        found = [each.producer for each in self.queue.drain(most)]
        assert found == [self.model.popleft() for _ in range(count)]

    @invariant()
    def same(self) -> None:
        assert len(self.queue) == len(self.model) == self.run("length")[0]
        assert bool(self.queue) == bool(self.model)
        assert self.queue.counters().full == self.refused
        report = self.queue.check()
        assert (report.live, report.leaked, report.errors) == (len(self.model), 0, 0)


def test_it_behaves_like_a_deque_with_a_limit(engine: str, compiled: Callable[..., Path]) -> None:
    program = compiled("mpmc", engine)
    machine = type("AgainstDeque", (AgainstDeque,), {"engine": engine, "program": program})
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=40))


def test_records_come_out_in_the_order_they_went_in(jobs: Any) -> None:
    for number in range(8):
        jobs.push(number)
    assert [jobs.pop() for _ in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, None]


def test_an_empty_queue_gives_none(jobs: Any) -> None:
    assert jobs.pop() is None
    assert jobs.drain() == []
    assert len(jobs) == 0
    assert not jobs


def test_a_full_queue_refuses_and_counts(jobs: Any) -> None:
    jobs.push_many(range(8))
    for attempt in range(1, 4):
        with pytest.raises(arenads.CapacityError, match="max_entries=8"):
            jobs.push(9)
        assert jobs.counters().full == attempt
    assert jobs.push_many([1, 2]) == 0
    assert jobs.drain() == list(range(8))


@pytest.mark.parametrize(
    ("asked", "slots"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (1000, 1024), (5000, 8192)]
)
def test_slots_are_rounded_up_to_a_power_of_two(
    arena: arenads.Arena, asked: int, slots: int
) -> None:
    queue = arena.mpmc("queue", value=u32, max_entries=asked)
    assert queue.max_entries == slots
    for _ in range(3):
        assert queue.push_many(range(slots + 5)) == slots
        assert queue.drain() == list(range(slots))
    report = queue.check()
    assert (report.leaked, report.errors, report.unused) == (0, 0, 0)


@pytest.mark.parametrize("slots", [0, -1, (1 << 31) + 1, 1.5, None])
def test_an_impossible_number_of_slots_is_refused(arena: arenads.Arena, slots: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.mpmc("queue", value=u32, max_entries=slots)
    assert "queue" not in arena.structures


@pytest.mark.parametrize("slots", [1 << 17, 1 << 22, 1 << 30, 1 << 31])
def test_slots_that_the_arena_has_no_room_for_are_refused(arena: arenads.Arena, slots: int) -> None:
    used = arena.used
    with pytest.raises(arenads.ArenaFullError):
        arena.mpmc("queue", value=u64, max_entries=slots)
    assert "queue" not in arena.structures
    assert arena.used == used


def test_a_queue_that_exists_needs_no_more_memory(engine: Any) -> None:
    with arenads.create("256KiB", engine=engine, provision=None) as arena:
        queue = arena.mpmc("queue", value=u64, max_entries=256)
        with pytest.raises(arenads.ArenaFullError):
            while True:
                arena.queue(f"filler {arena.used}", value=u64, max_entries=64)
        for _ in range(3):
            assert queue.push_many(range(300)) == 256
            assert len(queue.drain()) == 256
        assert queue.counters().no_memory == 0


def test_draining_takes_at_most_what_is_asked(jobs: Any) -> None:
    jobs.push_many(range(8))
    assert jobs.drain(3) == [0, 1, 2]
    assert jobs.drain(0) == []
    assert jobs.drain(100) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("value", [-1, 1 << 64, None, "1", 1.5])
def test_a_record_of_another_type_is_refused(jobs: Any, value: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        jobs.push(value)
    with pytest.raises(arenads.SchemaError):
        jobs.push_many([1, value])
    assert len(jobs) == 0


def test_struct_records_come_back_as_the_class(arena: arenads.Arena) -> None:
    queue = arena.mpmc("queue", value=Message)
    messages = [Message(number, f"text {number}", number % 3) for number in range(100)]
    assert queue.push_many(messages) == 100
    assert queue.pop() == messages[0]
    assert queue.drain() == messages[1:]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 13, 48, 49, 4096, 5001, 65536])
def test_records_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    queue = arena.mpmc("queue", value=Bytes[size], max_entries=4)
    patterns = [bytes((seed + 3 * at) & 255 for at in range(size)) for seed in range(6)]
    for pattern in patterns:
        queue.push(pattern)
        assert queue.pop() == pattern
    assert queue.push_many(patterns) == 4
    assert queue.drain() == patterns[:4]


def test_positions_go_on_after_many_laps(jobs: Any) -> None:
    for number in range(5000):
        jobs.push(number)
        assert jobs.pop() == number
    assert jobs.counters().full == 0


def test_a_read_only_view_counts_and_checks_and_changes_nothing(
    jobs: Any, pin: Path, python: Any
) -> None:
    jobs.push_many(range(5))
    jobs.arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            jobs = arena.structures["jobs"]
            assert len(jobs) == 5
            report = jobs.check()
            assert (report.live, report.errors, report.leaked) == (5, 0, 0)
            for change in (jobs.pop, lambda: jobs.push(1), lambda: jobs.push_many([1]),
                           lambda: jobs.drain(1), lambda: jobs.check(repair=True)):
                try:
                    change()
                except arenads.ReadOnlyError:
                    continue
                raise AssertionError(change)
    """
    python(script, pin)
    assert jobs.drain() == list(range(5))


def test_a_removed_queue_is_said_to_be_removed(jobs: Any) -> None:
    jobs.push(1)
    jobs.arena.remove("jobs")
    for use in (jobs.pop, lambda: jobs.push(1), lambda: jobs.push_many([1]), lambda: jobs.drain(1)):
        with pytest.raises(arenads.RemovedError):
            use()


def test_a_closed_arena_is_said_to_be_closed(jobs: Any) -> None:
    jobs.arena.close()
    for use in (jobs.pop, lambda: jobs.push(1), lambda: len(jobs), jobs.drain, jobs.check):
        with pytest.raises(arenads.ClosedError):
            use()


def test_opening_with_another_type_shows_both_layouts(jobs: Any) -> None:
    with pytest.raises(arenads.LayoutError, match="value of 'jobs'"):
        jobs.arena.mpmc("jobs", value=u32)


@pytest.mark.parametrize("kind", ["queue", "list", "pool"])
def test_a_name_of_another_kind_is_taken(jobs: Any, kind: str) -> None:
    with pytest.raises(arenads.NameExistsError, match="MPMC queue"):
        getattr(jobs.arena, kind)("jobs", value=u64)


def test_opening_finds_what_waits(jobs: Any) -> None:
    jobs.push(7)
    again = jobs.arena.mpmc("jobs", value=u64, max_entries=4096)
    assert again.max_entries == 8
    assert again.pop() == 7
    assert jobs.pop() is None


def place_of(jobs: Any, member: str) -> int:
    """Return the address of a member of the ring, or of what follows it if there is none."""
    rows = ffi.new("core_layout **")
    count = lib.core_layouts(rows)
    for row in rows[0][0:count]:
        if (ffi.string(row.record), ffi.string(row.name)) == (b"ads_mpmc", member.encode()):
            return int(jobs.arena.base + jobs.offset + (row.offset if member else row.size))
    raise AssertionError(member)


@pytest.mark.parametrize("member", ["tail", "head", ""], ids=["tail", "head", "first slot"])
def test_damage_is_an_error_of_the_operation_or_of_the_check(jobs: Any, member: str) -> None:
    jobs.push_many(range(5))
    jobs.drain(2)
    ctypes.c_uint64.from_address(place_of(jobs, member)).value += (1 << 40) + 5
    assert jobs.check().errors > 0
    outcomes = set()
    for use in (lambda: jobs.push(1), jobs.pop, jobs.drain, lambda: len(jobs)):
        try:
            use()
        except arenads.ArenadsError as error:
            outcomes.add(type(error))
    assert outcomes <= {arenads.DamagedError, arenads.CapacityError}


# --- leaks ------------------------------------------------------------------------------


# Forks a victim for each line it reads; says how that ended.
VICTIMS = """
    import importlib.util, os, sys
    spec = importlib.util.spec_from_file_location("arenads._core", sys.argv[1])
    core = importlib.util.module_from_spec(spec)
    sys.modules["arenads._core"] = core
    spec.loader.exec_module(core)
    import arenads
    with arenads.open(sys.argv[2]) as arena:
        jobs = arena.structures["jobs"]
        for line in sys.stdin:
            operation, point = line.split()
            victim = os.fork()
            if not victim:
                core.lib.core_set_points(int(point))
                jobs.push(100) if operation == "push" else jobs.pop()
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("operation", ["push", "pop"])
def test_a_process_killed_at_any_point_stops_nobody_and_its_entry_comes_back(
    jobs: Any, pin: Path, points_core: Path, start_python: Any, operation: str
) -> None:
    jobs.arena.provision(None)  # nobody reaps but this test
    jobs.arena.pin(pin)
    victims = start_python(VICTIMS, points_core, pin)
    leaks, after = 0, [1, 2, 3, 100] if operation == "push" else [2, 3]
    for point in range(1, 100):
        jobs.drain()
        jobs.push_many([1, 2, 3])
        victims.stdin.write(f"{operation} {point}\n")
        victims.stdin.flush()
        code = int(victims.stdout.readline())
        report = jobs.check()
        assert report.errors == 0
        assert report.leaked <= 1
        leaks += report.leaked
        left = jobs.drain()
        assert left in ([1, 2, 3], after)
        assert jobs.push_many(range(20)) == 8
        assert jobs.drain() == list(range(8))
        if point % 2:
            jobs.arena.reap()
        else:
            jobs.check(repair=True, force=True)  # the helper that forks lives
        assert jobs.check().leaked == 0
        if code == 0:
            break
        assert code == -9
    assert left == after
    assert point > 8
    assert (leaks > 0) == (operation == "push")  # a pop has nothing in hand


# --- everybody at once --------------------------------------------------------------------


class Work(NamedTuple):
    producer: int
    first: int
    count: int
    done: int


class Record(NamedTuple):
    producer: int
    number: int


class Party:
    """Somebody who pushes or pops until `stop`, and what it popped."""

    def __init__(self) -> None:
        self.pushed = 0
        self.popped: list[Record] = []

    def push(self, producer: int, first: int, count: int) -> int:
        raise NotImplementedError

    def pop(self, most: int) -> list[Record]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def record(producer: int, number: int) -> dict[str, Any]:
    """As the program makes them: all words follow from the first two."""
    return {"producer": producer, "number": number, "rest": [producer ^ number << 8] * 6}


def whole(found: Any) -> Record:
    assert list(found.rest) == [found.producer ^ found.number << 8] * 6
    return Record(found.producer, found.number)


class FromPython(Party):
    def __init__(self, program: arenads.Program) -> None:
        super().__init__()
        self.queue: Any = program["queue"]

    def push(self, producer: int, first: int, count: int) -> int:
        return int(self.queue.push_many(record(producer, first + n) for n in range(count)))

    def pop(self, most: int) -> list[Record]:
        return [whole(found) for found in self.queue.drain(most)]


class FromProgram(Party):
    def __init__(self, program: arenads.Program) -> None:
        super().__init__()
        self.pusher: Any = program.runner("push_many", WORK.size)
        self.popper: Any = program.runner("pop_many", WORK.size)
        self.outputs: Any = program["outputs"]
        self.output = self.outputs.alloc({"taken": [0] * (2 * SLOTS)})

    def push(self, producer: int, first: int, count: int) -> int:
        assert self.pusher(WORK.pack(producer, first, count, 0)) == 0
        return int(WORK.unpack(self.pusher.context)[3])

    def pop(self, most: int) -> list[Record]:
        assert self.popper(WORK.pack(0, self.output, most, 0)) == 0
        done = WORK.unpack(self.popper.context)[3]
        words = list(self.outputs[self.output].taken)[: 2 * done] if done else []
        return [Record(*pair) for pair in zip(words[::2], words[1::2], strict=True)]

    def close(self) -> None:
        self.outputs.free(self.output)


def together(
    program: arenads.Program,
    producers: list[type[Party]],
    consumers: list[type[Party]],
    records: int,
) -> list[Party]:
    """Run them all until every record has been popped; each in a thread, CPU by CPU."""
    total = records * len(producers)
    popped = [0] * len(consumers)
    parties = [kind(program) for kind in [*producers, *consumers]]
    failed: list[BaseException] = []

    def run(index: int) -> None:
        os.sched_setaffinity(threading.get_native_id(), {CPUS[index % len(CPUS)]})
        party = parties[index]
        try:
            if index < len(producers):
                while party.pushed < records and not failed:
                    count = min(37, records - party.pushed)
                    party.pushed += party.push(index, party.pushed, count)
            else:
                while sum(popped) < total and not failed:
                    party.popped += party.pop(29)
                    popped[index - len(producers)] = len(party.popped)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(parties))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for party in parties:
        party.close()
    assert not failed
    return parties[len(producers) :]


def check_records(consumers: list[list[Record]], producers: int, records: int) -> None:
    """Every record was popped once, and no consumer saw those of one producer out of order."""
    everything = sorted(found for popped in consumers for found in popped)
    assert everything == [Record(p, n) for p in range(producers) for n in range(records)]
    for popped in consumers:
        last: dict[int, int] = {}
        for found in popped:
            assert found.number > last.get(found.producer, -1)
            last[found.producer] = found.number


@pytest.fixture(scope="module")
def program(engine: Any, compiled: Callable[..., Path]) -> Iterator[arenads.Program]:
    with arenads.load(compiled("mpmc", engine), engine=engine) as program:
        yield program


@pytest.mark.parametrize("consumers", [[FromPython], [FromProgram], [FromPython, FromProgram]])
@pytest.mark.parametrize("producers", [[FromPython], [FromProgram], [FromPython, FromProgram]])
def test_every_record_is_popped_once_whoever_pushes_and_pops(
    program: arenads.Program,
    producers: list[type[Party]],
    consumers: list[type[Party]],
    quick_switches: None,
) -> None:
    records = 1500
    done = together(program, producers * 2, consumers * 2, records)
    check_records([each.popped for each in done], 2 * len(producers), records)
    report = program["queue"].check()  # type: ignore[attr-defined]
    assert (report.live, report.leaked, report.errors) == (0, 0, 0)
    assert report.free == report.carved


PRODUCER = """
    import sys, arenads
    with arenads.open(sys.argv[1]) as arena:
        queue, producer, records = arena.structures["queue"], int(sys.argv[2]), int(sys.argv[3])
        print("ready", flush=True)
        sys.stdin.readline()
        sent = 0
        while sent < records:
            sent += queue.push_many(
                {"producer": producer, "number": n, "rest": [producer ^ n << 8] * 6}
                for n in range(sent, min(sent + 23, records))
            )
    print("done", flush=True)
"""

CONSUMER = """
    import sys, arenads
    with arenads.open(sys.argv[1]) as arena:
        queue = arena.structures["queue"]
        print("ready", flush=True)
        sys.stdin.readline()
        popped, stop = [], False
        while not stop:
            found = queue.pop()
            if found is None:
                continue
            assert list(found.rest) == [found.producer ^ found.number << 8] * 6
            stop = found.producer == 99
            popped.append((found.producer, found.number))
        for producer, number in popped:
            print(producer, number)
    print("done", flush=True)
"""


def test_processes_and_programs_share_one_queue(
    program: arenads.Program, pin: Path, start_python: Any, quick_switches: None
) -> None:
    """Producers: two processes, a program on each CPU. Consumers: two processes, a program."""
    records, queue = 2000, program["queue"]
    program.arena.pin(pin)
    senders = [start_python(PRODUCER, pin, index, records) for index in range(2)]
    takers = [start_python(CONSUMER, pin) for _ in range(2)]
    for child in [*senders, *takers]:
        assert child.stdout.readline() == "ready\n"
    popped: list[Record] = []
    finished = threading.Event()

    def push(producer: int, cpu: int) -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        party, sent = FromProgram(program), 0
        while sent < records:
            sent += party.push(producer, sent, min(50, records - sent))
        party.close()

    def pop() -> None:
        party = FromProgram(program)
        while not finished.is_set():
            popped.extend(party.pop(11))
        party.close()

    threads = [threading.Thread(target=push, args=(2 + n, cpu)) for n, cpu in enumerate(CPUS[:2])]
    taker = threading.Thread(target=pop)
    for child in [*senders, *takers]:
        child.stdin.write("\n")
        child.stdin.flush()
    for thread in [*threads, taker]:
        thread.start()
    for thread in threads:
        thread.join()
    for child in senders:
        assert child.stdout.readline() == "done\n"
    finished.set()  # so that only the processes find the ends
    taker.join()
    for number in range(2):
        queue.push(record(99, number))  # type: ignore[attr-defined]
    consumers = [popped]
    for child in takers:
        lines = []
        while (line := child.stdout.readline()) != "done\n":
            assert line
            lines.append(Record(*map(int, line.split())))
        consumers.append(lines)
    consumers = [[found for found in lines if found.producer != 99] for lines in consumers]
    check_records(consumers, 2 + len(CPUS[:2]), records)
    report = queue.check()  # type: ignore[attr-defined]
    assert (report.live, report.leaked, report.errors) == (0, 0, 0)
