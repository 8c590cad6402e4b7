"""Arenas: sizes, addresses, pins, read-only views, fork, and what a refusal leaves behind."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import arenads
from arenads import _core, capabilities, u32, u64

ffi, lib = _core.ffi, _core.lib

GIB = 1 << 30
ROOT = 64  # offset of struct ads_root
MAGIC, ABI, BYTE_ORDER, SIZE, BASE, DIRECTORY, CURSOR, POPULATED = (
    ROOT + at for at in (0, 8, 12, 16, 24, 40, 64, 128)
)


def put(arena: arenads.Arena, offset: int, value: int, size: int = 8) -> None:
    """Write into arena memory as a stray pointer would."""
    ctypes.memmove(arena.base + offset, value.to_bytes(size, "little"), size)


def peek(arena: arenads.Arena, offset: int, size: int = 8) -> int:
    return int.from_bytes(ctypes.string_at(arena.base + offset, size), "little")


@pytest.fixture
def arena(engine: str) -> Iterator[arenads.Arena]:
    with arenads.create("1MiB", engine=engine) as arena:
        yield arena


@pytest.fixture
def pinned(engine: str, pin: Path) -> Path:
    """The pin of an arena that no process has open, with the map `numbers` 1: 10, 2: 20."""
    with arenads.create("1MiB", engine=engine) as arena:
        numbers = arena.hashmap("numbers", key=u64, value=u64)
        numbers.update({1: 10, 2: 20})
        arena.pin(pin)
    return pin


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("64MiB", 64 << 20),
        ("1GiB", GIB),
        ("64 KiB", 65536),
        ("3 pages", 3 * 4096),
        ("1 page", 4096),
        ("1.5MiB", 3 << 19),
        ("65536", 65536),
        (1, 4096),
        (4097, 8192),
        (4 * GIB, 4 * GIB),
        ("4GiB", 4 * GIB),
    ],
)
def test_a_size_is_bytes_or_text_and_rounded_up_to_pages(size: int | str, expected: int) -> None:
    assert arenads.parse_size(size) == expected


@pytest.mark.parametrize(
    "size",
    [0, -1, 4 * GIB + 1, "0", "0MiB", "4.0001GiB", "5GiB", "1048577 pages", "-1MiB"],
)
def test_a_size_out_of_range_is_refused(size: int | str) -> None:
    with pytest.raises(arenads.SizeError, match=r"1 byte to 4 GiB|bytes, or text") as caught:
        arenads.parse_size(size)
    assert caught.value.errno == errno.EINVAL
    assert caught.value.found == size


@pytest.mark.parametrize(
    "size",
    [
        "",
        "MiB",
        "64 MB",
        "64 parsecs",
        "1e6",
        "0x1000",
        "inf",
        "nan",
        "1..5MiB",
        "64MiB\0",
        "9" * 5000,
    ],
)
def test_text_that_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(arenads.SizeError):
        arenads.parse_size(size)


@pytest.mark.parametrize("size", [None, 1.5, True, b"64MiB", ["64MiB"], object()])
def test_what_is_neither_number_nor_text_is_no_size(size: Any) -> None:
    with pytest.raises(arenads.SizeError):
        arenads.parse_size(size)


@pytest.mark.parametrize("size", ["0.1", "0.5", "0.0000001MiB", 0.5])
def test_a_fraction_of_a_byte_is_no_size(size: Any) -> None:
    with pytest.raises(arenads.SizeError):
        arenads.parse_size(size)


@pytest.mark.parametrize("size", [0, -4096, 4 * GIB + 1, "many"])
def test_a_refused_size_leaves_nothing(engine: str, size: int | str, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.SizeError):
        arenads.create(size, engine=engine)


def test_an_arena_has_the_size_that_was_asked_for(engine: str) -> None:
    with arenads.create("3MiB", engine=engine) as arena:
        assert arena.size == arena.statistics().size == 3 << 20


def test_the_smallest_arena_is_a_page(engine: str) -> None:
    with arenads.create(1, engine=engine) as arena:
        assert arena.size == 4096
        assert arena.statistics().populated == 4096


def test_the_largest_arena_is_four_gib_and_costs_only_what_is_populated(engine: str) -> None:
    with arenads.create("4GiB", engine=engine, populate="64KiB", provision=None) as arena:
        numbers = arena.hashmap("numbers", key=u32, value=u32)
        numbers[1] = 2
        assert numbers[1] == 2
        assert arena.statistics().size == 4 * GIB
        assert arena.statistics().populated <= 1 << 20


def test_populate_says_how_much_is_there_from_the_start(engine: str) -> None:
    with arenads.create("8MiB", engine=engine, populate="2MiB", provision=None) as arena:
        assert arena.populated == 2 << 20


@pytest.mark.parametrize("populate", [0, "nothing", 5 * GIB])
def test_a_bad_amount_to_populate_is_named(engine: str, populate: Any, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.SizeError, match="populate"):
        arenads.create("1MiB", engine=engine, populate=populate)


# --- addresses ----------------------------------------------------------------------------


def test_the_base_is_a_multiple_of_four_gib(arena: arenads.Arena) -> None:
    assert arena.base % (4 * GIB) == 0
    assert arena.base > 0


def test_the_base_stands_in_map_extra(kernel_engine: str) -> None:
    from arenads.libbpf import map_info

    with arenads.create("1MiB", engine="kernel") as arena:
        info = map_info(arena.fileno())
        assert info.type == "arena"
        assert info.map_extra == arena.base
        assert info.max_entries == 256


def test_the_base_and_size_stand_in_the_root(arena: arenads.Arena) -> None:
    assert (peek(arena, BASE), peek(arena, SIZE)) == (arena.base, arena.size)


def test_a_base_can_be_chosen(engine: str) -> None:
    base = 0x3ABC_0000_0000
    with arenads.create("1MiB", engine=engine, base=base) as arena:
        assert arena.base == base


@pytest.mark.parametrize(
    "base", [-4 * GIB, 0, 1, 4096, GIB, 4 * GIB + 4096, 1 << 60, 1 << 80, "0x1"]
)
def test_an_impossible_base_is_refused(engine: str, base: Any, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.SizeError, match="base"):
        arenads.create("1MiB", engine=engine, base=base)


def test_a_base_beyond_the_addresses_of_a_process_is_refused(
    engine: str, leaves_nothing: Any
) -> None:
    with (
        leaves_nothing(),
        pytest.raises((arenads.OpenError, arenads.SizeError), match=r"base|addr"),
    ):
        arenads.create("1MiB", engine=engine, base=1 << 55)


def test_a_base_that_is_taken_is_refused_and_nothing_is_left(
    engine: str, leaves_nothing: Any
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    base = 0x3ABD_0000_0000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    taken = libc.mmap(
        ctypes.c_void_p(base + 8192), ctypes.c_size_t(4096), mmap.PROT_READ, flags, -1, 0
    )
    assert taken == base + 8192
    try:
        with leaves_nothing(), pytest.raises(arenads.BaseTakenError, match="base") as caught:
            arenads.create("1MiB", engine=engine, base=base)
        assert caught.value.base == base
        assert f"{base:#x}" in str(caught.value)
    finally:
        libc.munmap(taken, 4096)
    with arenads.create("1MiB", engine=engine, base=base):
        pass  # the refusal left nothing in the way


def test_a_base_taken_by_another_arena_is_refused(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.BaseTakenError):
        arenads.create("1MiB", engine=arena.engine, base=arena.base)


def test_opening_what_is_open_here_is_refused_and_the_open_one_goes_on(
    arena: arenads.Arena, leaves_nothing: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    with leaves_nothing(), pytest.raises(arenads.BaseTakenError, match="opens an arena once"):
        arenads.open(fd=arena.fileno())
    numbers[1] = 2
    assert numbers[1] == 2


def test_two_arenas_live_in_one_process(engine: str) -> None:
    with (
        arenads.create("1MiB", engine=engine) as one,
        arenads.create("1MiB", engine=engine) as two,
    ):
        first = one.hashmap("numbers", key=u64, value=u64)
        second = two.hashmap("numbers", key=u64, value=u64)
        first[1] = 10
        second[1] = 20
        assert (first[1], second[1]) == (10, 20)
        assert one.base != two.base
        assert one.creation_id != two.creation_id


def test_both_engines_live_in_one_process(kernel_engine: str) -> None:
    with (
        arenads.create("1MiB", engine="kernel") as kernel,
        arenads.create("1MiB", engine="native") as native,
    ):
        assert (kernel.engine, native.engine) == ("kernel", "native")
        kernel.hashmap("a", key=u32, value=u32)[1] = 2
        assert list(native.structures) == []


def test_creating_and_closing_leaves_nothing(engine: str, leaves_nothing: Any) -> None:
    with leaves_nothing(), arenads.create("1MiB", engine=engine) as arena:
        arena.hashmap("numbers", key=u64, value=u64)[1] = 2


def test_an_arena_that_is_forgotten_is_closed(engine: str, leaves_nothing: Any) -> None:
    with leaves_nothing():
        arena = arenads.create("1MiB", engine=engine)
        numbers = arena.hashmap("numbers", key=u64, value=u64)
        numbers[1] = 2
        del arena, numbers


def test_an_unknown_engine_is_refused(leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.EngineError, match="'user'"):
        arenads.create("1MiB", engine="user")  # type: ignore[arg-type]


def test_auto_takes_the_kernel_if_it_can(kernel_engine: str) -> None:
    with arenads.create("1MiB") as arena:
        assert arena.engine == "kernel"
        assert "can create BPF arenas" in arena.reason


# --- pages ----------------------------------------------------------------------------------


def test_populating_makes_pages_ahead_of_what_is_used(engine: str) -> None:
    with arenads.create("8MiB", engine=engine, populate="64KiB", provision=None) as arena:
        arena.populate("3MiB")
        statistics = arena.statistics()
        assert statistics.populated - statistics.used >= 3 << 20


def test_populating_what_is_there_changes_nothing(engine: str) -> None:
    with arenads.create("8MiB", engine=engine, populate="4MiB", provision=None) as arena:
        arena.populate("1MiB")
        assert arena.populated == 4 << 20


def test_populating_more_than_the_arena_is_refused(engine: str) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        with pytest.raises(arenads.ArenaFullError, match="1048576 bytes") as caught:
            arena.populate("1MiB")
        assert caught.value.size == 1 << 20


def test_the_provisioner_keeps_its_distance(engine: str, eventually: Any) -> None:
    with arenads.create("32MiB", engine=engine, populate="64KiB", provision="2MiB") as arena:
        for number in range(4):
            arena.queue(f"queue{number}", value=u64, max_entries=1 << 17)  # a MiB each
            eventually(lambda: arena.populated - arena.used >= 2 << 20)
        assert arena.used >= 4 << 20


def test_the_provisioner_stops_at_the_end_of_the_arena(engine: str, eventually: Any) -> None:
    with arenads.create("1MiB", engine=engine, populate="64KiB", provision="4GiB") as arena:
        eventually(lambda: arena.populated == arena.size)


def test_the_provisioner_can_be_changed_and_stopped(engine: str, eventually: Any) -> None:
    with arenads.create("8MiB", engine=engine, populate="64KiB", provision=None) as arena:
        arena.provision("1MiB")
        eventually(lambda: arena.populated - arena.used >= 1 << 20)
        arena.provision(None)
        before = arena.populated
        arena.provision(None)
        assert arena.populated == before


def test_without_a_provisioner_no_thread_is_started(engine: str) -> None:
    before = {*os.listdir("/proc/self/task")}
    with arenads.create("1MiB", engine=engine, provision=None):
        assert before.issuperset(os.listdir("/proc/self/task"))  # others may end meanwhile


def test_statistics_count_what_structures_take(arena: arenads.Arena) -> None:
    arena.queue("first", value=u64)  # brings the directory with it
    before = arena.statistics()
    arena.queue("queue", value=u64, max_entries=4096)
    after = arena.statistics()
    assert 4096 * 8 <= after.used - before.used <= 4096 * 8 + 4096
    assert after.used <= after.populated <= after.size
    assert (after.no_memory, after.damaged) == (0, 0)


def test_used_and_populated_are_those_of_the_statistics(arena: arenads.Arena) -> None:
    assert arena.used == arena.statistics().used
    assert arena.populated == arena.statistics().populated


# --- offset 0 -------------------------------------------------------------------------------


def test_no_structure_and_no_entry_lies_at_offset_0(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=100)
    events = arena.list("events", value=u64, max_entries=100)
    queue = arena.queue("queue", value=u64)
    for number in range(100):
        numbers[number] = number
        events.push(number)
    entry = ffi.new("__u32 *")
    entries = set()
    for number in range(100):
        assert lib.core_hashmap_find(numbers._handle, number.to_bytes(8, "little"), entry) == 0
        entries.add(entry[0])
    assert len(entries) == 100
    assert min(entries | {numbers.offset, events.offset, queue.offset}) > ROOT + 256


def test_the_bytes_at_offset_0_stay_zero(arena: arenads.Arena) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=500)
    numbers.update((number, number) for number in range(500))
    numbers.clear()
    assert ctypes.string_at(arena.base, ROOT) == bytes(ROOT)


# --- opening ----------------------------------------------------------------------------------


def test_an_arena_is_opened_by_its_pin(pinned: Path, engine: str) -> None:
    with arenads.open(pinned) as arena:
        assert arena.engine == engine
        assert dict(arena.structures["numbers"].items()) == {1: 10, 2: 20}


def test_a_pin_may_be_given_as_text(pinned: Path) -> None:
    with arenads.open(str(pinned)) as arena:
        assert arena.structures["numbers"][1] == 10


def test_an_opener_has_the_creators_address_and_identity(engine: str, pin: Path) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        arena.pin(pin)
        base, size, identity = arena.base, arena.size, arena.creation_id
    with arenads.open(pin) as arena:
        assert (arena.base, arena.size, arena.creation_id) == (base, size, identity)


def test_an_arena_is_opened_by_an_inherited_descriptor(arena: arenads.Arena) -> None:
    arena.hashmap("numbers", key=u64, value=u64)[1] = 10
    script = (
        "import sys, arenads\n"
        "with arenads.open(fd=int(sys.argv[1])) as arena:\n"
        "    arena.structures['numbers'][2] = arena.base\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(arena.fileno())],
        pass_fds=[arena.fileno()],
        env={**os.environ, "PYTHONPATH": str(Path(arenads.__file__).parents[1])},
        check=True,
        timeout=60,
    )
    assert arena.structures["numbers"][2] == arena.base


def test_a_descriptor_that_was_given_stays_the_callers(pinned: Path, engine: str) -> None:
    with arenads.open(pinned) as arena:
        own = os.dup(arena.fileno())
    with arenads.open(fd=own) as arena:
        assert arena.fileno() != own
    os.close(own)  # still open


def test_an_arena_is_opened_by_map_id(kernel_engine: str, python: Any) -> None:
    from arenads.libbpf import map_info

    with arenads.create("1MiB", engine="kernel") as arena:
        numbers = arena.hashmap("numbers", key=u64, value=u64)
        script = """
            import sys, arenads
            with arenads.open(map_id=int(sys.argv[1])) as arena:
                arena.structures["numbers"][7] = 70
        """
        python(script, map_info(arena.fileno()).id)
        assert numbers[7] == 70


@pytest.mark.parametrize(
    "arguments",
    [{}, {"fd": 0, "map_id": 1}, {"path": "/x", "fd": 0}, {"path": "/x", "fd": 0, "map_id": 1}],
)
def test_exactly_one_way_to_open_must_be_given(arguments: dict[str, Any]) -> None:
    with pytest.raises(arenads.OpenError, match="one of path, map_id and fd"):
        arenads.open(**arguments)


# --- what is no arena ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/no/such/pin", "/etc/hostname/below", "", "/dev/shm/a\0b"])
def test_a_path_with_nothing_is_no_pin(place: str, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.NotAPinError):
        arenads.open(place)


def test_a_folder_is_no_pin(tmp_path: Path, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.NotAPinError, match="directory"):
        arenads.open(tmp_path)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(4096), os.urandom(8192), b"\xff" * 8192]
)
def test_a_file_of_something_else_is_no_arena(
    tmp_path: Path, content: bytes, readonly: bool, leaves_nothing: Any
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with leaves_nothing(), pytest.raises(arenads.NotAPinError, match="not an arena"):
        arenads.open(file, readonly=readonly)
    assert file.read_bytes() == content


def test_a_named_pipe_is_no_pin_and_is_not_waited_for(tmp_path: Path, leaves_nothing: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    with leaves_nothing(), pytest.raises(arenads.NotAPinError):
        arenads.open(tmp_path / "pipe")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_pin(device: str, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.NotAPinError):
        arenads.open(device)


def test_a_socket_is_no_arena(leaves_nothing: Any) -> None:
    with socket.socket() as other, leaves_nothing(), pytest.raises(arenads.NotAPinError):
        arenads.open(fd=other.fileno())


@pytest.mark.parametrize("fd", [-1, 1 << 20])
def test_a_descriptor_that_is_not_open_is_refused(fd: int) -> None:
    with pytest.raises(arenads.NotAPinError, match="not open"):
        arenads.open(fd=fd)


@pytest.mark.parametrize("map_id", [0, (1 << 32) - 1, -1, 1 << 32])
def test_a_map_id_that_is_none_is_refused(kernel_engine: str, map_id: int) -> None:
    with pytest.raises(arenads.NotAPinError, match=f"map id {map_id}"):
        arenads.open(map_id=map_id)


@pytest.fixture
def hash_map(kernel_engine: str) -> Iterator[Any]:
    from arenads.libbpf import create_map

    with create_map(1, 4, 8, 1) as hash_map:
        yield hash_map


def test_a_pin_of_another_map_type_is_refused(
    hash_map: Any, bpf_file_system: Path, leaves_nothing: Any
) -> None:
    place = bpf_file_system / "hash"
    assert lib.ads_bpf_pin(hash_map.fileno(), os.fsencode(place)) == 0
    try:
        with leaves_nothing(), pytest.raises(arenads.WrongMapTypeError, match="type 1") as caught:
            arenads.open(place)
        assert (caught.value.found, caught.value.expected) == (1, 33)
        assert str(place) in str(caught.value)
    finally:
        place.unlink()


def test_an_id_of_another_map_type_is_refused(hash_map: Any, leaves_nothing: Any) -> None:
    from arenads.libbpf import map_info

    number = map_info(hash_map.fileno()).id
    with leaves_nothing(), pytest.raises(arenads.WrongMapTypeError, match=f"map id {number}"):
        arenads.open(map_id=number)


def test_a_descriptor_of_another_map_type_is_refused(hash_map: Any, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.WrongMapTypeError):
        arenads.open(fd=hash_map.fileno())


def test_an_arena_map_without_an_address_is_refused(
    kernel_engine: str, leaves_nothing: Any
) -> None:
    from arenads.libbpf import ARENA, create_map

    with (
        create_map(ARENA, 0, 0, 16, 1 << 10) as other,
        leaves_nothing(),
        pytest.raises(arenads.WrongMapTypeError, match="address"),
    ):
        arenads.open(fd=other.fileno())


def test_an_arena_map_that_nobody_formatted_is_no_arena(
    kernel_engine: str, leaves_nothing: Any
) -> None:
    from arenads.libbpf import ARENA, create_map

    with (
        create_map(ARENA, 0, 0, 16, 1 << 10, map_extra=0x3ABE_0000_0000) as other,
        leaves_nothing(),
        pytest.raises(arenads.NotAPinError, match="not an arena"),
    ):
        arenads.open(fd=other.fileno())


# --- another ABI, another machine, damage ----------------------------------------------------


def reopen_with(pinned: Path, offset: int, value: int, size: int = 8) -> None:
    """Change a field of the root of a pinned arena, and try to open it."""
    with arenads.open(pinned) as arena:
        put(arena, offset, value, size)
    arenads.open(pinned)


def test_an_arena_of_another_abi_is_refused(pinned: Path, leaves_nothing: Any) -> None:
    with (
        leaves_nothing(),
        pytest.raises(arenads.AbiError, match=f"expected {lib.ADS_ABI_VERSION}") as caught,
    ):
        reopen_with(pinned, ABI, 77, 4)
    assert caught.value.expected == lib.ADS_ABI_VERSION
    assert caught.value.errno == errno.EPROTO


def test_a_refusal_of_another_abi_says_which_was_found(pinned: Path) -> None:
    with pytest.raises(arenads.AbiError, match="77") as caught:
        reopen_with(pinned, ABI, 77, 4)
    assert caught.value.found == 77


@pytest.mark.parametrize(
    ("offset", "value", "size"),
    [(BYTE_ORDER, 0x04030201, 4), (MAGIC, 0x890A4152454E4453, 8)],
    ids=["order", "magic"],
)
def test_an_arena_of_the_other_byte_order_is_refused(
    pinned: Path, offset: int, value: int, size: int, leaves_nothing: Any
) -> None:
    with leaves_nothing(), pytest.raises(arenads.EndianError, match="byte order"):
        reopen_with(pinned, offset, value, size)


def test_an_arena_without_its_magic_is_no_arena(pinned: Path, leaves_nothing: Any) -> None:
    with leaves_nothing(), pytest.raises(arenads.NotAPinError, match="not an arena"):
        reopen_with(pinned, MAGIC, 0x1122334455667788)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (SIZE, 0),
        (SIZE, 2 << 20),
        (BASE, 12345),
        (BASE, 0),
        (BASE, (1 << 64) - 1),
        (POPULATED, 0),
        (POPULATED, 12345),
        (POPULATED, 2 << 20),
        (POPULATED, (1 << 64) - 4096),
        (CURSOR, 0),
        (CURSOR, 64),
        (CURSOR, 1025),
        (CURSOR, (1 << 64) - 8),
        (DIRECTORY, 4),
        (DIRECTORY, 1 << 40),
        (DIRECTORY, (1 << 64) - 8),
    ],
)
def test_a_damaged_root_is_refused_and_nothing_is_left(
    pinned: Path, field: int, value: int, leaves_nothing: Any
) -> None:
    with leaves_nothing(), pytest.raises(arenads.DamagedError, match="root") as caught:
        reopen_with(pinned, field, value)
    assert caught.value.offset == ROOT
    assert caught.value.errno == errno.EUCLEAN


@pytest.mark.parametrize("found", [(1 << 19) + 1, 5000, 4096, 100, 72])
def test_a_truncated_file_says_how_much_of_it_is_there(
    tmp_path: Path, found: int, leaves_nothing: Any
) -> None:
    place = tmp_path / "copy"
    with arenads.create("1MiB", engine="native") as arena:
        place.write_bytes(Path(f"/proc/self/fd/{arena.fileno()}").read_bytes())
    os.truncate(place, found)
    of = "of 1048576 " if found >= 88 else ""
    with (
        leaves_nothing(),
        pytest.raises(arenads.DamagedError, match=f"cut short: {found} {of}bytes") as caught,
    ):
        arenads.open(place)
    assert caught.value.found == found
    assert caught.value.expected == (1 << 20 if found >= 88 else 0)


def test_a_file_of_no_whole_pages_that_starts_as_an_arena_is_damaged(tmp_path: Path) -> None:
    place = tmp_path / "copy"
    with arenads.create("64KiB", engine="native") as arena:
        place.write_bytes(Path(f"/proc/self/fd/{arena.fileno()}").read_bytes() + b"x")
    with pytest.raises(arenads.DamagedError, match="does not fit its size"):
        arenads.open(place)


@pytest.mark.native
@pytest.mark.parametrize("engine", ["native"], indirect=True)  # a map has its size for ever
def test_a_truncated_file_is_damaged(pinned: Path, leaves_nothing: Any) -> None:
    os.truncate(pinned, 1 << 19)
    with leaves_nothing(), pytest.raises(arenads.DamagedError):
        arenads.open(pinned)


# --- the directory -----------------------------------------------------------------------------


def first_name(arena: arenads.Arena) -> int:
    """Offset of the entry of the first name: link, hash, name[64], value."""
    return peek(arena, peek(arena, DIRECTORY) + 128, 4)


# In struct ads_directory_value, behind link, hash and name.
KIND, OFFSET, SCHEMA, SCHEMA_SIZE = 80, 84, 88, 92


def test_the_directory_names_what_was_made(arena: arenads.Arena) -> None:
    arena.hashmap("numbers", key=u64, value=u64)
    arena.list("events", value=u64)
    arena.queue("inbox", value=u64)
    assert sorted(arena.structures) == ["events", "inbox", "numbers"]
    assert len(arena.structures) == 3
    assert "events" in arena.structures
    assert "other" not in arena.structures


def test_an_arena_without_structures_has_an_empty_directory(arena: arenads.Arena) -> None:
    assert list(arena.structures) == []
    assert "numbers" not in arena.structures


def test_a_name_that_is_not_there_is_a_key_error(arena: arenads.Arena) -> None:
    arena.list("events", value=u64)
    with pytest.raises(arenads.StructureAbsentError, match="'events'") as caught:
        arena.structures["numbers"]
    assert isinstance(caught.value, KeyError)
    assert caught.value.name == "numbers"


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 64, "ü" * 32, None, 7, b"numbers"])
def test_an_impossible_name_is_refused(arena: arenads.Arena, name: Any) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.hashmap(name, key=u64, value=u64)
    assert list(arena.structures) == []


@pytest.mark.parametrize("name", ["n" * 63, "ü" * 31, "with space", "a/b.c", "数"])
def test_any_other_name_will_do(arena: arenads.Arena, name: str) -> None:
    arena.hashmap(name, key=u64, value=u64)[1] = 2
    assert arena.structures[name][1] == 2
    assert list(arena.structures) == [name]


def test_a_name_with_surrogates_is_refused(arena: arenads.Arena) -> None:
    with pytest.raises(arenads.SchemaError):
        arena.hashmap("\udcff", key=u64, value=u64)


@pytest.mark.parametrize("kind", ["hashmap", "list", "queue"])
def test_structures_are_read_typed_by_an_opener_that_knows_only_the_pin(
    engine: str, pin: Path, kind: str
) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        if kind == "hashmap":
            arena.hashmap("it", key=arenads.Str[8], value=arenads.i32)["a"] = -5
        elif kind == "list":
            arena.list("it", value=arenads.i32).push(-5)
        else:
            arena.queue("it", value=arenads.i32).push(-5)
        arena.pin(pin)
    with arenads.open(pin) as arena:
        it = arena.structures["it"]
        assert type(it).__name__.lower() == ("hashmap" if kind == "hashmap" else kind)
        found = it["a"] if kind == "hashmap" else it.pop() if kind == "queue" else next(iter(it))
        assert found == -5


@pytest.mark.parametrize("offset", [8, 4096, 65536, (1 << 20) - 64, (1 << 20) - 8])
def test_a_directory_that_leads_elsewhere_is_damage(pinned: Path, offset: int) -> None:
    with arenads.open(pinned) as arena:
        put(arena, DIRECTORY, offset)
        for look in (
            lambda: list(arena.structures),
            lambda: arena.structures["numbers"],
            lambda: arena.hashmap("more", key=u64, value=u64),
            lambda: "numbers" in arena.structures,
        ):
            with pytest.raises(arenads.DamagedError):
                look()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (KIND, 0),
        (KIND, 99),
        (KIND, 2),
        (KIND, 3),
        (OFFSET, 0),
        (OFFSET, 8),
        (OFFSET, 4096),
        (OFFSET, 0xFFFFFFC0),
        (SCHEMA, 0),
        (SCHEMA, 3),
        (SCHEMA, 0xFFFFFFC0),
        (SCHEMA_SIZE, 0),
        (SCHEMA_SIZE, 5),
        (SCHEMA_SIZE, 0xFFFFFFFF),
        (SCHEMA_SIZE, 1 << 20),
    ],
)
def test_a_damaged_name_is_damage(pinned: Path, field: int, value: int) -> None:
    with arenads.open(pinned) as arena:
        put(arena, first_name(arena) + field, value, 4)
        with pytest.raises(arenads.DamagedError) as caught:
            arena.structures["numbers"]
        assert isinstance(caught.value.offset, int)


@pytest.mark.parametrize("text", [b"\0", b"}{", b"\xff\xfe", b"[1]", b'{"value":{"type":{}}}'])
def test_a_damaged_schema_is_damage(pinned: Path, text: bytes) -> None:
    with arenads.open(pinned) as arena:
        entry = first_name(arena)
        ctypes.memmove(arena.base + peek(arena, entry + SCHEMA, 4), text, len(text))
        put(arena, entry + SCHEMA_SIZE, len(text), 4)
        with pytest.raises(arenads.DamagedError, match="schema"):
            arena.structures["numbers"]


@pytest.mark.parametrize("what", ["key", "value"])
def test_a_schema_of_another_size_than_the_records_have_is_damage(pinned: Path, what: str) -> None:
    with arenads.open(pinned) as arena:
        entry = first_name(arena)
        size = peek(arena, entry + SCHEMA_SIZE, 4)
        place = arena.base + peek(arena, entry + SCHEMA, 4)
        text = ctypes.string_at(place, size)
        good = f'"{what}":{{"type":{{"c":"scalar","name":"u64"}}}}'.encode()
        assert good in text
        text = text.replace(good, good.replace(b"u64", b"u32"))
        ctypes.memmove(place, text, size)
        expected = f"the schema of 'numbers' is of {what}s of 4 bytes, but it has {what}s of 8"
        with pytest.raises(arenads.DamagedError, match=expected):
            arena.structures["numbers"]
        with pytest.raises(arenads.DamagedError, match=expected):
            arena.hashmap("numbers", key=u64, value=u64)


# --- read-only views ------------------------------------------------------------------------


@pytest.fixture
def observed(engine: str, pin: Path) -> Iterator[arenads.Arena]:
    """A read-only view of an arena with one structure of each kind, and entries in them."""
    with arenads.create("2MiB", engine=engine) as arena:
        arena.hashmap("numbers", key=u64, value=u64).update({1: 10, 2: 20})
        events = arena.list("events", value=u64)
        events.insert(5, 50)
        events.push(40)
        arena.queue("inbox", value=u64).push(7)
        arena.pin(pin)
    with arenads.open(pin, readonly=True) as arena:
        yield arena


def test_a_read_only_view_reads_all_kinds(observed: arenads.Arena) -> None:
    assert observed.readonly
    assert sorted(observed.structures["numbers"].items()) == [(1, 10), (2, 20)]
    assert list(observed.structures["events"].items()) == [(4, 40), (5, 50)]
    assert len(observed.structures["inbox"]) == 1
    assert observed.structures["numbers"][1] == 10
    assert observed.structures["numbers"].load(2) == 20
    assert observed.structures["events"].get(5) == 50
    assert observed.structures["numbers"].check().live == 2
    assert observed.statistics().size == 2 << 20
    assert observed.hashmap("numbers", key=u64, value=u64)[2] == 20


NUMBERS: dict[str, Callable[[Any], object]] = {
    "assignment": lambda numbers: numbers.__setitem__(1, 0),
    "assignment of a new key": lambda numbers: numbers.__setitem__(9, 0),
    "insert": lambda numbers: numbers.insert(9, 0),
    "replace": lambda numbers: numbers.replace(1, 0),
    "setdefault": lambda numbers: numbers.setdefault(9, 0),
    "deletion": lambda numbers: numbers.__delitem__(1),
    "pop": lambda numbers: numbers.pop(1),
    "popitem": lambda numbers: numbers.popitem(),
    "clear": lambda numbers: numbers.clear(),
    "update": lambda numbers: numbers.update({1: 0}),
    "add": lambda numbers: numbers.add(1, 1),
    "store": lambda numbers: numbers.store(1, 0),
    "cas": lambda numbers: numbers.cas(1, 10, 0),
    "repair": lambda numbers: numbers.check(repair=True),
}
EVENTS: dict[str, Callable[[Any], object]] = {
    "push": lambda events: events.push(0),
    "insert": lambda events: events.insert(9, 0),
    "replace": lambda events: events.replace(5, 0),
    "update": lambda events: events.update(5, 0),
    "delete": lambda events: events.delete(5),
}
INBOX: dict[str, Callable[[Any], object]] = {
    "push": lambda inbox: inbox.push(0),
    "push_many": lambda inbox: inbox.push_many([0]),
    "pop": lambda inbox: inbox.pop(),
    "drain": lambda inbox: inbox.drain(),
}
ARENA: dict[str, Callable[[Any], object]] = {
    "hashmap": lambda arena: arena.hashmap("new", key=u64, value=u64),
    "list": lambda arena: arena.list("new", value=u64),
    "queue": lambda arena: arena.queue("new", value=u64),
    "populate": lambda arena: arena.populate("1MiB"),
    "provision": lambda arena: arena.provision("1MiB"),
}


def expect_read_only(observed: arenads.Arena, mutate: Callable[[Any], object], to: Any) -> None:
    before = ctypes.string_at(observed.base, observed.used)
    with pytest.raises(arenads.ReadOnlyError, match="read-only") as caught:
        mutate(to)
    assert caught.value.errno == errno.EROFS
    assert isinstance(caught.value, PermissionError)
    assert ctypes.string_at(observed.base, observed.used) == before


@pytest.mark.parametrize("mutate", NUMBERS.values(), ids=NUMBERS)
def test_no_mutation_of_a_hash_map_works_read_only(
    observed: arenads.Arena, mutate: Callable[[Any], object]
) -> None:
    expect_read_only(observed, mutate, observed.structures["numbers"])


@pytest.mark.parametrize("mutate", EVENTS.values(), ids=EVENTS)
def test_no_mutation_of_a_list_works_read_only(
    observed: arenads.Arena, mutate: Callable[[Any], object]
) -> None:
    expect_read_only(observed, mutate, observed.structures["events"])


@pytest.mark.parametrize("mutate", INBOX.values(), ids=INBOX)
def test_no_mutation_of_a_queue_works_read_only(
    observed: arenads.Arena, mutate: Callable[[Any], object]
) -> None:
    expect_read_only(observed, mutate, observed.structures["inbox"])


@pytest.mark.parametrize("mutate", ARENA.values(), ids=ARENA)
def test_no_mutation_of_an_arena_works_read_only(
    observed: arenads.Arena, mutate: Callable[[Any], object]
) -> None:
    expect_read_only(observed, mutate, observed)


def test_a_store_through_a_read_only_view_kills_the_process(pinned: Path, python: Any) -> None:
    script = """
        import ctypes, resource, sys, arenads
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        arena = arenads.open(sys.argv[1], readonly=True)
        ctypes.c_uint64.from_address(arena.base + 64).value  # reading works
        ctypes.c_uint64.from_address(arena.base + 64).value = 1
    """
    done = python(script, pinned, check=False)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_a_read_only_view_sees_what_others_write(engine: str, pin: Path, python: Any) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        arena.hashmap("numbers", key=u64, value=u64)
        arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            arena.structures["numbers"].update((n, n * n) for n in range(500))
    """
    with arenads.open(pin, readonly=True) as arena:
        numbers = arena.structures["numbers"]
        assert len(numbers) == 0
        python(script, pin)
        assert dict(numbers) == {n: n * n for n in range(500)}


