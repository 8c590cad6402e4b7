"""Compile a schema and a shape into functions that pack and unpack records."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import msgspec

from .errors import SchemaError
from .fitting import fit
from .methods import text
from .packers import (
    FLAGS,
    NUL,
    bits_packer,
    bytes_packer,
    counter,
    enforcer,
    misfit,
    octets_packer,
    pack_char,
    text_packer,
)
from .schema import (
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
    class_name,
    members,
    refuse,
    spell,
)
from .shape import Shape

# Up to this many values a record is unpacked into local variables, beyond into a tuple.
_MAX_LOCALS: Final = 64
_numbers: Final = itertools.count()


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
    the source; everything else is bound as an object. No two compilers make up the same
    name, so that what they made can be put into one function.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"text": text, "misfit": misfit}
        self.in_array = 0

    def bind(self, value: Any) -> str:
        name = self.fresh("x")
        self.names[name] = value
        return name

    def fresh(self, prefix: str) -> str:
        return f"{prefix}{next(_numbers)}"

    def unit(self, ctype: CType, shape: Shape) -> _Unit:
        unit = self._unit(ctype, shape)
        if shape.checks:
            check, inner = self.bind(enforcer(shape.checks)), unit.write
            return _Unit(
                unit.form,
                unit.slots,
                unit.read,
                lambda value: inner(f"{check}({value})"),
                unit.direct,
            )
        return unit

    def _unit(self, ctype: CType, shape: Shape) -> _Unit:
        if isinstance(ctype, Scalar):
            code = SCALARS[ctype.name][0]
            if ctype.name == "bool":
                flags = self.bind(FLAGS)
                return _Unit(
                    code, 1, lambda slots: slots[0], lambda value: [f"{flags}[{value}]"], True
                )
            if ctype.name == "char":
                return self._converted(code, pack_char)
            return _Unit(code, 1, lambda slots: slots[0], lambda value: [value], True)
        if isinstance(ctype, PointerType):
            return _Unit("Q", 1, lambda slots: slots[0], lambda value: [value], True)
        if isinstance(ctype, BytesType):
            return self._converted(f"{ctype.size}s", bytes_packer(ctype.size))
        if isinstance(ctype, StrType):
            return self._text(ctype.size)
        if isinstance(ctype, EnumType):
            get = self.bind(shape.cls._value2member_map_.get)
            return _Unit(
                SCALARS[ctype.base][0],
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

    def _text(self, size: int) -> _Unit:
        packer = self.bind(text_packer(size))
        raw = self.fresh("s")
        # In place where that is allowed: a call is a third of the time of a small record.
        inline = not self.in_array

        def read(slots: _Slots) -> str:
            return f"text({slots[0]})"

        def write(value: str) -> list[str]:
            if not inline:
                return [f"{packer}({value})"]
            fits = f"len({raw} := {value}.encode()) <= {size} and 0 not in {raw}"
            return [f"{raw} if {fits} else misfit()"]

        return _Unit(f"{size}s", 1, read, write)

    def _converted(
        self,
        code: str,
        pack: Callable[[Any], Any],
    ) -> _Unit:
        packer = self.bind(pack)
        return _Unit(code, 1, lambda slots: slots[0], lambda value: [f"{packer}({value})"], True)

    def _array(self, ctype: ArrayType, shape: Shape) -> _Unit:
        count = ctype.count
        element_shape = shape.element or Shape()
        sequence = "tuple" if shape.sequence is tuple else "list"
        if ctype.element == Scalar("u8") and not element_shape.checks:
            make = sequence
            packer = self.bind(octets_packer(count))
            return _Unit(
                f"{count}s",
                1,
                lambda slots: f"{make}({slots[0]})",
                lambda value: [f"{packer}({value})"],
            )
        self.in_array += 1
        element = self.unit(ctype.element, element_shape)
        self.in_array -= 1
        counted = self.bind(counter(count))
        step = element.slots
        index, item = self.fresh("k"), self.fresh("e")
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

    def _record(self, record: Record, shape: Shape) -> _Unit:
        form, slots = "", 0
        position = 0
        readers: dict[str, Callable[[_Slots], str]] = {}
        writers: list[Callable[[str], list[str]]] = []
        in_order = True
        for part in parts(record):
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
        self, part: Part, shape: Shape
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
        self, part: Part, shape: Shape
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
            packer = self.bind(bits_packer(field, child))
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
        self, field: Field, shape: Shape, whole: str, shift: int, mask: int
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


class Part:
    """A run of bytes in a record: a member, bit fields that share bytes, an anonymous union."""

    def __init__(
        self, kind: str, offset: int, size: int, fields: list[Field], union: Record | None = None
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.fields = fields
        self.union = union


def parts(record: Record, base: int = 0) -> list[Part]:
    """Split a struct into parts, in the order of their offsets."""
    found: list[Part] = []
    for field in record.fields:
        offset = base + field.offset
        if field.bit_size:
            stop = -(-(8 * offset + field.bit_offset + field.bit_size) // 8)
            moved = msgspec.structs.replace(field, offset=offset)
            found.append(Part("bits", offset, stop - offset, [moved]))
        elif not field.name and isinstance(field.type, Record):
            if field.type.is_union:
                found.append(Part("union", offset, field.type.size, [], field.type))
            else:
                found.extend(parts(field.type, offset))
        else:
            found.append(Part("field", offset, field.type.size, [field]))
    # Members of no size are nowhere: they come first.
    found.sort(key=lambda part: (part.size > 0, part.offset))
    merged: list[Part] = []
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


# --- unions ------------------------------------------------------------------------------


def _slice_codec(field: Field, shape: Shape) -> tuple[Callable[[Any], Any], Callable[[Any], bytes]]:
    """Return (reader, writer) of one member in the bytes of its union."""
    if field.bit_size:
        stop = field.offset + -(-(field.bit_offset + field.bit_size) // 8)
        holder = Shape()
        holder.cls = _Single
        holder.children[field.name] = shape
        holder.attributes[field.name] = "value"
        compiled = compile_codec(Record("", stop, 1, (field,)), holder)
        return (
            lambda raw: compiled.unpack(raw).value,
            lambda value: compiled.pack(_Single(value)),
        )
    compiled = compile_codec(field.type, shape)
    offset = field.offset
    return (
        lambda raw: compiled.unpack(raw, offset),
        lambda value: bytes(offset) + compiled.pack(value),
    )


class _Single(msgspec.Struct):
    value: Any


class _Member:
    """One member of a union, or of an anonymous struct in it."""

    def __init__(self, field: Field, shape: Shape, attribute: str) -> None:
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


def _union_choices(union: Record, shape: Shape) -> list[_Member]:
    return [
        _Member(leaf, shape.children[leaf.name], shape.attributes[leaf.name])
        for leaf in members(union)
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
    again = member.read(member.write(item).ljust(len(raw), NUL))
    return bool(again == found) or repr(again) == repr(found)


def _union(union: Record, shape: Shape) -> tuple[Callable[[Any], Any], Callable[[Any], bytes]]:
    members = _union_choices(union, shape)
    pairs = [(member.attribute, member.read) for member in members]
    cls = shape.cls

    def read(raw: Any) -> Any:
        return cls(**{attribute: reader(raw) for attribute, reader in pairs})

    return read, _union_writer(union, members)


def _anonymous_union(
    union: Record, shape: Shape
) -> tuple[dict[str, Callable[[Any], Any]], Callable[[Any], bytes]]:
    members = _union_choices(union, shape)
    return {member.name: member.read for member in members}, _union_writer(union, members)


# --- compiling ----------------------------------------------------------------------------


class Owner:
    """What values are the `part` of, such as the `key` of "hash map 'tasks'"; empty: nothing."""

    def __init__(self) -> None:
        self.name = self.part = ""

    def said(self, error: SchemaError) -> SchemaError:
        """Return the error with that before its message, unless nothing is set."""
        if not self.name:
            return error
        field = error.facts.get("field")
        inside = isinstance(field, str) and field and error.message.startswith(f"{field}: ")
        joint = ": " if not inside else "" if str(field)[0] == "[" else "."
        message = f"{self.name}: {self.part}{joint}{error.message}"
        return type(error)(message, errno=error.errno, **error.facts)


class Compiled(msgspec.Struct, frozen=True):
    """The functions made for one type, and the source that they are made of.

    Attributes
    ----------
    form : struct.Struct
    pack, unpack, many : callable
        Of one value; `many` makes a list of what `form` unpacked.
    names : dict
        What the source refers to.
    target, returned : str
        What the unpacked slots are assigned to, and the statements that return the value then.
    arguments : callable
        Gives the arguments of `form.pack` for an expression of the value.
    explain : callable
        `explain(value, error)` packs with more patience, or says what does not fit.
    owner : Owner
        Whose values these are, for what it says.
    """

    form: struct.Struct
    pack: Callable[[Any], bytes]
    unpack: Callable[..., Any]
    many: Callable[[Iterable[tuple[Any, ...]]], list[Any]]
    names: dict[str, Any]
    target: str
    returned: str
    arguments: Callable[[str], str]
    explain: Callable[[Any, Exception], bytes]
    owner: Owner


_SOURCE: Final = """\
def unpack(buffer, offset=0):
    try:
        {target} = read(buffer, offset)
    except Exception as error:
        raise short(buffer, offset, error) from None
{returned}

