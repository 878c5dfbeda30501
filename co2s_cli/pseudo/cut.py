"""Candidates cut into pseudo-labels, as arrays: the labels, why a pixel has none, how much it counts; and counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from co2s_cli import metrics
from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.geo.write.raster import STEPS

LABELS, MASK, WEIGHTS = "labels", "mask", "weights"
"""What is written."""

REASONS = ClassMap.of(
    [
        {"name": "not sure", "color": [120, 120, 120]},
        {"name": "kept", "color": [60, 160, 75]},
        {"name": "students differ", "color": [200, 60, 60]},
        {"name": "too small", "color": [230, 170, 60]},
        {"name": "human label", "color": [60, 90, 200]},
    ]
)
"""What the mask says of a pixel: 1 is the rule's yes, 0, 2 and 3 are a no."""
UNSURE, KEPT, DIFFER, SMALL, HUMAN = range(5)


@dataclass(frozen=True, slots=True)
class Cut:
    """How candidates become labels."""

    thresholds: NDArray[np.float64]
    """(classes,) confidence from which on a candidate is kept."""
    weight: float | Literal["confidence"] = "confidence"
    """How much a pseudo-label counts."""
    min_area: int = 0
    """Pixels of the smallest region of one class that is kept."""


class Strip(NamedTuple):
    """Some rows of a scene, each array (rows, columns)."""

    candidate: NDArray[np.uint8]
    """Classes; `IGNORE` where the students differ or nothing is valid."""
    confidence: NDArray[np.float32]
    """NaN where nothing is valid."""
    disagreement: NDArray[np.uint8] | None = None
    """In `STEPS`-ths; None for a single student."""
    human: NDArray[np.uint8] | None = None
    """Labels that stay on top."""
    truth: NDArray[np.uint8] | None = None
    """Labels to measure with."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where the model said anything."""
        return ~np.isnan(self.confidence)

    def sure(self, thresholds: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The candidates that reach their class's threshold; `IGNORE` elsewhere."""
        needed = np.append(thresholds, np.inf)[np.minimum(self.candidate, len(thresholds))]
        return np.where(self.confidence >= needed, self.candidate, np.uint8(IGNORE))


def layers(strip: Strip, sure: NDArray[np.uint8], large: NDArray[np.bool_], cut: Cut) -> dict[str, NDArray[np.uint8]]:
    """What is written of a strip, by name. `sure`: what the thresholds have left; `large`: True in large regions."""
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
class Counts:
    """What was counted of some pixels; those of strips and of scenes add up."""

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
    before: metrics.Confusion
    """Candidates whose truth is known, by truth (row) and candidate (column); not where a human label is, from which
    the model may have learned."""
    after: metrics.Confusion
    """The same of the kept ones."""

    @classmethod
    def none(cls, classes: int) -> Counts:
        """Nothing counted yet."""
        each, pairs = np.zeros(classes, np.int64), np.zeros((classes, classes), np.int64)
        return cls(0, 0, each, each, np.zeros(classes), 0.0, 0.0, pairs, pairs)

    @classmethod
    def of(cls, strip: Strip, mask: NDArray[np.uint8], kept: NDArray[np.bool_], classes: int) -> Counts:
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
            before=metrics.confusion(truth, strip.candidate, classes),
            after=metrics.confusion(truth, np.where(kept, strip.candidate, np.uint8(IGNORE)), classes),
        )

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """What became of one class; shares in [0, 1], None where there is nothing to divide by."""

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
class Summary:
    """What became of a scene, or of all of them together."""

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
    def of(cls, counts: Counts, names: tuple[str, ...], thresholds: NDArray[np.float64]) -> Summary:
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
