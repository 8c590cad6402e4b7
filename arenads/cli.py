"""The command line: `arenads`, or `python -m arenads`.

Exit status: 0 all is well; 1 the answer is no (`doctor`: the engine does not work, `demo`: the
two sides disagree, `check`: something is damaged or leaked); 2 the command could not be done;
130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec

from arenads import __version__, compiler
from arenads.errors import ArenadsError, CompileError, DamagedError
from arenads.table import Live, Table, printable, show

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

    @property
    def fine(self) -> bool:
        """Whether nothing is damaged, and nothing stays leaked."""
        return not self.errors and (self.leaked or 0) <= (self.repaired or 0)


class _CheckReport(msgspec.Struct, frozen=True):
    version: int
    arena: str
    engine: str
    size: int
    populated: int
    used: int
    no_memory: int
    damaged: int
    structures: list[_Checked]


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
        for each in report.structures:
            if each.error:
                _say(printable(each.error))
    return 0 if all(each.fine for each in report.structures) else NO


def _check_arena(options: argparse.Namespace) -> _CheckReport:
    from arenads.arena import Arena

    with Arena.open(options.pin, readonly=not options.repair) as arena:
        names = [options.name] if options.name is not None else sorted(arena.structures)
        checked = [_check_one(arena, name, options.repair) for name in names]
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
            structures=checked,
        )


def _check_one(arena: Any, name: str, repair: bool) -> _Checked:
    from arenads.structure import Checkable

    try:
        structure = arena.structures[name]
        kind, entries, most = structure.kind_name, len(structure), structure.max_entries
        if not isinstance(structure, Checkable):
            return _Checked(name, kind, entries, most, None, None, None, None, 0, "")
        found = structure.check(repair=repair)
    except DamagedError as error:
        return _Checked(name, "unknown", 0, 0, None, None, None, None, 1, error.message)
    place = f"{name}: the first error is at offset {found.error_at:#x}" if found.errors else ""
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
        place,
    )


def _check_table(report: _CheckReport) -> Table:
    def shown(number: int | None) -> str:
        return "-" if number is None else f"{number:,}"

    return Table(
        ("NAME", "KIND", "ENTRIES", "AT MOST", "DELETED", "FREE", "LEAKED", "REPAIRED", "ERRORS"),
        [
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
            )
            for each in report.structures
        ],
        right=range(2, 9),
        heading=(
            f"{report.arena}: {report.engine} engine, {report.used:,} bytes used,"
            f" {report.populated:,} populated, {report.size:,} at most",
            f"allocations without memory: {report.no_memory:,}; operations that met damage:"
            f" {report.damaged:,}",
        ),
        marked=[number for number, each in enumerate(report.structures) if not each.fine],
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
