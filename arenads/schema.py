"""Record schemas: C types with their layout, and the codec between bytes and Python objects.

A `Schema` describes how a record lies in memory. It comes from the BTF of a BPF
object (`from_btf`) or from a Python class with annotated C types (`from_class`),
and it is stored in the arena's directory (`encode_schema`), so that a process that
has only the arena can read typed records.

Python first, a record is a `msgspec.Struct` whose annotations name C types:

>>> class TaskStat(msgspec.Struct):
...     syscalls: u64
...     cpu: u32
...     comm: Str[16]
>>> codec = Codec(from_class(TaskStat), TaskStat)
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
padding of a class. `msgspec.Meta` constraints (ranges, lengths, patterns) are enforced
when a record is packed.
"""

from __future__ import annotations

import difflib
import enum
import functools
import inspect
import itertools
import keyword
import math
import operator
import re
import struct
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    NoReturn,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import msgspec

from . import btf as _btf
from .errors import LayoutError, SchemaError

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Buffer, TypeAliasType

__all__ = [
    "Align",
    "Array",
    "ArrayType",
    "Bits",
    "Bytes",
    "BytesType",
    "CType",
    "Codec",
    "EnumType",
    "Field",
    "PointerType",
    "Ptr",
    "Record",
    "Scalar",
    "Schema",
    "Size",
    "Str",
    "StrType",
    "char",
    "compare",
    "decode_schema",
    "encode_schema",
    "f32",
    "f64",
    "from_btf",
    "from_class",
    "from_type",
    "i8",
    "i16",
    "i32",
    "i64",
    "numpy_dtype",
    "packed",
    "padding_of",
    "python_class",
    "python_name",
    "schema_of",
    "u8",
    "u16",
    "u32",
    "u64",
]

MAX_RECORD_BYTES: Final = 1 << 20
MAX_ENCODED_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_NODES: Final = 16384
MAX_RECORDS: Final = 64
# Members in all of the records behind pointers. Untagged pointers may lead to half the kernel.
_MAX_TAGGED_NODES: Final = 2048
_MAX_UNTAGGED_NODES: Final = 256
_MAX_NAME: Final = 255

T = TypeVar("T")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# Name: (code of the struct module, size in bytes, smallest value, largest value).
_SCALARS: Final[dict[str, tuple[str, int, int, int]]] = {
    "u8": ("B", 1, 0, 0xFF),
    "u16": ("H", 2, 0, 0xFFFF),
    "u32": ("I", 4, 0, 0xFFFF_FFFF),
    "u64": ("Q", 8, 0, 0xFFFF_FFFF_FFFF_FFFF),
    "i8": ("b", 1, -(1 << 7), (1 << 7) - 1),
    "i16": ("h", 2, -(1 << 15), (1 << 15) - 1),
    "i32": ("i", 4, -(1 << 31), (1 << 31) - 1),
    "i64": ("q", 8, -(1 << 63), (1 << 63) - 1),
    "f32": ("f", 4, 0, 0),
    "f64": ("d", 8, 0, 0),
    "bool": ("?", 1, 0, 1),
    "char": ("c", 1, 0, 0),
}
_INTEGERS: Final = frozenset(name for name in _SCALARS if name[0] in "ui")


# --- the description ------------------------------------------------------------


class Scalar(msgspec.Struct, frozen=True, tag_field="c", tag="scalar"):
    """A number: `name` is one of u8 ... u64, i8 ... i64, f32, f64, bool, char.

    >>> Scalar("u32").size
    4
    """

    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        return _SCALARS[self.name][1]

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return _SCALARS[self.name][1]


class BytesType(msgspec.Struct, frozen=True, tag_field="c", tag="bytes"):
    """An array of `size` bytes, a Python bytes object of that length."""

    size: int

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return 1


class StrType(msgspec.Struct, frozen=True, tag_field="c", tag="str"):
    """A char array of `size` bytes that holds UTF-8 text, ended by NUL if it is shorter."""

    size: int

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return 1


class ArrayType(msgspec.Struct, frozen=True, tag_field="c", tag="array"):
    """An array of `count` elements."""

    element: CType
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.element.size * self.count

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return self.element.align


class EnumType(msgspec.Struct, frozen=True, tag_field="c", tag="enum"):
    """An enum, stored as the integer type `base` ("u32"); `members` are (name, value) pairs."""

    name: str
    base: str
    members: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return _SCALARS[self.base][1]

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return _SCALARS[self.base][1]


class PointerType(msgspec.Struct, frozen=True, tag_field="c", tag="ptr"):
    """A 64-bit pointer; `target` names the record it points to, empty for `void *`."""

    target: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return 8

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return 8


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member of a record.

    Attributes
    ----------
    name : str
        The C name; empty for an anonymous struct or union, whose members count as
        members of the record.
    type : CType
    offset : int
        Bytes from the start of the record; of a bit field, the byte of its first bit.
    bit_offset, bit_size : int
        Of a bit field: its first bit in that byte (0 is the lowest) and its width.
        `bit_size` is 0 for every other member.
    """

    name: str
    type: CType
    offset: int
    bit_offset: int = 0
    bit_size: int = 0


class Record(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="c", tag="record"):
    """A struct or union: `size` and `align` in bytes, and its members in declared order."""

    name: str
    size: int
    align: int
    fields: tuple[Field, ...]
    is_union: bool = False


CType: TypeAlias = Scalar | BytesType | StrType | ArrayType | EnumType | PointerType | Record

_CTYPES: Final = (Scalar, BytesType, StrType, ArrayType, EnumType, PointerType, Record)


class Schema(msgspec.Struct, frozen=True, omit_defaults=True):
    """The type of a key, a value or a message.

    Attributes
    ----------
    type : CType
        A `Record`, or any other C type: a map may have plain `u32` keys.
    records : tuple of Record
        The records that pointers in it lead to, as far as they are known.
    """

    type: CType
    records: tuple[Record, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of one value."""
        return self.type.size

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return self.type.align

    @property
    def name(self) -> str:
        """The type as C names it, shortened: `task_stat`, `u32`, `char[16]`."""
        return spell(self.type)

    def record(self, name: str) -> Record | None:
        """Return the record that pointers name so, or None if it is not known."""
        if isinstance(self.type, Record) and self.type.name == name:
            return self.type
        for record in self.records:
            if record.name == name:
                return record
        return None


def spell(ctype: CType) -> str:
    """Return a short name of a C type, for tables and messages.

    >>> spell(ArrayType(ArrayType(Scalar("u32"), 3), 2))
    'u32[2][3]'
    """
    if isinstance(ctype, Scalar):
        return ctype.name
    if isinstance(ctype, BytesType):
        return f"u8[{ctype.size}]"
    if isinstance(ctype, StrType):
        return f"char[{ctype.size}]"
    if isinstance(ctype, EnumType):
        return f"enum {ctype.name}" if ctype.name else f"enum ({ctype.base})"
    if isinstance(ctype, PointerType):
        return f"{ctype.target or 'void'} *"
    if isinstance(ctype, Record):
        return ctype.name or ("union" if ctype.is_union else "struct")
    counts = ""
    element: CType = ctype
    while isinstance(element, ArrayType):
        counts += f"[{element.count}]"
        element = element.element
    if isinstance(element, (StrType, BytesType)):
        counts += f"[{element.size}]"
        return ("char" if isinstance(element, StrType) else "u8") + counts
    return spell(element) + counts


def python_name(name: str) -> str:
    """Return the attribute that stands for a C member.

    Keywords get a trailing underscore, and of several leading underscores, which
    are private to a class in Python, one is left.

    >>> python_name("class"), python_name("__pad"), python_name("pid")
    ('class_', '_pad', 'pid')
    """
    if name.startswith("__"):
        name = "_" + name.lstrip("_")
    return name + "_" if keyword.iskeyword(name) else name


def _c_name(attribute: str) -> str:
    """Return the C member that an attribute stands for: `class` for `class_`."""
    shorter = attribute.removesuffix("_")
    return shorter if keyword.iskeyword(shorter) else attribute


# --- checking -------------------------------------------------------------------


