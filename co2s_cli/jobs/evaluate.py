"""Accuracy of a map, or of a model on labelled areas, by true labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.data import DataConfig, read_data
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.data.protocol import data_of
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.labels.labels import ClassOfValue
from co2s_cli.geo.labels.truth import Truth, open_truth, truth_legend
from co2s_cli.geo.legend import STEPS, Legend
from co2s_cli.geo.polygons.class_raster import ClassRaster, byte_reader, confidence_scale
from co2s_cli.geo.read.bands import find_bands
from co2s_cli.geo.read.features import is_vector
from co2s_cli.jobs.paths import check_report
from co2s_cli.progress import SILENT, Progress
from co2s_cli.scoring import report, streamed
from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.counts import CountRules, MapCounts
from co2s_cli.scoring.naming import Naming
from co2s_cli.scoring.protocol import MASKING
from co2s_cli.scoring.verdict import Judge, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """Accuracy of a map or a model."""

    source: str
    """The map, or the model file."""
    truth: str
    verdict: Verdict
    remarks: tuple[str, ...]
    """How classes and grids of map and truth were matched, one sentence each."""
    out: Path | None
    """Folder of the report."""
    students: dict[str, float] = field(default_factory=dict)
    """Mean IoU of each of a model's students alone."""

    def facts(self) -> dict[str, Any]:
        """What was evaluated, for the head of a report."""
        students = {"students": self.students} if self.students else {}
        return {"map": self.source, "truth": self.truth, "remarks": list(self.remarks), **students}


def run(settings: EvaluateConfig, progress: Progress = SILENT) -> EvaluateResult:
    """Count the confusion matrix, compute accuracies and, with --out, write a report.

    Raises:
        Co2sError: what is wrong with the settings, the map, the truth or the folder.
    """
    check_report(settings)
    if settings.out is not None:
        report.check_folder(settings.out, overwrite=settings.overwrite)
    with environment():
        result = _of_model(settings, progress) if settings.model is not None else _of_map(settings, progress)
    progress.close()
    if settings.out is not None:
        report.write(settings.out, result.verdict, result.facts())
    return result


def _of_map(settings: EvaluateConfig, progress: Progress) -> EvaluateResult:
    path = _truth_path(settings)
    raster = ClassRaster.open(settings.source)
    listed = None if settings.classes is None else read_data(settings.classes)
    values = settings.values or ({} if listed is None else _listed_values(listed, settings.attribute, path))
    naming = _naming(None if listed is None else listed.class_map, values, raster.legend, path)
    excluded = naming.ids(settings.left_out)
    scale = None if settings.confidence is None else confidence_scale(settings.confidence, raster.grid)
    truth = open_truth(path, raster.grid, naming.truth, attribute=settings.attribute, values=values)
    remarks = _logged(*naming.remarks(), *truth.remarks)
    counts = _counted(settings, raster, truth, naming, rules=_rules(settings, excluded), progress=progress)
    _check_not_empty(counts, str(path), settings)
    judge = _judge(settings, naming.names_of(counts, raster.source), excluded)
    curve = None if scale is None else _curve(counts, scale, settings)
    verdict = judge.verdict(counts, settings.tolerance, curve)
    return EvaluateResult(settings.source, str(path), verdict, remarks, settings.out)


def _truth_path(settings: EvaluateConfig) -> Path:
    if settings.truth is None:
        raise ValueError("settings without a model have a truth")
    return settings.truth


def _listed_values(listed: DataConfig, attribute: str, path: Path) -> ClassOfValue:
    """The meaning that the data.yaml of --classes gives the values of the truth, if it names that file."""
    same_file = (entry for entry in listed.labeled if entry.labels.resolve() == path.resolve())
    return next((entry.values for entry in same_file if not is_vector(path) or entry.attribute == attribute), {})


def _naming(listed: ClassMap | None, values: ClassOfValue, legend: Legend, path: Path) -> Naming:
    """How classes of map and truth match: by the `listed` names of --classes, else by the names in both files.

    Raises:
        InputError: the truth has no names, and those of the map are values of other ids, so that ids cannot match.
    """
    map_classes = _class_map(legend)
    truth_classes = truth_legend(path)
    if listed is not None or values:
        return Naming.of(map_classes, listed)
    if map_classes is not None and truth_classes is not None and not truth_classes.named_count:
        _refuse_shifted(map_classes, path)
    return Naming.of(map_classes, None if truth_classes is None else _class_map(truth_classes))


def _refuse_shifted(map_classes: ClassMap, path: Path) -> None:
    """Refuse a truth without names for a map whose classes are named by values that are not their ids."""
    value_by_name = {name: name.removeprefix("class ") for name in map_classes.names if name.startswith("class ")}
    shifted = [name for name, value in value_by_name.items() if value != str(map_classes.id_of(name))]
    if shifted:
        meanings = ",".join(f"{value}={name}" for name, value in value_by_name.items())
        raise InputError(
            f"{path}: its values have no names, and on the map {shifted[0]} has the id {map_classes.id_of(shifted[0])}",
            hint=f"--values '{meanings}', with 0=none if 0 is no class; or --classes with the data.yaml of the labels",
        )


def _class_map(legend: Legend) -> ClassMap | None:
    return legend.class_map(range(legend.named_count)) if legend.named_count else None


