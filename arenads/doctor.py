"""Finds out what works on this machine, by trying it, and what to do about the rest."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from arenads import arena, capabilities, compiler, libbpf
from arenads.arena import Arena
from arenads.btf import KERNEL_BTF
from arenads.demo import Sample, pack_sample, program_path
from arenads.engine import take_engine
from arenads.errors import (
    ArenadsError,
    CompilerMissingError,
    EngineError,
    LibbpfMissingError,
    LockdownError,
    PrivilegeError,
)
from arenads.program import load
from arenads.table import Table

__all__ = ["Check", "Diagnosis", "examine"]

_PRIVILEGE = (
    "run as root, or grant CAP_BPF and CAP_PERFMON (systemd: AmbientCapabilities=; docker:"
    " --cap-add, and a seccomp profile that allows bpf); without them the native engine works"
)
_LIBBPF = (
    "install libbpf 1.0 or newer: apt install libbpf1 (Debian, Ubuntu), dnf install libbpf"
    " (Fedora), pacman -S libbpf (Arch), apk add libbpf (Alpine)"
)
_BPF_COMPILER = (
    f"pip install ziglang=={compiler.ZIG_VERSION}, or install clang >= {compiler.CLANG_MINIMUM}"
    f" (Debian, Ubuntu: apt install clang-{compiler.CLANG_MINIMUM})"
)
_HOST_COMPILER = (
    f"pip install ziglang=={compiler.ZIG_VERSION}, or install a C compiler (Debian, Ubuntu:"
    " apt install gcc libc6-dev)"
)
_KERNEL = "needs Linux 6.9 or newer with CONFIG_BPF_JIT; until then the native engine works"


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried.

    Attributes
    ----------
    name : str
    ok : bool
    found : str
        What there is, or what went wrong.
    fix : str
        What to do if it is not ok, and what it is good for; else empty.
    """

    name: str
    ok: bool
    found: str
    fix: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor --json` prints.

    Attributes
    ----------
    version : int
        Of this form: 1.
    engine : "kernel" or "native"
        What "auto" takes.
    reason : str
        Why.
    kernel : str
        Release of the running kernel.
    checks : tuple of Check
    """

    version: int = 1
    engine: Literal["kernel", "native"]
    reason: str
    kernel: str
    checks: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether programs run on the engine that "auto" takes."""
        wanted = f"{self.engine} program"
        return any(check.ok for check in self.checks if check.name == wanted)

    def table(self) -> Table:
        """Return the checks as a table."""
        return Table(
            ("CHECK", "STATE", "FOUND"),
            [(each.name, "ok" if each.ok else "missing", each.found) for each in self.checks],
            heading=(
                f"kernel {self.kernel}",
                f'engine "auto" takes: {self.engine}, because {self.reason}',
                "",
            ),
            marked=[number for number, each in enumerate(self.checks) if not each.ok],
        )

    def advice(self) -> list[str]:
        """Return what to do about the checks that are not ok, a line for each remedy."""
        names: dict[str, list[str]] = {}
        for each in self.checks:
            if not each.ok:
                names.setdefault(each.fix, []).append(each.name)
        return [f"{', '.join(those)}: {fix}" for fix, those in names.items()]


def examine() -> Diagnosis:
    """Try everything, leave nothing behind.

    >>> diagnosis = examine()
    >>> diagnosis.engine in ("kernel", "native") and diagnosis.works
    True
    """
    engine, reason = take_engine("auto")
    kernel_arena = _try("kernel arena", _make_arena)
    kernel_program = _try("kernel program", _run_program("kernel"))
    return Diagnosis(
        engine=engine,
        reason=reason,
        kernel=os.uname().release,
        checks=(
            kernel_arena,
            kernel_program,
            _try("native program", _run_program("native")),
            *_capabilities(),
            _jit(kernel_program.ok),
            _lockdown(),
            _kernel_types(),
            _try("bpffs", _pin("kernel", "/sys/fs/bpf")),
            _try("/dev/shm", _pin("native", "/dev/shm")),
            _tracefs(),
            _try("libbpf", lambda: "libbpf {}.{}".format(*libbpf.version())),
            _try("BPF compiler", lambda: str(compiler.find_bpf_compiler())),
            _try("host compiler", lambda: str(compiler.find_host_compiler())),
        ),
    )


def _try(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, True, action(), "")
    except ArenadsError as error:
        return Check(name, False, error.message.splitlines()[0], _fix(name, error))
    except OSError as error:
        return Check(name, False, str(error), "make room and permissions for temporary files")


def _fix(name: str, error: ArenadsError) -> str:
    if name == "bpffs" and not capabilities.is_mounted("bpf", "/sys/fs/bpf"):
        return "mount -t bpf none /sys/fs/bpf, as root; needed to pin arenas of the kernel engine"
    if name == "/dev/shm":
        return "mount a tmpfs at /dev/shm; needed to pin arenas of the native engine"
    if name == "BPF compiler":
        return _BPF_COMPILER
    if name == "host compiler":
        return _HOST_COMPILER
    if isinstance(error, LibbpfMissingError):
        return _LIBBPF
    if isinstance(error, CompilerMissingError):
        return _HOST_COMPILER if name == "native program" else _BPF_COMPILER
    if isinstance(error, LockdownError):
        return "boot without kernel lockdown; until then the native engine works"
    if isinstance(error, PrivilegeError):
        return _PRIVILEGE
    if name == "native program":
        return "install arenads anew, on this machine"
    return _KERNEL


# --- what is tried --------------------------------------------------------------------------


def _make_arena() -> str:
    _expect_kernel_engine()
    with Arena.create("64KiB", engine="kernel", provision=None) as made:
        return f"made and mapped at {made.base:#x}"


def _run_program(engine: Literal["kernel", "native"]) -> Callable[[], str]:
    """Load a program, let it store into an arena, and read that back here."""

    def action() -> str:
        if engine == "kernel":
            _expect_kernel_engine()
        pid, wanted = os.getpid(), (3, 4)
        with load(program_path(), engine=engine, programs=["sample"]) as program:
            program.run("sample", pack_sample(Sample(pid, *wanted, "doctor")))
            stored = program["tasks"].get(pid)
        if stored is None or (stored.syscalls, stored.switches) != wanted:
            raise ArenadsError(f"a program was to store {wanted} in the arena, found {stored}")
        return "loaded; what it stored in an arena was read back"

    return action


def _expect_kernel_engine() -> None:
    """Raise the kernel's reason with the type that `_fix` knows."""
    try:
        arena.choose_engine("kernel")
    except EngineError as error:
        refused = error.errno in (errno.EPERM, errno.EACCES)
        kind = PrivilegeError if refused else ArenadsError
        raise kind(str(error.facts["reason"]), errno=error.errno) from None


def _pin(engine: Literal["kernel", "native"], directory: str) -> Callable[[], str]:
    def action() -> str:
        if engine == "kernel" and arena.choose_engine("auto")[0] != "kernel":
            if not capabilities.is_mounted("bpf", directory):
                raise ArenadsError(f"no bpf file system is mounted at {directory}")
            return f"mounted at {directory}; not tried, for want of an arena"
        place = Path(directory, f"arenads-doctor-{secrets.token_hex(8)}")
        with Arena.create("64KiB", engine=engine, provision=None) as made:
            made.pin(place)
            place.unlink()
        return f"an arena was pinned in {directory} and unlinked"

    return action


# --- what is looked up ------------------------------------------------------------------------


def _capabilities() -> list[Check]:
    purposes = {
        "CAP_BPF": "needed by the kernel engine",
        "CAP_PERFMON": "needed by the kernel engine",
        "CAP_NET_ADMIN": "needed only by programs that see packets: XDP, tc, cgroup sockets",
    }
    checks = []
    for name, purpose in purposes.items():
        if capabilities.missing(name):
            found, fix = "not held by this process", "run as root or grant it"
        elif capabilities.in_user_namespace():
            found, fix = "held, but in a user namespace", "run outside of any user namespace"
        else:
            checks.append(Check(name, True, "held", ""))
            continue
        checks.append(Check(name, False, found, f"{fix}; {purpose}"))
    return checks


def _jit(program_ran: bool) -> Check:
    enabled = capabilities.jit_enabled()
    if enabled or program_ran:
        return Check("JIT", True, "on", "")
    return Check(
        "JIT",
        False,
        "unknown: only root may read the setting" if enabled is None else "off",
        "sysctl net.core.bpf_jit_enable=1, as root; needed by the kernel engine",
    )


def _lockdown() -> Check:
    found = capabilities.lockdown()
    if found in (None, "none"):
        unseen = "unknown: mount -t securityfs none /sys/kernel/security shows it"
        seen = capabilities.is_mounted("securityfs", "/sys/kernel/security")
        return Check("lockdown", True, found or ("none" if seen else unseen), "")
    return Check(
        "lockdown",
        False,
        str(found),
        "boot without lockdown for fentry, fexit and lsm programs; what loads without is told by"
        ' the check "kernel program"',
    )


def _kernel_types() -> Check:
    if os.access(KERNEL_BTF, os.R_OK):
        return Check("kernel types", True, os.fspath(KERNEL_BTF), "")
    return Check(
        "kernel types",
        False,
        f"{os.fspath(KERNEL_BTF)} cannot be read",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF; needed for tp_btf programs and vmlinux.h",
    )


def _tracefs() -> Check:
    for place in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.access(f"{place}/events", os.R_OK | os.X_OK):
            return Check("tracefs", True, place, "")
    purpose = "needed for tracepoint/ programs only"
    if capabilities.is_mounted("tracefs", "/sys/kernel/tracing"):
        return Check("tracefs", False, "closed to this process", f"run as root; {purpose}")
    fix = f"mount -t tracefs none /sys/kernel/tracing, as root; {purpose}"
    return Check("tracefs", False, "not mounted", fix)
