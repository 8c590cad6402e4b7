"""The plots of the HTML report, as SVG that belongs into a page.

matplotlib draws them: SVG needs no script and no network, can be read at any size and printed,
and its text stays text. What it says of colours is put into the page's own (`var(--ink)`), so
that they change with it in the dark; identifiers are made different in each plot; and what is
pointed at tells its figures.
"""

from __future__ import annotations

import importlib
import io
import math
import re
import warnings
import xml.etree.ElementTree as xml
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from arenads.errors import ArenadsError
from arenads.table import printable

__all__ = ["Bars", "PlotsMissingError", "Point", "Series", "lines", "need_plots", "strips"]

# Okabe and Ito's colours, which people tell apart however they see colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D3B", "#7A7A7A")
LOSS = "#D62728"
_MARKERS = "osD^vPX*"
# Stand for colours of the page; as such they are used nowhere else.
_INK, _RULE = "#010203", "#040506"
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLUMNS = 3


class PlotsMissingError(ArenadsError, ImportError):
    """matplotlib is not installed."""


class Point(msgspec.Struct, frozen=True):
    """One figure: `low` and `high` are those of its interval; `text` is told who points at it."""

    x: float
    y: float
    text: str
    low: float | None = None
    high: float | None = None
    loss: bool = False


class Series(msgspec.Struct, frozen=True):
    """Points that belong together. `goal` are places (x, y) which they should reach."""

    label: str
    points: Sequence[Point]
    goals: Sequence[tuple[float, float]] = ()
    colour: int = 0
    dashed: bool = False


class Bars(msgspec.Struct, frozen=True):
    """Rows of points over one axis: `label` is on the left of each."""

    label: str
    points: Sequence[Point]


def need_plots() -> Any:
    """Return matplotlib.

    Raises
    ------
    PlotsMissingError
    """
    try:
        return importlib.import_module("matplotlib")
    except ImportError:
        raise PlotsMissingError(
            "plots need matplotlib: pip install 'arenads[plots]' (--json FILE now and, once it"
            " is there, --from FILE --html FILE work too)"
        ) from None


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "arenads",
        "text.parse_math": False,
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _RULE,
        "axes.titlecolor": _INK,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": _RULE,
        "grid.linewidth": 0.5,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "legend.frameon": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }


def lines(
    panels: Sequence[tuple[str, Sequence[Series]]],
    *,
    x_label: str,
    y_label: str,
    alt: str,
    level: float | None = 1.0,
    x_ticks: Sequence[tuple[float, str]] = (),
    x_log: bool = True,
    bytes_: bool = False,
    points: bool = True,
) -> str:
    """Draw one panel for each title, with logarithmic axes, and a line at `level`."""
    matplotlib = need_plots()
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(_style()):
        figure = _figure(11, 0.6 + 2.6 * rows)
        tips: dict[str, str] = {}
        handles: dict[str, Any] = {}
        for number, (title, series) in enumerate(panels):
            # A single panel is no wider than one of three would be twice.
            axes = figure.add_subplot(rows, max(columns, 2), _cell(number, columns))
            axes.set_title(printable(title))
            for each in series:
                colour = COLOURS[each.colour % len(COLOURS)]
                handles.setdefault(each.label, _line(axes, each, colour, tips, points))
            if level is not None:
                axes.axhline(level, color=_INK, linewidth=1)
            axes.set_yscale("log")
            if x_log:
                axes.set_xscale("log")
            _ticks(matplotlib, axes, "y", bytes_)
            if x_ticks:
                shown = [
                    (at, text)
                    for at, text in x_ticks
                    if any(point.x == at for each in series for point in each.points) or not x_log
                ]
                axes.set_xticks([at for at, _ in shown], [text for _, text in shown])
                axes.minorticks_off()
            if len(panels) - number <= columns:
                axes.set_xlabel(x_label)
            if number % columns == 0:
                axes.set_ylabel(y_label)
        _legend(figure, handles, [s for _, series in panels for s in series])
        return _svg(figure, tips, alt)


def _cell(number: int, columns: int) -> int:
    return number // columns * max(columns, 2) + number % columns + 1


def _line(axes: Any, each: Series, colour: str, tips: dict[str, str], points: bool) -> Any:
    marker = _MARKERS[each.colour % len(_MARKERS)] if points else ""
    (line,) = axes.plot(
        [point.x for point in each.points],
        [point.y for point in each.points],
        color=colour,
        linewidth=1.5,
        linestyle="--" if each.dashed else "-",
    )
    for point in each.points:
        if point.low is not None and point.high is not None:
            axes.plot([point.x] * 2, [point.low, point.high], color=colour, linewidth=1.2)
        name = f"tip-{len(tips)}"
        tips[name] = point.text
        axes.plot(
            [point.x],
            [point.y],
            marker=marker or "o",
            markersize=6 if points else 3.5,
            color=colour,
            markerfacecolor=LOSS if point.loss else colour,
            markeredgecolor=LOSS if point.loss else colour,
            gid=name,
        )
    for x, y in each.goals:
        axes.plot([x], [y], marker="_", markersize=16, markeredgewidth=2, color=colour, alpha=0.6)
    line.set_label(each.label)
    return (line, marker)


