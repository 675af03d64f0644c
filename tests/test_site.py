"""The site of `make docs`: built strictly and without a network, and it answers a newcomer."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lunr import lunr

import wardround

ROOT = Path(__file__).parent.parent
_OFFLINE = """
import socket, sys
def refuse(*_):
    raise AssertionError("the build asks another server for something")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""
QUESTIONS = {
    "how do I add a task": ("add_a_task", "task new writes a package that works at once"),
    "what may a coordinator see": ("guarantees", "never one hospital's update, count, metric"),
    "where is my budget": ("approver", "wardround-site ledger shows what was spent"),
    "how do I restore a hospital": ("operations", "a restored site answers nothing"),
    "what if a hospital leaves": ("operations", "the others go on if they are enough"),
    "which port": ("operations", "9092, TLS 1.3: hospitals and data scientists"),
    "how do I verify a model": ("reviewers", "wardround models verify"),
    "how do I upgrade": ("compatibility", "Sites first, then the coordinator"),
    "what does epsilon not cover": ("approver", "it says nothing of sums without noise"),
    "how do I contribute": ("contributing", "Does one thing, and its subject says which"),
}
"""What a newcomer types into the site's search -> the page that it shows first, and the words there
that answer."""


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    words = ["build", "--strict", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(
        [sys.executable, "-c", _OFFLINE, *words],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def entries(site: Path) -> list[dict[str, str]]:
    """The search's entries: one a page, one a heading."""
    found: dict[str, Any] = json.loads((site / "search" / "search_index.json").read_text())
    return list(found["docs"])


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]*)", page.read_text()
        )
        assert loaded
        assert [address for address in loaded if "//" in address] == [], page


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_page_that_the_search_finds_first_answers(
    question: str, site: Path, entries: list[dict[str, str]]
) -> None:
    """Weights as Material's: a word of a heading counts a thousand times one of the text."""
    fields = [{"field_name": "title", "boost": 1000}, {"field_name": "text", "boost": 1}]
    found = lunr(ref="location", fields=fields, documents=entries).search(question)
    page, answer = QUESTIONS[question]
    assert found[0]["ref"].partition("#")[0] == f"{page}.html", [one["ref"] for one in found[:4]]
    shown = html.unescape(re.sub(r"<[^>]*>", "", (site / f"{page}.html").read_text()))
    assert answer in " ".join(shown.split())


def test_every_public_name_is_documented(site: Path) -> None:
    headings = re.findall(r'id="wardround\.(\w+)"', (site / "api.html").read_text())
    assert sorted(headings) == sorted(wardround.__all__)


def test_a_dead_link_fails_by_name(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Home\n[nowhere](nowhere.md)\n")
    text = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(text[: text.index("nav:")])
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout + done.stderr
