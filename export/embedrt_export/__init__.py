"""Export a sentence-transformers or Hugging Face encoder to an ONNX bundle, and prove it against PyTorch."""

from embedrt_export.export import export
from embedrt_export.reference import reference_vectors

__all__ = ["export", "reference_vectors"]
