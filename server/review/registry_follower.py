"""Makes MLflow show the decisions of the signed record, and finds approvals that are not in it.

    approved    alias of the version that a reviewer approved last, of those that still are
    candidate   alias of a version that awaits a decision; it goes with one
    tags        the last entry of a version, its signature, and both in words

Whoever can write to MLflow can set the alias `approved` by hand. That approves nothing: everything
that uses approved models asks for the signed entry. It is left where it is, since a reviewer may
confirm it, and the version is tagged as not signed until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.document import digest
from protocol.models.decision import ENTRY, DecisionHistory, OpenedEntry
from protocol.models.record import RECORD
from protocol.terminal.printable import printable
from server.report.gates import AUDIT, TAG
from server.tracking.mlflow_run import CANDIDATE, client_of
from server.tracking.registered_model import APPROVED, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERDICT, UNSIGNED = "wardround.verdict", "wardround.unsigned_approval"
_NOT_SIGNED = "NOT APPROVED: the alias was set by hand, and no reviewer has signed it"
_OURS = "wardround."


@dataclass(frozen=True)
class UnsignedApproval:
    """A version that MLflow calls approved, and no reviewer does."""

    model: str
    version: str

    def __str__(self) -> str:
        return (
            f"MLflow calls {printable(self.model)} version {self.version} approved, and no "
            "reviewer has signed that: wardround review confirm, or take the alias away"
        )


def follow(uri: str, history: DecisionHistory) -> tuple[UnsignedApproval, ...]:
    """Writes to MLflow what it does not show yet, and returns what it shows wrongly.

    Raises what MLflow's client raises where the server is away or refuses.
    """
    client = client_of(uri)
    last = _last(history)
    for model in _models(client):
        decided = {version: of for (name, version), of in last.items() if name == model.name}
        aliases = dict(model.aliases)
        for version, one in sorted(decided.items(), key=lambda item: item[1].entry.number):
            _show(client, str(version), one, decided, aliases)
    found = tuple(
        UnsignedApproval(model.name, str(model.aliases[APPROVED]))
        for model in _models(client)
        if APPROVED in model.aliases
        and not _is_signed(client, last, model.name, str(model.aliases[APPROVED]))
    )
    _flag(client, found)
    return found


def _last(history: DecisionHistory) -> dict[tuple[str, str], OpenedEntry]:
    """Model and version -> what was decided last."""
    return {(one.decision.model, one.decision.version): one for one in history.entries}


def _models(client: MlflowClient) -> list[Any]:
    """All registered models, with their aliases."""
    found, token = list[Any](), None
    while True:
        page = client.search_registered_models(max_results=500, page_token=token)
        found += page
        if not (token := page.token):
            return found


def _show(
    client: MlflowClient,
    version: str,
    one: OpenedEntry,
    decided: Mapping[str, OpenedEntry],
    aliases: dict[str, Any],
) -> None:
    """Aliases before tags: what was interrupted is done again."""
    said = one.decision
    tags = tags_of(client, said.model, version)
    if tags is None or tags.get(ENTRY) == one.signed.text:
        return
    if said.verdict == "approved":
        client.set_registered_model_alias(said.model, APPROVED, version)
        aliases[APPROVED] = version
    elif str(aliases.get(APPROVED)) == version:
        standing = [of for of in decided.values() if of.decision.verdict == "approved"]
        if standing:
            former = max(standing, key=lambda of: of.entry.number).decision.version
            client.set_registered_model_alias(said.model, APPROVED, former)
        else:
            client.delete_registered_model_alias(said.model, APPROVED)
        aliases.pop(APPROVED)
    if str(aliases.get(CANDIDATE)) == version:
        client.delete_registered_model_alias(said.model, CANDIDATE)
        aliases.pop(CANDIDATE)
    words = f"{said.verdict} by {said.reviewer} on {said.time[:10]}: {printable(said.reason)}"
    shown = one.signed.tags | {VERDICT: words}
    if said.audit:
        shown[f"{TAG}{AUDIT}"] = f"passed: {said.reviewer} signed for the report {said.audit}"
    for key, value in shown.items():
        client.set_model_version_tag(said.model, version, key, value)


def _is_signed(
    client: MlflowClient, last: Mapping[tuple[str, str], OpenedEntry], model: str, version: str
) -> bool:
    """Whether the record approves this version; True for a model that is not wardround's."""
    tags = tags_of(client, model, version)
    if tags is None or not any(name.startswith(_OURS) for name in tags):
        return True
    one = last.get((model, version))
    return (
        one is not None
        and one.decision.verdict == "approved"
        and one.decision.record == digest(tags.get(RECORD, "").encode())
    )


def _flag(client: MlflowClient, found: tuple[UnsignedApproval, ...]) -> None:
    """Tags these versions, and no others."""
    flagged = {
        UnsignedApproval(one.name, str(one.version))
        for one in client.search_model_versions(f"tags.`{UNSIGNED}` = '{_NOT_SIGNED}'")
    }
    for one in set(found) - flagged:
        client.set_model_version_tag(one.model, one.version, UNSIGNED, _NOT_SIGNED)
    for one in flagged - set(found):
        client.delete_model_version_tag(one.model, one.version, UNSIGNED)
