"""The state of a run between two steps: what a resume needs, written whole or not at all."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from co2s_cli.errors import InputError, ModelError
from co2s_cli.files import appearing

STATE = "state.pt"


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
        }
        with appearing(folder / STATE) as temporary:
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
            return cls(**torch.load(path, map_location="cpu", weights_only=True, mmap=lazily))
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, ValueError, KeyError) as error:
            raise ModelError(f"{path}: is no whole state of a run", hint="start the run again") from error
