"""One function for one operation of a structure: packs, calls the C core once, unpacks.

What `Codec.pack`, a method and `Codec.unpack` do in turn is here in one body, made for the types
of one structure. A call of a Python function costs as much as a quarter of the C call, and looking
an attribute up a tenth, so that the parts together took twice as long.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, Literal

import msgspec

from ._core import ffi, lib
from .compiled import Compiled
from .words import to_word, wrapped

__all__ = [
    "MISSING",
    "Core",
    "buffer_maker",
    "fuse_copy",
    "fuse_elements_in_place",
    "fuse_giving",
    "fuse_map",
    "fuse_numbered",
    "fuse_set",
    "fuse_taking",
    "specialize",
]

# For a default that was not given.
MISSING: Final[Any] = object()
# What stores one key of a map, and how.
_STORING: Final = {
    "__setitem__": int(lib.ADS_ANY),
    "insert": int(lib.ADS_INSERT),
    "replace": int(lib.ADS_REPLACE),
}

_TAKE: Final = """\
    try:
        memory, view = buffer = take()
    except IndexError:
        memory, view = buffer = make()
"""

# By a key. An integer is taken as it is by the C core, which saves packing it; what does not fit
# takes the way of other keys, where it is said why. In what stores that was no faster.
_PACK_KEY: Final = """\
    try:
        packed = pack_key({key})
    except Exception as error:
        packed = explain_key(key, error)
"""
_BY_PACKED: Final = (
    _PACK_KEY
    + """\
    code = {core}(handle, packed, {rest})
"""
)
_BY_INTEGER: Final = """\
    try:
        code = {core}_integer(handle, key if type(key) is int else index(key), {rest})
    except Exception as error:
        code = {core}(handle, explain_key(key, error), {rest})
"""
_KEYED_SOURCE: Final = """\
def __contains__(self, key):
{find}\
    if code:
        if code == absent:
            return False
        failed(self, key, code)
    return True

def {delete}(self, key):
{drop}\
    if code:
        failed(self, key, code)
"""
_MAP_SOURCE: Final = """\
def __getitem__(self, key):
{take}\
{get}\
    if code:
        give(buffer)
        failed(self, key, code)
    {target} = read(view)
    give(buffer)
{returned}

def get(self, key, default=None, /):
{take}\
{get}\
    if code:
        give(buffer)
        if code == absent:
            return default
        failed(self, key, code)
    {target} = read(view)
    give(buffer)
{returned}

def pop(self, key, default=missing, /):
{take}\
{pop}\
    if code:
        give(buffer)
        if code == absent and default is not missing:
            return default
        failed(self, key, code)
    {target} = read(view)
    give(buffer)
{returned}
"""
_STORING_SOURCE: Final = """\
def {name}(self, key, value):
{pack_key}\
    try:
        data = pack_value({data})
    except Exception as error:
        data = explain_value(value, error)
    code = core_update(handle, packed, data, {mode})
    if code:
        refused(self, key, packed, data, {mode}, code)
"""
_SET_SOURCE: Final = """\
def discard(self, key):
{drop}\
    if code and code != absent:
        failed(self, key, code)

def insert(self, key):
{pack_key}\
    code = core_update(handle, packed, b"", {mode})
    if code:
        return refused(self, key, packed, b"", {mode}, code)
    return True

def add(self, key):
{pack_key}\
    code = core_update(handle, packed, b"", {mode})
    if code and code != exists:
        refused(self, key, packed, b"", {mode}, code)
"""

# Whatever is no number that the C core takes, a slice or one from the end, goes the other way.
_NUMBERED_SOURCE: Final = """\
def {get}(self, number):
{take}    try:
        code = core_get(handle, number if type(number) is int else as_number(number), memory)
    except (OverflowError, TypeError):
        give(buffer)
        return get_any(self, number)
    if code:
        give(buffer)
        failed(self, number, code)
    {target} = read(view)
    give(buffer)
{returned}

def {set}(self, number, value):
    try:
        code = core_set(
            handle, number if type(number) is int else as_number(number), pack_value({data}){mode}
        )
    except Exception:
        return set_any(self, number, value)
    if code:
        failed(self, number, code)
