"""User processes are killed and stopped at random while BPF programs go on; see soak.c.

Nothing that a dead or stopped process leaves behind makes an operation of a BPF program fail,
and afterwards every entry is where it should be, but for at most one that each of them leaked.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import PROGRAMS, TESTS

import arenads
from arenads import compiler
from arenads.libbpf import KernelMap, PerfEvent

pytestmark = pytest.mark.kernel

# What an operation may say, in the order of enum soak_code.
CODES = (
    "ok", "absent", "exists", "full", "no memory", "budget", "damaged", "other", "wrong", "again",
    "lost",
)  # fmt: skip
# What the contents of a structure explain. Anything else would be an error.
EXPECTED = {
    "map_insert": {"ok", "exists"},
    "map_replace": {"ok", "absent"},
    "map_update": {"ok"},
    "map_delete": {"ok", "absent"},
    "map_pop": {"ok", "absent"},
    "map_get": {"ok", "absent"},
    "map_walk": {"ok", "absent"},
    "counts_add": {"ok"},
    "grace_update": {"ok", "absent", "full"},  # full: until what waits is given back
    "grace_delete": {"ok", "absent"},
    "grace_get": {"ok", "absent"},
    "grace_hold": {"ok", "absent"},
    "grace_reclaim": {"ok", "absent"},
    "set_insert": {"ok", "exists"},
    "set_delete": {"ok", "absent"},
    "set_contains": {"ok", "absent"},
    "set_walk": {"ok", "absent"},
    "list_insert": {"ok", "exists"},
    "list_replace": {"ok", "absent"},
    "list_delete": {"ok", "absent"},
    "list_get": {"ok", "absent"},
    "list_push": {"ok"},
    "list_drain": {"ok", "absent"},
    "list_walk": {"ok", "absent"},
    "pool_use": {"ok"},
    "queue_push": {"ok", "full"},
    "queue_pop": {"ok", "absent"},
    "ordered_insert": {"ok", "exists"},
    "ordered_replace": {"ok", "absent"},
    "ordered_update": {"ok"},
    "ordered_delete": {"ok", "absent"},
    "ordered_pop": {"ok", "absent"},
    "ordered_pop_first": {"ok", "absent"},
    "ordered_get": {"ok", "absent"},
    "ordered_lower_bound": {"ok", "absent"},
    "ordered_walk": {"ok", "absent"},
    "mpmc_push": {"ok", "full"},
    "mpmc_pop": {"ok", "absent"},
    "ring_push": {"ok", "full"},
    "ring_pop": {"ok", "absent"},
    "recorder_push": {"ok"},
    "recorder_pop": {"ok", "absent"},
    "array_add": {"ok"},
    "array_touch": {"ok", "absent"},
    "array_set": {"ok"},
    "array_get": {"ok"},
    "linked_insert": {"ok", "exists"},
    "linked_push": {"ok"},
    "linked_remove": {"ok", "absent"},
    "linked_drain": {"ok", "absent"},
    "linked_move": {"ok", "absent", "exists"},
    "linked_contains": {"ok", "absent"},
    "linked_walk": {"ok", "absent"},
    "many_push": {"ok", "full"},
    "many_reserve": {"ok", "full", "absent"},  # absent: given up
    "many_pop": {"ok", "absent"},
    "wide_insert": {"ok", "exists", "absent"},  # absent: removed
    "wide_update": {"ok", "absent"},
    "wide_delete": {"ok", "absent"},
    "wide_get": {"ok", "absent"},
}
OPERATIONS = tuple(EXPECTED)
# Each has a ring `NAME out` from BPF and one `in` to it.
PAIRS = ("queue", "ring", "recorder")
ENDS = tuple(f"{pair}_{end}" for pair in PAIRS for end in ("out", "in"))
# What the next producer sends, or this one again, whose predecessor died in between.
AGAIN = {f"{pair}_pop": {"again"} for pair in (*PAIRS, "many")}
# What the next consumer misses, whose predecessor died with it.
LOST = {f"{pair}_pop": {"lost"} for pair in ("queue", "ring")}
CHECKED = (
    "map", "counts", "grace", "set", "list", "pool", "ordered", "mpmc", "array", "items", "linked",
    "ring_out", "ring_in", "recorder_out", "recorder_in", "many",
)  # fmt: skip
# What these count is an answer, too; expect_mpmc() and expect_pair() compare the numbers.
COUNTED = {
    "grace": {"full"},
    "mpmc": {"full"},
    "many": {"full"},
    "queue_out": {"full"},
    "queue_in": {"full"},
    "ring_out": {"full"},
    "ring_in": {"full"},
    "recorder_out": {"dropped"},
    "recorder_in": {"dropped"},
}
CELLS = 1 << 18  # of the array; the last STORED are stored whole, the others count
STORED = 512
RECORD = ("key", "stamp", "check", "again")
KEYS = 512
COUNTERS = 16
WIDE_KEYS = 4096  # soak_wide_key() of soak.h
WIDE = {"max_entries": WIDE_KEYS, "initial_entries": 1}
PUSHED = (1 << 64) - 1
WORK = struct.Struct("<5Q")  # rounds, operations, keys, random, done
ROUNDS = 1000
LAST_CPU = max(os.sched_getaffinity(0))
MASK = (1 << 64) - 1

Codes = dict[str, dict[str, int]]


def mask(*operations: str) -> int:
    return sum(1 << OPERATIONS.index(operation) for operation in operations)


# What only programs may do that cannot sleep, and so neither a syscall program nor a process.
ALL = mask(*OPERATIONS) & ~mask("grace_hold")


def explained(codes: Codes, **also: set[str]) -> bool:
    """Whether the contents explain every code; what else there was is printed."""
    found = True
    for operation, numbers in codes.items():
        allowed = EXPECTED[operation] | also.get(operation, set())
        for code, number in numbers.items():
            if number and code not in allowed:
                print(f"{operation}: {code} {number} times")
                found = False
    return found


def total(codes: Codes) -> int:
    return sum(sum(numbers.values()) for numbers in codes.values())


class Driver:
    """The process whose children die: soak.c."""

    def __init__(self, program: Path, pin: Path) -> None:
        self.process = subprocess.Popen(
            [str(program), str(pin)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words: object) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the driver ended with {self.process.wait()}"
        return json.loads(line)

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


class Ends(NamedTuple):
    """What the victims have sent on one ring of a pair, and expect on the other."""

    sent: int
    expected: int
    doubt: int


class Report:
    """What the victims have done."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.kills: int = said["kills"]
        self.seconds: float = said["nanoseconds"] / 1e9
        self.objects: int = said["objects"]
        self.items: int = said["items"]
        self.reaped: int = said["reaped"]
        self.lines: int = said["lines"]
        self.strays: int = said["strays"]
        self.ends = {name: Ends(*each) for name, each in zip(PAIRS, said["ends"], strict=True)}
        self.deaths = {name: each["deaths"] for name, each in said["operations"].items()}
        self.inside = sum(self.deaths.values())
        self.codes: Codes = {
            name: dict(zip(CODES, each["codes"], strict=True))
            for name, each in said["operations"].items()
        }
        assert tuple(self.codes) == OPERATIONS
        assert said["unexpected"] == 0, f"a victim ended with status {said['status']}"


