"""A site's index of images as its views meet it, where the site has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from client.config.site_config import SiteConfig
from client.data.sources.session import Extra


@contextmanager
def image_tables(config: SiteConfig) -> Iterator[tuple[Extra, ...]]:
    """What gives a view `images` and `pseudonym`: nothing for a site without `imaging`.

    Raises WardroundError(STATE).
    """
    if config.imaging is None:
        yield ()
        return
    from client.data.dicom.index.images_table import register
    from client.data.dicom.index.index import Index

    with Index.open(config.state, config.imaging.gate) as index:
        yield (lambda connection: register(connection, index),)
