"""Makes the README's pictures anew, of what people really see, into `docs/pictures/`.

    python -m tests.pictures

One demo gives its terminal, its run in MLflow and a hospital's ledger; one sweep gives utility
against epsilon. Chromium has to be there. `docs/pictures/round.svg` is drawn by hand.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from launch.demo.child_process import GuardedProcess, script
from launch.demo.demo import Demo
from launch.demo.local_ports import LOOPBACK, free_port, is_listening
from launch.studies.run import FinishedStudy
from tasks import registry
from tests.test_documents import LARGEST
from tests.waiting import HUNG

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
SWEEP = ("privacy.epsilon=0.1,0.3,1,3,10", "seed=range(5)", "tracking=off", "output=sweep")
_CAPS = re.compile(r"(epsilon_(?:per_study|lifetime)): *[\d.]+")
_RUN = (195, 0, 945, 1000)
"""Left, top, right and bottom of what MLflow's page says of a run, between its side bars."""
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\n", re.DOTALL)
"""A picture asks no other server for a font."""


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is not installed: it draws MLflow's page.")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        finished = demo()
        mlflow(chromium, finished)
        rules = min(Path("demo").glob("*/site.yaml"))
        rules.write_text(_CAPS.sub(r"\1: 3", rules.read_text()))  # the demo's are out of sight
        site = ["--config", str(rules), "--plot", "ledger.png"]
        subprocess.run([script("wardround-site"), "ledger", *site], check=True)
        keep(Path("ledger.png"))
        subprocess.run([script("wardround"), "run", "-m", "task=breast_cancer", *SWEEP], check=True)
        (drawn,) = Path("sweep").rglob("sweep.png")
        keep(drawn.rename("utility.png"))


def demo() -> FinishedStudy:
    """The demo in `demo/`; its terminal as demo.svg, without what it says of this machine."""
    console = Console(record=True, width=84, file=io.StringIO())
    finished = Demo(Path("demo"), registry.load("breast_cancer")).run(console)
    svg = console.export_svg(title="make demo", code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))
    here = re.escape(f"{Path.cwd()}/")  # a line that gets shorter is not to be stretched
    shorter = re.sub(rf' textLength="[^"]*"([^>]*>[^<]*){here}', r"\1", svg)
    (PICTURES / "demo.svg").write_text(shorter)
    return finished


def mlflow(chromium: str, finished: FinishedStudy) -> None:
    """The page of the demo's run, from a server without a password that ends with this."""
    with served(Path("demo/mlflow")) as port:
        page = f"http://{LOOPBACK}:{port}/#{(finished.receipt.url or '').partition('#')[2]}"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,1000"]
        drawn = ["--virtual-time-budget=30000", "--screenshot=mlflow.png", page]
        subprocess.run([chromium, *options, *drawn], check=True, capture_output=True)
    with Image.open("mlflow.png") as page_drawn:
        page_drawn.crop(_RUN).save("mlflow.png")
    keep(Path("mlflow.png"))


@contextlib.contextmanager
def served(home: Path) -> Iterator[int]:
    port = free_port()
    stored = ["--backend-store-uri", f"sqlite:///{(home / 'mlflow.db').resolve()}"]
    files = ["--artifacts-destination", str((home / "artifacts").resolve())]
    process = GuardedProcess(
        [sys.executable, "-m", "mlflow", "server", *stored, *files, "--port", str(port)],
        Path("server.log"),
        {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    try:
        assert is_listening(LOOPBACK, port, HUNG), Path("server.log").read_text()
        yield port
    finally:
        process.stop()


def keep(drawn: Path) -> None:
    """A PNG into `docs/pictures`, in 128 colours, at most 1280 wide and LARGEST bytes."""
    with Image.open(drawn) as picture:
        picture.thumbnail((1280, 1280))
        picture.convert("RGB").quantize(128).save(PICTURES / drawn.name, optimize=True)
    size = os.path.getsize(PICTURES / drawn.name)
    assert size < LARGEST, f"{drawn.name} has {size} bytes"


if __name__ == "__main__":
    main()
