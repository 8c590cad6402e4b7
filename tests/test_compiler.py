"""The compiler wrapper: finding compilers, compiling for both engines, failing well."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from arenads import compiler
from arenads.errors import ArenadsError, CompileError, CompilerMissingError, EngineError

PROGRAM = """\
#ifdef ADS_NATIVE
#define SEC(name)
#else
#define SEC(name) __attribute__((section(name), used))
#endif
#ifndef STEP
#define STEP 1
#endif
char _license[] SEC("license") = "GPL";
int count(int *context);
SEC("syscall") int count(int *context) { return *context += STEP; }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    source = tmp_path / "count.bpf.c"
    source.write_text(PROGRAM)
    return source


@pytest.fixture
def no_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without compilers; returns the one folder on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    return folder


def put_script(folder: Path, name: str, body: str) -> Path:
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return script


def elf_machine(path: Path) -> int:
    data = path.read_bytes()
    assert data[:4] == b"\x7fELF"
    return int(struct.unpack_from("=H", data, 18)[0])


def section_names(path: Path) -> set[str]:
    data = path.read_bytes()
    (table,) = struct.unpack_from("=Q", data, 40)
    size, count, names_index = struct.unpack_from("=HHH", data, 58)
    headers = [struct.unpack_from("=IIQQQQ", data, table + size * i) for i in range(count)]
    start = headers[names_index][4]
    return {data[start + h[0] : data.index(b"\0", start + h[0])].decode() for h in headers}


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def call_count(shared_object: Path, value: int) -> int:
    number = ctypes.c_int(value)
    return int(ctypes.CDLL(str(shared_object)).count(ctypes.byref(number)))


# --- where things are ------------------------------------------------------------


def test_include_dir_holds_the_headers() -> None:
    assert (compiler.include_dir() / "arenads" / "arena.h").is_file()


def test_cflags_without_a_target_are_the_include_path_only() -> None:
    assert compiler.cflags() == [f"-I{compiler.include_dir()}"]


def test_cflags_for_the_host_build_a_shared_object(program: Path, tmp_path: Path) -> None:
    found = compiler.find_host_compiler()
    output = tmp_path / "own.so"
    subprocess.run(
        [*found.command, *compiler.cflags("host"), str(program), "-o", str(output)], check=True
    )
    assert call_count(output, 41) == 42


def test_cflags_refuse_an_unknown_target() -> None:
    with pytest.raises(CompileError, match="expected the target 'bpf' or 'host', found 'arm'"):
        compiler.cflags("arm")  # type: ignore[arg-type]


# --- finding compilers --------------------------------------------------------------


def test_a_bpf_compiler_is_found_and_says_what_it_is() -> None:
    found = compiler.find_bpf_compiler()
    assert found.kind in ("clang", "zig")
    assert found.target == "bpf"
    assert re.match(r"\d+\.\d+", found.version)


def test_a_host_compiler_is_found_and_says_what_it_is() -> None:
    found = compiler.find_host_compiler()
    assert found.target == "host"
    assert found.version in str(found)


def test_a_compiler_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        compiler.find_host_compiler().kind = "zig"  # type: ignore[misc]


def test_the_search_is_made_once() -> None:
    assert compiler.find_bpf_compiler() is compiler.find_bpf_compiler()


def test_without_a_bpf_compiler_the_error_says_what_to_install(no_compilers: Path) -> None:
    with pytest.raises(CompilerMissingError) as caught:
        compiler.find_bpf_compiler()
    assert f"pip install ziglang=={compiler.ZIG_VERSION}" in str(caught.value)
    assert "clang >= 19" in str(caught.value)
    assert caught.value.tried == {}


def test_without_a_host_compiler_the_error_says_what_to_install(no_compilers: Path) -> None:
    with pytest.raises(CompilerMissingError) as caught:
        compiler.find_host_compiler()
    assert f"pip install ziglang=={compiler.ZIG_VERSION}" in str(caught.value)
    assert "apt install gcc libc6-dev" in str(caught.value)


