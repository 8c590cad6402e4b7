"""Snapshots as Arrow data: the plan of the columns, and the capsules that consumers take.

The Arrow PyCapsule interface (arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).
The columns are made in C (`_arrow.c`); this module says which there are. A schema becomes:

=====================  =====================================================
C                      Arrow
=====================  =====================================================
integers, floats       the same; pointers are uint64
bool                   bool
char                   fixed_size_binary[1]
struct                 struct; anonymous members are members of what they are in
array                  fixed_size_list
byte array             fixed_size_binary
text                   utf8; what is no UTF-8 is U+FFFD
enum                   dictionary of int32 and utf8; values without a name are their number
bit field              integer of its type, bool, or dictionary
union                  fixed_size_binary, the members in the metadata
=====================  =====================================================

Members of no size are left out. The metadata of a column has its C type as `arenads:type`, that of
the schema `arenads:kind` and `arenads:name` of the structure.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from arenads._core import ffi, lib
from arenads.errors import NoMemoryError
from arenads.schema import (
    SCALARS,
    ArrayType,
    BytesType,
    CType,
    EnumType,
    Field,
    PointerType,
    Record,
    Scalar,
    StrType,
    members,
    spell,
)
from arenads.snapshot import Layout, joined_names

__all__ = ["Plan"]

# Records in one array of a stream. Where they have much text fewer, for its 31-bit offsets.
_BATCH = 1 << 20
_TEXT_LIMIT = (1 << 31) - 1

_FORMATS = {
    "u8": "C",
    "u16": "S",
    "u32": "I",
    "u64": "L",
    "i8": "c",
    "i16": "s",
    "i32": "i",
    "i64": "l",
    "f32": "f",
    "f64": "g",
    "bool": "b",
    "char": "w:1",
}


class _Node:
    """A column: fields of `core_column`, and the columns in it."""

    def __init__(
        self,
        kind: str,
        form: str,
        size: int,
        children: Sequence[_Node] = (),
        *,
        count: int = 0,
        metadata: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.kind, self.form, self.size, self.count = kind, form, size, count
        self.children = list(children)
        self.name, self.at, self.bit, self.bits = "", 0, 0, 0
        self.signed = False
        self.members: tuple[tuple[str, int], ...] = ()
        self.metadata = list(metadata)

    def named(self, name: str, at: int) -> _Node:
        """Return itself, called so and so many bytes from the beginning of its parent."""
        self.name, self.at = name, at
        return self


def _node(ctype: CType) -> _Node | None:
    """Return the column of a type; None for one of no size."""
    if not ctype.size:
        return None
    node = _column(ctype)
    node.metadata.insert(0, ("arenads:type", spell(ctype)))
    return node


def _column(ctype: CType) -> _Node:
    if isinstance(ctype, Scalar):
        kind = "BOOL" if ctype.name == "bool" else "COPY"
        return _Node(kind, _FORMATS[ctype.name], ctype.size)
    if isinstance(ctype, PointerType):
        return _Node("COPY", "L", 8)
    if isinstance(ctype, StrType):
        return _Node("TEXT", "u", ctype.size)
    if isinstance(ctype, EnumType):
        if not ctype.members:
            return _Node("COPY", _FORMATS[ctype.base], ctype.size)
        node = _Node("ENUM", "i", ctype.size, count=len(ctype.members))
        node.members, node.signed = ctype.members, ctype.base[0] == "i"
        return node
    if isinstance(ctype, ArrayType):
        element = _node(ctype.element)
        assert element is not None
        return _Node(
            "LIST", f"+w:{ctype.count}", ctype.size, [element.named("item", 0)], count=ctype.count
        )
    if isinstance(ctype, Record) and not ctype.is_union:
        children = _members(ctype, 0)
        if children:
            return _Node("STRUCT", "+s", ctype.size, children)
    metadata = []
    if isinstance(ctype, Record):
        told = ", ".join(f"{spell(field.type)} {field.name}" for field in members(ctype))
        metadata.append(("arenads:members", told))
    else:
        assert isinstance(ctype, BytesType)
    return _Node("COPY", f"w:{ctype.size}", ctype.size, metadata=metadata)


def _members(record: Record, base: int) -> list[_Node]:
    """Return the columns of a struct's members, those of anonymous structs in place of them."""
    found: list[_Node] = []
    for field in record.fields:
        inner = field.type
        if field.bit_size:
            found.append(_bit_field(field).named(field.name, base + field.offset))
        elif not field.name and isinstance(inner, Record) and not inner.is_union:
            found += _members(inner, base + field.offset)
        else:
            node = _node(inner)
            if node is not None:
                name = field.name
                if not name and isinstance(inner, Record):
                    name = "|".join(each.name for each in members(inner))
                found.append(node.named(name, base + field.offset))
    return found


