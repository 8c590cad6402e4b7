"""What the maps of an arena have in common: a mutable mapping."""

from __future__ import annotations

import contextlib
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from arenads._core import ffi, lib
from arenads.bulk import pack_many, parts_of, same_length, unpacked_array
from arenads.errors import KeyAbsentError, KeyExistsError
from arenads.fused import MISSING, buffer_maker, fuse_map, specialize
from arenads.in_place import InPlace
from arenads.keyed import Keyed
from arenads.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy

    from arenads.view import View

__all__ = ["Map"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

# As globals: looking a constant up in the extension costs a third of an operation.
_ABSENT, _EXISTS = lib.ADS_ABSENT, lib.ADS_EXISTS
_ANY = lib.ADS_ANY


class Map(Keyed[K, V], InPlace[K, V], MutableMapping[K, V], Generic[K, V]):
    """Base of hash map and ordered map; not made directly."""

    if TYPE_CHECKING:

        def snapshot(self) -> Snapshot[tuple[K, V]]: ...

    # --- one key ------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        self._fuse()
        return self[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """Return a copy of the value of `key`, or `default` if it is absent.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages[1] = 30
        ...     ages.get(1), ages.get(2), ages.get(2, 0)
        (30, None, 0)
        """
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
                self._fused_core(),
                buffers=self._buffers,
                make=buffer_maker(self._value_codec.size),
                fields=self._fields,
                find_field=Map._field,
                failed=Map._failed,
                refused=Map._refused,
            )

        specialize(self, make)

    def _refused(self, key: K, packed: bytes, value: bytes, mode: int, code: int) -> None:
        code = self._after_grace(packed, value, mode, code)
        if code == _EXISTS:
            raise KeyExistsError(f"{key!r} is in {self._title} already", key=key)
        if code == _ABSENT:
            raise self._absent(key)
        self._check(code)

    def insert(self, key: K, value: V) -> None:
        """Store a key that is not there yet.

        Raises
        ------
        KeyExistsError
            It is; nothing changed.
        CapacityError, ArenaFullError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages.insert(1, 30)
        ...     ages.insert(1, 31)
        Traceback (most recent call last):
        ...
        arenads.errors.KeyExistsError: 1 is in hash map 'ages' already
        """
        self._fuse()
        self.insert(key, value)

    def replace(self, key: K, value: V) -> None:
        """Change the value of a key that is there, in one step for every reader.

        Raises
        ------
        KeyAbsentError
            It is not; nothing changed.
        CapacityError, ArenaFullError
            The new value takes an entry before the old one is given back.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages[1] = 30
        ...     ages.replace(1, 31)
        ...     ages[1]
        31
        """
        self._fuse()
        self.replace(key, value)

    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`; if it is absent, insert `default` first.

        Raises
        ------
        CapacityError, ArenaFullError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages.setdefault(1, 30), ages.setdefault(1, 40)
        (30, 30)
        """
        while True:
            with contextlib.suppress(KeyAbsentError):
                return self[key]
            with contextlib.suppress(KeyExistsError):  # others inserted it meanwhile
                self.insert(key, default)
                return self._value_codec.unpack(self._value_codec.pack(default))

    def __delitem__(self, key: K) -> None:
        self._fuse()
        del self[key]

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | D) -> V | D: ...
    def pop(self, key: K, /, default: Any = MISSING) -> Any:
        """Delete a key and return its value, in one step: no other writer gets the same one.

        Raises
        ------
        KeyAbsentError
            It is not there, and there is no default.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages[1] = 30
        ...     ages.pop(1), ages.pop(1, None)
        (30, None)
        """
        self._fuse()
        return self.pop(key, default)

    def popitem(self) -> tuple[K, V]:
        """Delete some key and return it with its value.

        Raises
        ------
        KeyAbsentError
            The map is empty, or others emptied it meanwhile.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages[1] = 30
        ...     ages.popitem(), len(ages)
        ((1, 30), 0)
        """
        memory, view = self._take_buffer()
        for packed in self._scan(self._raw_keys):
            code = self._core_pop(self._handle, packed, memory)
            if code != _ABSENT:
                self._check(code)
                return self._key_codec.unpack(packed), self._value_codec.unpack(view)
        raise KeyAbsentError(f"{self._title} is empty")

    # --- many keys --------------------------------------------------------------------------

    @overload
    def get_many(  # type: ignore[overload-overlap]
        self, keys: numpy.ndarray[Any, Any], default: Any = None
    ) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]: ...
    @overload
    def get_many(self, keys: Iterable[K]) -> list[V | None]: ...
    @overload
    def get_many(self, keys: Iterable[K], default: V | D) -> list[V | D]: ...
    def get_many(self, keys: Any, default: Any = None) -> Any:
        """Look many keys up in one call; each value is whole.

        A NumPy array of keys gives (values, found): an array of the values' dtype, and one of
        bools. Where a key is absent the value is zero, or `default`. Any other iterable gives a
        list of values, with `default` for the absent ones.

        An array must have the dtype that `numpy_dtype` gives for the keys. Integers of another
        width are taken if all are in range; so are shorter byte strings, and the same
        members at other places. Constraints hold for arrays too.

        >>> import arenads, numpy
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u64)
        ...     ages.update({1: 30, 3: 50})
        ...     listed = ages.get_many([1, 2, 3], default=0)
        ...     values, found = ages.get_many(numpy.array([3, 2]))
        >>> listed, values.tolist(), found.tolist()
        ([30, 0, 50], [50, 0], [True, False])

        Raises
        ------
        SchemaError
        """
        packed = pack_many(self._key_codec, keys, f"{self._title}: keys")
        codec, count = self._value_codec, packed.count
        memory = ffi.new("char[]", max(count * codec.size, 1))
        found = self._get_packed(packed, memory)
        there = self._found(packed, found)
        view = ffi.buffer(memory, count * codec.size)
        if packed.array:
            values = unpacked_array(codec, view, count)
            if default is not None:
                values[~there] = unpacked_array(codec, codec.pack(default), 1)
            return values, there
        decoded: list[Any] = codec.unpack_many(view, codec.size, 0, count)
        if not all(there):
            decoded = [value if one else default for value, one in zip(decoded, there, strict=True)]
        return decoded

    def update_many(self, keys: Any, values: Any = None) -> None:
        """Store many keys in one call, whether they are there or not.

        `keys` and `values` are arrays (see `get_many`) or iterables of the same length. Without
        `values`, `keys` is a mapping, an iterable of pairs, a snapshot, or a structured array with
        the fields `key` and `value`. Each key is stored in one step, all of them in no single
        one; of equal keys the last one stays.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u64)
        ...     ages.update_many([1, 2], [30, 40])
        ...     ages.update_many({2: 41, 3: 50})
        ...     sorted(ages.items())
        [(1, 30), (2, 41), (3, 50)]

        Raises
        ------
        SchemaError
            The lengths differ, or something does not fit: nothing is stored.
        CapacityError, ArenaFullError
            There is no room for all; `done` says how many keys are stored, which are the first.
        """
        if values is None:
            keys, values = parts_of(keys, "key")
        packed = pack_many(self._key_codec, keys, f"{self._title}: keys")
        stored = pack_many(self._value_codec, values, f"{self._title}: values")
        same_length(self._title, packed, stored, "keys")
        self._update_packed(packed, stored.pointer, _ANY)

    # --- in place -------------------------------------------------------------------------

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
        """Return a view of (key, value) pairs, copied in batches.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages.update({1: 30, 2: 40})
        ...     sorted(ages.items())
        [(1, 30), (2, 40)]
        """
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values, copied in batches.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages.update({1: 30, 2: 40})
        ...     sum(ages.values())
        70
        """
        return _Values(self)


class _Items(ItemsView[K, V]):
    """Pairs, without a lookup for each key."""

    _mapping: Map[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._scan(self._mapping._decode_pairs)


class _Values(ValuesView[V]):
    """Values, without a lookup for each key."""

    _mapping: Map[Any, V]

    def __iter__(self) -> Iterator[V]:
        return self._mapping._scan(self._mapping._decode_values)
