"""From a data.yaml to batches: what is drawn, what is never shown, and what is refused."""

import itertools
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from scipy import ndimage
from support.rasters import noise, write_raster
from support.training import SIZE, VAL, chips, landscape

from co2s_cli.classes import IGNORE
from co2s_cli.config.data import DataConfig, LabeledEntry, UnlabeledEntry, read_data
from co2s_cli.data.dataset import assemble
from co2s_cli.data.landscape import CLASSES, Landscape
from co2s_cli.data.loader import BatchPlan, Loader, item_at
from co2s_cli.data.samples import Pool, View
from co2s_cli.data.sources import Source, touch, within
from co2s_cli.data.splits import draw
from co2s_cli.data.survey import unlabeled_items
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

VIEW = View(64, (0.5, 2.0), "own")
WHOLE = {"image": "scene.tif", "labels": "labels.tif"}

CPU = torch.device("cpu")


def dataset(path, **options):
    return assemble(read_data(path), view=VIEW, seed=0, **options)


def fully_labeled(folder, size, **changes):
    """A scene of another size with a label at every pixel."""
    path = landscape(folder, labeled=[WHOLE], **changes)
    pixels, truth = Landscape(seed=3, size=size).block(Window(0, 0, size, size))
    write_raster(folder / "scene.tif", pixels)
    write_raster(folder / "labels.tif", truth)
    return path


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


def test_a_constant_band_trains_as_a_half_and_the_others_are_scaled(tmp_path):
    path = landscape(tmp_path, bands=None)
    with rasterio.open(tmp_path / "scene.tif") as scene:
        pixels = scene.read().astype(np.uint16)
    write_raster(
        tmp_path / "scene.tif", np.stack([*pixels, np.full_like(pixels[0], 7)]), names=("red", "green", "blue", "nir")
    )
    data = dataset(path)
    assert data.bands == ("red", "green", "blue", "nir")
    assert data.scaling.low[3] == data.scaling.high[3] == 7
    crop = data.labeled.draw(0, np.random.default_rng(0))
    assert (crop.image[3] == 0.5).all()
    assert crop.image[:3].std() > 0.1
    data.labeled.release()


@pytest.mark.parametrize("split_by", ["chip", "tile"])
def test_of_chips_that_are_split_the_log_tells_the_pixels_of_each_class_on_both_sides(tmp_path, split_by, caplog):
    folder = chips(tmp_path / "set")
    for index in range(6):
        write_raster(folder / "labels" / f"{index:02}.tif", np.full((64, 64), index % 2, np.uint8))
    entry = {"image": "set/images", "labels": "set/labels"}
    path = landscape(tmp_path, labeled=[entry], unlabeled=["scene.tif"], val=0.2, split_by=split_by)
    with caplog.at_level("INFO"):
        data = dataset(path)
    (held,) = {Path(area.scene.source).stem for area in data.val}
    first, second = CLASSES.names[int(held) % 2], CLASSES.names[1 - int(held) % 2]
    assert f"{first}: 8,192 labelled pixels in 2 places train, 4,096 in 1 validate" in caplog.text
    assert f"{second}: 12,288 labelled pixels in 3 places train, 0 in 0 validate" in caplog.text
    assert f"class {second} cannot be validated" in caplog.text


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


@pytest.mark.parametrize(("crop", "size"), [(32, 90), (64, 200), (64, 256), (128, 260), (128, 200)])
@pytest.mark.parametrize("val", [0.2, 0.6])
def test_validation_by_a_ratio_touches_nothing_that_trains(tmp_path, crop, size, val):
    path = fully_labeled(tmp_path, size, val=val)
    for seed in range(3):
        view = View(crop, (1.0, 1.0), "own")
        data = assemble(read_data(path), view=view, seed=seed, with_unlabeled=val < 0.5)
        assert data.val
        for source in (*data.labeled.sources, *(data.unlabeled.sources if data.unlabeled else ())):
            shown = np.ones((size, size), bool)
            for out in source.holdout:
                shown[out.slices] = False
            for area in data.val:
                rows, cols = (slice(max(0, part.start - 1), part.stop + 1) for part in area.window.slices)
                assert not shown[rows, cols].any()


