"""BTF type information, and the little of ELF that a BPF object needs.

`Btf` reads the types of a BPF object or of the running kernel; `ObjectFile` reads
an object's programs, its arena map and its structure declarations. Both take
bytes that anybody may have written: every offset, count and reference is checked
before it is followed, every walk is bounded, and whatever is wrong raises
`ObjectError` with the place (`offset`, in bytes from the start of the file or of
the BTF data).

There is one reader, also where libbpf is installed. The native engine and processes that
look at a pinned arena have no libbpf; it does not survive every damaged input, and where it
refuses one it does not say what and where; and two readers would have to agree. That this one
agrees with libbpf on every type of the kernel and of BPF objects is what
tests/test_btf_libbpf.py shows.
"""

from __future__ import annotations

import enum
import os
import stat
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from .errors import ObjectError

__all__ = [
    "ArenaMap",
    "Btf",
    "Declaration",
    "Enumerator",
    "Kind",
    "Member",
    "ObjectFile",
    "Parameter",
    "Section",
    "SectionVariable",
    "Symbol",
    "Type",
]

KERNEL_BTF: Final = Path("/sys/kernel/btf/vmlinux")
MAX_FILE_BYTES: Final = 64 << 20
DECLARATION_SECTION: Final = ".rodata.arenads"
MAPS_SECTION: Final = ".maps"
ARENA_MAP_TYPE: Final = 33

_POINTER_BYTES: Final = 8
# The kernel gives up after 32 levels; no compiler comes near that.
_MAX_DEPTH: Final = 32
_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("=HBBIIIII")
_TYPE: Final = struct.Struct("=III")
_TWO_WORDS: Final = struct.Struct("=II")
_THREE_WORDS: Final = struct.Struct("=III")
_LITTLE: Final = sys.byteorder == "little"


