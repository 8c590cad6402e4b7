"""The package's build: what a wheel holds, that it works, and how a build fails.

The builds run without isolation, with the hatchling and cffi of this environment, so none
of them but those marked slow needs a network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from arenads import compiler

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RELEASE = f"arenads-{PROJECT['version']}"
SOURCES = ("arenads", "include", "bpf_progs", "pyproject.toml", "README.md", "LICENSE")
BUILT = ("_core.*.so", "__pycache__", "*.bpf.o", "*.native.so")

PROGRAM = """\
#include <arenads/bpf.h>
struct sample { __u64 count; };
ADS_ARENA(4 * ADS_MIB);
ADS_HASHMAP(samples, __u32, struct sample, 100);
SEC("syscall") int nothing(void *context) { return 0; }
"""


def run_python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def build_wheel(tree: Path, output: Path) -> Path:
    done = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(output), cwd=tree)
    assert done.returncode == 0, done.stdout
    (wheel,) = output.glob("*.whl")
    return wheel


def copy_tree(place: Path) -> Path:
    """Copy what a build needs, without what an earlier build left."""
    place.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns(*BUILT))
        else:
            shutil.copy(ROOT / name, place / name)
    return place


def files_of(tree: Path) -> set[Path]:
    return {path for path in tree.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree that the wheel is built from."""
    return copy_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def files_before_the_build(tree: Path) -> set[Path]:
    return files_of(tree)


