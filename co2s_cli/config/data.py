"""What a data.yaml says: classes, labelled scenes, unlabelled scenes, validation, bands and scaling."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from co2s_cli.addresses import address_of
from co2s_cli.classes import ClassMap
from co2s_cli.cloud import local_copy
from co2s_cli.config.base import Settings, load
from co2s_cli.config.units import Nodata
from co2s_cli.errors import InputError
from co2s_cli.limits import MAX_SIDE

_Place = Annotated[int, Field(ge=0, le=MAX_SIDE)]
_Size = Annotated[int, Field(gt=0, le=MAX_SIDE)]

Box = tuple[_Place, _Place, _Size, _Size]
"""Row, column, height and width in pixels of the image."""

Picked = tuple[int | str, ...]
"""Bands of a file, by number from 1 or by name."""


class LabeledEntry(Settings):
    """An image with its labels, or a folder of chips with the folder of theirs."""

    image: str
    """A raster, or a folder of chips."""
    labels: Path
    """A label raster on the image's grid, a vector file with a class attribute, an address of one, or a folder of label
    rasters."""
    attribute: str = "class"
    """Attribute of a vector file that holds class names or ids."""
    values: dict[int | str, int | str | None] = Field(default_factory=dict)
    """What a value of the labels means: a class by name or id, or null for "not labelled". Empty: ids as they are."""
    windows: tuple[Box, ...] = ()
    """Parts of the image to use, [row, column, height, width]; all of it if not given."""
    weights: Annotated[float, Field(ge=0)] | Path | None = None
    """How much these labels count: a number, a raster on the image's grid, or a folder of such rasters. Labels with
    weights are no truth to measure with: where `val` is a share, it is drawn from the others."""
    bands: Picked = ()
    """Bands of the image, by number from 1 or by name, that are `bands:`; its own order or names if not given."""
    nodata: Nodata = None
    """Value without data in the image, whatever the file says; none: every value is data."""
    columns: tuple[Literal["image", "labels"], ...] = ("image", "labels")
    """What the words of a line of the list are; paths from their folder or the one around it, or names alone. Where
    the list does not name the labels, they have the image's name."""
    list: Path | None = None
    """For folders: a file that lists the chips to use, one a line."""


class ScalingEntry(Settings):
    """Digital numbers that become 0 and 1, by band; a band for which they are one number holds nothing to learn."""

    dtype: str = "uint8"
    """Type of the samples of every image."""
    low: tuple[float, ...]
    """What becomes 0, by band."""
    high: tuple[float, ...]
    """What becomes 1, by band; not below `low`."""

    @model_validator(mode="after")
    def _ranges(self) -> ScalingEntry:
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=False)):
            raise ValueError("wants low <= high for each band")
        return self


class UnlabeledEntry(Settings):
    """Scenes to learn from without labels."""

    image: str
    """A raster, or a folder of chips."""
    bands: Picked = ()
    """As for labelled images."""
    nodata: Nodata = None
    """As for labelled images."""
    list: Path | None = None
    """For folders: a file that lists the chips to use, one a line."""


