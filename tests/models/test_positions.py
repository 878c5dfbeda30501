"""Encoders with their authors' own weights say what their authors' code says, at every size."""

import pytest
import torch
from support import meta

from co2s_cli.models import catalog, pretrained
from co2s_cli.models.backbone import TimmBackbone

NAME = catalog.TINY_STUDENT_14
SIZES = [(518, 518), (224, 224), (504, 504), (350, 518), (1022, 140)]


@pytest.fixture(scope="module")
def official():
    sizes = catalog.dense_student(NAME).backbone.options["sizes"]
    return meta.drawn(sizes["embed_dim"], sizes["depth"], sizes["num_heads"])


def encoder(official, path, **options) -> TimmBackbone:
    """The tiny student's encoder with the official weights, read from a file as anybody's are."""
    torch.save(official.state_dict(), path)
    spec = catalog.dense_student(NAME)
    described = spec.backbone.model_copy(update={"options": {**spec.backbone.options, **options}})
    made = TimmBackbone(described, spec.taps)
    pretrained.load_weights(made, described.name, str(path))
    return made.eval()


@torch.no_grad()
def largest_gap(official, made, size) -> float:
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(4))
    wanted = official((images - made.mean) / made.std, made.taps)
    return max(float((a - b).abs().max()) for a, b in zip(made.maps(images), wanted, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_metas_weights_say_at_every_size_what_metas_code_says(official, tmp_path, size):
    assert largest_gap(official, encoder(official, tmp_path / "dinov2.pth"), size) < 5e-6


@pytest.mark.slow
def test_they_do_at_twice_the_size(official, tmp_path):
    assert largest_gap(official, encoder(official, tmp_path / "dinov2.pth"), (1022, 1022)) < 5e-6


def test_timms_own_rule_would_say_something_else(official, tmp_path):
    made = encoder(official, tmp_path / "dinov2.pth", positions="timm")
    assert largest_gap(official, made, (518, 518)) < 5e-6
    assert largest_gap(official, made, (224, 224)) > 1e-3


def test_the_rule_is_written_into_the_description():
    for student in (catalog.dense_student, catalog.dino_student):
        assert student("vit_small_patch14_dinov2.lvd142m").backbone.options["positions"] == "meta"
        for name in ("vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"):
            assert "positions" not in student(name).backbone.options
