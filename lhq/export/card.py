"""Rows → `README.md`: the card that the Hub shows, with YAML and text made from the rows alone.

It holds no dates and no local paths: the same rows give the same card.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import yaml

from lhq.export import layout
from lhq.export.credits import plain
from lhq.export.previous import sha256_of
from lhq.export.rows import Rows
from lhq.export.settings import ExportSettings
from lhq.export.shard_writer import Written
from lhq.rights.licences import LICENCES, Rights
from lhq.rights.reservations import count_signals
from lhq.store.atomic_file import write_atomically

_MARK = "\n<!-- written by lhq export: "
_CROISSANT = re.compile(rf"<!-- {re.escape(layout.CROISSANT)}: ([0-9a-f]{{64}}) -->")
LIMITS = (
    "Landscapes were sought by words and chosen by models: what those words and models miss is missing here.",
    "Licences and authors are what the sources stated on the day in `fetched_at`; they can have changed since.",
    "People may be in the distance of some photos; nobody was identified. Ask the maker to take a photo down.",
)


@dataclass(frozen=True)
class Facts:
    """The contents of a card: the published `table`, the `rows` it comes from, what each variant holds (none: only
    the manifest is published), the sources' terms, and why kept rows were left out (`skipped`: reason → rows)."""

    table: pa.Table
    rows: Rows
    settings: ExportSettings
    written: Sequence[Written]
    rights_of: Mapping[str, Rights]
    skipped: Mapping[str, int]


def write(folder: str, facts: Facts) -> None:
    """Write the card into a local folder that is otherwise complete: it holds the hash of `croissant.json`, which
    holds theirs.

    Raises:
        StoreError: it can't be written.
    """
    made = front_matter(facts.table, facts.rows.columns, facts.settings.name, facts.written)
    front = yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120)
    text = f"---\n{front}---\n\n{_body(facts)}"
    text = _signed(f"{text}\n<!-- {layout.CROISSANT}: {sha256_of(os.path.join(folder, layout.CROISSANT))} -->")
    write_atomically(
        fsspec.filesystem("file"), os.path.join(folder, layout.CARD), lambda sink: sink.write(text.encode())
    )


def _signed(text: str) -> str:
    """A card that ends in a hash of itself, so that an edited one is never overwritten."""
    return f"{text}{_MARK}{hashlib.sha256(text.encode()).hexdigest()[:16]} -->\n"


def croissant_sha256(path: str) -> str:
    """The sha256 that a card gives for `croissant.json`; "" if we did not write it so, or before cards gave one."""
    found = _CROISSANT.search(_text(path)) if is_as_written(path, may_be_unsigned=False) else None
    return found[1] if found else ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def is_as_written(path: str, *, may_be_unsigned: bool) -> bool:
    """Whether a card is as `write` left it.

    Args:
        may_be_unsigned: it was written before cards were signed.
    """
    text = _text(path)
    body, mark, _ = text.rpartition(_MARK)
    return text == _signed(body) if mark else bool(text) and may_be_unsigned


