"""What a large model's load waits for, side by side: hashing its files, loading its weights, reading its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from embedrt.bundle import Bundle
from embedrt.threads import begin
from embedrt.tokenization import TextTokenizer

T = TypeVar("T")

_HEAD_START_S = 0.04


def load_beside(
    bundle: Bundle, variant: str, load_executor: Callable[[], T], *, verify_hashes: bool
) -> tuple[TextTokenizer, T]:
    """The bundle's tokenizer, and what `load_executor` returns, while the variant's files are checked.

    Reading a tokenizer holds the GIL throughout (0.6 s for XLM-R's 250,002 tokens). So the other two get a head start,
    until they are in C code that does not need it: about what they need for that, and no more where they are done.

    Raises:
        BundleIntegrityError: a file is damaged; this rather than what the others make of it.
        BundleFormatError: tokenizers cannot read the tokenizer.
    """
    check = bundle.check_hashes if verify_hashes else bundle.check_sizes
    with ThreadPoolExecutor(2, thread_name_prefix="embedrt-load") as beside:
        checked = begin(beside, check, variant)
        executor = begin(beside, load_executor)
        try:
            both: tuple[Future[Any], ...] = (checked, executor)
            wait(both, timeout=_HEAD_START_S)
            rows = bundle.manifest.architecture.vocab_size
            tokenizer = TextTokenizer(bundle.path(bundle.manifest.tokenizer), bundle.manifest.max_tokens, rows)
            return tokenizer, executor.result()
        finally:
            checked.result()
