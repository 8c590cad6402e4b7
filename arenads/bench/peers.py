"""Peers of the shared memory use without BPF: what Python programs share data by today.

Each gives the same objects as ours: integers, or records of eight fields. A process that works
beside opens the same data again from what `again` says.
"""

from __future__ import annotations

import multiprocessing
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Protocol

from arenads.annotations import u64
from arenads.codec import Codec
from arenads.errors import ArenadsError

__all__ = ["PEERS", "LmdbMap", "ManagerMap", "Peer", "SharedArray", "SharedMemoryMap"]

# Enough for a million entries of 64 bytes in half-filled pages.
_MAP_SIZE = 1 << 30
_ENTRY = 256  # bytes of one pickled key and value at most


class Peer(Protocol):
    """One map, or an array, that processes share."""

    def get(self, key: int) -> Any:
        """Return a value."""

    def put(self, key: int, value: Any) -> None:
        """Store a value."""

    def delete(self, key: int) -> None:
        """Delete a key that is there."""

    def fill(self, keys: list[int], values: list[Any]) -> None:
        """Store many, as fast as it goes."""

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values."""

    def close(self) -> None:
        """Take it away."""


class ManagerMap:
    """A dict in a process of its own, behind multiprocessing.Manager."""

    def __init__(self, place: Path, value: Any, entries: int, proxy: Any = None) -> None:
        # Started anew and not forked: this process has threads.
        self._manager = (
            None if proxy is not None else multiprocessing.get_context("spawn").Manager()
        )
        self._proxy = self._manager.dict() if self._manager is not None else proxy
        self.get = self._proxy.__getitem__
        self.put = self._proxy.__setitem__
        self.delete = self._proxy.__delitem__

    def again(self) -> Any:
        """Return what another process opens it by."""
        return self._proxy

    def fill(self, keys: list[int], values: list[Any]) -> None:
        """Store many."""
        self._proxy.update(zip(keys, values, strict=True))

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values, which come in one message."""
        yield from self._proxy.items()

    def close(self) -> None:
        """End the process."""
        if self._manager is not None:
            self._manager.shutdown()


class LmdbMap:
    """LMDB in a tmpfs: writable mapping, nothing synced, keys compared as integers.

    `get`, `put` and `delete` are a transaction each, as they are of processes that share; those
    of `inside` are part of one.
    """

    def __init__(self, place: Path, value: Any, entries: int, again: Any = None) -> None:
        import lmdb

        self._environment = lmdb.open(
            str(place / "lmdb"),
            map_size=_MAP_SIZE,
            writemap=True,
            sync=False,
            metasync=False,
            map_async=True,
            max_dbs=1,
        )
        self._database = self._environment.open_db(b"map", integerkey=True)
        self._codec: Codec[Any] = Codec(value)
        self._key = struct.Struct("=Q")
        begin, database = self._environment.begin, self._database
        key_of, pack, unpack = self._key.pack, self._codec.pack, self._codec.unpack

        def get(key: int) -> Any:
            with begin(database, buffers=True) as transaction:
                found = transaction.get(key_of(key))
                if found is None:
                    raise KeyError(key)
                return unpack(found)

        def put(key: int, value: Any) -> None:
            with begin(database, write=True) as transaction:
                transaction.put(key_of(key), pack(value))

        def delete(key: int) -> None:
            with begin(database, write=True) as transaction:
                if not transaction.delete(key_of(key)):
                    raise KeyError(key)

        self.get, self.put, self.delete = get, put, delete

    def again(self) -> Any:
        """Return what another process opens it by."""
        return ""

    def inside(self, transaction: Any) -> tuple[Callable[..., Any], ...]:
        """Return get, put and delete as parts of a transaction."""
        key_of, pack, unpack = self._key.pack, self._codec.pack, self._codec.unpack

        def get(key: int) -> Any:
            found = transaction.get(key_of(key))
            if found is None:
                raise KeyError(key)
            return unpack(found)

        def put(key: int, value: Any) -> None:
            transaction.put(key_of(key), pack(value))

        def delete(key: int) -> None:
            if not transaction.delete(key_of(key)):
                raise KeyError(key)

        return get, put, delete

    def transaction(self, write: bool) -> Any:
        """Begin one; a context manager that commits."""
        return self._environment.begin(self._database, write=write, buffers=True)

    def fill(self, keys: list[int], values: list[Any]) -> None:
        """Store many in one transaction."""
        with self.transaction(write=True) as transaction:
            _, put, _ = self.inside(transaction)
            for key, value in zip(keys, values, strict=True):
                put(key, value)

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values of one transaction."""
        unpack, (key_of,) = self._codec.unpack, (self._key.unpack,)
        with self.transaction(write=False) as transaction:
            for key, value in transaction.cursor():
                yield key_of(key)[0], unpack(value)

    def close(self) -> None:
        """Close it; the files are the caller's."""
        self._environment.close()


