"""Images in views: the tables that a view reads, and pictures in place of the keys it selects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from client.cohorts.volumes import volumes_of
from client.config.imaging_config import Imaging
from client.config.site_config import SiteConfig
from client.data.sources.session import Extra
from client.data.stored_rows import StoredRows, StoredTable
from protocol.errors import Code, WardroundError
from tasks.base import Task
from tasks.schema import Image, Table

if TYPE_CHECKING:
    from client.data.dicom.index.index import ImageIndex

Progress = Callable[[int, int], None]


def image_tables(config: SiteConfig, without: Set[str] = frozenset()) -> tuple[Extra, ...]:
    """What adds `images` and `pseudonym` to a view's session; nothing without `imaging`.

    without: names of patients whose images are left out (`pseudonyms`).
    """
    if config.imaging is None:
        return ()
    from client.data.dicom.index.images_table import open_and_register

    gate = config.imaging.gate
    return (partial(open_and_register, state=config.state, gate=gate, without=without),)


def pseudonyms(config: SiteConfig, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Pseudonym -> the name that is its Patient ID: of the ID alone, and of each patient of an
    image who has the ID, whoever issued it. Both empty for a site without `imaging`.

    Raises WardroundError(STATE)."""
    if config.imaging is None:
        return {}, {}
    from client.data.dicom.index.index import ImageIndex

    with ImageIndex.open(config.state, config.imaging.gate) as index:
        alone = {index.names.of(name): name for name in names}
        pictured = {
            patient: alone.get(patient) or alone[identifier]
            for patient, identifier in index.patients()
            if not alone.keys().isdisjoint((patient, identifier))
        }
    return alone, pictured


def imaging_of(config: SiteConfig, task: Task) -> Imaging:
    """What site.yaml says of pictures. Raises WardroundError(CONFIGURATION) where it says nothing,
    naming the task that reads them."""
    if config.imaging is None:
        raise WardroundError(
            Code.CONFIGURATION,
            f"Task {task.name} reads pictures, and site.yaml has no section imaging.",
            remedy="Add imaging with its folders or receiver, then run `wardround-site index`.",
        )
    return config.imaging


def with_pictures(
    config: SiteConfig,
    task: Task,
    table: Table,
    progress: Progress = lambda done, of: None,
) -> tuple[StoredTable, tuple[str, ...]]:
    """The table with pictures and masks (N, ...) uint8 in place of keys, each of the shape that the
    task asks for, mapped from the file in which they are cached, and what to note.

    Where a task reads several pictures of a record, their keys stand in one text, and the column is
    (N, most, ...). Where a task reads nothing but pictures, rows without any are left out.
    Raises WardroundError: CONFIGURATION without `imaging`, STATE, MALFORMED_DATA.
    """
    images = [image for image in task.schema.images if image.name in table]
    if not images:
        return table, ()
    imaging = imaging_of(config, task)
    from client.data.dicom.index.index import ImageIndex
    from client.data.dicom.index.pixel_loading import load, load_masks
    from client.data.dicom.pixels.mask import MaskPreparation
    from client.data.dicom.pixels.preprocessing import Preprocessing

    set_aside: Counter[str] = Counter()
    masks_aside: Mapping[str, int] = {}
    notes: list[str] = []
    columns: dict[str, Any] = dict(table)
    with ImageIndex.open(config.state, imaging.gate) as index:
        for image in images:
            keys, said = _several(index, image, table[image.name])
            notes += said
            loaded = load(
                index,
                config.state,
                keys.ravel().tolist(),
                Preprocessing(image.rows, image.columns, image.hounsfield, image.colour),
                workers=imaging.workers,
                progress=progress,
            )
            set_aside.update(loaded.set_aside)
            columns[image.name] = StoredRows(loaded.stored, loaded.places.reshape(keys.shape))
        mask, label = task.schema.mask, task.schema.label
        if mask is not None and label in table:
            classes = round(task.outcome.extremes[1]) + 1
            masks = load_masks(
                index,
                config.state,
                _keys(table[label]),
                _keys(table[mask.name]),
                MaskPreparation(mask.rows, mask.columns, classes),
                workers=imaging.workers,
                progress=progress,
            )
            columns[label] = StoredRows(masks.stored, masks.places)
            masks_aside = masks.set_aside
    notes += [f"{count} images have no picture: {why}." for why, count in sorted(set_aside.items())]
    notes += [f"{count} masks were set aside: {why}." for why, count in sorted(masks_aside.items())]
    if task.schema.columns:
        return columns, tuple(notes)
    there = np.any([columns[image.name].present for image in images], axis=0)
    if not there.all():
        notes.append(f"{int((~there).sum())} rows without any picture were set aside.")
    kept = {
        name: column.chosen(there) if isinstance(column, StoredRows) else column[there]
        for name, column in columns.items()
    }
    return kept, tuple(notes)


def _several(
    index: ImageIndex, image: Image, column: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], list[str]]:
    """(N,) of a view -> (N,) keys, or (N, most) where a record may have several pictures, None for
    none; and what to note."""
    if image.most == 1:
        return np.array([*_keys(column), None], dtype=object)[:-1], []
    listed = [(text or "").split() for text in _keys(column)]
    if image.spacing is not None:
        return volumes_of(index, image, image.spacing, listed)
    keys = np.full((len(listed), image.most), None, dtype=object)
    for row, of_row in enumerate(listed):
        keys[row, : len(of_row)] = of_row[: image.most]
    beyond = sum(len(of_row) > image.most for of_row in listed)
    note = (
        f"{beyond} rows have more than {image.most} pictures in the column {image.name}: the first "
        f"{image.most} are taken."
    )
    return keys, [note] if beyond else []


def _keys(column: npt.NDArray[Any]) -> list[str | None]:
    """A column without any value may come as NaN."""
    return [str(key) if key is not None and key == key else None for key in column]
