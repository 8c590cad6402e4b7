"""The command line: `arenads`, or `python -m arenads`.

Exit status: 0 all is well; 1 the answer is no (`doctor`: the engine does not work, `demo`: the
two sides disagree, `check`: something is damaged or leaked, `header --check`: the file is out of
date); 2 the command could not be done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from arenads import __version__, compiler
from arenads._core import lib
from arenads.errors import (
    ArenadsError,
    BudgetError,
    CompileError,
    DamagedError,
    SchemaError,
    StructureAbsentError,
)
from arenads.structure import CheckReport, Counters
from arenads.table import Live, Table, printable, show

if TYPE_CHECKING:
    from arenads.arena import Arena

__all__ = ["main"]

NO = 1
FAILED = 2
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status."""
    try:
        status = _run(_parser().parse_args(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = _pipe_closed()
    except ArenadsError as error:
        status = _pipe_closed() if isinstance(error.__cause__, BrokenPipeError) else _report(error)
    except OSError as error:
        status = _say(f"{error.filename or 'output'}: {error.strerror}")
    sys.exit(status)


def _run(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _pipe_closed() -> int:
    """Whoever read our output went away. Python's own flush at exit must not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return PIPE_CLOSED


def _report(error: ArenadsError) -> int:
    if isinstance(error, CompileError) and error.facts.get("output"):
        # Exactly what the compiler wrote: editors read it.
        text = str(error.facts["output"])
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        return _say(error.message.splitlines()[0].rstrip(":"))
    return _say(error.message)


def _say(message: str) -> int:
    print(f"arenads: {message}", file=sys.stderr)
    return FAILED


def _print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode())


# --- commands ---------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    from arenads.doctor import examine

    diagnosis = examine()
    if options.json:
        _print_json(diagnosis)
    else:
        show(diagnosis.table())
        advice = diagnosis.advice()
        if advice:
            print("\nWhat to do:")
            for line in advice:
                print(f"  {printable(line)}")
        works = "works" if diagnosis.works else "DOES NOT WORK"
        print(f"\nThe {diagnosis.engine} engine {works} here.")
    return 0 if diagnosis.works else NO


def _demo(options: argparse.Namespace) -> int:
    from arenads.demo import run

    if options.json:
        outcome = run(options.engine, options.seconds)
        _print_json(outcome.report)
    else:
        with Live() as live:
            outcome = run(options.engine, options.seconds, live.update)
        print()
        for line in outcome.summary:
            print(printable(line))
    for problem in outcome.problems:
        print(f"arenads: {problem}", file=sys.stderr)
    return NO if outcome.problems else 0


def _compile(options: argparse.Namespace) -> int:
    built = compiler.compile(
        options.source,
        options.output,
        engine=options.engine,
        include_dirs=options.include,
        defines=options.define,
    )
    print(built)
    return 0


def _cflags(options: argparse.Namespace) -> int:
    print(shlex.join(compiler.cflags(options.target)))
    return 0


def _header(options: argparse.Namespace) -> int:
    from arenads import c_header

    found = [c_header.find_class(place) for place in options.types]
    command = f"arenads header {shlex.join(options.types)}"
    text = c_header.c_header(*found, origin=f"Written by {command}")
    if options.check is not None:
        if c_header.is_current(options.check, text):
            return 0
        _say(f"{options.check} is out of date; write it anew: {command} -o {options.check}")
        return NO
    if options.output in (None, "-"):
        sys.stdout.write(text)
    else:
        c_header.write_header(options.output, text)
        print(options.output)
    return 0


def _vmlinux(options: argparse.Namespace) -> int:
    from arenads.vmlinux import write_vmlinux_header

    output = options.output
    if output is None and sys.stdout.isatty():
        output = "vmlinux.h"
    if output in (None, "-"):
        write_vmlinux_header(sys.stdout)
    else:
        write_vmlinux_header(output)
        print(output)
    return 0


class _Checked(msgspec.Struct, frozen=True):
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


class _Heap(msgspec.Struct, frozen=True):
    """What the check of the blocks found; they are no entries, so a table has no other number."""

    blocks: int
    unnamed: int
    unnamed_bytes: int
    writers: int
    errors: int
    error: str


class _CheckReport(msgspec.Struct, frozen=True):
    version: int
    arena: str
    engine: str
    size: int
    populated: int
    used: int
    no_memory: int
    damaged: int
    strays: int
    directory: _Checked | None
    """None, as `heap`, if one structure was asked for."""
    heap: _Heap | None
    structures: list[_Checked]

    @property
    def complaints(self) -> list[str]:
        """What the first error of each part is."""
        parts = [self.directory, self.heap, *self.structures]
        return [part.error for part in parts if part is not None and part.error]

    @property
    def fine(self) -> bool:
        rows = self.structures if self.directory is None else [self.directory, *self.structures]
        return all(row.fine for row in rows) and not (self.heap and self.heap.errors)


def _check(options: argparse.Namespace) -> int:
    try:
        report = _check_arena(options)
    except DamagedError as error:  # the root or the directory: nothing can be listed
        _say(error.message)
        return NO
    if options.json:
        _print_json(report)
    else:
        show(_check_table(report))
        for complaint in report.complaints:
            _say(printable(complaint))
    return 0 if report.fine else NO


def _check_arena(options: argparse.Namespace) -> _CheckReport:
    from arenads.arena import Arena

    with Arena.open(options.pin, readonly=not options.repair) as arena:
        directory = heap = None
        names = [options.name]
        if options.name is None:
            directory, heap = _check_books(arena, options.repair)
            names = _names(arena)
        checked = []
        for name in names:
            try:
                checked.append(_check_one(arena, name, options.repair))
            except (StructureAbsentError, SchemaError) as error:
                if options.name is not None:
                    raise
                if name in _names(arena):  # else it was removed meanwhile
                    checked.append(_uncheckable(name, error))
        memory = arena.statistics()
        return _CheckReport(
            version=1,
            arena=options.pin,
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


def _check_books(arena: Arena, repair: bool) -> tuple[_Checked, _Heap]:
    found = arena.check(repair=repair)
    directory = _checked("(directory)", "list", lib.ADS_DIRECTORY_ENTRIES, found.directory)
    heap = found.heap
    return directory, _Heap(
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
) -> _Checked:
    return _Checked(
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
    )


def _check_one(arena: Arena, name: str, repair: bool) -> _Checked:
    from arenads.structure import Checkable

    try:
        structure = arena.structures[name]
        kind, entries, most = structure.kind_name, len(structure), structure.max_entries
        counters = structure.counters()
        if not isinstance(structure, Checkable):
            nothing = (None, None, None, None, 0, "")
            return _Checked(name, kind, entries, most, *nothing, counters)
        return _checked(name, kind, most, structure.check(repair=repair), counters)
    except DamagedError as error:
        return _uncheckable(name, error)


def _uncheckable(name: str, error: ArenadsError) -> _Checked:
    return _Checked(name, "unknown", 0, 0, None, None, None, None, 1, error.message)


def _check_table(report: _CheckReport) -> Table:
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
        rows.append(("(heap)", "blocks", shown(heap.blocks), *["-"] * 5, shown(heap.errors), "-"))
    titles = "NAME,KIND,ENTRIES,AT MOST,DELETED,FREE,LEAKED,REPAIRED,ERRORS,FAILED"
    return Table(
        titles.split(","),
        rows,
        right=range(2, 10),
        heading=tuple(heading),
        marked=marked,
    )


# --- arguments ----------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arenads",
        description="Data structures in a BPF arena, shared by BPF programs and Python.",
        epilog="Exit status: 0 all is well, 1 the answer is no, 2 it could not be done.",
    )
    parser.add_argument("--version", action="version", version=f"arenads {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str = "") -> Any:
        one = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip()
        )
        one.set_defaults(command=run)
        return one

    doctor = add(
        "doctor",
        _doctor,
        "try what works on this machine, and say what to do about the rest",
        'Exit status 0 only if programs run on the engine that "auto" takes.',
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")

    demo = add(
        "demo",
        _demo,
        "count the system calls and context switches of every process, in C and in Python",
        "Exit status 1 if the two sides disagree.",
    )
    demo.add_argument(
        "--engine", choices=("auto", "kernel", "native"), default="auto", help="default: auto"
    )
    demo.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="N", help="how long to count; default: 5"
    )
    demo.add_argument("--json", action="store_true", help="print one JSON object, at the end")

    build = add(
        "compile",
        _compile,
        "compile a program with clang >= 19 or ziglang",
        "Prints the path of the result. For the native engine a shared object and, beside it,"
        " the BPF object that has its types.",
    )
    build.add_argument("source", metavar="prog.bpf.c")
    build.add_argument("-o", dest="output", metavar="OUT", help="default: beside the source")
    build.add_argument(
        "--engine", choices=("kernel", "native"), default="kernel", help="default: kernel"
    )
    build.add_argument(
        "-I", dest="include", metavar="DIR", action="append", default=[], help="look for headers"
    )
    build.add_argument(
        "-D", dest="define", metavar="NAME[=VALUE]", action="append", default=[], help="define"
    )

    cflags = add("cflags", _cflags, "print compiler options for a build of your own")
    target = cflags.add_mutually_exclusive_group()
    target.add_argument(
        "--bpf",
        dest="target",
        action="store_const",
        const="bpf",
        help="all options of a BPF object, for clang >= 19; without: the include path only",
    )
    target.add_argument(
        "--native",
        dest="target",
        action="store_const",
        const="host",
        help="all options of a shared object for the native engine",
    )

    header = add(
        "header",
        _header,
        "write the C header of record classes, which checks itself",
        "Exit status 1 if the file to check is out of date.",
    )
    header.add_argument(
        "types", metavar="module:Class", nargs="+", help="a msgspec.Struct or IntEnum class"
    )
    target = header.add_mutually_exclusive_group()
    target.add_argument("-o", dest="output", metavar="FILE", help="default: standard output")
    target.add_argument("--check", metavar="FILE", help="only say whether FILE is up to date")

    vmlinux = add("vmlinux", _vmlinux, "write a vmlinux.h: the types of the running kernel")
    vmlinux.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        help="default: standard output, or vmlinux.h in this directory if that is a terminal",
    )

    check = add(
        "check",
        _check,
        "walk the structures of a pinned arena and account for every entry",
        "Exit status 1 if something is damaged or leaked. While others write, an entry that is"
        " in the hands of a writer counts as leaked.",
    )
    check.add_argument("pin", metavar="PIN", help="path of the pinned arena")
    check.add_argument("name", metavar="NAME", nargs="?", help="one structure; default: all")
    check.add_argument(
        "--repair", action="store_true", help="give leaked entries back; nobody may be writing"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
