"""`co2s distill` from the command line: its result, what other commands make of it, its refusals and their codes."""

import json

import pytest
from support.models import save_tiny
from support.training import QUICK, landscape

from co2s_cli import load

pytestmark = pytest.mark.slow  # whole runs, a second each

TINY = ["--preset", "tiny", *(word for text in QUICK for word in ("--set", text))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return landscape(tmp_path_factory.mktemp("data"))


def test_distill_prints_the_model_that_it_made_and_predict_maps_with_it(co2s, data, tmp_path):
    out = tmp_path / "run"
    result = co2s("distill", data, "--teacher", "tiny-dino:none", "--teacher", "tiny-clip:none", "--out", out,
                  "--steps", 2, *TINY)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out / 'best.safetensors'}\n"
    assert "distill:tiny-dino:none" in result.stderr
    assert "ema-fused" in result.stderr
    for name in ("last", "ema-last"):
        made = tmp_path / f"{name}.tif"
        mapped = co2s("predict", data.parent / "scene.tif", "--model", out / f"{name}.safetensors", "--out", made)
        assert mapped.exit_code == 0, mapped.output
        assert made.exists()


def test_a_trained_pair_becomes_one_student_and_the_run_is_resumed(co2s, data, tmp_path):
    pair, out = tmp_path / "pair", tmp_path / "run"
    trained = co2s("train", data, "--out", pair, "--method", "supervised", "--steps", 1, *TINY)
    assert trained.exit_code == 0, trained.output
    teacher = pair / "last.safetensors"
    first = co2s("distill", data, "--teacher", teacher, "--out", out, "--steps", 2, "--stop-after", 1, "--json", *TINY)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["step"] == 1
    second = co2s("distill", "--resume", "--out", out, "--json")
    assert second.exit_code == 0, second.output
    assert json.loads(second.stdout)["step"] == 2
    assert set(json.loads(second.stdout)["miou"]) == {"fused"}
    wrong = co2s("train", "--resume", "--out", out)
    assert wrong.exit_code == 2
    assert "holds a run of co2s distill" in wrong.stderr


def test_the_published_preset_runs_with_patches_of_14(co2s, data, tmp_path):
    small = ["--student", "tiny-student14", "--student-weights", "none", "--crop", 56, "--batch", 2, "--steps", 1]
    extra = [word for text in ("eval_resize=56", "workers=1") for word in ("--set", text)]
    out = tmp_path / "run"
    result = co2s("distill", data, "--preset", "published", "-t", "tiny-clip:none", "--out", out, *small, *extra)
    assert result.exit_code == 0, result.output
    spec = load(out / "last.safetensors").manifest.students["student"]
    assert (spec.align, spec.alpha, spec.fuse) == ("second_pass", 0.8, True)


def test_the_tiny_preset_brings_its_own_teachers(co2s, data, tmp_path):
    result = co2s("distill", data, "--out", tmp_path / "run", "--steps", 1, "--no-fuse", "--loss", "cosine", *TINY)
    assert result.exit_code == 0, result.output
    assert "distill:tiny-clip:none" in result.stderr


@pytest.mark.parametrize("method", ["fixmatch", "supervised"])
def test_train_trains_one_student_too(co2s, data, tmp_path, method):
    single = ["--student", "tiny-student", "--student-weights", "none", "--method", method]
    result = co2s("train", data, "--out", tmp_path / "run", "--steps", 1, *single, *TINY)
    assert result.exit_code == 0, result.output
    assert list(load(tmp_path / "run" / "last.safetensors").students) == ["student"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--preset", "default"], 2, "at least one --teacher is wanted"),
        (["--teacher", "vit_huge_of_nobody:none"], 2, "vit_huge_of_nobody"),
        (["--teacher", "ViT-B-32"], 2, "weights are not named"),
        (["--teacher", "gone.safetensors"], 3, "gone.safetensors: no such model file"),
        (["--teacher", "tiny-dino:gone.pth"], 3, "gone.pth: no such weights file"),
        (["--teacher", "tiny-dino:none", "--teacher", "tiny-dino:none"], 2, "each --teacher may be named once"),
        (["--student", "resnet50"], 2, "no DINO transformer of this name"),
        (
            ["--student", "tiny-student14", "--crop", "100"],
            2,
            "--crop 100: is no multiple of the student's patch of 14",
        ),
        (["--alpha", "1.5"], 2, "alpha"),
        (["--align", "sideways"], 2, "align"),
        (["--init", "gone.safetensors"], 3, "no such model file"),
        (["--resume"], 2, "--resume wants --out"),
        (["gone.yaml"], 3, "gone.yaml: no such file"),
    ],
)
def test_mistakes_end_before_the_first_step(co2s, data, tmp_path, arguments, code, words):
    name = [] if arguments[0][0] != "-" else [data]
    out = [] if "--resume" in arguments else ["--out", tmp_path / "run"]
    result = co2s("distill", *name, *TINY, "--set", "steps=1", *arguments, *out)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "distill"])
def test_resume_asks_for_the_folder_before_anything_else(co2s, command):
    result = co2s(command, "--resume")
    assert result.exit_code == 2
    assert "--resume wants --out, the folder of the run" in " ".join(result.stderr.split())


def test_a_teacher_of_other_classes_is_told_with_both_lists(co2s, data, tmp_path):
    other = save_tiny(tmp_path / "other.safetensors")
    result = co2s("distill", data, "--teacher", other, "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert result.exit_code == 5
    assert "its classes are water, field, forest, town; the data's are building" in result.stderr


def test_a_pair_is_no_student_to_start_from(co2s, data, tmp_path):
    pair = save_tiny(tmp_path / "pair.safetensors")
    result = co2s("distill", data, "--init", pair, "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert result.exit_code == 5
    assert "holds clip and dino, no single student" in result.stderr


def test_one_student_has_no_peer_to_learn_from(co2s, data, tmp_path):
    result = co2s("train", data, "--student", "tiny-student", "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert result.exit_code == 2
    assert "method co2s wants the pair" in result.stderr
