"""Data structures in a BPF arena, shared by BPF programs and Python without system calls.

    import arenads

    with arenads.load("tasks.bpf.c") as program:     # compiles, creates the arena, loads
        program.attach()
        for pid, stat in program["tasks"].items():   # plain memory accesses
            print(pid, stat.calls)

Arenas
    `create`, `open`, `unlink`, and what the first two return: `Arena`. `choose_engine` says which
    engine works here, `parse_size` what sizes may look like. `Arena.statistics` and `Arena.check`
    return `Statistics`, `ArenaReport` and its `HeapReport`.

Structures, made and found by methods of an arena
    Maps and sets: `HashMap`, `OrderedMap`, `Set`. Sequences: `ArrayMap`, `List`, `IntrusiveList`
    with its `Node`. Queues: `Queue`, `MpmcQueue`, `Ring`, `Rings`. Objects: `Pool`. All have
    `Counters` of what failed, most a `CheckReport` of where their entries are. A `Snapshot` is a
    copy of all records at once, for NumPy, Arrow and what reads those.

Records where they are
    `View` and `ArrayView`.

Types of records
    `u8`, `u16`, `u32`, `u64`, `i8`, `i16`, `i32`, `i64`, `f32`, `f64`, `char`, `Str`, `Bytes`,
    `Array`, `Ptr`; `Size`, `Bits`, `Align` and `packed` say more of them. `arenads.annotations`
    has the table. A `Schema` describes a type, a `Codec` packs and unpacks its records.

Programs
    `load` returns a `Program`, whose `run` returns a `RunResult`. `compile` makes objects of
    sources; `cflags` and `include_dir` are for builds of your own.

Errors
    All are `ArenadsError`. Any operation may raise `ClosedError` (the arena was closed),
    `RemovedError` (the structure was) or `DamagedError` (memory that cannot be what it claims);
    each write `ReadOnlyError`, and whatever takes a value `SchemaError` (it does not fit). The
    section Raises of a docstring has the others:

    arenas: `SizeError`, `OpenError`, `NotAPinError`, `WrongMapTypeError`, `BaseTakenError`,
    `AbiError`, `EndianError`, `PrivilegeError`, `LockdownError`, `EngineError`, `ArenaFullError`,
    `NameExistsError`, `StructureAbsentError`, `AddressError`;

    structures: `CapacityError`, `KeyAbsentError`, `KeyExistsError`, `RangeError`,
    `RecordSizeError`, `ReservationError`, `LinkedError`, `BudgetError`, `LayoutError`,
    `NoMemoryError`, `WritersError`;

    programs: `ObjectError`, `LoadError`, `ProgramTypeError`, `LibbpfMissingError`,
    `CompilerMissingError`, `CompileError`.
"""

from __future__ import annotations

import os as _os

from arenads import _startup as _startup  # first: see there
from arenads.annotations import (
    Align,
    Array,
    Bits,
    Bytes,
    Ptr,
    Size,
    Str,
    char,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    packed,
    u8,
    u16,
    u32,
    u64,
)
from arenads.arena import (
    Arena,
    ArenaReport,
    HeapReport,
    Statistics,
    _path_text,
    choose_engine,
    parse_size,
    remove_pin,
)
from arenads.array import ArrayMap
from arenads.codec import Codec
from arenads.compiler import cflags, compile, include_dir
from arenads.errors import *  # noqa: F403
from arenads.errors import __all__ as _errors
from arenads.hashmap import HashMap
from arenads.intrusive import IntrusiveList
from arenads.list import List
from arenads.mpmc import MpmcQueue
from arenads.node import Node
from arenads.orderedmap import OrderedMap
from arenads.pool import Pool
from arenads.program import Program, RunResult, load
from arenads.queue import Queue
from arenads.ring import Ring
from arenads.rings import Rings
from arenads.schema import Schema
from arenads.set import Set
from arenads.snapshot import Snapshot
from arenads.structure import CheckReport, Counters
from arenads.view import ArrayView, View

__version__ = "0.1.0"

create = Arena.create
open = Arena.open


def unlink(path: str | _os.PathLike[str]) -> None:
    """Remove a pin. The arena lives on while anything else holds it.

    Only the pin of an arena is removed: an arena map in a bpf file system, or a file in /dev/shm
    that starts as an arena. The rest of it may be damaged, cut short or of another version.

    Raises
    ------
    NotAPinError
        Nothing is there, or something else, or it may not be removed. Nothing was.
    PrivilegeError
        It may not be opened, so what it is cannot be told.

    >>> import arenads, tempfile
    >>> path = tempfile.mktemp(dir="/dev/shm")
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     arena.pin(path)
    ...     arenads.unlink(path)
    ...     arena.closed
    False
    """
    remove_pin(_path_text(path))


__all__ = [
    *_errors,
    "Align",
    "Arena",
    "ArenaReport",
    "Array",
    "ArrayMap",
    "ArrayView",
    "Bits",
    "Bytes",
    "CheckReport",
    "Codec",
    "Counters",
    "HashMap",
    "HeapReport",
    "IntrusiveList",
    "List",
    "Node",
    "OrderedMap",
    "MpmcQueue",
    "Pool",
    "Program",
    "Ptr",
    "Queue",
    "Ring",
    "Rings",
    "RunResult",
    "Schema",
    "Set",
    "Size",
    "Snapshot",
    "Statistics",
    "Str",
    "View",
    "cflags",
    "char",
    "choose_engine",
    "compile",
    "create",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "include_dir",
    "load",
    "open",
    "packed",
    "parse_size",
    "u8",
    "u16",
    "u32",
    "u64",
    "unlink",
]
