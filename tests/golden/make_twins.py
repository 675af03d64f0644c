"""Part of `make.py`: what the hospital's folder holds, in text, and the bad twins of the folders.

A twin of the database is SQL that is run on a copy; every other is a file to be put in its place.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from client.governance.patient_split import PatientSplit
from tests.golden.make_federation import Making

TWINS = "twins"
"""The folder for them, but for those of studies and messages, which lie beside these."""
_TABLES = ("meta", "studies", "plans", "debits", "audit")
_FREE = """\
DROP TRIGGER debits_are_append_only_u;
DROP TRIGGER debits_are_append_only_d;
DROP TRIGGER audit_is_append_only_u;
DROP TRIGGER audit_is_append_only_d;
"""
_STATES = {
    "debit_deleted": "DELETE FROM debits WHERE {debit};"
    " UPDATE plans SET debited = debited - 1 WHERE {plan};",
    "debit_deleted_alone": "DELETE FROM debits WHERE {debit};",
    "debit_moved": "UPDATE debits SET study = '{waiting}' WHERE {debit};",
    "debit_of_another_round": "UPDATE debits SET round = 9 WHERE {debit};",
    "debit_counted_twice": "UPDATE debits SET count = 2 WHERE {debit};",
    "debits_all_deleted": "DELETE FROM debits; UPDATE plans SET debited = 0;",
    "plan_debited_less": "UPDATE plans SET debited = debited - 1 WHERE {plan};",
    "plan_raised": "UPDATE plans SET planned = planned + 100 WHERE study = '{running}';",
    "plan_with_more_noise": "UPDATE plans SET event ="
    " replace(event, '\"noise_multiplier\":', '\"noise_multiplier\":9')"
    " WHERE study = '{running}';",
    "plan_exact": "UPDATE plans SET event = '' WHERE study = '{running}';",
    "plan_deleted": "DELETE FROM plans WHERE study = '{revoked}';",
    "study_accepted": "UPDATE studies SET state = 'accepted', code = NULL"
    " WHERE digest = '{revoked}';",
    "study_attempts_set_back": "UPDATE studies SET round = 1, attempt = 1"
    " WHERE digest = '{running}';",
    "study_of_another_digest": "UPDATE studies SET document ="
    " (SELECT document FROM studies WHERE digest = '{revoked}') WHERE digest = '{finished}';",
    "study_with_another_title": "UPDATE studies SET document = CAST("
    "replace(CAST(document AS TEXT), 'Left running', 'Left walking') AS BLOB)"
    " WHERE digest = '{running}';",
    "study_cut_short": "UPDATE studies SET document = substr(document, 1, 200)"
    " WHERE digest = '{running}';",
    "study_deleted": "DELETE FROM debits WHERE study = '{finished}';"
    " DELETE FROM plans WHERE study = '{finished}';"
    " DELETE FROM studies WHERE digest = '{finished}';",
    "study_added": "INSERT INTO studies SELECT '{zeros}', document, state, code, reason, policy,"
    " seen, changed, round, attempt FROM studies WHERE digest = '{finished}';",
    "audit_changed": "UPDATE audit SET fields ="
    " replace(fields, '\"attempt\":1', '\"attempt\":2') WHERE seq = {seq};",
    "audit_time_changed": "UPDATE audit SET time = '2024-03-04T08:00:00.000+00:00'"
    " WHERE seq = {seq};",
    "audit_event_changed": "UPDATE audit SET event = 'operator' WHERE seq = {seq};",
    "audit_not_json": "UPDATE audit SET fields = '[' WHERE seq = {seq};",
    "audit_written_otherwise": "UPDATE audit SET fields = replace(fields, ':', ': ')"
    " WHERE seq = {seq};",
    "audit_dropped": "DELETE FROM audit WHERE seq = {seq};",
    "audit_first_dropped": "DELETE FROM audit WHERE seq = 1;",
    "audit_closed_up": "DELETE FROM audit WHERE seq = {seq};"
    " UPDATE audit SET seq = -seq WHERE seq > {seq};"
    " UPDATE audit SET seq = -seq - 1 WHERE seq < 0;",
    "audit_end_dropped": "DELETE FROM audit WHERE seq > {late};",
    "audit_emptied": "DELETE FROM audit;",
    "audit_reordered": "UPDATE audit SET seq = -1 WHERE seq = {seq};"
    " UPDATE audit SET seq = {seq} WHERE seq = {next};"
    " UPDATE audit SET seq = {next} WHERE seq = -1;",
    "audit_signature_changed": "UPDATE audit SET signature = '{zeros}{zeros}' WHERE seq = {seq};",
    "audit_signature_no_number": "UPDATE audit SET signature = 'none' WHERE seq = {seq};",
    "audit_of_another_entry": "UPDATE audit SET signature ="
    " (SELECT signature FROM audit WHERE seq = {next}) WHERE seq = {seq};",
    "other_site": "UPDATE meta SET value = 'south' WHERE key = 'site';",
    "other_identity": "UPDATE meta SET value = '{zeros}' WHERE key = 'identity';",
    "other_split": "UPDATE meta SET value = '{zeros}' WHERE key = 'split';",
    "later_schema": "PRAGMA user_version = 999;",
    "no_schema": "PRAGMA user_version = 0;",
}
"""What was done to the database -> SQL."""


def make_site_facts(folder: Path, made: Making) -> None:
    """expected.json, the ledger as text, and the twins of the hospital's and the coordinator's."""
    state = folder / "site" / "state"
    with closing(sqlite3.connect(f"file:{state / 'state.sqlite'}?immutable=1", uri=True)) as db:
        rows = {table: _rows(db, table) for table in _TABLES}
    tables = (
        f"{json.dumps(table)}: [\n" + ",\n".join(map(json.dumps, found)) + "\n]"
        for table, found in rows.items()
    )
    (folder / "ledger.json").write_text("{\n" + ",\n".join(tables) + "\n}\n")
    states = {row["digest"]: row["state"] for row in rows["studies"]}
    split = PatientSplit.load(state)
    names = [f"north-{number:03d}" for number in range(20)] + ["", "Åse Øst"]
    expected = made.expected | {
        "site": "north",
        "states": states,
        "debits": len(rows["debits"]),
        "audit": len(rows["audit"]),
        "personal": sorted(path.name for path in (state / "personal").iterdir()),
        "places": {name: split.place(name) for name in names},
        "coordinator": made.states,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    finished = next(
        digest
        for digest, ended in made.states.items()
        if ended == "finished" and states[digest] == "finished"
    )
    twins = folder / TWINS
    for name, sql in _state_twins(rows, expected, finished):
        (twins / f"state_bad_{name}.sql").write_text(sql)
    head = json.loads((state / "head.json").read_text())
    for name, content in _head_twins(head):
        (twins / f"head_bad_{name}.json").write_bytes(content)
    _coordinator_twins(folder, expected["running"], finished)


def _rows(db: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    found = db.execute(f"SELECT * FROM {table}")
    columns = [column[0] for column in found.description]
    return [
        {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in zip(columns, row, strict=True)
        }
        for row in found
    ]


def _state_twins(
    rows: dict[str, list[dict[str, Any]]], expected: dict[str, Any], finished: str
) -> Iterator[tuple[str, str]]:
    """(what was done to it, SQL): to a study that has finished, and to one that runs."""
    debit = next(row for row in rows["debits"] if row["study"] == finished)
    charged = next(row for row in rows["audit"] if row["event"] == "privacy_debited")
    plan = f"study = '{finished}' AND part = '{debit['part']}'"
    values = {
        **{name: expected[name] for name in ("revoked", "running", "waiting")},
        "finished": finished,
        "plan": plan,
        "debit": f"{plan} AND attempt = {debit['attempt']}",
        "seq": charged["seq"],
        "next": charged["seq"] + 1,
        "late": len(rows["audit"]) - 5,
        "zeros": "0" * 64,
    }
    for name, template in _STATES.items():
        guarded = name.startswith(("debit", "audit", "study_deleted"))
        statements = template.format(**values).replace("; ", ";\n")
        yield name, f"{_FREE if guarded else ''}{statements}\n"


def _head_twins(head: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, head.json)."""

    def written(seq: object, hashed: object) -> bytes:
        return json.dumps({"hash": hashed, "seq": seq}, separators=(",", ":")).encode()

    yield "ahead", written(head["seq"] + 1, "a" * 64)
    yield "far_ahead", written(10**6, head["hash"])
    yield "other_hash", written(head["seq"], "a" * 64)
    yield "of_an_earlier_entry", written(head["seq"] - 3, head["hash"])
    yield "cut_short", written(head["seq"], head["hash"])[:-5]
    yield "empty", b""
    yield "no_number", written("many", head["hash"])
    yield "list", b"[]"
    yield "not_utf8", b"\xff\xfe{}"


