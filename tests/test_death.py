"""A writer that is killed, or stopped, before any shared operation disturbs nobody.

For each operation, for every N: a process is killed by SIGKILL before its N-th access to shared
memory, until N is more than it needs. Whatever it left behind must be the state before the
operation or the state after it, with at most one entry leaked; and BPF and Python both go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from conftest import PROGRAMS, child_environment

import arenads
from arenads import compiler, u64

ALL_CPUS = os.sched_getaffinity(0)
INSERT, REPLACE, UPDATE, DELETE, GET, PUSH, LEN, CHECK = range(8)
ABSENT, EXISTS = -2, -17
OLD, NEW, OTHER = (1, 10), (2, 20), (3, 30)
KEY = 100
NEIGHBOURS = {10: (10, 10), 50: (50, 50), 200: (200, 200)}
CAPACITY = 24
MOST_POINTS = 500
# With this one KEY and 10 and 200 share a bucket, one before it and one behind it.
SEED = 2000339
SEED_OFFSET, TABLE_OFFSET = 16, 24  # in struct ads_header
OWNERS_OFFSET = 120  # in the root: the registry's {lines:32, offset:32}
THREAD_ID = (1 << 30) - 1  # in a line's first word


class Pair(msgspec.Struct, frozen=True):
    first: u64
    second: u64


@pytest.fixture(scope="module", autouse=True)
def one_cpu() -> Iterator[None]:
    """Stay on one CPU: it decides which free list an entry comes from, so what is counted."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@contextlib.contextmanager
