"""Alerts and dashboard speak of metrics that exist, and every alert says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from worker.health import Heartbeat
from worker.metrics import Metrics
from worker.presence import QueueState

ALERTS = REPOSITORY / "infra" / "prometheus" / "alerts.yaml"
RULES = [
    rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((REPOSITORY / "infra" / "grafana" / "dashboard.json").read_text("utf-8"))
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture(scope="module")
def exported(beat: Heartbeat) -> set[str]:
    """Names of all series that a worker or feeder can have."""
    metrics = Metrics()
    metrics.watch(lambda: beat, lambda: QueueState(0, 0, 0.0))
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        f"{family.name}{ending}"
        for family in metrics.registry.collect()
        for ending in endings.get(family.type, [""])
    }


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_exists(where: str, expression: str, exported: set[str]) -> None:
    used = set(re.findall(r"\bscreen_\w+", expression))
    assert used and used <= exported, where


def test_every_metric_is_on_the_dashboard(exported: set[str]) -> None:
    shown = " ".join(expression for _, expression in expressions())
    assert all(re.sub("_(bucket|sum|count)$", "", name) in shown for name in exported)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: Any) -> None:
    name = rule["alert"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    paragraph = re.search(rf"^### {name}\n\n(.+?)(?=^#|\Z)", OPERATIONS, re.DOTALL | re.MULTILINE)
    assert paragraph, f"docs/operations.md has no '### {name}'"
    assert len(paragraph[1]) > 100


def test_no_paragraph_is_about_an_alert_that_is_gone() -> None:
    named = set(re.findall(r"^### (Screen\w+)$", OPERATIONS, re.MULTILINE))
    assert named == {rule["alert"] for rule in RULES}


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_prometheus_takes_the_rules_and_they_do_as_they_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool on PATH (Debian: prometheus)")
    folder = ALERTS.parent
    subprocess.run([promtool, "check", "rules", ALERTS.name], check=True, cwd=folder)
    subprocess.run([promtool, "test", "rules", "tests.yaml"], check=True, cwd=folder)
