"""Intrusive lists: against a sorted dict on both engines, from both sides, and under traffic."""

from __future__ import annotations

import ctypes
import itertools
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
from arenads import Array, Node, packed, u8, u32, u64
from arenads.python_class import python_class

LARGEST = (1 << 64) - 1
FIRST = 1 << 63  # the order of the first push
MASK = LARGEST


class Task(msgspec.Struct):
    pid: u64
    queue: Node = Node()
    weight: u64 = 0
    all: Node = Node()


class Other(msgspec.Struct):
    number: u32
    node: Node = Node()


class Plain(msgspec.Struct):
    number: u64


class Several(msgspec.Struct):
    number: u64
    nodes: Array[Node, 3]


@packed
class Misplaced(msgspec.Struct):
    number: u8
    node: Node = Node()


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def tasks(arena: arenads.Arena) -> Any:
    return arena.pool("tasks", value=Task, max_entries=500)


@pytest.fixture
def ready(tasks: Any) -> Any:
    return tasks.arena.intrusive("ready", pool=tasks, member="queue")


@pytest.fixture
def waiting(tasks: Any) -> Any:
    return tasks.arena.intrusive("waiting", pool=tasks, member="queue")


@pytest.fixture
def everyone(tasks: Any) -> Any:
    return tasks.arena.intrusive("everyone", pool=tasks, member="all")


def sound(*lists: Any) -> bool:
    return all((found.leaked, found.errors) == (0, 0) for found in (one.check() for one in lists))


# --- against a model ----------------------------------------------------------------------


class AgainstSortedDicts(RuleBasedStateMachine):
    """Records in three lists, two of them by the same node, so never in both of those."""

    engine: Any = "native"

    def __init__(self) -> None:
        super().__init__()
        self.arena = arenads.create("256KiB", engine=self.engine, populate="64KiB", provision=None)
        self.tasks = self.arena.pool("tasks", value=Task, max_entries=6)
        self.lists = {
            name: self.arena.intrusive(name, pool=self.tasks, member=member)
            for name, member in (("ready", "queue"), ("waiting", "queue"), ("everyone", "all"))
        }
        self.models: dict[str, dict[int, int]] = {name: {} for name in self.lists}
        self.records: dict[int, int] = {}

    def teardown(self) -> None:
        self.arena.close()

    names = st.sampled_from(["ready", "waiting", "everyone"])
    numbers = st.integers(0, 5)
    orders = st.sampled_from([0, 1, 2, 5, FIRST - 1, FIRST, FIRST + 1, LARGEST])

    def linked(self, name: str, address: int) -> bool:
        """Whether the node that the list goes by is in a list."""
        by = [name] if name == "everyone" else ["ready", "waiting"]
        return any(address in self.models[each].values() for each in by)

    def some(self, number: int) -> int | None:
        return list(self.records)[number % len(self.records)] if self.records else None

    @rule(pid=st.integers(0, LARGEST))
    def alloc(self, pid: int) -> None:
        if len(self.records) < 6:
            self.records[self.tasks.alloc(Task(pid))] = pid

    @rule(number=numbers)
    def free(self, number: int) -> None:
        address = self.some(number)
        if address is None:
            return
        if self.linked("ready", address) or self.linked("everyone", address):
            with pytest.raises(arenads.LinkedError, match="remove it"):
                self.tasks.free(address)
        else:
            self.tasks.free(address)
            del self.records[address]

    @rule(number=numbers, pid=st.integers(0, LARGEST))
    def store(self, number: int, pid: int) -> None:
        address = self.some(number)
        if address is not None:
            self.tasks[address] = Task(pid, Node(1, 2, 3), 4, Node(5, 6, 7))
            self.records[address] = pid

    @rule(name=names, number=numbers)
    def push(self, name: str, number: int) -> None:
        address, model = self.some(number), self.models[name]
        if address is None:
            return
        first = min(model, default=None)
        if self.linked(name, address):
            with pytest.raises(arenads.LinkedError):
                self.lists[name].push(address)
        elif first == 0:
            with pytest.raises(arenads.CapacityError):
                self.lists[name].push(address)
        else:
            order = self.lists[name].push(address)
            assert order == (FIRST if first is None else first - 1)
            model[order] = address

    @rule(name=names, number=numbers, order=orders)
    def insert(self, name: str, number: int, order: int) -> None:
        address, model = self.some(number), self.models[name]
        if address is None:
            return
        if self.linked(name, address):
            with pytest.raises(arenads.LinkedError):
                self.lists[name].insert(order, address)
        elif order in model:
            with pytest.raises(arenads.KeyExistsError):
                self.lists[name].insert(order, address)
        else:
            self.lists[name].insert(order, address)
            model[order] = address

    @rule(name=names, number=numbers)
    def remove(self, name: str, number: int) -> None:
        address, model = self.some(number), self.models[name]
        if address is None:
            return
        if address in model.values():
            self.lists[name].remove(address)
            self.models[name] = {order: at for order, at in model.items() if at != address}
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.lists[name].remove(address)
            assert not self.lists[name].discard(address)

    @rule(name=names, order=orders)
    def pop(self, name: str, order: int) -> None:
        if order in self.models[name]:
            assert self.lists[name].pop(order) == self.models[name].pop(order)
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.lists[name].pop(order)

    @rule(name=names)
    def pop_first(self, name: str) -> None:
        model = self.models[name]
        if model:
            first = min(model)
            assert self.lists[name].first() == (first, model[first])
            assert self.lists[name].pop_first() == (first, model.pop(first))
        else:
            for use in (self.lists[name].first, self.lists[name].pop_first):
                with pytest.raises(arenads.KeyAbsentError, match="empty"):
                    use()

    @rule(name=names, order=orders)
    def get(self, name: str, order: int) -> None:
        model = self.models[name]
        if order in model:
            assert self.lists[name].get(order) == model[order]
        else:
            with pytest.raises(arenads.KeyAbsentError):
                self.lists[name].get(order)
        behind = sorted(pair for pair in model.items() if pair[0] > order)
        assert list(self.lists[name].items(after=order)) == behind

    @invariant()
    def same(self) -> None:
        for name, model in self.models.items():
            found = self.lists[name]
            assert list(found.items()) == sorted(model.items())
            assert list(found) == [address for _, address in sorted(model.items())]
            assert len(found) == len(model)
            assert [each for each in self.records if each in found] == [
                each for each in self.records if each in model.values()
            ]
            report = found.check()
            assert (report.live, report.deleted, report.leaked, report.errors) == (
                len(model), 0, 0, 0,
            )  # fmt: skip
        assert {address: self.tasks[address].pid for address in self.records} == self.records
        assert self.tasks.check().errors == 0


