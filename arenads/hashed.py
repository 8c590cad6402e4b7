"""What hash map and set have in common: keys that are found by their hash."""

from __future__ import annotations

from typing import Generic, TypeVar

from arenads._core import lib
from arenads.keyed import Keyed

__all__ = ["Hashed"]

K = TypeVar("K")
V = TypeVar("V")


class Hashed(Keyed[K, V], Generic[K, V]):
    """Base of hash map and set; not made directly."""

    _core_find = lib.core_hashmap_find
    _core_update = lib.core_hashmap_update
    _core_pop = lib.core_hashmap_pop

    @property
    def buckets(self) -> int:
        """Shortcuts into the table now; twice as many whenever half of them may be used.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     seen = arena.set("seen", key=arenads.u32)
        ...     before = seen.buckets
        ...     seen.update(range(1000))
        ...     seen.buckets > before
        True
        """
        count = lib.core_hashmap_buckets(self._handle)
        self._check(count)
        return int(count)
