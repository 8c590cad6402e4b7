"""The ordered list of an arena."""

from __future__ import annotations

from collections.abc import Collection as AbstractCollection
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from arenads._core import ffi, lib
from arenads.entries import Entries
from arenads.errors import KeyAbsentError, KeyExistsError, SchemaError

if TYPE_CHECKING:
    from arenads.snapshot import Snapshot
    from arenads.view import View

__all__ = ["List"]

V = TypeVar("V")


class List(Entries[V], AbstractCollection[V]):
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

    Orders may be the caller's own, such as times:

    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     events = arena.list("events", value=arenads.u64)
    ...     events.insert(300, 3)
    ...     events.insert(100, 1)
    ...     events.update(200, 2)
    ...     events.replace(300, 33)
    ...     events.view(100).value += 10
    ...     list(events.items()), list(events.items(after=100)), events.first()
    ...     events.delete(100)
    ...     events.pop(200), list(events)
    ([(100, 11), (200, 2), (300, 33)], [(200, 2), (300, 33)], (100, 11))
    (2, [33])
    """

    kind = lib.ADS_KIND_LIST
    kind_name = "list"
    _key_name = "order"

    if TYPE_CHECKING:

        def snapshot(self) -> Snapshot[tuple[int, V]]: ...

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
        CapacityError, ArenaFullError
        """
        if self._store(order, value, lib.ADS_INSERT) == lib.ADS_EXISTS:
            raise KeyExistsError(f"order {order} is in list {self.name!r} already", key=order)

    def replace(self, order: int, value: V) -> None:
        """Change the value of an order that is there, in one step for every reader.

        Raises
        ------
        KeyAbsentError
            It is not; nothing changed.
        CapacityError, ArenaFullError
        """
        if self._store(order, value, lib.ADS_REPLACE) == lib.ADS_ABSENT:
            raise self._absent(order)

    def update(self, order: int, value: V) -> None:
        """Store a value under an order, whether it is there or not.

        Raises
        ------
        CapacityError, ArenaFullError
        """
        self._store(order, value, lib.ADS_ANY)

    def _absent(self, order: int) -> KeyAbsentError:
        return KeyAbsentError(f"order {order} is not in list {self.name!r}", key=order)

    def _store(self, order: int, value: V, mode: int) -> int:
        packed = self._value_codec.pack(value)
        code = int(lib.core_list_update(self._handle, checked_order(order), packed, mode))
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
        code = lib.core_list_get(self._handle, checked_order(order), memory)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def view(self, order: int) -> View[V]:
        """Return a view of the live value of an order; see `HashMap.view`.

        Raises
        ------
        KeyAbsentError
        """
        place = lib.core_list_place(self._handle, checked_order(order))
        if place == lib.ADS_ABSENT:
            raise self._absent(order)
        return self._view(place)

    def pop(self, order: int) -> V:
        """Delete an order; return what its value was.

        Raises
        ------
        KeyAbsentError
        """
        memory, view = buffer = self._take_buffer()
        code = lib.core_list_pop(self._handle, checked_order(order), memory)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return value

    def first(self) -> tuple[int, V]:
        """Return order and value of the first entry.

        Raises
        ------
        KeyAbsentError
            The list is empty.
        """
        return self._first(lib.core_list_first)

    def pop_first(self) -> tuple[int, V]:
        """Delete the first entry; return its order and value.

        It was the first at a moment of the call: what others put before it meanwhile stays.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u64)
        ...     events.insert(7, 70)
        ...     events.insert(5, 50)
        ...     events.pop_first(), events.first()
        ((5, 50), (7, 70))

        Raises
        ------
        KeyAbsentError
            The list is empty.
        """
        return self._first(lib.core_list_pop_first)

    def _first(self, operation: Any) -> tuple[int, V]:
        order = ffi.new("__u64 *")
        memory, view = buffer = self._take_buffer()
        code = operation(self._handle, order, memory)
        if code == lib.ADS_ABSENT:
            raise KeyAbsentError(f"list {self.name!r} is empty")
        self._check(code)
        value = self._value_codec.unpack(view)
        self._buffers.append(buffer)
        return int(order[0]), value

    def delete(self, order: int) -> None:
        """Delete an order.

        Raises
        ------
        KeyAbsentError
        """
        code = lib.core_list_pop(self._handle, checked_order(order), ffi.NULL)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)

    def items(self, after: int | None = None) -> Iterator[tuple[int, V]]:
        """Iterate over (order, value) pairs, from the head or from behind an order.

        The order need not be there: a walk goes on from where it stopped.
        """
        if after is None:
            return self._scan(self._decode_pairs)
        order = checked_order(after)
        return self._scan(
            self._decode_pairs,
            lambda scan: int(lib.core_scan_after(self._handle, scan, order)),
        )

    def __iter__(self) -> Iterator[V]:
        return self._scan(self._decode_values)

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


def checked_order(order: object) -> int:
    """Return an order that fits 64 bits; SchemaError for anything else."""
    if not isinstance(order, int) or not 0 <= order < 1 << 64:
        raise SchemaError(f"expected an order from 0 to 2**64 - 1, found {order!r}")
    return order
