"""Memory and idle CPU time of a long-running process.

    python -m bench.memory BUNDLE [--variants fp32,int8]
    python -m bench.memory BUNDLE --lengths 2048,4096,8192

Per variant, in a process of its own: RSS after 1,000 and after 10,000 texts of random length (from one word to beyond
the model's limit, encoded in calls of random size), and the CPU time that the idle process took in the next second.
With `--lengths`, per variant, executor and length in a process of its own: what one text of so many tokens adds to RSS
at its peak, and how long the second one of two takes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.paths import REPO

FIRST, LAST = 1_000, 10_000  # texts
MAX_CALL = 64  # texts


@dataclass(frozen=True)
class Memory:
    """What one process took."""

    variant: str
    loaded_bytes: int  # RSS before the first text
    first_bytes: int  # after `FIRST` texts
    last_bytes: int  # after `LAST` texts
    idle_cpu_s: float  # of the second after the last call

    @property
    def growth(self) -> float:
        """RSS at the end over RSS after the first texts."""
        return self.last_bytes / self.first_bytes


@dataclass(frozen=True)
class OneText:
    """What one long text took in a process."""

    loaded_bytes: int  # RSS before it
    peak_bytes: int  # the largest RSS
    seconds: float


def measure(bundle: Path, variant: str) -> Memory:
    """Run `observe` in a fresh process."""
    return Memory(**_in_a_process(bundle, "--observe", variant))


def measure_text(bundle: Path, variant: str, executor: str, length: int) -> OneText:
    """Run `observe_text` in a fresh process.

    Raises:
        subprocess.CalledProcessError: it failed, e.g. for want of memory.
    """
    return OneText(**_in_a_process(bundle, "--observe", variant, "--executors", executor, "--lengths", str(length)))


def _in_a_process(bundle: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.memory", str(bundle), *options]
    ran = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def observe(bundle: Path, variant: str) -> Memory:
    """Encode in this process, and look at it."""
    from embedrt import Embedder

    rng = random.Random(0)
    with Embedder(bundle, variant=variant) as embedder:
        loaded = rss_bytes()
        longest = embedder.max_tokens * 5 // 4
        done, first = 0, 0
        while done < LAST:
            count = min(rng.randint(1, MAX_CALL), (FIRST if done < FIRST else LAST) - done)
            embedder.encode_detailed([_text(rng, longest) for _ in range(count)])
            done += count
            if done == FIRST:
                first = rss_bytes()
        last = rss_bytes()
        used = time.process_time()
        time.sleep(1)
        return Memory(variant, loaded, first, last, time.process_time() - used)


def observe_text(bundle: Path, variant: str, executor: str, length: int) -> OneText:
    """Encode a text of `length` tokens twice in this process."""
    from embedrt import Embedder

    rng = random.Random(0)
    with Embedder(bundle, variant=variant, executor=executor) as embedder:  # type: ignore[arg-type]
        loaded = rss_bytes()
        text = " ".join(rng.choices(_WORDS, k=length - embedder.count_tokens("")))
        if not embedder.count_tokens(text) == length <= embedder.max_tokens:
            raise SystemExit(f"{bundle} does not read a text of {length} tokens, one for each word, whole")
        embedder.encode(text)
        start = time.perf_counter()
        embedder.encode(text)
        seconds = time.perf_counter() - start
    return OneText(loaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds)


def rss_bytes() -> int:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system's /proc does not tell VmRSS")


def _text(rng: random.Random, longest: int) -> str:
    """Words of about one token each; lengths spread over three orders of magnitude, as real ones are."""
    words = int(longest ** rng.random())
    return " ".join(rng.choice(_WORDS) for _ in range(words))


_WORDS = ("the", "of", "and", "water", "stone", "light", "river", "house", "bread", "paper", "time", "year", "people")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variants", default="fp32,int8")
    parser.add_argument("--executors", default="native,onnxruntime", help="with --lengths")
    parser.add_argument("--lengths", default="", help="of one text, in tokens")
    parser.add_argument("--observe", help=argparse.SUPPRESS)
    given = parser.parse_args()
    variants, executors = given.variants.split(","), given.executors.split(",")
    lengths = [int(length) for length in given.lengths.split(",") if length]
    if given.observe and lengths:
        print(json.dumps(asdict(observe_text(given.bundle, given.observe, executors[0], lengths[0]))))
    elif given.observe:
        print(json.dumps(asdict(observe(given.bundle, given.observe))))
    elif lengths:
        _print_texts(given.bundle, variants, executors, lengths)
    else:
        _print_many(given.bundle, variants)


def _print_many(bundle: Path, variants: Sequence[str]) -> None:
    print(f"| variant | loaded MB | after {FIRST:,} texts | after {LAST:,} | ratio | idle CPU s |")
    print("|---|---|---|---|---|---|")
    for variant in variants:
        found = measure(bundle, variant)
        sizes = (f"{size / 1e6:.0f}" for size in (found.loaded_bytes, found.first_bytes, found.last_bytes))
        print(f"| {variant} | {' | '.join(sizes)} | {found.growth:.3f} | {found.idle_cpu_s:.3f} |", flush=True)


def _print_texts(bundle: Path, variants: Sequence[str], executors: Sequence[str], lengths: Sequence[int]) -> None:
    print("| variant | executor | tokens | MB at the peak, beyond loaded | s |", "|---|---|---|---|---|", sep="\n")
    for variant, executor, length in product(variants, executors, lengths):
        found = measure_text(bundle, variant, executor, length)
        grown = (found.peak_bytes - found.loaded_bytes) / 1e6
        print(f"| {variant} | {executor} | {length:,} | {grown:,.0f} | {found.seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
