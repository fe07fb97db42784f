"""The peers of `bench.systems` as models that tasks can be measured with, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import artifacts
from bench.process import SystemProcess
from bench.systems import SYSTEMS
from bench.systems.base import Vectors
from embedrt.manifest import Prompts
from embedrt.prompting import choose_prompt, document_prompt, query_prompt

PEERS = {"OpenVINO int8": "openvino-int8", "ONNX Runtime int8": "ort-int8", "CTranslate2 int8": "ctranslate2-int8"}
"""Title -> system."""
_BATCHING = "sorted-32"


@dataclass(frozen=True)
class PeerResult:
    """What of an `EncodeResult` tasks read."""

    embeddings: Vectors


class PeerModel:
    """What tasks ask of an `Embedder`, by another engine; masked mean and L2 norm, as of all models here."""

    similarity_fn_name = "cosine"

    def __init__(self, title: str, model: Path, prompts: Prompts, cpus: Sequence[int]) -> None:
        """Build what the system loads, and load it.

        Raises:
            BuildError: the model cannot be converted to it.
            SystemFailed: it cannot run here.
        """
        self.variant, self._prompts = title, prompts
        spec = SYSTEMS[PEERS[title]]
        artifact = artifacts.ensure(spec.artifact, model, lambda message: print(message, flush=True))
        self._process = SystemProcess(spec.name, cpus)
        try:
            self._process.load(artifact, model, len(cpus))
            self.executor = self._process.describe()
        except BaseException:
            self._process.close()
            raise

    def encode_detailed(self, texts: Sequence[str], *, kind: str = "encode", prompt: str | None = None) -> PeerResult:
        """Vectors of texts behind the bundle's prompt for their kind."""
        choose = {"query": lambda: query_prompt(self._prompts, None, prompt, None),
                  "document": lambda: document_prompt(self._prompts, None, prompt),
                  "encode": lambda: choose_prompt(self._prompts, None, prompt)}  # fmt: skip
        before = choose[kind]()
        return PeerResult(self._process.encode_texts([before + text for text in texts], _BATCHING))

    def identify(self, **_options: Any) -> str:
        """Its name; no vectors of its are kept."""
        return self.variant

    def __enter__(self) -> PeerModel:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.close()
