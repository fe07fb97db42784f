"""Alerts and dashboard speak of metrics that the server has, and promtool takes them where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
FILES = ("alerts.yaml", "dashboard.json")
_ENDINGS = ("_total", "_bucket", "_sum", "_count")


def known() -> set[str]:
    """Names of the server's and the front's metrics, without the endings that a kind of metric adds."""
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    from embedrt.routing.metrics import FrontMetrics
    from embedrt.server.metrics import Metrics

    return {family.name for every in (Metrics()._registry, FrontMetrics().registry) for family in every.collect()}


@pytest.mark.parametrize("name", FILES)
def test_the_metrics_are_there(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = set(re.findall(r"\bembedrt_[a-z_]+", text))
    bare = {next((metric.removesuffix(end) for end in _ENDINGS if metric.endswith(end)), metric) for metric in found}
    assert len(bare) >= 8
    assert bare <= known()


def test_every_panel_asks_the_chosen_source() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    assert all(target["datasource"]["uid"] == "${source}" for panel in panels for target in panel["targets"])


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_promtool_takes_the_alerts(command: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
