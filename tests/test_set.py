"""Sets: what MutableSet promises, on both engines, from both sides; and bad arguments."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, u32, u64

INSERT, DELETE, CONTAINS, LENGTH, SUM = range(5)
KEYS = st.integers(0, 20)


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def program(engine: str, compiled: Callable[..., Path]) -> Iterator[arenads.Program]:
    with arenads.load(compiled("sets", engine), engine=engine) as program:  # type: ignore[arg-type]
        yield program


def step(
    program: arenads.Program, operation: int, first: int = 0, count: int = 1
) -> tuple[int, int]:
    """Run operations in C: the last result, or the sum, and how many went as they should."""
    context = struct.pack("=QQQqQ", operation, first, count, 0, 0)
    result = program.run("run_set", context)
    assert result.value == 0
    _, _, _, last, done = struct.unpack("=QQQqQ", result.context)
    return last, done


def test_a_set_does_what_a_set_of_pythons_does(engine: str) -> None:
    with arenads.create("16MiB", engine=engine) as arena:  # type: ignore[arg-type]
        names = iter(range(1 << 30))

        class Model(RuleBasedStateMachine):
            def __init__(self) -> None:
                super().__init__()
                self.real = arena.set(f"s{next(names)}", key=u64, max_entries=64)
                self.model: set[int] = set()

            @rule(key=KEYS)
            def add(self, key: int) -> None:
                self.real.add(key)
                self.model.add(key)

            @rule(key=KEYS)
            def insert(self, key: int) -> None:
                assert self.real.insert(key) == (key not in self.model)
                self.model.add(key)

            @rule(key=KEYS)
            def discard(self, key: int) -> None:
                self.real.discard(key)
                self.model.discard(key)

            @rule(key=KEYS)
            def remove(self, key: int) -> None:
                if key in self.model:
                    self.real.remove(key)
                    self.model.remove(key)
                else:
                    with pytest.raises(KeyError):
                        self.real.remove(key)

            @rule()
            def pop(self) -> None:
                if self.model:
                    self.model.remove(self.real.pop())
                else:
                    with pytest.raises(KeyError):
                        self.real.pop()

            @rule(others=st.sets(KEYS))
            def operators(self, others: set[int]) -> None:
                assert self.real & others == self.model & others
                assert self.real | others == self.model | others
                assert self.real - others == self.model - others
                assert self.real ^ others == self.model ^ others
                assert (self.real <= others) == (self.model <= others)

            @rule(others=st.sets(KEYS))
            def update(self, others: set[int]) -> None:
                self.real |= others
                self.model |= others

            @invariant()
            def same(self) -> None:
                assert sorted(self.real) == sorted(self.model)
                assert len(self.real) == len(self.model)
                assert self.real == self.model
                assert all(key in self.real for key in self.model)

        run_state_machine_as_test(Model)  # type: ignore[no-untyped-call]


@given(keys=st.sets(st.binary(min_size=3, max_size=3)))
def test_keys_may_be_bytes(keys: set[bytes]) -> None:
    with arenads.create("1MiB", engine="native", provision=None) as arena:
        names = arena.set("names", key=Bytes[3])
        names.update(keys)
        assert set(names) == keys
        names.clear()
        assert not names


def test_both_sides_see_the_same_set(program: arenads.Program) -> None:
    blocked = program["blocked"]
    assert isinstance(blocked, arenads.Set)
    assert step(program, INSERT, 100, 50) == (0, 50)
    assert step(program, INSERT, 100, 50) == (-17, 0)
    assert set(blocked) == set(range(100, 150))
    blocked.update(range(150, 160))
    assert step(program, CONTAINS, 100, 60) == (1, 60)
    assert step(program, LENGTH)[0] == 60
    assert step(program, SUM) == (sum(range(100, 160)), 60)
    blocked.discard(120)
    assert step(program, CONTAINS, 120)[0] == 0
    assert step(program, DELETE, 100, 60) == (0, 59)
    assert len(blocked) == 0
    assert blocked.check().errors == 0


def test_a_full_set_says_so_and_counts_it(arena: arenads.Arena) -> None:
    few = arena.set("few", key=u32, max_entries=3)
    few |= {1, 2, 3}
    with pytest.raises(arenads.CapacityError, match="max_entries=3"):
        few.add(4)
    few.add(3)
    assert (set(few), few.counters().full) == ({1, 2, 3}, 1)


def test_a_set_grows_while_it_fills(arena: arenads.Arena) -> None:
    many = arena.set("many", key=u64, max_entries=20_000)
    before = many.buckets
    many.update(range(20_000))
    assert many.buckets > before
    assert len(many) == 20_000
    assert many.check().live == 20_000


def test_another_process_opens_a_set_by_name(arena: arenads.Arena) -> None:
    arena.set("s", key=u32).add(5)
    assert set(arena.structures["s"]) == {5}  # type: ignore[call-overload]


@pytest.mark.parametrize("key", ["text", 1 << 64, -1, None, 1.5])
def test_keys_of_another_type_are_refused_and_change_nothing(
    arena: arenads.Arena, key: object
) -> None:
    numbers = arena.set("numbers", key=u64)
    for act in (numbers.add, numbers.discard, numbers.remove):
        with pytest.raises(arenads.SchemaError):
            act(key)
    assert len(numbers) == 0


def test_a_set_through_a_read_only_arena_is_for_reading(arena: arenads.Arena) -> None:
    arena.set("s", key=u32).add(1)
    fd = arena.fileno()
    base = arena.base
    del base
    import os
    import subprocess
    import sys

    code = (
        "import arenads, sys\n"
        "arena = arenads.open(fd=int(sys.argv[1]), readonly=True)\n"
        "s = arena.structures['s']\n"
        "assert 1 in s and list(s) == [1]\n"
        "for act in (lambda: s.add(2), lambda: s.discard(1), lambda: s.pop(), s.clear):\n"
        "    try:\n        act()\n"
        "    except arenads.ReadOnlyError:\n        continue\n"
        "    raise SystemExit('not refused')\n"
    )
    os.set_inheritable(fd, True)
    subprocess.run([sys.executable, "-c", code, str(fd)], check=True, pass_fds=[fd])


@pytest.mark.parametrize("count", [0, -1, (1 << 31) + 1, "many"])
def test_a_capacity_that_is_none_is_refused(arena: arenads.Arena, count: object) -> None:
    with pytest.raises(arenads.SchemaError, match="max_entries"):
        arena.set("s", key=u32, max_entries=count)  # type: ignore[arg-type]
    assert list(arena.structures) == []


def test_a_name_with_another_kind_or_key_is_refused(arena: arenads.Arena) -> None:
    arena.set("s", key=u32)
    with pytest.raises(arenads.NameExistsError, match="exists as a set"):
        arena.hashmap("s", key=u32, value=u32)
    with pytest.raises(arenads.LayoutError):
        arena.set("s", key=u64)
