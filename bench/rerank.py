"""One query with 100 passages of 128 tokens: the library beside sentence-transformers' CrossEncoder in PyTorch.

The model has the shape of cross-encoder/ms-marco-MiniLM-L6-v2 and seeded weights, which decide no time; the bundle's
int8 is verified against PyTorch by its export before anything is timed::

    python -m bench.rerank [--repeat 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from embedrt import Reranker
from embedrt.machine import available_threads
from embedrt_export import export

PASSAGES, TOKENS = 100, 128  # of each pair, the query's and special tokens included


def save_model(folder: Path) -> Path:
    """A seeded BertForSequenceClassification of MiniLM-L6's shape, with a vocabulary of words."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        num_labels=1,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.06)
    model.eval().save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{k}" for k in range(30_518))]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = transformers.BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=512)
    fast.save_pretrained(folder)
    return folder


def median_ms(call: Callable[[], Any], repeat: int) -> float:
    """Of `repeat` calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Print milliseconds per call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    torch.set_num_threads(available_threads())
    query = " ".join(f"w{k}" for k in range(9))
    passages = [" ".join(f"w{(37 * i + k) % 30_000}" for k in range(TOKENS - 12)) for i in range(PASSAGES)]
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "model")
        report = export(model, Path(folder) / "bundle", variants=("fp32", "int8"))
        for output in report.outputs:
            print(output.variant, {name: round(value, 6) for name, value in output.figures.items()})
        peer = CrossEncoder(str(model), device="cpu")
        found = {"sentence-transformers, torch fp32": median_ms(lambda: peer.rank(query, passages), repeat)}
        for variant in ("fp32", "int8"):
            with Reranker(Path(folder) / "bundle", variant=variant) as reranker:
                assert len(reranker.tokenizer([(query, passages[0])])[0]) == TOKENS
                name = f"embedrt, {reranker.executor_description}"
                found[name] = median_ms(lambda reranker=reranker: reranker.rank(query, passages), repeat)
    for name, ms in found.items():
        print(f"{ms:9.1f} ms  {name}")


if __name__ == "__main__":
    main()
