"""What the tests share: a probe of the kernel engine, compiled programs, pins, other processes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import everything
import pytest
from history_checker import Checker, build_checker
from hypothesis import HealthCheck, settings

import arenads
from arenads import compiler
from arenads.schema_text import as_c, schema_text

TESTS = Path(__file__).parent
PROGRAMS = TESTS / "programs"
BPFFS = Path("/sys/fs/bpf")
# Children run the same package as this process, wherever that lies.
PACKAGE_PARENT = Path(arenads.__file__).parents[1]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

settings.register_profile(
    "arenads",
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("arenads")


# --- the kernel engine ----------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def why_no_kernel_engine() -> str:
    """Why the kernel engine cannot work here, found by trying; empty if it can."""
    try:
        with arenads.create("1 page", engine="kernel", provision=None):
            pass
        from arenads import libbpf

        libbpf.version()
    except arenads.ArenadsError as error:
        return f"kernel engine: {error}"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") is not None and why_no_kernel_engine():
        pytest.skip(why_no_kernel_engine())


@pytest.fixture(scope="session")
def kernel_engine() -> str:
    """The name of the kernel engine; skips where it cannot work."""
    if why_no_kernel_engine():
        pytest.skip(why_no_kernel_engine())
    return "kernel"


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("kernel", marks=pytest.mark.kernel),
        pytest.param("native", marks=pytest.mark.native),
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


# --- compiled programs ------------------------------------------------------------------


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile tests/programs/NAME.bpf.c for an engine, once a session: compiled(name, engine).

    The result is the path of the BPF object; the native engine's lies beside it.
    """
    done: dict[tuple[str, str, tuple[str, ...]], Path] = {}

    def compiled(name: str, engine: str, defines: tuple[str, ...] = ()) -> Path:
        key = (name, engine, defines)
        if key not in done:
            directory = tmp_path_factory.mktemp(f"{name}-{engine}")
            suffix = ".bpf.o" if engine == "kernel" else ".native.so"
            arenads.compile(
                PROGRAMS / f"{name}.bpf.c",
                directory / f"{name}{suffix}",
                engine=engine,  # type: ignore[arg-type]
                defines=list(defines),
                flags=["-Werror"],
            )
            done[key] = directory / f"{name}.bpf.o"
        return done[key]

    return compiled


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    """What judges recorded histories."""
    return build_checker(tmp_path_factory.mktemp("history"))


def made_in_c(
    name: str, schemas: dict[str, tuple[str | None, str | None]], folder: Path
) -> ctypes.CDLL:
    """Compile programs/NAME.c, which includes what `arenads schema --c` writes of its own types.

    `schemas` are the key and value types of each; NAME_types.bpf.c has the records.
    """
    types = arenads.compile(PROGRAMS / f"{name}_types.bpf.c", folder / "types.bpf.o")
    text = [as_c(each, schema_text(*pair, btf=types)) for each, pair in schemas.items()]
    (folder / "schemas.h").write_text("".join(text))
    made = compiler.compile_shared(
        PROGRAMS / f"{name}.c",
        folder / f"{name}.so",
        include_dirs=[folder, PROGRAMS],
        # gcc does not see that the size of a key is that of its variable.
        flags=["-Wall", "-Wextra", "-Werror", "-Wno-array-bounds"],
    )
    return ctypes.CDLL(str(made))


