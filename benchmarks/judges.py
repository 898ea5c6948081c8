"""Models → ∞-FID at one side in several extractors, seam and repetition: an honest judge beside the one that trained.

    python benchmarks/judges.py data/painted64 demo runs/mine … --out benchmarks/results/judges.json

Frames anywhere on the plane, of every model brought to the side of the real pictures (area averages), against the same
real ones: many of both, since a few hundred differ from the rest by as much as a good model does. The row of real
pictures says how much: the distance to the others of as many of them as there are frames in a draw. Figures by the
extractor that a model was trained against flatter it and are marked so. Seam and repetition are of strips at a model's
own side, beside those of real pictures set side by side.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from alis.data import Loader, RankSlice, ReadOptions, open_catalogue
from alis.features.extractors import Extractor, open_features
from alis.metrics import EvaluationPlan, measure, strip_metrics
from alis.metrics.distances import frechet_distance
from alis.metrics.moments import Moments
from alis.models import Generator, load, sampling
from alis.models.model_folder import find, read_notes
from alis.training.monitor import machine

CPU = torch.device("cpu")
MOST_REAL = 5000
Row = dict[str, Any]


def moments(extractor: Any, images: list[Tensor]) -> tuple[Any, Any]:
    """Mean and covariance of features of uint8 batches [B, 3, R, R]."""
    kept = Moments()
    for batch in images:
        kept.add(extractor(batch))
    mean, covariance, _ = kept.finish(extractor.num_features, CPU)
    return mean, covariance


def colours(images: Tensor) -> Tensor:
    """Means and deviations of red, green and blue, 0 … 1."""
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


def painted(g: Generator, num: int, side: int, draw: int = 0) -> list[Tensor]:
    """Frames at random columns of random planes, uint8, at the side that is compared; others with every draw."""
    found = []
    for k in range(-(-num // 20)):
        frames = sampling.frames_anywhere(g, min(20, num - 20 * k), seed=1000 * (draw + 1) + k)
        if frames.shape[3] != side:
            frames = functional.interpolate(frames, size=(side, side), mode="area")
        found.append(sampling.to_uint8(frames))
    return found


class Judge:
    """Real pictures as each extractor and the strips see them, and what models are beside them.

    Args:
        data: an address of pictures, as `alis train` takes it.
        side: at which all are compared.
        num: frames of each model in a draw.
        num_draws: of which the median counts.
        features: names of extractors, as `alis evaluate` takes them; colours are judged besides.
        num_strips: strips of eight frames for seam and repetition.
    """

    def __init__(
        self,
        data: str,
        *,
        side: int = 64,
        num: int = 1000,
        num_draws: int = 3,
        features: list[str],
        num_strips: int = 8,
    ) -> None:
        self.side, self.num, self.num_draws = side, num, num_draws
        self.of_strips = EvaluationPlan(("seam", "repetition"), num_geometry=8 * num_strips)
        catalogue = open_catalogue(data)
        self.num_real = min(MOST_REAL, catalogue.num_images) // 40 * 40
        with Loader(catalogue, side, RankSlice(20, 20, 0, 1), ReadOptions(num_lanes=1), stop=self.num_real) as loader:
            real = [images.permute(0, 3, 1, 2) for images in loader]
        self.what = f"medians of {num_draws} draws of {num} frames, against {self.num_real} real pictures, at {side} px"
        self.extractors = {name: open_features(name, CPU) for name in features} | {
            "colours": Extractor("colours", 6, colours)
        }
        self.reals = {name: moments(extractor, real) for name, extractor in self.extractors.items()}
        few, others = real[: -(-num // 20)], real[-(-num // 20) :]
        self.of_reals = {
            f"inf-fid {name}": frechet_distance(*moments(extractor, few), *moments(extractor, others))
            for name, extractor in self.extractors.items()
        }
        together = torch.cat(few).float() / 127.5 - 1
        beside = torch.stack([torch.cat(list(eight), dim=2) for eight in together.split(8) if len(eight) == 8])
        tile = side // 2
        self.of_reals |= {
            "seam": strip_metrics.seam(together, tile),
            "repetition": strip_metrics.repetition(beside, side, tile),
        }

    def row_of_reals(self) -> Row:
        """The first row of a table: some of the real pictures against the others, their seam and repetition."""
        return {"model": "real pictures", **{name: round(value, 4) for name, value in self.of_reals.items()}}

    def row(self, model: str) -> Row:
        """A model's figures by name."""
        g, notes = load(model), read_notes(find(model))
        row: Row = {"model": Path(model).name, "side": g.config.resolution, "images": notes.get("images")}
        values: dict[str, list[float]] = {judge: [] for judge in self.extractors}
        for draw in range(self.num_draws):
            frames = painted(g, self.num, self.side, draw)
            for judge, extractor in self.extractors.items():
                values[judge].append(round(frechet_distance(*self.reals[judge], *moments(extractor, frames)), 4))
        for judge, found in values.items():
            middle = round(median(found), 4)
            row[f"inf-fid {judge}"] = middle if judge != notes.get("trained_with") else f"{middle} (flatters)"
            row[f"range {judge}"] = [min(found), max(found)]
        return row | {name: round(value, 3) for name, value in measure(g, None, self.of_strips).figures.items()}

    def record(self, rows: list[Row]) -> dict[str, Any]:
        """What a file of results holds."""
        return {
            "what": self.what,
            "rows": rows,
            "extractors": {judge: extractor.name for judge, extractor in self.extractors.items()},
            "machine": machine(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--features", nargs="*", default=["random", "detector", "lite2"])
    parser.add_argument("--strips", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    judge = Judge(
        asked.data,
        side=asked.side,
        num=asked.num,
        num_draws=asked.draws,
        features=asked.features,
        num_strips=asked.strips,
    )
    rows = [judge.row_of_reals()]
    for name in asked.models:
        rows.append(judge.row(name))
        print(json.dumps(rows[-1]), flush=True)
        asked.out.write_text(json.dumps(judge.record(rows), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
