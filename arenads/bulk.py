"""Many keys, values or indexes in one call: from arrays and sequences to bytes, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from arenads._core import ffi
from arenads.array_rules import enforce, rules_of
from arenads.codec import Codec
from arenads.errors import ArenadsError, SchemaError
from arenads.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy

    NDArray: TypeAlias = numpy.ndarray[Any, Any]

__all__ = [
    "PIECE",
    "Packed",
    "is_array",
    "not_all",
    "pack_many",
    "parts_of",
    "same_length",
    "unpacked_array",
]

# Records in one call of the C core: signals and a close are seen in between.
PIECE = 1 << 16


class Packed:
    """Records as bytes, one after the other; `memory` keeps them alive, `pointer` is for C."""

    def __init__(self, memory: Any, count: int, *, array: bool) -> None:
        self.memory = memory
        self.pointer = ffi.from_buffer(memory)
        self.count = count
        self.array = array


def is_array(values: object) -> bool:
    """Whether this is a NumPy array; does not import NumPy.

    Raises
    ------
    SchemaError
        It is a masked array: no arena has a place for what a mask says.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(values, numpy.ndarray):
        return False
    masked = sys.modules.get("numpy.ma")  # NumPy imports it when it is needed
    if masked is not None and isinstance(values, masked.MaskedArray):
        raise SchemaError(
            "expected an array without a mask, found a masked one. Take `compressed()` of it, or"
            " `filled(value)`."
        )
    return True


def pack_many(codec: Codec[Any], values: Any, what: str) -> Packed:
    """Return many values as records; `what` they are for messages.

    >>> import arenads
    >>> pack_many(Codec(arenads.u16), [1, 2], "keys").memory
    b'\\x01\\x00\\x02\\x00'

    Raises
    ------
    SchemaError
        One does not fit, or an array is of a dtype from which nothing safe can be made.
    """
    if is_array(values):
        array = _fitted(codec, values, what)
        return Packed(array, len(array), array=True)
    if isinstance(values, str | bytes | bytearray) or not isinstance(values, Iterable):
        raise SchemaError(f"{what}: expected an array or a sequence, found {values!r:.80}")
    packed = [codec.pack(value) for value in values]
    return Packed(b"".join(packed), len(packed), array=False)


def _fitted(codec: Codec[Any], array: NDArray, what: str) -> NDArray:
    """Return an array of the codec's own dtype, contiguous."""
    wanted = rules_of(codec).dtype
    tail = wanted.shape
    if array.ndim != 1 + len(tail) or array.shape[1:] != tail:
        words = ", ".join(map(str, ("n", *tail)))
        raise SchemaError(
            f"{what}: expected an array of shape ({words}), found {array.shape}",
            expected=("n", *tail),
            found=array.shape,
        )
    if array.dtype != wanted.base:
        array = _converted(array, wanted.base, what)
    if not array.flags.c_contiguous:
        array = array.copy()
    return enforce(codec, array, what)


def _converted(array: NDArray, wanted: numpy.dtype[Any], what: str) -> NDArray:
    """Return an array in another dtype of the same values, if there is one."""
    import numpy

    found = array.dtype
    if wanted.kind in "iu" and found.kind in "iu":
        limits = numpy.iinfo(wanted)
        for extreme in (array.min(), array.max()) if array.size else ():
            if not limits.min <= int(extreme) <= limits.max:
                raise SchemaError(
                    f"{what}: expected integers from {limits.min} to {limits.max} ({wanted}), found"
                    f" {int(extreme)} in an array of dtype {found}",
                    expected=wanted,
                    found=found,
                )
        return array.astype(wanted)
    if wanted.kind == found.kind == "S" and found.itemsize <= wanted.itemsize:
        return array.astype(wanted)
    if wanted.names is not None and wanted.names == found.names:
        # The same members elsewhere: as in a packed record. Not where they overlap, as in unions.
        members = [(wanted[name], found[name]) for name in wanted.names]
        if all(one == other for one, other in members) and not _overlap(wanted):
            moved = numpy.zeros(array.shape, wanted)
            for name in wanted.names:
                moved[name] = array[name]
            return moved
    raise SchemaError(
        f"{what}: expected an array of dtype {wanted}, found one of dtype {found}. Convert it with"
        " astype, or pass a list.",
        expected=wanted,
        found=found,
    )


def _overlap(dtype: numpy.dtype[Any]) -> bool:
    assert dtype.fields is not None
    return sum(field[0].itemsize for field in dtype.fields.values()) > dtype.itemsize


def parts_of(pairs: Any, name: str) -> tuple[Any, Any]:
    """Return the keys, which snapshots call so, and the values of what has both."""
    if isinstance(pairs, Snapshot) and "numpy" in sys.modules:
        pairs = pairs.array
    if is_array(pairs) and pairs.dtype.names == (name, "value"):
        return pairs[name], pairs["value"]
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    try:
        keys, values = [], []
        for key, value in pairs:
            keys.append(key)
            values.append(value)
    except (TypeError, ValueError):
        raise SchemaError(
            f"expected {name}s and values, a mapping, or an iterable of pairs, found"
            f" {type(pairs).__name__}"
        ) from None
    return keys, values


def unpacked_array(codec: Codec[Any], memory: Any, count: int) -> NDArray:
    """Return records as an array on the same memory."""
    import numpy

    dtype = rules_of(codec).dtype
    if not count:
        return numpy.empty((0, *dtype.shape), dtype.base)
    return numpy.frombuffer(memory, dtype.base).reshape(count, *dtype.shape)


def same_length(owner: str, keys: Packed, values: Packed, what: str) -> None:
    """Raise SchemaError if there are not as many values as keys."""
    if keys.count != values.count:
        raise SchemaError(
            f"{owner}: expected as many values as {what}: found {keys.count} {what} and"
            f" {values.count} values",
            expected=keys.count,
            found=values.count,
        )


def not_all(error: ArenadsError, done: int, count: int, what: str) -> None:
    """Add to an error that ended a batch how far it came: as `done`, and in words."""
    error.facts["done"] = done
    error.message += f" Done before: {done} of {count} {what}; they stay done."
