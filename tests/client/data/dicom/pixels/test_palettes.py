"""Palettes: in every syntax, whole and in segments, beside an expansion written for this test."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.faults import NoPicture, PixelFault
from client.data.dicom.pixels.lookup_tables import palette
from tests.client.data.dicom.pixels.written import file_of, grey, with_vr

PLAIN = (ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian)
SYNTAXES = (*PLAIN, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless)
INDICES = np.arange(256, dtype=np.uint8).repeat(16).reshape(64, 64)
SEGMENTED = 0x00281221
RNG = np.random.default_rng(7)

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failure is not made smaller: that takes minutes."""


def ordered(words: list[int], syntax: UID) -> bytes:
    """VR OW (PS3.5, 7.3)."""
    return struct.pack(f"{'>' if syntax == ExplicitVRBigEndian else '<'}{len(words)}H", *words)


def in_words(fields: list[int], bits: int) -> list[int]:
    if bits == 16:
        return fields
    even = fields + [0] * (len(fields) % 2)
    return [even[n] | even[n + 1] << 8 for n in range(0, len(even), 2)]


def coloured(
    fields: list[list[int]], bits: int, syntax: UID, *, entries: int, data: int = 0x00281201
) -> Dataset:
    """fields: of red, green and blue. data: the tag of the first."""
    words = INDICES
    if syntax == ExplicitVRBigEndian:  # bytes in words
        words = words.reshape(-1, 2)[:, ::-1].reshape(64, 64)
    made = grey(words, PhotometricInterpretation="PALETTE COLOR")
    for n, one in enumerate(fields):
        with_vr(made, 0x00281101 + n, "US", [entries % 65536, 0, bits])
        with_vr(made, data + n, "OW", ordered(in_words(one, bits), syntax))
    return made


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name[:24])
def test_a_palette_has_its_colours_in_every_syntax(syntax: UID, bits: int) -> None:
    colours = [[*RNG.permutation(256) * (257 if bits == 16 else 1)] for _ in range(3)]
    made = coloured([[int(v) for v in one] for one in colours], bits, syntax, entries=256)
    frame = middle_frame(file_of(made, syntax))
    assert frame.bits == bits
    assert np.array_equal(frame.values, np.array(colours).T[INDICES])


def test_entries_of_eight_bits_in_a_palette_that_says_sixteen_are_bright() -> None:
    made = coloured([list(range(256))] * 3, 16, ExplicitVRLittleEndian, entries=256)
    assert middle_frame(file_of(made)).bits == 8


def expanded(segments: list[tuple[int, ...]]) -> list[int]:
    """PS3.3, C.7.9.2, one entry after another."""
    table: list[int] = []

    def add(code: int, *rest: int) -> None:
        if code == 0:
            table.extend(rest)
        else:
            length, end = rest
            start = table[-1]
            for n in range(length):
                table.append(round(start + (end - start) * (n + 1) / length))

    for segment in segments:
        if segment[0] == 2:
            for again in segments[segment[1] : segment[1] + segment[2]]:
                add(*again)
        else:
            add(*segment)
    return table


def fields_of(segments: list[tuple[int, ...]], width: int) -> list[int]:
    """width: bytes of a field. An indirect segment points by bytes, low 16 bits first."""
    fields: list[int] = []
    places = []
    for segment in segments:
        places.append(len(fields) * width)
        if segment[0] == 0:
            fields += [0, len(segment) - 1, *segment[1:]]
        elif segment[0] == 1:
            fields += [1, segment[1], segment[2]]
        else:
            offset = places[segment[1]]
            parts = [offset >> 8 * width * n & (1 << 8 * width) - 1 for n in range(4 // width)]
            fields += [2, segment[2], *parts]
    return fields


@st.composite
def segmented(draw: st.DrawFn) -> tuple[int, list[tuple[int, ...]]]:
    bits = draw(st.sampled_from([8, 16]))
    entry = st.integers(0, (1 << bits) - 1)
    discrete = st.lists(entry, min_size=1, max_size=5).map(lambda v: (0, *v))
    linear = st.tuples(st.just(1), st.integers(1, 9), entry)
    segments: list[tuple[int, ...]] = [draw(discrete)]
    direct = 1
    for one in draw(st.lists(discrete | linear, max_size=6)):
        segments.append(one)
        direct += 1
    if draw(st.booleans()):
        first = draw(st.integers(0, direct - 1))
        segments.append((2, first, draw(st.integers(1, direct - first))))
        segments.append(draw(linear))
    return bits, segments


@settings(max_examples=150, phases=QUICK)
@given(segmented(), st.sampled_from(PLAIN))
def test_segments_are_expanded(made: tuple[int, list[tuple[int, ...]]], syntax: UID) -> None:
    bits, segments = made
    wanted = expanded(segments)
    fields = fields_of(segments, bits // 8)
    dataset = coloured([fields] * 3, bits, syntax, entries=len(wanted), data=SEGMENTED)
    red, _, blue = palette(middle_frame(file_of(dataset, syntax)).header, signed=False)
    assert red.entries.tolist() == wanted
    assert blue.entries.tolist() == wanted


@pytest.mark.parametrize("bits", [8, 16])
def test_repeated_segments_are_found_by_bytes(bits: int) -> None:
    segments: list[tuple[int, ...]] = [(0, 9), (0, 5, 0, 1), (1, 2, 7), (2, 1, 1), (1, 1, 0)]
    fields = fields_of(segments, bits // 8)
    made = coloured([fields] * 3, bits, ExplicitVRLittleEndian, entries=10, data=SEGMENTED)
    red, _, _ = palette(middle_frame(file_of(made)).header, signed=False)
    assert red.entries.tolist() == [9, 5, 0, 1, 4, 7, 5, 0, 1, 0]


@pytest.mark.parametrize(
    "fields",
    [[], [0, 9], [1, 3, 5], [2, 1, 0, 0], [7, 1, 1], [0, 1, 5, 2, 60000, 0, 0], [0, 0, 2, 9, 0, 0]],
    ids=["empty", "cut", "line first", "again first", "no such", "again without end", "nothing"],
)
def test_segments_that_make_no_table_are_named(fields: list[int]) -> None:
    made = coloured([fields] * 3, 16, ExplicitVRLittleEndian, entries=300, data=SEGMENTED)
    with pytest.raises(NoPicture) as told:
        middle_frame(file_of(made))
    assert told.value.fault is PixelFault.LOOKUP_TABLE
