"""How many tokens wait in a server's queue when requests wait as long as they may: what an autoscaler aims at.

    python -m bench.autoscaling [--bundle BUNDLE] [--threads 2] [--wait-s 2] [--seconds 12]

So many clients send requests of 32 texts that more and more of them wait; each sends the next as soon as it has its
answer. Meanwhile `embedrt_queue_tokens` is read five times a second. By Little's law the tokens that wait are the
tokens per second times the time that they wait, which is compared with what clients measure. The target is the depth
at which the wait is `--wait-s`, from a line through the origin and all depths.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.artifacts import ensure
from bench.http_client import Shot, closed_loop
from bench.machine import describe_machine
from bench.models import minilm
from bench.server import mixed_texts, ours, shots_of, tokens_of, verify
from embedrt import Embedder

CLIENTS = (2, 8, 32, 96)
_TEXTS = 32
_READ_EVERY_S = 0.2


@dataclass(frozen=True)
class Depth:
    """A server with a number of clients."""

    clients: int
    tokens_per_s: float
    queue_tokens: float  # in the mean
    wait_s: float  # of a request, in the mean, from its beginning to its answer
    wait_p95_s: float


async def measure(port: int, shots: list[Shot], clients: int, seconds: float) -> Depth:
    """Let clients send, and look at the queue meanwhile; the first fifth of the time is left out of its mean."""
    depths: list[float] = []

    async def watch() -> None:
        while True:
            depths.append(await asyncio.to_thread(_queue_tokens, port))
            await asyncio.sleep(_READ_EVERY_S)

    watching = asyncio.create_task(watch())
    tally = await closed_loop(port, shots, clients, seconds)
    watching.cancel()
    (waits,) = tally.latencies_ms.values()
    if tally.failed:
        raise SystemExit(f"{tally.failed} requests failed")
    return Depth(
        clients, tally.tokens / tally.seconds, statistics.mean(depths[len(depths) // 5 :]),
        statistics.mean(waits) / 1e3, float(np.quantile(waits, 0.95)) / 1e3,
    )  # fmt: skip


def _queue_tokens(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^embedrt_queue_tokens\{.*\} (\S+)$", text, re.MULTILINE))


def target(depths: list[Depth], wait_s: float) -> float:
    """Tokens that wait where requests wait `wait_s`, by least squares through the origin."""
    waits, tokens = (np.array([getattr(depth, name) for depth in depths]) for name in ("wait_s", "queue_tokens"))
    return float(wait_s * (waits @ tokens) / (waits @ waits))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="[default: MiniLM's, built when it is not there]")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--threads", type=int, default=2, help="of the server: a pod's CPUs")
    parser.add_argument("--wait-s", type=float, default=2.0, help="that a request may wait")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each number of clients")
    args = parser.parse_args()
    bundle = args.bundle or ensure("bundle", minilm(), print)
    texts = mixed_texts(512, 3)
    with contextlib.ExitStack() as stack:
        library = stack.enter_context(Embedder(bundle, variant=args.variant, num_threads=1))
        counts = tokens_of(library, texts)
        server = stack.enter_context(ours(bundle, args.variant, args.threads, ""))
        print(describe_machine(args.threads).cpu)
        print(f"verify  {verify(server, texts[:_TEXTS], library, ours=True)}", flush=True)
        shots = shots_of(texts, counts, _TEXTS)
        depths = []
        print("| clients | tokens/s | tokens that wait | wait, mean | p95 | tokens/s x wait |")
        print("|---|---|---|---|---|---|")
        for clients in CLIENTS:
            depth = asyncio.run(measure(server.port, shots, clients, args.seconds))
            depths.append(depth)
            print(
                f"| {clients} | {depth.tokens_per_s:,.0f} | {depth.queue_tokens:,.0f} | {depth.wait_s:.2f} s "
                f"| {depth.wait_p95_s:.2f} s | {depth.tokens_per_s * depth.wait_s:,.0f} |",
                flush=True,
            )
    print(f"\ntarget for a wait of {args.wait_s:g} s: {target(depths, args.wait_s):,.0f} tokens")


if __name__ == "__main__":
    main()
