"""Record schemas from Python classes with annotated C types: Python first.

A record is a `msgspec.Struct` whose annotations name C types:

>>> class TaskStat(msgspec.Struct):
...     syscalls: u64
...     cpu: u32
...     comm: Str[16]
>>> from arenads import Codec
>>> codec = Codec(TaskStat)
>>> codec.size
32
>>> codec.unpack(codec.pack(TaskStat(7, 2, "bash")))
TaskStat(syscalls=7, cpu=2, comm='bash')

The annotations are

==========================  =====================  ==================================
annotation                  C                      Python value
==========================  =====================  ==================================
``u8`` ... ``u64``          ``__u8`` ... ``__u64`` int
``i8`` ... ``i64``          ``__s8`` ... ``__s64`` int
``f32``, ``f64``, `float`   ``float``, ``double``  float
`bool`                      ``_Bool``              bool
``char``                    ``char``               bytes of length 1
``Str[16]``                 ``char [16]``          str, UTF-8, up to the first NUL
``Bytes[16]``               ``__u8 [16]``          bytes, always 16
``Array[u32, 8]``           ``__u32 [8]``          list of int
``Array[u32, 2, 3]``        ``__u32 [2][3]``       list of lists of int
``Ptr[Node]``               ``struct Node *``      int, the user-space address
``Ptr[None]``               ``void *``             int
an `enum.IntEnum` class     ``enum``               its member (an int if it has none)
a `msgspec.Struct` class    nested ``struct``      its instance
==========================  =====================  ==================================

Those are the values in copies of records. In a `View` a pointer is a view of what it points to.

`mypy --strict` accepts all of them as they are. It knows the exact type of all but
``Str[N]``, ``Bytes[N]`` and ``Array[T, N]``, which it takes for `Any`, because type
checkers allow no numbers there. Where the exact type matters, or for pyright, write
the same thing with `Size`:

>>> class Exact(msgspec.Struct):
...     comm: Annotated[str, Size(16)]
...     digest: Annotated[bytes, Size(16)]
...     per_cpu: Annotated[list[u32], Size(8)]

``Annotated[u32, Bits(3)]`` is a bit field, ``Annotated[u64, Align(64)]`` an aligned
member, ``Annotated[Color, u8]`` an enum stored in a byte, and `packed` removes the
padding of a class. `msgspec.Meta` constraints are enforced when a record is packed: ranges and
`multiple_of` of numbers, lengths of text, bytes and arrays, patterns of text. One that a type
cannot meet is refused when the class is read.
"""

from __future__ import annotations

import enum
import functools
import inspect
import math
import operator
import re
import sys
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from .errors import SchemaError
from .fitting import fit_field
from .schema import (
    CTYPES,
    INTEGERS,
    MAX_DEPTH,
    SCALARS,
    ArrayType,
    BytesType,
    CType,
    EnumType,
    Field,
    PointerType,
    Record,
    Scalar,
    Schema,
    StrType,
    c_name,
    check_schema,
    keep_one,
    refuse,
    spell,
    spell_path,
)
from .shape import Check, Shape

__all__ = [
    "Align",
    "Array",
    "Bits",
    "Bytes",
    "Ptr",
    "Size",
    "Str",
    "char",
    "f32",
    "f64",
    "from_class",
    "from_type",
    "i8",
    "i16",
    "i32",
    "i64",
    "packed",
    "schema_of",
    "u8",
    "u16",
    "u32",
    "u64",
]

if TYPE_CHECKING:
    from typing_extensions import TypeAliasType


T = TypeVar("T")


class Size(msgspec.Struct, frozen=True):
    """Says how long an array is: `Annotated[str, Size(16)]`, `Annotated[list[u32], Size(8)]`.

    Attributes
    ----------
    count : int
        Elements; of text and bytes, bytes.

    >>> from_type(Annotated[list[u32], Size(8)]).size
    32
    """

    count: int


