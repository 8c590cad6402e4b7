"""Rings of an arena for many producers: records of any size, from all CPUs to one consumer."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, overload

from arenads._core import ffi, lib
from arenads.closing import Loan
from arenads.errors import (
    CapacityError,
    NameExistsError,
    RecordSizeError,
    ReservationError,
    SchemaError,
)
from arenads.pushing import Pushing
from arenads.ring import Ring, expect_size, keep
from arenads.structure import CheckReport, Counters, represented

if TYPE_CHECKING:
    from arenads.arena import Arena
    from arenads.btf import Declaration

__all__ = ["Rings"]

_SUFFIX = 3  # bytes of the longest: ".63"


class Rings(Pushing, Sequence[Ring]):
    """Rings of byte records with many producers: BPF programs on all CPUs, and threads.

    Each push takes one of the rings for a moment, that of its CPU or, if somebody has it, one of
    the next; nobody ever waits. So producers on several CPUs do not meet, and a program that
    interrupts another finds a ring too. One thread consumes. Records of one ring come in their
    order; between rings there is none, so write down the time if it matters.

    A sequence of its rings, each a `Ring` to be consumed: `len` is how many.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     events = arena.rings("events", size="4KiB", count=2)
    ...     events.push(b"first")
    ...     with events.reserve(6) as place:  # the ring is ours in this block
    ...         place[:] = b"second"
    ...         events.push(b"in another ring"), events.taken
    ...     len(events), sorted(events.records())
    ...     sorted(events.drain()), events.pop()
    (None, 1)
    (2, [b'first', b'in another ring', b'second'])
    ([b'first', b'in another ring', b'second'], None)

    Records are bytes; `Codec` makes them of records of a class, as for a `Ring`. Several at once go
    to one ring, as many as have room there. Flight recorders keep the newest of each CPU:

    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     newest = arena.rings("newest", size="4KiB", count=2, overwrite=True)
    ...     newest.push_many([b"one", b"two"]), newest.waiting
    ...     newest.overwrite, newest.size, newest.longest
    ...     newest.offset == newest[0].offset
    (2, 32)
    (True, 4096, 2040)
    True
    """

    kind_name = "rings"
    """What they are called in messages."""
    _core_push = lib.core_rings_push
    _core_push_many = lib.core_rings_push_many

    def __init__(self, arena: Arena, name: str, handle: Any, rings: Sequence[Ring]) -> None:
        self.arena = arena
        """The arena that they are in."""
        self.name = name
        """What their names begin with."""
        self._handle = handle
        self._rings = tuple(rings)
        self._next = 0  # the ring that pop looks at first

    @classmethod
    def _declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return what a declaration in a BPF object adds to the call that makes the rings."""
        return Ring._declared_options(declaration)

    @overload
    def __getitem__(self, index: int) -> Ring: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Ring]: ...
    def __getitem__(self, index: int | slice) -> Ring | Sequence[Ring]:
        return self._rings[index]

    def __len__(self) -> int:
        """How many rings there are."""
        return len(self._rings)

    @property
    def offset(self) -> int:
        """Where the header of the first is: bytes from the base of the arena."""
        return self._rings[0].offset

    @property
    def overwrite(self) -> bool:
        """Whether the oldest records of a ring make room when it is full."""
        return self._rings[0].overwrite

    @property
    def size(self) -> int:
        """Bytes of each ring. Each record takes its own, rounded up to 8, and 8 more."""
        return self._rings[0].size

    @property
    def longest(self) -> int:
        """Bytes of the longest record that they take."""
        return self._rings[0].longest

    # --- produce --------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[memoryview]:
        """Give room for a record of `size` bytes in one of the rings, to be filled in place.

        The room is a writable memoryview with old bytes in it, good until the end of the `with`
        block, and until then others pass the ring by: keep it short. The record is published
        there, or given up if the block ends with an exception.

        Raises
        ------
        CapacityError, RecordSizeError
        SchemaError
            `size` is no number of bytes.
        ReservationError
            At the end of the block: the ring is not ours any more.
        """
        expect_size(size)
        reservation = _Reservation(self)
        place = ffi.new("__u32 *")
        self._check(lib.core_rings_reserve(self._handle, size, reservation.draft, place), size)
        try:
            # What lives on of it keeps the arena, and so the addresses.
            room = ffi.gc(self.arena._core.base + place[0], partial(keep, reservation))
            view = memoryview(ffi.buffer(room, size))
            try:
                yield view
            finally:
                with contextlib.suppress(BufferError):  # an array of it lives on
                    view.release()
        except BaseException:
            reservation.give_up()
            raise
        self._check(reservation.submit())

    # --- consume --------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record of a ring, None if there is none in any: the rings in turn."""
        rings, at = self._rings, self._next
        for _ in rings:
            record = rings[at].pop()
            at = at + 1 if at + 1 < len(rings) else 0
            if record is not None:
                self._next = at
                return record
        return None

    def drain(self, most: int | None = None) -> list[bytes]:
        """Take all records that wait, at most `most`: those of one ring after those of another.

        Those of one ring are taken together, see `Ring.drain`. With `most` the next call goes on
        at the ring where this one ended.
        """
        records: list[bytes] = []
        count = len(self._rings)
        for ahead in range(count):
            at = (self._next + ahead) % count
            left = None if most is None else most - len(records)
            if left is not None and left <= 0:
                self._next = at
                break
            records += self._rings[at].drain(left)
        return records

    # --- look -----------------------------------------------------------------------------

    def records(self) -> Iterator[bytes]:
        """Iterate over what waits now, ring by ring, and take nothing; see `Ring.records`."""
        for ring in self._rings:
            yield from ring.records()

    @property
    def waiting(self) -> int:
        """Bytes that wait to be consumed in all rings, with what the rings add to each record."""
        return sum(ring.waiting for ring in self._rings)

    @property
    def taken(self) -> int:
        """How many of the rings have a producer now."""
        count = lib.core_rings_taken(self._handle)
        self._check(count)
        return int(count)

    def counters(self) -> Counters:
        """Count the failures so far, of all rings together.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.rings("events", size="4KiB", count=2)
        ...     events.push_many([bytes(1000)] * 5), events.counters().full
        (4, 1)
        """
        all_of_them = [ring.counters() for ring in self._rings]
        names = Counters.__struct_fields__
        return Counters(*(sum(getattr(each, name) for each in all_of_them) for name in names))

    def check(self, *, repair: bool = False, force: bool = False) -> CheckReport:
        """Check each ring, see `Ring.check`; the numbers are sums.

        With `repair` rings that have a producer are let go, and count as repaired: those of BPF
        programs that reserved and returned without submit or discard, which nothing else gives
        back. That is for when nobody produces, and refused as `Ring.check` does, unless `force`.
        Rings of killed threads `Arena.reap` gives back.

        Raises
        ------
        ReadOnlyError, WritersError
            Only with `repair`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.rings("events", size="4KiB", count=2)
        ...     events.push(b"one")
        ...     report = events.check()
        >>> report.live, report.errors
        (1, 0)
        """
        reports = [ring.check(repair=repair, force=force) for ring in self._rings]
        names = [name for name in CheckReport.__struct_fields__ if name != "error_at"]
        sums = {name: sum(getattr(each, name) for each in reports) for name in names}
        if repair:
            freed = lib.core_rings_free(self._handle)
            self._check(freed)
            sums["repaired"] += int(freed)
        return CheckReport(
            **sums, error_at=next((each.error_at for each in reports if each.errors), 0)
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"rings {self.name!r} are memory of this process, which cannot be copied or pickled:"
            " pin the arena, and open the pin where they are needed"
        )

    def __repr__(self) -> str:
        return represented(self)

    def _state(self) -> str:
        how = ", overwriting" if self.overwrite else ""
        return f"{len(self)} of {self.size} bytes, {self.waiting} bytes wait{how}"

    # --- inner ----------------------------------------------------------------------------

    def _check(self, code: int, size: int = 0) -> None:
        """Raise what a negative code of the C core means."""
        if code >= 0:
            return
        if code == lib.ADS_FULL and not lib.core_is_registered(self.arena._writable()):
            raise CapacityError(
                f"rings {self.name!r}: this thread is not registered as a writer, so nobody could"
                " take a ring back from it if it died: the arena's registry is full. Push from"
                " fewer threads, let some end, or create a larger arena.",
                name=self.name,
                max_entries=self.size,
            )
        if code == lib.ADS_FULL:
            raise CapacityError(
                f"rings {self.name!r} had no room: {self.waiting} of their {len(self)} times"
                f" {self.size} bytes wait to be consumed, and {self.taken} have a producer now."
                " Consume, make more or larger ones, or let them overwrite.",
                name=self.name,
                max_entries=self.size,
            )
        if code == lib.ADS_TOO_LONG:
            raise RecordSizeError(
                f"rings {self.name!r} take records of up to {self.longest} bytes (half of the"
                f" {self.size} of each, less 8), found {size}. Make them larger, or split the"
                " record.",
                name=self.name,
                size=size,
                most=self.longest,
            )
        if code == lib.ADS_NOT_RESERVED:
            raise ReservationError(
                f"rings {self.name!r} have no such reservation any more: this process was forked"
                " since it was made, or a check that repairs has let the ring go.",
                name=self.name,
            )
        self._rings[0]._check(code)


