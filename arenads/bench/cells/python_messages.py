"""Messages in Python: rings and queues of an arena against libbpf's buffers through cffi.

The other side is BPF, off the clock. What is taken becomes bytes, or records of eight words where
the structure is one of records; the peer's callback appends the same to a list.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cffi
import msgspec

from arenads.annotations import Array, u64
from arenads.bench.cell import Cell, Need, Sides
from arenads.bench.loops import Done
from arenads.bench.messages import Messages, Part, bursts, shared
from arenads.bench.workshop import Workshop
from arenads.codec import Codec
from arenads.errors import ArenadsError

__all__ = ["cells"]

SIZE = 64


class Words(msgspec.Struct):
    """A message, as the program has it."""

    word: Array[u64, 8]


CODEC: Codec[Words] = Codec(Words)

_DECLARATIONS = """
typedef int (*ring_buffer_sample_fn)(void *context, void *data, size_t size);
void *ring_buffer__new(int map_fd, ring_buffer_sample_fn function, void *context, void *options);
void ring_buffer__free(void *ring);
int ring_buffer__consume(void *ring);
void *user_ring_buffer__new(int map_fd, void *options);
void user_ring_buffer__free(void *ring);
void *user_ring_buffer__reserve(void *ring, uint32_t size);
void user_ring_buffer__submit(void *ring, void *sample);
"""

# How messages leave BPF, and what is called for one, or for all of a burst.
TAKERS = {
    "python.ring.pop": ("ring_reserve_submit", "out"),
    "python.ring.drain": ("ring_reserve_submit", "out"),
    "python.queue.pop": ("queue_spsc_push", "fixed"),
    "python.queue.drain": ("queue_spsc_push", "fixed"),
    "python.mpmc.pop": ("mpmc_push", "shared"),
    "python.mpmc.drain": ("mpmc_push", "shared"),
}
GIVERS = {
    "python.ring.push": ("ring_consume", "in"),
    "python.ring.push_many": ("ring_consume", "in"),
    "python.queue.push": ("queue_spsc_pop", "fixed"),
    "python.mpmc.push": ("mpmc_pop", "shared"),
}


_PIPE_HOLDS = 400


def _total(records: list[Any]) -> int:
    """Add up all words of what was taken."""
    return sum(
        sum(memoryview(one).cast("Q")) if isinstance(one, bytes) else sum(one.word)
        for one in records
    )


def _taking(take: Callable[[int], list[Any]]) -> Part:
    """Time what takes so many messages."""

    def run(operations: int) -> list[Done]:
        start = time.perf_counter_ns()
        taken = take(operations)
        return [Done(start, time.perf_counter_ns() - start, _total(taken))]

    return run


def _giving(make: Callable[[int], list[Any]], give: Callable[[list[Any]], None]) -> Part:
    """Time what gives so many messages, which are made before."""

    def run(operations: int) -> list[Done]:
        made = make(operations)
        start = time.perf_counter_ns()
        give(made)
        return [Done(start, time.perf_counter_ns() - start, sum(range(operations)))]

    return run


def _one_by_one(pop: Callable[[], Any]) -> Callable[[int], list[Any]]:
    def take(operations: int) -> list[Any]:
        return [pop() for _ in range(operations)]

    return take


def _opened(ffi: Any, libbpf: Any, name: str, *arguments: object) -> Any:
    made = getattr(libbpf, f"{name}__new")(*arguments)
    if not made:
        raise ArenadsError(f"libbpf could not make a {name}")
    return ffi.gc(made, getattr(libbpf, f"{name}__free"))


@contextmanager
def open_take(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Take in Python what BPF has sent."""
    messages: Messages = shared(cell, workshop)
    produce, name = TAKERS[cell.name]
    ours: Any = messages.program[name]
    take = ours.drain if cell.name.endswith("drain") else _one_by_one(ours.pop)
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    libbpf = ffi.dlopen("libbpf.so.1")
    taken: list[Any] = []
    append, buffer, unpack = taken.append, ffi.buffer, CODEC.unpack

    if name == "out":

        def sample(context: Any, data: Any, size: int) -> int:
            append(buffer(data, size)[:])
            return 0
    else:

        def sample(context: Any, data: Any, size: int) -> int:
            append(unpack(buffer(data, size)))
            return 0

    callback = ffi.callback("ring_buffer_sample_fn", sample, error=-1)
    ring = _opened(
        ffi, libbpf, "ring_buffer", messages.fds["ringbuf"], callback, ffi.NULL, ffi.NULL
    )

    def take_peer(operations: int) -> list[Any]:
        taken.clear()
        libbpf.ring_buffer__consume(ring)
        return taken

    yield Sides(
        ours=bursts(messages, messages.in_bpf(produce), _taking(take), "consume"),
        peer=bursts(messages, messages.in_bpf("ringbuf_silent"), _taking(take_peer), "consume"),
        most=1 << 16,
    )


