"""What is walked from entry to entry: maps, sets and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from arenads._core import ffi, lib
from arenads.bulk import Packed, not_all
from arenads.codec import Codec
from arenads.errors import ArenadsError
from arenads.schema import Scalar, Schema
from arenads.snapshot import Layout, Snapshot, take
from arenads.structure import Collection

if TYPE_CHECKING:
    from arenads.arena import Arena

__all__ = ["BATCH", "Entries"]

V = TypeVar("V")

# Records that iteration copies in one call of the C core: so many, and not more bytes than that.
BATCH, _BATCH_BYTES = 1024, 1 << 18
# A list's entries have an order where those of maps have a key.
_ORDER = Schema(Scalar("u64"))


class Entries(Collection[V]):
    """Base of maps, sets and lists; not made directly."""

    # What the C core calls a key is called so in a snapshot.
    _key_name = "key"

    def __init__(
        self,
        arena: Arena,
        name: str,
        offset: int,
        key: object,
        value: object,
        key_schema: Schema | None,
        value_schema: Schema | None,
    ) -> None:
        super().__init__(arena, name, offset, key, value, key_schema, value_schema)
        if key_schema is None:
            key_schema, self._handle.key_width = _ORDER, _ORDER.size
        self._key_codec: Codec[Any] = self._codec(key, key_schema, self._key_name)
        parts: list[tuple[str, Codec[Any]]] = [(self._key_name, self._key_codec)]
        if value_schema is not None:
            parts.append(("value", self._value_codec))
        self._layout = Layout((self.kind_name, name), *parts)
        self._handle.value_at = self._layout.columns[-1].offset if value_schema else key_schema.size
        self._handle.record_size = self._layout.size

    def snapshot(self) -> Snapshot[Any]:
        """Copy all entries, in few calls and without making Python objects of them.

        Every key that is there throughout is in the snapshot exactly once, and each record is
        whole, as somebody stored it. It is no cut at one point in time: a key that others
        insert, replace or delete meanwhile is there as it was before or after, or not at all.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     squares = arena.hashmap("squares", key=arenads.u32, value=arenads.u64)
        ...     squares.update_many(range(5), [0, 1, 4, 9, 16])
        ...     taken = squares.snapshot()
        >>> sorted(taken), len(taken), int(taken.array["value"].sum())
        ([(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)], 5, 30)

        Raises
        ------
        NoMemoryError
        """
        return self._take(len(self), ffi.NULL, ffi.NULL)

    def _take(self, expected: int, start: Any, stop: Any) -> Snapshot[Any]:
        """Take a snapshot; of an ordered map only from a packed key on, and before another."""
        handle = self._handle
        self.arena._open()
        sweep = ffi.new("core_sweep *")  # has pointers to `start` and `stop`
        self._check(lib.core_sweep_start(handle, sweep, start, stop))
        return take(
            self,
            self._layout,
            expected,
            lambda records, room: lib.core_sweep_on(
                handle, sweep, records.memory, records.count, room
            ),
        )

    # --- many in one call -------------------------------------------------------------------

    def _pieces(self, count: int, piece: int) -> Iterator[tuple[Any, int]]:
        """Yield how far a batch has come, which C moves on, and how far it shall come next."""
        done = ffi.new("__u64 *")
        while True:
            self.arena._open()
            yield done, min(done[0] + piece, count)
            if done[0] >= count:
                return

    def _check_done(self, code: int, done: Any, count: int) -> None:
        try:
            self._check(code)
        except ArenadsError as error:
            not_all(error, int(done[0]), count, f"{self._key_name}s")
            raise

    def _delete_many(self, keys: Packed, piece: int) -> int:
        """Delete many in one call; return how many of them were there."""
        deleted = ffi.new("__u64 *")
        for done, end in self._pieces(keys.count, piece):
            code = lib.core_delete_many(self._handle, keys.pointer, end, done, deleted)
            self._check_done(code, done, keys.count)
        return int(deleted[0])

    # --- one after the other ----------------------------------------------------------------

    def _begin(self) -> Any:
        self.arena._open()
        scan = ffi.new("struct ads_scan *")
        self._check(lib.core_scan_start(self._handle, scan))
        return scan

    def _scan(
        self,
        decode: Callable[[Any, int, int], list[Any]],
        begin: Callable[[Any], int] | None = None,
        first: bytes = b"",
        stop: bytes | None = None,
        most: int = BATCH,
    ) -> Iterator[Any]:
        """Yield what `decode(buffer, record size, count)` makes of each batch of records.

        `begin(scan)` starts elsewhere than at the first entry: at the packed key `first`. An
        ordered map ends before the packed key `stop`. A batch has `most` records.
        """
        handle, size = self._handle, int(self._handle.record_size)
        if begin is None:
            scan = self._begin()
        else:
            self.arena._open()
            scan = ffi.new("struct ads_scan *")
            self._check(begin(scan))
        room = max(1, min(most, _BATCH_BYTES // size))
        batches = [ffi.new("char[]", size * room) for _ in range(2)]
        last = batches[1] if begin is None else ffi.new("char[]", first)
        end = ffi.NULL if stop is None else stop
        while True:
            self.arena._open()
            batch = batches[0]
            count = lib.core_scan(handle, scan, last, end, batch, room)
            self._check(count)
            # Not at a short batch: that ends before an error, which the next call returns.
            if not count:
                return
            yield from decode(ffi.buffer(batch), size, count)
            # The last key is where the next batch goes on; it must outlive this batch.
            last = batch + size * (count - 1)
            batches.reverse()

    def _decode_keys(self, buffer: Any, size: int, count: int) -> list[Any]:
        """Return the keys of a batch of records."""
        return self._key_codec.unpack_many(buffer, size, 0, count)

    def _decode_values(self, buffer: Any, size: int, count: int) -> list[V]:
        """Return the values of a batch of records."""
        return self._value_codec.unpack_many(buffer, size, self._handle.value_at, count)

    def _decode_pairs(self, buffer: Any, size: int, count: int) -> list[tuple[Any, V]]:
        """Return the (key, value) pairs of a batch of records."""
        keys = self._decode_keys(buffer, size, count)
        return list(zip(keys, self._decode_values(buffer, size, count), strict=True))
