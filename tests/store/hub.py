"""A hub on loopback that takes uploads as well: the routes of `huggingface_hub`'s create_repo and create_commit."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.export import hub

COMMIT = "3" * 40
TOKEN = "hf_of_tests"


class _Handler(hub._Handler):
    """Reads as the read-only hub does; a commit's files are written into the folder that it reads from."""

    uploads: Path
    staged: dict[str, bytes]

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "", "Invalid credentials")
        if parts == ["api", "validate-yaml"]:  # of the card; needs no token
            return self._json({"warnings": [], "errors": []})
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            return self._json({"url": f"{self._here}/{asked['organization']}/{asked['name']}"})
        if parts[-2:] == ["info", "lfs"] or parts[-1] == "batch":
            return self._json({"objects": [self._place(one) for one in json.loads(body)["objects"]]})
        if parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] > 1000 else "regular", "shouldIgnore": False}
                for f in files
            ]
            return self._json({"files": modes})
        if parts[4:5] == ["commit"]:
            return self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        return self._refuse(404, "", f"no route {self.path}")

    def do_PUT(self) -> None:  # noqa: N802
        self.staged[self.path.rsplit("/", 1)[1]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(b"", {})

    @property
    def _here(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        return {
            "oid": one["oid"],
            "size": one["size"],
            "actions": {"upload": {"href": f"{self._here}/lfs/{one['oid']}", "header": {}}},
        }

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.staged[value["oid"]]
            else:
                continue
            path = self.uploads / value["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._json({"success": True, "commitOid": COMMIT, "commitUrl": f"{self._here}/{repo}/commit/{COMMIT}"})

    def _json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})


@contextmanager
def serve(repos: dict[str, Path], uploads: Path) -> Iterator[str]:
    """The endpoint of a hub with these repositories and one, "you/pushed", that takes what is pushed."""
    commits = {f"{k:040d}": folder for k, folder in enumerate(repos.values())}
    refs = {repo: {"main": commit} for repo, commit in zip(repos, commits, strict=True)}

    class Handler(_Handler):
        pass

    Handler.commits = {**commits, COMMIT: uploads}
    Handler.refs = {**refs, "you/pushed": {"main": COMMIT}}
    Handler.uploads, Handler.staged, Handler.sent = uploads, {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
