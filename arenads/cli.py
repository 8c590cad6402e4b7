"""The command line: `arenads`, or `python -m arenads`.

Exit status: 0 all is well; 1 the answer is no (`doctor`: the engine does not work, `demo`: the
two sides disagree, `bench`: something could not be measured, `check`, `ls`, `dump`, `top`:
something is damaged or leaked, `header --check`: the file is out of date); 2 it could not be done;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import msgspec

from arenads import __version__, _startup, compiler
from arenads.condition import read_condition
from arenads.errors import ArenadsError, CompileError, DamagedError
from arenads.table import Live, json_text, printable, show, write_rows

__all__ = ["main"]

NO = 1
FAILED = 2
INTERRUPTED = _startup.INTERRUPTED
PIPE_CLOSED = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status."""
    if sys.stderr is None:  # closed: nobody is told, and nothing else may take its number
        sys.stderr = open(os.devnull, "w")
    if sys.stdout is None:
        sys.exit(_say("standard output is closed"))
    try:
        _startup.end()
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
    # Names and what is stored come from the arena: nothing of it may steer a terminal.
    lines = [printable(line) for line in message.expandtabs().split("\n")]
    print("arenads:", "\n".join(lines), file=sys.stderr)
    return FAILED


def _complain(message: str) -> None:
    _say(printable(message))


def _print_json(value: Any) -> None:
    print(json_text(value))


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
        state = "is out of date" if os.path.exists(options.check) else "does not exist"
        _say(f"{options.check} {state}; write it anew: {command} -o {options.check}")
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


def _check(options: argparse.Namespace) -> int:
    from arenads.check import check_arena

    try:
        report = check_arena(options.pin, options.name, repair=options.repair, force=options.force)
    except DamagedError as error:  # the root or the directory: nothing can be listed
        _say(error.message)
        return NO
    if options.json:
        _print_json(report)
    else:
        show(report.table())
        for complaint in report.complaints:
            _say(printable(complaint))
    return 0 if report.fine else NO


def _ls(options: argparse.Namespace) -> int:
    if options.pin is None:
        from arenads.pins import PinnedArena, find_arenas

        if options.arrow is not None:
            return _say("an Arrow file has the structures of one arena: expected its PIN")
        found = find_arenas()
        if options.csv:
            rows = [msgspec.structs.asdict(each) for each in found.arenas]
            write_rows(rows, PinnedArena.__struct_fields__, sys.stdout)
        else:
            _print_json(found) if options.json else show(found.table())
        for complaint in found.complaints:
            _complain(complaint)
        return 0
    from arenads.ls import LISTED_COLUMNS, list_arena, listed_rows

    try:
        listed = list_arena(options.pin, options.name)
    except DamagedError as error:  # the root: nothing can be listed
        _say(error.message)
        return NO
    if options.arrow is not None:
        from arenads.arrow_file import write_listing

        write_listing(listed, options.arrow)
        print(options.arrow)
    elif options.csv:
        write_rows(listed_rows(listed), LISTED_COLUMNS, sys.stdout)
    else:
        _print_json(listed) if options.json else show(listed.table())
    for each in listed.structures:
        if each.error:
            _say(printable(f"{each.name}: {each.error}"))
    if listed.error:
        _say(printable(listed.error))
    return 0 if listed.fine else NO


def _dump(options: argparse.Namespace) -> int:
    from arenads.dump import Request, dump_arena

    if options.arrow is not None:
        return _dump_arrow(options)
    if options.where and options.name is None:
        _say("--where is about the fields of one structure: expected its NAME")
        return FAILED
    request = Request(
        options.pin,
        options.name,
        _form(options),
        [read_condition(text) for text in options.where],
        options.limit,
    )
    try:
        whole = dump_arena(request, sys.stdout, sys.stderr, _complain)
    except DamagedError as error:  # the root or the directory
        _say(error.message)
        return NO
    return 0 if whole else NO


def _dump_arrow(options: argparse.Namespace) -> int:
    from arenads.arrow_file import write_arrow

    if options.where or options.limit is not None:
        return _say("an Arrow file has all entries: --arrow goes without --where and --limit")
    try:
        write_arrow(options.pin, options.name, options.arrow)
    except DamagedError as error:
        _say(error.message)
        return NO
    print(options.arrow)
    return 0


