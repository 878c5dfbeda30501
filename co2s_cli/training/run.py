"""One training run of `train` or `distill`: check settings, data and weights, run the engine, write the report."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from co2s_cli import __version__
from co2s_cli.config.data import DataConfig, read_data
from co2s_cli.config.protocol import find_protocol
from co2s_cli.config.run import RunConfig
from co2s_cli.data import protocol
from co2s_cli.data.augment import BASE, Symmetry
from co2s_cli.data.dataset import Dataset, assemble
from co2s_cli.data.samples import View
from co2s_cli.errors import ConfigError, InputError, InterruptError
from co2s_cli.files import atomic_file, check_writable, clear_leftovers
from co2s_cli.inference.model import pick_precision
from co2s_cli.locks import only_writer
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.scoring.validation import FUSED, lagging
from co2s_cli.training import report
from co2s_cli.training.engine import TrainingEngine
from co2s_cli.training.names import BEST, CONFIG, EMA, FINAL, LAST, RUN_FILES, STATE, check_new, result_files_in
from co2s_cli.training.records import duration
from co2s_cli.training.runtime import Runtime, device_name, started
from co2s_cli.training.setup import TrainingSetup, check_rules, engine_for, epoch_steps_of
from co2s_cli.training.state import State

log = logging.getLogger(__name__)

DEFAULT_STEPS = 4000

MIN_VISIT_STEPS, MAX_VISIT_STEPS = 100, 1000
"""Least and largest number of steps of a run whose length is set by `visits`."""

SHORT_RUN = 50
"""Number of steps below which a run is over too soon to measure how long it will take."""

TRAINING_SHARE = 0.85
"""Share of `minutes` that the training steps may take; the rest is for validations, files and the report."""

MAX_SHRINK_FACTOR = 4.0
"""Largest mean factor by which `scale_rule` fitted may shrink an image; it halves the largest of the papers' images."""

Prepare = Callable[[Dataset, Manifest | None, Runtime], TrainingSetup]
"""Data, manifest of the run to resume (None for a new run), runtime of this process → model, method, pseudo-labels."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """Files and scores of a run when the command ends."""

    out: Path
    """The run folder."""
    model: Path
    """The model file to use: `final`, else `best`, else `last`."""
    last: Path
    """The model file with the weights of the last step."""
    final: Path | None
    """The model file trained with all labels, those held back for validation included; None without `refit`, or before
    the run's last step."""
    best: Path | None
    """The model file with the highest validation mIoU of the fused map; None before the first validation."""
    best_students: dict[str, Path]
    """By student: the model file with its own highest validation mIoU, where the run keeps such files."""
    step: int
    """Number of steps done."""
    steps: int
    """Number of steps of the whole run."""
    best_miou: float | None
    """mIoU of `best`."""
    miou: dict[str, float]
    """mIoU at the last validation, by student or "fused"; with the prefix "ema-" that of the running mean."""


def run_training(
    settings: RunConfig, prepare: Prepare, *, command: str, progress: Progress, with_unlabeled: bool = True
) -> RunResult:
    """Train what `prepare` makes of settings and data, from the first check to the report.

    Raises:
        ConfigError, InputError, ModelError: data or weights that do not fit; all of it before the first step.
        ConfigError: loss or weights became NaN or infinite; the last whole state stays.
        InterruptError: Ctrl-C; the last whole state stays.
    """
    out = _folder(settings)
    with started(settings.device) as runtime, contextlib.ExitStack() as locks:
        begun: BegunRun | None = None
        with runtime.agreed():
            if runtime.leads:
                locks.enter_context(_only_writer(out))
                _check_folder(out, settings)
                begun = _read_begun_run(out, settings) if settings.resume else None
        begun = runtime.from_leader(begun)
        with runtime.agreed():
            data = data_of(settings, with_unlabeled=with_unlabeled)
            check_scale(settings, data)
            check_rules(settings, data)
            before = None if begun is None else begun.manifest_for(data, out)
            setup = prepare(data, before, runtime)
        refit = data.whole is not None
        build_engine = partial(
            engine_for, settings, data, setup, runtime,
            folder=out, refit=refit, progress=progress, processes=runtime.ranks if begun is None else begun.processes,
        )  # fmt: skip
        steps = length_of(settings, data, runtime, build_engine) * (1 + refit) if begun is None else begun.steps
        engine = build_engine(steps=steps)
        if settings.resume:
            engine.resume()
        until = steps if settings.stop_after is None else min(engine.step + settings.stop_after, steps)
        expected = engine.expected_seconds(until) if until - engine.step >= SHORT_RUN else None
        if not settings.resume:  # every check has passed: files of an earlier run may be removed
            _clear_folder(out, runtime)
            if runtime.leads:
                _write_config(
                    out,
                    settings,
                    data,
                    command=command,
                    steps=steps,
                    processes=runtime.ranks,
                    device=device_name(runtime.device),
                )
        if runtime.leads:
            _log_start(settings, data, setup.ensemble, runtime, steps=steps, expected=expected)
        _fit(engine, steps, until, out, command)
        result = _result(engine, out, steps, refit=refit)
        if runtime.leads:
            _log_end(result, engine)
            _report(out, settings, data, engine, result)
        runtime.wait()
    return result


