"""`co2s train` from the command line: its result, its refusals and their codes."""

import json
from pathlib import Path

import pytest
import torch
from support.rasters import write_raster
from support.training import QUICK, chips, landscape

from co2s_cli import load
from co2s_cli.config import load as checked
from co2s_cli.config.train import TrainConfig, settings_of
from co2s_cli.errors import ConfigError
from co2s_cli.models.weights import read_manifest

pytestmark = pytest.mark.slow  # whole runs, a second each

TINY = ["--preset", "tiny", *(word for text in QUICK for word in ("--set", text))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return landscape(tmp_path_factory.mktemp("data"))


def test_train_prints_the_model_that_it_made(co2s, data, tmp_path):
    out = tmp_path / "run"
    result = co2s("train", data, "--out", out, "--steps", 2, *TINY)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out / 'best.safetensors'}\n"
    assert "validation mIoU: clip" in result.stderr
    chances = load(out / "last.safetensors").probabilities(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(1, 64, 64))


def test_stop_and_resume(co2s, data, tmp_path):
    out = tmp_path / "run"
    first = co2s("train", data, "--out", out, "--steps", 3, "--stop-after", 1, "--json", *TINY, "--set", "val_every=3")
    assert json.loads(first.stdout)["step"] == 1
    assert json.loads(first.stdout)["best"] is None
    second = co2s("train", "--out", out, "--resume", "--json")
    assert second.exit_code == 0, second.output
    assert json.loads(second.stdout)["step"] == 3
    assert set(json.loads(second.stdout)["miou"]) == {"clip", "dino", "fused"}


def test_resume_auto_begins_and_goes_on_by_one_command_line(co2s, data, tmp_path):
    out = tmp_path / "run"
    words = ["train", "--resume", "auto", data, "--out", out, "--steps", 2, "--json", *TINY]
    assert json.loads(co2s(*words, "--stop-after", 1).stdout)["step"] == 1
    second = co2s(*words)
    assert json.loads(second.stdout)["step"] == 2, second.output
    other = co2s(*words, "--seed", 5)
    assert other.exit_code == 2
    assert "seed is 0 in" in other.stderr
    (out / "state.pt").unlink()
    before = (out / "best.safetensors").read_bytes()
    assert co2s(*words).exit_code == 4  # it has learnt, and nothing of that is thrown away without a word
    assert (out / "best.safetensors").read_bytes() == before
    (out / "last.safetensors").unlink()  # as if it had been killed before its first state
    again = co2s(*words)
    assert json.loads(again.stdout)["step"] == 2, again.output


@pytest.mark.parametrize(
    ("words", "resume", "message"),
    [
        (["--resume", "data.yaml"], True, None),
        (["data.yaml", "--resume=auto"], "auto", None),
        (["data.yaml", "--resume=never"], None, "resume"),
    ],
)
def test_resume_stands_alone_or_before_auto(words, resume, message):
    from co2s_cli.cli.options import _with_values

    read = list(_with_values(words, {"--resume": ("true", "auto")}))
    assert "data.yaml" in read
    value = next(word for word in read if word.startswith("--resume")).partition("=")[2]
    if message:
        with pytest.raises(ConfigError, match=message):
            checked(TrainConfig, None, {"resume": value})
    else:
        assert checked(TrainConfig, None, {"resume": value}).resume == resume


@pytest.mark.parametrize("method", ["supervised", "fixmatch", "unimatch"])
def test_methods_run(co2s, tmp_path, method):
    unlabeled = None if method == "supervised" else ["scene.tif"]
    data = landscape(tmp_path, unlabeled=unlabeled, val=0.3)
    result = co2s("train", data, "--out", tmp_path / "run", "--steps", 1, "--method", method, *TINY)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("preset", [[], ["--splits"]])
def test_a_published_data_set_runs_by_its_protocol(co2s, tmp_path, preset):
    root = chips(tmp_path / "loveda", count=8)
    lists = tmp_path / "lists" / "1_4"
    lists.mkdir(parents=True)
    (lists / "labeled.txt").write_text("images/00.tif labels/00.tif\nimages/01.tif labels/01.tif\n")
    (lists / "unlabeled.txt").write_text("".join(f"images/{i:02}.tif labels/{i:02}.tif\n" for i in range(2, 6)))
    (lists.parent / "val.txt").write_text("images/06.tif labels/06.tif\n")
    choice = ["--splits", lists] if preset else ["--labeled-ratio", "2/7"]
    result = co2s("train", "loveda", "--root", root, *choice, "--out", tmp_path / "run", "--epochs", 1, "--json", *TINY)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == (2 if preset else 3 - 1)


