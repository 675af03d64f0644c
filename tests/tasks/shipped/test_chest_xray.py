"""Features, networks and public data of the radiographs' task."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.flat_model import FlatModel
from tasks.models import backbone
from tasks.models.centred_linear import CentredLinear
from tasks.models.hog import CELLS, ORIENTATIONS, WIDTH, hog
from tasks.schema import PATIENT, SPLIT
from tasks.shipped.chest_xray import FINDINGS, RADIOGRAPH, ChestXray, pneumonia_mnist

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
needs_images = pytest.mark.skipif(
    not (ROOT / "pneumoniamnist").is_dir(), reason="WARDROUND_DATA has no pneumoniamnist"
)


def noise(count: int = 4, side: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_an_edge_votes_for_its_own_orientation() -> None:
    ramp = np.tile(np.arange(0, 224, 8, dtype=np.uint8), (28, 1))  # brighter to the right
    down = ramp.T
    for picture, orientation in ((ramp, 0), (down, ORIENTATIONS // 4), (ramp[:, ::-1], 8)):
        votes = hog(np.ascontiguousarray(picture)[None]).reshape(-1, ORIENTATIONS).sum(axis=0)
        assert votes.argmax() == orientation
        assert votes[orientation] > 0.99 * votes.sum()


@given(st.integers(0, 2**32 - 1), st.sampled_from([28, 30, 64]), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_rows_have_norm_one_and_forget_brightness(seed: int, side: int, shift: int) -> None:
    pictures = noise(2, side, seed) // 2
    rows = hog(pictures)
    assert rows.shape == (2, WIDTH)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(hog(pictures + np.uint8(40 * shift)), rows, atol=1e-5)


def test_a_picture_depends_on_no_other_and_a_blank_one_is_zero() -> None:
    pictures = noise(5)
    pictures[2] = 7
    rows = hog(pictures)
    assert not rows[2].any()
    for number in (0, 4):
        assert np.array_equal(hog(pictures[number : number + 1])[0], rows[number])
    assert WIDTH == (CELLS - 1) ** 2 * 4 * ORIENTATIONS == 2304


def test_the_middle_is_learned_by_the_ordinary_gradient() -> None:
    """Descent on the loss alone brings c to the mean of the rows, and no weight follows from it."""
    torch.manual_seed(0)
    rows = nn.functional.normalize(torch.randn(50, 12) + 2, dim=1)
    model = CentredLinear(12)
    optimiser = torch.optim.SGD(model.parameters(), lr=100.0)
    for _ in range(60):
        optimiser.zero_grad()
        model(rows)[:, 1].mean().backward()
        optimiser.step()
    middle = 0.01 * model.centre.weight[:, 0]
    assert torch.allclose(middle, rows.mean(dim=0), atol=1e-3)
    assert not model.linear.weight.any()


def test_the_logit_does_not_move_the_middle() -> None:
    model = CentredLinear(6)
    nn.init.normal_(model.linear.weight)
    model(torch.randn(3, 6))[:, 0].sum().backward()
    assert model.centre.weight.grad is None or not model.centre.weight.grad.any()


@pytest.mark.parametrize("weight", [1.0, 4.0])
@pytest.mark.parametrize("model", ["hog", "cnn"])
def test_losses_are_each_patients_own_and_weighted_by_a_public_constant(
    model: str, weight: float
) -> None:
    task = registry.load("chest_xray", {"model": model, "positive_weight": weight})
    network = FlatModel(task, 3).module
    features = torch.from_numpy(task.features({RADIOGRAPH: noise(6)})).float()
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    together = task.losses(network(features), labels)
    alone = [task.losses(network(features[i : i + 1]), labels[i : i + 1]) for i in range(6)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    plain = registry.load("chest_xray", {"model": model}).losses(network(features), labels)
    distance = network(features)[:, 1:].sum(dim=1)
    ratio = (together - distance) / (plain - distance)
    assert torch.allclose(ratio, torch.where(labels == 1, weight, 1.0), atol=1e-4)


@pytest.mark.parametrize(("model", "pixels"), [("cnn", 28), ("cnn", 64), ("resnet18", 64)])
def test_networks_have_no_state_and_treat_pictures_alone(model: str, pixels: int) -> None:
    task = registry.load("chest_xray", {"model": model, "pixels": pixels})
    network = FlatModel(task, 1).module.train()  # refuses buffers
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not [m for m in network.modules() if getattr(m, "inplace", False)]
    pictures = torch.from_numpy(noise(3, pixels)).float()
    with torch.no_grad():
        together = network(pictures)
        alone = torch.cat([network(pictures[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 1)
    assert torch.allclose(together, alone, atol=1e-4)


def test_options_shape_schema_and_title() -> None:
    task = registry.load("chest_xray", {"finding": "effusion", "pixels": 224})
    assert task.schema.label == "effusion"
    assert (task.schema.images[0].rows, task.schema.images[0].columns) == (224, 224)
    assert "Effusion" in task.title
    assert registry.load("chest_xray").schema.label == FINDINGS[0] == "pneumonia"
    with pytest.raises(WardroundError, match="Choose one of: hog, cnn, resnet18, backbone"):
        registry.load("chest_xray", {"model": "vgg"})


def test_a_varied_picture_depends_on_its_draw_alone_and_stays_a_picture() -> None:
    varied = registry.load("chest_xray", {"model": "cnn", "augment": True}).varied
    assert varied is not None
    before = torch.random.get_rng_state()
    for picture in torch.from_numpy(noise(6)).float():
        first, again, other = (varied(picture, np.random.default_rng(k)) for k in (1, 1, 2))
        assert first.shape == picture.shape
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert 0 <= first.min() <= first.max() <= 255
        assert float((first - picture).abs().mean()) > 1
    assert torch.equal(before, torch.random.get_rng_state())
    assert registry.load("chest_xray", {"model": "cnn"}).varied is None
    with pytest.raises(WardroundError, match="cnn, resnet18"):
        registry.load("chest_xray", {"augment": True})


def test_the_backbone_reads_only_the_file_of_weights_that_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import resnet18

    monkeypatch.setenv("WARDROUND_WEIGHTS", str(tmp_path / "weights.pth"))
    task = registry.load("chest_xray", {"model": "backbone"})
    with pytest.raises(WardroundError, match="cannot be read") as caught:
        task.features({RADIOGRAPH: noise(1)})
    assert caught.value.code is Code.NO_DATA
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WardroundError, match="SHA-256") as caught:
        task.features({RADIOGRAPH: noise(1)})
    assert caught.value.code is Code.MALFORMED_DATA
    sha256 = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    pictures = noise(3)
    published = dataclasses.replace(backbone.WEIGHTS, sha256=sha256)
    rows = backbone.features(pictures, published)
    assert rows.shape == (3, backbone.WIDTH)
    assert np.array_equal(backbone.features(pictures[2:], published)[0], rows[2])
    assert np.array_equal(backbone.features(pictures[::-1], published), rows[::-1])


@needs_images
def test_pneumonia_mnist_is_dealt_whole_in_its_official_split() -> None:
    official = pneumonia_mnist(ROOT)
    assert {part: len(images) for part, (images, _) in official.items()} == {
        "train": 4698,
        "val": 524,
        "test": 624,
    }
    held = {image.tobytes() for image in official["val"][0]}
    assert not any(image.tobytes() in held for image in official["train"][0])
    sites, again = ChestXray().public_sites(ROOT), ChestXray().public_sites(ROOT)
    assert sorted(sites) == ["east", "north", "south", "west"]
    names = np.concatenate([table[PATIENT] for table in sites.values()])
    assert len(set(names)) == len(names) == 4698 + 624
    parts = np.concatenate([table[SPLIT] for table in sites.values()])
    assert (parts == "evaluation").sum() == 624
    ill = np.concatenate([table["pneumonia"] for table in sites.values()])
    assert ill[parts == "evaluation"].sum() == 390
    shares = [table["pneumonia"].mean() for table in sites.values()]
    assert max(shares) - min(shares) > 0.3
    for site, table in sites.items():
        assert np.array_equal(table[RADIOGRAPH], again[site][RADIOGRAPH])


def test_data_that_is_not_there_or_not_it_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WardroundError, match=r"medmnist\.com") as caught:
        ChestXray().public_sites(tmp_path)
    assert caught.value.code is Code.NO_DATA
    (tmp_path / "pneumoniamnist").mkdir()
    file = tmp_path / "pneumoniamnist" / "pneumoniamnist.npz"
    np.savez(file, train_images=noise())
    with pytest.raises(WardroundError, match="is not PneumoniaMNIST") as caught:
        ChestXray().public_sites(tmp_path)
    assert caught.value.code is Code.MALFORMED_DATA
    with pytest.raises(WardroundError, match="only pneumonia"):
        registry.load("chest_xray", {"finding": "nodule"}).public_sites(tmp_path)
