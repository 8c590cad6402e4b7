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
        self._signals = (-1, -1)
        self._wakeup = -1

    def __enter__(self) -> Keys:
        self._signals = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A handler in Python runs between two instructions of it: a signal that comes just before
        # the system call that waits would not end the wait. This is written at once.
        self._wakeup = signal.set_wakeup_fd(self._signals[1], warn_on_full_buffer=False)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _on_resize)
        self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_end)
        if self._fd >= 0:
            self._mode = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def wait(self, seconds: float) -> str:
        """Return the key that was pressed, "resize", or "" after so many seconds."""
        watched = [self._signals[0], *([self._fd] if self._fd >= 0 else [])]
        ready, _, _ = select.select(watched, [], [], max(seconds, 0.0))
        if self._signals[0] in ready:
            return "resize" if signal.SIGWINCH in os.read(self._signals[0], 4096) else ""
        if ready:
            key = os.read(self._fd, 1)
            if not key:  # the terminal is gone
                return "q"
            return key.decode("latin-1")
        return ""

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
        signal.set_wakeup_fd(self._wakeup)
        for fd in self._signals:
            os.close(fd)


def _on_resize(number: int, frame: FrameType | None) -> None:
    """Nothing: without a handler the signal would be ignored, and nobody woken."""


def _on_end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
