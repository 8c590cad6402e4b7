"""Views: records in arena memory, read and written where they are.

A `View` stands for a record at an address. Its attributes are the members of the record, and
each access is one access to the memory, so that a view always shows what is there now:

>>> import arenads, msgspec
>>> from arenads import Ptr, u64
>>> Item = msgspec.defstruct("Item", [("value", u64), ("next", Ptr["Item"], 0)])
>>> with arenads.create("1MiB", engine="native") as arena:
...     items = arena.pool("items", value=Item)
...     last = items.view(items.alloc(Item(1)))
...     first = items.view(items.alloc(Item(2)))
...     first.next = last
...     last.value += 40
...     first.next.value, first.next == last, last.next
(41, True, None)

Views follow pointers, so a structure that a program linked itself can be walked with them. They
check each address before they follow it, but not where a walk leads: a list that is a circle has
no end, and bounding the loop is the caller's.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, cast, overload

from arenads._core import lib
from arenads.access import fail, misplaced
from arenads.codec import member_of
from arenads.errors import SchemaError
from arenads.schema import Schema, refuse, spell
from arenads.words import from_word, to_word, wrapped

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from arenads.arena import Arena
    from arenads.view_types import ArrayKind, Kind

__all__ = ["ArrayView", "View", "VoidView", "make_view", "view_at"]

T = TypeVar("T")
U = TypeVar("U")

LAST_ADDRESS: Final = (1 << 64) - 1

_new = object.__new__
# As globals: looking one up in the extension costs a third of an access.
_WORD, _UNREAD = lib.core_view_word, int(lib.CORE_UNREAD)
_LOAD, _STORE, _ADD = lib.CORE_LOAD, lib.CORE_STORE, lib.CORE_ADD
_EXCHANGE, _CAS = lib.CORE_EXCHANGE, lib.CORE_CAS


class View(Generic[T]):
    """A record in arena memory, `T` being the class of its copies.

    Made by `Arena.view`, `Pool.view`, `Map.view`, `ArrayMap.view` and `List.view`, and by following
    pointers. What an attribute gives and takes:

    ================  ==========================================================================
    number, enum,     as in a record; a value that does not fit, or that a `msgspec.Meta`
    bool, text,       constraint forbids, is a `SchemaError`, and nothing is written
    bytes, bit field
    pointer           a view of its target, None for NULL; takes a view, an address, or None
    record, union     a view of it; takes a record, a mapping, a tuple or a view, and copies it
    array             an `ArrayView`; takes a sequence or a view, and copies it
    ================  ==========================================================================

    A view of something else than a record or an array, such as the target of a `Ptr[u64]`, has
    the attribute `value`. One of a `void *`, or of a record that the schema does not know, has only
    an address: `cast` says what it is.

    Members that lie at a multiple of their size of 1, 2, 4 or 8 bytes are read and written by
    one access each, never torn; reading acquires and writing releases, so who reads a pointer finds
    what was written before it was stored. Text, bytes and whole records are copied 8 bytes at a
    time. Writing a bit field changes only its own bits.

    Views are equal if they are of the same type at the same address of the same arena. They keep
    their arena from being collected, not from being closed: from then on each access is a
    `ClosedError`. A view does not own its memory: whoever frees the record may see it used again
    for another. Every access checks that it is within the arena, and raises

    AddressError
        A pointer leads to where no such record can be.
    ReadOnlyError
        A write through a read-only arena.
    ClosedError

    A member named like one of the methods below hides it; `View.copy(view)` still calls the method,
    and `int(view)` is always the address.

    >>> import arenads, msgspec
    >>> from arenads import Ptr, u64
    >>> Item = msgspec.defstruct("Item", [("value", u64), ("next", Ptr["Item"], 0)])
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     items = arena.pool("items", value=Item)
    ...     first, last = (items.view(items.alloc(Item(value))) for value in (1, 2))
    ...     first.next = last
    ...     first.next.value, first.next.next
    ...     first.address == arena.base + first.offset, first.schema.name
    ...     first.exchange(8, "value"), first.load("value")
    ...     first.store(9, "value")
    ...     first.cas(last, None, "next"), first.next
    ...     last.assign(first)
    ...     last.copy()
    ...     first.cast(u64).value  # what lies at the same address: the first member
    (2, None)
    (True, 'Item')
    (1, 8)
    (True, None)
    Item(value=9, next=0)
    9
    """

    __slots__ = ("__address__", "__arena__", "__core__")
    __address__: int
    __arena__: Arena
    __core__: Any
    __view__: Kind

    def __init__(self) -> None:
        raise TypeError("views are made by Arena.view and by the view methods of structures")

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self.__view__.no_member(name), name=name, obj=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a view is a place in the memory of this process, which cannot be copied or pickled;"
            " its copy() can"
        )

    # --- where and what -------------------------------------------------------------------

    @property
    def address(self) -> int:
        """The address, the same in every process."""
        return self.__address__

    @property
    def offset(self) -> int:
        """Bytes from the arena's base."""
        return self.__address__ & 0xFFFF_FFFF

    @property
    def schema(self) -> Schema:
        """Schema of the record."""
        return self.__view__.schema

    def __int__(self) -> int:
        return self.__address__

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        return (
            self.__address__ == other.__address__
            and self.__core__ is other.__core__
            and self.__view__.same(other.__view__)
        )

    def __hash__(self) -> int:
        return hash((self.__address__, self.__view__.name))

    def __repr__(self) -> str:
        return self.__view__.shown(self)

    # --- whole ----------------------------------------------------------------------------

    def copy(self) -> T:
        """Return a copy: a record as the codec gives it, with addresses for pointers.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.array("numbers", value=arenads.Array[arenads.u16, 3], max_entries=9)
        ...     view = numbers.view(2)
        ...     view[1] = 7
        ...     view.copy(), list(view)
        ([0, 7, 0], [0, 7, 0])
        """
        return cast(T, self.__view__.copy(self))

    def assign(self, value: object) -> None:
        """Write a whole record, which may be a view of another, but for its intrusive nodes.

        Raises
        ------
        SchemaError
            It does not fit; nothing was written.
        """
        self.__view__.write(self, 0, value)

    @overload
    def cast(self, type: TypeForm[U]) -> View[U]: ...
    @overload
    def cast(self, type: object) -> View[Any]: ...
    def cast(self, type: object) -> View[Any]:
        """Return a view of the same address as another type.

        `type` is what `Arena.view` takes, or the name of a record that the schema knows.

        Raises
        ------
        AddressError
            No object of that type can be here.
        SchemaError
            There is no such type.
        """
        return view_at(self.__arena__, self.__address__, self.__view__.kinds.named(type))

    @overload
    def container(self, type: TypeForm[U], member: str) -> View[U]: ...
    @overload
    def container(self, type: object, member: str) -> View[Any]: ...
    def container(self, type: object, member: str) -> View[Any]:
        """Return a view of the record that this is a member of, as C's `container_of`.

        >>> import arenads, msgspec
        >>> from arenads import Ptr, u64
        >>> Link = msgspec.defstruct("Link", [("next", Ptr["Link"], 0)])
        >>> Task = msgspec.defstruct("Task", [("pid", u64), ("link", Link)])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.pool("tasks", value=Task)
        ...     link = tasks.view(tasks.alloc(Task(7, Link()))).link
        ...     link.container(Task, "link").pid
        7

        Raises
        ------
        SchemaError
            The type has no such member, or one of another type than this view's.
        AddressError
            No such record can be there.
        """
        cls = self.__view__.kinds.named(type)
        offset, ctype = member_of(cls.__view__.schema, member)
        if spell(ctype) != self.__view__.name:
            refuse(
                f"{cls.__view__.name}.{member} is a {spell(ctype)}: expected a member of type"
                f" {self.__view__.name}, which the view is of"
            )
        return view_at(self.__arena__, self.__address__ - offset, cls)

    # --- atomic ---------------------------------------------------------------------------

    def add(self, amount: int, field: str | int = "") -> int:
        """Add to a 64-bit integer, atomically; return what it was before.

        `field` is a path such as "calls" or "cpu[2].ticks", in an array "[3]" or 3; leave it out
        in a view of the integer itself. The other methods below take the same, and pointers too:
        as addresses, where what is written and expected may be a view or None. Maps and arrays
        have the same methods, with a key or an index before the other arguments.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     hits = arena.hashmap("hits", key=arenads.u32, value=arenads.u64)
        ...     hits[1] = 5
        ...     view = hits.view(1)
        ...     view.add(3), view.cas(8, 0), hits[1]
        (5, True, 0)

        Raises
        ------
        SchemaError
            The member is no aligned 64-bit integer, or the number does not fit.
        """
        kind = self.__view__
        try:
            at, signed = kind.writable_words[field]  # type: ignore[index]
        except (KeyError, TypeError):
            at, signed = kind.find_word(field, kind.writable_words)
        before = _WORD(self.__core__, self.__address__, at, _ADD, wrapped(amount), 0)
        if before == _UNREAD:
            _check_word(self, at, _ADD, field)
        return from_word(before, signed)

    def load(self, field: str | int = "") -> int:
        """Read a 64-bit integer; of a pointer, the address, wherever it leads.

        Raises
        ------
        SchemaError
            As for `add`; so of the three below.
        """
        kind = self.__view__
        try:
            at, signed = kind.words[field]  # type: ignore[index]
        except (KeyError, TypeError):
            at, signed = kind.find_word(field, kind.words)
        word = _WORD(self.__core__, self.__address__, at, _LOAD, 0, 0)
        if word == _UNREAD:
            _check_word(self, at, _LOAD, field)
        return from_word(word, signed)

    def store(self, value: int | View[Any] | None, field: str | int = "") -> None:
        """Write a 64-bit integer, or a pointer without a check of where it leads.

        Raises
        ------
        SchemaError
        """
        kind = self.__view__
        try:
            at, signed = kind.writable_words[field]  # type: ignore[index]
        except (KeyError, TypeError):
            at, signed = kind.find_word(field, kind.writable_words)
        word = _word_of(value, signed)
        if _WORD(self.__core__, self.__address__, at, _STORE, word, 0) == _UNREAD:
            _check_word(self, at, _STORE, field)

    def exchange(self, value: int | View[Any] | None, field: str | int = "") -> int:
        """Write a 64-bit integer, atomically; return what it was before.

        Raises
        ------
        SchemaError
        """
        kind = self.__view__
        try:
            at, signed = kind.writable_words[field]  # type: ignore[index]
        except (KeyError, TypeError):
            at, signed = kind.find_word(field, kind.writable_words)
        word = _word_of(value, signed)
        before = _WORD(self.__core__, self.__address__, at, _EXCHANGE, word, 0)
        if before == _UNREAD:
            _check_word(self, at, _EXCHANGE, field)
        return from_word(before, signed)

    def cas(
        self,
        expected: int | View[Any] | None,
        wanted: int | View[Any] | None,
        field: str | int = "",
    ) -> bool:
        """Compare and swap: write a 64-bit integer if it is what is expected; whether it was.

        Raises
        ------
        SchemaError
        """
        kind = self.__view__
        try:
            at, signed = kind.writable_words[field]  # type: ignore[index]
        except (KeyError, TypeError):
            at, signed = kind.find_word(field, kind.writable_words)
        old, new = _word_of(expected, signed), _word_of(wanted, signed)
        before = _WORD(self.__core__, self.__address__, at, _CAS, new, old)
        if before == _UNREAD:
            _check_word(self, at, _CAS, field)
        return bool(before == old)