def test_a_check_through_an_old_view_knows_what_others_have_made_since(
    engine: str, pin: Path, python: Any
) -> None:
    with arenads.create("16MiB", engine=engine, populate="64KiB", provision=None) as arena:
        arena.hashmap("numbers", key=u64, value=u64)[1] = 2
        arena.pin(pin)
    script = """
        import sys, arenads
        with arenads.open(sys.argv[1]) as arena:
            arena.queue("large", value=arenads.u64, max_entries=1 << 18)
            arena.hashmap("more", key=arenads.u64, value=arenads.u64)[1] = 2
    """
    with arenads.open(pin) as arena:
        numbers = arena.structures["numbers"]
        python(script, pin)
        report = numbers.check()
        assert (report.errors, report.leaked, report.live) == (0, 0, 1)


# --- pin, unlink, close --------------------------------------------------------------------------


def test_closing_does_not_unpin(engine: str, pin: Path) -> None:
    arena = arenads.create("1MiB", engine=engine)
    arena.hashmap("numbers", key=u64, value=u64)[1] = 10
    arena.pin(pin)
    arena.close()
    with arenads.open(pin) as again:
        assert again.structures["numbers"][1] == 10


def test_unlinking_does_not_disturb_who_has_it_open(pinned: Path) -> None:
    with arenads.open(pinned) as arena:
        numbers = arena.structures["numbers"]
        arenads.unlink(pinned)
        assert not pinned.exists()
        numbers[3] = 30
        assert dict(numbers) == {1: 10, 2: 20, 3: 30}


