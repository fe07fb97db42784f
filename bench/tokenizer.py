"""The native tokenizer beside the tokenizers library: reading a tokenizer.json, memory, and real texts.

    python -m bench.tokenizer TOKENIZER.json [--texts N]

Each is read in a process of its own. Texts are of ../shared/data, in 205 languages; the ids of both are compared. The
library uses the machine's threads, the native one a single one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tokenizers

from bench.memory import rss_bytes
from bench.paths import DATA
from embedrt.executors.library import load_library
from embedrt.executors.tokenizer import read_tokenizer

LONE = "how much protein should a female eat"
CALLS = 3_000
Encode = Callable[[Sequence[str]], list[list[int] | None]]


def read(kind: str, path: Path) -> tuple[Encode, Callable[[str], object]]:
    """Ids of several texts, and of one."""
    if kind == "library":
        library = tokenizers.Tokenizer.from_file(str(path))
        library.no_truncation()
        library.no_padding()
        return lambda texts: [found.ids for found in library.encode_batch_fast(list(texts))], library.encode
    native = read_tokenizer(path)
    if native is None:
        raise SystemExit(f"{path} is of a kind that is not followed natively")
    return lambda texts: [None if ids is None else ids.tolist() for ids in native(texts)], native.one


def observe(kind: str, path: Path, num_texts: int) -> None:
    """Print what one of the two takes, and its ids, as JSON."""
    load_library()
    before, start = rss_bytes(), time.perf_counter()
    several, one = read(kind, path)
    took = {"seconds": time.perf_counter() - start, "mb": (rss_bytes() - before) / 1e6}
    texts = real_texts(num_texts)
    start = time.perf_counter()
    found = several(texts)
    took["texts_s"] = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(CALLS):
        one(LONE)
    took["one_us"] = 1e6 * (time.perf_counter() - start) / CALLS
    print(json.dumps({"took": took, "ids": found}))


def real_texts(count: int) -> list[str]:
    """Texts of many languages, evenly out of the file."""
    with gzip.open(DATA / "tokenizer_refs" / "hf_tokenizers_ids.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["t"] for line in lines]
    return texts[:: max(1, len(texts) // count)]


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--texts", type=int, default=1_000_000, help="at most so many (default: all)")
    parser.add_argument("--observe", choices=("library", "native"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.observe:
        observe(given.observe, given.tokenizer, given.texts)
        return
    seen = {}
    for kind in ("library", "native"):
        command = [
            sys.executable,
            "-m",
            "bench.tokenizer",
            given.tokenizer,
            "--texts",
            str(given.texts),
            "--observe",
            kind,
        ]
        done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        took, seen[kind] = done["took"], done["ids"]
        print(
            f"{kind:8} read in {took['seconds']:.2f} s, {took['mb']:.0f} MB; {len(seen[kind]):,} texts in "
            f"{took['texts_s']:.2f} s; one short text in {took['one_us']:.1f} us"
        )
    pairs = list(zip(seen["library"], seen["native"], strict=True))
    left = sum(native is None for _, native in pairs)
    differ = sum(native is not None and native != library for library, native in pairs)
    print(f"{differ} texts have other ids, {left} are left to the library")


if __name__ == "__main__":
    main()
