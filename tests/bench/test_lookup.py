"""First figures: a hash map in the arena against a kernel hash map of the same entries.

Run with `pytest tests/bench -s`. Both sides run in turn, on one pinned CPU; what is printed is
the median of each and their ratio. Nothing here fails because something took long.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads._core import ffi
from arenads.compiler import compile_shared
from arenads.libbpf import KernelMap
from arenads.program import Program

HERE = Path(__file__).parent
ROUNDS = 7
LOOPS = 200_000
FILL_STEP = 100_000

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module", params=[1_000, 10_000, 100_000, 1_000_000])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, int]]:
    """Load both maps with keys 0 to n - 1, each its own value."""
    entries: int = request.param
    path = tmp_path_factory.mktemp("bench") / f"lookup{entries}.bpf.o"
    arenads.compile(HERE / "lookup.bpf.c", path, defines=[f"ENTRIES={entries}"])
    with arenads.load(path, engine="kernel") as program:
        program.arena.populate(max(1 << 20, entries * 128))  # BPF fills it: tables too
        for start in range(0, entries, FILL_STEP):
            context = struct.pack("<4Q", min(entries, start + FILL_STEP), 0, 0, start)
            assert program.run("fill", context).value == 0
        yield program, entries


@pytest.fixture(scope="module")
def native_loops(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("bench") / "lookup.so"
    library = ctypes.CDLL(str(compile_shared(HERE / "lookup.c", path)))
    for function in (library.lookup_ours, library.lookup_theirs):
        function.restype = ctypes.c_uint64
    return library


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float]) -> None:
    """Run both in turn and print nanoseconds an operation and the ratio."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    finally:
        os.sched_setaffinity(0, before)
    mine = statistics.median(first for first, _ in pairs)
    peer = statistics.median(second for _, second in pairs)
    ratios = sorted(second / first for first, second in pairs)
    print(
        f"\n{name:40} ours {mine:8.1f} ns  kernel map {peer:8.1f} ns  ratio"
        f" {peer / mine:6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        end="",
    )


@pytest.mark.parametrize("operation", ["lookup", "update", "delete_insert"])
def test_inside_a_bpf_program(filled: tuple[Program, int], operation: str) -> None:
    program, entries = filled
    sums: dict[str, int] = {}

    def run(which: str) -> float:
        result = program.run(which, struct.pack("<4Q", LOOPS, 0, 0, 1))
        assert result.value == 0
        _, nanoseconds, sums[which], _ = struct.unpack("<4Q", result.context)
        return nanoseconds / LOOPS

    loop = min(run("nothing") for _ in range(ROUNDS))
    compare(
        f"bpf.hashmap.{operation} {entries}",
        lambda: run(f"ours_{operation}") - loop,
        lambda: run(f"theirs_{operation}") - loop,
    )
    assert sums[f"ours_{operation}"] == sums[f"theirs_{operation}"]


def kernel_map(program: Program) -> KernelMap:
    return KernelMap(os.dup(program._bpf.maps()["theirs"].fd))


def test_from_c(filled: tuple[Program, int], native_loops: ctypes.CDLL) -> None:
    program, entries = filled
    arena = ctypes.c_void_p(int(ffi.cast("uintptr_t", program.arena._core)))
    sums = [ctypes.c_uint64(), ctypes.c_uint64()]
    loops = ctypes.c_uint64(LOOPS)
    size = ctypes.c_uint64(entries)
    with kernel_map(program) as theirs:
        compare(
            f"c.hashmap.lookup_hit {entries}",
            lambda: (
                native_loops.lookup_ours(
                    arena, program["map"].offset, size, loops, ctypes.byref(sums[0])
                )
                / LOOPS
            ),
            lambda: (
                native_loops.lookup_theirs(theirs.fd, size, loops, ctypes.byref(sums[1])) / LOOPS
            ),
        )
    assert sums[0].value == sums[1].value


def test_from_python(filled: tuple[Program, int]) -> None:
    program, entries = filled
    ours: Any = program["map"]
    keys = [index * 7919 % entries for index in range(20_000)]

    def timed(get: Callable[[int], int]) -> float:
        start = time.perf_counter_ns()
        for key in keys:
            get(key)
        return (time.perf_counter_ns() - start) / len(keys)

    with kernel_map(program) as theirs:
        word = struct.Struct("<Q")

        def by_system_call(key: int) -> int:
            found = theirs.lookup(word.pack(key))
            assert found is not None
            value: int = word.unpack(found)[0]
            return value

        assert all(ours[key] == by_system_call(key) for key in keys[:100])
        compare(
            f"python.hashmap.get {entries}",
            lambda: timed(ours.__getitem__),
            lambda: timed(by_system_call),
        )
