"""The card of a bundle on the hub: what it is, how to load it, and how near each variant is to the model. Pure."""

from __future__ import annotations

import json

from embedrt.bundle import Manifest, ParitySummary, pipeline_of

_ROWS = (
    ("cosine, mean", "cosine_mean", "{:.7f}"),
    ("cosine, 1st percentile", "cosine_p01", "{:.7f}"),
    ("cosine, min", "cosine_min", "{:.7f}"),
    ("cosine less the corpus mean, min", "centered_min", "{:.7f}"),
    ("largest difference", "max_abs_diff", "{:.1e}"),
    ("Spearman of all pairs", "spearman", "{:.7f}"),
    ("top-10 overlap", "top10_overlap", "{:.4f}"),
)


def model_card(manifest: Manifest, repo: str) -> str:
    """Markdown with the hub's front matter.

    Args:
        manifest: of the bundle.
        repo: where the card will lie, for its example.
    """
    lines = [
        "---",
        "library_name: embedrt",
        "pipeline_tag: sentence-similarity",
        *([f"base_model: {json.dumps(manifest.source.model)}"] if "/" in manifest.source.model else []),
        "tags: [embedrt, onnx, sentence-similarity, feature-extraction]",
        "---",
        "",
        f"# {manifest.name}, an embedrt bundle",
        "",
        f"{_origin(manifest)} as ONNX, in {_and(list(manifest.variants))}.",
        "",
        "```python",
        "from embedrt import Embedder",
        "",
        f"vectors = Embedder({json.dumps(repo)}).encode({json.dumps(_examples(manifest), ensure_ascii=False)})",
        "```",
        "",
        f"Vectors of {pipeline_of(manifest).dimension} dimensions, texts of up to {manifest.max_tokens} tokens, "
        f"pooling {' + '.join(pipeline_of(manifest).pooling)}, similarity {manifest.similarity}.",
    ]
    if manifest.prompts.texts:
        lines += ["", "| prompt | |", "|---|---|"]
        lines += [
            f"| {name} | `{json.dumps(text, ensure_ascii=False)}` |" for name, text in manifest.prompts.texts.items()
        ]
    return "\n".join(lines + _parity(manifest)) + "\n"


def _parity(manifest: Manifest) -> list[str]:
    proven = {name: variant.parity for name, variant in manifest.variants.items() if variant.parity is not None}
    if not proven:
        return []
    texts = next(iter(proven.values())).num_texts
    head = ["", "## How near to the model", "", f"Against PyTorch in fp32, {texts} texts in many scripts:", ""]
    table = ["| | " + " | ".join(proven) + " |", "|---" * (len(proven) + 1) + "|"]
    for label, field, form in _ROWS:
        table.append(f"| {label} | " + " | ".join(_cell(parity, field, form) for parity in proven.values()) + " |")
    return [*head, *table, "", "`embedrt verify` repeats this on your machine."]


def _cell(parity: ParitySummary, field: str, form: str) -> str:
    return form.format(getattr(parity, field))


def _origin(manifest: Manifest) -> str:
    model, revision = manifest.source.model, manifest.source.revision
    if "/" not in model:
        return model
    link = f"[{model}](https://huggingface.co/{model})"
    return link if revision is None else f"{link} at `{revision[:12]}`"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _examples(manifest: Manifest) -> list[str]:
    large = manifest.architecture.vocab_size > 100_000  # such vocabularies are of many languages
    return ["서울의 날씨", "Weather in Seoul"] if large else ["How do I reset it?", "The weather in Seoul"]
