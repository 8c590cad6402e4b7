"""The same trace of operations, run by the BPF build and by the native build of one program."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import arenads

PROGRAM = Path(__file__).parent / "programs" / "operations.bpf.c"
# The program's own enumeration, in its order.
OPERATIONS = re.findall(r"^\t([A-Z_]+),$", PROGRAM.read_text(), re.MULTILINE)
STEP = struct.Struct("<5Q")
MASK = (1 << 64) - 1
MAP_ENTRIES, LIST_ENTRIES, SLOTS = 32, 16, 8
ABSENT, EXISTS, FULL = -2, -17, -28

Step = tuple[str, int, int]
Answer = tuple[int, int, int]


class Side:
    """One engine with the program loaded."""

    def __init__(self, compiled: Callable[..., Path], engine: str) -> None:
        self.program = arenads.load(compiled("operations", engine), engine=engine)  # type: ignore[arg-type]
        self.runners = {
            name: self.program.runner(f"on_{name.lower()}", STEP.size)
            for name in ("NUMBERS", "NOTES", "EVENTS", "INBOX")
        }

    def run(self, step: Step) -> Answer:
        operation, key, value = step
        runner: Any = self.runners[operation.split("_")[0]]
        code = runner(STEP.pack(OPERATIONS.index(operation), key, value, 0, 0))
        *_, first, second = STEP.unpack(runner.context)
        return code, first, second

    def reset(self) -> None:
        for name in ("numbers", "notes"):
            self.program[name].clear()  # type: ignore[attr-defined]
        events: Any = self.program["events"]
        for order, _ in list(events.items()):
            events.delete(order)
        self.program["inbox"].drain()  # type: ignore[attr-defined]

    def contents(self) -> dict[str, Any]:
        numbers, notes, events = (self.program[name] for name in ("numbers", "notes", "events"))
        return {
            "numbers": {key: (pair.first, pair.second) for key, pair in numbers.items()},  # type: ignore[attr-defined]
            "notes": {key.text: (n.number, n.kind, n.text) for key, n in notes.items()},  # type: ignore[attr-defined]
            "events": [(order, e.first, e.second) for order, e in events.items()],  # type: ignore[attr-defined]
            "inbox": [(n.number, n.kind) for n in self.program["inbox"].drain()],  # type: ignore[attr-defined]
            "lengths": [len(each) for each in (numbers, notes, events)],
        }

    def books_balance(self) -> bool:
        reports = [self.program[name].check() for name in ("numbers", "notes", "events")]  # type: ignore[attr-defined]
        return all(report.errors == 0 and report.leaked == 0 for report in reports)


@pytest.fixture(scope="module")
def sides(kernel_engine: str, compiled: Callable[..., Path]) -> Iterator[tuple[Side, Side]]:
    both = Side(compiled, "kernel"), Side(compiled, "native")
    yield both
    for side in both:
        side.program.close()


class Model:
    """What the operations mean, in plain Python; None where it has no opinion."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.notes: dict[int, int] = {}
        self.events: dict[int, int] = {}
        self.inbox: list[int] = []

    def expect(self, step: Step) -> int | None:
        operation, key, value = step
        what, verb = operation.split("_", 1)
        if what == "INBOX":
            return self.on_inbox(verb, value)
        if what == "NOTES":
            key &= (1 << 40) - 1
        records = {"NUMBERS": self.numbers, "NOTES": self.notes, "EVENTS": self.events}[what]
        limit = LIST_ENTRIES if what == "EVENTS" else MAP_ENTRIES
        if verb == "LEN":
            return len(records)
        if verb in ("SUM", "SUM_AFTER"):
            return ABSENT  # how the iteration ends
        if verb in ("GET", "FIND"):
            return 0 if key in records else ABSENT
        if verb in ("LOOKUP", "ADD"):
            if verb == "ADD" and key in records:
                records[key] = (records[key] + value) & MASK
            return 0 if key in records else 1
        if verb in ("FIRST", "POP_FIRST"):
            if not records:
                return ABSENT
            if verb == "POP_FIRST":
                del records[min(records)]
            return 0
        if verb in ("DELETE", "POP"):
            return 0 if records.pop(key, None) is not None else ABSENT
        if verb == "PUSH":
            first = min(records, default=None)
            if len(records) == limit or first == 0:
                return FULL
            records[1 << 63 if first is None else first - 1] = value
            return 0
        if key in records:
            if verb == "INSERT":
                return EXISTS
            if verb != "LOOKUP_OR_INSERT":
                records[key] = value
            return 0
        if verb == "REPLACE":
            return ABSENT
        if len(records) == limit:
            return 1 if verb == "LOOKUP_OR_INSERT" else FULL
        records[key] = value
        return 0

    def on_inbox(self, verb: str, value: int) -> int:
        if verb == "LEN":
            return len(self.inbox)
        if verb == "PUSH":
            if len(self.inbox) == SLOTS:
                return FULL
            self.inbox.append(value & 0xFFFFFFFF)
            return 0
        if not self.inbox:
            return ABSENT
        self.inbox.pop(0)
        return 0


