"""A stock Flower app: FedAvg, train and, where it is asked for, evaluate each round, and nothing
computed.

The server notes the time after every round in the file of the run configuration's `marks`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """The model as it came."""
    metrics = MetricRecord({"num-examples": 10})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content, reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """A metric of nothing."""
    metrics = MetricRecord({"num-examples": 10, "auc": 0.5})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    marks, sites = Path(str(config["marks"])), int(config["sites"])

    def note(round_: int, arrays: ArrayRecord) -> None:
        with marks.open("a") as file:
            file.write(f"{time.time()}\n")

    strategy = FedAvg(
        fraction_evaluate=float(bool(config["evaluate"])),
        min_train_nodes=sites,
        min_evaluate_nodes=sites,
        min_available_nodes=sites,
    )
    drawn = np.random.default_rng(0)
    weights = 0.01 * drawn.standard_normal(int(config["parameters"]), np.float32)
    arrays = ArrayRecord([weights])
    strategy.start(grid, arrays, num_rounds=int(config["rounds"]), evaluate_fn=note)
