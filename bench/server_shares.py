"""What is left of the library's speed over HTTP: throughput, CPU time and latency of `embedrt serve`.

    python -m bench.server_shares BUNDLE [--texts 1,8,32] [--connections 1,8,64] [--workers 1,2] [--json FILE]

wrk (Debian: apt-get install wrk) sends short English texts, as many per request as the row says. Each round times the
library over all texts in one call, then the server, then the library again, on the same threads; shares are of texts
per second. What the server does is counted by itself (embedrt_batch_tokens in /metrics), between two moments of a load
that begins before and ends after them: 64 requests of 32 texts are seconds of work that is under way whenever a load
ends, and lost where only answers are counted. The generator runs on the same cores and takes its part of them, so the
same comparison of CPU time per text, which it is not in, stands beside it: on a machine that others use as well, that
is the one to read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.server import Server, running
from bench.server_memory import processes_of
from embedrt import Embedder

PATH = "/v1/embeddings"
NUM_TEXTS = 512
_EDGE_S = 1.5  # of the load, before and after what is counted
_SCRIPT = """
local k, bodies = 0, {{}}
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
function request() k = k % #bodies + 1; return wrk.format(nil, "{path}", nil, bodies[k]) end
function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format("FOUND %d %d %f %f %f\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed.status + failed.read + failed.write + failed.timeout))
end
"""
_WORDS = (
    "how do I reset the password of my account when the mail does not arrive and is it safe to pay by card on this "
    "page the weather in the mountains was better than we had hoped and the train was late again what does a heat pump "
    "cost light water stone house river bread paper market garden window teacher doctor music winter summer island"
)


@dataclass(frozen=True)
class Sample:
    """One run of one side."""

    texts_per_s: float
    cpu_us: float  # of all its processes, per text
    p50_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass(frozen=True)
class Row:
    """One cell of the table: medians over the rounds."""

    workers: int
    texts: int  # per request
    connections: int
    encoding: str
    speed_share: float  # of the library's texts per second
    cpu_share: float  # the library's CPU time per text by the server's
    texts_per_s: float
    p50_ms: float
    p99_ms: float


def short_texts() -> list[str]:
    """Different texts of 6 to 20 words, 15 tokens on average; always the same."""
    rng, words = random.Random(1), _WORDS.split()
    found = [" ".join(rng.choices(words, k=6 + i % 15)) for i in range(NUM_TEXTS)]
    assert len(set(found)) == NUM_TEXTS  # equal ones would cost the library nothing
    return found


def time_library(library: Embedder, texts: list[str], seconds: float) -> Sample:
    """All texts in one call, again and again."""
    begin, cpu, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begin + seconds:
        library.encode(texts)
        calls += 1
    count = calls * len(texts)
    return Sample(count / (time.perf_counter() - begin), 1e6 * (time.process_time() - cpu) / count)


def time_server(server: Server, script: Path, connections: int, seconds: float, tokens_per_text: float) -> Sample:
    """The server under wrk; every answer must be good."""
    duration = math.ceil(seconds + 2 * _EDGE_S)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "30s", "-s", str(script)]
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{server.port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as wrk:
        time.sleep(_EDGE_S)
        before = _done_so_far(server)
        time.sleep(seconds)
        wall, cpu, tokens = (now - then for now, then in zip(_done_so_far(server), before, strict=True))
        out, errors = wrk.communicate()
    found = re.search(r"FOUND (\d+) (\d+) ([\d.]+) ([\d.]+) ([\d.]+)", out)
    if found is None or float(found[5]):
        raise SystemExit(f"wrk: {out}{errors}")
    texts = tokens / tokens_per_text
    return Sample(texts / wall, 1e6 * cpu / texts, float(found[3]) / 1e3, float(found[4]) / 1e3)


def _done_so_far(server: Server) -> tuple[float, float, float]:
    """Clock, CPU seconds of all processes, and tokens of all batches."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as page:
        now, cpu = time.perf_counter(), _cpu_seconds(server)
        found = re.search(r'^embedrt_batch_tokens_sum\{model="m"\} (\S+)', page.read().decode(), re.MULTILINE)
    if found is None:
        raise SystemExit("no batch has run; is the server at work?")
    return now, cpu, float(found[1])


def _cpu_seconds(server: Server) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in processes_of(server.pid))