class Bits(msgspec.Struct, frozen=True):
    """Makes a member a bit field: `Annotated[u32, Bits(3)]`.

    Attributes
    ----------
    width : int
        Bits, at most as many as the type has.

    >>> Flags = msgspec.defstruct("Flags", [("mode", Annotated[u32, Bits(3)])])
    >>> from_class(Flags).type.fields[0].bit_size
    3
    """

    width: int


class Align(msgspec.Struct, frozen=True):
    """Aligns a member, as C's `_Alignas`: `Annotated[u64, Align(64)]`.

    A bit field is aligned to its type at least: below that compilers differ.

    Attributes
    ----------
    bytes : int
        A power of two.

    >>> Line = msgspec.defstruct("Line", [("hot", Annotated[u64, Align(64)])])
    >>> from_class(Line).size
    64
    """

    bytes: int


class _PointsTo(msgspec.Struct, frozen=True):
    target: Any


u8: TypeAlias = Annotated[int, Scalar("u8")]
u16: TypeAlias = Annotated[int, Scalar("u16")]
u32: TypeAlias = Annotated[int, Scalar("u32")]
u64: TypeAlias = Annotated[int, Scalar("u64")]
i8: TypeAlias = Annotated[int, Scalar("i8")]
i16: TypeAlias = Annotated[int, Scalar("i16")]
i32: TypeAlias = Annotated[int, Scalar("i32")]
i64: TypeAlias = Annotated[int, Scalar("i64")]
f32: TypeAlias = Annotated[float, Scalar("f32")]
f64: TypeAlias = Annotated[float, Scalar("f64")]
char: TypeAlias = Annotated[bytes, Scalar("char")]

if TYPE_CHECKING:
    # A number is no type to a type checker, so it sees Any; `Size` keeps the exact type.
    Str: Any
    Bytes: Any
    Array: Any
    Ptr = TypeAliasType("Ptr", int, type_params=(T,))
else:

    class Str:
        """Text in a char array: `Str[16]` is `Annotated[str, Size(16)]`.

        UTF-8 of at most so many bytes, without NUL; read up to the first NUL. Bytes that are
        no UTF-8 are read as surrogates, and written back as they were.

        >>> from arenads import Codec
        >>> Codec(Str[4]).pack("hi")
        b'hi\\x00\\x00'
        """

        def __class_getitem__(cls, size):
            return Annotated[str, Size(_whole(size, "Str"))]

    class Bytes:
        """A byte array: `Bytes[16]` is `Annotated[bytes, Size(16)]`, always of that length.

        >>> from arenads import Codec
        >>> Codec(Bytes[2]).unpack(b"ab")
        b'ab'
        """

        def __class_getitem__(cls, size):
            return Annotated[bytes, Size(_whole(size, "Bytes"))]

    class Array:
        """An array: `Array[u32, 8]` is `Annotated[list[u32], Size(8)]`; more numbers nest.

        >>> from arenads import Codec
        >>> Codec(Array[u8, 2, 3]).unpack(bytes(range(6)))
        [[0, 1, 2], [3, 4, 5]]
        """

        def __class_getitem__(cls, parameters):
            if not isinstance(parameters, tuple) or len(parameters) < 2:
                refuse("expected Array[type, count], found no count")
            element, *counts = parameters
            for count in reversed(counts):
                element = Annotated[list[element], Size(_whole(count, "Array"))]
            return element

    class Ptr:
        """A pointer: `Ptr[Node]`, `Ptr["Node"]`, and `Ptr[None]` for `void *`.

        Stored and read as the address in user space, 64 bits.

        >>> from_type(Ptr["Node"]).name
        'Node *'
        """

        def __class_getitem__(cls, target):
            return Annotated[int, _PointsTo(target)]


