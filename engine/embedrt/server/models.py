"""The models that are served: their names, and how they are loaded and proven."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.batching import BatchLimits
from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.errors import ExecutorError, OptionError
from embedrt.facts import ModelFacts
from embedrt.heads import OUTPUTS
from embedrt.machine import available_threads
from embedrt.manifest import Manifest, pipeline_of
from embedrt.opening import open_bundle
from embedrt.options import Kind
from embedrt.parity.files import read_parity_files
from embedrt.reranker import Reranker
from embedrt.server.background import Background
from embedrt.server.batches import BatchListener
from embedrt.server.cache import RowCache
from embedrt.server.engine import ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.fairlock import FairLock
from embedrt.server.inference import of_embedder
from embedrt.server.outputs import ServedOutputs, of_outputs, warm_up_outputs
from embedrt.server.pairs import PairModel, Scores, warm_up_pairs
from embedrt.server.pins import against_pins, parse_pins
from embedrt.server.policy import QueueLimits
from embedrt.server.pool import Pool
from embedrt.server.proof import Proof, outputs_told, pairs_of, texts_of
from embedrt.server.settings import Settings

_KINDS: dict[str, Kind] = {"query": "query", "document": "document"}
_NOUNS = {name: noun for name, (noun, _) in OUTPUTS.items()}
_ROUTES = {
    "pipeline": "/embed or /v1/embeddings",
    "sparse": "/embed_sparse",
    "tokens": "/embed_all",
    "scores": "/rerank or /predict",
}
# A variant may differ from the reference as much as it did when the bundle was made, and by rounding besides.
_COSINE_SLACK = 1e-4
_COSINE_WITHOUT_REPORT = 0.99


@dataclass(frozen=True)
class NamedBundle:
    """A bundle and the name that clients call it by."""

    name: str
    bundle: Bundle


@dataclass(frozen=True)
class Ranker:
    """A reranker that is served: its engine, and what the engine runs."""

    engine: ModelEngine
    model: PairModel


def open_bundles(specs: tuple[str, ...]) -> list[NamedBundle]:
    """Open "PATH" or "NAME=PATH" each.

    Raises:
        OptionError: two have one name, or a name has a colon.
        BundleError: a bundle cannot be used.
    """
    found: dict[str, NamedBundle] = {}
    for spec in specs:
        name, _, path = spec.rpartition("=") if not Path(spec).exists() else ("", "", spec)
        bundle = open_bundle(path)
        name = name or bundle.manifest.name
        if ":" in name:
            raise OptionError(f"the name {name!r} has a colon, which clients use for {name}:query; give NAME=PATH")
        if name in found:
            raise OptionError(f"two models are called {name!r}; give NAME=PATH")
        found[name] = NamedBundle(name, bundle)
    return list(found.values())


def parse_aliases(specs: tuple[str, ...], bundles: list[NamedBundle]) -> dict[str, str]:
    """Names by alias, out of "ALIAS=NAME" each; NAME may be NAME:query or NAME:document, and the name of a folder.

    Raises:
        OptionError: not of that form, no model has the name, or something else has the alias.
    """
    names = {named.name for named in bundles}
    folders = {named.bundle.root.name: named.name for named in reversed(bundles)}
    found: dict[str, str] = {}
    for spec in specs:
        alias, sign, name = (part.strip() for part in spec.partition("="))
        if not (alias and sign and name):
            raise OptionError(f"alias must be ALIAS=NAME, not {spec!r}")
        base, colon, kind = name.partition(":")
        base = base if base in names else folders.get(base, base)
        if base not in names or (colon and kind not in _KINDS):
            raise OptionError(f"alias {spec!r}: there is no model {name!r}; there are: {', '.join(sorted(names))}")
        meant = base + colon + kind
        if alias in names or found.get(alias, meant) != meant:
            raise OptionError(f"alias {spec!r}: the name {alias!r} is taken")
        found[alias] = meant
    return found


class Models:
    """Engines by name. Empty until `load` has run, which may be in another thread."""

    def __init__(self) -> None:
        self._engines: dict[str, ModelEngine] = {}
        self._aliases: dict[str, str] = {}
        self.loaded = False
        self.created = int(time.time())
        self.identities: dict[str, str] = {}  # of what requests get that say no more than a name, once it is loaded

    def __iter__(self) -> Iterator[ModelEngine]:
        """Rerankers behind the others."""
        return iter(self._engines.values())

    @property
    def names(self) -> list[str]:
        """What clients may call, the default first: NAME, and NAME:query, NAME:document where those differ; aliases."""
        every = []
        for engine in self:
            kinds = [f"{engine.name}:{kind}" for kind in _KINDS] * _has_kinds(engine.embedder.bundle.manifest)
            every += [engine.name, *kinds]
        return every + list(self._aliases) * bool(every)

    def find(self, name: str | None, *wanted: str) -> tuple[ModelEngine, Kind]:
        """The engine and the sort of text that `name` says; for None the first that gives what is wanted.

        Args:
            name: NAME, NAME:query, NAME:document, an alias, a source's name, or that of a bundle's folder.
            wanted: outputs by their names in `heads.OUTPUTS`, any of which will do; without any, every model does.

        Raises:
            ServeError: there is none such, it gives something else, or nothing is loaded yet.
        """
        if not self._engines:
            raise ServeError("not_ready", "the models are still loading", headers={"Retry-After": "5"})
        engine, kind = self._first(wanted) if name is None else self._named(name)
        if wanted and not set(wanted) & set(engine.fields):
            what, routes = (" and ".join(table[one] for one in engine.fields) for table in (_NOUNS, _ROUTES))
            raise ServeError(
                "wrong_model", f"this needs a model of {_NOUNS[wanted[0]]}, and {engine.name} gives {what}: {routes}"
            )
        return engine, kind

    def find_pairs(self, name: str | None) -> Ranker:
        """The reranker of that name; the first for None.

        Raises:
            ServeError: as `find` says.
        """
        engine, kind = self.find(name, "scores")
        if kind != "encode":
            raise self._unknown(name)
        model: object = engine.embedder
        assert isinstance(model, PairModel)
        return Ranker(engine, model)

    def _first(self, wanted: tuple[str, ...]) -> tuple[ModelEngine, Kind]:
        """The first engine that gives something of it; the first of all where none does."""
        every = list(self)
        fit = (one for one in every if not wanted or set(wanted) & set(one.fields))
        return next(fit, every[0]), "encode"

    def _named(self, name: str) -> tuple[ModelEngine, Kind]:
        base, colon, kind = self._aliases.get(name, name).partition(":")
        base = self._aliases.get(base, base)
        engine = self._engines.get(base) or self._by_origin(base)
        if engine is None or (colon and kind not in _KINDS):
            raise self._unknown(name)
        return engine, _KINDS.get(kind, "encode")

    def _unknown(self, name: str | None) -> ServeError:
        there = ", ".join(self.names)
        return ServeError("model_not_found", f"there is no model {name!r}; there are: {there}", param="model")

    def identity(self, name: str, settings: Settings) -> str:
        """Of what a request gets that says no more than a name; ServeError as `find`."""
        engine, kind = self.find(name)
        return str(engine.embedder.identify(kind=kind, on_overflow=settings.default_overflow))

    def _by_origin(self, name: str) -> ModelEngine | None:
        """The first model whose source has that name ("intfloat/multilingual-e5-large"), else whose bundle's folder."""
        bundles = [(engine, engine.embedder.bundle) for engine in self]
        by_source = (engine for engine, bundle in bundles if bundle.manifest.source.model == name)
        by_folder = (engine for engine, bundle in bundles if bundle.root.name == name)
        return next(by_source, None) or next(by_folder, None)

    def load(
        self,
        bundles: list[NamedBundle],
        settings: Settings,
        pool: Pool,
        listener: BatchListener | None,
        background: Background | None = None,
    ) -> None:
        """Load and warm up every model; on any failure none is served.

        Raises:
            EmbedrtError: a model cannot be loaded, or does not give the vectors its bundle keeps.
        """
        self._aliases = parse_aliases(settings.alias, bundles)
        threads = max(1, (settings.threads or available_threads()) // settings.workers)
        turn: AbstractContextManager[object] | None = None
        if len(bundles) > 1 and settings.share_threads:
            turn = FairLock()
        elif len(bundles) > 1:
            threads = max(1, threads // len(bundles))
        embedders = sum(named.bundle.manifest.pipeline is not None for named in bundles)
        cache_bytes = int(settings.cache_mb * 1e6 / settings.workers / max(1, embedders))
        shared = {"pool": pool, "turn": turn, "listener": listener, "background": background}
        for named in sorted(bundles, key=lambda one: one.bundle.manifest.scores is not None):
            manifest = named.bundle.manifest
            if manifest.scores is not None:
                self._engines[named.name] = _load_pairs(named, settings, threads, **shared)
            elif manifest.sparse is not None or manifest.tokens is not None:
                self._engines[named.name] = _load_outputs(named, settings, threads, cache_bytes, **shared)
            else:
                self._engines[named.name] = _load_embedder(named, settings, threads, cache_bytes, **shared)
        self.identities = {name: self.identity(name, settings) for name in self.names}
        if (wrong := against_pins(parse_pins(settings.identity), self.identities)) is not None:
            raise OptionError(wrong)
        self.loaded = True

    def stop(self) -> None:
        """Stop every engine."""
        for engine in self:
            engine.stop()
        self._engines.clear()


def _has_kinds(manifest: Manifest) -> bool:
    """Whether queries and documents are read in different ways."""
    table = manifest.sparse is not None and manifest.sparse.table is not None
    return manifest.scores is None and (bool(manifest.prompts.texts) or manifest.tokens is not None or table)


def _load_embedder(
    named: NamedBundle, settings: Settings, threads: int, cache_bytes: int, **shared: Any
) -> ModelEngine:
    """An embedder, warmed up; `shared` is what all engines have."""
    embedder = Embedder(named.bundle, **_how_to_load(settings, threads))
    warm_up(embedder, settings.batch_tokens)
    return ModelEngine(
        named.name,
        embedder,
        of_embedder(embedder),
        _queue_limits(settings, embedder.batch_limits),
        divides=_divides(embedder, shared["turn"]),
        proof=Proof(embedder, settings.proof_every_s, texts_of),
        cache=RowCache(cache_bytes) if cache_bytes else None,
        **shared,
    )


def _load_outputs(named: NamedBundle, settings: Settings, threads: int, cache_bytes: int, **shared: Any) -> ModelEngine:
    """A model of sparse vectors or vectors of tokens, and dense ones where it has them, loaded once and warmed up."""
    how, is_dense = _how_to_load(settings, threads), named.bundle.manifest.pipeline is not None
    if is_dense:
        embedder = Embedder(named.bundle, **how)
        outputs = ServedOutputs.sharing(embedder)
        warm_up(embedder, settings.batch_tokens)
    else:
        outputs = ServedOutputs(named.bundle, **how)
    warm_up_outputs(outputs, settings.batch_tokens)
    return ModelEngine(
        named.name,
        embedder if is_dense else outputs,  # type: ignore[arg-type]  # an embedder to its engine
        of_outputs(outputs, of_embedder(embedder) if is_dense else None),
        _queue_limits(settings, outputs.batch_limits),
        divides=_divides(outputs, shared["turn"]),
        outputs=outputs,
        proof=Proof(outputs, settings.proof_every_s, outputs_told),
        cache=RowCache(cache_bytes) if cache_bytes and is_dense else None,
        **shared,
    )


def _load_pairs(named: NamedBundle, settings: Settings, threads: int, **shared: Any) -> ModelEngine:
    """A reranker, warmed up; `shared` is what all engines have."""
    model = PairModel(Reranker(named.bundle, **_how_to_load(settings, threads)))
    scores = Scores(model)
    warm_up_pairs(model, settings.batch_tokens)
    return ModelEngine(
        named.name,
        model,  # type: ignore[arg-type]  # an embedder to its engine
        lambda _: scores,
        _queue_limits(settings, model.batch_limits),
        divides=_divides(model.reranker, shared["turn"]),
        proof=Proof(model.reranker, settings.proof_every_s, pairs_of),
        **shared,
    )


def _how_to_load(settings: Settings, threads: int) -> dict[str, Any]:
    """Arguments of an Embedder or a Reranker."""
    return {
        "variant": settings.variant,
        "device": settings.device,
        "executor": settings.executor,
        "isa": settings.isa,
        "num_threads": threads,
        "packed_cache": (settings.packed_cache and settings.packed_dir) or settings.packed_cache,
        "verify_hashes": settings.verify_hashes,
    }


def _divides(model: ModelFacts, turn: object | None) -> bool:
    """Whether two batches of the model may run side by side: models that take turns have all threads in each."""
    return turn is None and model.executor == "native" and model.num_threads > 1


def _queue_limits(settings: Settings, batches: BatchLimits) -> QueueLimits:
    return QueueLimits(
        batch_tokens=settings.batch_tokens,
        batch_texts=batches.max_texts,
        overhead_tokens=batches.overhead_tokens if batches.pads else None,
        queue_tokens=settings.queue_tokens,
    )


def warm_up(embedder: Embedder, batch_tokens: int) -> None:
    """Embed a few of the bundle's parity texts and compare with the vectors it keeps; then run one full batch.

    Raises:
        ExecutorError: a vector is not what it was when the bundle was made.
    """
    manifest = embedder.bundle.manifest
    if embedder.pooling == pipeline_of(manifest).pooling:
        kept = read_parity_files(embedder.bundle)
        count = min(4, len(kept.texts))
        got = embedder.encode_detailed(list(kept.texts[:count])).embeddings
        parity = embedder.bundle.variant(embedder.variant).parity
        least = parity.cosine_min - _COSINE_SLACK if parity is not None else _COSINE_WITHOUT_REPORT
        for i, (vector, wanted) in enumerate(zip(got, kept.vectors, strict=False)):
            norms = float(np.linalg.norm(vector)) * float(np.linalg.norm(wanted))
            cosine = float(vector @ wanted) / max(norms, 1e-12)
            if cosine < least:
                raise ExecutorError(
                    f"{manifest.name} {embedder.variant}: warm-up text {i} has cosine {cosine:.6f} with the vector "
                    f"that the bundle keeps, and {least:.6f} is wanted; run 'embedrt verify {embedder.bundle.root}'"
                )
    width = min(embedder.max_tokens, batch_tokens)
    full = [np.zeros(width, np.int32)] * max(1, batch_tokens // width)
    embedder.embed_tokens(full, embedder.resolve(prompt=""))
