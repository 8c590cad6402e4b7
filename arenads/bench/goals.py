"""What a cell should reach: the least ratio, peer / ours, that the project sets itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from arenads.bench.report import Result

__all__ = ["Goal", "Goals", "goal_of", "shortfalls"]

# Of a ratio with one CPU, what is to be left of it with two.
_WITH_TWO = 0.9


class Goal(msgspec.Struct, frozen=True):
    """A ratio for the cells whose name and peer match, with so many entries and such keys.

    With `cpus`, only those on so many. Ours may take `spare` nanoseconds an operation besides.
    """

    ratio: float
    name: str
    peer: str = "*"
    fewest: int = 0
    most: int = 1 << 40
    key_sizes: tuple[int, ...] = ()
    cpus: int = 0
    spare: float = 0

    def least(self, each: Result) -> float:
        """Return the ratio of a cell at which ours takes peer / `ratio` and `spare`."""
        if not self.spare or not each.peer_ns:
            return self.ratio
        return 1 / (1 / self.ratio + self.spare / each.peer_ns)

    def means(self, each: Result) -> bool:
        """Say whether it is a goal of this cell."""
        return (
            fnmatchcase(each.name, self.name)
            and fnmatchcase(each.peer.lower(), self.peer)
            and self.fewest <= each.entries <= self.most
            and (not self.key_sizes or each.key_size in self.key_sizes)
            and self.cpus in (0, each.cpus)
        )


# The first that means a cell counts.
_GOALS = (
    Goal(1.0, "bpf.hashmap.lookup_hit", most=1_000, key_sizes=(8,)),
    Goal(1.3, "bpf.hashmap.lookup_hit", most=10_000, key_sizes=(8,)),
    Goal(2.0, "bpf.hashmap.lookup_hit", fewest=100_000, key_sizes=(8,)),
    Goal(1.2, "bpf.hashmap.lookup_hit", fewest=100_000),
    Goal(1.5, "bpf.hashmap.insert"),
    Goal(1.5, "bpf.hashmap.delete"),
    Goal(1.5, "bpf.hashmap.replace"),
    Goal(1.3, "bpf.hashmap.update_in_place"),
    Goal(0.95, "bpf.array.*"),
    Goal(20, "c.array.*", peer="bpf()"),
    Goal(20, "c.hashmap.lookup_*", peer="bpf()*", most=10_000),
    Goal(10, "c.hashmap.lookup_*", peer="bpf()*", fewest=1_000_000),
    Goal(20, "c.hashmap.iterate", peer="bpf()"),
    Goal(5, "c.hashmap.iterate", peer="bpf(), batches"),
    Goal(5, "c.hashmap.sweep", peer="bpf(), batches"),
    Goal(3, "python.hashmap.get", peer="bpf()*"),
    Goal(3, "python.hashmap.put", peer="bpf()*"),
    Goal(3, "python.hashmap.contains_*", peer="bpf()*"),
    Goal(3, "python.hashmap.insert", peer="bpf()*"),
    Goal(3, "python.hashmap.delete", peer="bpf()*"),
    Goal(3, "python.hashmap.add", peer="bpf()*"),
    Goal(5, "python.hashmap.*_many", peer="bpf()*"),
    Goal(10, "python.hashmap.snapshot", peer="bpf()*"),
    # Twice the copy and 20 ms for a million records.
    Goal(0.5, "python.hashmap.snapshot_*arrow", spare=20),
    Goal(3, "python.array.get", peer="bpf()*"),
    Goal(3, "python.array.put", peer="bpf()*"),
    Goal(5, "python.array.*_many", peer="bpf()*"),
    Goal(10, "python.array.snapshot", peer="bpf()*"),
    Goal(20, "memory.hashmap.fill_1", peer="array"),
    Goal(10, "memory.hashmap.fill_1", peer="hash"),
    Goal(10, "memory.hashmap.create", peer="hash"),
    # Into BPF; out of it, with one producer and with many.
    Goal(5, "bpf.*", peer="user ring buffer"),
    Goal(2, "bpf.mpmc.*", peer="ring buffer*"),
    Goal(2, "bpf.rings.*", peer="ring buffer*"),
    Goal(8, "bpf.ring.*", peer="ring buffer*", cpus=1),
    Goal(8, "bpf.ring.*", peer="perf buffer", cpus=1),
    Goal(8, "bpf.queue.*", peer="ring buffer*"),
    Goal(2, "bpf.ring.*", peer="ring buffer*"),
    Goal(50, "python.sharedmap.*", peer="*manager*"),
    Goal(1.0, "python.sharedmap.*", peer="*lmdb*"),
)


def goal_of(each: Result) -> float | None:
    """Return the goal of a cell by itself, None where nothing is asked for; see `Goals`."""
    return next((goal.least(each) for goal in _GOALS if goal.means(each)), None)


class Goals:
    """What the cells of one run should reach.

    In BPF, with two CPUs, that is also nine tenths of the same cell's ratio with one.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self._alone = {_without_cpus(each): each.ratio for each in results if each.cpus == 1}

    def of(self, each: Result) -> float | None:
        """Return the least ratio that a cell should reach, None where nothing is asked for."""
        goal = goal_of(each)
        if each.cpus == 1 or not each.name.startswith("bpf."):
            return goal
        alone = self._alone.get(_without_cpus(each), 0.0)
        return max(goal or 0.0, _WITH_TWO * alone) or None


def shortfalls(results: Sequence[Result]) -> Iterator[tuple[Result, float]]:
    """Yield the cells that miss a goal, each with the ratio that it should reach."""
    goals = Goals(results)
    for each in results:
        wanted = goals.of(each)
        if wanted is not None and each.ratio < wanted:
            yield each, wanted


def _without_cpus(each: Result) -> tuple[str | int, ...]:
    return (
        each.name,
        each.peer,
        each.entries,
        each.key_size,
        each.value_size,
        each.distribution,
        each.concurrent,
    )
