"""Runs of a few steps: resume, repetition, ranks, records."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.models import save_tiny
from support.training import QUICK, landscape, noise, quick, quick_distill

from co2s_cli import load
from co2s_cli.classes import IGNORE
from co2s_cli.config.train import resumed
from co2s_cli.data.landscape import CLASSES
from co2s_cli.data.loader import Loader
from co2s_cli.errors import ConfigError, InputError, ModelError, OutputError, ResourceError
from co2s_cli.jobs import distill, train
from co2s_cli.scoring.validation import ValidationCounts
from co2s_cli.training.names import BEST, EMA, LAST
from co2s_cli.training.records import drifting, read, starving, validation_figures
from co2s_cli.training.state import State
from co2s_cli.training.step import StudentStep

pytestmark = pytest.mark.slow  # whole runs, a second each


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return landscape(tmp_path_factory.mktemp("data"))


def tensors(folder, name=LAST):
    return dict(load(folder / name).state_dict())


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Four steps at once, validated after two and four."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train.run(quick(data, out, "val_every=2", "log_every=1"))
    return out


def test_a_run_leaves_all_its_files(whole):
    names = {path.name for path in whole.iterdir()}
    wanted = {
        "config.yaml", BEST, LAST, "state.pt", "metrics.jsonl", "timing.jsonl", "report.json", "report.md",
        "curves.png", "confusion.png",
    }  # fmt: skip
    assert wanted <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.startswith(".") for name in names)


@pytest.mark.parametrize(
    "line", ['{"step": 1' + "0" * 400 + "}", "[" * 100_000, '{"step": '], ids=["huge", "deep", "cut"]
)
def test_a_damaged_line_of_the_records_is_dropped(whole, tmp_path, line):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    assert read(run) == read(whole)
    train.run(resumed(run, {"resume": True}, []))
    assert read(run) == read(whole)


@pytest.mark.parametrize("file", ["report.json", "best.json"])
@pytest.mark.parametrize("content", ["[[", '{"best": {"best.safetensors": []}, "confusions": 1}'])
def test_the_page_of_a_damaged_run_is_refused_in_one_line(whole, tmp_path, co2s, file, content):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / file).write_text(content)
    result = co2s("report", run, "--out", tmp_path / "page.html")
    assert result.exit_code == 3
    assert f"{file}: is damaged" in result.stderr


def test_a_run_is_not_resumed_without_its_best_model(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    content = bytearray((run / BEST).read_bytes())
    content[-1] ^= 1
    (run / BEST).write_bytes(content)
    with pytest.raises(ModelError, match="does not match its own digest"):
        train.run(resumed(run, {"resume": True}, []))
    (run / BEST).unlink()
    with pytest.raises(ModelError, match="is missing, and the state of the run says that it was written"):
        train.run(resumed(run, {"resume": True}, []))


def test_files_that_no_run_has_made_are_not_replaced(data, tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    for name in ("report.md", "events.out.tfevents.1.mine"):
        (run / name).write_text("mine")
        with pytest.raises(OutputError, match=f"{name}: is there, but no config.yaml"):
            train.run(quick(data, run, steps=1))
        assert (run / name).read_text() == "mine"
        (run / name).unlink()


def test_the_model_file_says_what_it_wants(whole):
    manifest = load(whole / LAST).manifest
    assert manifest.class_map.names[0] == "building"
    assert manifest.bands == ("red", "green", "blue")
    assert manifest.ground_resolution == pytest.approx(10, rel=0.01)
    assert manifest.training["steps"] == 4
    assert 0 <= manifest.training["validation"]["fused/miou"] <= 1


def test_a_model_file_never_says_what_other_weights_have_scored(data, tmp_path):
    out = tmp_path / "run"

    def facts():
        report = json.loads((out / "report.json").read_text())
        last, best = (load(out / name).manifest.training for name in (LAST, BEST))
        return last["steps"], "validation" in last, best["steps"], report["step"], report["validated_step"]

    train.run(quick(data, out, "val_every=2", "ema=0.9", method="fixmatch", stop_after=3))
    assert facts() == (3, False, 2, 3, 2)
    assert "validation" not in load(out / (EMA + LAST)).manifest.training
    train.run(resumed(out, {"resume": True, "stop_after": 1}, []))
    assert facts()[:2] == (4, True)
    assert facts()[3:] == (4, 4)
    train.run(quick(data, out, "val_every=2", method="fixmatch", stop_after=2, overwrite=True))
    assert "validation" in load(out / LAST).manifest.training
    train.run(resumed(out, {"resume": True, "stop_after": 1}, []))
    assert "validation" not in load(out / LAST).manifest.training


def test_records_have_losses_at_each_log_step_and_validations_without(whole):
    losses, validations = read(whole)
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    assert [line["step"] for line in validations] == [2, 4]
    for line in losses:
        parts = {key: value for key, value in line.items() if "/" in key}
        assert len(parts) == 10
        assert line["loss"] == pytest.approx(0.5 * (parts["clip/labeled"] + parts["dino/labeled"]), abs=0.05)
    assert {"clip/miou", "dino/miou", "fused/miou", "clip/coverage", "dino/taught", "agreement"} <= validations[
        0
    ].keys()


def test_two_and_two_steps_are_four_steps_bit_for_bit(data, whole, tmp_path):
    out = tmp_path / "parts"
    first = train.run(quick(data, out, "val_every=2", "log_every=1", stop_after=1))
    assert (first.step, first.steps) == (1, 4)
    train.run(resumed(out, {"resume": True, "stop_after": 2}, []))
    last = train.run(resumed(out, {"resume": True}, []))
    assert last.step == 4
    assert same(tensors(out), tensors(whole))
    assert read(out) == read(whole)


def test_the_same_seed_gives_the_same_numbers_whatever_the_threads(data, whole, tmp_path):
    train.run(quick(data, tmp_path / "again", "val_every=2", "log_every=1", "workers=2"))
    assert (tmp_path / "again" / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_what_a_killed_run_wrote_after_its_state_is_forgotten(data, whole, tmp_path):
    out = tmp_path / "killed"
    train.run(quick(data, out, "val_every=2", "log_every=1", stop_after=2))
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 99.0}\n{"step": 4, "lo')
    train.run(resumed(out, {"resume": True}, []))
    assert read(out) == read(whole)


def test_resume_refuses_other_settings_and_other_data(data, tmp_path):
    out = tmp_path / "run"
    here = landscape(tmp_path)
    train.run(quick(here, out, stop_after=1))
    with pytest.raises(ConfigError, match="batch is 2"):
        resumed(out, {"resume": True, "batch": 3}, [])
    landscape(tmp_path, val=0.3)
    with pytest.raises(InputError, match="the data has changed"):
        train.run(resumed(out, {"resume": True}, []))


def test_both_students_may_be_guided_by_queries_and_the_file_says_what_it_is_told(data, tmp_path):
    train.run(quick(data, tmp_path / "run", "clip_guidance=queries", "trained_on=a field", "licence=CC0", steps=2))
    pair = load(tmp_path / "run" / LAST)
    assert (pair.manifest.trained_on, pair.manifest.licence) == ("a field", "CC0")
    assert pair.manifest.students["clip"].guidance == "implicit"
    assert pair.students["clip"].guidance.vectors.std().item() == pytest.approx(0.02, rel=0.2)


def test_model_files_in_halves_are_half_as_large_and_resume_is_still_exact(data, whole, tmp_path):
    out = tmp_path / "run"
    train.run(quick(data, out, "val_every=2", "log_every=1", "half_files=true", stop_after=2))
    train.run(resumed(out, {"resume": True}, []))
    assert (out / LAST).stat().st_size < 0.6 * (whole / LAST).stat().st_size
    assert read(out) == read(whole)


def halves_of(whole):
    """A batch whose CutMix partners are neighbours, in two: its labelled pixels are spread unevenly."""
    fields = ("slots", "images", "labels", "seen", "weak", "valid")
    halves = []
    for part in (slice(2), slice(2, 4)):
        own = {name: getattr(whole, name)[part] for name in fields}
        views = {name: tuple(view[part] for view in getattr(whole, name)) for name in ("strong", "boxes")}
        halves.append(replace(whole, **own, **views, partner=torch.arange(2) ^ 1))
    return halves


@pytest.mark.parametrize("method", ["supervised", "fixmatch", "co2s", "co2s by share"])
def test_accumulated_batches_make_the_step_of_one_batch_as_large(data, tmp_path, monkeypatch, method):
    """In the loss and in the gradient, of labelled and of unlabelled pixels, which the halves have unevenly many of."""
    whole = noise(4, classes=len(CLASSES.names))
    whole.labels[:2, 8:] = IGNORE
    whole.valid[2:, :, 20:] = False
    rules = ("threshold_share=0.5", "pseudo_balance=0.5") if method.endswith("share") else ()

    def step(name, batches, *extra):
        """Losses of one step of these batches, and the optimiser's first means: a tenth of the gradients."""
        drawn = [SimpleNamespace(to=lambda *_, batch=batch, **__: batch, slots=batch.slots) for batch in batches]
        monkeypatch.setattr(Loader, "batches", lambda *_: (batch for batch in drawn))
        more = ("stability_ramp=0", "threshold=0.1", "clip_norm=0", "log_every=1", *rules, *extra)
        train.run(quick(data, tmp_path / name, *more, method=method.partition(" ")[0], steps=1))
        state = State.load(tmp_path / name)
        means = torch.cat([entry["exp_avg"].flatten() for entry in state.optimizer["state"].values()])
        return read(tmp_path / name)[0][0], means

    lost, wanted = step("one", [whole], "batch=4")
    also_lost, found = step("two", halves_of(whole), "accumulate=2")
    _, half = step("half", halves_of(whole)[:1])
    assert (found - wanted).norm() < 1e-4 * wanted.norm()
    assert (half - wanted).norm() > 1e-2 * wanted.norm()
    assert also_lost == {name: pytest.approx(value, rel=1e-5, abs=1e-7) for name, value in lost.items()}
    if method != "supervised":
        assert all(value > 0 for name, value in lost.items() if "strong" in name or "stability" in name)


