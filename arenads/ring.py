"""The byte ring of an arena: records of any size, from one producer to one consumer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from arenads._core import ffi, lib
from arenads.closing import Loan
from arenads.errors import CapacityError, RecordSizeError, ReservationError, SchemaError
from arenads.methods import records_of
from arenads.pushing import Pushing
from arenads.structure import Checkable

if TYPE_CHECKING:
    from arenads.btf import Declaration

__all__ = ["Ring"]

# Room for records in one buffer, when nothing tells how long they are.
_ROOM = 4096
_BATCH_ROOM = 65536
_MASK = (1 << 64) - 1

# As globals: looking a constant up in the extension costs a tenth of an operation.
_ABSENT, _TOO_LONG, _POP = lib.ADS_ABSENT, lib.ADS_TOO_LONG, lib.core_ring_pop


class Ring(Pushing, Checkable[bytes]):
    """A ring of byte records with one producer and one consumer, each a BPF program or a thread.

    Producing and consuming are plain memory accesses, with no system call and, unless the ring
    overwrites, no atomic instruction. Two producers, or two consumers, at the same time damage
    the order of records: let one thread do it. Any number may read `records`.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     log = arena.ring("log", size="4KiB")
    ...     log.push(b"first")
    ...     with log.reserve(6) as place:
    ...         place[:] = b"second"
    ...     list(log.records()), log.pop(), log.drain(), log.pop()
    ([b'first', b'second'], b'first', [b'second'], None)

    Records are bytes. `Codec` makes them of records of a class, and the other way round:

    >>> import msgspec
    >>> Event = msgspec.defstruct("Event", [("pid", arenads.u32), ("comm", arenads.Str[16])])
    >>> codec = arenads.Codec(Event)
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     log = arena.ring("log", size="4KiB")
    ...     log.push(codec.pack(Event(7, "init")))
    ...     codec.unpack(log.pop())
    Event(pid=7, comm='init')

    A batch becomes visible at once, when it is published. A flight recorder keeps the newest:

    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     log = arena.ring("log", size="4KiB", overwrite=True)
    ...     for number in (1, 2):
    ...         with log.reserve(1, publish=False) as place:
    ...             place[0] = number
    ...     before = log.waiting
    ...     log.publish()
    ...     before, log.waiting, log.drain()
    ...     log.push_many(b"%04d" % number for number in range(1000))
    ...     list(log.records())[-1], log.counters().dropped > 0
    ...     log.overwrite, log.size, log.longest
    (0, 32, [b'\\x01', b'\\x02'])
    1000
    (b'0999', True)
    (True, 4096, 2040)
    """

    kind = lib.ADS_KIND_RING
    kind_name = "ring"
    _core_push = lib.core_ring_push
    _core_push_many = lib.core_ring_push_many

    @classmethod
    def _declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return what a declaration in a BPF object adds to the call that makes the ring."""
        return {"overwrite": bool(declaration.numbers.get("flags", 1) - 1 & lib.ADS_OVERWRITE)}

    @property
    def overwrite(self) -> bool:
        """Whether the oldest records make room when the ring is full."""
        return bool(self._handle.ref.flags & lib.ADS_OVERWRITE)

    @property
    def size(self) -> int:
        """Bytes of the ring. Each record takes its own, rounded up to 8, and 8 more."""
        return self.max_entries

    @property
    def longest(self) -> int:
        """Bytes of the longest record that it takes."""
        return self.max_entries // 2 - 8

    # --- produce --------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserve(self, size: int, *, publish: bool = True) -> Iterator[memoryview]:
        """Give room for a record of `size` bytes, to be filled in place.

        The room is a writable memoryview with old bytes in it, good until the end of the `with`
        block. The record is committed there, or given up if the block ends with an exception.
        With `publish` False nobody sees it before the next `publish` or push: a batch.

        Raises
        ------
        CapacityError, RecordSizeError
        SchemaError
            `size` is no number of bytes.
        ReservationError
            At the end of the block: something else was committed in it.
        """
        expect_size(size)
        draft = ffi.new("struct ads_ring_draft *")
        place = ffi.new("__u32 *")
        loan = Loan(self.arena)
        self._check(lib.core_ring_reserve(self._handle, size, draft, place), size)
        # What lives on of it keeps the arena, and so the addresses.
        room = ffi.gc(self._core.base + place[0], partial(keep, loan))
        view = memoryview(ffi.buffer(room, size))
        try:
            yield view
        finally:
            with contextlib.suppress(BufferError):  # an array of it lives on
                view.release()
        self._check(lib.core_ring_commit(self._handle, draft, publish))

    def publish(self) -> None:
        """Let the consumer see all that is committed."""
        self._check(lib.core_ring_publish(self._handle))

    # --- consume --------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record, None if there is none."""
        try:  # as _take_buffer(); taking one from a list is atomic among threads
            memory, view, room, needed = buffer = self._buffers.pop()
        except IndexError:
            memory, view, room, needed = buffer = _buffer(min(self.longest, _ROOM))
        size = _POP(self._handle, memory, room, needed)
        while size == _TOO_LONG:
            memory, view, room, needed = buffer = _buffer(int(needed[0]))
            size = _POP(self._handle, memory, room, needed)
        record: bytes | None = view[:size] if size >= 0 else None
        self._buffers.append(buffer)
        if size < 0 and size != _ABSENT:
            self._check(size)
        return record

    def drain(self, most: int | None = None) -> list[bytes]:
        """Take all records that wait, at most `most`, in one call.

        They are taken together: a process that is killed meanwhile has taken all or none. Only
        if the ring overwrites each is taken for itself.
        """
        if most is not None and most <= 0:
            return []
        count = _TOO_LONG
        while count == _TOO_LONG:  # what waited was dropped for something longer
            room = self.waiting
            if not room:
                return []
            memory = ffi.new("char[]", room)
            count = lib.core_ring_drain(self._handle, memory, room, _MASK if most is None else most)
        self._check(count)
        return records_of(memory, count)

    # --- look -----------------------------------------------------------------------------

    def records(self) -> Iterator[bytes]:
        """Iterate over what waits now, the oldest first, and take nothing.

        Works on a read-only arena, and while others produce and consume: each record is whole,
        and those that are taken or dropped meanwhile may be left out.
        """
        handle = self._handle
        self.arena._open()
        cursor = ffi.new("struct ads_ring_cursor *")
        needed = ffi.new("__u32 *")
        code = lib.core_ring_walk(handle, cursor)
        if code == lib.ADS_ABSENT:
            return
        self._check(code)
        memory = ffi.new("char[]", min(int(cursor.end - cursor.at), _BATCH_ROOM))
        while True:
            self.arena._open()
            count = lib.core_ring_read(handle, cursor, memory, len(memory), _MASK, needed)
            if count == lib.ADS_TOO_LONG:
                memory = ffi.new("char[]", int(needed[0]) + 16)
                continue
            self._check(count)
            if not count:
                return
            yield from records_of(memory, count)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be consumed, with what the ring adds to each record."""
        count = lib.core_ring_waiting(self._handle)
        self._check(count)
        return min(int(count), self.max_entries)

    def __len__(self) -> int:
        """Count the records that wait, by a walk over them; see `waiting` for their bytes."""
        count = lib.core_ring_count(self._handle)
        self._check(count)
        return int(count)

    def __bool__(self) -> bool:
        return self.waiting > 0

    def _state(self) -> str:
        how = ", overwriting" if self.overwrite else ""
        return f"{self.waiting} of {self.size} bytes{how}"

    # --- inner ----------------------------------------------------------------------------

    def _check(self, code: int, size: int = 0) -> None:
        if code == lib.ADS_FULL:
            raise CapacityError(
                f"ring {self.name!r} has no room: {self.waiting} of its {self.size} bytes wait to"
                " be consumed. Consume, make it larger, or let it overwrite.",
                name=self.name,
                max_entries=self.size,
            )
        if code == lib.ADS_TOO_LONG:
            raise RecordSizeError(
                f"ring {self.name!r} takes records of up to {self.longest} bytes (half of its"
                f" {self.size}, less 8), found {size}. Make it larger, or split the record.",
                name=self.name,
                size=size,
                most=self.longest,
            )
        if code == lib.ADS_NOT_RESERVED:
            raise ReservationError(
                f"ring {self.name!r} has no reservation to commit: another record was committed"
                " since it was made, which makes it void.",
                name=self.name,
            )
        super()._check(code)


def expect_size(size: object) -> None:
    """Raise SchemaError unless it is a number of bytes that one could reserve."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 32:
        raise SchemaError(f"expected a number of bytes to reserve, found {size!r}")


def _buffer(size: int) -> tuple[Any, Any, int, Any]:
    """Return a C buffer, a view of it, its bytes, and a word for how many a record needs."""
    memory = ffi.new("char[]", size)
    return memory, ffi.buffer(memory), size, ffi.new("__u32 *")


def keep(loan: Loan, room: Any) -> None:
    """Hold a loan, as the destructor of memory in it that is never owned."""
