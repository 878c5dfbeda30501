"""Co2S: UniMatch for two students, and where one of them is surer it teaches the other."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.training.losses import Term, learns, stability
from co2s_cli.training.methods.self_training import UniMatch
from co2s_cli.training.schedule import ramp
from co2s_cli.training.views import Views


class Co2s(UniMatch):
    """L = UniMatch's + λ(t) · L_sta; λ lies outside the division by two."""

    mutual = True
    own_weak = True

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss."""
        found = super().terms(view, batch, peers, step)
        rules = self.rules
        weight = ramp(step, rules.steps, peak=rules.stability_weight, share=rules.ramp_share)
        valid = batch.valid[: len(batch.images)]
        sure = view.weak.detach().float().softmax(dim=1).amax(dim=1)
        taught = view.weak if rules.stability_grad else view.weak.detach()
        for peer in peers.values():
            best = peer.max(dim=1)
            mask = learns(sure, best.values, rules.threshold[best.indices])
            mask = mask if rules.stability_in_padding else mask & valid
            found["stability"] = stability(taught, peer, mask, weight=weight)
        return found
