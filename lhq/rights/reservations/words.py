"""What the author wrote beside the photo → whether it holds one of the words that artists use to opt out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lhq.rights.reservations.answers import SILENT, Answers, Said

# As one word, with or without its hash; "no AI" in a sentence speaks of how a picture was made as often as not.
_WORDS = re.compile(r"(?<![\w-])#?(noai|noimageai|noaitraining|donottrain)(?![\w-])", re.IGNORECASE)


def from_words(title: str, description: str, tags: Sequence[str]) -> Answers:
    """The answer of `words`."""
    found = _WORDS.findall(" ".join([title, description, *tags]))
    return {"words": Said.of(", ".join(dict.fromkeys(found)), reserves=True) if found else SILENT}
