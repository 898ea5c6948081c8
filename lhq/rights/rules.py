"""Licence, source's terms and permissions → what may be done with a photo; errors name source, licence and rows.

A use must be allowed both by the photo's licence (`lhq.rights.licences`) and by its source's terms (`Rights`). A
permission of the rights holder replaces both for the uses that it lists, unless the source's terms say no.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq import nearest
from lhq.errors import ConfigError, RightsRefused
from lhq.rights.licences import LICENCES, Allowance, Licence, Rights, matching
from lhq.rights.permissions import EXAMPLE

_SHOWN = 5

Ruling = Callable[[Licence, Rights, Collection[str]], bool]
"""(licence, source's terms, uses that a permission lists) → whether a use is allowed."""


def may_redistribute(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether the photo's bytes may be redistributed."""
    return _is_allowed(rights.redistribute, licence.redistribute, "redistribute" in permits)


def may_sell(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether commercial use is allowed."""
    return _is_allowed(rights.commercial, licence.commercial, "commercial" in permits)


def may_adapt(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether an adapted (scaled, cropped) version may be published."""
    return licence.derivatives or ("adapt" in permits and rights.redistribute != "no")


def may_train(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether models may be trained on the photo."""
    if rights.train == "non-commercial":
        return licence.learning != "no" or "train" in permits
    # If no licence is stated, the source's terms or the folder's owner can allow training; "by-licence" can't.
    is_open = licence.learning == "yes" or (licence.learning == "not-said" and rights.train in {"yes", "user"})
    return _is_allowed(rights.train, is_open, "train" in permits)


def _is_allowed(terms: Allowance, licence_allows: bool, is_permitted: bool) -> bool:
    if terms in {"no", "non-commercial"}:
        return False
    return is_permitted or (licence_allows and terms != "by-permission")


def _is_public_domain(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    return licence.public_domain


SUBSETS: dict[str, Ruling] = {
    "commercial-ok": may_sell,
    "derivatives-ok": may_adapt,
    "redistributable": may_redistribute,
    "public-domain": _is_public_domain,
    "no-share-alike": lambda licence, rights, permits: not licence.share_alike,
}


def evaluate(rows: pa.Table, rights: Mapping[str, Rights], ruling: Ruling) -> np.ndarray:
    """Apply `ruling` to every row: bool [N]. Evaluated once per combination of source, licence and permission."""
    answers: dict[tuple[str, str, tuple[str, ...]], bool] = {}
    out = np.empty(len(rows), bool)
    papers = (rows[name].to_pylist() for name in ("source", "licence", "permits"))
    for row, (source, licence, permits) in enumerate(zip(*papers, strict=True)):
        combination = (source, licence, tuple(permits))
        if combination not in answers:
            answers[combination] = ruling(LICENCES[licence], rights[source], permits)
        out[row] = answers[combination]
    return out


def subset(rows: pa.Table, rights: Mapping[str, Rights], words: Sequence[str]) -> np.ndarray:
    """Rows selected by `--licences`: bool [N].

    A row must satisfy every key of `SUBSETS` given, and one of the licence ids or patterns (`cc-by-*`) if any is given.

    Raises:
        ConfigError: a word is none of these.
    """
    check_words(words)
    keep = np.ones(len(rows), bool)
    for word in set(words) & SUBSETS.keys():
        keep &= evaluate(rows, rights, SUBSETS[word])
    if patterns := [word for word in words if word not in SUBSETS]:
        found = set(rows["licence"].to_pylist())
        chosen = {id for pattern in patterns for id in matching(pattern, found)}
        keep &= pc.is_in(rows["licence"], pa.array(sorted(chosen), pa.string())).to_numpy()
    return keep


def check_words(words: Sequence[str]) -> None:
    """Check that every word is a key of `SUBSETS`, a licence's id or a pattern that matches one.

    Raises:
        ConfigError: a word is none of these.
    """
    for word in words:
        if word not in SUBSETS and word not in LICENCES and not matching(word, LICENCES):
            raise ConfigError(
                f'licences: "{word}" is neither a subset nor a licence',
                hint=nearest.word(
                    word, [*SUBSETS, *LICENCES], f"give {', '.join(SUBSETS)}, or ids such as cc-by-2.0, cc-by-*"
                ),
            )


def check_papers(rows: pa.Table, rights: Mapping[str, Rights]) -> None:
    """Check that every row has its papers, and that models may be trained on it.

    Raises:
        RightsRefused: names rows and what is missing or forbidden.
    """
    for name in ("source", "source_id", "url", "sha256", "licence"):
        _refuse_rows(rows, pc.equal(pc.utf8_trim_whitespace(rows[name]), ""), f"have no {name}")
    licences = set(rows["licence"].to_pylist())
    unknown = pa.array([id for id in licences if id not in LICENCES], pa.string())
    _refuse_rows(rows, pc.is_in(rows["licence"], unknown), "have a licence that lhq.rights.licences does not know")
    _refuse_rows(
        rows, pc.invert(pc.is_in(rows["source"], pa.array(list(rights), pa.string()))), "have an unknown source"
    )
    attribution = pa.array([id for id in licences if LICENCES[id].attribution], pa.string())
    unattributed = pc.and_(
        pc.is_in(rows["licence"], attribution),
        pc.and_(
            pc.equal(pc.utf8_trim_whitespace(rows["author"]), ""),
            pc.equal(pc.utf8_trim_whitespace(rows["attribution"]), ""),
        ),
    )
    _refuse_rows(rows, unattributed, "have no author though their licence asks for attribution")
    forbidden = rows.filter(pa.array(~evaluate(rows, rights, may_train)))
    if len(forbidden):
        raise RightsRefused(
            f"machines may not learn from {len(forbidden):,} kept photos: their licence, or the terms of their source "
            f"without a permission that lists train, forbid it: {_examples(forbidden)}",
            hint=_suggest_permission(forbidden, rights)
            or "remove them (lhq remove ID …), or state the permission that allows it",
        )


def _suggest_permission(rows: pa.Table, rights: Mapping[str, Rights]) -> str:
    """The hint for rows of older stores that hold a sentence as their permission; "" if there are none."""
    papers = zip(rows["source"].to_pylist(), rows["permission"].to_pylist(), rows["permits"].to_pylist(), strict=True)
    sentences = {source: words for source, words, permits in papers if words.strip() and not permits}
    # Pipeline files state permissions for sources whose terms ask for one, and for the user's own folder.
    stated = [source for source in sorted(sentences) if source == "folder" or rights[source].train == "by-permission"]
    if not stated:
        return ""
    tables = " and ".join(f"[source.{source}]" for source in stated)
    words = sentences[stated[0]]
    return (
        f"the sentence “{words[:80]}{'…' if len(words) > 80 else ''}” allows nothing by itself; list what it allows in "
        f"the pipeline file, {tables}: permission = {EXAMPLE}"
    )


def check_publishing(rows: pa.Table, rights: Mapping[str, Rights]) -> None:
    """Check that the bytes of every row may be redistributed.

    Raises:
        RightsRefused: names sources, licences, their number of rows, and the terms.
    """
    forbidden = rows.filter(pa.array(~evaluate(rows, rights, may_redistribute)))
    if not len(forbidden):
        return
    counts = forbidden.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist()
    counts.sort(key=lambda count: (-count["count_all"], count["source"], count["licence"]))
    parts = [f"{one['count_all']:,} of source {one['source']} under {one['licence']}" for one in counts[:_SHOWN]]
    notes = sorted({rights[one["source"]].note for one in counts} - {""})
    raise RightsRefused(
        f'publish = "bytes": the bytes of {len(forbidden):,} rows may not be handed on: {", ".join(parts)}'
        f" (for instance {_examples(forbidden)}){''.join(f'; {note}' for note in notes)}",
        hint=_suggest_permission(forbidden, rights)
        or 'publish = "manifest" gives ids and URLs instead, --licences redistributable leaves these rows out',
    )


def _refuse_rows(rows: pa.Table, wrong: pa.Array | pa.ChunkedArray, problem: str) -> None:
    found = rows.filter(wrong)
    if len(found):
        raise RightsRefused(
            f"{len(found):,} kept photos {problem}: {_examples(found)}",
            hint="no papers, no row: remove them (lhq remove ID …) or mend the source that gave them",
        )


def _examples(rows: pa.Table) -> str:
    shown = [
        f"{row['id']} ({row['source']}, {row['licence'] or 'no licence'})"
        for row in rows.slice(0, _SHOWN).select(["id", "source", "licence"]).to_pylist()
    ]
    return ", ".join(shown) + (" …" if len(rows) > _SHOWN else "")
