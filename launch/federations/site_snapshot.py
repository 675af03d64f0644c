"""A simulated site between two messages, as bytes: so that any worker may answer the next one.

Patients, model, keys and study, which every worker has, are pickled as references. The site's own
state is copied: the studies it accepted, the current attempt with its words and one-time key,
replay counters, and the state of its algorithm. Only simulations do this; a hospital's one-time
keys and algorithm state never leave its memory or disk.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.config.known_roster import KnownRoster
from client.daemon.site import Site
from client.data.cohort import Cohort
from client.training.algorithm_state import AlgorithmState
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from launch.federations.inprocess import SimulatedGovernance
from protocol.identity import Identity
from protocol.secagg.context import Context
from protocol.study.study import Study
from tasks.base import Task

_LOCK = type(threading.Lock())


class WorkerContext:
    """Everything that a worker needs to simulate the sites of one study."""

    def __init__(
        self,
        study: Study,
        task: Task,
        identities: Mapping[str, Identity],
        cohort: Callable[[str], Cohort],
    ) -> None:
        """cohort: loads one site's patients; called once a site."""
        self.study, self._task, self._identities = study, task, identities
        self._cohort, self._patients = cohort, dict[str, Patients]()
        self.roster = {name: key.public_key.hex() for name, key in identities.items()}
        self.known = KnownRoster(self.roster)

    @cached_property
    def learner(self) -> DPTrainer:
        """One warm model for all sites of this worker."""
        return DPTrainer(self._task, self.study.optimisation.seed)

    def patients(self, site: str) -> Patients:
        if site not in self._patients:
            self._patients[site] = Patients.of(self._task, self._cohort(site))
        return self._patients[site]

    def site(self, name: str) -> Site:
        """A site that has received no message yet."""
        return Site(
            name,
            self._identities[name],
            self.known,
            SimulatedGovernance(),
            self.load(name),
            keep=new_kept,
            allow_unmasked=True,
        )

    def load(self, name: str) -> Callable[[Task, Study], Cohort]:
        return lambda task, study: self._cohort(name)

    # --- to bytes and back ---
    def freeze(self, site: Site) -> bytes:
        """The site's own state, with references to what every worker has."""
        buffer = io.BytesIO()
        _SitePickler(buffer, site).dump(site)
        return buffer.getvalue()

    def thaw(self, name: str, frozen: bytes) -> Site:
        """The site that a worker of the same study pickled with `freeze`."""
        site: Site = _SiteUnpickler(io.BytesIO(frozen), self, name).load()
        return site

    def named(self, what: str, site: str) -> Any:
        """The object of this worker that a reference stands for."""
        match what:
            case "study":
                return self.study
            case "learner":
                return self.learner
            case "patients":
                return self.patients(site)
            case "identity":
                return self._identities[site]
            case "roster":
                return self.known
            case "load":
                return self.load(site)
            case "keep":
                return new_kept
        raise pickle.UnpicklingError(f"nothing is called {what} here")


def new_kept(study: Study) -> AlgorithmState:
    """A site's algorithm state in memory; it is pickled with the site."""
    return AlgorithmState()


class _SitePickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, site: Site) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._types: dict[type, str] = {
            Study: "study",
            DPTrainer: "learner",
            Patients: "patients",
            Identity: "identity",
        }
        self._same = {id(site._roster): "roster", id(site._keep): "keep", id(site._cohort): "load"}

    def persistent_id(self, obj: Any) -> str | None:
        return self._types.get(type(obj)) or self._same.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Contributor):
            return Contributor, (obj.context, obj.state)
        if isinstance(obj, Context):  # without its cached properties
            return Context, tuple(getattr(obj, field.name) for field in dataclasses.fields(obj))
        if isinstance(obj, X25519PrivateKey):
            return X25519PrivateKey.from_private_bytes, (obj.private_bytes_raw(),)
        if isinstance(obj, _LOCK):
            return threading.Lock, ()
        if isinstance(obj, WeakValueDictionary):  # whose turn it is, in this process
            return WeakValueDictionary, ()
        return NotImplemented


class _SiteUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, station: WorkerContext, site: str) -> None:
        super().__init__(file)
        self._station, self._site = station, site

    def persistent_load(self, pid: Any) -> Any:
        return self._station.named(str(pid), self._site)
