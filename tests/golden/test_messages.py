"""What older releases sent is read as they meant it: messages, enrolment, secure aggregation.

Sites and coordinator are updated on different days: what went over the wire once comes again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from client.enrolment.join import FederationBundle
from launch.federations.inprocess import SimulatedGovernance, split_of
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, fingerprint
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import Context, SignedKey, check_readys, roster_digest
from protocol.secagg.party import Party
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.wire import messages
from protocol.wire.enrolment import EnrolmentCard
from protocol.wire.messages import Frame
from server.enrolment.roster import Roster
from tasks import registry
from tests.golden.opened import HERE, Golden, code_of, everywhere
from tests.golden.test_studies import holds

GOOD = [f for f in everywhere("messages/*.frame") if "_bad_" not in f[1] and "_as_" not in f[1]]
BAD = everywhere("messages/*_bad_*.frame")


def frame_at(path: Path) -> Frame:
    body = path.with_suffix(".body")
    content = body.read_bytes() if body.exists() else b""
    return Frame(path.read_bytes(), [content] if content else [])


def refused_as(header: bytes) -> str:
    """The code with which a header is refused, or "read"."""
    try:
        messages.parse(Frame(header))
    except WardroundError as error:
        return error.code
    return "read"


@pytest.mark.parametrize(("release", "name"), GOOD)
def test_a_message_says_what_it_said(release: str, name: str) -> None:
    values = json.loads((HERE / release / "messages" / "values.json").read_text())
    frame = frame_at(HERE / release / name)
    message = messages.parse(frame)
    written = values[Path(name).stem]
    assert message.type == written["type"]
    assert holds(message.model_dump(mode="json"), written)
    if isinstance(message, messages.Prepare):
        vector = messages.gather(frame.body, np.float32, 45)
        assert np.array_equal(vector, np.linspace(-1, 1, 45, dtype=np.float32))
    if isinstance(message, messages.Share):
        assert messages.gather(frame.body, np.uint32, 10).tolist() == list(range(10))


@pytest.mark.parametrize(("release", "name"), BAD)
def test_a_message_with_one_thing_wrong_is_refused(release: str, name: str) -> None:
    assert refused_as((HERE / release / name).read_bytes()) == code_of(name, Code.MESSAGE)


@pytest.mark.parametrize(("release", "name"), everywhere("messages/*_as_*.frame"))
def test_a_message_in_other_bytes_says_the_same_or_is_refused(release: str, name: str) -> None:
    header = (HERE / release / name).read_bytes()
    seen = refused_as(header)
    assert seen in ("read", Code.MESSAGE)
    if seen == "read":
        message = messages.parse(Frame(header))
        written = json.loads((HERE / release / "messages" / "values.json").read_text())["prepare"]
        assert holds(message.model_dump(mode="json"), written)


@pytest.mark.parametrize(("release", "name"), everywhere("messages/*_bad_*.body"))
def test_a_body_of_another_length_is_refused(release: str, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        messages.gather([(HERE / release / name).read_bytes()], np.uint32, 10)
    assert refused.value.code is Code.MESSAGE


def conversation(golden: Golden) -> list[Frame]:
    """What the hospital `south` heard and answered in one study, in its order."""
    kinds = golden.json("conversation/kinds.json")
    frames = [frame_at(golden / f"conversation/{number:02d}.frame") for number in range(len(kinds))]
    for frame, kind in zip(frames, kinds, strict=True):
        assert messages.parse(frame).type == kind["type"]
        assert sum(len(bytes(chunk)) for chunk in frame.body) == kind["body"]
    return frames


def test_a_hospital_answers_what_an_older_coordinator_asked(golden: Golden, tmp_path: Path) -> None:
    """Proposal and first round, byte for byte: its Ready is for the context of then, so that
    hospitals of both releases can be in one sum."""
    propose, standing, prepare, ready, *_ = conversation(golden)
    roster = golden.json("bundle.json")["roster"]
    identity = Identity.load(golden.copy("hospitals/south/identity.pem", tmp_path))
    table = registry.load("recovery").public_sites(None)["south"]
    site = Site(
        "south",
        identity,
        KnownRoster(roster),
        SimulatedGovernance(),
        lambda task, study: Cohort.build(task, table, split_of("south"), study.evaluation),
    )
    said = messages.parse(site.answer(propose))
    assert isinstance(said, messages.Standing)
    was = messages.parse(standing)
    assert isinstance(was, messages.Standing)
    assert (said.study, said.state) == (was.study, was.state)
    now, then = messages.parse(site.answer(prepare)), messages.parse(ready)
    assert isinstance(now, messages.Ready)
    assert isinstance(then, messages.Ready)
    assert (now.study, now.round, now.attempt, now.site) == (then.study, 1, 1, "south")
    assert now.context == then.context


def test_an_older_hospitals_answers_are_taken(golden: Golden) -> None:
    """Its Readys are signed and agree with one another; every hospital's is in the Collect."""
    roster = golden.json("bundle.json")["roster"]
    frames = conversation(golden)
    asked = messages.parse(frames[0])
    assert isinstance(asked, messages.Propose)
    study = Study.parse(asked.document.encode())
    assert asked.roster == roster_digest((name, roster[name]) for name in study.sites)
    rounds = 0
    for start in range(2, len(frames) - 3, 4):
        prepare, ready, collect, share = map(messages.parse, frames[start : start + 4])
        assert isinstance(prepare, messages.Prepare)
        assert isinstance(ready, messages.Ready)
        assert isinstance(collect, messages.Collect)
        assert isinstance(share, messages.Share)
        sections = Sections(study, train=prepare.train, evaluate=prepare.evaluate)
        context = Context(
            study=study.digest,
            kind=sections.kind,
            round=prepare.round,
            attempt=prepare.attempt,
            model=prepare.model,
            roster=tuple((name, roster[name]) for name in study.sites),
            exact=sections.exact,
        )
        assert ready in collect.readys
        agreed = check_readys(context, collect.announced, least_sites=3)
        assert [one.site for one in agreed.participants] == list(study.sites)
        words = sum(len(bytes(chunk)) for chunk in frames[start + 3].body)
        opening = ShareSum(study.sites, sections.length, study.aggregation.word_bits)
        assert words == opening.size
        rounds += 1
    assert rounds == 3


