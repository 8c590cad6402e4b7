"""BPF programs and Python on the same structures: one after the other, and at the same time."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import child_environment

import arenads

WORK = struct.Struct("<6Q")
GETPPID = 110 if os.uname().machine == "x86_64" else 173
MASK = (1 << 64) - 1


class Work(NamedTuple):
    """What a program was asked, and how far it came."""

    first: int = 0
    keys: int = 1
    rounds: int = 1
    value: int = 0
    done: int = 0
    bad: int = 0


class Traffic:
    """The program `traffic` on one engine."""

    def __init__(self, program: arenads.Program) -> None:
        self.program = program
        self.arena = program.arena
        self.blocks: Any = program["blocks"]
        self.counts: Any = program["counts"]
        self.calls: Any = program["calls"]
        self.wanted: Any = program["wanted"]
        self.names: Any = program["names"]
        self.recent: Any = program["recent"]
        self.out: Any = program["out"]
        self.inbox: Any = program["in"]
        self.links: list[Any] = []

    def run(self, name: str, **work: int) -> tuple[int, Work]:
        result = self.program.run(name, WORK.pack(*Work(**work)))
        return result.value, Work(*WORK.unpack(result.context))

    def attach(self, name: str, **target: Any) -> None:
        self.links += self.program.attach(name, **target)

    def detach(self) -> None:
        while self.links:
            self.links.pop().close()

    def clear(self) -> None:
        for each in (self.blocks, self.counts, self.calls, self.wanted, self.names):
            each.clear()
        for order, _ in list(self.recent.items()):
            self.recent.delete(order)
        self.out.drain()
        self.inbox.drain()

    def balanced(self) -> bool:
        reports = [
            each.check()
            for each in (self.blocks, self.counts, self.calls, self.wanted, self.recent)
        ]
        return all((report.errors, report.leaked) == (0, 0) for report in reports)


@pytest.fixture(scope="module")
def loaded(engine: str, compiled: Callable[..., Path]) -> Iterator[Traffic]:
    with arenads.load(compiled("traffic", engine), engine=engine) as program:  # type: ignore[arg-type]
        yield Traffic(program)


@pytest.fixture
def traffic(loaded: Traffic) -> Iterator[Traffic]:
    """The structures empty before, their books balanced after."""
    loaded.clear()
    yield loaded
    assert loaded.balanced()


@pytest.fixture(scope="module")
def attachable(kernel_engine: str, compiled: Callable[..., Path]) -> Iterator[Traffic]:
    with arenads.load(compiled("traffic", "kernel"), engine="kernel") as program:
        yield Traffic(program)


@pytest.fixture
def kernel_traffic(attachable: Traffic) -> Iterator[Traffic]:
    """For programs that are attached; nothing is, before and after."""
    attachable.clear()
    yield attachable
    attachable.detach()
    assert attachable.balanced()


class Background:
    """Runs a program again and again in a thread, on a CPU of its own where there are two."""

    def __init__(self, traffic: Traffic, name: str, cpu: int | None = None, **work: int) -> None:
        self.runner: Any = traffic.program.runner(name, WORK.size)
        self.context = WORK.pack(*Work(**work))
        self.cpu = cpu
        self.done = self.bad = self.runs = 0
        self.codes: set[int] = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        if self.cpu is not None:
            os.sched_setaffinity(threading.get_native_id(), {self.cpu})
        while not self.stop.is_set():
            self.codes.add(self.runner(self.context))
            *_, done, bad = WORK.unpack(self.runner.context)
            self.done += done
            self.bad += bad
            self.runs += 1

    def __enter__(self) -> Background:
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.runs:
            assert time.monotonic() < deadline
            os.sched_yield()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


# Threads that run programs come and go; let them not wait for the interpreter's turn.
pytestmark = pytest.mark.usefixtures("quick_switches")


@contextlib.contextmanager
def timeout(seconds: int) -> Iterator[None]:
    """Fail instead of hanging."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it takes too long")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


FIRST_CPU, LAST_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


@contextlib.contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- one after the other ----------------------------------------------------------------


def test_what_a_program_stores_python_reads_typed(traffic: Traffic) -> None:
    assert traffic.run("store_blocks", first=0, keys=300, value=1000)[1].done == 300
    assert len(traffic.blocks) == 300
    for key, block in traffic.blocks.items():
        assert list(block.word) == [1000 + key] * 6
        assert traffic.blocks[key] == block


