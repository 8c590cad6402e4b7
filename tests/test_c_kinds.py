"""An arena with a structure of every kind that a C program made and described."""

from __future__ import annotations

import csv
import ctypes
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import made_in_c

import arenads
from arenads import cli
from arenads.walk import count_entries

SCHEMAS = {
    "task_schema": (None, "struct task"),
    "u32_task_schema": ("u32", "struct task"),
    "u32_schema": ("u32", None),
    "i32_task_schema": ("i32", "struct task"),
    "name_u64_schema": ("char[16]", "u64"),
    "job_schema": (None, "struct job"),
}
KINDS = {
    "tasks": "hash map",
    "muted": "set",
    "deltas": "ordered map",
    "names": "ordered map",
    "recent": "list",
    "slots": "array",
    "jobs": "pool",
    "ready": "intrusive list",
    "inbox": "queue",
    "outbox": "MPMC queue",
    "log": "ring",
    "many.0": "ring",
    "many.1": "ring",
}
# The columns of `dump` and `top`, and what some of them have, in the order of `dump`.
TASK = ["calls", "state", "delta", "comm", "parent"]
JOB = ["pid", "level", "ready.link", "ready.order", "ready.list", "next"]
COLUMNS = {
    "tasks": ["key", *TASK],
    "muted": ["key"],
    "deltas": ["key", *TASK],
    "names": ["key", "value"],
    "recent": ["order", *TASK],
    "slots": ["index", *TASK],
    "jobs": ["address", *JOB],
    "ready": ["order", "address", *JOB],
    "inbox": TASK,
    "outbox": TASK,
    "log": ["record"],
    "many.0": ["record"],
    "many.1": ["record"],
}
IN_ORDER: dict[str, tuple[str, list[Any]]] = {
    "deltas": ("key", [-1, 0, 1]),
    "names": ("key", ["alice", "bob", "carol"]),
    "recent": ("comm", ["task 3", "task 2", "task 1"]),
    "jobs": ("pid", [1, 2, 3]),
    "ready": ("pid", [3, 2, 1]),
    "inbox": ("state", ["STATE_RUNNING", "STATE_SLEEPING", "STATE_RUNNING"]),
    "outbox": ("delta", [-1, -2, -3]),
    "log": ("record", [b"hello"]),
}
# A chunk of an array comes into being as a whole.
CHUNK = 256


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C program, with the schemas that `arenads schema --c` writes of its own header."""
    folder = tmp_path_factory.mktemp("c-kinds")
    return made_in_c("every_kind", SCHEMAS, folder)


@pytest.fixture(scope="module")
def made(maker: ctypes.CDLL, engine: str, pin_directory: Path) -> Iterator[Path]:
    """The pin of an arena that the C program has made; no test changes it."""
    place = pin_directory / "every-kind"
    assert maker.make_arena(str(place).encode(), int(engine == "kernel")) == 0
    yield place
    place.unlink()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process: what it prints."""

    def command(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(each) for each in arguments])
        printed, said = capsys.readouterr()
        assert (ended.value.code, said) == (0, "")
        return printed

    return command


def arrow(path: Path) -> Any:
    """The table in an Arrow file."""
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    with ipc.open_file(path) as file:
        return file.read_all()


def test_each_structure_is_described_and_has_its_entries(made: Path) -> None:
    with arenads.open(made, readonly=True) as arena:
        assert {name: each.kind_name for name, each in arena.structures.items()} == KINDS
        for name, each in arena.structures.items():
            assert each.described, name
            expected = {"slots": CHUNK, "log": 1}.get(name, 3)
            if not name.startswith("many."):
                assert count_entries(each) == expected, name


def test_check_finds_nothing_wrong(command: Callable[..., str], made: Path) -> None:
    command("check", made)


# --- commands -------------------------------------------------------------------------------


def test_ls_lists_every_kind_as_text(command: Callable[..., str], made: Path) -> None:
    lines = command("ls", made).splitlines()
    assert {name for name in KINDS if any(line.startswith(f"{name} ") for line in lines)} == set(
        KINDS
    )
    assert "no schema" not in "".join(lines)


