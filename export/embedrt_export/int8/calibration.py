"""What the inputs of each product look like on calibration texts, seen by running the fp32 graph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
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
from embedrt_export.weights import save_graph

Array = NDArray[np.float32]
Ids = Sequence[int] | Array
"""A text's token ids, or a picture's patches (count, size)."""
Outputs = tuple[dict[str, Array], NDArray[np.bool_]]
"""Every output (B, S, K), by name, and the mask (B, S) of real tokens."""

BATCH_TOKENS = 1024  # rows of every product's input that are in memory at once

POOLED_TOKENS: dict[tuple[str, ...], int] = {("cls",): 0, ("lasttoken",): -1}
"""Pooling modes of a bundle -> the token whose state is the vector; the mean stands for all others."""
SAMPLE_ROWS = 16  # kept of every batch
MAX_SAMPLE = 512  # rows that folds are chosen and products measured on


@dataclass
class InputStats:
    """Over the rows seen of one value (T, K)."""

    count: int
    low: Array  # (K,)
    high: Array  # (K,)
    total: NDArray[np.float64]  # (K,), sum
    gram: torch.Tensor | None  # (K, K) float32, sum of outer products
    samples: list[Array]  # a few rows of every batch
    pending: list[Array] = field(default_factory=list)  # rows that are not in the gram yet

    def flush(self) -> None:
        """Add the pending rows to the gram; few large steps are far faster than many small ones."""
        if self.gram is not None and self.pending:
            x = torch.from_numpy(np.concatenate(self.pending))
            self.gram.addmm_(x.T, x)
        self.pending.clear()

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
        samples = [self.sample[:, kept]]
        return InputStats(self.count, self.low[kept], self.high[kept], self.total[kept], gram, samples)

    def covariance(self, scale: Array) -> Array:
        """Covariance (K, K) of x / scale."""
        assert self.gram is not None
        mean = torch.from_numpy(self.mean)
        inverse = torch.from_numpy((1 / scale).astype(np.float32))
        out: Array = ((self.gram / self.count - torch.outer(mean, mean)) * torch.outer(inverse, inverse)).numpy()
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


def collect(model: onnx.ModelProto, values: dict[str, bool], sequences: Sequence[Ids]) -> dict[str, InputStats]:
    """Statistics of the named values; the gram matrix is kept for those marked True."""
    session = Session(model, list(values))
    stats: dict[str, InputStats] = {}
    for batch, (outputs, mask) in session.run_all(batches(sequences)):
        for name, with_gram in values.items():
            found = outputs[name]
            if np.ndim(batch[0]) == 2:  # of pictures, whose patches are fewer than their rows
                rows = found.reshape(-1, found.shape[-1])
            else:
                rows = found.reshape(mask.size, -1)[mask.reshape(-1)]
            _update(stats, name, rows, with_gram)
    for seen in stats.values():
        seen.flush()
    return stats


def pooled(session: Session, sequences: Sequence[Ids], *, token: int | None = None) -> Array:
    """The mean of each text's states, or that of its `token`, 0 or -1: (N, H), not normalized, in order."""
    vectors: list[Array] = []
    numbered = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for _batch, (outputs, _mask) in session.run_all(batches([sequences[i] for i in numbered])):
        hidden = next(iter(outputs.values()))  # of equal lengths, so nothing is padding
        vectors.append(hidden.mean(axis=1) if token is None else hidden[:, token])
    result = np.empty((len(sequences), vectors[0].shape[1]), np.float32)
    result[numbered] = np.concatenate(vectors)
    return result


def batches(sequences: Sequence[Ids]) -> Iterator[list[Ids]]:
    """Groups of equal length (padding would need the model's own pad id), of at most `BATCH_TOKENS` tokens."""
    group: list[Ids] = []
    for sequence in sorted(sequences, key=len):
        if group and (len(sequence) != len(group[0]) or (len(group) + 1) * len(sequence) > BATCH_TOKENS):
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group


def _update(stats: dict[str, InputStats], name: str, rows: Array, with_gram: bool) -> None:
    seen = stats.get(name)
    if seen is None:
        width = rows.shape[1]
        gram = torch.zeros(width, width) if with_gram else None
        seen = InputStats(0, rows[0].copy(), rows[0].copy(), np.zeros(width), gram, [])
        stats[name] = seen
    seen.count += len(rows)
    seen.samples.append(rows[:: max(1, len(rows) // SAMPLE_ROWS)][:SAMPLE_ROWS].copy())
    np.minimum(seen.low, rows.min(axis=0), out=seen.low)
    np.maximum(seen.high, rows.max(axis=0), out=seen.high)
    seen.total += rows.sum(axis=0, dtype=np.float64)
    if seen.gram is not None:
        seen.pending.append(rows)
        if sum(map(len, seen.pending)) >= BATCH_TOKENS:
            seen.flush()


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
