from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from worker.settings import Settings, load_settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREEN_PROCESSES", "7")
    assert load_settings().processes == 7
    assert load_settings(processes=3).processes == 3
    assert load_settings(processes=None).processes == 7


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREEN_PROCESSES", "none")
    with pytest.raises(ConfigurationError, match="SCREEN_PROCESSES"):
        load_settings()


def test_a_visibility_timeout_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 5 times hard_limit_seconds"):
        load_settings(hard_limit_seconds=180, visibility_timeout_seconds=899)
    load_settings(hard_limit_seconds=180, visibility_timeout_seconds=900)


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="soft_limit_seconds must not exceed"):
        load_settings(soft_limit_seconds=200)
    with pytest.raises(ConfigurationError, match="lease_seconds must exceed"):
        load_settings(lease_seconds=100)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("allowed", "uri", "expected"),
    [
        (None, "file:///anywhere", True),
        ("/data", "file:///data/archive", True),
        ("/data/", "file:///data", True),
        ("/data", "file:///data2", False),
        ("/data", "file:///data/../etc", False),
        ("/data", "file:///data/%2e%2e/etc", False),
        ("/other, file:///data", "file:///data/x", True),
        ("/data", "s3://data/x", False),
        ("s3://bucket/in", "s3://bucket/in/night", True),
        ("s3://bucket/in", "s3://bucket/inbox", False),
        ("s3://bucket/in", "s3://bucket/in/../out", False),
        ("s3://bucket", "s3://other/in", False),
        ("s3://bucket/in", "s3://bucket/in/%2e%2e/out", False),
        ("s3://bucket", "s3://[", False),
        ("/data", "file://[", False),
        ("/data", "file:///data/%00", False),
    ],
)
def test_a_worker_works_where_it_was_allowed_to(
    allowed: str | None, uri: str, expected: bool
) -> None:
    assert load_settings(allowed_roots=allowed).allows(uri) is expected


def test_a_link_out_of_an_allowed_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path)
    settings = load_settings(allowed_roots=str(tmp_path / "allowed"))
    assert settings.allows((tmp_path / "allowed" / "new").as_uri())
    assert not settings.allows((tmp_path / "allowed" / "link" / "other").as_uri())


@pytest.mark.parametrize(
    ("given", "uri", "expected"),
    [
        (None, "file:///mnt/a", "file:///mnt/a"),
        ("/mnt=/srv", "file:///mnt/a", "file:///srv/a"),
        ("/mnt=/srv", "file:///mnt", "file:///srv"),
        ("/mnt=/srv", "file:///mnt2/a", "file:///mnt2/a"),
        ("/mnt=/srv, /mnt/a=/other", "file:///mnt/a/b", "file:///other/b"),
        ("file:///mnt=s3://bucket", "file:///mnt/a", "s3://bucket/a"),
        ("/mnt/ü=/srv", "file:///mnt/%C3%BC/a", "file:///srv/a"),
    ],
)
def test_places_have_other_names_on_other_machines(
    given: str | None, uri: str, expected: str
) -> None:
    assert load_settings(path_map=given).place(uri) == expected


def test_a_map_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not of the form /there=/here"):
        load_settings(path_map="/mnt")
