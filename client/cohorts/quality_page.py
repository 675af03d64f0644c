"""Shows a cohort's quality as a table and as a page with plots, for the site alone."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from rich.table import Table as Grid
from rich.text import Text

from client.data.quality import ColumnQuality, Quality
from protocol import durable_files
from protocol.terminal.printable import as_html, printable

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; color: #1c2330 }
table { border-collapse: collapse; width: 100% }
th { text-align: left; border-bottom: 2px solid #8a93a3 }
td { border-bottom: 1px solid #dde1e8; vertical-align: middle }
th, td { padding: .25rem .6rem } td.n { text-align: right; font-variant-numeric: tabular-nums }
.doubt { color: #8f3d00 } img { display: block; height: 44px }
"""


def grid(quality: Quality) -> Grid:
    """One row a column, for a terminal."""
    title = Text(printable(headline(quality)))
    table = Grid("column", title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("unit", "missing", "outside", "AUC alone", "", "doubt"):
        right = heading in ("missing", "outside", "AUC alone")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for column in quality.columns:
        table.add_row(
            Text(printable(column.name)),
            Text(printable(column.unit)),
            share(column.missing, quality.rows),
            share(column.outside, quality.rows),
            "" if column.alone is None else f"{column.alone:.3f}",
            _bars(column.histogram),
            Text(printable(" ".join(column.doubts)), style="yellow"),
        )
    return table


def headline(quality: Quality) -> str:
    """Rows, patients and labels in one line."""
    rate = quality.prevalence
    if quality.unlabelled == quality.rows:
        labels = "no labels"
    else:
        labelled = quality.rows - quality.unlabelled
        labels = f"{labelled} labels" if rate is None else f"label 1 in {rate:.1%}"
    unlabelled = f", {quality.unlabelled} without a label" if quality.unlabelled else ""
    size = f"{quality.rows} rows of {quality.patients} patients"
    return f"{quality.task}: {size}, {labels}{unlabelled}"


def share(count: int, rows: int) -> str:
    """A count and its share of the rows; nothing where it is none."""
    return f"{count} ({count / rows:.0%})" if count else ""


def write_page(quality: Quality, path: Path) -> None:
    """Writes one HTML file that needs nothing else, 0600. Raises OSError."""
    rows = "\n".join(_row(column, quality.rows) for column in quality.columns)
    doubts = "".join(f"<li>{as_html(doubt)}</li>" for doubt in quality.all_doubts)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Cohort of {as_html(quality.task)}</title>
<style>{_STYLE}</style></head><body>
<h1>Cohort of {as_html(quality.task)}</h1>
<p>{as_html(headline(quality))}.
This page holds counts of this site's patients: it stays here.</p>
<h2>Worth a look</h2>
{f'<ul class="doubt">{doubts}</ul>' if doubts else "<p>Nothing.</p>"}
<h2>Columns</h2>
<p>Bars run over the public range in equal steps, or over the categories as declared. Outside:
clipped to the public range, or none of the categories. AUC alone: how well the column predicts the
label by itself.</p>
<table><thead><tr><th>Column</th><th>Unit</th><th>Missing</th><th>Outside</th><th>AUC alone</th>
<th>Values</th><th>Doubt</th></tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""
    durable_files.write(path, page.encode())


def _row(column: ColumnQuality, rows: int) -> str:
    ends = f"{column.labels[0]} … {column.labels[-1]}" if column.labels else ""
    alone = "" if column.alone is None else f"{column.alone:.3f}"
    doubts = as_html(" ".join(column.doubts))
    return (
        f"<tr><td>{as_html(column.name)}</td><td>{as_html(column.unit)}</td>"
        f'<td class="n">{share(column.missing, rows)}</td>'
        f'<td class="n">{share(column.outside, rows)}</td><td class="n">{alone}</td>'
        f'<td><img alt="counts over {as_html(ends)}" title="{as_html(ends)}" '
        f'src="data:image/png;base64,{_plot(column)}"></td><td class="doubt">{doubts}</td></tr>'
    )


def _plot(column: ColumnQuality) -> str:
    """The column's bars as a PNG in base64; needs no display."""
    from matplotlib.figure import Figure  # .3 s: not for whoever wants no page

    figure = Figure(figsize=(2.4, 0.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(column.histogram)), column.histogram, width=0.9, color="#3b6ea5")
    axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _bars(counts: tuple[int, ...]) -> str:
    """Counts as one line of block characters."""
    if not any(counts):
        return ""
    levels = " ▁▂▃▄▅▆▇█"
    top = max(counts)
    return "".join(levels[-(-8 * count // top)] for count in counts)
