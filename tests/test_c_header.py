"""C headers from classes: what compilers make of them is what Python lays out."""

from __future__ import annotations

import enum
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from conftest import child_environment
from record_maker import Color, Maker, Small

import arenads
from arenads import LayoutError, Node, SchemaError, btf_schema, codec, compiler
from arenads.annotations import (
    Align,
    Array,
    Bits,
    Bytes,
    Ptr,
    Str,
    f64,
    from_class,
    i8,
    i32,
    packed,
    u8,
    u16,
    u32,
    u64,
)
from arenads.btf import Kind, ObjectFile
from arenads.c_header import c_header, find_class
from arenads.comparison import compare
from arenads.errors import CompileError, CompilerMissingError
from arenads.python_class import python_class
from arenads.schema import Field, Record, Scalar, Schema


class Level(enum.IntEnum):
    """How bad it is."""

    LOWEST = -2
    HIGHEST = 3
    FAR = 2147483647


class Point(msgspec.Struct):
    x: i32
    y: f64


@packed
class Tight(msgspec.Struct):
    kind: u8
    length: u32
    point: Point


Strangers = Array[Ptr["stranger"], 2]  # not defined anywhere


class Tree(msgspec.Struct):
    """A tree, /* with */ its forest.

    Two lines.
    """

    left: Ptr[Tree]
    forest: Ptr[Forest]
    strangers: Strangers
    number: Ptr[u32]
    any: Ptr[None]


class Forest(msgspec.Struct):
    trees: Array[Ptr[Tree], 2, 3]
    root: Ptr[Tree]


class Everything(msgspec.Struct):
    first: bool
    level: Level
    small: Annotated[Small, u8]
    wide: Annotated[Color, u64]
    points: Array[Point, 2, 3]
    tight: Tight
    tree: Tree
    text: Str[5]
    texts: Array[Str[3], 2]
    raw: Bytes[3]
    low: Annotated[u32, Bits(3)]
    color: Annotated[Color, Bits(4)]
    below: Annotated[Level, Bits(9)]
    flag: Annotated[bool, Bits(1)]
    line: Annotated[u64, Align(64)]
    last: u8


class Reordered(msgspec.Struct):
    length: u32
    kind: u8


class Trees(msgspec.Struct):
    tree: Tree
    trees: Array[Tree, 2]


def object_of(directory: Path, header: str, names: list[str], more: str = "") -> ObjectFile:
    """Compile a header for BPF, with a variable of each record."""
    (directory / "types.h").write_text(header)
    source = directory / "types.bpf.c"
    variables = "".join(
        f'struct {name} {name} __attribute__((section(".data.records"), used)) = {{}};\n'
        for name in names
    )
    source.write_text(f'#include "types.h"\n{more}{variables}')
    try:
        return ObjectFile.open(compiler.compile(source, flags=["-Wall", "-Wextra", "-Werror"]))
    except CompilerMissingError as error:
        pytest.skip(str(error))


def same_as_compiled(opened: ObjectFile, cls: Any) -> None:
    found = opened.btf.find(Kind.STRUCT, cls.__name__)
    assert found is not None
    compare(from_class(cls), btf_schema.from_btf(opened.btf, found.id), what=cls.__name__)


def including(directory: Path, header: str) -> Path:
    (directory / "types.h").write_text(header)
    source = directory / "types.c"
    source.write_text('#include "types.h"\n#include "types.h"\nstruct Everything;\n')
    return source


