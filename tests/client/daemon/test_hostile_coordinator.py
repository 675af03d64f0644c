"""A hostile coordinator against the real site: real governance, real state folder, real patients.

It may send any bytes in any order. Whatever it sends here is refused: no patient is loaded or
computed on, nothing is debited, no answer holds more than a code, and the site goes on.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.cohorts.loading import loader
from client.config.known_roster import KnownRoster
from client.config.site_config import SiteConfig
from client.config.site_roster import roster_text
from client.daemon.site import Site
from client.data.cohort import Cohort
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from client.governance.patient_split import PatientSplit
from client.log_events import LOGGER, configure
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Patients
from launch.config.compose import load
from launch.studies.study_builder import build_study
from protocol.document import canonical
from protocol.errors import Code
from protocol.identity import Identity
from protocol.models.starting_model import StartingModel
from protocol.secagg.context import Context
from protocol.secagg.party import Party
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from protocol.untrusted import Throttle
from protocol.wire import messages
from protocol.wire.messages import Frame, Standing
from tasks import registry
from tasks.base import Task
from tasks.flat_model import FlatModel
from tests.narrowing import instance

TASK = "breast_cancer"
SITES = ("alpha", "beta", "gamma")
SECRET = "zq7canary"
"""Stands wherever a message has room for text: no answer may repeat it."""
_TOUCHING = (
    (DPTrainer, "clipped_sum"),
    (DPTrainer, "private_steps"),
    (DPTrainer, "plain_steps"),
    (DPTrainer, "scores"),
    (Contributor, "contribution"),
    (Contributor, "noise"),
    (Patients, "private_sample"),
)


@dataclass
class Touched:
    """How often patients were loaded, and computed on."""

    loaded: int = 0
    computed: int = 0


@dataclass
class Ward:
    """A hospital under attack; `beta` and `gamma` are its peers, whose keys these tests hold."""

    site: Site
    governance: SiteGovernance
    peers: dict[str, Identity]
    roster: dict[str, str]
    good: Study
    touched: Touched
    seen: set[str] = field(default_factory=set)

    def ask(self, frame: Frame) -> messages.Request | messages.Answer:
        """The answer, once it has been seen to hold nothing but a code."""
        digest = hashlib.sha256(frame.header)
        for chunk in frame.body:
            digest.update(chunk)
        self.seen.add(digest.hexdigest())
        return messages.parse(self.site.answer(frame))

    def books(self) -> tuple[Any, ...]:
        """What was spent and reserved, and which studies may be worked on."""
        with self.governance.state.reading() as db:
            return (
                db.execute("SELECT * FROM debits ORDER BY study, attempt, part").fetchall(),
                db.execute("SELECT * FROM plans ORDER BY study, part").fetchall(),
                db.execute(
                    "SELECT digest, round, attempt FROM studies WHERE state = 'accepted'"
                ).fetchall(),
            )

    def refuses(self, frame: Frame) -> Code:
        """Sends it, and sees it refused without a trace but the refusal; why."""
        before, touched = self.books(), replace(self.touched)
        answer = self.ask(frame)
        if isinstance(answer, messages.Standing):
            assert answer.state == "refused", answer
        else:
            assert isinstance(answer, messages.Refusal), answer
        sent = canonical(answer.model_dump(mode="json"))
        assert len(sent) < 200
        assert SECRET.encode() not in sent
        assert answer.code not in (None, Code.INTERNAL), answer
        assert self.touched == touched, "patients were touched"
        assert self.books() == before, "the ledger moved"
        return answer.code

    def weights(self) -> bytes:
        task = registry.load(TASK)
        return FlatModel(task, self.good.optimisation.seed).flat.numpy().tobytes()

    def prepare(self, study: Study, round_: int, attempt: int) -> messages.Ready:
        """An honest attempt's first exchange."""
        answer = self.ask(prepared(study, round_, attempt, self.weights()))
        assert isinstance(answer, messages.Ready), answer
        return answer

    def readys(self, study: Study, own: messages.Ready) -> dict[str, messages.Ready]:
        """Site -> Ready, the peers' signed by themselves for the same context."""
        context = self.context(study, own)
        answers = {"alpha": own}
        for name, identity in self.peers.items():
            ready = Party.begin(context, name, identity).ready
            answers[name] = own.model_copy(
                update={
                    "site": name,
                    "context": ready.context,
                    "public_key": ready.public_key,
                    "signature": ready.signature,
                }
            )
        return answers

    def context(self, study: Study, own: messages.Ready, attempt: int | None = None) -> Context:
        train, evaluate = parts(study, own.round)
        sections = Sections(study, train=train, evaluate=evaluate)
        return Context(
            study=study.digest,
            kind=sections.kind,
            round=own.round,
            attempt=attempt or own.attempt,
            model=hashlib.sha256(self.weights()).hexdigest(),
            roster=tuple((name, self.roster[name]) for name in study.sites),
            exact=sections.exact,
        )

    def collect(self, study: Study, own: messages.Ready, readys: dict[str, messages.Ready]) -> None:
        """An honest attempt's second exchange: a masked share, the same bytes when asked again."""
        asked = collected(study, own.round, own.attempt, list(readys.values()))
        shares = [self.site.answer(asked) for _ in range(2)]
        assert isinstance(messages.parse(shares[0]), messages.Share)
        train, evaluate = parts(study, own.round)
        length = Sections(study, train=train, evaluate=evaluate).length
        first, again = (b"".join(bytes(c) for c in share.body) for share in shares)
        assert first == again
        assert len(first) == (length + 2) * study.aggregation.word_bits // 8

    def answers_a_good_study(self) -> None:
        """A whole attempt of a study never seen before, paid for once."""
        study = self.another()
        assert instance(Standing, self.ask(proposal(study.document))).state == "accepted"
        debits = len(self.books()[0])
        own = self.prepare(study, 1, 1)
        assert len(self.books()[0]) == debits + 1
        self.collect(study, own, self.readys(study, own))
        self.ask(messages.frame(messages.Close(study=study.digest, outcome="cancelled")))

    def another(self, algorithm: str = "fedavg") -> Study:
        """The good study as another one."""
        nonce = hashlib.sha256(repr(self.books()).encode()).hexdigest()[:16]
        study = (
            self.good
            if algorithm == "fedavg"
            else planned("privacy=local", f"algorithm={algorithm}", "local_steps=2")
        )
        return Study.model_validate(study.model_dump() | {"nonce": nonce})


