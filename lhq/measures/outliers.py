"""Photo → how typical its features are among trusted photos → drop the least typical.

One Gaussian is fitted to the features of trusted photos and kept in the store; every photo gets its
log-likelihood under it. The paper dropped the least likely. The published LHQ is sorted by it, so it must be shuffled
before use; here the score is a column.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq import nearest
from lhq.config import WordOrFile
from lhq.errors import InputError, LhqError, ShardDamaged
from lhq.measures import Judges, Measure, MeasureSettings, Score, Verdicts, fitted
from lhq.measures.features import Extractor, Floats, open_extractor
from lhq.measures.gaussian import Gaussian, Moments
from lhq.measures.prefetch import Halving, Pixels, Prefetcher, stored_photos
from lhq.records import Lane, Photo
from lhq.store import verdicts
from lhq.store.shards import Shards
from lhq.text_file import read_text

log = logging.getLogger("lhq")
_CHUNK = 512  # photos decoded and extracted between two updates of the moments


class OutliersSettings(MeasureSettings):
    """`[filter.outliers]`."""

    judgement: ClassVar[frozenset[str]] = frozenset(
        {"drop_share", "min_log_likelihood", "batch", "num_threads", "device"}
    )

    features: WordOrFile = "inception"
    """`inception` (the paper's), `dinov2`, `thumbnail` (handmade, needs no weights), or a TorchScript file."""
    trusted: WordOrFile = "all"
    """Photos to fit the Gaussian to: `all`, `kept` (by the last `lhq filter`, ignoring this measure), or a file of
    photo ids, one per line."""
    trusted_queries: tuple[str, ...] = ()
    """Trust only photos found by one of these queries; empty: by any query."""
    fit_rows: int = pydantic.Field(20_000, ge=2)
    """Most trusted photos to use, always the same ones."""
    shrinkage: Literal["auto"] | float = "auto"
    """Shrinkage of the covariance towards the identity, 0..1; `auto`: by the oracle-approximating rule."""
    batch: int = pydantic.Field(64, ge=1)
    """Photos per forward pass; halved automatically when memory runs out."""
    num_threads: int = pydantic.Field(0, ge=0)
    """Decoding threads; 0: one per core."""
    # Left out of dumps, so that facts, fits and verdicts of older stores stay valid without it.
    keep_features: bool = pydantic.Field(False, exclude=True)
    """Keep every photo's features as a column of facts, `embedding` (float32): `[export] columns = ["embedding"]`
    publishes them. Switching it on measures all photos again."""
    device: str = pydantic.Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto (CUDA if there is a GPU), cpu, cuda, cuda:1, mps."""

    drop_share: float = pydantic.Field(0.05, ge=0, lt=1)
    """Drop this share of the photos, the least likely."""
    min_log_likelihood: float | None = None
    """Drop photos below this log-likelihood instead of a share."""

    @pydantic.field_validator("shrinkage")
    @classmethod
    def _shrinkage_is_a_share(cls, given: str | float) -> str | float:
        if isinstance(given, float) and not 0 <= given <= 1:
            raise ValueError("is not between 0 and 1")
        return given


class Outliers(Measure[OutliersSettings]):
    """`log_likelihood` of the photo's features under the trusted Gaussian; `fit` names that Gaussian."""

    name = "outliers"
    needs = ("torch", "torchvision")
    settings_class = OutliersSettings
    question = "Does it look like the photos that are trusted?"
    score = Score("Log-likelihood", "min_log_likelihood", "below")
    judges: Judges = "by-share"
    lane: Lane = "gpu"
    rows = 1000
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("said", pa.string()),
            pa.field("log_likelihood", pa.float64()),
            pa.field("fit", pa.string()),
        ]
    )
    judged: Sequence[str] = ["id", "error", "said", "log_likelihood", "fit"]

    def __init__(self, settings: OutliersSettings) -> None:
        self.settings = settings
        if settings.keep_features:
            self.schema = pa.schema([*Outliers.schema, pa.field("embedding", pa.list_(pa.float32()))])
        self._place: tuple[str, str] | None = None
        self._gaussian: Gaussian | None = None
        self._fit = ""

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_gaussian": None}

    def lacks(self) -> str:
        """The extractor's weights, if missing on this machine."""
        try:
            _open(self.settings)
        except LhqError as error:
            return f"outliers: {error}"
        return ""

    def prepare(self, shards: Shards) -> None:
        """Fit the Gaussian to the trusted photos, unless the store holds that fit already.

        Raises:
            InputError: fewer than ten trusted photos, or no such file of ids.
            WeightsMissing: see `open_extractor`.
        """
        key = fitted.fit_key(self.name, self.version, self.settings)
        self._place = (shards.store, key)
        if fitted.read(*self._place) is not None:
            return
        extractor, _ = _open(self.settings)
        moments = Moments(extractor.num_features)
        seen = 0
        for chunk in _chunks(_trusted(shards, self.settings)):
            features, _ = self._features(chunk)
            moments.add(features[np.isfinite(features).all(axis=1)])
            seen += len(chunk)
            log.info("outliers: features of %s trusted photos", f"{seen:,}")
        if moments.num < 10:
            raise InputError(
                f"[filter.outliers]: {moments.num} trusted photos are too few for a Gaussian",
                hint="trust more of them (trusted, trusted_queries), or crawl more",
            )
        shrinkage = None if self.settings.shrinkage == "auto" else float(self.settings.shrinkage)
        gaussian = Gaussian.fit(moments, shrinkage)
        log.info("outliers: %s on %d photos, shrinkage %.3f", extractor.name, gaussian.num, gaussian.shrinkage)
        fitted.save(
            *self._place,
            {"mean": gaussian.mean_D, "whiten": gaussian.whiten_DD},
            {
                "features": extractor.name,
                "num": str(gaussian.num),
                "shrinkage": repr(gaussian.shrinkage),
                "half_log_det": repr(gaussian.half_log_det),
            },
        )

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos; `error` is `not-finite` where a feature is not a number."""
        gaussian = self._fitted()
        features, errors = self._features(photos)
        likelihood = gaussian.log_likelihood(features)
        rows = []
        for photo, value, problem, found in zip(photos, likelihood, errors, features, strict=True):
            error, said = problem or ("", "")
            if not error and not np.isfinite(value):
                error, said = "not-finite", f"the features of {self.settings.features} are not all numbers"
            rows.append(
                {"id": photo.id, "fit": self._fit}
                | ({"error": error, "said": said} if error else {"log_likelihood": float(value)})
                | ({} if error or not self.settings.keep_features else {"embedding": found.astype(np.float32)})
            )
        return pa.RecordBatch.from_pylist(rows, self.schema)

    def judge(self, facts: pa.Table, settings: OutliersSettings) -> Verdicts:
        """The score is the log-likelihood; the bar is `min_log_likelihood`, or where `drop_share` of `facts` ends."""
        made_by = [name for name in pc.unique(facts["fit"]).to_pylist() if name]
        if len(made_by) > 1:
            log.warning("outliers: facts come from %d fits and are not comparable; measure again", len(made_by))
        score = facts["log_likelihood"].to_numpy(zero_copy_only=False).astype(np.float64)
        bar = settings.min_log_likelihood
        if bar is None:
            bar = lowest(score, settings.drop_share)
        with np.errstate(invalid="ignore"):
            kept = score >= bar

        def detail(row: int) -> str:
            if np.isnan(score[row]):
                return f"{facts['error'][row].as_py()}: {facts['said'][row].as_py()}"
            return "" if kept[row] else f"log-likelihood {score[row]:.1f}, the bar is {bar:.1f}"

        return Verdicts(self.name, facts["id"], kept, score, detail)

    def _fitted(self) -> Gaussian:
        if self._gaussian is None:
            assert self._place is not None, "prepare() comes before measure()"
            found = fitted.read(*self._place)
            assert found is not None, "prepare() leaves a fit"
            arrays, notes = found
            self._gaussian = Gaussian(
                arrays["mean"].astype(np.float64),
                arrays["whiten"].astype(np.float64),
                float(notes["half_log_det"]),
                int(notes["num"]),
                float(notes["shrinkage"]),
            )
            self._fit = self._gaussian.fingerprint()
        return self._gaussian

    def _features(self, photos: Sequence[Photo]) -> tuple[Floats, list[tuple[str, str] | None]]:
        """Features [N, D], NaN in the rows that could not be decoded, and why."""
        extractor, extract = _open(self.settings)
        features = np.full((len(photos), extractor.num_features), np.nan)
        errors: list[tuple[str, str] | None] = [None] * len(photos)
        prefetcher = Prefetcher(extractor.fit, ahead=3 * self.settings.batch, num_threads=self.settings.num_threads)
        for batch in prefetcher.batches(photos, lambda: extract.batch):
            for row, error in zip(batch.rows, batch.errors, strict=False):
                errors[row] = error.reason, error.message
            if batch.images:
                features[batch.rows] = np.stack(extract(batch.images))
        return features, errors


@functools.lru_cache(maxsize=1)
def _opened(kind: str, device: str, batch: int) -> tuple[Extractor, Halving[Pixels, Floats]]:
    """One extractor per process, since engines give every shard a fresh copy of the measure."""
    extractor = open_extractor(kind, device)
    return extractor, Halving(lambda images: list(extractor.extract(images)), batch, "[filter.outliers]")


def _open(settings: OutliersSettings) -> tuple[Extractor, Halving[Pixels, Floats]]:
    return _opened(settings.features, device(settings.device), settings.batch)


def device(wanted: str) -> str:
    """`auto` as CUDA if there is a GPU, else the CPU."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def lowest(score: np.ndarray, share: float) -> float:
    """The bar under which `share` of the finite scores lie: rounded down, so that 0 drops none."""
    finite = np.sort(score[np.isfinite(score)])
    return float(finite[int(share * len(finite))]) if len(finite) else float("-inf")


