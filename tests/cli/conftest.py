"""A bundle that is made in milliseconds: its encoder looks token vectors up, so vectors do not depend on batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from embedrt.bundle import PARITY_TEXTS, PARITY_VECTORS, describe_file
from embedrt.cli.app import app
from embedrt.heads import Pipeline, Stage
from embedrt.manifest import Architecture, Manifest, Prompts, Source, Variant
from embedrt.manifest_json import dump_manifest

WORDS = ["the", "a", "of", "to", "and", "in", "is", "it", "water", "stone", "light", "river", "house", "bread", "paper"]
DIMENSION = 8


@pytest.fixture(scope="session")
def lookup_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and int8 (the same values, rounded), 32 tokens at most, mean pooling, normalized, with prompts."""
    root = tmp_path_factory.mktemp("bundles") / "lookup"
    (root / "parity").mkdir(parents=True)
    vocab = ["<pad>", "<s>", "</s>", "<unk>", *WORDS, *(chr(c) for c in range(33, 127)), *"가나다안녕하세요물은"]
    vocab = list(dict.fromkeys(vocab))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    tokenizer.save(str(root / "tokenizer.json"))
    table = np.random.default_rng(7).standard_normal((len(vocab), DIMENSION)).astype(np.float32)
    texts = ["a", "the", "water", "light river", "a stone", "house of bread", "in", "is it", "paper", ""]
    ids = [[vocab.index(token) for token in ("<s>", *text.split(), "</s>")] for text in texts]
    means = np.stack([table[row].mean(axis=0) for row in ids])
    (root / PARITY_TEXTS).write_text(json.dumps(texts))
    np.save(root / PARITY_VECTORS, means / np.linalg.norm(means, axis=1, keepdims=True))
    variants = {
        name: _variant(root, name, weights) for name, weights in (("fp32", table), ("int8", np.round(table * 32) / 32))
    }
    shared = ("tokenizer.json", PARITY_TEXTS, PARITY_VECTORS)
    manifest = Manifest(
        format_version=1,
        name="lookup",
        created="2026-01-01T00:00:00Z",
        source=Source("tests/lookup", "0" * 40, "0" * 64),
        architecture=Architecture("bert", DIMENSION, 1, 1, 16, len(vocab), 64, 0, "gelu", 1e-12, 0),
        max_tokens=32,
        tokenizer="tokenizer.json",
        pipeline=Pipeline(("mean",), True, (Stage("normalize"),), DIMENSION),
        prompts=Prompts({"query": "in {task} : ", "document": "of "}, None, "water", "tests"),
        similarity="cosine",
        variants=variants,
        files=tuple(describe_file(root, name) for name in shared),
        tools={"onnx": onnx.__version__},
        notes=("a lookup table, no model",),
    )
    (root / "manifest.json").write_text(dump_manifest(manifest))
    return root


def _variant(root: Path, name: str, table: np.ndarray) -> Variant:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Unsqueeze", ["attention_mask", "axis"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["looked_up", "weights"], ["hidden"]),
    ]
    ids, mask = (
        helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")
    )
    hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "s", DIMENSION])
    constants = [
        numpy_helper.from_array(table.astype(np.float32), "table"),
        numpy_helper.from_array(np.array([2], np.int64), "axis"),
    ]
    graph = helper.make_graph(nodes, "lookup", [ids, mask], [hidden], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (root / name).mkdir()
    path = f"{name}/model.onnx"
    onnx.save(model, root / path)
    return Variant(
        path, None, ("input_ids", "attention_mask"), "hidden", {}, {}, (describe_file(root, path),), (), None
    )


class Cli:
    """Runs the command line in this process."""

    def __call__(self, *args: object, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
        """The result; stdout, stderr and exit_code are kept apart."""
        return CliRunner(env=env).invoke(app, [str(arg) for arg in args], input=stdin, prog_name="embedrt")

    def ok(self, *args: object, stdin: bytes | None = None) -> Result:
        """The result of a run that must succeed."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    def fails(self, *args: object, stdin: bytes | None = None, code: int = 1) -> str:
        """stderr of a run that must fail."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == code, result.output
        if code == 1:
            assert result.stderr.count("\n") >= 1, "an error is said"
            assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture
def cli() -> Cli:
    return Cli()
