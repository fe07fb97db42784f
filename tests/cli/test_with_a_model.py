"""The whole way with a real, tiny encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embedrt.embedder import Embedder
from embedrt.errors import DependencyError
from embedrt.executors.native import load_library

TEXTS = [
    "How much protein should a female eat every day?",
    "서울은 대한민국의 수도이다.",
    "",
    "A fox jumps.",
    "今日は天気がいい。",
]


def test_verify_info_embed_and_search(cli, tiny_bundle, tmp_path):
    assert cli.ok("verify", tiny_bundle, "--json", tmp_path / "parity.json").stdout.count("passed") == 3
    assert json.loads((tmp_path / "parity.json").read_text())["passed"] is True
    shown = cli.ok("info", tiny_bundle).stdout
    assert "not measured" not in shown
    assert max(map(len, shown.splitlines())) <= 80

    source = tmp_path / "texts.txt"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    cli.ok("embed", tiny_bundle, source, "-o", tmp_path / "out.npy", "--document", "--threads", "1")
    with Embedder(tiny_bundle, num_threads=1) as embedder:
        wanted = embedder.encode_document(TEXTS)
        order = np.argsort(-embedder.similarity(embedder.encode_query([TEXTS[1]]), wanted)[0])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=1e-6)

    found = cli.ok("search", tiny_bundle, source, TEXTS[1], "-k", 5, "--json", "--threads", "1")
    assert [hit["row"] for hit in json.loads(found.stdout)["answers"][0]["hits"]] == order.tolist()


def test_the_folder_of_packed_weights_is_an_option_and_a_variable(cli, tiny_bundle, tmp_path):
    try:
        load_library()
    except DependencyError as exc:
        pytest.skip(str(exc))

    def reason(*options: object, env: dict[str, str] | None = None) -> str:
        shown = cli("info", tiny_bundle, "--variant", "int8", "--executor", "native", "--json", *options, env=env)
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.stdout)["running"]["executor_reason"]

    kept, other = tmp_path / "kept", tmp_path / "other"
    assert str(kept) in reason("--packed-dir", kept)
    assert str(other) in reason(env={"EMBEDRT_PACKED_DIR": str(other)})
    assert "weights" not in reason("--no-packed-cache", env={"EMBEDRT_PACKED_DIR": str(tmp_path / "third")})
    assert [len(list(folder.glob("*.bin"))) for folder in (kept, other, tmp_path / "third")] == [1, 1, 0]
