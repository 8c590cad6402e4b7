"""Fit a Python value to a C type: the slow path, which knows what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from .errors import SchemaError
from .packers import FLAGS, bit_range, fitting_text, pack_char
from .schema import (
    SCALARS,
    BytesType,
    CType,
    EnumType,
    Field,
    PointerType,
    Record,
    Scalar,
    StrType,
    members,
    refuse,
    spell,
    spell_path,
    union_members,
)
from .shape import Shape


def fit_field(field: Field, shape: Shape, value: Any, path: str) -> Any:
    if not field.bit_size:
        return fit(field.type, shape, value, path)
    low, high = bit_range(field)
    words = f"an integer from {low} to {high} ({field.bit_size} bits of {spell(field.type)})"
    if not hasattr(value, "__index__") or not low <= value.__index__() <= high:
        _misfit(path, words, value)
    _enforce(shape, value, path)
    return value


def fit(ctype: CType, shape: Shape, value: Any, path: str) -> Any:
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
            octet, inner = Scalar("u8"), Shape()
            value = bytes(
                fit(octet, inner, item, f"{path}[{index}]") for index, item in enumerate(value)
            )
        if not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != ctype.size:
            _misfit(path, f"{ctype.size} bytes", value)
    elif isinstance(ctype, StrType):
        try:
            text = fitting_text(value, ctype.size)
        except (TypeError, ValueError):
            _misfit(path, f"text of at most {ctype.size} bytes in UTF-8 without NUL", value)
        _enforce(shape, value, path)
        return text
    else:
        try:
            items = list(value)
        except TypeError:
            items = None
        if items is None or isinstance(value, (str, Mapping)) or len(items) != ctype.count:
            _misfit(path, f"a sequence of {ctype.count} elements", value)
        inner = shape.element or Shape()
        _enforce(shape, value, path)
        return [
            fit(ctype.element, inner, item, f"{path}[{index}]") for index, item in enumerate(items)
        ]
    _enforce(shape, value, path)
    return value


def _fit_scalar(ctype: Scalar | EnumType | PointerType, value: Any, path: str) -> None:
    if isinstance(ctype, PointerType):
        name = "u64"
    else:
        name = ctype.base if isinstance(ctype, EnumType) else ctype.name
    code, _size, low, high = SCALARS[name]
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
            FLAGS[value]
        elif name == "char":
            pack_char(value)
        else:
            struct.pack("=" + code, value)
    except Exception:
        _misfit(path, words, value)


def _fit_record(record: Record, shape: Shape, value: Any, path: str) -> Any:
    leaves = list(members(record))
    optional = union_members(record)
    attributes = shape.attributes
    what = record.name or path or "record"
    if isinstance(value, Mapping):
        known = {
            **{name: name for name in attributes},
            **{attribute: name for name, attribute in attributes.items()},
        }
        unknown = [key for key in value if key not in known]
        if unknown:
            refuse(
                f"{path or what}: {what} has no member {unknown[0]!r}; "
                f"it has {', '.join(attributes)}"
            )
        given = {known[key]: item for key, item in value.items()}
    elif isinstance(value, tuple) and not hasattr(value, "_fields"):
        if len(value) != len(leaves):
            refuse(
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
                refuse(
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
            refuse(
                f"{where}: expected a value for each member of {what}, found none for "
                f"{field.name!r}"
            )
        if item is None and field.name in optional:
            setattr(fitted, attribute, None)
        else:
            setattr(fitted, attribute, fit_field(field, shape.children[field.name], item, where))
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


def _enforce(shape: Shape, value: Any, path: str) -> None:
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
