"""Writes vmlinux.h: the types of the running kernel as one C header.

A BPF program that includes it can read the kernel's structures with CO-RE: field
offsets are corrected when the program is loaded on another kernel.
"""

from __future__ import annotations

import errno as _errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TextIO

from arenads import capabilities
from arenads.btf import KERNEL_BTF, Btf
from arenads.errors import ArenadsError, ObjectError
from arenads.libbpf.library import collect_messages, explain_errno, library, options, plain_errno
from arenads.libbpf.refusals import quote
from arenads.replacing import replacing

__all__ = ["write_vmlinux_header"]

StrPath = str | os.PathLike[str]
DumpTypes = Callable[[bytes, int], None]

_LARGEST_BTF: Final = 64 << 20
_LARGEST_HEADER: Final = 64 << 20
_CPU_SECONDS: Final = 10

# The kernel's types are what they are: as a system header they cause no warnings.
_BEGIN: Final = """\
/* The types of the kernel {release}, written by arenads. */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#pragma GCC system_header

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
_END: Final = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""


def write_vmlinux_header(
    output: TextIO | StrPath,
    *,
    btf_path: StrPath = KERNEL_BTF,
) -> None:
    """Write the kernel's types as a C header.

    Parameters
    ----------
    output : path or text stream
        A file appears under its path only when it is complete; a failure leaves what
        was there before. A text stream is written to and stays open.
    btf_path : path
        The BTF to read: raw, as the kernel offers its own, not in an ELF file.
        Another kernel's is converted in a process of its own, under limits, because
        libbpf does not survive every file that claims to be BTF.

    Raises
    ------
    ObjectError
        The BTF is absent or damaged.
    LibbpfMissingError
        libbpf is not installed.
    ArenadsError
        The output cannot be written; `errno` says why.

    Examples
    --------
    In a shell, `python -m arenads vmlinux > vmlinux.h`; in Python::

        write_vmlinux_header("vmlinux.h")
    """
    library()  # before anything is written
    btf = _read_btf(btf_path)
    dump_types = _dump_types if _is_of_this_kernel(btf_path) else _dump_types_apart
    try:
        if isinstance(output, str | os.PathLike):
            _write_path(Path(os.fsdecode(output)), btf, dump_types)
        else:
            with tempfile.TemporaryFile(buffering=0) as file:
                _dump(btf, file, dump_types)
                file.seek(0)
                output.write(file.read().decode(errors="replace"))
    except (OSError, ValueError) as error:
        name = "standard output" if output is sys.stdout else output
        raise ArenadsError(
            f"{name}: the header cannot be written: {getattr(error, 'strerror', None) or error}",
            errno=getattr(error, "errno", None) or _errno.EINVAL,
        ) from error


def _read_btf(path: StrPath) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            data = file.read(_LARGEST_BTF + 1) if regular else b""
    except (OSError, TypeError, ValueError) as error:
        raise ObjectError(
            f"{path}: expected the types of a kernel (BTF), found:"
            f" {getattr(error, 'strerror', None) or error}. A kernel built with"
            " CONFIG_DEBUG_INFO_BTF=y has them.",
            errno=getattr(error, "errno", None),
            path=str(path),
        ) from None
    if not regular or len(data) > _LARGEST_BTF:
        found = f"more than {_LARGEST_BTF >> 20} MiB" if regular else "something that is no file"
        raise ObjectError(f"{path}: expected the types of a kernel, found {found}", path=str(path))
    Btf.from_bytes(data, source=os.fsdecode(path))  # says better than libbpf what is wrong
    return data


def _is_of_this_kernel(path: StrPath) -> bool:
    real = os.path.realpath(os.fsdecode(path))
    return real.startswith("/sys/kernel/btf/") and capabilities.is_mounted("sysfs", "/sys")


def _write_path(path: Path, btf: bytes, dump_types: DumpTypes) -> None:
    if path.exists() and not path.is_file():  # /dev/stdout, a FIFO
        with open(path, "wb", buffering=0) as file:
            _dump(btf, file, dump_types)
        return
    with replacing(str(path)) as place, open(place, "wb", buffering=0) as file:
        _dump(btf, file, dump_types)


def _dump(data: bytes, file: IO[bytes], dump_types: DumpTypes) -> None:
    """Write the header to an unbuffered file that has a descriptor."""
    release = os.uname().release.replace("*/", "")
    file.write(_BEGIN.format(release=release).encode())
    dump_types(data, file.fileno())
    file.write(_END.encode())


def _dump_types(data: bytes, fd: int) -> None:
    ffi, libbpf, libc, _ = library()
    # vfprintf is what libbpf asks for, a function of (context, format, va_list): with a stream
    # as the context, a hundred thousand types are written without a step through Python.
    vfprintf = ffi.cast("void (*)(void *, const char *, void *)", ffi.addressof(libc, "vfprintf"))
    own_fd = os.dup(fd)
    stream = libc.fdopen(own_fd, b"w")
    if not stream:
        os.close(own_fd)
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    btf: Any = ffi.NULL
    dump: Any = ffi.NULL
    try:
        with collect_messages() as messages:
            btf = libbpf.btf__new(data, len(data))
            _check(bool(btf), ffi.errno, messages)
            dump = libbpf.btf_dump__new(btf, vfprintf, stream, options("btf_dump_opts"))
            _check(bool(dump), ffi.errno, messages)
            for number in range(1, libbpf.btf__type_cnt(btf)):
                result = libbpf.btf_dump__dump_type(dump, number)
                _check(result == 0, result, messages)
        failed = libc.ferror(stream)
    finally:
        if dump:
            libbpf.btf_dump__free(dump)
        if btf:
            libbpf.btf__free(btf)
        closed = libc.fclose(stream)
        number = ffi.errno
    if failed or closed:
        raise OSError(number or _errno.EIO, os.strerror(number or _errno.EIO))


def _check(fine: bool, number: int, messages: list[str]) -> None:
    if not fine:
        raise ObjectError(
            f"libbpf cannot write these types as C: {explain_errno(number)}."
            f"{quote('libbpf said', messages)}",
            errno=plain_errno(number),
        )


def _dump_types_apart(data: bytes, fd: int) -> None:
    """Do as `_dump_types` does, in another process, which may crash or never end."""
    code = "import sys; sys.path[:0] = sys.argv[1:]; import arenads.vmlinux as v; v._run_apart()"
    folder = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        input=data,
        stdout=fd,
        stderr=subprocess.PIPE,
        check=False,
    )
    if not done.returncode:
        return
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode < 0:
        said = f"libbpf did not survive them ({signal.Signals(-done.returncode).name})"
    raise ObjectError(f"these types cannot be written as C: {said}")


def _run_apart() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_HEADER, _LARGEST_HEADER))
    try:
        _dump_types(sys.stdin.buffer.read(), sys.stdout.fileno())
    except (ArenadsError, OSError) as error:
        sys.exit(str(error))
