"""The chart: it makes what deploy/kubernetes has, refuses wrong values, and what it makes fits Kubernetes' own schemas.

`make test-deploy` brings helm and the schemas; without them these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedrt.server.config import load_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "embedrt"
FRONT = ("front.enabled=true", "identities.minilm=0123456789abcdef", "autoscaling.kind=keda")
OF_OTHERS = {"ServiceMonitor", "ScaledObject"}  # of operators: not in Kubernetes' schemas
needs_helm = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed (make test-deploy)")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False, timeout=60)


def rendered(*values: str, release: str = "embedrt") -> list[dict[str, Any]]:
    """The objects of a release."""
    done = helm("template", release, str(CHART), *(part for value in values for part in ("--set", value)))
    assert done.returncode == 0, done.stderr
    return [row for row in yaml.safe_load_all(done.stdout) if row]


def one(objects: list[dict[str, Any]], kind: str, name: str = "embedrt") -> dict[str, Any]:
    (found,) = [row for row in objects if row["kind"] == kind and row["metadata"]["name"] == name]
    return found


def plain() -> list[dict[str, Any]]:
    """What deploy/kubernetes has."""
    files = (DEPLOY / "kubernetes" / name for name in ("embedrt.yaml", "servicemonitor.yaml"))
    return [row for file in files for row in yaml.safe_load_all(file.read_text())]


def test_every_value_is_in_the_schema_and_fits_it() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    assert set(values) == set(schema["properties"]) - {"global"}
    for name in ("image", "bundle", "keys", "packed", "networkPolicy", "serviceMonitor", "autoscaling", "front"):
        assert set(values[name]) == set(schema["properties"][name]["properties"]), name


@needs_helm
def test_the_default_is_what_deploy_kubernetes_has() -> None:
    by_kind = {row["kind"]: row for row in plain()}
    assert {row["kind"]: row for row in rendered()} == by_kind


@needs_helm
def test_the_autoscaler_is_what_deploy_monitoring_has() -> None:
    wanted = yaml.safe_load((DEPLOY / "monitoring" / "hpa.yaml").read_text())
    objects = rendered("autoscaling.kind=hpa")
    assert one(objects, "HorizontalPodAutoscaler") == wanted
    assert "replicas" not in one(objects, "Deployment")["spec"]  # it would undo what the autoscaler did


@needs_helm
def test_helm_finds_nothing() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@needs_helm
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("replcas=3", "replcas"),
        ("resources.limits.cpu=1500m", "cpu"),  # two threads that are throttled in turn
        ("settings.port=1", "settings"),  # the probes ask 8080
        ("autoscaling.kind=luck", "kind"),
        ("bundle.claim=", "claim"),
        ("identities.m=latest", "identities"),
    ],
)
def test_wrong_values_are_refused(value: str, said: str) -> None:
    done = helm("template", "embedrt", str(CHART), "--set", value)
    assert done.returncode != 0
    assert said in done.stderr


@needs_helm
def test_servers_and_front_are_told_the_same_identity() -> None:
    objects = rendered(*FRONT)
    pod = one(objects, "Deployment")["spec"]["template"]
    env = {row["name"]: row["value"] for row in pod["spec"]["containers"][0]["env"]}
    assert env["EMBEDRT_IDENTITY"] == "minilm=0123456789abcdef"
    assert one(objects, "Service")["spec"]["selector"] == pod["metadata"]["labels"]
    other = rendered("identities.minilm=fedcba9876543210")
    assert one(other, "Service")["spec"]["selector"] != pod["metadata"]["labels"]
    arguments = one(objects, "Deployment", "embedrt-front")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--identity=minilm=0123456789abcdef" in arguments


@needs_helm
def test_settings_and_flags_are_taken() -> None:
    values = (
        "settings.queue_tokens=2000000",
        "settings.cors_origins={https://a,https://b}",
        "front.settings.check_every_s=0.5",
    )
    objects = rendered(*FRONT, *values)
    container = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    environment = {row["name"]: row["value"] for row in container["env"]}
    loaded = load_settings({"bundles": container["args"]}, environment, None).settings
    assert (loaded.queue_tokens, loaded.cors_origins) == (2_000_000, ("https://a", "https://b"))
    from embedrt.cli.front import command

    front = one(objects, "Deployment", "embedrt-front")["spec"]["template"]["spec"]["containers"][0]
    given = command.make_context("front", list(front["args"])).params
    assert given["servers"] == ("http://embedrt:8080",)
    assert (given["resolve"], given["check_every_s"], given["metrics_port"]) == (True, 0.5, "9090")


@needs_helm
def test_the_front_reaches_every_pod_and_only_it_does() -> None:
    objects = rendered(*FRONT, release="search")
    service = one(objects, "Service", "search")["spec"]
    assert service["clusterIP"] == "None"  # a name with the address of each pod
    assert service["ports"][0]["port"] == 8080
    (first, _) = one(objects, "NetworkPolicy", "search")["spec"]["ingress"]
    labels = one(objects, "Deployment", "search-front")["spec"]["template"]["metadata"]["labels"]
    assert first["from"] == [{"podSelector": {"matchLabels": labels}}]
    egress = one(objects, "NetworkPolicy", "search-front")["spec"]["egress"]
    assert egress[0]["to"] == [{"podSelector": {"matchLabels": {"app": "search"}}}]
    assert one(objects, "Service", "search-front")["spec"]["selector"] == labels


@needs_helm
def test_keda_asks_for_the_queues_own_metric() -> None:
    (trigger,) = one(rendered(*FRONT), "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == 'sum(embedrt_queue_tokens{namespace="default", service="embedrt"})'
    assert trigger["metadata"]["threshold"] == "80000"


@needs_helm
def test_packed_weights_may_lie_on_a_shared_volume() -> None:
    volumes = one(rendered("packed.claim=packed"), "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "packed", "persistentVolumeClaim": {"claimName": "packed"}} in volumes


@needs_helm
@pytest.mark.parametrize("values", [(), FRONT, ("autoscaling.kind=hpa", "keys.secret=", "networkPolicy.clients=null")])
def test_kubernetes_own_schemas_take_it(values: tuple[str, ...]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    for row in rendered(*values):
        if row["kind"] not in OF_OTHERS:
            validate(row, "1.37", strict=True)
