"""Messages in Python: rings and queues of an arena against libbpf's buffers through cffi.

The other side is BPF, off the clock. What is taken becomes bytes, or records of eight words where
the structure is one of records. buffers.c is compiled into a module as our own extension is. The
ring buffer calls back into Python, which appends the same to a list; or into C, which copies all
that waits into one buffer, of which Python then makes the same. What Python sends is one call into
C a message, or one for all where ours is that too.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
typedef int (*ring_buffer_sample_fn)(void *context, char *data, size_t size);
struct copies { char *memory; size_t used, room; };
void *ring_buffer__new(int map_fd, ring_buffer_sample_fn function, void *context, void *options);
void ring_buffer__free(void *ring);
int ring_buffer__consume(void *ring);
void *user_ring_buffer__new(int map_fd, void *options);
void user_ring_buffer__free(void *ring);
int copy_sample(void *context, char *data, size_t size);
uint32_t send_each(void *ring, const char *messages, uint32_t size, uint32_t count);
extern "Python" int call_python(void *context, char *data, size_t size);
"""

CALLBACK, COPIED = "ring buffer, cffi callback", "ring buffer, copied by C"
SENT = "user ring buffer, cffi"

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


def _compiled(workshop: Workshop) -> Any:
    ctypes.CDLL("libbpf.so.1", ctypes.RTLD_GLOBAL)  # where the module finds its functions
    return workshop.extension("buffers", _DECLARATIONS)


def _opened(module: Any, name: str, *arguments: object) -> Any:
    made = getattr(module.lib, f"{name}__new")(*arguments)
    if not made:
        raise ArenadsError(f"libbpf could not make a {name}")
    return module.ffi.gc(made, getattr(module.lib, f"{name}__free"))


def _by_callback(module: Any, fd: int, records: bool) -> Callable[[int], list[Any]]:
    """Return what takes all that waits by a callback in Python."""
    ffi, consume = module.ffi, module.lib.ring_buffer__consume
    taken: list[Any] = []
    append, raw, buffer, unpack = taken.append, ffi.unpack, ffi.buffer, CODEC.unpack

    def sample_bytes(context: Any, data: Any, size: int) -> int:
        append(raw(data, size))
        return 0

    def sample_record(context: Any, data: Any, size: int) -> int:
        append(unpack(buffer(data, size)))
        return 0

    # Until the next cell sets another one.
    sample = sample_record if records else sample_bytes
    ffi.def_extern(name="call_python", error=-1)(sample)
    ring = _opened(module, "ring_buffer", fd, module.lib.call_python, ffi.NULL, ffi.NULL)

    def take(operations: int) -> list[Any]:
        taken.clear()
        consume(ring)
        return taken

    return take


def _by_copies(module: Any, fd: int, room: int, records: bool) -> Callable[[int], list[Any]]:
    """Return what takes all that waits by a callback in C, into one buffer."""
    ffi, consume = module.ffi, module.lib.ring_buffer__consume
    memory = ffi.new("char[]", room)
    copies = ffi.new("struct copies *", {"memory": memory, "room": room})
    function = ffi.addressof(module.lib, "copy_sample")
    ring = _opened(module, "ring_buffer", fd, function, copies, ffi.NULL)
    view = memoryview(ffi.buffer(memory))
    cut, chain = struct.Struct(f"{SIZE}s").iter_unpack, itertools.chain.from_iterable

    def take_bytes(operations: int) -> list[Any]:
        copies.used = 0
        consume(ring)
        return list(chain(cut(view[: copies.used])))

    def take_records(operations: int) -> list[Any]:
        copies.used = 0
        consume(ring)
        return CODEC.unpack_many(view, SIZE, 0, copies.used // SIZE)

    return take_records if records else take_bytes


@contextmanager
def open_take(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Take in Python what BPF has sent."""
    messages: Messages = shared(cell, workshop)
    produce, name = TAKERS[cell.name]
    ours: Any = messages.program[name]
    take = ours.drain if cell.name.endswith("drain") else _one_by_one(ours.pop)
    module, fd = _compiled(workshop), messages.fds["ringbuf"]
    if cell.peer == CALLBACK:
        take_peer = _by_callback(module, fd, name != "out")
    else:
        take_peer = _by_copies(module, fd, messages.burst * SIZE, name != "out")
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
    module = _compiled(workshop)
    ring = _opened(module, "user_ring_buffer", messages.fds["user_ringbuf"], module.ffi.NULL)
    send, pack = module.lib.send_each, CODEC.pack
    records = name != "in"

    def make(operations: int) -> list[Any]:
        made = [Words([number] * 8) for number in range(operations)]
        return made if records else [pack(one) for one in made]

    def give_ours(made: list[Any]) -> None:
        push = ours.push
        for one in made:
            push(one)

    def give_each(made: list[Any]) -> None:
        for one in made:
            if not send(ring, pack(one) if records else one, SIZE, 1):
                raise ArenadsError("the user ring buffer is full")

    def give_all(made: list[Any]) -> None:
        packed = b"".join(map(pack, made) if records else made)
        if send(ring, packed, SIZE, len(made)) != len(made):
            raise ArenadsError("the user ring buffer is full")

    many = cell.name.endswith("push_many")
    give, give_peer = (ours.push_many, give_all) if many else (give_ours, give_each)
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
    needs: frozenset[Need] = frozenset({"kernel", "host compiler", "python headers"})
    drains = [name for name in TAKERS if name.endswith("drain")]
    for names, peer, opener in (
        (TAKERS, CALLBACK, open_take),
        (drains, COPIED, open_take),
        (GIVERS, SENT, open_give),
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
