"""Conditions on the fields of entries, as they are written on the command line: `calls>100`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from arenads.errors import SchemaError

__all__ = ["Condition", "read_condition"]

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM: Final = re.compile(r"\s*([^<>=!\s]+)\s*(" + "|".join(_OPERATORS) + r")(.*)", re.DOTALL)


class Condition(msgspec.Struct, frozen=True):
    """A field's name, how it is compared, and with what; the text is not read yet."""

    field: str
    sign: str
    value: str

    def test(self, read: Callable[[str], Any]) -> Callable[[Any], bool]:
        """Return a function that tests a value of the field; `read` makes one of the text.

        A value that the entry does not have passes no test. What is no number equals itself.

        >>> read_condition("calls>100").test(int)(200)
        True
        >>> read_condition("load=NaN").test(float)(float("nan"))
        True
        """
        compare, wanted = _OPERATORS[self.sign], read(self.value)
        if wanted != wanted:
            return lambda value: value is not None and bool(compare(value != value, True))

        def test(value: Any) -> bool:
            return value is not None and bool(compare(value, wanted))

        return test


def read_condition(text: str) -> Condition:
    """Read FIELD=VALUE, or with !=, <, <=, > or >=.

    Raises
    ------
    SchemaError
        It is none.

    >>> read_condition("comm=bash")
    Condition(field='comm', sign='=', value='bash')
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise SchemaError(f"expected a condition such as comm=bash or calls>100, found {text!r}")
    return Condition(found[1], found[2], found[3].strip())


def all_of(tests: Iterable[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """Return a function that applies each test to the same thing."""
    made = list(tests)
    return lambda thing: all(test(thing) for test in made)
