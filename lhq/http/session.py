"""A requests session whose calls pass the client's guard, pace and caps: for libraries that bring their own calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

if TYPE_CHECKING:
    from lhq.http.client import Client


class ThroughClient(BaseAdapter):
    """Lets a requests session speak through the client."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        assert request.url is not None
        headers = {k: v if isinstance(v, str) else v.decode("latin-1") for k, v in request.headers.items()}
        headers.pop("User-Agent", None)
        headers["Accept-Encoding"] = "gzip"
        answer = self._client.api(request.method or "GET", request.url, headers=headers, body=body)
        if answer.status != 200:
            raise self._client.refusal(request.url, answer)
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response._content = bytes(answer.body)
        response.url, response.request, response.encoding = answer.url, request, "utf-8"
        return response

    def close(self) -> None:
        """Nothing to close: the connections are the client's, who closes them."""
