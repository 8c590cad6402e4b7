"""What `Codec.pack` enforces of a value, enforced of all records of a NumPy array at once.

>>> import msgspec, numpy
>>> from typing import Annotated
>>> from arenads import u32
>>> codec = Codec(Annotated[u32, msgspec.Meta(lt=10)])
>>> enforce(codec, numpy.array([9, 10], "u4"), "values")
Traceback (most recent call last):
...
arenads.errors.SchemaError: values, index 1: expected a value less than 10, found 10
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import msgspec

from arenads.annotations import _has_length, _is_multiple
from arenads.codec import Codec
from arenads.errors import SchemaError
from arenads.numpy_dtype import numpy_dtype
from arenads.packers import bit_range
from arenads.schema import (
    ArrayType,
    BytesType,
    CType,
    Field,
    Record,
    Scalar,
    Schema,
    StrType,
    member_bits,
    spell_path,
)
from arenads.shape import Check, Shape

if TYPE_CHECKING:
    import numpy

    NDArray: TypeAlias = numpy.ndarray[Any, Any]

__all__ = ["enforce", "rules_of"]


class Leaf(msgspec.Struct, frozen=True):
    """A member that is no record; `counts` and `strides` are of the arrays around it."""

    path: str
    offset: int
    counts: tuple[int, ...]
    strides: tuple[int, ...]
    field: Field
    checks: tuple[Check, ...]


class Rules(msgspec.Struct, frozen=True):
    """What there is to do for arrays of a codec: for most, nothing but to compare the dtype."""

    dtype: Any  # as `numpy_dtype` gives it, which takes longer than to store a hundred records
    bits: bytes  # those of members, if there are others
    leaves: tuple[Leaf, ...]
    singly: bool  # a constraint on records or arrays: each record is packed


def rules_of(codec: Codec[Any]) -> Rules:
    """Return the rules of a codec, found once."""
    rules: Rules | None = codec.array_rules
    if rules is None:
        bits = member_bits(codec.schema)
        found = list(_leaves(codec.schema.type, codec.shape, Leaf("", 0, (), (), _WHOLE, ())))
        codec.array_rules = rules = Rules(
            numpy_dtype(codec.schema),
            b"" if bits.count(0xFF) == len(bits) else bits,
            tuple(leaf for leaf in found if _has_rules(leaf)),
            any(_is_compound(leaf) for leaf in found),
        )
    return rules


_WHOLE = Field("", Scalar("u8"), 0)


def _has_rules(leaf: Leaf) -> bool:
    ctype = leaf.field.type
    text = isinstance(ctype, StrType) or (isinstance(ctype, Scalar) and ctype.name == "bool")
    return not _is_compound(leaf) and (bool(leaf.checks) or (text and not leaf.field.bit_size))


def _is_compound(leaf: Leaf) -> bool:
    return isinstance(leaf.field.type, Record | ArrayType)


def _leaves(ctype: CType, shape: Shape, at: Leaf) -> Iterator[Leaf]:
    """Yield the members of a type; records and arrays only if they have constraints."""
    if isinstance(ctype, Record):
        if shape.checks:
            yield msgspec.structs.replace(at, field=Field("", ctype, 0), checks=shape.checks)
        # Which member of a union is meant nobody knows: their bytes are taken as they are.
        for field in () if ctype.is_union else ctype.fields:
            inside = shape.children.get(field.name) if field.name else shape
            if inside is None:
                inside = Shape()
            moved = msgspec.structs.replace(
                at, path=spell_path(at.path, field.name), offset=at.offset + field.offset
            )
            if field.bit_size:
                yield msgspec.structs.replace(moved, field=field, checks=inside.checks)
            elif not field.name:
                # Of an anonymous struct, whose members count as those of the record.
                unchecked = Shape()
                unchecked.children = shape.children
                yield from _leaves(field.type, unchecked, moved)
            else:
                yield from _leaves(field.type, inside, moved)
    elif isinstance(ctype, ArrayType):
        # The length of an array never varies.
        if not all(_passes(check, range(ctype.count)) for check in shape.checks):
            yield msgspec.structs.replace(at, field=Field("", ctype, 0), checks=shape.checks)
        if ctype.count:
            inner = msgspec.structs.replace(
                at,
                path=f"{at.path}[]",
                counts=(*at.counts, ctype.count),
                strides=(*at.strides, ctype.element.size),
            )
            yield from _leaves(ctype.element, shape.element or Shape(), inner)
    elif ctype.size:
        yield msgspec.structs.replace(at, field=Field("", ctype, 0), checks=shape.checks)


def _passes(check: Check, value: Any) -> bool:
    try:
        return bool(check.test(value))
    except Exception:  # as in packing: what cannot be tested does not fit
        return False


def enforce(codec: Codec[Any], array: NDArray, what: str) -> NDArray:
    """Return a contiguous array of the codec's dtype as it may be stored.

    Padding is zero, and so is what lies behind the NUL of a text: it would tell equal keys
    apart. The array itself is returned if there is nothing to change, never changed.

    Raises
    ------
    SchemaError
        A constraint is not kept, or a bool is neither 0 nor 1; `index` and `field` say which.
    """
    rules = rules_of(codec)
    if not len(array) or not (rules.bits or rules.leaves or rules.singly):
        return array
    import numpy

    rows = numpy.ndarray((len(array), codec.size), "u1", array)
    if rules.bits:
        rows = rows & numpy.frombuffer(rules.bits, "u1")
    for leaf in rules.leaves:
        ctype = leaf.field.type
        if isinstance(ctype, StrType):
            rows = _ended(leaf, ctype, rows, rows.base is None)
        elif isinstance(ctype, Scalar) and ctype.name == "bool" and not leaf.field.bit_size:
            octets = _values(leaf, rows, numpy.dtype("u1"))
            _all_fit(leaf, octets, octets <= 1, "a bool", what)
        for check in leaf.checks:
            _enforce_check(leaf, check, rows, what)
    if rules.singly:
        for index, value in enumerate(codec.unpack_many(rows.data, codec.size, 0, len(rows))):
            try:
                codec.pack(value)
            except SchemaError as error:
                error.facts["index"] = index
                error.message = f"{what}, index {index}: {error.message}"
                raise
    return rows.reshape(-1).view(array.dtype).reshape(array.shape)


def _values(leaf: Leaf, rows: NDArray, dtype: numpy.dtype[Any], *more: int) -> NDArray:
    """Return a member of all records, in place; `more` is the shape of what it has inside."""
    import numpy

    inside = tuple(math.prod(more[place + 1 :]) * dtype.itemsize for place in range(len(more)))
    return numpy.ndarray(
        (len(rows), *leaf.counts, *more),
        dtype,
        rows,
        leaf.offset,
        (rows.shape[1], *leaf.strides, *inside),
    )


def _ended(leaf: Leaf, ctype: StrType, rows: NDArray, own: bool) -> NDArray:
    """Return records with nothing but zeros behind the NUL of a text."""
    import numpy

    octets = _values(leaf, rows, numpy.dtype("u1"), ctype.size)
    ends = octets == 0
    if (ends[..., :-1] > ends[..., 1:]).any():  # something lies behind a NUL
        if not own:
            rows = rows.copy()
            octets = _values(leaf, rows, numpy.dtype("u1"), ctype.size)
        octets[numpy.logical_or.accumulate(ends, axis=-1)] = 0
    return rows


def _enforce_check(leaf: Leaf, check: Check, rows: NDArray, what: str) -> None:
    import numpy

    field = leaf.field
    if field.bit_size:
        values = _bit_values(leaf, rows)
    elif isinstance(field.type, BytesType):
        octets = _values(leaf, rows, numpy.dtype("u1"), field.type.size)
        values = octets.view(f"V{field.type.size}")[..., 0]
    else:
        values = _values(leaf, rows, numpy_dtype(Schema(field.type)))
    fine: Any = None
    test = check.test
    if isinstance(test, functools.partial):
        if values.dtype.kind == "S" and test.func is _has_length:
            octets = _values(leaf, rows, numpy.dtype("u1"), field.type.size)
            if not (octets & 0x80).any():  # else characters are not bytes
                length = numpy.strings.str_len(values)
                fine = (test.args[0] <= length) & (length <= test.args[1])
        elif values.dtype.kind in "iuf" and test.func is not _has_length:
            # A step that the dtype does not hold is taken with Python's integers.
            if test.func is not _is_multiple or _holds(values.dtype, test.args[0]):
                if test.func is _is_multiple:
                    fine = values % test.args[0] == 0
                else:
                    fine = test.func(test.args[0], values)
    if fine is None:
        tested = [
            _passes(check, _python_value(leaf, value)) for value in values.reshape(-1).tolist()
        ]
        fine = numpy.array(tested, bool).reshape(values.shape)
    _all_fit(leaf, values, fine, check.words, what)


def _holds(dtype: numpy.dtype[Any], number: Any) -> bool:
    import numpy

    if not isinstance(number, int) or not number:
        return False
    return dtype.kind == "f" or bool(numpy.iinfo(dtype).min <= number <= numpy.iinfo(dtype).max)


def _bit_values(leaf: Leaf, rows: NDArray) -> NDArray:
    """Return a bit field of all records as 64-bit integers; one may lie in nine bytes."""
    import numpy

    field = leaf.field
    size = -(-(field.bit_offset + field.bit_size) // 8)
    octets = _values(leaf, rows, numpy.dtype("u1"), size).astype("u8")
    values = octets[..., 0] >> numpy.uint64(field.bit_offset)
    for place in range(1, size):
        values |= octets[..., place] << numpy.uint64(8 * place - field.bit_offset)
    values &= numpy.uint64((1 << field.bit_size) - 1)
    low, _ = bit_range(field)
    if low:
        unused = numpy.uint64(64 - field.bit_size)
        return (values << unused).view("i8") >> numpy.int64(unused)
    return values


def _python_value(leaf: Leaf, value: Any) -> Any:
    text = isinstance(leaf.field.type, StrType)
    return value.decode("utf-8", "surrogateescape") if text else value


def _all_fit(leaf: Leaf, values: NDArray, fine: Any, expected: str, what: str) -> None:
    if not fine.all():
        _misfit(leaf, values, fine, expected, what)


def _misfit(leaf: Leaf, values: NDArray, fine: Any, expected: str, what: str) -> NoReturn:
    import numpy

    index, *inner = (int(each) for each in numpy.argwhere(~fine)[0])
    path = leaf.path
    for each in inner:
        path = path.replace("[]", f"[{each}]", 1)
    found = _python_value(leaf, values[(index, *inner)].item())
    where = f"{what}, index {index}, {path}" if path else f"{what}, index {index}"
    raise SchemaError(
        f"{where}: expected {expected}, found {found!r:.80}",
        index=index,
        field=path,
        expected=expected,
        found=found,
    )
