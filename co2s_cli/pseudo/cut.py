"""Pseudo-labels from candidates, as arrays: thresholds, labels, the mask of reasons, weights, and counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.geo.legend import STEPS
from co2s_cli.pseudo.candidates import GRID
from co2s_cli.scoring.matrix import Confusion, confusion

LABELS, MASK, WEIGHTS = "labels", "mask", "weights"
"""Names of the rasters that are written."""

REASONS = ClassMap.of(
    [
        {"name": "not sure", "color": [120, 120, 120]},
        {"name": "kept", "color": [60, 160, 75]},
        {"name": "students differ", "color": [200, 60, 60]},
        {"name": "too small", "color": [230, 170, 60]},
        {"name": "human label", "color": [60, 90, 200]},
    ]
)
"""Classes of the mask: 1 is a pseudo-label; 0, 2 and 3 say why there is none."""
UNSURE, KEPT, DIFFER, SMALL, HUMAN = range(5)


@dataclass(frozen=True, slots=True)
class CutRule:
    """Which candidates become labels, and of what weight."""

    thresholds: NDArray[np.float64]
    """(classes,) confidence from which on a candidate is kept."""
    weight: float | Literal["confidence"] = "confidence"
    """Weight of a pseudo-label in training: one for all, or its confidence."""
    min_area: int = 0
    """Pixels of the smallest region of one class that is kept."""


class CandidateStrip(NamedTuple):
    """Some rows of a scene, each array (rows, columns)."""

    candidate: NDArray[np.uint8]
    """Classes; `IGNORE` where the students differ or nothing is valid."""
    confidence: NDArray[np.float32]
    """NaN where nothing is valid."""
    disagreement: NDArray[np.uint8] | None = None
    """In `STEPS`-ths; None for a single student."""
    human: NDArray[np.uint8] | None = None
    """Labels by hand, which replace pseudo-labels."""
    truth: NDArray[np.uint8] | None = None
    """Labels to measure with."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """True where the model gave a value."""
        return ~np.isnan(self.confidence)

    def sure(self, thresholds: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The candidates that reach their class's threshold; `IGNORE` elsewhere."""
        needed = np.append(thresholds, np.inf)[np.minimum(self.candidate, len(thresholds))]
        return np.where(self.confidence >= needed, self.candidate, np.uint8(IGNORE))


