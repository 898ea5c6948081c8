"""Where stderr is not a terminal: whole lines now and then instead of a bar."""

from __future__ import annotations

import pytest

from lhq.cli.progress import LINE_EVERY_S, Lines, progress


def test_a_line_says_what_how_far_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Lines(every_s=0)
    tell("crawl", 10, 1_000)
    tell("crawl", 500, 1_000, "photos.example rests 12 min (429)")
    tell("facts", 3, 0)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "crawl: 10 of 1,000"
    assert second == "crawl: 500 of 1,000 · photos.example rests 12 min (429) · 0 min left"
    assert third == "facts: 3"


def test_a_line_a_minute_and_none_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert LINE_EVERY_S == 60
    with progress() as tell:  # pytest's stderr is no terminal
        for done in range(1_000):
            tell("crawl", done, 1_000)
    assert capsys.readouterr().err == "", "a thousand calls of one moment are no thousand lines"