def _counted(
    settings: EvaluateConfig,
    raster: ClassRaster,
    truth: Truth,
    naming: Naming,
    *,
    rules: CountRules,
    progress: Progress,
) -> MapCounts:
    with ExitStack() as stack:
        labels = stack.enter_context(truth.labels.reader())
        confidence = None if settings.confidence is None else stack.enter_context(byte_reader(settings.confidence))
        pair = streamed.MapAndTruth(
            truth=streamed.Recoded(labels, streamed.recoding(naming.truth_ids)),
            predicted=stack.enter_context(raster.reader()),
            confidence=confidence,
            shape=raster.grid.shape,
        )
        return streamed.counts(pair, truth.window, rules, progress)


def _of_model(settings: EvaluateConfig, progress: Progress) -> EvaluateResult:
    from co2s_cli.data.areas import areas_of  # these import torch, which evaluating a map does not need
    from co2s_cli.data.sources import with_bands
    from co2s_cli.scoring.area_map import mapper_for
    from co2s_cli.scoring.model import count_model

    model, data = _model_path(settings), _data_of(settings)
    mapper = mapper_for(settings, model)
    manifest = mapper.model.manifest
    naming = Naming.of(manifest.class_map, data.class_map)
    excluded = naming.ids(settings.left_out)
    training = manifest.training
    if training.get("all_labels"):
        log.warning(
            "%s: was finally trained on all labels of its run, so figures on them are too high; best.safetensors "
            "of that run has not seen the validation labels",
            settings.model,
        )
    data = with_bands(data, manifest.bands)
    labelled_areas = areas_of(
        data,
        "labeled" if settings.split == "labeled" else "val",
        crop=training.get("crop", manifest.tile),
        seed=training.get("seed", 0),
        ratio=training.get("labeled_ratio"),
    )
    bands = data.band_names
    if find_bands(bands, manifest.bands) != tuple(range(1, len(bands) + 1)):
        raise InputError(
            f"{settings.source}: bands are {', '.join(bands)}, the model's {', '.join(manifest.bands)}",
            hint="name the model's bands, in its order, with bands:",
        )
    remarks = _logged(*naming.remarks()) + _unlike_training(labelled_areas.digest, training)
    recoding, rules = streamed.recoding(naming.truth_ids), _rules(settings, excluded)
    counts = count_model(mapper, labelled_areas.areas, recoding, rules, progress)
    _check_not_empty(counts.tally, f"{settings.source} ({settings.split})", settings)
    judge = _judge(settings, dict(enumerate(naming.classes.names)), excluded)
    curve = _curve(counts.tally, 1 / STEPS, settings) if counts.tally.levels.any() else None
    verdict = judge.verdict(counts.tally, settings.tolerance, curve)
    students = {name: judge.miou(matrix) for name, matrix in counts.students.items()}
    truth = f"{settings.source} ({settings.split}, {len(labelled_areas.areas)} areas)"
    return EvaluateResult(str(model), truth, verdict, remarks, settings.out, students)


def _model_path(settings: EvaluateConfig) -> Path:
    if settings.model is None:
        raise ValueError("settings without a map have a model")
    return settings.model


def _data_of(settings: EvaluateConfig) -> DataConfig:
    """The data set whose labels are the truth."""
    if settings.published is None or settings.root is None:
        return read_data(Path(settings.source))
    judged: Literal["val", "test"] = "test" if settings.split == "test" else "val"
    return data_of(settings.published, settings.root, settings.splits, judged=judged)


def _unlike_training(digest: str | None, training: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning if the areas are a random share of the labels, drawn otherwise than in the model's training."""
    if digest is None or digest == training.get("areas"):
        return ()
    remark = "the areas are a random share of the labels, not that of this model's training: it may have seen them"
    log.warning("%s", remark)
    return (remark,)


def _judge(settings: EvaluateConfig, names: Mapping[int, str], excluded: tuple[int, ...]) -> Judge:
    return Judge(settings.protocol, names, excluded, settings.missing == "wrong")


def _rules(settings: EvaluateConfig, excluded: tuple[int, ...]) -> CountRules:
    left_out = excluded if settings.protocol in MASKING else ()
    return CountRules(left_out, settings.missing == "wrong", settings.tolerance)


def _logged(*remarks: str) -> tuple[str, ...]:
    """Log the remarks and return them."""
    for remark in remarks:
        log.info("%s", remark)
    return remarks


def _check_not_empty(counts: MapCounts, truth: str, settings: EvaluateConfig) -> None:
    """Refuse a truth without a labelled pixel on the map, and a map without a class on any labelled pixel."""
    labelled = int(counts.matrix.sum() + counts.missing.sum())
    if not labelled:
        raise InputError(f"{truth}: nothing is labelled on {settings.source}, all of it is {IGNORE} or nodata there")
    if not counts.matrix.any() and settings.missing == "skip":
        raise InputError(
            f"{settings.source}: has no class on any of the {labelled} pixels that {truth} labels",
            hint="--missing wrong counts these pixels as wrong",
        )


def _curve(counts: MapCounts, scale: float, settings: EvaluateConfig) -> Reliability:
    """The reliability curve; `scale` makes confidences of stored values.

    Raises:
        InputError: there is no confidence on any counted pixel, or one above 1.
    """
    if not counts.levels.any():
        raise InputError(f"{settings.confidence}: has no value on any pixel that is labelled and has a class")
    highest = int(np.flatnonzero(counts.levels[0]).max(initial=0)) * scale
    if highest > 1 + 1e-6:
        raise InputError(
            f"{settings.confidence}: holds confidences up to {highest:g}, wanted are 0 to 1",
            hint=f"set the scale of the stored values: gdal_edit.py -scale {1 / STEPS:.6f} (files of predict have it)",
        )
    return Reliability.of(counts.levels, scale, settings.bins)
