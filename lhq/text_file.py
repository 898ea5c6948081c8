"""Text files in any of the encodings and line endings that editors write."""

from __future__ import annotations

import codecs
from pathlib import Path


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, or UTF-16 with a byte order mark, without the mark and carriage returns.

    Raises:
        OSError: it can't be read.
        UnicodeError: it is neither; the message says what it looks like.
    """
    data = path.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        looks = "UTF-16 without its mark" if data[:200].count(0) > 20 else "an 8-bit code page (such as Windows-1252)"
        raise UnicodeError(f"is not UTF-8 at byte {error.start:,}: it looks like {looks}") from None
    if "\0" in text:
        raise UnicodeError("is not UTF-8: it looks like UTF-16 without its mark")
    return text.replace("\r\n", "\n").replace("\r", "\n")
