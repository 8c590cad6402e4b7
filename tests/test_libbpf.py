"""The binding of libbpf: open, load, attach, run, and what a refusal says."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arenads import capabilities
from arenads.compiler import compile
from arenads.errors import (
    ArenadsError,
    CapacityError,
    ClosedError,
    LibbpfMissingError,
    LoadError,
    LockdownError,
    ObjectError,
    OpenError,
    ProgramTypeError,
    SchemaError,
    WrongMapTypeError,
)
from arenads.libbpf import (
    ARENA,
    BpfObject,
    KernelMap,
    Link,
    PerfEvent,
    Uprobe,
    create_map,
    library,
    map_info,
    refusals,
    version,
)

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[1]
HASH, ARRAY, PERCPU_ARRAY, RINGBUF = 1, 2, 6, 27
MMAPABLE = 1 << 10


def place_of(function: str) -> tuple[str, int]:
    """The file that has a function of the C library, and its offset there."""
    address = ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value or 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, file_offset, *_ = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end:
            return line.split()[-1], address - start + int(file_offset, 16)
    raise LookupError(function)


C_LIBRARY, GETPPID_OFFSET = place_of("getppid")

HEADER = """
typedef unsigned int __u32;
typedef unsigned long long __u64;
#define SEC(name) __attribute__((section(name), used))
static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*seq_write)(void *seq, const void *data, __u32 size) = (void *)127;
char _license[] SEC("license") = "GPL";
"""

PROGRAMS = """
struct { int (*type)[2]; int (*max_entries)[1]; __u32 *key; __u64 *value; } hits SEC(".maps");
static void hit(void)
{
    __u32 zero = 0;
    __u64 *count = lookup(&hits, &zero);
    if (count)
        __sync_fetch_and_add(count, 1);
}

volatile const __u32 addend = 5;
volatile const struct { __u64 handle; } config SEC(".rodata.config") = { 7 };
volatile __u64 runs = 40;
struct sum { __u64 in, out; };

