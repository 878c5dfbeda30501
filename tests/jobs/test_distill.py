"""Whole runs of `co2s distill`: resume, repetition, ranks, what is saved, and what it shares with `co2s train`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.models import save_tiny
from support.training import landscape, quick, quick_distill

from co2s_cli import load
from co2s_cli.classes import ClassMap
from co2s_cli.config.distill import resumed, settings_of
from co2s_cli.config.train import resumed as train_resumed
from co2s_cli.data.landscape import CLASSES
from co2s_cli.errors import ConfigError, InputError, ModelError
from co2s_cli.jobs import distill, train
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.training.names import BEST, EMA, LAST
from co2s_cli.training.records import read
from co2s_cli.training.state import State

pytestmark = pytest.mark.slow  # whole runs, a second each

BOTH = ("tiny-dino:none", "tiny-clip:none")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return landscape(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Four steps at once, validated after two and four."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    distill.run(quick_distill(data, out, "val_every=2", "log_every=1", teacher=BOTH))
    return out


def tensors(folder, name=LAST):
    return dict(load(folder / name).state_dict())


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def learner(folder):
    """The student as it learns, out of the state, and the mean of its weights."""
    state = State.load(folder)
    manifest = Manifest.model_validate_json(state.manifest)
    pair, mean = Ensemble(manifest), Ensemble(manifest)
    pair.load_state_dict(state.model)
    mean.load_state_dict(state.ema)
    return pair.eval(), mean.eval()


def test_a_run_keeps_the_student_and_the_mean_of_its_weights(whole):
    names = {path.name for path in whole.iterdir()}
    assert {BEST, LAST, EMA + BEST, EMA + LAST, "state.pt", "report.md", "curves.png"} <= names
    losses, validations = read(whole)
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    assert {"student/labeled", "student/strong1", *(f"student/distill:{name}" for name in BOTH)} < losses[0].keys()
    assert {"fused/miou", "ema-fused/miou", "ema-student/coverage"} <= validations[0].keys()
    assert "ema-fused" in (whole / "report.md").read_text()
    last, labels = validations[-1], json.loads((whole / "report.json").read_text())["pseudo_labels"]
    assert {"student/taught", "agreement", "ema-student/coverage"} <= labels.keys()
    assert labels == {name: last[name] for name in labels}
    assert not {"student/coverage", "student/precision"} & last.keys()
    manifest = load(whole / LAST).manifest
    assert manifest.training["teachers"] == list(BOTH)
    assert manifest.training["method"] == "mtdf"


@pytest.mark.parametrize(("name", "which"), [(LAST, 0), (EMA + LAST, 1)])
def test_saved_models_are_folded_and_say_the_same(whole, name, which):
    saved, learnt = load(whole / name), learner(whole)[which]
    spec = saved.manifest.students["student"]
    assert all(item.folded for item in spec.translators)
    assert len(spec.translators) == 2
    assert sum(p.numel() for p in saved.parameters()) < sum(p.numel() for p in learnt.parameters())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(saved.probabilities(images), learnt.probabilities(images), rtol=1e-4, atol=1e-5)


def test_teachers_are_in_no_file(whole):
    state = State.load(whole)
    pair, _ = learner(whole)
    assert state.model.keys() == state.ema.keys() == pair.state_dict().keys()
    tracked = {id(index) for group in state.optimizer["param_groups"] for index in group["params"]}
    assert len(tracked) <= len(list(pair.parameters()))


def test_one_two_and_one_steps_are_four_steps_bit_for_bit(data, whole, tmp_path):
    out = tmp_path / "parts"
    distill.run(quick_distill(data, out, "val_every=2", "log_every=1", teacher=BOTH, stop_after=1))
    distill.run(resumed(out, {"resume": True, "stop_after": 2}, []))
    last = distill.run(resumed(out, {"resume": True}, []))
    assert last.step == 4
    for name in (LAST, EMA + LAST):
        assert same(tensors(out, name), tensors(whole, name))
    assert read(out) == read(whole)


def test_the_same_seed_gives_the_same_numbers(data, whole, tmp_path):
    distill.run(quick_distill(data, tmp_path / "again", "val_every=2", "log_every=1", "workers=2", teacher=BOTH))
    assert (tmp_path / "again" / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_run_is_resumed_by_the_command_that_began_it(whole):
    with pytest.raises(ConfigError, match="holds a run of co2s distill"):
        train_resumed(whole, {"resume": True}, [])
    with pytest.raises(ConfigError, match=r"alpha is 0\.8"):
        resumed(whole, {"resume": True, "alpha": 0.5}, [])


def test_without_teachers_and_halved_its_losses_are_fixmatch_s_bit_for_bit(data, tmp_path):
    same = ("threshold=0.17", "log_every=1", "warmup=0")
    ablated = ("feature_weight=0", "divisor=2", "ema=0", *same)
    distill.run(quick_distill(data, tmp_path / "a", *ablated, fuse=False))
    pace = quick_distill(data, tmp_path / "a", fuse=False)
    rates = [f"{name}={getattr(pace, name)}" for name in ("lr", "backbone_lr", "decoder_lr")]
    single = {"student": "tiny-student", "student_weights": "none", "method": "fixmatch"}
    train.run(quick(data, tmp_path / "b", *same, *rates, **single))
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert read(tmp_path / "a")[0][-1]["student/strong1"] > 0


@pytest.mark.parametrize("align", ["second_pass", "pool"])
def test_a_student_that_does_not_fuse_is_saved_plain(data, tmp_path, align):
    distill.run(quick_distill(data, tmp_path / "run", steps=1, teacher=BOTH, fuse=False, align=align))
    assert load(tmp_path / "run" / LAST).manifest.students["student"].translators == ()


def test_fixmatch_takes_its_pseudo_labels_from_the_running_mean(data, tmp_path):
    out = tmp_path / "run"
    result = train.run(quick(data, out, "ema=0.9", "val_every=2", method="fixmatch", steps=2))
    assert set(result.miou) == {"clip", "dino", "fused", "ema-clip", "ema-dino", "ema-fused"}
    assert not same(tensors(out), tensors(out, EMA + LAST))
    assert State.load(out).best.keys() == {"step", "miou", "ema-step", "ema-miou"}


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    """A pair that has learnt next to nothing, of the data's classes."""
    out = tmp_path_factory.mktemp("teacher")
    train.run(quick(data, out, method="supervised", steps=1))
    return out / LAST


