"""The floor of C's cells: GLib's hash table, which one process has for itself; see floor.c."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["table", "why_not"]

_LIBRARY = "libglib-2.0.so.0"


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
