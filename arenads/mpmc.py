"""The MPMC queue of an arena: records in order, from any producers to any consumers."""

from __future__ import annotations

from typing import TypeVar

from arenads._core import lib
from arenads.queue import Fifo
from arenads.structure import Checkable

__all__ = ["MpmcQueue"]

V = TypeVar("V")


class MpmcQueue(Fifo[V], Checkable[V]):
    """A ring of records with any number of producers and consumers, in BPF and in user space.

    Nobody waits for anybody: a producer or consumer that is stopped or killed anywhere keeps
    nobody else from pushing and popping. One that is killed may take with it the room for one
    record; `check(repair=True)` gives it back. Records come out in the order in which they went
    in, each once.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     jobs = arena.mpmc("jobs", value=arenads.u32, max_entries=4)
    ...     jobs.push(1)
    ...     jobs.push_many([2, 3])
    ...     jobs.pop(), jobs.drain(), jobs.pop()
    2
    (1, [2, 3], None)
    """

    kind = lib.ADS_KIND_MPMC
    kind_name = "MPMC queue"
