"""The peer of Python's cells: kernel maps by bpf(), as quick as cffi makes it.

syscalls.c is compiled into a module as our own extension is. Each operation is one call into it,
and many are too; integers are given and returned as they are. What is no integer of 64 bits (of 32
for the keys of arrays) is packed and unpacked by the codec that ours has. Memory that a loop fills
is not zeroed before.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator
from typing import Any

from arenads.annotations import u64
from arenads.bench.workshop import Workshop
from arenads.codec import Codec
from arenads.errors import ArenadsError

__all__ = ["ANY", "EXISTING", "NEW", "PythonMap"]

ANY, NEW, EXISTING = 0, 1, 2
"""What an update does: whatever the key is, only if it is absent, only if it is there."""

BATCH = 4096  # entries in one step of a walk

_NO_NUMBER = (1 << 64) - 1  # as in syscalls.c

_DECLARATIONS = """
_Bool number_contains(int fd, uint64_t key);
uint64_t number_get(int fd, uint64_t key);
int number_load(int fd, uint64_t key, void *value);
int number_put(int fd, uint64_t key, uint64_t value, uint64_t mode);
int number_store(int fd, uint64_t key, const char *value, uint64_t mode);
int number_delete(int fd, uint64_t key);
uint64_t number_add(int fd, uint64_t key, uint64_t amount);

_Bool bytes_contains(int fd, const char *key);
uint64_t bytes_get(int fd, const char *key);
int bytes_load(int fd, const char *key, void *value);
int bytes_put(int fd, const char *key, uint64_t value, uint64_t mode);
int bytes_store(int fd, const char *key, const char *value, uint64_t mode);
int bytes_delete(int fd, const char *key);
uint64_t bytes_add(int fd, const char *key, uint64_t amount);

uint32_t get_each(int fd, const char *keys, uint32_t key_size, char *values, uint32_t value_size,
                  uint32_t count);
int update_batch(int fd, const char *keys, const char *values, uint32_t count);
int delete_batch(int fd, const char *keys, uint32_t count);
int walk_by_batch(int fd, char *place, int begun, char *keys, char *values, uint32_t key_size,
                  uint32_t value_size, uint32_t *count);
int walk_by_keys(int fd, char *place, int begun, char *keys, char *values, uint32_t key_size,
                 uint32_t value_size, uint32_t *count);
