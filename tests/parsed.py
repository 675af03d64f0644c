"""How often studies are read from their documents."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.study.study import Study


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every document that `Study.parse` is given from now on."""
    documents: list[bytes] = []
    original = Study.parse

    def counting(document: bytes, *args: Any) -> Study:
        documents.append(document)
        return original(document, *args)

    monkeypatch.setattr(Study, "parse", staticmethod(counting))
    return documents
