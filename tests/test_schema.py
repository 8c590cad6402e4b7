"""Record schemas: layout as the compiler's, codec both ways, bad input refused."""

from __future__ import annotations

import ctypes
import enum
import math
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NewType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_maker import HINTS, Maker

from arenads import btf as btf_module
from arenads import schema as schema_module
from arenads.annotations import (
    Align,
    Array,
    Bits,
    Bytes,
    Ptr,
    Size,
    Str,
    char,
    f32,
    f64,
    from_class,
    from_type,
    i8,
    i32,
    i64,
    packed,
    schema_of,
    u8,
    u16,
    u32,
    u64,
)
from arenads.btf import Btf, Kind, ObjectFile
from arenads.btf_schema import from_btf
from arenads.codec import Codec
from arenads.comparison import compare
from arenads.compiler import compile, compile_shared
from arenads.errors import CompilerMissingError, LayoutError, SchemaError
from arenads.numpy_dtype import numpy_dtype
from arenads.python_class import python_class
from arenads.schema import (
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
    decode_schema,
    encode_schema,
)


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


class Signed(enum.IntEnum):
    BELOW = -1
    ABOVE = 1


class Point(msgspec.Struct):
    x: i32
    y: i32


class TaskStat(msgspec.Struct):
    calls: u64
    cpu: u16
    comm: Str[16]
    digest: Bytes[3]
    ratio: f32
    flag: bool
    color: Color
    place: Point
    path: Array[Point, 2]
    grid: Array[u16, 2, 3]


class Node(msgspec.Struct):
    next: Ptr[Node]
    leaf: Ptr[Leaf]
    data: Ptr[None]
    value: u64


class Leaf(msgspec.Struct):
    back: Ptr[Node]


class TwistedLeaf(msgspec.Struct):
    back: u32
    more: u32


class Twisted(msgspec.Struct):
    """As Node, but for what its pointers lead to."""

    next: Ptr[Twisted]
    leaf: Ptr[TwistedLeaf]
    data: Ptr[None]
    value: u64


class Exact(msgspec.Struct):
    comm: Annotated[str, Size(16)]
    digest: Annotated[bytes, Size(4)]
    numbers: Annotated[list[u32], Size(2)]
    fixed: Annotated[tuple[u32, ...], Size(2)]


class Flags(msgspec.Struct):
    low: Annotated[u32, Bits(3)]
    signed: Annotated[i32, Bits(5)]
    flag: Annotated[bool, Bits(1)]
    color: Annotated[Color, Bits(4)]
    wide: Annotated[u64, Bits(40)]
    after: u8


class Limited(msgspec.Struct):
    percent: Annotated[u8, msgspec.Meta(ge=0, le=100)]
    name: Annotated[str, Size(8), msgspec.Meta(min_length=2, pattern="^[a-z]+$")]
    even: Annotated[u32, msgspec.Meta(multiple_of=2)] = 0


class Loop(msgspec.Struct):
    inner: Loop


class Empty(msgspec.Struct):
    pass


class BadDefault(msgspec.Struct):
    small: u8 = 300


class BadName(msgspec.Struct):
    value: Undefined  # type: ignore[name-defined] # noqa: F821


class Plain(msgspec.Struct):
    value: int


class Keyword(msgspec.Struct):
    class_: u32


class KeywordOnly(msgspec.Struct, kw_only=True):
    first: u32
    second: u64 = 9


class Child(Point):
    z: i32


@packed
class Tight(msgspec.Struct):
    kind: u8
    length: u32


class Wide(msgspec.Struct):
    first: u8
    second: Annotated[u64, Align(64)]


TASK = TaskStat(
    calls=7,
    cpu=2,
    comm="bash",
    digest=b"abc",
    ratio=0.5,
    flag=True,
    color=Color.GREEN,
    place=Point(1, -2),
    path=[Point(3, 4), Point(5, 6)],
    grid=[[1, 2, 3], [4, 5, 6]],
)


def union_of(*fields: Field, size: int = 4) -> Record:
    return Record("", size, 1, fields, True)


WITH_UNION = Schema(
    Record(
        "message",
        16,
        8,
        (
            Field("kind", Scalar("u32"), 0),
            Field(
                "",
                union_of(Field("number", Scalar("i32"), 0), Field("real", Scalar("f32"), 0)),
                4,
            ),
            Field(
                "named",
                Record(
                    "inner",
                    8,
                    8,
                    (
                        Field("whole", Scalar("u64"), 0),
                        Field(
                            "",
                            Record(
                                "",
                                8,
                                4,
                                (Field("low", Scalar("u32"), 0), Field("high", Scalar("u32"), 4)),
                            ),
                            0,
                        ),
                    ),
                    True,
                ),
                8,
            ),
        ),
    )
)

# --- annotations --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "ctype"),
    [
        (u8, Scalar("u8")),
        (i64, Scalar("i64")),
        (f32, Scalar("f32")),
        (float, Scalar("f64")),
        (f64, Scalar("f64")),
        (bool, Scalar("bool")),
        (char, Scalar("char")),
        (Str[16], StrType(16)),
        (Bytes[5], BytesType(5)),
        (Array[u32, 8], ArrayType(Scalar("u32"), 8)),
        (Array[u32, 2, 3], ArrayType(ArrayType(Scalar("u32"), 3), 2)),
        (Array[Str[4], 2], ArrayType(StrType(4), 2)),
        (Annotated[str, Size(16)], StrType(16)),
        (Annotated[tuple[i8, ...], Size(2)], ArrayType(Scalar("i8"), 2)),
        (Ptr, PointerType()),
        (Ptr[None], PointerType()),
        (Ptr["node"], PointerType("node")),
        (Ptr[u32], PointerType("u32")),
        (Color, EnumType("Color", "u32", (("RED", 0), ("GREEN", 5)))),
        (Signed, EnumType("Signed", "i32", (("BELOW", -1), ("ABOVE", 1)))),
        (Annotated[Color, u8], EnumType("Color", "u8", (("RED", 0), ("GREEN", 5)))),
        (NewType("Pid", u32), Scalar("u32")),
    ],
)
def test_an_annotation_means_a_c_type(hint: object, ctype: CType) -> None:
    assert from_type(hint).type == ctype


def test_members_are_laid_out_with_holes_as_in_c() -> None:
    record = from_class(TaskStat).type
    assert isinstance(record, Record)
    assert [(field.name, field.offset) for field in record.fields] == [
        ("calls", 0),
        ("cpu", 8),
        ("comm", 10),
        ("digest", 26),
        ("ratio", 32),
        ("flag", 36),
        ("color", 40),
        ("place", 44),
        ("path", 52),
        ("grid", 68),
    ]
    assert (record.size, record.align) == (80, 8)


def test_members_of_base_classes_come_first() -> None:
    record = from_class(Child).type
    assert isinstance(record, Record)
    assert [field.name for field in record.fields] == ["x", "y", "z"]


def test_an_aligned_member_aligns_the_record() -> None:
    schema = from_class(Wide)
    assert (schema.size, schema.align, Codec(Wide).field("second")[0]) == (128, 64, 64)


def test_a_packed_class_has_no_holes() -> None:
    assert from_class(Tight).size == 5


