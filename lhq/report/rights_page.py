"""Facts about rights → one page for a lawyer, and the public summary that the EU's AI Act requires.

The summary follows the headings of the Commission's template for Article 53(1)(d) of Regulation (EU) 2024/1689.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from lhq.report.rights_facts import Amount, RightsFacts
from lhq.rights.licences import LICENCES
from lhq.rights.reservations import SIGNALS

_MOST_DOMAINS = 1000
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}th{background:#f4f4f4}"
    "h1,h2,h3{line-height:1.2;margin-top:2rem}"
)
_MODES = {
    "private": "pictures for the maker's own use; nothing is handed on",
    "manifest": "ids, addresses, hashes and scores, no picture",
    "bytes": "pictures that are handed on",
}


def text(facts: RightsFacts, name: str, user_agent: str, only_summary: bool) -> str:
    """The page, or its public summary alone, as Markdown."""
    return f"{summary(facts, name, user_agent)}\n" if only_summary else page(facts, name, user_agent)


def html(markdown: str) -> str:
    """Markdown as an HTML page that opens from disk and prints well; markup in the text is escaped."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Rights</title>\n'
        f"<style>{_STYLE}</style>\n<body>\n{body}</body></html>\n"
    )


def page(facts: RightsFacts, name: str, user_agent: str) -> str:
    """The page, as Markdown.

    Args:
        name: of the dataset.
        user_agent: the User-Agent of the crawler.
    """
    parts = [
        f"# Rights: {_plain(name)}",
        _opening(facts),
        _table("Sources and their terms", ("source", "photos", "bytes", "its terms"), _sources(facts)),
        _table(
            "Licences",
            ("licence", "photos", "bytes", "hand on", "commercial", "change", "name author"),
            _licences(facts),
        ),
        _permissions(facts),
        _opt_outs(facts),
        _takedowns(facts),
        _modes(facts),
        summary(facts, name, user_agent),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(facts: RightsFacts, name: str, user_agent: str) -> str:
    """The public summary of training content, as Markdown."""
    num_shown = min(_MOST_DOMAINS, max(1, math.ceil(len(facts.domains) / 10)))
    domains = [(host, *_of(one)) for host, one in list(facts.domains.items())[:num_shown]]
    first, last = facts.period
    return "\n\n".join(
        [
            "## Public summary of training content (EU AI Act, Art. 53(1)(d))",
            "### 1. General information",
            f"Dataset: {_plain(name)}. Modality: still images (photographs). Size: {facts.kept.photos:,} photographs, "
            f"{facts.kept.size_bytes:,} bytes as fetched. Period of acquisition: {first} to {last}. Languages: none; "
            "titles and tags stand beside the pictures and are not part of them.",
            "### 2. Sources of the data",
            f"Collected from the web and its services by a crawler that calls itself `{_plain(user_agent)}`, and from "
            "collections that the maker holds; counts by source stand above. "
            + (
                f"{sum(one.photos for one in facts.permissions if one.permits):,} photographs come with a "
                "permission of their rights holders. "
                if any(one.permits for one in facts.permissions)
                else ""
            )
            + "No data of users of a service, no synthetic data.",
            f"The largest domains by bytes, {num_shown:,} of {len(facts.domains):,} (the largest tenth):",
            _rows(("domain", "photos", "bytes"), domains),
            "### 3. Respect of reservations, and processing",
            f"{facts.kept.photos - facts.num_unasked:,} of the photographs were asked for opt-out signals ("
            f"{len(SIGNALS)} are known), by their host, their file and their author's words; binding are: "
            f"{', '.join(facts.honoured) or 'none'}. {_robots(facts)} Photographs are taken down when asked "
            f"({sum(facts.takedowns.values()):,} so far), with their near-duplicates, and stay out.",
        ]
    )


def _robots(facts: RightsFacts) -> str:
    if facts.obeys_robots:
        return "robots.txt is obeyed."
    return "robots.txt and the other files of hosts are not asked (`[http] robots = false`)."


def _opening(facts: RightsFacts) -> str:
    first, last = facts.period
    what = (
        "kept by the filter and not taken down"
        if facts.is_judged
        else "held (no filter has judged them) and not taken down"
    )
    return (
        f"{facts.kept.photos:,} photographs are {what}, of {facts.held.photos:,} in the store; fetched from {first} to "
        f"{last}. All counts below are over these. Each photograph's own papers stand in its row."
    )


def _sources(facts: RightsFacts) -> list[tuple[str, ...]]:
    return [(name, *_of(one), facts.terms[name]) for name, one in facts.sources.items()]


def _licences(facts: RightsFacts) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for id, one in facts.licences.items():
        known = LICENCES.get(id)
        if known is None:
            rows.append((id or "none", *_of(one), "unknown", "unknown", "unknown", "unknown"))
            continue
        claims = (known.redistribute, known.commercial, known.derivatives, known.attribution)
        rows.append((known.name, *_of(one), *("yes" if claim else "no" for claim in claims)))
    return rows


def _permissions(facts: RightsFacts) -> str:
    if not facts.permissions:
        return "## Permissions\n\nNone was stated."
    rows = [
        (
            ", ".join(one.permits) or "nothing (prose alone allows nothing)",
            f"“{one.statement}”",
            one.by,
            one.on,
            f"{one.photos:,}",
        )
        for one in facts.permissions
    ]
    return _table("Permissions", ("allows", "statement", "by", "on", "photos"), rows)


def _opt_outs(facts: RightsFacts) -> str:
    rows = [
        (
            name,
            SIGNALS[name],
            "yes" if name in facts.honoured else "no",
            *(f"{num:,}" for num in (one.asked, one.silent, one.answered, one.reserved)),
        )
        for name, one in facts.signals.items()
    ]
    text = _table("Opt-outs", ("signal", "where it stands", "binds", "asked", "silent", "answered", "said no"), rows)
    notes = []
    if facts.num_unasked:
        notes.append(
            f"{facts.num_unasked:,} photographs were never asked about: they are older than the question, or come "
            "from a disk. `lhq recheck` asks their hosts today."
        )
    if facts.denied:
        notes.append(f"The deny list has {facts.denied:,} lines.")
    return "\n\n".join([text, *notes])


def _takedowns(facts: RightsFacts) -> str:
    total = sum(facts.takedowns.values())
    if not total:
        return "## Takedowns\n\nNone so far."
    rows = [(reason or "no reason given", f"{num:,}") for reason, num in facts.takedowns.items()]
    return _table("Takedowns", ("reason", "photos"), rows) + f"\n\n{total:,} in all, the last on {facts.last_takedown}."


def _modes(facts: RightsFacts) -> str:
    rows = [
        (f"`{mode}`", _MODES[mode], what, f"{num:,}")
        for mode, counts in facts.modes.items()
        for what, num in counts.items()
    ]
    return _table("What each publish mode would contain", ("publish", "what is written", "", "photos"), rows)


def _of(one: Amount) -> tuple[str, str]:
    return f"{one.photos:,}", f"{one.size_bytes:,}"


def _table(heading: str, names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return f"## {heading}\n\n{_rows(names, rows)}"


def _rows(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell if cell.startswith('`') else _plain(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Free text that can't break out of a table or become markup."""
    text = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text
