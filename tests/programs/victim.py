"""Processes that die before a chosen shared operation, in what Python does in several steps.

    python victim.py CORE PATH

CORE is the C core in its test build (ADS_POINTS), PATH the pin of an arena. Each line on standard
input is a command in JSON, answered by a line on standard output: a fork of this process
opens the arena and does it, but dies before shared operation number `stop`.

    {"make": "list", "name": "new", "stop": 7}
    {"populate": 4096, "stop": 7}

The operations of the structures themselves are in victim.c.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

spec = importlib.util.spec_from_file_location("arenads._core", sys.argv[1])
assert spec is not None and spec.loader is not None
sys.modules["arenads._core"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["arenads._core"])

import arenads  # noqa: E402
from arenads import _core  # noqa: E402


def perform(command: dict[str, Any]) -> int:
    """Do it with the chosen point armed; return how many points there were."""
    with arenads.open(command["path"]) as arena:
        _core.lib.core_set_points(command["stop"])
        if "populate" in command:
            arena.populate(command["populate"])
        else:
            key = {"key": arenads.u64} if command["make"] == "hashmap" else {}
            make = getattr(arena, command["make"])
            make(command["name"], value=arenads.u64, max_entries=2, **key)
        points = int(_core.lib.core_points())
        _core.lib.core_set_points(0)
    return points


for line in sys.stdin:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        report = {"ended": True, "points": perform(json.loads(line))}
        os.write(writer, json.dumps(report).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with open(reader, "rb") as file:
        text = file.read().decode()
    print(text or json.dumps({"ended": False, "status": status}), flush=True)
