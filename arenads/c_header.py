"""C headers from record classes: Python first.

The header declares what the classes declare, for BPF programs, C and C++, and checks itself:
static asserts compare the compiler's sizes, alignments and offsets with those that Python uses.
It needs nothing but a compiler (C11, C++11), and goes together with vmlinux.h, <linux/types.h>
and <arenads/bpf.h>, in any order.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import sys
import traceback
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from .annotations import docstrings, schema_of
from .errors import SchemaError
from .packers import bit_range
from .replacing import write_whole
from .schema import (
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
    keep_one,
    members,
    refuse,
    spell,
    spell_path,
)

__all__ = ["c_header", "find_class", "is_current", "write_header"]

_C_SCALARS: Final = {
    **{f"u{bits}": f"__u{bits}" for bits in (8, 16, 32, 64)},
    **{f"i{bits}": f"__s{bits}" for bits in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
    "bool": "_Bool",
    "char": "char",
}
_TYPEDEFS: Final = {
    "__u8": "unsigned char",
    "__u16": "unsigned short",
    "__u32": "unsigned int",
    "__u64": "unsigned long long",
    "__s8": "signed char",
    "__s16": "short",
    "__s32": "int",
    "__s64": "long long",
}
# Words that a compiler keeps for itself, or that its predefined macros replace.
_C_KEYWORDS: Final = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    typeof typeof_unqual union unsigned void volatile while asm _Alignas _Alignof _Atomic _Bool
    _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local""".split()
)
_CPP_KEYWORDS: Final = frozenset(
    """alignas alignof and and_eq bitand bitor bool catch char16_t char32_t char8_t class co_await
    co_return co_yield compl concept const_cast consteval constexpr constinit decltype delete
    dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public reinterpret_cast requires static_assert static_cast
    template this thread_local throw true try typeid typename using virtual wchar_t xor
    xor_eq""".split()
)
# What compilers and the header itself define as macros or types.
_MACROS: Final = frozenset(["linux", "unix", "i386", "NULL", "__arena", *_TYPEDEFS])
_RESERVED: Final = re.compile(r"_[_A-Z]")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MOST_ALIGNED: Final = 4096
_LONGEST_GUARD: Final = 60
# Records that this package's own headers define; see `arenads.Node`.
_DEFINED: Final = {"ads_node": "arenads/layout.h"}

# In the first line of each header: a file without it was not written here.
_MARK: Final = "Change the classes, not this file."

_BEGIN: Final = """\
#ifdef __cplusplus
#define ARENADS_ASSERT(condition, text) static_assert(condition, text)
#define ARENADS_ALIGNOF(type) alignof(type)
#define _Bool bool
#else
#define ARENADS_ASSERT(condition, text) _Static_assert(condition, text)
#define ARENADS_ALIGNOF(type) _Alignof(type)
#endif
#define ARENADS_SIZE(type, size) ARENADS_ASSERT(sizeof(type) == size, #type ": not Python's size")
#define ARENADS_ALIGN(type, align) \\
    ARENADS_ASSERT(ARENADS_ALIGNOF(type) == align, #type ": not Python's alignment")
#define ARENADS_OFFSET(type, member, offset) \\
    ARENADS_ASSERT(__builtin_offsetof(type, member) == offset, \\
                   #type ": " #member " is not at Python's offset")

/* Pointers lead into the arena, which is an address space of its own in BPF. */
#ifndef __arena
#ifdef __bpf__
#define __arena __attribute__((address_space(1)))
#else
#define __arena
#endif
#endif

/* The kernel's own spellings; repeating a typedef identically is allowed. */
"""
_END: Final = """\
#ifdef __cplusplus
#undef _Bool
#endif
#undef ARENADS_OFFSET
#undef ARENADS_ALIGN
#undef ARENADS_SIZE
#undef ARENADS_ALIGNOF
#undef ARENADS_ASSERT
"""


