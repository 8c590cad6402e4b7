"""The classes of views: made for a schema, one for each type in it, and kept."""

from __future__ import annotations

import functools
import operator
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

from arenads._core import lib
from arenads.access import (
    Access,
    Getter,
    Misfit,
    bits_access,
    fail,
    misfit_of,
    misplaced,
    reader,
    scalar_access,
    text_access,
    write_bytes,
)
from arenads.annotations import described, pointed_to
from arenads.codec import Codec, field_of
from arenads.compiled import compile_codec
from arenads.errors import AddressError, ArenadsError, RangeError, SchemaError
from arenads.fused import fuse_copy
from arenads.node import NODE_RECORD, NODE_SIZE, nodes_in
from arenads.packers import enforcer
from arenads.python_class import generated
from arenads.schema import (
    CTYPES,
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
    members,
    refuse,
    schema_within,
    spell,
)
from arenads.shape import Shape
from arenads.view import LAST_ADDRESS, ArrayView, View, VoidView, make_view
from arenads.words import keep_word

__all__ = ["ArrayKind", "Kind", "view_class"]

# Members and elements that repr shows.
_SHOWN: Final = 16

_new = object.__new__
_FOLLOW, _PLACE = lib.core_view_follow, lib.core_view_place
_READ_WORD, _WRITE_WORD = lib.core_view_u64, lib.core_view_set_u64


def view_class(type_: object, frozen: bool = False) -> type[View[Any]]:
    """Return the class of views for a class with C types, an annotation, a schema or a C type.

    `frozen` says which class copies of a schema's records have, as for `Codec`.
    """
    if isinstance(type_, type) and issubclass(type_, View) and hasattr(type_, "__view__"):
        return type_
    if isinstance(type_, CTYPES):
        type_ = Schema(type_)
    if isinstance(type_, Schema):
        return _class_of_schema(type_, frozen)
    try:
        return _class_of_hint(type_)
    except TypeError as error:
        if isinstance(error, ArenadsError):
            raise
        # An annotation that cannot be hashed.
        return _class_of_hint.__wrapped__(type_)


@functools.lru_cache(maxsize=256)
def _class_of_schema(schema: Schema, frozen: bool) -> type[View[Any]]:
    shape = generated(check_schema(schema), frozen)
    return Kinds(schema, {}, frozen).first(shape)


@functools.lru_cache(maxsize=256)
def _class_of_hint(hint: object) -> type[View[Any]]:
    schema, shape = described(hint)
    return Kinds(schema, pointed_to(hint), False).first(shape)


