"""The script that makes the start: legends, labels and sensors."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).resolve().parents[2] / "sample_data" / "make_start.py"
    spec = importlib.util.spec_from_file_location("make_start", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types of their fields
    spec.loader.exec_module(module)
    return module


def test_no_legend_has_a_cover_twice_or_a_class_without_one(script):
    rng = np.random.default_rng(0)
    for legend in (*map(script.legend_of, script.LEGENDS), *(script.drawn_legend(rng) for _ in range(200))):
        members = [cover for row in legend for cover in row]
        assert len(set(members)) == len(members)
        assert all(legend)
        assert 2 <= len(legend) <= 8


def test_a_pixel_has_the_class_that_covers_half_of_it_or_none(script):
    shares = torch.zeros(len(script.COVERS), 1, 3)
    shares[0, 0] = torch.tensor([0.3, 0.4, 0.1])
    shares[1, 0] = torch.tensor([0.3, 0.0, 0.0])
    shares[9, 0] = torch.tensor([0.4, 0.6, 0.4])
    labels = script.labels_of(shares, ((0, 1), (9,)), 1, np.random.default_rng(0))
    assert labels.tolist() == [[0, 1, 255]]


def test_an_absent_band_has_the_mean_and_the_others_make_up_for_it(script, monkeypatch):
    tile = script.Tile(1, torch.rand(8, 32, 32).half(), torch.full((10, 32, 32), 25, dtype=torch.uint8))
    monkeypatch.setattr(script, "TILES", {1: 1})
    monkeypatch.setattr(script, "drawn_bands", lambda _: [0, 2])
    monkeypatch.setattr(script, "_crop", lambda *_: (torch.full((8, 16, 16), 0.75), torch.zeros(16, 16)))
    batch = next(script.batches([tile], count=2, size=16, mean=torch.full((8, 1, 1), 0.5), seed=0))
    per_band = batch.images.amax((0, 2, 3))
    torch.testing.assert_close(per_band, torch.tensor([1.5, 0.5, 1.5, 0.5, 0.5, 0.5, 0.5, 0.5]))


def test_every_sensor_gives_values_in_the_range_of_a_student(script):
    rng = np.random.default_rng(1)
    shares = torch.rand(10, 24, 24)
    for _ in range(20):
        image = script.sensed(torch.rand(8, 24, 24) * 0.5, shares / shares.sum(0), rng)
        assert image.shape == (8, 24, 24)
        assert 0 <= image.min() <= image.max() <= 1
