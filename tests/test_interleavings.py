"""Every interleaving of the shipped operations, and a death at every point; see interleave.c.

The headers are compiled as they are, with ADS_POINTS. That the explorer finds mistakes is shown in
test_mistakes_in_maps.py and test_mistakes_in_queues.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arenads import compiler

SOURCE = Path(__file__).with_name("interleave.c")
RUN = """\
import ctypes, sys
words = [word.encode() for word in sys.argv[2:]]
sys.exit(ctypes.CDLL(sys.argv[1]).interleave(len(words), (ctypes.c_char_p * len(words))(*words)))
"""
TOTAL = re.compile(
    r"^total: (\d+) scenarios, (\d+) schedules, (\d+) deaths, ([\d.]+) s", re.MULTILINE
)
# Scenarios, schedules and deaths of each subject, so that none is lost unnoticed. A change of a
# header makes more or fewer schedules; one of the explorer's scenarios is written down here.
RECORDED = {
    "map": (13_601, 9_502_600, 7_652_528),
    "list": (2_588, 1_560_311, 1_563_604),
    "pool": (1_511, 4_042_155, 962_210),
    "queue": (322, 18_875, 22_978),
    "names": (45, 261_696, 542_089),
    "array": (3_810, 1_071_359, 351_466),
    "intrusive": (3_922, 370_287, 388_678),
    "orderedmap": (4_638, 2_997_425, 5_361_717),
    "ring-plain": (3_060, 112_914, 162_427),
    "ring-overwrite": (840, 87_631, 73_590),
    "rings": (1_848, 272_479, 317_702),
    "mpmc": (3_172, 915_998, 392_319),
    "bytes": (350, 214_742, 369_298),
    "hints": (340, 161_660, 251_757),
    "grace": (221, 509_536, 284_179),
    "reclaimers": (104, 1_973_882, 154_847),
}
SUBJECTS = tuple(RECORDED)

Explorer = Callable[..., subprocess.CompletedProcess[str]]


def build(directory: Path, include_dir: Path | None = None) -> Path:
    return compiler.compile_shared(
        SOURCE,
        directory / "interleave.so",
        include_dirs=[] if include_dir is None else [include_dir],
        # Unused functions of the headers are no mistake of the mutants.
        flags=["-O0", "-g0", "-w"] if include_dir else ["-O2"],
    )


def run(library: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a mutant may crash."""
    return subprocess.run(
        [sys.executable, "-c", RUN, str(library), *words],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    library = build(tmp_path_factory.mktemp("interleave"))
    return lambda *words: run(library, *words)


def explored(result: subprocess.CompletedProcess[str]) -> tuple[int, int, int]:
    """How many scenarios, schedules and deaths there were; fails with the one that went wrong."""
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
    found = TOTAL.search(result.stdout)
    assert found, result.stdout
    print(result.stdout)
    return int(found[1]), int(found[2]), int(found[3])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_interleaving_and_every_death_is_explained_by_some_order(
    explorer: Explorer, subject: str
) -> None:
    """Two actors with up to three preemptions, three with up to two.

    One less in ordered maps, whose operations are long, and where the actors of a map's pair have
    swapped their roles; the slow test has them all.
    """
    scenarios, schedules, deaths = explored(explorer(subject))
    of_then = RECORDED[subject]
    print(f"{subject}: {(scenarios, schedules, deaths)}, recorded are {of_then}")
    assert scenarios == of_then[0], f"other scenarios than recorded: {scenarios}, not {of_then[0]}"
    assert schedules >= 0.9 * of_then[1], f"fewer schedules than recorded: {schedules}"
    assert deaths >= 0.9 * of_then[2], f"fewer deaths than recorded: {deaths}"


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_one_more_preemption_changes_nothing(explorer: Explorer, subject: str) -> None:
    explored(explorer(subject, "--long"))


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param("map", marks=pytest.mark.slow),
        "list",
        pytest.param("pool", marks=pytest.mark.slow),
        "queue",
        "array",
        "mpmc",
    ],
)
def test_points_that_the_search_leaves_out_lead_nowhere_else(
    explorer: Explorer, subject: str
) -> None:
    outcomes = []
    for words in (["--short"], ["--short", "--every-point"]):
        result = explorer(subject, "--outcomes", *words)
        explored(result)
        outcomes.append(re.findall(r"^outcomes: .*$", result.stdout, re.MULTILINE))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]
