"""Supervised, FixMatch and UniMatch: each student learns from labels and from its own confident pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.training.losses import Pseudo, Term, consistency, pseudo_labels, supervised
from co2s_cli.training.methods.rules import Rules
from co2s_cli.training.views import Views


class Supervised:
    """Labels alone: the loss is the mean cross-entropy."""

    labeled: float = 1.0
    """Weight of the labels' term."""
    strong: tuple[float, ...] = ()
    """Weight of each strong view's term; their number is the number of strong views."""
    feature: float = 0.0
    """Weight of the term of the view with dropped feature channels; 0 = there is no such view."""
    mutual: bool = False
    """Whether the students learn from one another."""
    own_weak: bool = False
    """Whether the student is to look at the weak view even where a guide gives the pseudo-labels."""
    taught: bool = False
    """Whether the guide is to speak about the labelled crops too."""
    translated: bool = False
    """Whether the student is to speak in its teachers' tokens."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss; `peers` are the other students' probabilities of the weak view, (b, N, S, S)."""
        del peers, step  # nothing here depends on them; the stability loss of other methods does
        rules = self.rules
        term = supervised(
            view.labeled,
            batch.labels,
            class_weights=rules.class_weights,
            pixel_weights=batch.weights,
        )
        parts = {"labeled": Term(term.total, term.count, self.labeled)}
        if not self.strong:
            return parts
        pseudo, partner = pseudo_pair(view, batch)
        for index, weight in enumerate(self.strong):
            mixed = pseudo.mixed(batch.boxes[index], partner)
            parts[f"strong{index + 1}"] = consistency(view.strong[index], mixed, rules.threshold, weight=weight)
        if view.feature is not None:
            parts["feature"] = consistency(view.feature, pseudo, rules.threshold, weight=self.feature)
        return parts


def pseudo_pair(view: Views, batch: Batch) -> tuple[Pseudo, Pseudo]:
    """The pseudo-labels of the own crops, and those of their CutMix partners."""
    everything = pseudo_labels(view.guide, batch.valid)
    own = torch.arange(len(batch.images), device=batch.partner.device)
    return everything.picked(own), everything.picked(batch.partner)


class FixMatch(Supervised):
    """One strong view: L = (L_x + U_1) / 2."""

    labeled = 1 / 2
    strong = (1 / 2,)


class UniMatch(Supervised):
    """Two strong views and dropped features: L = (L_x + U_1/4 + U_2/4 + U_fp/2) / 2."""

    labeled = 1 / 2
    strong = (1 / 8, 1 / 8)
    feature = 1 / 4
