"""Words that suggest something else than a landscape: whole, folded, whitelisted; and the built-in list."""

from __future__ import annotations

import pyarrow as pa
import pydantic
import pytest

from lhq.measures.text import Text, TextSettings, _builtin, fold
from lhq.records import Photo, Verdict


def judged(settings: TextSettings, *photos: tuple[str, tuple[str, ...], str]) -> list[Verdict]:
    rows = [Photo(f"x:{n}", b"", 1, 1, title=t, tags=g, description=d) for n, (t, g, d) in enumerate(photos)]
    measure = Text(settings)
    return list(measure.judge(pa.Table.from_batches([measure.measure(rows)]), settings))


def kept(text: str, **settings: object) -> bool:
    return judged(TextSettings.model_validate(settings), (text, (), ""))[0].kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Übersee-Café", ["ubersee", "cafe"]),
        ("WEDDING", ["wedding"]),
        ("straße", ["strasse"]),
        ("ﬁeld №5", ["field", "no5"]),
        ("人物 photo", ["人", "物", "photo"]),
        ("a_b", ["a", "b"]),
        ("", []),
        ("¡…!", []),
    ],
)
def test_folding(text: str, words: list[str]) -> None:
    assert fold(text).split() == words


def test_words_count_only_whole_and_in_any_case_accent_plural_or_form() -> None:
    assert not kept("Our WÉDDING day")
    assert not kept("weddings by the lake")
    assert not kept("two dogs, one cat")
    assert not kept("𝐖𝐞𝐝𝐝𝐢𝐧𝐠")  # mathematical bold folds to plain letters
    assert not kept("湖畔の結婚式です")
    assert kept("Hochzeitstal")
    assert kept("Carpathians, Catalonia and Dogger Bank")
    assert kept("")


def test_every_field_is_read_and_named() -> None:
    settings = TextSettings()
    verdicts = judged(
        settings, ("", ("sunset", "classic car"), ""), ("", (), "Portrait of my sister"), ("lake", (), "")
    )
    assert [v.kept for v in verdicts] == [False, False, True]
    assert verdicts[0].detail == "says classic car"
    assert verdicts[1].detail == "says portrait"
    assert [v.score for v in verdicts] == [1, 1, 0]
    only_title = TextSettings(fields=("title",))
    assert judged(only_title, ("", ("car",), "dog"))[0].kept


def test_neighbouring_words_are_all_counted() -> None:
    verdict = judged(TextSettings(), ("dog cat car", (), ""))[0]
    assert (verdict.score, verdict.detail) == (3, "says dog, cat, car")
    assert kept("dog cat car", max_words=3)
    assert not kept("dog cat car", max_words=2)


def test_a_phrase_does_not_span_two_tags() -> None:
    settings = TextSettings(builtin=False, blacklist=("classic car",))
    assert judged(settings, ("", ("classic", "car"), ""))[0].kept
    assert not judged(settings, ("", ("classic car",), ""))[0].kept


def test_excuses_and_own_lists() -> None:
    assert kept("cable car over the north face")
    assert not kept("cable car and a car")
    assert kept("car", whitelist=("car",))
    assert not kept("my drone", blacklist=("DRÖNE",))
    assert kept("dog", builtin=False)
    # What a regular expression would read otherwise is plain text here.
    assert kept("abc", builtin=False, blacklist=("a.c",))
    assert not kept("a.c", builtin=False, blacklist=("a.c",))


def test_required_words() -> None:
    settings = TextSettings(builtin=False, require=("lake", "mountains"))
    verdicts = judged(settings, ("Lakes", (), ""), ("", ("mountains",), ""), ("desert", (), ""), ("", (), ""))
    assert [v.kept for v in verdicts] == [True, True, False, False]
    assert verdicts[2].score == -1
    assert verdicts[2].detail == "none of the required words"


def test_a_phrase_without_letters_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="holds no letter"):
        TextSettings(blacklist=("--",))


def test_the_list_is_clean_and_lets_landscapes_pass() -> None:
    drop, excuse = _builtin()
    folded = [fold(word) for word in drop + excuse]
    assert all(folded)
    assert len(set(folded)) == len(folded), "a word twice"
    for phrase in excuse:  # an excuse that excuses nothing is a slip
        assert not kept(phrase, builtin=False, blacklist=drop), phrase
    for title in [
        "Mountain lake at dawn",
        "Fjord in autumn",
        "Desert dunes under stars",
        "Nebelmeer über dem Schwarzwald",
        "Coucher de soleil sur la mer",
        "Valle de la Luna",
        "北海道の湖",
        "Северное сияние над озером",
        "Milky way over Monument Valley",
        "Carrizo Plain superbloom",
        "Bridalveil Fall, Yosemite",
    ]:
        assert kept(title), title
