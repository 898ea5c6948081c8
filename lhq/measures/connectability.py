"""Photo → how well its halves can be told apart → can its sides be continued.

The score is max(P(left | left half), P(right | right half)): a side recognised with confidence, left or right, can't
be continued. Scores are cross-fitted: photos fall into folds by their id, and each fold is
scored by a classifier that saw none of it, so every photo gets a score and none a memorised one.
The paper's best model was trained on photos with a score of at most 0.95.
Source: Skorokhodov, Sotnikov, Elhoseiny 2021, Algorithm 1 (whose published script took P(right | left half)).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pydantic

from lhq.errors import InputError, ShardDamaged
from lhq.measures import Measure, MeasureSettings, Score, Verdicts, fitted
from lhq.measures.outliers import device
from lhq.measures.prefetch import Fit, Halving, Pixels, Prefetcher, stored_photos
from lhq.records import Lane, Photo
from lhq.store.shards import Shards

if TYPE_CHECKING:
    from lhq.measures.half_classifier import Squares

log = logging.getLogger("lhq")
_CHUNK = 512


class ConnectabilitySettings(MeasureSettings):
    """`[filter.connectability]`: defaults are the published recipe."""

    judgement: ClassVar[frozenset[str]] = frozenset({"max_score", "batch", "num_threads", "device"})

    backbone: str = "wide_resnet50_2"
    """`wide_resnet50_2` with ImageNet weights, `tiny` (from scratch, needs no weights), or the path of a state dict."""
    folds: int = pydantic.Field(2, ge=2, le=10)
    """Number of classifiers; each photo is scored by the one that was not trained on its fold."""
    side_px: int = pydantic.Field(256, ge=32, multiple_of=2)
    """Side that photos are scaled to; 256 in the paper."""
    train_share: float = pydantic.Field(0.15, gt=0, le=0.45)
    """Share of all photos to train each classifier on."""
    validation_share: float = pydantic.Field(0.05, gt=0, le=0.45)
    """Share of all photos for choosing the best epoch."""
    max_train_rows: int = pydantic.Field(60_000, ge=2)
    """The training photos of a fold are kept as pixels in a temporary file, 0.2 MB each at 256 px."""
    epochs: int = pydantic.Field(10, ge=1)
    """Passes over the training photos; 10 in the paper."""
    train_batch: int = pydantic.Field(64, ge=2)
    """Halves per training step; 64 in the paper."""
    lr_backbone: float | None = pydantic.Field(None, gt=0)
    """Empty: 1e-5, or 1e-3 from scratch."""
    lr_head: float | None = pydantic.Field(None, gt=0)
    """Empty: 1e-4, or 1e-3 from scratch."""
    seed: int = 0
    """Decides which photos are for training or validation, and their order."""
    batch: int = pydantic.Field(64, ge=1)
    """Photos per forward pass when scoring."""
    num_threads: int = pydantic.Field(0, ge=0)
    """Decoding threads; 0: one per core."""
    device: str = pydantic.Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto (CUDA if there is a GPU), cpu, cuda, cuda:1, mps."""

    max_score: float = pydantic.Field(0.95, ge=0, le=1)
    """Drop photos with a higher score. Published thresholds: 0.5, 0.7, 0.95 and 0.99."""


