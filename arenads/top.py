"""`arenads top`: the entries of a structure, or the structures of an arena, with their rates.

Frames are drawn in place on a terminal, and printed one after the other elsewhere. A rate is the
change of a number between two samples, a second.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

import msgspec

from arenads.arena import Arena
from arenads.condition import Condition, all_of
from arenads.errors import (
    BudgetError,
    DamagedError,
    RemovedError,
    SchemaError,
    StructureAbsentError,
)
from arenads.fields import EntryField, comparable, field_named, fields_of, parsed, text_of
from arenads.keys import Keys
from arenads.ls import failures_text
from arenads.schema import Scalar, StrType
from arenads.structure import Structure
from arenads.table import Live, Table, json_text, write_rows
from arenads.walk import Part, count_entries, entries, entries_text, parts

if TYPE_CHECKING:
    from arenads.arrow_file import TimedFrame

__all__ = ["Request", "show_top"]

Row: TypeAlias = tuple[Any, ...]
RATE: Final = "/s"
# What a drawn table has beyond its rows and heading: an empty line, titles, a rule, an empty line.
_FRAME_LINES: Final = 4
_GAP: Final = 3
# Names of numbers that tell which: of a process, user, CPU, file, port, interface or inode.
_WHICH: Final = re.compile(
    r"(?:^|[._])(?:id|pid|tid|tgid|ppid|pgid|sid|uid|gid|euid|egid"
    r"|cpu|fd|port|sport|dport|ifindex|ino|inode)(?:\[|$)"
)


class Request(msgspec.Struct, frozen=True):
    """What to show: `count` frames (None: until it is ended), `interval` seconds apart.

    `arrow` is the path of the file that has them in that form.
    """

    pin: str
    name: str | None = None
    sort: str | None = None
    reverse: bool = False
    filters: Sequence[Condition] = ()
    interval: float = 1.0
    count: int | None = None
    form: Literal["text", "json", "csv", "arrow"] = "text"
    arrow: str = ""


class Sample(msgspec.Struct):
    """What there was at a moment; rows by what tells them apart."""

    at: float
    fields: list[EntryField]
    rows: dict[Row, Row]
    total: int
    heading: list[str]
    damaged: bool = False


class Shown(msgspec.Struct, frozen=True):
    """One line of a frame: the values of its fields and their rates, in their order."""

    values: Row
    rates: tuple[float | None, ...]


class Frame(msgspec.Struct, frozen=True):
    """The difference of two samples, or the first one alone: then rates are None."""

    sample: Sample
    seconds: float | None
    rows: list[Shown]


# --- samples --------------------------------------------------------------------------------

_STRUCTURE_PARTS: Final = (
    Part("name", StrType(64), True),
    Part("kind", StrType(64)),
    *(Part(name, Scalar("u64")) for name in ("entries", "at_most", "failures")),
    Part("which", StrType(256)),
)


class _OfArena:
    """Samples of the structures of an arena: entries and failures of each."""

    def __init__(self, arena: Arena, request: Request) -> None:
        self._arena = arena
        self.fields = fields_of(_STRUCTURE_PARTS)
        self._request = request
        self._known: dict[str, tuple[int, Structure[Any]]] = {}

    def field(self, name: str) -> EntryField:
        return field_named(_STRUCTURE_PARTS, name)

    def sample(self) -> Sample:
        rows: dict[Row, Row] = {}
        problems = []
        known: dict[str, tuple[int, Structure[Any]]] = {}
        try:
            for name, named in self._arena._entries():
                try:
                    opened = self._known.get(name)
                    if opened is None or opened[0] != named.offset:
                        opened = int(named.offset), self._arena._open_named(name, named)
                    known[name] = opened
                    rows[(name,)] = _structure_row(opened[1])
                except RemovedError:
                    continue
                except (DamagedError, BudgetError) as error:
                    problems.append(f"{name}: {error.message}")
        except (DamagedError, BudgetError) as error:
            problems.append(f"the directory: {error.message}")
        self._known = known
        rows = dict(sorted(rows.items()))  # those that are equal in what is sorted by, by name
        at = time.monotonic()
        count = f"{len(rows):,} structure{'' if len(rows) == 1 else 's'}"
        return Sample(at, self.fields, rows, len(rows), [count, *problems], bool(problems))


def _structure_row(structure: Structure[Any]) -> Row:
    failures = structure.counters()
    return (
        structure.name,
        structure.kind_name,
        count_entries(structure),
        structure.max_entries,
        sum(msgspec.structs.astuple(failures)),
        failures_text(failures),
    )


class _OfStructure:
    """Samples of the entries of one structure, which may be removed and made again meanwhile."""

    def __init__(self, arena: Arena, request: Request, name: str) -> None:
        self._arena = arena
        self._name = name
        self._request = request
        self._use(arena.structures[name])

    def _use(self, structure: Structure[Any]) -> None:
        self._structure = structure
        self._parts = parts(structure)
        self.fields = fields_of(self._parts)
        # What is asked for and is no column yet: an element of an array.
        asked = [each.field for each in self._request.filters]
        asked += [self._request.sort] if self._request.sort else []
        have = {field.name for field in self.fields}
        for name in dict.fromkeys(each.removesuffix(RATE) for each in asked):
            if name not in have:
                self.fields.append(field_named(self._parts, name))
        if not any(field.identity for field in self.fields):
            # Of what waits in a queue nothing tells which it was at the last look.
            self.fields = [msgspec.structs.replace(each, counts=False) for each in self.fields]
        self._keep = all_of(
            _entry_test(self.field(each.field), each)
            for each in self._request.filters
            if not each.field.endswith(RATE)
        )

    def field(self, name: str) -> EntryField:
        return field_named(self._parts, name)

    def sample(self) -> Sample:
        try:
            offset = int(self._arena._lookup(self._name).offset)
            if offset != self._structure.offset:
                self._use(self._arena.structures[self._name])
            return self._sample()
        except (StructureAbsentError, RemovedError):
            gone = f"{self._name}: removed; waiting for another of that name"
            return Sample(time.monotonic(), self.fields, {}, 0, [gone])

    def _sample(self) -> Sample:
        structure, keep = self._structure, self._keep
        getters = [field.get for field in self.fields]
        identities = [field.get for field in self.fields if field.identity]
        rows: dict[Row, Row] = {}
        for number, entry in enumerate(entries(structure)):
            if keep(entry):
                # What waits in a queue has nothing but its place.
                key = tuple(get(entry) for get in identities) or (number,)
                rows[key] = tuple(get(entry) for get in getters)
        total = count_entries(structure)
        most = f"{structure.max_entries:,}{' bytes' if structure.kind_name == 'ring' else ''}"
        what = f"{self._name}: {structure.kind_name}, {entries_text(total)}, at most {most}"
        return Sample(time.monotonic(), self.fields, rows, total, [what])


def _entry_test(field: EntryField, condition: Condition) -> Callable[[Any], bool]:
    test = condition.test(lambda text: parsed(field, text))
    return lambda entry: test(comparable(field.get(entry)))


# --- frames ---------------------------------------------------------------------------------


class _Frames:
    """Makes frames of samples: rates, those that pass the filters, in order."""

    def __init__(self, source: _OfArena | _OfStructure, request: Request) -> None:
        self._source = source
        self._request = request
        self._before: Sample | None = None
        self._check()

    @property
    def fine(self) -> bool:
        """Whether the last sample met no damage."""
        return self._before is None or not self._before.damaged

    def _check(self) -> None:
        """Refuse a field that there is not, before anything is shown."""
        for condition in self._request.filters:
            self._test(condition)
        if self._request.sort is not None:
            self._place(self._request.sort)

    def take(self) -> Frame:
        """Take a sample; return what it shows, compared with the one before."""
        sample, before = self._source.sample(), self._before
        self._before = sample
        comparable_ = before is not None and before.fields is sample.fields
        seconds = sample.at - before.at if before is not None and comparable_ else None
        numbers = [place for place, field in enumerate(sample.fields) if _has_rate(field)]
        rows = []
        for key, values in sample.rows.items():
            was = before.rows.get(key) if before is not None and comparable_ else None
            rates: list[float | None] = [None] * len(values)
            if was is not None and seconds:
                for place in numbers:
                    now, then = values[place], was[place]
                    if now is not None and then is not None:
                        rate = (now - then) / seconds
                        rates[place] = rate if math.isfinite(rate) else None
            rows.append(Shown(values, tuple(rates)))
        keep = all_of(self._test(each) for each in self._request.filters)
        kept = [row for row in rows if keep(row)]
        self._order(kept, first=seconds is None)
        return Frame(sample, seconds, kept)

    def _place(self, name: str) -> tuple[int, bool]:
        """Return which field a name is of, and whether it is the field's rate."""
        rate = name.endswith(RATE)
        bare = name.removesuffix(RATE)
        for place, field in enumerate(self._source.fields):
            if field.name == bare:
                if rate and not _has_rate(field):
                    raise SchemaError(f"{bare} is no number that could have a rate")
                return place, rate
        self._source.field(bare)  # says which there are
        raise SchemaError(f"there is no field {bare!r} here")

    def _read(self, name: str) -> Callable[[Shown], Any]:
        place, rate = self._place(name)
        if rate:
            return lambda row: row.rates[place]
        return lambda row: comparable(row.values[place])

    def _test(self, condition: Condition) -> Callable[[Shown], bool]:
        place, rate = self._place(condition.field)
        field = self._source.fields[place]
        test = condition.test(_number if rate else lambda text: parsed(field, text))
        read = self._read(condition.field)
        return lambda row: test(read(row))

    def _order(self, rows: list[Shown], first: bool) -> None:
        """Sort: numbers the largest first, text from A; by default by the first rate.

        Rows that have no value there come last.
        """
        fields, name = self._source.fields, self._request.sort
        if name is None and not any(field.identity for field in fields):  # as they wait
            if self._request.reverse:
                rows.reverse()
            return
        if name is None:
            rates = [field.name for field in fields if _has_rate(field)]
            name = fields[0].name if not rates else rates[0] + ("" if first else RATE)
        place, rate = self._place(name)
        read = self._read(name)
        down = rate or (fields[place].is_number and not fields[place].identity)
        reverse = down != self._request.reverse
        there = [row for row in rows if (value := read(row)) is not None and value == value]
        absent = [row for row in rows if (value := read(row)) is None or value != value]
        try:
            there.sort(key=read, reverse=reverse)
        except TypeError:  # an array, or a union of this and that
            there.sort(key=lambda row: text_of(str(read(row))), reverse=self._request.reverse)
        rows[:] = there + absent


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SchemaError(f"expected a number to compare a rate with, found {text!r}") from None


