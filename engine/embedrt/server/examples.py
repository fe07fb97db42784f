"""What the API's description says beside the types: a request per path, and what each field means."""

from __future__ import annotations

from typing import Any

_TEXTS = ["The weather in Seoul is lovely today.", "비밀번호를 잊어버렸어요."]

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": _TEXTS, "encoding_format": "float"},
    "/embed": {"inputs": _TEXTS},
    "/": {"inputs": "The weather in Seoul is lovely today."},
    "/invocations": {"inputs": "The weather in Seoul is lovely today."},
    "/embed_all": {"inputs": "a short text"},
    "/similarity": {"inputs": {"source_sentence": "I cannot sign in", "sentences": ["password reset", "stock prices"]}},
    "/tokenize": {"inputs": "The weather in Seoul"},
    "/decode": {"ids": [101, 2054, 102]},
}
"""By path; each is answered by a server with default settings (/decode: with --token-ids own)."""

_TRUNCATE = "cut texts over the model's limit (true) or refuse them (false); the server's setting where it is not given"
_ON_OVERFLOW = (
    "texts over the model's limit: truncate cuts them, error refuses them, windows reads all of a text in windows and "
    "gives the mean of their vectors, which has another identity; the server's setting (--long) where it is not given"
)
_MODEL = (
    "NAME, NAME:query or NAME:document (with the model's prompt before each text), or an alias; the first if absent"
)
_PROMPT_NAME = "which of the model's prompts goes before each text; see /info"
_DIRECTION = "which end of a text is cut: right (the default) or left"
_DIMENSIONS = "keep so many dimensions, where the server is told that the model was trained for it (--matryoshka)"
_IDS = "the server refuses token ids unless --token-ids says whose they are"

FIELDS: dict[str, dict[str, str]] = {
    "EmbeddingsRequest": {
        "input": f"a text, texts, token ids, or pictures as data URIs; {_IDS}",
        "model": _MODEL,
        "encoding_format": "float (default): numbers that give the same float32 back; base64: float32, little-endian",
        "dimensions": _DIMENSIONS,
        "user": "taken and not used",
        "input_type": "query, document or passage: the prompt that goes before each text, as NAME:query does",
        "task": "fills {task} of the query prompt",
        "truncate": _TRUNCATE,
        "on_overflow": _ON_OVERFLOW,
        "modality": "text or image; where it is not given, data URIs of pictures are pictures if the model takes them",
    },
    "EmbedRequest": {
        "inputs": f"a text, texts, or token ids; {_IDS}",
        "normalize": "false: the vector before the L2 norm at the end of the model's pipeline",
        "truncate": _TRUNCATE,
        "on_overflow": _ON_OVERFLOW,
        "truncation_direction": _DIRECTION,
        "prompt_name": _PROMPT_NAME,
        "dimensions": _DIMENSIONS,
        "model": _MODEL,
    },
    "EmbedAllRequest": {
        "inputs": f"a text, texts, or token ids; {_IDS}",
        "truncate": _TRUNCATE,
        "truncation_direction": _DIRECTION,
        "prompt_name": _PROMPT_NAME,
        "model": _MODEL,
    },
    "SimilarityInput": {"source_sentence": "what is compared", "sentences": "with each of these"},
    "SimilarityParameters": {
        "truncate": _TRUNCATE,
        "on_overflow": _ON_OVERFLOW,
        "truncation_direction": _DIRECTION,
        "prompt_name": _PROMPT_NAME,
    },
    "SimilarityRequest": {"model": _MODEL, "parameters": "how the texts are embedded"},
    "TokenizeRequest": {
        "inputs": "a text or texts, 262,144 characters in all",
        "add_special_tokens": "with those that the model puts around a text",
        "prompt_name": _PROMPT_NAME,
        "model": _MODEL,
    },
    "DecodeRequest": {
        "ids": "token ids of one text or of several, in the model's own vocabulary",
        "skip_special_tokens": "leave those out that the model puts around a text",
        "model": _MODEL,
    },
    "Embedding": {"embedding": "numbers, or a string of base64", "index": "of the input"},
    "Embeddings": {
        "identity": "vectors of different identities must not be mixed in one index",
        "truncated": "the inputs that were cut",
    },
    "Usage": {"prompt_tokens": "tokens that the model saw", "total_tokens": "the same"},
    "Cut": {"index": "of the input", "num_tokens": "that it has", "limit": "tokens that were kept"},
    "Model": {
        "owned_by": "the source of the model",
        "identity": "of vectors made under this name without options",
        "variant": "precision that runs",
        "matryoshka": "whether `dimensions` may ask for fewer",
    },
    "Token": {
        "text": "the slice of the text that it stands for; of a special token its spelling",
        "start": "first character of the text, prompt included; null for special tokens",
        "stop": "one behind the last character",
        "token": "as the vocabulary spells it",
    },
}
"""By type and field."""
