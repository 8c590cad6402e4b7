"""`arenads top`: rates between two samples, sorted and filtered; drawn in place on a terminal."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import importlib
import io
import itertools
import json
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import everything
import msgspec
import pytest
from conftest import Run, child_environment, fails

import arenads
from arenads import f64, u32, u64
from arenads.arrow_file import FrameColumn, write_frames
from arenads.condition import read_condition
from arenads.schema import EnumType, Scalar
from arenads.top import Request, _Frames, _OfArena, _OfStructure, _table, _timed

# What `struct work` of traffic.bpf.c has.
WORK = struct.Struct("<6Q")


class Stat(msgspec.Struct, frozen=True):
    calls: u64
    errors: u64


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("4MiB", engine=engine) as made:
        yield made


@pytest.fixture
def stats(arena: arenads.Arena) -> Any:
    made = arena.hashmap("stats", key=u32, value=Stat, max_entries=1000)
    made.update({1: Stat(10, 3), 2: Stat(20, 2), 3: Stat(30, 1)})
    return made


def frames_of(arena: arenads.Arena, name: str | None = "stats", **more: Any) -> _Frames:
    more["filters"] = [read_condition(text) for text in more.pop("filters", ())]
    request = Request("pin", name, **more)
    source = _OfArena(arena, request) if name is None else _OfStructure(arena, request, name)
    return _Frames(source, request)


def keys_of(frames: _Frames) -> list[Any]:
    return [row.values[0] for row in frames.take().rows]


# --- rates ------------------------------------------------------------------------------


def test_a_rate_is_the_change_a_second(arena: arenads.Arena, stats: Any) -> None:
    frames = frames_of(arena)
    first = frames.take()
    assert first.seconds is None
    assert all(row.rates == (None, None, None) for row in first.rows)
    stats.add(2, 500, "calls")
    stats.add(3, -1, "errors")
    frame = frames.take()
    assert frame.seconds is not None
    changes = {
        row.values[0]: [rate and round(rate * frame.seconds, 6) for rate in row.rates]
        for row in frame.rows
    }
    assert changes[1] == [None, 0, 0]
    assert changes[2] == [None, 500, 0]
    assert changes[3][1] == 0 and changes[3][2] is not None
    assert frame.rows[0].values[0] == 2  # by default by the first rate


def test_an_entry_that_is_new_has_no_rate_yet(arena: arenads.Arena, stats: Any) -> None:
    frames = frames_of(arena)
    frames.take()
    stats[9] = Stat(1, 1)
    del stats[1]
    found = {row.values[0]: row.rates for row in frames.take().rows}
    assert set(found) == {2, 3, 9}
    assert found[9] == (None, None, None)


def test_structures_have_rates_of_entries_and_failures(arena: arenads.Arena) -> None:
    made = everything.fill(arena)
    frames = frames_of(arena, None)
    assert {row.values[0] for row in frames.take().rows} == set(everything.KINDS)
    made["muted"].update({4, 5})
    made["inbox"].push_many([everything.TASKS[everything.Key(1, 0)]])
    frame = frames.take()
    found = {row.values[0]: row for row in frame.rows}
    names = [field.name for field in frame.sample.fields]
    entries, failures = names.index("entries"), names.index("failures")
    assert frame.seconds is not None
    assert round(found["muted"].rates[entries] * frame.seconds, 6) == 2  # type: ignore[operator]
    assert round(found["inbox"].rates[failures] * frame.seconds, 6) == 1  # type: ignore[operator]
    assert found["inbox"].values[names.index("which")] == "full 2"
    assert frame.rows[0].values[0] == "muted"


def test_structures_come_and_go(arena: arenads.Arena, stats: Any) -> None:
    frames = frames_of(arena, None, sort="name")
    assert keys_of(frames) == ["stats"]
    arena.hashmap("more", key=u32, value=u32)
    assert keys_of(frames) == ["more", "stats"]
    arena.remove("stats")
    assert keys_of(frames) == ["more"]


def test_a_structure_that_was_removed_is_waited_for(arena: arenads.Arena, stats: Any) -> None:
    frames = frames_of(arena)
    frames.take()
    arena.remove("stats")
    gone = frames.take()
    assert gone.rows == []
    assert "removed" in gone.sample.heading[0]
    again = arena.hashmap("stats", key=u32, value=Stat, max_entries=1000)
    again[7] = Stat(1, 1)
    assert keys_of(frames) == [7]
    other = frames_of(arena)
    arena.remove("stats")
    arena.list("stats", value=u64).push(5)
    assert [row.values[1] for row in other.take().rows] == [5]


def test_an_arena_that_grows_is_read_on(engine: str, pin: Path) -> None:
    with arenads.create("64MiB", engine=engine, populate="64KiB", provision=None) as arena:
        numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=100_000)
        numbers[0] = 0
        frames = frames_of(arena, "numbers")
        assert len(frames.take().rows) == 1
        numbers.update({number: number for number in range(20_000)})
        assert len(frames.take().rows) == 20_000


def test_what_waits_in_a_queue_stays_there(arena: arenads.Arena) -> None:
    made = everything.fill(arena)
    for name in ("inbox", "jobs", "log"):
        before = len(made[name])
        assert len(frames_of(arena, name).take().rows) == before
        assert len(made[name]) == before


# --- order and choice -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"sort": "calls"}, [3, 2, 1]),
        ({"sort": "calls", "reverse": True}, [1, 2, 3]),
        ({"sort": "errors"}, [1, 2, 3]),
        ({"sort": "key"}, [1, 2, 3]),
        ({"sort": "key", "reverse": True}, [3, 2, 1]),
        ({"sort": "calls", "filters": ["calls>10"]}, [3, 2]),
        ({"sort": "calls", "filters": ["calls>10", "errors=1"]}, [3]),
        ({"filters": ["key=2"]}, [2]),
        ({"filters": ["calls/s>0"]}, []),
    ],
)
def test_rows_are_sorted_and_filtered(
    arena: arenads.Arena, stats: Any, options: dict[str, Any], keys: list[int]
) -> None:
    assert keys_of(frames_of(arena, **options)) == keys


def test_rates_are_sorted_and_filtered_too(arena: arenads.Arena, stats: Any) -> None:
    by_rate = frames_of(arena, sort="errors/s")
    only = frames_of(arena, filters=["calls/s>0"])
    by_rate.take()
    only.take()
    stats.add(2, 10, "calls")
    stats.add(3, 10, "errors")
    assert keys_of(by_rate)[0] == 3
    assert keys_of(only) == [2]


class Load(msgspec.Struct, frozen=True):
    load: f64


@pytest.mark.parametrize(("reverse", "keys"), [(False, [3, 1, 2, 4, 5]), (True, [2, 1, 3, 4, 5])])
def test_rows_without_a_value_come_last_whichever_way_they_are_sorted(
    arena: arenads.Arena, reverse: bool, keys: list[int]
) -> None:
    loads = arena.list("loads", value=Load)
    values = [1.0, -math.inf, math.inf, math.nan, math.nan]
    loads.insert_many(range(1, 6), [Load(value) for value in values])
    assert keys_of(frames_of(arena, "loads", sort="load", reverse=reverse)) == keys
    loads.delete(2)
    by_rate = frames_of(arena, "loads", sort="load/s", reverse=reverse)
    by_rate.take()
    loads.insert(2, Load(7.0))
    rows = by_rate.take().rows
    assert rows[0].values[0] == 1
    assert [row.rates[1] for row in rows] == [0.0, None, None, None, None]


def test_what_waits_in_a_queue_is_in_its_order_and_has_no_rates(arena: arenads.Arena) -> None:
    made = everything.fill(arena)
    frames = frames_of(arena, "jobs")
    frames.take()
    made["jobs"].pop()
    made["jobs"].push(1)
    frame = frames.take()
    assert [row.values for row in frame.rows] == [(8,), (1,)]
    assert _table(frame, [], None, None).titles == ["value"]
    assert keys_of(frames_of(arena, "jobs", reverse=True)) == [1, 8]
    assert keys_of(frames_of(arena, "jobs", sort="value", reverse=True)) == [1, 8]
    with pytest.raises(arenads.SchemaError, match="no number that could have a rate"):
        frames_of(arena, "jobs", sort="value/s")


def test_what_lists_keep_in_nodes_has_no_rates(arena: arenads.Arena) -> None:
    everything.fill(arena)
    titles = _table(frames_of(arena, "ready").take(), [], None, None).titles
    assert titles == [
        *("order", "address", "pid", "level", "level/s"),
        *("node.link", "node.order", "node.list"),
    ]


def test_a_number_may_be_given_as_it_is_shown(arena: arenads.Arena, stats: Any) -> None:
    stats[4] = Stat(33_589, 0)
    assert keys_of(frames_of(arena, filters=["calls=33,589"])) == [4]
    assert keys_of(frames_of(arena, filters=["calls>1,000"])) == [4]
    with pytest.raises(arenads.SchemaError, match="expected a number"):
        frames_of(arena, filters=["calls>1,00"])


@pytest.mark.parametrize(
    "options", [{"sort": "nothing"}, {"sort": "nothing/s"}, {"filters": ["nothing>1"]}]
)
def test_a_field_that_is_not_there_is_told(
    arena: arenads.Arena, stats: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(arenads.SchemaError, match="there are key, calls, errors"):
        frames_of(arena, **options)


def test_a_rate_of_what_does_not_count_is_refused(arena: arenads.Arena, stats: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="no number that could have a rate"):
        frames_of(arena, sort="key/s")


class Socket(msgspec.Struct, frozen=True):
    tgid: u32
    cpu: u32
    owner_uid: u32
    valid: u32
    calls: u64


def test_only_quantities_have_rates_and_groups_of_digits(arena: arenads.Arena) -> None:
    sockets = arena.hashmap("sockets", key=u32, value=Socket, max_entries=10)
    sockets[13641] = Socket(13641, 1000, 65534, 1000, 2000)
    frames = frames_of(arena, "sockets")
    table = _table(frames.take(), [], None, None)
    assert table.titles == [
        *("key", "tgid", "cpu", "owner_uid"),
        *("valid", "valid/s", "calls", "calls/s"),
    ]
    assert table.rows == [["13641", "13641", "1000", "65534", "1,000", "-", "2,000", "-"]]
    with pytest.raises(arenads.SchemaError, match="tgid is no number that could have a rate"):
        frames_of(arena, "sockets", sort="tgid/s")


def test_elements_of_arrays_are_columns_if_they_are_asked_for(arena: arenads.Arena) -> None:
    everything.fill(arena)
    frames = frames_of(arena, "tasks", sort="last[1]")
    frame = frames.take()
    assert [field.name for field in frame.sample.fields][-1] == "last[1]"
    assert [row.values[0] for row in frame.rows] == [3, 2, 1]


# --- how it looks -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [(100, 24), (60, 10), (30, 8), (10, 5)])
def test_a_frame_fits_the_terminal(arena: arenads.Arena, size: tuple[int, int]) -> None:
    made = everything.fill(arena)
    task = everything.TASKS[everything.Key(1, 0)]
    made["tasks"].update({everything.Key(number, 0): task for number in range(100)})
    table = _table(frames_of(arena, "tasks").take(), ["heading"], "delta", size)
    assert len(table.rows) <= max(size[1] - 6, 1)
    assert all(len(line) <= size[0] for line in table.heading)
    assert "delta" in table.titles  # what is sorted by is always there
    assert any("102 rows" in line[: size[0]] or size[0] < 30 for line in table.heading)


# --- the command ------------------------------------------------------------------------


@pytest.fixture
def pinned(arena: arenads.Arena, stats: Any, pin: Path) -> Path:
    arena.pin(pin)
    return pin


def test_frames_are_printed_one_after_the_other_in_a_pipe(run: Run, pinned: Path) -> None:
    done = run("top", pinned, "stats", "--count", "2", "--interval", "0.05", "--sort", "key")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split("\n\n")
    for frame in (first, second):
        lines = frame.splitlines()
        assert lines[0].startswith(f"{pinned}: ")
        assert lines[2].split() == ["key", "calls", "calls/s", "errors", "errors/s"]
        assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3"]
    assert "\x1b" not in done.stdout


def test_json_is_one_object_for_each_frame(run: Run, pinned: Path) -> None:
    done = run("top", pinned, "stats", "--once", "--json", "--interval", "0.05", "--sort", "calls")
    report = json.loads(done.stdout)
    assert (report["version"], report["name"], report["total"]) == (1, "stats", 3)
    assert report["seconds"] >= 0.05
    assert [row["key"] for row in report["rows"]] == [3, 2, 1]
    assert set(report["rows"][0]) == {"key", "calls", "calls/s", "errors", "errors/s"}
    everywhere = json.loads(run("top", pinned, "--once", "--json", "--interval", "0.05").stdout)
    assert [row["name"] for row in everywhere["rows"]] == ["stats"]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "JSON"])
def test_an_arena_with_damage_is_shown_and_the_answer_is_no(run: Run, form: list[str]) -> None:
    place = Path(f"/dev/shm/arenads-test-top-{os.getpid()}")
    with arenads.create("1MiB", engine="native", provision=None) as arena:
        arena.list("good", value=u64)
        arena.list("bad", value=u64)
        at = int(arena._lookup("bad").schema_offset)
        arena.pin(place)
    try:
        with open(place, "r+b") as file:
            file.seek(at)
            file.write(b"\x21")
        done = run("top", place, "--once", "--interval", "0.05", *form)
    finally:
        place.unlink()
    assert (done.returncode, done.stderr) == (1, "")
    assert "bad: " in done.stdout
    assert "good" in done.stdout


def test_mistakes_are_told(run: Run, pinned: Path) -> None:
    assert "Did you mean 'stats'?" in fails(run("top", pinned, "stat"))
    assert "there are key, calls, errors" in fails(run("top", pinned, "stats", "--sort", "x"))
    assert "expected a condition" in fails(run("top", pinned, "stats", "--filter", "calls"))
    assert "above 0" in fails(run("top", pinned, "--interval", "0"))


# --- on a terminal ----------------------------------------------------------------------


def own_terminal() -> None:
    """Make standard input the terminal of this process, whose interrupts are heeded."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored, if the tests run in the background


