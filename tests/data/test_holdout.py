"""Places drawn to validate: whole polygons, every class on both sides, and quickly where there are many."""

import time
from collections import Counter
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from support.rasters import UTM, noise, write_raster

from co2s_cli.config.data import DataConfig, LabeledEntry
from co2s_cli.data.dataset import assemble
from co2s_cli.data.holdout import draw_held_out, share_of
from co2s_cli.data.samples import View
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.tiling import Window


def blocks_of(counts):
    place = Window(0, 0, 8, 8)
    return [
        LabelBlock(index, place, place, place, tuple(row), tuple(row), "") for index, row in enumerate(counts.tolist())
    ]


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 7), st.floats(0.01, 0.99), st.floats(0, 0.95))
def test_no_class_loses_its_last_block_and_each_that_can_be_is_validated(seed, number, classes, share, empty):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 100, (number, classes)) * (rng.random((number, classes)) >= empty)
    counts[counts.sum(axis=1) == 0, rng.integers(classes)] = 1  # a block holds labels
    train, out = draw_held_out(blocks_of(counts), share, seed)
    assert sorted(block.source for block in (*train, *out)) == list(range(number))
    assert train
    assert out
    trains, judged = (counts[[block.source for block in side]].astype(bool) for side in (train, out))
    holds = counts.astype(bool)
    able = [row for row in holds if row.any() and (holds.sum(axis=0)[row] >= 2).all()]
    if not able:  # any block takes a class away from training: one must
        return
    assert (trains.any(axis=0) == holds.any(axis=0)).all()
    for row in trains:  # of what trains nothing could validate a class that lacks and leave its classes in training
        if (row & ~judged.any(axis=0)).any():
            assert (trains.sum(axis=0)[row] < 2).any()


@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0.05, 0.5))
def test_polygons_of_one_class_each_stand_on_both_sides_where_there_are_two(seed, number, share):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 5, number)
    counts = np.zeros((number, 5), np.int64)
    counts[np.arange(number), ids] = rng.integers(1, 1000, number)
    train, out = draw_held_out(blocks_of(counts), share, seed)
    for class_id in range(5):
        if (ids == class_id).sum() >= 2:
            assert any(block.counts[class_id] for block in train)
            assert any(block.counts[class_id] for block in out)


def test_where_every_block_is_the_only_one_of_a_class_one_alone_validates():
    counts = np.array([[100, 20, 0, 0], [0, 0, 1, 0], [0, 0, 0, 50]])
    for seed in range(10):
        _, out = draw_held_out(blocks_of(counts), 0.6, seed)
        assert [block.source for block in out] == [1]  # one class, few pixels


def test_about_the_share_validates_where_the_classes_allow_it():
    counts = np.random.default_rng(3).integers(1, 100, (200, 4))
    _, out = draw_held_out(blocks_of(counts), 0.3, 1)
    assert counts[[block.source for block in out]].sum() / counts.sum() == pytest.approx(0.3, abs=0.01)


@given(st.integers(0, 2**32), st.integers(1, 20), st.floats(0.01, 0.9), st.floats(0, 0.1))
def test_a_share_of_the_blocks_holds_the_smaller_ones(seed, number, share, more):
    blocks = blocks_of(np.random.default_rng(seed).integers(1, 100, (number, 3)))
    small, large = share_of(blocks, share, seed), share_of(blocks, share + more, seed)
    assert {block.source for block in small} <= {block.source for block in large}
    total = sum(sum(block.counts) for block in blocks)
    assert sum(sum(block.counts) for block in small) >= share * total * (1 - 1e-9)


def test_a_block_that_has_labels_in_its_rim_alone_does_not_validate():
    blocks = [replace(block, core=None) for block in blocks_of(np.ones((3, 2), int))]
    with pytest.raises(InputError, match=r"3 blocks with labels found, .* pixels and more from the edge"):
        draw_held_out(blocks, 0.5, 0)
    blocks[1] = replace(blocks[1], core=blocks[1].cell)
    train, out = draw_held_out(blocks, 0.9, 0)
    assert ([block.source for block in train], [block.source for block in out]) == ([0, 2], [1])


def test_many_blocks_are_drawn_in_no_time():
    counts = np.random.default_rng(0).integers(0, 1000, (20_000, 6))
    blocks = blocks_of(counts)
    begin = time.perf_counter()
    _, out = draw_held_out(blocks, 0.2, 0)
    assert time.perf_counter() - begin < 3  # seconds; one by one it takes many times that
    assert 0.2 <= counts[[block.source for block in out]].sum() / counts.sum() < 0.201


