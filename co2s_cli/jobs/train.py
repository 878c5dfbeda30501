"""Train a model from labels and unlabelled images."""

from __future__ import annotations

from co2s_cli.config.train import TrainConfig
from co2s_cli.data.dataset import Dataset
from co2s_cli.jobs.paths import check_run
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import SILENT, Progress
from co2s_cli.training import run as running
from co2s_cli.training.methods import METHODS
from co2s_cli.training.network import choose_trainable, first_ensemble
from co2s_cli.training.run import RunResult
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import TrainingSetup
from co2s_cli.training.single import single, spec_of


def run(settings: TrainConfig, *, progress: Progress = SILENT) -> RunResult:
    """Train as `settings` say.

    Raises:
        ConfigError, InputError, ModelError: data or weights that do not fit; all of it before the first step.
        InterruptError: Ctrl-C; the last whole state stays.
    """

    def prepare(data: Dataset, before: Manifest | None, runtime: Runtime) -> TrainingSetup:
        pair = choose_trainable(settings, Ensemble(before)) if before else _first(settings, data)
        return TrainingSetup(pair.to(runtime.device), METHODS[settings.method])

    check_run(settings)
    return running.run_training(
        settings, prepare, command="train", progress=progress, with_unlabeled=_wants_unlabeled(settings)
    )


def data_of(settings: TrainConfig) -> Dataset:
    """Everything that a run with these settings learns from and validates with."""
    return running.data_of(settings, with_unlabeled=_wants_unlabeled(settings))


def _wants_unlabeled(settings: TrainConfig) -> bool:
    return METHODS[settings.method].required.unlabeled


def _first(settings: TrainConfig, data: Dataset) -> Ensemble:
    return single(settings, data, spec_of(settings)) if settings.student else first_ensemble(settings, data)
