"""C records at random, with the BPF programs that copy them field by field, and values to copy.

A record is a tree of nodes. Each node knows how C declares it; the C expressions of its leaves,
numbers that fit into a `__u64`; how to draw a value; and whether words that a program read are
that value. Where members share their place, one of them is the one that is written.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

INTEGERS = {
    "__u8": ("u", 8),
    "__u16": ("u", 16),
    "__u32": ("u", 32),
    "__u64": ("u", 64),
    "__s8": ("i", 8),
    "__s16": ("i", 16),
    "__s32": ("i", 32),
    "__s64": ("i", 64),
    "unsigned long": ("u", 64),
    "short_number": ("i", 16),  # typedefs
    "const_number": ("u", 32),
}
ENUMS = {
    "enum color": (0, 5, 0x7FFFFFFF),
    "enum level": (-7, 0, 3),
    "enum small": (1, 200),
    "enum wide": (3, 0x123456789A),
}
PRELUDE = """\
#include <arenads/bpf.h>

ADS_ARENA(4 * ADS_MIB);
char LICENSE[] SEC("license") = "GPL";

typedef short short_number;
typedef __u32 const_number;
enum color { RED, GREEN = 5, LAST_COLOR = 0x7fffffff };
enum level { BELOW = -7, EVEN, ABOVE = 3 };
enum small { FEW = 1, MANY = 200 } __attribute__((packed));
enum wide { NEAR = 3, FAR = 0x123456789a };
struct node { struct node __arena *next; __u64 number; };

/* Numbers at any address, and floats, with which BPF cannot calculate, as their bits. */
struct bits32 { __u32 number; } __attribute__((packed, may_alias));
struct bits64 { __u64 number; } __attribute__((packed, may_alias));
#define BITS(size, place) (((struct bits##size __arena *)&(place))->number)

struct request { __u64 record, words; };
#define BEGIN(type)                                                                  \\
    struct type __arena *r = (struct type __arena *)(unsigned long)request->record;  \\
    __u64 __arena *w = (__u64 __arena *)(unsigned long)request->words;               \\
    (void)ads_here()
"""


class Node:
    """A part of a record."""

    def declare(self, name: str) -> str:
        raise NotImplementedError

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        """Yield (C expression that gives the word, C statement that takes it from {})."""
        raise NotImplementedError

    def draw(self, source: random.Random) -> Any:
        raise NotImplementedError

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        """Take this node's words, and fail if they are not the value."""
        raise NotImplementedError


class Integer(Node):
    def __init__(self, ctype: str, kind: str, bits: int, attribute: str = "") -> None:
        self.ctype, self.kind, self.bits, self.attribute = ctype, kind, bits, attribute

    def declare(self, name: str) -> str:
        return f"{self.ctype} {name}{self.attribute}"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        yield f"(__u64)(long long){place}", f"{place} = ({self.ctype}){{}}"

    def draw(self, source: random.Random) -> int:
        low = -(1 << self.bits - 1) if self.kind == "i" else 0
        high = low + (1 << self.bits) - 1
        return source.choice([low, high, source.randint(low, high)])

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        word = next(words)
        if self.kind == "i":
            word -= word >> 63 << 64
        assert word == int(value), path


class BitField(Integer):
    def declare(self, name: str) -> str:
        return f"{self.ctype} {name} : {self.bits}{self.attribute}"


class Unnamed(Node):
    """Bits that belong to nobody."""

    def __init__(self, ctype: str, bits: int) -> None:
        self.ctype, self.bits = ctype, bits

    def declare(self, name: str) -> str:
        return f"{self.ctype} : {self.bits}"


class Bool(Node):
    def __init__(self, bits: int = 0) -> None:
        self.bits = bits

    def declare(self, name: str) -> str:
        return f"_Bool {name}" + (" : 1" if self.bits else "")

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        yield f"(__u64){place}", f"{place} = !!{{}}"

    def draw(self, source: random.Random) -> bool:
        return source.random() < 0.5

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        assert isinstance(value, bool)
        assert next(words) == value, path


class Enum(Node):
    def __init__(self, ctype: str, bits: int = 0) -> None:
        self.ctype, self.bits = ctype, bits

    def declare(self, name: str) -> str:
        return f"{self.ctype} {name}" + (f" : {self.bits}" if self.bits else "")

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        yield f"(__u64)(long long){place}", f"{place} = ({self.ctype}){{}}"

    def draw(self, source: random.Random) -> int:
        values = ENUMS[self.ctype]
        if self.bits:
            values = tuple(each for each in values if -8 <= each < 8)
        return source.choice(values)

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        word = next(words)
        if self.ctype == "enum level":
            word -= word >> 63 << 64
        assert word == int(value), path


