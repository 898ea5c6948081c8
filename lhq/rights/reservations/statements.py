"""What one signal states, and the spellings it is stated in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 500
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signal states: its wording, or None if it is silent, and whether it opts out (`reserves`)."""

    words: str | None
    reserves: bool = False

    @classmethod
    def of(cls, words: str, *, reserves: bool) -> Statement:
        """Sanitise remote text: one line without control characters, at most 500 long."""
        return cls(_UNFIT.sub(" ", words).strip()[:_LONGEST], reserves)


# Tokens, RFC 9651 booleans and plain words: all of these leave no doubt about what was meant.
_YES = frozenset({"1", "1.0", "01", "?1", "y", "yes", "true"})
_NO = frozenset({"0", "?0", "n", "no", "false"})
Statements = dict[str, Statement]
SILENT = Statement(None)


def is_yes(value: object) -> bool:
    """Whether a flag such as TDM-Reservation's is set, in any of the spellings seen in practice."""
    return str(value).split(";")[0].strip().strip("\"'").lower() in _YES


def preferences(text: str) -> dict[str, str]:
    """Parse `train-ai=n, search=y;x=1` to {"train-ai": "n", "search": "y"}, ignoring anything that is not a pair.

    Source: RFC 9651 dictionaries, of which AIPREF and Content-Signal use key=token; a repeated key's last value counts.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        key, mark, value = part.split(";")[0].partition("=")
        if mark:
            found[key.strip().lower()] = value.strip().strip('"').lower()
    return found


def usage_reserves(text: str) -> bool:
    """Whether a Content-Usage preference opts out of training, or of training generative models.

    A category that isn't stated inherits from the wider one: all processing ⊃ training ⊃ training generative models.
    Photo datasets serve the last two, so opting out of either counts.
    Source: draft-ietf-aipref-vocab (`bots`, `train-ai`, `train-genai`); `tdm`, `ai`, `genai` of its first drafts.
    """
    stated = preferences(text)
    anything = _first(stated, "bots", "all", "tdm")
    training = _first(stated, "train-ai", "ai-train", "ai") or anything
    drawing = _first(stated, "train-genai", "genai") or training
    return not _NO.isdisjoint({training, drawing})


def signal_reserves(text: str) -> bool:
    """Whether a Content-Signal opts out of training. Source: contentsignals.org (`ai-train=no`)."""
    return _first(preferences(text), "ai-train", "train-ai") in _NO


def _first(stated: Mapping[str, str], *names: str) -> str:
    return next((stated[name] for name in names if name in stated), "")