def test_they_behave_like_sorted_dicts_of_one_set_of_records(engine: str) -> None:
    machine = type("AgainstSortedDicts", (AgainstSortedDicts,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))


# --- linking ------------------------------------------------------------------------------


def test_pushing_puts_records_at_the_head(tasks: Any, ready: Any) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(4)]
    orders = [ready.push(address) for address in addresses]
    assert list(ready) == addresses[::-1]
    assert orders == [FIRST, FIRST - 1, FIRST - 2, FIRST - 3]
    assert [tasks[address].pid for address in ready] == [3, 2, 1, 0]


def test_a_record_can_be_in_one_list_a_node(tasks: Any, ready: Any, everyone: Any) -> None:
    address = tasks.alloc(Task(1))
    ready.insert(5, address)
    everyone.insert(9, address)
    assert (list(ready.items()), list(everyone.items())) == ([(5, address)], [(9, address)])
    ready.remove(address)
    assert (list(ready), list(everyone)) == ([], [address])
    assert sound(ready, everyone)


def test_a_record_in_another_list_by_the_same_node_is_refused(
    tasks: Any, ready: Any, waiting: Any
) -> None:
    address = tasks.alloc(Task(1))
    ready.push(address)
    with pytest.raises(arenads.LinkedError, match=r"list 'ready' already.*'queue'") as caught:
        waiting.push(address)
    assert caught.value.address == address
    with pytest.raises(arenads.LinkedError):
        ready.insert(1, address)
    assert (list(ready), list(waiting)) == ([address], [])


def test_removing_from_a_list_that_it_is_not_in_says_where_it_is(
    tasks: Any, ready: Any, waiting: Any
) -> None:
    address = tasks.alloc(Task(1))
    with pytest.raises(arenads.KeyAbsentError, match=r"not in intrusive list 'ready'$"):
        ready.remove(address)
    waiting.push(address)
    with pytest.raises(arenads.KeyAbsentError, match="it is in intrusive list 'waiting'"):
        ready.remove(address)
    assert list(waiting) == [address]


