"""Chooses cells, measures them one after the other, and puts a report together."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Sequence

import msgspec

from arenads.bench.cell import Amounts, Cell, Need
from arenads.bench.cells import all_cells
from arenads.bench.latency import latency
from arenads.bench.machine import describe
from arenads.bench.measure import FULL, QUICK, Settings, measure
from arenads.bench.progress import Progress
from arenads.bench.report import Report, Result, Skipped, result_of, skipped
from arenads.bench.workshop import Workshop, why_not
from arenads.errors import ArenadsError
from arenads.table import Table

__all__ = ["UnknownCellError", "choose", "listing", "run"]


class UnknownCellError(ArenadsError, ValueError):
    """No cell has such a name (`name`)."""


def choose(quick: bool = False, only: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of a run, in the order in which they are measured.

    `only` are names ("bpf.hashmap.insert"), beginnings of names ("bpf.hashmap") or patterns
    ("*.lookup_*"); of the cells that any of them means.

    Raises
    ------
    UnknownCellError
        A name that means none.

    >>> {cell.name for cell in choose(only=["bpf.hashmap.insert"])}
    {'bpf.hashmap.insert'}
    """
    cells = all_cells()
    for wanted in only:
        if not any(_means(wanted, cell) for cell in cells):
            names = ", ".join(dict.fromkeys(cell.name for cell in cells))
            raise UnknownCellError(
                f"expected the name of a cell, found {wanted!r}; there are {names}", name=wanted
            )
    if only:
        cells = [cell for cell in cells if any(_means(wanted, cell) for wanted in only)]
    quick_ones = [cell for cell in cells if cell.quick]
    # Whoever asks for something that --quick leaves out wants it all the same.
    return (quick_ones or cells) if quick else cells


def _means(wanted: str, cell: Cell) -> bool:
    return (
        cell.name == wanted
        or cell.name.startswith(f"{wanted}.")
        or fnmatch.fnmatchcase(cell.name, wanted)
    )


def listing(cells: Iterable[Cell]) -> Table:
    """Show which cells there are, with what sizes, and what keeps them from running here."""
    found: dict[Need, str] = {}
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.name, cell.peer), []).append(cell)
    return Table(
        ("CELL", "PEER", "VARIANTS", "QUICK", "HERE"),
        [
            (name, peer, len(group), sum(cell.quick for cell in group), _here(group, found))
            for (name, peer), group in rows.items()
        ],
        right=(2, 3),
    )


def _here(cells: list[Cell], found: dict[Need, str]) -> str:
    reasons = [why_not(cell, found) for cell in cells]
    missing = [reason for reason in reasons if reason]
    if not missing:
        return "yes"
    return missing[0] if len(missing) == len(cells) else f"{len(cells) - len(missing)} of them"


def run(
    cells: Sequence[Cell],
    *,
    quick: bool = False,
    settings: Settings | None = None,
    command: str = "",
) -> Report:
    """Measure cells. An interrupt (Ctrl-C) ends the run; the report has what was done by then.

    `command` is what the report says of how to measure the same again.
    """
    settings = settings or (QUICK if quick else FULL)
    start = time.monotonic()
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    machine = describe()
    found: dict[Need, str] = {}
    results: list[Result] = []
    missed: list[Skipped] = []
    todo = []
    for cell in cells:
        reason = why_not(cell, found)
        if reason:
            missed.append(skipped(cell, reason))
        else:
            todo.append(cell)
    complete = False
    try:
        with Workshop() as workshop, Progress(len(todo)) as progress:
            for cell in todo:
                progress.begin(f"{cell.title} against {cell.peer}")
                try:
                    results.append(_one(cell, workshop, settings))
                except (ArenadsError, OSError, MemoryError) as error:
                    missed.append(skipped(cell, _gist(error), failed=True))
                    workshop.distrust()
                progress.step()
        complete = True
    except KeyboardInterrupt:
        pass
    return Report(
        machine=machine,
        quick=quick,
        complete=complete,
        rounds=settings.rounds,
        seconds=time.monotonic() - start,
        cells=results,
        skipped=missed,
        command=command,
        started=started,
    )


def _one(cell: Cell, workshop: Workshop, settings: Settings) -> Result:
    with cell.open(cell, workshop) as sides:
        if isinstance(sides, Amounts):
            return result_of(cell, sides)
        found = measure(sides, settings)
        # Where threads start together, that takes longer than a batch.
        alone = cell.cpus == 1 and cell.concurrent in ("", "reader", "writer")
        return result_of(cell, found, latency(sides) if alone else None)


def _gist(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def encode(report: Report) -> bytes:
    """Return the report as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
