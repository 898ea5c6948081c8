"""Rows → `README.md`: the card that the Hub shows, its YAML and its text made from the rows alone.

No date and no path of the machine stands in it: the same rows give the same card.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import yaml

from lhq.export import layout
from lhq.export.rows import Rows
from lhq.export.shard_writer import Written
from lhq.rights.licences import LICENCES, Rights
from lhq.store.shards import write_whole

_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]

LIMITS = (
    "Landscapes were sought by words and chosen by models: what those words and models miss is missing here.",
    "Licences and authors are what the sources stated on the day in `fetched_at`; they can have changed since.",
    "People may be in the distance of some photos; nobody was identified. Ask the maker to take a photo down.",
)


def write(
    folder: str,
    table: pa.Table,
    rows: Rows,
    name: str,
    publish: str,
    written: Sequence[Written],
    rights_of: Mapping[str, Rights],
) -> None:
    """Write the card of `table` into a local folder.

    Args:
        rows: for the funnel and the score columns.
        written: what stands in each variant; none: only the manifest is published.

    Raises:
        StoreError: it can't be written.
    """
    front = yaml.safe_dump(
        front_matter(table, rows.scores, name, written), sort_keys=False, allow_unicode=True, width=120
    )
    text = f"---\n{front}---\n\n{_body(table, rows, name, publish, written, rights_of)}"
    write_whole(fsspec.filesystem("file"), os.path.join(folder, layout.CARD), lambda sink: sink.write(text.encode()))


def front_matter(
    table: pa.Table, scores: Sequence[pa.Field], name: str, written: Sequence[Written]
) -> dict[str, object]:
    """The card's YAML.

    Source: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
    """
    front: dict[str, object] = {
        **licence_keys(table),
        "pretty_name": name,
        "size_categories": [size_category(len(table))],
        "task_categories": ["unconditional-image-generation"],
        "source_datasets": ["original"],
        "tags": ["landscape", "photography", "image", "lhq"],
    }
    if written:
        front["dataset_info"] = [_info(one, scores) for one in written]
        front["configs"] = [_config(one, is_default=one is written[0]) for one in written]
    else:
        files = [{"split": "train", "path": layout.MANIFEST}]
        front["configs"] = [{"config_name": "manifest", "data_files": files, "default": True}]
    return front


def licence_keys(table: pa.Table) -> dict[str, object]:
    """The card's licence, from the rows: one identifier where all rows agree, else all of them."""
    ids = sorted(set(table["licence"].to_pylist()))
    hub = sorted({LICENCES[id].hub for id in ids})
    keys: dict[str, object] = {"license": hub[0] if len(hub) == 1 else hub}
    if "other" in hub:
        alone = len(ids) == 1
        keys["license_name"] = ids[0] if alone else "each-photo-its-own"
        keys["license_link"] = (LICENCES[ids[0]].url if alone else "") or layout.LICENCES_PAGE
    return keys


def size_category(num_rows: int) -> str:
    """The Hub's word for so many rows."""
    return next((word for limit, word in _SIZES if num_rows < limit), "n>10M")


def _info(one: Written, scores: Sequence[pa.Field]) -> dict[str, object]:
    splits = [
        {"name": split, "num_bytes": one.size_bytes[split], "num_examples": one.rows[split]} for split in one.rows
    ]
    size = sum(one.size_bytes.values())
    features = [_feature(field) for field in layout.row_schema(scores, {})]
    return {
        "config_name": one.variant.name,
        "features": features,
        "splits": splits,
        "download_size": size,
        "dataset_size": size,
    }


def _feature(field: pa.Field) -> dict[str, object]:
    if field.type == layout.IMAGE_TYPE:
        return {"name": field.name, "dtype": "image"}
    if pa.types.is_list(field.type):
        return {"name": field.name, "list": layout.value_dtype(field.type.value_type)}
    return {"name": field.name, "dtype": layout.value_dtype(field.type)}


def _config(one: Written, *, is_default: bool) -> dict[str, Any]:
    files = [{"split": split, "path": f"{one.folder}/{split}-*.parquet"} for split in one.rows]
    config: dict[str, Any] = {"config_name": one.variant.name, "data_files": files}
    return {**config, "default": True} if is_default else config


