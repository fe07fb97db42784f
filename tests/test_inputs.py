"""Every container of texts that users have, in every method; and the containers that only look like one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow
import pytest

from embedrt import Embedder, InputTypeError, OptionError, TruncationWarning
from embedrt.inputs import checked_texts, distinct_windows

TEXTS = ["fox", "the lazy dog", "fox", ""]
LONG = "the quick brown fox " * 40

CONTAINERS: dict[str, Callable[[], Any]] = {
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "map": lambda: map(str, TEXTS),
    "numpy strings": lambda: np.array(TEXTS),
    "numpy objects": lambda: np.array(TEXTS, dtype=object),
    "numpy variable strings": lambda: np.array(TEXTS, dtype=np.dtypes.StringDType()),
    "keys of a dict": lambda: dict.fromkeys(map(str, range(4)), "").keys(),
    "values of a dict": lambda: dict(enumerate(TEXTS)).values(),
    "arrow": lambda: pyarrow.array(TEXTS),
    "arrow, large": lambda: pyarrow.array(TEXTS, pyarrow.large_string()),
    "arrow, dictionary": lambda: pyarrow.array(TEXTS).dictionary_encode(),
    "arrow, chunked": lambda: pyarrow.chunked_array([TEXTS[:1], TEXTS[1:]]),
    "list of arrow scalars": lambda: list(pyarrow.array(TEXTS)),
    "column of an arrow table": lambda: pyarrow.table({"text": TEXTS})["text"],
}


class Series:
    """Finds labels of its index as attributes, as pandas.Series does, and is no Sequence."""

    def __init__(self, **values: str) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int]:
        return (len(self._values),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values.values())

    def __getattr__(self, name: str) -> str:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None


class Frame:
    """Goes through its column names, as pandas.DataFrame does."""

    def __init__(self) -> None:
        self.columns = ["text"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Indexed:
    """Has only `__getitem__` and `__len__`, as many data sets do."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, index: int) -> str:
        return TEXTS[index]


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_give_what_a_list_gives(name: str, embedder: Embedder) -> None:
    wanted = TEXTS if name != "keys of a dict" else ["0", "1", "2", "3"]
    expected = embedder.encode(wanted)
    np.testing.assert_array_equal(embedder.encode(CONTAINERS[name]()), expected)
    np.testing.assert_array_equal(embedder.encode_detailed(CONTAINERS[name]()).embeddings, expected)
    (block,) = embedder.encode_stream(CONTAINERS[name]())
    np.testing.assert_array_equal(block.embeddings, expected)
    assert embedder.count_tokens(CONTAINERS[name]()) == embedder.count_tokens(wanted)
    assert embedder.tokenize(CONTAINERS[name]()) == embedder.tokenize(wanted)


def test_a_series_whose_index_holds_any_label_is_texts() -> None:
    assert checked_texts(Series(columns="fox", shape="dog", as_py="cat")) == ["fox", "dog", "cat"]
    assert checked_texts(Indexed()) == TEXTS


def test_columns_of_pandas_are_texts(embedder: Embedder) -> None:
    pandas = pytest.importorskip("pandas")
    for index in (range(4), list("abcd"), [7, 7, 7, 7], ["columns", "shape", "as_py", "x"]):
        for dtype in (object, "string"):
            series = pandas.Series(TEXTS, index=index, dtype=dtype)
            np.testing.assert_array_equal(embedder.encode(series), embedder.encode(TEXTS))
    with pytest.raises(InputTypeError, match=r"text 1: must be a string, not NAType; a missing value"):
        embedder.encode(pandas.Series(["fox", None], dtype="string"))
    with pytest.raises(InputTypeError, match=r"not a DataFrame: .* pass one of them"):
        embedder.encode(pandas.DataFrame({"text": TEXTS}))


def test_columns_of_polars_are_texts(embedder: Embedder) -> None:
    polars = pytest.importorskip("polars")
    np.testing.assert_array_equal(embedder.encode(polars.Series(TEXTS)), embedder.encode(TEXTS))
    with pytest.raises(InputTypeError, match=r"text 1: must be a string, not NoneType; a missing value"):
        embedder.encode(polars.Series(["fox", None]))
    for table in (polars.DataFrame({"text": TEXTS}), polars.LazyFrame({"text": TEXTS})):
        with pytest.raises(InputTypeError, match=r"Frame: .* pass one of them"):
            embedder.encode(table)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "dict": (lambda: {"text": "fox"}, r"not a dict: .* pass list\(texts.values\(\)\)"),
    "frame": (Frame, r"not a Frame: .* table\['text'\]"),
    "arrow table": (lambda: pyarrow.table({"text": TEXTS}), r"not a Table: .* table\['text'\]"),
    "record batch": (lambda: pyarrow.record_batch({"text": TEXTS}), "not a RecordBatch"),
    "set": (lambda: {"fox", "dog"}, r"not a set: it has no order .* sorted\(texts\)"),
    "frozenset": (lambda: frozenset(["fox"]), "not a frozenset"),
    "bytes": (lambda: b"fox", "decoded"),
    "bytearray": (lambda: bytearray(b"fox"), "decoded"),
    "memoryview": (lambda: memoryview(b"fox"), "decoded"),
    "array of no dimensions": (lambda: np.array("fox"), r"pass str\(array\)"),
    "array of two dimensions": (lambda: np.array([["fox", "dog"]]), "one dimension"),
    "number": (lambda: 3, "not int"),
    "none": (lambda: None, "a string"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(
    "method",
    ["encode", "encode_query", "encode_document", "encode_detailed", "encode_stream", "tokenize", "count_tokens"],
)
def test_what_only_looks_like_texts_is_refused(name: str, method: str, embedder: Embedder) -> None:
    make, message = WRONG[name]
    with pytest.raises(InputTypeError, match=message):
        getattr(embedder, method)(make())  # streams too: at the call, not at the first block


def test_one_text_is_no_stream(embedder: Embedder) -> None:
    with pytest.raises(InputTypeError, match=r"its letters are no texts; one text is \[text\]"):
        embedder.encode_stream("fox")


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), pyarrow.scalar(None, pyarrow.string())])
def test_a_missing_value_names_its_index(missing: Any, embedder: Embedder) -> None:
    with pytest.raises(InputTypeError, match=r"text 2: must be a string, .*; a missing value has no vector") as raised:
        embedder.encode(["fox", "dog", missing])
    assert raised.value.index == 2
    (block,) = embedder.encode_stream(["fox", missing, "dog"], on_error="skip")
    assert [item.index for item in block.skipped] == [1]


