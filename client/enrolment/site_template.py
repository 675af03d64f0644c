"""The site.yaml that `wardround-site init` writes: each rule explained, everything denied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.data.templates import IMAGE_TASKS

UNKNOWN_COORDINATOR = "coordinator.invalid:9092"
"""Stands for an address until `wardround-site join` fills it in (RFC 2606, section 2)."""
_VIEW = "SELECT * FROM records"
_INDEX = "SELECT mrn AS patient, person_id AS omop, pseudonym(mrn) AS pacs FROM index"


@dataclass(frozen=True)
class PictureSources:
    """Where pictures come from: the AE titles that may send to `listen` (HOST:PORT), and folders
    that are read where they are."""

    senders: tuple[str, ...] = ()
    listen: str = "127.0.0.1:11112"
    folders: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.senders or self.folders)


@dataclass(frozen=True)
class SiteAnswers:
    """The operator's answers to `init`. Whatever is left out is denied."""

    site: str
    coordinator: str = UNKNOWN_COORDINATOR
    data: Mapping[str, Path | None] = field(default_factory=dict)
    """Task -> file of its cohort, one row a record; of a task on pictures, its labels, None where
    it needs none."""
    pictures: PictureSources = field(default_factory=PictureSources)
    tasks: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    approval: str = "hand"
    least_patients: int = 20
    delta: float = 1e-5
    epsilon_per_study: float | None = None
    epsilon_lifetime: float | None = None
    epsilon_broken: float | None = None
    exact_evaluation: bool = False
    exact_releases: int = 0
    public_data: tuple[str, ...] = ()
    """Tasks whose data are public or synthetic."""
    threads: int = 2
    memory: str = "4 GiB"
    metrics: int | None = None


def site_yaml(answers: SiteAnswers) -> str:
    """The text of site.yaml. It is valid wherever the answers are."""
    a = answers
    return f"""\
# {a.site}: what this hospital's data may be used for, and by whom.
# Paths are relative to this file. After a change run `wardround-site check` and restart the
# daemon: studies accepted before are held against the new rules.

site: {json.dumps(a.site)}
identity: identity.pem        # signs; its public half is what other hospitals know this site by
node_key: node.pem            # signs in to the coordinator
state: state                  # approvals, privacy ledger, audit log; back it up

coordinator:
  address: {json.dumps(a.coordinator)}    # `wardround-site join` fills these two in
  root_certificate: coordinator-ca.pem
  # private_ca: hospital-ca.pem     # only where a proxy here opens TLS: see docs/operations.md,
  #                                 # "A proxy in between", for what its owner could then see and do

# proxy:                            # the way out of this network; without it, HTTPS_PROXY and
#   address: proxy.hospital.example:3128    # NO_PROXY in the daemon's environment count
#   user: wardround                 # where the proxy asks for a login (Basic)
#   password_file: proxy.password   # mode 600, holds the password alone

# The identity keys of all hospitals, this one included. `wardround-site join` writes the file
# after a person has compared the fingerprints by telephone.
roster: roster.yaml

# time_zone: Europe/Paris       # of times that state no offset from UTC, and of calendar days

# Each task's data: where its rows are, and the SELECT that makes them the task's cohort. All is
# read in place, nothing is copied; `view` is SQL (DuckDB's), or the path of a .sql file.
# `wardround-site check` says which columns a task wants.
data:{_data(a.data)}
# What `view` may read, side by side:
#   files: {{stays: stays.parquet, labs: labs-*.csv.gz}}    # .csv .tsv .ndjson .json .parquet
#   headerless: {{labs: [patient, taken, value]}}    # names, for a file without a header line
#   formats: {{labs: {{encoding: cp1252, decimal: ",", dates: ["%d/%m/%Y"], title_lines: 2,
#     types: {{patient: text}}}}}}    # what is not as usual in a delimited file
#   databases:                    # attached read-only; their tables are ward.stays, clinic.labs
#     clinic: {{sqlite: /srv/clinic.db}}
#     ward:
#       postgres: {{host: db.example.org, database: ward, user: wardround, schema: public,
#         password_file: ward.password, tls: verify-full, root_certificate: db-ca.pem}}
#   omop: {{folder: /srv/omop}}     # an OMOP CDM 5.4, or {{database: ward}}: its tables by name
#   fhir: {{folder: /srv/fhir, views: [views/]}}     # NDJSON or bundles, and ViewDefinitions
#   value_sets: [codes.csv]       # your own, beside the shipped ones: name,system,code,display
#   ancestors: [below.csv]        # what lies below what in SNOMED CT and the like, for value sets:
#                                 # system,ancestor,descendant, or a CodeSystem of FHIR (.json)
#   minutes: 30                   # the most that reading may take
# With omop or fhir, `view: template:omop` or `view: template:fhir` is the view that is shipped for
# the task; `wardround-site view TASK omop` prints it. Every view also has the table value_set and
# the functions in_unit(value, unit, wanted, analyte), as in_unit(v, unit, 'mg/dL', 'glucose'), and
# instant, calendar_day, earliest_day and latest_day of any value that tells time.

# Who a patient is: an index for views over sources that name a patient differently,
# one row a patient, with `patient` and a column for each kind of name; data.TASK.names says
# which column a view's patients are in. Without it, what different views spend is added up.
# patients:
#   files: {{index: patients.csv}}
#   view: {_INDEX}
#   # pacs is who a picture is of; where pictures state who issued their Patient IDs:
#   # pseudonym(mrn, issuer := 'NORTH') AS pacs, the issuer as the pictures have it

# Who objects to the use of their data: in no cohort, no picture and no query. Read anew before each
# study and round; a list that cannot be read refuses every study. Identifiers are those by which
# views name patients (for pictures the PatientID, whoever issued it, or PatientID^^^Issuer), or
# those in the column `names` of the index.
# objections:
#   file: objections.txt          # UTF-8, one identifier a line; or, instead of a file, a query:
#                                 # {{files: ..., view: ...}}, as under data, with a column patient
#   names: omop

# Pictures: folders of DICOM files, read where they are, and what the PACS sends here. A view sees
# those that are fit for use as the table `images`; `wardround-site images` says what is kept out.
{_imaging(a.pictures)}

# The rules. What is not allowed here is refused, whatever a coordinator sends.
policy:
  tasks: {_list(a.tasks)}           # which tasks, such as [breast_cancer]
  purposes: {_list(a.purposes)}        # which purposes, such as [research]
  modes: {_list(a.modes)}           # none, local, distributed: how noise protects patients
  approval: {a.approval}        # hand: a person approves every study; rule: these rules suffice
  least_patients: {a.least_patients}    # with fewer, the site takes no part and says no number
  least_sites: 3        # fewest hospitals in a sum
  colluding_sites: 1    # hospitals that may side with the coordinator without harm
  participant_sets: 8   # most different sets of hospitals in the sums of one round

  # The privacy budget. Epsilon bounds what anyone can learn about one patient, at delta, a
  # probability that should lie well below 1 / patients. Spent for ever: nothing gives it back.
  delta: {a.delta:g}
  {_number("epsilon_per_study", a.epsilon_per_study, "most for one study", 1.0)}
  {_number("epsilon_lifetime", a.epsilon_lifetime, "most over all studies", 5.0)}
  {_number("epsilon_broken", a.epsilon_broken, "most if secure aggregation failed", 10.0)}
  least_noise_multiplier: 0.3

  unmasked: false       # true: studies without secure aggregation, whose updates others see

  # Sums without noise (mode none, exact evaluation). Whoever chooses the model can read one
  # patient's record off a few of them, and no epsilon covers that.
  exact_evaluation: {_bool(a.exact_evaluation)}    # true: sums of scores without noise
  exact_releases: {a.exact_releases}     # the most such sums over all studies, for ever
  public_data: {_list(a.public_data)}       # tasks whose data are public or synthetic: not counted

  task_options: []      # options of a task that a study may set
  queries: []           # statistics without training: count, histogram, table, mean

  # When the daemon may work, in local time; left out: always.
  # hours:
  #   - {{days: [mon, tue, wed, thu, fri], from: "19:00", to: "06:00"}}
  #   - {{days: [sat, sun], from: "00:00", to: "24:00"}}
  # time_zone: Europe/Rome

  threads: {a.threads}            # most CPU threads
  studies_at_once: 4    # studies that compute at once, each with its part of threads and memory
  memory: {a.memory}         # most memory

# Health and Prometheus metrics on 127.0.0.1 (paths /healthz and /metrics); left out: off.
{f"metrics: {a.metrics}" if a.metrics is not None else "# metrics: 9464"}
"""


