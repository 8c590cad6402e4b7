"""How far a run is, on the terminal: drawn with rich on standard error, else not at all."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]


class Progress:
    """A bar with the cell that is being measured and the time that is left. A context manager."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not sys.stderr.isatty():
            return self
        try:
            from rich import progress
            from rich.console import Console
            from rich.table import Column
        except ImportError:
            return self
        self._progress = progress.Progress(
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            # Over all cells so far, which take unlike times.
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            # The rest of the line: a long title must not push the others out of it.
            progress.TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=Console(file=sys.stderr),
            expand=True,
            transient=True,
            speed_estimate_period=3600,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=self._total)
        return self

    def begin(self, title: str) -> None:
        """Name what is being measured from now on."""
        if self._progress is not None:
            self._progress.update(self._task, description=title)

    def step(self) -> None:
        """One cell is done."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
