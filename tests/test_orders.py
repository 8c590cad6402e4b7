"""Memory orders: the table in orders.h, the headers' labels, and what the compilers emit."""

from __future__ import annotations

import re
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from arenads.compiler import include_dir

HEADERS = include_dir() / "arenads"

# --- the table and the labels -----------------------------------------------------------------


class Use(NamedTuple):
    """One operation that orders, and where it is."""

    label: str
    operation: str
    file: str
    function: str


# Which letters the labels of an operation may have. A read-modify-write orders both ways.
LETTERS = {
    "load_acquire": "A",
    "store_release": "R",
    "fence_acquire": "F",
    "store_release_own": "R",
    "cas": "RA",
    "xchg": "RA",
    "add": "RA",
}
ORDERING = re.compile(r"\bads_(" + "|".join(LETTERS) + r")\s*\(")
NOT_CODE = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
FUNCTION = re.compile(r"(\w+)\s*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\s*$")


def blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


class Source:
    """One header: its code without comments, and its comments by line."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        text = path.read_text()
        self.starts = [0, *(found.end() for found in re.finditer("\n", text))]
        # Comments by their first line, and those that have lines of their own by their last.
        self.beside: dict[int, str] = {}
        self.above: dict[int, str] = {}
        for found in NOT_CODE.finditer(text):
            if found[0][0] == "/":
                first, last = self.line(found.start()), self.line(found.end() - 1)
                if text[self.starts[first] : found.start()].strip(" \t") == "":
                    self.above[last] = found[0]
                self.beside[first] = self.beside.get(first, "") + found[0]
        code = NOT_CODE.sub(lambda found: blank(found[0]), text)
        self.macros = list(MACRO.finditer(code))
        self.code = DIRECTIVE.sub(lambda found: blank(found[0]), code)
        self.with_macros = code

    def line(self, at: int) -> int:
        return bisect_right(self.starts, at) - 1

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Name, begin and end of each function's body, and of each macro."""
        depth, begin, name = 0, 0, ""
        for found in re.finditer(r"[{};]", self.code):
            at = found.start()
            if found[0] == "{":
                if depth == 0:
                    head = FUNCTION.search(self.code, begin, at)
                    name, begin = head[1] if head else "", at
                depth += 1
            elif found[0] == "}":
                depth -= 1
                if depth == 0:
                    if name:
                        yield name, begin, at
                    begin = at + 1
            elif depth == 0:
                begin = at + 1
        for macro in self.macros:
            yield macro[1], macro.start(), macro.end()

    def end_of_call(self, at: int) -> int:
        depth = 0
        for found in re.finditer(r"[()]", self.with_macros[at:]):
            depth += 1 if found[0] == "(" else -1
            if depth == 0:
                return at + found.start()
        raise AssertionError(f"{self.name}: parentheses do not match")

    def operations(self) -> Iterator[tuple[str, str, str, int]]:
        """Each ordering operation: its name, its function, the comments at it, its line."""
        for function, begin, end in self.functions():
            for found in ORDERING.finditer(self.with_macros, begin, end):
                before = self.with_macros[begin : found.start()]
                start = begin + max(before.rfind(mark) for mark in ";{}") + 1
                while self.with_macros[start] in " \t\n\\":
                    start += 1
                last = self.end_of_call(found.start())
                if found[1] == "add" and self.is_dropped(start, found.start(), last):
                    continue
                line = self.line(found.start())
                comments = [self.beside.get(i, "") for i in range(line, self.line(last) + 1)]
                comments += [self.above.get(self.line(start) - 1, ""), self.above.get(line - 1, "")]
                yield found[1], function, " ".join(comments), line + 1

    def is_dropped(self, start: int, at: int, last: int) -> bool:
        """Whether a call is a statement of its own, so that nobody sees its result."""
        before, groups = self.with_macros[start:at], 1
        while groups:
            before, groups = re.subn(r"\([^()]*\)", "", before)
        # What is left of the head of a `for` loop, which has semicolons.
        before = before.rpartition(")")[2]
        after = self.with_macros[last + 1 :].lstrip(" \t\n\\")
        return after[:1] == ";" and before.split() in ([], ["if"], ["else"], ["else", "if"])


