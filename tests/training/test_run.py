"""Runs that are refused, broken off, or asked for twice: what they leave in their folder."""

import json
import logging
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from support.training import landscape, quick

from co2s_cli import load
from co2s_cli.config.train import resumed, settings_of
from co2s_cli.errors import ConfigError, InputError, InterruptError, ModelError, OutputError
from co2s_cli.jobs import train
from co2s_cli.locks import only_writer
from co2s_cli.training import run
from co2s_cli.training.engine import TrainingEngine
from co2s_cli.training.names import BEST, EMA, FINAL, LAST, STATE
from co2s_cli.training.records import read
from co2s_cli.training.run import length_of
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.state import State

pytestmark = pytest.mark.slow  # whole runs, a second each


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return landscape(tmp_path_factory.mktemp("data"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "tfevents" not in path.name}


def test_a_second_run_in_the_folder_is_refused_while_the_first_lives(data, tmp_path):
    out = tmp_path / "runs" / "first"
    with only_writer(out), pytest.raises(OutputError, match="first: another process is writing it"):
        train.run(quick(data, out, steps=1, overwrite=True))
    with pytest.raises(InputError):
        train.run(quick(tmp_path / "none.yaml", out, steps=1))
    assert list(tmp_path.iterdir()) == []


CHANGES = [
    ("seed: 0", "seed: 7", r"seed is 7, the run in state.pt has 0"),
    ("crop: 64\n", "", r"crop is 256, the run in state.pt has 64"),
    ("seed: 0", "seed: x", "is damaged: --seed: found 'x'"),
    ("made_with:", "made_with", "is damaged: "),
]


def test_a_changed_config_is_refused_and_the_setting_named(data, tmp_path):
    out = tmp_path / "run"
    train.run(quick(data, out, stop_after=1))
    before = contents(out)
    config = before["config.yaml"].decode()
    for old, new, words in CHANGES:
        (out / "config.yaml").write_text(config.replace(old, new))
        with pytest.raises(OutputError, match=f"config.yaml: {words}") as caught:
            train.run(resumed(out, {"resume": True}, []))
        assert "start a new run" in caught.value.hint
    (out / "config.yaml").write_text(config)
    assert contents(out) == before
    train.run(resumed(out, {"resume": True, "workers": 2}, []))


def test_an_older_state_beside_newer_records_is_refused(data, tmp_path):
    out = tmp_path / "run"
    train.run(quick(data, out, "val_every=1", "log_every=1", stop_after=1))
    older = (out / STATE).read_bytes()
    train.run(resumed(out, {"resume": True, "stop_after": 2}, []))
    whole = contents(out)
    (out / STATE).write_bytes(older)
    with pytest.raises(ModelError, match=r"state is of step 1, but metrics.jsonl reaches step 3") as caught:
        train.run(resumed(out, {"resume": True}, []))
    assert "put the last state back" in caught.value.hint
    assert contents(out) == {**whole, STATE: older}


def test_a_refused_overwrite_leaves_the_run_that_is_there(data, tmp_path):
    out, weights = tmp_path / "run", tmp_path / "weights.yaml"
    weights.write_text("building: 1\n")
    train.run(quick(data, out, steps=1))
    before = contents(out)
    for extra, words in (("class_thresholds={watr: 0.9}", "watr is no class"), (f"class_weights={weights}", "differs")):
        with pytest.raises(ConfigError, match=words):
            train.run(quick(data, out, extra, overwrite=True))
    assert contents(out) == before


def test_overwrite_leaves_nothing_of_the_old_report(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train.run(quick(data, out, steps=1))

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingEngine, "fit", dies)
    with pytest.raises(InterruptError) as caught:
        train.run(quick(data, out, steps=1, overwrite=True))
    assert caught.value.hint == "no state was written yet: start anew with --overwrite"
    assert contents(out).keys() == {"config.yaml"}


def test_an_interrupted_run_is_resumed_from_its_state(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train.run(quick(data, out, "val_every=4", stop_after=1))
    monkeypatch.setattr(TrainingEngine, "_train_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InterruptError) as caught:
        train.run(resumed(out, {"resume": True}, []))
    assert caught.value.hint == f"co2s train --resume --out {out}"


@pytest.mark.parametrize("lost", [True, False])
def test_a_finished_run_that_is_resumed_gets_its_report(data, tmp_path, lost):
    out = tmp_path / "run"
    train.run(quick(data, out, "ema=0.9", method="fixmatch", steps=2))
    before = contents(out)
    for name in ("report.json", "report.md", "curves.png", "confusion.png") if lost else ():
        (out / name).unlink()
    result = train.run(resumed(out, {"resume": True}, []))
    assert {"clip", "dino", "fused", "ema-fused"} <= result.miou.keys()
    assert contents(out) == before


DIVERGING = ("lr=1e30", "warmup=0", "clip_norm=0")


def test_a_run_whose_loss_is_no_number_stops_and_keeps_what_was_saved(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"step 2: the loss is (nan|inf)") as caught:
        train.run(quick(data, out, *DIVERGING, "val_every=1"))
    assert "smaller --set lr" in caught.value.hint
    assert State.load(out).step == 1
    _finite(out)


def _finite(out):
    from safetensors.torch import load_file

    for name in (BEST, LAST):
        assert all(values.isfinite().all() for values in load_file(out / name).values())
    losses, validations = read(out)
    assert np.isfinite([value for line in (*losses, *validations) for value in line.values()]).all()
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("stop", [None, 2])
def test_weights_that_are_no_numbers_are_never_saved(data, tmp_path, monkeypatch, stop):
    out = tmp_path / "run"
    train.run(quick(data, out, "val_every=3", "lr=1e-5", steps=3, stop_after=1))
    before = (out / STATE).read_bytes()
    advance = TrainingEngine._train_step

    def breaking(engine, batches):
        found = advance(engine, batches)
        with torch.no_grad():
            next(engine._ensemble.parameters()).fill_(torch.nan if engine.step == (stop or 3) else 0.01)
        return found

    monkeypatch.setattr(TrainingEngine, "_train_step", breaking)
    with pytest.raises(ConfigError, match=f"step {stop or 3}: some weights are NaN"):
        train.run(resumed(out, {"resume": True, **({"stop_after": stop - 1} if stop else {})}, []))
    assert (out / STATE).read_bytes() == before
    assert not (out / BEST).exists()


@pytest.mark.parametrize("extra", [(), ("denominators=rank", "cutmix_partner=flip")])
def test_another_number_of_processes_goes_on_with_the_same_run(data, tmp_path, extra):
    """What two processes began is made here by one, in two passes a step, each as large as theirs."""
    rules = ("batch=4", "log_every=1", "val_every=2", "lr=1e-5", "threshold=0.1", *extra)
    whole, out = tmp_path / "whole", tmp_path / "run"
    train.run(quick(data, whole, *rules))
    train.run(quick(data, out, *rules, stop_after=2))
    state = State.load(out)
    replace(state, settings={**state.settings, "processes": 2}).save(out)
    train.run(resumed(out, {"resume": True}, []))
    assert State.load(out).settings["processes"] == 2
    one, two = (read(folder)[0] for folder in (whole, out))
    assert [line["step"] for line in two] == [1, 2, 3, 4]
    same = [
        b == {key: pytest.approx(value, abs=1e-5) for key, value in a.items()} for a, b in zip(one, two, strict=True)
    ]
    assert same == ([True] * 4 if not extra else [True, True, False, False])  # shares of two have losses of their own


def test_more_processes_than_crops_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr("co2s_cli.training.run.started", lambda _: nullcontext(Runtime(torch.device("cpu"), 0, 3)))
    monkeypatch.setattr(Runtime, "agreed", lambda _: nullcontext())
    monkeypatch.setattr(Runtime, "from_leader", lambda _, value: value)
    monkeypatch.setattr(Runtime, "wrapped", lambda _, module: module)
    with pytest.raises(ConfigError, match="a step has 2 labelled crops, too few for 3 processes") as caught:
        train.run(quick(data, tmp_path / "run", "batch=2"))
    assert "at most 2 processes" in caught.value.hint


def shared_out(data, folder):
    """The same data with a share of its labels to validate with."""
    content = yaml.safe_load(data.read_text())
    path = data.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump({**content, "val": 0.3}))
    return path


def test_all_labels_teach_anew_where_a_share_of_them_validated(data, tmp_path):
    """Stopped in the second half, too, the run ends in the same bits; that half knows nothing of the first one."""
    share = shared_out(data, tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    told = train.run(quick(share, whole, "refit=true", "val_every=2", steps=4))
    assert (told.steps, told.step, told.model.name) == (8, 8, "final.safetensors")
    report = json.loads((whole / "report.json").read_text())
    assert report["validated_step"] == 4
    assert report["best"]["best.safetensors"]["step"] <= 4
    for steps in (4, 1, 3):
        if steps == 4:
            train.run(quick(share, parts, "refit=true", "val_every=2", steps=4, stop_after=4))
        else:
            train.run(resumed(parts, {"resume": True, "stop_after": steps}, []))
    for name in (BEST, LAST, FINAL, "report.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert [load(whole / name).manifest.training.get("all_labels") for name in (BEST, FINAL)] == [None, True]
    without = train.run(quick(share, tmp_path / "without", "val_every=2", steps=4))
    assert without.model.read_bytes() == (whole / BEST).read_bytes()
    assert without.final is None


def test_the_second_half_has_a_running_mean_of_its_own_when_it_is_resumed(data, tmp_path):
    share, settings = shared_out(data, tmp_path), ("refit=true", "ema=0.9")
    train.run(quick(share, tmp_path / "whole", *settings, steps=2, method="supervised"))
    train.run(quick(share, tmp_path / "parts", *settings, steps=2, method="supervised", stop_after=3))
    train.run(resumed(tmp_path / "parts", {"resume": True}, []))
    whole, parts = (tmp_path / run / (EMA + FINAL) for run in ("whole", "parts"))
    assert parts.read_bytes() == whole.read_bytes()


def test_the_second_half_begins_with_the_weights_of_the_first(data, tmp_path):
    share = shared_out(data, tmp_path)
    out = tmp_path / "run"
    train.run(quick(share, out, "refit=true", "lr=1e-30", steps=1))
    first, second = (load(out / name).state_dict() for name in (BEST, FINAL))
    assert all(torch.allclose(first[name].float(), second[name].float(), rtol=0, atol=1e-20) for name in first)
    train.run(quick(share, out, "refit=true", "lr=1e-3", "warmup=0", steps=2, stop_after=3, overwrite=True))
    assert State.load(out).initial == {}
    moved = load(out / LAST).state_dict()
    weights = [name for name in moved if moved[name].is_floating_point()]
    far = max(float((moved[name] - first[name]).abs().max()) for name in weights)
    assert 0 < far < 1.2e-3  # one step of Adam, not three


def test_a_model_that_all_labels_taught_is_not_judged_by_them_without_a_word(data, tmp_path, co2s):
    share = shared_out(data, tmp_path)
    train.run(quick(share, tmp_path / "run", "refit=true", steps=1))
    for name, warns in ((BEST, False), (FINAL, True)):
        judged = co2s("evaluate", "--model", tmp_path / "run" / name, share)
        assert judged.exit_code == 0
        assert ("figures on them are too high" in judged.stderr) is warns


def test_files_that_validate_never_teach(data, tmp_path):
    told = train.run(quick(data, tmp_path / "run", "refit=true", steps=2))
    assert (told.steps, told.final, told.model.name) == (2, None, BEST)


def test_minutes_become_steps_by_the_pace_of_the_machine_and_measuring_it_teaches_nothing(data, tmp_path, monkeypatch):
    measured = TrainingEngine.seconds_per_step
    monkeypatch.setattr(TrainingEngine, "seconds_per_step", lambda engine: measured(engine) * 0 + 0.85)
    timed, counted = tmp_path / "timed", tmp_path / "counted"
    told = train.run(quick(data, timed, "val_every=2", steps=None, minutes=4 / 60, stop_after=2))
    assert told.steps == 4
    monkeypatch.setattr(TrainingEngine, "seconds_per_step", lambda _: pytest.fail("a resumed run has its length"))
    train.run(resumed(timed, {"resume": True}, []))
    train.run(quick(data, counted, "val_every=2", steps=4))
    assert (timed / LAST).read_bytes() == (counted / LAST).read_bytes()


def test_the_start_tells_how_long_a_run_will_take_and_measuring_it_teaches_nothing(data, tmp_path, monkeypatch, caplog):
    measured = TrainingEngine.seconds_per_step

    def seconds(engine, step=None, tries=2):
        return measured(engine, step, tries) * 0 + (3.0 if step is None else 1.0)

    monkeypatch.setattr(TrainingEngine, "seconds_per_step", seconds)
    plain, told = tmp_path / "plain", tmp_path / "told"
    train.run(quick(data, plain, "consistency_start=0.5", steps=4))
    assert "will take" not in caplog.text  # too short a run to measure
    monkeypatch.setattr(run, "SHORT_RUN", 4)
    with caplog.at_level(logging.INFO):
        train.run(quick(data, told, "consistency_start=0.5", steps=4))
    assert "; its steps will take about 0:00:08" in caplog.text
    assert (plain / LAST).read_bytes() == (told / LAST).read_bytes()


@pytest.mark.parametrize(("places", "steps"), [(3, 100), (16, 100), (25, 150), (160, 960), (272, 1000)])
def test_the_length_in_visits_follows_the_labels(data, places, steps):
    settings = settings_of(None, {"data": str(data), "preset": "small"}, [])
    assert length_of(settings, SimpleNamespace(places=places), Runtime(torch.device("cpu"))) == steps
