"""Makes the weights of the detector of burned-in text anew: half an hour on two idle cores.

python bench/support/train_text_detector.py

Backgrounds: generated ones, PneumoniaMNIST's training pictures scaled up (WARDROUND_DATA), and the
two photographs that scikit-learn brings. Typefaces: those that bench/text_detector.py does not hold
out. Each example is a part of a picture at one of the detector's looks, with letters of 6 to 16
pixels, which are to be seen; letters a little smaller or larger, which may be; and what is drawn
that is no text. Adam (Kingma and Ba 2015), a learning rate on a cosine, and of the cells without
text the hardest count most (Shrivastava et al. 2016).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader, IterableDataset

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from client.data.dicom.pixels import text_detector
from support.burned_in import Style, background, calm, covered, drawn, faces, furnished, line, short

SIDE, BATCH, STEPS = 160, 32, 3000
FIRST, MOST, EACH = 30, 400, 128
"""Backgrounds to begin with and at most, and examples after which another comes in."""
OUT = Path(text_detector.__file__).with_name("text_detector.npz")

Example = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]


@cache
def chests() -> npt.NDArray[np.uint8]:
    root = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
    with np.load(root / "pneumoniamnist/pneumoniamnist.npz") as sets:
        return np.asarray(sets["train_images"])


@cache
def photographs() -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(each.mean(axis=2), np.uint8) for each in load_sample_images().images]


def picture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A generated background, or a third as often a public picture."""
    kind = rng.random()
    if kind < 0.75:
        return background(rng)
    if kind > 0.95:
        return furnished(rng, photographs()[rng.integers(2)])
    side = int(rng.choice([224, 256, 384, 512, 1024]))
    filters = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    chest = Image.fromarray(chests()[rng.integers(len(chests()))])
    large = chest.resize((side, side), filters[rng.integers(3)])
    noise = rng.uniform(0, 6) * rng.standard_normal((side, side))
    return furnished(rng, np.asarray(np.clip(np.asarray(large) + noise, 0, 255), np.uint8))


class Examples(IterableDataset[Example]):
    """Endless; each worker has its own pictures."""

    def __iter__(self) -> Iterator[Example]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng(worker.id if worker else 0)
        bank = deque((text_detector.looks(picture(rng)) for _ in range(FIRST)), MOST)
        while True:
            bank.append(text_detector.looks(picture(rng)))
            for _ in range(EACH):
                looks = bank[rng.integers(len(bank))]
                weights = np.array([look.shape[0] for look in looks], float)
                look = looks[rng.choice(len(looks), p=weights / weights.sum())]
                yield self.example(rng, look)

    def example(self, rng: np.random.Generator, look: npt.NDArray[np.uint8]) -> Example:
        top, left = (int(rng.integers(max(1, side - SIDE + 1))) for side in look.shape)
        picture = look[top : top + SIDE, left : left + SIDE]
        picture = np.rot90(picture, int(rng.integers(4)))
        if rng.random() < 0.25:
            picture = 255 - picture
        if rng.random() < 0.3:
            low, high = sorted(rng.uniform(0, 255, 2))
            picture = np.asarray(low + (high - low) / 255 * picture, np.uint8)
        if rng.random() < 0.25:  # a narrow window: shapes of black and white
            low, high = np.quantile(picture, (0.2, 1.0))
            middle, width = rng.uniform(low, high + 1), rng.uniform(2, 60)
            picture = np.asarray(np.clip(255 * (picture - middle) / width + 128, 0, 255), np.uint8)
        label = np.zeros(picture.shape, np.int8)
        for _ in range(rng.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.2, 0.15])):
            picture = self.written(rng, picture, label)
        missing = [(0, SIDE - side) for side in picture.shape]
        picture = np.pad(picture, missing, mode="edge")
        return picture, cells(np.pad(label, missing))

    def written(
        self, rng: np.random.Generator, picture: npt.NDArray[np.uint8], label: npt.NDArray[np.int8]
    ) -> npt.NDArray[np.uint8]:
        """Draws a line, and marks in `label` where: 1 is to be seen, 2 may be seen."""
        kind = rng.random()
        size = float(np.exp(rng.uniform(np.log(6), np.log(16))))
        if kind < 0.12:
            size = float(rng.choice([rng.uniform(3, 6), rng.uniform(16, 44)]))
        marker = kind > 0.85
        text = line(rng) if rng.random() < 0.4 else short(rng)
        if marker:
            text = str(rng.choice(["L", "R", "PA", "AP", "RL", "D", "7", "B2", "H", "F", "A", "P"]))
        angle = rng.choice([0, 90, 180, 270, rng.uniform(0, 360)], p=[0.25, 0.15, 0.1, 0.15, 0.35])
        contrast = float(rng.choice([rng.uniform(120, 255), rng.uniform(35, 120)], p=[0.7, 0.3]))
        if calm(picture) and rng.random() < 0.6:
            contrast = rng.uniform(16, 40)
        style = Style(
            str(rng.choice(faces(held_out=False))),
            size,
            float(angle),
            bool(rng.random() < 0.2),
            contrast,
            bool(rng.random() < 0.15),
        )
        mark = self.looked_at(rng, text, style)
        if min(mark.size) < 3 or mark.width > 4 * SIDE or mark.height > 4 * SIDE:
            return picture
        if mark.width > picture.shape[1] - 4 or mark.height > picture.shape[0] - 4:
            x, y = (max(0, int(rng.integers(max(1, side - SIDE + 8)))) for side in mark.size)
            mark = mark.crop(
                (x, y, min(mark.width, x + picture.shape[1] - 4),
                 min(mark.height, y + picture.shape[0] - 4))
            )  # fmt: skip
        before = picture
        picture = drawn(rng, picture, mark, style)
        changed = np.asarray(np.abs(picture.astype(np.int16) - before) > 0.3 * min(contrast, 60))
        if marker:
            return picture
        near = max(2, round(size * 0.45))
        covered_ = _closed(np.asarray(changed), near)
        seen = 6 <= size <= 16 and changed.sum() > 12
        label[_dilated(covered_, 4) & (label == 0)] = 2
        label[covered_] = 1 if seen else 2
        return picture

    def looked_at(self, rng: np.random.Generator, text: str, style: Style) -> Image.Image:
        """The line as it is at a look: drawn, or drawn larger and then made smaller."""
        times = int(rng.choice([1, 2, 4], p=[0.6, 0.2, 0.2]))
        stretch = rng.uniform(0.8, 1.25) if rng.random() < 0.4 else 1.0
        large = Style(style.face, style.size * times, 0.0, style.mirrored)
        flat = covered(text, large)
        if stretch != 1.0:
            flat = flat.resize((max(1, int(flat.width * stretch)), flat.height))
        flat = flat.rotate(style.angle, Image.Resampling.BICUBIC, expand=True)
        if times > 1:
            flat = flat.reduce(times)
        return flat


