"""Settings of `co2s pseudo-label`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.evaluate import parse_values
from co2s_cli.config.flags import Flag
from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import ConfigError

DEFAULT_THRESHOLD = 0.95


def parse_class_thresholds(value: Any) -> Any:
    """'auto', or thresholds of classes as a mapping or as texts 'name=value'."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple):
        if [str(text).strip().lower() for text in texts] == ["auto"]:
            return "auto"
        pairs = [part.rpartition("=") for text in texts for part in str(text).split(",")]
        if not all(name and sign for name, sign, _ in pairs):
            raise ValueError("wants auto, or NAME=VALUE,… for single classes")
        return {name.strip(): number.strip() for name, _, number in pairs}
    return value


Threshold = Annotated[float, Field(ge=0, le=1)]


class PseudoLabelConfig(MapConfig):
    """Labels made of what a model is sure of, and a data.yaml that trains on them."""

    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Folder for the rasters, pseudo.json and data.yaml."""
    agree: Annotated[Literal["any", "both", "surer"] | None, Flag(panel="Labels")] = None
    """any: the fused map, as predict makes it; both: both students name the class and are sure; surer: the surer one
    names it. surer where nothing is said and the model has two students."""
    threshold: Annotated[Threshold | None, Flag(panel="Labels")] = None
    """Confidence from which on a label is kept; 0.95 where nothing is said."""
    threshold_per_class: Annotated[
        Literal["auto"] | dict[str, Threshold],
        BeforeValidator(parse_class_thresholds),
        Flag(panel="Labels", metavar="auto|NAME=VALUE", repeats=True),
    ] = Field(default_factory=dict)
    """auto: in each class the surest --share of its pixels over all scenes; or NAME=VALUE,… for single classes."""
    share: Annotated[float, Flag(panel="Labels")] = Field(0.5, gt=0, le=1)
    """Share of the pixels of each class that --threshold-per-class auto keeps."""
    min_area: Annotated[int, Flag(panel="Labels")] = Field(0, ge=0)
    """Regions of one class with fewer pixels are not kept."""
    keep_labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """data.yaml with human labels: they stay on top, and validate the next round as they did the last one."""
    truth: Annotated[Path | None, Flag(panel="Labels")] = None
    """True labels to measure with: a raster or polygons; a folder of them, called as the scenes are, for several."""
    attribute: Annotated[str, Flag(panel="Labels")] = "class"
    """Attribute of polygons in --truth that holds class names or ids."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Labels", metavar="VALUE=CLASS,…", repeats=True),
    ] = Field(default_factory=dict)
    """What values of --truth mean: 1=water,2=forest,0=none."""
    weight: Annotated[Threshold | Literal["confidence"], Flag(panel="Labels", metavar="NUMBER|confidence")] = (
        "confidence"
    )
    """How much a pseudo-label counts in training: a number, or confidence: as much as it is sure. A human one: 1."""

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> PseudoLabelConfig:
        if self.threshold_per_class == "auto" and self.threshold is not None:
            raise ValueError("--threshold and --threshold-per-class auto are two ways to cut, one is wanted")
        if self.threshold_per_class != "auto" and "share" in self.model_fields_set:
            raise ValueError("--share belongs to --threshold-per-class auto")
        return self

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse a threshold for a class that is not among those of the model.

        Raises:
            ConfigError: names both.
        """
        given = self.threshold_per_class
        unknown = set() if given == "auto" else given.keys() - set(known)
        if unknown:
            raise ConfigError(
                f"--threshold-per-class {', '.join(sorted(unknown))}: no class of the model ({', '.join(known)})"
            )
