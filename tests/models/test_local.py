"""The local student: any bands, any size, few parameters, and one forward pass that does not depend on padding."""

import pytest
import torch

from co2s_cli.classes import ClassMap
from co2s_cli.errors import ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.ensemble import Ensemble, build_student
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling

BANDS = ("blue", "green", "red", "nir", "swir1")


def local(bands=BANDS, classes=4):
    torch.manual_seed(0)
    return build_student(catalog.local_student(bands), classes).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (33, 45), (1, 7)])
def test_logits_have_the_size_of_the_images(size):
    assert local()(torch.rand(2, len(BANDS), *size)).shape == (2, 4, *size)


def test_it_is_small_and_all_of_it_trains_at_one_rate():
    student = local(classes=15)
    count = sum(parameter.numel() for parameter in student.parameters())
    assert count <= 500_000
    listed = [p for modules in student.parts().values() for module in modules for p in module.parameters()]
    assert sum(parameter.numel() for parameter in listed) == count
    assert set(student.parts()) == {"decoder"}


@torch.no_grad()
def test_a_pixel_is_seen_at_full_resolution():
    """Where one pixel changes, its own logits change most: no patch of pixels answers alike."""
    student, images = local(), torch.rand(1, len(BANDS), 32, 32)
    changed = images.clone()
    changed[..., 16, 16] += 0.5
    moved = (student(changed) - student(images)).abs().sum(1)[0]
    assert moved.argmax() == 16 * 32 + 16


def test_whole_channels_are_dropped_while_it_trains_and_never_after():
    student, images = local(), torch.rand(1, len(BANDS), 16, 16)
    with torch.no_grad():
        assert torch.equal(student(images), student(images))
        student.train()
        assert not torch.equal(student(images), student(images))


def test_there_are_no_pretrained_weights():
    with pytest.raises(ModelError, match="no pretrained weights"):
        local().load_pretrained("openai")


def manifest(names=("dino", "local"), bands=BANDS, **changes) -> Manifest:
    students = changes.pop("students", None)
    makers = {
        "local": catalog.local_student(bands),
        "dino": catalog.from_scratch(catalog.for_bands(catalog.dino_student("tiny-dino"), bands)),
        "clip": catalog.from_scratch(catalog.for_bands(catalog.clip_student("tiny-clip"), bands)),
    }
    return Manifest(
        classes=tuple(ClassMap.of(["land", "water", "town"]).plain()),
        bands=bands,
        scaling=ModelScaling(low=(0,) * len(bands), high=(255,) * len(bands)),
        students=students or {name: makers[name] for name in names},
        **changes,
    )


@torch.no_grad()
@pytest.mark.parametrize("names", [("local",), ("dino", "local"), ("clip", "dino", "local")])
def test_one_two_or_three_students_are_one_file(tmp_path, names):
    model = new_ensemble(manifest(names)).eval()
    weights.save(model, tmp_path / "m.safetensors")
    again = weights.load(tmp_path / "m.safetensors")
    images = torch.rand(1, len(BANDS), 64, 64)
    members = again.members(images)
    assert tuple(members) == names
    assert torch.equal(again.probabilities(images), model.probabilities(images))
    torch.testing.assert_close(again.probabilities(images), torch.stack(list(members.values())).mean(0))
    assert torch.equal(again.probabilities(images, "local"), members["local"])


def test_a_local_student_is_named_local():
    with pytest.raises(ValueError, match="another kind"):
        manifest(students={"dino": catalog.local_student(BANDS)})
    assert isinstance(Ensemble(manifest()).students["local"].spec.mean, tuple)