def test_a_record_moves_between_lists(tasks: Any, ready: Any, waiting: Any) -> None:
    address = tasks.alloc(Task(1))
    for turn in range(50):
        here, there = (ready, waiting) if turn % 2 else (waiting, ready)
        here.insert(turn, address)
        assert address in here
        assert address not in there
        here.remove(address)
    assert sound(ready, waiting)


def test_storing_a_record_leaves_its_links_alone(tasks: Any, ready: Any, everyone: Any) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(3)]
    for address in addresses:
        ready.push(address)
        everyone.push(address)
    tasks[addresses[1]] = Task(7, Node(1, 2, 3), 8, Node(4, 5, 6))
    assert list(ready) == list(everyone) == addresses[::-1]
    assert (tasks[addresses[1]].pid, tasks[addresses[1]].weight) == (7, 8)
    assert sound(ready, everyone)


def test_versions_go_on_when_a_record_is_freed_and_allocated_again(tasks: Any, ready: Any) -> None:
    address = tasks.alloc(Task(1))
    ready.push(address)
    ready.remove(address)
    before = tasks[address].queue.link
    tasks.free(address)
    assert tasks.alloc(Task(2)) == address
    assert tasks[address].queue.link == before
    ready.push(address)
    assert tasks[address].queue.link >> 32 & 0x7FFFFFFF > before >> 32 & 0x7FFFFFFF


def test_a_record_must_be_removed_before_it_is_freed(tasks: Any, ready: Any) -> None:
    address = tasks.alloc(Task(1))
    ready.push(address)
    with pytest.raises(arenads.LinkedError, match="'queue': remove it there before freeing it"):
        tasks.free(address)
    assert len(tasks) == 1
    ready.remove(address)
    tasks.free(address)
    assert len(tasks) == 0


def test_records_may_be_removed_while_they_are_iterated(tasks: Any, ready: Any) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(400)]
    for address in addresses:
        ready.push(address)
    seen = []
    for address in ready:
        seen.append(address)
        ready.remove(address)
    assert seen == addresses[::-1]
    assert len(ready) == 0
    assert sound(ready)


def test_an_iteration_goes_on_behind_an_order(tasks: Any, ready: Any) -> None:
    for order in range(0, 100, 10):
        ready.insert(order, tasks.alloc(Task(order)))
    part = list(itertools.islice(ready.items(), 4))
    ready.remove(part[-1][1])
    rest = list(ready.items(after=part[-1][0]))
    assert [order for order, _ in part + rest] == list(range(0, 100, 10))
    assert list(ready.items(after=LARGEST)) == []


def test_nodes_may_be_in_an_array(arena: arenads.Arena) -> None:
    pool = arena.pool("several", value=Several)
    lists = [arena.intrusive(f"l{i}", pool=pool, member=f"nodes[{i}]") for i in range(3)]
    address = pool.alloc(Several(1, [Node()] * 3))
    for order, each in enumerate(lists):
        each.insert(order, address)
    assert [list(each.items()) for each in lists] == [[(i, address)] for i in range(3)]
    pool[address] = Several(2, [Node(9, 9, 9)] * 3)
    assert sound(*lists)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [-1, 1 << 64, 1.5, None, "7"])
def test_what_is_no_order_is_refused(tasks: Any, ready: Any, order: Any) -> None:
    address = tasks.alloc(Task(1))
    for use in (
        lambda: ready.insert(order, address),
        lambda: ready.pop(order),
        lambda: ready.get(order),
    ):
        with pytest.raises(arenads.SchemaError):
            use()
    assert len(ready) == 0


def test_an_address_of_no_record_is_refused(tasks: Any, ready: Any) -> None:
    address = tasks.alloc(Task(1))
    base = tasks.arena.base
    for wrong in (
        0,
        1,
        address + 8,
        address - 16,
        base,
        base + 64,
        base + (1 << 32),
        -1,
        None,
        "x",
    ):
        for use in (
            lambda wrong=wrong: ready.push(wrong),
            lambda wrong=wrong: ready.insert(1, wrong),
            lambda wrong=wrong: ready.remove(wrong),
        ):
            with pytest.raises(arenads.KeyAbsentError, match="no object in use of pool 'tasks'"):
                use()
        assert wrong not in ready
    assert len(ready) == 0


