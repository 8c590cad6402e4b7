"""`arenads dump`: the entries of every kind, typed, in each form; nothing is changed or taken."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import everything
import msgspec
import pytest
from conftest import Run, fails
from hypothesis import given, settings
from hypothesis import strategies as st

import arenads
from arenads import Array, u32, u64
from arenads.arrow_file import write_arrow
from arenads.condition import read_condition
from arenads.dump import Request, dump_arena
from arenads.fields import entry_converter, field_named, fields_of, parsed
from arenads.ls import list_arena
from arenads.numpy_dtype import numpy_dtype
from arenads.walk import entries, parts


def dumped(request: Request, output: io.StringIO | None = None) -> str:
    """What a dump writes; it must be whole."""
    output = io.StringIO() if output is None else output
    complaints: list[str] = []
    assert dump_arena(request, output, io.StringIO(), complaints.append), complaints
    return output.getvalue()


def json_entries(place: Path, name: str, *where: str, limit: int | None = None) -> list[Any]:
    request = Request(str(place), name, "json", [*map(read_condition, where)], limit)
    [structure] = json.loads(dumped(request))["structures"]
    assert structure["count"] == len(structure["entries"])
    return list(structure["entries"])


# --- what is in it ----------------------------------------------------------------------


def test_entries_of_every_kind_are_dumped(run: Run, pinned: Path, engine: str) -> None:
    done = run("dump", pinned, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["version"], document["engine"]) == (1, engine)
    found = {each["name"]: each for each in document["structures"]}
    assert {name: each["kind"] for name, each in found.items()} == everything.KINDS
    assert all(each["error"] is None for each in found.values())
    told = {name: each["entries"] for name, each in found.items()}
    assert sorted(each["key"] for each in told["muted"]) == [1, 2, 3]
    assert told["names"] == [{"key": "alice", "value": 1}, {"key": "bob", "value": 2}]
    assert [each["value"] for each in told["recent"]] == [20, 10]
    assert {"index": 70_000, "value": {"ticks": 5, "load": 1.5}} in told["slots"]
    assert [each["value"]["calls"] for each in told["inbox"]] == [100, 20, 3, 100]
    assert told["jobs"] == [{"value": 7}, {"value": 8}]
    assert told["log"] == [{"record": b"hello".hex()}]
    assert [each["value"]["pid"] for each in told["records"]] == [1, 2, 3]
    assert [each["value"]["pid"] for each in told["ready"]] == [3, 2, 1]
    addresses = {each["address"] for each in told["records"]}
    assert {each["address"] for each in told["ready"]} == addresses


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("cpu.load=NaN", ['größe, "x"']),
        ("cpu.load!=nan", ["bash", "sh"]),
        ("cpu.load>nan", []),
        ("cpu.load=Infinity", ["sh"]),
        ("raw=0x010203ff", ["bash"]),
        ("raw=01 02 03 ff", ["bash"]),
    ],
)
def test_values_are_given_as_they_are_shown(pinned: Path, where: str, names: list[str]) -> None:
    found = json_entries(pinned, "tasks", where)
    assert sorted(each["value"]["comm"] for each in found) == sorted(names)


def test_a_record_is_an_object_with_names_for_enums_and_digits_for_bytes(pinned: Path) -> None:
    [entry] = json_entries(pinned, "tasks", "comm=bash")
    assert entry == {
        "key": {"pid": 1, "cpu": 0},
        "value": {
            "calls": 100,
            "comm": "bash",
            "state": "RUNNING",
            "delta": -5,
            "cpu": {"ticks": 7, "load": 0.5},
            "last": [1, 2, 3],
            "raw": "010203ff",
            "where": "0x40",
        },
    }


def test_numbers_that_json_does_not_have_are_words(pinned: Path) -> None:
    loads = {
        each["key"]["pid"]: each["value"]["cpu"]["load"] for each in json_entries(pinned, "tasks")
    }
    assert loads == {1: 0.5, 2: "NaN", 3: "Infinity"}


def test_csv_has_a_column_for_each_field(run: Run, pinned: Path) -> None:
    done = run("dump", pinned, "tasks", "--csv")
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == [
        *("pid", "cpu", "calls", "comm", "state", "delta", "cpu.ticks", "cpu.load"),
        *("last", "raw", "where"),
    ]
    [second] = [row for row in rows if row["pid"] == "2"]
    assert second["comm"] == 'größe, "x"'
    assert (second["state"], second["last"], second["cpu.load"]) == ("SLEEPING", "[4,5,6]", "NaN")


STEERING = "a\x1b[2J\x9b\x7f"  # what would clear a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def steering(engine: str, pin: Path) -> Path:
    """A pin with structures in which everything that may be text would steer a terminal."""
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        texts = arena.hashmap(STEERING, key=arenads.Str[16], value=arenads.Str[8])
        texts[STEERING] = STEERING
        arena.pin(pin)
    return pin


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_nothing_in_an_arena_steers_a_terminal(steering: Path, form: Any) -> None:
    for name in (None, STEERING):
        shown = dumped(Request(str(steering), name, form), Terminal())
        assert "a" in shown
        assert all(each.isprintable() or each == "\n" for each in shown)


def test_where_there_is_no_terminal_csv_and_json_have_what_is_stored(steering: Path) -> None:
    rows = list(csv.reader(io.StringIO(dumped(Request(str(steering), None, "csv")))))
    assert rows == [["key", "value"], [STEERING, STEERING]]
    assert json_entries(steering, STEERING) == [{"key": STEERING, "value": STEERING}]


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["ls", "--json"],
        ["top", "--once", "--interval", "0.01"],
        ["top", "--once", "--interval", "0.01", "--json"],
        ["check"],
        ["check", "--json"],
        ["dump", "no"],
        ["top", "--once", "no"],
    ],
)
def test_no_command_lets_a_name_steer_a_terminal(
    run: Run, steering: Path, command: list[str]
) -> None:
    done = run(command[0], steering, *command[1:])
    assert "Traceback" not in done.stderr
    assert all(each.isprintable() or each == "\n" for each in done.stdout + done.stderr)


def test_csv_of_several_structures_is_refused(run: Run, pinned: Path) -> None:
    assert "columns of one structure" in fails(run("dump", pinned, "--csv"))


def test_text_has_a_table_for_each_structure(run: Run, pinned: Path) -> None:
    text = run("dump", pinned).stdout
    assert "tasks: hash map, 3 entries\n" in text
    assert "pid  cpu  calls  comm" in text
    alone = run("dump", pinned, "names").stdout.splitlines()
    assert [line.split() for line in alone] == [["key", "value"], ["alice", "1"], ["bob", "2"]]


def test_nothing_is_taken_and_nothing_changed(run: Run, native_pin: Path) -> None:
    before = native_pin.read_bytes()
    for form in ([], ["--json"]):
        assert run("dump", native_pin, *form).returncode == 0
    assert native_pin.read_bytes() == before


def test_an_empty_structure_has_no_entries(engine: str, pin: Path) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        for name, each in everything.fill(arena).items():
            if name in ("inbox", "jobs", "log"):
                each.drain()
        arena.hashmap("none", key=u32, value=u32)
        arena.pin(pin)
    for name in ("inbox", "jobs", "log", "none"):
        assert json_entries(pin, name) == []


# --- which entries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "pids"),
    [
        (["calls>3"], {1, 2}),
        (["calls >= 3", "calls<100"], {2, 3}),
        (["state=SLEEPING"], {2}),
        (["state!=SLEEPING"], {1, 3}),
        (["state=1"], {1, 3}),
        (["key.pid=0x2"], {2}),
        (["key.cpu==1", "delta>=0"], {2, 3}),
        (["cpu=1", "pid!=3"], {2}),
        (["raw=010203ff"], {1}),
        (["cpu.ticks=9"], {3}),
        (["last[2]<=6"], {1, 2}),
        (["value.calls=3"], {3}),
        (["comm=sh"], {3}),
        (["cpu.load>1"], {3}),
        (["where=0x40"], {1}),
        (["calls=12345"], set()),
    ],
)
def test_conditions_choose_entries(native_pin: Path, conditions: list[str], pids: set[int]) -> None:
    found = json_entries(native_pin, "tasks", *conditions)
    assert {each["key"]["pid"] for each in found} == pids


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("nothing=1", "there is no field 'nothing'; there are pid, cpu, calls"),
        ("value.cpu=1", "there is no field 'value.cpu'"),
        ("last[3]=1", "there is no field 'last[3]'"),
        ("last=1", "expected one element of u32[3]"),
        ("calls=many", "calls: expected a number (u64), found 'many'"),
        ("state=DEAD", "state: expected RUNNING or SLEEPING, or a number, found 'DEAD'"),
        ("raw=xyz", "raw: expected bytes as hexadecimal digits"),
        ("calls", "expected a condition such as comm=bash or calls>100, found 'calls'"),
        ("=1", "expected a condition"),
    ],
)
def test_a_condition_that_does_not_fit_is_told(native_pin: Path, condition: str, said: str) -> None:
    with pytest.raises(arenads.SchemaError) as error:
        json_entries(native_pin, "tasks", condition)
    assert said in str(error.value)


def test_a_condition_without_a_name_is_refused(run: Run, native_pin: Path) -> None:
    assert "expected its NAME" in fails(run("dump", native_pin, "--where", "calls>1"))


def test_a_limit_is_for_each_structure(native_pin: Path) -> None:
    assert len(json_entries(native_pin, "tasks", limit=2)) == 2
    assert len(json_entries(native_pin, "slots", limit=300)) == 300
    assert len(json_entries(native_pin, "tasks", "calls>3", limit=1)) == 1


def test_a_name_that_is_not_there_is_told_with_close_ones(run: Run, native_pin: Path) -> None:
    said = fails(run("dump", native_pin, "taks"))
    assert "'taks'" in said
    assert "Did you mean 'tasks'?" in said
    assert "'inbox'" in said


def test_fields_that_would_be_called_the_same_are_told_apart() -> None:
    class Value(msgspec.Struct):
        key: u32
        value: u32

    with arenads.create("1MiB", engine="native") as arena:
        both = arena.hashmap("both", key=u32, value=Value)
        both[1] = Value(2, 3)
        places = parts(both)
        fields = fields_of(places)
        assert [field.name for field in fields] == ["key", "value.key", "value"]
        [entry] = entries(both)
        assert [field.get(entry) for field in fields] == [1, 2, 3]
        assert [field_named(places, field.name).get(entry) for field in fields] == [1, 2, 3]
        assert parsed(fields[0], "7") == 7
        assert entry_converter(places)(entry) == {"key": 1, "value": {"key": 2, "value": 3}}


# --- much of it, and while others write -------------------------------------------------


@pytest.fixture(scope="module")
def large_pin() -> Iterator[Path]:
    place = Path(f"/dev/shm/arenads-test-dump-large-{os.getpid()}")
    with arenads.create("64MiB", engine="native") as arena:
        numbers = arena.array("numbers", value=Array[u64, 2], max_entries=50_000)
        numbers[:] = [[number, number] for number in range(50_000)]
        arena.pin(place)
    yield place
    place.unlink(missing_ok=True)


class Counting(io.StringIO):
    """Counts what is written and keeps nothing."""

    lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        return len(text)


@pytest.mark.parametrize("form", ["json", "csv", "text"])
def test_many_entries_are_not_held_in_memory(large_pin: Path, form: Any) -> None:
    output = Counting()
    tracemalloc.start()
    try:
        dumped(Request(str(large_pin), "numbers", form), output)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert output.lines >= 50_000
    assert peak < 3 << 20


def test_progress_is_told_on_a_terminal_if_the_entries_go_elsewhere(
    large_pin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arenads.dump._PROGRESS_SECONDS", 0)  # however fast the entries come

    errors = Terminal()
    dump_arena(Request(str(large_pin), "numbers", "csv"), Counting(), errors, print)
    assert "of 50,000 entries" in errors.getvalue()
    assert errors.getvalue().endswith("\r\x1b[K")
    quiet = Terminal()
    dump_arena(Request(str(large_pin), "numbers", "csv", limit=9), Terminal(), quiet, print)
    assert quiet.getvalue() == ""


def test_a_reader_that_goes_away_is_no_error(large_pin: Path) -> None:
    from conftest import child_environment

    with subprocess.Popen(
        [sys.executable, "-m", "arenads", "dump", str(large_pin), "--json"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 128 + 13


PUSHER = """
import sys
import arenads
with arenads.open(sys.argv[1]) as arena:
    queue = arena.structures[sys.argv[2]]
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        try:
            queue.push([number] * 8)
        except arenads.CapacityError:
            queue.drain(5)
