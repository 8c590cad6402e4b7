"""Uses an arena whose memory is damaged in random places. Run by test_errors.py.

    python damage.py PATH FIRST COUNT

PATH is the pin of an arena with the structures `numbers`, `names`, `events`, `inbox`. For each seed
from FIRST on, some of its words are changed, everything is tried, and the memory is put back.
Whatever raises anything but an ArenadsError, crashes or takes ten seconds ends the process; the
seed stands on the last line of the output.
"""

from __future__ import annotations

import ctypes
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import arenads
from arenads import u64

ROOT = 64
PATIENCE = 10


def interesting(chosen: random.Random, size: int, word: int) -> int:
    """A word that could be there, or nearly."""
    return chosen.choice(
        [
            0,
            1,
            (1 << 64) - 1,
            1 << 63,
            word ^ 1 << chosen.randrange(64),
            word ^ 1 << chosen.randrange(32),
            word + chosen.choice([-64, -8, -1, 1, 8, 64, 1 << 32]) & (1 << 64) - 1,
            word & ~0xFFFFFFFF | chosen.randrange(0, size, 8),
            word & ~0xFFFFFFFF | chosen.randrange(0, size, 8) | 1,
            chosen.randrange(0, 2 * size, 8),
            chosen.getrandbits(32),
            chosen.getrandbits(64),
        ]
    )


def uses(arena: arenads.Arena, chosen: random.Random) -> list[Callable[[], object]]:
    """Everything that can be done with the structures and by their names."""
    key = chosen.randrange(80)
    found: list[Callable[[], object]] = [
        lambda: list(arena.structures),
        lambda: arena.statistics(),
        lambda: arena.hashmap("numbers", key=u64, value=u64),
        lambda: arena.hashmap(f"new {key}", key=u64, value=u64, max_entries=100)[1],
        lambda: arena.queue("queue", value=u64),
        lambda: arena.populate(4096),
        lambda: arena.provision("1MiB"),
        lambda: arena.provision(None),
    ]
    for name in ("numbers", "names", "events", "inbox"):
        found.append(lambda name=name: arena.structures[name])  # type: ignore[misc]
    return found


def uses_of_structures(it: dict[str, Any], chosen: random.Random) -> list[Callable[[], object]]:
    key, order = chosen.randrange(80), chosen.randrange(40)
    name = bytes([key]) * 13
    numbers, names, events, inbox = (it[each] for each in ("numbers", "names", "events", "inbox"))
    return [
        lambda: numbers[key],
        lambda: key in numbers,
        lambda: numbers.__setitem__(key, 1),
        lambda: numbers.insert(key + 1, 1),
        lambda: numbers.replace(key, 2),
        lambda: numbers.__delitem__(key),
        lambda: numbers.pop(key, None),
        lambda: numbers.popitem(),
        lambda: numbers.add(key, 1),
        lambda: numbers.load(key),
        lambda: list(numbers),
        lambda: list(numbers.items()),
        lambda: len(numbers),
        lambda: repr(numbers),
        lambda: numbers.max_entries,
        lambda: numbers.counters(),
        lambda: numbers.check(),
        lambda: numbers.check(repair=True),
        lambda: [numbers.__setitem__(each, each) for each in range(100, 140)],
        lambda: numbers.clear(),
        lambda: names[name],
        lambda: names.__setitem__(name, name),
        lambda: dict(names),
        lambda: names.check(),
        lambda: names.clear(),
        lambda: events.push(1),
        lambda: events.get(order),
        lambda: events.insert(order, 1),
        lambda: events.replace(order, 1),
        lambda: events.update(order, 1),
        lambda: events.delete(order),
        lambda: list(events.items()),
        lambda: len(events),
        lambda: events.check(repair=True),
        lambda: inbox.push(1),
        lambda: inbox.push_many([1, 2, 3]),
        lambda: inbox.pop(),
        lambda: len(inbox),
        lambda: repr(inbox),
        lambda: inbox.drain(),
        lambda: inbox.drain(5),
        lambda: inbox.counters(),
    ]


def attempt(use: Callable[[], object]) -> str:
    signal.alarm(PATIENCE)
    try:
        use()
    except arenads.ArenadsError as error:
        assert str(error)
        return type(error).__name__
    finally:
        signal.alarm(0)
    return ""


def main() -> None:
    path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a hang inside of C too
    answers: dict[str, int] = {}
    arena = arenads.open(path)
    healthy = ctypes.string_at(arena.base, arena.size)
    arena.close()
    for seed in range(first, first + count):
        print(seed, flush=True)
        chosen = random.Random(seed)
        arena = arenads.open(path)
        it = {name: arena.structures[name] for name in ("numbers", "names", "events", "inbox")}
        used = arena.used
        for _ in range(chosen.choice([1, 1, 2, 5, 30])):
            at = chosen.choice(
                [
                    chosen.randrange(ROOT, used, 8),
                    chosen.randrange(ROOT, ROOT + 256, 8),
                    chosen.choice(list(it.values())).offset + chosen.randrange(0, 1600, 8),
                ]
            )
            place = ctypes.c_uint64.from_address(arena.base + at)
            place.value = interesting(chosen, used, place.value)
        everything = [*uses(arena, chosen), *uses_of_structures(it, chosen)]
        chosen.shuffle(everything)
        for use in everything:
            answer = attempt(use)
            answers[answer] = answers.get(answer, 0) + 1
        arena.provision(None) if not arena.closed else None
        # As it was: through this view, for the root may be such that nobody can open it.
        ctypes.memmove(arena.base, healthy, len(healthy))
        arena.close()
    print(answers)


main()
