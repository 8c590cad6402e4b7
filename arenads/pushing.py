"""What is pushed to rings: records of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from arenads._core import ffi, lib
from arenads.errors import SchemaError
from arenads.methods import joined

__all__ = ["Pushing", "as_bytes"]


class Pushing:
    """Base of a ring, and of rings for many producers; not made directly."""

    # Functions of the C core.
    _core_push: Any
    _core_push_many: Any
    _handle: Any

    if TYPE_CHECKING:

        @property
        def longest(self) -> int: ...

        def _check(self, code: int, size: int = 0) -> None: ...

    def push(self, record: bytes | bytearray | memoryview) -> None:
        """Append a record and publish it, with all that was committed before to the same ring.

        Raises
        ------
        CapacityError
            There is no room; counted in `counters().full`. Never if the ring overwrites. Of rings
            for many producers: that of the ring that was taken; or all that were tried have a
            producer; or there is no line for this thread in the arena's registry of writing
            threads.
        RecordSizeError
            It is longer than `longest`.
        """
        data = record if type(record) is bytes else as_bytes(record)
        code = self._core_push(self._handle, data, len(data))
        if code:
            self._check(code, len(data))

    def push_many(self, records: Iterable[bytes | bytearray | memoryview]) -> int:
        """Append records to one ring and publish them together; return how many had room.

        Raises
        ------
        RecordSizeError
            One is longer than `longest`; none was appended.
        """
        given = list(records)
        if not given:
            return 0
        packed = joined(given) or joined([bytes(as_bytes(record)) for record in given])
        assert packed is not None
        sizes, data, longest = packed
        if longest > self.longest:
            self._check(lib.ADS_TOO_LONG, longest)
        words = ffi.from_buffer("__u32[]", sizes)
        count = self._core_push_many(self._handle, data, words, len(given))
        if count == lib.ADS_FULL:
            return 0
        self._check(count)
        return int(count)


def as_bytes(record: object) -> bytes:
    """Return a record that was given as bytes.

    Raises
    ------
    SchemaError

    >>> as_bytes(bytearray(b"ab"))
    b'ab'
    """
    if isinstance(record, bytes):
        return record
    if isinstance(record, bytearray | memoryview):
        return bytes(record)
    raise SchemaError(f"a record is bytes; found {type(record).__name__}")