def labelled_operations(headers: Path) -> tuple[Counter[Use], list[str]]:
    """What the code says, and what is wrong with it."""
    uses: Counter[Use] = Counter()
    problems = []
    for path in sorted(headers.glob("*.h")):
        if path.name == "atomic.h":
            continue  # the door itself
        source = Source(path)
        raw = re.search(
            r"__ATOMIC_(?!RELAXED)\w+|__sync_\w+|\basm\b[^;]*\bfence", source.with_macros
        )
        if raw:
            problems.append(f"{path.name}: {raw[0]} goes past atomic.h")
        for operation, function, comments, line in source.operations():
            place = f"{path.name}:{line}: ads_{operation} in {function}"
            labels = set(re.findall(rf"\b([{LETTERS[operation]}]\d+)\b", comments))
            numbers = {label[1:] for label in labels}
            if not labels:
                problems.append(f"{place} has no label {LETTERS[operation][0]}n")
            for partner in re.findall(r"pairs? with [RAF](\d+)", comments):
                if partner not in numbers:
                    problems.append(f"{place} names number {partner}, and is {sorted(numbers)}")
            kind = operation.split("_")[0]
            uses.update(Use(label, kind, path.name, function) for label in labels)
    return uses, problems


def table_of_orders(headers: Path) -> tuple[Counter[Use], list[str]]:
    """What the table says, and what is wrong with it."""
    uses: Counter[Use] = Counter()
    problems = []
    rows: dict[str, set[str]] = {}
    reasons: set[str] = set()
    number = ""
    for line in (headers / "orders.h").read_text().splitlines():
        if head := re.match(r" \* (\d+)  \S", line):
            number = head[1]
            if number in rows:
                problems.append(f"orders.h: number {number} stands for two words")
            rows[number] = set()
        elif row := re.match(r" \*\t([RAF])(\d+) +(\w+) +([\w.]+): (.+)", line):
            letter, own, kind, file, functions = row.groups()
            if own != number:
                problems.append(f"orders.h: {letter}{own} stands under {number}")
            rows.setdefault(own, set()).add(letter)
            for function in functions.split(", "):
                name = re.fullmatch(r"(\w+)(?: \((\d+)\))?", function)
                assert name, line
                uses[Use(letter + own, kind, file, name[1])] += int(name[2] or 1)
        elif "Without it" in line:
            reasons.add(number)
    for number, letters in rows.items():
        if "R" not in letters or not letters & {"A", "F"}:
            problems.append(f"orders.h: {number} has no partner, only {sorted(letters)}")
        if number not in reasons:
            problems.append(f"orders.h: {number} does not say what goes wrong without it")
    return uses, problems


def problems_of(headers: Path) -> list[str]:
    code, problems = labelled_operations(headers)
    table, more = table_of_orders(headers)
    problems += more
    for use in sorted(code.keys() | table.keys()):
        if code[use] != table[use]:
            problems.append(f"{use}: {code[use]} in the code, {table[use]} in the table")
    return problems


def test_the_table_and_the_labels_in_the_headers_agree() -> None:
    assert problems_of(HEADERS) == []


def test_the_parser_finds_what_is_there() -> None:
    uses, _ = labelled_operations(HEADERS)
    assert uses[Use("R4", "store", "queue.h", "ads_queue_push")] == 1
    assert uses[Use("F13", "fence", "list.h", "ads_scan_step")] == 2
    text = "".join(path.read_text() for path in HEADERS.glob("*.h") if path.name != "atomic.h")
    assert uses.total() >= len(re.findall(r"= ads_load_acquire\(", text)) > 20