SEC("syscall") int add(struct sum *c)
{
    runs += 1;
    c->out = c->in + addend + config.handle;
    return -3;
}
SEC("syscall") int count_runs(__u64 *c) { *c = runs; return 0; }
SEC("syscall") int nothing(void *c) { return 7; }
SEC("raw_tp/sys_enter") int raw(void *c) { hit(); return 0; }
SEC("tp_btf/sched_switch") int switched(void *c) { hit(); return 0; }
SEC("tracepoint/syscalls/sys_enter_getpid") int getpid_called(void *c) { hit(); return 0; }
SEC("tracepoint") int any_tracepoint(void *c) { hit(); return 0; }
SEC("raw_tp") int any_raw_tracepoint(void *c) { hit(); return 0; }
SEC("xdp") int pass(void *c) { hit(); return 2; }
SEC("tc") int classify(void *c) { hit(); return 0; }
SEC("tcx/egress") int classify_egress(void *c) { hit(); return 0; }
SEC("cgroup_skb/egress") int sent(void *c) { hit(); return 1; }
SEC("cgroup/connect4") int connecting(void *c) { hit(); return 1; }
SEC("sockops") int socket_event(void *c) { hit(); return 1; }
SEC("sk_lookup") int socket_lookup(void *c) { hit(); return 1; }
SEC("perf_event") int sample(void *c) { hit(); return 0; }
SEC("uprobe") int called(void *c) { hit(); return 0; }
SEC("uretprobe") int returned(void *c) { hit(); return 0; }
SEC("?syscall") int optional(void *c) { return 1; }
SEC("iter/task") int tasks(void **c)
{
    char line[] = "task";
    if (c[1])
        seq_write(*(void **)c[0], line, 4);
    return 0;
}
"""


def why_not() -> str:
    """Why this machine cannot run these tests, empty if it can."""
    try:
        base = 1 << 44
        create_map(ARENA, 0, 0, 1, MMAPABLE, map_extra=base).close()
    except ArenadsError as error:
        return f"kernel engine: {error}"
    return ""


REASON = why_not()
needs_kernel = pytest.mark.skipif(bool(REASON), reason=REASON)
needs_libbpf = pytest.mark.skipif("libbpf.so" in REASON, reason=REASON)


def build(folder: Path, body: str, name: str = "test") -> Path:
    source = folder / f"{name}.bpf.c"
    source.write_text(HEADER + textwrap.dedent(body))
    return compile(source, flags=["-Wno-unused"])


@pytest.fixture(scope="session")
def object_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libbpf"), PROGRAMS)


@pytest.fixture
def opened(object_path: Path) -> Iterator[BpfObject]:
    with BpfObject.open(object_path) as programs:
        yield programs


@pytest.fixture(scope="session")
def loaded_once(object_path: Path) -> Iterator[BpfObject]:
    with BpfObject.open(object_path) as programs:
        programs.load()
        yield programs


@pytest.fixture
def loaded(loaded_once: BpfObject) -> Iterator[BpfObject]:
    """The loaded object, shared: loading it takes its time."""
    yield loaded_once
    for link in list(loaded_once._links):
        link.close()


@pytest.fixture
def hits(loaded: BpfObject) -> Callable[[], int]:
    """How often a program ran so far."""
    counters = KernelMap(os.dup(loaded.maps()["hits"].fd))

    def read() -> int:
        value = counters.lookup(bytes(4))
        assert value is not None
        return int.from_bytes(value, sys.byteorder)

    return read


def refuse(call: Callable[[], object], kind: type[ArenadsError]) -> ArenadsError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


# --- the library ---------------------------------------------------------------------


@needs_libbpf
def test_the_version_is_a_pair_of_numbers() -> None:
    major, minor = version()
    assert major == 1
    assert minor >= 0


def test_a_missing_libbpf_is_named_with_its_package_on_each_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "_library", None)
    monkeypatch.setattr(library, "_NAME", "libbpf.so.none")
    error = refuse(version, LibbpfMissingError)
    for words in ("libbpf.so.none", "apt install libbpf1", "dnf install libbpf", "apk add libbpf"):
        assert words in str(error)


@needs_libbpf
def test_another_user_of_libbpf_in_the_process_keeps_its_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    handles = library.library()
    handles.libbpf.bpf_object__open_mem(b"rubbish", 7, handles.ffi.NULL)
    assert "libbpf: " in capfd.readouterr().err


# --- opening ---------------------------------------------------------------------------


@needs_libbpf
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ELF"),
        (b"not an object", "ELF"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"\x7fELF\x01" + bytes(59), "64-bit"),
        (Path(sys.executable).read_bytes()[:100_000], "BPF"),
    ],
)
def test_a_file_that_is_no_bpf_object_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "wrong.bpf.o"
    path.write_bytes(content)
    error = refuse(lambda: BpfObject.open(path), ObjectError)
    assert str(path) in str(error)
    assert words in str(error)


@needs_libbpf
def test_an_absent_file_is_refused_with_its_errno(tmp_path: Path) -> None:
    error = refuse(lambda: BpfObject.open(tmp_path / "none.bpf.o"), ObjectError)
    assert error.errno == errno.ENOENT


@needs_libbpf
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    refuse(lambda: BpfObject.open(tmp_path / "fifo"), ObjectError)


@needs_libbpf
@pytest.mark.parametrize("path", ["with\0nul", b"with\0nul", "/", 7.5])
def test_what_is_no_path_to_a_file_is_refused(path: object) -> None:
    refuse(lambda: BpfObject.open(path), ObjectError)  # type: ignore[arg-type]


@needs_libbpf
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_object_is_opened_or_refused_and_never_crashes(
    object_path: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(object_path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 4))
        content[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path / "damaged.bpf.o"
    path.write_bytes(content)
    with contextlib.suppress(ObjectError), BpfObject.open(path) as damaged:
        damaged.maps()
        damaged.programs()


@needs_libbpf
def test_maps_are_described_as_the_object_declares_them(opened: BpfObject) -> None:
    hits = opened.maps()["hits"]
    assert (hits.type, hits.key_size, hits.value_size, hits.max_entries) == ("array", 4, 8, 1)
    assert hits.fd == -1
    assert not hits.internal
    assert opened.maps()[".rodata.config"].internal


@needs_libbpf
def test_programs_are_described_as_the_object_declares_them(opened: BpfObject) -> None:
    programs = opened.programs()
    assert programs["add"].section == "syscall"
    assert programs["add"].type == "syscall"
    assert programs["add"].autoload
    assert programs["add"].fd == -1
    assert programs["switched"].type == "tracing"
    assert not programs["optional"].autoload


@needs_libbpf
def test_sections_that_libbpf_learned_later_are_known(opened: BpfObject) -> None:
    assert opened.programs()["classify_egress"].type == "sched_cls"


@needs_libbpf
@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.set_autoload("absent", True),
        lambda o: o.initial_value("absent"),
        lambda o: o.initial_value(".nothing"),
        lambda o: o.initial_value(None),
        lambda o: o.set_autoload(["add"], True),
    ],
)
def test_a_name_that_the_object_does_not_have_is_refused(
    opened: BpfObject, call: Callable[[BpfObject], object]
) -> None:
    error = refuse(lambda: call(opened), ObjectError)
    assert error.errno == errno.ENOENT
    assert "it has: " in str(error)


@needs_libbpf
def test_a_map_without_global_variables_has_no_initial_value(opened: BpfObject) -> None:
    refuse(lambda: opened.initial_value("hits"), ObjectError)


@needs_libbpf
@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.attach("raw"),
        lambda o: o.attach_to("pass", interface="lo"),
        lambda o: o.run("add"),
        lambda o: o.runner("add"),
    ],
)
def test_programs_are_not_used_before_the_load(
    opened: BpfObject, call: Callable[[BpfObject], object]
) -> None:
    assert "call load()" in str(refuse(lambda: call(opened), LoadError))


# --- loading ---------------------------------------------------------------------------


@needs_kernel
def test_loading_gives_descriptors_and_no_output(
    opened: BpfObject, capfd: pytest.CaptureFixture[str]
) -> None:
    opened.load()
    assert opened.programs()["add"].fd > 0
    assert opened.maps()["hits"].fd > 0
    assert opened.messages == []
    assert capfd.readouterr() == ("", "")


@needs_kernel
def test_initial_values_are_what_the_program_reads(opened: BpfObject) -> None:
    opened.initial_value(".rodata")[:4] = struct.pack("=I", 1000)
    opened.initial_value(".rodata.config")[:8] = struct.pack("=Q", 200)
    opened.initial_value(".data")[:8] = struct.pack("=Q", 10)
    opened.load()
    assert opened.run("add", struct.pack("=QQ", 3, 0)).context == struct.pack("=QQ", 3, 1203)
    assert opened.run("count_runs", bytes(8)).context == struct.pack("=Q", 11)


@needs_kernel
def test_writing_to_an_initial_value_after_the_load_changes_nothing(opened: BpfObject) -> None:
    view = opened.initial_value(".rodata.config")
    opened.load()
    view[:8] = struct.pack("=Q", 200)
    assert opened.run("add", bytes(16)).context == struct.pack("=QQ", 0, 12)


@needs_kernel
@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.load(),
        lambda o: o.reuse_map("hits", 0),
        lambda o: o.set_autoload("add", False),
        lambda o: o.initial_value(".rodata"),
    ],
)
def test_preparing_an_object_after_the_load_is_refused(
    loaded: BpfObject, call: Callable[[BpfObject], object]
) -> None:
    assert "too late" in str(refuse(lambda: call(loaded), LoadError))


@needs_kernel
def test_a_program_left_out_of_the_load_cannot_be_used(opened: BpfObject) -> None:
    opened.set_autoload("add", False)
    opened.load()
    assert opened.programs()["add"].fd == -1
    assert "set_autoload" in str(refuse(lambda: opened.run("add"), LoadError))


@needs_kernel
def test_an_optional_program_is_loaded_when_asked_for(opened: BpfObject) -> None:
    opened.set_autoload("optional", True)
    opened.load()
    assert opened.run("optional").return_value == 1


@needs_kernel
def test_a_reused_map_is_the_one_the_programs_use(opened: BpfObject) -> None:
    with create_map(ARRAY, 4, 8, 1, name="other") as other:
        opened.reuse_map("hits", other.fd)
        opened.load()
        assert opened.maps()["hits"].type == "array"
        opened.run("pass", data=bytes(64))
        assert other.lookup(bytes(4)) == struct.pack("=Q", 1)


@needs_kernel
def test_reusing_a_map_of_another_type_is_refused(opened: BpfObject) -> None:
    with create_map(HASH, 4, 8, 1) as other:
        error = refuse(lambda: opened.reuse_map("hits", other.fd), WrongMapTypeError)
    assert (error.expected, error.found) == ("array", "hash")


@needs_kernel
@pytest.mark.parametrize("fd", [-1, 0, 99_999, 1 << 40, "3", None])
def test_reusing_what_is_no_map_is_refused(opened: BpfObject, fd: int) -> None:
    refuse(lambda: opened.reuse_map("hits", fd), OpenError)


@needs_kernel
def test_a_refused_program_is_named_with_the_end_of_its_verifier_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = build(
        tmp_path,
        """
        SEC("syscall") int fine(void *c) { return 0; }
        SEC("syscall") int wild(__u64 **c) { return **c; }
        """,
    )
    capfd.readouterr()
    with BpfObject.open(path) as programs:
        error = refuse(programs.load, LoadError)
    assert "program 'wild' (section 'syscall', type syscall)" in str(error)
    assert error.errno == errno.EACCES
    assert "EACCES, Permission denied" in str(error)
    assert "invalid mem access 'scalar'" in str(error)
    assert "invalid mem access 'scalar'" in str(error.log)
    assert error.program == "wild"
    assert capfd.readouterr() == ("", "")


@needs_kernel
def test_a_long_verifier_log_is_kept_whole_and_quoted_in_part(tmp_path: Path) -> None:
    path = build(
        tmp_path,
        """
        SEC("syscall") int wild(__u64 *c)
        {
            __u64 sum = *c, wanted = c[1];
            for (int i = 0; i < 20000; i++)
                if (sum * 3 == wanted + i)
                    return 1;
                else
                    sum += i ^ wanted;
            return *(__u64 *)sum;
        }
        """,
    )
    with BpfObject.open(path) as programs:
        error = refuse(programs.load, LoadError)
    log = str(error.log)
    assert len(log) > 1 << 20
    quoted = str(error).splitlines()
    assert [line.strip() for line in quoted[-12:]] == [
        line.strip() for line in log.splitlines()[-12:]
    ]
    assert len(quoted) < 20


# Verified once by itself it is within the limit, verified at each call it is not.
COUNTED = """
__attribute__((noinline, weak)) int count(int start)
{
    for (int i = 0; i < 60000; i++)
        start = start * 3 + i;
    return start;
}
SEC("syscall") int five(int *c)
{
    return count(c[0]) + count(c[1]) + count(c[2]) + count(c[3]) + count(c[4]);
}
"""


def without_int(path: Path) -> Path:
    """Write beside an object one whose `int` has an encoding that no kernel knows."""
    code = bytearray(path.read_bytes())
    kind_and_size = struct.pack("<II", 1 << 24, 4)
    at = code.index(kind_and_size, code.index(b"\x9f\xeb\x01\x00"))
    code[at + len(kind_and_size) + 3] |= 0x0F
    spoilt = path.with_name("spoilt.bpf.o")
    spoilt.write_bytes(code)
    return spoilt


@needs_kernel
def test_refused_type_information_is_named_as_the_cause(tmp_path: Path) -> None:
    path = build(tmp_path, COUNTED)
    with BpfObject.open(path) as programs:
        programs.load()
    with BpfObject.open(without_int(path)) as programs:
        error = refuse(programs.load, LoadError)
    assert "program 'five'" in str(error)
    assert "the kernel refused the object's type information (BTF)" in str(error)
    assert "Unsupported encoding" in str(error)  # what the kernel says of it
    assert "too large" in str(error)  # and what followed from it
    assert "too complex" not in str(error)
    assert any("BTF LOAD LOG" in message for message in error.messages)


@needs_kernel
def test_an_object_is_not_loaded_again_after_a_failure(tmp_path: Path) -> None:
    path = build(tmp_path, 'SEC("syscall") int wild(__u64 **c) { return **c; }')
    with BpfObject.open(path) as programs:
        refuse(programs.load, LoadError)
        assert "too late" in str(refuse(programs.load, LoadError))
        refuse(lambda: programs.run("wild"), LoadError)


@needs_kernel
def test_a_target_that_the_kernel_does_not_have_is_named(tmp_path: Path) -> None:
    path = build(tmp_path, 'SEC("tp_btf/no_such_event") int lost(void *c) { return 0; }')
    with BpfObject.open(path) as programs:
        error = refuse(programs.load, LoadError)
    assert "This kernel has no 'no_such_event' to attach to" in str(error)
    assert error.program == "lost"


@needs_kernel
def test_a_section_that_libbpf_does_not_know_is_named(tmp_path: Path) -> None:
    path = build(tmp_path, 'SEC("no_such_kind") int odd(void *c) { return 0; }')
    with BpfObject.open(path) as programs:
        error = refuse(programs.load, LoadError)
    assert "does not know the section 'no_such_kind'" in str(error)


@needs_kernel
def test_a_map_that_the_kernel_does_not_have_is_named(tmp_path: Path) -> None:
    path = build(
        tmp_path,
        """
        struct {
            int (*type)[200]; int (*max_entries)[1]; __u32 *key; __u64 *value;
        } odd SEC(".maps");
        SEC("syscall") int use(void *c) { __u32 zero = 0; return !lookup(&odd, &zero); }
        """,
    )
    with BpfObject.open(path) as programs:
        assert programs.maps()["odd"].type == "type 200"
        error = refuse(programs.load, LoadError)
    assert "The map 'odd' could not be created" in str(error)


@needs_kernel
@pytest.mark.skipif(
    capabilities.lockdown() in (None, "none"), reason="the kernel is not locked down"
)
def test_a_program_that_lockdown_forbids_is_refused_with_the_mode(tmp_path: Path) -> None:
    path = build(tmp_path, 'SEC("fentry/vfs_read") int entered(void *c) { return 0; }')
    with BpfObject.open(path) as programs:
        error = refuse(programs.load, LockdownError)
    assert f"locked down (mode {capabilities.lockdown()})" in str(error)
    assert error.errno == errno.EPERM
    assert error.missing == ()


RUN_WITHOUT = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
header = struct.pack("=Ii", 0x20080522, 0)
lowest, highest = 0, 0
sets = ctypes.create_string_buffer(24)
assert libc.capget(header, sets) == 0
words = list(struct.unpack("=6I", sets.raw))
from arenads import capabilities, libbpf
for name in sys.argv[2].split(","):
    bit = capabilities._NAMES.index(name)
    for kind in range(3):
        words[kind + 3 * (bit // 32)] &= ~(1 << bit % 32)
dropped = struct.pack("=6I", *words)
libbpf.version()
try:
    if sys.argv[3:] != ["after the load"]:
        assert libc.capset(header, dropped) == 0
    with libbpf.BpfObject.open(sys.argv[1]) as programs:
        programs.load()
        if sys.argv[3:] == ["after the load"]:
            assert libc.capset(header, dropped) == 0
            programs.attach_to("p", perf_event=libbpf.PerfEvent(frequency=1))
except Exception as error:
    print(type(error).__name__, *getattr(error, "missing", ()))
    print(error)
else:
    print("worked")
"""


