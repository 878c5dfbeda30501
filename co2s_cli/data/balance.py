"""Crop centres by class: a pixel of a class that is drawn first, so that rare classes are seen as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from co2s_cli.data.survey import LabelBlock

Balance = Literal["none", "sqrt", "uniform"]
"""How often a class is at the centre of a labelled crop: not asked, by the root of its pixels, all alike."""


class ClassIndex:
    """The blocks that hold each class, to draw from; made of their counts, no label is read again."""

    def __init__(self, blocks: Sequence[LabelBlock], balance: Literal["sqrt", "uniform"]) -> None:
        counts = np.array([block.counts for block in blocks], np.float64)
        totals = counts.sum(axis=0)
        weights = np.sqrt(totals) if balance == "sqrt" else (totals > 0).astype(np.float64)
        self.shares = weights / weights.sum()
        """How often each class is drawn."""
        self._blocks = blocks
        self._numbers = [np.flatnonzero(column) for column in counts.T]
        self._until = [np.cumsum(column[column > 0]) for column in counts.T]

    def draw(self, rng: np.random.Generator) -> tuple[LabelBlock, int]:
        """A class, and one of the blocks that hold it, by its pixels there."""
        class_id = int(rng.choice(len(self.shares), p=self.shares))
        until = self._until[class_id]
        position = int(np.searchsorted(until, rng.uniform(0, until[-1]), side="right"))
        return self._blocks[self._numbers[class_id][min(position, len(until) - 1)]], class_id
