"""Bulk verbs and snapshots against the system-call interface and its batch operations.

Both sides in one run; see test_lookup.py. Time is that of the processor, the kernel's included, so
that what else runs on the machine counts less. What the kernel map gives is decoded to the same
arrays or objects. BPF_MAP_LOOKUP_BATCH takes no keys: it walks the whole map, in one call here,
its best case. To get the values of given keys by it, NumPy sorts what it gave; or each key
costs a call.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy
import pytest
from test_lookup import compare, filled, kernel_map

import arenads
from arenads import u64
from arenads.program import Program

__all__ = ["filled"]

SYS_BPF = 321  # x86-64
LOOKUP_BATCH = 24
SAMPLE = 20_000

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


def everything(fd: int, entries: int) -> tuple[Any, Any]:
    """All keys and values of a kernel map of 8-byte ones."""
    libc = ctypes.CDLL(None, use_errno=True)
    keys, values = numpy.empty(entries, "u8"), numpy.empty(entries, "u8")
    position = ctypes.create_string_buffer(8)
    attr = Batch(out_batch=ctypes.addressof(position), fd=fd)
    done = 0
    while done < entries:
        attr.keys, attr.values = keys[done:].ctypes.data, values[done:].ctypes.data
        attr.count = entries - done
        code = libc.syscall(SYS_BPF, LOOKUP_BATCH, ctypes.byref(attr), ctypes.sizeof(attr))
        done += attr.count
        if code:
            break
        attr.in_batch = attr.out_batch
    assert done == entries, os.strerror(ctypes.get_errno())
    return keys, values


def timed(what: Callable[[], Any], count: int) -> Callable[[], float]:
    """Nanoseconds of this thread's processor time an entry, over 100 000 of them or more."""
    repeats = max(1, 100_000 // count)

    def run() -> float:
        start = time.thread_time_ns()
        for _ in range(repeats):
            what()
        return (time.thread_time_ns() - start) / count / repeats

    return run


def test_single_get_and_put(filled: tuple[Program, int]) -> None:
    program, entries = filled
    ours: Any = program["map"]
    word = struct.Struct("<Q")
    keys = [index * 7919 % entries for index in range(SAMPLE)]

    def each(act: Callable[[int], Any]) -> Callable[[], float]:
        def run() -> None:
            for key in keys:
                act(key)

        return timed(run, len(keys))

    with kernel_map(program) as theirs:
        assert ours[keys[0]] == keys[0]  # the first use of a map makes its methods
        compare(
            f"python.hashmap.get {entries}",
            each(ours.__getitem__),
            each(lambda key: word.unpack(theirs.lookup(word.pack(key)))[0]),  # type: ignore[arg-type]
        )
        compare(
            f"python.hashmap.put {entries}",
            each(lambda key: ours.__setitem__(key, key)),
            each(lambda key: theirs.update(word.pack(key), word.pack(key))),
        )


def test_get_many(filled: tuple[Program, int]) -> None:
    program, entries = filled
    ours: Any = program["map"]
    keys = numpy.random.default_rng(1).permutation(numpy.arange(entries, dtype="u8"))
    with kernel_map(program) as theirs:

        def picked() -> Any:
            found, values = everything(theirs.fd, entries)
            order = numpy.argsort(found)
            return values[order[numpy.searchsorted(found, keys, sorter=order)]]

        def listed() -> list[int]:
            return [
                struct.unpack("<Q", theirs.lookup(struct.pack("<Q", key)) or b"")[0] for key in few
            ]

        few = keys[:SAMPLE].tolist()
        assert numpy.array_equal(ours.get_many(keys)[0], picked())
        compare(
            f"python.hashmap.get_many {entries}, a batch sorted",
            timed(lambda: ours.get_many(keys), entries),
            timed(picked, entries),
        )
        compare(
            f"python.hashmap.get_many {entries}, a batch alone",
            timed(lambda: ours.get_many(keys), entries),
            timed(lambda: everything(theirs.fd, entries), entries),
        )
        compare(
            f"python.hashmap.get_many {entries}, call by call",
            timed(lambda: ours.get_many(few), len(few)),
            timed(listed, len(few)),
        )


def test_snapshot(filled: tuple[Program, int]) -> None:
    program, entries = filled
    ours: Any = program["map"]
    with kernel_map(program) as theirs:
        assert numpy.array_equal(
            numpy.sort(ours.snapshot().array["key"]), numpy.sort(everything(theirs.fd, entries)[0])
        )
        compare(
            f"python.hashmap.snapshot {entries}, arrays",
            timed(lambda: ours.snapshot().array, entries),
            timed(lambda: everything(theirs.fd, entries), entries),
        )

        def objects() -> list[tuple[int, int]]:
            keys, values = everything(theirs.fd, entries)
            return list(zip(keys.tolist(), values.tolist(), strict=True))

        compare(
            f"python.hashmap.snapshot {entries}, objects",
            timed(lambda: list(ours.snapshot()), entries),
            timed(objects, entries),
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
