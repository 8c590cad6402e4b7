"""An array in the arena against a kernel array map of the same elements; see test_lookup.py."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_lookup import FILL_STEP, LOOPS, ROUNDS, compare

import arenads
from arenads._core import ffi
from arenads.compiler import compile_shared
from arenads.libbpf import KernelMap
from arenads.program import Program

HERE = Path(__file__).parent

pytestmark = pytest.mark.kernel


class Filled(NamedTuple):
    program: Program
    entries: int
    words: int

    def __str__(self) -> str:
        return f"{self.entries} x {8 * self.words} bytes"


@pytest.fixture(
    scope="module",
    params=[(1_000, 1), (1_000, 8), (1_000_000, 1), (1_000_000, 8)],
    ids=lambda each: f"{each[0]}-{8 * each[1]}",
)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """Load both, element i holding i."""
    entries, words = request.param
    path = tmp_path_factory.mktemp("bench") / "array_map.bpf.o"
    arenads.compile(
        HERE / "array_map.bpf.c", path, defines=[f"ENTRIES={entries}", f"WORDS={words}"]
    )
    with arenads.load(path, engine="kernel") as program:
        program.arena.populate(max(1 << 20, entries * words * 9))  # BPF fills it
        for start in range(0, entries, FILL_STEP):
            context = struct.pack("<4Q", min(entries, start + FILL_STEP), 0, 0, start)
            assert program.run("fill", context).value == 0
        yield Filled(program, entries, words)


@pytest.mark.parametrize("order", ["sequential", "random"])
@pytest.mark.parametrize("operation", ["lookup", "add", "update"])
def test_inside_a_bpf_program(filled: Filled, operation: str, order: str) -> None:
    sums: dict[str, int] = {}

    def run(which: str) -> float:
        name = f"{which}_{order}"
        result = filled.program.run(name, struct.pack("<4Q", LOOPS, 0, 0, 1))
        assert result.value == 0
        _, nanoseconds, sums[which], _ = struct.unpack("<4Q", result.context)
        return nanoseconds / LOOPS

    loop = min(run("nothing") for _ in range(ROUNDS))
    compare(
        f"bpf.array.{operation}.{order} {filled}",
        lambda: run(f"ours_{operation}") - loop,
        lambda: run(f"theirs_{operation}") - loop,
    )
    compare(
        f"  with the loop, {loop:.1f} ns",
        lambda: run(f"ours_{operation}"),
        lambda: run(f"theirs_{operation}"),
    )
    assert sums[f"ours_{operation}"] == sums[f"theirs_{operation}"]


def kernel_map(program: Program) -> KernelMap:
    return KernelMap(os.dup(program._bpf.maps()["theirs"].fd))


def test_from_c(filled: Filled, tmp_path: Path) -> None:
    built = compile_shared(
        HERE / "array_map.c", tmp_path / "array_map.so", flags=["-O2", f"-DWORDS={filled.words}"]
    )
    library = ctypes.CDLL(str(built))
    library.get_ours.restype = library.get_theirs.restype = ctypes.c_uint64
    arena = ctypes.c_void_p(int(ffi.cast("uintptr_t", filled.program.arena._core)))
    sums = [ctypes.c_uint64(), ctypes.c_uint64()]
    loops, entries = ctypes.c_uint64(LOOPS), ctypes.c_uint32(filled.entries)
    place = ctypes.c_uint32(filled.program["ours"].offset)
    with kernel_map(filled.program) as theirs:
        compare(
            f"c.array.get {filled}",
            lambda: library.get_ours(arena, place, entries, loops, ctypes.byref(sums[0])) / LOOPS,
            lambda: library.get_theirs(theirs.fd, entries, loops, ctypes.byref(sums[1])) / LOOPS,
        )
    assert sums[0].value == sums[1].value


def test_from_python(filled: Filled) -> None:
    ours: Any = filled.program["ours"]
    indexes = [number * 7919 % filled.entries for number in range(20_000)]
    record = struct.Struct(f"<{filled.words}Q")

    def timed(get: Callable[[int], Any]) -> float:
        start = time.perf_counter_ns()
        for index in indexes:
            get(index)
        return (time.perf_counter_ns() - start) / len(indexes)

    with kernel_map(filled.program) as theirs:
        index_of = struct.Struct("<I")

        def by_system_call(index: int) -> tuple[int, ...]:
            found = theirs.lookup(index_of.pack(index))
            assert found is not None
            return record.unpack(found)

        assert all(ours[index].word[0] == by_system_call(index)[0] for index in indexes[:100])
        compare(
            f"python.array.get {filled}",
            lambda: timed(ours.__getitem__),
            lambda: timed(by_system_call),
        )
