"""Training methods by name: which views each needs, and the loss terms that it computes from the students' outputs."""

from co2s_cli.training.methods.self_training import Co2s, FixMatch, MethodRules, Supervised, UniMatch

METHODS: dict[str, type[Supervised]] = {
    "supervised": Supervised,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "co2s": Co2s,
}

__all__ = ["METHODS", "MethodRules", "Supervised"]
