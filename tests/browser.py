"""Debian's Chromium, driven over its DevTools protocol, as somebody who logs in sees a page.

https://chromedevtools.github.io/devtools-protocol/: commands and events are JSON on one websocket.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import ClientConnection, connect

from tests.debian import program
from tests.waiting import HUNG

_CLICKS = """(() => {
    const all = [...document.querySelectorAll("a, button, [role=tab]")];
    const sought = %s, found = all.find((one) => one.offsetParent &&
        (one.innerText.trim() === sought || (one.getAttribute("href") || "").endsWith(sought)));
    if (found) found.click();
    return Boolean(found);
})()"""
_LEGIBLE = """(() => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), sought = %s;
    while (walk.nextNode()) {
        const start = walk.currentNode.data.indexOf(sought);
        if (start < 0) continue;
        const around = walk.currentNode.parentElement;
        around.scrollIntoView({block: "center"});
        let cut = false;
        for (let over = around; over; over = over.parentElement)
            if (over.scrollTop && getComputedStyle(over).overflowY === "hidden") {
                over.scrollTop = 0;
                cut = true;
            }
        if (cut) continue;
        const range = document.createRange();
        range.setStart(walk.currentNode, start);
        range.setEnd(walk.currentNode, start + sought.length);
        const box = range.getClientRects()[0];
        if (!box) continue;
        const there = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        if (there && around.contains(there)) return true;
    }
    return false;
})()"""
"""Of a text that lies within one element, unbroken, and not in what somebody would have to unfold
first: a script can scroll there, a person cannot."""


class Browser:
    """One window, `width` pixels wide, of somebody who knows name and password, within `with`.

    certificate: of the server, which the window trusts and no other that is not under a public CA.
    """

    def __init__(self, folder: Path, certificate: Path, name: str, password: str, width: int):
        self._folder, self._width = folder, width
        key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
        self._login = {"username": name, "password": password}
        self._asked: set[str] = set()
        self._number = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._process = subprocess.Popen(
            [
                str(program("chromium", "chromium")), "--headless", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
                f"--user-data-dir={self._folder}", f"--window-size={self._width},1000",
                f"--ignore-certificate-errors-spki-list={self._pin}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._connection = self._connect()
            self._call("Page.enable")
            self._call("Runtime.enable")
            self._call("Fetch.enable", handleAuthRequests=True)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait(HUNG)

    def _connect(self) -> ClientConnection:
        noted, deadline = self._folder / "DevToolsActivePort", time.monotonic() + HUNG
        while not (noted.exists() and "\n" in noted.read_text()):
            assert self._process.poll() is None, "Chromium has ended"
            assert time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.1)
        port = noted.read_text().splitlines()[0]
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]
        return connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        deadline = time.monotonic() + HUNG
        while time.monotonic() < deadline:
            message = self._next(deadline - time.monotonic())
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                result: dict[str, Any] = message["result"]
                return result
        raise AssertionError(f"no answer to {method}")

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        return self._number

    def _next(self, timeout: float) -> dict[str, Any]:
        """The next message; a request goes on, and one that is asked who it is says so once."""
        message: dict[str, Any] = json.loads(self._connection.recv(timeout))
        said = message.get("params", {})
        if message.get("method") == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": said["requestId"]})
        elif message.get("method") == "Fetch.authRequired":
            known: dict[str, Any] = {"response": "ProvideCredentials"} | self._login
            answer = {"response": "CancelAuth"} if said["requestId"] in self._asked else known
            self._asked.add(said["requestId"])
            about = {"requestId": said["requestId"], "authChallengeResponse": answer}
            self._send("Fetch.continueWithAuth", about)
        return message

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)

    def look(self, script: str) -> Any:
        """What an expression in the page comes to; a promise is waited for."""
        found = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        return found["result"].get("value")

    def until(self, script: str, what: str) -> Any:
        """Waits until an expression is true in the page; its value."""
        deadline = time.monotonic() + HUNG
        while not (value := self.look(script)):
            assert time.monotonic() < deadline, f"{what}; the page says: {self.text()}"
            time.sleep(0.25)
        return value

    def text(self) -> str:
        return str(self.look("document.body.innerText"))

    def reads(self, *texts: str) -> None:
        """Waits until the page shows all of it."""
        for one in texts:
            sought = json.dumps(one)
            self.until(f"document.body.innerText.includes({sought})", f"nobody reads {one!r}")

    def click(self, text: str) -> None:
        """Clicks the link, button or tab that bears this text, or leads to an address with this
        end, once there is one."""
        sought = json.dumps(text)
        self.until(_CLICKS % sought, f"nobody can click {text!r}")

    def legible(self, text: str) -> None:
        """Waits until somebody who scrolls to it can read this text, which nothing covers."""
        sought = json.dumps(text)
        self.until(_LEGIBLE % sought, f"nobody can read {text!r}")

    def keep(self, file: Path) -> None:
        """A picture of the window as it is."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))