def _legend(figure: Any, handles: dict[str, Any], series: Sequence[Series]) -> None:
    from matplotlib.lines import Line2D

    shown = [
        Line2D([], [], color=line.get_color(), linestyle=line.get_linestyle(), marker=marker or "")
        for line, marker in handles.values()
    ]
    labels = [printable(label) for label in handles]
    if any(each.goals for each in series):
        shown.append(Line2D([], [], color=_INK, alpha=0.6, marker="_", ms=14, mew=2, ls=""))
        labels.append("goal")
    if any(point.loss for each in series for point in each.points):
        shown.append(Line2D([], [], color=LOSS, marker="o", linestyle=""))
        labels.append("the peer is faster")
    if len(labels) > 1:
        figure.legend(shown, labels, loc="outside upper left", ncols=min(len(labels), 5))


def strips(rows: Sequence[Bars], *, x_label: str, alt: str, level: float | None = 1.0) -> str:
    """Draw points over a logarithmic axis, a row for each label, and a line at `level`."""
    matplotlib = need_plots()
    with matplotlib.rc_context(_style()):
        figure = _figure(11, 0.9 + 0.3 * len(rows))
        axes = figure.add_subplot()
        tips: dict[str, str] = {}
        if level is not None:
            axes.axvline(level, color=_INK, linewidth=1)
        for number, row in enumerate(rows):
            for place, point in enumerate(row.points):
                # Points of one row lie a little apart, always in the same way.
                shift = 0.0 if len(row.points) == 1 else ((place * 7) % 11 - 5) / 18
                colour = LOSS if point.loss else COLOURS[0]
                if point.low is not None and point.high is not None:
                    axes.plot([point.low, point.high], [number + shift] * 2, color=colour, lw=1.2)
                name = f"tip-{len(tips)}"
                tips[name] = point.text
                axes.plot(
                    [point.x],
                    [number + shift],
                    marker="D" if point.loss else "o",
                    color=colour,
                    markersize=5,
                    markeredgewidth=0,
                    alpha=0.75,
                    gid=name,
                )
        axes.set_yticks(range(len(rows)), [printable(row.label) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xscale("log")
        _ticks(matplotlib, axes, "x", False)
        axes.set_xlabel(x_label)
        return _svg(figure, tips, alt)


def _figure(width: float, height: float) -> Any:
    # Not pyplot, which would look for a display and keep the figures.
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches
    return figure


def _ticks(matplotlib: Any, axes: Any, which: str, bytes_: bool) -> None:
    """Plain numbers at 1, 2 and 5, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    from arenads.bench.report import size

    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    if high / low < 6:  # a few steps at least
        axis.set_view_interval(min(low, (low * high) ** 0.5 / 2.5), (low * high) ** 0.5 * 2.5)
        low, high = axis.get_view_interval()
    wide = math.log10(high / low) > 2.2
    if bytes_:
        axis.set_major_locator(LogLocator(4 if high / low < 1 << 12 else 16))
    else:
        axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: size(round(value)) if bytes_ else f"{value:,.6g}")
    )
    axis.set_minor_locator(NullLocator())


def _svg(figure: Any, tips: dict[str, str], alt: str) -> str:
    """Return an `<svg>` element for a page."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of letters that its own fonts lack: the page's font draws them.
        warnings.simplefilter("ignore")
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = xml.fromstring(file.getvalue())
    for name in ("metadata", "defs"):
        for child in root.findall(f"{{{_SVG}}}{name}"):
            if name == "metadata" or (len(child) == 1 and child[0].tag.endswith("style")):
                root.remove(child)
    # Identifiers are those of the whole page.
    prefix = f"p{zlib.crc32(alt.encode() + file.getvalue()):08x}-"
    for element in root.iter():
        name = element.get("id") or ""
        if name in tips:
            title = xml.Element(f"{{{_SVG}}}title")
            title.text = printable(tips[name])
            element.insert(0, title)
            element.set("class", "point")
        if name:
            element.set("id", prefix + name)
        for attribute, value in list(element.attrib.items()):
            if attribute == f"{{{_XLINK}}}href":
                del element.attrib[attribute]
                element.set("href", f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{prefix}"))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", printable(alt))
    xml.register_namespace("", _SVG)
    text = xml.tostring(root, encoding="unicode")
    text = text.replace(f' xmlns="{_SVG}"', "", 1)  # in HTML it is known
    text = text.replace(_INK, "var(--ink)").replace(_RULE, "var(--rule)")
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", text).strip()