def test_records_behind_pointers_are_part_of_the_schema() -> None:
    schema = from_class(Node)
    assert [record.name for record in schema.records] == ["Leaf"]
    assert schema.record("Node") is schema.type
    assert schema.record("absent") is None


def test_a_trailing_underscore_frees_a_keyword() -> None:
    record = from_class(Keyword).type
    assert isinstance(record, Record)
    assert record.fields[0].name == "class"


SHORT = msgspec.defstruct("Part", [("a", u32)])
LONG = msgspec.defstruct("Part", [("a", u64), ("b", u64)])
# Of a C program, with what its pointer leads to.
MADE = python_class(
    Schema(
        Record("made", 8, 8, (Field("part", PointerType("Part"), 0),)), (from_class(SHORT).type,)
    )
)
OUTER: Any = python_class(
    Schema(
        Record("outer", 8, 8, (Field("inner", from_class(MADE).type, 0),)),
        (from_class(SHORT).type,),
    )
)


@pytest.mark.parametrize(
    "members",
    [
        [Ptr[SHORT], Ptr[LONG]],
        [SHORT, LONG],
        [SHORT, Ptr[LONG]],
        [Array[SHORT, 2], Array[Ptr[LONG], 2]],
        [Ptr[msgspec.defstruct("Outer", [("part", SHORT)])], Ptr[LONG]],
        [Ptr[msgspec.defstruct("Outer", [("part", Ptr[SHORT])])], LONG],
        [MADE, Ptr[LONG]],
        [MADE, LONG],
        [type(OUTER().inner), Ptr[LONG]],
        [
            Ptr[msgspec.defstruct("Outer", [("part", SHORT)])],
            Ptr[msgspec.defstruct("Outer", [("part", LONG)])],
        ],
    ],
)
def test_two_records_of_one_name_are_refused(members: list[Any]) -> None:
    both = msgspec.defstruct("Both", [(f"m{at}", hint) for at, hint in enumerate(members)])
    for hint in (both, Array[both, 2]):
        with pytest.raises(SchemaError, match="different members are called 'Part'") as refused:
            from_type(hint)
        said = str(refused.value)
        assert "{u32 a} of 4 bytes" in said and "{u64 a; u64 b} of 16 bytes" in said
        assert said.endswith("; rename one, or use one for both")


@pytest.mark.parametrize(
    ("hint", "meta", "found"),
    [
        (u32, {"pattern": "^a"}, "pattern='^a'"),
        (u32, {"min_length": 2}, "min_length=2"),
        (f64, {"max_length": 2}, "max_length=2"),
        (bool, {"min_length": 1}, "min_length=1"),
        (Color, {"pattern": "RED"}, "pattern='RED'"),
        (Ptr[None], {"max_length": 8}, "max_length=8"),
        (Annotated[u32, Bits(3)], {"min_length": 2}, "min_length=2"),
        (Str[4], {"ge": 1}, "ge=1"),
        (Str[4], {"multiple_of": 2}, "multiple_of=2"),
        (Bytes[4], {"lt": 9}, "lt=9"),
        (Bytes[4], {"pattern": "^a"}, "pattern='^a'"),
        (char, {"le": 9}, "le=9"),
        (Array[u32, 2], {"gt": 1}, "gt=1"),
        (Point, {"min_length": 2}, "min_length=2"),
        (Point, {"ge": 2}, "ge=2"),
        (u64, {"tz": True}, "tz=True"),
    ],
)
def test_a_constraint_that_no_value_can_meet_is_refused_with_the_name_of_the_member(
    hint: Any, meta: dict[str, Any], found: str
) -> None:
    limited = Annotated[hint, msgspec.Meta(**meta)]
    complaint = f"expected of .*, found {re.escape(found)}, which no value of that type can meet"
    cls = msgspec.defstruct("Bounded", [("first", u8), ("member", limited)])
    with pytest.raises(SchemaError, match=f"^Bounded.member: {complaint}"):
        from_class(cls)
    if "Bits" not in str(hint):
        cls = msgspec.defstruct("Bounded", [("members", Array[limited, 2])])
        with pytest.raises(SchemaError, match=rf"^Bounded.members\[\]: {complaint}"):
            from_class(cls)


def test_the_class_of_a_record_within_another_knows_what_its_pointers_lead_to() -> None:
    assert from_class(type(OUTER().inner)).records == (from_class(SHORT).type,)


def test_a_record_and_what_it_points_to_do_not_share_a_name() -> None:
    with pytest.raises(SchemaError, match="are called 'Part'"):
        from_class(msgspec.defstruct("Part", [("next", Ptr[LONG])]))


def test_a_schema_with_two_records_of_one_name_makes_no_class_and_is_not_stored() -> None:
    inner, other = from_class(SHORT).type, from_class(LONG).type
    schema = Schema(Record("both", 4, 4, (Field("part", inner, 0),)), (other,))
    for use in (python_class, encode_schema, Codec):
        with pytest.raises(SchemaError, match="are called 'Part'"):
            use(schema)
    with pytest.raises(SchemaError, match="are called 'Part'"):
        decode_schema(msgspec.json.encode(schema))


def test_a_schema_stands_for_itself() -> None:
    schema = from_type(u32)
    assert schema_of(schema) is schema


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [
        (int, r"say how wide it is: u8 \.\.\. u64"),
        (str, r"say how long it is: Str\[16\]"),
        (bytes, r"say how long it is: Bytes\[16\]"),
        (list[u32], "say what it holds and how many"),
        (dict, "use the C types"),
        (u32 | None, "has no C form"),
        (enum.Enum("Names", "A B"), "expected an enum.IntEnum"),
        (Annotated[Color, f32], "expected an enum in an integer type"),
        (Plain, "Plain.value: int has no C form"),
        (Loop, "a record cannot contain itself"),
        (Empty, "at least one member"),
        (BadName, "annotation cannot be evaluated"),
        (BadDefault, "the default of BadDefault.small: expected an integer from 0 to 255"),
        (Str[0], "at least one byte"),
        (Str[1 << 30], "expected a size up to"),
        (Array[Str[0], 3], "elements of no size"),
        (Annotated[tuple[u32, u32], Size(2)], r"expected tuple\[type, \.\.\.\]"),
    ],
)
def test_a_type_without_a_c_form_is_refused(hint: object, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        from_type(hint)


@pytest.mark.parametrize("wrong", ["Str[-1]", "Bytes['x']", "Array[u32]", "Array[u32, 1.5]"])
def test_a_length_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SchemaError, match="expected"):
        eval(wrong)


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[u8, Bits(9)],
        Annotated[bool, Bits(2)],
        Annotated[f32, Bits(3)],
        Annotated[u8, Bits(0)],
        Annotated[u8, Align(3)],
        Annotated[u32, Bits(20), Align(2)],
    ],
)
def test_a_member_that_c_refuses_is_refused(hint: object) -> None:
    cls = msgspec.defstruct("Wrong", [("member", hint)])
    with pytest.raises(SchemaError):
        from_class(cls)


def test_only_records_have_classes() -> None:
    with pytest.raises(SchemaError, match="only records have classes"):
        python_class(from_type(u32))


def test_from_class_wants_a_class() -> None:
    with pytest.raises(SchemaError, match=r"expected a msgspec\.Struct class"):
        from_class(int)


# --- what the compiler says ------------------------------------------------------------


