"""The text that tells an arena's directory of a structure's types, for C programs to store.

>>> as_c("ages_schema", schema_text("u32", "u64")).splitlines()[1]
'static const char ages_schema[] ='
"""

from __future__ import annotations

import os
import re
from typing import Final

from arenads.annotations import schema_of
from arenads.btf import Btf, Kind
from arenads.btf_schema import from_btf
from arenads.c_header import find_class
from arenads.errors import SchemaError
from arenads.schema import SCALARS, ArrayType, BytesType, CType, Scalar, Schema, StrType
from arenads.stored import encode_stored

__all__ = ["as_c", "schema_named", "schema_text"]

_ARRAY: Final = re.compile(r"(\w+)\[(\d{1,9})\]")
_C_NAMES: Final = {f"__{name}": name for name in SCALARS} | {"int": "i32", "unsigned int": "u32"}
_C_NAMES.update(
    {
        f"{name.replace('i', 'int').replace('u', 'uint')}_t": name
        for name in ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")
    }
)
_WIDTH: Final = 90


def schema_text(
    key: str | None, value: str | None, *, btf: str | os.PathLike[str] | None = None
) -> bytes:
    """Return the text for keys and values of the types with these names.

    A name is a C type (`u32`, `__u64`, `char[16]`), `module:Class`, or with `btf`, a BPF object
    or another ELF file with BTF, one of a struct, union, enum or typedef there.

    Raises
    ------
    SchemaError
        There is no such type; ObjectError if the file has no BTF.

    >>> schema_text("u32", None)
    b'{"key":{"type":{"c":"scalar","name":"u32"}}}'
    """
    if key is None and value is None:
        raise SchemaError("expected the type of keys, or of values, or both; found neither")
    types = None if btf is None else Btf.from_object(btf)
    found = [None if name is None else schema_named(name, types) for name in (key, value)]
    return encode_stored(*found)


def schema_named(name: str, types: Btf | None) -> Schema:
    """Return the schema of a type with a name as `schema_text` takes it, of `types` if it is there.

    Raises
    ------
    SchemaError

    >>> schema_named("char[16]", None).size
    16
    """
    name = name.strip()
    if ":" in name:
        return schema_of(find_class(name))
    plain = _plain(name)
    if plain is not None:
        return Schema(plain)
    if types is None:
        raise SchemaError(
            f"{name!r} is no C type that is known here: expected one such as u32 or char[16],"
            " module:Class, or the name of a struct with --btf OBJECT"
        )
    bare = re.sub(r"^(struct|union|enum)\s+", "", name)
    for kind in (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF, Kind.ENUM, Kind.ENUM64):
        declared = types.find(kind, bare)
        if declared is not None:
            return from_btf(types, declared.id)
    raise SchemaError(
        f"{name!r} is no struct, union, enum or typedef of {types!r}: a compiler leaves out types"
        " that nothing uses; declare a variable of it"
    )


def _plain(name: str) -> CType | None:
    array = _ARRAY.fullmatch(name)
    scalar = _C_NAMES.get(array[1] if array else name, array[1] if array else name)
    if scalar not in SCALARS:
        return None
    if array is None:
        return Scalar(scalar)
    count = int(array[2])
    if scalar == "char":
        return StrType(count)
    return BytesType(count) if scalar == "u8" else ArrayType(Scalar(scalar), count)


def as_c(name: str, text: bytes) -> str:
    """Return a C definition of a string with this text."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise SchemaError(f"expected a name for a C variable, found {name!r}")
    escaped = [
        "\\" + chr(byte) if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in text
    ]
    lines, line = [], ""
    for each in escaped:
        if len(line) + len(each) > _WIDTH:
            lines.append(line)
            line = ""
        line += each
    lines.append(line)
    body = "\n".join(f'\t"{line}"' for line in lines)
    return (
        "/* What an arena says of the records of a structure; `arenads schema` wrote it. */\n"
        f"static const char {name}[] =\n{body};\n"
    )
