"""Where the processor time of `lhq crawl` goes, by the work it does: sampled over all threads of one crawl.

    python benchmarks/crawl_profile.py --photos 1500

A thread reads every thread's processor clock five hundred times a second and books what passed since to the innermost
place it knows in that thread's stack. The server is another process and not counted; with sendfile it takes 0.2 ms a
photo.

2.5 ms a photo of 0.7 MB, beside other work: its page and papers 0.66, the exchange of requests 0.49, guard, pace and
deadlines 0.49, SQLite 0.3, hand-over 0.21. Cut: every photo was written to the spool, read back and written to its
shard, 1.6 ms of 5.2; now its bytes are the shard's page from the start. Papers were made into arrays by pyarrow.array,
which loads pandas: half a second and 50 MB. Fresh pages of the file cache, where a virtual machine returns free memory
to its host: filling them took 1.3 ms of 4; now what is on disk leaves the cache, and the same pages serve again: 0.3.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from crawl import make_photos, server, table

EVERY_S = 0.002
# (piece of the file's path, function or "" for any) → the work; the innermost frame that fits counts.
PLACES = [
    ("lhq/images", "", "header check and sha256"),
    ("lhq/crawl/parquet_pages.py", "page_header", "spool: a photo's page and papers"),
    ("lhq/crawl/spool.py", "extend", "spool: a photo's page and papers"),
    ("lhq/crawl/spool.py", "_write_all", "spool: a photo's page and papers"),
    ("lhq/crawl/spool.py", "of", "spool: a photo's page and papers"),
    ("lhq/crawl/spool.py", "sync", "spool: sync"),
    ("lhq/crawl/spool.py", "write_behind", "spool: sync"),
    ("lhq/crawl/spool.py", "", "shard: papers, footer, sync"),
    ("lhq/crawl/parquet_pages.py", "", "shard: papers, footer, sync"),
    ("lhq/crawl/shard_file.py", "", "shard: papers, footer, sync"),
    ("lhq/store/shards.py", "", "shard: papers, footer, sync"),
    ("lhq/crawl/frontier", "", "frontier (SQLite)"),
    ("lhq/sources", "", "reading the offers"),
    ("lhq/http/body.py", "", "body: from the socket to memory"),
    ("http/client.py", "", "HTTP: request, status, headers"),
    ("urllib3", "", "urllib3"),
    ("requests", "", "requests"),
    ("lhq/http", "", "client: guard, pace, deadlines"),
    ("lhq/crawl", "", "crawl: queue and hand-over"),
]


def place(frame: FrameType | None) -> str:
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        for part, function, what in PLACES:
            if part in path and function in {"", name}:
                return what
        frame = frame.f_back
    return "the rest"


def sample(counts: Counter[str], done: threading.Event) -> None:
    last: dict[int, float] = {}
    own = threading.get_ident()
    while not done.wait(EVERY_S):
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            try:
                now = time.clock_gettime(time.pthread_getcpuclockid(ident))
            except OSError:
                continue
            if ident in last and now > last[ident]:
                counts[place(frame)] += int((now - last[ident]) * 1e6)
            last[ident] = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1500)
    asked = parser.parse_args()
    import lhq

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos")
        with server(folder / "photos") as port:
            pipeline = lhq.load(table(port, asked.photos, folder))
            counts: Counter[str] = Counter()
            done = threading.Event()
            sampler = threading.Thread(target=sample, args=(counts, done), daemon=True)
            sampler.start()
            report = pipeline.crawl()
            done.set()
            sampler.join()
    total = sum(counts.values())
    print(f"{report.num_kept} photos, {total / 1000 / report.num_kept:.2f} ms of processor time each")
    for what, microseconds in counts.most_common():
        print(f"  {microseconds / 1000 / report.num_kept:6.2f} ms  {100 * microseconds / total:5.1f} %  {what}")
    print(json.dumps({what: microseconds / 1000 / report.num_kept for what, microseconds in counts.items()}))


if __name__ == "__main__":
    main()
