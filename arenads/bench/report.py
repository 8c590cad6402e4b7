"""What a run found, as JSON has it and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from arenads.bench.cell import Amounts, Cell
from arenads.bench.latency import Latency
from arenads.bench.machine import Machine
from arenads.bench.statistics import CONFIDENCE, Comparison, Winner
from arenads.table import Table

__all__ = ["Report", "Result", "Skipped", "how", "result_of", "short", "size", "skipped", "table"]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cell that was measured: `Cell`'s parameters, then what was found.

    Attributes
    ----------
    ours_ns, peer_ns : float
        Median nanoseconds of an operation, `loop_ns` for the loop itself subtracted from both.
        Absent where `ours_bytes` and `peer_bytes` are there.
    ours_spread_ns, peer_spread_ns : float
        Between the first and the third quarter of the rounds.
    ratio : float
        peer / ours: above 1 ours is ahead.
    low, high : float
        The ratio's interval, with a confidence of 95 %.
    winner : "ours", "peer" or "none"
    ours_rounds_ns, peer_rounds_ns : list of float
        Each round.
    latency : Latency
        Percentiles of short batches, where both sides can do few operations at a time.
    """

    name: str
    entries: int
    key_size: int
    value_size: int
    cpus: int
    distribution: str
    concurrent: str
    unit: Literal["ns", "bytes"]
    peer: str
    ratio: float
    low: float
    high: float
    winner: Winner
    ours_ns: float | None = None
    peer_ns: float | None = None
    ours_bytes: int | None = None
    peer_bytes: int | None = None
    ours_spread_ns: float | None = None
    peer_spread_ns: float | None = None
    loop_ns: float | None = None
    ours_rounds_ns: list[float] | None = None
    peer_rounds_ns: list[float] | None = None
    latency: Latency | None = None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """One cell that was not measured, and why; `failed` if it was tried."""

    name: str
    entries: int
    key_size: int
    value_size: int
    cpus: int
    distribution: str
    concurrent: str
    peer: str
    failed: bool
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench --json` writes.

    Attributes
    ----------
    version : int
        Of this form: 1.
    machine : Machine
    quick, complete : bool
        `complete` is false if the run was interrupted.
    rounds : int
        Of each side.
    confidence : float
        Of the intervals.
    seconds : float
        How long it took.
    command : str
        What measures the same again, as a shell takes it.
    started : str
        When, in UTC.
    cells : list of Result
    skipped : list of Skipped
    """

    version: int = 1
    machine: Machine
    quick: bool
    complete: bool
    rounds: int
    confidence: float = CONFIDENCE
    seconds: float
    cells: list[Result]
    skipped: list[Skipped]
    command: str = ""
    started: str = ""

    def remarks(self) -> list[str]:
        """Return what a person should know besides the table, a line each."""
        lines = []
        reasons: dict[tuple[bool, str], list[str]] = {}
        for each in self.skipped:
            reasons.setdefault((each.failed, each.reason), []).append(each.name)
        for (failed, reason), names in reasons.items():
            verb = "could not be measured" if failed else "not measured"
            lines.append(f"{', '.join(dict.fromkeys(names))} ({len(names)}): {verb}: {reason}")
        open_ones = sum(each.winner == "none" for each in self.cells)
        if open_ones:
            lines.append(
                f"{open_ones} of {len(self.cells)} cells name no winner: too close to tell"
            )
        if not self.complete:
            lines.append("interrupted: the rest was not measured")
        return lines


def result_of(
    cell: Cell, found: Comparison | Amounts, percentiles: Latency | None = None
) -> Result:
    """Put a cell and what was found of it together."""
    if isinstance(found, Amounts):
        ratio = found.peer / max(found.ours, 1)
        return Result(
            **_parameters(cell),
            unit=cell.unit,
            ours_bytes=found.ours,
            peer_bytes=found.peer,
            ratio=ratio,
            low=ratio,  # counted, not measured
            high=ratio,
            winner="ours" if ratio > 1 else "peer" if ratio < 1 else "none",
        )
    return Result(
        **_parameters(cell),
        unit=cell.unit,
        ours_ns=found.ours,
        peer_ns=found.peer,
        ours_spread_ns=found.ours_spread,
        peer_spread_ns=found.peer_spread,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        winner=found.winner,
        loop_ns=found.loop,
        ours_rounds_ns=list(found.ours_rounds),
        peer_rounds_ns=list(found.peer_rounds),
        latency=percentiles,
    )


def skipped(cell: Cell, reason: str, *, failed: bool = False) -> Skipped:
    """Say why a cell was not measured."""
    return Skipped(**_parameters(cell), failed=failed, reason=reason)


def _parameters(cell: Cell) -> dict[str, Any]:
    names = ("name", "entries", "key_size", "value_size", "cpus", "distribution", "concurrent")
    return {name: getattr(cell, name) for name in (*names, "peer")}


# --- the table --------------------------------------------------------------------------------


def table(results: Sequence[Result], machine: Machine) -> Table:
    """Show results: both sides, how far their rounds are apart, and the ratio.

    Rows in which the peer is ahead are marked. Where the interval does not exclude that both are
    the same, no winner is named.
    """
    return Table(
        ("CELL", "ENTRIES", "KEY", "VALUE", "HOW", "OURS", "PEER", "", "RATIO", "95 %", "AHEAD"),
        [
            (
                each.name,
                f"{each.entries:,}" if each.entries else "",
                each.key_size or "",
                each.value_size or "",
                how(each),
                _side(each, each.ours_ns, each.ours_spread_ns, each.ours_bytes),
                _side(each, each.peer_ns, each.peer_spread_ns, each.peer_bytes),
                each.peer,
                short(each.ratio),
                "" if each.unit == "bytes" else f"{short(each.low)} to {short(each.high)}",
                "" if each.winner == "none" else each.winner,
            )
            for each in results
        ],
        right=(1, 2, 3, 5, 6, 8),
        heading=machine.lines(),
        marked=[number for number, each in enumerate(results) if each.winner == "peer"],
    )


def how(each: Result) -> str:
    """Return what sets a cell apart besides its sizes, in a few words."""
    words = []
    if each.distribution not in ("", "uniform"):
        words.append(each.distribution)
    if each.cpus > 1:
        words.append(f"{each.cpus} CPUs")
    if each.concurrent:
        words.append(f"+ {each.concurrent}")
    return " ".join(words)


def _side(each: Result, median: float | None, apart: float | None, amount: int | None) -> str:
    if each.unit == "bytes":
        return size(amount or 0)
    nanoseconds, half = median or 0.0, (apart or 0.0) / 2
    for unit, factor in (("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= 10 * factor:
            return f"{short(nanoseconds / factor)} ±{short(half / factor)} {unit}"
    return f"{short(nanoseconds)} ±{short(half)} ns"


def short(number: float) -> str:
    """Return a number with three digits that say something.

    >>> short(0.1234), short(12.345), short(12345.6)
    ('0.12', '12.3', '12,346')
    """
    decimals = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:,.{decimals}f}"


def size(count: int) -> str:
    """Return bytes for people.

    >>> size(512), size(3 << 20)
    ('512 B', '3.00 MiB')
    """
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{short(count / factor)} {unit}"
    return f"{count} B"
