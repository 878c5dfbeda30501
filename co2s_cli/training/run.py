"""One run from settings to report, of whichever command: check everything, then run the engine, then report."""

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
from co2s_cli.files import appearing, check_writable, clear_leftovers
from co2s_cli.inference.model import pick_precision
from co2s_cli.locks import only_writer
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.scoring.validation import FUSED
from co2s_cli.training import report
from co2s_cli.training.engine import TrainingEngine
from co2s_cli.training.names import BEST, CONFIG, EMA, FINAL, LAST, STATE, WRITTEN, check_new, made_in
from co2s_cli.training.runtime import Runtime, device_name, started
from co2s_cli.training.setup import Lesson, check_rules, engine_for, epoch_steps_of
from co2s_cli.training.state import State

log = logging.getLogger(__name__)

DEFAULT_STEPS = 4000

SHORTEST, LONGEST = 50, 1000
"""Steps of a run whose length is counted in visits."""

TRAINING_SHARE = 0.85
"""Part of the minutes of a run that its steps may take; the rest is for validations, files and the report."""

LARGEST_SHRINKING = 4.0
"""By how much the published scale rule may shrink an image in the mean; it halves the largest of the papers' images."""

Prepare = Callable[[Dataset, Manifest | None, Runtime], Lesson]
"""Data, the manifest of the run that is resumed, this process → who learns and how."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a call has done."""

    out: Path
    model: Path
    """The one to use: `final`, else `best`, else `last`."""
    last: Path
    final: Path | None
    """The one that learnt from all labels in the end, those that validated too; None where no such steps are wanted."""
    best: Path | None
    """The one with the best validation of all students together; None before the first validation."""
    best_students: dict[str, Path]
    """Of each student the file with its own best validation, where the run keeps them."""
    step: int
    """Steps done."""
    steps: int
    """Steps of the whole run."""
    best_miou: float | None
    miou: dict[str, float]
    """Of each student, of all together and of the running mean at the last validation of this call."""


def conduct(
    settings: RunConfig, prepare: Prepare, *, command: str, progress: Progress, with_unlabeled: bool = True
) -> RunResult:
    """Run as `settings` say what `prepare` makes of the data.

    Raises:
        ConfigError, InputError, ModelError: data or weights that do not fit; all of it before the first step.
        ConfigError: the loss or the weights are no numbers any more; the last whole state stays.
        InterruptError: Ctrl-C; the last whole state stays.
    """
    out = _folder(settings)
    with started(settings.device) as runtime, contextlib.ExitStack() as held:
        begun: BegunRun | None = None
        with runtime.agreed():
            if runtime.leads:
                held.enter_context(_only_writer(out))
                _check_folder(out, settings)
                begun = _begun(out, settings) if settings.resume else None
        begun = runtime.from_leader(begun)
        with runtime.agreed():
            data = data_of(settings, with_unlabeled=with_unlabeled)
            check_scale(settings, data)
            check_rules(settings, data)
            before = None if begun is None else begun.manifest_for(data, out)
            lesson = prepare(data, before, runtime)
        refit = data.whole is not None
        made = partial(
            engine_for, settings, data, lesson, runtime,
            folder=out, refit=refit, progress=progress, processes=runtime.ranks if begun is None else begun.processes,
        )  # fmt: skip
        steps = length_of(settings, data, runtime, made) * (1 + refit) if begun is None else begun.steps
        engine = made(steps=steps)
        if settings.resume:
            engine.resume()
        else:  # from here on nothing is refused any more, and what an earlier run left may go
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
            _tell_start(settings, data, lesson.pair, runtime, steps=steps)
        _fit(engine, settings, steps, out, command)
        result = _result(engine, out, steps, refit=refit)
        if runtime.leads:
            _tell_end(result, engine)
            _report(out, settings, data, engine, result)
        runtime.wait()
    return result


@contextlib.contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """No other run writes into the folder while this one lasts; what killed ones left of their files goes."""
    with only_writer(out):
        for name in WRITTEN:
            clear_leftovers(out / name)
        yield


def check_scale(settings: RunConfig, data: Dataset) -> None:
    """Refuse the published scale rule where it would shrink whole scenes to the size of chips."""
    if settings.scale_rule != "fitted":
        return
    for source in (*data.labeled.sources, *(data.unlabeled.sources if data.unlabeled else ())):
        long, short = max(source.scene.original.shape), min(source.scene.original.shape)
        shrunk = max(long / BASE[0], short / BASE[1])
        if shrunk > LARGEST_SHRINKING:
            raise ConfigError(
                f"{source.scene.source}: scale_rule fitted fits each image into {BASE[0]} × {BASE[1]} pixels, "
                f"this one of {long} × {short} would be shrunk {shrunk:.0f} times",
                hint="--set scale_rule=own trains at the scene's own resolution, or cut the scene into chips",
            )


def _folder(settings: RunConfig) -> Path:
    if settings.out is not None:
        return settings.out
    return Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{settings.method_name}"


def _check_folder(out: Path, settings: RunConfig) -> None:
    """Refuse a folder that holds another run, or none where one is to be resumed."""
    if settings.resume and not (out / STATE).is_file():
        begun = (out / CONFIG).exists()  # and stopped before its first state was whole
        how = "start it anew with --overwrite" if begun else "start it without --resume"
        raise InputError(f"{out}: holds no state of a run to resume", hint=how)
    if settings.resume:
        return
    if not settings.overwrite:
        check_new(out)


def _clear_folder(out: Path, runtime: Runtime) -> None:
    """Take away what an earlier run left in the folder; what no run writes there stays."""
    runtime.wait()  # every rank has found its data and weights good
    if runtime.leads:
        check_writable(out)
        for old in made_in(out):
            old.unlink()
    runtime.wait()


