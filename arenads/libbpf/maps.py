"""Kernel maps by descriptor: one system call per operation."""

from __future__ import annotations

import errno as _errno
import os
from dataclasses import dataclass
from typing import NoReturn, Self

from arenads.errors import CapacityError, ClosedError, OpenError, SchemaError
from arenads.libbpf.library import collect_messages, explain_errno, library, options, text
from arenads.libbpf.refusals import needed_capabilities, refuse_permission

__all__ = ["ARENA", "KernelMap", "MapInfo", "create_map", "map_info", "map_type_name"]

ARENA = 33
"""BPF_MAP_TYPE_ARENA."""

# libbpf 1.1 has no names for these.
_NEWER_TYPES = {32: "cgrp_storage", ARENA: "arena"}

_PER_CPU_TYPES = frozenset(
    {"percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"}
)


@dataclass(frozen=True, slots=True)
class MapInfo:
    """One map. Sizes are in bytes; `fd` is -1 and `id` 0 where there is none yet."""

    name: str
    type: str
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    map_extra: int
    fd: int = -1
    id: int = 0
    internal: bool = False
    """True for the maps that libbpf makes of the sections of global variables."""


def map_type_name(number: int) -> str:
    """Return libbpf's name of a map type, ``"type 99"`` for one that has none.

    >>> map_type_name(1), map_type_name(33)
    ('hash', 'arena')
    """
    known = _NEWER_TYPES.get(number) or text(library().libbpf.libbpf_bpf_map_type_str(number))
    return known or f"type {number}"


def map_info(fd: int) -> MapInfo:
    """Return what the kernel knows about an open map.

    Raises
    ------
    OpenError
        The descriptor is not an open BPF map.
    """
    ffi, libbpf, *_ = library()
    info = ffi.new("struct bpf_map_info *")
    size = ffi.new("uint32_t *", ffi.sizeof("struct bpf_map_info"))
    # Programs and links answer the same question, with other fields.
    number = 0 if _is_map(fd) else _errno.EBADF
    number = number or -libbpf.bpf_obj_get_info_by_fd(fd, info, size)
    if number:
        raise OpenError(
            f"expected the descriptor of an open BPF map, found {fd!r}: {explain_errno(number)}.",
            errno=number,
        )
    return MapInfo(
        name=text(info.name),
        type=map_type_name(info.type),
        key_size=info.key_size,
        value_size=info.value_size,
        max_entries=info.max_entries,
        map_flags=info.map_flags,
        map_extra=info.map_extra,
        fd=fd,
        id=info.id,
    )


def _is_map(fd: int) -> bool:
    try:
        return isinstance(fd, int) and os.readlink(f"/proc/self/fd/{fd}").endswith("bpf-map")
    except OSError:
        return False


def create_map(
    kind: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int = 0,
    *,
    name: str = "arenads",
    map_extra: int = 0,
) -> KernelMap:
    """Create a kernel map of BPF map type `kind` (1 is a hash, 2 an array, 27 a ring buffer).

    Sizes are in bytes; the kernel keeps 15 characters of the name.

    Raises
    ------
    PrivilegeError
        A capability is missing.
    OpenError
        The kernel refused; `errno` says why.
    """
    libbpf = library().libbpf
    what = (
        f"a map {name!r} of type {kind!r} with {max_entries!r} entries, keys of {key_size!r} and"
        f" values of {value_size!r} bytes could not be created"
    )
    try:
        label = name.encode()[:15]
        more = options("bpf_map_create_opts", map_flags=flags, map_extra=map_extra)
        with collect_messages():
            fd = libbpf.bpf_map_create(kind, label, key_size, value_size, max_entries, more)
    except (AttributeError, OverflowError, TypeError) as error:
        raise OpenError(f"{what}: {error}") from None
    if fd == -_errno.EPERM:
        raise refuse_permission(what, _errno.EPERM, needed_capabilities("", kind == ARENA))
    if fd < 0:
        raise OpenError(f"{what}: {explain_errno(fd)}.", errno=-fd)
    return KernelMap(fd)


class KernelMap:
    """An open kernel map.

    It owns the descriptor `fd`. Keys and values are bytes of exactly `key_size` and
    `value_size`; the value of a per-CPU map holds those of all CPUs, each rounded up
    to 8 bytes. A context manager, for one thread at a time.
    """

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of a map."""
        self.fd = -1
        self.info = info = map_info(fd)
        ffi, libbpf, *_ = library()
        self.key_size = info.key_size
        self.value_size = info.value_size
        if info.type in _PER_CPU_TYPES:
            self.value_size = -(-info.value_size // 8) * 8 * libbpf.libbpf_num_possible_cpus()
        self._lookup = libbpf.bpf_map_lookup_elem
        self._key = ffi.new("char[]", max(self.key_size, 1))
        self._value = ffi.new("char[]", max(self.value_size, 1))
        self._value_bytes = ffi.buffer(self._value, self.value_size)
        self.fd = fd

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if it is absent."""
        if len(key) != self.key_size:
            self._refuse_size("key", key, self.key_size)
        number = self._lookup(self.fd, key, self._value)
        if number:
            self._expect_absent(number, "looked up")
            return None
        return self._value_bytes[:]  # type: ignore[no-any-return]

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Store a value; with `flags` 1 only if the key is absent, 2 only if it is there.

        Raises
        ------
        CapacityError
            The map is full.
        OpenError
            The kernel refused; `errno` says why.
        """
        if len(key) != self.key_size:
            self._refuse_size("key", key, self.key_size)
        if len(value) != self.value_size:
            self._refuse_size("value", value, self.value_size)
        number = library().libbpf.bpf_map_update_elem(self.fd, key, value, flags)
        if number == -_errno.E2BIG:
            raise CapacityError(
                f"map {self.info.name!r} is full: it holds {self.info.max_entries} entries"
            )
        if number:
            self._fail(number, "updated")

    def delete(self, key: bytes) -> bool:
        """Remove `key` and return True; return False if it was absent."""
        if len(key) != self.key_size:
            self._refuse_size("key", key, self.key_size)
        number = library().libbpf.bpf_map_delete_elem(self.fd, key)
        if number:
            self._expect_absent(number, "changed")
        return not number

    def next_key(self, key: bytes | None = None) -> bytes | None:
        """Return the key after `key`, the first one for None; None after the last."""
        if key is not None and len(key) != self.key_size:
            self._refuse_size("key", key, self.key_size)
        ffi, libbpf, *_ = library()
        after = ffi.NULL if key is None else key
        number = libbpf.bpf_map_get_next_key(self.fd, after, self._key)
        if number:
            self._expect_absent(number, "walked")
            return None
        return bytes(ffi.buffer(self._key, self.key_size))

    def _expect_absent(self, number: int, what: str) -> None:
        if number != -_errno.ENOENT:
            self._fail(number, what)

    def _refuse_size(self, what: str, found: bytes, expected: int) -> NoReturn:
        raise SchemaError(
            f"expected a {what} of {expected} bytes for map {self.info.name!r},"
            f" found {len(found)} bytes"
        )

    def _fail(self, number: int, what: str) -> NoReturn:
        self.fileno()
        raise OpenError(
            f"map {self.info.name!r} (type {self.info.type}) could not be {what}:"
            f" {explain_errno(number)}.",
            errno=-number,
        )

    def fileno(self) -> int:
        """Return the descriptor.

        Raises
        ------
        ClosedError
            The map was closed.
        """
        if self.fd < 0:
            raise ClosedError(f"map {self.info.name!r} is closed")
        return self.fd

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KernelMap {self.info.name!r}, {self.info.type}, fd {self.fd}>"
