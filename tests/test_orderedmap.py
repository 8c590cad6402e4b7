"""Ordered maps: what a sorted dict would do, on both engines, from both sides."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, Str, f64, i8, i16, i32, i64, u8, u16, u32, u64

GET, INSERT, REPLACE, UPDATE, DELETE, POP, FIRST, POP_FIRST, LOWER_BOUND, RANGE, LENGTH = range(11)
ABSENT, EXISTS = -2, -17
MASK = (1 << 64) - 1
VERIFIER_LIMIT = 1_000_000
KEYS = st.integers(-40, 40)


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("16MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def program(engine: str, compiled: Callable[..., Path]) -> Iterator[arenads.Program]:
    built = compiled("ordered", engine)
    with arenads.load(built, engine=engine) as program:  # type: ignore[arg-type]
        yield program


def step(
    program: arenads.Program,
    name: str,
    operation: int,
    key: int = 0,
    value: int = 0,
    count: int = 0,
) -> tuple[int, int, int, int]:
    """Run one operation in C: its code, and key, value and count as it left them."""
    context = struct.pack("=QQQQq", operation, key & MASK, value, count, 0)
    result = program.run(f"{'sum' if operation == RANGE else 'on'}_{name}", context)
    assert result.value == 0
    _, key, value, count, code = struct.unpack("=QQQQq", result.context)
    return code, key, value, count


def verified_instructions(program: arenads.Program, name: str) -> int:
    """How many the verifier has looked at: verified_insns of struct bpf_prog_info."""
    from arenads.libbpf.library import library

    ffi, libbpf, *_ = library()
    info, size = ffi.new("char[232]"), ffi.new("uint32_t *", 232)
    fd = program._bpf.programs()[name].fd  # type: ignore[union-attr]
    assert libbpf.bpf_obj_get_info_by_fd(fd, info, size) == 0
    (count,) = struct.unpack_from("<I", ffi.buffer(info), 216)
    return int(count)


# --- as a sorted dict --------------------------------------------------------------------


def test_an_ordered_map_does_what_a_sorted_dict_would(engine: str) -> None:
    with arenads.create("64MiB", engine=engine) as arena:  # type: ignore[arg-type]
        names = iter(range(1 << 30))

        class Model(RuleBasedStateMachine):
            def __init__(self) -> None:
                super().__init__()
                self.real = arena.orderedmap(f"m{next(names)}", key=i32, value=u64, max_entries=128)
                self.model: dict[int, int] = {}

            @rule(key=KEYS, value=st.integers(0, MASK))
            def store(self, key: int, value: int) -> None:
                self.real[key] = value
                self.model[key] = value

            @rule(key=KEYS)
            def insert(self, key: int) -> None:
                if key in self.model:
                    with pytest.raises(arenads.KeyExistsError):
                        self.real.insert(key, 7)
                else:
                    self.real.insert(key, 7)
                    self.model[key] = 7

            @rule(key=KEYS)
            def replace(self, key: int) -> None:
                if key in self.model:
                    self.real.replace(key, 8)
                    self.model[key] = 8
                else:
                    with pytest.raises(KeyError):
                        self.real.replace(key, 8)

            @rule(key=KEYS)
            def pop(self, key: int) -> None:
                assert self.real.pop(key, None) == self.model.pop(key, None)

            @rule()
            def pop_first(self) -> None:
                if self.model:
                    key = min(self.model)
                    assert self.real.first() == (key, self.model[key])
                    assert self.real.pop_first() == (key, self.model.pop(key))
                else:
                    with pytest.raises(KeyError):
                        self.real.pop_first()

            @rule(key=KEYS)
            def lower_bound(self, key: int) -> None:
                keys = sorted(self.model)
                at = bisect_left(keys, key)
                found = self.real.lower_bound(key)
                assert found == ((keys[at], self.model[keys[at]]) if at < len(keys) else None)

            @rule(start=KEYS, stop=KEYS)
            def ranges(self, start: int, stop: int) -> None:
                wanted = [pair for pair in sorted(self.model.items()) if start <= pair[0] < stop]
                assert list(self.real.range(start, stop)) == wanted

            @rule(key=KEYS)
            def count(self, key: int) -> None:
                if key in self.model and self.model[key] < MASK:
                    self.real.add(key, 1)
                    self.model[key] += 1

            @invariant()
            def same(self) -> None:
                assert list(self.real.items()) == sorted(self.model.items())
                assert len(self.real) == len(self.model)

        run_state_machine_as_test(Model)  # type: ignore[no-untyped-call]


INTEGERS = {
    "u8": u8,
    "u16": u16,
    "u32": u32,
    "u64": u64,
    "i8": i8,
    "i16": i16,
    "i32": i32,
    "i64": i64,
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_every_type_are_in_their_order(arena: arenads.Arena, name: str) -> None:
    kind, bits = INTEGERS[name], int(name[1:])
    low, high = (0, 1 << bits) if name[0] == "u" else (-(1 << bits - 1), 1 << bits - 1)
    numbers = arena.orderedmap("numbers", key=kind, value=u32, max_entries=300)
    source = random.Random(1)
    chosen = {
        low,
        low + 1,
        0,
        1,
        high - 2,
        high - 1,
        *(source.randrange(low, high) for _ in range(99)),
    }
    for number in chosen:
        numbers[number] = 1
    assert list(numbers) == sorted(chosen)
    assert numbers.first()[0] == low
    numbers.clear()
    assert not numbers


def test_bytes_are_in_the_order_of_bytes(arena: arenads.Arena) -> None:
    names = arena.orderedmap("names", key=Bytes[11], value=u32)
    source = random.Random(2)
    keys = {source.randbytes(11) for _ in range(200)} | {b"same prefix" for _ in range(1)}
    keys |= {b"same pref" + bytes(pair) for pair in ((1, 2), (2, 1), (0, 255), (255, 0))}
    for key in keys:
        names[key] = len(key)
    assert list(names) == sorted(keys)
    middle = sorted(keys)[100]
    assert names.lower_bound(middle) == (middle, 11)
    assert [key for key, _ in names.range(stop=middle)] == sorted(keys)[:100]


def test_text_is_in_the_order_of_its_bytes(arena: arenads.Arena) -> None:
    words = arena.orderedmap("words", key=Str[24], value=u32)
    for word in ("pear", "apple", "apple juice, unfiltered", "applesauce", "ähre", ""):
        words[word] = len(word)
    assert list(words) == ["", "apple", "apple juice, unfiltered", "applesauce", "pear", "ähre"]


def test_many_keys_have_towers_and_every_entry_is_accounted_for(arena: arenads.Arena) -> None:
    numbers = arena.orderedmap("numbers", key=u64, value=u64, max_entries=20_000)
    keys = random.Random(3).sample(range(1 << 40), 20_000)
    for key in keys:
        numbers[key] = key
    with pytest.raises(arenads.CapacityError):
        numbers[1 << 41] = 1
    for key in keys[::2]:
        del numbers[key]
    report = numbers.check()
    assert (report.live, report.leaked, report.errors) == (10_000, 0, 0)
    assert list(numbers) == sorted(keys[1::2])


# --- both sides -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numbers", "signs"])
def test_programs_do_all_operations(program: arenads.Program, name: str) -> None:
    it = program[name]
    assert isinstance(it, arenads.OrderedMap)
    keys = [5, 1, 9, 3] if name == "numbers" else [5, -7, 9, -3]
    ordered = sorted(keys)
    for key in keys:
        assert step(program, name, INSERT, key, key & 0xFF)[0] == 0
        assert step(program, name, INSERT, key, 1)[0] == EXISTS
    assert dict(it) == {key: key & 0xFF for key in keys}
    assert list(it) == ordered
    assert step(program, name, LENGTH)[2] == 4
    assert step(program, name, GET, 9)[2] == 9
    assert step(program, name, FIRST)[1] == ordered[0] & MASK
    assert step(program, name, LOWER_BOUND, ordered[1] + 1)[1] == ordered[2] & MASK
    assert step(program, name, LOWER_BOUND, 100)[0] == ABSENT
    assert step(program, name, REPLACE, 100)[0] == ABSENT
    assert step(program, name, UPDATE, 9, 90)[0] == 0
    assert it[9] == 90
    code, _, total, count = step(program, name, RANGE, ordered[2], count=10)
    assert (code, total, count) == (ABSENT, 5 + 90, 2)
    assert step(program, name, POP, 5)[2] == 5
    assert step(program, name, DELETE, 5)[0] == ABSENT
    code, key, value, _ = step(program, name, POP_FIRST)
    assert (code, key, value) == (0, ordered[0] & MASK, ordered[0] & 0xFF)
    assert list(it) == [key for key in ordered[1:] if key != 5]


def test_programs_order_byte_strings_as_python_does(program: arenads.Program) -> None:
    names = program["names"]
    words = [b"zebra...", b"aardvark", b"mole\0\0\0\0"]
    for word in words:
        assert step(program, "names", INSERT, int.from_bytes(word, "little"), 1)[0] == 0
    found = []
    while True:
        code, key, _, _ = step(program, "names", POP_FIRST)
        if code:
            break
        found.append(key.to_bytes(8, "little"))
    assert found == sorted(words)
    assert len(names) == 0


def test_a_scan_sees_what_stays_once_while_a_program_changes_the_rest(
    program: arenads.Program,
) -> None:
    numbers = program["numbers"]
    stay = range(0, 40_000, 100)
    for key in stay:
        numbers[key] = key
    failures: list[object] = []
    done = threading.Event()

    def churn() -> None:
        try:
            for turn in range(20):
                context = struct.pack("=QQQQQ", 50_000 if turn % 2 else 1, 98, 40, 0, 0)
                result = program.run("churn", context)
                failures.extend([1] * struct.unpack("=QQQQQ", result.context)[4])
        finally:
            done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    scans = 0
    while not done.is_set() or not scans:
        keys = list(numbers)
        assert keys == sorted(set(keys))
        assert set(stay) <= set(keys)
        scans += 1
    thread.join()
    assert not failures
    report = numbers.check()
    assert (report.leaked, report.errors) == (0, 0)


@pytest.mark.kernel
def test_each_lowest_key_is_popped_by_one_side_only(
    kernel_engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("ordered", "kernel"), engine="kernel") as program:
        numbers = program["numbers"]
        for key in range(20_000):
            numbers[key] = key
        results: list[tuple[int, ...]] = []

        def pop_all() -> None:
            context = program.run("pop_all", bytes(40)).context
            results.append(struct.unpack("=QQQQQ", context))

        thread = threading.Thread(target=pop_all)
        thread.start()
        mine = []
        while True:
            try:
                mine.append(numbers.pop_first()[0])
            except KeyError:
                break
        thread.join()
        theirs, _, _, count, bad = results[0]
        assert bad == 0
        assert mine == sorted(mine)
        assert (sum(mine) + theirs, len(mine) + count) == (sum(range(20_000)), 20_000)
        assert numbers.check().live == 0


def test_one_program_has_room_for_all_operations_of_two_ordered_maps_a_hash_map_and_a_list(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("together", engine), engine=engine) as program:  # type: ignore[arg-type]
        for number in range(200):
            good = program.run("all_of_them", struct.pack("=Q", number)).value
            assert good == 2 * (7 + 4 + 1 + 7) + (7 + 4) + (6 + 6)
        for name in ("numbers", "names", "tasks", "jobs"):
            report = program[name].check()
            assert (report.live, report.leaked, report.errors) == (0, 0, 0)


def test_the_verifier_needs_a_part_of_its_instructions_for_all_of_them(
    kernel_engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("together", kernel_engine), engine="kernel") as program:
        assert 0 < verified_instructions(program, "all_of_them") < VERIFIER_LIMIT // 2


# --- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [f64, arenads.Array[u32, 2], object, None],
    ids=["float", "array", "object", "None"],
)
def test_keys_without_an_order_are_refused(arena: arenads.Arena, key: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.orderedmap("m", key=key, value=u32)
    assert list(arena.structures) == []


@pytest.mark.parametrize("key", ["text", 1 << 31, -(1 << 31) - 1, None, 1.5])
def test_keys_of_another_type_are_refused_and_change_nothing(
    arena: arenads.Arena, key: object
) -> None:
    numbers = arena.orderedmap("m", key=i32, value=u32)
    for act in (numbers.get, numbers.lower_bound, lambda key: numbers.insert(key, 1), numbers.pop):
        with pytest.raises(arenads.SchemaError):
            act(key)
    assert len(numbers) == 0


def test_a_capacity_of_zero_is_refused(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.orderedmap("m", key=i32, value=u32, max_entries=0)


def test_signed_and_unsigned_keys_are_not_the_same(arena: arenads.Arena) -> None:
    arena.orderedmap("m", key=i32, value=u32)
    with pytest.raises(arenads.LayoutError):
        arena.orderedmap("m", key=u32, value=u32)
    with pytest.raises(arenads.NameExistsError, match="ordered map"):
        arena.hashmap("m", key=i32, value=u32)


def test_a_deleted_entry_may_wait_for_a_grace_period(arena: arenads.Arena) -> None:
    held = arena.orderedmap("held", key=u64, value=u64, max_entries=64, reclaim="grace")
    arena.provision(None)
    held.update({key: key for key in range(40)})
    for key in range(20):
        del held[key]
    assert held.check().waiting == 20
    assert held.reclaim() == 20
    assert list(held) == list(range(20, 40))
    assert held.check().errors == 0


# --- reaping ----------------------------------------------------------------------------

# Kills a child at each point of a delete of the last key, and reaps after each: the points that
# a reaping took at most, and whether the key is gone in the end.
REAPING = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("arenads._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
sys.modules["arenads._core"] = core
spec.loader.exec_module(core)
import arenads
with arenads.open(sys.argv[2]) as arena:
    ordered, key = arena.structures["ordered"], int(sys.argv[3])
    most, point, code = 0, 0, -9
    while code == -9:
        point += 1
        victim = os.fork()
        if not victim:
            core.lib.core_set_points(point)
            ordered.pop(key, None)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        core.lib.core_set_points(0)
        arena.reap()
        most = max(most, core.lib.core_points())
        ordered[key] = key
    del ordered[key]
    print(code, point, most, key in ordered)
"""


