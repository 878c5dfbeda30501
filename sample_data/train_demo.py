"""Train the package's demonstration model on made-up landscapes, fully supervised; an interim for `co2s train`.

Run from the project's root: `python sample_data/train_demo.py`. The recipe is `co2s_cli/assets/demo.yaml`.
"""

import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from co2s_cli.data.landscape import CLASSES, GROUND_RESOLUTION, Landscape
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.models.pair import Pair, fuse
from co2s_cli.tiling import Window

RECIPE = weights.demo_path().with_suffix(".yaml")


def scenes(first: int, last: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Pixels (3, size, size) as bytes and labels (size, size) of a range of seeds."""
    blocks = (Landscape(seed=seed).block(Window(0, 0, size, size)) for seed in range(first, last + 1))
    return [(torch.from_numpy(pixels), torch.from_numpy(labels).long()) for pixels, labels in blocks]


def crop(scene: tuple[Tensor, Tensor], size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random square of a scene, turned and mirrored at random, its light and colours varied a little."""
    pixels, labels = scene
    row, col = rng.integers(0, pixels.shape[1] - size + 1, 2)
    image = pixels[:, row : row + size, col : col + size].float() / 255
    label = labels[row : row + size, col : col + size]
    turns = int(rng.integers(4))
    image, label = image.rot90(turns, (1, 2)), label.rot90(turns, (0, 1))
    if rng.random() < 0.5:
        image, label = image.flip(2), label.flip(1)
    gains = torch.from_numpy(rng.uniform(0.85, 1.15, (3, 1, 1)).astype(np.float32)) * float(rng.uniform(0.8, 1.2))
    return (image.clamp(1e-4) ** float(rng.uniform(0.8, 1.25)) * gains).clamp(0, 1), label


def new_model(recipe: dict) -> Pair:
    """Two tiny students, freshly drawn, wholly trainable."""
    torch.manual_seed(recipe["seed"])
    pair = fresh.new_pair(
        Manifest(
            classes=tuple(CLASSES.plain()),
            scaling=ModelScaling(dtype="uint8", low=(0, 0, 0), high=(255, 255, 255)),
            tile=recipe["tile"],
            ground_resolution=GROUND_RESOLUTION,
            students={"clip": catalog.clip_student(recipe["clip"]), "dino": catalog.dino_student(recipe["dino"])},
            trained_on="made-up landscapes at 0.5 m (a demonstration, not for real imagery)",
            training={key: value for key, value in recipe.items() if key not in ("clip", "dino", "tile")},
            licence="made up, no rights reserved",
        )
    )
    for student in pair.students.values():
        student.train_backbone("all")
    return pair


def rate(step: int, recipe: dict) -> float:
    """Linear warm-up, then a half cosine to zero."""
    rise = min(1.0, (step + 1) / recipe["warmup"])
    return rise * 0.5 * (1 + math.cos(math.pi * step / recipe["steps"])) * recipe["learning_rate"]


@torch.no_grad()
def score(pair: Pair, tests: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Mean IoU over all test scenes together, for each student and the fused pair."""
    count = len(pair.manifest.classes)
    names = [*pair.students, "mean", "confident"]
    confusion = {name: torch.zeros(count, count) for name in names}
    for pixels, labels in tests:
        members = pair.members(pixels[None].float() / 255)
        for name in names:
            guess = fuse(members, name)[0].argmax(0)
            confusion[name] += torch.bincount(labels.ravel() * count + guess.ravel(), minlength=count**2).view(
                count, count
            )
    return {name: iou(matrix).mean().item() for name, matrix in confusion.items()}


def iou(matrix: Tensor) -> Tensor:
    """Intersection over union per class of a confusion matrix."""
    hit = matrix.diag()
    return hit / (matrix.sum(0) + matrix.sum(1) - hit).clamp_min(1)


def main() -> None:
    """Train, report on unseen seeds, write the model."""
    recipe = yaml.safe_load(RECIPE.read_text())
    rng = np.random.default_rng(recipe["seed"])
    train = scenes(*recipe["train_seeds"], recipe["train_size"])
    tests = scenes(*recipe["test_seeds"], recipe["test_size"])
    pair = new_model(recipe)
    optimiser = torch.optim.AdamW(pair.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    begin = time.monotonic()
    for step in range(recipe["steps"]):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, recipe)
        batch = [crop(train[rng.integers(len(train))], recipe["crop"], rng) for _ in range(recipe["batch"])]
        images, labels = (torch.stack(items) for items in zip(*batch, strict=True))
        losses = [F.cross_entropy(student(images), labels) for student in pair.students.values()]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step == recipe["steps"] - 1:
            shown = " ".join(f"{loss.item():.3f}" for loss in losses)
            sys.stderr.write(f"step {step} losses {shown} {time.monotonic() - begin:.0f} s\n")
        if step % 500 == 499 or step == recipe["steps"] - 1:
            sys.stderr.write(f"mIoU on unseen seeds {score(pair.eval(), tests)}\n")
            weights.save(pair.train(), weights.demo_path(), half=True)


if __name__ == "__main__":
    main()