def test_polygons_validate_whole_and_every_class_is_on_both_sides(tmp_path, caplog):
    """A scene with a grid of 12 squares of 4 classes, and one square of a fifth class that cannot be validated."""
    caplog.set_level("INFO")
    write_raster(tmp_path / "scene.tif", noise((3, 200, 200)))
    squares = [(10 + 60 * (number // 4), 8 + 48 * (number % 4)) for number in range(12)]
    shapes = [square(row, col, 20) for row, col in squares]
    frame = geopandas.GeoDataFrame(
        {"class": [*(f"c{number % 4}" for number in range(12)), "c4"]},
        geometry=[*shapes, square(190, 190, 5)],
        crs=UTM["crs"],
    )
    frame.to_file(tmp_path / "labels.gpkg")
    entry = LabeledEntry(image=str(tmp_path / "scene.tif"), labels=tmp_path / "labels.gpkg")
    config = DataConfig(classes=tuple(f"c{number}" for number in range(5)), labeled=(entry,), val=0.3)
    data = assemble(config, view=View(48, (1.0, 1.0), "own"), seed=0, with_unlabeled=False)
    judged = Counter()
    for area in data.val:
        with area.labels.reader() as reader:
            labels = reader.read(area.window)
        assert (labels != 255).sum() == 400
        judged[int(labels.min())] += 1
    assert set(judged) == {0, 1, 2, 3}
    assert data.counts == (*(400 * (3 - judged[number]) for number in range(4)), 25)
    assert "class c4 cannot be validated" in caplog.text
    places = "1 place" if judged[0] == 2 else f"{3 - judged[0]} places"
    assert f"c0: {data.counts[0]:,} labelled pixels in {places} train" in caplog.text
    rng = np.random.default_rng(0)
    for _ in range(40):
        crop = data.labeled.draw(int(rng.integers(len(data.labeled))), rng)
        assert (crop.labels != 255).any()
    data.labeled.release()


@pytest.mark.parametrize("crop", [48, 256])
def test_a_scene_of_one_block_holds_one_polygon_back(tmp_path, crop):
    write_raster(tmp_path / "scene.tif", noise((3, 90, 90)))
    frame = geopandas.GeoDataFrame(
        {"class": ["a", "b", "c"]}, geometry=[square(2, 2, 12), square(40, 40, 20), square(70, 4, 15)], crs=UTM["crs"]
    )
    frame.to_file(tmp_path / "labels.gpkg")
    entry = LabeledEntry(image=str(tmp_path / "scene.tif"), labels=tmp_path / "labels.gpkg")
    config = DataConfig(classes=("a", "b", "c"), labeled=(entry,), val=0.2)
    data = assemble(config, view=View(crop, (1.0, 1.0), "own"), seed=0, with_unlabeled=False)
    assert sorted(data.counts) == [0, 225, 400]  # the smallest of three classes validates


def test_of_one_polygon_a_class_parts_validate_so_that_no_class_is_lost(tmp_path):
    write_raster(tmp_path / "scene.tif", noise((3, 200, 200)))
    shapes = [square(0, 0, 90), square(0, 110, 90), square(110, 0, 90)]
    frame = geopandas.GeoDataFrame({"class": ["a", "b", "c"]}, geometry=shapes, crs=UTM["crs"])
    frame.to_file(tmp_path / "labels.gpkg")
    entry = LabeledEntry(image=str(tmp_path / "scene.tif"), labels=tmp_path / "labels.gpkg")
    config = DataConfig(classes=("a", "b", "c"), labeled=(entry,), val=0.2)
    data = assemble(config, view=View(48, (1.0, 1.0), "own"), seed=0, with_unlabeled=False)
    assert all(data.counts)
    validating = set()
    for area in data.val:
        with area.labels.reader() as reader:
            validating |= set(np.unique(reader.read(area.window)).tolist()) - {255}
    assert validating == {0, 1, 2}


def square(row, col, side):
    """A square of pixels, on the map."""
    left, top = 500_000 + 10 * col, 5_500_000 - 10 * row
    return shapely.box(left, top - 10 * side, left + 10 * side, top)


@pytest.mark.parametrize(("balance", "power"), [("uniform", 0.0), ("sqrt", 0.5)])
def test_crops_are_centred_on_each_class_as_often_as_wanted(tmp_path, balance, power):
    labels = np.full((256, 256), 255, np.uint8)
    labels[60:160, 30:120] = 0
    labels[120:150, 200:230] = 1
    labels[210:216, 100:110] = 2
    write_raster(tmp_path / "scene.tif", noise((3, 256, 256)))
    write_raster(tmp_path / "labels.tif", labels)
    write_raster(tmp_path / "val.tif", noise((3, 256, 256)))
    images, truth = ("scene.tif", "val.tif"), tmp_path / "labels.tif"
    entries = [LabeledEntry(image=str(tmp_path / name), labels=truth) for name in images]
    config = DataConfig(classes=("a", "b", "c"), labeled=entries[:1], val=entries[1:])
    data = assemble(config, view=View(33, (1.0, 1.0), "own"), seed=0, with_unlabeled=False, balance=balance)
    rng = np.random.default_rng(0)
    centres = Counter(int(data.labeled.draw(0, rng).labels[16, 16]) for _ in range(600))
    data.labeled.release()
    weights = np.array(data.counts) ** power
    assert [centres[number] / 600 for number in range(3)] == pytest.approx(weights / weights.sum(), abs=0.06)
