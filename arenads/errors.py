"""Every exception that arenads raises, in one hierarchy.

Each class keeps the facts of its case in attributes (`errno`, `expected`,
`found`, `log`, ...), so a program need not parse the message. Classes that have
a natural counterpart in the standard library inherit from it as well:
an absent key is a `KeyError`, a missing capability is a `PermissionError`.
"""

from __future__ import annotations

import errno as _errno

__all__ = [
    "AbiError",
    "AddressError",
    "ArenaFullError",
    "ArenadsError",
    "BaseTakenError",
    "BudgetError",
    "CapacityError",
    "ClosedError",
    "CompileError",
    "CompilerMissingError",
    "DamagedError",
    "EndianError",
    "EngineError",
    "KeyAbsentError",
    "KeyExistsError",
    "LayoutError",
    "LibbpfMissingError",
    "LinkedError",
    "LoadError",
    "LockdownError",
    "NameExistsError",
    "NoMemoryError",
    "NotAPinError",
    "ObjectError",
    "OpenError",
    "PrivilegeError",
    "ProgramTypeError",
    "RangeError",
    "ReadOnlyError",
    "RecordSizeError",
    "RemovedError",
    "ReservationError",
    "SchemaError",
    "SizeError",
    "StructureAbsentError",
    "WritersError",
    "WrongMapTypeError",
]


class ArenadsError(Exception):
    """Base of every arenads exception.

    Attributes
    ----------
    message : str
        What was expected, what was found, and what to do.
    errno : int
        The errno that fits the case, 0 where none does.
    default_errno : int
        Of the class: the errno of cases that have no other.
    facts : dict
        Everything else that is known about the case, by name; each fact is
        readable as an attribute too.
    """

    default_errno = 0
    errno: int | None

    def __init__(self, message: str, *, errno: int | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.errno = self.default_errno if errno is None else errno
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        # Only reached when normal lookup fails; `facts` itself may be absent while unpickling.
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.errno, self.facts))


def _rebuild(
    kind: type[ArenadsError], message: str, errno: int, facts: dict[str, object]
) -> ArenadsError:
    return kind(message, errno=errno, **facts)


# --- arenas -----------------------------------------------------------------


class SizeError(ArenadsError, ValueError):
    """An arena size that is 0, above 4 GiB, or not a size at all."""

    default_errno = _errno.EINVAL


class OpenError(ArenadsError, OSError):
    """An arena could not be created or opened; the subclasses say why."""

    default_errno = _errno.EINVAL


class NotAPinError(OpenError):
    """The path is not an arena: absent, not a pin, or not an arena file."""

    default_errno = _errno.ENOENT


class WrongMapTypeError(OpenError):
    """The pin, id or descriptor is a BPF map of another type."""


class BaseTakenError(OpenError):
    """The address range that the arena needs is in use in this process."""

    default_errno = _errno.EEXIST


class AbiError(OpenError):
    """The arena was made for another ABI version (`expected`, `found`)."""

    default_errno = _errno.EPROTO


class EndianError(OpenError):
    """The arena was made on a machine of the other byte order."""

    default_errno = _errno.EPROTO


class PrivilegeError(OpenError, PermissionError):
    """A capability is missing (`missing` names it)."""

    default_errno = _errno.EPERM


class LockdownError(PrivilegeError):
    """Kernel lockdown forbids what was asked."""


class ClosedError(ArenadsError, ValueError):
    """The arena or program was closed."""

    default_errno = _errno.EBADF


class ReadOnlyError(ArenadsError, PermissionError):
    """A write through a read-only arena."""

    default_errno = _errno.EROFS


class DamagedError(ArenadsError):
    """Arena memory that cannot be what it claims; `offset` is the place."""

    default_errno = _errno.EUCLEAN


class AddressError(ArenadsError, ValueError):
    """An address where no object of its type can be (`address`, `size`, `align`).

    NULL, outside of the arena, not populated, or not at a multiple of `align`. Nothing was read
    or written there.
    """

    default_errno = _errno.EFAULT


class NoMemoryError(ArenadsError, MemoryError):
    """The process has no memory for a copy (`size` in bytes); the arena is as it was."""

    default_errno = _errno.ENOMEM


class ArenaFullError(ArenadsError, MemoryError):
    """No memory is left in the arena (`size`, `used`).

    `name` is the structure that wanted some, and `needed` how many bytes; None: none, not known.
    """

    default_errno = _errno.ENOMEM


# --- structures ---------------------------------------------------------------


class CapacityError(ArenadsError):
    """A structure holds `max_entries` entries, or a queue is full."""

    default_errno = _errno.ENOSPC


class RecordSizeError(ArenadsError, ValueError):
    """A record longer than the ring takes (`size`; `most` is the longest)."""

    default_errno = _errno.EMSGSIZE


class ReservationError(ArenadsError):
    """A commit without a reservation, or one that another commit or a push made void."""

    default_errno = _errno.EBADFD


class BudgetError(ArenadsError):
    """A bounded loop ran out before it had an answer; try again."""

    default_errno = _errno.ELOOP


class KeyAbsentError(ArenadsError, KeyError):
    """The key is not in the structure."""

    default_errno = _errno.ENOENT


class KeyExistsError(ArenadsError, KeyError):
    """An insert found the key in the structure already."""

    default_errno = _errno.EEXIST


class RangeError(ArenadsError, IndexError):
    """An index beyond the end of an array (`index`, `max_entries`)."""

    default_errno = _errno.ENOENT


class LinkedError(ArenadsError, ValueError):
    """A record's node is in an intrusive list already (`address`)."""

    default_errno = _errno.EBUSY


class WritersError(ArenadsError):
    """Other processes may be writing to what only one may change (`pids`)."""

    default_errno = _errno.EBUSY


class StructureAbsentError(ArenadsError, KeyError):
    """No structure of that name in the arena's directory."""

    default_errno = _errno.ENOENT


class RemovedError(ArenadsError):
    """The structure was removed from its arena."""

    default_errno = _errno.ESTALE


class NameExistsError(ArenadsError):
    """The name is in use for another kind of structure or another layout."""

    default_errno = _errno.EEXIST


class SchemaError(ArenadsError, TypeError):
    """A type that has no C form, or a value that does not fit its type."""

    default_errno = _errno.EINVAL


class LayoutError(SchemaError):
    """Two layouts of one record differ; the message shows them side by side."""


# --- programs -------------------------------------------------------------------


class ObjectError(ArenadsError):
    """A file that is not a usable BPF object (not ELF, no BTF, two arenas, ...)."""

    default_errno = _errno.ENOEXEC


class LoadError(ArenadsError):
    """The kernel refused a program; `log` is the whole verifier log."""

    default_errno = _errno.EINVAL


class ProgramTypeError(ArenadsError, TypeError):
    """The program's type has no meaning on this engine, or not for this call."""

    default_errno = _errno.EOPNOTSUPP


class LibbpfMissingError(ArenadsError):
    """libbpf is not installed, or too old."""

    default_errno = _errno.ELIBACC


class EngineError(ArenadsError):
    """The engine that was asked for cannot work here; `reason` says why."""

    default_errno = _errno.EOPNOTSUPP


class CompilerMissingError(ArenadsError):
    """No compiler that can do the job was found."""

    default_errno = _errno.ENOENT


class CompileError(ArenadsError):
    """The compiler refused the source; `output` is what it printed."""

    default_errno = _errno.EINVAL
