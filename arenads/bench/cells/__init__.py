"""The cells, a module for each structure and place where it is used."""

from __future__ import annotations

from arenads.bench.cell import Cell
from arenads.bench.cells import (
    bpf_array,
    bpf_hashmap,
    bpf_orderedmap,
    c_array,
    c_hashmap,
    memory,
    messages,
    python_array,
    python_hashmap,
    python_messages,
    python_shared,
)

__all__ = ["MODULES", "all_cells"]

MODULES = (
    bpf_hashmap,
    bpf_array,
    bpf_orderedmap,
    c_hashmap,
    c_array,
    messages,
    python_hashmap,
    python_array,
    python_messages,
    python_shared,
    memory,
)
"""In the order in which they are measured."""


def all_cells() -> list[Cell]:
    """Return every cell there is."""
    return [cell for module in MODULES for cell in module.cells()]