class Float(Node):
    def __init__(self, bits: int, attribute: str = "") -> None:
        self.bits, self.attribute = bits, attribute
        self.form = "<f" if bits == 32 else "<d"

    def declare(self, name: str) -> str:
        return f"{'float' if self.bits == 32 else 'double'} {name}{self.attribute}"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        bits = f"BITS({self.bits}, {place})"
        yield f"(__u64){bits}", f"{bits} = {{}}"

    def draw(self, source: random.Random) -> float:
        return source.choice([0.0, -0.5, math.inf, source.randrange(-(1 << 20), 1 << 20) / 64])

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        (number,) = struct.unpack(self.form, next(words).to_bytes(self.bits // 8, "little"))
        assert number == value or (math.isnan(number) and math.isnan(value)), path


class Pointer(Node):
    def __init__(self, target: str) -> None:
        self.target = target

    def declare(self, name: str) -> str:
        return f"{self.target} __arena *{name}"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        bits = f"BITS(64, {place})"
        yield bits, f"{bits} = {{}}"

    def draw(self, source: random.Random) -> int:
        return source.randrange(1 << 48)

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        assert next(words) == value, path


class Text(Node):
    """A char array: text up to the first NUL."""

    def __init__(self, size: int) -> None:
        self.size = size

    def declare(self, name: str) -> str:
        return f"char {name}[{self.size}]"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        for index in range(self.size):
            yield f"(__u64)(__u8){place}[{index}]", f"{place}[{index}] = (char){{}}"

    def draw(self, source: random.Random) -> str:
        return "".join(source.choice("abcxyz") for _ in range(source.randint(0, self.size)))

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        raw = bytes(next(words) for _ in range(self.size))
        assert raw.split(b"\0")[0].decode("utf-8", "surrogateescape") == value, path


class Octets(Node):
    """An array of unsigned char: bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def declare(self, name: str) -> str:
        return f"unsigned char {name}[{self.size}]"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        for index in range(self.size):
            yield f"(__u64){place}[{index}]", f"{place}[{index}] = (unsigned char){{}}"

    def draw(self, source: random.Random) -> bytes:
        return source.randbytes(self.size)

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        assert bytes(next(words) for _ in range(self.size)) == value, path


class Letter(Node):
    def declare(self, name: str) -> str:
        return f"char {name}"

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        yield f"(__u64)(__u8){place}", f"{place} = (char){{}}"

    def draw(self, source: random.Random) -> bytes:
        return source.randbytes(1)

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        assert bytes([next(words)]) == value, path


class Array(Node):
    def __init__(self, element: Node, count: int) -> None:
        self.element, self.count = element, count

    def declare(self, name: str) -> str:
        return self.element.declare(f"{name}[{self.count}]")

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        for index in range(self.count):
            yield from self.element.leaves(f"{place}[{index}]", written=written)

    def draw(self, source: random.Random) -> list[Any]:
        return [self.element.draw(source) for _ in range(self.count)]

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        assert len(value) == self.count
        for index, item in enumerate(value):
            self.element.check(words, item, f"{path}[{index}]", written=written)


class Record(Node):
    """A struct or union: defined before under a name, defined in place, or anonymous."""

    def __init__(
        self, name: str, members: list[tuple[str, Node]], is_union: bool, attributes: str, keep: int
    ) -> None:
        self.name, self.members, self.is_union = name, members, is_union
        self.attributes = attributes
        self.keep = keep  # of a union: the member that is written

    @property
    def word(self) -> str:
        return "union" if self.is_union else "struct"

    def body(self) -> str:
        inner = "".join(f"{node.declare(name)}; " for name, node in self.members)
        return f"{{ {inner}}}{self.attributes}"

    def definition(self) -> str:
        return f"{self.word} {self.name} {self.body()};\n"

    def declare(self, name: str) -> str:
        if self.name:
            return f"{self.word} {self.name} {name}"
        return f"{self.word} {self.body()} {name}".rstrip()

    def chosen(self, written: bool) -> Iterator[tuple[str, Node]]:
        for number, (name, node) in enumerate(self.members):
            if not isinstance(node, Unnamed) and not (
                written and self.is_union and number != self.keep
            ):
                yield name, node

    def leaves(self, place: str, *, written: bool) -> Iterator[tuple[str, str]]:
        for name, node in self.chosen(written):
            # The members of an anonymous one are those of what it is in.
            yield from node.leaves(f"{place}.{name}" if name else place, written=written)

    def draw(self, source: random.Random) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, node in self.chosen(written=True):
            drawn = node.draw(source)
            found.update({name: drawn} if name else drawn)
        return found

    def check(self, words: Iterator[int], value: Any, path: str, *, written: bool) -> None:
        for name, node in self.chosen(written):
            inner = getattr(value, name) if name else value
            node.check(words, inner, f"{path}.{name}", written=written)

    def places(self, place: str) -> Iterator[tuple[str, str]]:
        """Yield (path of attributes, C path) of the members that have an address."""
        for name, node in self.chosen(written=False):
            where = f"{place}.{name}" if place and name else place or name
            if isinstance(node, Record):
                if name:
                    yield where, where
                yield from node.places(where)
            elif not getattr(node, "bits", 0) or type(node) in (Integer, Float):
                yield where, where


class Corpus:
    """Records at random, and the source of the programs that copy them."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = random.Random(seed)
        self.numbers = iter(range(1 << 30))
        self.records = [self.record(0, named=True) for _ in range(count)]

    def aligned(self) -> str:
        if self.random.random() < 0.8:
            return ""
        return f" __attribute__((aligned({1 << self.random.randint(0, 6)})))"

    def node(self, depth: int, in_union: bool) -> Node:
        kinds = ["integer"] * 4 + ["bits"] * 3 + ["text", "octets", "enum", "float", "pointer"]
        kinds += ["letter"]
        if not in_union:
            kinds += ["bool", "unnamed", "enum bits", "bool bit"]  # what any bits may not be
        if depth < 3:
            kinds += ["array", "array", "record", "record", "union"]
        kind = self.random.choice(kinds)
        if kind == "integer":
            ctype = self.random.choice(list(INTEGERS))
            return Integer(ctype, *INTEGERS[ctype], self.aligned())
        if kind in ("bits", "unnamed"):
            ctype = self.random.choice([each for each in INTEGERS if "_number" not in each])
            sign, most = INTEGERS[ctype]
            bits = self.random.randint(1, most)
            return Unnamed(ctype, bits) if kind == "unnamed" else BitField(ctype, sign, bits)
        if kind in ("bool", "bool bit"):
            return Bool(int(kind == "bool bit"))
        if kind == "text":
            return Text(self.random.randint(1, 9))
        if kind == "octets":
            return Octets(self.random.randint(1, 9))
        if kind == "letter":
            return Letter()
        if kind == "enum":
            return Enum(self.random.choice(list(ENUMS)))
        if kind == "enum bits":
            return Enum("enum level", 4)
        if kind == "float":
            return Float(self.random.choice([32, 64]), self.aligned())
        if kind == "pointer":
            return Pointer(self.random.choice(["struct node", "void", "__u32"]))
        if kind == "array":
            element = self.node(depth + 1, in_union)
            while (
                (
                    isinstance(element, BitField | Unnamed | Text | Octets | Letter)
                    and not (isinstance(element, Text) and element.size < 5)
                )
                or getattr(element, "attribute", "")
                or (isinstance(element, Enum | Bool) and element.bits)
                or (isinstance(element, Integer) and element.ctype == "__u8")
            ):
                element = self.node(depth + 1, in_union)
            return Array(element, self.random.randint(1, 3))
        return self.record(
            depth + 1, named=self.random.random() < 0.5, in_union=in_union, kind=kind
        )

    def record(
        self, depth: int, *, named: bool, in_union: bool = False, kind: str = "record"
    ) -> Record:
        is_union = kind == "union"
        members: list[tuple[str, Node]] = []
        for _ in range(self.random.randint(1, 8 if depth < 2 else 4)):
            node = self.node(depth, in_union or is_union)
            name = f"m{next(self.numbers)}"
            if isinstance(node, Unnamed) or (
                isinstance(node, Record) and not node.name and self.random.random() < 0.5
            ):
                name = ""
            members.append((name, node))
        named_ones = [
            at for at, (_name, node) in enumerate(members) if not isinstance(node, Unnamed)
        ]
        if not named_ones:
            members.append((f"m{next(self.numbers)}", Letter()))
            named_ones = [len(members) - 1]
        attributes = ""
        if self.random.random() < 0.25:
            attributes = " __attribute__((packed))"
        elif self.random.random() < 0.15:
            attributes = f" __attribute__((aligned({1 << self.random.randint(0, 6)})))"
        return Record(
            f"record_{next(self.numbers)}" if named else "",
            members,
            is_union,
            attributes,
            self.random.choice(named_ones),
        )

    def source(self) -> str:
        return source_of(self.records)


def named_in(node: Node) -> Iterator[Record]:
    """Yield the records of a node that have names, each after those that it is made of."""
    if isinstance(node, Array):
        yield from named_in(node.element)
    elif isinstance(node, Record):
        for _name, member in node.members:
            yield from named_in(member)
        if node.name:
            yield node


def source_of(records: list[Record]) -> str:
    """Return the source of the programs that copy records."""
    text = [PRELUDE]
    text += [each.definition() for record in records for each in named_in(record)]
    # What an array is made of is described in the BTF, whether or not a program uses it.
    known = "".join(f"    struct {each.name} (*{each.name})[1];\n" for each in records)
    text.append(f"const volatile struct {{\n{known}}} known __attribute__((used)) = {{}};\n")
    for record in records:
        name = record.name
        text.append(f'\nSEC("syscall") int read_{name}(struct request *request)\n{{\n')
        text.append(f"    BEGIN({name});\n")
        for number, (get, _put) in enumerate(record.leaves("(*r)", written=False)):
            text.append(f"    w[{number}] = {get};\n")
        text.append("    return 0;\n}\n")
        text.append(f'\nSEC("syscall") int write_{name}(struct request *request)\n{{\n')
        text.append(f"    BEGIN({name});\n")
        for number, (_get, put) in enumerate(record.leaves("(*r)", written=True)):
            text.append(f"    {put.format(f'w[{number}]')};\n")
        text.append("    return 0;\n}\n")
        text.append(f'\nSEC("syscall") int layout_{name}(struct request *request)\n{{\n')
        text.append(f"    BEGIN({name});\n    (void)r;\n    w[0] = sizeof(*r);\n")
        for number, (_path, place) in enumerate(record.places("")):
            offset = f"__builtin_offsetof(struct {name}, {place})"
            text.append(f"    w[{number + 1}] = {offset};\n")
        text.append("    return 0;\n}\n")
    return "".join(text)


# --- smaller records --------------------------------------------------------------------------


def weight(node: Node) -> int:
    """Return how much there is to read in a declaration."""
    if isinstance(node, Array):
        return node.count + weight(node.element)
    if isinstance(node, Text | Octets):
        return 1 + node.size
    if isinstance(node, Record):
        return 1 + 2 * bool(node.attributes) + sum(1 + weight(each) for _, each in node.members)
    return 1 + 2 * bool(getattr(node, "attribute", ""))


def reduced(node: Node) -> Iterator[Node]:
    """Yield what is one step smaller than a node, and can stand in its place."""
    if isinstance(node, Array):
        yield node.element
        if node.count > 1:
            yield Array(node.element, 1)
        for element in reduced(node.element):
            yield Array(element, node.count)
    elif isinstance(node, Text | Octets) and node.size > 1:
        yield type(node)(1)
    elif isinstance(node, Record):
        yield from _reduced_record(node)
    elif getattr(node, "attribute", ""):
        plain = copy.copy(node)
        plain.attribute = ""  # type: ignore[attr-defined]
        yield plain


def _reduced_record(record: Record) -> Iterator[Record]:
    members, kept = record.members, record.members[record.keep][1]

    def with_members(chosen: list[tuple[str, Node]]) -> Iterator[Record]:
        own = [at for at, (_name, node) in enumerate(chosen) if not isinstance(node, Unnamed)]
        if own:
            keep = next((at for at in own if chosen[at][1] is kept), own[0])
            yield Record(record.name, chosen, record.is_union, record.attributes, keep)

    middle = len(members) // 2
    if middle > 1:
        yield from with_members(members[:middle])
        yield from with_members(members[middle:])
    if record.attributes:
        yield Record(record.name, members, record.is_union, "", record.keep)
    for at, (name, node) in enumerate(members):
        before, after = members[:at], members[at + 1 :]
        yield from with_members(before + after)
        if isinstance(node, Record):
            yield from with_members(before + node.members + after)
        for smaller in reduced(node):
            yield from with_members([*before, (name, smaller), *after])


def smallest(
    record: Record, failing: Callable[[list[Record]], list[Record]], most: int = 60
) -> Record:
    """Return the smallest record that still fails, given what says which of some records do.

    Steps are tried in batches, of `most` at a time: what says it compiles them.
    """
    numbers = itertools.count()
    while True:
        steps = sorted(_reduced_record(record), key=weight)
        steps = [each for each in steps if weight(each) < weight(record)]
        for start in range(0, len(steps), most):
            # Records of one source have names of their own.
            batch = [copy.deepcopy(each) for each in steps[start : start + most]]
            for each in itertools.chain.from_iterable(map(named_in, batch)):
                each.name = f"smaller_{next(numbers)}"
            found = failing(batch)
            if found:
                record = min(found, key=weight)
                break
        else:
            return record
