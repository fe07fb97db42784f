"""Long lists of ids read in slices: what one go gives, or nothing; and no slice is long."""

from __future__ import annotations

import json
import random

import pytest

from embedrt.server import slices
from embedrt.server.errors import ServeError
from embedrt.server.explain import parse
from embedrt.server.openai import EmbeddingsRequest
from embedrt.server.slices import read_long_lists
from embedrt.server.tokens import DecodeRequest
from tests.server.serving import Served

ODD = ("-4", "5.5", "null", '"a"', "6e1", " 7 ", "", "[", "]", "{}", "99999999999", "true")
OTHERS = ("", ',"model":"m"', ',"model":null', ',"x":1', ',"x":null', ',"skip_special_tokens":false', ",")


def outcome(body: bytes) -> DecodeRequest | None:
    try:
        return parse(body, DecodeRequest)
    except ServeError:
        return None


def ids_as_json(rng: random.Random, depth: int) -> str:
    """A list of ids and of lists of ids, in which now and then something is wrong."""
    values = []
    for _ in range(rng.randint(0, 12)):
        if rng.random() < 0.02:
            values.append(rng.choice(ODD))
        elif rng.random() < 0.2 and depth < rng.choice((1, 1, 1, 2)):
            values.append(ids_as_json(rng, depth + 1))
        else:
            values.append(str(rng.randint(0, 9999)))
    return f"[{rng.choice(('', ' '))}{rng.choice((',', ', ', ' ,')).join(values)}]"


def test_it_is_what_one_go_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices of a few bytes, so that they end everywhere."""
    monkeypatch.setattr(slices, "LONG_BYTES", 1)
    rng = random.Random(3)
    taken = 0
    for _ in range(6000):
        monkeypatch.setattr(slices, "_SLICE_BYTES", rng.choice((5, 8, 13, 40)))
        body = f'{{"ids":{ids_as_json(rng, 0)}{rng.choice(OTHERS)}}}'.encode()
        found = read_long_lists(memoryview(body), DecodeRequest)
        assert found is None or found == outcome(body), body
        taken += found is not None
    assert taken > 1000


@pytest.mark.parametrize(
    "ids",
    [[7] * 200_000, [123456] * 100_000, [[5, 6] * 300] * 300, [[30_000] * 150_000], [1, [2, 3] * 100_000, 4]],
    ids=["small", "large", "lists", "one list", "both"],
)
def test_long_lists_are_taken(ids: list[object]) -> None:
    body = memoryview(json.dumps({"ids": ids, "skip_special_tokens": False}).encode())
    assert read_long_lists(body, DecodeRequest) == DecodeRequest(ids=ids, skip_special_tokens=False)  # type: ignore[arg-type]


def test_no_part_is_longer_than_a_slice() -> None:
    values = memoryview(json.dumps([[30_000] * 50_000, 5, [1] * 50_000]).encode())[1:-1]
    parts = list(slices._slices(values))
    assert b",".join(parts) == values
    assert max(map(len, parts)) <= slices._SLICE_BYTES
    assert len(parts) > 10


@pytest.mark.parametrize(
    "body",
    [
        b'{"ids":[' + b"1" * 300_000 + b"]}",
        b'{"ids":[[[1,2]' + b",[1,2]" * 60_000 + b"]]}",
        b'{"ids":[1' + b",1" * 200_000 + b",]}",
        b'{"ids":[1' + b",1" * 200_000 + b',"a"]}',
        b'{"ids":[1' + b",1" * 200_000 + b",-1]}",
        b'{"ids":[1' + b",1" * 200_000,
        b'{"idz":[1' + b",1" * 200_000 + b"]}",
    ],
    ids=["a long number", "too deep", "a comma", "a string", "negative", "cut", "another name"],
)
def test_what_is_wrong_is_left_to_one_go(body: bytes) -> None:
    assert read_long_lists(memoryview(body), DecodeRequest) is None
    with pytest.raises(ServeError):
        parse(body, DecodeRequest)


def test_openais_inputs_are_read_in_slices_too() -> None:
    body = json.dumps({"input": [[1, 2, 3] * 40_000], "model": "m"}).encode()
    assert read_long_lists(memoryview(body), EmbeddingsRequest) == parse(body, EmbeddingsRequest)


def test_texts_are_not_looked_at_twice(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spied(body: memoryview, shape: type) -> None:
        asked.append(len(body))

    monkeypatch.setattr("embedrt.server.bodies.read_long_lists", spied)
    served.post("/embed", {"inputs": ["the water " * 100] * 100, "truncate": True})
    assert not asked
    served.post("/decode", {"ids": [5] * 60_000})
    assert len(asked) == 1
