"""Record schemas: C types with their layout, and the form in which an arena stores them.

A `Schema` describes how a record lies in memory. It comes from the BTF of a BPF object
(`btf_schema.from_btf`) or from a Python class with annotated C types
(`annotations.from_class`), and it is stored in the arena's directory (`encode_schema`),
so that a process that has only the arena can read typed records.
"""

from __future__ import annotations

import functools
import itertools
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn, TypeAlias

import msgspec

from .errors import SchemaError

__all__ = [
    "ArrayType",
    "BytesType",
    "CType",
    "EnumType",
    "Field",
    "PointerType",
    "Record",
    "Scalar",
    "Schema",
    "StrType",
    "c_name",
    "check_schema",
    "decode_schema",
    "encode_schema",
    "member_bits",
    "members",
    "padding_of",
    "python_name",
    "spell",
]

MAX_RECORD_BYTES: Final = 1 << 20
MAX_ENCODED_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_NODES: Final = 16384
MAX_RECORDS: Final = 64
# Members in all of the records behind pointers. Untagged pointers may lead to half the kernel.
MAX_TAGGED_NODES: Final = 2048
MAX_UNTAGGED_NODES: Final = 256
MAX_NAME: Final = 255
# Members of a record that a message shows.
MAX_SHOWN: Final = 8

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# Name: (code of the struct module, size in bytes, smallest value, largest value).
SCALARS: Final[dict[str, tuple[str, int, int, int]]] = {
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
INTEGERS: Final = frozenset(name for name in SCALARS if name[0] in "ui")


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
        return SCALARS[self.name][1]

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return SCALARS[self.name][1]


class BytesType(msgspec.Struct, frozen=True, tag_field="c", tag="bytes"):
    """An array of `size` bytes, a Python bytes object of that length.

    >>> spell(BytesType(16)), BytesType(16).align
    ('u8[16]', 1)
    """

    size: int

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return 1


class StrType(msgspec.Struct, frozen=True, tag_field="c", tag="str"):
    """A char array of `size` bytes that holds UTF-8 text, ended by NUL if it is shorter.

    >>> spell(StrType(16)), StrType(16).align
    ('char[16]', 1)
    """

    size: int

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return 1


class ArrayType(msgspec.Struct, frozen=True, tag_field="c", tag="array"):
    """An array of `count` elements.

    >>> ArrayType(Scalar("u32"), 8).size
    32
    """

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
    """An enum, stored as the integer type `base` ("u32"); `members` are (name, value) pairs.

    >>> EnumType("color", "u8", (("RED", 0), ("GREEN", 5))).size
    1
    """

    name: str
    base: str
    members: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return SCALARS[self.base][1]

    @property
    def align(self) -> int:
        """Natural alignment in bytes."""
        return SCALARS[self.base][1]


class PointerType(msgspec.Struct, frozen=True, tag_field="c", tag="ptr"):
    """A 64-bit pointer; `target` names the record it points to, empty for `void *`.

    >>> spell(PointerType("node"))
    'node *'
    """

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

    >>> Field("mode", Scalar("u32"), 4, bit_offset=3, bit_size=2).offset
    4
    """

    name: str
    type: CType
    offset: int
    bit_offset: int = 0
    bit_size: int = 0


class Record(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="c", tag="record"):
    """A struct or union: `size` and `align` in bytes, and its members in declared order.

    >>> Record("count", 8, 8, (Field("calls", Scalar("u64"), 0),)).size
    8
    """

    name: str
    size: int
    align: int
    fields: tuple[Field, ...]
    is_union: bool = False


CType: TypeAlias = Scalar | BytesType | StrType | ArrayType | EnumType | PointerType | Record

CTYPES: Final = (Scalar, BytesType, StrType, ArrayType, EnumType, PointerType, Record)


class Schema(msgspec.Struct, frozen=True, omit_defaults=True):
    """The type of a key, a value or a message.

    Attributes
    ----------
    type : CType
        A `Record`, or any other C type: a map may have plain `u32` keys.
    records : tuple of Record
        The records that pointers in it lead to, as far as they are known.

    >>> schema = Schema(Scalar("u32"))
    >>> schema.name, schema.size, schema.align, schema.record("node")
    ('u32', 4, 4, None)
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


def pointed_to(ctype: CType) -> dict[str, None]:
    """Return the names that pointers in a type have, in order and once."""
    found: dict[str, None] = {}
    if isinstance(ctype, PointerType):
        found[ctype.target] = None
    elif isinstance(ctype, ArrayType):
        found = pointed_to(ctype.element)
    elif isinstance(ctype, Record):
        for field in ctype.fields:
            found.update(pointed_to(field.type))
    return found


def schema_within(ctype: CType, records: Mapping[str, Record]) -> Schema:
    """Return a type with those of some records that pointers in it lead to, and in those, ...

    In the order in which a reader of the type comes upon them, so that the schema is the
    same as that of a structure with such records.

    >>> node = Record("node", 8, 8, (Field("next", PointerType("node"), 0),))
    >>> schema_within(PointerType("node"), {"node": node}).records == (node,)
    True
    """
    own = ctype.name if isinstance(ctype, Record) else ""
    names = list(pointed_to(ctype))
    for name in names:  # grows meanwhile
        record = records.get(name)
        if record is not None:
            names += [each for each in pointed_to(record) if each not in names]
    found = [records[name] for name in names if name != own and name in records]
    return Schema(ctype, tuple(found[:MAX_RECORDS]))


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


def c_name(attribute: str) -> str:
    """Return the C member that an attribute stands for.

    >>> c_name("class_"), c_name("pid")
    ('class', 'pid')
    """
    shorter = attribute.removesuffix("_")
    return shorter if keyword.iskeyword(shorter) else attribute


def element_of(ctype: CType) -> tuple[CType | None, int]:
    """Return what an array is of, and how many; None if the type is no array."""
    if isinstance(ctype, ArrayType):
        return ctype.element, ctype.count
    if isinstance(ctype, BytesType):
        return Scalar("u8"), ctype.size
    if isinstance(ctype, StrType):
        return Scalar("char"), ctype.size
    return None, 0


# --- checking -------------------------------------------------------------------


class _Checker:
    """Checks a schema that anybody may have written, and counts what it costs."""

    def __init__(self) -> None:
        self.nodes = 0
        self.named: dict[str, Record] = {}

    def schema(self, schema: Schema) -> None:
        if len(schema.records) > MAX_RECORDS:
            refuse(
                f"expected at most {MAX_RECORDS} records behind pointers, found "
                f"{len(schema.records)}"
            )
        self.type(schema.type, getattr(schema.type, "name", ""), 0)
        if not schema.type.size:
            refuse("expected a type of at least one byte, found one of none")
        names = set()
        for record in schema.records:
            self.type(record, record.name, 0)
            if not record.name or record.name in names:
                refuse(f"two records behind pointers are called {record.name!r}")
            names.add(record.name)

    def type(self, ctype: CType, path: str, depth: int) -> int:
        """Check a type and return its size, which is safe to use from then on."""
        self.nodes += 1
        if depth > MAX_DEPTH:
            refuse(f"{path}: types nested deeper than {MAX_DEPTH}")
        if self.nodes > MAX_NODES:
            refuse(f"{path}: more than {MAX_NODES} members in all")
        if isinstance(ctype, Scalar):
            if ctype.name not in SCALARS:
                refuse(
                    f"{path}: there is no scalar type {ctype.name!r}; "
                    f"there are {', '.join(SCALARS)}"
                )
            size = ctype.size
        elif isinstance(ctype, (BytesType, StrType)):
            size = ctype.size
        elif isinstance(ctype, PointerType):
            if len(ctype.target) > MAX_NAME:
                refuse(f"{path}: a target name of {len(ctype.target)} characters")
            size = ctype.size
        elif isinstance(ctype, EnumType):
            size = self._enum(ctype, path)
        elif isinstance(ctype, ArrayType):
            element = self.type(ctype.element, f"{path}[]", depth + 1)
            if not element:
                refuse(f"{path}: an array of elements of no size")
            # Bounded before it is multiplied, like everything that comes from outside.
            if not 0 <= ctype.count <= MAX_RECORD_BYTES:
                refuse(f"{path}: an array of {ctype.count} elements")
            size = element * ctype.count
        else:
            size = self._record(ctype, path, depth)
        if not 0 <= size <= MAX_RECORD_BYTES:
            refuse(f"{path}: expected a size up to {MAX_RECORD_BYTES} bytes, found {size}")
        return size

    def _enum(self, ctype: EnumType, path: str) -> int:
        if ctype.base not in INTEGERS:
            refuse(f"{path}: an enum stored as {ctype.base!r}, which is not an integer type")
        if len(ctype.name) > MAX_NAME:
            refuse(f"{path}: an enum name of {len(ctype.name)} characters")
        self.nodes += len(ctype.members)
        if self.nodes > MAX_NODES:
            refuse(f"{path}: more than {MAX_NODES} members in all")
        _code, size, low, high = SCALARS[ctype.base]
        names = set()
        for name, value in ctype.members:
            _check_name(name, path)
            if name in names:
                refuse(f"{path}: two enum members are called {name!r}")
            names.add(name)
            if not low <= value <= high:
                refuse(
                    f"{path}: enum member {name!r} has the value {value}, which does not "
                    f"fit into {ctype.base}"
                )
        return size

    def _record(self, record: Record, path: str, depth: int) -> int:
        if not 0 <= record.size <= MAX_RECORD_BYTES:
            refuse(
                f"{path}: expected a record of up to {MAX_RECORD_BYTES} bytes, found {record.size}"
            )
        align = record.align
        if not 0 < align <= 4096 or align & (align - 1):
            refuse(
                f"{path}: expected an alignment that is a power of two up to 4096, found {align}"
            )
        if record.size % align:
            refuse(f"{path}: a size of {record.size} bytes is no multiple of the alignment {align}")
        if len(record.name) > MAX_NAME:
            refuse(f"{path}: a record name of {len(record.name)} characters")
        spans: list[tuple[int, int, str]] = []
        for field in record.fields:
            where = spell_path(path, field.name)
            size = self.type(field.type, where, depth + 1)
            if field.name:
                _check_name(field.name, path)
            elif not isinstance(field.type, Record) or field.bit_size:
                refuse(f"{path}: a member at offset {field.offset} has no name")
            if field.bit_size:
                start, stop = self._bit_field(field, where, size)
            elif field.bit_offset:
                refuse(
                    f"{where}: a bit offset of {field.bit_offset} in a member that is no bit field"
                )
            else:
                start, stop = 8 * field.offset, 8 * (field.offset + size)
            if field.offset < 0 or stop > 8 * record.size:
                refuse(
                    f"{where}: bytes {field.offset} to {-(-stop // 8)} are outside of the "
                    f"record of {record.size} bytes"
                )
            if record.is_union and field.offset:
                refuse(f"{where}: expected a member of a union at offset 0, found {field.offset}")
            if stop > start:
                spans.append((start, stop, where))
        if not record.is_union:
            spans.sort()
            for (_, stop, first), (start, _, second) in itertools.pairwise(spans):
                if start < stop:
                    refuse(f"{path}: {first!r} and {second!r} overlap")
        names = set()
        for leaf in members(record):
            if leaf.name in names:
                refuse(f"{path}: two members are called {leaf.name!r}")
            names.add(leaf.name)
        if record.name:
            keep_one(self.named, record)
        return record.size

    def _bit_field(self, field: Field, path: str, size: int) -> tuple[int, int]:
        base = field.type
        if not (
            isinstance(base, EnumType)
            or (isinstance(base, Scalar) and (base.name in INTEGERS or base.name == "bool"))
        ):
            refuse(f"{path}: a bit field of type {spell(base)}, which is no integer type")
        if sys.byteorder != "little":
            refuse(f"{path}: bit fields are supported on little-endian machines only")
        limit = 1 if base == Scalar("bool") else 8 * size
        if not 0 < field.bit_size <= limit:
            refuse(f"{path}: a bit field of {field.bit_size} bits in a {spell(base)}")
        if not 0 <= field.bit_offset < 8:
            refuse(f"{path}: expected a bit offset of 0 to 7, found {field.bit_offset}")
        start = 8 * field.offset + field.bit_offset
        return start, start + field.bit_size


def refuse(message: str) -> NoReturn:
    """Raise `SchemaError`, without the separator that an empty path left at the front."""
    raise SchemaError(message.removeprefix(": "))


def keep_one(known: dict[str, Record], record: Record) -> None:
    """Note a record by its name, by which pointers and C find it; refuse a second one.

    >>> known = {"p": Record("p", 4, 4, (Field("a", Scalar("u32"), 0),))}
    >>> keep_one(known, Record("p", 8, 8, (Field("a", Scalar("u64"), 0),)))
    Traceback (most recent call last):
        ...
    arenads.errors.SchemaError: two records with different members are called 'p': expected one of \
that name, found {u32 a} of 4 bytes and {u64 a} of 8 bytes; rename one, or use one for both
    """
    first = known.setdefault(record.name, record)
    if first is not record and first != record:
        _refuse_two(first, record)


def _refuse_two(first: Record, second: Record) -> NoReturn:
    for one, two in zip(first.fields, second.fields, strict=False):
        inner, other = _innermost(one.type), _innermost(two.type)
        if isinstance(inner, Record) and isinstance(other, Record) and inner != other:
            if inner.name == other.name != "":
                _refuse_two(inner, other)  # what the two differ in, which has a name of its own
    refuse(
        f"two records with different members are called {first.name!r}: expected one of"
        f" that name, found {_brief(first)} and {_brief(second)}; rename one, or use one for both"
    )


def _innermost(ctype: CType) -> CType:
    while isinstance(ctype, ArrayType):
        ctype = ctype.element
    return ctype


def _brief(record: Record) -> str:
    shown = [
        f"{spell(field.type)} {field.name}".rstrip()
        + (f" : {field.bit_size}" if field.bit_size else "")
        for field in record.fields[:MAX_SHOWN]
    ]
    if len(record.fields) > MAX_SHOWN:
        shown.append("...")
    return f"{'union ' * record.is_union}{{{'; '.join(shown)}}} of {record.size} bytes"


def _check_name(name: str, path: str) -> None:
    if not _IDENTIFIER.match(name) or len(name) > MAX_NAME:
        refuse(f"{path}: expected a name that C allows, found {name[:80]!r}")


def spell_path(path: str, name: str) -> str:
    """Join the names of a record and its member, for messages."""
    return f"{path}.{name}" if path and name else path or name


def members(record: Record) -> Iterator[Field]:
    """Yield the members of a record, those of anonymous members in place of them.

    >>> inner = Record("", 4, 4, (Field("low", Scalar("u32"), 0),))
    >>> outer = Record("outer", 8, 4, (Field("high", Scalar("u32"), 0), Field("", inner, 4)))
    >>> [(field.name, field.offset) for field in members(outer)]
    [('high', 0), ('low', 4)]
    """
    for field in record.fields:
        if field.name:
            yield field
        elif isinstance(field.type, Record):
            for inner in members(field.type):
                yield msgspec.structs.replace(inner, offset=inner.offset + field.offset)


def check_schema(schema: Schema) -> Schema:
    """Check a schema that was put together by hand, and return it.

    Raises
    ------
    SchemaError
        Sizes, offsets or names that cannot be.

    >>> check_schema(Schema(Record("r", 4, 4, (Field("a", Scalar("u64"), 0),))))
    Traceback (most recent call last):
        ...
    arenads.errors.SchemaError: r.a: bytes 0 to 8 are outside of the record of 4 bytes
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

    >>> kind, number = Field("kind", Scalar("u8"), 0), Field("number", Scalar("u32"), 4)
    >>> padding_of(Schema(Record("key", 8, 4, (kind, number))))
    [(1, 3)]
    """
    gaps = re.finditer(rb"\0+", member_bits(schema))
    return [(gap.start(), len(gap[0])) for gap in gaps]


def member_bits(schema: Schema) -> bytes:
    """Return a value of the schema in which the bits are 1 that belong to members.

    >>> kind, mode = Field("kind", Scalar("u8"), 0), Field("mode", Scalar("u8"), 1, 2, 3)
    >>> member_bits(Schema(Record("key", 4, 2, (kind, mode)))).hex()
    'ff1c0000'
    """
    covered = bytearray(schema.size)
    _cover(schema.type, covered, 0)
    return bytes(covered)


def _cover(ctype: CType, covered: bytearray, offset: int) -> None:
    if isinstance(ctype, Record):
        for field in ctype.fields:
            if field.bit_size:
                bits = ((1 << field.bit_size) - 1) << field.bit_offset
                for index, octet in enumerate(bits.to_bytes(-(-bits.bit_length() // 8), "little")):
                    covered[offset + field.offset + index] |= octet
            else:
                _cover(field.type, covered, offset + field.offset)
    elif isinstance(ctype, ArrayType) and isinstance(ctype.element, Record | ArrayType):
        for index in range(ctype.count):
            _cover(ctype.element, covered, offset + index * ctype.element.size)
    else:
        covered[offset : offset + ctype.size] = b"\xff" * ctype.size


def encode_schema(schema: Schema) -> bytes:
    """Return a schema as JSON, the form stored in an arena's directory.

    >>> encode_schema(Schema(Scalar("u32")))
    b'{"type":{"c":"scalar","name":"u32"}}'
    """
    return _encoder.encode(check_schema(schema))


def decode_schema(data: bytes | bytearray | memoryview) -> Schema:
    """Read a schema from its stored form.

    Raises
    ------
    SchemaError
        The data is no schema, or one whose sizes, offsets or names cannot be.

    >>> decode_schema(b'{"type":{"c":"scalar","name":"u32"}}').size
    4
    """
    raw = bytes(data)
    if len(raw) > MAX_ENCODED_BYTES:
        refuse(f"expected a schema of up to {MAX_ENCODED_BYTES} bytes, found {len(raw)}")
    try:
        schema = _decoder().decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"expected a stored schema, found data that is none: {error}") from None
    return check_schema(schema)


def class_name(name: str) -> str:
    """Return a name for the class of a C record or enum."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name) or "record"
    return python_name("_" + clean if clean[0].isdigit() else clean)


def union_members(record: Record) -> set[str]:
    """Return the names of the members that share their place with others."""
    if record.is_union:
        return {field.name for field in members(record)}
    found: set[str] = set()
    for field in record.fields:
        if not field.name and isinstance(field.type, Record):
            if field.type.is_union:
                found.update(inner.name for inner in members(field.type))
            else:
                found |= union_members(field.type)
    return found
