"""`alis clusters`: group a model's scenes into clusters."""

from __future__ import annotations

import click

from lhq.cli.talk import result, say


@click.command()
@click.argument("model", type=click.Path())
@click.option("-k", "--clusters", "num_clusters", type=int, default=16, show_default=True, help="How many clusters.")
@click.option("--samples", type=int, default=10_000, show_default=True, help="Codes to cluster.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
def command(model: str, num_clusters: int, samples: int, seed: int, device: str) -> None:
    """Cluster random codes by k-means and save the centres beside the model.

    Then --cluster 3 paints only scenes of that cluster, and --cluster nearest with --psi below 1 pulls
    every scene towards its own cluster's centre instead of the mean of all.

    \b
    Example:
      alis clusters runs/first
      alis panorama runs/first -o kinds.png --cluster nearest --psi 0.6
    """
    from alis import models
    from alis.painting import clusters
    from alis.painting.panorama import choose_device

    clusters.check(model)
    g = models.load(model, device=choose_device(device))
    found = clusters.compute(g, num_clusters=num_clusters, num_samples=samples, seed=seed)
    path = clusters.save(model, found)
    shares = [round(float(share), 4) for share in found.shares_K]
    table = ["cluster  share", *(f"{number:7d}  {share:6.1%}" for number, share in enumerate(shares))]
    result({"path": str(path), "shares": shares, "spread": found.spread}, *table)
    say(f"{path} · mean distance to the centre {found.spread:.3f}")