def test_what_python_stores_a_program_walks(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key * 7] * 6}) for key in range(500))
    code, work = traffic.run("walk_blocks", keys=500)
    assert code == -2  # the end of the iteration, not of the budget
    assert (work.done, work.value, work.bad) == (500, sum(range(500)), 0)


def test_what_python_stores_a_program_looks_up(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key * 7] * 6}) for key in range(200))
    code, work = traffic.run("read_blocks", keys=200, rounds=3)
    assert (code, work.done, work.bad) == (0, 600, 0)
    del traffic.blocks[7]
    assert traffic.run("read_blocks", keys=200)[1].bad == 1


def test_what_python_replaces_a_program_sees_at_once(traffic: Traffic) -> None:
    traffic.counts[5] = 1
    for number in range(100):
        traffic.counts[5] = number * 1000
        traffic.run("add_counts", first=5, value=7)
        assert traffic.counts[5] == number * 1000 + 7


def test_a_map_that_a_program_fills_grows(traffic: Traffic) -> None:
    traffic.arena.populate("16MiB")
    total = 0
    for start in range(0, 20000, 5000):
        code, work = traffic.run("fill_counts", first=start, keys=5000)
        assert (code, work.done) == (0, 5000)
        total += work.done
    assert len(traffic.counts) == total == 20000
    assert dict(traffic.counts) == {key: key for key in range(20000)}


def test_messages_of_a_program_arrive_in_order(traffic: Traffic) -> None:
    assert traffic.run("send", first=10, keys=100)[1].done == 64  # that many slots
    messages = traffic.out.drain()
    assert [message.order for message in messages] == list(range(10, 74))
    assert all(message.number == ~message.process & 0xFFFFFFFF for message in messages)


def test_messages_of_python_arrive_in_order(traffic: Traffic) -> None:
    sent = traffic.inbox.push_many(
        {"order": n, "process": n, "number": ~n & 0xFFFFFFFF} for n in range(40, 100)
    )
    code, work = traffic.run("receive", first=40, keys=1000)
    assert (code, work.done, work.bad) == (0, sent, 0)


NO_TEXT = [b"\xff" * 16, b"a\0garbage\0\0\0\0\0\0\0", b"\xc3(" + bytes(14), bytes(15) + b"x"]


@pytest.mark.parametrize("name", NO_TEXT)
def test_text_keys_that_are_no_text_can_be_cleared(traffic: Traffic, name: bytes) -> None:
    first, second = struct.unpack("<2Q", name)
    assert traffic.run("put_name", first=first, keys=second)[0] == 0
    assert len(traffic.names) == 1
    traffic.names.clear()
    assert len(traffic.names) == 0
    assert list(traffic.names) == []


@pytest.mark.parametrize("name", NO_TEXT)
def test_text_keys_that_are_no_text_can_be_popped(traffic: Traffic, name: bytes) -> None:
    first, second = struct.unpack("<2Q", name)
    assert traffic.run("put_name", first=first, keys=second)[0] == 0
    with timeout(10):
        assert traffic.names.popitem()[1] == 1
    assert len(traffic.names) == 0


@pytest.mark.parametrize("name", [b"\xff" * 16, b"\xc3(" + bytes(14)])
def test_text_keys_that_are_no_utf_8_can_be_looked_up_as_they_come(
    traffic: Traffic, name: bytes
) -> None:
    first, second = struct.unpack("<2Q", name)
    assert traffic.run("put_name", first=first, keys=second)[0] == 0
    (key,) = traffic.names
    assert traffic.names[key] == 1


# --- at the same time ---------------------------------------------------------------------


def test_additions_of_both_sides_lose_nothing(traffic: Traffic) -> None:
    traffic.counts.update(dict.fromkeys(range(8), 0))
    added = 0
    with Background(traffic, "add_counts", LAST_CPU, keys=8, rounds=500, value=3) as program:
        with on_cpu(FIRST_CPU):
            for number in range(8000):
                traffic.counts.add(number % 8, 1)
                added += 1
    assert program.codes == {0}
    assert program.done > 0
    assert sum(traffic.counts.values()) == added + 3 * program.done


def test_a_reader_never_sees_a_value_of_two_writers(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key] * 6}) for key in range(4))
    changed = set()
    with Background(traffic, "store_blocks", LAST_CPU, keys=4, rounds=2000, value=1) as program:
        with on_cpu(FIRST_CPU):
            for number in range(6000):
                word = list(traffic.blocks[number % 4].word)
                assert word == [word[0]] * 6
                changed.add(word[0])
            for _ in range(500):
                found = dict(traffic.blocks.items())
                assert found.keys() == {0, 1, 2, 3}
                assert all(len(set(block.word)) == 1 for block in found.values())
    assert program.bad == 0
    assert len(changed) > 1  # how many depends on who has the CPU


