"""Plots of runs as PNG and as a page, also of a run that is still being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from alis.errors import InputError
from alis.training import json_lines
from alis.training.monitor import Monitor
from alis.training.plot import plot


@pytest.fixture
def run(tmp_path: Path) -> Path:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    snapshot = folder / "snapshots" / "000002000"
    snapshot.mkdir(parents=True)
    lines = [{"images": k * 1000, "loss_g": 1.0 / k, "loss_d": 2.0, "r1": None, "s_per_kimg": 9} for k in (1, 2, 3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"images": 4000, "lo')
    (snapshot / "evaluation.jsonl").write_text(json.dumps({"inf-fid": 12.5}) + "\n")
    (snapshot / "config.json").write_text("{}")
    Image.new("RGB", (32, 8), (1, 2, 3)).save(snapshot / "strip.png")
    return folder


def test_curves_are_plotted_as_a_picture(run: Path, tmp_path: Path) -> None:
    out = plot([run], tmp_path / "deep" / "curves.png")
    with Image.open(out) as picture:
        assert picture.size[0] > 900
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50


def test_a_page_has_curves_and_pictures(run: Path, tmp_path: Path) -> None:
    text = plot([run, run], tmp_path / "page.html").read_text()
    assert text.count("<svg") == 1
    assert "Fréchet" in text
    assert text.count("data:image/png") == 2
    assert "http://" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


@pytest.mark.parametrize(("was", "now"), [(b'2000, "loss', b'20\xd00, "l\xf6ss'), (b"2000", b"2400"), (b"0.5", b"0.7")])
def test_a_damaged_line_is_left_out_with_a_warning(
    was: bytes, now: bytes, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte in the log ended a run that went on from a sound snapshot; a flipped digit was plotted."""
    log = run / "metrics.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()[:3]]
    log.write_text("".join(json_lines.line(record) for record in records))
    log.write_bytes(log.read_bytes().replace(was, now))
    plot([run], tmp_path / "curves.png")
    Monitor(run, start=2500, total=4000, device=torch.device("cpu")).close()
    assert caplog.text.count("metrics.jsonl: 1 damaged lines left out, the first is line 2") == 2
    assert [json.loads(line)["images"] for line in log.read_text().splitlines()] == [1000]


def test_what_cannot_be_plotted_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png, \.svg or \.html"):
        plot([run], tmp_path / "curves.gif")
    with pytest.raises(InputError, match=r"no metrics\.jsonl"):
        plot([tmp_path], tmp_path / "curves.png")
