"""The audit sees each fault that once broke a claim, and none in honest code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.privacy_audit import one_run
from client.privacy_audit.audit import audit
from client.privacy_audit.finding import Finding
from client.privacy_audit.neighbours import (
    ATTACKS,
    BEYOND,
    Attack,
    cancelling,
    farthest,
    honest,
    opposed,
    saturating,
)
from client.privacy_audit.released_sums import AuditedStudy, Part
from client.privacy_audit.report import AuditReport, save
from protocol.errors import Code, WardroundError
from support.audit_faults import (
    DISTRIBUTED,
    LOCAL,
    SAMPLED,
    SEEN,
    Fault,
    found,
    noise_by_root_of_batch,
    planned,
    whole_batches,
)


def quiet(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "attack", "words", "part"), SEEN)
def test_a_fault_is_seen(
    fault: Fault,
    attack: Attack,
    words: tuple[str, ...],
    part: Part,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By chance an attack of 5,000 runs misses the slightest one in one of ten; five attacks do in
    one of a hundred thousand."""
    fault(monkeypatch)
    attacks = (found(attack, words, part) for _ in range(5))
    assert any(seen.bound > seen.epsilon for seen in attacks)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_bits_that_depend_on_the_batch_are_seen(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_batches(monkeypatch)
    seen = found(cancelling, DISTRIBUTED, part)
    if seen.holds:
        pytest.skip("this processor's kernels compute every row of a batch alike")
    assert seen.bound > seen.epsilon


@pytest.mark.slow
@pytest.mark.parametrize("words", [DISTRIBUTED, SAMPLED, LOCAL])
@pytest.mark.parametrize("attack", [honest, saturating, opposed, cancelling])
def test_honest_code_raises_no_alarm(attack: Attack, words: tuple[str, ...]) -> None:
    assert found(attack, words, runs=500).holds


@pytest.mark.slow
@pytest.mark.parametrize("words", [DISTRIBUTED, LOCAL])
def test_the_estimate_is_near_epsilon(words: tuple[str, ...]) -> None:
    seen = found(saturating, words)
    assert 0.6 < seen.estimate / seen.epsilon < 1.4


@pytest.mark.slow
def test_one_patient_moves_the_sum_by_what_is_claimed_and_no_more() -> None:
    study, task, patients = planned(*DISTRIBUTED)
    audited = AuditedStudy.of(study, task)
    for attack in ATTACKS:
        neighbours = farthest(attack(audited, patients, "training", 0, BEYOND))
        assert neighbours is not None
        assert 0.5 < neighbours.moved <= 1


def test_one_run_estimates_epsilon_and_too_little_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    study, task, patients = planned(*DISTRIBUTED)
    honest_run = one_run.audit(study, task, patients, 900, 0, quiet)
    assert honest_run.holds
    assert 0.6 < honest_run.estimate / honest_run.epsilon < 1.5
    noise_by_root_of_batch(monkeypatch)
    assert one_run.audit(study, task, patients, 600, 0, quiet).estimate > 3 * honest_run.epsilon


def test_the_report_says_what_is_broken(tmp_path: Path) -> None:
    study, _, _ = planned(*DISTRIBUTED)
    kept = Finding("many runs", "training", "honest", 1.0, 0.5, 0.9, 100, 0.9999)
    AuditReport(study, (kept,)).require()
    report = AuditReport(study, (kept, replace(kept, bound=float("inf"))))
    save(report, tmp_path / "audit")
    summary = json.loads((tmp_path / "audit/summary.json").read_text())
    assert not summary["holds"]
    assert [one["bound"] for one in summary["findings"]] == [0.5, "inf"]
    assert "BROKEN" in (tmp_path / "audit/audit.md").read_text()
    assert (tmp_path / "audit/audit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(WardroundError, match="claim is broken") as raised:
        report.require()
    assert (raised.value.code, raised.value.exit_status) == (Code.CLAIM, 70)


@pytest.mark.parametrize(
    ("words", "runs", "code"),
    [
        (("privacy=none", "evaluation=exact"), 1000, Code.CONFIGURATION),
        (DISTRIBUTED, 10, Code.USAGE),
    ],
)
def test_an_audit_of_nothing_is_refused(words: tuple[str, ...], runs: int, code: Code) -> None:
    study, task, patients = planned(*words)
    with pytest.raises(WardroundError) as raised:
        audit(study, task, patients, runs, 900, quiet)
    assert raised.value.code is code
