"""Processes that die, or stop, before a chosen shared operation. Run by test_death.py.

    python victim.py CORE

CORE is the C core in its test build (ADS_POINTS). Each line on standard input is a command
in JSON, answered by a line on standard output:

    {"open": path}         open an arena
    {"close": path}        close it
    {"path": path, "stop": 7, "kind": "hashmap", "offset": 4096, "operation": "insert",
     "key": 1, "value": [2, 3]}
    {"path": path, "stop": 7, "make": "list", "name": "new"}
    {"path": path, "stop": 7, "populate": 4096}
    {"continue": pid}      let a stopped child go on

The operations are done by a fork of this process, which counts its shared operations: it dies
before number `stop`, or ends by itself if there are fewer. With stop_instead.c preloaded it
stops instead of dying.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from typing import Any

spec = importlib.util.spec_from_file_location("arenads._core", sys.argv[1])
assert spec is not None and spec.loader is not None
sys.modules["arenads._core"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["arenads._core"])

import arenads  # noqa: E402
from arenads import _core  # noqa: E402

ffi, lib = _core.ffi, _core.lib
MODES = {"insert": lib.ADS_INSERT, "replace": lib.ADS_REPLACE, "update": lib.ADS_ANY}


def perform(arena: arenads.Arena, command: dict[str, Any]) -> int:
    """Do one operation with the chosen point armed; return its code."""
    if "make" in command:
        key = {"key": arenads.u64} if command["make"] == "hashmap" else {}
        make = getattr(arena, command["make"])
        lib.core_set_points(command["stop"])
        make(command["name"], value=arenads.u64, max_entries=2, **key)
        return 0
    if "populate" in command:
        lib.core_set_points(command["stop"])
        arena.populate(command["populate"])
        return 0
    kind, operation = command["kind"], command["operation"]
    it = ffi.new("core_structure *")
    it.arena = arena._core
    it.kind = {
        "hashmap": lib.ADS_KIND_HASHMAP,
        "list": lib.ADS_KIND_LIST,
        "queue": lib.ADS_KIND_QUEUE,
    }[kind]
    it.ref.offset = command["offset"]
    it.ref.key_size = 8 if kind == "hashmap" else 0
    it.ref.value_size = 16
    order = command["key"]
    key = order.to_bytes(8, "little")
    value = b"".join(word.to_bytes(8, "little") for word in command["value"])
    room = ffi.new("char[16]")
    pushed = ffi.new("__u64 *")
    report = ffi.new("struct ads_check_report *")
    lib.core_set_points(command["stop"])
    if operation == "check":
        return int(lib.ads_collection_check(it.arena, it.kind, it.ref, 0, report))
    if operation == "get":
        if kind == "hashmap":
            return int(lib.core_hashmap_get(it, key, room))
        return int(lib.core_list_get(it, order, room))
    if kind == "queue":
        if operation == "push":
            return int(lib.core_queue_push(it, value))
        return int(lib.core_queue_pop(it, room))
    if operation == "push":
        return int(lib.core_list_push(it, value, pushed))
    if operation == "delete":
        if kind == "hashmap":
            return int(lib.core_hashmap_pop(it, key, ffi.NULL))
        return int(lib.core_list_pop(it, order, ffi.NULL))
    if kind == "hashmap":
        return int(lib.core_hashmap_update(it, key, value, MODES[operation]))
    return int(lib.core_list_update(it, order, value, MODES[operation]))


def answer(pid: int, reader: int) -> dict[str, Any]:
    """Wait until the child ends, dies or stops."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return {"ended": False, "stopped": True, "pid": pid}
    with open(reader, "rb") as file:
        text = file.read()
    if text:
        return dict(json.loads(text))
    return {"ended": False, "signal": os.WTERMSIG(status), "status": status}


def start(arena: arenads.Arena, command: dict[str, Any]) -> tuple[int, int]:
    """Fork a child that does the command; its pid, and the pipe with its report."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = perform(arena, command)
        report = {"ended": True, "code": code, "points": lib.core_points()}
        os.write(writer, json.dumps(report).encode())
        os._exit(0)
    os.close(writer)
    return pid, reader


def main() -> None:
    arenas: dict[str, arenads.Arena] = {}
    readers: dict[int, int] = {}
    for line in sys.stdin:
        command = json.loads(line)
        reply: dict[str, Any] = {}
        if "open" in command:
            arenas[command["open"]] = arenads.open(command["open"])
        elif "close" in command:
            arenas.pop(command["close"]).close()
        else:
            if "continue" in command:
                pid = command["continue"]
                os.kill(pid, signal.SIGCONT)
            else:
                pid, reader = start(arenas[command["path"]], command)
                readers[pid] = reader
            reply = answer(pid, readers[pid])
            if not reply.get("stopped"):
                del readers[pid]
        print(json.dumps(reply), flush=True)
    for pid in readers:  # stopped, and nobody will let them go on
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


main()
