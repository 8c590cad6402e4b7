"""Snapshots: all records of a structure, copied into memory of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from arenads._core import ffi, lib
from arenads.codec import Codec
from arenads.errors import NoMemoryError
from arenads.numpy_dtype import numpy_dtype

if TYPE_CHECKING:
    import numpy

    from arenads.arrow import Plan
    from arenads.structure import Structure

__all__ = ["Column", "Layout", "Records", "Snapshot", "take"]

T = TypeVar("T")

# Records that iteration decodes at a time.
_BATCH = 1024
# Records are laid out as C does, but not further apart than that for the alignment of their parts.
_MAX_ALIGN = 8


class Column(msgspec.Struct, frozen=True):
    """A part of every record of a snapshot: its name, where it begins, its type."""

    name: str
    offset: int
    codec: Codec[Any]


class Layout:
    """How the records of a structure lie in its snapshots, and what is made of that once.

    Attributes
    ----------
    columns : tuple of Column
    size : int
        Bytes of a record.
    source : (str, str)
        Kind and name of the structure.
    """

    def __init__(self, source: tuple[str, str], *named: tuple[str, Codec[Any]]) -> None:
        """Lay out columns as C does the members of a struct."""
        columns: list[Column] = []
        end, widest = 0, 1
        for name, codec in named:
            align = min(codec.schema.align, _MAX_ALIGN)
            columns.append(Column(name, -(-end // align) * align, codec))
            end = columns[-1].offset + codec.size
            widest = max(widest, align)
        self.columns = tuple(columns)
        self.size = -(-end // widest) * widest
        self.source = source
        self._dtypes: dict[bool, numpy.dtype[Any]] = {}
        self._plans: dict[bool, Plan] = {}

    def plan(self, flat: bool) -> Plan:
        """Return the plan of the Arrow columns."""
        if flat not in self._plans:
            from arenads.arrow import Plan

            self._plans[flat] = Plan(self, flat=flat)
        return self._plans[flat]

    def dtype(self, flat: bool) -> numpy.dtype[Any]:
        """Return the NumPy dtype of a record."""
        if flat not in self._dtypes:
            self._dtypes[flat] = self._dtype(flat)
        return self._dtypes[flat]

    def _dtype(self, flat: bool) -> numpy.dtype[Any]:
        parts: list[tuple[str, str, Any, int]] = []
        for column in self.columns:
            dtype = numpy_dtype(column.codec.schema)
            if flat and dtype.names:
                for name in dtype.names:
                    inner, offset = dtype.fields[name][:2]  # type: ignore[index]
                    parts.append((column.name, name, inner, column.offset + offset))
            else:
                parts.append(("", column.name, dtype, column.offset))
        import numpy  # is there: numpy_dtype has looked

        names = joined_names([part[:2] for part in parts])
        _, _, formats, offsets = zip(*parts, strict=True)
        return numpy.dtype(
            {
                "names": names,
                "formats": list(formats),
                "offsets": list(offsets),
                "itemsize": self.size,
            }
        )


def joined_names(parts: Sequence[tuple[str, str]]) -> list[str]:
    """Return names for (column, member) pairs: the member's, with the column's where it must be.

    >>> joined_names([("", "key"), ("key", "pid"), ("value", "pid"), ("value", "calls")])
    ['key', 'key.pid', 'value.pid', 'calls']
    """
    times = Counter(name for _, name in parts)
    return [f"{column}.{name}" if column and times[name] > 1 else name for column, name in parts]


class Records:
    """Memory that grows while records are put into it; a context that frees it on errors."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self._room = 0
        self.memory: Any = ffi.NULL

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        lib.core_block_release(self.memory)
        self.memory = ffi.NULL

    def reserve(self, room: int) -> None:
        """Make room for so many records in all."""
        if room != self._room:
            grown = lib.core_block_resize(self.memory, room * self.size)
            if grown == ffi.NULL:
                raise NoMemoryError(
                    f"no memory for a copy of {room} records of {self.size} bytes. Iterate, which"
                    " copies few at a time, or give the process more.",
                    size=room * self.size,
                )
            self.memory, self._room = grown, room

    @property
    def end(self) -> Any:
        """Where the next record goes."""
        return self.memory + self.count * self.size

    def more(self) -> int:
        """Return how many more records fit, which is at least one."""
        if self.count == self._room:
            self.reserve(self._room + max(self._room // 2, _BATCH))
        return min(self._room - self.count, _PIECE)

    def finish(self) -> Any:
        """Return the memory, which is freed when nobody holds it any more."""
        if self._room - self.count > self._room // 4:
            self.reserve(max(self.count, 1))
        memory = ffi.gc(self.memory, lib.core_block_release, self._room * self.size)
        self.memory = ffi.NULL
        return memory


# Records in one call of the C core: a signal or a close is seen in between.
_PIECE = 1 << 16


def take(
    structure: Structure[Any], layout: Layout, expected: int, read: Callable[[Records, int], Any]
) -> Snapshot[Any]:
    """Take a snapshot of about `expected` records.

    `read(records, room)` appends up to `room` records, and returns how many, 0 at the end, or an
    error of the C core.
    """
    with Records(layout.size) as records:
        # One more than there are: then the first call comes to the end.
        records.reserve(expected + 1)
        while True:
            room = records.more()
            structure.arena._open()
            count = read(records, room)
            structure._check(count)
            if not count:
                break
            records.count += count
        return Snapshot(records.finish(), records.count, layout)


class Snapshot(Generic[T]):
    """All records of a structure at about one time; made by `snapshot()`.

    It has a length, and by index and in iteration what the structure's `items` gives: (key, value)
    pairs, of a set keys, of a list (order, value), of an array (index, value), of a pool
    (address, value), of a queue values. It is a copy, which
    neither the arena nor its closing changes, and which cannot be changed. (It is no
    `collections.abc.Sequence`: polars would go through it item by item.)

    With NumPy, `array` is the same memory as a structured array. Without, pyarrow, polars, DuckDB
    and whatever else knows the Arrow PyCapsule interface take a snapshot as it is: records become
    structs, enums dictionaries.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     ages = arena.orderedmap("ages", key=arenads.u32, value=arenads.u64)
    ...     ages.update({2: 40, 1: 30})
    ...     taken = ages.snapshot()
    >>> taken[0], len(taken), taken.array["value"].tolist(), taken.nbytes
    ((1, 30), 2, [30, 40], 32)
    """

    def __init__(self, memory: Any, count: int, layout: Layout, *, flat: bool = False) -> None:
        self._memory = memory
        self._count = count
        self._layout = layout
        self._size = layout.size
        self._flat = flat
        self._array: Any = None

    def __repr__(self) -> str:
        kind, name = self._layout.source
        return f"<Snapshot of {kind} {name!r}, {self._count} records>"

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the records take."""
        return self._count * self._size

    def __iter__(self) -> Iterator[T]:
        for start in range(0, self._count, _BATCH):
            yield from self._decoded(start, min(_BATCH, self._count - start))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(self._count)[index]]
        return self._decoded(range(self._count)[index], 1)[0]

    def _decoded(self, start: int, count: int) -> list[Any]:
        view = ffi.buffer(self._memory + start * self._size, count * self._size)
        parts = [
            column.codec.unpack_many(view, self._size, column.offset, count)
            for column in self._layout.columns
        ]
        return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

    def flatten(self) -> Snapshot[T]:
        """Return the same records with the members of records as columns of their own.

        For consumers that know no structs, such as CSV files. Members that have the same name
        in key and value are called `key.name` and `value.name`. This is about `array` and Arrow;
        iteration stays what it is.

        >>> import arenads
        >>> import msgspec
        >>> Task = msgspec.defstruct("Task", [("pid", arenads.u32), ("calls", arenads.u64)])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.hashmap("tasks", key=arenads.u32, value=Task)
        ...     tasks[1] = Task(1, 10)
        ...     taken = tasks.snapshot()
        >>> taken.array.dtype.names, taken.flatten().array.dtype.names
        (('key', 'value'), ('key', 'pid', 'calls'))
        """
        return Snapshot(self._memory, self._count, self._layout, flat=True)

    # --- NumPy ---------------------------------------------------------------------------------

    @property
    def array(self) -> numpy.ndarray[Any, Any]:
        """The records as a structured array, read-only, on the same memory.

        Its fields are `key` and `value`; of a set `key`, of a list `order` and `value`, of an array
        `index` and `value`, of a pool `address` and `value`, of a queue `value`, of an intrusive
        list `order`, `address` and `value`. `numpy_dtype` says what becomes of each C type.

        Raises
        ------
        SchemaError
            NumPy is not installed.
        """
        if self._array is None:
            dtype = self._layout.dtype(self._flat)
            import numpy

            # Nobody makes the array of a read-only view writable: frombuffer() keeps the view.
            view = memoryview(ffi.buffer(self._memory, self.nbytes)).toreadonly()
            self._array = (
                numpy.frombuffer(view, dtype, self._count)
                if self._count
                else numpy.ndarray(0, dtype, b"")
            )
        return self._array  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.array
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"a snapshot of dtype {array.dtype} is no {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    # --- Arrow ---------------------------------------------------------------------------------

    def __arrow_c_schema__(self) -> object:
        """Return the Arrow schema of the records; `arenads.arrow` says what becomes of C types."""
        return self._layout.plan(self._flat).schema_capsule()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the records as a stream of Arrow arrays, of up to 1 048 576 records each.

        A requested schema is not heeded: consumers cast what they get.
        """
        return self._layout.plan(self._flat).stream_capsule(self._memory, self._count)