def test_a_freed_record_is_refused(tasks: Any, ready: Any) -> None:
    address = tasks.alloc(Task(1))
    tasks.free(address)
    with pytest.raises(arenads.KeyAbsentError, match="no object in use"):
        ready.push(address)
    with pytest.raises(arenads.KeyAbsentError, match="not in intrusive list"):
        ready.remove(address)
    assert address not in ready


def test_a_taken_order_is_a_key_error_and_the_record_stays_free(tasks: Any, ready: Any) -> None:
    one, two = tasks.alloc(Task(1)), tasks.alloc(Task(2))
    ready.insert(7, one)
    with pytest.raises(arenads.KeyExistsError, match="order 7") as caught:
        ready.insert(7, two)
    assert caught.value.key == 7
    ready.insert(8, two)
    assert list(ready) == [one, two]


def test_nothing_goes_before_order_0(tasks: Any, ready: Any) -> None:
    one, two = tasks.alloc(Task(1)), tasks.alloc(Task(2))
    ready.insert(0, one)
    with pytest.raises(arenads.CapacityError, match="order 0"):
        ready.push(two)
    assert list(ready) == [one]
    assert ready.counters().full == 1
    ready.insert(1, two)


def test_a_read_only_arena_can_be_walked_and_not_changed(
    tasks: Any, ready: Any, pin: Path, python: Any
) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(3)]
    for address in addresses:
        ready.push(address)
    tasks.arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            ready = arena.structures["ready"]
            pids = [ready.pool[address].pid for address in ready]
            order, address = ready.first()
            assert address in ready and ready.get(order) == address and len(ready) == 3
            assert ready.check().live == 3
            for use in (
                lambda: ready.push(address),
                lambda: ready.insert(1, address),
                lambda: ready.remove(address),
                lambda: ready.pop(order),
                ready.pop_first,
            ):
                try:
                    use()
                except arenads.ReadOnlyError:
                    continue
                sys.exit("changed")
            print(pids, ready.member, ready.pool.name)
    """
    assert python(script, pin).stdout == "[2, 1, 0] queue tasks\n"


# --- making and opening -----------------------------------------------------------------------


def test_opening_again_finds_the_same_list(tasks: Any, ready: Any) -> None:
    address = tasks.alloc(Task(1))
    ready.push(address)
    again = tasks.arena.intrusive("ready", pool="tasks", member="queue")
    assert list(again) == list(tasks.arena.structures["ready"]) == [address]
    assert (again.member, again.pool.name) == ("queue", "tasks")
    assert repr(again).startswith("<IntrusiveList 'ready', 1 of 500")


@pytest.mark.parametrize("member", ["pid", "nobody", "queue.link", 8 + 1, "", None])
def test_a_member_that_is_no_node_is_refused(tasks: Any, member: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="it has queue, all"):
        tasks.arena.intrusive("list", pool=tasks, member=member)
    assert "list" not in tasks.arena.structures


def test_records_without_a_node_are_refused(arena: arenads.Arena) -> None:
    plain = arena.pool("plain", value=Plain)
    with pytest.raises(arenads.SchemaError, match="it has none"):
        arena.intrusive("list", pool=plain, member="node")


def test_a_node_that_is_not_aligned_is_refused(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.SchemaError, match="multiple of 8"):
        arena.pool("misplaced", value=Misplaced)


def test_a_pool_is_a_pool_of_this_arena(arena: arenads.Arena, tasks: Any) -> None:
    numbers = arena.list("numbers", value=u64)
    for wrong in (numbers, "numbers", None, 7):
        with pytest.raises(arenads.SchemaError, match="expected a pool of this arena"):
            arena.intrusive("list", pool=wrong, member="node")  # type: ignore[arg-type]
    with pytest.raises(arenads.StructureAbsentError):
        arena.intrusive("list", pool="nobody", member="node")
    with (
        arenads.create("1MiB", engine="native") as other,
        pytest.raises(arenads.SchemaError, match="of this arena"),
    ):
        other.intrusive("list", pool=tasks, member="queue")


def test_a_name_of_another_list_or_kind_is_taken(tasks: Any, ready: Any) -> None:
    arena = tasks.arena
    others = arena.pool("others", value=Task)
    with pytest.raises(arenads.NameExistsError, match="pool 'tasks' by member 'queue'"):
        arena.intrusive("ready", pool=tasks, member="all")
    with pytest.raises(arenads.NameExistsError, match="expected pool 'others'"):
        arena.intrusive("ready", pool=others, member="queue")
    with pytest.raises(arenads.NameExistsError, match="pool"):
        arena.intrusive("tasks", pool=tasks, member="queue")
    with pytest.raises(arenads.NameExistsError, match="intrusive list"):
        arena.list("ready", value=u64)
    with pytest.raises(arenads.LayoutError):
        arena.intrusive("ready", pool=arena.pool("small", value=Other), member="node")


def test_a_removed_list_can_be_emptied_and_not_filled(tasks: Any, ready: Any, waiting: Any) -> None:
    one, two = tasks.alloc(Task(1)), tasks.alloc(Task(2))
    ready.push(one)
    tasks.arena.remove("ready")
    with pytest.raises(arenads.RemovedError):
        ready.push(two)
    with pytest.raises(arenads.LinkedError, match="in a list"):
        waiting.push(one)
    ready.remove(one)
    waiting.push(one)
    assert list(waiting) == [one]


# --- check ----------------------------------------------------------------------------------


def node_words(tasks: Any, address: int, member: str = "queue") -> Any:
    offset = {"queue": 8, "all": 40}[member]
    return (ctypes.c_uint64 * 3).from_address(address + offset)


def test_the_check_finds_a_record_that_was_freed_while_linked(tasks: Any, ready: Any) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(3)]
    for address in addresses:
        ready.push(address)
    tasks._handle.node_count = 0  # as who knows of no nodes would free it
    assert arenads._core.lib.core_pool_free(tasks._handle, addresses[1]) == 0
    tasks._handle.node_count = 2
    report = ready.check()
    assert (report.errors, report.error_at) == (1, addresses[1] + 8 - tasks.arena.base)
    ready.remove(addresses[1])
    assert ready.check().errors == 0
    again = tasks.alloc(Task(9))
    assert again == addresses[1]
    ready.push(again)
    assert sound(ready)


def test_the_check_finds_and_repairs_what_a_dead_process_was_about_to_link(
    tasks: Any, ready: Any
) -> None:
    address = tasks.alloc(Task(1))
    words = node_words(tasks, address)
    words[0] = 5 << 32 | ready.offset | 2  # claimed
    assert ready.check().leaked == 1
    with pytest.raises(arenads.LinkedError):
        ready.push(address)
    assert ready.check(repair=True).repaired == 1
    ready.push(address)
    assert sound(ready)


def test_a_record_that_a_dead_process_removed_can_be_linked_elsewhere(
    tasks: Any, ready: Any, waiting: Any
) -> None:
    """It is marked and still linked: linking it again unlinks it first."""
    addresses = [tasks.alloc(Task(pid)) for pid in range(3)]
    for address in addresses:
        ready.push(address)
    words = node_words(tasks, addresses[1])
    words[0] |= 1 << 63
    assert list(ready) == [addresses[2], addresses[0]]
    assert ready.check().deleted == 1
    waiting.push(addresses[1])
    assert (list(ready), list(waiting)) == ([addresses[2], addresses[0]], [addresses[1]])
    assert ready.check().deleted == 0
    assert sound(ready, waiting)


@pytest.mark.parametrize("damage", ["order", "cycle", "outside", "list"])
def test_the_check_finds_damage(tasks: Any, ready: Any, damage: str) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(4)]
    for address in addresses:
        ready.push(address)
    words = node_words(tasks, addresses[2])
    if damage == "order":
        words[1] = LARGEST
    elif damage == "cycle":
        words[0] = words[0] >> 32 << 32 | (addresses[3] + 8 - tasks.arena.base)
    elif damage == "outside":
        words[0] = words[0] >> 32 << 32 | 0xFFFFFFF0
    else:
        words[2] = 64
    assert ready.check().errors >= 1


# --- from both sides --------------------------------------------------------------------------

STEP = struct.Struct("<5Q")
OPERATIONS = {
    name: number
    for number, name in enumerate(
        "alloc free push insert remove pop pop_first first lookup contains len sum sum_after"
        " waiting_insert waiting_remove everyone_insert everyone_remove".split()
    )
}
ABSENT, LINKED, EXISTS, INVALID = -2, -16, -17, -22


class Records:
    """The program `records` on one engine."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.tasks: Any = program["tasks"]
        self.ready: Any = program["ready"]
        self.waiting: Any = program["waiting"]
        self.everyone: Any = program["everyone"]

    def run(self, operation: str, task: int = 0, order: int = 0) -> tuple[int, list[int]]:
        number = OPERATIONS[operation]
        name = "on_tasks" if number < 2 else "on_ready" if number < 13 else "on_others"
        result = self.program.run(name, STEP.pack(number, task, order, 0, 0))
        value = result.value & 0xFFFFFFFF
        return value - (value >> 31 << 32), list(STEP.unpack(result.context)[1:])

    def summed(self) -> tuple[int, int]:
        total = count = 0
        for order, address in self.ready.items():
            total = (total * 31 + order * 7 + self.tasks[address].pid) & MASK
            count += 1
        return count, total


