"""An S3 server behind a front and a network that fail, as those of object stores do.

A proxy of HTTP: it reads a call, decides whether and how it goes wrong, and what really reaches the
server or the client follows from that.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

#: What a slow answer takes.
_SLOW_SECONDS = 0.3

#: A connection that is never answered is closed after this, when its client has long given up.
_SILENT_SECONDS = 30.0

_READING, _CHANGING = frozenset({"GET"}), frozenset({"PUT", "POST", "DELETE"})
_ANY = _READING | _CHANGING | {"HEAD"}


class Call(NamedTuple):
    """What a client asks for."""

    method: str
    path: str
    conditional: bool = False

    @property
    def later_page(self) -> bool:
        """Whether it goes on with a listing."""
        return "continuation-token" in parse_qs(urlsplit(self.path).query)


#: Which fault befalls a call; None: none.
Choice = Callable[[Call], str | None]

#: The faults, and the methods they can befall.
FAULTS = {
    "slow": _ANY,
    "busy": _ANY,
    "broken": _ANY,
    "conflict": frozenset({"PUT"}),
    "silent": _ANY,
    "reset": _ANY,
    "answer lost": _CHANGING,
    "reset in the body": _READING,
    "body cut short": _READING,
}

_REFUSALS = {
    "busy": (503, "SlowDown"),
    "broken": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
}


class Chance:
    """A share of all calls fails, each time in the way that befell the fewest until now."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.struck: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))

    def __call__(self, call: Call) -> str | None:
        """The fault of this call."""
        with self._lock:
            if self._random.random() >= self._share:
                return None
            possible = [
                fault
                for fault, methods in FAULTS.items()
                if call.method in methods and (fault != "conflict" or call.conditional)
            ]
            fault = min(possible, key=lambda one: (self.struck[one], self._random.random()))
            self.struck[fault] += 1
            return fault


class Front:
    """Stands between clients and the server at an endpoint; ``page_keys``: keys of one listing."""

    def __init__(self, endpoint: str, choice: Choice, *, page_keys: int | None = None) -> None:
        self.choice = choice
        self.target = urlsplit(endpoint).netloc
        self.page_keys = page_keys
        self._away: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """What clients call."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def away(self, how: str) -> Iterator[None]:
        """Let every call fail in one way."""
        self._away = how
        try:
            yield
        finally:
            self._away = None

    def fault_of(self, call: Call) -> str | None:
        """How this call goes wrong."""
        return self._away or self.choice(call)


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        behind = front

    return Handler


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    behind: Front

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(self.command, self.path, "If-None-Match" in self.headers)
        fault = self.behind.fault_of(call)
        if fault in _REFUSALS:
            self._refuse(*_REFUSALS[fault])
        elif fault == "silent":
            self._say_nothing()
        elif fault == "reset":
            self._reset()
        else:
            if fault == "slow":
                time.sleep(_SLOW_SECONDS)
            answer, data = self._ask(body)
            if fault == "answer lost":
                self._reset()
            elif fault in {"reset in the body", "body cut short"}:
                self._answer(answer, data, sent=len(data) // 2)
                self._reset() if fault == "reset in the body" else self._end()
            else:
                self._answer(answer, data, sent=len(data))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server says."""
        path = self.path
        if self.behind.page_keys and "list-type=2" in path and "max-keys" not in path:
            path += f"&max-keys={self.behind.page_keys}"
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        connection = http.client.HTTPConnection(self.behind.target, timeout=60)
        try:
            connection.request(self.command, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse, data: bytes, *, sent: int) -> None:
        """Pass it on, the head as it is and so much of the body."""
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(data[:sent])

    def _refuse(self, status: int, code: str) -> None:
        data = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _say_nothing(self) -> None:
        """Until the client is gone."""
        self.connection.settimeout(_SILENT_SECONDS)
        with suppress(OSError):
            self.connection.recv(1)
        self._end()

    def _end(self) -> None:
        self.close_connection = True

    def _reset(self) -> None:
        """Close so that the other end is told of an error, not of an end."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # What the base class keeps of the socket would hold it open.
        self.rfile.close()
        self.connection.close()
        self._end()