def _dilated(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter(mask.view(np.uint8), 2 * by + 1) > 0)


def _closed(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Letters become a line."""
    return ~_dilated(~_dilated(mask, by), by)


def cells(label: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Per cell: 1 text in a third of it, 0 no text, 2 in between or near it."""
    cell = text_detector.CELL
    n = SIDE // cell
    parts = label.reshape(n, cell, n, cell)
    share = (parts == 1).mean(axis=(1, 3))
    near = _dilated(np.asarray((parts > 0).any(axis=(1, 3))), 1)
    out = np.where(near, 2, 0)
    out[share > 0.35] = 1
    return np.asarray(out, np.int8)


def normalised() -> nn.Sequential:
    """The network with batch normalisation (Ioffe and Szegedy 2015) after each convolution."""
    layers: list[nn.Module] = []
    plain = list(text_detector.network())
    for layer in plain[:-1]:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(*layers, plain[-1])


def plain(trained: nn.Sequential) -> dict[str, npt.NDArray[np.float16]]:
    """The same function without normalisation."""
    layers: list[nn.Module] = []
    for layer in trained.eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]  # modules of a Sequential are typed as Module
        else:
            layers.append(layer)
    state = nn.Sequential(*layers).state_dict()
    return {name: value.numpy().astype(np.float16) for name, value in state.items()}


def loss_of(logits: Tensor, wanted: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(
        logits, (wanted == 1).float(), reduction="none"
    )
    text, none = each[wanted == 1], each[wanted == 0]
    hardest = none.topk(max(1, len(none) // 200)).values
    return text.mean() + none.mean() + hardest.mean()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = normalised().to(memory_format=torch.channels_last)
    steps = int(os.environ.get("STEPS", STEPS))
    optimiser = torch.optim.Adam(made.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps, pct_start=0.1)
    loader: Any = DataLoader(Examples(), BATCH, num_workers=1, prefetch_factor=8)
    began, losses = time.monotonic(), []
    for step, (pictures, wanted) in zip(range(steps), loader, strict=False):
        inputs = text_detector.levelled(pictures[:, None].float())
        logits = made(inputs.contiguous(memory_format=torch.channels_last))[:, 0]
        loss = loss_of(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 49:
            spent = time.monotonic() - began
            print(f"{step + 1} {np.mean(losses[-50:]):.3f} {spent:.0f} s", flush=True)
            torch.save(made.state_dict(), os.environ.get("KEEP", "/dev/null"))
    np.savez(OUT, **plain(made))  # type: ignore[arg-type]  # arrays by name


if __name__ == "__main__":
    main()