def c_header(*types: object, origin: str = "", guard: str = "") -> str:
    """Return the C header of record classes, and of all that they are made of.

    Parameters
    ----------
    types : classes or schemas
        `msgspec.Struct` classes with annotated C types, `enum.IntEnum` classes, or schemas
        of records. Records that pointers lead to are declared too, as far as they are known.
    origin : str
        What the header is made of, for its first line.
    guard : str
        The macro of the include guard; by default made of the types' names.

    Enums are `enum` where C stores them as Python does, in 4 bytes; in other sizes they are
    the integer that holds them, with the enum's name beside it. Nodes of intrusive lists come
    from <arenads/layout.h>, which the header includes then. Pointers are `T __arena *`.
    Of a bit field, which has no address, only the size of its record is asserted.

    Raises
    ------
    SchemaError
        Not such types; a name that is none in C or C++, or that two things have; a layout
        that C cannot express.

    >>> import msgspec
    >>> from arenads import Str, u64
    >>> Task = msgspec.defstruct("Task", [("calls", u64), ("comm", Str[16])])
    >>> text = c_header(Task)
    >>> begin, end = text.index("struct Task"), text.rindex("#ifdef __cplusplus")
    >>> print(text[begin:end].expandtabs(4))
    struct Task {
        __u64 calls;
        char comm[16];
    };
    ARENADS_SIZE(struct Task, 24);
    ARENADS_ALIGN(struct Task, 8);
    ARENADS_OFFSET(struct Task, calls, 0);
    ARENADS_OFFSET(struct Task, comm, 8);
    <BLANKLINE>
    <BLANKLINE>
    """
    writer = _Writer()
    names = []
    for each in types:
        schema = schema_of(each)
        if not isinstance(each, Schema):
            writer.docs.update(docstrings(each))
        if not isinstance(schema.type, Record | EnumType) or not schema.type.name:
            refuse(f"expected a record or an enum that has a name, found {spell(schema.type)}")
        writer.add(schema)
        names.append(schema.type.name)
    if not types:
        refuse("expected at least one record class, found none")
    return writer.header(origin, guard or _guard(names))


def _guard(names: Sequence[str]) -> str:
    clean = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(names)).upper()
    if len(clean) > _LONGEST_GUARD:
        clean = f"{clean[:_LONGEST_GUARD]}_{zlib.crc32(clean.encode()):08X}"
    return f"ARENADS_HEADER_{clean}"


