"""BPF programs on damaged arenas: they end, with a code, and the kernel has nothing to say.

The images are those of fuzz.c. Where user space finds nothing wrong with one, the same source
must answer the same in the kernel and in user space, and leave the same memory behind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PROGRAMS, child_environment
from test_damage import SOURCE, images

import arenads
from arenads import compiler

pytestmark = pytest.mark.kernel

# One CPU from the beginning: which memory comes first depends on it.
RUN = """\
import ctypes, os, sys
import arenads

with open("/proc/self/comm", "w") as comm:
    comm.write(sys.argv[3])
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
fuzzer, program = ctypes.CDLL(sys.argv[1]), sys.argv[2]
with arenads.create("1MiB", engine="kernel", populate="1MiB", provision=None) as arena:
    loaded = arenads.load(program, arena=arena)
    words = ["--arena", str(arena.base)]
    for name, info in loaded._bpf.programs().items():
        words += [f"--{name}", str(info.fd)]
    words = [word.encode() for word in words + sys.argv[4:]]
    sys.exit(fuzzer.fuzz(len(words), (ctypes.c_char_p * len(words))(*words)))
"""
SAME = re.compile(r"^the same as in user space: (\d+) steps, (\d+) images", re.MULTILINE)
# The kernel's log calls the process by this name. What it says of others, which may keep a CPU from
# everybody for as long as they like, is not ours.
COMM = "damaged-arenas"
COMPLAINT = re.compile(rf"{COMM}|(WARNING|BUG|Oops).*(bpf|arena)")

Fuzz = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., Path]) -> Fuzz:
    """Run the fuzzer on the programs of damaged.bpf.c, or on others with the same names."""
    library = compiler.compile_shared(
        SOURCE, tmp_path_factory.mktemp("fuzz") / "fuzz.so", flags=["-O0"]
    )

    def fuzz(*words: object, program: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-c",
                RUN,
                str(library),
                str(program or compiled("damaged", "kernel")),
                COMM,
                *map(str, words),
            ],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=3000,
            check=False,
        )

    return fuzz


@pytest.fixture
def silent_kernel() -> Iterator[None]:
    """The kernel's log may not mention the fuzzer, nor a fault of the kernel's in BPF."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"the kernel's log cannot be read: {error.strerror}")
    try:
        os.lseek(log, 0, os.SEEK_END)
        yield
        said = []
        while True:
            try:
                said.append(os.read(log, 8192).decode(errors="replace"))
            except BlockingIOError:
                break
            except BrokenPipeError:  # the log went round: what is left of it follows
                continue
    finally:
        os.close(log)
    complaints = [line for line in said if COMPLAINT.search(line)]
    assert not complaints, "".join(complaints)


def same_images(result: subprocess.CompletedProcess[str]) -> int:
    """How many images user space found nothing wrong with: there both sides did the same."""
    found = SAME.search(result.stdout)
    assert found, result.stdout
    return int(found[2])


def test_programs_on_damaged_memory_end_with_a_code_and_do_as_user_space_does(
    fuzz: Fuzz, silent_kernel: None
) -> None:
    result = fuzz("--count", 20_000)
    assert images(result) == 20_000
    assert same_images(result) > 10_000


def test_a_seed_does_the_same_again_in_the_kernel(fuzz: Fuzz) -> None:
    once, again = (fuzz("--first", 64, "--count", 500).stdout for _ in range(2))
    assert once.split("total:")[0] == again.split("total:")[0]


def test_both_sides_say_the_same_of_a_position_that_is_none(fuzz: Fuzz) -> None:
    """A ring's `committed` is of all ones: user space said that nothing was reserved."""
    assert images(fuzz("--first", 1_819_735, "--count", 1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("million", range(1, 3))
def test_programs_survive_millions_of_damaged_images(
    fuzz: Fuzz, silent_kernel: None, million: int
) -> None:
    """Seeds that the quick test has not seen."""
    result = fuzz("--first", million * 1_000_000, "--count", 1_000_000)
    assert images(result) == 1_000_000
    assert same_images(result) > 300_000


# --- the test of the test ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "text", "instead"),
    [
        pytest.param(
            "list.h",
            "if (w->hash > hash) return ADS_ABSENT;",
            "if (w->hash >= hash) return ADS_ABSENT;",
            id="a walk ends before its key",
        ),
        pytest.param(
            "alloc.h",
            "<< 32) | (__u32)below) == top",
            "<< 32) | entry) == top",
            id="a free entry stays on the stack",
        ),
        pytest.param(
            "list.h",
            "return crossed ? ADS_DAMAGED : ADS_ABSENT;",
            "return crossed ? crossed : ADS_ABSENT;",
            id="a code is one that nobody knows",
        ),
    ],
)
def test_the_fuzzer_finds_programs_that_do_otherwise(
    fuzz: Fuzz, header: str, text: str, instead: str, tmp_path: Path
) -> None:
    headers = tmp_path / "include" / "arenads"
    shutil.copytree(compiler.include_dir() / "arenads", headers)
    pattern = re.compile(r"\s+".join(map(re.escape, text.split())))
    changed, count = pattern.subn(lambda _: instead, (headers / header).read_text())
    assert count == 1, f"the headers have changed: adapt {text!r}"
    (headers / header).write_text(changed)
    program = arenads.compile(
        PROGRAMS / "damaged.bpf.c",
        tmp_path / "damaged.bpf.o",
        engine="kernel",
        include_dirs=[headers.parent],
    )
    result = fuzz("--count", 100_000, program=program)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILED: seed" in result.stdout
