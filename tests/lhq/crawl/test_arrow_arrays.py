"""Arrays made without pandas are those that Arrow makes, and a crawl never loads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhq.crawl.arrow_arrays import array

ROOT = Path(__file__).parents[3]
_texts = st.text(st.characters(exclude_categories=["Cs"]))
_KINDS = [
    (pa.string(), _texts),
    (pa.list_(pa.string()), st.lists(_texts, max_size=4)),
    (pa.int8(), st.integers(1, 8)),
    (pa.int32(), st.integers(0, 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.one_of(st.none(), st.floats(allow_nan=False))),
    (pa.timestamp("ms", tz="UTC"), st.integers(0, 4 * 10**12)),
]


@settings(deadline=None)
@given(st.sampled_from(_KINDS).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.lists(pair[1], max_size=20))))
def test_they_are_those_of_arrow(pair: tuple[pa.DataType, list[Any]]) -> None:
    kind, values = pair
    made = array(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@pytest.mark.parametrize(
    ("values", "kind", "error"),
    [([300], pa.int8(), OverflowError), ([True], pa.bool_(), TypeError), (["\ud800"], pa.string(), ValueError)],
)
def test_what_does_not_fit_is_refused(values: list[Any], kind: pa.DataType, error: type[Exception]) -> None:
    with pytest.raises(error):
        array(values, kind)


def test_a_shard_is_sealed_without_pandas(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import lhq.crawl\n"
        "from lhq.crawl.spool import Spool\n"
        "from lhq.store.shards import Shards\n"
        "from tests.lhq.crawl.test_spool import record\n"
        "loaded = 'pandas' in sys.modules\n"  # by what tests import
        "sys.modules.pop('pandas', None)\n"
        "spool = Spool(sys.argv[1], 0)\n"
        "spool.append(record('a', b'one'), b'one')\n"
        "assert spool.seal(Shards(sys.argv[1], 'photos'), lambda ids: {}) == 1\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