def parts(study: Study, round_: int) -> tuple[bool, bool]:
    """(trains, evaluates)."""
    return round_ <= study.optimisation.rounds, study.evaluates(round_)


def proposal(document: bytes) -> Frame:
    return messages.frame(messages.Propose(document=document.decode()))


def prepared(study: Study, round_: int, attempt: int, weights: bytes) -> Frame:
    train, evaluate = parts(study, round_)
    return raw(
        type="prepare",
        study=study.digest,
        round=round_,
        attempt=attempt,
        train=train,
        evaluate=evaluate,
        model=hashlib.sha256(weights).hexdigest(),
        body=weights,
    )


def collected(study: Study, round_: int, attempt: int, readys: list[messages.Ready]) -> Frame:
    return raw(
        type="collect",
        study=study.digest,
        round=round_,
        attempt=attempt,
        readys=[ready.model_dump(mode="json") for ready in readys],
    )


def raw(body: bytes = b"", **header: Any) -> Frame:
    """A frame that no type of ours has checked."""
    chunks = [body[start : start + 100] for start in range(0, len(body), 100)]
    return Frame(json.dumps(header, sort_keys=True, separators=(",", ":")).encode(), chunks)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    task = registry.load(TASK)
    table = next(iter(task.public_sites(None).values()))
    with (folder / "cohort.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(table), *zip(*table.values(), strict=True)])
    answers = SiteAnswers(
        site="alpha",
        data={TASK: folder / "cohort.csv"},
        tasks=(TASK,),
        purposes=("research",),
        modes=("local", "distributed"),
        approval="rule",
        epsilon_per_study=3.0,
        epsilon_lifetime=100.0,
        epsilon_broken=100.0,
        threads=1,
    )
    config = new_site.init(folder / "alpha", answers)
    peers = {name: Identity.generate() for name in SITES[1:]}
    roster = {name: identity.public_key.hex() for name, identity in peers.items()}
    roster["alpha"] = config.load_identity().public_key.hex()
    (folder / "alpha" / new_site.ROSTER).write_bytes(roster_text(roster))
    config = SiteConfig.load(folder / "alpha" / new_site.SITE_YAML)
    governance = SiteGovernance(config, config.load_identity(), daemon=True)
    touched = Touched()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _TOUCHING:
            patch.setattr(owner, name, counting(getattr(owner, name), touched))
        site = Site(
            "alpha",
            config.load_identity(),
            KnownRoster(config.roster),
            governance,
            counted(config, governance.state.split, touched),
        )
        yield Ward(site, governance, peers, roster, planned("privacy=distributed"), touched)
    governance.close_state()


def planned(*overrides: str) -> Study:
    common = [f"task={TASK}", "privacy.epsilon=2", "rounds=6", "federation=deployment"]
    config = load([*common, "tracking=off", "evaluation.every=3", *overrides])
    return build_study(config, registry.load(TASK), dict.fromkeys(SITES, 100))


def counting(method: Callable[..., Any], touched: Touched) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        touched.computed += 1
        return method(*args, **kwargs)

    return call


def counted(
    config: SiteConfig, split: PatientSplit, touched: Touched
) -> Callable[[Task, Study], Cohort]:
    load_cohort = loader(config, split.place, lambda study, cohort: None)

    def loading(task: Task, study: Study) -> Cohort:
        touched.loaded += 1
        return load_cohort(task, study)

    return loading


def attack(
    ward: Ward, strategy: st.SearchStrategy[Any], examples: int, try_one: Callable[[Any], object]
) -> None:
    """Tries `examples` drawn attacks; the site then answers a good study."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def attacked(drawn: Any) -> None:
        try_one(drawn)

    logging.getLogger(LOGGER).setLevel(logging.CRITICAL)
    attacked()
    ward.answers_a_good_study()
    ward.governance.audit.verify()


# --- hostile studies ---
def _set(**values: Any) -> dict[str, Any]:
    return values


_LOCAL = {"privacy__mode": "local", "evaluation__every": 0}
_ONE_SITE_LESS = [{"name": name, "patients": 100} for name in ("beta", "delta", "gamma")]
HOSTILE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    # what: changes to a good study, each of which alone must make it refused
    "no noise, or next to none": st.sampled_from([0.0, -1.0, 1e-300, 1e-9, 0.1, 0.2999]).map(
        lambda z: _set(privacy__noise_multiplier=z)
    ),
    "less noise than its epsilon takes": st.floats(0.31, 0.9).map(
        lambda z: _set(privacy__noise_multiplier=z)
    ),
    "an evaluation without noise": st.sampled_from([0.0, 1e-9, 0.29]).map(
        lambda z: _set(evaluation__noise_multiplier=z)
    ),
    "a text that a screen obeys": st.sampled_from(
        [_set(title="a\nb"), _set(title="\x1b[2Ja"), _set(contact="\u202ea"), _set(title="<b>a")]
    ),
    "an exact evaluation": st.just(
        _set(evaluation__release="exact", evaluation__noise_multiplier=0.0)
    ),
    "an epsilon that it does not keep": st.sampled_from([1e-9, 0.01, 0.5, 0.0, -1.0]).map(
        lambda e: _set(privacy__epsilon=e)
    ),
    "tiny clip norm, huge steps": st.tuples(
        st.sampled_from([1e-300, 1e-12, 1e-3]), st.sampled_from([1000, 99_999, 100_000, 10**9])
    ).map(
        lambda t: _set(
            **_LOCAL,
            privacy__clip_norm=t[0],
            optimisation__local_steps=t[1],
            optimisation__local_lr=1e4,
        )
    ),
    "several steps on one clipped sum": st.integers(2, 100_000).map(
        lambda n: _set(optimisation__local_steps=n)
    ),
    "a clip norm that is none": st.sampled_from([0.0, -1.0, 1e7, 1e300]).map(
        lambda c: _set(privacy__clip_norm=c)
    ),
    "a delta that means nothing": st.one_of(
        st.sampled_from([0.5, 0.499999, 1.0, 0.0, -1e-5, 2.0]), st.floats(1.1e-5, 1.0)
    ).map(lambda d: _set(privacy__delta=d)),
    "a sampling rate that is none": st.one_of(st.floats(1.0000001, 1e9), st.floats(-1e9, 0.0)).map(
        lambda q: _set(privacy__sampling_rate=q)
    ),
    "rounds that cannot be": st.integers(-(10**6), 0).map(lambda n: _set(optimisation__rounds=n)),
    "more rounds than attempts": st.integers(7, 100_000).map(
        lambda n: _set(optimisation__rounds=n, aggregation__attempts=n)
    ),
    "more attempts than epsilon pays for": st.integers(60, 200_000).map(
        lambda n: _set(aggregation__attempts=n)
    ),
    "rounds and attempts beyond the budget": st.integers(100, 100_000).map(
        lambda n: _set(optimisation__rounds=n, aggregation__attempts=n + 1)
    ),
    "another task's name": st.one_of(
        st.sampled_from(["heart_disease", "exfiltrate", "../../etc/passwd", "os.system", "", "A"]),
        st.text(max_size=20).filter(lambda name: name != TASK),
    ).map(lambda name: _set(task__name=name)),
    "other code of the task": st.binary(min_size=32, max_size=32).map(
        lambda b: _set(task__source=b.hex())
    ),
    "another version of the task": st.integers(-3, 1000)
    .filter(lambda v: v != 1)
    .map(lambda v: _set(task__version=v)),
    "an option of the task": st.dictionaries(
        st.sampled_from(["class_weight", "pos_weight", "loss_reduction", "clip", "batch_norm"]),
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.just(SECRET)),
        min_size=1,
    ).map(lambda options: _set(task__options=options)),
    "another model": st.one_of(
        st.integers(-1, 2**31 + 1)
        .filter(lambda n: n != 31)
        .map(lambda n: _set(model__parameters=n)),
        st.binary(min_size=32, max_size=32).map(lambda b: _set(model__layout=b.hex())),
    ),
    "no privacy": st.just(
        _set(
            privacy={"mode": "none"},
            evaluation={"release": "exact"},
        )
    ),
    "no masks": st.just(_set(aggregation__masked=False)),
    "few sites in a sum": st.integers(-1, 2).map(lambda m: _set(aggregation__least_sites=m)),
    "nobody colludes": st.just(_set(aggregation__colluding_sites=0)),
    "all collude": st.integers(3, 999).map(lambda x: _set(aggregation__colluding_sites=x)),
    "strange words": st.sampled_from([0, 8, 16, 31, 128]).map(
        lambda k: _set(aggregation__word_bits=k)
    ),
    "a strange scale": st.sampled_from([0, -1, 2**41, 0.5]).map(
        lambda s: _set(aggregation__scale=s)
    ),
    "a strange evaluation": st.sampled_from([0.0, 1.0, 1.5, -0.1]).map(
        lambda f: _set(evaluation__fraction=f)
    ),
    "strange bins": st.sampled_from([-1, 0, 1, 4097, 10**9]).map(
        lambda b: _set(evaluation__bins=b)
    ),
    "another purpose": st.sampled_from(["marketing", "insurance", "", "Research", SECRET]).map(
        lambda p: _set(purpose=p)
    ),
    "a roster of others": st.sampled_from(
        [
            _ONE_SITE_LESS,
            [{"name": n, "patients": 100} for n in ("alpha", "beta", "mallory")],
            [{"name": n, "patients": 100} for n in ("alpha", "alpha", "beta")],
            [{"name": n, "patients": 100} for n in ("beta", "alpha", "gamma")],
            [{"name": n, "patients": 100} for n in ("alpha", "beta")],
            [{"name": "alpha", "patients": 100}],
            [],
            [{"name": n, "patients": 19} for n in SITES],
            [{"name": n, "patients": -1} for n in SITES],
            [{"name": n, "patients": 0} for n in SITES],
        ]
    ).map(lambda roster: _set(roster=roster)),
    "another format": st.sampled_from([0, 2, "1", None]).map(lambda f: _set(format=f)),
    "a key that is none": st.sampled_from(["class_weight", "code", f"\n{SECRET}", "__init__"]).map(
        lambda key: _set(**{key: SECRET})
    ),
    "a field of another type": st.sampled_from(
        ["privacy", "optimisation", "aggregation", "evaluation", "task", "model", "title", "nonce"]
    )
    .flatmap(
        lambda key: st.sampled_from([None, [], 7, SECRET, {"x": SECRET}]).map(
            lambda value: _set(**{key: value})
        )
    )
    .filter(lambda changes: changes != {"title": SECRET}),
}
_BESIDE = st.fixed_dictionaries(
    {},
    optional={
        "title": st.just(f"A study of {SECRET}"),
        "contact": st.text(min_size=1, max_size=50),
        "nonce": st.binary(min_size=8, max_size=32).map(bytes.hex),
        "optimisation__local_lr": st.floats(1e-6, 1e4),
        "optimisation__seed": st.integers(0, 2**63 - 1),
        "aggregation__update_range": st.floats(1e-6, 1e6),
    },
)
"""What a study may say freely, so that no two hostile ones are alike."""
hostile_studies = st.tuples(
    st.sampled_from(sorted(HOSTILE)).flatmap(lambda what: HOSTILE[what]), _BESIDE
).map(lambda pair: pair[1] | pair[0])


def changed(study: Study, changes: dict[str, Any]) -> bytes:
    """The document with these changes, unchecked; a key `privacy__delta` reaches into a section."""
    plain = copy.deepcopy(study.model_dump(mode="json"))
    for key, value in changes.items():
        section, inside, name = key.partition("__")
        if inside and section in plain and isinstance(plain[section], dict):
            plain[section][name] = value
        else:
            plain[key] = value
    return canonical(plain)


def test_hostile_studies_are_refused_and_so_is_all_that_builds_on_them(ward: Ward) -> None:
    weights = ward.weights()

    def try_one(changes: dict[str, Any]) -> None:
        document = changed(ward.good, changes)
        ward.refuses(proposal(document))
        unknown = hashlib.sha256(document).hexdigest()
        follow_up: dict[str, Any] = {"study": unknown, "round": 1, "attempt": 1}
        model = hashlib.sha256(weights).hexdigest()
        asked = raw(
            **follow_up, type="prepare", train=True, evaluate=False, model=model, body=weights
        )
        assert ward.refuses(asked) == Code.REFUSED_STUDY
        assert ward.refuses(raw(**follow_up, type="collect", readys=[])) == Code.REFUSED_STUDY

    for what, strategy in HOSTILE.items():
        attack_once(strategy, what, lambda c: ward.refuses(proposal(changed(ward.good, c))))
    assert ward.touched.loaded == 0, "no hostile study had a patient loaded"
    seen = len(ward.seen)
    attack(ward, hostile_studies, 150, try_one)
    assert len(ward.seen) - seen > 350


def test_another_outcome_than_the_task_has_is_refused(ward: Ward) -> None:
    """It says what an evaluation releases, and the noise would be of something else."""
    others = [{"kind": "regression", "low": 0.0, "high": 1.0}, {"kind": "multiclass", "classes": 3}]
    for outcome in others:
        document = changed(ward.good, {"outcome": outcome, "evaluation__bins": 2})
        assert ward.refuses(proposal(document)) == Code.REFUSED_STUDY


def attack_once(strategy: st.SearchStrategy[Any], what: str, send: Callable[[Any], object]) -> None:
    """Two examples of one kind, so that no kind is left to chance."""

    @settings(max_examples=2, deadline=None, database=None)
    @given(strategy)
    def attacked(drawn: Any) -> None:
        try:
            send(drawn)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error

    attacked()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + b" ",
        lambda text: text.replace(b",", b", ", 1),
        lambda text: text.replace(b'"format":1', b'"format":1.0'),
        lambda text: b'{"format":1,' + text[1:],
        lambda text: text[:-1],
        lambda text: text.replace(b"research", b"rese\\u0061rch"),
        lambda text: text + text,
    ],
)
def test_a_document_that_is_not_canonical_is_refused(
    ward: Ward, spoil: Callable[[bytes], bytes]
) -> None:
    spoilt = spoil(ward.good.document)
    assert spoilt != ward.good.document
    assert ward.refuses(proposal(spoilt)) == Code.REFUSED_STUDY


# --- hostile messages of an accepted study ---
@pytest.fixture(scope="module")
def in_hand(ward: Ward) -> tuple[Study, messages.Ready]:
    """An accepted study whose round 3, attempt 4 is prepared and waits for its Collect."""
    study = ward.another()
    assert instance(Standing, ward.ask(proposal(study.document))).state == "accepted"
    ward.collect(study, own := ward.prepare(study, 2, 3), ward.readys(study, own))
    return study, ward.prepare(study, 3, 4)


@dataclass(frozen=True)
class Asked:
    """A Prepare, field by field; None stands for what an honest coordinator would write."""

    round: int
    attempt: int
    train: bool | None
    evaluate: bool | None
    model: str | None
    study: str | None
    body: str

    def hostile(self, study: Study, last: int) -> bool:
        """last: the attempt in hand. An earlier round under a later attempt is a coordinator's that
        was put back."""
        train, evaluate = parts(study, self.round)
        flags = (
            train if self.train is None else self.train,
            evaluate if self.evaluate is None else self.evaluate,
        )
        allowed = any(flags) and all(
            may or not asked for may, asked in zip((train, evaluate), flags, strict=True)
        )
        return not (
            1 <= self.round <= study.optimisation.rounds + 1
            and last < self.attempt <= study.aggregation.attempts
            and allowed
            and (self.model, self.study, self.body) == (None, None, "good")
        )


_places = st.one_of(st.integers(-3, 14), st.sampled_from([10**5, 10**6, 2**31, 2**63, 2**70]))
_maybe = st.sampled_from([None, None, True, False])
_digests = st.one_of(
    st.none(),
    st.none(),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.sampled_from(["", "0" * 64, "F" * 64, SECRET, "0" * 63]),
)
prepares = st.builds(
    Asked,
    round=_places,
    attempt=_places,
    train=_maybe,
    evaluate=_maybe,
    model=_digests,
    study=_digests,
    body=st.sampled_from(["good", "good", "good", "short", "long", "odd", "empty", "nan"]),
)


def test_hostile_prepares_are_refused_and_the_attempt_in_hand_survives(
    ward: Ward, in_hand: tuple[Study, messages.Ready]
) -> None:
    study, own = in_hand
    good = ward.weights()
    bodies = {
        "good": good,
        "short": good[:-4],
        "long": good + bytes(4),
        "odd": good[:-1],
        "empty": b"",
        "nan": np.full(len(good) // 4, np.nan, dtype="<f4").tobytes(),
    }

    def try_one(asked: Asked) -> None:
        train, evaluate = parts(study, asked.round)
        ward.refuses(
            raw(
                type="prepare",
                study=asked.study if asked.study is not None else study.digest,
                round=asked.round,
                attempt=asked.attempt,
                train=train if asked.train is None else asked.train,
                evaluate=evaluate if asked.evaluate is None else asked.evaluate,
                model=asked.model or hashlib.sha256(good).hexdigest(),
                body=bodies[asked.body],
            )
        )

    for round_, attempt in ((3, 4), (2, 3), (1, 1), (3, 3), (2, 4)):
        replayed = ward.refuses(prepared(study, round_, attempt, good))
        assert replayed == Code.REFUSED_REPLAY, (round_, attempt)
    for round_, attempt in ((8, 5), (9, 6), (4, study.aggregation.attempts + 1)):
        assert ward.refuses(prepared(study, round_, attempt, good)) == Code.REFUSED_STUDY
    seen = len(ward.seen)
    attack(ward, prepares.filter(lambda a: a.hostile(study, 4)), 350, try_one)
    assert len(ward.seen) - seen > 250
    ward.collect(study, own, ward.readys(study, own))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1024.001, -1024.001, 2.0**30, -3e38])
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_weights_out_of_range_are_refused_before_anything_is_spent(
    ward: Ward, algorithm: str, value: float
) -> None:
    """The last value sent: with SCAFFOLD, of the server's control variate."""
    study = ward.another(algorithm=algorithm)
    assert instance(Standing, ward.ask(proposal(study.document))).state == "accepted"
    times = 2 if algorithm == "scaffold" else 1
    body = np.tile(np.frombuffer(ward.weights(), dtype="<f4"), times)
    body[-1] = value
    assert ward.refuses(prepared(study, 1, 1, body.tobytes())) == Code.DIVERGED
    body[0], body[-1] = -1024, 1024
    answer = ward.ask(prepared(study, 1, 1, body.tobytes()))
    assert isinstance(answer, messages.Ready), answer
    ward.ask(messages.frame(messages.Close(study=study.digest, outcome="cancelled")))


def started(ward: Ward, weights: bytes, parent: Study | None = None) -> Study:
    """The good study once more, from the model with these weights."""
    before = ward.another() if parent is None else parent
    released = np.frombuffer(weights, dtype="<f4")
    start = StartingModel.of("cancer/1", "c" * 64, before, released).start
    return Study.parse(changed(before, {"start": start.model_dump(), "nonce": "f" * 17}))


def test_a_study_begins_with_the_released_weights_that_it_names_or_not_at_all(ward: Ward) -> None:
    drawn = ward.weights()
    named = (np.frombuffer(drawn, dtype="<f4") + np.float32(0.5)).tobytes()
    study = started(ward, named)
    assert instance(Standing, ward.ask(proposal(study.document))).state == "accepted"
    touched = bytearray(named)
    touched[0] ^= 1
    for other in (drawn, bytes(touched)):
        assert ward.refuses(prepared(study, 1, 1, other)) == Code.WEIGHTS
    assert isinstance(ward.ask(prepared(study, 1, 1, named)), messages.Ready)
    ward.ask(messages.frame(messages.Close(study=study.digest, outcome="cancelled")))


def test_a_site_that_was_in_the_study_before_sees_that_less_epsilon_is_said_to_come_along(
    ward: Ward,
) -> None:
    before = ward.another()
    assert instance(Standing, ward.ask(proposal(before.document))).state == "accepted"
    honest = started(ward, ward.weights(), before)
    assert honest.start is not None
    less = changed(honest, {"start": honest.start.model_dump() | {"epsilon": 0.5}})
    assert ward.refuses(proposal(less)) == Code.REFUSED_STUDY
    assert instance(Standing, ward.ask(proposal(honest.document))).state == "accepted"
    for study in (before, honest):
        ward.ask(messages.frame(messages.Close(study=study.digest, outcome="cancelled")))


def test_forged_readys_open_nothing(ward: Ward) -> None:
    study = ward.another()
    assert instance(Standing, ward.ask(proposal(study.document))).state == "accepted"
    old = ward.prepare(study, 1, 1)
    stale = ward.readys(study, old)
    own = ward.prepare(study, 1, 2)
    good = ward.readys(study, own)
    mallory = Identity.generate()

    def signed_by(name: str, identity: Identity, attempt: int = 2) -> messages.Ready:
        context = replace(
            ward.context(study, own, attempt),
            roster=tuple({**ward.roster, name: identity.public_key.hex()}.items()),
        )
        ready = Party.begin(context, name, identity).ready
        return own.model_copy(update=vars(ready) | {"context": good["alpha"].context})

    forged: dict[str, messages.Ready] = {
        "beta's, by another key": signed_by("beta", mallory),
        "a stranger's": signed_by("mallory", mallory),
        "beta's, of the attempt before": stale["beta"],
        "our own, of the attempt before": stale["alpha"],
        "our own of then, passed off as a later one": stale["alpha"].model_copy(
            update={"attempt": 9}
        ),
        "gamma's in beta's name": good["gamma"].model_copy(update={"site": "beta"}),
        "beta's key, our signature": good["beta"].model_copy(update={"signature": own.signature}),
        "our key in beta's name": good["beta"].model_copy(update={"public_key": own.public_key}),
        "a key of small order": good["beta"].model_copy(update={"public_key": "0" * 64}),
        "our own with another signature": own.model_copy(update={"signature": "0" * 128}),
        "our own with another key": own.model_copy(update={"public_key": good["beta"].public_key}),
        "another context": good["beta"].model_copy(update={"context": "0" * 64}),
    }
    flips = st.tuples(
        st.sampled_from(SITES),
        st.sampled_from(["context", "public_key", "signature"]),
        st.integers(0, 63),
        st.integers(1, 15),
    ).map(lambda t: _flipped(good, *t))
    takes = st.lists(st.sampled_from(sorted(forged)), min_size=1, max_size=3).flatmap(
        lambda names: st.lists(st.sampled_from(SITES), max_size=3, unique=True).map(
            lambda kept: [good[site] for site in kept] + [forged[name] for name in names]
        )
    )
    few = st.lists(st.sampled_from([good["alpha"], good["beta"]]), max_size=1000)
    drawn = st.one_of(
        flips,
        takes.flatmap(st.permutations),
        few,
        st.just(list(stale.values())),
        st.just([good["beta"], good["gamma"], stale["alpha"]]),
    )
    places = st.one_of(
        st.just((1, 2)), st.just((1, 2)), st.tuples(st.integers(1, 9), st.integers(1, 9))
    )

    def try_one(pair: tuple[list[messages.Ready], tuple[int, int]]) -> None:
        readys, (round_, attempt) = pair
        ward.refuses(collected(study, round_, attempt, readys))

    for what, ready in forged.items():
        rest = [good[site] for site in SITES if site != ready.site]
        assert ward.refuses(collected(study, 1, 2, [*rest, ready])), what
    for round_, attempt in ((1, 1), (2, 2), (1, 3)):
        refused = ward.refuses(collected(study, round_, attempt, list(good.values())))
        assert refused == Code.REFUSED_REPLAY
    attack(ward, st.tuples(drawn, places), 250, try_one)
    ward.collect(study, own, good)
    others = ward.readys(study, own)
    assert ward.refuses(collected(study, 1, 2, list(others.values()))) == Code.REFUSED_REPLAY


def _flipped(
    good: dict[str, messages.Ready], site: str, name: str, digit: int, by: int
) -> list[messages.Ready]:
    """The good Readys, one hexadecimal digit of one of them another."""
    text = getattr(good[site], name)
    changed_digit = f"{int(text[digit], 16) ^ by:x}"
    spoilt = text[:digit] + changed_digit + text[digit + 1 :]
    return list({**good, site: good[site].model_copy(update={name: spoilt})}.values())


# --- bytes that are no message ---
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
_types = st.sampled_from(
    [
        "propose",
        "prepare",
        "collect",
        "close",
        "standing",
        "ready",
        "share",
        "refusal",
        "x",
        1,
        None,
    ]
)
_headers = st.one_of(
    st.binary(max_size=300),
    _json.map(lambda value: json.dumps(value).encode()),
    st.tuples(
        _types,
        st.dictionaries(
            st.sampled_from(
                [
                    "study",
                    "document",
                    "round",
                    "attempt",
                    "train",
                    "evaluate",
                    "model",
                    "readys",
                    "outcome",
                    "code",
                    "site",
                    "state",
                    SECRET,
                ]
            ),
            _json,
            max_size=7,
        ),
    ).map(lambda pair: json.dumps({"type": pair[0]} | pair[1]).encode()),
    st.integers(1, 5000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(1, 5000).map(lambda depth: b'{"type":"propose","document":' + b"[" * depth),
    st.integers(1, 3000).map(lambda digits: b'{"type":"prepare","round":' + b"9" * digits + b"}"),
)
_bodies = st.lists(st.binary(max_size=64), max_size=4)


def test_garbage_is_refused(ward: Ward) -> None:
    seen = len(ward.seen)
    attack(
        ward,
        st.builds(Frame, _headers, _bodies),
        350,
        ward.refuses,
    )
    assert len(ward.seen) - seen > 250


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b" " * messages.HEADER_LIMIT + b"}",
        b"x" * (messages.HEADER_LIMIT + 1),
        b'{"type":"propose","document":"' + b"a" * (messages.HEADER_LIMIT // 2 + 1) + b'"}',
        b'{"type":"collect","readys":[' + b"{}," * 300_000 + b"{}]}",
    ],
)
def test_an_oversized_header_is_refused(ward: Ward, header: bytes) -> None:
    assert ward.refuses(Frame(header)) == Code.MESSAGE
    ward.answers_a_good_study()


@pytest.mark.parametrize("kind", ["standing", "ready", "share", "refusal"])
def test_an_answer_is_no_question(
    ward: Ward, in_hand: tuple[Study, messages.Ready], kind: str
) -> None:
    study, own = in_hand
    place = {"study": study.digest, "round": 3, "attempt": 4}
    answers: dict[str, messages.Answer] = {
        "standing": messages.Standing(study=study.digest, state="accepted"),
        "ready": own,
        "share": messages.Share.model_validate(place),
        "refusal": messages.Refusal(study=study.digest, code=Code.INTERNAL),
    }
    assert ward.refuses(messages.frame(answers[kind])) == Code.MESSAGE


def test_a_refusal_is_one_line_of_the_log_whatever_the_message_says(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ward.governance, "_refusals", Throttle(20, 600))  # others' are not counted
    written = io.StringIO()
    logger = logging.getLogger(LOGGER)
    configure("text")
    handler = logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    forged = "12:00:00 INFO all is well"
    for key in (f"x\n{forged}", f"\x1b[2J{forged}", "k" * 400_000):
        ward.refuses(proposal(changed(ward.good, {key: 1})))
    logger.handlers.clear()
    logger.propagate = True
    lines = written.getvalue().splitlines()
    assert len(lines) == 3
    assert all("code=release" in line and line.isprintable() for line in lines)
    assert max(map(len, lines)) < 1200


def test_what_is_refused_is_noted_without_a_word_of_it(
    ward: Ward, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ward.governance, "_refusals", Throttle(3, 600.0))  # others were refused
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    with caplog.at_level(logging.INFO, LOGGER):
        ward.refuses(proposal(changed(ward.good, {"purpose": SECRET, "nonce": "1" * 32})))
        ward.refuses(raw(type="prepare", study=SECRET))
        ward.refuses(Frame(SECRET.encode() * 50))
    entries = ward.governance.audit.entries()
    assert [entry.event for entry in entries[-3:]] == [
        "study_refused",
        "message_refused",
        "message_refused",
    ]
    assert SECRET not in "".join(str(entry.fields) for entry in entries)
