"""The report of a run, with curves and confusion matrix, from its records and validations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co2s_cli.errors import InputError, one_line
from co2s_cli.files import read_text, write_text
from co2s_cli.models.manifest import SINGLE
from co2s_cli.scoring.matrix import Scores, labelled_classes
from co2s_cli.scoring.plots import draw, draw_confusion, figure
from co2s_cli.scoring.report import md_row
from co2s_cli.scoring.validation import FUSED, ValidationCounts, lagging
from co2s_cli.training.model_files import BestFile
from co2s_cli.training.names import EMA
from co2s_cli.training.records import about_labels, read, validation_figures


def write(
    folder: Path,
    validation: ValidationCounts | None,
    names: Sequence[str],
    facts: Mapping[str, Any],
    *,
    ema_validation: ValidationCounts | None = None,
    guided: bool = False,
) -> dict[str, Any]:
    """Write the report into a run folder; returns the content of report.json. Without a validation there are no scores.

    `validation` is the last one and `ema_validation` that of the running mean of the weights, where the run keeps one;
    those of the best models are read from the folder. `names` are the classes. `guided`: a frozen model made the
    pseudo-labels, so that validation has no figures about them.
    """
    content: dict[str, Any] = dict(facts)
    best = {prefix: counts_in(folder, prefix) for prefix in ("", EMA)}
    if best[""] is not None:
        content["best_validation"] = _all_scores(best, names)
    if validation is not None:
        content["validation"] = _all_scores({"": validation, EMA: ema_validation}, names)
        figures = validation_figures(validation, ema_validation, guided=guided)
        content["pseudo_labels"] = {key: value for key, value in figures.items() if about_labels(key)}
    drawn = best[""] or validation
    if drawn is not None:
        content["confusion"] = drawn.confusions[FUSED].tolist()
        title = f"{FUSED}, {'best' if best[''] else 'last'} step, % of the true class"
        draw_confusion(folder / "confusion.png", drawn.confusions[FUSED], names, title=title)
    write_text(folder / "report.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "report.md", _markdown(content, names))
    _curves(folder)
    return content


def counts_in(folder: Path, prefix: str = "") -> ValidationCounts | None:
    """The validation counts of the best model of a run; None where the run has no best model.

    Raises:
        InputError: their file is damaged.
    """
    path = folder / BestFile(prefix, FUSED).counts_name
    if not path.exists():
        return None
    try:
        return ValidationCounts.of(json.loads(read_text(path)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        hint = "put it back as the run wrote it, or remove it: it only serves the report"
        raise InputError(f"{path}: is damaged ({one_line(error)})", hint=hint) from error


def _all_scores(validations: Mapping[str, ValidationCounts | None], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Scores of each student and of the fused map, by name; `validations` by the prefix of these names."""
    return {
        prefix + name: _scores(validation.confusions[name], names)
        for prefix, validation in validations.items()
        if validation is not None
        for name in validation.score_names
    }


def _scores(matrix: Any, names: Sequence[str]) -> dict[str, Any]:
    """Scores of a confusion matrix; a class without validation labels has None and does not count in the mean."""
    scored = labelled_classes(matrix)
    scores = Scores.of(matrix, over=scored)
    return {
        "miou": scores.miou,
        "accuracy": scores.accuracy,
        "kappa": scores.kappa,
        "pixels": scores.pixels,
        "class_pixels": {name: int(matrix[index].sum()) for index, name in enumerate(names)},
        "iou": {name: scores.iou[index] if index in scored else None for index, name in enumerate(names)},
        "f1": {name: scores.f1[index] if index in scored else None for index, name in enumerate(names)},
    }


def _markdown(content: Mapping[str, Any], names: Sequence[str]) -> str:
    lines = ["# Training run", ""]
    lines += [
        f"- {key.replace('_', ' ')}: {value}" for key, value in content.items() if not isinstance(value, dict | list)
    ]
    best = content.get("best")
    if best:
        lines += ["", "| best model | step | mean IoU % |", "|---|---|---|"]
        lines += [f"| {name} | {kept['step']:.0f} | {_percent(kept['miou'])} |" for name, kept in best.items()]
    tables = [("Best model", content.get("best_validation")), ("Last validation", content.get("validation"))]
    filled = [(title, scores) for title, scores in tables if scores]
    for title, scores in filled:
        lines += ["", f"## {title}", "", *_table(scores, names, content.get("labeled_pixels", {}))]
        remark = lagging({name: column["miou"] for name, column in scores.items()})
        lines += ["", f"{remark}."] if remark else []
    if not filled:
        return "\n".join([*lines, "", "Not validated in this call.", ""])
    return "\n".join([*lines, "", "![curves](curves.png)", "", "![confusion](confusion.png)", ""])


def _table(scores: Mapping[str, Any], names: Sequence[str], labeled: Mapping[str, int]) -> list[str]:
    """A Markdown table: IoU of each class (row) by each student (column), and its training and validation pixels."""
    head = ["IoU %", *scores, "labelled pixels", "validated pixels"]
    first = next(iter(scores.values()))
    rows = [["mean", *(_percent(column["miou"]) for column in scores.values()), "", f"{first['pixels']:,}"]]
    for name in names:
        ious = [_percent(column["iou"][name]) for column in scores.values()]
        rows.append([name, *ious, f"{labeled.get(name, 0):,}", f"{first['class_pixels'][name]:,}"])
    return [md_row(head), "|---|" + "---:|" * (len(head) - 1), *map(md_row, rows)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


_STYLES = ("-", "--", ":", "-.")


def _curves(folder: Path) -> None:
    """Draw curves.png: losses, validation mIoU and figures about pseudo-labels against the step."""
    losses, validations = read(folder)
    image, axes = figure(3, 15, 5)
    keys = [key for key in (losses[-1] if losses else {}) if key not in ("step", "lr")]
    _draw_lines(axes[0], losses, keys, "loss", marker="")
    figure_names = sorted({key for line in validations for key in line})
    _draw_lines(axes[1], validations, [key for key in figure_names if key.endswith("miou")], "validation mIoU")
    # a single student has no peer to learn from
    about = [key for key in figure_names if about_labels(key) and key != f"{SINGLE}/taught"]
    _draw_lines(axes[2], validations, about, "pseudo-labels on validation")
    for axis in axes[1:]:
        axis.set_ylim(-0.02, 1.02)
    draw(image, folder / "curves.png")


def _draw_lines(
    axis: Any, records: Sequence[Mapping[str, float]], keys: Sequence[str], title: str, **options: Any
) -> None:
    """Plot the figure of each key, "student/figure" or "figure", against the step.

    The colour stands for the figure and the dashes for the student; if there is a single figure, both stand for the
    student. Lines can be told apart for up to four students with ten figures each, or one student with forty.
    """
    split = {key: key.partition("/") if "/" in key else ("", "", key) for key in keys}
    students = list(dict.fromkeys(student for student, _, _ in split.values() if student))
    quantities = list(dict.fromkeys(quantity for _, _, quantity in split.values()))
    for key, (student, _, quantity) in split.items():
        student_index = students.index(student) if student else 0
        colour = quantities.index(quantity) if len(quantities) > 1 else student_index
        with_key = [record for record in records if key in record]
        axis.plot(
            [record["step"] for record in with_key],
            [record[key] for record in with_key],
            color=f"C{colour % 10}",
            linestyle=_STYLES[(student_index + colour // 10) % len(_STYLES)],
            label=key,
            **{"marker": ".", "linewidth": 1.2, **options},
        )
    axis.set_title(title)
    axis.set_xlabel("step")
    if keys:
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
