"""One short text by one native call: the bits, errors and lifetime of the way that several texts go."""

from __future__ import annotations

import random
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import EmbedrtError, ExecutorError, InputError, NonFiniteError, OptionError, TokenLimitError
from embedrt.executors import text_call
from embedrt.executors.library import load_library
from embedrt.executors.text_call import TextCall
from embedrt.opening import open_bundle

TEXTS = (
    "fox",
    "",
    " ",
    "the water is light, and the river a stone",
    "서울은 대한민국의 수도이다.",
    "İstanbul ﬁn naïve e\u0301",
    "a\u0000b",
    "[MASK] of [SEP]",
    "x" * 256,
    "x" * 257,
    "fox " * 60,  # over the limit of 48 tokens
    "the " * 46,  # at the limit
    "the " * 47,
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"truncate_dim": 5},
    {"truncate_dim": 16, "normalize_embeddings": True},
    {"normalize_embeddings": True},
    {"prompt": "query: "},
    {"prompt": "q" * 300},
    {"prompt_name": "document"},
    {"batch_size": 3},
)
OTHER: tuple[dict[str, Any], ...] = (
    {"precision": "int8"},
    {"precision": "ubinary"},
    {"output_value": "token_embeddings"},
    {"on_overflow": "windows"},
)


class Spied:
    """How often the call gave a vector."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.enabled = True
        vector = TextCall.vector

        def spied(call: TextCall, text: str) -> Any:
            found = vector(call, text) if self.enabled else None
            self.count += found is not None
            return found

        monkeypatch.setattr(TextCall, "vector", spied)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Without it: the way of several texts."""
        self.enabled = False
        yield
        self.enabled = True


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spied:
    """Without the short way in Python, so that there are only this one and that of several texts."""
    monkeypatch.setattr("embedrt.windows.WindowRunner.run_one", lambda *_: None)
    return Spied(monkeypatch)


@pytest.fixture
def model(tiny_bundle: Path, native_isas: dict[str, bool]) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, variant="int8", executor="native", num_threads=1) as made:
        yield made


def outcome(encode: Callable[..., Any], text: Any, **options: Any) -> tuple[Any, ...]:
    """Bits and shape, or the error."""
    try:
        found = encode(text, **options)
    except EmbedrtError as exc:
        return type(exc), str(exc)
    return found.tobytes(), found.shape, found.dtype, found.flags.writeable, found.flags.c_contiguous


@pytest.mark.filterwarnings("ignore:.*cut:embedrt.TruncationWarning")
@pytest.mark.parametrize("kind", ["encode", "encode_query", "encode_document"])
def test_it_has_the_bits_of_the_way_of_several(model: Embedder, spied: Spied, kind: str) -> None:
    encode = getattr(model, kind)
    for options in OPTIONS + OTHER:
        spied.count = 0
        for text in TEXTS:
            found = outcome(encode, text, **options)
            with spied.off():
                assert found == outcome(encode, text, **options), (text, options)
        long = len(options.get("prompt", "")) > 256
        # Those with an added token, U+0000, a composed accent, too many characters or tokens go the other way.
        assert spied.count == 0 if options in OTHER or long else 5 <= spied.count <= 9, options


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "cls"), ("bert", "lasttoken"), ("bert", "max"), ("xlmr", None)]
)
def test_poolings_and_families(
    make_bundle: Callable[..., Path], spied: Spied, family: str, pooling: str | None
) -> None:
    bundle = make_bundle(family, variants=("fp32", "int8"))
    with Embedder(bundle, variant="int8", executor="native", pooling=pooling, num_threads=2) as model:
        for text in TEXTS[:6]:
            found = outcome(model.encode, text)
            with spied.off():
                assert found == outcome(model.encode, text)
        assert bool(spied.count) == (pooling != "max")


def test_texts_of_all_sorts(model: Embedder, spied: Spied) -> None:
    rng = random.Random(5)
    letters = [chr(i) for i in range(1, 0x3000) if unicodedata.category(chr(i)) != "Cs"]
    for _ in range(400):
        some = rng.choices(letters, k=rng.randint(1, 30))
        text = "".join(c + " " * (rng.random() < 0.3) for c in some)
        found = outcome(model.encode, text)
        with spied.off():
            assert found == outcome(model.encode, text), text
    assert spied.count > 50


