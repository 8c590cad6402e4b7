"""The checker of recorded histories, history.c, for the tests that need it."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Any

import numpy

from arenads import compiler

SOURCE = Path(__file__).with_name("history.c")
OK, ABSENT, LINKED, EXISTS, FULL, TOO_LONG = 0, -2, -16, -17, -28, -90
REGISTER, SORTED, QUEUE, FIFO, CELL, NODES, RING, OVERWRITING = range(8)
ACCEPTED, REFUSED, MALFORMED = 0, 1, -1

EVENT = numpy.dtype(
    [
        ("invoked", "u8"),
        ("returned", "u8"),
        ("operation", "u2"),
        ("list", "u2"),
        ("code", "i4"),
        ("key", "u8"),
        ("in", "u8"),
        ("out", "u8"),
    ]
)


class Report(ctypes.Structure):
    """What the checker found; see struct report."""

    _fields_ = (
        ("operations", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("concurrent", ctypes.c_uint64),
        ("overlaps", ctypes.c_uint64),
        ("handovers", ctypes.c_uint64),
        ("open", ctypes.c_uint64),
        ("configurations", ctypes.c_uint64),
        ("full", ctypes.c_uint64),
        ("present", ctypes.c_uint64),
        ("problem", ctypes.c_char * 4096),
    )


class Checker:
    """history.c, compiled."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.history_operation_name.restype = ctypes.c_char_p
        names = itertools.takewhile(
            bool, (self.library.history_operation_name(number) for number in range(256))
        )
        self.operations: dict[str, int] = {
            name.decode(): number for number, name in enumerate(names)
        }

    def check(
        self, model: int, logs: list[numpy.ndarray[Any, Any]], capacity: int = 0
    ) -> tuple[int, Report]:
        report = Report()
        count = len(logs)
        addresses = (ctypes.c_void_p * count)(*(log.ctypes.data for log in logs))
        counts = (ctypes.c_uint64 * count)(*map(len, logs))
        verdict = self.library.history_check(
            model, count, addresses, counts, ctypes.c_uint64(capacity), ctypes.byref(report)
        )
        return verdict, report


def build_checker(directory: Path) -> Checker:
    """Compile history.c."""
    return Checker(
        compiler.compile_shared(SOURCE, directory / "history.so", flags=["-O2", "-Werror"])
    )
