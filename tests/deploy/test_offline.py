"""An installation on a machine without a network, as docs/deployment.md describes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCE = ["Makefile", "README.md", "LICENSE", "pyproject.toml", "requirements.lock"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheelhouse_is_all_that_is_needed(tmp_path: Path) -> None:
    for name in ("connected", "laboratory"):
        (tmp_path / name).mkdir()
        for file in SOURCE:
            shutil.copy2(REPOSITORY / file, tmp_path / name)
        for folder in ("cli", "pipeline", "worker"):
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / folder, tmp_path / name / folder, ignore=leave_out)
    subprocess.run(["make", "wheelhouse"], check=True, cwd=tmp_path / "connected")
    wheelhouse = tmp_path / "laboratory" / "wheelhouse"
    (tmp_path / "connected" / "wheelhouse").rename(wheelhouse)
    offline = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse)}
    # Where it may, the machine is cut off; elsewhere pip alone is.
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        alone = []
    command = [*alone, "make", "run"]
    subprocess.run(command, check=True, cwd=tmp_path / "laboratory", env=offline)
    assert (tmp_path / "laboratory" / "reports" / "index.html").is_file()