@pytest.mark.parametrize("combine", ["mean", "arbitrate"])
def test_a_trained_pair_is_compressed_into_one_student(data, teacher, tmp_path, combine):
    out = tmp_path / "run"
    settings = quick_distill(data, out, "log_every=1", steps=2, teacher=str(teacher), combine=combine)
    assert (settings.ema, settings.divisor, settings.method_name) == (0, 1, "compress")
    distill.run(settings)
    losses, validations = read(out)
    assert losses[0].keys() == {"step", "loss", "lr", "student/labeled", "student/strong1", "student/soft"}
    told = {name.partition("/")[2] or name for name in validations[-1] if "/recall/" not in name}
    assert told == {"step", "miou", "accuracy"}
    assert json.loads((out / "report.json").read_text())["pseudo_labels"] == {}
    line = losses[0]
    weighted = line["student/labeled"] + (line["student/soft"] + line["student/strong1"]) / 2
    assert line["loss"] == pytest.approx(weighted)
    model = load(out / LAST)
    assert list(model.students) == ["student"]
    assert sum(p.numel() for p in model.parameters()) <= sum(p.numel() for p in load(teacher).parameters()) / 2
    assert model.manifest.training["teachers"] == [f"{LAST} {load(teacher).digest}"]


def test_a_run_never_writes_over_what_it_begins_with(data, teacher, whole, tmp_path, monkeypatch):
    before = teacher.read_bytes()
    monkeypatch.chdir(teacher.parent)
    linked = tmp_path / "linked.safetensors"
    linked.symlink_to(teacher)
    for text in (teacher, teacher.name, linked, f"tiny-dino:{teacher}"):
        with pytest.raises(ConfigError, match=r"last\.safetensors: would overwrite .* \(--teacher"):
            distill.run(quick_distill(data, teacher.parent, teacher=str(text), overwrite=True))
    with pytest.raises(ConfigError, match=r"would overwrite .* \(--init"):
        distill.run(quick_distill(data, whole, init=whole / (EMA + LAST), overwrite=True))
    with pytest.raises(ConfigError, match=r"would overwrite .* \(--init"):
        train.run(quick(data, teacher.parent, init=teacher, overwrite=True))
    assert teacher.read_bytes() == before
    assert (whole / (EMA + LAST)).exists()


