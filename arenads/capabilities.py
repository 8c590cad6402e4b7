"""What this process and this kernel allow, read from /proc and /sys.

Every function only reads. Nothing is mounted, changed or tried: a program that
wants certainty tries the operation itself, and uses this module to say why it
was refused.

>>> isinstance(effective(), frozenset)
True
>>> lockdown() in (None, "none", "integrity", "confidentiality")
True
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = [
    "effective",
    "in_user_namespace",
    "is_mounted",
    "jit_enabled",
    "lockdown",
    "missing",
    "seccomp_active",
    "unprivileged_bpf_disabled",
]

# In the order of the kernel's bit numbers (include/uapi/linux/capability.h).
_NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

# Where the kernel asks for one of these, it takes CAP_SYS_ADMIN instead.
_IMPLIED_BY_SYS_ADMIN = frozenset({"CAP_BPF", "CAP_PERFMON", "CAP_CHECKPOINT_RESTORE"})


def _read(path: str) -> str | None:
    """The text of a small file of the kernel, None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _read_number(path: str) -> int | None:
    text = _read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _status(field: str) -> str | None:
    """One field of /proc/thread-self/status: rights belong to threads."""
    text = _read("/proc/thread-self/status") or _read("/proc/self/status") or ""
    match = re.search(rf"^{field}:\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def effective() -> frozenset[str]:
    """Names of the effective capabilities of the calling thread.

    A capability that is newer than this list appears as ``CAP_<bit number>``.
    The set is empty where /proc cannot be read.
    """
    try:
        bits = int(_status("CapEff") or "0", 16)
    except ValueError:
        return frozenset()
    return frozenset(
        _NAMES[bit] if bit < len(_NAMES) else f"CAP_{bit}"
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    )


def missing(*names: str) -> tuple[str, ...]:
    """Those of `names` that the calling thread lacks, in the order given.

    ``CAP_BPF`` and ``CAP_PERFMON`` count as present with ``CAP_SYS_ADMIN``, which
    the kernel accepts in their place.

    >>> missing()
    ()
    """
    present = effective()
    if "CAP_SYS_ADMIN" in present:
        present |= _IMPLIED_BY_SYS_ADMIN
    return tuple(name for name in names if name not in present)


def in_user_namespace() -> bool:
    """True if this process is in a user namespace other than the first one.

    Capabilities held there do not count for bpf(2).
    """
    text = _read("/proc/self/uid_map")
    return text is not None and text.split() != ["0", "0", "4294967295"]


def seccomp_active() -> bool:
    """True if a seccomp filter judges the system calls of the calling thread."""
    return _status("Seccomp") not in (None, "0")


def lockdown() -> str | None:
    """``"none"``, ``"integrity"`` or ``"confidentiality"``; None if unknown.

    It is unknown where the kernel has no lockdown or securityfs is not mounted.
    """
    match = re.search(r"\[(\w+)\]", _read("/sys/kernel/security/lockdown") or "")
    return match[1] if match else None


def jit_enabled() -> bool | None:
    """True if the kernel compiles BPF programs, None if it does not say."""
    value = _read_number("/proc/sys/net/core/bpf_jit_enable")
    return None if value is None else value != 0


def unprivileged_bpf_disabled() -> bool | None:
    """True if bpf(2) is closed to processes without CAP_BPF, None if unknown."""
    value = _read_number("/proc/sys/kernel/unprivileged_bpf_disabled")
    return None if value is None else value != 0


def is_mounted(kind: str, path: str | os.PathLike[str]) -> bool:
    """True if a file system of type `kind` is mounted at `path`, on top of others.

    >>> is_mounted("proc", "/proc")
    True
    >>> is_mounted("proc", "/no/such/place")
    False
    """
    wanted = os.path.normpath(os.fspath(path))
    found = None
    for line in (_read("/proc/self/mounts") or "").splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks in a path are written as three octal digits.
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        if place == wanted:
            found = fields[2]  # a later mount covers an earlier one
    return found == kind