def compiled(directory: Path, text: str) -> ObjectFile:
    source = directory / "records.bpf.c"
    source.write_text(text)
    try:
        return ObjectFile.open(compile(source, flags=["-Wno-everything"]))
    except CompilerMissingError as error:
        pytest.skip(str(error))


def sample_bytes(opened: ObjectFile, name: str) -> bytes:
    symbol = next(item for item in opened.symbols if item.name == name)
    contents = opened.contents(opened.sections[symbol.section])
    return contents[symbol.value : symbol.value + symbol.size]


def type_id(opened: ObjectFile, name: str) -> int:
    found = opened.btf.find(Kind.STRUCT, name)
    assert found is not None
    return found.id


@pytest.fixture(scope="module", params=range(3))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    maker = Maker(request.param)
    for _ in range(120):
        maker.sample()
    text = "\n".join(maker.text)
    return maker, compiled(tmp_path_factory.mktemp("records"), text)


def test_python_and_compiler_lay_records_out_alike(made: Any) -> None:
    maker, opened = made
    for name, (cls, _value) in maker.samples.items():
        compare(from_class(cls), from_btf(opened.btf, type_id(opened, name)), what=name)


def test_packed_bytes_are_those_of_the_compiler(made: Any) -> None:
    maker, opened = made
    for name, (cls, value) in maker.samples.items():
        assert Codec(cls).pack(value) == sample_bytes(opened, f"sample_{name}"), name


def test_packed_bytes_are_those_of_the_compiler_for_this_machine(made: Any, tmp_path: Path) -> None:
    maker, _opened = made
    source = tmp_path / "records.c"
    source.write_text("\n".join(maker.text))
    try:
        path = compile_shared(source, tmp_path / "records.so", flags=["-w"])
    except CompilerMissingError as error:
        pytest.skip(str(error))
    library = ctypes.CDLL(str(path))
    for name, (cls, value) in maker.samples.items():
        codec = Codec(cls)
        sample = (ctypes.c_char * codec.size).in_dll(library, f"sample_{name}")
        assert codec.pack(value) == sample.raw, name


def test_packed_bytes_are_the_same_through_btf(made: Any) -> None:
    maker, opened = made
    for name, (_cls, value) in maker.samples.items():
        codec = Codec(from_btf(opened.btf, type_id(opened, name)))
        assert codec.pack(value) == sample_bytes(opened, f"sample_{name}"), name


def test_unpacked_records_pack_to_the_same_bytes(made: Any) -> None:
    maker, opened = made
    for name in maker.samples:
        codec = Codec(from_btf(opened.btf, type_id(opened, name)))
        raw = sample_bytes(opened, f"sample_{name}")
        assert codec.pack(codec.unpack(raw)) == raw, name


