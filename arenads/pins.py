"""Find the arenas that are pinned on this machine."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator

import msgspec

from arenads._core import ffi, lib
from arenads.arena import Arena, starts_as_arena
from arenads.errors import ArenadsError, NotAPinError
from arenads.table import Table

__all__ = ["FoundArenas", "PinnedArena", "UnseenPlace", "find_arenas"]

_MAP_NAME = b"arenads"  # of ads_arena_create()
_MOST_FILES = 100_000
_SHARED_MEMORY = "/dev/shm"
_FORBIDDEN = (errno.EACCES, errno.EPERM)


class PinnedArena(msgspec.Struct, frozen=True):
    """One pinned arena; sizes in bytes, 0 if it could not be opened: then `error` says why."""

    pin: str
    engine: str
    size: int
    used: int
    structures: int
    error: str


class UnseenPlace(msgspec.Struct, frozen=True):
    """A "pin", "file" or "folder" that may not be opened; whether it has an arena is not known."""

    path: str
    kind: str
    error: str


class FoundArenas(msgspec.Struct, frozen=True):
    """The arenas that were found, and where was looked."""

    version: int
    folders: list[str]
    arenas: list[PinnedArena]
    unseen: list[UnseenPlace]

    def table(self) -> Table:
        """Return what was found as a table."""
        return Table(
            ("PIN", "ENGINE", "STRUCTURES", "USED", "SIZE", "ERROR"),
            [
                (
                    each.pin,
                    each.engine,
                    f"{each.structures:,}",
                    f"{each.used:,}",
                    f"{each.size:,}",
                    each.error,
                )
                for each in self.arenas
            ],
            right=range(2, 5),
            heading=(f"arenas pinned below {', '.join(self.folders) or 'nothing'}:",),
            marked=[number for number, each in enumerate(self.arenas) if each.error],
        )

    @property
    def complaints(self) -> list[str]:
        """How many places of each kind could not be looked at, and why."""
        counts = Counter((each.kind, each.error) for each in self.unseen)
        return [
            f"{count:,} {kind}{'' if count == 1 else 's'} could not be looked at: {error}"
            for (kind, error), count in counts.items()
        ]


def find_arenas() -> FoundArenas:
    """Look at every pin in the bpf file systems, and every file in /dev/shm.

    Only maps with the name of our arenas are opened, and read-only: the memory of others is
    not touched.
    """
    folders = _bpf_folders()
    unseen: list[UnseenPlace] = []
    found = [
        _opened(path, "kernel")
        for folder in folders
        for path in _files(folder, unseen)
        if _is_kernel_arena(path, unseen)
    ]
    found += [
        _opened(path, "native")
        for path in _files(_SHARED_MEMORY, unseen)
        if _is_file_arena(path, unseen)
    ]
    return FoundArenas(1, [*folders, _SHARED_MEMORY], found, unseen)


def _bpf_folders() -> list[str]:
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            lines = [line.split() for line in mounts]
    except OSError:
        return []
    return sorted({words[1] for words in lines if len(words) > 2 and words[2] == "bpf"})


def _note(unseen: list[UnseenPlace], path: str, kind: str, number: int | None) -> None:
    if number in _FORBIDDEN:
        unseen.append(UnseenPlace(path, kind, os.strerror(number)))


def _files(folder: str, unseen: list[UnseenPlace]) -> Iterator[str]:
    count = 0

    def skip(error: OSError) -> None:
        _note(unseen, str(error.filename), "folder", error.errno)

    for place, folders, names in os.walk(folder, onerror=skip):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                return
            yield os.path.join(place, name)


def _is_kernel_arena(path: str, unseen: list[UnseenPlace]) -> bool:
    fd = lib.ads_bpf_get(os.fsencode(path))
    if fd < 0:
        _note(unseen, path, "pin", -fd)
        return False
    try:
        info = ffi.new("struct ads_bpf_map_info *")
        return bool(
            lib.ads_bpf_map_info(fd, info) == 0
            and info.type == lib.ADS_MAP_TYPE_ARENA
            and ffi.string(info.name) == _MAP_NAME
        )
    finally:
        os.close(fd)


def _is_file_arena(path: str, unseen: list[UnseenPlace]) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _note(unseen, path, "file", error.errno)
        return False
    try:
        return starts_as_arena(fd)
    finally:
        os.close(fd)


def _opened(path: str, engine: str) -> PinnedArena:
    try:
        with Arena.open(path, readonly=True) as arena:
            return PinnedArena(path, engine, arena.size, arena.used, len(arena.structures), "")
    except NotAPinError as error:  # unpinned meanwhile, or no longer one
        return PinnedArena(path, engine, 0, 0, 0, error.message)
    except ArenadsError as error:
        return PinnedArena(path, engine, 0, 0, 0, error.message)
