"""site.yaml: the site's identity, coordinator, roster, data sources and policy.

Paths are relative to the file. Every error names the key and what to do about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr
from pydantic import model_validator as validator

from client.config.imaging_config import Imaging
from client.config.policy import Policy
from client.config.proxy_settings import ProxySettings
from client.data import templates
from client.data.sources.settings import Sources
from protocol.address import RemoteAddress
from protocol.document import Document, canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from protocol.study.study import Digest, Name
from protocol.yaml.documents import contradiction, read_yaml, validate
from protocol.yaml.values import LocalPath

TimeZone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+\-/]{1,64}$")]


class CoordinatorAddress(Document):
    """Where the coordinator listens, and the CA certificate that it must be signed by."""

    address: RemoteAddress = Field(description="host:port, such as coordinator.example.org:9092")
    root_certificate: LocalPath = Field(description="the path of a PEM file")
    private_ca: LocalPath | None = Field(
        default=None,
        description="the path of a PEM file with a CA of this network, trusted beside the "
        "coordinator's own: whoever holds that CA's key can pose as the coordinator to this site",
    )


INIT = "Name the file or its folder with --config, or make one with `wardround-site init FOLDER`."
"""What to do without a site.yaml."""
NAMING = 2
"""Raised by a release that names patients otherwise (a shipped view, `pseudonym`, how a name is
read): what a site has spent until then is charged to every patient."""


class View(Sources):
    """What may be read, and the SQL that selects from it."""

    view: str = Field(
        min_length=1,
        description="SQL text, the path of a .sql file, or template:omop, :fhir, :csv or :dicom",
    )

    @property
    def sql(self) -> str:
        """The view's SQL. Raises WardroundError(CONFIGURATION) where its file is unreadable."""
        if not self.view.rstrip().endswith(".sql") or "\n" in self.view.strip():
            return self.view
        try:
            return Path(self.view.strip()).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise WardroundError(
                Code.CONFIGURATION,
                f"The view {self.view.strip()} cannot be read.",
                remedy="Correct data.<task>.view in site.yaml.",
            ) from None

    @property
    def content(self) -> dict[str, Any]:
        """What decides by which names the view's patients go. Raises WardroundError(CONFIGURATION)
        where one of its files is unreadable."""
        own = {"view", "names", "value_sets", "ancestors", "minutes"}
        sources = self.model_dump(mode="json", exclude=own)
        if self.fhir is not None:  # by what they say: shipped ones lie wherever wardround does
            sources["fhir"]["views"] = [digest(text) for text in _texts(self.fhir.views)]
        return {"naming": NAMING, "sources": sources, "sql": self.sql}


class Source(View):
    """One task's data: what may be read, and the SQL view that selects the task's cohort."""

    names: str | None = Field(
        default=None, description="the column of `patients` that has this view's patients"
    )

    @validator(mode="after")
    def _readable(self) -> Self:
        kind = self.view.strip()
        for name, key in (("omop", "omop"), ("fhir", "fhir"), ("csv", "files")):
            if kind == templates.PREFIX + name and not getattr(self, key):
                raise contradiction(f"view: {kind} without {key}", f"Add {key} beside it")
        return self


class Objections(Document):
    """Identifiers of patients who object: in a file, or selected by a query."""

    file: LocalPath | None = Field(
        default=None, description="the path of a text file with one identifier a line"
    )
    query: View | None = Field(
        default=None, description="sources, and a view with the column patient"
    )
    names: str | None = Field(
        default=None, description="the column of `patients` that has these identifiers"
    )

    @validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.query is None):
            raise contradiction("neither file nor query, or both", "Give one of them")
        return self

    def absolute(self, base: Path) -> Objections:
        """With every path below `base`."""
        query = self.query and self.query.model_copy(update=_below(self.query, "query", base))
        file = self.file and base / self.file
        return self.model_copy(update={"file": file, "query": query})


