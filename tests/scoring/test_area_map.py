"""How a model is run where it is judged: predict's windows, or those of a paper."""

from pathlib import Path

import pytest

from co2s_cli.config import load
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.models.manifest import Manifest
from co2s_cli.scoring.area_map import windows


def windows_of(source, own=512, own_overlap=0.25, **changes):
    settings = load(EvaluateConfig, None, {"source": source, "model": Path("m.safetensors"), **changes})
    return windows(settings, Manifest.model_construct(tile=own, overlap=own_overlap))


def test_without_a_protocol_the_windows_are_those_of_predict():
    found = windows_of("data.yaml", tile=64, overlap=0.5)
    assert (found.tile, found.step, found.blend, found.taper) == (64, 32, "probabilities", "smooth")


def test_size_and_overlap_are_the_models_where_nothing_else_is_said():
    found = windows_of("data.yaml", own=96, own_overlap=0.5)
    assert (found.tile, found.step) == (96, 48)


@pytest.mark.parametrize(
    ("source", "tile", "step", "short_side"),
    [("data.yaml", 512, 426, 512), ("whdld", 256, 213, 512), ("loveda", 512, 426, None), ("deepglobe", 518, 518, 518)],
)
def test_published_windows_are_those_of_the_paper_of_the_data_set(source, tile, step, short_side):
    root = {} if source == "data.yaml" else {"root": Path()}
    found = windows_of(source, tile, protocol="published", **root)
    assert (found.tile, found.step, found.blend, found.taper) == (tile, step, "logits", "flat")
    assert found.short_side == short_side


@pytest.mark.parametrize(
    ("source", "changes", "wanted"),
    [
        ("potsdam-dwl", {"protocol": "mask"}, ("clutter",)),
        ("deepglobe", {"protocol": "published"}, ("unknown",)),
        ("deepglobe", {"protocol": "dwl", "exclude": "water"}, ("water",)),
        ("deepglobe", {}, ()),
        ("whdld", {"protocol": "published"}, ()),
    ],
)
def test_the_classes_that_a_paper_does_not_score_are_left_out(source, changes, wanted):
    values = {"source": source, "model": Path("m.safetensors"), "root": Path(), **changes}
    assert load(EvaluateConfig, None, values).left_out == wanted
