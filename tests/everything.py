"""An arena with one structure of each kind, and what is in them: for the commands that read any."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Any

import msgspec

import arenads
from arenads import Array, Bytes, Node, Ptr, Str, f64, i32, u8, u32, u64


class State(enum.IntEnum):
    RUNNING = 1
    SLEEPING = 2


class Cpu(msgspec.Struct, frozen=True):
    ticks: u64
    load: f64


class Key(msgspec.Struct, frozen=True):
    pid: u32
    cpu: u32


class Task(msgspec.Struct, frozen=True):
    calls: u64
    comm: Str[16]
    state: Annotated[State, u32]
    delta: i32
    cpu: Cpu
    last: Array[u32, 3]
    raw: Bytes[4]
    where: Ptr[Cpu]


class Job(msgspec.Struct, frozen=True):
    pid: u32
    level: u8 = 0
    node: Node = Node()


TASKS = {
    Key(1, 0): Task(
        100, "bash", State.RUNNING, -5, Cpu(7, 0.5), [1, 2, 3], b"\x01\x02\x03\xff", 64
    ),
    Key(2, 1): Task(20, 'größe, "x"', State.SLEEPING, 6, Cpu(8, math.nan), [4, 5, 6], b"\0" * 4, 0),
    Key(3, 1): Task(3, "sh", State(1), 0, Cpu(9, math.inf), [7, 8, 9], b"abcd", 1 << 40),
}
KINDS = {
    "tasks": "hash map",
    "muted": "set",
    "names": "ordered map",
    "deltas": "ordered map",
    "recent": "list",
    "slots": "array",
    "inbox": "queue",
    "jobs": "MPMC queue",
    "log": "ring",
    "records": "pool",
    "ready": "intrusive list",
}


def fill(arena: arenads.Arena) -> dict[str, Any]:
    """Make one structure of each kind with some entries in it; by name."""
    made: dict[str, Any] = {
        "tasks": arena.hashmap("tasks", key=Key, value=Task, max_entries=1000),
        "muted": arena.set("muted", key=u32, max_entries=16),
        "names": arena.orderedmap("names", key=Str[16], value=u64),
        "deltas": arena.orderedmap("deltas", key=i32, value=u32),
        "recent": arena.list("recent", value=u64, max_entries=64),
        "slots": arena.array("slots", value=Cpu, max_entries=100_000),
        "inbox": arena.queue("inbox", value=Task, max_entries=4),
        "jobs": arena.mpmc("jobs", value=u32, max_entries=4),
        "log": arena.ring("log", size="4KiB", overwrite=True),
        "records": arena.pool("records", value=Job, max_entries=64),
    }
    made["ready"] = arena.intrusive("ready", pool=made["records"], member="node")
    made["tasks"].update(TASKS)
    made["muted"].update({1, 2, 3})
    made["names"].update({"bob": 2, "alice": 1})
    made["deltas"].update({-1: 1, 1: 2})
    for number in (10, 20):
        made["recent"].push(number)
    made["slots"][70_000] = Cpu(5, 1.5)
    made["inbox"].push_many([*TASKS.values(), *TASKS.values()])  # two too many
    made["jobs"].push_many([7, 8])
    made["log"].push(b"hello")
    for number in (1, 2, 3):
        made["ready"].push(made["records"].alloc(Job(number)))
    return made
