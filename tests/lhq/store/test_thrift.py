"""Thrift's compact protocol: what Arrow writes in it is read, and written again byte for byte."""

from __future__ import annotations

import datetime
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhq.store import thrift
from lhq.store.thrift import BINARY, DOUBLE, FALSE, I16, I32, I64, LIST, MAP, STRUCT, TRUE, decoded, encoded

_pairs = st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 9)), min_size=1, max_size=5)
_plain = st.one_of(
    st.tuples(st.just(I16), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(BINARY), st.binary(max_size=40)),
    st.tuples(st.sampled_from([TRUE, FALSE]), st.none()),
    st.tuples(st.just(LIST), st.tuples(st.just(I32), st.lists(st.integers(-9, 9), max_size=20))),
    st.tuples(
        st.just(MAP), st.tuples(st.just((BINARY, I64)), st.lists(st.tuples(st.binary(), st.integers(0, 9)), min_size=1))
    ),
)
_fields = st.recursive(
    _plain,
    lambda inner: st.one_of(
        st.tuples(st.just(STRUCT), st.dictionaries(st.integers(1, 300), inner, max_size=5)),
        st.tuples(
            st.just(LIST),
            st.tuples(st.just(STRUCT), st.lists(st.dictionaries(st.integers(1, 20), inner, max_size=3), max_size=3)),
        ),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 300), _fields, max_size=8))
def test_a_struct_survives_encoding_and_decoding(fields: thrift.Struct) -> None:
    assert decoded(encoded(fields)) == fields


def test_arrows_footers_are_encoded_to_the_same_bytes() -> None:
    columns = {
        "text": ["a", None, "c" * 500],
        "number": [1, None, 2**62],
        "list": [["x", "y"], [], None],
        "at": [datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC), None, None],
        "share": [0.5, None, -1.0],
        "truth": [True, None, False],
    }
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        pa.table(columns).schema.with_metadata({"key": "value" * 100}),
        write_page_index=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(1)],
        bloom_filter_options={"text": {"ndv": 10}},
    ) as writer:
        for _ in range(20):
            writer.write_table(pa.table(columns))
    whole = sink.getvalue()
    footer = whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8]
    assert encoded(decoded(footer)) == footer
    assert len(decoded(footer)[4][1][1]) == 20


@pytest.mark.parametrize("broken", [b"", b"\x15", b"\x18\x05ab", b"\x1d\x00", b"\x19\xf5\xff"])
def test_invalid_data_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="compact protocol"):
        decoded(broken)