def test_an_image_that_is_named_twice_does_not_train_where_it_validates(tmp_path):
    twice = [{"image": "scene.tif", "labels": "few.tif"}, {"image": "scene.tif", "labels": "labels.tif"}]
    data = dataset(landscape(tmp_path, labeled=twice, val=0.3))
    first, second = data.labeled.sources
    assert first.holdout == second.holdout
    items = {item.near for item in data.labeled.items if item.source == 1}
    assert not items & set(first.holdout)


def test_labels_that_validate_by_a_ratio_do_not_train(tmp_path):
    data = dataset(landscape(tmp_path, val=0.3))
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
        ({"unlabeled": None}, "data.yaml: no unlabelled images"),
        ({"val": [{"image": "scene.tif", "labels": "empty.tif"}]}, "empty.tif: no labelled pixel to validate with"),
        ({"val": [{"image": "scene.tif", "labels": "wrong.tif"}]}, "wrong.tif: value 9 is no class"),
        ({"unlabeled": ["deep.tif"]}, r"types uint16 \(.*deep.tif\) and uint8 \(.*scene.tif\) found"),
        ({"val": [{"image": "scene.tif", "labels": "few.tif"}]}, "labels train and validate at once"),
        ({"bands": ["red", "nir"]}, r"3 bands found .* wanted are red, nir"),
        ({"classes": ["one", "two"]}, "is no class"),
        ({"labeled": [{"image": "scene.tif", "labels": "empty.tif"}]}, "every pixel is ignored"),
        ({"labeled": [{"image": "scene.tif", "labels": "gone.tif"}]}, "no such label file"),
        ({"labeled": [{"image": "gone.tif", "labels": "few.tif"}]}, "no such file"),
        ({"scaling": {"dtype": "uint16", "low": [0, 0, 0], "high": [1, 1, 1]}}, "samples are uint8"),
        ({"labeled": [{"image": "scene.tif", "labels": "few.tif", "windows": [[0, 0, 300, 10]]}]}, "is not inside"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, match):
    write_raster(tmp_path / "empty.tif", np.full((SIZE, SIZE), IGNORE, np.uint8))
    write_raster(tmp_path / "wrong.tif", np.where(np.arange(SIZE) < 255, IGNORE, np.full((SIZE, SIZE), 9, np.uint8)))
    write_raster(tmp_path / "deep.tif", np.ones((3, SIZE, SIZE), np.uint16))
    with pytest.raises(InputError, match=match):
        dataset(landscape(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": None}, "classes is missing"),
        ({"labelled": []}, "labelled: no such setting"),
        ({"val": 1.5}, "between 0 and 1"),
        ({"classes": ["a", "a"]}, "class names must differ"),
    ],
)
def test_a_wrong_data_yaml_is_refused(tmp_path, changes, match):
    with pytest.raises(ConfigError, match=match):
        read_data(landscape(tmp_path, **changes))


def equal(a, b):
    a, b = a.to(CPU), b.to(CPU)
    assert a.slots == b.slots
    for name in ("images", "labels", "seen", "weak", "valid", "partner"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("strong", "boxes"):
        assert all(torch.equal(x, y) for x, y in zip(getattr(a, name), getattr(b, name), strict=True)), name


def test_a_batch_depends_on_seed_and_step_alone(data):
    def loader(seed=0):
        return Loader(data.labeled, data.unlabeled, BatchPlan(seed=seed, batch=2, crop=64), threads=2)

    in_order = list(loader().batches(0, 4))
    late = list(loader().batches(2, 4))
    equal(in_order[2], late[0])
    equal(in_order[3], late[1])
    other = next(loader(seed=1).batches(2, 3))
    assert not torch.equal(other.weak, late[0].weak)
    assert in_order[0].strong[0] != in_order[0].strong[1]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_ranks_own_the_slots_of_the_doubled_batch(data, batch):
    whole = Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=2 * batch, crop=64)).batch(5).to(CPU)
    for rank in range(2):
        part = (
            Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=2 * batch, crop=64, rank=rank, ranks=2))
            .batch(5)
            .to(CPU)
        )
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
    loader = Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=batch, crop=64, partner="flip"))
    made = loader.batch(0).to(CPU)
    assert made.partner.tolist() == partners
    assert len(made.weak) == batch
    loader.release()


