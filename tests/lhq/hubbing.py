"""A Hub on loopback with the API that pushing a dataset needs: repositories, LFS storage, commits.

It keeps bytes, hands out parts of them, and believes nothing: every object's sha256 is checked, private or public is
remembered, and a file is in the repository only after a commit. Source: the HTTP calls of huggingface_hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.loopback import Handler, serving_on_loopback


class Hub:
    """The server's contents. `files` maps repository → path → bytes; `asked` counts calls by method and kind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = "hf_test"
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.asked: Counter[str] = Counter()
        self.breaks_after_uploads: int | None = None


@contextmanager
def hub() -> Iterator[Hub]:
    """A running Hub."""

    class Answers(Handler):
        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def do_PUT(self) -> None:
            self._serve("PUT")

        def _serve(self, method: str) -> None:
            body = self.body()
            path, _, query = self.path.partition("?")
            with lock:
                status, answer = _answer(made, method, path, body, self.headers.get("Authorization", ""), query)
            if isinstance(answer, bytes):
                self._send(status, answer)
            elif status == 404:
                self._missing(str(answer["error"]))
            else:
                self.say(status, answer)

        def do_HEAD(self) -> None:
            self._serve("HEAD")

        def _send(self, status: int, data: bytes) -> None:
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked and status == 200:
                status, data = 206, data[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(status)
            if asked and status == 206:
                self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(data) - 1}/{size}")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _missing(self, error: str) -> None:
            data = json.dumps({"error": error}).encode()
            self.send_response(404)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Error-Code", "RepoNotFound" if "Repository" in error else "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    lock = threading.Lock()
    with serving_on_loopback(Answers) as host:
        made = Hub(f"http://{host}")
        yield made


def _answer(
    made: Hub, method: str, path: str, body: bytes, token: str, query: str = "recursive=True"
) -> tuple[int, Any]:
    parts = path.strip("/").split("/")
    if method == "PUT" and parts[0] == "store":
        made.asked["upload"] += 1
        if made.breaks_after_uploads is not None and made.asked["upload"] > made.breaks_after_uploads:
            return 403, {"error": "broken"}
        if hashlib.sha256(body).hexdigest() != parts[1]:
            return 400, {"error": "wrong bytes"}
        made.objects[parts[1]] = body
        return 200, {}
    if token != f"Bearer {made.token}":
        return 401, {"error": "Invalid credentials"}
    if path == "/api/whoami-v2":
        return 200, {"name": "tester", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}}
    if path == "/api/validate-yaml":
        text = json.loads(body)["content"]
        return (
            (200, {"errors": [], "warnings": []})
            if text.startswith("---\n")
            else (400, {"errors": [{"message": "no YAML"}]})
        )
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        if name in made.files:
            return 409, {"error": "exists", "url": f"{made.url}/datasets/{name}"}
        made.files[name], made.private[name] = {}, asked.get("visibility") == "private"
        return 200, {"url": f"{made.url}/datasets/{name}", "name": name}
    if parts[0] == "datasets" and path.endswith("/info/lfs/objects/batch"):
        return _batch(made, json.loads(body))
    if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
        data = made.files.get("/".join(parts[1:3]), {}).get("/".join(parts[5:]))
        return (404, {"error": "Entry not found"}) if data is None else (200, data)
    if parts[:2] == ["api", "datasets"]:
        return _repository(made, "/".join(parts[2:4]), parts[4:], body, query)
    return 404, {"error": f"{method} {path}"}


def _batch(made: Hub, asked: dict[str, Any]) -> tuple[int, Any]:
    objects = []
    for one in asked["objects"]:
        entry = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in made.objects:
            entry["actions"] = {"upload": {"href": f"{made.url}/store/{one['oid']}", "header": {}}}
        objects.append(entry)
    return 200, {"transfer": "basic", "objects": objects}


def _repository(made: Hub, name: str, rest: list[str], body: bytes, query: str) -> tuple[int, Any]:
    if name not in made.files:
        return 404, {"error": "Repository not found"}
    files = made.files[name]
    if not rest or rest[0] == "revision":
        siblings = [{"rfilename": path} for path in files]
        return 200, {"id": name, "sha": "0" * 40, "private": made.private[name], "siblings": siblings, "tags": []}
    if rest[0] == "tree":
        found = _tree(files, unquote("/".join([*rest[2:], ""])), "recursive=true" in query.lower())
        return (200, found) if found or not rest[2:] else (404, {"error": "Entry not found"})
    if rest[0] == "paths-info":
        asked = {unquote(path) for path in parse_qs(body.decode()).get("paths", [])}
        return 200, [entry for entry in _tree(files, "", True) if entry["path"] in asked]
    if rest[0] == "preupload":
        wanted = json.loads(body)["files"]
        modes = [
            {
                "path": one["path"],
                "shouldIgnore": False,
                "uploadMode": "lfs" if one["path"].endswith(".parquet") else "regular",
            }
            for one in wanted
        ]
        return 200, {"files": modes}
    if rest[0] == "commit":
        return _commit(made, name, [json.loads(line) for line in body.splitlines()])
    return 404, {"error": "/".join(rest)}


def _tree(files: dict[str, bytes], folder: str, is_recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below `folder`: all, or its own only."""
    inside = [path for path in files if path.startswith(folder)]
    parents = {"/".join(path.split("/")[:n]) for path in inside for n in range(1, path.count("/") + 1)}
    folders = [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(parents)]
    found = [*folders, *(_entry(path, files[path]) for path in inside)]
    found = [entry for entry in found if entry["path"].startswith(folder)]
    return found if is_recursive else [entry for entry in found if "/" not in entry["path"][len(folder) :]]


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
    if not path.endswith(".parquet"):
        return entry
    return {**entry, "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}


def _commit(made: Hub, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
    files = dict(made.files[name])
    for line in lines:
        value = line["value"]
        if line["key"] == "header":
            made.commits.append(value["summary"])
        elif line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            if value["oid"] not in made.objects:
                return 400, {"error": f"object {value['oid']} was never uploaded"}
            files[value["path"]] = made.objects[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
    made.files[name] = files
    oid = hashlib.sha1(str(len(made.commits)).encode()).hexdigest()
    return 200, {"success": True, "commitOid": oid, "commitUrl": f"{made.url}/datasets/{name}/commit/{oid}"}