class _Reservation(Loan):
    """What was reserved: given up at the latest when the arena is closed."""

    __slots__ = ("_handle", "_once", "_process", "draft")

    def __init__(self, rings: Rings) -> None:
        self._handle = rings._handle
        self._once = threading.Lock()  # one thread submits, another closes the arena
        self._process = os.getpid()  # a child has a copy of the draft, and not the ring
        self.draft = ffi.new("struct ads_rings_draft *")
        super().__init__(rings.arena)

    def submit(self) -> int:
        if os.getpid() != self._process:
            return int(lib.ADS_NOT_RESERVED)
        with self._once:
            return int(lib.core_rings_submit(self._handle, self.draft))

    def give_up(self) -> None:
        if os.getpid() != self._process:
            return
        with self._once:
            lib.core_rings_discard(self._handle, self.draft)


class _One(Ring):
    """One of some rings: who produces takes it first, so it is done by all of them together."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise SchemaError(
            f"ring {self.name!r} has many producers, and somebody may have it now: push to the"
            f" rings {self.name.rpartition('.')[0]!r} instead"
        )

    push = push_many = reserve = publish = _refuse


def open_rings(arena: Arena, name: str, size: int, count: int | None, flags: int) -> Rings:
    """Make or open rings; see `Arena.rings`."""
    from arenads.arena import padded_name

    padded = padded_name(name)
    if len(name.encode()) + _SUFFIX >= lib.ADS_NAME_SIZE:
        raise SchemaError(
            f"a name of rings has at most {lib.ADS_NAME_SIZE - 1 - _SUFFIX} bytes,"
            f" {name!r} has {len(name.encode())}"
        )
    if count is not None and (
        not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= lib.ADS_RINGS_MOST
    ):
        raise SchemaError(f"count: expected 1 to {lib.ADS_RINGS_MOST} rings, found {count!r}")
    if arena._find(padded_name(f"{name}.0")) is None:
        core = arena._writable()
        core.damaged_at = 0  # stays so where the core does not know how much it wanted
        code = lib.ads_rings_create(core, padded, count or 0, size, flags)
        if code != lib.ADS_EXISTS:
            arena._check(code, name, int(core.damaged_at) or None)
    handle = ffi.new("core_rings *")
    handle.arena = arena._open()
    code = lib.core_rings_open(handle, padded)
    if code != lib.ADS_WRONG_TYPE:  # it is said below what it is
        arena._check(code, name)
    rings: list[Ring] = []
    for i in range(max(int(handle.rings.count), 1) if code == 0 else lib.ADS_RINGS_MOST):
        called = f"{name}.{i}"
        found = arena._find(padded_name(called))
        if found is None:
            break
        offset = arena._compared(called, found, lib.ADS_KIND_RING, None, None, flags)
        ring = _One(arena, called, offset, None, None, None, None)
        ring._schema_offset = int(found.schema_offset)
        rings.append(ring)
    if count is not None and len(rings) != count:
        raise NameExistsError(
            f"{name!r} exists as {len(rings)} rings, expected {count}: programs that have them open"
            " know of no others. Choose another name.",
            name=name,
            expected=count,
            found=len(rings),
        )
    return Rings(arena, name, handle, rings)
