"""The commands around a dataset as users type them: import, export, verify, remove, recheck."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lhq.cli import cli
from lhq.errors import InputError, RightsRefused, UserError
from tests.lhq.making import judge, scene


def lhq(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline whose store holds three imported photos, judged."""
    (tmp_path / "pictures").mkdir()
    for n in range(3):
        (tmp_path / "pictures" / f"{n}.jpg").write_bytes(scene(n))
    path = tmp_path / "own.toml"
    path.write_text(
        f'store = "{tmp_path}/store"\nqueries = ["lake"]\nwant = 3\n[export]\nvariants = ["64"]\nvalidation = 0\n'
    )
    done = lhq("import", "folder", tmp_path / "pictures", path, "--licence", "own", "--name", "mine", "--json")
    assert json.loads(done.stdout) == {"new": 3, "held": 0, "failed": {}}
    return path


def test_from_import_to_takedown(pipeline: Path, tmp_path: Path) -> None:
    done = lhq("export", pipeline)
    assert isinstance(done.exception, InputError)
    assert done.exception.hint == "run lhq filter first"
    judge(tmp_path / "store")
    done = lhq("export", pipeline, "--format", "zip")
    assert done.stdout.splitlines() == [f"{tmp_path}/store/export", f"{tmp_path}/store/export-zip"]
    assert "photos 3 · kept 3" in done.stderr
    done = lhq("verify", tmp_path / "store" / "export", "--json")
    assert (done.return_value, json.loads(done.stdout)["problems"]) == (0, [])
    done = lhq("remove", pipeline, "folder:mine/1.jpg", "folder:mine/9.jpg")
    assert done.stdout.splitlines() == ["folder:mine/1.jpg", "folder:mine/9.jpg"]
    assert "folder:mine/9.jpg: not in the store; kept out all the same" in done.stderr
    done = lhq("export", pipeline, "--json")
    told = json.loads(done.stdout)
    assert (told["num_rows"], told["funnel"]) == (2, {"taken down": 1})
    (tmp_path / "store" / "export" / "CREDITS.md").write_text("changed")
    done = lhq("verify", tmp_path / "store" / "export")
    assert done.return_value == 1
    assert done.stdout.splitlines() == ["CREDITS.md: its sha256 is not the one in croissant.json"]


def test_what_is_refused_is_a_user_error_with_a_next_move(pipeline: Path, tmp_path: Path) -> None:
    judge(tmp_path / "store")
    for words, kind in (
        (("export", pipeline, "--push-to-hub", "org/set"), RightsRefused),
        (("export", pipeline, "--push-to-hub", "noname", "--publish", "bytes"), InputError),
        (("export", pipeline, "--licences", "public-domain"), RightsRefused),
        (("export", pipeline, "--publish", "manifest", "--format", "zip"), InputError),
        (("remove", pipeline), InputError),
        (("rehydrate", tmp_path / "none.parquet", pipeline), InputError),
        (("import", "zip", tmp_path / "none.zip", pipeline, "--licence", "own"), InputError),
    ):
        error = lhq(*words).exception
        assert isinstance(error, kind), (words, error)
        assert isinstance(error, UserError)
        assert error.hint


def test_recheck_of_photos_without_an_address_finds_nothing(pipeline: Path) -> None:
    done = lhq("recheck", pipeline, "--json")
    assert json.loads(done.stdout) == {"checked": 3, "changes": [], "unknown": {}, "recorded": 0}
