"""`co2s import`: two checkpoints in, one model file out, and one line for everything that is wrong."""

import json
from importlib import resources

import pytest
import torch
from support import published as reference

import co2s_cli

LAYERS = {"clip": 6, "dino": 9}


@pytest.fixture
def checkpoints(tmp_path):
    paths = [tmp_path / "best_clip.pth", tmp_path / "best_dinov3.pth"]
    for path, kind in zip(paths, LAYERS, strict=True):
        reference.save(path, kind, classes=6, layers=LAYERS[kind])
    return paths


def test_both_students_become_one_model(co2s, checkpoints, tmp_path):
    out = tmp_path / "m.safetensors"
    result = co2s("import", *checkpoints, "--dataset", "whdld", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    pair = co2s_cli.load(out)
    assert list(pair.students) == ["clip", "dino"]
    assert pair.manifest.class_map.names[0] == "building"
    assert pair.manifest.class_map.classes[5].prompts[-1] == "reservoir"
    assert pair.manifest.tile == 256
    assert pair.manifest.ground_resolution == 1.0  # chips of 256 pixels of 2 m, shown with 512 pixels
    assert pair.probabilities(torch.rand(1, 3, 64, 64)).shape == (1, 6, 64, 64)


def test_a_protocol_file_of_ones_own_names_the_data_set(co2s, checkpoints, tmp_path):
    mine = tmp_path / "mine.yaml"
    with resources.as_file(resources.files("co2s_cli.published") / "whdld.yaml") as path:
        mine.write_text(path.read_text().replace("ground_resolution: 2.0", "ground_resolution: 0.5"))
    result = co2s("import", *checkpoints, "--dataset", mine, "--out", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    manifest = co2s_cli.load(tmp_path / "m.safetensors").manifest
    assert manifest.ground_resolution == 0.25


def test_the_order_of_the_files_does_not_matter(co2s, checkpoints, tmp_path):
    digests = set()
    for index, order in enumerate((checkpoints, checkpoints[::-1])):
        out = tmp_path / f"{index}.safetensors"
        result = co2s("import", *order, "--dataset", "whdld", "--out", out, "--json")
        digests.add(json.loads(result.stdout)["digest"])
    assert len(digests) == 1


def test_one_student_alone_is_allowed(co2s, checkpoints, tmp_path):
    out = tmp_path / "m.safetensors"
    result = co2s("import", checkpoints[1], "--dataset", "whdld", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["students"] == ["dino"]
    assert co2s_cli.load(out).manifest.fusion == "dino"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("best_clip.pth", "--dataset", "loveda", "-o", "m.safetensors"), 5, "6 classes found"),
        (("best_clip.pth", "best_clip.pth", "--dataset", "whdld", "-o", "m.safetensors"), 5, "both files hold"),
        (("none.pth", "--dataset", "whdld", "-o", "m.safetensors"), 3, "none.pth: no such file"),
        (("best_clip.pth", "--dataset", "atlantis", "-o", "m.safetensors"), 2, "whdld"),
        (("best_clip.pth", "--dataset", "whdld", "-o", "m.pth"), 2, "safetensors"),
        (("best_clip.pth", "--dataset", "whdld", "-o", "missing/m.safetensors"), 4, "does not exist"),
        (("best_clip.pth", "--dataset", "whdld", "-o", "taken.safetensors"), 4, "--overwrite"),
        ((), 2, "is missing"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(co2s, checkpoints, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.safetensors").write_text("mine")
    result = co2s("import", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""
    assert (tmp_path / "taken.safetensors").read_text() == "mine"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"best_clip.pth", "best_dinov3.pth", "taken.safetensors"}
