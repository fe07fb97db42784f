"""What the inputs of each product look like on calibration texts, seen by running the fp32 graph."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.threads import side_by_side
from embedrt_export.emit.walk import PIXELS
from embedrt_export.int8.repetitions import repetitions
from embedrt_export.weights import save_graph

Array = NDArray[np.float32]
Ids = Sequence[int] | Array
"""A text's token ids, or a picture's patches (count, size)."""
Outputs = tuple[dict[str, Array], NDArray[np.bool_]]
"""Every output (B, S, K), by name, and the mask (B, S) of real tokens."""

BATCH_TOKENS = 1024  # that one run has at most
_BATCH_BYTES = 256 << 20  # in one run, of all values whose rows are counted
_PENDING_ROWS = 512  # of each value, before they go into its gram

POOLED_TOKENS: dict[tuple[str, ...], int] = {("cls",): 0, ("lasttoken",): -1}
"""Pooling modes of a bundle -> the token whose state is the vector; the mean stands for all others."""
HELD_OUT = 5  # every fifth calibration text takes no part in the calibration and is measured on
MAX_HELD_OUT = 60  # where there are many, fewer are
GRAM_TOKENS = 16  # of each text, evenly spread; all would take twice as long for 2 % of int8's error
_GRAM_BLOCK = 256  # columns
MEANS_WEIGHT = 4.0  # what the covariance of texts' means counts beside that of tokens
# kept of every text, evenly spread, so that many are first tokens'; with random rows, or half of either,
# all-mpnet-base-v2 was at its gate, or under it
SAMPLE_ROWS = 2
MAX_SAMPLE = 512  # rows that folds are chosen and products measured on


@dataclass
class InputStats:
    """Over the rows seen of one value (T, K)."""

    count: int
    low: Array  # (K,)
    high: Array  # (K,)
    total: NDArray[np.float64]  # (K,), sum
    # (K, K) float32, sum over texts of their rows' covariance, and of 1 + MEANS_WEIGHT times their mean's outer product
    gram: torch.Tensor | None
    texts: int
    total_of_means: NDArray[np.float64]  # (K,), sum over texts of their rows' mean
    samples: list[Array]  # a few rows of every text
    pending: list[Array] = field(default_factory=list)  # rows that are not in the gram yet

    @staticmethod
    def empty(width: int, *, with_gram: bool) -> InputStats:
        """Of no rows yet."""
        low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
        gram = torch.zeros(width, width) if with_gram else None
        return InputStats(0, low, high, np.zeros(width), gram, 0, np.zeros(width), [])

    def add(self, rows: Array, texts: int) -> None:
        """Add a batch's rows (T, K), of `texts` texts of one length."""
        self.count += len(rows)
        self.samples.append(rows[:: -(-len(rows) // (SAMPLE_ROWS * texts))].copy())
        np.minimum(self.low, rows.min(axis=0), out=self.low)
        np.maximum(self.high, rows.max(axis=0), out=self.high)
        self.total += rows.sum(axis=0, dtype=np.float64)
        if self.gram is None:
            return
        tokens = rows.reshape(texts, -1, rows.shape[1])
        means = tokens.mean(axis=1)
        apart = tokens[:, :: -(-tokens.shape[1] // GRAM_TOKENS)] - means[:, None]
        self.texts += texts
        self.total_of_means += means.sum(axis=0)
        if tokens.shape[1] > 1:  # else they are zero, as where each row is a text: those of a words' head
            self.pending.append(apart.reshape(-1, rows.shape[1]) / np.float32(apart.shape[1] ** 0.5))
        self.pending.append(means * np.float32((1 + MEANS_WEIGHT) ** 0.5))
        if sum(map(len, self.pending)) >= _PENDING_ROWS:
            self.flush()

    def flush(self) -> None:
        """Add the pending rows to the gram; few large steps are far faster than many small ones.

        A gram is symmetric: until `finish`, only blocks on and over its diagonal count.
        """
        if self.gram is not None and self.pending:
            x = torch.from_numpy(np.concatenate(self.pending))
            for start in range(0, x.shape[1], _GRAM_BLOCK):
                rows = slice(start, start + _GRAM_BLOCK)
                self.gram[rows, start:].addmm_(x[:, rows].T, x[:, start:])
        self.pending.clear()

    def finish(self) -> None:
        """No more rows will be added."""
        self.flush()
        if self.gram is not None:
            for start in range(0, len(self.gram), _GRAM_BLOCK):
                rows = slice(start, start + _GRAM_BLOCK)
                self.gram[rows.stop :, rows] = self.gram[rows, rows.stop :].T

    @staticmethod
    def merged(parts: Sequence[InputStats]) -> InputStats:
        """Over the rows of several values that are read as if they were one."""
        if len(parts) == 1:
            return parts[0]
        grams = [part.gram for part in parts if part.gram is not None]
        return InputStats(
            sum(part.count for part in parts),
            np.min([part.low for part in parts], axis=0),
            np.max([part.high for part in parts], axis=0),
            np.sum([part.total for part in parts], axis=0),
            torch.stack(grams).sum(dim=0) if len(grams) == len(parts) else None,
            sum(part.texts for part in parts),
            np.sum([part.total_of_means for part in parts], axis=0),
            [rows for part in parts for rows in part.samples],
        )

    @property
    def sample(self) -> Array:
        """Some of the rows seen (t, K), `MAX_SAMPLE` at most."""
        rows = np.concatenate(self.samples)
        return rows[:: -(-len(rows) // MAX_SAMPLE)]

    @property
    def mean(self) -> Array:
        """Mean per channel (K,)."""
        return (self.total / self.count).astype(np.float32)

    def channels(self, kept: NDArray[np.int64]) -> InputStats:
        """The statistics of some channels only."""
        gram = None if self.gram is None else self.gram[kept][:, kept]
        low, high, total = self.low[kept], self.high[kept], self.total[kept]
        means, samples = self.total_of_means[kept], [self.sample[:, kept]]
        return InputStats(self.count, low, high, total, gram, self.texts, means, samples)

    def covariance(self, scale: Array) -> Array:
        """Covariance (K, K) of x / scale, and `MEANS_WEIGHT` times that of its mean over each text; texts count alike.

        What a weight's error does to all tokens of a text alike passes attention's averages and the pooling; what it
        does to each token differently is mostly averaged away.
        """
        assert self.gram is not None
        inverse = torch.from_numpy((1 / scale).astype(np.float32))
        mean = torch.from_numpy((self.total_of_means / self.texts).astype(np.float32))
        centred = (self.gram / self.texts).addr_(mean, mean, alpha=-1 - MEANS_WEIGHT)
        out: Array = centred.mul_(inverse).mul_(inverse[:, None]).numpy()
        return out


class Session:
    """A graph on stock ONNX Runtime, fed with token ids, or with patches of pictures."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str] = ()) -> None:
        self._names = [*(output.name for output in model.graph.output), *outputs]
        self._session = _load(model, outputs)
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, sequences: Sequence[Ids]) -> Outputs:
        """Every output (B, S, K), by name, and the mask (B, S) of real tokens."""
        if self._inputs == [PIXELS]:
            found = self._session.run(None, {PIXELS: np.stack(sequences).astype(np.float32, copy=False)})
            return dict(zip(self._names, found, strict=True)), np.ones(found[0].shape[:2], bool)
        ids = np.zeros((len(sequences), max(map(len, sequences))), np.int64)
        mask = np.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        values = self._session.run(None, {name: every[name] for name in self._inputs})
        return dict(zip(self._names, values, strict=True)), mask.astype(bool)

    def run_all(self, groups: Iterable[list[Ids]]) -> Iterator[tuple[list[Ids], Outputs]]:
        """Each group with what `run` gives, as many at once as torch has threads."""
        return side_by_side(lambda group: (group, self.run(group)), groups, torch.get_num_threads(), "embedrt-run")


@dataclass(frozen=True)
class Wanted:
    """What a pass over the calibration texts is to look at."""

    values: Mapping[str, bool]  # value -> whether its gram is kept, of the texts that int8 is fitted to
    peaks: Collection[str] = ()  # values of which the largest magnitude is enough
    token: int | None = None  # whose state is a text's vector, 0 or -1; None: the mean of all

    def __or__(self, other: Wanted) -> Wanted:
        both = {name: self.values.get(name, False) or other.values.get(name, False)
                for name in (*self.values, *other.values)}  # fmt: skip
        return Wanted(both, {*self.peaks, *other.peaks}, other.token if self.token is None else self.token)


@dataclass(frozen=True)
class Observed:
    """What one pass of the fp32 graph over the calibration texts showed."""

    fitted: dict[str, InputStats]  # by value, of the texts that int8 is fitted to
    held_out: dict[str, InputStats]  # of those that it is measured on: without grams
    peaks: dict[str, float]  # largest magnitude of a value, in all texts
    vectors: Array  # (N, H) pooled, not normalized: of those that int8 is fitted to, then of the others

    def forget_grams(self) -> None:
        """Free what only int8 needs: gigabytes in large models."""
        for stats in self.fitted.values():
            stats.gram = None


def held_out(calibration: Sequence[Ids]) -> tuple[list[Ids], list[Ids]]:
    """The texts that int8 is fitted to, and those that take no part in that and are measured on."""
    every = max(HELD_OUT, -(-len(calibration) // MAX_HELD_OUT))
    return (
        [ids for index, ids in enumerate(calibration) if index % every],
        [ids for index, ids in enumerate(calibration) if index % every == 0],
    )


def observe(model: onnx.ModelProto, wanted: Wanted, calibration: Sequence[Ids]) -> Observed:
    """Run the texts once, for all that is made of them; int8 is fitted to `repetitions` of their tokens as well."""
    fitted, others = held_out(calibration)
    natural = [ids for ids in fitted if not isinstance(ids, np.ndarray)]  # the others are pictures
    parts = ([*fitted, *repetitions(natural)], others)
    session = Session(model, [*wanted.values, *(name for name in wanted.peaks if name not in wanted.values)])
    tokens = _tokens_at_once(session, wanted, calibration)
    peaks: dict[str, float] = dict.fromkeys(wanted.peaks, 0.0)
    found: list[dict[str, InputStats]] = []
    vectors: list[Array] = []
    for place, part in enumerate(parts):
        stats: dict[str, InputStats] = {}
        pools: list[Array] = []
        for batch, (outputs, _mask) in session.run_all(batches(part, tokens)):
            pools.append(_pool(next(iter(outputs.values())), wanted.token))
            for name, with_gram in wanted.values.items():
                rows = _rows(outputs[name])
                if name not in stats:
                    stats[name] = InputStats.empty(rows.shape[1], with_gram=with_gram and not place)
                stats[name].add(rows, len(batch))
            for name in peaks:
                peaks[name] = max(peaks[name], _peak(outputs[name]))
        for seen in stats.values():
            seen.finish()
        found.append(stats)
        if pools:
            vectors.append(in_order(part, pools))
    return Observed(found[0], found[1], peaks, np.concatenate([vectors[0][: len(fitted)], *vectors[1:]]))


def pooled(session: Session, sequences: Sequence[Ids], *, token: int | None = None) -> Array:
    """The mean of each text's states, or that of its `token`, 0 or -1: (N, H), not normalized, in order."""
    runs = session.run_all(batches(sequences))
    return in_order(sequences, [_pool(next(iter(outputs.values())), token) for _batch, (outputs, _mask) in runs])


def _pool(hidden: Array, token: int | None) -> Array:
    """Vectors (B, H) of texts of equal lengths, so that nothing is padding."""
    return hidden.mean(axis=1) if token is None else hidden[:, token].copy()


def in_order(sequences: Sequence[Ids], vectors: Sequence[Array]) -> Array:
    """(N, H) in the order of the texts, of the vectors of each of their `batches`."""
    every = np.concatenate(vectors)
    result = np.empty_like(every)
    result[sorted(range(len(sequences)), key=lambda i: len(sequences[i]))] = every
    return result


def _tokens_at_once(session: Session, wanted: Wanted, sequences: Sequence[Ids]) -> int:
    """As many as `_BATCH_BYTES` have room for; one text is run to know what a token takes.

    Not counting what is wanted besides: int8 is the same whatever other variants are made.
    """
    outputs, mask = session.run([min(sequences, key=len)])
    bytes_of_all = sum(outputs[name].nbytes for name in wanted.values)
    return min(BATCH_TOKENS, _BATCH_BYTES * mask.size // max(1, bytes_of_all))


def _rows(value: Array) -> Array:
    """A value's rows (T, K), of texts of equal lengths, so that none is padding."""
    return value.reshape(-1, value.shape[-1])


def _peak(value: Array) -> float:
    return float(max(value.max(), -value.min()))


def batches(sequences: Sequence[Ids], tokens: int = BATCH_TOKENS) -> Iterator[list[Ids]]:
    """Groups of equal length (padding would need the model's own pad id), of at most so many tokens, or one text."""
    group: list[Ids] = []
    for sequence in sorted(sequences, key=len):
        if group and (len(sequence) != len(group[0]) or (len(group) + 1) * len(sequence) > tokens):
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group


def _load(model: onnx.ModelProto, outputs: Sequence[str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # several runs at once need no threads that wait for each other
    options.add_session_config_entry("session.x64quantprecision", "1")
    added = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    model.graph.output.extend(added)
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "model.onnx"
            save_graph(model, path, path.with_name("weights.bin"))
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        for _ in added:
            model.graph.output.pop()
