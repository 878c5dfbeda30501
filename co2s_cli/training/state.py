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
"""What zipfile and torch raise of files that are damaged or of another kind."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that later steps depend on; data and augmentation are functions of the step."""

    step: int
    """Steps done."""
    manifest: str
    """What the model is while it learns (JSON): a saved one may be leaner."""
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    """The running mean of its weights; empty where the run keeps none."""
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best: dict[str, float]
    """The best validation so far; empty before the first."""
    settings: dict[str, Any]
    """What the numbers of the run depend on: its settings, and "processes", how many there are."""
    initial: dict[str, Tensor] = field(default_factory=dict)
    """The weights that the run began with, as long as it is to begin with them again."""
    validated: int = 0
    """Steps that were done at the last validation."""
    counts: dict[str, Tensor] = field(default_factory=dict)
    """What it counted, as `ValidationCounts.vector`, by the prefix of the model files."""

    def save(self, folder: Path) -> None:
        """Write it into a run folder."""
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
        """Read that of a run folder; no pickled code is run. `lazily`: tensors stay on disk until they are used.

        Raises:
            InputError: the folder holds none.
            ModelError: it is damaged.
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
        """Refuse settings that are not those of the run, which config.yaml was written with.

        Raises:
            OutputError: names the first that differs.
        """
        for name, value in settings.items():
            if name in self.settings and self.settings[name] != value:
                raise OutputError(
                    f"{folder / CONFIG}: {name} is {shown(value)}, the run in {STATE} has {shown(self.settings[name])}",
                    hint="config.yaml was changed or cut: put it back as the run wrote it, or start a new run",
                )


def _check_records(path: Path) -> None:
    """Compare each record of the file with its checksum in the zip format, which torch writes and does not read."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
