"""Papers + licence + source's terms → what may be done with a photo; refusals name source, licence and rows.

Every question needs a yes from both sides: the photo's licence (`lhq.rights.licences`) and the terms of the source it
came from (`Rights`). A source that leaves it to a permission is believed only for what the recorded statement
says: a permission to train is none to redistribute.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhq.errors import ConfigError, RightsRefused
from lhq.rights.licences import LICENCES, Answer, Licence, Rights

_SHOWN = 5

Ruling = Callable[[Licence, Rights, str], bool]


def may_redistribute(licence: Licence, rights: Rights, permission: str) -> bool:
    """Whether the picture's bytes may be handed on."""
    if rights.redistribute == "by-permission":
        return _says(permission, "redistribut", "publish")
    return licence.redistribute and _allows(rights.redistribute)


def may_sell(licence: Licence, rights: Rights, permission: str) -> bool:
    """Whether commercial use is allowed."""
    if rights.commercial == "by-permission":
        return _says(permission, "commercial")
    return licence.commercial and _allows(rights.commercial)


def may_adapt(licence: Licence, rights: Rights, permission: str) -> bool:
    """Whether a changed (scaled, cropped) version may be published."""
    return licence.derivatives


def may_train(licence: Licence, rights: Rights, permission: str) -> bool:
    """Whether the source's terms let machines learn from it."""
    return rights.train in {"yes", "by-licence", "user", "non-commercial"} or bool(
        rights.train == "by-permission" and permission.strip()
    )


def _allows(answer: Answer) -> bool:
    return answer in {"yes", "by-licence", "user"}


def _says(permission: str, *words: str) -> bool:
    said = permission.lower()
    return any(word in said for word in words) and "not " not in said and "no " not in said


def _is_public_domain(licence: Licence, rights: Rights, permission: str) -> bool:
    return licence.freedom <= 1


SUBSETS: dict[str, Ruling] = {
    "commercial-ok": may_sell,
    "derivatives-ok": may_adapt,
    "redistributable": may_redistribute,
    "public-domain": _is_public_domain,
    "no-share-alike": lambda licence, rights, permission: not licence.share_alike,
}


def ruled(rows: pa.Table, rights: Mapping[str, Rights], ruling: Ruling) -> np.ndarray:
    """`ruling` on every row (bool [N]); decided once for each (source, licence, permission) that occurs."""
    answers: dict[tuple[str, str, str], bool] = {}
    papers = [rows[name].to_pylist() for name in ("source", "licence", "permission")]
    out = np.empty(len(rows), bool)
    for row, combination in enumerate(zip(*papers, strict=True)):
        if combination not in answers:
            source, licence, permission = combination
            answers[combination] = ruling(LICENCES[licence], rights[source], permission)
        out[row] = answers[combination]
    return out


def subset(rows: pa.Table, rights: Mapping[str, Rights], words: Sequence[str]) -> np.ndarray:
    """Rows that `--licences` asks for, bool [N].

    Words of `SUBSETS` must all hold; licence ids and patterns of them (`cc-by-*`) are joined by "or".

    Raises:
        ConfigError: a word that is neither.
    """
    check_words(words)
    chosen: set[str] = set()
    keep = np.ones(len(rows), bool)
    for word in words:
        if word in SUBSETS:
            keep &= ruled(rows, rights, SUBSETS[word])
        chosen.update(fnmatch.filter(LICENCES, word))
    if chosen:
        keep &= np.asarray([licence in chosen for licence in rows["licence"].to_pylist()], bool)
    return keep


def check_words(words: Sequence[str]) -> None:
    """Every word is a subset's, a licence's id or a pattern of such ids.

    Raises:
        ConfigError: one is neither.
    """
    for word in words:
        if word not in SUBSETS and not fnmatch.filter(LICENCES, word):
            raise ConfigError(
                f'licences: "{word}" is neither a subset nor a licence',
                hint=f"give {', '.join(SUBSETS)}, or ids such as cc-by-2.0, cc-by-*",
            )


def check_papers(rows: pa.Table, rights: Mapping[str, Rights]) -> None:
    """Every row has its papers, and its source's terms allow learning from it.

    Raises:
        RightsRefused: names the rows and what they lack.
    """
    for name in ("source", "source_id", "url", "sha256", "licence"):
        _refuse(rows, pc.equal(pc.utf8_trim_whitespace(rows[name]), ""), f"have no {name}")
    known = pa.array(LICENCES)
    _refuse(rows, pc.invert(pc.is_in(rows["licence"], known)), "have a licence that lhq.rights.licences does not know")
    _refuse(rows, pc.invert(pc.is_in(rows["source"], pa.array(list(rights), pa.string()))), "have an unknown source")
    attribution = pa.array([licence.id for licence in LICENCES.values() if licence.attribution])
    nobody = pc.and_(pc.is_in(rows["licence"], attribution), pc.equal(rows["author"], ""))
    _refuse(rows, nobody, "have no author though their licence asks for attribution")
    _refuse(
        rows,
        pa.array(~ruled(rows, rights, may_train)),
        "come from a source whose terms exclude machine learning without permission",
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
        hint='publish = "manifest" gives ids and URLs instead, --licences redistributable leaves these rows out',
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
