"""Lists of records that users allocate, own and link themselves."""

from __future__ import annotations

from collections.abc import Collection as AbstractCollection
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import (
    CapacityError,
    KeyAbsentError,
    KeyExistsError,
    LinkedError,
    RemovedError,
)
from arenads.list import checked_order
from arenads.node import node_members
from arenads.pool import ADDRESS
from arenads.schema import Scalar, Schema
from arenads.snapshot import Layout, Records, Snapshot, take
from arenads.structure import Collection

if TYPE_CHECKING:
    from arenads.btf import Declaration
    from arenads.pool import Pool
    from arenads.view import View

__all__ = ["IntrusiveList"]

# The first column of a snapshot.
_ORDER = ("order", Codec(Schema(Scalar("u64")), frozen=True))
# Records that iteration finds in one call of the C core.
_BATCH = 256


class IntrusiveList(Collection[int], AbstractCollection[int]):
    """An ordered list of records of a pool, which stay where they are and stay their owner's.

    A record is known by its address and linked by a member of type `arenads.Node`; it can be in as
    many lists at the same time as it has such members. Linking and removing copy nothing and free
    nothing: who removes a record may free it, or link it elsewhere. As in a `List`, each record has
    a unique 64-bit *order* in the list, and finding by order walks it.

    >>> import arenads, msgspec
    >>> from arenads import Node, u32
    >>> Task = msgspec.defstruct("Task", [("pid", u32), ("node", Node, Node())])
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     tasks = arena.pool("tasks", value=Task)
    ...     ready = arena.intrusive("ready", pool=tasks, member="node")
    ...     for pid in (1, 2, 3):
    ...         order = ready.push(tasks.alloc(Task(pid)))
    ...     _, first = ready.pop_first()
    ...     [tasks[address].pid for address in ready], tasks[first].pid
    ([2, 1], 3)

    Orders may be the caller's own, and a record can be taken out wherever it is:

    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     tasks = arena.pool("tasks", value=Task)
    ...     ready = arena.intrusive("ready", pool=tasks, member="node")
    ...     one, two, three = (tasks.alloc(Task(pid)) for pid in (1, 2, 3))
    ...     for order, address in ((20, two), (10, one), (30, three)):
    ...         ready.insert(order, address)
    ...     ready.first() == (10, one), ready.get(20) == two
    ...     [order for order, _ in ready.items(after=10)], ready.member, ready.pool.name
    ...     ready.remove(one)
    ...     ready.discard(one), ready.pop(30) == three, list(ready) == [two]
    (True, True)
    ([20, 30], 'node', 'tasks')
    (False, True, True)
    """

    kind = lib.ADS_KIND_INTRUSIVE
    kind_name = "intrusive list"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        pool, node = ffi.new("__u32 *"), ffi.new("__u32 *")
        self._check(lib.core_intrusive_pool(self._handle, pool, node))
        self._pool_offset = int(pool[0])
        self._node = int(node[0])

    @classmethod
    def _declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return the pool and the node of a declaration; sizes are the pool's."""
        pools = [each for each in declaration.numbers if each.startswith("pool__")]
        return {
            "pool": pools[0].removeprefix("pool__") if pools else "",
            "member": declaration.numbers.get("node_at", 1) - 1,
            "value": None,
            "max_entries": None,
        }

    @cached_property
    def pool(self) -> Pool[Any]:
        """The pool that the records are in.

        Raises
        ------
        RemovedError
            It was removed.
        DamagedError
            Its records are others than those of the list.
        """
        from arenads.pool import Pool

        for each in self.arena.structures.values():
            if isinstance(each, Pool) and each.offset == self._pool_offset:
                if self.described and each.described and each.value_type != self.value_type:
                    self.arena._damaged(
                        f"the records of {self.name!r} are described otherwise than those of its"
                        f" pool {each.name!r}",
                        self.offset,
                    )
                return each
        raise RemovedError(f"the pool of intrusive list {self.name!r} was removed", name=self.name)

    @property
    def member(self) -> str:
        """The member of the records by which they are linked."""
        for path, offset in node_members(self.value_type).items():
            if offset == self._node:
                return path
        self.arena._damaged(f"{self.name!r} links records by no node of theirs", self.offset)

    # --- linking --------------------------------------------------------------------------

    def push(self, address: int | View[Any]) -> int:
        """Link a record at the head; return its order.

        Raises
        ------
        KeyAbsentError
            The address is of no record in use of the pool.
        LinkedError
            Its node is in a list already, this or another.
        CapacityError
            The first record has order 0.
        """
        node = self._in_use(address)
        order = ffi.new("__u64 *")
        self._check_linked(address, lib.core_intrusive_push(self._handle, node, order))
        return int(order[0])

    def insert(self, order: int, address: int | View[Any]) -> None:
        """Link a record where its order belongs.

        Raises
        ------
        KeyExistsError
            Another record has the order.
        KeyAbsentError, LinkedError
            As for `push`.
        SchemaError
            The order does not fit 64 bits.
        """
        number = checked_order(self, order)
        node = self._in_use(address)
        code = lib.core_intrusive_insert(self._handle, number, node)
        if code == lib.ADS_EXISTS:
            raise KeyExistsError(
                f"order {order} is in intrusive list {self.name!r} already", key=order
            )
        self._check_linked(address, code)

    def remove(self, address: int | View[Any]) -> None:
        """Take a record out of the list; it is the caller's then.

        Raises
        ------
        KeyAbsentError
            It is not in this list.
        """
        node = self._any(address)
        code = lib.core_intrusive_remove(self._handle, node)
        if code == lib.ADS_ABSENT:
            raise self._not_in(address, node)
        self._check(code)

    def discard(self, address: int | View[Any]) -> bool:
        """Take a record out if it is in the list; return whether this call did.

        Raises
        ------
        KeyAbsentError
            The address is of no record of the pool.
        """
        code = lib.core_intrusive_remove(self._handle, self._any(address))
        if code == lib.ADS_ABSENT:
            return False
        self._check(code)
        return True

    def pop(self, order: int) -> int:
        """Take out the record that has an order; return its address.

        Raises
        ------
        KeyAbsentError
        """
        node = ffi.new("__u32 *")
        code = lib.core_intrusive_pop(self._handle, checked_order(self, order), node)
        return self._found(code, node, order)

    def pop_first(self) -> tuple[int, int]:
        """Take out the first record; return its order and address.

        It was the first at a moment of the call: what others put before it meanwhile stays.

        Raises
        ------
        KeyAbsentError
            The list is empty.
        """
        order, node = ffi.new("__u64 *"), ffi.new("__u32 *")
        address = self._found(lib.core_intrusive_pop_first(self._handle, order, node), node)
        return int(order[0]), address

    # --- reading --------------------------------------------------------------------------

    def get(self, order: int) -> int:
        """Return the address of the record that has an order.

        Raises
        ------
        KeyAbsentError
        """
        node = ffi.new("__u32 *")
        code = lib.core_intrusive_find(self._handle, checked_order(self, order), node)
        return self._found(code, node, order)

    def first(self) -> tuple[int, int]:
        """Return order and address of the first record.

        Raises
        ------
        KeyAbsentError
            The list is empty.
        """
        order, node = ffi.new("__u64 *"), ffi.new("__u32 *")
        address = self._found(lib.core_intrusive_first(self._handle, order, node), node)
        return int(order[0]), address

    def items(self, after: int | None = None) -> Iterator[tuple[int, int]]:
        """Iterate over (order, address) pairs, from the head or from behind an order."""
        self.arena._open()
        scan = ffi.new("struct ads_scan *")
        if after is None:
            self._check(lib.core_scan_start(self._handle, scan))
        else:
            self._check(lib.core_scan_after(self._handle, scan, checked_order(self, after)))
        pairs = ffi.new("__u64[]", 2 * _BATCH)
        words = memoryview(ffi.buffer(pairs)).cast("Q")
        to_address = self.arena.base - self._node
        while True:
            count = lib.core_intrusive_scan(self._handle, scan, pairs, _BATCH)
            self._check(count)
            # Not at a short batch: that ends before an error, which the next call returns.
            if not count:
                return
            batch = words[: 2 * count].tolist()
            for order, node in zip(batch[::2], batch[1::2], strict=True):
                yield order, node + to_address

    def views(self, after: int | None = None) -> Iterator[View[Any]]:
        """Iterate over the records as views, from the head or from behind an order.

        >>> import arenads, msgspec
        >>> from arenads import Node, u32
        >>> Task = msgspec.defstruct("Task", [("pid", u32), ("node", Node, Node())])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.pool("tasks", value=Task)
        ...     ready = arena.intrusive("ready", pool=tasks, member="node")
        ...     order = ready.push(tasks.alloc(Task(7)))
        ...     for task in ready.views():
        ...         task.pid += 1
        ...     [task.copy().pid for task in ready.views()]
        [8]
        """
        view, base = self.pool._view, self.arena.base
        return (view(address - base) for _, address in self.items(after))

    def snapshot(self) -> Snapshot[tuple[int, int, Any]]:
        """Copy order, address and record of all that is linked, from the head on.

        Records that others free meanwhile may be left out, and one that is written meanwhile may be
        of both.

        >>> import arenads, msgspec
        >>> from arenads import Node, u32
        >>> Task = msgspec.defstruct("Task", [("pid", u32), ("node", Node, Node())])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.pool("tasks", value=Task)
        ...     ready = arena.intrusive("ready", pool=tasks, member="node")
        ...     for pid in (7, 8):
        ...         order = ready.push(tasks.alloc(Task(pid)))
        ...     [task.pid for order, address, task in ready.snapshot()]
        [8, 7]

        Raises
        ------
        NoMemoryError
        """
        pool, codec = self.pool, self.pool._value_codec
        layout = Layout((self.kind_name, self.name), _ORDER, ADDRESS, ("value", codec))
        linked = self.items()

        def read(records: Records, room: int) -> int:
            added = 0
            for order, address in linked:
                record = records.end + added * layout.size
                ffi.memmove(record, bytes(layout.size), layout.size)
                ffi.cast("__u64 *", record)[0:2] = order, address
                try:
                    pool._copy(address, record + layout.columns[2].offset)
                except (KeyAbsentError, RemovedError):
                    continue  # unlinked and freed since
                added += 1
                if added == room:
                    break
            return added

        return take(self, layout, len(self), read)

    def __iter__(self) -> Iterator[int]:
        return (address for _, address in self.items())

    def __contains__(self, address: object) -> bool:
        """Whether the record at an address is in the list."""
        try:
            node = self._any(address)
        except KeyAbsentError:
            return False
        code = lib.core_intrusive_contains(self._handle, node, ffi.new("__u64 *"))
        if code == lib.ADS_ABSENT:
            return False
        self._check(code)
        return True

    def __len__(self) -> int:
        """Count the records by walking the list."""
        count = int(lib.core_intrusive_len(self._handle))
        self._check(count)
        return count

    # --- inner ----------------------------------------------------------------------------

    def _in_use(self, address: object) -> int:
        """Return the offset of the node of a record in use."""
        return self.pool._offset(address) + self._node

    def _any(self, address: object) -> int:
        """Return the offset of the node of a record, free or in use."""
        return self.pool._place(address) + self._node

    def _found(self, code: int, node: Any, order: int | None = None) -> int:
        if code == lib.ADS_ABSENT:
            if order is None:
                raise KeyAbsentError(f"intrusive list {self.name!r} is empty")
            raise KeyAbsentError(f"order {order} is not in intrusive list {self.name!r}", key=order)
        self._check(code)
        return self.arena.base + int(node[0]) - self._node

    def _check_linked(self, address: int | View[Any], code: int) -> None:
        if code == lib.ADS_LINKED:
            raise LinkedError(
                f"{int(address):#x} is in {self._list_of(address)} already, by its member"
                f" {self.member!r}: remove it there first",
                address=int(address),
            )
        if code == lib.ADS_INVALID:  # freed since it was looked up
            raise self.pool._absent(address)
        if code == lib.ADS_FULL:
            self._full()
        self._check(code)

    def _full(self) -> NoReturn:
        raise CapacityError(
            f"nothing can be put before the first record of intrusive list {self.name!r}: it has"
            " order 0",
            name=self.name,
        )

    def _not_in(self, address: int | View[Any], node: int) -> KeyAbsentError:
        message = f"{int(address):#x} is not in intrusive list {self.name!r}"
        if lib.core_node_is_taken(self._handle, node) == 1:
            message += f"; it is in {self._list_of(address)}"
        return KeyAbsentError(message, key=address)

    def _list_of(self, address: Any) -> str:
        """Return what to call the list that a record is in."""
        offset = lib.core_node_list(self._handle, int(address) - self.arena.base + self._node)
        for each in self.arena.structures.values():
            if each.offset == offset:
                return f"{each.kind_name} {each.name!r}"
        return "a list"