def _chunks(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    chunk: list[Photo] = []
    for photo in photos:
        chunk.append(photo)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _trusted(shards: Shards, settings: OutliersSettings) -> Iterator[Photo]:
    """At most `fit_rows` trusted photos, chosen by a hash of the id."""
    trusts = _trust(shards, settings.trusted)
    queries = {" ".join(query.split()).casefold() for query in settings.trusted_queries}
    ids: dict[int, list[str]] = {}
    for number in shards.numbers():
        try:
            table = shards.read(number, ["id", "queries"])
        except ShardDamaged as error:
            log.warning("outliers: left out of the fit: %s", error.message)
            continue
        found = zip(table["id"].to_pylist(), table["queries"].to_pylist() if queries else table["id"], strict=True)
        ids[number] = [
            id
            for id, by in found
            if trusts(id) and (not queries or any(" ".join(q.split()).casefold() in queries for q in by))
        ]
    ranked = sorted((hashlib.blake2b(id.encode(), digest_size=8).digest(), id) for all_ in ids.values() for id in all_)
    chosen = {id for _, id in ranked[: settings.fit_rows]}
    for number, of_shard in ids.items():
        if not chosen.isdisjoint(of_shard):
            yield from stored_photos(shards, number, chosen.__contains__)


def _trust(shards: Shards, trusted: str) -> Callable[[str], bool]:
    if trusted == "all":
        return lambda id: True
    if trusted == "kept":
        table = verdicts.read(shards.store, ["id", "failed"])
        if table is None:
            raise InputError(
                '[filter.outliers]: trusted = "kept", but nothing has been judged yet',
                hint="run lhq filter once without [filter.outliers]",
            )
        pairs = zip(table["id"].to_pylist(), table["failed"].to_pylist(), strict=True)
        return {id for id, failed in pairs if not set(failed) - {"outliers"}}.__contains__
    try:
        return {line.strip() for line in read_text(Path(trusted)).splitlines() if line.strip()}.__contains__
    except FileNotFoundError:
        raise InputError(
            f"[filter.outliers]: trusted = {trusted!r}: no such file",
            hint=nearest.path(trusted, 'set "all", "kept", or a file of photo ids, one a line'),
        ) from None
    except UnicodeError as error:
        raise InputError(f"[filter.outliers]: trusted = {trusted!r} {error}", hint="save it as UTF-8") from None
    except OSError as error:
        raise InputError(
            f"[filter.outliers]: trusted = {trusted!r} can't be read ({error.strerror})",
            hint='set "all", "kept", or a file of photo ids, one a line',
        ) from None
