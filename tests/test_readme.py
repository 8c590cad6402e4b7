"""What README.md says is true: its commands, its examples, its tables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import child_environment
from unprivileged import drop_capabilities

import arenads
from arenads import cli

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def text() -> str:
    return README.read_text()


def block(text: str, marker: str) -> str:
    """The fenced block that follows a comment."""
    found = re.findall(rf"<!-- {re.escape(marker)} -->\n+```\w*\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == 1, f"expected one fenced block after {marker}"
    return str(found[0])


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


# --- commands ---------------------------------------------------------------------------


def test_the_test_command_is_the_one_that_ci_runs(text: str) -> None:
    assert block(text, "test-command") == (
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' &&"
        " .venv/bin/python -m pytest\n"
    )


def test_the_demo_command_sets_up_everything_and_needs_no_root(text: str) -> None:
    assert block(text, "demo-command") == (
        "python3 -m venv .venv && .venv/bin/pip install -e '.[cli,compiler]' &&"
        " .venv/bin/arenads demo\n"
    )


def test_the_command_that_measures_finds_its_tests(text: str) -> None:
    (command,) = re.findall(r"`(python -m pytest tests/bench [^`]*)`", text)
    done = subprocess.run(
        [sys.executable, *command.split()[1:], "--collect-only", "-q"],
        cwd=README.parent,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_cells.py", "test_codec.py", "test_view.py"):
        assert f"tests/bench/{name}::" in done.stdout


def test_every_command_of_the_tool_is_documented_and_no_other(text: str) -> None:
    section = text.split("## Command line")[1].split("\n## ")[0]
    documented = {match.split()[0] for match in re.findall(r"^\| `([^`]+)` \|", section, re.M)}
    usage = cli._parser().format_help()
    commands = set(re.findall(r"^    (\w+) ", usage, re.M))
    assert documented == commands | {"--version"}


def test_every_option_that_is_documented_exists(text: str) -> None:
    section = text.split("## Command line")[1].split("\n## ")[0]
    parser = cli._parser()
    for line in re.findall(r"^\| `([^`]+)` \|", section, re.M):
        command, *words = line.replace("\\|", "|").split()
        options = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", " ".join(words))
        if not command.startswith("-"):
            action: Any = parser._subparsers._group_actions[0]  # type: ignore[union-attr]
            known = set(action.choices[command]._option_string_actions)
            assert set(options) <= known, line


def test_every_error_that_is_named_exists(text: str) -> None:
    for name in set(re.findall(r"`(\w+Error)`", text)):
        assert hasattr(arenads, name) or name in ("KeyError", "PermissionError", "MemoryError")


def test_there_is_a_place_for_results(text: str) -> None:
    assert text.index("<!-- results -->") < text.index("<!-- /results -->")


def test_the_command_is_called_in_one_way(text: str) -> None:
    assert len(re.findall(r"python -m arenads", text)) == 1  # where it says that it is the same


def test_extras_are_named_before_they_are_needed(text: str) -> None:
    assert text.index("'.[numpy,arrow]'") < text.index("import numpy")


# --- examples ---------------------------------------------------------------------------


@pytest.fixture
def example(text: str, tmp_path: Path) -> Path:
    """A folder with both sides of the example."""
    for name in ("tasks", "tree", "events"):
        (tmp_path / f"{name}.bpf.c").write_text(block(text, f"example: {name}.bpf.c"))
        (tmp_path / f"{name}.py").write_text(block(text, f"example: {name}.py"))
    return tmp_path


def test_each_side_of_the_example_has_about_twenty_lines(example: Path) -> None:
    for path in example.glob("tasks.*"):
        assert len(path.read_text().splitlines()) <= 26


def run_example(folder: Path, name: str, engine: str) -> list[str]:
    """Run a script of the README; its output."""
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env=child_environment(),
        # "auto" decides in the example: without capabilities it takes the native engine.
        preexec_fn=drop_capabilities if engine == "native" else None,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_runs_and_prints_what_it_found(example: Path, engine: str) -> None:
    *busiest, last = run_example(example, "tasks.py", engine)
    assert 1 <= len(busiest) <= 5
    assert re.fullmatch(rf"{engine} \d+ task\(calls=\d{{4,}}, comm='.*'\)", last), last


def test_the_example_of_bulk_verbs_prints_what_it_says(
    text: str, engine: str, tmp_path: Path
) -> None:
    (tmp_path / "bulk.py").write_text(block(text, "example: bulk.py"))
    done = subprocess.run(
        [sys.executable, "bulk.py"],
        cwd=tmp_path,
        env=child_environment(),
        preexec_fn=drop_capabilities if engine == "native" else None,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[70, 80, 0] [True, True, False]",
        "[Task(calls=80, comm='task 8'), None] 499",
        "501 3757500",
        "['key', 'calls', 'comm']",
    ]


def test_the_tree_of_the_example_is_built_by_one_side_and_walked_by_the_other(
    example: Path, engine: str
) -> None:
    *found, last = run_example(example, "tree.py", engine)
    nodes = [(int(pid), int(calls)) for pid, calls in map(str.split, found)]
    pids = [pid for pid, _calls in nodes]
    assert pids == sorted(set(pids))
    assert len(nodes) > 1 if engine == "kernel" else len(nodes) == 1
    mine = re.fullmatch(rf"{engine} True <process at 0x\w+: pid=(\d+), calls=(\d+), left=.*>", last)
    assert mine, last
    # BPF found the node that Python made, and counted there.
    assert dict(nodes)[int(mine[1])] in range(1001, int(mine[2]))


def test_the_example_of_events_prints_the_last_of_all_cpus(example: Path, engine: str) -> None:
    (line,) = run_example(example, "events.py", engine)
    found = re.fullmatch(rf"{engine} (\d+) event\(time=\d{{6,}}, pid=\d+, cpu=\d+\) 0", line)
    assert found, line
    assert int(found[1]) > 1 if engine == "kernel" else int(found[1]) == 1


@pytest.mark.parametrize("name", ["tasks", "tree", "events"])
@pytest.mark.parametrize("chosen", ["kernel", "native"])
def test_the_examples_compile_without_a_warning(example: Path, name: str, chosen: Any) -> None:
    arenads.compile(example / f"{name}.bpf.c", engine=chosen, flags=["-Werror"])


def test_classes_and_their_header_are_used_as_the_readme_says(
    text: str, engine: str, tmp_path: Path
) -> None:
    for name in ("samples.py", "samples.bpf.c", "use_samples.py"):
        (tmp_path / name).write_text(block(text, f"example: {name}"))
    command = ["-m", *block(text, "header-command").split()]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=child_environment(),
            preexec_fn=drop_capabilities if engine == "native" else None,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert run(*command).stdout == "samples.h\n"
    done = run("use_samples.py")
    assert (done.stdout, done.stderr) == ("BUSY BUSY\n", "")


def test_a_pinned_arena_is_opened_as_the_readme_says(
    text: str, example: Path, engine: Any, pin: Path, python: Callable[..., Any]
) -> None:
    script = next(each for each in blocks(text, "python") if "arenads.open" in each)
    with arenads.load(example / "tasks.bpf.c", engine=engine) as program:
        tasks: Any = program["tasks"]
        tasks[1] = {"calls": 7, "comm": "init"}
        program.arena.pin(pin)
        done = python("import arenads\n" + script.replace("/sys/fs/bpf/tasks", str(pin)))
    assert "'tasks'" in done.stdout
    assert "(1, task(calls=7, comm='init'))" in done.stdout
