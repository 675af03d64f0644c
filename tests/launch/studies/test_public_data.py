"""`wardround data fetch`: from a real server, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from launch.studies.public_data import data_root, fetch
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.base import Download
from tasks.shipped.breast_cancer import BreastCancer

_CONTENT = b"63,1,1,145\n" * 20_000


class _Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        if self.path == "/archive":
            self._archive()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(_CONTENT)))
        self.end_headers()
        self.wfile.write(_CONTENT[:1000] if self.path == "/cut" else _CONTENT)

    def _archive(self) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("readme.txt", "what this is")
            archive.writestr("some folder/rows.csv", _CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(packed.getvalue())))
        self.end_headers()
        self.wfile.write(packed.getvalue())

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def address() -> Iterator[str]:
    _Server.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _serve(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = _CONTENT) -> None:
    class Fetched(BreastCancer):
        name = "fetched"
        downloads = (Download(url, hashlib.sha256(content).hexdigest(), "rows.data"),)

    monkeypatch.setattr(registry, "load", lambda name: Fetched())


def _quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_download_arrives_whole_shows_progress_and_happens_once(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, f"{address}/rows")
    shown = io.StringIO()
    assert fetch("fetched", tmp_path, Console(file=shown, force_terminal=True, width=100)) == [
        tmp_path / "fetched" / "rows.data"
    ]
    assert (tmp_path / "fetched" / "rows.data").read_bytes() == _CONTENT
    assert "rows.data" in shown.getvalue()
    assert "220.0/220.0 kB" in shown.getvalue()
    fetch("fetched", tmp_path, _quiet())
    assert _Server.asked == ["/rows"]


def test_a_damaged_file_is_fetched_again(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, f"{address}/rows")
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "rows.data").write_bytes(_CONTENT[:-1])
    fetch("fetched", tmp_path, _quiet())
    assert (tmp_path / "fetched" / "rows.data").read_bytes() == _CONTENT


@pytest.mark.parametrize(
    ("path", "content", "code", "says"),
    [
        ("/rows", b"published", Code.MALFORMED_DATA, "SHA-256"),
        ("/cut", _CONTENT, Code.MALFORMED_DATA, "SHA-256"),
        ("/absent", _CONTENT, Code.UNREACHABLE, "Not Found"),
    ],
)
def test_what_is_not_the_published_file_leaves_nothing_behind(
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    content: bytes,
    code: Code,
    says: str,
) -> None:
    _serve(monkeypatch, address + path, content)
    with pytest.raises(WardroundError, match=says) as caught:
        fetch("fetched", tmp_path, _quiet())
    assert caught.value.code is code
    assert address + path in caught.value.message
    assert list((tmp_path / "fetched").iterdir()) == []


def test_a_server_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, "http://127.0.0.1:9/rows")
    with pytest.raises(WardroundError, match=r"127\.0\.0\.1:9") as caught:
        fetch("fetched", tmp_path, _quiet())
    assert caught.value.code is Code.UNREACHABLE
    assert "put the file at" in caught.value.remedy


def test_only_web_addresses_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(_CONTENT)
    _serve(monkeypatch, f"file://{tmp_path}/secret")
    with pytest.raises(WardroundError, match="not a web address"):
        fetch("fetched", tmp_path, _quiet())


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(monkeypatch, f"{address}/rows")
    (tmp_path / "fetched").write_text("a file in the way")
    with pytest.raises(WardroundError, match="cannot be written") as caught:
        fetch("fetched", tmp_path, _quiet())
    assert caught.value.code is Code.NO_DATA
    assert _Server.asked == []


def test_a_task_without_downloads_says_so(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match="nothing to download") as caught:
        fetch("breast_cancer", tmp_path, _quiet())
    assert caught.value.code is Code.USAGE


def test_the_published_addresses_are_ucis_over_https() -> None:
    downloads = registry.load("heart_disease").downloads
    assert len(downloads) == 4
    for download in downloads:
        assert download.url.startswith("https://archive.ics.uci.edu/")
        assert download.url.endswith(download.file)
        assert len(download.sha256) == 64


def test_where_data_lies_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("WARDROUND_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_root() == tmp_path / "xdg" / "wardround"


def test_a_file_comes_out_of_an_archive_into_the_folder_that_several_tasks_share(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hashlib.sha256(_CONTENT).hexdigest()

    class Shared(BreastCancer):
        name = "shared"
        downloads = (
            Download(f"{address}/archive", whole, "a.csv", member="rows.csv", folder="both"),
            Download(f"{address}/rows", whole, "b.csv", folder="both"),
        )

    monkeypatch.setattr(registry, "load", lambda name: Shared())
    assert fetch("shared", tmp_path, _quiet()) == [
        tmp_path / "both" / f for f in ("a.csv", "b.csv")
    ]
    assert {f.name: f.read_bytes() for f in (tmp_path / "both").iterdir()} == {
        "a.csv": _CONTENT,
        "b.csv": _CONTENT,
    }


@pytest.mark.parametrize("path", ["/archive", "/rows"])
def test_an_archive_without_the_file_or_that_is_none_leaves_nothing_behind(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    class Packed(BreastCancer):
        name = "packed"
        downloads = (Download(f"{address}{path}", "0" * 64, "a.csv", member="absent.csv"),)

    monkeypatch.setattr(registry, "load", lambda name: Packed())
    with pytest.raises(WardroundError, match="no archive with absent") as caught:
        fetch("packed", tmp_path, _quiet())
    assert caught.value.code is Code.MALFORMED_DATA
    assert not list((tmp_path / "packed").iterdir())
