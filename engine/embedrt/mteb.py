"""mteb 2's model, out of a bundle: `mteb.evaluate(MtebModel("e5"), mteb.get_tasks(["STSBenchmark"]))`.

mteb (https://github.com/embeddings-benchmark/mteb) is imported when a model is made, not before, and is no dependency
of embedrt. What is implemented is its `EncoderProtocol` (mteb/models/models_protocols.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.errors import DependencyError, OptionError
from embedrt.options import Kind
from embedrt.tensors import as_tensor
from embedrt.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable


class MtebModel:
    """A bundle as mteb wants a model.

    Queries and documents get the bundle's prompts for them. Where its query prompt is a template (E5-instruct's
    "Instruct: {task}\\nQuery: "), it is filled with mteb's instruction for the task, and stands before texts that are
    compared with their like, too. Otherwise those get `alike_prompt`.

    Results are kept under the model's own name, with variant and identity in `experiment_kwargs`, so that those of int8
    and of fp32 stand beside each other and no cached result of another bundle is taken for this one's.

    Args:
        bundle: as `Embedder` takes it, or an `Embedder`.
        instructions: name or type of a task -> instruction, over mteb's own.
        alike_prompt: before texts of tasks without queries and documents, of models whose query prompt is no template;
            E5's card wants "query: ". None: what `encode` puts there.
        embedder: arguments of `Embedder`, such as variant="int8".

    Raises:
        DependencyError: mteb 2 is not installed.
        OptionError: an argument does not fit.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | Embedder,
        *,
        instructions: Mapping[str, str] | None = None,
        alike_prompt: str | None = None,
        **embedder: Any,
    ) -> None:
        _require_mteb()
        if isinstance(bundle, Embedder) and embedder:
            raise OptionError(f"{', '.join(embedder)}: the embedder is made already; with_options makes another")
        self.model = bundle if isinstance(bundle, Embedder) else Embedder(bundle, **embedder)
        self._instructions = dict(instructions or {})
        self._alike = {} if alike_prompt is None else {"prompt": alike_prompt}
        self._takes_task = "{task}" in self.model.prompts.get("query", "")
        self._meta = _meta_of(self.model)

    @property
    def mteb_model_meta(self) -> Any:
        """mteb's ModelMeta: what its registry knows of the model, and which variant of which bundle this is."""
        return self._meta

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> NDArray[np.float32]:
        """Vectors (N, D) of a data loader's texts.

        Args:
            inputs: batches with their texts under "text".
            task_metadata: of the task; its prompt fills a template.
            hf_split, hf_subset: not needed.
            prompt_type: PromptType.query, PromptType.document, or None for texts that are compared with their like.
            options: of `Embedder.encode`, e.g. batch_size and show_progress_bar.
        """
        del hf_split, hf_subset
        texts = [text for batch in inputs for text in batch["text"]]
        role = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        kind, prompt = self._role(task_metadata, role)
        found: NDArray[np.float32] = self.model.encode_detailed(texts, kind=kind, **prompt, **options).embeddings
        return found

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Similarities (N, M) by the model's own function, as a torch tensor."""
        return as_tensor(np.asarray(self.model.similarity(embeddings1, embeddings2)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Similarities (N,) of rows with the same rows, as a torch tensor."""
        return as_tensor(np.asarray(self.model.similarity_pairwise(embeddings1, embeddings2)))

    def _role(self, metadata: Any, role: str | None) -> tuple[Kind, dict[str, Any]]:
        """How `encode_detailed` is to take texts of this role."""
        if role == "document":
            return "document", {}
        if self._takes_task:
            return "query", {"task": self._instruction(metadata, role)}
        return ("query", {}) if role == "query" else ("encode", self._alike)

    def _instruction(self, metadata: Any, role: str | None) -> str:
        """The caller's, else the task's own for the role, else that of its kind of task."""
        for key in (metadata.name, metadata.type):
            if key in self._instructions:
                return self._instructions[key]
        prompt = metadata.prompt
        if isinstance(prompt, Mapping):
            prompt = prompt.get(role or "query")
        if prompt:
            return str(prompt)
        from mteb.abstasks.abstask import get_abstask_prompt

        return str(get_abstask_prompt(metadata.name))


def _require_mteb() -> None:
    try:
        import mteb
    except ImportError as exc:
        raise DependencyError(f"mteb 2 is needed: pip install 'mteb>=2' ({exc})") from exc
    if not hasattr(mteb, "evaluate"):
        raise DependencyError("mteb 2 is needed, this one is older: pip install 'mteb>=2'")


def _meta_of(model: Embedder) -> Any:
    """What mteb's registry knows of the bundle's model, and what is this bundle's; nothing is fetched."""
    from mteb.models import ModelMeta
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ScoringFunction

    manifest = model.bundle.manifest
    source = manifest.source
    own = {
        "loader": None,
        "loader_kwargs": {},
        "name": source.model,
        "revision": source.revision or source.sha256,
        "max_tokens": model.max_tokens,
        "embed_dim": model.dimension,
        "similarity_fn_name": ScoringFunction(model.similarity_fn_name),
        "experiment_kwargs": {"embedrt": __version__, "variant": model.variant, "identity": model.identity},
    }
    known = MODEL_REGISTRY.get(source.model) or ModelMeta.create_empty()
    return known.model_copy(update=own)
