"""What holds a loaded model gives it back."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from embedrt.loading import LoadedModel


class Closing:
    """A context that ends with `close`."""

    @property
    def _model(self) -> LoadedModel:
        raise NotImplementedError

    def close(self) -> None:
        """Free the model, also for all that was made of it, by `with_options` or as a copy.

        Calls that are under way in other threads finish, and the last of them frees it; later ones raise ExecutorError.
        """
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
