"""Makes `tests/old/*.tar.xz`: a store, an export and a run as an earlier version left them.

Run it in a checkout of that version, here the one before the modules moved into their rooms:

    git worktree add ../before 43a59c1 && cd ../before && PYTHONPATH=$PWD python …/tests/old/make.py OUT
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from lhq import pipeline as way
from lhq.cli import cli
from tests.lhq.bad_server import Server, answer
from tests.lhq.services import photo, pipeline, serve

MORE = """
[filter.size]
min_side_px = 40
max_noise = 1.0
[filter.text]
[filter.duplicates]
"""
MODEL = ["--model.resolution=16", "--model.channel-base=64", "--model.channel-max=8", "--model.z-dim=8"]
MODEL += ["--model.w-dim=8", "--model.num-half-res=0", "--optim.batch=4", "--run.tick-kimg=0.008"]
MODEL += ["--run.snapshot-ticks=1", "--run.keep=1", "--loss.pl-weight=0", "--data.threads=1"]


def lhq(*words: object) -> None:
    code = cli.main([str(word) for word in words], standalone_mode=False)
    assert not code, (words, code)


def make_store(folder: Path) -> None:
    """A sealed shard with facts and verdicts, and a crawl that was killed with photos in its spool."""
    with Server() as server:
        serve(server, {f"p{n}": photo(n, 80, 60) for n in range(8)}, page_size=3)
        server.routes["/images/p3"] = answer(b"", 404)
        path = pipeline(folder, server, want=4, per_host=1)
        with path.open("a") as file:
            file.write(MORE)
        lhq("crawl", path)
        lhq("filter", path)
        lhq("remove", path, "unsplash:p1", "--reason", "asked")
        server.routes["/images/p6"] = lambda talk: talk.closing.wait(60) and None
        killed = subprocess.Popen([sys.executable, "-m", "lhq", "crawl", path, "--want", "7"], env=os.environ)
        while way.crawl_status(way.load(path)).num_kept < 5:
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()


def make_export(folder: Path) -> None:
    """Imported photos, their export, and one that was taken down after it."""
    (folder / "pictures").mkdir()
    for n in range(4):
        (folder / "pictures" / f"{n}.jpg").write_bytes(photo(n, 80, 60))
    path = folder / "pipeline.toml"
    lines = [f'store = "{folder}/store"', 'queries = ["lake"]', "want = 4", "[export]", f'to = "{folder}/export"']
    path.write_text("\n".join([*lines, 'variants = ["32"]', 'publish = "bytes"', MORE]))
    lhq("import", "folder", folder / "pictures", path, "--licence", "own", "--author", "Me", "--name", "mine")
    lhq("filter", path)
    lhq("export", path)
    lhq("remove", path, "folder:mine/1.jpg", "--reason", "asked")


def make_run(folder: Path) -> None:
    """A run of two snapshots' length, and the tile that its model paints."""
    data = folder / "data"
    data.mkdir()
    bytes_ = [photo(n, 24, 24) for n in range(16)]
    import pyarrow as pa

    pq.write_table(pa.table({"image": bytes_}), data / "0.parquet")
    words = ["--data", data, "--out", folder / "run", "--run.kimg=0.016", *MODEL]
    subprocess.run([sys.executable, "-m", "alis", "train", *words], check=True)
    import alis

    tile = alis.Panorama(alis.load(folder / "run"), seed=7).tile(-3)
    Image.fromarray(tile).save(folder / "tile.png")


def main() -> None:
    out = Path(sys.argv[1])
    for name, make in (("store", make_store), ("export", make_export), ("run", make_run)):
        place = out / name
        place.mkdir(parents=True)
        make(place)
        with tarfile.open(out / f"{name}.tar.xz", "w:xz") as file:
            file.add(place, name)


if __name__ == "__main__":
    main()
