"""Who made the photos: `CREDITS.parquet` for all rows, `CREDITS.md` to read, `LICENCES.md` for the licences."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import IO
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhq.export import layout
from lhq.export.layout import Variant
from lhq.export.shard_writer import Written
from lhq.rights.licences import LICENCES
from lhq.store.atomic_file import write_atomically

_SAMPLE_ROWS = 100
_IN_ADDRESSES = "%/:?#@!$&*+,;=~'-._"  # all but what ends a Markdown link


def write(folder: str, rows: pa.Table, written: Sequence[Written]) -> None:
    """Write the three files for `rows` into a local folder.

    Raises:
        StoreError: they can't be written.
    """
    disk = fsspec.filesystem("file")
    table = credits(rows, written)
    write_atomically(
        disk,
        os.path.join(folder, layout.CREDITS),
        lambda sink: pq.write_table(
            table, sink, compression="zstd", use_content_defined_chunking=True, write_page_checksum=True
        ),
    )
    pages = {layout.CREDITS_SAMPLE: sample(table), layout.LICENCES_PAGE: licences_page(rows)}
    for name, text in pages.items():
        write_atomically(disk, os.path.join(folder, name), partial(_write_text, text))


def _write_text(text: str, sink: IO[bytes]) -> None:
    sink.write(text.encode())


def credits(rows: pa.Table, written: Sequence[Written]) -> pa.Table:
    """One credit per row: title, author, source, licence (the four that CC requires), what was changed, and the
    author's own wording of the credit, if known."""
    table = rows.select(["id", "title", "author", "author_url", "page_url", "source", "licence", "attribution"])
    known = [LICENCES[id] for id in rows["licence"].to_pylist()]
    authors = [author.strip() for author in table["author"].to_pylist()]
    return (
        table.set_column(table.column_names.index("author"), "author", pa.array(authors, pa.string()))
        .append_column("licence_name", pa.array([one.name for one in known], pa.string()))
        .append_column("licence_url", pa.array([one.url for one in known], pa.string()))
        .append_column("changes", pa.array(_changes(rows, written), pa.string()))
        .replace_schema_metadata(None)
    )


def _changes(rows: pa.Table, written: Sequence[Written]) -> list[str]:
    """What was changed in each row's variants: nothing if it is in `full` only."""
    parts: list[set[str]] = [set() for _ in range(len(rows))]
    for one in written:
        if said := _change(one.variant):
            for row in pc.indices_nonzero(pc.is_in(rows["id"], one.ids)).to_pylist():
                parts[row].add(said)
    return ["; ".join(sorted(part)) for part in parts]


def _change(variant: Variant) -> str:
    if variant.side_px is None:
        return ""
    return f"cropped to the centre square, scaled to {variant.side_px} px, converted to sRGB"


def sample(table: pa.Table) -> str:
    """The first credits as Markdown."""
    shown = table.slice(0, _SAMPLE_ROWS).to_pylist()
    lines = ["# Credits", "", f"{len(shown):,} of {len(table):,}; all of them are in `{layout.CREDITS}`.", ""]
    for row in shown:
        title = linked(row["title"].strip() or "Untitled", row["page_url"])
        author = linked(row["author"].strip() or "unknown", row["author_url"])
        wording = f" ({plain(row['attribution'])})" if row["attribution"].strip() else ""
        changes = f"; {row['changes']}" if row["changes"] else ""
        licence = linked(row["licence_name"], row["licence_url"])
        lines.append(f"- {title} by {author}{wording}, {row['source']}, {licence}{changes}")
    return "\n".join(lines) + "\n"


def licences_page(rows: pa.Table) -> str:
    """Every licence in the set, what it requires, and how many rows have it."""
    counts = Counter(rows["licence"].to_pylist())
    lines = [
        "# Licences",
        "",
        "Each photo keeps its own licence, in the column `licence`; what you may do with the set is what you may do",
        f"with every photo you use of it. Authors are named in `{layout.CREDITS}`.",
        "",
        "| licence | rows | name the author | commercial use | changes | share alike |",
        "|---|---:|---|---|---|---|",
    ]
    for id, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        one = LICENCES[id]
        name = f"[{one.name}]({one.url})" if one.url else one.name
        answers = [one.attribution, one.commercial, one.derivatives, one.share_alike]
        lines.append(f"| {name} | {count:,} | " + " | ".join("yes" if answer else "no" for answer in answers) + " |")
    return "\n".join(lines) + "\n"


def linked(text: str, address: str) -> str:
    """Text as a Markdown link, or plain if a browser could not open the address."""
    text = plain(text)
    if not address.startswith(("https://", "http://")):
        return text
    return f"[{text}]({quote(address, safe=_IN_ADDRESSES)})"


def plain(text: str) -> str:
    """Free text that can't break out of a Markdown link, table or line."""
    text = " ".join(text.split())
    for sign in "\\`*_[]<>|~":
        text = text.replace(sign, f"\\{sign}")
    return re.sub(r"^(\d*)([-+#=.)])", r"\1\\\2", text)  # nor begin a heading or a list