def _is_quantity(field: EntryField) -> bool:
    """Whether a number says how many or how much, not which: types do not tell, names do."""
    numbers = field.is_number and field.counts and not field.identity
    return numbers and not _WHICH.search(field.name)


def _has_rate(field: EntryField) -> bool:
    return _is_quantity(field) and field.name != "at_most"


# --- shown ----------------------------------------------------------------------------------


def _cells(frame: Frame) -> tuple[list[str], list[list[str]], set[int]]:
    """Return titles, rows and the columns to be aligned to the right; rates beside their fields."""
    titles: list[str] = []
    right: set[int] = set()
    readers: list[Callable[[Shown], str]] = []
    for place, field in enumerate(frame.sample.fields):
        if field.is_number:
            right.add(len(titles))
        titles.append(field.name)
        readers.append(_reader(field, place))
        if _has_rate(field):
            right.add(len(titles))
            titles.append(field.name + RATE)
            readers.append(_rate_reader(place))
    return titles, [[read(row) for read in readers] for row in frame.rows], right


def _reader(field: EntryField, place: int) -> Callable[[Shown], str]:
    quantity = _is_quantity(field)

    def read(row: Shown) -> str:
        value = row.values[place]
        if quantity and isinstance(value, int):
            return f"{value:,}"
        if quantity and isinstance(value, float) and math.isfinite(value):
            return f"{value:,.6g}"
        return text_of(field.plain(value))

    return read


