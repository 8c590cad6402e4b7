"""64-bit words of an arena, and the integers that they are."""

from __future__ import annotations

from arenads.errors import SchemaError
from arenads.schema import Scalar

__all__ = ["from_word", "to_word", "wrapped"]

_MASK = (1 << 64) - 1


def to_word(value: int, scalar: Scalar) -> int:
    """Return the 64 bits of an integer, checked against its type."""
    low, high = (-(1 << 63), (1 << 63) - 1) if scalar.name[0] == "i" else (0, _MASK)
    if not isinstance(value, int) or not low <= value <= high:
        raise SchemaError(f"expected a {scalar.name} from {low} to {high}, found {value!r}")
    return value & _MASK


def wrapped(amount: int) -> int:
    """Return what to add for an amount that may be negative, modulo 2**64."""
    if not isinstance(amount, int):
        raise SchemaError(f"expected an integer to add, found {amount!r}")
    return amount & _MASK


def from_word(word: int, scalar: Scalar) -> int:
    """Return the integer that 64 bits are in its type."""
    return word - (1 << 64) if scalar.name[0] == "i" and word >> 63 else word
