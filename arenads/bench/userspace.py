"""Runs the benchmark's loops in user space: C functions that take a target and a run.

See loops.h for the other side.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from arenads._core import ffi
from arenads.arena import Arena
from arenads.bench.cell import Side
from arenads.bench.loops import Done, expect_equal, on_each
from arenads.bench.measure import allowed_cpus
from arenads.errors import ArenadsError

__all__ = ["Functions", "Neighbour"]

# A million operations a second: what bpf() can keep up with.
_NEIGHBOUR_INTERVAL_NS = 1000
_STOP = 0xFFFF_FFFF


class _Target(ctypes.Structure):
    """struct bench_target."""

    _fields_ = (
        ("arena", ctypes.c_void_p),
        ("mapped", ctypes.c_void_p),
        ("structure", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("places", ctypes.c_uint64 * 96),
    )


class _Run(ctypes.Structure):
    """struct bench_run."""

    _fields_ = (
        ("operations", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
        ("sum", ctypes.c_uint64),
        ("order", ctypes.c_void_p),
        ("length", ctypes.c_uint32),
        ("position", ctypes.c_uint32),
        ("portion", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("start", ctypes.c_uint64),
    )


class Functions:
    """The loops of one library over a structure, its peer, and one order.

    Parameters
    ----------
    library : ctypes.CDLL
        Of `Workshop.library`.
    arena : Arena
    structure : int
        Offset of ours.
    fd : int
        The peer's descriptor.
    numbers : array of int
        What loops make keys of, in their order.
    mapped : int
        Address of the peer's elements, if it is mapped.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        arena: Arena,
        structure: int,
        fd: int,
        numbers: array[int],
        *,
        mapped: int = 0,
        portion: int = 1,
    ) -> None:
        self.library = library
        self.portion = portion
        core = int(ffi.cast("uintptr_t", arena._open()))
        self.target = _Target(arena=core, mapped=mapped, structure=structure, fd=fd)
        self._numbers = numbers  # has to stay
        self._positions: dict[str, int] = {}

    def side(self, name: str, track: str) -> Side:
        """Return a side that calls the function `name`; see `Loops.side`."""
        return lambda operations: int(self.call(name, operations, track).nanoseconds)

    def do(self, name: str, operations: int, track: str) -> int:
        """Do so many operations; the sum of what was found."""
        return int(self.call(name, operations, track).sum)

    def check(self, operation: str, operations: int, *prefixes: str) -> None:
        """Raise if PREFIX_operation does not find the same for each prefix."""
        sums = []
        for prefix in prefixes:
            self._positions["check"] = 0
            sums.append(self.do(f"{prefix}_{operation}", operations, "check"))
        for found in sums[1:]:
            expect_equal(operation, sums[0], found)

    def new_run(self) -> Any:
        """Return a run that begins at the beginning."""
        address, length = self._numbers.buffer_info()
        return _Run(order=address, length=length, portion=self.portion)

    def call_together(self, name: str, operations: int) -> list[Done]:
        """Call the function `name` in a thread on each of two CPUs, at the same time."""

        def work(cpu: int, start: int) -> Done:
            run = self.call(name, operations, f"{name} {cpu}", start)
            return Done(int(run.start), int(run.nanoseconds), int(run.sum))

        return on_each(allowed_cpus()[-2:], work)

    def call(self, name: str, operations: int, track: str, start: int = 0) -> Any:
        """Call the function `name`, which waits for `start`; its run, as the function left it."""
        run = self.new_run()
        run.operations = operations
        run.start = start
        run.position = self._positions.get(track, 0)
        code = getattr(self.library, name)(ctypes.byref(self.target), ctypes.byref(run))
        if code:
            raise ArenadsError(f"{name} ended with {code} ({os.strerror(-code)})", errno=-code)
        self._positions[track] = run.position
        return run


class _Shared(ctypes.Structure):
    """struct bench_neighbour."""

    _fields_ = (
        ("wanted", ctypes.c_uint32),
        ("apart", ctypes.c_uint32 * 15),
        ("doing", ctypes.c_uint32),
        ("odd", ctypes.c_uint32),
        ("done", ctypes.c_uint64),
    )


class Neighbour:
    """A thread in C, on a CPU of its own, that works on the same structure while sides run."""

    def __init__(self, functions: Functions, cpu: int) -> None:
        # Its members have cache lines of their own: C wants it where one begins, ctypes may not.
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._shared = _Shared.from_buffer(self._memory)
        self._functions = functions
        self._run = functions.new_run()
        self._thread = threading.Thread(target=self._work, args=(cpu,), daemon=True)
        self._thread.start()

    def _work(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        self._functions.library.accompany(
            ctypes.byref(self._shared),
            ctypes.byref(self._functions.target),
            ctypes.byref(self._run),
            ctypes.c_uint64(_NEIGHBOUR_INTERVAL_NS),
        )

    def beside(self, side: Side, number: int) -> Side:
        """Return a side during which the neighbour does its function `number`."""

        def run(operations: int) -> int:
            with self._doing(1 + number):
                return side(operations)

        return run

    @contextmanager
    def _doing(self, wanted: int) -> Iterator[None]:
        self._shared.wanted = wanted
        while self._shared.doing != wanted:
            if not self._thread.is_alive():
                raise ArenadsError("the thread that was to work beside a program has ended")
            time.sleep(0.0001)
        try:
            yield
        finally:
            self._shared.wanted = 0

    def close(self) -> None:
        """End the thread."""
        self._shared.wanted = _STOP
        self._thread.join()
