"""A client of NVFlare that returns what it was sent, and notes when it was sent it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nvflare.client as flare

given = argparse.ArgumentParser()
given.add_argument("--marks", type=Path, required=True)
marks = given.parse_args().marks
flare.init()
first = flare.get_site_name() == "site-1"
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    if first:
        with marks.open("a") as file:
            file.write(f"{time.time()}\n")
    flare.send(flare.FLModel(params=model.params, metrics={"accuracy": 0.5}))
if first:
    with marks.open("a") as file:
        file.write("end\n")
