"""The shared library: its declarations, opening it, its messages and error numbers."""

from __future__ import annotations

import errno as _errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from arenads.errors import LibbpfMissingError

__all__ = [
    "ENOTSUPP",
    "Library",
    "collect_messages",
    "explain_errno",
    "library",
    "options",
    "text",
    "version",
]

ENOTSUPP = 524
"""A number internal to the kernel that reaches user space all the same."""

_NAME = "libbpf.so.1"
_FIRST_OWN_ERRNO = 4000  # enum libbpf_errno
_INFO = 1  # enum libbpf_print_level: warnings are below

# `va_list` is declared as `void *`. On every 64-bit Linux a va_list argument is one
# pointer: it is an array (x86-64, s390x), a struct above 16 bytes and so passed by
# reference (arm64), or a pointer itself (riscv64, ppc64, loongarch64).
_DECLARATIONS = """
typedef int (*libbpf_print_fn_t)(int level, const char *format, void *arguments);
libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t function);
uint32_t libbpf_major_version(void);
uint32_t libbpf_minor_version(void);
int libbpf_strerror(int error, char *buffer, size_t size);
const char *libbpf_bpf_map_type_str(int type);
const char *libbpf_bpf_prog_type_str(int type);
int libbpf_num_possible_cpus(void);

struct bpf_object;
struct bpf_program;
struct bpf_map;
struct bpf_link;
struct btf;

struct bpf_object_open_opts {
    size_t sz;
    const char *object_name;
    bool relaxed_maps;
    const char *pin_root_path;
    uint32_t reserved;
    const char *kconfig;
    const char *btf_custom_path;
    char *kernel_log_buf;
    size_t kernel_log_size;
    uint32_t kernel_log_level;
};
struct bpf_object *bpf_object__open_mem(const char *bytes, size_t size,
                                        const struct bpf_object_open_opts *options);
int bpf_object__load(struct bpf_object *object);
void bpf_object__close(struct bpf_object *object);

struct bpf_program *bpf_object__next_program(const struct bpf_object *object,
                                             struct bpf_program *previous);
const char *bpf_program__name(const struct bpf_program *program);
const char *bpf_program__section_name(const struct bpf_program *program);
bool bpf_program__autoload(const struct bpf_program *program);
int bpf_program__set_autoload(struct bpf_program *program, bool autoload);
int bpf_program__type(const struct bpf_program *program);
int bpf_program__set_type(struct bpf_program *program, int type);
int bpf_program__fd(const struct bpf_program *program);

struct bpf_map *bpf_object__next_map(const struct bpf_object *object,
                                     const struct bpf_map *previous);
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__type(const struct bpf_map *map);
uint32_t bpf_map__key_size(const struct bpf_map *map);
uint32_t bpf_map__value_size(const struct bpf_map *map);
uint32_t bpf_map__max_entries(const struct bpf_map *map);
uint32_t bpf_map__map_flags(const struct bpf_map *map);
uint64_t bpf_map__map_extra(const struct bpf_map *map);
bool bpf_map__is_internal(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
const char *bpf_map__initial_value(struct bpf_map *map, size_t *size);
int bpf_map__set_initial_value(struct bpf_map *map, const char *bytes, size_t size);

struct bpf_uprobe_opts {
    size_t sz;
    size_t ref_ctr_offset;
    uint64_t bpf_cookie;
    bool retprobe;
    const char *func_name;
};
struct bpf_link *bpf_program__attach(const struct bpf_program *program);
struct bpf_link *bpf_program__attach_perf_event(const struct bpf_program *program, int fd);
struct bpf_link *bpf_program__attach_uprobe_opts(const struct bpf_program *program, int process,
                                                 const char *binary, size_t offset,
                                                 const struct bpf_uprobe_opts *options);
struct bpf_link *bpf_program__attach_tracepoint(const struct bpf_program *program,
                                                const char *category, const char *name);
struct bpf_link *bpf_program__attach_raw_tracepoint(const struct bpf_program *program,
                                                    const char *name);
struct bpf_link *bpf_program__attach_cgroup(const struct bpf_program *program, int fd);
struct bpf_link *bpf_program__attach_netns(const struct bpf_program *program, int fd);
int bpf_link__fd(const struct bpf_link *link);
int bpf_link__destroy(struct bpf_link *link);
int bpf_iter_create(int link_fd);

struct bpf_link_create_opts {
    size_t sz;
    uint32_t flags;
    void *iter_info;
    uint32_t iter_info_len;
    uint32_t target_btf_id;
    struct {
        uint32_t flags;
        uint32_t cnt;
        const char **syms;
        const unsigned long *addrs;
        const uint64_t *cookies;
    } kprobe_multi;
};
int bpf_link_create(int program_fd, int target, int attach_type,
                    const struct bpf_link_create_opts *options);

struct bpf_tc_hook {
    size_t sz;
    int ifindex;
    int attach_point;
    uint32_t parent;
};
struct bpf_tc_opts {
    size_t sz;
    int prog_fd;
    uint32_t flags;
    uint32_t prog_id;
    uint32_t handle;
    uint32_t priority;
};
int bpf_tc_hook_create(struct bpf_tc_hook *hook);
int bpf_tc_attach(const struct bpf_tc_hook *hook, struct bpf_tc_opts *options);
int bpf_tc_detach(const struct bpf_tc_hook *hook, const struct bpf_tc_opts *options);

struct bpf_test_run_opts {
    size_t sz;
    const char *data_in;
    char *data_out;
    uint32_t data_size_in;
    uint32_t data_size_out;
    const char *ctx_in;
    char *ctx_out;
    uint32_t ctx_size_in;
    uint32_t ctx_size_out;
    int32_t retval;
    int repeat;
    uint32_t duration;
    uint32_t flags;
    uint32_t cpu;
    uint32_t batch_size;
};
int bpf_prog_test_run_opts(int program_fd, struct bpf_test_run_opts *options);

struct bpf_map_create_opts {
    size_t sz;
    uint32_t btf_fd;
    uint32_t btf_key_type_id;
    uint32_t btf_value_type_id;
    uint32_t btf_vmlinux_value_type_id;
    uint32_t inner_map_fd;
    uint32_t map_flags;
    uint64_t map_extra;
    uint32_t numa_node;
    uint32_t map_ifindex;
};
struct bpf_map_info {
    uint32_t type;
    uint32_t id;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t map_flags;
    char name[16];
    uint32_t ifindex;
    uint32_t btf_vmlinux_value_type_id;
    uint64_t netns_dev;
    uint64_t netns_ino;
    uint32_t btf_id;
    uint32_t btf_key_type_id;
    uint32_t btf_value_type_id;
    uint32_t reserved;
    uint64_t map_extra;
};
int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size,
                   uint32_t max_entries, const struct bpf_map_create_opts *options);
int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *size);
int bpf_map_lookup_elem(int fd, const char *key, char *value);
int bpf_map_update_elem(int fd, const char *key, const char *value, uint64_t flags);
int bpf_map_delete_elem(int fd, const char *key);
int bpf_map_get_next_key(int fd, const char *key, char *next_key);

struct btf_dump;
struct btf_dump_opts {
    size_t sz;
};
struct btf *btf__new(const char *bytes, uint32_t size);
void btf__free(struct btf *btf);
uint32_t btf__type_cnt(const struct btf *btf);
struct btf_dump *btf_dump__new(const struct btf *btf,
                               void (*print)(void *context, const char *format, void *arguments),
                               void *context, const struct btf_dump_opts *options);
void btf_dump__free(struct btf_dump *dump);
int btf_dump__dump_type(struct btf_dump *dump, uint32_t id);
"""

