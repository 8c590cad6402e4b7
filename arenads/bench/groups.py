"""How cells are grouped where people read of them: in the HTML report and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import msgspec

from arenads.bench.report import Result, how

__all__ = [
    "ABOUT_FLOORS",
    "Group",
    "Place",
    "grouped",
    "is_floor",
    "is_loss",
    "losses",
    "place",
    "sections",
    "sizes",
    "summary",
]

_WHERE = {
    "bpf": "in BPF",
    "c": "from C",
    "python": "from Python",
    "native": "shared memory without BPF",
    "memory": "memory and creation",
}
_STRUCTURES = {
    "hashmap": "Hash map",
    "orderedmap": "Ordered map",
    "array": "Array",
    "ring": "Ring",
    "rings": "Rings of each CPU",
    "sharedmap": "Map among processes",
    "sharedarray": "Array among processes",
    "mpmc": "MPMC queue",
    "queue": "Queue",
    "list": "List",
    "set": "Set",
}

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Place(msgspec.Struct, frozen=True):
    """The parts of a cell's name."""

    where: str
    structure: str
    operation: str


class Group(msgspec.Struct, frozen=True):
    """The cells of one structure where it is used.

    Attributes
    ----------
    title : str
        For people: "Hash map, in BPF".
    plain, varied : list of Result
        With the smallest keys and values, on one CPU, alone, each key as likely; and the others.
    axis : str
        What they are compared over: "entries", or "bytes" of records where nothing has entries.
    """

    title: str
    plain: list[Result]
    varied: list[Result]
    axis: str = "entries"

    def at(self, each: Result) -> int:
        """Return where a cell is on the axis."""
        return each.entries if self.axis == "entries" else each.value_size

    def sizes(self, each: Result) -> str:
        """Return the sizes of a cell that are not on the axis."""
        return sizes(each) if self.axis == "entries" else str(each.key_size or "")

    @property
    def cells(self) -> list[Result]:
        """All of them."""
        return self.plain + self.varied


def place(each: Result) -> Place:
    """Take a name apart.

    >>> from types import SimpleNamespace
    >>> place(SimpleNamespace(name="bpf.hashmap.lookup_hit"))
    Place(where='bpf', structure='hashmap', operation='lookup_hit')
    """
    where, _, rest = each.name.partition(".")
    structure, _, operation = rest.rpartition(".")
    return Place(where, structure, operation)


def grouped(values: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Put values with the same key together, in the order in which they come."""
    found: dict[K, list[T]] = {}
    for value in values:
        found.setdefault(key(value), []).append(value)
    return found


def sections(results: Sequence[Result]) -> list[Group]:
    """Divide cells by where they run and by structure."""
    groups = []
    for (where, structure), cells in grouped(
        results, lambda each: (place(each).where, place(each).structure)
    ).items():
        axis = "entries" if any(each.entries for each in cells) else "bytes"
        smallest = {
            name: min(_sizes(each, axis) for each in same)
            for name, same in grouped(cells, lambda each: each.name).items()
        }

        def is_plain(
            each: Result, axis: str = axis, least: dict[str, tuple[int, int]] = smallest
        ) -> bool:
            return _sizes(each, axis) == least[each.name] and not how(each)

        plain = [each for each in cells if is_plain(each)]
        varied = [each for each in cells if not is_plain(each)]
        title = _STRUCTURES.get(structure, structure)
        title = f"{title}, {_WHERE.get(where, where)}" if title else _WHERE.get(where, where)
        groups.append(Group(title, plain, varied, axis))
    return groups


def _sizes(each: Result, axis: str) -> tuple[int, int]:
    return each.key_size, each.value_size if axis == "entries" else 0


def sizes(each: Result) -> str:
    """Return the sizes of a cell's keys and values: "8/64"."""
    return f"{each.key_size or '-'}/{each.value_size or '-'}"


ABOUT_FLOORS = "A peer named floor does less than ours: it shows what cannot be saved."


def is_floor(each: Result) -> bool:
    """Say whether the peer does less than ours, and is there to show what cannot be saved."""
    return each.peer.startswith("floor")


def is_loss(each: Result) -> bool:
    """Say whether the peer is ahead, which a floor is not there for."""
    return each.winner == "peer" and not is_floor(each)


def losses(results: Iterable[Result]) -> list[Result]:
    """Return the cells in which the peer is ahead, the worst first."""
    return sorted(filter(is_loss, results), key=lambda each: each.ratio)


def summary(results: Sequence[Result]) -> str:
    """Say in one sentence who is ahead in how many cells. A floor is no peer."""
    peers = [each for each in results if not is_floor(each)]
    ours, peer = (sum(each.winner == who for each in peers) for who in ("ours", "peer"))
    return (
        f"Of {len(peers):,} cells the arena is ahead in {ours:,}, the peer in {peer:,};"
        f" {len(peers) - ours - peer:,} are too close to tell."
    )
