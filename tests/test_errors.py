"""Exceptions: one hierarchy with the facts in it; and damage is one of them, never a crash."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import errno
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import everything
import msgspec
import pytest
from conftest import PROGRAMS, TESTS, child_environment

import arenads
from arenads import Array, Bytes, Node, Str, errors, u16, u32, u64

NAMES = errors.__all__
ROOT = 64
LINK, HASH, KEY = 0, 8, 16  # in an entry
TABLE = 24  # in a structure's header
COUNTERS, HEAD, POOL = 64, 128, 192  # in a collection
TAIL, RING_HEAD, TAIL_SEEN = 128, 192, 200  # in a queue
STRIDE, CAPACITY, CARVED, SHARDS = 0, 4, 64, 128  # in a pool
NOWHERE = 0xFFFF0000
MASK = (1 << 64) - 1


class Linked(msgspec.Struct, frozen=True):
    pid: u32
    node: Node = Node()


# --- the hierarchy --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_exception_is_one_of_ours_and_public(name: str) -> None:
    assert issubclass(getattr(errors, name), arenads.ArenadsError)
    assert getattr(arenads, name) is getattr(errors, name)
    assert name in arenads.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_exception_says_when_it_is_raised(name: str) -> None:
    assert (getattr(errors, name).__doc__ or "").strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_exception_keeps_its_facts(name: str) -> None:
    error = getattr(errors, name)("it failed", errno=5, place="here", number=7)
    assert str(error) == error.message == "it failed"
    assert error.errno == 5
    assert (error.place, error.number) == ("here", 7)
    assert error.facts == {"place": "here", "number": 7}


@pytest.mark.parametrize("name", NAMES)
def test_every_exception_can_be_sent_to_another_process(name: str) -> None:
    error = getattr(errors, name)("it failed", errno=5, place="here")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.errno, again.place) == ("it failed", 5, "here")


@pytest.mark.parametrize("name", NAMES)
def test_every_exception_has_an_errno_without_being_told(name: str) -> None:
    number = getattr(errors, name)("it failed").errno
    assert number in errno.errorcode or name == "ArenadsError"


def test_an_unknown_fact_is_an_attribute_error() -> None:
    error = arenads.SizeError("it failed", found=0)
    with pytest.raises(AttributeError, match="SizeError has no attribute 'other'"):
        _ = error.other


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("SizeError", ValueError),
        ("OpenError", OSError),
        ("NotAPinError", OSError),
        ("PrivilegeError", PermissionError),
        ("LockdownError", PermissionError),
        ("ReadOnlyError", PermissionError),
        ("ClosedError", ValueError),
        ("ArenaFullError", MemoryError),
        ("NoMemoryError", MemoryError),
        ("KeyAbsentError", KeyError),
        ("KeyExistsError", KeyError),
        ("StructureAbsentError", KeyError),
        ("SchemaError", TypeError),
        ("LayoutError", TypeError),
        ("ProgramTypeError", TypeError),
    ],
)
def test_who_catches_the_built_in_exception_catches_ours(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), base)


def test_a_key_error_shows_its_message_and_not_its_repr() -> None:
    assert str(arenads.KeyAbsentError("7 is not there")) == "7 is not there"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ArenadsError"])
def test_every_exception_has_a_test_that_expects_it(name: str) -> None:
    expecting = re.compile(rf"(raises\(|except |refuse\()[^)\n:]*\b{name}\b")
    places = [path.name for path in TESTS.glob("test_*.py") if expecting.search(path.read_text())]
    assert places


# --- what does not fit ----------------------------------------------------------------


class Flow(msgspec.Struct, frozen=True):
    source: u32
    ports: Array[u16, 2]


def set_item(structure: Any, key: Any) -> None:
    structure[key] = 1


KEYED: dict[str, Callable[[Any, Any], object]] = {
    "[]": lambda structure, key: structure[key],
    "[] of one that was used": lambda structure, key: (structure.get(1), structure[key]),
    "get": lambda structure, key: structure.get(key),
    "[] =": set_item,
    "del": lambda structure, key: structure.__delitem__(key),
    "in": lambda structure, key: key in structure,
    "pop": lambda structure, key: structure.pop(key),
    "insert": lambda structure, key: structure.insert(key, 1),
    "add": lambda structure, key: structure.add(key, 1),
    "view": lambda structure, key: structure.view(key),
    "get_many": lambda structure, key: structure.get_many([1, key]),
    "update_many": lambda structure, key: structure.update_many([1, key], [1, 1]),
    "delete_many": lambda structure, key: structure.delete_many([1, key]),
}


@pytest.mark.parametrize("use", KEYED)
@pytest.mark.parametrize("kind", ["hashmap", "orderedmap"])
def test_a_key_that_does_not_fit_is_told_with_the_map(
    arena: arenads.Arena, kind: str, use: str
) -> None:
    made = getattr(arena, kind)("flows", key=u32, value=u64)
    for wrong in (-1, 1 << 32, "x", None):
        with pytest.raises(arenads.SchemaError) as caught:
            KEYED[use](made, wrong)
        assert caught.value.message.startswith(
            f"{made.kind_name} 'flows': key: expected an integer from 0 to 4294967295 (u32), found "
        )
        assert caught.value.found == wrong
    assert len(made) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((1, (2, 70_000)), "key.ports[1]: expected an integer from 0 to 65535"),
        (("x", (2, 3)), "key.source: expected an integer from 0 to 4294967295"),
        ((1,), "key: Flow: expected 2 values"),
        (7, "key: Flow: expected a Flow, a mapping or a tuple, found int"),
    ],
)
@pytest.mark.parametrize("kind", ["hashmap", "set"])
def test_of_a_key_record_the_member_is_told(
    arena: arenads.Arena, kind: str, wrong: Any, said: str
) -> None:
    value = {"value": u64} if kind == "hashmap" else {}
    made = getattr(arena, kind)("flows", key=Flow, **value)
    with pytest.raises(arenads.SchemaError) as caught:
        wrong in made  # noqa: B015
    assert caught.value.message.startswith(f"{made.kind_name} 'flows': {said}")


@pytest.mark.parametrize("use", ["add", "insert", "discard", "remove", "in", "update"])
def test_a_key_that_does_not_fit_is_told_with_the_set(arena: arenads.Arena, use: str) -> None:
    seen = arena.set("seen", key=Str[4])
    method = seen.__contains__ if use == "in" else getattr(seen, use)
    with pytest.raises(arenads.SchemaError, match=r"^set 'seen': key: expected text of at most 4"):
        method(["too long"] if use == "update" else "too long")


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        *(("list", use) for use in ("get", "view", "pop", "delete", "items", "insert", "update")),
        *(("intrusive list", use) for use in ("get", "pop", "items", "insert")),
    ],
)
def test_an_order_that_does_not_fit_is_told_with_the_list(
    arena: arenads.Arena, kind: str, use: str
) -> None:
    if kind == "list":
        events: Any = arena.list("events", value=u64)
    else:
        events = arena.intrusive("events", pool=arena.pool("p", value=Linked), member="node")
    more = (1,) if use in ("insert", "update") else ()
    with pytest.raises(arenads.SchemaError, match=f"^{kind} 'events': expected an order from 0 to"):
        list(getattr(events, use)(-1, *more))


def test_many_orders_that_do_not_fit_are_told_with_the_list(arena: arenads.Arena) -> None:
    events = arena.list("events", value=u64)
    with pytest.raises(arenads.SchemaError, match=r"^list 'events': order: expected an integer"):
        events.delete_many([1, "x"])
    with pytest.raises(arenads.SchemaError, match=r"^list 'events': value: expected an integer"):
        events.push_many([1, "x"])


@pytest.mark.parametrize("use", ["[]", "get_many", "view", "add"])
def test_an_index_that_is_none_is_told_with_the_array(arena: arenads.Arena, use: str) -> None:
    counts = arena.array("counts", value=u64, max_entries=8)
    for wrong, error in (("x", arenads.SchemaError), (8, arenads.RangeError)):
        with pytest.raises(error, match="array 'counts'"):
            KEYED[use](counts, wrong)


def test_an_address_that_is_none_is_told_with_the_pool(arena: arenads.Arena) -> None:
    numbers = arena.pool("numbers", value=u64)
    for wrong in ("x", -1, 0, 1 << 70):
        with pytest.raises(arenads.KeyAbsentError, match="of pool 'numbers'"):
            numbers[wrong]


def test_a_value_that_does_not_fit_is_told_with_the_structure(arena: arenads.Arena) -> None:
    flows = arena.hashmap("flows", key=u32, value=Flow)
    queue = arena.queue("queue", value=Flow)
    for _ in range(2):
        with pytest.raises(
            arenads.SchemaError, match=r"^hash map 'flows': value\.source: expected"
        ):
            flows[1] = Flow(-1, [1, 2])
    with pytest.raises(arenads.SchemaError, match=r"^queue 'queue': value\.ports: expected"):
        queue.push(Flow(1, [1, 2, 3]))


def test_arrays_that_do_not_fit_are_told_with_the_structure(arena: arenads.Arena) -> None:
    numpy = pytest.importorskip("numpy")
    flows = arena.hashmap("flows", key=u32, value=u64)
    with pytest.raises(arenads.SchemaError, match=r"^hash map 'flows': keys: expected"):
        flows.get_many(numpy.array([1.5]))
    with pytest.raises(arenads.SchemaError, match=r"^hash map 'flows': expected as many values"):
        flows.update_many([1], [])


@pytest.mark.parametrize("name", everything.KINDS)
def test_a_structure_that_cannot_be_read_can_be_shown(arena: arenads.Arena, name: str) -> None:
    made = everything.fill(arena)[name]
    if name == "records":
        arena.remove("ready")
    arena.remove(name)
    assert repr(made) == f"<{type(made).__name__} {name!r}, removed>"
    arena.close()
    assert repr(made) == f"<{type(made).__name__} {name!r}, arena closed>"


def test_a_codec_of_no_structure_names_none() -> None:
    with pytest.raises(arenads.SchemaError, match=r"^expected an integer"):
        arenads.Codec(u32).pack(-1)


def test_an_order_may_be_an_element_of_an_array(arena: arenads.Arena) -> None:
    numpy = pytest.importorskip("numpy")
    events = arena.list("events", value=u64)
    orders = events.push_many(numpy.array([7, 8], "u8"))
    assert events.get(orders[1]) == 8
    assert [value for _, value in events.items(after=orders[1])] == [7]


# --- damage, place by place ---------------------------------------------------------------


class Victim(msgspec.Struct):
    """An arena with a structure of each kind, and where things are in it."""

    arena: Any
    numbers: Any
    events: Any
    inbox: Any

    def peek(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(ctypes.string_at(self.arena.base + offset, size), "little")

    def put(self, offset: int, value: int, size: int = 8) -> None:
        ctypes.memmove(self.arena.base + offset, value.to_bytes(size, "little"), size)

    def events_entry(self, number: int) -> int:
        """Offset of an entry of the list, from the head on."""
        at = self.events.offset + HEAD
        for _ in range(number + 1):
            at = self.peek(at, 4)
        return at


@pytest.fixture
def victim(engine: str) -> Iterator[Victim]:
    with arenads.create("2MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=100, initial_entries=100)
        numbers.update((number, number) for number in range(50))
        events = arena.list("events", value=u64, max_entries=100)
        for order in range(10):
            events.insert(order, order)
        inbox = arena.queue("inbox", value=u64, max_entries=8)
        inbox.push_many(range(4))
        yield Victim(arena, numbers, events, inbox)


@pytest.mark.parametrize("link", [NOWHERE, 0x123450, 4, 0x7FFFFFF8])
def test_a_link_that_leads_nowhere_is_damage_with_its_place(victim: Victim, link: int) -> None:
    victim.put(victim.events_entry(4), link, 4)
    for use in (
        lambda: list(victim.events),
        lambda: victim.events.get(9),
        lambda: victim.events.insert(20, 1),
        lambda: victim.events.delete(9),
        lambda: victim.events.replace(9, 1),
    ):
        with pytest.raises(arenads.DamagedError) as caught:
            use()
        assert caught.value.offset == link
        assert f"{link:#x}" in str(caught.value)
    assert victim.events.get(2) == 2  # what comes before is still there


@pytest.mark.parametrize("link", [NOWHERE, NOWHERE | 1, 0x123450])
def test_a_hash_map_s_shortcuts_that_lead_nowhere_are_damage(victim: Victim, link: int) -> None:
    table = victim.peek(victim.numbers.offset + TABLE, 4) + 64
    for bucket in range(victim.numbers.buckets):
        victim.put(table + 8 * bucket, link, 4)
    for use in (
        lambda: victim.numbers[1],
        lambda: victim.numbers.__setitem__(1, 1),
        lambda: victim.numbers.__delitem__(1),
        lambda: list(victim.numbers),
        lambda: 1 in victim.numbers,
    ):
        with pytest.raises(arenads.DamagedError):
            use()


@pytest.mark.parametrize("table", [0, NOWHERE, NOWHERE | 58 << 32, 64 << 32, MASK, 33 << 32 | 4096])
def test_a_table_that_lies_nowhere_is_damage(victim: Victim, table: int) -> None:
    victim.put(victim.numbers.offset + TABLE, table)
    for use in (
        lambda: victim.numbers[1],
        lambda: victim.numbers.__setitem__(1, 1),
        lambda: victim.numbers.__delitem__(1),
        lambda: victim.numbers.check(),
    ):
        with pytest.raises(arenads.DamagedError):
            use()
    with pytest.raises(arenads.DamagedError):
        victim.arena.structures["numbers"]


def test_a_list_that_runs_in_a_circle_ends_with_an_error(victim: Victim) -> None:
    first, last = victim.events_entry(0), victim.events_entry(9)
    victim.put(last, first, 4)
    for use in (
        lambda: victim.events.get(20),
        lambda: list(victim.events),
        lambda: victim.events.insert(20, 1),
    ):
        with pytest.raises((arenads.BudgetError, arenads.DamagedError)):
            use()
    assert victim.events.check().errors > 0


@pytest.mark.parametrize("top", [NOWHERE, 4, 0x123450])
def test_a_free_list_that_leads_nowhere_is_damage(victim: Victim, top: int) -> None:
    victim.events.delete(3)
    shards = victim.events.offset + POOL + SHARDS
    for shard in range(17):
        victim.put(shards + 64 * shard, top, 4)
    with pytest.raises(arenads.DamagedError):
        victim.events.insert(3, 3)
    assert victim.events.check().errors > 0
    assert victim.events.get(5) == 5


@pytest.mark.parametrize("stride", [0, 33, 64, 1 << 31, 0xFFFFFFE0])
def test_a_pool_with_another_stride_is_damage(victim: Victim, stride: int) -> None:
    victim.put(victim.events.offset + POOL + STRIDE, stride, 4)
    with pytest.raises(arenads.DamagedError):
        victim.events.check()
    with pytest.raises(arenads.DamagedError):
        victim.arena.structures["events"]


@pytest.mark.parametrize(
    ("field", "value"),
    [(TAIL, 1000), (TAIL, MASK), (RING_HEAD, 1000), (RING_HEAD, MASK - 100), (TAIL_SEEN, 5000)],
)
def test_positions_of_a_queue_that_cannot_be_are_damage(
    victim: Victim, field: int, value: int
) -> None:
    victim.put(victim.inbox.offset + field, value)
    with pytest.raises(arenads.DamagedError):
        for _ in range(20):
            victim.inbox.pop()
            victim.inbox.push(1)
    assert len(victim.inbox) <= 8


def test_a_queue_that_claims_more_slots_than_it_has_is_damage(victim: Victim) -> None:
    victim.put(victim.inbox.offset + 12, 1 << 31, 4)
    victim.put(victim.inbox.offset + TAIL, 1 << 30)
    for use in (victim.inbox.drain, lambda: victim.arena.structures["inbox"]):
        with pytest.raises(arenads.DamagedError):
            use()


@pytest.mark.parametrize("field", [0, 4, 8, 12])
def test_a_header_that_changed_is_damage_to_who_opens_it(victim: Victim, field: int) -> None:
    for it in (victim.numbers, victim.events, victim.inbox):
        victim.put(it.offset + field, 0xFFFF, 4)
        with pytest.raises(arenads.DamagedError):
            victim.arena.structures[it.name]


CURSORS = [0, 8, 1 << 40, MASK - 7, (2 << 20) - 8, 1025]


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_cursor_that_cannot_be_is_damage_to_who_allocates(victim: Victim, cursor: int) -> None:
    victim.put(ROOT + 64, cursor)
    with pytest.raises((arenads.DamagedError, arenads.ArenaFullError)):
        victim.arena.queue("large", value=Bytes[1024], max_entries=64)
    assert victim.numbers[7] == 7


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_cursor_that_cannot_be_does_not_upset_who_populates(victim: Victim, cursor: int) -> None:
    victim.put(ROOT + 64, cursor)
    with contextlib.suppress(arenads.ArenadsError):
        victim.arena.populate("64KiB")
    with contextlib.suppress(arenads.ArenadsError):
        victim.arena.provision("64KiB")
        victim.arena.provision(None)
    assert victim.numbers[7] == 7


def test_damage_is_counted(victim: Victim) -> None:
    victim.put(victim.events_entry(4), NOWHERE, 4)
    for _ in range(3):
        with pytest.raises(arenads.DamagedError):
            victim.events.get(9)
    assert victim.events.counters().damaged == 3
    assert victim.arena.statistics().damaged >= 3


@pytest.mark.parametrize("link", [NOWHERE, 0x123450, 1 << 31])
def test_the_check_says_where_it_found_what_cannot_be(victim: Victim, link: int) -> None:
    victim.put(victim.events_entry(4), link, 4)
    report = victim.events.check()
    assert report.errors > 0
    assert report.error_at == link
    assert victim.events.check(repair=True).repaired == 0  # nothing is repaired on such ground


def test_the_check_notices_an_entry_in_the_wrong_place(victim: Victim) -> None:
    hash_word = victim.events_entry(4) + HASH
    victim.put(hash_word, 1000)
    report = victim.events.check()
    assert report.errors > 0


# --- damage anywhere ------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 100, 200])
def test_random_damage_is_never_a_crash_or_a_hang(engine: str, pin: Path, first: int) -> None:
    count = 100 if engine == "native" else 20
    with arenads.create("2MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=200)
        numbers.update((number, number) for number in range(60))
        names = arena.hashmap("names", key=Bytes[13], value=Bytes[13], max_entries=64)
        names.update((bytes([number]) * 13, bytes([number]) * 13) for number in range(30))
        events = arena.list("events", value=u64, max_entries=50)
        for number in range(20):
            events.insert(2 * number, number)
        arena.queue("inbox", value=u64, max_entries=32).push_many(range(10))
        arena.pin(pin)
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "damage.py"), str(pin), str(first), str(count)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"seed {lines[-1:]}: {done.stderr}"
    assert "DamagedError" in lines[-1]


@pytest.mark.parametrize("link", [0, NOWHERE, 0x40, 0x123450, 1 << 31])
def test_a_program_on_damaged_memory_comes_back(
    engine: str, compiled: Callable[..., Path], link: int
) -> None:
    with arenads.load(compiled("anywhere", engine), engine=engine) as program:  # type: ignore[arg-type]
        events: Any = program.arena.list("events", value=Bytes[16], max_entries=100)
        for order in range(10):
            events.insert(order, bytes(16))
        victim = Victim(program.arena, None, events, None)
        victim.put(victim.events_entry(4), link, 4)
        runner: Any = program.runner("on_list", 32)
        for operation in range(5):
            words = operation | events.offset << 32, 20, 0, 0
            code = runner(b"".join(word.to_bytes(8, "little") for word in words))
            assert code in (0, -2, -40, -117)
        assert events.get(2) == bytes(16)


def test_a_program_on_a_list_that_runs_in_a_circle_gives_up_and_counts(
    engine: str, compiled: Callable[..., Path]
) -> None:
    with arenads.load(compiled("anywhere", engine), engine=engine) as program:  # type: ignore[arg-type]
        events: Any = program.arena.list("events", value=Bytes[16], max_entries=100)
        for order in range(10):
            events.insert(order, bytes(16))
        victim = Victim(program.arena, None, events, None)
        victim.put(victim.events_entry(9), victim.events_entry(0), 4)
        runner: Any = program.runner("on_list", 32)
        words = 4 | events.offset << 32, 20, 0, 0
        assert runner(b"".join(word.to_bytes(8, "little") for word in words)) == -40
        assert events.counters().budget == 1


def test_this_process_is_still_well() -> None:
    """What damage did to arenas did not reach the interpreter's own memory."""
    assert os.getpid() > 0
    with arenads.create("1MiB", engine="native") as arena:
        arena.hashmap("numbers", key=u64, value=u64).update((n, n) for n in range(1000))
