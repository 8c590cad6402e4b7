"""The results as Markdown tables, such as those of README.md."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Iterator, Sequence

from arenads.bench.goals import shortfalls
from arenads.bench.groups import (
    ABOUT_FLOORS,
    Group,
    grouped,
    is_floor,
    is_loss,
    losses,
    place,
    sections,
    sizes,
    summary,
)
from arenads.bench.report import Report, Result, how, short, size
from arenads.errors import ArenadsError
from arenads.replacing import check_replaceable, write_whole
from arenads.table import printable

__all__ = ["BEGIN", "END", "MarksError", "check_target", "markdown", "write_between_marks"]

BEGIN, END = "<!-- results -->", "<!-- /results -->"


class MarksError(ArenadsError, ValueError):
    """A file that is there and has no place for results (`path`)."""


def check_target(path: str) -> None:
    """Raise what `write_between_marks` would raise later.

    Raises
    ------
    MarksError
    SchemaError, OSError
    """
    check_replaceable(path)
    _around(path)


def write_between_marks(path: str, text: str) -> None:
    """Replace what a file has between the two marks; one that is not there is made with them."""
    before, after = _around(path)
    write_whole(path, f"{before}{BEGIN}\n{text}{END}{after}".encode())


def _around(path: str) -> tuple[str, str]:
    if not os.path.exists(path):
        return "", "\n"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        text = ""
    # The marks of lines of their own: text may speak of them.
    found = re.findall(rf"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$", text, re.M | re.S)
    if len(found) != 1:
        raise MarksError(
            f"{path}: expected the lines {BEGIN} and {END} once, between which results belong,"
            f" found {'none' if not found else len(found)}; or give the name of a new file",
            path=path,
        )
    before, after = text.split(found[0])
    return before, after


def markdown(report: Report) -> str:
    """Return the tables: losses and missed goals first, then one for each structure and place."""
    cells = report.cells
    return "\n".join([*_head(report), *_lost(cells), *_missed(cells), *_groups(cells)]) + "\n"


def _head(report: Report) -> Iterator[str]:
    yield from (f"{_escaped(line)}.  " for line in report.machine.lines())
    quick = "A quick run. " if report.quick else ""
    stopped = "" if report.complete else "Interrupted: the rest was not measured. "
    yield (
        f"{quick}{stopped}Medians of {report.rounds} alternating rounds. {summary(report.cells)}"
    )
    yield (
        "A figure is `peer / ours = ratio`, in ns an operation or in bytes; **bold**: the peer is"
        " ahead; `~`: too close to tell. key/value are bytes."
    )
    if any(map(is_floor, report.cells)):
        yield ABOUT_FLOORS
    if report.skipped:
        failed = sum(each.failed for each in report.skipped)
        yield f"{len(report.skipped):,} cells were not measured, of which {failed:,} failed."


def _lost(results: Sequence[Result]) -> Iterator[str]:
    lost = losses(results)
    yield "\n### Where the peer is faster, or smaller\n"
    if lost:
        yield from _grid(lost, _full, lambda each: each.entries)
    else:
        yield "In no cell."


def _missed(results: Sequence[Result]) -> Iterator[str]:
    """What is below a goal and was not shown as lost already."""
    missed = [(each, goal) for each, goal in shortfalls(results) if not is_loss(each)]
    if not missed:
        return
    yield "\n### Ahead, but by less than this project wants\n"
    yield _row(["operation", "peer", "key/value", "how", "entries", "peer / ours = ratio", "goal"])
    yield _row(["---"] * 4 + ["---:"] * 3)
    for each, goal in missed:
        entries = f"{each.entries:,}" if each.entries else ""
        labels = (_escaped(part) for part in _full(each))
        yield _row([*labels, entries, _figure(each), short(goal)])


def _groups(results: Sequence[Result]) -> Iterator[str]:
    for group in sections(results):
        yield f"\n### {_escaped(group.title)}\n"
        if group.plain:
            unit = "" if group.axis == "entries" else " bytes"
            yield from _grid(group.plain, _in_group(group), group.at, unit)
            yield ""
        if group.varied:
            yield from _varied(group)


def _full(each: Result) -> tuple[str, ...]:
    return each.name, each.peer, sizes(each), how(each)


def _in_group(group: Group) -> Callable[[Result], tuple[str, ...]]:
    def label(each: Result) -> tuple[str, ...]:
        return place(each).operation, each.peer, group.sizes(each), how(each)

    return label


def _grid(
    cells: Sequence[Result],
    label: Callable[[Result], tuple[str, ...]],
    at: Callable[[Result], int],
    unit: str = "",
) -> Iterator[str]:
    """A row for each label, a column for each number of entries, or other size."""
    counts = sorted(set(map(at, cells)))
    columns = ("operation", "peer", "key/value", "how")
    rows = grouped(cells, label)
    used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    yield _row(
        [
            *(columns[number] for number in used),
            *(f"{count:,}{unit}" if count else "-" for count in counts),
        ]
    )
    yield _row(["---"] * len(used) + ["---:"] * len(counts))
    for row, some in rows.items():
        figures = {at(each): _figure(each) for each in some}
        yield _row(
            [
                *(_escaped(row[number]) for number in used),
                *(figures.get(count, "") for count in counts),
            ]
        )


def _figure(each: Result) -> str:
    """Both sides of the ratio, and the ratio."""
    if each.unit == "bytes":
        sides = f"{size(each.peer_bytes or 0)} / {size(each.ours_bytes or 0)}"
    else:
        sides = f"{short(each.peer_ns or 0.0)} / {short(each.ours_ns or 0.0)}"
    ratio = short(each.ratio)
    if is_loss(each):
        return f"**{sides} = {ratio}**"
    return f"{sides} = {ratio}{' ~' if each.winner == 'none' else ''}"


def _varied(group: Group) -> Iterator[str]:
    """Other sizes, orders, CPUs and company: the ratios' range over all numbers of entries."""
    yield _row(["operation", "peer", "key/value, how", "lowest", "median", "highest", "peer ahead"])
    yield _row(["---"] * 3 + ["---:"] * 4)
    rows = grouped(
        group.varied,
        lambda each: (place(each).operation, each.peer, f"{group.sizes(each)} {how(each)}".strip()),
    )
    for row, some in rows.items():
        ratios = [each.ratio for each in some]
        lost = len(losses(some))
        behind = f"**{lost} of {len(some)}**" if lost else f"0 of {len(some)}"
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        yield _row([*map(_escaped, row), short(low), short(middle), short(high), behind])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Names are text, not markup, and no column's end.

    >>> print(_escaped("a|b <i>"))
    a\\|b &lt;i>
    """
    return re.sub(r"([|`*\[\]\\])", r"\\\1", printable(text)).replace("<", "&lt;")
