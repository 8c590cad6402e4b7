"""Snapshots: what is in them, in which form, and while BPF changes everything."""

from __future__ import annotations

import contextlib
import enum
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arenads
from arenads import Bytes, Str, i8, i16, i64, u8, u32, u64
from arenads.libbpf import PerfEvent

KEYS = 20_000
CONTEXT = struct.Struct("<3Q")
LAST_CPU = max(os.sched_getaffinity(0))


class Colour(enum.IntEnum):
    RED = 1
    GREEN = 7


class Point(msgspec.Struct, frozen=True):
    x: u8
    y: u32


class Task(msgspec.Struct):
    x: u64
    name: Str[12]
    colour: Colour
    points: arenads.Array[Point, 2]


def task(number: int) -> Task:
    return Task(number, f"task {number}", Colour.GREEN, [Point(1, number), Point(2, 3)])


# --- what is in them --------------------------------------------------------------------


def test_a_snapshot_of_a_hash_map_has_its_pairs(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u64, max_entries=5000)
    numbers.update_many(range(3000), [number * 7 for number in range(3000)])
    taken = numbers.snapshot()
    assert len(taken) == 3000
    assert sorted(taken) == sorted(numbers.items()) == [(n, n * 7) for n in range(3000)]


@pytest.mark.parametrize("entries", [0, 1, 2, 31, 32, 33, 1000])
def test_a_snapshot_has_every_key_whatever_the_size(arena: arenads.Arena, entries: int) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=2000)
    numbers.update_many(range(entries), range(entries))
    taken = numbers.snapshot()
    assert sorted(taken) == [(number, number) for number in range(entries)]
    assert len(taken.array) == entries


@pytest.mark.parametrize("size", [1, 3, 8, 24, 100, 512])
def test_a_snapshot_has_keys_of_any_size(arena: arenads.Arena, size: int) -> None:
    places = arena.hashmap("places", key=Bytes[size], value=i16, max_entries=300)
    model = {number.to_bytes(size, "little"): -number for number in range(200)}
    places.update_many(model)
    assert dict(places.snapshot()) == model


def test_a_snapshot_of_a_set_has_its_keys(arena: arenads.Arena) -> None:
    numbers = arena.set("numbers", key=u32, max_entries=1000)
    numbers.update(range(500))
    taken = numbers.snapshot()
    assert sorted(taken) == list(range(500))
    assert taken.array.dtype.names == ("key",)


def test_a_snapshot_of_an_ordered_map_is_in_order(arena: arenads.Arena) -> None:
    due = arena.orderedmap("due", key=i64, value=u8, max_entries=1000)
    due.update(dict.fromkeys(range(-200, 200, 3), 1))
    taken = due.snapshot()
    assert [key for key, _ in taken] == list(range(-200, 200, 3))
    assert taken.array["key"].tolist() == list(range(-200, 200, 3))
    words = arena.orderedmap("words", key=Str[9], value=u8, max_entries=10)
    words.update({"pear": 1, "apple": 2, "fig": 3})
    assert list(words.snapshot()) == [("apple", 2), ("fig", 3), ("pear", 1)]


BOUNDS = st.none() | st.integers(-45, 45)


