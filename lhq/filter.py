"""Photo → facts → verdict: measure each shard once, judge all of it at will.

Facts carry in their metadata what made them (`Made`): a shard is measured when its facts are missing, damaged
or made otherwise; a threshold moves nothing. Measures of the CPU lane that a shard lacks are taken together,
so its photos are read and decoded once for all of them.
A shard of photos that can't be read is moved to `quarantine/` and reported; the rest goes on. A photo without
facts is never kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq.engines import Engine, ShardReport
from lhq.errors import InputError, LhqError, ShardDamaged
from lhq.measures import JudgesAmong, Measure, MeasureSettings, Verdicts
from lhq.records import PHOTO_SCHEMA, VERDICT_SCHEMA, Photo
from lhq.shards import Shards, key, write_whole