def test_secure_aggregation_gives_the_same_bytes(golden: Golden) -> None:
    """Context, agreement and masks: a site that differs in one bit would spoil every sum."""
    told: dict[str, Any] = golden.json("aggregation.json")
    roster = tuple(sorted(told["roster"].items()))
    fields = (told["study"], told["kind"], told["round"], told["attempt"], told["model"], roster)
    context = Context(*fields)
    assert context.digest == told["context"]
    assert Context(*fields, exact=True).digest == told["exact_context"]
    assert roster_digest(roster) == told["roster_digest"]
    assert {n: fingerprint(bytes.fromhex(key)) for n, key in roster} == told["fingerprints"]
    readys = [SignedKey(**ready) for ready in told["readys"]]
    assert check_readys(context, readys, least_sites=3).context.hex() == told["agreed"]
    opening = ShareSum(sorted(told["roster"]), 20, 32)
    for ready in readys:
        secret = bytes.fromhex(told["one_time_secrets"][ready.site])
        party = Party(context, ready, X25519PrivateKey.from_private_bytes(secret))
        numbers = np.array(told["contributions"][ready.site]).astype(np.uint32)
        share = party.share(numbers, readys, 3).astype("<u4").tobytes()
        assert share.hex() == told["shares"][ready.site]
        opening.fold(ready.site, [share])
    assert opening.open().tolist() == told["sum"]
    assert told["sum"] == np.sum(list(told["contributions"].values()), axis=0).tolist()


def test_a_card_and_a_bundle_are_read(golden: Golden) -> None:
    card = EnrolmentCard.load(golden / "card.json")
    bundle = FederationBundle.load(golden / "bundle.json")
    assert (card.site, bundle.coordinator) == ("north", "127.0.0.1:9092")
    assert bundle.roster[card.site] == card.identity
    enrolled = Roster(golden / "coordinator/roster.json")
    assert bundle.roster == enrolled.identities()
    assert enrolled.sites()[card.site].node_key == card.node_key
    assert bundle.ca == (golden / "coordinator/pki/ca.crt").read_text()


@pytest.mark.parametrize(("release", "name"), everywhere("twins/card_bad_*.json"))
def test_a_card_with_one_thing_wrong_is_refused(release: str, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        EnrolmentCard.load(HERE / release / name)
    assert refused.value.code in (code_of(name, Code.USAGE), Code.NODE_KEY)


@pytest.mark.parametrize(("release", "name"), everywhere("twins/bundle_bad_*.json"))
def test_a_bundle_with_one_thing_wrong_is_refused(release: str, name: str) -> None:
    with pytest.raises(WardroundError) as refused:
        FederationBundle.load(HERE / release / name)
    assert refused.value.code in (code_of(name, Code.USAGE), Code.TLS)