def test_without_a_compiler_nothing_is_written(program: Path, no_compilers: Path) -> None:
    with pytest.raises(CompilerMissingError):
        compiler.compile(program)
    assert files_of(program.parent) == {program.name, "bin"}


def test_a_clang_that_refuses_arena_programs_is_passed_over(no_compilers: Path) -> None:
    clang = put_script(no_compilers, "clang", "echo 'probe.c:2: error: no arenas' >&2; exit 1")
    with pytest.raises(CompilerMissingError) as caught:
        compiler.find_bpf_compiler()
    assert caught.value.tried == {str(clang): "probe.c:2: error: no arenas"}
    assert "error: no arenas" in str(caught.value)


def test_clangs_with_a_number_in_their_name_are_tried_newest_first(no_compilers: Path) -> None:
    for name in ("clang-9", "clang-14", "clang-20", "clang-19", "clang-format-19", "clang"):
        put_script(no_compilers, name, "exit 1")
    with pytest.raises(CompilerMissingError) as caught:
        compiler.find_bpf_compiler()
    names = [Path(command).name for command in caught.value.tried]
    assert names == ["clang", "clang-20", "clang-19"]


def test_a_compiler_that_compiles_but_writes_nothing_is_passed_over(no_compilers: Path) -> None:
    put_script(no_compilers, "gcc", "exit 0")
    with pytest.raises(CompilerMissingError, match="wrote no output"):
        compiler.find_host_compiler()


