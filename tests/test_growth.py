"""A hash map grows while both sides use it, and loses nothing."""

from __future__ import annotations

import os
import random
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads import u64

CONTEXT = struct.Struct("<6Q")
KEYS = 12_000


@pytest.fixture
def arena(engine: str) -> Any:
    with arenads.create("64MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


def test_a_map_starts_small_and_doubles_as_it_fills(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=50_000)
    assert numbers.buckets == 64
    numbers.update((number, number) for number in range(20_000))
    assert numbers.buckets >= 20_000
    assert dict(numbers) == {number: number for number in range(20_000)}
    assert numbers.check().errors == 0


def test_a_fixed_map_has_its_table_from_the_start(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=1000, initial_entries=1000)
    before = numbers.buckets
    numbers.update((number, number) for number in range(1000))
    assert numbers.buckets == before == 2048


@pytest.mark.parametrize("size", [1, 8, 176, 208, 240, 544, 1000])
def test_growth_does_not_depend_on_the_size_of_records(arena: arenads.Arena, size: int) -> None:
    numbers = arena.hashmap(
        "numbers", key=u64, value=arenads.Bytes[size], max_entries=4000, initial_entries=1
    )
    for number in range(2000):
        numbers[number] = bytes(size)
    assert numbers.buckets >= 2048
    assert numbers.check().live == 2000


def test_growth_stops_at_max_entries(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=300)
    numbers.update((number, number) for number in range(300))
    assert numbers.buckets <= 1024
    with pytest.raises(arenads.CapacityError):
        numbers[300] = 300


def test_a_map_without_memory_to_grow_goes_on_with_its_old_table(engine: str) -> None:
    with arenads.create("128KiB", engine=engine, provision=None) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=1 << 20)
        stored = 0
        with pytest.raises(arenads.ArenaFullError):
            for stored in range(1 << 20):
                numbers[stored] = stored
        assert stored > 1000
        assert sorted(numbers) == list(range(stored))
        assert all(numbers[number] == number for number in range(stored))
        assert numbers.check().errors == 0


def test_a_read_only_opener_finds_what_no_shortcut_leads_to(engine: str, tmp_path: Path) -> None:
    """A read-only process cannot link the shortcuts of a new table: it takes the detour."""
    with arenads.create("64MiB", engine=engine) as arena:  # type: ignore[arg-type]
        numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=50_000)
        numbers.update((number, number * 2) for number in range(10_000))
        child = os.fork()
        if not child:
            status = 1
            try:
                fd = os.dup(arena.fileno())
                arena.close()
                with arenads.open(fd=fd, readonly=True) as view:
                    seen = view.structures["numbers"]
                    right = all(seen[number] == number * 2 for number in range(10_000))
                    status = 0 if right and 10_000 not in seen else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert numbers.check().errors == 0


def churn_in_python(numbers: Any, seed: int, rounds: int) -> list[str]:
    """Do what churn.bpf.c does; return what went wrong."""
    wrong = []
    chance = random.Random(seed)
    for _ in range(rounds):
        key = chance.randrange(KEYS)
        match chance.randrange(4):
            case 0:
                numbers[key] = (key, key * 3 + 1)
            case 1:
                numbers.setdefault(key, (key, key * 3 + 1))
            case 2:
                numbers.pop(key, None)
            case _:
                value = numbers.get(key)
                if value is not None and (value.key, value.stamp) != (key, key * 3 + 1):
                    wrong.append(f"{key}: {value}")
    return wrong


def test_everyone_churns_while_the_map_grows(
    engine: str, compiled: Callable[[str, str], Path]
) -> None:
    """Two threads run the C program, one uses Python, a child process another view."""
    with arenads.load(compiled("churn", engine), engine=engine) as program:  # type: ignore[arg-type]
        numbers = program["churned"]
        results: list[tuple[int, ...]] = []
        wrong: list[str] = []

        def run_program(seed: int) -> None:
            runner = program.runner("churn", CONTEXT.size)
            for turn in range(20):
                assert runner(CONTEXT.pack(seed * 1000 + turn, 10_000, KEYS, 0, 0, 0)) == 0
                results.append(CONTEXT.unpack(runner.context))  # type: ignore[attr-defined]

        child = os.fork()
        if not child:
            os._exit(1 if churn_in_python(numbers, 99, 20_000) else 0)
        threads = [threading.Thread(target=run_program, args=(seed,)) for seed in (1, 2)]
        threads.append(
            threading.Thread(target=lambda: wrong.extend(churn_in_python(numbers, 7, 20_000)))
        )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.waitpid(child, 0)[1] == 0
        assert wrong == []
        assert len(results) == 40
        assert [sum(each) for each in zip(*results, strict=True)][3:] == [400_000, 0, 0]
        assert numbers.buckets > 64  # type: ignore[attr-defined]
        report = numbers.check()  # type: ignore[attr-defined]
        assert (report.errors, report.leaked) == (0, 0)
        assert report.live == len(numbers) == len(set(numbers))  # type: ignore[call-overload]
        assert all(value.stamp == key * 3 + 1 for key, value in numbers.items())  # type: ignore[attr-defined]


def test_no_insert_populates_a_whole_table(engine: str) -> None:
    """What takes long comes in steps; the old table serves meanwhile, and the new one comes."""
    with arenads.create(
        "16MiB",
        engine=engine,  # type: ignore[arg-type]
        populate="256KiB",
        provision=None,
    ) as arena:
        numbers = arena.hashmap(
            "numbers", key=u64, value=u64, max_entries=80_000, initial_entries=1
        )
        table = 8 * 65536
        before = arena.statistics().populated
        most = 0
        for key in range(60_000):
            numbers[key] = key
            now = arena.statistics().populated
            before, most = now, max(most, now - before)
        assert most < table
        assert numbers.counters().no_memory == 0
        assert numbers.buckets >= 65536
