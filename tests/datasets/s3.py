"""An S3 server whose answers can be made to fail: `python -m tests.datasets.s3 CORPUS SEED`.

moto's server behind a proxy. It says its URL, and after each line from its input what has happened since the last one:

    faults SLOW_DOWN SLOW    shares of requests that are answered by 503 SlowDown, and that wait for up to a second
    expire                   every request is answered by 403 ExpiredToken
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REFUSALS = {
    "SlowDown": (503, "Please reduce your request rate."),
    "ExpiredToken": (403, "The provided token has expired."),
}
SLOW_SECONDS = 1.0


class Faults:
    """What befalls the next request. Seeded; requests that are served at once take their turns."""

    def __init__(self, seed: int) -> None:
        self._draw, self._lock = random.Random(seed), threading.Lock()
        self.slow_down = self.slow = 0.0
        self.expired = False
        self.counts: Counter[str] = Counter()

    def next(self) -> tuple[str | None, float]:
        """A refusal, or none, and how long to wait before the answer."""
        with self._lock:
            refusal = "ExpiredToken" if self.expired else None
            if refusal is None and self._draw.random() < self.slow_down:
                refusal = "SlowDown"
            wait = SLOW_SECONDS * self._draw.random() if self._draw.random() < self.slow else 0.0
            self.counts[refusal or ("slow" if wait else "served")] += 1
        return refusal, wait

    def told(self, line: str) -> Counter[str]:
        """Do as the line says; what has happened before it."""
        word, *numbers = line.split()
        with self._lock:
            counts, self.counts = self.counts, Counter()
            self.expired = word == "expire"
            if word == "faults":
                self.slow_down, self.slow = map(float, numbers)
        return counts


def proxy(host: str, port: int, faults: Faults) -> ThreadingHTTPServer:
    """A server that hands requests on to another one, or fails."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refusal, wait = faults.next()
            time.sleep(wait)
            if refusal is not None:
                self._refuse(refusal)
                return
            upstream = HTTPConnection(host, port)
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            data = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _PER_CONNECTION}
            self._answer(
                answer.status, headers | {"Content-Length": headers.get("Content-Length", str(len(data)))}, data
            )
            upstream.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

        def _refuse(self, code: str) -> None:
            status, message = REFUSALS[code]
            data = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml", "Content-Length": str(len(data))}, data)

        def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


_PER_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


def main() -> None:
    """Serve the corpus as s3://texts/corpus, and an empty bucket s3://vectors."""
    from moto.server import ThreadedMotoServer

    corpus, seed = Path(sys.argv[1]), int(sys.argv[2])
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    faults = Faults(seed)
    server = proxy(*moto.get_host_and_port(), faults)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {"AWS_ENDPOINT_URL": url}
    import fsspec

    store = fsspec.filesystem("s3")
    store.mkdir("texts")
    store.mkdir("vectors")
    for path in corpus.rglob("*.parquet"):
        store.put_file(str(path), f"texts/corpus/{path.relative_to(corpus)}")
    print(url, flush=True)
    for line in sys.stdin:
        print(json.dumps(faults.told(line)), flush=True)


if __name__ == "__main__":
    main()
