"""What the rounds of a cell say: medians, spread, and the interval of the ratio.

The interval is that of a median by ranks: of n sorted values, the k-th smallest and the k-th
largest enclose the median of what they were drawn from with a probability that only n and k
decide (the sign test turned around; Conover, Practical Nonparametric Statistics, 3rd edition,
1999, 3.2; Le Boudec, Performance Evaluation of Computer and Communication Systems, 2010,
theorem 2.1). It assumes nothing about how times are distributed, which on a machine with other
users is in no known way, and it is the same at each look at the same rounds.

The values are the ratios of the two sides in one round: whatever slows a stretch of the run
slows both, and cancels out (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, 2013,
argue for ratios with intervals rather than two means).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = ["CONFIDENCE", "FEWEST_ROUNDS", "Comparison", "Winner", "compare", "interval", "spread"]

CONFIDENCE = 0.95
FEWEST_ROUNDS = 6
"""With fewer not even the smallest and the largest value enclose the median so surely."""

# What two copies of one loop differ by on account of where they lie in memory.
_SAME = 0.01

Winner = Literal["ours", "peer", "none"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of both sides, each number for one operation.

    Attributes
    ----------
    ours, peer : float
        Medians of the rounds.
    ours_spread, peer_spread : float
        What lies between the first and the third quarter of the rounds.
    ratio : float
        peer / ours: above 1 ours is ahead.
    low, high : float
        Where the ratio lies with a confidence of 95 %.
    winner : "ours", "peer" or "none"
        None if the interval encloses 1, or comes within 1 % of it.
    loop : float
        What was subtracted from both: the loop itself. 0 where it is not subtracted.
    ours_rounds, peer_rounds : tuple of float
        The rounds themselves.
    """

    ours: float
    peer: float
    ours_spread: float
    peer_spread: float
    ratio: float
    low: float
    high: float
    winner: Winner
    loop: float
    ours_rounds: tuple[float, ...]
    peer_rounds: tuple[float, ...]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return an interval that holds the median with at least this confidence.

    With too few values for that it is from the smallest to the largest.

    >>> interval([5, 1, 2, 4, 3, 6])
    (1, 6)
    >>> interval(range(15))
    (3, 11)
    """
    ordered = sorted(values)
    count = len(ordered)
    # The median is outside if at most `rank` values fall on one side of it.
    outside, rank = 0.0, 0
    while rank < (count - 1) // 2:
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > 1 - confidence:
            break
        rank += 1
    first = max(rank - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def spread(values: Sequence[float]) -> float:
    """Return the distance between the first and the third quarter of the values.

    >>> spread([1, 2, 3, 4, 5])
    2.0
    """
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return float(high - low)


def compare(
    ours: Sequence[float], peer: Sequence[float], empty: Sequence[float] = ()
) -> Comparison:
    """Compare the rounds of both sides, the same number of each, in nanoseconds an operation.

    The median of the empty loop's rounds is subtracted from both. Where that leaves of one side
    less than a quarter of the loop, the difference is no measurement: then nothing is subtracted,
    from both.

    >>> compare([10, 11, 12, 10, 11, 12], [21, 20, 22, 23, 21, 22], [1, 1, 1]).winner
    'ours'
    """
    loop = statistics.median(empty) if empty else 0.0
    if min(statistics.median(ours), statistics.median(peer)) < 1.25 * loop:
        loop = 0.0
    mine = [_positive(each - loop) for each in ours]
    other = [_positive(each - loop) for each in peer]
    ratios = [second / first for first, second in zip(mine, other, strict=True)]
    ratio = statistics.median(other) / statistics.median(mine)
    low, high = interval(ratios)
    # Of skewed rounds the quotient of the medians may lie outside: it is what we report.
    low, high = min(low, ratio), max(high, ratio)
    return Comparison(
        ours=statistics.median(mine),
        peer=statistics.median(other),
        ours_spread=spread(mine),
        peer_spread=spread(other),
        ratio=ratio,
        low=low,
        high=high,
        winner=_winner(low, high, len(ratios)),
        loop=loop,
        ours_rounds=tuple(mine),
        peer_rounds=tuple(other),
    )


def _winner(low: float, high: float, rounds: int) -> Winner:
    if rounds < FEWEST_ROUNDS:
        return "none"
    if low > 1 + _SAME:
        return "ours"
    return "peer" if high < 1 - _SAME else "none"


def _positive(nanoseconds: float) -> float:
    """A round of a side cannot take less than nothing; a clock's resolution may say so."""
    return max(nanoseconds, 0.001)
