"""The report of a run, its curves and its confusion matrix, from the records and the validations."""

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
from co2s_cli.scoring.validation import FUSED, ValidationCounts
from co2s_cli.training.model_files import BestFile
from co2s_cli.training.names import EMA
from co2s_cli.training.records import about_labels, findings, read


def write(
    folder: Path,
    tally: ValidationCounts | None,
    names: Sequence[str],
    facts: Mapping[str, Any],
    *,
    mean: ValidationCounts | None = None,
    guided: bool = False,
) -> dict[str, Any]:
    """Write the report into a run folder and give what report.json says. Without a validation there are no scores.

    `tally` is the last validation and `mean` that of the running mean of the weights, where the run keeps one; those of
    the best models are read from the folder. `guided`: neither students nor mean gave the pseudo-labels, of which then
    nothing is known.
    """
    content: dict[str, Any] = dict(facts)
    best = {prefix: counts_in(folder, prefix) for prefix in ("", EMA)}
    if best[""] is not None:
        content["best_validation"] = _all_scores(best, names)
    if tally is not None:
        content["validation"] = _all_scores({"": tally, EMA: mean}, names)
        told = findings(tally, mean, guided=guided)
        content["pseudo_labels"] = {key: value for key, value in told.items() if about_labels(key)}
    shown = best[""] or tally
    if shown is not None:
        content["confusion"] = shown.confusions[FUSED].tolist()
        title = f"{FUSED}, {'best' if best[''] else 'last'} step, % of the true class"
        draw_confusion(folder / "confusion.png", shown.confusions[FUSED], names, title=title)
    write_text(folder / "report.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "report.md", _markdown(content, names))
    _curves(folder)
    return content


def counts_in(folder: Path, prefix: str = "") -> ValidationCounts | None:
    """What was counted when the best model of a run was validated; None where the run has none."""
    path = folder / BestFile(prefix, FUSED).counts_name
    if not path.exists():
        return None
    try:
        return ValidationCounts.of(json.loads(read_text(path)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        hint = "put it back as the run wrote it, or remove it: it only serves the report"
        raise InputError(f"{path}: is damaged ({one_line(error)})", hint=hint) from error


def _all_scores(tallies: Mapping[str, ValidationCounts | None], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Scores of each student and of all together, by name; tallies by the prefix of their names."""
    return {
        prefix + name: _scores(tally.confusions[name], names)
        for prefix, tally in tallies.items()
        if tally is not None
        for name in tally.told
    }


def _scores(matrix: Any, names: Sequence[str]) -> dict[str, Any]:
    """Figures of a confusion matrix; a class without validation labels has none and does not count in the mean."""
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
    told = [(title, found) for title, found in tables if found]
    for title, found in told:
        lines += ["", f"## {title}", "", *_table(found, names, content.get("labeled_pixels", {}))]
    if not told:
        return "\n".join([*lines, "", "Not validated in this call.", ""])
    return "\n".join([*lines, "", "![curves](curves.png)", "", "![confusion](confusion.png)", ""])


def _table(found: Mapping[str, Any], names: Sequence[str], labeled: Mapping[str, int]) -> list[str]:
    """IoU of each class by each student, and its pixels that train and that validate."""
    head = ["IoU %", *found, "labelled pixels", "validated pixels"]
    first = next(iter(found.values()))
    rows = [["mean", *(_percent(part["miou"]) for part in found.values()), "", f"{first['pixels']:,}"]]
    for name in names:
        figures = [_percent(part["iou"][name]) for part in found.values()]
        rows.append([name, *figures, f"{labeled.get(name, 0):,}", f"{first['class_pixels'][name]:,}"])
    return [md_row(head), "|---|" + "---:|" * (len(head) - 1), *map(md_row, rows)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


_STYLES = ("-", "--", ":", "-.")


def _curves(folder: Path) -> None:
    losses, validations = read(folder)
    made, axes = figure(3, 15, 5)
    keys = [key for key in (losses[-1] if losses else {}) if key not in ("step", "lr")]
    _draw_lines(axes[0], losses, keys, "loss", marker="")
    told = sorted({key for line in validations for key in line})
    _draw_lines(axes[1], validations, [key for key in told if key.endswith("miou")], "validation mIoU")
    # one student alone learns from no other
    about = [key for key in told if about_labels(key) and key != f"{SINGLE}/taught"]
    _draw_lines(axes[2], validations, about, "pseudo-labels on validation")
    for axis in axes[1:]:
        axis.set_ylim(-0.02, 1.02)
    draw(made, folder / "curves.png")


def _draw_lines(axis: Any, lines: Sequence[Mapping[str, float]], keys: Sequence[str], title: str, **looks: Any) -> None:
    """A line for each key: the colour tells what is drawn, the dashes whose it is; of one thing alone, both tell whose.

    No two lines look the same as long as they are of up to four students and ten things, or of one and forty.
    """
    split = {key: key.partition("/") if "/" in key else ("", "", key) for key in keys}
    owners = list(dict.fromkeys(owner for owner, _, _ in split.values() if owner))
    things = list(dict.fromkeys(thing for _, _, thing in split.values()))
    for key, (owner, _, thing) in split.items():
        rank = owners.index(owner) if owner else 0
        colour = things.index(thing) if len(things) > 1 else rank
        known = [line for line in lines if key in line]
        axis.plot(
            [line["step"] for line in known],
            [line[key] for line in known],
            color=f"C{colour % 10}",
            linestyle=_STYLES[(rank + colour // 10) % len(_STYLES)],
            label=key,
            **{"marker": ".", "linewidth": 1.2, **looks},
        )
    axis.set_title(title)
    axis.set_xlabel("step")
    if keys:
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
