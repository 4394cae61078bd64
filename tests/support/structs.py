"""Hypothesis strategies for msgspec structs, read off their fields: new entries are covered at birth."""

from __future__ import annotations

from typing import Any

import msgspec
import msgspec.inspect as mi
from hypothesis import strategies as st

_WHOLE = 2**63 - 1


def of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return _of(mi.type_info(kind))


def _of(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _of(field.type) for field in fields})
        case mi.UnionType(types=types):
            return st.one_of([_of(each) for each in types])
        case mi.ListType(item_type=item):
            return st.lists(_of(item), max_size=3)
        case mi.VarTupleType(item_type=item):
            return st.lists(_of(item), max_size=3).map(tuple)
        case mi.TupleType(item_types=items):
            return st.tuples(*[_of(item) for item in items])
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case mi.IntType():
            return st.integers(0, _WHOLE)
        case mi.FloatType():
            return st.floats(allow_nan=False)
        case mi.StrType():
            return st.text(max_size=12)
        case mi.BytesType():
            return st.binary(max_size=12)
        case mi.BoolType():
            return st.booleans()
        case mi.NoneType():
            return st.none()
        case _:
            raise TypeError(f"say here what to make of {info}")
