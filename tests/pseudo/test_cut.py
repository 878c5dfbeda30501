"""Labels, mask, weights and counts of a strip, against plain loops."""

import math

import numpy as np
import pytest

from co2s_cli.pseudo.cut import (
    DIFFER,
    HUMAN,
    KEPT,
    SMALL,
    UNSURE,
    CandidateStrip,
    CutRule,
    LabelCounts,
    LabelSummary,
    label_layers,
)

BOUNDS = np.array([0.5, 0.9, 1.0])
NAMES = ("a", "b", "c")


def strip(seed=0, shape=(9, 11)):
    rng = np.random.default_rng(seed)
    sure = np.rint(rng.random(shape) * 64) / 64
    sure[0] = np.nan
    sure[1, :3] = BOUNDS
    candidate = rng.choice([0, 1, 2, 255], shape).astype(np.uint8)
    candidate[0], candidate[1, :3] = 255, [0, 1, 2]
    return CandidateStrip(
        candidate,
        sure.astype(np.float32),
        rng.integers(0, 255, shape).astype(np.uint8),
        rng.choice([0, 1, 2, 255], shape, p=[0.1, 0.1, 0.1, 0.7]).astype(np.uint8),
        rng.choice([0, 1, 2, 255], shape).astype(np.uint8),
    )


def large(shape=(9, 11)):
    return np.random.default_rng(5).random(shape) < 0.8


def test_a_confidence_that_equals_the_threshold_is_enough():
    np.testing.assert_array_equal(strip().above_threshold(BOUNDS.astype(np.float32).astype(float))[1, :3], [0, 1, 2])


@pytest.mark.parametrize("weight", ["confidence", 0.25])
def test_every_pixel_is_kept_or_told_why_not(weight):
    part, is_large = strip(), large()
    sure = part.above_threshold(BOUNDS)
    found = label_layers(part, sure, is_large, CutRule(BOUNDS, weight))
    for place in np.ndindex(part.candidate.shape):
        candidate, confidence, human = part.candidate[place], part.confidence[place], part.human[place]
        label, reason, share = 255, UNSURE, None
        if human != 255:
            label, reason, share = human, HUMAN, 1.0
        elif math.isnan(confidence):
            reason = 255
        elif candidate == 255:
            reason = DIFFER
        elif confidence >= BOUNDS[candidate]:
            reason = KEPT if is_large[place] else SMALL
            if is_large[place]:
                label, share = candidate, confidence if weight == "confidence" else weight
        assert found["labels"][place] == label
        assert found["mask"][place] == reason
        assert found["weights"][place] == (255 if share is None else np.rint(share * 254))


def test_without_human_labels_nothing_lies_on_top():
    part = strip()._replace(human=None)
    assert HUMAN not in label_layers(part, part.above_threshold(BOUNDS), large(), CutRule(BOUNDS))["mask"]


def test_counts_equal_a_loop_and_add_up():
    part, is_large = strip(), large()
    sure = part.above_threshold(BOUNDS)
    kept = (sure != 255) & is_large
    mask = label_layers(part, sure, is_large, CutRule(BOUNDS))["mask"]
    found = LabelCounts.of(part, mask, kept, 3)
    for label in range(3):
        here = [place for place in np.ndindex(kept.shape) if kept[place] and part.candidate[place] == label]
        assert found.candidates[label] == (part.candidate == label).sum()
        assert found.kept[label] == len(here)
        assert found.confidence[label] == pytest.approx(sum(float(part.confidence[place]) for place in here))
        measured = [part.truth[p] for p in here if part.truth[p] != 255 and part.human[p] == 255]
        one = LabelSummary.of(found, NAMES, BOUNDS).classes[NAMES[label]]
        assert one.measured == len(measured)
        assert one.precision == (pytest.approx(measured.count(label) / len(measured)) if measured else None)
        assert one.coverage == pytest.approx(len(here) / found.candidates[label])
    assert (found.valid, found.human) == (8 * 11, (part.human != 255).sum())
    pieces = [LabelCounts.of(CandidateStrip(*(array[rows] for array in part)), mask[rows], kept[rows], 3) for rows in
              (slice(0, 4), slice(4, 9))]  # fmt: skip
    both, once = (LabelSummary.of(counts, NAMES, BOUNDS) for counts in (pieces[0].plus(pieces[1]), found))
    assert both.precision == once.precision
    assert both.disagreement == pytest.approx(once.disagreement)
    assert both.classes == once.classes


def test_what_nobody_can_tell_is_none():
    none = LabelSummary.of(LabelCounts.none(3), NAMES, BOUNDS)
    assert (none.coverage, none.precision, none.disagreement, none.classes["a"].mean_confidence) == (None,) * 4
    alone = strip()._replace(disagreement=None, truth=None)
    kept = alone.above_threshold(BOUNDS) != 255
    one = LabelSummary.of(LabelCounts.of(alone, np.zeros_like(alone.candidate), kept, 3), NAMES, BOUNDS)
    assert (one.disagreement, one.disagreement_labelled, one.precision) == (None, None, None)
