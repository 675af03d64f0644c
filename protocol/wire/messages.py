"""The messages between coordinator and site, and the frame that carries each of them.

A conversation about a study: Propose -> Standing, until every site has accepted; then for each
attempt Prepare -> Ready and Collect -> Share; at the end Close -> Standing. Instead of any answer
a site may send a Refusal, which holds a code and nothing else.
A frame is a small canonical JSON header and one flat vector, in chunks (or none).

A header also states its sender's release and protocol (0.1.0 states neither). Fields that have
their default are left out, so that an older release understands a newer one which does not use its
new fields. An unknown field is refused, naming it and the sender's release; only `annotations` may
hold anything, and nobody reads it. A site answers in the protocol of the request.

A Collect goes to every site and names every site. What its Readys have in common is written once,
in the header with the sites' names; keys and signatures are the body, 96 bytes a site (`_compact`).
0.1.0 wrote each Ready in full, which is still read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import FailFast, Field, StringConstraints, TypeAdapter, ValidationError

from protocol.document import (
    ANNOTATIONS,
    Document,
    added_field,
    canonical,
    digest,
    first_fault,
    read_object,
)
from protocol.errors import Code, WardroundError
from protocol.release import (
    OLDEST_PROTOCOL,
    PROTOCOL,
    RELEASE,
    THIS_RELEASE,
    Sender,
    cannot_work_together,
    unknown_field,
)
from protocol.secagg.context import SignedKey
from protocol.study.exact_analysis import MAX_ITERATES, MAX_SITES
from protocol.study.study import MOST_SITES, Digest, Name

Buffer = bytes | bytearray | memoryview
HEADER_LIMIT = 1024 * 1024
"""Bytes: a Collect for 1,000 sites stays below it."""
CHUNK = 1 << 20
"""Bytes of the vector in one chunk."""

_KEY = 32
_KEYS = _KEY + 64
"""Bytes of one site's one-time key, and of it and its signature."""
LATEST_LOST = 1000
"""Lost attempts that a Prepare names at most."""

Round = Annotated[int, Field(ge=1, le=100_001)]
Attempt = Annotated[int, Field(ge=1, le=200_000)]
Rule = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]


@dataclass(frozen=True)
class Frame:
    """What a transport carries: opaque header and body bytes."""

    header: bytes
    body: Sequence[Buffer] = ()

    @property
    def size(self) -> int:
        """Bytes on the wire, transport overhead not counted."""
        return len(self.header) + sum(len(memoryview(chunk).cast("B")) for chunk in self.body)


Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class Announced(Document):
    """A `SignedKey`, as one site's Ready had it."""

    site: Name
    context: Digest
    public_key: Digest
    signature: Signature

    @property
    def key(self) -> SignedKey:
        return SignedKey(self.site, self.context, self.public_key, self.signature)


class Propose(Document):
    """Coordinator -> site: here is a study; will you take part?

    `roster` is `roster_digest` of the keys that the coordinator has, so that a difference is found
    before anything is spent; a false one is found in the contexts.
    `dry`: a dry run, which the site answers as if it were real, and does not record.
    """

    type: Literal["propose"] = "propose"
    document: Annotated[str, StringConstraints(max_length=HEADER_LIMIT // 2)]
    roster: Digest | None = None
    dry: bool = False


AcceptedBy = Literal["", "hand", "rule"]
"""A person's decision or the site's rules; "" where it is not said."""


class Standing(Document):
    """Site -> coordinator: the state of the study here. When refused, `code` says why, and `rules`
    names the keys of the site's policy that forbid it; no data can change either. `unconfirmed`:
    sites of the study whose keys its operator has not confirmed, with which it adds nothing up.
    `answered`: the last attempt that the site has answered, for a coordinator that was put back
    from a backup. `accepted_by`: whether a person there or its rules accepted the study."""

    type: Literal["standing"] = "standing"
    study: Digest
    state: Literal["accepted", "waiting", "refused", "closed"]
    code: Code | None = Field(default=None, strict=False)
    rules: Annotated[tuple[Rule, ...], Field(max_length=40, strict=False)] = ()
    answered: int = added_field(0, ge=0, le=10**9)
    unconfirmed: tuple[Name, ...] = added_field((), max_length=1000, strict=False)
    accepted_by: AcceptedBy = added_field("")


class _AttemptMessage(Document):
    """The attempt that a message belongs to."""

    study: Digest
    round: Round
    attempt: Attempt


class Opened(Document):
    """One sum of an exact analysis: what all sites announced, by name, and each one's signature of
    its share."""

    round: Round
    attempt: Attempt
    readys: Annotated[tuple[Announced, ...], Field(max_length=MAX_SITES, strict=False)]
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SITES, strict=False)]