def run_without(dropped: str, path: Path, *more: str) -> str:
    """What becomes of loading an object without some capabilities."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT, str(path), dropped, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.stdout


@needs_kernel
@pytest.mark.parametrize(
    ("body", "dropped", "missing"),
    [
        ('SEC("syscall") int p(void *c) { return 0; }', "CAP_BPF,CAP_SYS_ADMIN", "CAP_BPF"),
        (
            'SEC("raw_tp/sys_enter") int p(void *c) { return 0; }',
            "CAP_PERFMON,CAP_SYS_ADMIN",
            "CAP_PERFMON",
        ),
        (
            'SEC("xdp") int p(void *c) { return 2; }',
            "CAP_NET_ADMIN,CAP_SYS_ADMIN",
            "CAP_NET_ADMIN",
        ),
        (
            'SEC("tc") int p(void *c) { return 0; }',
            "CAP_BPF,CAP_NET_ADMIN,CAP_SYS_ADMIN",
            "CAP_BPF CAP_NET_ADMIN",
        ),
    ],
)
def test_a_missing_capability_is_named_for_the_type_of_the_program(
    tmp_path: Path, body: str, dropped: str, missing: str
) -> None:
    said = run_without(dropped, build(tmp_path, body))
    # Without CAP_BPF nothing can be loaded, so libbpf does not come to any program.
    expected = "CAP_BPF" if "CAP_BPF" in missing else missing
    assert said.startswith(f"PrivilegeError {expected}"), said
    assert "run it as root, or grant" in said


@needs_kernel
def test_capabilities_of_a_user_namespace_are_said_not_to_count(tmp_path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare command")
    path = build(tmp_path, 'SEC("syscall") int p(void *c) { return 0; }')
    script = (
        "import sys; from arenads.libbpf import BpfObject; o = BpfObject.open(sys.argv[1])\n"
        "try: o.load()\n"
        "except Exception as error: print(type(error).__name__, error.missing, error)\n"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if "unshare" in done.stdout:
        pytest.skip(f"there are no user namespaces: {done.stdout}")
    assert done.stdout.startswith("PrivilegeError () "), done.stdout
    assert "inside a user namespace" in done.stdout


@pytest.mark.parametrize(
    ("mode", "kind", "log", "forbidden"),
    [
        (None, "tracing", "", None),
        ("none", "tracing", "", None),
        ("integrity", "syscall", "", None),
        ("integrity", "tracing", "", "programs of type 'tracing'"),
        ("integrity", "kprobe", "", None),
        ("confidentiality", "kprobe", "", "programs of type 'kprobe'"),
        (
            "confidentiality",
            "raw_tracepoint",
            "program of this type cannot use helper bpf_probe_read_kernel#113",
            "the helper bpf_probe_read_kernel",
        ),
        (
            "integrity",
            "raw_tracepoint",
            "program of this type cannot use helper bpf_probe_read_kernel#113",
            None,
        ),
        (
            "integrity",
            "raw_tracepoint",
            "unknown func bpf_probe_write_user#36",
            "the helper bpf_probe_write_user",
        ),
        ("confidentiality", "raw_tracepoint", "call bpf_probe_read_kernel#113", None),
    ],
)
def test_what_lockdown_forbids_depends_on_its_mode(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, kind: str, log: str, forbidden: str | None
) -> None:
    monkeypatch.setattr(capabilities, "lockdown", lambda: mode)
    assert refusals.forbidden_by_lockdown(kind, log) == forbidden


@needs_kernel
def test_a_capability_that_is_not_needed_is_not_missed(tmp_path: Path) -> None:
    path = build(tmp_path, 'SEC("syscall") int p(void *c) { return 0; }')
    assert run_without("CAP_SYS_ADMIN,CAP_NET_ADMIN,CAP_PERFMON", path) == "worked\n"


@needs_kernel
def test_an_attachment_without_the_right_to_it_names_the_capability(tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip() < "1":
        pytest.skip("this kernel lets everybody watch the CPUs")
    path = build(tmp_path, 'SEC("perf_event") int p(void *c) { return 0; }')
    said = run_without("CAP_PERFMON,CAP_SYS_ADMIN", path, "after the load")
    assert said.startswith("PrivilegeError CAP_PERFMON"), said
    assert "could not be attached to perf event" in said


# --- attaching ------------------------------------------------------------------------


def send_a_packet() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


def connect() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
    ):
        pass


def yield_the_cpu() -> None:
    # Nothing to be waited for: the switch away is the event.
    time.sleep(0.001)


def burn_cpu() -> None:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass


def expect_attached(link: Link, hits: Callable[[], int], cause: Callable[[], object]) -> None:
    """The program runs on its cause while it is attached, and no longer after."""
    before = hits()
    cause()
    assert hits() > before
    link.close()
    assert link.closed
    before = hits()
    cause()
    assert hits() == before


@needs_kernel
def test_a_tp_btf_program_runs_while_attached(loaded: BpfObject, hits: Callable[[], int]) -> None:
    expect_attached(loaded.attach("switched"), hits, yield_the_cpu)


@needs_kernel
def test_a_raw_tracepoint_program_runs_while_attached(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    with loaded.attach("raw"):
        before = hits()
        assert hits() > before
    after = hits()
    assert hits() == after


@needs_kernel
@pytest.mark.skipif(
    not capabilities.is_mounted("tracefs", "/sys/kernel/tracing"), reason="tracefs is not mounted"
)
def test_a_tracepoint_program_runs_while_attached(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    expect_attached(loaded.attach("getpid_called"), hits, os.getpid)


@needs_kernel
@pytest.mark.skipif(
    not capabilities.is_mounted("tracefs", "/sys/kernel/tracing"), reason="tracefs is not mounted"
)
def test_a_tracepoint_can_be_chosen(loaded: BpfObject, hits: Callable[[], int]) -> None:
    link = loaded.attach_to("any_tracepoint", tracepoint=("sched", "sched_switch"))
    expect_attached(link, hits, yield_the_cpu)


@needs_kernel
def test_a_raw_tracepoint_can_be_chosen(loaded: BpfObject, hits: Callable[[], int]) -> None:
    link = loaded.attach_to("any_raw_tracepoint", raw_tracepoint="sched_switch")
    expect_attached(link, hits, yield_the_cpu)


@needs_kernel
@pytest.mark.parametrize("mode", ["auto", "generic"])
def test_an_xdp_program_sees_the_packets_of_an_interface(
    loaded: BpfObject, hits: Callable[[], int], mode: str
) -> None:
    link = loaded.attach_to("pass", interface="lo", xdp_mode=mode)
    expect_attached(link, hits, send_a_packet)


@needs_kernel
def test_an_interface_can_be_given_by_its_index(loaded: BpfObject, hits: Callable[[], int]) -> None:
    link = loaded.attach_to("pass", interface=socket.if_nametoindex("lo"))
    expect_attached(link, hits, send_a_packet)


@needs_kernel
@pytest.mark.parametrize("direction", [None, "ingress", "egress"])
def test_a_tc_program_sees_the_packets_of_an_interface(
    loaded: BpfObject, hits: Callable[[], int], direction: str | None
) -> None:
    link = loaded.attach_to("classify", interface="lo", direction=direction)
    assert (direction or "ingress") in link.target
    expect_attached(link, hits, send_a_packet)


@needs_kernel
def test_a_tc_section_says_the_direction(loaded: BpfObject, hits: Callable[[], int]) -> None:
    link = loaded.attach_to("classify_egress", interface="lo")
    assert "egress" in link.target
    expect_attached(link, hits, send_a_packet)


@needs_kernel
def test_a_tc_program_is_attached_the_old_way_where_there_are_no_tcx_links(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    ingress = 1
    try:
        link = loaded._attacher("classify")._classic_tc("lo", socket.if_nametoindex("lo"), ingress)
    except LoadError as error:
        pytest.skip(f"the kernel has no clsact queueing discipline: {error}")
    expect_attached(link, hits, send_a_packet)


@pytest.fixture
def cgroup() -> str:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return place
    pytest.skip("there is no cgroup v2 tree")


@needs_kernel
@pytest.mark.parametrize(
    ("program", "cause"),
    [("sent", send_a_packet), ("connecting", connect), ("socket_event", connect)],
)
def test_a_cgroup_program_sees_the_cgroup_of_this_process(
    loaded: BpfObject,
    hits: Callable[[], int],
    cgroup: str,
    program: str,
    cause: Callable[[], object],
) -> None:
    expect_attached(loaded.attach_to(program, cgroup=cgroup), hits, cause)


@needs_kernel
def test_a_socket_lookup_program_is_attached_to_a_network_namespace(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    link = loaded.attach_to("socket_lookup", network_namespace=Path("/proc/self/ns/net"))
    expect_attached(link, hits, connect)


@needs_kernel
@pytest.mark.parametrize("event", [PerfEvent(frequency=997), PerfEvent(period=100_000, process=0)])
def test_a_perf_event_program_samples(
    loaded: BpfObject, hits: Callable[[], int], event: PerfEvent
) -> None:
    expect_attached(loaded.attach_to("sample", perf_event=event), hits, burn_cpu)


@needs_kernel
@pytest.mark.parametrize("program", ["called", "returned"])
def test_a_uprobe_runs_when_the_function_is_called(
    loaded: BpfObject, hits: Callable[[], int], program: str
) -> None:
    link = loaded.attach_to(program, uprobe=Uprobe(0, C_LIBRARY, "getppid"))
    expect_attached(link, hits, os.getppid)


@needs_kernel
def test_a_uprobe_can_be_given_by_its_offset_in_the_file(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    link = loaded.attach_to("called", uprobe=(os.getpid(), C_LIBRARY, GETPPID_OFFSET))
    expect_attached(link, hits, os.getppid)


@needs_kernel
def test_an_iterator_is_read_whole_at_every_reading(loaded: BpfObject) -> None:
    with loaded.attach("tasks") as link:
        first = link.read()
        assert first
        assert set(first.split(b"task")) == {b""}
        assert link.read()
    refuse(link.read, ClosedError)


@needs_kernel
def test_a_program_that_is_no_iterator_cannot_be_read(loaded: BpfObject) -> None:
    with loaded.attach("switched") as link:
        refuse(link.read, ProgramTypeError)


@needs_kernel
def test_closing_a_link_twice_does_nothing(loaded: BpfObject) -> None:
    link = loaded.attach("switched")
    link.close()
    link.close()
    assert "closed" in repr(link)


@needs_kernel
def test_a_link_that_nobody_holds_stays_attached(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    loaded.attach("switched")
    gc.collect()
    before = hits()
    yield_the_cpu()
    assert hits() > before


@needs_kernel
def test_closing_the_object_detaches_its_programs(opened: BpfObject) -> None:
    opened.load()
    counters = KernelMap(os.dup(opened.maps()["hits"].fd))
    link = opened.attach("switched")
    opened.close()
    assert link.closed
    before = counters.lookup(bytes(4))
    yield_the_cpu()
    assert counters.lookup(bytes(4)) == before


@needs_kernel
@pytest.mark.parametrize("event", [None, PerfEvent(frequency=997)])
def test_a_forked_child_does_not_detach_what_its_parent_attached(
    loaded: BpfObject, hits: Callable[[], int], event: PerfEvent | None
) -> None:
    name, cause = ("switched", yield_the_cpu) if event is None else ("sample", burn_cpu)
    link = loaded.attach(name) if event is None else loaded.attach_to(name, perf_event=event)
    child = os.fork()
    if not child:
        link.close()
        loaded.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    expect_attached(link, hits, cause)


@needs_kernel
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("pass", "interface="),
        ("classify", "interface="),
        ("sent", "cgroup="),
        ("socket_event", "cgroup="),
        ("socket_lookup", "network_namespace="),
        ("sample", "perf_event="),
        ("called", "uprobe="),
        ("any_tracepoint", "tracepoint="),
        ("any_raw_tracepoint", "raw_tracepoint="),
        ("add", "not attached but run"),
    ],
)
def test_a_section_without_a_target_is_told_which_target_to_give(
    loaded: BpfObject, program: str, words: str
) -> None:
    assert words in str(refuse(lambda: loaded.attach(program), ProgramTypeError))


@needs_kernel
@pytest.mark.parametrize(
    ("program", "target"),
    [
        ("add", {"interface": "lo"}),
        ("pass", {"cgroup": "/"}),
        ("sent", {"network_namespace": "/proc/self/ns/net"}),
        ("raw", {"tracepoint": ("sched", "sched_switch")}),
        ("switched", {"raw_tracepoint": "sched_switch"}),
        ("switched", {"uprobe": (0, "/bin/true", "main")}),
        ("called", {"perf_event": PerfEvent(frequency=1)}),
    ],
)
def test_a_target_that_does_not_go_with_the_type_of_the_program_is_refused(
    loaded: BpfObject, program: str, target: dict[str, object]
) -> None:
    error = refuse(lambda: loaded.attach_to(program, **target), ProgramTypeError)  # type: ignore[arg-type]
    assert "that takes a program of type" in str(error)


@needs_kernel
@pytest.mark.parametrize(
    ("program", "target", "number", "words"),
    [
        ("pass", {}, 0, "exactly one target"),
        ("pass", {"interface": "lo", "cgroup": "/"}, 0, "exactly one target"),
        ("pass", {"interface": "no-such"}, errno.ENODEV, "there are: lo"),
        ("pass", {"interface": "x\0y"}, errno.ENODEV, "no network interface"),
        ("pass", {"interface": 1 << 40}, errno.ENODEV, "no network interface"),
        ("pass", {"interface": -1}, errno.ENODEV, "no network interface"),
        ("pass", {"interface": "lo", "xdp_mode": "fast"}, 0, "auto, generic, driver"),
        ("classify", {"interface": "lo", "direction": "up"}, 0, "ingress, egress"),
        ("sent", {"cgroup": "/no/such"}, errno.ENOENT, "cannot be opened"),
        ("sent", {"cgroup": "/"}, errno.EBADF, "not a cgroup v2 directory"),
        ("sent", {"cgroup": "x\0y"}, errno.EINVAL, "cannot be opened"),
        ("socket_lookup", {"network_namespace": "/"}, errno.EINVAL, "does not support"),
        ("any_tracepoint", {"tracepoint": ("sched", "none")}, errno.ENOENT, "no such tracepoint"),
        ("any_tracepoint", {"tracepoint": ("..", "sched")}, 0, "name of a tracepoint"),
        ("any_tracepoint", {"tracepoint": ("a/b", "c")}, 0, "name of a tracepoint"),
        ("any_tracepoint", {"tracepoint": "sched"}, 0, "a pair"),
        ("any_tracepoint", {"tracepoint": 5}, 0, "a pair"),
        ("any_raw_tracepoint", {"raw_tracepoint": "none"}, errno.ENOENT, "no such target"),
        ("any_raw_tracepoint", {"raw_tracepoint": ""}, 0, "name of a raw tracepoint"),
        ("called", {"uprobe": (0, "/no/such", "main")}, errno.ENOENT, "no such target"),
        ("called", {"uprobe": (0, C_LIBRARY, "no_such")}, errno.ENOENT, "no such target"),
        ("called", {"uprobe": (0, "/etc/passwd", "main")}, errno.EINVAL, "format invalid"),
        ("called", {"uprobe": (0, C_LIBRARY, -1)}, 0, "an offset >= 0"),
        ("called", {"uprobe": (0, C_LIBRARY, None)}, 0, "an offset >= 0"),
        ("called", {"uprobe": (-2, C_LIBRARY, 0)}, 0, "a process id"),
        ("called", {"uprobe": (0, "x\0y", 0)}, 0, "uprobe is"),
        ("called", {"uprobe": 5}, 0, "uprobe is"),
        ("sample", {"perf_event": PerfEvent(type=1 << 20)}, errno.ENOENT, "no such target"),
        ("sample", {"perf_event": PerfEvent(type=-1)}, errno.EINVAL, "does not support"),
        ("sample", {"perf_event": PerfEvent(cpus=(9999,))}, errno.EINVAL, "CPU 9999"),
        ("sample", {"perf_event": 99_999}, errno.EBADF, "99999"),
        ("sample", {"perf_event": "cycles"}, 0, "PerfEvent or a descriptor"),
    ],
)
def test_a_wrong_target_is_refused_with_what_is_wrong(
    loaded: BpfObject, program: str, target: dict[str, object], number: int, words: str
) -> None:
    if target.get("tracepoint") == ("sched", "none") and not capabilities.is_mounted(
        "tracefs", "/sys/kernel/tracing"
    ):
        pytest.skip("tracefs is not mounted")
    error = refuse(lambda: loaded.attach_to(program, **target), LoadError)  # type: ignore[arg-type]
    assert words in str(error)
    if number:
        assert error.errno == number


@needs_kernel
def test_a_failed_attachment_leaves_no_descriptor_behind(loaded: BpfObject) -> None:
    before = set(os.listdir("/proc/self/fd"))
    event = PerfEvent(frequency=1, cpus=(0, 9999))
    refuse(lambda: loaded.attach_to("sample", perf_event=event), LoadError)
    refuse(lambda: loaded.attach_to("sent", cgroup="/"), LoadError)
    assert set(os.listdir("/proc/self/fd")) == before


@needs_kernel
def test_a_tracepoint_without_tracefs_says_how_to_mount_it(tmp_path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare command")
    path = build(tmp_path, 'SEC("tracepoint/sched/sched_switch") int p(void *c) { return 0; }')
    script = (
        "import sys; from arenads.libbpf import BpfObject\n"
        "o = BpfObject.open(sys.argv[1]); o.load()\n"
        "try: o.attach('p')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    hide = 'umount /sys/kernel/tracing /sys/kernel/debug 2>/dev/null; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.stdout.startswith("LoadError"), done.stdout
    assert "mount -t tracefs none /sys/kernel/tracing" in done.stdout


# --- running --------------------------------------------------------------------------


@needs_kernel
def test_a_syscall_program_changes_its_context_and_returns_a_signed_number(
    loaded: BpfObject,
) -> None:
    result = loaded.run("add", struct.pack("=QQ", 100, 0))
    assert result.return_value == -3
    assert result.context == struct.pack("=QQ", 100, 112)
    assert result.data == b""
    assert result.duration_ns > 0


@needs_kernel
def test_the_context_that_was_given_is_not_changed(loaded: BpfObject) -> None:
    context = bytearray(16)
    assert loaded.run("add", context).context != context
    assert context == bytes(16)


@needs_kernel
def test_a_network_program_runs_on_a_packet(loaded: BpfObject, hits: Callable[[], int]) -> None:
    before = hits()
    result = loaded.run("pass", data=bytes(range(64)), repeat=10)
    assert result.return_value == 2
    assert result.data == bytes(range(64))
    assert hits() == before + 10


@needs_kernel
def test_a_raw_tracepoint_program_runs_on_arguments(
    loaded: BpfObject, hits: Callable[[], int]
) -> None:
    before = hits()
    loaded.run("raw", bytes(16))
    assert hits() == before + 1


@needs_kernel
@pytest.mark.parametrize("program", ["getpid_called", "switched", "called"])
def test_a_program_that_the_kernel_cannot_run_by_itself_is_refused(
    loaded: BpfObject, program: str
) -> None:
    error = refuse(lambda: loaded.run(program), ProgramTypeError)
    assert 'SEC("syscall")' in str(error)


@needs_kernel
@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda o: o.run("add", bytes(8)), LoadError),
        (lambda o: o.run("add", bytes(70_000)), LoadError),
        (lambda o: o.run("add", 16), SchemaError),
        (lambda o: o.run("add", "text"), SchemaError),
        (lambda o: o.run("add", data=b"packet"), ProgramTypeError),
        (lambda o: o.run("add", bytes(16), repeat=2), ProgramTypeError),
        (lambda o: o.run("pass", data=b"short"), LoadError),
        (lambda o: o.run("pass", data=bytes(64), repeat=0), LoadError),
        (lambda o: o.run("pass", data=bytes(64), repeat=-1), LoadError),
        (lambda o: o.run("pass", data=bytes(64), flags=1 << 40), LoadError),
        (lambda o: o.run("absent"), ObjectError),
        (lambda o: o.runner("pass"), ProgramTypeError),
        (lambda o: o.runner("add", -1), LoadError),
        (lambda o: o.runner("add", 1 << 16), LoadError),
        (lambda o: o.runner("add", 8)(), LoadError),
        (lambda o: o.runner("add", 16)(bytes(15)), SchemaError),
        (lambda o: o.runner("add", 16)(5), SchemaError),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(
    loaded: BpfObject, call: Callable[[BpfObject], object], kind: type[ArenadsError]
) -> None:
    refuse(lambda: call(loaded), kind)


@needs_kernel
def test_a_runner_runs_with_each_context_that_it_gets(loaded: BpfObject) -> None:
    add = loaded.runner("add", 16)
    for number in (0, 1, 1 << 40):
        assert add(struct.pack("=QQ", number, 0)) == -3
        assert bytes(add.context) == struct.pack("=QQ", number, number + 12)


@needs_kernel
def test_a_runner_without_an_argument_runs_on_what_is_in_its_context(loaded: BpfObject) -> None:
    add = loaded.runner("add", 16)
    add.context[:8] = struct.pack("=Q", 30)
    add()
    assert bytes(add.context[8:]) == struct.pack("=Q", 42)


@needs_kernel
def test_a_runner_without_a_context_runs(loaded: BpfObject) -> None:
    assert loaded.runner("nothing")() == 7


@needs_kernel
def test_closing_is_idempotent_and_everything_after_it_is_refused(opened: BpfObject) -> None:
    opened.load()
    add = opened.runner("add", 16)
    opened.close()
    opened.close()
    assert opened.closed
    for call in (
        add,
        opened.maps,
        opened.programs,
        opened.load,
        lambda: opened.run("add", bytes(16)),
        lambda: opened.runner("add"),
        lambda: opened.attach("switched"),
        lambda: opened.attach_to("pass", interface="lo"),
        lambda: opened.reuse_map("hits", 0),
        lambda: opened.initial_value(".rodata"),
        lambda: opened.set_autoload("add", True),
    ):
        refuse(call, ClosedError)


@needs_kernel
def test_an_object_leaves_no_descriptor_behind(object_path: Path) -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    with BpfObject.open(object_path) as programs:
        programs.load()
        programs.attach("switched")
        programs.attach_to("sample", perf_event=PerfEvent(frequency=1))
        programs.attach_to("pass", interface="lo")
    assert set(os.listdir("/proc/self/fd")) == before


# --- an arena --------------------------------------------------------------------------

ARENA_PROGRAM = """
#define __arena __attribute__((address_space(1)))
struct {
    int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[4];
} arena SEC(".maps");
struct note { __u64 self, text; };
SEC("syscall") int write_note(__u64 *text)
{
    asm volatile("" :: "r"(&arena));
    struct note __arena *note = (struct note __arena *)64;
    note->text = *text;
    note->self += 1;
    return 0;
}
"""


@contextlib.contextmanager
def mapped_arena(pages: int) -> Iterator[tuple[KernelMap, ctypes.Array[ctypes.c_uint64]]]:
    """An arena map and its memory, at an address of this test's choice."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    base, size = 0x1234 << 32, pages * 4096
    read_write, shared, fixed_noreplace = 3, 1, 0x100000
    with create_map(ARENA, 0, 0, pages, MMAPABLE, name="other_name", map_extra=base) as arena:
        address = libc.mmap(base, size, read_write, shared | fixed_noreplace, arena.fd, 0)
        assert address == base, os.strerror(ctypes.get_errno())
        try:
            yield arena, (ctypes.c_uint64 * (size // 8)).from_address(base)
        finally:
            libc.munmap(base, size)


@needs_kernel
def test_a_program_writes_to_an_arena_that_this_process_has_mapped(tmp_path: Path) -> None:
    path = build(tmp_path, ARENA_PROGRAM)
    with mapped_arena(4) as (arena, words), BpfObject.open(path) as programs:
        assert programs.maps()["arena"].type == "arena"
        programs.reuse_map("arena", arena.fd)
        programs.load()
        assert programs.maps()["arena"].map_extra == 0x1234 << 32
        words[8] = 41
        write_note = programs.runner("write_note", 8)
        write_note(struct.pack("=Q", 0xFEED))
        assert (words[8], words[9]) == (42, 0xFEED)


# --- kernel maps ------------------------------------------------------------------------


@needs_kernel
def test_a_kernel_map_stores_finds_walks_and_removes() -> None:
    with create_map(HASH, 4, 8, 10) as table:
        for number in range(3):
            table.update(struct.pack("=I", number), struct.pack("=Q", number * 10))
        assert table.lookup(struct.pack("=I", 2)) == struct.pack("=Q", 20)
        assert table.lookup(struct.pack("=I", 9)) is None
        keys, key = set(), table.next_key()
        while key is not None:
            keys.add(struct.unpack("=I", key)[0])
            key = table.next_key(key)
        assert keys == {0, 1, 2}
        assert table.delete(struct.pack("=I", 1))
        assert not table.delete(struct.pack("=I", 1))


@needs_kernel
def test_a_full_kernel_map_is_told_apart_from_other_failures() -> None:
    with create_map(HASH, 4, 8, 1) as table:
        table.update(bytes(4), bytes(8))
        refuse(lambda: table.update(b"next", bytes(8)), CapacityError)
        error = refuse(lambda: table.update(bytes(4), bytes(8), flags=1), OpenError)
        assert error.errno == errno.EEXIST


@needs_kernel
def test_keys_and_values_of_another_size_never_reach_the_kernel() -> None:
    with create_map(HASH, 4, 8, 1) as table:
        for call in (
            lambda: table.lookup(b"123"),
            lambda: table.update(b"12345", bytes(8)),
            lambda: table.update(b"1234", bytes(7)),
            lambda: table.delete(b""),
            lambda: table.next_key(b"1"),
        ):
            refuse(call, SchemaError)


@needs_kernel
def test_the_value_of_a_per_cpu_map_holds_every_cpu() -> None:
    with create_map(PERCPU_ARRAY, 4, 4, 1) as counters:
        cpus = library.library().libbpf.libbpf_num_possible_cpus()
        assert counters.value_size == 8 * cpus
        counters.update(bytes(4), b"\1\0\0\0\0\0\0\0" * cpus)
        assert counters.lookup(bytes(4)) == b"\1\0\0\0\0\0\0\0" * cpus


@needs_kernel
def test_a_closed_kernel_map_is_refused() -> None:
    table = create_map(HASH, 4, 8, 1)
    table.close()
    table.close()
    refuse(lambda: table.lookup(bytes(4)), ClosedError)
    refuse(table.fileno, ClosedError)


@needs_kernel
@pytest.mark.parametrize(
    "arguments",
    [(9999, 4, 4, 1), (HASH, 4, 4, 0), (HASH, -1, 4, 1), (HASH, 4, 1 << 40, 1), ("hash", 4, 4, 1)],
)
def test_a_kernel_map_that_cannot_be_is_refused(arguments: tuple[int, int, int, int]) -> None:
    refuse(lambda: create_map(*arguments), OpenError)


@needs_kernel
def test_the_kernel_tells_what_a_map_is() -> None:
    with create_map(RINGBUF, 0, 0, 4096, name="bell") as bell:
        info = map_info(bell.fd)
    assert (info.name, info.type, info.max_entries) == ("bell", "ringbuf", 4096)
    assert info.id > 0


@needs_kernel
def test_a_descriptor_that_is_no_map_is_refused(loaded: BpfObject) -> None:
    for fd in (loaded.programs()["add"].fd, 0, -1, 99_999):
        refuse(lambda fd=fd: map_info(fd), OpenError)  # type: ignore[misc]
