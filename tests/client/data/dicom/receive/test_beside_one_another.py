"""`receive`, `index` and `cache fill` work on one site at once: none fails, and nothing is lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from client.enrolment.new_site import init
from client.enrolment.site_template import PictureSources, SiteAnswers
from launch.demo import dicom_sender, synthetic_radiographs
from launch.demo.child_process import script
from launch.demo.synthetic_radiographs import SCANNER_MODELS, Radiograph
from tests import forked
from tests.client.data.dicom.running_receiver import Process

STUDIES, AT_ONCE = 24, 4


def site(folder: Path, labels: Path) -> None:
    """Which indexes a study by itself a second after its last object."""
    sources = PictureSources((dicom_sender.AE_TITLE,), "127.0.0.1:0")
    data = {"chest_xray": labels}
    init(folder, SiteAnswers(site="alpha", data=data, pictures=sources, least_patients=1))
    path = folder / "site.yaml"
    text = path.read_text().replace(
        "    ae_title:", "    quiet: 1\n    floor: 1 MiB\n    ae_title:"
    )
    path.write_text(text)


@pytest.mark.slow
def test_the_commands_on_pictures_run_beside_one_another(tmp_path: Path) -> None:
    drawn = [Radiograph(f"P{k}", f"A{k}", k % 2 == 0, SCANNER_MODELS[0]) for k in range(STUDIES)]
    files = synthetic_radiographs.write(drawn, 64, 3, tmp_path / "pacs")
    rows = [f"{one.accession},{int(one.ill)}" for one in drawn]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["accession_number,pneumonia", *rows]) + "\n")
    site(tmp_path / "alpha", labels)

    def words(*command: str) -> list[str]:
        return [script("wardround-site"), *command, "-c", "alpha"]

    with Process(tmp_path / "alpha") as receiver:
        stored: list[int] = []

        def send() -> None:
            for first in range(0, STUDIES, AT_ONCE):
                batch = files[first : first + AT_ONCE]
                stored.append(dicom_sender.send(batch, "127.0.0.1", receiver.port, "WARDROUND"))

        sender = threading.Thread(target=send)
        sender.start()
        log = tmp_path / "beside.log"
        for _ in range(2):
            beside = [
                forked.Python(words(*command), tmp_path, log, log)
                for command in (("index",), ("cache", "fill"), ("index",))
            ]
            assert [each.wait() for each in beside] == [0, 0, 0], log.read_text()
        sender.join()
        assert stored == [AT_ONCE] * (STUDIES // AT_ONCE)
        told = json.loads(forked.run(words("index", "--json"), tmp_path).stdout)
        assert (told["found"], told["ready"], told["kept_out"]) == (STUDIES, STUDIES, {})
        filled = json.loads(forked.run(words("cache", "fill", "--json"), tmp_path).stdout)
        assert filled == {"chest_xray": {"rows": STUDIES, "notes": []}}
        assert receiver.stop() == 0
        assert not any(event["event"] == "studies not indexed" for event in receiver.events())