CORPUS = """
typedef unsigned int __u32;
typedef char name_t[8];
struct node { struct node __attribute__((btf_type_tag("arena"))) *next; int value; };
enum color { RED, GREEN = 5 };
enum signed_color { BELOW = -1, ABOVE };
enum wide { LARGE = 0x1234567890ULL };
typedef struct { int a; } only_typedef;
struct everything {
    __u32 id;
    name_t name;
    unsigned char mac[6];
    signed char numbers[2];
    char letter;
    char names[2][3];
    enum color color;
    enum signed_color below;
    enum wide wide;
    union { int number; float real; struct { short low; short high; }; };
    struct { int inner; };
    union { int as_int; unsigned char as_bytes[4]; } named;
    struct node *next;
    int (*call)(int);
    void *any;
    _Bool flag;
    const volatile short limit;
    only_typedef other;
    int class;
    int __hidden;
    unsigned odd : 11, : 5, even : 7;
    long long big : 40;
};
const volatile struct everything sample __attribute__((section(".rodata.samples"), used)) = {
    .id = 7, .name = "abc", .mac = {1, 2, 3, 4, 5, 6}, .numbers = {-1, 1}, .letter = 'R',
    .names = {"ab", "cd"}, .color = GREEN, .below = BELOW, .wide = LARGE, .low = 1, .high = 2,
    .inner = 8, .named.as_int = 0x01020304, .any = (void *)4096, .flag = 1, .limit = -3,
    .other.a = 9, .class = 10, .__hidden = 11, .odd = 2000, .even = 100, .big = -5,
};
typedef enum { FIRST, SECOND } typedef_enum;
typedef struct { int x; } color; /* a tag has the name already */
struct by_typedefs {
    typedef_enum order;
    only_typedef inner;
    const only_typedef inners[2];
    only_typedef *pointer;
    color taken;
};
const volatile struct by_typedefs by_typedefs
    __attribute__((section(".rodata.samples"), used)) = {};
const volatile struct node a_node __attribute__((section(".rodata.samples"), used)) = {};
const volatile only_typedef alone __attribute__((section(".rodata.samples"), used)) = {1};
struct incomplete;
const volatile struct { struct incomplete *to; int (*function)(void); } bad
    __attribute__((section(".rodata.samples"), used)) = {};
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ObjectFile:
    return compiled(tmp_path_factory.mktemp("corpus"), CORPUS)


@pytest.fixture(scope="module")
def everything(corpus: ObjectFile) -> Schema:
    return from_btf(corpus.btf, type_id(corpus, "everything"))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("id", 7),
        ("name", "abc"),
        ("mac", b"\1\2\3\4\5\6"),
        ("numbers", [-1, 1]),
        ("letter", b"R"),
        ("names", ["ab", "cd"]),
        ("color", 5),
        ("below", -1),
        ("wide", 0x1234567890),
        ("low", 1),
        ("high", 2),
        ("number", 0x20001),
        ("inner", 8),
        ("next", 0),
        ("any", 4096),
        ("flag", True),
        ("limit", -3),
        ("class_", 10),
        ("_hidden", 11),
        ("odd", 2000),
        ("even", 100),
        ("big", -5),
    ],
)
def test_a_c_record_is_read_with_its_own_names(
    corpus: ObjectFile, everything: Schema, attribute: str, value: object
) -> None:
    record = Codec(everything).unpack(sample_bytes(corpus, "sample"))
    assert getattr(record, attribute) == value


def test_enum_values_are_members_of_an_enum_class(corpus: ObjectFile, everything: Schema) -> None:
    record = Codec(everything).unpack(sample_bytes(corpus, "sample"))
    assert isinstance(record.color, enum.IntEnum)
    assert record.color.name == "GREEN"


def test_a_c_record_packs_to_the_same_bytes(corpus: ObjectFile, everything: Schema) -> None:
    codec = Codec(everything)
    raw = sample_bytes(corpus, "sample")
    assert codec.pack(codec.unpack(raw)) == raw


def test_nested_c_records_have_classes_of_their_own(corpus: ObjectFile, everything: Schema) -> None:
    record = Codec(everything).unpack(sample_bytes(corpus, "sample"))
    assert repr(record.named) == (
        "everything_named(as_int=16909060, as_bytes=b'\\x04\\x03\\x02\\x01')"
    )


def test_a_record_behind_a_pointer_is_found(everything: Schema) -> None:
    node = everything.record("node")
    assert node is not None
    assert [field.name for field in node.fields] == ["next", "value"]


def test_a_record_without_a_tag_is_known_by_its_typedef(corpus: ObjectFile) -> None:
    found = corpus.btf.find(Kind.TYPEDEF, "only_typedef")
    assert found is not None
    assert from_btf(corpus.btf, found.id).name == "only_typedef"


def test_members_without_a_tag_are_known_by_their_typedefs(corpus: ObjectFile) -> None:
    schema = from_btf(corpus.btf, type_id(corpus, "by_typedefs"))
    record: Any = Codec(schema).unpack(bytes(schema.size))
    assert type(record.order).__name__ == "typedef_enum"
    assert type(record.inner).__name__ == type(record.inners[1]).__name__ == "only_typedef"
    assert type(record.taken).__name__ == "by_typedefs_taken"


def test_a_record_without_a_tag_behind_a_pointer_is_found(corpus: ObjectFile) -> None:
    schema = from_btf(corpus.btf, type_id(corpus, "by_typedefs"))
    found = schema.record("only_typedef")
    assert found is not None
    assert [field.name for field in found.fields] == ["a"]
    assert PointerType("only_typedef") in [field.type for field in schema.type.fields]  # type: ignore[union-attr]


def test_the_schema_of_a_c_record_is_stored_and_read_back(everything: Schema) -> None:
    assert decode_schema(encode_schema(everything)) == everything


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [(Kind.FWD, "declared but not defined"), (Kind.FUNC_PROTO, "fixed layout")],
)
def test_a_c_type_without_a_layout_is_refused(
    corpus: ObjectFile, kind: Kind, complaint: str
) -> None:
    found = next(item for item in corpus.btf.types() if item.kind is kind)
    with pytest.raises(SchemaError, match=complaint):
        from_btf(corpus.btf, found.id)


def test_void_has_no_layout(corpus: ObjectFile) -> None:
    with pytest.raises(SchemaError, match="found void"):
        from_btf(corpus.btf, 0)


def test_records_of_the_kernel_can_be_packed_and_unpacked() -> None:
    if not btf_module.KERNEL_BTF.exists():
        pytest.skip(f"this kernel has no {btf_module.KERNEL_BTF}")
    kernel = Btf.from_kernel()
    for name in ("list_head", "sockaddr_in6", "in6_addr", "page", "rb_node", "sk_buff"):
        found = kernel.find(Kind.STRUCT, name)
        if found is None:
            continue
        codec = Codec(from_btf(kernel, found.id))
        assert codec.pack(codec.unpack(bytes(codec.size))) == bytes(codec.size), name


# --- the codec ----------------------------------------------------------------------------


def test_a_record_comes_back_as_it_went() -> None:
    codec = Codec(TaskStat)
    assert codec.unpack(codec.pack(TASK)) == TASK


def test_enums_come_back_as_members() -> None:
    codec = Codec(TaskStat)
    assert codec.unpack(codec.pack(TASK)).color is Color.GREEN


def test_an_enum_value_without_a_name_is_an_int() -> None:
    codec = Codec(Color)
    assert codec.unpack(codec.pack(77)) == 77


def test_padding_is_zero() -> None:
    assert Codec(Wide).pack(Wide(255, 0)) == b"\xff" + bytes(127)


def test_text_ends_at_the_first_nul() -> None:
    assert Codec(Str[8]).unpack(b"ab\0cdefg") == "ab"


def test_text_that_is_not_utf_8_is_kept_as_surrogates() -> None:
    codec = Codec(Str[4])
    assert codec.unpack(b"a\xff\0\0") == "a\udcff"
    assert codec.pack("a\udcff") == b"a\xff\0\0"


def test_text_may_fill_its_array() -> None:
    codec = Codec(Str[4])
    assert codec.unpack(codec.pack("abcd")) == "abcd"


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        SimpleNamespace(x=1, y=2),
        {"x": 1, "y": 2},
        {"y": 2, "x": 1},
        (1, 2),
    ],
)
def test_records_are_taken_in_many_forms(value: object) -> None:
    assert Codec(Point).pack(value) == struct.pack("=ii", 1, 2)


def test_nested_records_may_be_mappings_and_tuples() -> None:
    value = msgspec.structs.asdict(TASK) | {"place": {"x": 1, "y": -2}, "path": [(3, 4), (5, 6)]}
    assert Codec(TaskStat).pack(value) == Codec(TaskStat).pack(TASK)


def test_a_mapping_takes_c_names_and_attributes() -> None:
    codec = Codec(Keyword)
    assert codec.pack({"class": 1}) == codec.pack({"class_": 1})


def test_defaults_fill_in_for_absent_keys() -> None:
    codec = Codec(KeywordOnly)
    assert codec.unpack(codec.pack({"first": 1})) == KeywordOnly(first=1, second=9)


def test_bit_fields_come_back() -> None:
    codec = Codec(Flags)
    value = Flags(5, -16, True, Color.GREEN, (1 << 40) - 1, 9)
    assert codec.unpack(codec.pack(value)) == value


def test_arrays_come_back_in_the_sequence_that_was_asked_for() -> None:
    codec = Codec(Exact)
    value = Exact("x", b"abcd", [1, 2], (3, 4))
    assert codec.unpack(codec.pack(value)) == value


def test_pointers_are_addresses() -> None:
    codec = Codec(Node)
    assert codec.unpack(codec.pack(Node(1 << 40, 0, 5, 6))).next == 1 << 40


def test_a_record_is_read_at_an_offset() -> None:
    assert Codec(u32).unpack(b"\xff" + struct.pack("=I", 7), 1) == 7


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_read(kind: Callable[[bytes], Any]) -> None:
    assert Codec(u16).unpack(kind(b"\1\0")) == 1


@pytest.mark.parametrize(
    ("buffer", "offset", "complaint"),
    [
        (b"abc", 0, "expected 4 bytes of u32 at offset 0, found a buffer of 3 bytes"),
        (b"abcdef", 3, "found a buffer of 6 bytes"),
        ("text", 0, "expected a buffer"),
        (None, 0, "found NoneType"),
        (b"abcd", "x", "cannot unpack"),
    ],
)
def test_a_buffer_that_is_too_short_is_refused(buffer: Any, offset: Any, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        Codec(u32).unpack(buffer, offset)


def task(**changes: object) -> dict[str, object]:
    return msgspec.structs.asdict(TASK) | changes


@pytest.mark.parametrize(
    ("cls", "value", "complaint"),
    [
        (u32, -1, r"expected an integer from 0 to 4294967295 \(u32\), found -1"),
        (u8, 256, "expected an integer from 0 to 255"),
        (i8, -129, "expected an integer from -128 to 127"),
        (u32, "7", "found '7'"),
        (u32, 1.5, "found 1.5"),
        (u32, None, "found NoneType None"),
        (f32, 1e300, "expected a number"),
        (f64, "x", "expected a number"),
        (bool, 2, "expected a bool, found 2"),
        (bool, [], "expected a bool"),
        (char, b"ab", "expected bytes of length 1"),
        (Color, 1 << 40, "expected an integer from 0 to 4294967295"),
        (Ptr, -1, "expected an integer"),
        (Str[4], "abcde", "expected text of at most 4 bytes"),
        (Str[4], "äöü", "expected text of at most 4 bytes"),
        (Str[4], "a\0b", "without NUL"),
        (Str[4], "\ud800", "expected text"),
        (Str[4], 7, "expected text"),
        (Bytes[4], b"abc", "expected 4 bytes"),
        (Bytes[4], "abcd", "expected 4 bytes"),
        (Array[u32, 3], [1, 2], "expected a sequence of 3 elements"),
        (Array[u32, 3], 7, "expected a sequence of 3 elements"),
        (Array[u32, 3], [1, -2, 3], r"\[1\]: expected an integer"),
        (Array[u8, 2], [1, 256], r"\[1\]: expected an integer from 0 to 255"),
        (TaskStat, task(calls=-1), "calls: expected an integer"),
        (TaskStat, task(grid=[[1, 2, 3], [4, 5, -6]]), r"grid\[1\]\[2\]: expected an integer"),
        (TaskStat, task(path=[Point(1, 2), Point(1, 1 << 40)]), r"path\[1\]\.y: expected"),
        (TaskStat, task(place=7), "place: expected a Point, a mapping or a tuple, found int"),
        (TaskStat, task(other=7), "TaskStat has no member 'other'; it has calls, cpu"),
        (Point, {"x": 1}, "found none for 'y'"),
        (Point, (1, 2, 3), r"expected 2 values \(x, y\), found 3"),
        (Point, 7, "expected a Point, a mapping or a tuple, found int without 'x'"),
        (Flags, Flags(8, 0, False, Color.RED, 0, 0), "low: expected an integer from 0 to 7"),
        (Flags, Flags(0, 16, False, Color.RED, 0, 0), "signed: expected an integer from -16 to 15"),
        (Limited, Limited(101, "ab"), "percent: expected a value at most 100, found 101"),
        (Limited, Limited(1, "a"), "name: expected a length of at least 2, found 'a'"),
        (Limited, Limited(1, "A1"), "name: expected text like"),
        (Limited, Limited(1, "ab", 3), "even: expected a multiple of 2, found 3"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(cls: Any, value: object, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        Codec(cls).pack(value)


def test_the_error_keeps_its_facts() -> None:
    with pytest.raises(SchemaError) as caught:
        Codec(Point).pack((1, "x"))
    assert (caught.value.field, caught.value.found) == ("y", "x")


def test_constraints_on_elements_name_the_element() -> None:
    hint = Annotated[list[Annotated[u8, msgspec.Meta(le=3)]], Size(2)]
    assert Codec(hint).pack([1, 3]) == b"\1\3"
    with pytest.raises(SchemaError, match=r"\[1\]: expected a value at most 3, found 4"):
        Codec(hint).pack([1, 4])


def test_a_byte_array_may_be_given_as_numbers() -> None:
    assert Codec(Bytes[3]).pack([1, 2, 255]) == b"\1\2\xff"


def test_values_within_constraints_are_packed() -> None:
    codec = Codec(Limited)
    assert codec.unpack(codec.pack(Limited(100, "ab", 4))) == Limited(100, "ab", 4)


def test_many_records_are_read_at_once() -> None:
    raw = b"".join(struct.pack("=iiQ", number, -number, 0) for number in range(5))
    points = Codec(Point).unpack_many(raw, 16, 0, 5)
    assert points == [Point(number, -number) for number in range(5)]


def test_the_last_of_many_records_needs_no_padding() -> None:
    assert Codec(u16).unpack_many(b"\1\0\0\0\0\0\2\0", 6, 0, 2) == [1, 2]


def test_none_of_many_records_is_an_empty_list() -> None:
    assert Codec(u16).unpack_many(b"", 2, 0, 0) == []


@pytest.mark.parametrize(
    ("stride", "offset", "count"), [(2, 0, 5), (2, 1, 4), (1, 0, 2), (2, -1, 1), (2, 0, -1)]
)
def test_many_records_outside_of_the_buffer_are_refused(
    stride: int, offset: int, count: int
) -> None:
    with pytest.raises(SchemaError, match="found"):
        Codec(u16).unpack_many(bytes(8), stride, offset, count)


@pytest.mark.parametrize(
    ("path", "offset", "name"),
    [
        ("calls", 0, "u64"),
        ("place.y", 48, "i32"),
        ("path[1].x", 60, "i32"),
        ("grid[1][2]", 78, "u16"),
        ("digest[2]", 28, "u8"),
        ("color", 40, "u32"),
    ],
)
def test_a_member_is_found_by_its_path(path: str, offset: int, name: str) -> None:
    assert Codec(TaskStat).field(path) == (offset, Scalar(name))


def test_the_path_of_a_scalar_is_empty() -> None:
    assert Codec(u64).field("") == (0, Scalar("u64"))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("absent", "has no member 'absent'; it has calls"),
        ("calls.x", "which has no members"),
        ("calls[0]", "is no array"),
        ("grid[2][0]", "expected an index below 2, found 2"),
        ("grid", "expected a number"),
        ("place", "expected a number"),
        ("", "expected a number"),
        ("grid[-1]", "expected a member such as"),
        ("calls.", "expected a member such as"),
        (".calls", "expected a member such as"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        Codec(TaskStat).field(path)


def test_a_bit_field_has_no_address() -> None:
    with pytest.raises(SchemaError, match="bit field"):
        Codec(Flags).field("low")


def test_members_of_anonymous_members_have_paths() -> None:
    assert Codec(WITH_UNION).field("named.high") == (12, Scalar("u32"))


# --- generated classes --------------------------------------------------------------------


def test_a_generated_class_shows_its_members() -> None:
    assert repr(python_class(from_class(Point))(1, 2)) == "Point(x=1, y=2)"


def test_members_of_a_generated_class_are_zero_unless_given() -> None:
    codec = Codec(from_class(TaskStat))
    assert codec.cls is not None
    assert codec.pack(codec.cls()) == bytes(codec.size)


def test_one_schema_has_one_class() -> None:
    schema = from_class(TaskStat)
    assert python_class(schema) is python_class(decode_schema(encode_schema(schema)))


def test_a_generated_class_gives_its_schema_back() -> None:
    schema = from_class(TaskStat)
    assert schema_of(python_class(schema)) == schema


def test_a_generated_class_can_be_given_as_ones_own() -> None:
    schema = from_class(TaskStat)
    codec = Codec(schema, python_class(schema))
    assert codec.unpack(codec.pack(TASK)).comm == "bash"


def test_a_frozen_record_is_hashable() -> None:
    codec = Codec(from_class(TaskStat), frozen=True)
    assert len({codec.unpack(codec.pack(TASK)), codec.unpack(codec.pack(TASK))}) == 1


def test_annotations_of_a_generated_class_name_c_types() -> None:
    cls = python_class(from_class(Point))
    assert cls.__annotations__["x"] == i32


def test_names_that_become_equal_stay_apart() -> None:
    record = Record(
        "r",
        12,
        4,
        (
            Field("class", Scalar("u32"), 0),
            Field("class_", Scalar("u32"), 4),
            Field("__init__", Scalar("u32"), 8),
        ),
    )
    codec = Codec(Schema(record))
    assert codec.pack(codec.unpack(bytes(range(12)))) == bytes(range(12))


def test_enum_members_may_have_any_name_that_c_allows() -> None:
    names = ("mro", "name", "value", "_x_", "__y__", "None", "_", "__private", "real")
    ctype = EnumType("odd", "u32", tuple((name, at) for at, name in enumerate(names)))
    codec = Codec(Schema(Record("r", 4, 4, (Field("member", ctype, 0),))))
    found = [codec.unpack(struct.pack("=I", at)).member for at in range(len(names))]
    assert [member.value for member in found] == list(range(len(names)))
    assert all(isinstance(member, enum.IntEnum) for member in found)


# --- unions ----------------------------------------------------------------------------------


def test_every_member_of_a_union_is_read() -> None:
    raw = struct.pack("=IfQ", 1, 0.5, 3 << 32 | 4)
    record = Codec(WITH_UNION).unpack(raw)
    assert (record.number, record.real) == (0x3F000000, 0.5)
    assert (record.named.whole, record.named.low, record.named.high) == (3 << 32 | 4, 4, 3)


def test_what_was_read_from_a_union_can_be_written_back() -> None:
    codec = Codec(WITH_UNION)
    raw = struct.pack("=IfQ", 1, 0.1, 3 << 32 | 4)
    assert codec.pack(codec.unpack(raw)) == raw


@pytest.mark.parametrize(
    ("given", "raw"),
    [
        ({"number": -1}, b"\xff\xff\xff\xff"),
        ({"real": 0.5}, struct.pack("=f", 0.5)),
        ({"real": 0.1}, struct.pack("=f", 0.1)),
        ({}, bytes(4)),
    ],
)
def test_one_member_of_a_union_is_enough(given: dict[str, object], raw: bytes) -> None:
    assert Codec(WITH_UNION).pack(given)[4:8] == raw


def test_members_of_a_union_that_contradict_are_refused() -> None:
    with pytest.raises(SchemaError, match="'number' and 'real' share their place"):
        Codec(WITH_UNION).pack({"number": 1, "real": 1.0})


def test_a_named_union_is_a_record_of_its_own() -> None:
    assert Codec(WITH_UNION).pack({"named": {"high": 1}})[8:] == struct.pack("=Q", 1 << 32)


def test_text_that_is_none_survives_a_union() -> None:
    union = union_of(Field("text", StrType(8), 0), Field("number", Scalar("u64"), 0), size=8)
    codec = Codec(Schema(Record("r", 8, 8, (Field("", union, 0),))))
    raw = b"ab\0\xff\0\0cd"
    assert codec.pack(codec.unpack(raw)) == raw


def test_text_in_a_union_may_be_longer_than_the_others() -> None:
    union = union_of(Field("text", StrType(8), 0), Field("number", Scalar("u16"), 0), size=8)
    codec = Codec(Schema(Record("r", 8, 8, (Field("", union, 0),))))
    assert codec.pack(codec.unpack(b"abcdef\0\0")) == b"abcdef\0\0"


def test_a_bit_field_may_be_in_a_union() -> None:
    union = union_of(
        Field("all", Scalar("u32"), 0),
        Field("", Record("", 4, 4, (Field("a", Scalar("u32"), 0, 0, 3),
                                    Field("b", Scalar("u32"), 0, 3, 29))), 0),
    )  # fmt: skip
    codec = Codec(Schema(Record("r", 4, 4, (Field("", union, 0),))))
    assert codec.unpack(struct.pack("=I", 5 | 9 << 3)) == codec.cls(all=77, a=5, b=9)  # type: ignore[misc]
    assert codec.pack({"a": 5, "b": 9}) == struct.pack("=I", 77)


# --- round trips of anything ------------------------------------------------------------------


@st.composite
def types(draw: st.DrawFn, depth: int = 0) -> tuple[CType, st.SearchStrategy[Any]]:
    """Draw a C type and a strategy for its values, as they are read back."""
    kinds = ["int", "int", "float", "bool", "char", "str", "bytes", "enum", "ptr"]
    if depth < 3:
        kinds += ["array", "record", "record"]
    kind = draw(st.sampled_from(kinds))
    if kind == "int":
        bits = draw(st.sampled_from([8, 16, 32, 64]))
        if draw(st.booleans()):
            return Scalar(f"u{bits}"), st.integers(0, (1 << bits) - 1)
        return Scalar(f"i{bits}"), st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    if kind == "float":
        bits = draw(st.sampled_from([32, 64]))
        return Scalar(f"f{bits}"), st.floats(allow_nan=False, width=bits)  # type: ignore[arg-type]
    if kind == "bool":
        return Scalar("bool"), st.booleans()
    if kind == "char":
        return Scalar("char"), st.binary(min_size=1, max_size=1)
    if kind == "str":
        size = draw(st.integers(1, 20))
        text = st.text(
            st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=size
        )
        return StrType(size), text.filter(lambda value: len(value.encode()) <= size)
    if kind == "bytes":
        size = draw(st.integers(0, 20))
        return BytesType(size), st.binary(min_size=size, max_size=size)
    if kind == "enum":
        return EnumType("e", "i16", (("A", 0), ("B", -5))), st.sampled_from([0, -5, 9])
    if kind == "ptr":
        return PointerType("x"), st.integers(0, (1 << 64) - 1)
    if kind == "array":
        element, values = draw(types(depth + 1).filter(lambda pair: pair[0].size > 0))
        count = draw(st.sampled_from([0, 1, 2, 3, 40]))
        return ArrayType(element, count), st.lists(values, min_size=count, max_size=count)
    return draw(records(depth + 1))


@st.composite
def records(draw: st.DrawFn, depth: int = 0) -> tuple[Record, st.SearchStrategy[Any]]:
    position = 0
    fields: list[Field] = []
    values: dict[str, st.SearchStrategy[Any]] = {}
    for number in range(draw(st.integers(1, 6))):
        name = f"m{depth}_{number}"
        if draw(st.integers(0, 3)) == 0:
            bits = draw(st.integers(1, 64))
            position += draw(st.integers(0, 9))
            sign = draw(st.booleans())
            fields.append(
                Field(name, Scalar("i64" if sign else "u64"), position // 8, position % 8, bits)
            )
            low = -(1 << bits - 1) if sign else 0
            values[name] = st.integers(low, low + (1 << bits) - 1)
            position += bits
            continue
        ctype, strategy = draw(types(depth))
        position = -(-position // 8) * 8 + 8 * draw(st.integers(0, 9))
        fields.append(Field(name, ctype, position // 8))
        values[name] = strategy
        position += 8 * ctype.size
    size = -(-position // 8) + draw(st.integers(0, 9))
    return Record("", size, 1, tuple(fields)), st.fixed_dictionaries(values)


def plain(value: Any) -> Any:
    """Turn records into mappings."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_any_record_comes_back_as_it_went(data: st.DataObject) -> None:
    record, strategy = data.draw(records().filter(lambda pair: pair[0].size > 0))
    schema = decode_schema(encode_schema(Schema(record)))
    value = data.draw(strategy)
    codec = Codec(schema)
    raw = codec.pack(value)
    assert len(raw) == codec.size
    back = codec.unpack(raw)
    assert plain(back) == value
    assert codec.pack(back) == raw
    assert plain(codec.unpack_many(raw + b"\xff" * 3 + raw, codec.size + 3, 0, 2)) == [value, value]


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_any_bytes_can_be_unpacked(data: st.DataObject) -> None:
    record, _strategy = data.draw(records().filter(lambda pair: pair[0].size > 0))
    codec = Codec(Schema(record), frozen=data.draw(st.booleans()))
    codec.unpack(data.draw(st.binary(min_size=codec.size, max_size=codec.size)))


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_numpy_reads_the_same_numbers(data: st.DataObject) -> None:
    numpy = pytest.importorskip("numpy")
    names = st.sampled_from(["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f64", "bool"])
    hints = [
        (f"m{at}", HINTS[name]) for at, name in enumerate(data.draw(st.lists(names, min_size=1)))
    ]
    cls = msgspec.defstruct("Row", hints)
    codec = Codec(cls)
    raw = data.draw(st.binary(min_size=codec.size, max_size=codec.size))
    raw = codec.pack(codec.unpack(raw))
    row = numpy.frombuffer(raw, dtype=numpy_dtype(cls))[0]
    numpy.testing.assert_equal(row.item(), msgspec.structs.astuple(codec.unpack(raw)))


