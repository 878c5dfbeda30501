"""The running mean of a model's weights: a steadier teacher than the model itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from co2s_cli.models.ensemble import Ensemble

_Tensors = tuple[Tensor, ...] | list[Tensor]


def kept_share(step: int, decay: float) -> float:
    """What the mean keeps of itself after step `step` (from 0): 0, 1/2, 2/3, … up to `decay`."""
    return min(1 - 1 / (step + 1), decay)


class Ema(AveragedModel):
    """A copy (`module`) of a model whose parameters and buffers follow the model's, without gradients.

    `n_averaged` counts the steps that it has taken in; after the first one both are equal.
    """

    module: Ensemble

    def __init__(self, model: Ensemble, decay: float) -> None:
        def mix(averaged: _Tensors, current: _Tensors, _: Tensor | int) -> None:
            if averaged[0].is_floating_point():  # exact where both are equal, as x + share · (y - x) is
                torch._foreach_lerp_(averaged, current, 1 - kept_share(int(self.n_averaged), decay))
            else:
                torch._foreach_copy_(averaged, current)

        super().__init__(model, multi_avg_fn=mix, use_buffers=True)
        self.module.requires_grad_(False).eval()