@contextlib.contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """Lock the run folder against other runs, and remove the temporary files that killed runs left in it."""
    with only_writer(out):
        for name in RUN_FILES:
            clear_leftovers(out / name)
        yield


def check_scale(settings: RunConfig, data: Dataset) -> None:
    """Refuse the published scale rule where it would shrink whole scenes to the size of chips.

    Raises:
        ConfigError: names the image, and by how much it would shrink.
    """
    if settings.scale_rule != "fitted":
        return
    for source in (*data.labeled.sources, *(data.unlabeled.sources if data.unlabeled else ())):
        long, short = max(source.scene.original.shape), min(source.scene.original.shape)
        factor = max(long / BASE[0], short / BASE[1])
        if factor > MAX_SHRINK_FACTOR:
            raise ConfigError(
                f"{source.scene.source}: scale_rule fitted fits each image into {BASE[0]} × {BASE[1]} pixels, "
                f"this one of {long} × {short} would be shrunk {factor:.0f} times",
                hint="--set scale_rule=own trains at the scene's own resolution, or cut the scene into chips",
            )


def _folder(settings: RunConfig) -> Path:
    if settings.out is not None:
        return settings.out
    return Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{settings.method_name}"


def _check_folder(out: Path, settings: RunConfig) -> None:
    """Refuse a folder that holds another run, or with --resume one that holds no state of a run."""
    if settings.resume and not (out / STATE).is_file():
        stopped_early = (out / CONFIG).exists()  # the run ended before its first state was whole
        hint = "start it anew with --overwrite" if stopped_early else "start it without --resume"
        raise InputError(f"{out}: holds no state of a run to resume", hint=hint)
    if settings.resume:
        return
    if not settings.overwrite:
        check_new(out)


def _clear_folder(out: Path, runtime: Runtime) -> None:
    """Remove the files that an earlier run made in the folder; files that no run writes stay."""
    runtime.wait()  # every rank has checked its data and weights
    if runtime.leads:
        check_writable(out)
        for old in result_files_in(out):
            old.unlink()
    runtime.wait()


def data_of(settings: RunConfig, *, with_unlabeled: bool = True) -> Dataset:
    """Labelled, unlabelled and validation data of a run with these settings."""
    symmetry = Symmetry(flip_rows=settings.flips == "both", turn=settings.rotate)
    view = View(settings.crop, settings.scale, settings.scale_rule, symmetry)
    split = {"split_by": settings.split_by} if settings.split_by == "tile" else {}
    return assemble(
        _data_config(settings).model_copy(update=split),
        view=view,
        seed=settings.seed,
        ratio=settings.labeled_ratio,
        with_unlabeled=with_unlabeled,
        balance=settings.balance,
        headroom=settings.headroom,
        refit=settings.refit,
        name=settings.data,
    )


def _data_config(settings: RunConfig) -> DataConfig:
    if settings.root is None:
        return read_data(Path(settings.data))
    published = find_protocol(settings.data)
    resolution = {"ground_resolution": published.shown_resolution(settings.eval_resize)}
    return protocol.data_of(published, settings.root, settings.splits).model_copy(update=resolution)


