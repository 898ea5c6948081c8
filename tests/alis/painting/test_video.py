"""Videos: the camera shows the plane's columns, loops close, any aspect ratio, and no incomplete files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import alis
from alis.cli import cli
from alis.errors import AlisError, InputError
from alis.painting import video
from tests.alis import painter

av = pytest.importorskip("av", reason="PyAV is not installed")


@pytest.fixture(scope="module")
def panorama() -> alis.Panorama:
    return alis.Panorama(painter.tiny(), 5, psi=0.7)


def test_the_camera_shows_the_plane(panorama: alis.Panorama) -> None:
    settings = video.video_settings(panorama, seconds=2, fps=10, aspect="2:1")
    frames = list(video.pan(panorama, settings, speed=25, start=-30))
    assert len(frames) == 20
    for number in (0, 2, 18):
        left = -30 + int(number * 2.5)
        assert np.array_equal(frames[number], panorama[left : left + 64])
    between = (panorama[-28:36].astype(float) + panorama[-27:37]) / 2
    assert np.abs(frames[1] - between).max() <= 1, "half a column on, it is mixed"
    back = list(video.pan(panorama, settings, speed=-25, start=-30))
    assert np.array_equal(back[2], panorama[-35:29])


def test_a_loop_ends_where_it_starts(panorama: alis.Panorama) -> None:
    settings = video.video_settings(panorama, seconds=2, fps=8, aspect="1:1")
    frames = list(video.pan(panorama, settings, speed=70, loop=True))
    step = 128 / 16  # two anchors in sixteen frames
    ring = panorama.with_sketch(panorama.sketch.closed(2))
    assert np.array_equal(frames[-1], ring[int(128 - step) : int(128 - step) + 32])
    assert np.array_equal(ring[128:160], frames[0])


def test_scenes_morph_into_their_variants(panorama: alis.Panorama) -> None:
    settings = video.video_settings(panorama, seconds=1, fps=9, aspect="2:1")
    frames = list(video.morph(panorama, settings, changes=2))
    for number, variant in [(0, 0), (4, 1), (8, 2)]:
        want = panorama.with_edits(dict.fromkeys(range(3), variant))[0:64]
        assert np.abs(frames[number].astype(int) - want).max() <= 1
    assert not np.array_equal(frames[0], frames[8])
    settings = video.video_settings(panorama, seconds=1, fps=8, aspect="2:1")
    loop = list(video.morph(panorama, settings, changes=2, loop=True))
    assert np.abs(loop[0].astype(int) - panorama[0:64]).max() <= 1
    assert np.abs(loop[4].astype(int) - panorama.with_edits(dict.fromkeys(range(3), 1))[0:64]).max() <= 1


@pytest.mark.parametrize(("name", "codec"), [("pan.mp4", "h264"), ("pan.webm", "vp9")])
def test_videos_can_be_decoded(panorama: alis.Panorama, tmp_path: Path, name: str, codec: str) -> None:
    settings = video.video_settings(panorama, seconds=1, fps=10, aspect="16:9", height=90)
    assert (settings.width, settings.height) == (160, 90)
    video.write(tmp_path / name, video.video_frames(panorama, settings, speed=16), settings)
    with av.open(str(tmp_path / name)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 160, 90)
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert len(pictures) == 10
    want = next(video.pan(panorama, settings, speed=16)).mean(axis=(0, 1))
    assert np.abs(pictures[0].mean(axis=(0, 1)) - want).max() < 12
    assert os.listdir(tmp_path) == [name]


def test_an_unfinished_video_leaves_no_file(panorama: alis.Panorama, tmp_path: Path) -> None:
    settings = video.video_settings(panorama, seconds=1, fps=10)

    def some():  # type: ignore[no-untyped-def]
        yield from list(video.pan(panorama, settings, speed=16))[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.write(tmp_path / "pan.mp4", some(), settings)
    assert not os.listdir(tmp_path)


def test_from_the_command_line(panorama: alis.Panorama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alis.save("model", panorama.g)
    done = CliRunner().invoke(cli, ["video", "model", "-o", "a.mp4", "--seconds", "0.3", "--changes", "1", "--loop"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "a.mp4"
    for words, told in [
        (["-o", "a.mp4"], "exists"),
        (["-o", "b.avi"], "'.avi'"),
        (["-o", "no/b.mp4"], "no such folder"),
        (["-o", "b.mp4", "--seconds", "0"], "0 seconds"),
        (["-o", "b.mp4", "--fps", "1000"], "1000 frames"),
        (["-o", "b.mp4", "--aspect", "wide"], "aspect"),
        (["-o", "b.mp4", "--aspect", "1:0"], "aspect"),
        (["-o", "b.mp4", "--aspect", "-2"], "a video of"),
        (["-o", "b.mp4", "--height", "99999"], "a video of"),
        (["-o", "b.mp4", "--changes", "0"], "0 changes"),
        (["-o", "b.mp4", "--changes", "1", "--speed", "2"], "both"),
        (["-o", "b.mp4", "--speed", "nan"], "nan"),
    ]:
        result = CliRunner().invoke(cli, ["video", "model", *words])
        assert isinstance(result.exception, AlisError), (words, result.output)
        assert isinstance(result.exception, InputError)
        assert told in str(result.exception)
    assert sorted(os.listdir(".")) == ["a.mp4", "model"]