def test_after_unlinking_the_name_can_be_used_again(engine: str, pinned: Path) -> None:
    arenads.unlink(pinned)
    with arenads.create("1MiB", engine=engine) as arena:
        arena.pin(pinned)
    with arenads.open(pinned) as arena:
        assert list(arena.structures) == []


def test_an_arena_can_have_two_pins(engine: str, pinned: Path) -> None:
    other = pinned.with_name("other")
    with arenads.open(pinned) as arena:
        arena.pin(other)
    arenads.unlink(pinned)
    try:
        with arenads.open(other) as arena:
            assert arena.structures["numbers"][1] == 10
    finally:
        arenads.unlink(other)


def test_a_pin_keeps_out_other_users(pinned: Path) -> None:
    assert pinned.stat().st_mode & 0o077 == 0


def test_pinning_where_something_exists_is_refused(engine: str, pinned: Path) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        with pytest.raises(arenads.NameExistsError, match="exists already"):
            arena.pin(pinned)
        assert arena.hashmap("numbers", key=u64, value=u64) is not None
    with arenads.open(pinned) as arena:
        assert arena.structures["numbers"][1] == 10  # the old one stands


def test_pinning_outside_the_file_system_for_it_is_refused(
    arena: arenads.Arena, tmp_path: Path
) -> None:
    where = "bpf file system" if arena.engine == "kernel" else "/dev/shm"
    with pytest.raises(arenads.NotAPinError, match=where):
        arena.pin(tmp_path / "pin")
    assert list(tmp_path.iterdir()) == []


