"""The sections of a page that show a training run: curves, scores and sample crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from co2s_cli.classes import ClassMap
from co2s_cli.pages.curves import Records, chart, lines_of, losses_by_term
from co2s_cli.pages.document import escaped, facts_list, table
from co2s_cli.pages.pictures import class_picture, photo
from co2s_cli.scoring.matrix import Confusion, Scores, labelled_classes
from co2s_cli.scoring.report import percent
from co2s_cli.scoring.samples import SampleView
from co2s_cli.scoring.validation import FUSED, ValidationCounts, lagging

_PSEUDO_LABEL_TERMS = ("coverage", "precision", "taught", "agreement")
"""Terms of a validation record that are about pseudo-labels."""


@dataclass(frozen=True, slots=True)
class RunContent:
    """All that a page shows of a run."""

    facts: Mapping[str, object]
    """Name and value of facts about the run, listed at the top."""
    classes: ClassMap
    labeled_pixels: Mapping[str, int]
    """Labelled training pixels by class name."""
    losses: Records
    validations: Records
    best: ValidationCounts | None
    """Validation of the best model; None before the first validation."""
    views: Sequence[SampleView]
    remark: str
    """Why there are no sample crops; empty if there are some."""


def run_sections(content: RunContent) -> list[str]:
    """The sections of the page as HTML."""
    parts = [facts_list(content.facts), "<h2>Curves</h2>", _curves(content)]
    if content.best is not None:
        parts += ["<h2>Classes, best model</h2>", _classes(content, content.best)]
        parts += ["<h2>Confusion, best model</h2>", _confusion(content.classes, content.best.confusions[FUSED])]
    parts += ["<h2>Sample crops, best model</h2>", _crops(content)]
    return parts


def _curves(content: RunContent) -> str:
    losses = losses_by_term(content.losses)
    terms = [key for key in (losses[-1] if losses else {}) if key != "step"]
    keys = sorted({key for line in content.validations for key in line})
    scores = [key for key in keys if key.endswith("miou")]
    pseudo_labels = [key for key in keys if key.endswith(_PSEUDO_LABEL_TERMS)]
    charts = [
        chart("Loss, mean over the students", lines_of(losses, terms), percent=False),
        chart("Mean IoU on validation", lines_of(content.validations, scores), percent=True),
        chart("Pseudo-labels on validation", lines_of(content.validations, pseudo_labels), percent=True),
    ]
    return f'<div class="curves">{"".join(charts)}</div>'


def _classes(content: RunContent, best: ValidationCounts) -> str:
    """IoU of each class by student, and the pixels that teach and validate it."""
    scored = {
        name: Scores.of(best.confusions[name], labelled_classes(best.confusions[name])) for name in best.score_names
    }
    truth = best.confusions[FUSED].sum(axis=1)
    rows = [["mean", *(percent(scores.miou) for scores in scored.values()), "", f"{int(truth.sum()):,}"]]
    for index, item in enumerate(content.classes.classes):
        figures = [percent(scores.iou[index] if truth[index] else None) for scores in scored.values()]
        swatch = f'<span class="swatch" style="background:rgb{item.color}"></span>{escaped(item.name)}'
        labelled = f"{content.labeled_pixels.get(item.name, 0):,}"
        rows.append([swatch, *figures, labelled, f"{int(truth[index]):,}"])
    head = ["class", *(f"IoU, {escaped(name)}" for name in scored), "labelled pixels", "validated pixels"]
    remark = lagging({name: scores.miou for name, scores in scored.items()})
    caption = "A class without validation pixels has no score (–) and is left out of the means."
    return table(head, rows, caption) + (f"<p>{escaped(remark)}.</p>" if remark else "")


def _confusion(classes: ClassMap, matrix: Confusion) -> str:
    """The confusion matrix as a table: pixels and their share of the true class, shaded by the share."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [
        [escaped(name), *(_cell(int(count), float(part)) for count, part in zip(counts, shares, strict=True))]
        for name, counts, shares in zip(classes.names, matrix, share, strict=True)
    ]
    return table(
        ["true class", *map(escaped, classes.names)], rows, "Pixels by true class (row) and predicted (column)."
    )


def _cell(count: int, share: float) -> str:
    return f'<td class="cell" style="--share:{share:.3f}">{count:,}<small>{100 * share:.0f} %</small></td>'


def _crops(content: RunContent) -> str:
    if not content.views:
        return f'<p class="soft">{escaped(content.remark)}</p>'
    return "".join(_crop(view, content.classes) for view in content.views)


def _crop(view: SampleView, classes: ClassMap) -> str:
    valid = np.ones(view.image.shape[:2], bool)
    pictures: dict[str, Any] = {"image": photo(view.image, valid), "labels": class_picture(view.labels, classes.colors)}
    pictures |= {name: class_picture(ids, classes.colors) for name, ids in view.predicted.items()}
    figures = "".join(
        f'<figure><img src="{uri}" alt="{escaped(name)}"><figcaption>{escaped(name)}</figcaption></figure>'
        for name, uri in pictures.items()
    )
    return f'<div class="crops">{figures}</div>'
