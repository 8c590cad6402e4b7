"""The set of an arena as a mutable set."""

from __future__ import annotations

from collections.abc import Iterable, MutableSet
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeVar

from arenads._core import ffi, lib
from arenads.bulk import pack_many
from arenads.errors import KeyAbsentError
from arenads.fused import fuse_set, specialize
from arenads.hashed import Hashed

if TYPE_CHECKING:
    from arenads.snapshot import Snapshot

__all__ = ["Set"]

K = TypeVar("K")


class Set(Hashed[K, Any], MutableSet[K]):
    """A set that BPF programs and processes read and write at the same time.

    A hash map without values: what is said there holds here. Iteration sees every key that
    stays in the set exactly once, in no particular order. `&`, `|`, `-` and `^` return a `set`
    of Python's, a copy.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     blocked = arena.set("blocked", key=arenads.u32)
    ...     blocked |= {1, 2, 3}
    ...     blocked.discard(2)
    ...     sorted(blocked), 2 in blocked, len(blocked), blocked & {3, 4}
    ([1, 3], False, 2, {3})

    What two processes must not do both, is for the one whose `insert` was the first:

    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     taken = arena.set("taken", key=arenads.u32)
    ...     taken.update([1], {2, 3})
    ...     taken.add(4)
    ...     taken.insert(4), taken.insert(5)
    ...     taken.remove(1)
    ...     taken.pop() in {2, 3, 4, 5}, len(taken)
    (False, True)
    (True, 3)
    """

    kind = lib.ADS_KIND_SET
    kind_name = "set"

    if TYPE_CHECKING:

        def snapshot(self) -> Snapshot[K]: ...

    @classmethod
    def _from_iterable(cls, values: Iterable[Any]) -> set[Any]:
        return set(values)

    def insert(self, key: K) -> bool:
        """Add a key; whether it was absent before, in one step.

        Raises
        ------
        CapacityError, ArenaFullError
        """
        self._fuse()
        return self.insert(key)

    def _fuse(self) -> None:
        def make() -> dict[str, Any]:
            return fuse_set(
                self._key_codec.compiled,
                self._fused_core(),
                failed=Set._failed,
                refused=Set._refused,
            )

        specialize(self, make)

    def _refused(self, key: K, packed: bytes, value: bytes, mode: int, code: int) -> bool:
        code = self._after_grace(packed, value, mode, code)
        if code == lib.ADS_EXISTS:
            return False
        self._check(code)
        return True

    def add(self, key: K) -> None:
        """Add a key, if it is not there.

        Raises
        ------
        CapacityError, ArenaFullError
        """
        self._fuse()
        self.add(key)

    def update(self, *others: Iterable[K]) -> None:
        """Add all keys of others, arrays or iterables, in one call for each.

        Raises
        ------
        SchemaError
            A key does not fit: none of that other is added.
        CapacityError, ArenaFullError
            There is no room for all; `done` says how many keys are in, which are the first.
        """
        for other in others:
            packed = pack_many(self._key_codec, other, f"{self._title}: keys")
            self._update_packed(packed, ffi.NULL, lib.ADS_INSERT)

    def discard(self, key: K) -> None:
        """Delete a key, if it is there."""
        self._fuse()
        self.discard(key)

    def remove(self, key: K) -> None:
        """Delete a key that is there.

        Raises
        ------
        KeyAbsentError
        """
        self._fuse()
        self.remove(key)

    def pop(self) -> K:
        """Delete some key and return it.

        Raises
        ------
        KeyAbsentError
            The set is empty, or others emptied it meanwhile.
        """
        for packed in self._scan(self._raw_keys):
            if self._delete_packed(packed):
                key: K = self._key_codec.unpack(packed)
                return key
        raise KeyAbsentError(f"{self._title} is empty")

    def __eq__(self, other: object) -> bool:
        return set(self) == set(other) if isinstance(other, AbstractSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