def test_pinning_in_a_folder_that_is_not_there_is_refused(arena: arenads.Arena, pin: Path) -> None:
    with pytest.raises(arenads.NotAPinError):
        arena.pin(pin / "no" / "such" / "folder")


def test_a_path_with_a_nul_is_no_place_for_a_pin(arena: arenads.Arena, pin: Path) -> None:
    with pytest.raises(arenads.NotAPinError):
        arena.pin(f"{pin}\0and more")
    assert not pin.exists()


@pytest.fixture
def shared_file(tmp_path: Path) -> Iterator[Path]:
    """A path in /dev/shm for a file that is not an arena."""
    place = Path("/dev/shm") / f"arenads-tests-{os.getpid()}-{tmp_path.name}"
    yield place
    place.unlink(missing_ok=True)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 4096])
def test_a_file_that_is_not_an_arena_is_not_unlinked(
    shared_file: Path, tmp_path: Path, content: bytes, leaves_nothing: Any
) -> None:
    for place in (shared_file, tmp_path / "file"):
        place.write_bytes(content)
        with leaves_nothing(), pytest.raises(arenads.NotAPinError, match="not the pin"):
            arenads.unlink(place)
        assert place.read_bytes() == content


def test_the_copy_of_an_arena_elsewhere_is_not_unlinked(tmp_path: Path, shared_file: Path) -> None:
    with arenads.create("64KiB", engine="native") as arena:
        arena.pin(shared_file)
    copy = tmp_path / "copy"
    copy.write_bytes(shared_file.read_bytes())
    if copy.stat().st_dev == shared_file.stat().st_dev:
        pytest.skip("temporary files are in /dev/shm here")
    with pytest.raises(arenads.NotAPinError, match="a file elsewhere"):
        arenads.unlink(copy)
    assert copy.exists()