def another_cpu() -> Iterator[None]:
    """Do something on another CPU, if there is one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(ALL_CPUS)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """programs/victim.c, compiled."""
    program = tmp_path_factory.mktemp("victim") / "victim"
    found = compiler.find_host_compiler()
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{compiler.include_dir()}"]
    source = PROGRAMS / "victim.c"
    subprocess.run([*found.command, *flags, str(source), "-o", str(program)], check=True)
    return program


class Reply(NamedTuple):
    """How an operation went: it ended with a code, died, or stopped."""

    how: str
    number: int  # the code, the signal or the process
    points: int = 0

    @property
    def ended(self) -> bool:
        return self.how == "ended"


class World:
    """A pinned arena, this process's view of it, a program that works on it, and the victims."""

    def __init__(self, engine: str, program: Path, pin: Path, victim: Path) -> None:
        self.engine: Any = engine
        self.object = program
        self.pin = pin
        self.victim = victim
        # Found by trying, when they are needed.
        self.deadly_point: dict[str, int] = {}
        self.growing_seed = 0
        self.open()

    def open(self) -> None:
        self.names = itertools.count()
        # All populated: whether an operation has to do it would change the number of points.
        self.arena = arenads.create("16MiB", engine=self.engine, populate="16MiB", provision=None)
        self.program = arenads.load(self.object, arena=self.arena)
        self.arena.pin(self.pin)
        self.process = subprocess.Popen(
            [str(self.victim), str(self.pin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.runners = {
            kind: self.program.runner(f"on_{kind}", 32)
            for kind in ("hashmap", "list", "queue", "pool")
        }

    def close(self) -> None:
        self.process.communicate()
        self.program.close()
        self.arena.close()
        arenads.unlink(self.pin)
        assert self.process.returncode == 0

    def make(self, kind: str, max_entries: int = CAPACITY, *, seed: int = SEED, **more: Any) -> Any:
        number = next(self.names)
        if number == 900:  # more than a directory takes
            self.close()
            self.open()
        if kind == "hashmap":
            more["key"] = u64
        make = getattr(self.arena, kind)
        it = make(f"{kind} {number}", value=Pair, max_entries=max_entries, **more)
        if kind == "hashmap":
            set_seed(it, seed)
        return it

    def prepare(self, kind: str, state: str) -> Any:
        """Make a structure in one of the states in which an operation may find it."""
        if state in ("growing", "grown"):
            it = self.make(kind, seed=self.seed_that_grows(), initial_entries=1)
        else:
            it = self.make(kind)
        if state == "untouched":
            return it
        fill(it, NEIGHBOURS)
        others = iter(range(300, 300 + CAPACITY))
        if state == "spent":  # the next entry needs a new block of memory
            while it.check().unused:
                fill(it, {next(others): OTHER})
        elif state == "full":
            fill(it, dict.fromkeys(itertools.islice(others, CAPACITY - len(NEIGHBOURS) - 1), OTHER))
        elif state in ("freed", "freed elsewhere", "replaced", "marked"):
            # Uses the pool up, so that what follows takes an entry that was freed.
            keys = list(itertools.islice(others, CAPACITY - len(NEIGHBOURS)))
            fill(it, dict.fromkeys(keys, OTHER))
            if state == "replaced":
                for key in NEIGHBOURS:
                    it.replace(key, Pair(*NEIGHBOURS[key]))
            with another_cpu() if state == "freed elsewhere" else contextlib.nullcontext():
                for key in keys[:4] if state == "replaced" else keys:
                    remove(it, key)
        if state == "marked":
            self.leave_a_deleted_entry(kind, it)
        return it

    def leave_a_deleted_entry(self, kind: str, it: Any) -> None:
        """Let a process die between marking an entry and unlinking it."""
        known = [self.deadly_point[kind]] if kind in self.deadly_point else []
        for stop in [*known, *range(1, MOST_POINTS)]:
            if 90 not in contents(it):
                it.insert(90, Pair(*OTHER))
            self.let_die(it, DELETE, stop, key=90)
            if it.check().deleted:
                assert 90 not in contents(it)
                self.deadly_point[kind] = stop
                return
        raise AssertionError("no death leaves a deleted entry")

    def seed_that_grows(self) -> int:
        """With it, storing KEY makes a small map grow: not every key has it look at its load."""
        if not self.growing_seed:
            it = self.make("hashmap", initial_entries=1)
            before = table_of(it)
            for seed in range(1, 5000):
                set_seed(it, seed)
                it[KEY] = Pair(*OTHER)
                del it[KEY]
                if table_of(it) != before:
                    self.growing_seed = seed
                    break
            else:
                raise AssertionError("no seed makes the map grow")
        return self.growing_seed

    def let_die(
        self,
        it: Any,
        operation: int,
        stop: int,
        *,
        key: int = 0,
        value: tuple[int, int] | None = None,
        number: int = signal.SIGKILL,
    ) -> Reply:
        """Let a child do an operation, and die before its shared operation `stop`."""
        first, second = value or (0, 0)
        reply = self.ask(it.kind, operation, it.offset, key, first, second, stop, int(number))
        self.forget_the_dead()
        assert reply.ended or reply.how == "stopped" or reply.number == number
        return reply

    def forget_the_dead(self) -> None:
        """Free their lines in the registry, which no reaper does here.

        A thread looks for a free one before its first write: if the lines of all who died were in
        its way, an operation would have hundreds of points before those that count.
        """
        words = memoryview((ctypes.c_uint64 * (1 << 21)).from_address(self.arena.base)).cast("B")
        words = words.cast("Q")
        first, count = words[OWNERS_OFFSET // 8] & 0xFFFF_FFFF, words[OWNERS_OFFSET // 8] >> 32
        lines = words[first // 8 : first // 8 + 8 * count]
        for line, who in enumerate(lines[::8]):
            if who and not Path(f"/proc/{who & THREAD_ID}").exists():
                lines[8 * line] = 0

    def let_stop(self, *arguments: Any, **more: Any) -> Reply:
        """Let a child do an operation, and stop before its shared operation `stop`."""
        return self.let_die(*arguments, number=signal.SIGSTOP, **more)

    def go_on(self, stopped: Reply) -> Reply:
        """Let a child that has stopped go on to the end."""
        assert stopped.how == "stopped"
        return self.ask(0, stopped.number)

    def ask(self, *numbers: int) -> Reply:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, numbers)) + "\n")
        self.process.stdin.flush()
        how, *found = self.process.stdout.readline().split()
        return Reply(how, *map(int, found))

    def run(
        self, on: Any, operation: int, key: int = 0, value: tuple[int, int] = (0, 0)
    ) -> tuple[int, int, tuple[int, int]]:
        """Have the program do it: its code, the key and the value that it left."""
        runner: Any = self.runners[type(on).__name__.lower()]
        words = operation | on.offset << 32, key, *value
        code = runner(b"".join(word.to_bytes(8, "little") for word in words))
        key, first, second = memoryview(bytes(runner.context[8:32])).cast("Q")
        return code, key, (first, second)


def set_seed(it: Any, seed: int) -> None:
    """Choose where keys lie. Only while the map is empty."""
    ctypes.c_uint64.from_address(it.arena.base + it.offset + SEED_OFFSET).value = seed


def table_of(it: Any) -> int:
    """The map's table of shortcuts, another one when it has grown."""
    return ctypes.c_uint64.from_address(it.arena.base + it.offset + TABLE_OFFSET).value


@pytest.fixture(scope="module")
def world(
    engine: str, compiled: Callable[..., Path], pin_directory: Path, victim: Path
) -> Iterator[World]:
    world = World(engine, compiled("anywhere", engine), pin_directory / "dying", victim)
    yield world
    world.close()


# --- what the operations mean -------------------------------------------------------------

Contents = dict[int, tuple[int, int]]


def contents(of: Any) -> Contents:
    return {key: (pair.first, pair.second) for key, pair in of.items()}


def fill(of: Any, what: Contents) -> None:
    for key, value in what.items():
        of.insert(key, Pair(*value))


def remove(of: Any, key: int) -> None:
    if isinstance(of, arenads.HashMap):
        del of[key]
    else:
        of.delete(key)


def go_on(world: World, it: Any, found: Contents) -> None:
    """BPF and Python both read and write the key and its neighbours; then all is as it was."""
    run = world.run
    for key in (KEY, *NEIGHBOURS, 7):
        code, _, value = run(it, GET, key)
        assert code == (0 if key in found else ABSENT)
        assert code or value == found[key]
    for key in NEIGHBOURS.keys() & found.keys():
        assert run(it, REPLACE, key, OTHER)[0] == 0
        it.replace(key, Pair(*found[key]))
        assert run(it, DELETE, key)[0] == 0
        assert run(it, GET, key)[0] == ABSENT
        assert run(it, INSERT, key, found[key])[0] == 0
        remove(it, key)
        it.insert(key, Pair(*found[key]))
    if KEY in found:
        assert run(it, INSERT, KEY, OTHER)[0] == EXISTS
        assert run(it, UPDATE, KEY, OTHER)[0] == 0
        assert contents(it)[KEY] == OTHER
        remove(it, KEY)
        assert run(it, DELETE, KEY)[0] == ABSENT
        assert run(it, INSERT, KEY, found[KEY])[0] == 0
    else:
        assert run(it, DELETE, KEY)[0] == ABSENT
        assert run(it, REPLACE, KEY, OTHER)[0] == ABSENT
        with pytest.raises(arenads.KeyAbsentError):
            remove(it, KEY)
    assert contents(it) == found


def expect_books(it: Any, most_leaked: int) -> None:
    """The check finds at most what may have leaked, gives it back, and all entries fit again."""
    found = contents(it)
    report = it.check()
    assert report.errors == 0, report
    assert report.leaked <= most_leaked, report
    assert report.live == len(found)
    assert it.check(repair=True).repaired == report.leaked
    after = it.check()
    assert (after.leaked, after.errors) == (0, 0), after
    for key in range(1000, 1000 + CAPACITY - len(found)):
        it.insert(key, Pair(*OTHER))
    with pytest.raises(arenads.CapacityError):
        it.insert(2000, Pair(*OTHER))
    assert it.check().live == CAPACITY
    assert len(it) == CAPACITY


# --- kill -9 at every point ----------------------------------------------------------------

STATES = ["untouched", "fresh", "spent", "freed", "freed elsewhere", "full", "replaced", "marked"]
OPERATIONS = {
    "insert": (INSERT, None, NEW),
    "replace": (REPLACE, OLD, NEW),
    "update of an absent key": (UPDATE, None, NEW),
    "update of a present key": (UPDATE, OLD, NEW),
    "delete": (DELETE, OLD, None),
}
# The code that dies is the same on both engines; only what goes on afterwards is not.
ALSO_NATIVE = ("fresh", "freed", "full", "grown")


def cases(*without: str) -> list[Any]:
    """All combinations of engine, kind, operation and state that make sense."""
    return [
        pytest.param(
            engine,
            kind,
            *operation,
            state,
            id=f"{engine}-{kind}-{name}-{state}",
            marks=getattr(pytest.mark, engine),
        )
        for engine in ("kernel", "native")
        for kind in ("hashmap", "list")
        for name, operation in OPERATIONS.items()
        for state in STATES + (["growing", "grown"] if kind == "hashmap" else [])
        if state not in without and (engine == "kernel" or state in ALSO_NATIVE)
    ]


def each_case(*without: str) -> pytest.MarkDecorator:
    names = ("engine", "kind", "operation", "before", "after", "state")
    return pytest.mark.parametrize(names, cases(*without), indirect=["engine"])


@each_case()
def test_death_of_a_writer_leaves_the_old_state_or_the_new(
    world: World,
    kind: str,
    operation: int,
    before: tuple[int, int] | None,
    after: tuple[int, int] | None,
    state: str,
) -> None:
    seen = set()
    for stop in range(1, MOST_POINTS):
        it = world.prepare(kind, state)
        if before is not None:
            it.insert(KEY, Pair(*before))
        if state == "grown":
            # Until it has grown once more, and nobody has used the new table yet.
            table = table_of(it)
            it.update({KEY: Pair(*OLD)})
            assert table_of(it) != table
            if before is None:
                del it[KEY]
        old = contents(it)
        new = {key: value for key, value in old.items() if key != KEY}
        new |= {} if after is None else {KEY: after}
        report = it.check()
        leaked_before = report.leaked + report.deleted  # those become leaked when they are unlinked
        reply = world.let_die(it, operation, stop, key=KEY, value=after)
        found = contents(it)
        assert found in (old, new), stop
        seen.add(found == new)
        if state == "full":  # room for the entry that may have leaked, until the repair
            remove(it, 300)
            found.pop(300)
        go_on(world, it, found)
        expect_books(it, leaked_before + (0 if reply.ended else 1))
        if reply.ended:
            assert reply.number == 0
            # Fewer on a CPU whose shard is another: each of them has been deadly before.
            assert 0 < reply.points < stop
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert stop > 5, "the operation has no points: is this the test build?"
    assert seen == {False, True}, "no death was before, or none after the commit"


@pytest.mark.parametrize("state", STATES)
def test_death_of_a_push_onto_a_list_leaves_all_or_nothing(world: World, state: str) -> None:
    for stop in range(1, MOST_POINTS):
        it = world.prepare("list", state)
        old = contents(it)
        report = it.check()
        leaked_before = report.leaked + report.deleted  # those become leaked when they are unlinked
        reply = world.let_die(it, PUSH, stop, value=NEW)
        found = contents(it)
        order = min(old) - 1 if old else 1 << 63
        assert found in (old, {**old, order: NEW})
        if state == "full":
            remove(it, 300)
            found.pop(300)
        code, pushed, _ = world.run(it, PUSH, 0, OTHER)
        assert (code, pushed) == (0, min(found) - 1 if found else 1 << 63)
        it.delete(pushed)
        go_on(world, it, found)
        expect_books(it, leaked_before + (0 if reply.ended else 1))
        if reply.ended:
            assert order in found
            assert 0 < reply.points < stop
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert stop > 5


@pytest.mark.parametrize("kind", ["hashmap", "list"])
def test_death_of_a_reader_leaves_no_trace(world: World, kind: str) -> None:
    it = world.prepare(kind, "marked")
    it.insert(KEY, Pair(*OLD))
    before = ctypes.string_at(world.arena.base, world.arena.used)
    for operation, step in ((GET, 1), (CHECK, 9)):
        for stop in range(1, MOST_POINTS, step):
            reply = world.let_die(it, operation, stop, key=KEY)
            assert ctypes.string_at(world.arena.base, world.arena.used) == before
            if reply.ended:
                assert reply.number == 0
                break
        assert stop > 5


@pytest.mark.parametrize("waiting", [0, 3, 7])
def test_death_of_a_producer_leaves_all_or_nothing(
    world: World, waiting: int, request: pytest.FixtureRequest
) -> None:
    queue = world.arena.queue(request.node.name[-63:], value=Pair, max_entries=8)
    seen = set()
    for stop in range(1, MOST_POINTS):
        expected = [Pair(number, stop) for number in range(waiting)]
        queue.push_many(expected)
        reply = world.let_die(queue, PUSH, stop, value=NEW)
        assert len(queue) in (waiting, waiting + 1)
        seen.add(len(queue) - waiting)
        expected += [Pair(*NEW)] * (len(queue) - waiting)
        # The next producer and the consumer go on, on both sides.
        if len(expected) < 8:
            assert world.run(queue, PUSH, 0, OTHER)[0] == 0
            expected.append(Pair(*OTHER))
        code, _, value = world.run(queue, GET)
        assert (code, Pair(*value)) == (0, expected[0])
        assert queue.drain() == expected[1:]
        assert world.run(queue, GET)[0] == ABSENT
        if reply.ended:
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert seen == {0, 1}
    assert queue.counters().full == 0


@pytest.mark.parametrize("waiting", [1, 3, 8])
def test_death_of_a_consumer_leaves_all_or_nothing(
    world: World, waiting: int, request: pytest.FixtureRequest
) -> None:
    queue = world.arena.queue(request.node.name[-63:], value=Pair, max_entries=8)
    seen = set()
    for stop in range(1, MOST_POINTS):
        expected = [Pair(number, stop) for number in range(waiting)]
        queue.push_many(expected)
        reply = world.let_die(queue, GET, stop)
        assert len(queue) in (waiting - 1, waiting)
        seen.add(waiting - len(queue))
        expected = expected[waiting - len(queue) :]
        if len(expected) < 8:
            assert world.run(queue, PUSH, 0, OTHER)[0] == 0
            expected.append(Pair(*OTHER))
        assert queue.drain() == expected
        if reply.ended:
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert seen == {0, 1}


@pytest.mark.parametrize("state", ["untouched", "spent", "freed", "full"])
def test_death_of_who_allocates_an_object_leaks_at_most_that(world: World, state: str) -> None:
    for stop in range(1, MOST_POINTS):
        pool = world.make("pool")
        held = {}
        count = {"untouched": 0, "full": CAPACITY - 1}.get(state, 5)
        for number in range(count):
            held[pool.alloc(Pair(number, stop))] = Pair(number, stop)
        if state == "spent":
            while pool.check().unused:
                held[pool.alloc(Pair(*OTHER))] = Pair(*OTHER)
        if state == "freed":
            pool.free(held.popitem()[0])
        reply = world.let_die(pool, INSERT, stop)
        report = pool.check()
        assert report.errors == 0
        assert report.leaked <= 1
        assert report.live in (len(held), len(held) + 1)
        for address, value in held.items():
            assert pool[address] == value
        # Both sides go on.
        room = CAPACITY - len(held) - 1
        fresh = [pool.alloc(Pair(*NEW)) for _ in range(room)]
        assert not set(fresh) & set(held)
        for address in fresh:
            assert pool[address] == Pair(*NEW)
            assert world.run(pool, DELETE, address)[0] == 0
        if room:
            code, address, _ = world.run(pool, INSERT, 0, OTHER)
            assert code == 0
            assert pool[address] == Pair(*OTHER)
            pool.free(address)
        if reply.ended:
            assert reply.number == 0
            assert (report.leaked, report.live) == (0, len(held) + 1)
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert stop > 3


def test_death_of_who_frees_an_object_leaks_at_most_that(world: World) -> None:
    for stop in range(1, MOST_POINTS):
        pool = world.make("pool")
        held = {pool.alloc(Pair(number, stop)): Pair(number, stop) for number in range(5)}
        victim = next(iter(held))
        reply = world.let_die(pool, DELETE, stop, key=victim - world.arena.base)
        report = pool.check()
        assert report.errors == 0
        assert report.leaked <= 1
        assert report.live in (4, 5)
        for address in list(held)[1:]:
            assert pool[address] == held[address]
            assert world.run(pool, DELETE, address)[0] == 0
        fresh = [pool.alloc(Pair(*NEW)) for _ in range(CAPACITY - 1)]
        assert len(set(fresh)) == CAPACITY - 1
        assert pool.check(repair=True).errors == 0
        assert pool.check().leaked == 0
        if reply.ended:
            assert reply.number == 0
            break
    else:
        raise AssertionError("the operation never ended by itself")
    assert stop > 3


@pytest.mark.parametrize("kind", ["hashmap", "list"])
def test_many_deaths_leak_at_most_one_entry_each_and_a_repair_returns_all(
    world: World, kind: str
) -> None:
    it = world.make(kind, 500)
    fill(it, NEIGHBOURS)
    deaths = 0
    for stop in range(2, 34):
        for operation, key in ((UPDATE, KEY), (DELETE, KEY), (UPDATE, 50)):
            deaths += not world.let_die(it, operation, stop, key=key, value=NEW).ended
    assert deaths > 40
    report = it.check()
    assert report.errors == 0
    assert 0 < report.leaked <= deaths
    it.check(repair=True)
    assert it.check().leaked == 0
    assert contents(it).keys() >= NEIGHBOURS.keys()
    for number in range(1000, 1500 - len(contents(it))):
        it.insert(number, Pair(*OTHER))
    assert it.check().errors == 0


# --- death of who makes a structure ----------------------------------------------------------


class Makers:
    """The process whose children die while they make structures, in Python."""

    def __init__(self, core: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "victim.py"), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        reply = dict(json.loads(self.process.stdout.readline()))
        assert reply["ended"] or reply["status"] == signal.SIGKILL, reply
        return reply


@pytest.fixture(scope="module")
def makers(points_core: Path) -> Iterator[Makers]:
    makers = Makers(points_core)
    yield makers
    makers.process.communicate()


@pytest.mark.parametrize("first", [False, True], ids=["in a used arena", "in an empty arena"])
@pytest.mark.parametrize("kind", ["hashmap", "list", "queue"])
def test_death_of_who_makes_a_structure_leaves_it_whole_or_absent(
    engine: str, makers: Makers, pin: Path, kind: str, first: bool
) -> None:
    others = [] if first else ["other"]
    made, ended = 0, {}
    # First without a death, to count the points; then at most about a hundred of them.
    stops = [0]
    for stop in stops:
        with arenads.create("1MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
            if not first:
                arena.list("other", value=u64).push(7)
            arena.pin(pin)
            reply = makers.ask(path=str(pin), make=kind, name="new", stop=stop)
            arenads.unlink(pin)
            ended[stop] = reply["ended"]
            if not stop:
                points = reply["points"]
                stops += [*range(1, points - 40, 1 + points // 80), *range(points - 40, points + 2)]
            elif stop == stops[-1] and not reply["ended"]:
                # How many points there are depends on the CPU that it starts on: go on to the end.
                stops.append(stop + 1)
            names = sorted(arena.structures)
            assert names in (others, ["new", *others])
            made += "new" in names
            key = {"key": u64} if kind == "hashmap" else {}
            it = getattr(arena, kind)("new", value=u64, max_entries=2, **key)
            assert it.max_entries == 2
            assert len(it) == 0
            if kind == "hashmap":
                it[1] = 2
                assert dict(it) == {1: 2}
            else:
                it.push(1)
                assert len(it) == 1
            assert sorted(arena.structures) == ["new", *others]
            if not first:
                assert list(arena.structures["other"]) == [7]  # type: ignore[call-overload]
            assert arena.used <= 64 * 1024
    assert ended[stops[-1]]
    assert 2 <= made < len(stops)


def test_death_of_who_populates_leaves_an_arena_that_grows(
    engine: str, makers: Makers, pin: Path
) -> None:
    with arenads.create("64MiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        arena.pin(pin)
        for stop in range(1, 50):
            before = arena.populated
            more = before - arena.used + 1
            reply = makers.ask(path=str(pin), populate=more, stop=stop)
            arena.populate(more)
            assert arena.populated > before
            arena.list(f"list {stop}", value=u64).push(stop)
            if reply["ended"]:
                break
    assert stop > 2


# --- a writer that stops ------------------------------------------------------------------------


def disturb(world: World, it: Any) -> None:
    """Use the key and its neighbours over and over, by turns in BPF and Python."""
    run = world.run
    for turn in range(12):
        value = (turn, turn)
        assert run(it, UPDATE, KEY, value)[0] == 0
        assert contents(it)[KEY] == value
        it.replace(KEY, Pair(*OTHER))
        assert run(it, GET, KEY)[2] == OTHER
        assert run(it, DELETE, KEY)[0] == 0
        assert KEY not in contents(it)
        for key in NEIGHBOURS:
            assert run(it, REPLACE, key, value)[0] == 0
            it.replace(key, Pair(*NEIGHBOURS[key]))
            if turn % 2:
                assert run(it, DELETE, key)[0] == 0
                it.insert(key, Pair(*NEIGHBOURS[key]))


@each_case("untouched", "full", "marked")
def test_a_stopped_writer_delays_nobody_and_spoils_nothing_when_it_goes_on(
    world: World,
    kind: str,
    operation: int,
    before: tuple[int, int] | None,
    after: tuple[int, int] | None,
    state: str,
) -> None:
    for stop in range(1, MOST_POINTS):
        it = world.prepare(kind, state)
        if before is not None:
            it.insert(KEY, Pair(*before))
        if state == "grown":
            it.update({KEY: Pair(*OLD)})
            if before is None:
                del it[KEY]
        old = {key: value for key, value in contents(it).items() if key != KEY}
        reply = world.let_stop(it, operation, stop, key=KEY, value=after)
        if reply.ended:
            break
        disturb(world, it)
        reply = world.go_on(reply)
        assert reply.ended
        assert reply.number in (0, ABSENT)
        found = contents(it)
        left = found.pop(KEY, None)
        assert found == old
        assert left in (None, after)
        report = it.check()
        assert (report.errors, report.leaked) == (0, 0)
        assert report.live == len(contents(it))
    else:
        raise AssertionError("the operation never ended by itself")
    assert stop > 5


def test_a_stopped_producer_does_not_stop_the_consumer(
    world: World, request: pytest.FixtureRequest
) -> None:
    queue = world.arena.queue(request.node.name[-63:], value=Pair, max_entries=8)
    for stop in range(1, MOST_POINTS):
        queue.push_many([Pair(number, stop) for number in range(7)])
        reply = world.let_stop(queue, PUSH, stop, value=NEW)
        for number in range(7):
            code, _, value = world.run(queue, GET)
            assert (code, value) == (0, (number, stop))
        before = queue.drain()
        if reply.ended:
            assert before == [Pair(*NEW)]
            break
        assert world.go_on(reply)[:2] == ("ended", 0)
        assert before + queue.drain() == [Pair(*NEW)]
    assert stop > 5
    assert queue.counters().full == 0


def test_a_stopped_consumer_does_not_stop_the_producer(
    world: World, request: pytest.FixtureRequest
) -> None:
    queue = world.arena.queue(request.node.name[-63:], value=Pair, max_entries=8)
    for stop in range(1, MOST_POINTS):
        queue.push_many([Pair(number, stop) for number in range(4)])
        reply = world.let_stop(queue, GET, stop)
        if reply.ended:
            break
        for number in range(4, 7):
            assert world.run(queue, PUSH, 0, (number, stop))[0] == 0
        assert world.go_on(reply)[:2] == ("ended", 0)
        assert queue.drain() == [Pair(number, stop) for number in range(1, 7)]
    assert stop > 5
