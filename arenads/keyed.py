"""What maps and sets have in common: keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from arenads._core import ffi, lib
from arenads.bulk import PIECE, Packed, pack_many
from arenads.entries import Entries
from arenads.errors import KeyAbsentError
from arenads.fused import Core
from arenads.schema import INTEGERS, Scalar, Schema

if TYPE_CHECKING:
    from arenads.arena import Arena
    from arenads.btf import Declaration

__all__ = ["Keyed"]

K = TypeVar("K")
V = TypeVar("V")

# As globals: looking a constant up in the extension costs a third of an operation.
_ABSENT, _FULL, _UNFIT = lib.ADS_ABSENT, lib.ADS_FULL, lib.CORE_UNFIT
_BY_UNSIGNED = (
    lib.core_map_find_unsigned,
    lib.core_map_get_unsigned,
    lib.core_map_pop_unsigned,
    lib.core_map_field_unsigned,
)
_BY_SIGNED = (
    lib.core_map_find_signed,
    lib.core_map_get_signed,
    lib.core_map_pop_signed,
    lib.core_map_field_signed,
)


class Keyed(Entries[V], Generic[K, V]):
    """Base of maps and sets; not made directly."""

    # Functions of the C core, one a kind.
    _core_find: Any
    _core_get: Any = None
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

    @classmethod
    def _declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return how entries are reclaimed, if the declaration says."""
        flags = declaration.numbers.get("flags", 1) - 1
        return {"reclaim": "grace"} if flags & lib.ADS_GRACE else {}

    @property
    def key_type(self) -> Schema:
        """Schema of the keys.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     arena.set("seen", key=arenads.u32).key_type.size
        4
        """
        return self._key_codec.schema

    def _absent(self, key: object) -> KeyAbsentError:
        self.arena._open()
        return KeyAbsentError(f"{key!r} is not in {self._title}", key=key)

    # --- one key ----------------------------------------------------------------------------

    # The first use of what works on one key gives the map or set functions of its own for it.

    def _fuse(self) -> None:
        raise NotImplementedError

    def _fused_core(self) -> Core:
        """Return the functions of the C core that those functions call."""
        kind, integer = self.key_type.type, None
        # As it is: constraints would have to be looked at first.
        plain = self._key_codec.compiled.arguments("key") == "key"
        if isinstance(kind, Scalar) and kind.name in INTEGERS and plain:
            integer = _BY_SIGNED if kind.name[0] == "i" else _BY_UNSIGNED
        return Core(
            self._handle,
            self._core_find,
            self._core_get,
            self._core_update,
            self._core_pop,
            lib.core_map_field,
            integer,
        )

    def _failed(self, key: Any, code: int) -> NoReturn:
        if code == _ABSENT:
            raise self._absent(key)
        if code == _UNFIT:
            self._key_codec.pack(key)  # says what does not fit
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def __contains__(self, key: object) -> bool:
        self._fuse()
        return key in self

    def __iter__(self) -> Iterator[K]:
        return self._scan(self._decode_keys)

    # --- many keys --------------------------------------------------------------------------

    def contains_many(self, keys: Any) -> Any:
        """Whether each key is there, for many in one call.

        A NumPy array of keys gives an array of bools, any other iterable a list. See `get_many`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     seen = arena.set("seen", key=arenads.u32)
        ...     seen.update([1, 3])
        ...     seen.contains_many([1, 2, 3])
        [True, False, True]

        Raises
        ------
        SchemaError
        """
        packed = pack_many(self._key_codec, keys, f"{self._title}: keys")
        return self._found(packed, self._get_packed(packed, ffi.NULL))

    def delete_many(self, keys: Any) -> int:
        """Delete many keys in one call; return how many of them were there.

        Each is deleted in one step, all of them in no single one.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u64)
        ...     ages.update_many([1, 2, 3], [10, 20, 30])
        ...     ages.delete_many([3, 4, 1]), dict(ages)
        (2, {2: 20})

        Raises
        ------
        SchemaError
            A key does not fit: nothing is deleted.
        ArenadsError
            Something else: `done` says how many keys had been dealt with.
        """
        packed = pack_many(self._key_codec, keys, f"{self._title}: keys")
        return self._delete_many(packed, PIECE)

    def _get_packed(self, keys: Packed, values: Any) -> Any:
        """Look keys up; values, if wanted, come one after the other. Which were found, as bytes."""
        found = ffi.new("char[]", max(keys.count, 1))
        for start in range(0, max(keys.count, 1), PIECE):
            self.arena._open()
            code = lib.core_get_many(
                self._handle,
                keys.pointer + start * self._key_codec.size,
                values and values + start * self._handle.ref.value_size,
                found + start,
                min(PIECE, keys.count - start),
            )
            self._check(code)
        return found

    def _found(self, keys: Packed, found: Any) -> Any:
        """Return which were found in the form in which the keys came."""
        view = ffi.buffer(found, keys.count)
        if not keys.array:
            return list(map(bool, view[:]))
        import numpy

        return numpy.frombuffer(view, bool, keys.count) if keys.count else numpy.empty(0, bool)

    def _update_packed(self, keys: Packed, values: Any, mode: int) -> None:
        """Store many in one call."""
        for done, end in self._pieces(keys.count, PIECE):
            store = partial(
                lib.core_update_many, self._handle, keys.pointer, values, mode, end, done
            )
            code = self._again_if_full(store(), store)
            self._check_done(code, done, keys.count)

    # --- packed keys ------------------------------------------------------------------------

    def _again_if_full(self, code: int, store: Callable[[], int]) -> int:
        """If it is full, store again when entries that wait for a grace period are back."""
        if code == _FULL and self._handle.ref.flags & lib.ADS_GRACE:
            for _ in range(2):  # they wait in two batches, an older and a younger
                self.reclaim()
                code = int(store())
                if code != _FULL:
                    break
        return code

    def _after_grace(self, key: bytes, value: bytes, mode: int, code: int) -> int:
        """Store again once entries that wait for a grace period are free, if it was full."""
        return self._again_if_full(code, partial(self._core_update, self._handle, key, value, mode))

    def _delete_packed(self, key: bytes) -> bool:
        """Delete a key; whether it was there."""
        code = self._core_pop(self._handle, key, ffi.NULL)
        if code == _ABSENT:
            return False
        self._check(code)
        return True

    def clear(self) -> None:
        """Delete every key that is there now; those that others add meanwhile may stay.

        Raises
        ------
        ReadOnlyError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     seen = arena.set("seen", key=arenads.u32)
        ...     seen.update([1, 2])
        ...     seen.clear()
        ...     len(seen)
        0
        """
        for packed in self._scan(self._raw_keys):
            self._delete_packed(packed)

    def _raw_keys(self, buffer: Any, size: int, count: int) -> list[bytes]:
        """Return the keys as they are stored, which need not be what packing their text gives."""
        width = self._key_codec.size
        return [buffer[at : at + width] for at in range(0, count * size, size)]