@given(keys=st.sets(st.integers(-40, 40)), start=BOUNDS, stop=BOUNDS)
@settings(max_examples=50)
def test_a_snapshot_of_a_range_has_what_a_sorted_dict_has_there(
    engine: str, keys: set[int], start: int | None, stop: int | None
) -> None:
    with arenads.create("256KiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.orderedmap("numbers", key=i8, value=u64)
        numbers.update({key: key + 100 for key in keys})
        wanted = [
            (key, key + 100)
            for key in sorted(keys)
            if (start is None or key >= start) and (stop is None or key < stop)
        ]
        assert list(numbers.snapshot(start, stop)) == wanted
        assert list(numbers.range(start, stop)) == wanted


LONG = st.integers(0, 70_000).map(lambda number: b"the same" + number.to_bytes(12, "big"))


@given(keys=st.sets(LONG), start=LONG, stop=LONG)
@settings(max_examples=50)
def test_a_snapshot_of_a_range_of_bytes_looks_at_whole_keys(
    engine: str, keys: set[bytes], start: bytes, stop: bytes
) -> None:
    with arenads.create("256KiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.orderedmap("numbers", key=Bytes[20], value=u64)
        numbers.update(dict.fromkeys(keys, 1))
        wanted = [key for key in sorted(keys) if start <= key < stop]
        assert [key for key, _ in numbers.snapshot(start, stop)] == wanted
        assert [key for key, _ in numbers.range(start, stop)] == wanted


def test_a_snapshot_of_a_range_of_text_is_in_the_order_of_its_bytes(arena: arenads.Arena) -> None:
    names = arena.orderedmap("names", key=Str[16], value=u32)
    names.update({"alice": 1, "bob": 2, "bobby": 3, "carol": 4})
    assert list(names.snapshot("b", "bobby")) == [("bob", 2)]
    assert list(names.snapshot("bob", "c")) == [("bob", 2), ("bobby", 3)]


def test_a_snapshot_of_a_range_is_an_array_and_an_arrow_table(arena: arenads.Arena) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    tasks = arena.orderedmap("tasks", key=i8, value=Task)
    tasks.update({number: task(number) for number in range(10)})
    taken = tasks.snapshot(start=3, stop=6)
    assert taken.array["key"].tolist() == [3, 4, 5]
    assert pyarrow.table(taken)["key"].to_pylist() == [3, 4, 5]
    assert [value for _, value in taken] == [task(number) for number in (3, 4, 5)]


def test_a_snapshot_of_a_large_range_takes_several_calls(arena: arenads.Arena) -> None:
    numbers = arena.orderedmap("numbers", key=u32, value=u32, max_entries=100_000)
    numbers.update_many(range(100_000), range(100_000))
    taken = numbers.snapshot(10, 90_010)
    assert taken.array["key"].tolist() == list(range(10, 90_010))
    assert len(numbers.snapshot(start=99_999)) == 1
    assert len(numbers.snapshot(start=100_000)) == len(numbers.snapshot(5, 5)) == 0


def test_a_bound_that_is_no_key_is_refused(arena: arenads.Arena) -> None:
    numbers = arena.orderedmap("numbers", key=u32, value=u32)
    for bounds in [("x",), (-1,), (0, 1 << 32)]:
        with pytest.raises(arenads.SchemaError, match="expected an integer from 0"):
            numbers.snapshot(*bounds)
        with pytest.raises(arenads.SchemaError, match="expected an integer from 0"):
            numbers.range(*bounds)


def test_a_range_goes_on_where_the_entry_that_ended_it_has_gone(arena: arenads.Arena) -> None:
    numbers = arena.orderedmap("numbers", key=u32, value=u32, max_entries=4000)
    numbers.update_many(range(0, 4000, 2), range(2000))
    found = []
    for key, _ in numbers.range(10, 3000):
        found.append(key)
        numbers.pop(key), numbers.pop(3000, None)
        numbers[1] = 1
        numbers[key] = 1
    assert found == list(range(10, 3000, 2))


def test_a_snapshot_of_a_list_has_orders_and_values(arena: arenads.Arena) -> None:
    events = arena.list("events", value=u32)
    for order in (9, 2, 5):
        events.insert(order, order * 10)
    taken = events.snapshot()
    assert list(taken) == [(2, 20), (5, 50), (9, 90)]
    assert taken.array.dtype.names == ("order", "value")


def test_a_snapshot_of_an_array_has_indexes_and_values(arena: arenads.Arena) -> None:
    counts = arena.array("counts", value=Point, max_entries=70_000)
    assert len(counts.snapshot()) == 0
    counts[69_999] = Point(1, 2)
    counts[5] = Point(3, 4)
    taken = counts.snapshot()
    assert list(taken) == list(counts.items())
    assert (len(taken), taken[5], taken[-1]) == (
        counts.populated,
        (5, Point(3, 4)),
        (69_999, Point(1, 2)),
    )
    assert taken.array["index"].tolist() == [index for index, _ in counts.items()]


@pytest.mark.parametrize("kind", ["queue", "mpmc"])
def test_a_snapshot_of_a_queue_has_what_waits_and_takes_nothing(
    arena: arenads.Arena, kind: str
) -> None:
    queue = getattr(arena, kind)("queue", value=Task, max_entries=512)
    queue.push_many([task(number) for number in range(300)])
    assert queue.pop() == task(0)
    taken = queue.snapshot()
    assert list(taken) == [task(number) for number in range(1, 300)]
    assert taken.array["value"]["x"].tolist() == list(range(1, 300))
    assert len(queue) == 299


@pytest.mark.parametrize("kind", ["queue", "mpmc", "pool"])
def test_a_snapshot_of_what_is_empty_has_no_records(arena: arenads.Arena, kind: str) -> None:
    taken = getattr(arena, kind)("empty", value=u32).snapshot()
    assert (len(taken), list(taken), len(taken.array)) == (0, [], 0)


@pytest.mark.parametrize("value", [u8, u64, Bytes[13], Task])
def test_a_snapshot_of_a_pool_has_the_objects_in_use(arena: arenads.Arena, value: Any) -> None:
    pool = arena.pool("pool", value=value, max_entries=2000)
    make = {u8: lambda n: n % 251, u64: int, Task: task}.get(value, lambda n: b"%013d" % n)
    addresses = [pool.alloc(make(number)) for number in range(1000)]
    for address in addresses[::3]:
        pool.free(address)
    taken = pool.snapshot()
    assert sorted(address for address, _ in taken) == sorted(set(addresses) - set(addresses[::3]))
    assert dict(taken) == dict(pool.items())
    assert taken.array["address"].tolist() == [address for address, _ in taken]


def test_a_snapshot_of_an_intrusive_list_has_its_records_in_order(arena: arenads.Arena) -> None:
    class Job(msgspec.Struct):
        pid: u32
        node: arenads.Node = arenads.Node()

    jobs = arena.pool("jobs", value=Job, max_entries=1000)
    ready = arena.intrusive("ready", pool=jobs, member="node")
    for pid in range(600):
        ready.push(jobs.alloc(Job(pid)))
    taken = ready.snapshot()
    assert [job.pid for _, _, job in taken] == list(range(600))[::-1]
    assert [(order, address) for order, address, _ in taken] == list(ready.items())
    assert taken.array["address"].tolist() == list(ready)


def test_a_snapshot_of_a_sparse_array_is_small(arena: arenads.Arena) -> None:
    pages = arena.array("pages", value=Bytes[4096], max_entries=1_000_000)
    pages[5] = pages[999_000] = b"a" * 4096
    assert pages.snapshot().nbytes < arena.size
    assert dict(pages.snapshot())[999_000] == b"a" * 4096


def test_a_process_without_memory_for_a_snapshot_says_so(python: Callable[..., Any]) -> None:
    done = python("""
        import resource
        import arenads
        with arenads.create("64MiB", engine="native", provision=None) as arena:
            pages = arena.array("pages", value=arenads.Bytes[4096], max_entries=10_000)
            for index in range(0, 10_000, 4):
                pages[index] = bytes(4096)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), -1))
            try:
                pages.snapshot()
            except arenads.NoMemoryError as error:
                print(error.size > 16 << 20)
    """)
    assert done.stdout == "True\n"


def test_a_snapshot_reads_through_a_read_only_arena(
    arena: arenads.Arena, pin: Path, python: Callable[..., Any]
) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u32, max_entries=5000)
    numbers.update_many(range(4000), range(4000))
    arena.pin(pin)
    done = python(
        """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            print(sorted(arena.structures["numbers"].snapshot()) == [(n, n) for n in range(4000)])
        """,
        pin,
    )
    assert done.stdout == "True\n"


def test_a_snapshot_outlives_its_arena(engine: str) -> None:
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("numbers", key=u32, value=u32)
        numbers[1] = 2
        taken = numbers.snapshot()
        array = taken.array
    assert list(taken) == [(1, 2)]
    del taken
    assert array.tolist() == [(1, 2)]


def test_a_snapshot_of_a_closed_or_removed_structure_says_so(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u32)
    arena.remove("numbers")
    with pytest.raises(arenads.RemovedError):
        numbers.snapshot()
    arena.close()
    with pytest.raises(arenads.ClosedError):
        numbers.snapshot()


def test_growth_makes_room_for_more_records_than_were_counted(
    arena: arenads.Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u64, max_entries=20_000)
    numbers.update_many(range(20_000), range(20_000))
    monkeypatch.setattr(type(numbers), "__len__", lambda self: 3)
    assert sorted(numbers.snapshot()) == [(number, number) for number in range(20_000)]


# --- in which form ----------------------------------------------------------------------


def test_a_snapshot_is_a_sequence(arena: arenads.Arena) -> None:
    due = arena.orderedmap("due", key=u32, value=u32)
    due.update({1: 10, 2: 20, 3: 30})
    taken = due.snapshot()
    assert (taken[0], taken[-1], taken[1:], taken[::-2]) == (
        (1, 10),
        (3, 30),
        [(2, 20), (3, 30)],
        [(3, 30), (1, 10)],
    )
    assert (2, 20) in taken
    with pytest.raises(IndexError):
        taken[3]
    assert repr(taken) == "<Snapshot of ordered map 'due', 3 records>"


def test_the_array_is_typed_and_on_the_same_memory(arena: arenads.Arena) -> None:
    tasks = arena.hashmap("tasks", key=u32, value=Task, max_entries=100)
    tasks[5] = task(5)
    taken = tasks.snapshot()
    array = taken.array
    assert array["value"]["name"].tolist() == [b"task 5"]
    assert array["value"]["points"]["y"].tolist() == [[5, 3]]
    assert array.itemsize * len(array) == taken.nbytes
    assert taken.array is array
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array["key"][0] = 6


def test_the_array_cannot_be_made_writable(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u32)
    assert not numbers.snapshot().array.flags.writeable
    numbers[1] = 2
    array = numbers.snapshot().array
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)