@pytest.mark.parametrize("partner", ["other", "same"])
def test_the_partner_is_another_image_or_another_view_of_the_same(data, partner):
    loader = Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=2, crop=64, partner=partner))
    batch = loader.batch(0).to(CPU)
    extra = 0 if partner == "other" else 2
    assert len(batch.weak) == 2 + extra
    assert batch.partner.tolist() == ([1, 0] if partner == "other" else [2, 3])
    loader.release()


def test_crops_travel_as_bytes_and_arrive_as_they_were_read(data):
    loader = Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=2, crop=64))
    drawn = loader.batch(3)
    made = drawn.to(CPU)
    for name in ("images", "weak"):
        assert getattr(drawn, name).dtype == torch.uint8
        assert torch.equal((getattr(made, name) * 255).round().byte(), getattr(drawn, name))
    assert drawn.labels.dtype == torch.uint8
    for boxes, masks in zip(drawn.boxes, made.boxes, strict=True):
        for (row, col, height, width), mask in zip(boxes, masks, strict=True):
            assert mask.sum() == mask[row : row + height, col : col + width].sum() == height * width
    loader.release()


def test_the_order_of_the_items_and_the_first_crops_are_drawn_from_other_numbers(monkeypatch, data):
    """NumPy takes [seed, stream, step] and [seed, stream, step, 0] for one seed."""
    drawn, real = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: (drawn.append(tuple(seed)), real(seed))[1])
    plan = BatchPlan(seed=123, batch=3, crop=64, partner="same")
    loader = Loader(data.labeled, data.unlabeled, plan)
    for step in range(3):
        loader.batch(step)
    loader.release()
    states = {tuple(np.random.SeedSequence(seed).generate_state(4).tolist()) for seed in drawn}
    assert len(states) == len(set(drawn)) > 20


def test_without_strong_views_no_unlabelled_image_is_read(data):
    loader = Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=2, crop=64, views=0))
    batch = loader.batch(0).to(CPU)
    assert batch.weak.shape == (0, 3, 64, 64)
    loader.release()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_pass_takes_each_item_once_and_no_neighbours_are_equal(count):
    series = [item_at(count, position, seed=5, stream=0) for position in range(20 * count)]
    for start in range(0, len(series), count):
        assert sorted(series[start : start + count]) == list(range(count))
    if count > 2:
        assert all(a != b for a, b in itertools.pairwise(series))


def test_unlabelled_images_without_a_free_place_are_told_from_none(tmp_path):
    with pytest.raises(InputError, match=r"scene.tif: .* outside the validation areas"):
        dataset(fully_labeled(tmp_path, SIZE, val=0.9))


def test_one_of_several_images_may_have_no_labels_to_validate_with(tmp_path):
    write_raster(tmp_path / "empty.tif", np.full((SIZE, SIZE), IGNORE, np.uint8))
    val = [{**WHOLE, "windows": [VAL]}, {"image": "scene.tif", "labels": "empty.tif", "windows": [[200, 0, 40, 40]]}]
    assert len(dataset(landscape(tmp_path, val=val)).val) == 2


