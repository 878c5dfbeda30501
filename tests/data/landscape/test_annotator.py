"""Labelled plots and validation windows lie where they may, and apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape.annotator import Survey
from co2s_cli.tiling import Window


def inside(a, b):
    return b.row <= a.row and b.col <= a.col and a.bottom <= b.bottom and a.right <= b.right


@pytest.mark.slow
@given(seed=st.integers(0, 99), size=st.integers(64, 900))
def test_each_whole_cell_has_one_plot_cut_from_the_labels(seed, size):
    survey = Survey(seed, size)
    labels = np.random.default_rng(seed).integers(0, 6, (size, size), dtype=np.uint8)
    plots = list(survey.plots(Window(0, 0, size, size), labels))
    assert len(plots) == (size // survey.cell) ** 2
    cells = {(plot.window.row // survey.cell, plot.window.col // survey.cell) for plot in plots}
    assert len(cells) == len(plots)
    for plot in plots:
        cell = Window(
            plot.window.row // survey.cell * survey.cell + 1,
            plot.window.col // survey.cell * survey.cell + 1,
            survey.cell - 2,
            survey.cell - 2,
        )
        assert inside(plot.window, cell), "plots of neighbouring cells must not touch"
        np.testing.assert_array_equal(plot.labels, labels[plot.window.slices])


def test_blocks_of_the_scene_give_the_plots_of_the_whole():
    survey = Survey(4, 1024)
    labels = np.random.default_rng(0).integers(0, 3, (1024, 1024), dtype=np.uint8)
    whole = {plot.window for plot in survey.plots(Window(0, 0, 1024, 1024), labels)}
    parts = set()
    for window in (Window(r, c, 512, 512) for r in (0, 512) for c in (0, 512)):
        parts |= {plot.window for plot in survey.plots(window, labels[window.slices])}
    assert parts == whole


def test_a_plot_is_laid_where_classes_meet():
    survey = Survey(1, 1024)
    labels = np.zeros((1024, 1024), np.uint8)
    labels[:, 100:] = 1
    plot = next(survey.plots(Window(0, 0, 256, 256), labels[:256, :256]))
    assert set(np.unique(plot.labels)) == {0, 1}


def test_a_cell_without_a_label_has_an_empty_plot():
    survey = Survey(1, 256)
    plots = list(survey.plots(Window(0, 0, 256, 256), np.full((256, 256), IGNORE, np.uint8)))
    assert all((plot.labels == IGNORE).all() for plot in plots)


@given(seed=st.integers(0, 99), size=st.integers(64, 9000))
def test_validation_windows_lie_in_the_scene_and_apart(seed, size):
    survey = Survey(seed, size)
    cells = -(-size // survey.cell)
    draw = np.random.default_rng(seed)
    counts = {(i, j): draw.multinomial(survey.cell**2, [0.25] * 4) for i in range(cells) for j in range(cells)}
    windows = survey.validation(counts)
    assert windows
    assert all(inside(window, Window(0, 0, size, size)) for window in windows)
    assert len({(window.row, window.col) for window in windows}) == len(windows)
    area = sum(window.height * window.width for window in windows) / size**2
    assert 0.02 < area <= 0.3


def test_validation_sees_a_class_that_only_one_corner_has():
    survey = Survey(3, 1024)
    common, rare = np.array([256**2, 0]), np.array([256**2 // 2, 256**2 // 2])
    counts = {(i, j): rare if (i, j) == (3, 2) else common for i in range(4) for j in range(4)}
    windows = survey.validation(counts)
    assert Window(768, 512, 256, 256) in windows
    assert len(windows) == 2
