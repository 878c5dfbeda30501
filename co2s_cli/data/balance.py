"""Class-balanced crop centres: draw a class, then a block of labels with that class, so that rare classes are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from co2s_cli.data.survey import LabelBlock

Balance = Literal["none", "sqrt", "uniform"]
"""How often each class is at the centre of a labelled crop. none: crops are placed without regard to classes; sqrt: in
proportion to the square root of its pixels; uniform: all classes equally often."""


class ClassIndex:
    """Draws a class and a block that contains it, from the blocks' pixel counts, without reading labels."""

    def __init__(self, blocks: Sequence[LabelBlock], balance: Literal["sqrt", "uniform"]) -> None:
        counts = np.array([block.counts for block in blocks], np.float64)
        totals = counts.sum(axis=0)
        weights = np.sqrt(totals) if balance == "sqrt" else (totals > 0).astype(np.float64)
        self.shares = weights / weights.sum()
        """(classes,) probability that each class is drawn."""
        self._blocks = blocks
        self._blocks_with = [np.flatnonzero(column) for column in counts.T]  # by class: indices of its blocks
        self._cumulative = [np.cumsum(column[column > 0]) for column in counts.T]  # by class: pixels up to each block

    def draw(self, rng: np.random.Generator) -> tuple[LabelBlock, int]:
        """A block and a class in it: the class with probability `shares`, then the block by its pixels of the class."""
        class_id = int(rng.choice(len(self.shares), p=self.shares))
        cumulative = self._cumulative[class_id]
        position = int(np.searchsorted(cumulative, rng.uniform(0, cumulative[-1]), side="right"))
        return self._blocks[self._blocks_with[class_id][min(position, len(cumulative) - 1)]], class_id
