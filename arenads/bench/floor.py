"""The floors of C's cells, hash tables that one process has for itself.

GLib's, whose functions are called (floor.c), and khash, which is compiled with the loops (khash.c).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arenads.errors import ArenadsError

__all__ = ["khash", "table", "why_no_khash", "why_not"]

_LIBRARY = "libglib-2.0.so.0"
_HEADER = "htslib/khash.h"


class _Floor(ctypes.Structure):
    """struct floor."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("table", "lookup", "insert", "remove", "slots")
    )


def why_not() -> str:
    """Return why there is no such table here; empty if there is one."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        return f"it needs GLib: {error}"
    return ""


def why_no_khash() -> str:
    """Return why khash cannot be compiled here; empty if it can."""
    places = [*filter(None, os.environ.get("CPATH", "").split(":")), "/usr/local/include"]
    if any(Path(place, _HEADER).is_file() for place in [*places, "/usr/include"]):
        return ""
    return f"it needs {_HEADER}, of HTSlib: apt install libhts-dev, or dnf install htslib-devel"


@contextmanager
def khash(code: ctypes.CDLL, entries: int) -> Iterator[int]:
    """Make a table of khash.c; its address."""
    code.floor_new.restype = ctypes.c_void_p
    made = code.floor_new(ctypes.c_uint32(entries))
    if not made:
        raise ArenadsError(f"no memory for a table of {entries} entries")
    try:
        yield int(made)
    finally:
        code.floor_free(ctypes.c_void_p(made))


@contextmanager
def table(entries: int, key_size: int, value_size: int) -> Iterator[int]:
    """Make a table of 8-byte keys; the address of its struct floor."""
    glib = ctypes.CDLL(_LIBRARY)
    address = {
        name: ctypes.cast(getattr(glib, f"g_{name}"), ctypes.c_void_p)
        for name in (
            "int64_hash",
            "int64_equal",
            "hash_table_lookup",
            "hash_table_insert",
            "hash_table_remove",
        )
    }
    glib.g_hash_table_new.restype = ctypes.c_void_p
    made = glib.g_hash_table_new(address["int64_hash"], address["int64_equal"])
    slots = ctypes.create_string_buffer(entries * (key_size + value_size))
    floor = _Floor(
        table=made,
        slots=ctypes.addressof(slots),
        **{name: address[f"hash_table_{name}"] for name in ("lookup", "insert", "remove")},
    )
    try:
        yield ctypes.addressof(floor)
    finally:
        glib.g_hash_table_destroy(ctypes.c_void_p(made))
