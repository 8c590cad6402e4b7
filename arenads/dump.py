"""`arenads dump`: the typed entries of a pinned arena's structures, as text, JSON or CSV."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TextIO, TypeAlias

import msgspec

from arenads.arena import Arena
from arenads.condition import Condition, all_of
from arenads.errors import ArenadsError, BudgetError, DamagedError, RemovedError, SchemaError
from arenads.fields import EntryField, comparable, entry_converter, field_named, fields_of, parsed
from arenads.structure import Structure
from arenads.table import json_text, printable, write_csv
from arenads.walk import count_entries, entries, entries_text, parts

__all__ = ["Form", "Request", "dump_arena"]

Form: TypeAlias = Literal["text", "json", "csv"]
Entry: TypeAlias = tuple[Any, ...]

# Rows that the widths of columns are taken from; later ones may be wider.
_SAMPLE: Final = 256
_PROGRESS_SECONDS: Final = 0.2
# What may keep one structure from being read to its end, and not the others.
_INCOMPLETE: Final = (DamagedError, RemovedError, BudgetError)


class Request(msgspec.Struct, frozen=True):
    """What to dump: one structure or all, in which form, which entries and how many of each."""

    pin: str
    name: str | None = None
    form: Form = "text"
    where: Sequence[Condition] = ()
    limit: int | None = None


class Progress:
    """Tells on a terminal how far a dump has got, where the entries themselves go elsewhere."""

    def __init__(self, errors: TextIO, output: TextIO) -> None:
        self._file = errors if errors.isatty() and not output.isatty() else None
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._drawn = False

    def watch(self, name: str, total: int, these: Iterator[Entry]) -> Iterator[Entry]:
        """Yield the entries, and say now and then how many there were."""
        if self._file is None:
            return these
        return self._watched(self._file, name, total, these)

    def _watched(
        self, file: TextIO, name: str, total: int, these: Iterator[Entry]
    ) -> Iterator[Entry]:
        for number, entry in enumerate(these):
            if number % 1024 == 0 and time.monotonic() >= self._next:
                self._next = time.monotonic() + _PROGRESS_SECONDS
                self._drawn = True
                file.write(f"\r\x1b[K{printable(name)}: {number:,} of {entries_text(total)}")
                file.flush()
            yield entry

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn and self._file is not None:
            self._file.write("\r\x1b[K")
            self._file.flush()
            self._drawn = False


def dump_arena(
    request: Request, output: TextIO, errors: TextIO, complain: Callable[[str], None]
) -> bool:
    """Write the entries to `output`, one after the other as they are read.

    Nothing is changed: the arena is opened read-only, and what waits in queues stays there.

    Returns
    -------
    bool
        Whether all could be read. `complain` was called for each structure that could not,
        because it is damaged, or was removed meanwhile.

    Raises
    ------
    OpenError, StructureAbsentError
    SchemaError
        There is no such field, or a condition's value is none of its type.
    DamagedError
        The root is damaged, or the directory: what is before the damage was dumped.
    """
    progress = Progress(errors, output)
    with Arena.open(request.pin, readonly=True) as arena:
        try:
            return _WRITERS[request.form](arena, request, output, progress, complain)
        finally:
            progress.clear()


# --- which structures, which entries --------------------------------------------------------


class _Selected:
    """A structure, and those of its entries that are asked for."""

    def __init__(self, structure: Structure[Any], request: Request, progress: Progress) -> None:
        self.structure = structure
        self.parts = parts(structure)
        self.kind = structure.kind_name
        self._request = request
        self._progress = progress
        self._tests = [_test(field_named(self.parts, each.field), each) for each in request.where]

    def entries(self) -> Iterator[Entry]:
        structure = self.structure
        these = self._progress.watch(structure.name, count_entries(structure), entries(structure))
        if self._tests:
            these = filter(all_of(self._tests), these)
        return itertools.islice(these, self._request.limit)


def _test(field: EntryField, condition: Condition) -> Callable[[Entry], bool]:
    test = condition.test(lambda text: parsed(field, text))
    get = field.get
    return lambda entry: test(comparable(get(entry)))


def _selected(
    arena: Arena, request: Request, progress: Progress
) -> Iterator[tuple[str, _Selected | ArenadsError]]:
    """Yield the structures that are asked for; one that cannot be opened is the reason why."""
    if request.name is not None:
        # Absent, or a condition that does not fit: nothing else could be done.
        try:
            yield request.name, _Selected(arena.structures[request.name], request, progress)
        except _INCOMPLETE as error:
            yield request.name, error
        return
    for name, named in sorted(arena._entries(), key=lambda each: each[0]):
        try:
            yield name, _Selected(arena._open_named(name, named), request, progress)
        except _INCOMPLETE as error:
            yield name, error


# --- text -----------------------------------------------------------------------------------


def _write_text(
    arena: Arena,
    request: Request,
    output: TextIO,
    progress: Progress,
    complain: Callable[[str], None],
) -> bool:
    fine = True
    width = _width(output)
    for number, (name, selected) in enumerate(_selected(arena, request, progress)):
        try:
            if not isinstance(selected, _Selected):
                raise selected
            if number:
                output.write("\n")
            if request.name is None:
                total = count_entries(selected.structure)
                output.write(f"{printable(name)}: {selected.kind}, {entries_text(total)}\n")
            _write_rows(selected, output, width)
        except _INCOMPLETE as error:
            progress.clear()
            complain(f"{name}: {error.message}")
            fine = False
    return fine


def _width(output: TextIO) -> int | None:
    """Columns of a terminal, None where lines may be as long as they are."""
    if not output.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _write_rows(selected: _Selected, output: TextIO, width: int | None) -> None:
    fields = fields_of(selected.parts)
    rows = ([printable(field.text(entry)) for field in fields] for entry in selected.entries())
    first = list(itertools.islice(rows, _SAMPLE))
    titles = [printable(field.name) for field in fields]
    widths = [max(map(len, column)) for column in zip(titles, *first, strict=True)]
    right = [field.is_number for field in fields]
    for row in itertools.chain([titles], first, rows):
        line = "  ".join(
            cell.rjust(size) if number else cell.ljust(size)
            for cell, size, number in zip(row, widths, right, strict=True)
        ).rstrip()
        if width is not None and len(line) > width:
            line = line[: width - 1] + "…"
        output.write(line + "\n")


# --- JSON -----------------------------------------------------------------------------------


def _write_json(
    arena: Arena,
    request: Request,
    output: TextIO,
    progress: Progress,
    complain: Callable[[str], None],
) -> bool:
    """Write one document, each entry on a line of its own, that ends as it should in any case."""
    text = json_text
    fine = True
    head = text({"version": 1, "arena": request.pin, "engine": arena.engine})
    output.write(head[:-1] + ',"structures":[')
    for number, (name, selected) in enumerate(_selected(arena, request, progress)):
        said: dict[str, object] = {"name": printable(name)}
        if isinstance(selected, _Selected):
            types = {
                f"{part.name}_type": _type_name(selected, part.name) for part in selected.parts
            }
            said |= {"kind": selected.kind, **types}
        output.write(("," if number else "") + "\n" + text(said)[:-1] + ',"entries":[')
        count, problem = 0, ""
        try:
            if not isinstance(selected, _Selected):
                raise selected
            convert = entry_converter(selected.parts)
            for entry in selected.entries():
                output.write((",\n" if count else "\n") + text(convert(entry)))
                count += 1
        except _INCOMPLETE as error:
            progress.clear()
            problem = error.message
            complain(f"{name}: {problem}")
            fine = False
        output.write(f'\n],"count":{count},"error":{text(problem or None)}}}')
    output.write("\n]}\n")
    return fine


def _type_name(selected: _Selected, part: str) -> str:
    structure: Any = selected.structure
    if part == "key":
        return str(structure.key_type.name)
    if part == "value":
        return str(structure.value_type.name)
    return {"address": "void *", "record": "bytes"}.get(part, "u64")


# --- CSV ------------------------------------------------------------------------------------


def _write_csv(
    arena: Arena,
    request: Request,
    output: TextIO,
    progress: Progress,
    complain: Callable[[str], None],
) -> bool:
    names = [request.name] if request.name is not None else list(arena.structures)
    if len(names) != 1:
        raise SchemaError(
            "CSV has the columns of one structure: expected its NAME;"
            f" there are {', '.join(map(repr, names)) or 'none'}"
        )
    one = msgspec.structs.replace(request, name=names[0])
    for name, selected in _selected(arena, one, progress):
        try:
            if not isinstance(selected, _Selected):
                raise selected
            fields = fields_of(selected.parts)
            rows = ([field.text(entry) for field in fields] for entry in selected.entries())
            write_csv([field.name for field in fields], rows, output)
        except _INCOMPLETE as error:
            progress.clear()
            complain(f"{name}: {error.message}")
            return False
    return True


_WRITERS: Final = {"text": _write_text, "json": _write_json, "csv": _write_csv}
