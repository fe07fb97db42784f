"""Export a sentence-transformers or Hugging Face encoder to an ONNX bundle, and prove it against PyTorch.

Importing it raises DependencyError where the packages that it stands on are missing or do not fit.
"""

from embedrt_export.requirements import check_installed

check_installed()  # before the imports below, which would fail inside another package

from embedrt_export.export import export  # noqa: E402
from embedrt_export.reference import reference_vectors  # noqa: E402

__all__ = ["export", "reference_vectors"]