class _Checker:
    """Checks a schema that anybody may have written, and counts what it costs."""

    def __init__(self) -> None:
        self.nodes = 0

    def schema(self, schema: Schema) -> None:
        if len(schema.records) > MAX_RECORDS:
            _refuse(
                f"expected at most {MAX_RECORDS} records behind pointers, found "
                f"{len(schema.records)}"
            )
        self.type(schema.type, getattr(schema.type, "name", ""), 0)
        if not schema.type.size:
            _refuse("expected a type of at least one byte, found one of none")
        names = set()
        for record in schema.records:
            self.type(record, record.name, 0)
            if not record.name or record.name in names:
                _refuse(f"two records behind pointers are called {record.name!r}")
            names.add(record.name)

    def type(self, ctype: CType, path: str, depth: int) -> int:
        """Check a type and return its size, which is safe to use from then on."""
        self.nodes += 1
        if depth > MAX_DEPTH:
            _refuse(f"{path}: types nested deeper than {MAX_DEPTH}")
        if self.nodes > MAX_NODES:
            _refuse(f"{path}: more than {MAX_NODES} members in all")
        if isinstance(ctype, Scalar):
            if ctype.name not in _SCALARS:
                _refuse(
                    f"{path}: there is no scalar type {ctype.name!r}; "
                    f"there are {', '.join(_SCALARS)}"
                )
            size = ctype.size
        elif isinstance(ctype, (BytesType, StrType)):
            size = ctype.size
        elif isinstance(ctype, PointerType):
            if len(ctype.target) > _MAX_NAME:
                _refuse(f"{path}: a target name of {len(ctype.target)} characters")
            size = ctype.size
        elif isinstance(ctype, EnumType):
            size = self._enum(ctype, path)
        elif isinstance(ctype, ArrayType):
            element = self.type(ctype.element, f"{path}[]", depth + 1)
            if not element:
                _refuse(f"{path}: an array of elements of no size")
            # Bounded before it is multiplied, like everything that comes from outside.
            if not 0 <= ctype.count <= MAX_RECORD_BYTES:
                _refuse(f"{path}: an array of {ctype.count} elements")
            size = element * ctype.count
        else:
            size = self._record(ctype, path, depth)
        if not 0 <= size <= MAX_RECORD_BYTES:
            _refuse(f"{path}: expected a size up to {MAX_RECORD_BYTES} bytes, found {size}")
        return size

    def _enum(self, ctype: EnumType, path: str) -> int:
        if ctype.base not in _INTEGERS:
            _refuse(f"{path}: an enum stored as {ctype.base!r}, which is not an integer type")
        if len(ctype.name) > _MAX_NAME:
            _refuse(f"{path}: an enum name of {len(ctype.name)} characters")
        self.nodes += len(ctype.members)
        if self.nodes > MAX_NODES:
            _refuse(f"{path}: more than {MAX_NODES} members in all")
        _code, size, low, high = _SCALARS[ctype.base]
        names = set()
        for name, value in ctype.members:
            _check_name(name, path)
            if name in names:
                _refuse(f"{path}: two enum members are called {name!r}")
            names.add(name)
            if not low <= value <= high:
                _refuse(
                    f"{path}: enum member {name!r} has the value {value}, which does not "
                    f"fit into {ctype.base}"
                )
        return size

    def _record(self, record: Record, path: str, depth: int) -> int:
        if not 0 <= record.size <= MAX_RECORD_BYTES:
            _refuse(
                f"{path}: expected a record of up to {MAX_RECORD_BYTES} bytes, found {record.size}"
            )
        align = record.align
        if not 0 < align <= 4096 or align & (align - 1):
            _refuse(
                f"{path}: expected an alignment that is a power of two up to 4096, found {align}"
            )
        if record.size % align:
            _refuse(
                f"{path}: a size of {record.size} bytes is no multiple of the alignment {align}"
            )
        if len(record.name) > _MAX_NAME:
            _refuse(f"{path}: a record name of {len(record.name)} characters")
        spans: list[tuple[int, int, str]] = []
        for field in record.fields:
            where = spell_path(path, field.name)
            size = self.type(field.type, where, depth + 1)
            if field.name:
                _check_name(field.name, path)
            elif not isinstance(field.type, Record) or field.bit_size:
                _refuse(f"{path}: a member at offset {field.offset} has no name")
            if field.bit_size:
                start, stop = self._bit_field(field, where, size)
            elif field.bit_offset:
                _refuse(
                    f"{where}: a bit offset of {field.bit_offset} in a member that is no bit field"
                )
            else:
                start, stop = 8 * field.offset, 8 * (field.offset + size)
            if field.offset < 0 or stop > 8 * record.size:
                _refuse(
                    f"{where}: bytes {field.offset} to {-(-stop // 8)} are outside of the "
                    f"record of {record.size} bytes"
                )
            if record.is_union and field.offset:
                _refuse(f"{where}: expected a member of a union at offset 0, found {field.offset}")
            if stop > start:
                spans.append((start, stop, where))
        if not record.is_union:
            spans.sort()
            for (_, stop, first), (start, _, second) in itertools.pairwise(spans):
                if start < stop:
                    _refuse(f"{path}: {first!r} and {second!r} overlap")
        names = set()
        for leaf in _members(record):
            if leaf.name in names:
                _refuse(f"{path}: two members are called {leaf.name!r}")
            names.add(leaf.name)
        return record.size

    def _bit_field(self, field: Field, path: str, size: int) -> tuple[int, int]:
        base = field.type
        if not (
            isinstance(base, EnumType)
            or (isinstance(base, Scalar) and (base.name in _INTEGERS or base.name == "bool"))
        ):
            _refuse(f"{path}: a bit field of type {spell(base)}, which is no integer type")
        if sys.byteorder != "little":
            _refuse(f"{path}: bit fields are supported on little-endian machines only")
        limit = 1 if base == Scalar("bool") else 8 * size
        if not 0 < field.bit_size <= limit:
            _refuse(f"{path}: a bit field of {field.bit_size} bits in a {spell(base)}")
        if not 0 <= field.bit_offset < 8:
            _refuse(f"{path}: expected a bit offset of 0 to 7, found {field.bit_offset}")
        start = 8 * field.offset + field.bit_offset
        return start, start + field.bit_size


def _refuse(message: str) -> NoReturn:
    raise SchemaError(message.removeprefix(": "))


def _check_name(name: str, path: str) -> None:
    if not _IDENTIFIER.match(name) or len(name) > _MAX_NAME:
        _refuse(f"{path}: expected a name that C allows, found {name[:80]!r}")


def spell_path(path: str, name: str) -> str:
    """Join the names of a record and its member, for messages."""
    return f"{path}.{name}" if path and name else path or name


def _members(record: Record) -> Iterator[Field]:
    """Yield the members of a record, those of anonymous members in place of them."""
    for field in record.fields:
        if field.name:
            yield field
        elif isinstance(field.type, Record):
            for inner in _members(field.type):
                yield msgspec.structs.replace(inner, offset=inner.offset + field.offset)


def check_schema(schema: Schema) -> Schema:
    """Check a schema that was put together by hand, and return it.

    Raises
    ------
    SchemaError
        Sizes, offsets or names that cannot be.
    """
    _Checker().schema(schema)
    return schema


# --- stored form ------------------------------------------------------------------

_encoder: Final = msgspec.json.Encoder()


@functools.cache
def _decoder() -> msgspec.json.Decoder[Schema]:
    return msgspec.json.Decoder(Schema)


def padding_of(schema: Schema) -> list[tuple[int, int]]:
    """Return (offset, size) of the bytes that belong to no member.

    >>> class Key(msgspec.Struct):
    ...     kind: u8
    ...     number: u32
    >>> padding_of(from_class(Key))
    [(1, 3)]
    """
    covered = bytearray(schema.size)
    _cover(schema.type, covered, 0)
    gaps = re.finditer(rb"\0+", covered)
    return [(gap.start(), len(gap[0])) for gap in gaps]


def _cover(ctype: CType, covered: bytearray, offset: int) -> None:
    if isinstance(ctype, Record):
        for field in ctype.fields:
            if field.bit_size:
                end = field.offset + -(-(field.bit_offset + field.bit_size) // 8)
                covered[offset + field.offset : offset + end] = b"\1" * (end - field.offset)
            else:
                _cover(field.type, covered, offset + field.offset)
    elif isinstance(ctype, ArrayType) and isinstance(ctype.element, Record | ArrayType):
        for index in range(ctype.count):
            _cover(ctype.element, covered, offset + index * ctype.element.size)
    else:
        covered[offset : offset + ctype.size] = b"\1" * ctype.size


def encode_schema(schema: Schema) -> bytes:
    """Return a schema as JSON, the form stored in an arena's directory.

    >>> encode_schema(schema_of(u32))
    b'{"type":{"c":"scalar","name":"u32"}}'
    """
    return _encoder.encode(check_schema(schema))


def decode_schema(data: bytes | bytearray | memoryview) -> Schema:
    """Read a schema from its stored form.

    Raises
    ------
    SchemaError
        The data is no schema, or one whose sizes, offsets or names cannot be.
    """
    raw = bytes(data)
    if len(raw) > MAX_ENCODED_BYTES:
        _refuse(f"expected a schema of up to {MAX_ENCODED_BYTES} bytes, found {len(raw)}")
    try:
        schema = _decoder().decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"expected a stored schema, found data that is none: {error}") from None
    return check_schema(schema)


# --- from BTF -----------------------------------------------------------------------


def from_btf(btf: _btf.Btf, type_id: int) -> Schema:
    """Return the schema of a C type of a BPF object or of the kernel.

    Records that it points to are included if the object describes them.

    Raises
    ------
    SchemaError
        The type has no fixed layout (a function, void, an incomplete struct).
    ObjectError
        The BTF is damaged.
    """
    reader = _BtfReader(btf)
    ctype = reader.read(type_id, 0)
    if isinstance(ctype, Record) and not ctype.name:
        # A record that has only a typedef's name is known by that.
        ctype = msgspec.structs.replace(ctype, name=_class_name(btf.type(type_id).name))
    return check_schema(Schema(ctype, reader.pointed_to(ctype)))


