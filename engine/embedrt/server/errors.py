"""What the server answers when it does not answer with vectors.

One table gives each kind its status and its names in OpenAI's and in text-embeddings-inference's shape. Messages say
which input, which limit and which value, and never repeat a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.errors import EmbedrtError, InputError, OptionError, PictureError, TokenLimitError


@dataclass(frozen=True)
class Kind:
    """One kind of failure: status and type in OpenAI's API, and in text-embeddings-inference's."""

    openai_status: int
    openai_type: str
    tei_status: int
    tei_type: str


_OPENAI_ROOTS = frozenset({"v1", "openai", "embeddings", "models"})

KINDS = {
    "malformed": Kind(400, "invalid_request_error", 400, "Validation"),
    "unauthorized": Kind(401, "authentication_error", 401, "Validation"),
    "model_not_found": Kind(404, "invalid_request_error", 404, "Validation"),
    "not_found": Kind(404, "invalid_request_error", 404, "Validation"),
    "method_not_allowed": Kind(405, "invalid_request_error", 405, "Validation"),
    "slow_body": Kind(408, "invalid_request_error", 408, "Validation"),
    "too_large": Kind(413, "invalid_request_error", 413, "Validation"),
    "wrong_type": Kind(415, "invalid_request_error", 415, "Validation"),
    "wrong_host": Kind(421, "invalid_request_error", 421, "Validation"),
    "invalid": Kind(400, "invalid_request_error", 422, "Validation"),  # the body's shape
    "empty": Kind(400, "invalid_request_error", 400, "Empty"),  # nothing to embed
    "unfit": Kind(400, "invalid_request_error", 413, "Validation"),  # a value that this model or server does not take
    "token_ids": Kind(400, "invalid_request_error", 422, "Tokenizer"),
    "rate_limited": Kind(429, "rate_limit_error", 429, "Overloaded"),
    "overloaded": Kind(429, "rate_limit_error", 429, "Overloaded"),
    "gone": Kind(499, "client_closed_request", 499, "Backend"),  # for logs and metrics: nobody reads it
    "wrong_model": Kind(400, "invalid_request_error", 424, "Backend"),  # it is of another sort
    "not_inferred": Kind(500, "server_error", 424, "Backend"),  # the model failed
    "failed": Kind(500, "server_error", 500, "Backend"),  # a bug
    "bad_gateway": Kind(502, "server_error", 502, "Backend"),  # of `embedrt front`: a server broke off
    "not_ready": Kind(503, "server_error", 503, "Unhealthy"),
    "timeout": Kind(504, "timeout_error", 504, "Overloaded"),
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


def overloaded(message: str, retry_after_s: float) -> ServeError:
    """429 with the seconds after which there may be room again, 1 to 60."""
    seconds = min(60, max(1, round(retry_after_s)))
    return ServeError("overloaded", f"{message}; try again in {seconds} s", headers={"Retry-After": str(seconds)})


def translate(exc: EmbedrtError) -> ServeError:
    """The library's error as the server's."""
    if isinstance(exc, PictureError):
        return ServeError("invalid", str(exc), param="input" if exc.index is None else f"input[{exc.index}]")
    if isinstance(exc, InputError):
        kind = "unfit" if isinstance(exc, TokenLimitError) else "token_ids"
        return ServeError(kind, str(exc), param="input" if exc.index is None else f"input[{exc.index}]")
    return ServeError("unfit" if isinstance(exc, OptionError) else "not_inferred", str(exc))


def openai_path(path: str) -> bool:
    """Whether clients of that path read errors as OpenAI writes them."""
    return path.split("/")[1] in _OPENAI_ROOTS


def described(error: ServeError, path: str) -> tuple[int, dict[str, object]]:
    """Status and body of the error, as clients of `path` read it."""
    kind = KINDS[error.kind]
    if not openai_path(path):
        return kind.tei_status, {"error": str(error), "error_type": kind.tei_type}
    detail = {"message": str(error), "type": kind.openai_type, "param": error.param, "code": error.kind}
    return kind.openai_status, {"error": detail}