class DataConfig(Settings):
    """A data.yaml."""

    classes: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    """The classes; a position is an id."""
    labeled: tuple[LabeledEntry, ...] = Field(min_length=1)
    """Images with labels; 255 is "not labelled"."""
    unlabeled: tuple[UnlabeledEntry, ...] = ()
    """Images without labels."""
    val: tuple[LabeledEntry, ...] | float = 0.2
    """Labels held back to validate with: files, or the share of the labels to draw, by blocks or whole chips."""
    bands: tuple[str, ...] = ()
    """Names of the bands, by which they are picked from images that have more. If not given: all bands of the labelled
    images but alpha, by the names in the files; three bands without names are red, green, blue."""
    scaling: ScalingEntry | None = None
    """Ranges of the digital numbers; found from the images if not given."""
    split_by: Literal["chip", "tile"] = "chip"
    """What `val` as a share is drawn of, where the images are chips in a folder: chips, or the tiles they were cut
    from."""
    tile: str = ""
    """Regular expression whose first group is the tile of a chip, of its name without suffix; numbers behind the last
    underscores are taken away if not given."""
    ground_resolution: float | None = Field(default=None, gt=0)
    """Metres per pixel; asked of the images if not given."""

    @field_validator("classes")
    @classmethod
    def _are_classes(cls, value: tuple[dict[str, Any] | str, ...]) -> tuple[dict[str, Any] | str, ...]:
        ClassMap.of(value)
        return value

    @field_validator("unlabeled", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        """A plain name stands for an image."""
        return [{"image": item} if isinstance(item, str) else item for item in value or ()]

    @field_validator("val")
    @classmethod
    def _share(cls, value: tuple[LabeledEntry, ...] | float) -> tuple[LabeledEntry, ...] | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("a share of the labels lies between 0 and 1")
        if isinstance(value, tuple) and not value:
            raise ValueError("wants images with labels, or a share such as 0.2")
        return value

    @model_validator(mode="after")
    def _fits_itself(self) -> DataConfig:
        misfit = self.misfit(self.bands) if self.bands else None
        if misfit is not None:
            raise ValueError(misfit)
        return self

    def misfit(self, bands: tuple[str, ...]) -> str | None:
        """What of the file does not go with bands of these names; None if all does."""
        if self.scaling is not None and len(self.scaling.low) != len(bands):
            return f"scaling has {len(self.scaling.low)} ranges for {len(bands)} bands"
        val = self.val if isinstance(self.val, tuple) else ()
        entries: list[LabeledEntry | UnlabeledEntry] = [*self.labeled, *self.unlabeled, *val]
        for entry in entries:
            if entry.bands and len(entry.bands) != len(bands):
                return f"{entry.image}: picks {len(entry.bands)} bands where {len(bands)} are named"
        return None

    @property
    def files(self) -> list[str | Path]:
        """Every file and folder that it names."""
        labeled = [*self.labeled, *(self.val if isinstance(self.val, tuple) else ())]
        named = [path for entry in labeled for path in (entry.labels, entry.weights) if isinstance(path, Path)]
        entries: list[LabeledEntry | UnlabeledEntry] = [*labeled, *self.unlabeled]
        return [*(entry.image for entry in entries), *named, *(entry.list for entry in entries if entry.list)]

    @property
    def class_map(self) -> ClassMap:
        """The classes as the rest of the house knows them."""
        return ClassMap.of(self.classes)


_NEAR = 2
"""Folders up to which a path is written as seen from the data.yaml: a run in runs/a sees the scene beside runs."""

E = TypeVar("E", LabeledEntry, UnlabeledEntry)


def read_data(path: Path) -> DataConfig:
    """The data.yaml at `path`, its relative paths taken from its folder.

    Raises:
        InputError, ConfigError: there is none, or it says what a data.yaml cannot say.
    """
    if not path.exists():
        raise InputError(
            f"{path}: no such file",
            hint="`co2s init SCENE --labels polygons.gpkg` writes one, `co2s sample DIR` one with made-up scenes",
        )
    return placed(load(DataConfig, path, {}), path.parent)


def placed(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with every relative path below `folder`."""
    return _with_paths(data, lambda path: folder / path)


def relative(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with every path as seen from `folder`: what a data.yaml in it says."""
    return _with_paths(data, lambda path: Path(os.path.relpath(path.resolve(), folder.resolve())))


def portable(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with paths as seen from `folder` where they are near, so that both may move together, else whole ones."""

    def move(path: Path) -> Path:
        seen = Path(os.path.relpath(path.resolve(), folder.resolve()))
        return path.resolve() if seen.parts.count("..") > _NEAR else seen

    return _with_paths(data, move)


def _with_paths(data: DataConfig, move: Callable[[Path], Path]) -> DataConfig:
    val = data.val if isinstance(data.val, float) else tuple(_labeled(entry, move) for entry in data.val)
    return data.model_copy(
        update={
            "labeled": tuple(_labeled(entry, move) for entry in data.labeled),
            "unlabeled": tuple(_moved(entry, move) for entry in data.unlabeled),
            "val": val,
        }
    )


def _labeled(entry: LabeledEntry, move: Callable[[Path], Path]) -> LabeledEntry:
    weights = _path(entry.weights, move) if isinstance(entry.weights, Path) else entry.weights
    return _moved(entry, move).model_copy(update={"labels": _path(entry.labels, move), "weights": weights})


def _path(path: Path, move: Callable[[Path], Path]) -> Path:
    """A path that is moved; the copy on this machine of what lies at an address."""
    return local_copy(path) if address_of(path) else move(path)


def _moved(entry: E, move: Callable[[Path], Path]) -> E:
    image = entry.image if "://" in entry.image or entry.image.startswith("/vsi") else str(move(Path(entry.image)))
    return entry.model_copy(update={"image": image, "list": move(entry.list) if entry.list else None})
