"""The entries of any structure in one form: tuples, and what each place of them is.

>>> import arenads
>>> with arenads.create("1MiB", engine="native") as arena:
...     ages = arena.hashmap("ages", key=arenads.u32, value=arenads.u64)
...     ages[7] = 42
...     [part.name for part in parts(ages)], list(entries(ages))
(['key', 'value'], [(7, 42)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from arenads._core import lib
from arenads.errors import KeyAbsentError, RemovedError
from arenads.schema import BytesType, CType, PointerType, Scalar
from arenads.structure import Structure

__all__ = ["Part", "count_entries", "entries", "entries_text", "parts"]

_INDEX = Scalar("u64")
_ADDRESS = PointerType()


class Part(msgspec.Struct, frozen=True):
    """One place of an entry: `identity` tells that it tells entries apart, as a key does.

    `shorter` tells that it is bytes, and may be fewer than those of its type.
    """

    name: str
    type: CType
    identity: bool = False
    shorter: bool = False


def parts(structure: Structure[Any]) -> tuple[Part, ...]:
    """Say what the places of a structure's entries are."""
    kind = structure.kind
    if kind == lib.ADS_KIND_RING:
        return (Part("record", BytesType(structure.max_entries), shorter=True),)
    found = [Part(name, type_, True) for name, type_ in _IDENTITIES.get(kind, ())]
    if hasattr(structure, "key_type"):
        found.append(Part("key", structure.key_type.type, True))
    if kind != lib.ADS_KIND_SET:
        found.append(Part("value", structure.value_type.type))
    return tuple(found)


def entries(structure: Structure[Any]) -> Iterator[tuple[Any, ...]]:
    """Iterate over the entries; nothing is changed, in queues and rings nothing is taken.

    Works on a read-only arena and while others write. Of an array the populated elements.
    """
    return _WALKS[structure.kind](structure)


def count_entries(structure: Structure[Any]) -> int:
    """Count what `entries` yields; about, while others write."""
    if structure.kind == lib.ADS_KIND_ARRAY:
        return int(structure.populated)  # type: ignore[attr-defined]
    return len(structure)


def entries_text(count: int) -> str:
    """Return a number of entries in words.

    >>> entries_text(1), entries_text(1000)
    ('1 entry', '1,000 entries')
    """
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _records(structure: Any) -> Iterator[tuple[Any, ...]]:
    return ((record,) for record in structure.records())


def _linked(structure: Any) -> Iterator[tuple[Any, ...]]:
    """Yield order, address and record of an intrusive list."""
    pool = structure.pool
    for order, address in structure.items():
        try:
            yield order, address, pool[address]
        except (KeyAbsentError, RemovedError):
            continue  # unlinked and freed since


_IDENTITIES: dict[int, tuple[tuple[str, CType], ...]] = {
    lib.ADS_KIND_LIST: (("order", _INDEX),),
    lib.ADS_KIND_ARRAY: (("index", _INDEX),),
    lib.ADS_KIND_POOL: (("address", _ADDRESS),),
    lib.ADS_KIND_INTRUSIVE: (("order", _INDEX), ("address", _ADDRESS)),
}

_WALKS: dict[int, Callable[[Any], Iterator[tuple[Any, ...]]]] = {
    lib.ADS_KIND_HASHMAP: lambda each: iter(each.items()),
    lib.ADS_KIND_ORDEREDMAP: lambda each: iter(each.items()),
    lib.ADS_KIND_SET: lambda each: ((key,) for key in each),
    lib.ADS_KIND_LIST: lambda each: each.items(),
    lib.ADS_KIND_ARRAY: lambda each: each.items(),
    lib.ADS_KIND_POOL: lambda each: each.items(),
    lib.ADS_KIND_INTRUSIVE: _linked,
    lib.ADS_KIND_QUEUE: _records,
    lib.ADS_KIND_MPMC: _records,
    lib.ADS_KIND_RING: _records,
}
