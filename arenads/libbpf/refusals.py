"""Why the kernel said no: the missing capability, lockdown, or something else."""

from __future__ import annotations

import re
from typing import NamedTuple

from arenads import capabilities
from arenads.errors import LockdownError, PrivilegeError
from arenads.libbpf.library import explain_errno

__all__ = [
    "RefusedTypes",
    "forbidden_by_lockdown",
    "needed_capabilities",
    "quote",
    "refuse_permission",
    "refused_types",
]

_LOG_LINES = 12

_TRACING_TYPES = frozenset(
    "kprobe tracepoint perf_event raw_tracepoint raw_tracepoint_writable tracing lsm ext"
    " struct_ops".split()
)
_NETWORK_TYPES = frozenset(
    "sched_cls sched_act xdp lwt_in lwt_out lwt_xmit lwt_seg6local sk_skb sk_msg sock_ops"
    " cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_device cgroup_sysctl"
    " flow_dissector sk_lookup sk_reuseport netfilter ext struct_ops".split()
)

# What patches the kernel's code, and what may read all of its memory.
_PATCHING_TYPES = frozenset({"tracing", "lsm", "ext", "struct_ops"})
_READING_TYPES = frozenset({"kprobe", "perf_event"})
_READING_HELPERS = re.compile(r"\bbpf_probe_read\w*")
# libbpf goes on without BTF where programs do not need it, but says so.
_REFUSED_BTF = re.compile(r"(?:BTF loading error|Error loading \.BTF into kernel): (-?\d+)")
_BTF_LOG = re.compile(r"-- BEGIN BTF LOAD LOG -*\n(.*?)-- END BTF LOAD LOG", re.DOTALL)
_WRITING_HELPERS = re.compile(r"\bbpf_probe_write_user\b")


def needed_capabilities(program_type: str, uses_arena: bool) -> tuple[str, ...]:
    """Return what a process needs to load and attach a program of that type."""
    needed = ["CAP_BPF"]
    if uses_arena or program_type in _TRACING_TYPES:
        needed.append("CAP_PERFMON")
    if program_type in _NETWORK_TYPES:
        needed.append("CAP_NET_ADMIN")
    return tuple(needed)


def forbidden_by_lockdown(program_type: str, log: str = "") -> str | None:
    """Return what kernel lockdown may have against such a program, None if nothing."""
    mode = capabilities.lockdown()
    if mode in (None, "none"):
        return None
    confidential = mode == "confidentiality"
    refused_call = "cannot use helper" in log or "unknown func" in log
    helper = (_READING_HELPERS.search(log) if confidential else None) or _WRITING_HELPERS.search(
        log
    )
    if refused_call and helper:
        return f"the helper {helper[0]}"
    if program_type in _PATCHING_TYPES or (confidential and program_type in _READING_TYPES):
        return f"programs of type {program_type!r}"
    return None


class RefusedTypes(NamedTuple):
    """That the kernel refused an object's type information (BTF): why, and what it said of it."""

    number: int
    log: str

    @property
    def advice(self) -> str:
        """What follows from it for programs that could not be loaded either."""
        return (
            f" Before that, the kernel refused the object's type information (BTF):"
            f" {explain_errno(self.number)}. Programs were loaded without it, where functions"
            " cannot be verified one by one: what is said of the program may follow from that."
            " Compile it anew, with clang or ziglang as `arenads doctor` finds them; a compiler"
            " newer than the kernel may write kinds of types that the kernel does not know."
        )

    @property
    def quoted(self) -> str:
        """The end of what the kernel wrote about the types."""
        return quote("BTF log", self.log.splitlines())


def refused_types(said: str) -> RefusedTypes | None:
    """Return what libbpf said of a refusal of the object's BTF, None if there was none."""
    refused = _REFUSED_BTF.search(said)
    if refused is None:
        return None
    log = _BTF_LOG.search(said)
    return RefusedTypes(abs(int(refused[1])), log[1].strip() if log else "")


def quote(title: str, lines: list[str]) -> str:
    """Return the last lines of a log as a block under a title, empty for no lines."""
    if not lines:
        return ""
    last = lines[-_LOG_LINES:]
    extent = f", last {len(last)} of {len(lines)} lines" if len(last) < len(lines) else ""
    return f"\n{title}{extent}:\n" + "\n".join(f"  {line}" for line in last)


def refuse_permission(
    what: str,
    number: int,
    needed: tuple[str, ...],
    *,
    forbidden: str | None = None,
    quoted: str = "",
    **facts: object,
) -> PrivilegeError:
    """Return the exception for EPERM or EACCES.

    `what` says what was tried, `needed` which capabilities that takes, `forbidden`
    what lockdown may have against it.
    """
    missing = capabilities.missing(*needed)
    facts["missing"] = missing
    message = f"{what}: {explain_errno(number)}."
    names = " and ".join(missing or needed)
    if missing:
        plural = "capabilities" if len(missing) > 1 else "capability"
        message += f" This process lacks the {plural} {names}: run it as root, or grant them."
    elif forbidden:
        mode = capabilities.lockdown()
        message += (
            f" The kernel is locked down (mode {mode}), which forbids {forbidden}. Use tp_btf,"
            " raw_tp or tracepoint programs, or boot without lockdown."
        )
        return LockdownError(message + quoted, errno=number, lockdown=mode, **facts)
    elif capabilities.in_user_namespace():
        message += (
            f" {names} are held, but inside a user namespace (a rootless container is one),"
            " where they do not count for BPF: run it outside."
        )
    else:
        filtered = " (a seccomp filter is active)" if capabilities.seccomp_active() else ""
        unseen = "" if capabilities.lockdown() else ", kernel lockdown (securityfs shows its mode)"
        message += (
            f" {names} are held, so something else forbids it: file permissions, a security"
            f" module{unseen}, or the system call filter of a container{filtered}."
        )
    return PrivilegeError(message + quoted, errno=number, **facts)
