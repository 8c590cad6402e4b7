"""The native engine's side of a program: the same source, compiled for the host."""

from __future__ import annotations

import ctypes
import itertools
import os
from pathlib import Path
from typing import Any

from arenads._core import ffi
from arenads.errors import ObjectError

__all__ = ["NativeObject"]

_loads = itertools.count(1)


class NativeObject:
    """A program object compiled for this machine, loaded into this process.

    Loading runs the code in it with this process's rights, as importing a module does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A private copy: the dynamic loader would hand out the same variables for the same file
        # twice, and two loads may have two arenas.
        copy = os.memfd_create(path.name, os.MFD_CLOEXEC)
        try:
            try:
                with open(path, "rb") as file, open(copy, "wb", closefd=False) as to:
                    to.write(file.read())
            except OSError as error:
                raise ObjectError(
                    f"{path}: expected a program compiled with engine='native', found"
                    f" {error.strerror}",
                    errno=error.errno,
                    path=str(path),
                ) from None
            try:
                # The loader knows libraries by name too, and descriptors are used again.
                turns = "".join("/." if bit == "1" else "/" for bit in f"{next(_loads):b}")
                name = f"/proc/self/fd{turns}/{copy}"
                self._library = ctypes.CDLL(name)
            except OSError as error:
                reason = str(error).replace(name, str(path))
                raise ObjectError(
                    f"{path}: expected a program compiled with engine='native' for this machine,"
                    f" found {reason}",
                    path=str(path),
                ) from None
        finally:
            os.close(copy)

    def address(self, name: str) -> int:
        """Return the address of a variable or function."""
        try:
            symbol = ctypes.c_char.in_dll(self._library, name)
        except ValueError:
            raise ObjectError(
                f"{self.path} has no symbol {name!r}; compile it anew from its source",
                path=str(self.path),
            ) from None
        return ctypes.addressof(symbol)

    def bind(self, arena: Any, handles: dict[str, list[tuple[int, bytes]]]) -> None:
        """Set the program's arena, and its structures: name -> what to write at which offsets."""
        view = ffi.cast("struct ads_arena *", self.address("arena"))
        view[0] = arena[0]
        for name, places in handles.items():
            for at, value in places:
                ffi.memmove(ffi.cast("char *", self.address(name) + at), value, len(value))

    def unbind(self) -> None:
        """Leave the program with an arena of no bytes: whatever it does is an error then."""
        view = ffi.cast("struct ads_arena *", self.address("arena"))
        view.limit = view.size = 0

    def function(self, name: str) -> Any:
        """Return an entry point, callable with a pointer to its context."""
        return ffi.cast("int (*)(void *)", self.address(name))
