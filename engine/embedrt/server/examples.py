"""What the API's description says beside the types: requests and an answer per path, and what each field means."""

from __future__ import annotations

from typing import Any

_QUERY = "how do I reset my password?"
_DOCUMENTS = ["비밀번호는 설정의 계정에서 바꿉니다.", "The shop opens at nine.", "Reset it under Settings, Account."]
_TEXTS = ["The weather in Seoul is lovely today.", "비밀번호를 잊어버렸어요."]

_DISC = (  # 24 x 24 pixels, red on white
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQMAAADaua+7AAAABlBMVEX////WKCi0LpysAAAAOElEQVR42mXMsQ2AMBAEwdGZgJAS"
    "qNS14U5cAiEB0pOblSZd1jpKmivI5szuCH4ed14zoDQ11tsHZXMJG8EbxRYAAAAASUVORK5CYII="
)

REQUESTS: dict[str, dict[str, dict[str, Any]]] = {
    "/v1/embeddings": {
        "texts": {"input": _TEXTS, "encoding_format": "float"},
        "a query, in base64": {"input": _QUERY, "input_type": "query", "encoding_format": "base64"},
        "a picture": {"input": [_DISC], "modality": "image"},
    },
    "/embed": {
        "texts": {"inputs": _TEXTS},
        "a text, cut on the left": {"inputs": _QUERY, "truncation_direction": "left"},
    },
    "/": {"a text": {"inputs": "The weather in Seoul is lovely today."}},
    "/invocations": {"a text": {"inputs": "The weather in Seoul is lovely today."}},
    "/embed_all": {"a text": {"inputs": "a short text"}},
    "/embed_sparse": {"texts": {"inputs": _TEXTS}, "the largest weights": {"inputs": _QUERY, "max_active_dims": 8}},
    "/similarity": {
        "sentences": {
            "inputs": {"source_sentence": "I cannot sign in", "sentences": ["password reset", "stock prices"]}
        }
    },
    "/tokenize": {"a text": {"inputs": "The weather in Seoul"}},
    "/decode": {"token ids": {"ids": [101, 2054, 102]}},
    "/rerank": {
        "text-embeddings-inference's shape": {"query": _QUERY, "texts": _DOCUMENTS, "return_text": True},
        "Cohere's and Jina's shape": {"query": _QUERY, "documents": _DOCUMENTS, "top_n": 2},
    },
    "/v1/rerank": {"documents": {"query": _QUERY, "documents": _DOCUMENTS, "top_n": 2, "return_documents": True}},
    "/v2/rerank": {"documents": {"query": _QUERY, "documents": _DOCUMENTS, "top_n": 2, "max_tokens_per_doc": 256}},
    "/predict": {
        "pairs": {"inputs": [[_QUERY, _DOCUMENTS[0]], [_QUERY, _DOCUMENTS[2]]]},
        "a text": {"inputs": "I like this."},
        "huggingface_hub's shape": {"inputs": "I like this.", "parameters": {"function_to_apply": "none", "top_k": 1}},
    },
}
"""By path, each with a title, the first the one that is tried. Each is answered by a server with default settings
(/decode: with --token-ids own) that has a model for it: a reranker, one of sparse vectors, one of pictures."""

_RANKED = [(2, 0.9962), (0, 0.9817), (1, 0.0004)]
_RANKED_DOCUMENTS = {
    "id": "6461aeb3547847cd8c77000000000011",
    "model": "reranker",
    "results": [
        {"index": i, "relevance_score": score, "document": {"text": _DOCUMENTS[i]}} for i, score in _RANKED[:2]
    ],
    "usage": {"total_tokens": 61},
    "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
}
ANSWERS: dict[str, Any] = {
    "/v1/embeddings": {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0061, 0.097, 0.1922]},
            {"object": "embedding", "index": 1, "embedding": [0.0374, -0.0719, 0.0607]},
        ],
        "model": "all-MiniLM-L6-v2",
        "usage": {"prompt_tokens": 24, "total_tokens": 24},
        "identity": "224c5b869f30d26d",
        "truncated": [],
    },
    "/embed": [[0.0061, 0.097, 0.1922], [0.0374, -0.0719, 0.0607]],
    "/embed_all": [[[0.2421, 0.5434, 0.0063], [0.1865, -0.0902, 0.1278], [0.1698, 0.0576, 0.0817]]],
    "/embed_sparse": [[{"index": 4633, "value": 1.7109}, {"index": 10225, "value": 1.2031}]],
    "/similarity": [0.4516, 0.0281],
    "/rerank": [{"index": i, "score": score, "text": _DOCUMENTS[i]} for i, score in _RANKED],
    "/v1/rerank": _RANKED_DOCUMENTS,
    "/v2/rerank": _RANKED_DOCUMENTS,
    "/predict": [[{"score": 0.9817, "label": "LABEL_0"}], [{"score": 0.9962, "label": "LABEL_0"}]],
    "/tokenize": [
        [
            {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None, "token": "[CLS]"},
            {"id": 1996, "text": "The", "special": False, "start": 0, "stop": 3, "token": "the"},
        ]
    ],
    "/decode": ["what"],
}
"""What the first request may get, by path; vectors, sparse ones and tokens are shortened."""

