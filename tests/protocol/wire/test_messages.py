"""Messages: what is framed is what is parsed; anything else is refused without being quoted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.release import PROTOCOL, RELEASE, THIS_RELEASE, Sender
from protocol.wire import messages
from protocol.wire.messages import Frame
from tests.protocol.study_document import study

_STUDY = "5" * 64
_READY: dict[str, Any] = {
    "type": "ready",
    "study": _STUDY,
    "round": 3,
    "attempt": 4,
    "site": "cleveland",
    "context": "c" * 64,
    "public_key": "d" * 64,
    "signature": "e" * 128,
}
_EXAMPLES: list[messages.Request | messages.Answer] = [
    messages.Propose(document=study().document.decode()),
    messages.Propose(document=study().document.decode(), dry=True),
    messages.Standing(study=_STUDY, state="refused", code=Code.REFUSED_BUDGET),
    messages.Standing(
        study=_STUDY, state="refused", code=Code.REFUSED_POLICY, rules=("modes", "delta")
    ),
    messages.Standing(study=_STUDY, state="accepted"),
    messages.Prepare(study=_STUDY, round=1, attempt=2, train=True, evaluate=False, model="a" * 64),
    messages.Ready.model_validate(_READY),
    messages.Collect(
        study=_STUDY,
        round=3,
        attempt=4,
        readys=(messages.Ready.model_validate(_READY),),
    ),
    messages.Share(study=_STUDY, round=3, attempt=4),
    messages.Close(study=_STUDY, outcome="finished"),
    messages.Refusal(study=None, code=Code.MESSAGE),
]


def _refused(header: bytes, code: Code = Code.MESSAGE, body: Sequence[messages.Buffer] = ()) -> str:
    with pytest.raises(WardroundError) as caught:
        messages.parse(Frame(header, body))
    assert caught.value.code is code
    assert caught.value.__cause__ is None
    return str(caught.value)


_MALFORMED = (
    (Code.MESSAGE, "A message header is malformed."),
    (Code.MESSAGE, "A header says no release that could be."),
    (Code.MESSAGE, "A Collect's names and keys do not fit together."),
)


def _parsed(
    header: bytes, body: Sequence[messages.Buffer]
) -> messages.Request | messages.Answer | None:
    """The message, or None where it is refused in the way that a header must be."""
    try:
        return messages.parse(Frame(header, body))
    except WardroundError as error:
        said = (error.code, error.message)
        if said not in _MALFORMED and not (
            error.code is Code.RELEASE and error.message.startswith("A message ")
        ):
            raise
        return None


@pytest.mark.parametrize("message", _EXAMPLES, ids=lambda m: m.type)
def test_a_message_survives_its_frame(message: messages.Request | messages.Answer) -> None:
    framed = messages.frame(message)
    assert messages.parse(framed) == message
    assert framed.header == canonical(json.loads(framed.header))


@pytest.mark.parametrize("message", _EXAMPLES, ids=lambda m: m.type)
def test_unknown_missing_or_mistyped_fields_are_refused(
    message: messages.Request | messages.Answer,
) -> None:
    framed = messages.frame(message)
    plain = json.loads(framed.header)
    surprising = canonical(plain | {"surprise": 1, "release": "7.1.0"})
    said = _refused(surprising, Code.RELEASE, framed.body)
    assert "`" + message.type + ".surprise`" in said
    assert "runs wardround 7.1.0" in said
    for field in plain:
        if field not in ("code", "roster", "lost", "dry", "rules"):
            _refused(canonical({k: v for k, v in plain.items() if k != field}), body=framed.body)
        _refused(canonical(plain | {field: [1.5]}), body=framed.body)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_one_constant_sentence(header: bytes) -> None:
    assert _refused(header) == "A message header is malformed."


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(
    message=st.sampled_from(_EXAMPLES),
    field=st.sampled_from(["type", "study", "round", "attempt", "site", "readys", "code", "x"]),
    value=_json,
)
def test_a_field_replaced_by_anything_is_parsed_or_refused_never_more(
    message: messages.Request | messages.Answer, field: str, value: Any
) -> None:
    framed = messages.frame(message)
    plain = json.loads(framed.header) | {field: value}
    parsed = _parsed(json.dumps(plain, separators=(",", ":")).encode(), framed.body)
    if parsed is not None:
        said = json.loads(messages.frame(parsed).header)
        assert said == {key: value for key, value in plain.items() if key in said}
        left_out = json.loads(messages.frame(parsed, to=Sender("0.1.0", 1)).header)
        assert all(left_out[key] == plain[key] for key in plain.keys() - said.keys())


@given(message=st.sampled_from(_EXAMPLES), data=st.data())
def test_truncated_or_flipped_headers_never_crash(
    message: messages.Request | messages.Answer, data: st.DataObject
) -> None:
    framed = messages.frame(message)
    header = bytearray(framed.header)
    if data.draw(st.booleans()):
        header = header[: data.draw(st.integers(0, len(header) - 1))]
        _refused(bytes(header), body=framed.body)
        return
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    flipped = bytes(header)
    read = _parsed(flipped, framed.body)
    assert read != message or messages.sender(Frame(flipped)) != THIS_RELEASE


def test_what_is_refused_is_not_quoted() -> None:
    for plain in (
        _READY | {"site": "CANARY Jane Doe"},
        _READY | {"round": "CANARY"},
        {"type": "CANARY"},
        _READY | {"release": "CANARY", "protocol": 2},
    ):
        assert "CANARY" not in _refused(canonical(plain))
    for name in ("CANARY", "jane doe", "x" * 81, "canary\x1b[2J"):
        said = _refused(canonical(_READY | {name: 1}), Code.RELEASE)
        assert name not in said
        assert "with an unusual name" in said


def test_annotations_may_hold_anything_and_nothing_reads_them() -> None:
    anything = {"jane": [1, {"x": None}], "y": "\x1b"}
    for message in _EXAMPLES:
        framed = messages.frame(message)
        header = canonical(json.loads(framed.header) | {"annotations": anything})
        assert messages.parse(Frame(header, framed.body)) == message


def test_a_field_that_says_its_default_is_left_out() -> None:
    """So that a release which has no such field yet understands the others."""
    prepare = messages.Prepare(
        study=_STUDY, round=1, attempt=1, train=True, evaluate=False, model=_STUDY
    )
    assert "lost" not in json.loads(messages.frame(prepare).header)


@pytest.mark.parametrize(
    ("theirs", "older"),
    [("0.1.0", "sender"), ("99.0", "side"), ("0.1.99rc1", "sender"), (RELEASE, "same")],
)
def test_two_releases_that_cannot_work_together_say_which_is_older(theirs: str, older: str) -> None:
    header = canonical(_READY | {"release": theirs, "protocol": PROTOCOL + 1})
    said = _refused(header, Code.RELEASE)
    assert f"speaks protocol {PROTOCOL + 1}" in said
    assert {"sender": "The sender is the older one", "side": "This side is the older one"}.get(
        older, "Both say the same release"
    ) in said


def test_an_answer_to_the_first_release_is_one_that_it_reads() -> None:
    """0.1.0 knows no release, no protocol and not every code, and wants every field."""
    first = Sender("0.1.0", 1)
    refusal = messages.Refusal(study=_STUDY, code=Code.TASK_CHANGED)
    assert json.loads(messages.frame(refusal, to=first).header) == {
        "type": "refusal", "study": _STUDY, "code": "refused_study"
    }  # fmt: skip
    for message in _EXAMPLES:
        framed = messages.frame(message, to=first)
        assert not {"release", "protocol"} & set(json.loads(framed.header))
        assert messages.sender(framed) == first
        assert messages.parse(framed) == message


def test_who_accepted_a_study_is_said_to_who_can_read_it() -> None:
    accepted = messages.Standing(study=_STUDY, state="accepted", accepted_by="hand")
    assert messages.parse(messages.frame(accepted)) == accepted
    first = messages.frame(accepted, to=Sender("0.1.0", 1))
    assert "accepted_by" not in json.loads(first.header)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1.5", "0", "-1", "1e3", "true", '"1"'])
def test_rounds_are_whole_and_positive(number: str) -> None:
    _refused(canonical(_READY).replace(b'"round":3', b'"round":' + number.encode()))


def test_a_header_beyond_the_limit_is_not_even_parsed() -> None:
    header = canonical(_READY)
    padding = b" " * (messages.HEADER_LIMIT + 1 - len(header))
    assert "too long" in _refused(header + padding)
    assert messages.parse(Frame(header + padding[:-1]))


def test_a_collect_of_a_thousand_sites_fits() -> None:
    readys = tuple(
        messages.Ready.model_validate(_READY | {"site": f"{n:03d}".ljust(64, "x")})
        for n in range(1000)
    )
    collect = messages.Collect(study=_STUDY, round=1, attempt=1, readys=readys)
    assert messages.parse(messages.frame(collect)) == collect


def _collect(sites: int, **other: str) -> messages.Collect:
    ready = messages.Ready.model_validate(_READY)
    named = [ready.model_copy(update={"site": f"hospital-of-{n:04d}"}) for n in range(sites)]
    if other:
        named[-1] = named[-1].model_copy(update=other)
    return messages.Collect(
        study=ready.study, round=ready.round, attempt=ready.attempt, readys=tuple(named)
    )


def test_what_a_site_receives_of_two_hundred_others() -> None:
    """25 kB a round, the Prepare included; in 0.1.0's words it was 88 kB."""
    collect = _collect(200)
    assert messages.frame(collect).size + 1000 < 25_000
    assert messages.parse(messages.frame(collect)) == collect


