"""Parameter groups of the optimiser, each with its learning rate."""

from __future__ import annotations

from co2s_cli.models.ensemble import Ensemble


def parameter_groups(
    ensemble: Ensemble, lr: float, *, backbone: float, decoder: float, queries: float
) -> list[dict[str, object]]:
    """For each student the groups of its backbone, learnable queries and decoder, with their factors of the rate `lr`.

    The fusion layers of a dense student belong to its decoder. A group keeps its base rate in `base`, which the
    schedule multiplies.
    """
    groups: list[dict[str, object]] = []
    factors = {"backbone": backbone, "queries": queries, "decoder": decoder}
    for name, student in ensemble.students.items():
        for part, modules in student.parts().items():  # type: ignore[operator]
            rate = lr * factors[part]
            parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
            if parameters:
                groups.append({"params": parameters, "lr": rate, "base": rate, "name": f"{name}/{part}"})
    return groups
