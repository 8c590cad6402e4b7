"""The array of an arena as a sequence."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from arenads._core import ffi, lib
from arenads.bulk import (
    PIECE,
    Packed,
    is_array,
    not_all,
    pack_many,
    same_length,
    unpacked_array,
)
from arenads.codec import Codec
from arenads.errors import ArenadsError, RangeError, SchemaError
from arenads.fused import buffer_maker, fuse_elements_in_place, fuse_numbered, specialize
from arenads.in_place import InPlace
from arenads.schema import Scalar, Schema
from arenads.snapshot import Layout, Records, Snapshot, take
from arenads.structure import Checkable

if TYPE_CHECKING:
    import numpy

    from arenads.arena import Arena
    from arenads.view import View

__all__ = ["ArrayMap"]

V = TypeVar("V")

# Elements that iteration copies in one call of the C core.
_BATCH = 256
_INDEX: Codec[int] = Codec(Schema(Scalar("u32")))


class ArrayMap(InPlace[int, V], Checkable[V], Sequence[V]):
    """Elements by number, as in the kernel's array map, with memory that comes as it is touched.

    Made by `Arena.array`. A sequence of fixed length, all of whose elements are zero at first.
    Memory for them comes 16 KiB at a time, when one of them is written, or looked up by a BPF
    program, for the first time; reading makes none. Each aligned 8-byte field that is read is
    whole. An element of several may be of two writers: where that matters take a hash map.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     counts = arena.array("counts", value=arenads.u64, max_entries=100_000)
    ...     counts[7] = 42
    ...     counts[-1] = 1
    ...     counts.add(7, 3), counts[6:9], len(counts), counts.populated
    (42, [0, 45, 0], 100000, 3744)
    """

    kind = lib.ADS_KIND_ARRAY
    kind_name = "array"

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
        self._length = int(lib.core_max_entries(self._handle))
        self._layout = Layout(
            (self.kind_name, name), ("index", _INDEX), ("value", self._value_codec)
        )
        self._handle.value_at = self._layout.columns[1].offset
        self._handle.record_size = self._layout.size

    def __len__(self) -> int:
        """Return the number of elements, touched or not."""
        return self._length

    @property
    def populated(self) -> int:
        """Elements that have memory: those whose neighbourhood was touched."""
        count = lib.core_array_populated(self._handle)
        self._check(count)
        return int(count)

    def _state(self) -> str:
        return f"{self._length} elements, {self.populated} populated"

    # --- elements -------------------------------------------------------------------------

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return a copy of an element, or a list of those of a slice."""
        self._fuse()
        return self[index]

    @overload
    def __setitem__(self, index: int, value: V) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[V]) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        """Store an element, or as many as a slice has.

        Raises
        ------
        RangeError, SchemaError
            Nothing changed.
        ArenaFullError
            No memory for an element that nobody has touched; of a slice, those before it
            are stored.
        """
        self._fuse()
        self[index] = value

    def _fuse(self) -> None:
        """Give the array functions of its own for one element, at the first use of one."""
        codec = self._value_codec

        def make() -> dict[str, Any]:
            return fuse_numbered(
                codec.compiled,
                handle=self._handle,
                core_get=lib.core_array_get,
                core_set=lib.core_array_set,
                buffers=self._buffers,
                make=buffer_maker(codec.size),
                get_any=ArrayMap._get_any,
                set_any=ArrayMap._set_any,
                failed=ArrayMap._failed,
            ) | fuse_elements_in_place(
                self._fields,
                handle=self._handle,
                core_field=lib.core_array_field,
                place=ArrayMap._place,
                find_field=ArrayMap._field,
                failed=ArrayMap._failed,
            )

        specialize(self, make)

    def _failed(self, index: Any, code: int) -> NoReturn:
        if code == lib.ADS_ABSENT:
            self._place(index)  # says that it is out of range
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def _get_any(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self._copies(range(self._length)[index]))
        memory, view = buffer = self._take_buffer()
        self._check(lib.core_array_get(self._handle, self._place(index), memory))
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def _set_any(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._store_many(range(self._length)[index], value)
            return
        packed = self._value_codec.pack(value)
        self._check(lib.core_array_set(self._handle, self._place(index), packed))

    def __iter__(self) -> Iterator[V]:
        return self._copies(range(self._length))

    def items(self) -> Iterator[tuple[int, V]]:
        """Iterate over (index, element) pairs of the populated elements, which others may write.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=100_000)
        ...     counts[70_000] = 1
        ...     sum(1 for _ in counts.items()), dict(counts.items())[70_000]
        (2048, 1)
        """
        index, count = ffi.new("__u32 *"), ffi.new("__u32 *")
        following = 0
        while following < self._length:
            index[0] = following
            code = lib.core_array_next(self._handle, index, count)
            if code == lib.ADS_ABSENT:
                return
            self._check(code)
            places = range(int(index[0]), int(index[0]) + int(count[0]))
            yield from zip(places, self._copies(places), strict=True)
            following = places.stop

    def __reversed__(self) -> Iterator[V]:
        return self._copies(range(self._length)[::-1])

    def _place(self, index: Any) -> int:
        """Return an index as it counts from the front."""
        try:
            place = operator.index(index)
        except TypeError:
            raise SchemaError(
                f"{self._title}: expected an index or a slice, found {index!r}"
            ) from None
        if place < 0:
            place += self._length
        if not 0 <= place < self._length:
            raise RangeError(
                f"index {index} is out of range: array {self.name!r} has {self._length} elements",
                index=index,
                max_entries=self._length,
            )
        return place

    def _copies(self, places: range) -> Iterator[V]:
        """Yield the elements at these places, copied in batches."""
        if not places:
            return
        size = self._value_codec.size
        memory = ffi.new("char[]", size * min(_BATCH, len(places)))
        view = ffi.buffer(memory)
        for start in range(0, len(places), _BATCH):
            batch = places[start : start + _BATCH]
            self._check(
                lib.core_array_get_many(self._handle, batch[0], places.step, memory, len(batch))
            )
            yield from self._value_codec.unpack_many(view, size, 0, len(batch))

    def _store_many(self, places: range, values: Iterable[V]) -> None:
        packed = [self._value_codec.pack(value) for value in values]
        if len(packed) != len(places):
            raise SchemaError(
                f"expected {len(places)} values for a slice of array {self.name!r}, which cannot"
                f" change its length; found {len(packed)}"
            )
        if packed:
            self._check(
                lib.core_array_set_many(
                    self._handle, places[0], places.step, b"".join(packed), len(packed)
                )
            )

    # --- many elements ------------------------------------------------------------------------

    @overload
    def get_many(self, indices: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]: ...
    @overload
    def get_many(self, indices: Iterable[int]) -> list[V]: ...
    def get_many(self, indices: Any) -> Any:
        """Return copies of many elements, made in one call.

        A NumPy array of indices, integers of any width, gives an array of the values' dtype; any
        other iterable a list. Negative ones count from the end.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=10)
        ...     counts.update_many([1, 2, -1], [10, 20, 90])
        ...     counts.get_many([9, 1, 0])
        [90, 10, 0]

        Raises
        ------
        RangeError, SchemaError
        """
        places, codec = self._places(indices), self._value_codec
        memory = ffi.new("char[]", max(places.count * codec.size, 1))
        for start in range(0, max(places.count, 1), PIECE):
            self.arena._open()
            code = lib.core_array_get_at(
                self._handle,
                ffi.cast("__u32 *", places.pointer) + start,
                memory + start * codec.size,
                min(PIECE, places.count - start),
            )
            self._check(code)
        view = ffi.buffer(memory, places.count * codec.size)
        if places.array:
            return unpacked_array(codec, view, places.count)
        return codec.unpack_many(view, codec.size, 0, places.count)

    def update_many(self, indices: Any, values: Any) -> None:
        """Store many elements in one call; see `get_many`. Of equal indices the last one stays.

        Raises
        ------
        RangeError, SchemaError
            An index or a value does not fit, or the lengths differ: nothing is stored.
        ArenaFullError
            No memory for an element; `done` says how many are stored, which are the first.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=8)
        ...     counts.update_many([1, 6], [10, 60])
        ...     list(counts)
        [0, 10, 0, 0, 0, 0, 60, 0]
        """
        places = self._places(indices)
        packed = pack_many(self._value_codec, values, f"{self._title}: values")
        same_length(self._title, places, packed, "indexes")
        done = ffi.new("__u64 *")
        while done[0] < places.count:
            self.arena._open()
            code = lib.core_array_set_at(
                self._handle,
                ffi.cast("__u32 *", places.pointer),
                packed.pointer,
                min(done[0] + PIECE, places.count),
                done,
            )
            try:
                self._check(code)
            except ArenadsError as error:
                not_all(error, int(done[0]), places.count, "elements")
                raise

    def snapshot(self) -> Snapshot[tuple[int, V]]:
        """Copy the populated elements with their indexes, in few calls.

        It has no records of elements whose memory nobody has touched yet, which are all zero: its
        length is `populated`, not that of the array, and its indexes may have gaps.
        Of an element that others write meanwhile each aligned 8-byte field is whole.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=3)
        ...     empty = counts.snapshot()
        ...     counts[1] = 7
        ...     len(empty), list(counts.snapshot())
        (0, [(0, 0), (1, 7), (2, 0)])

        Raises
        ------
        NoMemoryError
        """
        first = ffi.new("__u32 *")

        def read(records: Records, room: int) -> int:
            count = int(
                lib.core_array_records(self._handle, records.memory, records.count, room, first)
            )
            self._plausible(records.count + count)
            return count

        return take(self, self._layout, self._plausible(self.populated), read)

    def _plausible(self, count: int) -> int:
        """Return a number of populated elements, for which the arena must have room."""
        if count * self._value_codec.size > self._core.size:
            self.arena._damaged(f"array {self.name!r} has {count} populated elements", self.offset)
        return count

    def _places(self, indices: Any) -> Packed:
        """Return indices as they count from the front, as the C core takes them."""
        if not is_array(indices):
            if isinstance(indices, str | bytes) or not isinstance(indices, Iterable):
                raise SchemaError(
                    f"{self._title}: expected an array or a sequence of indexes, found {indices!r}"
                )
            return pack_many(_INDEX, [self._place(index) for index in indices], "indexes")
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise SchemaError(
                f"{self._title}: expected indexes as an array of shape (n) and of integers,"
                f" found one of shape {indices.shape} and dtype {indices.dtype}",
                found=indices.dtype,
            )
        if len(indices):
            # Of both ends: whatever lies between them is in range if they are.
            self._place(int(indices.min())), self._place(int(indices.max()))
        if indices.dtype.kind == "i":
            indices = indices.astype("i8")
            indices[indices < 0] += self._length
        return pack_many(_INDEX, indices, "indexes")

    # --- in place -------------------------------------------------------------------------

    def view(self, index: int) -> View[V]:
        """Return a view of an element: its fields, in place.

        Its memory comes into being, if nobody has touched it before.

        Raises
        ------
        RangeError, ArenaFullError
        ReadOnlyError
            Of a read-only arena, where nobody has touched it.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=8)
        ...     counts.view(3).value = 7
        ...     counts[3]
        7
        """
        return self._view(lib.core_array_place(self._handle, self._place(index)))
