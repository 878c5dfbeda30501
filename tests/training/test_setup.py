"""What the method is told by the settings: thresholds and weights of the classes."""

from types import SimpleNamespace

import pytest
import torch

from co2s_cli.config.train import settings_of
from co2s_cli.errors import ConfigError
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import rules_of

DATA = SimpleNamespace(classes=SimpleNamespace(names=("bare-soil", "water")), counts=(10, 20))


def rules(*extra):
    return rules_of(settings_of(None, {}, list(extra)), DATA, 10, Runtime(torch.device("cpu")))


def test_weights_and_thresholds_reach_their_classes(tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_text("water: 1\nbare-soil: 3\n")
    found = rules(f"class_weights={path}", "class_thresholds={bare-soil: 0.5}")
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
