"""What an embedder, or another class that runs a bundle, says of itself. Read only."""

from __future__ import annotations

from pathlib import Path

from embedrt.batching import BatchLimits
from embedrt.bundle import Bundle
from embedrt.closing import Closing
from embedrt.encoding import Encoding
from embedrt.executors import Executor
from embedrt.loading import LoadedModel
from embedrt.settings import Settings
from embedrt.tokenization import TextTokenizer


class ModelFacts(Closing):
    """What was loaded."""

    @property
    def bundle(self) -> Bundle:
        """What was opened."""
        return self._model.bundle

    @property
    def variant(self) -> str:
        """The variant that runs; never "auto"."""
        return self._model.variant

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"."""
        return self._model.device

    @property
    def num_threads(self) -> int:
        """Threads of the executor."""
        return self._model.num_threads

    @property
    def executor(self) -> str:
        """What runs it: "native" or "onnxruntime"; `executor_reason` says why."""
        return self._model.chosen.name

    @property
    def executor_reason(self) -> str:
        """Why it is this executor."""
        return self._model.chosen.reason

    @property
    def executor_description(self) -> str:
        """What runs the encoder, where, and on how many threads."""
        return self._executor.description

    @property
    def packed_files(self) -> tuple[Path, ...]:
        """Files of packed weights that the executor has mapped; see `packed_cache`."""
        pictures = self._model.pictures
        return self._model.chosen.packed_files + (() if pictures is None else pictures.chosen.packed_files)

    @property
    def _executor(self) -> Executor:
        return self._model.executor


class Facts(ModelFacts):
    """What was loaded to embed, and how it is set."""

    _encoding: Encoding

    @property
    def _model(self) -> LoadedModel:
        return self._encoding.model

    @property
    def _settings(self) -> Settings:
        return self._encoding.settings

    @property
    def takes_pictures(self) -> bool:
        """Whether `encode` takes pictures as well."""
        return self._encoding.pictures is not None

    @property
    def picture_executor_description(self) -> str | None:
        """What runs the encoder of pictures; None where there is none."""
        pictures = self._model.pictures
        return None if pictures is None else pictures.executor.description

    @property
    def pooling(self) -> tuple[str, ...]:
        """Names of the poolings that are joined, in their order."""
        return self._encoding.dense.pooling

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have, prompt and special tokens included; longer ones are cut."""
        return self._encoding.settings.max_tokens

    @property
    def dimension(self) -> int:
        """Length of the vectors that `encode` gives without options."""
        return self._encoding.dimension

    @property
    def tokenizer(self) -> TextTokenizer:
        """The bundle's tokenizer."""
        return self._encoding.runner.tokenizer

    @property
    def batch_limits(self) -> BatchLimits:
        """What one run of the executor may hold."""
        return self._encoding.runner.limits
