"""A check beside writers at full speed: it reports what is damaged or leaked, and nothing else.

Beside BPF programs too: test_soak.py.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads import u64

# Changes structures of every kind until its input ends, and says how often. Keys come in by and
# by, so that the map grows under the check.
CHURN = """
import random, select, sys
import arenads

draw = random.Random(sys.argv[2])
with arenads.open(sys.argv[1]) as arena:
    it = {name: arena.structures[name] for name in arena.structures}
    held, turns = [], 0

    def change(name, key):
        if draw.random() < 0.6:
            it[name][key] = key
        else:
            it[name].pop(key, None)

    def turn(key):
        for name, keys in ("map", 1 << 40), ("small", 40), ("ordered", 2000), ("grace", 500):
            yield lambda: change(name, key % keys)
        yield lambda: (it["set"].add if draw.random() < 0.5 else it["set"].discard)(key)
        yield lambda: it["list"].update(key % 50, key)
        yield lambda: it["list"].pop(key * 7 % 50)
        yield lambda: it["mpmc"].push(key) if draw.random() < 0.5 else it["mpmc"].drain(1)
        yield lambda: it["rings"].push(b"abc") if draw.random() < 0.7 else it["rings"].drain()
        yield lambda: held.append(it["pool"].alloc(key))
        yield lambda: it["pool"].free(held.pop(0)) if len(held) > 20 else None
        yield lambda: it["array"].__setitem__(key * 977 % 100000, key)
        if sys.argv[3] == "first":
            yield lambda: it["ring"].push(b"x" * (key % 100))
            yield lambda: it["queue"].push(key)
        elif draw.random() < 0.1:
            yield lambda: it["ring"].drain()
            yield lambda: it["queue"].drain()

    print("ready", flush=True)
    while turns % 100 or not select.select([sys.stdin], [], [], 0)[0]:
        turns += 1
        for step in turn(draw.randrange(100 + turns)):
            try:
                step()
            except (LookupError, arenads.ArenadsError) as error:
                if isinstance(error, (arenads.errors.DamagedError, arenads.errors.BudgetError)):
                    raise
    print(turns, flush=True)
"""


WRITER = """
import sys
import arenads

with arenads.open(sys.argv[1]) as arena:
    arena.structures["numbers"].push(1)
    print("written", flush=True)
    sys.stdin.readline()
"""


def fill(arena: arenads.Arena) -> None:
    arena.hashmap("map", key=u64, value=u64, max_entries=50_000, initial_entries=1)
    arena.hashmap("small", key=u64, value=u64, max_entries=64)
    arena.hashmap("grace", key=u64, value=u64, max_entries=2000, reclaim="grace")
    arena.set("set", key=u64, max_entries=20_000)
    arena.orderedmap("ordered", key=u64, value=u64, max_entries=3000)
    arena.list("list", value=u64, max_entries=100)
    arena.pool("pool", value=u64, max_entries=200)
    arena.mpmc("mpmc", value=u64, max_entries=64)
    arena.queue("queue", value=u64, max_entries=64)
    arena.ring("ring", size="4KiB")
    arena.rings("rings", size="4KiB", count=2)
    arena.array("array", value=u64, max_entries=100_000)


@pytest.fixture
def churned(
    engine: str, pin: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> Iterator[arenads.Arena]:
    """An arena in which two other processes work, until the test has ended."""
    with arenads.create("32MiB", engine=engine, populate="32MiB") as arena:  # type: ignore[arg-type]
        fill(arena)
        arena.pin(pin)
        children = [start_python(CHURN, pin, seed, seed) for seed in ("first", "second")]
        for child in children:
            assert child.stdout and child.stdout.readline() == "ready\n"
        yield arena
        for child in children:
            said, _ = child.communicate("\n")
            assert int(said) > 100


def suspicious(arena: arenads.Arena) -> dict[str, Any]:
    """What a check of everything reports as wrong."""
    found = {}
    for name, structure in arena.structures.items():
        report = structure.check() if hasattr(structure, "check") else None
        if report and (report.errors or report.leaked):
            found[name] = report
    whole = arena.check()
    if whole.directory.errors or whole.directory.leaked or whole.heap.errors:
        found["(arena)"] = whole
    return found


def look_all_the_while(arena: arenads.Arena, seconds: float) -> None:
    end = time.monotonic() + seconds
    looks = 0
    while looks < 3 or time.monotonic() < end:
        assert suspicious(arena) == {}
        looks += 1


def test_a_check_beside_writers_reports_nothing(churned: arenads.Arena) -> None:
    look_all_the_while(churned, 1.5)


@pytest.mark.slow
def test_checks_beside_writers_report_nothing_for_half_a_minute(churned: arenads.Arena) -> None:
    look_all_the_while(churned, 30)


def test_the_command_beside_writers_finds_all_in_order(
    churned: arenads.Arena, pin: Path, run: Any
) -> None:
    done = run("check", pin, "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert all(each["errors"] == 0 for each in report["structures"])


LIST_HEAD, LINK_END = 128, 1
ROOT_OWNERS = 64 + 56


def own_hand(arena: arenads.Arena) -> ctypes.c_uint64:
    """The first hand of this thread's line in the registry of owners."""
    owners = word(arena, ROOT_OWNERS).value
    first, count = owners & 0xFFFFFFFF, owners >> 32
    lines = range(first, first + 64 * count, 64)
    thread = threading.get_native_id()
    (line,) = [at for at in lines if word(arena, at).value & 0x1FFFFFFF == thread]
    return word(arena, line + 24)


