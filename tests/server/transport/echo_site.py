"""A site as a process: connects with a node key and answers every question.

Usage: echo_site.py ADDRESS CA_CERTIFICATE SECONDS_OF_WORK NODE_KEY [NODE_KEY ...]
One connection (and thread) for each key. The answer has the question's header back, the process id,
and a body of as many bytes as the question's header asks for.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from client.transport.fleet_config import FleetConfig
from client.transport.fleet_connection import FleetConnection
from protocol.wire.messages import Frame


def serve(connection: FleetConnection, work: float, stopping: threading.Event) -> None:
    with connection:
        while not stopping.is_set():
            delivery = connection.receive(wait=5)
            if delivery is None:
                continue
            time.sleep(work)
            question = json.loads(delivery.frame.header)
            got = sum(len(chunk) for chunk in delivery.frame.body)
            header = json.dumps({"asked": question, "got": got, "pid": os.getpid()}).encode()
            size, piece = int(question.get("size", 0)), 1 << 20
            fill = os.urandom(min(size, piece))
            parts = [memoryview(fill)[: min(piece, size - at)] for at in range(0, size, piece)]
            # Every piece differs, as masked words do.
            body = [bytes(index.to_bytes(4, "little")) + bytes(part[4:]) if len(part) > 4 else part
                    for index, part in enumerate(parts)]  # fmt: skip
            connection.reply(delivery, Frame(header, body))


if __name__ == "__main__":
    address, ca, work, *keys = sys.argv[1:]
    stopping = threading.Event()
    connections = [
        FleetConnection(
            FleetConfig(
                address, Path(ca), Path(key), heartbeat=60, lines=3 if len(keys) == 1 else 1
            )
        )
        for key in keys
    ]

    def stop(_signal: int, _frame: object) -> None:
        stopping.set()
        for connection in connections:
            connection.close()

    signal.signal(signal.SIGTERM, stop)
    threads = [
        threading.Thread(target=serve, args=(connection, float(work), stopping))
        for connection in connections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
