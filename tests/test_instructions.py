"""The orders of orders.h in the instructions: BPF byte code, the kernel's JIT, the host's code.

The byte code runs in a machine of its own (bpf_machine.py) on the arena of a native engine, so
what is compared is the accesses that an operation really makes, in their order.
"""

from __future__ import annotations

import platform
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bpf_machine
import capstone
import msgspec
import pytest
from bpf_machine import Access, Code, Machine
from capstone import x86

import arenads
from arenads import compiler, u64
from arenads._core import __file__ as core_file
from arenads._core import ffi, lib

SOURCE = Path(__file__).parent / "programs" / "orders.bpf.c"
STEP = struct.Struct("<II3Q")
PAGES = "256 KiB"
MEMORY_KINDS = (bpf_machine.LDX, bpf_machine.ST, bpf_machine.STX)

# What the byte code is compiled for: a machine on which plain loads and stores are ordered, any
# other with a compiler that has stand-ins only, and with the instructions if it has them.
TARGETS = {
    "x86": ["-D__TARGET_ARCH_x86"],
    "portable": ["-U__TARGET_ARCH_x86"],
    "portable v4": ["-U__TARGET_ARCH_x86", "-mcpu=v4"],
}


class Pair(msgspec.Struct):
    first: u64
    second: u64


class Step(NamedTuple):
    """What a program of orders.bpf.c gets and gives."""

    offset: int
    pad: int = 0
    key: int = 0
    first: int = 0
    second: int = 0


@pytest.fixture(scope="module")
def compile_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The object of orders.bpf.c for a target, compiled once."""
    done: dict[str, Path] = {}

    def compile_for(target: str) -> Path:
        if target not in done:
            output = tmp_path_factory.mktemp("orders") / "orders.bpf.o"
            done[target] = compiler.compile(SOURCE, output, flags=["-Werror", *TARGETS[target]])
        return done[target]

    return compile_for


# --- BPF byte code ------------------------------------------------------------------------------


class Bench:
    """Runs the operations of one target on an arena and reads their accesses."""

    def __init__(self, target: str, path: Path) -> None:
        self.target = target
        self.code = Code(path)
        self.arena = arenads.create(PAGES, engine="native", provision=None)
        core: Any = self.arena._open()
        self.machine = Machine(self.code, ffi.buffer(core.base, core.size))

    def run(self, function: str, offset: int, **fields: int) -> tuple[int, Step]:
        result = self.machine.run(function, STEP.pack(*Step(offset, **fields)))
        return result, Step(*STEP.unpack(self.machine.context))

    @property
    def accesses(self) -> list[Access]:
        """Accesses of the arena, and the barriers between them, which are on the stack."""
        return [
            access
            for access in self.machine.accesses
            if access.in_arena or access.kind in bpf_machine.FULL_BARRIERS
        ]

    def only(self, kinds: str, address: int) -> int:
        """The place of the one access to an address that is of one of these kinds."""
        found = self.all(kinds, address)
        assert len(found) == 1, [access for access in self.accesses if access.address == address]
        return found[0]

    def all(self, kinds: str, address: int) -> list[int]:
        return [
            i
            for i, access in enumerate(self.accesses)
            if access.address == address and access.kind.startswith(tuple(kinds.split()))
        ]

    def ordered(self, *places: int) -> bool:
        """Whether the accesses at these places come one after the other on the target, too."""
        return all(map(self._ordered, places, places[1:]))

    def _ordered(self, first: int, second: int) -> bool:
        done = self.accesses
        if first >= second:
            return False
        return (
            self.target == "x86"
            or done[first].kind in bpf_machine.FULL_BARRIERS | {"load-acquire"}
            or done[second].kind in bpf_machine.FULL_BARRIERS | {"store-release"}
            or any(map(is_barrier, done[first:second]))
        )

    def words(self) -> int:
        """Offset of two words of nobody's."""
        result, step = self.run("block_alloc", 0)
        assert result == 0
        return step.offset


def is_barrier(access: Access) -> bool:
    return not access.in_arena and access.kind in bpf_machine.FULL_BARRIERS


@pytest.fixture(params=TARGETS)
def bench(request: pytest.FixtureRequest, compile_for: Callable[[str], Path]) -> Iterator[Bench]:
    bench = Bench(request.param, compile_for(request.param))
    with bench.arena:
        yield bench


def in_words(bench: Bench, words: int) -> list[str]:
    """The accesses as text, with places counted from the shared word."""
    return [
        "barrier" if is_barrier(access) else f"{access.kind} {access.address - words}"
        for access in bench.accesses
    ]


READ_MODIFY_WRITES = {
    "cas": "compare-exchange",
    "cas_dropped": "compare-exchange",
    "add": "fetch-add",
    "add_dropped": "fetch-add",
    "xchg": "exchange",
    "xchg_dropped": "exchange",
}


@pytest.mark.parametrize("operation", READ_MODIFY_WRITES)
def test_a_read_modify_write_is_a_full_barrier_also_if_nobody_uses_its_result(
    operation: str, bench: Bench
) -> None:
    words = bench.words()
    bench.run(operation, words, key=0, first=5, second=6)
    kind = READ_MODIFY_WRITES[operation]
    assert kind in bpf_machine.FULL_BARRIERS
    assert in_words(bench, words) == ["store 8", f"{kind} 0", "load 8"]
    assert bench.machine.arena[words : words + 16] == struct.pack("<2Q", 5, 6)


PLAIN = {
    "load_acquire": ["load 0", "load 8"],
    "store_release": ["store 8", "store 0"],
    "fence_acquire": ["load 8", "load 0"],
}
STAND_INS = {name: [first, "barrier", second] for name, (first, second) in PLAIN.items()}
INSTRUCTIONS = {
    "load_acquire": ["load-acquire 0", "load 8"],
    "store_release": ["store 8", "store-release 0"],
    "fence_acquire": STAND_INS["fence_acquire"],
}


def has_ordered_instructions(tmp_path: Path) -> bool:
    source = tmp_path / "probe.bpf.c"
    source.write_text("#ifndef __BPF_FEATURE_LOAD_ACQ_STORE_REL\n#error none\n#endif\n")
    try:
        compiler.compile(source, flags=TARGETS["portable v4"])
    except arenads.CompileError:
        return False
    return True


@pytest.mark.parametrize("operation", PLAIN)
def test_an_order_is_what_the_target_needs_for_it(
    operation: str, bench: Bench, tmp_path: Path
) -> None:
    wanted = PLAIN if bench.target == "x86" else STAND_INS
    if bench.target == "portable v4" and has_ordered_instructions(tmp_path):
        wanted = INSTRUCTIONS
    words = bench.words()
    bench.run(operation, words, first=5, second=6)
    assert in_words(bench, words) == wanted[operation]