class Soak:
    """The arena, the programs that go on, and the driver of those that do not."""

    def __init__(self, program: arenads.Program, driver: Driver, keys: int) -> None:
        self.program = program
        self.driver = driver
        self.keys = keys
        self.runner: Any = program.runner("churn", WORK.size)
        # Its own: what BPF sees is not counted in the memory that is under test.
        self.counts = KernelMap(os.dup(program._bpf.maps()["codes"].fd))
        self.random = 1
        self.taken_from_many = 0  # less those that the tests took, which no code counts
        self.grown: list[int] = []  # entries of maps that were removed
        self.renew()

    def churn(self, operations: int = ALL, keys: int = 0, count: int = ROUNDS) -> None:
        """Have BPF do so many operations, here and now."""
        for _ in range(count // ROUNDS):
            code = self.runner(WORK.pack(ROUNDS, operations, keys or self.keys, self.random, 0))
            *_, self.random, done = WORK.unpack(self.runner.context)
            assert (code, done) == (0, ROUNDS)

    def codes(self) -> Codes:
        """What BPF's operations have said so far."""
        shape = struct.Struct(f"<{len(CODES)}Q")
        found = {}
        for number, operation in enumerate(OPERATIONS):
            value = self.counts.lookup(struct.pack("<I", number))
            assert value is not None
            found[operation] = dict(zip(CODES, shape.unpack(value), strict=True))
        return found

    @contextlib.contextmanager
    def all_the_while(self) -> Iterator[None]:
        """BPF operates in a loop on one CPU, and out of events and interrupts on all of them."""
        stop = threading.Event()
        failed: list[BaseException] = []

        def loop(cpus: set[int], step: Callable[[], object]) -> None:
            try:
                os.sched_setaffinity(threading.get_native_id(), cpus)
                while not stop.is_set():
                    step()
            except BaseException as error:
                failed.append(error)

        grace: Any = self.program["grace"]
        threads = [
            threading.Thread(target=loop, args=({LAST_CPU}, self.churn)),
            threading.Thread(target=loop, args=(os.sched_getaffinity(0), grace.reclaim)),
        ]
        links = [
            *self.program.attach("on_switch"),
            *self.program.attach("on_exit"),
            *self.program.attach("interrupt", perf_event=PerfEvent(period=100_000)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for link in links:
                link.close()
        assert not failed, failed

    def renew(self) -> None:
        """Remove the map that grows, after a look at it, and make another, which is small."""
        if "wide" in self.program.arena.structures:
            wide: Any = self.program.arena.structures["wide"]
            self.driver.ask("reap")  # no user process is at work
            report = wide.check()
            assert (report.errors, report.leaked) == (0, 0), report
            for key, words in wide.items():
                record = SimpleNamespace(**dict(zip(RECORD, words, strict=True)))
                assert key < WIDE_KEYS and is_whole(record, key)
            self.grown.append(len(wide))
            self.program.arena.remove("wide")
        value = arenads.Array[arenads.u64, len(RECORD)]  # type: ignore[misc]
        wide = self.program.arena.hashmap("wide", key=arenads.u64, value=value, **WIDE)
        code = self.program.run("use_wide", wide.offset.to_bytes(8, "little"))
        assert code.value == 0
        self.driver.ask("wide")

    def kill(self, count: int, *, reap_every: int = 16) -> Report:
        seats, microseconds = 3, 400
        answer = self.driver.ask("kill", count, seats, microseconds, ALL, self.keys, reap_every)
        return Report(answer)

    def reap(self, checked: Sequence[str] = CHECKED) -> None:
        """Give back what the dead had in hand; then no entry is anywhere but in its place."""
        self.driver.ask("reap")
        for name in checked:
            it: Any = self.program[name]
            report = it.check()
            assert (report.errors, report.leaked, report.deleted) == (0, 0, 0), (name, report)
        # Nobody has a record in hand now: it is in the list or free.
        items: Any = self.program["items"]
        assert items.check().live == len(self.program["linked"])


def build(directory: Path, *defines: str, include: Path | None = None) -> Path:
    """Compile soak.c."""
    found = compiler.find_host_compiler()
    flags = ["-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    headers = f"-I{include or compiler.include_dir()}"
    program = directory / "soak"
    subprocess.run(
        [*found.command, *flags, *defines, headers, str(TESTS / "soak.c"), "-o", str(program)],
        check=True,
    )
    return program


@contextlib.contextmanager
def started(program: Path, object_file: Path, pin: Path, keys: int = KEYS) -> Iterator[Soak]:
    with contextlib.ExitStack() as stack:
        # All populated, and no thread that provisions: it gives entries back too, and a repair
        # is for when nobody does.
        size = "64MiB"
        arena = arenads.create(size, engine="kernel", populate=size, provision=None)
        stack.enter_context(arena)
        bpf = stack.enter_context(arenads.load(object_file, arena=arena))
        arena.pin(pin)
        stack.callback(pin.unlink)
        driver = Driver(program, pin)
        stack.callback(driver.close)
        driver.ask("report")
        soak = Soak(bpf, driver, keys)
        stack.callback(soak.counts.close)
        yield soak


@pytest.fixture(scope="module")
def soak(
    compiled: Callable[..., Path],
    bpf_file_system: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Soak]:
    """One whose victims can also be told to stop at any of their shared operations."""
    driver = build(tmp_path_factory.mktemp("points"), "-DADS_POINTS")
    with started(driver, compiled("soak", "kernel"), bpf_file_system / "soak") as soak:
        yield soak


@pytest.fixture
def as_shipped(
    compiled: Callable[..., Path], bpf_file_system: Path, tmp_path: Path
) -> Iterator[Soak]:
    """One whose victims run what a C program gets from the headers, and no test build."""
    driver = build(tmp_path)
    with started(driver, compiled("soak", "kernel"), bpf_file_system / "shipped") as soak:
        yield soak


# --- what must hold afterwards ---------------------------------------------------------------


def check_of(key: int, stamp: int) -> int:
    """soak_check() of soak.h."""
    word = (key ^ 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 29 ^ stamp) * 0x94D049BB133111EB & MASK
    return word ^ word >> 32


def is_whole(record: Any, key: int) -> bool:
    check = check_of(key, record.stamp)
    return (record.key, record.check, record.again) == (key, check, check ^ MASK)


def expect_contents(soak: Soak, bpf: Codes, user: Report) -> None:
    """Whatever is stored was stored by somebody, and nothing that was is missing."""
    program: Any = soak.program
    for name in ("map", "grace", "ordered"):
        assert all(is_whole(record, key) for key, record in program[name].items())
        assert set(program[name]) <= set(range(KEYS))
    assert set(program["set"]) <= set(range(KEYS))
    kept = done("set_insert", bpf, user) - done("set_delete", bpf, user)
    assert -user.deaths["set_delete"] <= len(program["set"]) - kept <= user.deaths["set_insert"]
    for order, record in program["list"].items():
        assert is_whole(record, PUSHED if record.key == PUSHED else order)
    assert list(program["ordered"]) == sorted(program["ordered"])
    # Who died in an addition may have done it.
    added = done("counts_add", bpf, user)
    assert added <= sum(program["counts"].values()) <= added + user.deaths["counts_add"]
    assert set(program["counts"]) <= set(range(COUNTERS))
    # Objects of the dead, who took them and had no time to write down which.
    assert program["pool"].check().live <= user.deaths["pool_use"]
    for order, address in program["linked"].items():
        record = program["items"][address].record
        assert is_whole(record, PUSHED if record.key == PUSHED else order)
    # Records that the dead had allocated, or taken out.
    linked = [operation for operation in OPERATIONS if operation.startswith("linked")]
    assert user.items <= sum(user.deaths[operation] for operation in linked)
    expect_array(soak, bpf, user)
    expect_mpmc(soak, bpf, user)
    expect_many(soak, bpf, user)


def done(operation: str, bpf: Codes, user: Report) -> int:
    return bpf[operation]["ok"] + user.codes[operation]["ok"]


def expect_array(soak: Soak, bpf: Codes, user: Report) -> None:
    array: Any = soak.program["array"]
    cells = list(array)
    counting = ("array_add", "array_touch")
    added = sum(done(operation, bpf, user) for operation in counting)
    died = sum(user.deaths[operation] for operation in counting)
    assert added <= sum(cell.words[0] for cell in cells[:-STORED]) <= added + died
    assert not any(any(cell.words[1:]) for cell in cells[:-STORED])
    for index, cell in enumerate(cells[-STORED:], CELLS - STORED):
        for number, word in enumerate(cell.words, 4 * index):
            stamp = word & 0xFFFFFFFF
            assert word in (0, (check_of(number, stamp) << 32 | stamp) & MASK)


def expect_mpmc(soak: Soak, bpf: Codes, user: Report) -> None:
    """Records are pushed or not, popped or not, whoever died; no slot is lost with them."""
    mpmc: Any = soak.program["mpmc"]
    kept = done("mpmc_push", bpf, user) - done("mpmc_pop", bpf, user)
    assert -user.deaths["mpmc_pop"] <= len(mpmc) - kept <= user.deaths["mpmc_push"]
    report = mpmc.check()
    assert (report.live, report.carved) == (len(mpmc), report.live + report.free + report.unused)
    refused = bpf["mpmc_push"]["full"] + user.codes["mpmc_push"]["full"]
    assert 0 <= mpmc.counters().full - refused <= user.deaths["mpmc_push"]
    records = mpmc.drain()
    assert len(records) == report.live
    assert all(is_whole(record, record.key) for record in records)
    assert mpmc.push_many(records) == len(records)


def expect_many(soak: Soak, bpf: Codes, user: Report) -> None:
    """What was sent to the rings of many arrives, and who was refused is counted."""
    many: Any = soak.program["many"]
    sends = ("many_push", "many_reserve")
    died = sum(user.deaths[operation] for operation in sends)
    assert many.taken == 0
    names = [f"many.{number}" for number in range(len(many))]
    # As rings of their own: nobody else is at work.
    rings = [soak.program.arena.structures[name] for name in names]
    waiting = [record for ring in rings for record in take_all(ring)]
    assert all(is_whole(record, record.key) for record in waiting)
    sent = sum(done(operation, bpf, user) for operation in sends)
    taken = bpf["many_pop"]["ok"] + bpf["many_pop"]["again"]
    assert 0 <= taken + len(waiting) - sent - soak.taken_from_many <= died
    assert bpf["many_pop"]["again"] <= died
    refused = sum(codes[operation]["full"] for operation in sends for codes in (bpf, user.codes))
    assert 0 <= many.counters().full - refused <= died
    soak.taken_from_many -= len(waiting)


def take_all(end: Any) -> list[Any]:
    """Empty a queue or a ring, whose last records may not have been published."""
    if not isinstance(end, arenads.Ring):
        return list(end.drain())
    end.publish()
    records = []
    for raw in end.drain():
        words = struct.unpack(f"<{len(raw) // 8}Q", raw)
        record = SimpleNamespace(key=words[0], stamp=words[1], check=words[2], again=words[3])
        assert list(words[4:]) == [record.check + number & MASK for number in range(len(words) - 4)]
        records.append(record)
    return records


def expect_pairs(soak: Soak, bpf: Codes, user: Report) -> None:
    for pair in ("queue", "ring"):
        expect_pair(soak, pair, bpf, user)
    # Whatever was sent on an overwriting ring was taken, was dropped and counted, or is there.
    push, pop = "recorder_push", "recorder_pop"
    out: Any = soak.program["recorder_out"]
    into: Any = soak.program["recorder_in"]
    taken = bpf[push]["ok"] - out.counters().dropped - len(list(out.records()))
    assert 0 <= taken - user.codes[pop]["ok"] <= user.deaths[pop]
    sent = bpf[pop]["ok"] + bpf[pop]["again"] + into.counters().dropped + len(list(into.records()))
    assert 0 <= sent - user.codes[push]["ok"] <= user.deaths[push]


def expect_pair(soak: Soak, pair: str, bpf: Codes, user: Report) -> None:
    """What was sent arrives in order, once, but for records in the hands of the dead."""
    push, pop, ends = f"{pair}_push", f"{pair}_pop", user.ends[pair]
    out: Any = soak.program[f"{pair}_out"]
    into: Any = soak.program[f"{pair}_in"]
    assert out.counters().full == bpf[push]["full"]
    refused = into.counters().full - user.codes[push]["full"]
    assert 0 <= refused <= user.deaths[push]
    waiting = take_all(out)
    sent = bpf[push]["ok"]
    assert all(is_whole(record, sent - place) for place, record in enumerate(waiting[::-1], 1))
    assert 0 <= sent - len(waiting) - ends.expected <= ends.doubt
    assert user.codes[pop]["lost"] <= user.deaths[pop]
    # A record that a producer died with is sent again by the next, who cannot know.
    received = bpf[pop]["ok"]
    numbers = [record.key for record in take_all(into)]
    assert set(numbers) | {received - 1} == set(range(received - 1, max(ends.sent, received)))
    assert numbers == sorted(numbers)
    again = bpf[pop]["again"] + len(numbers) - len(set(numbers))
    assert again <= user.deaths[push]
    soak.driver.ask("expect", PAIRS.index(pair), received, sent)


def expect_no_failures(soak: Soak) -> None:
    """The structures' own counters agree: no operation on either side failed."""
    for name in {*CHECKED, *ENDS}:
        it: Any = soak.program[name]
        counters = it.counters()
        fields = set(counters.__struct_fields__) - COUNTED.get(name, set())
        assert not any(getattr(counters, field) for field in fields), (name, counters)


def expect_both_sides_work(soak: Soak) -> None:
    program: Any = soak.program
    before = soak.codes()["map_get"]["ok"]
    for key in range(KEYS):
        check = check_of(key, key)
        program["map"][key] = {"key": key, "stamp": key, "check": check, "again": check ^ MASK}
    soak.churn(mask("map_get"), count=4 * ROUNDS)
    assert soak.codes()["map_get"]["ok"] == before + 4 * ROUNDS
    soak.churn()
    assert explained(soak.codes(), **AGAIN)


def expect_room(soak: Soak) -> None:
    """Fill each structure to the last entry: none is missing."""
    program: Any = soak.program
    record = {"key": 0, "stamp": 0, "check": 0, "again": 0}
    while program["grace"].reclaim():
        pass
    for name in ("map", "grace", "ordered"):
        room = program[name].max_entries - len(program[name])
        program[name].update((key, record) for key in range(KEYS, KEYS + room))
    for key in range(program["set"].max_entries):
        program["set"].add(key)
    for order in range(program["list"].max_entries - len(program["list"]), 0, -1):
        program["list"].insert(order, record)
    program["mpmc"].push_many([record] * (program["mpmc"].max_entries - len(program["mpmc"])))
    items = program["items"]
    item = {"record": record, "node": {"link": 0, "order": 0, "list": 0}}
    for _ in range(items.max_entries - len(items)):
        program["linked"].push(items.alloc(item))
    for first in range(0, CELLS, STORED):
        program["array"].add(first, 0, "words[0]")
    for name in ("map", "grace", "set", "list", "ordered", "mpmc", "array", "items", "linked"):
        report = program[name].check()
        assert (report.errors, report.leaked, report.live) == (0, 0, program[name].max_entries)


def print_report(soak: Soak, bpf: Codes, user: Report) -> None:
    print(
        f"\n{user.kills} processes killed in {user.seconds:.1f} s, {user.inside} of them inside an"
        f" operation\n{total(user.codes)} operations of theirs, {total(bpf)} of BPF meanwhile"
        f"\nentries in the hands of the dead, given back meanwhile: {user.reaped}; owners forgotten"
        f" {user.lines}; objects given back by the driver {user.objects}, records {user.items}"
        f"\n{'':19}{'deaths in':>10}{'theirs':>12}{'BPF':>12}  what BPF's said"
    )
    for operation in OPERATIONS:
        said = ", ".join(f"{code} {number}" for code, number in bpf[operation].items() if number)
        theirs, ours = (sum(codes[operation].values()) for codes in (user.codes, bpf))
        print(f"{operation:19}{user.deaths[operation]:10}{theirs:12}{ours:12}  {said}")


# --- one that stops ----------------------------------------------------------------------------


def stop_many(soak: Soak, stops: int, count: int) -> None:
    keys = 4
    rates: dict[str, list[float]] = {"stopped": [], "alone": []}
    inside = 0

    def timed(name: str) -> None:
        start = time.thread_time()  # other work of the machine is not what is compared
        soak.churn(keys=keys, count=count)
        rates[name].append(count / (time.thread_time() - start))

    for _ in range(stops):
        timed("alone")
        inside += bool(soak.driver.ask("stop", 200, ALL, keys)["stopped"])
        before = soak.codes()
        timed("stopped")
        assert total(soak.codes()) == total(before) + count
        soak.driver.ask("go")
        soak.reap()
    user = Report(soak.driver.ask("report"))
    bpf = soak.codes()
    alone, stopped = (statistics.median(rates[name]) for name in ("alone", "stopped"))
    print(
        f"\n{stops} processes stopped, {inside} of them inside an operation; BPF did {count}"
        f" operations beside each: {stopped:.0f} a second of the CPU, {alone:.0f} with none there,"
        f" ratio {stopped / alone:.2f}"
    )
    assert inside > stops / 10
    assert explained(bpf, **AGAIN)
    assert explained(user.codes, **LOST)
    expect_no_failures(soak)
    expect_contents(soak, bpf, user)
    expect_pairs(soak, bpf, user)
    expect_both_sides_work(soak)


def test_bpf_goes_on_beside_a_process_that_has_stopped_anywhere(soak: Soak) -> None:
    stop_many(soak, 40, 20 * ROUNDS)


@pytest.mark.slow
def test_bpf_goes_on_beside_each_of_hundreds_that_have_stopped(as_shipped: Soak) -> None:
    stop_many(as_shipped, 500, 100 * ROUNDS)


def same_structure(operation: str) -> int:
    structure = operation.split("_")[0]
    return ALL & mask(*(name for name in OPERATIONS if name.startswith(structure)))


def at_each_point(soak: Soak, operation: str, turns: int) -> Iterator[int]:
    """Stop a process before each of its shared operations, and have BPF operate beside it.

    On the same two keys, as often as asked, whatever the other has half done. Each turn begins
    in another state.
    """
    same = same_structure(operation)
    for _ in range(turns):
        # One that takes many entries has more points, which are the same again.
        for point in range(1, 100):
            soak.churn(same, keys=2)
            reply = soak.driver.ask("point", OPERATIONS.index(operation), point, 2)
            if "code" in reply:
                expect_code(operation, reply)
                break
            before = soak.codes()
            soak.churn(same, keys=2, count=2 * ROUNDS)
            assert total(soak.codes()) == total(before) + 2 * ROUNDS
            yield point


def expect_code(operation: str, reply: dict[str, int]) -> None:
    assert CODES[reply["code"]] in EXPECTED[operation] | LOST.get(operation, set())


EACH_OPERATION = pytest.mark.parametrize(
    "operation", [name for name in OPERATIONS if mask(name) & ALL]
)


@EACH_OPERATION
def test_bpf_goes_on_beside_a_process_that_has_stopped_at_each_point(
    soak: Soak, operation: str
) -> None:
    most = 0
    for point in at_each_point(soak, operation, 3):
        expect_code(operation, soak.driver.ask("go"))
        most = max(most, point)
    assert most > 1, "the operation has no points: is this the test build?"
    soak.reap()  # each of them was an owner, who has ended
    assert explained(soak.codes(), **AGAIN)
    expect_no_failures(soak)


@EACH_OPERATION
def test_bpf_goes_on_after_a_process_was_killed_at_each_point(soak: Soak, operation: str) -> None:
    structure = operation.split("_")[0]
    checked = [name for name in CHECKED if name.startswith(structure)]
    before = Report(soak.driver.ask("report"))
    deaths = 0
    for _ in at_each_point(soak, operation, 2):
        soak.driver.ask("end")
        deaths += 1
        soak.churn(same_structure(operation), keys=2)
        soak.reap(checked)
    user = Report(soak.driver.ask("report"))
    assert user.deaths[operation] - before.deaths[operation] == deaths > 2
    assert user.reaped + user.items - before.reaped - before.items <= 2 * deaths
    assert explained(soak.codes(), **AGAIN)
    expect_no_failures(soak)


# --- many that die --------------------------------------------------------------------------


def kill_many(soak: Soak, kills: int, batch: int) -> None:
    user = Report(soak.driver.ask("report"))
    end = user.kills + kills
    with soak.all_the_while():
        while user.kills < end:
            user = soak.kill(min(batch, end - user.kills))
            soak.renew()
    soak.reap()
    user = Report(soak.driver.ask("report"))
    bpf = soak.codes()
    print_report(soak, bpf, user)
    print(f"maps made anew after they had grown to {soak.grown} entries")
    assert soak.grown and min(soak.grown) > WIDE_KEYS / 4
    assert user.inside > kills / 10
    # Each sees nothing but what contents explain, and what is told in expect_pair().
    assert explained(bpf, **AGAIN)
    assert explained(user.codes, **LOST)
    assert 0 < user.reaped <= user.inside
    assert user.strays == 0
    expect_no_failures(soak)
    expect_contents(soak, bpf, user)
    expect_pairs(soak, bpf, user)
    expect_both_sides_work(soak)
    expect_room(soak)


def test_a_repair_returns_what_the_dead_had_in_hand(soak: Soak) -> None:
    """When nobody reaps; and who reaps later finds nothing that is theirs any more."""
    checked: list[Any] = [soak.program[name] for name in CHECKED]
    checked.append(soak.program.arena.structures["wide"])
    with soak.all_the_while():
        before = soak.kill(400, reap_every=0)  # each keeps a line in the registry of owners
    found = {it.name: it.check() for it in checked}
    leaked = sum(report.leaked for report in found.values())
    repaired = sum(it.check(repair=True, force=True).repaired for it in checked)
    print(
        f"\nleaked {leaked}, repaired {repaired}: "
        + ", ".join(f"{name} {each.leaked}" for name, each in found.items() if each.leaked)
    )
    assert not any(report.errors for report in found.values())
    assert 0 < leaked <= repaired <= before.inside
    soak.reap()
    user = Report(soak.driver.ask("report"))
    assert user.reaped == before.reaped
    assert 100 < user.lines - before.lines <= 400  # some died before their first change


def test_killed_processes_cost_bpf_no_error(soak: Soak) -> None:
    kill_many(soak, 3000, 1000)


@pytest.mark.slow
def test_a_hundred_thousand_killed_processes_cost_bpf_no_error(as_shipped: Soak) -> None:
    kill_many(as_shipped, 130_000, 2000)


# --- a check meanwhile -----------------------------------------------------------------------


def look_beside(soak: Soak, seconds: float) -> None:
    """BPF programs change every structure, and one process has stopped, anywhere."""
    with soak.all_the_while():
        end = time.monotonic() + seconds
        looks = 0
        while looks < 2 or time.monotonic() < end:
            stopped = soak.driver.ask("stop", looks * 37 % 400, ALL, soak.keys)["stopped"]
            for name in CHECKED:
                it: Any = soak.program[name]
                report = it.check()
                assert (report.errors, report.leaked) == (0, 0), (stopped, name, report)
            soak.driver.ask("end")
            soak.driver.ask("reap")
            looks += 1
    soak.reap()


def test_a_check_beside_bpf_programs_and_a_stopped_process_reports_nothing(soak: Soak) -> None:
    look_beside(soak, 1.5)


@pytest.mark.slow
def test_checks_beside_bpf_programs_report_nothing_for_half_a_minute(as_shipped: Soak) -> None:
    look_beside(as_shipped, 30)


# --- the test of the test ------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A rule broken in a copy of the headers; white space counts as one space."""

    name: str
    header: str
    place: str
    instead: str

    def __str__(self) -> str:
        return self.name


FAULTS = (
    Fault(
        "values are replaced word by word in place",
        "list.h",
        "/* The key went away while we had taken an entry to replace it,",
        """if (rc == ADS_OK) {
            ads_copy_in(a, w.entry + ads_entry_value_offset(ref), value, ref.value_size);
            *entry = w.entry;
            break;
        }
        /* The key went away while we had taken an entry to replace it,""",
    ),
    Fault(
        "a lock that its holder dies with",
        "hashmap.h",
        "hash = ads_hashmap_hash(a, ref, key); rc = ads_list_store_at(a,"
        " ads_hashmap_bucket(a, ref, hash), ref.offset, ref, hash, key, value, mode, entry, kept);",
        """hash = ads_hashmap_hash(a, ref, key);
        __u64 __arena *lock = &ads_collection_of(a, ref)->pad[0];
        __u32 i;
        for (ads_each(i, 10000)) {
            if (!(ADS_BPF ? ads_load(lock) : ads_cas(lock, 0, 1)))
                break;
        }
        if (i == 10000)
            return ADS_BUDGET;
        rc = ads_list_store_at(a, ads_hashmap_bucket(a, ref, hash), ref.offset, ref, hash, key,
                               value, mode, entry, kept);
        if (!ADS_BPF)
            ads_store_release(lock, 0);""",
    ),
    Fault(
        "BPF leaves it to user space to finish what that has begun at a slot",
        "mpmc.h",
        "if (ads_mpmc_helped(a, at.slot, at.word))",
        """if (ADS_BPF && (__u32)at.word & ADS_MPMC_USER)
            break;
        if (ads_mpmc_helped(a, at.slot, at.word))""",
    ),
    Fault(
        "who deletes an entry does not say so",
        "owner.h",
        "ads_hand_store(&line->hand[1], (__u64)version << 32 | entry);",
        "(void)version; (void)entry;",
    ),
    Fault(
        "nodes of the dead are left as they are",
        "reap.h",
        "return ads_reap_node(a, line, ref, hand);",
        "return 0;",
    ),
    Fault(
        "a record is committed before its length is known",
        "ring.h",
        "ads_store(ads_ring_word(a, ref, at, draft->size), at << 32 | draft->bytes);"
        " ads_store(&ads_ring_of(a, ref)->committed, end); return end;",
        """ads_store(&ads_ring_of(a, ref)->committed, end);
        if (ads_by_user()) {
            __u32 i;

            for (ads_each(i, 1000))
                ads_load(&ads_ring_of(a, ref)->committed);
        }
        ads_store(ads_ring_word(a, ref, at, draft->size), at << 32 | draft->bytes);
        return end;""",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_soak_finds_a_rule_that_is_broken(
    fault: Fault, bpf_file_system: Path, tmp_path: Path
) -> None:
    headers = tmp_path / "include" / "arenads"
    shutil.copytree(compiler.include_dir() / "arenads", headers)
    path = headers / fault.header
    pattern = re.compile(r"\s+".join(map(re.escape, fault.place.split())))
    text, count = pattern.subn(lambda _: fault.instead, path.read_text())
    assert count == 1, f"the headers have changed: adapt {fault.place!r}"
    path.write_text(text)
    bpf = tmp_path / "soak.bpf.o"
    keys = 4  # the fewer, the sooner
    arenads.compile(
        PROGRAMS / "soak.bpf.c",
        bpf,
        engine="kernel",
        include_dirs=[headers.parent],
        defines=[f"SOAK_KEYS={keys}"],
    )
    driver = build(tmp_path, include=headers.parent)
    with started(driver, bpf, bpf_file_system / "broken", keys) as soak:
        with pytest.raises(AssertionError) as found:
            kill_many(soak, 10_000, 1000)
    print(str(found.value).splitlines()[0])
