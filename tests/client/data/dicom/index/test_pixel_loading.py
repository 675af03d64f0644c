"""Keys -> pictures: decoded once, for the owner only, whole after a crash, gone after purge."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client.cohorts.loading import build_cohort
from client.config.site_config import SiteConfig
from client.data.dicom.index import pixel_cache, pixel_loading
from client.data.dicom.index.index import ImageIndex
from client.data.dicom.index.indexing import bring_up_to_date
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.objects.gate import GatePolicy
from client.data.dicom.pixels.faults import PixelFault
from client.data.dicom.pixels.preprocessing import PreparedPicture, Preprocessing
from client.data.stored_rows import StoredRows
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph, cohort, write
from protocol.errors import Code, WardroundError
from protocol.study.study import Evaluation
from tasks import registry

MADE = Preprocessing(28, 28)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def index(state: Path, tmp_path: Path) -> Iterator[ImageIndex]:
    made = [Radiograph(f"P{k}", f"A{k}", k % 2 == 0, SCANNER_MODELS[k % 5]) for k in range(10)]
    made.append(Radiograph("P10", "A10", False, SCANNER_MODELS[1], "blank"))
    write(made, 64, 3, tmp_path / "pacs")
    with ImageIndex.open(state, GatePolicy(detect_text=False)) as opened:
        bring_up_to_date(opened, [tmp_path / "pacs"], workers=1)
        yield opened


def keys(index: ImageIndex) -> list[str | None]:
    return [row["image"] for row in index.ready()]


def load(index: ImageIndex, state: Path, wanted: list[str | None]) -> pixel_loading.LoadedPictures:
    return pixel_loading.load(index, state, wanted, MADE)


def of(loaded: pixel_loading.LoadedPictures) -> npt.NDArray[np.uint8]:
    """One a key, zeros for none."""
    return StoredRows(loaded.stored, loaded.places)[:]


def test_pictures_come_in_the_order_of_their_keys_and_the_second_time_from_the_cache(
    index: ImageIndex, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [*keys(index), None, "0" * 64]
    first = load(index, state, wanted)
    assert first.set_aside == {PixelFault.BLANK: 1, pixel_loading.NOT_READY: 1}
    shown = first.places >= 0
    assert shown.sum() == 10
    assert not shown[-2:].any()
    monkeypatch.setattr(pixel_loading, "isolated", None)  # nothing may be decoded again
    again = load(index, state, wanted[::-1])
    assert np.array_equal(of(again)[::-1], of(first))
    assert np.array_equal(of(first).any(axis=(1, 2)), shown)
    assert again.set_aside == first.set_aside


def test_a_file_that_moved_is_not_decoded_again_and_one_that_changed_is(
    index: ImageIndex, state: Path, tmp_path: Path
) -> None:
    wanted = keys(index)
    before = of(load(index, state, wanted))
    moved = tmp_path / "elsewhere"
    (tmp_path / "pacs").rename(moved)
    bring_up_to_date(index, [tmp_path], workers=1)
    assert np.array_equal(of(load(index, state, wanted)), before)
    with PictureCache.open(state, MADE) as opened:
        assert len(opened.pictures()) == 10
    write([Radiograph("P0", "A0", True, SCANNER_MODELS[0])], 64, 99, moved)
    bring_up_to_date(index, [moved], workers=1)
    changed = of(load(index, state, wanted)) != before
    assert changed.any(axis=(1, 2)).sum() == 1


def test_the_cache_is_the_owners_alone_and_purge_leaves_nothing(
    index: ImageIndex, state: Path
) -> None:
    load(index, state, keys(index))
    folder = state / pixel_cache.FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    files, size = pixel_cache.purge(state)
    assert files >= 2
    assert size > 10 * 28 * 28
    assert not folder.exists()
    assert pixel_cache.purge(state) == (0, 0)
    assert of(load(index, state, keys(index))).any()


def prepared(number: int, content: str | None = None) -> CacheEntry:
    picture = bytes([number]) * (28 * 28)
    found = PreparedPicture(content or f"{number:064x}", picture)
    return CacheEntry(Path(f"/p/{number}"), (number, number), found)


def test_a_crash_while_writing_leaves_the_cache_whole(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PictureCache.open(state, MADE) as opened:
        opened.add([prepared(1), prepared(2)])
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(WardroundError) as caught:
                opened.add([prepared(3), prepared(4)])
        assert caught.value.code is Code.STATE
        assert len(opened.pictures()) == 2
        opened.add([prepared(5)])
        found = opened.find({Path(f"/p/{n}"): (n, n) for n in range(1, 6)})
        assert {path.name for path in found} == {"1", "2", "5"}
        stored = opened.pictures()
        for path, slot in found.items():
            assert isinstance(slot, int)
            assert (stored[slot] == int(path.name)).all()


def test_a_file_of_pictures_that_was_cut_is_made_anew(state: Path) -> None:
    with PictureCache.open(state, MADE) as opened:
        opened.add([prepared(1), prepared(2), prepared(3)])
    path = state / pixel_cache.FOLDER / f"{MADE.name}.u8"
    os.truncate(path, 28 * 28 + 5)
    with PictureCache.open(state, MADE) as opened:
        assert opened.find({Path(f"/p/{n}"): (n, n) for n in (1, 2, 3)}) == {Path("/p/1"): 0}
        opened.add([prepared(2)])
        assert (opened.pictures()[1] == 2).all()


def test_two_sizes_do_not_mix_and_one_content_is_kept_once(state: Path) -> None:
    with PictureCache.open(state, MADE) as opened:
        opened.add(
            [prepared(1, "a" * 64), CacheEntry(Path("/q"), (9, 9), prepared(1, "a" * 64).prepared)]
        )
        assert len(opened.pictures()) == 1
        assert opened.find({Path("/q"): (9, 9)}) == {Path("/q"): 0}
        assert not opened.find({Path("/q"): (9, 10)})
    with PictureCache.open(state, Preprocessing(14, 14)) as other:
        assert not other.find({Path("/q"): (9, 9)})
        assert len(other.pictures()) == 0


def test_a_cache_open_to_others_is_refused(state: Path) -> None:
    PictureCache.open(state, MADE).close()
    (state / pixel_cache.FOLDER).chmod(0o750)
    with pytest.raises(WardroundError, match="chmod 700"):
        PictureCache.open(state, MADE)


def site(tmp_path: Path, labels: str, extra: str = "") -> SiteConfig:
    """A hospital with 26 patients and one radiograph with each flaw, indexed."""
    made = cohort("north", 26, 0.5, SCANNER_MODELS, 5)
    write(made, 64, 5, tmp_path / "pacs")
    rows = [f"{one.accession},{int(one.ill)}" for one in made] if not labels else labels.split()
    (tmp_path / "labels.csv").write_text("accession_number,pneumonia\n" + "\n".join(rows) + "\n")
    answers = SiteAnswers(site="north", data={"chest_xray": tmp_path / "labels.csv"})
    new_site.init(tmp_path / "north", answers)
    rules = tmp_path / "north" / new_site.SITE_YAML
    text = rules.read_text().replace("{records:", "{labels:")
    text = text.replace("view: SELECT * FROM records", "view: template:dicom")
    imaging = f"imaging: {{folders: [{json.dumps(str(tmp_path / 'pacs'))}], workers: 1}}\n"
    rules.write_text(text.replace("# The rules.", extra or imaging + "\n# The rules.", 1))
    config = SiteConfig.load(rules)
    if config.imaging is not None:
        with ImageIndex.open(config.state, config.imaging.gate) as opened:
            bring_up_to_date(opened, config.imaging.folders, workers=1)
    return config


def test_a_cohort_of_radiographs_joins_labels_counts_what_is_left_out_and_splits_by_patient(
    tmp_path: Path,
) -> None:
    config = site(tmp_path, "")
    task = registry.load("chest_xray", {"model": "cnn"})
    found = build_cohort(
        config, task, lambda patient: int(patient[:4], 16) / 65536, Evaluation(release="exact")
    )
    assert found.features.dtype == np.uint8
    assert found.features.shape[1:] == (28, 28)
    assert found.features[:].any(axis=(1, 2)).all()
    assert 26 <= found.patients <= 27  # those with a flaw are left out, but for the blank one
    assert len(found.labels) >= found.patients
    both = set(found.patient[found.in_training]) & set(found.patient[~found.in_training])
    assert not both
    assert any("blank" in note for note in found.notes)
    assert not any("SYN-" in note or "NORTH" in note for note in found.notes)


def test_fewer_patients_than_the_policy_asks_are_refused(tmp_path: Path) -> None:
    config = site(tmp_path, "NORTH000000,1 NORTH000010,0")
    with pytest.raises(WardroundError) as caught:
        build_cohort(
            config, registry.load("chest_xray"), lambda _: 0.1, Evaluation(release="exact")
        )
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_no_label_at_all_is_refused(tmp_path: Path) -> None:
    config = site(tmp_path, "NORTH000000, NORTH000010,")
    with pytest.raises(WardroundError, match="No row of the view has a label"):
        build_cohort(
            config, registry.load("chest_xray"), lambda _: 0.1, Evaluation(release="exact")
        )


def test_contradictory_labels_are_set_aside_and_counted(tmp_path: Path) -> None:
    rows = [f"NORTH{k:05d}0,{k % 2}" for k in range(26)] + ["NORTH000000,1"]
    config = site(tmp_path, " ".join(rows))
    found = build_cohort(
        config, registry.load("chest_xray"), lambda _: 0.1, Evaluation(release="exact")
    )
    assert found.patients == 25
    assert any("contradict" in note for note in found.notes)


def test_a_task_of_pictures_without_imaging_says_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text("patient,radiograph,pneumonia\n1,abc,1\n")
    answers = SiteAnswers(site="north", data={"chest_xray": tmp_path / "records.csv"})
    config = new_site.init(tmp_path / "north", answers)
    with pytest.raises(WardroundError, match="section imaging"):
        build_cohort(
            config, registry.load("chest_xray"), lambda _: 0.1, Evaluation(release="exact")
        )


def test_features_of_a_backbone_are_kept_for_the_owner_and_made_once(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.cohorts.feature_cache import features_of
    from tasks.models import backbone

    made: list[int] = []

    def slow(pictures: np.ndarray) -> np.ndarray:
        made.append(len(pictures))
        return pictures.reshape(len(pictures), -1)[:, : backbone.WIDTH].astype(np.float32)

    monkeypatch.setattr(backbone, "features", slow)
    task = registry.load("chest_xray", {"model": "backbone"})
    pictures = np.random.default_rng(0).integers(1, 255, (5, 28, 28), np.uint8)
    table = {"radiograph": StoredRows.all_of(pictures)}
    first = features_of(state, task, table)
    assert np.array_equal(features_of(state, task, table), first)
    assert made == [5]
    kept = list((state / pixel_cache.FOLDER).glob("features-*.npy"))
    assert [stat.S_IMODE(p.stat().st_mode) for p in kept] == [0o600]
    features_of(state, task, {"radiograph": StoredRows.all_of(pictures[::-1].copy())})
    kept[0].write_bytes(b"damaged")
    assert np.array_equal(features_of(state, task, table), first)
    assert made == [5, 5, 5]
    pixel_cache.purge(state)
    assert not (state / pixel_cache.FOLDER).exists()


def test_a_cohort_of_one_class_is_told_apart(tmp_path: Path) -> None:
    config = site(tmp_path, " ".join(f"NORTH{k:05d}0,1" for k in range(26)))
    task = registry.load("chest_xray")
    found = build_cohort(config, task, lambda _: 0.1, Evaluation(release="exact"))
    assert any("Every row has the label 1" in note for note in found.notes)
