"""Generated objects of every layout, beside a slow reading of the standard (reference.py)."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.windowing import displayed
from tests.client.data.dicom.pixels.reference import Made, Table, View, grey, words_of
from tests.client.data.dicom.pixels.written import SECONDARY_CAPTURE, file_of, item, with_vr

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failure is not made smaller: that takes minutes."""


def lut(table: Table, order: str) -> Dataset:
    """Unsigned words throughout, as many writers have it."""
    said = [len(table.entries), table.first % 65536, table.bits]
    return with_vr(
        with_vr(item(), 0x00283002, "US", said), 0x00283006, "OW", words_of(table, order)
    )


def window(view: View) -> dict[str, object]:
    if view.centre is None:
        return {}
    return {
        "WindowCenter": f"{view.centre:.10g}",
        "WindowWidth": f"{view.width:.10g}",
        "VOILUTFunction": view.function,
    }


def rescale(view: View) -> dict[str, object]:
    return {"RescaleSlope": f"{view.slope:.10g}", "RescaleIntercept": f"{view.intercept:.10g}"}


def group(view: View, made: Made) -> Dataset:
    group = item()
    if made.modality is None:
        group.PixelValueTransformationSequence = [item(**rescale(view))]
    if view.centre is not None:
        group.FrameVOILUTSequence = [item(**window(view))]
    return group


def as_file(made: Made) -> bytes:
    dataset = item(
        SOPClassUID=SECONDARY_CAPTURE,
        SOPInstanceUID="1.2.3",
        SamplesPerPixel=1,
        PhotometricInterpretation=f"MONOCHROME{1 if made.inverted else 2}",
        NumberOfFrames=len(made.samples),
        Rows=made.rows,
        Columns=made.columns,
        BitsAllocated=made.allocated,
        BitsStored=made.stored,
        HighBit=made.high,
        PixelRepresentation=int(made.signed),
    )
    if made.padding:
        kind = "SS" if made.signed else "US"
        with_vr(dataset, 0x00280120, kind, made.padding[0])
        with_vr(dataset, 0x00280121, kind, made.padding[1])
    if made.modality:
        dataset.ModalityLUTSequence = [lut(made.modality, made.order)]
    if made.voi:
        dataset.VOILUTSequence = [lut(made.voi, made.order)]
    match made.where:
        case "object":
            for name, value in {**window(made.views[0]), **rescale(made.views[0])}.items():
                setattr(dataset, name, value)
        case "shared":
            dataset.SharedFunctionalGroupsSequence = [group(made.views[0], made)]
        case _:
            other = View(3, 5, None if made.voi else 7, 11)  # overruled by what each frame says
            dataset.SharedFunctionalGroupsSequence = [group(other, made)]
            dataset.PerFrameFunctionalGroupsSequence = [group(v, made) for v in made.views]
    with_vr(dataset, 0x7FE00010, "OW", made.pixel_data())
    return file_of(dataset, ExplicitVRBigEndian if made.big_endian else ExplicitVRLittleEndian)


@st.composite
def tables(draw: st.DrawFn, low: int, high: int) -> Table:
    """Over inputs that may lie in [low, high]. The greatest entry fills the bits."""
    bits = draw(st.sampled_from([8, 10, 12, 16]))
    top = (1 << bits) - 1
    entries = draw(st.lists(st.integers(0, top), min_size=1, max_size=40))
    entries[draw(st.integers(0, len(entries) - 1))] = top
    first = draw(st.integers(max(low, -32768), min(high, 65535 if low >= 0 else 32767)))
    packed = bits == 8 and len(entries) > 1 and draw(st.booleans())
    return Table(tuple(entries), first, bits, packed)


@st.composite
def objects(draw: st.DrawFn) -> Made:
    allocated = draw(st.sampled_from([8, 16]))
    stored = draw(st.integers(2, allocated))
    high = draw(st.integers(stored - 1, allocated - 1))
    signed = draw(st.booleans())
    low, top = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    rows, columns, frames = (draw(st.integers(1, n)) for n in (5, 5, 4))
    values = st.integers(low, top)
    frame = st.lists(values, min_size=rows * columns, max_size=rows * columns)
    samples = tuple(tuple(draw(frame)) for _ in range(frames))
    where = draw(st.sampled_from(["object", "shared", "frame"]))
    one = st.builds(
        View,
        slope=st.sampled_from([1, 2, 0.5, -1]),
        intercept=st.sampled_from([0, -1024, 3, 100]),
        centre=st.integers(-500, 2000),
        width=st.integers(1, 3000),
        function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    )
    views = [draw(one) for _ in samples]
    views = views if where == "frame" else [views[0]] * frames
    modality = draw(st.none() | tables(low, top))
    ends = [
        0 if modality else min(v.slope * s + v.intercept for v in views for s in (low, top)),
        65535 if modality else max(v.slope * s + v.intercept for v in views for s in (low, top)),
    ]
    frame_view = views[frames // 2]
    least = 0 if modality else min(
        frame_view.slope * s + frame_view.intercept for s in (low, top)
    )  # fmt: skip
    voi = draw(st.none() | tables(int(max(least, -32768)), int(ends[1])))
    if voi:
        views = [View(view.slope, view.intercept) for view in views]
    padding = draw(st.none() | st.tuples(values, values))
    return Made(
        rows, columns, allocated, stored, high, signed, draw(st.booleans()), samples, tuple(views),
        where, draw(st.booleans()), padding, modality, voi, draw(st.integers(0, 65535)),
    )  # fmt: skip


@settings(max_examples=150, phases=QUICK)
@given(objects())
def test_any_layout_shows_what_the_standard_says(made: Made) -> None:
    wanted = grey(made, len(made.samples) // 2)
    lit = [value for value in wanted if value is not None]
    # where a view shows nothing of the picture, another is chosen: another test's matter
    assume(lit and max(lit) - min(lit) > 1.01)
    frame = middle_frame(as_file(made))
    shown = displayed(frame.values, frame.header, frame.bits).ravel()
    expected = np.array([0 if value is None else value for value in wanted])
    assert np.abs(shown - expected).max() <= 0.51
