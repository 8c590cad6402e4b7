"""Messages between BPF programs and user space: through an arena, and through the kernel's buffers.

What both sides of a cell have in common:

- A message is a number in all of its words. The producer writes them all, the consumer adds them
  all up; what arrived has to be what was sent. In place, where an interface allows it.
- The floor is as much memory, which one side fills and the other reads, with nothing to tell them
  how far: what any structure that has records in place costs more than.
- Rings hold 256 KiB on either side, and the SPSC queue and the MPMC ring as many messages as go
  into those. A burst is as many as fit beside anybody's headers.
- In user space the peer is libbpf: `ring_buffer__consume` and `ring_buffer__poll`,
  `perf_buffer__consume` and `perf_buffer__poll`, `user_ring_buffer__reserve` and
  `user_ring_buffer__submit`. Its callbacks are C: nothing of Python is in the figures of C cells.

How the cost is counted:

- The producer alone: bursts into an empty ring, which is emptied off the clock.
- The consumer alone: a burst that was produced off the clock.
- The whole way ("out", "in"): both of these, in turn; nanoseconds of both. With two CPUs, both
  produce together and then one consumes all of it.
- The whole way beside a consumer on another CPU ("out_paced"): bursts of a quarter of the ring
  with pauses, so that nobody waits for room; nanoseconds of the producer and what the consumer has
  used of its CPU, with its waiting: ours looks every 50 us, and so does the ring buffer's without
  wake-ups; with them, and the perf buffer's, it waits in libbpf's poll.
- Throughput ("out_flow"): a producer that never pauses and tries again if the ring is full, beside
  a consumer that spins, on either side where there are no wake-ups; where there are, the peer's
  waits in libbpf's poll. Time on the clock, so 1e9 / nanoseconds is messages a second, those of all
  producers.

A perf buffer is as libbpf makes it: each message wakes the consumer.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from arenads.arena import Arena
from arenads.bench.cell import Cell, Side
from arenads.bench.loops import Done, Loops, OrderBlock, expect_equal, together
from arenads.bench.measure import allowed_cpus
from arenads.bench.userspace import Functions
from arenads.bench.workshop import Workshop
from arenads.errors import ArenadsError
from arenads.libbpf import create_map
from arenads.program import Program, load

__all__ = ["BURSTS", "SIZES", "Messages", "Part", "bursts", "shared"]

SIZES = (16, 64, 512)
BURSTS = {16: 6000, 64: 2992, 512: 400}
"""Messages that fit into each ring, by size."""

_BYTES = 256 * 1024
_RINGBUF, _USER_RINGBUF, _PERF_EVENT_ARRAY = 27, 31, 4
_NUMBERS = 4096
_LONGEST_FLOW = 1 << 20
_ATTEMPTS = 4
_PAUSE = 0.0001


Part = Callable[[int], list[Done]]
"""Sends or takes so many messages; what each CPU has done, with the sum of the numbers sent or of
the words taken."""


class _State(ctypes.Structure):
    """struct bench_messages."""

    _fields_ = (
        ("ring_buffer", ctypes.c_void_p),
        ("perf_buffer", ctypes.c_void_p),
        ("user_ring", ctypes.c_void_p),
        ("functions", ctypes.c_void_p * 6),
        ("taken", ctypes.c_uint64),
        ("sum", ctypes.c_uint64),
        ("cpu", ctypes.c_uint64),
        ("ended", ctypes.c_uint64),
        ("following", ctypes.c_uint32),
        ("lost", ctypes.c_uint32),
        ("locked", ctypes.c_uint32),
    )


_HANDED_OVER = (
    "ring_buffer__consume",
    "ring_buffer__poll",
    "perf_buffer__consume",
    "perf_buffer__poll",
    "user_ring_buffer__reserve",
    "user_ring_buffer__submit",
)


class Messages:
    """Everything that messages of one size go through, loaded. A context manager."""

    def __init__(self, workshop: Workshop, size: int) -> None:
        self.size = size
        self.burst = BURSTS[size]
        self._stack = ExitStack()
        try:
            self._open(workshop)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, workshop: Workshop) -> None:
        enter = self._stack.enter_context
        kinds = {
            "ringbuf": (_RINGBUF, 0, 0, _BYTES),
            "user_ringbuf": (_USER_RINGBUF, 0, 0, _BYTES),
            "perf_buffer": (_PERF_EVENT_ARRAY, 4, 4, os.cpu_count() or 1),
        }
        maps = {name: enter(create_map(*kind, name="bench")).fd for name, kind in kinds.items()}
        arena = enter(Arena.create("4GiB", engine="kernel"))
        defines = [f"SIZE={self.size}"]
        built = workshop.program("bench_messages", [] if self.size == 64 else defines)
        self.fds = maps
        self.program: Program = enter(load(built, arena=arena, maps=maps))
        self._code = workshop.library("messages", defines)
        self.state = _State()
        self._open_buffers(maps)
        self._numbers = workshop.order(_NUMBERS, "uniform")
        self._order = OrderBlock(self.program, self._numbers)
        self._functions: dict[str, Functions] = {}
        self.program.arena.populate(2 * _BYTES)
        (reserved,) = self.in_bpf("plain_reserve")(0)
        self._plain = reserved.sum

    def _open_buffers(self, maps: dict[str, int]) -> None:
        libbpf = ctypes.CDLL("libbpf.so.1")

        def opened(name: str, *arguments: object) -> int:
            new = getattr(libbpf, f"{name}__new")
            new.restype = ctypes.c_void_p
            made = new(*arguments)
            if not made:
                raise ArenadsError(f"libbpf could not make a {name}")
            self._stack.callback(getattr(libbpf, f"{name}__free"), ctypes.c_void_p(made))
            return int(made)

        state, code = ctypes.byref(self.state), self._code
        self.state.ring_buffer = opened(
            "ring_buffer", maps["ringbuf"], code.take_sample, state, None
        )
        self.state.perf_buffer = opened(
            "perf_buffer",
            maps["perf_buffer"],
            ctypes.c_size_t(_BYTES // os.sysconf("SC_PAGE_SIZE")),
            code.take_perf_sample,
            code.count_lost,
            state,
            None,
        )
        self.state.user_ring = opened("user_ring_buffer", maps["user_ringbuf"], None)
        for number, name in enumerate(_HANDED_OVER):
            address = ctypes.cast(getattr(libbpf, name), ctypes.c_void_p).value
            self.state.functions[number] = address

    # --- loops --------------------------------------------------------------------------

    def functions(self, structure: str) -> Functions:
        """Return the loops in C over a structure of the arena and over the peers."""
        if structure not in self._functions:
            offset = self._plain if structure == "plain" else self.program[structure].offset
            self._functions[structure] = Functions(
                self._code,
                self.program.arena,
                offset,
                -1,
                self._numbers,
                mapped=ctypes.addressof(self.state),
            )
        return self._functions[structure]

    def in_bpf(self, name: str, cpus: int = 1) -> Part:
        """Return the loop `name` in BPF, on so many CPUs at once."""
        loops = Loops(self.program, self._order, cpus, longest=_LONGEST_FLOW)
        return lambda operations: loops.once(name, operations, name)

    def in_c(self, name: str, structure: str = "out", cpus: int = 1) -> Part:
        """Return the loop `name` in C, in a thread on each of so many CPUs at once."""
        functions = self.functions(structure)
        if cpus > 1:
            return lambda operations: functions.call_together(name, operations)

        def run(operations: int) -> list[Done]:
            run = functions.call(name, operations, name)
            return [Done(0, int(run.nanoseconds), int(run.sum))]

        return run

    # --- beside a consumer --------------------------------------------------------------

    def paced(self, produce: str, follow: str, structure: str, cpus: int = 1) -> Side:
        """Return nanoseconds of both sides' CPUs; see the module."""
        piece = self.burst // 4 // cpus

        def work(loops: Loops, operations: int) -> tuple[int, int]:
            took = total = 0
            for start in range(0, operations, piece):
                runs = loops.once(produce, min(piece, operations - start), produce)
                took += sum(done.nanoseconds for done in runs)
                total += sum(done.sum for done in runs)
                time.sleep(_PAUSE)
            return took, total

        return self._beside(follow, structure, work, lambda took: took + int(self.state.cpu), cpus)

    def flow(self, produce: str, follow: str, structure: str, cpus: int = 1) -> Side:
        """Return nanoseconds from the producers' start to the consumer's end."""

        def work(loops: Loops, operations: int) -> tuple[int, int]:
            runs = loops.once(produce, operations, produce)
            return min(done.start for done in runs), sum(done.sum for done in runs)

        return self._beside(
            follow, structure, work, lambda start: int(self.state.ended) - start, cpus
        )

    def _beside(
        self,
        follow: str,
        structure: str,
        work: Callable[[Loops, int], tuple[int, int]],
        result: Callable[[int], int],
        cpus: int,
    ) -> Side:
        functions = self.functions(structure)
        loops = Loops(self.program, self._order, cpus, longest=_LONGEST_FLOW)
        consumer_cpu = allowed_cpus()[-1 - cpus]

        def run(operations: int) -> int:
            found: list[Any] = []

            def consume() -> None:
                os.sched_setaffinity(0, {consumer_cpu})
                try:
                    found.append(int(functions.call(follow, operations * cpus, follow).sum))
                except ArenadsError as error:
                    found.append(error)

            self.state.following = 0
            thread = threading.Thread(target=consume)
            thread.start()
            while not self.state.following and thread.is_alive():
                time.sleep(_PAUSE)
            try:
                value, total = work(loops, operations)
            finally:
                thread.join()
            if isinstance(found[0], ArenadsError):
                raise found[0]
            expect_equal(follow, found[0], total * self.size // 8)
            return result(value) // cpus

        return run

    # --- the end ------------------------------------------------------------------------

    def __enter__(self) -> Messages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def shared(cell: Cell, workshop: Workshop) -> Messages:
    """Return what is loaded for messages of the cell's size, of the cell before if it is the same.

    A cell that failed leaves messages behind; what is shared is made anew then.
    """

    @contextmanager
    def make() -> Iterator[Messages]:
        with Messages(workshop, cell.value_size) as made:
            yield made

    return workshop.shared(("messages", cell.value_size), make)


def bursts(
    messages: Messages,
    produce: Part,
    consume: Part,
    counted: Literal["produce", "consume", "both"],
    cpus: int = 1,
    most: int = 1 << 20,
) -> Side:
    """Return a side that produces a burst and consumes it, again and again, and counts one or both.

    Each of `cpus` producers does its part of the burst. If they did not run at the same time the
    burst is repeated, a few times. `most` is what something holds that is smaller than the rings.
    """
    each = min(messages.burst, most) // cpus

    def run(operations: int) -> int:
        took = 0
        for start in range(0, operations, each):
            now = min(each, operations - start)
            for _ in range(_ATTEMPTS):
                produced, consumed = produce(now), consume(now * cpus)
                sent = sum(done.sum for done in produced)
                received = sum(done.sum for done in consumed)
                expect_equal("what arrived", received, sent * messages.size // 8)
                if together(produced):
                    break
            if counted != "consume":
                took += sum(done.nanoseconds for done in produced) // cpus
            if counted != "produce":
                took += sum(done.nanoseconds for done in consumed) // cpus
        return took

    return run
