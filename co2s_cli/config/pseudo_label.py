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
    """'auto', or a mapping from class names to thresholds, also from texts 'name=value,…'."""
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
    """Settings of `co2s pseudo-label`."""

    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Folder for the label and weight rasters, pseudo.json and data.yaml."""
    agree: Annotated[Literal["any", "both", "surer"] | None, Flag(panel="Labels")] = None
    """Source of a pixel's label. any: the fused map of co2s predict; both: both students, if they name the same class
    and both are sure; surer: the surer student. Default: surer if the model has two students, else any."""
    threshold: Annotated[Threshold | None, Flag(panel="Labels")] = None
    """Least confidence of a label that is kept. Default: 0.95."""
    threshold_per_class: Annotated[
        Literal["auto"] | dict[str, Threshold],
        BeforeValidator(parse_class_thresholds),
        Flag(panel="Labels", metavar="auto|NAME=VALUE", repeats=True),
    ] = Field(default_factory=dict)
    """Thresholds of single classes as NAME=VALUE,…; or auto: keep the surest --share of each class's pixels, over all
    scenes."""
    share: Annotated[float, Flag(panel="Labels")] = Field(0.5, gt=0, le=1)
    """Share of each class's pixels that --threshold-per-class auto keeps."""
    min_area: Annotated[int, Flag(panel="Labels")] = Field(0, ge=0)
    """Least size, in pixels, of a region of one class that is kept."""
    keep_labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """data.yaml of the last round with its human labels: they override pseudo-labels, and the same ones validate."""
    truth: Annotated[Path | None, Flag(panel="Labels")] = None
    """True labels to score the pseudo-labels against: a raster or polygons; for several scenes a folder of files with
    the scenes' names."""
    attribute: Annotated[str, Flag(panel="Labels")] = "class"
    """Attribute of polygons in --truth that holds class names or ids."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Labels", metavar="VALUE=CLASS,…", repeats=True),
    ] = Field(default_factory=dict)
    """Class of each value in --truth: 1=water,2=forest,0=none."""
    weight: Annotated[Threshold | Literal["confidence"], Flag(panel="Labels", metavar="NUMBER|confidence")] = (
        "confidence"
    )
    """Weight of a pseudo-label in the training loss: a number, or its confidence. Human labels weigh 1."""

    @model_validator(mode="after")
    def _one_threshold_rule(self) -> PseudoLabelConfig:
        if self.threshold_per_class == "auto" and self.threshold is not None:
            raise ValueError("--threshold and --threshold-per-class auto exclude each other")
        if self.threshold_per_class != "auto" and "share" in self.model_fields_set:
            raise ValueError("--share belongs to --threshold-per-class auto")
        return self

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Refuse a threshold for a class that is not among `class_names`, the model's classes.

        Raises:
            ConfigError: names the unknown classes and the model's.
        """
        thresholds = self.threshold_per_class
        unknown = set() if thresholds == "auto" else thresholds.keys() - set(class_names)
        if unknown:
            raise ConfigError(
                f"--threshold-per-class {', '.join(sorted(unknown))}: no class of the model ({', '.join(class_names)})"
            )
