"""The NumPy dtype of a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .annotations import schema_of
from .compiled import Part, parts
from .errors import SchemaError
from .schema import ArrayType, BytesType, CType, EnumType, PointerType, Record, Scalar, StrType

__all__ = ["numpy_dtype"]

if TYPE_CHECKING:
    import numpy


def numpy_dtype(schema: object) -> numpy.dtype[Any]:
    """Return the NumPy dtype of a schema: a structured one for a record.

    Text becomes `S`, byte arrays `u1` subarrays, enums and pointers integers. Bit
    fields that share bytes are one field, named after all of them (`"flags|mode"`).
    Members of a union are fields that overlap.

    Raises
    ------
    SchemaError
        NumPy is not installed.

    >>> from arenads import Array, u16
    >>> str(numpy_dtype(Array[u16, 3]))
    "('<u2', (3,))"
    """
    try:
        import numpy
    except ImportError:
        raise SchemaError("numpy_dtype needs NumPy: pip install numpy") from None
    dtype: numpy.dtype[Any] = numpy.dtype(_dtype(schema_of(schema).type))
    return dtype


def _dtype(ctype: CType) -> Any:
    if isinstance(ctype, Scalar):
        if ctype.name == "char":
            return "S1"
        if ctype.name == "bool":
            return "?"
        return f"={ctype.name[0]}{ctype.size}"
    if isinstance(ctype, EnumType):
        return f"={ctype.base[0]}{ctype.size}"
    if isinstance(ctype, PointerType):
        return "=u8"
    if isinstance(ctype, StrType):
        return f"S{ctype.size}"
    if isinstance(ctype, BytesType):
        return ("u1", (ctype.size,))
    if isinstance(ctype, ArrayType):
        return (_dtype(ctype.element), (ctype.count,))
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []

    def add(name: str, form: Any, offset: int) -> None:
        names.append(name)
        formats.append(form)
        offsets.append(offset)

    def add_record(record: Record, base: int) -> None:
        if record.is_union:
            for field in record.fields:
                if not field.name and isinstance(field.type, Record):
                    add_record(field.type, base)
                else:
                    add_part(parts(Record("", record.size, 1, (field,)), base)[0])
            return
        for part in parts(record, base):
            add_part(part)

    def add_part(part: Part) -> None:
        if part.kind == "union":
            assert part.union is not None
            add_record(part.union, part.offset)
        elif part.kind == "bits":
            form = f"=u{part.size}" if part.size in (1, 2, 4, 8) else f"V{part.size}"
            add("|".join(field.name for field in part.fields), form, part.offset)
        else:
            field = part.fields[0]
            add(field.name, _dtype(field.type), part.offset)

    add_record(ctype, 0)
    return {"names": names, "formats": formats, "offsets": offsets, "itemsize": ctype.size}