def test_a_link_to_a_pin_is_not_unlinked(pinned: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pinned)
    with pytest.raises(arenads.NotAPinError, match="no pin"):
        arenads.unlink(link)
    assert link.is_symlink() and pinned.exists()


def test_folders_and_pipes_are_not_unlinked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/", "."):
        with pytest.raises(arenads.NotAPinError):
            arenads.unlink(place)
    assert (tmp_path / "pipe").exists()


def test_the_pin_of_another_map_is_not_unlinked(hash_map: Any, bpf_file_system: Path) -> None:
    place = bpf_file_system / "hash"
    assert lib.ads_bpf_pin(hash_map.fileno(), os.fsencode(place)) == 0
    try:
        with pytest.raises(arenads.NotAPinError, match="a BPF map of type 1"):
            arenads.unlink(place)
        assert place.exists()
    finally:
        place.unlink()


@pytest.mark.parametrize("damage", ["size", "cut", "version", "order"])
def test_a_damaged_arena_that_starts_as_one_is_unlinked(shared_file: Path, damage: str) -> None:
    with arenads.create("64KiB", engine="native") as arena:
        arena.pin(shared_file)
    root, size = lib.ADS_ROOT_OFFSET, 65536
    with shared_file.open("r+b") as file:
        if damage == "cut":
            file.truncate(root + 8)
        elif damage == "order":
            file.seek(root)
            mark = file.read(8)
            file.seek(root)
            file.write(mark[::-1])
        else:
            file.seek(root + (8 if damage == "version" else 16))
            file.write((size * 7).to_bytes(4, "little"))
    with pytest.raises(arenads.ArenadsError):
        arenads.open(shared_file)
    arenads.unlink(shared_file)
    assert not shared_file.exists()


