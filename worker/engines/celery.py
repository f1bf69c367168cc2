"""The Celery engine: rows as messages on Redis, for workers on any machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from pipeline.errors import RetryableError
from worker import keys
from worker.broker import check_broker, connect, shown
from worker.celery_app import QUEUE, UNACKED_KEY, create_app
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store
from worker.tasks import PROCESS, RowsMessage


class CeleryEngine:
    """Sends messages and forgets them: what becomes of a row is seen in the store."""

    name = "celery"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = create_app(settings)
        self._redis: redis.Redis = connect(settings)

    def __enter__(self) -> Self:
        check_broker(self._settings)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._app.close()
        self._redis.close()

    def hand_out(self, store: Store, run: RunRecord, positions: Sequence[int]) -> None:
        """Publish one message for each row."""
        with self._broker_faults(), self._app.producer_pool.acquire(block=True) as producer:
            for position in positions:
                shard, row = divmod(position, keys.SHARD_ROWS)
                message = RowsMessage(store=store.uri, run_id=run.run_id, shard=shard, rows=[row])
                self._app.send_task(
                    PROCESS,
                    kwargs=message.model_dump(mode="json"),
                    queue=QUEUE,
                    producer=producer,
                    # A broker that is away pauses the run; the reconciler tries again.
                    retry=False,
                )

    def wait(self, seconds: float) -> list[int]:
        """Sleep: the store is looked into afterwards."""
        time.sleep(seconds)
        return []

    def holds(self) -> int:
        """Messages that wait, and messages that workers have taken."""
        with self._broker_faults():
            return int(self._redis.llen(QUEUE)) + int(self._redis.hlen(UNACKED_KEY))

    @contextmanager
    def _broker_faults(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, RedisError, OSError) as error:
            raise RetryableError(
                f"the broker {shown(self._settings)} does not take messages ({error}); "
                "the run goes on when it does"
            ) from error
