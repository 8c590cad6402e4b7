"""`--arrow` of `arenads dump` and `arenads ls`: a snapshot, or a listing, in an Arrow IPC file."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from arenads.arena import Arena
from arenads.errors import SchemaError
from arenads.ls import LISTED_COLUMNS, ListedArena, listed_rows
from arenads.replacing import replacing

__all__ = ["write_arrow", "write_listing"]


def write_arrow(pin: str, name: str | None, path: str) -> None:
    """Write all entries of a structure; the file is the old or the new one at every moment.

    Raises
    ------
    OpenError, StructureAbsentError, DamagedError
    SchemaError
        pyarrow is not installed, or there is no name and not one structure only.
    OSError
        The file cannot be written.
    """
    pyarrow = _pyarrow()
    with Arena.open(pin, readonly=True) as arena:
        names = [name] if name is not None else list(arena.structures)
        if len(names) != 1:
            raise SchemaError(
                "an Arrow file has the columns of one structure: expected its NAME; there are"
                f" {', '.join(map(repr, names)) or 'none'}"
            )
        structure: Any = arena.structures[names[0]]
        _refuse_itself(path, os.stat(arena.fileno()))
        if hasattr(structure, "snapshot"):
            taken = structure.snapshot()
        else:  # a ring, whose records are bytes of any length
            records = pyarrow.array(structure.records(), pyarrow.binary())
            taken = pyarrow.table({"record": records})
    with pyarrow.RecordBatchReader.from_stream(taken) as reader, replacing(path) as place:
        with pyarrow.ipc.new_file(place, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)


def write_listing(listed: ListedArena, path: str) -> None:
    """Write what `ls` found of an arena as an Arrow IPC file, a row for each structure.

    Raises
    ------
    SchemaError
        pyarrow is not installed.
    OSError
        The file cannot be written.
    """
    pyarrow = _pyarrow()
    with contextlib.suppress(OSError):
        _refuse_itself(path, os.stat(listed.arena))
    text, number = pyarrow.string(), pyarrow.uint64()
    others = {"flags": pyarrow.list_(text), "described": pyarrow.bool_()}
    others |= dict.fromkeys(("name", "kind", "key", "value", "error"), text)
    schema = pyarrow.schema([(name, others.get(name, number)) for name in LISTED_COLUMNS])
    table = pyarrow.Table.from_pylist(listed_rows(listed), schema=schema)
    with replacing(path) as place, pyarrow.ipc.new_file(place, schema) as writer:
        writer.write_table(table)


def _pyarrow() -> Any:
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise SchemaError(
            "writing Arrow files needs pyarrow: pip install 'arenads[arrow]'"
        ) from None


def _refuse_itself(path: str, arena: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(path), arena):
            raise SchemaError(f"{path} is the arena itself: expected another file to write to")
