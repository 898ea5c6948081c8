"""Photo → the words of its title, tags and description → do they say that it is not a landscape.

Words are compared whole, without case and accents ("Hochzeitstal" does not match "Hochzeit"; "WÉDDING" matches
"wedding"); scripts without spaces are compared character by character. The facts are the folded words, so lists can
change without measuring again.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from lhq.measures import Measure, MeasureSettings, Verdicts
from lhq.records import Photo
from lhq.system import num_cores

Field = Literal["title", "tags", "description"]
_FIELDS: tuple[Field, ...] = ("title", "tags", "description")


class TextSettings(MeasureSettings):
    """`[filter.text]`: all keys are thresholds."""

    judgement: ClassVar[frozenset[str]] = frozenset(
        {"fields", "builtin", "blacklist", "whitelist", "require", "max_words"}
    )

    fields: tuple[Field, ...] = _FIELDS
    """Fields to search."""
    builtin: bool = True
    """Use the built-in list of words that suggest something else than a landscape,
    `lhq/measures/non_landscape_words.txt`."""
    blacklist: tuple[str, ...] = ()
    """More words or phrases that drop a photo."""
    whitelist: tuple[str, ...] = ()
    """Phrases to ignore: they are removed before the search for blacklisted words, so that "car" cancels that word
    and "car park" only that phrase."""
    require: tuple[str, ...] = ()
    """A photo needs one of these words or phrases; empty: none."""
    max_words: int = pydantic.Field(0, ge=0)
    """Number of blacklisted words to tolerate."""

    @pydantic.field_validator("blacklist", "whitelist", "require")
    @classmethod
    def _has_letters(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            if not fold(phrase).strip():
                raise ValueError(f"{phrase!r} holds no letter or digit")
        return phrases


class Text(Measure[TextSettings]):
    """Facts: the folded words of each field, between spaces."""

    name = "text"
    settings_class = TextSettings
    question = "Do its title, description and tags speak of something other than a landscape?"
    rows = 1024
    needs_bytes = False
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)] + [pa.field(f, pa.string()) for f in _FIELDS])
    judged: Sequence[str] = schema.names

    def __init__(self, settings: TextSettings) -> None:
        self.settings = settings

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
        """The score is the number of blacklisted words found, or -1 where no required one is.

        One pass of a regular expression finds the rows that hold any such word; only those are read word by word.
        """
        drop, excuse = _lists(settings)
        blacklist, whitelist = _Phrases(drop), _Phrases(excuse)
        said: dict[int, list[str]] = {}
        has_required = np.zeros(len(facts), bool)
        for name in settings.fields:
            if drop:
                says = _says(facts[name], drop)
                for row, text in zip(
                    np.flatnonzero(says).tolist(), facts[name].filter(pa.array(says)).to_pylist(), strict=True
                ):
                    if found := _found(text, blacklist, whitelist):
                        said.setdefault(row, []).extend(found)
            if settings.require:
                has_required |= _says(facts[name], settings.require)
        lacks = ~has_required if settings.require else np.zeros(len(facts), bool)
        num = np.zeros(len(facts))
        num[list(said)] = [len(found) for found in said.values()]

        def detail(row: int) -> str:
            if lacks[row]:
                return "none of the required words"
            return f"says {', '.join(dict.fromkeys(said[row]))}" if num[row] > settings.max_words else ""

        kept = (num <= settings.max_words) & ~lacks
        return Verdicts(self.name, facts["id"], kept, np.where(lacks, -1.0, num), detail)


class _Phrases:
    """Phrases to be found at a place in a row of words, the longest first; each ends also with -s or -es."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = {tuple(fold(phrase).split()) for phrase in phrases}
        self._lengths = sorted({len(phrase) for phrase in self._phrases}, reverse=True)
        self.starts = {form for phrase in self._phrases for form in (phrase[0], f"{phrase[0]}s", f"{phrase[0]}es")}

    def length_at(self, words: Sequence[str], at: int) -> int:
        """Words of the longest phrase that starts at `at`; 0: none does."""
        if words[at] not in self.starts:
            return 0
        for length in self._lengths:
            given = tuple(words[at : at + length])
            if len(given) < length:
                continue
            if given in self._phrases:
                return length
            last = given[-1]
            for ending in ("s", "es"):
                singular = (*given[:-1], last.removesuffix(ending))
                if last.endswith(ending) and singular in self._phrases and sum(map(len, singular)) > 2:
                    return length
        return 0


def _found(text: str, blacklist: _Phrases, whitelist: _Phrases) -> list[str]:
    """Blacklisted phrases of one text, in order; what an excuse covers is skipped. Fields and tags keep apart."""
    found = []
    for part in text.split("|"):
        words = part.split()
        if blacklist.starts.isdisjoint(words):
            continue
        end = 0
        for at, word in enumerate(words):
            if at < end or (word not in blacklist.starts and word not in whitelist.starts):
                continue
            excused, bad = whitelist.length_at(words, at), blacklist.length_at(words, at)
            if bad > excused:
                found.append(" ".join(words[at : at + bad]))
            end = at + max(excused, bad)
    return found


def _says(text: pa.ChunkedArray, phrases: Sequence[str]) -> np.ndarray:
    """bool [N]: which texts hold one of the phrases, excused or not."""
    folded = sorted({fold(phrase).strip() for phrase in phrases})
    ends = ("(?:e?s)?" if len(phrase) > 2 else "" for phrase in folded)
    pattern = f" (?:{'|'.join(phrase + end for phrase, end in zip(folded, ends, strict=True))}) "
    with ThreadPoolExecutor(num_cores()) as pool:  # Arrow searches the chunks one after another
        found = pool.map(lambda part: pc.fill_null(pc.match_substring_regex(part, pattern), False), _pieces(text))
        says: np.ndarray = pa.chunked_array(found, pa.bool_()).to_numpy()
    return says


def _pieces(text: pa.ChunkedArray) -> Iterator[pa.StringArray]:
    """The chunks of all shards, joined up to some megabytes: Arrow compiles the expression again for each, which takes
    longer than to search a shard."""
    piece: list[pa.StringArray] = []
    for chunk in text.chunks:
        if piece and sum(part.nbytes for part in piece) + chunk.nbytes > _PIECE_BYTES:
            yield pa.concat_arrays(piece)
            piece = []
        piece.append(chunk)
    if piece:
        yield pa.concat_arrays(piece)


def fold(text: str) -> str:
    """Words in lower case without accents and marks, each between spaces of its own: "Übersee-Café" →
    " ubersee  cafe ", so that neighbours don't share the space that ends one and starts the other.

    Signs of scripts that put no spaces between words are words of their own.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    words = _WORD.findall("".join(sign for sign in plain if not unicodedata.combining(sign)))
    return f" {'  '.join(words)} " if words else ""


_PIECE_BYTES = 8 * 2**20

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