def test_images_with_labels_are_no_unlabelled_ones(tmp_path):
    folder = tmp_path / "chips"
    folder.mkdir()
    for name in ("a", "b"):
        write_raster(folder / f"{name}.tif", noise((3, 64, 64)))
    write_raster(tmp_path / "labels.tif", np.zeros((64, 64), np.uint8))
    labeled = [LabeledEntry(image=str(folder / f"{name}.tif"), labels=tmp_path / "labels.tif") for name in ("a", "b")]
    config = DataConfig(classes=("x", "y"), labeled=labeled, unlabeled=[UnlabeledEntry(image=str(folder))], val=0.5)
    with pytest.raises(InputError, match="no unlabelled images, those under unlabeled: have labels or validate"):
        assemble(config, view=VIEW, seed=0)


def test_published_data_without_unlabelled_images_name_the_ways_to_some(tmp_path):
    config = read_data(landscape(tmp_path, unlabeled=None))
    with pytest.raises(InputError, match="whdld: no unlabelled images") as error:
        assemble(config, view=VIEW, seed=0, name="whdld")
    assert "--labeled-ratio" in error.value.hint
    assert "--splits" in error.value.hint


def test_regions_of_a_sparse_raster_validate_as_polygons_do(tmp_path):
    data = dataset(landscape(tmp_path, val=0.3))
    (source,) = data.labeled.sources
    with source.labels.reader() as reader:
        labeled = reader.read(Window(0, 0, SIZE, SIZE)) != IGNORE
    parts, count = ndimage.label(labeled, np.ones((3, 3)))
    held = np.zeros_like(labeled)
    for window in source.holdout:
        held[window.slices] = True
    assert 0 < len(source.holdout) < count
    assert all(len(set(held[parts == part].tolist())) == 1 for part in range(1, count + 1))
    assert sum(data.counts) == np.count_nonzero(labeled & ~held)


def test_unlabelled_crops_hide_what_validates_where_it_lies_in_every_cell(tmp_path):
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", noise((3, 192, 192)))))
    spots = tuple(Window(row, col, 8, 8) for row in range(20, 192, 64) for col in range(20, 192, 64))
    one = Source(scene, holdout=spots[:1])
    assert [item.near for item in unlabeled_items([one], 64)].count(Window(0, 0, 64, 64)) == 0
    every = unlabeled_items([Source(scene, holdout=spots)], 64)
    assert len(every) == 9
    assert unlabeled_items([Source(scene, holdout=(Window(0, 0, 192, 192),))], 64) == []
    scaling, view = Scaling((0.0,) * 3, (255.0,) * 3), View(64, (1.0, 1.0), "own")
    pool = Pool([Source(scene, holdout=spots)], every, scaling, view)
    crops = [pool.draw(index, np.random.default_rng(index)) for index in range(9)]
    assert any(not crop.valid.all() for crop in crops)