@contextmanager
def open_pipe(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Take what BPF has sent, and from what Python has for many processes: a pipe under a lock."""
    messages: Messages = shared(cell, workshop)
    produce, name = TAKERS[cell.name]
    pipe: Any = multiprocessing.SimpleQueue()

    def put(operations: int) -> list[Done]:
        for number in range(operations):
            pipe.put([number] * 8)
        return [Done(0, 0, sum(range(operations)))]

    def get(operations: int) -> list[Any]:
        return [Words(pipe.get()) for _ in range(operations)]

    take = _one_by_one(messages.program[name].pop)
    try:
        yield Sides(
            ours=bursts(messages, messages.in_bpf(produce), _taking(take), "consume"),
            peer=bursts(messages, put, _taking(get), "consume", most=_PIPE_HOLDS),
            most=1 << 16,
        )
    finally:
        pipe.close()


@contextmanager
def open_give(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Send from Python what BPF then takes."""
    messages: Messages = shared(cell, workshop)
    consume, name = GIVERS[cell.name]
    ours: Any = messages.program[name]
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    libbpf = ffi.dlopen("libbpf.so.1")
    ring = _opened(ffi, libbpf, "user_ring_buffer", messages.fds["user_ringbuf"], ffi.NULL)
    reserve, submit = libbpf.user_ring_buffer__reserve, libbpf.user_ring_buffer__submit
    move, null, pack = ffi.memmove, ffi.NULL, CODEC.pack
    records = name != "in"

    def make(operations: int) -> list[Any]:
        made = [Words([number] * 8) for number in range(operations)]
        return made if records else [pack(one) for one in made]

    def give_ours(made: list[Any]) -> None:
        push = ours.push
        for one in made:
            push(one)

    def give_peer(made: list[Any]) -> None:
        for one in made:
            place = reserve(ring, SIZE)
            if place == null:
                raise ArenadsError("the user ring buffer is full")
            move(place, pack(one) if records else one, SIZE)
            submit(ring, place)

    give = ours.push_many if cell.name.endswith("push_many") else give_ours
    yield Sides(
        ours=bursts(messages, _giving(make, give), messages.in_bpf(consume), "produce"),
        peer=bursts(
            messages,
            _giving(make, give_peer),
            messages.in_bpf("user_ringbuf_consume"),
            "produce",
        ),
        most=1 << 16,
    )


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    needs: frozenset[Need] = frozenset({"kernel", "host compiler"})
    for names, peer, opener in (
        (TAKERS, "ring buffer, cffi callback", open_take),
        (GIVERS, "user ring buffer, cffi", open_give),
    ):
        for name in names:
            yield Cell(
                name=name,
                peer=peer,
                open=opener,
                value_size=SIZE,
                needs=needs,
                quick=name == "python.ring.drain",
            )
    yield Cell(
        name="python.mpmc.pop",
        peer="multiprocessing.SimpleQueue",
        open=open_pipe,
        value_size=SIZE,
        needs=needs,
    )
