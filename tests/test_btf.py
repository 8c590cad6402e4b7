"""BTF and ELF reading: what is there is found, what is broken is refused."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arenads import btf as btf_module
from arenads.btf import Btf, Kind, Member, ObjectFile, Type
from arenads.btf_schema import from_btf
from arenads.compiler import compile
from arenads.errors import ArenadsError, CompilerMissingError, ObjectError, SchemaError

KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")

PROGRAM = """
typedef unsigned int __u32;
typedef unsigned long long __u64;
#define SEC(name) __attribute__((section(name), used))

enum color { RED, GREEN = 5, BLUE = -1 };
enum wide { SMALL = 1, LARGE = 0x1234567890ULL };
struct node { struct node *next; const volatile __u64 value; };
struct task_stat {
    __u64 calls; char comm[16]; enum color color; enum wide wide;
    unsigned low : 3; int high : 5;
    union { int x; float y; };
    _Bool flag; double ratio; int grid[2][3];
};

struct {
    int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[16384];
} arena SEC(".maps");
struct { int (*type)[1]; __u32 *key; __u64 *value; int (*max_entries)[8]; } plain SEC(".maps");

const volatile struct {
    int (*kind)[1]; __u32 *key; struct task_stat (*value)[1]; int (*max_entries)[10240];
    __u64 handle;
} tasks SEC(".rodata.arenads");
static const volatile struct {
    int (*kind)[2]; struct node (*value)[1]; int (*max_entries)[100]; __u64 handle;
} recent SEC(".rodata.arenads");

char LICENSE[] SEC("license") = "GPL";

__attribute__((noinline)) int global_helper(int a) { return a * 7; }
__attribute__((section("syscall"), noinline)) static int static_helper(int a) { return a * 5; }
SEC("tp_btf/sys_enter") int on_enter(__u64 *ctx) {
    return (int)ctx[0] + (int)tasks.handle + (int)recent.handle + global_helper(1);
}
SEC("syscall") int run(int *ctx) { return static_helper(*ctx); }
"""

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile C text into a BPF object."""

    def make(text: str) -> Path:
        directory = tmp_path_factory.mktemp("object")
        source = directory / "program.bpf.c"
        source.write_text(text)
        try:
            return compile(source)
        except CompilerMissingError as error:
            pytest.skip(str(error))

    return make


@pytest.fixture(scope="module")
def program(build: Build) -> Path:
    return build(PROGRAM)


@pytest.fixture(scope="module")
def opened(program: Path) -> ObjectFile:
    return ObjectFile.open(program)


# --- making BTF by hand ---------------------------------------------------------


