"""Transformers with any number of bands: pretrained filters of red, green and blue are extended by timm's rule."""

import pytest
import torch
from support.pretrained import CLIP, DINO, know_small_clip, small_dino, whole_clip
from timm.models._manipulate import adapt_input_conv

from co2s_cli.models import catalog, pretrained
from co2s_cli.models.backbone import build
from co2s_cli.models.decoder import over_channels
from co2s_cli.models.guided import GuidedStudent


@pytest.fixture(scope="module", autouse=True)
def _small_clip_is_known(tmp_path_factory):
    know_small_clip(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_filters_in_the_order_of_timm_are_timms(count):
    rgb = torch.randn(16, 3, 4, 4)
    names = ("red", "green", "blue", "nir", "swir1", "swir2", "thermal", "other")[:count]
    channels = catalog.for_bands(catalog.dino_student("tiny-dino"), names).backbone.rgb
    wanted = adapt_input_conv(count, rgb)
    torch.testing.assert_close(pretrained.filters_of(rgb, channels), wanted)


def test_red_green_and_blue_keep_their_own_wherever_they_are():
    bands = ("nir", "blue", "green", "red")
    backbone = catalog.for_bands(catalog.dino_student("tiny-dino"), bands).backbone
    assert backbone.rgb[1:] == (2, 1, 0)
    plain = catalog.dino_student("tiny-dino").backbone
    assert backbone.mean[1:] == plain.mean[::-1]
    assert backbone.std[3] == plain.std[0]


@pytest.mark.parametrize("kind", ["clip", "dino"])
def test_pretrained_weights_of_three_bands_fill_a_student_of_five(tmp_path, kind):
    bands = ("red", "green", "blue", "nir", "swir1")
    source = whole_clip() if kind == "clip" else small_dino()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    name = f"{CLIP}-quickgelu" if kind == "clip" else DINO
    spec = catalog.for_bands(catalog.clip_student(name) if kind == "clip" else catalog.dino_student("tiny-dino"), bands)
    tower = build(spec.backbone, spec.taps)
    pretrained.load_weights(tower, name, str(tmp_path / "w.pt"))
    first = tower.get_parameter(tower.first_weight)
    rgb = source.visual.conv1.weight if kind == "clip" else source.patch_embed.proj.weight
    torch.testing.assert_close(first, adapt_input_conv(5, rgb.detach()))
    with torch.no_grad():
        taps = tower(torch.rand(1, 5, 64, 64))
    assert taps.semantic.shape[-2:] == (4, 4)


def test_a_model_of_eight_bands_becomes_one_of_three():
    eight = catalog.for_bands(
        catalog.dino_student("tiny-dino"), ("blue", "green", "red", "rededge", "nir", "swir1", "swir2", "thermal")
    )
    three = catalog.for_bands(eight, ("red", "green", "blue"))
    assert three.bands == 3
    assert three.backbone.mean == catalog.dino_student("tiny-dino").backbone.mean


@torch.no_grad()
def test_the_similarity_joins_the_logits_of_students_from_scratch():
    torch.manual_seed(0)
    spec = catalog.from_scratch(catalog.clip_student("tiny-clip"))
    student = GuidedStudent(spec, 3).eval()
    student.guidance.vectors.copy_(torch.randn(3, spec.guidance_width))
    images = torch.rand(1, 3, 64, 64)
    taps = student.encode(images)
    said = student.decoder(taps, student.guidance())
    student.decoder.scale.zero_()
    alone = student.decoder(taps, student.guidance())
    vectors = torch.nn.functional.normalize(student.guidance(), dim=-1)
    similarity = torch.einsum("bdhw,nd->bnhw", torch.nn.functional.normalize(taps.semantic, dim=1), vectors)
    wanted = 10 * torch.nn.functional.interpolate(similarity, size=said.shape[-2:], mode="bilinear")
    torch.testing.assert_close(said - alone, wanted, atol=1e-5, rtol=1e-4)


def test_skips_are_normalised_over_their_channels():
    tap = torch.randn(2, 16, 3, 5) * 7 + 3
    normed = over_channels(tap)
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1, unbiased=False), torch.ones(2, 3, 5), atol=1e-3, rtol=0)