class Kinds:
    """The view classes of one schema: of its type, and of what pointers in it lead to."""

    def __init__(
        self, schema: Schema, classes: Mapping[str, tuple[Record, Shape]], frozen: bool
    ) -> None:
        self.type = schema.type
        self.frozen = frozen
        self.classes = classes
        self.records = {record.name: record for record in schema.records}
        if isinstance(schema.type, Record) and schema.type.name:
            self.records[schema.type.name] = schema.type
        self._made: dict[tuple[CType, int], type[View[Any]]] = {}
        self._targets: dict[str, type[View[Any]]] = {}

    def schema(self, ctype: CType) -> Schema:
        """Return a type with the records that its pointers lead to, and theirs, and so on."""
        return schema_within(ctype, self.records)

    def first(self, shape: Shape) -> type[View[Any]]:
        """Return the view class of the schema's own type, given its shape."""
        cls = self.kind(self.type, shape)
        if isinstance(self.type, Record) and self.type.name:
            self._targets[self.type.name] = cls
        return cls

    def kind(self, ctype: CType, shape: Shape) -> type[View[Any]]:
        """Return the view class of a type."""
        key = ctype, id(shape)
        cls = self._made.get(key)
        if cls is None:
            cls = self._made.setdefault(key, _make_class(self, ctype, shape))
        return cls

    def target(self, name: str) -> type[View[Any]]:
        """Return the view class of what a pointer names."""
        cls = self._targets.get(name)
        if cls is None:
            cls = self._targets.setdefault(name, self._find_target(name))
        return cls

    def _find_target(self, name: str) -> type[View[Any]]:
        if name in self.classes:
            return self.kind(*self.classes[name])
        ctype = self.records.get(name) or (_type_named(name) if name else None)
        if ctype is None or not ctype.size:
            kind = Kind(self, BytesType(0), Shape())
            kind.name, kind.unknown = name or "void", True
            return type("void", (VoidView,), {"__slots__": (), "__view__": kind})
        return self.kind(ctype, generated(self.schema(ctype), self.frozen))

    def named(self, type_: object) -> type[View[Any]]:
        """Return the view class of a type, which may be the name of a record."""
        if not isinstance(type_, str):
            return view_class(type_, self.frozen)
        cls = self.target(type_)
        if issubclass(cls, VoidView):
            known = ", ".join(self.records) or "none"
            refuse(f"expected a type or the name of a record ({known}), found {type_!r}")
        return cls

    # --- members ------------------------------------------------------------------------

    def access(self, part: Field | CType, shape: Shape, path: str) -> Access:
        """Return how a member, or an element of an array, is read and written."""
        misfit = misfit_of(part, shape, path)
        ctype = part.type if isinstance(part, Field) else part
        if isinstance(part, Field) and part.bit_size:
            return bits_access(part, shape, misfit)
        if isinstance(ctype, (Scalar, EnumType)):
            return scalar_access(ctype, shape, misfit)
        if isinstance(ctype, (BytesType, StrType)):
            return text_access(ctype, shape, misfit)
        if isinstance(ctype, PointerType):
            return self._pointer(ctype, shape, misfit, path)
        return self._part(self.kind(ctype, shape))

    def _part(self, cls: type[View[Any]]) -> Access:
        """Return the access to a record or an array within another."""

        def load(view: Any, at: int) -> View[Any]:
            return make_view(view.__arena__, view.__core__, view.__address__ + at, cls)

        def getter(at: int) -> Getter:
            def get(view: Any) -> View[Any]:
                inner = _new(cls)
                inner.__arena__ = view.__arena__
                inner.__core__ = view.__core__
                inner.__address__ = view.__address__ + at
                return inner

            return get

        kind = cls.__view__
        return Access(load, kind.ready, kind.put, getter, kind.write)

    def _pointer(self, ctype: PointerType, shape: Shape, misfit: Misfit, path: str) -> Access:
        # Found at the first use: a target may be of the type whose class is being made.
        target = functools.partial(self.target, ctype.target)
        enforce = enforcer(shape.checks) if shape.checks else None

        def getter(at: int) -> Getter:
            cls: Any = None
            size = align = 0

            def get(view: Any) -> View[Any] | None:
                nonlocal cls, size, align
                if not size:
                    cls = target()
                    align = cls.__view__.align  # before the size, which other threads look at
                    size = cls.__view__.size
                    if not size:
                        return _unknown(view, at, cls)
                address = _FOLLOW(view.__core__, view.__address__, at, size, align)
                if address > 0:
                    to = _new(cls)
                    to.__arena__ = view.__arena__
                    to.__core__ = view.__core__
                    to.__address__ = address
                    return cast("View[Any]", to)
                if address:
                    _misled(view, at, path, cls, address)
                return None

            return get

        def load(view: Any, at: int) -> Any:
            return getter(at)(view)

        def ready(view: Any, value: Any) -> int:
            number = value
            if value is None or isinstance(value, View):
                number = _address_for(view, value, target(), path)
            try:
                number = operator.index(number if enforce is None else enforce(number))
                if not 0 <= number <= LAST_ADDRESS:
                    raise ValueError
            except Exception as error:
                misfit(number, error)
            kind = target().__view__
            if number and kind.size:
                if _PLACE(view.__core__, number, kind.size, kind.align) < 0:
                    raise misplaced(view.__arena__, number, kind.size, kind.align, kind.name)
            return number

        def put(view: Any, at: int, number: int) -> None:
            code = _WRITE_WORD(view.__core__, view.__address__, at, number)
            if code:
                fail(view, code, at)

        return Access(load, ready, put, getter)


def _unknown(view: Any, at: int, cls: type[View[Any]]) -> View[Any] | None:
    """Return a view of an address behind which nothing is known to be."""
    address = _raw(view, at)
    return make_view(view.__arena__, view.__core__, address, cls) if address else None


