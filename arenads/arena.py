"""Arenas: create, open, pin, populate, close, and the directory of what is in them.

An arena is up to 4 GiB of memory that BPF programs and processes share. Every process maps
it at the same address, its *base*, so a pointer stored in it means the same everywhere.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import stat
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar, overload

import msgspec

from arenads import capabilities
from arenads._core import ffi, lib
from arenads.annotations import schema_of
from arenads.closing import Loan, release, retire, vacate
from arenads.comparison import compare
from arenads.errors import (
    AbiError,
    ArenadsError,
    ArenaFullError,
    BaseTakenError,
    BudgetError,
    CapacityError,
    ClosedError,
    DamagedError,
    EndianError,
    EngineError,
    LayoutError,
    LockdownError,
    NameExistsError,
    NotAPinError,
    OpenError,
    PrivilegeError,
    ReadOnlyError,
    SchemaError,
    SizeError,
    StructureAbsentError,
    WritersError,
    WrongMapTypeError,
)
from arenads.kinds import KINDS, KindOfStructure
from arenads.node import node_offset
from arenads.schema import (
    BytesType,
    Scalar,
    Schema,
    padding_of,
)
from arenads.stored import decode_stored, encode_stored
from arenads.structure import CheckReport
from arenads.view import View, view_at
from arenads.view_types import view_class

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from arenads.array import ArrayMap
    from arenads.hashmap import HashMap
    from arenads.intrusive import IntrusiveList
    from arenads.list import List
    from arenads.mpmc import MpmcQueue
    from arenads.orderedmap import OrderedMap
    from arenads.pool import Pool
    from arenads.queue import Queue
    from arenads.ring import Ring
    from arenads.rings import Rings
    from arenads.set import Set
    from arenads.structure import Structure

__all__ = [
    "Arena",
    "ArenaReport",
    "Engine",
    "HeapReport",
    "Statistics",
    "choose_engine",
    "parse_size",
]

Engine: TypeAlias = Literal["auto", "kernel", "native"]
Reclaim: TypeAlias = Literal["immediate", "grace"]
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

PAGE: int = lib.ADS_PAGE_SIZE
_CLOSED: int = lib.ADS_CLOSED
_NAMES_SHOWN = 20  # in the message about one that is not there
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_UNITS |= {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "page": PAGE, "pages": PAGE}


def parse_size(size: int | str, what: str = "size") -> int:
    """Turn a size into bytes, rounded up to whole pages of 4096 bytes.

    An integer is bytes; text is a number with KiB, MiB, GiB or "pages".

    Raises
    ------
    SizeError
        Zero, above 4 GiB, or not a size.

    >>> parse_size("64KiB"), parse_size("3 pages"), parse_size(1)
    (65536, 12288, 4096)
    """
    number: int | float
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([A-Za-z]*)\s*", size, re.ASCII)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise SizeError(
                f'{what}: expected bytes, or text such as "64MiB", "1GiB" or "512 pages";'
                f" found {size!r}",
                found=size,
            )
        number = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
    elif isinstance(size, int) and not isinstance(size, bool):
        number = size
    else:
        raise SizeError(f"{what}: expected a number of bytes or text, found {size!r}", found=size)
    if not 1 <= number <= lib.ADS_MAX_SIZE:
        raise SizeError(
            f"{what}: expected 1 byte to 4 GiB (4294967296 bytes), found {size!r}", found=size
        )
    return -(-int(number) // PAGE) * PAGE


def choose_engine(engine: str = "auto") -> tuple[Literal["kernel", "native"], str]:
    """Say which engine "auto" takes here, and why, by trying to create an arena map.

    Returns
    -------
    tuple
        The engine and the reason, a sentence.

    Raises
    ------
    EngineError
        The engine that was asked for cannot work here, or there is none of that name.

    >>> choose_engine("native")
    ('native', 'it was asked for')
    >>> choose_engine()[0] in ("kernel", "native")
    True
    """
    if engine not in ("auto", "kernel", "native"):
        raise EngineError(
            f'expected engine "auto", "kernel" or "native", found {engine!r}', reason="unknown"
        )
    if engine == "native":
        return "native", "it was asked for"
    fd = lib.ads_bpf_arena_create(PAGE, 0x200000000000, b"arenads_probe")
    if fd >= 0:
        os.close(fd)
        return "kernel", "this process can create BPF arenas"
    reason = str(_cannot_create(-fd))
    if engine == "kernel":
        raise EngineError(f"the kernel engine cannot work here: {reason}", errno=-fd, reason=reason)
    return "native", f"the kernel engine cannot work here: {reason}"


def _cannot_create(number: int) -> OpenError:
    """Explain why the kernel refused to create an arena map."""
    if number in (errno.EPERM, errno.EACCES):
        missing = capabilities.missing("CAP_BPF")
        if missing:
            return PrivilegeError(
                f"creating a BPF arena needs {' and '.join(missing)}, which this process lacks."
                " Run as root or grant them, or use engine='native'.",
                missing=tuple(missing),
            )
        lockdown = capabilities.lockdown()
        if lockdown not in (None, "none"):
            return LockdownError(
                f"kernel lockdown ({lockdown}) does not let this process create a BPF arena;"
                " use engine='native', or boot without lockdown",
                lockdown=lockdown,
            )
        return PrivilegeError(
            "the kernel refused to create a BPF arena (EPERM) although the capabilities are there:"
            " a container's seccomp filter or a security module stands in the way",
            missing=(),
        )
    if number == errno.EINVAL:
        return OpenError(
            "this kernel has no BPF arenas: expected Linux 6.9 or newer with CONFIG_BPF_JIT;"
            " use engine='native'",
            errno=number,
        )
    return OpenError(
        f"the kernel could not create a BPF arena: {os.strerror(number)}", errno=number
    )


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an arena holds, in bytes, and what went wrong, as counts since its creation.

    Attributes
    ----------
    size : int
        Bytes of the whole arena.
    populated : int
        Bytes that have pages: what the arena costs.
    used : int
        Bytes that structures have taken, of the populated ones.
    no_memory : int
        Allocations that found nothing populated.
    damaged : int
        Operations that met memory which cannot be what it claims.
    strays : int
        Threads that wrote without a line in the registry: a death of theirs is not reaped.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     found = arena.statistics()
    >>> found.size, found.used <= found.populated, found.no_memory, found.damaged, found.strays
    (1048576, True, 0, 0, 0)
    """

    size: int
    populated: int
    used: int
    no_memory: int
    damaged: int
    strays: int


class HeapReport(msgspec.Struct, frozen=True):
    """What the blocks of an arena are, and whether each belongs to something.

    Attributes
    ----------
    blocks : int
        Of all sizes, one after the other: structures, their chunks and tables, descriptions.
    unnamed, unnamed_bytes : int
        Blocks that no name leads to, and their bytes: of removed structures, of makers that died
        before the name, and what C programs have allocated for themselves. They stay.
    writers : int
        Threads in the registry of those that write.
    errors, error_at : int
        Things that no operation and no death can produce, and the offset of the first.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     jobs = arena.queue("jobs", value=arenads.u64)
    ...     before = arena.check().heap
    ...     arena.remove("jobs")
    ...     after = arena.check().heap
    >>> after.blocks == before.blocks, after.unnamed > before.unnamed, after.errors
    (True, True, 0)
    """

    blocks: int
    unnamed: int
    unnamed_bytes: int
    writers: int
    errors: int
    error_at: int


class ArenaReport(msgspec.Struct, frozen=True):
    """What `Arena.check` found.

    Attributes
    ----------
    directory : CheckReport
        Of the list of names: an entry leaks where somebody dies who names or removes a structure.
    heap : HeapReport
        Of the blocks of memory.

    >>> import arenads
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     report = arena.check()
    >>> report.directory.live, report.heap.errors
    (0, 0)
    """

    directory: CheckReport
    heap: HeapReport


_open_arenas: weakref.WeakSet[Arena] = weakref.WeakSet()


