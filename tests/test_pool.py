"""Pools of objects: against a dict of addresses, and linked by pointers that both sides follow."""

from __future__ import annotations

import ctypes
import itertools
import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import arenads
from arenads import Bytes, Ptr, u32, u64

STEP = struct.Struct("<IIQQ")
MASK = (1 << 64) - 1


class Node(msgspec.Struct):
    value: u64
    next: Ptr[None]


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def pool(arena: arenads.Arena) -> Any:
    return arena.pool("nodes", value=Node, max_entries=100)


class AgainstDict(RuleBasedStateMachine):
    engine: Any = "native"
    capacity = 9

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("256KiB", engine=self.engine, populate="64KiB", provision=None)
        self.pool = self.arena.pool("pool", value=u64, max_entries=self.capacity)
        self.model: dict[int, int] = {}
        self.freed: list[int] = []

    def teardown(self) -> None:
        self.arena.close()

    values = st.integers(0, MASK)

    @rule(value=values)
    def alloc(self, value: int) -> None:
        if len(self.model) == self.capacity:
            with pytest.raises(arenads.CapacityError):
                self.pool.alloc(value)
            return
        address = self.pool.alloc(value)
        assert address not in self.model
        assert self.arena.base < address < self.arena.base + self.arena.size
        self.model[address] = value

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if self.model:
            number = data.draw(st.integers(0, len(self.model) - 1))
            address = list(self.model)[number]
            self.pool.free(address)
            del self.model[address]
            self.freed.append(address)

    @rule()
    def free_twice(self) -> None:
        for address in self.freed[-3:]:
            if address not in self.model:
                with pytest.raises(arenads.KeyAbsentError):
                    self.pool.free(address)

    @rule(data=st.data(), value=values)
    def store(self, data: st.DataObject, value: int) -> None:
        if self.model:
            number = data.draw(st.integers(0, len(self.model) - 1))
            address = list(self.model)[number]
            self.pool[address] = value
            self.model[address] = value

    @invariant()
    def same(self) -> None:
        assert {address: self.pool[address] for address in self.model} == self.model
        assert len(self.pool) == len(self.model)
        report = self.pool.check()
        assert (report.live, report.leaked, report.errors) == (len(self.model), 0, 0)


def test_it_behaves_like_a_dict_of_addresses_with_a_limit(engine: str) -> None:
    machine = type("AgainstDict", (AgainstDict,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40))


def test_objects_keep_their_address_and_do_not_overlap(arena: arenads.Arena) -> None:
    pool = arena.pool("pool", value=Bytes[40], max_entries=500)
    objects = {pool.alloc(bytes([number % 256]) * 40): number % 256 for number in range(500)}
    addresses = sorted(objects)
    assert len(objects) == 500
    assert all(two - one >= 40 for one, two in itertools.pairwise(addresses))
    assert all(address % 8 == 0 for address in addresses)
    assert all(pool[address] == bytes([number]) * 40 for address, number in objects.items())


@pytest.mark.parametrize("size", [1, 3, 8, 13, 100, 4096, 65536])
def test_objects_of_any_size_come_back_whole(arena: arenads.Arena, size: int) -> None:
    pool = arena.pool("pool", value=Bytes[size], max_entries=4)
    patterns = [bytes((seed + 7 * at) & 255 for at in range(size)) for seed in range(4)]
    addresses = [pool.alloc(pattern) for pattern in patterns]
    assert [pool[address] for address in addresses] == patterns


def test_exactly_max_entries_fit_and_freeing_makes_room(arena: arenads.Arena) -> None:
    pool = arena.pool("pool", value=u64, max_entries=65)
    addresses = [pool.alloc(number) for number in range(65)]
    with pytest.raises(arenads.CapacityError, match="max_entries=65"):
        pool.alloc(1)
    assert pool.counters().full == 1
    pool.free(addresses[30])
    assert pool.alloc(7) == addresses[30]


