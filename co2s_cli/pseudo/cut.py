"""Make pseudo-labels from arrays of candidates: thresholds, labels, the mask of reasons, weights, and counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.geo.legend import STEPS
from co2s_cli.pseudo.candidates import GRID
from co2s_cli.pseudo.names import LABELS, MASK, WEIGHTS
from co2s_cli.scoring.matrix import Confusion, confusion

REASONS = ClassMap.of(
    [
        {"name": "not sure", "color": [120, 120, 120]},
        {"name": "kept", "color": [60, 160, 75]},
        {"name": "students differ", "color": [200, 60, 60]},
        {"name": "too small", "color": [230, 170, 60]},
        {"name": "human label", "color": [60, 90, 200]},
    ]
)
"""Classes of the mask of reasons: 1 is a pseudo-label, 4 a label by hand; 0, 2 and 3 say why a pixel has no label."""
UNSURE, KEPT, DIFFER, SMALL, HUMAN = range(5)
"""Ids of `REASONS`."""


@dataclass(frozen=True, slots=True)
class CutRule:
    """Which candidates become pseudo-labels, and with what weight."""

    thresholds: NDArray[np.float64]
    """(classes,) least confidence of a candidate that is kept."""
    weight: float | Literal["confidence"] = "confidence"
    """Weight of a pseudo-label in training: one number for all, or its confidence."""
    min_area: int = 0
    """Least number of pixels of a region of one class that is kept."""


class CandidateStrip(NamedTuple):
    """Some rows of a scene's rasters; each array is (rows, columns)."""

    candidate: NDArray[np.uint8]
    """Class ids; `IGNORE` where the students differ or the model gave no value."""
    confidence: NDArray[np.float32]
    """Confidence of the candidate in [0, 1]; NaN where the model gave no value."""
    disagreement: NDArray[np.uint8] | None = None
    """Distance of the students' probabilities in 1/`STEPS`; None for a single student."""
    human: NDArray[np.uint8] | None = None
    """Class ids of labels by hand, which replace pseudo-labels; `IGNORE` where there is none."""
    truth: NDArray[np.uint8] | None = None
    """Class ids of the truth by which pseudo-labels are judged; `IGNORE` where it is unknown."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, columns) True where the model gave a value."""
        return ~np.isnan(self.confidence)

    def above_threshold(self, thresholds: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(rows, columns) candidates whose confidence reaches the threshold of their class; `IGNORE` elsewhere."""
        needed = np.append(thresholds, np.inf)[np.minimum(self.candidate, len(thresholds))]
        return np.where(self.confidence >= needed, self.candidate, np.uint8(IGNORE))


def label_layers(
    strip: CandidateStrip, sure: NDArray[np.uint8], large: NDArray[np.bool_], cut: CutRule
) -> dict[str, NDArray[np.uint8]]:
    """The rows of each output raster by name: labels, mask of reasons, weights.

    Args:
        strip: The candidates.
        sure: (rows, columns) candidates that reach the threshold of their class; `IGNORE` elsewhere.
        large: (rows, columns) True where the region of equal values of `sure` has at least `cut.min_area` pixels.
        cut: The rule, for the weight of pseudo-labels.
    """
    kept = (sure != IGNORE) & large
    labels = np.where(kept, sure, np.uint8(IGNORE))
    mask = np.select(
        [~strip.valid, strip.candidate == IGNORE, sure == IGNORE, ~large], [IGNORE, DIFFER, UNSURE, SMALL], KEPT
    ).astype(np.uint8)
    share = strip.confidence if cut.weight == "confidence" else np.float32(cut.weight)
    weights = np.where(kept, np.rint(np.nan_to_num(share) * STEPS), IGNORE).astype(np.uint8)
    if strip.human is not None:
        by_hand = strip.human != IGNORE
        labels[by_hand], mask[by_hand], weights[by_hand] = strip.human[by_hand], HUMAN, STEPS
    return {LABELS: labels, MASK: mask, WEIGHTS: weights}


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Counts of pixels, which can be added over strips and scenes."""

    valid: int
    """Number of pixels for which the model gave a value."""
    human: int
    """Number of pixels with a label by hand."""
    candidates: NDArray[np.int64]
    """(classes,) number of candidates, before any threshold."""
    kept: NDArray[np.int64]
    """(classes,) number of candidates that pass threshold and area, whether or not a label by hand replaces them."""
    confidence: NDArray[np.float64]
    """(classes,) sum of the confidences of kept candidates."""
    disagreement: float
    """Sum of the students' distance over valid pixels; NaN for a single student."""
    kept_disagreement: float
    """Sum of the students' distance over kept candidates; NaN for a single student."""
    before: Confusion
    """Confusion matrix of all candidates, truth by row and candidate by column, over pixels whose truth is known.
    Pixels with a label by hand are left out, because the model may have been trained on them."""
    after: Confusion
    """Confusion matrix of kept candidates, otherwise as `before`."""

    @classmethod
    def none(cls, classes: int) -> LabelCounts:
        """Counts of no pixel: all zeros."""
        by_class, matrix = np.zeros(classes, np.int64), np.zeros((classes, classes), np.int64)
        return cls(0, 0, by_class, by_class, np.zeros(classes), 0.0, 0.0, matrix, matrix)

    @classmethod
    def of(cls, strip: CandidateStrip, mask: NDArray[np.uint8], kept: NDArray[np.bool_], classes: int) -> LabelCounts:
        """Counts of a strip; `kept` (rows, columns) is True where a candidate passes threshold and area."""
        label = strip.candidate[kept]
        distance = None if strip.disagreement is None else strip.disagreement / STEPS
        truth = np.full_like(strip.candidate, IGNORE) if strip.truth is None else strip.truth
        truth = np.where(mask == HUMAN, np.uint8(IGNORE), truth)
        return cls(
            valid=int(strip.valid.sum()),
            human=int((mask == HUMAN).sum()),
            candidates=np.bincount(strip.candidate[strip.candidate != IGNORE], minlength=classes),
            kept=np.bincount(label, minlength=classes),
            confidence=np.bincount(label, strip.confidence[kept], classes).astype(np.float64),
            disagreement=float("nan") if distance is None else float(distance[strip.valid].sum()),
            kept_disagreement=float("nan") if distance is None else float(distance[kept].sum()),
            before=confusion(truth, strip.candidate, classes),
            after=confusion(truth, np.where(kept, strip.candidate, np.uint8(IGNORE)), classes),
        )

    def plus(self, other: LabelCounts) -> LabelCounts:
        """The sum of these counts and `other`."""
        return LabelCounts(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Figures of one class. Shares are in [0, 1], None if the denominator is 0."""

    threshold: float
    """Least confidence of a candidate of the class that is kept."""
    candidates: int
    """Number of candidates of the class."""
    pixels: int
    """Number of pseudo-labels of the class."""
    coverage: float | None
    """Share of the candidates that become pseudo-labels."""
    mean_confidence: float | None
    """Mean confidence of the pseudo-labels."""
    measured: int
    """Number of pseudo-labels whose truth is known."""
    precision: float | None
    """Share of correct pseudo-labels among those whose truth is known."""
    precision_before: float | None
    """Share of correct candidates among those whose truth is known."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """Figures of one scene, or of all scenes together. Shares are in [0, 1], None if the denominator is 0."""

    pixels: int
    """Number of valid pixels."""
    labelled: int
    """Number of pseudo-labels."""
    human: int
    """Number of pixels with a label by hand."""
    coverage: float | None
    """Share of the valid pixels that get a pseudo-label."""
    mean_confidence: float | None
    """Mean confidence of the pseudo-labels."""
    disagreement: float | None
    """Mean distance of the students over valid pixels."""
    disagreement_labelled: float | None
    """Mean distance of the students over pseudo-labels."""
    measured: int
    """Number of pseudo-labels whose truth is known."""
    precision: float | None
    """Share of correct pseudo-labels among those whose truth is known."""
    precision_before: float | None
    """Share of correct candidates among those whose truth is known."""
    classes: dict[str, ClassSummary]
    """Figures by class name."""

    @classmethod
    def of(cls, counts: LabelCounts, names: tuple[str, ...], thresholds: NDArray[np.float64]) -> LabelSummary:
        """The figures that follow from `counts`, for classes with these names and thresholds (classes,)."""
        kept = int(counts.kept.sum())
        correct, correct_before = np.diag(counts.after), np.diag(counts.before)
        return cls(
            pixels=counts.valid,
            labelled=kept,
            human=counts.human,
            coverage=_share(kept, counts.valid),
            mean_confidence=_share(counts.confidence.sum(), kept),
            disagreement=_share(counts.disagreement, counts.valid),
            disagreement_labelled=_share(counts.kept_disagreement, kept),
            measured=int(counts.after.sum()),
            precision=_share(correct.sum(), counts.after.sum()),
            precision_before=_share(correct_before.sum(), counts.before.sum()),
            classes={
                name: ClassSummary(
                    threshold=float(thresholds[class_id]),
                    candidates=int(counts.candidates[class_id]),
                    pixels=int(counts.kept[class_id]),
                    coverage=_share(counts.kept[class_id], counts.candidates[class_id]),
                    mean_confidence=_share(counts.confidence[class_id], counts.kept[class_id]),
                    measured=int(counts.after[:, class_id].sum()),
                    precision=_share(correct[class_id], counts.after[:, class_id].sum()),
                    precision_before=_share(correct_before[class_id], counts.before[:, class_id].sum()),
                )
                for class_id, name in enumerate(names)
            },
        )


def _share(part: float, whole: float) -> float | None:
    """`part` / `whole`; None if `whole` is 0 or `part` is NaN."""
    return float(part / whole) if whole and part == part else None  # noqa: PLR0124 - NaN: a single student has no disagreement


LevelCounts = NDArray[np.int64]
"""(classes, GRID + 1) number of candidates by class and by confidence in steps of 1/GRID."""


def no_levels(classes: int) -> LevelCounts:
    """Counts of no candidate: all zeros."""
    return np.zeros((classes, GRID + 1), np.int64)


def add_levels(levels: LevelCounts, labels: NDArray[np.uint8], confidence: NDArray[np.float32]) -> None:
    """Count candidates `labels` (rows, columns) and their confidences, NaN where not valid, into `levels` in place."""
    has_candidate = (labels != IGNORE) & ~np.isnan(confidence)
    class_ids, steps = labels[has_candidate], np.rint(confidence[has_candidate] * GRID).astype(np.int64)
    for class_id in np.unique(class_ids):
        levels[class_id] += np.bincount(steps[class_ids == class_id], minlength=GRID + 1)


def balanced_thresholds(levels: LevelCounts, share: float) -> NDArray[np.float64]:
    """(classes,) highest threshold that keeps at least `share` of the candidates of a class; 1 for a class without.

    More than `share` is kept only if several candidates have the same confidence up to 1/GRID.
    """
    wanted = np.ceil(levels.sum(axis=1) * share)
    reached = np.cumsum(levels[:, ::-1], axis=1) >= np.maximum(wanted, 1)[:, None]
    return np.where(reached.any(axis=1), (GRID - reached.argmax(axis=1)) / GRID, 1.0)
