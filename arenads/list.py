"""The ordered list of an arena."""

from __future__ import annotations

import builtins
from collections.abc import Collection as AbstractCollection
from collections.abc import Iterator
from typing import Any, TypeVar

from arenads._core import ffi, lib
from arenads.errors import KeyAbsentError, KeyExistsError, SchemaError
from arenads.structure import Collection

__all__ = ["List"]

V = TypeVar("V")


class List(Collection[V], AbstractCollection[V]):
    """A list that BPF programs and processes read and write at the same time.

    Each entry has a unique 64-bit *order*, and iteration goes from the lowest up. `push` puts
    a value at the head; its order is one less than that of the first. Finding by order walks
    the list, so for many entries with keys take a hash map.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     events = arena.list("events", value=arenads.u64)
    ...     first = events.push(10)
    ...     second = events.push(20)
    ...     list(events), events.get(first)
    ([20, 10], 10)
    """

    kind = lib.ADS_KIND_LIST
    kind_name = "list"

    def push(self, value: V) -> int:
        """Put a value at the head; return its order.

        Raises
        ------
        CapacityError, ArenaFullError
        """
        order = ffi.new("__u64 *")
        self._check(lib.core_list_push(self._handle, self._value_codec.pack(value), order))
        return int(order[0])

    def insert(self, order: int, value: V) -> None:
        """Put a value where its order belongs.

        Raises
        ------
        KeyExistsError
            The order is taken.
        """
        if self._store(order, value, lib.ADS_INSERT) == lib.ADS_EXISTS:
            raise KeyExistsError(f"order {order} is in list {self.name!r} already", key=order)

    def replace(self, order: int, value: V) -> None:
        """Change the value of an order that is there, in one step for every reader."""
        if self._store(order, value, lib.ADS_REPLACE) == lib.ADS_ABSENT:
            raise self._absent(order)

    def update(self, order: int, value: V) -> None:
        """Store a value under an order, whether it is there or not."""
        self._store(order, value, lib.ADS_ANY)

    def _absent(self, order: int) -> KeyAbsentError:
        return KeyAbsentError(f"order {order} is not in list {self.name!r}", key=order)

    def _store(self, order: int, value: V, mode: int) -> int:
        packed = self._value_codec.pack(value)
        code = int(lib.core_list_update(self._handle, _order(order), packed, mode))
        if code not in (0, lib.ADS_ABSENT, lib.ADS_EXISTS):
            self._check(code)
        return code

    def get(self, order: int) -> V:
        """Return a copy of the value of an order.

        Raises
        ------
        KeyAbsentError
        """
        memory, view = buffer = self._take_buffer()
        code = lib.core_list_get(self._handle, _order(order), memory)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def delete(self, order: int) -> None:
        """Delete an order."""
        code = lib.core_list_pop(self._handle, _order(order), ffi.NULL)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)

    def items(self) -> Iterator[tuple[int, V]]:
        """Iterate over (order, value) pairs from the head on."""
        values = self._value_codec

        def decode(buffer: Any, size: int, count: int) -> builtins.list[tuple[int, V]]:
            words = memoryview(buffer)[: count * size].cast("Q")
            orders = words[:: size // 8].tolist() if count else []
            return builtins.list(
                zip(orders, values.unpack_many(buffer, size, 8, count), strict=True)
            )

        return self._scan(decode)

    def __iter__(self) -> Iterator[V]:
        values = self._value_codec
        return self._scan(lambda buffer, size, count: values.unpack_many(buffer, size, 8, count))

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


def _order(order: object) -> int:
    if not isinstance(order, int) or not 0 <= order < 1 << 64:
        raise SchemaError(f"expected an order from 0 to 2**64 - 1, found {order!r}")
    return order
