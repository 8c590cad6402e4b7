"""`arenads ls`: what is in a pinned arena, and which arenas there are."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import everything
import pytest
from conftest import Run, fails

import arenads
from arenads import cli
from arenads._core import lib
from arenads.ls import ListedArena, list_arena
from arenads.pins import find_arenas

DIRECTORY_ENTRY = 16  # an entry's link and hash, before its key, a name
NAME_SIZE = 64


def overwrite(place: Path, at: int, number: int, size: int) -> None:
    with open(place, "r+b") as file:
        file.seek(at)
        file.write(number.to_bytes(size, sys.byteorder))


def value_at(place: Path, name: str) -> int:
    """The offset of what the directory says of a name: kind, offset, schema's offset and size."""
    found = place.read_bytes().index(name.encode().ljust(NAME_SIZE, b"\0"))
    return found + NAME_SIZE


def by_name(listed: ListedArena) -> dict[str, Any]:
    return {each.name: each for each in listed.structures}


# --- what it says -----------------------------------------------------------------------


def test_every_kind_is_listed_with_its_types(run: Run, pinned: Path, engine: str) -> None:
    done = run("ls", pinned, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert (listed["version"], listed["engine"], listed["size"]) == (1, engine, 4 << 20)
    assert listed["abi"] == lib.ADS_ABI_VERSION
    found = {each["name"]: each for each in listed["structures"]}
    assert {name: each["kind"] for name, each in found.items()} == everything.KINDS
    assert (found["tasks"]["key"], found["tasks"]["value"]) == ("Key", "Task")
    assert (found["muted"]["key"], found["muted"]["value"]) == ("u32", None)
    assert (found["recent"]["key"], found["recent"]["value"]) == (None, "u64")
    assert (found["tasks"]["entries"], found["tasks"]["max_entries"]) == (3, 1000)
    assert found["slots"]["max_entries"] == 100_000
    assert 0 < found["slots"]["entries"] < 100_000
    assert found["log"]["flags"] == ["overwrite"]
    assert found["inbox"]["failures"]["full"] == 1
    assert all(each["bytes"] > 0 and each["described"] for each in found.values())


def test_the_table_has_a_line_for_each_structure(run: Run, pinned: Path) -> None:
    lines = run("ls", pinned).stdout.splitlines()
    assert lines[0].startswith(f"{pinned}: ")
    assert lines[2].split()[:3] == ["NAME", "KIND", "ENTRIES"]
    assert [line.split()[0] for line in lines[3:]] == sorted(everything.KINDS)
    assert "full 1" in next(line for line in lines if line.startswith("inbox"))


def test_an_arena_without_structures_is_an_empty_table(run: Run, engine: str, pin: Path) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        arena.pin(pin)
    done = run("ls", pin)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("NAME")


def test_bytes_are_all_that_is_used_but_what_the_arena_needs_itself(engine: str) -> None:
    with arenads.create("16MiB", engine=engine) as arena:
        arena.list("first", value=arenads.u64)  # makes the directory
        first = arena.structures["first"].bytes_held
        own = arena.used - first
        kinds = everything.fill(arena)
        numbers = arena.hashmap("grown", key=arenads.u64, value=arenads.u64, max_entries=10_000)
        numbers.update({number: number for number in range(10_000)})
        held = sum(each.bytes_held for each in arena.structures.values())
        # The directory's entries come in chunks of its own, of 4 KiB.
        assert 0 <= arena.used - own - held <= 4096
        assert numbers.bytes_held > 10_000 * 32
        assert all(arena.structures[name].bytes_held == kinds[name].bytes_held for name in kinds)


def test_listing_writes_nothing(run: Run, native_pin: Path) -> None:
    before = native_pin.read_bytes()
    assert run("ls", native_pin).returncode == 0
    assert native_pin.read_bytes() == before


def test_a_structure_that_is_removed_is_not_listed(engine: str, pin: Path) -> None:
    with arenads.create("4MiB", engine=engine) as arena:
        everything.fill(arena)
        arena.remove("recent")
        arena.pin(pin)
    assert "recent" not in by_name(list_arena(str(pin)))


def test_one_structure_is_listed_by_its_name(run: Run, pinned: Path) -> None:
    done = run("ls", pinned, "muted", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [each["name"] for each in json.loads(done.stdout)["structures"]] == ["muted"]


def test_the_name_of_no_structure_is_refused_with_those_that_there_are(
    run: Run, pinned: Path
) -> None:
    done = run("ls", pinned, "mutes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no structure 'mutes'" in done.stderr
    assert "'muted'" in done.stderr


# --- which arenas there are -------------------------------------------------------------


def test_without_a_pin_all_arenas_are_found(run: Run, pinned: Path, engine: str) -> None:
    found = json.loads(run("ls", "--json").stdout)["arenas"]
    [ours] = [each for each in found if each["pin"] == str(pinned)]
    assert (ours["engine"], ours["structures"]) == (engine, len(everything.KINDS))
    assert str(pinned) in run("ls").stdout


def test_places_that_may_not_be_looked_at_are_counted(
    pinned: Path, in_fork: Callable[[Callable[[], object]], None], tmp_path: Path, engine: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not")
    pinned.chmod(0o600)
    folder_mode = pinned.parent.stat().st_mode & 0o7777
    pinned.parent.chmod(0o755)
    find_arenas()  # imports all that another user may not read
    said, listed = tmp_path / "said", tmp_path / "listed"

    def as_nobody() -> None:
        with open(said, "w") as sys.stderr, open(listed, "w") as sys.stdout:
            os.setresuid(65534, 65534, 65534)
            with pytest.raises(SystemExit) as ended:
                cli.main(["ls", "--json"])
        assert ended.value.code == 0

    try:
        in_fork(as_nobody)
    finally:
        pinned.parent.chmod(folder_mode)
    kind = "pin" if engine == "kernel" else "file"
    found = json.loads(listed.read_text())
    [ours] = [each for each in found["unseen"] if each["path"] == str(pinned)]
    assert ours["kind"] == kind
    assert f"could not be looked at: {ours['error']}" in said.read_text()
    assert str(pinned) not in [each["pin"] for each in found["arenas"]]


@pytest.mark.kernel
def test_arenas_of_others_are_not_touched(run: Run, bpf_file_system: Path) -> None:
    theirs = bpf_file_system / "theirs"
    fd = lib.ads_bpf_arena_create(1 << 20, 0x300000000000, b"somebody")
    try:
        assert lib.ads_bpf_pin(fd, bytes(theirs)) == 0
        assert str(theirs) not in run("ls").stdout
    finally:
        os.close(fd)
        theirs.unlink()


# --- what is wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "dump", "top"])
def test_something_else_is_told_with_what_was_expected(
    run: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_bytes(b"\0" * 8192)
    for wrong in ("absent", ".", "file", "/dev/null"):
        assert "arenads: " in fails(run(command, wrong))


def test_a_damaged_schema_is_named_and_the_others_are_listed(run: Run, native_pin: Path) -> None:
    with arenads.open(native_pin, readonly=True) as arena:
        at = int(arena._lookup("tasks").schema_offset)
    overwrite(native_pin, at, 0x21, 1)
    done = run("ls", native_pin, "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "tasks: " in done.stderr and "schema" in done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["structures"]}
    assert set(found) == set(everything.KINDS)
    assert [name for name, each in found.items() if each["error"]] == ["tasks"]


def test_a_schema_of_another_size_than_the_structure_s_is_told(native_pin: Path) -> None:
    with arenads.open(native_pin, readonly=True) as arena:
        other = arena._lookup("recent")
        schema = int(other.schema_offset), int(other.schema_size)
    at = value_at(native_pin, "inbox")  # a queue of tasks: now it says that they are numbers
    overwrite(native_pin, at + 8, schema[0], 4)
    overwrite(native_pin, at + 12, schema[1], 4)
    before = native_pin.read_bytes()
    found = by_name(list_arena(str(native_pin)))
    assert "is of values of 8 bytes, but it has values of 72 bytes" in found["inbox"].error
    assert not found["tasks"].error
    with arenads.open(native_pin) as arena, pytest.raises(arenads.DamagedError, match="inbox"):
        arena.structures["inbox"]
    assert native_pin.read_bytes() == before


@pytest.mark.parametrize("size", [1, 20, 1 << 20, 0xFFFFFFFF])
def test_a_schema_that_is_shorter_or_longer_than_its_text_is_told(
    native_pin: Path, size: int
) -> None:
    overwrite(native_pin, value_at(native_pin, "inbox") + 12, size, 4)
    before = native_pin.read_bytes()
    found = by_name(list_arena(str(native_pin)))
    assert found["inbox"].error
    assert not found["tasks"].error
    assert native_pin.read_bytes() == before


def test_a_damaged_directory_is_told_with_what_is_before_the_damage(
    run: Run, native_pin: Path
) -> None:
    last = list_arena(str(native_pin)).structures
    with arenads.open(native_pin, readonly=True) as arena:
        order = [name for name, _ in arena._entries()]
    entry = value_at(native_pin, order[4]) - NAME_SIZE - DIRECTORY_ENTRY
    overwrite(native_pin, entry, 0x7FFFFFF8, 4)
    done = run("ls", native_pin, "--json")
    assert done.returncode == 1
    assert "the directory: " in done.stderr
    assert "Traceback" not in done.stderr
    found = [each["name"] for each in json.loads(done.stdout)["structures"]]
    assert set(found) <= {each.name for each in last}
    assert len(found) >= 4


def test_another_abi_version_is_told(run: Run, native_pin: Path) -> None:
    overwrite(native_pin, 64 + 8, 99, 4)
    for command in ("ls", "dump", "top"):
        assert "ABI version 99" in fails(run(command, native_pin))


def test_a_pin_that_may_not_be_opened_is_told(
    pinned: Path, in_fork: Callable[[Callable[[], object]], None], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not")
    pinned.chmod(0o600)
    list_arena(str(pinned))  # imports all that another user may not read
    said = tmp_path / "said"

    def as_nobody() -> None:
        with open(said, "w") as sys.stderr:
            os.setresuid(65534, 65534, 65534)
            with pytest.raises(SystemExit) as ended:
                cli.main(["ls", str(pinned)])
        assert ended.value.code == 2

    in_fork(as_nobody)
    assert "ermission" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_a_name_is_what_it_was_or_a_question_mark(native_pin: Path, run: Run) -> None:
    at = value_at(native_pin, "recent") - NAME_SIZE
    overwrite(native_pin, at, 0x1B, 1)
    done = run("ls", native_pin)
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_name_that_leads_nowhere_is_told(native_pin: Path) -> None:
    overwrite(native_pin, value_at(native_pin, "tasks") + 4, 0xFFFFFFC0, 4)
    found = by_name(list_arena(str(native_pin)))
    assert found["tasks"].error
    assert not found["inbox"].error


@pytest.fixture
def misnamed(pinned: Path) -> Iterator[Path]:
    """A pin in whose directory the name `tasks` has become `tasky`, which hashes to elsewhere."""
    with arenads.open(pinned) as arena:
        memory = (ctypes.c_char * arena.populated).from_address(arena.base)
        memory[memory.raw.index(b"tasks".ljust(NAME_SIZE, b"\0")) + 4] = b"y"
    yield pinned


def test_a_name_that_is_listed_and_not_found_is_damage(misnamed: Path) -> None:
    with arenads.open(misnamed) as arena:
        assert "tasky" in list(arena.structures)
        for use in (lambda: arena.structures["tasky"], lambda: arena.remove("tasky")):
            with pytest.raises(arenads.DamagedError, match="lists 'tasky', and does not find it"):
                use()
        with pytest.raises(arenads.StructureAbsentError, match="Did you mean 'tasky'"):
            arena.structures["tasks"]


def test_commands_for_a_name_that_is_listed_and_not_found_tell_of_damage(
    run: Run, misnamed: Path
) -> None:
    for command in (["dump"], ["top", "--once", "--interval", "0.01"], ["check"]):
        done = run(*command, misnamed, "tasky")
        assert done.returncode == 1, done
        assert "the directory lists 'tasky', and does not find it" in done.stderr
        assert "Traceback" not in done.stderr
    assert run("ls", misnamed).returncode == 0  # it goes by what the directory lists


def test_a_listed_name_that_nobody_could_have_given_is_damage(pinned: Path) -> None:
    with arenads.open(pinned) as arena:
        memory = (ctypes.c_char * arena.populated).from_address(arena.base)
        at = memory.raw.index(b"tasks".ljust(NAME_SIZE, b"\0"))
        memory[at : at + NAME_SIZE] = b"\xff" * (NAME_SIZE - 1) + b"\0"
        [name] = [each for each in arena.structures if each not in everything.KINDS]
        with pytest.raises(arenads.DamagedError, match="does not find it"):
            arena.structures[name]
        with pytest.raises(arenads.SchemaError, match="a name has at most"):
            arena.structures["x" * 100]


# --- CSV and Arrow --------------------------------------------------------------------------


def test_csv_has_a_line_for_each_structure(run: Run, pinned: Path) -> None:
    done = run("ls", pinned, "--csv")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert {name: row["kind"] for name, row in rows.items()} == everything.KINDS
    assert (rows["slots"]["max_entries"], rows["tasks"]["entries"]) == ("100000", "3")
    assert (rows["muted"]["value"], rows["tasks"]["value"]) == ("", "Task")
    assert (rows["inbox"]["full"], rows["log"]["flags"]) == ("1", '["overwrite"]')


def test_csv_without_a_pin_has_a_line_for_each_arena(run: Run, pinned: Path, engine: str) -> None:
    rows = list(csv.DictReader(io.StringIO(run("ls", "--csv").stdout)))
    [ours] = [row for row in rows if row["pin"] == str(pinned)]
    assert (ours["engine"], ours["structures"]) == (engine, str(len(everything.KINDS)))


def test_a_structure_that_is_damaged_has_its_error_in_csv(run: Run, native_pin: Path) -> None:
    overwrite(native_pin, value_at(native_pin, "tasks") + 4, 0xFFFFFFC0, 4)
    done = run("ls", native_pin, "--csv")
    assert done.returncode == 1
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert rows["tasks"]["error"] and not rows["tasks"]["full"] and not rows["inbox"]["error"]


def test_the_list_can_be_an_arrow_file(run: Run, pinned: Path, tmp_path: Path) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    place = tmp_path / "list.arrow"
    done = run("ls", pinned, "--arrow", place)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{place}\n", "")
    rows = {row["name"]: row for row in ipc.open_file(place).read_all().to_pylist()}
    assert {name: row["kind"] for name, row in rows.items()} == everything.KINDS
    assert (rows["muted"]["value"], rows["tasks"]["entries"], rows["inbox"]["full"]) == (None, 3, 1)
    assert rows["log"]["flags"] == ["overwrite"]


def test_an_arrow_list_of_an_empty_arena_has_the_columns(
    run: Run, engine: str, pin: Path, tmp_path: Path
) -> None:
    ipc = pytest.importorskip("pyarrow.ipc", reason="the extra arenads[arrow]")
    with arenads.create("1MiB", engine=engine) as arena:  # type: ignore[arg-type]
        arena.pin(pin)
    done = run("ls", pin, "--arrow", "list.arrow")
    assert (done.returncode, done.stderr) == (0, "")
    table = ipc.open_file(tmp_path / "list.arrow").read_all()
    assert (table.num_rows, table.column_names[0]) == (0, "name")


def test_an_arrow_list_of_all_arenas_is_refused(run: Run, tmp_path: Path) -> None:
    assert "expected its PIN" in fails(run("ls", "--arrow", tmp_path / "list.arrow"))
    assert not list(tmp_path.iterdir())


def test_the_list_does_not_take_the_place_of_the_arena(run: Run, native_pin: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra arenads[arrow]")
    before = native_pin.read_bytes()
    assert "is the arena itself" in fails(run("ls", native_pin, "--arrow", native_pin))
    assert native_pin.read_bytes() == before
