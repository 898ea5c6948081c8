"""Opt-outs in the text that the author wrote beside the photo: title, description and tags."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lhq.rights.reservations.statements import SILENT, Statement, Statements

# As one word, with or without a hash sign; "no AI" in a sentence often describes how the picture was made.
_WORDS = re.compile(r"(?<![\w-])#?(noai|noimageai|noaitraining|donottrain)(?![\w-])", re.IGNORECASE)
# A tag is nothing but this word, so it may contain spaces.
_TAG = re.compile(r"#?no[\s_-]+(?:image[\s_-]*)?ai(?:[\s_-]*training)?", re.IGNORECASE)


def from_words(title: str, description: str, tags: Sequence[str]) -> Statements:
    """The statement of the signal `words`."""
    text = unicodedata.normalize("NFKC", " ".join([title, description, *tags]))
    found = _WORDS.findall(text) + [tag for tag in tags if _TAG.fullmatch(unicodedata.normalize("NFKC", tag).strip())]
    return {"words": Statement.of(", ".join(dict.fromkeys(found)), reserves=True) if found else SILENT}
