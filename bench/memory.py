"""Memory and idle CPU time of a long-running process.

    python -m bench.memory BUNDLE [--variants fp32,int8]

Per variant, in a process of its own: RSS after 1,000 and after 10,000 texts of random length (from one word to beyond
the model's limit, encoded in calls of random size), and the CPU time that the idle process took in the next second.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

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


def measure(bundle: Path, variant: str) -> Memory:
    """Run `observe` in a fresh process."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench.memory", str(bundle), "--observe", variant],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Memory(**json.loads(ran.stdout))


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
    parser.add_argument("--observe", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.observe:
        print(json.dumps(asdict(observe(given.bundle, given.observe))))
        return
    print(f"| variant | loaded MB | after {FIRST:,} texts | after {LAST:,} | ratio | idle CPU s |")
    print("|---|---|---|---|---|---|")
    for variant in given.variants.split(","):
        found = measure(given.bundle, variant)
        sizes = (f"{size / 1e6:.0f}" for size in (found.loaded_bytes, found.first_bytes, found.last_bytes))
        print(f"| {variant} | {' | '.join(sizes)} | {found.growth:.3f} | {found.idle_cpu_s:.3f} |", flush=True)


if __name__ == "__main__":
    main()
