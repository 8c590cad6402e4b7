"""What the generated source calls when it packs.

These raise anything; `fitting.fit` finds the words for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn, cast

from .schema import EnumType, Field, Scalar
from .shape import Check, Shape

NUL: Final = b"\0"
FLAGS: Final = {False: False, True: True}


def pack_char(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode("ascii")
    if isinstance(value, int):
        return struct.pack("b" if value < 0 else "B", value)
    if not isinstance(value, (bytes, bytearray)) or len(value) != 1:
        raise ValueError
    return bytes(value)


def bytes_packer(size: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        if len(value) != size:
            raise ValueError
        return value if type(value) is bytes else bytes(memoryview(value))

    return pack


def misfit() -> NoReturn:
    raise ValueError


def text_packer(size: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        raw: bytes = value.encode()
        if len(raw) > size or 0 in raw:
            raise ValueError
        return raw

    return pack


class Text(str):
    """Text whose bytes are known already: some are no UTF-8."""

    raw: bytes

    def encode(self, *_: object, **__: object) -> bytes:
        return self.raw


def fitting_text(value: Any, size: int) -> Text:
    """Return text, or bytes that stand for it, as text that packs."""
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
    else:
        raw = bytes(memoryview(value)).rstrip(NUL)
    if len(raw) > size or NUL in raw:
        raise ValueError
    text = Text(value if isinstance(value, str) else raw.decode("utf-8", "surrogateescape"))
    text.raw = raw
    return text


def octets_packer(count: int) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        if len(value) != count or isinstance(value, str):
            raise ValueError
        return bytes([*value])

    return pack


def counter(count: int) -> Callable[[Any], Any]:
    def counted(value: Any) -> Any:
        if len(value) != count:
            raise ValueError
        return value

    return counted


def bit_range(field: Field) -> tuple[int, int]:
    ctype = field.type
    name = ctype.base if isinstance(ctype, EnumType) else cast(Scalar, ctype).name
    if name[0] == "i":
        return -(1 << field.bit_size - 1), (1 << field.bit_size - 1) - 1
    return 0, (1 << field.bit_size) - 1


def bits_packer(field: Field, shape: Shape) -> Callable[[Any], int]:
    low, high = bit_range(field)
    mask = (1 << field.bit_size) - 1
    enforce = enforcer(shape.checks) if shape.checks else None

    def pack(value: Any) -> int:
        number = value.__index__()
        if enforce is not None:
            enforce(value)
        if not low <= number <= high:
            raise ValueError
        return cast(int, number & mask)

    return pack


def enforcer(checks: tuple[Check, ...]) -> Callable[[Any], Any]:
    tests = [check.test for check in checks]

    def enforce(value: Any) -> Any:
        for test in tests:
            if not test(value):
                raise ValueError
        return value

    return enforce
