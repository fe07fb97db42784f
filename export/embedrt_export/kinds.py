"""What a model directory is, told from its small files: what is no text encoder is refused as what it is, before its
weights are looked for or downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from embedrt.errors import UnsupportedModelError
from embedrt_export.families import find_family, own_code_of

MODULES = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
"""Class names of modules.json, at old and new module paths, that a bundle can say."""

SCORE_MODULES = ("Transformer", "LogitScore")
SPARSE_MODULES = ("Transformer", "MLMTransformer", "SpladePooling", "Router", "SparseStaticEmbedding", "IDF")
TOKEN_MODULES = ("Transformer", "Dense", "MultiVectorMask", "Normalize", "Dropout")
"""The same of models that score pairs, with sparse vectors, and with vectors of tokens."""

STATIC_MODULES = ("StaticEmbedding", "Dense", "Normalize", "LayerNorm", "Dropout")
"""The same of static embeddings, of which the first comes first."""

Kind = Literal["vectors", "scores", "sparse", "tokens"]
_MODULES: dict[Kind, tuple[str, ...]] = {
    "vectors": MODULES,
    "scores": SCORE_MODULES,
    "sparse": SPARSE_MODULES,
    "tokens": TOKEN_MODULES,
}
_TOLD_BY_MODULE: dict[str, Kind] = {
    "MLMTransformer": "sparse",
    "SpladePooling": "sparse",
    "SparseStaticEmbedding": "sparse",
    "IDF": "sparse",
    "MultiVectorMask": "tokens",
    "LogitScore": "scores",
}
_TOLD_BY_CLASS: dict[str, Kind] = {
    "SparseEncoder": "sparse",
    "MultiVectorEncoder": "tokens",
    "ColBERT": "tokens",
    "CrossEncoder": "scores",
}
_PACKAGES = ("sentence_transformers", "pylate")

_OTHER_MODULES = {
    "StaticEmbedding": "static embeddings, a table of token vectors without an encoder",
    "Router": "a router, which sends queries and documents through different models",
    "Asym": "a router, which sends queries and documents through different models",
    "BoW": "a bag of words",
    "WordEmbeddings": "word embeddings, a table of word vectors without an encoder",
    "WordWeights": "weights by word",
    "CNN": "a convolutional network over word vectors",
    "LSTM": "an LSTM over word vectors",
    "WeightedLayerPooling": "a weighted sum over an encoder's layers",
    "CLIPModel": "a model of pictures and texts",
    "SparseAutoEncoder": "a sparse encoder",
    "CSR": "a sparse encoder",
}
"""Class of modules.json -> what a model with it is."""

_OTHER_TASKS = {
    "fill-mask": "a masked language model without a SpladePooling behind it",
    "any-to-any": "a generator of texts and pictures",
}
"""transformer_task of sentence_bert_config.json -> what it is."""

_OTHER_HEADS = {
    "ForTokenClassification": "a tagger of tokens",
    "ForQuestionAnswering": "a reader that marks answers",
    "ForMultipleChoice": "a model of multiple-choice questions",
    "ForNextSentencePrediction": "a classifier of sentence pairs",
}
"""End of a class in config.json's architectures -> what a plain transformers directory with it is.

