"""The order in which loops come to entries: the same for both sides, made before they run."""

from __future__ import annotations

import itertools
import random
from array import array

from arenads.bench.cell import Distribution
from arenads.errors import SchemaError

__all__ = ["ABSENT", "key_of", "make"]

ABSENT = 1 << 31
"""In a key's number: no entry has it."""

# As in the Yahoo cloud serving benchmark (Cooper and others, 2010).
_EXPONENT = 0.99
_SEED = 20_240_601
_LONGEST = 1 << 20


def make(entries: int, distribution: Distribution) -> array[int]:
    """Return indexes below `entries`, to be gone through again and again.

    "uniform": each index once, in random order. "sequential": each once, in order. "zipf": with
    repetition; the k-th most frequent, anywhere in the map, in proportion to k ** -0.99.

    >>> sorted(make(4, "uniform")), list(make(4, "sequential"))
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """
    if distribution == "sequential":
        return array("I", range(entries))
    rng = random.Random(_SEED + entries)
    shuffled = list(range(entries))
    rng.shuffle(shuffled)
    if distribution == "uniform":
        return array("I", shuffled)
    if distribution != "zipf":
        raise SchemaError(f"expected a distribution of keys, found {distribution!r}")
    weights = itertools.accumulate(rank**-_EXPONENT for rank in range(1, entries + 1))
    length = min(max(entries, 1 << 16), _LONGEST)
    return array("I", rng.choices(shuffled, cum_weights=list(weights), k=length))


def key_of(index: int) -> int:
    """Return the 31-bit number that the key of an entry is made of, another for each index.

    Numbers that follow each other would favour hash functions that multiply.

    >>> len({key_of(index) for index in range(1000)}), key_of(3) < ABSENT
    (1000, True)
    """
    # Odd factors and shifts to the right: each step can be undone (Steele and others, 2014).
    mixed = index * 0x6C078965 & (ABSENT - 1)
    mixed ^= mixed >> 16
    mixed = mixed * 0x45D9F3B & (ABSENT - 1)
    return mixed ^ mixed >> 15
