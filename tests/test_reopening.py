"""Embedders that are pickled, copied, and sent to other processes."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import BundleIntegrityError, BundleNotFoundError, Embedder, ExecutorError


class Tagged(Embedder):
    """A user's subclass: another signature, and an attribute."""

    def __init__(self, bundle: Path, tag: str) -> None:
        super().__init__(bundle, variant="int8", num_threads=1)
        self.tag = tag


def vector(model: Embedder, text: str) -> Any:
    return model.encode(text)


@pytest.mark.parametrize("variant", ["int8", "fp32"])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_opens_the_same_embedder(tiny_bundle: Path, variant: Any, protocol: int) -> None:
    with Embedder(tiny_bundle, variant=variant, num_threads=1, pooling="cls+mean", verify_hashes=False) as model:
        view = model.with_options(truncate_dim=8, max_tokens=32, prompts={"query": "q: "})
        data = pickle.dumps(view, protocol)
        assert len(data) < 4096  # the recipe, and no weights
        with pickle.loads(data) as other:
            np.testing.assert_array_equal(other.encode_query("fox"), view.encode_query("fox"))
            assert other.identity == view.identity
            assert other.prompts == view.prompts
            assert (other.num_threads, other.pooling, other.executor) == (1, ("cls", "mean"), model.executor)
            assert other._executor is not model._executor


def test_a_deep_copy_lives_by_itself(tiny_bundle: Path) -> None:
    model = Embedder(tiny_bundle, num_threads=1)
    expected = model.encode("fox")
    other, again = copy.deepcopy([model, model])
    assert other is again
    model.close()
    np.testing.assert_array_equal(other.encode("fox"), expected)
    other.close()


def test_a_subclass_keeps_what_it_added(tiny_bundle: Path) -> None:
    with Tagged(tiny_bundle, "mine") as model, pickle.loads(pickle.dumps(model)) as other:
        assert type(other) is Tagged
        assert other.tag == "mine"
        np.testing.assert_array_equal(other.encode("fox"), model.encode("fox"))


def test_relative_paths_hold_in_another_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    with Embedder("bundle", packed_cache="packed") as model:
        data = pickle.dumps(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pickle.loads(data).close()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_another_bundle_in_the_same_place_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with Embedder(root, variant="int8") as model:
        data = pickle.dumps(model)
    manifest = json.loads((root / "manifest.json").read_text())
    for change in ({"name": "renamed", "created": "2027-01-01T00:00:00Z"}, {"notes": ["moved"]}):
        (root / "manifest.json").write_text(json.dumps(manifest | change))
        pickle.loads(data).close()  # what no vector depends on may change
    prompts = {**manifest["prompts"], "texts": {"query": "ask: ", "document": "passage: "}}
    for change in ({"max_tokens": 32}, {"prompts": prompts}, {"similarity": "dot"}):
        (root / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(BundleIntegrityError, match="is not the bundle that the pickled embedder was made of"):
            pickle.loads(data)
    shutil.rmtree(root)
    with pytest.raises(BundleNotFoundError):
        pickle.loads(data)


def test_a_closed_embedder_is_not_pickled(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle) as model:
        pass
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(ExecutorError, match="was closed, so it cannot be pickled or copied"):
            way(model)


def test_another_process_gets_the_same_vectors(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, num_threads=1) as model:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            got = pool.submit(vector, model, "fox").result(timeout=120)
        np.testing.assert_array_equal(got, model.encode("fox"))


def test_joblib_sends_an_embedder_to_its_workers(tiny_bundle: Path) -> None:
    joblib = pytest.importorskip("joblib")
    with Embedder(tiny_bundle, num_threads=1) as model:
        got = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(vector)(model, text) for text in ("fox", "dog"))
        np.testing.assert_array_equal(got, model.encode(["fox", "dog"]))


def test_a_closure_of_cloudpickle_takes_its_embedder_along(tiny_bundle: Path, tmp_path: Path) -> None:
    """As Spark sends them: an anonymous function of a script, opened by a process that has never seen it."""
    cloudpickle = pytest.importorskip("cloudpickle")
    with Embedder(tiny_bundle, num_threads=1, truncate_dim=8) as model:
        (tmp_path / "closure.pkl").write_bytes(
            cloudpickle.dumps(lambda texts: [model.encode(t).tolist() for t in texts])
        )
        code = "import pickle, sys, json; print(json.dumps(pickle.load(open(sys.argv[1], 'rb'))(['fox', 'dog'])))"
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "closure.pkl")], capture_output=True, text=True, check=True
        )
        np.testing.assert_array_equal(np.float32(json.loads(ran.stdout)), model.encode(["fox", "dog"]))


def test_ray_sends_an_embedder_to_its_tasks(tiny_bundle: Path) -> None:
    ray = pytest.importorskip("ray")
    with Embedder(tiny_bundle, num_threads=1) as model:
        ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
        try:
            got = ray.get(ray.remote(vector).remote(model, "fox"), timeout=120)
        finally:
            ray.shutdown()
        np.testing.assert_array_equal(got, model.encode("fox"))
