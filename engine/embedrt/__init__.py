"""Sentence embeddings on ONNX Runtime: fast, and proven equal to PyTorch."""

from embedrt.bundle import Bundle, open_bundle
from embedrt.embedder import Embedder
from embedrt.errors import (
    BundleError,
    BundleFormatError,
    BundleIntegrityError,
    BundleNotFoundError,
    DependencyError,
    EmbedrtError,
    ExecutorError,
    ExportError,
    FileFormatError,
    IdentityError,
    InputError,
    InputTypeError,
    NonFiniteError,
    OptionError,
    ParityError,
    SourceError,
    TokenLimitError,
    UnsupportedByNativeError,
    UnsupportedModelError,
)
from embedrt.results import EncodedBlock, EncodeResult, SkippedText, Truncation, TruncationWarning
from embedrt.version import __version__

__all__ = [
    "Bundle",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "DependencyError",
    "Embedder",
    "EmbedrtError",
    "EncodeResult",
    "EncodedBlock",
    "ExecutorError",
    "ExportError",
    "FileFormatError",
    "IdentityError",
    "InputError",
    "InputTypeError",
    "NonFiniteError",
    "OptionError",
    "ParityError",
    "SkippedText",
    "SourceError",
    "TokenLimitError",
    "Truncation",
    "TruncationWarning",
    "UnsupportedByNativeError",
    "UnsupportedModelError",
    "__version__",
    "open_bundle",
]
