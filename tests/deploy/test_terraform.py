"""The Terraform of AWS, as far as it can be judged without a cloud, and its policies."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "infra" / "terraform" / "aws"
FILES = sorted(FOLDER.glob("*.tf"))
POLICIES = sorted((REPOSITORY / "infra" / "aws" / "policies").glob("*.json"))


_ASSIGNMENT = re.compile(r"^( *)[\w-]+ += (?=.*[^{\[(]$)")


def blocks(kind: str) -> dict[str, Any]:
    """Blocks of all files by name: ``aws_sqs_queue.dead``, or ``region`` of a variable."""
    found: dict[str, Any] = {}
    for file in FILES:
        for block in hcl2.loads(file.read_text("utf-8")).get(kind, []):
            for name, body in block.items():
                if kind in {"resource", "data"}:
                    for inner, content in body.items():
                        found[f"{name}.{inner}".replace('"', "")] = content
                else:
                    found[name.replace('"', "")] = body
    return found


def text() -> str:
    return "\n".join(file.read_text("utf-8") for file in FILES)


def test_every_file_is_read() -> None:
    assert len(FILES) >= 8
    assert {"aws_s3_bucket.this", "aws_sqs_queue.dead", "aws_budgets_budget.this"} <= set(
        blocks("resource")
    )


def test_nothing_is_referred_to_that_is_not_there() -> None:
    code = re.sub(r"^\s*#.*$", "", text(), flags=re.MULTILINE)
    assert set(re.findall(r"\bvar\.(\w+)", code)) == set(blocks("variable"))
    data = {f"data.{name}" for name in blocks("data")}
    assert set(re.findall(r"\bdata\.aws_\w+\.\w+", code)) == data
    used = set(re.findall(r"(?<![\w.\"])(aws_\w+\.\w+)", code))
    assert used <= set(blocks("resource"))
    (locals_,) = [hcl2.loads(f.read_text())["locals"] for f in FILES if f.name == "workers.tf"]
    known = {name for block in locals_ for name in block} | {"policies", "places"}
    assert set(re.findall(r"\blocal\.(\w+)", code)) <= known


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_everything_a_person_sees_is_described(kind: str) -> None:
    for name, body in blocks(kind).items():
        assert body.get("description"), name


def test_it_looks_as_terraform_fmt_leaves_it() -> None:
    for file in FILES:
        lines = file.read_text("utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            assert line == line.rstrip() and "\t" not in line, f"{file.name}:{number}"
        # Equals signs of neighbouring lines stand below each other, values of several lines apart.
        for first, second in itertools.pairwise(lines):
            one, other = _ASSIGNMENT.match(first), _ASSIGNMENT.match(second)
            if one and other and one[1] == other[1]:
                assert one.end() == other.end(), f"{file.name}: {second.strip()}"


def test_redis_forgets_no_messages_and_is_no_cluster() -> None:
    resources = blocks("resource")
    assert "noeviction" in str(resources["aws_elasticache_parameter_group.this"])
    group = resources["aws_elasticache_replication_group.this"]
    assert "num_node_groups" not in group
    user = resources["aws_elasticache_user.screen"]["access_string"]
    users = (REPOSITORY / "docker" / "redis" / "users.acl").read_text("utf-8").splitlines()
    (laboratory,) = [line for line in users if line.startswith("user screen ")]
    rights = re.compile(r"(?<= )[+-]@?\w+")
    assert rights.findall(user) == rights.findall(laboratory)


def test_workers_have_time_to_stop() -> None:
    code = (FOLDER / "workers.tf").read_text("utf-8")
    shutdown = re.search(r'SCREEN_SHUTDOWN_SECONDS += "(\d+)"', code)
    stop = re.search(r"stopTimeout += (\d+)", code)
    assert shutdown and stop
    assert int(shutdown[1]) + 5 < int(stop[1]) <= 120


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_no_policy_allows_everything(path: Path) -> None:
    policy = json.loads(path.read_text("utf-8"))
    for statement in policy["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert "*" not in action
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            assert resource.startswith("${")
