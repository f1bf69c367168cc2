"""The port on which Prometheus and health checks ask: ``/metrics`` and ``/healthz``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pipeline.errors import ConfigurationError
from worker.health import Heartbeat


@contextmanager
def serving(
    address: str, port: int, registry: CollectorRegistry, heartbeat: Callable[[], Heartbeat]
) -> Iterator[None]:
    """Answer on the port meanwhile. Raises ConfigurationError where it cannot be opened."""

    class Handler(BaseHTTPRequestHandler):
        """Two pages."""

        def do_GET(self) -> None:
            """Answer."""
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                beat = heartbeat()
                body = beat.model_dump_json().encode() + b"\n"
                self._answer(200 if beat.healthy else 503, "application/json", body)
            else:
                self._answer(404, "text/plain", b"/metrics or /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: health checks come every few seconds."""

    try:
        server = ThreadingHTTPServer((address, port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} on {address} cannot be opened ({error.strerror or error}): each worker "
            "and feeder needs its own; choose another SCREEN_METRICS_PORT or SCREEN_METRICS_ADDRESS"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="exposition", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
