"""A `requests` session that goes through our client's guard, pace and limits, for libraries that use `requests`."""

from __future__ import annotations

from typing import Protocol

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from lhq.errors import LhqError
from lhq.http.response import Headers, Response


class ApiClient(Protocol):
    """The methods of `Client` that the adapter needs."""

    def api(self, method: str, url: str, *, headers: Headers | None = None, body: bytes | None = None) -> Response: ...

    def status_error(self, url: str, response: Response) -> LhqError: ...


class ClientAdapter(BaseAdapter):
    """A transport adapter that sends requests through the client."""

    def __init__(self, client: ApiClient) -> None:
        super().__init__()
        self._client = client

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        assert request.url is not None
        assert body is None or isinstance(body, bytes)
        headers = {k: v if isinstance(v, str) else v.decode("latin-1") for k, v in request.headers.items()}
        headers.pop("User-Agent", None)
        headers["Accept-Encoding"] = "gzip"
        response = self._client.api(request.method or "GET", request.url, headers=headers, body=body)
        if response.status != 200:
            raise self._client.status_error(request.url, response)
        wrapped = requests.Response()
        wrapped.status_code = response.status
        wrapped.headers = CaseInsensitiveDict(response.headers)
        wrapped._content = bytes(response.body)
        wrapped.url, wrapped.request, wrapped.encoding = response.url, request, "utf-8"
        return wrapped

    def close(self) -> None:
        """Nothing to close: the connections belong to the client."""


def session_through(client: ApiClient) -> requests.Session:
    """A `requests` session whose every request is an `api` call of `client`."""
    session = requests.Session()
    session.trust_env = False
    adapter = ClientAdapter(client)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