def _top(options: argparse.Namespace) -> int:
    from arenads.top import Request, show_top

    request = Request(
        options.pin,
        options.name,
        options.sort,
        options.reverse,
        [read_condition(text) for text in options.filter],
        options.interval,
        1 if options.once else options.count,
        _form(options),
        options.arrow or "",
    )
    try:
        fine = show_top(request, sys.stdout)
    except DamagedError as error:
        _say(error.message)
        return NO
    if options.arrow is not None:
        print(options.arrow)
    return 0 if fine else NO


def _form(options: argparse.Namespace) -> Any:
    """Return in which form entries are wanted."""
    if options.arrow is not None:
        return "arrow"
    return "json" if options.json else "csv" if options.csv else "text"


def _schema(options: argparse.Namespace) -> int:
    from arenads.schema_text import as_c, schema_text

    text = schema_text(options.key, options.value, btf=options.btf)
    print(text.decode() if options.c is None else as_c(options.c, text).rstrip("\n"))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from arenads.bench import saved
    from arenads.bench.report import table
    from arenads.bench.run import choose, encode, listing, run

    if options.source is not None and (options.quick or options.only or options.list):
        return _say("--from measures nothing: it goes without --quick, --only and --list")
    cells = choose(options.quick, options.only)
    if options.list:
        show(listing(cells))
        return 0
    _check_bench_output(options)  # better told now than after the run
    if options.source is None:
        report = run(cells, quick=options.quick, command=_bench_command(options))
    else:
        report = saved.read(options.source)
    if options.json == "-":
        sys.stdout.write(encode(report).decode())
    elif options.markdown != "-":
        show(table(report.cells, report.machine))
    _write_bench_output(options, report)
    for line in report.remarks():
        _say(printable(line))
    if options.source is not None:
        return 0
    if not report.complete:
        return INTERRUPTED
    return NO if not report.cells or any(each.failed for each in report.skipped) else 0


def _bench_command(options: argparse.Namespace) -> str:
    words = ["arenads", "bench", *(["--quick"] if options.quick else [])]
    for name in options.only:
        words += ["--only", name]
    return shlex.join([*words, "--json", "results.json", "--html", "results.html"])


def _check_bench_output(options: argparse.Namespace) -> None:
    from arenads.replacing import check_replaceable

    if options.json not in (None, "-"):
        if os.path.exists(options.json) and not os.path.isfile(options.json):
            open(options.json, "ab").close()  # a device or a FIFO: written to as it is
        else:
            check_replaceable(options.json)
    if options.html is not None:
        from arenads.bench.plots import need_plots

        need_plots()
        check_replaceable(options.html)
    if options.markdown not in (None, "-"):
        from arenads.bench.markdown import check_target

        check_target(options.markdown)


def _write_bench_output(options: argparse.Namespace, report: Any) -> None:
    from arenads.bench.run import encode
    from arenads.replacing import write_whole

    if options.json not in (None, "-"):
        write_whole(options.json, encode(report))
    if options.html is not None:
        from arenads.bench.html import page

        write_whole(options.html, page(report).encode())
    if options.markdown is not None:
        from arenads.bench.markdown import markdown, write_between_marks

        if options.markdown == "-":
            sys.stdout.write(markdown(report))
        else:
            write_between_marks(options.markdown, markdown(report))


# --- arguments ----------------------------------------------------------------------------------


