"""Letting a test speak to a real S3 endpoint."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.rig.s3_server import CREDENTIALS, free_port, make_bucket, moto_server
from worker import s3

__all__ = ["CREDENTIALS", "free_port", "make_bucket", "moto_server", "use_endpoint"]


def use_endpoint(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, credentials: Mapping[str, str] = CREDENTIALS
) -> None:
    """Let this process, and those that it starts, speak to that endpoint."""
    for name, value in {
        **CREDENTIALS,
        **credentials,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ENDPOINT_URL_SQS": endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    s3.forget()
