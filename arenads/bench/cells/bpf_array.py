"""Inside BPF programs: the array against the kernel's array map, of the same elements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from arenads.arena import Arena
from arenads.bench.cell import Cell, Need, Sides
from arenads.bench.cells.bpf_hashmap import NEIGHBOURS, beside_user_space
from arenads.bench.loops import Loaded, Loops, expect_equal
from arenads.bench.workshop import Workshop
from arenads.libbpf import create_map
from arenads.program import load

__all__ = ["cells"]

ARRAY = 2  # BPF_MAP_TYPE_ARRAY
ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
VALUE_SIZES = (8, 64, 256)
OPERATIONS = ("lookup", "update_in_place", "update")
_SHIPPED = (10_000, 8)


@contextmanager
def filled(cell: Cell, workshop: Workshop) -> Iterator[Loaded]:
    """Load the program with its arrays, and store to each element."""
    sizes = (cell.entries, cell.value_size)
    defines = [f"ENTRIES={cell.entries}", f"VALUE_SIZE={cell.value_size}"]
    built = workshop.program("bench_array", () if sizes == _SHIPPED else defines)
    with (
        create_map(ARRAY, 4, cell.value_size, cell.entries, name="bench") as peer,
        Arena.create("4GiB", engine="kernel") as arena,
        load(built, arena=arena, maps={"peer": peer.fd}) as program,
    ):
        both = Loaded(program, peer_fd=peer.fd)
        loops = Loops(program, both.order(workshop, cell.entries))
        arena.populate(cell.entries * cell.value_size * 2 + (1 << 20))
        for name in ("ours_update", "peer_update"):
            expect_equal(cell.title, loops.do(name, cell.entries, name), cell.entries)
        yield both


@contextmanager
def open_loops(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    """Both sides do the operation for one element after the other."""
    key = ("bpf.array", cell.entries, cell.value_size)
    both = workshop.shared(key, lambda: filled(cell, workshop))
    empty = "empty_update" if cell.name.endswith(".update") else "empty"
    sides = both.sides(cell, workshop, empty)
    if not cell.concurrent:
        yield sides
        return
    code = workshop.library("array", [f"VALUE_SIZE={cell.value_size}"])
    numbers = workshop.order(cell.entries, "uniform")
    with beside_user_space(cell, sides, both, code, "array", numbers) as accompanied:
        yield accompanied


def cells() -> Iterator[Cell]:
    """Yield the cells: those of the same arrays follow each other."""
    for entries in ENTRIES:
        for value_size in VALUE_SIZES:
            shipped = (entries, value_size) == _SHIPPED
            needs: frozenset[Need] = frozenset(
                {"kernel"} if shipped else {"kernel", "bpf compiler"}
            )
            for operation in OPERATIONS:
                base: dict[str, Any] = {"entries": entries, "value_size": value_size}
                made = Cell(
                    name=f"bpf.array.{operation}",
                    peer="array",
                    open=open_loops,
                    key_size=4,
                    distribution="uniform",
                    needs=needs,
                    quick=shipped,
                    **base,
                )
                yield made
                yield msgspec.structs.replace(made, distribution="sequential", quick=False)
                if value_size > 8:
                    continue
                yield msgspec.structs.replace(made, distribution="zipf", quick=False)
                yield msgspec.structs.replace(made, cpus=2, quick=False)
                for concurrent in NEIGHBOURS:
                    yield msgspec.structs.replace(
                        made, concurrent=concurrent, needs=needs | {"host compiler"}, quick=False
                    )