def test_no_atomic_instruction_returns_nothing(bench: Bench) -> None:
    shipped = compiler.programs_dir() / "demo.bpf.o"
    for code in (bench.code, Code(shipped)):
        atomics = [i for i in code.instructions if i is not None and i.is_atomic]
        assert len(atomics) > 20
        for instruction in atomics:
            kind = bpf_machine.ATOMICS[instruction.constant]
            assert kind in bpf_machine.FULL_BARRIERS | {"load-acquire", "store-release"}


TAIL, HEAD_SEEN, HEAD, TAIL_SEEN = 128, 136, 192, 200  # in struct ads_queue
FREE, CHUNK, SHARDS, CARVED = 0, 8, 192 + 128, 192 + 64  # in struct ads_collection
CURSOR, POPULATED = 64 + 64, 64 + 128  # in the root


def test_a_queue_s_producer(bench: Bench) -> None:
    queue = bench.arena.queue("queue", value=Pair, max_entries=4)
    for i in range(4):
        queue.push(Pair(i, i))
    queue.pop()  # so that it must look at the consumer's position, and goes round
    assert bench.run("queue_push", queue.offset, first=11, second=22)[0] == 0
    at = queue.offset
    head, tail = bench.only("load", at + HEAD), bench.only("store", at + TAIL)
    record = [i for i, a in enumerate(bench.accesses) if a.kind == "store" and a.value in (11, 22)]
    assert len(record) == 2
    assert bench.ordered(head, min(record))  # A5
    assert bench.ordered(max(record), tail)  # R4
    assert tail == len(bench.accesses) - 1
    assert [queue.pop() for _ in range(4)][3] == Pair(11, 22)


def test_a_queue_s_consumer(bench: Bench) -> None:
    queue = bench.arena.queue("queue", value=Pair, max_entries=4)
    queue.push(Pair(11, 22))
    queue.push(Pair(33, 44))
    at = queue.offset
    result, step = bench.run("queue_pop", at)
    assert (result, step.first, step.second, len(queue)) == (0, 11, 22, 1)
    record = [i for i, a in enumerate(bench.accesses) if a.kind == "load" and a.value in (11, 22)]
    assert len(record) == 2
    tail, seen = bench.only("load", at + TAIL), bench.only("store", at + TAIL_SEEN)
    assert bench.ordered(tail, min(record)) and bench.ordered(tail, seen)  # A4, R7
    head = bench.only("store", at + HEAD)
    assert bench.ordered(max(record), head)  # R5
    assert head == len(bench.accesses) - 1
    # The next one relies on the position that was seen.
    result, step = bench.run("queue_pop", at)
    assert (result, step.first, step.second, len(queue)) == (0, 33, 44, 0)
    record = [i for i, a in enumerate(bench.accesses) if a.kind == "load" and a.value in (33, 44)]
    assert bench.ordered(bench.only("load", at + TAIL_SEEN), min(record))  # A7
    assert not bench.all("load", at + TAIL)


def hash_map(bench: Bench, *keys: int) -> Any:
    made = bench.arena.hashmap("map", key=u64, value=Pair, max_entries=100)
    # Else it would be chance which buckets are shared, and who looks whether the map should grow.
    struct.pack_into("<Q", bench.machine.arena, made.offset + 16, 2000339)
    for key in keys:
        made[key] = Pair(10 * key, 20 * key)
    return made


def test_a_reader_of_a_hash_map(bench: Bench) -> None:
    made = hash_map(bench, *range(40))
    for _ in range(8):  # each links a shortcut one table newer, until that of its bucket is
        assert made[7] == Pair(70, 140)
    result, step = bench.run("map_get", made.offset, key=7)
    assert (result, step.first, step.second) == (0, 70, 140)
    done = bench.accesses
    entry = done[-1].address
    link = bench.all("load", entry)
    assert len(link) == 3
    hash_at, key = bench.only("load", entry + 8), bench.only("load", entry + 16)
    values = bench.only("load", entry + 24), bench.only("load", entry + 32)
    # The shortcut of its bucket, which the table's word tells; the word that leads to the entry.
    table = bench.only("load", made.offset + 24)
    first = (done[table].value & 0xFFFF_FFFF) + 64
    links = range(first, first + (8 << (64 - (done[table].value >> 32))), 8)
    bucket = next(i for i, access in enumerate(done) if access.address in links)
    previous = next(i for i in range(hash_at + 1, key) if not is_barrier(done[i]))
    before = max(i for i in bench.all("load", done[previous].address) if i < link[0])
    assert bench.ordered(table, bucket)  # A6
    assert bench.ordered(before, link[0], hash_at)  # A3, A3
    assert bench.ordered(hash_at, previous)  # F13: the hash, before the link that led to it
    assert bench.ordered(key, link[1])  # F13: the key, before the entry's own
    assert bench.ordered(max(values), link[2])  # F13: the value
    assert link[1] < min(values) and link[2] == len(done) - 1


def test_a_shortcut_that_is_linked_on_first_use(bench: Bench) -> None:
    made = hash_map(bench, *range(40))
    assert lib.ads_directory_grow(bench.arena._open()) == 0  # unless an insert has grown it
    for key in range(1000, 1200):
        assert bench.run("map_get", made.offset, key=key)[0] == lib.ADS_ABSENT
        done = bench.accesses
        claims = [i for i, access in enumerate(done) if access.kind == "compare-exchange"]
        if claims:
            break
    else:
        pytest.fail("no shortcut was left to link")
    claimed, linked, released = claims
    word = done[claimed].address
    aimed = bench.only("store", word)
    # R3, thrice: only the one who claimed it aims it, and nobody reaches it before it is aimed.
    assert done[released].address == word and done[linked].value & 0xFFFF_FFF8 == word
    assert bench.ordered(claimed, aimed, linked, released)
    assert made.check().errors == 0


def test_an_insert_into_a_hash_map(bench: Bench) -> None:
    made = hash_map(bench, 1, 2, 3)
    assert bench.run("map_update", made.offset, key=7, first=11, second=22)[0] == 0
    done = bench.accesses
    commit = max(i for i, access in enumerate(done) if access.kind == "compare-exchange")
    entry = done[commit].value & 0xFFFF_FFF8
    written = [bench.only("store", entry + at) for at in (0, 8, 16, 24, 32)]
    taken = [i for i, access in enumerate(done[:commit]) if access.kind == "compare-exchange"]
    # R13 and R12 before, R3 after all that it publishes.
    assert bench.ordered(max(taken), min(written)) and bench.ordered(max(written), commit)
    assert made[7] == Pair(11, 22) and made.check().errors == 0