class _Writer:
    """Collects records and enums in the order in which C needs them, and writes them."""

    def __init__(self) -> None:
        self.docs: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        self.enums: list[EnumType] = []
        self.forward: dict[str, None] = {}
        self.owners: dict[str, str] = {}  # of enumerators: C has one scope for all
        self.typedefs: set[str] = set()

    # --- collecting ---------------------------------------------------------------------

    def add(self, schema: Schema) -> None:
        for ctype in (schema.type, *schema.records):
            self._visit(ctype)

    def _visit(self, ctype: CType) -> None:
        if isinstance(ctype, ArrayType):
            self._visit(ctype.element)
        elif isinstance(ctype, EnumType):
            self._visit_enum(ctype)
        elif isinstance(ctype, PointerType):
            if _IDENTIFIER.match(ctype.target) and ctype.target not in _C_SCALARS:
                _check_name(ctype.target, "what a pointer leads to")
                self.forward[ctype.target] = None
        elif isinstance(ctype, Record):
            known = self.records.get(ctype.name) if ctype.name else None
            if known == ctype:
                return
            if known is not None:
                keep_one(self.records, ctype)
            if ctype.name:
                _check_name(ctype.name, "a record")
            for field in ctype.fields:
                if field.name:
                    _check_name(field.name, spell_path(ctype.name, field.name))
                    if field.name == ctype.name:
                        refuse(
                            f"{spell_path(ctype.name, field.name)}: C++ has no members that are "
                            "called like their record; choose another name"
                        )
                self._visit(field.type)
            if ctype.name:
                self.records[ctype.name] = ctype

    def _visit_enum(self, ctype: EnumType) -> None:
        if ctype in self.enums:
            return
        if ctype.name:
            _check_name(ctype.name, "an enum")
            if any(
                each.name == ctype.name and each.members != ctype.members for each in self.enums
            ):
                refuse(f"two enums with different members are called {ctype.name!r}")
        if not any((each.name, each.members) == (ctype.name, ctype.members) for each in self.enums):
            for name, _value in ctype.members:
                _check_name(name, f"a member of {spell(ctype)}")
                owner = self.owners.setdefault(name, spell(ctype))
                if owner != spell(ctype):
                    refuse(
                        f"{name!r} is a member of {owner} and of {spell(ctype)}; in C a name "
                        "belongs to one enum only: choose others"
                    )
        self.enums.append(ctype)

    # --- writing ------------------------------------------------------------------------

    def header(self, origin: str, guard: str) -> str:
        tags = {each.name for each in self.enums if each.name}
        for name in (*self.records, *self.forward):
            if name in tags:
                refuse(f"an enum and a record are both called {name!r}; choose another name")
        body = [text for each in self._distinct_enums() for text in self._enum(each)]
        declared = [f"{self._tag(name)} {name};" for name in self.forward]
        if declared:
            body += [*declared, ""]
        for record in self.records.values():
            body += self._record(record)
        used = [
            f"typedef {spelled} {name};"
            for name, spelled in _TYPEDEFS.items()
            if name in self.typedefs
        ]
        begin = _BEGIN.splitlines()
        includes = [f"#include <{_DEFINED[name]}>" for name in self.records if name in _DEFINED]
        if includes:
            includes.append("")
        text = [
            f"/* {_comment(origin or 'Written by arenads')}. {_MARK} */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            *includes,
            *(begin if used else begin[:-1]),
            *used,
            "",
            *body,
            *_END.splitlines(),
            "",
            f"#endif /* {guard} */",
        ]
        return "\n".join(text) + "\n"

    def _distinct_enums(self) -> Iterator[EnumType]:
        seen = set()
        for each in self.enums:
            if (each.name, each.members) not in seen:
                seen.add((each.name, each.members))
                yield each

    def _documented(self, name: str) -> list[str]:
        lines = inspect.cleandoc(self.docs.get(name, "")).splitlines()
        if not lines:
            return []
        lines = [_comment(line) for line in lines]
        if len(lines) == 1:
            return [f"/* {lines[0]} */"]
        return ["/*", *(f" * {line}".rstrip() for line in lines), " */"]

    def _enum(self, ctype: EnumType) -> list[str]:
        lines = [
            *self._documented(ctype.name),
            f"enum {ctype.name} {{" if ctype.name else "enum {",
            *(f"\t{name} = {_literal(value)}," for name, value in ctype.members),
            "};",
        ]
        if ctype.name and any(each.name == ctype.name and _is_plain(each) for each in self.enums):
            lines.append(f"ARENADS_SIZE(enum {ctype.name}, 4);")
        return [*lines, ""]

    def _tag(self, name: str) -> str:
        record = self.records.get(name)
        return "union" if record is not None and record.is_union else "struct"

    def _record(self, record: Record) -> list[str]:
        title = f"{self._tag(record.name)} {record.name}"
        lines = []
        if record.name not in _DEFINED:
            lines = [*self._documented(record.name), *self._braced(record, title, "")]
            lines[-1] += ";"
        lines.append(f"ARENADS_SIZE({title}, {record.size});")
        lines.append(f"ARENADS_ALIGN({title}, {record.align});")
        lines += [
            f"ARENADS_OFFSET({title}, {path}, {offset});" for path, offset in _places(record, "", 0)
        ]
        return [*lines, ""]

    def _braced(self, record: Record, title: str, indent: str) -> list[str]:
        packed, aligned, placed = _arrange(record)
        lines = [f"{indent}{title} {{"]
        for field, align, gap in placed:
            if gap:
                base = f"u{8 * field.type.size}"
                lines.append(f"{indent}\t{self._scalar(base, '')} : {gap};")
            lines += self._member(field, align, indent + "\t")
        attributes = ["packed"] if packed else []
        if aligned:
            attributes.append(f"aligned({aligned})")
        end = f" __attribute__(({', '.join(attributes)}))" if attributes else ""
        return [*lines, f"{indent}}}{end}"]

    def _member(self, field: Field, align: int, indent: str) -> list[str]:
        end = f" : {field.bit_size}" if field.bit_size else ""
        if align:
            end += f" __attribute__((aligned({align})))"
        element, counts = _innermost(field.type)
        note = ""
        if isinstance(element, EnumType) and not (_is_plain(element) and _holds(field, element)):
            note = f" /* enum {element.name} */" if element.name else ""
            element = Scalar(element.base)
        if isinstance(element, Record) and not element.name:
            title = "union" if element.is_union else "struct"
            lines = self._braced(element, title, indent)
            lines[-1] += f" {field.name}{counts}".rstrip() + f"{end};"
            return lines
        if (
            isinstance(element, PointerType)
            and element.target
            and not self._pointed(element.target)
        ):
            note = f" /* to {_comment(element.target)} */"
        return [f"{indent}{self._declared(element, field.name, counts)}{end};{note}"]

    def _declared(self, ctype: CType, name: str, counts: str) -> str:
        if isinstance(ctype, Scalar):
            return self._scalar(ctype.name, name + counts)
        if isinstance(ctype, StrType):
            return f"char {name}{counts}[{ctype.size}]"
        if isinstance(ctype, BytesType):
            return self._scalar("u8", f"{name}{counts}[{ctype.size}]")
        if isinstance(ctype, EnumType):
            return f"enum {ctype.name} {name}{counts}".rstrip()
        if isinstance(ctype, PointerType):
            return f"{self._pointed(ctype.target) or 'void'} __arena *{name}{counts}"
        assert isinstance(ctype, Record)
        return f"{self._tag(ctype.name)} {ctype.name} {name}{counts}"

    def _scalar(self, name: str, declarator: str) -> str:
        spelled = _C_SCALARS[name]
        if spelled in _TYPEDEFS:
            self.typedefs.add(spelled)
        return f"{spelled} {declarator}".rstrip()

    def _pointed(self, target: str) -> str:
        """Return how C names what a pointer leads to, empty where it has no name."""
        if target in self.forward:
            return f"{self._tag(target)} {target}"
        return self._scalar(target, "") if target in _C_SCALARS else ""