"""


@pytest.mark.parametrize("kind", ["queue", "mpmc"])
def test_records_are_whole_and_in_order_while_others_push_and_pop(
    kind: str, engine: str, pin: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        queue = getattr(arena, kind)("numbers", value=Array[u64, 8], max_entries=8)
        arena.pin(pin)
        child = start_python(PUSHER, pin, "numbers")
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        seen, latest = 0, set()
        with_records = 0
        while with_records < 300 or len(latest) < 20:
            found = list(queue.records())
            assert len(found) <= 8
            assert all(len(set(record)) == 1 for record in found)
            numbers = [record[0] for record in found]
            assert numbers == sorted(set(numbers))
            with_records += bool(found)
            latest.update(numbers[-1:])
            seen += len(found)
        child.kill()
        assert seen > 300


@pytest.mark.kernel
def test_dumps_are_whole_while_programs_run(
    compiled: Callable[..., Path], bpf_file_system: Path, run: Run
) -> None:
    pin = bpf_file_system / "traffic"
    with arenads.load(compiled("traffic", "kernel"), engine="kernel") as program:
        program.arena.pin(pin)
        program.attach()
        try:
            for _ in range(3):
                done = run("dump", pin, "--json")
                assert (done.returncode, done.stderr) == (0, "")
                names = {each["name"] for each in json.loads(done.stdout)["structures"]}
                assert names == set(program.arena.structures)
                assert run("ls", pin).returncode == 0
        finally:
            pin.unlink()


# --- what is wrong ----------------------------------------------------------------------


def test_damage_is_named_and_the_other_structures_are_dumped(run: Run, native_pin: Path) -> None:
    with arenads.open(native_pin, readonly=True) as arena:
        at = arena.structures["recent"].offset + 128  # its head link
    with open(native_pin, "r+b") as file:
        file.seek(at)
        file.write((0x7FFFFFF8).to_bytes(8, sys.byteorder))
    done = run("dump", native_pin, "--json")
    assert done.returncode == 1
    assert "recent: " in done.stderr
    assert "Traceback" not in done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["structures"]}
    assert set(found) == set(everything.KINDS)
    assert [name for name, each in found.items() if each["error"]] == ["recent"]
    assert found["tasks"]["count"] == 3
    text = run("dump", native_pin)
    assert text.returncode == 1
    assert "tasks: hash map" in text.stdout


def test_damage_of_the_one_that_is_asked_for_is_an_answer(run: Run, native_pin: Path) -> None:
    with arenads.open(native_pin, readonly=True) as arena:
        at = int(arena._lookup("tasks").schema_offset)
    with open(native_pin, "r+b") as file:
        file.seek(at)
        file.write(b"!")
    for form in ([], ["--json"], ["--csv"]):
        done = run("dump", native_pin, "tasks", *form)
        assert done.returncode == 1
        assert "schema of 'tasks'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_structure_that_is_removed_while_it_is_read_is_told(native_pin: Path) -> None:
    class Removing(Counting):
        def write(self, text: str) -> int:
            if not self.lines:
                with arenads_elsewhere(native_pin) as remove:
                    remove("slots")
            return super().write(text)

    complaints: list[str] = []
    request = Request(str(native_pin), "slots", "csv")
    assert not dump_arena(request, Removing(), io.StringIO(), complaints.append)
    assert "was removed" in complaints[0]


class arenads_elsewhere:
    """Removes a structure from another process: one maps an arena once."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> Callable[[str], None]:
        return self._remove

    def __exit__(self, *_: object) -> None:
        pass

    def _remove(self, name: str) -> None:
        script = "import arenads, sys; arenads.open(sys.argv[1]).remove(sys.argv[2])"
        subprocess.run([sys.executable, "-c", script, str(self._place), name], check=True)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_damage_makes_reading_crash_or_hang(seed: int) -> None:
    """Words anywhere in what is used are changed to anything, as whoever may write can."""
    random = Random(seed)
    place = Path(f"/dev/shm/arenads-test-dump-damage-{os.getpid()}")
    place.unlink(missing_ok=True)
    try:
        with arenads.create("4MiB", engine="native", provision=None) as arena:
            made = everything.fill(arena)
            arena.pin(place)
            heads = [each.offset for each in made.values()]
            used = arena.used
        with open(place, "r+b") as file:
            for _ in range(random.choice([1, 2, 8])):
                # Half of them in headers and positions, where most is to be broken.
                near = random.choice(heads) + 8 * random.randrange(64)
                at = random.choice([near, 1016 + 8 * random.randrange((used - 1016) // 8)])
                number = random.choice(
                    [random.getrandbits(64), random.randrange(used) & ~7, random.getrandbits(4)]
                )
                file.seek(at)
                file.write(number.to_bytes(8, sys.byteorder))
        before = place.read_bytes()
        for read in (
            lambda: list_arena(str(place)),
            lambda: dump_arena(Request(str(place), None, "json"), Counting(), Counting(), str),
        ):
            with contextlib.suppress(arenads.ArenadsError):
                read()
        assert place.read_bytes() == before
    finally:
        place.unlink(missing_ok=True)


# --- Arrow files ------------------------------------------------------------------------


def test_an_arrow_file_has_the_entries_of_a_structure(
    run: Run, pinned: Path, tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    done = run("dump", pinned, "names", "--arrow", "names.arrow")
    assert (done.returncode, done.stdout, done.stderr) == (0, "names.arrow\n", "")
    with pyarrow.ipc.open_file(tmp_path / "names.arrow") as file:
        table = file.read_all()
    assert table.to_pylist() == [{"key": "alice", "value": 1}, {"key": "bob", "value": 2}]
    assert os.listdir(tmp_path) == ["names.arrow"]


@pytest.mark.parametrize("name", everything.KINDS)
def test_an_arrow_file_has_as_many_rows_as_any_structure_has_entries(
    run: Run, pinned: Path, tmp_path: Path, name: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    assert run("dump", pinned, name, "--arrow", "x").returncode == 0
    shown = json.loads(run("dump", pinned, name, "--json").stdout)["structures"][0]["entries"]
    with pyarrow.ipc.open_file(tmp_path / "x") as file:
        assert file.read_all().num_rows == len(shown)


def test_an_arrow_file_of_many_batches_has_all_values_of_enums_without_a_name(
    native_pin: Path, tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    numpy = pytest.importorskip("numpy")
    count = (1 << 20) + 2  # one batch has 2^20
    place = native_pin.with_name(native_pin.name + "-many")
    with arenads.create("64MiB", engine="native") as arena:
        array = arena.array("states", value=everything.State, max_entries=count)
        array.update_many(numpy.arange(count), numpy.ones(count, numpy_dtype(array.value_type)))
        array[0], array[count - 1] = 7, 8
        arena.pin(place)
    try:
        write_arrow(str(place), "states", str(tmp_path / "x"))
    finally:
        place.unlink()
    with pyarrow.ipc.open_file(tmp_path / "x") as file:
        values = file.read_all()["value"]
    assert (values[0].as_py(), values[count - 1].as_py()) == ("7", "8")


@pytest.mark.parametrize("kind", ["ring", "list"])
def test_an_arrow_file_of_nothing_has_the_columns(
    engine: str, pin: Path, tmp_path: Path, kind: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        arena.list("list", value=arenads.u64)
        arena.ring("ring", size="4KiB")
        arena.pin(pin)
    write_arrow(str(pin), kind, str(tmp_path / "x"))
    with pyarrow.ipc.open_file(tmp_path / "x") as file:
        table = file.read_all()
    assert table.num_rows == 0
    assert table.column_names == {"ring": ["record"], "list": ["order", "value"]}[kind]


def test_arrow_files_say_what_they_cannot_have(run: Run, pinned: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert "expected its NAME" in fails(run("dump", pinned, "--arrow", "x"))
    limited = run("dump", pinned, "names", "--limit", 1, "--arrow", "x")
    assert "without --where and --limit" in fails(limited)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["/nodir/x.arrow", "/sys/x.arrow", "."])
def test_an_arrow_file_that_cannot_be_written_is_named(run: Run, pinned: Path, path: str) -> None:
    pytest.importorskip("pyarrow")
    said = fails(run("dump", pinned, "names", "--arrow", path))
    assert said.startswith(f"arenads: {path}: ")
    assert said.count("arrow") <= 1


def test_an_arrow_file_does_not_take_the_place_of_a_device(
    run: Run, pinned: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / "fifo")
    said = fails(run("dump", pinned, "names", "--arrow", "fifo"))
    assert "expected a file" in said
    assert (tmp_path / "fifo").is_fifo()


def test_an_arrow_file_does_not_take_the_place_of_the_arena(
    run: Run, pinned: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "link").symlink_to(pinned)
    for path in (str(pinned), "link"):
        said = fails(run("dump", pinned, "names", "--arrow", path))
        assert path in said
    assert run("ls", pinned).returncode == 0


def test_a_list_with_other_records_than_its_pool_is_damaged_and_the_rest_is_shown(
    run: Run, native_pin: Path
) -> None:
    with native_pin.open("r+b") as file:
        place = file.read().rfind(b'"name":"level"')
        file.seek(place)
        file.write(b'"name":"lavel"')
    done = run("dump", native_pin, "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    shown = {each["name"]: each for each in json.loads(done.stdout)["structures"]}
    assert "described otherwise" in shown["ready"]["error"]
    assert len(shown["tasks"]["entries"]) == len(everything.TASKS)


def test_an_arrow_file_behind_a_link_is_replaced_and_the_link_stays(
    run: Run, pinned: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")
    assert run("dump", pinned, "names", "--arrow", "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").read_bytes().startswith(b"ARROW1")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_numbers_that_no_clock_and_no_counter_takes_are_refused(run: Run, pinned: Path) -> None:
    assert "expected a number from 1 to" in fails(run("dump", pinned, "--limit", "9" * 20))
    assert "ten years" in fails(run("top", pinned, "--interval", "1e300"))


def test_arrow_files_need_pyarrow(
    pinned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.ipc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(arenads.SchemaError, match=r"pip install 'arenads\[arrow\]'"):
        write_arrow(str(pinned), "names", str(tmp_path / "x"))