_C_LIBRARY_DECLARATIONS = """
int vasprintf(char **text, const char *format, void *arguments);
int vfprintf(void *stream, const char *format, void *arguments);
void *fdopen(int fd, const char *mode);
int ferror(void *stream);
int fclose(void *stream);
void free(void *memory);
long syscall(long number, ...);
"""


class Library(NamedTuple):
    """cffi's handles of libbpf and of the C library."""

    ffi: Any
    libbpf: Any
    libc: Any
    message_callback: Any
    """Called by libbpf as long as the process lives, so it has to stay."""


class _Collector(threading.local):
    """Where the messages of libbpf go while this thread is in one of our calls."""

    lines: list[str] | None = None


_collector = _Collector()
_opening = threading.Lock()
_library: Library | None = None


def library() -> Library:
    """Return libbpf and the C library, opened at the first call.

    Raises
    ------
    LibbpfMissingError
        libbpf is not installed, or is older than 1.0.
    """
    global _library
    if _library is None:
        with _opening:
            if _library is None:
                _library = _open()
    return _library


def _open() -> Library:
    try:
        import cffi
    except ImportError as error:
        raise LibbpfMissingError(
            f"libbpf is used through the Python package cffi, which cannot be imported: {error}."
            " Install it with: pip install cffi",
            library=_NAME,
        ) from error
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS + _C_LIBRARY_DECLARATIONS)
    try:
        libbpf = ffi.dlopen(_NAME)
    except OSError as error:
        raise LibbpfMissingError(
            f"{_NAME} (libbpf 1.0 or later) cannot be opened: {error}. Install it with one of:"
            " apt install libbpf1 (Debian, Ubuntu); dnf install libbpf (Fedora);"
            " pacman -S libbpf (Arch); apk add libbpf (Alpine).",
            library=_NAME,
        ) from error
    libc = ffi.dlopen(None)
    return Library(ffi, libbpf, libc, _redirect_messages(ffi, libbpf, libc))