def front_matter(
    table: pa.Table, columns: Sequence[pa.Field], name: str, written: Sequence[Written]
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
        front["dataset_info"] = [_info(one, columns) for one in written]
        front["configs"] = [_config(one, is_default=one is written[0]) for one in written]
    else:
        files = [{"split": "train", "path": layout.MANIFEST}]
        front["configs"] = [{"config_name": "manifest", "data_files": files, "default": True}]
    return front


def licence_keys(table: pa.Table) -> dict[str, object]:
    """The card's licence, from the rows: one identifier if all rows agree, else all of them."""
    ids = sorted(set(table["licence"].to_pylist()))
    hub = sorted({LICENCES[id].hub for id in ids})
    keys: dict[str, object] = {"license": hub[0] if len(hub) == 1 else hub}
    if "other" in hub:
        alone = len(ids) == 1
        keys["license_name"] = ids[0] if alone else "each-photo-its-own"  # no spaces: the Hub takes an id here
        keys["license_link"] = (LICENCES[ids[0]].url if alone else "") or layout.LICENCES_PAGE
    return keys


def size_category(num_rows: int) -> str:
    """The Hub's size category for this many rows."""
    return next((word for limit, word in layout.SIZES if num_rows < limit), "n>1T")


def _info(one: Written, columns: Sequence[pa.Field]) -> dict[str, object]:
    splits = [
        {"name": split, "num_bytes": one.size_bytes[split], "num_examples": one.rows[split]} for split in one.rows
    ]
    size = sum(one.size_bytes.values())
    features = [_feature(field) for field in layout.row_schema(columns, {})]
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


def _body(facts: Facts) -> str:
    table, written = facts.table, facts.written
    parts = [
        f"# {facts.settings.name}",
        _opening(table, facts.settings.publish),
        _loading(written),
        _variants(facts),
        _columns(facts.rows),
        _sources(table, facts.rights_of),
        _licences(table),
        _reservations(table),
        _funnel(facts),
        _limits(table, written),
    ]
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


def _variants(facts: Facts) -> str:
    written = facts.written
    if not written:
        return ""
    lines = ["## Variants", "", "| name | pictures | split | rows | bytes |", "|---|---|---|---:|---:|"]
    for one in written:
        side = one.variant.side_px
        what = (
            _as_fetched(facts.settings)
            if side is None
            else f"centre square, {side} px, Lanczos, sRGB, upright, without metadata, {one.variant.format.upper()}"
        )
        for split in one.rows:
            lines.append(
                f"| `{one.variant.name}` | {what} | {split} | {one.rows[split]:,} | {one.size_bytes[split]:,} |"
            )
    lines += ["", "Rows are shuffled. A photo's split is a stable hash of its id: it never moves between versions."]
    return "\n".join(lines)


def _as_fetched(settings: ExportSettings) -> str:
    if settings.metadata == "keep":
        return "as fetched, **with the metadata of the files: places, names and serial numbers may stand in them**"
    return "as fetched, without the metadata of the files"


def _columns(rows: Rows) -> str:
    text = (
        "## Columns\n\n`image` is the picture, `image_sha256`, `image_width_px` and `image_height_px` are its own. "
        "`sha256`, `size_bytes`, `format`, `width_px`, `height_px` and `orientation` speak of the photo as it was "
        "fetched from `url`. `licence` is an id of `LICENCES.md`. `permits` lists what a permission allows beyond it, "
        "`reservations` says which opt-out signals were asked, each answer, and when."
    )
    if rows.extra:
        text += " Asked for: " + ", ".join(f"`{field.name}`" for field in rows.extra) + "."
    if rows.scores:
        text += " Scores: " + ", ".join(f"`{field.name}`" for field in rows.scores) + "."
    return text


def _sources(table: pa.Table, rights_of: Mapping[str, Rights]) -> str:
    counts = Counter(table["source"].to_pylist())
    lines = ["## Sources", "", "| source | rows | share | its terms |", "|---|---:|---:|---|"]
    for source, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {source} | {count:,} | {count / len(table):.1%} | {plain(rights_of[source].note)} |")
    papers = zip(
        *(table[name].to_pylist() for name in ("permits", "permission", "permission_by", "permission_on")), strict=True
    )
    for permits, statement, by, on in sorted({(tuple(permits), *rest) for permits, *rest in papers if permits}):
        said = f"“{plain(statement)}”" + (f", {plain(by)}" if by else "") + (f", {on}" if on else "")
        lines += ["", f"Permission to {', '.join(permits)}: {said}."]
    return "\n".join(lines)


def _reservations(table: pa.Table) -> str:
    """For each signal, how many rows were checked and with what result."""
    reservations = table["reservations"].to_pylist()
    num_asked = sum(bool(said) for said in reservations)
    lines = ["## Opt-outs", ""]
    if not num_asked:
        return "\n".join([*lines, "No host was asked: these rows are older than the question, or come from a disk."])
    lines += [f"Asked for {num_asked:,} of {len(table):,} rows; `reservations` holds each answer and its time."]
    lines += ["", "| signal | asked | silent | answered | said no |", "|---|---:|---:|---:|---:|"]
    for name, one in count_signals(reservations, table["reserved"].to_pylist()).items():
        if one.asked:
            lines.append(f"| {name} | {one.asked:,} | {one.silent:,} | {one.answered:,} | {one.reserved:,} |")
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


def _funnel(facts: Facts) -> str:
    rows, table = facts.rows, facts.table
    lines = ["## How it was made", "", "| | photos |", "|---|---:|", f"| gathered | {rows.num_photos:,} |"]
    lines += [f"| dropped: {reason} | {count:,} |" for reason, count in rows.funnel.items()]
    whole = {reason: count for reason, count in facts.skipped.items() if ": " not in reason}  # not of one variant
    lines += [f"| left out: {reason} | {count:,} |" for reason, count in whole.items()]
    left_out = len(rows.table) - len(table) - sum(whole.values())
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