def _raw(view: Any, at: int) -> int:
    value = _READ_WORD(view.__core__, view.__address__, at)
    code = lib.core_view_check(view.__core__, view.__address__, at, 8)
    if code:
        fail(view, code, at)
    return int(value)


def _misled(view: Any, at: int, path: str, cls: type[View[Any]], code: int) -> NoReturn:
    """Raise that a pointer leads nowhere."""
    view.__arena__._open()
    if code != lib.ADS_INVALID:
        fail(view, code, at)
    kind = cls.__view__
    found_in = f"the pointer {path!r} at {view.__address__ + at:#x}: "
    raise misplaced(view.__arena__, _raw(view, at), kind.size, kind.align, kind.name, found_in)


def _address_for(view: Any, value: View[Any] | None, cls: type[View[Any]], path: str) -> int:
    """Return the address of a view that a pointer is to lead to."""
    if value is None:
        return 0
    if value.__core__ is not view.__core__:
        refuse(f"{path}: expected a view of the same arena, found one of another")
    known = not issubclass(cls, VoidView) and not isinstance(value, VoidView)
    if known and not cls.__view__.same(value.__view__):
        refuse(
            f"{path}: expected a view of {cls.__view__.name}, found one of {value.__view__.name};"
            " `cast` it, or assign its address"
        )
    return value.__address__


class Kind:
    """What a view class knows of its type."""

    def __init__(self, kinds: Kinds, ctype: CType, shape: Shape) -> None:
        self.kinds = kinds
        self.ctype = ctype
        self.shape = shape
        self.name = spell(ctype)
        self.size = ctype.size
        self.unknown = False
        # No access is wider than 8 bytes, and nothing in an arena is aligned to more.
        self.align = min(max(ctype.align, 1), 8)
        # By path, see `find_word`.
        self.words: dict[str, tuple[int, bool]] = {}
        self.writable_words: dict[str, tuple[int, bool]] = {}

    @functools.cached_property
    def schema(self) -> Schema:
        return self.kinds.schema(self.ctype)

    @functools.cached_property
    def codec(self) -> Any:
        return compile_codec(self.ctype, self.shape)

    @functools.cached_property
    def read(self) -> Callable[[Any, int], bytes]:
        self._check_known()
        return reader(self.size)

    @functools.cached_property
    def copy(self) -> Callable[[Any], Any]:
        self._check_known()
        return fuse_copy(self.codec, core_read=lib.core_view_read, failed=fail)

    def _check_known(self) -> None:
        if self.unknown:
            refuse(f"what {self.name} is, is not known here: `cast` the view to a type")

    def same(self, other: Kind) -> bool:
        """Whether two views of one address are of the same type."""
        return self is other or (self.ctype == other.ctype and self.name == other.name)

    def no_member(self, name: str) -> str:
        if isinstance(self.ctype, Record):
            have = ", ".join(self.shape.attributes.values())
            return f"{self.name} has no member {name!r}; it has {have}"
        if self.unknown:
            return (
                f"what {self.name} is, is not known here, so it has no {name!r}: `cast` the view"
                " to a type first"
            )
        return f"a view of {self.name} has no attribute {name!r}"

    # --- writing whole --------------------------------------------------------------------

    @functools.cached_property
    def _nodes(self) -> list[int]:
        """Offsets of the nodes of intrusive lists, which only those change."""
        return sorted(offset for _path, offset in nodes_in(self.ctype, "", 0))

    def write(self, view: Any, at: int, value: Any) -> None:
        """Write a value of the type `at` bytes behind the address of a view."""
        self.put(view, at, self.ready(view, value))

    def ready(self, view: Any, value: Any) -> bytes:
        """Return the bytes of a value; nothing is written."""
        if self.name == NODE_RECORD:
            refuse(_NODE_REFUSAL)
        if isinstance(value, View):
            kind = value.__view__
            if not self.same(kind):
                refuse(f"expected a value of type {self.name}, found a view of {kind.name}")
            raw: bytes = kind.read(value, 0)
            return raw
        packed: bytes = self.codec.pack(value)
        return packed

    def put(self, view: Any, at: int, raw: bytes) -> None:
        """Write the bytes of a value, all but the nodes of intrusive lists."""
        start = 0
        for node in self._nodes:
            write_bytes(view, at + start, raw[start:node])
            start = node + NODE_SIZE
        write_bytes(view, at + start, raw[start:])

    # --- words ----------------------------------------------------------------------------

    def find_word(self, field: object, words: dict[str, tuple[int, bool]]) -> tuple[int, bool]:
        """Return the offset of the 64-bit integer that a path names, and whether it is signed.

        It is noted in `words`, which is `self.words` or, for changing it, `self.writable_words`.
        """
        path = f"[{field}]" if isinstance(field, int) else field
        if not isinstance(path, str):
            refuse(f"expected a member such as 'name', 'a.b' or 'a[2]', found {field!r}")
        known = words.get(path)
        if known is not None:
            return known
        offset, scalar = field_of(self.schema, path)
        if scalar.size != 8 or scalar.name[0] not in "ui":
            raise SchemaError(
                f"atomic access needs an aligned 64-bit integer: {path or 'the value'!r} is a"
                f" {scalar.name}"
            )
        if words is self.writable_words:
            if any(node <= offset < node + NODE_SIZE for node in self._nodes):
                refuse(_NODE_REFUSAL)
        return keep_word(words, path, offset, scalar)

    # --- showing --------------------------------------------------------------------------

    @functools.cached_property
    def _plain_codec(self) -> Codec[Any]:
        # Not of the user's class, whose own code would run.
        return Codec(Schema(self.ctype))

    def shown(self, view: Any) -> str:
        """Return how a view is shown; never raises."""
        where = f"{self.name} at {view.__address__:#x}"
        if view.__arena__.closed:
            return f"<{where}, arena closed>"
        if not self.size:
            return f"<{where}>"
        try:
            text = _shown(self.ctype, self._plain_codec.unpack(self.read(view, 0)))
        except Exception as error:
            return f"<{where}, unreadable: {error}>"
        return f"<{where}: {text[1:-1] if isinstance(self.ctype, Record) else text}>"


