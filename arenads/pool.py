"""A pool of objects of one type, for structures that users link themselves."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import KeyAbsentError, LinkedError, SchemaError
from arenads.fused import buffer_maker, fuse_numbered, fuse_taking, specialize
from arenads.node import node_members
from arenads.schema import PointerType, Schema
from arenads.snapshot import Layout, Snapshot, take
from arenads.structure import Collection

if TYPE_CHECKING:
    from arenads.view import View

__all__ = ["ADDRESS", "Pool"]

V = TypeVar("V")

# As globals: looking one up in the extension costs a third of an operation.
_FREE, _ABSENT = lib.core_pool_free, lib.ADS_ABSENT

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
        self._node_paths = node_members(self.value_type)
        # Kept here, for the C core keeps nothing that it is given.
        self._nodes = ffi.new("__u32[]", list(self._node_paths.values()))
        self._chunks = ffi.new("__u32[]", self.arena.size // lib.CORE_PAGE + 1)
        self._handle.nodes, self._handle.node_count = self._nodes, len(self._nodes)
        self._handle.chunks = self._chunks

    def alloc(self, value: V) -> int:
        """Allocate an object with this value; return its address.

        Raises
        ------
        CapacityError, ArenaFullError
        SchemaError
            The value does not fit, or the pool is of a C program that did not say its types.
        """
        self._check_described()
        self._fuse()
        return self.alloc(value)

    def free(self, address: int | View[Any]) -> None:
        """Give an object back.

        Raises
        ------
        KeyAbsentError
            The address is of no object of this pool in use.
        LinkedError
            It is in an intrusive list: remove it there first.
        """
        code = self._in_core(_FREE, address)
        if code:
            if code == lib.ADS_LINKED:
                raise self._linked(address)
            self._check(code)

    def __getitem__(self, address: int | View[Any]) -> V:
        """Return a copy of an object. Its 8-byte words are whole; several may be of two writes."""
        self._fuse()
        return self[address]

    def __setitem__(self, address: int | View[Any], value: V) -> None:
        """Store an object anew, 8-byte word by word, but for its nodes."""
        self._check_described()
        self._fuse()
        self[address] = value

    def _fuse(self) -> None:
        """Give the pool functions of its own for one object, at the first use of one."""
        codec = self._value_codec

        def make() -> dict[str, Any]:
            methods = fuse_numbered(
                codec.compiled,
                handle=self._handle,
                core_get=lib.core_pool_get,
                core_set=lib.core_pool_set,
                buffers=self._buffers,
                make=buffer_maker(codec.size),
                get_any=Pool._get_any,
                set_any=Pool._set_any,
                failed=Pool._failed,
            )
            if not self.described:  # the methods of the class refuse to write
                return {"__getitem__": methods["__getitem__"]}
            return methods | fuse_taking(
                "alloc",
                codec.compiled,
                handle=self._handle,
                core_take=lib.core_pool_alloc,
                refused=Pool._check,
                returns="address",
            )

        specialize(self, make)

    def _failed(self, address: Any, code: int) -> NoReturn:
        if code == lib.ADS_ABSENT:
            raise self._absent(address)
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def _get_any(self, address: Any) -> NoReturn:
        self.arena._open()
        raise self._absent(address)

    def _set_any(self, address: Any, value: V) -> None:
        packed = self._value_codec.pack(value)
        self._check(self._in_core(lib.core_pool_set, address, packed))

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
        return self._placed(address, used=True)

    def _place(self, address: object) -> int:
        """Return the offset of an object, in use or not."""
        return self._placed(address, used=False)

    def _placed(self, address: object, used: bool) -> int:
        place = self._in_core(lib.core_pool_place, address, used)
        self._check(place)
        return place

    def _copy(self, address: object, to: Any) -> None:
        """Copy the bytes of an object in use."""
        self._check(self._in_core(lib.core_pool_get, address, to))

    def _in_core(self, function: Any, address: object, *others: Any) -> int:
        """Call a function of the C core for an address; KeyAbsentError if it is of no object."""
        try:
            code: int = function(self._handle, operator.index(address), *others)  # type: ignore[arg-type]
        except (OverflowError, TypeError):
            self.arena._open()
        else:
            if code != _ABSENT:
                return code
        raise self._absent(address)

    def _linked(self, address: int | View[Any]) -> LinkedError:
        """Return the error that says by which of its members an object is in a list."""
        offset = self._place(address)
        paths = [
            path
            for path, at in self._node_paths.items()
            if lib.core_node_is_taken(self._handle, offset + at) == 1
        ]
        where = f", by its member {paths[0]!r}" if paths else ""  # removed there just now
        return LinkedError(
            f"{int(address):#x} of pool {self.name!r} is in an intrusive list{where}: remove it"
            " there before freeing it",
            address=int(address),
        )

    def _absent(self, address: object) -> KeyAbsentError:
        shown = f"{address.__index__():#x}" if hasattr(address, "__index__") else repr(address)
        return KeyAbsentError(f"{shown} is no object in use of pool {self.name!r}", key=address)
