"""Each published protocol on a fake set in its exact layout: files found, codes understood, trained and evaluated."""

import hashlib
import json
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from support import protocols
from support.training import quick, quick_distill

from co2s_cli.config import distill as distill_settings
from co2s_cli.config import train as train_settings
from co2s_cli.config.protocol import find_protocol, published_names
from co2s_cli.data.dataset import assemble
from co2s_cli.data.protocol import coding_of, data_of
from co2s_cli.data.samples import View
from co2s_cli.data.splits import draw_tiles, tile_of
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.jobs import distill, train
from co2s_cli.models.weights import read_manifest
from co2s_cli.tiling import Window
from co2s_cli.training import run
from co2s_cli.training.runtime import Runtime

WHOLE = Window(0, 0, protocols.SIDE, protocols.SIDE)


@pytest.fixture(autouse=True)
def plain_images():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def dataset(root, name, lists, protocol=None):
    config = data_of(protocol or find_protocol(name), root, lists)
    return assemble(config, view=View(64, (1.0, 1.0), "own"), seed=0)


@pytest.mark.parametrize("name", published_names())
def test_images_and_labels_of_a_protocol_are_found_and_read_as_pil_reads_them(tmp_path, name):
    protocol = find_protocol(name)
    lists = protocols.make(tmp_path, name, protocol)
    data = dataset(tmp_path, name, lists)
    assert (len(data.labeled.sources), len(data.unlabeled.sources), len(data.val)) == (2, 3, 1)
    assert data.classes.names == protocol.class_map.names
    coding = next(iter(protocol.codings.values()), {})
    for line, source in zip((lists / "labeled.txt").read_text().split("\n"), data.labeled.sources, strict=False):
        image, label = (tmp_path / word for word in line.split())
        with source.scene.reader() as reader, source.labels.reader() as labels:
            pixels, found = reader.read(WHOLE).pixels, labels.read(WHOLE)
        wanted = np.asarray(Image.open(image).convert("RGB"))
        centres = slice(8, None, 16)  # of blocks of one colour: decoders differ in how they smooth between them
        np.testing.assert_allclose(pixels.transpose(1, 2, 0)[centres, centres], wanted[centres, centres], atol=2)
        codes = np.asarray(Image.open(label))
        for code in np.unique(codes):
            meaning = coding.get(code, None) if coding else (None if code == 255 else data.classes.names[code])
            wanted = 255 if meaning is None else data.classes.id_of(meaning)
            assert (found[codes == code] == wanted).all()


PROMPTS = {
    "whdld": (37, "1c6f862114108472"),
    "loveda": (41, "e438970ae6af12ec"),
    "loveda-dwl": (41, "e438970ae6af12ec"),
    "potsdam": (36, "8623d842e4598872"),
    "potsdam-dwl": (36, "8623d842e4598872"),
    "gid15": (90, "ddaa454d1fa64c96"),
    "mer": (54, "470c9d9c9cd8e6a0"),
    "msl": (54, "470c9d9c9cd8e6a0"),
}
"""How many prompts the released lists have, and the digest of their words, class by class."""


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompts_are_the_released_ones_word_by_word(name):
    prompts = [entry["prompts"] for entry in find_protocol(name).class_map.plain()]
    digest = hashlib.sha256("|".join(",".join(words) for words in prompts).encode()).hexdigest()[:16]
    assert (sum(map(len, prompts)), digest) == PROMPTS[name]


def test_the_list_that_is_judged_validates(tmp_path):
    protocol = find_protocol("whdld")
    lists = protocols.make(tmp_path, "whdld", protocol)
    judged = {part: data_of(protocol, tmp_path, lists, judged=part).val[0].list.name for part in ("val", "test")}
    assert judged == {"val": "val.txt", "test": "test.txt"}
    (lists.parent / "test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt is neither in this folder nor in its parent"):
        data_of(protocol, tmp_path, lists, judged="test")


def test_potsdam_labels_from_0_and_from_1_are_told_apart(tmp_path):
    protocol = find_protocol("potsdam-dwl")
    counts = []
    for coding in ("from_0", "from_1"):
        root = tmp_path / coding
        protocols.make(root, "potsdam-dwl", protocol, coding=coding)
        assert coding_of(protocol, root / "labels") == protocol.codings[coding]
        counts.append(len(dataset(root, "potsdam-dwl", root / "splits" / "1_8").counts))
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(root / "labels" / "odd.png")
    with pytest.raises(InputError, match=r"label codes 0, .*9.* found, known are"):
        coding_of(protocol, root / "labels")


