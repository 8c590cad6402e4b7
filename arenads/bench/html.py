"""The report as one HTML file: plots, and all figures as tables below them.

It needs no network and no script. It follows the light or dark colours of whoever reads it.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from arenads.bench.goals import Goals
from arenads.bench.groups import (
    ABOUT_FLOORS,
    Group,
    grouped,
    is_loss,
    losses,
    place,
    sections,
    sizes,
    summary,
)
from arenads.bench.latency import Latency
from arenads.bench.machine import Machine
from arenads.bench.plots import Bars, Point, Series, lines, strips
from arenads.bench.report import Report, Result, how, short, size
from arenads.table import printable

__all__ = ["page"]

_MOST_STRIPS = 40

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --rule: #d4d4d4; --soft: #f4f4f4;
  --loss: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e6e6; --rule: #44484d;
  --soft: #212428; --loss: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.5rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; } h2 { margin-top: 3rem; }
h2, h3 { border-bottom: 1px solid var(--rule); padding-bottom: .2rem; }
h3 { font-size: 1rem; border: 0; margin: 1.5rem 0 .3rem; }
nav ul { columns: 3; padding-left: 1.2rem; }
svg { display: block; width: 100%; height: auto; }
.point:hover { filter: brightness(1.4); cursor: help; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem .15rem 0; text-align: left; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); }
tbody tr:nth-child(even) { background: var(--soft); }
.n { text-align: right; } .loss { color: var(--loss); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; margin: .6rem 0; }
pre { background: var(--soft); padding: .7rem 1rem; overflow-x: auto; }
@media print { details > * { display: block; } }
"""


def page(report: Report) -> str:
    """Return the HTML file of a report.

    Raises
    ------
    PlotsMissingError
    """
    groups, goals = sections(report.cells), Goals(report.cells)
    names = [f"section-{number}" for number in range(len(groups))]
    parts = [
        *_head(report),
        _contents(groups, names),
        *_overview(groups),
        *_losses(report.cells, goals),
    ]
    for name, group in zip(names, groups, strict=True):
        parts.append(f'<h2 id="{name}">{_text(group.title)}</h2>')
        parts.append(f"<p>{_text(summary(group.cells))}</p>")
        if all(place(each).where == "memory" for each in group.cells):
            parts += _memory(group)
        else:
            parts += _ratios(group, goals)
            parts += _latencies(group)
        parts += _tables(group, goals)
    parts += _missed(report)
    parts += _reading(report)
    parts += _reproduce(report)
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>arenads: benchmark</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return html.escape(printable(value))


# --- what was measured, and where ---------------------------------------------------------------


def _head(report: Report) -> Iterator[str]:
    yield "<h1>Structures in a BPF arena, against what is used today</h1>"
    words = [summary(report.cells)]
    if report.quick:
        words.append("This was a quick run: a part of the cells, in short rounds.")
    if not report.complete:
        words.append("The run was interrupted: the rest was not measured.")
    yield f"<p>{_text(' '.join(words))} <a href='#reading'>How to read this.</a></p>"
    yield _machine(report)


def _machine(report: Report) -> str:
    machine: Machine = report.machine
    virtual = ", virtual" if machine.hypervisor else ""
    facts = {
        "Machine": f"{machine.cpu}{virtual}, {machine.cpus} CPUs, {machine.architecture},"
        f" {size(machine.memory)} of memory"
        + (f", governor {machine.governor}" if machine.governor else ""),
        "Kernel": f"Linux {machine.kernel}",
        "Compilers": f"BPF: {machine.bpf_compiler or 'absent'}; host:"
        f" {machine.host_compiler or 'absent'}",
        "Libraries": f"arenads {machine.of_arenads()}, libbpf {machine.libbpf or 'absent'},"
        f" Python {machine.python}; {machine.of_libraries() or 'no others'}",
        "Run": f"{report.started or 'at an unknown time'}; {report.rounds} rounds of each side,"
        f" {report.seconds:,.0f} seconds",
        "Mitigations": "; ".join(
            f"{name}: {text}"
            for name, text in machine.mitigations.items()
            if text != "Not affected"
        )
        or "none needed",
    }
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts.items())
    return f"<dl>{rows}</dl>"


