"""The ordered map of an arena as a mutable mapping in the order of its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from arenads._core import ffi, lib
from arenads.entries import BATCH
from arenads.errors import KeyAbsentError, SchemaError
from arenads.mapping import Map
from arenads.schema import BytesType, Record, Scalar, Schema, StrType

if TYPE_CHECKING:
    from arenads.snapshot import Snapshot

__all__ = ["OrderedMap", "key_flags"]

K = TypeVar("K")
V = TypeVar("V")

_FROM = 0
# Records that a snapshot of a range has room for at first.
_EXPECTED = 1024


def key_flags(name: str, key: Schema) -> int:
    """Return what an ordered map has to know of its keys: ADS_SIGNED, ADS_BYTES, or 0.

    Raises
    ------
    SchemaError
        Keys of this type have no order.
    """
    kind = key.type
    if isinstance(kind, Record) and len(kind.fields) == 1 and kind.fields[0].offset == 0:
        kind = kind.fields[0].type
    if isinstance(kind, BytesType | StrType):
        return int(lib.ADS_BYTES)
    if isinstance(key.type, Scalar) and key.type.name[0] in "ui" and key.type.name != "char":
        return int(lib.ADS_SIGNED) if key.type.name[0] == "i" else 0
    raise SchemaError(
        f"the key of {name!r}: expected an integer, bytes or text, found {key.name}. An ordered map"
        " needs keys in an order; use a hash map for others."
    )


class OrderedMap(Map[K, V]):
    """A map in the order of its keys that BPF programs and processes read and write at once.

    Keys are integers, or byte strings of one size, in the order of `sorted`. Iteration, `items`
    and `values` go from the lowest key up, and see every key that stays in the map exactly
    once. Values that are read are whole copies.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     due = arena.orderedmap("due", key=arenads.i64, value=arenads.u32)
    ...     due.update({30: 3, -10: 1, 20: 2})
    ...     list(due), due.lower_bound(0), list(due.range(-10, 30)), due.pop_first()
    ...     due.first(), due.popitem()
    ([-10, 20, 30], (20, 2), [(-10, 1), (20, 2)], (-10, 1))
    ((20, 2), (20, 2))
    """

    kind = lib.ADS_KIND_ORDEREDMAP
    kind_name = "ordered map"

    _core_find = lib.core_orderedmap_find
    _core_get = lib.core_orderedmap_get
    _core_update = lib.core_orderedmap_update
    _core_pop = lib.core_orderedmap_pop

    # --- in order ---------------------------------------------------------------------------

    def first(self) -> tuple[K, V]:
        """Return the lowest key and its value.

        Raises
        ------
        KeyAbsentError
            The map is empty.
        """
        for pair in self._pairs(None, None, most=1):
            return pair
        raise KeyAbsentError(f"{self._title} is empty")

    def pop_first(self) -> tuple[K, V]:
        """Delete the lowest key and return it with its value: no other writer gets the same one.

        It was the lowest at some moment of the call; a lower one that somebody else inserts in
        that moment counts as later.

        Raises
        ------
        KeyAbsentError
            The map is empty.
        """
        key = ffi.new("char[]", max(self._key_codec.size, 8))
        memory, view = buffer = self._take_buffer()
        code = lib.core_orderedmap_pop_first(self._handle, key, memory)
        if code == lib.ADS_ABSENT:
            self._buffers.append(buffer)
            raise KeyAbsentError(f"{self._title} is empty")
        self._check(code)
        pair = (
            self._key_codec.unpack(ffi.buffer(key, self._key_codec.size)),
            self._value_codec.unpack(view),
        )
        self._buffers.append(buffer)
        return pair

    def popitem(self) -> tuple[K, V]:
        """Delete the lowest key; as `pop_first`.

        Raises
        ------
        KeyAbsentError
            The map is empty.
        """
        return self.pop_first()

    def lower_bound(self, key: K) -> tuple[K, V] | None:
        """Return the first key that is not below `key`, with its value; None if there is none."""
        return next(self._pairs(self._key_codec.pack(key), None, most=1), None)

    def range(self, start: K | None = None, stop: K | None = None) -> Iterator[tuple[K, V]]:
        """Iterate over (key, value) pairs from `start` on, up to and without `stop`.

        None: from the lowest, to the end.
        """
        return self._pairs(self._bound(start), self._bound(stop))

    def snapshot(self, start: K | None = None, stop: K | None = None) -> Snapshot[tuple[K, V]]:
        """Copy all pairs, or those from `start` on, up to and without `stop`, in their order.

        As `range`, in few calls and without making Python objects of them; what is said of the
        snapshots of a hash map holds for these. Only the keys of the range are read: a few of a
        million take as long as a few.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     due = arena.orderedmap("due", key=arenads.i64, value=arenads.u32)
        ...     due.update_many(range(-500, 500), range(1000))
        ...     near = due.snapshot(-1, 3)
        >>> list(near), near.array["value"].tolist()
        ([(-1, 499), (0, 500), (1, 501), (2, 502)], [499, 500, 501, 502])

        Raises
        ------
        SchemaError
            `start` or `stop` is no key of this map.
        NoMemoryError
        """
        if start is None and stop is None:
            return super().snapshot()
        bounds = [
            ffi.NULL if packed is None else ffi.new("char[]", packed)
            for packed in (self._bound(start), self._bound(stop))
        ]
        return self._take(min(len(self), _EXPECTED), *bounds)

    def _bound(self, key: K | None) -> bytes | None:
        return None if key is None else self._key_codec.pack(key)

    def _pairs(
        self, start: bytes | None, stop: bytes | None, most: int = BATCH
    ) -> Iterator[tuple[K, V]]:
        """Iterate over pairs between two packed keys, `most` in one call of the C core."""
        if start is None:
            return self._scan(self._decode_pairs, stop=stop, most=most)

        def begin(scan: Any) -> int:
            return int(lib.core_orderedmap_scan_from(self._handle, scan, start, _FROM))

        return self._scan(self._decode_pairs, begin, start, stop, most)
