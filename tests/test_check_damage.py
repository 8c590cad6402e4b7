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
# The ABI: the root, its words `owners`, `cursor` and `directory`; `head` in struct ads_collection;
# where a directory entry has its hash, its name, and its value.
ROOT = range(64, 64 + 256, 8)
ROOT_DIRECTORY, ROOT_OWNERS, ROOT_CURSOR = 64 + 40, 64 + 56, 64 + 64
LIST_HEAD = 128
HASH, NAME, VALUE = 8, 16, 80
LINK_END = 1
HEAP = 1016


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

    def word(self, at: int) -> ctypes.c_uint64:
        """The word at an offset; to assign to its value changes the arena."""
        return ctypes.c_uint64.from_address(self.arena.base + at)

    @property
    def names(self) -> list[int]:
        """Offsets of the directory's entries, in the order of its list."""
        entries = [self.word(self.directory + LIST_HEAD).value & 0xFFFFFFFF]
        while entries[-1] != LINK_END:
            entries.append(self.word(entries[-1]).value & 0xFFFFFFFF)
        return entries[:-1]

    @property
    def directory(self) -> int:
        return self.word(ROOT_DIRECTORY).value

    @property
    def healthy_cursor(self) -> int:
        return int.from_bytes(self.healthy[ROOT_CURSOR : ROOT_CURSOR + 8], "little")

    def block(self, kind: int) -> int:
        """The first block of a kind."""
        at = HEAP
        while (word := self.word(at).value) & 3 != kind:
            assert word & 3 == 1  # raw, which says how large it is
            at += (word >> 32) * 64
        return at

    def report(self, *words: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.check(*words, "--json").said)
        return report

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
            place = self.word(at)
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
                    rows = [report["directory"], report["heap"], *report["structures"]]
                    found = any(each["errors"] or each.get("leaked") for each in rows)
                    assert found == (answer.status == 1)
            assert subject.memory() == damaged, "a check changed something"
            repaired = check("--repair", "--force")
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
    assert {0, 1} <= set(statuses["--repair --force"])


def test_a_check_counts_names_and_blocks(subject: Subject) -> None:
    report = subject.report()
    assert report["directory"]["entries"] == len(NAMES)
    assert report["heap"]["unnamed"] == 0
    assert report["heap"]["writers"] >= 1
    # Registry, directory, structures and their descriptions, and chunks of them.
    assert report["heap"]["blocks"] > 2 + 2 * len(NAMES)


def test_a_check_tells_how_many_operations_of_a_structure_failed(subject: Subject) -> None:
    inbox = subject.arena.structures["inbox"]
    with pytest.raises(arenads.CapacityError):
        for number in range(100):
            inbox.push(number)
    (found,) = subject.report("inbox")["structures"]
    assert found["counters"]["full"] == 1


def test_the_place_of_damage_in_the_directory_is_told(subject: Subject) -> None:
    third = subject.names[2]
    nowhere = 0x7FFFFFF8
    subject.word(third).value = subject.word(third).value >> 32 << 32 | nowhere
    answer = subject.check()
    assert answer.status == 1
    assert f"(directory): the first error is at offset {nowhere:#x}" in answer.complained
    report = subject.report()
    assert report["directory"]["errors"] == 1
    # What comes before the damage is checked all the same.
    assert len(report["structures"]) == 3, report
    assert subject.check("--repair", "--force").status == 1


def test_a_directory_that_goes_round_in_circles_is_damage(subject: Subject) -> None:
    first, *_, last = subject.names
    subject.word(last).value = subject.word(last).value >> 32 << 32 | first
    report = subject.report()
    assert report["directory"]["errors"] >= 1
    assert report["directory"]["error"].endswith(f"offset {first:#x}")


def test_a_directory_that_is_none_is_damage(subject: Subject) -> None:
    subject.word(ROOT_DIRECTORY).value = subject.arena.structures["numbers"].offset
    answer = subject.check()
    assert answer.status == 1
    assert "(directory): the first error is at offset" in answer.complained


def test_a_leaked_entry_of_the_directory_is_found_and_given_back(subject: Subject) -> None:
    """As if who removed the first structure had died before it gave the entry back."""
    first, second, *_ = subject.names
    head = subject.word(subject.directory + LIST_HEAD)
    head.value = head.value >> 32 << 32 | second
    subject.word(first).value |= 1 << 63
    assert subject.report()["directory"]["leaked"] == 1
    assert subject.check().status == 1
    answer = subject.check("--repair", "--force", "--json")
    assert answer.status == 0
    assert json.loads(answer.said)["directory"]["repaired"] == 1
    report = subject.report()
    assert report["directory"]["leaked"] == 0
    assert report["heap"]["unnamed"] == 2  # the structure and its description


def test_a_removed_structure_leaves_blocks_without_a_name(subject: Subject) -> None:
    subject.arena.remove("numbers")
    assert subject.check().status == 0
    report = subject.report()
    assert report["directory"]["entries"] == len(NAMES) - 1
    assert report["heap"]["unnamed"] == 2


@pytest.mark.parametrize("field", (HASH, NAME, VALUE), ids=("hash", "name", "value"))
def test_a_name_that_leads_nowhere_is_damage_with_its_place(subject: Subject, field: int) -> None:
    last = subject.names[-1]
    subject.word(last + field).value += 64
    report = subject.report()
    assert report["heap"]["errors"] >= 1
    assert report["heap"]["error"].endswith(f"offset {last:#x}")
    assert subject.check().status == 1


def test_blocks_that_do_not_lead_to_the_cursor_are_damage(subject: Subject) -> None:
    subject.word(HEAP).value += 1 << 32  # the registry's block is a line longer
    assert subject.report()["heap"]["errors"] >= 1
    subject.restore()
    subject.word(ROOT_CURSOR).value += 64
    report = subject.report()
    assert report["heap"]["errors"] >= 1
    assert report["heap"]["error"].endswith(f"offset {subject.healthy_cursor:#x}")


def test_a_chunk_whose_owner_is_no_structure_is_damage(subject: Subject) -> None:
    at = subject.block(kind=2)
    subject.word(at).value += 64  # the pool, in lines from bit 6 on
    report = subject.report()
    assert report["heap"]["errors"] >= 1
    assert report["heap"]["error"].endswith(f"offset {at:#x}")


def test_a_hand_that_holds_what_cannot_be_is_damage(subject: Subject) -> None:
    line = HEAP + 8
    subject.word(line + 24).value = 0xFFFFFFE0
    report = subject.report()
    assert (report["heap"]["errors"], report["directory"]["errors"]) == (1, 0)
    assert report["heap"]["error"].endswith(f"offset {line:#x}")
    subject.restore()
    subject.word(ROOT_OWNERS).value += 64
    assert subject.report()["heap"]["error"].endswith(f"offset {ROOT_OWNERS:#x}")


@pytest.mark.slow
def test_checks_of_many_damaged_pins_come_back(subject: Subject) -> None:
    print(survive(subject, range(10_000, 20_000)))
