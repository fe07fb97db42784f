"""Text embeddings on CPUs from ONNX bundles: fast, lean, and measured against PyTorch."""

import importlib
import os
import sys
import typing

from embedrt.errors import (
    BundleError,
    BundleFormatError,
    BundleIntegrityError,
    BundleNotFoundError,
    DatabaseError,
    DependencyError,
    EmbedrtError,
    ExecutorError,
    ExportError,
    FileFormatError,
    HubError,
    IdentityError,
    InputError,
    InputTypeError,
    NonFiniteError,
    NoTokensError,
    OptionError,
    ParityError,
    PictureError,
    SourceError,
    TokenIdError,
    TokenLimitError,
    UnsupportedByNativeError,
    UnsupportedModelError,
)
from embedrt.version import __version__

# ONNX Runtime 1.29 and later reports to Microsoft unless this is set before it is loaded. Whoever wants it sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if typing.TYPE_CHECKING:
    from embedrt.bundle import Bundle
    from embedrt.embedder import Embedder
    from embedrt.model import Model, Outputs
    from embedrt.multi_vector_encoder import MultiVectorEncoder
    from embedrt.opening import open_bundle
    from embedrt.reranker import Reranker, ScoreResult
    from embedrt.results import EncodedBlock, EncodeResult, SkippedText, TextPiece, Truncation, TruncationWarning
    from embedrt.sparse_encoder import SparseEncoder
    from embedrt.sparse_vectors import SparseVector, SparseVectors

__all__ = [
    "Bundle",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "DatabaseError",
    "DependencyError",
    "Embedder",
    "EmbedrtError",
    "EncodeResult",
    "EncodedBlock",
    "ExecutorError",
    "ExportError",
    "FileFormatError",
    "HubError",
    "IdentityError",
    "InputError",
    "InputTypeError",
    "Model",
    "MultiVectorEncoder",
    "NoTokensError",
    "NonFiniteError",
    "OptionError",
    "Outputs",
    "ParityError",
    "PictureError",
    "Reranker",
    "ScoreResult",
    "SkippedText",
    "SourceError",
    "SparseEncoder",
    "SparseVector",
    "SparseVectors",
    "TextPiece",
    "TokenIdError",
    "TokenLimitError",
    "Truncation",
    "TruncationWarning",
    "UnsupportedByNativeError",
    "UnsupportedModelError",
    "__version__",
    "open_bundle",
]

# Loaded at first use: numpy and onnxruntime take half a second, which no `embedrt --help` should wait for.
_MODULES = {
    "embedrt.bundle": ("Bundle",),
    "embedrt.embedder": ("Embedder",),
    "embedrt.model": ("Model", "Outputs"),
    "embedrt.multi_vector_encoder": ("MultiVectorEncoder",),
    "embedrt.opening": ("open_bundle",),
    "embedrt.reranker": ("Reranker", "ScoreResult"),
    "embedrt.results": ("EncodeResult", "EncodedBlock", "SkippedText", "TextPiece", "Truncation", "TruncationWarning"),
    "embedrt.sparse_encoder": ("SparseEncoder",),
    "embedrt.sparse_vectors": ("SparseVector", "SparseVectors"),
}
_SUBMODULES = ("batch", "databases", "errors", "evaluation", "integrations", "sentences", "util")
_ELSEWHERE = {  # what programs for other libraries look for
    "SentenceTransformer": "Embedder",
    "CrossEncoder": "Reranker",
    "TextEmbedding": "Embedder",
    "TextCrossEncoder": "Reranker",
    "SparseTextEmbedding": "SparseEncoder",
    "LateInteractionTextEmbedding": "MultiVectorEncoder",
    "BGEM3FlagModel": "Model",
    "StaticModel": "Embedder",
    "encode": "Embedder(BUNDLE).encode",
    "export": "the command 'embedrt export', or embedrt_export.export",
    "InferenceSession": "Embedder",
}


def __getattr__(name: str) -> typing.Any:
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    hint = f"; here it is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return [*__all__]
