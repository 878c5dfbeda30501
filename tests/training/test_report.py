"""The curves of a run: what they show, and that one can tell them apart."""

import json

import numpy as np
import pytest

from co2s_cli.scoring.validation import FUSED, ValidationCounts
from co2s_cli.training import report

PARTS = ("labeled", "strong1", "strong2", "feature", "stability")
FIGURES = ("miou", "accuracy", "coverage", "precision", "taught")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The panels of a run of some students: for each, its lines by label."""
    kept = []
    monkeypatch.setattr(report, "draw", lambda made, path: kept.append(made))

    def lines(students, parts=PARTS):
        loss = {"loss": 1.0, **{f"{name}/{part}": 0.5 for name in students for part in parts}, "lr": 0.1}
        score = {**{f"{name}/{part}": 0.5 for name in students for part in FIGURES}, "agreement": 0.9}
        records = [{"step": 1, **loss}, {"step": 1, **score}]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
        report.write(tmp_path, None, ["field"], {})
        return [{line.get_label(): line for line in axis.lines} for axis in kept[-1].axes]

    return lines


def test_the_curves_show_where_each_student_teaches(drawn):
    losses, scores, labels = drawn(("clip", "dino"))
    assert {"loss", "clip/stability", "dino/stability"} < losses.keys()
    assert scores.keys() == {"clip/miou", "dino/miou"}
    shown = {f"{name}/{part}" for name in ("clip", "dino") for part in FIGURES[2:]}
    assert labels.keys() == {"agreement", *shown}
    assert "student/taught" not in drawn(("student",))[2]


@pytest.mark.parametrize(
    ("students", "parts"),
    [
        (("clip", "dino", "ema-clip", "ema-dino"), PARTS),
        (("student",), tuple(f"distill:{n}/x" for n in range(25))),
        (("clip", "dino", "fused", "ema-clip", "ema-dino", "ema-fused"), ()),
    ],
)
def test_no_two_curves_look_the_same(drawn, students, parts):
    for number, panel in enumerate(drawn(students, parts)):
        if len(students) > 4 and number == 2:  # no run tells the pseudo-labels of six
            continue
        looks = {(line.get_color(), line.get_linestyle()) for line in panel.values()}
        assert len(looks) == len(panel), number


def test_a_student_far_behind_is_told_below_the_table(tmp_path):
    good, bad = np.array([[8, 0], [0, 8]]), np.array([[8, 0], [8, 0]])
    report.write(
        tmp_path, ValidationCounts({"clip": bad, "dino": good, FUSED: good}, {}, {}, {}, 0, 16), ["a", "b"], {}
    )
    assert "clip is 75 points of mean IoU behind dino" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_a_class_without_validation_labels_is_not_scored(tmp_path):
    matrix = np.array([[6, 2, 0], [1, 3, 4], [0, 0, 0]])
    tally = ValidationCounts({"one": matrix, FUSED: matrix}, {}, {}, {}, 0, 16)
    content = report.write(tmp_path, tally, ["field", "water", "ice"], {})
    scores = content["validation"][FUSED]
    assert scores["iou"]["ice"] is None
    assert scores["miou"] == tally.facts()["fused/miou"] == pytest.approx((6 / 9 + 3 / 10) / 2)
    assert "| ice | – |" in (tmp_path / "report.md").read_text()
