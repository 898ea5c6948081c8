"""The static page in a real browser: the same tiles as Python's."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import alis
from alis import formats
from alis.cli import main
from alis.errors import InputError
from alis.painting import clusters, strip
from alis.plane import codes
from alis.plane.anchors import Draw, Sketch, draw_z
from alis.plane.latents import local_latents, quantiles
from alis.plane.noise import column_noise
from alis.web import npm
from alis.web.npm import RUNTIME
from alis.web.static import site
from tests.alis import painter as models
from tests.alis.web.browsing import Page, pytestmark  # noqa: F401

PLACES = ["7/- -3", "7/- 0", "0/p70 12", "7/a1v3 3", "9007199254740991/- 5", "7/nc -6", "7/nn -1", "7/r3 20"]
PLACES += ["7/p60_cn 2", "7/c1 9", "7/a0s9i-4v1_a1fmine -2", "7/a0fwide 1", "7/- 1000000000000", "7/- -99999999999"]
READ = """async ([text, k]) => { const { parse } = await import("./sketch.js");
  const bitmap = await window.alis.painter.tile(parse(text), k), paper = document.createElement("canvas");
  paper.width = bitmap.width; paper.height = bitmap.height;
  const context = paper.getContext("2d", { alpha: false }); context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height); let text64 = "";
  for (let i = 0; i < data.length; i += 4) text64 += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
  return btoa(text64); }"""
STRIP = """async ([text, left, right, ending]) => { const { parse } = await import("./sketch.js");
  const blob = await window.alis.painter.strip(parse(text), left, right, ending); let text64 = "";
  for (const byte of new Uint8Array(await blob.arrayBuffer())) text64 += String.fromCharCode(byte);
  return btoa(text64); }"""
DRAWS = """async ([seed, index, variant, size, attempt, layer, columns, channels, height]) => {
  const random = await import("./random.js");
  const table = new Float32Array(await (await fetch("model/quantiles.f32")).arrayBuffer());
  return [random.drawZ({ seed, index, variant }, size, attempt), random.columnNoise(seed, layer, columns, height),
    random.localLatents(seed, layer, columns, channels, height, table)].map((some) => [...some]); }"""

TABLE = 'fetch("model/quantiles.f32").then((a) => a.arrayBuffer()).then((b) => [...new Float32Array(b)])'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, alis.Panorama]:
    """A page of a small seamless model with clusters and saved codes, and its plane."""
    if not RUNTIME.cached.is_file():
        pytest.skip(f"{RUNTIME.cached} is not here: python -m tests.alis.web.npm fetches it")
    folder = tmp_path_factory.mktemp("static")
    g = models.tiny(padding="plane", local_latents=0.5)
    alis.save(folder / "model", g)
    random = torch.Generator().manual_seed(0)
    centres_KS = g.map(torch.randn(4, g.config.z_dim, generator=random))
    clusters.save(folder / "model", clusters.Clusters(centres_KS, torch.full([4], 0.25), 1.0))
    saved = {"mine": centres_KS[0], "wide": g.map(torch.randn(g.num_ws, g.config.z_dim, generator=random))}
    words = ["export-web", str(folder / "model"), "-o", str(folder / "site"), "--seed", "7"]
    for name, w in saved.items():
        codes.save(folder / f"{name}.safetensors", w)
        words += ["--codes", str(folder / f"{name}.safetensors")]
    assert run(words) == 0
    return folder / "site", alis.Panorama(alis.load(folder / "model"), 7, centres=centres_KS, codes=saved)


def run(words: list[str]) -> int:
    """Run the command as a shell does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["alis", *words])
        with pytest.raises(SystemExit) as left:
            main()
    return int(left.value.code or 0)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The same as `python -m http.server`, without its log."""

    def log_message(self, *args: object) -> None:
        pass


class Isolated(Quiet):
    """With the headers that let a page share memory between threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@pytest.fixture(scope="module")
def open_site(browser: Any) -> Iterator[Callable[..., Page]]:
    opened: list[tuple[Page, http.server.ThreadingHTTPServer, str]] = []

    def new(folder: Path, address: str = "#7/-/8.000", handler: type[Quiet] = Quiet) -> Page:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        opened.append((Page(browser, url + address), server, url))
        return opened[-1][0]

    yield new
    for page, server, url in opened:
        page.context.close()
        server.shutdown()
        assert not page.complaints, page.complaints
        assert all(asked.startswith((url, "blob:", "data:")) for asked in page.asked), "no request leaves the folder"


@pytest.fixture(scope="module")
def page(made: tuple[Path, alis.Panorama], open_site: Callable[[Path], Page]) -> Page:
    return open_site(made[0])


def test_tiles_equal_pythons_at_fourteen_positions(made: tuple[Path, alis.Panorama], page: Page) -> None:
    apart = {}
    for place in PLACES:
        text, k = place.split()
        want = made[1].with_sketch(Sketch.parse(text)).tile(int(k))
        got = np.frombuffer(base64.b64decode(page.page.evaluate(READ, [text, int(k)])), np.uint8).reshape(want.shape)
        apart[place] = np.abs(got.astype(int) - want)
    assert max(int(one.max()) for one in apart.values()) <= 1, {place: one.max() for place, one in apart.items()}
    assert sum(not one.any() for one in apart.values()) >= 10, "most are equal to the byte"


