"""Nodes: the members by which records are linked into intrusive lists."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from arenads.annotations import u64
from arenads.errors import SchemaError
from arenads.schema import ArrayType, CType, Record, Schema, python_name, spell_path

__all__ = ["NODE_RECORD", "NODE_SIZE", "Node", "node_members", "node_offset", "nodes_in"]

NODE_RECORD = "ads_node"
NODE_SIZE = 24


class Node(msgspec.Struct, frozen=True):
    """The place of a record in an intrusive list; `struct ads_node` in C.

    A record class has one such member for each list that its records can be in at the same time.
    Only lists change it: storing a record in its pool leaves its nodes as they are.

    Attributes
    ----------
    link, order, list : int
        The list's own: the next node, the order, and which list it is in; 0 in none.

    >>> from arenads import u32
    >>> class Task(msgspec.Struct):
    ...     pid: u32
    ...     node: Node = Node()
    >>> Task(7).pid
    7
    """

    link: u64 = 0
    order: u64 = 0
    list: u64 = 0


Node.__arenads_name__ = NODE_RECORD  # type: ignore[attr-defined]


def node_members(schema: Schema) -> dict[str, int]:
    """Return the nodes of a record type: paths and offsets, in the order of their offsets.

    >>> from arenads.annotations import from_class
    >>> class Task(msgspec.Struct):
    ...     pid: u64
    ...     node: Node = Node()
    >>> node_members(from_class(Task))
    {'node': 8}

    Raises
    ------
    SchemaError
        One is not at a multiple of 8, where lists could use it.
    """
    found = sorted(nodes_in(schema.type, "", 0), key=lambda each: each[1])
    for path, offset in found:
        if offset % 8:
            raise SchemaError(
                f"{schema.name}.{path}: expected a node at a multiple of 8 bytes, found offset"
                f" {offset}"
            )
    return dict(found)


def nodes_in(ctype: CType, path: str, offset: int) -> Iterator[tuple[str, int]]:
    """Yield path and offset of each node in a type that lies at `offset`."""
    if isinstance(ctype, ArrayType):
        if isinstance(ctype.element, Record | ArrayType):
            for index in range(ctype.count):
                at = offset + index * ctype.element.size
                yield from nodes_in(ctype.element, f"{path}[{index}]", at)
    elif isinstance(ctype, Record):
        if ctype.name == NODE_RECORD:
            yield path, offset
            return
        for field in ctype.fields:
            if not field.bit_size:
                where = spell_path(path, field.name)
                yield from nodes_in(field.type, where, offset + field.offset)


def node_offset(schema: Schema, member: str | int) -> int:
    """Return the offset of a node that is named by its path, or by its offset.

    Raises
    ------
    SchemaError
        There is no such node in the record.
    """
    members = node_members(schema)
    for path, offset in members.items():
        if member in (path, python_name(path)) or (isinstance(member, int) and member == offset):
            return offset
    have = ", ".join(members) or "none"
    raise SchemaError(
        f"{schema.name} has no node {member!r}: expected a member of type arenads.Node (struct"
        f" ads_node in C); it has {have}"
    )