keys = st.integers(0, 40) | st.sampled_from([(1 << 63) - 1, 1 << 63, MASK, 1 << 32, 0xFF << 32])
steps = st.tuples(st.sampled_from(OPERATIONS), keys, st.integers(0, MASK))


def compare(sides: tuple[Side, Side], trace: list[Step]) -> None:
    for side in sides:
        side.reset()
    model = Model()
    for at, step in enumerate(trace):
        kernel, native = (side.run(step) for side in sides)
        assert kernel == native, (at, step)
        assert kernel[0] == model.expect(step), (at, step)
    kernel_contents, native_contents = (side.contents() for side in sides)
    assert kernel_contents == native_contents
    assert {key: first for key, (first, _) in kernel_contents["numbers"].items()} == model.numbers
    assert {order: first for order, first, _ in kernel_contents["events"]} == model.events
    assert len(kernel_contents["notes"]) == len(model.notes)
    assert [number for number, _ in kernel_contents["inbox"]] == model.inbox
    assert all(side.books_balance() for side in sides)


def test_every_operation_of_the_program_is_known() -> None:
    assert len(OPERATIONS) == 34
    assert {name.split("_")[0] for name in OPERATIONS} == {"NUMBERS", "NOTES", "EVENTS", "INBOX"}


@pytest.mark.kernel
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(trace=st.lists(steps, max_size=150))
def test_both_builds_give_the_same_answers_and_contents(
    sides: tuple[Side, Side], trace: list[Step]
) -> None:
    compare(sides, trace)


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(4))
def test_both_builds_stay_together_over_a_long_trace(sides: tuple[Side, Side], seed: int) -> None:
    chosen = random.Random(seed)
    trace: list[Step] = [
        (chosen.choice(OPERATIONS), chosen.randrange(48), chosen.getrandbits(64))
        for _ in range(4000)
    ]
    compare(sides, trace)


@pytest.mark.kernel
@pytest.mark.parametrize("what", ["NUMBERS", "NOTES", "EVENTS"])
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_builds_agree_on_a_structure_that_is_full(
    sides: tuple[Side, Side], what: str, data: st.DataObject
) -> None:
    limit = LIST_ENTRIES if what == "EVENTS" else MAP_ENTRIES
    fill: list[Step] = [(f"{what}_INSERT", key, key * 3) for key in range(limit + 2)]
    own = [name for name in OPERATIONS if name.startswith(what)]
    more = st.tuples(st.sampled_from(own), st.integers(0, limit + 4), st.integers(0, MASK))
    compare(sides, fill + data.draw(st.lists(more, min_size=20, max_size=80)))


@pytest.mark.kernel
def test_both_builds_count_the_same_refusals(sides: tuple[Side, Side]) -> None:
    found = []
    for side in sides:
        side.reset()
        before = {name: side.program[name].counters().full for name in side.program}
        for key in range(100):
            side.run(("NUMBERS_INSERT", key, key))
            side.run(("NOTES_UPDATE", key, key))
            side.run(("EVENTS_PUSH", key, key))
            side.run(("INBOX_PUSH", key, key))
        after = {name: side.program[name].counters().full for name in side.program}
        found.append({name: after[name] - before[name] for name in after})
    assert found[0] == found[1]
    assert found[0] == {
        "numbers": 100 - MAP_ENTRIES,
        "notes": 100 - MAP_ENTRIES,
        "events": 100 - LIST_ENTRIES,
        "inbox": 100 - SLOTS,
    }
