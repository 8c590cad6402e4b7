"""The peer of Python's cells: kernel maps through libbpf, as quick as cffi makes them.

Keys are integers of 64 bits (arrays: of 32). Buffers are allocated once. Values of 8 bytes are
integers, read where the kernel puts them; others are decoded by the same codec as ours.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import cffi

from arenads.codec import Codec
from arenads.errors import ArenadsError

__all__ = ["PythonMap"]

BATCH = 4096  # entries in one system call

_DECLARATIONS = """
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
int bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, uint32_t *count,
                         const void *options);
int bpf_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count,
                         const void *options);
int bpf_map_delete_batch(int fd, const void *keys, uint32_t *count, const void *options);
"""


class PythonMap:
    """One kernel map. `value_type` is as for `Arena.hashmap`; None: an integer of 8 bytes."""

    def __init__(self, fd: int, value_size: int, value_type: Any = None, key: str = "uint64_t"):
        self._ffi = ffi = cffi.FFI()
        ffi.cdef(_DECLARATIONS)
        self._libbpf = ffi.dlopen("libbpf.so.1")
        self._fd = fd
        self._key = ffi.new(f"{key} *")
        self._next_key = ffi.new(f"{key} *")
        self._key_array = f"{key}[]"
        self._value_size = value_size
        self._codec: Codec[Any] | None = None if value_type is None else Codec(value_type)
        self._value = ffi.new("uint64_t[]", value_size // 8)
        self._view = ffi.buffer(self._value, value_size)

    def getter(self) -> Callable[[int], Any]:
        """Return a function that looks a key up."""
        lookup, fd, key, value = self._libbpf.bpf_map_lookup_elem, self._fd, self._key, self._value
        codec, view = self._codec, self._view

        def get(which: int) -> Any:
            key[0] = which
            if lookup(fd, key, value):
                raise KeyError(which)
            return value[0] if unpack is None else unpack(view)

        unpack = None if codec is None else codec.unpack
        return get

    def putter(self) -> Callable[[int, Any], None]:
        """Return a function that stores a value."""
        update, fd, key, value = self._libbpf.bpf_map_update_elem, self._fd, self._key, self._value
        pack = None if self._codec is None else self._codec.pack

        def put(which: int, what: Any) -> None:
            key[0] = which
            if pack is None:
                value[0] = what
                code = update(fd, key, value, 0)
            else:
                code = update(fd, key, pack(what), 0)
            if code:
                raise ArenadsError("the kernel refused to store", errno=-code)

        return put

    def batches(self) -> tuple[Callable[[Any, Any], None], Callable[[Any], None]]:
        """Return functions that store and delete many, of NumPy arrays, by one system call."""
        ffi, fd, library = self._ffi, self._fd, self._libbpf
        count = ffi.new("uint32_t *")

        def update(keys: Any, values: Any) -> None:
            count[0] = len(keys)
            code = library.bpf_map_update_batch(
                fd, ffi.from_buffer(keys), ffi.from_buffer(values), count, ffi.NULL
            )
            if code:
                raise ArenadsError("the kernel refused a batch", errno=-code)

        def delete(keys: Any) -> None:
            count[0] = len(keys)
            code = library.bpf_map_delete_batch(fd, ffi.from_buffer(keys), count, ffi.NULL)
            if code:
                raise ArenadsError("the kernel refused a batch", errno=-code)

        return update, delete

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values, by two system calls each."""
        step, fd, last, following = (
            self._libbpf.bpf_map_get_next_key,
            self._fd,
            self._ffi.NULL,
            self._next_key,
        )
        get, key = self.getter(), self._ffi.new("uint64_t *")
        while not step(fd, last, following):
            which = following[0]
            yield which, get(which)
            key[0] = which
            last = key

    def batched_items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values, by a system call for each batch."""
        ffi, fd = self._ffi, self._fd
        size = self._value_size
        keys = ffi.new(self._key_array, BATCH)
        values = ffi.new("uint64_t[]", BATCH * size // 8)
        view = ffi.buffer(values)
        count = ffi.new("uint32_t *")
        place = ffi.new("uint32_t *")
        since = ffi.NULL
        code = 0
        while not code:
            count[0] = BATCH
            code = self._libbpf.bpf_map_lookup_batch(
                fd, since, place, keys, values, count, ffi.NULL
            )
            if code not in (0, -errno.ENOENT):
                raise ArenadsError("the kernel refused a batch", errno=-code)
            since = place
            found = count[0]
            those = ffi.unpack(keys, found)
            if self._codec is None:
                yield from zip(those, ffi.unpack(values, found), strict=True)
            else:
                decoded = self._codec.unpack_many(view, size, 0, found)
                yield from zip(those, decoded, strict=True)

    def snapshot(self, entries: int) -> tuple[Any, Any, int]:
        """Copy all keys and values into two arrays, by two system calls each; no objects."""
        ffi, fd, width = self._ffi, self._fd, self._value_size // 8
        step, lookup = self._libbpf.bpf_map_get_next_key, self._libbpf.bpf_map_lookup_elem
        keys = ffi.new(self._key_array, entries + 1)
        values = ffi.new("uint64_t[]", entries * width)
        last, count = ffi.NULL, 0
        while not step(fd, last, keys + count):
            last = keys + count
            if lookup(fd, last, values + count * width):
                raise ArenadsError("a key went away")
            count += 1
        return keys, values, count

    def batched_snapshot(self, entries: int) -> tuple[Any, Any, int]:
        """Copy all keys and values into two arrays, by a system call for each batch; no objects."""
        ffi, fd, width = self._ffi, self._fd, self._value_size // 8
        batch = self._libbpf.bpf_map_lookup_batch
        keys = ffi.new(self._key_array, entries + BATCH)
        values = ffi.new("uint64_t[]", (entries + BATCH) * width)
        found, place = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        since = ffi.NULL
        code = count = 0
        while not code:
            found[0] = BATCH
            code = batch(fd, since, place, keys + count, values + count * width, found, ffi.NULL)
            if code not in (0, -errno.ENOENT):
                raise ArenadsError("the kernel refused a batch", errno=-code)
            since = place
            count += found[0]
        return keys, values, count
