"""A host's own files → what they reserve of one address: robots.txt and `/.well-known/tdmrep.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from urllib.parse import unquote

from lhq.rights.reservations.answers import SILENT, Answers, Said, is_yes, signal_reserves, usage_reserves

TDMREP = "/.well-known/tdmrep.json"
_MOST_RULES = 10_000


def from_robots(text: str, path: str, user_agent: str) -> Answers:
    """The answers of `robots-content-usage` and `content-signal` for one path.

    Args:
        text: robots.txt, "" where there is none.
        path: of the photo, with its query.
        user_agent: ours; the group of its first word counts, else that of `*`.
    """
    lines = _group(text, user_agent.split("/")[0].split(" ")[0].lower())
    return {
        "robots-content-usage": _said(lines, "content-usage", path, usage_reserves),
        "content-signal": _said(lines, "content-signal", path, signal_reserves),
    }


def _group(text: str, agent: str) -> list[tuple[str, str]]:
    """(field, value) of the lines that speak to us: RFC 9309, groups of one agent joined. What stands before any
    group is said to all."""
    to_all: list[tuple[str, str]] = []
    groups: dict[str, list[tuple[str, str]]] = {}
    agents: list[str] = []
    is_heading = False
    for line in text.removeprefix("\ufeff").splitlines():
        name, mark, value = line.split("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not mark:
            continue
        if name == "user-agent":
            agents = [*agents, value.lower()] if is_heading else [value.lower()]
            is_heading = True
            for one in agents:
                groups.setdefault(one, [])
            continue
        is_heading = False
        for lines in [groups[one] for one in agents] if agents else [to_all]:
            lines.append((name, value))
    mine = [one for one in groups if one and one != "*" and agent.startswith(one.split("/")[0])]
    return to_all + (groups[max(mine, key=len)] if mine else groups.get("*", []))


def _said(lines: list[tuple[str, str]], field: str, path: str, reserves: Callable[[str], bool]) -> Said:
    """Of the lines of one field, those whose path is the longest that fits; a no among them holds."""
    fitting: list[tuple[int, str]] = []
    for name, value in lines:
        if name != field:
            continue
        pattern, _, rest = value.partition(" ") if value.startswith(("/", "*")) else ("", "", value)
        if not pattern or fits(pattern, path):
            fitting.append((len(pattern), rest.strip()))
    if not fitting:
        return SILENT
    longest = max(length for length, _ in fitting)
    words = [rest for length, rest in fitting if length == longest]
    return Said.of("; ".join(words), reserves=any(reserves(rest) for rest in words))


def from_tdmrep(body: bytes | None, path: str) -> Answers:
    """The answer of `tdmrep` for one path, of the rules whose location fits.

    Args:
        body: of the file; None where there is none.

    Source: www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510, "TDM file on the origin server".
    """
    return {"tdmrep": SILENT if body is None else _tdmrep(body, path)}


def _tdmrep(body: bytes, path: str) -> Said:
    try:
        rules = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return Said("not JSON")
    fitting = [rule for rule in islice(_rules(rules), _MOST_RULES) if _fits(rule, path)]
    if not fitting:
        return SILENT
    # The first one counts. Of hosts that write the rule for all before the exceptions, the most exact one: where the
    # two disagree, the no binds.
    chosen = [fitting[0], max(fitting, key=lambda rule: len(_location(rule)))]
    rule = next((one for one in chosen if is_yes(one.get("tdm-reservation"))), chosen[0])
    policy = rule.get("tdm-policy")
    words = f"{_location(rule)} {rule.get('tdm-reservation')}" + (f" (policy {policy})" if policy else "")
    return Said.of(words, reserves=is_yes(rule.get("tdm-reservation")))


def _rules(said: object) -> Iterator[dict[str, object]]:
    """The rules of a file, each with one location, also where one names several; keys in any case."""
    for rule in (said if isinstance(said, list) else [said])[:_MOST_RULES]:
        if isinstance(rule, dict):
            rule = {str(key).lower(): value for key, value in rule.items()}
            places = rule.get("location")
            for place in places[:_MOST_RULES] if isinstance(places, list) else [places]:
                yield {**rule, "location": "/" if place is None else place}


def _fits(rule: dict[str, object], path: str) -> bool:
    return bool(location := _location(rule)) and fits(location, path)


def _location(rule: dict[str, object]) -> str:
    """The paths that a rule is about, from the root; "" where it says none that can be read."""
    location = rule["location"]
    if not isinstance(location, str):
        return ""
    path = re.sub(r"^https?://[^/]+", "", location.strip(), flags=re.IGNORECASE) or "/"
    return path if path.startswith(("/", "*")) else f"/{path}"


def fits(pattern: str, path: str) -> bool:
    """Whether a path begins as a pattern of robots.txt says: `*` is anything, `$` at its end the path's end.

    In time linear in both, whatever the pattern: a host writes it.
    """
    path = unquote(path)
    is_whole = pattern.endswith("$")
    first, *rest = unquote(pattern.removesuffix("$")).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for number, part in enumerate(rest):
        if is_whole and number == len(rest) - 1:
            return len(path) - len(part) >= at and path.endswith(part)
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return not is_whole or at == len(path)
