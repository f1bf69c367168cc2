"""Every setting of the distributed part, in one typed place (environment prefix ``SCREEN_``)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import ConfigurationError
from worker.place import Place, parse_place

#: An image that is still being processed must never be handed out again by Redis: a message counts
#: as lost only after this many times the longest time an image may take.
VISIBILITY_FACTOR = 5


def _processors() -> int:
    """Processors this process may use (a container may be given fewer than the machine has)."""
    return len(os.sched_getaffinity(0))


def _health_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"screen-{os.geteuid()}"


class Settings(BaseSettings):
    """How work is distributed. Nothing here changes a result."""

    model_config = SettingsConfigDict(env_prefix="SCREEN_", frozen=True, extra="ignore")

    broker_url: str | None = Field(
        default=None,
        description="Redis that distributes the work: redis://host:6379/0, rediss:// with TLS, or "
        "sentinel://host:26379;sentinel://other:26379/0; without it images are processed by local "
        "processes",
    )
    sentinel_master: str | None = Field(
        default=None, description="what the sentinels of the broker call it"
    )
    allowed_roots: str | None = Field(
        default=None,
        description="folders or URIs, separated by commas, below which a worker reads archives and "
        "keeps results; default: wherever a message says",
    )
    bundle: Path | None = Field(
        default=None,
        description="folder of the model bundle, or name of a shipped one; default: `white-cells`",
    )
    analyser: str = Field(
        default="pipeline.analyse:open_analyser",
        description="import path of the function that opens the model, module:function",
    )
    path_map: str | None = Field(
        default=None,
        description="where this machine sees folders that the submitting one calls otherwise: "
        "/mnt/slides=/srv/slides, several separated by commas",
    )
    processes: PositiveInt = Field(
        default_factory=_processors,
        description="images that are processed at once on this machine; default: its processors",
    )
    window: PositiveInt = Field(
        default=2048, description="images handed out and not yet finished, at most"
    )
    megabytes_per_second: PositiveFloat | None = Field(
        default=None,
        description="images are handed out no faster than this, so that reading them leaves disk "
        "and network to others; default: as fast as they are processed",
    )
    failed_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="a run in which more than this share of the last 200 images failed is stopped",
    )
    s3_requester_pays: bool = Field(
        default=False, description="who reads pays for it: for buckets that demand so"
    )
    s3_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        default=None, description="encryption at rest that is asked for; default: the bucket's own"
    )
    s3_kms_key: str | None = Field(default=None, description="key for aws:kms")
    max_file_bytes: PositiveInt = Field(
        default=512 * 1024 * 1024, description="larger files are not read (too_many_bytes)"
    )
    soft_limit_seconds: PositiveFloat = Field(
        default=120, description="an image that takes longer is interrupted (Celery only)"
    )
    hard_limit_seconds: PositiveFloat = Field(
        default=180, description="a process that is at one image for longer is killed"
    )
    alone_memory_bytes: PositiveInt = Field(
        default=8 * 1024**3,
        description="an image at which workers died is tried in a process that may allocate so "
        "much",
    )
    lease_seconds: PositiveFloat = Field(
        default=400,
        description="an image without outcome this long after it was handed out is handed out "
        "again; must exceed hard_limit_seconds",
    )
    reconcile_seconds: PositiveFloat = Field(
        default=5, description="time between two comparisons of what was handed out with the store"
    )
    visibility_timeout_seconds: PositiveFloat = Field(
        default=900,
        description="time after which Redis hands out a message again whose worker vanished; at "
        "least five times hard_limit_seconds",
    )
    shutdown_seconds: PositiveFloat = Field(
        default=20,
        description="a worker that is told to stop finishes the images it is at, if they take no "
        "longer; else they are handed back",
    )
    images_per_process: PositiveInt = Field(
        default=2000, description="a process is replaced after so many images (Celery: messages)"
    )
    process_memory_bytes: PositiveInt = Field(
        default=4 * 1024**3,
        description="a process that holds more memory after an image is replaced",
    )
    worker_start_seconds: PositiveFloat = Field(
        default=180, description="a worker process may take this long to start and load the model"
    )
    log_format: Literal["text", "json"] | None = Field(
        default=None,
        description="how workers and feeders write their log: text (default) or json; "
        "`screen submit` writes one only if this is set",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of /metrics (Prometheus) and /healthz; default: none is opened",
    )
    metrics_address: str = Field(
        default="127.0.0.1", description="address on which the port is opened"
    )
    celery_events: bool = Field(
        default=False,
        description="send Celery's task events and obey its remote control, as Flower needs; who "
        "reaches the broker can then stop workers",
    )
    deaf_seconds: PositiveFloat = Field(
        default=60,
        description="a worker that takes nothing for so long though messages wait is unhealthy",
    )
    health_folder: Path = Field(
        default_factory=_health_folder,
        description="where processes leave word for `screen health`; of this machine, not shared",
    )

    @field_validator("path_map")
    @classmethod
    def _is_a_map(cls, value: str | None) -> str | None:
        for pair in (value or "").split(","):
            if pair.strip() and not all(part.strip() for part in f"{pair}=".split("=")[:2]):
                raise ValueError(f"{pair.strip()!r} is not of the form /there=/here")
        return value

    @model_validator(mode="after")
    def _limits_fit_together(self) -> Self:
        if self.soft_limit_seconds > self.hard_limit_seconds:
            raise ValueError("soft_limit_seconds must not exceed hard_limit_seconds")
        if self.lease_seconds <= self.hard_limit_seconds:
            raise ValueError("lease_seconds must exceed hard_limit_seconds")
        if self.visibility_timeout_seconds < VISIBILITY_FACTOR * self.hard_limit_seconds:
            raise ValueError(
                "visibility_timeout_seconds must be at least "
                f"{VISIBILITY_FACTOR} times hard_limit_seconds, "
                "or images that take long are processed twice"
            )
        return self

    def place(self, uri: str) -> str:
        """Where this machine sees what another calls so; the longest match counts."""
        pairs = [pair.split("=", 1) for pair in (self.path_map or "").split(",") if pair.strip()]
        there_here = [(_as_uri(one.strip()), _as_uri(other.strip())) for one, other in pairs]
        for there, here in sorted(there_here, key=lambda pair: len(pair[0]), reverse=True):
            if uri == there or uri.startswith(f"{there}/"):
                return here + uri[len(there) :]
        return uri

    def allows(self, uri: str) -> bool:
        """Whether a worker may read and write there (``file://`` or another URI)."""
        if self.allowed_roots is None:
            return True
        allowed = [one.strip() for one in self.allowed_roots.split(",") if one.strip()]
        return any(_is_below(uri, _as_uri(one)) for one in allowed)


def _as_uri(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()


def _is_below(uri: str, folder: str) -> bool:
    """Whether the place is the folder or within it, whatever links and dots the URI contains."""
    try:
        place, root = parse_place(uri), parse_place(folder)
    except ConfigurationError:
        return False
    if isinstance(place, Path):
        return isinstance(root, Path) and place.resolve().is_relative_to(root.resolve())
    # Dots are names like any others in a bucket, but some clients resolve them on the way.
    dots = {".", ".."} & set(place.prefix.split("/"))
    return isinstance(root, Place) and root.contains(place) and not dots


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; ``overrides`` that are not None win.

    Raises ConfigurationError that names the variable and what is wrong with it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigurationError(f"settings are wrong: {problems}") from None


def _variable(location: tuple[int | str, ...]) -> str:
    return "SCREEN_" + "_".join(str(part) for part in location).upper() if location else "SCREEN_*"
