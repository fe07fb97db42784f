"""What a request becomes is reckoned before the work, and bounds what is really made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pytest

from embedrt.server.budget import ByteBudget
from embedrt.server.errors import ServeError
from embedrt.server.sizes import (
    BASE64_BYTES,
    FLOAT_BYTES,
    Size,
    SizeLimits,
    size_of_rows,
    size_of_tokens,
    size_of_values,
)
from tests.server.serving import serving


@dataclass
class Request:
    held: int = 0
    client: str = ""


def test_a_request_alone_is_let_in_and_others_wait_for_room() -> None:
    budget, first, second = ByteBudget(100), Request(), Request()
    budget.hold(first, 80)
    budget.hold(first, 80)  # its own pieces: nobody else holds anything
    with pytest.raises(ServeError, match="hold 160 bytes are being worked on, this one needs 10 more") as refused:
        budget.hold(second, 10)
    assert (refused.value.kind, second.held) == ("overloaded", 0)
    budget.release(first)
    budget.hold(second, 60)
    with pytest.raises(ServeError):
        budget.hold(first, 41)
    budget.hold(first, 40)
    budget.release(first)
    budget.release(second)
    budget.hold(first, 100)


def test_no_number_is_written_in_more_bytes_than_are_reckoned() -> None:
    hard = np.array([-1.17549435e-38, -3.4028235e38, -1.0000001, 1e-45, -1.23456789e-6], np.float32)
    rows = np.tile(hard, (3, 20))
    written = orjson.dumps(list(rows), option=orjson.OPT_SERIALIZE_NUMPY)
    size = size_of_rows([4, 4, 4], [0, 1, 2], 100, written=100, each=FLOAT_BYTES)
    assert len(written) <= size.answer
    assert len(rows[0].tobytes()) * 4 / 3 <= 100 * BASE64_BYTES + 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (size_of_rows([3, 5], [0, 1, 0], 8, written=8, each=0), Size(8, 8 * 4 + 2 * (8 * 4 + 256), 3 * 80)),
        (size_of_rows([3, 5], [0, 1, 0], 8, written=2, each=16), Size(8, 8 * 4 + 2 * (8 * 4 + 256), 3 * (2 * 16 + 80))),
        (size_of_tokens([3, 5], [0, 1, 0], 8), Size(8, 8 * 4 + 8 * 8 * 4 + 2 * 256, (3 + 5 + 3) * (8 * 18 + 2))),
        (size_of_rows([], [], 8, written=8, each=16), Size(0, 0, 0)),
    ],
)
def test_sizes_by_hand(size: Size, expected: Size) -> None:
    assert size == expected


def test_one_rare_character_makes_a_text_four_times_as_large() -> None:
    assert size_of_values(1000, 1, plain=True) == 1040
    assert size_of_values(1000, 1, plain=False) == 4040


def test_limits_are_named() -> None:
    limits = SizeLimits(tokens=10, answer=100)
    limits.check(Size(10, 1 << 40, 100))
    with pytest.raises(ServeError, match="may have 10 tokens, this has 11; split it, or raise request_tokens"):
        limits.check(Size(11, 0, 0))
    with pytest.raises(ServeError, match=r"may have 100 bytes, this one would have up to 101; .* raise answer_mb"):
        limits.check(Size(1, 0, 101))


def test_too_many_tokens_and_too_large_answers_are_refused_before_the_work(lookup_bundle: Path) -> None:
    with serving(lookup_bundle, variant="fp32", request_tokens=20, answer_mb=0.001) as served:
        refused = served.post("/embed", {"inputs": ["water stone light river"] + [f"a {i}" for i in range(8)]})
        assert (refused.status_code, "request_tokens" in refused.text) == (413, True)
        refused = served.post("/embed", {"inputs": ["water"] * 6})  # one row, written six times
        assert (refused.status_code, "answer_mb" in refused.text) == (413, True)
        assert served.post("/embed_all", {"inputs": ["water stone light river"]}).status_code == 200
        assert served.post("/embed_all", {"inputs": ["water stone light river"] * 2}).status_code == 413
        assert served.post("/v1/embeddings", {"input": ["water"] * 8}).status_code in (400, 413)
        answer = served.post("/v1/embeddings", {"input": ["water"] * 5, "encoding_format": "base64"})
        assert answer.status_code == 200


def test_a_large_answer_comes_in_pieces_and_is_the_same(lookup_bundle: Path) -> None:
    with serving(lookup_bundle, variant="fp32") as served:
        texts = [f"water stone {i}" for i in range(2000)]
        answer = served.post("/embed_all", {"inputs": texts})
        assert answer.status_code == 200
        assert answer.headers.get("transfer-encoding") == "chunked"
        small = served.post("/embed_all", {"inputs": texts[7:8]})
        assert small.headers["content-length"] == str(len(small.content))
        assert json.loads(answer.content)[7] == json.loads(small.content)[0]
        assert len(json.loads(answer.content)) == len(texts)
        embedded = served.post("/v1/embeddings", {"input": texts}).json()
        assert [row["index"] for row in embedded["data"]] == list(range(len(texts)))
        assert embedded["usage"]["total_tokens"] == sum(len(ids) for ids in served.engine.embedder.tokenize(texts))