def test_numpy_takes_a_snapshot_as_it_is(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u32, value=u64)
    numbers[1] = 2
    taken = numbers.snapshot()
    assert numpy.asarray(taken).tolist() == [(1, 2)]
    copied = numpy.array(taken)
    copied["value"] = 3
    assert list(taken) == [(1, 2)]


def test_padding_of_records_is_zero(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u8, value=arenads.Bytes[3], max_entries=10)
    bytes_of_ones = arena.hashmap("wide", key=u8, value=u64, max_entries=10)
    for number in range(10):
        numbers[number] = b"\xff\xff\xff"
        bytes_of_ones[number] = (1 << 64) - 1
    assert numbers.snapshot().array.itemsize == 4
    raw = bytes_of_ones.snapshot()
    padding = raw.array.view(numpy.uint8).reshape(len(raw), raw.array.itemsize)[:, 1:8]
    assert not padding.any()


def test_flattening_makes_members_columns(arena: arenads.Arena) -> None:
    tasks = arena.hashmap("tasks", key=u32, value=Task)
    tasks[5] = task(5)
    flat = tasks.snapshot().flatten()
    assert flat.array.dtype.names == ("key", "x", "name", "colour", "points")
    assert (flat.array["key"][0], flat.array["name"][0]) == (5, b"task 5")
    assert list(flat) == [(5, task(5))]


