"""What the API's description says beside the types: a request per path, and what each field means."""

from __future__ import annotations

from typing import Any

_QUERY = "how do I reset my password?"
_DOCUMENTS = ["비밀번호는 설정의 계정에서 바꿉니다.", "The shop opens at nine.", "Reset it under Settings, Account."]
_TEXTS = ["The weather in Seoul is lovely today.", "비밀번호를 잊어버렸어요."]

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": _TEXTS, "encoding_format": "float"},
    "/embed": {"inputs": _TEXTS},
    "/": {"inputs": "The weather in Seoul is lovely today."},
    "/invocations": {"inputs": "The weather in Seoul is lovely today."},
    "/embed_all": {"inputs": "a short text"},
    "/embed_sparse": {"inputs": _TEXTS},
    "/similarity": {"inputs": {"source_sentence": "I cannot sign in", "sentences": ["password reset", "stock prices"]}},
    "/tokenize": {"inputs": "The weather in Seoul"},
    "/decode": {"ids": [101, 2054, 102]},
    "/rerank": {"query": _QUERY, "texts": _DOCUMENTS, "return_text": True},
    "/v1/rerank": {"query": _QUERY, "documents": _DOCUMENTS, "top_n": 2, "return_documents": True},
    "/v2/rerank": {"query": _QUERY, "documents": _DOCUMENTS, "top_n": 2, "max_tokens_per_doc": 256},
    "/predict": {"inputs": [[_QUERY, _DOCUMENTS[0]], [_QUERY, _DOCUMENTS[2]]]},
}
"""By path; each is answered by a server with default settings (/decode: with --token-ids own), the last four where it
has a reranker, and /embed_sparse where it has a model of sparse vectors."""

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
_RERANKER = "NAME of a reranker, its source's name, or an alias; the first reranker if absent"
_DOCUMENTS_FIELDS = {
    "query": "one text; refused where it fills the model's limit alone",
    "documents": "texts, or objects with a field `text`",
    "top_n": "so many of the best; all if absent",
    "return_documents": "whether each result has its document",
    "max_tokens_per_doc": "of each document's tokens at most so many are read, whatever room there is",
    "max_chunks_per_doc": "1, or absent: a document is read in one piece",
    "priority": "0, or absent: nothing goes before other requests",
    "truncate": _TRUNCATE,
    "truncation_direction": "which end of query and document is cut, the longer first: right (the default) or left",
    "model": _RERANKER,
}

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
    "EmbedSparseRequest": {
        "inputs": f"a text, texts, or token ids; {_IDS}",
        "truncate": _TRUNCATE,
        "truncation_direction": _DIRECTION,
        "prompt_name": _PROMPT_NAME,
        "max_active_dims": "at most so many weights of a text, the largest; the model's own limit, or all, if absent",
        "model": "NAME, NAME:query or NAME:document of a model of sparse vectors, or an alias; the first if absent",
    },
    "Weight": {"index": "of the word in the model's vocabulary", "value": "not 0"},
    "SimilarityInput": {"source_sentence": "what is compared", "sentences": "with each of these"},
    "SimilarityParameters": {
        "truncate": _TRUNCATE,
        "on_overflow": _ON_OVERFLOW,
        "truncation_direction": _DIRECTION,
        "prompt_name": _PROMPT_NAME,
    },
    "SimilarityRequest": {"model": _MODEL, "parameters": "how the texts are embedded"},
    "RerankRequest": {
        **_DOCUMENTS_FIELDS,
        "texts": "what is ranked, in text-embeddings-inference's shape; or `documents`, in Cohere's and Jina's",
        "raw_scores": "true: the model's logits; else their sigmoid (with texts)",
        "return_text": "whether each result has its text (with texts)",
        "documents": "texts, or objects with a field `text`: the request and its answer are Cohere's then",
    },
    "DocumentsRequest": _DOCUMENTS_FIELDS,
    "PredictRequest": {
        "inputs": "a text, a pair of texts [a, b], or a list of pairs and of texts in lists [a]",
        "raw_scores": "true: the model's logits; else their sigmoid, or softmax where there are several labels",
        "parameters": "huggingface_hub's; where it is there, also empty, the answer for one text is a list of one list",
        "truncate": _TRUNCATE,
        "truncation_direction": "which end of the texts is cut, the longer first: right (the default) or left",
        "model": _RERANKER,
    },
    "PredictParameters": {
        "function_to_apply": "sigmoid, softmax or none, of the model's logits",
        "top_k": "so many of the best labels; all if absent",
    },
    "Ranked": {"index": "of the text in the request", "text": "where return_text asks for it"},
    "RankedDocument": {
        "index": "of the document in the request",
        "relevance_score": "the sigmoid of the model's logit",
        "document": "where return_documents asks for it",
    },
    "Prediction": {"label": "the model's name for it"},
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
        "outputs": "dense (/embed, /v1/embeddings), sparse (/embed_sparse), tokens (/embed_all), scores (/rerank)",
        "modalities": "what /v1/embeddings takes",
    },
    "Token": {
        "text": "the slice of the text that it stands for; of a special token its spelling",
        "start": "first character of the text, prompt included; null for special tokens",
        "stop": "one behind the last character",
        "token": "as the vocabulary spells it",
    },
}
"""By type and field."""
