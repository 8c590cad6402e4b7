"""The C headers compile cleanly wherever they are meant to be used."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import arenads
from arenads.compiler import include_dir
from arenads.vmlinux import write_vmlinux_header

STRICT = ["-Wall", "-Wextra", "-Werror", "-O2"]
HEADERS = sorted(path.name for path in (include_dir() / "arenads").glob("*.h"))
# helpers.h is for BPF only, native.h for programs compiled for the host.
HOST_HEADERS = [name for name in HEADERS if name not in ("helpers.h",)]

COMPILERS = {
    "gcc": ["gcc"],
    "g++": ["g++"],
    "zig cc": [sys.executable, "-m", "ziglang", "cc"],
    "zig c++": [sys.executable, "-m", "ziglang", "c++"],
}
STANDARDS = [
    ("gcc", "c11"),
    ("gcc", "gnu11"),
    ("g++", "c++17"),
    ("zig cc", "c11"),
    ("zig c++", "c++17"),
]

PROGRAM = """
ADS_ARENA(ADS_MIB);
ADS_HASHMAP(counts, __u32, __u64, 100);
ADS_LIST(events, __u64, 100);
ADS_QUEUE(inbox, __u64, 64);
ADS_MPMC(jobs, __u64, 64);
ADS_RING(trace, 4096);
ADS_RING(recorder, 4096, ADS_OVERWRITE);
ADS_RINGS(many, 4096);
ADS_RINGS(newest, 4096, ADS_OVERWRITE);
ADS_POOL(objects, __u64, 100);
ADS_ARRAY(slots, __u64, 100);
SEC("syscall") int everything(void *ctx)
{
	struct counts_cursor cursor = {};
	__u32 key = 1;
	struct ads_ring_cursor batch = {};
	struct ads_ring_draft draft;
	struct ads_rings_draft one_of_many;
	__u64 value = 2, order;
	__u32 size;

	(void)ctx;
	if (counts_insert(&key, &value) || counts_replace(&key, &value) || counts_update(&key, &value))
		return -1;
	if (!counts_lookup(&key) || counts_get(&key, &value) || counts_len() != 1)
		return -2;
	if (counts_next(&cursor, &value) || counts_delete(&key))
		return -3;
	if (events_push(&value, &order) || events_delete(order))
		return -4;
	if (inbox_push(&value) || inbox_pop(&value))
		return -5;
	if (!trace_reserve(&draft, 8) || trace_commit(&draft) || trace_publish())
		return -6;
	if (trace_push(&value, 8) || trace_append(&value, 8) || trace_pop(&value, 8, &size))
		return -7;
	if (many_push(&value, 8) != ADS_OK || newest_push(&value, 8))
		return -15;
	if (!many_reserve(&one_of_many, 8) || many_submit(&one_of_many))
		return -16;
	if (!many_reserve(&one_of_many, 8))
		return -16;
	many_discard(&one_of_many);
	if (trace_peek(&batch) || !trace_next(&batch, &size) || trace_release(&batch))
		return -8;
	if (recorder_push(&value, 8) || recorder_pop(&value, 8, &size))
		return -9;
	if (recorder_waiting())
		return -10;
	if (!slots_lookup(1) || slots_lookup(100) || slots_set(2, &value) || slots_get(2, &value))
		return -11;
	if (jobs_push(&value) || jobs_len() != 1 || jobs_pop(&value))
		return -12;
	return objects_free(objects_alloc());
}
char LICENSE[] SEC("license") = "GPL";
"""


def build(command: list[str], source: str, suffix: str, folder: Path) -> None:
    path = folder / f"source{suffix}"
    path.write_text(source)
    words = [*command, *STRICT, f"-I{include_dir()}", "-c", str(path), "-o", str(folder / "out.o")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def compiler_command(name: str) -> list[str]:
    command = COMPILERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return command


@pytest.mark.parametrize(("compiler", "standard"), STANDARDS)
def test_all_of_user_h_compiles_without_a_warning(
    compiler: str, standard: str, tmp_path: Path
) -> None:
    suffix = ".cc" if "++" in standard else ".c"
    source = "#include <arenads/user.h>\nint main(void) { return 0; }\n"
    build([*compiler_command(compiler), f"-std={standard}"], source, suffix, tmp_path)


@pytest.mark.parametrize("header", HOST_HEADERS)
@pytest.mark.parametrize(("standard", "suffix"), [("c11", ".c"), ("c++17", ".cc")])
def test_each_header_stands_alone(header: str, standard: str, suffix: str, tmp_path: Path) -> None:
    command = compiler_command("g++" if suffix == ".cc" else "gcc")
    build([*command, f"-std={standard}"], f"#include <arenads/{header}>\n", suffix, tmp_path)


def test_a_program_needs_nothing_but_our_header(tmp_path: Path) -> None:
    source = tmp_path / "program.bpf.c"
    source.write_text("#include <arenads/bpf.h>\n" + PROGRAM)
    arenads.compile(source, flags=["-Werror"])


@pytest.mark.parametrize("first", [True, False])
def test_a_program_may_include_libbpf_s_header(first: bool, tmp_path: Path) -> None:
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        pytest.skip("bpf/bpf_helpers.h is not installed (libbpf-dev)")
    theirs = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
    ours = "#include <arenads/bpf.h>\n"
    source = tmp_path / "program.bpf.c"
    source.write_text((theirs + ours if first else ours + theirs) + PROGRAM)
    arenads.compile(source, flags=["-Werror"])


def test_a_program_may_include_vmlinux_h(tmp_path: Path) -> None:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF")
    write_vmlinux_header(tmp_path / "vmlinux.h")
    source = tmp_path / "program.bpf.c"
    source.write_text('#include "vmlinux.h"\n#include <arenads/bpf.h>\n' + PROGRAM)
    arenads.compile(source, include_dirs=[tmp_path], flags=["-Werror"])


@pytest.mark.parametrize("target", ["kernel", "native"])
def test_what_was_compiled_runs(
    target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if target == "kernel":
        request.getfixturevalue("kernel_engine")
    source = tmp_path / "program.bpf.c"
    source.write_text("#include <arenads/bpf.h>\n" + PROGRAM)
    with arenads.load(source, engine=target) as program:  # type: ignore[arg-type]
        assert program.run("everything").value == 0