# --- while BPF changes everything -------------------------------------------------------


class Churn:
    """Runs `churn` again and again in a thread, on the last CPU."""

    def __init__(self, program: arenads.Program) -> None:
        self.runner: Any = program.runner("churn", CONTEXT.size)
        self.round = 1
        self.refused = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        os.sched_setaffinity(threading.get_native_id(), {LAST_CPU})
        while not self.stop.is_set():
            assert self.runner(CONTEXT.pack(100_000, self.round, 0)) == 0
            _, self.round, refused = CONTEXT.unpack(self.runner.context)
            self.refused += refused

    def __enter__(self) -> Churn:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def watch(program: arenads.Program, seconds: float) -> tuple[int, int, int]:
    """Take snapshots of what BPF changes and check each; how many, of how many records, rounds."""
    records: Any = program["records"]
    assert program.run("fill", CONTEXT.pack(KEYS, 0, 0)).value == 0
    stable = numpy.arange(0, KEYS, 4)
    newest = numpy.zeros(KEYS, "u8")
    snapshots = seen = 0
    with Churn(program) as churn:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or churn.round < 500_000:
            array = records.snapshot().array
            keys, words = array["key"], array["value"]["words"]
            assert (words == words[:, :1]).all(), "a record of two writers"
            assert (words[:, 0] >> 40 == keys).all(), "a value of another key"
            order = numpy.argsort(keys)
            keys, rounds = keys[order], words[order, 0] & ((1 << 40) - 1)
            assert (keys[1:] > keys[:-1]).all(), "a key twice"
            assert numpy.isin(stable, keys, assume_unique=True).all(), (
                "a key that was there throughout is not"
            )
            assert (rounds >= newest[keys]).all(), "an older value than one seen before"
            newest[keys] = rounds
            snapshots += 1
            seen += len(array)
    assert churn.refused == 0
    assert records.check().errors == 0
    return snapshots, seen, churn.round


