"""Bulk verbs with NumPy arrays, and snapshots as Arrow data, against the quickest there is besides.

Run with `pytest tests/bench -n0 -s`. Both sides run in turn on one pinned CPU; what is printed is
the median of each and their ratio. Time is that of this thread, the kernel's included, so that what
else runs on the machine counts less. Nothing here fails because something took long.

BPF_MAP_LOOKUP_BATCH takes no keys: it walks the whole map, in one call here, its best case. To get
the values of given keys by it, NumPy sorts what it gave.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy
import pytest

import arenads
from arenads import u64
from arenads.libbpf import create_map

HASH = 1  # BPF_MAP_TYPE_HASH
SYS_BPF = 321  # x86-64
LOOKUP_BATCH, UPDATE_BATCH = 24, 26
ROUNDS = 7
FEWEST = 100_000  # operations that are timed at once

pytestmark = pytest.mark.kernel


class Batch(ctypes.Structure):
    """The part of union bpf_attr that the batch commands use."""

    _fields_ = (
        ("in_batch", ctypes.c_uint64),
        ("out_batch", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("values", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("fd", ctypes.c_uint32),
        ("elem_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def batch(command: int, attr: Batch) -> int:
    """Run a batch command; 0, or the error's number."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = libc.syscall(SYS_BPF, command, ctypes.byref(attr), ctypes.sizeof(attr))
    return ctypes.get_errno() if code else 0


def fill(fd: int, keys: Any) -> None:
    """Store each key, under itself."""
    attr = Batch(keys=keys.ctypes.data, values=keys.ctypes.data, count=len(keys), fd=fd)
    code = batch(UPDATE_BATCH, attr)
    assert not code, os.strerror(code)


def everything(fd: int, entries: int) -> tuple[Any, Any]:
    """All keys and values of a kernel map of 8-byte ones."""
    keys, values = numpy.empty(entries, "u8"), numpy.empty(entries, "u8")
    position = ctypes.create_string_buffer(8)
    attr = Batch(out_batch=ctypes.addressof(position), fd=fd)
    done = code = 0
    while done < entries and not code:
        attr.keys, attr.values = keys[done:].ctypes.data, values[done:].ctypes.data
        attr.count = entries - done
        code = batch(LOOKUP_BATCH, attr)
        done += attr.count
        attr.in_batch = attr.out_batch
    assert done == entries, os.strerror(code)
    return keys, values


def timed(what: Callable[[], object], count: int) -> Callable[[], float]:
    """Nanoseconds of this thread's processor time an entry, over so many entries or more."""
    repeats = max(1, FEWEST // count)

    def run() -> float:
        start = time.thread_time_ns()
        for _ in range(repeats):
            what()
        return (time.thread_time_ns() - start) / count / repeats

    return run


def compare(name: str, ours: Callable[[], float], peer: Callable[[], float]) -> None:
    """Run both in turn and print nanoseconds an entry and the ratio."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        pairs = [(ours(), peer()) for _ in range(ROUNDS)]
    finally:
        os.sched_setaffinity(0, before)
    mine = statistics.median(first for first, _ in pairs)
    theirs = statistics.median(second for _, second in pairs)
    ratios = sorted(second / first for first, second in pairs)
    print(
        f"\n{name:40} ours {mine:8.1f} ns  peer {theirs:8.1f} ns  ratio"
        f" {theirs / mine:6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        end="",
    )


@pytest.fixture(scope="module", params=[10_000, 1_000_000])
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int, Any]]:
    """Both maps with the same entries: ours, the peer's descriptor, and the keys, shuffled."""
    entries: int = request.param
    keys = numpy.random.default_rng(1).permutation(numpy.arange(entries, dtype="u8"))
    with (
        create_map(HASH, 8, 8, entries, name="bench") as peer,
        arenads.create("512MiB", engine="kernel", populate="128MiB") as arena,
    ):
        ours = arena.hashmap(
            "map", key=u64, value=u64, max_entries=entries, initial_entries=entries
        )
        ours.update_many(keys, keys)
        fill(peer.fd, keys)
        yield ours, peer.fd, keys


def test_get_many(filled: tuple[Any, int, Any]) -> None:
    ours, fd, keys = filled
    entries = len(keys)

    def picked() -> Any:
        found, values = everything(fd, entries)
        order = numpy.argsort(found)
        return values[order[numpy.searchsorted(found, keys, sorter=order)]]

    assert numpy.array_equal(ours.get_many(keys)[0], picked())
    for what, peer in (("sorted", picked), ("alone", lambda: everything(fd, entries))):
        compare(
            f"python.hashmap.get_many {entries}, a batch {what}",
            timed(lambda: ours.get_many(keys), entries),
            timed(peer, entries),
        )


class Record(msgspec.Struct):
    first: u64
    second: u64
    third: u64


def test_arrow_export_of_a_million_records() -> None:
    """Against a copy of the same 32 MB; the goal is twice its time and 20 ms."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    entries = 1_000_000
    with arenads.create("512MiB", engine="kernel", populate="256MiB") as arena:
        records = arena.hashmap("records", key=u64, value=Record, max_entries=entries)
        keys = numpy.arange(entries, dtype="u8")
        values = numpy.zeros(entries, "u8,u8,u8")
        values.dtype.names = ("first", "second", "third")
        records.update_many(keys, values)
        taken = records.snapshot()
        assert taken.nbytes == 32 * entries
        source = numpy.frombuffer(taken.array, "u1")
        compare(
            "python.snapshot.arrow 32 MB, memcpy as peer",
            timed(lambda: pyarrow.table(taken), entries),
            timed(source.copy, entries),
        )
        compare(
            "python.snapshot and arrow, memcpy as peer",
            timed(lambda: pyarrow.table(records.snapshot()), entries),
            timed(source.copy, entries),
        )
