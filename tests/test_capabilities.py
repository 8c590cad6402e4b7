"""What a process and a kernel allow, read from /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arenads import capabilities


def test_the_effective_capabilities_are_those_of_the_status_file() -> None:
    status = Path("/proc/self/status").read_text()
    bits = int(status.split("CapEff:")[1].split()[0], 16)
    names = capabilities.effective()
    assert len(names) == bits.bit_count()
    assert ("CAP_CHOWN" in names) == bool(bits & 1)
    assert ("CAP_BPF" in names) == bool(bits >> 39 & 1)
    assert ("CAP_PERFMON" in names) == bool(bits >> 38 & 1)
    assert ("CAP_NET_ADMIN" in names) == bool(bits >> 12 & 1)


def test_missing_names_what_is_not_there_in_the_order_of_asking() -> None:
    assert capabilities.missing("CAP_NOTHING", "CAP_AT_ALL") == ("CAP_NOTHING", "CAP_AT_ALL")
    assert capabilities.missing(*capabilities.effective()) == ()


@pytest.mark.skipif(
    "CAP_SYS_ADMIN" not in capabilities.effective(), reason="CAP_SYS_ADMIN is needed"
)
def test_sys_admin_stands_for_the_capabilities_that_were_split_from_it() -> None:
    assert capabilities.missing("CAP_BPF", "CAP_PERFMON") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user to change to")
def test_another_user_has_no_capabilities() -> None:
    child = os.fork()
    if not child:
        os.setuid(65534)
        alone = capabilities.effective() == frozenset()
        os._exit(0 if alone and capabilities.missing("CAP_BPF") == ("CAP_BPF",) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_rights_are_those_of_the_calling_thread() -> None:
    assert capabilities._status("Pid") == str(os.getpid())


def test_a_mount_is_recognised_by_type_and_place() -> None:
    assert capabilities.is_mounted("proc", "/proc")
    assert capabilities.is_mounted("proc", "/proc/")
    assert capabilities.is_mounted("proc", Path("/proc"))
    assert not capabilities.is_mounted("sysfs", "/proc")
    assert not capabilities.is_mounted("proc", "/proc/self")


def test_what_the_kernel_allows_is_known_or_said_to_be_unknown() -> None:
    assert capabilities.lockdown() in (None, "none", "integrity", "confidentiality")
    assert capabilities.jit_enabled() in (None, True, False)
    assert capabilities.unprivileged_bpf_disabled() in (None, True, False)
    assert capabilities.in_user_namespace() in (True, False)
    assert capabilities.seccomp_active() in (True, False)


def test_files_that_are_not_there_make_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_read", lambda path: None)
    assert capabilities.effective() == frozenset()
    assert capabilities.missing("CAP_BPF") == ("CAP_BPF",)
    assert capabilities.lockdown() is None
    assert capabilities.jit_enabled() is None
    assert capabilities.unprivileged_bpf_disabled() is None
    assert not capabilities.is_mounted("proc", "/proc")
    assert not capabilities.in_user_namespace()
    assert not capabilities.seccomp_active()
