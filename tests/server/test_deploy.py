"""The deployment files name settings and paths that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedrt.server.config import load_settings
from embedrt.server.settings import NAMES
from tests.server.serving import Served

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = ["Dockerfile", "compose.yaml", "kubernetes/embedrt.yaml", "systemd/embedrt.service"]


def container() -> tuple[dict[str, Any], dict[str, Any]]:
    """Kubernetes' pod and its container."""
    deployment = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes/embedrt.yaml").read_text())))
    pod = deployment["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_a_setting(name: str):
    code = re.sub(r"#.*", "", (DEPLOY / name).read_text())
    known = {f"EMBEDRT_{setting.upper()}" for setting in NAMES}
    assert set(re.findall(r"EMBEDRT_\w+", code)) <= known


def test_kubernetes_and_compose_values_are_accepted():
    _, found = container()
    load_settings({"bundles": found["args"]}, {row["name"]: row["value"] for row in found["env"]}, None)
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["embedrt"]
    load_settings({"bundles": ("/bundle",)}, compose["environment"], None)


def test_the_image_is_not_built_without_the_native_module():
    """Its build has a compiler, and ends with a check that this library passes."""
    build, _, run = (DEPLOY / "Dockerfile").read_text().partition("\nFROM python:3.11-slim\n")
    assert "slim AS build" not in build
    assert run
    (check,) = re.findall(r"python -c '(.+)'", build)
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    nowhere = "import pathlib, embedrt.executors.library as n; n._find_library = lambda: pathlib.Path('/nowhere'); "
    done = subprocess.run([sys.executable, "-c", nowhere + check], capture_output=True, text=True, check=False)
    assert "native module is not installed" in done.stderr


def test_probes_reach_something_and_the_grace_times_add_up(served: Served):
    pod, found = container()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert served.get(found[probe]["httpGet"]["path"]).status_code == 200
    values = {row["name"]: float(row["value"]) for row in found["env"] if row["name"].endswith("_S")}
    assert pod["terminationGracePeriodSeconds"] > sum(values.values())
    assert pod["enableServiceLinks"] is False
