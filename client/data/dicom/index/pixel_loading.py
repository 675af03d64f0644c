"""Loads pictures and masks of keys of the image index, each decoded once and then cached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.data.dicom.index.index import ImageIndex, stamp_of
from client.data.dicom.index.pixel_cache import CacheEntry, PictureCache
from client.data.dicom.isolated_workers import batches, isolated
from client.data.dicom.pixels.faults import PixelFault
from client.data.dicom.pixels.mask import MaskPreparation, prepare_mask
from client.data.dicom.pixels.preprocessing import (
    PreparedPicture,
    Preprocessing,
    prepare_picture,
)

SECONDS = 30.0
"""Limit for one file."""
_BATCH = 128
NOT_READY = "not in the index, or kept out by the gate"
OF_ANOTHER = "a mask of another picture than that of its row"

Progress = Callable[[int, int], None]
"""Called with (pictures decoded, of how many)."""


@dataclass(frozen=True)
class LoadedPictures:
    """stored (slots, ...) uint8, mapped from the cache, of which places (N,) says where each key's
    picture is, -1 where there is none; set_aside: why keys that were given have none -> how many
    keys."""

    stored: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]
    set_aside: Mapping[str, int]


def load(
    index: ImageIndex,
    state: Path,
    keys: Sequence[str | None],
    made: Preprocessing,
    *,
    workers: int = 1,
    progress: Progress = lambda done, of: None,
) -> LoadedPictures:
    """keys: of ready images, None for none. Raises WardroundError(STATE) for the cache."""
    paths = index.paths({key for key in keys if key is not None})
    with PictureCache.open(state, made) as cache:
        known = fill(cache, paths.values(), workers, progress)
        found = [None if key is None else _slot(known, paths.get(key)) for key in keys]
        return _loaded(cache, found)


def load_masks(
    index: ImageIndex,
    state: Path,
    keys: Sequence[str | None],
    images: Sequence[str | None],
    made: MaskPreparation,
    *,
    workers: int = 1,
    progress: Progress = lambda done, of: None,
) -> LoadedPictures:
    """keys: of masks, None for none; images: of the picture in the same row. Raises
    WardroundError(STATE) for the cache."""
    masks = {one.mask: one for one in index.masks()}
    wanted = [masks[key] for key in {*keys} & masks.keys() if key is not None]
    pictures = {one.file: one.picture for one in wanted}
    with PictureCache.open(state, made) as cache:
        known = fill(cache, pictures, workers, progress, partial(prepare_mask, pictures=pictures))
        found: list[int | str | None] = []
        for key, image in zip(keys, images, strict=True):
            one = None if key is None else masks.get(key)
            if one is not None and one.image != image:
                found.append(OF_ANOTHER)
            else:
                found.append(None if key is None else _slot(known, one.file if one else None))
        return _loaded(cache, found)


def _slot(known: Mapping[Path, int | PixelFault], path: Path | None) -> int | str:
    return NOT_READY if path is None else known[path]


def _loaded(cache: PictureCache, found: Sequence[int | str | None]) -> LoadedPictures:
    """found: of each row a slot, why it has none, or None where nothing was asked for."""
    places = np.array([of if isinstance(of, int) else -1 for of in found], dtype=np.int64)
    aside = Counter(str(of) for of in found if of is not None and not isinstance(of, int))
    return LoadedPictures(cache.pictures(), places, dict(aside))


def fill(
    cache: PictureCache,
    paths: Collection[Path],
    workers: int,
    progress: Progress,
    prepare: Callable[..., PreparedPicture] = prepare_picture,
) -> dict[Path, int | PixelFault]:
    """Every file's slot in the cache, or why it has none. Files that the cache does not know are
    decoded in processes of their own, by `prepare`, and written batch by batch."""
    stamps = {path: stamp for path in paths if (stamp := stamp_of(path)) is not None}
    known = cache.find(stamps)
    jobs = [path for path in stamps if path not in known]
    if jobs:
        answers = isolated(
            prepare,
            (cache.made, cache.contents()),
            jobs,
            workers=min(workers, 1 + len(jobs) // 8),
            seconds=SECONDS,
            slow=PreparedPicture(None, fault=PixelFault.SLOW),
            crashed=PreparedPicture(None, fault=PixelFault.CRASHED),
        )
        done = 0
        for batch in batches(answers, _BATCH):
            cache.add(
                CacheEntry(path, stamps[path], prepared)
                for path, prepared in batch
                if prepared.fault is not PixelFault.GONE
            )
            done += len(batch)
            progress(done, len(jobs))
        known |= cache.find(stamps)
    return {path: known.get(path, PixelFault.GONE) for path in paths}
