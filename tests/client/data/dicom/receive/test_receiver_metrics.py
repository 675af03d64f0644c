"""What the receiver's /metrics and /healthz say while a PACS sends."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from client.config.site_config import SiteConfig
from client.daemon.receiver_service import ReceiverService
from launch.demo.local_ports import free_port
from tests.client.data.dicom.receive.test_receiver import associate, sendable, sent
from tests.client.data.dicom.running_receiver import site
from tests.waiting import HUNG

Usage = namedtuple("Usage", "total used free")


def got(port: int, path: str) -> tuple[int, str]:
    try:
        address = f"http://127.0.0.1:{port}{path}"
        with build_opener(ProxyHandler({})).open(address, timeout=HUNG) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_what_was_stored_is_counted_and_a_full_disk_is_no_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    folder = site(tmp_path / "alpha", metrics=port)
    with ReceiverService(SiteConfig.load(folder / "site.yaml")) as receiver:
        association = associate(int(receiver.address.rpartition(":")[2]))
        dataset = sendable(1)
        assert sent(association, dataset) == 0
        assert sent(association, dataset) == 0
        association.release()
        status, text = got(port, "/metrics")
        counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        assert status == 200
        assert float(counted["wardround_receiver_stored_total"]) == 1
        assert float(counted["wardround_receiver_sent_again_total"]) == 1
        assert float(counted["wardround_receiver_room_bytes"]) > 0
        assert str(dataset.PatientID) not in text
        assert str(dataset.StudyInstanceUID) not in text
        assert got(port, "/healthz")[0] == 200
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1, 1, 0))
        assert got(port, "/healthz")[0] == 503
