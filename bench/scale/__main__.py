"""`python -m bench.scale --tokens-per-s 30000 --price 0.20`: time and cost of a run over many machines.

The rate per node is measured (`embedrt bench`, or the last line of `embed-dataset`), the price is looked up by whoever
runs this; what is assumed of preemption, stragglers and the store is in `Cluster` and printed. Each cell is an interval
from the 5th to the 95th percentile of runs with other seeds: what chance does, if the assumptions are right.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from bench.scale.costs import BYTES, dollars_per_billion_tokens, told_bytes
from bench.scale.simulate import Cluster, Result, Work, interval, simulate


def main() -> int:
    """Print a table over shard sizes and node counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens-per-s", type=float, required=True, help="of one node, measured")
    parser.add_argument("--price", type=float, default=None, help="of one node for an hour, in any money")
    parser.add_argument("--texts", type=float, default=1e10)
    parser.add_argument("--tokens-per-text", type=float, default=30)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--shard-tokens", type=float, nargs="+", default=[5e5, 2e6, 8e6, 32e6])
    parser.add_argument("--preempted-per-hour", type=float, default=Cluster.preempted_per_hour)
    parser.add_argument("--straggler-share", type=float, default=Cluster.straggler_share)
    parser.add_argument("--store-requests-per-s", type=float, default=Cluster.store_requests_per_s)
    parser.add_argument("--seeds", type=int, default=20, help="runs, of which intervals are made; at least 2")
    asked = parser.parse_args()
    cluster = Cluster(
        tokens_per_s=asked.tokens_per_s,
        preempted_per_hour=asked.preempted_per_hour,
        straggler_share=asked.straggler_share,
        store_requests_per_s=asked.store_requests_per_s,
    )
    work = Work(tokens=asked.texts * asked.tokens_per_text)
    print("assumed:", ", ".join(f"{name} {value:g}" for name, value in asdict(cluster).items() if name != "nodes"))
    print(f"5th to 95th percentile of {asked.seeds} runs")
    print("| nodes | tokens per shard | hours | node hours | lost to preemption | tail |", end="")
    print(" cost |" if asked.price else "")
    print("|" + "---|" * (7 if asked.price else 6))
    for nodes in asked.nodes:
        for shard_tokens in asked.shard_tokens:
            runs = [
                simulate(replace(cluster, nodes=nodes), replace(work, shard_tokens=shard_tokens), seed)
                for seed in range(asked.seeds)
            ]
            print(_row(nodes, shard_tokens, runs, asked.price), flush=True)
    if asked.price is not None:
        print(f"\nper billion tokens: {dollars_per_billion_tokens(asked.tokens_per_s, asked.price):.4g}")
    print("\n" + "; ".join(f"{name} {told_bytes(asked.texts, asked.dimension, name)}" for name in BYTES))
    return 0


def _row(nodes: int, shard_tokens: float, runs: list[Result], price: float | None) -> str:
    def span(values: list[float], unit: str = "") -> str:
        low, high = interval(values)
        return f"{low:,.3g} to {high:,.3g}{unit}"

    cells = [
        f"{nodes:,}",
        f"{shard_tokens:,.0f}",
        span([run.seconds / 3600 for run in runs]),
        span([run.node_hours for run in runs]),
        span([100 * run.lost_node_seconds / run.node_seconds for run in runs], " %"),
        span([run.tail_seconds / 60 for run in runs], " min"),
    ]
    if price:
        cells.append(span([price * run.node_hours for run in runs]))
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
