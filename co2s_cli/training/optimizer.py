"""Optimiser groups of the students, and which rate each of them trains at."""

from __future__ import annotations

from co2s_cli.models.ensemble import Ensemble


def parameter_groups(
    ensemble: Ensemble, lr: float, *, backbone: float, decoder: float, queries: float
) -> list[dict[str, object]]:
    """Optimiser groups: for each student its backbone, its learnable queries and its decoder, by their factor of `lr`.

    To the decoder of a dense student belongs what it fuses with. The base rate is kept in `base`; the schedule
    multiplies it.
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