def test_a_pin_below_the_working_folder_is_unlinked(
    pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pinned.parent)
    arenads.unlink(pinned.name)
    assert not pinned.exists()


def test_only_an_arena_in_the_way_of_a_pin_may_be_unlinked(
    shared_file: Path, pinned: Path, engine: str
) -> None:
    shared_file.write_text("x")
    with arenads.create("64KiB", engine="native") as arena:
        with pytest.raises(arenads.NameExistsError) as caught:
            arena.pin(shared_file)
        assert "unlink" not in str(caught.value)
    with arenads.create("64KiB", engine=engine) as arena:
        with pytest.raises(arenads.NameExistsError, match=r"remove it with arenads\.unlink"):
            arena.pin(pinned)


@pytest.mark.parametrize("place", ["/no/such/pin", "", "/dev/shm/a\0b"])
def test_unlinking_what_is_not_there_is_refused(place: str) -> None:
    with pytest.raises(arenads.NotAPinError):
        arenads.unlink(place)


def test_the_arena_lives_as_long_as_another_process_has_it(
    engine: str, pin: Path, start_python: Any
) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        arena.hashmap("numbers", key=u64, value=u64)[1] = 10
        arena.pin(pin)
    script = """
        import sys, arenads
        arena = arenads.open(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        print(arena.structures["numbers"][1], flush=True)
    """
    child = start_python(script, pin)
    assert child.stdout.readline() == "open\n"
    arenads.unlink(pin)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "10\n"


