"""Compare what two sides claim of one record, and show both layouts side by side."""

from __future__ import annotations

import difflib

import msgspec

from .errors import LayoutError
from .schema import (
    ArrayType,
    CType,
    EnumType,
    PointerType,
    Record,
    Scalar,
    Schema,
    element_of,
    members,
    python_name,
    spell,
    spell_path,
)


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
    element, count = element_of(ctype)
    assert element is not None
    inner = _sort(element)
    return f"{'octet' if inner in ('u8', 'i8') else inner}[{count}]"


def _agree(expected: _Row, found: _Row) -> bool:
    if expected.agrees(found):
        return True
    # An enum or a pointer may be declared as the integer that holds it, also in arrays.
    loose = {
        "enum1": {"u8", "i8", "octet"},
        "enum2": {"u16", "i16"},
        "enum4": {"u32", "i32"},
        "enum8": {"u64", "i64"},
        "ptr": {"u64"},
        "octet": {"u8", "i8"},
    }
    one, _, counts = expected.sort.partition("[")
    two, _, other_counts = found.sort.partition("[")
    if counts != other_counts or (two not in loose.get(one, ()) and one not in loose.get(two, ())):
        return False
    return msgspec.structs.replace(expected, sort=found.sort).agrees(found)


def _rows(ctype: CType, prefix: str, base: int, rows: list[_Row]) -> None:
    if isinstance(ctype, Record):
        for field in members(ctype):
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
