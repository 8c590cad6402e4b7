"""The tests again, with AddressSanitizer and UndefinedBehaviorSanitizer in all of our C.

A copy of the package is made whose extension and programs are built with the sanitizers, and so
is whatever a test compiles for this machine: $CC is the compiler with the sanitizers. What they
find goes to files, one a process, because a test may expect its child to fail, and then nobody
reads what the child said.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROGRAMS, TESTS, core_source

import arenads
from arenads import compiler

SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
]
ADDRESS_OPTIONS = [
    "detect_leaks=0",  # Python keeps memory to the end of its life
    "detect_stack_use_after_return=1",
    "allow_user_segv_handler=1",  # children that crash on purpose have handlers of their own
]


@dataclass(frozen=True)
class Sanitized:
    """A folder with the copy of the package, and the environment of processes that use it."""

    place: Path
    environment: dict[str, str]

    def run(self, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the copy as the package."""
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=TESTS.parent,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=3000,
            check=False,
        )

    def pytest(self, *words: object) -> str:
        """Run tests; returns what pytest said if all went well."""
        done = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
        findings = self.findings()
        assert not findings, "\n".join(findings)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]
        print(done.stdout)
        return done.stdout

    def findings(self) -> list[str]:
        """What the sanitizers reported since the last look, in whatever process."""
        files = sorted(self.place.glob("findings.*"))
        texts = [file.read_text(errors="replace") for file in files]
        for file in files:
            file.unlink()
        return texts


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
    )


def runtime(found: compiler.Compiler) -> Path | None:
    """The library that must be loaded before all others, since Python is not sanitized."""
    for name in ("libasan.so", f"libclang_rt.asan-{os.uname().machine}.so"):
        path = Path(run(*found.command, f"-print-file-name={name}").stdout.strip())
        if path.is_absolute():
            return path.resolve()
    return None


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Sanitized:
    """The copy; skips, with what the compiler says, where there are no sanitizers."""
    place = tmp_path_factory.mktemp("sanitized")
    found = compiler.find_host_compiler()
    (place / "probe.c").write_text("int main(void) { return 0; }\n")
    command = [*found.command, *SANITIZERS, place / "probe.c", "-o", place / "probe"]
    probe = run(*command)
    if not probe.returncode:
        probe = run(place / "probe")
    library = runtime(found)
    if probe.returncode or library is None:
        said = (probe.stderr or probe.stdout).strip() or "no library to load first"
        pytest.skip(f"{found} makes no sanitized programs here: {said.splitlines()[0]}")

    package = place / "arenads"
    without = shutil.ignore_patterns("*.so", "*.o", "__pycache__")
    shutil.copytree(Path(arenads.__file__).parent, package, ignore=without)
    shutil.copytree(compiler.include_dir(), place / "include", dirs_exist_ok=True)
    compiler.compile_shared(
        core_source(place / "_core.c"),
        package / "_core.abi3.so",
        include_dirs=[sysconfig.get_path("include")],
        flags=["-O1", "-g1", *SANITIZERS],
    )
    programs = compiler.programs_dir()
    (package / "programs").mkdir(exist_ok=True)
    for program in programs.glob("*.bpf.o"):
        shutil.copy(program, package / "programs")
    for source in (TESTS.parent / "bpf_progs").glob("*.bpf.c"):
        compiler.compile(
            source,
            package / "programs" / source.name.replace(".bpf.c", ".native.so"),
            engine="native",
            flags=["-O1", "-g1", *SANITIZERS],
        )
    return Sanitized(
        place,
        {
            **os.environ,
            "CC": shlex.join([*found.command, *SANITIZERS]),
            "PYTHONPATH": str(place),
            "LD_PRELOAD": str(library),
            "ASAN_OPTIONS": ":".join([*ADDRESS_OPTIONS, f"log_path={place / 'findings'}"]),
            "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={place / 'findings'}",
        },
    )
