"""`python -m bench.scale.prices`: dollars per 10^9 tokens on processors, GPUs and hosted APIs.

Prices are published ones with their source and date, for Linux in us-east-1 without commitment.
Rates are measured, but those with "about": where a model that follows another was not measured, it is given the share
of the other's rate that it has on the first processor. Look all of it up again before you decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.record import rate_of_a_core
from bench.scale.costs import dollars_per_billion_tokens


@dataclass(frozen=True)
class Processor:
    """A core of a rented machine."""

    name: str
    machine: str
    price_per_core: float  # dollars an hour
    source: str
    tokens_per_s: dict[str, float]  # of one core, by model
    measured: str


@dataclass(frozen=True)
class Gpu:
    """A GPU, whose rate nobody has measured here."""

    name: str
    price: float  # dollars an hour
    source: str


@dataclass(frozen=True)
class Api:
    """A hosted model."""

    name: str
    price: float  # dollars per 10^6 tokens
    source: str


MODELS = ("MiniLM", "E5-small", "E5-large")
FOLLOWS = {"E5-small": "MiniLM"}  # has its layers twice
# A core is two vCPUs of m6a and m7i, and one of m7a, m8a and m7g.
PROCESSORS = (
    Processor(
        "AMD Zen 5", "m8a.large", 0.12172 / 2,
        "github.com/vitko-inc/runner-benchmark, selfhosted/aws/cost_ec2.py at 652b2da, 2026-10-01",
        {
            "MiniLM": rate_of_a_core("zen5/minilm", "32x128"),
            "E5-small": rate_of_a_core("zen5/me5-small", "8x128"),
            "E5-large": rate_of_a_core("zen5/xlmr-large", "8x128"),
        },
        "docs/speed.md, 32x128, 8x128 and 8x128",
    ),
    Processor(
        "Intel, AMX", "m7i.xlarge", 0.2016 / 2, "c3x.dev/blog/m5-vs-m6i-vs-m7i-cost-performance, 2026",
        {"MiniLM": 28_619, "E5-large": 1_471},
        "bench.isa_speed --isa amx --threads 1 --own-time, 1x128 and 8x128, 2026-11-27",
    ),
    Processor(
        "AMD Zen 4", "m7a.large", 0.11592 / 2,
        'github.com/spore-host/truffle-ts, src/data/pricing.ts at 7177bb9, January 2026, "approximate"',
        {"MiniLM": 30_872 / 2, "E5-large": 1_231 / 2}, "docs/speed.md, 32x128 and 8x128",
    ),
    Processor(
        "AMD Zen 3", "m6a.large", 63.07 / 730, "gist.github.com/alikhajeh1/6107727c5218382b9cc6af69be562111, undated",
        {"MiniLM": 9_062 / 2, "E5-large": 431 / 2}, "docs/speed.md, 32x128 and 8x128",
    ),
    Processor(
        "Graviton 3", "m7g.large", 0.0816 / 2,
        "factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026, 2026-06-17", {}, "not measured",
    ),
)  # fmt: skip
GPUS = (
    Gpu("A10G, g5.xlarge", 1.006, "factualminds.com, as above, 2026-06-17"),
    Gpu("H100 SXM, RunPod", 2.69, "spheron.network/blog/runpod-h100-pricing-2026, 2026-05-22"),
)
APIS = (
    Api("OpenAI text-embedding-3-small", 0.02, "openai.com/index/new-embedding-models-and-api-updates, 2024-01-25; "
        "tokenprice.fyi, 2026-07-03"),
    Api("OpenAI text-embedding-3-large", 0.13, "as above, 2024-01-25"),
    Api("Cohere Embed 4", 0.12, "developer.puter.com/tutorials/cohere-api-pricing, June 2026"),
)  # fmt: skip


def main() -> int:
    """Print the tables, in Markdown."""
    print(f"| processor | dollars a core and hour | {' | '.join(MODELS)} | price from | rate from |")
    print("|" + "---|" * (4 + len(MODELS)))
    for one in PROCESSORS:
        cells = [_dollars(one, model) for model in MODELS]
        named = f"| {one.name}, {one.machine} | {one.price_per_core:.4f} |"
        print(f"{named} {' | '.join(cells)} | {one.source} | {one.measured} |")
    cheapest = PROCESSORS[0]
    models = [model for model in MODELS if cheapest.tokens_per_s.get(model)]
    print(f"\n| GPU | dollars an hour | {' | '.join(f'{model}, tokens/s to equal' for model in models)} | price from |")
    print("|" + "---|" * (3 + len(models)))
    for gpu in GPUS:
        cells = [f"{gpu.price / cheapest.price_per_core * cheapest.tokens_per_s[model]:,.0f}" for model in models]
        print(f"| {gpu.name} | {gpu.price:.3f} | {' | '.join(cells)} | {gpu.source} |")
    print("\n| API | dollars per 10^9 tokens | price from |\n|---|---|---|")
    for api in APIS:
        print(f"| {api.name} | {1000 * api.price:.0f} | {api.source} |")
    return 0


def _dollars(one: Processor, model: str) -> str:
    """Of 10^9 tokens."""
    rate, about = one.tokens_per_s.get(model), ""
    leader = one.tokens_per_s.get(FOLLOWS.get(model, ""))
    if rate is None and leader is not None:
        measured = PROCESSORS[0].tokens_per_s
        rate, about = leader * measured[model] / measured[FOLLOWS[model]], "about "
    return f"{about}{dollars_per_billion_tokens(rate, one.price_per_core):.2f}" if rate else "not measured"


if __name__ == "__main__":
    raise SystemExit(main())
