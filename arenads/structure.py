"""What every structure of an arena has: a name, records, a length, counters, a check."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import msgspec

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import (
    ArenadsError,
    ArenaFullError,
    BudgetError,
    CapacityError,
    ClosedError,
    DamagedError,
    RemovedError,
    SchemaError,
)
from arenads.fused import buffer_maker
from arenads.schema import ArrayType, Record, Schema, members
from arenads.view import View, view_at
from arenads.view_types import view_class
from arenads.words import keep_word

if TYPE_CHECKING:
    from arenads.arena import Arena
    from arenads.btf import Declaration

__all__ = ["CheckReport", "Counters", "Structure"]

V = TypeVar("V")


class Counters(msgspec.Struct, frozen=True):
    """Operations that failed since the structure was made, by reason, on either side.

    Attributes
    ----------
    full : int
        Found no entry or slot free (`CapacityError`).
    no_memory : int
        Found nothing populated in the arena (`ArenaFullError`).
    budget : int
        Ran out of their bounded loop (`BudgetError`).
    damaged : int
        Met memory that cannot be what it claims (`DamagedError`).
    dropped : int
        Records of an overwriting ring that made room before anybody took them.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     jobs = arena.queue("jobs", value=arenads.u32, max_entries=2)
    ...     jobs.push_many([1, 2, 3])
    ...     jobs.counters()
    2
    Counters(full=1, no_memory=0, budget=0, damaged=0, dropped=0)
    """

    full: int
    no_memory: int
    budget: int
    damaged: int
    dropped: int

    @classmethod
    def _of(cls, found: Any) -> Counters:
        """Return the counters that the C core has copied."""
        return cls(*(int(getattr(found, name)) for name in cls.__struct_fields__))


class CheckReport(msgspec.Struct, frozen=True):
    """Where the entries of a structure are, as numbers of entries; each is in one place.

    Attributes
    ----------
    live, deleted : int
        Linked; the deleted ones wait for the next writer that passes.
    free, unused : int
        To be taken by the next insert: used before, and never yet.
    waiting : int
        Free when a grace period has passed.
    carved : int
        Those that ever had memory: all of the above, and the leaked ones.
    leaked : int
        In no place: a writer died with it in its hands.
    repaired : int
        Leaked entries that the check gave back.
    errors, error_at : int
        Things that no operation and no death can produce, and the offset of the first.
    moving : int
        In the hands of others just now, so that nothing can be said of them. The other numbers
        of a structure that is being written to are of different moments.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
    ...     ages.update({1: 30, 2: 40})
    ...     report = ages.check()
    >>> report.live, report.leaked, report.errors
    (2, 0, 0)
    """

    live: int
    deleted: int
    free: int
    waiting: int
    unused: int
    carved: int
    leaked: int
    repaired: int
    errors: int
    error_at: int
    moving: int

    @classmethod
    def _of(cls, found: Any) -> CheckReport:
        """Return the report that the C core has filled in."""
        return cls(*(int(getattr(found, name)) for name in cls.__struct_fields__))


class Structure(Generic[V]):
    """Base of the structures; not made directly."""

    kind = 0
    """Number of the kind, of `enum ads_kind` in C."""
    kind_name = "structure"
    """What the kind is called in messages."""
    _make_room = "Delete entries"
    _core: Any

    def __init__(
        self,
        arena: Arena,
        name: str,
        offset: int,
        key: object,
        value: object,
        key_schema: Schema | None,
        value_schema: Schema | None,
    ) -> None:
        self.arena = arena
        """The arena that it is in."""
        self.name = name
        """Its name in the directory of the arena."""
        self.offset = offset
        """Where its header is: bytes from the base of the arena."""
        self._declared_value = value
        self._value_codec: Codec[V]
        if value_schema is not None:
            self._value_codec = self._codec(value, value_schema, "value")
        self._core = arena._open()
        self._handle = ffi.new("core_structure *")
        self._handle.arena = self._core
        self._handle.kind = self.kind
        self._handle.ref.offset = offset
        self._handle.ref.key_size = 0 if key_schema is None else key_schema.size
        self._handle.ref.value_size = 0 if value_schema is None else value_schema.size
        self._schema_offset = 0
        flags = lib.core_structure_flags(self._core, offset)
        arena._check(flags)
        self._handle.ref.flags = flags
        if self.kind == lib.ADS_KIND_ORDEREDMAP and not flags & lib.ADS_BYTES:
            self._handle.key_width, self._handle.ref.key_size = self._handle.ref.key_size, 0
        arena._check(lib.ads_structure_check(self._core, self.kind, self._handle.ref))
        # Idle (C buffer, view of it) pairs, of a ring with more; taking one from a list is atomic
        # among threads.
        self._buffers: list[Any] = []
        self._fields: dict[str, tuple[int, bool]] = {}
        self.described = True
        """Whether the types are known. A C program may have made it without: records are bytes."""

    @classmethod
    def _declared_options(cls, declaration: Declaration) -> dict[str, Any]:
        """Return what a declaration in a BPF object adds to the call that makes the structure."""
        return {}

    def _codec(self, declared: object, schema: Schema, part: str) -> Codec[Any]:
        """Return a codec, with the user's own class where there is one, whose errors name us."""
        if declared is None or isinstance(declared, Schema):
            codec: Codec[Any] = Codec(schema, frozen=True)
        else:
            codec = Codec(declared)
        codec.compiled.owner.name, codec.compiled.owner.part = self._title, part
        return codec

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self._title} is memory of this process, which cannot be copied or pickled: pin the"
            " arena, and open the pin where the structure is needed"
        )

    @property
    def _title(self) -> str:
        """What messages call it."""
        return f"{self.kind_name} {self.name!r}"

    @property
    def value_type(self) -> Schema:
        """Schema of the values.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.queue("jobs", value=arenads.Str[16])
        ...     jobs.value_type.name, jobs.value_type.size
        ('char[16]', 16)
        """
        return self._value_codec.schema

    @property
    def max_entries(self) -> int:
        """Entries that fit; of an array its elements, of a ring its bytes.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     arena.queue("jobs", value=arenads.u64, max_entries=100).max_entries
        128
        """
        self.arena._open()
        return int(lib.core_max_entries(self._handle))

    @property
    def bytes_held(self) -> int:
        """Bytes of the arena that are this structure's: header, tables, entries, schema.

        They are found by a walk over the blocks of the arena, of which there is one for about
        4 KiB that are used. None is ever given back.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     arena.queue("jobs", value=arenads.u64, max_entries=512).bytes_held >= 4096
        True
        """
        self.arena._open()
        count = int(lib.core_structure_bytes(self._handle, self._schema_offset))
        self._check(count)
        return count

    def counters(self) -> Counters:
        """Count the failures so far.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     arena.list("events", value=arenads.u64).counters().full
        0
        """
        self.arena._open()
        to = ffi.new("struct ads_counters *")
        self._check(lib.core_counters(self._handle, to))
        return Counters._of(to)

    def __repr__(self) -> str:
        return represented(self)

    def _state(self) -> str:
        """Return what `repr` says of it."""
        return f"{len(self)} of {self.max_entries} entries"

    def __len__(self) -> int:
        raise NotImplementedError

    @functools.cached_property
    def _view_class(self) -> type[View[Any]]:
        """The class of views of values."""
        declared = self._declared_value
        if declared is None or isinstance(declared, Schema):  # as for the codec, see below
            return view_class(self.value_type, frozen=True)
        return view_class(declared)

    def _view(self, offset: int) -> View[V]:
        """Return a view of the value at an offset, or raise what a negative one means."""
        self._check(offset)
        return view_at(self.arena, self.arena.base + offset, self._view_class)

    def _take_buffer(self) -> tuple[Any, Any]:
        try:  # not "if self._buffers": another thread may take the last one in between
            pair: tuple[Any, Any] = self._buffers.pop()
            return pair
        except IndexError:
            return self._new_buffer()

    def _new_buffer(self) -> tuple[Any, Any]:
        return buffer_maker(self._value_codec.size)()

    def _field(self, path: str) -> tuple[int, bool]:
        """Return the offset of an aligned 64-bit integer in the values; whether it is signed."""
        try:
            return self._fields[path]
        except KeyError:
            pass
        except TypeError:  # cannot be hashed
            raise self._no_field(path) from None
        if not isinstance(path, str):
            raise self._no_field(path)
        if not path and isinstance(self._value_codec.schema.type, Record | ArrayType):
            raise self._no_field(path)
        offset, scalar = self._value_codec.field(path)
        if scalar.size != 8 or offset % 8 or scalar.name[0] not in "ui":
            raise SchemaError(
                f"atomic access needs an aligned 64-bit integer: {path or 'the value'!r} is a"
                f" {scalar.name} at offset {offset}"
            )
        return keep_word(self._fields, path, offset, scalar)

    def _no_field(self, found: object) -> SchemaError:
        ctype = self._value_codec.schema.type
        if isinstance(ctype, ArrayType):
            expected = 'name an element, such as "[0]"'
        elif isinstance(ctype, Record):
            names = [field.name for field in members(ctype) if not field.bit_size]
            expected = "name a field: " + (", ".join(names[:20]) or "there is none")
        else:
            expected = "name no field: the value has none"
        what = f"found {found!r}" if found != "" else "found none"
        return SchemaError(f"values of {self.name!r}: {expected}; {what}")

    def _check(self, code: int) -> None:
        """Raise what a negative code of the C core means for this structure."""
        if code >= 0:
            return
        self.arena._open()  # what it met may be no damage, but that another thread closed it
        if code == lib.ADS_REMOVED:
            raise RemovedError(
                f"{self._title} was removed from the arena; look its name up anew",
                name=self.name,
            )
        what = self._title
        if code == lib.ADS_FULL:
            raise CapacityError(
                f"{what} is full: max_entries={self.max_entries}. {self._make_room}, or make it"
                " larger.",
                name=self.name,
                max_entries=self.max_entries,
            )
        if code == lib.ADS_NO_MEMORY:
            root = self.arena.statistics()
            raise ArenaFullError(
                f"no memory for {what}: {root.used} of the arena's {root.size} bytes are used."
                " Create a larger arena.",
                name=self.name,
                needed=None,
                size=root.size,
                used=root.used,
            )
        if code == lib.ADS_BUDGET:
            raise BudgetError(
                f"{what}: the loop budget ran out before the answer. Try again; if it stays, the"
                " structure is damaged.",
                name=self.name,
            )
        if code == lib.ADS_DAMAGED:
            at = int(self._core.damaged_at)
            raise DamagedError(
                f"{what} is damaged: offset {at:#x} leads nowhere. Recreate the arena.",
                name=self.name,
                offset=at,
            )
        self.arena._check(code)


