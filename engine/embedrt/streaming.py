"""Streams: an iterable in, blocks out, in its order and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from embedrt.errors import InputError
from embedrt.results import EncodedBlock, SkippedText, truncations
from embedrt.tokenization import check_text
from embedrt.windows import Embedded, Window


@dataclass(frozen=True)
class Block:
    """What was read from a stream for one block."""

    start: int  # position in the stream of the first text read for it
    indices: list[int]
    texts: list[str]
    skipped: list[SkippedText]


def read_blocks(texts: Iterable[object], block_size: int, skip: bool) -> Iterator[Block]:
    """Read and check `block_size` texts at a time.

    Raises:
        InputError: a text is none, and `skip` is off.
    """
    block = Block(0, [], [], [])
    index = -1
    for index, text in enumerate(texts):
        try:
            block.texts.append(check_text(text, index))
            block.indices.append(index)
        except InputError as exc:
            if not skip:
                raise
            block.skipped.append(SkippedText(index, str(exc)))
        if index + 1 - block.start == block_size:
            yield block
            block = Block(index + 1, [], [], [])
    if index + 1 > block.start:
        yield block


def stream_blocks(
    blocks: Iterator[Block],
    run: Callable[[Iterator[Window]], Iterator[tuple[Window, Embedded]]],
    finish: Callable[[list[NDArray[Any]]], NDArray[Any]],
    limit: int | None,
) -> Iterator[EncodedBlock]:
    """Embed block by block.

    Args:
        blocks: read one ahead of what is embedded.
        run: windows to outcomes, lazily.
        finish: rows to the vectors that the caller asked for.
        limit: tokens that a text may have, for what is reported as cut; None: nothing is.
    """
    waiting: list[Block] = []

    def windows() -> Iterator[Window]:
        for block in blocks:
            waiting.append(block)
            first: dict[str, int] = {}  # each different text is embedded once
            for i, text in zip(block.indices, block.texts, strict=True):
                first.setdefault(text, i)
            yield Window(tuple(first), tuple(first.values()))

    for window, done in run(windows()):
        block = waiting.pop(0)
        place = {text: k for k, text in enumerate(window.texts)}
        whole = [(i, place[text]) for i, text in zip(block.indices, block.texts, strict=True)]
        failed = [SkippedText(i, f"text {i}: {done.failed[k]}") for i, k in whole if k in done.failed]
        kept = [(i, k) for i, k in whole if k not in done.failed]
        indices, num_tokens = tuple(i for i, _ in kept), tuple(done.num_tokens[k] for _, k in kept)
        yield EncodedBlock(
            start=block.start,
            num_texts=len(block.texts) + len(block.skipped),
            indices=indices,
            embeddings=finish([done.rows[k] for _, k in kept]),
            num_tokens=num_tokens,
            truncated=truncations(indices, num_tokens, limit),
            skipped=tuple(sorted([*block.skipped, *failed], key=lambda item: item.index)),
        )