def _data(data: Mapping[str, Path | None]) -> str:
    if not data:
        return """ {}
#  heart_disease:
#    files: {records: /srv/wardround/heart.parquet}
#    view: SELECT * FROM records"""
    lines = []
    for task, path in sorted(data.items()):
        table, view = ("labels", "template:dicom") if task in IMAGE_TASKS else ("records", _VIEW)
        files = "" if path is None else f"    files: {{{table}: {json.dumps(str(path))}}}\n"
        lines.append(f"\n  {task}:\n{files}    view: {view}")
    return "".join(lines)


def _imaging(sources: PictureSources) -> str:
    """Without sources every line is a comment."""
    folders = json.dumps([str(folder) for folder in sources.folders] or ["/srv/pacs/export"])
    any_, sends, reads = (
        "" if given else "# " for given in (sources, sources.senders, sources.folders)
    )
    return f"""\
{any_}imaging:
{reads}  folders: {folders}
{sends}  receiver:
{sends}    ae_title: WARDROUND
{sends}    listen: {sources.listen}     # 0.0.0.0:11112 to be reached by the PACS
{sends}    calling: {json.dumps(sources.senders)}    # AE titles that may send; nobody else may
#     tls: {{certificate: dicom.pem, key: dicom.key, clients: pacs-ca.pem}}
{any_}  accept_modalities: []         # let through though text is often burned in, such as [US]
{any_}  accept_heads: false           # let CT and MR of heads through, though they show a face
{any_}  detect_text: true             # look for burned-in text in every picture"""


def _list(names: tuple[str, ...]) -> str:
    return f"[{', '.join(names)}]"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _number(key: str, value: float | None, meaning: str, such_as: float) -> str:
    off = "# " if value is None else ""
    return f"{off}{key}: {such_as if value is None else value:g}    # {meaning}"
