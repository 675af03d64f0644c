"""The bundle of an approved model comes from a real SuperLink over TLS; a withdrawn one goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.config.site_config import SiteConfig
from client.prediction.fetched_models import FOLDER, FetchedModels, bundle_file
from client.transport import model_download
from client.transport.fleet_config import FleetConfig
from client.transport.node_key import create_node_key
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.models.decision import Verdict
from protocol.wire.offered_models import file_of
from tests.client.cli.conftest import Run, run
from tests.client.prediction.approvals import approved, history, pin, tell
from tests.client.prediction.ward import RECORDS, site
from tests.protocol.models.bundles import bundle
from tests.server.transport.live_superlink import Door, open_door
from tests.waiting import until

__all__ = ["run"]
MODEL = bundle()
FILE = approved(MODEL).to_bytes()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A coordinator that offers the model, and knows the site north."""
    offered = tmp_path / "offered"
    offered.mkdir()
    file_of(offered, MODEL.digest).write_bytes(FILE)
    with open_door(tmp_path / "there") as opened:
        opened.link.offer(offered)
        opened.register("north")
        yield opened


def hospital(folder: Path, *verdicts: Verdict, allowed: bool = True) -> SiteConfig:
    """A hospital whose policy lists the model, and which has heard these decisions of rita."""
    config = site(folder, {"models": {MODEL.digest: {}} if allowed else {}})
    pin(config)
    if verdicts:
        tell(config, history(MODEL, *verdicts))
    return config


def models(config: SiteConfig, door: Door, key: str = "north") -> FetchedModels:
    reach = FleetConfig(door.link.address, door.pki.ca_certificate, door.key(key))
    return FetchedModels(config, reach)


def there(config: SiteConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (config.state / FOLDER).iterdir()}


def test_an_approved_model_comes_and_scores_until_it_is_withdrawn(
    run: Run, tmp_path: Path, door: Door
) -> None:
    config = hospital(tmp_path, "approved")
    folder = models(config, door)
    folder.look()
    assert there(config) == {f"{MODEL.digest}.safetensors": FILE}
    file = file_of(config.state / FOLDER, MODEL.digest)
    assert file.stat().st_mode & 0o077 == 0
    scores = tmp_path / "scores.csv"
    words = ("--model", "model@approved", "--for", "cohort", "--to", scores, "--json")
    ran = run("predict", *words, "-c", tmp_path / "site")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["scored"] == RECORDS

    tell(config, history(MODEL, "approved", "withdrawn"))
    scores.unlink()
    ran = run("predict", *words, "-c", tmp_path / "site")
    assert json.loads(ran.err)["error"]["code"] == "refused_policy"
    assert not scores.exists()
    folder.look()
    assert there(config) == {}, "a withdrawn model is removed"


@pytest.mark.parametrize("why", ["nobody decided", "not allowed", "another reviewer", "rejected"])
def test_nothing_else_is_fetched(tmp_path: Path, door: Door, why: str) -> None:
    told: tuple[Verdict, ...] = ("approved",)
    if why == "nobody decided":
        told = ()
    elif why == "rejected":
        told = ("rejected",)
    config = hospital(tmp_path, *told, allowed=why != "not allowed")
    if why == "another reviewer":
        (config.coordinator.root_certificate.with_name("reviewers.json")).write_text("{}")
    models(config, door).look()
    assert there(config) == {}
    with pytest.raises(WardroundError, match="approved and allowed here"):
        bundle_file(config, "model@approved")


def test_a_download_goes_on_where_it_was_and_what_was_changed_is_thrown_away(
    tmp_path: Path, door: Door
) -> None:
    config = hospital(tmp_path, "approved")
    partial = file_of(config.state / FOLDER, MODEL.digest).with_suffix(".part")
    partial.parent.mkdir()
    half = len(FILE) // 2
    partial.write_bytes(bytes(half))
    models(config, door).look()
    assert there(config) == {}, "the half that was here was taken for the file's, and is not"
    with pytest.raises(WardroundError) as refused:
        bundle_file(config, "model@approved")
    assert refused.value.code is Code.NO_DATA
    partial.write_bytes(FILE[:half])
    models(config, door).look()
    assert there(config) == {f"{MODEL.digest}.safetensors": FILE}


def test_a_break_keeps_what_came(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, written = hospital(tmp_path, "approved"), durable_files.append
    for bytes_of_a_part in ("SMALLEST", "FIRST", "LARGEST"):
        monkeypatch.setattr(f"client.transport.pace.{bytes_of_a_part}", 100)

    def fails_at_the_third(path: Path, content: bytes) -> None:
        if path.exists() and path.stat().st_size >= 2 * 100:
            raise OSError(28, os.strerror(28))
        written(path, content)

    monkeypatch.setattr(durable_files, "append", fails_at_the_third)
    with pytest.raises(OSError, match="No space"):
        models(config, door).look()
    (part,) = there(config).values()
    assert part == FILE[: len(part)]
    assert 0 < len(part) < len(FILE)
    monkeypatch.setattr(durable_files, "append", written)
    models(config, door).look()
    assert there(config) == {f"{MODEL.digest}.safetensors": FILE}


def test_a_coordinator_that_offers_another_model_is_not_believed(
    tmp_path: Path, door: Door
) -> None:
    config = hospital(tmp_path, "approved")
    unsigned = replace(MODEL, signed=bundle(key=None).signed)
    other = approved(bundle(weights=np.zeros(MODEL.layout.size, np.float32)))
    changed = FILE[:-4] + b"\0\0\0\0"
    for content in (other.to_bytes(), unsigned.to_bytes(), changed, b"", b"no bundle"):
        file_of(tmp_path / "offered", MODEL.digest).write_bytes(content)
        folder = models(config, door)
        folder.look()
        assert there(config) == {}
        folder.look()
        assert there(config) == {}, "it is not asked for again by this process"


def test_a_model_that_is_too_large_is_not_taken(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hospital(tmp_path, "approved")
    monkeypatch.setattr(model_download, "LARGEST", len(FILE) - 1)
    with pytest.raises(WardroundError, match="larger than may be sent"):
        models(config, door).look()
    assert there(config) == {}


def test_only_hospitals_of_the_roster_may_ask(tmp_path: Path, door: Door) -> None:
    config = hospital(tmp_path, "approved")
    create_node_key(door.key("stranger"))
    with pytest.raises(WardroundError) as refused:
        models(config, door, "stranger").look()
    assert refused.value.code is Code.NODE_KEY
    assert there(config) == {}
    refusals = [one for one in door.events() if one.get("route") == "models"]
    assert [one["reason"] for one in refusals] == ["key"]


def test_the_daemons_thread_waits_until_the_model_is_offered(tmp_path: Path, door: Door) -> None:
    config = hospital(tmp_path, "approved")
    file_of(tmp_path / "offered", MODEL.digest).unlink()
    folder = models(config, door)
    folder.look()
    assert there(config) == {}
    file_of(tmp_path / "offered", MODEL.digest).write_bytes(FILE)
    with folder:
        until(file_of(config.state / FOLDER, MODEL.digest).exists, "it comes")
    assert there(config) == {f"{MODEL.digest}.safetensors": FILE}
