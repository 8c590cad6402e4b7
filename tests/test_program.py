"""Programs: what is refused and how, loading with an arena, running, attaching, closing."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import PROGRAMS, child_environment
from unprivileged import drop_capabilities

import arenads
from arenads import capabilities, compiler, u32, u64
from arenads.errors import ObjectError, WrongMapTypeError
from arenads.libbpf import create_map, library

Leaves = Callable[[], AbstractContextManager[None]]
Compiled = Callable[..., Path]

SUM = struct.Struct("<3q")
GETPPID = 110 if os.uname().machine == "x86_64" else 173
CALL, RETURN, PACKET, CONNECT, RUN = range(5)

HEAD = """
#include <arenads/bpf.h>
char LICENSE[] SEC("license") = "GPL";
struct pair { __u64 first, second; };
"""
ARENA = "ADS_ARENA(ADS_MIB);\n"
ADD = 'SEC("syscall") int add(__u64 *c) { return (int)(c[0] + c[1]); }\n'
# One structure that is right comes before the one that is not.
DECLARED = ARENA + "ADS_HASHMAP(before, __u32, __u32, 4);\n%s\n" + ADD


def key(event: int, who: int) -> int:
    return event << 48 | who


class Builds:
    """Compiles each source once for each engine; called with the source, it returns the object."""

    def __init__(self, place: Path, engine: Any) -> None:
        self.place = place
        self.engine = engine
        self.done: dict[tuple[str, tuple[str, ...]], Path] = {}

    def __call__(self, source: str, *flags: str) -> Path:
        if (source, flags) not in self.done:
            place = self.place / f"program{len(self.done)}.bpf.c"
            place.write_text(HEAD + textwrap.dedent(source))
            arenads.compile(place, engine=self.engine, flags=flags)
            self.done[source, flags] = place.with_suffix(".o")
        return self.done[source, flags]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Builds:
    return Builds(tmp_path_factory.mktemp(engine), engine)


@pytest.fixture(scope="module")
def build_bpf(tmp_path_factory: pytest.TempPathFactory, kernel_engine: str) -> Builds:
    """For what only the kernel engine can show, or where the engine does not matter."""
    return Builds(tmp_path_factory.mktemp("kernel"), kernel_engine)


@pytest.fixture
def events(engine: str, compiled: Compiled) -> Iterator[arenads.Program]:
    with arenads.load(compiled("events", engine), engine=engine) as program:  # type: ignore[arg-type]
        yield program


@pytest.fixture
def kernel_events(kernel_engine: str, compiled: Compiled) -> Iterator[arenads.Program]:
    with arenads.load(compiled("events", "kernel"), engine="kernel") as program:
        yield program


@pytest.fixture
def native_events(compiled: Compiled) -> Iterator[arenads.Program]:
    with arenads.load(compiled("events", "native"), engine="native") as program:
        yield program


def refuse(
    kind: type[arenads.ArenadsError], leaves: Leaves, path: object, **arguments: Any
) -> arenads.ArenadsError:
    """Loading raises exactly this, says something, and leaves nothing behind."""
    with leaves(), pytest.raises(kind) as caught:
        arenads.load(path, **arguments)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert str(caught.value)
    return caught.value


# --- objects that are none ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ELF"),
        (b"This is a text.\n", "ELF"),
        (b"\x7fELF", "ELF"),
        (bytes(4096), "ELF"),
    ],
)
def test_a_file_that_is_no_object_is_refused(
    engine: str, tmp_path: Path, leaves_nothing: Leaves, content: bytes, words: str
) -> None:
    path = tmp_path / "file.bpf.o"
    path.write_bytes(content)
    error = refuse(arenads.ObjectError, leaves_nothing, path, engine=engine)
    assert str(path) in str(error)
    assert words in str(error)


@pytest.mark.parametrize("path", ["/bin/true", sys.executable])
def test_a_program_of_this_machine_is_no_bpf_object(
    engine: str, leaves_nothing: Leaves, path: str
) -> None:
    assert "BPF" in str(refuse(arenads.ObjectError, leaves_nothing, path, engine=engine))


def test_a_directory_is_no_object(engine: str, tmp_path: Path, leaves_nothing: Leaves) -> None:
    error = refuse(arenads.ObjectError, leaves_nothing, tmp_path, engine=engine)
    assert str(tmp_path) in str(error)


def test_an_absent_object_is_told_by_its_path(
    engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    error = refuse(arenads.ObjectError, leaves_nothing, tmp_path / "no.bpf.o", engine=engine)
    assert f"{tmp_path}/no.bpf.o" in str(error)
    assert "No such file" in str(error)


@pytest.mark.parametrize("path", ["", "a\0b", "/dev/null"])
def test_a_path_that_can_be_of_no_object_is_refused(
    engine: str, leaves_nothing: Leaves, path: str
) -> None:
    refuse(arenads.ObjectError, leaves_nothing, path, engine=engine)


@pytest.mark.parametrize("path", [None, 5])
def test_a_path_that_is_no_path_is_refused(
    engine: str, leaves_nothing: Leaves, path: object
) -> None:
    refuse(arenads.ObjectError, leaves_nothing, path, engine=engine)


def test_an_object_without_types_is_told_how_to_get_them(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    path = build_bpf(ARENA + ADD, "-g0")
    error = refuse(arenads.ObjectError, leaves_nothing, path, engine="kernel")
    assert "BTF" in str(error)
    assert "-g" in str(error)


def test_an_object_with_two_arenas_is_refused_with_their_names(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    another = """
        struct {
            int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[16];
        } second SEC(".maps");
        SEC("syscall") int here(void *c) { asm volatile("" :: "r"(&second)); return 0; }
    """
    path = build_bpf(ARENA + textwrap.dedent(another))
    error = refuse(arenads.ObjectError, leaves_nothing, path, engine="kernel")
    assert "expected one arena, found 2" in str(error)
    assert "arena" in str(error) and "second" in str(error)


def test_an_object_without_an_arena_is_told_how_to_declare_one(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    error = refuse(arenads.ObjectError, leaves_nothing, build_bpf(ADD), engine="kernel")
    assert "ADS_ARENA" in str(error)


@pytest.mark.parametrize(
    "declare",
    [
        "ADS_DECLARE(odd, 0, struct pair, 4);",
        "ADS_DECLARE(odd, 99, struct pair, 4);",
        "ADS_DECLARE_KEYED(odd, 99, __u64, struct pair, 4, 0);",
    ],
)
def test_a_declaration_of_an_unknown_kind_is_refused_with_its_name(
    build: Builds, engine: str, leaves_nothing: Leaves, declare: str
) -> None:
    path = build(DECLARED % declare)
    error = refuse(arenads.ObjectError, leaves_nothing, path, engine=engine)
    assert "'odd'" in str(error)


@pytest.mark.parametrize(
    "declare",
    [
        "ADS_DECLARE(odd, ADS_KIND_HASHMAP, struct pair, 4);",
        "ADS_DECLARE_KEYED(odd, ADS_KIND_LIST, __u64, struct pair, 4, 0);",
    ],
)
def test_a_declaration_with_the_wrong_types_for_its_kind_is_refused(
    build: Builds, engine: str, leaves_nothing: Leaves, declare: str
) -> None:
    path = build(DECLARED % declare)
    assert "'odd'" in str(refuse(arenads.ObjectError, leaves_nothing, path, engine=engine))


def test_a_declaration_of_an_unknown_kind_leaves_a_given_arena_as_it_was(
    build: Builds, engine: str, leaves_nothing: Leaves
) -> None:
    path = build(DECLARED % "ADS_DECLARE(odd, 99, struct pair, 4);")
    with quiet_arena(engine) as arena:
        expect_untouched(arenads.ObjectError, leaves_nothing, path, arena)


@pytest.mark.parametrize("entries", [0, (1 << 31) + 1])
def test_a_declaration_with_an_impossible_capacity_is_refused(
    build: Builds, engine: str, leaves_nothing: Leaves, entries: int
) -> None:
    path = build(DECLARED % f"ADS_LIST(odd, struct pair, {entries}u);")
    with quiet_arena(engine) as arena:
        names, used = set(arena.structures), arena.used
        with leaves_nothing(), pytest.raises(arenads.ArenadsError, match="odd"):
            arenads.load(path, arena=arena)
        assert (set(arena.structures), arena.used) == (names, used)


@pytest.mark.parametrize("pages", [0, (4 << 30) // 4096 + 1])
def test_an_arena_of_an_impossible_size_is_refused(
    build_bpf: Builds, leaves_nothing: Leaves, pages: int
) -> None:
    path = build_bpf(f"ADS_ARENA({pages} * 4096ull);\n" + ADD)
    error = refuse(arenads.ObjectError, leaves_nothing, path, engine="kernel")
    assert "4 GiB" in str(error)


# --- structures that the arena has already ------------------------------------------------------


class Other(msgspec.Struct):
    first: u64
    third: u32


class Pair(msgspec.Struct):
    first: u64
    second: u64


def quiet_arena(engine: Any) -> arenads.Arena:
    """An arena whose books nobody but the loader touches."""
    return arenads.create("1MiB", engine=engine, provision=None)


def expect_untouched(
    kind: type[arenads.ArenadsError],
    leaves: Leaves,
    path: Path,
    arena: arenads.Arena,
) -> arenads.ArenadsError:
    """Loading into the arena raises this, and the arena is as it was."""
    names, used = set(arena.structures), arena.used
    error = refuse(kind, leaves, path, arena=arena)
    assert (set(arena.structures), arena.used) == (names, used)
    assert not arena.closed
    return error


def test_a_value_with_another_layout_is_refused_and_both_are_shown(
    build: Builds, engine: str, leaves_nothing: Leaves
) -> None:
    path = build(DECLARED % "ADS_HASHMAP(odd, __u64, struct pair, 4);")
    with quiet_arena(engine) as arena:
        arena.hashmap("odd", key=u64, value=Other)
        error = expect_untouched(arenads.LayoutError, leaves_nothing, path, arena)
    for words in ("value of 'odd'", "second", "third"):
        assert words in str(error)


def test_a_key_with_another_layout_is_refused(
    build: Builds, engine: str, leaves_nothing: Leaves
) -> None:
    path = build(DECLARED % "ADS_HASHMAP(odd, __u64, struct pair, 4);")
    with quiet_arena(engine) as arena:
        arena.hashmap("odd", key=u32, value=Pair)
        error = expect_untouched(arenads.LayoutError, leaves_nothing, path, arena)
    assert "key of 'odd'" in str(error)


@pytest.mark.parametrize("kind", ["list", "queue", "pool"])
def test_another_layout_is_refused_for_every_kind(
    build: Builds, engine: str, leaves_nothing: Leaves, kind: str
) -> None:
    path = build(DECLARED % f"ADS_{kind.upper()}(odd, struct pair, 4);")
    with quiet_arena(engine) as arena:
        getattr(arena, kind)("odd", value=Other)
        expect_untouched(arenads.LayoutError, leaves_nothing, path, arena)


def test_another_kind_of_the_same_name_is_refused(
    build: Builds, engine: str, leaves_nothing: Leaves
) -> None:
    path = build(DECLARED % "ADS_HASHMAP(odd, __u64, struct pair, 4);")
    with quiet_arena(engine) as arena:
        arena.list("odd", value=Pair)
        error = expect_untouched(arenads.NameExistsError, leaves_nothing, path, arena)
    assert "'odd' exists as a list; expected a hash map" in str(error)


def test_an_arena_without_room_for_what_is_declared_is_refused(
    build: Builds, engine: str, leaves_nothing: Leaves
) -> None:
    path = build(ARENA + "ADS_QUEUE(large, struct pair, 1 << 20);\n" + ADD)
    refuse(arenads.ArenaFullError, leaves_nothing, path, engine=engine)


def test_a_closed_arena_is_refused(engine: str, compiled: Compiled, leaves_nothing: Leaves) -> None:
    arena = arenads.create("1MiB", engine=engine)  # type: ignore[arg-type]
    arena.close()
    refuse(arenads.ClosedError, leaves_nothing, compiled("events", engine), arena=arena)


# --- programs that the kernel refuses -----------------------------------------------------------


LONG = "\n".join(f"v = c[{number % 4}];" for number in range(40))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"volatile __u64 v; {LONG} return c[10000];", "off=80000"),
        (f"volatile __u64 v; {LONG} while (1) v = c[0]; return 0;", "infinite loop"),
    ],
)
def test_the_verifiers_last_lines_are_shown_and_its_whole_log_is_kept(
    build_bpf: Builds, leaves_nothing: Leaves, source: str, words: str
) -> None:
    path = build_bpf(ARENA + f'SEC("raw_tp/sys_enter") int wrong(__u64 *c) {{ {source} }}')
    error = refuse(arenads.LoadError, leaves_nothing, path, engine="kernel")
    log: Any = error.log
    lines = [line for line in log.splitlines() if line.strip()]
    assert words in str(error)
    assert words in log
    assert "wrong" in str(error)
    assert lines[-1] in str(error)
    assert len(lines) > 40 > len(str(error).splitlines())


def test_one_refused_program_of_several_leaves_nothing_loaded(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    wrong = 'SEC("raw_tp/sys_enter") int wrong(__u64 *c) { return c[10000]; }'
    path = build_bpf(ARENA + ADD + wrong)
    with arenads.create("1MiB", engine="kernel") as arena:
        refuse(arenads.LoadError, leaves_nothing, path, arena=arena)
        with arenads.load(path, arena=arena, programs=["add"]) as program:
            assert program.run("add", struct.pack("=2Q", 40, 2)).value == 42


def test_fentry_under_lockdown_is_refused_with_the_reason(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    if capabilities.lockdown() in (None, "none"):
        pytest.skip("this kernel is not locked down: fentry works on it")
    path = build_bpf(
        ARENA + 'SEC("fentry/do_unlinkat") int entered(void *c) { ads_here(); return 0; }'
    )
    error = refuse(arenads.LockdownError, leaves_nothing, path, engine="kernel")
    assert "locked down" in str(error)
    assert "'entered'" in str(error)
    assert "tp_btf" in str(error)


# --- what it is loaded with ---------------------------------------------------------------------


def test_the_size_of_the_arena_is_what_the_object_declares(events: arenads.Program) -> None:
    assert events.arena.size == 1 << 20


@pytest.mark.parametrize(("size", "found"), [("3MiB", 3 << 20), (5 << 20, 5 << 20)])
def test_a_size_given_wins_over_the_declared_one(
    engine: str, compiled: Compiled, size: Any, found: int
) -> None:
    with arenads.load(compiled("events", engine), engine=engine, size=size) as program:  # type: ignore[arg-type]
        assert program.arena.size == found
        assert program.run("add", SUM.pack(40, 2, 0)).value == 42


@pytest.mark.parametrize("size", [0, -1, "5GiB", "large", b"1"])
def test_a_size_that_cannot_be_is_refused(
    engine: str, compiled: Compiled, leaves_nothing: Leaves, size: Any
) -> None:
    path = compiled("events", engine)
    refuse(arenads.SizeError, leaves_nothing, path, engine=engine, size=size)


@pytest.mark.parametrize("name", ["gpu", None, 5])
def test_an_unknown_engine_is_refused(
    compiled: Compiled, leaves_nothing: Leaves, name: object
) -> None:
    path = compiled("events", "native")
    error = refuse(arenads.EngineError, leaves_nothing, path, engine=name)
    assert repr(name) in str(error)


def test_the_declared_structures_are_there_by_name(events: arenads.Program) -> None:
    assert list(events) == ["counts", "inbox"]
    assert len(events) == 2
    assert "counts" in events and "nothing" not in events
    assert events["counts"].max_entries == 64
    with pytest.raises(arenads.StructureAbsentError, match="it has counts, inbox"):
        events["nothing"]


def test_the_programs_are_there_with_their_sections(events: arenads.Program) -> None:
    assert events.programs["count_calls"] == "raw_tp/sys_enter"
    assert events.programs["add"] == "syscall"


def test_loading_and_closing_leaves_nothing_behind(
    engine: str, compiled: Compiled, leaves_nothing: Leaves
) -> None:
    path = compiled("events", engine)
    arenads.load(path, engine=engine).close()  # type: ignore[arg-type]
    with leaves_nothing(), arenads.load(path, engine=engine) as program:  # type: ignore[arg-type]
        program.run("add", SUM.pack(1, 2, 0))


def test_a_given_arena_stays_open_and_keeps_its_structures(engine: str, compiled: Compiled) -> None:
    with arenads.create("2MiB", engine=engine) as arena:  # type: ignore[arg-type]
        with arenads.load(compiled("events", engine), arena=arena) as program:
            assert program.run("store", SUM.pack(5, 55, 0)).value == 0
        assert not arena.closed
        counts: Any = arena.structures["counts"]
        assert counts[5] == 55


def test_two_programs_that_declare_the_same_names_share_them(
    engine: str, compiled: Compiled
) -> None:
    path = compiled("events", engine)
    with (
        arenads.create("2MiB", engine=engine) as arena,  # type: ignore[arg-type]
        arenads.load(path, arena=arena) as one,
        arenads.load(path, arena=arena) as other,
    ):
        one.run("store", SUM.pack(1, 11, 0))
        other.run("store", SUM.pack(2, 22, 0))
        assert dict(one["counts"].items()) == dict(other["counts"].items()) == {1: 11, 2: 22}  # type: ignore[attr-defined]
        one.close()
        assert other.run("store", SUM.pack(3, 33, 0)).value == 0
        assert len(arena.structures["counts"]) == 3
        assert set(arena.structures) == {"counts", "inbox"}


def test_two_loads_with_two_arenas_do_not_mix(engine: str, compiled: Compiled) -> None:
    path = compiled("events", engine)
    with (
        arenads.load(path, engine=engine) as one,  # type: ignore[arg-type]
        arenads.load(path, engine=engine) as other,  # type: ignore[arg-type]
    ):
        assert one.arena.base != other.arena.base
        for turn in range(3):
            one.run("store", SUM.pack(turn, 1, 0))
            other.run("store", SUM.pack(10 + turn, 2, 0))
        assert sorted(one["counts"]) == [0, 1, 2]  # type: ignore[call-overload]
        assert sorted(other["counts"]) == [10, 11, 12]  # type: ignore[call-overload]


def test_only_the_programs_asked_for_are_loaded(kernel_engine: str, compiled: Compiled) -> None:
    path = compiled("events", "kernel")
    with arenads.load(path, engine="kernel", programs=["add"]) as program:
        assert program.run("add", SUM.pack(1, 2, 0)).value == 3
        with pytest.raises(arenads.LoadError, match="store"):
            program.run("store", bytes(SUM.size))
        with pytest.raises(arenads.ProgramTypeError):
            program.attach()


def test_a_kernel_map_given_is_used_instead_of_the_declared_one(build_bpf: Builds) -> None:
    built = build_bpf(
        ARENA
        + """
        struct {
            __uint(type, 1);
            __uint(max_entries, 1);
            __type(key, __u32);
            __type(value, __u64);
        } theirs SEC(".maps");
        SEC("syscall") int store(void *context)
        {
            __u32 key = 7;
            __u64 value = 42;
            (void)ads_here();
            return bpf_map_update_elem(&theirs, &key, &value, 0);
        }
        """
    )
    with create_map(1, 4, 8, 1000) as theirs:
        with arenads.load(built, engine="kernel", maps={"theirs": theirs.fd}) as program:
            assert program.run("store").value == 0
        assert theirs.lookup(struct.pack("<I", 7)) == struct.pack("<Q", 42)  # stays the caller's


def test_a_kernel_map_of_another_type_or_name_is_refused(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    built = build_bpf(DECLARED % "")
    with create_map(1, 4, 8, 1) as theirs:
        for name, kind in (("arena", WrongMapTypeError), ("absent", ObjectError)):
            refuse(kind, leaves_nothing, built, engine="kernel", maps={name: theirs.fd})


def test_a_target_of_no_known_name_is_refused_with_the_names(
    kernel_engine: str, compiled: Compiled
) -> None:
    with arenads.load(compiled("events", "kernel"), engine="kernel") as program:
        with pytest.raises(TypeError, match="no target 'iface'; it takes one of interface"):
            program.attach("add", iface="lo")


@pytest.mark.parametrize("names", [["absent"], ["add", "absent"], [""], "add", [5]])
def test_programs_that_the_object_does_not_have_are_refused(
    kernel_engine: str, compiled: Compiled, leaves_nothing: Leaves, names: Any
) -> None:
    path = compiled("events", "kernel")
    refuse(arenads.ObjectError, leaves_nothing, path, engine="kernel", programs=names)


# --- sources ------------------------------------------------------------------------------------


def test_a_source_is_compiled_and_loaded(
    engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "events.bpf.c"
    source.write_bytes((PROGRAMS / "events.bpf.c").read_bytes())
    with leaves_nothing(), arenads.load(source, engine=engine) as program:  # type: ignore[arg-type]
        assert program.engine == engine
        assert program.run("store", SUM.pack(1, 11, 0)).value == 0
        assert program["counts"][1] == 11  # type: ignore[index]
    assert os.listdir(tmp_path) == ["events.bpf.c"]


def test_a_source_is_compiled_for_the_arena_given(engine: str) -> None:
    with (
        arenads.create("2MiB", engine=engine) as arena,  # type: ignore[arg-type]
        arenads.load(PROGRAMS / "events.bpf.c", arena=arena) as program,
    ):
        assert program.engine == engine
        assert program.run("add", SUM.pack(1, 2, 0)).value == 3


def test_a_source_that_does_not_compile_is_refused_with_the_compilers_words(
    engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "wrong.bpf.c"
    source.write_text(HEAD + ARENA + 'SEC("syscall") int f(void *c) { return no_such_name; }\n')
    error = refuse(arenads.CompileError, leaves_nothing, source, engine=engine)
    assert "no_such_name" in str(error.output)
    assert str(error.output) in str(error)
    assert "wrong.bpf.c:6" in str(error)
    assert os.listdir(tmp_path) == ["wrong.bpf.c"]


def test_messages_of_a_source_name_it_and_no_file_that_is_gone(
    kernel_engine: str, tmp_path: Path
) -> None:
    source = tmp_path / "opens.bpf.c"
    source.write_text(HEAD + ARENA + ADD)
    with arenads.load(source, engine=kernel_engine) as program:  # type: ignore[arg-type]
        assert program.path == source
        for use in (
            lambda: program.attach("on_open"),
            lambda: program.run("on_open"),
            lambda: program.run("add"),
        ):
            with pytest.raises(arenads.ArenadsError) as caught:
                use()
            assert "arenads-" not in str(caught.value).replace(str(tmp_path), "")
        with pytest.raises(ObjectError, match=re.escape(f"{source} has no program 'on_open'")):
            program.attach("on_open")


@pytest.mark.parametrize(
    "text",
    ['SEC("syscall") int f(void *c) { return 0; }', ARENA + "ADS_HASHMAP(m, __u32, __u32, 0);"],
)
def test_a_source_that_cannot_be_loaded_is_named(
    engine: str, tmp_path: Path, leaves_nothing: Leaves, text: str
) -> None:
    source = tmp_path / "opens.bpf.c"
    source.write_text(HEAD + text)
    error = refuse(ObjectError, leaves_nothing, source, engine=engine)
    assert str(error).startswith(f"{source}: ")
    assert error.path == str(source)


def test_a_source_that_the_verifier_refuses_is_named(
    kernel_engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "opens.bpf.c"
    source.write_text(HEAD + ARENA + 'SEC("syscall") int f(__u64 *c) { return *(int *)c[0]; }')
    error = refuse(arenads.LoadError, leaves_nothing, source, engine=kernel_engine)
    assert f" of {source} could not be loaded" in str(error)


def test_without_a_license_the_refusal_says_how_to_give_one(
    kernel_engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "bare.bpf.c"
    source.write_text(
        "#include <arenads/bpf.h>\n"
        + ARENA
        + 'SEC("raw_tp/sys_enter") int f(void *c) { bpf_printk("x"); return 0; }\n'
    )
    error = refuse(arenads.LoadError, leaves_nothing, source, engine=kernel_engine)
    assert 'char LICENSE[] SEC("license") = "GPL";' in str(error)


def test_too_many_open_files_are_no_fault_of_the_program(
    kernel_engine: str, build_bpf: Builds
) -> None:
    path = build_bpf(ARENA + ADD)
    refusals = []
    with arenads.create("1MiB", engine=kernel_engine) as arena:  # type: ignore[arg-type]
        arenads.load(path, arena=arena).close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            for _ in range(12):  # one descriptor more is free each time
                os.close(taken.pop())
                try:
                    arenads.load(path, arena=arena).close()
                except arenads.LoadError as error:
                    refusals.append(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
    exhausted = [str(error) for error in refusals if error.errno == errno.EMFILE]
    assert exhausted
    for message in exhausted:
        assert "verifier log says why" not in message
        assert "ulimit -n" in message


@pytest.mark.parametrize("wrong", ["x", 1, object()])
def test_what_is_no_arena_is_not_taken_for_one(wrong: Any) -> None:
    with pytest.raises(arenads.SchemaError, match="arena: expected an Arena"):
        arenads.load(PROGRAMS / "events.bpf.c", arena=wrong)


def test_a_program_that_declares_no_arena_is_told_how(
    engine: str, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "bare.bpf.c"
    source.write_text(
        HEAD
        + "ADS_HASHMAP(m, __u32, __u32, 4);\n"
        + 'SEC("syscall") int f(void *c) { __u32 key = 1; return m_update(&key, &key); }\n'
    )
    error = refuse(arenads.CompileError, leaves_nothing, source, engine=engine)
    assert "ADS_ARENA(64 * ADS_MIB);" in str(error)


KERNEL_ONLY = """
SEC("syscall") int read(void *context)
{
    char name[8];

    return bpf_probe_read_user_str(name, sizeof(name), context);
}
"""


def test_a_helper_that_the_native_engine_lacks_is_named_with_why_it_was_taken(
    tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "kernel_only.bpf.c"
    source.write_text(HEAD + ARENA + KERNEL_ONLY)
    error = refuse(arenads.CompileError, leaves_nothing, source, engine="native")
    assert str(error.output).rstrip() in str(error)
    assert "The native engine was taken: it was asked for." in str(error)
    assert "It has no bpf_probe_read_user_str:" in str(error)
    assert error.reason == "it was asked for"


OVERALIGNED = """
struct line { __u64 words[8] __attribute__((aligned(64))); };
ADS_HASHMAP(lines, __u32, struct line, 10);
"""


def test_the_native_engine_refuses_records_of_an_alignment_it_does_not_keep(
    tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "overaligned.bpf.c"
    source.write_text(HEAD + ARENA + OVERALIGNED)
    error = refuse(arenads.CompileError, leaves_nothing, source, engine="native")
    assert "an alignment above 8 bytes" in str(error)


@pytest.mark.kernel
def test_bpf_programs_have_records_of_any_alignment(tmp_path: Path) -> None:
    source = tmp_path / "overaligned.bpf.c"
    source.write_text(HEAD + ARENA + OVERALIGNED)
    with arenads.load(source, engine="kernel") as program:
        lines: Any = program["lines"]
        lines[1] = {"words": list(range(8))}
        assert list(lines[1].words) == list(range(8))


def test_an_absent_source_is_refused(engine: str, tmp_path: Path, leaves_nothing: Leaves) -> None:
    error = refuse(arenads.CompileError, leaves_nothing, tmp_path / "no.bpf.c", engine=engine)
    assert "no.bpf.c" in str(error)


# --- the native engine's own --------------------------------------------------------------------


@pytest.fixture
def native_copy(tmp_path: Path, compiled: Compiled) -> Path:
    """The BPF object alone, in a folder of its own."""
    path = tmp_path / "events.bpf.o"
    path.write_bytes(compiled("events", "native").read_bytes())
    return path


def test_a_missing_shared_object_is_told_by_its_path(
    native_copy: Path, leaves_nothing: Leaves
) -> None:
    error = refuse(arenads.ObjectError, leaves_nothing, native_copy, engine="native")
    assert "events.native.so" in str(error)
    assert "engine='native'" in str(error)


@pytest.mark.parametrize("content", [b"", b"no shared object", b"\x7fELF" + bytes(60)])
def test_a_shared_object_that_is_none_is_refused(
    native_copy: Path, leaves_nothing: Leaves, content: bytes
) -> None:
    native_copy.with_name("events.native.so").write_bytes(content)
    error = refuse(arenads.ObjectError, leaves_nothing, native_copy, engine="native")
    assert "events.native.so" in str(error)
    assert "/proc/self/fd" not in str(error)


def test_a_shared_object_of_another_program_is_refused(
    native_copy: Path, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "other.c"
    source.write_text("int other;\n")
    compiler.compile_shared(source, native_copy.with_name("events.native.so"))
    error = refuse(arenads.ObjectError, leaves_nothing, native_copy, engine="native")
    assert "'arena'" in str(error)


def test_a_shared_object_of_another_program_leaves_a_given_arena_open(
    native_copy: Path, tmp_path: Path, leaves_nothing: Leaves
) -> None:
    source = tmp_path / "other.c"
    source.write_text("int other;\n")
    compiler.compile_shared(source, native_copy.with_name("events.native.so"))
    with arenads.create("1MiB", engine="native") as arena:
        refuse(arenads.ObjectError, leaves_nothing, native_copy, arena=arena)
        assert not arena.closed


def test_a_bpf_object_as_shared_object_is_refused(
    native_copy: Path, leaves_nothing: Leaves
) -> None:
    native_copy.with_name("events.native.so").write_bytes(native_copy.read_bytes())
    refuse(arenads.ObjectError, leaves_nothing, native_copy, engine="native")


def test_the_shared_object_may_be_named_too(compiled: Compiled) -> None:
    path = compiled("events", "native").with_name("events.native.so")
    with arenads.load(path, engine="native") as program:
        assert program.run("add", SUM.pack(1, 2, 0)).value == 3


def test_the_native_engine_attaches_nothing_and_names_the_program(
    native_events: arenads.Program,
) -> None:
    with pytest.raises(arenads.ProgramTypeError, match=r"count_calls \(raw_tp/sys_enter\)"):
        native_events.attach()
    with pytest.raises(arenads.ProgramTypeError, match=r"count_packets \(xdp\)"):
        native_events.attach("count_packets", interface="lo")
    with pytest.raises(arenads.ProgramTypeError, match="absent"):
        native_events.attach("absent")


@pytest.mark.parametrize("call", ["run", "runner"])
def test_the_native_engine_runs_no_tracing_program_and_names_it(
    native_events: arenads.Program, call: str
) -> None:
    with pytest.raises(arenads.ProgramTypeError, match=r"'count_calls' \(raw_tp/sys_enter\)"):
        getattr(native_events, call)("count_calls")


# --- running ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"), [(40, 2), (-40, -2), (5, -5), (0x7FFF_FFFF, 0), (-(1 << 31), 0)]
)
def test_a_run_returns_a_signed_number_and_the_changed_context(
    events: arenads.Program, first: int, second: int
) -> None:
    context = SUM.pack(first, second, 0)
    result = events.run("add", context)
    assert result == arenads.RunResult(first + second, SUM.pack(first, second, first + second))
    assert context == SUM.pack(first, second, 0)


def test_a_run_works_on_the_programs_arena(events: arenads.Program) -> None:
    counts: Any = events["counts"]
    counts[key(RUN, 0)] = 10
    events.run("add", SUM.pack(1, 2, 0))
    assert counts[key(RUN, 0)] == 11


@pytest.mark.parametrize("context", [b"", bytes(SUM.size - 1), bytes(1 << 16)])
def test_a_context_of_an_impossible_size_is_refused(
    events: arenads.Program, context: bytes
) -> None:
    with pytest.raises(arenads.LoadError):
        events.run("add", context)


@pytest.mark.parametrize("context", ["text", "x" * SUM.size, 16, None, [0] * SUM.size])
def test_a_context_that_is_not_bytes_is_refused(events: arenads.Program, context: Any) -> None:
    with pytest.raises(arenads.ArenadsError):
        events.run("add", context)


def test_a_context_may_be_any_bytes(events: arenads.Program) -> None:
    for kind in (bytes, bytearray, memoryview):
        assert events.run("add", kind(SUM.pack(1, 2, 0))).value == 3  # type: ignore[arg-type]


def test_a_context_longer_than_the_program_reads_comes_back_whole(events: arenads.Program) -> None:
    result = events.run("add", SUM.pack(1, 2, 0) + b"and more")
    assert result.context == SUM.pack(1, 2, 3) + b"and more"


@pytest.mark.parametrize("call", ["run", "runner"])
@pytest.mark.parametrize("name", ["absent", "", "counts", "ad"])
def test_a_program_that_is_not_there_is_refused_and_those_there_are_named(
    events: arenads.Program, call: str, name: str
) -> None:
    with pytest.raises(arenads.ObjectError, match="add"):
        getattr(events, call)(name)


def test_a_runner_runs_with_what_it_gets_or_with_what_was_left(events: arenads.Program) -> None:
    add: Any = events.runner("add", SUM.size)
    for number in range(100):
        assert add(SUM.pack(number, -2 * number, 0)) == -number
        assert SUM.unpack(add.context) == (number, -2 * number, -number)
    add.context[:8] = (1000).to_bytes(8, "little")
    assert add() == 1000 - 198


@pytest.mark.parametrize("context", [b"", bytes(SUM.size - 1), bytes(SUM.size + 1)])
def test_a_runner_refuses_a_context_of_another_size(
    events: arenads.Program, context: bytes
) -> None:
    with pytest.raises(arenads.SchemaError):
        events.runner("add", SUM.size)(context)


@pytest.mark.parametrize("context", ["x" * SUM.size, 5, [0] * SUM.size])
def test_a_runner_refuses_a_context_that_is_not_bytes(
    events: arenads.Program, context: Any
) -> None:
    with pytest.raises(arenads.SchemaError):
        events.runner("add", SUM.size)(context)


@pytest.mark.parametrize("size", [-1, 1 << 16, "8", None])
def test_a_runner_of_an_impossible_size_is_refused(events: arenads.Program, size: Any) -> None:
    with pytest.raises(arenads.LoadError):
        events.runner("add", size)


def test_two_runners_of_one_program_have_a_context_each(events: arenads.Program) -> None:
    one: Any = events.runner("add", SUM.size)
    other: Any = events.runner("add", SUM.size)
    one(SUM.pack(1, 2, 0))
    other(SUM.pack(3, 4, 0))
    assert (one(), other()) == (3, 7)


# --- attaching ----------------------------------------------------------------------------------


def calls_of_this_process() -> int:
    return key(CALL, os.getpid() << 16 | GETPPID)


def test_all_programs_with_an_event_are_attached_and_count_exactly(
    kernel_events: arenads.Program,
) -> None:
    counts: Any = kernel_events["counts"]
    counts[calls_of_this_process()] = 0
    counts[key(RETURN, os.getpid())] = 0
    links = kernel_events.attach()
    assert len(links) == 2
    for _ in range(1000):
        os.getppid()
    for link in links:
        link.close()
    assert counts[calls_of_this_process()] == 1000
    assert counts[key(RETURN, os.getpid())] >= 1000
    os.getppid()
    assert counts[calls_of_this_process()] == 1000


def test_one_program_is_attached_by_its_name(kernel_events: arenads.Program) -> None:
    counts: Any = kernel_events["counts"]
    counts[calls_of_this_process()] = 0
    counts[key(RETURN, os.getpid())] = 0
    (link,) = kernel_events.attach("count_calls")
    for _ in range(10):
        os.getppid()
    link.close()
    link.close()
    os.getppid()
    assert counts[calls_of_this_process()] == 10
    assert counts[key(RETURN, os.getpid())] == 0


def test_a_program_attached_twice_counts_twice(kernel_events: arenads.Program) -> None:
    counts: Any = kernel_events["counts"]
    counts[calls_of_this_process()] = 0
    (first,) = kernel_events.attach("count_calls")
    (second,) = kernel_events.attach("count_calls")
    os.getppid()
    first.close()
    os.getppid()
    second.close()
    assert counts[calls_of_this_process()] == 3


def test_a_closed_program_counts_no_longer(kernel_engine: str, compiled: Compiled) -> None:
    with arenads.create("1MiB", engine="kernel") as arena:
        with arenads.load(compiled("events", "kernel"), arena=arena) as program:
            counts: Any = program["counts"]
            counts[calls_of_this_process()] = 0
            program.attach("count_calls")
            os.getppid()
        os.getppid()
        assert counts[calls_of_this_process()] == 1


def test_packets_on_an_interface_are_counted(kernel_events: arenads.Program) -> None:
    counts: Any = kernel_events["counts"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        address = receiver.getsockname()
        counts[key(PACKET, address[1])] = 0
        (link,) = kernel_events.attach("count_packets", interface="lo")
        for number in range(7):
            sender.sendto(bytes([number]), address)
            assert receiver.recv(10) == bytes([number])
        link.close()
        sender.sendto(b"not seen", address)
        assert receiver.recv(10) == b"not seen"
        assert counts[key(PACKET, address[1])] == 7


@pytest.fixture
def cgroup(kernel_engine: str) -> Iterator[Path]:
    """A cgroup v2 directory of our own."""
    trees = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    place = next((tree[1] for tree in trees if tree[2] == "cgroup2"), None)
    if place is None:
        pytest.skip("kernel engine: no cgroup v2 tree is mounted")
    directory = Path(place) / f"arenads-tests-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"kernel engine: no cgroup can be made: {error}")
    yield directory
    directory.rmdir()


def test_connections_of_a_cgroup_are_counted_and_refused(
    kernel_events: arenads.Program, cgroup: Path, python: Any
) -> None:
    counts: Any = kernel_events["counts"]
    script = """
        import os, socket, sys
        try:
            with open(sys.argv[1] + "/cgroup.procs", "w") as group:
                group.write(str(os.getpid()))
        except OSError as error:
            print(f"no cgroup: {error}")
            sys.exit()
        for port in [40001, 40001, 40001, 9]:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                try:
                    one.connect(("127.0.0.1", port))
                except PermissionError:
                    print("refused", port)
    """
    counts[key(CONNECT, 40001)] = counts[key(CONNECT, 9)] = 0
    (link,) = kernel_events.attach("count_connections", cgroup=str(cgroup))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.connect(("127.0.0.1", 40001))
    printed = python(script, cgroup).stdout
    link.close()
    if printed.startswith("no cgroup"):
        pytest.skip(f"kernel engine: {printed}")
    assert printed == "refused 9\n"
    assert (counts[key(CONNECT, 40001)], counts[key(CONNECT, 9)]) == (3, 1)
    assert python(script, cgroup).stdout == ""
    assert counts[key(CONNECT, 40001)] == 3


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("absent", {}, arenads.ObjectError),
        ("add", {}, arenads.ProgramTypeError),
        ("count_packets", {}, arenads.ProgramTypeError),
        (None, {"interface": "lo"}, arenads.ProgramTypeError),
        ("count_packets", {"interface": "no-such"}, arenads.LoadError),
        ("count_packets", {"cgroup": "/"}, arenads.ProgramTypeError),
        ("count_connections", {"cgroup": "/no/such"}, arenads.LoadError),
    ],
)
def test_an_attachment_that_cannot_be_is_refused(
    kernel_events: arenads.Program,
    leaves_nothing: Leaves,
    name: Any,
    target: dict[str, Any],
    kind: type[arenads.ArenadsError],
) -> None:
    with leaves_nothing(), pytest.raises(kind):
        kernel_events.attach(name, **target)


@pytest.mark.parametrize("target", [{"planet": "earth"}, {"interface": "lo", "speed": 5}])
def test_a_target_of_an_unknown_sort_is_refused(
    kernel_events: arenads.Program, target: dict[str, Any]
) -> None:
    with pytest.raises((arenads.ArenadsError, TypeError)):
        kernel_events.attach("count_packets", **target)


def test_when_one_of_all_cannot_be_attached_none_stays_attached(
    build_bpf: Builds, leaves_nothing: Leaves
) -> None:
    path = build_bpf(
        """
        ADS_ARENA(ADS_MIB);
        ADS_HASHMAP(counts, __u64, __u64, 4);
        SEC("raw_tp/sys_enter") int works(__u64 *c)
        {
            __u64 key = 0;
            __u64 __arena *count = counts_lookup(&key);
            if (count)
                ads_add(count, 1);
            return 0;
        }
        SEC("raw_tp/no_such_event") int fails(void *c) { return 0; }
        """
    )
    with arenads.load(path, engine="kernel") as program:
        counts: Any = program["counts"]
        with leaves_nothing(), pytest.raises(arenads.LoadError, match="fails"):
            program.attach()
        counts[0] = 0
        os.getppid()
        assert counts[0] == 0


# --- closing ------------------------------------------------------------------------------------


def test_a_closed_program_refuses_everything_and_closing_again_is_nothing(
    engine: str, compiled: Compiled
) -> None:
    program = arenads.load(compiled("events", engine), engine=engine)  # type: ignore[arg-type]
    add: Any = program.runner("add", SUM.size)
    counts: Any = program["counts"]
    program.close()
    program.close()
    assert program.closed
    assert program.arena.closed
    assert "closed" in repr(program)
    for call in (
        lambda: program.run("add", bytes(SUM.size)),
        lambda: program.runner("add", SUM.size),
        lambda: program.attach(),
        lambda: add(bytes(SUM.size)),
        lambda: add(),
        lambda: counts[1],
        lambda: program.__enter__(),
    ):
        with pytest.raises(arenads.ClosedError):
            call()


def test_a_native_program_whose_arena_was_closed_refuses_to_run(compiled: Compiled) -> None:
    with arenads.create("1MiB", engine="native") as arena:
        program = arenads.load(compiled("events", "native"), arena=arena)
        add: Any = program.runner("add", SUM.size)
        counts: Any = program["counts"]
        arena.close()
        for call in (
            lambda: program.run("add", bytes(SUM.size)),
            lambda: add(bytes(SUM.size)),
            lambda: add(),
            lambda: counts[1],
        ):
            with pytest.raises(arenads.ClosedError):
                call()
        program.close()


def test_a_kernel_program_outlives_this_process_s_view_of_its_arena(
    kernel_engine: str, compiled: Compiled
) -> None:
    """The map lives on in the kernel: a program may be left attached and the view dropped."""
    arena = arenads.create("1MiB", engine="kernel")
    with arenads.load(compiled("events", "kernel"), arena=arena) as program:
        arena.close()
        assert program.run("store", SUM.pack(1, 2, 0)).value == 0
        with pytest.raises(arenads.ClosedError):
            program["counts"][1]  # type: ignore[index]


def test_an_exception_in_the_with_block_closes_the_program(
    engine: str, compiled: Compiled, leaves_nothing: Leaves
) -> None:
    path = compiled("events", engine)
    with leaves_nothing(), pytest.raises(ZeroDivisionError):
        with arenads.load(path, engine=engine):  # type: ignore[arg-type]
            raise ZeroDivisionError


# --- machines that lack something ---------------------------------------------------------------


@pytest.fixture
def no_libbpf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_NAME", "libbpf.so.none")


def test_without_libbpf_the_kernel_engine_is_refused_and_the_package_named(
    kernel_engine: str, compiled: Compiled, leaves_nothing: Leaves, no_libbpf: None
) -> None:
    path = compiled("events", "kernel")
    error = refuse(arenads.LibbpfMissingError, leaves_nothing, path, engine="kernel")
    assert "apt install libbpf1" in str(error)


def test_without_libbpf_a_given_kernel_arena_stays_as_it_was(
    kernel_engine: str, compiled: Compiled, leaves_nothing: Leaves, no_libbpf: None
) -> None:
    with arenads.create("1MiB", engine="kernel") as arena:
        path = compiled("events", "kernel")
        refuse(arenads.LibbpfMissingError, leaves_nothing, path, arena=arena)
        assert not arena.closed


def test_without_libbpf_auto_takes_the_native_engine(compiled: Compiled, no_libbpf: None) -> None:
    with arenads.load(compiled("events", "native"), engine="auto") as program:
        assert program.engine == "native"
        assert program.run("add", SUM.pack(1, 2, 0)).value == 3


UNPRIVILEGED = """
    import os, sys
    import arenads
    before = len(os.listdir("/proc/self/fd"))
    try:
        with arenads.load(sys.argv[1], engine=sys.argv[2]) as program:
            print(program.engine, program.run("add", bytes(24)).value)
    except arenads.ArenadsError as error:
        print(type(error).__name__, *getattr(error, "missing", ()), error)
    print(len(os.listdir("/proc/self/fd")) - before)
"""


def run_unprivileged(path: Path, engine: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), str(path), engine],
        env=child_environment(),
        preexec_fn=drop_capabilities,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_without_capabilities_the_kernel_engine_is_refused_with_what_is_missing(
    kernel_engine: str, compiled: Compiled
) -> None:
    refused, left = run_unprivileged(compiled("events", "kernel"), "kernel")
    assert refused.split()[0] in ("EngineError", "PrivilegeError")
    assert "CAP_BPF" in refused
    assert left == "0"


def test_without_capabilities_auto_takes_the_native_engine(compiled: Compiled) -> None:
    assert run_unprivileged(compiled("events", "native"), "auto") == ["native 0", "0"]


def test_without_capabilities_a_source_for_the_kernel_is_refused_with_why_it_is_native(
    tmp_path: Path,
) -> None:
    source = tmp_path / "kernel_only.bpf.c"
    source.write_text(HEAD + ARENA + KERNEL_ONLY)
    said = "\n".join(run_unprivileged(source, "auto"))
    assert "CompileError" in said
    assert "The native engine was taken: the kernel engine cannot work here: " in said
    assert "CAP_BPF" in said
