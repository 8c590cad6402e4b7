"""How long single operations take, and not only their mean: percentiles of short batches.

A clock cannot time one operation of ten nanoseconds, so a batch of them is timed where the loop
is, inside the BPF program or the C function, and counts as so many operations of its mean. A
batch starts as the system call or the call that runs it leaves the caches, on both sides; nothing
is repeated or left out because somebody else had the CPU: that is what the tail is made of.
"""

from __future__ import annotations

import gc
import math
import time

import msgspec

from arenads.bench.cell import Side, Sides
from arenads.bench.measure import allowed_cpus, on_cpu

__all__ = ["BATCH", "LEVELS", "Latency", "latency", "percentiles"]

BATCH = 16
"""Operations of a batch; more where a side only does more at once."""

LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999)

_LARGEST_BATCH = 64
_BATCHES = 4096
# Both sides in turn, so that a busy stretch of the machine is not one side's.
_TURNS = 8
_FEWEST = 1000
_LONGEST_TURN_NS = 25_000_000


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of both sides.

    Attributes
    ----------
    batch : int
        Operations that were timed together.
    batches : int
        Of each side. The highest levels are those of a few of them.
    levels : tuple of float
        Parts of the batches, from 0 to 1.
    ours_ns, peer_ns : tuple of float
        For each level, the nanoseconds of an operation that this part did not exceed; nothing
        is subtracted for the loop.
    """

    batch: int
    batches: int
    levels: tuple[float, ...]
    ours_ns: tuple[float, ...]
    peer_ns: tuple[float, ...]


def latency(sides: Sides, batches: int = _BATCHES) -> Latency | None:
    """Time batches of both sides; None if they only do many at once or take too long.

    >>> found = latency(Sides(ours=lambda n: 5 * n, peer=lambda n: 9 * n), batches=1000)
    >>> found.batch, found.ours_ns[3], found.peer_ns[-1]
    (16, 5.0, 9.0)
    """
    batch = sides.step * math.ceil(BATCH / sides.step)
    if batch > min(_LARGEST_BATCH, sides.most):
        return None
    ours: list[float] = []
    peer: list[float] = []
    on = gc.isenabled()
    gc.disable()
    try:
        with on_cpu(allowed_cpus()[-1]):
            for turn in range(_TURNS):
                both = [(sides.ours, ours), (sides.peer, peer)]
                for side, found in both if turn % 2 == 0 else reversed(both):
                    found.extend(_some(side, batch, batches // _TURNS))
    finally:
        if on:
            gc.enable()
    count = min(len(ours), len(peer))
    if count < min(_FEWEST, batches):  # too few for a tail
        return None
    return Latency(
        batch=batch,
        batches=count,
        levels=LEVELS,
        ours_ns=percentiles(ours),
        peer_ns=percentiles(peer),
    )


def _some(side: Side, batch: int, batches: int) -> list[float]:
    side(batch)  # what the other side threw out of the caches comes back
    end = time.perf_counter_ns() + _LONGEST_TURN_NS
    found = []
    for _ in range(batches):
        found.append(side(batch) / batch)
        if time.perf_counter_ns() > end:
            break
    return found


def percentiles(values: list[float]) -> tuple[float, ...]:
    """Return the smallest value that each part of `LEVELS` does not exceed.

    >>> percentiles([float(number) for number in range(1, 1001)])[-1]
    999.0
    """
    ordered = sorted(values)
    return tuple(ordered[max(math.ceil(level * len(ordered)) - 1, 0)] for level in LEVELS)
