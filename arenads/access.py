"""How views read and write the members of records in place: one call of the C core each.

An `Access` is made once for each member of a view class. What it gets as `view` has the core,
the arena and the address of its record; `at` is the member's offset in that.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from arenads._core import ffi, lib
from arenads.errors import AddressError, SchemaError
from arenads.fitting import fit, fit_field
from arenads.packers import (
    FLAGS,
    NUL,
    bits_packer,
    bytes_packer,
    enforcer,
    fitting_text,
    pack_char,
)
from arenads.schema import (
    INTEGERS,
    SCALARS,
    BytesType,
    CType,
    EnumType,
    Field,
    Scalar,
    StrType,
    spell,
)
from arenads.shape import Check, Shape

if TYPE_CHECKING:
    from arenads.arena import Arena

__all__ = ["Access", "misplaced"]

Load: TypeAlias = Callable[[Any, int], Any]
Store: TypeAlias = Callable[[Any, int, Any], None]
Ready: TypeAlias = Callable[[Any, Any], Any]
Getter: TypeAlias = Callable[[Any], Any]
Setter: TypeAlias = Callable[[Any, Any], None]
# Raises SchemaError for a value that does not fit, given the error of trying.
Misfit: TypeAlias = Callable[[Any, Exception], NoReturn]

_READ: Final = {name: getattr(lib, f"core_view_{name}") for name in INTEGERS}
_WRITE: Final = {name: getattr(lib, f"core_view_set_{name}") for name in INTEGERS}
# As globals: looking a function up in the extension costs a third of an access.
_READ_BYTES, _WRITE_BYTES = lib.core_view_read, lib.core_view_write
_READ_BITS, _WRITE_BITS = lib.core_view_bits, lib.core_view_set_bits
_UNREAD: Final = int(lib.CORE_UNREAD)
_UNREAD_SIGNED: Final = _UNREAD - (1 << 64)
_OCTETS: Final = tuple(bytes((value,)) for value in range(256))


class Access:
    """How one member is read and written.

    Attributes
    ----------
    load, store : callable
        `load(view, at)` and `store(view, at, value)`.
    ready, put : callable
        `store` in two steps: `ready(view, value)` checks and packs and changes nothing,
        `put(view, at, packed)` writes what it returned.
    getter, setter : callable
        Make functions for a property out of an offset: `getter(at)(view)`.
    """

    __slots__ = ("getter", "load", "put", "ready", "setter", "store")

    def __init__(
        self,
        load: Load,
        ready: Ready,
        put: Store,
        getter: Callable[[int], Getter] | None = None,
        store: Store | None = None,  # faster than both steps
    ) -> None:
        if store is None:

            def store(view: Any, at: int, value: Any) -> None:
                put(view, at, ready(view, value))

        self.load = load
        self.ready = ready
        self.put = put
        self.store = store
        self.getter = getter or (lambda at: lambda view: load(view, at))
        self.setter: Callable[[int], Setter] = lambda at: lambda view, value: store(view, at, value)


# --- errors ---------------------------------------------------------------------------------


def misfit_of(part: Field | CType, shape: Shape, path: str) -> Misfit:
    """Return what says why a value does not fit a member, in the words of the codec."""

    def misfit(value: Any, error: Exception) -> NoReturn:
        if isinstance(part, Field):
            fit_field(part, shape, value, path)
        else:
            fit(part, shape, value, path)
        ctype = part.type if isinstance(part, Field) else part
        raise SchemaError(
            f"{path}: expected a value of type {spell(ctype)}, found one that does not fit: {error}"
        ) from None

    return misfit


def fail(view: Any, code: int, at: int) -> NoReturn:
    """Raise what a code of the C core means for an access."""
    arena: Arena = view.__arena__
    arena._open()
    if code == lib.ADS_DAMAGED:
        raise misplaced(arena, view.__address__ + at, 1, 1, "member")
    arena._check(code)
    raise AssertionError(f"the access returned {code}")


def _check_unread(view: Any, at: int, size: int) -> None:
    """Raise if a member could not be read; else it has the value that says so."""
    code = lib.core_view_check(view.__core__, view.__address__, at, size)
    if code:
        fail(view, code, at)


def misplaced(
    arena: Arena, address: int, size: int, align: int, what: str, found_in: str = ""
) -> AddressError:
    """Return the error for an address where no object of a size and alignment can be."""
    base, end = arena.base, arena.base + arena.size
    if address == 0:
        reason = "it is NULL"
    elif not base <= address < end:
        reason = f"the arena has the addresses {base:#x} to {end - 1:#x}"
        if lib.ADS_ROOT_OFFSET <= address < end - base:
            reason += "; it looks like an offset: BPF stores pointers with ads_user_form()"
    elif address % align:
        reason = f"expected a multiple of {align}"
    elif address + size > end:
        reason = f"its {size} bytes go beyond the arena's end, {end:#x}"
    elif address - base < lib.ADS_ROOT_OFFSET:
        reason = f"the first {lib.ADS_ROOT_OFFSET} bytes of an arena are nobody's"
    else:
        reason = f"of the arena, only the first {arena.populated} bytes are populated"
    return AddressError(
        f"{found_in}no {what} can be at {address:#x}: {reason}",
        address=address,
        size=size,
        align=align,
    )


# --- numbers --------------------------------------------------------------------------------


def scalar_access(ctype: Scalar | EnumType, shape: Shape, misfit: Misfit) -> Access:
    """Return the access to a number, an enum, a bool or a char."""
    if isinstance(ctype, EnumType):
        named = shape.cls._value2member_map_.get
        return _integer(ctype.base, operator.index, shape.checks, misfit, _enum_of(named))
    if ctype.name == "bool":
        return _integer("u8", FLAGS.__getitem__, shape.checks, misfit, bool)
    if ctype.name == "char":
        return _integer(
            "u8", lambda value: pack_char(value)[0], shape.checks, misfit, _OCTETS.__getitem__
        )
    if ctype.name[0] == "f":
        return _float(ctype.name, shape.checks, misfit)
    return _integer(ctype.name, operator.index, shape.checks, misfit)


def _enum_of(named: Callable[[int, int], Any]) -> Callable[[int], Any]:
    return lambda value: named(value, value)


def _checked(prepare: Callable[[Any], Any], checks: tuple[Check, ...]) -> Callable[[Any], Any]:
    if not checks:
        return prepare
    enforce = enforcer(checks)
    return lambda value: prepare(enforce(value))


def _integer(
    name: str,
    prepare: Callable[[Any], int],
    checks: tuple[Check, ...],
    misfit: Misfit,
    convert: Callable[[int], Any] | None = None,
) -> Access:
    read, write = _READ[name], _WRITE[name]
    _code, size, low, high = SCALARS[name]
    unread = _UNREAD if name == "u64" else _UNREAD_SIGNED
    prepare = _checked(prepare, checks)

    def load(view: Any, at: int) -> Any:
        value = read(view.__core__, view.__address__, at)
        if value == unread:
            _check_unread(view, at, size)
        return value if convert is None else convert(value)

    def getter(at: int) -> Getter:
        def get(view: Any) -> Any:
            value = read(view.__core__, view.__address__, at)
            if value == unread:
                _check_unread(view, at, size)
            return value

        return get

    def store(view: Any, at: int, value: Any) -> None:
        try:
            code = write(view.__core__, view.__address__, at, prepare(value))
        except Exception as error:
            misfit(value, error)
        if code:
            fail(view, code, at)

    def ready(view: Any, value: Any) -> int:
        try:
            number = int(prepare(value))
            if not low <= number <= high:
                raise ValueError
        except Exception as error:
            misfit(value, error)
        return number

    put = _word_put(write)
    return Access(load, ready, put, getter if convert is None else None, store)


def _word_put(write: Callable[..., int]) -> Store:
    def put(view: Any, at: int, number: int) -> None:
        code = write(view.__core__, view.__address__, at, number)
        if code:
            fail(view, code, at)

    return put


def _float(name: str, checks: tuple[Check, ...], misfit: Misfit) -> Access:
    form, bits = struct.Struct("=" + SCALARS[name][0]), f"u{name[1:]}"
    read, write, size = getattr(lib, f"core_view_{name}"), _WRITE[bits], form.size
    prepare = _checked(lambda value: int.from_bytes(form.pack(value), "little"), checks)

    def load(view: Any, at: int) -> Any:
        value = read(view.__core__, view.__address__, at)
        if value != value:
            _check_unread(view, at, size)
        return value

    def store(view: Any, at: int, value: Any) -> None:
        try:
            number = prepare(value)
        except Exception as error:
            misfit(value, error)
        code = write(view.__core__, view.__address__, at, number)
        if code:
            fail(view, code, at)

    def ready(view: Any, value: Any) -> int:
        try:
            return int(prepare(value))
        except Exception as error:
            misfit(value, error)

    return Access(load, ready, _word_put(write), store=store)


def bits_access(field: Field, shape: Shape, misfit: Misfit) -> Access:
    """Return the access to a bit field."""
    shift, width = field.bit_offset, field.bit_size
    size = -(-(shift + width) // 8)
    pack = bits_packer(field, shape)
    ctype = field.type
    convert: Callable[[int], Any] | None = None
    if isinstance(ctype, EnumType):
        convert = _enum_of(shape.cls._value2member_map_.get)
    elif ctype == Scalar("bool"):
        convert = bool
    base = ctype.base if isinstance(ctype, EnumType) else spell(ctype)
    sign = 1 << width - 1 if base[0] == "i" else 0

    def load(view: Any, at: int) -> Any:
        value = _READ_BITS(view.__core__, view.__address__, at, shift, width)
        if value == _UNREAD:
            _check_unread(view, at, size)
        if sign:
            value = (value ^ sign) - sign
        return value if convert is None else convert(value)

    def ready(view: Any, value: Any) -> int:
        try:
            return pack(value)
        except Exception as error:
            misfit(value, error)

    def put(view: Any, at: int, number: int) -> None:
        code = _WRITE_BITS(view.__core__, view.__address__, at, shift, width, number)
        if code:
            fail(view, code, at)

    return Access(load, ready, put)


# --- bytes ----------------------------------------------------------------------------------


def reader(size: int) -> Callable[[Any, int], bytes]:
    """Return `read(view, at)`, which copies `size` bytes."""
    memory_of = ffi.typeof(f"char[{size}]")
    new, unpack = ffi.new, ffi.unpack

    def read(view: Any, at: int) -> bytes:
        memory = new(memory_of)
        code = _READ_BYTES(view.__core__, view.__address__, at, memory, size)
        if code:
            fail(view, code, at)
        copied: bytes = unpack(memory, size)
        return copied

    return read


def write_bytes(view: Any, at: int, data: bytes) -> None:
    """Write bytes."""
    code = _WRITE_BYTES(view.__core__, view.__address__, at, data, len(data))
    if code:
        fail(view, code, at)


def text_access(ctype: BytesType | StrType, shape: Shape, misfit: Misfit) -> Access:
    """Return the access to text or bytes."""
    size, text = ctype.size, isinstance(ctype, StrType)
    plain = (lambda value: fitting_text(value, size).raw) if text else bytes_packer(size)
    pack = _checked(plain, shape.checks)

    def ready(view: Any, value: Any) -> bytes:
        try:
            raw: bytes = pack(value)
        except Exception as error:
            if text or not isinstance(value, (list, tuple)):
                misfit(value, error)
            # What C calls an array of `unsigned char` may be given as numbers.
            raw = fit(ctype, shape, value, "")
        return raw.ljust(size, NUL)

    if not text:
        return Access(reader(size), ready, write_bytes)
    memory_of = ffi.typeof(f"char[{size}]")
    new, string = ffi.new, ffi.string

    def getter(at: int) -> Getter:
        def get(view: Any) -> str:
            memory = new(memory_of)
            code = _READ_BYTES(view.__core__, view.__address__, at, memory, size)
            if code:
                fail(view, code, at)
            found: str = string(memory).decode("utf-8", "surrogateescape")
            return found

        return get

    return Access(lambda view, at: getter(at)(view), ready, write_bytes, getter)
