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

__all__ = ["compare"]


class _Row(msgspec.Struct, frozen=True):
    name: str
    type: str
    sort: str  # types of the same sort mean the same bytes
    offset: int
    bit: int
    size: int
    bits: int
    # What it is in the end, arrays taken off: an enum has names to compare, a pointer a target.
    ctype: CType

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
        signed = any(value < 0 for _name, value in ctype.members)
        return f"{'signed' if signed else ''}enum{ctype.size}"
    if isinstance(ctype, PointerType):
        return "ptr"
    if isinstance(ctype, Record):
        return "union" if ctype.is_union else "struct"
    element, count = element_of(ctype)
    assert element is not None
    inner = _sort(element)
    return f"{'octet' if inner in ('u8', 'i8') else inner}[{count}]"


def _innermost(ctype: CType) -> CType:
    while isinstance(ctype, ArrayType):
        ctype = ctype.element
    return ctype


def _contradictions(expected: _Row, found: _Row) -> list[str]:
    """Return the names that both enums have, with different values."""
    one, two = expected.ctype, found.ctype
    if not (isinstance(one, EnumType) and isinstance(two, EnumType)):
        return []
    values = dict(two.members)
    return [name for name, value in one.members if values.get(name, value) != value]


def _agree(expected: _Row, found: _Row) -> bool:
    if _contradictions(expected, found):
        return False
    if expected.agrees(found):
        return True
    # An enum or a pointer may be declared as the integer that holds it, also in arrays.
    loose = {
        "enum1": {"u8", "i8", "octet"},
        "enum2": {"u16", "i16"},
        "enum4": {"u32", "i32"},
        "enum8": {"u64", "i64"},
        "signedenum1": {"i8", "octet"},
        "signedenum2": {"i16"},
        "signedenum4": {"i32"},
        "signedenum8": {"i64"},
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
                    _innermost(field.type),
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
        sort, inner = _sort(ctype), _innermost(ctype)
        rows.insert(0, _Row("(value)", spell(ctype), sort, 0, 0, ctype.size, 0, inner))
    return rows


def compare(expected: Schema, found: Schema, *, what: str) -> None:
    """Check that two schemas describe the same bytes.

    Names, types, offsets and sizes must agree, and names that two enums share must have the
    same values. So must the records that pointers lead to, where both sides describe them.
    Names of records, and whether a byte array is text, may differ; an enum may have names
    that the other side does not know, or be the integer that holds it.

    Parameters
    ----------
    expected, found : Schema
    what : str
        What has two layouts, to begin the message with: "value of 'tasks'".

    Raises
    ------
    LayoutError
        They differ; the message shows the two layouts side by side, the attributes
        `expected` and `found` are the schemas.

    >>> from arenads.annotations import from_type, u32, i32
    >>> compare(from_type(u32), from_type(i32), what="key of 'tasks'")
    Traceback (most recent call last):
        ...
    arenads.errors.LayoutError: key of 'tasks': the two layouts of the record differ
       field    expected u32  offset  size  |  found i32  offset  size
    ------------------------------------------------------------------
    !  (value)  u32                0     4  |  i32             0     4
       (total)                           4  |                        4
    """
    waiting = [(what, expected.type, found.type)]
    done = []
    while waiting:
        place, one, two = waiting.pop()
        done.append((one, two))
        pairs = _compare(Schema(one), Schema(two), place)
        for left, right in pairs:
            if isinstance(left.ctype, PointerType) and isinstance(right.ctype, PointerType):
                there = expected.record(left.ctype.target), found.record(right.ctype.target)
                if there[0] is None or there[1] is None:
                    continue  # only a name, on one of the sides
                pair = (there[0], there[1])
                if pair not in done and pair not in [each[1:] for each in waiting]:
                    waiting.append((f"{place}, what {left.name!r} points to", *pair))


def _compare(expected: Schema, found: Schema, what: str) -> list[tuple[_Row, _Row]]:
    left, right = _layout_rows(expected), _layout_rows(found)
    if len(left) == len(right) and expected.size == found.size and all(map(_agree, left, right)):
        return list(zip(left, right, strict=True))
    raise LayoutError(
        f"{what}: the two layouts of the record differ\n{_side_by_side(expected, found)}",
        expected=expected,
        found=found,
        what=what,
    )


def _shown(row: _Row, names: list[str]) -> str:
    if not names or not isinstance(row.ctype, EnumType):
        return row.type
    values = dict(row.ctype.members)
    return f"{row.type}: {', '.join(f'{name}={values[name]}' for name in names)}"


def _side_by_side(expected: Schema, found: Schema) -> str:
    left, right = _layout_rows(expected), _layout_rows(found)
    lines: list[tuple[str, ...]] = []

    def add(one: _Row | None, two: _Row | None) -> None:
        same = one is not None and two is not None and _agree(one, two)
        cells = ["" if same else "!", (one or two or left[0]).name]
        names = _contradictions(one, two)[:3] if one is not None and two is not None else []
        for row in (one, two):
            cells += [_shown(row, names), row.place, row.extent] if row else ["-", "", ""]
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