def _redirect_messages(ffi: Any, libbpf: Any, libc: Any) -> Any:
    """Have libbpf hand its messages to `_collector`; return what must stay alive."""
    previous = ffi.NULL

    def take(level: int, form: Any, arguments: Any) -> int:
        lines = _collector.lines
        if lines is None:  # another user of libbpf in this process
            return int(previous(level, form, arguments)) if previous else 0
        if level < _INFO:
            message = ffi.new("char **")
            # One pass: a va_list may not be read twice.
            if libc.vasprintf(message, form, arguments) >= 0:
                line = ffi.string(message[0]).decode(errors="replace")
                libc.free(message[0])
                lines.append(line.removeprefix("libbpf: ").rstrip("\n"))
        return 0

    try:
        callback = ffi.callback("libbpf_print_fn_t", take, error=0)
    except MemoryError:  # a system that forbids generated code: no messages, but no output either
        libbpf.libbpf_set_print(ffi.NULL)
        return None
    previous = libbpf.libbpf_set_print(callback)
    return callback


@contextmanager
def collect_messages() -> Iterator[list[str]]:
    """Give the list that libbpf's messages go to during the `with` block."""
    outer, _collector.lines = _collector.lines, []
    try:
        yield _collector.lines
    finally:
        _collector.lines = outer


def version() -> tuple[int, int]:
    """Return the major and minor version of the libbpf that is installed.

    Raises
    ------
    LibbpfMissingError
        libbpf is not installed, or is older than 1.0.
    """
    libbpf = library().libbpf
    return int(libbpf.libbpf_major_version()), int(libbpf.libbpf_minor_version())


def text(pointer: Any) -> str:
    """Return a C string as text, empty for NULL."""
    return library().ffi.string(pointer).decode(errors="replace") if pointer else ""


def options(kind: str, **fields: object) -> Any:
    """Return a zeroed `struct <kind>` whose `sz` tells libbpf which version of it this is."""
    ffi = library().ffi
    made = ffi.new(f"struct {kind} *")
    made.sz = ffi.sizeof(f"struct {kind}")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def plain_errno(number: int) -> int:
    """Return the errno of a result, EINVAL for those that only libbpf knows."""
    number = abs(number)
    return number if number < _FIRST_OWN_ERRNO else _errno.EINVAL


def explain_errno(number: int) -> str:
    """Return ``"EPERM, Operation not permitted"`` and the like, for libbpf's own numbers too."""
    number = abs(number)
    if number >= _FIRST_OWN_ERRNO:
        buffer = library().ffi.new("char[256]")
        library().libbpf.libbpf_strerror(number, buffer, 256)
        return f"libbpf error {number}, {text(buffer)}"
    if number == ENOTSUPP:
        return "ENOTSUPP, Operation not supported by this kernel"
    return f"{_errno.errorcode.get(number, f'errno {number}')}, {os.strerror(number)}"
