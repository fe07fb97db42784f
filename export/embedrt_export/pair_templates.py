"""How a language model that scores pairs reads one: its own chat template, or what its card says."""

from __future__ import annotations

from typing import Any

from embedrt.errors import UnsupportedModelError
from embedrt.heads import PairTemplate
from embedrt_export.source import ModelSource

QWEN3_TEMPLATE = PairTemplate(
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "Given a web search query, retrieve relevant passages that answer the query",
)
"""Of Qwen3-Reranker, as its card has it: https://huggingface.co/Qwen/Qwen3-Reranker-0.6B."""


def template_of(source: ModelSource, tokenizer: Any) -> PairTemplate:
    """How the model's own chat template puts a pair, or Qwen3-Reranker's card.

    Raises:
        UnsupportedModelError: nobody says it.
    """
    found = _chat_template(tokenizer)
    if found is not None:
        return found
    if "qwen3-reranker" in f"{source.name} {source.config.get('_name_or_path', '')}".casefold():
        return QWEN3_TEMPLATE
    raise UnsupportedModelError(
        f"{source.name}: its files do not say how it reads a pair: its chat template takes no messages of the roles "
        "query and document, as sentence-transformers writes them"
    )


def _chat_template(tokenizer: Any) -> PairTemplate | None:
    """The template rendered with marks, and taken apart at them; None where it does not put a pair."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    marks = {"query": "\ue000query\ue001", "document": "\ue000document\ue001"}
    messages = [{"role": role, "content": mark} for role, mark in marks.items()]
    instruction = {"role": "system", "content": "\ue000instruction\ue001"}

    def rendered(given: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True))

    try:
        plain, told = rendered(messages), rendered([instruction, *messages])
    except Exception:  # whatever a template's own code raises for roles that it does not know
        return None
    if any(text.count(mark) != 1 for text in (plain, told) for mark in marks.values()):
        return None
    takes = told.count(instruction["content"]) == 1
    text, _, after = (told if takes else plain).partition(marks["document"])
    if takes:
        # what stands at the instruction's place where there is none
        before, _, behind = text.partition(instruction["content"])
        bare = plain.partition(marks["document"])[0]
        fits = bare.startswith(before) and bare.endswith(behind) and after == plain.partition(marks["document"])[2]
        if not fits:
            return None
        default = bare[len(before) : len(bare) - len(behind)]
        text = f"{before}{{instruction}}{behind}"
    else:
        default = ""
    return PairTemplate(text.replace(marks["query"], "{query}") + "{document}", after, default)
