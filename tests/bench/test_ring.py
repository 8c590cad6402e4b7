"""Messages of 64 bytes out of and into BPF: rings in the arena against the kernel's ring buffers.

Run with `pytest tests/bench -s`. Both sides run in turn, on one pinned CPU, in portions that
their ring holds; what is printed is the median of each and their ratio. Nothing here fails
because something took long.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import arenads
from arenads._core import ffi
from arenads.compiler import compile_shared
from arenads.program import Program

HERE = Path(__file__).parent
BYTES = 256 * 1024
PORTION = 3000  # messages that a ring holds
PORTIONS = 50
ROUNDS = 7

pytestmark = pytest.mark.kernel

# One portion: nanoseconds and the sum of the messages, of the side that is measured.
Portion = Callable[[int], tuple[int, int]]


class KernelRing(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("consumer", "producer", "data")] + [
        ("size", ctypes.c_uint64)
    ]


class Sides:
    """Programs on one side, C on the other, and each ring between them."""

    def __init__(self, program: Program, library: ctypes.CDLL) -> None:
        self.program = program
        self.library = library
        self.arena = ctypes.c_void_p(int(ffi.cast("uintptr_t", program.arena._core)))
        self.rings: dict[str, KernelRing] = {}
        for name, from_user in (("kernel_out", 0), ("kernel_in", 1)):
            ring = KernelRing()
            fd = program._bpf.maps()[name].fd
            code = library.kernel_ring_map(
                ctypes.byref(ring), fd, ctypes.c_uint64(BYTES), from_user
            )
            assert code == 0, os.strerror(-code)
            self.rings[name] = ring
        self.runners = {name: program.runner(name, 32) for name in program.programs}

    def run(self, name: str, seed: int) -> tuple[int, int]:
        run = self.runners[name]
        assert run(struct.pack("<4Q", PORTION, 0, 0, seed)) == 0, name
        _, nanoseconds, total, _ = struct.unpack("<4Q", run.context)  # type: ignore[attr-defined]
        return nanoseconds, total

    def call(self, name: str, *arguments: object) -> tuple[int, int]:
        total = ctypes.c_uint64()
        function = getattr(self.library, name)
        function.restype = ctypes.c_uint64
        return function(*arguments, ctypes.byref(total)), total.value

    def consume_ours(self) -> tuple[int, int]:
        return self.call("consume_ours", self.arena, self.program["out"].offset)

    def consume_theirs(self) -> tuple[int, int]:
        return self.call("consume_theirs", ctypes.byref(self.rings["kernel_out"]))

    def produce_ours(self, seed: int) -> tuple[int, int]:
        rounds = ctypes.c_uint64(PORTION)
        ring = self.program["in"].offset
        return self.call("produce_ours", self.arena, ring, ctypes.c_uint64(seed), rounds)

    def produce_theirs(self, seed: int) -> tuple[int, int]:
        ring = ctypes.byref(self.rings["kernel_in"])
        return self.call("produce_theirs", ring, ctypes.c_uint64(seed), ctypes.c_uint64(PORTION))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    directory = tmp_path_factory.mktemp("bench")
    library = ctypes.CDLL(str(compile_shared(HERE / "ring.c", directory / "ring.so")))
    with arenads.load(HERE / "ring.bpf.c", engine="kernel") as program:
        yield Sides(program, library)


def measure(portion: Portion) -> float:
    """Nanoseconds a message."""
    return sum(portion(seed * PORTION)[0] for seed in range(PORTIONS)) / (PORTION * PORTIONS)


def compare(name: str, ours: Portion, theirs: Portion, loop: float = 0.0) -> None:
    """Run both in turn and print nanoseconds a message, without the loop's, and the ratio."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        pairs = [(measure(ours) - loop, measure(theirs) - loop) for _ in range(ROUNDS)]
    finally:
        os.sched_setaffinity(0, before)
    mine = statistics.median(first for first, _ in pairs)
    peer = statistics.median(second for _, second in pairs)
    ratios = sorted(second / first for first, second in pairs)
    print(
        f"\n{name:40} ours {mine:8.2f} ns  kernel ring {peer:8.2f} ns  ratio"
        f" {peer / mine:6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        end="",
    )


@pytest.fixture(scope="module")
def loop(sides: Sides) -> float:
    """What a loop in a program costs that sends nothing."""
    return min(measure(lambda seed: sides.run("nothing", seed)) for _ in range(ROUNDS))


@pytest.mark.parametrize("how", ["reserve", "push", "batch"])
def test_out_of_a_program(sides: Sides, loop: float, how: str) -> None:
    """Producing in BPF; what was sent arrives, in C."""

    def ours(seed: int) -> tuple[int, int]:
        nanoseconds, total = sides.run(f"ours_{how}", seed)
        assert sides.runners["ours_publish"](bytes(32)) == 0
        assert sides.consume_ours()[1] == 8 * total
        return nanoseconds, total

    def theirs(seed: int) -> tuple[int, int]:
        nanoseconds, total = sides.run("theirs_out", seed)
        assert sides.consume_theirs()[1] == 8 * total
        return nanoseconds, total

    compare(f"bpf.ring.{how}", ours, theirs, loop)


def test_out_of_a_program_overwriting(sides: Sides, loop: float) -> None:
    """Nobody consumes: each push drops a record. The kernel's has no such mode: it is drained."""

    def theirs(seed: int) -> tuple[int, int]:
        result = sides.run("theirs_out", seed)
        sides.consume_theirs()
        return result

    def ours(seed: int) -> tuple[int, int]:
        return sides.run("ours_overwrite", seed)

    compare("bpf.ring.push overwriting", ours, theirs, loop)


def test_consuming_in_c(sides: Sides) -> None:
    def ours(seed: int) -> tuple[int, int]:
        sides.run("ours_push", seed)
        return sides.consume_ours()

    def theirs(seed: int) -> tuple[int, int]:
        sides.run("theirs_out", seed)
        return sides.consume_theirs()

    compare("c.ring.next", ours, theirs)


@pytest.mark.parametrize("how", ["next", "pop"])
def test_into_a_program(sides: Sides, how: str) -> None:
    """Consuming in BPF what C has sent. The kernel's has no loop in the program to leave out."""

    def ours(seed: int) -> tuple[int, int]:
        _, sent = sides.produce_ours(seed)
        nanoseconds, total = sides.run(f"ours_{how}", seed)
        assert total == sent
        return nanoseconds, total

    def theirs(seed: int) -> tuple[int, int]:
        _, sent = sides.produce_theirs(seed)
        nanoseconds, total = sides.run("theirs_in", seed)
        assert total == sent
        return nanoseconds, total

    compare(f"bpf.ring.{how}", ours, theirs)


def test_producing_in_c(sides: Sides) -> None:
    def ours(seed: int) -> tuple[int, int]:
        result = sides.produce_ours(seed)
        sides.run("ours_next", seed)
        return result

    def theirs(seed: int) -> tuple[int, int]:
        result = sides.produce_theirs(seed)
        sides.run("theirs_in", seed)
        return result

    compare("c.ring.reserve", ours, theirs)
