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
"""The same of models that score pairs."""

Kind = Literal["vectors", "scores"]
_MODULES: dict[Kind, tuple[str, ...]] = {"vectors": MODULES, "scores": SCORE_MODULES}

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
    "MLMTransformer": "a sparse encoder, whose vectors are as wide as its vocabulary",
    "SpladePooling": "a sparse encoder, whose vectors are as wide as its vocabulary",
    "SparseAutoEncoder": "a sparse encoder",
    "CSR": "a sparse encoder",
    "SparseStaticEmbedding": "a sparse encoder, a table of token weights",
    "IDF": "a sparse encoder, a table of token weights",
    "MultiVectorMask": "a multi-vector model, which keeps a vector per token",
}
"""Class of modules.json -> what a model with it is."""

_OTHER_PACKAGES = {"pylate": "a multi-vector model (ColBERT), which keeps a vector per token"}

_OTHER_CLASSES = {
    "SparseEncoder": "a sparse encoder, whose vectors are as wide as its vocabulary",
    "MultiVectorEncoder": "a multi-vector model, which keeps a vector per token",
}
"""model_type of config_sentence_transformers.json -> what it is."""

_OTHER_TASKS = {
    "fill-mask": _OTHER_CLASSES["SparseEncoder"],
    "any-to-any": "a generator of texts and pictures",
}
"""transformer_task of sentence_bert_config.json -> what it is."""

_OTHER_HEADS = {
    "ForTokenClassification": "a tagger of tokens",
    "ForQuestionAnswering": "a reader that marks answers",
    "ForMultipleChoice": "a model of multiple-choice questions",
    "ForNextSentencePrediction": "a classifier of sentence pairs",
    "HF_ColBERT": "a multi-vector model (ColBERT), which keeps a vector per token",
    "StaticModel": _OTHER_MODULES["StaticEmbedding"],
}
"""End of a class in config.json's architectures -> what a plain transformers directory with it is.

A head of pre-training (ForMaskedLM, ForPreTraining) is no such task: encoders are commonly published with it."""

_OTHER_TYPES = {
    "model2vec": _OTHER_MODULES["StaticEmbedding"],
    **dict.fromkeys(
        ("clip_text_model", "chinese_clip", "siglip2", "align", "blip", "altclip"),
        _OTHER_MODULES["CLIPModel"],
    ),
}
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


def check_kind(name: str, files: SmallFiles, *, trust_remote_code: bool = False) -> None:
    """Refuse what is no text encoder with a pooling that a bundle can say, and code that nobody said may be run.

    Raises:
        UnsupportedModelError: the message says what the model is.
    """
    kind = other_kind(files)
    if kind is not None:
        raise UnsupportedModelError(f"{name} is {kind}; embedrt exports text encoders of one vector per text")
    known = _MODULES[output_of(files)]
    for module in files.modules or ():
        package, _, kind = str(module["type"]).rpartition(".")
        if not package.startswith("sentence_transformers") or kind not in known:
            raise UnsupportedModelError(
                f"{name}: modules.json names {module['type']}, which a bundle cannot express; "
                f"known are {', '.join(known)}"
            )
    code = own_code_of(files.config)
    if code is not None and not trust_remote_code and find_family(files.config) is None:
        raise untrusted_code_error(name, code)


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
    """What a model gives: one vector of a text, or scores of a pair of texts.

    A pipeline with a pooling gives vectors, whatever task its encoder was trained for.
    """
    if files.modules is None:
        ends = ("ForSequenceClassification", *(("ForCausalLM",) if "reranker" in _names(files) else ()))
        classes = files.config.get("architectures") or ()
        return "scores" if any(str(one).endswith(ends) for one in classes) else "vectors"
    told = files.pipeline.get("model_type") == "CrossEncoder" or files.transformer.get("transformer_task") in (
        "sequence-classification",
        "text-generation",
    )
    return "scores" if told or any(str(m["type"]).endswith(".LogitScore") for m in files.modules) else "vectors"


def _names(files: SmallFiles) -> str:
    return f"{files.name} {files.config.get('_name_or_path', '')}".casefold()


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
    modules = [str(module["type"]) for module in files.modules or ()]
    return (
        _OTHER_CLASSES.get(str(files.pipeline.get("model_type")))
        or _first(_of_module(module) for module in modules)
        or _OTHER_TASKS.get(str(files.transformer.get("transformer_task")))
        or _OTHER_TYPES.get(str(files.config.get("model_type")))
        # A pipeline says how its encoder is pooled, whatever task the encoder was trained for.
        or (_of_architectures(files.config) if files.modules is None else None)
    )


def _of_module(module: str) -> str | None:
    package, _, name = module.rpartition(".")
    kind = _OTHER_PACKAGES.get(package.partition(".")[0]) or _OTHER_MODULES.get(name)
    return None if kind is None else f"{kind} (modules.json names {module})"


def _of_architectures(config: Mapping[str, Any]) -> str | None:
    for architecture in config.get("architectures") or ():
        for end, kind in _OTHER_HEADS.items():
            if str(architecture).endswith(end):
                return f"{kind} ({architecture})"
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((kind for kind in found if kind is not None), None)
