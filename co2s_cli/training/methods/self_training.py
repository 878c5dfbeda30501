"""Supervised, FixMatch, UniMatch and Co2S: training with labels, a student's own pseudo-labels, and its peers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.models.ensemble import learns_from_peer
from co2s_cli.training.losses import (
    PseudoLabels,
    Term,
    balanced_weights,
    confidence_histogram,
    consistency,
    pseudo_labels,
    share_thresholds,
    stability,
    supervised,
)
from co2s_cli.training.schedule import ramp, unlabeled_weight
from co2s_cli.training.views import RequiredViews, StudentOutputs


def _identity(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True, slots=True)
class MethodRules:
    """Loss settings of a run, common to all methods; the defaults are what the papers intend."""

    threshold: Tensor
    """(N,) by class: smallest confidence of a pseudo-label that counts."""
    steps: int
    """Steps of the schedules: those of the run, or of each half of a run that is repeated with all labels."""
    class_weights: Tensor | None = None
    """(N,) class weights of the supervised loss."""
    labeled_balance: float = 0.0
    """Exponent by which the labelled pixels of images with few of them weigh more; 0 = all pixels weigh the same."""
    threshold_share: float = 0.0
    """The threshold of a class is lowered until this share of the pixels predicted as that class counts; 0 = never."""
    pseudo_balance: float = 0.0
    """Exponent by which pseudo-labels of rare classes weigh more; 0 = all classes weigh the same."""
    consistency_start: float = 0.0
    """Share of the steps, at the beginning, in which only the labelled loss counts."""
    consistency_after: int = 0
    """Least number of steps in which only the labelled loss counts."""
    consistency_ramp: float = 0.0
    """Share of the steps over which the weight of the unlabelled losses then rises from 0 to 1."""
    summed: Callable[[Tensor], Tensor] = _identity
    """Sums a tensor over all ranks and micro-batches of a step."""
    stability_weight: float = 0.5
    """Weight of the stability loss after its ramp."""
    ramp_share: float = 0.2
    """Share of the steps over which the weight of the stability loss rises to `stability_weight`."""
    stability_grad: bool = True
    """Whether the stability loss has a gradient; the published code detaches both sides, so that it has none."""
    stability_in_padding: bool = False
    """Whether padding pixels count in the stability loss, as in the published code."""
    single_view: bool = False
    """Whether UniMatch and Co2S use one strong view, as FixMatch does, instead of two and the feature view."""


@dataclass(frozen=True, slots=True)
class PseudoLabelRules:
    """Which pseudo-labels of a step count, and how much."""

    threshold: Tensor
    """(N,) by class: smallest confidence that counts."""
    class_weights: Tensor | None = None
    """(N,) by class; None: all classes weigh the same."""

    def term(self, logits: Tensor, pseudo: PseudoLabels, weight: float) -> Term:
        """The consistency loss of one view."""
        return consistency(logits, pseudo, self.threshold, weight=weight, class_weights=self.class_weights)


class Supervised:
    """Labels only: the loss is the mean cross-entropy. Base class of the other methods."""

    required = RequiredViews()
    labeled: float = 1.0
    """Weight of the supervised term."""
    strong: tuple[float, ...] = ()
    """Weight of the term of each strong view."""
    feature: float = 0.0
    """Weight of the term of the feature view (the weak view with dropped feature channels)."""

    def __init__(self, rules: MethodRules) -> None:
        self.rules = rules

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.rules.threshold)

    def required_at(self, step: int) -> RequiredViews:
        """The views needed in a step: only the labelled crops as long as the unlabelled losses have weight 0."""
        return self.required if self.unlabeled_weight(step) else RequiredViews()

    def counts_need_weak_view(self, step: int) -> bool:
        """Whether counts depend on predictions: where peers teach, or where thresholds follow the pseudo-labels."""
        required, rules = self.required_at(step), self.rules
        return required.peers or (required.unlabeled and (rules.threshold_share > 0 or rules.pseudo_balance > 0))

    def terms(self, outputs: StudentOutputs, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Terms of a student's loss, by name."""
        del peers  # only the stability loss of Co2S depends on peers
        term = supervised(
            outputs.labeled,
            batch.labels,
            class_weights=self.rules.class_weights,
            pixel_weights=batch.weights,
            balance=self.rules.labeled_balance,
        )
        terms = {"labeled": Term(term.total, term.count, self.labeled)}
        if not outputs.strong:
            return terms
        pseudo, partner = pseudo_labels_with_partners(outputs, batch)
        rules = self.pseudo_label_rules(pseudo)
        unlabeled_weight = self.unlabeled_weight(step)
        for index, weight in enumerate(self.strong):
            mixed = pseudo.mixed(batch.boxes[index], partner)
            terms[f"strong{index + 1}"] = rules.term(outputs.strong[index], mixed, weight * unlabeled_weight)
        if outputs.feature is not None:
            terms["feature"] = rules.term(outputs.feature, pseudo, self.feature * unlabeled_weight)
        return terms

    def unlabeled_weight(self, step: int) -> float:
        """Weight in [0, 1] of the unlabelled losses in a step."""
        rules = self.rules
        return unlabeled_weight(
            step,
            rules.steps,
            start=rules.consistency_start,
            after=rules.consistency_after,
            over=rules.consistency_ramp,
        )

    def pseudo_label_rules(self, pseudo: PseudoLabels) -> PseudoLabelRules:
        """Thresholds and weights by class for a student's pseudo-labels in this step."""
        rules = self.rules
        if not rules.threshold_share and not rules.pseudo_balance:
            return PseudoLabelRules(rules.threshold)
        histogram = rules.summed(confidence_histogram(pseudo, len(rules.threshold)))
        threshold = rules.threshold
        if rules.threshold_share:
            threshold = share_thresholds(histogram, threshold, rules.threshold_share)
        weights = balanced_weights(histogram, threshold, rules.pseudo_balance) if rules.pseudo_balance else None
        return PseudoLabelRules(threshold, weights)