WRONG: dict[str, Callable[[int, int], object]] = {
    "NULL": lambda base, address: 0,
    "the base": lambda base, address: base,
    "the root": lambda base, address: base + 64,
    "the middle of an object": lambda base, address: address + 8,
    "an odd address": lambda base, address: address + 1,
    "before the arena": lambda base, address: base - 4096,
    "behind the arena": lambda base, address: base + (4 << 20),
    "far away": lambda base, address: MASK,
    "below nothing": lambda base, address: -8,
    "its offset": lambda base, address: address - base,
    "text": lambda base, address: "address",
    "None": lambda base, address: None,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_no_address_of_an_object_is_refused(
    pool: Any, wrong: Callable[[int, int], Any]
) -> None:
    address = pool.alloc(Node(1, 0))
    place = wrong(pool.arena.base, address)
    for use in (
        lambda: pool[place],
        lambda: pool.free(place),
        lambda: pool.__setitem__(place, Node(2, 0)),
    ):
        with pytest.raises(arenads.KeyAbsentError):
            use()
    assert pool[address] == Node(1, 0)
    assert len(pool) == 1


def test_a_freed_object_can_be_neither_read_nor_stored_nor_freed_again(pool: Any) -> None:
    address = pool.alloc(Node(1, 0))
    pool.free(address)
    for use in (
        lambda: pool[address],
        lambda: pool.free(address),
        lambda: pool.__setitem__(address, Node(2, 0)),
    ):
        with pytest.raises(arenads.KeyAbsentError):
            use()


def test_objects_of_another_pool_are_refused(arena: arenads.Arena, pool: Any) -> None:
    other = arena.pool("other", value=Node, max_entries=100)
    address = other.alloc(Node(1, 0))
    for use in USES.values():
        with pytest.raises(arenads.KeyAbsentError, match="is no object in use of pool 'nodes'"):
            use(pool, address)
    assert other[address] == Node(1, 0)


USES: dict[str, Callable[[Any, int], object]] = {
    "read": lambda pool, address: pool[address],
    "store": lambda pool, address: pool.__setitem__(address, Node(2, 0)),
    "free": lambda pool, address: pool.free(address),
    "view": lambda pool, address: pool.view(address),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_closed_arena_has_its_own_error(pool: Any, use: Callable[[Any, int], object]) -> None:
    address = pool.alloc(Node(1, 0))
    use(pool, address)
    pool.arena.close()
    for place in (address, address + 1, -1):
        with pytest.raises(arenads.ClosedError):
            use(pool, place)
    with pytest.raises(arenads.ClosedError):
        pool.alloc(Node(1, 0))


def test_a_view_is_taken_where_an_address_is(pool: Any) -> None:
    view = pool.view(pool.alloc(Node(1, 0)))
    pool[view] = Node(2, 0)
    assert pool[view] == Node(2, 0)
    pool.free(view)
    with pytest.raises(arenads.KeyAbsentError):
        pool[view]


def test_a_value_that_does_not_fit_is_refused_before_anything_is_done(pool: Any) -> None:
    address = pool.alloc(Node(1, 0))
    for wrong in (Node(-1, 0), "a node"):
        with pytest.raises(arenads.SchemaError):
            pool[address] = wrong
        with pytest.raises(arenads.SchemaError):
            pool.alloc(wrong)
    assert list(pool.items()) == [(address, Node(1, 0))]
    pool[address] = {"value": 3, "next": 0}
    assert pool[address] == Node(3, 0)


@pytest.mark.parametrize("sizes", [(8, 8), (16, 3000), (40, 20_000)])
def test_objects_are_told_from_those_of_a_pool_between_them(
    arena: arenads.Arena, sizes: tuple[int, int]
) -> None:
    """Chunks of several pools lie in one page, and chunks of one pool over many."""
    pools: list[Any] = [
        arena.pool(f"pool {number}", value=Bytes[size], max_entries=60)
        for number, size in enumerate(sizes)
    ]
    chosen = random.Random(5)
    owners = {}
    for number in range(100):
        pool = chosen.choice(pools)
        if len(pool) < 60:
            data = bytes([number]) * pool.value_type.size
            owners[pool.alloc(data)] = pool, data
    addresses = list(owners)
    chosen.shuffle(addresses)
    for opened in (pools, [arena.structures[pool.name] for pool in pools]):
        for address in addresses:
            for pool in opened:
                owner, data = owners[address]
                if pool.name == owner.name:
                    assert pool[address] == data
                    with pytest.raises(arenads.KeyAbsentError):
                        pool[address + 8]
                else:
                    with pytest.raises(arenads.KeyAbsentError):
                        pool[address]


def test_threads_find_objects_that_nobody_has_looked_for_yet(arena: arenads.Arena) -> None:
    pool = arena.pool("pool", value=Bytes[500], max_entries=1000)
    objects = {pool.alloc(bytes([number % 256]) * 500): number % 256 for number in range(1000)}
    wrong: list[int] = []
    begin = threading.Barrier(3)

    def look(number: int) -> None:
        addresses = list(objects)
        random.Random(number).shuffle(addresses)
        begin.wait()
        wrong.extend(each for each in addresses if pool[each][0] != objects[each])

    threads = [threading.Thread(target=look, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_chunk_that_claims_to_go_on_behind_the_arena_is_not_followed(
    arena: arenads.Arena, pool: Any
) -> None:
    address = pool.alloc(Node(1, 0))
    before = min(address for address, _ in pool.items()) - 16  # the link and hash of the first
    word = ctypes.c_uint64.from_address(before - 8)
    assert word.value & 3 == 2  # the header word of its chunk
    word.value |= 0xFFFF_FFFF << 32
    for use in USES.values():
        with pytest.raises(arenads.KeyAbsentError):
            use(pool, address)


def test_it_is_not_iterated(pool: Any) -> None:
    with pytest.raises(TypeError):
        iter(pool)
    with pytest.raises(TypeError):
        _ = 1 in pool


def test_threads_never_get_the_same_object(arena: arenads.Arena) -> None:
    pool = arena.pool("pool", value=u64, max_entries=2000)
    held: list[list[int]] = [[] for _ in range(3)]

    def work(number: int) -> None:
        chosen = random.Random(number)
        mine = held[number]
        for _ in range(3000):
            if mine and chosen.random() < 0.5:
                pool.free(mine.pop(chosen.randrange(len(mine))))
            else:
                mine.append(pool.alloc(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [address for mine in held for address in mine]
    assert len(everything) == len(set(everything)) == len(pool)
    assert all(pool[address] == number for number in range(3) for address in held[number])
    assert pool.check().errors == 0


def test_another_process_finds_objects_at_the_same_address(
    arena: arenads.Arena, pool: Any, pin: Path, python: Any
) -> None:
    address = pool.alloc(Node(41, 0))
    arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            pool, address = arena.structures["nodes"], int(sys.argv[2])
            node = pool[address]
            print(pool.alloc({"value": node.value + 1, "next": address}))
    """
    other = int(python(script, pin, address).stdout)
    assert pool[other] == Node(42, address)
    assert pool[pool[other].next] == Node(41, 0)


def test_read_only_objects_are_read_and_not_changed(
    arena: arenads.Arena, pool: Any, pin: Path
) -> None:
    address = pool.alloc(Node(7, 0))
    arena.pin(pin)
    arena.close()
    with arenads.open(pin, readonly=True) as again:
        pool = again.structures["nodes"]
        assert pool[address].value == 7
        for use in (
            lambda: pool.alloc(Node(1, 0)),
            lambda: pool.free(address),
            lambda: pool.__setitem__(address, {"value": 1, "next": 0}),
        ):
            with pytest.raises(arenads.ReadOnlyError):
                use()


# --- a structure of one's own, linked by pointers --------------------------------------------


class Linked:
    """Stacks of nodes, worked on by a program and walked by Python."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.nodes: Any = program["nodes"]
        self.stacks: Any = program["stacks"]

    def run(self, name: str, stack: int = 0, value: int = 0) -> tuple[int, int, int, int]:
        result = self.program.run(name, STEP.pack(stack, 0, value, 0))
        _, count, value, total = STEP.unpack(result.context)
        return result.value, count, value, total

    def values(self, stack: int) -> list[int]:
        """Follow the pointers in Python."""
        found, at = [], self.stacks[stack].top
        while at:
            node = self.nodes[at]
            found.append(node.value)
            at = node.next
        return found


@pytest.fixture
def linked(engine: str, compiled: Callable[..., Path]) -> Iterator[Linked]:
    with arenads.load(compiled("linked", engine), engine=engine) as program:  # type: ignore[arg-type]
        yield Linked(program)


def summed(values: list[int]) -> int:
    total = 0
    for value in values:
        total = (total * 31 + value) & MASK
    return total


def test_python_follows_the_pointers_that_a_program_stored(linked: Linked) -> None:
    for value in range(200):
        assert linked.run("push", stack=value % 2, value=value)[0] == 0
    assert linked.values(0) == list(range(198, -1, -2))
    assert linked.values(1) == list(range(199, 0, -2))
    assert linked.stacks[0].depth == 100


def test_the_address_that_a_program_sees_is_the_one_in_python(linked: Linked) -> None:
    code, _, _, address = linked.run("push", value=7)
    assert code == 0
    assert linked.stacks[0].top == address
    assert linked.nodes[address].value == 7


def test_a_program_follows_the_pointers_that_python_stored(linked: Linked) -> None:
    at = 0
    for value in range(300):
        at = linked.nodes.alloc({"value": value, "next": at})
    linked.stacks[3] = {"top": at, "depth": 300}
    code, count, _, total = linked.run("walk", stack=3)
    assert (code, count) == (0, 300)
    assert total == summed(list(range(299, -1, -1)))


def test_both_sides_push_and_pop_one_stack_by_turns(linked: Linked) -> None:
    expected: list[int] = []
    chosen = random.Random(3)
    linked.stacks[0] = {"top": 0, "depth": 0}
    for value in range(600):
        if expected and chosen.random() < 0.4:
            assert linked.run("pop")[:3] == (0, 0, expected.pop())
        elif chosen.random() < 0.5:
            assert linked.run("push", value=value)[0] == 0
            expected.append(value)
        else:
            stack = linked.stacks[0]
            node = linked.nodes.alloc({"value": value, "next": stack.top})
            linked.stacks[0] = {"top": node, "depth": stack.depth + 1}
            expected.append(value)
        if value % 50 == 0:
            assert linked.values(0) == expected[::-1]
    assert linked.values(0) == expected[::-1]
    assert linked.run("walk")[1] == linked.stacks[0].depth == len(expected)
    assert len(linked.nodes) == len(expected)
    assert linked.nodes.check().errors == 0


def test_a_null_pointer_stays_null_on_both_sides(linked: Linked) -> None:
    linked.run("push", value=1)
    assert linked.nodes[linked.stacks[0].top].next == 0
    assert linked.run("pop")[0] == 0
    assert linked.stacks[0].top == 0
    assert linked.run("pop")[0] == 1
    assert linked.run("walk")[:2] == (0, 0)


def test_opening_with_another_type_shows_both_layouts(pool: Any) -> None:
    with pytest.raises(arenads.LayoutError, match="value of 'nodes'"):
        pool.arena.pool("nodes", value=u32)
