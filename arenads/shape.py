"""How Python shows a C type: the classes and checks that go with its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class Check(msgspec.Struct, frozen=True):
    """A `msgspec.Meta` constraint, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


class Shape:
    """How Python shows a C type: the classes and checks that go with each part of it."""

    __slots__ = ("attributes", "checks", "children", "cls", "element", "keywords", "sequence")

    def __init__(self) -> None:
        self.cls: Any = None  # of a record or enum
        self.sequence: type = list  # of an array: list or tuple
        self.element: Shape | None = None
        self.children: dict[str, Shape] = {}  # by C name
        self.attributes: dict[str, str] = {}  # C name to attribute
        self.keywords = False  # whether the class must be called with keywords
        self.checks: tuple[Check, ...] = ()
