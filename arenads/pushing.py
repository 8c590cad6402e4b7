"""What is pushed to rings: records of bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from arenads._core import ffi, lib
from arenads.errors import SchemaError

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
        # Most are bytes all: to look at each in Python takes as long as the C core does.
        many = given if set(map(type, given)) == {bytes} else list(map(as_bytes, given))
        lengths = list(map(len, many))
        longest = max(lengths)
        if longest > self.longest:
            self._check(lib.ADS_TOO_LONG, longest)
        sizes = ffi.from_buffer("__u32[]", array("I", lengths))
        count = self._core_push_many(self._handle, b"".join(many), sizes, len(many))
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
