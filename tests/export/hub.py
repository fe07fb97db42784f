"""A hub on loopback with just the routes that a download takes; the real one's headers and error codes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GATED = "tests/gated"  # listed by everybody, given to nobody


@dataclass(frozen=True)
class Hub:
    """A hub that runs."""

    endpoint: str
    sent: list[str] = field(default_factory=list)  # OWNER/NAME/FILE of each file whose bytes went out


@contextmanager
def serve(commits: Mapping[str, Path], refs: Mapping[str, Mapping[str, str]]) -> Iterator[Hub]:
    """A hub that runs until the block ends.

    Args:
        commits: commit hash -> folder with its files.
        refs: repository -> branch or tag -> commit hash.
    """

    class Handler(_Handler):
        pass

    Handler.commits, Handler.refs, Handler.sent = commits, refs, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Hub(f"http://127.0.0.1:{server.server_port}", Handler.sent)
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    commits: Mapping[str, Path]
    refs: Mapping[str, Mapping[str, str]]
    sent: list[str]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def _answer(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if len(parts) < 4:  # what else a client asks of its hub
            return self._refuse(404, "EntryNotFound", "Not found")
        if parts[:2] == ["api", "models"]:
            repo, ref = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
        else:  # OWNER/NAME/resolve/REF/FILE
            repo, ref = "/".join(parts[:2]), parts[3]
        if repo not in self.refs:
            return self._refuse(401, "RepoNotFound", "Repository not found")
        commit = self.refs[repo].get(ref, ref)
        if commit not in self.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {ref}")
        folder = self.commits[commit]
        if parts[0] == "api":
            answer = self._tree(folder) if parts[4:5] == ["tree"] else self._info(repo, commit, folder)
            return self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})
        if repo == GATED:
            return self._refuse(401, "GatedRepo", f"Access to model {repo} is restricted")
        file = folder.joinpath(*parts[4:])
        if not file.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found")
        data = file.read_bytes()
        if self.command == "GET":
            self.sent.append("/".join((repo, *parts[4:])))
        return self._send(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit})

    def _info(self, repo: str, commit: str, folder: Path) -> dict[str, object]:
        siblings = [{"rfilename": entry["path"]} for entry in self._tree(folder)]
        return {"id": repo, "sha": commit, "private": False, "tags": [], "siblings": siblings}

    def _tree(self, folder: Path) -> list[dict[str, object]]:
        """What clients since 2.0 ask for besides."""
        return [
            {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": "0" * 40}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": message}, status)

    def _send(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
