"""Labels with weights: they train by their weight, and measure nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.rasters import write_raster
from support.training import SIZE, VAL, chips, landscape

from co2s_cli.classes import IGNORE
from co2s_cli.config.data import DataConfig, read_data, relative
from co2s_cli.data.dataset import assemble
from co2s_cli.data.landscape import Landscape
from co2s_cli.data.loader import BatchPlan, Loader
from co2s_cli.data.samples import View
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.tiling import Window

HUMAN = {"image": "scene.tif", "labels": "few.tif"}


def dataset(path, crop=64, seed=1):
    return assemble(read_data(path), view=View(crop, (1.0, 1.0), "own"), seed=seed)


def weighted(folder, *, weights="weights.tif", human=True, **changes):
    """The landscape with everything labelled once more, where class n weighs n + 1."""
    _, truth = Landscape(seed=3, size=SIZE).block(Window(0, 0, SIZE, SIZE))
    write_raster(folder / "more.tif", truth)
    write_raster(folder / "weights.tif", truth + np.uint8(1))
    more = {"image": "scene.tif", "labels": "more.tif", "weights": weights}
    return landscape(folder, labeled=[HUMAN, more] if human else [more], **changes)


def loader(data, threads=1):
    return Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=4, crop=64, views=0), threads=threads)


def test_crops_carry_the_weights_of_their_pixels(tmp_path):
    data = dataset(weighted(tmp_path))
    assert [source.weights is None for source in data.labeled.sources] == [True, False]
    for index, item in enumerate(data.labeled.items):
        crop = data.labeled.draw(index, np.random.default_rng(index))
        known = crop.labels != IGNORE
        expected = torch.ones_like(crop.labels) if item.source == 0 else crop.labels + 1
        assert torch.equal(crop.weights[known], expected[known].float())
    data.labeled.release()


def test_a_pixel_that_two_entries_label_counts_once(tmp_path):
    data = dataset(weighted(tmp_path))
    alone = dataset(weighted(tmp_path, human=False))
    assert data.counts == alone.counts, "the second entry labels all that the first one does, and as it does"
    assert (data.labeled_images, len(data.labeled.sources)) == (1, 2)
    assert sum(data.counts) == SIZE * SIZE - VAL[2] * VAL[3]


def test_a_batch_has_weights_only_where_some_labels_have_some(tmp_path):
    (tmp_path / "plain").mkdir()
    plain = loader(dataset(landscape(tmp_path / "plain")))
    assert plain.batch(0).weights is None
    plain.release()
    some = loader(dataset(weighted(tmp_path, weights=0.5)))
    batch = some.batch(0)
    assert batch.weights.shape == batch.labels.shape
    assert set(batch.weights.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert torch.equal(batch.to(torch.device("cpu")).weights, batch.weights)
    some.release()


def test_a_share_that_validates_is_drawn_as_if_weighted_labels_were_not_there(tmp_path):
    (tmp_path / "plain").mkdir()
    before = dataset(landscape(tmp_path / "plain", val=0.3))
    after = dataset(weighted(tmp_path, val=0.3))
    assert [area.window for area in after.val] == [area.window for area in before.val]
    held = before.labeled.sources[0].holdout
    assert held
    assert all(set(held) <= set(source.holdout) for source in (*after.labeled.sources, *after.unlabeled.sources))
    with after.val[0].labels.reader() as reader:
        assert (reader.read(after.val[0].window) == IGNORE).any()  # the few labels, not those of every pixel


def test_weighted_labels_under_the_validation_are_left_out_rather_than_refused(tmp_path):
    data = dataset(weighted(tmp_path))
    assert all(source.holdout == (Window(*VAL),) for source in data.labeled.sources)
    for index in range(len(data.labeled)):
        crop = data.labeled.draw(index, np.random.default_rng(index))
        assert (crop.labels[~crop.valid] == IGNORE).all()
    data.labeled.release()
    inside = [item for item in data.labeled.items if item.near.row >= VAL[0] and item.near.col >= VAL[1]]
    assert not inside


def test_half_of_the_draws_show_labels_without_weights_however_few_they_are(tmp_path):
    data = dataset(weighted(tmp_path), crop=32)
    few, many = (sum(item.source == source for item in data.labeled.items) for source in (0, 1))
    own = len({item for item in data.labeled.items if item.source == 0})
    assert few % own == 0
    assert 0.7 < few / many < 1.4
    assert own < many / 2
    with data.labeled.sources[0].labels.reader() as reader:
        everything = reader.read(Window(0, 0, SIZE, SIZE))
    assert sum(data.counts) > (everything != IGNORE).sum()  # each block counts once in the figures


@pytest.mark.slow
def test_chips_that_are_drawn_to_validate_train_nobody_whatever_else_names_them(tmp_path):
    chips(tmp_path / "set")
    folder = {"image": "set/images", "labels": "set/labels"}
    single = [
        {"image": f"set/images/{index:02}.tif", "labels": f"set/labels/{index:02}.tif", "weights": 0.5}
        for index in range(6)
    ]
    changes = {"val": 0.34, "unlabeled": [entry["image"] for entry in single]}
    before = dataset(landscape(tmp_path, labeled=[folder], val=0.34))
    after = dataset(landscape(tmp_path, labeled=[folder, *single], **changes))
    out = [area.scene.source for area in after.val]
    assert out == [area.scene.source for area in before.val]
    assert len(out) == 2
    trained = {after.labeled.sources[item.source].scene.source for item in after.labeled.items}
    assert not trained & set(out)
    assert not {source.scene.source for source in after.unlabeled.sources} & set(out)
    assert len(after.unlabeled.sources) == 4


@pytest.mark.slow
def test_weighted_labels_alone_can_train_and_even_validate(tmp_path):
    assert len(dataset(weighted(tmp_path, human=False, val=0.3)).val) > 0
    with pytest.raises(InputError, match="none are left to train on"):
        dataset(weighted(tmp_path, human=False, val=[{"image": "scene.tif", "labels": "labels.tif"}]))


@pytest.mark.slow
def test_other_weights_are_other_data(tmp_path):
    digests = {dataset(weighted(tmp_path, weights=weight)).digest for weight in (0.5, 0.6, "weights.tif")}
    assert len(digests) == 3


def test_paths_come_back_as_they_were_written(tmp_path):
    path = weighted(tmp_path)
    config = read_data(path)
    assert config.labeled[1].weights == tmp_path / "weights.tif"
    (tmp_path / "elsewhere").mkdir()
    moved = relative(config, tmp_path / "elsewhere")
    assert moved.labeled[1].weights == Path("../weights.tif")
    content = yaml.safe_dump(moved.model_dump(mode="json", exclude_defaults=True))
    (tmp_path / "elsewhere" / "data.yaml").write_text(content)
    assert dataset(tmp_path / "elsewhere" / "data.yaml").counts == dataset(path).counts


@pytest.mark.parametrize(("weights", "kind"), [(0.5, float), (1, float), ("w.tif", Path), ("weights/", Path)])
def test_a_weight_is_a_number_or_a_path(weights, kind):
    config = DataConfig(classes=("a",), labeled=({**HUMAN, "weights": weights},))
    assert isinstance(config.labeled[0].weights, kind)


def test_a_negative_weight_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="weights"):
        read_data(weighted(tmp_path, weights=-1))


def test_chips_find_their_weights_by_name(tmp_path):
    for name in ("images", "labels", "weights"):
        (tmp_path / name).mkdir()
    for index in range(3):
        pixels, truth = Landscape(seed=3).block(Window(0, index * 64, 64, 64))
        write_raster(tmp_path / "images" / f"{index}.tif", pixels)
        write_raster(tmp_path / "labels" / f"{index}.tif", truth)
        write_raster(tmp_path / "weights" / f"{index}.tif", np.full((64, 64), index, np.uint8))
    entry = {"image": "images", "labels": "labels", "weights": "weights"}
    data = dataset(landscape(tmp_path, labeled=[entry]))
    seen = [data.labeled.draw(index, np.random.default_rng(0)).weights.unique().tolist() for index in range(3)]
    assert seen == [[0], [1], [2]]
    data.labeled.release()
    (tmp_path / "weights" / "1.tif").unlink()
    with pytest.raises(InputError, match=r"1\.tif: .*weights holds no raster"):
        dataset(landscape(tmp_path, labeled=[entry]))
