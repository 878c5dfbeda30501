"""Validation: windows, blends, counts."""

import numpy as np
import pytest
import torch
from support.rasters import write_raster
from support.training import landscape
from torch import nn

from co2s_cli.classes import ClassMap
from co2s_cli.config.data import read_data
from co2s_cli.config.train import settings_of
from co2s_cli.data.dataset import assemble
from co2s_cli.data.roles import Area
from co2s_cli.data.samples import View
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.geo.read.scene import Scene
from co2s_cli.models import catalog
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.scoring.validation import area_probabilities, evaluate, lagging
from co2s_cli.tiling import TilePlan, Window
from co2s_cli.training.setup import sliding_of

N = 6
THRESHOLD = torch.full((N,), 0.95)


class Bright(nn.Module):
    """Logits that depend on a pixel alone."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, images):
        grey = images.mean(dim=1, keepdim=True)
        return torch.cat([self.gain * (grey * N - index).abs().neg() for index in range(N)], dim=1)


@pytest.fixture
def pair():
    manifest = Manifest(
        classes=tuple(ClassMap.of([str(i) for i in range(N)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
    )
    pair = Ensemble(manifest)
    pair.students = nn.ModuleDict({"clip": Bright(10.0), "dino": Bright(0.5)})
    return pair


def chances_of(pair, image, folder, sliding):
    """Of all of an image (3, h, w) in [0, 1]."""
    path = write_raster(folder / "image.tif", image.numpy())
    area = Area(Scene.open(str(path)), None, Window(0, 0, *image.shape[-2:]))
    plain = Scaling((0.0,) * 3, (1.0,) * 3)
    return area_probabilities(pair, area, plain, sliding, device=torch.device("cpu"), dtype=torch.float32)


def settings(*extra, **flags):
    return settings_of(None, {"preset": "tiny", "crop": 64, **flags}, list(extra))


@pytest.mark.parametrize("extra", [(), ("eval_blend=logits",), ("eval_taper=flat",), ("eval_overlap=0.5",)])
def test_windows_do_not_show_in_the_map_of_a_pixelwise_model(pair, tmp_path, extra):
    image = torch.rand(3, 100, 83)
    found = chances_of(pair, image, tmp_path, sliding_of(settings(*extra)))
    for name, student in pair.students.items():
        torch.testing.assert_close(found[name], student(image[None])[0].softmax(dim=0), rtol=1e-4, atol=1e-5)


class Flagged(nn.Module):
    """Very sure of class 0 where the window's first pixel is white, else moderately sure of class 1."""

    def forward(self, images):
        flag = images[:, :1, :1, :1]
        logits = torch.zeros(len(images), N, *images.shape[-2:]) - 9
        logits[:, :1] = 20 * flag
        logits[:, 1:2] = 3 * (1 - flag)
        return logits


@pytest.mark.parametrize(("blend", "winner"), [("logits", 0), ("probabilities", 1)])
def test_one_very_sure_window_wins_among_logits_and_loses_among_probabilities(pair, tmp_path, blend, winner):
    pair.students = nn.ModuleDict({"clip": Flagged()})
    image = torch.zeros(3, 64, 112)
    image[:, 0, 0] = 1
    sliding = sliding_of(settings(f"eval_blend={blend}", "eval_taper=flat", "eval_overlap=0.75"))
    assert (chances_of(pair, image, tmp_path, sliding)["clip"][:, :, 50:60].argmax(dim=0) == winner).all()


@pytest.mark.parametrize(("length", "tile", "windows"), [(512, 256, 3), (1024, 512, 3), (512, 512, 1), (573, 512, 2)])
def test_published_windows(length, tile, windows):
    published = sliding_of(settings(crop=tile, preset="published"))
    assert (published.tile, published.step) == (tile, 5 * tile // 6)
    assert len(TilePlan.of(length, length, tile=tile, overlap=tile - published.step).rows) == windows
    assert (published.blend, published.taper, published.short_side) == ("logits", "flat", 512)


def test_a_resized_image_comes_back_in_its_own_size(pair, tmp_path):
    found = chances_of(pair, torch.rand(3, 70, 90), tmp_path, sliding_of(settings("eval_resize=64")))
    assert found["clip"].shape == (N, 70, 90)
    torch.testing.assert_close(found["clip"].sum(dim=0), torch.ones(70, 90))


def test_counts_equal_a_plain_reading(pair, tmp_path):
    data = assemble(read_data(landscape(tmp_path)), view=View(64, (0.5, 2.0), "own"), seed=0)
    tally = evaluate(
        pair, data.val, data.applied_scaling, sliding_of(settings()), threshold=THRESHOLD,
        device=torch.device("cpu"),
    )  # fmt: skip
    area = data.val[0]
    with area.scene.reader() as reader, area.labels.reader() as labels:
        image = torch.from_numpy(data.applied_scaling.apply(reader.read(area.window).pixels))[None]
        truth = labels.read(area.window)
    clip, dino = (student(image)[0].softmax(dim=0) for student in pair.students.values())
    sure = (clip.amax(dim=0) >= 0.95).numpy()
    right = clip.argmax(dim=0).numpy() == truth
    assert tally.pixels == truth.size
    assert tally.sure["clip"] == pytest.approx(sure.sum(), abs=3)
    assert tally.right["clip"] == pytest.approx((sure & right).sum(), abs=3)
    assert tally.taught == {"clip": 0, "dino": tally.sure["clip"]}
    assert tally.agreed == pytest.approx((clip.argmax(dim=0) == dino.argmax(dim=0)).sum(), abs=3)
    assert np.diag(tally.confusions["clip"]).sum() == pytest.approx(right.sum(), abs=3)
    assert tally.with_vector(tally.vector()).facts() == tally.facts()


def test_a_student_far_behind_is_remarked():
    assert "local2 is 45 points of mean IoU behind local," in lagging({"local": 0.618, "local2": 0.166, "fused": 0.43})
    assert lagging({"clip": 0.5, "dino": 0.3, "fused": 0.9, "ema-dino": 0.1}) is None
    assert lagging({"student": 0.1, "fused": 0.9}) is None


def test_of_three_students_all_must_agree_and_a_pixel_is_taught_once():
    from types import SimpleNamespace

    from co2s_cli.scoring.validation import _count_part

    def sure_of(class_id):
        return torch.eye(3)[class_id].view(3, 1, 1) * 0.9 + 0.1 / 3

    members = {"clip": sure_of(0), "dino": sure_of(0), "local": sure_of(1)}
    manifest = SimpleNamespace(classes=("a", "b", "c"), fusion="mean")
    counts = _count_part(members, np.zeros((1, 1), np.uint8), SimpleNamespace(manifest=manifest), torch.full((3,), 0.5))
    assert (counts.agreed, counts.pixels) == (0, 1)
    assert set(counts.taught.values()) == {1}
    assert counts.right == {"clip": 1, "dino": 1, "local": 0}
