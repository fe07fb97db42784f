"""`embedrt serve` under load, beside the library itself and a plain FastAPI + sentence-transformers ONNX server.

    python -m bench.server [--bundle BUNDLE] [--peer MODEL | --no-peer] [--cells closed,open,fair] [--json FILE]

Every server is verified before it is timed: ours must give the library's bits, the peer the same vectors to a cosine
of 0.95 (both are int8; how far it is off is shown). All run on the same threads of one machine, the load generator
too; cells are interleaved, the loopback is the only network. Counts and times are bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.artifacts import ensure
from bench.http_client import Connection, Shot, Tally, closed_loop, make_shot, open_loop
from bench.http_probe import probing
from bench.models import minilm
from bench.texts import BUILTIN_TEXTS
from embedrt import Embedder, open_bundle

PATH = "/v1/embeddings"
TEXTS_PER_REQUEST = 8
IDLE_QUERIES = 50
IDLE_PAUSE = 0.02  # seconds before each, of the library too: what wakes threads and warms caches is then the same


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    pid: int


def mixed_texts(count: int, seed: int) -> list[str]:
    """Texts of 3 to 120 words in several scripts, most of them short."""
    rng = random.Random(seed)
    words = [word for text in BUILTIN_TEXTS for word in text.split()]
    return [" ".join(rng.choices(words, k=min(120, 3 + int(rng.expovariate(1 / 15))))) for _ in range(count)]


@contextlib.contextmanager
def running(name: str, *command: str) -> Iterator[Server]:
    """A server process for the length of a `with` block; `PORT` in the command is replaced."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", *(part.replace("PORT", str(port)) for part in command)])
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name} did not start") from None
                time.sleep(0.1)
        yield Server(name, port, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def ours(bundle: Path, variant: str, threads: int, batch: str) -> contextlib.AbstractContextManager[Server]:
    """`embedrt serve` on one variant, with batches of so many tokens; "" for the default."""
    options = {"port": "PORT", "variant": variant, "threads": str(threads), "log-level": "error"}
    options |= {"batch-tokens": batch} if batch else {}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return running(
        f"embedrt {variant} {batch}".strip(), "embedrt", "serve", f"m={bundle}", "--no-verify-hashes", *flags
    )


def tokens_of(library: Embedder, texts: list[str]) -> list[int]:
    """The tokens of each text that the model sees: of a text over its limit, as many as that is."""
    return [min(count, library.max_tokens) for count in library.count_tokens(texts)]


def shots_of(texts: list[str], counts: list[int], size: int, kind: str = "mixed") -> list[Shot]:
    """Requests of `size` texts each."""
    made = []
    for k in range(0, len(texts) - size + 1, size):
        body = {"input": texts[k : k + size], "encoding_format": "base64"}
        made.append(make_shot(kind, PATH, body, size, sum(counts[k : k + size])))
    return made


async def vectors_of(server: Server, texts: list[str]) -> Any:
    """A server's vectors (N, D)."""
    connection = Connection(server.port)
    shot = make_shot("", PATH, {"input": texts, "encoding_format": "base64"}, 0, 0)
    status, body = await connection.send(shot.data)
    connection.close()
    assert status == 200, body
    rows = [base64.b64decode(row["embedding"]) for row in json.loads(body)["data"]]
    return np.stack([np.frombuffer(row, np.float32) for row in rows])


def verify(server: Server, texts: list[str], library: Embedder, ours: bool) -> str:
    """Refuse to time a server whose vectors are wrong; say how near they are."""
    got = asyncio.run(vectors_of(server, texts))
    wanted = library.encode_detailed(texts).embeddings
    if ours and got.tobytes() == wanted.tobytes():
        return "bit for bit the library's"
    cosine = (got * wanted).sum(1) / (np.linalg.norm(got, axis=1) * np.linalg.norm(wanted, axis=1))
    limit = 0.9999999 if ours else 0.95  # another variant, or dynamic quantization: the deviation is printed
    if cosine.min() < limit:
        raise SystemExit(f"{server.name}: vectors differ from the library's, cosine {cosine.min():.6f}")
    return f"cosine to the library's at least {cosine.min():.7f}"


def time_library(library: Embedder, texts: list[str], counts: list[int], seconds: float) -> float:
    """The library's own tokens per second over all texts at once."""
    begin, tokens = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        library.encode(texts)
        tokens += sum(counts)
    return tokens / (time.perf_counter() - begin)


def run_closed(
    servers: list[Server], library: Embedder, texts: list[str], seconds: float, numbers: list[int]
) -> list[dict[str, Any]]:
    """Throughput and latency at each number of clients, the library timed before and after each cell.

    The stall is the longest that `/health` took meanwhile.
    """
    counts = library.count_tokens(texts)
    limit = library.max_tokens
    counts = [min(count, limit) for count in counts]
    shots = shots_of(texts, counts, TEXTS_PER_REQUEST)
    rows = []
    for clients in numbers:
        for server in servers:
            before = time_library(library, texts, counts, seconds / 3)
            with probing(server.port) as probe:
                tally = asyncio.run(closed_loop(server.port, shots, clients, seconds))
            after = time_library(library, texts, counts, seconds / 3)
            own = (before + after) / 2
            rate = tally.tokens / tally.seconds
            rows.append({"server": server.name, "clients": clients, "tokens_per_s": rate, "library": own,
                         "share": rate / own, "stall_ms": probe.worst_ms, **_latency(tally, "mixed")})  # fmt: skip
            print(f"closed  {server.name:<14} {clients:>3} clients  {rate:>8.0f} tok/s  {rate / own:>5.0%} of the "
                  f"library's {own:.0f}  p50 {rows[-1]['p50_ms']:.1f} ms  p99 {rows[-1]['p99_ms']:.1f} ms  "
                  f"stall {probe.worst_ms:.0f} ms  failed {tally.failed}", flush=True)  # fmt: skip
    return rows


def run_open(
    servers: list[Server], library: Embedder, texts: list[str], seconds: float, load: float
) -> list[dict[str, Any]]:
    """Latency of single queries and of requests with 16 texts, arriving at random at a share of the capacity."""
    counts = tokens_of(library, texts)
    shots = shots_of(texts[:160], counts, 1, "query") + shots_of(texts[:480], counts, 16, "16 texts")
    mean = sum(shot.num_tokens for shot in shots) / len(shots)
    per_second = load * time_library(library, texts, counts, 1.0) / mean
    rows = []
    for server in servers:
        tally = asyncio.run(open_loop(server.port, shots, per_second, seconds, seed=1))
        row = {"server": server.name, "requests_per_s": per_second, "load": load}
        row |= {kind: _latency(tally, kind) for kind in ("query", "16 texts")}
        rows.append(row)
        text = "  ".join(f"{k} p50 {row[k]['p50_ms']:.1f} p99 {row[k]['p99_ms']:.1f} ms" for k in ("query", "16 texts"))
        print(f"open    {server.name:<14} {per_second:.1f} requests/s  {text}  failed {tally.failed}", flush=True)
    return rows


def run_fair(servers: list[Server], library: Embedder, num_texts: int) -> list[dict[str, Any]]:
    """Latency of single queries while one client's huge request is worked on, and on an idle server."""
    rows = []
    bulk_texts = mixed_texts(num_texts, 9)
    bulk = make_shot("bulk", PATH, {"input": bulk_texts, "encoding_format": "base64"}, num_texts, 0)
    query = make_shot("query", PATH, {"input": ["how much protein should a female eat"]}, 1, 0)

    async def case(server: Server) -> tuple[list[float], list[float], float]:
        one, two = Connection(server.port), Connection(server.port)
        idle = []
        for _ in range(IDLE_QUERIES):
            await asyncio.sleep(IDLE_PAUSE)
            idle.append(await _timed(one, query))
        task = asyncio.create_task(_timed(two, bulk))
        await asyncio.sleep(0.3)
        busy = []
        while not task.done():
            busy.append(await _timed(one, query))
            await asyncio.sleep(0.02)
        one.close()
        two.close()
        return idle, busy, await task

    own = []
    for _ in range(IDLE_QUERIES):
        time.sleep(IDLE_PAUSE)
        begin = time.perf_counter()
        library.encode("how much protein should a female eat")
        own.append((time.perf_counter() - begin) * 1e3)
    for server in servers:
        with probing(server.port) as probe:
            idle, busy, whole = asyncio.run(case(server))
        row = {"server": server.name, "bulk_texts": num_texts, "bulk_ms": whole, "idle_ms": float(np.median(idle)),
               "library_ms": float(np.median(own)), "queries": len(busy), "p50_ms": float(np.median(busy)),
               "p99_ms": float(np.quantile(busy, 0.99)), "worst_ms": max(busy), "stall_ms": probe.worst_ms}  # fmt: skip
        rows.append(row)
        print(f"fair    {server.name:<14} idle {row['idle_ms']:.1f} ms (library {row['library_ms']:.1f}); behind "
              f"{num_texts} texts ({whole / 1e3:.1f} s): p50 {row['p50_ms']:.1f}  p99 {row['p99_ms']:.1f}  worst "
              f"{row['worst_ms']:.1f} ms over {len(busy)} queries  stall {probe.worst_ms:.0f} ms",
              flush=True)  # fmt: skip
    return rows


async def _timed(connection: Connection, shot: Shot) -> float:
    begin = time.perf_counter()
    status, _ = await connection.send(shot.data)
    assert status == 200
    return (time.perf_counter() - begin) * 1e3


def _latency(tally: Tally, kind: str) -> dict[str, float]:
    return {"p50_ms": tally.quantile(kind, 0.5), "p99_ms": tally.quantile(kind, 0.99)}


def main() -> None:
    """Run the cells that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="what we serve  [default: MiniLM's, built when it is not there]")
    parser.add_argument("--peer", type=Path, help="sentence-transformers directory of the peer  [default: MiniLM's]")
    parser.add_argument("--no-peer", action="store_true", help="measure ours and the library only")
    parser.add_argument("--variants", default="int8", help="of ours, comma-separated")
    parser.add_argument("--batch-tokens", default="", help="of ours, comma-separated  [default: the server's own]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", default="1,8,64", help="of the closed loop")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each cell")
    parser.add_argument("--texts", type=int, default=512, help="different texts")
    parser.add_argument("--bulk", type=int, default=5000, help="texts of the huge request")
    parser.add_argument("--load", type=float, default=0.5, help="of the open loop, as a share of the library's speed")
    parser.add_argument("--cells", default="closed,open,fair")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle = args.bundle or ensure("bundle", minilm(), print)
    peer = args.peer or ensure("st-onnx-int8", minilm(), print)
    texts = mixed_texts(args.texts, 3)
    variants, batches = args.variants.split(","), args.batch_tokens.split(",")
    found: dict[str, Any] = {"bundle": open_bundle(bundle).manifest.name, "threads": args.threads}
    with contextlib.ExitStack() as stack:
        library = stack.enter_context(Embedder(bundle, variant=variants[0], num_threads=args.threads))
        servers = [
            stack.enter_context(ours(bundle, variant, args.threads, batch)) for variant in variants for batch in batches
        ]
        if not args.no_peer:
            command = ("bench.http_peer", str(peer), "PORT", str(args.threads))
            servers.append(stack.enter_context(running("fastapi + st", *command)))
        for i, server in enumerate(servers):
            found[server.name] = verify(server, texts[:32], library, i < len(batches))  # the library's own variant
            print(f"verify  {server.name:<14} {found[server.name]}", flush=True)
        cells = args.cells.split(",")
        if "closed" in cells:
            found["closed"] = run_closed(
                servers, library, texts, args.seconds, [int(n) for n in args.clients.split(",")]
            )
        if "open" in cells:
            found["open"] = run_open(servers, library, texts, args.seconds, args.load)
        if "fair" in cells:
            found["fair"] = run_fair(servers, library, args.bulk)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
