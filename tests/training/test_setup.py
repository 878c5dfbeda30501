"""What the method is told by the settings: thresholds and weights of the classes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from co2s_cli.config.train import settings_of
from co2s_cli.errors import ConfigError
from co2s_cli.training import setup
from co2s_cli.training.methods import METHODS
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import plan_of, rules_of, sliding_of
from co2s_cli.training.step_loss import StepSums

RGB = ("red", "green", "blue")
DATA = SimpleNamespace(classes=SimpleNamespace(names=("bare-soil", "water")), counts=(10, 20), bands=RGB)
SUMS = StepSums(Runtime(torch.device("cpu")))


def rules(*extra):
    return rules_of(settings_of(None, {}, list(extra)), DATA, 10, SUMS)


@pytest.mark.parametrize(
    ("extra", "bands", "single"),
    [
        (["preset=small"], RGB, True),
        (["preset=small"], (*RGB, "nir"), False),
        (["preset=small", "init=none"], RGB, False),
        (["preset=small", "single_view=false"], RGB, False),
        (["preset=small", "single_view=true"], (*RGB, "nir"), True),
        ([], RGB, False),
    ],
)
def test_one_view_is_seen_where_the_packaged_start_learns_or_the_settings_say_so(extra, bands, single):
    data = SimpleNamespace(**{**vars(DATA), "bands": bands})
    assert rules_of(settings_of(None, {}, extra), data, 10, SUMS).single_view is single


def test_when_unlabelled_pixels_begin_to_count_reaches_the_method():
    found = rules("preset=small", "consistency_after=7")
    assert (found.consistency_start, found.consistency_after, found.consistency_ramp) == (0.3, 7, 0.1)
    method = METHODS["co2s"](replace(found, steps=20))
    assert [method.unlabeled_weight(step) > 0 for step in range(8)] == [False] * 7 + [True]


@pytest.mark.parametrize(("extra", "share"), [(["preset=small"], 0.5), (["preset=published"], 0.0), ([], 0.0)])
def test_how_often_parts_are_pasted_reaches_the_loader(monkeypatch, extra, share):
    monkeypatch.setattr(setup, "Loader", lambda labeled, unlabeled, plan, **rest: plan)
    data = SimpleNamespace(**vars(DATA), labeled=None, unlabeled=None, whole=None)
    plan = setup.loader_of(settings_of(None, {}, extra), data, Runtime(torch.device("cpu")), views=0)
    assert plan.labeled_paste == share


def test_beside_a_gpu_each_core_of_a_process_draws_crops(monkeypatch):
    monkeypatch.setattr(setup, "cores", lambda processes: 24 // processes)
    assert setup.crop_threads(Runtime(torch.device("cpu"))) == 2
    assert setup.crop_threads(Runtime(torch.device("cuda"))) == 8
    assert setup.crop_threads(Runtime(torch.device("cuda"), 0, 4)) == 6


def test_weights_and_thresholds_reach_their_classes(tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_text("water: 1\nbare-soil: 3\n")
    found = rules(f"class_weights={path}", "class_thresholds={bare-soil: 0.5}", "labeled_balance=0.25")
    assert found.labeled_balance == 0.25
    torch.testing.assert_close(found.class_weights, torch.tensor([1.5, 0.5]))
    torch.testing.assert_close(found.threshold, torch.tensor([0.5, 0.95]))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("abc", "1", r"weights.yaml: bare-soil weighs 'abc'"),
        ("1", ".nan", r"weights.yaml: water weighs nan"),
        ("1", ".inf", r"weights.yaml: water weighs inf"),
        ("-1", "1", r"weights.yaml: bare-soil weighs -1, a number from 0"),
        ("[1]", "1", r"weights.yaml: bare-soil weighs \[1\]"),
        ("0", "0", r"weights.yaml: every class weighs 0"),
    ],
)
def test_weights_that_weigh_nothing_sensible_are_refused(tmp_path, first, second, words):
    path = tmp_path / "weights.yaml"
    path.write_text(f"bare-soil: {first}\nwater: {second}\n")
    with pytest.raises(ConfigError, match=words):
        rules(f"class_weights={path}")


@pytest.mark.parametrize(
    "text", ["class_thresholds={water: 5}", "class_thresholds={water: .nan}", "lr=.inf", "lr=.nan"]
)
def test_numbers_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match=r"class_thresholds\.water|lr: "):
        rules(text)


def test_the_published_preset_is_the_released_behaviour():
    settings = settings_of(None, {"preset": "published"}, [])
    plan, sliding = plan_of(settings, 100, epoch_steps=7), sliding_of(settings)
    assert (plan.lr_lag, plan.clip_norm, plan.shared_counts) == (1, 0, False)
    assert (plan.lr, plan.backbone_lr, plan.decoder_lr, plan.weight_decay) == (1e-4, 0.01, 10, 0.01)
    assert (sliding.blend, sliding.taper, sliding.stride, sliding.short_side) == ("logits", "flat", 213, 512)
    method = rules_of(settings, DATA, 100, SUMS)
    assert (method.stability_weight, method.ramp_share) == (0.5, 0.2)
    assert (method.stability_grad, method.stability_in_padding) == (False, True)
    assert (settings.dino_init, settings.network, settings.cutmix_partner) == ("random", "published", "same")
    assert (settings.precision, settings.scale_rule, settings.epochs) == ("fp32", "fitted", 80)
    assert (plan.val_every, plan.select_students) == (7, True)


def test_the_default_preset_differs_where_the_table_of_the_methods_says_so():
    settings = settings_of(None, {}, [])
    plan, sliding = plan_of(settings, 100, epoch_steps=7), sliding_of(settings)
    assert (plan.lr_lag, plan.clip_norm, plan.shared_counts) == (0, 1, True)
    assert (sliding.blend, sliding.taper, sliding.stride, sliding.short_side) == ("probabilities", "smooth", 192, None)
    method = rules_of(settings, DATA, 100, SUMS)
    assert (method.stability_grad, method.stability_in_padding) == (True, False)
    assert (settings.dino_init, settings.network, settings.cutmix_partner) == ("pretrained", "own", "other")
    assert (plan.val_every, plan.select_students) == (10, False)


@pytest.mark.parametrize("text", ["val_every=0", "val_every=often", "select=both"])
def test_validations_are_so_many_steps_apart_or_an_epoch(text):
    with pytest.raises(ConfigError, match=text.partition("=")[0]):
        settings_of(None, {}, [text])
