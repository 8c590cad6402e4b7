"""Messages in C and BPF: rings and queues of an arena against the kernel's buffers.

`arenads.bench.messages` says how costs are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from arenads.bench.cell import Cell, Need, Sides
from arenads.bench.loops import Done
from arenads.bench.messages import SIZES, Messages, Part, bursts, shared
from arenads.bench.workshop import Workshop
from arenads.errors import ArenadsError

__all__ = ["cells"]

SILENT, WAKING, PERF = "ring buffer, no wake-ups", "ring buffer", "perf buffer"
USER = "user ring buffer"
FLOOR = "floor: plain memory"


class Way(NamedTuple):
    """How messages go: the loops at both ends, and those of a consumer beside the producer."""

    produce: str
    consume: str
    structure: str = "out"
    stream: str = ""
    nap: str = ""
    spin: str = ""


RING = Way("ring_reserve_submit", "ring", "out", "ring_stream", "ring_nap", "ring_spin")
RINGS = Way("rings_reserve_submit", "rings", "many", "rings_stream", "rings_nap", "rings_spin")
OUT = {
    "ring.reserve_submit": RING,
    "ring.reserve_commit": RING._replace(produce="ring_reserve_commit"),
    "ring.push": RING._replace(produce="ring_push"),
    "queue.spsc_push": Way(
        "queue_spsc_push", "queue", "fixed", "queue_stream", "queue_nap", "queue_spin"
    ),
    "mpmc.push": Way("mpmc_push", "mpmc", "shared", "mpmc_stream", "mpmc_nap", "mpmc_spin"),
    "rings.reserve_submit": RINGS,
    "rings.push": RINGS._replace(produce="rings_push"),
}
"""By what is called to produce; the structure is the beginning."""

OUT_PEERS = {
    SILENT: Way(
        "ringbuf_silent",
        "ringbuf",
        stream="ringbuf_silent_stream",
        nap="ringbuf_silent_nap",
        spin="ringbuf_silent_spin",
    ),
    WAKING: Way(
        "ringbuf_waking",
        "ringbuf",
        stream="ringbuf_waking_stream",
        nap="ringbuf_waking_wait",
        spin="ringbuf_waking_wait",
    ),
    PERF: Way("perf_output", "perf", stream="perf_stream", nap="perf_wait", spin="perf_wait"),
}

_FLOOR = Way("plain_fill", "plain", "plain")
_FLOORED = ("ring.reserve_submit", "ring.consume")

DISCARD = "ring.reserve_discard"
"""Who reserves does not want the record after all: nothing arrives."""

_DISCARDED = {SILENT: "ringbuf_discard_silent", WAKING: "ringbuf_discard_waking"}

# Two CPUs can produce to these: a ring for each CPU, one for both, or rings that either may take.
_SHARED = {
    "ring.reserve_submit": "two_rings_reserve_submit",
    "mpmc.push": "mpmc_push",
    "rings.reserve_submit": "rings_reserve_submit",
    "rings.push": "rings_push",
}

_QUICK = ("ring.reserve_submit", "queue.spsc_push", "mpmc.push", "rings.reserve_submit")

IN = {
    "ring.consume": ("ring_reserve_submit", "ring_consume", "in"),
    "ring.pop": ("ring_push", "ring_pop", "in"),
    "queue.spsc_pop": ("queue_spsc_push", "queue_spsc_pop", "fixed"),
    "mpmc.pop": ("mpmc_push", "mpmc_pop", "shared"),
}
"""By what is called in BPF: the producer in C, the consumer in BPF, and the structure."""

WHOLE = {
    "ring": "ring.reserve_submit",
    "queue": "queue.spsc_push",
    "mpmc": "mpmc.push",
    "rings": "rings.reserve_submit",
}
WHOLE_IN = {"ring": "ring.consume", "queue": "queue.spsc_pop", "mpmc": "mpmc.pop"}


def _emptied(messages: Messages, way: Way, cpus: int = 1) -> Part:
    """Return what consumes a burst out of BPF, of every producer's ring."""
    if way.produce == "ring_reserve_discard":
        return lambda operations: []  # nothing is in the ring
    consume = messages.in_c(f"{way.consume}_consume", way.structure)
    if way.produce == "two_rings_reserve_submit":
        parts = [messages.in_c("ring_consume", name) for name in ("out", "out2")]
        return lambda operations: [part(operations // cpus)[0] for part in parts]
    if way.produce in _DISCARDED.values():

        def passed(operations: int) -> list[Done]:
            with suppress(ArenadsError):  # it walks over all of them, and finds none
                consume(operations)
            return []

        return passed
    if way.produce != "ring_reserve_commit":
        return consume
    publish = messages.program.runner("ring_publish", 56)

    def published(operations: int) -> list[Done]:
        publish(bytes(56))  # what the last batch was too short for
        return consume(operations)

    return published


def _out(messages: Messages, cell: Cell) -> tuple[Way, Way]:
    """Return how messages go out on our side and on the peer's."""
    name = cell.name.partition(".")[2]
    if name == DISCARD:
        peer = OUT_PEERS[cell.peer]._replace(produce=_DISCARDED[cell.peer])
        return RING._replace(produce="ring_reserve_discard"), peer
    return OUT[name], _peer(cell)


def _peer(cell: Cell) -> Way:
    return _FLOOR if cell.peer == FLOOR else OUT_PEERS[cell.peer]


@contextmanager
def open_produce(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in BPF; emptied off the clock."""
    messages, cpus = shared(cell, workshop), cell.cpus
    ours, peer = _out(messages, cell)
    if cpus > 1:
        ours = ours._replace(produce=_SHARED[cell.name.partition(".")[2]])
    sides = [
        bursts(
            messages,
            messages.in_bpf(way.produce, cpus),
            _emptied(messages, way, cpus),
            "produce",
            cpus,
        )
        for way in (ours, peer)
    ]
    empty = messages.in_bpf("empty", cpus)
    yield Sides(
        ours=sides[0],
        peer=sides[1],
        empty=lambda operations: sum(done.nanoseconds for done in empty(operations)) // cpus,
        most=1 << 20,
    )


@contextmanager
def open_overwrite(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in BPF to a full ring that overwrites; the peer, which cannot, is emptied."""
    messages = shared(cell, workshop)
    peer = OUT_PEERS[cell.peer]
    ours, empty = messages.in_bpf("ring_overwrite"), messages.in_bpf("empty")
    yield Sides(
        ours=lambda operations: ours(operations)[0].nanoseconds,
        peer=bursts(messages, messages.in_bpf(peer.produce), _emptied(messages, peer), "produce"),
        empty=lambda operations: empty(operations)[0].nanoseconds,
        most=1 << 20,
    )


@contextmanager
def open_consume(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Consume in C what was produced in BPF off the clock."""
    messages = shared(cell, workshop)
    ours = {
        "c.ring.consume": RING,
        "c.ring.pop": RING._replace(consume="ring_pop"),
        "c.queue.spsc_pop": OUT["queue.spsc_push"],
        "c.mpmc.pop": OUT["mpmc.push"],
    }[cell.name]
    yield _both_sides(messages, ours, _peer(cell), "consume")


@contextmanager
def open_out(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in BPF, on so many CPUs, and consume in C, in turn."""
    messages = shared(cell, workshop)
    which = WHOLE[cell.name.split(".")[1]]
    ours = OUT[which]
    if cell.cpus > 1:
        ours = ours._replace(produce=_SHARED[which])
    yield _both_sides(messages, ours, _peer(cell), "both", cell.cpus)


def _both_sides(messages: Messages, ours: Way, peer: Way, counted: str, cpus: int = 1) -> Sides:
    sides = [
        bursts(
            messages,
            messages.in_bpf(way.produce, cpus),
            _emptied(messages, way, cpus),
            "both" if counted == "both" else "consume",
            cpus,
        )
        for way in (ours, peer)
    ]
    return Sides(ours=sides[0], peer=sides[1], most=1 << 20)


@contextmanager
def open_paced(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in BPF in bursts, beside a consumer in C."""
    messages = shared(cell, workshop)
    ways = OUT[WHOLE[cell.name.split(".")[1]]], OUT_PEERS[cell.peer]
    ours, peer = (messages.paced(way.stream, way.nap, way.structure, cell.cpus) for way in ways)
    yield Sides(ours=ours, peer=peer, step=messages.burst // 4, most=1 << 20)


@contextmanager
def open_flow(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in BPF as fast as a consumer in C lets us."""
    messages = shared(cell, workshop)
    ways = OUT[WHOLE[cell.name.split(".")[1]]], OUT_PEERS[cell.peer]
    ours, peer = (messages.flow(way.stream, way.spin, way.structure, cell.cpus) for way in ways)
    # At least so many that how the ring is when both begin does not matter.
    yield Sides(ours=ours, peer=peer, step=8 * messages.burst, most=1 << 20)


@contextmanager
def open_in(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Produce in C and consume in BPF: one of both is counted, or both."""
    messages = shared(cell, workshop)
    place, structure, operation = cell.name.split(".")
    if operation == "in":
        which = WHOLE_IN[structure]
    else:
        which = f"{structure}.{operation}"
    if place == "c":
        which = _C_PRODUCERS[which]
    produce, consume, where = IN[which]
    counted = "both" if operation == "in" else "produce" if place == "c" else "consume"
    submit = "user_ringbuf_submit" if cell.cpus == 1 else "user_ringbuf_submit_locked"
    theirs = (submit, "user_ringbuf_consume", where)
    if cell.peer == FLOOR:
        theirs = ("plain_fill", "plain_consume", "plain")
    ours, peer = (
        bursts(
            messages,
            messages.in_c(first, there, cell.cpus),
            messages.in_bpf(second),
            counted,  # type: ignore[arg-type]
            cell.cpus,
        )
        for first, second, there in ((produce, consume, where), theirs)
    )
    empty = messages.in_c("empty", where)
    yield Sides(
        ours=ours,
        peer=peer,
        # A consumer in BPF that takes what there is has no loop over numbers.
        empty=(lambda operations: empty(operations)[0].nanoseconds) if place == "c" else None,
        most=1 << 20,
    )


_C_PRODUCERS = {
    "ring.reserve_submit": "ring.consume",
    "ring.push": "ring.pop",
    "queue.spsc_push": "queue.spsc_pop",
    "mpmc.push": "mpmc.pop",
}


def cells() -> Iterator[Cell]:
    """Yield the cells: those of one size follow each other."""
    for size in SIZES:
        plain = size == 64

        def cell(name: str, peer: str, opener: object, size: int = size, **more: object) -> Cell:
            needs: set[Need] = {"kernel", "host compiler"}
            if size != 64:
                needs.add("bpf compiler")
            return Cell(
                name=name,
                peer=peer,
                open=opener,  # type: ignore[arg-type]
                value_size=size,
                needs=frozenset(needs),
                **more,  # type: ignore[arg-type]
            )

        for operation in OUT:
            for peer in OUT_PEERS:
                yield cell(
                    f"bpf.{operation}",
                    peer,
                    open_produce,
                    quick=plain and peer == SILENT and operation in _QUICK,
                )
                if operation in _SHARED:
                    yield cell(
                        f"bpf.{operation}",
                        peer,
                        open_produce,
                        cpus=2,
                        quick=plain and peer == SILENT and operation in _QUICK,
                    )
        for peer in _DISCARDED:
            yield cell(f"bpf.{DISCARD}", peer, open_produce)
        yield cell("bpf.ring.push_overwriting", SILENT, open_overwrite)
        for operation in ("ring.consume", "ring.pop", "queue.spsc_pop", "mpmc.pop"):
            for peer in (SILENT, PERF):
                quick = plain and peer == SILENT and operation == "ring.consume"
                yield cell(f"c.{operation}", peer, open_consume, quick=quick)
        for structure in WHOLE:
            for peer in OUT_PEERS:
                name = f"bpf.{structure}.out"
                quick = plain and structure == "ring"
                yield cell(name, peer, open_out, quick=quick and peer == SILENT)
                many = WHOLE[structure] in _SHARED
                if many and (plain or peer == SILENT):
                    yield cell(name, peer, open_out, cpus=2, quick=plain and peer == SILENT)
                # With a consumer beside, sizes are varied for one structure only, against the
                # peer that goes about it in the same way: ours looks again, at once or later.
                for way, opener, alike in (
                    ("paced", open_paced, WAKING),
                    ("flow", open_flow, SILENT),
                ):
                    if not plain and (structure, peer) != ("ring", alike):
                        continue
                    beside = cell(
                        f"{name}_{way}",
                        peer,
                        opener,
                        concurrent="consumer",
                        quick=quick and peer == alike,
                    )
                    yield beside
                    # A ring for each CPU would take a consumer of several.
                    if plain and many and structure != "ring" and peer != PERF:
                        yield msgspec.structs.replace(beside, cpus=2)
        for operation in _FLOORED:
            yield cell(
                f"bpf.{operation}",
                FLOOR,
                open_in if operation in IN else open_produce,
                quick=plain,
            )
            yield cell(
                f"c.{operation}",
                FLOOR,
                open_in if operation in _C_PRODUCERS else open_consume,
                quick=plain,
            )
        yield cell("bpf.ring.out", FLOOR, open_out, quick=plain)
        yield cell("bpf.ring.in", FLOOR, open_in, quick=plain)
        for operation in IN:
            quick = plain and operation == "ring.consume"
            yield cell(f"bpf.{operation}", USER, open_in, quick=quick)
        for operation in _C_PRODUCERS:
            quick = plain and operation == "ring.reserve_submit"
            yield cell(f"c.{operation}", USER, open_in, quick=quick)
        yield cell("c.mpmc.push", USER, open_in, cpus=2, quick=plain)
        for structure in WHOLE_IN:
            yield cell(f"bpf.{structure}.in", USER, open_in, quick=plain and structure == "ring")
