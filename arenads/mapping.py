"""What the maps of an arena have in common: a mutable mapping."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from arenads._core import ffi, lib
from arenads.errors import KeyAbsentError, KeyExistsError
from arenads.fused import fuse_map, specialize
from arenads.keyed import Keyed
from arenads.structure import buffer_maker
from arenads.words import from_word, to_word, wrapped

if TYPE_CHECKING:
    from arenads.view import View

__all__ = ["Map"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

# As globals: looking a constant up in the extension costs a third of an operation.
_ABSENT, _EXISTS = lib.ADS_ABSENT, lib.ADS_EXISTS
_ANY, _INSERT, _REPLACE = lib.ADS_ANY, lib.ADS_INSERT, lib.ADS_REPLACE
_ADD = lib.CORE_ADD
_MISSING: Any = object()


class Map(Keyed[K, V], MutableMapping[K, V], Generic[K, V]):
    """Base of hash map and ordered map; not made directly."""

    _core_get: Any

    # --- one key ------------------------------------------------------------------------

    # The first use of one of these three gives the map functions of its own for them.

    def __getitem__(self, key: K) -> V:
        self._fuse()
        return self[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it is absent."""
        self._fuse()
        return self.get(key, default)

    def __setitem__(self, key: K, value: V) -> None:
        self._fuse()
        self[key] = value

    def _fuse(self) -> None:
        def make() -> dict[str, Any]:
            return fuse_map(
                self._key_codec.compiled,
                self._value_codec.compiled,
                handle=self._handle,
                core_get=self._core_get,
                core_update=self._core_update,
                absent=_ABSENT,
                buffers=self._buffers,
                make=buffer_maker(self._value_codec.size),
                failed=Map._failed,
                refused=Map._refused,
            )

        specialize(self, make)

    def _failed(self, key: K, code: int) -> NoReturn:
        if code == _ABSENT:
            raise self._absent(key)
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def _refused(self, key: bytes, value: bytes, code: int) -> None:
        self._check(self._after_grace(key, value, _ANY, code))

    def insert(self, key: K, value: V) -> None:
        """Store a key that is not there yet.

        Raises
        ------
        KeyExistsError
            It is; nothing changed.
        CapacityError, ArenaFullError
        """
        if self._store(key, value, _INSERT) == _EXISTS:
            raise KeyExistsError(f"{key!r} is in {self.kind_name} {self.name!r} already", key=key)

    def replace(self, key: K, value: V) -> None:
        """Change the value of a key that is there, in one step for every reader.

        Raises
        ------
        KeyAbsentError
            It is not; nothing changed.
        """
        if self._store(key, value, _REPLACE) == _ABSENT:
            raise self._absent(key)

    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`; if it is absent, insert `default` first."""
        while True:
            try:
                return self[key]
            except KeyAbsentError:
                if self._store(key, default, _INSERT) == 0:
                    return self._value_codec.unpack(self._value_codec.pack(default))

    def _store(self, key: K, value: V, mode: int) -> int:
        code = self._store_packed(self._key_codec.pack(key), self._value_codec.pack(value), mode)
        if code not in (0, _ABSENT, _EXISTS):
            self._check(code)
        return code

    def __delitem__(self, key: K) -> None:
        if not self._delete_packed(self._key_codec.pack(key)):
            raise self._absent(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | D) -> V | D: ...
    def pop(self, key: K, /, default: Any = _MISSING) -> Any:
        """Delete a key and return its value, in one step: no other writer gets the same one.

        Raises
        ------
        KeyAbsentError
            It is not there, and there is no default.
        """
        memory, view = buffer = self._take_buffer()
        code = self._core_pop(self._handle, self._key_codec.pack(key), memory)
        if code == _ABSENT:
            if default is _MISSING:
                raise self._absent(key)
            return default
        self._check(code)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def popitem(self) -> tuple[K, V]:
        """Delete some key and return it with its value.

        Raises
        ------
        KeyAbsentError
            The map is empty, or others emptied it meanwhile.
        """
        memory, view = self._take_buffer()
        for packed in self._scan(self._raw_keys):
            code = self._core_pop(self._handle, packed, memory)
            if code != _ABSENT:
                self._check(code)
                return self._key_codec.unpack(packed), self._value_codec.unpack(view)
        raise KeyAbsentError(f"{self.kind_name} {self.name!r} is empty")

    # --- in place -------------------------------------------------------------------------

    def _access(self, key: K, field: str, access: int, operand: int = 0, expected: int = 0) -> int:
        """Find the key and work on one field of its value, in one call; what it was before."""
        offset, scalar = self._field(field)
        before = ffi.new("__u64 *")
        code = lib.core_map_field(
            self._handle,
            self._key_codec.pack(key),
            offset,
            access,
            wrapped(operand) if access == _ADD else to_word(operand, scalar),
            to_word(expected, scalar),
            before,
        )
        if code == _ABSENT:
            raise self._absent(key)
        self._check(code)
        return from_word(int(before[0]), scalar)

    def fetch_add(self, key: K, amount: int, field: str = "") -> int:
        """Add to a 64-bit integer of a live value, atomically; return what it was before.

        `field` names it ("calls", "cpu[2].ticks"); leave it out if the value is the integer.
        Other writers, BPF programs too, lose nothing. If the key is deleted by someone
        else at the same moment the addition may go to the entry's next key: do not
        mix in-place changes with deletes of the same keys.

        Raises
        ------
        KeyAbsentError, SchemaError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     hits[1] = 5
        ...     hits.fetch_add(1, 3), hits[1]
        (5, 8)
        """
        return self._access(key, field, _ADD, amount)

    def load(self, key: K, field: str = "") -> int:
        """Read one 64-bit integer of a live value."""
        return self._access(key, field, lib.CORE_LOAD)

    def store(self, key: K, value: int, field: str = "") -> None:
        """Write one 64-bit integer of a live value."""
        self._access(key, field, lib.CORE_STORE, value)

    def compare_exchange(self, key: K, expected: int, wanted: int, field: str = "") -> bool:
        """Write one 64-bit integer of a live value if it is what is expected; whether it was."""
        return self._access(key, field, lib.CORE_CAS, wanted, expected) == expected

    def view(self, key: K) -> View[V]:
        """Return a view of the live value of a key: its fields, in place.

        It shows that entry's memory, which the key has until it is deleted or replaced: an
        assignment `map[key] = value` is a new entry. Then the memory may be used for another key,
        at once or, with `reclaim="grace"`, after a grace period, for which no view is waited. Look
        a key up anew rather than keep its view where others delete or replace it.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     hits[1] = 5
        ...     hits.view(1).value += 1
        ...     hits[1]
        6

        Raises
        ------
        KeyAbsentError
        """
        place = lib.core_map_place(self._handle, self._key_codec.pack(key))
        if place == _ABSENT:
            raise self._absent(key)
        return self._view(place)

    # --- all keys ---------------------------------------------------------------------------

    def items(self) -> ItemsView[K, V]:
        """Return a view of (key, value) pairs, copied in batches."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values."""
        return _Values(self)


class _Items(ItemsView[K, V]):
    """Pairs, without a lookup for each key."""

    _mapping: Map[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        mapping = self._mapping
        values = mapping._value_codec
        value_at = int(lib.core_record_value(mapping._handle))

        def decode(buffer: Any, size: int, count: int) -> list[tuple[K, V]]:
            return list(
                zip(
                    mapping._decode_keys(buffer, size, count),
                    values.unpack_many(buffer, size, value_at, count),
                    strict=True,
                )
            )

        return mapping._scan(decode)


class _Values(ValuesView[V]):
    """Values, without a lookup for each key."""

    _mapping: Map[Any, V]

    def __iter__(self) -> Iterator[V]:
        mapping = self._mapping
        values = mapping._value_codec
        value_at = int(lib.core_record_value(mapping._handle))
        return mapping._scan(
            lambda buffer, size, count: values.unpack_many(buffer, size, value_at, count)
        )