def test_ls_lists_every_kind_in_json_csv_and_arrow(
    command: Callable[..., str], made: Path, tmp_path: Path
) -> None:
    listed = json.loads(command("ls", made, "--json"))["structures"]
    rows = list(csv.DictReader(io.StringIO(command("ls", made, "--csv"))))
    assert {each["name"]: each["kind"] for each in listed} == KINDS
    assert {each["name"]: each["kind"] for each in rows} == KINDS
    assert [int(each["entries"]) for each in rows] == [each["entries"] for each in listed]
    types = {each["name"]: (each["key"], each["value"]) for each in listed}
    assert types["deltas"] == ("i32", "task")
    assert types["names"] == ("char[16]", "u64")
    assert types["ready"] == types["jobs"] == (None, "job")
    command("ls", made, "--arrow", tmp_path / "x")
    table = arrow(tmp_path / "x")
    assert dict(zip(*(table[each].to_pylist() for each in ("name", "kind")), strict=True)) == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_dump_has_the_same_entries_in_each_form(
    command: Callable[..., str], made: Path, tmp_path: Path, name: str
) -> None:
    text = command("dump", made, name).splitlines()
    [entries] = [
        each["entries"] for each in json.loads(command("dump", made, name, "--json"))["structures"]
    ]
    titles, *rows = csv.reader(io.StringIO(command("dump", made, name, "--csv")))
    assert text[0].split() == titles == COLUMNS[name]
    assert len(text) - 1 == len(entries) == len(rows)
    command("dump", made, name, "--arrow", tmp_path / "x")
    table = arrow(tmp_path / "x").flatten().flatten()
    assert table.num_rows == len(rows)
    if name in IN_ORDER:
        title, values = IN_ORDER[name]
        column = [row[titles.index(title)] for row in rows]
        assert column == [each.hex() if isinstance(each, bytes) else str(each) for each in values]
        found = {each.removeprefix("value."): each for each in table.column_names}
        assert table[found[title]].to_pylist() == values


@pytest.mark.parametrize("name", KINDS)
def test_top_shows_the_entries_in_each_form(
    command: Callable[..., str], made: Path, tmp_path: Path, name: str
) -> None:
    top = ("top", made, name, "--once", "--interval", "0.01")
    lines = command(*top).splitlines()
    report = json.loads(command(*top, "--json"))
    titles, *rows = csv.reader(io.StringIO(command(*top, "--csv")))
    plain = [title for title in titles if not title.endswith("/s")]
    assert plain == ["time", *COLUMNS[name]]
    assert report["total"] == len(report["rows"]) == len(rows)
    assert any(line.split()[: len(titles)] == titles[1:] for line in lines)
    command(*top, "--arrow", tmp_path / "x")
    table = arrow(tmp_path / "x")
    assert (table.num_rows, table.column_names) == (len(rows), titles)


def test_top_shows_all_structures_in_each_form(
    command: Callable[..., str], made: Path, tmp_path: Path
) -> None:
    top = ("top", made, "--once", "--interval", "0.01", "--sort", "name")
    assert [row["name"] for row in json.loads(command(*top, "--json"))["rows"]] == sorted(KINDS)
    rows = csv.DictReader(io.StringIO(command(*top, "--csv")))
    assert {row["name"]: row["kind"] for row in rows} == KINDS
    command(*top, "--arrow", tmp_path / "x")
    assert arrow(tmp_path / "x")["name"].to_pylist() == sorted(KINDS)
    assert all(name in command(*top) for name in KINDS)


def test_conditions_name_members_of_c_records(command: Callable[..., str], made: Path) -> None:
    found = json.loads(command("dump", made, "tasks", "--json", "--where", "state=STATE_RUNNING"))[
        "structures"
    ][0]["entries"]
    assert sorted(each["key"] for each in found) == [1, 3]
    sorted_by = ("--sort", "delta", "--filter", "calls>100")
    shown = json.loads(
        command("top", made, "tasks", "--once", "--interval", "0.01", "--json", *sorted_by)
    )
    assert [row["delta"] for row in shown["rows"]] == [-2, -3]


# --- a second process -----------------------------------------------------------------------