# --- closed arenas --------------------------------------------------------------------------------

CLOSED: dict[str, Callable[[Any, Any, Any, Any], object]] = {
    "size": lambda arena, numbers, events, inbox: arena.size,
    "base": lambda arena, numbers, events, inbox: arena.base,
    "statistics": lambda arena, numbers, events, inbox: arena.statistics(),
    "fileno": lambda arena, numbers, events, inbox: arena.fileno(),
    "creation_id": lambda arena, numbers, events, inbox: arena.creation_id,
    "pin": lambda arena, numbers, events, inbox: arena.pin("/x"),
    "populate": lambda arena, numbers, events, inbox: arena.populate(4096),
    "provision": lambda arena, numbers, events, inbox: arena.provision(4096),
    "structures": lambda arena, numbers, events, inbox: list(arena.structures),
    "structure": lambda arena, numbers, events, inbox: arena.structures["numbers"],
    "hashmap": lambda arena, numbers, events, inbox: arena.hashmap("x", key=u64, value=u64),
    "with": lambda arena, numbers, events, inbox: arena.__enter__(),
    "get item": lambda arena, numbers, events, inbox: numbers[1],
    "get": lambda arena, numbers, events, inbox: numbers.get(1),
    "in": lambda arena, numbers, events, inbox: 1 in numbers,
    "set item": lambda arena, numbers, events, inbox: numbers.__setitem__(1, 2),
    "delete item": lambda arena, numbers, events, inbox: numbers.__delitem__(1),
    "clear": lambda arena, numbers, events, inbox: numbers.clear(),
    "length": lambda arena, numbers, events, inbox: len(numbers),
    "iteration": lambda arena, numbers, events, inbox: list(numbers),
    "items": lambda arena, numbers, events, inbox: list(numbers.items()),
    "add": lambda arena, numbers, events, inbox: numbers.add(1, 1),
    "load": lambda arena, numbers, events, inbox: numbers.load(1),
    "check": lambda arena, numbers, events, inbox: numbers.check(),
    "counters": lambda arena, numbers, events, inbox: numbers.counters(),
    "max_entries": lambda arena, numbers, events, inbox: numbers.max_entries,
    "list push": lambda arena, numbers, events, inbox: events.push(1),
    "list get": lambda arena, numbers, events, inbox: events.get(1),
    "list delete": lambda arena, numbers, events, inbox: events.delete(1),
    "list items": lambda arena, numbers, events, inbox: list(events.items()),
    "queue push": lambda arena, numbers, events, inbox: inbox.push(1),
    "queue push_many": lambda arena, numbers, events, inbox: inbox.push_many([1]),
    "queue pop": lambda arena, numbers, events, inbox: inbox.pop(),
    "queue drain": lambda arena, numbers, events, inbox: inbox.drain(),
    "queue length": lambda arena, numbers, events, inbox: len(inbox),
}