_PAIRS_CUT = "Pairs over the model's limit are cut, the longer text first."
DESCRIPTIONS: dict[str, str] = {
    "/v1/embeddings": "Texts; token ids, where the server says whose they are; or pictures as data URIs, where the "
    "model takes them: a request has one sort. Addresses of pictures are never fetched.",
    "/embed": "A vector per input, in the order of the inputs.",
    "/embed_all": "Models with vectors of tokens (ColBERT's, BGE-M3's) give their own, others the encoder's hidden "
    "states; special tokens are among them.",
    "/embed_sparse": "Needs a model of sparse vectors. What is not there is 0.",
    "/similarity": "By the model's own function, for most the cosine.",
    "/rerank": "Needs a reranker. With `texts` the request and its answer are text-embeddings-inference's, with "
    f"`documents` Cohere's. {_PAIRS_CUT}",
    "/v1/rerank": f"Needs a reranker. {_PAIRS_CUT}",
    "/v2/rerank": f"Needs a reranker. {_PAIRS_CUT}",
    "/predict": "Needs a reranker, or a classifier, which takes texts alone as well. Of one input the labels' scores, "
    "best first; of several a list of such.",
    "/tokenize": "As the model sees them, the prompt and special tokens included; nothing is cut.",
    "/decode": "Needs a server that takes token ids (--token-ids own).",
    "/info": "The fields of text-embeddings-inference, and what else is known of the model.",
    "/metrics": "For Prometheus; with --metrics-port on a port of its own as well, which needs no key.",
}
"""By path, what the summary does not say."""

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
        "modality": "text or image; where it is not given, data URIs of pictures are pictures",
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
    "RankedDocuments": {
        "id": "of the request",
        "model": "which scored",
        "results": "best first",
        "meta": "Cohere's, the same for every request",
    },
    "Ranked": {
        "index": "of the text in the request",
        "score": "from 0 to 1; with raw_scores the model's logit",
        "text": "where return_text asks for it",
    },
    "RankedDocument": {
        "index": "of the document in the request",
        "relevance_score": "the sigmoid of the model's logit, from 0 to 1",
        "document": "where return_documents asks for it",
    },
    "Prediction": {"label": "the model's name for it", "score": "as the request asks"},
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
        "data": "in the order of the inputs",
        "model": "as the request had it; else the model's name",
        "identity": "vectors of different identities must not be mixed in one index",
        "truncated": "the inputs that were cut",
    },
    "Usage": {"prompt_tokens": "tokens that the model saw", "total_tokens": "the same"},
    "TotalTokens": {"total_tokens": "tokens that the model saw"},
    "Cut": {"index": "of the input", "num_tokens": "that it has", "limit": "tokens that were kept"},
    "Model": {
        "id": "what `model` may be",
        "created": "when the server was started, in seconds since 1970",
        "owned_by": "the source of the model",
        "identity": "of vectors made under this name without options",
        "variant": "precision that runs",
        "dimension": "numbers of a vector; labels of a model of scores",
        "max_tokens": "of a text or a pair, special tokens included",
        "matryoshka": "whether `dimensions` may ask for fewer",
        "outputs": "dense (/embed, /v1/embeddings), sparse (/embed_sparse), tokens (/embed_all), scores (/rerank)",
        "modalities": "what /v1/embeddings takes",
    },
    "Token": {
        "id": "in the model's vocabulary",
        "special": "whether the model put it around the text",
        "text": "the slice of the text that it stands for; of a special token its spelling",
        "start": "first character of the text, prompt included; null for special tokens",
        "stop": "one behind the last character",
        "token": "as the vocabulary spells it",
    },
}
"""By type and field."""
