"""The Unsplash Dataset's tables → candidates: every photo of `photos.tsv*`, no key and no API.

The provider gives the tables on request: Lite (25,000 nature photos, any use) and Full (millions, non-commercial).
The image URLs are inside. Rows are read in place, a page at a time; the cursor is an offset in a file.
Source: github.com/unsplash/datasets, DOCS.md and TERMS.md.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import pydantic

from lhq import nearest
from lhq.config import PathSetting
from lhq.errors import InputError
from lhq.http import Client
from lhq.records import Candidate, Query
from lhq.rights.licences import Rights
from lhq.sources import Limits, Page, Skips, Source, SourceSettings, link, number, text
from lhq.sources.imgix import sized

PAGE_SIZE = 500
_LONGEST = 1 << 20
_NEEDED = {"photo_id", "photo_url", "photo_image_url"}


class UnsplashDatasetSettings(SourceSettings):
    """`[source.unsplash_dataset]`."""

    path: PathSetting
    """The folder with `photos.tsv000` … (or `photos.csv000` …), as unpacked."""
    edition: Literal["lite", "full"] = "lite"
    """The edition, which decides what its terms allow."""
    words: tuple[str, ...] = ()
    """Take only photos whose description holds one of these words; empty: all."""
    max_side_px: int = pydantic.Field(4096, ge=256)
    """Larger photos are requested with this longer side."""
    quality: int = pydantic.Field(92, ge=1, le=100)
    """JPEG quality to request for photos above `max_side_px`."""
    per_query: int = pydantic.Field(10_000_000, gt=0)
    """Most photos taken; the tables are one query."""


class UnsplashDataset(Source):
    """The tables of one edition.

    Raises:
        InputError: no table is there, or one lacks the columns that papers need.
    """

    name = "unsplash_dataset"
    settings_class = UnsplashDatasetSettings
    settings: UnsplashDatasetSettings
    needs_queries = False
    rights = Rights(
        train="yes",
        redistribute="no",
        commercial="by-licence",
        note="Unsplash Dataset: training is allowed (Full: non-commercial), the photos may not be passed on",
    )
    limits = Limits(page_size=0, calls_per_kept=0, photo_bytes=2_500_000, photos_per_s=10)

    def __init__(self, settings: UnsplashDatasetSettings, client: Client) -> None:
        self.settings = settings
        folder = Path(settings.path).expanduser()
        self._tables = sorted([*folder.glob("photos.tsv*"), *folder.glob("photos.csv*")])
        if not self._tables:
            raise InputError(
                f"[source.unsplash_dataset] path = {settings.path!r}: no photos.tsv* there",
                hint=nearest.path(folder, "ask for the tables at unsplash.com/data and unpack them"),
            )
        self._words = [word.casefold() for word in settings.words]

    def queries(self, asked: Sequence[Query]) -> Sequence[Query]:
        """Each table is one query."""
        return [Query(self._query(table)) for table in self._tables]

    def _query(self, table: Path) -> str:
        words = f" ({', '.join(self.settings.words)})" if self.settings.words else ""
        return f"unsplash dataset {self.settings.edition} {table.name}{words}"

    def search(self, query: Query, cursor: str | None) -> Page:
        """Cursor: the byte in the table where the next row begins."""
        table = next(each for each in self._tables if self._query(each) == query.text)
        skips = Skips()
        found: list[Candidate] = []
        try:
            with open(table, "rb") as file:
                first = file.readline(1 << 20)
                if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError(f"{table}: is UTF-16", hint="save it as UTF-8, or unpack it again")
                head = first.decode("utf-8-sig", "replace").rstrip("\r\n")
                mark = "\t" if "\t" in head else ","
                names = [name.strip() for name in next(csv.reader([head], delimiter=mark), [])]
                if not set(names) >= _NEEDED:
                    raise InputError(
                        f"{table}: no columns {', '.join(sorted(_NEEDED - set(names)))}",
                        hint="is this a photos table of the Unsplash Dataset?",
                    )
                if cursor is not None:
                    file.seek(int(cursor))
                for _ in range(PAGE_SIZE):
                    cells = _record(file, mark, len(names))
                    if cells is None:
                        return Page(tuple(found), None, None, skips.all())
                    if len(cells) != len(names):
                        skips.add("odd row")
                    elif candidate := self._candidate(dict(zip(names, cells, strict=True)), query, skips):
                        found.append(candidate)
                return Page(tuple(found), str(file.tell()), None, skips.all())
        except OSError as error:
            raise InputError(f"{table}: can't be read ({error.strerror})", hint="mend its permissions") from None

    def _candidate(self, row: dict[str, str], query: Query, skips: Skips) -> Candidate | None:
        source_id, raw, page_url = text(row["photo_id"]), link(row["photo_image_url"]), link(row["photo_url"])
        username = text(row.get("photographer_username"))
        names = (text(row.get("photographer_first_name")), text(row.get("photographer_last_name")))
        author = " ".join(part for part in names if part) or username
        if not (source_id and raw and page_url and author):
            skips.add("no papers")
            return None
        described = text(row.get("photo_description")) or text(row.get("ai_description"))
        if self._words:
            said = f"{described} {text(row.get('ai_description'))}".casefold()
            if not any(word in said for word in self._words):
                skips.add("other words")
                return None
        width, height = number(row.get("photo_width")), number(row.get("photo_height"))
        if width and height and min(width, height) < self.settings.min_side_px:
            skips.add("too small")
            return None
        return Candidate(
            source=self.name,
            source_id=source_id,
            url=sized(
                raw,
                width,
                height,
                max_side=self.settings.max_side_px,
                min_side=self.settings.min_side_px,
                quality=self.settings.quality,
            ),
            page_url=page_url,
            author=author,
            author_url=f"https://unsplash.com/@{username}" if username else "",
            licence=f"unsplash-dataset-{self.settings.edition}",
            query=query.text,
            width_px=width,
            height_px=height,
            description=described,
            taken_at=text(row.get("photo_submitted_at")),
        )


def _record(file: IO[bytes], mark: str, num: int) -> list[str] | None:
    """The cells of the next record, `num` if it is a good one, None at the end. A cell in quotes may hold line breaks;
    one whose quotes never close, or close in another row, spoils its own line alone."""
    start = file.tell()
    first = file.readline(_LONGEST)
    if not first:
        return None
    after_first = file.tell()

    def lines() -> Iterator[str]:
        yield first.decode("utf-8", "replace")
        while (line := file.readline(_LONGEST)) and file.tell() - start < _LONGEST:
            yield line.decode("utf-8", "replace")
        raise csv.Error("the quotes do not close")

    try:
        cells = [cell.rstrip("\r\n") for cell in next(csv.reader(lines(), delimiter=mark, strict=False), [])]
    except csv.Error:
        cells = []
    alone = first.decode("utf-8", "replace").rstrip("\r\n").split(mark)
    # A row that is good without a look at its quotes, whose quoted cell would swallow cells of the next.
    is_torn = mark == "\t" and len(alone) == num and any(mark in cell for cell in cells)
    if len(cells) == num and not is_torn:
        return cells
    file.seek(after_first)
    return alone
