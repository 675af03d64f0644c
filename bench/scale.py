"""What 200 sites cost: bytes that a site receives, masks that it makes, memory of the coordinator.

    python bench/scale.py                 # all of it
    python bench/scale.py --no-memory     # without the coordinator: no process is started

Bytes are those of the messages of one round, the model left out, with site names of 14 characters.
A share is what a site does for a Collect, on one thread: check all signatures, derive the keys, add
noise and masks of 11 million words. The coordinator's memory is that of bench/coordinator_memory.py
(peak above idle, sites that are light threads over TLS) for a model of 14 parameters.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import coordinator_memory
from protocol.identity import Identity
from protocol.secagg.context import Context
from protocol.secagg.party import Party
from protocol.wire import messages
from support.figure import figure, load
from support.tasks import NoOp, install

SITES = 200
PARAMETERS = 11_000_000
NOTHING = "0" * 64


def begun(sites: int) -> list[Party]:
    keys = {f"hospital-{number:05}": Identity.generate() for number in range(sites)}
    roster = tuple((site, key.public_key.hex()) for site, key in keys.items())
    context = Context(NOTHING, "update", 1, 1, NOTHING, roster)
    return [Party.begin(context, site, key) for site, key in keys.items()]


def received(parties: list[Party]) -> int:
    """Bytes of the messages of one round that a site is sent, the model left out."""
    place = {"study": NOTHING, "round": 1, "attempt": 1}
    readys = [
        messages.Ready.model_validate(
            place
            | {
                "site": party.ready.site,
                "context": party.ready.context,
                "public_key": party.ready.public_key,
                "signature": party.ready.signature,
            }
        )
        for party in parties
    ]
    collect = messages.Collect.model_validate(place | {"readys": readys})
    asked = messages.Prepare.model_validate(
        place | {"train": True, "evaluate": True, "model": NOTHING}
    )
    return messages.frame(asked).size + messages.frame(collect).size


def share(parties: list[Party]) -> float:
    """Seconds of processor time for one site's masked share."""
    words = np.arange(PARAMETERS, dtype=np.uint32)
    readys = [party.ready for party in parties]
    started = time.process_time()
    parties[0].share(words, readys, 3)
    return time.process_time() - started


def memory(folder: Path) -> bool:
    """The coordinator's, with 20 sites and with 200."""
    env = install(folder)
    peaks = {
        sites: coordinator_memory.peak(sites, folder / f"of{sites}", env, NoOp.name)[0]
        for sites in (20, SITES)
    }
    whole = {sites: peak / 1e6 for sites, peak in peaks.items()}
    return figure(
        "coordinator_memory_200_over_20",
        peaks[SITES] / peaks[20],
        "ratio of peaks above idle",
        1.1,
        mb_of_20=round(whole[20], 1),
        mb_of_200=round(whole[SITES], 1),
        load=load(),
    )


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--no-memory", action="store_true", help="start no coordinator")
    options = given.parse_args()
    few, many = begun(4), begun(SITES)
    of_few, of_many = received(few), received(many)
    held = [
        figure(
            "received_by_a_site_200_sites",
            of_many / 1000,
            "kB a round, without the model",
            25.0,
            of_4_sites_kb=round(of_few / 1000, 2),
            bytes_a_site_more=round((of_many - of_few) / (SITES - 4), 1),
        ),
        figure("share_11m_words_200_sites", share(many), "s, one core", 8.0, load=load()),
    ]
    if not options.no_memory:
        with tempfile.TemporaryDirectory(prefix="wardround-bench-") as name:
            held.append(memory(Path(name)))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
