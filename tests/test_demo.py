"""The demonstration: both sides agree on real events, and a disagreement is told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import child_environment
from unprivileged import drop_capabilities

import arenads
from arenads import compiler, demo
from arenads.table import Table

KEYS = [
    "engine",
    "kernel",
    "entries",
    "events_bpf",
    "events_user",
    "filtered_before",
    "filtered_after",
    "messages_out",
    "messages_in",
    "lost",
    "seconds",
]
SECONDS = 0.6


def run_command(
    *arguments: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arenads", "demo", *map(str, arguments)],
        env=child_environment(),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- one run, looked at from all sides --------------------------------------------------


class Shown(msgspec.Struct):
    outcome: demo.Outcome
    tables: list[Table]


@pytest.fixture(scope="module")
def shown(engine: Any) -> Shown:
    tables: list[Table] = []
    return Shown(demo.run(engine, SECONDS, tables.append), tables)


def test_nothing_disagrees(shown: Shown) -> None:
    assert shown.outcome.problems == ()


def test_the_report_is_of_this_engine_and_kernel(shown: Shown, engine: str) -> None:
    assert (shown.outcome.report.engine, shown.outcome.report.kernel) == (
        engine,
        os.uname().release,
    )


def test_the_sum_over_the_map_is_what_bpf_counted(shown: Shown) -> None:
    report = shown.outcome.report
    assert report.events_user == report.events_bpf > 0


def test_the_map_has_an_entry_for_this_process_at_least(shown: Shown) -> None:
    assert shown.outcome.report.entries >= 1


def test_a_filter_is_obeyed_from_the_next_event_on(shown: Shown) -> None:
    assert shown.outcome.report.filtered_before > 0
    assert shown.outcome.report.filtered_after == 0


def test_every_message_is_answered(shown: Shown) -> None:
    report = shown.outcome.report
    assert (report.messages_out, report.messages_in) == (demo.MESSAGES, demo.MESSAGES)


def test_nothing_is_lost(shown: Shown) -> None:
    assert shown.outcome.report.lost == 0


def test_it_counts_as_long_as_it_was_told(shown: Shown) -> None:
    assert shown.outcome.report.seconds >= SECONDS


def test_the_busiest_processes_are_shown_while_it_runs(shown: Shown) -> None:
    assert len(shown.tables) >= 3
    last = shown.tables[-1]
    assert last.titles[:3] == ["PID", "PROCESS", "SYSCALLS"]
    assert 0 < len(last.rows) <= demo.ROWS
    assert f"{shown.outcome.report.events_user:,} events" in last.heading[0]
    assert "populated" in last.heading[1]


@pytest.mark.kernel
def test_the_kernel_skips_every_filtered_call(kernel_engine: Any) -> None:
    outcome = demo.run(kernel_engine, 0.1)
    assert outcome.problems == ()
    assert outcome.report.filtered_before >= demo.FILTERED_CALLS


def test_it_leaves_nothing_behind(engine: Any, leaves_nothing: Callable[[], Any]) -> None:
    demo.run(engine, 0.1)
    with leaves_nothing():
        demo.run(engine, 0.1)


# --- the program by itself --------------------------------------------------------------


@pytest.fixture
def program(engine: Any) -> Iterator[arenads.Program]:
    with arenads.load(demo.program_path(), engine=engine) as program:
        yield program


def totals(program: arenads.Program) -> tuple[int, int, int]:
    """Events, filtered and lost, over all CPUs."""
    rows: Any = list(program["totals"].values())  # type: ignore[attr-defined]
    return (
        sum(row.events for row in rows),
        sum(row.filtered for row in rows),
        sum(row.lost for row in rows),
    )


def summed(program: arenads.Program) -> int:
    tasks: Any = program["tasks"]
    return sum(task.syscalls + task.switches for task in tasks.values())


def test_events_without_room_are_counted_as_lost(program: arenads.Program) -> None:
    program.arena.populate("16MiB")
    tasks: Any = program["tasks"]
    take = program.runner("sample", len(demo.pack_sample(demo.Sample(0, 0, 0, ""))))
    for pid in range(tasks.max_entries + 10):
        take(demo.pack_sample(demo.Sample(pid, 2, 1, "many")))
    assert len(tasks) == tasks.max_entries
    assert totals(program) == (3 * tasks.max_entries, 0, 30)
    assert summed(program) == 3 * tasks.max_entries


def test_a_filtered_process_is_counted_apart(program: arenads.Program) -> None:
    filters: Any = program["filters"]
    program.run("sample", demo.pack_sample(demo.Sample(1, 5, 0, "a")))
    filters[1] = {"action": 1, "skipped": 0}
    program.run("sample", demo.pack_sample(demo.Sample(1, 7, 2, "a")))
    program.run("sample", demo.pack_sample(demo.Sample(2, 1, 0, "b")))
    assert totals(program) == (6, 9, 0)
    assert (summed(program), filters[1].skipped) == (6, 9)
    filters.store(1, 0, "action")
    program.run("sample", demo.pack_sample(demo.Sample(1, 1, 0, "a")))
    assert totals(program) == (7, 9, 0)


def test_each_process_is_announced_once(program: arenads.Program) -> None:
    newcomers: Any = program["newcomers"]
    for pid in (1, 2, 1, 3, 2):
        program.run("sample", demo.pack_sample(demo.Sample(pid, 1, 0, f"task {pid}")))
    assert [(each.pid, each.comm) for each in newcomers] == [
        (3, "task 3"),
        (2, "task 2"),
        (1, "task 1"),
    ]


def test_a_question_is_answered_with_what_the_program_knows(program: arenads.Program) -> None:
    inbox: Any = program["inbox"]
    outbox: Any = program["outbox"]
    program.run("sample", demo.pack_sample(demo.Sample(7, 30, 4, "seven")))
    inbox.push_many([(1, 7), (2, 8)])
    for _ in range(3):
        program.run("talk")
    answers = [(each.sequence, each.pid, each.known, each.events) for each in outbox.drain()]
    assert answers == [(1, 7, 1, 34), (2, 8, 0, 0)]


@pytest.mark.kernel
def test_the_kernel_counts_each_system_call_of_a_process(kernel_engine: Any) -> None:
    with arenads.load(demo.program_path(), engine=kernel_engine) as program:
        events = demo._KernelEvents(program)
        tasks: Any = program["tasks"]
        events.start()
        os.getppid()
        before = tasks.load(events.process, "syscalls")
        events.work(1000)
        assert tasks.load(events.process, "syscalls") - before >= 1000
        events.stop()
        after = tasks.load(events.process, "syscalls")
        events.work(1000)
        assert tasks.load(events.process, "syscalls") == after


# --- what disagrees is told -------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[arenads.Program]:
    """The programs that the demonstration loads, for a test that meddles with them."""
    programs: list[arenads.Program] = []

    def load(*arguments: Any, **more: Any) -> arenads.Program:
        programs.append(arenads.load(*arguments, **more))
        return programs[-1]

    monkeypatch.setattr(demo, "load", load)
    return programs


def test_an_event_that_is_in_one_count_only_is_a_problem(
    engine: Any, loaded: list[arenads.Program]
) -> None:
    def meddle(_: Table) -> None:
        counted: Any = loaded[0]["totals"]
        counted.add(next(iter(counted)), 1, "events")

    outcome = demo.run(engine, 0.1, meddle)
    assert outcome.report.events_bpf > outcome.report.events_user
    assert any("sum up to" in problem for problem in outcome.problems)


def test_a_message_that_nobody_asked_for_is_a_problem(
    engine: Any, loaded: list[arenads.Program]
) -> None:
    def meddle(_: Table) -> None:
        outbox: Any = loaded[0]["outbox"]
        if not outbox:
            outbox.push((12345, 0, 1, 0))

    outcome = demo.run(engine, 0.1, meddle)
    assert any("12345" in problem for problem in outcome.problems)


def test_the_command_exits_with_1_if_the_sides_disagree(
    loaded: list[arenads.Program],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from arenads import cli

    stop = demo._ProcSamples.stop

    def meddle(events: demo._ProcSamples) -> None:
        stop(events)
        counted: Any = loaded[0]["totals"]
        counted.add(next(iter(counted)), 1, "events")

    monkeypatch.setattr(demo._ProcSamples, "stop", meddle)
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "--engine", "native", "--seconds", "0.1", "--json"])
    printed = capsys.readouterr()
    assert end.value.code == 1
    assert list(json.loads(printed.out)) == KEYS
    assert "sum up to" in printed.err


# --- the command ------------------------------------------------------------------------


def test_json_is_one_object_with_exactly_these_keys(engine: str) -> None:
    done = run_command("--engine", engine, "--seconds", SECONDS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)) == KEYS
    assert done.stdout.count("\n") == 1


def test_without_a_terminal_there_is_one_table_and_a_summary(engine: str) -> None:
    done = run_command("--engine", engine, "--seconds", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("SYSCALLS") == 1
    for word in ("engine ", "processes ", "events ", "filter ", "messages ", "lost      0"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_on_a_terminal_the_table_is_drawn_in_place() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    with open(theirs, "wb", buffering=0) as terminal:
        child = subprocess.Popen(
            [sys.executable, "-m", "arenads", "demo", "--engine=native", "--seconds=0.6"],
            env=child_environment(TERM="xterm", COLUMNS="100", LINES="50"),
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.PIPE,
        )
    output = b""
    with open(ours, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(65536)
            except OSError:  # EIO: the other side is closed
                break
            if not part:
                break
            output += part
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, b"")
    assert output.count(b"SYSCALLS") >= 2
    assert b"\x1b[1A" in output  # up, to draw over what is there
    assert b"lost      0" in output


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", ""])
def test_seconds_must_be_a_positive_number(seconds: str) -> None:
    done = run_command("--seconds", seconds)
    assert done.returncode == 2
    assert "expected a number above 0" in done.stderr


def test_an_unknown_engine_is_a_usage_error() -> None:
    done = run_command("--engine", "diesel")
    assert done.returncode == 2
    assert "diesel" in done.stderr


def test_without_capabilities_the_native_engine_is_taken() -> None:
    done = run_command("--seconds", "0.3", "--json", before=drop_capabilities)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["engine"] == "native"


def test_without_capabilities_the_kernel_engine_is_refused_with_the_reason() -> None:
    done = run_command("--engine", "kernel", before=drop_capabilities)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("arenads: the kernel engine cannot work here: ")


def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "programs_dir", lambda: tmp_path)
    monkeypatch.setattr(compiler, "include_dir", lambda: tmp_path / "include")
    with pytest.raises(arenads.ObjectError, match="install arenads anew"):
        demo.program_path()
