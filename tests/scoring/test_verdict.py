"""What a protocol makes of counts."""

import numpy as np
import pytest

from co2s_cli.classes import IGNORE
from co2s_cli.scoring import report
from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.counts import CountRules, MapCounts
from co2s_cli.scoring.verdict import Judge

NAMES = ("town", "field", "clutter", "snow")
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 0, IGNORE]], np.uint8)
DRAWN = np.array([[0, 0, 1, 1], [0, 2, 1, 1], [0, 1, 1, 1], [2, IGNORE, IGNORE, 0]], np.uint8)


def verdict(protocol="plain", excluded=(), *, wrong=False, curve=None):
    left_out = excluded if protocol == "mask" else ()
    tally = MapCounts.of(TRUTH, DRAWN, None, (slice(None), slice(None)), CountRules(left_out, wrong, 1.0))
    return Judge(protocol, dict(enumerate(NAMES)), excluded, wrong).verdict(tally, 1.0, curve)


def test_a_class_that_is_nowhere_has_no_figures_and_is_zero_as_published():
    plain, published = verdict(), verdict("published")
    assert plain.classes[3].iou is None
    assert plain.classes[3].boundary_f1 is None
    assert [one.counts for one in plain.classes] == [True, True, True, False]
    assert published.miou == pytest.approx(plain.miou * 3 / 4)


def test_pixels_without_a_class_are_left_out_and_told_or_wrong():
    skipped, wrong = verdict(), verdict(wrong=True)
    assert (skipped.pixels, skipped.missing, skipped.missing_share) == (13, 2, pytest.approx(2 / 15))
    assert (wrong.pixels, wrong.missing) == (15, 2)
    assert skipped.accuracy == pytest.approx(10 / 13)
    assert wrong.accuracy == pytest.approx(10 / 15)
    assert len(skipped.confusion[0]) == 4
    assert [row[4] for row in wrong.confusion] == [1, 0, 1, 0]
    assert wrong.classes[0].recall == pytest.approx(3 / 5)


def test_mask_leaves_pixels_out_and_dwl_keeps_them():
    mask, dwl = verdict("mask", (2,)), verdict("dwl", (2,))
    assert (mask.pixels, dwl.pixels) == (10, 13)
    assert mask.missing == 1
    assert mask.miou == pytest.approx((3 / 4 + 6 / 6) / 2)
    assert dwl.miou == pytest.approx((3 / 5 + 6 / 7) / 2)
    for found in (mask, dwl):
        assert found.excluded == ("clutter",)
        assert found.classes[2].iou is None
        assert not found.classes[2].counts


def test_the_report_holds_what_was_found(tmp_path):
    curve = Reliability.of(np.full((2, 256), 3), 1 / 255, 10)
    found = verdict(wrong=True, curve=curve)
    report.write(tmp_path / "deep" / "report", found, {"map": "m|ap.tif", "remarks": ["moved"]})
    folder = tmp_path / "deep" / "report"
    assert {path.name for path in folder.iterdir()} == {
        "report.json", "report.md", "confusion.png", "reliability.png",
    }  # fmt: skip
    text = (folder / "report.md").read_text()
    assert "| town " in text
    assert "- protocol: plain" in text
    assert "no class" in text
    assert "- moved" in text


def test_a_report_without_confidences_takes_the_old_curve_away(tmp_path):
    (tmp_path / "reliability.png").touch()
    report.write(tmp_path, verdict(), {})
    assert not (tmp_path / "reliability.png").exists()
    assert "reliability" not in (tmp_path / "report.md").read_text()


def test_classes_without_a_name_are_told_of_where_they_occur():
    codes = np.array([10, 95, 40, 0], np.uint8)
    truth, drawn = (np.where(image == IGNORE, IGNORE, codes[image % 4]) for image in (TRUTH, DRAWN))
    tally = MapCounts.of(truth, drawn, None, (slice(None), slice(None)), CountRules(tolerance=1.0))
    found = Judge("plain", {one: f"class {one}" for one in tally.occurring}).verdict(tally, 1.0, None)
    assert [one.id for one in found.classes] == [10, 40, 95]
    wanted = verdict()
    assert found.miou == pytest.approx(wanted.miou)
    assert [found.classes[i].boundary_f1 for i in (0, 2, 1)] == [one.boundary_f1 for one in wanted.classes[:3]]


def test_nothing_is_made_before_there_is_a_report(tmp_path):
    report.check_folder(tmp_path / "deep" / "report", overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("apart", "told"), [(True, (None, None, None)), (False, (True, True, None))])
def test_classes_of_polygons_that_touch_no_other_have_no_border_to_judge(apart, told):
    truth = np.full((12, 12), IGNORE, np.uint8)
    truth[1:5, 1:5], truth[1:5, (7 if apart else 5) : 11], truth[8:11, 1:5] = 0, 1, 2
    drawn = np.random.default_rng(0).integers(0, 3, truth.shape).astype(np.uint8)
    tally = MapCounts.of(truth, drawn, None, (slice(None), slice(None)), CountRules((), False, 1.0))
    found = Judge("plain", {0: "a", 1: "b", 2: "c"}, (), False).verdict(tally, 1.0, None)
    assert tuple(one.boundary_f1 and one.boundary_f1 >= 0 for one in found.classes) == told
    assert (found.boundary_f1 is None) == apart


def test_a_class_that_is_drawn_where_none_is_scores_no_border_met():
    truth = np.repeat([[0, 0, 1, 1]], 4, axis=0).astype(np.uint8)
    drawn = truth.copy()
    drawn[:2] = 2
    tally = MapCounts.of(truth, drawn, None, (slice(None), slice(None)), CountRules((), False, 1.0))
    judge = Judge("published", {0: "a", 1: "b", 2: "c"}, (), False)
    assert judge.verdict(tally, 1.0, None).classes[2].boundary_f1 == 0