@pytest.fixture
def records(engine: str, compiled: Callable[..., Path]) -> Iterator[Records]:
    with arenads.load(compiled("records", engine), engine=engine) as program:  # type: ignore[arg-type]
        yield Records(program)


def test_a_declaration_names_its_pool_and_node(records: Records) -> None:
    assert {name: (records.program[name].pool.name, records.program[name].member)
            for name in ("ready", "waiting", "everyone")} == {
        "ready": ("tasks", "queue"), "waiting": ("tasks", "queue"), "everyone": ("tasks", "all"),
    }  # fmt: skip


def test_python_walks_and_removes_what_a_program_linked(records: Records) -> None:
    addresses = []
    for pid in range(5):
        code, (address, *_) = records.run("alloc", order=pid)
        assert code == 0
        assert records.run("push", task=address) == (0, [address, FIRST - pid, 0, 0])
        assert records.run("everyone_insert", task=address, order=pid)[0] == 0
        addresses.append(address)
    assert list(records.ready) == addresses[::-1]
    assert list(records.everyone) == addresses
    records.ready.remove(addresses[2])
    assert records.run("contains", task=addresses[2])[0] == 0
    assert records.run("contains", task=addresses[1])[0] == 1
    assert records.run("len")[0] == 4
    assert records.run("sum")[1][2:] == list(records.summed())
    assert sound(records.ready, records.waiting, records.everyone)