class Terminal:
    """A child on a pseudo-terminal, and what it has written there."""

    def __init__(self, size: tuple[int, int], *arguments: object) -> None:
        self._master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.resize(size)
        self._slave = slave
        environment = child_environment(TERM="xterm")
        for name in ("COLUMNS", "LINES"):  # they would count more than the terminal's own size
            environment.pop(name, None)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "arenads", "top", *map(str, arguments)],
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=own_terminal,
        )
        self.text = ""

    def resize(self, size: tuple[int, int]) -> None:
        packed = struct.pack("HHHH", size[1], size[0], 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    def read_until(self, pattern: str) -> str:
        """Wait until what was written has the pattern; return it all, and start anew."""
        deadline = time.monotonic() + 30
        while not re.search(pattern, self.text, re.DOTALL):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.text!r}"
            ready, _, _ = select.select([self._master], [], [], 1)
            if ready:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            else:
                assert self.child.poll() is None, self.text
        text, self.text = self.text, ""
        return text

    def write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str]:
        """Wait for the child; return its status and what it wrote to standard error."""
        assert self.child.stderr is not None
        # What it writes last must have room.
        while self.child.poll() is None:
            if select.select([self._master], [], [], 0.05)[0]:
                self.text += os.read(self._master, 65536).decode(errors="replace")
        return self.child.wait(60), self.child.stderr.read().decode()

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()
        os.close(self._master)
        os.close(self._slave)