def test_the_published_preset_runs(co2s, data, tmp_path):
    settings = ["--clip", "tiny-clip", "--clip-weights", "none", "--dino", "tiny-dino", "--steps", 1]
    extra = [word for text in (*QUICK, "eval_resize=64") for word in ("--set", text)]
    out = tmp_path / "run"
    result = co2s("train", data, "--preset", "published", "--out", out, *settings, *extra)
    assert result.exit_code == 0, result.output
    model = load(out / "last.safetensors")
    assert model.manifest.students["clip"].backbone.options["quick_gelu"] is False
    assert model.manifest.students["dino"].backbone.options["rope"] == "bfloat16"
    gammas = [value for name, value in model.named_parameters() if "gamma" in name]
    assert gammas
    assert all(torch.allclose(value, torch.tensor(1e-5), rtol=0.1, atol=1e-4) for value in gammas)


def test_the_published_preset_is_the_released_behaviour():
    settings = settings_of(None, {"data": "whdld", "root": ".", "preset": "published"}, [])
    assert (settings.crop, settings.batch, settings.epochs, settings.steps) == (256, 2, 80, None)
    assert (settings.stability_grad, settings.stability_in_padding, settings.dino_init) == (False, True, "random")
    assert (settings.cutmix_partner, settings.denominators, settings.clip_norm) == ("same", "rank", 0)
    assert (settings.eval_blend, settings.eval_taper, settings.eval_resize) == ("logits", "flat", 512)
    assert settings_of(None, {"data": "loveda", "root": ".", "preset": "published"}, []).eval_resize == 0
    assert settings_of(None, {"data": "mer", "root": ".", "preset": "published"}, []).epochs == 150
    intended = settings_of(None, {}, [])
    assert (intended.stability_grad, intended.dino_init, intended.cutmix_partner) == (True, "pretrained", "other")


def test_a_preset_wins_over_a_data_set_and_flags_over_both():
    settings = settings_of(None, {"data": "whdld", "root": ".", "preset": "tiny"}, [])
    assert (settings.steps, settings.epochs, settings.crop, settings.scale_rule) == (600, None, 128, "fitted")
    settings = settings_of(None, {"data": "whdld", "root": ".", "preset": "tiny", "epochs": 3}, ["crop=64"])
    assert (settings.steps, settings.epochs, settings.crop) == (None, 3, 64)
    assert settings_of(None, {"data": "whdld", "root": "."}, []).epochs == 80


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("batch: 3\nlr: 0.01\n")
    settings = settings_of(config, {"preset": "tiny", "batch": 5}, ["lr=0.02"])
    assert (settings.batch, settings.lr, settings.crop) == (5, 0.02, 128)
    assert settings_of(None, {"epochs": 3, "preset": "tiny"}, []).steps is None
    with pytest.raises(ConfigError, match="no such setting"):
        settings_of(None, {}, ["colour=red"])
    with pytest.raises(ConfigError, match="key=value"):
        settings_of(None, {}, ["colour"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gone.yaml"], 3, "gone.yaml: no such file"),
        (["--labeled-ratio", "many"], 2, "wants a share such as 1/16"),
        (["--steps", "3", "--epochs", "2"], 2, "exclude each other"),
        (["--clip-weights", "gone.pt"], 3, "gone.pt: no such weights file"),
        (["--clip", "ViT-Z"], 2, "no plain transformer of this name"),
        (["--init", "gone.safetensors"], 3, "no such model file"),
        (["whdld"], 2, "wants --root"),
        (["--set", "class_thresholds={lava: 0.5}"], 2, "lava is no class"),
        (["--resume"], 2, "--resume wants --out"),
    ],
)
def test_mistakes_end_before_the_first_step(co2s, data, tmp_path, arguments, code, words):
    name = [] if arguments[0][0] != "-" else [data]
    out = [] if "--resume" in arguments else ["--out", tmp_path / "run"]
    steps = [] if "--steps" in arguments else ["--set", "steps=1"]
    result = co2s("train", *name, *arguments, *out, *TINY, *steps)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_all_four_bands_train_where_data_yaml_names_none(co2s, tmp_path):
    data = landscape(tmp_path, bands=None)
    scene = tmp_path / "scene.tif"
    import rasterio

    with rasterio.open(scene) as dataset:
        pixels = dataset.read([1, 2, 3, 3])
    write_raster(scene, pixels, names=("red", "green", "blue", "nir"))
    result = co2s("train", data, "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert result.exit_code == 0, result.output
    assert read_manifest(Path(result.stdout.strip())).bands == ("red", "green", "blue", "nir")


def test_a_folder_with_a_run_is_not_overwritten(co2s, data, tmp_path):
    (tmp_path / "config.yaml").write_text("data: data.yaml\n")
    result = co2s("train", data, "--out", tmp_path, "--steps", 1, *TINY)
    assert result.exit_code == 4
    assert "--resume" in result.stderr


def test_without_data_the_way_to_some_is_told(co2s, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = co2s("train")
    assert result.exit_code == 3
    assert "data.yaml: no such file" in result.stderr
    assert "co2s sample" in result.stderr
    assert not (tmp_path / "runs").exists()
