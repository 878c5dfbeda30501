"""Settings of `co2s evaluate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.vectorize import Names
from co2s_cli.students import Fusion

_NOTHING = ("", "none", "null", "ignore")


def parse_values(value: Any) -> Any:
    """What each value means, of '1=water,2=forest,0=none', several such texts, or a mapping."""
    if isinstance(value, dict):
        return value
    texts = [value] if isinstance(value, str) else list(value)
    pairs = [part for text in texts for part in str(text).split(",") if part.strip()]
    return dict(_pair(part) for part in pairs)


def _pair(text: str) -> tuple[int | str, int | str | None]:
    value, equals, meaning = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError("wants VALUE=CLASS, such as 1=water or 0=none")
    return _number(value), None if meaning.lower() in _NOTHING else _number(meaning)


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


class EvaluateConfig(Settings):
    """A map, or a model, against the truth."""

    source: Annotated[str, Argument("MAP|DATA")]
    """Map to judge: a class raster, 255 is no class. With --model: the data.yaml whose labels are the truth."""
    truth: Annotated[Path | None, Argument("TRUTH")] = None
    """What is true: a label raster on any grid, or polygons; 255 and nodata are not looked at."""
    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file to judge instead of a map: it maps the labelled areas of data.yaml first."""
    split: Annotated[Literal["val", "labeled"], Flag(panel="Input")] = "val"
    """Which labels of data.yaml: those that validate, or those that it was trained on."""
    attribute: Annotated[str, Flag(panel="Input")] = "class"
    """Attribute of a vector file that holds class names or ids."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Input", metavar="VALUE=CLASS,…", repeats=True),
    ] = Field(default_factory=dict)
    """What values of the truth mean: 1=water,2=forest,0=none."""
    classes: Annotated[Path | None, Flag(panel="Input")] = None
    """data.yaml whose classes the ids in the truth are, and in the map where that has no names of its own."""
    protocol: Annotated[Literal["plain", "mask", "dwl", "published"], Flag(panel="Scores")] = "plain"
    """plain: classes that the truth holds; mask: without the pixels of --exclude; dwl: with them, without their row;
    published: every class, an absent one as 0, and a model's windows as in the Co2S code."""
    exclude: Annotated[Names, Flag(panel="Scores", metavar="NAME,…")] = ()
    """Classes that --protocol mask or dwl leaves out, by name."""
    missing: Annotated[Literal["skip", "wrong"], Flag(panel="Scores")] = "skip"
    """Labelled pixels where the map has no class. skip: left out, and their share is told; wrong: they are wrong."""
    areas: Annotated[bool, Flag(panel="Scores")] = False
    """TRUTH is points of a stratified random sample: areas and accuracies with 95 % intervals."""
    tolerance: Annotated[float, Flag(panel="Scores")] = Field(3.0, ge=0, le=100)
    """Pixels within which a border counts as met."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Raster of confidences as predict writes it: how sure the map is against how right it is."""
    bins: Annotated[int, Flag(panel="Scores")] = Field(15, ge=1, le=254)
    """Steps of the reliability curve."""
    out: Annotated[Path | None, Flag("--out", "-o", "--output", panel="Output")] = None
    """Folder for report.json, report.md, confusion.png and, where confidences are known, reliability.png."""
    fusion: Annotated[Fusion | None, Flag(panel="Model")] = None
    """How the model's students become one; as the model says where nothing is said."""
    tile: Annotated[int | None, Flag("--tile", "--patch-size", panel="Model")] = Field(None, ge=16, le=16384)
    """Side of the model's windows; its own where nothing is said."""
    overlap: Annotated[float, Flag(panel="Model")] = Field(0.25, ge=0, le=0.9)
    """Part of a window that it shares with its neighbours."""
    batch: Annotated[int, Flag("--batch", "--batch-size", panel="Speed")] = Field(1, ge=1)
    """Windows in a batch."""
    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """auto: bf16 where the device is quick at it, else fp32."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace a report that exists."""

    @model_validator(mode="after")
    def _fits_itself(self) -> EvaluateConfig:
        if self.model is None and self.truth is None:
            raise ValueError("wants MAP TRUTH, or --model MODEL data.yaml")
        if self.model is not None:
            self._check_apart("--model", {"truth", "attribute", "values", "classes", "confidence"})
        else:
            self._check_apart("MAP TRUTH", {"split", "fusion", "tile", "overlap", "batch", "device", "precision"})
        if self.areas:
            self._check_apart("--areas", {"model", "protocol", "exclude", "missing", "tolerance", "confidence", "bins"})
        if self.protocol == "published":
            self._check_apart("--protocol published", {"overlap"})
        if (self.protocol in ("mask", "dwl")) != bool(self.exclude):
            raise ValueError("--exclude NAME and --protocol mask or dwl belong together")
        return self

    def _check_apart(self, with_what: str, names: set[str]) -> None:
        given = sorted(names & self.model_fields_set)
        if given:
            raise ValueError(f"{', '.join(given)}: not with {with_what}")
