"""Prompts and poolings that model families document on their cards but do not keep in their files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.errors import OptionError
from embedrt.manifest import Prompts

WEB_SEARCH_TASK = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True)
class Family:
    """What a family's model card says."""

    pattern: str  # searched, case-insensitively, in the model's name
    pooling: str | None  # None: more follows it than a plain transformers directory holds
    normalize: bool
    prompts: dict[str, str]
    default_task: str | None
    source: str


# The first that matches counts, so the narrower ones come first.
FAMILIES = (
    Family(
        r"e5[-_](small|base|large)[-_]instruct|e5[-_]mistral",
        "mean", True,
        {"query": "Instruct: {task}\nQuery: "},  # queries only: the card gives documents raw
        WEB_SEARCH_TASK,
        "https://huggingface.co/intfloat/multilingual-e5-large-instruct",
    ),
    Family(
        r"(^|[/_-])e5[-_](small|base|large)",
        "mean", True,
        {"query": "query: ", "passage": "passage: "},
        None,
        "https://huggingface.co/intfloat/multilingual-e5-large",
    ),
    Family(
        r"nomic-embed-text",
        "mean", True,
        {
            "query": "search_query: ", "document": "search_document: ", "classification": "classification: ",
            "clustering": "clustering: ",
        },
        None,
        "https://huggingface.co/nomic-ai/nomic-embed-text-v1.5",
    ),
    Family(
        r"modernbert-embed-(base|large)",
        "mean", True,
        {"query": "search_query: ", "document": "search_document: "},
        None,
        "https://huggingface.co/nomic-ai/modernbert-embed-base",
    ),
    Family(
        r"qwen3-embedding-",
        "lasttoken", True,
        {"query": "Instruct: {task}\nQuery:"},  # without a space, unlike E5's; documents raw
        WEB_SEARCH_TASK,
        "https://huggingface.co/Qwen/Qwen3-Embedding-0.6B",
    ),
    Family(
        r"embeddinggemma",
        None, True,  # two Dense modules stand between its mean and its normalization
        {"query": "task: {task} | query: ", "document": "title: none | text: "},
        "search result",  # others: question answering, fact checking, classification, clustering, ...
        "https://ai.google.dev/gemma/docs/embeddinggemma/model_card",
    ),
    Family(
        r"arctic-embed-(m|l)-v2",
        "cls", True,
        {"query": "query: "},
        None,
        "https://huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0",
    ),
    Family(
        r"arctic-embed-(xs|s|m|m-long|l)(-v1\.5)?$",
        "cls", True,
        {"query": "Represent this sentence for searching relevant passages: "},
        None,
        "https://huggingface.co/Snowflake/snowflake-arctic-embed-m-v1.5",
    ),
    Family(
        r"mxbai-embed-large",
        "cls", True,
        {"query": "Represent this sentence for searching relevant passages: "},
        None,
        "https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1",
    ),
    Family(
        r"gte-((base|large)-en-v1\.5|multilingual-base|modernbert-base)",
        "cls", True, {}, None, "https://huggingface.co/Alibaba-NLP/gte-modernbert-base",
    ),
    Family(r"(^|/)gte-(small|base|large)$", "mean", True, {}, None, "https://huggingface.co/thenlper/gte-base"),
    Family(
        r"granite-embedding-(?!reranker).*(english|multilingual)",
        "cls", True, {}, None, "https://huggingface.co/ibm-granite/granite-embedding-english-r2",
    ),
    Family(r"bge-m3", "cls", True, {}, None, "https://huggingface.co/BAAI/bge-m3"),
    Family(
        r"bge-(small|base|large)-zh",
        "cls", True,
        {"query": "为这个句子生成表示以用于检索相关文章："},
        None,
        "https://huggingface.co/BAAI/bge-large-zh-v1.5",
    ),
    Family(
        r"bge-(small|base|large)-en",
        "cls", True,
        {"query": "Represent this sentence for searching relevant passages: "},
        None,
        "https://huggingface.co/BAAI/bge-large-en-v1.5",
    ),
    Family(r"all-minilm-", "mean", True, {}, None, "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"),
    Family(r"paraphrase-(multilingual-)?minilm-", "mean", False, {}, None, "https://www.sbert.net"),
    Family(r"paraphrase-multilingual-mpnet", "mean", False, {}, None, "https://www.sbert.net"),
    Family(r"all-mpnet-base", "mean", True, {}, None, "https://www.sbert.net"),
)  # fmt: skip


def find_family(*names: str) -> Family | None:
    """The family that one of a model's names belongs to."""
    for name in names:
        for family in FAMILIES:
            if re.search(family.pattern, name, re.IGNORECASE):
                return family
    return None


NO_PROMPTS = Prompts({}, None, None, "none")


def choose_prompts(own: dict[str, str], own_default: str | None, family: Family | None, file: Path | None) -> Prompts:
    """The bundle's prompts: from `file`, else the model's own, else the family's, else none."""
    if file is not None:
        return read_prompts(file)
    # sentence-transformers writes empty "query" and "document" prompts into models that have none.
    if any(own.values()):
        return Prompts(dict(own), own_default, None, "model")
    if family is not None and family.prompts:
        return Prompts(dict(family.prompts), None, family.default_task, f"embedrt table: {family.source}")
    return NO_PROMPTS


def read_prompts(file: Path) -> Prompts:
    """Prompts of a JSON file: {"query": "...", ...}, or sentence-transformers' {"prompts": {...},
    "default_prompt_name": ...}, where "default_task" may stand besides.

    Raises:
        OptionError: the file cannot be read or is of another form.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as exc:
        raise OptionError(f"prompts file {file} cannot be read: {exc}") from exc
    if not isinstance(data, dict):
        raise OptionError(f'prompts file {file} must hold an object like {{"query": "query: "}}')
    whole: dict[str, Any] = data if isinstance(data.get("prompts"), dict) else {"prompts": data}
    unknown = sorted(set(whole) - {"prompts", "default_prompt_name", "default_task"})
    if unknown:
        raise OptionError(f"prompts file {file}: unknown key {unknown[0]!r}")
    texts = whole["prompts"]
    if not all(isinstance(text, str) for text in texts.values()):
        raise OptionError(f"prompts file {file}: every prompt must be a string")
    default, task = whole.get("default_prompt_name"), whole.get("default_task")
    if default is not None and default not in texts:
        raise OptionError(f"prompts file {file}: default_prompt_name {default!r} is not among the prompts")
    if task is not None and not isinstance(task, str):
        raise OptionError(f"prompts file {file}: default_task must be a string")
    return Prompts(texts, default, task, f"--prompts {file.name}")
