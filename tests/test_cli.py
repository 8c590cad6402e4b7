"""The command line, run as users run it: in a process of its own."""

from __future__ import annotations

import doctest
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Run, child_environment, fails

import arenads
from arenads import table
from arenads.table import Live, Table, printable, show

GOOD = """\
#include <arenads/bpf.h>
#ifdef EXTRA
#include "extra.h"
#endif
ADS_ARENA(1 * ADS_MIB);
ADS_HASHMAP(counts, __u32, __u64, ENTRIES);
SEC("syscall") int nothing(void *ctx) { return 0; }
"""


# --- what every command shares ----------------------------------------------------------


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").stdout == f"arenads {arenads.__version__}\n"


def test_help_names_every_command(run: Run) -> None:
    text = run("--help").stdout
    for command in (
        "doctor",
        "demo",
        "compile",
        "cflags",
        "vmlinux",
        "check",
        "ls",
        "dump",
        "top",
        "schema",
    ):
        assert command in text
        assert run(command, "--help").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check"], ["compile"], ["--nonsense"]])
def test_a_usage_error_exits_with_2(run: Run, arguments: list[str]) -> None:
    assert "usage: arenads" in fails(run(*arguments))


@pytest.mark.parametrize("command", [["cflags"], ["vmlinux"]])
def test_a_reader_that_goes_away_is_no_error(command: list[str], kernel_types: None) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "arenads", *command],
            env=child_environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_full_disk_is_told_without_a_traceback() -> None:
    with open("/dev/full", "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "arenads", "cflags"],
            env=child_environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "arenads: output: No space left on device\n"


@pytest.mark.parametrize(
    "command",
    [
        ["doctor"],
        ["cflags"],
        ["ls"],
        ["schema", "--key", "u32"],
        ["header", "enum:IntEnum"],
        ["check", "absent"],
        ["dump", "absent"],
        ["top", "absent"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("closed", [(1,), (1, 2)], ids=["output", "output and errors"])
def test_a_closed_standard_output_is_told_without_a_traceback(
    command: list[str], closed: tuple[int, ...]
) -> None:
    redirections = "".join(f" {number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@"{redirections}', "sh", sys.executable, "-m", "arenads", *command],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = "" if 2 in closed else "arenads: standard output is closed\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_with_standard_error_closed_nothing_goes_to_standard_output_instead() -> None:
    command = [sys.executable, "-m", "arenads", "check", "absent"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_an_interrupt_is_quiet(eventually: Callable[[Callable[[], bool]], None]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "arenads", "demo", "--engine", "native", "--seconds", "600"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell without job control starts its children deaf to it, and so may we be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    maps = Path(f"/proc/{child.pid}/maps")
    eventually(lambda: "demo.native.so" in maps.read_text())
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=60)
    assert (child.returncode, output, errors) == (128 + signal.SIGINT, b"", b"")


INTERRUPT_AT_IMPORT = """\
import os, signal, sys
class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
if "INTERRUPT_AT" in os.environ:
    sys.meta_path.insert(0, Interrupt)
"""


@pytest.mark.parametrize(
    "module", ["arenads._core", "arenads.view", "arenads.cli", "arenads.condition", "arenads.pins"]
)
@pytest.mark.parametrize("form", ["module", "script"])
def test_an_interrupt_while_it_starts_is_quiet(tmp_path: Path, module: str, form: str) -> None:
    script = Path(sys.executable).with_name("arenads")
    if form == "script" and not script.exists():
        pytest.skip("the command is not installed here")
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_AT_IMPORT)
    environment = child_environment(INTERRUPT_AT=module)
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    command = [sys.executable, "-m", "arenads"] if form == "module" else [script]
    done = subprocess.run(
        [*command, "ls"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


def test_an_import_of_the_package_leaves_interrupts_alone(python: Callable[..., object]) -> None:
    python("""
        import signal
        before = signal.getsignal(signal.SIGINT)
        import arenads
        assert signal.getsignal(signal.SIGINT) is before
    """)


@pytest.fixture
def kernel_types() -> None:
    from arenads import libbpf
    from arenads.btf import KERNEL_BTF

    if not os.access(KERNEL_BTF, os.R_OK):
        pytest.skip(f"{KERNEL_BTF} cannot be read")
    try:
        libbpf.version()
    except arenads.LibbpfMissingError as error:
        pytest.skip(str(error))


# --- compile, cflags, vmlinux -----------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "good.bpf.c"
    path.write_text(GOOD)
    return path


def test_compile_prints_the_path_of_what_it_made(run: Run, source: Path) -> None:
    done = run("compile", source.name, "-D", "ENTRIES=8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "good.bpf.o\n", "")
    assert source.with_name("good.bpf.o").read_bytes()[:4] == b"\x7fELF"


def test_compile_for_the_native_engine_makes_both_objects(run: Run, source: Path) -> None:
    done = run("compile", "good.bpf.c", "-o", "x.native.so", "--engine=native", "-DENTRIES=8")
    assert (done.returncode, done.stdout) == (0, "x.native.so\n")
    with arenads.load(source.with_name("x.bpf.o"), engine="native") as program:
        assert program["counts"].max_entries == 8


def test_compile_looks_for_headers_where_it_is_told(run: Run, source: Path) -> None:
    folder = source.parent / "headers"
    folder.mkdir()
    (folder / "extra.h").write_text("#define ENTRIES 8\n")
    assert run("compile", source, "-I", folder, "-D", "EXTRA").returncode == 0


def test_the_compiler_speaks_for_itself(run: Run, source: Path) -> None:
    source.write_text(GOOD + "int broken(void) { return what; }\n")
    with pytest.raises(arenads.CompileError) as error:
        arenads.compile(source, source.parent / "other.o", defines=["ENTRIES=8"])
    said = fails(run("compile", source, "-DENTRIES=8"))
    assert said.startswith(str(error.value.output))
    assert f"{source}:8" in said
    assert not source.with_name("good.bpf.o").exists()


@pytest.mark.parametrize("wrong", ["absent.bpf.c", ".", "notes.txt", "", "a\nb.c"])
def test_compile_refuses_what_is_no_source(run: Run, tmp_path: Path, wrong: str) -> None:
    (tmp_path / "notes.txt").write_text("no C")
    assert "expected" in fails(run("compile", wrong))


def test_cflags_are_words_for_a_shell(run: Run) -> None:
    assert shlex.split(run("cflags").stdout) == arenads.cflags()
    assert shlex.split(run("cflags", "--bpf").stdout) == arenads.cflags("bpf")
    assert shlex.split(run("cflags", "--native").stdout) == arenads.cflags("host")


def test_cflags_are_for_one_side_at_a_time(run: Run) -> None:
    assert "not allowed with" in fails(run("cflags", "--bpf", "--native"))


def test_vmlinux_goes_to_standard_output(run: Run, kernel_types: None) -> None:
    text = run("vmlinux").stdout
    assert "struct task_struct {" in text
    assert text == run("vmlinux", "-o", "-").stdout


def test_vmlinux_goes_to_a_file(run: Run, tmp_path: Path, kernel_types: None) -> None:
    done = run("vmlinux", "-o", "types.h")
    assert (done.returncode, done.stdout) == (0, "types.h\n")
    assert "struct task_struct {" in (tmp_path / "types.h").read_text()


def test_vmlinux_says_why_it_cannot_write(run: Run, kernel_types: None) -> None:
    assert "/no/such/folder" in fails(run("vmlinux", "-o", "/no/such/folder/vmlinux.h"))


def test_vmlinux_names_standard_output(kernel_types: None) -> None:
    with open("/dev/full", "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "arenads", "vmlinux"],
            env=child_environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    said = "arenads: standard output: the header cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


# --- header -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nodir/x.h", "/sys/x.h"])
def test_header_names_the_file_that_it_cannot_write(run: Run, path: str) -> None:
    said = fails(run("header", "-o", path, "enum:IntEnum"))
    assert said.startswith(f"arenads: {path}: ")


def test_header_leaves_a_file_alone_that_it_has_not_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("mine\n")
    assert "found something else" in fails(run("header", "-o", "mine.py", "enum:IntEnum"))
    assert (tmp_path / "mine.py").read_text() == "mine\n"


def test_header_says_that_the_file_to_check_is_not_there(run: Run) -> None:
    done = run("header", "--check", "absent.h", "enum:IntEnum")
    assert done.returncode == 1 and "absent.h does not exist; write it anew" in done.stderr


def test_header_says_that_the_directory_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = 'cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "arenads", "header", "enum:IntEnum"],
        cwd=tmp_path,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "the current directory cannot be searched" in fails(done)


# --- check ------------------------------------------------------------------------------


@pytest.fixture
def pinned(engine: str, pin: Path) -> Iterator[Path]:
    """The pin of an arena with one structure of each kind."""
    with arenads.create("2MiB", engine=engine) as arena:
        counts = arena.hashmap("counts", key=arenads.u32, value=arenads.u64, max_entries=100)
        counts.update({1: 1, 2: 2, 3: 3})
        arena.list("recent", value=arenads.u64).push(1)
        arena.queue("inbox", value=arenads.u64).push_many([1, 2])
        arena.pin(pin)
    yield pin


def test_check_accounts_for_every_structure(run: Run, pinned: Path) -> None:
    done = run("check", pinned, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["version"], report["arena"], report["size"]) == (1, str(pinned), 2 << 20)
    found = {each["name"]: (each["kind"], each["entries"]) for each in report["structures"]}
    assert found == {"counts": ("hash map", 3), "recent": ("list", 1), "inbox": ("queue", 2)}
    assert all(each["errors"] == 0 for each in report["structures"])


def test_check_prints_a_table(run: Run, pinned: Path) -> None:
    done = run("check", pinned)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{pinned}: ")
    titles = "NAME KIND ENTRIES AT MOST DELETED FREE MOVING LEAKED REPAIRED ERRORS FAILED"
    assert lines[3].split() == titles.split()
    names = ["counts", "inbox", "recent", "(directory)", "(heap)"]
    assert [line.split()[0] for line in lines[4:]] == names


def test_check_of_one_structure_shows_no_other(run: Run, pinned: Path) -> None:
    report = json.loads(run("check", pinned, "counts", "--json").stdout)
    assert [each["name"] for each in report["structures"]] == ["counts"]
    assert report["directory"] is report["heap"] is None


def test_check_of_an_absent_structure_names_those_that_exist(run: Run, pinned: Path) -> None:
    said = fails(run("check", pinned, "nothing"))
    assert "'nothing'" in said
    assert "'counts'" in said


def test_check_of_something_else_says_what_was_expected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0" * 8192)
    for wrong in ("absent", ".", "file", "/dev/null", "", "a\nb"):
        assert "arenads: " in fails(run("check", wrong))


LIST_HEAD = 128  # offset of `head` in struct ads_collection; the ABI


@pytest.fixture
def native_pin() -> Iterator[Path]:
    place = Path(f"/dev/shm/arenads-test-cli-{os.getpid()}")
    yield place
    place.unlink(missing_ok=True)


def list_with_head(place: Path, head: int) -> None:
    """Make an arena with a list of two entries whose head link somebody has overwritten."""
    with arenads.create("1MiB", engine="native") as arena:
        recent = arena.list("recent", value=arenads.u64)
        recent.push(1)
        recent.push(2)
        arena.pin(place)
        at = recent.offset + LIST_HEAD
    with open(place, "r+b") as file:
        file.seek(at)
        file.write(head.to_bytes(8, sys.byteorder))


def test_a_leak_is_found_and_repaired(run: Run, native_pin: Path) -> None:
    list_with_head(native_pin, 1)  # the list ends at once: both entries are in no place
    found = run("check", native_pin, "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["structures"][0]["leaked"] == 2
    repaired = run("check", native_pin, "--repair", "--json")
    assert repaired.returncode == 0
    assert json.loads(repaired.stdout)["structures"][0]["repaired"] == 2
    assert run("check", native_pin).returncode == 0


def test_damage_is_found_and_its_place_told(run: Run, native_pin: Path) -> None:
    list_with_head(native_pin, 0x7FFFFFF8)
    done = run("check", native_pin)
    assert done.returncode == 1
    assert "offset 0x" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(run("check", native_pin, "--json").stdout)["structures"][0]["errors"] >= 1


@pytest.mark.parametrize("name", [[], ["recent"]], ids=["all", "one"])
def test_a_name_that_is_listed_and_not_found_is_damage(
    run: Run, native_pin: Path, name: list[str]
) -> None:
    with arenads.create("1MiB", engine="native", provision=None) as arena:
        arena.list("recent", value=arenads.u64)
        arena.pin(native_pin)
    entry = native_pin.read_bytes().index(b"recent".ljust(64, b"\0")) - 8
    with open(native_pin, "r+b") as file:
        file.seek(entry)  # the hash of the name
        file.write(b"\x55" * 4)
    done = run("check", native_pin, *name)
    assert done.returncode == 1
    assert "the directory lists 'recent', and does not find it" in done.stderr
    assert "no structure" not in done.stderr


def test_a_damaged_root_is_an_answer_too(run: Run, native_pin: Path) -> None:
    with arenads.create("1MiB", engine="native") as arena:
        arena.pin(native_pin)
    with open(native_pin, "r+b") as file:
        file.seek(64 + 16)  # root.size
        file.write(b"\xff" * 8)
    assert "root" in fails(run("check", native_pin), status=1)


def test_check_leaves_the_arena_as_it_was(run: Run, native_pin: Path) -> None:
    list_with_head(native_pin, 1)
    before = native_pin.read_bytes()
    run("check", native_pin)
    assert native_pin.read_bytes() == before


# --- tables -----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_examples_of_the_tables_run() -> None:
    assert doctest.testmod(table).failed == 0


def test_a_name_cannot_steer_the_terminal() -> None:
    shown = Table(("NAME",), [("\x1b[2J\nevil\u202e[red]x",)], heading=("\x07",)).plain()
    assert shown == "?\nNAME\n?[2J?evil?[red]x"


def test_brackets_in_a_name_are_no_markup() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    show(Table(("NAME",), [("[red]x[/red] [/]",)]), terminal)
    assert "[red]x[/red] [/]" in terminal.getvalue()


def test_a_table_without_rich_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "rich" or name.startswith("rich."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    rows = Table(("NAME", "COUNT"), [("a", 1)], right={1})
    show(rows, terminal)
    assert terminal.getvalue() == rows.plain() + "\n"


def test_a_table_without_rows_has_its_titles() -> None:
    assert Table(("NAME", "COUNT"), []).plain() == "NAME  COUNT"


def test_a_live_table_is_drawn_again_on_a_terminal() -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    with Live(terminal) as live:
        live.update(Table(("NAME",), [("first",)]))
        live.update(Table(("NAME",), [("second",)]))
    assert "first" in terminal.getvalue()
    assert terminal.getvalue().count("second") >= 1


def test_a_live_table_is_printed_once_elsewhere() -> None:
    file = io.StringIO()
    with Live(file) as live:
        live.update(Table(("NAME",), [("first",)]))
        live.update(Table(("NAME",), [("second",)]))
    assert file.getvalue() == "NAME\nsecond\n"


def test_a_live_table_is_not_printed_after_an_error() -> None:
    file = io.StringIO()
    with pytest.raises(KeyError), Live(file) as live:
        live.update(Table(("NAME",), [("first",)]))
        raise KeyError
    assert file.getvalue() == ""


@pytest.mark.parametrize("text", ["plain", "grüße", "日本", "a b"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
