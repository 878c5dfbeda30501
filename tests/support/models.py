"""Model files small enough for tests."""

from pathlib import Path

import torch

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling

NAMES = ("water", "field", "forest", "town")


def save_tiny(path: Path, *, students=("clip", "dino"), seed=0, **changes) -> Path:
    """A freshly drawn tiny model for uint8 images of three bands."""
    torch.manual_seed(seed)
    made = {"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")}
    manifest = Manifest(
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={name: made[name] for name in students},
        **{"classes": tuple(ClassMap.of(NAMES).plain()), "tile": 64, "trained_on": "nothing", **changes},
    )
    pair = fresh.new_pair(manifest)
    with torch.no_grad():  # freshly drawn logits hardly differ: a model that says nothing would test nothing
        for student in pair.students.values():
            student.decoder.head.weight.mul_(300)
    weights.save(pair, path)
    return path
