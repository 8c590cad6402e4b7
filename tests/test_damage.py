"""Damaged arenas: every operation ends, with an error of ours, inside the arena; see fuzz.c.

The headers are compiled as they are. Then the fuzzer itself is tested: on copies of the
headers that trust the memory in one place each, it must find that place. Last, what Python
makes of damaged arenas.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import arenads
from arenads import compiler

SOURCE = Path(__file__).with_name("fuzz.c")
RUN = """\
import ctypes, sys
words = [word.encode() for word in sys.argv[2:]]
sys.exit(ctypes.CDLL(sys.argv[1]).fuzz(len(words), (ctypes.c_char_p * len(words))(*words)))
"""
TOTAL = re.compile(r"^total: (\d+) images, (\d+) calls, 0 failures", re.MULTILINE)
# Traps need no runtime library: undefined behaviour is a signal, which names the seed.
TRAPS = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]


def build(directory: Path, *flags: str, include_dir: Path | None = None) -> Path:
    return compiler.compile_shared(
        SOURCE,
        directory / "fuzz.so",
        include_dirs=[] if include_dir is None else [include_dir],
        flags=["-O1", "-g1", *flags],
    )


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may crash."""
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=3000, check=False
    )


def run_library(library: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", RUN, library, *words)


def images(result: subprocess.CompletedProcess[str]) -> int:
    """How many damaged images were survived; fails with the seeds of those that were not."""
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-20_000:]
    found = TOTAL.search(result.stdout)
    assert found, result.stdout
    print(result.stdout)
    return int(found[1])


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fuzz"), *TRAPS)


def test_operations_on_damaged_memory_end_with_a_code_and_stay_inside(fuzzer: Path) -> None:
    assert images(run_library(fuzzer, "--count", 30_000)) == 30_000


