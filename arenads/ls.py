"""`arenads ls`: what is in a pinned arena."""

from __future__ import annotations

from typing import Final

import msgspec

from arenads._core import lib
from arenads.arena import Arena, flag_list
from arenads.errors import ArenadsError, BudgetError, DamagedError, RemovedError
from arenads.kinds import KINDS
from arenads.structure import Counters, Structure
from arenads.table import Table
from arenads.walk import count_entries

__all__ = ["LISTED_COLUMNS", "ListedArena", "ListedStructure", "list_arena", "listed_rows"]


class ListedStructure(msgspec.Struct, frozen=True, kw_only=True):
    """One structure: names of its types, and None for what its kind does not have.

    Attributes
    ----------
    entries : int
        Those that are there now; of an array, those that have memory.
    max_entries : int
        That fit. Of a ring, bytes.
    bytes : int
        Of the arena that are its own.
    described : bool
        Whether the directory says what its records are.
    error : str
        Why it could not be read, empty if it could.
    """

    name: str
    kind: str
    entries: int = 0
    max_entries: int = 0
    key: str | None = None
    value: str | None = None
    bytes: int = 0
    flags: list[str] = msgspec.field(default_factory=list)
    described: bool = False
    failures: Counters | None = None
    error: str = ""


class ListedArena(msgspec.Struct, frozen=True, kw_only=True):
    """An arena and what is in it; sizes in bytes."""

    version: int = 1
    arena: str
    engine: str
    abi: int
    creation_id: str
    base: str
    size: int
    populated: int
    used: int
    no_memory: int
    damaged: int
    strays: int
    structures: list[ListedStructure]
    error: str = ""

    @property
    def fine(self) -> bool:
        """Whether everything could be read."""
        return not self.error and not any(each.error for each in self.structures)

    def table(self) -> Table:
        """Return the arena as a table, a line a structure."""
        return Table(
            ("NAME", "KIND", "ENTRIES", "AT MOST", "KEY", "VALUE", "BYTES", "FLAGS", "FAILURES"),
            [_row(each) for each in self.structures],
            right=(2, 3, 6),
            heading=(
                f"{self.arena}: {self.engine} engine, ABI {self.abi}, creation id"
                f" {self.creation_id}, at {self.base}",
                f"{self.used:,} bytes used, {self.populated:,} populated, {self.size:,} at most;"
                f" without memory: {self.no_memory:,}; met damage: {self.damaged:,}",
            ),
            marked=[number for number, each in enumerate(self.structures) if each.error],
        )


def listed_rows(listed: ListedArena) -> list[dict[str, object]]:
    """Return a row for each structure, of columns as they go into CSV and Arrow files."""
    return [_flat(each) for each in listed.structures]


LISTED_COLUMNS: Final = (
    *(name for name in ListedStructure.__struct_fields__ if name not in ("failures", "error")),
    *Counters.__struct_fields__,
    "error",
)


def _flat(each: ListedStructure) -> dict[str, object]:
    found: dict[str, object] = msgspec.structs.asdict(each)
    del found["failures"]
    counted = {} if each.failures is None else msgspec.structs.asdict(each.failures)
    found |= {name: counted.get(name) for name in Counters.__struct_fields__}
    return {name: found[name] for name in LISTED_COLUMNS}


def _row(each: ListedStructure) -> tuple[str, ...]:
    if each.error:
        return (each.name, each.kind, *["-"] * 6, "see below")
    ring = each.kind == KINDS[lib.ADS_KIND_RING].name
    return (
        each.name,
        each.kind,
        f"{each.entries:,}",
        f"{each.max_entries:,}" + (" B" if ring else ""),
        each.key or "-",
        each.value or "-",
        f"{each.bytes:,}",
        ", ".join([*each.flags, *([] if each.described else ["no schema"])]) or "-",
        failures_text(each.failures) or "-",
    )


def failures_text(failures: Counters | None) -> str:
    """Return the counters that are not zero, in words.

    >>> failures_text(Counters(full=3, no_memory=0, budget=0, damaged=0, dropped=1))
    'full 3, dropped 1'
    """
    if failures is None:
        return ""
    counts = msgspec.structs.asdict(failures)
    return ", ".join(
        f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count
    )


def list_arena(pin: str, name: str | None = None) -> ListedArena:
    """Say what is in a pinned arena, or of one structure; the arena is opened read-only.

    A structure that is damaged, or removed meanwhile, does not keep the others from being listed.

    Raises
    ------
    OpenError, DamagedError
        The pin cannot be opened, or its root is damaged.
    StructureAbsentError
        There is no structure of that name.
    """
    with Arena.open(pin, readonly=True) as arena:
        structures, error = _list_structures(arena)
        if name is not None:
            structures = [each for each in structures if each.name == name]
            if not structures and not error:
                arena.structures[name]  # says which there are
        memory = arena.statistics()
        return ListedArena(
            arena=pin,
            engine=arena.engine,
            abi=lib.ADS_ABI_VERSION,
            creation_id=f"{arena.creation_id:016x}",
            base=f"{arena.base:#x}",
            size=memory.size,
            populated=memory.populated,
            used=memory.used,
            no_memory=memory.no_memory,
            damaged=memory.damaged,
            strays=memory.strays,
            structures=sorted(structures, key=lambda each: each.name),
            error=error,
        )


def _list_structures(arena: Arena) -> tuple[list[ListedStructure], str]:
    found: list[ListedStructure] = []
    try:
        for name, named in arena._entries():
            kind = KINDS[named.kind].name if named.kind in KINDS else f"unknown ({named.kind})"
            try:
                found.append(_listed(arena._open_named(name, named)))
            except RemovedError:
                continue
            except (DamagedError, BudgetError) as error:
                found.append(ListedStructure(name=name, kind=kind, error=error.message))
    except ArenadsError as error:
        return found, f"the directory: {error.message}"
    return found, ""


def _listed(structure: Structure[object]) -> ListedStructure:
    key = getattr(structure, "key_type", None)
    valued = KINDS[structure.kind].valued
    return ListedStructure(
        name=structure.name,
        kind=structure.kind_name,
        entries=count_entries(structure),
        max_entries=structure.max_entries,
        key=None if key is None else key.name,
        value=structure.value_type.name if valued else None,
        bytes=structure.bytes_held,
        flags=flag_list(structure._handle.ref.flags),
        described=structure.described,
        failures=structure.counters(),
    )
