"""Names that sentence-transformers' users and evaluators look for, and where those are that we have otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from embedrt.facts import Facts

_SETTINGS = {
    "max_seq_length": "with_options(max_tokens=...)",
    "max_tokens": "with_options(max_tokens=...)",
    "truncate_dim": "with_options(truncate_dim=...)",
    "prompts": "with_options(prompts=...)",
    "default_prompt_name": "with_options(default_prompt_name=...)",
    "device": "Embedder(..., device=...)",
    "variant": "Embedder(..., variant=...)",
    "executor": "Embedder(..., executor=...)",
    "num_threads": "Embedder(..., num_threads=...)",
    "pooling": "Embedder(..., pooling=...)",
    "similarity_fn_name": "embedrt.util, which has every similarity",
    "normalize_embeddings": "encode(..., normalize_embeddings=True)",
    "batch_size": "encode(..., batch_size=...)",
    "precision": "encode(..., precision=...)",
    "tokenizer": "'embedrt export', with another model",
}
"""Attributes that somebody may want to set -> what does it here."""

_ELSEWHERE = {
    "encode_multi_process": "encode, or encode_stream: one process uses every core",
    "start_multi_process_pool": "encode, or encode_stream: one process uses every core",
    "stop_multi_process_pool": "encode, or encode_stream: one process uses every core",
    "truncate_embeddings": "with_options(truncate_dim=...)",
    "truncate_sentence_embeddings": "with_options(truncate_dim=...)",
    "to": "Embedder(..., device=...)",
    "cuda": "Embedder(..., device='cuda')",
    "cpu": "Embedder(..., device='cpu')",
    "eval": "so always, and nothing need be called",
    "half": "Embedder(..., variant='fp16')",
    "float": "Embedder(..., variant='fp32')",
    "bfloat16": "Embedder(..., variant='bf16')",
    "compile": "so from the start, and nothing need be called",
    "embed": "encode, or encode_stream for an iterator of any length",
    "embed_documents": "encode_document, or embedrt.integrations.langchain",
    "embed_query": "encode_query, or embedrt.integrations.langchain",
    "query_embed": "encode_query",
    "passage_embed": "encode_document",
    "encode_queries": "encode_query, which takes several as well",
    "encode_corpus": "encode_document",
    "encode_image": "encode, or encode_pictures",
    "encode_text": "encode",
    "predict": "embedrt.Reranker(...).predict, of a bundle that scores pairs",
    "rank": "embedrt.Reranker(...).rank, of a bundle that scores pairs",
    "push_to_hub": "the command 'embedrt push'",
    "fit": "no training: a trained model is exported again",
    "train": "no training: a trained model is exported again",
    "save": "the bundle's directory, which can be copied as it is",
    "save_pretrained": "the bundle's directory, which can be copied as it is",
}
"""Names of sentence-transformers that are not here -> ours, for the error of who looks for one."""


class _NoModelCard:
    """Takes what evaluators report to a model's card, of which a bundle has none."""

    def set_evaluation_metrics(self, *given: Any, **named: Any) -> None:
        """Nothing is kept; the evaluator returns its metrics as well."""


class SentenceTransformersNames(Facts):
    """What is read under sentence-transformers' names. Nothing is set: embedders do not change after they are made."""

    _extensible: ClassVar[bool] = False  # whether attributes may be added: only to a user's subclass

    @property
    def max_seq_length(self) -> int:
        """`max_tokens`."""
        return self.max_tokens

    def get_max_seq_length(self) -> int:
        """`max_tokens`."""
        return self.max_tokens

    def get_embedding_dimension(self) -> int:
        """`dimension`."""
        return self.dimension

    def get_sentence_embedding_dimension(self) -> int:
        """`dimension`."""
        return self.dimension

    @property
    def truncate_dim(self) -> int | None:
        """What calls take that give none."""
        return self._encoding.settings.truncate_dim

    @property
    def prompts(self) -> Mapping[str, str]:
        """Name -> text put before an input; a copy."""
        return dict(self._encoding.settings.prompts.texts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that `encode` takes where it is given none."""
        return self._encoding.settings.prompts.default_name

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: "cosine", "dot", "euclidean" or "manhattan"."""
        return self.bundle.manifest.similarity

    @property
    def model_card_data(self) -> _NoModelCard:
        """Where evaluators leave their metrics; nothing is kept."""
        return _NoModelCard()

    if not TYPE_CHECKING:  # type checkers would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            """Only reached for names that do not exist."""
            hint = f"; here it is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}", name=name, obj=self)

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse what would change nothing. Private names, methods (for mocks), a subclass's additions are free."""
            found = getattr(type(self), name, None)
            fixed = name in _SETTINGS or (isinstance(found, property) and found.fset is None)
            if not fixed and (self._extensible or found is not None or name.startswith("_")):
                object.__setattr__(self, name, value)
                return
            hint = f"; what sets it is {_SETTINGS[name]}" if name in _SETTINGS else ""
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot be set: an embedder does not change after it is made{hint}",
                name=name,
                obj=self,
            )