def test_other_things_are_not_called_missing() -> None:
    with pytest.raises(
        InputTypeError, match=r"^text 0: must be a string, not bytes: decode it; this model embeds texts"
    ):
        checked_texts([b"fox"])
    for thing in (3, 3.5, {"text": "fox"}):
        with pytest.raises(InputTypeError, match=rf"text 0: must be a string, not {type(thing).__name__}$"):
            checked_texts([thing])


def test_subclasses_of_strings_are_taken_by_their_characters() -> None:
    class Escaping(str):
        """As markupsafe.Markup: adding it to a prompt changes the prompt."""

        def __radd__(self, other: str) -> str:
            return other.replace("<", "&lt;") + str(self)

    (text,) = checked_texts([Escaping("fox")])
    assert type(text) is str
    assert "<query> " + text == "<query> fox"
    assert type(checked_texts(np.array(["fox"]))[0]) is str


def test_a_generator_with_a_text_over_the_limit_is_warned_of_once(embedder: Embedder) -> None:
    for method in (embedder.encode, embedder.encode_query, embedder.encode_document):
        with pytest.warns(TruncationWarning, match="1 of 2 texts were cut") as caught:
            assert method(text for text in ["fox", LONG]).shape == (2, 64)
        assert [warning.filename for warning in caught] == [__file__]


def test_equal_texts_get_token_embeddings_of_their_own(embedder: Embedder) -> None:
    first, second, third = embedder.encode(["fox", "dog", "fox"], output_value="token_embeddings")
    assert first.flags.writeable
    kept = third.copy()
    first[:] = 0
    np.testing.assert_array_equal(third, kept)
    options = embedder.resolve(output_value="token_embeddings")
    again = embedder.finish([second, second], options)
    assert not np.shares_memory(again[0], again[1])


@pytest.mark.parametrize("number", [np.int64(8), np.int32(8), np.uint8(8), np.array(8)])
def test_whole_numbers_of_numpy_are_whole_numbers(number: Any, embedder: Embedder) -> None:
    assert embedder.encode(["fox"], truncate_dim=number, batch_size=number).shape == (1, 8)
    assert embedder.identify(truncate_dim=number) == embedder.identify(truncate_dim=8)
    assert len(list(embedder.encode_stream(["fox"] * 9, block_size=number))) == 2


@pytest.mark.parametrize("number", ["2", 1.5, True, 0, -1, np.float64(2), np.True_, "auto"])
def test_what_is_no_whole_number_is_refused(number: Any, embedder: Embedder) -> None:
    calls: dict[str, Callable[[], object]] = {
        "num_threads": lambda: Embedder(embedder.bundle, num_threads=number),
        "batch_size": lambda: embedder.encode("fox", batch_size=number),
        "truncate_dim": lambda: embedder.encode("fox", truncate_dim=number),
        "block_size": lambda: embedder.encode_stream(["fox"], block_size=number),
    }
    for name, call in calls.items():
        with pytest.raises(OptionError, match=f"{name} must be a whole number of at least 1, not "):
            call()


def test_bundles_that_are_no_paths_are_refused() -> None:
    for thing in (None, 3, b"bundle", ["bundle"]):
        with pytest.raises(OptionError, match="bundle must be the path of a bundle"):
            Embedder(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vectors",
    [
        "fox",
        ["fox"],
        None,
        np.float32(1),
        np.ones((2, 2, 2)),
        [[1, 2], [3]],
        np.array([None]),
        {"a": 1},
        np.ones(2, "c8"),
    ],
    ids=repr,
)
def test_what_is_no_array_of_vectors_is_refused(vectors: Any, embedder: Embedder) -> None:
    good = np.ones((1, 2), np.float32)
    for method in (embedder.similarity, embedder.similarity_pairwise):
        for pair in ((vectors, good), (good, vectors)):
            with pytest.raises(OptionError, match=r"vectors must be an array \(N, D\)"):
                method(*pair)


def test_windows_hold_each_text_once() -> None:
    windows, order = distinct_windows(["b", "a", "b", "c"], 2)
    assert [(window.texts, tuple(window.indices)) for window in windows] == [(("b", "a"), (0, 1)), (("c",), (3,))]
    assert order == [0, 1, 0, 2]


def test_no_warning_is_given_for_texts_that_fit(embedder: Embedder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.encode(iter(TEXTS))
