from __future__ import annotations

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
