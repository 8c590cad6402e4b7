"""A pool of objects of one type, for structures that users link themselves."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import KeyAbsentError, LinkedError, SchemaError
from arenads.node import node_members
from arenads.schema import PointerType, Schema
from arenads.snapshot import Layout, Snapshot, take
from arenads.structure import Collection

if TYPE_CHECKING:
    from arenads.view import View

__all__ = ["ADDRESS", "Pool"]

V = TypeVar("V")

# Objects that iteration copies in one call of the C core.
_BATCH = 256

# A column of snapshots.
ADDRESS = ("address", Codec(Schema(PointerType()), frozen=True))


class Pool(Collection[V]):
    """Objects that programs allocate and free, on either side, and link as they like.

    An object is known by its address, the same in every process and in BPF, and records may
    hold addresses of others. Where an address is taken, a view of the object is too. Members of
    type `arenads.Node` link objects into intrusive lists (`Arena.intrusive`): storing an object
    leaves those as they are.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     numbers = arena.pool("numbers", value=arenads.u64)
    ...     address = numbers.alloc(42)
    ...     value = numbers[address]
    ...     numbers.free(address)
    ...     value, len(numbers)
    (42, 0)
    """

    kind = lib.ADS_KIND_POOL
    kind_name = "pool"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._chunks: list[tuple[int, int]] = []
        self._stride = int(lib.core_entry_stride(self._handle))
        self._node_paths = node_members(self.value_type)
        self._nodes = ffi.new("__u32[]", list(self._node_paths.values()))

    def alloc(self, value: V) -> int:
        """Allocate an object with this value; return its address.

        Raises
        ------
        CapacityError, ArenaFullError
        SchemaError
            The value does not fit, or the pool is of a C program that did not say its types.
        """
        self._check_described()
        packed = self._value_codec.pack(value)
        offset = ffi.new("__u32 *")
        count = len(self._nodes)
        self._check(lib.core_pool_alloc(self._handle, packed, self._nodes, count, offset))
        return self.arena.base + int(offset[0])

    def free(self, address: int | View[Any]) -> None:
        """Give an object back.

        Raises
        ------
        KeyAbsentError
            The address is of no object of this pool in use.
        LinkedError
            It is in an intrusive list: remove it there first.
        """
        offset = self._offset(address)
        for path, at in self._node_paths.items():
            taken = lib.core_node_is_taken(self._handle, offset + at)
            self._check(min(taken, 0))
            if taken:
                raise LinkedError(
                    f"{int(address):#x} of pool {self.name!r} is in an intrusive list, by its"
                    f" member {path!r}: remove it there before freeing it",
                    address=int(address),
                )
        code = lib.core_pool_free(self._handle, offset)
        if code == lib.ADS_INVALID:
            raise self._absent(address)
        self._check(code)

    def __getitem__(self, address: int | View[Any]) -> V:
        """Return a copy of an object. Its 8-byte words are whole; several may be of two writes."""
        memory, view = buffer = self._take_buffer()
        self._copy(address, memory)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def __setitem__(self, address: int | View[Any], value: V) -> None:
        """Store an object anew, 8-byte word by word, but for its nodes."""
        self._check_described()
        packed = self._value_codec.pack(value)
        offset, count = self._offset(address), len(self._nodes)
        self._check(lib.core_pool_store(self._handle, offset, packed, self._nodes, count))

    def view(self, address: int | View[Any]) -> View[V]:
        """Return a view of an object: its fields, in place, and what its pointers lead to.

        The view does not keep the object in use: once it is freed its memory may be another's.

        >>> import arenads, msgspec
        >>> from arenads import u64
        >>> Point = msgspec.defstruct("Point", [("x", u64), ("y", u64)])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     points = arena.pool("points", value=Point)
        ...     point = points.view(points.alloc(Point(1, 2)))
        ...     point.x += 10
        ...     point.copy()
        Point(x=11, y=2)

        Raises
        ------
        KeyAbsentError
            The address is of no object of this pool in use.
        """
        return self._view(self._offset(address))

    def items(self) -> Iterator[tuple[int, V]]:
        """Iterate over (address, object) pairs of what is in use, in no particular order.

        Works on a read-only arena, and while others allocate and free: each object that stays in
        use is seen once.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.pool("numbers", value=arenads.u64)
        ...     address = numbers.alloc(42)
        ...     list(numbers.items()) == [(address, 42)]
        True
        """
        handle = self._handle
        size = 8 + -(-self._value_codec.size // 8) * 8
        walk = ffi.new("struct ads_pool_walk *")
        memory = ffi.new("char[]", size * _BATCH)
        while True:
            self.arena._open()
            count = lib.core_pool_walk(handle, walk, memory, _BATCH)
            self._check(count)
            # Not at a short batch: that ends before an error, which the next call returns.
            if not count:
                return
            view = ffi.buffer(memory)
            words = memoryview(view)[: count * size].cast("Q")
            addresses = words[:: size // 8].tolist()
            values = self._value_codec.unpack_many(view, size, 8, int(count))
            yield from zip(addresses, values, strict=True)

    def snapshot(self) -> Snapshot[tuple[int, V]]:
        """Copy all objects in use, with their addresses; what others do meanwhile as in `items`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.pool("numbers", value=arenads.u64)
        ...     addresses = [numbers.alloc(value) for value in (42, 43)]
        ...     sorted(numbers.snapshot()) == sorted(zip(addresses, (42, 43)))
        True

        Raises
        ------
        NoMemoryError
        """
        handle = self._handle
        self.arena._open()
        walk = ffi.new("struct ads_pool_walk *")
        return take(
            self,
            Layout((self.kind_name, self.name), ADDRESS, ("value", self._value_codec)),
            len(self),
            lambda records, room: lib.core_pool_walk(handle, walk, records.end, room),
        )

    # An address is not a position: no walking by counting up, no searching for values.
    __iter__ = None
    __contains__ = None

    def _check_described(self) -> None:
        """Refuse to write records whose nodes nobody has told us of."""
        if not self.described:
            raise SchemaError(
                f"pool {self.name!r} was made without a schema, so the nodes in its records are not"
                " known, and writing could break lists: open it with Arena.pool(name, value=...)"
            )

    def _offset(self, address: object) -> int:
        """Return the offset of an object in use, KeyAbsentError if it is none of this pool's."""
        offset = self._place(address)
        used = lib.core_pool_used(self._handle, offset)
        self._check(min(used, 0))
        if used:
            return offset
        raise self._absent(address)

    def _copy(self, address: object, to: Any) -> None:
        """Copy the bytes of an object in use."""
        offset = self._offset(address)
        self._check(lib.core_read(self._core, offset, to, self._value_codec.size))

    def _place(self, address: object) -> int:
        """Return the offset of an object, in use or not."""
        self.arena._open()
        offset = address.__index__() - self.arena.base if hasattr(address, "__index__") else -1
        if 0 < offset < self.arena.size:
            # Chunks never change: looking one up walks the heap, so they are remembered.
            where = bisect_right(self._chunks, (offset, 1 << 33)) - 1
            if where < 0 or not self._chunks[where][0] <= offset < self._chunks[where][1]:
                where = self._find_chunk(offset)
            if where >= 0 and (offset - self._chunks[where][0]) % self._stride == 0:
                return offset
        raise self._absent(address)

    def _find_chunk(self, offset: int) -> int:
        chunk, count = ffi.new("__u32 *"), ffi.new("__u32 *")
        found = lib.core_pool_chunk_of(self._handle, offset, chunk, count)
        self._check(min(found, 0))
        if not found:
            return -1
        first = int(chunk[0])
        insort(self._chunks, (first, first + int(count[0]) * self._stride))
        return bisect_right(self._chunks, (offset, 1 << 33)) - 1

    def _absent(self, address: object) -> KeyAbsentError:
        shown = f"{address.__index__():#x}" if hasattr(address, "__index__") else repr(address)
        return KeyAbsentError(f"{shown} is no object in use of pool {self.name!r}", key=address)
