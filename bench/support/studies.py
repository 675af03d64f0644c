"""Studies on a deployment, one after another, and the weights that they release.

In mode none they are the same to the bit whenever a study is run, whatever happened meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from launch.config.compose import load, plain
from launch.studies.study_builder import build_study
from protocol.errors import Code, WardroundError
from support.deployment import Deployment

_AWAY = frozenset({Code.UNREACHABLE, Code.TRACKING, Code.STATE})
"""What a data scientist is told who should try again later."""


class Studies:
    """Those of one deployment. Nobody resumes one that fails."""

    def __init__(self, deployment: Deployment, *words: str) -> None:
        """words: the configuration of all of them."""
        self._deployment, self._patients = deployment, deployment.remote.patients()
        self._words = (f"task.name={deployment.task.name}", "federation=deployment", *words)
        self.made, self.attempts_lost = 0, 0
        self.unfinished: list[str] = []
        """What became of those that did not finish."""

    def run(
        self,
        title: str,
        *words: str,
        told: Callable[[Mapping[str, Any]], object] = lambda event: None,
    ) -> str | None:
        """Follows a study to its end, and submits it again where nobody took it. The digest of its
        weights; None where it did not finish. told: gets each of its events."""
        remote, self.made = self._deployment.remote, self.made + 1
        config = load([*self._words, f"title={title}", *words])
        study, last = build_study(config, self._deployment.task, self._patients), ""
        while True:
            try:
                remote.submit(study, plain(config))
                for event in remote.events(study.digest):
                    told(event)
                    last = event["type"]
                    self.attempts_lost += last == "lost"
                if last == "finished":
                    return hashlib.sha256(remote.weights(study.digest).tobytes()).hexdigest()
                self.unfinished.append(f"{title}: {event}")
                return None
            except WardroundError as error:
                if error.code not in _AWAY:
                    self.unfinished.append(f"{title}: {error.code}: {error.message}")
                    return None
            time.sleep(1)
