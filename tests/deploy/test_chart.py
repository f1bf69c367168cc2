"""The Helm chart, by what it renders to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import REPOSITORY
from worker.settings import Settings

HELM = REPOSITORY / "infra" / "helm"
RENDERED = sorted((HELM / "rendered").glob("*.yaml"))

#: Defined by KEDA and by the Prometheus Operator, for which there is no schema here.
CUSTOM = {"ScaledObject", "PodMonitor"}

LONGER_SECONDS = 5


def objects(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


def pods(path: Path) -> Iterator[tuple[str, Any]]:
    for one in objects(path):
        if one["kind"] in {"Deployment", "StatefulSet"}:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def digest(values: Path) -> str:
    """Of everything that a rendered file depends on, in the order of render.sh."""
    chart = HELM / "screen"
    files = [
        *sorted(chart.glob("*.yaml")),
        *sorted(chart.glob("*.json")),
        *sorted(chart.glob("templates/*")),
        *sorted((chart / "files").glob("*")),
        values,
    ]
    return hashlib.sha256(b"".join(one.read_bytes() for one in files)).hexdigest()


@pytest.fixture(params=RENDERED, ids=lambda path: path.stem)
def rendered(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_example_is_rendered_from_the_chart_as_it_is(rendered: Path) -> None:
    assert {path.name for path in RENDERED} == {path.name for path in HELM.glob("examples/*")}
    first = rendered.read_text("utf-8").splitlines()[0]
    assert first.endswith(digest(HELM / "examples" / rendered.name)), "run infra/helm/render.sh"


def test_helm_renders_the_same(tmp_path: Path) -> None:
    helm = os.environ.get("HELM") or shutil.which("helm")
    if helm is None:
        pytest.skip("there is no helm on PATH, and HELM does not name one")
    copy = tmp_path / "helm"
    shutil.copytree(HELM, copy)
    subprocess.run(["sh", copy / "render.sh"], check=True, env=os.environ | {"HELM": helm})
    for path in RENDERED:
        assert (copy / "rendered" / path.name).read_text() == path.read_text()
    # What makes no sense is refused.
    for wrong in ("out=reports", "worker.gpu.enabled=true", "wroker.replicas=3"):
        call = [helm, "template", "screen", copy / "screen", "--set", wrong]
        assert subprocess.run(call, check=False, capture_output=True).returncode != 0


@pytest.mark.parametrize("version", ["1.27", "1.31", "1.37"])
def test_kubernetes_would_take_it(rendered: Path, version: str) -> None:
    found = objects(rendered)
    assert {"Deployment", "NetworkPolicy", "PodDisruptionBudget"} < {one["kind"] for one in found}
    for one in found:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


def test_no_two_objects_are_one(rendered: Path) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects(rendered)]
    assert len(names) == len(set(names))


def test_everything_is_closed(rendered: Path) -> None:
    for name, pod in pods(rendered):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"requests", "limits"} <= set(container["resources"]), name


def test_secrets_are_referred_to_and_never_there(rendered: Path) -> None:
    assert "Secret" not in {one["kind"] for one in objects(rendered)}
    for _, pod in pods(rendered):
        for variable in pod["containers"][0]["env"]:
            if "PASSWORD" in variable["name"]:
                assert "secretKeyRef" in variable["valueFrom"]


def test_pods_have_time_to_stop(rendered: Path) -> None:
    for name, pod in pods(rendered):
        given = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        if shutdown := given.get("SCREEN_SHUTDOWN_SECONDS"):
            assert pod["terminationGracePeriodSeconds"] > int(shutdown) + LONGER_SECONDS, name


def test_every_setting_in_it_exists(rendered: Path) -> None:
    known = {f"SCREEN_{name}".upper() for name in Settings.model_fields}
    known |= {"SCREEN_OUT", "SCREEN_REDIS_PASSWORD"}
    for _, pod in pods(rendered):
        names = {one["name"] for one in pod["containers"][0]["env"]}
        assert {name for name in names if name.startswith("SCREEN_")} <= known


def test_workers_are_scaled_by_the_work_outstanding(rendered: Path) -> None:
    (scaled,) = [one for one in objects(rendered) if one["kind"] == "ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert re.findall(r"screen_\w+", query) == ["screen_images_outstanding"]
    # A missing figure is a fault, and not the same as no work.
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    (worker,) = [
        one
        for one in objects(rendered)
        if one["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
        and one["kind"] == "Deployment"
    ]
    assert "replicas" not in worker["spec"], "two would scale it"
    # No more are ever asked for than the feeder's window has work for.
    window = Settings.model_fields["window"].default
    assert scaled["spec"]["maxReplicaCount"] * int(trigger["metadata"]["threshold"]) <= window


def test_redis_is_the_one_of_the_compose_file() -> None:
    (config,) = [
        one for one in objects(HELM / "rendered/shares.yaml") if one["kind"] == "ConfigMap"
    ]
    for name, text in config["data"].items():
        assert text.strip() == (REPOSITORY / "docker" / "redis" / name).read_text("utf-8").strip()


def test_workers_that_need_a_graphics_processor_ask_for_one() -> None:
    found = dict(pods(HELM / "rendered" / "bucket-gpu.yaml"))
    pod = found["screen-worker"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] and pod["tolerations"]
    assert "tolerations" not in found["screen-feeder"]
