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
"""Settings that say where the labels of a model's areas are, and how it is run."""

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
    """Map to judge: a class raster, 255 is no class. With --model: the data.yaml whose labels are the truth, or with
    --root a published data set, as train and distill take it."""
    truth: Annotated[Path | None, Argument("TRUTH")] = None
    """What is true: a label raster on any grid, or polygons; 255 and nodata are not looked at."""
    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file to judge instead of a map: it maps the labelled areas of data.yaml first."""
    root: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder of a published data set, with its folders of images and labels."""
    splits: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder with the published lists of that data set."""
    split: Annotated[Literal["val", "labeled", "test"], Flag(panel="Input")] = "val"
    """Which labels of the data: those that validate, those that train, or with --splits those that test.txt lists."""
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
    """plain: classes in the truth; mask: without the pixels of --exclude; dwl: with them, without their row; published:
    every class but those of --exclude, an absent one as 0, and a model's windows as in the paper's code (that of the
    published data set, else that of Co2S)."""
    exclude: Annotated[Names, Flag(panel="Scores", metavar="NAME,…")] = ()
    """Classes that --protocol mask, dwl or published leaves out, by name; if not given those that the paper of the
    published data set leaves out."""
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
            self._check_apart("MAP TRUTH", _OF_MODELS)
        if self.areas:
            self._check_apart("--areas", {"model", "protocol", "exclude", "missing", "tolerance", "confidence", "bins"})
        if self.protocol == "published":
            self._check_apart("--protocol published", {"overlap"})
        if self.protocol in ("mask", "dwl") and not self.left_out:
            raise ValueError(f"--protocol {self.protocol} wants --exclude NAME, the classes that it leaves out")
        if self.protocol == "plain" and self.exclude:
            raise ValueError("--exclude NAME wants --protocol mask, dwl or published")
        return self

    @model_validator(mode="after")
    def _names_its_data(self) -> EvaluateConfig:
        if self.root is None and self.model is not None and self.source in published_names():
            raise ValueError(f"data set {self.source} wants --root, the folder with its images and labels")
        if self.root is None and self.splits is not None:
            raise ValueError("--splits wants --root, the folder of a published data set")
        if self.split == "test" and self.splits is None:
            raise ValueError("--split test wants --splits, the folder with the published lists")
        return self

    @property
    def published(self) -> TrainingProtocol | None:
        """The protocol of the published data set, where there is one."""
        return None if self.root is None else find_protocol(self.source)

    @property
    def left_out(self) -> Names:
        """Classes that the scores leave out, by name."""
        if self.exclude or self.protocol == "plain" or self.published is None:
            return self.exclude
        return self.published.excluded

    def _check_apart(self, with_what: str, names: Set[str]) -> None:
        given = sorted(names & self.model_fields_set)
        if given:
            raise ValueError(f"{', '.join(given)}: not with {with_what}")