def core_source(path: Path, *, points: bool = False) -> Path:
    """Write the C source of the extension, or of its test build; returns the path."""
    place = TESTS.parent / "arenads" / "_core_build.py"
    spec = importlib.util.spec_from_file_location("arenads_core_build", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.builder(points=points).emit_c_code(str(path))
    return path


@pytest.fixture(scope="session")
def points_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C core in its test build: each shared operation is a point where a child can die.

    For child processes, which put it in sys.modules["arenads._core"] before they import
    arenads; see programs/victim.py.
    """
    directory = tmp_path_factory.mktemp("points")
    return compiler.compile_shared(
        core_source(directory / "_core.c", points=True),
        directory / "_core.abi3.so",
        include_dirs=[sysconfig.get_path("include")],
        flags=["-O1", "-g1"],
    )


# --- pins -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bpf_file_system(kernel_engine: str) -> Iterator[Path]:
    """A folder of our own in a bpf file system; mounts one if there is none and we are root."""
    mounted: str | None = None
    place = BPFFS
    if not arenads.capabilities.is_mounted("bpf", BPFFS):
        mounted = tempfile.mkdtemp(prefix="arenads-bpffs-")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"none", mounted.encode(), b"bpf", 0, None):
            os.rmdir(mounted)
            number = ctypes.get_errno()
            pytest.skip(f"kernel engine: no bpf file system, and mount says {os.strerror(number)}")
        place = Path(mounted)
    directory = place / f"arenads-tests-{os.getpid()}"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        for pin in directory.iterdir():
            pin.unlink()
        directory.rmdir()
        if mounted is not None:
            ctypes.CDLL(None).umount2(mounted.encode(), 2)
            os.rmdir(mounted)


@pytest.fixture(scope="session")
def pin_directory(engine: str, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder where arenas of the engine can be pinned."""
    if engine == "kernel":
        yield request.getfixturevalue("bpf_file_system")
        return
    with tempfile.TemporaryDirectory(prefix="arenads-tests-", dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def pin(pin_directory: Path) -> Iterator[Path]:
    """A path for one pin, free before and after the test."""
    place = pin_directory / "pin"
    yield place
    place.unlink(missing_ok=True)


# --- what a test leaves behind ------------------------------------------------------------


def arena_mappings() -> set[str]:
    """The mappings in the windows that arenas take: nothing else of a process lies there."""
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start = int(line.split("-")[0], 16)
        if 0x200000000000 <= start < 0x500000000000:
            found.add(line.split()[0])
    return found


@pytest.fixture
def leaves_nothing() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context whose end has the descriptors and arena mappings of its beginning."""

    @contextlib.contextmanager
    def leaves_nothing() -> Iterator[None]:
        gc.collect()
        before = set(os.listdir("/proc/self/fd")), arena_mappings()
        yield
        gc.collect()
        assert (set(os.listdir("/proc/self/fd")), arena_mappings()) == before

    return leaves_nothing


# --- other processes ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a fresh interpreter that imports this package: python(script, *args)."""

    def python(
        script: str, *arguments: object, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return python


def child_environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script in a fresh interpreter with pipes to it; it is ended after the test."""
    running: list[subprocess.Popen[str]] = []

    def start_python(script: str, *arguments: object, **more: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            env=child_environment(**more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(child)
        return child

    yield start_python
    for child in running:
        child.kill()
        child.communicate()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in an empty directory: run("check", path)."""

    def run(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "arenads", *map(str, arguments)],
            cwd=more.pop("cwd", tmp_path),
            env=child_environment(**more),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def fails(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """Assert that a command failed as commands do; return what it said."""
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def in_fork() -> Callable[[Callable[[], object]], None]:
    """Run a function in a forked child; fails if it raises there or dies."""

    def in_fork(function: Callable[[], object]) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                function()
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"the child ended with {signal.Signals(-code) if code < 0 else code}"

    return in_fork


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds, without sleeping; fails after half a minute."""

    def eventually(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            os.sched_yield()

    return eventually


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    """An empty arena; files with a size or options of their own define their own."""
    with arenads.create("32MiB", engine=engine) as arena:  # type: ignore[arg-type]
        yield arena


@pytest.fixture
def pinned(engine: str, pin: Path) -> Iterator[Path]:
    """A pinned arena with structures of every kind."""
    with arenads.create("4MiB", engine=engine) as arena:
        everything.fill(arena)
        arena.pin(pin)
    yield pin


@pytest.fixture
def native_pin() -> Iterator[Path]:
    """As `pinned`, of the native engine, where the pin is a file whose bytes are the arena's."""
    place = Path(f"/dev/shm/arenads-test-everything-{os.getpid()}")
    with arenads.create("4MiB", engine="native", provision=None) as arena:
        everything.fill(arena)
        arena.pin(place)
    yield place
    place.unlink(missing_ok=True)