class Kind(enum.IntEnum):
    """The BTF kinds, numbered as in the format.

    >>> Kind.STRUCT
    <Kind.STRUCT: 4>
    """

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes after the 12-byte header: a fixed part, and a part for each of `vlen` elements.
_TAILS: Final[dict[Kind, tuple[int, int]]] = {
    Kind.INT: (4, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (4, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 12),
}
_SIZED: Final = frozenset(
    {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.DATASEC}
)
TRANSPARENT: Final = frozenset(
    {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}
)
_KINDS: Final = tuple(Kind)


class Member(msgspec.Struct, frozen=True):
    """A member of a struct or union.

    `bit_size` is 0 for an ordinary member; `bit_offset` counts from the start of
    the struct. `name` is empty for an anonymous member.

    >>> Member("pid", 3, 64)
    Member(name='pid', type=3, bit_offset=64, bit_size=0)
    """

    name: str
    type: int
    bit_offset: int
    bit_size: int = 0


class Enumerator(msgspec.Struct, frozen=True):
    """One name and value of an enum.

    >>> Enumerator("GREEN", 5).value
    5
    """

    name: str
    value: int


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a function prototype (type 0 and no name: variadic).

    >>> Parameter("ctx", 7).name
    'ctx'
    """

    name: str
    type: int


class SectionVariable(msgspec.Struct, frozen=True):
    """A variable of a data section: its VAR type, offset and size in bytes.

    >>> SectionVariable(9, 0, 4).size
    4
    """

    type: int
    offset: int
    size: int


class Type(msgspec.Struct, frozen=True):
    """One BTF type, decoded.

    Attributes
    ----------
    id : int
        Its number; 0 is void.
    kind : Kind
    name : str
        Empty for anonymous types and for kinds without a name.
    size : int
        Bytes, for INT, FLOAT, STRUCT, UNION, ENUM, ENUM64 and DATASEC; else 0.
        `Btf.size` gives the size of any type.
    target : int
        The type referred to (PTR, TYPEDEF, qualifiers, tags, FUNC, VAR), the
        element type (ARRAY), the return type (FUNC_PROTO).
    count : int
        Elements of an ARRAY.
    members, enumerators, parameters, variables : tuple
        What STRUCT/UNION, ENUM/ENUM64, FUNC_PROTO and DATASEC are made of.
    signed, boolean, char : bool
        Encoding of INT; `signed` also of enums.
    bits, bit_offset : int
        Width of an INT in bits, and the offset of the value inside it.
    linkage : int
        Of VAR and FUNC: 0 static, 1 global, 2 extern.
    component : int
        Of DECL_TAG: the member or parameter that is tagged, -1 for the whole.
    union : bool
        Of FWD: the forward declaration is of a union.

    >>> from arenads.compiler import programs_dir
    >>> btf = Btf.from_object(programs_dir() / "demo.bpf.o")
    >>> task = btf.find(Kind.STRUCT, "task")
    >>> task.size, [member.name for member in task.members]
    (40, ['syscalls', 'switches', 'first_seen', 'comm'])
    """

    id: int
    kind: Kind
    name: str = ""
    size: int = 0
    target: int = 0
    count: int = 0
    index: int = 0
    members: tuple[Member, ...] = ()
    enumerators: tuple[Enumerator, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    variables: tuple[SectionVariable, ...] = ()
    signed: bool = False
    boolean: bool = False
    char: bool = False
    bits: int = 0
    bit_offset: int = 0
    linkage: int = 0
    component: int = -1
    union: bool = False


_VOID: Final = Type(id=0, kind=Kind.VOID, name="void")


class Btf:
    """The types of one BPF object or of a kernel, by number and by name.

    The types are indexed when the object is made and decoded when they are asked
    for, so that the kernel's hundred thousand types cost little.

    Every method raises `ObjectError` for types that are damaged.

    >>> from arenads.compiler import programs_dir
    >>> btf = Btf.from_object(programs_dir() / "demo.bpf.o")
    >>> task = btf.find(Kind.STRUCT, "task")
    >>> btf.spell(task.id), btf.size(task.id), btf.alignment(task.id)
    ('struct task', 40, 8)
    >>> comm = task.members[3]
    >>> btf.spell(comm.type), btf.size(comm.type), comm.bit_offset // 8
    ('char[16]', 16, 24)
    """

    def __init__(self, data: bytes, *, source: str = "BTF data") -> None:
        self._source = source
        self._data = data
        self._read_header()
        self._index()
        self._decoded: dict[int, Type] = {0: _VOID}
        self._alignments: dict[int, int] = {}
        self._names: dict[Kind, dict[str, int]] = {}

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, *, source: str = "BTF data") -> Btf:
        """Read raw BTF, as in an object's `.BTF` section.

        Raises
        ------
        ObjectError
            The data is not BTF of this machine's byte order, or is damaged.
        """
        return cls(bytes(data), source=source)

    @classmethod
    def from_object(cls, path: str | os.PathLike[str]) -> Btf:
        """Read the BTF of a BPF object file."""
        return ObjectFile.open(path).btf

    @classmethod
    def from_kernel(cls) -> Btf:
        """Read the BTF of the running kernel."""
        try:
            data = KERNEL_BTF.read_bytes()
        except OSError as error:
            raise ObjectError(
                f"expected the kernel's types in {KERNEL_BTF}, found: {error.strerror}; "
                "a kernel built with CONFIG_DEBUG_INFO_BTF has them",
                errno=error.errno,
                path=str(KERNEL_BTF),
            ) from None
        return cls(data, source=str(KERNEL_BTF))

    def __len__(self) -> int:
        """Return the number of types, void included: the first number that is not a type."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"<Btf {self._source}: {len(self)} types>"

    def types(self) -> Iterator[Type]:
        """Yield every type, in the order of their numbers, without void."""
        for number in range(1, len(self._starts)):
            yield self.type(number)

    def type(self, number: int) -> Type:
        """Return the type of that number.

        Raises
        ------
        ObjectError
            There is no such type, or it is damaged.
        """
        found = self._decoded.get(number)
        if found is None:
            found = self._decoded[number] = self._decode(number)
        return found

    def find(self, kind: Kind, name: str) -> Type | None:
        """Return the first type of that kind and name, or None.

        >>> import struct
        >>> strings = b"\\0int\\0"
        >>> types = struct.pack("=IIII", 1, 1 << 24, 4, 1 << 24 | 32)
        >>> head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 5)
        >>> Btf.from_bytes(head + types + strings).find(Kind.INT, "int").size
        4
        """
        names = self._names.get(kind)
        if names is None:
            names = self._names[kind] = {}
            for number in range(1, len(self._starts)):
                if self._kinds[number] == kind:
                    name_offset = _TYPE.unpack_from(self._data, self._starts[number])[0]
                    if name_offset:
                        names.setdefault(self._string(name_offset, self._starts[number]), number)
        number = names.get(name, 0)
        return self.type(number) if number else None

    def resolve(self, number: int) -> Type:
        """Return the type behind typedefs, const, volatile, restrict and type tags.

        Raises
        ------
        ObjectError
            The chain does not end.
        """
        current = self.type(number)
        for _ in range(_MAX_DEPTH):
            if current.kind not in TRANSPARENT:
                return current
            current = self.type(current.target)
        self._fail(
            f"type {number}: a chain of typedefs and qualifiers longer than {_MAX_DEPTH}, "
            "or one that refers to itself",
            self._starts[number],
        )

    def tags(self, number: int) -> tuple[str, ...]:
        """Return the type tags on the way from a type to what it resolves to, outermost first."""
        self.resolve(number)
        found = []
        current = self.type(number)
        while current.kind in TRANSPARENT:
            if current.kind is Kind.TYPE_TAG:
                found.append(current.name)
            current = self.type(current.target)
        return tuple(found)

    def size(self, number: int) -> int:
        """Return the size of a type in bytes, as `sizeof`.

        Raises
        ------
        ObjectError
            The type has no size (void, a function, a forward declaration).
        """
        elements = 1
        current = self.resolve(number)
        for _ in range(_MAX_DEPTH):
            if current.kind is Kind.ARRAY:
                elements *= current.count
                current = self.resolve(current.target)
                continue
            if current.kind is Kind.PTR:
                return elements * _POINTER_BYTES
            if current.kind in _SIZED:
                return elements * current.size
            if current.kind is Kind.VAR:
                current = self.resolve(current.target)
                continue
            self._fail(
                f"type {number}: expected a type that has a size, found {self.spell(number)}",
                self._starts[number],
            )
        self._fail(
            f"type {number}: arrays nested deeper than {_MAX_DEPTH}, or in themselves",
            self._starts[number],
        )

    def alignment(self, number: int) -> int:
        """Return the alignment of a type in bytes, as C would lay it out.

        BTF does not record an `aligned` attribute; a struct whose offsets or size
        do not fit its members' alignment is packed and gives 1.
        """
        return self._alignment(number, 0)

    def spell(self, number: int) -> str:
        """Return a type as C would name it, for messages: `struct task_stat *`."""
        return self._spell(number, 0)

    # --- reading ------------------------------------------------------------

    def _fail(self, message: str, offset: int) -> NoReturn:
        raise ObjectError(
            f"{self._source}: broken BTF at offset {offset}: {message}",
            offset=offset,
            source=self._source,
        )

    def _read_header(self) -> None:
        data = self._data
        if len(data) < _HEADER.size:
            self._fail(f"expected a header of {_HEADER.size} bytes, found {len(data)} bytes", 0)
        magic, version, _flags, header, type_at, type_bytes, string_at, string_bytes = (
            _HEADER.unpack_from(data)
        )
        if magic == 0x9FEB:
            raise ObjectError(
                f"{self._source}: the BTF is of the other byte order than this "
                f"{sys.byteorder}-endian machine; compile it for this machine",
                expected=sys.byteorder,
                offset=0,
            )
        if magic != _MAGIC:
            self._fail(f"expected the magic number 0xeb9f, found {magic:#06x}", 0)
        if version != 1:
            self._fail(f"expected BTF version 1, found {version}", 2)
        if header < _HEADER.size or header > len(data) or header % 4:
            self._fail(f"a header of {header} bytes in {len(data)} bytes of data", 4)
        self._types_at = header + type_at
        self._types_end = self._types_at + type_bytes
        self._strings_at = header + string_at
        self._strings_end = self._strings_at + string_bytes
        if self._types_end > len(data) or self._types_at % 4:
            self._fail(
                f"types from {self._types_at} to {self._types_end} in {len(data)} bytes of data", 8
            )
        if self._strings_end > len(data) or string_bytes == 0:
            self._fail(
                f"names from {self._strings_at} to {self._strings_end} in {len(data)} bytes of "
                "data",
                16,
            )
        if data[self._strings_at] or data[self._strings_end - 1]:
            self._fail(
                "expected names that begin and end with a zero byte, found other bytes",
                self._strings_at,
            )

    def _index(self) -> None:
        tails = [_TAILS.get(kind) for kind in _KINDS]
        fixed = [tail[0] + _TYPE.size if tail else 0 for tail in tails] + [0] * (32 - len(tails))
        each = [tail[1] if tail else 0 for tail in tails] + [0] * (32 - len(tails))
        starts = array("I", [0])
        kinds = bytearray(1)
        data, position, end = self._data, self._types_at, self._types_end
        unpack_from = _TYPE.unpack_from
        while position < end:
            if end - position < _TYPE.size:
                self._fail("the last type is cut off", position)
            info = unpack_from(data, position)[1]
            kind = info >> 24 & 0x1F
            size = fixed[kind]
            if not size:
                self._fail(f"type {len(starts)} has the unknown kind {kind}", position)
            starts.append(position)
            kinds.append(kind)
            position += size + each[kind] * (info & 0xFFFF)
        if position > end:
            self._fail(f"type {len(starts) - 1} runs past the end of the types", starts[-1])
        self._starts = starts
        self._kinds = kinds

    def _string(self, offset: int, place: int) -> str:
        if offset == 0:
            return ""
        start = self._strings_at + offset
        if start >= self._strings_end:
            self._fail(f"a name at {offset}, past the end of the names", place)
        stop = self._data.index(0, start, self._strings_end)
        try:
            return self._data[start:stop].decode()
        except UnicodeDecodeError:
            self._fail(f"the name at {offset} is not UTF-8", place)

    def _reference(self, number: int, place: int) -> int:
        if number >= len(self._starts):
            self._fail(
                f"a reference to type {number}, but the last type is {len(self._starts) - 1}",
                place,
            )
        return number

    def _decode(self, number: int) -> Type:
        if not 0 <= number < len(self._starts):
            self._fail(
                f"there is no type {number}, the last one is {len(self._starts) - 1}",
                self._types_at,
            )
        data, start = self._data, self._starts[number]
        name_offset, info, word = _TYPE.unpack_from(data, start)
        kind = _KINDS[self._kinds[number]]
        name = self._string(name_offset, start)
        flag = bool(info >> 31)
        count = info & 0xFFFF
        tail = start + _TYPE.size
        size = word if kind in _SIZED else 0

        if kind in (Kind.STRUCT, Kind.UNION):
            members = []
            for place in range(tail, tail + 12 * count, 12):
                member_name, target, offset = _THREE_WORDS.unpack_from(data, place)
                bits = 0
                if flag:
                    offset, bits = offset & 0xFFFFFF, offset >> 24
                members.append(
                    Member(
                        self._string(member_name, place),
                        self._reference(target, place),
                        offset,
                        bits,
                    )
                )
            return Type(number, kind, name, size, members=tuple(members))
        if kind is Kind.INT:
            (encoding,) = struct.unpack_from("=I", data, tail)
            return self._decode_int(number, name, size, encoding, start)
        if kind is Kind.ARRAY:
            element, index, length = _THREE_WORDS.unpack_from(data, tail)
            return Type(
                number,
                kind,
                name,
                target=self._reference(element, tail),
                index=self._reference(index, tail + 4),
                count=length,
            )
        if kind in (Kind.ENUM, Kind.ENUM64):
            return self._decode_enum(number, kind, name, size, flag, count)
        if kind is Kind.FUNC_PROTO:
            parameters = []
            for place in range(tail, tail + 8 * count, 8):
                parameter_name, target = _TWO_WORDS.unpack_from(data, place)
                parameters.append(
                    Parameter(self._string(parameter_name, place), self._reference(target, place))
                )
            return Type(
                number,
                kind,
                name,
                target=self._reference(word, start),
                parameters=tuple(parameters),
            )
        if kind is Kind.DATASEC:
            variables = []
            for place in range(tail, tail + 12 * count, 12):
                target, offset, variable_size = _THREE_WORDS.unpack_from(data, place)
                variables.append(
                    SectionVariable(self._reference(target, place), offset, variable_size)
                )
            return Type(number, kind, name, size, variables=tuple(variables))
        if kind is Kind.FLOAT:
            return Type(number, kind, name, size)
        if kind is Kind.FWD:
            return Type(number, kind, name, union=flag)

        target = self._reference(word, start)
        if kind is Kind.VAR:
            (linkage,) = struct.unpack_from("=I", data, tail)
            return Type(number, kind, name, target=target, linkage=linkage)
        if kind is Kind.FUNC:
            return Type(number, kind, name, target=target, linkage=count)
        if kind is Kind.DECL_TAG:
            (component,) = struct.unpack_from("=i", data, tail)
            return Type(number, kind, name, target=target, component=component)
        return Type(number, kind, name, target=target)

    def _decode_int(self, number: int, name: str, size: int, word: int, place: int) -> Type:
        bits, bit_offset, encoding = word & 0xFF, word >> 16 & 0xFF, word >> 24 & 0x0F
        if size not in (1, 2, 4, 8, 16) or not 0 < bits + bit_offset <= size * 8 or not bits:
            self._fail(f"type {number}: an integer of {bits} bits in {size} bytes", place)
        return Type(
            number,
            Kind.INT,
            name,
            size,
            signed=bool(encoding & 1),
            char=bool(encoding & 2),
            boolean=bool(encoding & 4),
            bits=bits,
            bit_offset=bit_offset,
        )

    def _decode_enum(
        self, number: int, kind: Kind, name: str, size: int, signed: bool, count: int
    ) -> Type:
        place = self._starts[number]
        if size not in (1, 2, 4, 8):
            self._fail(f"type {number}: an enum of {size} bytes", place)
        tail = place + _TYPE.size
        enumerators = []
        if kind is Kind.ENUM:
            form = struct.Struct("=Ii" if signed else "=II")
            for at in range(tail, tail + 8 * count, 8):
                value_name, value = form.unpack_from(self._data, at)
                enumerators.append(Enumerator(self._string(value_name, at), value))
        else:
            for at in range(tail, tail + 12 * count, 12):
                value_name, low, high = _THREE_WORDS.unpack_from(self._data, at)
                value = high << 32 | low
                if signed and value >> 63:
                    value -= 1 << 64
                enumerators.append(Enumerator(self._string(value_name, at), value))
        return Type(number, kind, name, size, enumerators=tuple(enumerators), signed=signed)

    def _alignment(self, number: int, depth: int) -> int:
        if number in self._alignments:
            return self._alignments[number]
        current = self.resolve(number)
        if depth > _MAX_DEPTH:
            self._fail(
                f"type {number}: records nested deeper than {_MAX_DEPTH}, or in themselves",
                self._starts[number],
            )
        if current.kind is Kind.PTR:
            answer = _POINTER_BYTES
        elif current.kind in (Kind.INT, Kind.FLOAT, Kind.ENUM, Kind.ENUM64):
            # long double may have 12 bytes; every other size is a power of two.
            answer = max(1, current.size & -current.size)
        elif current.kind in (Kind.ARRAY, Kind.VAR):
            answer = self._alignment(current.target, depth + 1)
        elif current.kind in (Kind.STRUCT, Kind.UNION):
            answer = 1
            packed = False
            for member in current.members:
                natural = self._alignment(member.type, depth + 1)
                answer = max(answer, natural)
                if not member.bit_size and member.bit_offset % (8 * natural):
                    packed = True
            if packed or current.size % answer:
                answer = 1
        else:
            self._fail(
                f"type {number}: expected a type that has an alignment, found {self.spell(number)}",
                self._starts[number],
            )
        self._alignments[number] = answer
        return answer

    def _spell(self, number: int, depth: int) -> str:
        if depth > _MAX_DEPTH:
            return "..."
        current = self.type(number)
        kind = current.kind
        if kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64):
            word = "enum" if kind is Kind.ENUM64 else kind.name.lower()
            return f"{word} {current.name or '{...}'}"
        if kind is Kind.FWD:
            return f"{'union' if current.union else 'struct'} {current.name}"
        if kind is Kind.PTR:
            return f"{self._spell(current.target, depth + 1)} *"
        if kind is Kind.ARRAY:
            return f"{self._spell(current.target, depth + 1)}[{current.count}]"
        if kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT):
            return f"{kind.name.lower()} {self._spell(current.target, depth + 1)}"
        if kind is Kind.TYPE_TAG:
            return self._spell(current.target, depth + 1)
        if kind is Kind.FUNC_PROTO:
            return "function"
        return current.name or kind.name.lower()


