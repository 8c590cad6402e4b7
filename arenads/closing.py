"""Closing an arena while other threads are using it, and giving its addresses back.

A call of the C core runs without the GIL, so an arena may be closed in the middle of one. Its
memory is replaced by zeros in one step then, at the same addresses, which stay taken as long as
somebody could be in a call: until every thread has been seen elsewhere, which is mostly at once,
or until the `Arena` is collected, since a caller holds references to it.

A thread has been seen elsewhere when it waits in a system call that the C core never makes, such
as for the GIL. Who looks at it sees that in /proc; the threads themselves do nothing for it.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from arenads._core import ffi, lib
from arenads.errors import BaseTakenError

if TYPE_CHECKING:
    from arenads.arena import Arena

__all__ = ["Loan", "release", "retire", "vacate"]

# poll, select, nanosleep, accept, send, receive, wait for children and signals, futex,
# epoll_wait, clock_nanosleep, waitid, pselect6, ppoll, epoll_pwait; by architecture
_WAITS: Final = {
    "x86_64": frozenset(
        (7, 23, 35, 43, 44, 45, 46, 47, 61, 128, 202, 230, 232, 247, 270, 271, 281)
    ),
    "aarch64": frozenset({22, 72, 73, 95, 98, 101, 115, 137, 202, 206, 207, 211, 212, 260}),
}.get(platform.machine(), frozenset[int]())

_READ: Final = {"x86_64": 0, "aarch64": 63}.get(platform.machine(), -1)

_TASKS: Final = "/proc/self/task"

_MOMENT = 0.05  # for operations that are on their way when an arena is closed
_PATIENCE = 5.0  # for those still on their way when its addresses are wanted again

# Retired arenas whose addresses are still taken, by base. A finalizer may come in at any time.
_retired: dict[int, Any] = {}
_lock = threading.RLock()


def _elsewhere(thread: str) -> bool:
    """Whether a thread waits in a system call that the C core does not make, or has ended."""
    try:
        with open(f"{_TASKS}/{thread}/syscall", "rb") as file:
            number, first, *_ = [*file.read().split(), b"", b""]
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ESRCH)
    if not number.isdigit():  # "running", or -1 in a page fault
        return False
    if int(number) != _READ:
        return int(number) in _WAITS
    try:  # the C core reads files of /proc
        return not stat.S_ISREG(os.fstat(int(first, 16)).st_mode)
    except OSError:
        return False


def _threads() -> set[str] | None:
    """Return the threads of this process; None if the listing may lack some.

    One that ends while the kernel lists it ends the listing. So as many of them must be there
    after they were counted as were counted.
    """
    listed = set(os.listdir(_TASKS))
    count = os.stat(_TASKS).st_nlink - 2
    return listed if sum(os.path.exists(f"{_TASKS}/{one}") for one in listed) == count else None


def _wait_for_others(seconds: float) -> bool:
    """Wait until each other thread was seen outside of the C core; whether all of them were."""
    end = time.monotonic() + seconds
    inside: set[str] | None = None
    while True:
        try:
            if inside is None:
                inside = _threads()
        except OSError:
            return False
        if inside is not None:
            inside -= {str(threading.get_native_id())}
            inside = {thread for thread in inside if not _elsewhere(thread)}
            if not inside:
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.0005)  # others run meanwhile


class Loan:
    """Keeps addresses of an arena that are used without a call of the C core."""

    __slots__ = ("__weakref__", "arena")

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        arena._loans.add(self)

    def give_up(self) -> None:
        """Let go of what others wait for, before the arena is closed."""


def retire(core: Any, loans: weakref.WeakSet[Loan]) -> None:
    """Close an arena, whoever is in the middle of an operation on it."""
    lib.ads_arena_mark_closed(core)  # who begins an operation from here on is told
    alone = _wait_for_others(_MOMENT)
    with _lock:
        _retired[int(ffi.cast("uintptr_t", core.base))] = core
        lib.ads_arena_retire(core)
    if alone and not loans:
        release(core)


def release(core: Any) -> None:
    """Give the addresses of a closed arena back. Nobody may be in an operation on it."""
    with _lock:
        base = int(ffi.cast("uintptr_t", core.base))
        if base and _retired.get(base) is core:
            del _retired[base]
            lib.ads_arena_release(core)


def vacate(base: int) -> None:
    """Make the addresses free that an arena closed before still takes.

    Raises
    ------
    BaseTakenError
        A thread has been in one operation all the time.
    """
    core = _retired.get(base)
    if core is None:
        return
    if not _wait_for_others(_PATIENCE):
        raise BaseTakenError(
            f"the addresses from {base:#x} on are those of an arena that was closed while a thread"
            " was using it, and that thread has not been seen to wait since: let it end or wait,"
            " then try again",
            base=base,
        )
    release(core)