# --- stored schemas --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hint", [u32, Color, Str[16], TaskStat, Node, Flags, Wide, Tight, Array[Point, 3]]
)
def test_a_schema_is_stored_and_read_back(hint: object) -> None:
    schema = from_type(hint)
    assert decode_schema(encode_schema(schema)) == schema


def scalar_record(**changes: Any) -> Record:
    record = Record("r", 8, 4, (Field("a", Scalar("u32"), 0), Field("b", Scalar("u32"), 4)))
    return msgspec.structs.replace(record, **changes)


def one_field(ctype: CType, **changes: Any) -> Record:
    field = msgspec.structs.replace(Field("a", ctype, 0), **changes)
    return Record("r", 8, 1, (field,))


def nested(depth: int) -> CType:
    ctype: CType = Scalar("u8")
    for _ in range(depth):
        ctype = ArrayType(ctype, 1)
    return ctype


@pytest.mark.parametrize(
    ("ctype", "complaint"),
    [
        (Scalar("u128"), "no scalar type 'u128'"),
        (scalar_record(size=6), "no multiple of the alignment"),
        (scalar_record(size=4), "outside of the record"),
        (scalar_record(size=-8), "up to 1048576 bytes"),
        (scalar_record(size=1 << 40, align=1), "up to 1048576 bytes"),
        (scalar_record(align=3), "power of two"),
        (scalar_record(align=0), "power of two"),
        (scalar_record(name="x" * 300), "record name of 300 characters"),
        (
            scalar_record(fields=(Field("a", Scalar("u32"), 0), Field("b", Scalar("u32"), 3))),
            "'r.a' and 'r.b' overlap",
        ),
        (
            scalar_record(fields=(Field("a", Scalar("u32"), 0), Field("a", Scalar("u32"), 4))),
            "two members are called 'a'",
        ),
        (one_field(Scalar("u32"), offset=-1), "outside of the record"),
        (one_field(Scalar("u32"), name="a b"), "a name that C allows"),
        (one_field(Scalar("u32"), name="a;import os"), "a name that C allows"),
        (one_field(Scalar("u32"), name="a\n"), "a name that C allows"),
        (one_field(Scalar("u32"), name=""), "has no name"),
        (one_field(Scalar("u32"), bit_offset=3), "no bit field"),
        (one_field(Scalar("u32"), bit_size=33), "33 bits"),
        (one_field(Scalar("u32"), bit_size=-1), "-1 bits"),
        (one_field(Scalar("u32"), bit_size=3, bit_offset=9), "bit offset of 0 to 7"),
        (one_field(Scalar("f32"), bit_size=3), "no integer type"),
        (ArrayType(Scalar("u8"), -1), "-1 elements"),
        (ArrayType(Scalar("u8"), 1 << 60), "elements"),
        (ArrayType(Scalar("u64"), 1 << 19), "expected a size up to"),
        (ArrayType(StrType(0), 5), "elements of no size"),
        (StrType(-1), "found -1"),
        (BytesType(1 << 40), "expected a size up to"),
        (EnumType("e", "f32", ()), "not an integer type"),
        (EnumType("e", "u8", (("A", 256),)), "does not fit into u8"),
        (EnumType("e", "u8", (("A", 1), ("A", 2))), "two enum members are called 'A'"),
        (EnumType("e", "u8", (("A B", 1),)), "a name that C allows"),
        (PointerType("x" * 300), "300 characters"),
        (nested(40), "nested deeper"),
        (
            Record("r", 8, 1, (Field("a", Scalar("u32"), 4),), is_union=True),
            "member of a union at offset 0",
        ),
    ],
)
def test_a_schema_that_cannot_be_is_refused(ctype: CType, complaint: str) -> None:
    raw = msgspec.json.encode(Schema(ctype))
    with pytest.raises(SchemaError, match=complaint):
        decode_schema(raw)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b'{"type":{"c":"other"}}',
        b'{"type":{"c":"scalar","name":7}}',
        b'{"type":{"c":"str","size":1.5}}',
        b'{"type":{"c":"str","size":100000000000000000000000000}}',
        b'{"type":' + b'{"c":"array","count":1,"element":' * 100_000,
        bytes(schema_module.MAX_ENCODED_BYTES + 1),
    ],
)
def test_stored_data_that_is_no_schema_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaError):
        decode_schema(data)