def test_a_replace_in_a_hash_map(bench: Bench) -> None:
    made = hash_map(bench, 1, 2, 3)
    bench.run("map_get", made.offset, key=2)
    old = bench.accesses[-1].address
    assert bench.run("map_update", made.offset, key=2, first=11, second=22)[0] == 0
    commit = bench.only("compare-exchange", old)
    new = bench.accesses[commit].value & 0xFFFF_FFF8
    assert bench.accesses[commit].value >> 63
    written = [bench.only("store", new + at) for at in (0, 8, 16, 24, 32)]
    assert bench.ordered(max(written), commit)  # R3
    check_giving_to_a_shard(bench, old, after=commit + 1)
    assert made[2] == Pair(11, 22) and made.check().errors == 0


def test_a_delete_from_a_hash_map(bench: Bench) -> None:
    made = hash_map(bench, 1, 2, 3)
    bench.run("map_get", made.offset, key=2)
    old = bench.accesses[-1].address
    assert bench.run("map_delete", made.offset, key=2)[0] == 0
    commit = bench.only("compare-exchange", old)
    assert bench.accesses[commit].value >> 63  # R3, marked
    check_giving_back(bench, old, after=commit + 1)
    assert 2 not in made and made.check().errors == 0


def check_giving_to_a_shard(bench: Bench, entry: int, after: int) -> None:
    """After the commit: out of the list, then its link says that it is free, then it is a spare."""
    done = bench.accesses
    changes = [
        i
        for i in range(after, len(done))
        if not done[i].kind.startswith("load") and not is_barrier(done[i])
    ]
    kinds = [done[i].kind.removesuffix("-release") for i in changes]
    assert kinds == ["compare-exchange", "store", "store"]
    unlink, link, spare = changes
    assert done[link].address == entry
    assert done[spare].value & 0xFFFF_FFFF == entry
    assert bench.ordered(unlink, link)  # R3
    assert bench.ordered(link, spare)  # R2


def check_giving_back(bench: Bench, entry: int, after: int) -> None:
    """After the commit: out of the list, then its words say that it is free, then the stack."""
    done = bench.accesses
    changes = [
        i
        for i in range(after, len(done))
        if not done[i].kind.startswith("load") and not is_barrier(done[i])
    ]
    kinds = [done[i].kind.removesuffix("-release") for i in changes]
    assert kinds == ["compare-exchange", "store", "store", "compare-exchange"]
    _, link, hash_at, top = changes
    assert (done[link].address, done[hash_at].address) == (entry, entry + 8)
    assert done[top].value & 0xFFFF_FFFF == entry
    read = bench.all("load", done[top].address)[-1]
    assert bench.ordered(*changes) and bench.ordered(read, hash_at, top)  # R3, R13, R2, A2


ORDERED_HEADS = 3072  # in struct ads_orderedmap: the links to the first hint of each level
LIFE, FIRST, SECOND = 16, 24, 32  # in an entry of an ordered map of integers; a hint's value: FIRST