class ArrayKind(Kind):
    """What the view class of an array knows."""

    def __init__(self, kinds: Kinds, ctype: ArrayType, shape: Shape) -> None:
        super().__init__(kinds, ctype, shape)
        self.count = ctype.count
        # Where the elements are, by index or by slice.
        self.places: Any = range(0, ctype.size, ctype.element.size)
        # Elements that are the same in a copy as in the view.
        self.plain = isinstance(ctype.element, (Scalar, EnumType, StrType, BytesType))
        element = kinds.access(ctype.element, shape.element or Shape(), "element")
        self.load, self.store = element.load, element.store
        self.element = element

    def ready_all(self, view: Any, at: range, values: list[Any]) -> list[Any]:
        """Return what `element.put` writes at places; nothing is written."""
        ready, packed = self.element.ready, []
        for place, value in zip(at, values, strict=True):
            try:
                packed.append(ready(view, value))
            except (SchemaError, AddressError) as error:
                raise _at_index(error, place // self.places.step) from None
        return packed

    def refuse(self, index: Any) -> NoReturn:
        """Raise what is wrong with an index."""
        if not hasattr(index, "__index__"):
            refuse(f"expected an index or a slice, found {index!r}")
        raise RangeError(
            f"index {index} is out of range: {self.name} has {self.count} elements",
            index=index,
            max_entries=self.count,
        )


def _at_index(error: ArenadsError, index: int) -> ArenadsError:
    """Return the error of an element with its index in place of the word."""
    facts = error.facts
    field = str(facts.get("field") or "").removeprefix("element")
    message = error.message.removeprefix("element").removeprefix(": ")
    inside = field and message.startswith(f"{field}: ")
    joint = ": " if not inside else "" if field[0] == "[" else "."
    if "field" in facts:
        joined = "" if not field or field[0] == "[" else "."
        facts = {**facts, "field": f"[{index}]{joined}{field}"}
    return type(error)(f"[{index}]{joint}{message}", errno=error.errno, **facts)


def _shown(ctype: CType, value: Any) -> str:
    if isinstance(ctype, PointerType):
        return f"{value:#x}" if value else "None"
    if isinstance(ctype, EnumType):
        return str(getattr(value, "name", value))
    if isinstance(ctype, Record):
        leaves = list(members(ctype))
        attributes = value.__struct_fields__
        parts = [
            f"{attribute}={_shown(leaf.type, getattr(value, attribute))}"
            for leaf, attribute in zip(leaves[:_SHOWN], attributes, strict=False)
        ]
        return "{" + ", ".join(parts + ["..."] * (len(leaves) > _SHOWN)) + "}"
    if isinstance(ctype, ArrayType):
        parts = [_shown(ctype.element, item) for item in value[:_SHOWN]]
        return "[" + ", ".join(parts + ["..."] * (len(value) > _SHOWN)) + "]"
    return _repr.repr(value)


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 64

# --- making view classes ----------------------------------------------------------------------

_NODE_REFUSAL: Final = (
    "the node of a record is changed by its intrusive list only: use push, insert and remove of"
    " the list"
)


def _make_class(kinds: Kinds, ctype: CType, shape: Shape) -> type[View[Any]]:
    if isinstance(ctype, ArrayType):
        kind: Kind = ArrayKind(kinds, ctype, shape)
    else:
        kind = Kind(kinds, ctype, shape)
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": __name__,
        "__doc__": f"View of {kind.name}, {kind.size} bytes.",
        "__view__": kind,
    }
    base: type[View[Any]] = View
    if isinstance(ctype, ArrayType):
        base = ArrayView
    elif isinstance(ctype, Record):
        for leaf in members(ctype):
            attribute = shape.attributes[leaf.name]
            if attribute.startswith("__"):
                refuse(f"{kind.name}: a view cannot have an attribute {attribute!r}")
            access = kinds.access(leaf, shape.children[leaf.name], leaf.name)
            setter = access.setter(leaf.offset)
            if ctype.name == NODE_RECORD:
                setter = _refuse_node
            namespace[attribute] = property(
                access.getter(leaf.offset), setter, doc=f"{spell(leaf.type)}, at {leaf.offset}"
            )
    else:
        access = kinds.access(ctype, shape, "value")
        namespace["value"] = property(access.getter(0), access.setter(0), doc=kind.name)
    return type(class_name(kind.name), (base,), namespace)


