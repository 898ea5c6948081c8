"""Papers + licence + source's terms → what may be done with a photo; refusals name source, licence and rows.

Every question needs a yes from both sides: the photo's licence (`lhq.rights.licences`) and the terms of the source it
came from (`Rights`). A permission of the rights holder stands in for both, for what its list names and nothing else;
against a source whose terms say no it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq import nearest
from lhq.errors import ConfigError, RightsRefused
from lhq.rights.licences import LICENCES, Answer, Licence, Rights, matching
from lhq.rights.permissions import EXAMPLE

_SHOWN = 5

Ruling = Callable[[Licence, Rights, Collection[str]], bool]
"""(licence, terms of the source, what a permission lists) → may it be done?"""


def may_redistribute(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether the picture's bytes may be handed on."""
    return _may(rights.redistribute, licence.redistribute, "redistribute" in permits)


def may_sell(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether commercial use is allowed."""
    return _may(rights.commercial, licence.commercial, "commercial" in permits)


def may_adapt(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether a changed (scaled, cropped) version may be published."""
    return licence.derivatives or ("adapt" in permits and rights.redistribute != "no")


def may_train(licence: Licence, rights: Rights, permits: Collection[str]) -> bool:
    """Whether machines may learn from the photo."""
    if rights.train == "non-commercial":
        return licence.learning != "no" or "train" in permits
    # Where no licence speaks, a source's own terms or the owner's word can open learning, "by licence" can't.
    is_open = licence.learning == "yes" or (licence.learning == "not-said" and rights.train in {"yes", "user"})
    return _may(rights.train, is_open, "train" in permits)


def _may(terms: Answer, licence_allows: bool, is_permitted: bool) -> bool:
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


def ruled(rows: pa.Table, rights: Mapping[str, Rights], ruling: Ruling) -> np.ndarray:
    """`ruling` on every row (bool [N]); decided once for each (source, licence, permission) that occurs."""
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
    """Rows that `--licences` asks for, bool [N].

    Words of `SUBSETS` must all hold; licence ids and patterns of them (`cc-by-*`) are joined by "or".

    Raises:
        ConfigError: a word that is none of these.
    """
    check_words(words)
    keep = np.ones(len(rows), bool)
    for word in set(words) & SUBSETS.keys():
        keep &= ruled(rows, rights, SUBSETS[word])
    if patterns := [word for word in words if word not in SUBSETS]:
        found = set(rows["licence"].to_pylist())
        chosen = {id for pattern in patterns for id in matching(pattern, found)}
        keep &= pc.is_in(rows["licence"], pa.array(sorted(chosen), pa.string())).to_numpy()
    return keep


def check_words(words: Sequence[str]) -> None:
    """Every word is a subset's, a licence's id or a pattern of such ids.

    Raises:
        ConfigError: one is neither.
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
    """Every row has its papers, and its source's terms allow learning from it.

    Raises:
        RightsRefused: names the rows and what they lack.
    """
    for name in ("source", "source_id", "url", "sha256", "licence"):
        _refuse(rows, pc.equal(pc.utf8_trim_whitespace(rows[name]), ""), f"have no {name}")
    licences = set(rows["licence"].to_pylist())
    strange = pa.array([id for id in licences if id not in LICENCES], pa.string())
    _refuse(rows, pc.is_in(rows["licence"], strange), "have a licence that lhq.rights.licences does not know")
    _refuse(rows, pc.invert(pc.is_in(rows["source"], pa.array(list(rights), pa.string()))), "have an unknown source")
    attribution = pa.array([id for id in licences if LICENCES[id].attribution], pa.string())
    nobody = pc.and_(
        pc.is_in(rows["licence"], attribution),
        pc.and_(
            pc.equal(pc.utf8_trim_whitespace(rows["author"]), ""),
            pc.equal(pc.utf8_trim_whitespace(rows["attribution"]), ""),
        ),
    )
    _refuse(rows, nobody, "have no author though their licence asks for attribution")
    closed = rows.filter(pa.array(~ruled(rows, rights, may_train)))
    if len(closed):
        raise RightsRefused(
            f"machines may not learn from {len(closed):,} kept photos: their licence, or the terms of their source "
            f"without a permission that lists train, forbid it: {_named(closed)}",
            hint=_restate(closed, rights) or "remove them (lhq remove ID …), or state the permission that allows it",
        )


def _restate(rows: pa.Table, rights: Mapping[str, Rights]) -> str:
    """What to write in place of the sentences that rows of older stores hold as permissions; "" if there are none."""
    papers = zip(rows["source"].to_pylist(), rows["permission"].to_pylist(), rows["permits"].to_pylist(), strict=True)
    said = {source: words for source, words, permits in papers if words.strip() and not permits}
    # Pipeline files state permissions for sources whose terms ask for one, and for the user's own folder.
    stated = [source for source in sorted(said) if source == "folder" or rights[source].train == "by-permission"]
    if not stated:
        return ""
    tables = " and ".join(f"[source.{source}]" for source in stated)
    words = said[stated[0]]
    return (
        f"the sentence “{words[:80]}{'…' if len(words) > 80 else ''}” allows nothing by itself; list what it allows in "
        f"the pipeline file, {tables}: permission = {EXAMPLE}"
    )


def check_publishing(rows: pa.Table, rights: Mapping[str, Rights]) -> None:
    """The bytes of every row may be handed on.

    Raises:
        RightsRefused: names sources, licences, how many rows each, and what their terms say.
    """
    closed = rows.filter(pa.array(~ruled(rows, rights, may_redistribute)))
    if not len(closed):
        return
    counts = closed.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist()
    counts.sort(key=lambda count: (-count["count_all"], count["source"], count["licence"]))
    parts = [f"{one['count_all']:,} of source {one['source']} under {one['licence']}" for one in counts[:_SHOWN]]
    notes = sorted({rights[one["source"]].note for one in counts} - {""})
    raise RightsRefused(
        f'publish = "bytes": the bytes of {len(closed):,} rows may not be handed on: {", ".join(parts)}'
        f" (for instance {_named(closed)}){''.join(f'; {note}' for note in notes)}",
        hint=_restate(closed, rights)
        or 'publish = "manifest" gives ids and URLs instead, --licences redistributable leaves these rows out',
    )


def _refuse(rows: pa.Table, wrong: pa.Array | pa.ChunkedArray, what: str) -> None:
    found = rows.filter(wrong)
    if len(found):
        raise RightsRefused(
            f"{len(found):,} kept photos {what}: {_named(found)}",
            hint="no papers, no row: remove them (lhq remove ID …) or mend the source that gave them",
        )


def _named(rows: pa.Table) -> str:
    shown = [
        f"{row['id']} ({row['source']}, {row['licence'] or 'no licence'})"
        for row in rows.slice(0, _SHOWN).select(["id", "source", "licence"]).to_pylist()
    ]
    return ", ".join(shown) + (" …" if len(rows) > _SHOWN else "")