def test_an_array_of_arrays_cannot_be_a_bomb() -> None:
    ctype: CType = Scalar("u8")
    for _ in range(12):
        ctype = ArrayType(ctype, 1 << 20)
    with pytest.raises(SchemaError, match="expected a size up to"):
        check_schema(Schema(ctype))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_schema_does_no_harm(data: st.DataObject) -> None:
    raw = bytearray(encode_schema(data.draw(st.sampled_from(DAMAGEABLE))))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(
            st.one_of(st.sampled_from(b'0123456789-"{}[],:'), st.integers(0, 255))
        )
    try:
        schema = decode_schema(raw)
    except SchemaError:
        return
    codec = Codec(schema)
    codec.pack(codec.unpack(bytes(codec.size)))


DAMAGEABLE = [from_class(TaskStat), from_class(Flags), WITH_UNION, from_class(Node)]

# --- comparison --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TaskStat, TaskStat),
        (Str[16], Bytes[16]),
        (Array[u8, 4], Bytes[4]),
        (Color, u32),
        (Color, i32),
        (Ptr[Node], u64),
        (char, u8),
        (Array[Color, 2], Array[i32, 2]),
        (Array[Annotated[Color, u8], 2], Bytes[2]),
        (Color, enum.IntEnum("Color", {"RED": 0, "BLUE": 7})),
        (Color, enum.IntEnum("Other", {"COLOR_RED": 1, "COLOR_GREEN": 2})),
        (Signed, i32),
        (Ptr[Leaf], Ptr["unknown"]),
        (Ptr[Leaf], Ptr[None]),
    ],
)
def test_layouts_of_the_same_bytes_agree(one: object, other: object) -> None:
    compare(from_type(one), from_type(other), what="test")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (u32, i32),
        (u32, f32),
        (u8, bool),
        (u32, u64),
        (Str[16], Str[17]),
        (Array[u16, 2], u32),
        (Point, u64),
        (Point, Child),
        (Flags, TaskStat),
        (Annotated[Color, u8], u32),
        (Array[Color, 2], Array[Color, 3]),
        (Array[Color, 2], Array[u16, 4]),
        (Color, enum.IntEnum("Color", {"RED": 1, "GREEN": 5})),
        (Array[Color, 2], Array[enum.IntEnum("Color", {"GREEN": 6}), 2]),
        (Signed, u32),
        (Signed, Color),
        (Ptr[Leaf], Ptr[Point]),
        (Array[Ptr[Leaf], 2], Array[Ptr[Point], 2]),
        (Node, Twisted),
    ],
)
def test_layouts_of_other_bytes_differ(one: object, other: object) -> None:
    with pytest.raises(LayoutError):
        compare(from_type(one), from_type(other), what="test")