def test_a_seed_does_the_same_again(fuzzer: Path) -> None:
    once, again = (run_library(fuzzer, "--first", 64, "--count", 500).stdout for _ in range(2))
    assert once.split("total:")[0] == again.split("total:")[0]


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(1_066_920, id="an update walks a whole budget again and again"),
        pytest.param(1_173_849, id="the spare entry of an MPMC ring is anywhere"),
        pytest.param(1_232_424, id="the spare entry of an MPMC ring is behind what is populated"),
    ],
)
def test_images_that_did_harm_once_do_none(fuzzer: Path, seed: int) -> None:
    assert images(run_library(fuzzer, "--first", seed, "--count", 1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("million", range(1, 5))
def test_millions_of_damaged_images_change_nothing(fuzzer: Path, million: int) -> None:
    """Seeds that the quick test has not seen."""
    first = million * 1_000_000
    assert images(run_library(fuzzer, "--first", first, "--count", 1_000_000)) == 1_000_000


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer as a program under AddressSanitizer; skips where the compiler has none."""
    program = tmp_path_factory.mktemp("sanitized") / "fuzz"
    found = compiler.find_host_compiler()
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DFUZZ_MAIN"]
    result = run(
        *found.command, "-O1", "-g1", "-w", *flags, "-I", compiler.include_dir(), SOURCE,
        "-o", program,
    )  # fmt: skip
    if result.returncode or run(program, "--count", 1).returncode == 127:
        pytest.skip(f"{found.command[0]} has no AddressSanitizer here")
    return program


@pytest.mark.slow
def test_address_sanitizer_finds_nothing_in_damaged_memory(sanitized: Path) -> None:
    assert images(run(sanitized, "--first", 20_000_000, "--count", 500_000)) == 500_000


# --- the test of the test ---------------------------------------------------------------


@dataclass(frozen=True)
class Trust:
    """A check taken out of a copy of the headers; white space counts as one space."""

    name: str
    header: str
    check: str
    instead: str

    def __str__(self) -> str:
        return self.name


TRUSTS = (
    Trust(
        "a walk follows any link",
        "list.h",
        "if (ads_bad(a, w->entry, pool.stride)) return ADS_LOOK_DAMAGED;",
        "",
    ),
    Trust(
        "the newest table has room for every shortcut",
        "hashmap.h",
        "if (ads_bad(a, at, 8)) return ADS_DAMAGED; mine = ads_load(word);",
        "mine = ads_load(word);",
    ),
    Trust(
        "a scan follows any shortcut",
        "list.h",
        "w->start = w->entry & ~ADS_LINK_TAG;"
        " if (pool.life || ads_bad(a, w->start, 8)) return ADS_DAMAGED;",
        "w->start = w->entry & ~ADS_LINK_TAG;",
    ),
    Trust(
        "the free list leads to entries",
        "alloc.h",
        "if (ads_bad(a, entry, pool.stride)) return ADS_NOWHERE; if (ads_shard_helped",
        "if (ads_shard_helped",
    ),
    Trust(
        "the cursor is where it should be",
        "alloc.h",
        "cursor >= size || populated > size)",
        "0)",
    ),
    Trust(
        "the slots of a queue are where its header says",
        "queue.h",
        "slot = ads_queue_slot(a, ref, head); "
        "if (ads_bad(a, slot, ads_round_up(ref.value_size, 8)))",
        "slot = ads_queue_slot(a, ref, head); if (0)",
    ),
    Trust(
        "a sweep follows links round and round",
        "sweep.h",
        "} else if (++s->steps > s->most) {",
        "} else if (0) {",
    ),
    Trust(
        "a ring is as large as its header says",
        "ring.h",
        "|| ads_bad(a, ref.offset, sizeof(struct ads_ring) + size))",
        ")",
    ),
    Trust(
        "a record of a ring is as long as it says",
        "ring.h",
        "return bytes - 8 <= waiting - 8 ? bytes : 0;",
        "return bytes;",
    ),
    Trust(
        "the slots of an MPMC ring lead to entries",
        "mpmc.h",
        "if (entry && ads_bad(a, entry, ads_mpmc_pool(ref).stride)) break;",
        "",
    ),
    Trust(
        "a position of an MPMC ring has a slot",
        "mpmc.h",
        "if (ads_bad(a, at->slot, 8)) return ADS_DAMAGED;",
        "",
    ),
    Trust(
        "the populated mark is inside",
        "layout.h",
        "if (populated > a->size) return 0;",
        "",
    ),
    Trust(
        "a check follows free lists round and round",
        "check.h",
        "if (ads_bad(c->a, at, pool.stride) || (at != taken && ads_check_mark(c->freed, at))) {",
        "if (ads_bad(c->a, at, pool.stride)) {",
    ),
    Trust(
        "a check believes the sizes of blocks",
        "check.h",
        "if (!bytes || !ads_arena_reaches(c->a, at + bytes)) { ads_check_error",
        "if (!bytes) { ads_check_error",
    ),
    Trust(
        "a check of the heap believes where names lead",
        "check.h",
        "if (at >= c->a->size || at % ADS_LINE) return 0;",
        "",
    ),
    Trust(
        "a chunk word of an array leads to a chunk",
        "array.h",
        "if (ads_bad(a, element, ads_array_stride(ref.value_size))) return ads_count",
        "if (0) return ads_count",
    ),
    Trust(
        "the words of an array's chunks are there",
        "array.h",
        "if (ads_bad(a, ads_array_word(ref.offset, number), 8))",
        "if (0)",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("trust", TRUSTS, ids=str)
def test_the_fuzzer_finds_where_memory_is_trusted(trust: Trust, tmp_path: Path) -> None:
    headers = tmp_path / "include" / "arenads"
    shutil.copytree(compiler.include_dir() / "arenads", headers)
    path = headers / trust.header
    pattern = re.compile(r"\s+".join(map(re.escape, trust.check.split())))
    text, count = pattern.subn(lambda _: trust.instead, path.read_text())
    assert count == 1, f"the headers have changed: adapt {trust.check!r}"
    path.write_text(text)
    library = build(tmp_path, "-w", include_dir=headers.parent)
    result = run_library(library, "--count", 200_000)
    assert result.returncode != 0, result.stdout
    assert result.returncode < 0 or "FAILED: seed" in result.stdout, result.stdout + result.stderr


# --- Python -----------------------------------------------------------------------------

MAKE = """
import sys
import arenads
import msgspec
from arenads import Ptr, Str, u32, u64


class Pair(msgspec.Struct):
    a: u32
    b: u64


class Node(msgspec.Struct):
    data: u64
    next: Ptr["Node"] = 0


with arenads.create("1MiB", engine="native", populate="64KiB", provision=None) as arena:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=1000, initial_entries=1)
    names = arena.hashmap("names", key=Str[16], value=Pair, max_entries=20)
    recent = arena.list("recent", value=u64, max_entries=100)
    inbox = arena.queue("inbox", value=u64, max_entries=16)
    objects = arena.pool("objects", value=u64, max_entries=40)
    nodes = arena.pool("nodes", value=Node, max_entries=40)
    chain = [nodes.alloc(Node(i)) for i in range(8)]
    for here, following in zip(chain, chain[1:]):
        nodes.view(here).next = following
    seen = arena.set("seen", key=u64, max_entries=40)
    seen.update(range(10))
    trace = arena.ring("trace", max_entries=1024)
    recorder = arena.ring("recorder", max_entries=256, overwrite=True)
    slots = arena.array("slots", value=u64, max_entries=5000)
    jobs = arena.mpmc("jobs", value=u64, max_entries=16)
    for i in range(300):
        numbers[i] = i
    for i in range(0, 300, 3):
        del numbers[i]
    for i in range(20):
        names[f"name {i}"] = Pair(i, i)
        recent.push(i)
        objects.alloc(i)
        if i < 12:
            inbox.push(i)
            jobs.push(i)
        trace.push(bytes(i))
        recorder.push(bytes(i))
        slots[i * 200] = i
    arena.pin(sys.argv[1])
"""

USE = """
import functools, itertools, random, sys
import arenads
import msgspec
import pyarrow
from arenads import u32, u64


class Pair(msgspec.Struct):
    a: u32
    b: u64


pin, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
image = open(pin, "rb").read()
used = [at for at in range(64, len(image), 8) if any(image[at : at + 8])]
outcomes = {}


def attempt(function):
    try:
        function()
        outcome = "ok"
    except arenads.ArenadsError as error:
        assert str(error)
        outcome = type(error).__name__
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcome == "ok"


def damage(memory, draw):
    for _ in range(draw.choice([1, 2, 6, 40])):
        # The root, the first structures and their schemas lie at the front.
        at = draw.choice(used) if draw.random() < 0.5 else draw.choice(used[:150])
        word = int.from_bytes(memory[at : at + 8], "little")
        word = draw.choice([
            word ^ 1 << draw.randrange(64),
            word ^ 1 << draw.randrange(64),
            draw.getrandbits(64),
            word >> 32 << 32 | draw.choice(used),
            word & 0xFFFFFFFF | draw.getrandbits(32) << 32,
            int.from_bytes(image[(other := draw.choice(used)) : other + 8], "little"),
            0,
        ])
        memory[at : at + 8] = word.to_bytes(8, "little")


def see(structure, place):
    view = structure.view(place)
    assert repr(view)
    # Members as the schema in the arena says, which may be damaged too.
    for path in ("a", "value", "next.next.data"):
        attempt(lambda: repr(functools.reduce(member, path.split("."), view)))


def member(view, name):
    return getattr(view, name, None)


def export(structure):
    taken = structure.snapshot()
    assert len(list(taken)) == len(taken.array) == pyarrow.table(taken).num_rows


def use(structure, readonly):
    attempt(lambda: repr(structure))
    attempt(lambda: len(structure))
    attempt(structure.counters)
    if hasattr(structure, "check"):
        attempt(structure.check)
        attempt(lambda: structure.check(repair=True))
    if structure.kind_name == "hash map":
        attempt(lambda: list(itertools.islice(structure.items(), 5000)))
        key = "name 1" if structure.name == "names" else 1
        value = []
        attempt(lambda: value.append(structure.get(key)))
        attempt(lambda: key in structure)
        if value and value[0] is not None:
            attempt(lambda: structure.__setitem__(key, value[0]))
        attempt(lambda: structure.pop(key, None))
        keys = ["name 1", "name 77"] if structure.name == "names" else [1, 77]
        values = [Pair(1, 2)] * 2 if structure.name == "names" else [1, 2]
        attempt(lambda: structure.get_many(keys))
        attempt(lambda: structure.contains_many(keys))
        attempt(lambda: structure.update_many(keys, values))
        attempt(lambda: see(structure, keys[0]))
        attempt(lambda: export(structure))
        attempt(lambda: structure.delete_many(keys))
    elif structure.kind_name == "set":
        attempt(lambda: structure.contains_many([1, 77]))
        attempt(lambda: structure.update([1, 77]))
        attempt(lambda: export(structure))
        attempt(lambda: structure.delete_many([1, 77]))
    elif structure.kind_name == "list":
        attempt(lambda: list(itertools.islice(structure.items(), 5000)))
        attempt(lambda: export(structure))
        attempt(lambda: structure.push(1))
    elif structure.kind_name == "array":
        attempt(lambda: list(itertools.islice(structure, 5000)))
        attempt(lambda: structure[17])
        attempt(lambda: structure.add(-1, 1))
        attempt(lambda: structure.populated)
        attempt(lambda: structure.get_many([17, -1]))
        attempt(lambda: structure.update_many([17, -1], [1, 2]))
        attempt(lambda: see(structure, 17))
        attempt(lambda: export(structure))
    elif structure.kind_name in ("queue", "MPMC queue"):
        attempt(lambda: structure.push(1))
        attempt(lambda: structure.pop())
        attempt(lambda: structure.drain())
    elif structure.kind_name == "ring":
        attempt(lambda: list(structure.records()))
        attempt(lambda: structure.push(b"record"))
        attempt(structure.pop)
        attempt(structure.drain)
    elif structure.kind_name == "pool":
        made = []
        attempt(lambda: made.append(structure.alloc(1)))
        attempt(lambda: made.extend(itertools.islice((at for at, _ in structure.items()), 3)))
        for address in [*made, structure.arena.base + 0x8000, structure.arena.base + 0x8010]:
            attempt(lambda: structure[address])
            attempt(lambda: see(structure, address))
            attempt(lambda: structure.free(address))


def visit(seed):
    draw = random.Random(seed)
    memory = bytearray(image)
    damage(memory, draw)
    damaged = pin + ".damaged"
    with open(damaged, "wb") as file:
        file.write(memory)
    readonly = draw.random() < 0.25
    found = []
    if not attempt(lambda: found.append(arenads.open(damaged, readonly=readonly))):
        return
    with found[0] as arena:
        attempt(lambda: repr(arena))
        attempt(arena.statistics)
        names = []
        attempt(lambda: names.extend(itertools.islice(arena.structures, 100)))
        structures = []
        known = {"numbers", "names", "recent", "inbox", "objects", "slots", "jobs"}
        known |= {"trace", "recorder", "nodes", "seen"}
        for name in sorted({*names, *known}):
            attempt(lambda: structures.append(arena.structures[name]))
        for structure in structures:
            use(structure, readonly)
        attempt(lambda: arena.hashmap("numbers", key=u64, value=u64, max_entries=1000))
        attempt(lambda: arena.queue("another", value=u64, max_entries=4))
        attempt(lambda: arena.populate("128KiB"))


for seed in range(first, first + count):
    try:
        visit(seed)
    except BaseException:
        print("seed", seed, flush=True)
        raise
print(count, "images:", outcomes)
"""


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Path]:
    """A path in /dev/shm for a native arena; `pin.damaged` beside it is removed too."""
    place = Path("/dev/shm") / f"arenads-damage-{os.getpid()}-{tmp_path.name}"
    yield place
    for path in (place, Path(f"{place}.damaged")):
        path.unlink(missing_ok=True)


def test_python_says_of_damaged_arenas_that_they_are(
    python: Callable[..., subprocess.CompletedProcess[str]], pin: Path
) -> None:
    python(MAKE, pin)
    done = python(USE, pin, 0, 200)
    print(done.stdout)
    assert "DamagedError" in done.stdout


@pytest.mark.slow
def test_python_says_of_many_damaged_arenas_that_they_are(
    python: Callable[..., subprocess.CompletedProcess[str]], pin: Path
) -> None:
    python(MAKE, pin)
    for first in range(1000, 11_000, 1000):
        print(python(USE, pin, first, 1000).stdout)


CIRCLE = """
import arenads
from arenads import u64
from arenads._core import ffi, lib

with arenads.create("4MiB", engine="native", provision=None) as arena:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=1000, initial_entries=1000)
    numbers.update_many(range(500), range(500))
    entry, found = ffi.new("__u32 *"), []
    for key in range(500):
        assert not lib.core_hashmap_find(numbers._handle, key.to_bytes(8, "little"), entry)
        found.append((ffi.cast("__u64 *", arena.base + entry[0])[1], entry[0]))
    found.sort()

    def link(entry, to):
        words = ffi.cast("__u64 *", arena.base + entry)
        words[0] = words[0] >> 32 << 32 | to
        return words

    # What the last lane meets first says that it is of the first part, and leads to itself.
    last = min(each for each in found if each[0] >> 59 == 31)[1]
    before = max(each for each in found if each[0] >> 59 < 31)[1]
    link(before, 1)
    link(last, last)[1] = 1
    try:
        numbers.snapshot()
    except arenads.BudgetError:
        print("ended")
