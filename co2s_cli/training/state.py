"""The state of a run between two steps: what a resume needs, written whole or not at all."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from co2s_cli.errors import InputError, ModelError, OutputError, shown
from co2s_cli.files import atomic_file
from co2s_cli.training.names import CONFIG, STATE

_DAMAGES = (
    pickle.UnpicklingError, RuntimeError, EOFError, TypeError, ValueError, LookupError, AttributeError, OSError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""Exceptions that zipfile and torch raise when they read files that are damaged or of another kind."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that later steps depend on, but data and augmentation: those are functions of the step."""

    step: int
    """Number of steps done."""
    manifest: str
    """Manifest of the model as it trains, as JSON; a model file may leave out parts that only training needs."""
    model: dict[str, Tensor]
    """State dict of the model."""
    ema: dict[str, Tensor]
    """State dict of the running mean of its weights; empty where the run keeps none."""
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best: dict[str, float]
    """mIoU and step of the best validations so far, by `BestFile.key`; empty before the first validation."""
    settings: dict[str, Any]
    """The settings that the numbers of the run depend on, with "processes" and "whole_run" (number of steps)."""
    initial: dict[str, Tensor] = field(default_factory=dict)
    """State dict of the weights before step 0; empty where the run does not restart from them any more."""
    validated: int = 0
    """Number of steps done at the last validation."""
    counts: dict[str, Tensor] = field(default_factory=dict)
    """Counts of the last validation, as `ValidationCounts.vector`, by the prefix of the model files."""

    def save(self, folder: Path) -> None:
        """Write the state into a run folder."""
        content = {
            "step": self.step,
            "manifest": self.manifest,
            "model": self.model,
            "ema": self.ema,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "best": self.best,
            "settings": self.settings,
            "initial": self.initial,
            "validated": self.validated,
            "counts": self.counts,
        }
        with atomic_file(folder / STATE) as temporary:
            torch.save(content, temporary)

    @classmethod
    def load(cls, folder: Path, *, lazily: bool = False) -> State:
        """Read the state in a run folder; no pickled code runs. `lazily`: tensors are mapped, and read when used.

        Raises:
            InputError: the folder holds no state.
            ModelError: the state is damaged.
        """
        path = folder / STATE
        if not path.is_file():
            raise InputError(f"{path}: no state of a run to resume", hint="start it without --resume")
        try:
            _check_records(path)
            return cls(**torch.load(path, map_location="cpu", weights_only=True, mmap=lazily))
        except _DAMAGES as error:
            raise ModelError(
                f"{path}: is damaged, or no whole state of a run", hint="put a whole copy back, or start the run again"
            ) from error

    def check_settings(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Refuse `settings`, those of config.yaml in `folder`, if they differ from the settings of this state.

        Raises:
            OutputError: names the first setting that differs.
        """
        for name, value in settings.items():
            if name in self.settings and self.settings[name] != value:
                raise OutputError(
                    f"{folder / CONFIG}: {name} is {shown(value)}, the run in {STATE} has {shown(self.settings[name])}",
                    hint="config.yaml was changed or cut: put it back as the run wrote it, or start a new run",
                )


def _check_records(path: Path) -> None:
    """Compare each record of the file with its checksum in the zip archive, which torch.load does not check."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
