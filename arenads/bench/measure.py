"""Runs both sides of a cell in turn, round by round, until there is something to compare.

First each side does operations until it is warm, and tells how many fill a round: each has its
own number, so that both take equally long. Then come the rounds: ours first in one, the peer first
in the next, and the empty loop, if there is one, before both. The thread keeps to one CPU, and
Python's collector of garbage is off, as `timeit` has it. A round during which the kernel gave the
CPU to somebody else is repeated, up to three times in all; of those the least disturbed one counts.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from arenads.bench.cell import Side, Sides
from arenads.bench.statistics import Comparison, compare

__all__ = ["FULL", "QUICK", "Settings", "allowed_cpus", "measure", "on_cpu"]

# With what a side does besides, such as putting back what it deleted.
_LONGEST_ROUND_NS = 250_000_000
_CALIBRATIONS = 24
_ATTEMPTS = 3


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure: `rounds` of each side, of about so many seconds each."""

    rounds: int
    seconds: float


QUICK = Settings(rounds=9, seconds=0.004)
FULL = Settings(rounds=15, seconds=0.012)


def measure(
    sides: Sides, settings: Settings, tick: Callable[[], None] = lambda: None
) -> Comparison:
    """Run the rounds and compare them; `tick` is called after each.

    >>> sides = Sides(ours=lambda operations: 3 * operations, peer=lambda operations: operations)
    >>> measure(sides, Settings(rounds=6, seconds=1e-6)).winner
    'peer'
    """
    with on_cpu(allowed_cpus()[-1]), _no_garbage_collection():
        count = {
            name: _calibrate(side, sides, settings.seconds)
            for name, side in (("ours", sides.ours), ("peer", sides.peer), ("empty", sides.empty))
            if side is not None
        }
        ours: list[float] = []
        peer: list[float] = []
        empty: list[float] = []
        for number in range(settings.rounds):
            if sides.empty is not None:
                empty.append(_round(sides.empty, count["empty"]))
            if number % 2 == 0:
                ours.append(_round(sides.ours, count["ours"]))
                peer.append(_round(sides.peer, count["peer"]))
            else:
                peer.append(_round(sides.peer, count["peer"]))
                ours.append(_round(sides.ours, count["ours"]))
            tick()
    return compare(ours, peer, empty)


def _round(side: Side, operations: int) -> float:
    """Nanoseconds an operation, in the least disturbed of a few attempts."""
    best: tuple[int, float] | None = None
    for _ in range(_ATTEMPTS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        took = side(operations) / operations
        disturbed = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
        if not disturbed:
            return took
        if best is None or disturbed < best[0]:
            best = (disturbed, took)
    assert best is not None
    return best[1]


def _calibrate(side: Side, sides: Sides, seconds: float) -> int:
    """Return how many operations take so long; doing them warms the side up."""
    wanted = seconds * 1e9
    most = max(sides.most // sides.step, 1)
    steps = 1
    for _ in range(_CALIBRATIONS):
        start = time.perf_counter_ns()
        took = max(side(steps * sides.step), 1)
        whole = time.perf_counter_ns() - start
        if took >= wanted / 2 or steps >= most or whole >= _LONGEST_ROUND_NS:
            break
        # Not at once: the first operations are slower than those to come.
        steps = min(most, max(steps + 1, int(steps * min(wanted / took, 8))))
    fitting = min(wanted / took, _LONGEST_ROUND_NS / whole)
    return max(1, min(most, round(steps * fitting))) * sides.step


def allowed_cpus() -> list[int]:
    """Return the CPUs that this process may use, as it was started."""
    return _CPUS


_CPUS = sorted(os.sched_getaffinity(0))


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Keep the calling thread on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
