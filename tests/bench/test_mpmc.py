"""The MPMC ring against the kernel's ring buffer: pushed in BPF, popped in C and in Python.

Run with `pytest tests/bench/test_mpmc.py -s`. Records of 64 bytes, no wake-ups. Producers run in
bursts that fit; between two bursts a consumer on the last CPU reads every record, in both rings.
What is printed is the median of each side and their ratio. Nothing here fails because something
took long.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads._core import ffi
from arenads.compiler import compile_shared
from arenads.program import Program

HERE = Path(__file__).parent
ROUNDS = 21
BURST = 8000  # all producers together
RING_BYTES = 1 << 20
ARGS = struct.Struct("<4Q")
CPUS = sorted(os.sched_getaffinity(0))

pytestmark = pytest.mark.kernel


class Rings:
    """Both rings, loaded, and their consumers."""

    def __init__(self, program: Program, library: ctypes.CDLL) -> None:
        self.program = program
        self.queue: Any = program["queue"]
        self.library = library
        fd = program._bpf.maps()["theirs"].fd
        write, read = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ
        self.consumer = mmap.mmap(fd, 4096, mmap.MAP_SHARED, write, offset=0)
        # The data is mapped twice, so that no record is cut in two.
        size = 4096 + 2 * RING_BYTES
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        self.producer = libc.mmap(
            None, ctypes.c_size_t(size), read, mmap.MAP_SHARED, fd, ctypes.c_long(4096)
        )
        assert self.producer != ctypes.c_void_p(-1).value

    def pop_ours(self) -> tuple[int, int]:
        """Pop all there is: nanoseconds and records."""
        count, total = ctypes.c_uint64(), ctypes.c_uint64()
        arena = ctypes.c_void_p(int(ffi.cast("uintptr_t", self.program.arena._core)))
        nanoseconds = self.library.pop_ours(
            arena, self.queue.offset, ctypes.byref(count), ctypes.byref(total)
        )
        return nanoseconds, count.value

    def pop_theirs(self) -> tuple[int, int]:
        count, total = ctypes.c_uint64(), ctypes.c_uint64()
        consumer = (ctypes.c_char * 4096).from_buffer(self.consumer)
        nanoseconds = self.library.pop_theirs(
            consumer,
            ctypes.c_void_p(self.producer),
            ctypes.c_uint64(RING_BYTES),
            ctypes.byref(count),
            ctypes.byref(total),
        )
        return nanoseconds, count.value

    def run(self, name: str, producers: int, rounds: int) -> float:
        """Nanoseconds an operation, on as many CPUs at the same time."""
        while True:
            runs = self._run(name, producers, rounds)
            assert [done for _, done, _ in runs] == [rounds] * producers
            if overlap(runs) > 0.7:
                return sum(took for took, _, _ in runs) / producers / rounds
            self.pop_ours(), self.pop_theirs()

    def _run(self, name: str, producers: int, rounds: int) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        ready = threading.Barrier(producers)
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3_000_000

        def produce(cpu: int) -> None:
            os.sched_setaffinity(threading.get_native_id(), {cpu})
            runner = self.program.runner(name, ARGS.size)
            ready.wait()
            assert runner(ARGS.pack(rounds, 0, 0, start)) == 0
            _, nanoseconds, done, began = ARGS.unpack(runner.context)
            found.append((nanoseconds, done, began))

        threads = [threading.Thread(target=produce, args=(cpu,)) for cpu in CPUS[:producers]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def overlap(runs: list[tuple[int, int, int]]) -> float:
    """The share of the longest run in which all ran."""
    begin = max(began for _, _, began in runs)
    end = min(began + took for took, _, began in runs)
    return (end - begin) / max(took for took, _, _ in runs)


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rings]:
    directory = tmp_path_factory.mktemp("bench")
    arenads.compile(HERE / "mpmc.bpf.c", directory / "mpmc.bpf.o")
    library = ctypes.CDLL(str(compile_shared(HERE / "mpmc.c", directory / "mpmc.so")))
    library.pop_ours.restype = library.pop_theirs.restype = ctypes.c_uint64
    with arenads.load(directory / "mpmc.bpf.o", engine="kernel") as program:
        yield Rings(program, library)


def compare(
    name: str, ours: Callable[[], float], theirs: Callable[[], float], peer: str = "ring buffer"
) -> None:
    """Run both in turn, with this thread on the last CPU; print both and the ratio."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPUS[-1]})
    try:
        pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    finally:
        os.sched_setaffinity(0, before)
    mine = statistics.median(first for first, _ in pairs)
    other = statistics.median(second for _, second in pairs)
    ratios = sorted(second / first for first, second in pairs)
    print(
        f"\n{name:40} ours {mine:8.1f} ns  {peer} {other:8.1f} ns  ratio {other / mine:6.2f}"
        f"  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        end="",
    )


@pytest.mark.parametrize("producers", range(1, len(CPUS[:4]) + 1))
def test_push_in_bpf(rings: Rings, producers: int) -> None:
    each = BURST // producers

    def ours() -> float:
        found = rings.run("ours_push", producers, each)
        assert rings.pop_ours()[1] == each * producers
        return found

    def theirs() -> float:
        found = rings.run("theirs_push", producers, each)
        assert rings.pop_theirs()[1] == each * producers
        return found

    compare(f"bpf.mpmc.push, {producers} CPUs", ours, theirs)


def test_pop_in_c(rings: Rings) -> None:
    def timed(name: str, pop: Callable[[], tuple[int, int]]) -> float:
        rings.run(name, 1, BURST)
        nanoseconds, count = pop()
        assert count == BURST
        return nanoseconds / count

    compare(
        "c.mpmc.pop",
        lambda: timed("ours_push", rings.pop_ours),
        lambda: timed("theirs_push", rings.pop_theirs),
    )


@pytest.mark.parametrize("how", ["pop", "drain"])
def test_pop_in_python(rings: Rings, how: str) -> None:
    """Against what Python has for many processes: a pipe under a lock."""
    pipe: Any = multiprocessing.SimpleQueue()
    few = 500  # what a pipe holds

    def ours() -> float:
        rings.run("ours_push", 1, few)
        start = time.perf_counter_ns()
        if how == "drain":
            assert len(rings.queue.drain()) == few
        else:
            for _ in range(few):
                assert rings.queue.pop() is not None
        return (time.perf_counter_ns() - start) / few

    def theirs() -> float:
        for number in range(few):
            pipe.put((number,) * 8)
        start = time.perf_counter_ns()
        for _ in range(few):
            pipe.get()
        return (time.perf_counter_ns() - start) / few

    compare(f"python.mpmc.{how}", ours, theirs, "SimpleQueue")