# --- ELF ----------------------------------------------------------------------

_ELF_HEADER: Final = struct.Struct("=16sHHIQQQIHHHHHH")
_ELF_SECTION: Final = struct.Struct("=IIQQQQIIQQ")
_ELF_SYMBOL: Final = struct.Struct("=IBBHQQ")
_RELOCATABLE: Final = 1
_BPF_MACHINE: Final = 247
_PROGBITS: Final = 1
_SYMTAB: Final = 2
_NOBITS: Final = 8
_EXECUTABLE: Final = 4
_OBJECT_SYMBOL: Final = 1
_FUNCTION_SYMBOL: Final = 2
_LOCAL: Final = 0


class Section(msgspec.Struct, frozen=True):
    """An ELF section: where it is in the file, in bytes.

    >>> from arenads.compiler import programs_dir
    >>> section = ObjectFile.open(programs_dir() / "demo.bpf.o").section("license")
    >>> section.name, section.size
    ('license', 13)
    """

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int


class Symbol(msgspec.Struct, frozen=True):
    """An ELF symbol: `value` is its offset in its section.

    >>> from arenads.compiler import programs_dir
    >>> symbols = ObjectFile.open(programs_dir() / "demo.bpf.o").symbols
    >>> "on_switch" in [symbol.name for symbol in symbols]
    True
    """

    name: str
    type: int
    binding: int
    section: int
    value: int
    size: int