class Connectability(Measure[ConnectabilitySettings]):
    """`p_left` = P(left | left half), `p_right` = P(right | right half), by the classifier of `fold`.

    The classifier sees the photo as exported: short side scaled to `side_px`, centre square.
    """

    name = "connectability"
    needs = ("torch", "torchvision")
    settings_class = ConnectabilitySettings
    question = "Can its left and right half be told apart? Then one side can't be continued."
    score = Score("Chance of telling the easier half", "max_score", "above")
    lane: Lane = "gpu"
    rows = 1000
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("said", pa.string()),
            pa.field("p_left", pa.float64()),
            pa.field("p_right", pa.float64()),
            pa.field("fold", pa.int8()),
            pa.field("fit", pa.string()),
        ]
    )
    judged: Sequence[str] = ["id", "error", "said", "p_left", "p_right"]

    def __init__(self, settings: ConnectabilitySettings) -> None:
        self.settings = settings
        self._place: tuple[str, str] | None = None

    def prepare(self, shards: Shards) -> None:
        """Train the classifiers that the store does not hold yet.

        Raises:
            InputError: too few photos to train on.
            WeightsMissing: the backbone's weights are not on disk and can't be fetched.
        """
        key = fitted.fit_key(self.name, self.version, self.settings)
        self._place = (shards.store, key)
        todo = [f for f in range(self.settings.folds) if fitted.read(shards.store, f"{key}-{f}") is None]
        if not todo:
            return
        ids = _ids(shards)
        for fold in todo:
            training, validation = split(itertools.chain.from_iterable(ids.values()), fold, self.settings)
            if len(training) < 2 or not validation:
                raise InputError(
                    f"[filter.connectability]: {len(training)} photos to train and {len(validation)} to validate "
                    "are too few",
                    hint="raise train_share and validation_share, or crawl more",
                )
            self._warn_of_few(sum(map(len, ids.values())), fold, len(training), len(validation))
            self._train(shards, ids, fold, training, validation)

    def _warn_of_few(self, num: int, fold: int, num_training: int, num_validation: int) -> None:
        """The two shares are of all photos, and both are drawn from the photos of the other folds."""
        given = self.settings
        wanted = min(given.max_train_rows, round(given.train_share * num))
        if num_training < 0.9 * wanted:
            log.warning(
                "[filter.connectability]: fold %d trains on %d of %d photos instead of %d: validation_share = %g takes "
                "%d of the %d outside the fold; lower it or train_share = %g, or raise folds = %d",
                fold + 1,
                num_training,
                num,
                wanted,
                given.validation_share,
                num_validation,
                num_training + num_validation,
                given.train_share,
                given.folds,
            )

    def _train(
        self, shards: Shards, ids: dict[int, list[str]], fold: int, training: set[str], validation: set[str]
    ) -> None:
        import torch

        from lhq.measures.half_classifier import Training, build, train

        given = self.settings
        is_new = given.backbone == "tiny"
        recipe = Training(
            given.epochs,
            given.train_batch,
            given.lr_backbone or (1e-3 if is_new else 1e-5),
            given.lr_head or (1e-3 if is_new else 1e-4),
            given.seed + fold,
        )
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = build(given.backbone, pretrained=True)
            with tempfile.TemporaryFile(prefix="lhq-halves-") as one, tempfile.TemporaryFile() as other:
                seen = self._squares(shards, ids, training, one)
                held = self._squares(shards, ids, validation, other)
                if len(seen) < 2 or not len(held):
                    raise InputError(
                        f"[filter.connectability]: only {len(seen)} of {len(training)} training photos decode",
                        hint="look at the facts of [filter.size], and crawl more",
                    )
                log.info("connectability: fold %d of %d: training on %d photos", fold + 1, given.folds, len(seen))
                best = train(model, seen, held, recipe, torch.device(device(given.device)))
        assert self._place is not None
        notes = {"fold": str(fold), "rows": str(len(seen)), "loss": repr(best.loss), "accuracy": repr(best.accuracy)}
        state = {name: value.numpy() for name, value in best.state.items()}
        fitted.save(shards.store, f"{self._place[1]}-{fold}", state, notes)

    def _squares(self, shards: Shards, ids: dict[int, list[str]], wanted: set[str], file: object) -> Squares:
        """Pixels of the wanted photos that decode, on disk: uint8 [N, S, S, 3]."""
        side = self.settings.side_px
        room: Squares = np.memmap(file, np.uint8, "w+", shape=(len(wanted), side, side, 3))  # type: ignore[call-overload]
        prefetcher = Prefetcher(Fit(side, side, square="cropped"), ahead=_CHUNK, num_threads=self.settings.num_threads)
        filled = 0
        for number, of_shard in ids.items():
            if wanted.isdisjoint(of_shard):
                continue
            photos = stored_photos(shards, number, wanted.__contains__)
            while chunk := list(itertools.islice(photos, _CHUNK)):
                for batch in prefetcher.batches(chunk, lambda: _CHUNK):
                    for image in batch.images:
                        room[filled] = image
                        filled += 1
        return room[:filled]

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Facts of these photos; `error` says why one can't be decoded."""
        assert self._place is not None, "prepare() comes before measure()"
        given = self.settings
        prefetcher = Prefetcher(
            Fit(given.side_px, given.side_px, square="cropped"), ahead=3 * given.batch, num_threads=given.num_threads
        )
        rows: list[dict[str, object]] = [{"id": p.id, "fold": fold_of(p.id, given.folds)} for p in photos]
        for fold in range(given.folds):
            of_fold = [row for row, photo in enumerate(photos) if fold_of(photo.id, given.folds) == fold]
            if not of_fold:
                continue
            score, name = _scorer(*self._place, fold, given.backbone, device(given.device), given.batch)
            for batch in prefetcher.batches([photos[row] for row in of_fold], lambda score=score: score.batch):  # type: ignore[misc]
                for row, error in zip(batch.rows, batch.errors, strict=False):
                    rows[of_fold[row]] |= {"error": error.reason, "said": error.message, "fit": name}
                if batch.images:
                    for row, (p_left, p_right) in zip(batch.rows, score(batch.images), strict=True):
                        rows[of_fold[row]] |= _facts(float(p_left), float(p_right), name)
        return pa.RecordBatch.from_pylist(rows, self.schema)

    def judge(self, facts: pa.Table, settings: ConnectabilitySettings) -> Verdicts:
        """The score is the larger of the two probabilities."""
        chances = [facts[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("p_left", "p_right")]
        score = np.maximum(*chances)
        with np.errstate(invalid="ignore"):
            kept = score <= settings.max_score

        def detail(row: int) -> str:
            if np.isnan(score[row]):
                return f"{facts['error'][row].as_py()}: {facts['said'][row].as_py()}"
            side = "left" if chances[0][row] >= chances[1][row] else "right"
            return "" if kept[row] else f"its {side} half is told with {score[row]:.3f}"

        return Verdicts(self.name, facts["id"], kept, score, detail)


def fold_of(id: str, folds: int) -> int:
    """The fold of a photo: a function of its id alone, so later photos don't change it."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8, person=b"fold").digest()) % folds


def split(ids: Iterable[str], fold: int, settings: ConnectabilitySettings) -> tuple[set[str], set[str]]:
    """Ids to train the classifier of `fold` on, and to validate it: disjoint, and none of that fold."""
    everything = list(ids)
    others = sorted(
        (hashlib.blake2b(id.encode(), digest_size=8, person=b"draw").digest(), id)
        for id in everything
        if fold_of(id, settings.folds) != fold
    )
    num_train = min(settings.max_train_rows, round(settings.train_share * len(everything)))
    num_validation = min(settings.max_train_rows, max(1, round(settings.validation_share * len(everything))))
    drawn = [id for _, id in others]
    return set(drawn[num_validation : num_validation + num_train]), set(drawn[:num_validation])


def _facts(p_left: float, p_right: float, fit: str) -> dict[str, object]:
    if np.isfinite(p_left) and np.isfinite(p_right):
        return {"p_left": p_left, "p_right": p_right, "fit": fit}
    return {"error": "not-finite", "said": "the classifier's chances are not numbers", "fit": fit}


def _ids(shards: Shards) -> dict[int, list[str]]:
    found = {}
    for number in shards.numbers():
        try:
            found[number] = shards.read(number, ["id"])["id"].to_pylist()
        except ShardDamaged as error:
            log.warning("connectability: left out of the training: %s", error.message)
    return found


@functools.lru_cache(maxsize=10)
def _scorer(
    store: str, key: str, fold: int, backbone: str, device: str, batch: int
) -> tuple[Halving[Pixels, np.ndarray], str]:
    """One classifier a fold and process: engines hand a fresh copy of the measure to every shard."""
    import torch

    from lhq.measures.half_classifier import build, sides

    found = fitted.read(store, f"{key}-{fold}")
    assert found is not None, "prepare() leaves a fit for every fold"
    model = build(backbone, pretrained=False)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in found[0].items()})
    place = torch.device(device)
    model = model.eval().to(place)
    return Halving(lambda images: list(sides(model, images, place)), batch, "[filter.connectability]"), f"{key}-{fold}"
