"""C programs read all of a map with a sweep. Its interleavings are in test_interleavings.py,
damaged memory in test_damage.py, snapshots made with it in test_snapshot.py."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path

import msgspec
import pytest
from conftest import PROGRAMS

import arenads
from arenads import Str, compiler, u32, u64
from arenads._core import lib


class Calls(msgspec.Struct):
    calls: u32
    name: Str[12]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = compiler.compile_shared(
        PROGRAMS / "sweep.c",
        tmp_path_factory.mktemp("sweep") / "sweep.so",
        # gcc does not see that the size of a key is that of its variable.
        flags=["-Wall", "-Wextra", "-Werror", "-Wno-array-bounds"],
    )
    loaded = ctypes.CDLL(str(built))
    loaded.sum_of.restype = ctypes.c_int64
    return loaded


@pytest.fixture
def made(engine: str, pin: Path) -> Path:
    """The pin of an arena with maps of 5,000 entries, of one and of none."""
    with arenads.create("4MiB", engine=engine) as arena:  # type: ignore[arg-type]
        for name, count in (("many", 5000), ("one", 1), ("none", 0)):
            calls = arena.hashmap(name, key=u64, value=Calls, max_entries=10_000)
            calls.update_many(
                [key * 0x9E3779B97F4A7C15 & (1 << 64) - 1 for key in range(count)],
                [Calls(key, f"task {key}") for key in range(count)],
            )
        arena.pin(pin)
    return pin


@pytest.mark.parametrize(("name", "count"), [("many", 5000), ("one", 1), ("none", 0)])
def test_a_c_program_reads_each_record_once(
    library: ctypes.CDLL, made: Path, name: str, count: int
) -> None:
    total = ctypes.c_uint64()
    assert library.sum_of(str(made).encode(), name.encode(), ctypes.byref(total)) == count
    assert total.value == sum(range(count))


def test_a_map_that_is_absent_is_said_to_be(library: ctypes.CDLL, made: Path) -> None:
    total = ctypes.c_uint64()
    assert library.sum_of(str(made).encode(), b"others", ctypes.byref(total)) == lib.ADS_ABSENT


@pytest.mark.parametrize(("value_at", "size"), [(4, 24), (8, 23), (24, 16), (8, 0)])
def test_records_that_key_and_value_do_not_fit_into_are_refused(
    library: ctypes.CDLL, made: Path, value_at: int, size: int
) -> None:
    assert library.misfit(str(made).encode(), b"many", value_at, size) == -errno.EINVAL
