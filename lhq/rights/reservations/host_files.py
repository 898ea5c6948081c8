"""Opt-outs in a host's robots.txt and `/.well-known/tdmrep.json` for one path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from urllib.parse import unquote

from lhq.rights.reservations.statements import SILENT, Statement, Statements, is_yes, signal_reserves, usage_reserves

TDMREP = "/.well-known/tdmrep.json"
_MAX_RULES = 10_000


def from_robots(text: str, path: str, user_agent: str) -> Statements:
    """The statements of the signals `robots-content-usage` and `content-signal` for one path.

    Args:
        text: robots.txt, "" if there is none.
        path: of the photo's URL, with its query.
        user_agent: ours; the group of its product token applies, else that of `*`.
    """
    lines = _lines_for(text, user_agent.split("/")[0].split(" ")[0].lower())
    return {
        "robots-content-usage": _statement(lines, "content-usage", path, usage_reserves),
        "content-signal": _statement(lines, "content-signal", path, signal_reserves),
    }


def _lines_for(text: str, agent: str) -> list[tuple[str, str]]:
    """(field, value) of the lines that apply to a user agent; its groups are merged (RFC 9309). Lines before the first
    group apply to everyone."""
    common: list[tuple[str, str]] = []
    groups: dict[str, list[tuple[str, str]]] = {}
    agents: list[str] = []
    in_group_header = False
    for line in text.removeprefix("\ufeff").splitlines():
        name, mark, value = line.split("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not mark:
            continue
        if name == "user-agent":
            agents = [*agents, value.lower()] if in_group_header else [value.lower()]
            in_group_header = True
            for listed in agents:
                groups.setdefault(listed, [])
            continue
        in_group_header = False
        for lines in [groups[name] for name in agents] if agents else [common]:
            lines.append((name, value))
    own_groups = [name for name in groups if name and name != "*" and agent.startswith(name.split("/")[0])]
    return common + (groups[max(own_groups, key=len)] if own_groups else groups.get("*", []))


def _statement(lines: list[tuple[str, str]], field: str, path: str, reserves: Callable[[str], bool]) -> Statement:
    """The statement of one field: of the lines with the longest matching path, an opt-out wins."""
    matching: list[tuple[int, str]] = []
    for name, value in lines:
        if name != field:
            continue
        pattern, _, rest = value.partition(" ") if value.startswith(("/", "*")) else ("", "", value)
        if not pattern or matches(pattern, path):
            matching.append((len(pattern), rest.strip()))
    if not matching:
        return SILENT
    longest = max(length for length, _ in matching)
    words = [rest for length, rest in matching if length == longest]
    return Statement.of("; ".join(words), reserves=any(reserves(rest) for rest in words))


def from_tdmrep(body: bytes | None, path: str) -> Statements:
    """The statement of the signal `tdmrep` for one path.

    Args:
        body: of the file; None if there is none.

    Source: www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510, "TDM file on the origin server".
    """
    return {"tdmrep": SILENT if body is None else _tdmrep(body, path)}


def _tdmrep(body: bytes, path: str) -> Statement:
    try:
        rules = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return Statement("not JSON")
    matching = [rule for rule in islice(_rules(rules), _MAX_RULES) if _rule_matches(rule, path)]
    if not matching:
        return SILENT
    # By the specification the first match counts, but some hosts put the general rule before its exceptions. If the
    # first and the longest match disagree, the opt-out binds.
    chosen = [matching[0], max(matching, key=lambda rule: len(_location(rule)))]
    rule = next((candidate for candidate in chosen if is_yes(candidate.get("tdm-reservation"))), chosen[0])
    policy = rule.get("tdm-policy")
    words = f"{_location(rule)} {rule.get('tdm-reservation')}" + (f" (policy {policy})" if policy else "")
    return Statement.of(words, reserves=is_yes(rule.get("tdm-reservation")))


def _rules(said: object) -> Iterator[dict[str, object]]:
    """Yield the rules of a file with lower-case keys, one for each location."""
    for rule in (said if isinstance(said, list) else [said])[:_MAX_RULES]:
        if isinstance(rule, dict):
            rule = {str(key).lower(): value for key, value in rule.items()}
            locations = rule.get("location")
            for location in locations[:_MAX_RULES] if isinstance(locations, list) else [locations]:
                yield {**rule, "location": "/" if location is None else location}


def _rule_matches(rule: dict[str, object], path: str) -> bool:
    return bool(location := _location(rule)) and matches(location, path)


def _location(rule: dict[str, object]) -> str:
    """The path pattern of a rule, from the root; "" if it isn't a string."""
    location = rule["location"]
    if not isinstance(location, str):
        return ""
    path = re.sub(r"^https?://[^/]+", "", location.strip(), flags=re.IGNORECASE) or "/"
    return path if path.startswith(("/", "*")) else f"/{path}"


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches a robots.txt pattern: a prefix with wildcards `*`, anchored at the end by a final `$`.

    Takes linear time for any pattern, since hosts control it.
    """
    path = unquote(path)
    is_whole = pattern.endswith("$")
    first, *rest = unquote(pattern.removesuffix("$")).split("*")
    if not path.startswith(first):
        return False
    offset = len(first)
    for number, part in enumerate(rest):
        if is_whole and number == len(rest) - 1:
            return len(path) - len(part) >= offset and path.endswith(part)
        found = path.find(part, offset)
        if found < 0:
            return False
        offset = found + len(part)
    return not is_whole or offset == len(path)