class Prepare(_AttemptMessage):
    """Coordinator -> site, with the model as float32 body: compute, debit, make a one-time key.

    `model` is the SHA-256 of the body, which with SCAFFOLD is [weights | server's control variate]
    where it trains. `train` and `evaluate` say which sections the sum has. `lost`: the latest
    attempts that gave no sum, for sites whose state advances with opened attempts only. `opened`:
    in an exact analysis the sums of all rounds before; the body is then their shares, words of 64
    bits, round by round and site by site.
    """

    type: Literal["prepare"] = "prepare"
    train: bool
    evaluate: bool
    model: Digest
    lost: Annotated[tuple[Attempt, ...], Field(max_length=LATEST_LOST, strict=False)] = ()
    opened: tuple[Opened, ...] = added_field((), max_length=MAX_ITERATES + 1, strict=False)


class Ready(_AttemptMessage):
    """Site -> coordinator: contribution computed and paid for; this is my one-time key."""

    type: Literal["ready"] = "ready"
    site: Name
    context: Digest
    public_key: Digest
    signature: Signature

    @property
    def announced(self) -> SignedKey:
        """As secure aggregation signs and checks it."""
        return SignedKey(self.site, self.context, self.public_key, self.signature)


class Collect(_AttemptMessage):
    """Coordinator -> site: these take part; send your masked share."""

    type: Literal["collect"] = "collect"
    readys: Annotated[tuple[Ready, ...], Field(max_length=MOST_SITES, strict=False), FailFast()]

    @cached_property
    def announced(self) -> tuple[SignedKey, ...]:
        """The Readys as secure aggregation signs and checks them."""
        return tuple(ready.announced for ready in self.readys)


class Share(_AttemptMessage):
    """Site -> coordinator, with the masked words as body. `signature`: in an exact analysis, whose
    shares the other sites see (`protocol.exact.transcript`)."""

    type: Literal["share"] = "share"
    signature: str = added_field("", pattern=r"^([0-9a-f]{128})?$")


Ending = Literal["finished", "failed", "cancelled", "paused"]


class Close(Document):
    """Coordinator -> site: the study has ended, or rests: one that failed or was paused may be
    proposed again, and goes on."""

    type: Literal["close"] = "close"
    study: Digest
    outcome: Ending


class Refusal(Document):
    """Site -> coordinator, instead of an answer: a code, no text (invariant 1)."""

    type: Literal["refusal"] = "refusal"
    study: Digest | None
    code: Code = Field(strict=False)


Request = Propose | Prepare | Collect | Close
Answer = Standing | Ready | Share | Refusal
Message = Annotated[Request | Answer, Field(discriminator="type")]
_ADAPTER: TypeAdapter[Request | Answer] = TypeAdapter(Message)


def frame(
    message: Request | Answer, body: Sequence[Buffer] = (), *, to: Sender = THIS_RELEASE
) -> Frame:
    """Message and vector -> frame. `to`: who asked, where this is an answer."""
    if to.protocol == 1:
        return Frame(canonical(_in_first_protocol(message)), body)
    header = {"type": message.type, "release": RELEASE, "protocol": PROTOCOL}
    if isinstance(message, Collect) and (compact := _compact(message)) is not None:
        fields, keys = compact
        return Frame(canonical(header | fields), [keys])
    return Frame(canonical(header | message.model_dump(mode="json", exclude_defaults=True)), body)


def _compact(message: Collect) -> tuple[dict[str, Any], bytes] | None:
    """Header fields, and for each site in their order its one-time key (32 bytes) and signature
    (64 bytes); None for Readys that are not all of this attempt and one context."""
    place = message.model_dump(mode="json", exclude={"readys", "type"})
    contexts = {ready.context for ready in message.readys}
    if len(contexts) != 1 or any(
        (ready.study, ready.round, ready.attempt) != (message.study, message.round, message.attempt)
        for ready in message.readys
    ):
        return None
    place["context"] = contexts.pop()
    place["sites"] = [ready.site for ready in message.readys]
    keys = (bytes.fromhex(ready.public_key + ready.signature) for ready in message.readys)
    return place, b"".join(keys)