class Declaration(msgspec.Struct, frozen=True):
    """A structure that a BPF object declares.

    Attributes
    ----------
    name : str
        Name of the variable and of the structure.
    kind : int
        Of `enum ads_kind`, see `arenads.kinds`.
    key, value : Type or None
        The record types as written (a typedef stays one); None where the
        declaration has no such member. `V *value` and `V (*value)[1]` both give V.
    max_entries : int
    handle_offset : int
        Offset of the 8-byte member `handle` in the variable.
    offset, size : int
        Of the variable in its section, in bytes.
    numbers : dict of str to int
        Numbers that other members carry, by the members' names.
    each_offset : int
        Offset of the member `each`, an array of 32-bit offsets: where each of some rings is. 0:
        the structure is one.
    each_count : int
        How many those are.

    >>> from arenads.compiler import programs_dir
    >>> tasks = ObjectFile.open(programs_dir() / "demo.bpf.o").declarations["tasks"]
    >>> tasks.key.name, tasks.value.name, tasks.max_entries
    ('__u32', 'task', 65536)
    """

    name: str
    kind: int
    key: Type | None
    value: Type | None
    max_entries: int
    handle_offset: int
    offset: int
    size: int
    numbers: dict[str, int] = {}
    each_offset: int = 0
    each_count: int = 0


