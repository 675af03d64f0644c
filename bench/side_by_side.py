"""A round of wardround beside one of NVFlare and one of Flower: seconds, memory, bytes.

    python bench/side_by_side.py [--sites 4 8] [--parameters 14 10000 11000000] [--plot FILE]

All on this machine over TLS, each party a process of its own that knows the others by their keys;
nobody trains anything, nobody evaluates. All federations of a number of sites stay up, and their
studies alternate. Median seconds of a round, the first left out, by each server's or first client's
own clock; memory of all processes of the coordinator, its peak above what it held before the study;
bytes on the loopback interface a round and a site, headers of TCP and IP included, so that nothing
else may use it meanwhile. A peer that does not start is named and left out; its bars do not hold.

    wardround         secure aggregation, ledger and audit log on disk; privacy=none
    NVFlare           provisioned, FedAvg in NumPy as its recipe makes it (peers/nvflare.py)
    NVFlare tuned     the same with its three polling intervals at 0.05 s and an Executor of its own
    Flower            flower-superlink and flower-supernode with their defaults, FedAvg

NVFlare is installed into an environment of its own, which --environment keeps for another time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt

from peers import nvflare
from peers.flower import StockFlower
from peers.nvflare import NvFlare
from support.deployment import COORDINATOR, Deployment, round_times
from support.figure import figure, load
from support.tasks import SIZED, install
from support.watch import Watch
from tasks import registry

BLOCKS = 2
SMALL, LARGE = 14, 11_000_000
OURS = ("privacy=none", "privacy.sampling_rate=1", "local_steps=1", "evaluation=off",
        "federation.masked=true")  # fmt: skip
TUNED = 0.05
"""Seconds of NVFlare's polling intervals; its own are half a second and two."""
REMEDIES = {
    "NVFlare": "It is installed from a package registry: name a folder that has it, or is to have "
    "it, with --environment, and look at the end of its logs above.",
    "Flower": "Its programs come with this environment: install constraints.txt again, and look at "
    "the end of its logs above.",
}
ROUNDS = {"wardround": 11, "NVFlare": 5, "NVFlare tuned": 9, "Flower": 3}


@dataclass(frozen=True)
class Shown:
    """What studies showed. seconds: of each round; memory: bytes above what the coordinator held
    before; peak: all that it held; carried: bytes a round and a site."""

    seconds: list[float]
    memory: int
    peak: int
    carried: float


@dataclass(frozen=True)
class Side:
    """One federation, kept up. run: a study of (rounds, parameters), to its rounds' times."""

    process: int
    run: Callable[[int, int], list[float]]


def absent(peer: str, error: Exception) -> None:
    """Names a peer that cannot be installed, started or run, and what to do. The others go on."""
    print(f"{peer} is left out: {error}\n  {REMEDIES[peer]}", file=sys.stderr)


def sides(stack: ExitStack, folder: Path, sites: int, python: Path | None) -> dict[str, Side]:
    """Starts all federations of so many sites. One that does not start is named and left out.
    python: an interpreter with NVFlare, where there is one."""
    folder.mkdir()
    tasks = {size: task for (number, size), task in SIZED.items() if number == sites}
    env = install(folder, *tasks.values())
    found = dict[str, Side]()
    ours = stack.enter_context(
        Deployment(
            folder / "ours",
            registry.load(tasks[SMALL].name),
            env,
            also=[task.name for size, task in tasks.items() if size != SMALL],
        )
    )

    def run(rounds: int, parameters: int) -> list[float]:
        task = registry.load(tasks[parameters].name)
        return round_times(ours.remote, task, ours.folder, (*OURS, f"rounds={rounds}"))

    found["wardround"] = Side(ours.guard(COORDINATOR), run)
    if python is not None:
        try:
            other = stack.enter_context(NvFlare(folder / "nvflare", sites, python))
            found["NVFlare"] = Side(other.coordinator, other.run)
            found["NVFlare tuned"] = Side(
                other.coordinator, lambda rounds, size: other.run(rounds, size, TUNED)
            )
        except RuntimeError as error:
            absent("NVFlare", error)
    try:
        flower = stack.enter_context(StockFlower(folder / "flower", sites))
        found["Flower"] = Side(
            flower.coordinator, lambda rounds, size: flower.run(rounds, size, evaluate=False)
        )
    except RuntimeError as error:
        absent("Flower", error)
    return found


def warmed(found: dict[str, Side]) -> dict[str, Side]:
    """Those of the federations that can run a study: it loads their libraries. Raises RuntimeError
    where ours cannot."""
    running = dict[str, Side]()
    for name, side in found.items():
        try:
            side.run(ROUNDS[name], SMALL)
            running[name] = side
        except RuntimeError as error:
            if name == "wardround":
                raise
            absent(name.removesuffix(" tuned"), error)
    return running


