"""Photo → what its title, tags and description say, and whether that betrays something else than a landscape.

Words are compared whole, without case and accents ("Hochzeitstal" is no wedding, "WÉDDING" is one); scripts
without spaces are compared sign by sign. The facts are the folded words, so lists can change without a look
at the photos.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.measures import Lane, MeasureSettings, Verdicts
from lhq.records import Photo
from lhq.shards import Shards

Field = Literal["title", "tags", "description"]
_FIELDS: tuple[Field, ...] = ("title", "tags", "description")


class TextSettings(MeasureSettings):
    """`[filter.text]`: all keys are thresholds."""

    judgement: ClassVar[frozenset[str]] = frozenset(
        {"fields", "builtin", "blacklist", "whitelist", "require", "max_words"}
    )

    fields: tuple[Field, ...] = _FIELDS
    """Where words are sought."""
    builtin: bool = True
    """Use the list of words that betray non-landscapes, `lhq/measures/non_landscape_words.txt`."""
    blacklist: tuple[str, ...] = ()
    """More words or phrases that drop a photo."""
    whitelist: tuple[str, ...] = ()
    """Phrases that are no reason to drop: they are taken out before blacklisted words are sought, so "car" may be
    whitelisted to lift it from the list, or "car park" to excuse only that."""
    require: tuple[str, ...] = ()
    """A photo needs one of these words or phrases; empty: none."""
    max_words: int = pydantic.Field(0, ge=0)
    """So many blacklisted words are put up with."""

    @pydantic.field_validator("blacklist", "whitelist", "require")
    @classmethod
    def _has_letters(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            if not fold(phrase).strip():
                raise ValueError(f"{phrase!r} holds no letter or digit")
        return phrases


class Text:
    """Facts: the folded words of each field, between spaces."""

    name = "text"
    lane: Lane = "cpu"
    version = 1
    rows = 1024
    needs_bytes = False
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)] + [pa.field(f, pa.string()) for f in _FIELDS])
    judged: Sequence[str] = schema.names

    def __init__(self, settings: TextSettings) -> None:
        self.settings = settings

    def prepare(self, shards: Shards) -> None:
        """Nothing to learn."""

    def measure(self, photos: Sequence[Photo]) -> pa.RecordBatch:
        """Folded words of these photos; tags keep apart, so no phrase spans two of them."""
        columns = [
            [photo.id for photo in photos],
            [fold(photo.title) for photo in photos],
            ["|".join(fold(tag) for tag in photo.tags) for photo in photos],
            [fold(photo.description) for photo in photos],
        ]
        return pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], schema=self.schema)

    def judge(self, facts: pa.Table, settings: TextSettings) -> Verdicts:
        """The score is the number of blacklisted words found, or -1 where no required one is."""
        text = pc.binary_join_element_wise(*(facts[name] for name in settings.fields), "|")
        drop, excuse = _lists(settings)
        cleared = pc.replace_substring_regex(text, _pattern(excuse), " ~ ") if excuse else text
        pattern = _pattern(drop) if drop else ""
        found = pc.count_substring_regex(cleared, pattern) if drop else pa.chunked_array([np.zeros(len(facts), int)])
        num = pc.fill_null(found, 0).to_numpy().astype(np.float64)
        lacks = np.zeros(len(num), bool)
        if settings.require:
            lacks = ~pc.fill_null(pc.match_substring_regex(text, _pattern(settings.require)), False).to_numpy()

        def detail(row: int) -> str:
            if lacks[row]:
                return "none of the required words"
            words = [" ".join(match.split()) for match in re.findall(pattern, cleared[row].as_py())] if num[row] else []
            return f"says {', '.join(dict.fromkeys(words))}" if num[row] > settings.max_words else ""

        kept = (num <= settings.max_words) & ~lacks
        return Verdicts(self.name, facts["id"], kept, np.where(lacks, -1.0, num), detail)


def fold(text: str) -> str:
    """Words in lower case without accents and marks, each between spaces of its own: "Übersee-Café" →
    " ubersee  cafe ", so that neighbours don't share the space that ends one and starts the other.

    Signs of scripts that put no spaces between words are words of their own.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    words = _WORD.findall("".join(sign for sign in plain if not unicodedata.combining(sign)))
    return f" {'  '.join(words)} " if words else ""


# Han, kana, Hangul (decomposed by NFKD), Thai, Lao and Khmer stand alone; all else is letters and digits in a row.
_ALONE = "\u0e00-\u0eff\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


@functools.cache
def _builtin() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(words that drop, phrases that excuse) of the list that comes with the package."""
    lines = importlib.resources.files("lhq.measures").joinpath("non_landscape_words.txt").read_text("utf-8")
    words = [word for line in lines.splitlines() if (word := line.split("#")[0].strip())]
    return (
        tuple(word for word in words if not word.startswith("+")),
        tuple(word[1:].strip() for word in words if word.startswith("+")),
    )


def _lists(settings: TextSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    drop, excuse = _builtin() if settings.builtin else ((), ())
    return drop + settings.blacklist, excuse + settings.whitelist


def _pattern(phrases: Sequence[str]) -> str:
    """Any of the phrases as whole words, longest first; phrases of three letters and more also with -s or -es."""
    folded = sorted({fold(phrase).strip() for phrase in phrases}, key=lambda phrase: (-len(phrase), phrase))
    parts = [re.escape(phrase).replace(r"\ ", " ") + ("(?:e?s)?" if len(phrase) > 2 else "") for phrase in folded]
    return f" (?:{'|'.join(parts)}) "