class ArenaMap(msgspec.Struct, frozen=True):
    """An arena map that a BPF object declares; `max_entries` counts pages.

    >>> from arenads.compiler import programs_dir
    >>> ObjectFile.open(programs_dir() / "demo.bpf.o").arena_maps["arena"].max_entries
    16384
    """

    name: str
    max_entries: int
    map_flags: int = 0
    map_extra: int = 0


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


class ObjectFile:
    """What the loader needs to know of a BPF object file, read once.

    Attributes
    ----------
    path : str
    btf : Btf
    programs : dict of str to str
        Function name to section name, of every program: a function that is not
        static, in an executable section other than `.text`.
    license : str
        Empty if the object has none.
    declarations : dict of str to Declaration
    arena_maps : dict of str to ArenaMap
        At most one.

    >>> from arenads.compiler import programs_dir
    >>> file = ObjectFile.open(programs_dir() / "demo.bpf.o")
    >>> file.programs["on_switch"], file.license
    ('raw_tp/sched_switch', 'Dual MIT/GPL')
    """

    def __init__(self, data: bytes, *, path: str = "object") -> None:
        self.path = path
        self._data = data
        self._read_sections()
        self._read_symbols()
        btf = self.section(".BTF")
        if btf is None:
            self._fail(
                "expected BTF type information, found no .BTF section; compile with -g", None
            )
        self.btf = Btf(self.contents(btf), source=f"{path}, section .BTF")
        self.programs = self._find_programs()
        self.license = self._find_license()
        self.arena_maps = self._find_arena_maps()
        self.declarations = self._find_declarations()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ObjectFile:
        """Read a BPF object file.

        Raises
        ------
        ObjectError
            Not a readable file, not a BPF object of this machine's byte order,
            no BTF, damaged, or a declaration that is not one.
        """
        try:
            name = os.fsdecode(path)
        except TypeError:
            raise ObjectError(
                f"expected the path of a BPF object file, found {type(path).__name__}"
            ) from None
        try:
            # Not to wait for the other end, should the path be a FIFO.
            with open(path, "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise ObjectError(
                        f"{name}: expected a BPF object file, found something that is not a file",
                        path=name,
                    )
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ObjectError(
                f"{name}: expected a readable BPF object file, found: {reason}",
                errno=getattr(error, "errno", None),
                path=name,
            ) from None
        if len(data) > MAX_FILE_BYTES:
            raise ObjectError(
                f"{name}: expected a BPF object of at most {MAX_FILE_BYTES >> 20} MiB, "
                "found a larger file",
                path=name,
            )
        return cls(data, path=name)

    def __repr__(self) -> str:
        return (
            f"<ObjectFile {self.path}: {len(self.programs)} programs, "
            f"{len(self.declarations)} declarations>"
        )

    def section(self, name: str) -> Section | None:
        """Return the first section of that name, or None."""
        for section in self.sections:
            if section.name == name:
                return section
        return None

    def contents(self, section: Section) -> bytes:
        """Return the bytes of a section."""
        if section.type == _NOBITS:
            return b""
        return self._data[section.offset : section.offset + section.size]

    # --- reading ------------------------------------------------------------

    def _fail(self, message: str, offset: int | None) -> NoReturn:
        place = "" if offset is None else f" at offset {offset}"
        raise ObjectError(f"{self.path}{place}: {message}", offset=offset, path=self.path)

    def _read_sections(self) -> None:
        data = self._data
        if len(data) < 20 or data[:4] != b"\x7fELF":
            self._fail(
                f"expected a BPF object file (ELF), found a file that begins with {data[:4]!r}", 0
            )
        if data[4] != 2:
            self._fail(f"expected a 64-bit ELF file, found class {data[4]}", 4)
        if data[5] != (1 if _LITTLE else 2):
            self._fail(
                f"expected an object for this {sys.byteorder}-endian machine, found one of the "
                "other byte order; compile it for this machine",
                5,
            )
        if len(data) < _ELF_HEADER.size:
            self._fail("the ELF header is cut off", 0)
        header = _ELF_HEADER.unpack_from(data)
        kind, machine, sections_at, entry_size, count, names_index = (
            header[1],
            header[2],
            header[6],
            header[11],
            header[12],
            header[13],
        )
        if machine != _BPF_MACHINE:
            self._fail(
                f"expected an object for the BPF machine ({_BPF_MACHINE}), found one for machine "
                f"{machine}; compile with the target bpf",
                18,
            )
        if kind != _RELOCATABLE:
            self._fail(f"expected a relocatable object (type 1), found ELF type {kind}", 16)
        if entry_size != _ELF_SECTION.size or not count:
            self._fail(
                f"expected section headers of {_ELF_SECTION.size} bytes, found {count} of "
                f"{entry_size} bytes",
                58,
            )
        if sections_at + count * entry_size > len(data):
            self._fail(f"the {count} section headers run past the end of the file", sections_at)
        if names_index >= count:
            self._fail(f"section names in section {names_index}, but there are {count}", 62)

        raw = [
            _ELF_SECTION.unpack_from(data, sections_at + index * entry_size)
            for index in range(count)
        ]
        for index, fields in enumerate(raw):
            if fields[1] not in (0, _NOBITS) and fields[4] + fields[5] > len(data):
                self._fail(
                    f"section {index} ({fields[5]} bytes from {fields[4]}) runs past the end of "
                    f"the file ({len(data)} bytes)",
                    sections_at + index * entry_size,
                )
        names = raw[names_index]
        if names[1] in (0, _NOBITS):
            self._fail(f"section {names_index} holds no section names", 62)
        self.sections = tuple(
            Section(
                self._name(names[4], names[5], fields[0], sections_at + index * entry_size),
                fields[1],
                fields[2],
                fields[4],
                fields[5],
                fields[6],
            )
            for index, fields in enumerate(raw)
        )

    def _name(self, table: int, table_size: int, offset: int, place: int) -> str:
        if offset == 0 and not table_size:
            return ""
        if offset >= table_size:
            self._fail(f"a name at {offset}, past the end of the names", place)
        stop = self._data.find(0, table + offset, table + table_size)
        if stop < 0:
            self._fail(f"the name at {offset} does not end", place)
        try:
            return self._data[table + offset : stop].decode()
        except UnicodeDecodeError:
            self._fail(f"the name at {offset} is not UTF-8", place)

    def _read_symbols(self) -> None:
        self.symbols: tuple[Symbol, ...] = ()
        for section in self.sections:
            if section.type != _SYMTAB:
                continue
            if section.size % _ELF_SYMBOL.size:
                self._fail("the symbol table is cut off", section.offset)
            if not 0 < section.link < len(self.sections):
                self._fail(f"symbol names in section {section.link}, which is absent", None)
            names = self.sections[section.link]
            if names.type in (0, _NOBITS):
                self._fail(f"section {section.link} holds no symbol names", None)
            found = []
            for place in range(section.offset, section.offset + section.size, _ELF_SYMBOL.size):
                name, info, _other, index, value, size = _ELF_SYMBOL.unpack_from(self._data, place)
                kind = info & 0xF
                if kind not in (_OBJECT_SYMBOL, _FUNCTION_SYMBOL) or not index:
                    continue
                if index >= len(self.sections):
                    if index >= 0xFF00:
                        continue
                    self._fail(
                        f"a symbol in section {index}, but there are {len(self.sections)}", place
                    )
                if value + size > self.sections[index].size:
                    self._fail(
                        f"a symbol of {size} bytes at {value} in section {index} of "
                        f"{self.sections[index].size} bytes",
                        place,
                    )
                label = self._name(names.offset, names.size, name, place)
                found.append(Symbol(label, kind, info >> 4, index, value, size))
            self.symbols = tuple(found)
            return

    def _find_programs(self) -> dict[str, str]:
        programs: dict[str, str] = {}
        for symbol in self.symbols:
            section = self.sections[symbol.section]
            if (
                symbol.type == _FUNCTION_SYMBOL
                and symbol.binding != _LOCAL
                and section.type == _PROGBITS
                and section.flags & _EXECUTABLE
                and section.name != ".text"
            ):
                if symbol.name in programs:
                    self._fail(f"two programs are called {symbol.name!r}", None)
                programs[symbol.name] = section.name
        return programs

    def _find_license(self) -> str:
        section = self.section("license")
        if section is None:
            return ""
        return self.contents(section).split(b"\0", 1)[0].decode(errors="replace")

    def _variables(self, section_name: str) -> Iterator[tuple[Type, int, Type]]:
        """Yield (variable, offset in the section, resolved type) of a data section."""
        data_section = self.btf.find(Kind.DATASEC, section_name)
        if data_section is None:
            return
        section = self.section(section_name)
        if section is None:
            self._fail(f"the BTF speaks of a section {section_name}, which is absent", None)
        # Compilers leave the offsets of global variables to relocations; symbols have them.
        index = self.sections.index(section)
        symbols = {
            symbol.name: symbol
            for symbol in self.symbols
            if symbol.section == index and symbol.type == _OBJECT_SYMBOL
        }
        seen: set[str] = set()
        for entry in data_section.variables:
            variable = self.btf.type(entry.type)
            if variable.kind is not Kind.VAR or not variable.name:
                self._fail(
                    f"expected variables in section {section_name}, found "
                    f"{self.btf.spell(entry.type)}",
                    None,
                )
            if variable.name in seen:
                self._fail(
                    f"{variable.name!r} is declared twice in section {section_name}; give each "
                    "declaration a name of its own",
                    None,
                )
            seen.add(variable.name)
            symbol = symbols.get(variable.name)
            offset = symbol.value if symbol else entry.offset
            record = self.btf.resolve(variable.target)
            size = self.btf.size(variable.target)
            if offset + size > section.size:
                self._fail(
                    f"{variable.name!r} ({size} bytes at {offset}) runs past the end of section "
                    f"{section_name} ({section.size} bytes)",
                    None,
                )
            yield variable, offset, record

    def _find_arena_maps(self) -> dict[str, ArenaMap]:
        found: dict[str, ArenaMap] = {}
        for variable, _offset, record in self._variables(MAPS_SECTION):
            if record.kind is not Kind.STRUCT:
                continue
            members = {member.name: member for member in record.members}
            kind = members.get("type")
            if kind is None or self._number(variable.name, kind) != ARENA_MAP_TYPE:
                continue
            if "max_entries" not in members:
                self._fail(
                    f"the arena map {variable.name!r} has no max_entries; say how many pages the "
                    "arena has",
                    None,
                )
            found[variable.name] = ArenaMap(
                variable.name,
                self._number(variable.name, members["max_entries"]),
                *(
                    self._number(variable.name, members[name]) if name in members else 0
                    for name in ("map_flags", "map_extra")
                ),
            )
        if len(found) > 1:
            names = ", ".join(sorted(found))
            raise ObjectError(
                f"{self.path}: expected one arena, found {len(found)} ({names}); an object has "
                "one arena, which holds all of its structures",
                path=self.path,
                found=sorted(found),
            )
        return found

    def _find_declarations(self) -> dict[str, Declaration]:
        found: dict[str, Declaration] = {}
        for variable, offset, record in self._variables(DECLARATION_SECTION):
            name = variable.name
            if record.kind is not Kind.STRUCT:
                self._fail(
                    f"the declaration {name!r} is a {self.btf.spell(record.id)}, not a struct; "
                    "declare structures with the ADS_ macros",
                    None,
                )
            members = {member.name: member for member in record.members}
            for needed in ("kind", "max_entries", "handle"):
                if needed not in members:
                    self._fail(
                        f"the declaration {name!r} has no member {needed!r}; declare structures "
                        "with the ADS_ macros",
                        None,
                    )
            handle = members["handle"]
            if (
                self.btf.size(handle.type) != 8
                or handle.bit_size
                or handle.bit_offset % 64
                or handle.bit_offset // 8 + 8 > record.size
            ):
                self._fail(
                    f"the declaration {name!r} needs an aligned 8-byte member 'handle', found "
                    f"{self.btf.spell(handle.type)} at bit {handle.bit_offset}",
                    None,
                )
            each_offset, each_count = self._array_of_offsets(name, record, members.get("each"))
            found[name] = Declaration(
                name=name,
                kind=self._number(name, members["kind"]),
                key=self._pointee(name, members.get("key")),
                value=self._pointee(name, members.get("value")),
                max_entries=self._number(name, members["max_entries"]),
                handle_offset=handle.bit_offset // 8,
                offset=offset,
                size=record.size,
                numbers={
                    each: self._number(name, member)
                    for each, member in members.items()
                    if each not in ("kind", "key", "value", "max_entries", "handle", "each")
                },
                each_offset=each_offset,
                each_count=each_count,
            )
        return found

    def _array_of_offsets(self, owner: str, record: Type, member: Member | None) -> tuple[int, int]:
        """Return where the member `each` is and how many it holds."""
        if member is None:
            return 0, 0
        array = self.btf.resolve(member.type)
        at = member.bit_offset // 8
        if (
            array.kind is not Kind.ARRAY
            or self.btf.size(array.target) != 4
            or member.bit_offset % 32
            or at + 4 * array.count > record.size
            or not array.count
        ):
            self._fail(
                f"the declaration {owner!r} needs an array of 32-bit offsets as its member 'each', "
                f"found {self.btf.spell(member.type)} at bit {member.bit_offset}",
                None,
            )
        return at, array.count

    def _number(self, owner: str, member: Member) -> int:
        """Return a number that a member's type carries: an array's length, or an enum's value."""
        pointer = self.btf.resolve(member.type)
        if pointer.kind is Kind.PTR:
            target = self.btf.resolve(pointer.target)
            if target.kind is Kind.ARRAY:
                return target.count
        elif pointer.kind in (Kind.ENUM, Kind.ENUM64) and len(pointer.enumerators) == 1:
            return pointer.enumerators[0].value
        self._fail(
            f"{owner!r}: expected a number in member {member.name!r} (int (*{member.name})[N]), "
            f"found {self.btf.spell(member.type)}",
            None,
        )

    def _pointee(self, owner: str, member: Member | None) -> Type | None:
        if member is None:
            return None
        pointer = self.btf.resolve(member.type)
        if pointer.kind is not Kind.PTR:
            self._fail(
                f"{owner!r}: expected a pointer to a record type in member {member.name!r}, found "
                f"{self.btf.spell(member.type)}",
                None,
            )
        target = self.btf.type(pointer.target)
        if target.kind is Kind.ARRAY and target.count == 1:
            # `V (*value)[1]`: compilers describe what a pointer to a struct points to only
            # if something else needs it, but always what an array is made of.
            target = self.btf.type(target.target)
        if self.btf.resolve(target.id).kind is Kind.FWD:
            self._fail(
                f"{owner!r}: the object names {self.btf.spell(target.id)} as its {member.name} but "
                "does not describe its members; declare structures with the ADS_ macros",
                None,
            )
        # A key or value without a size is caught here, not at the first use.
        self.btf.size(target.id)
        return target
