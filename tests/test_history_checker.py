"""The checker of histories on histories that are known, and against one that tries every order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy
import pytest
from history_checker import (
    ABSENT,
    ACCEPTED,
    CELL,
    EVENT,
    EXISTS,
    FIFO,
    FULL,
    LINKED,
    MALFORMED,
    NODES,
    OK,
    OVERWRITING,
    QUEUE,
    REFUSED,
    REGISTER,
    RING,
    SORTED,
    TOO_LONG,
    Checker,
)
from hypothesis import given, settings
from hypothesis import strategies as st

# --- histories that are known ------------------------------------------------------------


class Event(NamedTuple):
    """One operation: who, what, from when to when, and what it gave."""

    actor: int
    operation: str
    invoked: int
    returned: int
    key: int = 0
    given: int = 0
    found: int = 0
    code: int = OK
    list: int = 0
    excused: bool = False  # see `excuse`


def logs_of(checker: Checker, events: list[Event]) -> list[numpy.ndarray[Any, Any]]:
    logs: list[list[tuple[int, ...]]] = [[] for _ in range(4)]
    for e in sorted(events, key=lambda e: e.invoked):
        operation = checker.operations[e.operation]
        logs[e.actor].append(
            (e.invoked, e.returned, operation, e.list, e.code, e.key, e.given, e.found)
        )
    return [numpy.array(log, EVENT) for log in logs]


def put(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "UPDATE", invoked, returned, given=value, **more)


def get(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "GET", invoked, returned, found=value, code=OK if value else ABSENT, **more)


def push(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(actor, "PUSH", invoked, returned, given=value, **more)


def take(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return Event(
        actor, "TAKE", invoked, returned, found=value, code=OK if value else ABSENT, **more
    )


def pop_first(actor: int, invoked: int, returned: int, key: int, value: int) -> Event:
    return Event(actor, "POP_FIRST", invoked, returned, key=key, found=value)


def bound(actor: int, invoked: int, returned: int, given: int, key: int, value: int) -> Event:
    code = OK if value else ABSENT
    return Event(actor, "LOWER_BOUND", invoked, returned, key, given, value, code)


def link(actor: int, invoked: int, returned: int, node: int, order: int, **more: int) -> Event:
    return Event(actor, "INSERT", invoked, returned, key=order, given=node, **more)


def contains(actor: int, invoked: int, returned: int, node: int, order: int, **more: int) -> Event:
    code = OK if order else ABSENT
    return Event(actor, "CONTAINS", invoked, returned, key=order, given=node, code=code, **more)


def record(number: int, length: int) -> int:
    """A value of a ring."""
    return number << 8 | length


def drain(actor: int, invoked: int, returned: int, value: int, **more: int) -> Event:
    return take(actor, invoked, returned, value, given=ROOM, **more)


TOP = 1 << 63
ROOM = 64  # of who takes from a ring
RING_BYTES = 64
# What fits, where it is not 2.
CAPACITIES = {NODES: 4, RING: RING_BYTES, OVERWRITING: RING_BYTES}

RIGHT: dict[str, tuple[int, list[Event]]] = {
    "nothing": (REGISTER, []),
    "a read while a value is replaced gives either one": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 8, 20), get(1, 4, 5, 10), get(1, 6, 7, 20)],
    ),
    "what overlaps may have happened in any order": (
        REGISTER,
        [put(0, 1, 6, 10), put(1, 2, 7, 20), put(2, 3, 8, 30), get(3, 4, 5, 20), get(3, 9, 10, 10)],
    ),
    "a key that is deleted meanwhile is found or not": (
        REGISTER,
        [
            put(0, 1, 2, 10),
            Event(0, "DELETE", 3, 8),
            get(1, 4, 5, 10),
            get(2, 6, 7, 0),
            get(1, 9, 10, 0),
        ],
    ),
    "of two that insert at once either one wins": (
        REGISTER,
        [
            Event(0, "INSERT", 1, 3, given=10),
            Event(1, "INSERT", 2, 4, given=20, code=EXISTS),
            get(0, 5, 6, 10),
        ],
    ),
    "a counter is added to twice": (
        REGISTER,
        [
            Event(0, "ADD", 1, 3, given=1, found=2),
            Event(1, "ADD", 2, 4, given=1, found=1),
            get(0, 5, 6, 3),
        ],
    ),
    "keys have nothing to do with each other": (
        REGISTER,
        [put(0, 1, 2, 10, key=1), get(1, 3, 4, 0, key=2), put(1, 5, 6, 20, key=2)],
    ),
    "an object changes owners": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 2, key=64, given=10),
            Event(1, "FREE", 3, 5, key=64, found=10),
            Event(0, "ALLOC", 4, 6, key=64, given=20),
        ],
    ),
    "of two that push either one is first": (
        SORTED,
        [push(0, 1, 3, 10, key=TOP - 1), push(1, 2, 4, 20, key=TOP)],
    ),
    "a list starts over when it is empty": (
        SORTED,
        [
            push(0, 1, 2, 10, key=TOP),
            push(0, 3, 4, 20, key=TOP - 1),
            Event(0, "DELETE", 5, 6, key=TOP),
            Event(0, "POP", 7, 8, key=TOP - 1, found=20),
            push(0, 9, 10, 30, key=TOP),
        ],
    ),
    "a queue gives what it has, in either order of two that were pushed at once": (
        QUEUE,
        [push(0, 1, 3, 10), push(1, 2, 4, 20), take(2, 5, 6, 20), take(2, 7, 8, 10)],
    ),
    "a queue is empty while a push has not returned": (
        QUEUE,
        [push(0, 1, 6, 10), take(1, 2, 3, 0), take(1, 4, 5, 10), take(1, 7, 8, 0)],
    ),
    "a queue of two is full with two": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), push(0, 5, 6, 30, code=FULL), take(1, 7, 8, 10)],
    ),
    "what was the first at a moment is taken at a later one": (
        SORTED,
        [
            put(0, 1, 2, 10, key=5),
            pop_first(0, 3, 10, 5, 10),
            put(1, 4, 5, 20, key=3),
            get(2, 6, 7, 10, key=5),
            get(1, 8, 9, 20, key=3),
            get(1, 11, 12, 0, key=5),
        ],
    ),
    "an iteration ends though the end has moved since its last step": (
        SORTED,
        [
            put(0, 1, 2, 10, key=5),
            bound(0, 3, 4, 0, 5, 10),
            put(1, 5, 6, 20, key=7),
            Event(0, "END", 3, 8, given=6, code=ABSENT),
        ],
    ),
    "an element is zero until it is stored": (
        CELL,
        [
            Event(0, "GET", 1, 2),
            Event(0, "EXCHANGE", 3, 4, given=10, found=0),
            Event(1, "ADD", 5, 6, given=5, found=10),
            Event(1, "COMPARE", 7, 8, given=30, found=15),
            Event(1, "COMPARE", 9, 10, given=40, found=30, code=EXISTS),
        ],
    ),
    "a node is said to be linked while another links it in vain": (
        NODES,
        [
            link(0, 1, 2, 1, 7),
            link(0, 3, 8, 2, 7, code=EXISTS),
            link(1, 4, 5, 2, 9, code=LINKED, list=1),
            contains(2, 6, 7, 2, 0),
            contains(2, 9, 10, 2, 0),
        ],
    ),
    "a node is in one list after the other": (
        NODES,
        [
            link(0, 1, 2, 1, 7),
            Event(0, "REMOVE", 3, 4, given=1),
            link(0, 5, 6, 1, 3, list=1),
            contains(0, 7, 8, 1, 0),
            contains(0, 9, 10, 1, 3, list=1),
        ],
    ),
    "what is committed is seen when it is published": (
        RING,
        [
            Event(0, "APPEND", 1, 2, given=record(1, 8)),
            drain(1, 3, 4, 0),
            push(0, 5, 6, record(2, 9)),
            Event(1, "LOOK", 7, 8, given=0, found=record(1, 8)),
            Event(1, "LOOK", 9, 10, given=1, found=record(2, 9)),
            Event(1, "RELEASE", 11, 12, given=2),
            drain(1, 13, 14, 0),
        ],
    ),
    "a ring is full because of the padding before its wrap": (
        RING,
        [
            push(0, 1, 2, record(1, 16)),
            push(0, 3, 4, record(2, 16)),
            drain(1, 5, 6, record(1, 16)),
            push(0, 7, 8, record(3, 24), code=FULL),
            Event(0, "FIRST", 9, 10, found=record(2, 16)),
        ],
    ),
    "a ring is empty between a drop and the push that made it": (
        OVERWRITING,
        [
            push(0, 1, 2, record(1, 24)),
            push(0, 3, 4, record(2, 24)),
            push(0, 5, 10, record(3, 24)),
            drain(1, 6, 7, record(2, 24)),
            drain(1, 8, 9, 0),
            drain(1, 11, 12, record(3, 24)),
        ],
    ),
    "what is committed is published early, when nothing else is left to drop": (
        OVERWRITING,
        [
            Event(0, "APPEND", 1, 2, given=record(1, 24)),
            Event(0, "APPEND", 3, 4, given=record(2, 24)),
            Event(0, "APPEND", 5, 6, given=record(3, 24)),
            drain(1, 7, 8, record(2, 24)),
            drain(1, 9, 10, 0),
        ],
    ),
}

WRONG: dict[str, tuple[int, list[Event]]] = {
    "a value that nobody stored": (REGISTER, [put(0, 1, 2, 10), get(1, 3, 4, 20)]),
    "a value that is still to be stored": (REGISTER, [get(1, 1, 2, 10), put(0, 3, 4, 10)]),
    "a value that was replaced before": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 4, 20), get(1, 5, 6, 10)],
    ),
    "the new value, and then the old one": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 3, 8, 20), get(1, 4, 5, 20), get(2, 6, 7, 10)],
    ),
    "two readers that disagree on an order": (
        REGISTER,
        [
            put(0, 1, 20, 10),
            put(1, 2, 21, 20),
            get(2, 3, 4, 10),
            get(2, 5, 6, 20),
            get(3, 7, 8, 10),
        ],
    ),
    "a key that was there throughout, and was not found": (
        REGISTER,
        [put(0, 1, 2, 10), put(0, 4, 5, 20), get(1, 3, 6, 0)],
    ),
    "a key inserted twice": (
        REGISTER,
        [Event(0, "INSERT", 1, 3, given=10), Event(1, "INSERT", 2, 4, given=20)],
    ),
    "a key that existed though nobody had inserted it": (
        REGISTER,
        [Event(0, "INSERT", 1, 2, given=10, code=EXISTS)],
    ),
    "a key replaced after it was deleted": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "DELETE", 3, 4), Event(1, "REPLACE", 5, 6, given=20)],
    ),
    "a key deleted twice": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "DELETE", 3, 5), Event(1, "DELETE", 4, 6)],
    ),
    "a value popped by two": (
        REGISTER,
        [put(0, 1, 2, 10), Event(0, "POP", 3, 5, found=10), Event(1, "POP", 4, 6, found=10)],
    ),
    "an addition that was lost": (
        REGISTER,
        [Event(0, "ADD", 1, 3, given=1, found=1), Event(1, "ADD", 2, 4, given=1, found=1)],
    ),
    "words of two values": (
        REGISTER,
        [put(0, 1, 2, 10), Event(1, "GET", 3, 4, found=10, code=1)],
    ),
    "a budget that ran out": (REGISTER, [put(0, 1, 2, 10, code=-40)]),
    "an object of two owners": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 3, key=64, given=10),
            Event(1, "ALLOC", 2, 4, key=64, given=20),
        ],
    ),
    "an object that somebody else wrote to": (
        REGISTER,
        [
            Event(0, "ALLOC", 1, 2, key=64, given=10),
            Event(0, "FREE", 3, 4, key=64, found=20),
        ],
    ),
    "three keys in a map for two": (
        REGISTER,
        [put(0, 1, 2, 10, key=1), put(0, 3, 4, 20, key=2), put(1, 5, 6, 30, key=3)],
    ),
    "a push that was not the first": (
        SORTED,
        [push(0, 1, 2, 10, key=TOP), push(0, 3, 4, 20, key=TOP)],
    ),
    "a push before one that it followed": (
        SORTED,
        [push(0, 1, 2, 10, key=TOP - 1), push(1, 3, 4, 20, key=TOP)],
    ),
    "three entries in a list for two": (
        SORTED,
        [
            push(0, 1, 2, 10, key=TOP),
            push(0, 3, 4, 20, key=TOP - 1),
            push(0, 5, 6, 30, key=TOP - 2),
        ],
    ),
    "a value taken by two": (
        QUEUE,
        [push(0, 1, 2, 10), take(1, 3, 5, 10), take(2, 4, 6, 10)],
    ),
    "a value taken before it was pushed": (QUEUE, [take(1, 1, 2, 10), push(0, 3, 4, 10)]),
    "a value that overtook another": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), take(1, 5, 6, 20), take(1, 7, 8, 10)],
    ),
    "a value that was left behind": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), take(1, 5, 6, 20)],
    ),
    "a queue that was never empty, found empty": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 4, 5, 20), take(1, 6, 7, 10), take(2, 3, 8, 0)],
    ),
    "a queue with room, found full": (QUEUE, [push(0, 1, 2, 10), push(0, 3, 4, 20, code=FULL)]),
    "three values in a queue of two": (
        QUEUE,
        [push(0, 1, 2, 10), push(0, 3, 4, 20), push(0, 5, 6, 30)],
    ),
    "a pop of what was never the first": (
        SORTED,
        [put(0, 1, 2, 10, key=5), put(0, 3, 4, 20, key=3), pop_first(0, 5, 6, 5, 10)],
    ),
    "the same popped twice": (
        SORTED,
        [put(0, 1, 2, 10, key=5), pop_first(0, 3, 5, 5, 10), pop_first(1, 4, 6, 5, 10)],
    ),
    "a bound that passes over a key": (
        SORTED,
        [put(0, 1, 2, 10, key=5), put(0, 3, 4, 20, key=3), bound(1, 5, 6, 2, 5, 10)],
    ),
    "an iteration that ends before the last key": (
        SORTED,
        [
            put(0, 1, 2, 10, key=5),
            put(0, 3, 4, 20, key=7),
            bound(1, 5, 6, 0, 5, 10),
            Event(1, "END", 5, 8, given=6, code=ABSENT),
        ],
    ),
    "a word that was exchanged by two": (
        CELL,
        [
            Event(0, "EXCHANGE", 1, 3, given=10, found=0),
            Event(1, "EXCHANGE", 2, 4, given=20, found=0),
        ],
    ),
    "a chunk that was made twice": (
        CELL,
        [Event(0, "UPDATE", 1, 3, given=10), Event(1, "GET", 4, 5)],
    ),
    "a node in two lists": (NODES, [link(0, 1, 3, 1, 7), link(1, 2, 4, 1, 7, list=1)]),
    "a node that two have removed": (
        NODES,
        [link(0, 1, 2, 1, 7), *(Event(n, "REMOVE", 3 + n, 5 + n, given=1) for n in (0, 1))],
    ),
    "a node that is linked though nobody links it": (NODES, [link(0, 1, 2, 1, 7, code=LINKED)]),
    "a node that makes place for itself": (
        NODES,
        [link(0, 1, 3, 1, 7), link(1, 2, 4, 1, 7, code=EXISTS)],
    ),
    "two nodes of one order": (NODES, [link(0, 1, 2, 1, 7), link(0, 3, 4, 2, 7)]),
    "a record that is seen before it is published": (
        RING,
        [Event(0, "APPEND", 1, 2, given=record(1, 8)), drain(1, 3, 4, record(1, 8))],
    ),
    "a record that was discarded": (
        RING,
        [Event(0, "DISCARD", 1, 2, given=record(1, 8)), drain(1, 3, 4, record(1, 8))],
    ),
    "a ring with room, found full": (RING, [push(0, 1, 2, record(1, 16), code=FULL)]),
    "more in a ring than fits": (
        RING,
        [push(0, 2 * n, 2 * n + 1, record(n, 24)) for n in range(1, 4)],
    ),
    "a record that is longer than the ring takes": (RING, [push(0, 1, 2, record(1, 25))]),
    "a record that was released": (
        RING,
        [
            push(0, 1, 2, record(1, 8)),
            Event(1, "LOOK", 3, 4, given=0, found=record(1, 8)),
            Event(1, "RELEASE", 5, 6, given=1),
            drain(1, 7, 8, record(1, 8)),
        ],
    ),
    "a record that was dropped while there was room": (
        OVERWRITING,
        [
            push(0, 1, 2, record(1, 8)),
            push(0, 3, 4, record(2, 8)),
            drain(1, 5, 6, record(2, 8)),
        ],
    ),
    "a record that was dropped before": (
        OVERWRITING,
        [
            *(push(0, 2 * n, 2 * n + 1, record(n, 24)) for n in range(1, 4)),
            drain(1, 10, 11, record(1, 24)),
        ],
    ),
    "a record that overtook another in an overwriting ring": (
        OVERWRITING,
        [
            *(push(0, 2 * n, 2 * n + 1, record(n, 16)) for n in range(1, 6)),
            drain(1, 20, 21, record(5, 16)),
            drain(1, 22, 23, record(4, 16)),
        ],
    ),
}
# What the patterns say nothing of.
ABOUT_ROOM = {"a queue with room, found full", "three values in a queue of two"}


@pytest.mark.parametrize("name", RIGHT)
def test_what_some_order_explains_is_accepted(checker: Checker, name: str) -> None:
    model, events = RIGHT[name]
    verdict, report = checker.check(model, logs_of(checker, events), CAPACITIES.get(model, 2))
    assert verdict == ACCEPTED, report.problem.decode()
    if model == QUEUE:
        assert checker.check(FIFO, logs_of(checker, events))[0] == ACCEPTED


@pytest.mark.parametrize("name", WRONG)
def test_what_no_order_explains_is_refused(checker: Checker, name: str) -> None:
    model, events = WRONG[name]
    verdict, report = checker.check(model, logs_of(checker, events), CAPACITIES.get(model, 2))
    assert verdict == REFUSED
    assert report.problem
    if model == QUEUE and name not in ABOUT_ROOM:
        assert checker.check(FIFO, logs_of(checker, events))[0] == REFUSED


def test_what_is_no_history_is_not_judged(checker: Checker) -> None:
    backwards = [put(0, 2, 1, 10)]
    two_at_once = [put(0, 1, 3, 10), put(0, 2, 4, 20)]
    for events in (backwards, two_at_once):
        assert checker.check(REGISTER, logs_of(checker, events))[0] == MALFORMED


def test_overlaps_are_counted(checker: Checker) -> None:
    events = [put(0, 1, 4, 10), put(1, 2, 6, 20), put(2, 5, 7, 30), put(3, 3, 8, 40, key=1)]
    verdict, report = checker.check(REGISTER, logs_of(checker, events))
    assert verdict == ACCEPTED
    assert (report.operations, report.keys, report.open) == (4, 2, 2)
    assert (report.concurrent, report.overlaps, report.handovers) == (5, 2, 2)


# --- against a checker that tries every order -----------------------------------------------

State = dict[Any, Any]
Result = tuple[int, int, int]  # code, key, what was found


class On(NamedTuple):
    """An operation that goes on: what it has seen, if it must remember."""

    seen: int | None = None


def on_key(state: State, e: Event, _: int | None) -> Result:
    """Do an operation on a dictionary."""
    there = e.key in state
    match e.operation:
        case "GET":
            return (OK, e.key, state[e.key]) if there else (ABSENT, e.key, 0)
        case "FIND":
            return OK if there else ABSENT, e.key, 0
        case "INSERT" if there:
            return EXISTS, e.key, 0
        case "REPLACE" if not there:
            return ABSENT, e.key, 0
        case "INSERT" | "REPLACE" | "UPDATE":
            state[e.key] = e.given
            return OK, e.key, 0
        case "LOOKUP_OR_INSERT":
            state.setdefault(e.key, e.given)
            return OK, e.key, 0
        case "ADD":
            before = state.get(e.key, 1)
            state[e.key] = before + e.given
            return OK, e.key, before
        case "DELETE":
            return (OK if state.pop(e.key, None) else ABSENT), e.key, 0
        case "POP":
            return (OK, e.key, state.pop(e.key)) if there else (ABSENT, e.key, 0)
    raise AssertionError(e.operation)


def on_sorted(state: State, e: Event, seen: int | None) -> Result | On:
    match e.operation:
        case "PUSH":
            order = min(state) - 1 if state else TOP
            state[order] = e.given
            return OK, order, 0
        case "LOWER_BOUND" | "END":
            key = min((key for key in state if key >= e.given), default=None)
            return (ABSENT, e.key, 0) if key is None else (OK, key, state[key])
        case "POP_FIRST" if not state and seen is None:
            return ABSENT, e.key, 0
        case "POP_FIRST" if seen is None:
            return On(min(state))
        case "POP_FIRST":  # unless somebody was faster: then it looks again
            return (OK, seen, state.pop(seen)) if seen in state else On()
    return on_key(state, e, seen)


def on_queue(state: State, e: Event, _: int | None, capacity: int) -> Result:
    """The keys of the dictionary are positions here."""
    if e.operation == "PUSH":
        if len(state) == capacity:
            return FULL, e.key, 0
        state[max(state, default=0) + 1] = e.given
        return OK, e.key, 0
    return (OK, e.key, state.pop(min(state))) if state else (ABSENT, e.key, 0)


def on_cell(state: State, e: Event, _: int | None) -> Result:
    """Whether a COMPARE succeeds is up to its event, which does not say what was expected."""
    before = state.get(e.key, 0)
    match e.operation:
        case "UPDATE":
            state[e.key], before = e.given, 0
        case "EXCHANGE":
            state[e.key] = e.given
        case "ADD":
            state[e.key] = before + e.given
        case "COMPARE" if e.code == OK:
            state[e.key] = e.given
        case "COMPARE":
            return EXISTS, e.key, before
    return OK, e.key, before


def on_nodes(state: State, e: Event, seen: int | None) -> Result | On:
    """The keys of the dictionary are lists with orders."""
    here = {order: node for (number, order), node in state.items() if number == e.list}
    orders = {node: order for order, node in here.items()}
    match e.operation:
        case "INSERT" | "PUSH":
            if e.operation == "PUSH":
                order = min(here) - 1 if here else TOP
            else:
                order = e.key
            taken = e.operation == "INSERT" and here.get(order, e.given) != e.given
            if e.code == EXISTS and taken:
                return EXISTS, e.key, 0
            if e.given in state.values() or (e.code == LINKED and e.excused):
                return LINKED, e.key, 0
            if taken:
                return EXISTS, e.key, 0
            state[e.list, order] = e.given
            return OK, order, 0
        case "CONTAINS" | "REMOVE" if e.given not in orders:
            return ABSENT, e.key, 0
        case "CONTAINS":
            return OK, orders[e.given], 0
        case "REMOVE":
            del state[e.list, orders[e.given]]
            return OK, e.key, 0
    result = on_sorted(here, e, seen)
    for key in [key for key in state if key[0] == e.list]:
        del state[key]
    state.update({(e.list, order): node for order, node in here.items()})
    return result


def excuse(events: list[Event]) -> list[Event]:
    """Mark what may say that a node is linked, because another was about to link it meanwhile."""
    linking = [e for e in events if e.operation in ("INSERT", "PUSH") and e.code != LINKED]
    return [
        e._replace(
            excused=any(
                e.given == other.given and e.invoked < other.returned and other.invoked < e.returned
                for other in linking
            )
        )
        for e in events
    ]


def on_ring(state: State, e: Event, _: int | None, overwriting: bool) -> Result | On | None:
    """None: no ring is asked this."""
    size = RING_BYTES
    values = state.setdefault("values", ())
    head, tail, published = (state.setdefault(name, 0) for name in ("head", "tail", "published"))

    def need(value: int) -> int:
        return 8 + -(-(value & 255) // 8) * 8

    def begin(position: int, value: int) -> int:
        left = size - position % size
        return position + (left if need(value) > left else 0)

    def drop(count: int) -> None:
        for value in values[:count]:
            state["head"] = begin(state["head"], value) + need(value)
        state["values"] = values[count:]
        state["published"] -= count

    match e.operation:
        case "PUSH" | "APPEND" | "DISCARD":
            end = begin(tail, e.given) + need(e.given)
            if e.given & 255 > size // 2 - 8:
                return TOO_LONG, e.key, 0
            if end - head > size and not overwriting:
                return FULL, e.key, 0
            if end - head > size:
                if not published:
                    state["published"] = len(values)
                elif begin(head, values[0]) != head:
                    state["head"] = begin(head, values[0])
                else:
                    drop(1)
                return On()
            if e.operation != "DISCARD":
                state["values"] = (*values, e.given)
                state["tail"] = end
            if e.operation == "PUSH":
                state["published"] = len(values) + 1
        case "PUBLISH":
            state["published"] = len(values)
        case "TAKE" | "FIRST" if not published:
            return ABSENT, e.key, 0
        case "TAKE" if values[0] & 255 > e.given:
            return TOO_LONG, e.key, 0
        case "FIRST":
            return OK, e.key, values[0]
        case "TAKE":
            drop(1)
            return OK, e.key, values[0]
        case "LOOK" | "RELEASE" if e.given + (e.operation == "LOOK") > published:
            return None
        case "LOOK":
            return OK, e.key, values[e.given]
        case "RELEASE":
            drop(e.given)
    return OK, e.key, 0


KEYED = ("GET", "FIND", "INSERT", "REPLACE", "UPDATE", "LOOKUP_OR_INSERT", "ADD", "DELETE", "POP")
ORDERED = ("PUSH", "POP_FIRST", "POP_FIRST", "LOWER_BOUND", "LOWER_BOUND")
LINKING = ("INSERT", "INSERT", "PUSH", "REMOVE", "CONTAINS", "GET", "POP", *ORDERED[1:4])
OF_RING = ("PUSH", "PUSH", "APPEND", "DISCARD", "PUBLISH", "TAKE", "TAKE", "FIRST")
# For each model: what a dictionary does, the operations, the keys.
Do = Callable[[State, Event, "int | None"], "Result | On | None"]
DICTIONARIES: dict[int, tuple[Do, tuple[str, ...], list[int]]] = {
    REGISTER: (on_key, KEYED, [0, 1]),
    SORTED: (on_sorted, (*ORDERED, *KEYED[:6], *KEYED[7:]), [TOP, TOP - 1]),
    QUEUE: (functools.partial(on_queue, capacity=2), ("PUSH", "PUSH", "TAKE"), [0]),
    FIFO: (functools.partial(on_queue, capacity=100), ("PUSH", "TAKE"), [0]),
    CELL: (on_cell, ("GET", "UPDATE", "EXCHANGE", "ADD", "COMPARE"), [0, 1]),
    NODES: (on_nodes, LINKING, [TOP, TOP - 1]),
    RING: (functools.partial(on_ring, overwriting=False), (*OF_RING, "LOOK", "RELEASE"), [0]),
    OVERWRITING: (functools.partial(on_ring, overwriting=True), OF_RING, [0]),
}


def some_order_explains(
    model: int,
    events: list[Event],
    state: State | None = None,
    seen: dict[Event, int] | None = None,
) -> bool:
    """Try each operation that may come first, or go on, and then the rest."""
    do, _, _ = DICTIONARIES[model]
    seen = seen or {}
    first_return = min((e.returned for e in events), default=0)
    for i, e in enumerate(events):
        if e.invoked >= first_return:
            continue
        after = dict(state or {})
        result = do(after, e, seen.get(e))
        if isinstance(result, On):
            has_seen = {other: what for other, what in seen.items() if other != e}
            if result.seen is not None:
                has_seen[e] = result.seen
            if some_order_explains(model, events, after, has_seen):
                return True
        elif result == (e.code, e.key, e.found) and some_order_explains(
            model, events[:i] + events[i + 1 :], after, seen
        ):
            return True
    return not events


def asked(draw: st.DrawFn, model: int, actor: int, time: int) -> Event:
    """Return what an actor may begin to do."""
    _, operations, keys = DICTIONARIES[model]
    operation, key = draw(st.sampled_from(operations)), draw(st.sampled_from(keys))
    e = Event(actor, operation, time, 0, key, time + 10)
    if operation in ("GET", "FIND", "DELETE", "POP", "TAKE", "FIRST", "PUBLISH", "POP_FIRST"):
        e = e._replace(given=0)
    if operation == "ADD":
        e = e._replace(given=1)
    if operation == "LOWER_BOUND":
        e = e._replace(given=key, key=0)
    if operation == "COMPARE":
        e = e._replace(code=draw(st.sampled_from([OK, EXISTS])))
    if model == NODES:
        e = e._replace(list=draw(st.integers(0, 1)))
        if operation in ("INSERT", "PUSH", "REMOVE", "CONTAINS"):
            e = e._replace(given=draw(st.integers(1, 3)))
    if model in (RING, OVERWRITING):
        if operation in ("PUSH", "APPEND", "DISCARD"):
            e = e._replace(given=record(time + 10, draw(st.sampled_from([8, 16, 23, 24, 25]))))
        if operation == "TAKE":
            e = e._replace(given=draw(st.sampled_from([ROOM, ROOM, 16])))
        if operation in ("LOOK", "RELEASE"):
            e = e._replace(given=draw(st.integers(0, 1)) + (operation == "RELEASE"))
    return e


def with_a_lie(draw: st.DrawFn, model: int, events: list[Event]) -> list[Event]:
    """Return the history with another result of one operation."""
    i = draw(st.integers(0, len(events) - 1))
    found = draw(st.sampled_from([e.given for e in events] + [e.found for e in events]))
    e = events[i]
    codes = {NODES: [OK, ABSENT, EXISTS, LINKED], RING: [OK, ABSENT, FULL, TOO_LONG]}
    if e.code == OK and e.found and found and draw(st.booleans()):
        e = e._replace(found=found)
    elif model in (NODES, RING, OVERWRITING) and draw(st.booleans()):
        e = e._replace(code=draw(st.sampled_from(codes.get(model, codes[RING]))))
        e = e._replace(found=0 if e.code else e.found)
    elif e.operation in ("LOWER_BOUND", "POP_FIRST"):
        key = draw(st.sampled_from([other.key for other in events]))
        e = e._replace(code=OK if found else ABSENT, key=key if found else 0, found=found)
    elif e.operation in ("GET", "TAKE", "POP", "FIRST"):
        e = e._replace(code=OK if found or model == CELL else ABSENT, found=found)
    elif e.operation in ("FIND", "DELETE", "REPLACE", "REMOVE", "CONTAINS"):
        e = e._replace(code=ABSENT if e.code == OK else OK)
    elif e.operation in ("INSERT", "COMPARE"):
        e = e._replace(code=EXISTS if e.code == OK else OK)
    elif e.operation == "PUSH" and model in (QUEUE, RING, OVERWRITING):
        e = e._replace(code=FULL if e.code == OK else OK)
    elif e.operation == "PUSH" and model in (SORTED, NODES):
        e = e._replace(key=e.key + draw(st.sampled_from([-1, 1])))
    if e.operation == "LOWER_BOUND" and e.code == ABSENT:
        e = e._replace(operation="END")  # of which nothing comes before: the same
    return [*events[:i], e, *events[i + 1 :]]


@st.composite
def histories(draw: st.DrawFn, model: int) -> list[Event]:
    """What three actors may have done, and perhaps a lie."""
    do, _, _ = DICTIONARIES[model]
    state: State = {}
    events: list[Event] = []
    running: dict[int, tuple[Event, int | None, bool]] = {}  # what it has seen, if it has happened
    steps = draw(st.lists(st.integers(0, 2), min_size=3, max_size=24))
    last = len(steps)
    steps += [actor for actor in range(3) for _ in range(9)]  # all return in the end
    for time, actor in enumerate(steps):
        if actor not in running:
            if time < last:
                running[actor] = asked(draw, model, actor, time), None, False
            continue
        e, seen, happened = running[actor]
        if happened:
            del running[actor]
            events.append(e._replace(returned=time))
            continue
        result = do(state, e, seen)
        if isinstance(result, On):
            running[actor] = e, result.seen, False
        elif result is None:
            del running[actor]
        else:
            code, key, found = result
            running[actor] = e._replace(code=code, key=key, found=found), None, True
    return with_a_lie(draw, model, events) if events and draw(st.booleans()) else events


@pytest.mark.parametrize("model", DICTIONARIES)
@settings(max_examples=100)
@given(data=st.data())
def test_the_checker_agrees_with_one_that_tries_every_order(
    checker: Checker, model: int, data: st.DataObject
) -> None:
    events = excuse(data.draw(histories(model)))
    capacity = CAPACITIES.get(model, 2 if model == QUEUE else 16)
    verdict, report = checker.check(model, logs_of(checker, events), capacity)
    assert verdict == (ACCEPTED if some_order_explains(model, events) else REFUSED), report.problem
