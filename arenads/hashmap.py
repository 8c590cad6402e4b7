"""The hash map of an arena as a mutable mapping."""

from __future__ import annotations

from typing import TypeVar

from arenads._core import lib
from arenads.hashed import Hashed
from arenads.mapping import Map

__all__ = ["HashMap"]

K = TypeVar("K")
V = TypeVar("V")


class HashMap(Map[K, V], Hashed[K, V]):
    """A hash map that BPF programs and processes read and write at the same time.

    Made by `Arena.hashmap`, or found by name in `Arena.structures`. Values that are read are
    whole copies; iteration sees every key that stays in the map exactly once, in no
    particular order. No operation makes a system call.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     ages = arena.hashmap("ages", key=arenads.u64, value=arenads.u64)
    ...     ages[1] = 30
    ...     ages.update({2: 40, 3: 50})
    ...     del ages[1]
    ...     sorted(ages.items()), len(ages), 1 in ages
    ([(2, 40), (3, 50)], 2, False)
    """

    kind = lib.ADS_KIND_HASHMAP
    kind_name = "hash map"

    _core_get = lib.core_hashmap_get
