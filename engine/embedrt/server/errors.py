"""What the server answers when it does not answer with vectors.

One table gives each kind its status and its names in OpenAI's and in text-embeddings-inference's shape. Messages say
which input, which limit and which value, and never repeat a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.errors import EmbedrtError, InputError, OptionError


@dataclass(frozen=True)
class Kind:
    """One kind of failure."""

    status: int
    openai_type: str
    tei_type: str


_OPENAI_ROOTS = frozenset({"v1", "openai", "embeddings", "models"})

KINDS = {
    "malformed": Kind(400, "invalid_request_error", "Validation"),
    "unauthorized": Kind(401, "authentication_error", "Validation"),
    "model_not_found": Kind(404, "invalid_request_error", "Validation"),
    "not_found": Kind(404, "invalid_request_error", "Validation"),
    "method_not_allowed": Kind(405, "invalid_request_error", "Validation"),
    "slow_body": Kind(408, "invalid_request_error", "Validation"),
    "too_large": Kind(413, "invalid_request_error", "Validation"),
    "wrong_type": Kind(415, "invalid_request_error", "Validation"),
    "invalid": Kind(422, "invalid_request_error", "Validation"),
    "overloaded": Kind(429, "rate_limit_error", "Overloaded"),
    "gone": Kind(499, "client_closed_request", "Backend"),  # for logs and metrics: nobody reads it
    "failed": Kind(500, "server_error", "Backend"),
    "not_ready": Kind(503, "server_error", "Unhealthy"),
    "timeout": Kind(504, "timeout_error", "Overloaded"),
}


class ServeError(Exception):
    """A request that gets an error for an answer.

    Attributes:
        kind: a key of KINDS.
        param: the field at fault, if there is one.
        headers: to be sent with the answer.
    """

    def __init__(
        self, kind: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.param = param
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status


def overloaded(message: str, retry_after_s: float) -> ServeError:
    """429 with the seconds after which there may be room again, 1 to 60."""
    seconds = min(60, max(1, round(retry_after_s)))
    return ServeError("overloaded", f"{message}; try again in {seconds} s", headers={"Retry-After": str(seconds)})


def translate(exc: EmbedrtError) -> ServeError:
    """The library's error as the server's."""
    if isinstance(exc, InputError):
        return ServeError("invalid", str(exc), param="input" if exc.index is None else f"input[{exc.index}]")
    if isinstance(exc, OptionError):
        return ServeError("invalid", str(exc))
    return ServeError("failed", str(exc))


def openai_path(path: str) -> bool:
    """Whether clients of that path read errors as OpenAI writes them."""
    return path.split("/")[1] in _OPENAI_ROOTS


def openai_body(error: ServeError) -> dict[str, object]:
    """OpenAI's shape."""
    kind = KINDS[error.kind]
    return {"error": {"message": str(error), "type": kind.openai_type, "param": error.param, "code": error.kind}}


def tei_body(error: ServeError) -> dict[str, object]:
    """text-embeddings-inference's shape."""
    return {"error": str(error), "error_type": KINDS[error.kind].tei_type}