def measure(side: Side, rounds: int, parameters: int, sites: int) -> Shown:
    with Watch(side.process) as watch:
        times = side.run(rounds, parameters)
    seconds = [after - before for before, after in pairwise(times)][1:]
    carried = watch.carried(times[1], times[-1]) / len(seconds) / sites
    return Shown(seconds, watch.peak - watch.idle, watch.peak, carried)


def together(shown: Sequence[Shown]) -> Shown:
    """Of several studies: all rounds, the most memory, the mean of the bytes."""
    return Shown(
        [second for one in shown for second in one.seconds],
        max(one.memory for one in shown),
        max(one.peak for one in shown),
        statistics.mean(one.carried for one in shown),
    )


def compare(
    folder: Path, sites: int, sizes: Sequence[int], python: Path | None
) -> dict[tuple[str, int], Shown]:
    """(Side, parameters) -> what it showed."""
    taken: defaultdict[tuple[str, int], list[Shown]] = defaultdict(list)
    with ExitStack() as stack:
        found = warmed(sides(stack, folder, sites, python))
        for parameters in sizes:
            for _ in range(BLOCKS):
                for name, side in tuple(found.items()):
                    print(f"{sites} sites, {parameters} parameters: {name}", file=sys.stderr)
                    try:
                        shown = measure(side, ROUNDS[name], parameters, sites)
                    except RuntimeError as error:
                        if name == "wardround":
                            raise
                        absent(name.removesuffix(" tuned"), error)
                        del found[name]
                        taken.pop((name, parameters), None)
                        continue
                    taken[name, parameters].append(shown)
    return {key: together(shown) for key, shown in taken.items()}


def report(sites: int, found: dict[tuple[str, int], Shown]) -> list[bool]:
    """Prints a line for each side and size, and the figures of the bars."""
    for (name, parameters), shown in found.items():
        line = {
            "side": name, "sites": sites, "parameters": parameters,
            "seconds": round(statistics.median(shown.seconds), 3),
            "coordinator_mb_above_idle": round(shown.memory / 1e6, 1),
            "coordinator_mb": round(shown.peak / 1e6, 1),
            "kb_a_round_and_site": round(shown.carried / 1e3, 1), "load": load(),
        }  # fmt: skip
        print(json.dumps(line), flush=True)
    held = list[bool]()
    for parameters, bar in ((SMALL, 8.0), (LARGE, 0.5)):
        key, other = ("wardround", parameters), ("NVFlare tuned", parameters)
        title = f"{sites} sites, {parameters} parameters: tuned NVFlare over wardround"
        if key not in found:
            continue  # not asked for
        if other not in found:
            print(f"{title}: not measured, so that it does not hold", file=sys.stderr)
            held.append(False)
            continue
        ours, theirs = found[key], found[other]
        seconds = statistics.median(theirs.seconds) / statistics.median(ours.seconds)
        held.append(figure(f"{title}, seconds", seconds, "times", bar, least=True))
        if parameters == LARGE:
            ratio = ours.memory / theirs.memory
            held.append(figure(f"{title}, the coordinator's memory", 1 / ratio, "times", 4.0,
                               least=True))  # fmt: skip
    return held


def plot(path: Path, found: dict[int, dict[tuple[str, int], Shown]]) -> None:
    """Seconds of a round against the number of parameters, one line a side, one panel a number of
    sites."""
    figure_, panels = plt.subplots(1, len(found), sharey=True, squeeze=False, layout="constrained")
    for panel, (sites, shown) in zip(panels[0], found.items(), strict=True):
        for name in dict.fromkeys(name for name, _ in shown):
            sizes = [size for side, size in shown if side == name]
            medians = [statistics.median(shown[name, size].seconds) for size in sizes]
            panel.plot(sizes, medians, marker="o", label=name)
        panel.set(xscale="log", yscale="log", title=f"{sites} sites", xlabel="parameters")
    panels[0][0].set_ylabel("seconds a round")
    panels[0][-1].legend(frameon=False)
    figure_.set_size_inches(4 * len(found) + 1, 4)
    figure_.savefig(path)


def main() -> int:
    given = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers, sizes = ({key[k] for key in SIZED} for k in (0, 1))
    given.add_argument("--sites", type=int, nargs="+", choices=sorted(numbers), default=[4, 8])
    given.add_argument("--parameters", type=int, nargs="+", choices=sorted(sizes),
                       default=sorted(sizes))  # fmt: skip
    given.add_argument("--environment", type=Path, help="a folder for NVFlare's environment")
    given.add_argument("--plot", type=Path, help="an .svg or .png of the seconds")
    options = given.parse_args()
    found, held = dict[int, dict[tuple[str, int], Shown]](), list[bool]()
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as name:
        folder = Path(name)
        python = None
        try:
            python = nvflare.environment(options.environment or folder / "environment")
        except RuntimeError as error:
            absent("NVFlare", error)
        for sites in options.sites:
            found[sites] = compare(folder / f"of{sites}", sites, options.parameters, python)
            held += report(sites, found[sites])
    if options.plot:
        plot(options.plot, found)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
