"""What the loader hands over, pixel by pixel: label codes, padding, partners, strong views, the share of each chip."""

import contextlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.models import NAMES
from support.rasters import noise, write_raster
from support.training import quick
from torchvision.transforms.functional import rgb_to_grayscale

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry, UnlabeledEntry
from co2s_cli.config.protocol import find_protocol, published_names
from co2s_cli.config.run import parse_ratio
from co2s_cli.data import dataset, roles
from co2s_cli.data.dataset import assemble
from co2s_cli.data.loader import BatchPlan, Loader, item_at
from co2s_cli.data.protocol import data_of as published_data
from co2s_cli.data.samples import View
from co2s_cli.data.sources import Source
from co2s_cli.data.strong import PUBLISHED, Strength
from co2s_cli.jobs import train
from co2s_cli.models import catalog
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.tiling import Window
from co2s_cli.training.losses import pseudo_labels
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.schedule import steps_per_epoch
from co2s_cli.training.views import RequiredViews, StudentForward, cutmix_view, forward_views

SIDE = 32
NOTHING = Strength(jitter=0, hue=0, gray=0, blur=0)

CPU = torch.device("cpu")


def plain(index, side=SIDE):
    """A chip of one colour, its own: the red of chip n is 20 n + 10."""
    return np.stack([np.full((side, side), value, np.uint8) for value in (20 * index + 10, 200 - 15 * index, 90)])


def textured(index, side=SIDE):
    """A chip that says everywhere where it is."""
    return noise((3, side, side), seed=index)