"""


def test_a_snapshot_of_entries_in_a_circle_ends(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert python(CIRCLE).stdout == "ended\n"


SHORTCUT = """
import arenads
from arenads import u32, u64
from arenads._core import ffi, lib

with arenads.create("1MiB", engine="native", provision=None) as arena:
    numbers = arena.orderedmap("numbers", key=u32, value=u64, max_entries=100)
    numbers.update_many(range(10), range(10))
    entry = ffi.new("__u32 *")
    assert not lib.core_orderedmap_find(numbers._handle, (3).to_bytes(4, "little"), entry)
    # To what would be a shortcut in a hash map, in the last word of the arena.
    word = ffi.cast("__u64 *", arena.base + entry[0])
    word[0] = word[0] >> 32 << 32 | arena.size - 8 | 1
    try:
        print(list(numbers))
    except arenads.DamagedError:
        print("damaged")
"""


def test_a_scan_looks_for_no_life_behind_what_is_no_entry(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert python(SHORTCUT).stdout == "damaged\n"


def test_an_iteration_that_meets_damage_does_not_end_as_if_it_were_whole(pin: Path) -> None:
    with arenads.create("1MiB", engine="native", provision=None) as arena:
        recent = arena.list("recent", value=arenads.u64, max_entries=100)
        orders = [recent.push(i) for i in range(20)]
        arena.pin(pin)
        with pin.open("r+b") as file:
            middle = file.read().index(orders[10].to_bytes(8, "little"))
            file.seek(middle - 8)  # the link before the order
            file.write((0xFFFFFFF8).to_bytes(8, "little"))
        with pytest.raises(arenads.DamagedError):
            list(recent.items())