@pytest.mark.parametrize("compresses", [False, True])
@pytest.mark.parametrize(("room", "hint"), [(2, "--batch 2 fits; with --set accumulate=3 "), (0, "one crop alone")])
def test_too_little_memory_says_which_batch_fits(data, tmp_path, monkeypatch, room, hint, compresses):
    forward = StudentStep.forward

    def narrow(trainee, batch, *others):
        if len(batch.images) > room:
            raise torch.OutOfMemoryError("no room")
        return forward(trainee, batch, *others)

    monkeypatch.setattr(StudentStep, "forward", narrow)
    teacher = save_tiny(tmp_path / "teacher.safetensors", classes=tuple(CLASSES.plain()))
    start = partial(train.run, quick(data, tmp_path / "run", batch=5))
    if compresses:
        start = partial(distill.run, quick_distill(data, tmp_path / "run", batch=5, teacher=str(teacher)))
    with pytest.raises(ResourceError, match=r"5 \+ 5 crops of 64 pixels") as caught:
        start()
    assert caught.value.hint.startswith(hint)


DYING = """
import os
import signal
from co2s_cli.training.engine import TrainingEngine
alive = TrainingEngine._train_step
def dying(engine, batches):
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if os.environ["RANK"] == "1" and engine.step == 3 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    return alive(engine, batches)
TrainingEngine._train_step = dying
if os.environ["RANK"] == "1":
    os.chdir("elsewhere")  # the run folder, a relative path, is not to be found there
from co2s_cli.cli import app
app()
"""


