"""`alis evaluate`: a model and a dataset → figures, with everything they depend on beside them."""

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
@click.option("--num-images", "num", default=50_000, show_default=True, help="Generated pictures.")
@click.option("--num-real", type=int, help="Real pictures, at random; default: all.")
@click.option(
    "--features",
    default="inception",
    show_default=True,
    help="inception, torchvision, lite0, lite2, detector, random, or a file.",
)
@click.option("--fit", type=click.Choice(["resize", "crop"]), default="resize", show_default=True, help="As data.fit.")
@click.option("--variant", help="Which variant of an export, e.g. 256; default: the one of the model's side.")
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
    """Measure a model folder, or a run's newest snapshot; what was measured is also kept in its evaluation.jsonl.

    A metric that can't be measured is named, and leaves the others as they are; the exit code is then 1.

    \b
    Example:
      alis evaluate runs/first --data data/quickstart/export --num-images 5000 --features lite0
      torchrun --nproc-per-node=4 -m alis evaluate runs/lhq --data hf://datasets/me/lhq --metrics all
    """
    from alis.metrics import Plan, Wanted, names
    from alis.training.launch import evaluate

    plan = Plan(names(metrics), num=num, num_real=num_real, features=features, psi=psi, seed=seed, batch=batch, fit=fit)
    found = evaluate(model, data, plan, Wanted(variant=variant), device=device, is_json=wants_json())
    click.echo(found.text, nl=False)
    return 0 if found.is_complete else 1
