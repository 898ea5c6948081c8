"""The page's painter: batches, queue, limits per viewer, and viewers who disconnect."""

from __future__ import annotations

import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import alis
from alis.web import painter
from alis.web.painter import Painter
from tests.alis.web.serving import Served, tile_of, until


def test_the_first_tiles_are_painted_before_the_first_viewer_comes(panorama: alis.Panorama) -> None:
    server = Served(panorama)
    try:
        server.painter.warm(range(-2, 6))
        until(lambda: server.painter.stats.painted == 8)
        assert tile_of(server.client.get("/tile/7/-/-2.webp")).shape == (32, 16, 3)
        assert (server.painter.stats.hits, server.painter.stats.painted) == (1, 8)
    finally:
        server.close()


def test_viewers_share_batches_and_a_tile_is_painted_once(panorama: alis.Panorama) -> None:
    server = Served(panorama)
    try:
        with ThreadPoolExecutor(16) as pool:
            wanted = [k for k in range(24) for _ in range(4)]
            answers = list(pool.map(lambda k: server.client.get(f"/tile/3/-/{k}.webp").status_code, wanted))
        assert set(answers) == {200}
        stats = server.painter.stats
        assert stats.painted == 24
        assert stats.hits + stats.joined == 72
        assert stats.batches < 24
    finally:
        server.close()


def test_a_full_queue_gets_503_with_retry_after(panorama: alis.Panorama) -> None:
    server = Served(panorama, queue_tiles=4)
    try:
        with server.painter._device, ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(server.client.get, f"/tile/3/-/{k}.webp") for k in range(40)]
            until(
                lambda: server.painter.stats.refused + server.painter.num_waiting + len(server.painter._painting) == 40
            )
            until(lambda: sum(done.done() for done in waiting) == server.painter.stats.refused)
            refused = [done for done in waiting if done.done()]
            assert refused
            assert {done.result().status_code for done in refused} == {503}
            assert all(int(done.result().headers["retry-after"]) >= 1 for done in refused)
            assert server.client.get("/model.json").status_code == 200, "the rest still answers"
            server.painter._device.release()
            assert {done.result().status_code for done in waiting} == {200, 503}
            server.painter._device.acquire()
        assert server.client.get("/tile/3/-/39.webp").status_code == 200
    finally:
        server.close()


def test_one_viewer_cannot_use_all_connections(panorama: alis.Panorama) -> None:
    server = Served(panorama, per_viewer=3)
    try:
        with server.painter._device, ThreadPoolExecutor(10) as pool:
            waiting = [pool.submit(server.client.get, f"/tile/3/-/{k}.webp") for k in range(10)]
            until(lambda: sum(done.done() for done in waiting) == 7)
            refused = [done for done in waiting if done.done()]
            assert {done.result().status_code for done in refused} == {429}
            server.painter._device.release()
            assert sorted(done.result().status_code for done in waiting) == [200] * 3 + [429] * 7
            server.painter._device.acquire()
    finally:
        server.close()


def test_tiles_of_disconnected_viewers_are_not_painted(panorama: alis.Panorama) -> None:
    server = Served(panorama)
    try:
        with server.painter._device:
            server_busy = socket.create_connection(("127.0.0.1", server.port))
            server_busy.sendall(b"GET /tile/4/-/0.webp HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: server.painter._painting)
            gone = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
            for k, wire in enumerate(gone):
                wire.sendall(f"GET /tile/4/-/{k + 1}.webp HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            until(lambda: server.painter.num_waiting == 8)
            for wire in gone:
                wire.close()
            until(lambda: server.painter.num_waiting == 0)
        assert b"200" in server_busy.recv(100)
        server_busy.close()
        assert server.painter.stats.dropped == 8
        assert server.painter.stats.painted == 1
    finally:
        server.close()


def test_the_strip_of_a_disconnected_viewer_is_dropped_and_blocks_nobody(
    panorama: alis.Panorama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = Served(panorama)
    try:
        with server.painter._device:
            wire = socket.create_connection(("127.0.0.1", server.port))
            wire.sendall(b"GET /strip/7/-/0/256.png HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: list(tmp_path.glob("alis-strip-*/*.partial")))
            busy = server.client.get("/strip/7/-/0/64.png")
            assert busy.status_code == 503, "one strip at a time"
            assert int(busy.headers["retry-after"]) >= 1
            wire.close()
        until(lambda: server.client.get("/strip/7/-/0/64.png").status_code == 200)
        until(lambda: not list(tmp_path.iterdir()))
    finally:
        server.close()


def test_a_failing_tile_does_not_fail_others_in_its_batch(panorama: alis.Panorama) -> None:
    """A code that can't be painted (of a wrong width, past all checks) gives only its viewer a 500, also in a batch."""
    broken = alis.Panorama(panorama.g, 7, codes={"mine": torch.zeros(32)})
    broken.anchor_codes.saved["mine"] = torch.zeros(33)
    server = Served(broken)
    try:
        with ThreadPoolExecutor(4) as pool:
            with server.painter._device:
                first = pool.submit(server.client.get, "/tile/7/-/50.webp")
                until(lambda: server.painter._painting)
                rest = [pool.submit(server.client.get, f"/tile/7/{e}/3.webp") for e in ("-", "a1fmine", "a0v1")]
                until(lambda: server.painter.num_waiting == 3)
            assert first.result().status_code == 200
            assert [done.result().status_code for done in rest] == [200, 500, 200]
    finally:
        server.close()


def test_closing_the_painter_answers_waiting_requests(panorama: alis.Panorama) -> None:
    import asyncio

    async def ask() -> None:
        work = Painter(panorama)
        with work._device:
            futures = [work.request(panorama.sketch, k) for k in range(3)]
            closing = asyncio.ensure_future(asyncio.to_thread(work.close))
            done = await asyncio.gather(*futures, return_exceptions=True)
        await closing
        assert all(isinstance(error, painter.Busy) for error in done)
        with pytest.raises(painter.Busy):
            work.request(panorama.sketch, 9)

    asyncio.run(ask())