def _rate_reader(place: int) -> Callable[[Shown], str]:
    def read(row: Shown) -> str:
        rate = row.rates[place]
        if rate is None:
            return "-"
        return f"{rate:,.0f}" if abs(rate) >= 10 or rate == 0 else f"{rate:,.1f}"

    return read


def _table(
    frame: Frame, heading: list[str], sort: str | None, size: tuple[int, int] | None
) -> Table:
    """Return a frame as a table that fits a terminal of (columns, lines)."""
    lines = [*heading, *frame.sample.heading]
    every = len(frame.rows)
    if size is not None:
        room = max(size[1] - len(lines) - 1 - _FRAME_LINES, 1)
        frame = msgspec.structs.replace(frame, rows=frame.rows[:room])
    titles, rows, right = _cells(frame)
    hidden: list[str] = []
    if size is not None:
        shown = _fitting(titles, rows, size[0], sort)
        hidden = [title for place, title in enumerate(titles) if place not in shown]
        titles = [titles[place] for place in shown]
        rows = [[row[place] for place in shown] for row in rows]
        right = {number for number, place in enumerate(shown) if place in right}
    notes = []
    if every > len(rows):
        notes.append(f"{len(rows):,} of {every:,} rows")
    if hidden:
        notes.append(f"not shown: {', '.join(hidden)}")
    if notes:
        lines.append("; ".join(notes))
    return Table(
        titles, rows, right=right, heading=[line[: size[0]] if size else line for line in lines]
    )