def pseudo_labels_with_partners(outputs: StudentOutputs, batch: Batch) -> tuple[PseudoLabels, PseudoLabels]:
    """The pseudo-labels of the b unlabelled crops, and those of their CutMix partners."""
    all_pseudo = pseudo_labels(outputs.guide, batch.valid)
    crops = torch.arange(len(batch.images), device=batch.partner.device)
    return all_pseudo.picked(crops), all_pseudo.picked(batch.partner)


class FixMatch(Supervised):
    """One strong view: L = (L_x + U_1) / 2."""

    required = RequiredViews(strong=1)
    labeled = 1 / 2
    strong = (1 / 2,)


class UniMatch(Supervised):
    """Two strong views and the feature view (fp): L = (L_x + U_1/4 + U_2/4 + U_fp/2) / 2."""

    required = RequiredViews(strong=2, feature=True)
    labeled = 1 / 2
    strong: tuple[float, ...] = (1 / 8, 1 / 8)
    feature = 1 / 4

    def __init__(self, rules: MethodRules) -> None:
        super().__init__(rules)
        if rules.single_view:
            self.required = replace(self.required, strong=1, feature=False)
            self.strong, self.feature = FixMatch.strong, 0.0


class Co2s(UniMatch):
    """L = UniMatch's L + λ(t) · L_sta, where λ is not halved. L_sta counts pixels where a peer is more confident."""

    required = RequiredViews(strong=2, feature=True, weak=True, peers=True)

    def terms(self, outputs: StudentOutputs, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Terms of a student's loss, by name."""
        terms = super().terms(outputs, batch, peers, step)
        if not len(outputs.weak):
            return terms
        rules = self.rules
        peak, share = rules.stability_weight, rules.ramp_share
        weight = ramp(step, rules.steps, peak=peak, share=share) * self.unlabeled_weight(step)
        valid = batch.valid[: len(batch.images)]
        own_confidence = outputs.weak.detach().float().softmax(dim=1).amax(dim=1)
        logits = outputs.weak if rules.stability_grad else outputs.weak.detach()
        for peer in peers.values():
            best = peer.max(dim=1)
            threshold = self.pseudo_label_rules(PseudoLabels(best.values, best.indices, valid)).threshold
            mask = learns_from_peer(own_confidence, best.values, threshold[best.indices])
            mask = mask if rules.stability_in_padding else mask & valid
            terms["stability"] = joined(terms.get("stability"), stability(logits, peer, mask, weight=weight))
        return terms


def joined(others: Term | None, term: Term) -> Term:
    """The stability term over all peers: `term` of one more peer joined to that of the `others`, None where none."""
    return term if others is None else Term(others.total + term.total, others.count + term.count, term.weight)
