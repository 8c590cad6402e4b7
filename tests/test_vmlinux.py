"""vmlinux.h: it compiles, its programs find their fields, and bad BTF is refused."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arenads import capabilities
from arenads.btf import ObjectFile
from arenads.compiler import compile
from arenads.errors import ArenadsError, LibbpfMissingError, ObjectError
from arenads.libbpf import BpfObject, library, version
from arenads.vmlinux import write_vmlinux_header

KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror"]

PROGRAM = """
#include "vmlinux.h"
#define SEC(name) __attribute__((section(name), used))
typedef long (*seq_write_type)(void *seq, const void *data, u32 size);
static const seq_write_type seq_write = (seq_write_type)127;

SEC("iter/task") int pids(struct bpf_iter__task *context);
SEC("iter/task") int pids(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    if (task) {
        int pid = task->pid;
        seq_write(context->meta->seq, &pid, sizeof(pid));
    }
    return 0;
}

char _license[] SEC("license") = "GPL";
"""


def libbpf_is_there() -> bool:
    try:
        version()
    except LibbpfMissingError:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(not libbpf_is_there(), reason="libbpf is not installed"),
    pytest.mark.skipif(not KERNEL_BTF.exists(), reason=f"this kernel has no {KERNEL_BTF}"),
]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vmlinux") / "vmlinux.h"
    write_vmlinux_header(path)
    return path


def build(folder: Path, header: str) -> Path:
    (folder / "vmlinux.h").write_text(header)
    source = folder / "pids.bpf.c"
    source.write_text(PROGRAM)
    return compile(source, include_dirs=[folder], flags=STRICT)


def listed_pids(path: Path) -> list[int]:
    with BpfObject.open(path) as programs:
        programs.load()
        with programs.attach("pids") as link:
            output = link.read()
    return [number for (number,) in struct.iter_unpack("=i", output)]


def test_the_header_has_a_guard_and_the_kernel_types(header: Path) -> None:
    text = header.read_text()
    assert "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__" in text
    assert "\nstruct task_struct {" in text
    assert text.endswith("#endif /* __VMLINUX_H__ */\n")


def test_the_header_compiles_without_a_warning(header: Path, tmp_path: Path) -> None:
    assert build(tmp_path, header.read_text()).exists()


def test_including_the_header_twice_is_harmless(header: Path, tmp_path: Path) -> None:
    source = tmp_path / "twice.bpf.c"
    source.write_text(f'#include "{header}"\n#include "{header}"\n')
    assert compile(source, flags=STRICT).exists()


needs_kernel = pytest.mark.skipif(
    bool(capabilities.missing("CAP_BPF", "CAP_PERFMON")),
    reason="kernel engine: CAP_BPF and CAP_PERFMON are needed",
)


@needs_kernel
@pytest.mark.kernel
def test_a_program_reads_the_fields_of_the_running_kernel(header: Path, tmp_path: Path) -> None:
    assert os.getpid() in listed_pids(build(tmp_path, header.read_text()))


@needs_kernel
@pytest.mark.kernel
def test_a_program_made_for_another_layout_finds_the_fields_all_the_same(
    header: Path, tmp_path: Path
) -> None:
    text = header.read_text()
    moved = text.replace("\nstruct task_struct {", "\nstruct task_struct {\n\tlong added[77];", 1)
    assert moved != text
    assert os.getpid() in listed_pids(build(tmp_path, moved))


def test_writing_the_header_takes_seconds_at_most(tmp_path: Path) -> None:
    start = time.monotonic()
    write_vmlinux_header(tmp_path / "vmlinux.h")
    assert time.monotonic() - start < 10


def test_the_types_of_another_kernel_can_be_read_from_a_file(header: Path, tmp_path: Path) -> None:
    (tmp_path / "btf").write_bytes(KERNEL_BTF.read_bytes())
    write_vmlinux_header(tmp_path / "vmlinux.h", btf_path=tmp_path / "btf")
    assert (tmp_path / "vmlinux.h").read_text() == header.read_text()


def test_a_text_stream_gets_the_same_header_and_stays_open(header: Path) -> None:
    stream = io.StringIO()
    write_vmlinux_header(stream)
    assert stream.getvalue() == header.read_text()


def test_a_file_gets_the_permissions_of_a_new_file(header: Path) -> None:
    ordinary = header.with_name("ordinary")
    ordinary.touch()
    assert stat.S_IMODE(header.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_a_link_to_the_header_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target.h"
    target.write_text("old")
    (tmp_path / "link.h").symlink_to(target)
    write_vmlinux_header(tmp_path / "link.h")
    assert (tmp_path / "link.h").is_symlink()
    assert "__VMLINUX_H__" in target.read_text()


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_vmlinux_header("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_failure_leaves_the_old_header_and_nothing_else(tmp_path: Path) -> None:
    header, rubbish = tmp_path / "vmlinux.h", tmp_path / "rubbish"
    header.write_text("old")
    rubbish.write_bytes(b"rubbish")
    with pytest.raises(ObjectError):
        write_vmlinux_header(header, btf_path=rubbish)
    assert header.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["rubbish", "vmlinux.h"]


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("/dev/full", errno.ENOSPC),
        ("/no/such/folder/vmlinux.h", errno.ENOENT),
        ("/proc", errno.EISDIR),
        ("with\0nul", errno.EINVAL),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_with_its_errno(
    output: str, number: int
) -> None:
    with pytest.raises(ArenadsError) as caught:
        write_vmlinux_header(output)
    assert caught.value.errno == number


def test_an_absent_btf_says_which_kernels_have_one(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match="CONFIG_DEBUG_INFO_BTF"):
        write_vmlinux_header(io.StringIO(), btf_path=tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"\x9f\xeb", b"rubbish" * 100, bytes(100)])
def test_rubbish_is_not_taken_for_btf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "btf").write_bytes(content)
    with pytest.raises(ObjectError):
        write_vmlinux_header(io.StringIO(), btf_path=tmp_path / "btf")


@pytest.mark.parametrize("path", ["/", "/dev/zero", "with\0nul"])
def test_what_is_no_file_is_not_taken_for_btf(path: str) -> None:
    with pytest.raises(ObjectError):
        write_vmlinux_header(io.StringIO(), btf_path=path)


def test_a_truncated_btf_is_refused(tmp_path: Path) -> None:
    data = KERNEL_BTF.read_bytes()
    (tmp_path / "btf").write_bytes(data[: len(data) // 2])
    with pytest.raises(ObjectError):
        write_vmlinux_header(io.StringIO(), btf_path=tmp_path / "btf")


@pytest.fixture(scope="module")
def small_btf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    source = tmp_path_factory.mktemp("small") / "small.bpf.c"
    source.write_text(
        """
        enum colour { RED, GREEN = 7 };
        union value { int number; float ratio; };
        typedef int (*compare)(const void *, const void *);
        struct node {
            struct node *next, *const volatile previous;
            enum colour colour : 3;
            unsigned rest : 29;
            union value values[4][2];
            compare order;
        };
        struct node root;
        int walk(struct node *from) { return from->next == from; }
        """
    )
    path = compile(source)
    file = ObjectFile.open(path)
    section = file.section(".BTF")
    assert section is not None
    return file.contents(section)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_btf_is_written_or_refused_and_never_crashes(
    small_btf: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(small_btf)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 4))
        word = st.one_of(st.integers(0, 80), st.integers(0, (1 << 32) - 1))
        struct.pack_into("=I", content, place & ~3, data.draw(word))
    (tmp_path / "btf").write_bytes(content)
    with contextlib.suppress(ObjectError):
        write_vmlinux_header(io.StringIO(), btf_path=tmp_path / "btf")


def test_a_missing_libbpf_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_NAME", "libbpf.so.none")
    with pytest.raises(LibbpfMissingError, match=r"libbpf\.so\.none"):
        write_vmlinux_header(tmp_path / "vmlinux.h")
    assert os.listdir(tmp_path) == []
