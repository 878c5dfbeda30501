"""Pictures are drawn, of any number of classes."""

import numpy as np
import pytest
from PIL import Image

from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.plots import draw_confusion, draw_reliability


def size(path):
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 6, 60])
def test_a_confusion_matrix_is_drawn_in_bounded_size(tmp_path, classes):
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    draw_confusion(tmp_path / "c.png", matrix, [f"class {i}" for i in range(classes)], title="")
    assert 200 < max(size(tmp_path / "c.png")) < 3200


def test_more_columns_than_rows_have_names_of_their_own(tmp_path):
    draw_confusion(tmp_path / "c.png", np.ones((2, 3), int), ["a", "b"], title="", columns=["a", "b", "none"])
    assert (tmp_path / "c.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [np.full((2, 256), 3), np.zeros((2, 256), int)])
def test_a_reliability_curve_is_drawn_even_of_nothing(tmp_path, counts):
    draw_reliability(tmp_path / "r.png", Reliability.of(counts, 1 / 255, 15))
    assert min(size(tmp_path / "r.png")) > 300
