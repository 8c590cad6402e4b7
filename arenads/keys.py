"""Wait for a key, a change of the terminal's size, or some time, whichever comes first."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Keys"]


class Keys:
    """Single keys from a terminal, without echo; the terminal is as before afterwards.

    Where standard input is no terminal there are no keys, and `wait` just waits. SIGTERM ends
    the program as an exception, so that the terminal is restored.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._mode: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._resized = (-1, -1)

    def __enter__(self) -> Keys:
        self._resized = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._on_resize)
        self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_end)
        if self._fd >= 0:
            self._mode = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def wait(self, seconds: float) -> str:
        """Return the key that was pressed, "resize", or "" after so many seconds."""
        watched = [self._resized[0], *([self._fd] if self._fd >= 0 else [])]
        ready, _, _ = select.select(watched, [], [], max(seconds, 0.0))
        if self._resized[0] in ready:
            os.read(self._resized[0], 4096)
            return "resize"
        if ready:
            key = os.read(self._fd, 1)
            if not key:  # the terminal is gone
                return "q"
            return key.decode("latin-1")
        return ""

    def _on_resize(self, number: int, frame: FrameType | None) -> None:
        try:
            os.write(self._resized[1], b"\0")
        except BlockingIOError:
            pass  # it will be read anyway

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mode is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._mode)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for fd in self._resized:
            os.close(fd)


def _on_end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