def test_csv_has_one_head_and_a_line_for_each_row_of_each_frame(run: Run, pinned: Path) -> None:
    done = run("top", pinned, "stats", "--csv", "--count", "2", "--interval", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["time", "key", "calls", "calls/s", "errors", "errors/s"]
    assert len(rows) == 6
    assert sorted(row["key"] for row in rows[:3]) == ["1", "2", "3"]
    assert rows[0]["time"] == rows[2]["time"] < rows[3]["time"]
    assert all(row["calls/s"] == "0.0" for row in rows)


def test_csv_of_all_structures_has_a_line_for_each(run: Run, pinned: Path) -> None:
    done = run("top", pinned, "--csv", "--once", "--interval", "0.05")
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert (row["name"], row["entries"], row["at_most"]) == ("stats", "3", "1000")


class Timed(msgspec.Struct, frozen=True):
    time: u64


def test_a_member_that_is_called_time_has_a_column_beside_the_time(
    run: Run, arena: arenads.Arena, pinned: Path
) -> None:
    arena.hashmap("timed", key=Timed, value=Timed)[Timed(7)] = Timed(8)
    arena.hashmap("one", key=u32, value=Timed)[1] = Timed(9)
    done = run("top", pinned, "timed", "--csv", "--once", "--interval", "0.05")
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["time"]) > 1e9
    assert (row["key.time"], row["value.time"], row["value.time/s"]) == ("7", "8", "0.0")
    done = run("top", pinned, "one", "--csv", "--once", "--interval", "0.05")
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["time"]) > 1e9
    assert (row["key"], row["value.time"], row["value.time/s"]) == ("1", "9", "0.0")


