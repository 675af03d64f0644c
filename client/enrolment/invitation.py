"""Follows an invitation: makes this site, and brings its card to the coordinator.

The invitation is believed as far as this: its coordinator is asked for the roster. What comes back
is compared by telephone before anything is joined, as with a bundle that came by mail.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from client.config.site_config import SiteConfig
from client.enrolment import new_site
from client.enrolment.join import FederationBundle
from client.enrolment.site_template import PictureSources, SiteAnswers
from client.transport.http_connection import HttpConnection, tls
from client.transport.route import Route
from protocol.document import read_object
from protocol.errors import Code, WardroundError
from protocol.wire.enrolment import CARD_PATH, EnrolmentAnswer, Invitation, ProposedRules

_LIMIT = 1 << 20
_SECONDS = 30.0


def founded(
    folder: Path,
    invitation: Invitation,
    data: Mapping[str, Path | None],
    pictures: PictureSources,
    rules: ProposedRules,
) -> SiteConfig:
    """The site in `folder`; where there is none it is made, with these rules, data and pictures. A
    proposed task without data is left out.

    Raises WardroundError: as `new_site.init`; IDENTITY where another site is there.
    """
    path = folder / new_site.SITE_YAML
    if not path.exists():
        answers = SiteAnswers(
            site=invitation.site,
            coordinator=invitation.coordinator,
            data=data,
            pictures=pictures,
            tasks=tuple(task for task in rules.tasks if task in data),
            purposes=rules.purposes,
            modes=rules.modes,
            delta=rules.delta,
            epsilon_per_study=rules.epsilon_per_study,
            epsilon_lifetime=rules.epsilon_lifetime,
            epsilon_broken=rules.epsilon_broken,
        )
        return new_site.init(folder, answers)
    config = SiteConfig.load(path)
    if config.site != invitation.site:
        raise WardroundError(
            Code.IDENTITY,
            f"{folder} is site {config.site}; the invitation is for {invitation.site}.",
            remedy="Name the folder of the invited site with --config.",
        )
    return config


def hand_in(config: SiteConfig, invitation: Invitation) -> EnrolmentAnswer:
    """Brings this site's card to the coordinator, once more where it has it already.

    Raises WardroundError: UNREACHABLE, TLS, MESSAGE; CREDENTIALS for an invitation that counts no
    more; IDENTITY where it was used for another card.
    """
    card = new_site.card(config).model_dump_json().encode()
    headers = {
        "authorization": f"Bearer {invitation.token}",
        "content-type": "application/json",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(invitation.ca)
        authority.flush()
        trusted = tls(Path(authority.name), config.coordinator.private_ca)
    connection = HttpConnection(Route.from_here(invitation.coordinator, config.proxy), trusted)
    try:
        answer = connection.call(CARD_PATH, card, headers, _SECONDS, _LIMIT)
    finally:
        connection.close()
    if answer.status == 401:
        raise WardroundError(
            Code.CREDENTIALS,
            "The coordinator does not take this invitation.",
            remedy="It was withdrawn: ask the coordinator's operator for a new one.",
        )
    if answer.status == 409:
        raise WardroundError(
            Code.IDENTITY,
            f"The coordinator has another card for {invitation.site}: somebody else used this "
            "invitation, or this site's keys were made anew.",
            remedy="Call the coordinator's operator, who withdraws it and makes a new one.",
        )
    try:
        return EnrolmentAnswer.model_validate(
            read_object(answer.body) if answer.status == 200 else None, strict=False
        )
    except ValidationError:
        raise WardroundError(
            Code.MESSAGE,
            f"What {invitation.coordinator} answered is not a coordinator's answer.",
            remedy="Check the address, and that both sides run the same release.",
        ) from None


def bundle_of(answer: EnrolmentAnswer, invitation: Invitation) -> FederationBundle:
    """The bundle of a complete roster. Raises WardroundError: MESSAGE where it is none, IDENTITY
    where it has another address or CA than the invitation."""
    try:
        bundle = FederationBundle.model_validate(answer.bundle)
    except ValidationError:
        raise WardroundError(Code.MESSAGE, "The coordinator's bundle is malformed.") from None
    if (bundle.coordinator, bundle.ca) != (invitation.coordinator, invitation.ca):
        raise WardroundError(
            Code.IDENTITY,
            "The coordinator's bundle has another address or CA than the invitation.",
            remedy="Call the coordinator's operator, and ask for a new invitation.",
        )
    return bundle
