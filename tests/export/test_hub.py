"""`embedrt export OWNER/NAME` against a hub on loopback, in processes with a cache of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from embedrt import open_bundle
from tests import tiny
from tests.export import hub

FIRST, SECOND = "1" * 40, "2" * 40
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
    refs = {"tests/tiny": {"main": SECOND, "v1": FIRST}, hub.GATED: {"main": FIRST}}
    commands = {  # MODEL and options -> what the one line says, None where it works
        ("tests/tiny",): None,
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
    with hub.serve(commits, refs) as endpoint:
        ran = subprocess.run(
            [sys.executable, "-c", RUN_ALL], input=json.dumps(argv), capture_output=True, text=True, check=True,
            env=environment(endpoint, tmp_path / "home"),
        )  # fmt: skip
    results = [json.loads(line) for line in ran.stdout.splitlines()]
    for (code, stderr), (command, refusal) in zip(results, commands.items(), strict=True):
        assert code == (refusal is not None), (command, stderr)
        assert stderr.count("\n") == (refusal is not None), (command, stderr)
        assert (refusal or "") in stderr, command
    assert [path.name for path in out.iterdir()] == ["0"]
    manifest = open_bundle(out / "0").manifest
    assert (manifest.source.model, manifest.source.revision, manifest.name) == ("tests/tiny", SECOND, "tiny")


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
