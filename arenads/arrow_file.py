"""`arenads dump --arrow`: a snapshot of a structure in an Arrow IPC file."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from arenads.arena import Arena
from arenads.errors import SchemaError
from arenads.replacing import replacing

__all__ = ["write_arrow"]


def write_arrow(pin: str, name: str | None, path: str) -> None:
    """Write all entries of a structure; the file is the old or the new one at every moment.

    Raises
    ------
    OpenError, StructureAbsentError, DamagedError
    SchemaError
        pyarrow is not installed; there is no name and not one structure only; or it is of a kind
        that has no snapshots.
    OSError
        The file cannot be written.
    """
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.ipc")
    except ImportError:
        raise SchemaError(
            "writing Arrow files needs pyarrow: pip install 'arenads[arrow]'"
        ) from None
    with Arena.open(pin, readonly=True) as arena:
        names = [name] if name is not None else list(arena.structures)
        if len(names) != 1:
            raise SchemaError(
                "an Arrow file has the columns of one structure: expected its NAME; there are"
                f" {', '.join(map(repr, names)) or 'none'}"
            )
        structure: Any = arena.structures[names[0]]
        if not hasattr(structure, "snapshot"):
            raise SchemaError(
                f"{structure.kind_name} {names[0]!r} has no snapshots, which Arrow files are made"
                " of: expected a map, set, list or array; --json and --csv take any"
            )
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.stat(arena.fileno())):
                raise SchemaError(f"{path} is the arena itself: expected another file to write to")
        taken = structure.snapshot()
    with pyarrow.RecordBatchReader.from_stream(taken) as reader, replacing(path) as place:
        with pyarrow.ipc.new_file(place, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
