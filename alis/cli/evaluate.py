"""`alis evaluate`: model and dataset → metrics, recorded together with everything they depend on."""

from __future__ import annotations

from typing import Literal

import click

from lhq.cli.talk import wants_json


@click.command("evaluate")
@click.argument("model")
@click.option("--data", help="Real pictures: folder, s3://… or hf://datasets/… of Parquet.")
@click.option(
    "--metrics",
    default="fid,inf-fid",
    show_default=True,
    help="Any of fid, inf-fid, kid, precision-recall, eq-t, path-length, seam, repetition, far-tiles; or all.",
)
@click.option("--num-images", "num", default=50_000, show_default=True, help="Number of generated pictures.")
@click.option("--num-real", type=int, help="Number of real pictures, chosen at random; default: all.")
@click.option(
    "--features",
    default="inception",
    show_default=True,
    help="inception, torchvision, lite0, lite2, detector, random, or a file.",
)
@click.option("--fit", type=click.Choice(["resize", "crop"]), default="resize", show_default=True, help="As data.fit.")
@click.option("--variant", help="Variant of an export, e.g. 256; default: the one of the model's resolution.")
@click.option("--psi", default=1.0, show_default=True, help="Truncation.")
@click.option("--seed", default=0, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def command(
    model: str,
    data: str | None,
    metrics: str,
    num: int,
    num_real: int | None,
    features: str,
    fit: Literal["resize", "crop"],
    variant: str | None,
    psi: float,
    seed: int,
    batch: int,
    device: str,
) -> int:
    """Measure a model folder or a run's newest snapshot; results are also added to its evaluation.jsonl.

    A metric that can't be measured is reported and the others are still measured; the exit code is then 1.

    \b
    Example:
      alis evaluate runs/first --data data/quickstart/export --num-images 5000 --features lite0
      torchrun --nproc-per-node=4 -m alis evaluate runs/lhq --data hf://datasets/me/lhq --metrics all
    """
    from alis.metrics import EvaluationPlan, ImageSelection, names
    from alis.training.launch import evaluate

    plan = EvaluationPlan(
        names(metrics), num=num, num_real=num_real, features=features, psi=psi, seed=seed, batch=batch, fit=fit
    )
    found = evaluate(model, data, plan, ImageSelection(variant=variant), device=device, is_json=wants_json())
    click.echo(found.text, nl=False)
    return 0 if found.is_complete else 1
