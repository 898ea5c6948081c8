"""The check of the whole file and its figures, on painted pictures with known flaws, photographs and broken files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from PIL import Image, ImageFilter

from lhq.images import decode
from lhq.measures.duplicates import Duplicates, DuplicatesSettings
from lhq.measures.size import Size, SizeSettings
from lhq.records import Photo, Verdict
from tests.lhq.making import scene


def painted(seed: int = 1, width: int = 900, height: int = 600) -> Image.Image:
    return Image.open(io.BytesIO(scene(seed, width, height, quality=95))).convert("RGB")


def jpeg(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 92, **options})  # type: ignore[arg-type]
    return out.getvalue()


def facts(*data: bytes) -> pa.Table:
    photos = [Photo(f"x:{number}", each, 1, 1) for number, each in enumerate(data)]
    return pa.Table.from_batches([Size(SizeSettings()).measure(photos)])


def fact(data: bytes, name: str) -> object:
    return facts(data)[name][0].as_py()


def verdict(data: bytes, **settings: object) -> Verdict:
    given = SizeSettings.model_validate({"min_side_px": 10, **settings})
    return Size(given).judge(facts(data), given)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_true_size_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    row = facts(jpeg(painted(), exif=exif)).to_pylist()[0]
    size = (row["width_px"], row["height_px"])
    assert size == ((600, 900) if orientation >= 5 else (900, 600))
    assert row["mode"] == "RGB"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.99, 0.9999])
def test_a_file_that_was_cut_is_found_wherever_it_was_cut(share: float) -> None:
    data = jpeg(painted())
    seen = verdict(data[: int(len(data) * share)])
    assert not seen.kept
    assert seen.detail.startswith("truncated: ")
    assert np.isnan(seen.score)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_broken_data_in_the_middle_is_found_though_pillow_paints_it_grey(share: float) -> None:
    data = bytearray(jpeg(painted()))
    at = int(len(data) * share)
    data[at : at + 1500] = bytes(1500)
    Image.open(io.BytesIO(bytes(data))).load()  # goes without a word
    assert verdict(bytes(data)).detail.startswith("corrupt: ")


@pytest.mark.parametrize("lost", ["a marker", "a marker and what follows it"])
def test_pixels_that_were_skipped_to_a_restart_marker_are_found(lost: str) -> None:
    out = io.BytesIO()
    painted().save(out, "JPEG", restart_marker_blocks=4)
    data = out.getvalue()
    assert verdict(data).kept
    at = [at for at in range(len(data)) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    end = at[5] + 2 if lost == "a marker" else at[6]
    assert verdict(data[: at[5]] + data[end:]).detail.startswith("corrupt: ")


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True})])
def test_other_formats_are_decoded_to_their_end(format: str, options: dict[str, object]) -> None:
    data = scene(3, 400, 300, format, **options)
    assert verdict(data).kept
    broken = bytearray(data)
    broken[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    assert not verdict(data[: len(data) - 20]).kept
    if format == "PNG":  # WebP has no checksum: what decodes is what there is
        assert not verdict(bytes(broken)).kept


def test_what_is_no_still_picture_has_a_word() -> None:
    frames = [painted(n, 64, 64) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    assert fact(out.getvalue(), "error") == "animated"
    assert fact(b"<html>404</html>", "error") == "not-an-image"
    assert fact(b"", "error") == "empty"
    rows = facts(b"", jpeg(painted()))
    assert rows["width_px"].to_pylist() == [None, 900]


def test_size_and_shape() -> None:
    wide = jpeg(painted(1, 900, 200))
    assert verdict(wide, min_side_px=200, max_aspect=4.5).kept
    small = verdict(wide, min_side_px=201)
    assert (small.kept, small.score, small.detail) == (False, 200, "short side 200 px")
    long = verdict(wide, max_aspect=4.4)
    assert (long.score, long.detail) == (4.5, "aspect 4.50")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (40, 90, 30)])
@pytest.mark.parametrize(
    ("box", "share"), [((0, 80, 900, 520), 160 / 600), ((90, 0, 900, 600), 0.1), ((40, 40, 860, 560), 80 / 600)]
)
def test_bars_are_measured(colour: tuple[int, int, int], box: tuple[int, int, int, int], share: float) -> None:
    image = Image.new("RGB", (900, 600), colour)
    image.paste(painted(7, box[2] - box[0], box[3] - box[1]), box[:2])
    assert fact(jpeg(image), "border") == pytest.approx(share, abs=0.03)
    assert verdict(jpeg(image)).detail.startswith("flat borders take ")


def test_a_clear_sky_is_no_bar() -> None:
    fade = np.linspace(90, 200, 300)[:, None, None] * np.array([0.5, 0.7, 1.0])
    sky = np.broadcast_to(fade, (300, 900, 3))
    ground = np.asarray(painted(8, 900, 300))
    image = Image.fromarray(np.concatenate([sky, ground]).astype(np.uint8))
    assert fact(jpeg(image), "border") == 0


def test_grey_and_toned_pictures_have_no_colour() -> None:
    grey = painted().convert("L")
    toned = Image.merge("RGB", [grey.point(lambda v, f=f: int(v * f)) for f in (1.0, 0.97, 0.93)])
    for flat in (grey, grey.convert("RGB"), toned):
        assert verdict(jpeg(flat)).kept
        assert verdict(jpeg(flat), allow_grey=False).detail.startswith("grey (colour 0.0")
    assert verdict(jpeg(painted()), allow_grey=False).kept
    assert fact(jpeg(grey), "mode") == "L"
    assert fact(jpeg(painted().convert("CMYK")), "mode") == "CMYK"


def test_blur_lowers_sharpness_and_noise_raises_noise() -> None:
    rng = np.random.default_rng(0)
    texture = np.asarray(Image.fromarray(rng.integers(0, 256, (200, 300), dtype=np.uint8)).resize((1800, 1200)))
    image = Image.fromarray(np.stack([texture] * 3, axis=2))
    sharp = [fact(jpeg(image.filter(ImageFilter.GaussianBlur(radius))), "sharpness") for radius in (0, 12, 30)]
    assert sharp == sorted(sharp, reverse=True)  # type: ignore[type-var]
    assert verdict(jpeg(image.filter(ImageFilter.GaussianBlur(30))), min_sharpness=sharp[1]).detail.startswith(
        "blurred"
    )
    smooth = np.asarray(painted(4, 1600, 1200).filter(ImageFilter.GaussianBlur(20)), np.int16)
    # Grain of 8 px: one value a DCT block, so that it shows at an eighth of the scale as it is.
    coarse = [np.kron(rng.standard_normal((150, 200)) * level, np.ones((8, 8))) for level in (0, 6, 20)]
    noisy = [jpeg(Image.fromarray((smooth + grain[:, :, None]).clip(0, 255).astype(np.uint8))) for grain in coarse]
    noise = [fact(data, "noise") for data in noisy]
    assert noise == sorted(noise)  # type: ignore[type-var]
    assert noise[2] == pytest.approx(20 / 255, rel=0.35)
    assert verdict(noisy[2], max_noise=noise[1]).detail.startswith("noisy")


def test_size_and_duplicates_share_one_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(1) or real(*a, **k))
    size, near = Size(SizeSettings()), Duplicates(DuplicatesSettings())
    photos = [Photo(f"x:{n}", scene(n), 480, 320) for n in range(size.rows)]
    size.measure(photos)
    near.measure(photos)
    assert len(calls) == len(photos)


def test_photographs_pass_with_their_true_size(shared: Path) -> None:
    folder = shared / "photos/landscapes"
    with open(folder / "MANIFEST.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[::4]
    seen = facts(*[(folder / row["file"]).read_bytes() for row in rows])
    assert seen["error"].null_count == len(rows)
    assert seen["width_px"].to_pylist() == [int(row["width"]) for row in rows]
    assert seen["height_px"].to_pylist() == [int(row["height"]) for row in rows]
    settings = SizeSettings(max_border=0.0, min_sharpness=0.01)
    dropped = [(rows[n]["file"], v.detail) for n, v in enumerate(Size(settings).judge(seen, settings)) if not v.kept]
    assert not dropped


def test_every_nasty_file_is_a_row_and_what_passes_decodes(shared: Path) -> None:
    files = [path for path in sorted((shared / "nasty").rglob("*")) if path.is_file()]
    data = [path.read_bytes() for path in files]
    seen = facts(*data)
    assert len(seen) == len(files)
    verdicts = Size(SizeSettings()).judge(seen, SizeSettings())
    assert not any(v.kept for v, error in zip(verdicts, seen["error"].to_pylist(), strict=True) if error)
    for path, each, error in list(zip(files, data, seen["error"].to_pylist(), strict=True))[::5]:
        if error is None:
            assert decode(each).mode == "RGB", path
