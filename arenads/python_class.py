"""Record classes made from schemas, for records that were declared in C."""

from __future__ import annotations

import enum
import functools
from typing import Annotated, Any, cast

import msgspec

from .annotations import Bits, Size
from .schema import (
    ArrayType,
    BytesType,
    CType,
    EnumType,
    PointerType,
    Record,
    Scalar,
    Schema,
    StrType,
    check_schema,
    class_name,
    members,
    python_name,
    refuse,
    schema_within,
    union_members,
)
from .shape import Shape

__all__ = ["python_class"]


def python_class(schema: Schema | Record, *, frozen: bool = False) -> type[msgspec.Struct]:
    """Return a `msgspec.Struct` class for a record schema.

    Members have their C names (keywords get a trailing underscore) and default to
    zero, as in C's initializers; members of unions are None unless set. With
    `frozen` the class is immutable and hashable, with tuples for arrays: right for
    keys of a dict. The same schema always gives the same class.

    >>> from arenads.schema import Field
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
        refuse(f"expected the schema of a record, found {schema.name}; only records have classes")
    return cast("type[msgspec.Struct]", generated(schema, frozen).cls)


@functools.lru_cache(maxsize=256)
def generated(schema: Schema, frozen: bool) -> Shape:
    check_schema(schema)
    return _Generator(schema, frozen).shape(schema.type, "record")[0]


class _Generator:
    def __init__(self, schema: Schema, frozen: bool) -> None:
        self.schema = schema
        self.frozen = frozen
        self.named = {each.name: each for each in schema.records}
        if isinstance(schema.type, Record) and schema.type.name:
            self.named[schema.type.name] = schema.type
        self.records: dict[Record, tuple[Shape, Any]] = {}
        self.enums: dict[EnumType, Any] = {}

    def shape(self, ctype: CType, name: str) -> tuple[Shape, Any, Any]:
        """Return (shape, annotation, default or factory) of a type."""
        shape = Shape()
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
            cls = self.enums[ctype] = _make_enum(class_name(ctype.name or name), pairs)
        return cls

    def _record(self, record: Record, name: str) -> tuple[Shape, Any]:
        known = self.records.get(record)
        if known is not None:
            return known
        title = class_name(record.name or name)
        shape = Shape()
        leaves = list(members(record))
        optional = union_members(record)
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
        own = self.schema
        if record is not self.schema.type:
            # With what its pointers lead to, by whose names another class may have others.
            own = schema_within(record, self.named)
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
