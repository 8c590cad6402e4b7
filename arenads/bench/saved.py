"""Reads a report that `bench --json` wrote. It may come from anywhere, and is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from arenads.bench.report import Report, Result
from arenads.errors import ArenadsError

__all__ = ["SavedReportError", "read"]

_LARGEST = 256 << 20
_LONGEST_TEXT = 300
_LARGEST_COUNT = 1 << 48
_LEAST, _MOST = 1e-9, 1e18


class SavedReportError(ArenadsError, ValueError):
    """A file that is no report of the benchmark (`path`), or one that cannot be right."""


def read(path: str) -> Report:
    """Return the report of a file.

    Raises
    ------
    SavedReportError
        It is no report, or says what cannot be.
    OSError
    """
    with open(path, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise SavedReportError(
            f"{path}: expected a report of at most {_LARGEST >> 20} MiB, found more", path=path
        )
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SavedReportError(
            f"{path}: expected what `arenads bench --json` writes, found otherwise: {error}",
            path=path,
        ) from None
    wrong = next(_wrong(report), None)
    if wrong is not None:
        raise SavedReportError(f"{path}: {wrong}", path=path)
    return report


def _wrong(report: Report) -> Iterator[str]:
    if report.version != 1:
        yield f"expected version 1, found {report.version}; a newer arenads may read it"
    for each in report.cells:
        for problem in _problems(each):
            yield f"{each.name!r:.80}: {problem}"
    for missed in report.skipped:
        if len(missed.name) > _LONGEST_TEXT or len(missed.reason) > 10 * _LONGEST_TEXT:
            yield "expected names and reasons of some words, found longer ones"


def _problems(each: Result) -> Iterator[str]:
    if max(map(len, (each.name, each.peer, each.distribution, each.concurrent))) > _LONGEST_TEXT:
        yield f"expected names of up to {_LONGEST_TEXT} characters, found longer ones"
    for what in ("entries", "key_size", "value_size", "cpus"):
        count = getattr(each, what)
        if not 0 <= count <= _LARGEST_COUNT:
            yield f"expected a count as {what}, found {count}"
    sides = (
        (each.ours_ns, each.peer_ns) if each.unit == "ns" else (each.ours_bytes, each.peer_bytes)
    )
    least = _LEAST if each.unit == "ns" else 0
    for side in sides:
        if side is None or not least <= side <= _MOST:
            yield f"expected the {each.unit} of both sides, found {side}"
    for what in ("ratio", "low", "high"):
        value = getattr(each, what)
        if not (0 if each.unit == "bytes" else _LEAST) <= value <= _MOST:
            yield f"expected a ratio as {what}, found {value}"
    if not each.low <= each.ratio <= each.high:
        yield f"expected {each.ratio} between {each.low} and {each.high}"
    numbers = [each.ours_spread_ns, each.peer_spread_ns, each.loop_ns]
    numbers += each.ours_rounds_ns or []
    numbers += each.peer_rounds_ns or []
    if each.latency is not None:
        found = each.latency
        if not len(found.levels) == len(found.ours_ns) == len(found.peer_ns):
            yield "expected as many percentiles as levels, of both sides"
        if not all(0 < level < 1 for level in found.levels):
            yield "expected levels between 0 and 1"
        numbers += [*found.ours_ns, *found.peer_ns]
    if not all(0 <= number <= _MOST and math.isfinite(number) for number in numbers if number):
        yield "expected nanoseconds, found other numbers"
