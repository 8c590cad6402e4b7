"""64-bit words of an arena, and the integers that they are."""

from __future__ import annotations

from arenads.errors import SchemaError
from arenads.schema import Scalar

__all__ = ["from_word", "keep_word", "to_word", "wrapped"]

# What paths mean is found out once for each, but for no more than this many of a large array.
_MOST_PATHS = 1024

_MASK = (1 << 64) - 1
_HALF = (1 << 63) - 1


def to_word(value: int, signed: bool) -> int:
    """Return the 64 bits of an integer, checked against its type."""
    low, high = (-_HALF - 1, _HALF) if signed else (0, _MASK)
    if not isinstance(value, int) or not low <= value <= high:
        name = "i64" if signed else "u64"
        raise SchemaError(f"expected a {name} from {low} to {high}, found {value!r}")
    return value & _MASK


def wrapped(amount: int) -> int:
    """Return what to add for an amount that may be negative, modulo 2**64."""
    if not isinstance(amount, int):
        raise SchemaError(f"expected an integer to add, found {amount!r}")
    return amount & _MASK


def from_word(word: int, signed: bool) -> int:
    """Return the integer that 64 bits are in its type."""
    return word - (1 << 64) if signed and word > _HALF else word


def keep_word(
    words: dict[str, tuple[int, bool]], path: str, offset: int, scalar: Scalar
) -> tuple[int, bool]:
    """Note what a path means, for the next time: the offset, and whether it is signed."""
    if len(words) >= _MOST_PATHS:
        words.clear()
    word = words[path] = offset, scalar.name[0] == "i"
    return word
