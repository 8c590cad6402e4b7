"""Records that C programs read and write field by field have the same values in Python.

Random records, with holes, packed, bit fields of any width, unions, nested arrays, members
aligned to 1 to 64 bytes; compiled into one object. BPF programs copy each record into an array
of words, or fill it from one; Python packs and unpacks the same bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from c_records import Corpus, Record

import arenads
from arenads import Codec, SchemaError
from arenads._core import ffi, lib
from arenads.btf import Kind, ObjectFile
from arenads.btf_schema import from_btf
from arenads.codec import field_of
from arenads.schema import padding_of

RECORDS = 40
ROUNDS = 4
WORDS = 2048


class Machine:
    """The loaded programs, and a record and words in the arena that they work on."""

    def __init__(self, program: Any, opened: ObjectFile) -> None:
        self.program, self.btf = program, opened.btf
        self.core = program.arena._open()
        self.record = self.allocate(1 << 16)
        self.words = self.allocate(8 * WORDS)
        self.request = struct.pack(
            "<2Q", program.arena.base + self.record, program.arena.base + self.words
        )

    def allocate(self, size: int) -> int:
        at = ffi.new("__u32 *")
        assert lib.ads_alloc(self.core, size, at) == 0
        assert at[0] % 64 == 0
        return int(at[0])

    def store(self, offset: int, data: bytes) -> None:
        assert lib.core_write(self.core, offset, data, len(data)) == 0

    def load(self, offset: int, size: int) -> bytes:
        data = bytearray(size)
        assert lib.core_read(self.core, offset, ffi.from_buffer(data), size) == 0
        return bytes(data)

    def run(self, name: str) -> None:
        assert self.program.run(name, self.request).value == 0

    def numbers(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}Q", self.load(self.words, 8 * count)))

    def codec(self, record: Record) -> Codec[Any]:
        found = self.btf.find(Kind.STRUCT, record.name)
        assert found is not None
        return Codec(from_btf(self.btf, found.id))


@pytest.fixture(scope="module", params=range(3), ids="seed {}".format)
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return Corpus(request.param, RECORDS)


@pytest.fixture(scope="module")
def machine(
    corpus: Corpus, engine: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("corpus")
    source = directory / "corpus.bpf.c"
    source.write_text(corpus.source())
    suffix = ".bpf.o" if engine == "kernel" else ".native.so"
    path = Path(
        arenads.compile(
            source,
            directory / f"corpus{suffix}",
            engine=engine,
            flags=["-Wno-everything", "-fno-strict-aliasing"],
        )
    )
    with arenads.load(path, engine=engine) as program:
        yield Machine(program, ObjectFile.open(directory / "corpus.bpf.o"))


def drawn(corpus: Corpus) -> Iterator[tuple[Record, Any]]:
    source = random.Random(7)
    for record in corpus.records:
        for _ in range(ROUNDS):
            yield record, record.draw(source)


def counted(record: Record, written: bool) -> int:
    return len(list(record.leaves("", written=written)))


def test_sizes_and_offsets_are_those_of_the_program(corpus: Corpus, machine: Machine) -> None:
    for record in corpus.records:
        codec = machine.codec(record)
        places = list(record.places(""))
        machine.run(f"layout_{record.name}")
        size, *offsets = machine.numbers(1 + len(places))
        assert codec.size == size, record.name
        for (path, _place), offset in zip(places, offsets, strict=True):
            try:
                found = field_of(codec.schema, path)[0]
            except SchemaError:  # a record or an array, which has no number of its own
                continue
            assert found == offset, f"{record.name}.{path}"


def test_a_program_reads_what_python_packed(corpus: Corpus, machine: Machine) -> None:
    noise = random.Random(8)
    for record, value in drawn(corpus):
        codec = machine.codec(record)
        raw = bytearray(codec.pack(value))
        for offset, size in padding_of(codec.schema):
            raw[offset : offset + size] = noise.randbytes(size)
        machine.store(machine.record, bytes(raw))
        machine.run(f"read_{record.name}")
        words = machine.numbers(counted(record, written=False))
        back = codec.unpack(raw)
        record.check(iter(words), back, record.name, written=False)


def test_python_unpacks_what_a_program_wrote(corpus: Corpus, machine: Machine) -> None:
    for record, value in drawn(corpus):
        codec = machine.codec(record)
        machine.store(machine.record, codec.pack(value))
        machine.run(f"read_{record.name}")
        read = machine.numbers(counted(record, written=False))
        # The words of the members that are written, by the values that they must be.
        words = words_of(record, codec.unpack(codec.pack(value)), read)
        machine.store(machine.words, struct.pack(f"<{len(words)}Q", *words))
        machine.store(machine.record, bytes(codec.size))
        machine.run(f"write_{record.name}")
        raw = machine.load(machine.record, codec.size)
        record.check(iter(words), codec.unpack(raw), record.name, written=True)
        assert raw == codec.pack(value), record.name


def words_of(record: Record, value: Any, read: list[int]) -> list[int]:
    """Return those of the words that belong to members which are written."""
    every = [get for get, _put in record.leaves("", written=False)]
    wanted = [get for get, _put in record.leaves("", written=True)]
    by_place = dict(zip(every, read, strict=True))
    return [by_place[get] for get in wanted]
