"""What the command line's encode options mean to an Embedder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EncodeRequest:
    """Which prompt, and which form of vectors."""

    kind: str = "encode"  # encode | query | document
    task: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    truncate_dim: int | None = None
    precision: str = "float32"
    normalize_embeddings: bool = False
    on_overflow: str = "truncate"
    outputs: tuple[str, ...] | None = None  # of `embedrt.Model`; None: one dense vector
    max_active_dims: int | None = None

    def options(self) -> dict[str, Any]:
        """Keywords of Embedder.encode: those that are set."""
        given = {"prompt": self.prompt, "prompt_name": self.prompt_name, "truncate_dim": self.truncate_dim}
        return {
            **{name: value for name, value in given.items() if value is not None},
            "precision": self.precision,
            "normalize_embeddings": self.normalize_embeddings,
            "on_overflow": self.on_overflow,
        }

    def of_outputs(self) -> dict[str, Any]:
        """Keywords of Model.encode_stream and Model.resolve."""
        given = {"prompt": self.prompt, "prompt_name": self.prompt_name, "max_active_dims": self.max_active_dims}
        chosen = {name: value for name, value in given.items() if value is not None}
        return {"outputs": self.outputs, "kind": self.kind, "on_overflow": self.on_overflow, **chosen}

    def keywords(self) -> dict[str, Any]:
        """Keywords of Embedder.encode_stream and Embedder.identify."""
        return {"kind": self.kind, "task": self.task, **self.options()}

    def as_dict(self) -> dict[str, Any]:
        """For state files and metadata."""
        return asdict(self)
