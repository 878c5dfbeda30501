"""Settings of `co2s evaluate`."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.protocol import TrainingProtocol, find_protocol, published_names
from co2s_cli.config.vectorize import Names
from co2s_cli.students import Fusion

_OF_MODELS = frozenset(
    {"root", "splits", "split", "fusion", "tile", "overlap", "batch", "device", "precision"}
)  # fmt: skip
"""Settings that apply only to --model: which labelled areas to map, and how to run the model."""

_NO_CLASS = ("", "none", "null", "ignore")


def parse_values(value: Any) -> Any:
    """Class of each label value (None = not labelled), from '1=water,2=forest,0=none', several such texts or a mapping.

    Whole numbers in the texts become int.
    """
    if isinstance(value, dict):
        return value
    texts = [value] if isinstance(value, str) else list(value)
    pairs = [part for text in texts for part in str(text).split(",") if part.strip()]
    return dict(_pair(part) for part in pairs)


def _pair(text: str) -> tuple[int | str, int | str | None]:
    value, equals, class_name = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError("wants VALUE=CLASS, such as 1=water or 0=none")
    return _number(value), None if class_name.lower() in _NO_CLASS else _number(class_name)


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


class EvaluateConfig(Settings):
    """Settings of `co2s evaluate`: score a map, or a model, against the truth."""

    source: Annotated[str, Argument("MAP|DATA")]
    """Map to score: a class raster, 255 is no class. With --model: a data.yaml whose labels are the truth, or with
    --root a published data set, as for co2s train."""
    truth: Annotated[Path | None, Argument("TRUTH")] = None
    """True classes: a label raster on any grid, or polygons; pixels of 255 or nodata are ignored."""
    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file to score instead of a map; the model first maps the labelled areas of DATA."""
    root: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder of a published data set; it holds the folders of images and labels."""
    splits: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder with the published lists of chips of that data set."""
    split: Annotated[Literal["val", "labeled", "test"], Flag(panel="Input")] = "val"
    """Labels to score against: those for validation (val), for training (labeled), or, with --splits, of the chips in
    test.txt."""
    attribute: Annotated[str, Flag(panel="Input")] = "class"
    """Attribute of TRUTH's polygons that holds class names or ids."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Input", metavar="VALUE=CLASS,…", repeats=True),
    ] = Field(default_factory=dict)
    """Class of each value in TRUTH: 1=water,2=forest,0=none."""
    classes: Annotated[Path | None, Flag(panel="Input")] = None
    """data.yaml that names the class ids in TRUTH, and those in MAP if the map has no class names."""
    protocol: Annotated[Literal["plain", "mask", "dwl", "published"], Flag(panel="Scores")] = "plain"
    """plain: score the classes in the truth; mask: ignore pixels of the --exclude classes; dwl: count them, but leave
    their classes out of the means; published: average over all classes but --exclude, absent ones as 0, and run a model
    with the windows of the paper's code (of the published data set, else of Co2S)."""
    exclude: Annotated[Names, Flag(panel="Scores", metavar="NAME,…")] = ()
    """Names of the classes that --protocol mask, dwl or published leaves out. Default: those that the published data
    set's paper leaves out."""
    missing: Annotated[Literal["skip", "wrong"], Flag(panel="Scores")] = "skip"
    """Labelled pixels where the map has no class: skip them and report their share, or count them as wrong."""
    areas: Annotated[bool, Flag(panel="Scores")] = False
    """Estimate areas and accuracies with 95 % intervals; TRUTH holds the points of a stratified random sample."""
    tolerance: Annotated[float, Flag(panel="Scores")] = Field(3.0, ge=0, le=100)
    """Boundary F1: largest distance in pixels between matching boundaries."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Confidence raster of co2s predict: compare how sure the map is with how often it is right."""
    bins: Annotated[int, Flag(panel="Scores")] = Field(15, ge=1, le=254)
    """Confidence bins of the reliability curve."""
    out: Annotated[Path | None, Flag("--out", "-o", "--output", panel="Output")] = None
    """Folder for report.json, report.md, confusion.png and, with confidences, reliability.png."""
    fusion: Annotated[Fusion | None, Flag(panel="Model")] = None
    """How the students' probabilities are combined: mean, per pixel the surer student (confident), or one student
    alone. Default: as the model file says."""
    tile: Annotated[int | None, Flag("--tile", "--patch-size", panel="Model")] = Field(None, ge=16, le=16384)
    """Side of the model's windows in pixels. Default: as the model file says."""
    overlap: Annotated[float | None, Flag(panel="Model")] = Field(None, ge=0, le=0.9)
    """Share of a window's side that overlaps the next window. Default: as the model file says, mostly 0.25."""
    batch: Annotated[int, Flag("--batch", "--batch-size", panel="Speed")] = Field(1, ge=1)
    """Windows per batch."""
    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """Number format; auto: bf16 if the device is fast at it, else fp32."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace an existing report."""

    @model_validator(mode="after")
    def _check_combinations(self) -> EvaluateConfig:
        if self.model is None and self.truth is None:
            raise ValueError("wants MAP TRUTH, or --model MODEL data.yaml")
        if self.model is not None:
            self._refuse_with("--model", {"truth", "attribute", "values", "classes", "confidence"})
        else:
            self._refuse_with("MAP TRUTH", _OF_MODELS)
        if self.areas:
            self._refuse_with("--areas", {"model", "protocol", "exclude", "missing", "tolerance", "confidence", "bins"})
        if self.protocol == "published":
            self._refuse_with("--protocol published", {"overlap"})
        if self.protocol in ("mask", "dwl") and not self.left_out:
            raise ValueError(f"--protocol {self.protocol} wants --exclude NAME, the classes that it leaves out")
        if self.protocol == "plain" and self.exclude:
            raise ValueError("--exclude NAME wants --protocol mask, dwl or published")
        return self

    @model_validator(mode="after")
    def _check_data_set(self) -> EvaluateConfig:
        if self.root is None and self.model is not None and self.source in published_names():
            raise ValueError(f"data set {self.source} wants --root, the folder with its images and labels")
        if self.root is None and self.splits is not None:
            raise ValueError("--splits wants --root, the folder of a published data set")
        if self.split == "test" and self.splits is None:
            raise ValueError("--split test wants --splits, the folder with the published lists")
        return self

    @property
    def published(self) -> TrainingProtocol | None:
        """The protocol of the published data set; None without --root."""
        return None if self.root is None else find_protocol(self.source)

    @property
    def left_out(self) -> Names:
        """Names of the classes that the scores leave out: those of --exclude, else those of the published protocol."""
        if self.exclude or self.protocol == "plain" or self.published is None:
            return self.exclude
        return self.published.excluded

    def _refuse_with(self, option: str, names: Set[str]) -> None:
        """Refuse settings among `names` that the user gave together with `option`."""
        conflicts = sorted(names & self.model_fields_set)
        if conflicts:
            raise ValueError(f"{', '.join(conflicts)}: not with {option}")
