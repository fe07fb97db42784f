"""What stands between pictures and their rows: they are read and resized on a few threads while the encoder runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Patches
from embedrt.errors import DependencyError, NonFiniteError, OptionError, PictureError
from embedrt.executors import WANTS, Executor, PatchBatch
from embedrt.options import EncodeOptions
from embedrt.pictures.attention_pooling import AttentionPooling
from embedrt.pictures.preprocessing import Preprocessing, preprocess, to_patches
from embedrt.pictures.reading import MAX_PIXELS, read_picture
from embedrt.pooling import Dense, pool
from embedrt.threads import begin

Patched = NDArray[np.float32]  # (count, size)

TEXTS_ONLY = "{name} embeds texts only; pictures need a bundle of CLIP or its kin"
BUDGET_ROWS = 1024  # of one run, as of texts' tokens
_MOST_THREADS = 4
_NOT_FINITE = (
    "its vector holds NaN or infinity; this variant ({variant}) does not hold this model's values, use fp32, and "
    "report the picture"
)


class _PictureNotFiniteError(NonFiniteError):
    _kind = "picture"


@dataclass(frozen=True)
class Item:
    """A picture, and where it is in the caller's input."""

    index: int
    source: object


@dataclass(frozen=True)
class PictureRunner:
    """The tower of pictures. Several threads may use one at once."""

    executor: Executor
    dense: Dense
    settings: Preprocessing
    patches: Patches
    variant: str  # for messages
    num_threads: int
    attention: AttentionPooling | None = None  # where the pooling is one

    @property
    def num_rows(self) -> int:
        """Rows that the encoder reads of a picture, which count as a text's tokens do."""
        return self.patches.count + self.patches.has_first_row

    def run(
        self,
        items: Iterable[Item],
        options: EncodeOptions,
        advance: Callable[[int], None] = lambda _: None,
        *,
        skip: bool = False,
    ) -> Iterator[tuple[int, NDArray[Any] | PictureError | NonFiniteError]]:
        """Each picture's index, and its row (D,), hidden states (n, H), or, where the caller skips, what is wrong.

        Args:
            items: read a few batches ahead of what is run.
            options: of the call.
            advance: told how many pictures each run of the executor did.
            skip: give what is wrong with a picture instead of raising it.

        Raises:
            PictureError: a picture cannot be read.
            NonFiniteError: a vector came out with NaN or infinity.
            DependencyError: Pillow is not installed.
        """
        if options.output_value is None:
            raise OptionError("output_value=None goes with texts only; pictures have sentence and token embeddings")
        held = self.executor.held()  # a call that runs finishes, whoever closes meanwhile
        size = max(1, BUDGET_ROWS // self.num_rows)
        size = size if options.batch_size is None else min(size, options.batch_size)
        prepared = self._prepared(items, 2 * size)
        while batch := list(islice(prepared, size)):
            found: dict[int, NDArray[Any] | PictureError | NonFiniteError] = {}
            good = [(i, patches) for i, patches in batch if not isinstance(patches, PictureError)]
            for i, wrong in batch:
                if isinstance(wrong, PictureError):
                    found[i] = wrong
            if good:
                rows = self.run_group([patches for _, patches in good], options, held)
                for (i, _), row in zip(good, rows, strict=True):
                    found[i] = row if np.isfinite(row).all() else _PictureNotFiniteError(self.not_finite, index=i)
            advance(len(batch))
            for i, _ in batch:
                outcome = found[i]
                if not skip and isinstance(outcome, PictureError | NonFiniteError):
                    raise outcome
                yield i, outcome

    def prepare(self, source: object, *, max_pixels: int = MAX_PIXELS) -> Patched:
        """The patches of a picture, from its file on.

        Raises:
            PictureError: it cannot be read, or has more than `max_pixels` pixels.
        """
        pixels = preprocess(read_picture(source, max_pixels=max_pixels), self.settings)
        return to_patches(pixels, self.patches.edge, self.settings)

    def run_group(
        self, patches: Sequence[Patched], options: EncodeOptions, executor: Executor | None = None
    ) -> list[NDArray[np.float32]]:
        """One run over prepared pictures: a row (D,) each, or hidden states (n, H). `executor` may be one held."""
        executor = executor or self.executor
        batch = PatchBatch(np.stack(patches))
        if options.output_value != "sentence_embedding":
            return list(executor.run(batch).reshape(len(patches), self.num_rows, -1))
        want = WANTS.get(self.dense.pooling)
        if self.attention is not None:
            pooled = self.attention(executor.run(batch).reshape(len(patches), self.num_rows, -1))
        elif want is not None:
            pooled = executor.run(batch, want=want)
        else:
            offsets = np.arange(len(patches) + 1, dtype=np.int32) * self.num_rows
            pooled = pool(executor.run(batch), offsets, self.dense.pooling)
        return list(self.dense.head(pooled, unnormalized=options.unnormalized))

    @property
    def not_finite(self) -> str:
        """What is said of a picture whose vector is not finite."""
        return _NOT_FINITE.format(variant=self.variant)

    def _prepared(self, items: Iterable[Item], ahead: int) -> Iterator[tuple[int, Patched | PictureError]]:
        """Pictures in their order, `ahead` of them being read while one is used; a single one in the calling thread."""
        iterator = iter(items)
        first = list(islice(iterator, 2))
        if len(first) < 2:
            yield from ((item.index, self._try(item)) for item in first)
            return
        with ThreadPoolExecutor(min(_MOST_THREADS, self.num_threads), thread_name_prefix="embedrt-picture") as threads:
            waiting: deque[tuple[int, Future[Patched | PictureError]]] = deque()
            try:
                for item in (*first, *islice(iterator, ahead - len(first))):
                    waiting.append((item.index, begin(threads, self._try, item)))
                while waiting:
                    index, future = waiting.popleft()
                    yield index, future.result()
                    waiting.extend((item.index, begin(threads, self._try, item)) for item in islice(iterator, 1))
            finally:
                for _, future in waiting:
                    future.cancel()

    def _try(self, item: Item) -> Patched | PictureError:
        try:
            return self.prepare(item.source)
        except PictureError as exc:
            return PictureError(exc.reason, index=item.index)
        except DependencyError:
            raise
        except MemoryError as exc:
            return PictureError(f"does not fit into memory: {exc}", index=item.index)