def write_script(folder: Path, texts: list[str], size: int, encoding: str) -> Path:
    """wrk's script, and the bodies that it sends in turn."""
    bodies, script = folder / "bodies", folder / "script.lua"
    groups = [texts[k : k + size] for k in range(0, len(texts) - size + 1, size)]
    lines = (json.dumps({"input": group, "encoding_format": encoding}) for group in groups)
    bodies.write_text("".join(f"{line}\n" for line in lines))
    script.write_text(_SCRIPT.format(bodies=bodies, path=PATH))
    return script


def measure(
    library: Embedder, server: Server, script: Path, args: argparse.Namespace, cell: tuple[int, int, int, str]
) -> Row:
    """One cell, the library timed before and after the server in each round."""
    workers, size, connections, encoding = cell
    texts = short_texts()
    per_text = sum(library.count_tokens(texts)) / len(texts)
    speed, cpu, samples = [], [], []
    for _ in range(args.rounds):
        around = [time_library(library, texts, args.seconds / 3)]
        samples.append(time_server(server, script, connections, args.seconds, per_text))
        around.append(time_library(library, texts, args.seconds / 3))
        speed.append(samples[-1].texts_per_s / statistics.mean(one.texts_per_s for one in around))
        cpu.append(statistics.mean(one.cpu_us for one in around) / samples[-1].cpu_us)
    middle = {
        name: statistics.median(getattr(one, name) for one in samples) for name in ("texts_per_s", "p50_ms", "p99_ms")
    }
    return Row(workers, size, connections, encoding, statistics.median(speed), statistics.median(cpu), **middle)


def main() -> None:
    """Print a line per cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--texts", default="1,8,32", help="per request")
    parser.add_argument("--connections", default="1,8,64")
    parser.add_argument(
        "--workers", default="1,2", help="numbers of processes; those beyond one at 64 connections only"
    )
    parser.add_argument("--encodings", default="base64", help="base64, float or both, by a comma")
    parser.add_argument("--threads", type=int, default=2, help="of the library, and of the server in all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    rows: list[Row] = []
    with Embedder(args.bundle, num_threads=args.threads) as library, tempfile.TemporaryDirectory() as folder:
        for workers in map(int, args.workers.split(",")):
            flags = [
                "--port",
                "PORT",
                "--threads",
                str(args.threads),
                "--workers",
                str(workers),
                "--log-level",
                "error",
            ]
            with running("embedrt", "embedrt", "serve", f"m={args.bundle}", *flags) as server:
                for size in map(int, args.texts.split(",")):
                    for connections in map(int, args.connections.split(",")):
                        for encoding in args.encodings.split(",") if workers == 1 or connections >= 64 else ():
                            script = write_script(Path(folder), short_texts(), size, encoding)
                            rows.append(measure(library, server, script, args, (workers, size, connections, encoding)))
                            show(rows[-1])
    if args.json:
        args.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": [asdict(row) for row in rows]}, indent=1))


def show(row: Row) -> None:
    """Print one cell."""
    print(f"{row.workers} worker{'s' * (row.workers > 1)}  {row.texts:>2} texts  {row.connections:>2} connections  "
          f"{row.encoding:<6}  speed {row.speed_share:>4.0%}  CPU {row.cpu_share:>4.0%}  {row.texts_per_s:>6.0f} "
          f"texts/s  p50 {row.p50_ms:.1f} ms  p99 {row.p99_ms:.1f} ms", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
