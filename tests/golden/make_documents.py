"""Part of `make.py`: studies, messages, secure aggregation and enrolment, with their bad twins.

A bad twin is a good file with one thing wrong, `*_bad_*` beside it; it must be refused for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.document import canonical
from protocol.errors import Code
from protocol.identity import Identity, fingerprint
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.context import Context, check_readys, roster_digest
from protocol.secagg.party import Party
from protocol.study.query import Query
from protocol.study.study import Study
from protocol.wire import messages
from tests.golden.make_federation import Making
from tests.golden.make_twins import TWINS
from tests.protocol.query_document import asked
from tests.protocol.study_document import study

_NONE: dict[str, Any] = {
    "privacy": {"mode": "none"},
    "evaluation": {"release": "exact"},
}
_LOCAL: dict[str, Any] = {"privacy__mode": "local"}
_BARE: dict[str, Any] = {**_LOCAL, "aggregation__masked": False}
_QUERY: dict[str, Any] = {
    "where": {
        "kind": "and",
        "of": [
            {"kind": "compares", "column": "age", "order": ">=", "value": 60.0},
            {
                "kind": "or",
                "of": [
                    {"kind": "among", "column": "sex", "categories": ["f"]},
                    {"kind": "not", "of": {"kind": "missing", "column": "chol"}},
                ],
            },
        ],
    },
    "statistics": [
        {"kind": "cells", "name": "patients"},
        {
            "kind": "cells",
            "name": "age by sex and cholesterol",
            "where": {"kind": "compares", "column": "trestbps", "order": "<", "value": 140.0},
            "axes": [
                {"kind": "bins", "column": "age", "edges": [30, 50.5, 70], "outside": True},
                {"kind": "categories", "column": "sex", "categories": ["f", "m"]},
                {
                    "kind": "holds",
                    "condition": {
                        "kind": "compares",
                        "column": "chol",
                        "order": ">",
                        "value": 240.0,
                    },
                },
            ],
        },
        {
            "kind": "cells",
            "name": "quartiles of age",
            "axes": [{"kind": "bins", "column": "age", "edges": [20, 40, 60, 80]}],
            "quantiles": [0.25, 0.5, 0.75],
        },
        {"kind": "mean", "name": "mean age", "column": "age", "low": 20.0, "high": 90.0},
    ],
    "least_count": 5,
}


def studies() -> dict[str, Study]:
    """Every privacy mode, every algorithm with its options, and what else a study may choose."""
    training = {"rounds": 20}
    local: dict[str, dict[str, Any]] = {
        "fedavg": {"name": "fedavg"},
        "fedprox": {"name": "fedprox", "mu": 0.05},
        "scaffold": {"name": "scaffold"},
        "fedbn": {"name": "fedbn"},
        "ditto": {"name": "ditto", "attraction": 0.3, "steps": 7, "lr": 0.02},
    }
    made = {f"none_{n}": study(**_NONE, optimisation=training | {"local": a, "local_steps": 3})
            for n, a in local.items()}  # fmt: skip
    made |= {f"local_{n}": study(**_LOCAL, optimisation=training | {"local": a, "local_steps": 3})
             for n, a in local.items()}  # fmt: skip
    made |= {
        f"distributed_{name}": study(optimisation=training | {"local": local[name]})
        for name in ("fedavg", "ditto")
    }
    personal = local["ditto"] | {"evaluated": "personal"}
    made["none_ditto_personal"] = study(**_NONE, optimisation=training | {"local": personal})
    made["distributed_site_rounding"] = study(aggregation__rounding="site")
    made["distributed_words_64"] = study(aggregation__word_bits=64, aggregation__scale=2**30)
    made["evaluated_every_2"] = study(evaluation__every=2, evaluation__bins=512)
    exact = {"release": "exact"}
    made["local_exactly_evaluated"] = study(**_LOCAL, evaluation=exact)
    made["distributed_exactly_evaluated"] = study(evaluation=exact)
    made["split_by_column"] = study(evaluation__split="column", evaluation__fraction=0.25)
    robust: tuple[dict[str, Any], ...] = (
        {"name": "median"},
        {"name": "trimmed_mean", "byzantine": 1},
        {"name": "krum", "byzantine": 0},
    )
    made |= {f"robust_{r['name']}": study(**_BARE, aggregation__robust=r) for r in robust}
    made["unmasked_none"] = study(**_NONE, aggregation__masked=False)
    made["unmasked_local"] = study(**_BARE)
    made["unmasked_distributed"] = study(aggregation__masked=False)
    schedules: tuple[dict[str, Any], ...] = (
        {"name": "constant", "warmup": 3},
        {"name": "cosine", "warmup": 2, "floor": 0.1},
        {"name": "step", "every": 4, "factor": 0.7},
    )
    made |= {
        f"schedule_{s['name']}": study(optimisation=training | {"schedule": s}) for s in schedules
    }
    for metric in ("auc", "average_precision", "accuracy", "brier", "log_loss"):
        stop = {"metric": metric, "patience": 3, "least": 0.01}
        made[f"stop_{metric}"] = study(optimisation=training | {"stop": stop}, evaluation__every=1)
    made["averaged"] = study(optimisation=training | {"averaging": "last_half", "seed": 2**62})
    for name in ("fedavgm", "fedadam", "fedyogi", "fedadagrad"):
        server = {"name": name, "lr": 0.01, "momentum": 0.9, "beta1": 0.8, "beta2": 0.95}
        made[f"server_{name}"] = study(optimisation=training | {"server": server | {"tau": 1e-4}})
    options = {"model": "cnn", "pretrained": True, "size": 64, "dropout": 0.25}
    made["task_options"] = study(task__options=options)
    made["in_other_letters"] = study(title="Сердце: Herzkrankheit, 心臓病 ❤")
    made["sites_50"] = study(
        roster=[{"name": f"site-{n:02d}", "patients": 10 * n + 10} for n in range(50)],
        aggregation__least_sites=25,
        aggregation__colluding_sites=5,
    )
    made["query_laplace"] = asked()
    query = Query.model_validate(_QUERY).model_dump()
    made["query_everything"] = asked(query)
    made["query_skellam"] = asked({"mechanism": "skellam"}, evaluation__scale=16)
    return made


def study_twins(good: Study) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, document) of a study that must be refused."""
    text, plain = good.document, json.loads(good.document)
    backwards = dict(reversed(plain.items()))
    yield "unsorted_keys", json.dumps(backwards, separators=(",", ":")).encode()
    inner = plain | {"privacy": dict(reversed(plain["privacy"].items()))}
    yield "unsorted_keys_within", json.dumps(inner, separators=(",", ":")).encode()
    yield "spaces", json.dumps(plain, sort_keys=True).encode()
    yield "one_space", text.replace(b":", b": ", 1)
    yield "lines", json.dumps(plain, sort_keys=True, indent=1).encode()
    yield "space_before", b" " + text
    yield "byte_order_mark", b"\xef\xbb\xbf" + text
    yield "newline_after", text + b"\n"
    yield "nul_after", text + b"\0"
    yield "brace_after", text + b"}"
    yield "twice", text + text
    yield "key_twice_same", text.replace(b'"format":1', b'"format":1,"format":1')
    yield "key_twice_other", text.replace(b'"epsilon":1.0', b'"epsilon":9.0,"epsilon":1.0')
    yield "unknown_field", canonical(plain | {"surprise": 1})
    yield "unknown_field_within", canonical(plain | {"privacy": plain["privacy"] | {"free": True}})
    for name, wrong in (("0", 0), ("999", 999), ("text", "1"), ("list", [1]), ("null", None)):
        yield f"format_{name}", canonical(plain | {"format": wrong})
    for token in ("NaN", "Infinity", "-Infinity", "1e999"):
        name = token.lower().replace("-", "minus_")
        yield name, text.replace(b'"epsilon":1.0', f'"epsilon":{token}'.encode())
    yield "longer_number", text.replace(b'"epsilon":1.0', b'"epsilon":1.00')
    yield "number_as_text", text.replace(b'"epsilon":1.0', b'"epsilon":"1.0"')
    yield "escaped_letter", text.replace(b"Heart", b"\\u0048eart")
    yield "not_utf8", text.replace(b"Heart", b"\xff\xfeart")
    yield "surrogate", text.replace(b"Heart", b"\\ud800eart")
    yield "cut_short", text[:-1]
    yield "half", text[: len(text) // 2]
    yield "empty", b""
    yield "list", b"[" + text + b"]"
    yield "null", b"null"
    yield "deep", b"[" * 5_000
    yield "capital_digest", text.replace(b'"source":"' + b"a" * 64, b'"source":"' + b"A" * 64)
    yield "roster_unsorted", canonical(plain | {"roster": plain["roster"][::-1]})
    yield "mode_unknown", text.replace(b'"mode":"distributed"', b'"mode":"trusted"')


def _frames(made: Making) -> dict[str, tuple[messages.Request | messages.Answer, bytes]]:
    """One of every kind and variant, with its body."""
    about, model = "5" * 64, np.linspace(-1, 1, 45, dtype=np.float32).tobytes()
    ready = messages.Ready(
        study=about, round=3, attempt=4, site="east", context="c" * 64,
        public_key="d" * 64, signature="e" * 128,
    )  # fmt: skip
    others = [ready.model_copy(update={"site": name}) for name in ("north", "south")]
    document = study().document.decode()
    place: dict[str, Any] = {"study": about, "round": 3, "attempt": 4}
    train: dict[str, Any] = {"train": True, "evaluate": False}
    prepare = messages.Prepare(**place, **train, model=hashlib.sha256(model).hexdigest())
    score = {"train": False, "evaluate": True}
    words = np.arange(10, dtype="<u4").tobytes()
    return {
        "propose": (messages.Propose(document=document), b""),
        "propose_with_roster": (messages.Propose(document=document, roster="a" * 64), b""),
        "propose_dry": (messages.Propose(document=document, dry=True), b""),
        "standing_accepted": (messages.Standing(study=about, state="accepted"), b""),
        "standing_waiting": (
            messages.Standing(study=about, state="waiting", code=Code.OUTSIDE_HOURS),
            b"",
        ),
        "standing_refused": (
            messages.Standing(
                study=about, state="refused", code=Code.REFUSED_POLICY, rules=("modes", "delta")
            ),
            b"",
        ),
        "standing_closed": (messages.Standing(study=about, state="closed"), b""),
        "prepare": (prepare, model),
        "prepare_lost": (prepare.model_copy(update={"lost": (1, 2)}), model),
        "prepare_evaluate": (prepare.model_copy(update=score), model),
        "ready": (ready, b""),
        "collect": (messages.Collect(**place, readys=(ready, *others)), b""),
        "share": (messages.Share(**place), words),
        **{
            f"close_{outcome}": (
                messages.Close.model_validate({"study": about, "outcome": outcome}),
                b"",
            )
            for outcome in ("finished", "failed", "cancelled")
        },
        "refusal": (messages.Refusal(study=about, code=Code.LEDGER), b""),
        "refusal_of_no_study": (messages.Refusal(study=None, code=Code.MESSAGE), b""),
    }


def message_twins(header: bytes) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, header) of a Prepare that must be refused."""
    plain = json.loads(header)
    for number in ("NaN", "Infinity", "-Infinity", "0", "-1", "1.5", "1e3", "true", '"3"', "[3]"):
        name = {"-Infinity": "minus_infinity", "-1": "minus_1", '"3"': "text", "[3]": "list"}
        wrong = header.replace(b'"round":3', f'"round":{number}'.encode())
        yield f"round_{name.get(number, number.lower().replace('.', '_'))}", wrong
    yield "key_twice_same", header.replace(b'"round":3', b'"round":3,"round":3')
    yield "key_twice_other", header.replace(b'"round":3', b'"round":9,"round":3')
    yield "key_missing", canonical({k: v for k, v in plain.items() if k != "model"})
    yield "kind_unknown", canonical(plain | {"type": "surprise"})
    yield "kind_missing", canonical({k: v for k, v in plain.items() if k != "type"})
    yield "not_utf8", header.replace(b'"type"', b'"\xff\xfe"')
    yield "byte_order_mark", b"\xef\xbb\xbf" + header
    yield "nul_after", header + b"\0"
    yield "brace_after", header + b"}"
    yield "twice", header + header
    yield "cut_short", header[:-1]
    yield "empty", b""
    yield "null", b"null"
    yield "list", b"[" + header + b"]"
    yield "deep", b'{"type":' * 5_000
    yield "capital_digest", canonical(plain | {"study": "A" * 64})
    yield "too_many_lost", canonical(plain | {"lost": [1] * 1001})


def message_variants(header: bytes) -> Iterator[tuple[str, bytes]]:
    """(how it is written, header) of a Prepare that says the same in other bytes."""
    plain = json.loads(header)
    backwards = dict(reversed(plain.items()))
    yield "unsorted_keys", json.dumps(backwards, separators=(",", ":")).encode()
    yield "spaces", json.dumps(plain, sort_keys=True).encode()
    yield "newline_after", header + b"\n"


def make_documents(folder: Path, made: Making) -> None:
    """studies/, messages/, conversation/, aggregation.json, and twins of card and bundle."""
    _make_studies(folder / "studies")
    _make_messages(folder / "messages", made)
    _make_conversation(folder / "conversation", made)
    _make_aggregation(folder / "aggregation.json")
    _make_enrolment(folder)


def _make_studies(folder: Path) -> None:
    folder.mkdir()
    digests = {}
    for name, one in studies().items():
        (folder / f"{name}.json").write_bytes(one.document)
        digests[name] = one.digest
    for name, document in study_twins(study()):
        (folder / f"study_bad_{name}.json").write_bytes(document)
    _write(folder.parent / "digests.json", digests)


def _make_messages(folder: Path, made: Making) -> None:
    folder.mkdir()
    values = {}
    for name, (message, body) in _frames(made).items():
        framed = messages.frame(message, [body] if body else ())
        (folder / f"{name}.frame").write_bytes(framed.header)
        if framed.body:
            (folder / f"{name}.body").write_bytes(b"".join(map(bytes, framed.body)))
        values[name] = message.model_dump(mode="json")
    good = (folder / "prepare.frame").read_bytes()
    for name, header in message_twins(good):
        (folder / f"prepare_bad_{name}.frame").write_bytes(header)
    for name, header in message_variants(good):
        (folder / f"prepare_as_{name}.frame").write_bytes(header)
    share = (folder / "share.body").read_bytes()
    (folder / "share_bad_short.body").write_bytes(share[:-1])
    (folder / "share_bad_long.body").write_bytes(share + b"\0")
    _write(folder / "values.json", values)


def _make_conversation(folder: Path, made: Making) -> None:
    """What the hospital `south` heard and answered in the study that was left running."""
    folder.mkdir()
    running = made.expected["running"]
    heard = [frame for about, frame in made.gate.heard if about == running]
    told: list[dict[str, Any]] = []
    for frame in heard:
        message = messages.parse(frame)
        if told and message.type == "propose" == told[0]["type"]:
            continue
        if message.type == "standing" and any(one["type"] == "standing" for one in told):
            continue
        number = f"{len(told):02d}"
        (folder / f"{number}.frame").write_bytes(frame.header)
        (folder / f"{number}.body").write_bytes(b"".join(map(bytes, frame.body)))
        told.append({"type": message.type, "body": sum(len(bytes(c)) for c in frame.body)})
        if message.type == "share" and len(told) > 12:
            break
    _write(folder / "kinds.json", told)


def _make_aggregation(path: Path) -> None:
    """One attempt of secure aggregation among three, with every key and all that follows."""
    names = ("east", "north", "south")
    identities = {name: Identity.generate() for name in names}
    roster = tuple((name, identities[name].public_key.hex()) for name in names)
    context = Context("5" * 64, "update", 3, 4, "a" * 64, roster)
    parties = {name: Party.begin(context, name, identities[name]) for name in names}
    readys = [party.ready for party in parties.values()]
    agreed = check_readys(context, readys, least_sites=3)
    secrets = {}
    for name, party in parties.items():
        secret = party._secret
        assert secret is not None
        secrets[name] = secret.private_bytes_raw().hex()
    drawn = np.random.default_rng(1)
    given = {name: drawn.integers(-1000, 1000, 20) for name in names}
    opening = ShareSum(names, 20, 32)
    shares = {}
    for name, party in parties.items():
        share = party.share(given[name].astype(np.uint32), readys, 3)
        opening.fold(name, messages.chunks(share))
        shares[name] = share.astype("<u4").tobytes().hex()
    _write(
        path,
        {
            "study": context.study,
            "kind": context.kind,
            "round": 3,
            "attempt": 4,
            "model": context.model,
            "roster": dict(roster),
            "roster_digest": roster_digest(roster),
            "fingerprints": {name: fingerprint(bytes.fromhex(key)) for name, key in roster},
            "context": context.digest,
            "exact_context": Context("5" * 64, "update", 3, 4, "a" * 64, roster, exact=True).digest,
            "readys": [vars(ready) for ready in readys],
            "agreed": agreed.context.hex(),
            "one_time_secrets": secrets,
            "contributions": {name: numbers.tolist() for name, numbers in given.items()},
            "shares": shares,
            "sum": opening.open().tolist(),
        },
    )


def _make_enrolment(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    bundle = json.loads((folder / "bundle.json").read_text())
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = curve.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    twins: dict[str, bytes] = {
        "card_bad_unknown_field": json.dumps(card | {"surprise": 1}).encode(),
        "card_bad_no_identity": json.dumps({k: card[k] for k in ("site", "node_key")}).encode(),
        "card_bad_capital_identity": json.dumps(
            card | {"identity": card["identity"].upper()}
        ).encode(),
        "card_bad_other_curve": json.dumps(card | {"node_key": other}).encode(),
        "card_bad_no_key": json.dumps(card | {"node_key": "none"}).encode(),
        "card_bad_cut_short": json.dumps(card).encode()[:-2],
        "card_bad_not_utf8": json.dumps(card).encode().replace(b"north", b"nor\xff\xfe"),
        "bundle_bad_unknown_field": json.dumps(bundle | {"surprise": 1}).encode(),
        "bundle_bad_no_roster": json.dumps(bundle | {"roster": {}}).encode(),
        "bundle_bad_no_authority": json.dumps(bundle | {"ca": "none"}).encode(),
        "bundle_bad_short_key": json.dumps(bundle | {"roster": {"north": "ab"}}).encode(),
        "bundle_bad_cut_short": json.dumps(bundle).encode()[:-2],
    }
    for name, content in twins.items():
        (folder / TWINS / f"{name}.json").write_bytes(content)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
