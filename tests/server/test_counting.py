"""What a body becomes, counted in its bytes, against what is really in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt.server import counting
from embedrt.server.counting import Counted, count_json
from tests.server.serving import serving

SCALARS = st.none() | st.booleans() | st.integers() | st.text(alphabet='ab\\"[]{},:\n안😀', max_size=12)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


def real(value: Any) -> tuple[int, int, int]:
    """Strings, brackets, values."""
    if isinstance(value, (list, dict)):
        inner = list(map(real, value.values() if isinstance(value, dict) else value))
        names = len(value) if isinstance(value, dict) else 0
        return names + sum(i[0] for i in inner), 1 + sum(i[1] for i in inner), 1 + sum(i[2] for i in inner)
    return int(isinstance(value, str)), 0, 1


@given(value=VALUES, ascii_only=st.booleans(), size=st.integers(1, 40))
def test_nothing_is_missed_wherever_the_slices_end(value: Any, ascii_only: bool, size: int):
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_SLICE_BYTES", size)
        counted = count_json(body)
    strings, brackets, values = real(value)
    assert (counted.strings, counted.brackets) == (strings, brackets)
    assert counted.plain == (body.isascii() and b"\\u" not in body)
    assert values <= counted.values <= values + brackets + 1  # an empty list counts as one with a value


def test_examples():
    assert count_json(b'{"inputs": ["a", "b\\"", "c\\\\"]}') == Counted(4, 2, 5, plain=True)
    assert count_json(b'{"input": [[1], [2, 3]]}') == Counted(1, 4, 7, plain=True)
    assert count_json(b'"[[[,,,"') == Counted(1, 0, 1, plain=True)
    assert count_json(b"\\" * 500_000).strings == 0
    assert count_json(b"") == Counted(0, 0, 1, plain=True)


def test_a_body_of_more_texts_or_lists_than_a_request_may_have_is_refused_unread(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", token_ids="own", request_texts=100) as served:
        many = json.dumps({"inputs": ["a"] * 50_000}).encode()
        lists = json.dumps({"inputs": [[5]] * 50_000}).encode()
        for body in (many, lists, json.dumps({"inputs": ["a"] * 101}).encode()):
            refused = served.post("/embed", body, Content_Type="application/json")
            assert (refused.status_code, "request_texts" in refused.text, "100" in refused.text) == (413, True, True)
        assert served.post("/embed", {"inputs": ["a"] * 100}).status_code == 200
        assert served.post("/embed", {"inputs": '"[{,' * 50_000}).status_code == 200  # one text
        assert served.post("/tokenize", {"inputs": ["a"] * 101}).status_code == 413
        assert served.post("/decode", {"ids": [[5]] * 101}).status_code == 413
        whole = served.post("/tokenize", {"inputs": "a" * 262_145})
        assert (whole.status_code, "262144 characters" in whole.text) == (413, True)
        assert served.get("/info").json()["max_client_batch_size"] == 100