class Arena:
    """A mapped arena. Make one with `arenads.create` or `arenads.open`.

    Structures are made and found by name:

    >>> import arenads
    >>> from arenads import u32, u64
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     counts = arena.hashmap("counts", key=u32, value=u64, max_entries=100)
    ...     counts[7] = 42
    ...     arena.structures["counts"][7]
    42

    Another process opens it by its pin, or gets its descriptor:

    >>> import os, tempfile
    >>> path = tempfile.mktemp(dir="/dev/shm")  # of a kernel arena: below /sys/fs/bpf
    >>> with arenads.create("1MiB", engine="native") as arena:
    ...     arena.hashmap("counts", key=u32, value=u64)[7] = 42
    ...     arena.pin(path)
    >>> arena.closed
    True
    >>> with arenads.Arena.open(path, readonly=True) as arena:
    ...     arenads.unlink(path)
    ...     arena.engine, arena.readonly, arena.size, arena.base % (4 << 30)
    ...     arena.structures["counts"][7], arena.creation_id > 0
    ...     os.fstat(arena.fileno()).st_size
    ('native', True, 1048576, 0)
    (42, True)
    1048576

    Pages come as they are needed, if a process provisions; who wants them in advance populates:

    >>> with arenads.create("64MiB", engine="native", provision=None) as arena:
    ...     arena.populate("2MiB")
    ...     arena.populated >= arena.used + (2 << 20)
    ...     arena.provision("1MiB")  # from now on a thread does
    ...     arena.reap(), arena.reclaim()  # the same thread does these too
    ...     arena.close()
    True
    (0, 0)

    A context manager. Closing it drops this process's view; the arena lives as long as a pin, a
    program, another process or a file holds it. After `os.fork` the child has its own view at
    the same address.
    """

    def __init__(self, core: Any, engine: Literal["kernel", "native"], reason: str = "") -> None:
        self._core = core
        self._engine = engine
        self.reason = reason
        """Why this engine was taken, where "auto" chose."""
        self._provisioner: _Provisioner | None = None
        self._lock = threading.RLock()  # a signal handler or a finalizer may close, too
        # Held by whoever moves entries that nobody asked to move, or repairs: never two at once.
        self._keeping = threading.Lock()
        self._backing: Path | None = None
        self._loans: weakref.WeakSet[Loan] = weakref.WeakSet()
        _open_arenas.add(self)

    # --- make and open ------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        size: int | str = "64MiB",
        *,
        engine: Engine = "auto",
        base: int | None = None,
        populate: int | str = "1MiB",
        provision: int | str | None = "1MiB",
    ) -> Arena:
        """Create an arena.

        Parameters
        ----------
        size : int or str
            Bytes, or text such as "64MiB" or "512 pages"; at most 4 GiB. Pages come into being
            when they are needed.
        engine : "auto", "kernel" or "native"
            Who backs the memory. "auto" takes the kernel if it can.
        base : int, optional
            The address, a multiple of 4 GiB; normally a free window is chosen.
        populate : int or str
            Pages to make at once. BPF programs cannot make any.
        provision : int or str, optional
            While this process has the arena open, a thread keeps so much populated ahead
            of what is used. None: no thread; use `Arena.populate`.

        Raises
        ------
        SizeError, BaseTakenError, PrivilegeError, LockdownError, EngineError, ArenaFullError

        >>> import arenads
        >>> with arenads.create("16MiB", engine="native", populate="2MiB") as arena:
        ...     arena.size, arena.populated >= 2 << 20
        (16777216, True)
        """
        length = parse_size(size)
        ahead = min(parse_size(populate, "populate"), length)
        distance = None if provision is None else parse_size(provision, "provision")
        _check_base(base)
        chosen, reason = choose_engine(engine)
        if base is not None:
            vacate(base)
        fd = lib.ADS_IN_KERNEL if chosen == "kernel" else _backing_file(length)
        core = ffi.new("struct ads_arena *")
        code = lib.ads_arena_create(core, length, base or 0, fd, ahead)
        if code:
            if fd >= 0:
                os.close(fd)
            if code == lib.ADS_BASE_TAKEN:
                _refuse_base(base)
            if code == lib.ADS_NO_MEMORY:
                raise ArenaFullError(
                    f"{ahead} bytes could not be populated: the machine, the memory cgroup or"
                    " the file system has no room. Ask for a smaller `populate`.",
                    name=None,
                    needed=ahead,
                    size=length,
                    used=0,
                )
            if chosen == "kernel" and code != -errno.EOVERFLOW:
                raise _cannot_create(-code)
            raise _cannot_map("the arena", -code)
        arena = cls(core, chosen, reason)
        if distance is not None:
            arena.provision(distance)
        return arena

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        map_id: int | None = None,
        fd: int | None = None,
        readonly: bool = False,
    ) -> Arena:
        """Open an arena that exists: by the path of its pin, by map id, or by descriptor.

        A descriptor is duplicated. With `readonly` the memory is mapped without write
        permission, and every mutation raises `ReadOnlyError`.

        Parameters
        ----------
        path : path, optional
        map_id : int, optional
            As `bpftool map list` shows it; kernel engine only.
        fd : int, optional
        readonly : bool

        Raises
        ------
        NotAPinError, WrongMapTypeError, BaseTakenError, AbiError, EndianError, DamagedError,
        PrivilegeError
        OpenError
            Not one of `path`, `map_id` and `fd` was given; or the base of those above.

        >>> import arenads, os
        >>> arena = arenads.create("1MiB", engine="native")
        >>> fd = os.dup(arena.fileno())  # or one that was inherited, or came over a socket
        >>> arena.close()
        >>> with arenads.open(fd=fd) as again:
        ...     again.size
        1048576
        >>> os.close(fd)
        """
        given = [what for what in (path, map_id, fd) if what is not None]
        if len(given) != 1:
            raise OpenError(
                f"expected one of path, map_id and fd, found {len(given)}", errno=errno.EINVAL
            )
        place, own = _descriptor(path, map_id, fd, readonly)
        core = ffi.new("struct ads_arena *")
        try:
            kernel, where = _check_probe(own, place)
            vacate(where)
            code = lib.ads_arena_open(core, own, readonly)
            if code:
                _refuse_open(code, own, place, core)
        except BaseException:
            os.close(own)
            raise
        return cls(core, "kernel" if kernel else "native", "the arena is of this kind")

    # --- what it is ---------------------------------------------------------------------

    @property
    def engine(self) -> Literal["kernel", "native"]:
        """Who backs the memory."""
        return self._engine

    @property
    def size(self) -> int:
        """Bytes of the whole arena."""
        return int(self._open().size)

    @property
    def base(self) -> int:
        """Address of offset 0, in every process."""
        return int(ffi.cast("uintptr_t", self._open().base))

    @property
    def readonly(self) -> bool:
        """Whether mutations are refused."""
        return bool(self._core.flags & lib.ADS_READONLY)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return bool(self._core.flags & _CLOSED)

    @property
    def creation_id(self) -> int:
        """A random number that tells this arena from any other, also one at the same pin."""
        return int(self._root().creation_id)

    def fileno(self) -> int:
        """Return the descriptor of the map or file; it stays the arena's."""
        return int(self._open().fd)

    def statistics(self) -> Statistics:
        """Count bytes and failures.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native", populate="64KiB") as arena:
        ...     arena.statistics().populated <= 1 << 20
        True
        """
        root = self._root()
        return Statistics(
            size=self.size,
            populated=int(root.populated),
            used=int(root.cursor) + 8,
            no_memory=int(root.no_memory),
            damaged=int(root.damaged),
            strays=int(root.strays),
        )

    @property
    def populated(self) -> int:
        """Bytes that have pages."""
        return int(self._root().populated)

    @property
    def used(self) -> int:
        """Bytes taken by structures."""
        return int(self._root().cursor) + 8

    def __repr__(self) -> str:
        if self.closed:
            return "<Arena closed>"
        how = ", read-only" if self.readonly else ""
        return f"<Arena {self._engine}, {self.size} bytes at {self.base:#x}{how}>"

    # --- pins ---------------------------------------------------------------------------

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the arena a path by which other processes open it, and which keeps it alive.

        The path must not exist. Kernel arenas are pinned in a bpf file system, native ones
        in /dev/shm. Remove a pin with `arenads.unlink`.

        Raises
        ------
        NameExistsError
            Something is at that path.
        NotAPinError
            It is in no file system for pins, or may not be made.
        """
        place = _path_text(path)
        self._open()
        if self._engine == "kernel":
            code = lib.ads_bpf_pin(self._core.fd, os.fsencode(place))
            number = -code
        else:
            number = _link_file(int(self._core.fd), place)
        if number:
            raise self._pin_error(place, number)

    def _pin_error(self, place: str, number: int) -> ArenadsError:
        if number == errno.EEXIST:
            remedy = "choose another path"
            with contextlib.suppress(ArenadsError):
                _check_pin(place)
                remedy += ", or remove it with arenads.unlink"
            return NameExistsError(f"{place} exists already: {remedy}", path=place)
        if number == errno.EPERM and not os.access(os.path.dirname(place) or ".", os.W_OK):
            number = errno.EACCES
        if self._engine == "kernel":
            what = "a path in a mounted bpf file system (mount -t bpf none /sys/fs/bpf)"
        else:
            what = "a path below /dev/shm, where native arenas live"
            if number == errno.ENOENT and os.path.isdir(os.path.dirname(place) or "."):
                return NotAPinError(
                    f"{place}: this arena cannot be pinned, since /dev/shm had no room for its"
                    " size when it was created; make room, or pass its descriptor on",
                    errno=errno.EXDEV,
                    path=place,
                )
        return NotAPinError(
            f"the arena could not be pinned at {place}: expected {what}; found"
            f" {os.strerror(number)}",
            errno=number,
            path=place,
        )

    # --- memory -------------------------------------------------------------------------

    def populate(self, size: int | str) -> None:
        """Make sure that at least `size` bytes are populated beyond what is used.

        Raises
        ------
        ArenaFullError
            The arena is not that large, or the machine has no memory.
        ReadOnlyError, SizeError
        """
        distance = parse_size(size)
        core = self._writable()
        cursor = int(self._root().cursor)
        if cursor > self.size:
            self._damaged(f"the cursor is at {cursor:#x}", lib.ADS_ROOT_OFFSET)
        self._check(lib.ads_arena_populate(core, cursor + distance), needed=distance)

    def provision(self, distance: int | str | None) -> None:
        """Keep `distance` bytes populated ahead of what is used, from a thread of its own.

        BPF programs cannot make pages: without this they get no memory once they have used up
        what was there. The thread also grows the tables of hash maps that programs fill and
        cannot grow for want of memory, lets entries that wait for a grace period be used again,
        and gives back what killed processes had in hand. None stops it.

        Raises
        ------
        ReadOnlyError, SizeError
        """
        length = None if distance is None else parse_size(distance, "distance")
        core = self._writable()
        with self._lock:
            if self._provisioner is not None:
                self._provisioner.stop()
                self._provisioner = None
            if length is not None:
                self._check(min(lib.ads_arena_provision(core, length), 0))
                self._provisioner = _Provisioner(core, length, self._keeping)

    def check(self, *, repair: bool = False, force: bool = False) -> ArenaReport:
        """Check what is of no structure: the directory, blocks and who owns them, the registry.

        Structures that have entries have a `check` of their own. Checking is safe at any time.
        With `repair` leaked entries of the directory are given back: for when nobody writes, as
        the `check` of a structure says.

        Raises
        ------
        ReadOnlyError, WritersError
            Only with `repair`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.list("numbers", value=arenads.u32)
        ...     report = arena.check()
        >>> report.directory.live, report.heap.unnamed, report.heap.errors
        (1, 0, 0)
        """
        core = self._writable() if repair else self._open()
        names = ffi.new("struct ads_check_report *")
        if repair:
            self._refuse_repair(force)
            with self._keeping:
                self._check(lib.ads_directory_check(core, 1, names))
        else:
            self._check(lib.ads_directory_check_live(core, names))
        heap = ffi.new("struct ads_heap_report *")
        self._check(lib.ads_heap_check(core, heap))
        return ArenaReport(
            CheckReport._of(names),
            HeapReport(*(int(getattr(heap, name)) for name in HeapReport.__struct_fields__)),
        )

    @overload
    def view(self, address: int | View[Any], type: TypeForm[T]) -> View[T]: ...
    @overload
    def view(self, address: int | View[Any], type: object) -> View[Any]: ...
    def view(self, address: int | View[Any], type: object) -> View[Any]:
        """Return a view of a record at an address: its fields, in place.

        Parameters
        ----------
        address : int
            As pointers in the arena have it, or a view of the same place.
        type : class, annotation, Schema or Record
            A msgspec Struct class with C types, an annotation such as `arenads.u64` or
            `arenads.Array[u32, 8]`, the schema of a structure's records (`value_type`), or the
            class of another view.

        Raises
        ------
        AddressError
            No object of the type can be there: NULL, outside of the arena, not populated or
            not at a multiple of its alignment (of 8, where that is more). Whether one is there,
            the caller knows.
        SchemaError
            The type has no C form.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     pairs = arena.pool("pairs", value=arenads.Array[arenads.u32, 2])
        ...     address = pairs.alloc([1, 2])
        ...     second = arena.view(address + 4, arenads.u32)
        ...     second.value = 7
        ...     pairs[address]
        [1, 7]
        """
        return view_at(self, address, view_class(type))

    # --- structures -----------------------------------------------------------------------

    @property
    def structures(self) -> Mapping[str, Any]:
        """The named structures of the arena, by name; read anew at each access.

        A type checker cannot know what is found, so it is Any to it; `hashmap` and the like open
        what exists too, and say its types.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.queue("jobs", value=arenads.u32)
        ...     list(arena.structures), arena.structures["jobs"].kind_name
        (['jobs'], 'queue')
        """
        return _Directory(self)

    @overload
    def hashmap(
        self,
        name: str,
        *,
        key: TypeForm[K],
        value: TypeForm[V],
        max_entries: int = ...,
        initial_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> HashMap[K, V]: ...
    @overload
    def hashmap(
        self,
        name: str,
        *,
        key: object,
        value: object,
        max_entries: int = ...,
        initial_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> HashMap[Any, Any]: ...
    def hashmap(
        self,
        name: str,
        *,
        key: object,
        value: object,
        max_entries: int = 1024,
        initial_entries: int = 32,
        reclaim: Reclaim = "immediate",
    ) -> HashMap[Any, Any]:
        """Make the hash map `name`, or open it if it exists with the same types.

        `key` and `value` are C types (`arenads.u32`, a msgspec Struct class with C types, a
        schema). The map starts with room for `initial_entries` and grows up to `max_entries`
        as it fills; with both the same it never grows, and takes its table's memory now. An
        existing map keeps its own numbers.

        `reclaim` says when a deleted or replaced entry is used again: "immediate", as in a
        preallocated kernel hash map; or "grace": not before all BPF programs have ended (but
        sleepable ones) that may hold a pointer into it. Then entries that wait count towards
        `max_entries`, and a process must have the arena open with `provision`, or call
        `Arena.reclaim`.

        Raises
        ------
        LayoutError
            It exists with other types; the message shows both.
        ArenaFullError, SchemaError, NameExistsError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.Str[16], value=arenads.u32)
        ...     ages["ada"] = 36
        ...     arena.hashmap("ages", key=arenads.Str[16], value=arenads.u32)["ada"]
        36
        """
        made: HashMap[Any, Any] = self._hashed(
            lib.ADS_KIND_HASHMAP, name, key, value, max_entries, initial_entries, reclaim
        )
        return made

    @overload
    def set(
        self,
        name: str,
        *,
        key: TypeForm[K],
        max_entries: int = ...,
        initial_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> Set[K]: ...
    @overload
    def set(
        self,
        name: str,
        *,
        key: object,
        max_entries: int = ...,
        initial_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> Set[Any]: ...
    def set(
        self,
        name: str,
        *,
        key: object,
        max_entries: int = 1024,
        initial_entries: int = 32,
        reclaim: Reclaim = "immediate",
    ) -> Set[Any]:
        """Make the set `name`, or open it: a hash map without values. See `hashmap`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     seen = arena.set("seen", key=arenads.u32)
        ...     seen.add(7)
        ...     7 in seen
        True
        """
        made: Set[Any] = self._hashed(
            lib.ADS_KIND_SET, name, key, None, max_entries, initial_entries, reclaim
        )
        return made

    @overload
    def orderedmap(
        self,
        name: str,
        *,
        key: TypeForm[K],
        value: TypeForm[V],
        max_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> OrderedMap[K, V]: ...
    @overload
    def orderedmap(
        self,
        name: str,
        *,
        key: object,
        value: object,
        max_entries: int = ...,
        reclaim: Reclaim = ...,
    ) -> OrderedMap[Any, Any]: ...
    def orderedmap(
        self,
        name: str,
        *,
        key: object,
        value: object,
        max_entries: int = 1024,
        reclaim: Reclaim = "immediate",
    ) -> OrderedMap[Any, Any]:
        """Make the ordered map `name`, or open it: keys are integers, bytes or text. See `hashmap`.

        Raises
        ------
        SchemaError
            Keys of this type have no order.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     due = arena.orderedmap("due", key=arenads.u64, value=arenads.u32)
        ...     due.update({200: 2, 100: 1})
        ...     due.first()
        (100, 1)
        """
        from arenads.orderedmap import key_flags

        if key is None:
            raise SchemaError(f"key of {name!r}: expected a C type, found None")
        flags = key_flags(name, schema_of(key)) | lib.ADS_LIVES | _reclaim_flags(reclaim)

        def create(core: Any, ref: Any) -> int:
            if not flags & lib.ADS_BYTES:
                ref.key_size = 0  # an integer is its order
            return int(lib.ads_orderedmap_create(core, ref, max_entries))

        kind = lib.ADS_KIND_ORDEREDMAP
        made: OrderedMap[Any, Any] = self._structure(
            kind, name, key, value, max_entries, create, flags
        )
        return made

    def _hashed(
        self,
        kind: int,
        name: str,
        key: object,
        value: object,
        max_entries: int,
        initial_entries: int,
        reclaim: Reclaim,
    ) -> Any:
        _check_count("initial_entries", initial_entries)

        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_hashmap_create(core, kind, ref, max_entries, initial_entries))

        flags = _reclaim_flags(reclaim)
        return self._structure(kind, name, key, value, max_entries, create, flags)

    @overload
    def list(self, name: str, *, value: TypeForm[V], max_entries: int = ...) -> List[V]: ...
    @overload
    def list(self, name: str, *, value: object, max_entries: int = ...) -> List[Any]: ...
    def list(self, name: str, *, value: object, max_entries: int = 1024) -> List[Any]:
        """Make the ordered list `name`, or open it. See `hashmap`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.list("events", value=arenads.u32)
        ...     order = events.push(1)
        ...     list(events)
        [1]
        """
        made: List[Any] = self._collection(lib.ADS_KIND_LIST, name, value, max_entries)
        return made

    @overload
    def queue(self, name: str, *, value: TypeForm[V], max_entries: int = ...) -> Queue[V]: ...
    @overload
    def queue(self, name: str, *, value: object, max_entries: int = ...) -> Queue[Any]: ...
    def queue(self, name: str, *, value: object, max_entries: int = 1024) -> Queue[Any]:
        """Make the queue `name`, or open it; its slots are rounded up to a power of two.

        See `hashmap`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.queue("jobs", value=arenads.u32, max_entries=100)
        ...     jobs.push(7)
        ...     jobs.pop(), jobs.max_entries
        (7, 128)
        """

        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_queue_create(core, ref, max_entries))

        kind = lib.ADS_KIND_QUEUE
        made: Queue[Any] = self._structure(kind, name, None, value, max_entries, create)
        return made

    @overload
    def mpmc(self, name: str, *, value: TypeForm[V], max_entries: int = ...) -> MpmcQueue[V]: ...
    @overload
    def mpmc(self, name: str, *, value: object, max_entries: int = ...) -> MpmcQueue[Any]: ...
    def mpmc(self, name: str, *, value: object, max_entries: int = 1024) -> MpmcQueue[Any]:
        """Make the queue `name` for many producers and consumers, or open it. See `queue`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     jobs = arena.mpmc("jobs", value=arenads.u32)
        ...     jobs.push(7)
        ...     jobs.pop()
        7
        """

        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_mpmc_create(core, ref, max_entries))

        kind = lib.ADS_KIND_MPMC
        made: MpmcQueue[Any] = self._structure(kind, name, None, value, max_entries, create)
        return made

    @overload
    def pool(self, name: str, *, value: TypeForm[V], max_entries: int = ...) -> Pool[V]: ...
    @overload
    def pool(self, name: str, *, value: object, max_entries: int = ...) -> Pool[Any]: ...
    def pool(self, name: str, *, value: object, max_entries: int = 1024) -> Pool[Any]:
        """Make the pool of objects `name`, or open it. See `hashmap`.

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     numbers = arena.pool("numbers", value=arenads.u64)
        ...     numbers[numbers.alloc(42)]
        42
        """
        made: Pool[Any] = self._collection(lib.ADS_KIND_POOL, name, value, max_entries)
        return made

    @overload
    def array(self, name: str, *, value: TypeForm[V], max_entries: int) -> ArrayMap[V]: ...
    @overload
    def array(self, name: str, *, value: object, max_entries: int) -> ArrayMap[Any]: ...
    def array(self, name: str, *, value: object, max_entries: int) -> ArrayMap[Any]:
        """Make the array `name` of `max_entries` elements, or open it. See `hashmap`.

        All elements are zero at first and take no memory: it comes 16 KiB at a time, as elements
        are touched for the first time. The number of elements is part of what an array is:
        one that exists with another number is another one.

        Raises
        ------
        NameExistsError, LayoutError, ArenaFullError, SchemaError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     counts = arena.array("counts", value=arenads.u64, max_entries=1000)
        ...     counts[7], len(counts)
        (0, 1000)
        """

        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_array_create(core, ref, max_entries))

        kind = lib.ADS_KIND_ARRAY
        made: ArrayMap[Any] = self._structure(kind, name, None, value, max_entries, create)
        return made

    def ring(
        self,
        name: str,
        *,
        size: int | str = "64KiB",
        max_entries: int | None = None,
        overwrite: bool = False,
    ) -> Ring:
        """Make the ring of byte records `name`, or open it if it exists with the same mode.

        Parameters
        ----------
        size : int or str
            Bytes, or text such as "64KiB"; rounded up to a power of two. A record takes at most
            half of that.
        max_entries : int, optional
            Bytes as a number, instead of `size` and not rounded up to pages before; 64 at least.
        overwrite : bool
            The oldest records make room when it is full, as in a flight recorder; else pushing
            is refused then.

        Raises
        ------
        ArenaFullError, SizeError, SchemaError, NameExistsError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     log = arena.ring("log", size="4KiB", overwrite=True)
        ...     log.push(b"started")
        ...     log.size, log.pop()
        (4096, b'started')
        """
        count = parse_size(size) if max_entries is None else max_entries
        flags = lib.ADS_OVERWRITE if overwrite else 0

        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_ring_create(core, ref, count))

        made: Ring = self._structure(lib.ADS_KIND_RING, name, None, None, count, create, flags)
        return made

    def rings(
        self,
        name: str,
        *,
        size: int | str = "64KiB",
        count: int | None = None,
        max_entries: int | None = None,
        overwrite: bool = False,
    ) -> Rings:
        """Make rings of byte records for many producers, or open them if they exist.

        They are the rings `name.0`, `name.1` and so on of the arena's directory.

        Parameters
        ----------
        size : int or str
            Bytes of each, see `ring`. Rings that exist keep theirs.
        count : int, optional
            How many, 64 at most. Without it: one for each CPU of this machine, at least 2, or as
            many as there are.
        max_entries : int, optional
            Bytes of each as a number, see `ring`.
        overwrite : bool
            The oldest records of a ring make room when it is full.

        Raises
        ------
        ArenaFullError, SizeError, SchemaError, NameExistsError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     events = arena.rings("events", size="4KiB", count=2)
        ...     events.push(b"started")
        ...     list(arena.structures), events.drain()
        (['events.1', 'events.0'], [b'started'])
        """
        from arenads.rings import open_rings

        length = parse_size(size) if max_entries is None else max_entries
        _check_count("max_entries", length)
        return open_rings(self, name, length, count, lib.ADS_OVERWRITE if overwrite else 0)

    def intrusive(self, name: str, *, pool: Pool[Any] | str, member: str | int) -> IntrusiveList:
        """Make the intrusive list `name`, or open it.

        Its records are objects of `pool`, linked by their member of type `arenads.Node` that
        `member` names (or whose offset it is).

        Raises
        ------
        SchemaError
            The records have no such node.
        NameExistsError
            It exists as a list of another pool, or by another node.
        StructureAbsentError, ArenaFullError

        >>> import arenads, msgspec
        >>> from arenads import Node, u32
        >>> Task = msgspec.defstruct("Task", [("pid", u32), ("node", Node, Node())])
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     tasks = arena.pool("tasks", value=Task)
        ...     ready = arena.intrusive("ready", pool="tasks", member="node")
        ...     order = ready.push(tasks.alloc(Task(7)))
        ...     [task.pid for task in ready.views()]
        [7]
        """
        from arenads.pool import Pool

        records = self.structures[pool] if isinstance(pool, str) else pool
        if not isinstance(records, Pool) or records.arena is not self:
            raise SchemaError(
                f"intrusive list {name!r}: expected a pool of this arena or its name, found"
                f" {pool!r}"
            )
        node = node_offset(records.value_type, member)
        kind = lib.ADS_KIND_INTRUSIVE

        def create(core: Any, ref: Any) -> int:
            return int(lib.core_intrusive_create(core, ref, records._handle, node))

        made: IntrusiveList = self._structure(
            kind, name, None, records.value_type, records.max_entries, create
        )
        if (made._pool_offset, made._node) != (records.offset, node):
            raise NameExistsError(
                f"{name!r} exists as an intrusive list of pool {made.pool.name!r} by member"
                f" {made.member!r}; expected pool {records.name!r}, member {member!r}. Choose"
                " another name.",
                name=name,
            )
        made.pool = records
        return made

    def _collection(self, kind: int, name: str, value: object, max_entries: int) -> Any:
        def create(core: Any, ref: Any) -> int:
            return int(lib.ads_hashmap_create(core, kind, ref, max_entries, 1))

        return self._structure(kind, name, None, value, max_entries, create)

    def remove(self, name: str) -> None:
        """Remove a structure: its name is free again.

        Operations on it, by whoever has it open, raise `RemovedError` from now on, and return
        ADS_REMOVED in BPF programs. Its memory stays its own, since somebody may be reading it.

        Raises
        ------
        StructureAbsentError, ReadOnlyError

        >>> import arenads
        >>> with arenads.create("1MiB", engine="native") as arena:
        ...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u32)
        ...     arena.remove("ages")
        ...     list(arena.structures)
        []
        """
        code = lib.ads_directory_remove(self._writable(), padded_name(name))
        if code == lib.ADS_ABSENT:
            raise self._absent(name)
        self._check(code)

    def _absent(self, name: str) -> StructureAbsentError:
        """Return the error for a name that was not found; raise DamagedError if it is listed."""
        listed = dict(self._entries())
        self._check_findable(name, listed)
        names = list(listed)
        have = ", ".join(map(repr, names[:_NAMES_SHOWN])) or "nothing"
        if len(names) > _NAMES_SHOWN:
            have += f" and {len(names) - _NAMES_SHOWN} more"
        close = difflib.get_close_matches(name, names, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        return StructureAbsentError(
            f"no structure {name!r} in this arena; its directory has {have}.{meant}", name=name
        )

    def _check_findable(self, name: object, listed: dict[str, Any]) -> None:
        """Raise DamagedError if a name that is listed cannot be found."""
        named = listed.get(name) if isinstance(name, str) else None
        if named is None:
            return
        with contextlib.suppress(SchemaError):  # no name that anybody could have given
            if self._find(padded_name(str(name))) is not None:
                return  # made meanwhile
        # Offsets are never used again: the same one in both walks was there in between, too.
        again = dict(self._entries()).get(str(name))
        if again is not None and again.offset == named.offset:
            self._damaged(f"the directory lists {name!r}, and does not find it", int(named.offset))

    def reclaim(self) -> int:
        """Wait for one grace period and give the entries that waited for it back; say how many.

        For structures made with `reclaim="grace"`; the thread that provisions does it too.

        Raises
        ------
        ReadOnlyError
        """
        core = self._writable()
        with self._keeping:
            given = int(lib.ads_directory_reclaim(core))
        self._check(given)
        return given

    def reap(self) -> int:
        """Give back entries that killed threads had in hand; say how many.

        Safe while BPF programs and other processes go on. The thread that provisions does it
        about once a second.

        Raises
        ------
        ReadOnlyError, CapacityError
            There is no line for this thread in the arena's registry of writing threads.
        """
        core = self._writable()
        with self._keeping:
            given = int(lib.ads_owner_reap(core, ffi.NULL))
        if given == lib.ADS_FULL:
            raise CapacityError(
                "this thread is not registered as a writer: the arena's registry is full, or the"
                " arena is too small to have one",
            )
        self._check(given)
        return given

    def _refuse_repair(self, force: bool) -> None:
        """Refuse to give entries back that somebody may have in hand."""
        threads = ffi.new("__u32[]", lib.ADS_OWNERS_MOST)
        core = self._writable()
        if force or not (count := lib.ads_check_writers(core, threads, len(threads))):
            return
        pids = sorted({_process_of(int(thread)) for thread in threads[0:count]})
        raise WritersError(
            "a repair while others write could hand out an entry twice: expected no other writer;"
            f" found {'process' if len(pids) == 1 else 'processes'}"
            f" {', '.join(map(str, pids))} alive, which {'has' if len(pids) == 1 else 'have'}"
            " written to this arena. End them, or have them close it; detach BPF programs too. If"
            " none of them writes now, repair with force",
            pids=pids,
        )

    def _structure(
        self,
        kind: int,
        name: str,
        key: object,
        value: object,
        max_entries: int,
        create: Callable[[Any, Any], int],
        flags: int = 0,
    ) -> Any:
        """Make or open a structure. `create(arena, ref)` makes it, with the flags in ref.flags."""
        padded = padded_name(name)
        for what, type_, wanted in (
            ("key", key, KINDS[kind].keyed),
            ("value", value, KINDS[kind].valued),
        ):
            if wanted and type_ is None:
                raise SchemaError(f"{what} of {name!r}: expected a C type, found None")
        key_schema = None if key is None else schema_of(key)
        value_schema = None if value is None else schema_of(value)
        if key_schema is not None:
            _check_padding(name, key_schema)
        found = self._find(padded)
        if found is None:
            _check_count("max_entries", max_entries)
            found = self._add(padded, kind, key_schema, value_schema, flags, create)
        offset = self._compared(name, found, kind, key_schema, value_schema, flags, max_entries)
        made = KINDS[kind].structure_type()(
            self, name, offset, key, value, key_schema, value_schema
        )
        made._schema_offset = int(found.schema_offset)
        return made

    def _add(
        self,
        padded: bytes,
        kind: int,
        key: Schema | None,
        value: Schema | None,
        flags: int,
        create: Callable[[Any, Any], int],
    ) -> Any:
        core = self._writable()
        ref = ffi.new("struct ads_ref *")
        ref.key_size = 0 if key is None else key.size
        ref.value_size = 0 if value is None else value.size
        ref.flags = flags
        _check_record_size("key", ref.key_size, lib.ADS_MAX_KEY)
        _check_record_size("value", ref.value_size, lib.ADS_MAX_VALUE)
        text = encode_stored(key, value)
        name = padded.rstrip(b"\0").decode()
        core.damaged_at = 0  # stays so where the core does not know how much it wanted
        code = create(core, ref)
        self._check(code, name, int(core.damaged_at) or None)
        named = ffi.new("struct ads_directory_value *", (kind, ref.offset, 0, 0))
        core.damaged_at = 0
        code = lib.ads_directory_describe(core, text, len(text), named)
        self._check(code, name, int(core.damaged_at) or None)
        code = lib.ads_directory_add(core, padded, named)
        if code != lib.ADS_EXISTS:  # somebody else made it meanwhile: `named` is theirs
            self._check(code, name)
        return named

    def _find(self, padded: bytes) -> Any:
        named = ffi.new("struct ads_directory_value *")
        code = lib.ads_directory_find(self._open(), padded, named)
        if code == lib.ADS_ABSENT:
            return None
        self._check(code)
        return named

    def _compared(
        self,
        name: str,
        named: Any,
        kind: int,
        key: Schema | None,
        value: Schema | None,
        flags: int = 0,
        max_entries: int = 0,
    ) -> int:
        """Compare a directory entry with what is expected; return the structure's offset."""
        if named.kind != kind:
            found = KINDS[named.kind].one if named.kind in KINDS else "a structure of unknown kind"
            raise NameExistsError(
                f"{name!r} exists as {found}; expected {KINDS[kind].one}. Choose another name.",
                name=name,
            )
        found_key, found_value = self._schemas(name, named)
        for what, mine, theirs in (("key", key, found_key), ("value", value, found_value)):
            if mine is None or theirs is None:
                continue
            if not _is_bare(named):
                compare(mine, theirs, what=f"{what} of {name!r}")
            # An integer key of an ordered map has no size of its own there.
            elif mine.size != theirs.size and theirs.type not in (Scalar("u64"), Scalar("i64")):
                raise LayoutError(
                    f"{what} of {name!r}: expected {mine.name} of {mine.size} bytes, found"
                    f" {theirs.size} bytes, whose type nobody has described"
                )
        found_flags = lib.core_structure_flags(self._open(), named.offset)
        self._check(found_flags)
        if found_flags != flags:
            raise NameExistsError(
                f"{name!r} exists with other options: expected {flag_names(flags)}, found"
                f" {flag_names(int(found_flags))}. Choose another name.",
                name=name,
            )
        if KINDS[kind].sized:
            self._compare_entries(name, KINDS[kind].one, int(named.offset), max_entries)
        return int(named.offset)

    def _compare_entries(self, name: str, kind: str, offset: int, max_entries: int) -> None:
        header = ffi.new("struct ads_header *")
        self._check(lib.core_read(self._open(), offset, header, ffi.sizeof(header[0])))
        if header.max_entries != max_entries:
            raise NameExistsError(
                f"{name!r} exists as {kind} of {header.max_entries} entries, expected"
                f" {max_entries}: the number is part of what it is. Choose another name.",
                name=name,
                expected=max_entries,
                found=int(header.max_entries),
            )

    def _schemas(self, name: str, named: Any) -> tuple[Schema | None, Schema | None]:
        """Return the types of a structure's keys and values; None: it has no such thing."""
        if _is_bare(named):
            return self._bare_schemas(name, named)
        if not 0 < named.schema_size <= 1 << 20:
            self._damaged(f"the schema of {name!r} claims {named.schema_size} bytes", named.offset)
        text = bytearray(named.schema_size)
        self._check(
            lib.core_read(
                self._open(), named.schema_offset, ffi.from_buffer(text), named.schema_size
            )
        )
        try:
            key, value = decode_stored(text)
        except SchemaError as error:
            self._damaged(f"the schema of {name!r} is none: {error}", int(named.schema_offset))
        header = self._header(named)
        for what, schema, size in (
            ("keys", key, int(header.key_size)),
            ("values", value, int(header.value_size)),
        ):
            # Ordered maps have no size for keys that are numbers: those are the order itself.
            if schema is not None and size and schema.size != size:
                self._damaged(
                    f"the schema of {name!r} is of {what} of {schema.size} bytes, but it has"
                    f" {what} of {size} bytes",
                    int(named.schema_offset),
                )
        return key, value

    def _bare_schemas(self, name: str, named: Any) -> tuple[Schema | None, Schema | None]:
        """Return types for records that nobody has described: bytes of the sizes in the header."""
        kind, header = self._kind(name, named), self._header(named)
        key = value = None
        if kind.keyed:
            integer = kind.number == lib.ADS_KIND_ORDEREDMAP and not header.flags & lib.ADS_BYTES
            signed = header.flags & lib.ADS_SIGNED
            key = Schema(
                Scalar("i64" if signed else "u64") if integer else BytesType(int(header.key_size))
            )
        if kind.valued:
            value = Schema(BytesType(int(header.value_size)))
        for each in (key, value):
            if each is not None and not 0 < each.size <= lib.ADS_MAX_VALUE:
                self._damaged(f"{name!r} claims records of {each.size} bytes", int(named.offset))
        return key, value

    def _kind(self, name: str, named: Any) -> KindOfStructure:
        kind = KINDS.get(named.kind)
        if kind is None:
            self._damaged(f"{name!r} is of unknown kind {named.kind}", int(named.offset))
        return kind

    def _header(self, named: Any) -> Any:
        header = ffi.new("struct ads_header *")
        size = ffi.sizeof(header[0])
        self._check(lib.core_read(self._open(), named.offset, header, size))
        return header

    def _lookup(self, name: str) -> Any:
        """Return what a name leads to."""
        try:
            padded = padded_name(name)
        except SchemaError:
            self._check_findable(name, dict(self._entries()))
            raise
        named = self._find(padded)
        if named is None:
            raise self._absent(name)
        return named

    def _open_structure(self, name: str) -> Structure[Any]:
        return self._open_named(name, self._lookup(name))

    def _open_named(self, name: str, named: Any) -> Structure[Any]:
        key, value = self._schemas(name, named)
        kind = self._kind(name, named)
        if (key is not None, value is not None) != (kind.keyed, kind.valued):
            self._damaged(f"{name!r} has the schema of another kind", int(named.schema_offset))
        try:
            opened: Structure[Any] = kind.structure_type()(
                self, name, int(named.offset), key, value, key, value
            )
        except SchemaError as error:
            self._damaged(
                f"{name!r} is no {kind.name} of what its schema says: {error}",
                int(named.schema_offset),
            )
        # A ring has records of any bytes: there is nothing to describe.
        opened.described = not _is_bare(named) or not (kind.keyed or kind.valued)
        opened._schema_offset = int(named.schema_offset)
        return opened

    def _names(self) -> Iterator[str]:
        return (name for name, _ in self._entries())

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Yield the names in the directory, with what each of them leads to."""
        scan = ffi.new("struct ads_scan *")
        name = ffi.new("char[]", lib.ADS_NAME_SIZE + 1)
        named = ffi.new("struct ads_directory_value *")
        while True:
            code = lib.ads_directory_next(self._open(), scan, name, named)
            if code == lib.ADS_ABSENT:
                return
            self._check(code)
            copy = ffi.new("struct ads_directory_value *", named[0])
            yield ffi.string(name).decode(errors="replace"), copy

    # --- closing --------------------------------------------------------------------------

    def close(self) -> None:
        """Drop this process's view; idempotent. Destroys nothing.

        Other threads may be using the arena: what they are in the middle of ends with its result
        or with a `ClosedError`, and what they begin is one. Operations on their way get a moment to
        finish; after it they are cut off, as by the death of a process.
        """
        with self._lock:
            if self._provisioner is not None:
                self._provisioner.stop()
                self._provisioner = None
            if self.closed:
                return
            for loan in list(self._loans):
                loan.give_up()
            lib.ads_owner_leave(self._core)
            retire(self._core, self._loans)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an arena is memory of this process, which cannot be copied or pickled: pin it, and"
            " open the pin where it is needed"
        )

    def __enter__(self) -> Arena:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Whoever is in an operation holds a reference: nobody is.
        if getattr(self, "_lock", None) is not None:
            self.close()
            release(self._core)

    # --- inner ------------------------------------------------------------------------------

    def _open(self) -> Any:
        if self._core.flags & _CLOSED:
            raise ClosedError("the arena is closed; open it again with arenads.open")
        return self._core

    def _writable(self) -> Any:
        core = self._open()
        if core.flags & lib.ADS_READONLY:
            raise ReadOnlyError("the arena is open read-only; open it without readonly=True")
        return core

    def _root(self) -> Any:
        root = ffi.new("struct ads_root *")
        self._check(lib.core_root(self._open(), root))
        return root

    def _damaged(self, what: str, offset: int) -> NoReturn:
        self._open()
        raise DamagedError(
            f"damaged arena memory at offset {offset:#x}: {what}. Recreate the arena.",
            offset=offset,
        )

    def _check(self, code: int, name: str | None = None, needed: int | None = None) -> None:
        """Raise what a code of the C core means, for a structure that is made or for the arena."""
        if code >= 0:
            return
        self._open()  # what it met may be no damage, but that another thread closed it
        if code == lib.ADS_NO_MEMORY:
            used = self.used
            what = "what was asked" if name is None else repr(name)
            needs = f"it needs {needed} bytes more, and " if needed else ""
            raise ArenaFullError(
                f"there is no room in the arena for {what}: {needs}{used} of {self.size} bytes are"
                " used. Ask for less, or create a larger arena.",
                name=name,
                needed=needed,
                size=self.size,
                used=used,
            )
        if code == lib.ADS_READ_ONLY:
            raise ReadOnlyError("the arena is open read-only; open it without readonly=True")
        if code == lib.ADS_FULL:
            raise CapacityError("no entry is free: max_entries are in use")
        if code == lib.ADS_BUDGET:
            raise BudgetError("the loop budget ran out before the answer; try again")
        if code == lib.ADS_DAMAGED:
            self._damaged("an offset leads out of the arena or a header", self._core.damaged_at)
        raise ArenadsError(f"the operation failed: {os.strerror(-code)}", errno=-code)

    def _after_fork(self) -> None:
        self._provisioner = None  # its thread is the parent's
        self._lock = threading.RLock()
        self._keeping = threading.Lock()
        if not self.closed and lib.ads_arena_remap(self._core):
            retire(self._core, self._loans)  # better closed than a fault at the first touch


def _remap_all() -> None:
    for arena in list(_open_arenas):
        arena._after_fork()


os.register_at_fork(after_in_child=_remap_all)


class _Directory(Mapping[str, "Structure[Any]"]):
    """The structures of an arena by name."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def __getitem__(self, name: str) -> Structure[Any]:
        return self._arena._open_structure(name)

    def __iter__(self) -> Iterator[str]:
        return self._arena._names()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._arena._find(padded_name(name)) is not None

    def __repr__(self) -> str:
        return f"<structures {', '.join(map(repr, self))}>"