# --- in an Arrow file -------------------------------------------------------------------


def recorded(arena: arenads.Arena, to: Path, name: str | None = "stats", **more: Any) -> Any:
    """The Arrow file, as a table, that one frame of an arena was written to."""
    frames = frames_of(arena, name, **more)
    write_frames(str(to), arena, _timed(frames.take()), iter([_timed(frames.take())]))
    ipc = importlib.import_module("pyarrow.ipc")
    with ipc.open_file(to) as file:
        return file.read_all()


def test_an_arrow_file_has_the_rows_of_all_frames_with_their_times_and_rates(
    run: Run, pinned: Path, tmp_path: Path
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    before = time.time()
    options = ("--count", "2", "--interval", "0.05", "--sort", "calls", "--filter", "calls>10")
    done = run("top", pinned, "stats", *options, "--arrow", "stats.arrow")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stats.arrow\n", "")
    with ipc.open_file(tmp_path / "stats.arrow") as file:
        table = file.read_all()
    assert table.column_names == ["time", "key", "calls", "calls/s", "errors", "errors/s"]
    assert table["key"].to_pylist() == [3, 2, 3, 2]
    assert table["calls"].to_pylist() == [30, 20, 30, 20]
    assert table["calls/s"].to_pylist() == [0.0] * 4
    times = [milliseconds / 1000 for milliseconds in table["time"].cast("int64").to_pylist()]
    assert before - 1 < times[0] == times[1] < times[2] == times[3] < time.time() + 1
    assert os.listdir(tmp_path) == ["stats.arrow"]


@pytest.mark.parametrize("name", everything.KINDS)
def test_an_arrow_file_has_the_values_of_a_snapshot(
    arena: arenads.Arena, tmp_path: Path, name: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    made = everything.fill(arena)
    table = recorded(arena, tmp_path / "x", name)
    shown = {title: table[title].to_pylist() for title in table.column_names}
    if name == "log":
        assert shown["record"] == [b"hello"]
        return
    taken = pyarrow.table(made[name].snapshot()).flatten().flatten()
    assert table.num_rows == taken.num_rows
    found = {title.removeprefix("key.").removeprefix("value."): title for title in shown}
    for title in taken.column_names:
        short = title.removeprefix("key.").removeprefix("value.")
        assert sorted(map(repr, shown[found[short]])) == sorted(map(repr, taken[title].to_pylist()))


def test_an_arrow_file_of_all_structures_has_a_row_for_each(
    arena: arenads.Arena, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    everything.fill(arena)
    table = recorded(arena, tmp_path / "x", None, sort="name")
    assert table["name"].to_pylist() == sorted(everything.KINDS)
    assert table["kind"].to_pylist() == [
        everything.KINDS[name] for name in table["name"].to_pylist()
    ]


def test_an_arrow_file_of_nothing_has_the_columns(
    arena: arenads.Arena, stats: Any, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    stats.clear()
    table = recorded(arena, tmp_path / "x")
    assert (table.num_rows, "calls/s" in table.column_names) == (0, True)


def test_what_is_not_there_is_null_in_an_arrow_file(arena: arenads.Arena, tmp_path: Path) -> None:
    columns = [FrameColumn("calls", [1, None], Scalar("u64")), FrameColumn("r", [None, 2.0], None)]
    columns[1] = msgspec.structs.replace(columns[1], arrow="double")
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    write_frames(str(tmp_path / "x"), arena, (0, columns), iter([(1, columns)]))
    with ipc.open_file(tmp_path / "x") as file:
        assert file.read_all().select(["calls", "r"]).to_pylist() == [
            {"calls": 1, "r": None},
            {"calls": None, "r": 2.0},
        ]


def test_enums_in_an_arrow_file_may_have_other_values_without_a_name_in_each_frame(
    arena: arenads.Arena, tmp_path: Path
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    state = EnumType("state", "u32", (("RUNNING", 1), ("SLEEPING", 2)))
    frames = [(0, [FrameColumn("state", values, state)]) for values in ([7, 1], [8], [9, 7, 2], [])]
    write_frames(str(tmp_path / "x"), arena, frames[0], iter(frames))
    with ipc.open_file(tmp_path / "x") as file:
        found = file.read_all()["state"].to_pylist()
    assert found == ["7", "RUNNING", "8", "9", "7", "SLEEPING"]


def test_an_arrow_file_ends_where_the_columns_become_others(
    arena: arenads.Arena, stats: Any, tmp_path: Path
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    frames = frames_of(arena)
    first = _timed(frames.take())

    def more() -> Iterator[Any]:
        yield _timed(frames.take())
        arena.remove("stats")
        arena.list("stats", value=u64).push(5)
        yield _timed(frames.take())

    with pytest.raises(arenads.SchemaError, match="found time, order, value, value/s"):
        write_frames(str(tmp_path / "x"), arena, first, more())
    with ipc.open_file(tmp_path / "x") as file:
        assert sorted(file.read_all()["key"].to_pylist()) == [1, 2, 3]


def test_an_interrupt_ends_an_arrow_file_with_the_frames_before(
    arena: arenads.Arena, stats: Any, tmp_path: Path
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    frames = frames_of(arena)
    first = _timed(frames.take())

    def interrupted() -> Iterator[Any]:
        yield _timed(frames.take())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_frames(str(tmp_path / "x"), arena, first, interrupted())
    with ipc.open_file(tmp_path / "x") as file:
        assert file.read_all().num_rows == 3


def test_an_arrow_file_of_frames_does_not_take_the_place_of_the_arena(
    run: Run, pinned: Path
) -> None:
    pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    said = fails(run("top", pinned, "--once", "--arrow", pinned))
    assert str(pinned) in said
    assert run("ls", pinned).returncode == 0


def test_arrow_files_of_frames_need_pyarrow(
    arena: arenads.Arena, stats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.ipc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(arenads.SchemaError, match=r"pip install 'arenads\[arrow\]'"):
        recorded(arena, tmp_path / "x")


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    pytest.importorskip("rich")
    with contextlib.ExitStack() as stack:

        def terminal(size: tuple[int, int], *arguments: object) -> Terminal:
            made = Terminal(size, *arguments)
            stack.callback(made.close)
            return made

        yield terminal


SCREEN_ON, SCREEN_OFF = r"\x1b\[\?1049h", r"\x1b\[\?1049l"
HOME = r"\x1b\[H"


def test_frames_are_drawn_in_place_until_q(
    terminal: Callable[..., Terminal], pinned: Path, stats: Any
) -> None:
    screen = terminal((100, 20), pinned, "stats", "--interval", "0.1")
    text = screen.read_until(SCREEN_ON + r".*errors/s")
    assert "q quits" in text
    stats[1] = Stat(123_456, 0)
    screen.read_until(HOME + r".*123,456")  # the next frame begins where this one did
    stats[1] = Stat(654_321, 0)
    screen.read_until(HOME + r".*654,321")
    screen.write("q")
    assert screen.end() == (0, "")
    assert re.search(SCREEN_OFF, screen.text)
    assert screen.modes() == screen.before


def test_json_on_a_terminal_stays_there(terminal: Callable[..., Terminal], pinned: Path) -> None:
    screen = terminal((100, 20), pinned, "stats", "--json", "--once", "--interval", "0.05")
    text = screen.read_until(r"errors/s")
    assert screen.end() == (0, "")
    assert not re.search(SCREEN_ON, text + screen.text)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(
    terminal: Callable[..., Terminal], pinned: Path, number: int, status: int
) -> None:
    screen = terminal((100, 20), pinned)
    screen.read_until(SCREEN_ON + r".*stats")
    if number == signal.SIGINT:
        screen.write("\x03")  # Ctrl-C
    else:
        screen.child.send_signal(number)
    assert screen.end() == (status, "")
    assert screen.modes() == screen.before


def test_more_rows_than_lines_are_counted_and_a_resize_shows_more(
    terminal: Callable[..., Terminal], pinned: Path, stats: Any
) -> None:
    stats.update({number: Stat(number, number) for number in range(1, 101)})
    screen = terminal((100, 14), pinned, "stats", "--interval", "600", "--sort", "key")
    text = screen.read_until(r"\b6 of 100 rows.*errors/s.*\b6\b")
    assert not re.search(r"\b60\b", text)
    # No other frame is due for ten minutes: it is the resize that draws.
    screen.resize((100, 100))
    screen.read_until(r"\b92 of 100 rows.*errors/s.*\b92\b")
    screen.resize((40, 12))
    screen.read_until(r"not shown: errors")
    screen.write("q")
    assert screen.end() == (0, "")


@pytest.mark.parametrize(("key", "status"), [("q", 0), ("\x03", 130)], ids=["q", "an interrupt"])
def test_an_arrow_file_is_ended_from_the_terminal(
    terminal: Callable[..., Terminal], pinned: Path, tmp_path: Path, key: str, status: int
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    place = tmp_path / "x"
    screen = terminal((100, 20), pinned, "stats", "--interval", "0.01", "--arrow", place)
    assert "errors/s" in screen.read_until(r"\b2 frames recorded; q ends it.*\b3 frames")
    while not kept_bytes(screen.child.pid, tmp_path) > 10_000:  # it does not wait until the end
        screen.read_until("frames recorded")
    assert not place.exists()
    screen.write(key)
    assert screen.end() == (status, "")
    assert screen.modes() == screen.before
    with ipc.open_file(place) as file:
        assert file.read_all().num_rows >= 3


def kept_bytes(process: int, directory: Path) -> int:
    """How large the files without a name are that a process has in a directory."""
    found = 0
    for fd in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(fd).startswith(f"{directory}/") and fd.stat().st_nlink == 0:
                found += fd.stat().st_size
    return found


@pytest.mark.kernel
def test_rates_are_those_of_programs_that_run(
    compiled: Callable[..., Path], bpf_file_system: Path, run: Run
) -> None:
    pin = bpf_file_system / "top"
    with arenads.load(compiled("traffic", "kernel"), engine="kernel") as program:
        program.arena.pin(pin)
        program.attach()
        try:
            done = run("top", pin, "--once", "--json", "--interval", "0.2")
            assert (done.returncode, done.stderr) == (0, "")
            names = {row["name"] for row in json.loads(done.stdout)["rows"]}
            assert names == set(program.arena.structures)
        finally:
            pin.unlink()


class Counting:
    """Adds to a counter in a BPF program, again and again in a thread, until it is left."""

    def __init__(self, program: arenads.Program, key: int) -> None:
        self._run: Any = program.runner("add_counts", WORK.size)
        self._work = WORK.pack(key, 1, 1000, 3, 0, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def _loop(self) -> None:
        while not self._stop.is_set():
            assert self._run(self._work) == 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_rate_is_what_a_program_has_counted_in_the_interval(
    compiled: Callable[..., Path], engine: str, pin: Path, run: Run
) -> None:
    with arenads.load(compiled("traffic", engine), engine=engine) as program:  # type: ignore[arg-type]
        counts: Any = program["counts"]
        counts.update({5: 0, 6: 1_000_000, 7: 2_000_000})  # of these, 5 counts
        program.arena.pin(pin)
        before, began = counts[5], time.monotonic()
        frames = ("--count", "3", "--interval", "0.3", "--json")
        chosen = ("--sort", "value/s", "--filter", "value/s>0")
        with Counting(program, 5):
            all_of_them = run("top", pin, "counts", *frames, "--sort", "value/s")
            only = run("top", pin, "counts", *frames, *chosen)
        counted, passed = counts[5] - before, time.monotonic() - began
    for done in (all_of_them, only):
        assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in all_of_them.stdout.splitlines()]
    assert len(shown) == 3
    for frame in shown:
        assert frame["rows"][0]["key"] == 5
        rates = {row["key"]: row["value/s"] for row in frame["rows"]}
        assert (rates[6], rates[7]) == (0, 0)
    assert all(frame["seconds"] >= 0.3 for frame in shown)
    assert sum(frame["seconds"] for frame in shown) <= passed
    for last, frame in itertools.pairwise(shown):
        changed = frame["rows"][0]["value"] - last["rows"][0]["value"]
        assert 0 < changed <= counted and changed % 3 == 0
        assert frame["rows"][0]["value/s"] * frame["seconds"] == pytest.approx(changed, rel=1e-6)
    for line in only.stdout.splitlines():
        assert [row["key"] for row in json.loads(line)["rows"]] == [5]