def pack(value):
    try:
        return write({arguments})
    except Exception as error:
        return explain(value, error)

def many(rows):
    return {many}
"""


def compile_codec(ctype: CType, shape: Shape) -> Compiled:
    compiler = _Compiler()
    unit = compiler.unit(ctype, shape)
    form = struct.Struct("=" + unit.form)
    owner = Owner()
    if form.size != ctype.size:
        refuse(f"{spell(ctype)}: members of {form.size} bytes in a type of {ctype.size}")

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

    returned = f"    return {value}"

    def short(buffer: Any, offset: Any, error: Exception) -> Exception:
        return _short(form.size, spell(ctype), buffer, offset, error)

    def explain(value: Any, error: Exception) -> bytes:
        try:
            fitted = fit(ctype, shape, value, "")
            return form.pack(*arguments_of(fitted))
        except SchemaError as found:
            raise owner.said(found) from None
        except Exception:
            said = f"expected a value of type {spell(ctype)}, found one that does not fit: {error}"
            raise owner.said(SchemaError(said)) from None

    def arguments(value: str) -> str:
        return ", ".join(unit.write(value))

    names = {
        **compiler.names,
        "read": form.unpack_from,
        "write": form.pack,
        "short": short,
        "explain": explain,
        "starmap": itertools.starmap,
    }
    source = _SOURCE.format(
        target=target,
        returned=returned,
        arguments=arguments("value"),
        many=many,
    )
    source += f"\ndef arguments_of(value):\n    return [{arguments('value')}]\n"
    exec(compile(source, f"<codec of {class_name(spell(ctype))}>", "exec"), names)
    arguments_of = names["arguments_of"]
    return Compiled(
        form,
        names["pack"],
        names["unpack"],
        names["many"],
        compiler.names,
        target,
        returned,
        arguments,
        explain,
        owner,
    )


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
