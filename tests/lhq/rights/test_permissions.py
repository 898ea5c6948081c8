"""A permission by itself: its words, its statement, its day; as a setting and as columns of a table of papers."""

from __future__ import annotations

import datetime

import pytest

from lhq.rights.permissions import WORDS, Permission, check_word, from_columns

COLUMNS = {
    "permits": "redistribute, train",
    "permission": " Do learn from them. ",
    "permission_by": " Ann ",
    "permission_on": " 2026-05-01 ",
}


def test_columns_become_papers() -> None:
    assert from_columns(COLUMNS) == {
        "permits": ("train", "redistribute"),
        "permission": "Do learn from them.",
        "permission_by": "Ann",
        "permission_on": "2026-05-01",
    }


@pytest.mark.parametrize("without", [{}, {"permission_on": ""}, {"permission_on": "  "}])
def test_a_day_may_be_left_out(without: dict[str, str]) -> None:
    row = {name: value for name, value in COLUMNS.items() if name != "permission_on"} | without
    assert from_columns(row)["permission_on"] == ""


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="1 May"):
        from_columns(COLUMNS | {"permission_on": "1 May"})


def test_a_setting_and_a_row_say_the_same() -> None:
    said = Permission(
        permits=("redistribute", "train"), statement="Do learn from them.", by="Ann", on=datetime.date(2026, 5, 1)
    )
    assert said.papers() == from_columns(COLUMNS)


@pytest.mark.parametrize("word", WORDS)
def test_known_words_pass(word: str) -> None:
    check_word(word)
    assert from_columns(COLUMNS | {"permits": word})["permits"] == (word,)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", 'permits = "trian": did you mean "train"'),
        ("Train", 'did you mean "train"'),
        ("everything", 'permits = "everything": known words: train, redistribute, commercial, adapt'),
    ],
)
def test_unknown_words_are_refused(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_word(word)
    with pytest.raises(ValueError, match=said):
        from_columns(COLUMNS | {"permits": f"train {word}"})
