"""Records at random, as Python classes and as C text, with one value of each."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec

from arenads.annotations import (
    Align,
    Array,
    Bits,
    Bytes,
    Ptr,
    Str,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    packed,
    u8,
    u16,
    u32,
    u64,
)


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


class Small(enum.IntEnum):
    LOW = 1
    HIGH = 200


C_NAMES = {
    "u8": "unsigned char",
    "u16": "unsigned short",
    "u32": "unsigned int",
    "u64": "unsigned long long",
    "i8": "signed char",
    "i16": "short",
    "i32": "int",
    "i64": "long long",
    "f32": "float",
    "f64": "double",
    "bool": "_Bool",
}
HINTS: dict[str, Any] = {
    "u8": u8,
    "u16": u16,
    "u32": u32,
    "u64": u64,
    "i8": i8,
    "i16": i16,
    "i32": i32,
    "i64": i64,
    "f32": f32,
    "f64": f64,
    "bool": bool,
}
C_ENUMS = """
enum Color { RED = 0, GREEN = 5 };
enum Small { LOW = 1, HIGH = 200 } __attribute__((packed));
"""


class Made(NamedTuple):
    """A member both ways: annotation, C declarator around a name, value, C initializer."""

    hint: Any
    declare: Callable[[str], str]
    value: Any
    literal: str


def integer_literal(value: int) -> str:
    if value < 0:
        return f"(-{-value - 1}LL - 1)"
    return f"{value}ULL"


class Maker:
    """Makes records at random, as Python classes and as C text, with one value of each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.text = [C_ENUMS]
        self.samples: dict[str, tuple[type[msgspec.Struct], Any]] = {}

    def number(self, name: str, bits: int = 0) -> tuple[Any, str]:
        if name == "bool":
            flag = self.random.random() < 0.5
            return flag, str(int(flag))
        if name[0] == "f":
            value = self.random.randrange(-1000, 1000) / 8
            return value, repr(value)
        width = bits or int(name[1:])
        low = -(1 << width - 1) if name[0] == "i" else 0
        number = self.random.choice(
            [low, low + (1 << width) - 1, low + self.random.randrange(1 << width)]
        )
        return number, integer_literal(number)

    def member(self, depth: int) -> Made:
        kinds = ["scalar"] * 4 + ["bits"] * 3 + ["str", "bytes", "enum", "small", "ptr", "align"]
        kinds.append("aligned bits")
        if depth < 3:
            kinds += ["array", "array", "record"]
        kind = self.random.choice(kinds)
        count = self.random.randint(1, 5)
        if kind == "scalar":
            name = self.random.choice(list(C_NAMES))
            value, literal = self.number(name)
            return Made(HINTS[name], lambda field: f"{C_NAMES[name]} {field}", value, literal)
        if kind in ("bits", "aligned bits"):
            name = self.random.choice(["u8", "u16", "u32", "u64", "i8", "i32", "i64", "bool"])
            bits = 1 if name == "bool" else self.random.randint(1, int(name[1:]))
            value, literal = self.number(name, bits)
            hint = Annotated[HINTS[name], Bits(bits)]
            end = ""
            if kind == "aligned bits":
                # Below the size of the type compilers differ.
                align = max(
                    1 if name == "bool" else int(name[1:]) // 8, 1 << self.random.randint(0, 5)
                )
                hint = Annotated[hint, Align(align)]
                end = f" __attribute__((aligned({align})))"
            return Made(
                hint, lambda field: f"{C_NAMES[name]} {field} : {bits}{end}", value, literal
            )
        if kind in ("str", "bytes"):
            raw = bytes(self.random.randrange(1, 128) for _ in range(count))
            literal = "{" + ",".join(map(str, raw)) + "}"
            if kind == "str":
                return Made(
                    Str[count], lambda field: f"char {field}[{count}]", raw.decode(), literal
                )
            return Made(Bytes[count], lambda field: f"unsigned char {field}[{count}]", raw, literal)
        if kind == "enum":
            return Made(Color, lambda field: f"enum Color {field}", Color.GREEN, "GREEN")
        if kind == "small":
            hint = Annotated[Small, u8]
            return Made(hint, lambda field: f"enum Small {field}", Small.HIGH, "HIGH")
        if kind == "ptr":
            # A constant address needs no relocation.
            value = self.random.randrange(1 << 48)
            return Made(Ptr, lambda field: f"void *{field}", value, f"(void *){value}ULL")
        if kind == "align":
            name = self.random.choice(list(C_NAMES))
            align = 1 << self.random.randint(0, 6)
            value, literal = self.number(name)
            return Made(
                Annotated[HINTS[name], Align(align)],
                lambda field: f"{C_NAMES[name]} {field} __attribute__((aligned({align})))",
                value,
                literal,
            )
        if kind == "array":
            inner = self.member(depth + 1)
            while " : " in inner.declare("x") or "aligned" in inner.declare("x"):
                inner = self.member(depth + 1)
            others = [inner.value] * count
            literal = "{" + ",".join([inner.literal] * count) + "}"
            return Made(
                Array[inner.hint, count],
                lambda field: inner.declare(f"{field}[{count}]"),
                others,
                literal,
            )
        cls, value, literal = self.record(depth + 1)
        return Made(cls, lambda field: f"struct {cls.__name__} {field}", value, literal)

    def record(self, depth: int = 0) -> tuple[type[msgspec.Struct], Any, str]:
        members = [self.member(depth) for _ in range(self.random.randint(1, 8))]
        name = f"record_{len(self.text)}"
        self.text.append("")
        cls = msgspec.defstruct(
            name, [(f"m{number}", made.hint) for number, made in enumerate(members)]
        )
        attribute = ""
        if self.random.random() < 0.25:
            packed(cls)
            attribute = " __attribute__((packed))"
        body = "".join(f"    {made.declare(f'm{at}')};\n" for at, made in enumerate(members))
        self.text.append(f"struct {name} {{\n{body}}}{attribute};\n")
        value = {f"m{number}": made.value for number, made in enumerate(members)}
        return cls, value, "{" + ", ".join(made.literal for made in members) + "}"

    def sample(self) -> None:
        cls, value, literal = self.record()
        name = cls.__name__
        self.text.append(
            f"const volatile struct {name} sample_{name} "
            f'__attribute__((section(".rodata.samples"), used)) = {literal};\n'
        )
        self.samples[name] = (cls, value)