"""


class PythonMap:
    """One kernel map. `key` and `value` are as for `Arena.hashmap`.

    Keys are integers, or `Bytes`. What returns a function returns one to be called often.
    """

    def __init__(self, workshop: Workshop, fd: int, key: Any = u64, value: Any = u64) -> None:
        module = workshop.extension("syscalls", _DECLARATIONS)
        self._ffi, self._code = module.ffi, module.lib
        self._fd = fd
        self._key: Codec[Any] = Codec(key)
        self._value: Codec[Any] = Codec(value)
        self._kind = "number" if self._key.number else "bytes"
        self._new = self._ffi.new_allocator(should_clear_after_alloc=False)

    def _function(self, name: str) -> Any:
        return getattr(self._code, f"{self._kind}_{name}")

    # --- one by one -----------------------------------------------------------------------

    def contains(self) -> Callable[[Any], bool]:
        """Return a function that says whether a key is there."""
        return functools.partial(self._function("contains"), self._fd)

    def getter(self) -> Callable[[Any], Any]:
        """Return a function that looks a key up."""
        fd = self._fd
        if self._value.number:
            look = self._function("get")

            def get(key: Any) -> Any:
                found = look(fd, key)
                if found == _NO_NUMBER:
                    raise KeyError(key)
                return found

            return get
        load, unpack = self._function("load"), self._value.unpack
        memory = self._ffi.new("char[]", self._value.size)
        view = self._ffi.buffer(memory)

        def get_record(key: Any) -> Any:
            if load(fd, key, memory):
                raise KeyError(key)
            return unpack(view)

        return get_record

    def putter(self, mode: int = ANY) -> Callable[[Any, Any], None]:
        """Return a function that stores a value."""
        fd = self._fd
        if self._value.number:
            store = self._function("put")

            def put(key: Any, value: Any) -> None:
                if code := store(fd, key, value, mode):
                    _refuse("to store", code)

            return put
        store, pack = self._function("store"), self._value.pack

        def put_record(key: Any, value: Any) -> None:
            if code := store(fd, key, pack(value), mode):
                _refuse("to store", code)

        return put_record

    def deleter(self) -> Callable[[Any], None]:
        """Return a function that deletes a key which is there."""
        fd, delete = self._fd, self._function("delete")

        def remove(key: Any) -> None:
            if delete(fd, key):
                raise KeyError(key)

        return remove

    def adder(self) -> Callable[[Any, int], int]:
        """Return a function that adds to an integer by two system calls; what it was before."""
        fd, add = self._fd, self._function("add")

        def add_to(key: Any, amount: int) -> int:
            before: int = add(fd, key, amount)
            if before == _NO_NUMBER:
                raise KeyError(key)
            return before

        return add_to

    # --- many -------------------------------------------------------------------------------

    def get_many(self, keys: list[Any]) -> list[Any]:
        """Look up a list of keys that are there, by a system call each and one call into C."""
        count, size = len(keys), self._value.size
        values = self._new("char[]", count * size)
        if self._key.number:
            numbers = self._ffi.new(f"uint{8 * self._key.size}_t[]", keys)
            self._get_each(self._ffi.cast("char *", numbers), values, count)
        else:
            self._get_each(b"".join(keys), values, count)
        return self._value.unpack_many(self._ffi.buffer(values), size, 0, count)

    def get_arrays(self, keys: Any, dtype: Any) -> Any:
        """Look up an array of keys that are there; an array of values, of this dtype."""
        import numpy

        values = numpy.empty(len(keys), dtype)
        self._get_each(self._ffi.from_buffer(keys), self._ffi.from_buffer(values), len(keys))
        return values

    def _get_each(self, keys: Any, values: Any, count: int) -> None:
        sizes = self._key.size, self._value.size
        if self._code.get_each(self._fd, keys, sizes[0], values, sizes[1], count) != count:
            raise KeyError("one of many keys is absent")

    def batches(self) -> tuple[Callable[[Any, Any], None], Callable[[Any], None]]:
        """Return functions that store and delete many, of NumPy arrays, by one system call."""
        fd, code, memory = self._fd, self._code, self._ffi.from_buffer

        def update(keys: Any, values: Any) -> None:
            if failure := code.update_batch(fd, memory(keys), memory(values), len(keys)):
                _refuse("a batch", failure)

        def delete(keys: Any) -> None:
            if failure := code.delete_batch(fd, memory(keys), len(keys)):
                _refuse("a batch", failure)

        return update, delete

    # --- all --------------------------------------------------------------------------------

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values, by two system calls each."""
        return self._items(self._code.walk_by_keys)

    def batched_items(self) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values, by a system call for each batch."""
        return self._items(self._code.walk_by_batch)

    def _items(self, walk: Any) -> Iterator[tuple[Any, Any]]:
        key, value, view = self._key, self._value, self._ffi.buffer
        keys = self._new("char[]", BATCH * key.size)
        values = self._new("char[]", BATCH * value.size)
        for found in self._steps(walk, keys, values, BATCH):
            yield from zip(
                key.unpack_many(view(keys), key.size, 0, found),
                value.unpack_many(view(values), value.size, 0, found),
                strict=True,
            )

    def snapshot(self, entries: int) -> tuple[Any, Any, int]:
        """Copy all keys and values, by two system calls each; two buffers and how many there are.

        No object is made for any of them.
        """
        return self._snapshot(self._code.walk_by_keys, entries)

    def batched_snapshot(self, entries: int) -> tuple[Any, Any, int]:
        """Copy all keys and values as `snapshot` does, by one system call for all of them."""
        return self._snapshot(self._code.walk_by_batch, entries)

    def _snapshot(self, walk: Any, entries: int) -> tuple[Any, Any, int]:
        # With room for one more, the step that has them all finds the end.
        keys = self._new("char[]", (entries + 1) * self._key.size)
        values = self._new("char[]", (entries + 1) * self._value.size)
        (count,) = self._steps(walk, keys, values, entries + 1)
        return self._ffi.buffer(keys), self._ffi.buffer(values), count

    def _steps(self, walk: Any, keys: Any, values: Any, room: int) -> Iterator[int]:
        """Walk to the end; how many entries each step has put into these arrays."""
        place = self._ffi.new("char[]", max(8, self._key.size))
        count = self._ffi.new("uint32_t *")
        sizes = self._key.size, self._value.size
        code, begun = 0, False
        while not code:
            count[0] = room
            code = walk(self._fd, place, begun, keys, values, *sizes, count)
            if code not in (0, -errno.ENOENT):
                _refuse("a walk", code)
            begun = True
            yield count[0]


def _refuse(what: str, code: int) -> None:
    raise ArenadsError(f"the kernel refused {what}", errno=-code)
