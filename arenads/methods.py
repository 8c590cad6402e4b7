"""Functions of the C core that take and give Python objects, which those that cffi calls cannot.

>>> text(b"name" + bytes(4))
'name'
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from ._core import ffi, lib

__all__ = ["joined", "records_of", "text"]

_new_function: Any = ctypes.pythonapi.PyCFunction_NewEx
_new_function.restype = ctypes.py_object
_new_function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]


def _made(method: Any) -> Any:
    return _new_function(int(ffi.cast("uintptr_t", method)), None, None)


# Text of the bytes before the first NUL, in one call: partition() and decode() take twice as long.
text: Final[Callable[[bytes], str]] = _made(lib.core_text_method())
# `joined(records)`: (32-bit size of each, all in a row, size of the longest); None unless they are
# all bytes.
joined: Final[Callable[[list[Any]], tuple[bytes, bytes, int] | None]] = _made(
    lib.core_joined_method()
)
_records: Final[Callable[[int, int, int], list[bytes]]] = _made(lib.core_records_method())


def records_of(memory: Any, count: int) -> list[bytes]:
    """Return so many records that `core_ring_drain` left in a C array of bytes."""
    return _records(int(ffi.cast("uintptr_t", memory)), ffi.sizeof(memory), count)