A head of pre-training (ForMaskedLM, ForPreTraining) is no such task: encoders are commonly published with it."""

_OTHER_TYPES = dict.fromkeys(
    ("clip_text_model", "chinese_clip", "siglip2", "align", "blip", "altclip"),
    _OTHER_MODULES["CLIPModel"],
)
"""model_type of config.json -> what it is."""


@dataclass(frozen=True)
class SmallFiles:
    """What the small JSON files of a model directory say; empty where there is no such file."""

    modules: Sequence[Mapping[str, Any]] | None = None  # modules.json; None in a plain transformers directory
    config: Mapping[str, Any] = field(default_factory=dict)  # config.json of the first module
    pipeline: Mapping[str, Any] = field(default_factory=dict)  # config_sentence_transformers.json
    transformer: Mapping[str, Any] = field(default_factory=dict)  # sentence_bert_config.json of the first module
    tokenizer: Mapping[str, Any] = field(default_factory=dict)  # tokenizer_config.json of the first module
    adapter: Mapping[str, Any] | None = None  # adapter_config.json of the first module
    name: str = ""  # hub id, or the directory's
    router: Mapping[str, Any] = field(default_factory=dict)  # router_config.json

    @property
    def module_types(self) -> list[str]:
        """Classes of all modules, those behind a router among them."""
        return [
            *(str(module["type"]) for module in self.modules or ()),
            *map(str, self.router.get("types", {}).values()),
        ]


def check_kind(name: str, files: SmallFiles, *, trust_remote_code: bool = False) -> None:
    """Refuse what is no text encoder with a pooling that a bundle can say, and code that nobody said may be run.

    Raises:
        UnsupportedModelError: the message says what the model is.
    """
    output = output_of(files)
    kind = other_kind(files)
    if kind is not None:
        raise UnsupportedModelError(f"{name} is {kind}; embedrt exports encoders of texts")
    for module in files.module_types:
        package, _, kind = module.rpartition(".")
        if not package.startswith(_PACKAGES) or kind not in _MODULES[output]:
            raise UnsupportedModelError(
                f"{name}: modules.json names {module}, which a bundle cannot express; "
                f"known are {', '.join(_MODULES[output])}"
            )
    if output == "sparse" and not any(_class_of(module) == "SpladePooling" for module in files.module_types):
        raise UnsupportedModelError(
            f"{name} is a table of token weights without an encoder; embedrt runs such a table for queries beside an "
            "encoder of documents (a Router with both)"
        )
    code = own_code_of(files.config)
    if code is not None and not trust_remote_code and find_family(files.config) is None:
        raise untrusted_code_error(name, code)


def is_static(files: SmallFiles) -> bool:
    """Whether the model is a table of token vectors: sentence-transformers' StaticEmbedding, or model2vec's."""
    if files.modules:
        return _class_of(str(files.modules[0]["type"])) == STATIC_MODULES[0]
    classes = files.config.get("architectures") or ()
    return files.config.get("model_type") == "model2vec" or "StaticModel" in classes


def check_static(name: str, files: SmallFiles) -> None:
    """Refuse modules behind static embeddings that a bundle cannot say.

    Raises:
        UnsupportedModelError: the message names the first.
    """
    for place, module in enumerate(files.module_types):
        package, _, kind = module.rpartition(".")
        known = STATIC_MODULES[:1] if place == 0 else STATIC_MODULES[1:]
        if not package.startswith("sentence_transformers") or kind not in known:
            raise UnsupportedModelError(
                f"{name}: modules.json names {module}, which a bundle of static embeddings cannot express; known are "
                f"{', '.join(known)}"
            )


def check_towers(name: str, files: SmallFiles) -> None:
    """Refuse modules that a bundle of texts and pictures cannot say.

    Raises:
        UnsupportedModelError: the message names the first.
    """
    for place, module in enumerate(files.modules or ()):
        package, _, kind = str(module["type"]).rpartition(".")
        known = ("CLIPModel", "Transformer") if place == 0 else ("Normalize",)
        if not package.startswith("sentence_transformers") or kind not in known:
            raise UnsupportedModelError(
                f"{name}: modules.json names {module['type']}, which a bundle of texts and pictures cannot express; "
                f"known are {' or '.join(known)}"
            )
    methods = files.transformer.get("modality_config")
    if isinstance(methods, Mapping):
        for part, method in (("text", "get_text_features"), ("image", "get_image_features")):
            said = methods.get(part)
            if not isinstance(said, Mapping) or said.get("method") != method:
                raise UnsupportedModelError(
                    f"{name}: its {part}s are embedded by {said!r}, which is not supported; only {method}"
                )
    code = own_code_of(files.config)
    if code is not None:
        raise UnsupportedModelError(
            f"{name} needs code of its own ({code}), and of models of texts and pictures only those of transformers' "
            "own classes can be exported"
        )


def output_of(files: SmallFiles) -> Kind:
    """What a model gives: one vector of a text, scores of a pair of texts, a weight per word, or a vector per token.

    A pipeline with a pooling gives vectors, whatever task its encoder was trained for.
    """
    classes = [str(one) for one in files.config.get("architectures") or ()]
    if files.modules is None:
        ends = ("ForSequenceClassification", *(("ForCausalLM",) if "reranker" in _names(files) else ()))
        if any(one.endswith(ends) for one in classes):
            return "scores"
        return "tokens" if "HF_ColBERT" in classes else "vectors"
    told = _TOLD_BY_CLASS.get(str(files.pipeline.get("model_type")))
    modules = files.module_types
    told = told or next((kind for kind in map(_TOLD_BY_MODULE.get, map(_class_of, modules)) if kind is not None), None)
    if told is None and files.transformer.get("transformer_task") in ("sequence-classification", "text-generation"):
        told = "scores"
    if told is None and any(module.startswith("pylate") for module in modules):
        told = "tokens"
    return told or "vectors"


def _names(files: SmallFiles) -> str:
    return f"{files.name} {files.config.get('_name_or_path', '')}".casefold()


def _class_of(module: str) -> str:
    return module.rpartition(".")[2]


def check_dense(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a Dense module's config.json whose activation is not torch's; sentence-transformers would take Tanh.

    Raises:
        UnsupportedModelError: it is code of the model's own.
    """
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not activation.startswith("torch."):
        raise UnsupportedModelError(
            f"{name} needs code of its own ({activation}), which embedrt never runs behind the pooling; of activations "
            "a bundle can say torch's only"
        )


def untrusted_code_error(name: str, code: str | None) -> UnsupportedModelError:
    """For a model that only its own code can compute; the message says whose code would run, as auto_map names it."""
    if code is None:
        return UnsupportedModelError(f"{name} needs code of its own, which is run with --trust-remote-code only")
    repository, _, place = code.rpartition("--")
    module = place.partition(".")[0]
    where = f"{module}.py of {repository} on the hub" if repository else f"{module}.py beside its weights"
    return UnsupportedModelError(
        f"{name} needs code of its own ({code}): {where} would be run, with all rights of this user. Read it, and give "
        "--trust-remote-code if you trust it"
    )


def other_kind(files: SmallFiles) -> str | None:
    """What a model is, if it is known to be something else than a text encoder."""
    modules = [module for module in files.module_types if _class_of(module) not in _MODULES[output_of(files)]]
    return (
        _first(_of_module(module) for module in modules)
        or (_OTHER_TASKS.get(str(files.transformer.get("transformer_task"))) if output_of(files) != "sparse" else None)
        or _OTHER_TYPES.get(str(files.config.get("model_type")))
        # A pipeline says how its encoder is pooled, whatever task the encoder was trained for.
        or (_of_architectures(files.config) if files.modules is None else None)
    )


def _of_module(module: str) -> str | None:
    kind = _OTHER_MODULES.get(_class_of(module))
    return None if kind is None else f"{kind} (modules.json names {module})"


def _of_architectures(config: Mapping[str, Any]) -> str | None:
    for architecture in config.get("architectures") or ():
        for end, kind in _OTHER_HEADS.items():
            if str(architecture).endswith(end):
                return f"{kind} ({architecture})"
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((kind for kind in found if kind is not None), None)
