"""Published weights are those that their publisher made, or none."""

import hashlib
from pathlib import Path

import pytest
import torch

from protocol.errors import Code, WardroundError
from tasks.models import networks
from tasks.models.weights_file import WeightsFile


def test_a_folder_may_hold_the_weights_of_several_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    trained = resnet18(num_classes=7).state_dict()
    torch.save(trained, tmp_path / "published.pth")
    sha256 = hashlib.sha256((tmp_path / "published.pth").read_bytes()).hexdigest()
    file = WeightsFile("published.pth", sha256, "nowhere")
    monkeypatch.setenv("WARDROUND_WEIGHTS", str(tmp_path))
    network = networks.of_torchvision("resnet18", 1, file, trained=("fc",))
    state = network.state_dict()
    assert torch.equal(state["layer1.0.conv1.weight"], trained["layer1.0.conv1.weight"])
    assert state["fc.weight"].shape == (1, 512)
    with pytest.raises(WardroundError, match="SHA-256") as caught:
        WeightsFile("published.pth", "0" * 64, "nowhere").read()
    assert caught.value.code is Code.MALFORMED_DATA
    monkeypatch.delenv("WARDROUND_WEIGHTS")
    monkeypatch.setenv("WARDROUND_DATA", str(tmp_path))
    with pytest.raises(WardroundError, match=r"nowhere/published\.pth") as caught:
        file.read()
    assert caught.value.code is Code.NO_DATA
