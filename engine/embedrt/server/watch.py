"""When a model is looked at: its files before batches, and its vectors again where nothing waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from embedrt.server.proof import Proof

_LOOK_EVERY_S = 1.0  # at the files of an idle model
_LOOK_BEFORE_BATCH_S = 0.05  # at those of a busy one: each look gives up the GIL, and 20 in a second cost nothing


class Watch:
    """Looks at a loaded model, in the threads that run its batches.

    Args:
        name: of the model, for the log.
        proof: whether the model still is what it was; None where nobody looks.
        told: called with each proof's outcome, whether it was the same.
    """

    def __init__(self, name: str, proof: Proof | None, told: Callable[[bool], None]) -> None:
        self.proof = proof
        self.what_is_wrong: str | None = None  # why nothing is computed anymore
        self._name = name
        self._told = told
        self._looked = 0.0
        self._looking = threading.Lock()

    @property
    def every_s(self) -> float | None:
        """How often an idle model is to be looked at."""
        return None if self.proof is None else _LOOK_EVERY_S

    def look(self, runs: Callable[[], AbstractContextManager[None]], *, idle: bool) -> None:
        """See whether the model is what it was, unless another thread does so.

        Args:
            runs: gives what the executor is called in.
            idle: nothing waits.
        """
        if self.proof is None or (not idle and self._has_just_looked):
            return
        if self._looking.acquire(blocking=False):
            try:
                self._look_by(self.proof, runs, idle=idle)
            finally:
                self._looking.release()

    def sees_nothing_new(self) -> bool:
        """Whether the model's files have the times that they were loaded with, so that a look may wait."""
        if self.proof is None or self._has_just_looked:
            return True
        if not self.proof.weights.are_untouched():
            return False
        self._looked = time.monotonic()
        return True

    @property
    def _has_just_looked(self) -> bool:
        return time.monotonic() - self._looked < _LOOK_BEFORE_BATCH_S

    def _look_by(self, proof: Proof, runs: Callable[[], AbstractContextManager[None]], *, idle: bool) -> None:
        self._looked = time.monotonic()
        if proof.is_due(idle=idle) and proof.weights.what_changed() is None:
            with runs():
                same = proof.prove()
            proof.weights.say_replaced(self._name)
            self._told(same)
        self.what_is_wrong = proof.what_is_wrong()

    def close(self) -> None:
        """Let go of the model's files."""
        if self.proof is not None:
            self.proof.weights.close()
