"""`arenads check`: account for every entry and block of a pinned arena."""

from __future__ import annotations

import msgspec

from arenads._core import lib
from arenads.arena import Arena
from arenads.errors import BudgetError, DamagedError, RemovedError, StructureAbsentError
from arenads.structure import Checkable, CheckReport, Counters
from arenads.table import Table

__all__ = ["CheckedArena", "CheckedHeap", "CheckedStructure", "check_arena"]


class CheckedStructure(msgspec.Struct, frozen=True):
    """What the check of one structure found; numbers are None where the kind has none."""

    name: str
    kind: str
    entries: int
    max_entries: int
    deleted: int | None
    free: int | None
    leaked: int | None
    repaired: int | None
    errors: int
    error: str
    counters: Counters | None = None
    moving: int | None = None
    """In the hands of writers just now."""

    @property
    def failed(self) -> int | None:
        """Operations that failed since the structure was made."""
        count = self.counters
        return (
            None if count is None else count.full + count.no_memory + count.budget + count.damaged
        )

    @property
    def fine(self) -> bool:
        """Whether nothing is damaged, and nothing stays leaked."""
        return not self.errors and (self.leaked or 0) <= (self.repaired or 0)


class CheckedHeap(msgspec.Struct, frozen=True):
    """What the check of the blocks found; they are no entries, so a table has no other number."""

    blocks: int
    unnamed: int
    unnamed_bytes: int
    writers: int
    errors: int
    error: str


class CheckedArena(msgspec.Struct, frozen=True):
    """What the check of an arena found; sizes in bytes."""

    version: int
    arena: str
    engine: str
    size: int
    populated: int
    used: int
    no_memory: int
    damaged: int
    strays: int
    directory: CheckedStructure | None
    """None, as `heap`, if one structure was asked for."""
    heap: CheckedHeap | None
    structures: list[CheckedStructure]

    def table(self) -> Table:
        """Return what was found as a table, a line a structure."""
        return _table(self)

    @property
    def complaints(self) -> list[str]:
        """What the first error of each part is."""
        parts = [self.directory, self.heap, *self.structures]
        return [part.error for part in parts if part is not None and part.error]

    @property
    def fine(self) -> bool:
        """Whether nothing is damaged, and nothing stays leaked."""
        rows = self.structures if self.directory is None else [self.directory, *self.structures]
        return all(row.fine for row in rows) and not (self.heap and self.heap.errors)


def check_arena(
    pin: str, name: str | None = None, *, repair: bool = False, force: bool = False
) -> CheckedArena:
    """Check a pinned arena, or of its structures the one that is named.

    Raises
    ------
    OpenError, StructureAbsentError
    WritersError
        With `repair`, while threads of other processes live that have written, unless `force`.
    DamagedError
        The root or the directory, so that nothing can be listed. A structure that is damaged
        is in the report.
    """
    with Arena.open(pin, readonly=not repair) as arena:
        directory = heap = None
        if repair:
            arena._refuse_repair(force)
        if name is None:
            directory, heap = _check_books(arena, repair)
        checked = []
        for each in _names(arena) if name is None else [name]:
            try:
                checked.append(_check_one(arena, each, repair))
            except (StructureAbsentError, RemovedError):
                if name is not None:  # else it was removed meanwhile
                    raise
        memory = arena.statistics()
        return CheckedArena(
            version=1,
            arena=pin,
            engine=arena.engine,
            size=memory.size,
            populated=memory.populated,
            used=memory.used,
            no_memory=memory.no_memory,
            damaged=memory.damaged,
            strays=memory.strays,
            directory=directory,
            heap=heap,
            structures=checked,
        )


def _names(arena: Arena) -> list[str]:
    """Return the names of the structures, of a damaged directory those before the damage."""
    names: list[str] = []
    try:
        for name in arena.structures:
            names.append(name)
    except (DamagedError, BudgetError):
        pass  # the check of the directory says where
    return sorted(names)


def _check_books(arena: Arena, repair: bool) -> tuple[CheckedStructure, CheckedHeap]:
    found = arena.check(repair=repair, force=repair)
    directory = _checked("(directory)", "list", lib.ADS_DIRECTORY_ENTRIES, found.directory)
    heap = found.heap
    return directory, CheckedHeap(
        heap.blocks,
        heap.unnamed,
        heap.unnamed_bytes,
        heap.writers,
        heap.errors,
        _first_error("(heap)", heap.errors, heap.error_at),
    )


def _first_error(name: str, errors: int, at: int) -> str:
    return f"{name}: the first error is at offset {at:#x}" if errors else ""


def _checked(
    name: str, kind: str, most: int, found: CheckReport, counters: Counters | None = None
) -> CheckedStructure:
    return CheckedStructure(
        name,
        kind,
        found.live,
        most,
        found.deleted,
        found.free + found.unused,
        found.leaked,
        found.repaired,
        found.errors,
        _first_error(name, found.errors, found.error_at),
        counters,
        found.moving,
    )


def _check_one(arena: Arena, name: str, repair: bool) -> CheckedStructure:
    try:
        structure = arena.structures[name]
        kind, entries, most = structure.kind_name, len(structure), structure.max_entries
        counters = structure.counters()
        if not isinstance(structure, Checkable):
            nothing = (None, None, None, None, 0, "")
            return CheckedStructure(name, kind, entries, most, *nothing, counters)
        return _checked(name, kind, most, structure.check(repair=repair, force=repair), counters)
    except (DamagedError, BudgetError) as error:
        nothing = (None, None, None, None, 1, error.message)
        return CheckedStructure(name, "unknown", 0, 0, *nothing)


def _table(report: CheckedArena) -> Table:
    def shown(number: int | None) -> str:
        return "-" if number is None else f"{number:,}"

    rows: list[tuple[str, ...]] = [
        (
            each.name,
            each.kind,
            shown(each.entries),
            shown(each.max_entries),
            shown(each.deleted),
            shown(each.free),
            shown(each.moving),
            shown(each.leaked),
            shown(each.repaired),
            shown(each.errors),
            shown(each.failed),
        )
        for each in report.structures + ([report.directory] if report.directory else [])
    ]
    marked = [number for number, each in enumerate(report.structures) if not each.fine]
    heading = [
        f"{report.arena}: {report.engine} engine, {report.used:,} bytes used,"
        f" {report.populated:,} populated, {report.size:,} at most",
        f"allocations without memory: {report.no_memory:,}; operations that met damage:"
        f" {report.damaged:,}",
    ]
    if report.directory and not report.directory.fine:
        marked.append(len(report.structures))
    if report.heap:
        heap = report.heap
        heading.append(
            f"blocks: {heap.blocks:,}, of which {heap.unnamed:,} have no name"
            f" ({heap.unnamed_bytes:,} bytes); threads that write: {heap.writers:,} registered,"
            f" {report.strays:,} not"
        )
        if heap.errors:
            marked.append(len(rows))
        rows.append(("(heap)", "blocks", shown(heap.blocks), *["-"] * 6, shown(heap.errors), "-"))
    titles = "NAME,KIND,ENTRIES,AT MOST,DELETED,FREE,MOVING,LEAKED,REPAIRED,ERRORS,FAILED"
    return Table(
        titles.split(","),
        rows,
        right=range(2, 11),
        heading=tuple(heading),
        marked=marked,
    )
