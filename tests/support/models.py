"""Model files small enough for tests."""

from pathlib import Path

import torch

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling, TranslatorSpec

NAMES = ("water", "field", "forest", "town")


def save_tiny(path: Path, *, students=("clip", "dino"), seed=0, **changes) -> Path:
    """A freshly drawn tiny model for uint8 images of three bands."""
    torch.manual_seed(seed)
    made = {"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")}
    manifest = Manifest(
        students={name: made[name] for name in students},
        **{
            "classes": tuple(ClassMap.of(NAMES).plain()),
            "scaling": ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
            "tile": 64,
            "trained_on": "nothing",
            **changes,
        },
    )
    pair = fresh.new_ensemble(manifest)
    with torch.no_grad():  # freshly drawn logits hardly differ: a model that says nothing would test nothing
        for student in pair.students.values():
            student.decoder.head.weight.mul_(300)
    weights.save(pair, path)
    return path


def single_manifest(name="tiny-student", *, classes=NAMES, **changes) -> Manifest:
    """Of a tiny single student with two teachers, one of them of another grid."""
    translators = (
        TranslatorSpec(teacher="tiny-dino:none", width=128, hidden=32),
        TranslatorSpec(teacher="tiny-clip:none", width=128, hidden=32, grid=3),
    )
    spec = catalog.dense_student(name, **{"translators": translators, **changes})
    return Manifest(
        classes=tuple(ClassMap.of(classes).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"student": spec},
        tile=64,
        trained_on="nothing",
    )


def drawn_single(name="tiny-student", *, seed=0, **changes):
    """A freshly drawn model of a single student that says something."""
    torch.manual_seed(seed)
    pair = fresh.new_ensemble(single_manifest(name, **changes)).eval()
    with torch.no_grad():  # as for a pair; and no class may win everywhere by the mean of its features
        for name, parameter in pair.named_parameters():
            if "gamma" in name:
                parameter.fill_(0.5)
        last = pair.students["student"].head.out[-1]
        last.weight.sub_(last.weight.mean(dim=1, keepdim=True)).mul_(100)
        last.bias.zero_()
    return pair