def test_starting_anew_drops_what_the_earlier_run_wrote_and_nothing_else(data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in (EMA + BEST, "mine.safetensors", "mine.jsonl"):
        (out / name).write_bytes(b"kept")
    train.run(quick(data, out, method="supervised", steps=1, overwrite=True))
    assert {path.name for path in out.iterdir() if path.read_bytes() == b"kept"} == {"mine.safetensors", "mine.jsonl"}
    assert not (out / (EMA + BEST)).exists()


def test_licences_are_those_of_the_file_to_start_from_and_of_the_teachers_whatever_their_names(data, teacher, tmp_path):
    def licence(folder):
        return load(folder / LAST).manifest.licence

    quiet, spoken = tmp_path / "dinov3.safetensors", tmp_path / "plain.safetensors"
    quiet.write_bytes(teacher.read_bytes())
    save_tiny(spoken, classes=tuple(CLASSES.plain()), licence="CC-BY-4.0")
    distill.run(quick_distill(data, tmp_path / "a", steps=1, teacher=str(quiet)))
    assert licence(tmp_path / "a") == ""
    distill.run(quick_distill(data, tmp_path / "b", steps=1, teacher=(str(spoken), str(quiet))))
    assert licence(tmp_path / "b") == "taught by a model whose licence says: CC-BY-4.0"
    train.run(quick(data, tmp_path / "c", method="supervised", steps=1, init=spoken))
    assert licence(tmp_path / "c") == "CC-BY-4.0"
    train.run(quick(data, tmp_path / "d", "licence=CC0", method="supervised", steps=1, init=spoken))
    assert licence(tmp_path / "d") == "CC0"
    still = {"student": "tiny-student", "init": tmp_path / "b" / LAST, "method": "supervised", "steps": 1}
    train.run(quick(data, tmp_path / "e", **still))
    assert licence(tmp_path / "e") == licence(tmp_path / "b")


def test_foundation_models_pass_their_licence_on_where_their_weights_teach():
    dino, clip, empty = (
        SimpleNamespace(name=name) for name in ("vit_x_dinov3:lvd1689m", "ViT-L-14:openai", "vit_x_dinov3:none")
    )
    assert distill._licences([dino, clip], None) == ["taught by DINOv3, which carries Meta's DINOv3 licence"]
    assert distill._licences([clip, empty], None) == []


def test_a_student_goes_on_from_a_model_file(data, whole, tmp_path):
    out = tmp_path / "run"
    distill.run(quick_distill(data, out, "lr=1e-12", steps=1, init=whole / LAST, ema=0.0))
    before, after = tensors(whole), tensors(out)
    kept = [name for name in before if ".fusion." not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)


def test_a_run_is_not_resumed_with_another_teacher(data, teacher, tmp_path):
    out, used = tmp_path / "run", tmp_path / "teacher.safetensors"
    used.write_bytes(teacher.read_bytes())
    distill.run(quick_distill(data, out, steps=2, teacher=str(used), stop_after=1))
    save_tiny(used, classes=tuple(CLASSES.plain()))
    with pytest.raises(InputError, match="its teachers have changed since this run began"):
        distill.run(resumed(out, {"resume": True}, []))


def test_train_goes_on_from_a_fused_student_as_it_is(data, whole, tmp_path):
    still = {"student": "tiny-student", "init": whole / LAST, "method": "fixmatch", "steps": 1}
    train.run(quick(data, tmp_path / "run", "lr=1e-12", **still))
    before, after = tensors(whole), tensors(tmp_path / "run")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "its classes are water, field, forest, town; the data's are"),
        ({"classes": tuple(CLASSES.plain()), "bands": ("red", "green", "nir")}, "sees red, green, nir"),
        ({"classes": tuple(ClassMap.of(list(reversed(CLASSES.names))).plain())}, "its classes are"),
        (
            {"classes": tuple(CLASSES.plain()),
             "scaling": {"dtype": "uint16", "low": (0, 0, 0), "high": (9, 9, 9)}},
            "wants uint16 samples, the data's are uint8",
        ),
    ],
)  # fmt: skip
def test_a_teacher_of_something_else_is_refused(data, tmp_path, changes, words):
    other = save_tiny(tmp_path / "other.safetensors", **changes)
    with pytest.raises(ModelError, match=words):
        distill.run(quick_distill(data, tmp_path / "run", teacher=str(other)))
    assert not (tmp_path / "run").exists()


