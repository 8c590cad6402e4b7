"""`arenads check` on damaged pins: it always comes back, with a status that says what it found."""

from __future__ import annotations

import ctypes
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import arenads
from arenads import Str, u64

# Runs commands as the command line does, one a line, so that an image costs no interpreter.
# Whoever hangs is ended by the alarm, in C code too.
COMMANDS = """
import contextlib, io, json, signal, sys, traceback
from arenads.cli import main

for line in sys.stdin:
    said, complained = io.StringIO(), io.StringIO()
    status = None
    signal.alarm(30)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main(json.loads(line))
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
    signal.alarm(0)
    print(json.dumps([status, said.getvalue(), complained.getvalue()]), flush=True)
"""
NAMES = ("numbers", "names", "recent", "inbox", "objects", "seen", "slots")
ROOT = range(64, 64 + 256, 8)


class Answer(NamedTuple):
    status: int | None
    said: str
    complained: str


class Subject:
    """A pinned arena with structures of every kind, its memory, and a process that checks it."""

    def __init__(self, arena: arenads.Arena, pin: Path, commands: subprocess.Popen[str]) -> None:
        self.arena = arena
        self.pin = pin
        self.commands = commands
        self.healthy = self.memory()
        self.words = [at for at in range(64, arena.used, 8) if any(self.healthy[at : at + 8])]
        self.starts = [arena.structures[name].offset for name in arena.structures]

    def memory(self) -> bytes:
        return ctypes.string_at(self.arena.base, self.arena.size)

    def restore(self) -> None:
        ctypes.memmove(self.arena.base, self.healthy, len(self.healthy))

    def damage(self, draw: random.Random) -> None:
        for _ in range(draw.choice([1, 1, 2, 6, 40])):
            at = draw.choice(
                [
                    draw.choice(self.words),
                    draw.choice(ROOT),
                    draw.choice(self.starts) + 8 * draw.randrange(50),
                ]
            )
            place = ctypes.c_uint64.from_address(self.arena.base + at)
            other = draw.choice(self.words)
            place.value = draw.choice(
                [
                    0,
                    place.value ^ 1 << draw.randrange(64),
                    place.value + draw.choice([-64, -8, -1, 1, 8, 64]),
                    draw.getrandbits(64),
                    place.value >> 32 << 32 | other,
                    place.value & 0xFFFFFFFF | draw.getrandbits(32) << 32,
                    int.from_bytes(self.healthy[other : other + 8], "little"),
                ]
            )

    def check(self, *words: str) -> Answer:
        assert self.commands.stdin and self.commands.stdout
        print(json.dumps(["check", str(self.pin), *words]), file=self.commands.stdin, flush=True)
        line = self.commands.stdout.readline()
        assert line, f"the check of {words} ended its process with {self.commands.wait()}"
        answer = Answer(*json.loads(line))
        # 2 is for what is no arena any more, such as one without its magic number.
        assert answer.status in (0, 1, 2), answer.complained
        assert answer.said or answer.complained
        return answer


def fill(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=500, initial_entries=1)
    names = arena.hashmap("names", key=Str[16], value=u64, max_entries=20)
    recent = arena.list("recent", value=u64, max_entries=100)
    inbox = arena.queue("inbox", value=u64, max_entries=16)
    objects = arena.pool("objects", value=u64, max_entries=40)
    seen = arena.set("seen", key=u64, max_entries=100, reclaim="grace")
    slots = arena.array("slots", value=u64, max_entries=100)
    for i in range(200):
        numbers[i] = i
    for i in range(0, 200, 3):
        del numbers[i]
    for i in range(20):
        names[f"name {i}"] = i
        recent.push(i)
        objects.alloc(i)
        seen.add(i)
        slots[i] = i + 1
        if i < 12:
            inbox.push(i)
            seen.discard(i)


@pytest.fixture
def subject(
    engine: str, pin: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> Iterator[Subject]:
    with arenads.create(
        "256KiB",
        engine=engine,  # type: ignore[arg-type]
        populate="256KiB",
        provision=None,
    ) as arena:
        fill(arena)
        arena.pin(pin)
        yield Subject(arena, pin, start_python(COMMANDS))


def survive(subject: Subject, seeds: range) -> dict[str, dict[Any, int]]:
    """Check an image for each seed, in every way; how often each way ended with each status."""
    statuses: dict[str, dict[Any, int]] = {}

    def check(*words: str) -> Answer:
        answer = subject.check(*words)
        counts = statuses.setdefault(" ".join(words), {})
        counts[answer.status] = counts.get(answer.status, 0) + 1
        return answer

    assert subject.check().status == 0
    for seed in seeds:
        draw = random.Random(seed)
        subject.restore()
        subject.damage(draw)
        damaged = subject.memory()
        try:
            if draw.random() < 0.5:
                check()
                check(draw.choice(list(NAMES)))
            else:
                answer = check("--json")
                if answer.said:
                    report = json.loads(answer.said)
                    found = any(each["errors"] or each["leaked"] for each in report["structures"])
                    assert found == (answer.status == 1)
            assert subject.memory() == damaged, "a check changed something"
            repaired = check("--repair")
            if repaired.status == 0:
                assert check().status == 0, "repaired, and not in order"
        except BaseException:
            print("seed", seed)
            raise
    subject.restore()
    assert subject.check().status == 0
    return statuses


def test_a_check_of_a_damaged_pin_comes_back_and_changes_nothing(subject: Subject) -> None:
    statuses = survive(subject, range(40))
    print(statuses)
    assert {0, 1} <= set(statuses["--repair"])


@pytest.mark.slow
def test_checks_of_many_damaged_pins_come_back(subject: Subject) -> None:
    print(survive(subject, range(10_000, 20_000)))
