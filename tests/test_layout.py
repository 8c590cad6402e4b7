"""Layouts agree: the BPF object's BTF, the host compiler's view and the Python schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

import arenads
from arenads import Array, Size, u32, u64
from arenads._core import ffi, lib
from arenads.annotations import from_class
from arenads.btf import Kind, ObjectFile
from arenads.btf_schema import from_btf
from arenads.comparison import compare
from arenads.compiler import include_dir
from arenads.schema import Record

RECORDS = [
    "ads_root",
    "ads_owner",
    "ads_shard",
    "ads_pool",
    "ads_counters",
    "ads_header",
    "ads_table",
    "ads_collection",
    "ads_orderedmap",
    "ads_entry",
    "ads_node",
    "ads_intrusive",
    "ads_queue",
    "ads_ring",
    "ads_array",
    "ads_mpmc",
    "ads_directory_value",
]


# The Python side, written out by hand: what a reader without a compiler would assume.
class Root(msgspec.Struct):
    magic: u64
    abi_version: u32
    byte_order: u32
    size: u64
    base: u64
    creation_id: u64
    directory: u64
    flags: u64
    owners: u64
    cursor: u64
    pad1: Array[u64, 7]
    populated: u64
    pad2: Array[u64, 7]
    no_memory: u64
    damaged: u64
    strays: u64
    reaper: u64
    pad3: Array[u64, 4]


class Owner(msgspec.Struct):
    who: u64
    where: u64
    pool: u64
    hand: Array[u64, 2]
    pad: Array[u64, 3]


class Shard(msgspec.Struct):
    free: u64
    chunk: u64
    spare: u64
    enough: u64
    pad: Array[u64, 4]


class Pool(msgspec.Struct):
    stride: u32
    capacity: u32
    spares: u32
    grace: u32
    own_spares: u32
    pad0: Array[u32, 11]
    carved: u64
    epoch: u64
    pad1: Array[u64, 6]
    shards: Array[Shard, 19]


class Counters(msgspec.Struct):
    full: u64
    no_memory: u64
    budget: u64
    damaged: u64
    dropped: u64
    pad: Array[u64, 3]


class Header(msgspec.Struct):
    kind: u32
    key_size: u32
    value_size: u32
    max_entries: u32
    seed: u64
    table: u64
    first: u32
    most: u32
    flags: u32
    pad0: u32
    removed: u64
    pad1: u64


class Table(msgspec.Struct):
    previous: u64
    pad: Array[u64, 7]


class Collection(msgspec.Struct):
    header: Header
    counters: Counters
    head: u64
    pad: Array[u64, 7]
    pool: Pool


class OrderedMapHeader(msgspec.Struct):
    data: Collection
    index: Collection
    heads: Array[u64, 8]


class Entry(msgspec.Struct):
    link: u64
    hash: u64


class Intrusive(msgspec.Struct):
    header: Header
    counters: Counters
    head: u64
    pad: Array[u64, 7]


class Queue(msgspec.Struct):
    header: Header
    counters: Counters
    tail: u64
    head_seen: u64
    pad0: Array[u64, 6]
    head: u64
    tail_seen: u64
    pad1: Array[u64, 6]


class ArrayHeader(msgspec.Struct):
    header: Header
    counters: Counters


class Ring(msgspec.Struct):
    header: Header
    counters: Counters
    committed: u64
    head_seen: u64
    producer: u64
    pad0: Array[u64, 13]
    tail: u64
    pad1: Array[u64, 15]
    head: u64
    tail_seen: u64
    pad2: Array[u64, 14]


class Mpmc(msgspec.Struct):
    collection: Collection
    tail: u64
    pad0: Array[u64, 15]
    head: u64
    pad1: Array[u64, 15]


class DirectoryValue(msgspec.Struct):
    kind: u32
    offset: u32
    schema_offset: u32
    schema_size: u32


CLASSES = dict(
    zip(
        RECORDS,
        [
            Root,
            Owner,
            Shard,
            Pool,
            Counters,
            Header,
            Table,
            Collection,
            OrderedMapHeader,
            Entry,
            arenads.Node,
            Intrusive,
            Queue,
            Ring,
            ArrayHeader,
            Mpmc,
            DirectoryValue,
        ],
        strict=True,
    )
)


@pytest.fixture(scope="module")
def bpf_types(compiled: Callable[[str, str], Path]) -> dict[str, arenads.Schema]:
    file = ObjectFile.open(compiled("layouts", "kernel"))
    found = {name: file.btf.find(Kind.STRUCT, name) for name in RECORDS}
    return {name: from_btf(file.btf, kind.id) for name, kind in found.items() if kind}


@pytest.fixture(scope="module")
def native_types() -> dict[str, dict[str, tuple[int, int]]]:
    """Record -> member -> (offset, size), as the compiler of the extension has them."""
    rows = ffi.new("core_layout **")
    count = lib.core_layouts(rows)
    native: dict[str, dict[str, tuple[int, int]]] = {}
    for row in rows[0][0:count]:
        record = ffi.string(row.record).decode()
        native.setdefault(record, {})[ffi.string(row.name).decode()] = (row.offset, row.size)
    return native


def test_every_struct_of_the_layout_header_is_compared() -> None:
    text = (include_dir() / "arenads" / "layout.h").read_text()
    declared = set(re.findall(r"^struct (ads_\w+) \{", text, re.MULTILINE))
    assert declared - {"ads_ref"} == set(RECORDS)  # ads_ref is private to each side


@pytest.mark.parametrize("name", RECORDS)
def test_btf_and_python_agree(bpf_types: dict[str, arenads.Schema], name: str) -> None:
    compare(from_class(CLASSES[name]), bpf_types[name], what=name)


@pytest.mark.parametrize("name", RECORDS)
def test_btf_and_the_host_compiler_agree(
    bpf_types: dict[str, arenads.Schema],
    native_types: dict[str, dict[str, tuple[int, int]]],
    name: str,
) -> None:
    record = bpf_types[name].type
    assert isinstance(record, Record)
    ours = {field.name: (field.offset, field.type.size) for field in record.fields}
    theirs = dict(native_types[name])
    assert theirs.pop("") == (0, record.size)
    assert theirs == {member: ours[member] for member in theirs}
    assert [member for member in ours if member not in theirs and "pad" not in member] == []


def test_a_deliberate_difference_is_caught(bpf_types: dict[str, arenads.Schema]) -> None:
    class Shifted(msgspec.Struct):
        kind: u32
        offset: u64
        schema_offset: u32
        schema_size: u32

    with pytest.raises(arenads.LayoutError, match="offset") as caught:
        compare(from_class(Shifted), bpf_types["ads_directory_value"], what="directory value")
    assert "schema_size" in str(caught.value)


def test_a_difference_of_one_type_is_caught(bpf_types: dict[str, arenads.Schema]) -> None:
    class Retyped(msgspec.Struct):
        link: u64
        hash: Annotated[str, Size(8)]

    with pytest.raises(arenads.LayoutError, match="hash"):
        compare(from_class(Retyped), bpf_types["ads_entry"], what="entry")
