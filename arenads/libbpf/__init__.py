"""A thin binding of libbpf, opened at run time through cffi's ABI mode.

Nothing here knows what an arena structure is: this package opens a BPF object,
loads, attaches and runs its programs, and turns every refusal into one of the
exceptions of `arenads.errors`, with the verifier log in it. It works with libbpf
1.0 and later, and needs no header, compiler or static library. What libbpf prints
never reaches stderr: it is kept in `BpfObject.messages` and in exceptions.

    from arenads.libbpf import BpfObject

    with BpfObject.open("count.bpf.o") as programs:
        programs.load()
        with programs.attach("on_switch"):
            programs.run("report", context=bytes(16))

Types are named as libbpf names them: program types "syscall", "xdp", "tracing";
map types "hash", "ringbuf", "arena".

library    the shared library itself, its structures, its messages
refusals   which right is missing when the kernel says no
maps       kernel maps by descriptor
links      attaching programs, target by target
objects    object files: open, load, attach, run
"""

from __future__ import annotations

from arenads.libbpf.library import version
from arenads.libbpf.links import Link, PerfEvent, Uprobe
from arenads.libbpf.maps import ARENA, KernelMap, MapInfo, create_map, map_info
from arenads.libbpf.objects import BpfObject, ProgramInfo, Runner, RunResult

__all__ = [
    "ARENA",
    "BpfObject",
    "KernelMap",
    "Link",
    "MapInfo",
    "PerfEvent",
    "ProgramInfo",
    "RunResult",
    "Runner",
    "Uprobe",
    "create_map",
    "map_info",
    "version",
]
