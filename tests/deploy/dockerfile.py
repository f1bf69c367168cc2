"""Follow the Dockerfile without a container engine, and try what it makes.

    python -m tests.deploy.dockerfile FOLDER

Performs the instructions of docker/Dockerfile in FOLDER: every stage is a tree of its own, a
virtual environment stands for the base image, and absolute paths are moved below the tree. At the
end the sample smears are screened by what was built, with the environment, the user's folders and
the entry point that the image has. What it cannot show: the base image itself, and isolation.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]

#: Folders of an image that lie within the tree; commands elsewhere are the machine's.
_MOVED = re.compile(r"(?<![\w.}/-])(/opt|/src|/tmp)(?![\w.-])")

#: What would change this machine.
_STUBS = ("useradd",)


class Instruction(NamedTuple):
    """One line of a Dockerfile, continuations joined."""

    name: str
    value: str


def read_dockerfile(path: Path) -> Iterator[Instruction]:
    """Instructions in order; comments and line breaks are gone."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            yield Instruction(name, value.strip())


class Build:
    """The stages so far. ``here`` always leads to the present one: programs know their own path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.here = self.folder / "image"
        self.stage = ""
        self.environment: dict[str, str] = {}
        self.workdir = "/"
        self.entrypoint: list[str] = []

    def run(self, instruction: Instruction) -> None:
        """Perform one instruction. Raises ValueError for one that is not known."""
        name, value = instruction
        if name == "FROM":
            self._start(value)
        elif name == "ENV":
            given = dict(pair.split("=", 1) for pair in shlex.split(value))
            self.environment |= {key: self._moved(one) for key, one in given.items()}
        elif name == "WORKDIR":
            self.workdir = value
            self._at(value).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            self._copy(shlex.split(value))
        elif name == "RUN":
            self.call(["sh", "-euc", self._moved(value)])
        elif name == "ENTRYPOINT":
            self.entrypoint = json.loads(value)
        elif name not in {"ARG", "LABEL", "VOLUME", "USER", "HEALTHCHECK", "CMD"}:
            raise ValueError(f"{name} is not known here")

    def call(self, command: list[str]) -> None:
        """Run a command as in the image."""
        base = f"{self._at('/usr/local/bin')}:/usr/bin:/bin"
        environment = {"PATH": base, "LANG": "C.UTF-8"} | self.environment
        environment["PATH"] = environment["PATH"].replace("${PATH}", base)
        # How a package index is reached is the machine's affair.
        environment |= {name: one for name, one in os.environ.items() if name.startswith("PIP_IN")}
        sys.stderr.write(f"[{self.stage}] {shlex.join(command)}\n")
        subprocess.run(command, check=True, cwd=self._at(self.workdir), env=environment)

    def _start(self, value: str) -> None:
        _, _, name = value.partition(" AS ")
        self.stage, self.environment, self.workdir = name or "last", {}, "/"
        tree = self.folder / self.stage
        tree.mkdir(parents=True)
        self.here.unlink(missing_ok=True)
        self.here.symlink_to(tree)
        subprocess.run([sys.executable, "-m", "venv", self._at("/usr/local")], check=True)
        self._at("/tmp").mkdir()
        for stub in _STUBS:
            self._at(f"/usr/local/bin/{stub}").symlink_to("/bin/true")

    def _copy(self, words: list[str]) -> None:
        stage = next((one.removeprefix("--from=") for one in words if one.startswith("--")), None)
        *sources, target = [one for one in words if not one.startswith("--")]
        for source in sources:
            origin = REPOSITORY / source if stage is None else self.folder / stage / source[1:]
            place = self._at(target if target.startswith("/") else f"{self.workdir}/{target}")
            if target.endswith("/"):
                place /= origin.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                leave_out = _left_out if stage is None else None
                shutil.copytree(origin, place, symlinks=True, ignore=leave_out)
            elif _is_sent(source):
                shutil.copy2(origin, place)
            else:
                raise ValueError(f"{source} is left out by .dockerignore")

    def _at(self, path: str) -> Path:
        return self.here / path.lstrip("/")

    def _moved(self, text: str) -> str:
        return _MOVED.sub(lambda match: f"{self.here}{match[0]}", text)


def _patterns() -> list[str]:
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _is_sent(source: str) -> bool:
    """Whether the build sees the file or folder; the last pattern that fits it counts."""
    sent = True
    for pattern in _patterns():
        if fnmatch.fnmatch(source, pattern.lstrip("!")):
            sent = pattern.startswith("!")
    return sent


def _left_out(_: str, names: list[str]) -> set[str]:
    deep = [one.removeprefix("**/") for one in _patterns() if one.startswith("**/")]
    return {name for name in names if any(fnmatch.fnmatch(name, one) for one in deep)}


def main(folder: Path) -> None:
    """Build, then screen two images."""
    build = Build(folder)
    for instruction in read_dockerfile(REPOSITORY / "docker" / "Dockerfile"):
        build.run(instruction)
    shutil.rmtree(build.folder / "build")
    slides, reports = build.folder / "slides", build.folder / "reports"
    build.call([*build.entrypoint, "samples", str(slides), "--patients", "1", "--fields", "2"])
    build.call([*build.entrypoint, "submit", str(slides), "--out", str(reports)])
    assert (reports / "index.html").is_file()
    sys.stderr.write("The Dockerfile's steps work, and what they make screens images.\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