def _refuse_node(view: Any, value: Any) -> NoReturn:
    refuse(_NODE_REFUSAL)


def _type_named(name: str) -> CType | None:
    """Return the type without members that a pointer names, in C's words or ours.

    >>> _type_named("unsigned int"), spell(_type_named("u32[2][8]")), spell(_type_named("node *"))
    (Scalar(name='u32'), 'u32[2][8]', 'node *')
    """
    if name.endswith("*"):
        inner = name[:-1].rstrip().removeprefix("struct ").removeprefix("union ")
        return PointerType("" if inner == "void" else inner)
    match = _ARRAY.match(name)
    if match is None:
        return None
    ctype: CType | None = _scalar_named(match[1].strip())
    counts = [int(count) for count in re.findall(r"\d+", match[2])]
    if counts and ctype in (Scalar("char"), Scalar("u8")):
        ctype = (StrType if ctype == Scalar("char") else BytesType)(counts.pop())
    for count in reversed(counts):
        ctype = ctype and ArrayType(ctype, count)
    return ctype


_ARRAY: Final = re.compile(r"([\w ]+)((?:\[\d{1,6}\])*)\Z")
_OTHERS: Final = {"float": "f32", "double": "f64", "_Bool": "bool", "bool": "bool"}


def _scalar_named(name: str) -> Scalar | None:
    if name in _OTHERS or _FIXED.match(name):
        return Scalar(_OTHERS.get(name, name))
    words = name.split()
    if not words or set(words) - {"signed", "unsigned", "char", "short", "int", "long"}:
        return None
    if words == ["char"]:
        return Scalar("char")
    bits = 8 if "char" in words else 16 if "short" in words else 64 if "long" in words else 32
    return Scalar(f"{'u' if 'unsigned' in words else 'i'}{bits}")


_FIXED: Final = re.compile(r"(?:[ui](?:8|16|32|64)|f32|f64|char)\Z")
