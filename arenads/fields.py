"""The fields of entries: found by name, shown as text, turned into what JSON can hold.

Members of key and value records go by their own names (`calls`, `cpu.ticks`); a key or value that
is no record is `key` or `value`. Members of both that have the same name are `key.pid` and
`value.pid`, and these names are always understood.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from arenads.errors import SchemaError
from arenads.node import NODE_RECORD
from arenads.python_class import generated
from arenads.schema import (
    INTEGERS,
    ArrayType,
    BytesType,
    CType,
    EnumType,
    PointerType,
    Record,
    Scalar,
    Schema,
    StrType,
    element_of,
    members,
    python_name,
    spell,
)
from arenads.shape import Shape
from arenads.snapshot import joined_names
from arenads.walk import Part

__all__ = ["EntryField", "entry_converter", "field_named", "fields_of", "parsed", "text_of"]

_GROUPED: Final = re.compile(r"-?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
Getter = Callable[[Any], Any]
_STEP: Final = re.compile(r"(?:^|\.)([A-Za-z_][A-Za-z0-9_]*)|\[(\d{1,9})\]")


class EntryField(msgspec.Struct, frozen=True):
    """A field of an entry: `get(entry)` is its value, `plain(value)` what JSON can hold.

    `identity` and `shorter` are those of the part that it is in. `counts` tells that it may be a
    quantity, which what lists keep in nodes is not.
    """

    name: str
    type: CType
    identity: bool
    shorter: bool
    counts: bool
    get: Getter
    plain: Getter

    @property
    def is_number(self) -> bool:
        """Whether it counts or measures something: rates and sums of it make sense."""
        return is_number(self.type)

    def text(self, entry: Any) -> str:
        """Return the field of an entry as it stands in a cell; arrays are JSON."""
        return text_of(self.plain(self.get(entry)))


def is_number(ctype: CType) -> bool:
    return isinstance(ctype, Scalar) and (ctype.name in INTEGERS or ctype.name[0] == "f")


def text_of(plain: Any) -> str:
    """Return what JSON can hold as the text of a cell."""
    if plain is None:
        return ""
    if isinstance(plain, str):
        return plain
    return msgspec.json.encode(plain).decode()


# --- what JSON can hold ---------------------------------------------------------------------


def _float(value: float) -> float | str:
    # JSON has no such numbers, and null would not tell which it is.
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value: str) -> str:
    return value.encode(errors="surrogateescape").decode(errors="replace")


def _bytes(value: bytes) -> str:
    return value.hex()


def _char(value: bytes) -> str:
    return "" if value == b"\0" else value.decode("latin-1")


def _address(value: int) -> str:
    return f"{value:#x}"


def _same(value: Any) -> Any:
    return value


def converter(ctype: CType, shape: Shape | None = None) -> Getter:
    """Return a function that turns decoded values of a type into what JSON can hold.

    Bytes become hexadecimal text, enums their names (numbers without one stay), pointers
    "0x...", and numbers that JSON has no form for "NaN", "Infinity" or "-Infinity".

    >>> converter(BytesType(2))(b"\\x01\\xff")
    '01ff'
    """
    plain = _plain(ctype, shape)
    return lambda value: None if value is None else plain(value)


def _shape(ctype: CType) -> Shape:
    return generated(Schema(ctype), True)


def _plain(ctype: CType, shape: Shape | None) -> Getter:
    if isinstance(ctype, Scalar):
        return _char if ctype.name == "char" else _float if ctype.name[0] == "f" else _same
    if isinstance(ctype, BytesType):
        return _bytes
    if isinstance(ctype, StrType):
        return _text
    if isinstance(ctype, PointerType):
        return _address
    if isinstance(ctype, EnumType):
        names = {value: name for name, value in reversed(ctype.members)}
        return lambda value: names.get(int(value), int(value))
    if isinstance(ctype, ArrayType):
        element = _plain(ctype.element, shape.element if shape is not None else None)
        return lambda value: [element(each) for each in value]
    return _record(ctype, shape or _shape(ctype))


def _record(record: Record, shape: Shape) -> Getter:
    made = [
        (
            field.name,
            shape.attributes[field.name],
            converter(field.type, shape.children[field.name]),
        )
        for field in members(record)
    ]
    return lambda value: {name: plain(getattr(value, attribute)) for name, attribute, plain in made}


def entry_converter(parts: Sequence[Part]) -> Callable[[tuple[Any, ...]], dict[str, Any]]:
    """Return a function that turns an entry into a JSON object, nested as the records are."""
    made = [(part.name, converter(part.type)) for part in parts]
    return lambda entry: {
        name: plain(value) for (name, plain), value in zip(made, entry, strict=True)
    }


# --- by name --------------------------------------------------------------------------------


def fields_of(parts: Sequence[Part]) -> list[EntryField]:
    """Return the fields of entries, those of nested records in place of them. An array is one.

    >>> [each.name for each in fields_of([Part("key", Scalar("u32"), True)])]
    ['key']
    """
    paths = [(part.name, path) for part in parts for path in _paths(part.type, "")]
    names = joined_names([(part, path) if path else ("", part) for part, path in paths])
    found = []
    for (part, path), name in zip(paths, names, strict=True):
        field = _resolve(parts, f"{part}.{path}" if path else part)
        found.append(msgspec.structs.replace(field, name=name))
    return found


def _paths(ctype: CType, path: str) -> list[str]:
    """Return the paths of all members that are no records; of what is none itself the path."""
    if not isinstance(ctype, Record):
        return [path]
    found = []
    for member in members(ctype):
        found += _paths(member.type, f"{path}.{member.name}" if path else member.name)
    return found


def field_named(parts: Sequence[Part], name: str) -> EntryField:
    """Return the field of a name, which may lead into arrays too: `cpu[2].ticks`.

    Raises
    ------
    SchemaError
        There is none, or it is a whole record; the message names those that there are.
    """
    known = fields_of(parts)
    for field in known:
        if field.name == name:
            return field
    first = re.match(r"[A-Za-z_]\w*", name)
    places = {part.name for part in parts}
    candidates = [f"{place}.{name}" for place in ("value", "key") if place in places]
    if first and first[0] in places:
        candidates.insert(0, name)
    for path in candidates:
        try:
            return msgspec.structs.replace(_resolve(parts, path), name=name)
        except SchemaError:
            continue
    raise SchemaError(
        f"there is no field {name!r}; there are {', '.join(field.name for field in known)}"
    )


def _resolve(parts: Sequence[Part], path: str) -> EntryField:
    """Return the field at a path that begins with the name of a part."""
    steps = list(_STEP.finditer(path))
    if "".join(step[0] for step in steps) != path:
        raise SchemaError(f"expected a field such as 'name', 'a.b' or 'a[2]', found {path!r}")
    place, part = next(
        (place, part) for place, part in enumerate(parts) if part.name == steps[0][1]
    )
    ctype, shape = part.type, None if isinstance(part.type, BytesType) else _shape(part.type)
    follow: list[Getter] = []
    counts = True
    for step in steps[1:]:
        counts = counts and not (isinstance(ctype, Record) and ctype.name == NODE_RECORD)
        if step[1] is not None:
            ctype, shape, attribute = _member(ctype, shape, step[1])
            follow.append(_attribute(attribute))
        else:
            ctype, shape, index = _element(ctype, shape, int(step[2]))
            follow.append(_item(index))
    if isinstance(ctype, Record):
        raise SchemaError(f"{path} is a whole {spell(ctype)}")

    def get(entry: Any) -> Any:
        value = entry[place]
        for each in follow:
            value = each(value)
        return value

    plain = converter(ctype, shape)
    return EntryField(path, ctype, part.identity, part.shorter, counts, get, plain)


def _attribute(name: str) -> Getter:
    return lambda value: getattr(value, name, None)


def _item(index: int) -> Getter:
    return lambda value: None if value is None else value[index]


def _member(ctype: CType, shape: Shape | None, name: str) -> tuple[CType, Shape, str]:
    if isinstance(ctype, Record) and shape is not None:
        for field in members(ctype):
            if name in (field.name, python_name(field.name)):
                return field.type, shape.children[field.name], shape.attributes[field.name]
    raise SchemaError(f"{spell(ctype)} has no member {name!r}")


def _element(ctype: CType, shape: Shape | None, index: int) -> tuple[CType, Shape | None, int]:
    element, count = element_of(ctype)
    if not isinstance(ctype, ArrayType) or element is None or index >= count:
        raise SchemaError(f"{spell(ctype)} has no element {index}")
    return element, shape.element if shape is not None else None, index


# --- from text ------------------------------------------------------------------------------


def parsed(field: EntryField, text: str) -> Any:
    """Return the value that a text stands for, as entries have it in this field.

    Raises
    ------
    SchemaError
        It is none of the field's type.

    >>> parsed(fields_of([Part("key", Scalar("u32"), True)])[0], "0x10")
    16
    """
    try:
        return _parsed(field.type, text)
    except (ValueError, KeyError):
        raise SchemaError(f"{field.name}: expected {_words(field.type)}, found {text!r}") from None


def _parsed(ctype: CType, text: str) -> Any:
    if isinstance(ctype, StrType):
        return text
    if isinstance(ctype, BytesType):
        return bytes.fromhex(text.removeprefix("0x"))
    if isinstance(ctype, EnumType):
        known = dict(ctype.members)
        return known[text] if text in known else int(text, 0)
    if isinstance(ctype, PointerType):
        return int(text, 0)
    if isinstance(ctype, Scalar):
        if ctype.name == "char":
            return text.encode("latin-1") or b"\0"
        if ctype.name == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if _GROUPED.fullmatch(text):  # as `top` shows it
            text = text.replace(",", "")
        return float(text) if ctype.name[0] == "f" else int(text, 0)
    raise ValueError


def _words(ctype: CType) -> str:
    if isinstance(ctype, EnumType):
        return " or ".join(name for name, _ in ctype.members[:8]) + ", or a number"
    if isinstance(ctype, BytesType):
        return "bytes as hexadecimal digits"
    if isinstance(ctype, Scalar) and ctype.name == "bool":
        return "true or false"
    if isinstance(ctype, (Scalar, PointerType)):
        return f"a number ({spell(ctype)})"
    return f"one element of {spell(ctype)}, such as [0]"


def comparable(value: Any) -> Any:
    """Return a value as it compares with a parsed one."""
    return int(value) if isinstance(value, enum.IntEnum) else value
