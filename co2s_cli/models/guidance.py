"""Class vectors of a guided student: fixed ones from text prompts (explicit), or learnt queries (implicit)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Guidance(nn.Module):
    """One vector for each class, (N, width). Explicit ones are a buffer and never train, implicit ones do."""

    vectors: Tensor

    def __init__(self, kind: Literal["explicit", "implicit"], classes: int, width: int) -> None:
        super().__init__()
        if kind == "explicit":
            self.register_buffer("vectors", torch.zeros(classes, width))
        else:
            self.vectors = nn.Parameter(torch.randn(classes, width) * 0.02)

    def forward(self) -> Tensor:
        """The class vectors, not normalised."""
        return self.vectors