def test_a_program_never_sees_a_value_of_two_writers(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key] * 6}) for key in range(4))
    with Background(traffic, "read_blocks", LAST_CPU, keys=4, rounds=500) as program:
        with on_cpu(FIRST_CPU):
            for number in range(15000):
                traffic.blocks[number % 4] = {"word": [number] * 6}
    assert program.codes == {0}
    assert program.bad == 0
    assert program.done > 1000


def test_python_iterates_while_a_program_inserts_and_deletes(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key] * 6}) for key in range(200))
    with Background(traffic, "churn_blocks", LAST_CPU, first=1000, keys=50, rounds=20) as program:
        with on_cpu(FIRST_CPU):
            for _ in range(300):
                seen = list(traffic.blocks)
                assert sorted(key for key in seen if key < 1000) == list(range(200))
                assert len(seen) == len(set(seen))
    assert program.bad == 0


def test_a_program_iterates_while_python_inserts_and_deletes(traffic: Traffic) -> None:
    traffic.blocks.update((key, {"word": [key] * 6}) for key in range(200))
    with Background(traffic, "walk_blocks", LAST_CPU, keys=200) as program:
        with on_cpu(FIRST_CPU):
            for number in range(8000):
                key = 1000 + number % 300
                traffic.blocks[key] = {"word": [key] * 6}
                if number % 3:
                    del traffic.blocks[key]
    assert program.codes == {-2}
    assert program.bad == 0
    assert program.done == 200 * program.runs


def test_both_sides_insert_and_delete_the_same_keys_and_the_books_balance(
    traffic: Traffic,
) -> None:
    with Background(traffic, "store_blocks", LAST_CPU, keys=64, rounds=5, value=1) as program:
        with on_cpu(FIRST_CPU):
            for number in range(12000):
                key = number % 64
                if number // 64 % 2:
                    traffic.blocks.pop(key, None)
                else:
                    traffic.blocks.setdefault(key, {"word": [number] * 6})
    assert program.codes == {0}
    assert program.bad == 0
    assert set(traffic.blocks) <= set(range(64))
    assert len(traffic.blocks) == len(list(traffic.blocks))


def test_two_programs_at_once_and_python_keep_the_books(traffic: Traffic) -> None:
    with (
        Background(traffic, "churn_blocks", FIRST_CPU, first=100, keys=30, rounds=10) as one,
        Background(traffic, "store_blocks", LAST_CPU, keys=30, rounds=10, value=5) as two,
    ):
        for number in range(3000):
            traffic.blocks[200 + number % 30] = {"word": [number] * 6}
            assert traffic.run("read_blocks", first=200, keys=1)[1].bad == 0
    assert (one.bad, two.bad) == (0, 0)
    assert set(traffic.blocks) == {*range(30), *range(200, 230)}


def test_a_program_sends_and_python_receives_at_the_same_time(traffic: Traffic) -> None:
    received: list[int] = []
    sent = 0
    runner: Any = traffic.program.runner("send", WORK.size)

    def send() -> None:
        nonlocal sent
        while sent < 20000:
            runner(WORK.pack(*Work(first=sent, keys=min(500, 20000 - sent))))
            sent += Work(*WORK.unpack(runner.context)).done

    sender = threading.Thread(target=send)
    sender.start()
    while len(received) < 20000:
        received += [message.order for message in traffic.out.drain()]
    sender.join()
    assert received == list(range(20000))


def test_python_sends_and_a_program_receives_at_the_same_time(traffic: Traffic) -> None:
    runner: Any = traffic.program.runner("receive", WORK.size)
    received = bad = 0

    def receive() -> None:
        nonlocal received, bad
        while received < 10000:
            runner(WORK.pack(*Work(first=received, keys=500)))
            work = Work(*WORK.unpack(runner.context))
            received += work.done
            bad += work.bad

    receiver = threading.Thread(target=receive)
    receiver.start()
    sent = 0
    while sent < 10000:
        numbers = range(sent, min(sent + 50, 10000))
        sent += traffic.inbox.push_many(
            {"order": n, "process": n, "number": ~n & 0xFFFFFFFF} for n in numbers
        )
    receiver.join()
    assert (received, bad) == (10000, 0)