"""

# Atomic work on one 8-byte field of a value: what is given, what of it is wrong, what is done, and
# what is returned.
_IN_PLACE_SOURCE: Final = """\
def {name}(self, key, {given}field=""):
    try:
        at, signed = fields[field]
    except (KeyError, TypeError):
        at, signed = find_field(self, field)
{checked}\
    try:
        before = take_word()
    except IndexError:
        before = make_word()
{find}\
    if code:
        give_word(before)
        failed(self, key, code)
    word = before[0]
    give_word(before)
{returned}
"""
_AS_WORD: Final = """\
    if not (type({0}) is int and 0 <= {0} <= most):
        {0} = to_word({0}, signed)
"""
_BEFORE: Final = "    return word - modulus if signed and word > most else word"
_IN_PLACE: Final = {
    "add": (
        "amount, ",
        "    amount = amount & mask if type(amount) is int else wrapped(amount)\n",
        f"{lib.CORE_ADD}, amount, 0",
        _BEFORE,
    ),
    "load": ("", "", f"{lib.CORE_LOAD}, 0, 0", _BEFORE),
    "store": ("value, ", _AS_WORD.format("value"), f"{lib.CORE_STORE}, value, 0", ""),
    "exchange": ("value, ", _AS_WORD.format("value"), f"{lib.CORE_EXCHANGE}, value, 0", _BEFORE),
    "cas": (
        "expected, wanted, ",
        _AS_WORD.format("wanted") + _AS_WORD.format("expected"),
        f"{lib.CORE_CAS}, wanted, expected",
        "    return word == expected",
    ),
}
# By an index, see `_NUMBERED_SOURCE`.
_BY_INDEX: Final = """\
    try:
        code = core_field(handle, key if type(key) is int else as_number(key), {rest})
    except (OverflowError, TypeError):
        code = core_field(handle, place(self, key), {rest})
"""

# What takes a value and finds the place for it, by what it returns.
_TAKING_SOURCE: Final = """\
def {name}(self, value):
    try:
        data = pack_value({data})
    except Exception as error:
        data = explain_value(value, error)
{rest}
"""
_TAKING: Final = {
    "nothing": """\
    code = core_take(handle, data)
    if code:
        refused(self, code)
""",
    "address": """\
    address = core_take(handle, data)
    if address < 0:
        refused(self, address)
    return address
""",
    "order": """\
    try:
        order = take_order()
    except IndexError:
        order = make_order()
    code = core_take(handle, data, order)
    number = order[0]
    give_order(order)
    if code:
        refused(self, code)
    return number
