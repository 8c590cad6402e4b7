"""Closing an arena while other threads are in the middle of using it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import arenads
from arenads import closing
from arenads.demo import program_path

# Each runs in a process of its own, which dies of what it looks for.
_PRELUDE = """
import faulthandler, gc, signal, sys, threading
import numpy
import arenads
from arenads import closing, u32, u64

faulthandler.enable()
engine = sys.argv[1]
keys = numpy.arange(20_000, dtype="u4")

def filled():
    arena = arenads.create("16MiB", engine=engine)
    numbers = arena.hashmap("m", key=u32, value=u64, max_entries=40_000)
    numbers.update_many(keys, keys.astype("u8"))
    elements = arena.array("a", value=u64, max_entries=20_000)
    elements.update_many(keys.astype("i8"), keys.astype("u8") + 1)
    return arena, numbers, elements
"""

_USES = {
    "get": "numbers[5]",
    "put": "numbers.__setitem__(3, 4)",
    "delete": "(numbers.pop(3, None), numbers.setdefault(3, 4))",
    "length": "len(numbers)",
    "get_many": "numbers.get_many(keys)",
    "update_many": "numbers.update_many(keys, keys)",
    "snapshot": "numbers.snapshot()",
    "iteration": "sum(1 for _ in numbers.items())",
    "check": "numbers.check()",
    "array": "elements[7]",
    "array_snapshot": "elements.snapshot()",
    "view": "view.value",
    "directory": "list(arena.structures)",
    "creation": "(arena.set('s', key=u32), arena.remove('s'))",
    "reap": "(arena.reap(), arena.statistics(), arena.check())",
}

_RACE = """
def use(arena, numbers, elements, view):
    return {use}

for turn in range(12):
    arena, numbers, elements = filled()
    view = numbers.view(1)
    begun, ended = threading.Event(), []

    def run():
        try:
            use(arena, numbers, elements, view)
            begun.set()
            while True:
                use(arena, numbers, elements, view)
        except BaseException as error:
            ended.append(error)
        begun.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    arena.close()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, {expected}) for error in ended), ended
"""


def _survives(engine: str, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, engine], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("patience", ["as it is", "none"])
@pytest.mark.parametrize("use", _USES)
def test_a_thread_in_an_operation_gets_an_error_when_another_closes(
    engine: str, use: str, patience: str
) -> None:
    # Two threads that make one name meet each other's; that is their affair.
    expected = "arenads.ArenadsError" if use == "creation" else "arenads.ClosedError"
    setup = "closing._MOMENT = 0\n" if patience == "none" else ""
    _survives(engine, setup + _RACE.format(use=_USES[use], expected=expected))


def test_a_native_program_meets_an_empty_arena_when_another_thread_closes() -> None:
    code = """
from arenads.demo import Sample, pack_sample, program_path
context = pack_sample(Sample(7, 3, 4, "init"))
closing._MOMENT = 0

for turn in range(40):
    program = arenads.load(program_path(), engine="native")
    run = program.runner("sample", context_size=len(context))
    begun, failed = threading.Event(), []

    def work():
        try:
            for number in range(100_000_000):
                run(context)
                begun.set()
                if program.closed and number > 1000:
                    break
        except arenads.ArenadsError:
            pass
        except BaseException as error:
            failed.append(error)
        begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    (program.arena.close if turn % 2 else program.close)()
    program.close()
    thread.join()
    assert not failed, failed
"""
    _survives("native", code)


def test_the_addresses_of_a_closed_arena_stay_for_a_native_program_that_is_running() -> None:
    program = arenads.load(program_path(), engine="native")
    base = program.arena.base
    program._inside.append(None)  # as a thread that is about to call its code
    program.close()
    assert base in closing._retired
    del program
    gc.collect()
    assert base not in closing._retired


def test_the_addresses_of_a_closed_arena_are_free_when_no_native_program_runs() -> None:
    program = arenads.load(program_path(), engine="native")
    program.run("talk", bytes(4))
    base = program.arena.base
    program.close()
    assert base not in closing._retired


def test_a_signal_handler_may_close_in_the_middle_of_a_call(engine: str) -> None:
    _survives(
        engine,
        """
arena, numbers, _ = filled()
signal.signal(signal.SIGALRM, lambda *_: arena.close())
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    while True:
        numbers.snapshot()
except arenads.ClosedError:
    pass
assert arena.closed
""",
    )


def test_what_lives_on_of_a_reservation_reaches_no_other_memory(engine: str) -> None:
    _survives(
        engine,
        """
arena = arenads.create("1MiB", engine=engine)
ring = arena.ring("r", size=4096)
with ring.reserve(8) as room:
    kept = numpy.frombuffer(room, "u1")
arena.close()
kept[:].sum()
del arena, ring
gc.collect()
kept[:].sum()
""",
    )


def test_a_view_outlives_its_arena(engine: str) -> None:
    _survives(
        engine,
        """
arena, numbers, _ = filled()
view = numbers.view(1)
arena.close()
del arena, numbers, _
gc.collect()
try:
    view.value
except arenads.ClosedError:
    sys.exit(0)
sys.exit(1)
""",
    )


def test_a_process_opens_an_arena_again_while_it_has_the_closed_one(
    engine: str, tmp_path: Path
) -> None:
    first = arenads.create("1MiB", engine=engine)
    numbers = first.hashmap("m", key=arenads.u32, value=arenads.u64)
    numbers[1] = 2
    fd, base = os.dup(first.fileno()), first.base
    first.close()
    try:
        with arenads.open(fd=fd) as second:
            assert (second.base, second.structures["m"][1]) == (base, 2)
            with pytest.raises(arenads.ClosedError):
                numbers[1] = 3
            del numbers, first  # whose addresses are the second one's now
            assert second.structures["m"][1] == 2
    finally:
        os.close(fd)


def test_addresses_are_free_again_when_the_arena_is_collected(engine: str) -> None:
    arena = arenads.create("1MiB", engine=engine)
    base = f"{arena.base:x}-"
    arena.close()
    del arena
    assert base not in Path("/proc/self/maps").read_text()


def test_a_thread_that_never_waits_keeps_the_addresses(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = arenads.create("1MiB", engine=engine)
    base = arena.base
    monkeypatch.setattr(closing, "_wait_for_others", lambda seconds: False)
    arena.close()
    with pytest.raises(arenads.BaseTakenError) as caught:
        arenads.create("1MiB", engine=engine, base=base)
    assert caught.value.base == base
    monkeypatch.undo()
    arenads.create("1MiB", engine=engine, base=base).close()


def test_a_child_of_fork_may_close_and_open(engine: str) -> None:
    _survives(
        engine,
        """
import os
closed, (_, open_, _) = arenads.create("1MiB", engine=engine), filled()
closed.close()
child = os.fork()
if child == 0:
    assert open_[5] == 5
    open_.arena.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert open_[5] == 5
""",
    )


def test_a_listing_of_threads_that_was_cut_short_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        whole = closing._threads()
        assert whole is not None and str(thread.native_id) in whole
        monkeypatch.setattr(os, "listdir", lambda _: sorted(whole - {str(thread.native_id)}))
        assert closing._threads() is None
    finally:
        monkeypatch.undo()
        stop.set()
        thread.join()