def data_of(folder, made=plain, *, labeled=3, unlabeled=6, side=SIDE, crop=SIDE):
    """Chips in two folders, the labels of the first few and of one that validates; crops are whole chips."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    names = [f"{index:02}.tif" for index in range(labeled + unlabeled + 1)]
    for index, name in enumerate(names):
        write_raster(folder / "images" / name, made(index, side))
    for index in [*range(labeled), len(names) - 1]:
        write_raster(folder / "labels" / names[index], np.full((side, side), index % len(NAMES), np.uint8))
    lists = {"labeled": names[:labeled], "unlabeled": names[labeled:-1], "val": names[-1:]}
    for name, listed in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(listed))

    def entry(name):
        return LabeledEntry(image=str(folder / "images"), labels=folder / "labels", list=folder / f"{name}.txt")

    rest = UnlabeledEntry(image=str(folder / "images"), list=folder / "unlabeled.txt")
    config = DataConfig(classes=NAMES, labeled=(entry("labeled"),), unlabeled=(rest,), val=(entry("val"),))
    return assemble(config, view=View(crop, (1.0, 1.0), "own"), seed=0)


def batches(data, steps, *, crop=SIDE, seed=0, **plan):
    """The batches of the first steps."""
    loader = Loader(data.labeled, data.unlabeled, BatchPlan(seed=seed, crop=crop, **{"batch": 2, **plan}))
    try:
        return [loader.batch(step).to(CPU) for step in range(steps)]
    finally:
        loader.release()


def numbers(images):
    """Which chips of one colour some crops are."""
    return [round((red * 255 - 10) / 20) for red in images[:, 0, 0, 0].tolist()]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("whdld", [IGNORE, 0, 5, IGNORE]),
        ("loveda", [IGNORE, 0, 5, IGNORE]),
        ("potsdam", [IGNORE, 0, 5, IGNORE]),
        ("gid15", [0, 1, 6, IGNORE]),
        ("mer", [0, 1, 6, IGNORE]),
        ("msl", [0, 1, 6, IGNORE]),
    ],
)
def test_label_codes_shift_by_one_where_zero_is_nothing_and_nowhere_else(tmp_path, name, wanted):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    codes = np.repeat(np.array([0, 1, 6, IGNORE], np.uint8), 16).reshape(8, 8)
    for index in range(3):
        write_raster(tmp_path / "images" / f"{index}.tif", textured(index, 8))
        write_raster(tmp_path / "labels" / f"{index}.tif", codes)
    data = assemble(
        published_data(find_protocol(name), tmp_path, None), view=View(8, (1.0, 1.0), "own"), seed=0, ratio=0.5
    )
    for labels in (data.labeled.sources[0].labels, data.val[0].labels):
        with labels.reader() as reader:
            found = reader.read(Window(0, 0, 8, 8))
        np.testing.assert_array_equal(found, np.repeat(wanted, 16).reshape(8, 8))
    crop = data.labeled.draw(0, np.random.default_rng(0))
    data.labeled.release()
    assert Counter(crop.labels.flatten().tolist()) == Counter(np.repeat(wanted, 16).tolist())
    assert len(published_names()) == 9


def test_padding_comes_to_the_network_as_black_normalised_and_counts_nowhere(tmp_path):
    data = data_of(tmp_path, side=40, crop=64)
    torch.manual_seed(0)
    manifest = Manifest(
        classes=tuple(ClassMap.of(NAMES).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
    )
    pair = new_ensemble(manifest)
    (batch,) = batches(data, 1, crop=64)
    for images, seen in ((batch.images, batch.seen), (batch.weak, batch.valid)):
        assert seen.sum(dim=(1, 2)).tolist() == [40 * 40] * 2
        assert not seen[:, 40:].any()
        for crop in seen:  # what was right of a chip is left of it in a mirrored view
            columns = crop.any(dim=0).nonzero().flatten().tolist()
            assert columns in (list(range(40)), list(range(24, 64)))
        assert (images.movedim(1, -1)[~seen] == 0).all()
        assert (images.movedim(1, -1)[seen] > 0).all()
    assert (batch.labels[~batch.seen] == IGNORE).all()
    for student in pair.students.values():
        backbone, given = student.backbone, []
        taps = backbone._taps
        backbone._taps = lambda images, taps=taps, given=given: (given.append(images), taps(images))[1]
        view = forward_views(StudentForward(student), batch, RequiredViews(strong=1))
        black = ((0 - backbone.mean) / backbone.std).flatten()
        both = torch.cat([batch.seen, batch.valid])
        padding = given[0][:4].movedim(1, -1)[~both]
        torch.testing.assert_close(padding, black.expand_as(padding), rtol=0, atol=1e-6)
        rules = MethodRules(threshold=torch.zeros(len(NAMES)), steps=1)
        terms = METHODS["fixmatch"](rules).terms(view, batch, {}, 0)
        assert terms["labeled"].count == 2 * 40 * 40
        own = pseudo_labels(view.guide, batch.valid)
        assert terms["strong1"].count == own.mixed(batch.boxes[0], own.picked(batch.partner)).valid.sum() < 2 * 64 * 64
        assert own.valid.sum() == 2 * 40 * 40


@pytest.mark.parametrize(
    ("partner", "plan"),
    [
        ("other", {"batch": 2}),
        ("other", {"batch": 3}),
        ("other", {"batch": 2, "rank": 1, "ranks": 2}),
        ("flip", {"batch": 4}),
        ("same", {"batch": 2}),
    ],
)
def test_a_box_holds_pixels_of_another_chip_or_of_the_same_where_that_is_wanted(tmp_path, partner, plan):
    """By colour: every chip has one of its own."""
    pasted_pixels, same_boxes = 0, True
    for batch in batches(data_of(tmp_path), 12, partner=partner, strength=NOTHING, **plan):
        own = numbers(batch.weak[: len(batch.images)])
        theirs = numbers(batch.weak[batch.partner])
        assert all((mine == other) is (partner == "same") for mine, other in zip(own, theirs, strict=True))
        for view, box in enumerate(batch.boxes):
            mixed = cutmix_view(batch, view)
            source = torch.where(box, torch.tensor(theirs).view(-1, 1, 1), torch.tensor(own).view(-1, 1, 1))
            torch.testing.assert_close(mixed[:, 0], (20 * source + 10) / 255, rtol=0, atol=1e-3)
            pasted_pixels += int(box.sum())
        same_boxes &= torch.equal(*batch.boxes) if len(batch.boxes) == 2 else False
    assert pasted_pixels > 0
    assert not same_boxes


def test_each_pass_has_an_order_of_its_own():
    passes = [tuple(item_at(20, epoch * 20 + place, seed=0, stream=1) for place in range(20)) for epoch in range(4)]
    assert all(sorted(order) == list(range(20)) for order in passes)
    assert len(set(passes)) == 4


def test_labelled_crops_are_the_chips_themselves_and_unlabelled_ones_change_their_colours_alone(tmp_path):
    data = data_of(tmp_path, textured)
    chips = [torch.from_numpy(textured(index)) / 255 for index in range(10)]
    known = [*chips, *(chip.flip(-1) for chip in chips)]

    def which(image):
        return next(index for index, chip in enumerate(known) if torch.allclose(image, chip, atol=1e-6)) % len(chips)

    for batch in batches(data, 6, strength=PUBLISHED):
        assert {which(image) for image in batch.images} <= {0, 1, 2}
        assert {which(image) for image in batch.weak} <= set(range(3, 9))
        assert len(batch.strong) == 2
        assert all(len(view) == len(batch.weak) for view in batch.strong)
        assert (batch.strong[0] - batch.strong[1]).abs().max() > 0.1
        assert all((view - batch.weak).abs().max() > 0.1 for view in batch.strong)
    for batch in batches(data, 6, strength=Strength(jitter=0, hue=0, gray=1, blur=0)):
        for view in batch.strong:
            torch.testing.assert_close(view, rgb_to_grayscale(batch.weak, 3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_shows_each_unlabelled_chip_once_and_the_labelled_ones_as_often_as_it_takes(tmp_path, ranks):
    data = data_of(tmp_path, labeled=2, unlabeled=8)
    steps = steps_per_epoch(8, ranks=ranks, batch=4 // ranks)
    assert steps == 2
    plans = [{"batch": 4, "rank": rank, "ranks": ranks} for rank in range(ranks)]
    shown = [batches(data, 3 * steps, **plan) for plan in plans]
    for epoch in range(3):
        made = [batch for rank in shown for batch in rank[epoch * steps : (epoch + 1) * steps]]
        unlabeled = Counter(number for batch in made for number in numbers(batch.weak[: len(batch.images)]))
        labeled = Counter(number for batch in made for number in numbers(batch.images))
        assert unlabeled == dict.fromkeys(range(2, 10), 1)
        assert labeled == {0: 4, 1: 4}


@pytest.mark.slow
@dataclass(frozen=True)
class Dot:
    """An image of one pixel with its label: thousands of them need no files."""

    source: str
    height: int = 1
    width: int = 1
    bands: tuple[int, ...] = (1, 2, 3)
    dtype: str = "uint8"
    ground_resolution: float | None = None

    @property
    def identity(self):
        return self.source

    @contextlib.contextmanager
    def reader(self):
        yield self

    def read(self, window):
        return np.zeros((window.height, window.width), np.uint8)


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (4446, {"1/32": 138, "1/24": 185, "1/16": 277, "1/8": 555, "1/4": 1111}),
        (3771, {"1/40": 94, "1/24": 157, "1/16": 235, "1/8": 471, "1/4": 942}),
        (4924, {"1/32": 153, "1/24": 205, "1/16": 307, "1/8": 615, "1/4": 1231}),
        (2736, {"1/8": 342, "1/4": 684}),
        (851, {"1/8": 106, "1/4": 212}),
        (3141, {"1/8": 392, "1/4": 785}),
        (3283, {"1%": 32, "5%": 164, "10%": 328}),
        (12_045, {"1%": 120, "5%": 602, "10%": 1204}),
        (10_088, {"1%": 100, "5%": 504, "10%": 1008}),
    ],
)
def test_a_ratio_leaves_the_published_number_of_labels_and_a_larger_one_the_same_and_more(monkeypatch, images, wanted):
    """WHDLD, LoveDA, Potsdam, GID-15, MER, MSL as Co2S splits them; Potsdam, DeepGlobe, LoveDA as RS-MTDF does."""
    dots = [Source(dot, dot, chip=True) for dot in map(Dot, map(str, range(images)))]
    judge = Source(Dot("val"), Dot("val"))
    for module in (dataset, roles):
        monkeypatch.setattr(
            module, "labeled_sources", lambda entries, *_: [judge] if entries[0].image == "val" else [*dots]
        )
    entries = {name: (LabeledEntry(image=name, labels="labels"),) for name in ("labeled", "val")}
    config = DataConfig(classes=NAMES, bands=("red", "green", "blue"), **entries)
    before: set[str] = set()
    for ratio, count in wanted.items():
        data = assemble(config, view=View(SIDE, (1.0, 1.0), "own"), seed=3, ratio=parse_ratio(ratio))
        kept, rest = ([source.scene.source for source in pool.sources] for pool in (data.labeled, data.unlabeled))
        assert len(kept) == len(set(kept)) == sum(data.counts) == count
        assert before < set(kept)
        assert sorted([*kept, *rest]) == sorted(str(index) for index in range(images))
        assert not any(source.labels for source in data.unlabeled.sources)
        before = set(kept)


@pytest.mark.slow
def test_a_run_needs_no_labels_of_unlabelled_chips(tmp_path):
    data_of(tmp_path / "set", textured, side=64)
    assert len(list((tmp_path / "set" / "labels").iterdir())) == 4
    root = {"root": tmp_path / "set", "splits": tmp_path / "set"}
    (tmp_path / "set" / "val.txt").write_text("09.tif")
    result = train.run(quick("mer", tmp_path / "run", steps=1, **root))
    assert result.step == 1