def test_a_program_walks_and_removes_what_python_linked(records: Records) -> None:
    kind = python_class(records.tasks.value_type)
    addresses = [records.tasks.alloc(kind(pid=pid)) for pid in range(6)]
    for order, address in enumerate(addresses):
        records.ready.insert(10 * order, address)
    assert records.run("sum")[1][2:] == list(records.summed())
    assert records.run("sum_after", order=30)[1][2] == 2
    assert records.run("lookup", order=20)[1][0] == addresses[2]
    assert records.run("first")[1][0] == addresses[0]
    assert records.run("remove", task=addresses[0])[0] == 0
    assert records.run("pop", order=20)[1][0] == addresses[2]
    assert records.run("pop_first")[1][0] == addresses[1]
    assert list(records.ready) == addresses[3:]
    assert records.run("free", task=addresses[0])[0] == 0
    assert len(records.tasks) == 5
    assert sound(records.ready)


def test_a_program_gets_a_code_for_each_mistake(records: Records) -> None:
    one, two = (records.run("alloc", order=pid)[1][0] for pid in (1, 2))
    assert records.run("insert", task=one, order=5)[0] == 0
    assert records.run("insert", task=one, order=6)[0] == LINKED
    assert records.run("waiting_insert", task=one, order=6)[0] == LINKED
    assert records.run("insert", task=two, order=5)[0] == EXISTS
    assert records.run("remove", task=two)[0] == ABSENT
    assert records.run("waiting_remove", task=one)[0] == ABSENT
    assert records.run("everyone_remove", task=one)[0] == ABSENT
    assert records.run("pop", order=6)[0] == 1
    assert records.run("free", task=two)[0] == 0
    assert records.run("insert", task=two, order=7)[0] == INVALID
    assert records.run("push", task=0)[0] == INVALID
    assert records.run("remove", task=0)[0] == INVALID
    assert records.run("remove", task=one)[0] == 0
    assert records.run("pop_first")[0] == records.run("first")[0] == 1
    assert sound(records.ready, records.waiting)


