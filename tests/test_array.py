"""Arrays: against a list, at their limits, from both sides at once."""

from __future__ import annotations

import errno
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
from arenads import Bytes, u32, u64
from arenads._core import ffi, lib

STEP = struct.Struct("<8Q")
LOOKUP, GET, SET, ADD, EXCHANGE, COMPARE_EXCHANGE = range(6)
OK, NULL = 0, 1
ABSENT, NO_MEMORY = -errno.ENOENT, -errno.ENOMEM
ENTRIES = 5000
CHUNK = 2048  # elements of 8 bytes
CHUNK_BYTES = 16 * 1024 + 64
MASK = (1 << 64) - 1
GETPPID = 110  # x86-64


class Pair(msgspec.Struct):
    first: u64
    second: u64


class Answer(NamedTuple):
    code: int
    done: int
    found: int


class Arrays:
    """The program `array` on one engine."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.arena = program.arena
        self.counts: Any = program["counts"]
        self.pairs: Any = program["pairs"]
        self.wides: Any = program["wides"]
        self.odds: Any = program["odds"]
        self.numbers: Any = program["numbers"]

    def run(
        self,
        operation: int,
        index: int,
        value: int = 0,
        *,
        name: str = "on_counts",
        count: int = 1,
        stride: int = 1,
        expected: int = 0,
    ) -> Answer:
        step = STEP.pack(operation, index, count, stride, value, expected, 0, 0)
        result = self.program.run(name, step)
        return Answer(result.value, *STEP.unpack(result.context)[6:])


@pytest.fixture
def start(engine: str, compiled: Callable[..., Path]) -> Iterator[Callable[..., Arrays]]:
    """Load the program in an arena of its own: start(size, populate, *defines)."""
    opened: list[Any] = []

    def start(size: str = "4MiB", populate: str = "4MiB", *defines: str) -> Arrays:
        arena = arenads.create(size, engine=engine, populate=populate, provision=None)  # type: ignore[arg-type]
        opened.append(arena)
        program = arenads.load(compiled("array", engine, tuple(defines)), arena=arena)
        opened.append(program)
        return Arrays(program)

    yield start
    while opened:
        opened.pop().close()


@pytest.fixture
def arrays(start: Callable[..., Arrays]) -> Arrays:
    return start()


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        yield arena


# --- against a list -----------------------------------------------------------------------------


class AgainstList(RuleBasedStateMachine):
    """Elements are changed from Python and from C, and both sides see the same list."""

    engine: str
    path: Path

    def __init__(self) -> None:
        super().__init__()
        arena = arenads.create("1MiB", engine=self.engine, populate="1MiB", provision=None)  # type: ignore[arg-type]
        self.arrays = Arrays(arenads.load(self.path, arena=arena))
        self.counts = self.arrays.counts
        self.model = [0] * ENTRIES
        self.wides: list[tuple[int, str]] = [(0, "")] * 10
        self.touched: set[int] = set()

    def teardown(self) -> None:
        self.arrays.program.close()
        self.arrays.arena.close()

    # The ends of chunks, where neighbours are in another one.
    indexes = st.sampled_from([0, 1, 2047, 2048, 2049, 4095, 4096, 4998, 4999]) | st.integers(
        -ENTRIES, ENTRIES - 1
    )
    places = indexes.map(lambda index: index % ENTRIES)
    values = st.integers(0, MASK)
    bounds = st.none() | st.integers(-6000, 6000)

    def touch(self, place: int) -> None:
        self.touched.add(place // CHUNK)

    @rule(index=indexes, value=values)
    def set(self, index: int, value: int) -> None:
        self.counts[index] = value
        self.model[index] = value
        self.touch(index % ENTRIES)

    @rule(place=places, value=values)
    def set_in_c(self, place: int, value: int) -> None:
        assert self.arrays.run(SET, place, value).code == OK
        self.model[place] = value
        self.touch(place)

    @rule(index=indexes)
    def get(self, index: int) -> None:
        assert self.counts[index] == self.counts.load(index) == self.model[index]

    @rule(place=places)
    def get_in_c(self, place: int) -> None:
        assert self.arrays.run(GET, place).found == self.model[place]

    @rule(place=places)
    def lookup_in_c(self, place: int) -> None:
        assert self.arrays.run(LOOKUP, place) == (OK, 1, self.model[place])
        self.touch(place)

    @rule(index=indexes, amount=st.integers(-MASK, MASK))
    def add(self, index: int, amount: int) -> None:
        assert self.counts.add(index, amount) == self.model[index]
        self.model[index] = self.model[index] + amount & MASK
        self.touch(index % ENTRIES)

    @rule(place=places, amount=values)
    def add_in_c(self, place: int, amount: int) -> None:
        assert self.arrays.run(ADD, place, amount).found == self.model[place]
        self.model[place] = self.model[place] + amount & MASK
        self.touch(place)

    @rule(place=places, value=values, in_c=st.booleans())
    def exchange(self, place: int, value: int, in_c: bool) -> None:
        if in_c:
            assert self.arrays.run(EXCHANGE, place, value).found == self.model[place]
        else:
            assert self.counts.exchange(place, value) == self.model[place]
        self.model[place] = value
        self.touch(place)

    @rule(place=places, value=values, right=st.booleans(), in_c=st.booleans())
    def cas(self, place: int, value: int, right: bool, in_c: bool) -> None:
        expected = self.model[place] ^ (not right)
        if in_c:
            answer = self.arrays.run(COMPARE_EXCHANGE, place, value, expected=expected)
            assert answer.found == self.model[place]
        else:
            assert self.counts.cas(place, expected, value) == right
        if right:
            self.model[place] = value
        self.touch(place)

    @rule(start=bounds, stop=bounds, step=bounds.filter(lambda step: step != 0))
    def get_a_slice(self, start: int | None, stop: int | None, step: int | None) -> None:
        assert self.counts[start:stop:step] == self.model[start:stop:step]

    @rule(start=places, stride=st.integers(-9, 9).filter(bool), values=st.lists(values, max_size=9))
    def set_a_slice(self, start: int, stride: int, values: list[int]) -> None:
        places = [place for n in range(9) if 0 <= (place := start + n * stride) < ENTRIES]
        places = places[: len(values)]
        if not places:
            return
        stop: int | None = places[-1] + stride
        chosen = slice(start, stop if stop is None or stop >= 0 else None, stride)
        places = list(range(ENTRIES)[chosen])[: len(values)]
        if len(range(ENTRIES)[chosen]) != len(values):
            with pytest.raises(arenads.SchemaError, match="values for a slice"):
                self.counts[chosen] = values
            return
        self.counts[chosen] = values
        self.model[chosen] = values
        for place in places:
            self.touch(place)

    @rule(index=st.integers(-10, 9), number=values, text=st.text("ab", max_size=9), times=places)
    def set_a_wide_one(self, index: int, number: int, text: str, times: int) -> None:
        text = (text * times)[:2992]
        self.arrays.wides[index] = {"number": number, "text": text}
        self.wides[index] = (number, text)

    @rule(place=st.integers(0, 9), number=values)
    def change_a_field_in_c(self, place: int, number: int) -> None:
        before = self.arrays.run(0, place, number, name="on_wides").found
        assert before == self.wides[place][0]
        self.wides[place] = (number, self.wides[place][1])

    @rule(place=st.integers(0, 9), amount=st.integers(-9, 9))
    def add_to_a_field(self, place: int, amount: int) -> None:
        number, text = self.wides[place]
        assert self.arrays.wides.add(place, amount, "number") == number
        self.wides[place] = (number + amount & MASK, text)

    @invariant()
    def only_what_was_touched_has_memory(self) -> None:
        sizes = [min(CHUNK, ENTRIES - chunk * CHUNK) for chunk in self.touched]
        assert self.counts.populated == sum(sizes)

    @invariant()
    def same(self) -> None:
        assert list(self.counts) == self.model
        assert [(wide.number, wide.text) for wide in self.arrays.wides] == self.wides


def test_it_behaves_like_a_list_of_fixed_length(engine: str, compiled: Callable[..., Path]) -> None:
    machine = type(
        "AgainstList", (AgainstList,), {"engine": engine, "path": compiled("array", engine)}
    )
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=30))


def test_it_has_what_a_sequence_has(arena: arenads.Arena) -> None:
    numbers = arena.array("numbers", value=u32, max_entries=6)
    numbers[:] = [3, 1, 4, 1, 5, 9]
    assert len(numbers) == numbers.max_entries == 6
    assert list(numbers) == [3, 1, 4, 1, 5, 9]
    assert list(reversed(numbers)) == [9, 5, 1, 4, 1, 3]
    assert numbers[-1] == 9
    assert numbers[1:-1] == [1, 4, 1, 5]
    assert numbers[::-2] == [9, 1, 1]
    assert numbers[4:2] == []
    assert 4 in numbers and 7 not in numbers
    assert numbers.index(1) == 1
    assert numbers.count(1) == 2
    numbers[::2] = (0, 0, 0)
    assert list(numbers) == [0, 1, 0, 1, 0, 9]


@pytest.mark.parametrize("size", [1, 3, 8, 13, 64, 4096, 5001, 8192, 20000, 65536])
def test_elements_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    blobs = arena.array("blobs", value=Bytes[size], max_entries=20)
    patterns = [bytes([number + 1]) * size for number in range(20)]
    for number in (7, *range(20)):
        blobs[number] = patterns[number]
    assert list(blobs) == patterns
    blobs[8] = bytes(size)
    assert (blobs[7], blobs[8], blobs[9]) == (patterns[7], bytes(size), patterns[9])
    assert blobs.check().errors == 0


def test_bytes_beyond_a_word_are_the_same_on_both_sides(arrays: Arrays) -> None:
    arrays.odds[999] = {"text": "twelve bytes\x05"}
    assert arrays.run(0, 999, name="on_odds") == (OK, 0, 5)
    assert arrays.run(0, 999, name="on_odds").found == 6
    assert arrays.odds[999].text == "twelve bytes\x07"
    assert arrays.run(0, 1000, name="on_odds").code == ABSENT


def test_a_record_of_two_words_is_the_same_on_both_sides(arrays: Arrays) -> None:
    arrays.pairs[3] = Pair(5, 6)
    assert arrays.run(GET, 3, name="on_pairs") == (OK, 6, 5)
    assert arrays.run(SET, 4, 9, name="on_pairs").code == OK
    assert (arrays.pairs[4].first, arrays.pairs[4].second) == (9, MASK - 9)
    assert arrays.run(GET, ENTRIES - 1, name="on_pairs") == (OK, 0, 0)
    assert arrays.run(GET, ENTRIES, name="on_pairs").code == ABSENT


# --- memory -------------------------------------------------------------------------------------


def test_reading_what_nobody_has_touched_gives_zeros_and_takes_no_memory(arrays: Arrays) -> None:
    used = arrays.arena.used
    assert set(arrays.counts) == {0}
    assert arrays.counts[17] == arrays.counts.load(17) == 0
    assert arrays.counts[4990:] == [0] * 10
    assert arrays.wides[3].text == ""
    assert arrays.run(GET, 0, count=ENTRIES) == (OK, ENTRIES, 0)
    assert arrays.arena.used == used
    assert arrays.counts.populated == 0


def test_the_first_touch_makes_a_chunk_and_the_next_ones_nothing(arrays: Arrays) -> None:
    used = arrays.arena.used
    assert arrays.run(LOOKUP, 2048).code == OK
    assert arrays.arena.used == used + CHUNK_BYTES
    assert arrays.counts.populated == CHUNK
    arrays.counts[4095] = 1
    assert arrays.run(ADD, 2048, 7, count=CHUNK) == (OK, CHUNK, 1)
    assert arrays.arena.used == used + CHUNK_BYTES
    arrays.counts[-1] = 1
    assert arrays.counts.populated == CHUNK + ENTRIES - 2 * CHUNK


def test_a_million_elements_take_memory_as_they_are_touched(engine: str) -> None:
    with arenads.create("128MiB", engine=engine, populate="1MiB", provision=None) as arena:  # type: ignore[arg-type]
        arena.array("other", value=u64, max_entries=1)  # the directory is made
        before = arena.used
        blobs = arena.array("blobs", value=Bytes[64], max_entries=1_000_000)
        made = arena.used
        assert made - before < 64 << 10
        populated = arena.populated
        blobs[500_000:510_000] = [b"x" * 64] * 10_000
        one_percent = 1_000_000 * 64 // 100
        assert one_percent <= arena.used - made <= 1.06 * one_percent
        assert arena.populated - populated <= 1.06 * one_percent + (256 << 10)
        assert 10_000 <= blobs.populated <= 10_000 + 2 * 256
        assert blobs[499_999:500_001] == [bytes(64), b"x" * 64]


def test_lookup_is_null_when_memory_ends(start: Callable[..., Arrays]) -> None:
    arrays = start("256KiB", "256KiB", "ENTRIES=1000000")
    failures = arrays.arena.statistics().no_memory
    touched = arrays.run(LOOKUP, 0, count=1000, stride=CHUNK)
    assert touched.code == NULL
    assert 3 < touched.done < 16
    assert arrays.counts.populated == touched.done * CHUNK
    assert arrays.counts.counters().no_memory == 1
    assert arrays.arena.statistics().no_memory == failures + 1
    missing = touched.done * CHUNK
    assert arrays.run(SET, missing, 5).code == NO_MEMORY
    assert arrays.run(GET, missing) == (OK, 1, 0)
    assert arrays.counts.counters().no_memory == 2
    # What has memory goes on, on either side.
    assert arrays.run(ADD, missing - 1, 5).code == OK
    assert arrays.counts[missing - 1] == 5
    assert arrays.counts.check().errors == 0


@pytest.mark.kernel
def test_lookup_works_again_as_soon_as_there_is_memory(
    kernel_engine: str, compiled: Callable[..., Path]
) -> None:
    """BPF cannot populate; a program of the native engine does, as all of user space."""
    with (
        arenads.create("2MiB", engine="kernel", populate="256KiB", provision=None) as arena,
        arenads.load(compiled("array", "kernel", ("ENTRIES=1000000",)), arena=arena) as program,
    ):
        arrays = Arrays(program)
        touched = arrays.run(LOOKUP, 0, count=1000, stride=CHUNK)
        missing = touched.done * CHUNK
        assert touched.code == NULL
        assert arrays.run(SET, missing, 5).code == NO_MEMORY
        arena.populate("64KiB")
        assert arrays.run(SET, missing, 5).code == OK
        assert arrays.counts[missing] == 5
        assert arrays.run(LOOKUP, 0, count=touched.done + 1, stride=CHUNK).code == OK
        assert arrays.counts.counters().no_memory == 2
        assert arrays.counts.check().errors == 0


def test_python_is_told_when_memory_ends(engine: str) -> None:
    with arenads.create("256KiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.array("numbers", value=u64, max_entries=100_000)
        with pytest.raises(arenads.ArenaFullError, match="no memory for array 'numbers'"):
            numbers[:] = range(100_000)
        stored = numbers.populated
        assert 5 * CHUNK < stored < 16 * CHUNK
        assert list(numbers) == [*range(stored), *[0] * (100_000 - stored)]
        for operation in (
            lambda: numbers.add(-1, 1),
            lambda: numbers.store(-1, 1),
            lambda: numbers.__setitem__(-1, 1),
        ):
            with pytest.raises(arenads.ArenaFullError):
                operation()
        numbers[0] = 7
        assert (numbers[0], numbers[-1], numbers.load(-1)) == (7, 0, 0)
        assert numbers.counters().no_memory == 4
        assert numbers.check().errors == 0


def test_an_array_whose_chunk_words_have_no_room_is_refused(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.ArenaFullError):
        arena.array("huge", value=u64, max_entries=1 << 31)
    assert "huge" not in arena.structures


def test_more_elements_than_the_arena_can_hold_may_be_declared(arena: arenads.Arena) -> None:
    sparse = arena.array("sparse", value=u64, max_entries=1 << 28)
    sparse[-1] = 1
    sparse[1 << 27] = 2
    assert sparse[(1 << 27) - 1 : (1 << 27) + 1] == [0, 2]
    assert sparse.populated == 2 * CHUNK


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [10, -11, 1 << 31, 1 << 32, -(1 << 32), 1 << 64])
def test_an_index_out_of_range_is_an_index_error(arena: arenads.Arena, index: int) -> None:
    numbers = arena.array("numbers", value=u64, max_entries=10)
    for operation in (
        lambda: numbers[index],
        lambda: numbers.__setitem__(index, 1),
        lambda: numbers.add(index, 1),
        lambda: numbers.load(index),
        lambda: numbers.store(index, 1),
        lambda: numbers.exchange(index, 1),
        lambda: numbers.cas(index, 0, 1),
    ):
        with pytest.raises(arenads.RangeError, match="has 10 elements") as caught:
            operation()
        assert isinstance(caught.value, IndexError)
        assert (caught.value.index, caught.value.max_entries) == (index, 10)
    assert numbers.populated == 0


@pytest.mark.parametrize("index", [ENTRIES, ENTRIES + 1, 1 << 31, (1 << 32) - 1])
def test_a_program_s_index_out_of_range_is_refused(arrays: Arrays, index: int) -> None:
    used = arrays.arena.used
    assert arrays.run(LOOKUP, index).code == NULL
    assert arrays.run(GET, index).code == ABSENT
    assert arrays.run(SET, index, 1).code == ABSENT
    assert arrays.arena.used == used
    assert arrays.counts.counters() == arenads.Counters(0, 0, 0, 0, 0)


@pytest.mark.parametrize("index", ["0", None, 1.0, b"0", (0,)])
def test_what_is_no_index_is_refused(arena: arenads.Arena, index: Any) -> None:
    numbers = arena.array("numbers", value=u64, max_entries=10)
    with pytest.raises(arenads.SchemaError, match="expected an index or a slice"):
        numbers[index]
    with pytest.raises(arenads.SchemaError):
        numbers[index] = 1
    with pytest.raises(arenads.SchemaError):
        numbers.add(index, 1)


@pytest.mark.parametrize("value", [-1, 1 << 64, None, "1", 1.5])
def test_a_value_that_does_not_fit_changes_nothing(arena: arenads.Arena, value: Any) -> None:
    numbers = arena.array("numbers", value=u64, max_entries=10)
    with pytest.raises(arenads.SchemaError):
        numbers[3] = value
    with pytest.raises(arenads.SchemaError):
        numbers[2:4] = [1, value]
    with pytest.raises(arenads.SchemaError):
        numbers.store(3, value)
    assert list(numbers) == [0] * 10
    assert numbers.populated == 0


@pytest.mark.parametrize("values", [[], [1], [1, 2, 3]])
def test_a_slice_cannot_change_the_length(arena: arenads.Arena, values: list[int]) -> None:
    numbers = arena.array("numbers", value=u64, max_entries=10)
    with pytest.raises(arenads.SchemaError, match="expected 2 values"):
        numbers[3:5] = values
    assert list(numbers) == [0] * 10


@pytest.mark.parametrize("entries", [0, -1, (1 << 31) + 1, 1.5, None, "10"])
def test_an_impossible_number_of_elements_is_refused(arena: arenads.Arena, entries: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.array("numbers", value=u64, max_entries=entries)
    assert "numbers" not in arena.structures


@pytest.mark.parametrize("value", [None, int, Bytes[65537]])
def test_a_type_that_no_element_can_have_is_refused(arena: arenads.Arena, value: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.array("numbers", value=value, max_entries=10)


def test_only_an_aligned_integer_is_changed_in_place(arena: arenads.Arena) -> None:
    numbers = arena.array("numbers", value=u32, max_entries=10)
    with pytest.raises(arenads.SchemaError, match="aligned 64-bit integer"):
        numbers.add(0, 1)


def test_the_same_array_is_opened_again(arena: arenads.Arena) -> None:
    arena.array("numbers", value=Pair, max_entries=10)[4] = Pair(1, 2)
    assert arena.array("numbers", value=Pair, max_entries=10)[4] == Pair(1, 2)
    by_name: Any = arena.structures["numbers"]
    assert isinstance(by_name, arenads.ArrayMap)
    assert (by_name[4].first, len(by_name)) == (1, 10)
    assert repr(by_name) == "<ArrayMap 'numbers', 10 elements, 10 populated>"


def test_an_array_of_another_length_is_another_one(arena: arenads.Arena) -> None:
    arena.array("numbers", value=u64, max_entries=10)
    with pytest.raises(arenads.NameExistsError, match="an array of 10 entries, expected 11"):
        arena.array("numbers", value=u64, max_entries=11)
    with pytest.raises(arenads.LayoutError):
        arena.array("numbers", value=u32, max_entries=10)
    with pytest.raises(arenads.NameExistsError, match="exists as an array; expected a list"):
        arena.list("numbers", value=u64)


def test_a_program_with_another_length_is_refused_before_anything_is_made(
    arena: arenads.Arena, engine: str, compiled: Callable[..., Path]
) -> None:
    arena.array("odds", value=arenads.Array[arenads.char, 13], max_entries=1)
    with pytest.raises(arenads.ArenadsError):
        arenads.load(compiled("array", engine), arena=arena)
    assert list(arena.structures) == ["odds"]


def test_a_read_only_opener_reads_and_changes_nothing(arrays: Arrays, in_fork: Any) -> None:
    arrays.counts[5] = 6

    def child() -> None:
        fd = os.dup(arrays.arena.fileno())
        arrays.arena.close()
        with arenads.open(fd=fd, readonly=True) as arena:
            counts: Any = arena.structures["counts"]
            assert (counts[5], counts[4999], counts.load(5)) == (6, 0, 6)
            assert sum(counts) == 6
            assert counts.populated == CHUNK
            assert counts.check().errors == 0
            for operation in (
                lambda: counts.__setitem__(5, 1),
                lambda: counts.__setitem__(4999, 1),
                lambda: counts.__setitem__(slice(0, 2), [1, 1]),
                lambda: counts.add(5, 1),
                lambda: counts.store(4999, 1),
                lambda: counts.exchange(5, 1),
                lambda: counts.cas(5, 6, 1),
                lambda: counts.check(repair=True),
            ):
                with pytest.raises(arenads.ReadOnlyError):
                    operation()

    in_fork(child)
    assert arrays.counts[5] == 6


def test_a_closed_arena_is_an_error_of_its_own(engine: str) -> None:
    arena = arenads.create("1MiB", engine=engine)  # type: ignore[arg-type]
    numbers = arena.array("numbers", value=u64, max_entries=10)
    elements = iter(numbers)
    next(elements)
    arena.close()
    for operation in (
        lambda: numbers[0],
        lambda: numbers.__setitem__(0, 1),
        lambda: numbers.add(0, 1),
        lambda: list(numbers),
        lambda: numbers.populated,
        lambda: numbers.check(),
    ):
        with pytest.raises(arenads.ClosedError):
            operation()
    assert repr(numbers) == "<ArrayMap 'numbers', arena closed>"


# --- check --------------------------------------------------------------------------------------


def word_of(array: Any, chunk: int) -> int:
    """Where the word of a chunk is."""
    return int(array.offset) + 128 + 8 * chunk


def put(arena: arenads.Arena, offset: int, word: int) -> None:
    assert lib.core_write(arena._core, offset, ffi.new("__u64 *", word), 8) == 0


def test_check_counts_what_has_memory(arrays: Arrays) -> None:
    assert arrays.counts.check().live == 0
    arrays.counts[0] = arrays.counts[4999] = 1
    report = arrays.counts.check()
    assert (report.live, report.errors) == (CHUNK + ENTRIES - 2 * CHUNK, 0)


@pytest.mark.parametrize("word", [64, 65, 1 << 40, MASK, "the other chunk's", "0"])
def test_check_finds_a_chunk_word_that_leads_elsewhere(arrays: Arrays, word: int | str) -> None:
    arrays.counts[0] = arrays.counts[2048] = 1
    if word == "the other chunk's":
        memory = ffi.new("__u64 *")
        assert lib.core_read(arrays.arena._core, word_of(arrays.counts, 1), memory, 8) == 0
        word = int(memory[0])
    elif word == "0":
        word = 0
    put(arrays.arena, word_of(arrays.counts, 0), int(word))
    report = arrays.counts.check()
    assert report.errors >= 1
    assert arrays.numbers.check().errors == 0


@pytest.mark.parametrize("word", [65, 0xFFFFFFC0])
def test_a_chunk_word_that_leads_nowhere_is_damage(arrays: Arrays, word: int) -> None:
    arrays.counts[0] = 1
    put(arrays.arena, word_of(arrays.counts, 0), word)
    for operation in (lambda: arrays.counts[0], lambda: arrays.counts.add(0, 1)):
        with pytest.raises(arenads.DamagedError, match="array 'counts' is damaged"):
            operation()
    assert arrays.counts.counters().damaged == 2


def test_the_command_line_checks_arrays_too(arrays: Arrays, pin: Path, python: Any) -> None:
    arrays.counts[0] = 1
    arrays.arena.pin(pin)
    script = "import sys; from arenads import cli; sys.exit(cli.main(['check', sys.argv[1]]))"
    rows = [line.split() for line in python(script, pin).stdout.splitlines()]
    assert ["counts", "array", "2,048", "5,000", *["0"] * 7] in rows
    put(arrays.arena, word_of(arrays.counts, 1), 64)
    assert python(script, pin, check=False).returncode == 1


# --- both sides at once -------------------------------------------------------------------------


class Background:
    """Runs a program in a thread until the context ends."""

    def __init__(self, arrays: Arrays, *step: int) -> None:
        self.runner: Any = arrays.program.runner("on_counts", STEP.size)
        self.step = STEP.pack(*step, *[0] * (8 - len(step)))
        self.done = self.runs = 0
        self.codes: set[int] = set()
        self.started, self.stop = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        while not self.runs or not self.stop.is_set():
            self.codes.add(self.runner(self.step))
            self.done += STEP.unpack(self.runner.context)[6]
            self.runs += 1
            self.started.set()

    def __enter__(self) -> Background:
        self.thread.start()
        assert self.started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def test_additions_of_both_sides_lose_nothing(arrays: Arrays) -> None:
    added = 0
    with Background(arrays, ADD, 0, ENTRIES, 1, 3) as program:
        for number in range(20_000):
            arrays.counts.add(number * 7 % ENTRIES, 1)
            added += 1
    assert program.codes == {0}
    assert program.done == program.runs * ENTRIES
    assert sum(arrays.counts) == added + 3 * program.done


def test_a_field_is_counted_by_processes_a_program_and_threads_at_once(
    arrays: Arrays, in_fork: Any
) -> None:
    def add() -> None:
        for number in range(5_000):
            arrays.counts.add(number % 3 * CHUNK, 1)

    threads = [threading.Thread(target=add) for _ in range(2)]
    with Background(arrays, ADD, 0, 3, CHUNK, 1) as program:
        for thread in threads:
            thread.start()
        in_fork(add)
        for thread in threads:
            thread.join()
    assert sum(arrays.counts) == program.done + 3 * 5_000


def test_chunks_that_everyone_touches_first_are_made_once(start: Callable[..., Arrays]) -> None:
    """Two threads run the program, Python touches too, and a hash map takes memory in between."""
    arrays = start("16MiB", "16MiB", "ENTRIES=1000000")
    used = arrays.arena.used
    chunks = -(-1_000_000 // CHUNK)
    answers: list[Answer] = []

    def touch() -> None:
        answers.append(arrays.run(ADD, 0, 1, count=chunks, stride=CHUNK))

    def insert() -> None:
        answers.append(arrays.run(0, 0, name="on_numbers", count=2_000))

    threads = [threading.Thread(target=target) for target in (touch, touch, insert)]
    for thread in threads:
        thread.start()
    for number in range(chunks):
        arrays.counts.add(number * CHUNK, 1)
    for thread in threads:
        thread.join()
    assert {answer.code for answer in answers} == {0}
    assert arrays.counts[::CHUNK] == [3] * chunks
    assert sum(arrays.counts) == 3 * chunks
    assert arrays.counts.populated == 1_000_000
    assert arrays.arena.used - used >= chunks * CHUNK_BYTES
    assert arrays.counts.check().errors == arrays.numbers.check().errors == 0
    assert len(arrays.numbers) == 2_000


def test_an_8_byte_element_is_never_of_two_writers(arrays: Arrays) -> None:
    low, high = 0, MASK
    with Background(arrays, SET, 0, 1000, 0, high) as program:
        for _ in range(20_000):
            assert arrays.counts[0] in (low, high)
            arrays.counts[0] = low
    assert program.codes == {0}


@pytest.mark.kernel
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")
def test_a_program_that_may_not_sleep_is_the_first_to_touch(
    kernel_engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("array", "kernel"), engine="kernel") as program:
        counts: Any = program["counts"]
        assert counts.populated == 0
        links = program.attach("on_call")
        for _ in range(1234):
            os.getppid()
        for link in links:
            link.close()
        assert counts[os.getpid() % ENTRIES] >= 1234
        assert counts.populated > 0
        assert counts.check().errors == 0
