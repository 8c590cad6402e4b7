"""What the benchmark writes: the page, the Markdown tables, and reports that are read again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from conftest import TESTS, child_environment

from arenads.bench import goals, groups, html, latency, machine, markdown, saved
from arenads.bench.cell import Sides
from arenads.bench.report import Report, Result, Skipped, how
from arenads.bench.run import encode
from arenads.errors import SchemaError
from arenads.replacing import check_replaceable, replacing, write_whole

HOSTILE = '<script>alert("x")</script>$\\frac|`*_&\x1b\x00'


def result(name: str, ratio: float = 2.0, **more: object) -> Result:
    values: dict[str, object] = {
        "entries": 1000,
        "key_size": 8,
        "value_size": 8,
        "cpus": 1,
        "distribution": "uniform",
        "concurrent": "",
        "unit": "ns",
        "peer": "hash",
        "low": 0.9 * ratio,
        "high": 1.1 * ratio,
        "winner": "ours" if ratio > 1.2 else "peer" if ratio < 0.8 else "none",
        "ours_ns": 10.0,
        "peer_ns": 10.0 * ratio,
        "ours_rounds_ns": [10.0, 11.0, 9.0],
        "peer_rounds_ns": [10.0 * ratio] * 3,
    }
    if more.get("unit") == "bytes":
        values |= {"ours_ns": None, "peer_ns": None, "ours_bytes": 1 << 20}
        values |= {"peer_bytes": int(ratio * (1 << 20)), "low": ratio, "high": ratio}
    return msgspec.convert({"name": name, "ratio": ratio, **values, **more}, Result)


TIMED = latency.Latency(
    batch=16,
    batches=4096,
    levels=latency.LEVELS,
    ours_ns=tuple(float(10 + number) for number in range(len(latency.LEVELS))),
    peer_ns=tuple(float(20 + number) for number in range(len(latency.LEVELS))),
)
CELLS = [
    result("bpf.hashmap.lookup_hit", latency=TIMED),
    result("bpf.hashmap.lookup_hit", 3.0, entries=1_000_000, latency=TIMED),
    result("bpf.hashmap.lookup_hit", 0.5, entries=10_000, cpus=2),
    result("bpf.hashmap.lookup_hit", 1.01, value_size=64),
    result("bpf.hashmap.lookup_hit", 0.7, entries=1_000_000, peer="hash, not preallocated"),
    result("c.array.lookup", 0.25, entries=0, peer="mapped array", distribution=""),
    result("memory.hashmap.fill_0", 50.0, unit="bytes", entries=10),
    result("memory.hashmap.fill_100", 0.5, unit="bytes", entries=10),
    result("memory.hashmap.fill_100", 0.0, unit="bytes", entries=10, peer="nothing"),
    result("memory.hashmap.create", 7.0, entries=10),
    result("whatever", 1.5, entries=0, key_size=0, value_size=0),
]


def report(cells: list[Result] = CELLS, **more: object) -> Report:
    values: dict[str, object] = {
        "machine": machine.describe(),
        "quick": True,
        "complete": True,
        "rounds": 3,
        "seconds": 1.5,
        "cells": cells,
        "skipped": [],
        "command": "arenads bench --quick",
        "started": "2030-01-01 00:00 UTC",
    }
    return Report(**{**values, **more})  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a page has, and whether each element that is opened is closed."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


@pytest.fixture(scope="module")
def text() -> str:
    return html.page(report())


# --- the page ---------------------------------------------------------------------------


def test_the_page_loads_nothing(text: str) -> None:
    page = Page(text)
    assert re.findall(r"https?:|//[a-z]|@import", text) == []
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == 0
    assert page.values("src") == []
    assert all(value.startswith("#") for value in page.values("href"))
    assert all("url(#" in each for each in re.findall(r".{0}url\(.{2}", text))


def test_the_page_is_well_formed_and_its_identifiers_are_its_own(text: str) -> None:
    page = Page(text)
    assert page.open == []
    names = page.values("id")
    assert [name for name, count in Counter(names).items() if count > 1] == []
    used = [value[1:] for value in page.values("href")]
    used += re.findall(r"url\(#([^)]*)\)", text)
    assert set(used) <= set(names)


def test_each_plot_has_words_for_those_who_do_not_see_it(text: str) -> None:
    page = Page(text)
    described = [
        value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")
    ]
    assert len(described) == page.tags["svg"] > 5
    assert all(described)


def test_each_cell_is_in_the_plots_and_in_the_tables(text: str) -> None:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.S)
    tips = " ".join(re.findall(r"<title>(.*?)</title>", text))
    for each in CELLS:
        cells = [
            row for row in rows if f"<td>{each.name}</td>" in row and f"<td>{each.peer}</td>" in row
        ]
        assert any(f"{each.ratio:.2f}" in row or f"{each.ratio:.1f}" in row for row in cells), each
        assert each.name in tips and each.peer in tips


def test_losses_come_before_all_tables_the_worst_first(text: str) -> None:
    start = text.index('id="losses"')
    table = text[start : text.index("</table>", start)]
    assert re.findall(r"<td>([a-z]+\.[a-z_.0-9]+)</td>", table) == [
        "memory.hashmap.fill_100",
        "c.array.lookup",
        "bpf.hashmap.lookup_hit",
        "memory.hashmap.fill_100",
        "bpf.hashmap.lookup_hit",
    ]
    assert "5 of 11 cells" in text


def test_the_page_says_on_what_and_how_it_was_measured(text: str) -> None:
    found = machine.describe()
    for fact in (
        f"Linux {found.kernel}",
        found.bpf_compiler,
        found.python,
        "arenads bench --quick",
    ):
        assert fact in text
    assert "2030-01-01" in text


def test_percentiles_are_drawn_where_there_are_any_and_rounds_elsewhere(text: str) -> None:
    assert "99.9 % took at most" in text and "4,096 of 16" in text
    without = [msgspec.structs.replace(each, latency=None) for each in CELLS]
    assert "a round of" in html.page(report(without))


def test_names_are_text_on_the_page_and_in_the_plots() -> None:
    cells = [
        result(f"bpf.{HOSTILE}.lookup", peer=HOSTILE, concurrent=HOSTILE),
        result(HOSTILE, peer=HOSTILE, distribution=HOSTILE, latency=TIMED),
    ]
    page = html.page(report(cells, command=HOSTILE, started=HOSTILE))
    found = Page(page)
    assert found.tags["script"] == 0 and found.open == []
    assert "&lt;script&gt;" in page and "\x1b" not in page and "\x00" not in page


def test_a_report_without_cells_is_a_page_that_says_why() -> None:
    missed = Skipped(
        name="test.cell",
        entries=1,
        key_size=8,
        value_size=8,
        cpus=1,
        distribution="",
        concurrent="",
        peer="hash",
        failed=False,
        reason="needs <more>",
    )
    text = html.page(report([], skipped=[missed]))
    assert "needs &lt;more&gt;" in text and Page(text).open == []


@pytest.mark.parametrize(
    ("name", "peer", "cpus", "goal"),
    [
        ("bpf.ring.reserve_submit", "ring buffer, no wake-ups", 1, 8),
        ("bpf.ring.reserve_submit", "ring buffer", 2, 2),
        ("bpf.mpmc.push", "ring buffer", 1, 2),
        ("bpf.queue.out", "ring buffer", 1, 8),
        ("bpf.ring.in", "user ring buffer", 1, 5),
        ("bpf.ring.out", "perf buffer", 1, 8),
        ("bpf.ring.out", "floor: plain memory", 1, None),
    ],
)
def test_goals_of_messages_are_those_of_their_producers(
    name: str, peer: str, cpus: int, goal: float | None
) -> None:
    assert goals.goal_of(result(name, entries=0, peer=peer, cpus=cpus)) == goal


def test_goals_are_those_of_the_cells_size_and_peer() -> None:
    assert goals.goal_of(result("bpf.hashmap.lookup_hit", entries=10_000)) == 1.3
    assert goals.goal_of(result("bpf.hashmap.lookup_hit", entries=100_000, key_size=40)) == 1.2
    assert goals.goal_of(result("bpf.hashmap.lookup_hit", key_size=40)) is None
    assert goals.goal_of(result("python.hashmap.snapshot", peer="bpf(), batches")) == 10
    assert goals.goal_of(result("c.array.lookup", peer="mapped array")) is None


def test_a_goal_may_leave_time_to_spare() -> None:
    # Twice the copy of a million records and 20 ms: 20 ns for each.
    name = "python.hashmap.snapshot_arrow"
    assert goals.goal_of(result(name, peer="floor: memcpy", peer_ns=10.0)) == 10 / (2 * 10 + 20)


# --- groups -----------------------------------------------------------------------------


def test_every_cell_is_in_one_section_once() -> None:
    found = [each for group in groups.sections(CELLS) for each in group.cells]
    assert sorted(map(repr, found)) == sorted(map(repr, CELLS))
    first = groups.sections(CELLS)[0]
    assert first.title == "Hash map, in BPF"
    assert all(how(each) == "" and each.value_size == 8 for each in first.plain)
    assert len(first.varied) == 2


def test_cells_without_entries_are_compared_over_the_bytes_of_records() -> None:
    cells = [
        result("bpf.ring.push", 2.0, entries=0, key_size=0, value_size=size, peer="ring buffer")
        for size in (16, 64)
    ]
    (group,) = groups.sections(cells)
    assert group.plain == cells and [group.at(each) for each in cells] == [16, 64]
    assert "| operation | peer | 16 bytes | 64 bytes |" in markdown.markdown(report(cells))


# --- percentiles ------------------------------------------------------------------------


def test_both_sides_of_a_latency_do_batches_of_the_same_size() -> None:
    seen: set[int] = set()

    def side(operations: int) -> int:
        seen.add(operations)
        return 3 * operations

    found = latency.latency(Sides(ours=side, peer=side, step=5), batches=1000)
    assert found is not None and seen == {20} and found.batch == 20
    assert set(found.ours_ns) == set(found.peer_ns) == {3.0}


def test_sides_that_do_thousands_at_once_have_no_latency() -> None:
    assert latency.latency(Sides(ours=int, peer=int, step=1000)) is None
    assert latency.latency(Sides(ours=int, peer=int, most=8)) is None


def test_percentiles_are_values_that_were_found() -> None:
    values = [float(number) for number in range(1, 2001)]
    assert latency.percentiles(values) == (20, 200, 500, 1000, 1500, 1800, 1900, 1980, 1990, 1998)


# --- Markdown ---------------------------------------------------------------------------


def test_markdown_shows_what_is_ahead_by_less_than_its_goal() -> None:
    name = "bpf.hashmap.insert"
    cells = [
        result(name, ratio=1.2, entries=10_000),
        result(name, ratio=4.0, entries=100_000),
        result(name, ratio=3.5, entries=100_000, cpus=2),
        result(name, ratio=3.7, entries=100_000, cpus=2, value_size=64),
    ]
    assert [(each.entries, each.cpus, goal) for each, goal in goals.shortfalls(cells)] == [
        (10_000, 1, 1.5),
        (100_000, 2, 3.6),
    ]
    text = markdown.markdown(report(cells))
    assert "less than this project wants" in text
    assert "less than this project wants" not in markdown.markdown(report(cells[1:2]))


def test_markdown_tables_show_both_sides_and_losses_in_bold() -> None:
    text = markdown.markdown(report())
    lost, _, rest = text.partition("### Hash map, in BPF")
    assert "| c.array.lookup | mapped array | 8/8 |  | **2.50 / 10.0 = 0.25** |" in lost
    assert "| lookup_hit | hash | 8/8 | 20.0 / 10.0 = 2.00 | 30.0 / 10.0 = 3.00 |" in rest
    assert "**7.00 / 10.0 = 0.70**" in rest
    assert "| lookup_hit | hash | 8/8 2 CPUs | 0.50 | 0.50 | 0.50 | **1 of 1** |" in rest
    assert "50.0 MiB / 1.00 MiB = 50.0" in rest


def test_the_page_and_the_tables_miss_the_same_goals() -> None:
    cells = [
        result("bpf.hashmap.lookup_hit", 3.0, entries=10_000),
        result("bpf.hashmap.lookup_hit", 2.5, entries=10_000, cpus=2),
        result("bpf.hashmap.insert", 1.4),
        result("bpf.hashmap.insert", 1.6, value_size=64),
    ]
    missed = re.findall(r"<td>([\d.]+) MISSED</td>", html.page(report(cells)))
    wanted = [goal for _, goal in goals.shortfalls(cells)]
    assert sorted(map(float, missed)) == sorted(wanted) == [1.5, pytest.approx(2.7)]
    text = markdown.markdown(report(cells))
    assert text[text.index("Ahead, but") : text.index("### Hash map")].count("bpf.hashmap") == 2


def test_who_reproduces_a_run_is_told_to_install_what_cells_need(text: str) -> None:
    told = re.search(r"pip install '\.\[(.*)\]'", text)
    assert told
    declared = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    installed = " ".join(each for name in told[1].split(",") for each in extras[name])
    for package in ("ziglang", "lmdb", "UltraDict2", "arenads[numpy]", "matplotlib", "rich"):
        assert package in installed


def test_who_is_slower_than_a_floor_has_not_lost() -> None:
    floored = result("c.ring.consume", 0.4, peer="floor: plain memory")
    lost = result("c.ring.consume", 0.5)
    assert groups.losses([floored, lost]) == [lost]
    assert groups.summary([floored, lost]).startswith("Of 1 cells the arena is ahead in 0,")
    text = markdown.markdown(report([floored]))
    assert groups.ABOUT_FLOORS in text
    assert "In no cell." in text
    assert "**" not in text.replace("**bold**", "")


def test_all_rows_of_a_markdown_table_have_as_many_columns() -> None:
    cells = [*CELLS, result(f"bpf.a.{HOSTILE}", peer=HOSTILE)]
    for block in re.split(r"\n(?!\|)", markdown.markdown(report(cells))):
        widths = {
            len(re.findall(r"(?<!\\)\|", line)) for line in block.split("\n") if line[:1] == "|"
        }
        assert len(widths) <= 1, block


def test_results_go_between_the_marks_again_and_again(tmp_path: Path) -> None:
    place = tmp_path / "README.md"
    place.write_text(
        "a `<!-- results -->` of text\n<!-- results -->\nold\n<!-- /results -->\nend\n"
    )
    for _ in range(2):
        markdown.write_between_marks(str(place), "new\n")
    assert place.read_text() == (
        "a `<!-- results -->` of text\n<!-- results -->\nnew\n<!-- /results -->\nend\n"
    )


def test_a_file_without_the_marks_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "mine.md"
    place.write_text("mine")
    with pytest.raises(markdown.MarksError, match=r"found none; or give the name of a new file"):
        markdown.check_target(str(place))
    assert place.read_text() == "mine"
    markdown.write_between_marks(str(tmp_path / "new.md"), "text\n")
    markdown.write_between_marks(str(tmp_path / "new.md"), "again\n")
    assert "again" in (tmp_path / "new.md").read_text()


# --- reports that are read again ----------------------------------------------------------


def test_a_saved_report_is_read_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    place.write_bytes(encode(report()))
    assert saved.read(str(place)) == report()


def test_a_report_of_before_there_were_percentiles_is_read(tmp_path: Path) -> None:
    found = json.loads(encode(report()))
    for name in ("command", "started"):
        del found[name]
    for each in found["cells"]:
        each.pop("latency", None)
    place = tmp_path / "results.json"
    place.write_text(json.dumps(found))
    assert len(saved.read(str(place)).cells) == len(CELLS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": "much"}, "Expected `float`"),
        ({"ratio": -1.0, "low": -2.0}, "expected a ratio as ratio"),
        ({"ratio": 0.0, "low": 0.0}, "expected a ratio"),
        ({"low": 5.0}, "expected 2.0 between 5.0"),
        ({"ours_ns": None}, "expected the ns of both sides, found None"),
        ({"ours_ns": -3.0}, "expected the ns of both sides"),
        ({"unit": "bytes"}, "expected the bytes of both sides"),
        ({"unit": "miles"}, "Invalid enum value"),
        ({"entries": -1}, "expected a count as entries"),
        ({"entries": 1 << 60}, "expected a count as entries"),
        ({"name": "x" * 1000}, "expected names of up to"),
        ({"ours_rounds_ns": [-1.0]}, "expected nanoseconds"),
        (
            {"latency": {"batch": 1, "batches": 1, "levels": [0.5], "ours_ns": [], "peer_ns": []}},
            "as many percentiles as levels",
        ),
        (
            {"latency": {"batch": 1, "batches": 1, "levels": [1], "ours_ns": [1], "peer_ns": [1]}},
            "levels between 0 and 1",
        ),
    ],
)
def test_what_cannot_be_in_a_report_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    found = json.loads(encode(report([result("bpf.hashmap.insert")])))
    found["cells"][0].update(change)
    place = tmp_path / "results.json"
    place.write_text(json.dumps(found))
    with pytest.raises(saved.SavedReportError, match=re.escape(message)) as caught:
        saved.read(str(place))
    assert caught.value.path == str(place)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff\x00", b"[" * 100_000, b'{"version": 2}', b'{"ratio": 1e999}']
)
def test_what_is_no_report_is_refused(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "results.json"
    place.write_bytes(data)
    with pytest.raises(saved.SavedReportError, match="expected what `arenads bench --json` writes"):
        saved.read(str(place))


def test_a_report_of_a_later_form_says_so(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    place.write_bytes(encode(msgspec.structs.replace(report(), version=2)))
    with pytest.raises(saved.SavedReportError, match="expected version 1, found 2"):
        saved.read(str(place))


# --- files that are replaced --------------------------------------------------------------


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(place)
    with pytest.raises(ZeroDivisionError), replacing(str(link)) as partial:
        Path(partial).write_text("half")
        raise ZeroDivisionError
    assert place.read_text() == "old"
    write_whole(str(link), b"new")
    assert place.read_text() == "new" and link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    write_whole(str(tmp_path / "one"), b"")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_check_changes_nothing_and_refuses_what_is_no_file(tmp_path: Path) -> None:
    check_replaceable(str(tmp_path / "new"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(SchemaError, match="/dev/null: expected a file to write to"):
        check_replaceable("/dev/null")
    with pytest.raises(OSError) as caught:
        check_replaceable(str(tmp_path / "absent" / "file"))
    assert caught.value.filename == str(tmp_path / "absent" / "file")


# --- the command ------------------------------------------------------------------------


def bench(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arenads", "bench", *map(str, arguments)],
        env={**child_environment(), **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    place = tmp_path / "results.json"
    place.write_bytes(encode(report(complete=False)))
    return place


def test_a_saved_report_becomes_a_page_without_measuring(results: Path, tmp_path: Path) -> None:
    page, tables = tmp_path / "page.html", tmp_path / "tables.md"
    done = bench("--from", results, "--html", page, "--markdown", tables)
    assert done.returncode == 0, done.stderr
    assert "bpf.hashmap.lookup_hit" in done.stdout and "interrupted" in done.stderr
    assert Page(page.read_text()).open == []
    assert "### Hash map, in BPF" in tables.read_text()


@pytest.mark.parametrize("option", ["--html", "--markdown", "--json"])
def test_a_file_that_cannot_be_made_is_told_before_measuring(option: str, tmp_path: Path) -> None:
    start = time.monotonic()
    done = bench(option, tmp_path / "absent" / "file")
    assert time.monotonic() - start < 60  # the whole run takes far longer
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"arenads: {tmp_path}/absent/file: No such file or directory\n"


def test_a_page_does_not_take_the_place_of_a_device() -> None:
    done = bench("--html", "/dev/null")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "arenads: /dev/null: expected a file to write to, found something else\n"


def test_without_matplotlib_a_page_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    done = bench("--html", tmp_path / "page.html", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arenads: plots need matplotlib: pip install 'arenads[plots]'")
    assert not (tmp_path / "page.html").exists()


def test_from_measures_nothing_so_it_goes_without_what_chooses_cells(results: Path) -> None:
    done = bench("--from", results, "--quick")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--from measures nothing" in done.stderr


def test_a_damaged_report_is_told_without_a_traceback(results: Path) -> None:
    results.write_bytes(results.read_bytes()[:500])
    done = bench("--from", results)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"arenads: {results}: expected what `arenads bench --json` writes"
    )
    assert "Traceback" not in done.stderr
