"""The card of a bundle on the hub: what it is, how to load it, and how near each variant is to the model. Pure."""

from __future__ import annotations

import json

from embedrt.heads import OUTPUTS
from embedrt.manifest import Manifest, OutputParity, ParitySummary, outputs_of

_ROWS = (
    ("cosine, mean", "cosine_mean", "{:.7f}"),
    ("cosine, 1st percentile", "cosine_p01", "{:.7f}"),
    ("cosine, min", "cosine_min", "{:.7f}"),
    ("cosine less the corpus mean, min", "centered_min", "{:.7f}"),
    ("largest difference", "max_abs_diff", "{:.1e}"),
    ("Spearman of all pairs", "spearman", "{:.7f}"),
    ("top-10 overlap", "top10_overlap", "{:.4f}"),
)


_TASKS = {  # what the hub calls it, and its tags
    "pipeline": ("sentence-similarity", ("sentence-similarity", "feature-extraction")),
    "scores": ("text-ranking", ("text-ranking", "reranker")),
    "sparse": ("feature-extraction", ("sparse", "feature-extraction")),
    "tokens": ("feature-extraction", ("multi-vector", "late-interaction", "feature-extraction")),
}
_FIGURES = {  # of outputs of other kinds; others that a report has are in its file
    "max_abs_diff": ("largest difference", "{:.1e}"),
    "max_rel_diff": ("the same, by the largest weight", "{:.1e}"),
    "top10_overlap": ("the ten strongest words, shared", "{:.4f}"),
    "score_error": ("largest error of a score per query token", "{:.1e}"),
    "correlation": ("correlation", "{:.7f}"),
    "kendall_apart": ("Kendall's tau, of documents that are apart", "{:.4f}"),
    "kendall": ("Kendall's tau, of all", "{:.4f}"),
    "cosine_mean": ("cosine, mean", "{:.7f}"),
    "cosine_p01": ("cosine, 1st percentile", "{:.7f}"),
    "cosine_min": ("cosine, min", "{:.7f}"),
}


def model_card(manifest: Manifest, repo: str) -> str:
    """Markdown with the hub's front matter.

    Args:
        manifest: of the bundle, whatever it gives.
        repo: where the card will lie, for its example.
    """
    given = outputs_of(manifest)
    tags = ", ".join(dict.fromkeys(tag for name in given for tag in _TASKS[name][1]))
    lines = [
        "---",
        "library_name: embedrt",
        f"pipeline_tag: {_TASKS[given[0]][0]}",
        *([f"base_model: {json.dumps(manifest.source.model)}"] if "/" in manifest.source.model else []),
        f"tags: [embedrt, onnx, {tags}]",
        "---",
        "",
        f"# {manifest.name}, an embedrt bundle",
        "",
        f"{_origin(manifest)} as ONNX, in {_and(list(manifest.variants))}.",
        "",
        "```python",
        *_code(manifest, repo, given),
        "```",
        "",
        f"Gives {_and([OUTPUTS[name][0] for name in given])}. {_facts(manifest)}",
    ]
    if manifest.prompts.texts:
        lines += ["", "| prompt | |", "|---|---|"]
        lines += [
            f"| {name} | `{json.dumps(text, ensure_ascii=False)}` |" for name, text in manifest.prompts.texts.items()
        ]
    return "\n".join(lines + _parity(manifest)) + "\n"


def _code(manifest: Manifest, repo: str, given: tuple[str, ...]) -> list[str]:
    """The shortest program with the class that opens such a bundle."""
    name, texts = json.dumps(repo), _examples(manifest)
    several = json.dumps(texts, ensure_ascii=False)
    if len(given) > 1:
        outputs = json.dumps(["dense" if one == "pipeline" else one for one in given])
        return ["from embedrt import Model", "", f"found = Model({name}).encode({several}, outputs={outputs})"]
    kind, result = OUTPUTS[given[0]][1], "found"
    if manifest.scores is None:
        call, result = f"encode({several})", "vectors"
    elif len(manifest.scores.labels) > 1:
        call = f"predict([{several}])"
    else:
        call = f"rank({json.dumps(texts[0], ensure_ascii=False)}, {several})"
    return [f"from embedrt import {kind}", "", f"{result} = {kind}({name}).{call}"]


def _facts(manifest: Manifest) -> str:
    """Sizes and limits, in a sentence."""
    found = [f"texts of up to {manifest.max_tokens} tokens"]
    if manifest.pipeline is not None:
        pipeline = manifest.pipeline
        found = [f"vectors of {pipeline.dimension} dimensions", *found, f"pooling {' + '.join(pipeline.pooling)}",
                 f"similarity {manifest.similarity}"]  # fmt: skip
    elif manifest.scores is not None:
        found = [f"pairs of up to {manifest.max_tokens} tokens, labels {', '.join(manifest.scores.labels)}"]
    text = ", ".join(found)
    return f"{text[0].upper()}{text[1:]}."


def _parity(manifest: Manifest) -> list[str]:
    proven = {name: variant.parity for name, variant in manifest.variants.items() if variant.parity is not None}
    found: list[str] = []
    if proven:
        texts = next(iter(proven.values())).num_texts
        found += ["", f"Against PyTorch in fp32, {texts} texts in many scripts:", ""]
        found += _table(list(proven))
        for label, field, form in _ROWS:
            found.append(_row(label, [_cell(parity, field, form) for parity in proven.values()]))
    for output in outputs_of(manifest):
        others = {name: one.outputs[output] for name, one in manifest.variants.items() if output in one.outputs}
        found += _other_parity(output, others) if others else []
    if not found:
        return []
    return ["", "## How near to the model", *found, "", "`embedrt verify` repeats this on your machine."]


def _other_parity(output: str, proven: dict[str, OutputParity]) -> list[str]:
    count, noun = next(iter(proven.values())).num_inputs, "pairs" if output == "scores" else "texts"
    head = ["", f"{OUTPUTS[output][0].capitalize()}, against the model's own library in fp32, {count} {noun}:", ""]
    rows = [
        _row(label, [form.format(one.figures[name]) if name in one.figures else "" for one in proven.values()])
        for name, (label, form) in _FIGURES.items()
        if any(name in one.figures for one in proven.values())
    ]
    return [*head, *_table(list(proven)), *rows]


def _table(names: list[str]) -> list[str]:
    return ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]


def _row(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


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
