"""Content of the page of a training run, read from its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from co2s_cli.config import distill, train
from co2s_cli.config.base import read_yaml
from co2s_cli.config.run import RunConfig
from co2s_cli.errors import Co2sError, InputError, one_line
from co2s_cli.files import read_text
from co2s_cli.inference.model import DTYPES, pick_device, pick_precision
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest
from co2s_cli.pages.run_page import RunContent
from co2s_cli.scoring.report import percent
from co2s_cli.scoring.samples import SampleView, sample_areas, sample_views
from co2s_cli.training.names import BEST, LAST, TIMING
from co2s_cli.training.records import duration, lines_of, read
from co2s_cli.training.report import counts_in
from co2s_cli.training.run import data_of
from co2s_cli.training.setup import sliding_of

log = logging.getLogger(__name__)


def run_content(folder: Path) -> RunContent:
    """Facts, losses, validations and sample crops of a run.

    Raises:
        InputError: the folder holds no run, or the run has no model yet.
    """
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: holds no training run, config.yaml is missing")
    model = next((folder / name for name in (BEST, LAST) if (folder / name).is_file()), None)
    if model is None:
        raise InputError(f"{folder}: holds no model yet", hint="a run writes its first model at its first validation")
    config, manifest = read_yaml(folder / "config.yaml"), weights.read_manifest(model)
    losses, validations = read(folder)
    views, remark = _views(folder, config, model)
    return RunContent(
        facts=_facts(folder, config, manifest),
        classes=manifest.class_map,
        labeled_pixels=_made_with(config).get("labeled_pixels") or {},
        losses=losses,
        validations=validations,
        best=counts_in(folder),
        views=views,
        remark=remark,
    )


def _made_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section `made_with` of a config.yaml; empty if there is none."""
    section = config.get("made_with")
    return section if isinstance(section, dict) else {}


def _facts(folder: Path, config: Mapping[str, Any], manifest: Manifest) -> dict[str, object]:
    """Facts of a run for the head of its page, by their labels."""
    made_with, training = _made_with(config), manifest.training
    step, best = _reported(folder)
    lines = lines_of(folder / TIMING)
    facts = {
        "Command": f"co2s {made_with.get('command', 'train')}",
        "Method": training.get("method"),
        "Preset": training.get("preset"),
        "Steps": f"{training.get('steps') if step is None else step} of {made_with.get('steps', '?')}",
        "Best step": best,
        "Time": duration(_seconds(lines)) if lines else None,
        "Device": made_with.get("device"),
        "Processes": made_with.get("processes"),
        "Data": f"{config.get('data')} ({manifest.trained_on})",
        "Students": "; ".join(f"{name}: {student.title}" for name, student in manifest.students.items()),
        "Licence of the weights": manifest.licence or "not stated",
        "Made with": f"co2s {made_with.get('co2s', '?')}, torch {made_with.get('torch', '?')}",
    }
    return {name: value for name, value in facts.items() if value is not None}


def _seconds(lines: list[dict[str, float]]) -> float:
    """Training time of all calls together; the seconds in the lines start at 0 with every call."""
    seconds = [float(line["seconds"]) for line in lines if isinstance(line.get("seconds"), int | float)]
    ends = [now for now, after in zip(seconds, [*seconds[1:], 0.0], strict=True) if after < now]
    return sum(ends)


def _reported(folder: Path) -> tuple[int | None, str | None]:
    """The last step in report.json, and the best step with its mean IoU as text; None if the run ended before.

    Raises:
        InputError: report.json is damaged.
    """
    path = folder / "report.json"
    if not path.exists():
        return None, None
    try:
        content = json.loads(read_text(path))
        best = (content.get("best") or {}).get(BEST)
        best_text = None if best is None else f"{best['step']:.0f}, mean IoU {percent(best['miou'])}"
        return content.get("step"), best_text
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        hint = "co2s train --resume writes the report of a run again"
        raise InputError(f"{path}: is damaged ({one_line(error)})", hint=hint) from error


def _views(folder: Path, config: Mapping[str, Any], model: Path) -> tuple[list[SampleView], str]:
    """Sample crops mapped by the model, and a remark why there are none, such as data that was moved."""
    try:
        settings = _settings(folder, config)
        data = data_of(settings, with_unlabeled=False)
        sliding = sliding_of(settings)
        areas = sample_areas(data.val, settings.crop, whole=sliding.short_side is not None)
        device = pick_device("auto")
        dtype = DTYPES[pick_precision(settings.precision, device)]
        ensemble = weights.load(model, device)
        return sample_views(ensemble, areas, data.applied_scaling, sliding, device=device, dtype=dtype), ""
    except Co2sError as error:
        log.warning("no sample crops: %s", error.message)
        return [], f"None: the data of this run could not be read again ({error.message})."


def _settings(folder: Path, config: Mapping[str, Any]) -> RunConfig:
    """The settings of the run, as for resuming it."""
    resumed = distill.resumed if _made_with(config).get("command") == "distill" else train.resumed
    return resumed(folder, {"resume": True}, [])
