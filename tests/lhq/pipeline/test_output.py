"""A page or a picture is written over one that lhq wrote, never over a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lhq.making import painted_store, scene
from tests.lhq.typed import Lhq

COMMANDS = {
    "report": ("report", "PIPELINE", "-o", "out.html"),
    "rights page": ("rights", "PIPELINE", "-o", "out.html"),
    "rights text": ("rights", "PIPELINE", "-o", "out.md"),
    "summary": ("rights", "PIPELINE", "--summary", "-o", "out.md"),
    "picture": ("show", "flickr:0001", "PIPELINE", "--image", "out.jpg"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_file_of_the_users_is_refused_by_name(tmp_path: Path, lhq: Lhq, words: tuple[str, ...]) -> None:
    store = painted_store(tmp_path / "store", 2)
    (tmp_path / "p.toml").write_text(f'store = "{store}"\n[filter.size]\nmin_side_px = 64\n')
    assert lhq("filter", tmp_path / "p.toml").returncode == 0
    out = tmp_path / words[-1]
    typed = [tmp_path / "p.toml" if word == "PIPELINE" else word for word in words[:-1]]
    for mine in (scene(3), b"my notes\n", b"<!doctype html>\n<title>Mine</title>\n"):
        out.write_bytes(mine)
        done = lhq(*typed, out)
        assert (done.returncode, out.read_bytes()) == (2, mine)
        assert f"{out}: is there already, and lhq did not write it" in done.stderr
    out.write_bytes(b"")
    for _ in range(2):
        done = lhq(*typed, out)
        assert done.returncode == 0, done.stderr
        assert out.stat().st_size > 100
