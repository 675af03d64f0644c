"""How a hospital is enrolled: the invitation that it gets and the card that it answers with.

Two people compare a card's fingerprints by telephone: whoever could swap a key on the way could
read and change what hospitals send.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, StringConstraints, ValidationError

from protocol.document import Document, added_field, canonical, first_fault
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, fingerprint, verify
from protocol.release import unknown_field
from protocol.study.study import Digest, Name
from protocol.untrusted import parsing
from protocol.wire.roster import HANDOVER, Signature

_CARD_LIMIT = 16 * 1024
CARD = "wardround enrolment card"
"""Purpose of a card's signature."""
EXPIRY_DAYS = 60
"""Days before its end from which a certificate is warned of."""
_INVITATION_LIMIT = 256 * 1024
CARD_PATH = "/v1/enrolment/card"
"""Where an invited hospital posts its card, again and again, until the roster is complete."""


def expiry(days: float) -> str:
    """What to say of a coordinator's certificate with so many days left; empty where it is good."""
    if days > EXPIRY_DAYS:
        return ""
    when = f"expires in {days:.0f} days" if days > 0 else "has expired"
    return f"The coordinator's certificate {when}: its operator runs `wardround coordinator renew`."


def refused_file(error: ValidationError, path: Path, what: str, remedy: str) -> WardroundError:
    """USAGE naming the first invalid field of a file that should be `what`; RELEASE where a newer
    release wrote it."""
    field, fault, is_unknown = first_fault(error)
    if is_unknown:
        return unknown_field(field, str(path))
    message = f"{path} is not {what}: {field or 'the file'}: {fault}."
    return WardroundError(Code.USAGE, message, remedy=remedy)


class EnrolmentCard(Document):
    """A site's name and its two public keys, as `wardround-site enrol` prints them. A card with
    which keys are replaced is signed: by its identity, and this by the one before (`handover`)."""

    site: Name
    identity: Digest
    node_key: Annotated[str, StringConstraints(max_length=4096)]
    handover: Signature | None = added_field(None)
    signature: Signature | None = added_field(None)

    def signed(self, identity: Identity) -> EnrolmentCard:
        """The card under the signature of its own identity."""
        signature = identity.sign(CARD, self._content).hex()
        return self.model_copy(update={"signature": signature})

    def follows(self, identity: str) -> bool:
        """Whether the holder of an enrolled identity key (hex) asks for what the card says."""
        own = bytes.fromhex(self.identity)
        if self.signature is None or not verify(
            own, CARD, self._content, bytes.fromhex(self.signature)
        ):
            return False
        if self.identity == identity:
            return True
        handover = bytes.fromhex(self.handover or "")
        return verify(bytes.fromhex(identity), HANDOVER, own, handover)

    @property
    def _content(self) -> bytes:
        return canonical(self.model_dump(exclude={"signature"}))

    @staticmethod
    def load(path: Path) -> EnrolmentCard:
        """Raises WardroundError(USAGE), (RELEASE) where a newer release wrote it, or (NODE_KEY)
        where the key is not ECDSA P-384."""
        again = "Ask the site for the file that `wardround-site enrol` printed."
        try:
            with path.open("rb") as file:
                card = EnrolmentCard.model_validate_json(file.read(_CARD_LIMIT))
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"The card {path} cannot be read: {error.strerror}.", remedy=again
            ) from None
        except ValidationError as error:
            raise refused_file(error, path, "an enrolment card", again) from None
        card.check_node_key(str(path), again)
        return card

    def check_node_key(self, where: str, remedy: str) -> None:
        """Raises WardroundError(NODE_KEY) where the key is not ECDSA P-384."""
        problem = f"The node key in {where} is no ECDSA P-384 key in PEM."
        with parsing(problem, Code.NODE_KEY, remedy):
            key = load_pem_public_key(self.node_key.encode())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError
            if not isinstance(key.curve, ec.SECP384R1):
                raise ValueError

    @property
    def identity_fingerprint(self) -> str:
        """Of the identity key, to be compared by telephone."""
        return fingerprint(bytes.fromhex(self.identity))

    @property
    def node_fingerprint(self) -> str:
        """Of the node key, to be compared by telephone."""
        return fingerprint(self.node_key.strip().encode())


class ProposedRules(Document):
    """What a consortium proposes that a hospital's policy allows. It decides nothing: the hospital
    takes it over, or leaves it."""

    tasks: tuple[Name, ...] = Field(default=(), description="a list of tasks")
    purposes: tuple[Name, ...] = Field(default=(), description="a list of purposes")
    modes: tuple[Name, ...] = Field(default=(), description="a list of privacy modes")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="the delta of every epsilon")
    epsilon_per_study: float | None = Field(
        default=None, gt=0, description="the most epsilon of one study"
    )
    epsilon_lifetime: float | None = Field(
        default=None, gt=0, description="the most epsilon over all studies, for ever"
    )
    epsilon_broken: float | None = Field(
        default=None, gt=0, description="the most epsilon of a study if secure aggregation broke"
    )


class Invitation(Document):
    """The file for one hospital: who it is, the coordinator's address and CA (PEM), the token with
    which its card is handed in, and the rules that the consortium proposes."""

    site: Name
    coordinator: str
    ca: Annotated[str, StringConstraints(max_length=64 * 1024)]
    token: str = Field(repr=False, max_length=256)
    rules: ProposedRules

    @staticmethod
    def load(path: Path) -> Invitation | None:
        """Returns None for a file that is something else, such as a bundle.

        Raises WardroundError(USAGE) for a malformed invitation, (RELEASE) for one of a newer
        release."""
        again = "Ask the coordinator's operator for it again."
        try:
            with path.open("rb") as file:
                text = file.read(_INVITATION_LIMIT)
        except OSError as error:
            raise WardroundError(
                Code.USAGE, f"{path} cannot be read: {error.strerror}.", remedy=again
            ) from None
        if b'"token"' not in text:
            return None
        try:
            return Invitation.model_validate_json(text)
        except ValidationError as error:
            raise refused_file(error, path, "an invitation", again) from None


class EnrolmentAnswer(Document):
    """The coordinator's answer to a card. `missing`: hospitals that are invited and whose card its
    operator has not confirmed; `bundle`: what `wardround-site join` takes, once none is missing."""

    missing: tuple[Name, ...]
    bundle: dict[str, Any] | None
