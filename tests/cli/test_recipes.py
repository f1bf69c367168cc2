"""``screen recipes`` and where ``screen train`` gets weights from."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import download
from cli.download import fetch_weights
from cli.main import cli
from pipeline.errors import ConfigurationError, RetryableError
from pipeline.training.recipes import RECIPES

ADDRESS = "https://weights.example/network.h5"


def test_every_recipe_is_listed_with_its_source_for_people_and_programs():
    words = CliRunner().invoke(cli, ["recipes"]).output
    listed = json.loads(CliRunner().invoke(cli, ["recipes", "--json"]).output)
    assert [entry["name"] for entry in listed] == [*RECIPES, "colour-forest"]
    assert all(entry["source"] and entry["input"] for entry in listed)
    assert all(f"{recipe.parameters:,}" in words for recipe in RECIPES.values())
    assert all(name in words for name in RECIPES)


def test_the_page_about_recipes_has_each_with_its_parameters():
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
    for recipe in RECIPES.values():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{recipe.name}`")]
        assert f"{recipe.parameters:,}" in row
        if recipe.trainable_parameters not in (None, recipe.parameters):
            assert f"({recipe.trainable_parameters:,})" in row
        assert f"{recipe.epochs} epochs" in row or "the same" in row


def test_listing_recipes_loads_no_tensorflow():
    code = (
        "import sys; from click.testing import CliRunner; from cli.main import cli;"
        "assert CliRunner().invoke(cli, ['recipes']).exit_code == 0;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def answers(content: bytes):
    calls = []

    def open_url(url: str) -> io.BytesIO:
        calls.append(url)
        return io.BytesIO(content)

    return open_url, calls


def test_weights_are_downloaded_once_and_checked(tmp_path):
    open_url, calls = answers(b"weights")
    known = hashlib.sha256(b"weights").hexdigest()
    for _ in range(2):
        path = fetch_weights(ADDRESS, tmp_path, sha256=known.upper(), open_url=open_url)
        assert path.name == "network.h5" and path.read_bytes() == b"weights"
    assert calls == [ADDRESS]
    with pytest.raises(ConfigurationError, match="not the file asked for"):
        fetch_weights(str(path), tmp_path, sha256="0" * 64)


def test_a_wrong_or_endless_answer_leaves_nothing_behind(tmp_path, monkeypatch):
    open_url, _ = answers(b"something else")
    with pytest.raises(ConfigurationError, match="not the file asked for"):
        fetch_weights(ADDRESS, tmp_path, sha256="0" * 64, open_url=open_url)
    monkeypatch.setattr(download, "MAXIMUM_BYTES", 5)
    with pytest.raises(ConfigurationError, match="more than"):
        fetch_weights(ADDRESS, tmp_path, open_url=open_url)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", ["http://weights.example/a.h5", "ftp://x/a", "file:///etc/passwd"])
def test_only_https_is_downloaded_from_also_after_a_redirection(url, tmp_path):
    with pytest.raises(ConfigurationError, match="https only"):
        fetch_weights(url, tmp_path)
    with pytest.raises(ConfigurationError, match="https only"):
        download._HttpsOnly().redirect_request(
            urllib.request.Request(ADDRESS), None, 302, "Found", {}, url
        )


def test_errors_of_the_server_say_who_has_to_do_something(tmp_path):
    def missing(url: str) -> io.BytesIO:
        raise urllib.error.HTTPError(url, 404, "Not Found", None, None)

    def away(url: str) -> io.BytesIO:
        raise urllib.error.URLError("no route")

    with pytest.raises(ConfigurationError, match="404"):
        fetch_weights(ADDRESS, tmp_path, open_url=missing)
    with pytest.raises(RetryableError, match="no route"):
        fetch_weights(ADDRESS, tmp_path, open_url=away)
    with pytest.raises(ConfigurationError, match="no file of weights"):
        fetch_weights(str(tmp_path / "none.h5"), tmp_path)
