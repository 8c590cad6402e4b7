"""The codec: turns the bytes of records into Python objects and back."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, overload

from .annotations import described, hint_name, schema_of
from .comparison import compare
from .compiled import compile_codec
from .errors import SchemaError
from .python_class import generated
from .schema import (
    CTYPES,
    SCALARS,
    CType,
    EnumType,
    PointerType,
    Record,
    Scalar,
    Schema,
    check_schema,
    element_of,
    members,
    python_name,
    refuse,
    spell,
)

__all__ = ["Codec", "field_of"]

if TYPE_CHECKING:
    from typing_extensions import Buffer, TypeForm


T = TypeVar("T")


T_co = TypeVar("T_co", covariant=True)


class _Unpack(Protocol[T_co]):
    def __call__(self, buffer: Buffer, offset: int = 0) -> T_co: ...


class Codec(Generic[T]):
    """Turns records into bytes and back.

    Attributes
    ----------
    schema : Schema
        Of the records.
    size : int
        Bytes of one record.
    cls : type or None
        The class of the records; None if the schema is of a scalar or array.
    pack : callable
        `pack(value) -> bytes`. Takes an instance of the class, any object with the
        same attributes, a mapping or a tuple; for a scalar a number. Padding is zero.
        Raises `SchemaError` that names the member, what was expected and what was found.
    number : str
        Of an integer or float its code of the struct module, else empty.
    unpack : callable
        `unpack(buffer, offset=0) -> value`. Raises `SchemaError` if the buffer is too short.
    compiled : Compiled
        The code of both, for who makes code that contains it.
    shape : Shape
        How Python shows each part of the schema, and its constraints.
    array_rules : Rules or None
        What `arenads.array_rules` has found out for this codec.

    Parameters
    ----------
    schema : Schema, class or annotation
    cls : type, optional
        Your own class for the records. Its layout is compared with the schema.
        Without it the records are of the class that `python_class` makes.
    frozen : bool
        Make the generated class immutable and hashable.

    >>> from arenads import u32
    >>> codec = Codec(u32)
    >>> codec.unpack(codec.pack(7))
    7
    """

    @overload
    def __init__(self, schema: object, cls: TypeForm[T], *, frozen: bool = False) -> None: ...
    @overload
    def __init__(self, schema: TypeForm[T], cls: None = None, *, frozen: bool = False) -> None: ...
    @overload
    def __init__(
        self: Codec[Any], schema: object, cls: object = None, *, frozen: bool = False
    ) -> None: ...
    def __init__(self, schema: object, cls: Any = None, *, frozen: bool = False) -> None:
        if cls is None and not isinstance(schema, (Schema, *CTYPES)):
            cls = schema
        given = schema_of(schema)
        if cls is None:
            self.schema = check_schema(given)
            shape = generated(given, frozen)
        else:
            self.schema, shape = described(cls)
            compare(given, self.schema, what=hint_name(cls))
        self.cls: type[T] | None = shape.cls
        self.size: int = self.schema.size
        self.shape = shape
        self.array_rules: Any = None
        self.compiled = compiled = compile_codec(self.schema.type, shape)
        self.pack: Callable[[Any], bytes] = compiled.pack
        self.unpack: _Unpack[T] = compiled.unpack
        # Plain numbers, whose code of the struct module `memoryview` knows too.
        ctype = self.schema.type
        number = isinstance(ctype, Scalar) and ctype.name not in ("bool", "char")
        self.number = SCALARS[ctype.name][0] if number else ""  # type: ignore[union-attr]
        self._strided: dict[int, struct.Struct] = {self.size: compiled.form}

    def __repr__(self) -> str:
        return f"<Codec of {self.schema.name}, {self.size} bytes>"

    def unpack_many(self, buffer: Buffer, stride: int, offset: int, count: int) -> list[T]:
        """Return `count` records that lie `stride` bytes apart, the first at `offset`.

        >>> from arenads import u16
        >>> Codec(u16).unpack_many(bytes([1, 0, 0, 0, 2, 0]), 4, 0, 2)
        [1, 2]

        Raises
        ------
        SchemaError
            The records would lie outside of the buffer.
        """
        if not count:
            return []
        try:
            view = memoryview(buffer).cast("B")
        except TypeError as error:
            raise SchemaError(f"expected a contiguous buffer of bytes: {error}") from None
        if count < 0 or offset < 0 or stride < self.size:
            refuse(
                f"expected a count and offset of 0 or more and a stride of at least "
                f"{self.size}, found {count}, {offset} and {stride}"
            )
        last = offset + (count - 1) * stride
        if last + self.size > len(view):
            refuse(
                f"expected {last + self.size} bytes for {count} records {stride} bytes apart "
                f"from {offset} on, found a buffer of {len(view)} bytes"
            )
        if self.number and not (stride | offset) % self.size and len(view) % self.size == 0:
            every: Any = view.cast(self.number)  # type: ignore[call-overload]
            every = every[offset // self.size :: stride // self.size]
            numbers: list[Any] = every[:count].tolist()
            return numbers
        form = self._strided.get(stride)
        if form is None:
            if len(self._strided) > 16:
                self._strided = {self.size: self.compiled.form}
            padding = stride - self.size
            form = self._strided[stride] = struct.Struct(f"{self.compiled.form.format}{padding}x")
        # The last record may lack the padding that the others have behind them.
        records = self.compiled.many(form.iter_unpack(view[offset:last]))
        records.append(self.unpack(view, last))
        return records

    def field(self, path: str) -> tuple[int, Scalar]:
        """Return (offset in bytes, scalar type) of a member, for atomic access in place.

        `path` is a member name, with dots into nested records and indexes into arrays:
        `"syscalls"`, `"cpu[3].ticks"`; empty for a schema that is a scalar itself.

        >>> from arenads import Array, u64
        >>> Codec(Array[u64, 4]).field("[2]")
        (16, Scalar(name='u64'))

        Raises
        ------
        SchemaError
            There is no such member, it has no address (a bit field) or is no scalar.
        """
        return field_of(self.schema, path)


_STEP: Final = re.compile(r"(?:^|\.)([A-Za-z_][A-Za-z0-9_]*)|\[(\d{1,9})\]")


def field_of(schema: Schema, path: str) -> tuple[int, Scalar]:
    """Return (offset in bytes, scalar type) of a member; see `Codec.field`.

    Raises
    ------
    SchemaError

    >>> from arenads import Array, u16
    >>> field_of(schema_of(Array[u16, 4]), "[3]")
    (6, Scalar(name='u16'))
    """
    offset, ctype = member_of(schema, path)
    if isinstance(ctype, EnumType):
        ctype = Scalar(ctype.base)
    elif isinstance(ctype, PointerType):
        ctype = Scalar("u64")
    if not isinstance(ctype, Scalar):
        refuse(f"{path!r}: expected a number, found {spell(ctype)}")
    return offset, ctype


def member_of(schema: Schema, path: str) -> tuple[int, CType]:
    """Return (offset in bytes, type) of a member of any type that has an address."""
    offset, ctype, position = 0, schema.type, 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (position == 0 and match[0][0] == "."):
            refuse(f"expected a member such as 'name', 'a.b' or 'a[2]', found {path!r}")
        position = match.end()
        name, index = match[1], match[2]
        if name is not None:
            if not isinstance(ctype, Record):
                refuse(f"{path!r}: {name!r} is looked for in {spell(ctype)}, which has no members")
            for field in members(ctype):
                if name in (field.name, python_name(field.name)):
                    break
            else:
                known = ", ".join(field.name for field in members(ctype))
                refuse(f"{path!r}: {spell(ctype)} has no member {name!r}; it has {known}")
            if field.bit_size:
                refuse(f"{path!r}: {name!r} is a bit field, which has no address of its own")
            offset, ctype = offset + field.offset, field.type
        else:
            element, count = element_of(ctype)
            if element is None:
                refuse(f"{path!r}: {spell(ctype)} is no array")
            if int(index) >= count:
                refuse(f"{path!r}: expected an index below {count}, found {index}")
            offset, ctype = offset + int(index) * element.size, element
    return offset, ctype
