"""What the author wrote beside the photo → whether it holds one of the words that artists use to opt out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lhq.rights.reservations.answers import SILENT, Answers, Said

# As one word, with or without its hash; "no AI" in a sentence speaks of how a picture was made as often as not.
_WORDS = re.compile(r"(?<![\w-])#?(noai|noimageai|noaitraining|donottrain)(?![\w-])", re.IGNORECASE)
# A tag is nothing but the word, so it may be written apart.
_TAG = re.compile(r"#?no[\s_-]+(?:image[\s_-]*)?ai(?:[\s_-]*training)?", re.IGNORECASE)


def from_words(title: str, description: str, tags: Sequence[str]) -> Answers:
    """The answer of `words`."""
    text = unicodedata.normalize("NFKC", " ".join([title, description, *tags]))
    found = _WORDS.findall(text) + [tag for tag in tags if _TAG.fullmatch(unicodedata.normalize("NFKC", tag).strip())]
    return {"words": Said.of(", ".join(dict.fromkeys(found)), reserves=True) if found else SILENT}
