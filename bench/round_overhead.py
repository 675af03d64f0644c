"""What a round costs when training costs nothing: Flower as it comes, and ours.

    python bench/round_overhead.py

Four sites, TLS, node authentication, train and evaluate in every round, 14 float32 parameters;
every site and the coordinator a process of its own on this machine. Both federations stay up for
the whole run, and their studies alternate: stock, ours with masks, ours without, and again. Each
study's first round, which loads libraries, is left out. Seconds are wall clock, from the end of
one round to the end of the next, by the server's own notes.

    A  flower-superlink, 4 flower-supernode, `flwr run` of bench/peers/flower_app: FedAvg, a
       ClientApp that returns what it was sent. Flower's defaults.
    B  `wardround coordinator start`, 4 `wardround-site start`: secure aggregation, ledger and audit
       log on disk, exact evaluation of every round's model by score histogram, one local step.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from peers.flower import StockFlower
from support.deployment import Deployment
from support.figure import figure, load
from support.tasks import NoOp, install
from tasks import registry

SITES = 4
BLOCKS = 2
STOCK_ROUNDS = 3
OUR_ROUNDS = 41
OURS = (
    "privacy=none",
    "privacy.sampling_rate=1",
    "local_steps=1",
    "evaluation=exact",
    "evaluation.every=1",
    f"rounds={OUR_ROUNDS}",
)


def measure(folder: Path) -> dict[str, list[float]]:
    """Seconds of every counted round: stock, masked, plain."""
    env = install(folder)
    task = registry.load(NoOp.name)
    taken: dict[str, list[float]] = {"stock": [], "masked": [], "plain": []}
    with (
        StockFlower(folder / "stock", SITES) as stock,
        Deployment(folder / "ours", task, env) as ours,
    ):
        for _ in range(BLOCKS):
            times = stock.run(STOCK_ROUNDS)
            taken["stock"] += [after - before for before, after in pairwise(times)][1:]
            for masked in ("true", "false"):
                name = "masked" if masked == "true" else "plain"
                taken[name] += ours.run(*OURS, f"federation.masked={masked}")
    return taken


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        taken = measure(Path(folder))
    stock, masked, plain = (statistics.median(taken[k]) for k in ("stock", "masked", "plain"))
    busy = load()
    held = [
        figure(
            "stock_over_ours",
            stock / masked,
            "times the seconds of a round",
            20.0,
            least=True,
            aim=50.0,
            load=busy,
        ),
        figure(
            "seconds_per_round",
            masked,
            "s",
            0.3,
            stock=round(stock, 2),
            fastest=round(min(taken["masked"]), 3),
            load=busy,
        ),
        figure(
            "secure_aggregation_adds",
            masked / plain - 1,
            "of the plain round",
            0.6,
            plain=round(plain, 4),
        ),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
