"""/healthz and /metrics on 127.0.0.1, for the hospital's own monitoring.

Metrics are in Prometheus' text exposition format 0.0.4: counts of messages, debits and bytes, and
the privacy budget. No figure is computed from patients.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from client.bounded_server import BoundedServer
from client.daemon.status import Status, StatusBoard
from client.daemon.watchdog import StatusReporter
from client.governance.budget import Budget, budget
from client.governance.governance import SiteGovernance
from protocol.errors import Code, WardroundError

_BUDGET_AGE = 60.0
"""Seconds for which a composed budget is served again; composing costs processor time."""
_Sample = tuple[str, str, str, dict[str, str], float]
"""Name, type, help, labels, value."""


class _Server(BoundedServer, ThreadingHTTPServer):
    """Any local user may connect, and the daemon needs its files and threads for other things."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Prints nothing: whoever asked has hung up, or the figures could not be read."""


class Metrics:
    """A monitoring server on loopback, up inside `with`. Raises WardroundError(PORT_TAKEN)."""

    def __init__(
        self, port: int, board: StatusBoard, governance: SiteGovernance, reporter: StatusReporter
    ) -> None:
        self._board, self._governance, self._reporter = board, governance, reporter
        self._budget: tuple[float, Budget | None] = (0.0, None)
        self._composing = threading.Lock()
        try:
            self._server = _Server(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise WardroundError(
                Code.PORT_TAKEN,
                f"Cannot listen on 127.0.0.1:{port} for metrics ({error.strerror}).",
                remedy="Choose another port for `metrics` in site.yaml, or leave it out.",
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    @property
    def host(self) -> str:
        return str(self._server.server_address[0])

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def health(self) -> tuple[int, dict[str, object]]:
        """Returns HTTP status and body: 200 while the daemon is alive and connected, else 503."""
        now, alive = self._board.now, self._reporter.alive
        body: dict[str, object] = {"site": now.site, "alive": alive, "connected": now.connected}
        body |= {"phase": now.phase, "attention": now.attention}
        return (200 if alive and now.connected else 503), body

    def text(self) -> str:
        """Returns all metrics in Prometheus' text format."""
        lines, last = [], ""
        for name, kind, meaning, labels, value in self._samples(self._board.now):
            if name != last:
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            last = name
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}")
        return "\n".join(lines) + "\n"

    def _samples(self, now: Status) -> Iterator[_Sample]:
        def gauge(name: str, meaning: str, value: float, **labels: str) -> _Sample:
            return f"wardround_site_{name}", "gauge", meaning, labels, value

        def counter(name: str, meaning: str, value: float, **labels: str) -> _Sample:
            return f"wardround_site_{name}_total", "counter", meaning, labels, value

        yield gauge("info", "Which daemon this is.", 1, site=now.site, version=now.version)
        yield gauge("alive", "1 while the loop is heard of.", int(self._reporter.alive))
        yield gauge("connected", "1 while the coordinator answers.", int(now.connected))
        yield gauge("round", "Round of the attempt answered last; 0: none.", now.round or 0)
        yield counter("debits", "Attempts debited since the start.", now.debits)
        yield counter("sent_bytes", "Bytes of answers since the start.", now.bytes_sent)
        for kind, number in sorted(now.answers.items()):
            yield counter("answers", "Answers since the start.", number, kind=kind)
        for code, number in sorted(now.refusals.items()):
            yield counter("refusals", "Refusals since the start.", number, code=code)
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
        yield gauge("resident_bytes", "Memory of the daemon.", resident)
        account = self._account()
        if account is None:
            return
        delta = f"{account.delta:g}"
        yield gauge("epsilon_spent", "Epsilon of all debits ever.", account.spent, delta=delta)
        yield gauge("epsilon_reserved", "Epsilon with open plans.", account.reserved, delta=delta)
        if account.cap is not None:
            yield gauge("epsilon_cap", "The policy's cap.", account.cap, delta=delta)

    def _account(self) -> Budget | None:
        with self._composing:
            at, account = self._budget
            if account is None or time.monotonic() - at > _BUDGET_AGE:
                try:
                    account = budget(self._governance.state, self._governance.policy)
                except WardroundError:
                    return None
                self._budget = (time.monotonic(), account)
            return account

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    code, body = metrics.health()
                    self._reply(code, "application/json", json.dumps(body) + "\n")
                elif self.path == "/metrics":
                    kind = "text/plain; version=0.0.4; charset=utf-8"
                    self._reply(200, kind, metrics.text())
                else:
                    self._reply(404, "text/plain", "/healthz or /metrics\n")

            def _reply(self, code: int, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing: there is a scrape every few seconds."""

        return Handler


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