class Ordered:
    """An ordered map, of whose keys is known which have a hint, and where the words are."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        made = bench.arena.orderedmap("ordered", key=u64, value=Pair, max_entries=200)
        # The seed of towers and keys decides which keys have one: the same in every run.
        struct.pack_into("<Q", bench.machine.arena, made.offset + 16, 0x5EED)
        for key in range(10, 110):
            made[key] = Pair(10 * key, 20 * key)
        self.map, self.offset = made, made.offset

    def word(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self.bench.machine.arena, at)[0])

    def hints(self) -> dict[int, int]:
        """Key to the offset of its hint, of the lowest level."""
        found = {}
        at = self.word(self.offset + ORDERED_HEADS + 8) & 0xFFFF_FFFF
        while at != 1:
            found[self.word(at + 8)] = at
            at = self.word(at) & 0xFFFF_FFFF
        return found

    def entry(self, key: int) -> int:
        result, step = self.bench.run("ordered_get", self.offset, key=key)
        assert result == 0
        return max(a.address for a in self.bench.accesses if a.value == step.second) - SECOND

    def tables(self) -> Iterator[range]:
        """The places of the hints to keys, the newest first."""
        table = self.word(self.offset + 24)
        while table:
            first = (table & 0xFFFF_FFFF) + 64
            yield range(first, first + (8 << (64 - (table >> 32))), 8)
            table = self.word(table & 0xFFFF_FFFF)

    def forget(self) -> None:
        """Take all hints to keys away, so that a lookup goes down the towers."""
        for table in self.tables():
            for at in table:
                struct.pack_into("<Q", self.bench.machine.arena, at, 0)

    def plain(self) -> int:
        """A key in the middle without a tower, whose predecessor has none either."""
        hints = self.hints()
        return next(key for key in range(50, 100) if key not in hints and key - 1 not in hints)

    def swaps(self) -> list[int]:
        return [i for i, a in enumerate(self.bench.accesses) if a.kind == "compare-exchange"]


def only_reads(accesses: list[Access]) -> bool:
    return all(is_barrier(access) or access.kind.startswith("load") for access in accesses)


def check_ordered_descent(bench: Bench, hint: int, entry: int) -> int:
    """Down a hint to its entry, whose life it knows; the place where the walk begins there."""
    done = bench.accesses
    down = bench.all("load", hint + FIRST)[-1]
    assert done[down].value & 0xFFFF_FFFF == entry
    again = next(i for i in bench.all("load", hint) if i > down)
    assert any(bench.ordered(before, down) for before in bench.all("load", hint))  # A3
    assert bench.ordered(down, again)  # F13: the value, before the link again
    alive, started = (i for i in bench.all("load", entry + LIFE) if i > again)
    links = [i for i in bench.all("load", entry) if i > again]
    assert done[alive].value + 1 == done[down].value >> 32
    # F17: the link, then the life; and once more when the walk begins at the entry.
    assert bench.ordered(links[0], alive) and bench.ordered(links[1], started)
    return started


def test_a_reader_of_an_ordered_map(bench: Bench) -> None:
    ordered = Ordered(bench)
    assert ordered.map[70] == Pair(700, 1400)  # now its hint is in the newest table
    result, step = bench.run("ordered_get", ordered.offset, key=70)
    assert (result, step.first, step.second) == (0, 700, 1400)
    done = bench.accesses
    assert only_reads(done)
    entry = done[-1].address
    newest = next(ordered.tables())
    hint = next(i for i, a in enumerate(done) if a.address in newest and a.value >> 32)
    assert done[hint].value & 0xFFFF_FFE0 == entry
    table = bench.only("load", ordered.offset + 24)
    glance, order = bench.all("load", entry + 8)
    link, again = bench.all("load", entry)
    life = bench.only("load", entry + LIFE)
    values = bench.only("load", entry + FIRST), bench.only("load", entry + SECOND)
    assert bench.ordered(table, hint)  # A6
    assert hint < glance and bench.ordered(hint, link)  # F23
    assert bench.ordered(link, order, life)  # A3, F17
    assert life < min(values) and bench.ordered(max(values), again)  # F13
    assert again == len(done) - 1


def test_a_reader_of_an_ordered_map_without_a_hint(bench: Bench) -> None:
    ordered = Ordered(bench)
    key, hint = next((key, at) for key, at in ordered.hints().items() if key > 20)
    left = ordered.entry(key)
    following = key + 1  # what is looked for is one step behind the entry under the hint
    ordered.forget()
    result, step = bench.run("ordered_get", ordered.offset, key=following)
    assert (result, step.first, step.second) == (0, 10 * following, 20 * following)
    done = bench.accesses
    assert only_reads(done[:-1])
    begun = check_ordered_descent(bench, hint, left)
    entry = done[-1].value & 0xFFFF_FFE0
    link = bench.all("load", entry)
    order = bench.all("load", entry + 8)[0]
    values = bench.only("load", entry + FIRST), bench.only("load", entry + SECOND)
    previous = next(i for i in bench.all("load", left) if i > order)
    assert begun < link[0] and bench.ordered(link[0], order, previous)  # A3, F13
    assert bench.ordered(order, link[1])  # F13
    assert link[1] < min(values) and bench.ordered(max(values), link[2])  # F13
    # What it leaves: a hint, of the life that the link says.
    life = bench.all("load", entry + LIFE)[-1]
    assert bench.ordered(life, link[3])  # F17
    assert done[-1].kind.startswith("store") and done[-1].address in next(ordered.tables())
    assert done[-1].value >> 32 == done[life].value + 1
    assert bench.ordered(link[3], len(done) - 1)  # R23


def test_a_lower_bound_of_an_ordered_map(bench: Bench) -> None:
    ordered = Ordered(bench)
    missing = ordered.plain()
    del ordered.map[missing]
    result, step = bench.run("ordered_lower_bound", ordered.offset, key=missing)
    found = missing + 1
    assert (result, step.key, step.first, step.second) == (0, found, 10 * found, 20 * found)
    done = bench.accesses
    assert only_reads(done)
    hint = max((key, at) for key, at in ordered.hints().items() if key < missing)
    below = max(i for i in bench.all("load", hint[1] + FIRST))
    check_ordered_descent(bench, hint[1], done[below].value & 0xFFFF_FFFF)
    link = bench.all("load", done[-1].address)
    entry = done[-1].address
    copied = [bench.only("load", entry + at) for at in (LIFE, FIRST, SECOND)]
    assert link[-1] == len(done) - 1
    assert bench.ordered(link[0], min(copied)) and bench.ordered(max(copied), link[-1])  # A3, F13


def test_an_insert_into_an_ordered_map(bench: Bench) -> None:
    ordered = Ordered(bench)
    key = ordered.plain()
    del ordered.map[key]
    # Given back by user space, it is taken from there with the rest of user space's work done.
    assert bench.run("ordered_update", ordered.offset, key=key, first=11, second=22)[0] == 0
    done = bench.accesses
    taken, commit = ordered.swaps()[-2:]
    entry = done[commit].value & 0xFFFF_FFF8
    written = [bench.only("store", entry + at) for at in (0, 8, FIRST, SECOND)]
    assert bench.ordered(taken, min(written)) and bench.ordered(max(written), commit)  # R13, R3
    hint = len(done) - 1
    assert only_reads(done[commit + 1 : hint])  # how high its tower is
    assert done[hint].kind.startswith("store") and done[hint].address in next(ordered.tables())
    assert done[hint].value & 0xFFFF_FFE0 == entry and bench.ordered(commit, hint)  # R23
    assert ordered.map[key] == Pair(11, 22) and ordered.map.check().errors == 0


def test_the_tower_of_an_insert_comes_after_its_entry(bench: Bench) -> None:
    ordered = Ordered(bench)
    key = next(key for key in ordered.hints() if key > 20)
    del ordered.map[key]
    assert bench.run("ordered_update", ordered.offset, key=key, first=11, second=22)[0] == 0
    done = bench.accesses
    hint, entry = ordered.hints()[key], ordered.entry(key)
    bench.machine.accesses[:] = done
    links = [i for i in ordered.swaps() if done[i].value & 0xFFFF_FFF8 in (entry, hint)]
    linked = {done[i].value & 0xFFFF_FFF8: i for i in links}
    written = [bench.only("store", hint + at) for at in (0, 8, FIRST)]
    assert bench.ordered(linked[entry], min(written))
    assert bench.ordered(max(written), linked[hint])  # R3
    assert ordered.map.check().errors == 0


def check_ordered_giving_back(bench: Bench, entry: int, commit: int) -> int:
    """After the commit: out of the list, then its life is over, then it is free; the last place."""
    done = bench.accesses
    assert done[commit].value >> 63  # R3, marked
    unlinked = next(i for i in range(commit + 1, len(done)) if done[i].kind == "compare-exchange")
    life = next(i for i in bench.all("store", entry + LIFE) if i > commit)
    link = next(i for i in bench.all("store", entry) if i > commit)
    hash_at = next(i for i in bench.all("store", entry + 8) if i > commit)
    top = next(i for i in range(hash_at, len(done)) if done[i].kind == "compare-exchange")
    assert done[top].value & 0xFFFF_FFFF == entry
    assert bench.ordered(commit, unlinked, life, link, hash_at, top)  # R3, R17, R3, R13, R2
    return top


def test_a_delete_from_an_ordered_map(bench: Bench) -> None:
    ordered = Ordered(bench)
    key = ordered.plain()
    old = ordered.entry(key)
    assert bench.run("ordered_delete", ordered.offset, key=key)[0] == 0
    assert len(ordered.swaps()) == 3
    top = check_ordered_giving_back(bench, old, bench.only("compare-exchange", old))
    assert only_reads(bench.accesses[top + 1 :])  # how high its tower was
    assert key not in ordered.map and ordered.map.check().errors == 0


def test_the_tower_of_what_is_deleted_goes_after_it(bench: Bench) -> None:
    ordered = Ordered(bench)
    key, hint = next((key, at) for key, at in ordered.hints().items() if key > 20)
    old = ordered.entry(key)
    assert bench.run("ordered_delete", ordered.offset, key=key)[0] == 0
    top = check_ordered_giving_back(bench, old, bench.only("compare-exchange", old))
    marked = bench.only("compare-exchange", hint)
    assert bench.ordered(top, marked)
    assert check_ordered_giving_back(bench, hint, marked) > marked
    assert key not in ordered.hints() and ordered.map.check().errors == 0


def test_the_first_one_popped_of_an_ordered_map(bench: Bench) -> None:
    ordered = Ordered(bench)
    while (first := min(ordered.map)) in ordered.hints():
        del ordered.map[first]
    old = ordered.entry(first)
    result, step = bench.run("ordered_pop_first", ordered.offset)
    assert (result, step.key, step.first, step.second) == (0, first, 10 * first, 20 * first)
    commit = bench.only("compare-exchange", old)
    values = [bench.all("load", old + at)[-1] for at in (FIRST, SECOND)]
    assert bench.ordered(max(values), commit)  # what the CAS finds unchanged was read before it
    check_ordered_giving_back(bench, old, commit)
    assert len(ordered.swaps()) == 3
    assert min(ordered.map) > first and ordered.map.check().errors == 0


def test_a_block(bench: Bench) -> None:
    offset = bench.words()
    cursor, populated = bench.only("load", CURSOR), bench.only("load", POPULATED)
    seen, header = bench.only("load", offset - 8), bench.only("compare-exchange", offset - 8)
    moved = bench.only("compare-exchange", CURSOR)
    assert bench.ordered(cursor, populated, seen, header, moved)  # A1, A9, A10, R10, R1


def test_the_objects_of_a_pool(bench: Bench) -> None:
    pool = bench.arena.pool("pool", value=Pair, max_entries=100)
    # Fresh, from a chunk that has to be claimed.
    result, step = bench.run("pool_alloc", pool.offset)
    assert result == 0
    entry = step.key - 16
    carved, chunk = pool.offset + CARVED, pool.offset + SHARDS + CHUNK
    booked, moved = bench.only("compare-exchange", carved), bench.only("compare-exchange", CURSOR)
    given, taken = bench.all("compare-exchange", chunk)
    read = max(i for i in bench.all("load", chunk) if i < taken)
    assert bench.ordered(bench.all("load", carved)[0], booked)  # A11
    assert bench.ordered(booked, given, moved, read, taken)  # R11, R12, R1, A12, R12
    assert bench.ordered(taken, bench.only("store", entry))
    # Given back.
    assert bench.run("pool_free", pool.offset, key=step.key)[0] == 0
    marked, hash_at = bench.only("compare-exchange", entry), bench.only("store", entry + 8)
    free = pool.offset + SHARDS + FREE
    assert bench.accesses[marked].value >> 63
    pushed = bench.only("compare-exchange", free)
    assert bench.ordered(marked, hash_at, pushed)  # R3, R13, R2
    # And taken again.
    result, again = bench.run("pool_alloc", pool.offset)
    assert (result, again.key) == (0, step.key)
    top, popped = bench.all("load", free)[0], bench.only("compare-exchange", free)
    below, used = bench.only("load", entry + 8), bench.only("store", entry)
    assert bench.ordered(top, below, popped, used)  # A2, R2, R13
    assert pool.check().errors == 0


MPMC_TAIL, MPMC_HEAD, MPMC_SLOTS = 1536, 1664, 1792  # in struct ads_mpmc


def test_an_mpmc_ring_s_producer(bench: Bench) -> None:
    ring = bench.arena.mpmc("ring", value=Pair, max_entries=8)
    for i in range(7):  # the next one moves the tail
        ring.push(Pair(i, i))
    assert bench.run("mpmc_push", ring.offset, first=11, second=22)[0] == 0
    at, done = ring.offset, bench.accesses
    slot = at + MPMC_SLOTS + 8 * 7
    record = [i for i, a in enumerate(done) if a.kind == "store" and a.value in (11, 22)]
    assert len(record) == 2
    commit = bench.only("compare-exchange", slot)
    assert bench.ordered(bench.all("load", at + MPMC_TAIL)[0], bench.all("load", slot)[0])  # A42
    assert bench.ordered(max(record), commit)  # R41
    assert bench.ordered(commit, bench.only("compare-exchange", at + MPMC_TAIL))  # R42
    assert [ring.pop() for _ in range(8)][7] == Pair(11, 22)


def test_an_mpmc_ring_s_consumer(bench: Bench) -> None:
    ring = bench.arena.mpmc("ring", value=Pair, max_entries=8)
    ring.push(Pair(11, 22))
    at = ring.offset
    result, step = bench.run("mpmc_pop", at)
    assert (result, step.first, step.second, len(ring)) == (0, 11, 22, 0)
    done = bench.accesses
    record = [i for i, a in enumerate(done) if a.kind == "load" and a.value in (11, 22)]
    assert len(record) == 2
    slot, commit = at + MPMC_SLOTS, bench.only("compare-exchange", at + MPMC_SLOTS)
    assert bench.ordered(bench.only("load", at + MPMC_HEAD), bench.all("load", slot)[0])  # A42
    assert bench.ordered(bench.all("load", slot)[0], min(record))  # A41
    assert bench.ordered(max(record), commit)  # R41
    assert ring.check().errors == 0


RING_COMMITTED, RING_PRODUCER = 128, 144  # in struct ads_ring
RING_TAIL, RING_HEAD, RING_TAIL_SEEN = 256, 384, 392
PAIR = struct.Struct("<2Q")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_byte_ring_s_producer(overwrite: bool, bench: Bench) -> None:
    ring = bench.arena.ring("ring", max_entries=128, overwrite=overwrite)
    for i in range(5):  # with their words, 24 bytes each: 8 bytes are left
        ring.push(PAIR.pack(i, i))
    if not overwrite:
        ring.pop()
    at, flags = ring.offset, lib.ADS_OVERWRITE if overwrite else 0
    assert bench.run("ring_push", at, key=flags, first=11, second=22)[0] == 0
    done = bench.accesses
    head, tail = bench.all("load", at + RING_HEAD)[-1], bench.only("store", at + RING_TAIL)
    record = [i for i, a in enumerate(done) if a.kind == "store" and a.value in (11, 22)]
    assert len(record) == 2
    assert bench.ordered(head, min(record))  # A32
    assert bench.ordered(max(record), tail)  # R31
    drops = bench.all("compare-exchange", at + RING_HEAD)
    assert bool(drops) == overwrite
    for drop in drops:  # R32
        assert bench.ordered(drop, min(record))
    left = [PAIR.unpack(record) for record in iter(ring.pop, None)]
    assert left == [(i, i) for i in range(6 - len(left), 5)] + [(11, 22)]


def test_a_producer_that_takes_a_byte_ring(bench: Bench) -> None:
    ring = bench.arena.ring("ring", max_entries=128)
    at = ring.offset
    assert bench.run("rings_push", at, first=11, second=22)[0] == 0
    take, give = (bench.only(kind, at + RING_PRODUCER) for kind in ("compare-exchange", "store"))
    assert bench.accesses[give].value == 0
    assert bench.ordered(take, bench.all("load", at + RING_COMMITTED)[0])  # A34
    assert bench.ordered(bench.only("store", at + RING_COMMITTED), give)  # R34
    assert bench.ordered(bench.only("store", at + RING_TAIL), give)
    assert PAIR.unpack(ring.pop()) == (11, 22)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_byte_ring_s_consumer(overwrite: bool, bench: Bench) -> None:
    ring = bench.arena.ring("ring", max_entries=128, overwrite=overwrite)
    ring.push(PAIR.pack(11, 22))
    at, flags = ring.offset, lib.ADS_OVERWRITE if overwrite else 0
    result, step = bench.run("ring_pop", at, key=flags)
    assert (result, step.first, step.second, len(ring)) == (0, 11, 22, 0)
    done = bench.accesses
    record = [i for i, a in enumerate(done) if a.kind == "load" and a.value in (11, 22)]
    assert len(record) == 2
    first, seen = bench.all("load", at + RING_HEAD)[0], bench.only("load", at + RING_TAIL_SEEN)
    tail, store_seen = bench.only("load", at + RING_TAIL), bench.only("store", at + RING_TAIL_SEEN)
    assert bench.ordered(first, seen, tail, min(record))  # A32, A33, A31
    assert bench.ordered(tail, store_seen)  # R33
    head = bench.only("compare-exchange" if overwrite else "store", at + RING_HEAD)
    assert bench.ordered(max(record), head)  # R32
    assert head == len(done) - 1


# What must not pass: a target, a header with one line changed, and the test that must see it.
MUTATIONS: dict[str, tuple[str, str, str, str, Callable[[Bench], None]]] = {
    "a stand-in that is no barrier": (
        "portable",
        "atomic.h",
        "__u64 used = __sync_fetch_and_add(&slot, 1);",
        "__u64 used = slot;",
        test_a_queue_s_consumer,
    ),
    "a release that is a store": (
        "portable",
        "atomic.h",
        "	ads_fence_acquire(); /* a full barrier where a compiler barrier is not enough */\n",
        "",
        test_a_queue_s_producer,
    ),
    "an acquire that is a load": (
        "portable",
        "atomic.h",
        "	ads_fence_acquire();\n	return value;",
        "	return value;",
        test_a_block,
    ),
    "a fence that is missing": (
        "portable",
        "list.h",
        "	ads_fence_acquire(); /* F13: the value's words before the link again */\n",
        "",
        test_a_reader_of_a_hash_map,
    ),
    "a hint to a key that is read after what it leads to": (
        "portable",
        "orderedmap.h",
        "	ads_fence_acquire(); /* F23: the hint was read before what it leads to */\n",
        "",
        test_a_reader_of_an_ordered_map,
    ),
    "a life that is read before the link": (
        "portable",
        "orderedmap.h",
        "	link = ads_load_acquire(ads_link_of(a, (__u32)down)); /* A3, pairs with R3 */\n"
        "	ads_fence_acquire(); /* F17: the link was read before the life */\n",
        "	link = ads_load(ads_link_of(a, (__u32)down));\n",
        test_a_reader_of_an_ordered_map_without_a_hint,
    ),
    "a life that is over after the entry is free": (
        "x86",
        "alloc.h",
        "	ads_pool_outlive(a, pool, entry);\n"
        "	/* Programs that delete from ordered maps have no stack left for it. */\n"
        "	if (flags & (ADS_GRACE | ADS_LIVES) || !ads_pool_return_at_once(a, pool, entry))\n"
        "		ads_pool_return(a, pool.offset, pool.stride, entry, 1);\n",
        "	/* Programs that delete from ordered maps have no stack left for it. */\n"
        "	if (flags & (ADS_GRACE | ADS_LIVES) || !ads_pool_return_at_once(a, pool, entry))\n"
        "		ads_pool_return(a, pool.offset, pool.stride, entry, 1);\n"
        "	ads_pool_outlive(a, pool, entry);\n",
        test_a_delete_from_an_ordered_map,
    ),
    "an add that returns nothing": (
        "x86",
        "atomic.h",
        "	__u64 before = __sync_fetch_and_add(word, delta);",
        "	__u64 before = 0;\n	__atomic_fetch_add(word, delta, __ATOMIC_RELAXED);",
        test_no_atomic_instruction_returns_nothing,
    ),
    "a record that is written after the commit": (
        "x86",
        "queue.h",
        "	ads_copy_in(a, slot, value, ref.value_size);\n"
        "	ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */\n",
        "	ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */\n"
        "	ads_copy_in(a, slot, value, ref.value_size);\n",
        test_a_queue_s_producer,
    ),
    "a slot that is given back before it is read": (
        "x86",
        "queue.h",
        "	ads_copy_out(a, value, slot, ref.value_size);\n"
        "	ads_store_release(&ring->head, head + 1); /* R5. Commit. */\n",
        "	ads_store_release(&ring->head, head + 1); /* R5. Commit. */\n"
        "	ads_copy_out(a, value, slot, ref.value_size);\n",
        test_a_queue_s_consumer,
    ),
    "a link that is checked before the value is read": (
        "x86",
        "list.h",
        "	ads_copy_out(a, value, w->entry + ads_entry_value_offset(ref), ref.value_size);\n"
        "	ads_fence_acquire(); /* F13: the value's words before the link again */\n"
        "	return ads_load(ads_link_of(a, w->entry)) == w->link;\n",
        "	int there = ads_load(ads_link_of(a, w->entry)) == w->link;\n\n"
        "	ads_copy_out(a, value, w->entry + ads_entry_value_offset(ref), ref.value_size);\n"
        "	return there;\n",
        test_a_reader_of_a_hash_map,
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_order_is_seen(mutation: str, tmp_path: Path) -> None:
    target, header, old, new, test = MUTATIONS[mutation]
    shutil.copytree(compiler.include_dir() / "arenads", tmp_path / "arenads")
    text = (tmp_path / "arenads" / header).read_text()
    assert text.count(old) == 1, "the mutation has no place any more"
    (tmp_path / "arenads" / header).write_text(text.replace(old, new))
    output = compiler.compile(
        SOURCE, tmp_path / "orders.bpf.o", include_dirs=[tmp_path], flags=TARGETS[target]
    )
    bench = Bench(target, output)
    with bench.arena, pytest.raises(AssertionError):
        test(bench)


COPIES = """
#include <arenads/bpf.h>

