"""The live page served on loopback, as for a browser."""

from __future__ import annotations

import io
import threading
import time

import httpx
import numpy as np
import uvicorn
from PIL import Image

import alis
from alis.web import app, connections, serve
from alis.web.painter import Painter


class Served:
    """The application in a thread, on a free port or the one given."""

    def __init__(
        self,
        panorama: alis.Panorama,
        *,
        port: int = 0,
        queue_tiles: int = 256,
        per_viewer: int = 128,
        hosts: tuple[str, ...] = (),
        limits: connections.ConnectionLimits | None = None,
    ) -> None:
        self.painter = Painter(panorama, queue_tiles=queue_tiles, cache_bytes=1 << 20)
        listener = serve.bind("127.0.0.1", port)
        self.port = listener.getsockname()[1]
        page = app.create(panorama, name="tiny", max_frames=8, per_viewer=per_viewer, hosts=hosts, painter=self.painter)
        self.server = uvicorn.Server(serve.settings(page, limits))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        for _ in range(500):
            if self.server.started:
                break
            time.sleep(0.01)

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive(), "the server did not stop"


def until(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def tile_of(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(float)