def _bit_field(field: Field) -> _Node:
    node = _node(field.type)
    assert node is not None
    base = field.type.base if isinstance(field.type, EnumType) else node.form
    if node.kind == "COPY":
        node.kind = "NUMBER"
        node.signed = base in "csil"
    node.bit, node.bits = field.bit_offset, field.bit_size
    node.metadata.append(("arenads:bits", str(field.bit_size)))
    return node


def _metadata(pairs: Sequence[tuple[str, str]]) -> bytes:
    """Return metadata as Arrow's C interface has it."""
    encoded = [struct.pack("=i", len(pairs))]
    for text in (each.encode() for pair in pairs for each in pair):
        encoded.append(struct.pack("=i", len(text)) + text)
    return b"".join(encoded)


def _text_bytes(node: _Node) -> int:
    """Return how many bytes of text one element can become: a wrong byte becomes three."""
    if node.kind == "TEXT":
        return 3 * node.size
    inside = max((_text_bytes(child) for child in node.children), default=0)
    return inside * node.count if node.kind == "LIST" else inside


class Plan:
    """Which columns become of a snapshot's records.

    Attributes
    ----------
    batch : int
        Records in one array.
    """

    def __init__(self, layout: Layout, *, flat: bool) -> None:
        tops: list[tuple[str, _Node]] = []
        for column in layout.columns:
            node = _node(column.codec.schema.type)
            assert node is not None
            node.named(column.name, column.offset)
            if flat and node.kind == "STRUCT":
                for child in node.children:
                    child.at += column.offset
                    tops.append((column.name, child))
            else:
                tops.append(("", node))
        names = joined_names([(column, node.name) for column, node in tops])
        for name, (_, node) in zip(names, tops, strict=True):
            node.name = name
        root = _Node(
            "STRUCT",
            "+s",
            layout.size,
            [node for _, node in tops],
            metadata=list(zip(("arenads:kind", "arenads:name"), layout.source, strict=True)),
        )
        self.batch = max(1, min(_BATCH, _TEXT_LIMIT // max(_text_bytes(root), 1)))
        self._size = layout.size
        self._alive: list[Any] = []
        nodes = self._flattened(root)
        self._columns = ffi.new("core_column[]", len(nodes))
        self._count = len(nodes)
        for to, node in zip(self._columns, nodes, strict=True):
            self._fill(to, node)

    def _flattened(self, node: _Node) -> list[_Node]:
        found = [node]
        for child in node.children:
            found += self._flattened(child)
        return found

    def _fill(self, to: Any, node: _Node) -> None:
        metadata = _metadata(node.metadata) if node.metadata else b""
        to.kind = getattr(lib, f"ARROW_{node.kind}")
        to.children, to.at, to.size, to.count = len(node.children), node.at, node.size, node.count
        to.bit, to.bits, to.is_signed = node.bit, node.bits, node.signed
        to.metadata_size = len(metadata)
        to.format, to.name = self._bytes(node.form), self._bytes(node.name)
        to.metadata = self._bytes(metadata)
        if node.members:
            mask = (1 << 64) - 1
            values = ffi.new("__u64[]", [value & mask for _, value in node.members])
            self._alive.append(values)
            to.values = values
            to.names = self._bytes("\0".join(name for name, _ in node.members))

    def _bytes(self, text: str | bytes) -> Any:
        memory = ffi.new("char[]", text if isinstance(text, bytes) else text.encode())
        self._alive.append(memory)
        return memory

    def schema_capsule(self) -> object:
        """Return the schema in a capsule."""
        return _capsule(
            lib.core_arrow_schema(self._columns, self._count),
            b"arrow_schema",
            "core_arrow_schema_end",
        )

    def stream_capsule(self, memory: Any, count: int) -> object:
        """Return a stream of records in a capsule, which holds their memory."""
        return _capsule(
            lib.core_arrow_stream(
                self._columns, self._count, memory, count, self._size, self.batch
            ),
            b"arrow_array_stream",
            "core_arrow_stream_end",
        )


# PyCapsule_New keeps the pointer to the name, so the names are never freed.
_NAMES = {name: ctypes.c_char_p(name) for name in (b"arrow_schema", b"arrow_array_stream")}
_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def _capsule(content: Any, name: bytes, end: str) -> object:
    if content == ffi.NULL:
        raise NoMemoryError("no memory for Arrow columns")
    destructor = int(ffi.cast("uintptr_t", ffi.addressof(lib, end)))
    return _new(int(ffi.cast("uintptr_t", content)), _NAMES[name], destructor)


assert set(_FORMATS) == set(SCALARS)
