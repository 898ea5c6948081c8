"""Google Cloud Storage on loopback with the calls that a store needs: objects, lists, simple and multipart uploads.

Bytes are an object only when their upload is complete; a cancelled upload leaves nothing; every write is a new
generation, and one that demands generation 0 is refused where there is an object. Source: the JSON API's reference,
https://docs.cloud.google.com/storage/docs/json_api/v1, and its page on resumable uploads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import Handler, serving_on_loopback

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PART = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Storage:
    """What the server holds: `objects` by bucket and name, and uploads that are not complete."""

    url: str
    objects: dict[str, dict[str, tuple[bytes, dict[str, Any]]]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str, bool, bytearray]] = field(default_factory=dict)
    num_writes: int = 0

    def keep(self, bucket: str, name: str, data: bytes, is_new: bool) -> tuple[int, dict[str, Any]]:
        """Write an object; 412 where it must be new and isn't."""
        if is_new and name in self.objects[bucket]:
            return 412, _error(412, "At least one of the pre-conditions you specified did not hold.")
        self.num_writes += 1
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        about = {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "generation": str(self.num_writes),
            "contentType": "application/octet-stream",
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "timeCreated": at,
            "updated": at,
        }
        self.objects[bucket][name] = data, about
        return 200, about

    def listed(self, bucket: str, prefix: str, delimiter: str) -> dict[str, Any]:
        """Objects below a prefix, and the prefixes of the others."""
        items, prefixes = [], set()
        for name, (_, about) in sorted(self.objects[bucket].items()):
            if name.startswith(prefix):
                inside, mark, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if mark:
                    prefixes.add(f"{prefix}{inside}{delimiter}")
                else:
                    items.append(about)
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message}}


@contextmanager
def google_storage(*buckets: str) -> Iterator[Storage]:
    """A running server with these empty buckets."""

    class Answers(Handler):
        def do_GET(self) -> None:
            bucket, name, asked = self._asked()
            if name and name in made.objects.get(bucket, {}):
                data, about = made.objects[bucket][name]
                if asked.get("alt") == "media":
                    self._send(data)
                else:
                    self.say(200, about)
            elif bucket in made.objects and not name:
                is_list = urlsplit(self.path).path.endswith("/o")
                found = made.listed(bucket, asked.get("prefix", ""), asked.get("delimiter", ""))
                self.say(200, found if is_list else {"kind": "storage#bucket", "name": bucket})
            else:
                self.say(404, _error(404, f"Not found: {self.path}"))

        def do_POST(self) -> None:
            body = self.body()
            bucket, _, asked = self._asked()
            is_new = asked.get("ifGenerationMatch") == "0"
            with lock:
                if "upload_id" in asked:
                    self._part(asked["upload_id"], body)
                elif bucket not in made.objects:
                    self.say(404, _error(404, "The specified bucket does not exist."))
                elif asked.get("uploadType") == "multipart":
                    about, data = _both(body, self.headers["Content-Type"])
                    self.say(*made.keep(bucket, about["name"], data, is_new))
                else:
                    number = str(len(made.uploads))
                    made.uploads[number] = bucket, json.loads(body)["name"], is_new, bytearray()
                    where = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={number}"
                    self._say_nothing(200, ("Location", where))

        def do_DELETE(self) -> None:
            bucket, name, asked = self._asked()
            with lock:
                if "upload_id" in asked:
                    made.uploads.pop(asked["upload_id"], None)
                    self._say_nothing(499)
                else:
                    is_there = made.objects.get(bucket, {}).pop(name, None) is not None
                    self._say_nothing(204 if is_there else 404)

        def _asked(self) -> tuple[str, str, dict[str, str]]:
            """Bucket, object and parameters of the request."""
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if found := _OBJECT.fullmatch(parts.path):
                return unquote(found[1]), unquote(found[2]), asked
            return unquote(parts.path.partition("/b/")[2].split("/")[0]), "", asked

        def _part(self, number: str, body: bytes) -> None:
            bucket, name, is_new, held = made.uploads[number]
            found = _PART.fullmatch(self.headers.get("Content-Range", ""))
            assert found is not None, self.headers.get("Content-Range")
            if found[1] and int(found[1]) != len(held):
                self.say(400, _error(400, f"{len(held)} bytes came, the next part begins at {found[1]}"))
                return
            held += body
            if found[3] == "*":
                self._say_nothing(308, ("Range", f"bytes=0-{len(held) - 1}"))
            elif int(found[3]) != len(held):
                self.say(400, _error(400, f"{len(held)} bytes came of {found[3]}"))
            else:
                del made.uploads[number]
                self.say(*made.keep(bucket, name, bytes(held), is_new))

        def _send(self, data: bytes) -> None:
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            status, part = 200, data
            if asked:
                status, part = 206, data[int(asked[1]) : int(asked[2]) + 1 if asked[2] else None]
            self.send_response(status)
            if asked:
                first = int(asked[1])
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def _say_nothing(self, status: int, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", "0")):
                self.send_header(name, value)
            self.end_headers()

    lock = threading.Lock()
    with serving_on_loopback(Answers) as host:
        made = Storage(f"http://{host}", {bucket: {} for bucket in buckets})
        yield made


def _both(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """What is said of an object and its bytes, from an upload of two parts."""
    mark = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    _, about, rest = body.split(mark, 2)
    data, _ = rest.rsplit(mark, 1)
    return json.loads(about.partition(b"\n\n")[2]), data.partition(b"\n\n")[2][:-1]
