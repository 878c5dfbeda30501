"""From a data.yaml to batches: what is drawn, what is never shown, and what is refused."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from support.rasters import write_raster
from support.training import SIZE, VAL, chips, landscape

from co2s_cli.classes import IGNORE
from co2s_cli.config.data import read_data
from co2s_cli.data.dataset import assemble
from co2s_cli.data.loader import Loader, Plan, item_at
from co2s_cli.data.samples import View
from co2s_cli.data.sources import touch
from co2s_cli.data.splits import draw
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.tiling import Window

VIEW = View(64, (0.5, 2.0), "own")


def dataset(path, **options):
    return assemble(read_data(path), view=VIEW, seed=0, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return dataset(landscape(tmp_path_factory.mktemp("data")))


def test_facts_of_the_landscape(data):
    assert data.bands == ("red", "green", "blue")
    assert data.scaling.high == (255.0, 255.0, 255.0)
    assert data.ground_resolution == pytest.approx(10, rel=0.01)
    assert sum(data.counts) == 4 * 24 * 24 + 30 * 30
    assert [area.window for area in data.val] == [Window(*VAL)]


def test_no_training_crop_shows_the_validation(data):
    out = Window(*VAL)
    assert all(source.holdout == (out,) for source in (*data.labeled.sources, *data.unlabeled.sources))
    assert not any(item.near and touch(item.near, out) for item in data.unlabeled.items)


def test_labels_outside_the_windows_of_an_entry_do_not_train(tmp_path):
    part = {"image": "scene.tif", "labels": "labels.tif", "windows": [[0, 0, 40, 40], [100, 0, 30, 30]]}
    data = dataset(landscape(tmp_path, labeled=[part]))
    assert sum(data.counts) == 40 * 40 + 30 * 30
    plain = View(64, (1.0, 1.0), "own")
    pool = assemble(read_data(tmp_path / "data.yaml"), view=plain, seed=0).labeled
    for seed in range(8):
        for index in range(len(pool)):
            assert (pool.draw(index, np.random.default_rng(seed)).labels != IGNORE).sum() <= 40 * 40
    pool.release()


def test_crops_are_whole_and_labelled(data):
    for index in range(len(data.labeled)):
        crop = data.labeled.draw(index, np.random.default_rng(index))
        assert crop.image.shape == (3, 64, 64)
        assert crop.image.min() >= 0
        assert crop.image.max() <= 1
        assert (crop.labels != IGNORE).any()
    data.labeled.release()


def test_crops_of_half_scale_are_pixels_of_the_scene(tmp_path):
    pixels = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64)
    path = landscape(tmp_path)
    write_raster(tmp_path / "scene.tif", np.tile(pixels, (1, 4, 4)))
    plain = assemble(read_data(path), view=View(64, (1.0, 1.0), "own"), seed=0)
    crop = plain.unlabeled.draw(0, np.random.default_rng(0))
    low, high = plain.scaling.low[0], plain.scaling.high[0]
    raw = set((crop.image * (high - low) + low).round().long().flatten().tolist())
    assert len(raw & set(range(int(low), int(high) + 1))) > 1000
    plain.unlabeled.release()


def test_labels_of_unlabelled_chips_are_never_opened(tmp_path):
    folder = chips(tmp_path / "set")
    (folder / "labeled.txt").write_text("images/00.tif labels/00.tif\nimages/01.tif labels/01.tif\n")
    (folder / "val.txt").write_text("05\n")
    entry = {"image": "set/images", "labels": "set/labels"}
    path = landscape(
        tmp_path,
        labeled=[{**entry, "list": "set/labeled.txt"}],
        val=[{**entry, "list": "set/val.txt"}],
        unlabeled=["set/images"],
    )
    for index in (2, 3, 4):
        (folder / "labels" / f"{index:02}.tif").unlink()
    data = dataset(path)
    assert len(data.labeled) == 2
    names = [source.scene.source[-6:] for source in data.unlabeled.sources]
    assert names == ["02.tif", "03.tif", "04.tif"]


def test_a_ratio_takes_labels_away(tmp_path):
    chips(tmp_path / "set")
    path = landscape(tmp_path, labeled=[{"image": "set/images", "labels": "set/labels"}], val=0.2, unlabeled=None)
    data = dataset(path, ratio=2 / 5)
    assert (len(data.labeled), len(data.unlabeled), len(data.val)) == (2, 3, 1)
    with pytest.raises(InputError, match="less than one"):
        dataset(path, ratio=0.1)


def test_larger_draws_hold_the_smaller_ones():
    small, rest = draw(range(50), 5, seed=3)
    large, _ = draw(range(50), 20, seed=3)
    assert set(small) < set(large)
    assert sorted(small + rest) == list(range(50))
    assert draw(range(50), 5, seed=4)[0] != small


def test_validation_by_a_ratio_touches_no_training_label(tmp_path):
    data = dataset(landscape(tmp_path, val=0.3))
    assert data.val
    labels = data.labeled.sources[0].labels
    with labels.reader() as reader:
        held = sum(int((reader.read(out) != IGNORE).sum()) for out in data.labeled.sources[0].holdout)
        everything = int((reader.read(Window(0, 0, SIZE, SIZE)) != IGNORE).sum())
    assert held + sum(data.counts) == everything
    assert held >= 0.3 * everything
    for index in range(len(data.labeled)):
        crop = data.labeled.draw(index, np.random.default_rng(index))
        assert (crop.labels[~crop.valid] == IGNORE).all()
    data.labeled.release()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"unlabeled": None}, "no unlabelled images"),
        ({"val": [{"image": "scene.tif", "labels": "few.tif"}]}, "labels train and validate at once"),
        ({"bands": ["red", "nir"]}, r"3 bands found .* wants red, nir"),
        ({"classes": ["one", "two"]}, "is no class"),
        ({"labeled": [{"image": "scene.tif", "labels": "empty.tif"}]}, "every pixel is ignored"),
        ({"labeled": [{"image": "scene.tif", "labels": "gone.tif"}]}, "no such label file"),
        ({"labeled": [{"image": "gone.tif", "labels": "few.tif"}]}, "no such file"),
        ({"scaling": {"dtype": "uint16", "low": [0, 0, 0], "high": [1, 1, 1]}}, "samples are uint8"),
        ({"labeled": [{"image": "scene.tif", "labels": "few.tif", "windows": [[0, 0, 300, 10]]}]}, "reaches over"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, match):
    write_raster(tmp_path / "empty.tif", np.full((SIZE, SIZE), IGNORE, np.uint8))
    with pytest.raises(InputError, match=match):
        dataset(landscape(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": None}, "classes: is missing"),
        ({"labelled": []}, "labelled: no such setting"),
        ({"val": 1.5}, "between 0 and 1"),
        ({"classes": ["a", "a"]}, "class names must differ"),
    ],
)
def test_a_wrong_data_yaml_is_refused(tmp_path, changes, match):
    with pytest.raises(ConfigError, match=match):
        read_data(landscape(tmp_path, **changes))


def equal(a, b):
    assert a.slots == b.slots
    for name in ("images", "labels", "seen", "weak", "valid", "partner"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("strong", "boxes"):
        assert all(torch.equal(x, y) for x, y in zip(getattr(a, name), getattr(b, name), strict=True)), name


def test_a_batch_depends_on_seed_and_step_alone(data):
    def loader(seed=0):
        return Loader(data.labeled, data.unlabeled, Plan(seed=seed, batch=2, crop=64), threads=2)

    in_order = list(loader().batches(0, 4))
    late = list(loader().batches(2, 4))
    equal(in_order[2], late[0])
    equal(in_order[3], late[1])
    other = next(loader(seed=1).batches(2, 3))
    assert not torch.equal(other.weak, late[0].weak)
    assert not torch.equal(in_order[0].strong[0], in_order[0].strong[1])


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_ranks_own_the_slots_of_the_doubled_batch(data, batch):
    whole = Loader(data.labeled, data.unlabeled, Plan(seed=0, batch=2 * batch, crop=64)).batch(5)
    for rank in range(2):
        part = Loader(data.labeled, data.unlabeled, Plan(seed=0, batch=batch, crop=64, rank=rank, ranks=2)).batch(5)
        mine = slice(rank * batch, (rank + 1) * batch)
        assert part.slots == whole.slots[mine]
        assert torch.equal(part.images, whole.images[mine])
        assert torch.equal(part.weak[:batch], whole.weak[mine])
        assert torch.equal(part.weak[part.partner], whole.weak[whole.partner[mine]])
        assert torch.equal(part.strong[1][part.partner], whole.strong[1][whole.partner[mine]])
        assert torch.equal(part.boxes[0], whole.boxes[0][mine])
    data.labeled.release()
    data.unlabeled.release()


@pytest.mark.parametrize(("batch", "partners"), [(2, [1, 0]), (3, [2, 1, 0]), (4, [3, 2, 1, 0])])
def test_flipped_partners_mirror_the_batch_and_cost_no_extra_crop(data, batch, partners):
    loader = Loader(data.labeled, data.unlabeled, Plan(seed=0, batch=batch, crop=64, partner="flip"))
    made = loader.batch(0)
    assert made.partner.tolist() == partners
    assert len(made.weak) == batch
    loader.release()


@pytest.mark.parametrize("partner", ["other", "same"])
def test_the_partner_is_another_image_or_another_view_of_the_same(data, partner):
    loader = Loader(data.labeled, data.unlabeled, Plan(seed=0, batch=2, crop=64, partner=partner))
    batch = loader.batch(0)
    extra = 0 if partner == "other" else 2
    assert len(batch.weak) == 2 + extra
    assert batch.partner.tolist() == ([1, 0] if partner == "other" else [2, 3])
    loader.release()


def test_without_strong_views_no_unlabelled_image_is_read(data):
    loader = Loader(data.labeled, data.unlabeled, Plan(seed=0, batch=2, crop=64, views=0))
    batch = loader.batch(0)
    assert batch.weak.shape == (0, 3, 64, 64)
    loader.release()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_pass_takes_each_item_once_and_no_neighbours_are_equal(count):
    series = [item_at(count, position, seed=5, stream=0) for position in range(20 * count)]
    for start in range(0, len(series), count):
        assert sorted(series[start : start + count]) == list(range(count))
    if count > 2:
        assert all(a != b for a, b in itertools.pairwise(series))


def test_the_digest_tells_data_apart(tmp_path):
    one = dataset(landscape(tmp_path)).digest
    assert dataset(tmp_path / "data.yaml").digest == one
    shutil.copy(tmp_path / "labels.tif", tmp_path / "few.tif")
    landscape(tmp_path, val=0.3)
    assert dataset(tmp_path / "data.yaml").digest != one
