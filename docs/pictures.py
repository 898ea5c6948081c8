"""The package's model → the pictures of README and docs: strips, a redrawn scene, scenes connected, the page.

    python docs/pictures.py                     docs/pictures/{strip,resample,connect,page}.jpg
    python docs/pictures.py --psi 0.9 --seeds 3 7 8

For a new demo model, beside `python docs/notebook.py`. Small models are shown at twice their size. The page is what a
browser shows (`pip install playwright`, and Chromium on this machine); without one its picture stays as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import alis
from alis.painting import connect, strip
from alis.plane.anchors import Draw

PICTURES = Path(__file__).parent / "pictures"
SCREEN = {"width": 1280, "height": 720}
GAP_PX = 12
Pixels = np.ndarray


def below_each_other(rows: list[Pixels], name: str) -> None:
    """Rows of equal width [R, W, 3], white between them, as a JPEG."""
    white = np.full((GAP_PX // (2 if rows[0].shape[0] < 128 else 1), rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, white)][:-1]
    picture = Image.fromarray(np.concatenate(parts))
    if rows[0].shape[0] < 128:
        picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
    picture.save(PICTURES / name, quality=88)
    print(PICTURES / name, picture.size)


def page(model: str, chromium: str) -> None:
    """`alis serve`, looked at through a browser once it has painted all that is on the screen."""
    from playwright.sync_api import sync_playwright

    words = [sys.executable, "-m", "alis", "serve", model, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            shown = browser.new_page(viewport=SCREEN, reduced_motion="reduce")  # a page that moves never settles
            shown.goto(server.stdout.readline().strip())
            while not shown.evaluate("Boolean(window.alis && window.alis.plane.isSettled)"):
                shown.wait_for_timeout(100)
            shown.screenshot(path=PICTURES / "page.jpg", type="jpeg", quality=88)
            browser.close()
        finally:
            server.terminate()
    print(PICTURES / "page.jpg", tuple(SCREEN.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 7, 8], help="of the strips; the first is redrawn")
    parser.add_argument("--psi", type=float, default=0.9)
    asked = parser.parse_args()
    g = alis.load(asked.model)
    side = g.config.resolution
    planes = [alis.Panorama(g, seed, psi=asked.psi) for seed in asked.seeds]
    below_each_other([plane[0 : 14 * side] for plane in planes], "strip.jpg")
    redrawn = strip.redrawn(strip.plan(planes[0], frames=12), at=6 * side)
    below_each_other([planes[0][0 : 12 * side], redrawn.panorama[0 : 12 * side]], "resample.jpg")
    met = connect.plan(planes[0], [Draw(seed) for seed in (3, 14, 15)])
    below_each_other([met.panorama[met.start : met.start + met.width]], "connect.jpg")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium:
        page(asked.model, chromium)
    else:
        print("no Chromium here: page.jpg stays as it is", file=sys.stderr)


if __name__ == "__main__":
    main()
