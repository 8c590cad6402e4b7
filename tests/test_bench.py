"""The benchmark: what it says of known rounds, and that each kind of cell runs. No time is judged.

Cells run here with few entries and short rounds: what is looked at is that both sides do the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from conftest import child_environment
from hypothesis import given
from hypothesis import strategies as st
from unprivileged import drop_capabilities

from arenads.bench import machine, order
from arenads.bench.cell import Amounts, Cell, Sides
from arenads.bench.cells import MODULES, all_cells
from arenads.bench.loops import SidesDifferError, expect_equal
from arenads.bench.measure import FULL, QUICK, Settings, allowed_cpus, measure
from arenads.bench.report import Report, Result, result_of, table
from arenads.bench.run import UnknownCellError, choose, encode, listing, run
from arenads.bench.statistics import FEWEST_ROUNDS, compare, interval, spread
from arenads.bench.workshop import Workshop, why_not

SHORT = Settings(rounds=2, seconds=1e-5)

times = st.lists(st.floats(1, 1e6), min_size=1, max_size=40)


# --- statistics -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "first"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8)]
)
def test_the_interval_of_a_median_has_the_ranks_of_the_tables(count: int, first: int) -> None:
    # Conover, Practical Nonparametric Statistics, and every table of the sign test at 5 %.
    assert interval(range(1, count + 1)) == (first, count + 1 - first)


@given(times)
def test_the_interval_holds_the_median_and_two_of_the_values(values: list[float]) -> None:
    low, high = interval(values)
    assert low in values and high in values
    ordered = sorted(values)
    assert low <= ordered[(len(values) - 1) // 2] and ordered[len(values) // 2] <= high


def test_the_spread_is_between_the_quarters() -> None:
    assert spread([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 4
    assert spread([3]) == 0


def test_the_ratio_is_that_of_the_medians_without_the_loop() -> None:
    found = compare([11, 11, 11, 12, 11, 11], [31, 31, 32, 31, 31, 31], [1, 1, 1, 1, 1, 1])
    assert (found.ours, found.peer, found.loop) == (10, 30, 1)
    assert found.ratio == 3
    assert found.winner == "ours"


def test_rounds_that_are_faster_on_the_other_side_make_the_peer_the_winner() -> None:
    found = compare([20.0] * 9, [10.0] * 9)
    assert (found.ratio, found.low, found.high, found.winner) == (0.5, 0.5, 0.5, "peer")


def test_no_winner_is_named_inside_the_noise() -> None:
    ours = [10, 12, 10, 12, 10, 12, 10, 12, 10]
    peer = [11, 11, 12, 10, 11, 11, 12, 11, 11]
    found = compare(ours, peer)
    assert found.low < 1 < found.high
    assert found.winner == "none"


def test_a_difference_below_that_of_two_copies_of_one_loop_is_none() -> None:
    assert compare([100.0] * 9, [100.5] * 9).winner == "none"


def test_few_rounds_name_no_winner() -> None:
    few = FEWEST_ROUNDS - 1
    assert compare([1.0] * few, [9.0] * few).winner == "none"
    assert compare([1.0] * (few + 1), [9.0] * (few + 1)).winner == "ours"


def test_where_little_but_the_loop_is_left_nothing_is_subtracted() -> None:
    found = compare([10.5] * 6, [20.0] * 6, [10.0] * 6)
    assert (found.loop, found.ours, found.peer) == (0, 10.5, 20)


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=30))
def test_the_ratio_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    found = compare([first for first, _ in pairs], [second for _, second in pairs])
    assert found.low <= found.ratio <= found.high


# --- measuring --------------------------------------------------------------------------


def test_sides_run_in_turn_and_change_who_is_first() -> None:
    calls: list[str] = []

    def side(name: str) -> Callable[[int], int]:
        def one(operations: int) -> int:
            calls.append(name)
            return 1_000_000 * operations

        return one

    sides = Sides(ours=side("ours"), peer=side("peer"), empty=side("empty"), step=1)
    measure(sides, Settings(rounds=4, seconds=1e-6))
    # After one call of each that calibrates. One that lost the CPU meanwhile is repeated.
    rounds = [name for name, _ in groupby(calls[3:])]
    assert [rounds[i : i + 3] for i in range(0, 12, 3)] == [
        ["empty", "ours", "peer"],
        ["empty", "peer", "ours"],
    ] * 2


def test_operations_fill_a_round_in_whole_steps() -> None:
    seen: dict[str, list[int]] = {"ours": [], "peer": []}

    def side(name: str, nanoseconds: int) -> Callable[[int], int]:
        def one(operations: int) -> int:
            seen[name].append(operations)
            return nanoseconds * operations

        return one

    sides = Sides(ours=side("ours", 1), peer=side("peer", 100), step=7, most=100_000)
    measure(sides, Settings(rounds=3, seconds=1e-3))
    assert all(operations % 7 == 0 for each in seen.values() for operations in each)
    assert max(seen["ours"]) == 100_000 // 7 * 7  # never more than `most`
    assert abs(seen["peer"][-1] - 10_000) <= 7


def test_the_thread_is_free_again_after_measuring() -> None:
    import os

    before = os.sched_getaffinity(0)
    measure(Sides(ours=lambda n: n, peer=lambda n: n), SHORT)
    assert os.sched_getaffinity(0) == before


# --- the order of keys ------------------------------------------------------------------


def test_both_sides_would_see_the_same_order_in_every_run() -> None:
    assert order.make(100, "zipf") == order.make(100, "zipf")
    assert sorted(order.make(100, "uniform")) == list(range(100))
    assert order.make(100, "uniform") != order.make(100, "sequential")


def test_few_keys_come_often_in_a_zipf_order() -> None:
    counts = Counter(order.make(1000, "zipf"))
    often = [count for _, count in counts.most_common()]
    assert set(counts) <= set(range(1000))
    assert often[0] > 5 * often[9] > 25 * often[199]


def test_keys_are_different_and_none_is_an_absent_one() -> None:
    keys = {order.key_of(index) for index in range(100_000)}
    assert len(keys) == 100_000
    assert max(keys) < order.ABSENT


# --- the report -------------------------------------------------------------------------


@contextmanager
def fixed(cell: Cell, workshop: Workshop) -> Iterator[Sides | Amounts]:
    """Three times as fast as the peer, or a third of its bytes."""
    if cell.unit == "bytes":
        yield Amounts(ours=1 << 20, peer=3 << 20)
    else:
        yield Sides(ours=lambda n: 10 * n, peer=lambda n: 30 * n)


@contextmanager
def failing(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
    expect_equal("sides", 1, 2)
    yield Sides(ours=lambda n: n, peer=lambda n: n)


FAST = Cell(name="test.fast", peer="tortoise", open=fixed, entries=10, key_size=8, value_size=8)
SMALL = Cell(name="test.small", peer="elephant", open=fixed, unit="bytes", entries=10)
WRONG = Cell(name="test.wrong", peer="liar", open=failing)
QUICKLY = Settings(rounds=6, seconds=1e-6)


def test_json_has_the_documented_form() -> None:
    found = json.loads(encode(run([FAST, SMALL], settings=QUICKLY)))
    assert found["version"] == 1
    assert found["complete"] is True
    assert found["skipped"] == []
    assert found["machine"]["kernel"] and found["machine"]["cpus"] == len(allowed_cpus())
    fast, small = found["cells"]
    for each in (fast, small):
        assert {"name", "entries", "key_size", "value_size", "cpus", "peer", "ratio"} <= set(each)
        assert each["low"] <= each["ratio"] <= each["high"]
    assert (fast["ours_ns"], fast["peer_ns"], fast["ratio"]) == (10, 30, 3)
    assert len(fast["ours_rounds_ns"]) == len(fast["peer_rounds_ns"]) == found["rounds"] == 6
    assert "ours_bytes" not in fast
    assert (small["ours_bytes"], small["peer_bytes"], small["ratio"]) == (1 << 20, 3 << 20, 3)
    assert "ours_ns" not in small


def test_a_report_can_be_read_back() -> None:
    report = run([FAST, SMALL, WRONG], settings=QUICKLY)
    assert msgspec.json.decode(encode(report), type=Report) == report


def test_the_table_shows_both_sides_and_marks_where_the_peer_is_ahead() -> None:
    slow = compare([20.0] * 6, [10.0] * 6)
    results: list[Result] = [
        *run([FAST, SMALL], settings=QUICKLY).cells,
        result_of(FAST, slow),
    ]
    shown = table(results, machine.describe())
    assert shown.marked == {2}
    text = shown.plain()
    assert "10.0 ±0.00 ns" in text and "tortoise" in text and "1.00 MiB" in text
    assert "3.00 to 3.00" in text


def test_a_cell_whose_sides_differ_is_no_figure() -> None:
    report = run([WRONG, FAST], settings=QUICKLY)
    assert [each.name for each in report.cells] == ["test.fast"]
    assert [(each.name, each.failed) for each in report.skipped] == [("test.wrong", True)]
    assert "expected both sides to find the same" in report.skipped[0].reason
    with pytest.raises(SidesDifferError):
        expect_equal("sides", 1, 2)


def test_what_a_failed_cell_shared_is_made_anew_but_not_what_could_not_be_made() -> None:
    made: list[str] = []

    @contextmanager
    def make() -> Iterator[str]:
        made.append("made")
        yield "map"

    @contextmanager
    def fail() -> Iterator[str]:
        made.append("tried")
        raise SidesDifferError("no")
        yield ""

    with Workshop() as workshop:
        assert [workshop.shared("good", make), workshop.shared("good", make)] == ["map", "map"]
        workshop.distrust()
        workshop.shared("good", make)
        for _ in range(2):
            with pytest.raises(SidesDifferError):
                workshop.shared("bad", fail)
            workshop.distrust()
    assert made == ["made", "made", "tried"]


def test_an_interrupt_leaves_what_was_measured() -> None:
    @contextmanager
    def interrupted(cell: Cell, workshop: Workshop) -> Iterator[Sides]:
        raise KeyboardInterrupt
        yield

    stopped = msgspec.structs.replace(FAST, open=interrupted)
    report = run([FAST, stopped, FAST], settings=QUICKLY)
    assert not report.complete
    assert len(report.cells) == 1
    assert any("interrupted" in line for line in report.remarks())


def test_a_cell_for_more_cpus_than_there_are_is_skipped_with_the_reason() -> None:
    many = msgspec.structs.replace(FAST, cpus=len(allowed_cpus()), concurrent="reader")
    report = run([many], settings=QUICKLY)
    assert [each.failed for each in report.skipped] == [False]
    assert f"needs {many.cpus + 1} CPUs" in report.skipped[0].reason


def test_a_cell_whose_peer_is_not_installed_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)  # an import of it fails
    report = run([msgspec.structs.replace(FAST, needs=frozenset({"lmdb"}))], settings=QUICKLY)
    assert [each.failed for each in report.skipped] == [False]
    assert "it needs lmdb: pip install 'arenads[bench]'" in report.skipped[0].reason


# --- which cells there are --------------------------------------------------------------


def test_no_two_cells_are_the_same() -> None:
    seen = Counter((cell.name, cell.peer, cell.title) for cell in all_cells())
    assert [title for title, count in seen.items() if count > 1] == []


def test_a_quick_run_has_a_part_of_the_cells() -> None:
    assert 0 < len(choose(quick=True)) < len(choose()) / 4
    assert QUICK.rounds >= FEWEST_ROUNDS and FULL.rounds >= FEWEST_ROUNDS


def test_cells_are_chosen_by_name_beginning_and_pattern() -> None:
    assert {cell.name for cell in choose(only=["bpf.hashmap.insert"])} == {"bpf.hashmap.insert"}
    assert all(cell.name.startswith("bpf.hashmap.") for cell in choose(only=["bpf.hashmap"]))
    assert choose(only=["bpf.*.lookup_hit"])
    with pytest.raises(UnknownCellError, match=r"found 'bpf\.hash'.*bpf\.hashmap\.lookup_hit"):
        choose(only=["bpf.hash"])


def test_a_quick_run_of_something_that_is_not_quick_has_it_all_the_same() -> None:
    assert choose(quick=True, only=["bpf.hashmap.insert"])


def test_the_list_says_what_keeps_a_cell_from_running() -> None:
    many = msgspec.structs.replace(FAST, name="test.many", cpus=1 + len(allowed_cpus()))
    text = listing([FAST, many]).plain()
    assert "test.fast" in text and "yes" in text and "this process may use" in text


# --- real cells -------------------------------------------------------------------------


def tiny(modules: Iterable[ModuleType]) -> list[Cell]:
    """One cell of each name, peer and way to run with few entries of the smallest sizes.

    And one for each other size of keys and values in each module, whose code is compiled for it.
    """
    found: dict[tuple[object, ...], Cell] = {}
    for module in modules:
        sizes = set()
        for cell in module.cells():
            few = msgspec.structs.replace(cell, entries=64)
            way = (cell.name, cell.peer, cell.cpus, cell.concurrent, cell.distribution)
            size = (cell.key_size, cell.value_size)
            if found.setdefault(way, few) is few:
                sizes.add(size)
            elif size not in sizes:
                sizes.add(size)
                found[*way, size] = few
    return list(found.values())


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    with Workshop() as made:
        yield made


@pytest.mark.parametrize("cell", tiny(MODULES), ids=lambda cell: f"{cell.title}-{cell.peer}")
def test_a_cell_runs_and_both_sides_do_the_same(cell: Cell, workshop: Workshop) -> None:
    missing = why_not(cell, {})
    if missing:
        pytest.skip(missing)
    with cell.open(cell, workshop) as sides:
        found = sides if isinstance(sides, Amounts) else measure(sides, SHORT)
    assert result_of(cell, found).ratio > 0


# --- the command ------------------------------------------------------------------------


def bench(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arenads", "bench", *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **more,  # type: ignore[call-overload]
    )


def test_a_terminal_shows_how_far_a_run_is_and_what_is_left() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    words = ["bench", "--quick", "--only", "python.sharedarray.get"]
    with subprocess.Popen(
        [sys.executable, "-m", "arenads", *words],
        env=child_environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the end: nobody has the terminal any more
            while part := os.read(ours, 65536):
                drawn += part
    os.close(ours)
    assert child.returncode == 0, drawn
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawn.decode()).splitlines()
    assert any(
        re.search(r"━ 1/1 \d:\d\d:\d\d python\.sharedarray\.get.*…$", line) for line in lines
    )


def test_the_list_has_every_name() -> None:
    done = bench("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert {cell.name for cell in all_cells()} <= set(done.stdout.split())


def test_a_name_that_is_none_is_told_without_a_traceback() -> None:
    done = bench("--only", "bpf.hashmap.nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arenads: expected the name of a cell, found 'bpf.hashmap.nons")


def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    start = time.monotonic()
    done = bench("--json", tmp_path / "absent" / "results.json")
    assert time.monotonic() - start < 60  # the whole run takes far longer
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"arenads: {tmp_path}/absent/results.json: No such file or directory\n"


def test_without_capabilities_what_needs_them_is_left_out_with_the_reason(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    done = bench("--only", "bpf.hashmap.lookup_hit", "--json", place, preexec_fn=drop_capabilities)
    assert done.returncode == 1, done.stderr  # nothing at all was measured
    assert "Traceback" not in done.stderr
    assert "bpf.hashmap.lookup_hit" in done.stderr and "CAP_BPF" in done.stderr
    report = msgspec.json.decode(place.read_bytes(), type=Report)
    assert report.cells == [] and all("CAP_BPF" in each.reason for each in report.skipped)


@pytest.mark.kernel
def test_an_interrupted_run_shows_its_table(eventually: Callable[..., None]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "arenads", "bench", "--only", "bpf.hashmap", "--json", "-"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control starts its children deaf to it, and so may we be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    maps = Path(f"/proc/{child.pid}/maps")
    eventually(lambda: "anon_inode:bpf-map" in maps.read_text())  # it has begun to measure
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGINT, errors
    assert "Traceback" not in errors and "interrupted" in errors, errors
    assert json.loads(output)["complete"] is False