def test_settings_follow_the_teachers_and_the_student():
    names = settings_of(None, {"teacher": ["vit_base_patch14_dinov2.lvd142m"]}, [])
    assert (names.lr, names.decoder_lr, names.ema, names.divisor, names.crop) == (5e-6, 40, 0.996, 3, 518)
    files = settings_of(None, {"teacher": ["a.safetensors"], "student": "vit_small_patch16_dinov3.lvd1689m"}, [])
    assert (files.lr, files.decoder_lr, files.ema, files.divisor, files.crop) == (1e-4, 10, 0, 1, 512)
    mixed = settings_of(None, {"teacher": ["a.safetensors", "ViT-L-14-quickgelu:openai", "tiny-clip:b.pt"]}, [])
    assert [path.name for path in mixed.models] == ["a.safetensors"]
    assert mixed.foundations == ("ViT-L-14-quickgelu:openai", "tiny-clip:b.pt")
    assert mixed.method_name == "mtdf+compress"
    published = settings_of(None, {"teacher": ["x.y"], "preset": "published"}, [])
    assert (published.teacher_statistics, published.align, published.cutmix_partner) == (
        "imagenet", "second_pass", "flip",
    )  # fmt: skip
    assert (published.clip_norm, published.lr_lag, published.precision, published.denominators) == (
        0,
        1,
        "fp32",
        "rank",
    )
    assert (published.epochs, published.batch, published.scale_rule, published.loss) == (60, 8, "long", "mse")


RANKS = """
from co2s_cli.config.distill import settings_of
from co2s_cli.jobs import distill
distill.run(settings_of(None, {{"data": {data!r}, "out": {out!r}, "preset": "tiny", "steps": 4, "batch": {batch},
    "device": "cpu", "teacher": "tiny-dino:none"}}, ["crop=64", "precision=fp32", "workers=1", "log_every=1",
    "threshold=0.1", "val_every=4"]))
"""


@pytest.mark.slow
def test_two_ranks_lose_what_one_with_the_same_batch_loses(data, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(distill.__file__).parents[2])}
    for name, size, launch in (
        ("one", 4, [sys.executable]),
        ("two", 4, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        script = tmp_path / f"{name}.py"
        script.write_text(RANKS.format(data=str(data), out=str(tmp_path / name), batch=size))
        done = subprocess.run([*launch, str(script)], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert len(one[0]) == 4
    for a, b in zip(one[0], two[0], strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], abs=1e-5), (a["step"], key)
    assert one[0][-1]["student/strong1"] > 0
    assert one[1][0]["ema-fused/miou"] == pytest.approx(two[1][0]["ema-fused/miou"], abs=1e-3)