def test_threads_paint_the_same_tiles(made: tuple[Path, alis.Panorama], open_site: Callable[..., Page]) -> None:
    """If the server's headers allow threads and the machine has cores for them."""
    page = open_site(made[0], handler=Isolated)
    assert page.ask("self.crossOriginIsolated")
    cores = page.ask("navigator.hardwareConcurrency")
    note = page.page.evaluate("window.alis.painter.note")
    assert ("threads" in note) == (cores > 1), (note, cores)
    for place in PLACES[:4]:
        text, k = place.split()
        want = made[1].with_sketch(Sketch.parse(text)).tile(int(k))
        got = np.frombuffer(base64.b64decode(page.page.evaluate(READ, [text, int(k)])), np.uint8).reshape(want.shape)
        assert np.abs(got.astype(int) - want).max() <= 1, place


def test_random_numbers_are_the_same_in_both_languages(page: Page) -> None:
    table = page.ask(TABLE)
    assert np.array_equal(quantiles(torch.device("cpu")).numpy(), np.float32(table))
    for seed, index, variant, attempt in ((0, 0, 0, 0), (7, -3, 2, 31), (2**53 - 1, -(2**40), 2**31 - 1, 255)):
        columns = [index * 4096 + i for i in (-1, 0, 1)]
        z, noise, latents = page.page.evaluate(DRAWS, [seed, index, variant, 63, attempt, 16, columns, 5, 8])
        want_z = draw_z(Draw(seed, index, variant), 63, attempt)
        seed_B, column_Bw = torch.tensor([seed]), torch.tensor([columns])
        want_noise = column_noise(seed_B, 16, column_Bw, 8).flatten().numpy()
        want_latents = local_latents(seed_B, 16, column_Bw, 5, 8).flatten().numpy()
        assert np.array_equal(np.float32(latents), want_latents)
        # A logarithm or a cosine may differ in its last bit from one library to the next.
        np.testing.assert_array_max_ulp(np.float32(z), want_z, 2)
        np.testing.assert_allclose(np.float32(noise), want_noise, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_strip_saved_in_the_browser_can_be_redrawn_by_alis(
    made: tuple[Path, alis.Panorama], page: Page, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"strip.{ending}"
    path.write_bytes(base64.b64decode(page.page.evaluate(STRIP, ["7/a1v3", -30, 101, ending])))
    note = strip.Note.parse(formats.read_note(path) or "")
    assert (note.sketch, note.start, note.width, note.model) == ("7/a1v3", -30, 131, strip.fingerprint(made[1].g))
    want = made[1].with_edits({1: 3})[-30:101]
    picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
    assert picture.shape == want.shape
    if ending == "png":
        assert np.abs(picture.astype(int) - want).max() <= 1


def test_the_static_page_works_like_the_served_one(page: Page) -> None:
    assert "painted here" in page.page.locator("#place").inner_text()
    before = page.picture()
    page.page.keyboard.press("r")
    page.settle()
    assert page.sketch == "7/a2v1"
    assert page.picture() != before
    page.page.keyboard.press("z")
    page.settle()
    assert page.sketch == "7/-"
    page.page.locator("#connect").click()
    page.until(lambda: page.page.locator(".scene canvas.dry").count() >= 12)
    page.page.keyboard.press("Escape")


def test_a_folder_that_is_not_a_page_is_not_replaced(made: tuple[Path, alis.Panorama], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for place, overwrite in (
        (tmp_path / "mine", True),
        (made[0], False),
        (tmp_path / "no" / "where", False),
        (tmp_path / ("n" * 254), False),
    ):
        with pytest.raises(InputError):
            site.write(made[1], place, overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    assert site.is_site(made[0])


def test_without_a_network_the_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"onnxruntime-web-.*\.tgz: can't be downloaded") as told:
        npm.tarball(RUNTIME)
    assert f"npm pack {RUNTIME.name}@{RUNTIME.version}" in told.value.hint
    (tmp_path / RUNTIME.file).write_bytes(b"something else")
    with pytest.raises(InputError, match="is not onnxruntime-web"):
        npm.tarball(RUNTIME, tmp_path / RUNTIME.file)


def test_a_space_is_the_same_folder_with_its_settings(
    made: tuple[Path, alis.Panorama], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["push-to-hub", str(made[0].parent / "model"), "look", "--space", "--dry-run"]) == 0
    assert {path.name for path in (tmp_path / "look").iterdir()} == {path.name for path in made[0].iterdir()}
    head = (tmp_path / "look" / "README.md").read_text().split("---")[1]
    assert "sdk: static" in head
    assert "cross-origin-embedder-policy: require-corp" in head
    assert json.loads((tmp_path / "look" / "model.json").read_text())["painter"] == "browser"
