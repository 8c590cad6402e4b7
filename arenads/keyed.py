"""What maps and sets have in common: keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import KeyAbsentError
from arenads.schema import Schema
from arenads.structure import Collection, _codec

if TYPE_CHECKING:
    from arenads.arena import Arena
    from arenads.btf import Declaration

__all__ = ["Keyed"]

K = TypeVar("K")
V = TypeVar("V")

# As globals: looking a constant up in the extension costs a third of an operation.
_ABSENT, _FULL = lib.ADS_ABSENT, lib.ADS_FULL


class Keyed(Collection[V], Generic[K, V]):
    """Base of maps and sets; not made directly."""

    # Functions of the C core, one a kind.
    _core_find: Any
    _core_update: Any
    _core_pop: Any

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
        assert key_schema is not None
        super().__init__(arena, name, offset, key, value, key_schema, value_schema)
        self._key_codec: Codec[K] = _codec(key, key_schema)
        self._entries = ffi.new("__u32 *")  # written by __contains__, never read

    @classmethod
    def declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return how entries are reclaimed, if the declaration says."""
        flags = declaration.numbers.get("flags", 1) - 1
        return {"reclaim": "grace"} if flags & lib.ADS_GRACE else {}

    @property
    def key_type(self) -> Schema:
        """Schema of the keys."""
        return self._key_codec.schema

    def _absent(self, key: object) -> KeyAbsentError:
        return KeyAbsentError(f"{key!r} is not in {self.kind_name} {self.name!r}", key=key)

    def __contains__(self, key: object) -> bool:
        code = self._core_find(self._handle, self._key_codec.pack(key), self._entries)
        if code != _ABSENT:
            self._check(code)
        return bool(code == 0)

    def __iter__(self) -> Iterator[K]:
        return self._scan(self._decode_keys)

    def _decode_keys(self, buffer: Any, size: int, count: int) -> list[K]:
        """Return the keys of a batch of records."""
        return self._key_codec.unpack_many(buffer, size, 8, count)

    def _store_packed(self, key: bytes, value: bytes, mode: int) -> int:
        """Store in one call; if full, entries that wait for a grace period are waited for."""
        code = int(self._core_update(self._handle, key, value, mode))
        return self._after_grace(key, value, mode, code)

    def _after_grace(self, key: bytes, value: bytes, mode: int, code: int) -> int:
        """Store again once entries that wait for a grace period are free, if it was full."""
        if code == _FULL and self._handle.ref.flags & lib.ADS_GRACE:
            for _ in range(2):  # they wait in two batches, an older and a younger
                self.reclaim()
                code = int(self._core_update(self._handle, key, value, mode))
                if code != _FULL:
                    break
        return code

    def _delete_packed(self, key: bytes) -> bool:
        """Delete a key; whether it was there."""
        code = self._core_pop(self._handle, key, ffi.NULL)
        if code == _ABSENT:
            return False
        self._check(code)
        return True

    def clear(self) -> None:
        """Delete every key that is there now."""
        for packed in self._scan(self._raw_keys):
            self._delete_packed(packed)

    def _raw_keys(self, buffer: Any, size: int, count: int) -> list[bytes]:
        """Return the keys as they are stored, which need not be what packing their text gives."""
        width = self._key_codec.size
        return [buffer[at : at + width] for at in range(8, count * size, size)]
