"""Nothing left: memory, max_entries, queues and the loop budget, from either side."""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import arenads
from arenads import u64

STEP = struct.Struct("<6Q")
INSERT, REPLACE, UPDATE, DELETE, GET, LOOKUP_OR_INSERT, PUSH, TAKE, ALLOC, FREE, LEN = range(11)
LOOKUP = LOOKUP_OR_INSERT

OK, NULL = 0, 1
ABSENT, FULL, NO_MEMORY, BUDGET = -errno.ENOENT, -errno.ENOSPC, -errno.ENOMEM, -errno.ELOOP
INVALID = -errno.EINVAL

ENTRIES = 10
SLOTS = 4
ALL = 1 << 20  # more than there is


class Pair(msgspec.Struct):
    first: u64
    second: u64


def pair(key: int) -> Pair:
    return Pair(key, key ^ (1 << 64) - 1)


class Answer(NamedTuple):
    code: int
    done: int
    address: int
    first: int


class Exhaust:
    """The program `exhaust` on one engine, in an arena that only `populate` makes larger."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.arena = program.arena
        self.numbers: Any = program["numbers"]
        self.events: Any = program["events"]
        self.objects: Any = program["objects"]
        self.inbox: Any = program["inbox"]

    def run(self, name: str, operation: int, key: int = 0, count: int = 1) -> Answer:
        result = self.program.run(name, STEP.pack(operation, key, count, 0, 0, 0))
        return Answer(result.value, *STEP.unpack(result.context)[3:])

    def in_arena(self, address: int) -> bool:
        return self.arena.base < address < self.arena.base + self.arena.used and address % 8 == 0


@pytest.fixture
def start(engine: str, compiled: Callable[..., Path]) -> Iterator[Callable[..., Exhaust]]:
    """Load the program in an arena of its own: start(size, populate, *defines)."""
    opened: list[Any] = []

    def start(size: str, populate: str, *defines: str) -> Exhaust:
        arena = arenads.create(size, engine=engine, populate=populate, provision=None)  # type: ignore[arg-type]
        opened.append(arena)
        program = arenads.load(compiled("exhaust", engine, tuple(defines)), arena=arena)
        opened.append(program)
        return Exhaust(program)

    yield start
    while opened:
        opened.pop().close()


@pytest.fixture
def small(start: Callable[..., Exhaust]) -> Exhaust:
    """10 entries a structure, and memory enough."""
    return start("2MiB", "1MiB")


@pytest.fixture
def large(start: Callable[..., Exhaust]) -> Exhaust:
    """More entries than memory: the arena is small, and all of it is populated."""
    return start("256KiB", "256KiB", "ENTRIES=100000")


def last_of(structure: Any) -> int:
    """How many keys from 0 on Python can still put into a structure until memory ends."""
    stored = 0
    with pytest.raises(arenads.ArenaFullError):
        for stored in range(ALL):
            structure[stored] = pair(stored)
    return stored


# --- the arena's memory -------------------------------------------------------------------------


def test_python_is_told_when_memory_ends(large: Exhaust) -> None:
    stored = last_of(large.numbers)
    assert stored > 1000
    assert large.numbers.counters().no_memory == 1
    assert large.arena.statistics().no_memory >= 1
    assert {key: value.first for key, value in large.numbers.items()} == {
        key: key for key in range(stored)
    }


def test_the_error_says_how_much_there_is(large: Exhaust) -> None:
    last_of(large.numbers)
    with pytest.raises(arenads.ArenaFullError, match="262144 bytes are used") as caught:
        large.numbers[ALL] = pair(0)
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.size == 256 << 10
    assert 200 << 10 < caught.value.used <= 256 << 10  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (
            lambda arena: arena.set("big", key=u64, max_entries=1 << 20, initial_entries=1 << 20),
            8 * 4096,
        ),
        (lambda arena: arena.queue("big", value=u64, max_entries=8192), 8 * 8192),
        (lambda arena: arena.queue("big", value=u64, max_entries=4096), 8 * 4096),
        (lambda arena: arena.mpmc("big", value=u64, max_entries=8192), 8 * 8192),
        (lambda arena: arena.ring("big", size="64KiB"), 64 << 10),
        (lambda arena: arena.ring("big", size="32KiB"), 32 << 10),
        (lambda arena: arena.array("big", value=u64, max_entries=10**7), 8 * 4096),
    ],
    ids=["set", "long queue", "queue", "mpmc", "long ring", "ring", "array"],
)
def test_a_structure_that_does_not_fit_is_named_with_what_it_needs(
    engine: Any, make: Callable[[arenads.Arena], object], least: int
) -> None:
    with arenads.create("64KiB", engine=engine) as arena:
        arena.ring("before", size="32KiB")
        with pytest.raises(
            arenads.ArenaFullError, match="no room in the arena for 'big'"
        ) as caught:
            make(arena)
        error = caught.value
        assert error.name == "big"
        assert isinstance(error.needed, int) and error.needed >= least
        assert f"it needs {error.needed} bytes more, and {arena.used} of 65536" in str(error)
        assert list(arena.structures) == ["before"]


def test_populating_too_much_says_how_much_that_was(engine: Any) -> None:
    with arenads.create("64KiB", engine=engine) as arena:
        with pytest.raises(
            arenads.ArenaFullError, match="what was asked: it needs 1048576"
        ) as caught:
            arena.populate("1MiB")
        assert (caught.value.name, caught.value.needed) == (None, 1 << 20)


@pytest.mark.parametrize("operation", [INSERT, UPDATE])
def test_a_program_that_inserts_is_told_when_memory_ends(large: Exhaust, operation: int) -> None:
    filled = large.run("on_numbers", operation, count=ALL)
    assert filled.code == NO_MEMORY
    assert filled.done > 1000
    assert len(large.numbers) == filled.done
    assert large.numbers.counters().no_memory == 1
    assert large.arena.statistics().no_memory >= 1


def test_lookup_or_insert_is_null_when_memory_ends(large: Exhaust) -> None:
    filled = large.run("on_numbers", LOOKUP_OR_INSERT, count=ALL)
    assert filled.code == NULL
    assert len(large.numbers) == filled.done > 1000
    assert large.numbers.counters().no_memory == 1
    assert large.arena.statistics().no_memory >= 1
    again = large.run("on_numbers", LOOKUP_OR_INSERT, key=filled.done - 1)
    assert (again.code, large.numbers.counters().no_memory) == (OK, 1)


@pytest.mark.parametrize("operation", [INSERT, PUSH])
def test_a_list_is_told_when_memory_ends(large: Exhaust, operation: int) -> None:
    # From the highest order down, so that each insert finds its place at the head.
    stored = 0
    rc = OK
    while rc == OK:
        rc = large.run("on_events", operation, key=ALL - stored).code
        stored += rc == OK
    assert rc == NO_MEMORY
    assert len(large.events) == stored > 1000
    assert large.events.counters().no_memory == 1
    with pytest.raises(arenads.ArenaFullError):
        large.events.push(pair(1))
    assert large.events.counters().no_memory == 2


def test_a_pool_is_told_when_memory_ends(large: Exhaust) -> None:
    filled = large.run("on_objects", ALLOC, count=ALL)
    assert filled.code == NULL
    assert len(large.objects) == filled.done > 1000
    assert large.objects.counters().no_memory == 1
    with pytest.raises(arenads.ArenaFullError):
        large.objects.alloc(pair(1))
    assert large.objects.counters().no_memory == 2
    assert large.arena.statistics().no_memory >= 2


def test_blocks_are_told_when_memory_ends(large: Exhaust) -> None:
    before = large.arena.statistics().no_memory
    filled = large.run("on_blocks", ALLOC, key=1000, count=ALL)
    assert filled.code == NULL
    assert 100 < filled.done <= 256
    assert large.arena.statistics().no_memory == before + 1


def test_what_was_there_when_memory_ended_goes_on_working(large: Exhaust) -> None:
    stored = large.run("on_numbers", INSERT, count=ALL).done
    assert large.run("on_numbers", REPLACE, count=stored) == (OK, stored, 0, 0)
    assert large.run("on_numbers", GET, key=stored - 1).first == stored - 1
    assert large.run("on_numbers", DELETE, key=5).code == OK
    assert large.run("on_numbers", INSERT, key=stored).code == OK
    assert large.run("on_numbers", INSERT, key=stored + 1).code == NO_MEMORY
    report = large.numbers.check()
    assert (report.live, report.leaked, report.errors) == (stored, 0, 0)


def test_memory_that_ended_for_one_structure_ended_for_all_and_the_queue_does_not_care(
    large: Exhaust,
) -> None:
    while large.run("on_blocks", ALLOC, key=8, count=ALL).done:
        pass
    assert large.run("on_numbers", INSERT).code in (OK, NO_MEMORY)  # spare entries may be left
    assert large.run("on_numbers", INSERT, key=1, count=ALL).code == NO_MEMORY
    assert large.run("on_inbox", PUSH, count=SLOTS).code == OK


def test_a_structure_that_memory_has_no_room_for_is_not_half_made(large: Exhaust) -> None:
    while large.run("on_blocks", ALLOC, key=8, count=ALL).done:
        pass
    names, used = set(large.arena.structures), large.arena.used
    with pytest.raises(arenads.ArenaFullError):
        large.arena.hashmap("more", key=u64, value=u64)
    assert (set(large.arena.structures), large.arena.used) == (names, used)


@pytest.mark.kernel
def test_a_program_goes_on_after_populate(
    kernel_engine: str, compiled: Callable[..., Path]
) -> None:
    """A BPF program cannot make pages: somebody in user space must."""
    path = compiled("exhaust", kernel_engine, ("ENTRIES=100000",))
    with (
        arenads.create("16MiB", engine="kernel", populate="64KiB", provision=None) as arena,
        arenads.load(path, arena=arena) as program,
    ):
        exhaust = Exhaust(program)
        first = exhaust.run("on_numbers", INSERT, count=ALL)
        assert first.code == NO_MEMORY
        populated = arena.populated
        assert exhaust.run("on_numbers", INSERT, key=first.done).code == NO_MEMORY
        arena.populate("64KiB")
        assert arena.populated >= populated + (60 << 10)
        second = exhaust.run("on_numbers", INSERT, key=first.done, count=ALL)
        assert second.code == NO_MEMORY
        assert second.done > 500
        assert arena.populated < 1 << 20
        stored = first.done + second.done
        assert {key: value.first for key, value in exhaust.numbers.items()} == {
            key: key for key in range(stored)
        }
        assert exhaust.numbers.counters().no_memory == 3
        report = exhaust.numbers.check()
        assert (report.live, report.leaked, report.errors) == (stored, 0, 0)


@pytest.mark.native
def test_a_native_program_makes_its_own_pages(compiled: Callable[..., Path]) -> None:
    path = compiled("exhaust", "native", ("ENTRIES=100000",))
    with (
        arenads.create("4MiB", engine="native", populate="64KiB", provision=None) as arena,
        arenads.load(path, arena=arena) as program,
    ):
        assert Exhaust(program).run("on_numbers", INSERT, count=20_000).code == OK
        assert arena.populated > 1 << 20


# --- max_entries --------------------------------------------------------------------------------


def test_a_program_fills_a_map_to_exactly_max_entries(small: Exhaust) -> None:
    assert small.run("on_numbers", INSERT, count=ALL)[:2] == (FULL, ENTRIES)
    assert len(small.numbers) == ENTRIES
    assert small.numbers.counters().full == 1
    assert small.numbers.counters().no_memory == 0


def test_python_fills_a_map_to_exactly_max_entries(small: Exhaust) -> None:
    for key in range(ENTRIES):
        small.numbers.insert(key, pair(key))
    with pytest.raises(arenads.CapacityError) as caught:
        small.numbers.insert(ENTRIES, pair(0))
    assert (caught.value.max_entries, caught.value.errno) == (ENTRIES, errno.ENOSPC)
    assert small.numbers.counters().full == 1


def test_both_sides_fill_a_map_to_exactly_max_entries_together(small: Exhaust) -> None:
    for key in range(0, ENTRIES, 2):
        small.numbers[key] = pair(key)
        assert small.run("on_numbers", INSERT, key=key + 1).code == OK
    assert small.run("on_numbers", INSERT, key=ENTRIES).code == FULL
    with pytest.raises(arenads.CapacityError):
        small.numbers[ENTRIES] = pair(0)
    assert small.numbers.counters().full == 2
    assert sorted(small.numbers) == list(range(ENTRIES))


def test_lookup_or_insert_in_a_full_map_is_null_but_for_what_is_there(small: Exhaust) -> None:
    assert small.run("on_numbers", LOOKUP_OR_INSERT, count=ALL)[:2] == (NULL, ENTRIES)
    assert small.run("on_numbers", LOOKUP_OR_INSERT, count=ENTRIES)[:2] == (OK, ENTRIES)
    assert small.numbers.counters().full == 1


def test_deleting_makes_room_in_a_full_map_for_either_side(small: Exhaust) -> None:
    small.run("on_numbers", INSERT, count=ALL)
    for key in range(50):
        del small.numbers[key]
        assert small.run("on_numbers", INSERT, key=ENTRIES + key).code == OK
        assert small.run("on_numbers", INSERT, key=ALL).code == FULL
    assert small.run("on_numbers", DELETE, key=50).code == OK
    small.numbers[0] = pair(0)
    with pytest.raises(arenads.CapacityError):
        small.numbers[1] = pair(1)
    assert sorted(small.numbers) == [0, *range(51, 60)]


@pytest.mark.parametrize("operation", [REPLACE, UPDATE])
def test_replacing_in_a_full_map_works_and_stays_at_max_entries(
    small: Exhaust, operation: int
) -> None:
    small.run("on_numbers", INSERT, count=ALL)
    for turn in range(100):
        assert small.run("on_numbers", operation, count=ENTRIES)[:2] == (OK, ENTRIES)
        small.numbers.replace(turn % ENTRIES, pair(turn))
        assert len(small.numbers) == ENTRIES
        assert small.run("on_numbers", INSERT, key=ALL).code == FULL
    report = small.numbers.check()
    assert (report.live, report.leaked, report.errors) == (ENTRIES, 0, 0)


@pytest.mark.parametrize("operation", [INSERT, PUSH])
def test_a_list_holds_exactly_max_entries_and_deleting_makes_room(
    small: Exhaust, operation: int
) -> None:
    assert small.run("on_events", operation, key=100, count=ALL)[:2] == (FULL, ENTRIES)
    with pytest.raises(arenads.CapacityError):
        small.events.push(pair(0))
    assert small.events.counters().full == 2
    small.events.delete(next(small.events.items())[0])
    assert small.run("on_events", PUSH).code == OK
    assert small.run("on_events", PUSH).code == FULL
    orders = [order for order, _ in small.events.items()]
    assert len(orders) == len(small.events) == ENTRIES
    assert small.run("on_events", DELETE, key=orders[3]).code == OK
    small.events.push(pair(0))
    assert len(small.events) == ENTRIES


def test_replacing_in_a_full_list_works_and_stays_at_max_entries(small: Exhaust) -> None:
    small.run("on_events", INSERT, count=ALL)
    for turn in range(50):
        assert small.run("on_events", REPLACE, count=ENTRIES)[:2] == (OK, ENTRIES)
        small.events.replace(turn % ENTRIES, pair(turn))
        assert len(small.events) == ENTRIES
    assert small.run("on_events", INSERT, key=ENTRIES).code == FULL


def test_a_pool_hands_out_exactly_max_entries_and_freeing_makes_room(small: Exhaust) -> None:
    filled = small.run("on_objects", ALLOC, count=ALL)
    assert filled[:2] == (NULL, ENTRIES)
    with pytest.raises(arenads.CapacityError):
        small.objects.alloc(pair(0))
    assert small.objects.counters().full == 2
    small.objects.free(filled.address)
    again = small.run("on_objects", ALLOC, count=ALL)
    assert again[:2] == (NULL, 1)
    assert small.run("on_objects", FREE, key=again.address).code == OK
    assert small.run("on_objects", FREE, key=again.address).code == INVALID
    assert small.objects.alloc(pair(0)) == again.address
    assert small.run("on_objects", LEN).code == len(small.objects) == ENTRIES


# --- queues -------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_counts_and_loses_nothing_that_it_took(small: Exhaust) -> None:
    assert small.run("on_inbox", PUSH, key=100, count=ALL)[:2] == (FULL, SLOTS)
    assert small.run("on_inbox", PUSH, key=200).code == FULL
    with pytest.raises(arenads.CapacityError):
        small.inbox.push(pair(300))
    assert small.inbox.counters().full == 3
    assert [record.first for record in small.inbox.drain()] == [100, 101, 102, 103]
    assert small.inbox.pop() is None


def test_every_record_is_either_taken_or_counted(small: Exhaust) -> None:
    received, refused = [], 0
    for number in range(100):
        code = small.run("on_inbox", PUSH, key=number).code
        assert code in (OK, FULL)
        refused += code == FULL
        if number % 3 == 2:
            received += [record.first for record in small.inbox.drain(2)]
    received += [record.first for record in small.inbox.drain()]
    assert refused > 0
    assert small.inbox.counters().full == refused
    assert len(received) + refused == 100
    assert received == sorted(set(received))


def test_a_program_empties_what_python_filled(small: Exhaust) -> None:
    assert small.inbox.push_many(map(pair, range(10))) == SLOTS
    taken = [small.run("on_inbox", TAKE) for _ in range(SLOTS)]
    assert [(answer.code, answer.first) for answer in taken] == [(OK, n) for n in range(SLOTS)]
    assert small.run("on_inbox", TAKE).code == ABSENT
    assert small.inbox.push_many(map(pair, range(2))) == 2


# --- the loop budget ----------------------------------------------------------------------------


@pytest.fixture
def walked(start: Callable[..., Exhaust]) -> Exhaust:
    """A program that makes 64 steps at most, and a list of 200 entries with even orders."""
    exhaust = start("2MiB", "1MiB", "ENTRIES=400", "ADS_BUDGET_STEPS=64")
    for order in range(400, 0, -2):
        exhaust.events.insert(order, pair(order))
    return exhaust


def test_the_same_program_finds_what_is_near_the_head(walked: Exhaust) -> None:
    assert walked.run("on_events", GET, key=2) == (OK, 1, 0, 2)
    assert walked.run("on_events", GET, key=100) == (OK, 1, 0, 100)
    assert walked.run("on_events", LOOKUP, key=100).code == OK
    assert walked.events.counters().budget == 0


def test_a_spent_budget_is_told_apart_from_an_absent_entry(walked: Exhaust) -> None:
    assert walked.run("on_events", GET, key=99).code == ABSENT
    assert walked.events.counters().budget == 0
    assert walked.run("on_events", GET, key=400).code == BUDGET
    assert walked.run("on_events", GET, key=399).code == BUDGET
    assert walked.events.counters().budget == 2
    assert walked.run("on_events", LOOKUP, key=400).code == NULL
    assert walked.events.counters().budget == 3


def test_exactly_so_many_entries_are_looked_at(walked: Exhaust) -> None:
    codes = [walked.run("on_events", GET, key=order).code for order in range(2, 401, 2)]
    assert codes == [OK] * 64 + [BUDGET] * 136
    assert walked.events.counters().budget == 136


@pytest.mark.parametrize(
    ("operation", "order"), [(INSERT, 399), (UPDATE, 400), (REPLACE, 400), (DELETE, 400)]
)
def test_a_spent_budget_changes_nothing(walked: Exhaust, operation: int, order: int) -> None:
    before = list(walked.events.items())
    assert walked.run("on_events", operation, key=order).code == BUDGET
    assert walked.events.counters().budget == 1
    assert list(walked.events.items()) == before
    report = walked.events.check()
    assert (report.live, report.deleted, report.leaked, report.errors) == (200, 0, 0, 0)


def test_a_program_with_a_spent_budget_goes_on_at_the_head(walked: Exhaust) -> None:
    assert walked.run("on_events", DELETE, key=400).code == BUDGET
    assert walked.run("on_events", DELETE, key=2).code == OK
    assert walked.run("on_events", INSERT, key=1).code == OK
    assert walked.run("on_events", PUSH, key=9)[:1] == (OK,)
    assert [order for order, _ in walked.events.items()] == [0, 1, *range(4, 401, 2)]


def test_python_has_the_budget_of_its_own_build(walked: Exhaust) -> None:
    assert walked.run("on_events", GET, key=400).code == BUDGET
    assert walked.events.get(400).first == 400


# --- where things are ---------------------------------------------------------------------------


def test_nothing_is_handed_out_at_offset_0(small: Exhaust) -> None:
    addresses = [small.run("on_blocks", ALLOC, key=bytes).address for bytes in (1, 8, 63, 64, 5000)]
    addresses += [small.run("on_objects", ALLOC).address for _ in range(ENTRIES)]
    for key in range(ENTRIES):
        addresses.append(small.run("on_numbers", LOOKUP_OR_INSERT, key=key).address)
        assert small.run("on_events", INSERT, key=key).code == OK
        addresses.append(small.run("on_events", LOOKUP, key=key).address)
    assert all(map(small.in_arena, addresses))
    assert len(set(addresses)) == len(addresses)


def test_the_first_thing_in_a_fresh_arena_is_not_at_offset_0(engine: str) -> None:
    with arenads.create("1MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        pool = arena.pool("pool", value=u64)
        address = pool.alloc(1)
        assert arena.base < pool.offset + arena.base < address < arena.base + arena.used
        assert address % 8 == 0


def test_a_program_and_python_hand_out_objects_of_one_pool_and_never_the_same(
    small: Exhaust,
) -> None:
    addresses = []
    for number in range(ENTRIES // 2):
        addresses.append(small.objects.alloc(pair(number)))
        addresses.append(small.run("on_objects", ALLOC).address)
    assert len(set(addresses)) == ENTRIES
    assert all(map(small.in_arena, addresses))
    assert small.objects[addresses[2]].first == 1
    assert small.objects[addresses[2]].second == pair(1).second


def test_blocks_do_not_overlap_and_lie_on_cache_lines(small: Exhaust) -> None:
    addresses = [small.run("on_blocks", ALLOC, key=100).address for _ in range(20)]
    assert all(address % 64 == 0 for address in addresses)
    assert all(later - sooner >= 100 for sooner, later in itertools.pairwise(addresses))


@pytest.mark.parametrize("size", [0, (1 << 32) + 1, 1 << 63])
def test_a_block_of_no_possible_size_is_null(small: Exhaust, size: int) -> None:
    assert small.run("on_blocks", ALLOC, key=size) == (NULL, 0, 0, 0)
