"""The key that signs models: made once, kept, private; its public half is read as it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from server.coordinator.setup import bundle, create, credentials
from server.enrolment.accounts import issue
from server.enrolment.signing_key import FILE, public_half, signing_key


def test_it_is_made_with_the_coordinator_and_for_its_owner_alone(tmp_path: Path) -> None:
    config = create(tmp_path / "coordinator", ["127.0.0.1"], 9092, None, "Test")
    path = config.folder / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    made = path.read_bytes()
    assert signing_key(config.folder).public_key == signing_key(config.folder).public_key
    assert path.read_bytes() == made


def test_one_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(WardroundError) as caught:
        signing_key(tmp_path)
    assert caught.value.code == Code.IDENTITY


def test_one_that_was_moved_away_gives_place_to_another(tmp_path: Path) -> None:
    first = signing_key(tmp_path).public_key
    (tmp_path / FILE).rename(tmp_path / "old.key")
    assert signing_key(tmp_path).public_key != first


def test_bundle_and_credentials_hold_its_public_half(tmp_path: Path) -> None:
    config = create(tmp_path / "coordinator", ["127.0.0.1"], 9092, None, "Test")
    public = signing_key(config.folder).public_key
    (tmp_path / "bundle.json").write_text(json.dumps(bundle(config)))
    issue(tmp_path / "ada.json", credentials(config, "ada", "t0ken"))
    (tmp_path / "key.pub").write_text(public.hex() + "\n")
    for source in (tmp_path / "bundle.json", tmp_path / "ada.json", tmp_path / "key.pub"):
        assert public_half(source) == public
    assert public_half(public.hex()) == public


@pytest.mark.parametrize(
    "content", ['{"coordinator": "h:1", "token": "t0ken"}', "[]", '{"signing_key": 3}', "t0ken", ""]
)
def test_a_file_without_one_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "older.json"
    path.write_text(content)
    with pytest.raises(WardroundError) as caught:
        public_half(path)
    assert caught.value.code == Code.CREDENTIALS
    assert "t0ken" not in str(caught.value)