def changed_at_full_speed(
    compiled: Callable[..., Path], engine: str, structure: str, seconds: float
) -> None:
    path = compiled("snapshot", engine, (f"STRUCTURE={structure}",))
    with arenads.load(path, engine=engine) as program:  # type: ignore[arg-type]
        program.arena.populate(32 << 20)
        snapshots, seen, rounds = watch(program, seconds)
    print(f"\n{engine} {structure}: {snapshots} snapshots, {seen} records, {rounds} operations")
    assert snapshots >= 3


@pytest.mark.parametrize("structure", ["ADS_HASHMAP", "ADS_ORDEREDMAP"])
def test_snapshots_are_whole_while_bpf_changes_everything(
    compiled: Callable[..., Path], engine: str, structure: str
) -> None:
    changed_at_full_speed(compiled, engine, structure, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["ADS_HASHMAP", "ADS_ORDEREDMAP"])
def test_snapshots_are_whole_for_a_long_time(
    compiled: Callable[..., Path], engine: str, structure: str
) -> None:
    changed_at_full_speed(compiled, engine, structure, 60)


# --- while BPF makes it grow --------------------------------------------------------------

GROWING = struct.Struct("<7Q")
WRITERS = 64
# What is compiled, and how many keys there are in the end.
GROWN: dict[str, tuple[tuple[str, ...], int]] = {
    "hash map": (("STRUCTURE=ADS_HASHMAP",), 40_000),
    "hash map, grace": (("STRUCTURE=ADS_HASHMAP", "FLAGS=ADS_GRACE"), 40_000),
    "ordered map": (("STRUCTURE=ADS_ORDEREDMAP",), 20_000),
    "ordered map, grace": (("STRUCTURE=ADS_ORDEREDMAP", "FLAGS=ADS_GRACE"), 20_000),
    "set": (("AS_SET=1",), 40_000),
    "list": (("AS_LIST=1",), 600),
}


class Writer:
    """Runs `churn` again and again in a thread on one CPU; keys of its own are there once told."""

    def __init__(self, program: arenads.Program, number: int, cpu: int, limit: int) -> None:
        self.runner: Any = program.runner("churn", GROWING.size)
        self.number, self.cpu, self.limit = number, cpu, limit
        self.round, self.next = 1, 4 * number
        self.refused = self.full = 0
        self.failed: BaseException | None = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        try:
            os.sched_setaffinity(threading.get_native_id(), {self.cpu})
            while not self.stop.is_set():
                work = (2000, self.round, self.number, self.next, self.limit, 0, 0)
                assert self.runner(GROWING.pack(*work)) == 0
                _, self.round, _, self.next, _, refused, full = GROWING.unpack(self.runner.context)
                self.refused += refused
                self.full += full
        except BaseException as error:
            self.failed = error

    def stable(self, until: int) -> numpy.ndarray[Any, Any]:
        """The keys that it had inserted before it came to this one, and that stay."""
        return numpy.arange(4 * self.number, until, 8)