@pytest.fixture(scope="module")
def wheel(
    tree: Path, files_before_the_build: set[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build_wheel(tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked, as an installation has it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


# --- what a wheel holds ------------------------------------------------------------


def test_the_wheel_holds_the_extension(wheel_names: set[str]) -> None:
    assert [name for name in wheel_names if re.fullmatch(r"arenads/_core\..*so", name)]


def test_the_wheel_says_that_it_is_typed(wheel_names: set[str]) -> None:
    assert "arenads/py.typed" in wheel_names


def test_the_wheel_holds_every_header(wheel_names: set[str]) -> None:
    headers = {f"arenads/{path.relative_to(ROOT)}" for path in (ROOT / "include").rglob("*.h")}
    assert headers
    assert headers <= wheel_names


def test_the_wheel_holds_every_program_for_both_engines_and_its_source(
    wheel_names: set[str],
) -> None:
    programs = {path.name.removesuffix(".bpf.c") for path in (ROOT / "bpf_progs").glob("*.bpf.c")}
    assert programs
    for program in programs:
        assert f"arenads/programs/{program}.bpf.o" in wheel_names
        native = f"arenads/programs/{program}.native.so" in wheel_names
        assert native == (not program.startswith("bench_"))
        assert f"arenads/programs/src/{program}.bpf.c" in wheel_names


def test_the_wheel_holds_every_module_but_those_of_the_build(wheel_names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "arenads").rglob("*.py")}
    build_only = {"arenads/_hatch.py", "arenads/_core_build.py"}
    assert modules - build_only <= wheel_names
    assert not build_only & wheel_names


def test_the_wheel_holds_the_c_code_of_the_benchmark(wheel_names: set[str]) -> None:
    sources = [*(ROOT / "arenads" / "bench").glob("*.[ch]")]
    assert sources
    assert {str(path.relative_to(ROOT)) for path in sources} <= wheel_names
    assert "arenads/programs/src/bench.h" in wheel_names


def test_the_wheel_holds_nothing_but_the_package_and_its_metadata(wheel_names: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names} == {"arenads", f"{RELEASE}.dist-info"}


def test_the_wheel_is_tagged_for_this_platform_and_for_python_3_11_on(wheel: Path) -> None:
    assert re.search(r"-(cp311-abi3|cp3\d+-cp3\d+\w*)-linux_\w+\.whl$", wheel.name)


def test_the_wheel_needs_cffi_and_msgspec_only(site: Path) -> None:
    metadata = (site / f"{RELEASE}.dist-info" / "METADATA").read_text()
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert sorted(required) == ["cffi", "msgspec"]


# --- that it works -------------------------------------------------------------------


def test_an_installed_package_finds_its_own_headers_and_programs(site: Path) -> None:
    script = (
        "import arenads, arenads._core; from arenads import compiler;"
        "print(arenads._core.__file__, compiler.include_dir(), compiler.programs_dir())"
    )
    done = run_python("-P", "-c", script, cwd=site.parent, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout
    extension, include, programs = done.stdout.split()
    assert Path(extension).parent == site / "arenads"
    assert Path(include) == site / "arenads" / "include"
    assert Path(programs) == site / "arenads" / "programs"


def test_an_installed_package_compiles_a_program_for_both_engines(
    site: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.bpf.c").write_text(PROGRAM)
    script = "from arenads import compiler; compiler.compile('own.bpf.c', engine='native')"
    done = run_python("-P", "-c", script, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
    assert (tmp_path / "own.bpf.o").is_file()
    assert (tmp_path / "own.native.so").is_file()


def test_a_build_leaves_the_tree_as_it_was(
    wheel: Path, tree: Path, files_before_the_build: set[Path]
) -> None:
    assert files_of(tree) == files_before_the_build


# --- what a build asks for -------------------------------------------------------------


def requirements_of_a_build(path: str) -> str:
    """Ask as pip does, in an environment without ziglang."""
    script = (
        "import sys; sys.modules['ziglang'] = None\n"
        "from hatchling.build import get_requires_for_build_wheel as ask\n"
        "print(ask())"
    )
    done = run_python("-c", script, cwd=ROOT, PATH=path, CC="")
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def test_without_a_compiler_the_build_asks_for_ziglang(tmp_path: Path) -> None:
    assert requirements_of_a_build(str(tmp_path)) == f"['ziglang=={compiler.ZIG_VERSION}']"


def test_with_working_compilers_the_build_asks_for_nothing(tmp_path: Path) -> None:
    for name, found in (
        ("cc", compiler.find_host_compiler()),
        ("clang", compiler.find_bpf_compiler()),
    ):
        script = tmp_path / name
        words = " ".join(f"'{word}'" for word in found.command)
        script.write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}"\nexec {words} "$@"\n')
        script.chmod(0o755)
    assert requirements_of_a_build(str(tmp_path)) == "[]"


def test_the_pinned_ziglang_is_the_same_everywhere() -> None:
    pinned = [f"ziglang=={compiler.ZIG_VERSION}"]
    assert PROJECT["optional-dependencies"]["compiler"] == pinned


# --- how a build fails -----------------------------------------------------------------


def failed_build(tree: Path, output: Path, script: str = "") -> str:
    script += (
        "\nimport sys; from hatchling.build import build_wheel"
        "\nsys.exit(0 if build_wheel(sys.argv[1]) else 1)"
    )
    done = run_python("-c", script, str(output), cwd=tree)
    assert done.returncode != 0
    assert not list(output.glob("*.whl"))
    assert "Traceback" not in done.stdout
    return done.stdout


def test_a_program_that_does_not_compile_fails_the_build_in_the_compilers_words(
    tmp_path: Path,
) -> None:
    broken = copy_tree(tmp_path / "tree")
    (broken / "bpf_progs" / "aaa.bpf.c").write_text("#error not today\n")
    assert "not today" in failed_build(broken, tmp_path / "out")


def test_without_the_headers_of_python_the_build_says_what_to_install(tmp_path: Path) -> None:
    nowhere = "import sysconfig; sysconfig.get_path = lambda *_: '/nowhere'"
    text = failed_build(ROOT, tmp_path / "out", nowhere)
    assert "expected Python.h in /nowhere" in text
    assert "python3-dev" in text


# --- the whole way, with a network ---------------------------------------------------------


@pytest.mark.slow
def test_an_installation_works_where_there_is_only_python_and_pip(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / "bin"
    bare = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    bare |= {"PATH": str(scripts), "HOME": str(tmp_path)}
    for command in (
        [scripts / "pip", "install", "-q", f"{tree}"],
        [scripts / "python", "-P", "-c", "import arenads._core"],
    ):
        subprocess.run(command, env=bare, cwd=tmp_path, stdin=subprocess.DEVNULL, check=True)


@pytest.mark.slow
def test_a_wheel_made_from_the_source_archive_is_the_same(
    wheel_names: set[str], tmp_path: Path
) -> None:
    done = run_python("-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    again = build_wheel(tmp_path / RELEASE, tmp_path / "out")
    with zipfile.ZipFile(again) as contents:
        assert set(contents.namelist()) == wheel_names


@pytest.mark.slow
def test_an_editable_installation_leaves_what_it_built_in_the_checkout(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        [python, "-m", "pip", "install", "-q", "-e", f"{tree}"],
        [python, "-c", "import arenads._core"],
    ):
        subprocess.run(command, cwd=tree, stdin=subprocess.DEVNULL, check=True)
    assert list((tree / "arenads").glob("_core.*so"))
    assert list((tree / "arenads" / "programs").glob("*.bpf.o"))