def test_onnx_runtime_and_integer_codes_have_none(tiny_bundle: Path, spied: Spied) -> None:
    with Embedder(tiny_bundle, variant="int8", executor="onnxruntime", num_threads=1) as model:
        model.encode("fox")
    assert spied.count == 0


def test_what_is_wrong_is_said_as_ever(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.encode("fox").shape == (model.dimension,)
    with pytest.raises(InputError, match="lone surrogate at character 1"):
        model.encode("a\ud800")
    with pytest.raises(TokenLimitError):
        model.encode("fox " * 60, on_overflow="error")
    with pytest.raises(OptionError, match="truncate_dim must be"):
        model.encode("fox", truncate_dim=True)
    model.encode("fox", truncate_dim=1)
    with pytest.raises(OptionError, match="truncate_dim must be"):  # equal to what was just taken
        model.encode("fox", truncate_dim=True)
    with pytest.raises(OptionError, match="prompt must be a string, not list"):  # which has no hash
        model.encode("fox", prompt=["a"])
    with pytest.raises(OptionError, match="unknown option 'kind'"):
        model.encode("fox", kind="query")
    model.close()
    with pytest.raises(ExecutorError, match="was closed"):
        model.encode("fox")


def test_a_vector_that_is_not_finite_is_refused(tiny_bundle: Path, tmp_path: Path, spied: Spied) -> None:
    spoilt = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    tensors = open_bundle(spoilt).variant("int8").tensors
    place = next(tensor for tensor in tensors if tensor.name == "embeddings.position")
    with (spoilt / place.path).open("r+b") as stream:
        stream.seek(place.offset)
        stream.write(np.full(place.shape, np.nan, place.dtype).tobytes())
    model = Embedder(spoilt, variant="int8", executor="native", verify_hashes=False)
    with model, pytest.raises(NonFiniteError):
        model.encode("fox")
    assert spied.count == 0


def test_a_token_that_the_table_lacks_goes_the_other_way(model: Embedder, spied: Spied) -> None:
    model.encode("fox")
    assert spied.count == 1
    model.tokenizer.num_rows = max(model.tokenize(["fox"])[0])
    fewer = model.with_options()
    with pytest.raises(InputError, match="the model's table has"):
        fewer.encode("fox")
    assert spied.count == 1


def test_calls_finish_when_another_thread_closes(tiny_bundle: Path, native_isas: dict[str, bool]) -> None:
    for _ in range(20):
        model = Embedder(tiny_bundle, variant="int8", executor="native", num_threads=1)
        wanted, faults, started = model.encode("fox").tobytes(), [], threading.Barrier(4)

        def loop(model: Embedder = model, wanted: bytes = wanted, faults: list[str] = faults, started: Any = started):
            started.wait()
            try:
                while model.encode("fox").tobytes() == wanted:
                    pass
                faults.append("other bits")
            except ExecutorError as exc:
                if "closed" not in str(exc):
                    faults.append(str(exc))

        threads = [threading.Thread(target=loop) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        model.close()
        for thread in threads:
            thread.join(30)
        assert not faults
        assert not any(thread.is_alive() for thread in threads)


def test_vectors_are_the_callers_own(model: Embedder, spied: Spied) -> None:
    first, second = model.encode("fox"), model.encode("fox")
    first[:] = 0
    assert second.any()
    assert spied.count == 2


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 127, 128, 129, 136, 384, 385, 768, 1000, 1024, 4096])
def test_the_norm_has_numpys_bits(width: int, native_isas: dict[str, bool]) -> None:
    assert text_call._normalizes_alike(load_library(), width)


def test_where_numpy_adds_in_another_order_there_is_none(
    model: Embedder, spied: Spied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(rows: Any) -> Any:
        return rows / np.sqrt((rows * rows)[:, ::-1].cumsum(axis=1)[:, -1:])

    text_call._normalizes_alike.cache_clear()
    monkeypatch.setattr(text_call, "l2_normalize", backwards)
    try:
        assert np.isfinite(model.encode("fox")).all()
        assert spied.count == 0
    finally:
        text_call._normalizes_alike.cache_clear()