class _Provisioner:
    """Keeps pages populated ahead of the cursor, from a daemon thread."""

    # How long to wait when something was missing; each time nothing was, twice as long.
    BUSY_SECONDS = 0.001
    IDLE_SECONDS = 0.1
    REAP_SECONDS = 1.0

    def __init__(self, core: Any, distance: int, keeping: threading.Lock) -> None:
        self._core = core
        self._distance = distance
        self._keeping = keeping
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arenads-provisioner", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait = self.BUSY_SECONDS
        waited = 0.0
        sound = True  # a damaged directory is not looked at again and again
        while not self._stop.wait(wait):
            added = lib.ads_arena_provision(self._core, self._distance)
            waited += wait
            with self._keeping:
                sound = sound and lib.ads_directory_grow(self._core) == 0
                sound = sound and lib.ads_directory_reclaim(self._core) >= 0
                if waited >= self.REAP_SECONDS:
                    lib.ads_owner_reap(self._core, ffi.NULL)
                    waited = 0.0
            wait = self.BUSY_SECONDS if added > 0 else min(2 * wait, self.IDLE_SECONDS)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not threading.current_thread():
            # Not for ever: a signal handler may have interrupted what it waits for.
            self._thread.join(1)


# --- helpers --------------------------------------------------------------------------------