class Writer:
    """Puts BTF together, right or wrong."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.types = bytearray()

    def name(self, text: str) -> int:
        offset = len(self.strings)
        self.strings += text.encode() + b"\0"
        return offset

    def add(
        self, kind: int, word: int, *tail: int, name: str = "", count: int = 0, flag: bool = False
    ) -> None:
        info = kind << 24 | count | int(flag) << 31
        self.types += struct.pack("=III", self.name(name) if name else 0, info, word)
        for item in tail:
            self.types += struct.pack("=I", item & 0xFFFF_FFFF)

    def data(self) -> bytes:
        head = struct.pack(
            "=HBBIIIII",
            0xEB9F,
            1,
            0,
            24,
            0,
            len(self.types),
            len(self.types),
            len(self.strings),
        )
        return head + bytes(self.types) + bytes(self.strings)

    def read(self) -> Btf:
        return Btf.from_bytes(self.data())


def add_int(writer: Writer, name: str = "int", size: int = 4, encoding: int = 1) -> None:
    writer.add(Kind.INT, size, encoding << 24 | size * 8, name=name)


def one_of_each() -> Writer:
    writer = Writer()
    add_int(writer)  # 1
    writer.add(Kind.PTR, 1)  # 2
    writer.add(Kind.ARRAY, 0, 1, 1, 7)  # 3
    field = writer.name("field")
    writer.add(Kind.STRUCT, 8, field, 1, 0, field, 2, 32, name="s", count=2)  # 4
    writer.add(Kind.UNION, 4, field, 1, 3 << 24 | 5, name="u", count=1, flag=True)  # 5
    writer.add(Kind.ENUM, 4, field, -2, name="e", count=1, flag=True)  # 6
    writer.add(Kind.FWD, 0, name="f", flag=True)  # 7
    writer.add(Kind.TYPEDEF, 1, name="t")  # 8
    writer.add(Kind.VOLATILE, 8)  # 9
    writer.add(Kind.CONST, 9)  # 10
    writer.add(Kind.RESTRICT, 2)  # 11
    writer.add(Kind.FUNC, 13, name="function", count=1)  # 12
    writer.add(Kind.FUNC_PROTO, 1, field, 1, 0, 0, count=2)  # 13
    writer.add(Kind.VAR, 10, 1, name="variable")  # 14
    writer.add(Kind.DATASEC, 16, 14, 4, 4, name=".data", count=1)  # 15
    writer.add(Kind.FLOAT, 8, name="double")  # 16
    writer.add(Kind.DECL_TAG, 4, 1, name="tagged")  # 17
    writer.add(Kind.TYPE_TAG, 4, name="arena")  # 18
    writer.add(Kind.ENUM64, 8, field, 1, 2, name="wide", count=1)  # 19
    return writer


# --- types ------------------------------------------------------------------------


def test_every_kind_is_read() -> None:
    assert [item.kind for item in one_of_each().read().types()] == list(Kind)[1:]


def test_length_counts_void() -> None:
    assert len(one_of_each().read()) == 20


def test_type_zero_is_void() -> None:
    assert one_of_each().read().type(0).kind is Kind.VOID


@pytest.mark.parametrize(
    ("number", "attribute", "value"),
    [
        (1, "signed", True),
        (1, "bits", 32),
        (2, "target", 1),
        (3, "count", 7),
        (4, "members", (Member("field", 1, 0), Member("field", 2, 32))),
        (5, "members", (Member("field", 1, 5, 3),)),
        (6, "enumerators", (btf_module.Enumerator("field", -2),)),
        (7, "union", True),
        (12, "linkage", 1),
        (13, "parameters", (btf_module.Parameter("field", 1), btf_module.Parameter("", 0))),
        (14, "linkage", 1),
        (15, "variables", (btf_module.SectionVariable(14, 4, 4),)),
        (16, "size", 8),
        (17, "component", 1),
        (18, "name", "arena"),
        (19, "enumerators", (btf_module.Enumerator("field", 2 << 32 | 1),)),
    ],
)
def test_parts_of_a_kind_are_read(number: int, attribute: str, value: object) -> None:
    assert getattr(one_of_each().read().type(number), attribute) == value


def test_find_gives_the_type_of_that_kind_and_name() -> None:
    found = one_of_each().read().find(Kind.STRUCT, "s")
    assert found is not None and found.id == 4


def test_find_gives_none_for_a_name_of_another_kind() -> None:
    assert one_of_each().read().find(Kind.UNION, "s") is None


def test_resolve_goes_through_typedefs_and_qualifiers() -> None:
    assert one_of_each().read().resolve(10).id == 1


def test_tags_of_a_type_are_listed() -> None:
    assert one_of_each().read().tags(18) == ("arena",)


@pytest.mark.parametrize(
    ("number", "size"), [(1, 4), (2, 8), (3, 28), (4, 8), (10, 4), (14, 4), (16, 8), (19, 8)]
)
def test_size_is_what_sizeof_says(number: int, size: int) -> None:
    assert one_of_each().read().size(number) == size


@pytest.mark.parametrize("number", [0, 7, 12, 13])
def test_a_type_without_a_size_is_refused(number: int) -> None:
    with pytest.raises(ObjectError, match="expected a type that has a size"):
        one_of_each().read().size(number)


def test_a_struct_with_unaligned_members_is_packed() -> None:
    # The pointer at byte 4.
    assert one_of_each().read().alignment(4) == 1


def test_alignment_is_that_of_the_widest_member() -> None:
    writer = Writer()
    add_int(writer)
    writer.add(Kind.PTR, 0)
    writer.add(Kind.STRUCT, 16, 0, 1, 0, 0, 2, 64, count=2)
    assert writer.read().alignment(3) == 8


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "void"), (4, "struct s"), (3, "int[7]"), (10, "const volatile t"), (2, "int *")],
)
def test_types_are_spelled_as_in_c(number: int, text: str) -> None:
    assert one_of_each().read().spell(number) == text


def test_a_cycle_through_a_pointer_is_legal() -> None:
    writer = Writer()
    writer.add(Kind.PTR, 2)
    writer.add(Kind.STRUCT, 8, 0, 1, 0, name="node", count=1)
    assert writer.read().alignment(2) == 8


# --- damage -----------------------------------------------------------------------


def test_a_typedef_of_itself_is_refused() -> None:
    writer = Writer()
    writer.add(Kind.TYPEDEF, 1, name="t")
    with pytest.raises(ObjectError, match="refers to itself"):
        writer.read().resolve(1)


def test_an_array_of_itself_is_refused() -> None:
    writer = Writer()
    add_int(writer)
    writer.add(Kind.ARRAY, 0, 2, 1, 3)
    with pytest.raises(ObjectError, match="in themselves"):
        writer.read().size(2)


def test_a_struct_in_itself_is_refused() -> None:
    writer = Writer()
    writer.add(Kind.STRUCT, 8, 0, 1, 0, name="s", count=1)
    with pytest.raises(ObjectError, match="in themselves"):
        writer.read().alignment(1)


def test_spelling_a_pointer_to_itself_ends() -> None:
    writer = Writer()
    writer.add(Kind.PTR, 1)
    assert "..." in writer.read().spell(1)


def test_a_reference_past_the_last_type_is_refused() -> None:
    writer = Writer()
    writer.add(Kind.PTR, 2)
    with pytest.raises(
        ObjectError, match="a reference to type 2, but the last type is 1"
    ) as caught:
        writer.read().type(1)
    assert caught.value.offset == 24


def test_a_name_past_the_end_is_refused() -> None:
    writer = Writer()
    writer.types += struct.pack("=III", 999, Kind.FWD << 24, 0)
    with pytest.raises(ObjectError, match="past the end of the names"):
        writer.read().type(1)


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    writer = Writer()
    writer.add(Kind.FWD, 0, name="x")
    writer.strings[-2] = 0xFF
    with pytest.raises(ObjectError, match="not UTF-8"):
        writer.read().type(1)


def test_an_unknown_kind_is_refused() -> None:
    writer = Writer()
    writer.add(20, 0)
    with pytest.raises(ObjectError, match="unknown kind 20"):
        writer.read()


def test_a_type_that_is_cut_off_is_refused() -> None:
    writer = Writer()
    writer.add(Kind.STRUCT, 8, 0, 0, 0, count=2)
    with pytest.raises(ObjectError, match="runs past the end"):
        writer.read()


def test_a_number_that_no_type_has_is_refused() -> None:
    with pytest.raises(ObjectError, match="there is no type 20"):
        one_of_each().read().type(20)


def test_the_other_byte_order_is_refused() -> None:
    data = bytearray(one_of_each().data())
    data[0], data[1] = data[1], data[0]
    with pytest.raises(ObjectError, match="other byte order"):
        Btf.from_bytes(data)


def test_data_that_is_not_btf_is_refused() -> None:
    with pytest.raises(ObjectError, match="expected the magic number"):
        Btf.from_bytes(b"#!/bin/sh" * 5)


def test_another_version_is_refused() -> None:
    data = bytearray(one_of_each().data())
    data[2] = 2
    with pytest.raises(ObjectError, match="expected BTF version 1, found 2"):
        Btf.from_bytes(data)


def exercise(data: bytes) -> None:
    """Ask everything of BTF that may be damaged; nothing but ArenadsError may come out."""
    try:
        btf = Btf.from_bytes(data)
    except ObjectError:
        return
    for number in range(len(btf)):
        for question in (btf.type, btf.resolve, btf.size, btf.alignment, btf.spell, btf.tags):
            try:
                question(number)
            except ObjectError:
                pass
        try:
            from_btf(btf, number)
        except (ObjectError, SchemaError):
            pass
    for kind in Kind:
        try:
            btf.find(kind, "s")
        except ObjectError:
            pass


@given(st.integers(0, len(one_of_each().data()) - 1))
@settings(deadline=None)
def test_btf_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ObjectError):
        Btf.from_bytes(one_of_each().data()[:length])


@given(
    st.lists(
        st.tuples(st.integers(0, len(one_of_each().data()) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=300)
def test_btf_with_any_bytes_changed_does_no_harm(changes: list[tuple[int, int]]) -> None:
    data = bytearray(one_of_each().data())
    for place, value in changes:
        data[place] = value
    exercise(bytes(data))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_do_no_harm(data: bytes) -> None:
    exercise(data)


# --- the kernel ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel() -> Btf:
    if not KERNEL_BTF.exists():
        pytest.skip(f"this kernel has no {KERNEL_BTF}")
    return Btf.from_kernel()


def test_the_kernel_describes_its_tasks(kernel: Btf) -> None:
    task = kernel.find(Kind.STRUCT, "task_struct")
    assert task is not None
    assert {"pid", "comm"} <= {member.name for member in task.members}


def test_every_struct_of_the_kernel_has_an_alignment(kernel: Btf) -> None:
    for item in kernel.types():
        if item.kind in (Kind.STRUCT, Kind.UNION):
            assert item.size % kernel.alignment(item.id) == 0


# --- objects ------------------------------------------------------------------------


def test_programs_are_the_functions_outside_of_text(opened: ObjectFile) -> None:
    assert opened.programs == {"on_enter": "tp_btf/sys_enter", "run": "syscall"}


def test_the_license_is_read(opened: ObjectFile) -> None:
    assert opened.license == "GPL"


def test_the_arena_map_is_found_among_the_maps(opened: ObjectFile) -> None:
    assert opened.arena_maps == {
        "arena": btf_module.ArenaMap("arena", max_entries=16384, map_flags=1024)
    }


def test_declarations_are_found_by_name(opened: ObjectFile) -> None:
    assert set(opened.declarations) == {"tasks", "recent"}


def test_a_declaration_tells_kind_and_size(opened: ObjectFile) -> None:
    tasks = opened.declarations["tasks"]
    assert (tasks.kind, tasks.max_entries, tasks.size) == (1, 10240, 40)


def test_a_declaration_tells_its_record_types(opened: ObjectFile) -> None:
    tasks = opened.declarations["tasks"]
    assert isinstance(tasks.key, Type) and isinstance(tasks.value, Type)
    assert (tasks.key.name, tasks.value.name) == ("__u32", "task_stat")


def test_a_list_has_no_key(opened: ObjectFile) -> None:
    recent = opened.declarations["recent"]
    assert recent.key is None
    assert recent.value is not None and recent.value.name == "node"


def test_the_offset_of_a_declaration_is_that_of_its_symbol(opened: ObjectFile) -> None:
    symbols = {symbol.name: symbol.value for symbol in opened.symbols}
    assert {name: item.offset for name, item in opened.declarations.items()} == {
        name: symbols[name] for name in opened.declarations
    }


def test_the_handle_is_the_last_member(opened: ObjectFile) -> None:
    assert [item.handle_offset for item in opened.declarations.values()] == [
        item.size - 8 for item in opened.declarations.values()
    ]


def test_types_of_an_object_can_be_had_alone(program: Path) -> None:
    assert Btf.from_object(program).find(Kind.STRUCT, "task_stat") is not None


def test_a_name_declared_twice_is_refused(program: Path, opened: ObjectFile) -> None:
    section = opened.btf.find(Kind.DATASEC, ".rodata.arenads")
    assert section is not None
    first, second = (
        struct.pack("=III", item.type, item.offset, item.size) for item in section.variables
    )
    with pytest.raises(ObjectError, match="is declared twice"):
        ObjectFile(program.read_bytes().replace(first, second))


def test_two_arenas_in_one_object_are_refused(build: Build) -> None:
    path = build(
        "struct { int (*type)[33]; int (*max_entries)[1]; } one"
        ' __attribute__((section(".maps"), used));'
        "struct { int (*type)[33]; int (*max_entries)[1]; } two"
        ' __attribute__((section(".maps"), used));'
    )
    with pytest.raises(ObjectError, match=r"expected one arena, found 2 \(one, two\)"):
        ObjectFile.open(path)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ("int (*kind)[1]; int (*max_entries)[1];", "has no member 'handle'"),
        ("int (*kind)[1]; unsigned long long handle;", "has no member 'max_entries'"),
        ("int (*max_entries)[1]; unsigned long long handle;", "has no member 'kind'"),
        ("int kind; int (*max_entries)[1]; unsigned long long handle;", "expected a number"),
        ("int (*kind)[1]; int (*max_entries)[1]; int handle;", "aligned 8-byte member"),
        (
            "int (*kind)[1]; int (*max_entries)[1]; int value; unsigned long long handle;",
            "expected a pointer to a record type",
        ),
        (
            "int (*kind)[1]; int (*max_entries)[1]; struct s *value; unsigned long long handle;",
            "does not describe its members",
        ),
    ],
)
def test_an_incomplete_declaration_is_refused(build: Build, members: str, complaint: str) -> None:
    path = build(
        f"struct s {{ int x; }}; struct {{ {members} }} broken"
        ' __attribute__((section(".rodata.arenads"), used)) = {};'
    )
    with pytest.raises(ObjectError, match=complaint):
        ObjectFile.open(path)


def test_an_arena_without_a_size_is_refused(build: Build) -> None:
    path = build('struct { int (*type)[33]; } one __attribute__((section(".maps"), used));')
    with pytest.raises(ObjectError, match="has no max_entries"):
        ObjectFile.open(path)


def test_something_that_is_no_path_is_refused() -> None:
    with pytest.raises(ObjectError, match="expected the path"):
        ObjectFile.open(None)  # type: ignore[arg-type]


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match="No such file"):
        ObjectFile.open(tmp_path / "absent.o")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match="directory"):
        ObjectFile.open(tmp_path)


def test_a_file_that_never_ends_is_refused() -> None:
    with pytest.raises(ObjectError, match="not a file"):
        ObjectFile.open("/dev/zero")


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ObjectError, match="not a file"):
        ObjectFile.open(tmp_path / "fifo")


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.o"
    with path.open("wb") as file:
        file.truncate(btf_module.MAX_FILE_BYTES + 1)
    with pytest.raises(ObjectError, match="larger file"):
        ObjectFile.open(path)


def test_a_file_that_is_not_elf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.o"
    path.write_text("int main;" * 9)
    with pytest.raises(ObjectError, match="ELF"):
        ObjectFile.open(path)


def test_a_host_object_is_refused() -> None:
    with pytest.raises(ObjectError, match="expected an object for the BPF machine"):
        ObjectFile.open(sys.executable)


def test_an_object_of_the_other_byte_order_is_refused(program: Path) -> None:
    data = bytearray(program.read_bytes())
    data[5] = 3 - data[5]
    with pytest.raises(ObjectError, match="other byte order"):
        ObjectFile(bytes(data))


def test_an_object_without_btf_is_refused(program: Path) -> None:
    data = program.read_bytes().replace(b".BTF\0", b".BTG\0")
    with pytest.raises(ObjectError, match=r"no \.BTF section; compile with -g"):
        ObjectFile(data)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "text.o"
    path.write_text("nothing")
    with pytest.raises(ObjectError) as caught:
        ObjectFile.open(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_an_object_cut_off_anywhere_does_no_harm(program: Path, data: st.DataObject) -> None:
    whole = program.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ObjectError):
        ObjectFile(whole[:length])


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_an_object_with_any_bytes_changed_does_no_harm(program: Path, data: st.DataObject) -> None:
    whole = bytearray(program.read_bytes())
    headers = struct.unpack_from("=Q", whole, 40)[0]
    # Headers are what there is to trip over: aim at them half of the time.
    place = st.one_of(st.integers(0, 63), st.integers(headers, len(whole) - 1))
    anywhere = st.one_of(place, st.integers(0, len(whole) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(anywhere)] = data.draw(st.integers(0, 255))
    try:
        ObjectFile(bytes(whole))
    except ArenadsError as error:
        assert isinstance(error, ObjectError)
