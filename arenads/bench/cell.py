"""What a cell is: its name, its parameters and its two sides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from arenads.bench.workshop import Workshop

__all__ = ["Amounts", "Cell", "Concurrent", "Distribution", "Need", "Side", "Sides"]

Need = Literal[
    "kernel",
    "bpf compiler",
    "host compiler",
    "python headers",
    "bpf_rbtree",
    "glib",
    "khash",
    "lmdb",
    "numpy",
    "pyarrow",
    "UltraDict2",
]
Distribution = Literal["", "uniform", "zipf", "sequential"]
Concurrent = Literal["", "reader", "writer", "consumer"]

Side = Callable[[int], int]
"""Does a number of operations; the nanoseconds that they took, on each CPU that takes part."""


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides of a cell, ready to run.

    Attributes
    ----------
    ours, peer : callable
    empty : callable, optional
        The loop of both without the operation; what it takes is subtracted from both.
    step : int
        Operations come in multiples of this.
    most : int
        Operations of one call at most.
    """

    ours: Side
    peer: Side
    empty: Side | None = None
    step: int = 1
    most: int = 1 << 22


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides of a cell that is not about time, such as bytes held."""

    ours: int
    peer: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison.

    Attributes
    ----------
    name : str
        Where it runs, structure and operation: "bpf.hashmap.lookup_hit".
    peer : str
        What it is compared with.
    open : callable
        Makes the sides ready; see `arenads.bench`.
    entries, key_size, value_size : int
        Sizes in bytes; 0 where there is none.
    cpus : int
        How many do the operation at the same time.
    distribution : str
        How keys are chosen; empty where there is nothing to choose.
    concurrent : str
        What a process does meanwhile on one CPU more.
    unit : "ns" or "bytes"
    needs : frozenset of str
    quick : bool
        Whether it is in the subset of `--quick`.
    """

    name: str
    peer: str
    open: Callable[[Cell, Workshop], AbstractContextManager[Sides | Amounts]]
    entries: int = 0
    key_size: int = 0
    value_size: int = 0
    cpus: int = 1
    distribution: Distribution = ""
    concurrent: Concurrent = ""
    unit: Literal["ns", "bytes"] = "ns"
    needs: frozenset[Need] = frozenset()
    quick: bool = False

    @property
    def title(self) -> str:
        """The name and what sets it apart from others of that name, for people."""
        words = [self.name]
        if self.entries:
            words.append(f"{self.entries:,} entries")
        if self.key_size:
            words.append(f"{self.key_size}/{self.value_size} bytes")
        elif self.value_size:
            words.append(f"{self.value_size} bytes")
        if self.distribution not in ("", "uniform"):
            words.append(self.distribution)
        if self.cpus > 1:
            words.append(f"{self.cpus} CPUs")
        if self.concurrent:
            words.append(f"beside a {self.concurrent}")
        return ", ".join(words)
