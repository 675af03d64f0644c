"""A contact sheet: HTML pages with the pictures that were set aside on suspicion, for review.

These pictures may have identifiers burned in. So only the owner can read the pages (folder 0700,
files 0600); they refer to nothing outside, and name each picture by the first digits of its key.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from client.data.dicom.index.index import ImageIndex, SetAsideFile
from client.data.dicom.isolated_workers import batches, isolated
from protocol import durable_files
from protocol.errors import Code, WardroundError
from protocol.terminal.printable import as_html

PER_PAGE = 60
SIDE = 256
"""Pixels of a thumbnail's longer side: wide enough to read burned-in text."""
_STYLE = """body{font:14px/1.4 system-ui;margin:2em;background:#111;color:#ddd}a{color:#8cf}
figure{display:inline-block;width:260px;margin:.5em;vertical-align:top}img{max-width:100%}
code{user-select:all}"""


def write_sheet(index: ImageIndex, folder: Path, workers: int = 2) -> int:
    """Writes `index.html` and pages into a new folder and returns the number of pages.

    Raises WardroundError(USAGE) where the folder exists already or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise WardroundError(
            Code.USAGE,
            f"{folder} cannot be made: {error.strerror}.",
            remedy="Name a folder that is not there yet.",
        ) from None
    asides = {aside.path: aside for aside in index.kept_out() if aside.releasable}
    workers = min(workers, 1 + len(asides) // 8)
    pictures = isolated(
        thumbnail, (), asides, workers=workers, seconds=60.0, slow=None, crashed=None
    )
    figures = (_figure(asides[path], png) for path, png in pictures)
    pages = 0
    for pages, page in enumerate(batches(figures, PER_PAGE), start=1):
        durable_files.write(folder / f"page{pages}.html", _page(f"Page {pages}", "".join(page)))
    links = "".join(f'<li><a href="page{n}.html">page {n}</a>' for n in range(1, pages + 1))
    text = (
        f"<p>{len(asides)} pictures were set aside because they may show text or a face. Look at "
        "them; let through what is clean with <code>wardround-site images release KEY...</code>."
        "<p>These pages may show names. They stay on this machine; remove them when you are done."
    )
    durable_files.write(folder / "index.html", _page("Set aside", f"{text}<ul>{links}</ul>"))
    return pages


def thumbnail(path: Path) -> bytes | None:
    """The frame as PNG, None where it cannot be decoded. Runs in a worker."""
    from PIL import Image

    from client.data.dicom.objects.header import quiet
    from client.data.dicom.pixels.thumbnails import shown

    quiet()
    try:
        picture = Image.fromarray(shown(path.read_bytes(), path))
        picture.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    except (Exception, RecursionError, MemoryError):
        return None
    return buffer.getvalue()


def _figure(aside: SetAsideFile, png: bytes | None) -> str:
    picture = "<p>(cannot be decoded)"
    if png is not None:
        picture = f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    key, why = as_html(aside.key), as_html(aside.verdict)
    kind = as_html(aside.modality or "")
    return f"<figure>{picture}<figcaption><code>{key}</code> {kind}<br>{why}</figcaption></figure>"


def _page(title: str, body: str) -> bytes:
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    return f"{head}<style>{_STYLE}</style><h1>{title}</h1>{body}</html>\n".encode()
