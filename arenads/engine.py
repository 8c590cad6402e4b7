"""Which engine programs are loaded on, and why."""

from __future__ import annotations

from typing import Literal

from arenads import capabilities
from arenads.arena import Engine, choose_engine
from arenads.errors import LibbpfMissingError

__all__ = ["take_engine"]


def take_engine(engine: Engine = "auto") -> tuple[Literal["kernel", "native"], str]:
    """Return the engine that `arenads.load` takes here, and a sentence that says why.

    An arena can be made without CAP_PERFMON and without libbpf, but a program that uses it
    cannot be loaded: that is what this adds to `arenads.choose_engine`.

    Raises
    ------
    EngineError, LibbpfMissingError
        `engine` is "kernel", and it cannot work here.

    >>> take_engine("native")
    ('native', 'it was asked for')
    """
    chosen, reason = choose_engine(engine)
    if chosen == "kernel":
        if engine == "auto" and capabilities.missing("CAP_PERFMON"):
            return "native", "the kernel engine cannot load programs here: CAP_PERFMON is missing"
        from arenads import libbpf

        try:
            libbpf.version()
        except LibbpfMissingError as error:
            if engine != "auto":
                raise
            return "native", f"the kernel engine cannot load programs here: {error}"
    return chosen, reason