class SiteConfig(Document):
    """The content of site.yaml, with every path absolute."""

    site: Name = Field(description="this site's name, lower case, as in every roster")
    identity: LocalPath = Field(description="the path of the Ed25519 key that `init` made")
    node_key: LocalPath = Field(description="the path of the key that signs in to the coordinator")
    coordinator: CoordinatorAddress = Field(
        description="a mapping with address and root_certificate"
    )
    proxy: ProxySettings | None = Field(
        default=None, description="a mapping with address, user and password_file"
    )
    roster: dict[Name, Digest] = Field(
        description="a mapping from each site's name to its public identity key (64 hex digits), "
        "or the path of a YAML file that holds it"
    )
    state: LocalPath = Field(description="the path of a folder for the ledger and the audit log")
    time_zone: TimeZone | None = Field(
        default=None,
        description="the IANA name of the clock on this site's walls, such as Europe/Paris",
    )
    data: dict[Name, Source] = Field(
        default={}, description="a mapping from each task's name to files and view"
    )
    patients: View | None = Field(
        default=None,
        description="the patient index: sources, and a view with a column patient and one column "
        "for each kind of name that a view under data uses",
    )
    objections: Objections | None = Field(
        default=None,
        description="a mapping with file or query: the patients whose data no study may use",
    )
    imaging: Imaging | None = Field(
        default=None, description="a mapping with folders and receiver, for DICOM"
    )
    policy: Policy = Field(default=Policy(), description="a mapping of rules")
    metrics: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="a port on 127.0.0.1 for /healthz and /metrics"
    )
    _roster_file: Path | None = PrivateAttr(default=None)

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.site not in self.roster:
            raise contradiction(
                f"roster does not name this site, {self.site}", "Add it with its own public key"
            )
        if len(set(self.roster.values())) < len(self.roster):
            raise contradiction(
                "roster gives two sites the same key", "Compare fingerprints with the sites"
            )
        for task, source in self.data.items():
            if source.names is not None and self.patients is None:
                raise contradiction(
                    f"data.{task}.names is set without a patient index", "Add patients"
                )
        if self.objections and self.objections.names is not None and self.patients is None:
            raise contradiction("objections.names is set without a patient index", "Add patients")
        for task in self.policy.tasks:
            if task not in self.data:
                raise contradiction(
                    f"policy.tasks allows {task}, for which data has no entry",
                    f"Add data.{task}, or take it out of policy.tasks",
                )
        public = set(self.policy.public_data)
        for task in sorted(public & set(self.data)):
            for other in sorted(set(self.data) - public):
                if self.data[task].reads & self.data[other].reads:
                    raise contradiction(
                        f"policy.public_data names {task}, which reads the same as {other}",
                        "Name both, or neither: the same records are public or they are not",
                    )
        return self

    @property
    def roster_file(self) -> Path | None:
        """The file that `roster` names; None where site.yaml holds the keys itself."""
        return self._roster_file

    def names_of(self, task: str) -> str:
        """By which names the patients of a task go, as a digest: those of the patient index, or
        those of the task's view as it is. Two tasks of one digest name a patient alike, at any
        time; empty where that cannot be told."""
        source = self.patients or self.data.get(task)
        try:
            return "" if source is None else digest(canonical(source.content))
        except WardroundError:
            return ""  # reading the data will say why

    @staticmethod
    def load(path: Path) -> SiteConfig:
        """Reads and checks the file. Raises WardroundError(CONFIGURATION)."""
        values, base = read_yaml(path, INIT), path.resolve().parent
        file = base / values["roster"] if isinstance(values.get("roster"), str) else None
        if file is not None:
            values["roster"] = read_yaml(file, INIT)
        config = validate(SiteConfig, values, str(path))
        loaded = config.model_copy(update=_absolute(config, base))
        loaded._roster_file = file
        return loaded

    def load_identity(self) -> Identity:
        """Reads the identity key. Raises WardroundError(IDENTITY) unless it is the one that the
        roster gives for this site."""
        identity = Identity.load(self.identity)
        if identity.public_key.hex() != self.roster[self.site]:
            raise WardroundError(
                Code.IDENTITY,
                f"{self.identity} is not the key that the roster gives for {self.site}.",
                remedy=f"Correct roster.{self.site}: {identity.public_key.hex()}",
            )
        return identity


def _texts(paths: tuple[Path, ...]) -> list[bytes]:
    try:
        return [
            file.read_bytes()
            for path in paths
            for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])
        ]
    except OSError:
        raise WardroundError(
            Code.CONFIGURATION,
            "A ViewDefinition cannot be read.",
            remedy="Correct data.<task>.fhir.views in site.yaml.",
        ) from None


def _absolute(config: SiteConfig, base: Path) -> dict[str, Any]:
    coordinator = config.coordinator
    return {
        "identity": base / config.identity,
        "node_key": base / config.node_key,
        "state": base / config.state,
        "patients": config.patients
        and config.patients.model_copy(update=_below(config.patients, "patients", base)),
        "objections": config.objections and config.objections.absolute(base),
        "imaging": config.imaging and config.imaging.absolute(base),
        "coordinator": coordinator.model_copy(
            update={
                "root_certificate": base / coordinator.root_certificate,
                "private_ca": coordinator.private_ca and base / coordinator.private_ca,
            }
        ),
        "proxy": config.proxy and config.proxy.absolute(base),
        "data": {
            task: source.model_copy(update=_below(source, task, base))
            for task, source in config.data.items()
        },
    }


def _below(source: View, task: str, base: Path) -> dict[str, Any]:
    """Returns the source's fields with absolute paths, and a template's files for its name."""
    fields, view = source.below(base), source.view.strip()
    if view.startswith(templates.PREFIX):
        fields["view"] = templates.view(view, task)
        if fields["fhir"] and not fields["fhir"].views:
            definitions = {"views": templates.definitions(task)}
            fields["fhir"] = fields["fhir"].model_copy(update=definitions)
    elif view.endswith(".sql") and "\n" not in view:
        fields["view"] = str(base / view)
    return fields