REFUSING = """
import os
if os.environ["RANK"] == "1":
    if {early}:
        os.chdir("elsewhere")
    else:
        from co2s_cli.errors import InputError
        from co2s_cli.training import run
        def refusing(*_, **__):
            raise InputError("scene.tif: cannot be read here")
        run.data_of = refusing
from co2s_cli.cli import app
app()
"""


CROWDED = """
import os
import torch
from co2s_cli.training.step import StudentStep
forward = StudentStep.forward
def crowded(student, batch, step, peers):
    if os.environ["RANK"] == "1" and step == 1:
        raise torch.OutOfMemoryError("no room")
    return forward(student, batch, step, peers)
StudentStep.forward = crowded
from co2s_cli.cli import app
app()
"""


def torchrun(script, folder, *words, restarts=0):
    """Two processes of a command in `folder`, beside which a folder `elsewhere` lies."""
    path = folder / "start.py"
    path.write_text(script)
    (folder / "elsewhere").mkdir(exist_ok=True)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(train.__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", *launch, str(path), *map(str, words)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def tiny(*extra):
    return ["--preset", "tiny", *(word for text in (*QUICK, *extra) for word in ("--set", text))]


@pytest.mark.slow
def test_a_rank_without_memory_ends_all_within_a_minute(data, tmp_path):
    done = torchrun(CROWDED, tmp_path, "train", data, "--out", tmp_path / "run", "--steps", 3, *tiny())
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr[-3000:]
    assert "does not fit into its memory" in said[0]


# The rate is small because fresh students hardly prefer one class: with a larger one, rounding that differs between one
# and two processes makes some pixel in a tie change its pseudo-label, and the losses part by 1e-5 and more.
CURVE = ("log_every=1", "val_every=2", "lr=1e-5", "threshold=0.1")


@pytest.mark.slow
def test_a_dead_rank_ends_the_run_and_one_process_goes_on_with_it(data, tmp_path):
    out, rules = tmp_path / "run", ["--steps", 5, *tiny(*CURVE)]
    first = torchrun(DYING, tmp_path, "train", data, "--out", "run", *rules)
    assert first.returncode != 0
    assert "exitcode  : -9" in first.stderr
    assert first.stderr.count("error: another process of the run is gone") == 1
    assert "--resume goes on" in first.stderr
    assert first.stderr.count("no training label has class water") == 1
    assert State.load(out).step == 2
    train.run(resumed(out, {"resume": True}, []))
    train.run(quick(data, tmp_path / "whole", *CURVE, steps=5))
    assert_same_curve(tmp_path / "whole", out)


@pytest.mark.slow
def test_restarts_of_torchrun_give_the_curve_of_the_unbroken_run(data, tmp_path):
    """Of one process; the second of two dies once, and never sees the run folder."""
    done = torchrun(
        DYING, tmp_path, "train", data, "--out", "run", "--resume", "auto", "--steps", 10, *tiny(*CURVE), restarts=2
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [str(Path("run") / BEST)]
    assert not list((tmp_path / "elsewhere").iterdir())
    train.run(quick(data, tmp_path / "whole", *CURVE, steps=10))
    assert_same_curve(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 3])
def test_two_ranks_lose_what_one_loses(data, tmp_path, batch):
    """Of three crops one falls to the first of them, two to the other."""
    rules = (*(text for text in CURVE if "val_every" not in text), "val_every=5")
    words = ["train", data, "--out", "two", "--batch", batch, "--steps", 5, *tiny(*rules)]
    done = torchrun("from co2s_cli.cli import app\napp()\n", tmp_path, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    train.run(quick(data, tmp_path / "one", *rules, batch=batch, steps=5))
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    one, two = (read(tmp_path / name) for name in ("one", "two"))
    assert one[0][-1]["clip/strong1"] > 0
    assert one[1][0].keys() == two[1][0].keys()
    assert one[1][0]["fused/miou"] == pytest.approx(two[1][0]["fused/miou"], abs=1e-3)


def assert_same_curve(whole, parts):
    """To what rounds differently where crops are summed in another order."""
    one, two = read(whole)[0], read(parts)[0]
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert b == {key: pytest.approx(value, abs=2e-5) for key, value in a.items()}


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_what_one_rank_refuses_all_refuse_and_one_tells(data, tmp_path, early):
    """Before the processes are a group, where a file is missing on one of them, and after it."""
    scene = tmp_path / "data.yaml"
    scene.write_text(data.read_text().replace("scene.tif", str(data.parent / "scene.tif")).replace(
        "few.tif", str(data.parent / "few.tif")).replace("labels.tif", str(data.parent / "labels.tif")))  # fmt: skip
    done = torchrun(REFUSING.format(early=early), tmp_path, "train", "data.yaml", "--out", "run", *tiny())
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr[-3000:]
    assert ("data.yaml" if early else "scene.tif: cannot be read here") in said[0]
    assert done.stderr.count("exitcode  : 3") == 2
    assert not (tmp_path / "run").exists()


def test_drift_is_told_when_pseudo_labels_fall_with_the_loss():
    losses = [{"step": step, "loss": 1.0 - step / 100} for step in range(0, 60, 10)]
    steady = [{"step": step, "clip/precision": 0.9} for step in (20, 40)]
    falling = [{"step": 20, "clip/precision": 0.9}, {"step": 50, "clip/precision": 0.8}]
    assert drifting(losses, steady) is None
    assert "clip fell from 90.0% right (step 20) to 80.0%" in drifting(losses, falling)
    assert drifting(losses, [*falling, {"step": 55, "clip/precision": 0.7}]) is None  # it has been said
    assert drifting(losses, [falling[0], {"step": 50}]) is None  # no pseudo-labels at all
    rising = [{**line, "loss": 2 - line["loss"]} for line in losses]
    assert drifting(rising, falling) is None


def test_a_class_that_starves_is_named_once():
    lines = [{"step": step, "fused/recall/1": value} for step, value in ((10, 0.2), (20, 0.62), (30, 0.3))]
    rare, gone = ("land", "water"), {"step": 40, "fused/recall/1": 0.03}
    assert starving(lines, rare) is None
    assert "class water starves: 62% of its labelled pixels were found (step 20), now 3%" in starving(
        [*lines, gone], rare
    )
    assert starving([*lines, gone, gone], rare) is None  # it has been said
    assert starving([lines[0], gone], rare) is None  # it has never been found well


def test_findings_hold_how_much_of_each_class_is_found():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 6]])
    tally = ValidationCounts({"fused": matrix, "dino": matrix}, {}, {}, {}, 0, 12)
    found = {key: value for key, value in validation_figures(tally, None, guided=False).items() if "recall" in key}
    assert found == {"fused/recall/0": 0.75, "fused/recall/2": 0.75}