def label_layers(
    strip: CandidateStrip, sure: NDArray[np.uint8], large: NDArray[np.bool_], cut: CutRule
) -> dict[str, NDArray[np.uint8]]:
    """The rows of each raster that is written, by name.

    Args:
        strip: the candidates.
        sure: those of them that reach their threshold; `IGNORE` elsewhere.
        large: True in regions that are large enough.
        cut: the weights.
    """
    kept = (sure != IGNORE) & large
    labels = np.where(kept, sure, np.uint8(IGNORE))
    mask = np.select(
        [~strip.valid, strip.candidate == IGNORE, sure == IGNORE, ~large], [IGNORE, DIFFER, UNSURE, SMALL], KEPT
    ).astype(np.uint8)
    share = strip.confidence if cut.weight == "confidence" else np.float32(cut.weight)
    weights = np.where(kept, np.rint(np.nan_to_num(share) * STEPS), IGNORE).astype(np.uint8)
    if strip.human is not None:
        on_top = strip.human != IGNORE
        labels[on_top], mask[on_top], weights[on_top] = strip.human[on_top], HUMAN, STEPS
    return {LABELS: labels, MASK: mask, WEIGHTS: weights}


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Counts of some pixels; those of strips and of scenes add up."""

    valid: int
    """Pixels of which the model said anything."""
    human: int
    """Pixels with a human label on top."""
    candidates: NDArray[np.int64]
    """(classes,) pixels that the rule gives a class, before any threshold."""
    kept: NDArray[np.int64]
    """(classes,) those of them that became pseudo-labels, be there a human label on top or not."""
    confidence: NDArray[np.float64]
    """(classes,) sum over the kept ones."""
    disagreement: float
    """Sum over valid pixels; NaN for a single student."""
    kept_disagreement: float
    """Sum over the kept ones."""
    before: Confusion
    """Candidates whose truth is known, by truth (row) and candidate (column); not where a human label is, from which
    the model may have learned."""
    after: Confusion
    """The same of the kept ones."""

    @classmethod
    def none(cls, classes: int) -> LabelCounts:
        """Nothing counted yet."""
        each, pairs = np.zeros(classes, np.int64), np.zeros((classes, classes), np.int64)
        return cls(0, 0, each, each, np.zeros(classes), 0.0, 0.0, pairs, pairs)

    @classmethod
    def of(cls, strip: CandidateStrip, mask: NDArray[np.uint8], kept: NDArray[np.bool_], classes: int) -> LabelCounts:
        """Count a strip; `kept` (rows, columns) says where the rule has kept the candidate."""
        label = strip.candidate[kept]
        apart = None if strip.disagreement is None else strip.disagreement / STEPS
        truth = np.full_like(strip.candidate, IGNORE) if strip.truth is None else strip.truth
        truth = np.where(mask == HUMAN, np.uint8(IGNORE), truth)
        return cls(
            valid=int(strip.valid.sum()),
            human=int((mask == HUMAN).sum()),
            candidates=np.bincount(strip.candidate[strip.candidate != IGNORE], minlength=classes),
            kept=np.bincount(label, minlength=classes),
            confidence=np.bincount(label, strip.confidence[kept], classes).astype(np.float64),
            disagreement=float("nan") if apart is None else float(apart[strip.valid].sum()),
            kept_disagreement=float("nan") if apart is None else float(apart[kept].sum()),
            before=confusion(truth, strip.candidate, classes),
            after=confusion(truth, np.where(kept, strip.candidate, np.uint8(IGNORE)), classes),
        )

    def plus(self, other: LabelCounts) -> LabelCounts:
        """Both together."""
        return LabelCounts(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Figures of one class; shares in [0, 1], None where there is nothing to divide by."""

    threshold: float
    candidates: int
    """Pixels that the rule gives the class."""
    pixels: int
    """Those of them that are pseudo-labels."""
    coverage: float | None
    """Their share."""
    mean_confidence: float | None
    measured: int
    """Pseudo-labels whose truth is known."""
    precision: float | None
    """Share of these that are right."""
    precision_before: float | None
    """The same of all candidates of the class."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """Figures of a scene, or of all scenes together."""

    pixels: int
    """Valid ones."""
    labelled: int
    """Pseudo-labels."""
    human: int
    """Pixels with a human label on top."""
    coverage: float | None
    """Pseudo-labels in all valid pixels."""
    mean_confidence: float | None
    disagreement: float | None
    """Mean distance of the students, over valid pixels."""
    disagreement_labelled: float | None
    """The same over pseudo-labels."""
    measured: int
    precision: float | None
    precision_before: float | None
    classes: dict[str, ClassSummary]

    @classmethod
    def of(cls, counts: LabelCounts, names: tuple[str, ...], thresholds: NDArray[np.float64]) -> LabelSummary:
        """The figures of some counts."""
        kept, right, before = int(counts.kept.sum()), np.diag(counts.after), np.diag(counts.before)
        return cls(
            pixels=counts.valid,
            labelled=kept,
            human=counts.human,
            coverage=_share(kept, counts.valid),
            mean_confidence=_share(counts.confidence.sum(), kept),
            disagreement=_share(counts.disagreement, counts.valid),
            disagreement_labelled=_share(counts.kept_disagreement, kept),
            measured=int(counts.after.sum()),
            precision=_share(right.sum(), counts.after.sum()),
            precision_before=_share(before.sum(), counts.before.sum()),
            classes={
                name: ClassSummary(
                    threshold=float(thresholds[place]),
                    candidates=int(counts.candidates[place]),
                    pixels=int(counts.kept[place]),
                    coverage=_share(counts.kept[place], counts.candidates[place]),
                    mean_confidence=_share(counts.confidence[place], counts.kept[place]),
                    measured=int(counts.after[:, place].sum()),
                    precision=_share(right[place], counts.after[:, place].sum()),
                    precision_before=_share(before[place], counts.before[:, place].sum()),
                )
                for place, name in enumerate(names)
            },
        )


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole and part == part else None  # noqa: PLR0124 - NaN is what no student can tell


LevelCounts = NDArray[np.int64]
"""(classes, GRID + 1): number of candidates by class and confidence, in steps of 1/GRID."""


def no_levels(classes: int) -> LevelCounts:
    """All zeros."""
    return np.zeros((classes, GRID + 1), np.int64)


def add_levels(levels: LevelCounts, labels: NDArray[np.uint8], confidence: NDArray[np.float32]) -> None:
    """Add candidates (rows, columns) and their confidences, which are NaN where nothing is valid."""
    known = (labels != IGNORE) & ~np.isnan(confidence)
    class_ids, steps = labels[known], np.rint(confidence[known] * GRID).astype(np.int64)
    for class_id in np.unique(class_ids):
        levels[class_id] += np.bincount(steps[class_ids == class_id], minlength=GRID + 1)


def balanced_thresholds(levels: LevelCounts, share: float) -> NDArray[np.float64]:
    """The highest threshold of each class (classes,) that keeps at least `share` of its candidates; 1 for none at all.

    More than the share is kept only where many are equally sure, to 1/GRID.
    """
    wanted = np.ceil(levels.sum(axis=1) * share)
    reached = np.cumsum(levels[:, ::-1], axis=1) >= np.maximum(wanted, 1)[:, None]
    return np.where(reached.any(axis=1), (GRID - reached.argmax(axis=1)) / GRID, 1.0)