def test_a_scene_of_two_crops_is_divided_into_cells_where_a_share_of_dense_labels_validates(tmp_path):
    view = View(128, (1.0, 1.0), "own")
    data = assemble(read_data(fully_labeled(tmp_path, SIZE, val=0.3)), view=view, seed=0)
    (source,) = data.labeled.sources
    assert {(window.height, window.width) for window in source.holdout} == {(SIZE // 4, SIZE // 4)}
    held = sum(window.height * window.width for window in source.holdout)
    assert held + sum(data.counts) == SIZE * SIZE
    assert 0.3 * SIZE * SIZE <= held <= 0.6 * SIZE * SIZE
    lonely = np.full((SIZE, SIZE), IGNORE, np.uint8)
    lonely[4:12, 4:12] = 1
    write_raster(tmp_path / "labels.tif", lonely)
    with pytest.raises(InputError, match="1 block with labels found"):
        assemble(read_data(tmp_path / "data.yaml"), view=view, seed=0)


def test_of_a_single_scene_a_ratio_keeps_the_labels_of_some_places(tmp_path):
    path = fully_labeled(tmp_path, SIZE, val=0.2, unlabeled=None)
    every, some = dataset(path, with_unlabeled=False), dataset(path, ratio=1 / 8)
    assert some.val == every.val
    assert sum(every.counts) / 8 <= sum(some.counts) <= sum(every.counts) / 8 + 32 * 32
    (source,), (rest,) = some.labeled.sources, some.unlabeled.sources
    assert sum(window.height * window.width for window in source.windows) == sum(some.counts)
    assert rest.labels is None
    assert rest.holdout == source.holdout
    assert dataset(path, ratio=1 / 8).digest == some.digest
    with pytest.raises(InputError, match="less than one"):
        dataset(path, ratio=1 / 1000)


def test_a_scene_that_is_listed_as_unlabelled_is_not_drawn_from_twice_for_a_ratio(tmp_path):
    data = dataset(fully_labeled(tmp_path, SIZE, val=0.2), ratio=1 / 8)
    assert len(data.unlabeled.sources) == 1


def _picked(content, numbers, **changes):
    """A data.yaml's changes that pick bands by number in all of its images."""
    entries = {key: [{**entry, "bands": numbers} for entry in content[key]] for key in ("labeled", "val")}
    return {**entries, "unlabeled": [{"image": "scene.tif", "bands": numbers}], **changes}


def test_the_digest_tells_data_apart(tmp_path):
    path = landscape(tmp_path)
    plain = yaml.safe_load(path.read_text())

    def digest(**changes):
        path.write_text(yaml.safe_dump({**plain, **changes}))
        return dataset(path).digest

    first, *others = plain["classes"]
    one = digest()
    assert digest() == one
    assert digest(classes=[{**first, "color": [1, 2, 3]}, *others]) == one
    shutil.copy(tmp_path / "few.tif", tmp_path / "same.tif")
    assert digest(labeled=[{"image": "scene.tif", "labels": "same.tif"}]) == one
    changed = [
        digest(classes=[{**first, "prompts": ["hut"]}, *others]),
        digest(classes=[*others, first]),
        digest(**_picked(plain, [1, 2, 3], bands=["red", "green", "nir"])),
        digest(labeled=[{**plain["labeled"][0], "bands": [3, 2, 1]}]),
        digest(scaling={"dtype": "uint8", "low": [0, 0, 0], "high": [100, 100, 100]}),
        digest(val=0.3),
    ]
    assert len({one, *changed}) == 1 + len(changed)


@pytest.mark.parametrize(("name", "place"), [("few.tif", [0, 0, 24, 24]), ("labels.tif", VAL)])
@pytest.mark.parametrize("val", [None, 0.3])
def test_other_labels_of_the_same_numbers_are_other_data(tmp_path, name, place, val):
    path = landscape(tmp_path, **({} if val is None else {"val": val, "labeled": [WHOLE]}))
    before = dataset(path).digest
    with rasterio.open(tmp_path / name, "r+") as labels:
        ids, where = labels.read(1), Window(*place).slices
        ids[where] = ids[where].T
        labels.write(ids, 1)
    used = val is None or name == "labels.tif"
    assert (dataset(path).digest != before) == used


@pytest.mark.parametrize("labels", ["few.tif", "labels.tif"])
def test_the_labels_that_a_share_holds_back_are_among_the_whole(tmp_path, labels):
    labeled = [{"image": "scene.tif", "labels": labels}]
    config = read_data(landscape(tmp_path, val=0.3, labeled=labeled, unlabeled=None))
    view = View(64, (1.0, 1.0), "own")
    assemble_ = partial(assemble, config, view=view, seed=0, with_unlabeled=False)
    made = assemble_(refit=True)
    places = {item.near for item in made.whole.items}
    teaching = [item.near for item in made.labeled.items]
    assert all(any(within(near, place) for place in places) for near in teaching)
    held = made.labeled.sources[0].holdout
    assert any(
        all(not touch(near, place) for near in teaching) for place in places if any(touch(place, h) for h in held)
    )
    assert assemble_().whole is None
    assert made.digest == assemble_().digest
    assert assemble_(refit=True, ratio=0.5).whole is None