struct record { __u64 words[8]; };

ADS_ARENA(16 * ADS_MIB);
ADS_HASHMAP(map, struct record, struct record, 100);
ADS_ORDEREDMAP(ordered, __u64, struct record, 100);
ADS_SET(set, struct record, 100);
ADS_LIST(list, struct record, 100);
ADS_QUEUE(queue, struct record, 16);
ADS_MPMC(jobs, struct record, 16);
ADS_ARRAY(array, struct record, 100);
char LICENSE[] SEC("license") = "GPL";

/* Of these pointers nobody can see how they are aligned but by their type. */
ADS_GLOBAL int copy(struct record *one, struct record *other)
{
	struct map_cursor cursor = {};
	__u64 order = 0;
	int rc = 0;

	if (!one || !other)
		return 1;
	rc |= map_insert(one, other) | map_replace(one, other) | map_update(one, other);
	rc |= map_get(one, other) | map_next(&cursor, other) | map_pop(one, other) | map_delete(one);
	rc |= set_insert(one) | set_contains(one) | set_delete(one);
	rc |= list_push(one, &order) | list_update(order, one) | list_get(order, other);
	rc |= list_first(&order, other) | list_pop_first(&order, other);
	return rc;
}

ADS_GLOBAL int more(struct record *one, __u64 *key)
{
	if (!one || !key)
		return 1;
	return ordered_update(key, one) | ordered_get(key, one) | ordered_lower_bound(key, one) |
		ordered_pop(key, one) | queue_push(one) | queue_pop(one) | jobs_push(one) |
		jobs_pop(one) | array_set(1, one) | array_get(1, one);
}

