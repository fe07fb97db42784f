"""Streams: an iterable in, blocks out, in its order and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from embedrt.errors import InputError
from embedrt.pictures.runner import Item
from embedrt.results import EncodedBlock, SkippedText, truncations
from embedrt.text_checks import check_text
from embedrt.windows import Embedded, Window


@dataclass(frozen=True)
class Block:
    """What was read from a stream for one block."""

    start: int  # position in the stream of the first text read for it
    indices: list[int]
    texts: list[str]
    skipped: list[SkippedText]
    pictures: list[Item]


def read_blocks(
    texts: Iterable[object], block_size: int, skip: bool, is_picture: Callable[[object], bool] | None = None
) -> Iterator[Block]:
    """Read and check `block_size` texts at a time; what `is_picture` says so of is read when its turn comes.

    Raises:
        InputError: a text is none, and `skip` is off.
    """
    block = Block(0, [], [], [], [])
    index = -1
    for index, text in enumerate(texts):
        try:
            if is_picture is not None and is_picture(text):
                block.pictures.append(Item(index, text))
            else:
                block.texts.append(check_text(text, index))
                block.indices.append(index)
        except InputError as exc:
            if not skip:
                raise
            block.skipped.append(SkippedText(index, str(exc)))
        if index + 1 - block.start == block_size:
            yield block
            block = Block(index + 1, [], [], [], [])
    if index + 1 > block.start:
        yield block


def stream_blocks(
    blocks: Iterator[Block],
    run: Callable[[Iterator[Window]], Iterator[tuple[Window, Embedded]]],
    run_pictures: Callable[[list[Item]], dict[int, tuple[Any, int]]],
    finish: Callable[[list[NDArray[Any]]], NDArray[Any]],
    limit: int | None,
) -> Iterator[EncodedBlock]:
    """Embed block by block.

    Args:
        blocks: read one ahead of what is embedded.
        run: windows to outcomes, lazily.
        run_pictures: pictures of a block to their rows, or what is wrong with them, and rows that were read, by index.
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
        failed = list(block.skipped)
        rows: dict[int, tuple[Any, int]] = {}
        for i, text in zip(block.indices, block.texts, strict=True):
            if (k := place[text]) in done.failed:
                failed.append(SkippedText(i, f"text {i}: {done.failed[k]}"))
            else:
                rows[i] = done.rows[k], done.num_tokens[k]
        for i, (row, count) in run_pictures(block.pictures).items():
            if isinstance(row, Exception):
                failed.append(SkippedText(i, str(row)))
            else:
                rows[i] = row, count
        indices = tuple(sorted(rows))
        num_tokens = tuple(rows[i][1] for i in indices)
        of_texts = tuple(sorted(rows.keys() & set(block.indices)))
        yield EncodedBlock(
            start=block.start,
            num_texts=len(block.texts) + len(block.skipped) + len(block.pictures),
            indices=indices,
            embeddings=finish([rows[i][0] for i in indices]),
            num_tokens=num_tokens,
            truncated=truncations(of_texts, tuple(rows[i][1] for i in of_texts), limit),
            skipped=tuple(sorted(failed, key=lambda item: item.index)),
        )
