"""The running mean of a model's weights: a steadier teacher than the model itself."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

EMA = "ema-"
"""What names of files and of scores begin with where they belong to the running mean."""

M = TypeVar("M", bound=nn.Module)


def kept_share(step: int, decay: float) -> float:
    """What the mean keeps of itself after step `step` (from 0): 0, 1/2, 2/3, … up to `decay`."""
    return min(1 - 1 / (step + 1), decay)


class Ema(Generic[M]):
    """A copy of a model whose parameters and buffers follow the model's; outside of it, and without gradients."""

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, model: M, step: int) -> None:
        """Take in what step `step` (from 0) has made of the model; after step 0 both are equal."""
        taken = 1 - kept_share(step, self._decay)
        for mine, theirs in zip(_values(self.model), _values(model), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, taken)  # exact where all is taken, and where both are equal
            else:
                mine.copy_(theirs)


def _values(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
