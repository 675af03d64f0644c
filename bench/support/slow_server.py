"""Stands before an HTTP server, and answers every request so many seconds late."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class SlowServer:
    """Within `with`. `seconds` may be changed while it serves."""

    def __init__(self, url: str, seconds: float = 0.0) -> None:
        """url: of the server behind, whose user and password `url` of this one keeps."""
        self.seconds, self._parts = seconds, urlsplit(url)
        slow, behind = self, f"{self._parts.hostname}:{self._parts.port}"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> object:
                """do_GET and all the others."""
                if name.startswith("do_"):
                    return self._passed_on
                raise AttributeError(name)

            def _passed_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                time.sleep(slow.seconds)
                kept = {k: v for k, v in self.headers.items() if k.lower() not in _ONE_HOP}
                there = http.client.HTTPConnection(behind, timeout=120)
                there.request(self.command, self.path, body, kept)
                answer = there.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _ONE_HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                there.close()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        login = self._parts.netloc.rpartition("@")[0]
        place = f"127.0.0.1:{self._server.server_address[1]}"
        return urlunsplit(self._parts._replace(netloc=f"{login}@{place}" if login else place))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
