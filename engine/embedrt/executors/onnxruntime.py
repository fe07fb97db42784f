"""The ONNX Runtime executor: any graph, any execution provider. Padding is its private matter."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import DependencyError, ExecutorError
from embedrt.executors import Batch, PatchBatch, TokenBatch, Want
from embedrt.executors.devices import PROVIDERS, choose_device
from embedrt.pooling import pool

_PIXELS = "pixels"  # input of pictures' graphs
_WHEELS = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Padded:
    """A batch as the graph takes it."""

    ids: NDArray[np.int64]  # (B, S)
    mask: NDArray[np.int64]  # (B, S), 1 where there is a token that is seen
    present: NDArray[np.bool_] | None  # (B, S), where there is a token; None: everywhere


def pad(batch: TokenBatch, pad_id: int) -> Padded:
    """Lay the texts of a ragged batch out as rows of equal length, padded on the right."""
    lengths = np.diff(batch.offsets)
    size = (len(lengths), int(lengths.max()))
    places = np.arange(size[1])
    seen = None if batch.keys is None else (places < batch.keys[:, None]).astype(np.int64)
    if size[0] * size[1] == len(batch.token_ids):
        mask = np.ones(size, np.int64) if seen is None else seen
        return Padded(batch.token_ids.reshape(size).astype(np.int64), mask, None)
    present = places < lengths[:, None]
    ids = np.full(size, pad_id, dtype=np.int64)
    ids[present] = batch.token_ids
    return Padded(ids, present.astype(np.int64) if seen is None else seen, present)


def token_types(batch: TokenBatch, padded: Padded) -> NDArray[np.int64]:
    """(B, S) of a padded batch; padding has type 0."""
    if batch.seconds is None:
        return np.zeros_like(padded.ids)
    return (np.arange(padded.ids.shape[1]) >= batch.seconds[:, None]).astype(np.int64) * padded.mask


def unpad(hidden: NDArray[np.float32], padded: Padded) -> NDArray[np.float32]:
    """(B, S, H) back to ragged rows (T, H); a view when nothing was padded."""
    if padded.present is None:
        return hidden.reshape(-1, hidden.shape[-1])
    return np.asarray(hidden[padded.present])


class OnnxRuntimeExecutor:
    """Runs one variant of a bundle on stock ONNX Runtime."""

    def __init__(self, bundle: Bundle, variant: str, *, device: str, num_threads: int) -> None:
        """Load the variant's graph.

        Raises:
            DependencyError: the device needs another build of onnxruntime.
            ExecutorError: ONNX Runtime refuses the graph, or the device does not work.
        """
        check_wheels()
        entry = bundle.variant(variant)
        self._pad_id = bundle.manifest.architecture.pad_token_id
        self._inputs = entry.inputs
        self._output = entry.output
        self._num_threads = num_threads
        self.device = choose_device(device)
        graph = entry.graph_cuda if self.device == "cuda" and entry.graph_cuda else entry.graph
        self._session: Any = _make_session(bundle.path(graph), self.device, num_threads)
        active = self._session.get_providers()[0]
        if active != PROVIDERS[self.device]:
            if device == "cuda":
                raise ExecutorError(
                    "onnxruntime has its CUDA provider but could not start it: check 'nvidia-smi', and that the "
                    "CUDA and cuDNN libraries that this onnxruntime-gpu wants are installed "
                    "(pip install 'onnxruntime-gpu[cuda,cudnn]'), or use device='cpu'"
                )
            self.device = "cpu"
            self._session = _make_session(bundle.path(entry.graph), "cpu", num_threads)

    @property
    def pads(self) -> bool:
        """True: the graph takes texts of one length."""
        return True

    @property
    def description(self) -> str:
        """What runs where, e.g. "onnxruntime 1.32.0, CPUExecutionProvider, 2 threads"."""
        threads = f"{self._num_threads} thread{'s' if self._num_threads > 1 else ''}"
        return f"onnxruntime {onnxruntime.__version__}, {PROVIDERS[self.device]}, {threads}"

    def held(self) -> OnnxRuntimeExecutor:
        """The same session, which the close of this one does not end."""
        held = object.__new__(type(self))
        vars(held).update(vars(self))  # as copy.copy, in a tenth of its time
        held._opened()
        return held

    def run(self, batch: Batch, *, want: Want = "all") -> NDArray[np.float32]:
        """Hidden states (T, H), or a row for each text or picture (B, H)."""
        session = self._opened()
        if isinstance(batch, PatchBatch):
            return self._run_pictures(session, batch, want)
        padded = pad(batch, self._pad_id)
        arrays = {"input_ids": padded.ids, "attention_mask": padded.mask}
        if "token_type_ids" in self._inputs:
            arrays["token_type_ids"] = token_types(batch, padded)
        elif batch.seconds is not None:
            raise ExecutorError("the model has no second token type")
        try:
            hidden = self._run(session, arrays)
        except Exception as exc:  # onnxruntime's exceptions share no base class but Exception
            rows, width = padded.ids.shape
            raise ExecutorError(f"ONNX Runtime failed on {rows} texts of {width} tokens: {exc}") from exc
        if want == "first":
            return hidden[:, 0].copy()
        if want == "last":
            return np.asarray(hidden[np.arange(len(hidden)), np.diff(batch.offsets) - 1])
        found = unpad(hidden, padded)
        return pool(found, batch.offsets, ("mean",)) if want == "mean" else found

    def _run_pictures(self, session: Any, batch: PatchBatch, want: Want) -> NDArray[np.float32]:
        try:
            hidden = self._run(session, {_PIXELS: batch.pixels})
        except Exception as exc:  # onnxruntime's exceptions share no base class but Exception
            raise ExecutorError(f"ONNX Runtime failed on pictures {batch.pixels.shape}: {exc}") from exc
        if want == "all":
            return hidden.reshape(-1, hidden.shape[-1])
        if want == "mean":
            offsets = np.arange(len(hidden) + 1) * hidden.shape[1]
            return pool(hidden.reshape(-1, hidden.shape[-1]), offsets, ("mean",))
        return hidden[:, 0 if want == "first" else -1].copy()

    def close(self) -> None:
        """Let go of the session: it is freed at once, or by the last call that runs."""
        self._session = None

    def _opened(self) -> Any:
        session = self._session
        if session is None:
            raise ExecutorError("the embedder was closed; make a new one")
        return session

    def _run(self, session: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self._run_cuda(session, arrays) if self.device == "cuda" else self._run_cpu(session, arrays)

    def _run_cpu(self, session: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        out: NDArray[np.float32] = session.run([self._output], arrays)[0]
        return out

    def _run_cuda(self, session: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """With IO binding: inputs are copied once, and the output comes back in one copy."""
        binding = session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self._output, "cpu")
        session.run_with_iobinding(binding)
        out: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return out


def check_wheels() -> None:
    """Refuse to run when both onnxruntime wheels are installed: they overwrite each other's files.

    Raises:
        DependencyError: with the commands that repair it.
    """
    found = []
    for name in _WHEELS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        raise DependencyError(
            f"{' and '.join(found)} are both installed and overwrite each other's files; keep one: "
            "'pip uninstall -y onnxruntime onnxruntime-gpu', then 'pip install onnxruntime' for CPUs or "
            "'pip install onnxruntime-gpu' for GPUs"
        )


def _make_session(path: Path, device: str, num_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Lengths differ from run to run: a pattern per shape would only grow.
    options.enable_mem_pattern = False
    # Threads spin while a run lasts, and sleep as soon as it ends: an idle embedder takes no CPU.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Without VNNI, AVX2's u8 x s8 sums saturate at 16 bits; this makes ONNX Runtime take the exact, slower path there.
    options.add_session_config_entry("session.x64quantprecision", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"}))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as exc:
        raise ExecutorError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {exc}") from exc
