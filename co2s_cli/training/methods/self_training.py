"""Supervised, FixMatch, UniMatch and Co2S: students learn from labels, their own pseudo-labels and each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.models.ensemble import learns
from co2s_cli.training.losses import (
    Pseudo,
    Term,
    balanced_weights,
    confidence_histogram,
    consistency,
    pseudo_labels,
    share_thresholds,
    stability,
    supervised,
)
from co2s_cli.training.schedule import begun, ramp
from co2s_cli.training.step import Views, Wants


def _same(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True, slots=True)
class MethodRules:
    """What every method is told about the run; the defaults are what the papers intend."""

    threshold: Tensor
    """(N,) confidence from which a pseudo-label of a class counts."""
    steps: int
    """Steps of the whole run."""
    class_weights: Tensor | None = None
    """(N,) weights of the supervised loss."""
    threshold_share: float = 0.0
    """Share of the pixels taken for a class that count at least, where more are less sure than its threshold."""
    pseudo_balance: float = 0.0
    """Power by which pseudo-labels of rare classes weigh more."""
    consistency_start: float = 0.0
    """Share of the run in which labels teach alone."""
    consistency_after: int = 0
    """Steps in which they do at least."""
    consistency_ramp: float = 0.0
    """Share of the run over which unlabelled pixels come to count fully."""
    summed: Callable[[Tensor], Tensor] = _same
    """A tensor summed over all ranks and passes of a step."""
    stability_weight: float = 0.5
    """Weight of the stability loss after its ramp."""
    ramp_share: float = 0.2
    """Share of the run over which that weight rises."""
    stability_grad: bool = True
    """Whether the stability loss teaches; the published code detaches both sides."""
    stability_in_padding: bool = False
    """Whether padding counts in it; it does in the published code."""
    single_view: bool = False
    """Whether UniMatch and Co2S see one strong view, as FixMatch does, in place of two and of dropped features."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Which pseudo-labels of a step count, and how much."""

    threshold: Tensor
    """(N,) by class."""
    class_weights: Tensor | None = None
    """(N,) by class; None: all alike."""

    def term(self, logits: Tensor, pseudo: Pseudo, weight: float) -> Term:
        """The consistency loss of one view."""
        return consistency(logits, pseudo, self.threshold, weight=weight, class_weights=self.class_weights)


class Supervised:
    """Labels alone: the loss is the mean cross-entropy."""

    wants = Wants()
    labeled: float = 1.0
    """Weight of the labels' term."""
    strong: tuple[float, ...] = ()
    """Weight of each strong view's term."""
    feature: float = 0.0
    """Weight of the term of the view with dropped feature channels."""

    def __init__(self, rules: MethodRules) -> None:
        self.rules = rules

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.rules.threshold)

    def wants_at(self, step: int) -> Wants:
        """The views of a step: labels alone before unlabelled pixels count."""
        return self.wants if self.begun(step) else Wants()

    def counts_said(self, step: int) -> bool:
        """Whether counts depend on what students say: where peers teach, or thresholds follow the pseudo-labels."""
        wants, rules = self.wants_at(step), self.rules
        return wants.peers or (wants.unlabeled and (rules.threshold_share > 0 or rules.pseudo_balance > 0))

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss."""
        del peers  # nothing here depends on them; the stability loss does
        rules = self.rules
        term = supervised(view.labeled, batch.labels, class_weights=rules.class_weights, pixel_weights=batch.weights)
        parts = {"labeled": Term(term.total, term.count, self.labeled)}
        if not view.strong:
            return parts
        pseudo, partner = pseudo_pair(view, batch)
        cuts = self.cuts(pseudo)
        begun = self.begun(step)
        for index, weight in enumerate(self.strong):
            mixed = pseudo.mixed(batch.boxes[index], partner)
            parts[f"strong{index + 1}"] = cuts.term(view.strong[index], mixed, weight * begun)
        if view.feature is not None:
            parts["feature"] = cuts.term(view.feature, pseudo, self.feature * begun)
        return parts

    def begun(self, step: int) -> float:
        """Weight of what unlabelled pixels teach in a step."""
        rules = self.rules
        return begun(
            step,
            rules.steps,
            start=rules.consistency_start,
            after=rules.consistency_after,
            over=rules.consistency_ramp,
        )

    def cuts(self, pseudo: Pseudo) -> Cuts:
        """Which of a student's pseudo-labels count in this step, and how much, by class."""
        rules = self.rules
        if not rules.threshold_share and not rules.pseudo_balance:
            return Cuts(rules.threshold)
        histogram = rules.summed(confidence_histogram(pseudo, len(rules.threshold)))
        threshold = rules.threshold
        if rules.threshold_share:
            threshold = share_thresholds(histogram, threshold, rules.threshold_share)
        weights = balanced_weights(histogram, threshold, rules.pseudo_balance) if rules.pseudo_balance else None
        return Cuts(threshold, weights)


def pseudo_pair(view: Views, batch: Batch) -> tuple[Pseudo, Pseudo]:
    """The pseudo-labels of the own crops, and those of their CutMix partners."""
    everything = pseudo_labels(view.guide, batch.valid)
    own = torch.arange(len(batch.images), device=batch.partner.device)
    return everything.picked(own), everything.picked(batch.partner)


class FixMatch(Supervised):
    """One strong view: L = (L_x + U_1) / 2."""

    wants = Wants(strong=1)
    labeled = 1 / 2
    strong = (1 / 2,)


class UniMatch(Supervised):
    """Two strong views and dropped features: L = (L_x + U_1/4 + U_2/4 + U_fp/2) / 2."""

    wants = Wants(strong=2, feature=True)
    labeled = 1 / 2
    strong: tuple[float, ...] = (1 / 8, 1 / 8)
    feature = 1 / 4

    def __init__(self, rules: MethodRules) -> None:
        super().__init__(rules)
        if rules.single_view:
            self.wants = replace(self.wants, strong=1, feature=False)
            self.strong, self.feature = FixMatch.strong, 0.0


class Co2s(UniMatch):
    """L = UniMatch's + λ(t) · L_sta; λ lies outside the division by two. Where a peer is surer, it teaches."""

    wants = Wants(strong=2, feature=True, weak=True, peers=True)

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss."""
        parts = super().terms(view, batch, peers, step)
        if not len(view.weak):
            return parts
        rules = self.rules
        weight = ramp(step, rules.steps, peak=rules.stability_weight, share=rules.ramp_share) * self.begun(step)
        valid = batch.valid[: len(batch.images)]
        own_confidence = view.weak.detach().float().softmax(dim=1).amax(dim=1)
        taught = view.weak if rules.stability_grad else view.weak.detach()
        for peer in peers.values():
            best = peer.max(dim=1)
            cuts = self.cuts(Pseudo(best.values, best.indices, valid))
            mask = learns(own_confidence, best.values, cuts.threshold[best.indices])
            mask = mask if rules.stability_in_padding else mask & valid
            parts["stability"] = added(parts.get("stability"), stability(taught, peer, mask, weight=weight))
        return parts


def added(before: Term | None, term: Term) -> Term:
    """The stability term of one more peer: totals and counts over all peers."""
    return term if before is None else Term(before.total + term.total, before.count + term.count, term.weight)
