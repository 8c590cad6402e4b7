"""The hot operations of maps, arrays, rings and queues against their peers, for who works on them.

Run with `pytest tests/bench/test_cells.py -n0 -s`. The cells are those of `arenads bench`; here
pytest-benchmark times our side, so that two revisions can be compared (--benchmark-compare), and
the ratio to the peer, of the same run, is printed and kept with it. Nothing here fails because
something took long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arenads.bench.cell import Cell, Sides
from arenads.bench.cells import all_cells
from arenads.bench.measure import QUICK, allowed_cpus, measure, on_cpu
from arenads.bench.workshop import Workshop, why_not

HOT = ("bpf.", "c.", "python.")
# Messages of one size by every operation, against what comes first; of the rest the quick ones.
OTHERS = ("perf buffer", "ring buffer")


def is_hot(cell: Cell) -> bool:
    if cell.entries:
        return cell.quick and cell.name.startswith(HOT)
    return cell.value_size == 64 and not cell.concurrent and cell.peer not in OTHERS


CELLS = [cell for cell in all_cells() if is_hot(cell)]
ROUNDS = 5

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    with Workshop() as made:
        yield made


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.title} against {cell.peer}")
def test_cell(benchmark: Any, workshop: Workshop, cell: Cell) -> None:
    missing = why_not(cell, {})
    if missing:
        pytest.skip(missing)
    with cell.open(cell, workshop) as sides:
        assert isinstance(sides, Sides)
        found = measure(sides, QUICK)
        few = max(sides.step, int(QUICK.seconds * 1e9 / found.ours) // sides.step * sides.step)
        operations = min(few, max(sides.most // sides.step, 1) * sides.step)
        with on_cpu(allowed_cpus()[-1]):
            benchmark.pedantic(sides.ours, args=(operations,), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(
        operations=operations,
        ours_ns=found.ours,
        peer=cell.peer,
        peer_ns=found.peer,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
    )
    print(
        f"\n{cell.title}: ours {found.ours:.1f} ns, {cell.peer} {found.peer:.1f} ns, ratio"
        f" {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})",
        end="",
    )
