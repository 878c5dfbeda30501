"""Activation and image statistics that CLIP weights were trained with, which the weights themselves do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from co2s_cli.errors import ModelError
from co2s_cli.models.weight_files import activation_of

NONE = "none"

QUICK = "-quickgelu"
"""Suffix of open_clip's names of networks with QuickGELU."""

Statistics = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ClipTraining:
    """Activation and band statistics with which both towers of a CLIP give the features that it was trained for."""

    quick_gelu: bool
    """Whether the activation is QuickGELU; else the exact GELU."""
    mean: Statistics = open_clip.OPENAI_DATASET_MEAN
    std: Statistics = open_clip.OPENAI_DATASET_STD


@dataclass(frozen=True, slots=True)
class ClipWeights:
    """Weights as given on a command line: `TAG`, `FILE`, or `TAG=FILE` for a file that holds the weights of a tag."""

    tag: str = ""
    file: Path | None = None

    @classmethod
    def parse(cls, name: str, weights: str) -> ClipWeights:
        """The parts of `weights` for the network that open_clip calls `name`."""
        path = Path(weights)
        if path.suffix and path.is_file():
            return cls(file=path)
        tag, equals, file = weights.partition("=")
        if equals and open_clip.get_pretrained_cfg(name, tag):
            return cls(tag, Path(file))
        return cls(file=path) if path.suffix else cls(weights)


def training_of(name: str, weights: str) -> ClipTraining:
    """How the CLIP `name` with these `weights` (a tag, a file or `none`) was trained.

    open_clip knows it for a tag. For a file the activation follows from the network's name (`ViT-B-16-quickgelu`), from
    the file itself (OpenAI's archives) or from a configuration file in its folder.

    Raises:
        ModelError: the activation that a file's weights were trained with is unknown.
    """
    facts: Any = open_clip.get_model_config(name) or {}
    parsed = ClipWeights.parse(name, weights)
    if weights == NONE:
        return ClipTraining(quick_gelu=True)
    if parsed.tag:
        trained: Any = open_clip.get_pretrained_cfg(name, parsed.tag) or {}
        quick = bool(facts.get("quick_gelu") or trained.get("quick_gelu"))
        mean, std = trained.get("mean"), trained.get("std")
        return ClipTraining(quick, mean or open_clip.OPENAI_DATASET_MEAN, std or open_clip.OPENAI_DATASET_STD)
    assert parsed.file is not None
    if facts.get("quick_gelu"):
        return ClipTraining(quick_gelu=True)
    activation = activation_of(parsed.file)
    if activation is None and parsed.file.is_file():
        tags = open_clip.list_pretrained_tags_by_model(name)
        known = next((tag for tag in tags if tag != "openai"), "TAG")
        raise ModelError(
            f"{parsed.file}: does not say if it was trained with QuickGELU (as by OpenAI) or GELU (LAION, DataComp)",
            hint=f"name {name}{QUICK} for QuickGELU, or the tag whose weights it holds: {known}={parsed.file.name}",
        )
    return ClipTraining(quick_gelu=activation == "quickgelu")