def test_anonymous_members_count_as_members() -> None:
    inner = Record("", 8, 4, (Field("x", Scalar("i32"), 0), Field("y", Scalar("i32"), 4)))
    compare(from_class(Point), Schema(Record("p", 8, 4, (Field("", inner, 0),))), what="test")


def test_keywords_agree_with_the_attributes_that_stand_for_them() -> None:
    record = Record("k", 4, 4, (Field("class", Scalar("u32"), 0),))
    compare(from_class(Keyword), Schema(record), what="test")


def test_a_difference_is_shown_side_by_side() -> None:
    expected = Schema(
        Record(
            "task",
            16,
            8,
            (
                Field("calls", Scalar("u64"), 0),
                Field("cpu", Scalar("u32"), 8),
                Field("gone", Scalar("u8"), 12),
            ),
        )
    )
    found = Schema(
        Record(
            "task_stat",
            24,
            8,
            (
                Field("calls", Scalar("u64"), 0),
                Field("cpu", Scalar("u64"), 8),
                Field("more", StrType(8), 16),
            ),
        )
    )
    with pytest.raises(LayoutError) as caught:
        compare(expected, found, what="value of 'tasks'")
    assert str(caught.value).splitlines() == [
        "value of 'tasks': the two layouts of the record differ",
        "   field    expected task  offset  size  |  found task_stat  offset  size",
        "-------------------------------------------------------------------------",
        "   calls    u64                 0     8  |  u64                   0     8",
        "!  cpu      u32                 8     4  |  u64                   8     8",
        "!  gone     u8                 12     1  |  -",
        "!  more     -                            |  char[8]              16     8",
        "!  (total)                           16  |                             24",
    ]