""",
}

# What gives out the value that is next.
_GIVING_SOURCE: Final = """\
def {name}(self):
{take}    code = core_give(handle, memory)
    if code:
        give(buffer)
        return failed(self, code)
    {target} = read(view)
    give(buffer)
{returned}
"""
_POPPING_SOURCE: Final = """\
def {name}(self):
    try:
        memory, view, order = buffer = take()
    except IndexError:
        memory, view, order = buffer = *make(), make_order()
    code = core_give(handle, order, memory)
    if code:
        give(buffer)
        return failed(self, code)
    number = order[0]
    {target} = read(view)
    give(buffer)
{returned}
"""

# Of a view, whose class knows the type; the arena is the view's own.
_COPY_SOURCE: Final = """\
def copy(place):
{take}    code = core_read(place.__core__, place.__address__, 0, memory, size)
    if code:
        give(buffer)
        failed(place, code, 0)
    {target} = read(view)
    give(buffer)
{returned}
"""


def fuse_copy(
    value: Compiled, *, core_read: Any, failed: Callable[[Any, int, int], None]
) -> Callable[[Any], Any]:
    """Return what copies the record of a view."""
    buffers: list[tuple[Any, Any]] = []
    names = {
        **value.names,
        "read": value.form.unpack,
        "core_read": core_read,
        "size": value.form.size,
        "take": buffers.pop,
        "give": buffers.append,
        "make": buffer_maker(value.form.size),
        "failed": failed,
    }
    source = _COPY_SOURCE.format(take=_TAKE, target=value.target, returned=value.returned)
    exec(_code(source, "<copy of a view>"), names)
    copy: Callable[[Any], Any] = names["copy"]
    return copy


def fuse_numbered(
    value: Compiled,
    *,
    handle: Any,
    core_get: Any,
    core_set: Any,
    buffers: list[tuple[Any, Any]],
    make: Callable[[], tuple[Any, Any]],
    get_any: Callable[[Any, Any], Any],
    set_any: Callable[[Any, Any, Any], None],
    failed: Callable[[Any, Any, int], None],
    methods: tuple[str, str] = ("__getitem__", "__setitem__"),
    mode: int | None = None,
) -> dict[str, Any]:
    """Return what gets and sets by index of an array, address of a pool, or order of a list.

    Parameters
    ----------
    value, handle, core_get, core_set, buffers, make
        See `fuse_map`.
    get_any, set_any : callable
        `get_any(self, number)` and `set_any(self, number, value)` take whatever else there is,
        such as slices and negative indexes, and say what is wrong with other numbers and with
        values that do not fit.
    failed : callable
        `failed(self, number, code)` raises what a code of the C core means.
    methods : tuple of two str
        Their names.
    mode : int, optional
        The last argument of `core_set`, if it takes one.
    """
    names = {
        **value.names,
        "pack_value": value.form.pack,
        "read": value.form.unpack,  # the views have exactly the size
        "handle": handle,
        "core_get": core_get,
        "core_set": core_set,
        "as_number": operator.index,
        "take": buffers.pop,
        "give": buffers.append,
        "make": make,
        "get_any": get_any,
        "set_any": set_any,
        "failed": failed,
    }
    source = _NUMBERED_SOURCE.format(
        get=methods[0],
        set=methods[1],
        mode="" if mode is None else f", {mode}",
        take=_TAKE,
        data=value.arguments("value"),
        target=value.target,
        returned=value.returned,
    )
    exec(_code(source, "<operations by number>"), names)
    return {name: names[name] for name in methods}


def fuse_taking(
    name: str,
    value: Compiled,
    *,
    handle: Any,
    core_take: Any,
    refused: Callable[[Any, int], None],
    returns: Literal["nothing", "address", "order"] = "nothing",
) -> dict[str, Any]:
    """Return what gives a structure a value, by its name: `alloc` of a pool, `push` of a queue.

    Parameters
    ----------
    value, handle
        See `fuse_map`.
    core_take : function of the C core
        It returns an error, which is negative, or the address; an order it writes.
    refused : callable
        `refused(self, code)` raises what an error means.
    returns : str
        What the method returns.
    """
    orders: list[Any] = []
    names = {
        **value.names,
        "pack_value": value.form.pack,
        "explain_value": value.explain,
        "handle": handle,
        "core_take": core_take,
        "refused": refused,
        "take_order": orders.pop,
        "give_order": orders.append,
        "make_order": _make_word,
    }
    source = _TAKING_SOURCE.format(name=name, data=value.arguments("value"), rest=_TAKING[returns])
    exec(_code(source, f"<{name}>"), names)
    return {name: names[name]}


def fuse_giving(
    name: str,
    value: Compiled,
    *,
    handle: Any,
    core_give: Any,
    buffers: list[tuple[Any, Any]],
    make: Callable[[], tuple[Any, Any]],
    failed: Callable[[Any, int], Any],
    ordered: bool = False,
) -> dict[str, Any]:
    """Return what takes a value out of a structure, by its name: `pop` of a queue.

    Parameters
    ----------
    value, handle, buffers, make
        See `fuse_map`.
    core_give : function of the C core
    failed : callable
        `failed(self, code)` raises what a code means, or returns what the method returns then.
    ordered : bool
        `core_give` writes the order of the value too, and the method returns a pair of both.
    """
    names = {
        **value.names,
        "read": value.form.unpack,
        "handle": handle,
        "core_give": core_give,
        "take": buffers.pop,
        "give": buffers.append,
        "make": make,
        "make_order": _make_word,
        "failed": failed,
    }
    returned = value.returned
    if ordered:
        orders: list[Any] = []
        names.update(take=orders.pop, give=orders.append)  # buffers with a word for the order
        returned = returned.replace("return ", "return number, ", 1)
    source = (_POPPING_SOURCE if ordered else _GIVING_SOURCE).format(
        name=name, take=_TAKE, target=value.target, returned=returned
    )
    exec(_code(source, f"<{name}>"), names)
    return {name: names[name]}


def fuse_elements_in_place(
    fields: dict[str, tuple[int, bool]],
    *,
    handle: Any,
    core_field: Any,
    place: Callable[[Any, Any], int],
    find_field: Callable[[Any, Any], tuple[int, bool]],
    failed: Callable[[Any, Any, int], None],
) -> dict[str, Any]:
    """Return what works in place on the elements of an array.

    Parameters
    ----------
    fields, find_field
        See `fuse_map`.
    handle, core_field : cdata and function of the C core
    place : callable
        `place(self, index)` takes negative indexes, and says what is wrong with others.
    failed : callable
        `failed(self, index, code)` raises what a code of the C core means.
    """
    names = {
        **_names_in_place(fields, find_field),
        "handle": handle,
        "core_field": core_field,
        "place": place,
        "as_number": operator.index,
        "failed": failed,
    }
    source = _in_place(lambda rest: _BY_INDEX.format(rest=rest))
    exec(_code(source, "<operations in place>"), names)
    return {name: names[name] for name in _IN_PLACE}


def _in_place(find: Callable[[str], str]) -> str:
    """Return source of what works in place; `find(rest)` calls the C core with a key and that."""
    return "".join(
        _IN_PLACE_SOURCE.format(
            name=name,
            given=given,
            checked=checked,
            find=find(f"at, {done}, before"),
            returned=returned,
        )
        for name, (given, checked, done, returned) in _IN_PLACE.items()
    )


def _names_in_place(
    fields: dict[str, tuple[int, bool]], find_field: Callable[[Any, Any], tuple[int, bool]]
) -> dict[str, Any]:
    words: list[Any] = []
    return {
        "fields": fields,
        "find_field": find_field,
        "take_word": words.pop,
        "give_word": words.append,
        "make_word": _make_word,
        "to_word": to_word,
        "wrapped": wrapped,
        "most": (1 << 63) - 1,
        "mask": (1 << 64) - 1,
        "modulus": 1 << 64,
    }


class Core(msgspec.Struct, frozen=True):
    """The functions of the C core for one map or set.

    Attributes
    ----------
    handle : cdata
    find, get, update, pop, field
        By a packed key; a set has no `get`, and no `field`.
    integer : tuple, optional
        `find`, `get`, `pop` and `field` for keys that are integers and are given as such.
    """

    handle: Any
    find: Any
    get: Any
    update: Any
    pop: Any
    field: Any
    integer: tuple[Any, Any, Any, Any] | None


def _by_key(key: Compiled, core: Core, operation: str, rest: str) -> str:
    """Return source that calls the C core with a key, and then with `rest`."""
    form = _BY_PACKED if core.integer is None else _BY_INTEGER
    return form.format(key=key.arguments("key"), core=f"core_{operation}", rest=rest)


def _names_of_keys(key: Compiled, core: Core) -> dict[str, Any]:
    find, get, pop, field = core.integer or (None, None, None, None)
    return {
        **key.names,
        "pack_key": key.form.pack,
        "explain_key": key.explain,
        "handle": core.handle,
        "core_find": core.find,
        "core_find_integer": find,
        "core_get": core.get,
        "core_get_integer": get,
        "core_pop": core.pop,
        "core_pop_integer": pop,
        "core_field": core.field,
        "core_field_integer": field,
        "core_update": core.update,
        "index": operator.index,
        "entry": ffi.new("__u32 *"),  # written, never read
        "null": ffi.NULL,
        "absent": lib.ADS_ABSENT,
        "exists": lib.ADS_EXISTS,
        "missing": MISSING,
    }


def fuse_set(
    key: Compiled,
    core: Core,
    *,
    failed: Callable[[Any, Any, int], None],
    refused: Callable[[Any, Any, bytes, bytes, int, int], bool],
) -> dict[str, Any]:
    """Return what works on one key of a set.

    Parameters
    ----------
    key, core, failed
        See `fuse_map`.
    refused : callable
        As of `fuse_map`; it returns what `insert` returns then.
    """
    names = {**_names_of_keys(key, core), "failed": failed, "refused": refused}
    drop = _by_key(key, core, "pop", "null")
    source = _KEYED_SOURCE.format(
        find=_by_key(key, core, "find", "entry"), delete="remove", drop=drop
    ) + _SET_SOURCE.format(
        drop=drop, pack_key=_PACK_KEY.format(key=key.arguments("key")), mode=int(lib.ADS_INSERT)
    )
    exec(_code(source, "<operations of a set>"), names)
    return {name: names[name] for name in ("__contains__", "remove", "discard", "insert", "add")}


def fuse_map(
    key: Compiled,
    value: Compiled,
    core: Core,
    *,
    buffers: list[tuple[Any, Any]],
    make: Callable[[], tuple[Any, Any]],
    fields: dict[str, tuple[int, bool]],
    find_field: Callable[[Any, Any], tuple[int, bool]],
    failed: Callable[[Any, Any, int], None],
    refused: Callable[[Any, Any, bytes, bytes, int, int], None],
) -> dict[str, Any]:
    """Return what works on one key, for the keys and values of one map.

    Parameters
    ----------
    key, value : Compiled
    core : Core
    buffers, make : list, callable
        Idle (C buffer, view of it) pairs, and what makes another one. Taking one from a list is
        atomic among threads.
    fields, find_field : dict, callable
        What paths of 64-bit integers in the values mean, and what finds that out and notes it.
    failed : callable
        `failed(self, key, code)` raises what a code of the C core means.
    refused : callable
        `refused(self, key, packed key, packed value, mode, code)` raises what a code of
        `core.update` means, or tries again.
    """
    names = {
        **_names_of_keys(key, core),
        **_names_in_place(fields, find_field),
        **value.names,
        "pack_value": value.form.pack,
        "explain_value": value.explain,
        "read": value.form.unpack,  # the views have exactly the size
        "take": buffers.pop,
        "give": buffers.append,
        "make": make,
        "failed": failed,
        "refused": refused,
    }
    source = _KEYED_SOURCE.format(
        find=_by_key(key, core, "find", "entry"),
        delete="__delitem__",
        drop=_by_key(key, core, "pop", "null"),
    ) + _in_place(lambda rest: _by_key(key, core, "field", rest))
    exec(_code(source, "<operations by key>"), names)  # apart: it is of the key alone
    source = _MAP_SOURCE.format(
        take=_TAKE,
        get=_by_key(key, core, "get", "memory"),
        pop=_by_key(key, core, "pop", "memory"),
        target=value.target,
        returned=value.returned,
    )
    for name, mode in _STORING.items():
        source += _STORING_SOURCE.format(
            name=name,
            mode=mode,
            pack_key=_PACK_KEY.format(key=key.arguments("key")),
            data=value.arguments("value"),
        )
    exec(_code(source, "<operations of a map>"), names)
    methods = ("__contains__", "__delitem__", "__getitem__", "get", "pop", *_STORING, *_IN_PLACE)
    return {name: names[name] for name in methods}


@functools.lru_cache(maxsize=64)
def _code(source: str, title: str) -> CodeType:
    """Compile; what is by integers or text is the same for many structures."""
    return compile(source, title, "exec")


def _make_word() -> Any:
    """Return a word that the C core writes to."""
    return ffi.new("__u64 *")


def buffer_maker(size: int) -> Callable[[], tuple[Any, Any]]:
    """Return what makes a C buffer and the view of it."""

    def make() -> tuple[Any, Any]:
        memory = ffi.new("char[]", max(size, 1))
        return memory, ffi.buffer(memory, size)

    return make


def specialize(instance: Any, make: Callable[[], dict[str, Any]]) -> None:
    """Give one object methods of its own, which the interpreter finds as fast as its class's.

    `make` is called for them unless the object has some already: whoever kept a method of the
    class from before comes here again. Two threads may both come here the first time; then one
    of two equal sets of methods stays.
    """
    cls = type(instance)
    if "_is_own" in vars(cls):
        return
    methods = make()
    for name, method in methods.items():
        method.__qualname__ = f"{cls.__qualname__}.{name}"
        method.__doc__ = getattr(cls, name).__doc__
    namespace = {"__module__": cls.__module__, "__doc__": cls.__doc__, "_is_own": True, **methods}
    metaclass: Any = type(cls)
    own = metaclass(cls.__name__, (cls,), namespace)
    own.__qualname__ = cls.__qualname__
    instance.__class__ = own