MUTATIONS = {
    "an acquire without a label": (
        "list.h",
        "ads_load_acquire(ads_link_of(a, at)); /* A3, pairs with R3 */",
        "ads_load_acquire(ads_link_of(a, at));",
        "ads_load_acquire in ads_walk_enter has no label",
    ),
    "a release without a label": (
        "queue.h",
        "tail + 1); /* R4. Commit. */",
        "tail + 1); /* Commit. */",
        "ads_store_release in ads_queue_push has no label",
    ),
    "a compare-and-swap without a label": (
        "list.h",
        "		/* Commit of delete. R3. */\n",
        "",
        "ads_cas in ads_list_delete_from has no label",
    ),
    "a fence without a label": (
        "list.h",
        "/* F13: the loads above are done before the check below */",
        "/* the loads above are done before the check below */",
        "ads_fence_acquire in ads_walk_look has no label",
    ),
    "a label of a line above": (
        "alloc.h",
        "ads_load_acquire(&shard->free);    /* A2 */",
        "ads_load_acquire(&shard->free);",
        "ads_load_acquire in ads_pool_used has no label",
    ),
    "a count whose result is looked at": (
        "queue.h",
        "	ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */",
        "	slots = ads_add(&ring->tail, 1);",
        "ads_add in ads_queue_push has no label",
    ),
    "a label that the table does not know": (
        "queue.h",
        "/* R4. Commit. */",
        "/* R99. Commit. */",
        "Use(label='R99', operation='store', file='queue.h', function='ads_queue_push'): 1 in the",
    ),
    "the label of another pair": (
        "queue.h",
        "/* A4, pairs with R4: the record is whole */",
        "/* A5, pairs with R4: the record is whole */",
        "ads_load_acquire in ads_queue_pop names number 4, and is ['5']",
    ),
    "a release that became a plain store": (
        "queue.h",
        "ads_store_release(&ring->head, head + 1); /* R5. Commit. */",
        "ads_store(&ring->head, head + 1); /* R5. Commit. */",
        "Use(label='R5', operation='store', file='queue.h', function='ads_queue_pop'): 0 in the",
    ),
    "an acquire that became a plain load": (
        "table.h",
        "ads_load_acquire(&h->table)",
        "ads_load(&h->table)",
        "Use(label='A6', operation='load', file='table.h', function='ads_table_newest'): 0 in the",
    ),
    "a fence that went away": (
        "list.h",
        "	ads_fence_acquire(); /* F13: the value's words before the link again */\n",
        "",
        "Use(label='F13', operation='fence', file='list.h', function='ads_list_copy_value'): 0 in",
    ),
    "a row that went away": (
        "orders.h",
        " *	A8   load    directory.h: ads_directory\n",
        "",
        "orders.h: 8 has no partner, only ['R']",
    ),
    "a row without a release": (
        "orders.h",
        " *	R4   store   queue.h: ads_queue_push\n",
        "",
        "orders.h: 4 has no partner, only ['A']",
    ),
    "a number that is used twice": (
        "orders.h",
        " * 5  ring.head:",
        " * 4  ring.head:",
        "orders.h: number 4 stands for two words",
    ),
    "a row under another number": (
        "orders.h",
        " *	A5   load    queue.h:",
        " *	A4   load    queue.h:",
        "orders.h: A4 stands under 5",
    ),
    "a pair without a reason": (
        "orders.h",
        " *	Without it the consumer copies a slot before its record is there.\n",
        "",
        "orders.h: 4 does not say what goes wrong without it",
    ),
    "an order that goes past the door": (
        "layout.h",
        "__atomic_store_n(&a->limit, populated, __ATOMIC_RELAXED)",
        "__atomic_store_n(&a->limit, populated, __ATOMIC_RELEASE)",
        "layout.h: __ATOMIC_RELEASE goes past atomic.h",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_kind_of_mistake_is_found(mutation: str, tmp_path: Path) -> None:
    file, old, new, found = MUTATIONS[mutation]
    headers = tmp_path / "arenads"
    shutil.copytree(HEADERS, headers)
    text = (headers / file).read_text()
    assert text.count(old) == 1, "the mutation has no place any more"
    (headers / file).write_text(text.replace(old, new))
    problems = problems_of(headers)
    assert any(found in problem for problem in problems), problems
