"""One signal's answer, and the words it may be given in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 500
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Said:
    """What a signal said: its words as they stand, None where it was asked and silent; `reserves`: it says no."""

    words: str | None
    reserves: bool = False

    @classmethod
    def of(cls, words: str, *, reserves: bool) -> Said:
        """Remote words, fit to be kept: one line, cut."""
        return cls(_UNFIT.sub(" ", words).strip()[:_LONGEST], reserves)


# As tokens, booleans of RFC 9651 or plain words: what a person meant who wrote them is not in doubt.
_YES = frozenset({"1", "1.0", "01", "?1", "y", "yes", "true"})
_NO = frozenset({"0", "?0", "n", "no", "false"})
Answers = dict[str, Said]
SILENT = Said(None)


def is_yes(value: object) -> bool:
    """Whether a flag such as TDM-Reservation's is set, in any of the spellings that are met."""
    return str(value).split(";")[0].strip().strip("\"'").lower() in _YES


def preferences(text: str) -> dict[str, str]:
    """`train-ai=n, search=y;x=1` as {"train-ai": "n", "search": "y"}; anything that is not a pair is ignored.

    Source: RFC 9651 dictionaries, of which AIPREF and Content-Signal use key=token; the last of a repeated key holds.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        key, mark, value = part.split(";")[0].partition("=")
        if mark:
            found[key.strip().lower()] = value.strip().strip('"').lower()
    return found


def usage_reserves(text: str) -> bool:
    """Whether a Content-Usage preference says no to the training of models that draw.

    The narrowest category that is stated holds for those below it: all processing, then training, then the training
    of generative models. A set of photographs serves the last two, so a no to either is one.
    Source: draft-ietf-aipref-vocab (`bots`, `train-ai`, `train-genai`); `tdm`, `ai`, `genai` of its first drafts.
    """
    stated = preferences(text)
    anything = _first(stated, "bots", "all", "tdm")
    training = _first(stated, "train-ai", "ai-train", "ai") or anything
    drawing = _first(stated, "train-genai", "genai") or training
    return not _NO.isdisjoint({training, drawing})


def signal_reserves(text: str) -> bool:
    """Whether a Content-Signal says no to training. Source: contentsignals.org (`ai-train=no`)."""
    return _first(preferences(text), "ai-train", "train-ai") in _NO


def _first(stated: Mapping[str, str], *names: str) -> str:
    return next((stated[name] for name in names if name in stated), "")