def _whole(number: object, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        refuse(f"expected {what}[...] with a number of elements, found {number!r}")
    return number


def packed(cls: type[T]) -> type[T]:
    """Lay a record class out without padding, as C's `__attribute__((packed))`.

    >>> @packed
    ... class Header(msgspec.Struct):
    ...     kind: u8
    ...     length: u32
    >>> schema_of(Header).size
    5
    """
    cls.__arenads_packed__ = True  # type: ignore[attr-defined]
    return cls


def from_class(cls: type) -> Schema:
    """Return the schema of a `msgspec.Struct` class with annotated C types.

    Members are laid out in the order in which they are declared, by the C rules of
    64-bit machines.

    Raises
    ------
    SchemaError
        Not such a class, an annotation that has no C form, or a default that does
        not fit its member.

    >>> Event = msgspec.defstruct("Event", [("kind", u8), ("when", u64)])
    >>> [(field.name, field.offset) for field in from_class(Event).type.fields]
    [('kind', 0), ('when', 8)]
    """
    if not _is_record_class(cls):
        refuse(f"expected a msgspec.Struct class, found {cls!r}")
    return from_type(cls)


def from_type(hint: object) -> Schema:
    """Return the schema of an annotation: a record class, `u32`, `Str[16]`, `Array[u32, 4]` ...

    Raises
    ------
    SchemaError
        It has no C form.

    >>> from_type(u32).size, from_type(Array[u16, 3]).size
    (4, 6)
    """
    return described(hint)[0]


def schema_of(type_or_schema: object) -> Schema:
    """Return a schema for anything that stands for one: a `Schema`, a class or an annotation.

    Raises
    ------
    SchemaError
        It has no C form.

    >>> schema_of(schema_of(u32)).size
    4
    """
    if isinstance(type_or_schema, Schema):
        return type_or_schema
    if isinstance(type_or_schema, CTYPES):
        return check_schema(Schema(type_or_schema))
    return from_type(type_or_schema)


def described(hint: object) -> tuple[Schema, Shape]:
    """Return the schema of an annotation, and how Python shows it."""
    reader = _HintReader()
    ctype, shape, _bits, _align = reader.read(hint, "", {})
    schema = check_schema(Schema(ctype, reader.pointed_to(ctype)))
    for cls, record, record_shape in reader.classes.values():
        _check_defaults(cls, record, record_shape)
    return schema, shape


def docstrings(hint: object) -> dict[str, str]:
    """Return the docstrings of the record and enum classes of an annotation, by C names."""
    reader = _HintReader()
    ctype, shape, _bits, _align = reader.read(hint, "", {})
    reader.pointed_to(ctype)
    found: dict[str, str] = {}

    def note(name: str, cls: Any) -> None:
        text = vars(cls).get("__doc__")
        if isinstance(text, str) and text != "An enumeration.":
            found[name] = text

    def visit(shape: Shape) -> None:
        if isinstance(shape.cls, type) and issubclass(shape.cls, enum.Enum):
            note(shape.cls.__name__, shape.cls)
        for child in (shape.element, *shape.children.values()):
            if child is not None:
                visit(child)

    visit(shape)
    for cls, record, record_shape in reader.classes.values():
        note(record.name, cls)
        visit(record_shape)
    return found


def pointed_to(hint: object) -> dict[str, tuple[Record, Shape]]:
    """Return the records that pointers lead to for which a class was given, by their names."""
    reader = _HintReader()
    reader.pointed_to(reader.read(hint, "", {})[0])
    found: dict[str, tuple[Record, Shape]] = {}
    for cls in reader.pointees:
        found.setdefault(_record_name(cls), reader.record(cls))
    return found


def _is_record_class(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


class _HintReader:
    """Reads annotations into C types and shapes."""

    def __init__(self) -> None:
        self.classes: dict[type, tuple[type, Record, Shape]] = {}
        self.pointees: list[type] = []
        self.extra: list[Record] = []
        self.open: list[type] = []

    def pointed_to(self, ctype: CType) -> tuple[Record, ...]:
        """Return the records that pointers lead to, one for each name."""
        own = {ctype.name: ctype} if isinstance(ctype, Record) else {}
        found = dict(own)
        for cls in self.pointees:  # grows meanwhile
            keep_one(found, self.record(cls)[0])
        for record in self.extra:
            keep_one(found, record)
        return tuple(record for name, record in found.items() if name not in own)

    def read(
        self, hint: Any, path: str, names: Mapping[str, object]
    ) -> tuple[CType, Shape, int, int]:
        """Return (C type, shape, width of the bit field or 0, alignment or 0)."""
        bits = align = 0
        metadata: list[Any] = []
        while True:
            if isinstance(hint, typing.NewType):
                hint = hint.__supertype__
            elif hasattr(hint, "__metadata__"):
                metadata = [*hint.__metadata__, *metadata]
                hint = hint.__origin__
            elif type(hint).__name__ == "TypeAliasType":
                hint = hint.__value__
            else:
                break
        flat: list[Any] = []
        for item in metadata:
            # `Annotated[Color, u8]`: an annotation as part of another.
            flat.extend(getattr(item, "__metadata__", (item,)))
        explicit: CType | None = None
        size: int | None = None
        shape = Shape()
        for item in flat:
            if isinstance(item, CTYPES):
                explicit = item
            elif isinstance(item, Size):
                size = _whole(item.count, "Size")
            elif isinstance(item, Bits):
                bits = item.width
                if not isinstance(bits, int) or bits <= 0:
                    refuse(f"{path}: expected a bit field of at least 1 bit, found {bits!r}")
            elif isinstance(item, Align):
                align = item.bytes
                if not isinstance(align, int) or align <= 0 or align & (align - 1):
                    refuse(f"{path}: expected an alignment that is a power of two, found {align}")
            elif isinstance(item, _PointsTo):
                explicit = PointerType(self._target(item.target, names))
        ctype = self._type(hint, explicit, size, shape, path, names)
        for item in flat:
            if isinstance(item, msgspec.Meta):
                shape.checks += _constraints(item, ctype, path)
        return ctype, shape, bits, align

    def _type(
        self,
        hint: Any,
        explicit: CType | None,
        size: int | None,
        shape: Shape,
        path: str,
        names: Mapping[str, object],
    ) -> CType:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            if not issubclass(hint, int):
                refuse(f"{path}: expected an enum.IntEnum or IntFlag class, found {hint.__name__}")
            shape.cls = hint
            return _enum_type(hint, explicit, path)
        if _is_record_class(hint):
            record, inner = self.record(hint)
            _copy_shape(inner, shape)
            return record
        origin = typing.get_origin(hint)
        if hint in (str, bytes) and size is not None:
            return StrType(size) if hint is str else BytesType(size)
        if origin in (list, tuple) and size is not None:
            arguments = typing.get_args(hint)
            if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
                refuse(f"{path}: expected tuple[type, ...], found {hint}")
            element, shape.element, bits, _align = self.read(arguments[0], f"{path}[]", names)
            if bits:
                refuse(f"{path}: C has no arrays of bit fields")
            shape.sequence = origin
            return ArrayType(element, size)
        if explicit is not None:
            return explicit
        if hint is bool:
            return Scalar("bool")
        if hint is float:
            return Scalar("f64")
        if hint is Ptr:
            return PointerType()
        kind = origin or hint
        advice = {
            int: "say how wide it is: u8 ... u64, i8 ... i64",
            str: "say how long it is: Str[16]",
            bytes: "say how long it is: Bytes[16]",
            list: "say what it holds and how many: Array[u32, 8]",
            tuple: "say what it holds and how many: Array[u32, 8]",
        }.get(
            kind if isinstance(kind, type) else object,
            "use the C types of arenads.schema, enum.IntEnum or msgspec.Struct",
        )
        refuse(f"{path or 'type'}: {hint_name(hint)} has no C form of its own; {advice}")

    def _target(self, target: Any, names: Mapping[str, object]) -> str:
        if isinstance(target, typing.ForwardRef):
            target = target.__forward_arg__
        if isinstance(target, str):
            # A name that is not known (yet) still names a record.
            target = names.get(target, target)
        if _is_record_class(target):
            if target not in self.pointees:
                self.pointees.append(target)
            return _record_name(target)
        if target is None or target is type(None):
            return ""
        if isinstance(target, str):
            return target
        return spell(self.read(target, "pointer", names)[0])

    def record(self, cls: Any) -> tuple[Record, Shape]:
        known = self.classes.get(cls)
        if known is not None:
            return known[1], known[2]
        generated = cls.__dict__.get("__arenads_schema__")
        if generated is not None:
            schema, shape = generated
            self.extra += schema.records
            self.classes[cls] = (cls, schema.type, shape)
            return schema.type, shape
        if cls in self.open or len(self.open) > MAX_DEPTH:
            refuse(
                f"{cls.__name__}: a record cannot contain itself; point to it: Ptr[{cls.__name__}]"
            )
        self.open.append(cls)
        try:
            record, shape = self._read_record(cls)
        finally:
            self.open.pop()
        self.classes[cls] = (cls, record, shape)
        return record, shape

    def _read_record(self, cls: Any) -> tuple[Record, Shape]:
        names = {**vars(sys.modules.get(cls.__module__, typing)), cls.__name__: cls}
        try:
            hints = typing.get_type_hints(cls, localns=names, include_extras=True)
        except Exception as error:
            raise SchemaError(
                f"{cls.__name__}: an annotation cannot be evaluated: {error}; the types it names "
                "must be global names of the module that defines the class"
            ) from None
        shape = Shape()
        shape.cls = cls
        shape.keywords = _keyword_only(cls)
        layout = _Layout(bool(getattr(cls, "__arenads_packed__", False)))
        for attribute in cls.__struct_fields__:
            name = c_name(attribute)
            path = spell_path(cls.__name__, attribute)
            ctype, child, bits, align = self.read(hints[attribute], path, names)
            shape.children[name] = child
            shape.attributes[name] = attribute
            layout.add(name, ctype, bits, align, path)
        if not layout.fields:
            refuse(f"{cls.__name__}: expected a record with at least one member, found none")
        return layout.record(_record_name(cls)), shape


class _Layout:
    """Lays members out as a C compiler for a 64-bit machine does."""

    def __init__(self, packed: bool) -> None:
        self.packed = packed
        self.fields: list[Field] = []
        self.bit = 0
        self.align = 1

    def add(self, name: str, ctype: CType, bits: int, align: int, path: str) -> None:
        natural = max(1 if self.packed else _true_align(ctype), align)
        self.align = max(self.align, natural)
        if bits:
            unit = 8 * ctype.size
            if bits > unit:
                refuse(f"{path}: a bit field of {bits} bits in a {spell(ctype)}")
            if align:
                if align < ctype.size and not self.packed:
                    refuse(
                        f"{path}: expected a bit field aligned to at least the {ctype.size} bytes "
                        f"of its type, found {align}: compilers differ in what that means"
                    )
                self.bit = _round_up(self.bit, 8 * align)
            elif not self.packed and self.bit % unit + bits > unit:
                # A bit field never straddles the storage unit of its type.
                self.bit = _round_up(self.bit, unit)
            self.fields.append(Field(name, ctype, self.bit // 8, self.bit % 8, bits))
            self.bit += bits
            return
        self.bit = _round_up(self.bit, 8 * natural)
        self.fields.append(Field(name, ctype, self.bit // 8))
        self.bit += 8 * ctype.size

    def record(self, name: str) -> Record:
        size = _round_up(self.bit, 8 * self.align) // 8
        return Record(name, size, self.align, tuple(self.fields))


def _true_align(ctype: CType) -> int:
    return max(1, ctype.align)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _record_name(cls: type) -> str:
    schema = cls.__dict__.get("__arenads_schema__")
    if schema is not None:
        return str(schema[0].type.name)
    return str(cls.__dict__.get("__arenads_name__", cls.__name__))


def _keyword_only(cls: Any) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)


def hint_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _copy_shape(source: Shape, target: Shape) -> None:
    for name in ("cls", "children", "attributes", "keywords"):
        setattr(target, name, getattr(source, name))


def _enum_type(cls: type[enum.Enum], explicit: CType | None, path: str) -> EnumType:
    # Aliases too: C enums may name a value twice.
    members = tuple((name, int(member.value)) for name, member in cls.__members__.items())
    values = [value for _name, value in members] or [0]
    if isinstance(explicit, Scalar):
        base = explicit.name
    else:
        base = "i32" if min(values) < 0 else "u32"
        if not SCALARS[base][2] <= min(values) <= max(values) <= SCALARS[base][3]:
            base = base[0] + "64"
    if base not in INTEGERS:
        refuse(f"{path}: expected an enum in an integer type, found {base}")
    return EnumType(cls.__name__, base, members)


_BOUNDS: Final = ("ge", "gt", "le", "lt", "multiple_of")
_LENGTHS: Final = ("min_length", "max_length")


def _applicable(ctype: CType) -> tuple[str, ...]:
    """Return the constraints that values of a type can meet."""
    if isinstance(ctype, StrType):
        return (*_LENGTHS, "pattern")
    if isinstance(ctype, BytesType | ArrayType) or ctype == Scalar("char"):
        return _LENGTHS
    return () if isinstance(ctype, Record) else _BOUNDS


def _constraints(meta: msgspec.Meta, ctype: CType, path: str) -> tuple[Check, ...]:
    fitting = _applicable(ctype)
    for name in (*_BOUNDS, *_LENGTHS, "pattern", "tz"):
        given = getattr(meta, name)
        if given is not None and name not in fitting:
            refuse(
                f"{path}: expected of {spell(ctype)} {' or '.join(fitting) or 'no constraint'},"
                f" found {name}={given!r}, which no value of that type can meet; remove it"
            )
    found: list[Check] = []
    for bound, test, words in (
        (meta.ge, operator.le, "at least"),
        (meta.gt, operator.lt, "more than"),
        (meta.le, operator.ge, "at most"),
        (meta.lt, operator.gt, "less than"),
    ):
        if bound is not None:
            found.append(Check(functools.partial(test, bound), f"a value {words} {bound}"))
    if meta.multiple_of is not None:
        found.append(
            Check(
                functools.partial(_is_multiple, meta.multiple_of),
                f"a multiple of {meta.multiple_of}",
            )
        )
    if meta.min_length is not None:
        found.append(
            Check(
                functools.partial(_has_length, meta.min_length, math.inf),
                f"a length of at least {meta.min_length}",
            )
        )
    if meta.max_length is not None:
        found.append(
            Check(
                functools.partial(_has_length, 0, meta.max_length),
                f"a length of at most {meta.max_length}",
            )
        )
    if meta.pattern is not None:
        try:
            pattern = re.compile(meta.pattern)
        except re.error as error:
            refuse(f"{path}: the pattern {meta.pattern!r} is not one: {error}")
        found.append(
            Check(lambda value: pattern.search(value) is not None, f"text like {meta.pattern!r}")
        )
    return tuple(found)


def _is_multiple(step: float, value: Any) -> bool:
    return bool(value % step == 0)


def _has_length(low: float, high: float, value: Any) -> bool:
    return low <= len(value) <= high


def _check_defaults(cls: Any, record: Record, shape: Shape) -> None:
    if "__arenads_schema__" in cls.__dict__:
        return
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :]
    fields = {field.name: field for field in record.fields}
    for attribute, default in zip(names, defaults, strict=True):
        if default is msgspec.NODEFAULT:
            continue
        field = fields.get(c_name(attribute))
        if field is None:
            continue
        value = default.factory() if hasattr(default, "factory") else default
        fit_field(
            field,
            shape.children[field.name],
            value,
            f"the default of {spell_path(cls.__name__, attribute)}",
        )
