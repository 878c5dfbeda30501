"""Self-training from end to end: train, pseudo-label, train on it."""

import pytest
import yaml
from support.training import landscape, quick

from co2s_cli.config import load
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.jobs import pseudo_label, train
from co2s_cli.models import weights


@pytest.mark.slow
def test_two_rounds_on_the_landscape(tmp_path, record_property, capsys):
    data = landscape(tmp_path)
    start = weights.demo_path()  # from scratch a minute of training knows too little to be sure of anything
    first = train.run(quick(data, tmp_path / "one", steps=30, init=start))
    rule = {"threshold_per_class": "auto", "share": 0.3, "keep_labels": data, "precision": "fp32", "device": "cpu"}
    scenes = [str(tmp_path / "scene.tif")]
    labels = pseudo_label.run(
        load(PseudoLabelConfig, None, {**rule, "scenes": scenes, "model": first.model, "out": tmp_path / "labels"})
    )
    second = train.run(quick(labels.data, tmp_path / "two", steps=30, init=start))
    facts = {"round 1 mIoU": first.miou["fused"], "round 2 mIoU": second.miou["fused"],
             "labelled": labels.total.coverage, "right": labels.total.precision,
             "right of all": labels.total.precision_before}  # fmt: skip
    for name, value in facts.items():
        record_property(name, value)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:.3f}" for name, value in facts.items()))  # noqa: T201
    assert labels.total.coverage >= 0.3
    assert labels.total.precision > labels.total.precision_before  # what is surer is more often right
    assert 0 < second.miou["fused"] <= 1
    told = yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["made_with"]["labeled_pixels"]
    before = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())["made_with"]["labeled_pixels"]
    assert sum(told.values()) > 3 * sum(before.values())
