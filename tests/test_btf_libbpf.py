"""The package's own reader of BTF sees what libbpf sees, in every type of objects and kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cffi
import pytest
from c_records import Corpus
from record_maker import Maker

from arenads import compiler
from arenads.btf import KERNEL_BTF, Btf, Kind, ObjectFile, Type
from arenads.c_header import c_header
from arenads.errors import CompilerMissingError, LibbpfMissingError, ObjectError
from arenads.libbpf.library import collect_messages, library

DECLARATIONS = """
struct btf;
struct btf_type { uint32_t name_off, info, size; };
struct btf_member { uint32_t name_off, type, offset; };
struct btf_array { uint32_t type, index_type, nelems; };
struct btf *btf__new(const char *bytes, uint32_t size);
void btf__free(struct btf *btf);
uint32_t btf__type_cnt(const struct btf *btf);
const struct btf_type *btf__type_by_id(const struct btf *btf, uint32_t id);
const char *btf__name_by_offset(const struct btf *btf, uint32_t offset);
int64_t btf__resolve_size(const struct btf *btf, uint32_t id);
int btf__resolve_type(const struct btf *btf, uint32_t id);
int btf__align_of(const struct btf *btf, uint32_t id);
int32_t btf__find_by_name_kind(const struct btf *btf, const char *name, uint32_t kind);
"""


class Theirs:
    """What libbpf says of some BTF."""

    def __init__(self, ffi: Any, lib: Any, data: bytes) -> None:
        self.ffi, self.lib = ffi, lib
        self.handle = lib.btf__new(data, len(data))
        assert self.handle
        self.first = ffi.cast("char *", lib.btf__type_by_id(self.handle, 1))

    def name(self, offset: int) -> str:
        return str(self.ffi.string(self.lib.btf__name_by_offset(self.handle, offset)).decode())

    def members(self, raw: Any, count: int, with_bits: bool) -> Iterator[tuple[str, int, int, int]]:
        for each in self.ffi.cast("struct btf_member *", raw + 1)[0:count]:
            bits = each.offset >> 24 if with_bits else 0
            offset = each.offset & 0xFFFFFF if with_bits else each.offset
            yield self.name(each.name_off), each.type, offset, bits


@contextmanager
def theirs_of(data: bytes) -> Iterator[Theirs]:
    try:
        library()
    except LibbpfMissingError as error:
        pytest.skip(str(error))
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    lib = ffi.dlopen("libbpf.so.1")
    with collect_messages():  # it complains of each type that has no size
        theirs = Theirs(ffi, lib, data)
        try:
            yield theirs
        finally:
            lib.btf__free(theirs.handle)


def size_of(btf: Btf, number: int) -> int | None:
    try:
        return btf.size(number)
    except ObjectError:
        return None


def alignment_of(btf: Btf, number: int) -> int | None:
    try:
        return btf.alignment(number)
    except ObjectError:
        return None


def differences(btf: Btf, data: bytes) -> list[str]:
    """Return what the two readers do not agree on."""
    found: list[str] = []
    with theirs_of(data) as theirs:
        lib, handle, cast = theirs.lib, theirs.handle, theirs.ffi.cast
        if lib.btf__type_cnt(handle) != len(btf):
            found.append(f"{len(btf)} types")
        for ours in btf.types():
            number = ours.id
            raw = lib.btf__type_by_id(handle, number)
            kind, count, flag = raw.info >> 24 & 31, raw.info & 0xFFFF, bool(raw.info >> 31)
            place = cast("char *", raw) - theirs.first
            if place != btf._starts[number] - btf._starts[1]:
                found.append(f"{number}: place")
            if (kind, theirs.name(raw.name_off)) != (ours.kind, ours.name):
                found.append(f"{number}: kind or name")
            if kind in (Kind.STRUCT, Kind.UNION):
                members = [
                    (each.name, each.type, each.bit_offset, each.bit_size) for each in ours.members
                ]
                if members != list(theirs.members(raw, count, flag)):
                    found.append(f"{number}: members")
            if kind == Kind.ARRAY:
                array = cast("struct btf_array *", raw + 1)
                if (array.type, array.nelems) != (ours.target, ours.count):
                    found.append(f"{number}: array")
            size = lib.btf__resolve_size(handle, number)
            if (size if size >= 0 else None) != size_of(btf, number):
                found.append(f"{number}: size {size}, ours {size_of(btf, number)}")
            found += different_target(btf, ours, lib.btf__resolve_type(handle, number))
            found += different_alignment(btf, ours, lib.btf__align_of(handle, number))
    return found


def different_target(btf: Btf, ours: Type, theirs: int) -> Iterator[str]:
    mine = btf.resolve(ours.id)
    if mine.kind in (Kind.VOID, Kind.FWD):
        mine_id = -22  # libbpf wants a type that has members; ours may be a pointer's target
    elif mine.kind is Kind.VAR:
        mine_id = btf.resolve(mine.target).id  # it looks through variables too
        if btf.resolve(mine.target).kind in (Kind.VOID, Kind.FWD):
            mine_id = -22
    else:
        mine_id = mine.id
    if theirs != mine_id:
        yield f"{ours.id}: resolved to {theirs}, ours {mine_id}"


def different_alignment(btf: Btf, ours: Type, theirs: int) -> Iterator[str]:
    mine = alignment_of(btf, ours.id)
    if ours.kind is Kind.VAR:
        return  # libbpf gives none
    # libbpf knows no alignment above a pointer's; compilers align __int128 to 16 bytes.
    if (theirs if theirs > 0 else None) != (mine and min(mine, 8)):
        yield f"{ours.id}: alignment {theirs}, ours {mine} ({btf.spell(ours.id)})"


def test_both_readers_agree_on_every_type_of_the_kernel() -> None:
    if not KERNEL_BTF.exists():
        pytest.skip(f"this kernel has no {KERNEL_BTF}")
    data = KERNEL_BTF.read_bytes()
    assert differences(Btf.from_bytes(data), data) == []


def test_both_readers_find_the_same_types_of_the_kernel_by_name() -> None:
    if not KERNEL_BTF.exists():
        pytest.skip(f"this kernel has no {KERNEL_BTF}")
    data = KERNEL_BTF.read_bytes()
    btf = Btf.from_bytes(data)
    names = {(each.kind, each.name) for each in btf.types() if each.name and each.id % 50 == 0}
    with theirs_of(data) as theirs:
        for kind, name in names:
            found = btf.find(kind, name)
            assert found is not None
            number = theirs.lib.btf__find_by_name_kind(theirs.handle, name.encode(), kind)
            assert number == found.id, (kind, name)


@pytest.mark.parametrize("which", ["corpus 0", "corpus 1", "header", "operations", "soak"])
def test_both_readers_agree_on_every_type_of_an_object(
    which: str, tmp_path: Path, compiled: Any
) -> None:
    source = tmp_path / "types.bpf.c"
    try:
        if which.startswith("corpus"):
            source.write_text(Corpus(int(which[-1]), 20).source())
            path = compiler.compile(source, flags=["-Wno-everything"])
        elif which == "header":
            maker = Maker(3)
            classes = [maker.record()[0] for _ in range(10)]
            names = [cls.__name__ for cls in classes]
            variables = "".join(f"struct {name} {name} = {{}};\n" for name in names)
            source.write_text(c_header(*classes) + variables)
            path = compiler.compile(source)
        else:
            path = compiled(which, "kernel")
    except CompilerMissingError as error:
        pytest.skip(str(error))
    opened = ObjectFile.open(path)
    section = opened.section(".BTF")
    assert section is not None
    assert differences(opened.btf, opened.contents(section)) == []
