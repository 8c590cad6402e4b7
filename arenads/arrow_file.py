"""`--arrow` of `arenads dump`, `ls` and `top`: snapshots, lists and frames in an Arrow IPC file."""

from __future__ import annotations

import contextlib
import functools
import importlib
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from arenads._core import ffi
from arenads.arena import Arena
from arenads.codec import Codec
from arenads.errors import ArenadsError, SchemaError
from arenads.ls import LISTED_COLUMNS, ListedArena, listed_rows
from arenads.replacing import replacing
from arenads.schema import CType, Schema
from arenads.snapshot import Layout, Records, Snapshot

__all__ = ["FrameColumn", "write_arrow", "write_frames", "write_listing"]


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
    with pyarrow.RecordBatchReader.from_stream(taken) as reader:
        _write_file(pyarrow, path, reader.schema, reader)


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
    _write_file(pyarrow, path, schema, table.to_batches())


# --- frames of `top` ------------------------------------------------------------------------


class FrameColumn(msgspec.Struct, frozen=True):
    """A column of a frame: its name, its values or None, and their type, in C or else in Arrow."""

    name: str
    values: Sequence[Any]
    type: CType | None
    arrow: str = ""


# Milliseconds since 1970, and the columns, of which there is one at least.
TimedFrame: TypeAlias = tuple[int, Sequence[FrameColumn]]


def write_frames(path: str, arena: Arena, first: TimedFrame, frames: Iterator[TimedFrame]) -> None:
    """Write the rows of frames as an Arrow IPC file, with the time in its first column.

    `first` says which columns there are; its rows are not written. The file comes into being when
    the frames end, also if an interrupt or an error ends them, which is raised then.

    Raises
    ------
    SchemaError
        pyarrow is not installed; or a frame has other columns: those before it are written.
    OSError
        The file cannot be written.
    """
    pyarrow = _pyarrow()
    _refuse_itself(path, os.stat(arena.fileno()))
    schema = _frame_batch(pyarrow, first).schema
    ended: list[BaseException] = []
    _write_file(pyarrow, path, schema, _frame_batches(pyarrow, schema, frames, ended))
    if ended:
        raise ended[0]


def _frame_batches(
    pyarrow: Any, schema: Any, frames: Iterator[TimedFrame], ended: list[BaseException]
) -> Iterator[Any]:
    """Yield frames as record batches; what ends them too early is put into `ended`."""
    try:
        for frame in frames:
            batch = _frame_batch(pyarrow, frame)
            if batch.schema != schema:
                raise SchemaError(
                    "what is watched was made anew with other columns, and an Arrow file has the"
                    f" same throughout: expected {', '.join(schema.names)}, found"
                    f" {', '.join(batch.schema.names)}. Write another file."
                )
            yield batch
    except (KeyboardInterrupt, SystemExit, ArenadsError) as error:
        ended.append(error)


def _frame_batch(pyarrow: Any, frame: TimedFrame) -> Any:
    milliseconds, columns = frame
    times = pyarrow.array([milliseconds] * len(columns[0].values), pyarrow.timestamp("ms", "UTC"))
    made = [(pyarrow.field("time", times.type), times)]
    for column in columns:
        if column.type is None:
            values = pyarrow.array(column.values, pyarrow.type_for_alias(column.arrow))
            made.append((pyarrow.field(column.name, values.type), values))
        elif column.type.size:  # as in snapshots
            made.append(_typed(pyarrow, column, column.type))
    fields, arrays = zip(*made, strict=True)
    return pyarrow.record_batch(list(arrays), pyarrow.schema(fields))


@functools.lru_cache(maxsize=256)
def _layout(name: str, ctype: CType) -> Layout:
    """Return the layout of a column, which is made once for all frames."""
    codec: Codec[Any] = Codec(Schema(ctype), frozen=True)
    return Layout(("column", name), (name, codec))


def _typed(pyarrow: Any, column: FrameColumn, ctype: CType) -> tuple[Any, Any]:
    """Return field and array of values of a C type: as a snapshot of them has them."""
    layout = _layout(column.name, ctype)
    codec = layout.columns[0].codec
    present = [codec.pack(value) for value in column.values if value is not None]
    with Records(codec.size) as records:
        records.reserve(max(len(present), 1))
        ffi.memmove(records.memory, b"".join(present), codec.size * len(present))
        records.count = len(present)
        table = pyarrow.table(Snapshot(records.finish(), records.count, layout))
    values = table.column(0).combine_chunks()
    if len(present) < len(column.values):
        places = iter(range(len(present)))
        taken = [None if value is None else next(places) for value in column.values]
        values = values.take(pyarrow.array(taken, pyarrow.int64()))
    return table.schema.field(0).with_nullable(True), values


# --- files ----------------------------------------------------------------------------------


def _write_file(pyarrow: Any, path: str, schema: Any, batches: Iterable[Any]) -> None:
    """Write record batches as an Arrow IPC file, which is there when it is whole.

    A file has one dictionary for a column, and those of the batches differ where values of an enum
    have no names. So the batches are kept elsewhere until all are there.
    """
    with replacing(path) as place, tempfile.TemporaryFile(dir=os.path.dirname(place)) as kept:
        writer = pyarrow.ipc.new_stream(kept, schema)
        end = kept.tell()
        for batch in batches:
            writer.write_batch(batch)
            end = kept.tell()
        if not end:  # without a batch a stream has not even its beginning
            writer.write_batch(pyarrow.RecordBatch.from_pylist([], schema=schema))
            end = kept.tell()
        kept.flush()
        with mmap.mmap(kept.fileno(), end, prot=mmap.PROT_READ) as view:
            _copy(pyarrow, view, place)


def _copy(pyarrow: Any, stream: mmap.mmap, place: str) -> None:
    """Write what an Arrow IPC stream has as a file; nothing holds the stream afterwards."""
    table = pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)).read_all()
    unified = pyarrow.ipc.IpcWriteOptions(unify_dictionaries=True)
    with pyarrow.ipc.new_file(place, table.schema, options=unified) as writer:
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
