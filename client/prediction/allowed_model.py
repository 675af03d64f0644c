"""A released model that this site may use: its bundle, checked, and the rules for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.config.known_reviewers import counting
from client.config.prediction_rules import ModelRules
from client.config.site_config import SiteConfig
from client.config.site_decisions import SiteDecisions
from client.config.site_roster import SiteRoster
from protocol.errors import Code, WardroundError
from protocol.models.bundle import Bundle
from tasks.base import Task
from tasks.scoring import ScoringModel, installed, with_weights


@dataclass(frozen=True, eq=False)
class AllowedModel:
    """A bundle that the coordinator signed, a reviewer approved, and this site's policy allows."""

    bundle: Bundle
    rules: ModelRules
    notice: str
    """What every result says of its use."""
    scoring: ScoringModel

    @property
    def task(self) -> Task:
        return self.scoring.task

    @staticmethod
    def open(config: SiteConfig, path: Path, now: datetime) -> AllowedModel:
        """Raises WardroundError: CONFIGURATION where no signing key is pinned here, what
        `Bundle.read` and `tasks.scoring` raise, REFUSED_POLICY for a model that the policy does not
        list, that nobody whose key is pinned here has approved or that was withdrawn,
        OUTSIDE_HOURS, STATE where what is known of decisions cannot be read."""
        predict = config.policy.predict
        bundle = Bundle.read(path, pinned_key(config))
        rules = predict.models.get(bundle.digest)
        if rules is None:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The policy does not allow the model {bundle.name}.",
                remedy=f"To allow it, add {bundle.digest} to policy.predict.models in site.yaml.",
                rule="predict.models",
            )
        _check_decisions(config, bundle, unapproved=rules.unapproved)
        local = config.policy.local(now)
        if predict.hours and not any(window.contains(local) for window in predict.hours):
            raise WardroundError(
                Code.OUTSIDE_HOURS,
                "policy.predict.hours does not allow scoring at this time of day.",
                remedy="Try again later; to allow it, change policy.predict.hours.",
                rule="predict.hours",
            )
        study = bundle.study
        task = installed(study.task.name, study.task.options, study.task.version, study.task.source)
        if task.schema.images and not rules.modalities:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The policy does not say which pictures the model {bundle.name} may score.",
                remedy=f"Add modalities to policy.predict.models.{bundle.digest} in site.yaml.",
                rule="predict.models.modalities",
            )
        weights = bundle.weights_by_name
        seed, noted = study.optimisation.seed, study.model.frozen
        model = with_weights(task, seed, weights, bundle.frozen, noted)
        return AllowedModel(bundle, rules, predict.notice, ScoringModel(task, model))


def _check_decisions(config: SiteConfig, bundle: Bundle, *, unapproved: bool) -> None:
    """What was decided last, of what came with the bundle and what the coordinator has told since.
    unapproved: whether the hospital uses it without an approval; never against a withdrawal."""
    told = (SiteDecisions(config).now().last(bundle.digest), bundle.approval)
    known = [one for one in told if one is not None]
    last = max(known, key=lambda one: one.entry.number, default=None)
    if last is not None and last.decision.verdict != "approved":
        raise WardroundError(
            Code.REFUSED_POLICY,
            f"{last.decision.reviewer} has {last.decision.verdict} the model {bundle.name}.",
            remedy="Use another version. The reviewers know why: `wardround review list`.",
            rule="predict.models",
        )
    if unapproved:
        return
    why = "nobody had decided about it when it was exported"
    if last is not None:
        why = last.objection(bundle.digest, counting(config))
    if why:
        raise WardroundError(
            Code.REFUSED_POLICY,
            f"The model {bundle.name} is not approved: {why}.",
            remedy="Ask for an approved one, and where a reviewer is new, join with a new bundle; "
            "or, to use it all the same, set unapproved: true for it in policy.predict.models.",
            rule="predict.models.unapproved",
        )


def pinned_key(config: SiteConfig) -> bytes:
    """The coordinator's public signing key, as `wardround-site join` wrote it."""
    if (key := SiteRoster(config).signer) is None:
        raise WardroundError(
            Code.CONFIGURATION,
            "This site has no signing key of its coordinator, to check a model with.",
            remedy="Ask the coordinator's operator for a bundle, and run `wardround-site join`.",
        )
    return key
