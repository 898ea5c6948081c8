"""A requests session whose calls pass the client's guard, pace and caps: for libraries that bring their own calls."""

from __future__ import annotations

from typing import Protocol

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from lhq.errors import LhqError
from lhq.http.answer import Answer, Headers


class Service(Protocol):
    """What can call a service: the client."""

    def api(self, method: str, url: str, *, headers: Headers | None = None, body: bytes | None = None) -> Answer: ...

    def refusal(self, url: str, answer: Answer) -> LhqError: ...


class ThroughService(BaseAdapter):
    """Lets a requests session speak through the client."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        assert request.url is not None
        assert body is None or isinstance(body, bytes)
        headers = {k: v if isinstance(v, str) else v.decode("latin-1") for k, v in request.headers.items()}
        headers.pop("User-Agent", None)
        headers["Accept-Encoding"] = "gzip"
        answer = self._service.api(request.method or "GET", request.url, headers=headers, body=body)
        if answer.status != 200:
            raise self._service.refusal(request.url, answer)
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response._content = bytes(answer.body)
        response.url, response.request, response.encoding = answer.url, request, "utf-8"
        return response

    def close(self) -> None:
        """Nothing to close: the connections are the client's, who closes them."""


def through(service: Service) -> requests.Session:
    """A requests session whose every call is an `api` call of `service`."""
    session = requests.Session()
    session.trust_env = False
    adapter = ThroughService(service)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
