"""Tables for the command line: drawn with rich on a terminal, plain aligned text elsewhere.

>>> print(Table(("NAME", "COUNT"), [("a", 1), ("bc", 20)], right={1}).plain())
NAME  COUNT
a         1
bc       20
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

import msgspec

__all__ = ["Live", "Table", "json_text", "printable", "show", "write_csv", "write_rows"]


def printable(text: object) -> str:
    """Return text that cannot steer a terminal: process names come from anybody.

    >>> printable("a\\x1b[31mb\\n")
    'a?[31mb?'
    """
    return "".join(each if each.isprintable() else "?" for each in str(text))


def json_text(value: object) -> str:
    """Return a value as one line of JSON that cannot steer a terminal, and loses nothing.

    >>> json_text("a\\x1b[31m\\x9b")
    '"a\\\\u001b[31m\\\\u009b"'
    """
    text = msgspec.json.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def write_csv(titles: Sequence[str] | None, rows: Iterable[Sequence[str]], output: TextIO) -> None:
    """Write lines of CSV: in a file or a pipe as the data is, on a terminal what cannot steer it.

    >>> write_csv(["name", "count"], [["a, b", "1"]], sys.stdout)
    name,count
    "a, b",1
    """
    if output.isatty():
        titles = None if titles is None else [printable(title) for title in titles]
        rows = ([printable(cell) for cell in row] for row in rows)
    writer = csv.writer(output, lineterminator="\n")
    if titles is not None:
        writer.writerow(titles)
    writer.writerows(rows)


def write_rows(
    rows: Sequence[Mapping[str, object]],
    titles: Sequence[str],
    file: TextIO,
    *,
    headed: bool = True,
) -> None:
    """Write rows as CSV, under titles unless not `headed`; lists as JSON, and nothing for None.

    >>> write_rows([{"name": "a", "key": None, "flags": [1]}], ["name", "flags", "key"], sys.stdout)
    name,flags,key
    a,[1],
    """
    cells = ([_cell(row[title]) for title in titles] for row in rows)
    write_csv(titles if headed else None, cells, file)


def _cell(value: object) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    return msgspec.json.encode(value).decode()


class Table:
    """Rows of cells under titles, with lines of text above.

    Parameters
    ----------
    titles : sequence of str
    rows : sequence of sequences
        Cells are shown as `str` makes them, without what could steer a terminal.
    right : collection of int
        Columns that are aligned to the right: numbers.
    heading : sequence of str
        Lines above the table.
    marked : collection of int
        Rows that need attention; only drawn where there is colour.
    """

    def __init__(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        right: Collection[int] = (),
        heading: Sequence[str] = (),
        marked: Collection[int] = (),
    ) -> None:
        self.titles = list(titles)
        self.rows = [[printable(cell) for cell in row] for row in rows]
        self.right = frozenset(right)
        self.heading = [printable(line) for line in heading]
        self.marked = frozenset(marked)

    def plain(self) -> str:
        """Return the table as aligned text, without a line break at the end."""
        lines = [self.titles, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.titles))]
        aligned = (
            "  ".join(
                cell.rjust(width) if column in self.right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        return "\n".join([*self.heading, *aligned])

    def drawn(self) -> Any:
        """Return the table as something that rich can draw."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=SIMPLE_HEAD, pad_edge=False)
        for column, title in enumerate(self.titles):
            table.add_column(Text(title), justify="right" if column in self.right else "left")
        for number, row in enumerate(self.rows):
            # Text, not str: brackets in a cell are no markup.
            table.add_row(*map(Text, row), style="bold red" if number in self.marked else None)
        return Group(*map(Text, self.heading), table)


def _console(file: TextIO) -> Any:
    """A console of rich's, None where plain text is better: no terminal, or no rich."""
    if not file.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=file)


def show(table: Table, file: TextIO | None = None) -> None:
    """Print a table."""
    file = sys.stdout if file is None else file
    console = _console(file)
    if console is None:
        print(table.plain(), file=file)
    else:
        console.print(table.drawn())


class Live:
    """A table that is drawn again in place while something runs.

    Where that cannot be done, nothing is shown until the end; then the last table is printed once.
    With `screen` it has the whole screen of the terminal, which is as it was afterwards.
    """

    def __init__(self, file: TextIO | None = None, *, screen: bool = False) -> None:
        self._file = sys.stdout if file is None else file
        self._screen = screen
        self._live: Any = None
        self._last: Table | None = None

    def __enter__(self) -> Live:
        console = _console(self._file)
        if console is not None:
            from rich.live import Live as RichLive

            self._live = RichLive(console=console, auto_refresh=False, screen=self._screen)
            self._live.start()
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and lines of the terminal, as it is now; None where nothing is drawn in place."""
        if self._live is None:
            return None
        size = self._live.console.size
        return int(size.width), int(size.height)

    def update(self, table: Table) -> None:
        """Show this table instead of the one before."""
        self._last = table
        if self._live is not None:
            self._live.update(table.drawn(), refresh=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._last is not None and error is None:
            print(self._last.plain(), file=self._file)
