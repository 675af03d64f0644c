"""/healthz and /metrics of a coordinator: sites, studies, certificate, and what fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from protocol.operations.monitoring import Monitoring, Sample, resident_bytes
from protocol.release import RELEASE
from server.coordinator.service import Coordinator
from server.coordinator.study_events import ENDS

_STATES = ("running", *sorted(ENDS))


class CoordinatorMetrics(Monitoring):
    """A coordinator's monitoring server, up inside `with`. Raises WardroundError(PORT_TAKEN)."""

    def __init__(self, port: int, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        super().__init__(port, self._state, self._figures)

    def _state(self) -> tuple[bool, dict[str, object]]:
        """Well while nothing that it does fails (`wardround coordinator status` says what)."""
        failing = self._coordinator.failing()
        online = len(self._coordinator.link.online())
        body = {"failing": sorted(failing), "online": online, "version": RELEASE}
        return not failing, body | {"attention": self._coordinator.attention()}

    def _figures(self) -> Iterator[Sample]:
        coordinator = self._coordinator

        def gauge(name: str, meaning: str, value: float, **labels: str) -> Sample:
            return Sample(f"wardround_coordinator_{name}", "gauge", meaning, value, labels)

        yield gauge("info", "Which coordinator this is.", 1, version=RELEASE)
        enrolled = len(coordinator.roster.sites())
        yield gauge("sites_enrolled", "Hospitals on the roster.", enrolled)
        yield gauge("sites_online", "Hospitals that are connected.", len(coordinator.link.online()))
        studies = coordinator.studies()
        states = Counter(str(study.state) for study in studies)
        for state in sorted({*states, *_STATES}):
            yield gauge("studies", "Studies, by their state.", states[state], state=state)
        paused = sum(bool(study.paused) for study in studies)
        yield gauge("studies_paused", "Studies for which the disk takes no writes.", paused)
        failing = len(coordinator.failing())
        yield gauge("failing", "Things that it cannot do now.", failing)
        days = coordinator.config.pki.days_left()
        yield gauge("certificate_days", "Days until its certificate expires.", round(days, 2))
        yield gauge("resident_bytes", "Memory of the coordinator.", resident_bytes())