class _BtfReader:
    def __init__(self, btf: _btf.Btf) -> None:
        self.btf = btf
        self.nodes = 0
        self.pointees: dict[str, tuple[int, bool]] = {}

    def pointed_to(self, ctype: CType) -> tuple[Record, ...]:
        found: dict[str, Record] = {}
        done = {ctype.name} if isinstance(ctype, Record) else set()
        budget = {True: _MAX_TAGGED_NODES, False: _MAX_UNTAGGED_NODES}
        while len(found) < MAX_RECORDS:
            name = next((name for name in self.pointees if name not in done), None)
            if name is None:
                break
            done.add(name)
            number, tagged = self.pointees[name]
            inner = _BtfReader(self.btf)
            try:
                record = inner.read(number, 0)
                check_schema(Schema(record))
            except SchemaError:
                # It stays a pointer to something with a name.
                continue
            if isinstance(record, Record) and inner.nodes <= budget[tagged]:
                budget[tagged] -= inner.nodes
                found[name] = record
                for key, value in inner.pointees.items():
                    self.pointees.setdefault(key, value)
        return tuple(found.values())

    def read(self, number: int, depth: int) -> CType:
        btf = self.btf
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            _refuse(
                f"{btf.spell(number)}: nested deeper than {MAX_DEPTH}, or more than "
                f"{MAX_NODES} members in all"
            )
        found = btf.resolve(number)
        kind = found.kind
        if kind is _btf.Kind.INT:
            return self._integer(found)
        if kind is _btf.Kind.FLOAT:
            if found.size in (4, 8):
                return Scalar(f"f{8 * found.size}")
            return BytesType(found.size)
        if kind in (_btf.Kind.ENUM, _btf.Kind.ENUM64):
            base = f"{'i' if found.signed else 'u'}{8 * found.size}"
            if not found.enumerators:
                return Scalar(base)
            members = tuple((item.name, item.value) for item in found.enumerators)
            return EnumType(found.name, base, members)
        if kind is _btf.Kind.PTR:
            return self._pointer(found)
        if kind is _btf.Kind.ARRAY:
            element = self.read(found.target, depth + 1)
            if element == Scalar("char"):
                return StrType(found.count)
            if element == Scalar("u8"):
                return BytesType(found.count)
            return ArrayType(element, found.count)
        if kind in (_btf.Kind.STRUCT, _btf.Kind.UNION):
            return self._record(found, depth)
        _refuse(
            f"expected a C type with a fixed layout, found {btf.spell(number)}"
            + (", which is declared but not defined" if kind is _btf.Kind.FWD else "")
        )

    def _integer(self, found: _btf.Type) -> CType:
        if found.size > 8:
            return BytesType(found.size)
        if found.boolean and found.size == 1:
            return Scalar("bool")
        if found.size == 1 and (found.char or found.name == "char"):
            return Scalar("char")
        return Scalar(f"{'i' if found.signed else 'u'}{8 * found.size}")

    def _pointer(self, found: _btf.Type) -> CType:
        target = self.btf.resolve(found.target)
        if target.kind is _btf.Kind.VOID:
            return PointerType()
        if target.kind in (_btf.Kind.STRUCT, _btf.Kind.UNION) and target.name:
            tagged = "arena" in self.btf.tags(found.target)
            self.pointees.setdefault(target.name, (target.id, tagged))
            return PointerType(target.name[:_MAX_NAME])
        return PointerType((target.name or self.btf.spell(target.id))[:_MAX_NAME])

    def _record(self, found: _btf.Type, depth: int) -> CType:
        fields = []
        for member in found.members:
            ctype = self.read(member.type, depth + 1)
            bits, at = member.bit_size, member.bit_offset
            plain = self.btf.resolve(member.type)
            if (
                not bits
                and plain.kind is _btf.Kind.INT
                and plain.bits < 8 * plain.size <= 64
                and not plain.boolean
            ):
                # The older way to describe a bit field.
                bits, at = plain.bits, at + plain.bit_offset
            if not member.name and not isinstance(ctype, Record):
                continue
            if bits and ctype == Scalar("char"):
                ctype = Scalar("i8" if plain.signed else "u8")
            if not bits and at % 8:
                _refuse(f"{spell_path(found.name, member.name)}: not at a byte (bit {at})")
            fields.append(Field(member.name, ctype, at // 8, at % 8 if bits else 0, bits))
        return Record(
            found.name[:_MAX_NAME],
            found.size,
            self.btf.alignment(found.id),
            tuple(fields),
            found.kind is _btf.Kind.UNION,
        )


# --- from Python: annotations ---------------------------------------------------------


class Size(msgspec.Struct, frozen=True):
    """Says how long an array is: `Annotated[str, Size(16)]`, `Annotated[list[u32], Size(8)]`."""

    count: int


class Bits(msgspec.Struct, frozen=True):
    """Makes a member a bit field: `Annotated[u32, Bits(3)]`."""

    width: int


class Align(msgspec.Struct, frozen=True):
    """Aligns a member, as C's `_Alignas`: `Annotated[u64, Align(64)]`."""

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
        """Text in a char array: `Str[16]` is `Annotated[str, Size(16)]`."""

        def __class_getitem__(cls, size):
            return Annotated[str, Size(_whole(size, "Str"))]

    class Bytes:
        """A byte array: `Bytes[16]` is `Annotated[bytes, Size(16)]`."""

        def __class_getitem__(cls, size):
            return Annotated[bytes, Size(_whole(size, "Bytes"))]

    class Array:
        """An array: `Array[u32, 8]` is `Annotated[list[u32], Size(8)]`; more numbers nest."""

        def __class_getitem__(cls, parameters):
            if not isinstance(parameters, tuple) or len(parameters) < 2:
                _refuse("expected Array[type, count], found no count")
            element, *counts = parameters
            for count in reversed(counts):
                element = Annotated[list[element], Size(_whole(count, "Array"))]
            return element

    class Ptr:
        """A pointer: `Ptr[Node]`, `Ptr["Node"]`, and `Ptr[None]` for `void *`."""

        def __class_getitem__(cls, target):
            return Annotated[int, _PointsTo(target)]


def _whole(number: object, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        _refuse(f"expected {what}[...] with a number of elements, found {number!r}")
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


# --- from Python: shapes ---------------------------------------------------------------


class _Shape:
    """How Python shows a C type: the classes and checks that go with each part of it."""

    __slots__ = ("attributes", "checks", "children", "cls", "element", "keywords", "sequence")

    def __init__(self) -> None:
        self.cls: Any = None  # of a record or enum
        self.sequence: type = list  # of an array: list or tuple
        self.element: _Shape | None = None
        self.children: dict[str, _Shape] = {}  # by C name
        self.attributes: dict[str, str] = {}  # C name to attribute
        self.keywords = False  # whether the class must be called with keywords
        self.checks: tuple[_Check, ...] = ()


class _Check(msgspec.Struct, frozen=True):
    """A `msgspec.Meta` constraint, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


def from_class(cls: type) -> Schema:
    """Return the schema of a `msgspec.Struct` class with annotated C types.

    Members are laid out in the order in which they are declared, by the C rules of
    64-bit machines.

    Raises
    ------
    SchemaError
        Not such a class, an annotation that has no C form, or a default that does
        not fit its member.
    """
    if not _is_record_class(cls):
        _refuse(f"expected a msgspec.Struct class, found {cls!r}")
    return from_type(cls)


def from_type(hint: object) -> Schema:
    """Return the schema of an annotation: a record class, `u32`, `Str[16]`, `Array[u32, 4]` ...

    >>> from_type(u32).size, from_type(Array[u16, 3]).size
    (4, 6)
    """
    return _described(hint)[0]


def schema_of(type_or_schema: object) -> Schema:
    """Return a schema for anything that stands for one: a `Schema`, a class or an annotation."""
    if isinstance(type_or_schema, Schema):
        return type_or_schema
    if isinstance(type_or_schema, _CTYPES):
        return check_schema(Schema(type_or_schema))
    return from_type(type_or_schema)


def _described(hint: object) -> tuple[Schema, _Shape]:
    reader = _HintReader()
    ctype, shape, _bits, _align = reader.read(hint, "", {})
    schema = check_schema(Schema(ctype, reader.pointed_to(ctype)))
    for cls, record, record_shape in reader.classes.values():
        _check_defaults(cls, record, record_shape)
    return schema, shape


def _is_record_class(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


class _HintReader:
    """Reads annotations into C types and shapes."""

    def __init__(self) -> None:
        self.classes: dict[type, tuple[type, Record, _Shape]] = {}
        self.pointees: dict[str, type] = {}
        self.extra: dict[str, Record] = {}
        self.open: list[type] = []

    def pointed_to(self, ctype: CType) -> tuple[Record, ...]:
        found: dict[str, Record] = {}
        own = ctype.name if isinstance(ctype, Record) else ""
        while True:
            waiting = [name for name in self.pointees if name not in found and name != own]
            if not waiting:
                break
            found[waiting[0]] = self.record(self.pointees[waiting[0]])[0]
        for name, record in self.extra.items():
            if name != own:
                found.setdefault(name, record)
        return tuple(found.values())

    def read(
        self, hint: Any, path: str, names: Mapping[str, object]
    ) -> tuple[CType, _Shape, int, int]:
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
        shape = _Shape()
        for item in flat:
            if isinstance(item, _CTYPES):
                explicit = item
            elif isinstance(item, Size):
                size = _whole(item.count, "Size")
            elif isinstance(item, Bits):
                bits = item.width
                if not isinstance(bits, int) or bits <= 0:
                    _refuse(f"{path}: expected a bit field of at least 1 bit, found {bits!r}")
            elif isinstance(item, Align):
                align = item.bytes
                if not isinstance(align, int) or align <= 0 or align & (align - 1):
                    _refuse(f"{path}: expected an alignment that is a power of two, found {align}")
            elif isinstance(item, _PointsTo):
                explicit = PointerType(self._target(item.target, names))
            elif isinstance(item, msgspec.Meta):
                shape.checks += _constraints(item, path)
        ctype = self._type(hint, explicit, size, shape, path, names)
        return ctype, shape, bits, align

    def _type(
        self,
        hint: Any,
        explicit: CType | None,
        size: int | None,
        shape: _Shape,
        path: str,
        names: Mapping[str, object],
    ) -> CType:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            if not issubclass(hint, int):
                _refuse(f"{path}: expected an enum.IntEnum or IntFlag class, found {hint.__name__}")
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
                _refuse(f"{path}: expected tuple[type, ...], found {hint}")
            element, shape.element, bits, _align = self.read(arguments[0], f"{path}[]", names)
            if bits:
                _refuse(f"{path}: C has no arrays of bit fields")
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
        _refuse(f"{path or 'type'}: {_hint_name(hint)} has no C form of its own; {advice}")

    def _target(self, target: Any, names: Mapping[str, object]) -> str:
        if isinstance(target, typing.ForwardRef):
            target = target.__forward_arg__
        if isinstance(target, str):
            # A name that is not known (yet) still names a record.
            target = names.get(target, target)
        if _is_record_class(target):
            name = _record_name(target)
            self.pointees.setdefault(name, target)
            return name
        if target is None or target is type(None):
            return ""
        if isinstance(target, str):
            return target
        return spell(self.read(target, "pointer", names)[0])

    def record(self, cls: Any) -> tuple[Record, _Shape]:
        known = self.classes.get(cls)
        if known is not None:
            return known[1], known[2]
        generated = cls.__dict__.get("__arenads_schema__")
        if generated is not None:
            schema, shape = generated
            self.extra.update((record.name, record) for record in schema.records)
            self.classes[cls] = (cls, schema.type, shape)
            return schema.type, shape
        if cls in self.open or len(self.open) > MAX_DEPTH:
            _refuse(
                f"{cls.__name__}: a record cannot contain itself; point to it: Ptr[{cls.__name__}]"
            )
        self.open.append(cls)
        try:
            record, shape = self._read_record(cls)
        finally:
            self.open.pop()
        self.classes[cls] = (cls, record, shape)
        return record, shape

    def _read_record(self, cls: Any) -> tuple[Record, _Shape]:
        names = {**vars(sys.modules.get(cls.__module__, typing)), cls.__name__: cls}
        try:
            hints = typing.get_type_hints(cls, localns=names, include_extras=True)
        except Exception as error:
            raise SchemaError(
                f"{cls.__name__}: an annotation cannot be evaluated: {error}; the types it names "
                "must be global names of the module that defines the class"
            ) from None
        shape = _Shape()
        shape.cls = cls
        shape.keywords = _keyword_only(cls)
        layout = _Layout(bool(getattr(cls, "__arenads_packed__", False)))
        for attribute in cls.__struct_fields__:
            name = _c_name(attribute)
            path = spell_path(cls.__name__, attribute)
            ctype, child, bits, align = self.read(hints[attribute], path, names)
            shape.children[name] = child
            shape.attributes[name] = attribute
            layout.add(name, ctype, bits, align, path)
        if not layout.fields:
            _refuse(f"{cls.__name__}: expected a record with at least one member, found none")
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
                _refuse(f"{path}: a bit field of {bits} bits in a {spell(ctype)}")
            if align:
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


def _hint_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _copy_shape(source: _Shape, target: _Shape) -> None:
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
        if not _SCALARS[base][2] <= min(values) <= max(values) <= _SCALARS[base][3]:
            base = base[0] + "64"
    if base not in _INTEGERS:
        _refuse(f"{path}: expected an enum in an integer type, found {base}")
    return EnumType(cls.__name__, base, members)


def _constraints(meta: msgspec.Meta, path: str) -> tuple[_Check, ...]:
    found: list[_Check] = []
    for bound, test, words in (
        (meta.ge, operator.le, "at least"),
        (meta.gt, operator.lt, "more than"),
        (meta.le, operator.ge, "at most"),
        (meta.lt, operator.gt, "less than"),
    ):
        if bound is not None:
            found.append(_Check(functools.partial(test, bound), f"a value {words} {bound}"))
    if meta.multiple_of is not None:
        found.append(
            _Check(
                functools.partial(_is_multiple, meta.multiple_of),
                f"a multiple of {meta.multiple_of}",
            )
        )
    if meta.min_length is not None:
        found.append(
            _Check(
                functools.partial(_has_length, meta.min_length, math.inf),
                f"a length of at least {meta.min_length}",
            )
        )
    if meta.max_length is not None:
        found.append(
            _Check(
                functools.partial(_has_length, 0, meta.max_length),
                f"a length of at most {meta.max_length}",
            )
        )
    if meta.pattern is not None:
        try:
            pattern = re.compile(meta.pattern)
        except re.error as error:
            _refuse(f"{path}: the pattern {meta.pattern!r} is not one: {error}")
        found.append(
            _Check(lambda value: pattern.search(value) is not None, f"text like {meta.pattern!r}")
        )
    return tuple(found)


def _is_multiple(step: float, value: Any) -> bool:
    return bool(value % step == 0)


def _has_length(low: float, high: float, value: Any) -> bool:
    return low <= len(value) <= high


def _check_defaults(cls: Any, record: Record, shape: _Shape) -> None:
    if "__arenads_schema__" in cls.__dict__:
        return
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :]
    fields = {field.name: field for field in record.fields}
    for attribute, default in zip(names, defaults, strict=True):
        if default is msgspec.NODEFAULT:
            continue
        field = fields.get(_c_name(attribute))
        if field is None:
            continue
        value = default.factory() if hasattr(default, "factory") else default
        _fit_field(
            field,
            shape.children[field.name],
            value,
            f"the default of {spell_path(cls.__name__, attribute)}",
        )


# --- generated classes ------------------------------------------------------------------


def python_class(schema: Schema | Record, *, frozen: bool = False) -> type[msgspec.Struct]:
    """Return a `msgspec.Struct` class for a record schema.

    Members have their C names (keywords get a trailing underscore) and default to
    zero, as in C's initializers; members of unions are None unless set. With
    `frozen` the class is immutable and hashable, with tuples for arrays: right for
    keys of a dict. The same schema always gives the same class.

    >>> point = Record("point", 8, 4, (Field("x", Scalar("i32"), 0), Field("y", Scalar("i32"), 4)))
    >>> python_class(Schema(point))(x=3)
    point(x=3, y=0)

    Raises
    ------
    SchemaError
        The schema is not of a record.
    """
    if isinstance(schema, Record):
        schema = Schema(schema)
    if not isinstance(schema.type, Record):
        _refuse(f"expected the schema of a record, found {schema.name}; only records have classes")
    return cast("type[msgspec.Struct]", _generated(schema, frozen).cls)


@functools.lru_cache(maxsize=256)
def _generated(schema: Schema, frozen: bool) -> _Shape:
    check_schema(schema)
    return _Generator(schema, frozen).shape(schema.type, "record")[0]


class _Generator:
    def __init__(self, schema: Schema, frozen: bool) -> None:
        self.schema = schema
        self.frozen = frozen
        self.records: dict[Record, tuple[_Shape, Any]] = {}
        self.enums: dict[EnumType, Any] = {}

    def shape(self, ctype: CType, name: str) -> tuple[_Shape, Any, Any]:
        """Return (shape, annotation, default or factory) of a type."""
        shape = _Shape()
        if isinstance(ctype, Scalar):
            python = {"bool": bool, "char": bytes}.get(
                ctype.name, float if ctype.name[0] == "f" else int
            )
            default = b"\0" if ctype.name == "char" else python()
            return shape, bool if python is bool else Annotated[python, ctype], default
        if isinstance(ctype, StrType):
            return shape, Annotated[str, Size(ctype.size)], ""
        if isinstance(ctype, BytesType):
            return shape, Annotated[bytes, Size(ctype.size)], bytes(ctype.size)
        if isinstance(ctype, PointerType):
            return shape, Annotated[int, ctype], 0
        if isinstance(ctype, EnumType):
            shape.cls = self._enum(ctype, name)
            zero = shape.cls._value2member_map_.get(0, 0)
            return shape, Annotated[shape.cls, Scalar(ctype.base)], zero
        if isinstance(ctype, ArrayType):
            shape.element, hint, default = self.shape(ctype.element, name)
            if self.frozen:
                shape.sequence = tuple
                hint = tuple[hint, ...]  # type: ignore[valid-type]
            else:
                hint = list[hint]  # type: ignore[valid-type]
            return (
                shape,
                Annotated[hint, Size(ctype.count)],
                _repeated(default, ctype.count, shape.sequence),
            )
        found, cls = self._record(ctype, name)
        return found, cls, msgspec.field(default_factory=cls)

    def _enum(self, ctype: EnumType, name: str) -> Any:
        cls = self.enums.get(ctype)
        if cls is None:
            names = _unique([_enum_label(item) for item, _value in ctype.members])
            pairs = [(label, value) for label, (_, value) in zip(names, ctype.members, strict=True)]
            cls = self.enums[ctype] = _make_enum(_class_name(ctype.name or name), pairs)
        return cls

    def _record(self, record: Record, name: str) -> tuple[_Shape, Any]:
        known = self.records.get(record)
        if known is not None:
            return known
        title = _class_name(record.name or name)
        shape = _Shape()
        leaves = list(_members(record))
        optional = _union_members(record)
        attributes = _unique([python_name(field.name) for field in leaves])
        fields: list[tuple[str, Any, Any]] = []
        plain = True
        for field, attribute in zip(leaves, attributes, strict=True):
            child, hint, default = self.shape(field.type, f"{title}_{field.name}")
            if field.bit_size:
                hint = Annotated[hint, Bits(field.bit_size)]
            if field.name in optional:
                hint, default = hint | None, None
            plain = plain and isinstance(
                field.type, (Scalar, StrType, BytesType, PointerType, EnumType)
            )
            shape.children[field.name] = child
            shape.attributes[field.name] = attribute
            fields.append((attribute, hint, default))
        own = Schema(record, self.schema.records if record is self.schema.type else ())
        cls = msgspec.defstruct(
            title,
            fields,
            module=__name__,
            namespace={"__doc__": _class_doc(record), "__arenads_schema__": (own, shape)},
            frozen=self.frozen,
            # Instances without containers cannot be part of a reference cycle.
            gc=not plain,
        )
        shape.cls = cls
        self.records[record] = (shape, cls)
        return shape, cls


def _class_doc(record: Record) -> str:
    kind = "union" if record.is_union else "struct"
    return f"{kind} {record.name or '{...}'}, {record.size} bytes."


def _class_name(name: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name) or "record"
    return python_name("_" + clean if clean[0].isdigit() else clean)


def _unique(names: list[str]) -> list[str]:
    taken: set[str] = set()
    # Names that were not changed have first call on themselves.
    answer = []
    for name in names:
        candidate = name
        while candidate in taken or (candidate != name and candidate in names):
            candidate += "_"
        taken.add(candidate)
        answer.append(candidate)
    return answer


def _enum_label(name: str) -> str:
    label = python_name(name)
    # Names that the enum module keeps for itself.
    reserved = label in ("mro", "name", "value") or (label[0] == label[-1] == "_")
    return label + "_" * (1 + (label[0] == "_")) if reserved else label


def _make_enum(name: str, members: list[tuple[str, int]]) -> type[enum.IntEnum]:
    make: Any = enum.IntEnum
    return cast("type[enum.IntEnum]", make(name, members, module=__name__))


def _repeated(default: Any, count: int, sequence: type) -> Any:
    if sequence is tuple and not hasattr(default, "default_factory"):
        return (default,) * count
    make = getattr(default, "default_factory", None) or (lambda: default)
    return msgspec.field(default_factory=lambda: sequence(make() for _ in range(count)))


def _union_members(record: Record) -> set[str]:
    """Return the names of the members that share their place with others."""
    if record.is_union:
        return {field.name for field in _members(record)}
    found: set[str] = set()
    for field in record.fields:
        if not field.name and isinstance(field.type, Record):
            if field.type.is_union:
                found.update(inner.name for inner in _members(field.type))
            else:
                found |= _union_members(field.type)
    return found


# --- compiled form ----------------------------------------------------------------------

_NUL: Final = b"\0"
# Up to this many values a record is unpacked into local variables, beyond into a tuple.
_MAX_LOCALS: Final = 64


class _Unit:
    """A part of a record: some codes of the struct module, and the code around them.

    `read` takes a function from slot number to source text and gives an expression;
    `write` takes an expression of the value and gives the arguments for `pack`.
    Both refer to the names that the compiler has bound.
    """

    def __init__(
        self,
        form: str,
        slots: int,
        read: Callable[[_Slots], str],
        write: Callable[[str], list[str]],
        direct: bool = False,
        star: str = "",
    ) -> None:
        self.form = form
        self.slots = slots
        self.read = read
        self.write = write
        self.direct = direct  # the value is the slot itself
        self.star = star  # what to call with the slots as they are, in order


class _Slots:
    """Names the slots of a unit: local variables, or items of a tuple from a base on."""

    def __init__(self, base: int, variable: str = "", local: bool = True) -> None:
        self.base = base
        self.variable = variable
        self.local = local

    def __getitem__(self, index: int) -> str:
        if self.local:
            return f"v{self.base + index}"
        return f"t[{self.position(index)}]"

    def position(self, index: int) -> str:
        number = self.base + index
        return f"{self.variable}+{number}" if self.variable else str(number)

    def moved(self, by: int) -> _Slots:
        return _Slots(self.base + by, self.variable, self.local)


class _Compiler:
    """Turns a C type and its shape into source for one `struct.Struct` and one expression.

    Only names that this class makes up and attributes that are identifiers get into
    the source; everything else is bound as an object.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"Z": _NUL}
        self._loops = 0

    def bind(self, value: Any) -> str:
        name = f"x{len(self.names)}"
        self.names[name] = value
        return name

    def unit(self, ctype: CType, shape: _Shape) -> _Unit:
        unit = self._unit(ctype, shape)
        if shape.checks:
            check, inner = self.bind(_enforcer(shape.checks)), unit.write
            return _Unit(
                unit.form,
                unit.slots,
                unit.read,
                lambda value: inner(f"{check}({value})"),
                unit.direct,
            )
        return unit

    def _unit(self, ctype: CType, shape: _Shape) -> _Unit:
        if isinstance(ctype, Scalar):
            code = _SCALARS[ctype.name][0]
            if ctype.name == "bool":
                flags = self.bind(_FLAGS)
                return _Unit(
                    code, 1, lambda slots: slots[0], lambda value: [f"{flags}[{value}]"], True
                )
            if ctype.name == "char":
                return self._converted(code, _pack_char)
            return _Unit(code, 1, lambda slots: slots[0], lambda value: [value], True)
        if isinstance(ctype, PointerType):
            return _Unit("Q", 1, lambda slots: slots[0], lambda value: [value], True)
        if isinstance(ctype, BytesType):
            return self._converted(f"{ctype.size}s", _bytes_packer(ctype.size))
        if isinstance(ctype, StrType):
            return self._converted(
                f"{ctype.size}s",
                _str_packer(ctype.size),
                lambda slot: f'{slot}.partition(Z)[0].decode("utf-8", "surrogateescape")',
            )
        if isinstance(ctype, EnumType):
            get = self.bind(shape.cls._value2member_map_.get)
            return _Unit(
                _SCALARS[ctype.base][0],
                1,
                lambda slots: f"{get}({slots[0]}, {slots[0]})",
                lambda value: [value],
            )
        if isinstance(ctype, ArrayType):
            return self._array(ctype, shape)
        if ctype.is_union:
            read, write = _union(ctype, shape)
            reader, writer = self.bind(read), self.bind(write)
            return _Unit(
                f"{ctype.size}s",
                1,
                lambda slots: f"{reader}({slots[0]})",
                lambda value: [f"{writer}({value})"],
            )
        return self._record(ctype, shape)

    def _converted(
        self,
        code: str,
        pack: Callable[[Any], Any],
        read: Callable[[str], str] | None = None,
    ) -> _Unit:
        packer = self.bind(pack)
        return _Unit(
            code,
            1,
            (lambda slots: read(slots[0])) if read else (lambda slots: slots[0]),
            lambda value: [f"{packer}({value})"],
            read is None,
        )

    def _array(self, ctype: ArrayType, shape: _Shape) -> _Unit:
        count = ctype.count
        element_shape = shape.element or _Shape()
        sequence = "tuple" if shape.sequence is tuple else "list"
        if ctype.element == Scalar("u8") and not element_shape.checks:
            make = sequence
            packer = self.bind(_octets_packer(count))
            return _Unit(
                f"{count}s",
                1,
                lambda slots: f"{make}({slots[0]})",
                lambda value: [f"{packer}({value})"],
            )
        element = self.unit(ctype.element, element_shape)
        counted = self.bind(_counter(count))
        step = element.slots
        self._loops += 1
        index, item = f"k{self._loops}", f"e{self._loops}"
        one = element.form
        form = f"{count}{one}" if len(one) == 1 else one * count

        def read(slots: _Slots) -> str:
            if not step:
                loop = f"[{element.read(slots)} for {index} in range({count})]"
                return f"tuple({loop})" if sequence == "tuple" else loop
            if slots.local:
                inner = "".join(
                    element.read(slots.moved(number * step)) + ", " for number in range(count)
                )
                return f"({inner})" if sequence == "tuple" else f"[{inner}]"
            first = slots.position(0)
            last = slots.position(count * step)
            if element.direct:
                return f"t[{first}:{last}]" if sequence == "tuple" else f"list(t[{first}:{last}])"
            inner = element.read(_Slots(0, index, False))
            loop = f"[{inner} for {index} in range({first}, {last}, {step})]"
            return f"tuple({loop})" if sequence == "tuple" else loop

        def write(value: str) -> list[str]:
            inner = element.write(item)
            if inner == [item]:
                return [f"*{counted}({value})"]
            if len(inner) == 1 and not inner[0].startswith("*"):
                return [f"*[{inner[0]} for {item} in {counted}({value})]"]
            part = self.fresh("p")
            parts = f"({', '.join(inner)},)" if inner else "()"
            return [f"*[{part} for {item} in {counted}({value}) for {part} in {parts}]"]

        if not count:
            empty = "()" if sequence == "tuple" else "[]"
            return _Unit("", 0, lambda slots: empty, lambda value: [f"*{counted}({value})"])
        return _Unit(form, count * step, read, write)

    def fresh(self, prefix: str) -> str:
        self._loops += 1
        return f"{prefix}{self._loops}"

    def _record(self, record: Record, shape: _Shape) -> _Unit:
        form, slots = "", 0
        position = 0
        readers: dict[str, Callable[[_Slots], str]] = {}
        writers: list[Callable[[str], list[str]]] = []
        in_order = True
        for part in _parts(record):
            if part.size and part.offset > position:
                form += f"{part.offset - position}x"
            unit_form, unit_slots, unit_readers, unit_writer, direct = self._part(part, shape)
            for name, reader in unit_readers.items():
                readers[name] = _shifted(reader, slots)
            in_order = in_order and direct
            writers.append(unit_writer)
            form += unit_form
            slots += unit_slots
            position = part.offset + part.size if part.size else position
        if record.size > position:
            form += f"{record.size - position}x"
        cls = self.bind(shape.cls)
        order = list(shape.attributes)
        if shape.keywords or list(shape.attributes.values()) != list(
            shape.cls.__struct_fields__[: len(order)]
        ):
            prefixes = {name: f"{attribute}=" for name, attribute in shape.attributes.items()}
        else:
            prefixes = dict.fromkeys(order, "")

        def read(place: _Slots) -> str:
            arguments = ", ".join(prefixes[name] + readers[name](place) for name in order)
            return f"{cls}({arguments})"

        def write(value: str) -> list[str]:
            return [argument for writer in writers for argument in writer(value)]

        plain = (
            in_order
            and not any(prefixes.values())
            and order == list(readers)
            and slots == len(order)
        )
        return _Unit(form, slots, read, write, star=cls if plain else "")

    def _part(
        self, part: _Part, shape: _Shape
    ) -> tuple[str, int, dict[str, Callable[[_Slots], str]], Callable[[str], list[str]], bool]:
        if part.kind == "field":
            field = part.fields[0]
            unit = self.unit(field.type, shape.children[field.name])
            attribute = shape.attributes[field.name]
            return (
                unit.form,
                unit.slots,
                {field.name: unit.read},
                lambda value: unit.write(f"{value}.{attribute}"),
                unit.direct,
            )
        if part.kind == "bits":
            return self._bit_part(part, shape)
        assert part.union is not None
        read_all, write = _anonymous_union(part.union, shape)
        readers: dict[str, Callable[[_Slots], str]] = {}
        for name, reader in read_all.items():
            bound = self.bind(reader)
            readers[name] = lambda slots, bound=bound: f"{bound}({slots[0]})"  # type: ignore[misc]
        writer = self.bind(write)
        return f"{part.size}s", 1, readers, lambda value: [f"{writer}({value})"], False

    def _bit_part(
        self, part: _Part, shape: _Shape
    ) -> tuple[str, int, dict[str, Callable[[_Slots], str]], Callable[[str], list[str]], bool]:
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(part.size)
        whole = "{}"
        if code is None:
            code = f"{part.size}s"
            whole = f"{self.bind(functools.partial(int.from_bytes, byteorder='little'))}({{}})"
        readers: dict[str, Callable[[_Slots], str]] = {}
        pieces: list[tuple[str, str, int]] = []
        for field in part.fields:
            shift = 8 * (field.offset - part.offset) + field.bit_offset
            mask = (1 << field.bit_size) - 1
            child = shape.children[field.name]
            readers[field.name] = self._bit_reader(field, child, whole, shift, mask)
            packer = self.bind(_bits_packer(field, child))
            pieces.append((packer, shape.attributes[field.name], shift))

        def write(value: str) -> list[str]:
            total = " | ".join(
                f"{packer}({value}.{attribute}) << {shift}" for packer, attribute, shift in pieces
            )
            if code.endswith("s"):
                return [f'({total}).to_bytes({part.size}, "little")']
            return [total]

        return code, 1, readers, write, False

    def _bit_reader(
        self, field: Field, shape: _Shape, whole: str, shift: int, mask: int
    ) -> Callable[[_Slots], str]:
        ctype = field.type
        name = ctype.base if isinstance(ctype, EnumType) else cast(Scalar, ctype).name
        convert = "{}"
        if isinstance(ctype, EnumType):
            # A default of `get` would have to be computed twice.
            members = shape.cls._value2member_map_
            convert = f"{self.bind(lambda value: members.get(value, value))}({{}})"
        elif name == "bool":
            convert = "({} != 0)"

        def read(slots: _Slots) -> str:
            value = f"({whole.format(slots[0])} >> {shift} & {mask})"
            if name[0] == "i":
                sign = (mask + 1) >> 1
                value = f"(({value} ^ {sign}) - {sign})"
            return convert.format(value)

        return read


def _shifted(reader: Callable[[_Slots], str], by: int) -> Callable[[_Slots], str]:
    return lambda slots: reader(slots.moved(by))


class _Part:
    """A run of bytes in a record: a member, bit fields that share bytes, an anonymous union."""

    def __init__(
        self, kind: str, offset: int, size: int, fields: list[Field], union: Record | None = None
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.fields = fields
        self.union = union


def _parts(record: Record, base: int = 0) -> list[_Part]:
    """Split a struct into parts, in the order of their offsets."""
    found: list[_Part] = []
    for field in record.fields:
        offset = base + field.offset
        if field.bit_size:
            stop = -(-(8 * offset + field.bit_offset + field.bit_size) // 8)
            moved = msgspec.structs.replace(field, offset=offset)
            found.append(_Part("bits", offset, stop - offset, [moved]))
        elif not field.name and isinstance(field.type, Record):
            if field.type.is_union:
                found.append(_Part("union", offset, field.type.size, [], field.type))
            else:
                found.extend(_parts(field.type, offset))
        else:
            found.append(_Part("field", offset, field.type.size, [field]))
    # Members of no size are nowhere: they come first.
    found.sort(key=lambda part: (part.size > 0, part.offset))
    merged: list[_Part] = []
    for part in found:
        last = merged[-1] if merged else None
        if (
            last is not None
            and part.kind == last.kind == "bits"
            and part.offset < last.offset + last.size
        ):
            last.size = max(last.size, part.offset + part.size - last.offset)
            last.fields += part.fields
        else:
            merged.append(part)
    return merged


# What the generated source calls when it packs. They raise anything; `_fit` finds the words.


_FLAGS: Final = {False: False, True: True}


def _pack_char(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode("ascii")
    if isinstance(value, int):
        return struct.pack("b" if value < 0 else "B", value)
    if not isinstance(value, (bytes, bytearray)) or len(value) != 1:
        raise ValueError
    return bytes(value)


def _bytes_packer(size: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        if len(value) != size:
            raise ValueError
        return value if type(value) is bytes else bytes(memoryview(value))

    return pack


def _str_packer(size: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        if isinstance(value, str):
            raw = value.encode("utf-8", "surrogateescape")
        else:
            raw = bytes(memoryview(value)).rstrip(_NUL)
        if len(raw) > size or _NUL in raw:
            raise ValueError
        return raw

    return pack


def _octets_packer(count: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        if len(value) != count or isinstance(value, str):
            raise ValueError
        return bytes([*value])

    return pack


def _counter(count: int) -> Callable[[Any], Any]:
    def counted(value: Any) -> Any:
        if len(value) != count:
            raise ValueError
        return value

    return counted


def _bit_range(field: Field) -> tuple[int, int]:
    ctype = field.type
    name = ctype.base if isinstance(ctype, EnumType) else cast(Scalar, ctype).name
    if name[0] == "i":
        return -(1 << field.bit_size - 1), (1 << field.bit_size - 1) - 1
    return 0, (1 << field.bit_size) - 1


def _bits_packer(field: Field, shape: _Shape) -> Callable[[Any], int]:
    low, high = _bit_range(field)
    mask = (1 << field.bit_size) - 1
    enforce = _enforcer(shape.checks) if shape.checks else None

    def pack(value: Any) -> int:
        number = value.__index__()
        if enforce is not None:
            enforce(value)
        if not low <= number <= high:
            raise ValueError
        return cast(int, number & mask)

    return pack


def _enforcer(checks: tuple[_Check, ...]) -> Callable[[Any], Any]:
    tests = [check.test for check in checks]

    def enforce(value: Any) -> Any:
        for test in tests:
            if not test(value):
                raise ValueError
        return value

    return enforce


# --- unions ------------------------------------------------------------------------------


def _slice_codec(
    field: Field, shape: _Shape
) -> tuple[Callable[[Any], Any], Callable[[Any], bytes]]:
    """Return (reader, writer) of one member in the bytes of its union."""
    if field.bit_size:
        stop = field.offset + -(-(field.bit_offset + field.bit_size) // 8)
        holder = _Shape()
        holder.cls = _Single
        holder.children[field.name] = shape
        holder.attributes[field.name] = "value"
        compiled = _compile(Record("", stop, 1, (field,)), holder)
        return (
            lambda raw: compiled.unpack(raw).value,
            lambda value: compiled.pack(_Single(value)),
        )
    compiled = _compile(field.type, shape)
    offset = field.offset
    return (
        lambda raw: compiled.unpack(raw, offset),
        lambda value: bytes(offset) + compiled.pack(value),
    )


class _Single(msgspec.Struct):
    value: Any


class _Member:
    """One member of a union, or of an anonymous struct in it."""

    def __init__(self, field: Field, shape: _Shape, attribute: str) -> None:
        self.name = field.name
        self.attribute = attribute
        self.read, self.write = _slice_codec(field, shape)
        bits = field.bit_size or 8 * field.type.size
        self.mask = (1 << bits) - 1 << 8 * field.offset + field.bit_offset
        # Exact members are written last: text and floats may not come back as they were.
        self.rank = (not _lossy(field.type), bits)


def _lossy(ctype: CType) -> bool:
    if isinstance(ctype, ArrayType):
        return _lossy(ctype.element)
    if isinstance(ctype, Record):
        return any(_lossy(field.type) for field in ctype.fields)
    return isinstance(ctype, StrType) or ctype in (Scalar("f32"), Scalar("f64"), Scalar("bool"))


def _union_choices(union: Record, shape: _Shape) -> list[_Member]:
    return [
        _Member(leaf, shape.children[leaf.name], shape.attributes[leaf.name])
        for leaf in _members(union)
    ]


def _union_writer(union: Record, members: list[_Member]) -> Callable[[Any], bytes]:
    order = sorted(members, key=lambda member: member.rank)

    def write(value: Any) -> bytes:
        given = [
            (member, item)
            for member in order
            if (item := getattr(value, member.attribute)) is not None
        ]
        chosen = {member for member, _item in given}
        number = 0
        for member, item in given:
            number &= ~member.mask
            number |= int.from_bytes(member.write(item), "little")
        raw = number.to_bytes(union.size, "little")
        for member, item in given:
            if not _same(member, raw, item):
                names = " and ".join(repr(one.name) for one in members if one in chosen)
                raise SchemaError(
                    f"the union members {names} share their place and have values that exclude "
                    "each other; set all but one to None"
                )
        return raw

    return write


def _same(member: _Member, raw: bytes, item: Any) -> bool:
    found = member.read(raw)
    if found == item:
        return True
    # Equal once it went through the same narrowing: 0.1 as f32, a tuple for a record, NaN.
    again = member.read(member.write(item).ljust(len(raw), _NUL))
    return bool(again == found) or repr(again) == repr(found)


def _union(union: Record, shape: _Shape) -> tuple[Callable[[Any], Any], Callable[[Any], bytes]]:
    members = _union_choices(union, shape)
    pairs = [(member.attribute, member.read) for member in members]
    cls = shape.cls

    def read(raw: Any) -> Any:
        return cls(**{attribute: reader(raw) for attribute, reader in pairs})

    return read, _union_writer(union, members)


def _anonymous_union(
    union: Record, shape: _Shape
) -> tuple[dict[str, Callable[[Any], Any]], Callable[[Any], bytes]]:
    members = _union_choices(union, shape)
    return {member.name: member.read for member in members}, _union_writer(union, members)


# --- compiling ----------------------------------------------------------------------------


class _Compiled:
    """The functions made for one type."""

    __slots__ = ("form", "many", "pack", "unpack")

    def __init__(
        self,
        form: struct.Struct,
        pack: Callable[[Any], bytes],
        unpack: Callable[..., Any],
        many: Callable[[Iterable[tuple[Any, ...]]], list[Any]],
    ) -> None:
        self.form = form
        self.pack = pack
        self.unpack = unpack
        self.many = many


_SOURCE: Final = """\
def unpack(buffer, offset=0):
    try:
        {target} = read(buffer, offset)
    except Exception as error:
        raise short(buffer, offset, error) from None
    return {value}

def pack(value):
    try:
        return write({arguments})
    except Exception as error:
        return explain(value, error)

def many(rows):
    return {many}
"""


def _compile(ctype: CType, shape: _Shape) -> _Compiled:
    compiler = _Compiler()
    unit = compiler.unit(ctype, shape)
    form = struct.Struct("=" + unit.form)
    if form.size != ctype.size:
        _refuse(f"{spell(ctype)}: members of {form.size} bytes in a type of {ctype.size}")

    if unit.star:
        target, value = "t", f"{unit.star}(*t)"
        many = f"list(starmap({unit.star}, rows))"
    else:
        local = unit.slots <= _MAX_LOCALS
        target = "".join(f"v{index}, " for index in range(unit.slots)) if local else "t"
        target = target or "()"
        value = unit.read(_Slots(0, "", local))
        many = f"[{value} for {target if local else 't'} in rows]"
        if local and unit.slots == 1 and unit.direct:
            many = "[v0 for v0, in rows]"

    def short(buffer: Any, offset: Any, error: Exception) -> Exception:
        return _short(form.size, spell(ctype), buffer, offset, error)

    def explain(value: Any, error: Exception) -> bytes:
        fitted = _fit(ctype, shape, value, "")
        try:
            return form.pack(*arguments_of(fitted))
        except SchemaError:
            raise
        except Exception:
            raise SchemaError(
                f"expected a value of type {spell(ctype)}, found one that does not fit: {error}"
            ) from None

    arguments = ", ".join(unit.write("value"))
    names = {
        **compiler.names,
        "read": form.unpack_from,
        "write": form.pack,
        "short": short,
        "explain": explain,
        "starmap": itertools.starmap,
    }
    source = _SOURCE.format(target=target, value=value, arguments=arguments, many=many)
    source += f"\ndef arguments_of(value):\n    return [{arguments}]\n"
    exec(compile(source, f"<codec of {_class_name(spell(ctype))}>", "exec"), names)
    arguments_of = names["arguments_of"]
    return _Compiled(form, names["pack"], names["unpack"], names["many"])


def _short(size: int, what: str, buffer: Any, offset: Any, error: Exception) -> Exception:
    try:
        length = memoryview(buffer).nbytes
    except TypeError:
        return SchemaError(
            f"expected a buffer (bytes, bytearray, memoryview ...), found {type(buffer).__name__}"
        )
    if isinstance(error, struct.error):
        return SchemaError(
            f"expected {size} bytes of {what} at offset {offset}, found a buffer of {length} bytes"
        )
    return SchemaError(f"cannot unpack {what} at offset {offset}: {error}")


# --- fitting: the slow path, which knows what is wrong --------------------------------------


def _fit_field(field: Field, shape: _Shape, value: Any, path: str) -> Any:
    if not field.bit_size:
        return _fit(field.type, shape, value, path)
    low, high = _bit_range(field)
    words = f"an integer from {low} to {high} ({field.bit_size} bits of {spell(field.type)})"
    if not hasattr(value, "__index__") or not low <= value.__index__() <= high:
        _misfit(path, words, value)
    _enforce(shape, value, path)
    return value


def _fit(ctype: CType, shape: _Shape, value: Any, path: str) -> Any:
    """Return a value that packs, or raise `SchemaError` that says which part does not fit.

    Mappings and tuples become records on the way.
    """
    if isinstance(ctype, Record):
        fitted = _fit_record(ctype, shape, value, path)
        _enforce(shape, fitted, path)
        return fitted
    if isinstance(ctype, (Scalar, EnumType, PointerType)):
        _fit_scalar(ctype, value, path)
    elif isinstance(ctype, BytesType):
        if isinstance(value, (list, tuple)):
            # What C calls an array of `unsigned char` may be given as one.
            octet, inner = Scalar("u8"), _Shape()
            value = bytes(
                _fit(octet, inner, item, f"{path}[{index}]") for index, item in enumerate(value)
            )
        if not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != ctype.size:
            _misfit(path, f"{ctype.size} bytes", value)
    elif isinstance(ctype, StrType):
        try:
            _str_packer(ctype.size)(value)
        except (TypeError, ValueError):
            _misfit(path, f"text of at most {ctype.size} bytes in UTF-8 without NUL", value)
    else:
        try:
            items = list(value)
        except TypeError:
            items = None
        if items is None or isinstance(value, (str, Mapping)) or len(items) != ctype.count:
            _misfit(path, f"a sequence of {ctype.count} elements", value)
        inner = shape.element or _Shape()
        _enforce(shape, value, path)
        return [
            _fit(ctype.element, inner, item, f"{path}[{index}]") for index, item in enumerate(items)
        ]
    _enforce(shape, value, path)
    return value


def _fit_scalar(ctype: Scalar | EnumType | PointerType, value: Any, path: str) -> None:
    if isinstance(ctype, PointerType):
        name = "u64"
    else:
        name = ctype.base if isinstance(ctype, EnumType) else ctype.name
    code, _size, low, high = _SCALARS[name]
    if name == "bool":
        words = "a bool"
    elif name == "char":
        words = "bytes of length 1"
    elif name[0] == "f":
        words = f"a number ({name})"
    else:
        words = f"an integer from {low} to {high} ({spell(ctype)})"
    try:
        if name == "bool":
            _FLAGS[value]
        elif name == "char":
            _pack_char(value)
        else:
            struct.pack("=" + code, value)
    except Exception:
        _misfit(path, words, value)


def _fit_record(record: Record, shape: _Shape, value: Any, path: str) -> Any:
    leaves = list(_members(record))
    optional = _union_members(record)
    attributes = shape.attributes
    what = record.name or path or "record"
    if isinstance(value, Mapping):
        known = {
            **{name: name for name in attributes},
            **{attribute: name for name, attribute in attributes.items()},
        }
        unknown = [key for key in value if key not in known]
        if unknown:
            _refuse(
                f"{path or what}: {what} has no member {unknown[0]!r}; "
                f"it has {', '.join(attributes)}"
            )
        given = {known[key]: item for key, item in value.items()}
    elif isinstance(value, tuple) and not hasattr(value, "_fields"):
        if len(value) != len(leaves):
            _refuse(
                f"{path or what}: expected {len(leaves)} values ({', '.join(attributes)}), "
                f"found {len(value)}"
            )
        given = {field.name: item for field, item in zip(leaves, value, strict=True)}
    else:
        given = {}
        for name, attribute in attributes.items():
            try:
                given[name] = getattr(value, attribute)
            except AttributeError:
                _refuse(
                    f"{path or what}: expected a {what}, a mapping or a tuple, found "
                    f"{type(value).__name__} without {attribute!r}"
                )
    defaults = _defaults(shape.cls)
    fitted = _Bag()
    for field in leaves:
        attribute = attributes[field.name]
        where = spell_path(path, field.name)
        if field.name in given:
            item = given[field.name]
        elif attribute in defaults:
            item = defaults[attribute]()
        else:
            _refuse(
                f"{where}: expected a value for each member of {what}, found none for "
                f"{field.name!r}"
            )
        if item is None and field.name in optional:
            setattr(fitted, attribute, None)
        else:
            setattr(fitted, attribute, _fit_field(field, shape.children[field.name], item, where))
    return fitted


class _Bag:
    """Holds the members of a record on the way to its bytes."""


def _defaults(cls: Any) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :]
    for name, default in zip(names, defaults, strict=True):
        if default is not msgspec.NODEFAULT:
            found[name] = getattr(default, "factory", None) or (lambda default=default: default)
    return found


def _enforce(shape: _Shape, value: Any, path: str) -> None:
    for check in shape.checks:
        try:
            fine = check.test(value)
        except Exception:
            fine = False
        if not fine:
            _misfit(path, check.words, value)


def _misfit(path: str, expected: str, value: Any) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    if not isinstance(value, (int, float, str, bytes)):
        shown = f"{type(value).__name__} {shown}"
    prefix = f"{path}: " if path else ""
    raise SchemaError(
        f"{prefix}expected {expected}, found {shown}",
        field=path,
        expected=expected,
        found=value,
    )


# --- the codec ------------------------------------------------------------------------------


T_co = TypeVar("T_co", covariant=True)


class _Unpack(Protocol[T_co]):
    def __call__(self, buffer: Buffer, offset: int = 0) -> T_co: ...


class Codec(Generic[T]):
    """Turns records into bytes and back.

    Attributes
    ----------
    schema : Schema
    size : int
        Bytes of one record.
    cls : type or None
        The class of the records; None if the schema is of a scalar or array.
    pack : callable
        `pack(value) -> bytes`. Takes an instance of the class, any object with the
        same attributes, a mapping or a tuple; for a scalar a number. Padding is zero.
        Raises `SchemaError` that names the member, what was expected and what was found.
    unpack : callable
        `unpack(buffer, offset=0) -> value`. Raises `SchemaError` if the buffer is too short.

    Parameters
    ----------
    schema : Schema, class or annotation
    cls : type, optional
        Your own class for the records. Its layout is compared with the schema.
        Without it the records are of the class that `python_class` makes.
    frozen : bool
        Make the generated class immutable and hashable.

    >>> codec = Codec(u32)
    >>> codec.unpack(codec.pack(7))
    7
    """

    @overload
    def __init__(self, schema: object, cls: type[T], *, frozen: bool = False) -> None: ...
    @overload
    def __init__(
        self: Codec[Any], schema: object, cls: object = None, *, frozen: bool = False
    ) -> None: ...
    def __init__(self, schema: object, cls: Any = None, *, frozen: bool = False) -> None:
        if cls is None and not isinstance(schema, (Schema, *_CTYPES)):
            cls = schema
        given = schema_of(schema)
        if cls is None:
            self.schema = check_schema(given)
            shape = _generated(given, frozen)
        else:
            self.schema, shape = _described(cls)
            compare(given, self.schema, what=_hint_name(cls))
        self.cls: type[T] | None = shape.cls
        self.size: int = self.schema.size
        self._compiled = compiled = _compile(self.schema.type, shape)
        self.pack: Callable[[Any], bytes] = compiled.pack
        self.unpack: _Unpack[T] = compiled.unpack
        self._strided: dict[int, struct.Struct] = {self.size: compiled.form}

    def __repr__(self) -> str:
        return f"<Codec of {self.schema.name}, {self.size} bytes>"

    def unpack_many(self, buffer: Buffer, stride: int, offset: int, count: int) -> list[T]:
        """Return `count` records that lie `stride` bytes apart, the first at `offset`.

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
            _refuse(
                f"expected a count and offset of 0 or more and a stride of at least "
                f"{self.size}, found {count}, {offset} and {stride}"
            )
        last = offset + (count - 1) * stride
        if last + self.size > len(view):
            _refuse(
                f"expected {last + self.size} bytes for {count} records {stride} bytes apart "
                f"from {offset} on, found a buffer of {len(view)} bytes"
            )
        form = self._strided.get(stride)
        if form is None:
            if len(self._strided) > 16:
                self._strided = {self.size: self._compiled.form}
            padding = stride - self.size
            form = self._strided[stride] = struct.Struct(f"{self._compiled.form.format}{padding}x")
        # The last record may lack the padding that the others have behind them.
        records = self._compiled.many(form.iter_unpack(view[offset:last]))
        records.append(self.unpack(view, last))
        return records

    def field(self, path: str) -> tuple[int, Scalar]:
        """Return (offset in bytes, scalar type) of a member, for atomic access in place.

        `path` is a member name, with dots into nested records and indexes into arrays:
        `"syscalls"`, `"cpu[3].ticks"`; empty for a schema that is a scalar itself.

        >>> class Stat(msgspec.Struct):
        ...     calls: u32
        ...     per_cpu: Array[u64, 4]
        >>> Codec(Stat).field("per_cpu[2]")
        (24, Scalar(name='u64'))

        Raises
        ------
        SchemaError
            There is no such member, it has no address (a bit field) or is no scalar.
        """
        return field_of(self.schema, path)


_STEP: Final = re.compile(r"(?:^|\.)([A-Za-z_][A-Za-z0-9_]*)|\[(\d{1,9})\]")


def field_of(schema: Schema, path: str) -> tuple[int, Scalar]:
    """Return (offset in bytes, scalar type) of a member; see `Codec.field`."""
    offset, ctype, position = 0, schema.type, 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (position == 0 and match[0][0] == "."):
            _refuse(f"expected a member such as 'name', 'a.b' or 'a[2]', found {path!r}")
        position = match.end()
        name, index = match[1], match[2]
        if name is not None:
            if not isinstance(ctype, Record):
                _refuse(f"{path!r}: {name!r} is looked for in {spell(ctype)}, which has no members")
            for field in _members(ctype):
                if name in (field.name, python_name(field.name)):
                    break
            else:
                known = ", ".join(field.name for field in _members(ctype))
                _refuse(f"{path!r}: {spell(ctype)} has no member {name!r}; it has {known}")
            if field.bit_size:
                _refuse(f"{path!r}: {name!r} is a bit field, which has no address of its own")
            offset, ctype = offset + field.offset, field.type
        else:
            element, count = _element(ctype)
            if element is None:
                _refuse(f"{path!r}: {spell(ctype)} is no array")
            if int(index) >= count:
                _refuse(f"{path!r}: expected an index below {count}, found {index}")
            offset, ctype = offset + int(index) * element.size, element
    if isinstance(ctype, EnumType):
        ctype = Scalar(ctype.base)
    elif isinstance(ctype, PointerType):
        ctype = Scalar("u64")
    if not isinstance(ctype, Scalar):
        _refuse(f"{path!r}: expected a number, found {spell(ctype)}")
    return offset, ctype


def _element(ctype: CType) -> tuple[CType | None, int]:
    if isinstance(ctype, ArrayType):
        return ctype.element, ctype.count
    if isinstance(ctype, BytesType):
        return Scalar("u8"), ctype.size
    if isinstance(ctype, StrType):
        return Scalar("char"), ctype.size
    return None, 0


# --- NumPy ------------------------------------------------------------------------------------


def numpy_dtype(schema: object) -> numpy.dtype[Any]:
    """Return the NumPy dtype of a schema: a structured one for a record.

    Text becomes `S`, byte arrays `u1` subarrays, enums and pointers integers. Bit
    fields that share bytes are one field, named after all of them (`"flags|mode"`).
    Members of a union are fields that overlap.

    Raises
    ------
    SchemaError
        NumPy is not installed.
    """
    try:
        import numpy
    except ImportError:
        raise SchemaError("numpy_dtype needs NumPy: pip install numpy") from None
    dtype: numpy.dtype[Any] = numpy.dtype(_dtype(schema_of(schema).type))
    return dtype


def _dtype(ctype: CType) -> Any:
    if isinstance(ctype, Scalar):
        if ctype.name == "char":
            return "S1"
        if ctype.name == "bool":
            return "?"
        return f"={ctype.name[0]}{ctype.size}"
    if isinstance(ctype, EnumType):
        return f"={ctype.base[0]}{ctype.size}"
    if isinstance(ctype, PointerType):
        return "=u8"
    if isinstance(ctype, StrType):
        return f"S{ctype.size}"
    if isinstance(ctype, BytesType):
        return ("u1", (ctype.size,))
    if isinstance(ctype, ArrayType):
        return (_dtype(ctype.element), (ctype.count,))
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []

    def add(name: str, form: Any, offset: int) -> None:
        names.append(name)
        formats.append(form)
        offsets.append(offset)

    def add_record(record: Record, base: int) -> None:
        if record.is_union:
            for field in record.fields:
                if not field.name and isinstance(field.type, Record):
                    add_record(field.type, base)
                else:
                    add_part(_parts(Record("", record.size, 1, (field,)), base)[0])
            return
        for part in _parts(record, base):
            add_part(part)

    def add_part(part: _Part) -> None:
        if part.kind == "union":
            assert part.union is not None
            add_record(part.union, part.offset)
        elif part.kind == "bits":
            form = f"=u{part.size}" if part.size in (1, 2, 4, 8) else f"V{part.size}"
            add("|".join(field.name for field in part.fields), form, part.offset)
        else:
            field = part.fields[0]
            add(field.name, _dtype(field.type), part.offset)

    add_record(ctype, 0)
    return {"names": names, "formats": formats, "offsets": offsets, "itemsize": ctype.size}


# --- comparison --------------------------------------------------------------------------------


class _Row(msgspec.Struct, frozen=True):
    name: str
    type: str
    sort: str  # types of the same sort mean the same bytes
    offset: int
    bit: int
    size: int
    bits: int

    @property
    def place(self) -> str:
        if self.bits:
            return f"{self.offset}:{self.bit}"
        return str(self.offset)

    @property
    def extent(self) -> str:
        return f"{self.bits} bits" if self.bits else str(self.size)

    def agrees(self, other: _Row) -> bool:
        return (self.name, self.sort, self.offset, self.bit, self.size, self.bits) == (
            other.name,
            other.sort,
            other.offset,
            other.bit,
            other.size,
            other.bits,
        )


def _sort(ctype: CType) -> str:
    if isinstance(ctype, Scalar):
        return "octet" if ctype.name == "char" else ctype.name
    if isinstance(ctype, EnumType):
        return f"enum{ctype.size}"
    if isinstance(ctype, PointerType):
        return "ptr"
    if isinstance(ctype, Record):
        return "union" if ctype.is_union else "struct"
    element, count = _element(ctype)
    assert element is not None
    inner = _sort(element)
    return f"{'octet' if inner in ('u8', 'i8') else inner}[{count}]"


def _agree(expected: _Row, found: _Row) -> bool:
    if expected.agrees(found):
        return True
    # An enum or a pointer may be declared as the integer that holds it.
    loose = {
        "enum1": {"u8", "i8"},
        "enum2": {"u16", "i16"},
        "enum4": {"u32", "i32"},
        "enum8": {"u64", "i64"},
        "ptr": {"u64"},
        "octet": {"u8", "i8"},
    }
    one, two = expected.sort, found.sort
    if two not in loose.get(one, ()) and one not in loose.get(two, ()):
        return False
    return msgspec.structs.replace(expected, sort=two).agrees(found)


def _rows(ctype: CType, prefix: str, base: int, rows: list[_Row]) -> None:
    if isinstance(ctype, Record):
        for field in _members(ctype):
            # Attributes and C names of one member are the same name here.
            name = spell_path(prefix, python_name(field.name))
            offset = base + field.offset
            rows.append(
                _Row(
                    name,
                    spell(field.type),
                    _sort(field.type),
                    offset,
                    field.bit_offset,
                    field.type.size,
                    field.bit_size,
                )
            )
            _rows(field.type, name, offset, rows)
    elif isinstance(ctype, ArrayType):
        _rows(ctype.element, f"{prefix}[]", 0, rows)


def _layout_rows(schema: Schema) -> list[_Row]:
    ctype = schema.type
    rows: list[_Row] = []
    _rows(ctype, "", 0, rows)
    if not isinstance(ctype, Record):
        rows.insert(0, _Row("(value)", spell(ctype), _sort(ctype), 0, 0, ctype.size, 0))
    return rows


def compare(expected: Schema, found: Schema, *, what: str) -> None:
    """Check that two schemas describe the same bytes.

    Names, types, offsets and sizes must agree. Names of records, and whether a byte
    array is text, may differ; an enum may be the integer that holds it.

    Raises
    ------
    LayoutError
        They differ; the message shows the two layouts side by side, the attributes
        `expected` and `found` are the schemas.
    """
    left, right = _layout_rows(expected), _layout_rows(found)
    if len(left) == len(right) and expected.size == found.size and all(map(_agree, left, right)):
        return
    raise LayoutError(
        f"{what}: the two layouts of the record differ\n{_side_by_side(expected, found)}",
        expected=expected,
        found=found,
        what=what,
    )


def _side_by_side(expected: Schema, found: Schema) -> str:
    left, right = _layout_rows(expected), _layout_rows(found)
    lines: list[tuple[str, ...]] = []

    def add(one: _Row | None, two: _Row | None) -> None:
        same = one is not None and two is not None and _agree(one, two)
        cells = ["" if same else "!", (one or two or left[0]).name]
        for row in (one, two):
            cells += [row.type, row.place, row.extent] if row else ["-", "", ""]
        lines.append(tuple(cells))

    matcher = difflib.SequenceMatcher(
        a=[row.name for row in left], b=[row.name for row in right], autojunk=False
    )
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            for one, two in zip(left[i1:i2], right[j1:j2], strict=True):
                add(one, two)
        else:
            for one in left[i1:i2]:
                add(one, None)
            for two in right[j1:j2]:
                add(None, two)
    sizes_differ = expected.size != found.size
    total = (
        "!" if sizes_differ else "",
        "(total)",
        "",
        "",
        str(expected.size),
        "",
        "",
        str(found.size),
    )
    head = (
        "",
        "field",
        f"expected {expected.name}",
        "offset",
        "size",
        f"found {found.name}",
        "offset",
        "size",
    )
    table = [head, *lines, total]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    text = []
    for number, row in enumerate(table):
        cells = [
            cell.rjust(width) if column in (3, 4, 6, 7) and number else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells[:5]) + "  |  " + "  ".join(cells[5:])
        text.append(line.rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)
