"""Record schemas from the BTF of a BPF object: C first."""

from __future__ import annotations

import msgspec

from . import btf as _btf
from .errors import SchemaError
from .schema import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_NODES,
    MAX_RECORDS,
    MAX_TAGGED_NODES,
    MAX_UNTAGGED_NODES,
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
    check_schema,
    class_name,
    refuse,
    spell_path,
)

__all__ = ["from_btf"]


def from_btf(btf: _btf.Btf, type_id: int) -> Schema:
    """Return the schema of a C type of a BPF object or of the kernel.

    Records that it points to are included if the object describes them.

    Raises
    ------
    SchemaError
        The type has no fixed layout (a function, void, an incomplete struct).
    ObjectError
        The BTF is damaged.

    >>> from arenads.btf import Btf, Kind
    >>> from arenads.compiler import programs_dir
    >>> btf = Btf.from_object(programs_dir() / "demo.bpf.o")
    >>> schema = from_btf(btf, btf.find(Kind.STRUCT, "task").id)
    >>> schema.name, schema.size, [field.name for field in schema.type.fields]
    ('task', 40, ['syscalls', 'switches', 'first_seen', 'comm'])
    """
    reader = _BtfReader(btf)
    ctype = reader.read(type_id, 0)
    if isinstance(ctype, Record) and not ctype.name:
        # A record that has only a typedef's name is known by that.
        ctype = msgspec.structs.replace(ctype, name=class_name(btf.type(type_id).name))
    return check_schema(Schema(ctype, reader.pointed_to(ctype)))


class _BtfReader:
    def __init__(self, btf: _btf.Btf) -> None:
        self.btf = btf
        self.nodes = 0
        self.pointees: dict[str, tuple[int, bool]] = {}

    def pointed_to(self, ctype: CType) -> tuple[Record, ...]:
        found: dict[str, Record] = {}
        done = {ctype.name} if isinstance(ctype, Record) else set()
        budget = {True: MAX_TAGGED_NODES, False: MAX_UNTAGGED_NODES}
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
            refuse(
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
            return EnumType(found.name or self._alias(number), base, members)
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
            return self._record(found, found.name or self._alias(number), depth)
        refuse(
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
        if target.kind in (_btf.Kind.STRUCT, _btf.Kind.UNION):
            name = target.name or self._alias(found.target)
            if name:
                tagged = "arena" in self.btf.tags(found.target)
                self.pointees.setdefault(name, (found.target, tagged))
                return PointerType(name[:MAX_NAME])
        return PointerType((target.name or self.btf.spell(target.id))[:MAX_NAME])

    def _alias(self, number: int) -> str:
        """Return the typedef that names a type without a tag; empty if there is none.

        In C typedefs and tags do not clash, here they would: a tag has first call on its name.
        """
        name = ""
        while (current := self.btf.type(number)).kind in _btf.TRANSPARENT:
            if current.kind is _btf.Kind.TYPEDEF:
                name = current.name
            number = current.target
        taken = (_btf.Kind.STRUCT, _btf.Kind.UNION, _btf.Kind.ENUM, _btf.Kind.ENUM64)
        if not name or any(self.btf.find(kind, name) for kind in taken):
            return ""
        return name[:MAX_NAME]

    def _record(self, found: _btf.Type, name: str, depth: int) -> CType:
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
                refuse(f"{spell_path(name, member.name)}: not at a byte (bit {at})")
            fields.append(Field(member.name, ctype, at // 8, at % 8 if bits else 0, bits))
        return Record(
            name[:MAX_NAME],
            found.size,
            self.btf.alignment(found.id),
            tuple(fields),
            found.kind is _btf.Kind.UNION,
        )
