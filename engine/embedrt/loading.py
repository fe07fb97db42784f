"""Opening a bundle: what its caller asked for, and what is loaded then.

What a large model's load waits for goes on side by side: hashing its files, loading its weights, reading its tokenizer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from embedrt.bundle import Bundle
from embedrt.errors import OptionError
from embedrt.executors import Executor
from embedrt.executors.choice import Chosen, check_executor, choose_variant, load_executor
from embedrt.executors.devices import choose_device
from embedrt.machine import available_threads
from embedrt.opening import open_bundle
from embedrt.options import whole_number
from embedrt.pictures.attention_pooling import AttentionPooling
from embedrt.pooling import Dense, load_attention, load_dense
from embedrt.threads import begin
from embedrt.tokenization import TextTokenizer

T = TypeVar("T")

_HEAD_START_S = 0.04


@dataclass(frozen=True)
class LoadOptions:
    """How a bundle is to be opened: arguments of `Embedder`, as they were given."""

    variant: str = "auto"
    device: str = "auto"
    executor: str = "auto"
    isa: str = "auto"
    num_threads: int | None = None
    pooling: str | None = None
    packed_cache: bool | str | os.PathLike[str] = False
    verify_hashes: bool = True

    def __post_init__(self) -> None:
        whole_number("num_threads", self.num_threads)
        for name in ("variant", "device", "executor", "isa", "pooling"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "pooling" and value is None):
                raise OptionError(f"{name} must be a string, not {value!r}")
        if not isinstance(self.packed_cache, (bool, str, os.PathLike)):
            raise OptionError(f"packed_cache must be True, False or a folder, not {self.packed_cache!r}")


@dataclass(frozen=True)
class LoadedTower:
    """The encoder of pictures beside that of texts, ready to run."""

    bundle: Bundle  # the tower's
    chosen: Chosen
    dense: Dense
    attention: AttentionPooling | None

    @property
    def executor(self) -> Executor:
        """What runs the encoder."""
        return self.chosen.executor


@dataclass(frozen=True)
class LoadedModel:
    """One variant of a bundle, ready to run, for any kind of output. Several embedders may share one."""

    bundle: Bundle
    asked: LoadOptions
    variant: str
    device: str  # "cpu" or "cuda"
    num_threads: int
    tokenizer: TextTokenizer
    chosen: Chosen
    pictures: LoadedTower | None = None  # where the bundle has a tower for them
    closed: Event = field(default_factory=Event)

    def close(self) -> None:
        """Free the weights, for all who share them."""
        self.closed.set()
        self.executor.close()
        if self.pictures is not None:
            self.pictures.executor.close()

    @property
    def executor(self) -> Executor:
        """What runs the encoder."""
        return self.chosen.executor


def find_bundle(bundle: object) -> Bundle:
    """The bundle itself, or the one at a path.

    Raises:
        OptionError: neither a bundle nor a path.
        BundleError: there is none that can be used.
    """
    if isinstance(bundle, Bundle):
        return bundle
    if isinstance(bundle, (str, os.PathLike)):
        return open_bundle(os.fspath(bundle))
    raise OptionError(f"bundle must be the path of a bundle, not {type(bundle).__name__}")


def load_model(bundle: Bundle, asked: LoadOptions) -> LoadedModel:
    """Load what `asked` means for this bundle on this machine. Raises what `Embedder` says."""
    check_executor(asked.executor)
    native_only = asked.executor == "native" and asked.device == "auto"
    device = "cpu" if native_only else choose_device(asked.device)
    variant = choose_variant(bundle, asked.variant, device)
    num_threads = whole_number("num_threads", asked.num_threads) or available_threads()
    cache = asked.packed_cache
    load = partial(
        load_executor,
        variant=variant,
        device=device,
        num_threads=num_threads,
        executor=asked.executor,
        isa=asked.isa,
        packed_cache=cache if isinstance(cache, bool) else Path(cache),
        check_packed=asked.verify_hashes,
    )
    tokenizer, chosen = load_beside(bundle, variant, partial(load, bundle), verify_hashes=asked.verify_hashes)
    tower = bundle.pictures
    pictures = (
        None if tower is None else LoadedTower(tower, load(tower), load_dense(tower, None), load_attention(tower))
    )
    return LoadedModel(bundle, asked, variant, device, num_threads, tokenizer, chosen, pictures)


def load_beside(
    bundle: Bundle, variant: str, load_executor: Callable[[], T], *, verify_hashes: bool
) -> tuple[TextTokenizer, T]:
    """The bundle's tokenizer, and what `load_executor` returns, while the variant's files are checked.

    Where the tokenizers library reads it, it holds the GIL throughout (0.6 s for XLM-R's 250,002 tokens). So the other
    two get a head start then, until they are in C code that does not need it: about what they need for that, and no
    more where they are done.

    Raises:
        BundleIntegrityError: a file is damaged; this rather than what the others make of it.
        BundleFormatError: tokenizers cannot read the tokenizer.
    """
    check = bundle.check_hashes if verify_hashes else bundle.check_sizes
    with ThreadPoolExecutor(2, thread_name_prefix="embedrt-load") as beside:
        checked = begin(beside, check, variant)
        executor = begin(beside, load_executor)
        try:
            both: tuple[Future[Any], ...] = (checked, executor)
            return _read_tokenizer(bundle, partial(wait, both, timeout=_HEAD_START_S)), executor.result()
        finally:
            checked.result()


def _read_tokenizer(bundle: Bundle, before_library: Callable[[], object]) -> TextTokenizer:
    manifest = bundle.manifest
    rules = manifest.table if manifest.pictures is None else manifest.pictures.texts
    path, vocab_size = bundle.path(manifest.tokenizer), manifest.architecture.vocab_size
    return TextTokenizer(path, manifest.max_tokens, vocab_size, rules, before_library)