def _word_of(value: Any, signed: bool) -> int:
    if value.__class__ is int:
        return to_word(value, signed)
    if value is None or isinstance(value, View):
        value = 0 if value is None else value.__address__
    return to_word(value, signed)


def _check_word(view: View[Any], at: int, access: int, field: str | int) -> None:
    """Raise if a word could not be worked on; else it had the value that says so."""
    code = lib.core_view_check_word(view.__core__, view.__address__, at, access)
    if code == lib.ADS_INVALID:
        what = "the value" if field == "" else repr(field)
        raise SchemaError(
            f"atomic access needs an aligned 64-bit integer: {what} is at address"
            f" {view.__address__ + at:#x}"
        )
    if code:
        fail(view, code, at)


class ArrayView(View[T], Sequence[Any]):
    """An array in arena memory: a sequence of fixed length.

    Elements are what attributes of a `View` are: numbers as such, records as views. An index,
    assigning to one, and each step of an iteration is one access; a slice of numbers is copied by
    one call, and `copy()` is the whole as a list. Values for a slice are all checked before the
    first is written.

    >>> import arenads, msgspec
    >>> from arenads import Array, u32
    >>> Sample = msgspec.defstruct("Sample", [("slots", Array[u32, 4])])
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     samples = arena.array("samples", value=Sample, max_entries=10)
    ...     slots = samples.view(0).slots
    ...     slots[1:3] = [5, 6]
    ...     slots[-1] += 7
    ...     len(slots), slots[1], list(slots), 6 in slots
    (4, 5, [0, 5, 6, 7], True)
    """

    __slots__ = ()
    __view__: ArrayKind

    def __len__(self) -> int:
        return self.__view__.count

    def __getitem__(self, index: Any) -> Any:
        kind = self.__view__
        try:
            at = kind.places[index]
        except (IndexError, TypeError):
            kind.refuse(index)
        if at.__class__ is not range:
            return kind.load(self, at)
        if kind.plain:
            return [*kind.codec.unpack(kind.read(self, 0))[index]]
        return [kind.load(self, place) for place in at]

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write an element, or as many as a slice has.

        Raises
        ------
        RangeError, SchemaError, AddressError
            Nothing was written, of a slice neither; the message names the index.
        """
        kind = self.__view__
        try:
            at = kind.places[index]
        except (IndexError, TypeError):
            kind.refuse(index)
        if at.__class__ is not range:
            kind.store(self, at, value)
            return
        values = list(value)
        if len(values) != len(at):
            refuse(
                f"expected {len(at)} values for a slice of {kind.name}, which cannot change its"
                f" length; found {len(values)}"
            )
        put = kind.element.put
        for place, packed in zip(at, kind.ready_all(self, at, values), strict=True):
            put(self, place, packed)

    def __iter__(self) -> Iterator[Any]:
        load = self.__view__.load
        return (load(self, at) for at in self.__view__.places)


class VoidView(View[Any]):
    """An address of something of unknown type, which may be outside of the arena."""

    __slots__ = ()


# --- making views ---------------------------------------------------------------------------


def make_view(arena: Arena, core: Any, address: int, cls: type[View[Any]]) -> View[Any]:
    """Return a view of a place that was checked."""
    view = _new(cls)
    view.__arena__ = arena
    view.__core__ = core
    view.__address__ = address
    return view


def view_at(arena: Arena, address: object, cls: type[View[Any]]) -> View[Any]:
    """Return a view of an address, or `AddressError` where none can be."""
    kind, core = cls.__view__, arena._open()
    number = address_of(address)
    if not kind.size:
        refuse(f"a view needs a type of at least one byte, {kind.name} has none")
    if (
        not 0 <= number <= LAST_ADDRESS
        or lib.core_view_place(core, number, kind.size, kind.align) < 0
    ):
        arena._open()
        raise misplaced(arena, number, kind.size, kind.align, kind.name)
    return make_view(arena, core, number, cls)


def address_of(address: object) -> int:
    """Return the address that a number or a view is."""
    try:
        return operator.index(address)  # type: ignore[arg-type]
    except TypeError:
        refuse(f"expected an address or a view, found {address!r}")
