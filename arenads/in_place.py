"""Atomic work on 64-bit integers of live values, for structures that know them by key or index."""

from __future__ import annotations

from typing import Generic, TypeVar

from arenads.structure import Structure

__all__ = ["InPlace"]

K = TypeVar("K")
V = TypeVar("V")


class InPlace(Structure[V], Generic[K, V]):
    """What maps and arrays change in place; a view has the same methods, without the key."""

    # The first use of one of these gives the map or array functions of its own for them.

    def _fuse(self) -> None:
        raise NotImplementedError

    def add(self, key: K, amount: int, field: str = "") -> int:
        """Add to a 64-bit integer of a live value, atomically; return what it was before.

        `key` is a key of a map, or an index of an array. `field` names the integer ("calls",
        "cpu[2].ticks"); leave it out if the value is the integer. Other writers, BPF programs too,
        lose nothing. If a map's key is deleted by someone else at the same moment the addition
        may go to the entry's next key: do not mix in-place changes with deletes of the same keys.

        Raises
        ------
        SchemaError
            There is no such field, it is no aligned 64-bit integer, or a number does not fit.
        KeyAbsentError, RangeError
            There is no such key, or no such index.
        ArenaFullError
            No memory for an element of an array that nobody has touched.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=8)
        ...     hits[1] = 5
        ...     hits.add(1, 3), hits[1], counts.add(3, 2), counts[3]
        (5, 8, 0, 2)
        """
        self._fuse()
        return self.add(key, amount, field)

    def load(self, key: K, field: str = "") -> int:
        """Read one 64-bit integer of a live value, never torn; arguments and errors as of `add`.

        >>> import arenads, msgspec
        >>> Task = msgspec.defstruct("Task", [("calls", arenads.u64), ("limit", arenads.u64)])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.hashmap("tasks", key=arenads.u32, value=Task)
        ...     tasks[1] = Task(7, 100)
        ...     tasks.load(1, "limit")
        100
        """
        self._fuse()
        return self.load(key, field)

    def store(self, key: K, value: int, field: str = "") -> None:
        """Write one 64-bit integer of a live value; arguments and errors as of `add`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     hits[1] = 5
        ...     hits.store(1, 0)
        ...     hits[1]
        0
        """
        self._fuse()
        self.store(key, value, field)

    def exchange(self, key: K, value: int, field: str = "") -> int:
        """Write one 64-bit integer of a live value, atomically; return what it was before.

        Arguments and errors are those of `add`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=8)
        ...     counts[3] = 5
        ...     counts.exchange(3, 0), counts[3]
        (5, 0)
        """
        self._fuse()
        return self.exchange(key, value, field)

    def cas(self, key: K, expected: int, wanted: int, field: str = "") -> bool:
        """Compare and swap: write one 64-bit integer if it is what is expected; whether it was.

        One step for every other writer. The other arguments, and errors, are those of `add`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     hits[1] = 5
        ...     hits.cas(1, 5, 6), hits.cas(1, 5, 7), hits[1]
        (True, False, 6)
        """
        self._fuse()
        return self.cas(key, expected, wanted, field)
