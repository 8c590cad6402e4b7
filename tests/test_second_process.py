"""A process that has only the pin opens the same typed structures: no object file, no classes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import everything
import pytest

import arenads
from arenads.schema import encode_schema

Python = Callable[..., "subprocess.CompletedProcess[str]"]

# Says of each structure what it is: types as they are stored, classes, fields, enums, entries.
READER = """
import enum, json, sys
import arenads
from arenads.walk import entries, parts
from arenads.fields import entry_converter
from arenads.schema import encode_schema

def told(cls):
    if cls is None:
        return None
    return [cls.__name__, list(cls.__struct_fields__)]

with arenads.open(sys.argv[1], readonly=True) as arena:
    for name, each in arena.structures.items():
        said = {"name": name, "class": type(each).__name__, "described": each.described}
        for what in ("key", "value"):
            if hasattr(each, f"_{what}_codec"):
                codec = getattr(each, f"_{what}_codec")
                said[what] = encode_schema(codec.schema).decode()
                said[f"{what}_class"] = told(codec.cls)
        convert = entry_converter(parts(each))
        said["entries"] = [convert(entry) for entry in entries(each)][-5:]
        print(json.dumps(said))
    state = next(iter(arena.structures["tasks"].values())).state
    kind = type(state)
    print(json.dumps([isinstance(state, enum.IntEnum), kind.__name__,
                      {each.name: each.value for each in kind}]))
"""


@pytest.fixture
def pinned(engine: str, pin: Path) -> Path:
    with arenads.create("4MiB", engine=engine) as arena:
        everything.fill(arena)
        arena.pin(pin)
    return pin


def test_every_kind_is_typed_in_a_second_process(pinned: Path, python: Python) -> None:
    *lines, state = python(READER, pinned).stdout.splitlines()
    told = {each["name"]: each for each in map(json.loads, lines)}
    assert set(told) == set(everything.KINDS)
    with arenads.open(pinned, readonly=True) as arena:
        for name, structure in arena.structures.items():
            said = told[name]
            assert said["class"] == type(structure).__name__
            assert said["described"]
            for what in ("key", "value"):
                if (schema := getattr(structure, f"{what}_type", None)) and what in said:
                    assert said[what] == encode_schema(schema).decode()
    assert told["tasks"]["key_class"] == ["Key", ["pid", "cpu"]]
    fields = ["calls", "comm", "state", "delta", "cpu", "last", "raw", "where"]
    assert told["tasks"]["value_class"] == told["inbox"]["value_class"] == ["Task", fields]
    assert told["slots"]["value_class"] == ["Cpu", ["ticks", "load"]]
    assert told["ready"]["value_class"] == ["Job", ["pid", "level", "node"]]
    assert json.loads(state) == [True, "State", {"RUNNING": 1, "SLEEPING": 2}]


def test_the_types_are_those_that_were_declared(pinned: Path) -> None:
    with arenads.open(pinned) as arena:
        # Each of these is compared with what the directory says, field by field.
        arena.hashmap("tasks", key=everything.Key, value=everything.Task)
        arena.mpmc("jobs", value=arenads.u32)
        with pytest.raises(arenads.LayoutError):
            arena.hashmap("tasks", key=everything.Key, value=everything.Cpu)


def test_entries_are_what_the_first_process_stored(pinned: Path, python: Python) -> None:
    *lines, _ = python(READER, pinned).stdout.splitlines()
    found = {each["name"]: each["entries"] for each in map(json.loads, lines)}
    assert sorted(each["key"]["pid"] for each in found["tasks"]) == [1, 2, 3]
    assert sorted(each["key"] for each in found["muted"]) == [1, 2, 3]
    assert found["names"] == [{"key": "alice", "value": 1}, {"key": "bob", "value": 2}]
    assert found["deltas"] == [{"key": -1, "value": 1}, {"key": 1, "value": 2}]
    assert [each["value"] for each in found["recent"]] == [20, 10]
    assert found["inbox"][0]["value"]["comm"] == "bash"
    assert [each["value"] for each in found["jobs"]] == [7, 8]
    assert found["log"] == [{"record": b"hello".hex()}]
    assert [each["value"]["pid"] for each in found["records"]] == [1, 2, 3]
    assert [each["value"]["pid"] for each in found["ready"]] == [3, 2, 1]
