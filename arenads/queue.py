"""The queue of an arena: records in order, from one producer to one consumer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from arenads._core import ffi, lib
from arenads.errors import CapacityError
from arenads.fused import buffer_maker, fuse_giving, fuse_taking, specialize
from arenads.snapshot import Layout, Snapshot, take
from arenads.structure import Structure

__all__ = ["Queue"]

V = TypeVar("V")

# Records that iteration copies in one call of the C core.
_BATCH = 256


class Fifo(Structure[V]):
    """What all queues of records of one size do; not made directly."""

    _make_room = "Take records out"

    def push(self, value: V) -> None:
        """Append a record.

        Raises
        ------
        CapacityError
            No slot is free; counted in `counters().full`.
        """
        self._fuse()
        self.push(value)

    def push_many(self, values: Iterable[V]) -> int:
        """Append records in one call; return how many were taken before it was full."""
        packed = [self._value_codec.pack(value) for value in values]
        if not packed:
            return 0
        try:
            count = lib.core_queue_push_many(self._handle, b"".join(packed), len(packed))
            self._check(count)
        except CapacityError:
            return 0
        return int(count)

    def pop(self) -> V | None:
        """Take the oldest record, None if there is none."""
        self._fuse()
        return self.pop()

    def _fuse(self) -> None:
        """Give the queue functions of its own for one record, at the first use of one."""
        codec = self._value_codec

        def make() -> dict[str, Any]:
            push = fuse_taking(
                "push",
                codec.compiled,
                handle=self._handle,
                core_take=lib.core_queue_push,
                refused=Fifo._check,
            )
            return push | fuse_giving(
                "pop",
                codec.compiled,
                handle=self._handle,
                core_give=lib.core_queue_pop,
                buffers=self._buffers,
                make=buffer_maker(codec.size),
                failed=Fifo._nothing,
            )

        specialize(self, make)

    def _nothing(self, code: int) -> None:
        if code != lib.ADS_ABSENT:
            self._check(code)

    def drain(self, most: int | None = None) -> list[V]:
        """Take all records that wait, at most `most`, in one call."""
        count = len(self) if most is None else min(most, self.max_entries)
        if count <= 0:
            return []
        size = self._value_codec.size
        if size * count > self.arena.size:
            what = f"{self._title} counts {count} records"
            self.arena._damaged(what, self.offset)
        memory = ffi.new("char[]", size * count)
        taken = lib.core_queue_pop_many(self._handle, memory, count)
        self._check(taken)
        return self._value_codec.unpack_many(ffi.buffer(memory), size, 0, int(taken))

    def records(self) -> Iterator[V]:
        """Iterate over what waits now, the oldest first, and take nothing.

        Works on a read-only arena, and while others push and pop: each record is whole, and those
        that are taken meanwhile may be left out.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.queue("jobs", value=arenads.u32)
        ...     jobs.push_many([1, 2])
        ...     list(jobs.records()), len(jobs)
        2
        ([1, 2], 2)
        """
        handle, size = self._handle, self._value_codec.size
        self.arena._open()
        cursor = ffi.new("core_fifo_cursor *")
        code = lib.core_queue_walk(handle, cursor)
        if code == lib.ADS_ABSENT:
            return
        self._check(code)
        memory = ffi.new("char[]", size * _BATCH)
        while True:
            self.arena._open()
            count = lib.core_queue_read(handle, cursor, memory, _BATCH)
            self._check(count)
            # Not at a short batch: that ends before an error, which the next call returns.
            if not count:
                return
            yield from self._value_codec.unpack_many(ffi.buffer(memory), size, 0, int(count))

    def snapshot(self) -> Snapshot[V]:
        """Copy what waits now, the oldest first, and take nothing; as `records`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.mpmc("jobs", value=arenads.u32)
        ...     jobs.push_many([1, 2])
        ...     list(jobs.snapshot())
        2
        [1, 2]

        Raises
        ------
        NoMemoryError
        """
        handle = self._handle
        layout = Layout((self.kind_name, self.name), ("value", self._value_codec))
        self.arena._open()
        cursor = ffi.new("core_fifo_cursor *")
        code = lib.core_queue_walk(handle, cursor)
        if code == lib.ADS_ABSENT:
            return take(self, layout, 0, lambda records, room: 0)
        self._check(code)
        return take(
            self,
            layout,
            len(self),
            lambda records, room: lib.core_queue_read(handle, cursor, records.end, room),
        )

    def __len__(self) -> int:
        """Count the records that wait."""
        count = lib.core_queue_len(self._handle)
        self._check(count)
        return min(int(count), self.max_entries)

    def __bool__(self) -> bool:
        return len(self) > 0


class Queue(Fifo[V]):
    """A ring of records with one producer and one consumer, each a BPF program or a thread.

    Pushing and popping are plain memory accesses, with no system call and no atomic
    instruction. Two producers, or two consumers, at the same time damage the order of
    records: let one thread do it, or make an `MpmcQueue`.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     jobs = arena.queue("jobs", value=arenads.u32, max_entries=4)
    ...     jobs.push(1)
    ...     jobs.push_many([2, 3])
    ...     jobs.pop(), jobs.drain(), jobs.pop()
    2
    (1, [2, 3], None)
    """

    kind = lib.ADS_KIND_QUEUE
    kind_name = "queue"