def word(arena: arenads.Arena, at: int) -> ctypes.c_uint64:
    return ctypes.c_uint64.from_address(arena.base + at)


def test_damage_of_a_structure_that_is_written_to_is_found(churned: arenads.Arena) -> None:
    numbers = churned.hashmap("map", key=u64, value=u64)
    numbers[1 << 50] = 1  # the writers do not touch it
    key = numbers.view(1 << 50).address - churned.base - 8
    assert word(churned, key).value == 1 << 50
    word(churned, key).value += 1  # its hash is another now
    report = numbers.check()
    assert report.errors >= 1
    assert report.error_at == key - 16
    word(churned, key).value -= 1
    assert numbers.check().errors == 0


def test_a_leak_is_found_beside_writers(churned: arenads.Arena) -> None:
    leaky = churned.list("leaky", value=u64, max_entries=4)
    leaky.push(1)
    leaky.push(2)
    word(churned, leaky.offset + LIST_HEAD).value = LINK_END  # both entries are in no place
    report = leaky.check()
    assert (report.leaked, report.errors) == (2, 0)


def test_what_a_living_thread_has_in_hand_is_not_leaked(churned: arenads.Arena) -> None:
    leaky = churned.list("leaky", value=u64, max_entries=4)
    leaky.push(1)
    head = word(churned, leaky.offset + LIST_HEAD)
    entry, head.value = head.value & 0xFFFFFFFF, LINK_END
    hand = own_hand(churned)
    hand.value = entry
    report = leaky.check()
    assert (report.leaked, report.moving) == (0, 1)
    hand.value = 0
    assert leaky.check().leaked == 1


def test_a_repair_is_refused_while_another_process_is_alive_that_has_written(
    engine: str, pin: Path, start_python: Callable[..., subprocess.Popen[str]], run: Any
) -> None:
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        numbers = arena.list("numbers", value=u64)
        arena.pin(pin)
        assert numbers.check(repair=True).errors == 0  # this process alone
        child = start_python(WRITER, pin)
        assert child.stdout and child.stdout.readline() == "written\n"
        for repair in (
            lambda: numbers.check(repair=True),
            lambda: arena.check(repair=True),
        ):
            with pytest.raises(arenads.WritersError, match="no other writer") as error:
                repair()
            assert error.value.pids == [child.pid]
        assert numbers.check(repair=True, force=True).errors == 0
        done = run("check", pin, "--repair")
        assert done.returncode != 0
        assert str(child.pid) in done.stderr
        assert run("check", pin, "--repair", "--force").returncode == 0
        child.communicate("\n")
        assert numbers.check(repair=True).errors == 0  # it has closed the arena
        assert arena.check(repair=True).directory.errors == 0