def _process_of(thread: int) -> int:
    """Return the process that a thread is of; the thread's id if that cannot be known."""
    try:
        with open(f"/proc/{thread}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["Tgid"])
    except (OSError, KeyError, ValueError):
        return thread


def flag_names(flags: int) -> str:
    """Return the options that a structure was made with, for messages."""
    return ", ".join(flag_list(flags)) or "none"


def flag_list(flags: int) -> list[str]:
    """Return the names of the options that a structure was made with."""
    names = {lib.ADS_GRACE: "grace", lib.ADS_OVERWRITE: "overwrite", lib.ADS_SIGNED: "signed keys"}
    return [name for flag, name in names.items() if flags & flag]


def _reclaim_flags(reclaim: object) -> int:
    if reclaim not in ("immediate", "grace"):
        raise SchemaError(f'expected reclaim "immediate" or "grace", found {reclaim!r}')
    if reclaim == "immediate":
        return 0
    code = lib.ads_grace_available()
    if code:
        raise EngineError(
            "this kernel cannot wait for a grace period (membarrier): use reclaim='immediate'",
            errno=-code,
            reason="membarrier",
        )
    return int(lib.ADS_GRACE)


def _check_count(what: str, number: object) -> None:
    if not isinstance(number, int) or not 0 < number <= 1 << 31:
        raise SchemaError(f"{what}: expected 1 to 2147483648, found {number!r}")


def padded_name(name: str) -> bytes:
    """Return the name of a structure as the directory has it; raise SchemaError if it is none."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise SchemaError(f"expected a name, found {name!r}")
    try:
        text = name.encode()
    except UnicodeEncodeError:
        raise SchemaError(f"expected a name in UTF-8, found {name!r}") from None
    if len(text) >= lib.ADS_NAME_SIZE:
        raise SchemaError(
            f"a name has at most {lib.ADS_NAME_SIZE - 1} bytes, {name!r} has {len(text)}"
        )
    return text.ljust(lib.ADS_NAME_SIZE, b"\0")


def _is_bare(named: Any) -> bool:
    """Whether nobody has described the records of what a name leads to."""
    return not named.schema_size and not named.schema_offset


def _check_record_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise SchemaError(f"a {what} has at most {limit} bytes, this type has {size}")


def _check_padding(name: str, key: Schema) -> None:
    """Refuse keys with bytes that belong to no member: C programs leave anything there."""
    gaps = padding_of(key)
    if gaps:
        where = ", ".join(f"{size} at offset {offset}" for offset, size in gaps)
        raise SchemaError(
            f"the key of {name!r}, {key.name}, has padding ({where} bytes): equal keys could differ"
            " there. Add explicit members for it and set them, or reorder the members.",
            padding=gaps,
        )


def _backing_file(size: int) -> int:
    """Return the descriptor of an empty file for a native arena.

    An unnamed file in /dev/shm can be pinned later; a memfd cannot, but needs no room there.
    """
    try:
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize >= size:
            return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        pass
    return os.memfd_create("arenads", os.MFD_CLOEXEC)


def _link_file(fd: int, place: str) -> int:
    """Give an unnamed file a name; 0 or the errno."""
    # With a directory descriptor os.link follows the symbolic link to the file.
    descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), place, src_dir_fd=descriptors, follow_symlinks=True)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(descriptors)
    return 0


def _check_base(base: object) -> None:
    if base is None:
        return
    if not isinstance(base, int) or not 0 < base < 1 << 47 or base % lib.ADS_MAX_SIZE:
        shown = f"{base:#x}" if isinstance(base, int) else repr(base)
        raise SizeError(
            "base: expected a multiple of 4 GiB (0x100000000) below 2**47, as a number; found"
            f" {shown}",
            found=base,
        )


def _refuse_base(base: int | None) -> NoReturn:
    if base is None:
        raise BaseTakenError("no free window of 4 GiB was found in this process's addresses")
    raise BaseTakenError(
        f"the addresses from {base:#x} on are in use in this process: expected a free window of"
        " 4 GiB. Leave `base` out to have one chosen.",
        base=base,
    )


def _descriptor(
    path: str | os.PathLike[str] | None, map_id: int | None, fd: int | None, readonly: bool
) -> tuple[str, int]:
    """Open what was named: its name in messages, and a descriptor of our own."""
    if path is not None:
        place = _path_text(path)
        return place, _open_path(place, readonly)
    if map_id is not None:
        if not isinstance(map_id, int) or not 0 < map_id < 1 << 32:
            raise NotAPinError(f"map id {map_id!r}: expected the id of a BPF arena", map_id=map_id)
        own = lib.ads_bpf_map_by_id(map_id)
        place = f"map id {map_id}"
        if own < 0:
            _refuse_path(place, -own, "the id of a BPF arena (bpftool map list)", "CAP_SYS_ADMIN")
        return place, int(own)
    assert fd is not None
    try:
        return f"descriptor {fd}", os.dup(fd)
    except OSError as error:
        raise NotAPinError(f"descriptor {fd} is not open", errno=error.errno) from None


def _path_text(path: str | os.PathLike[str]) -> str:
    """Return a path that the kernel will read to its end."""
    try:
        place = os.fspath(path)
    except TypeError:
        place = ""
    if not isinstance(place, str) or not place or "\0" in place:
        raise NotAPinError(f"expected the path of a pin, found {path!r}", path=path)
    return place


def _open_path(place: str, readonly: bool) -> int:
    try:
        status = os.stat(place)
    except OSError as error:
        _refuse_path(place, error.errno or errno.ENOENT, "the pin of an arena")
    if stat.S_ISDIR(status.st_mode):
        raise NotAPinError(f"{place} is a directory: expected the pin of an arena")
    fd = lib.ads_bpf_get(os.fsencode(place))
    if fd >= 0:
        return int(fd)
    if -fd in (errno.EPERM, errno.EACCES) and status.st_dev == _device("/sys/fs/bpf"):
        _refuse_path(place, -fd, "the pin of an arena")
    if not stat.S_ISREG(status.st_mode):
        raise NotAPinError(f"{place} is no pin: expected an arena pinned in bpffs or a file")
    try:
        return os.open(place, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EIO and -fd in (errno.EPERM, errno.EACCES):
            _refuse_path(place, -fd, "the pin of an arena")  # of another bpf file system
        _refuse_path(place, error.errno or errno.EACCES, "the pin of an arena")


def _check_pin(place: str) -> os.stat_result:
    """Refuse what is no pin of an arena; a damaged one is a pin too if it starts as one."""
    try:
        status = os.lstat(place)
    except OSError as error:
        _refuse_path(place, error.errno or errno.ENOENT, "the pin of an arena")
    if not stat.S_ISREG(status.st_mode):
        raise NotAPinError(
            f"{place} is no pin: expected an arena pinned in bpffs or a file in /dev/shm",
            errno=errno.EINVAL,
            path=place,
        )
    fd = _open_path(place, True)
    try:
        info = ffi.new("struct ads_bpf_map_info *")
        if lib.ads_bpf_map_info(fd, info) == 0 and info.type:
            if info.type == lib.ADS_MAP_TYPE_ARENA:
                return status
            found = f"a BPF map of type {info.type}"
        elif status.st_dev != _device("/dev/shm"):
            found = "a file elsewhere"
        elif starts_as_arena(fd):
            return os.fstat(fd)  # of what was read
        else:
            found = "a file that does not start as one"
    finally:
        os.close(fd)
    raise NotAPinError(
        f"{place} is not the pin of an arena: expected one in bpffs or below /dev/shm, found"
        f" {found}",
        errno=errno.EINVAL,
        path=place,
    )


def starts_as_arena(fd: int) -> bool:
    """Whether a file has the mark of an arena, of either byte order, where its root is."""
    try:
        found = os.pread(fd, 8, lib.ADS_ROOT_OFFSET)
    except OSError:
        return False
    mark = int(lib.ADS_MAGIC).to_bytes(8, "little")
    return found in (mark, mark[::-1])


def remove_pin(place: str) -> None:
    """Remove a pin that is one of an arena."""
    folder, name = os.path.split(place)
    try:
        # By its descriptor the folder stays the same, whatever becomes of its path.
        directory = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        _refuse_path(place, error.errno or errno.ENOENT, "the pin of an arena")
    try:
        before = _check_pin(place)
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
        # No call removes a name only if it is still the one that was looked at; this is next to it.
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
            raise NotAPinError(
                f"{place} was replaced while it was looked at; nothing was removed",
                errno=errno.ESTALE,
                path=place,
            )
        os.unlink(name, dir_fd=directory)
    except OpenError:
        raise
    except OSError as error:
        raise NotAPinError(
            f"{place}: the pin could not be removed: {error.strerror}", errno=error.errno
        ) from None
    finally:
        os.close(directory)


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _refuse_path(place: str, number: int, expected: str, *needs: str) -> NoReturn:
    if number in (errno.EPERM, errno.EACCES):
        missing = capabilities.missing(*needs)
        raise PrivilegeError(
            f"{place} may not be opened by this process: {os.strerror(number)}."
            + (
                f" It lacks {' and '.join(missing)}."
                if missing
                # The kernel maps an arena only through a descriptor that may write.
                else " Its owner and mode must allow reading and writing."
            ),
            errno=number,
            missing=missing,
        )
    raise NotAPinError(
        f"{place}: expected {expected}, found {os.strerror(number)}", errno=number, path=place
    )


def _check_probe(fd: int, place: str) -> tuple[bool, int]:
    """Look at a descriptor before anything is mapped; whether it is a BPF map, and its base."""
    base, size = ffi.new("__u64 *"), ffi.new("__u64 *")
    kernel, map_type = ffi.new("int *"), ffi.new("__u32 *")
    code = lib.ads_arena_probe(fd, base, size, kernel, map_type)
    if code == lib.ADS_WRONG_TYPE and kernel[0]:
        raise WrongMapTypeError(
            f"{place} is a BPF map of type {map_type[0]}: expected an arena (type 33) that was"
            " created with an address (map_extra)",
            found=int(map_type[0]),
            expected=33,
        )
    if code:
        _refuse_open(code, fd, place, None)
    return bool(kernel[0]), int(base[0])


def _cannot_map(place: str, number: int) -> OpenError:
    if number == errno.EOVERFLOW:
        return OpenError(
            f"{place} could not be mapped: this process may not have so many addresses; raise the"
            " limit (ulimit -v)",
            errno=number,
        )
    return OpenError(f"{place} could not be mapped: {os.strerror(number)}", errno=number)


def _refuse_short(fd: int, place: str) -> None:
    """Refuse a file that starts as an arena and has not all the bytes that it claims."""
    root = ffi.new("struct ads_root *")
    try:
        start = os.pread(fd, ffi.sizeof(root[0]), lib.ADS_ROOT_OFFSET)
    except OSError:  # a map
        return
    ffi.memmove(root, start, len(start))
    found = os.fstat(fd).st_size
    whole = len(start) == ffi.sizeof(root[0])
    if root.magic != lib.ADS_MAGIC or (whole and found >= root.size):
        return
    of = f"of {root.size} bytes" if root.size else "bytes"
    raise DamagedError(
        f"{place} is an arena that was cut short: {found} {of} are there, says its root (offset"
        " 64). Make it anew.",
        offset=lib.ADS_ROOT_OFFSET,
        found=found,
        expected=int(root.size),
    )


def _refuse_open(code: int, fd: int, place: str, core: Any) -> NoReturn:
    if code in (lib.ADS_WRONG_TYPE, lib.ADS_DAMAGED):
        _refuse_short(fd, place)
        if starts_as_arena(fd):
            code = lib.ADS_DAMAGED
    if code == lib.ADS_WRONG_TYPE:
        raise NotAPinError(f"{place} is not an arena: it does not start as one", path=place)
    if code == lib.ADS_WRONG_ABI:
        if core is None:  # a file, which can be read without mapping it
            found = int.from_bytes(os.pread(fd, 4, lib.ADS_ROOT_OFFSET + 8), sys.byteorder)
        else:
            found = int(core.damaged_at)
        raise AbiError(
            f"{place} is an arena of ABI version {found}: expected {lib.ADS_ABI_VERSION}. Use the"
            " arenads version that made it, or make it anew.",
            expected=lib.ADS_ABI_VERSION,
            found=found,
        )
    if code == lib.ADS_WRONG_ORDER:
        raise EndianError(
            f"{place} is an arena of a machine with the other byte order and cannot be used here"
        )
    if code == lib.ADS_BASE_TAKEN:
        raise BaseTakenError(
            f"{place} cannot be mapped: the addresses that it needs are in use in this process"
            " (a process opens an arena once: use the Arena object that it has). Else open it in a"
            " fresh process, or earlier."
        )
    if code == lib.ADS_DAMAGED:
        raise DamagedError(
            f"{place}: the arena's root (offset 64) does not fit its size and base. Make it anew.",
            offset=lib.ADS_ROOT_OFFSET,
        )
    if -code in (errno.EPERM, errno.EACCES):
        raise PrivilegeError(
            f"{place} may not be mapped: {os.strerror(-code)}. Open it with readonly=True, or"
            " ask its owner for write permission.",
            errno=-code,
            missing=(),
        )
    raise _cannot_map(place, -code)
