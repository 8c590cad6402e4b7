"""A strict type checker accepts the examples, and knows the types of what users get."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import README, blocks

pytest.importorskip("mypy")

USER_CODE = """
from typing import Annotated

import msgspec

import arenads
from arenads import Array, Codec, Node, Ptr, Size, Str, View, u32, u64


class Task(msgspec.Struct):
    pid: u32
    calls: u64 = 0
    comm: Annotated[str, Size(16)] = ""
    parent: Ptr["Task"] = 0
    node: Node = Node()


with arenads.create("1MiB") as arena:
    tasks = arena.hashmap("tasks", key=u32, value=Task)
    reveal_type(tasks)
    reveal_type(tasks[1])
    reveal_type(tasks.get(1))
    reveal_type(tasks.get(1, "none"))
    reveal_type(list(tasks.items()))
    reveal_type(tasks.get_many([1, 2]))
    reveal_type(tasks.snapshot()[0])
    reveal_type(arena.set("few", key=u64).snapshot()[0])
    reveal_type(arena.list("log", value=Task).snapshot()[0])
    reveal_type(tasks.view(1))
    reveal_type(tasks.view(1).copy())
    reveal_type(tasks.view(1).parent)
    reveal_type(tasks.add(1, 5, "calls"))
    reveal_type(arena.set("seen", key=u64))
    reveal_type(arena.orderedmap("due", key=Annotated[str, Size(8)], value=u32).first())
    reveal_type(arena.array("counts", value=Annotated[list[u32], Size(8)], max_entries=4)[0])
    reveal_type(arena.array("numbers", value=u64, max_entries=4)[1:3])
    reveal_type(arena.list("events", value=Task).pop_first())
    reveal_type(arena.queue("jobs", value=Task).pop())
    reveal_type(arena.mpmc("work", value=Ptr[Task]).drain())
    pool = arena.pool("pool", value=Task)
    reveal_type(pool[pool.alloc(Task(1))])
    reveal_type(arena.intrusive("ready", pool=pool, member="node").pop_first())
    reveal_type(arena.ring("log").pop())
    reveal_type(arena.view(4096, Task))
    reveal_type(arena.view(4096, u64).copy())
    reveal_type(arena.view(4096, u64).cast(Task))
    reveal_type(Codec(Task).unpack(b""))
    reveal_type(Codec(u32))
    reveal_type(Codec(pool.value_type, Task))
    # What has no exact type to a checker, and what only the arena knows.
    reveal_type(Codec(pool.value_type))
    reveal_type(arena.hashmap("names", key=Str[16], value=Array[u32, 8]))
    reveal_type(arena.hashmap("read", key=u32, value=pool.value_type))
    reveal_type(arena.structures["tasks"])


def parent(task: View[Task]) -> View[Task] | None:
    above: View[Task] | None = task.parent
    return above


def total(found: arenads.HashMap[int, Task]) -> int:
    return sum(task.calls for task in found.values())


reveal_type(arenads.open("/sys/fs/bpf/tasks").statistics().used)
with arenads.load("tasks.bpf.c") as program:
    reveal_type(program["tasks"])
    reveal_type(program.run("count_once").value)
total(tasks)
others = arena.hashmap("wrong", key=u32, value=u64)
total(others)  # not of tasks
tasks[1] = 7  # no task
"""

REVEALED = [
    "HashMap[int, Task]",
    "Task",
    "Task | None",
    "Task | str",
    "list[tuple[int, Task]]",
    "list[Task | None]",
    "tuple[int, Task]",
    "int",
    "tuple[int, Task]",
    "View[Task]",
    "Task",
    "Any",
    "int",
    "Set[int]",
    "tuple[str, int]",
    "list[int]",
    "list[int]",
    "tuple[int, Task]",
    "Task | None",
    "list[int]",
    "Task",
    "tuple[int, int]",
    "bytes | None",
    "View[Task]",
    "int",
    "View[Task]",
    "Task",
    "Codec[int]",
    "Codec[Task]",
    "Codec[Any]",
    "HashMap[Any, Any]",
    "HashMap[Any, Any]",
    "Any",
    "int",
    "Any",
    "int",
]


def check_types(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check all scripts of a folder, strictly."""
    # It has no types of its own.
    (folder / "mypy.ini").write_text("[mypy]\n[mypy-pyarrow.*]\nignore_missing_imports = true\n")
    return subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"),
            *("--cache-dir", ".mypy_cache", *sorted(each.name for each in folder.glob("*.py"))),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_examples_of_the_readme_pass_a_strict_type_checker(tmp_path: Path) -> None:
    text = README.read_text()
    names = re.findall(r"<!-- example: (\w+\.py) -->\n+```python\n(.*?)^```$", text, re.M | re.S)
    named = {code: name for name, code in names}
    for number, code in enumerate(blocks(text, "python")):
        whole = code if "import arenads" in code else f"import arenads\n{code}"
        (tmp_path / named.get(code, f"block_{number}.py")).write_text(whole)
    assert {"samples.py", "tasks.py", "tree.py", "use_samples.py"} <= set(named.values())
    done = check_types(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_user_gets_the_types_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    done = check_types(tmp_path)
    lines = done.stdout.splitlines()
    revealed = [line.split('"')[1] for line in lines if "Revealed" in line]
    assert [re.sub(r"\b(?:\w+\.)+(?=\w)", "", each) for each in revealed] == REVEALED
    assert re.findall(r": error: .*\[([\w-]+)\]$", done.stdout, re.M) == ["arg-type", "assignment"]