def host_compiles(path: Path, language: str, standard: str, *flags: str) -> None:
    try:
        command = compiler.find_host_compiler().command
    except CompilerMissingError as error:
        pytest.skip(str(error))
    options = ["-x", language, f"-std={standard}", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(
        [*command, *options, *flags, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- round trips ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=range(3))
def random_classes(request: pytest.FixtureRequest) -> list[Any]:
    maker = Maker(1000 + request.param)
    return [maker.record()[0] for _ in range(60)]


def test_the_header_of_any_record_gives_the_record_back(
    random_classes: list[Any], tmp_path: Path
) -> None:
    header = c_header(*random_classes)
    opened = object_of(tmp_path, header, [cls.__name__ for cls in random_classes])
    for cls in random_classes:
        same_as_compiled(opened, cls)


@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++11")])
def test_the_header_of_any_record_is_true_on_this_machine(
    random_classes: list[Any], tmp_path: Path, language: str, standard: str
) -> None:
    path = including(tmp_path, c_header(*random_classes))
    host_compiles(path, language, standard, "-Wno-packed-not-aligned")


def test_every_kind_of_member_is_declared(tmp_path: Path) -> None:
    opened = object_of(tmp_path, c_header(Everything), ["Everything", "Tree", "Forest"])
    for cls in (Everything, Tree, Forest, Tight, Point):
        same_as_compiled(opened, cls)


@pytest.mark.parametrize(
    ("language", "standard"),
    [("c", "c11"), ("c", "gnu11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++17")],
)
def test_the_header_is_for_c_and_cpp_as_the_standards_have_them(
    tmp_path: Path, language: str, standard: str
) -> None:
    path = including(tmp_path, c_header(Everything))
    host_compiles(path, language, standard, "-pedantic")


@pytest.mark.parametrize("others", ["<arenads/bpf.h>", "vmlinux", "<linux/types.h>"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_the_header_goes_together_with_others(tmp_path: Path, others: str, order: str) -> None:
    if others == "vmlinux":  # as bpftool and this package write it, in short
        (tmp_path / "vmlinux.h").write_text(
            "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n"
            "typedef long long unsigned int __u64;\ntypedef signed char __s8;\n"
            "typedef _Bool bool;\nenum { false = 0, true = 1 };\n#endif\n"
        )
        others = '"vmlinux.h"'
    (tmp_path / "types.h").write_text(c_header(Everything))
    lines = [f"#include {others}", '#include "types.h"']
    source = tmp_path / "both.c"
    lines = lines[::-1] if order == "first" else lines
    source.write_text("\n".join([*lines, '#include "types.h"', "struct Everything one;"]))
    if others.startswith("<arenads"):
        bpf = source.rename(tmp_path / "both.bpf.c")
        try:
            compiler.compile(bpf, flags=["-Werror"])
        except CompilerMissingError as error:
            pytest.skip(str(error))
    else:
        host_compiles(source, "c", "gnu11")


# --- the checks of the header -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "other", "complaint"),
    [
        ("__s32 x;", "__s32 x, x2, x3;", "not Python's size"),
        ("double y;", "double y __attribute__((packed));", "not Python's (size|offset|alignment)"),
        ("char text[5];", "char text[4];", "text|texts|raw|size"),
    ],
)
def test_a_header_that_was_changed_does_not_compile(
    tmp_path: Path, line: str, other: str, complaint: str
) -> None:
    header = c_header(Everything)
    assert line in header
    with pytest.raises(CompileError) as caught:
        object_of(tmp_path, header.replace(line, other), [])
    assert re.search(complaint, str(caught.value.facts["output"]))


def test_members_that_change_places_are_caught_by_their_offsets(tmp_path: Path) -> None:
    header = c_header(Reordered)
    one, two = "\t__u32 length;\n", "\t__u8 kind;\n"
    assert one + two in header
    with pytest.raises(CompileError) as caught:
        object_of(tmp_path, header.replace(one + two, two + one), [])
    assert "is not at Python's offset" in str(caught.value.facts["output"])


def test_every_member_with_an_address_has_its_offset_asserted() -> None:
    header = c_header(Everything)
    for name in Everything.__struct_fields__:
        line = f"ARENADS_OFFSET(struct Everything, {name}, "
        assert (line in header) == (name not in ("low", "color", "below", "flag")), name


# --- text -----------------------------------------------------------------------------------


def test_documentation_becomes_comments_that_end_where_they_should() -> None:
    header = c_header(Tree, Level)
    assert "/* How bad it is. */\nenum Level {" in header
    assert " * A tree, / * with * / its forest.\n *\n * Two lines.\n */\nstruct Tree {" in header


def test_records_come_before_those_that_contain_them() -> None:
    header = c_header(Trees, Everything)
    order = [header.index(f"struct {name} {{") for name in ("Tree", "Trees", "Everything")]
    assert order == sorted(order)
    assert header.count("struct Tree {") == 1


def test_records_that_are_pointed_to_are_declared_before_all_records() -> None:
    header = c_header(Tree)
    for name in ("Tree", "Forest", "stranger"):
        assert header.index(f"struct {name};") < header.index(" {\n\tstruct")
    assert "struct Forest {" in header and "struct stranger {" not in header


def test_what_c_has_no_name_for_is_named_in_a_comment() -> None:
    header = c_header(Everything)
    assert "\t__u64 wide; /* enum Color */\n" in header
    assert "\tenum Level level;\n" in header


def test_an_enum_that_c_would_read_with_another_sign_is_an_integer() -> None:
    cls = msgspec.defstruct("Signs", [("color", Annotated[Color, i32_of(3)])])
    assert "\t__s32 color : 3; /* enum Color */" in c_header(cls)


def i32_of(bits: int) -> Any:
    return Annotated[i32, Bits(bits)]


def test_the_same_classes_give_the_same_text() -> None:
    assert c_header(Everything, Trees) == c_header(Everything, Trees)


def test_unions_and_records_without_a_name_are_declared(tmp_path: Path) -> None:
    inner = Record("", 4, 4, (Field("low", Scalar("u16"), 0), Field("high", Scalar("u16"), 2)))
    union = Record("", 4, 4, (Field("all", Scalar("u32"), 0), Field("", inner, 0)), True)
    named = Record("both", 8, 8, (Field("real", Scalar("f64"), 0), Field("u", union, 0)), True)
    record = Record(
        "message", 24, 8, (Field("", union, 0), Field("both", named, 8), Field("own", inner, 16))
    )
    opened = object_of(tmp_path, c_header(Schema(record)), ["message"])
    found = opened.btf.find(Kind.STRUCT, "message")
    assert found is not None
    compare(Schema(record), btf_schema.from_btf(opened.btf, found.id), what="message")
    assert "ARENADS_OFFSET(struct message, own.high, 18);" in c_header(Schema(record))


class Linked(msgspec.Struct):
    pid: u64
    node: Node


@pytest.mark.parametrize("order", ["first", "last"])
def test_nodes_of_intrusive_lists_are_those_of_the_headers(tmp_path: Path, order: str) -> None:
    header = c_header(Linked)
    assert "struct ads_node {" not in header
    (tmp_path / "types.h").write_text(header)
    lines = ["#include <arenads/bpf.h>", '#include "types.h"']
    source = tmp_path / "linked.bpf.c"
    source.write_text(
        "\n".join(lines if order == "last" else lines[::-1])
        + """
        ADS_ARENA(ADS_MIB);
        ADS_POOL(records, struct Linked, 10);
        ADS_INTRUSIVE(ready, records, struct Linked, node);
        char LICENSE[] SEC("license") = "GPL";
        SEC("syscall") int length(void *ctx) { return (int)ready_len(); }
        """
    )
    with arenads.load(source, engine="native") as program:
        same = program.arena.pool("records", value=Linked)
        assert same.value_type.size == from_class(Linked).size


def test_bits_without_a_name_between_bit_fields_are_declared(tmp_path: Path) -> None:
    bits = Record(
        "gaps", 4, 4, (Field("low", Scalar("u32"), 0, 0, 3), Field("high", Scalar("u32"), 1, 2, 5))
    )
    opened = object_of(tmp_path, c_header(Schema(bits)), ["gaps"])
    found = opened.btf.find(Kind.STRUCT, "gaps")
    assert found is not None
    compare(Schema(bits), btf_schema.from_btf(opened.btf, found.id), what="gaps")


# --- what is refused -------------------------------------------------------------------------


def with_member(name: str, hint: Any = u32) -> Any:
    return msgspec.defstruct("Owner", [(name, hint)])


Other = enum.IntEnum("Other", ["RED", "BLUE"])
Imposter = msgspec.defstruct("Point", [("z", u8)])
Enumerated = enum.IntEnum("Point", ["ONE"])


@pytest.mark.parametrize(
    ("types", "complaint"),
    [
        ([], "at least one record class"),
        ([u32], "expected a record or an enum that has a name, found u32"),
        ([Str[4]], r"found char\[4\]"),
        ([with_member("int")], "Owner.int: 'int' is a keyword of C;"),
        ([with_member("class_")], r"Owner.class: 'class' is a keyword of C\+\+;"),
        ([with_member("linux")], "'linux' means something else"),
        ([with_member("asm")], "Owner.asm: 'asm' is a keyword of C;"),
        ([with_member("_Bool")], "Owner._Bool: '_Bool' is a keyword of C;"),
        ([with_member("co_await")], r"'co_await' is a keyword of C\+\+;"),
        ([with_member("__asm__")], "Owner.__asm__: '__asm__' is reserved to C compilers"),
        ([with_member("_Pragma")], "Owner._Pragma: '_Pragma' is reserved to C compilers"),
        ([enum.IntEnum("Words", ["__u32"])], "'__u32' means something else to C compilers"),
        ([msgspec.defstruct("__task", [("a", u32)])], "a record: '__task' is reserved"),
        ([enum.IntEnum("_State", ["ON"])], "an enum: '_State' is reserved"),
        ([enum.IntEnum("Words", ["_ON"])], "a member of enum Words: '_ON' is reserved"),
        ([with_member("a", Ptr["__hidden"])], "what a pointer leads to: '__hidden' is reserved"),
        ([with_member("Owner")], "called like their record"),
        ([with_member("größe")], "a name that C allows"),
        ([msgspec.defstruct("double", [("a", u32)])], "a record: 'double' is a keyword of C;"),
        ([msgspec.defstruct("naïve", [("a", u32)])], "a record: expected a name that C allows"),
        ([Point, Imposter], "two records with different members are called 'Point'"),
        (
            [msgspec.defstruct("Pair", [("one", Ptr[Point]), ("two", Ptr[Imposter])])],
            "two records with different members are called 'Point'",
        ),
        ([Point, Enumerated], "an enum and a record are both called 'Point'"),
        (
            [with_member("a", Color), with_member("b", Other)],
            "two records with different members are called 'Owner'",
        ),
        ([Color, Other], "'RED' is a member of enum Color and of enum Other"),
        ([Color, enum.IntEnum("Color", ["X"])], "two enums with different members"),
        ([enum.IntEnum("Words", ["if"])], "a member of enum Words: 'if' is a keyword of C;"),
    ],
)
def test_what_c_cannot_say_is_refused(types: list[Any], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        c_header(*types)


def test_a_gap_that_no_attribute_explains_is_refused() -> None:
    fields = (Field("a", Scalar("u8"), 0), Field("b", Scalar("u8"), 3))
    with pytest.raises(SchemaError, match="declare what lies between its members"):
        c_header(Schema(Record("gap", 4, 1, fields)))


# --- both sides ---------------------------------------------------------------------------------


def test_a_class_from_a_bpf_object_can_be_named_too(tmp_path: Path) -> None:
    opened = object_of(tmp_path, c_header(Everything), ["Everything"])
    found = opened.btf.find(Kind.STRUCT, "Point")
    assert found is not None
    cls: Any = python_class(btf_schema.from_btf(opened.btf, found.id))
    assert "struct Point {\n\t__s32 x;\n\tdouble y;\n};" in c_header(cls)


def test_a_header_of_another_class_is_found_out_when_both_meet(tmp_path: Path) -> None:
    opened = object_of(tmp_path, c_header(Reordered), ["Reordered"])
    found = opened.btf.find(Kind.STRUCT, "Reordered")
    assert found is not None
    changed = msgspec.defstruct("Reordered", [("length", u16), ("kind", i8)])
    with pytest.raises(LayoutError, match="length"):
        codec.Codec(btf_schema.from_btf(opened.btf, found.id), changed)


# --- the command --------------------------------------------------------------------------------

MODULE = '''
import msgspec
from arenads import Str, u32, u64


class Task(msgspec.Struct):
    """What a process does."""

    calls: u64
    comm: Str[16]


class Outer:
    class Inner(msgspec.Struct):
        number: u32
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arenads", "header", *arguments],
        cwd=project,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_what_the_function_returns(project: Path) -> None:
    done = run(project, "tasks:Task", "tasks:Outer.Inner")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "/* Written by arenads header tasks:Task tasks:Outer.Inner. Change the classes,"
    )
    assert "/* What a process does. */\nstruct Task {\n\t__u64 calls;\n" in done.stdout
    assert "struct Inner {" in done.stdout


def test_a_file_is_written_and_found_to_be_up_to_date(project: Path) -> None:
    done = run(project, "tasks:Task", "-o", "tasks.h")
    assert (done.returncode, done.stdout) == (0, "tasks.h\n")
    assert (project / "tasks.h").read_text() == run(project, "tasks:Task").stdout
    done = run(project, "tasks:Task", "--check", "tasks.h")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_that_is_up_to_date_is_not_touched(project: Path) -> None:
    run(project, "tasks:Task", "-o", "tasks.h")
    before = (project / "tasks.h").stat()
    run(project, "tasks:Task", "-o", "tasks.h")
    after = (project / "tasks.h").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_file_that_is_out_of_date_is_told_by_the_status(project: Path) -> None:
    run(project, "tasks:Task", "-o", "tasks.h")
    (project / "tasks.py").write_text(MODULE.replace("calls: u64", "calls: u32"))
    done = run(project, "tasks:Task", "--check", "tasks.h")
    assert done.returncode == 1
    assert "arenads header tasks:Task -o tasks.h" in done.stderr


def test_an_absent_file_is_out_of_date(project: Path) -> None:
    assert run(project, "tasks:Task", "--check", "tasks.h").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["absent:Task"], "ModuleNotFoundError: No module named 'absent'"),
        (["broken:Task"], "ZeroDivisionError: division by zero ("),
        (["tasks:Absent"], "there is no 'Absent' in tasks"),
        (["tasks"], "expected module:Class"),
        (["tasks:u32"], "expected a record or an enum"),
        (["tasks:msgspec"], "no C form"),
        (["tasks:Task", "-o", "absent/tasks.h"], "No such file"),
        (["tasks:Task", "--check", "."], "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    project: Path, arguments: list[str], complaint: str
) -> None:
    done = run(project, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_find_class_imports_modules() -> None:
    assert find_class("arenads.node:Node").__name__ == "Node"
