"""The Celery engine: rows as messages on Redis, for workers on any machine."""

from __future__ import annotations

import math
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
from worker.health import BEAT_SECONDS
from worker.manifest import read_row
from worker.presence import Presence
from worker.records import RunRecord
from worker.runs import priority
from worker.settings import Settings
from worker.store import Store
from worker.tasks import PROCESS, RowsMessage

#: Rows of a message, and bytes of their files, at most: a message costs about as much as judging a
#: small image, and nothing beside judging a large one.
MESSAGE_ROWS, MESSAGE_BYTES = 8, 2_000_000


#: Messages hold fewer rows where there would not be so many of them for each process.
_MESSAGES_A_PROCESS = 4


class CeleryEngine:
    """Sends messages and forgets them: what becomes of a row is seen in the store."""

    name = "celery"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = create_app(settings)
        self._redis: redis.Redis = connect(settings)
        self._presence = Presence(settings)
        self._processes, self._counted = 0, -math.inf
        # Of what an earlier feeder left behind the most is assumed.
        self._rows_a_message = float(MESSAGE_ROWS)

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
        self._presence.close()

    @property
    def capacity(self) -> int:
        """As many as are to be outstanding: how many workers there are changes at any time."""
        return self._settings.window

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        """Publish the rows; small ones several to a message while there are many."""
        level = priority(store, run)
        messages = list(self._messages(store, run, positions, more))
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
        return round((sum(waiting) + taken) * self._rows_a_message)

    def _messages(
        self, store: Store, run: RunRecord, positions: Sequence[int], more: int
    ) -> Iterator[RowsMessage]:
        """Messages of rows of one shard, fewer in each towards the end, so that all share it."""
        processes = self._count_processes()
        rows: list[int] = []
        shard, size, most = -1, 0, 1

        def message() -> RowsMessage:
            return RowsMessage(store=store.uri, run_id=run.run_id, shard=shard, rows=rows)

        for number, position in enumerate(positions):
            next_shard, row = divmod(position, keys.SHARD_ROWS)
            next_size = read_row(store, run, position).size
            full = len(rows) == most or size + next_size > MESSAGE_BYTES
            if rows and (full or next_shard != shard):
                yield message()
                rows, size = [], 0
            if not rows:
                most = self._rows_at_once(len(positions) - number + more, processes)
            shard, size = next_shard, size + next_size
            rows.append(row)
        if rows:
            yield message()

    def _rows_at_once(self, left: int, processes: int) -> int:
        """Rows of a message at which there are a few messages for each process."""
        window = self._settings.window
        if not processes:
            # How many will come is not known: a short run is shared by as many as possible.
            return MESSAGE_ROWS if left > window else 1
        messages = _MESSAGES_A_PROCESS * processes
        return min(MESSAGE_ROWS, max(1, min(left, window) // messages))

    def _count_processes(self) -> int:
        """How many processes work for this broker, as far as is known."""
        if time.monotonic() - self._counted > BEAT_SECONDS:
            beats = self._presence.heartbeats() or []
            self._processes = sum(beat.processes for beat in beats if beat.role == "worker")
            self._counted = time.monotonic()
        return self._processes

    @contextmanager
    def _broker_faults(self) -> Iterator[None]:
        try:
            yield
        except (BatchPublishError, OperationalError, RedisError, OSError) as error:
            raise RetryableError(
                f"the broker {shown(self._settings)} does not take messages ({error}); "
                "the run goes on when it does"
            ) from error
