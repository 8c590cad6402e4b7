"""What an arena's directory says of a structure's records: the types of keys and values, as JSON.

>>> from arenads import u32
>>> from arenads.annotations import schema_of
>>> encode_stored(schema_of(u32), None)
b'{"key":{"type":{"c":"scalar","name":"u32"}}}'
"""

from __future__ import annotations

import msgspec

from arenads.errors import SchemaError
from arenads.schema import Schema, decode_schema, encode_schema

__all__ = ["decode_stored", "encode_stored"]


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    value: msgspec.Raw = msgspec.Raw()  # empty: no value
    key: msgspec.Raw = msgspec.Raw()  # likewise


def encode_stored(key: Schema | None, value: Schema | None) -> bytes:
    """Return the text that the directory has for keys and values of these types."""
    return msgspec.json.encode(
        {
            what: msgspec.Raw(encode_schema(schema))
            for what, schema in (("value", value), ("key", key))
            if schema is not None
        }
    )


def decode_stored(text: bytes | bytearray) -> tuple[Schema | None, Schema | None]:
    """Return the types of keys and values; None: there are no such things.

    Raises
    ------
    SchemaError
        The text says no such thing.
    """
    try:
        stored = msgspec.json.decode(text, type=_Stored)
    except msgspec.MsgspecError as error:
        raise SchemaError(str(error)) from None
    key, value = (
        decode_schema(bytes(each)) if bytes(each) else None for each in (stored.key, stored.value)
    )
    return key, value
