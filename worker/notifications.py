"""Being told that something arrived in a bucket, through SQS.

It only makes a watcher look earlier. What is said is not read: whatever a message claims, the
listing is the truth, so that a lost, doubled or forged message changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)

#: The longest a call to SQS may wait.
_LONGEST_WAIT_SECONDS = 20

#: Files come in bursts: one look for all that are told of within this.
_GATHER_SECONDS = 1.0


class Notifications:
    """A queue on which the bucket's events arrive."""

    def __init__(self, queue_url: str, stop: threading.Event) -> None:
        self._queue_url = queue_url
        self._stop = stop
        self._client: Any = boto3.session.Session().client("sqs")

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until something is told of; whether it was."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            try:
                if self._receive(min(left, _LONGEST_WAIT_SECONDS)):
                    self._stop.wait(_GATHER_SECONDS)
                    while self._receive(0):
                        continue
                    return True
            except (BotoCoreError, ClientError) as error:
                logger.warning(
                    "the queue does not answer (%s): looking as usual", type(error).__name__
                )
                self._stop.wait(left)
        return False

    def _receive(self, seconds: float) -> bool:
        """Take messages and drop them."""
        found = self._client.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=int(seconds)
        ).get("Messages", [])
        for message in found:
            self._client.delete_message(
                QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"]
            )
        return bool(found)
