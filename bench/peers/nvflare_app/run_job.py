"""One job of NVFlare's own FedAvg in NumPy, submitted with the administrator's startup kit, to its
end. Exit code 1 where it does not finish.

    python run_job.py KIT FOLDER --sites 4 --rounds 5 --parameters 14 --marks FILE [--every .05]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.fuel.flare_api.flare_api import new_secure_session

ADMINISTRATOR = "admin@bench.org"


def tune(job: Path, seconds: float, marks: Path) -> None:
    """Sets the three intervals at which NVFlare looks for work (half a second to two by default),
    and takes an Executor in place of the script."""
    server, client = (job / "app" / "config" / f"config_fed_{k}.json" for k in ("server", "client"))
    config = json.loads(server.read_text())
    for workflow in config["workflows"]:
        workflow["args"]["task_check_period"] = seconds
    server.write_text(json.dumps(config | {"server": {"task_request_interval": seconds}}))
    config = json.loads(client.read_text())
    for entry in config["executors"]:
        entry["executor"] = {"path": "executor.ReturnWhatCame", "args": {"marks": str(marks)}}
    client.write_text(json.dumps(config | {"default_task_fetch_interval": seconds}))
    shutil.copy(Path(__file__).with_name("executor.py"), job / "app" / "custom")


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("kit", help="the administrator's startup kit")
    given.add_argument("folder", type=Path, help="a new folder for the job")
    given.add_argument("--sites", type=int, required=True)
    given.add_argument("--rounds", type=int, required=True)
    given.add_argument("--parameters", type=int, required=True)
    given.add_argument("--marks", type=Path, required=True)
    given.add_argument("--every", type=float, help="tuned, with so many seconds between looks")
    options = given.parse_args()
    options.folder.mkdir()
    start = options.folder / "start.npy"
    drawn = np.random.default_rng(0)
    np.save(start, 0.01 * drawn.standard_normal(options.parameters, np.float32))
    recipe = NumpyFedAvgRecipe(
        name="bench",
        initial_ckpt=str(start),
        min_clients=options.sites,
        num_rounds=options.rounds,
        train_script=str(Path(__file__).with_name("train.py")),
        train_args=f"--marks {options.marks}",
    )
    recipe.export(str(options.folder))
    job = options.folder / "bench"
    if options.every is not None:
        tune(job, options.every, options.marks)
    session = new_secure_session(ADMINISTRATOR, options.kit, timeout=60.0)
    try:
        name = session.submit_job(str(job))
        _, meta = session.monitor_job_and_return_job_meta(name, timeout=600.0, poll_interval=0.5)
    finally:
        session.close()
    status = (meta or {}).get("status")
    print(status)
    return 0 if status == "FINISHED:COMPLETED" else 1


if __name__ == "__main__":
    sys.exit(main())