def test_a_protocol_of_ones_own_is_one_file(tmp_path):
    text = """
title: two kinds of fields
command: train
classes: [wheat, maize]
codings: {mine: {10: wheat, 20: maize, 0: null}}
folders: {images: pictures, labels: truth}
training: {crop: 64, batch: 2, gpus: 2, epochs: 1}
"""
    (tmp_path / "mine.yaml").write_text(text)
    protocol = find_protocol(str(tmp_path / "mine.yaml"))
    protocols.NAMES["mine"] = ("a{}.png", "b{}.png")
    lists = protocols.make(tmp_path / "set", "mine", protocol)
    assert dataset(tmp_path / "set", "mine", lists, protocol).classes.names == ("wheat", "maize")
    flags = {"data": str(tmp_path / "mine.yaml"), "root": tmp_path / "set"}
    settings = train_settings.settings_of(None, flags, [])
    assert (settings.crop, settings.batch, settings.accumulate, settings.epochs) == (64, 2, 2, 1)
    with pytest.raises(ConfigError, match="neither a published data set"):
        find_protocol(str(tmp_path / "other.yaml"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("whdld", (256, 2, 4, 80)), ("loveda", (512, 1, 4, 80)), ("mer", (512, 1, 4, 150)), ("gid15", (512, 1, 4, 80))],
)
@pytest.mark.parametrize("preset", ["default", "published"])
def test_the_batch_of_four_gpus_is_made_of_four_on_one(monkeypatch, caplog, tmp_path, preset, name, wanted):
    caplog.set_level("INFO")
    flags = {"data": name, "root": tmp_path, "preset": preset}
    settings = train_settings.settings_of(None, flags, [])
    assert (settings.crop, settings.batch, settings.accumulate, settings.epochs) == wanted
    assert settings.eval_resize == (0 if name == "loveda" else 512)  # validated at the scale that it is trained at
    assert f"{name}: 4 batches of {wanted[1]} make one step" in caplog.text
    assert train_settings.settings_of(None, {**flags, "batch": 4 * wanted[1]}, []).accumulate == 1
    assert train_settings.settings_of(None, flags, ["accumulate=3"]).accumulate == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert train_settings.settings_of(None, flags, []).accumulate == 1


def test_an_epoch_has_the_published_steps_however_the_batch_is_made(tmp_path):
    """WHDLD 1/24: 4,446 training images less 185 labelled ones, 2 a GPU: 533 steps an epoch, on four GPUs or on one."""
    images = SimpleNamespace(unlabeled=range(4446 - 185), labeled=())
    for ranks in (1, 2, 4):
        settings = quick(tmp_path, tmp_path, f"batch={2 * ranks}", f"accumulate={4 // ranks}", epochs=80)
        runtime = Runtime(torch.device("cpu"), ranks=ranks)
        assert run.length_of(settings, images, runtime) == 80 * 533


@pytest.mark.parametrize(("shape", "refused"), [((1024, 1024), False), ((2048, 512), False), ((6000, 9000), True)])
def test_the_published_scale_rule_does_not_shrink_whole_scenes(tmp_path, shape, refused):
    scene = SimpleNamespace(source="scene.tif", original=SimpleNamespace(shape=shape))
    pool = SimpleNamespace(sources=[SimpleNamespace(scene=scene)])
    data = SimpleNamespace(labeled=pool, unlabeled=None)
    run.check_scale(quick(tmp_path, tmp_path), data)
    with pytest.raises(ConfigError, match="9000 × 6000 would be shrunk 12 times") if refused else nullcontext():
        run.check_scale(quick(tmp_path, tmp_path, "scale_rule=fitted"), data)


def test_protocols_of_distill_count_there_alone(tmp_path):
    flags = {"data": "deepglobe", "root": tmp_path, "teacher": "vit_base_patch14_dinov2.lvd142m"}
    settings = distill_settings.settings_of(None, flags, [])
    assert (settings.crop, settings.batch, settings.accumulate, settings.epochs) == (518, 8, 4, 60)
    published = distill_settings.settings_of(None, {**flags, "preset": "published"}, [])
    assert (settings.eval_resize, published.eval_resize) == (0, 518)
    other = distill_settings.settings_of(None, {**flags, "student": "vit_small_patch16_224"}, [])
    assert other.crop == 512
    assert train_settings.settings_of(None, {"data": "deepglobe", "root": tmp_path}, []).epochs is None


@pytest.mark.slow
@pytest.mark.parametrize("name", published_names())
def test_each_protocol_is_trained_and_evaluated(tmp_path, name, co2s):
    protocol = find_protocol(name)
    lists = protocols.make(tmp_path / "set", name, protocol)
    flags = {"root": tmp_path / "set", "splits": lists, "steps": 2}
    out = tmp_path / "run"
    extra = ("batch=2", "crop=64", "eval_resize=64")
    if protocol.command == "distill":
        result = distill.run(quick_distill(name, out, *extra, **flags))
    else:
        result = train.run(quick(name, out, *extra, **flags))
    assert result.step == 2
    report = json.loads((out / "report.json").read_text())
    assert report["validation"]["fused"]["pixels"] > 0
    native = protocol.ground_resolution
    shown = None if native is None else native * protocol.image_side / 64
    model = out / "last.safetensors"
    assert read_manifest(model).ground_resolution == shown
    found = co2s(
        "evaluate", name, "--model", model, "--root", flags["root"], "--splits", lists, "--split", "test",
        "--protocol", "published", "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    verdict = json.loads(found.stdout)["verdict"]
    assert tuple(score["name"] for score in verdict["classes"] if not score["counts"]) == protocol.excluded


def test_tiles_stay_on_one_side(tmp_path):
    names = [f"top_potsdam_{tile}_10_{chip}.tif" for tile in range(6) for chip in range(5)]
    pattern = find_protocol("potsdam").tile
    tiles = [tile_of(f"images/{name}", pattern) for name in names]
    assert set(tiles) == {f"top_potsdam_{tile}_10" for tile in range(6)}
    val, rest = draw_tiles(names, tiles, 6, seed=1)
    assert len(val) == 10
    assert sorted([*val, *rest]) == sorted(names)
    assert not {tile_of(name, pattern) for name in val} & {tile_of(name, pattern) for name in rest}
    assert tile_of("scene_3_12.png") == tile_of("scene_4_1.png") == "scene"
    with pytest.raises(InputError, match="all 2 chips are from one tile, a"):
        draw_tiles(["a_1", "a_2"], ["a", "a"], 1, seed=0)