def represented(each: Any) -> str:
    """Return the `repr` of what is in an arena: `_state()` says how it is, if that can be told."""
    try:
        state = "arena closed" if each.arena.closed else each._state()
    except ClosedError:
        state = "arena closed"
    except RemovedError:
        state = "removed"
    except ArenadsError:  # debuggers and tracebacks show structures that are damaged
        state = "unreadable"
    return f"<{type(each).__name__} {each.name!r}, {state}>"


class Checkable(Structure[V]):
    """A structure whose books can be checked."""

    def check(self, *, repair: bool = False, force: bool = False) -> CheckReport:
        """Find out where every entry is; with `repair` give leaked ones back.

        Checking is safe at any time: what is `leaked` or an error stays so, and what writers
        have in hand is `moving`. Repairing is for when nobody writes, other processes that
        provision among them; the thread of this one waits meanwhile. It is refused while a thread
        of another process that has written is alive, unless `force`. BPF programs are not known
        like that: detach them before.

        Raises
        ------
        ReadOnlyError, WritersError
            Only with `repair`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.hashmap("n", key=arenads.u32, value=arenads.u32)
        ...     numbers[1] = 1
        ...     numbers.check().live
        1
        """
        self.arena._open()
        report = ffi.new("struct ads_check_report *")
        ref = self._handle.ref
        if not repair:
            self._check(lib.ads_collection_check_live(self._core, self.kind, ref, report))
            return CheckReport._of(report)
        self.arena._refuse_repair(force)
        with self.arena._keeping:
            self._check(lib.ads_collection_check(self._core, self.kind, ref, 1, report))
        return CheckReport._of(report)


class Collection(Checkable[V]):
    """A structure of linked entries: hash map or list."""

    def __len__(self) -> int:
        """Count the entries: exact while nobody changes them."""
        count = int(lib.core_len(self._handle))
        self._check(count)
        if count > self._core.size // lib.core_entry_stride(self._handle):
            self.arena._damaged(f"{self._title} counts {count}", self.offset)
        return count

    def reclaim(self) -> int:
        """Give entries that wait for a grace period back to be used, after one; say how many.

        Only structures made with `reclaim="grace"` have such entries. The thread that provisions
        does this from time to time by itself.

        Raises
        ------
        ReadOnlyError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     ages[1] = 30
        ...     del ages[1]  # without "grace" the entry is free at once
        ...     ages.reclaim()
        0
        """
        self.arena._open()
        given = int(lib.ads_collection_reclaim(self._core, self._handle.ref))
        self._check(given)
        return given