class _Runs:
    """Unpickled by a careless reader, it would make a folder `golden-file-ran-code`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("golden-file-ran-code",)


def _coordinator_twins(folder: Path, running: str, finished: str) -> None:
    studies, twins = folder / "coordinator" / "state" / "studies", folder / TWINS
    good = (studies / running / "checkpoint.pt").read_bytes()
    for name, content in {
        "cut_short": good[: len(good) - 100],
        "half": good[: len(good) // 2],
        "empty": b"",
        "no_archive": b"not a checkpoint\n" * 40,
        "of_another_study": (studies / finished / "checkpoint.pt").read_bytes(),
    }.items():
        (twins / f"checkpoint_bad_{name}.pt").write_bytes(content)
    told: dict[str, Any] = torch.load(studies / running / "checkpoint.pt", weights_only=True)
    torch.save(told | {"surprise": 1}, twins / "checkpoint_bad_unknown_field.pt")
    torch.save(told | {"optimiser": _Runs()}, twins / "checkpoint_bad_runs_code.pt")
    for name in ("roster", "accounts"):
        text = (folder / "coordinator" / f"{name}.json").read_bytes()
        (twins / f"{name}_bad_cut_short.json").write_bytes(text[:-20])
        (twins / f"{name}_bad_not_utf8.json").write_bytes(text.replace(b'"', b"\xff", 1))
        wrong = json.loads(text) | {"surprise": 1}
        (twins / f"{name}_bad_unknown_field.json").write_text(json.dumps(wrong))
