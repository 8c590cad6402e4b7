"""The benchmark: structures in an arena against what people use today, side by side.

`python -m arenads bench` runs it; `run.run` is what it calls. A *cell* is one pair of loops that
do the same work, ours and a peer's. They run in turn on pinned CPUs; `measure` says how, and
`statistics` when a difference counts as one.

How a cell is added:

1. In a module of `arenads.bench.cells`, write a context manager that takes the `Cell` and the
   `Workshop`, sets both sides up and yields a `Sides`: two callables that do a number of
   operations and return the nanoseconds that these took, without what prepares them. What takes
   long to make and serves several cells, such as a filled map, comes from `Workshop.shared`;
   compiled programs and libraries from `Workshop.program` and `Workshop.library`.
2. Yield a `Cell` that names it from the module's `cells()`. Cells that share something follow
   each other there. `needs` says what it cannot run without, `quick` whether `--quick` has it.
3. A new module goes into `arenads.bench.cells.MODULES`.

A cell that compares amounts, such as bytes, yields an `Amounts` and says `unit="bytes"`.

>>> from arenads.bench.cell import Cell, Sides
>>> from arenads.bench.measure import Settings, measure
>>> twice = Sides(ours=lambda operations: 2 * operations, peer=lambda operations: 4 * operations)
>>> measure(twice, Settings(rounds=6, seconds=1e-6)).ratio
2.0
"""
