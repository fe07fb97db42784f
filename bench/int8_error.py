"""`python -m bench.int8_error`: where int8's error comes from, and what each setting of the recipe is worth.

all-MiniLM-L6-v2 is quantized once per row of the table, each time with one kind of product left in float32 or one
setting changed. Numbers are cosine distances, in millionths, of pooled vectors to the fp32 graph's, over the
calibration texts that took no part in the calibration. Every row rounds anew, which alone moves the mean by a few.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.int8_parts import load_minilm
from embedrt_export.calibration import calibration_ids
from embedrt_export.int8 import DEFAULT, to_int8

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "the default recipe": {},
    "float32: Q, K and V": {"kept_float32": ("qkv",)},
    "float32: attention output": {"kept_float32": ("attention_output",)},
    "float32: FFN up": {"kept_float32": ("ffn_up",)},
    "float32: FFN down": {"kept_float32": ("ffn_down",)},
    "float32: token table": {"embeddings_int8": False},
    "V of the first token from one row": {"first_value_twice": False},
    "no outlying neurons": {"ffn_outliers": 0},
    "no shift": {"shift": False},
    "folds not optimized": {"optimize": False},
    "no folds": {"smoothing": 0.0, "shift": False, "optimize": False},
    "weights' errors count half in the folds": {"weight_ratio": 0.5},
    "weights' errors count twice in the folds": {"weight_ratio": 2.0},
    "weights rounded one by one": {"gptq": False},
    "a tenth of GPTQ's damping": {"gptq_damping": 0.005},
    "no correction of the products' biases": {"bias_correction": False},
    "no correction of the vectors": {"output_correction": False},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when something was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.int8_error", description=__doc__)
    parser.add_argument("--calibration", type=Path, help="text file, one text a line, instead of the built-in texts")
    given = parser.parse_args(arguments)
    graph, tokenizer = load_minilm()
    calibration = calibration_ids(given.calibration, tokenizer, "", graph.model)
    print("| | mean | 1st percentile | max |", "|---|---|---|---|", sep="\n")
    for name, settings in CHANGES.items():
        _model, report = to_int8(graph, calibration, recipe=replace(DEFAULT, max_wide=0, **settings))
        found = report["measured"][0]
        distances = (1e6 * (1 - found[f"cosine_{part}"]) for part in ("mean", "p01", "min"))
        print(f"| {name} | " + " | ".join(f"{distance:,.0f}" for distance in distances) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