SEC("syscall") int all(struct record *record)
{
	struct record one = *record, other = one;
	__u64 key = 1;

	return copy(&one, &other) | more(&one, &key);
}
"""


def test_records_of_words_are_copied_by_words(tmp_path: Path) -> None:
    source = tmp_path / "copies.bpf.c"
    source.write_text(COPIES)
    code = Code(compiler.compile(source))
    memory = [i for i in code.instructions if i is not None and i.kind in MEMORY_KINDS]
    # One byte at a time is how an address is read of which nothing is known.
    sizes = [instruction.size for instruction in memory]
    assert sizes.count(8) > 500
    assert sizes.count(1) == 0


UNUSED_RESULT = """
#include <arenads/bpf.h>

struct record { __u64 words[8]; };

ADS_ARENA(16 * ADS_MIB);
ADS_LIST(list, struct record, 100);
char LICENSE[] SEC("license") = "GPL";

SEC("syscall") int push(struct record *record)
{
	struct record one = *record;
	__u64 order;

	list_push(&one, &order);
	return 0;
}
"""


@pytest.mark.kernel
def test_a_program_may_ignore_what_an_operation_returns(kernel_engine: str, tmp_path: Path) -> None:
    """The register of a result that no caller looks at could hold an address: that is refused."""
    source = tmp_path / "unused.bpf.c"
    source.write_text(UNUSED_RESULT)
    with arenads.load(source, engine="kernel") as program:
        assert program.run("push", bytes(64)).value == 0
        assert len(program["list"]) == 1


# --- x86 machine code ---------------------------------------------------------------------------

needs_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="looks at the code of an x86-64 machine"
)


def disassemble(code: bytes, at: int = 0) -> list[Any]:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    found = list(decoder.disasm(code, at))
    assert sum(instruction.size for instruction in found) == len(code)
    return found


def memory_operand(instruction: Any) -> Any:
    """The operand that is memory, unless it only names an address, is the stack's, or is the
    per-CPU base in a segment register, of which byte code knows nothing."""
    if instruction.mnemonic.split()[-1] in ("nop", "lea", "call", "jmp"):
        return None
    for operand in instruction.operands:
        if operand.type != x86.X86_OP_MEM or operand.mem.segment == x86.X86_REG_GS:
            continue
        if operand.mem.base != x86.X86_REG_RSP:
            return operand
    return None


def locked(instruction: Any) -> bool:
    return instruction.prefix[0] == 0xF0 or instruction.id == x86.X86_INS_XCHG


def access_of(instruction: Any) -> tuple[str, int] | None:
    """What an instruction does to memory, in the words of `Access`, and the displacement."""
    operand = memory_operand(instruction)
    if operand is None:
        return None
    kinds = {
        x86.X86_INS_CMPXCHG: "compare-exchange",
        x86.X86_INS_XADD: "fetch-add",
        x86.X86_INS_ADD: "fetch-add",
        x86.X86_INS_INC: "fetch-add",
        x86.X86_INS_XCHG: "exchange",
    }
    kind = "store" if operand.access & capstone.CS_AC_WRITE else "load"
    # Capstone thinks that a comparison with memory writes it.
    if instruction.id in (x86.X86_INS_CMP, x86.X86_INS_TEST):
        kind = "load"
    if locked(instruction):
        kind = kinds[instruction.id]
    return kind, operand.mem.disp


class Dump(NamedTuple):
    """A loaded program: the byte code as the verifier left it, and what the JIT made of it."""

    byte_code: bytes
    machine_code: bytes


def dump(fd: int) -> Dump:
    """Ask the kernel: struct bpf_prog_info, once for the lengths and once for the code."""
    from arenads.libbpf.library import library

    ffi, libbpf, *_ = library()
    info, size = ffi.new("char[232]"), ffi.new("uint32_t *", 232)
    assert libbpf.bpf_obj_get_info_by_fd(fd, info, size) == 0
    machine, byte = struct.unpack_from("<II", ffi.buffer(info), 16)
    code = ffi.new("char[]", machine), ffi.new("char[]", byte)
    addresses = [int(ffi.cast("uintptr_t", memory)) for memory in code]
    ask = struct.pack("<16xIIQQ", machine, byte, *addresses)
    ffi.buffer(info)[:] = ask.ljust(232, b"\0")
    assert libbpf.bpf_obj_get_info_by_fd(fd, info, size) == 0
    return Dump(*(bytes(ffi.buffer(memory)) for memory in (code[1], code[0])))


@pytest.fixture(scope="module")
def jited(kernel_engine: str, compile_for: Callable[[str], Path]) -> Iterator[dict[str, Dump]]:
    """Each program of orders.bpf.c as it is in this kernel."""
    with arenads.load(compile_for("x86"), engine="kernel") as program:
        found = {info.name: dump(info.fd) for info in program._bpf.programs().values()}
        assert found["cas"].machine_code.strip(b"\0"), "the kernel does not show its code"
        yield found


def accesses_of_byte_code(code: bytes) -> list[tuple[str, int]]:
    found = []
    for instruction in bpf_machine.decode(code):
        if instruction is None or instruction.kind not in (1, 2, 3):
            continue
        kind = "load" if instruction.kind == bpf_machine.LDX else "store"
        if instruction.kind == bpf_machine.STX and instruction.opcode & 0xC0 == 0xC0:
            kind = bpf_machine.ATOMICS[instruction.constant]
        found.append((kind, instruction.offset))
    return found


def accesses_of_jit(code: bytes) -> list[tuple[str, int]]:
    return [access for i in disassemble(code) if (access := access_of(i)) is not None]


STRAIGHT = ["load_acquire", "store_release", "fence_acquire", *READ_MODIFY_WRITES]
STRUCTURES = [
    "queue_push",
    "queue_pop",
    "ring_push",
    "ring_pop",
    "rings_push",
    "mpmc_push",
    "mpmc_pop",
    "map_get",
    "ordered_get",
    "ordered_update",
    "ordered_delete",
    "ordered_lower_bound",
    "ordered_pop_first",
]


@needs_x86
@pytest.mark.kernel
@pytest.mark.parametrize("name", STRAIGHT + STRUCTURES)
def test_the_jit_keeps_every_access_and_their_order(name: str, jited: dict[str, Dump]) -> None:
    wanted = accesses_of_byte_code(jited[name].byte_code)
    assert len(wanted) > 3
    assert accesses_of_jit(jited[name].machine_code) == wanted


@needs_x86
@pytest.mark.kernel
def test_the_jit_locks_what_is_atomic(jited: dict[str, Dump]) -> None:
    wanted = {"cas": "lock cmpxchg", "add": "lock xadd", "add_dropped": "lock xadd"}
    for name, mnemonic in wanted.items():
        mnemonics = [i.mnemonic for i in disassemble(jited[name].machine_code)]
        assert mnemonics.count(mnemonic) == 1, name
    exchange = [i for i in disassemble(jited["xchg"].machine_code) if locked(i)]
    assert [i.id for i in exchange] == [x86.X86_INS_XCHG]
    for name, program in jited.items():
        for i in disassemble(program.machine_code):
            if i.id in (x86.X86_INS_CMPXCHG, x86.X86_INS_XADD):
                assert i.prefix[0] == 0xF0, f"{name}: {i.mnemonic} {i.op_str}"


# --- the host's code, of the same source and of the extension -----------------------------------


class Function:
    """One function of a shared object: its instructions, and which can follow which."""

    def __init__(self, path: Path, name: str) -> None:
        data = path.read_bytes()
        at, size = find_function(data, name)
        self.instructions = disassemble(data[at : at + size], at)
        self.places = {found.address: i for i, found in enumerate(self.instructions)}

    def accesses(self) -> list[tuple[str, int]]:
        return [access for found in self.instructions if (access := access_of(found)) is not None]

    def after(self, start: int) -> list[Any]:
        """Every instruction that can run after the one at a place, in no order."""
        seen: set[int] = set()
        left = self._next(start)
        while left:
            at = left.pop()
            if at not in seen:
                seen.add(at)
                left += self._next(at)
        return [self.instructions[at] for at in seen]

    def _next(self, at: int) -> list[int]:
        found = self.instructions[at]
        following = [at + 1]
        if found.group(capstone.CS_GRP_RET):
            return []
        if found.group(capstone.CS_GRP_JUMP):
            target = self.places.get(found.operands[0].imm)
            following = [] if found.id == x86.X86_INS_JMP else following
            following += [] if target is None else [target]
        return [at for at in following if at < len(self.instructions)]


def find_function(data: bytes, name: str) -> tuple[int, int]:
    """Where the code of a function is in a 64-bit ELF file, and its size."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * i) for i in range(count)]
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for place in range(section[4], section[4] + section[5], 24):
            label, _, _, index, value, length = struct.unpack_from("<IBBHQQ", data, place)
            end = data.index(b"\0", names + label)
            if data[names + label : end] == name.encode() and length and index < count:
                return value - sections[index][3] + sections[index][4], length
    pytest.skip(f"the symbols have been stripped: no {name}")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("orders") / "orders.native.so"
    return compiler.compile(SOURCE, output, engine="native", flags=["-Werror"])


