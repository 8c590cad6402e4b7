"""The doctor tries what it says, and has advice for whatever is missing."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import child_environment
from unprivileged import drop_capabilities

import arenads
from arenads import demo, doctor
from arenads import engine as engine_module
from arenads.engine import take_engine


def run_command(
    *arguments: str, before: Callable[[], None] | None = None, first: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a child, which runs the lines `first` before anything else."""
    command = f"import arenads.cli\narenads.cli.main(['doctor', *{arguments!r}])"
    script = f"{textwrap.dedent(first)}\n{command}"
    return subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(**more),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.stderr == ""
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.fixture(scope="module")
def diagnosis() -> doctor.Diagnosis:
    return doctor.examine()


def test_the_engine_is_the_one_that_load_takes(diagnosis: doctor.Diagnosis) -> None:
    with arenads.load(demo.program_path()) as program:
        assert program.engine == diagnosis.engine
    assert diagnosis.engine == take_engine("auto")[0]


def test_the_chosen_engine_works_here(diagnosis: doctor.Diagnosis) -> None:
    assert diagnosis.works


def test_every_check_that_is_not_ok_says_what_to_do(diagnosis: doctor.Diagnosis) -> None:
    for check in diagnosis.checks:
        assert check.found
        assert bool(check.fix) != check.ok


def test_the_advice_names_every_check_that_is_not_ok(diagnosis: doctor.Diagnosis) -> None:
    advice = "\n".join(diagnosis.advice())
    for check in diagnosis.checks:
        assert check.ok or check.name in advice


def test_names_of_checks_are_unique(diagnosis: doctor.Diagnosis) -> None:
    names = [check.name for check in diagnosis.checks]
    assert len(set(names)) == len(names)


def test_it_leaves_nothing_behind(leaves_nothing: Callable[[], Any]) -> None:
    doctor.examine()
    places = [Path("/sys/fs/bpf"), Path("/dev/shm")]
    before = [set(place.glob("arenads-doctor-*")) for place in places]
    with leaves_nothing():
        doctor.examine()
    assert [set(place.glob("arenads-doctor-*")) for place in places] == before


@pytest.mark.kernel
def test_a_program_really_runs_in_the_kernel(
    kernel_engine: str, diagnosis: doctor.Diagnosis
) -> None:
    found = {check.name: check.ok for check in diagnosis.checks}
    assert found["kernel arena"]
    assert found["kernel program"]
    assert diagnosis.engine == "kernel"


# --- the command ------------------------------------------------------------------------


def test_json_is_one_object(diagnosis: doctor.Diagnosis) -> None:
    done = run_command("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(report) == ["version", "engine", "reason", "kernel", "checks"]
    assert (report["version"], report["engine"], report["kernel"]) == (
        1,
        diagnosis.engine,
        os.uname().release,
    )
    assert all(list(check) == ["name", "ok", "found", "fix"] for check in report["checks"])


def test_people_get_a_table_and_advice(diagnosis: doctor.Diagnosis) -> None:
    done = run_command()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # As wide as the longest state needs.
    first = (
        next(i for i, line in enumerate(lines) if line.split() == ["CHECK", "STATE", "FOUND"]) + 1
    )
    rows = lines[first : first + len(diagnosis.checks)]
    shown = {row[:16].strip(): row[16:].split()[0] for row in rows}
    for check in diagnosis.checks:
        assert shown[check.name] == ("ok" if check.ok else "missing")
    assert lines[-1] == f"The {diagnosis.engine} engine works here."


# --- less than everything ---------------------------------------------------------------


def test_without_capabilities_the_native_engine_is_taken_and_works() -> None:
    done = run_command("--json", before=drop_capabilities)
    assert done.returncode == 0
    assert json.loads(done.stdout)["engine"] == "native"
    found = checks(done)
    for name in ("CAP_BPF", "CAP_PERFMON", "kernel arena", "kernel program"):
        assert not found[name]["ok"]
        assert "root" in found[name]["fix"] or "Linux" in found[name]["fix"]
    assert found["native program"]["ok"]


def test_without_libbpf_the_packages_are_named() -> None:
    done = run_command(
        "--json", first="from arenads.libbpf import library\nlibrary._NAME = 'libnowhere.so.1'"
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["engine"] == "native"
    assert not checks(done)["libbpf"]["ok"]
    assert "apt install libbpf1" in checks(done)["libbpf"]["fix"]


def test_without_a_compiler_ziglang_is_named() -> None:
    done = run_command(
        "--json",
        first="import sys\nsys.modules['ziglang'] = None",
        PATH="/nonexistent",
        CC="",
    )
    for name in ("BPF compiler", "host compiler"):
        assert not checks(done)[name]["ok"]
        assert "pip install ziglang" in checks(done)[name]["fix"]


def test_an_engine_that_does_not_work_is_an_answer() -> None:
    done = run_command(
        first="""
        import pathlib
        from arenads import doctor
        doctor.program_path = lambda: pathlib.Path("/nonexistent/demo.bpf.o")
        """
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "DOES NOT WORK" in done.stdout


# --- which engine -----------------------------------------------------------------------


def test_the_examples_run() -> None:
    assert doctest.testmod(doctor).failed == 0
    assert doctest.testmod(engine_module).failed == 0


def test_native_is_taken_because_it_was_asked_for() -> None:
    assert take_engine("native") == ("native", "it was asked for")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(arenads.EngineError, match="diesel"):
        take_engine("diesel")  # type: ignore[arg-type]


@pytest.mark.kernel
def test_without_libbpf_the_kernel_engine_is_refused_only_if_it_was_asked_for(
    kernel_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arenads import libbpf

    def absent() -> tuple[int, int]:
        raise arenads.LibbpfMissingError("libbpf is not here")

    monkeypatch.setattr(libbpf, "version", absent)
    assert take_engine("auto") == (
        "native",
        "the kernel engine cannot load programs here: libbpf is not here",
    )
    with pytest.raises(arenads.LibbpfMissingError):
        take_engine("kernel")