def test_names_that_two_enums_share_are_shown_with_their_values() -> None:
    other = enum.IntEnum("Colour", {"GREEN": 6, "BLUE": 7})
    with pytest.raises(LayoutError) as caught:
        compare(from_type(Color), from_type(other), what="test")
    assert str(caught.value).splitlines()[3].split() == (
        "! (value) enum Color: GREEN=5 0 4 | enum Colour: GREEN=6 0 4".split()
    )


def test_the_message_says_by_which_pointer_a_difference_was_found() -> None:
    with pytest.raises(LayoutError, match="'leaf' points to: the two layouts") as caught:
        compare(from_type(Node), from_type(Twisted), what="value of 'nodes'")
    assert str(caught.value).startswith("value of 'nodes', what ")
    assert "back" in str(caught.value)


def test_records_that_point_at_each_other_are_compared_in_the_end() -> None:
    compare(from_type(Node), from_type(Node), what="test")
    compare(from_type(Leaf), from_type(Leaf), what="test")


def test_the_layouts_are_attributes_of_the_error() -> None:
    with pytest.raises(LayoutError) as caught:
        compare(from_type(u32), from_type(u64), what="key")
    assert (caught.value.expected, caught.value.found) == (from_type(u32), from_type(u64))


def test_a_class_with_another_layout_than_its_schema_is_refused() -> None:
    with pytest.raises(LayoutError, match="Point"):
        Codec(from_class(TaskStat), Point)


def test_bytes_are_read_as_the_given_class_says() -> None:
    c_side = Schema(Record("r", 4, 1, (Field("digest", StrType(4), 0),)))
    mine = msgspec.defstruct("Mine", [("digest", Bytes[4])])
    assert Codec(c_side, mine).unpack(b"a\0bc").digest == b"a\0bc"  # type: ignore[attr-defined]


# --- NumPy ------------------------------------------------------------------------------------


def test_numpy_has_the_same_offsets() -> None:
    pytest.importorskip("numpy")
    dtype = numpy_dtype(TaskStat)
    assert dtype.itemsize == 80
    assert dtype.fields is not None
    assert {name: dtype.fields[name][1] for name in ("calls", "comm", "grid")} == {
        "calls": 0,
        "comm": 10,
        "grid": 68,
    }


def test_numpy_reads_text_and_nested_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    row = numpy.frombuffer(Codec(TaskStat).pack(TASK), dtype=numpy_dtype(TaskStat))[0]
    assert row["comm"] == b"bash"
    assert row["path"]["y"].tolist() == [4, 6]
    assert row["grid"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_bit_fields_are_one_field_in_numpy() -> None:
    pytest.importorskip("numpy")
    assert numpy_dtype(Flags).names == ("low|signed", "flag|color|wide", "after")


def test_union_members_overlap_in_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    row = numpy.frombuffer(struct.pack("=IfQ", 1, 0.5, 7), dtype=numpy_dtype(WITH_UNION))[0]
    assert (row["number"], row["real"]) == (0x3F000000, 0.5)


def test_a_scalar_has_a_plain_dtype() -> None:
    numpy = pytest.importorskip("numpy")
    assert numpy_dtype(u32) == numpy.dtype("u4")


# --- unions of floats ---------------------------------------------------------------------------


def test_not_a_number_survives_a_union() -> None:
    codec = Codec(WITH_UNION)
    raw = struct.pack("=IfQ", 1, math.nan, 0)
    assert codec.pack(codec.unpack(raw)) == raw


# --- type checkers and examples -----------------------------------------------------------------

USER_CODE = """
from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from arenads import Align, Array, Bits, Bytes, Codec, Ptr, Size, Str, char, f32, packed
from arenads import u8, u32, u64
from arenads.annotations import from_class


class Color(enum.IntEnum):
    RED = 0


class Point(msgspec.Struct):
    x: u32
    y: f32


@packed
class Stat(msgspec.Struct):
    calls: u64
    comm: Str[16]
    digest: Bytes[16]
    per_cpu: Array[u32, 8]
    next: Ptr[Stat]
    place: Point
    color: Annotated[Color, u8]
    flags: Annotated[u32, Bits(3)]
    aligned: Annotated[u64, Align(64)]
    letter: char
    exact: Annotated[str, Size(16)]
    numbers: Annotated[list[u32], Size(2)]
    limited: Annotated[u8, msgspec.Meta(le=100)] = 0


codec = Codec(from_class(Stat), Stat)
key = Codec(u32)


def use(raw: bytes) -> str:
    stat = codec.unpack(raw)
    reveal_type(stat.calls)
    reveal_type(stat.next)
    reveal_type(stat.exact)
    reveal_type(stat.numbers)
    reveal_type(stat.place)
    codec.pack(stat)
    return stat.exact
"""


def test_user_code_passes_a_strict_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    source = tmp_path / "user_code.py"
    source.write_text(USER_CODE)
    root = Path(schema_module.__file__).parent.parent
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"),
            *("--cache-dir", str(tmp_path), str(source)),
        ],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    revealed = [line.split('"')[1] for line in result.stdout.splitlines() if "Revealed" in line]
    assert revealed == ["int", "int", "str", "list[int]", "user_code.Point"]
