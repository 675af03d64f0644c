"""Keeps the SuperLink's allow-list equal to the roster file, and logs which sites come and go."""

from __future__ import annotations

from protocol.errors import WardroundError
from server.coordinator.journal import Journal
from server.enrolment.roster import Roster, RosterEntry
from server.transport.superlink import SuperLink


class Members:
    """The sites that may connect and those that are connected; updated by one thread."""

    def __init__(self, link: SuperLink, roster: Roster, journal: Journal) -> None:
        self._link, self._roster, self._journal = link, roster, journal
        self._registered: dict[str, RosterEntry] = {}
        self._trouble, self._published = "", ""
        self._online: frozenset[str] = frozenset()

    def follow_roster(self) -> None:
        """Registers the sites that were enrolled and unregisters those that were expelled."""
        try:
            wanted, trouble = self._roster.sites(), ""
        except WardroundError as error:  # the roster that was read last stays in force
            wanted, trouble = self._registered, error.message
        if trouble != self._trouble:
            self._trouble = trouble
            self._journal.write("roster-unreadable" if trouble else "roster-readable")
        if not trouble and (history := self._roster.history()).version != self._published:
            self._link.publish(history)
            self._published = history.version
        for name, entry in list(self._registered.items()):
            if name not in wanted or wanted[name].node_key != entry.node_key:
                self._link.unregister(name)
                del self._registered[name]
                self._journal.write(
                    "site-rekeyed" if name in wanted else "site-expelled", site=name
                )
        for name, entry in wanted.items():
            if name not in self._registered:
                self._register(name, entry)
            self._registered[name] = entry

    def follow_connections(self) -> frozenset[str]:
        """Logs which sites came and went; returns those that are connected."""
        before, here = self._online, self._link.online()
        self._online = here
        for site in sorted(here - before):
            self._journal.write("site-online", site=site, online=len(here))
        for site in sorted(before - here):
            self._journal.write("site-offline", site=site, online=len(here))
        return here

    def _register(self, name: str, entry: RosterEntry) -> None:
        try:
            self._link.register(name, entry.node_key.encode())
        except WardroundError as error:
            self._journal.write("site-refused", site=name, code=error.code)
        else:
            self._journal.write("site-enrolled", site=name, patients=entry.patients)