def _fitting(titles: list[str], rows: list[list[str]], width: int, sort: str | None) -> list[int]:
    """Return the columns that fit side by side: the first ones, and what is sorted by."""
    widths = [max(map(len, column)) + _GAP for column in zip(titles, *rows, strict=True)]
    wanted = [place for place, title in enumerate(titles) if title == sort]
    left = width - sum(widths[place] for place in wanted)
    shown = set(wanted)
    for place in range(len(titles)):
        if place in shown:
            continue
        left -= widths[place]
        if left < 0 and shown:
            break
        shown.add(place)
    return sorted(shown)


def _plain_rows(frame: Frame) -> list[dict[str, Any]]:
    """Return the rows as they go into JSON and CSV: numbers as they are, rates beside them."""
    rows = []
    for row in frame.rows:
        said: dict[str, Any] = {}
        for field, value, rate in zip(frame.sample.fields, row.values, row.rates, strict=True):
            said[field.name] = field.plain(value)
            if _has_rate(field):
                said[field.name + RATE] = rate
        rows.append(said)
    return rows


def _title(field: EntryField) -> str:
    """Return the name of a field beside a column that is called `time`."""
    if field.name != "time":
        return field.name
    return "key.time" if field.identity else "value.time"


def _write_csv(frame: Frame, before: list[str], output: TextIO) -> list[str]:
    """Write a frame's rows under titles, which the first has, and one whose fields are others.

    The time is of this moment, in seconds since 1970. Returns the titles.
    """
    now = f"{time.time():.3f}"
    titles = ["time"]
    for field in frame.sample.fields:
        title = _title(field)
        titles += [title, title + RATE] if _has_rate(field) else [title]
    rows = [dict(zip(titles, [now, *row.values()], strict=True)) for row in _plain_rows(frame)]
    write_rows(rows, titles, output, headed=titles != before)
    output.flush()
    return titles


