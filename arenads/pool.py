"""A pool of objects of one type, for structures that users link themselves."""

from __future__ import annotations

from typing import TypeVar

from arenads._core import ffi, lib
from arenads.errors import DamagedError, KeyAbsentError
from arenads.structure import Collection

__all__ = ["Pool"]

V = TypeVar("V")


class Pool(Collection[V]):
    """Objects that programs allocate and free, on either side, and link as they like.

    An object is known by its address, the same in every process and in BPF, and records may
    hold addresses of others.

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

    def alloc(self, value: V) -> int:
        """Allocate an object with this value; return its address.

        Raises
        ------
        CapacityError, ArenaFullError
        """
        packed = self._value_codec.pack(value)
        offset = ffi.new("__u32 *")
        self._check(lib.core_pool_alloc(self._handle, packed, offset))
        return self.arena.base + int(offset[0])

    def free(self, address: int) -> None:
        """Give an object back.

        Raises
        ------
        KeyAbsentError
            The address is of no object, or it is free already.
        """
        code = lib.core_pool_free(self._handle, self._offset(address))
        if code == lib.ADS_INVALID:
            raise KeyAbsentError(f"{address:#x} is no object in use of pool {self.name!r}")
        self._check(code)

    def __getitem__(self, address: int) -> V:
        """Return a copy of an object. Its 8-byte words are whole; several may be of two writes."""
        memory, view = buffer = self._take_buffer()
        offset = self._offset(address)
        if lib.core_read(self._core, offset, memory, self._value_codec.size):
            raise self._outside(address)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def __setitem__(self, address: int, value: V) -> None:
        packed = self._value_codec.pack(value)
        code = lib.core_write(self._core, self._offset(address), packed, len(packed))
        if code == lib.ADS_DAMAGED:
            raise self._outside(address)
        self._check(code)

    def _offset(self, address: int) -> int:
        offset = address - self.arena.base if isinstance(address, int) else -1
        if not 0 < offset < self.arena.size or offset % 8:
            raise self._outside(address)
        return offset

    def _outside(self, address: object) -> DamagedError:
        shown = f"{address:#x}" if isinstance(address, int) else repr(address)
        return DamagedError(
            f"{shown} is no address of an object: expected one between {self.arena.base:#x} and"
            f" {self.arena.base + self.arena.populated:#x}, a multiple of 8",
            offset=address,
        )
