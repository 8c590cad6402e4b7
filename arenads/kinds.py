"""The kinds of structures: their numbers, names, and the classes that open them.

>>> KINDS[1].name
'hash map'
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from arenads._core import lib

__all__ = ["KINDS", "KindOfStructure"]


class KindOfStructure(msgspec.Struct, frozen=True):
    """What is known of a kind.

    Attributes
    ----------
    number : int
        Of `enum ads_kind` in layout.h.
    name : str
        As it stands in messages and tables.
    maker : str
        The method of `Arena` that makes one.
    module, type_name : str
        Where its class is.
    keyed, valued : bool
        Whether its records have a key, a value.
    sized : bool
        Whether max_entries is part of what it is: programs have the number as a constant.
    """

    number: int
    name: str
    maker: str
    module: str
    type_name: str
    keyed: bool
    valued: bool
    sized: bool = False

    @property
    def one(self) -> str:
        """The name with its article."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    def structure_type(self) -> Any:
        """Return the class; modules of structures are loaded when they are needed."""
        return getattr(importlib.import_module(self.module), self.type_name)


KINDS: dict[int, KindOfStructure] = {
    each.number: each
    for each in (
        KindOfStructure(
            lib.ADS_KIND_HASHMAP,
            "hash map",
            "hashmap",
            "arenads.hashmap",
            "HashMap",
            True,
            True,
        ),
        KindOfStructure(lib.ADS_KIND_LIST, "list", "list", "arenads.list", "List", False, True),
        KindOfStructure(
            lib.ADS_KIND_QUEUE, "queue", "queue", "arenads.queue", "Queue", False, True
        ),
        KindOfStructure(
            lib.ADS_KIND_ORDEREDMAP,
            "ordered map",
            "orderedmap",
            "arenads.orderedmap",
            "OrderedMap",
            True,
            True,
        ),
        KindOfStructure(lib.ADS_KIND_SET, "set", "set", "arenads.set", "Set", True, False),
        KindOfStructure(lib.ADS_KIND_RING, "ring", "ring", "arenads.ring", "Ring", False, False),
        KindOfStructure(
            lib.ADS_KIND_MPMC, "MPMC queue", "mpmc", "arenads.mpmc", "MpmcQueue", False, True
        ),
        KindOfStructure(lib.ADS_KIND_POOL, "pool", "pool", "arenads.pool", "Pool", False, True),
        KindOfStructure(
            lib.ADS_KIND_ARRAY, "array", "array", "arenads.array", "ArrayMap", False, True, True
        ),
        KindOfStructure(
            lib.ADS_KIND_INTRUSIVE,
            "intrusive list",
            "intrusive",
            "arenads.intrusive",
            "IntrusiveList",
            False,
            True,
        ),
    )
}
