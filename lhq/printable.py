"""Text of others → text that a terminal shows and does not obey: nothing in it moves the cursor or turns the line."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Directional marks too, and lone surrogates, which can't be printed.
_UNPRINTABLE = re.compile(rf"{CONTROL.pattern}|[\u061c\u200e\u200f\ufeff\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""One line: control characters, line breaks among them, as `\x1b` or `\u202e`."""
    return _UNPRINTABLE.sub(_code, text)


def escaped_lines(text: str) -> str:
    """The same, line breaks left as they are."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
