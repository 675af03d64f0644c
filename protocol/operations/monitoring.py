"""/healthz and /metrics on 127.0.0.1, for the operator's own monitoring.

Metrics are in Prometheus' text exposition format 0.0.4. Any local user may ask, so no figure may be
computed from patients, and nothing secret may stand in a label.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self

from protocol.errors import Code, WardroundError
from protocol.operations.bounded_server import BoundedServer

_PAGE = 4096


@dataclass(frozen=True)
class Sample:
    """One figure. `name`: with its unit, a counter's without `_total`; `meaning`: one sentence."""

    name: str
    kind: Literal["gauge", "counter"]
    meaning: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def exposition(samples: Iterable[Sample]) -> str:
    """The samples in Prometheus' text format; those of one name stand together."""
    lines, last = [], ""
    for sample in samples:
        name = f"{sample.name}_total" if sample.kind == "counter" else sample.name
        if name != last:
            lines += [f"# HELP {name} {sample.meaning}", f"# TYPE {name} {sample.kind}"]
        last = name
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in sample.labels.items())
        lines.append(f"{name}{{{inner}}} {sample.value!r}" if inner else f"{name} {sample.value!r}")
    return "\n".join(lines) + "\n"


class _Server(BoundedServer, ThreadingHTTPServer):
    """Any local user may connect, and the process needs its files and threads for other things."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Prints nothing: whoever asked has hung up, or the figures could not be read."""


class Monitoring:
    """A server on loopback, up inside `with`."""

    def __init__(
        self,
        port: int,
        health: Callable[[], tuple[bool, dict[str, object]]],
        samples: Callable[[], Iterable[Sample]],
    ) -> None:
        """port: 0 for one that is free. health: whether all is well (200, else 503), and the body.

        Raises WardroundError(PORT_TAKEN)."""
        self._health, self._samples = health, samples
        try:
            self._server = _Server(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise WardroundError(
                Code.PORT_TAKEN,
                f"Cannot listen on 127.0.0.1:{port} for metrics ({error.strerror}).",
                remedy="Choose another port for `metrics` in site.yaml or coordinator.yaml, or "
                "leave it out.",
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

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        health, samples = self._health, self._samples

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    well, body = health()
                    code = 200 if well else 503
                    self._reply(code, "application/json", json.dumps(body) + "\n")
                elif self.path == "/metrics":
                    kind = "text/plain; version=0.0.4; charset=utf-8"
                    self._reply(200, kind, exposition(samples()))
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
