"""Which weights of a run are kept: of each step that validates best, of all students and of each alone."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from support.models import save_tiny
from support.training import landscape, quick

from co2s_cli import load
from co2s_cli.config.train import settings_of
from co2s_cli.jobs import train
from co2s_cli.progress import SILENT
from co2s_cli.scoring.validation import FUSED, ValidationCounts
from co2s_cli.training.engine import TrainingEngine
from co2s_cli.training.model_files import alone, best_files
from co2s_cli.training.names import BEST, LAST, MODEL_FILES
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import plan_of

SCORES = {1: (5, 2, 9), 2: (8, 2, 7), 3: (6, 7, 8), 4: (7, 3, 8)}
"""Right pixels of ten at each step: of clip (best after step 2), dino (3) and the fused map (1)."""


def counts(right):
    """Validation counts of a tiny model's classes with so many right pixels of clip, dino and the fused map."""
    blank = {"clip": 0, "dino": 0}
    matrices = {
        name: np.pad([[number, 10 - number]], [(0, 5), (0, 4)])
        for name, number in zip((*blank, FUSED), right, strict=True)
    }
    return ValidationCounts(matrices, blank, blank, blank, 0, 10)


def engine_of(model, folder, *extra):
    """An engine that is asked to validate alone, at steps that the test sets."""
    plan = plan_of(settings_of(None, {}, list(extra)), 4, epoch_steps=1)
    runtime = Runtime(torch.device("cpu"))
    made = TrainingEngine(
        load(model), {}, None, plan, runtime, sums=None, folder=folder, settings={},
        validate=lambda _: counts(SCORES[made.step]),
        progress=SILENT,
    )  # fmt: skip
    return made


def validated(engine, step):
    """The weights, all of them `step`, with which the engine validates at that step."""
    with torch.no_grad():
        for parameter in engine._ensemble.parameters():
            parameter.fill_(step)
    engine.step = step
    engine._validate_and_save(None)


def steps_in(path):
    """The steps whose weights a model file holds, and its students."""
    model = load(path)
    return {parameter.mean().item() for parameter in model.parameters()}, tuple(model.students)


def test_each_student_keeps_the_weights_of_its_own_best_step_over_a_resume(tmp_path):
    model = save_tiny(tmp_path / "m.safetensors")
    engine = engine_of(model, tmp_path, "select=students")
    validated(engine, 1)
    validated(engine, 2)
    again = engine_of(model, tmp_path, "select=students")
    again.resume()
    validated(again, 3)
    validated(again, 4)
    assert steps_in(tmp_path / LAST) == ({4}, ("clip", "dino"))
    assert steps_in(tmp_path / BEST) == ({1}, ("clip", "dino"))
    for name, step, miou in (("clip", 2, 0.8), ("dino", 3, 0.7)):
        path = tmp_path / f"best-{name}.safetensors"
        assert steps_in(path) == ({step}, (name,))
        training = load(path).manifest.training
        assert (training["steps"], training["validation"]["fused/miou"]) == (step, miou)
        assert (again.best[f"{name}/step"], again.best[f"{name}/miou"]) == (step, miou)


def test_one_best_file_is_kept_unless_students_are_selected():
    names = partial(best_files, ("clip", "dino"), averaged=False)
    assert [file.name for file in names(select_students=False)] == [BEST]
    alone_too = [BEST, "best-clip.safetensors", "best-dino.safetensors"]
    assert [file.name for file in names(select_students=True)] == alone_too
    both = best_files(("clip", "dino"), select_students=True, averaged=True)
    assert {file.name for file in both} | {LAST, "ema-last.safetensors"} < set(MODEL_FILES)
    assert len({file.key("miou") for file in both}) == len({file.figure for file in both}) == 6
    assert [file.name for file in best_files(("student",), select_students=True, averaged=False)] == [BEST]


def test_a_student_alone_is_a_model_that_says_what_it_said_in_the_pair(tmp_path):
    pair = load(save_tiny(tmp_path / "m.safetensors"))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for name, said in pair.members(images).items():
        assert torch.equal(alone(pair, name).eval().probabilities(images), said)


@pytest.mark.slow
def test_the_file_of_a_student_works_in_every_command(tmp_path, co2s):
    data, out = landscape(tmp_path), tmp_path / "run"
    result = train.run(quick(data, out, "val_every=epoch", "select=students", steps=2))
    assert result.best_students == {name: out / f"best-{name}.safetensors" for name in ("clip", "dino")}
    report = json.loads((out / "report.json").read_text())
    assert report["best"].keys() == {BEST, "best-clip.safetensors", "best-dino.safetensors"}
    student = result.best_students["clip"]
    best = report["best"][student.name]
    assert f"| {student.name} | {best['step']:.0f} | {100 * best['miou']:.1f} |" in (out / "report.md").read_text()
    assert co2s("info", student).exit_code == 0
    assert co2s("predict", tmp_path / "scene.tif", "--model", student, "--out", tmp_path / "map.tif").exit_code == 0
    judged = co2s("evaluate", "--model", student, data, "--precision", "fp32", "--device", "cpu", "--json")
    validation = load(student).manifest.training["validation"]
    assert json.loads(judged.stdout)["verdict"]["accuracy"] == pytest.approx(validation["clip/accuracy"], abs=1e-3)