@pytest.fixture(scope="module", params=["native", "extension"])
def queue_code(request: pytest.FixtureRequest) -> Callable[[str], Function]:
    """The code of "push" or "pop" of a queue."""
    if request.param == "native":
        path, name = request.getfixturevalue("native"), "queue_{}"
    else:
        path, name = Path(core_file), "core_queue_{}"
        if b"__asan_" in path.read_bytes():
            pytest.skip("a sanitizer's own accesses are in the extension")
    return lambda verb: Function(path, name.format(verb))


@needs_x86
@pytest.mark.native
@pytest.mark.parametrize("operation", STRAIGHT)
def test_the_host_s_code_has_the_same_order(operation: str, native: Path) -> None:
    function = Function(native, operation)
    wanted = PLAIN.get(operation) or ["store 8", f"{READ_MODIFY_WRITES[operation]} 0", "load 8"]
    step = next(
        i for i in function.instructions if memory_operand(i) and memory_operand(i).size == 4
    )
    accesses = [
        "{} {}".format(*access)
        for i in function.instructions
        if (access := access_of(i)) is not None
        and memory_operand(i).mem.base != memory_operand(step).mem.base
    ]
    assert accesses[-len(wanted) :] == wanted


@needs_x86
@pytest.mark.native
def test_a_push_of_the_host_ends_with_its_commit(
    queue_code: Callable[[str], Function],
) -> None:
    push = queue_code("push")
    commits = [i for i, at in enumerate(push.instructions) if access_of(at) == ("store", TAIL)]
    assert commits
    for commit in commits:  # R4
        after = [access_of(found) for found in push.after(commit)]
        assert [access for access in after if access and access[0] != "load"] == []
    records = [i for i, at in enumerate(push.instructions) if access_of(at) == ("store", 0)]
    assert any(push.instructions[commits[0]] in push.after(record) for record in records)


@needs_x86
@pytest.mark.native
def test_a_pop_of_the_host_ends_with_its_commit(queue_code: Callable[[str], Function]) -> None:
    pop = queue_code("pop")
    commits = [i for i, at in enumerate(pop.instructions) if access_of(at) == ("store", HEAD)]
    assert commits
    for commit in commits:  # R5
        after = [access_of(found) for found in pop.after(commit)]
        assert [access for access in after if access and access[0] != "store"] == []


@needs_x86
@pytest.mark.native
def test_the_host_locks_what_is_atomic(native: Path) -> None:
    for path in (native, Path(core_file)):
        names = ["map_update"] if path == native else ["core_hashmap_update", "ads_block_claim"]
        for name in names:
            code = Function(path, name).instructions
            swaps = [i for i in code if i.id in (x86.X86_INS_CMPXCHG, x86.X86_INS_XADD)]
            assert swaps and all(map(locked, swaps)), name