WRITER = """
    import sys, arenads
    with arenads.open(sys.argv[1]) as arena:
        blocks, counts = arena.structures["blocks"], arena.structures["counts"]
        start = int(sys.argv[2])
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(2000):
            key = start + number % 100
            blocks[key] = {"word": [number] * 6}
            counts.add(number % 4, 1)
            if number % 5 == 0:
                del blocks[key]
    print("done", flush=True)
"""


def test_two_processes_and_a_program_at_once(
    traffic: Traffic, pin: Path, start_python: Any
) -> None:
    traffic.arena.pin(pin)
    traffic.counts.update(dict.fromkeys(range(4), 0))
    children = [start_python(WRITER, pin, start) for start in (1000, 2000)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    with (
        Background(traffic, "churn_blocks", first=0, keys=50, rounds=5) as churn,
        Background(traffic, "add_counts", keys=4, rounds=50, value=1) as add,
    ):
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout.readline() == "done\n"
    assert churn.bad == 0
    assert sum(traffic.counts.values()) == add.done + 2 * 2000
    expected = {start + n for start in (1000, 2000) for n in range(100) if n % 5}
    assert set(traffic.blocks) == expected


def test_a_forked_child_and_a_program_at_once(traffic: Traffic, in_fork: Any) -> None:
    traffic.counts[1] = 0

    def child() -> None:
        for _ in range(3000):
            traffic.counts.add(1, 1)

    with Background(traffic, "add_counts", first=1, rounds=200, value=1) as program:
        in_fork(child)
    assert traffic.counts[1] == program.done + 3000


def test_the_provisioner_feeds_a_program_that_fills_a_map(
    engine: str, compiled: Callable[..., Path], eventually: Any
) -> None:
    with (
        arenads.create("32MiB", engine=engine, populate="1MiB", provision="1MiB") as arena,  # type: ignore[arg-type]
        arenads.load(compiled("traffic", engine), arena=arena) as program,
    ):
        traffic = Traffic(program)
        filled = 0

        def fill() -> bool:
            nonlocal filled
            code, work = traffic.run("fill_counts", first=filled, keys=5000)
            filled += work.done
            assert code in (0, -12)  # no memory: not yet
            return filled >= 60000

        eventually(fill)
        assert len(traffic.counts) == filled
        assert all(traffic.counts[key] == key for key in range(0, filled, 97))
        assert traffic.balanced()


# --- attached to the live kernel -------------------------------------------------------------


def own_calls(traffic: Traffic, process: int | None = None) -> int:
    """How often a process (this one) has asked for its parent, as BPF counted."""
    key = {"process": process or os.getpid(), "number": GETPPID}
    return int(traffic.calls.get(key, 0))


def call(times: int) -> None:
    for _ in range(times):
        os.getppid()


@pytest.mark.kernel
def test_an_attached_program_counts_every_system_call(kernel_traffic: Traffic) -> None:
    kernel_traffic.wanted[os.getpid()] = 0
    kernel_traffic.attach("on_call")
    call(777)
    kernel_traffic.detach()
    call(50)
    assert own_calls(kernel_traffic) == 777


@pytest.mark.kernel
def test_bpf_obeys_a_filter_at_the_next_event(kernel_traffic: Traffic) -> None:
    kernel_traffic.attach("on_call")
    call(10)
    assert own_calls(kernel_traffic) == 0
    kernel_traffic.wanted[os.getpid()] = 0
    call(100)
    kernel_traffic.wanted.store(os.getpid(), 1)
    call(1000)
    kernel_traffic.wanted.store(os.getpid(), 0)
    call(10)
    del kernel_traffic.wanted[os.getpid()]
    call(1000)
    assert own_calls(kernel_traffic) == 110


@pytest.mark.kernel
def test_events_are_listed_newest_first(kernel_traffic: Traffic) -> None:
    kernel_traffic.wanted[os.getpid()] = 0
    kernel_traffic.attach("on_call")
    call(5)
    kernel_traffic.detach()
    mine = [seen.number for seen in kernel_traffic.recent if seen.process == os.getpid()]
    assert mine.count(GETPPID) == 5
    orders = [order for order, _ in kernel_traffic.recent.items()]
    assert orders == sorted(orders)


@pytest.mark.kernel
def test_all_processes_and_cpus_count_in_one_map_while_python_walks_it(
    kernel_traffic: Traffic,
) -> None:
    script = "import os, sys; sys.stdin.readline(); [os.getppid() for _ in range(20000)]"
    children = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) for _ in range(4)
    ]
    for number, child in enumerate(children):
        os.sched_setaffinity(child.pid, {(FIRST_CPU, LAST_CPU)[number % 2]})
        kernel_traffic.wanted[child.pid] = 0
    kernel_traffic.attach("on_call")
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    before = dict.fromkeys((child.pid for child in children), 0)
    while any(child.poll() is None for child in children):
        found = {(key.process, key.number): count for key, count in kernel_traffic.calls.items()}
        for process, last in before.items():
            count = found.get((process, GETPPID), 0)
            assert count >= last
            before[process] = count
    kernel_traffic.detach()
    for child in children:
        child.communicate()
        assert own_calls(kernel_traffic, child.pid) == 20000


