"""The ordered list of an arena."""

from __future__ import annotations

import operator
from collections.abc import Collection as AbstractCollection
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from arenads._core import ffi, lib
from arenads.bulk import PIECE, not_all, pack_many, parts_of, same_length, unpacked_array
from arenads.entries import Entries
from arenads.errors import ArenadsError, KeyAbsentError, KeyExistsError, SchemaError
from arenads.fused import buffer_maker, fuse_giving, fuse_numbered, fuse_taking, specialize

if TYPE_CHECKING:
    import numpy

    from arenads.snapshot import Snapshot
    from arenads.structure import Structure
    from arenads.view import View

__all__ = ["List"]

V = TypeVar("V")

# Orders in one call of the C core, each of which is a walk: a signal is seen in between.
_WALKS = 1 << 10


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
        self._fuse()
        return self.push(value)

    def insert(self, order: int, value: V) -> None:
        """Put a value where its order belongs.

        Raises
        ------
        KeyExistsError
            The order is taken.
        CapacityError, ArenaFullError
        """
        if self._store(order, value, lib.ADS_INSERT) == lib.ADS_EXISTS:
            raise self._taken(order)

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
        self._fuse()
        self.update(order, value)

    def _absent(self, order: int) -> KeyAbsentError:
        return KeyAbsentError(f"order {order} is not in list {self.name!r}", key=order)

    def _taken(self, order: int) -> KeyExistsError:
        return KeyExistsError(f"order {order} is in {self._title} already", key=order)

    def _store(self, order: int, value: V, mode: int) -> int:
        packed = self._value_codec.pack(value)
        code = int(lib.core_list_update(self._handle, checked_order(self, order), packed, mode))
        if code not in (0, lib.ADS_ABSENT, lib.ADS_EXISTS):
            self._check(code)
        return code

    def get(self, order: int) -> V:
        """Return a copy of the value of an order.

        Raises
        ------
        KeyAbsentError
        """
        self._fuse()
        return self.get(order)

    def view(self, order: int) -> View[V]:
        """Return a view of the live value of an order; see `HashMap.view`.

        Raises
        ------
        KeyAbsentError
        """
        place = lib.core_list_place(self._handle, checked_order(self, order))
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
        code = lib.core_list_pop(self._handle, checked_order(self, order), memory)
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
        self._fuse()
        return self.first()

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
        self._fuse()
        return self.pop_first()

    def _fuse(self) -> None:
        """Give the list functions of its own for one value, at the first use of one."""
        codec = self._value_codec
        compiled, handle = codec.compiled, self._handle
        buffers, make_buffer = self._buffers, buffer_maker(codec.size)

        def make() -> dict[str, Any]:
            methods = fuse_numbered(
                compiled,
                handle=handle,
                core_get=lib.core_list_get,
                core_set=lib.core_list_update,
                buffers=buffers,
                make=make_buffer,
                get_any=List._get_any,
                set_any=List._set_any,
                failed=List._failed,
                methods=("get", "update"),
                mode=lib.ADS_ANY,
            )
            methods |= fuse_taking(
                "push",
                compiled,
                handle=handle,
                core_take=lib.core_list_push,
                refused=List._check,
                returns="order",
            )
            for name, core in (
                ("first", lib.core_list_first),
                ("pop_first", lib.core_list_pop_first),
            ):
                methods |= fuse_giving(
                    name,
                    compiled,
                    handle=handle,
                    core_give=core,
                    buffers=buffers,
                    make=make_buffer,
                    failed=List._no_first,
                    ordered=True,
                )
            return methods

        specialize(self, make)

    def _failed(self, order: Any, code: int) -> NoReturn:
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def _no_first(self, code: int) -> NoReturn:
        if code == lib.ADS_ABSENT:
            raise KeyAbsentError(f"list {self.name!r} is empty")
        self._check(code)
        raise AssertionError(f"the C core returned {code}")

    def _get_any(self, order: Any) -> V:
        """Return the value of what is an order but no plain integer; or say that it is none."""
        return self.get(checked_order(self, order))

    def _set_any(self, order: Any, value: V) -> None:
        self._store(order, value, lib.ADS_ANY)

    def delete(self, order: int) -> None:
        """Delete an order.

        Raises
        ------
        KeyAbsentError
        """
        code = lib.core_list_pop(self._handle, checked_order(self, order), ffi.NULL)
        if code == lib.ADS_ABSENT:
            raise self._absent(order)
        self._check(code)

    # --- many ---------------------------------------------------------------------------------

    @overload
    def push_many(  # type: ignore[overload-overlap]
        self, values: numpy.ndarray[Any, Any]
    ) -> numpy.ndarray[Any, Any]: ...
    @overload
    def push_many(self, values: Iterable[V]) -> list[int]: ...
    def push_many(self, values: Any) -> Any:
        """Put many values at the head in one call, the first one first; return their orders.

        A NumPy array of values (see `HashMap.get_many`) gives an array of orders, any other
        iterable a list. What others push meanwhile may come in between.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u64)
        ...     one, two = events.push_many([10, 20])
        ...     list(events), events.get(one)
        ([20, 10], 10)

        Raises
        ------
        SchemaError
            A value does not fit: nothing is pushed.
        CapacityError, ArenaFullError
            There is no room for all; `done` says how many are pushed, which are the first, and
            `orders` has theirs.
        """
        packed = pack_many(self._value_codec, values, f"{self._title}: values")
        orders = ffi.new("__u64[]", max(packed.count, 1))
        for done, end in self._pieces(packed.count, PIECE):
            code = lib.core_list_push_many(self._handle, packed.pointer, orders, end, done)
            try:
                self._check(code)
            except ArenadsError as error:
                not_all(error, int(done[0]), packed.count, "values")
                error.facts["orders"] = ffi.unpack(orders, done[0])
                raise
        if not packed.array:
            return ffi.unpack(orders, packed.count)
        return unpacked_array(self._key_codec, ffi.buffer(orders, 8 * packed.count), packed.count)

    def insert_many(self, orders: Any, values: Any = None) -> None:
        """Put many values where their orders belong, in one call.

        `orders` and `values` are arrays or iterables of the same length. Without `values`,
        `orders` is a mapping, an iterable of pairs, a snapshot, or a structured array with the
        fields `order` and `value`. The place of each is found by a walk from the head: it is the
        fastest to give the highest order first.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u64)
        ...     events.insert_many([300, 100], [3, 1])
        ...     events.insert_many({200: 2})
        ...     list(events.items())
        [(100, 1), (200, 2), (300, 3)]

        Raises
        ------
        SchemaError
            The lengths differ, or something does not fit: nothing is inserted.
        KeyExistsError
            An order is taken, `key`; `done` says how many are inserted, which are the first.
        CapacityError, ArenaFullError
            There is no room for all; likewise.
        """
        self._store_many(orders, values, lib.ADS_INSERT)

    def update_many(self, orders: Any, values: Any = None) -> None:
        """Store many values under their orders in one call, whether they are there or not.

        Arguments and errors are those of `insert_many`; of equal orders the last one stays.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u64)
        ...     events.insert(100, 1)
        ...     events.update_many([200, 100], [2, 11])
        ...     list(events.items())
        [(100, 11), (200, 2)]
        """
        self._store_many(orders, values, lib.ADS_ANY)

    def _store_many(self, orders: Any, values: Any, mode: int) -> None:
        if values is None:
            orders, values = parts_of(orders, "order")
        packed = pack_many(self._key_codec, orders, f"{self._title}: orders")
        stored = pack_many(self._value_codec, values, f"{self._title}: values")
        same_length(self._title, packed, stored, "orders")
        for done, end in self._pieces(packed.count, _WALKS):
            code = lib.core_update_many(
                self._handle, packed.pointer, stored.pointer, mode, end, done
            )
            if code == lib.ADS_EXISTS:
                order = int(ffi.cast("__u64 *", packed.pointer)[done[0]])
                taken = self._taken(order)
                not_all(taken, int(done[0]), packed.count, "orders")
                raise taken
            self._check_done(code, done, packed.count)

    def delete_many(self, orders: Any) -> int:
        """Delete many orders in one call; return how many of them were there.

        Each is deleted in one step, all of them in no single one.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u64)
        ...     events.insert_many([1, 2, 3], [10, 20, 30])
        ...     events.delete_many([3, 4, 1]), list(events)
        (2, [20])

        Raises
        ------
        SchemaError
            An order does not fit: nothing is deleted.
        ArenadsError
            Something else: `done` says how many orders had been dealt with.
        """
        packed = pack_many(self._key_codec, orders, f"{self._title}: orders")
        return self._delete_many(packed, _WALKS)

    # --- in order ---------------------------------------------------------------------------

    def items(self, after: int | None = None) -> Iterator[tuple[int, V]]:
        """Iterate over (order, value) pairs, from the head or from behind an order.

        The order need not be there: a walk goes on from where it stopped.
        """
        if after is None:
            return self._scan(self._decode_pairs)
        order = checked_order(self, after)
        return self._scan(
            self._decode_pairs,
            lambda scan: int(lib.core_scan_after(self._handle, scan, order)),
        )

    def __iter__(self) -> Iterator[V]:
        return self._scan(self._decode_values)

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)


def checked_order(structure: Structure[Any], order: object) -> int:
    """Return an order that fits 64 bits; SchemaError for anything else."""
    if isinstance(order, int) and 0 <= order < 1 << 64:
        return order
    try:  # such as an element of an array of orders
        number = operator.index(order)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise SchemaError(
            f"{structure._title}: expected an order from 0 to 2**64 - 1, found {order!r}",
            expected="an order from 0 to 2**64 - 1",
            found=order,
        )
    return number
