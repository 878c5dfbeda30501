"""Co2S: UniMatch for two students, and where one of them is surer it teaches the other."""

from __future__ import annotations

from collections.abc import Mapping

from co2s_cli.data.loader import Batch
from co2s_cli.training.losses import Term, learns, stability
from co2s_cli.training.methods.self_training import UniMatch
from co2s_cli.training.schedule import ramp
from co2s_cli.training.views import Views


class Co2s(UniMatch):
    """L = UniMatch's + λ(t) · L_sta; λ lies outside the division by two."""

    def terms(self, views: Mapping[str, Views], batch: Batch, step: int) -> dict[str, Term]:
        """Parts of the loss by `student/part`."""
        found = super().terms(views, batch, step)
        rules = self.rules
        weight = ramp(step, rules.steps, peak=rules.stability_weight, share=rules.ramp_share)
        valid = batch.valid[: len(batch.images)]
        chances = {name: view.weak.detach().float().softmax(dim=1) for name, view in views.items()}
        sure = {name: chance.max(dim=1) for name, chance in chances.items()}
        for name, view in views.items():
            for peer in views.keys() - {name}:
                mask = learns(sure[name].values, sure[peer].values, rules.threshold[sure[peer].indices])
                mask = mask if rules.stability_in_padding else mask & valid
                taught = view.weak if rules.stability_grad else view.weak.detach()
                found[f"{name}/stability"] = stability(taught, chances[peer], mask, weight=weight, group=rules.group)
        return found