READER = """
import enum, json, sys
import arenads

def told(task):
    return [task.calls, task.state.name, task.delta, task.comm]

with arenads.open(sys.argv[1], readonly=True) as arena:
    at = arena.structures
    tasks, slots, ready, jobs = at["tasks"], at["slots"], at["ready"], at["jobs"]
    task = tasks[1]
    parents, view = [], tasks.view(2).parent
    while view is not None:
        parents.append(told(view))
        view = view.parent
    chain, job = [], next(ready.views())
    while job is not None:
        chain.append([job.pid, job.level])
        job = job.next
    print(json.dumps({
        "fields": type(task).__struct_fields__,
        "enum": {each.name: each.value for each in type(task.state)},
        "task": told(task),
        "no parent": tasks[3].parent,
        "parents": parents,
        "muted": sorted(at["muted"]),
        "deltas": {key: told(value) for key, value in at["deltas"].items()},
        "from 0": [key for key, _ in at["deltas"].range(0)],
        "names": dict(at["names"]),
        "recent": [each.comm for _, each in at["recent"].items()],
        "slot": told(slots[2]),
        "jobs": [value.pid for _, value in jobs.items()],
        "by list": [each.pid for each in ready.views()],
        "by pointer": chain,
        "same record": next(ready.views()) == jobs.view(next(iter(ready))),
        "inbox": [each.calls for each in at["inbox"].snapshot()],
        "outbox": [each.calls for each in at["outbox"].snapshot()],
        "log": [each.decode() for each in at["log"].records()],
        "many": [each.decode() for each in arena.rings("many", size="4KiB", count=2).records()],
    }))
"""


def test_a_second_process_has_the_types_and_walks_the_pointers(
    made: Path, python: Callable[..., Any]
) -> None:
    slots = [
        [1000 + 100 * n, ["STATE_SLEEPING", "STATE_RUNNING"][n % 2], -10 - n, f"task {10 + n}"]
        for n in range(3)
    ]
    task = {
        n: [100 * n, ["STATE_SLEEPING", "STATE_RUNNING"][n % 2], -n, f"task {n}"] for n in range(4)
    }
    assert json.loads(python(READER, made).stdout) == {
        "fields": TASK,
        "enum": {"STATE_RUNNING": 1, "STATE_SLEEPING": 2},
        "task": task[1],
        "no parent": 0,
        "parents": slots[::-1],
        "muted": [1, 2, 3],
        "deltas": {"-1": task[2], "0": task[1], "1": task[0]},
        "from 0": [0, 1],
        "names": {"alice": 1, "bob": 2, "carol": 0},
        "recent": ["task 3", "task 2", "task 1"],
        "slot": slots[2],
        "jobs": [1, 2, 3],
        "by list": [3, 2, 1],
        "by pointer": [[3, 30], [2, 20], [1, 10]],
        "same record": True,
        "inbox": [100, 200, 300],
        "outbox": [100, 200, 300],
        "log": ["hello"],
        "many": ["from C"],
    }


WRITER = """
import sys
import arenads

with arenads.open(sys.argv[1]) as arena:
    at = arena.structures
    task = at["inbox"].pop()
    at["tasks"][9] = task
    at["deltas"][-9] = task
    at["names"]["dave"] = 4
    at["muted"].add(9)
    at["recent"].push(task)
    at["slots"][0] = task
    at["outbox"].push(task)
    at["log"].push(b"again")
    at["jobs"].view(next(iter(at["ready"]))).level = 99
"""


def test_a_second_process_writes_to_what_c_made(
    maker: ctypes.CDLL,
    engine: str,
    pin: Path,
    python: Callable[..., Any],
    command: Callable[..., str],
) -> None:
    assert maker.make_arena(str(pin).encode(), int(engine == "kernel")) == 0
    python(WRITER, pin)
    command("check", pin)
    with arenads.open(pin, readonly=True) as arena:
        at: Any = arena.structures
        assert at["tasks"][9] == at["deltas"][-9] == at["slots"][0]
        assert at["tasks"][9].comm == "task 1"
        assert at["names"]["dave"] == 4
        assert 9 in at["muted"]
        assert (len(at["recent"]), len(at["inbox"]), len(at["outbox"])) == (4, 2, 4)
        assert list(at["log"].records()) == [b"hello", b"again"]
        assert next(at["ready"].views()).level == 99