def _innermost(ctype: CType) -> tuple[CType, str]:
    counts = ""
    while isinstance(ctype, ArrayType):
        counts += f"[{ctype.count}]"
        ctype = ctype.element
    return ctype, counts


def _is_plain(ctype: EnumType) -> bool:
    """Whether C stores the enum as Python does, without being told."""
    if not ctype.name or not ctype.members:
        return False
    negative = any(value < 0 for _name, value in ctype.members)
    return ctype.base == ("i32" if negative else "u32")


def _holds(field: Field, ctype: EnumType) -> bool:
    """Whether a bit field is wide enough for the enum: compilers warn where it is not."""
    low, high = bit_range(field) if field.bit_size else (-math.inf, math.inf)
    return all(low <= value <= high for _name, value in ctype.members)


def _places(record: Record, path: str, base: int) -> Iterator[tuple[str, int]]:
    """Yield (member, offset) of all that has an address, also in records without a name."""
    for field in members(record):
        if field.bit_size:
            continue
        place = spell_path(path, field.name)
        yield place, base + field.offset
        if isinstance(field.type, Record) and not field.type.name:
            yield from _places(field.type, place, base + field.offset)


def _arrange(record: Record) -> tuple[bool, int, list[tuple[Field, int, int]]]:
    """Find attributes with which C lays the members out like this.

    Returns whether the record is packed, what it is aligned to beyond its members or 0, and
    for each member (field, what it is aligned to or 0, bits without a name before it).
    """
    for packed in (False, True):
        found = _arrange_as(record, packed)
        if found is not None:
            return packed, *found
    refuse(
        f"{record.name or 'record'}: no attributes of C give this layout; declare what lies "
        "between its members as members"
    )


def _arrange_as(record: Record, packed: bool) -> tuple[int, list[tuple[Field, int, int]]] | None:
    placed: list[tuple[Field, int, int]] = []
    bit = end = 0
    top = 1
    for field in record.fields:
        if record.is_union:
            bit = 0
        natural = 1 if packed else max(1, field.type.align)
        target = 8 * field.offset + field.bit_offset
        found = _place(field, bit, target, natural, record.align, packed)
        if found is None:
            return None
        align, gap = found
        top = max(top, natural, align)
        placed.append((field, align, gap))
        bit = target + (field.bit_size or 8 * field.type.size)
        end = max(end, bit)
    if top > record.align or _round_up(end, 8 * record.align) != 8 * record.size:
        return None
    return (record.align if top < record.align else 0), placed