def _timed(frame: Frame) -> TimedFrame:
    """Return a frame as columns of an Arrow file, with the time of this moment."""
    from arenads.arrow_file import FrameColumn

    columns = []
    for place, field in enumerate(frame.sample.fields):
        title, values = _title(field), [row.values[place] for row in frame.rows]
        ctype = None if field.shorter else field.type
        columns.append(FrameColumn(title, values, ctype, "binary"))
        if _has_rate(field):
            rates = [row.rates[place] for row in frame.rows]
            columns.append(FrameColumn(title + RATE, rates, None, "double"))
    return time.time_ns() // 1_000_000, columns


def _json_line(frame: Frame, request: Request) -> str:
    return json_text(
        {
            "version": 1,
            "arena": request.pin,
            "name": request.name,
            "seconds": frame.seconds,
            "total": frame.sample.total,
            "notes": frame.sample.heading,
            "rows": _plain_rows(frame),
        }
    )


def show_top(request: Request, output: TextIO) -> bool:
    """Show frames until the count is reached, or `q` is pressed on the terminal.

    Returns whether what was sampled last could be read to its end.

    Raises
    ------
    OpenError, StructureAbsentError, DamagedError
    SchemaError
        There is no such field to sort or filter by; or as `write_frames`.
    """
    with Arena.open(request.pin, readonly=True) as arena:
        source = (
            _OfArena(arena, request)
            if request.name is None
            else _OfStructure(arena, request, request.name)
        )
        frames = _Frames(source, request)
        with Keys() as keys:
            if request.form == "arrow":
                from arenads.arrow_file import write_frames

                first = _timed(frames.take())
                with Live(output, screen=True) as live:
                    recorded = _record_frames(arena, request, frames, keys, live)
                    write_frames(request.arrow, arena, first, recorded)
            elif request.form == "text":
                with Live(output, screen=True) as live:
                    if live.size is None:
                        _print_frames(arena, request, frames, keys, output)
                    else:
                        _draw_frames(arena, request, frames, keys, live)
            else:
                _print_frames(arena, request, frames, keys, output)
        return frames.fine


def _heading(arena: Arena, request: Request) -> list[str]:
    return [f"{request.pin}: {arena.engine} engine, {arena.used:,} of {arena.size:,} bytes used"]


def _print_frames(
    arena: Arena, request: Request, frames: _Frames, keys: Keys, output: TextIO
) -> None:
    frames.take()
    shown = 0
    titles: list[str] = []
    while request.count is None or shown < request.count:
        if _pause(keys, request.interval):
            return
        frame = frames.take()
        if request.form == "csv":
            titles = _write_csv(frame, titles, output)
            shown += 1
            continue
        if request.form == "json":
            text = _json_line(frame, request)
        else:
            text = _table(frame, _heading(arena, request), request.sort, None).plain()
            text = f"\n{text}" if shown else text
        print(text, file=output, flush=True)
        shown += 1


def _record_frames(
    arena: Arena, request: Request, frames: _Frames, keys: Keys, live: Live
) -> Iterator[TimedFrame]:
    """Yield the frames of a file, and show each where there is a terminal."""
    recorded = 0
    while request.count is None or recorded < request.count:
        if _pause(keys, request.interval):
            return
        frame = frames.take()
        yield _timed(frame)
        recorded += 1
        if live.size is not None:
            heading = [*_heading(arena, request), f"{recorded:,} frames recorded; q ends it"]
            live.update(_table(frame, heading, request.sort, live.size))


def _pause(keys: Keys, seconds: float) -> bool:
    """Wait; whether the user wants to end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if keys.wait(left) == "q":
            return True
    return False


def _draw_frames(arena: Arena, request: Request, frames: _Frames, keys: Keys, live: Live) -> None:
    frame = frames.take()
    shown = 0
    until = "q quits"

    def draw() -> None:
        heading = [*_heading(arena, request), f"every {request.interval:g} s; {until}"]
        live.update(_table(frame, heading, request.sort, live.size))

    while True:
        draw()
        if request.count is not None and shown >= request.count:
            return
        end = time.monotonic() + request.interval
        while (left := end - time.monotonic()) > 0:
            key = keys.wait(left)
            if key == "q":
                return
            if key == "resize":
                draw()
        frame = frames.take()
        shown += 1
