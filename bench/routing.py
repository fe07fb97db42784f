"""Two servers behind `embedrt front`: each in turn, by fewest requests, by fewest tokens; and what the front costs.

    python -m bench.routing [--bundle BUNDLE] [--load bulk|mixed] [--seconds 6] [--rounds 6]

Both servers have one thread. Policies take turns, one after the other in each round; the answer of each front is
compared with the library's bits before anything is timed. Quantiles are over all rounds.

`bulk`: one client sends requests of 256 texts, the next as soon as it has an answer, so that one server is busy all the
time; `--queries-per-s` queries arrive at random times (Poisson). `mixed`: queries and requests of 32 and 256 texts
arrive at random times, the same ones for each policy, at a `--share` of what two threads of the library do; then both
servers are mostly free or both busy, and there is little to choose.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.artifacts import ensure
from bench.http_client import Connection, Shot, Tally, closed_loop, open_loop
from bench.models import minilm
from bench.server import Server, mixed_texts, ours, running, shots_of, time_library, tokens_of, verify
from embedrt import Embedder, open_bundle
from embedrt.routing.policy import POLICIES

# Of 200 requests: what a search page sends beside people who index.
_MIX = {"query": (180, 1), "32 texts": (16, 32), "256 texts": (4, 256)}
_COST_ROUNDS = 200  # queries to an idle server, with the front and without


def requests_of(texts: list[str], counts: list[int]) -> list[Shot]:
    """Two hundred requests in the mix."""
    made: list[Shot] = []
    for kind, (count, size) in _MIX.items():
        every = shots_of(texts * 4, counts * 4, size, kind)
        made += every[:count]
    return made


async def beside_bulk(port: int, query: Shot, bulk: list[Shot], per_second: float, seconds: float, seed: int) -> Tally:
    """Queries at random times beside one client that always has a large request under way."""
    loading = asyncio.create_task(closed_loop(port, bulk, 1, seconds + 0.5))
    await asyncio.sleep(0.5)  # until it is at work
    tally = await open_loop(port, [query], per_second, seconds, seed)
    loaded = await loading
    tally.failed += loaded.failed
    tally.latencies_ms |= loaded.latencies_ms
    return tally


def quantiles(rounds: list[Tally], kind: str) -> dict[str, float]:
    """Over the requests of all rounds, in ms."""
    every = Tally(latencies_ms={kind: [ms for tally in rounds for ms in tally.latencies_ms.get(kind, [])]})
    shares = {f"p{share * 100:g}_ms": every.quantile(kind, share) for share in (0.5, 0.9, 0.99)}
    return shares | {"requests": len(every.latencies_ms[kind])}


async def cost(direct: Server, front: Server, shot: Shot) -> dict[str, float]:
    """Medians in ms of a query to an idle server, one after the other with the front and without."""
    connections = {"direct": Connection(direct.port), "front": Connection(front.port)}
    found: dict[str, list[float]] = {name: [] for name in connections}
    for _ in range(_COST_ROUNDS):
        for name, connection in connections.items():
            begin = time.perf_counter()
            status, _ = await connection.send(shot.data)
            assert status == 200
            found[name].append((time.perf_counter() - begin) * 1e3)
    for connection in connections.values():
        connection.close()
    return {name: float(np.median(rows)) for name, rows in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="[default: MiniLM's, built when it is not there]")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each policy in each round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--load", choices=("bulk", "mixed"), default="bulk")
    parser.add_argument("--queries-per-s", type=float, default=20.0, help="beside bulk")
    parser.add_argument("--share", type=float, default=0.25, help="mixed: of what two threads of the library do")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle = args.bundle or ensure("bundle", minilm(), print)
    texts = mixed_texts(512, 3)
    with contextlib.ExitStack() as stack:
        library = stack.enter_context(Embedder(bundle, variant=args.variant, num_threads=1))
        counts = tokens_of(library, texts)
        servers = [stack.enter_context(ours(bundle, args.variant, 1, "")) for _ in range(2)]
        urls = [f"http://127.0.0.1:{server.port}" for server in servers]
        fronts = {
            policy: stack.enter_context(
                running(policy, "embedrt", "front", *urls, "--policy", policy, "--port", "PORT", "--log-level", "error")
            )
            for policy in POLICIES
        }
        for front in fronts.values():
            print(f"verify  {front.name:<9} {verify(front, texts[:32], library, ours=True)}", flush=True)
        shots = requests_of(texts, counts)
        spent = asyncio.run(cost(servers[0], fronts["tokens"], shots[0]))
        print(f"cost    a query to an idle server {spent['direct']:.2f} ms, with the front {spent['front']:.2f} ms")
        if args.load == "bulk":
            per_second, kinds = args.queries_per_s, ("query", "256 texts")
            bulk = [shot for shot in shots if shot.kind == "256 texts"]

            def fire(port: int, seed: int) -> Any:
                return beside_bulk(port, shots[0], bulk, per_second, args.seconds, seed)

            print(f"load    {per_second:.1f} queries/s beside one client with requests of 256 texts", flush=True)
        else:
            speed, kinds = 2 * time_library(library, texts, counts, 2.0), tuple(_MIX)
            per_second = args.share * speed / statistics.mean(shot.num_tokens for shot in shots)

            def fire(port: int, seed: int) -> Any:
                return open_loop(port, shots, per_second, args.seconds, seed)

            print(f"load    {per_second:.1f} requests/s, {args.share:.0%} of {speed:.0f} tokens/s", flush=True)
        tallies: dict[str, list[Tally]] = {policy: [] for policy in POLICIES}
        for seed in range(args.rounds):
            first = seed % len(POLICIES)  # none is always the first
            for policy in POLICIES[first:] + POLICIES[:first]:
                tallies[policy].append(asyncio.run(fire(fronts[policy].port, seed)))
    found: dict[str, Any] = {"bundle": open_bundle(bundle).manifest.name, "per_second": per_second, "cost_ms": spent}
    for policy, rounds in tallies.items():
        found[policy] = {kind: quantiles(rounds, kind) for kind in kinds}
        print(f"{policy:<9} failed {sum(tally.failed for tally in rounds)}")
        for kind, row in found[policy].items():
            times = "  ".join(f"{name[:-3]} {row[name]:.1f} ms" for name in row if name.endswith("_ms"))
            print(f"          {kind:<9} {row['requests']:>4}  {times}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