def test_cc_is_taken_when_it_is_set(no_compilers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked for its version it writes nothing.
    body = 'for last; do :; done; test "$last" = --version || : > "$last"'
    chosen = put_script(no_compilers, "my-cc", body)
    monkeypatch.setenv("CC", f"{chosen} -m64")
    assert compiler.find_host_compiler().command == (str(chosen), "-m64")


@pytest.mark.parametrize("value", ["/nowhere/cc", "unbalanced 'quote"])
def test_a_cc_that_does_not_work_is_an_error_that_names_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", value)
    with pytest.raises(CompilerMissingError) as caught:
        compiler.find_host_compiler()
    assert value in str(caught.value)
    assert "unset" in str(caught.value)


def test_ziglang_alone_compiles_for_both_engines(
    program: Path, no_compilers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ziglang")
    pytest.importorskip("ziglang", reason="the ziglang package is not installed")
    assert compiler.find_bpf_compiler().kind == "zig"
    assert compiler.find_host_compiler().kind == "zig"
    output = compiler.compile(program, engine="native")
    assert call_count(output, 41) == 42


def test_ziglang_works_without_a_home_and_with_a_strange_current_directory(
    program: Path, no_compilers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ziglang")
    pytest.importorskip("ziglang", reason="the ziglang package is not installed")
    (tmp_path / "subprocess.py").write_text("raise SystemExit('the wrong module')")
    script = "import sys; from arenads import compiler; compiler.compile(sys.argv[1])"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
    }
    environment |= {"PYTHONPATH": str(Path(compiler.__file__).parents[1])}
    subprocess.run(
        [sys.executable, "-P", "-c", script, program.name],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert elf_machine(tmp_path / "count.bpf.o") == 247


# --- compiling -------------------------------------------------------------------------


def test_the_kernel_engine_gets_a_bpf_object_with_btf_beside_the_source(program: Path) -> None:
    output = compiler.compile(program)
    assert output == program.with_name("count.bpf.o")
    assert elf_machine(output) == 247
    assert {"syscall", "license", ".BTF", ".BTF.ext"} <= section_names(output)
    assert files_of(program.parent) == {"count.bpf.c", "count.bpf.o"}


def test_the_native_engine_gets_a_shared_object_and_the_types_beside_it(program: Path) -> None:
    output = compiler.compile(program, engine="native")
    assert output == program.with_name("count.native.so")
    assert call_count(output, 41) == 42
    assert ".BTF" in section_names(program.with_name("count.bpf.o"))
    assert files_of(program.parent) == {"count.bpf.c", "count.bpf.o", "count.native.so"}


def test_both_results_go_where_they_are_asked_to(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    compiler.compile(program, folder / "other.native.so", engine="native")
    assert files_of(folder) == {"other.native.so", "other.bpf.o"}


def test_paths_with_spaces_quotes_and_leading_dashes_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'it\'s "a" folder; $(touch x)'
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("-o my prog.bpf.c").write_text(PROGRAM)
    Path("@list.c").write_text(PROGRAM)
    assert compiler.compile("-o my prog.bpf.c").is_file()
    assert compiler.compile("@list.c", engine="native").is_file()
    assert "x" not in files_of(folder)


def test_a_program_that_includes_this_packages_headers_compiles(tmp_path: Path) -> None:
    source = tmp_path / "user.bpf.c"
    source.write_text("#include <arenads/arena.h>\n" + PROGRAM.replace("SEC(", "SECTION("))
    assert elf_machine(compiler.compile(source)) == 247


def test_a_program_that_includes_kernel_headers_compiles(program: Path) -> None:
    program.write_text("#include <linux/bpf.h>\n#include <stdint.h>\n" + PROGRAM)
    assert elf_machine(compiler.compile(program)) == 247


@pytest.mark.skipif(
    not Path("/usr/include/bpf/bpf_helpers.h").exists(),
    reason="libbpf's headers are not installed (Debian and Ubuntu: apt install libbpf-dev)",
)
def test_a_program_that_includes_libbpfs_headers_compiles(tmp_path: Path) -> None:
    source = tmp_path / "helpers.bpf.c"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n"
        'char _license[] SEC("license") = "GPL";\n'
        'SEC("raw_tp/sys_enter") int BPF_PROG(enter) { return bpf_get_smp_processor_id(); }\n'
    )
    assert "raw_tp/sys_enter" in section_names(compiler.compile(source))


def test_defines_and_include_directories_reach_both_compilers(
    program: Path, tmp_path: Path
) -> None:
    extra = tmp_path / "more headers"
    extra.mkdir()
    (extra / "step.h").write_text("#ifndef WANTED\n#error WANTED\n#endif\n#define STEP 7\n")
    program.write_text('#include "step.h"\n' + PROGRAM)
    output = compiler.compile(
        program, engine="native", include_dirs=[extra], defines=["WANTED", "OTHER=1"]
    )
    assert call_count(output, 0) == 7


def test_flags_come_last_and_win(program: Path) -> None:
    output = compiler.compile(program, engine="native", flags=["-USTEP", "-DSTEP=3"])
    assert call_count(output, 0) == 3


def test_a_debug_build_works(program: Path) -> None:
    output = compiler.compile(program, engine="native", debug=True)
    assert call_count(output, 41) == 42
    assert ".debug_info" in section_names(output)


def test_asserts_are_live_whichever_compiler_it_is(program: Path) -> None:
    program.write_text("#ifdef NDEBUG\n#error NDEBUG is set\n#endif\n" + PROGRAM)
    assert compiler.compile(program, engine="native").is_file()


def test_warnings_are_shown_as_the_compiler_wrote_them(
    program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program.write_text(PROGRAM + "#warning look at this\n")
    compiler.compile(program)
    assert "look at this" in capfd.readouterr().err


def test_an_ignored_context_is_no_warning(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program.write_text(PROGRAM.replace("return *context += STEP;", "return 0;"))
    compiler.compile(program, engine="native")
    assert capfd.readouterr().err == ""


def test_compile_shared_builds_any_c_file(tmp_path: Path) -> None:
    source = tmp_path / "twice.c"
    source.write_text("int twice(int value);\nint twice(int value) { return FACTOR * value; }\n")
    output = compiler.compile_shared(source, tmp_path / "twice.so", defines=["FACTOR=2"])
    assert ctypes.CDLL(str(output)).twice(21) == 42


# --- failing ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["kernel", "native"])
def test_an_error_is_shown_as_the_compiler_wrote_it(program: Path, engine: str) -> None:
    program.write_text("int broken( {\n")
    with pytest.raises(CompileError) as caught:
        compiler.compile(program, engine=engine)  # type: ignore[arg-type]
    error = caught.value
    command = [*error.command[:-1], str(program.with_suffix(".o"))]  # type: ignore[index]
    direct = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert direct.returncode != 0
    assert error.output == direct.stdout
    assert direct.stdout in str(error)
    assert f"{program}:1:" in str(error)


def test_a_failure_leaves_no_output_and_no_litter(program: Path) -> None:
    program.write_text("int broken( {\n")
    with pytest.raises(CompileError):
        compiler.compile(program, engine="native")
    assert files_of(program.parent) == {program.name}


def test_a_failure_leaves_the_result_before_it(program: Path) -> None:
    before = compiler.compile(program).read_bytes()
    program.write_text("int broken( {\n")
    with pytest.raises(CompileError):
        compiler.compile(program)
    assert program.with_name("count.bpf.o").read_bytes() == before


def test_a_program_that_only_the_host_refuses_leaves_neither_result(program: Path) -> None:
    program.write_text("#ifdef ADS_NATIVE\n#error not here\n#endif\n" + PROGRAM)
    with pytest.raises(CompileError, match="not here"):
        compiler.compile(program, engine="native")
    assert files_of(program.parent) == {program.name}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("absent.bpf.c", "found no such file"),
        ("folder.c", "found a directory"),
        ("/dev/null", "found something that is not a regular file"),
        ("text.txt", "found a name that does not end in .c"),
        ("count.bpf.c/inside.c", "found Not a directory"),
        ("n" * 300 + ".c", "found File name too long"),
    ],
)
def test_what_is_no_source_is_refused(program: Path, name: str, found: str) -> None:
    (program.parent / "folder.c").mkdir()
    (program.parent / "text.txt").write_text(PROGRAM)
    with pytest.raises(CompileError, match=re.escape(f"expected a C file (prog.bpf.c), {found}")):
        compiler.compile(program.parent / name)


@pytest.mark.parametrize("source", ["", "a\0b.c", None, 7, b"prog.bpf.c"])
def test_what_is_no_path_is_refused(source: object) -> None:
    with pytest.raises(CompileError, match="expected a path, found"):
        compiler.compile(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("folder", "found a directory"),
        ("absent/prog.bpf.o", "is not a directory; create it first"),
        ("count.bpf.c", "it is the source itself"),
        ("/proc/prog.bpf.o", "choose another output or make the directory writable"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(
    program: Path, output: str, reason: str
) -> None:
    (program.parent / "folder").mkdir()
    with pytest.raises(CompileError, match=re.escape(reason)):
        compiler.compile(program, program.parent / output)
    assert program.read_text() == PROGRAM


def test_an_unknown_engine_is_refused(program: Path) -> None:
    with pytest.raises(EngineError, match="expected 'kernel' or 'native'"):
        compiler.compile(program, engine="windows")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["flags", "defines", "include_dirs"])
def test_one_string_in_place_of_a_sequence_is_refused(program: Path, name: str) -> None:
    with pytest.raises(CompileError, match=f"{name}: expected a sequence"):
        compiler.compile(program, **{name: "-O0"})  # type: ignore[arg-type]


def test_flags_that_ask_for_another_step_are_an_error(program: Path) -> None:
    with pytest.raises(CompileError):
        compiler.compile(program, flags=["-fsyntax-only"])
    assert files_of(program.parent) == {program.name}


def test_every_failure_is_an_arenads_error(program: Path) -> None:
    with pytest.raises(ArenadsError):
        compiler.compile(program, flags=["--no-such-flag"])


@pytest.mark.parametrize("engine", ["kernel", "native"])
def test_a_structure_before_the_arena_is_an_error_that_says_so(tmp_path: Path, engine: str) -> None:
    source = tmp_path / "order.bpf.c"
    source.write_text(
        "#include <arenads/bpf.h>\nADS_HASHMAP(ages, __u32, __u64, 10);\nADS_ARENA(ADS_MIB);\n"
    )
    with pytest.raises(CompileError, match="ADS_ARENA_COMES_BEFORE_STRUCTURES"):
        compiler.compile(source, engine=engine)  # type: ignore[arg-type]
