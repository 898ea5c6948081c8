"""Pipeline file → the services its stages use: the sandbox if it has one, the HTTP client, the sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lhq.errors import UserError
from lhq.http import Client
from lhq.pipeline.file import PipelineFile
from lhq.pipeline.registry import SOURCES
from lhq.sources import Source


@dataclass(frozen=True)
class Services:
    """One HTTP client and the sources that use it."""

    file: PipelineFile
    client: Client

    def sources(self) -> dict[str, Source]:
        """The file's sources by name, in its order, ready to search.

        Raises:
            KeyMissing: a source's key or permission is not there.
        """
        return {name: SOURCES.load(name)(settings, self.client) for name, settings in self.file.sources.items()}


@contextmanager
def services(file: PipelineFile) -> Iterator[Services]:
    """The services of a pipeline; a `[sandbox]` is started here and stopped at the end.

    Raises:
        UserError: the sandbox's port is in use.
        InputError: its folder of photos is missing or empty.
    """
    with _sandboxed(file) as served:
        client = Client(served.http, served.policy)
        try:
            yield Services(served, client)
        finally:
            client.close()


@contextmanager
def _sandboxed(file: PipelineFile) -> Iterator[PipelineFile]:
    """The file with its sources pointed at the sandbox, if it has one."""
    if file.sandbox is None:
        yield file
        return
    from lhq.sandbox import Sandbox  # loads the painter, so only on demand

    asked = file.sandbox
    photos = [asked.photos] if isinstance(asked.photos, str) and asked.photos else list(asked.photos)
    with Sandbox(photos, seed=asked.seed, num_scenes=asked.num_scenes, port=asked.port) as box:
        yield pointed_at_sandbox(file, box.url)


def obstacles(file: PipelineFile) -> list[UserError]:
    """What would stop a crawl of this file before its first request; starts and sends nothing."""
    file = pointed_at_sandbox(file)
    try:
        client = Client(file.http)
    except UserError as error:
        return [error]
    found: list[UserError] = []
    for name, settings in file.sources.items():
        try:
            SOURCES.load(name)(settings, client)
        except UserError as error:
            found.append(error)
    client.close()
    return found


def pointed_at_sandbox(file: PipelineFile, url: str = "") -> PipelineFile:
    """The file with the sandbox's addresses, if it has one; the sandbox need not run yet.

    Args:
        url: where the sandbox answers; "" for where it will.
    """
    if file.sandbox is None:
        return file
    url = url or f"http://127.0.0.1:{file.sandbox.port}"
    places = {"unsplash": f"{url}/unsplash", "flickr": f"{url}/flickr/services/rest/"}
    sources = {
        name: settings.model_copy(update={"api": places[name]}) if name in places else settings
        for name, settings in file.sources.items()
    }
    hosts = (*file.http.allow_hosts, url.split("://")[1])
    return replace(file, sources=sources, http=file.http.model_copy(update={"allow_hosts": hosts}))
