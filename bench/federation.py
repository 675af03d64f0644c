"""What a question to all sites costs: seconds, and the coordinator's memory.

Real sites over TLS with node authentication, in processes of their own. One JSON line each:
    python bench/federation.py --sites 4 --processes 4
    python bench/federation.py --sites 4 --processes 4 --megabytes 44
    python bench/federation.py --sites 32 --processes 4 --megabytes 44
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from client.transport.node_key import create_node_key
from protocol.wire.messages import Frame
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig

ECHO = Path(__file__).parents[1] / "tests" / "server" / "transport" / "echo_site.py"
MB = 1 << 20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sites", type=int, default=4)
    options.add_argument("--processes", type=int, default=4)
    options.add_argument("--megabytes", type=int, default=0, help="MiB of body each way")
    options.add_argument("--rounds", type=int, default=0)
    options.add_argument("--upload-slots", type=int, default=1)
    given = options.parse_args()
    rounds = given.rounds or (3 if given.megabytes else 100)
    names = [f"site{n:02}" for n in range(given.sites)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pki = Pki(root / "pki")
        pki.create("Bench", ["127.0.0.1"])
        config = SuperLinkConfig(pki.certificate, pki.private_key, upload_slots=given.upload_slots)
        with SuperLink(config) as link:
            for name in names:
                link.register(name, create_node_key(root / name))
            processes = [
                subprocess.Popen(
                    [sys.executable, str(ECHO), link.address, str(pki.ca_certificate), "0"]
                    + [str(root / name) for name in names[start :: given.processes]]
                )
                for start in range(given.processes)
            ]
            try:
                while len(link.online()) < given.sites:
                    time.sleep(0.05)
                print(json.dumps(measure(link, names, given.megabytes * MB, rounds)))
            finally:
                for process in processes:
                    process.kill()
                    process.wait()


def measure(link: SuperLink, names: list[str], size: int, rounds: int) -> dict[str, object]:
    body = [bytes([n % 256]) * MB for n in range(size // MB)]
    frames = {name: Frame(b'{"size": %d}' % size, body) for name in names}
    me = psutil.Process()
    gc.collect()
    base, peak, done, times = me.memory_info().rss, [0], threading.Event(), []

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], me.memory_info().rss - base)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for _ in range(rounds):
        start, got = time.perf_counter(), 0
        for _, frame in link.ask(frames, 600):
            assert frame is not None
            got += sum(len(chunk) for chunk in frame.body)
        times.append(time.perf_counter() - start)
        assert got == size * len(names)
    done.set()
    watcher.join()
    result: dict[str, object] = {
        "sites": len(names),
        "body_bytes_each_way": size,
        "rounds": rounds,
        "seconds_median": round(statistics.median(times), 4),
        "seconds_p90": round(sorted(times)[int(0.9 * (rounds - 1))], 4),
    }
    if size:
        result["peak_bytes_above_baseline"] = peak[0]
        result["peak_in_bodies"] = round(peak[0] / size, 2)
    return result


if __name__ == "__main__":
    main()