def _place(
    field: Field, bit: int, target: int, natural: int, most: int, packed: bool
) -> tuple[int, int] | None:
    unit = 8 * field.type.size
    start = bit
    if not field.bit_size:
        start = _round_up(bit, 8 * natural)
    elif not packed and bit % unit + field.bit_size > unit:
        start = _round_up(bit, unit)
    if start == target:
        return 0, 0
    if start > target:
        return None
    align = natural
    while align <= min(most, _MOST_ALIGNED):
        if _round_up(start, 8 * align) == target:
            return align, 0
        align *= 2
    if field.bit_size and start // unit == target // unit:
        return 0, target - start
    return None


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _literal(value: int) -> str:
    if -(1 << 31) < value < 1 << 31:
        return str(value)
    if value < 0:
        return f"(-{-value - 1}LL - 1)"
    return f"{value}{'U' if value < 1 << 32 else 'ULL' if value >= 1 << 63 else 'LL'}"


def _comment(text: str) -> str:
    """Return text that neither ends the comment that it is in, nor begins one."""
    shown = "".join(each if each.isprintable() or each == "\t" else "?" for each in text)
    return shown.replace("*/", "* /").replace("/*", "/ *").rstrip("\\")


def _check_name(name: str, what: str) -> None:
    if not _IDENTIFIER.match(name):
        refuse(f"{what}: expected a name that C allows, found {name!r}")
    if name in _MACROS or name.startswith("ARENADS_"):
        refuse(f"{what}: {name!r} means something else to C compilers; choose another name")
    for language, words in (("C", _C_KEYWORDS), ("C++", _CPP_KEYWORDS)):
        if name in words:
            refuse(f"{what}: {name!r} is a keyword of {language}; choose another name")
    if _RESERVED.match(name):
        refuse(
            f"{what}: {name!r} is reserved to C compilers, as all names that begin with two"
            " underscores, or one and a capital letter; choose another name"
        )


# --- the command ------------------------------------------------------------------------------


def find_class(place: str) -> Any:
    """Return what `module:Class` names, importing the module, also from the current directory.

    Raises
    ------
    SchemaError
        There is no such module or class, or the module cannot be imported.

    >>> find_class("arenads:Node")
    <class 'arenads.node.Node'>
    """
    module, _, name = place.partition(":")
    if not module or not name:
        refuse(f"expected module:Class, such as tasks:Task, found {place!r}")
    try:
        here = os.getcwd()
    except OSError as error:
        refuse(f"{place}: the current directory cannot be searched for it: {error.strerror}")
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        # A module that is absent is not found by the machinery of imports.
        at = "" if "importlib" in last.filename else f" ({last.filename}, line {last.lineno})"
        raise SchemaError(
            f"{place}: the module cannot be imported: {type(error).__name__}: {error}{at}"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            refuse(f"{place}: there is no {part!r} in {module}")
        found = getattr(found, part)
    return found


def is_current(path: str, text: str) -> bool:
    """Return whether a file has exactly this text; an absent one has not.

    >>> is_current("absent.h", "text")
    False
    """
    try:
        return Path(path).read_bytes() == text.encode()
    except FileNotFoundError:
        return False


def write_header(path: str, text: str) -> None:
    """Write a file so that it is the old or the new one at every moment.

    One that has this text already stays untouched, so that nothing is built anew; so does one that
    is no header of ours, which somebody has written.

    Raises
    ------
    SchemaError
        The file has something else in it.
    OSError

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     write_header(file.name, "text")
    ...     is_current(file.name, "text")
    True
    """
    if os.path.isfile(path):  # reading from /dev/stdout or a FIFO would wait
        found = Path(path).read_bytes()
        if found == text.encode():
            return
        if found and _MARK.encode() not in found[:1024]:
            raise SchemaError(
                f"{path}: expected a new file, or a header that was written by arenads; found"
                " something else. Remove it first if it is not needed."
            )
    write_whole(path, text.encode())