class SharedMemoryMap:
    """UltraDict2: a dict in each process; changes go through shared memory as pickles."""

    def __init__(self, place: Path, value: Any, entries: int, again: Any = None) -> None:
        from UltraDict2 import UltraDict

        self._owner = again is None
        self._dict = UltraDict(
            # Its directory has that name, where shared memory is.
            name=again or f"{place.name}-dict",
            create=self._owner,
            shared_lock=True,
            buffer_size=1 << 20,
            full_dump_size=4096 + _ENTRY * entries,
        )
        self.get = self._dict.__getitem__
        self.put = self._dict.__setitem__
        self.delete = self._dict.__delitem__

    def again(self) -> Any:
        """Return what another process opens it by."""
        return self._dict.name

    def fill(self, keys: list[int], values: list[Any]) -> None:
        """Store many."""
        self._dict.update(dict(zip(keys, values, strict=True)))

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield keys and values."""
        yield from self._dict.items()

    def close(self) -> None:
        """Let go of the memory."""
        del self.get, self.put, self.delete
        self._dict.close(unlink=self._owner)


class SharedArray:
    """multiprocessing.shared_memory with struct: elements by index."""

    def __init__(self, place: Path, value: Any, entries: int, again: Any = None) -> None:
        size = Codec(value).size
        self._memory = (
            SharedMemory(again) if again else SharedMemory(create=True, size=size * entries)
        )
        self._owner = again is None
        self._size, self._entries = size, entries
        layout = struct.Struct(f"={size // 8}Q")
        load, store = layout.unpack_from, layout.pack_into
        memory: Any = self._memory.buf
        self.get: Callable[[int], Any]
        self.put: Callable[[int, Any], None]
        if size == 8:
            self.get = lambda index: load(memory, index * 8)[0]
            self.put = lambda index, value: store(memory, index * 8, value)
        else:
            names = value.__struct_fields__
            self.get = lambda index: value(*load(memory, index * size))

            def put(index: int, record: Any) -> None:
                store(memory, index * size, *[getattr(record, name) for name in names])

            self.put = put

    def again(self) -> Any:
        """Return what another process opens it by."""
        return self._memory.name

    def delete(self, key: int) -> None:
        """Arrays keep their elements."""
        raise ArenadsError("an array keeps its elements")

    def fill(self, keys: list[int], values: list[Any]) -> None:
        """Store many."""
        for key, value in zip(keys, values, strict=True):
            self.put(key, value)

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield indexes and elements."""
        for index in range(self._entries):
            yield index, self.get(index)

    def close(self) -> None:
        """Let go of the memory."""
        del self.get, self.put
        self._memory.close()
        if self._owner:
            self._memory.unlink()


MANAGER, LMDB = "Manager().dict", "LMDB"
TRANSACTION = "LMDB, one transaction"
SHARED_DICT, SHARED_MEMORY = "UltraDict2", "shared_memory, struct"

PEERS: dict[str, Any] = {
    MANAGER: ManagerMap,
    LMDB: LmdbMap,
    TRANSACTION: LmdbMap,
    SHARED_DICT: SharedMemoryMap,
    SHARED_MEMORY: SharedArray,
}
"""The classes, by the names that cells give their peers."""


# --- a process beside -------------------------------------------------------------------

_STOP = -1


def accompany(
    wanted: Any,
    doing: Any,
    cpu: int,
    pin: str,
    peer_name: str,
    place: Path,
    value: Any,
    entries: int,
    again: Any,
    keys: list[int],
    values: list[Any],
    read: bool,
    interval: int,
) -> None:
    """Open both sides and work on the one that `wanted` names until it says stop."""
    import os
    import time

    from arenads.arena import Arena

    os.sched_setaffinity(0, {cpu})
    with ExitStack() as stack:
        arena = stack.enter_context(Arena.open(pin))
        ours: Any
        if peer_name == SHARED_MEMORY:
            ours = arena.array("map", value=value, max_entries=entries)
        else:
            ours = arena.hashmap("map", key=u64, value=value, max_entries=entries)
        peer = PEERS[peer_name](place, value, entries, again)
        stack.callback(peer.close)
        gets = (ours.__getitem__, peer.get)
        puts = (ours.__setitem__, peer.put)
        at, following = 0, time.perf_counter_ns()
        while (what := wanted.value) != _STOP:
            doing.value = what
            if not what:
                time.sleep(0.0001)
                following = time.perf_counter_ns()
                continue
            if read:
                gets[what - 1](keys[at])
            else:
                puts[what - 1](keys[at], values[at])
            at = (at + 1) % len(keys)
            # Not faster after having been late: that would be another load.
            following = max(following + interval, time.perf_counter_ns())
            while time.perf_counter_ns() < following:
                pass
