"""Run a child without any capability, as most users are, also when the tests run as root."""

from __future__ import annotations

import ctypes
import struct

__all__ = ["drop_capabilities"]

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION = 0x20080522

# Found before the fork: a child of a process with threads should do little.
_libc = ctypes.CDLL(None)


def drop_capabilities() -> None:
    """For `preexec_fn`: the program that is run next has no capability and cannot get one."""
    for number in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused to who has none anyway
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _libc.capset(struct.pack("Ii", _VERSION, 0), bytes(24))
