"""The gate's report: how many images are ready, how many were kept out, and why. Counts only."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.data.dicom.index.index import ImageIndex
from client.data.dicom.objects.gate import SUSPICIONS, Reason
from client.data.dicom.objects.header import Problem
from client.data.dicom.pixels.faults import PixelFault
from protocol import durable_files
from protocol.errors import unwritable
from protocol.terminal.printable import as_html, printable

_REMEDIES: dict[str, str] = {
    Reason.AT_RISK: "allow its modality in imaging.accept_modalities, or release what is clean",
    Reason.TEXT: "look at the contact sheet, and release what shows no identifier",
    Reason.BURNED_IN: "look at the contact sheet, and release what shows no identifier",
    Reason.FACE: "look at the contact sheet, and release what shows no face",
    Reason.HEAD: "set imaging.accept_heads, or release what shows no face",
    Reason.NOT_LOOKED: "run `wardround-site index` again",
    Problem.OLD_RULES: "run `wardround-site index` again",
    Reason.SLOW: "nothing, or give this machine fewer imaging.workers",
    Reason.CRASHED: "nothing; if it stays, send it in another transfer syntax",
    Reason.MEMORY: "give this machine fewer imaging.workers, or more memory",
    Reason.UNREACHABLE: "look whether its disk or share is there",
    Reason.NO_PATIENT: "export it again with Patient ID",
    Reason.TWO_PATIENTS_ACCESSION: "correct the accession numbers in the PACS, and send again",
    Reason.TWO_PATIENTS_STUDY: "merge or split the patients in the PACS, and send again",
    Reason.TWO_OBJECTS: "find out which of the two is right, and remove the other",
    Reason.UNDECODABLE: "send it again, or in another transfer syntax",
    PixelFault.CUT_SHORT: "send it again",
    PixelFault.SYNTAX: "send it in another transfer syntax",
    PixelFault.TOO_LARGE: "send it smaller: a frame has 134 million samples at most",
    **dict.fromkeys(
        (
            PixelFault.SIDES,
            PixelFault.SAMPLES,
            PixelFault.PHOTOMETRIC,
            PixelFault.FRAMES,
            PixelFault.BITS,
            PixelFault.RESCALE,
        ),
        "correct this attribute at its source, and send it again",
    ),
}
_KIND = "Modality, SOP Class UID, Conversion Type, Image Type, Series Description"
_ATTRIBUTES: dict[str, str] = {
    Reason.NOT_AN_IMAGE: "SOP Class UID, Modality",
    Reason.NO_PIXELS: "Pixel Data",
    Reason.NO_PATIENT: "Patient ID",
    Reason.NO_UID: "Study, Series and SOP Instance UID",
    Reason.COPY: "SOP Instance UID",
    Reason.TWO_OBJECTS: "SOP Instance UID",
    Reason.TWO_PATIENTS_ACCESSION: "Accession Number",
    Reason.TWO_PATIENTS_STUDY: "Study Instance UID",
    Reason.FACE: "Recognizable Visual Features",
    Reason.HEAD: "Body Part Examined, Protocol Name, Study, Series and Procedure Description",
    Reason.BURNED_IN: "Burned In Annotation",
    Reason.AT_RISK: _KIND,
    Reason.TEXT: "Pixel Data",
    Reason.UNDECODABLE: "Pixel Data",
    Problem.SYNTAX: "Transfer Syntax UID",
}
"""Where a rule looks, by the names of PS3.6. Faults of pixels name their attributes themselves."""


@dataclass(frozen=True)
class ReportLine:
    """One reason. `attribute`: those that the rule reads, "" where it reads none; `releasable`: a
    person may overrule it by looking."""

    why: str
    attribute: str
    files: int
    releasable: bool
    remedy: str


@dataclass(frozen=True)
class Report:
    """Ready images with their patients and studies, by modality; and what was kept out."""

    ready: int
    patients: int
    studies: int
    modalities: dict[str, int]
    kept_out: tuple[ReportLine, ...]


def of(index: ImageIndex) -> Report:
    """The report of today's policy."""
    ready, counts = index.ready(), index.counts()
    counts.pop("", None)
    return Report(
        ready=len(ready),
        patients=len({row["patient"] for row in ready}),
        studies=len({row["study"] for row in ready}),
        modalities=dict(Counter(row["modality"] or "none" for row in ready).most_common()),
        kept_out=tuple(
            ReportLine(
                why, _ATTRIBUTES.get(why, ""), files, why in SUSPICIONS, _REMEDIES.get(why, "")
            )
            for why, files in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def plain(report: Report) -> dict[str, Any]:
    """For JSON."""
    return asdict(report)


def show(report: Report, screen: Any) -> None:
    """On a rich console."""
    from rich.table import Table
    from rich.text import Text

    screen.print(Text(printable(_headline(report))))
    if not report.kept_out:
        return
    table = Table("kept out because", "by", "files", "what can be done", box=None)
    table.columns[2].justify = "right"
    for line in report.kept_out:
        table.add_row(line.why, line.attribute, str(line.files), line.remedy)
    screen.print(table)


def write_html(report: Report, path: Path, site: str) -> None:
    """A page for the owner's eyes (0600). Raises WardroundError(USAGE) where it cannot be."""
    rows = "".join(
        f"<tr><td>{as_html(line.why)}</td><td>{as_html(line.attribute)}</td>"
        f"<td class=n>{line.files}</td>"
        f"<td>{as_html(line.remedy)}</td></tr>"
        for line in report.kept_out
    )
    text = f"""<!doctype html><html lang=en><meta charset=utf-8><title>Pictures of {site}</title>
<style>body{{font:15px/1.5 system-ui;max-width:60em;margin:3em auto;padding:0 1em}}
td,th{{text-align:left;padding:.3em 1em .3em 0;border-bottom:1px solid #ddd}}
.n{{text-align:right}}</style>
<h1>Pictures of {as_html(site)}</h1><p>{as_html(_headline(report))}</p>
<table><tr><th>Kept out because<th>By<th>Files<th>What can be done</tr>{rows}</table></html>
"""
    try:
        durable_files.write(path, text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def _headline(report: Report) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in report.modalities.items())
    out = sum(line.files for line in report.kept_out)
    ready = f"{report.ready} pictures of {report.patients} patients in {report.studies} studies"
    return f"{ready} are ready{f' ({kinds})' if kinds else ''}; {out} files were kept out."
