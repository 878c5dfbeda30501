"""Train a model: check everything, then run the engine, then report."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
import yaml

from co2s_cli import __version__
from co2s_cli.config.base import read_yaml
from co2s_cli.config.data import DataConfig, read_data
from co2s_cli.config.recipes import DATA_SETS
from co2s_cli.config.train import TrainConfig
from co2s_cli.data.dataset import Dataset, assemble
from co2s_cli.data.protocol import published_data
from co2s_cli.data.samples import View
from co2s_cli.errors import ConfigError, InputError, InterruptError, OutputError
from co2s_cli.files import appearing, check_writable
from co2s_cli.models.pair import Pair
from co2s_cli.progress import SILENT, Progress
from co2s_cli.training import report
from co2s_cli.training.engine import BEST, LAST, Engine
from co2s_cli.training.methods import METHODS
from co2s_cli.training.network import empty_pair, first_pair
from co2s_cli.training.runtime import Runtime, started
from co2s_cli.training.schedule import steps_per_epoch
from co2s_cli.training.setup import engine_for
from co2s_cli.training.state import STATE

DEFAULT_STEPS = 4000


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a call has done."""

    out: Path
    model: Path
    """The last model."""
    best: Path | None
    """The one with the best validation; None before the first validation."""
    step: int
    """Steps done."""
    steps: int
    """Steps of the whole run."""
    best_miou: float | None
    miou: dict[str, float]
    """Of each student and the fused pair at the last validation of this call."""


def run(settings: TrainConfig, *, progress: Progress = SILENT) -> TrainResult:
    """Train as `settings` say.

    Raises:
        ConfigError, InputError, ModelError: data or weights that do not fit; all of it before the first step.
        InterruptError: Ctrl-C; the last whole state stays.
    """
    out = _folder(settings)
    with started(settings.device) as runtime:
        _check_folder(out, settings)
        data = data_of(settings)
        steps = settings.steps or _steps(settings, data, runtime)
        pair = empty_pair(settings, out / LAST) if settings.resume else first_pair(settings, data)
        if settings.resume:
            _check_same(out, data, pair, runtime)
        if not settings.resume:
            _make_folder(out, runtime)
        engine = engine_for(
            settings, data, pair.to(runtime.device), runtime, folder=out, steps=steps, progress=progress
        )
        if settings.resume:
            engine.resume()
        elif runtime.leads:
            _write_config(out, settings, data, steps, runtime)
        _fit(engine, settings, steps, out)
        result = _result(engine, out, steps)
        if runtime.leads:
            _report(out, settings, data, engine, result)
        runtime.wait()
    return result


def _folder(settings: TrainConfig) -> Path:
    if settings.out is not None:
        return settings.out
    if settings.resume:
        raise ConfigError("--resume wants --out, the folder of the run")
    return Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{settings.method}"


def _check_folder(out: Path, settings: TrainConfig) -> None:
    """Refuse a folder that holds another run, or none where one is to be resumed."""
    if settings.resume and not (out / STATE).is_file():
        raise InputError(f"{out}: holds no state of a run to resume", hint="start it without --resume")
    if not settings.resume and not settings.overwrite and (out / "config.yaml").exists():
        raise OutputError(f"{out}: holds a run already", hint="go on with --resume, or start anew with --overwrite")


def _make_folder(out: Path, runtime: Runtime) -> None:
    """Make the run folder, without what an earlier run left in it."""
    runtime.wait()  # every rank has found its data and weights good
    if runtime.leads:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made into a folder ({error.strerror})") from error
        check_writable(out)
        for old in [*out.glob("*.jsonl"), *out.glob("*.safetensors"), *out.glob("events.out.*"), out / STATE]:
            old.unlink(missing_ok=True)
    runtime.wait()


def data_of(settings: TrainConfig) -> Dataset:
    """Everything that a run with these settings learns from and validates with."""
    view = View(settings.crop, settings.scale, settings.scale_rule)
    return assemble(
        _described_data(settings),
        view=view,
        seed=settings.seed,
        ratio=settings.labeled_ratio,
        with_unlabeled=METHODS[settings.method].strong != (),
    )


def _described_data(settings: TrainConfig) -> DataConfig:
    if settings.data in DATA_SETS and settings.root is not None:
        return published_data(settings.data, settings.root, settings.splits)
    path = Path(settings.data)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file",
            hint="`co2s sample DIR` writes a data.yaml with a comment on each line, to train on or to copy from",
        )
    return read_data(path)


def _steps(settings: TrainConfig, data: Dataset, runtime: Runtime) -> int:
    if settings.epochs is None:
        return DEFAULT_STEPS
    images = len(data.unlabeled or data.labeled)
    return settings.epochs * steps_per_epoch(images, ranks=runtime.ranks, batch=settings.batch)


def _check_same(out: Path, data: Dataset, pair: Pair, runtime: Runtime) -> None:
    """Refuse to resume on other data, or with another number of processes: the batches would be others."""
    before = read_yaml(out / "config.yaml").get("made_with", {}).get("processes")
    if before != runtime.ranks:
        raise ConfigError(f"--resume: the run began with {before} processes, now there are {runtime.ranks}")
    if pair.manifest.training.get("data") != data.digest:
        raise InputError(f"{out}: the data has changed since this run began", hint="start a new run")


def _fit(engine: Engine, settings: TrainConfig, steps: int, out: Path) -> None:
    until = steps if settings.stop_after is None else engine.step + settings.stop_after
    try:
        engine.fit(until)
    except KeyboardInterrupt as error:
        raise InterruptError(f"interrupted in step {engine.step}", hint=f"co2s train --resume --out {out}") from error


def _result(engine: Engine, out: Path, steps: int) -> TrainResult:
    facts = engine.tally.facts() if engine.tally else {}
    return TrainResult(
        out=out,
        model=out / LAST,
        best=out / BEST if engine.best else None,
        step=engine.step,
        steps=steps,
        best_miou=engine.best.get("miou"),
        miou={key.removesuffix("/miou"): value for key, value in facts.items() if key.endswith("/miou")},
    )


def _write_config(out: Path, settings: TrainConfig, data: Dataset, steps: int, runtime: Runtime) -> None:
    """All settings, read back by --resume, and below them what the run was made with."""
    content = {
        **settings.model_dump(mode="json", exclude={"resume", "stop_after", "overwrite", "out"}),
        "made_with": {
            "co2s": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "steps": steps,
            "processes": runtime.ranks,
            "data_digest": data.digest,
            "labeled_pixels": dict(zip(data.classes.names, data.counts, strict=True)),
        },
    }
    with appearing(out / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _report(out: Path, settings: TrainConfig, data: Dataset, engine: Engine, result: TrainResult) -> None:
    facts = {
        "method": settings.method,
        "preset": settings.preset,
        "seed": settings.seed,
        "step": result.step,
        "steps": result.steps,
        "best": engine.best,
        "labeled_images": len(data.labeled.sources),
        "labeled_pixels": dict(zip(data.classes.names, data.counts, strict=True)),
        "unlabeled_images": len(data.unlabeled.sources) if data.unlabeled else 0,
        "data_digest": data.digest,
    }
    report.write(out, engine.tally, data.classes.names, facts)
