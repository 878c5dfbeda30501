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
    """Train the students; returns the figures of the run.

    Raises:
        ConfigError, InputError, ModelError: data or weights that do not fit; raised before the first step.
        InterruptError: Ctrl-C; the last complete state of the run stays.
    """

    def prepare(data: Dataset, before: Manifest | None, runtime: Runtime) -> TrainingSetup:
        ensemble = choose_trainable(settings, Ensemble(before)) if before else _new_ensemble(settings, data)
        return TrainingSetup(ensemble.to(runtime.device), METHODS[settings.method])

    check_run(settings)
    return running.run_training(
        settings, prepare, command="train", progress=progress, with_unlabeled=_wants_unlabeled(settings)
    )


def data_of(settings: TrainConfig) -> Dataset:
    """The training and validation data of a run with these settings."""
    return running.data_of(settings, with_unlabeled=_wants_unlabeled(settings))


def _wants_unlabeled(settings: TrainConfig) -> bool:
    return METHODS[settings.method].required.unlabeled


def _new_ensemble(settings: TrainConfig, data: Dataset) -> Ensemble:
    return single(settings, data, spec_of(settings)) if settings.student else first_ensemble(settings, data)
