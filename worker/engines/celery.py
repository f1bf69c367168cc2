"""The Celery engine: rows as messages on Redis, for workers on any machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import redis
from kombu.exceptions import BatchPublishError, OperationalError
from redis.exceptions import RedisError

from pipeline.errors import RetryableError
from worker import keys
from worker.broker import check_broker, connect, shown
from worker.celery_app import PRIORITY_STEPS, QUEUE, UNACKED_KEY, create_app, queue_keys
from worker.engines import Settled
from worker.manifest import read_row
from worker.records import RunRecord
from worker.runs import priority
from worker.settings import Settings
from worker.store import Store
from worker.tasks import PROCESS, RowsMessage

#: Rows of a message, and bytes of their files, at most: a message costs about as much as judging a
#: small image, and nothing beside judging a large one.
MESSAGE_ROWS, MESSAGE_BYTES = 8, 2_000_000


#: While fewer messages than this wait for each process, none of them holds several rows.
_MESSAGES_A_PROCESS = 4


class CeleryEngine:
    """Sends messages and forgets them: what becomes of a row is seen in the store."""

    name = "celery"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = create_app(settings)
        self._redis: redis.Redis = connect(settings)
        # Of what an earlier feeder left behind the most is assumed.
        self._rows_a_message = float(MESSAGE_ROWS)
        self._taken = 0

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

    @property
    def capacity(self) -> int:
        """As many as are to be outstanding: how many workers there are changes at any time."""
        return self._settings.window

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, together: bool = False
    ) -> None:
        """Publish the rows; small ones several to a message if there are many more."""
        level = priority(store, run)
        most = self._rows_at_once() if together else 1
        messages = list(_messages(store, run, positions, most=most))
        pool = self._app.producer_pool
        # One round trip for all. Which of them a broker took that failed in it is not known; those
        # that are sent again are done once.
        with self._broker_faults(), pool.acquire(block=True) as producer, producer.batch():
            for message in messages:
                self._app.send_task(
                    PROCESS,
                    kwargs=message.model_dump(mode="json"),
                    # Nobody reads the message twice: once as text, for people.
                    argsrepr="",
                    kwargsrepr="",
                    queue=QUEUE,
                    priority=PRIORITY_STEPS[level],
                    producer=producer,
                    # A broker that is away pauses the run; the reconciler tries again.
                    retry=False,
                )
        for message in messages:
            self._rows_a_message += 0.05 * (len(message.rows) - self._rows_a_message)

    def wait(self, seconds: float) -> list[Settled]:
        """Sleep: the store is looked into afterwards."""
        time.sleep(seconds)
        return []

    def holds(self) -> int:
        """Rows of messages that wait, and of those that workers have taken: an estimate."""
        with self._broker_faults(), self._redis.pipeline(transaction=False) as asked:
            for key in queue_keys():
                asked.llen(key)
            asked.hlen(UNACKED_KEY)
            *waiting, taken = asked.execute()
        self._taken = int(taken)
        return round((sum(waiting) + taken) * self._rows_a_message)

    def _rows_at_once(self) -> int:
        """Rows of a message at which there are a few messages for each process that takes some."""
        messages = _MESSAGES_A_PROCESS * max(self._taken, 1)
        return min(MESSAGE_ROWS, max(1, self._settings.window // messages))

    @contextmanager
    def _broker_faults(self) -> Iterator[None]:
        try:
            yield
        except (BatchPublishError, OperationalError, RedisError, OSError) as error:
            raise RetryableError(
                f"the broker {shown(self._settings)} does not take messages ({error}); "
                "the run goes on when it does"
            ) from error


def _messages(
    store: Store, run: RunRecord, positions: Sequence[int], *, most: int
) -> Iterator[RowsMessage]:
    """Messages of at most so many rows each, of one shard."""
    rows: list[int] = []
    shard, size = -1, 0

    def message() -> RowsMessage:
        return RowsMessage(store=store.uri, run_id=run.run_id, shard=shard, rows=rows)

    for position in positions:
        next_shard, row = divmod(position, keys.SHARD_ROWS)
        next_size = read_row(store, run, position).size
        if rows and (next_shard != shard or len(rows) == most or size + next_size > MESSAGE_BYTES):
            yield message()
            rows, size = [], 0
        shard, size = next_shard, size + next_size
        rows.append(row)
    if rows:
        yield message()