def data_of(settings: RunConfig, *, with_unlabeled: bool = True) -> Dataset:
    """Everything that a run with these settings learns from and validates with."""
    symmetry = Symmetry(flip_rows=settings.flips == "both", turn=settings.rotate)
    view = View(settings.crop, settings.scale, settings.scale_rule, symmetry)
    split = {"split_by": settings.split_by} if settings.split_by == "tile" else {}
    return assemble(
        _described_data(settings).model_copy(update=split),
        view=view,
        seed=settings.seed,
        ratio=settings.labeled_ratio,
        with_unlabeled=with_unlabeled,
        balance=settings.balance,
        headroom=settings.headroom,
        refit=settings.refit,
        name=settings.data,
    )


def _described_data(settings: RunConfig) -> DataConfig:
    if settings.root is None:
        return read_data(Path(settings.data))
    known = find_protocol(settings.data)
    resolution = {"ground_resolution": known.shown_resolution(settings.eval_resize)}
    return protocol.data_of(known, settings.root, settings.splits).model_copy(update=resolution)


def length_of(
    settings: RunConfig, data: Dataset, runtime: Runtime, made: Callable[..., TrainingEngine] | None = None
) -> int:
    """Steps of a run, of its first half where it is made again with all labels.

    `made`: an engine of so many `steps`, to find the pace of this machine with.
    """
    if settings.epochs is not None:
        return settings.epochs * epoch_steps_of(settings, data, runtime.ranks)
    if settings.visits is not None:
        crops = settings.batch * settings.accumulate
        return min(max(SHORTEST, -(-settings.visits * data.places // crops)), LONGEST)
    if settings.minutes is not None and made is not None:
        seconds = runtime.mean(made(steps=2).seconds_a_step())
        return max(1, int(settings.minutes * 60 * TRAINING_SHARE / seconds / (2 if data.whole else 1)))
    return settings.steps or DEFAULT_STEPS


@dataclass(frozen=True, slots=True)
class BegunRun:
    """What a resume has to know of the run in a folder before its state is loaded."""

    manifest: str
    """JSON of its manifest."""
    steps: int
    """Those of the whole run."""
    processes: int
    """How many began it: what falls to each of them is computed at once, whatever their number is now."""

    def manifest_for(self, data: Dataset, out: Path) -> Manifest:
        """Its manifest.

        Raises:
            InputError: it began with other data.
        """
        manifest = Manifest.model_validate_json(self.manifest)
        if manifest.training.get("data") != data.digest:
            raise InputError(f"{out}: the data has changed since this run began", hint="start a new run")
        return manifest


def _begun(out: Path, settings: RunConfig) -> BegunRun:
    """The run in a folder, refused with other settings: its batches would be others."""
    state = State.load(out, lazily=True)
    state.check_settings(out, settings.deciding())
    return BegunRun(state.manifest, int(state.settings["whole_run"]), int(state.settings["processes"]))


def _fit(engine: TrainingEngine, settings: RunConfig, steps: int, out: Path, command: str) -> None:
    until = steps if settings.stop_after is None else engine.step + settings.stop_after
    try:
        if engine.step < steps:
            engine.fit(until)
        elif engine.tally is None:  # all that is missing may be the report
            engine.validate()
    except KeyboardInterrupt as error:
        whole = (out / STATE).is_file()
        again = (
            f"co2s {command} --resume --out {out}" if whole else "no state was whole yet: start anew with --overwrite"
        )
        raise InterruptError(f"interrupted in step {engine.step}", hint=again) from error


def _tell_start(settings: RunConfig, data: Dataset, model: Ensemble, runtime: Runtime, *, steps: int) -> None:
    """Log what learns from what, how, and for how long; the time is told with the first steps."""
    sizes = (
        f"{name} ({sum(value.numel() for value in student.parameters()) / 1e6:.2f} M parameters)"
        for name, student in model.students.items()
    )
    log.info("students: %s; %d bands: %s", ", ".join(sizes), len(data.bands), ", ".join(data.bands))
    if data.whole is None:  # else the pixels on both sides have been told
        pixels = ", ".join(f"{name} {count:,}" for name, count in zip(data.classes.names, data.counts, strict=True))
        log.info("labelled pixels that train: %s", pixels)
    anew = f", from step {steps // 2} on anew with all labels" if data.whole else ""
    precision = pick_precision(settings.precision, runtime.device)
    log.info(
        "%s on %s in %s: %d steps of %d crops of %d pixels%s",
        settings.method_name, runtime.device, precision, steps, settings.batch * settings.accumulate, settings.crop,
        anew,
    )  # fmt: skip


def _tell_end(result: RunResult, engine: TrainingEngine) -> None:
    """Log which model file is what."""
    if result.best is not None:
        miou, step = engine.best["miou"], engine.best["step"]
        log.info("%s: best validation, mIoU %.3f at step %d", result.best.name, miou, step)
    if result.final is not None:
        log.info("%s: learnt from all labels, those that validated too; nothing validates it", result.final.name)


def _result(engine: TrainingEngine, out: Path, steps: int, *, refit: bool) -> RunResult:
    scores: dict[str, float] = {}
    for prefix, tally in (("", engine.tally), (EMA, engine.mean)):
        facts = tally.facts() if tally else {}
        scores |= {prefix + name: facts[f"{name}/miou"] for name in (tally.told if tally else ())}
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
    """All settings, read back by --resume, and below them what the run was made with."""
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
    with appearing(out / CONFIG) as temporary:
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
    report.write(out, engine.tally, data.classes.names, facts, mean=engine.mean, guided=engine.guided)