def test_an_entry_that_is_reaped_is_found_by_the_towers(
    pin: Path,
    points_core: Path,
    python: Callable[..., subprocess.CompletedProcess[str]],
    engine: str,
) -> None:
    count = 5000
    with arenads.create("4MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        ordered = arena.orderedmap("ordered", key=u64, value=u64, max_entries=count)
        for key in range(count):
            ordered[key] = key
        arena.pin(pin)
        code, point, most, left = python(REAPING, points_core, pin, count - 1).stdout.split()
        assert (code, left) == ("0", "False")
        assert int(point) > 20
        # A walk through all entries looks at three words of each at least.
        assert int(most) < count
        report = ordered.check()
        assert (report.live, report.leaked, report.errors) == (count - 1, 0, 0)


# --- towers -----------------------------------------------------------------------------

# The points of a lookup of the last key, before and after every key was replaced.
REPLACING = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("arenads._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
sys.modules["arenads._core"] = core
spec.loader.exec_module(core)
import arenads
with arenads.open(sys.argv[2]) as arena:
    ordered = arena.structures["ordered"]
    keys = list(ordered)
    for turn in range(2):
        core.lib.core_set_points(0)
        assert ordered[keys[-1]] == turn
        print(core.lib.core_points())
        for key in keys:
            ordered.replace(key, turn + 1)
"""


@pytest.mark.parametrize("key", [u64, Bytes[16]], ids=["integers", "bytes"])
def test_replaced_keys_are_found_by_towers_as_before(
    pin: Path,
    points_core: Path,
    python: Callable[..., subprocess.CompletedProcess[str]],
    engine: str,
    key: Any,
) -> None:
    count = 3000
    with arenads.create("4MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        ordered = arena.orderedmap("ordered", key=key, value=u64, max_entries=count)
        for number in range(count):
            ordered[number if key is u64 else number.to_bytes(16, "big")] = 0
        arena.pin(pin)
        before, after = map(int, python(REPLACING, points_core, pin).stdout.split())
    assert before < count // 4
    assert after < count // 4


END_OF_ARENA = """
import ctypes
import arenads
from arenads import u64

with arenads.create("4MiB", engine="native", populate="4MiB", provision=None) as arena:
    made = arena.orderedmap("map", key=u64, value=u64, max_entries=1000)
    made.update_many(range(1000), range(1000))
    newest = ctypes.c_uint64.from_address(arena.base + made.offset + 24)
    # One of two hints, the first of which lies half behind the arena.
    newest.value = 63 << 32 | (arena.size - 68)
    found = [made[key] for key in range(1000)]
    assert found == list(range(1000)), "a hint of damaged memory decides nothing"
"""


@pytest.mark.native
def test_a_table_of_hints_that_is_not_aligned_is_not_read() -> None:
    result = subprocess.run(
        [sys.executable, "-c", END_OF_ARENA], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