def _contents(groups: Sequence[Group], names: Sequence[str]) -> str:
    links = [("losses", "Where the peer is faster")]
    links += [(name, group.title) for name, group in zip(names, groups, strict=True)]
    links += [("reading", "How to read this"), ("reproduce", "How to reproduce")]
    items = "".join(f'<li><a href="#{name}">{_text(title)}</a></li>' for name, title in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _overview(groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        return
    yield "<h2>All cells</h2>"
    rows = [
        Bars(group.title, [_point(each, each.ratio, bare=True) for each in group.cells])
        for group in groups
    ]
    yield strips(
        rows,
        x_label="peer / ours: how many times as fast, or as small, as the peer",
        alt="Ratio of each cell, by structure. " + " ".join(summary(g.cells) for g in groups[:1]),
    )


def _losses(results: Sequence[Result], goals: Goals) -> Iterator[str]:
    lost = losses(results)
    yield '<h2 id="losses">Where the peer is faster</h2>'
    if not lost:
        yield "<p>In no cell is the peer ahead by more than the noise.</p>"
        return
    shown = lost[:_MOST_STRIPS]
    yield f"<p>{len(lost):,} of {len(results):,} cells, the worst first.</p>"
    yield strips(
        [Bars(_title(each), [_point(each, each.ratio)]) for each in shown],
        x_label="peer / ours",
        alt=f"The {len(shown)} lowest ratios, from {short(shown[0].ratio)}.",
    )
    yield _details("All of them as a table", _table(lost, goals))


def _title(each: Result) -> str:
    words = [each.name]
    if each.entries:
        words.append(f"{each.entries:,}")
    if each.key_size or each.value_size:
        words.append(sizes(each))
    if how(each):
        words.append(how(each))
    return f"{' '.join(words)}, {each.peer}"


def _point(each: Result, x: float, *, bare: bool = False) -> Point:
    """A point at the ratio, over a size or on the axis of ratios itself."""
    low, high = (None, None) if bare or each.unit == "bytes" else (each.low, each.high)
    text = (
        f"{_title(each)}: {_amount(each, each.ours_ns, each.ours_bytes)} against"
        f" {_amount(each, each.peer_ns, each.peer_bytes)}, ratio {short(each.ratio)}"
    )
    if each.unit == "ns":
        text += f" ({short(each.low)} to {short(each.high)})"
    y = max(each.ratio, 1e-9)
    return Point(max(x, 1e-9), y, text, low, high, loss=is_loss(each))


def _amount(each: Result, nanoseconds: float | None, count: int | None) -> str:
    if each.unit == "bytes":
        return size(count or 0)
    return f"{short(nanoseconds or 0.0)} ns"


# --- plots of one structure ---------------------------------------------------------------------


def _ratios(group: Group, goals: Goals) -> Iterator[str]:
    yield "<h3>Ratio by size</h3>"
    if group.plain:
        yield _by_size(group, group.plain, lambda each: each.peer, "ratio by size", goals)
    varied = grouped(group.varied, lambda each: each.peer)
    for peer, cells in varied.items():
        kinds = {
            "key and value sizes (bytes)": [each for each in cells if not how(each)],
            "order of keys, CPUs and company": [each for each in cells if how(each)],
        }
        for kind, some in kinds.items():
            if not some:
                continue
            title = f"against {peer}: by {kind}"
            beside = [
                each
                for each in group.plain
                if each.peer == peer and any(each.name == other.name for other in some)
            ]
            label = sizes if "sizes" in kind else _company
            yield _details(
                f"Against {peer}: by {kind}",
                _by_size(group, beside + some, label, title, goals),
                opened=False,
            )


def _company(each: Result) -> str:
    return how(each) or "plain"


def _by_size(
    group: Group,
    cells: Sequence[Result],
    label: Callable[[Result], str],
    alt: str,
    goals: Goals,
) -> str:
    labels = list(dict.fromkeys(label(each) for each in cells))
    counts = sorted(set(map(group.at, cells)))
    panels = []
    for name, some in grouped(cells, lambda each: place(each).operation).items():
        series = []
        for which, same in grouped(some, label).items():
            ordered = sorted(same, key=group.at)
            wanted = [(group.at(each) or 1, goals.of(each)) for each in ordered]
            series.append(
                Series(
                    which,
                    [_point(each, group.at(each) or 1) for each in ordered],
                    [(x, y) for x, y in wanted if y is not None],
                    labels.index(which),
                )
            )
        panels.append((name, series))
    ticks = [(count or 1, _count(count)) for count in counts]
    return lines(
        panels,
        x_label=group.axis,
        y_label="peer / ours",
        alt=f"{group.title}, {alt}. {summary(cells)}",
        x_ticks=ticks,
    )


def _count(count: int) -> str:
    return f"{count:,}" if count else "-"


def _latencies(group: Group) -> Iterator[str]:
    """Draw the distributions of the plain cells, of a middle size and the largest."""
    peers = grouped(
        (each for each in group.plain if each.unit == "ns"),
        lambda each: each.peer,
    )
    for number, (peer, cells) in enumerate(peers.items()):
        timed = [each for each in cells if each.latency is not None]
        if timed:
            counts = sorted(set(map(group.at, timed)))
            chosen = dict.fromkeys((counts[(len(counts) - 1) // 2], counts[-1]))
            panels = []
            for name, some in grouped(timed, lambda each: place(each).operation).items():
                series: list[Series] = []
                for each in some:
                    if group.at(each) in chosen and each.latency is not None:
                        series += _curves(
                            each, each.latency, group, list(chosen).index(group.at(each))
                        )
                if series:
                    panels.append((name, series))
            batch = timed[0].latency.batch if timed[0].latency else 0
            drawn = lines(
                panels,
                x_label="part of the operations",
                y_label="ns at most",
                alt=f"{group.title}: percentiles of latency, ours and {peer}",
                level=None,
                x_log=False,
                x_ticks=[(_tail(part), text) for part, text in _PARTS],
                points=False,
            )
            note = (
                f"<p>Each operation's time is that of a batch of {batch} or so, divided. A batch"
                " starts with the caches as the system call or call that runs it leaves them, on"
                " both sides: medians are above those of long loops. Nothing is left out:"
                " interrupts and other processes are in the tail of both sides.</p>"
            )
            yield _details(f"Latency: ours and {peer}", note + drawn, opened=number == 0)
        elif number == 0 and any(each.ours_rounds_ns for each in cells):
            yield from _rounds(group, peer, cells)


_PARTS = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"))


def _tail(part: float) -> float:
    """Where a percentile is drawn: the rarer, the farther, as HdrHistogram does it."""
    return -math.log10(1 - part)


def _curves(each: Result, found: Latency, group: Group, which: int) -> Iterator[Series]:
    for colour, side, values in ((0, "ours", found.ours_ns), (1, each.peer, found.peer_ns)):
        yield Series(
            f"{side}, {group.at(each):,} {group.axis}" if group.at(each) else side,
            [
                Point(
                    _tail(level),
                    max(value, 1e-3),
                    f"{_title(each)}, {side}: {100 * level:g} % took at most {short(value)} ns",
                )
                for level, value in zip(found.levels, values, strict=True)
            ],
            colour=colour,
            dashed=which > 0,
        )


def _rounds(group: Group, peer: str, cells: Sequence[Result]) -> Iterator[str]:
    """Without percentiles: how far the rounds' means are apart."""
    panels = []
    for name, some in grouped(cells, lambda each: place(each).operation).items():
        each = some[-1]
        series = []
        for colour, side, values in (
            (0, "ours", each.ours_rounds_ns),
            (1, peer, each.peer_rounds_ns),
        ):
            points = [
                Point(
                    100 * (number + 0.5) / len(values or ()),
                    max(value, 1e-3),
                    f"{_title(each)}, {side}: a round of {short(value)} ns an operation",
                )
                for number, value in enumerate(sorted(values or ()))
            ]
            series.append(Series(side, points, colour=colour))
        panels.append((name, series))
    drawn = lines(
        panels,
        x_label="part of the rounds, %",
        y_label="mean ns of a round, at most",
        alt=f"{group.title}: means of the rounds, ours and {peer}",
        level=None,
        x_log=False,
        points=False,
    )
    yield _details(f"Rounds: ours and {peer}, at the largest size", drawn)


def _memory(group: Group) -> Iterator[str]:
    fills: dict[str, list[tuple[int, Result]]] = {}
    rest: list[Result] = []
    for each in group.cells:
        kind, _, number = place(each).operation.rpartition("_")
        if each.unit == "bytes" and kind == "fill" and number.isascii() and number.isdigit():
            fills.setdefault(each.peer, []).append((min(int(number), 100), each))
        else:
            rest.append(each)
    if fills:
        yield "<h3>Memory by fill</h3>"
        yield _fill_plot(fills, group.title)
    if rest:
        yield "<h3>Ratios</h3>"
        yield strips(
            [Bars(_title(each), [_point(each, each.ratio)]) for each in rest],
            x_label="peer / ours",
            alt=f"{group.title}: ratios. {summary(rest)}",
        )
    creations = [each for each in rest if each.unit == "ns"]
    if creations:
        yield "<h3>Time</h3>"
        yield _times(creations, group.title)


def _fill_plot(fills: dict[str, list[tuple[int, Result]]], title: str) -> str:
    ours: dict[int, Result] = {}
    # Evenly spaced: 0 and 1 % are as interesting as 50 and 100.
    places = {
        fill: number
        for number, fill in enumerate(sorted({fill for some in fills.values() for fill, _ in some}))
    }
    series = []
    for number, (peer, cells) in enumerate(fills.items(), 1):
        points = []
        for fill, each in sorted(cells, key=lambda pair: pair[0]):
            ours.setdefault(fill, each)
            text = f"{peer}, {fill} % of {each.entries:,}: {size(each.peer_bytes or 0)}"
            points.append(Point(places[fill], max(each.peer_bytes or 0, 1), text))
        series.append(Series(peer, points, colour=number))
    mine = [
        Point(
            places[fill],
            max(each.ours_bytes or 0, 1),
            f"ours, {fill} % of {each.entries:,}: {size(each.ours_bytes or 0)}",
        )
        for fill, each in sorted(ours.items())
    ]
    each = next(iter(ours.values()))
    return lines(
        [(f"{each.entries:,} entries, {sizes(each)} bytes", [Series("ours", mine), *series])],
        x_label="% of the entries",
        y_label="held",
        alt=f"{title}: bytes held by fill, ours and {', '.join(fills)}",
        level=None,
        x_log=False,
        x_ticks=[(number, str(fill)) for fill, number in places.items()],
        bytes_=True,
    )


def _times(cells: Sequence[Result], title: str) -> str:
    rows = []
    for operation, some in grouped(cells, lambda each: each.name).items():
        mine = statistics.median(each.ours_ns or 0.0 for each in some)
        pairs = [("ours", mine), *((each.peer, each.peer_ns or 0.0) for each in some)]
        for label, value in pairs:
            text = f"{operation}, {label}: {short(value / 1000)} us"
            rows.append(Bars(f"{operation}, {label}", [Point(max(value / 1000, 1e-3), 1, text)]))
    return strips(rows, x_label="us, median", alt=f"{title}: time to create", level=None)


# --- tables -------------------------------------------------------------------------------------


def _details(title: str, content: str, *, opened: bool = True) -> str:
    return (
        f"<details{' open' if opened else ''}><summary>{_text(title)}</summary>"
        f'<div class="wide">{content}</div></details>'
    )


def _html_table(titles: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col">{_text(title)}</th>' for title in titles)
    body = "".join(
        f"<tr{kind}>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n"
        for kind, row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _table(cells: Sequence[Result], goals: Goals) -> str:
    def row(each: Result) -> Sequence[str]:
        goal = goals.of(each)
        return (
            each.name,
            _count(each.entries),
            sizes(each),
            how(each),
            each.peer,
            _side(each, each.ours_ns, each.ours_spread_ns, each.ours_bytes),
            _side(each, each.peer_ns, each.peer_spread_ns, each.peer_bytes),
            short(each.ratio),
            f"{short(each.low)} to {short(each.high)}" if each.unit == "ns" else "",
            "" if goal is None else f"{short(goal)} {'met' if each.ratio >= goal else 'MISSED'}",
            {"ours": "ours", "peer": "peer", "none": "-"}[each.winner],
        )

    return _html_table(
        (
            "cell",
            "entries",
            "key/value",
            "how",
            "peer",
            "ours",
            "peer's",
            "ratio",
            "95 %",
            "goal",
            "ahead",
        ),
        [(' class="loss"' if is_loss(each) else "", row(each)) for each in cells],
    )


def _side(each: Result, median: float | None, apart: float | None, count: int | None) -> str:
    if each.unit == "bytes":
        return size(count or 0)
    return f"{short(median or 0.0)} ±{short((apart or 0.0) / 2)} ns"


def _tables(group: Group, goals: Goals) -> Iterator[str]:
    yield _details(
        f"All {len(group.cells)} cells as a table", _table(group.cells, goals), opened=False
    )
    timed = [(each, each.latency) for each in group.cells if each.latency is not None]
    if not timed:
        return
    levels = (0.5, 0.9, 0.99, 0.999)

    def at(found: Latency, values: tuple[float, ...], level: float) -> str:
        known = dict(zip(found.levels, values, strict=True))
        return short(known[level]) if level in known else ""

    rows = [
        (
            "",
            (
                each.name,
                _count(each.entries),
                sizes(each),
                how(each),
                each.peer,
                *(
                    f"{at(found, found.ours_ns, level)} / {at(found, found.peer_ns, level)}"
                    for level in levels
                ),
                f"{found.batches:,} of {found.batch}",
            ),
        )
        for each, found in timed
    ]
    titles = ("cell", "entries", "key/value", "how", "peer")
    columns = tuple(f"{100 * level:g} %: ours / peer, ns" for level in levels)
    yield _details(
        "Latency as a table", _html_table((*titles, *columns, "batches"), rows), opened=False
    )


def _missed(report: Report) -> Iterator[str]:
    if not report.skipped:
        return
    yield "<h2>Not measured</h2>"
    rows = [
        (
            "",
            (
                each.name,
                _count(each.entries),
                each.peer,
                "failed" if each.failed else "",
                each.reason,
            ),
        )
        for each in report.skipped
    ]
    yield _details(
        f"{len(rows)} cells, and why",
        _html_table(("cell", "entries", "peer", "", "reason"), rows),
        opened=len(rows) < 20,
    )


def _reading(report: Report) -> Iterator[str]:
    yield (
        '<h2 id="reading">How to read this</h2>\n'
        "<p>A cell is one operation done on both sides, in turn, in the same run on the same CPU."
        " The ratio is the peer's median time (or bytes) divided by ours: above 1 the arena is"
        " ahead, below 1 the peer. Bars are the ratio's interval, with a confidence of"
        f" {100 * report.confidence:g} %; where it holds 1, or is within what two copies of one"
        " loop differ by, nobody is named as ahead. ± is half of the distance between the first"
        " and the third quarter of the rounds. Axes of ratios and times are logarithmic. key/value"
        f" are bytes. {ABOUT_FLOORS} A point says its figures when it is pointed at; all are in"
        " the tables.</p>"
    )


def _reproduce(report: Report) -> Iterator[str]:
    command = report.command or "arenads bench --json results.json"
    version = report.machine.of_arenads()
    yield (
        '<h2 id="reproduce">How to reproduce</h2>\n'
        f"<p>As root, on an idle machine with BPF arenas, in a checkout of arenads"
        f" {_text(version)}:</p>\n"
        "<pre>pip install '.[cli,compiler,plots,bench]'\n"
        f"{_text(command)}</pre>"
    )
