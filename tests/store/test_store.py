"""Bundles by name against a hub on loopback, in processes with a home of their own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedrt import Reranker, open_bundle
from embedrt.bundle import read_bundle
from embedrt.errors import BundleNotFoundError
from embedrt.store import store
from embedrt.store.names import Name
from tests.conftest import Rerankers
from tests.handmade import CONTENTS, write_bundle
from tests.store import hub

BUNDLE = "you/handmade"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDRT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "bundles"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("hub")
    write_bundle(root / "bundle")
    write_bundle(root / "damaged")
    (root / "damaged" / "int8" / "model.onnx").write_bytes(b"GRAPH OF INT8")
    write_bundle(root / "short")
    (root / "short" / "int8" / "model.onnx").unlink()
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    repos = {BUNDLE: "bundle", "you/damaged": "damaged", "you/short": "short", "you/model": "model"}
    with hub.serve({repo: root / folder for repo, folder in repos.items()}, root / "uploads") as address:
        yield address


class Runs:
    """`python -m embedrt ...` in processes of their own: huggingface_hub reads its environment when it is imported."""

    def __init__(self, endpoint: str, tmp_path: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
        self.env = {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "no_proxy": "127.0.0.1",
                    "HF_TOKEN": hub.TOKEN, "HF_HUB_DISABLE_XET": "1", "PYTHONWARNINGS": "ignore"}  # fmt: skip

    def __call__(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "embedrt", *args], capture_output=True, text=True, env={**self.env, **env}
        )


@pytest.fixture
def run(home: Path, endpoint: str, tmp_path: Path) -> Runs:
    del home
    return Runs(endpoint, tmp_path)


def test_pull_list_use_and_remove(run: Runs, home: Path) -> None:
    pulled = run("pull", BUNDLE, "-q")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, f"{home / 'you--handmade'}\n", "")
    read_bundle(home / "you--handmade").check_hashes()
    assert sorted(path.name for path in home.iterdir()) == [".you--handmade.lock", "you--handmade"]

    assert run("pull", BUNDLE, "-q", HF_ENDPOINT="http://127.0.0.1:9").returncode == 0  # nothing is fetched again
    assert str(open_bundle(BUNDLE).root) == str(home / "you--handmade")
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["name"], listed["variants"], listed["problem"]) == (BUNDLE, ["fp32", "int8"], "")
    assert "you/handmade  fp32, int8" in run("list").stdout

    removed = run("rm", BUNDLE)
    assert removed.stdout.startswith("deleted you/handmade, ")
    again = run("rm", BUNDLE)
    assert (again.returncode, again.stderr) == (
        1,
        f"error: you/handmade is not in {home}; 'embedrt list' shows what is\n",
    )
    assert "no bundles in" in run("list").stderr


def test_only_some_variants_are_fetched(run: Runs, home: Path) -> None:
    assert run("pull", f"{BUNDLE}@main", "--variants", "int8", "-q").returncode == 0
    bundle = read_bundle(home / "you--handmade@main")
    assert list(bundle.manifest.variants) == ["int8"]
    assert not (bundle.root / "fp32").exists()
    refused = run("pull", BUNDLE, "--variants", "fp16", "-q")
    assert refused.stderr == "error: you/handmade has the variants fp32, int8, not fp16\n"
    assert not (home / "you--handmade").exists()


@pytest.mark.parametrize(
    ("name", "env", "says"),
    [
        ("nobody/nothing", {}, "nobody/nothing: it is not on the hub; check the spelling"),
        ("you/model", {}, "you/model: it is no bundle: a file of it is not in the repository"),
        (f"{BUNDLE}@v9", {}, "you/handmade@v9: it has no such revision"),
        (BUNDLE, {"HF_HUB_OFFLINE": "1"}, "you/handmade: "),
        (BUNDLE, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "you/handmade: the hub cannot be reached"),
    ],
)
def test_without_a_bundle_the_three_ways_are_said(
    run: Runs, home: Path, name: str, env: dict[str, str], says: str
) -> None:
    failed = run("pull", name, "--no-export", "-q", **env)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: there is no bundle called {name} in {home}, and it could not be fetched")
    assert says in failed.stderr
    assert "Three ways to one" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert store.kept() == []


@pytest.mark.parametrize(("name", "says"), [("you/damaged", "does not match its sha256"), ("you/short", "no bundle")])
def test_a_damaged_bundle_never_gets_into_the_store(run: Runs, home: Path, name: str, says: str) -> None:
    failed = run("pull", name, "--no-export", "-q")
    assert failed.returncode == 1
    assert says in failed.stderr
    assert [path.name for path in home.iterdir() if not path.name.endswith(".lock")] == []


def test_several_processes_fetch_once(run: Runs, home: Path) -> None:
    command = [sys.executable, "-m", "embedrt", "pull", BUNDLE, "-q"]
    started = [subprocess.Popen(command, env=run.env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0] for process in started} == {f"{home / 'you--handmade'}\n"}
    assert [process.returncode for process in started] == [0, 0, 0]


def test_what_was_interrupted_is_gone_on_with(run: Runs, home: Path) -> None:
    part = home / ".you--handmade.part"
    (part / "fp32").mkdir(parents=True)
    (part / "fp32" / "weights.bin").write_bytes(b"half")
    assert run("pull", BUNDLE, "-q").returncode == 0
    assert (home / "you--handmade" / "fp32" / "weights.bin").read_bytes() == CONTENTS["fp32/weights.bin"]
    assert not part.exists()


def test_what_is_pushed_can_be_pulled(run: Runs, home: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine")
    refused = run("push", "mine", "you/pushed", "-q", HF_TOKEN="wrong")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: you/pushed: ")
    assert refused.stderr.count("\n") == 1
    pushed = run("push", "mine", "you/pushed", "-q")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.endswith(f"/you/pushed/commit/{hub.COMMIT}\n")
    assert run("pull", "you/pushed", "-q").returncode == 0
    assert (home / "you--pushed" / "manifest.json").read_bytes() == (tmp_path / "mine" / "manifest.json").read_bytes()


def test_a_reranker_is_pushed_with_its_card_and_found_by_its_name(run: Runs, home: Path, rerankers: Rerankers) -> None:
    bundle = rerankers.bundle("labels")
    pushed = run("push", str(bundle), "you/pushed", "-q")
    assert pushed.returncode == 0, pushed.stderr
    assert run("pull", "you/pushed", "-q").returncode == 0
    pair = ["fox", "dog"]
    with Reranker(bundle, num_threads=1) as mine, Reranker(home / "you--pushed", num_threads=1) as pulled:
        np.testing.assert_array_equal(pulled.predict(pair), mine.predict(pair))
        with pickle.loads(pickle.dumps(pulled)) as again:
            np.testing.assert_array_equal(again.predict(pair), mine.predict(pair))
    assert "you/pushed" in run("list").stdout


def test_a_damaged_bundle_is_listed_as_such(home: Path) -> None:
    write_bundle(home / "you--broken")
    (home / "you--broken" / "tokenizer.json").unlink()
    (found,) = store.kept()
    assert (found.name, found.bundle) == ("you/broken", None)
    assert "tokenizer.json is missing" in found.problem


def test_an_export_fills_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exporter is asked, where the hub has a model and no bundle."""
    asked = []

    class Exporter:
        @staticmethod
        def export(model: str, out: Path, **options: object) -> None:
            asked.append((model, options["revision"], options.get("variants")))
            write_bundle(out)

    def no_bundle(*_: object, **__: object) -> None:
        raise store.HubError("no bundle", missing=True)

    monkeypatch.setattr(store.hub, "download", no_bundle)
    monkeypatch.setattr("embedrt.exporter.import_exporter", lambda: Exporter)
    assert store.obtain(Name("you/model", "v2"), variants=("int8",)) == home / "you--model@v2"
    assert store.obtain(Name("you/model", "v2")) == home / "you--model@v2"
    assert asked == [("you/model", "v2", ("int8",))]
    monkeypatch.setattr(store, "_can_export", lambda: False)
    with pytest.raises(BundleNotFoundError, match=r"pip install 'embedrt\[export\]'"):
        store.obtain(Name("you/other"))