@pytest.mark.parametrize("other", [{}, {"context": "e" * 64}, {"study": "e" * 64}])
def test_every_collect_is_read_as_it_was_meant(other: dict[str, str]) -> None:
    """Readys that have not all in common are written in full, for the site to judge."""
    collect = _collect(3, **other)
    for to in (THIS_RELEASE, Sender()):
        assert messages.parse(messages.frame(collect, to=to)) == collect


@pytest.mark.parametrize("cut", [-1, -96, 1, 96, 96 * 1000])
def test_names_and_keys_that_do_not_fit_are_refused(cut: int) -> None:
    frame = messages.frame(_collect(3))
    keys = b"".join(map(bytes, frame.body))
    keys = keys[:cut] if cut < 0 else keys + bytes(cut)
    with pytest.raises(WardroundError, match="do not fit together"):
        messages.parse(Frame(frame.header, [keys]))


@given(
    values=st.lists(st.integers(0, 2**32 - 1), max_size=50),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_gather_undoes_any_cutting_into_chunks(values: list[int], cuts: list[int]) -> None:
    array = np.array(values, dtype=np.uint32)
    data = array.tobytes()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    body = [data[a:b] for a, b in pairwise(edges)]
    assert messages.gather(body, np.uint32, len(values)).tolist() == values


def test_chunks_are_views_of_the_array_and_of_bounded_size() -> None:
    array = np.arange(600_000, dtype=np.float32)
    body = messages.chunks(array)
    assert [len(chunk) for chunk in body] == [1 << 20, 1 << 20, 2_400_000 - (2 << 20)]
    array[0] = 5
    assert np.frombuffer(body[0], np.float32)[0] == 5
    gathered = messages.gather(body, np.float32, len(array))
    assert np.array_equal(gathered, array)
    assert Frame(b"12345", body).size == 5 + array.nbytes


@pytest.mark.parametrize(("count", "says"), [(3, "longer"), (5, "shorter")])
def test_a_vector_of_another_length_is_refused(count: int, says: str) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        messages.gather([b"\0" * 7, b"\0" * 9], np.float32, count)
    assert caught.value.code is Code.MESSAGE