@pytest.mark.kernel
def test_counting_and_adding_in_place_at_once_loses_nothing(kernel_traffic: Traffic) -> None:
    key = {"process": os.getpid(), "number": GETPPID}
    kernel_traffic.calls[key] = 0
    kernel_traffic.wanted[os.getpid()] = 0
    kernel_traffic.attach("on_call")

    def add() -> None:
        for _ in range(5000):
            kernel_traffic.calls.add(key, 1000000)

    thread = threading.Thread(target=add)
    thread.start()
    call(5000)
    thread.join()
    kernel_traffic.detach()
    assert own_calls(kernel_traffic) == 5000 * 1000000 + 5000


@pytest.fixture
def interrupts(kernel_traffic: Traffic) -> None:
    """A program that interrupts every CPU some thousand times a second, mid-operation too."""
    from arenads.libbpf import PerfEvent

    event = PerfEvent(period=100_000)  # nanoseconds of the CPU's clock
    kernel_traffic.attach("interrupt", perf_event=event)


@pytest.mark.kernel
def test_a_program_that_interrupts_another_on_the_same_cpu_spoils_nothing(
    kernel_traffic: Traffic, interrupts: None
) -> None:
    traffic = kernel_traffic
    traffic.blocks.update((key, {"word": [key] * 6}) for key in range(16))
    traffic.counts[0] = 0
    with (
        Background(traffic, "store_blocks", FIRST_CPU, keys=16, rounds=500, value=1) as stores,
        Background(traffic, "churn_blocks", LAST_CPU, first=500, keys=16, rounds=500) as churns,
    ):
        while traffic.counts[0] < 4000:
            for block in traffic.blocks.values():
                assert len(set(block.word)) == 1
    kernel_traffic.detach()
    assert (stores.bad, churns.bad) == (0, 0)
    assert {key for key in traffic.blocks if key < 500} == set(range(16))
    assert not any(500 <= key < 1000 for key in traffic.blocks)


@pytest.mark.kernel
def test_python_goes_on_while_interrupts_change_what_it_changes(
    kernel_traffic: Traffic, interrupts: None
) -> None:
    blocks = kernel_traffic.blocks
    blocks.update((key, {"word": [key] * 6}) for key in range(16))
    kernel_traffic.counts[0] = 0
    number = 0
    while kernel_traffic.counts[0] < 2000:
        number += 1
        blocks[number % 16] = {"word": [number] * 6}
        key = 1000 + number % 64
        try:
            blocks.insert(key, {"word": [number] * 6})
        except arenads.KeyExistsError:
            blocks.pop(key, None)
    kernel_traffic.detach()
    assert {key for key in blocks if key < 500} == set(range(16))
    assert all(len(set(block.word)) == 1 for block in blocks.values())


@pytest.mark.kernel
def test_a_read_only_observer_reads_while_bpf_counts(
    kernel_traffic: Traffic, bpf_file_system: Path
) -> None:
    place = bpf_file_system / "observed"
    kernel_traffic.arena.pin(place)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1], readonly=True) as arena:
            counts, last = arena.structures["counts"], -1
            print("ready", flush=True)
            for line in sys.stdin:
                print(counts[5], sum(1 for _ in counts.items()), flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        kernel_traffic.counts.update(dict.fromkeys(range(100), 0))
        assert child.stdout.readline() == "ready\n"
        total = 0
        for _ in range(20):
            total += kernel_traffic.run("add_counts", first=5, rounds=10, value=1)[1].done
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == f"{total} 100\n"
    finally:
        place.unlink()
        child.kill()
        child.communicate()