def tally(right, sure=10):
    """Of one student that is right at so many of ten sure pixels."""
    matrix = np.array([[right, sure - right], [0, 0]])
    return ValidationCounts(
        {"student": matrix, "fused": matrix}, {"student": sure}, {"student": right}, {"student": 0}, 20, 20
    )


def test_pseudo_labels_are_those_of_whoever_gives_them():
    own = validation_figures(tally(9), None, guided=False)
    assert (own["student/precision"], own["student/coverage"]) == (0.9, 0.5)
    mean = validation_figures(tally(9), tally(6), guided=False)
    assert mean["ema-student/precision"] == 0.6
    assert not {"student/precision", "student/coverage", "ema-student/taught"} & mean.keys()
    assert mean["student/miou"] == own["student/miou"]
    for running in (None, tally(6)):
        told = validation_figures(tally(9), running, guided=True)
        assert {name.rpartition("/")[2] for name in told if "/recall/" not in name} == {"miou", "accuracy"}


def test_drift_is_watched_where_the_pseudo_labels_come_from():
    losses = [{"step": step, "loss": 1.0 - step / 100} for step in range(0, 60, 10)]

    def told(students, means, *, guided=False):
        pairs = zip((20, 50), students, means, strict=True)
        lines = [{"step": s, **validation_figures(tally(a), tally(b), guided=guided)} for s, a, b in pairs]
        return drifting(losses, lines)

    assert "ema-student fell from 90.0% right" in told((9, 9), (9, 6))
    assert told((9, 6), (9, 9)) is None
    assert told((9, 6), (9, 6), guided=True) is None


def test_a_run_that_stopped_before_its_first_state_is_started_anew(data, tmp_path):
    train.run(quick(data, tmp_path, stop_after=1))
    (tmp_path / "state.pt").unlink()
    with pytest.raises(InputError, match="no state") as caught:
        train.run(quick(data, tmp_path, resume=True))
    assert caught.value.hint == "start it anew with --overwrite"


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(Exception, match="no whole state"):
        State.load(tmp_path)


def test_the_confusion_of_the_report_counts_every_labelled_pixel(whole):
    report = json.loads((whole / "report.json").read_text())
    assert np.sum(report["confusion"]) == 96 * 96
    assert report["validation"]["fused"]["pixels"] == 96 * 96