@pytest.mark.parametrize("use", CLOSED.values(), ids=CLOSED)
def test_a_closed_arena_refuses_everything(engine: str, use: Callable[..., object]) -> None:
    with arenads.create("1MiB", engine=engine) as arena:
        numbers = arena.hashmap("numbers", key=u64, value=u64)
        events = arena.list("events", value=u64)
        inbox = arena.queue("inbox", value=u64)
        numbers[1] = 2
    with pytest.raises(arenads.ClosedError, match="closed") as caught:
        use(arena, numbers, events, inbox)
    assert caught.value.errno == errno.EBADF


def test_closing_twice_is_fine(engine: str, leaves_nothing: Any) -> None:
    with leaves_nothing():
        arena = arenads.create("1MiB", engine=engine)
        arena.close()
        arena.close()
        assert arena.closed


def test_a_closed_arena_can_be_shown(engine: str) -> None:
    arena = arenads.create("1MiB", engine=engine)
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    assert repr(arena) == f"<Arena {engine}, 1048576 bytes at {arena.base:#x}>"
    assert repr(numbers) == "<HashMap 'numbers', 0 of 1024 entries>"
    arena.close()
    assert repr(arena) == "<Arena closed>"
    assert repr(numbers) == "<HashMap 'numbers', arena closed>"


def test_closing_in_the_middle_of_an_iteration_ends_it_with_an_error(engine: str) -> None:
    arena = arenads.create("1MiB", engine=engine)
    numbers = arena.hashmap("numbers", key=u64, value=u64, max_entries=2000)
    numbers.update((number, number) for number in range(2000))
    with pytest.raises(arenads.ClosedError):
        for _ in numbers:
            arena.close()


# --- fork -----------------------------------------------------------------------------------------


def test_a_forked_child_sees_what_was_written(arena: arenads.Arena, in_fork: Any) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    numbers[1] = 10

    def child() -> None:
        assert dict(numbers) == {1: 10}
        assert arena.statistics().size == 1 << 20

    in_fork(child)


def test_the_parent_sees_what_a_forked_child_writes(arena: arenads.Arena, in_fork: Any) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    in_fork(lambda: numbers.update({2: 20, 3: 30}))
    in_fork(lambda: arena.list("made by the child", value=u64).push(5))
    assert dict(numbers) == {2: 20, 3: 30}
    assert list(arena.structures["made by the child"]) == [5]


def test_a_child_that_closes_the_arena_does_not_close_the_parents(
    arena: arenads.Arena, in_fork: Any
) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    in_fork(arena.close)
    numbers[1] = 2
    assert numbers[1] == 2


def test_a_child_has_its_own_provisioner_if_it_wants_one(
    arena: arenads.Arena, in_fork: Any, eventually: Any
) -> None:
    def child() -> None:
        arena.provision("4GiB")
        eventually(lambda: arena.populated == arena.size)
        arena.close()

    in_fork(child)


def test_a_child_of_a_reader_cannot_write_either(observed: arenads.Arena, in_fork: Any) -> None:
    def child() -> None:
        numbers = observed.structures["numbers"]
        assert numbers[1] == 10
        with pytest.raises(arenads.ReadOnlyError):
            numbers[1] = 0

    in_fork(child)


def test_a_grandchild_still_has_the_arena(arena: arenads.Arena, in_fork: Any) -> None:
    numbers = arena.hashmap("numbers", key=u64, value=u64)
    in_fork(lambda: in_fork(lambda: numbers.update({1: 10})))
    assert numbers[1] == 10


def test_forking_with_closed_and_open_arenas_leaves_nothing(
    engine: str, in_fork: Any, leaves_nothing: Any
) -> None:
    with leaves_nothing():
        closed = arenads.create("1MiB", engine=engine)
        closed.close()
        with arenads.create("1MiB", engine=engine) as arena:
            in_fork(lambda: arena.hashmap("numbers", key=u64, value=u64))
            assert "numbers" in arena.structures


# --- rights ------------------------------------------------------------------------------------

DROP_CAPABILITIES = """
import ctypes, sys
import arenads
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
header, none = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), none) == 0
"""


def test_without_capabilities_auto_takes_the_native_engine(kernel_engine: str, python: Any) -> None:
    script = DROP_CAPABILITIES + (
        "with arenads.create('1MiB') as arena:\n"
        "    arena.hashmap('numbers', key=arenads.u64, value=arenads.u64)[1] = 2\n"
        "    print(arena.engine, arena.reason, sep='\\n')\n"
    )
    engine, reason = python(script).stdout.splitlines()
    assert engine == "native"
    assert "CAP_BPF" in reason


def test_without_capabilities_the_kernel_engine_is_refused(kernel_engine: str, python: Any) -> None:
    script = DROP_CAPABILITIES + (
        "try:\n"
        "    arenads.create('1MiB', engine='kernel')\n"
        "except arenads.EngineError as error:\n"
        "    print(error, error.errno, sep='\\n')\n"
    )
    message, number = python(script).stdout.splitlines()
    assert "CAP_BPF" in message
    assert int(number) == errno.EPERM


def test_without_capabilities_a_map_id_cannot_be_opened(kernel_engine: str, python: Any) -> None:
    from arenads.libbpf import map_info

    script = DROP_CAPABILITIES + (
        "try:\n"
        "    arenads.open(map_id=int(sys.argv[1]))\n"
        "except arenads.PrivilegeError as error:\n"
        "    print(error, error.missing, sep='\\n')\n"
    )
    with arenads.create("1MiB", engine="kernel") as arena:
        message, missing = python(script, map_info(arena.fileno()).id).stdout.splitlines()
    assert "CAP_SYS_ADMIN" in message
    assert missing == "('CAP_SYS_ADMIN',)"


def test_without_capabilities_a_pin_of_ones_own_can_still_be_opened(
    pinned: Path, python: Any
) -> None:
    script = DROP_CAPABILITIES + (
        "with arenads.open(sys.argv[1]) as arena:\n    arena.structures['numbers'][3] = 30\n"
    )
    python(script, pinned)
    with arenads.open(pinned) as arena:
        assert arena.structures["numbers"][3] == 30


@pytest.mark.skipif(
    bool(capabilities.missing("CAP_SETUID", "CAP_SETGID")),
    reason="this process cannot become somebody else",
)
def test_an_arena_of_somebody_else_may_not_be_opened(pinned: Path, python: Any) -> None:
    script = """
        import os, sys, arenads
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for readonly in (False, True):
            try:
                arenads.open(sys.argv[1], readonly=readonly)
            except arenads.PrivilegeError as error:
                print(error)
    """
    lines = python(script, pinned).stdout.splitlines()
    assert len(lines) == 2
    assert all("may not be opened" in line for line in lines)