# Seconds. Clocks of the system take no more than some hundred years.
_LONGEST: Final = 10 * 365.25 * 86_400


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0 and up to {_LONGEST:,.0f} (ten years), found {text!r}"
        )
    return seconds


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= sys.maxsize:
        raise argparse.ArgumentTypeError(
            f"expected a number from 1 to {sys.maxsize}, found {text!r}"
        )
    return count


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

    bench = add(
        "bench",
        _bench,
        "measure structures in an arena against kernel maps, side by side",
        "On an idle machine all of it takes some twenty minutes, --quick about one; on a busy one a"
        " multiple, since disturbed rounds are repeated. An interrupt ends it"
        " with the table of what was measured. Exit status 1 if something could not be measured"
        " although it should run here.",
    )
    bench.add_argument("--quick", action="store_true", help="measure a representative part")
    bench.add_argument("--json", metavar="FILE", help="write all results; - is standard output")
    bench.add_argument(
        "--html", metavar="FILE", help="write a page with plots and all figures; needs matplotlib"
    )
    bench.add_argument(
        "--markdown",
        metavar="FILE",
        help="write tables: a new file, or between the lines <!-- results --> and"
        " <!-- /results --> of one that has them; - is standard output",
    )
    bench.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="measure nothing: take what --json wrote",
    )
    bench.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help='measure these, such as "bpf.hashmap.insert", "bpf.hashmap" or "*.lookup_*"',
    )
    bench.add_argument(
        "--list", action="store_true", help="say what can be measured, and where not, why"
    )

    check = add(
        "check",
        _check,
        "walk the structures of a pinned arena and account for every entry",
        "Exit status 1 if something is damaged or leaked. Others may be writing: what they have in"
        " hand is shown as moving.",
    )
    check.add_argument("pin", metavar="PIN", help="path of the pinned arena")
    check.add_argument("name", metavar="NAME", nargs="?", help="one structure; default: all")
    check.add_argument(
        "--repair",
        action="store_true",
        help="give leaked entries back; nobody may be writing: refused while a process is alive"
        " that has written. Of BPF programs that is not known: detach them before",
    )
    check.add_argument(
        "--force", action="store_true", help="repair even so: none of those processes writes now"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    _add_reading_commands(add)
    return parser


def _add_reading_commands(add: Callable[..., Any]) -> None:
    listing = add(
        "ls",
        _ls,
        "list the structures of a pinned arena, or the arenas that are pinned",
        "The arena is opened read-only. Exit status 1 if something is damaged.",
    )
    listing.add_argument(
        "pin", metavar="PIN", nargs="?", help="path of the pinned arena; default: find all"
    )
    listing.add_argument("name", metavar="NAME", nargs="?", help="one structure; default: all")
    form = listing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print titles and a line for each")
    form.add_argument(
        "--arrow", metavar="FILE", help="write the list as an Arrow IPC file; needs PIN and pyarrow"
    )

    dump = add(
        "dump",
        _dump,
        "print the entries of a pinned arena's structures",
        "The arena is opened read-only, and what waits in queues and rings stays there. Exit"
        " status 1 if something is damaged, or was removed meanwhile.",
    )
    dump.add_argument("pin", metavar="PIN", help="path of the pinned arena")
    dump.add_argument("name", metavar="NAME", nargs="?", help="one structure; default: all")
    form = dump.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object, with an entry on each line"
    )
    form.add_argument(
        "--csv", action="store_true", help="print a line of names and a line for each entry"
    )
    form.add_argument(
        "--arrow",
        metavar="FILE",
        help="write all entries of one structure as an Arrow IPC file; needs pyarrow",
    )
    dump.add_argument("--limit", type=_count, metavar="N", help="at most N entries of each")
    dump.add_argument(
        "--where",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="only entries for which this holds (also != < <= > >=); may be repeated",
    )

    top = add(
        "top",
        _top,
        "watch the entries of a structure, or the structures of an arena, and their rates",
        "Drawn in place on a terminal; q quits. The arena is opened read-only. Exit status 1 if"
        " something is damaged.",
    )
    top.add_argument("pin", metavar="PIN", help="path of the pinned arena")
    top.add_argument("name", metavar="NAME", nargs="?", help="one structure; default: all of them")
    top.add_argument(
        "--sort",
        metavar="FIELD",
        help="numbers from the largest on, text from A; FIELD/s is a rate; default: the first rate",
    )
    top.add_argument("--reverse", action="store_true", help="the other way round")
    top.add_argument(
        "--filter",
        metavar="FIELD>VALUE",
        action="append",
        default=[],
        help="only rows for which this holds (= != < <= > >=); may be repeated",
    )
    top.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds; default: 1"
    )
    times = top.add_mutually_exclusive_group()
    times.add_argument("--count", type=_count, metavar="N", help="end after N frames with rates")
    times.add_argument("--once", action="store_true", help="one frame with rates")
    form = top.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object for each frame")
    form.add_argument(
        "--csv",
        action="store_true",
        help="print a line for each row of each frame, with the time in the first column",
    )
    form.add_argument(
        "--arrow",
        metavar="FILE",
        help="write the same as an Arrow IPC file, at the end; needs pyarrow",
    )

    schema = add(
        "schema",
        _schema,
        "print what an arena's directory says of types, for C programs that make structures",
        "TYPE is a C type such as u32 or char[16], module:Class, or with --btf a struct's name.",
    )
    schema.add_argument("--key", metavar="TYPE", help="type of the keys")
    schema.add_argument("--value", metavar="TYPE", help="type of the values")
    schema.add_argument("--btf", metavar="OBJECT", help="a BPF object that has the types")
    schema.add_argument("--c", metavar="NAME", help="print the definition of a C string")
