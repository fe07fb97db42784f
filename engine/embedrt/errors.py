"""The exceptions of embedrt, one tree.

::

    EmbedrtError
    ├── BundleError               a bundle that cannot be used
    │   ├── BundleNotFoundError       no such directory, or no manifest in it
    │   ├── BundleFormatError         the manifest breaks the schema, or is of a newer format
    │   └── BundleIntegrityError      a file is missing, truncated, or its hash differs
    ├── InputError (ValueError)   a text that cannot be embedded; `.index` says which
    │   ├── InputTypeError (TypeError)   not a string
    │   ├── NoTokensError                nothing is left of it after tokenizing
    │   ├── TokenIdError                 a token that the model has no row for
    │   ├── PictureError                 a picture that is none, is damaged or too large
    │   └── TokenLimitError              over the model's limit, with on_overflow="error"
    ├── OptionError (ValueError)  an argument that does not exist or does not fit
    ├── IdentityError             vectors of different identities were about to be mixed
    ├── ExecutorError             the executor could not be made or failed to run
    │   ├── NonFiniteError            it ran, and a vector holds NaN or infinity
    │   └── UnsupportedByNativeError  the native executor does not run this bundle or machine
    ├── DependencyError (ImportError)   an optional package is missing; the message has the command
    ├── HubError                  the hub of models cannot be reached, or has not what is asked for
    ├── DatabaseError             a database cannot be reached, read or written
    ├── FileFormatError           an input or output file of the command line cannot be read or written
    └── ExportError               the model cannot be exported
        ├── SourceError               the model cannot be found, read or downloaded
        ├── UnsupportedModelError     a module, architecture or setting that is not supported
        └── ParityError               a variant's vectors miss a gate

A dependency's errors are translated where they are raised, `from exc`, so that `__cause__` keeps them.
"""

from __future__ import annotations


class EmbedrtError(Exception):
    """Base of every error that embedrt raises on purpose."""


class BundleError(EmbedrtError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at the path given."""


class BundleFormatError(BundleError):
    """The manifest breaks the schema, or has a format newer than this version reads."""


class BundleIntegrityError(BundleError):
    """A file that the manifest names is missing, truncated, or has another hash."""


class InputError(EmbedrtError, ValueError):
    """A text cannot be embedded.

    Attributes:
        index: position of the text in the caller's input, or None when there is only one.
        reason: the message without the position.
    """

    _kind = "text"

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message if index is None else f"{self._kind} {index}: {message}")
        self.index = index
        self.reason = message


class InputTypeError(InputError, TypeError):
    """An input is not a string."""


class NoTokensError(InputError):
    """A text has no tokens: there is nothing to pool, so it has no vector."""


class TokenIdError(InputError):
    """A token's id is beyond the rows of the model's table: the tokenizer has more tokens than the model."""


class PictureError(InputError):
    """A picture cannot be embedded: it is none, is damaged, or has too many pixels."""

    _kind = "picture"


class TokenLimitError(InputError):
    """A text has more tokens than the model takes, and `on_overflow="error"` was asked for."""


class OptionError(EmbedrtError, ValueError):
    """An option is unknown, or its value does not fit."""


class IdentityError(EmbedrtError):
    """Vectors made by different models or settings were about to be mixed."""


class ExecutorError(EmbedrtError):
    """The executor could not be made, or failed while running."""


class NonFiniteError(ExecutorError):
    """A vector holds NaN or infinity.

    Attributes:
        index: position of the text in the caller's input, or None when that is not known.
        reason: the message without the position.
    """

    _kind = "text"

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message if index is None else f"{self._kind} {index}: {message}")
        self.index = index
        self.reason = message


class UnsupportedByNativeError(ExecutorError):
    """The native executor does not run this variant, model or machine; ONNX Runtime does."""


class DependencyError(EmbedrtError, ImportError):
    """An optional package is missing; the message says how to install it."""


class HubError(EmbedrtError):
    """The hub cannot be reached, does not allow it, or does not have what is asked for.

    Attributes:
        missing: whether there is nothing of that name, so that trying again would not help.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class FileFormatError(EmbedrtError):
    """A file on the command line cannot be read or written as asked."""


class DatabaseError(EmbedrtError):
    """A database of vectors cannot be reached, read or written."""


class ExportError(EmbedrtError):
    """A model cannot be exported."""


class SourceError(ExportError):
    """The model to export cannot be found, read or downloaded."""


class UnsupportedModelError(ExportError):
    """The model has a module, an architecture or a setting that is not supported."""


class ParityError(ExportError):
    """A variant's vectors miss a parity gate."""