def _expanded(fields: dict[str, Any], keys: bytes) -> dict[str, Any]:
    """`_compact` taken back. Raises WardroundError(MESSAGE) where names and keys do not fit."""
    sites, context = fields.pop("sites"), fields.pop("context", None)
    if not isinstance(sites, list) or len(keys) != len(sites) * _KEYS or "readys" in fields:
        raise WardroundError(Code.MESSAGE, "A Collect's names and keys do not fit together.")
    place = {name: fields.get(name) for name in ("study", "round", "attempt")}
    starts = range(0, len(keys), _KEYS)
    parts = (keys[start : start + _KEYS] for start in starts)
    readys = [
        place
        | {
            "type": "ready",
            "site": site,
            "context": context,
            "public_key": part[:_KEY].hex(),
            "signature": part[_KEY:].hex(),
        }
        for site, part in zip(sites, parts, strict=True)
    ]
    return fields | {"readys": readys}


_COMPACT = b'"type":"collect"'
"""In the header of a Collect, as every release writes it."""
_LATER_STANDING = frozenset({"answered", "unconfirmed", "accepted_by"})
"""What 0.1.0 knows nothing of."""


def _in_first_protocol(message: Request | Answer) -> dict[str, Any]:
    """As 0.1.0 wrote it: with defaults, without a release, a field or a code that it does not
    know."""
    header: dict[str, Any] = message.model_dump(mode="json")
    if isinstance(message, Standing):
        header = {key: header[key] for key in header.keys() - _LATER_STANDING}
    if header.get("code") in (Code.RELEASE, Code.TASK_CHANGED):
        header["code"] = Code.REFUSED_STUDY.value
    return header


def parse(received: Frame) -> Request | Answer:
    """Frame -> message.

    Raises WardroundError, quoting nothing of the content but the name of a field: MESSAGE where it
    is malformed, RELEASE for another release's protocol or field.
    """
    header = _header(received)
    body = b""
    if _COMPACT in header and received.size - len(header) <= MOST_SITES * _KEYS:
        body = b"".join(map(bytes, received.body))
    return _parsed(header, body)


def study_of(message: Request | Answer) -> str | None:
    """The digest of the study that a message is about; None where it names none."""
    if isinstance(message, Propose):
        return digest(message.document.encode())
    return message.study


def sender(received: Frame) -> Sender:
    """Who sent a frame, by its header; this release where the header cannot be read."""
    try:
        return _sent_by(_header(received))
    except WardroundError:
        return THIS_RELEASE


@lru_cache(maxsize=4)
def _sent_by(header: bytes) -> Sender:
    return _sender(_fields(header))


def _header(received: Frame) -> bytes:
    if len(received.header) > HEADER_LIMIT:
        raise WardroundError(Code.MESSAGE, "A message header is too long.")
    return bytes(received.header)


def _fields(header: bytes) -> dict[str, Any]:
    return read_object(header, "A message header")


def _sender(fields: dict[str, Any]) -> Sender:
    return Sender.parse(fields.pop("release", None), fields.pop("protocol", None))


@lru_cache(maxsize=4)
def _parsed(header: bytes, keys: bytes) -> Request | Answer:
    """Messages never change, and sites in one process get the same Collect one after the other."""
    fields = _fields(header)
    sent_by = _sender(fields)
    if not OLDEST_PROTOCOL <= sent_by.protocol <= PROTOCOL:
        raise cannot_work_together(
            sent_by, f"A message speaks protocol {sent_by.protocol}, which is not spoken here."
        )
    fields.pop(ANNOTATIONS, None)
    if fields.get("type") == "collect" and "sites" in fields:
        fields = _expanded(fields, keys)
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        field, _, is_unknown = first_fault(error)
        if is_unknown:
            raise unknown_field(field, "A message", sent_by) from None
        raise WardroundError(Code.MESSAGE, "A message header is malformed.") from None


def chunks(array: npt.NDArray[np.generic]) -> list[memoryview]:
    """A one-dimensional little-endian array as views of at most CHUNK bytes, nothing copied."""
    view = np.ascontiguousarray(array).view(np.uint8).data
    return [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)]


def gather(body: Iterable[Buffer], dtype: npt.DTypeLike, count: int) -> npt.NDArray[np.generic]:
    """Chunks -> (count,) array of `dtype`. Raises WardroundError(MESSAGE) on another length."""
    array = np.empty(count, dtype=dtype)
    target, start = array.view(np.uint8).data, 0
    for chunk in body:
        source = memoryview(chunk).cast("B")
        if start + len(source) > len(target):
            raise WardroundError(Code.MESSAGE, "A vector is longer than the study says.")
        target[start : start + len(source)] = source
        start += len(source)
    if start != len(target):
        raise WardroundError(Code.MESSAGE, "A vector is shorter than the study says.")
    return array
