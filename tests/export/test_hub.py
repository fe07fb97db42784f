"""`embedrt export OWNER/NAME` against a hub on loopback, in processes with a cache of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from embedrt import open_bundle
from embedrt_export.hub import select_files
from tests import tiny
from tests.export import hub
from tests.export.test_lora import factors, save_adapter

FIRST, SECOND, ADAPTED = "1" * 40, "2" * 40, "3" * 40
# One process for all commands: importing torch takes longer than everything else here.
RUN_ALL = """
import json, sys
from click.testing import CliRunner
from embedrt.cli.app import app
for args in json.load(sys.stdin):
    result = CliRunner().invoke(app, args, prog_name="embedrt")
    print(json.dumps([result.exit_code, result.stderr]))
"""


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """This process's, but for everything that steers the hub's client."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "no_proxy": "127.0.0.1", "PYTHONWARNINGS": "ignore"}


def test_models_of_a_hub_and_every_refusal(tmp_path: Path) -> None:
    commits = {FIRST: tiny.save_pipeline(tmp_path / "1"), SECOND: tiny.save_pipeline(tmp_path / "2")}
    weights = commits[FIRST] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])  # found at once, and the message says which commit it is of
    commits[ADAPTED] = save_adapter(tmp_path / "3", "tests/tiny", factors())
    refs = {
        "tests/tiny": {"main": SECOND, "v1": FIRST}, "tests/tuned": {"main": ADAPTED}, hub.GATED: {"main": FIRST}
    }  # fmt: skip
    commands = {  # MODEL and options -> what the one line says, None where it works
        ("tests/tiny",): None,
        ("tests/tuned",): None,
        ("tests/tiny", "--adapter", "tests/tuned"): None,
        ("tests/tiny", "--revision", "v1"): f"/snapshots/{FIRST}/model.safetensors is truncated: it has ",
        ("tests/tiny", "--revision", "v9"): "error: model 'tests/tiny': it has no revision 'v9'\n",
        ("nobody/nothing",): "error: model 'nobody/nothing': neither a local directory nor on the hub; "
        "check the spelling, or 'hf auth login'\n",
        (hub.GATED,): f"error: model '{hub.GATED}': its owner asks for consent: accept on its page, "
        "then 'hf auth login'\n",
        ("no id/at all",): "error: model 'no id/at all': there is no such directory, and it is no hub id either "
        "(OWNER/NAME)\n",
    }
    out = tmp_path / "out"
    argv = [
        ["export", model, str(out / str(i)), "--variants", "fp32", "-q", *options]
        for i, (model, *options) in enumerate(commands)
    ]
    with hub.serve(commits, refs) as served:
        ran = subprocess.run(
            [sys.executable, "-c", RUN_ALL], input=json.dumps(argv), capture_output=True, text=True, check=True,
            env=environment(served.endpoint, tmp_path / "home"),
        )  # fmt: skip
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    for (code, stderr), (command, refusal) in zip(results, commands.items(), strict=True):
        assert code == (refusal is not None), (command, stderr)
        assert stderr.count("\n") == (refusal is not None), (command, stderr)
        assert (refusal or "") in stderr, command
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2"]
    manifest, tuned, same = (open_bundle(out / str(i)).manifest for i in range(3))
    assert (manifest.source.model, manifest.source.revision, manifest.name) == ("tests/tiny", SECOND, "tiny")
    assert tuned.name == "tuned"
    assert tuned.source == same.source


STRAY = (
    "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "training_args.bin",
    "trainer_state.json", "onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin",
    "checkpoint-500/model.safetensors", "model-Q4.gguf", "2_Dense/pytorch_model.bin", "photo.png",
)  # fmt: skip


def test_a_download_takes_what_the_model_is_read_from_and_works_offline_afterwards(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "1", dense=(32,))
    needed = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    for name in STRAY:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"not read")
    router = tmp_path / "router"
    router.mkdir()
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}
    (router / "modules.json").write_text(json.dumps([module]))
    (router / "model.safetensors").write_bytes(b"gigabytes")
    refs = {"tests/tiny": {"main": FIRST}, "tests/router": {"main": SECOND}}
    argv = [["export", name, str(tmp_path / "out" / name), "--variants", "fp32", "-q"] for name in refs]
    with hub.serve({FIRST: model, SECOND: router}, refs) as served:
        env = environment(served.endpoint, tmp_path / "home")
        ran = subprocess.run(
            [sys.executable, "-c", RUN_ALL], input=json.dumps(argv), capture_output=True, text=True, check=True, env=env
        )
    (code, stderr), (refused, kind) = (json.loads(line) for line in ran.stdout.splitlines())
    assert (code, stderr, refused) == (0, "", 1)
    assert kind.startswith("error: tests/router is a router")
    assert sorted(served.sent) == ["tests/router/modules.json", *sorted(f"tests/tiny/{name}" for name in needed)]
    again = ["export", "tests/tiny", str(tmp_path / "again"), "--variants", "fp32", "-q"]
    ran = subprocess.run(
        [sys.executable, "-m", "embedrt", *again], capture_output=True, text=True, check=False, env=env
    )
    assert (ran.returncode, ran.stderr) == (0, "")  # the hub is gone
    first, second = (open_bundle(tmp_path / name).manifest for name in ("out/tests/tiny", "again"))
    assert first.source == second.source


def test_what_is_not_in_the_cache_is_told_by_the_switch_that_forbids_the_hub(tmp_path: Path) -> None:
    env = environment("http://127.0.0.1:9", tmp_path / "home") | {"HF_HUB_OFFLINE": "1"}
    argv = ["export", "tests/tiny", str(tmp_path / "out"), "--variants", "fp32", "-q"]
    ran = subprocess.run([sys.executable, "-m", "embedrt", *argv], capture_output=True, text=True, check=False, env=env)
    assert ran.returncode == 1
    assert "HF_HUB_OFFLINE forbids to ask the hub; unset it" in ran.stderr
    assert "network" not in ran.stderr


@pytest.mark.parametrize(
    ("names", "folders", "taken"),
    [
        (["model.safetensors", "pytorch_model.bin"], [""], ["model.safetensors"]),
        (["pytorch_model.bin", "config.json", "tf_model.h5"], [""], ["config.json", "pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
             "model.fp16.safetensors", "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            [""],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "eval_results.json"],
            [""],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (  # the encoder in a folder of its own, as the first sentence-transformers saved it
            ["modules.json", "0_Transformer/pytorch_model.bin", "0_Transformer/vocab.txt", "1_Pooling/config.json",
             "model.safetensors", "other/vocab.txt", "README.md"],
            ["0_Transformer", "1_Pooling"],
            ["0_Transformer/pytorch_model.bin", "0_Transformer/vocab.txt", "1_Pooling/config.json", "README.md",
             "modules.json"],
        ),
        (["sentencepiece.bpe.model", "merges.txt", "modeling.py"], [""], ["merges.txt", "sentencepiece.bpe.model"]),
    ],
)  # fmt: skip
def test_one_format_of_weights_and_the_texts_beside_it(names: list[str], folders: list[str], taken: list[str]) -> None:
    assert select_files(names, folders) == tuple(taken)


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        ran = subprocess.run(
            [sys.executable, "-m", "embedrt", "export", "tests/tiny", str(tmp_path / "out"), "-q"],
            capture_output=True, text=True, check=False, env=environment(endpoint, tmp_path / "home"),
        )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr == (
        "error: model 'tests/tiny': no such directory, and the hub cannot be reached; check the network or the proxy, "
        "or give a directory that holds the model\n"
    )
    assert ran.stdout == ""
    assert not (tmp_path / "out").exists()
