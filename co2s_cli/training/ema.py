"""The running mean (EMA) of a model's weights, which gives steadier pseudo-labels than the model itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from co2s_cli.models.ensemble import Ensemble

_Tensors = tuple[Tensor, ...] | list[Tensor]


def kept_share(step: int, decay: float) -> float:
    """Weight of the old mean in the update after step `step` (from 0): 0, 1/2, 2/3, … up to `decay`."""
    return min(1 - 1 / (step + 1), decay)


class Ema(AveragedModel):
    """A copy (`module`) of a model that holds the running mean of its parameters and buffers, without gradients.

    `n_averaged` counts the updates; after the first one the copy equals the model.
    """

    module: Ensemble

    def __init__(self, model: Ensemble, decay: float) -> None:
        def mix(averaged: _Tensors, current: _Tensors, _: Tensor | int) -> None:
            if averaged[0].is_floating_point():  # lerp, x + share · (y - x), is exact where both are equal
                torch._foreach_lerp_(averaged, current, 1 - kept_share(int(self.n_averaged), decay))
            else:
                torch._foreach_copy_(averaged, current)

        super().__init__(model, multi_avg_fn=mix, use_buffers=True)
        self.module.requires_grad_(False).eval()