class Churn:
    """Both sides move records between two lists and through the pool, all the time."""

    LAYOUT = struct.Struct("<6Q")
    RECORDS = 40

    def __init__(self, records: Records) -> None:
        self.records = records
        self.ended = threading.Event()
        self.failures: list[str] = []
        self.moved = 0
        kind = python_class(records.tasks.value_type)
        for pid in range(self.RECORDS):
            address = records.tasks.alloc(kind(pid=pid, weight=~pid & MASK))
            records.ready.insert(FIRST + pid, address)

    def program(self, seed: int, rounds: int) -> None:
        run = self.records.program.runner("churn", self.LAYOUT.size)
        for turn in range(rounds):
            run(self.LAYOUT.pack(seed + turn, 400, 0, 0, 0, 0))
            _, _, done, moved, lost, wrong = self.LAYOUT.unpack(run.context)  # type: ignore[attr-defined]
            self.moved += moved
            if (done, lost, wrong) != (400, 0, 0):
                self.failures.append(f"done {done}, lost {lost}, wrong {wrong}")
        self.ended.set()

    def python(self) -> None:
        """Until the program has ended: walk, remove what was seen, and link it elsewhere."""
        try:
            self._move()
        except arenads.ArenadsError as error:
            self.failures.append(str(error))

    def _move(self) -> None:
        one, other = self.records.ready, self.records.waiting
        while not self.ended.is_set():
            seen = list(one.items())
            if [order for order, _ in seen] != sorted({order for order, _ in seen}):
                self.failures.append(f"orders {seen}")
            for _, address in seen[::3]:
                if one.discard(address):
                    other.push(address)
                    self.moved += 1
            one, other = other, one

    def end(self) -> None:
        records = self.records
        assert self.failures == []
        assert self.moved > 0
        assert sound(records.ready, records.waiting)
        linked = [*records.ready, *records.waiting]
        assert len(linked) == len(set(linked)) == len(records.tasks) == self.RECORDS
        for address in linked:
            task = records.tasks[address]
            assert task.weight == ~task.pid & MASK


def test_no_record_is_lost_while_both_sides_link_walk_and_remove(records: Records) -> None:
    churn = Churn(records)
    threads = [threading.Thread(target=churn.python)]
    for thread in threads:
        thread.start()
    try:
        churn.program(1, 60)
    finally:
        churn.ended.set()
        for thread in threads:
            thread.join()
    churn.end()


def test_no_record_is_lost_while_a_program_runs_in_several_threads(records: Records) -> None:
    churn = Churn(records)
    threads = [
        threading.Thread(target=churn.program, args=(1000 * seed, 20)) for seed in range(1, 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    churn.end()


def test_a_process_walks_while_another_moves_records(
    records: Records, pin: Path, start_python: Any
) -> None:
    churn = Churn(records)
    records.program.arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            ready = arena.structures["ready"]
            print("ready", flush=True)
            walks = 0
            while sys.stdin.readable() and walks < 300:
                seen = [order for order, _ in ready.items()]
                assert seen == sorted(set(seen)), seen
                walks += 1
            print(walks, flush=True)
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "ready\n"
    churn.program(5, 40)
    assert child.stdout.readline() == "300\n"
    churn.end()


def test_records_that_killed_processes_were_linking_can_be_linked_after_a_reaping(
    tasks: Any, ready: Any, waiting: Any, pin: Path, start_python: Any
) -> None:
    addresses = [tasks.alloc(Task(pid)) for pid in range(8)]
    tasks.arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            lists = [arena.structures["ready"], arena.structures["waiting"]]
            records = [int(word) for word in sys.argv[2:]]
            print("ready", flush=True)
            while True:
                for number, address in enumerate(records):
                    lists[number % 2].insert(number, address)
                    lists[number % 2].remove(address)
                    lists[1 - number % 2].push(address)
                for address in records:
                    lists[0].discard(address) or lists[1].discard(address)
                print("round", flush=True)
    """
    for kill in range(6):
        child = start_python(script, pin, *addresses)
        assert child.stdout.readline() == "ready\n"
        for _ in range(kill):
            assert child.stdout.readline() == "round\n"
        child.kill()
        child.wait()
        tasks.arena.reap()
        assert sound(ready, waiting)
        for address in addresses:
            ready.discard(address) or waiting.discard(address)
            waiting.push(address)
            waiting.remove(address)
    assert sound(ready, waiting)