def _body(
    table: pa.Table, rows: Rows, name: str, publish: str, written: Sequence[Written], rights_of: Mapping[str, Rights]
) -> str:
    parts = [f"# {name}", _opening(table, publish), _loading(written), _variants(written), _columns(rows.scores)]
    parts += [_sources(table, rights_of), _licences(table), _funnel(rows, table), _limits(table, written)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(table: pa.Table, publish: str) -> str:
    text = (
        f"{len(table):,} landscape photographs, each with its source, author, licence and the scores it was judged by."
    )
    if publish == "manifest":
        return text + " This set holds no pictures: `manifest.parquet` says where each is and what it must hash to."
    if publish == "private":
        return text + " **Private: this copy was made for its maker's own use and is not to be handed on.**"
    return text


def _loading(written: Sequence[Written]) -> str:
    config = f', "{written[0].variant.name}"' if len(written) > 1 else ""
    lines = ["```python", "from datasets import load_dataset", f'rows = load_dataset("DIR"{config}, split="train")']
    if written:
        lines.append('rows[0]["image"]  # a PIL image')
    lines.append("```")
    return "## Load\n\n" + "\n".join(lines)


def _variants(written: Sequence[Written]) -> str:
    if not written:
        return ""
    lines = ["## Variants", "", "| name | pictures | split | rows | bytes |", "|---|---|---|---:|---:|"]
    for one in written:
        side = one.variant.side_px
        what = (
            "bytes as fetched"
            if side is None
            else f"centre square, {side} px, Lanczos, sRGB, upright, without metadata, {one.variant.format.upper()}"
        )
        for split in one.rows:
            lines.append(
                f"| `{one.variant.name}` | {what} | {split} | {one.rows[split]:,} | {one.size_bytes[split]:,} |"
            )
    lines += ["", "Rows are shuffled. A photo's split is a stable hash of its id: it never moves between versions."]
    return "\n".join(lines)


def _columns(scores: Sequence[pa.Field]) -> str:
    text = (
        "## Columns\n\n`image` is the picture, `image_sha256`, `image_width_px` and `image_height_px` are its own. "
        "`sha256`, `size_bytes`, `format`, `width_px`, `height_px` and `orientation` speak of the photo as it was "
        "fetched from `url`. `licence` is an id of `LICENCES.md`."
    )
    if scores:
        text += " Scores: " + ", ".join(f"`{field.name}`" for field in scores) + "."
    return text


def _sources(table: pa.Table, rights_of: Mapping[str, Rights]) -> str:
    counts = Counter(table["source"].to_pylist())
    lines = ["## Sources", "", "| source | rows | share | its terms |", "|---|---:|---:|---|"]
    for source, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {source} | {count:,} | {count / len(table):.1%} | {rights_of[source].note} |")
    permissions = sorted(set(table["permission"].to_pylist()) - {""})
    if permissions:
        lines += ["", "Permissions stated by the maker: " + "; ".join(f"“{one}”" for one in permissions) + "."]
    return "\n".join(lines)


def _licences(table: pa.Table) -> str:
    counts = Counter(table["licence"].to_pylist())
    lines = ["## Licences", "", "| licence | rows | commercial use |", "|---|---:|---|"]
    for id, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        one = LICENCES[id]
        lines.append(f"| [{one.name}]({one.url or layout.LICENCES_PAGE}) | {count:,} | {_yes(one.commercial)} |")
    lines += [
        "",
        f"Each photo keeps its own licence. Authors: `{layout.CREDITS}`, a sample in `{layout.CREDITS_SAMPLE}`.",
    ]
    return "\n".join(lines)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _funnel(rows: Rows, table: pa.Table) -> str:
    lines = ["## How it was made", "", "| | photos |", "|---|---:|", f"| gathered | {rows.num_photos:,} |"]
    lines += [f"| dropped: {reason} | {count:,} |" for reason, count in rows.funnel.items()]
    left_out = len(rows.table) - len(table)
    if left_out:
        lines.append(f"| left out of this version (licence, or not renderable) | {left_out:,} |")
    lines.append(f"| **published** | **{len(table):,}** |")
    return "\n".join(lines)


def _limits(table: pa.Table, written: Sequence[Written]) -> str:
    found = list(LIMITS)
    failed = {id for one in written for id in one.failed}
    if failed:
        found.append(f"{len(failed):,} photos could not be rendered in every variant and are missing there.")
    if any(not LICENCES[id].derivatives for id in set(table["licence"].to_pylist())):
        found.append("Some licences forbid changed versions: publish no crops of those photos.")
    return "## Known limits\n\n" + "\n".join(f"- {one}" for one in found)
