"""An interrupt while the command line starts: its status and no traceback.

Most of the start is the import of this package, which no `try` of the command is around. So the
package imports this module first; in any other program it does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["INTERRUPTED", "end"]

INTERRUPTED = 128 + signal.SIGINT


def _is_command() -> bool:
    words = sys.orig_argv
    if sys.argv[:1] == ["-m"]:  # while Python looks for the module that it is to run
        return words[words.index("-m") + 1 :][:1] == ["arenads"] if "-m" in words else False
    script = os.path.realpath(sys.argv[0]) if sys.argv else ""
    return script == os.path.join(os.path.dirname(sys.executable), "arenads")


def _quit(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def end() -> None:
    """Let interrupts be exceptions again: from now on somebody catches them."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _quit)
