"""The site behind a daemon, made when a study first asks it something.

A daemon waits for weeks between studies. Until the first question it holds neither PyTorch nor
DuckDB, which take several times the memory of everything else together; from then on it keeps them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from client.config.resource_limits import lift_memory_limit, limit_memory
from client.config.site_config import SiteConfig
from client.daemon.answers.stored_answers import StoredAnswers
from client.enrolment.rotation import successor
from client.governance.governance import SiteGovernance
from client.log_events import event
from client.training.algorithm_state import algorithm_state_in
from protocol.identity import Identity
from protocol.study.study import Study
from protocol.wire.messages import Frame

if TYPE_CHECKING:
    from client.daemon.site import Site
    from client.data.cohort import Cohort


class LazySite:
    """Answers as `Site` does."""

    def __init__(
        self,
        config: SiteConfig,
        identity: Identity,
        governance: SiteGovernance,
        answers: StoredAnswers,
        give_way: Callable[[], None],
    ) -> None:
        """give_way: called between two steps of what a study computes."""
        self._config, self._identity = config, identity
        self._governance, self._answers, self._give_way = governance, answers, give_way
        self._site: Site | None = None
        self._making = threading.Lock()

    def answer(self, received: Frame) -> Frame:
        """As `Site.answer`. Raises WardroundError(CONFIGURATION) where the numerical libraries do
        not fit into policy.memory."""
        site = self._made()
        import torch

        torch.set_num_threads(self._config.policy.threads)  # of this thread
        return site.answer(received)

    def reopen(self, study: Study) -> None:
        """As `Site.reopen`. Raises what `answer` raises."""
        self._made().reopen(study)

    def _made(self) -> Site:
        with self._making:
            if self._site is None:
                lift_memory_limit()
                self._site = self._make()
                limit_memory(self._config.policy)
            return self._site

    def _make(self) -> Site:
        import torch

        from client.cohorts.loading import loader, who_objects
        from client.daemon.answers.thread_shares import ThreadShares
        from client.daemon.site import Site
        from client.prediction.watched import answering
        from client.training.devices.choice import candidates

        config, governance = self._config, self._governance
        torch.set_num_threads(config.policy.threads)
        return Site(
            config.site,
            self._identity,
            governance.roster,
            governance,
            loader(config, governance.state.split.place, _log_cohort, governance.confirm_names),
            respondent=partial(answering, config),
            keep=lambda study: algorithm_state_in(
                config.state, study.digest, study.model.parameters
            ),
            answers=self._answers,
            allow_unmasked=config.policy.unmasked,
            devices=candidates(config.policy),
            successor=partial(successor, config),
            objections=partial(who_objects, config),
            threads=ThreadShares(config.policy).share,
            give_way=self._give_way,
        )


def _log_cohort(study: Study, cohort: Cohort) -> None:
    event("cohort loaded", study=study.digest, task=study.task.name)
    for note in cohort.notes:
        event("cohort", logging.WARNING, study=study.digest, note=note)