def length_of(
    settings: RunConfig, data: Dataset, runtime: Runtime, build_engine: Callable[..., TrainingEngine] | None = None
) -> int:
    """Number of steps of a run; with `refit` of each of its halves.

    `build_engine(steps=…)` makes an engine that measures the time of a step, where the length is set by `minutes`.
    """
    if settings.epochs is not None:
        return settings.epochs * epoch_steps_of(settings, data, runtime.ranks)
    if settings.visits is not None:
        crops = settings.batch * settings.accumulate
        return min(max(MIN_VISIT_STEPS, -(-settings.visits * data.places // crops)), MAX_VISIT_STEPS)
    if settings.minutes is not None and build_engine is not None:
        seconds = runtime.mean(build_engine(steps=2).seconds_per_step())
        return max(1, int(settings.minutes * 60 * TRAINING_SHARE / seconds / (2 if data.whole else 1)))
    return settings.steps or DEFAULT_STEPS


@dataclass(frozen=True, slots=True)
class BegunRun:
    """Facts about the run to resume that are needed before its state is loaded."""

    manifest: str
    """The model's manifest as JSON."""
    steps: int
    """Number of steps of the whole run."""
    processes: int
    """Number of processes that the run began with: it decides how a batch is divided, however many there are now."""

    def manifest_for(self, data: Dataset, out: Path) -> Manifest:
        """The model's manifest.

        Raises:
            InputError: the run began with other data than `data`.
        """
        manifest = Manifest.model_validate_json(self.manifest)
        if manifest.training.get("data") != data.digest:
            raise InputError(f"{out}: the data has changed since this run began", hint="start a new run")
        return manifest


def _read_begun_run(out: Path, settings: RunConfig) -> BegunRun:
    """The run in a folder.

    Raises:
        OutputError: it has other settings, so that its batches would differ.
    """
    state = State.load(out, lazily=True)
    state.check_settings(out, settings.deciding())
    return BegunRun(state.manifest, int(state.settings["whole_run"]), int(state.settings["processes"]))


def _fit(engine: TrainingEngine, steps: int, until: int, out: Path, command: str) -> None:
    try:
        if engine.step < steps:
            engine.fit(until)
        elif engine.validation is None:  # the run may have been killed before it wrote its report
            engine.validate()
    except KeyboardInterrupt as error:
        resumable = (out / STATE).is_file()
        hint = (
            f"co2s {command} --resume --out {out}"
            if resumable
            else "no state was written yet: start anew with --overwrite"
        )
        raise InterruptError(f"interrupted in step {engine.step}", hint=hint) from error


def _log_start(
    settings: RunConfig, data: Dataset, model: Ensemble, runtime: Runtime, *, steps: int, expected: float | None
) -> None:
    """Log students, labels, method and number of steps, and the time that its steps are expected to take."""
    sizes = (
        f"{name} ({sum(value.numel() for value in student.parameters()) / 1e6:.2f} M parameters)"
        for name, student in model.students.items()
    )
    log.info("students: %s; %d bands: %s", ", ".join(sizes), len(data.bands), ", ".join(data.bands))
    if data.whole is None:  # else the pixels that train and that validate have been logged with the split
        pixels = ", ".join(f"{name} {count:,}" for name, count in zip(data.classes.names, data.counts, strict=True))
        log.info("labelled pixels that train: %s", pixels)
    refit = f", from step {steps // 2} on anew with all labels" if data.whole else ""
    precision = pick_precision(settings.precision, runtime.device)
    log.info(
        "%s on %s in %s: %d steps of %d crops of %d pixels%s%s",
        settings.method_name, runtime.device, precision, steps, settings.batch * settings.accumulate, settings.crop,
        refit, "" if expected is None else f"; its steps will take about {duration(expected)}",
    )  # fmt: skip


def _log_end(result: RunResult, engine: TrainingEngine) -> None:
    """Log what each model file holds, and a student that is far behind."""
    if remark := lagging(result.miou):
        log.warning("%s", remark)
    if result.best is not None:
        miou, step = engine.best["miou"], engine.best["step"]
        log.info("%s: best validation, mIoU %.3f at step %d", result.best.name, miou, step)
    if result.final is not None:
        log.info("%s: learnt from all labels, those that validated too; nothing validates it", result.final.name)


def _result(engine: TrainingEngine, out: Path, steps: int, *, refit: bool) -> RunResult:
    scores: dict[str, float] = {}
    for prefix, validation in (("", engine.validation), (EMA, engine.ema_validation)):
        figures = validation.facts() if validation else {}
        scores |= {prefix + name: figures[f"{name}/miou"] for name in (validation.score_names if validation else ())}
    best = out / BEST if engine.best else None
    final = out / FINAL if refit and engine.step == steps else None
    return RunResult(
        out=out,
        model=final or best or out / LAST,
        last=out / LAST,
        best=best,
        final=final,
        best_students={
            file.prefix + file.scored: out / file.name
            for file in engine.best_files
            if engine.best and file.scored != FUSED
        },
        step=engine.step,
        steps=steps,
        best_miou=engine.best.get("miou"),
        miou=scores,
    )


def _write_config(out: Path, settings: RunConfig, data: Dataset, **made_with: Any) -> None:
    """Write config.yaml: all settings, which --resume reads back, then versions, device and data of the run."""
    content = {
        **settings.model_dump(mode="json", exclude={"resume", "stop_after", "overwrite", "out"}),
        "made_with": {
            "co2s": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            **made_with,
            "data_digest": data.digest,
            "labeled_pixels": dict(zip(data.classes.names, data.counts, strict=True)),
        },
    }
    with atomic_file(out / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _report(out: Path, settings: RunConfig, data: Dataset, engine: TrainingEngine, result: RunResult) -> None:
    facts = {
        "method": settings.method_name,
        "preset": settings.preset,
        "seed": settings.seed,
        "step": result.step,
        "steps": result.steps,
        "validated_step": engine.validated or None,
        "best": {
            file.name: {what: engine.best[file.key(what)] for what in ("step", "miou")}
            for file in engine.best_files
            if file.key("step") in engine.best
        },
        "labeled_images": data.labeled_images,
        "labeled_pixels": dict(zip(data.classes.names, data.counts, strict=True)),
        "unlabeled_images": len(data.unlabeled.sources) if data.unlabeled else 0,
        "data_digest": data.digest,
    }
    names = data.classes.names
    report.write(out, engine.validation, names, facts, ema_validation=engine.ema_validation, guided=engine.guided)