@contextlib.contextmanager
def growing(
    compiled: Callable[..., Path], engine: str, kind: str
) -> Iterator[tuple[arenads.Program, list[Writer], Any]]:
    """Start what makes a small structure grow: two runners and, in the kernel, more."""
    defines, most = GROWN[kind]
    path = compiled("growing", engine, (*defines, f"MOST={most}"))
    size = "64MiB"
    with contextlib.ExitStack() as stack:
        arena = stack.enter_context(arenads.create(size, engine=engine, populate=size))  # type: ignore[arg-type]
        value = msgspec.defstruct("value", [("words", arenads.Array[u64, 6])])
        small: Any = {"max_entries": 2 * most, "initial_entries": 1}
        if kind.startswith("hash map"):
            reclaim = "grace" if "grace" in kind else "immediate"
            arena.hashmap("records", key=u64, value=value, reclaim=reclaim, **small)
        elif kind == "set":
            arena.set("records", key=u64, **small)
        program = stack.enter_context(arenads.load(path, arena=arena))
        cpus = sorted(os.sched_getaffinity(0))
        writers = [Writer(program, n, cpus[n - 2 if len(cpus) > 1 else 0], 16) for n in (0, 1)]
        if engine == "kernel":
            links = [
                *program.attach("on_switch"),
                *program.attach("interrupt", perf_event=PerfEvent(period=100_000)),
            ]
            for link in links:
                stack.callback(link.close)
        try:
            for writer in writers:
                writer.thread.start()
            yield program, writers, program["records"]
        finally:
            for writer in writers:
                writer.stop.set()
                writer.thread.join()


def expect_whole(array: Any, stable: Any, newest: Any) -> None:
    """One snapshot, sorted by its keys: each once, none missing, none torn, none from before."""
    order = numpy.argsort(array[array.dtype.names[0]])
    keys = array[array.dtype.names[0]][order]
    assert (keys[1:] > keys[:-1]).all(), "a key twice"
    missing = numpy.setdiff1d(stable, keys, assume_unique=True)
    assert not len(missing), f"keys that were there throughout are not: {missing[:5]}"
    if "value" not in array.dtype.names:
        return
    words = array["value"]["words"][order]
    assert (words == words[:, :1]).all(), "a record of two writers"
    word = words[:, 0]
    assert (word >> 40 == keys).all(), "a value of another key"
    writer, round_ = word >> 32 & 0xFF, word & 0xFFFFFFFF
    assert (round_ >= newest[keys, writer]).all(), "an older value of a writer than one seen before"
    newest[keys, writer] = round_


def grown_beside_snapshots(
    compiled: Callable[..., Path], engine: str, kind: str, seconds: float
) -> None:
    most = GROWN[kind][1]
    newest = numpy.zeros((most, WRITERS), "u4")
    sizes: list[int] = []
    with growing(compiled, engine, kind) as (program, writers, records):
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds or len(sizes) < 5:
            for writer in writers:
                writer.limit = max(16, int(most * min(passed / seconds, 1)))
            # Read before the snapshot begins: what is there now stays.
            stable = numpy.concatenate([writer.stable(writer.next) for writer in writers])
            array = records.snapshot().array
            expect_whole(array, stable, newest)
            sizes.append(len(array))
        nested = (0, 0)
        if engine == "kernel":
            nested = struct.unpack("<2Q", program.run("tell", bytes(16)).context)
    for writer in writers:
        assert writer.failed is None and writer.refused == 0
        assert writer.full == 0 or "grace" in kind
    rounds = sum(writer.round for writer in writers)
    print(
        f"\n{engine} {kind}: {len(sizes)} snapshots of {sizes[0]} to {max(sizes)} records,"
        f" {sum(sizes)} in all, {rounds} operations and {nested[0]} nested; full"
        f" {sum(writer.full for writer in writers)}"
    )
    assert nested[1] == 0
    assert (nested[0] > 0) == (engine == "kernel")
    assert sizes[0] < most / 8 and max(sizes) > most / 4


@pytest.mark.parametrize("kind", GROWN)
def test_snapshots_are_whole_while_a_structure_grows(
    compiled: Callable[..., Path], engine: str, kind: str
) -> None:
    grown_beside_snapshots(compiled, engine, kind, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GROWN)
def test_snapshots_are_whole_while_a_structure_grows_for_a_long_time(
    compiled: Callable[..., Path], engine: str, kind: str
) -> None:
    grown_beside_snapshots(compiled, engine, kind, 40)
