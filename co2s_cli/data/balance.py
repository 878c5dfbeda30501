"""Crop centres by class: a class is drawn, then a pixel of it, so that rare classes are seen as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from co2s_cli.data.survey import LabelBlock

Balance = Literal["none", "sqrt", "uniform"]
"""How often each class is at the centre of a labelled crop: as it comes, by the root of its pixels, all equally."""


class ClassIndex:
    """Draws a class and a block that holds it, from the pixel counts of the blocks; reads no label."""

    def __init__(self, blocks: Sequence[LabelBlock], balance: Literal["sqrt", "uniform"]) -> None:
        counts = np.array([block.counts for block in blocks], np.float64)
        totals = counts.sum(axis=0)
        weights = np.sqrt(totals) if balance == "sqrt" else (totals > 0).astype(np.float64)
        self.shares = weights / weights.sum()
        """(classes) chance that a class is drawn."""
        self._blocks = blocks
        self._holding = [np.flatnonzero(column) for column in counts.T]
        self._cumulative = [np.cumsum(column[column > 0]) for column in counts.T]

    def draw(self, rng: np.random.Generator) -> tuple[LabelBlock, int]:
        """A block and a class that it holds: the class by `shares`, then the block by its pixels of that class."""
        class_id = int(rng.choice(len(self.shares), p=self.shares))
        cumulative = self._cumulative[class_id]
        position = int(np.searchsorted(cumulative, rng.uniform(0, cumulative[-1]), side="right"))
        return self._blocks[self._holding[class_id][min(position, len(cumulative) - 1)]], class_id
