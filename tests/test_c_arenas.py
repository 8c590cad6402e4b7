"""Arenas that C programs made: listed, dumped and opened, with schemas and without."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Run, made_in_c

import arenads
from arenads import compiler
from arenads._core import ffi, lib
from arenads.compiler import include_dir


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C program, with the schema that `arenads schema` wrote of its own header."""
    folder = tmp_path_factory.mktemp("c-arena")
    return made_in_c("directory", {"task_schema": ("u32", "struct task")}, folder)


@pytest.fixture
def made(maker: ctypes.CDLL, engine: str, pin: Path) -> Iterator[Path]:
    """The pin of an arena that the C program has made."""
    assert maker.make_arena(str(pin).encode(), int(engine == "kernel")) == 0
    yield pin


@pytest.fixture(scope="module")
def error_text(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    folder = tmp_path_factory.mktemp("error")
    source = folder / "text.c"
    source.write_text(
        "#include <arenads/error.h>\nconst char *text(int code) { return ads_error_text(code); }\n"
    )
    shared = compiler.compile_shared(source, folder / "text.so", include_dirs=[include_dir()])
    text = ctypes.CDLL(str(shared)).text
    text.restype = ctypes.c_char_p
    return text


def test_each_code_has_words_of_its_own(error_text: Callable[[int], bytes]) -> None:
    declared = (include_dir() / "arenads" / "arena.h").read_text().partition("enum ads_error {")[2]
    codes = [int(code) for code in re.findall(r"ADS_\w+ = (-?\d+)", declared.partition("};")[0])]
    assert len(codes) > 15
    texts = {error_text(code) for code in codes}
    assert len(texts) == len(codes)
    assert not texts & {os.strerror(-code).encode() for code in codes}


def test_other_codes_have_the_words_of_the_system(error_text: Callable[[int], bytes]) -> None:
    assert error_text(-errno.EPERM) == os.strerror(errno.EPERM).encode()


@pytest.mark.parametrize("fd", [-1, -errno.EEXIST, -(1 << 31)])
def test_a_file_that_could_not_be_opened_makes_no_arena_in_the_kernel(fd: int) -> None:
    core = ffi.new("struct ads_arena *")
    assert lib.ads_arena_create(core, 1 << 20, 0, fd, 4096) == -errno.EBADF
    assert core.base == ffi.NULL


def test_a_path_that_is_taken_makes_no_arena_in_the_kernel(
    maker: ctypes.CDLL, tmp_path: Path
) -> None:
    place = tmp_path / "taken"
    place.write_text("x")
    assert maker.make_arena(str(place).encode(), 0) == -errno.EBADF


def test_what_a_c_program_described_is_typed(made: Path) -> None:
    with arenads.open(made, readonly=True) as arena:
        tasks = arena.structures["tasks"]
        found = dict(tasks.items())  # type: ignore[attr-defined]
        assert tasks.described
        assert {key: task.comm for key, task in found.items()} == {1: "bash", 2: "bash"}
        assert found[1].__struct_fields__ == ("calls", "state", "delta", "comm")
        assert (found[1].calls, found[1].delta) == (100, -7)
        assert found[2].state.name == "STATE_SLEEPING"


def test_what_nobody_described_is_bytes_of_its_size(made: Path) -> None:
    with arenads.open(made, readonly=True) as arena:
        bare = arena.structures["bare"]
        assert dict(bare.items()) == {b"abcdefg\0": b"0123456789a\0"}  # type: ignore[attr-defined]
        assert not bare.described
        ordered = arena.structures["ordered"]
        assert dict(ordered.items()) == {-2: b"01234567"}  # type: ignore[attr-defined]


def test_a_program_that_knows_the_types_opens_what_nobody_described(made: Path) -> None:
    with arenads.open(made) as arena:
        bare = arena.hashmap("bare", key=arenads.u64, value=arenads.Array[arenads.u32, 3])
        assert list(bare) == [int.from_bytes(b"abcdefg\0", "little")]
        with pytest.raises(arenads.LayoutError, match="expected u64 of 8 bytes, found 12 bytes"):
            arena.hashmap("bare", key=arenads.u64, value=arenads.u64)


def test_records_whose_nodes_nobody_described_are_not_written(made: Path) -> None:
    with arenads.open(made) as arena:
        pool = arena.structures["pool"]
        with pytest.raises(arenads.SchemaError, match="made without a schema"):
            pool.alloc(bytes(16))  # type: ignore[attr-defined]
        [(address, before)] = pool.items()  # type: ignore[attr-defined]
        with pytest.raises(arenads.SchemaError, match="made without a schema"):
            pool[address] = bytes(16)  # type: ignore[index]
        typed = arena.pool("pool", value=arenads.Array[arenads.u64, 2])
        typed[address] = [1, 2]
        assert typed[address] == [1, 2]
        assert len(before) == 16


def test_ls_tells_what_is_described_and_what_is_not(run: Run, made: Path) -> None:
    listed = json.loads(run("ls", made, "--json").stdout)
    found = {each["name"]: each for each in listed["structures"]}
    assert {name: each["described"] for name, each in found.items()} == {
        "tasks": True,
        "bare": False,
        "ordered": False,
        "pool": False,
        "queue": False,
    }
    assert (found["tasks"]["key"], found["tasks"]["value"]) == ("u32", "task")
    assert (found["bare"]["key"], found["bare"]["value"]) == ("u8[8]", "u8[12]")
    [line] = [line for line in run("ls", made).stdout.splitlines() if line.startswith("bare ")]
    assert "no schema" in line


def test_dump_shows_described_records_by_field_and_others_as_digits(run: Run, made: Path) -> None:
    dumped = json.loads(run("dump", made, "--json").stdout)
    entries = {each["name"]: each["entries"] for each in dumped["structures"]}
    assert {"calls": 200, "state": "STATE_SLEEPING", "delta": -7, "comm": "bash"} in [
        each["value"] for each in entries["tasks"]
    ]
    assert entries["bare"] == [{"key": b"abcdefg\0".hex(), "value": b"0123456789a\0".hex()}]
    assert entries["ordered"] == [{"key": -2, "value": b"01234567".hex()}]
    assert entries["queue"] == [{"value": b"01234567".hex()}]
    assert [set(each) for each in entries["pool"]] == [{"address", "value"}]


def test_the_schema_command_prints_what_c_programs_store(run: Run, tmp_path: Path) -> None:
    plain = run("schema", "--key", "__u32", "--value", "char[8]")
    assert json.loads(plain.stdout) == {
        "value": {"type": {"c": "str", "size": 8}},
        "key": {"type": {"c": "scalar", "name": "u32"}},
    }
    (tmp_path / "records.py").write_text(
        "import msgspec\nfrom arenads import u64\nclass Point(msgspec.Struct):\n    x: u64\n"
    )
    assert '"name":"x"' in run("schema", "--value", "records:Point").stdout
    as_c = run("schema", "--value", "records:Point", "--c", "point_schema").stdout
    assert "static const char point_schema[] =" in as_c


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "found neither"),
        (["--value", "nonsense"], "expected one such as u32"),
        (["--value", "no.such.module:Class"], "cannot be imported"),
        (["--value", "json:dumps"], "has no C form"),
        (["--value", "task", "--btf", "absent.o"], "absent.o"),
        (["--value", "u32", "--c", "not a name"], "expected a name for a C variable"),
    ],
)
def test_the_schema_command_says_what_is_wrong(run: Run, arguments: list[str], said: str) -> None:
    done = run("schema", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
