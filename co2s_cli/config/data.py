"""Settings of a data.yaml: classes, labelled images, unlabelled images, validation, bands and scaling."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from co2s_cli.addresses import address_of
from co2s_cli.classes import ClassMap
from co2s_cli.cloud import local_copy
from co2s_cli.config.base import Settings, load
from co2s_cli.config.units import Nodata, parse_bands, span
from co2s_cli.errors import InputError
from co2s_cli.limits import MAX_SIDE

_Offset = Annotated[int, Field(ge=0, le=MAX_SIDE)]
_Size = Annotated[int, Field(gt=0, le=MAX_SIDE)]

Box = tuple[_Offset, _Offset, _Size, _Size]
"""Row, column, height and width in pixels of the image."""


def _parse_picked(value: Any) -> Any:
    """As `parse_bands`; but in a list texts are names, which may be digits and hold commas, or spans."""
    if not isinstance(value, list | tuple):
        return parse_bands(value)
    return [band for item in value for band in ([item] if type(item) is int else span(str(item)) or [str(item)])]


Picked = Annotated[tuple[int | str, ...], BeforeValidator(_parse_picked)]
"""Bands of a file, by number (from 1) or by name."""


class LabeledEntry(Settings):
    """An image with its labels, or a folder of chips with a folder of label rasters."""

    image: str
    """A raster, or a folder of chips."""
    labels: Path
    """Labels of the image: a raster on the image's grid or a vector file with a class attribute, each as a path or an
    address; for a folder of chips, a folder of label rasters."""
    attribute: str = "class"
    """Attribute of a vector file that holds class names or ids."""
    values: dict[int | str, int | str | None] = Field(default_factory=dict)
    """Class of each label value, by name or id, or null for "not labelled". Default: values are class names or ids."""
    windows: tuple[Box, ...] = ()
    """Parts of the image to use, each [row, column, height, width] in pixels. Default: the whole image."""
    weights: Annotated[float, Field(ge=0)] | Path | None = None
    """Weight of these labels in the loss: a number, a raster on the image's grid, or a folder of such rasters. If `val`
    is a share, it is drawn from the labels without weights, as long as there are any."""
    bands: Picked = ()
    """The image's bands, by number (from 1) or name, in the order of the top-level `bands`. Default: found by their
    names in the file, or taken in file order if the names are unknown."""
    nodata: Nodata = None
    """Nodata value of the image; overrides the one in the file. none: every value is data."""
    columns: tuple[Literal["image", "labels"], ...] = ("image", "labels")
    """Meaning of the words in a line of `list`: file names, or paths relative to the image or label folder or to its
    parent. Labels that the list does not name have the image's file name."""
    list: Path | None = None
    """For folders of chips: a text file with the chips to use, one per line."""


class ScalingEntry(Settings):
    """Digital numbers that are scaled to 0 and 1, for each band. If both are equal, the band carries no information."""

    dtype: str = "uint8"
    """Sample type of all images."""
    low: tuple[float, ...]
    """Digital number that becomes 0, for each band."""
    high: tuple[float, ...]
    """Digital number that becomes 1, for each band; not below `low`."""

    @model_validator(mode="after")
    def _ranges(self) -> ScalingEntry:
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=False)):
            raise ValueError("wants low <= high for each band")
        return self


class UnlabeledEntry(Settings):
    """An image to learn from without labels, or a folder of such chips."""

    image: str
    """A raster, or a folder of chips."""
    bands: Picked = ()
    """The image's bands, as for labelled images."""
    nodata: Nodata = None
    """Nodata value, as for labelled images."""
    list: Path | None = None
    """For folders of chips: a text file with the chips to use, one per line."""


class DataConfig(Settings):
    """Keys of a data.yaml."""

    classes: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    """The classes; the position in the list is the class id."""
    labeled: tuple[LabeledEntry, ...] = Field(min_length=1)
    """Images with labels; label value 255 means "not labelled"."""
    unlabeled: tuple[UnlabeledEntry, ...] = ()
    """Images to learn from without labels."""
    val: tuple[LabeledEntry, ...] | float = 0.2
    """Validation labels: a list of images with labels, or the share of the labelled pixels to hold back, drawn as whole
    polygons, blocks or chips."""
    bands: Picked = ()
    """Bands that the model sees, by name or by number (from 1) in the first labelled image; those of other images are
    found by the same names, or have the same numbers if bands have no names. Default: all bands that the labelled
    images share, without alpha; three bands without names are red, green, blue."""
    scaling: ScalingEntry | None = None
    """Digital numbers that are scaled to 0 and 1. Default: measured on the images."""
    split_by: Literal["chip", "tile"] = "chip"
    """If `val` is a share and the images are chips in a folder: hold back single chips, or all chips of a tile."""
    tile: str = ""
    """Regular expression, matched to the start of a chip's file name without suffix; its first group is the tile that
    the chip was cut from. Default: the name without the one or two numbers at its end."""
    ground_resolution: float | None = Field(default=None, gt=0)
    """Metres per pixel. Default: read from the images."""

    @field_validator("classes")
    @classmethod
    def _are_classes(cls, value: tuple[dict[str, Any] | str, ...]) -> tuple[dict[str, Any] | str, ...]:
        ClassMap.of(value)
        return value

    @field_validator("unlabeled", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        """An entry that is a plain string is the name of an image."""
        return [{"image": item} if isinstance(item, str) else item for item in value or ()]

    @field_validator("val")
    @classmethod
    def _check_val(cls, value: tuple[LabeledEntry, ...] | float) -> tuple[LabeledEntry, ...] | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("a share of the labels lies between 0 and 1")
        if isinstance(value, tuple) and not value:
            raise ValueError("wants images with labels, or a share such as 0.2")
        return value

    @model_validator(mode="after")
    def _fits_itself(self) -> DataConfig:
        problem = self.band_conflict(self.bands) if self.bands else None
        if problem is not None:
            raise ValueError(problem)
        return self

    def band_conflict(self, bands: Picked) -> str | None:
        """Error message if scaling or an entry has another number of bands than `bands`; None if all fit."""
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
        """Every file and folder that the data.yaml names."""
        labeled = [*self.labeled, *(self.val if isinstance(self.val, tuple) else ())]
        label_paths = [path for entry in labeled for path in (entry.labels, entry.weights) if isinstance(path, Path)]
        entries: list[LabeledEntry | UnlabeledEntry] = [*labeled, *self.unlabeled]
        return [*(entry.image for entry in entries), *label_paths, *(entry.list for entry in entries if entry.list)]

    @property
    def band_names(self) -> tuple[str, ...]:
        """The names in `bands`, after `data.sources.with_bands` has put names in place of numbers."""
        if any(isinstance(band, int) for band in self.bands):
            raise ValueError(f"bands by number have no names yet: {self.bands}")
        return tuple(map(str, self.bands))

    @property
    def class_map(self) -> ClassMap:
        """The classes with names, colours and prompts."""
        return ClassMap.of(self.classes)


_MAX_PARENTS = 2
"""Most `..` in a path that is written relative to the data.yaml: from runs/a up to the folder around runs."""

E = TypeVar("E", LabeledEntry, UnlabeledEntry)


def read_data(path: Path) -> DataConfig:
    """The settings in the data.yaml at `path`; its relative paths are joined to its folder.

    Raises:
        InputError: there is no such file.
        ConfigError: its content is not valid.
    """
    if not path.exists():
        raise InputError(
            f"{path}: no such file",
            hint="`co2s init SCENE --labels polygons.gpkg` writes one, `co2s sample DIR` one with made-up scenes",
        )
    return placed(load(DataConfig, path, {}), path.parent)


def placed(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with every relative path joined to `folder`."""
    return _with_paths(data, lambda path: folder / path)


def relative(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with every path relative to `folder`, as a data.yaml in that folder names it."""
    return _with_paths(data, lambda path: Path(os.path.relpath(path.resolve(), folder.resolve())))


def portable(data: DataConfig, folder: Path) -> DataConfig:
    """`data` with nearby paths relative to `folder`, so that data and folder can be moved together; others absolute."""

    def move(path: Path) -> Path:
        from_folder = Path(os.path.relpath(path.resolve(), folder.resolve()))
        return path.resolve() if from_folder.parts.count("..") > _MAX_PARENTS else from_folder

    return _with_paths(data, move)


def _with_paths(data: DataConfig, move: Callable[[Path], Path]) -> DataConfig:
    """`data` with `move` applied to every local path."""
    val = data.val if isinstance(data.val, float) else tuple(_move_labeled(entry, move) for entry in data.val)
    return data.model_copy(
        update={
            "labeled": tuple(_move_labeled(entry, move) for entry in data.labeled),
            "unlabeled": tuple(_move_image(entry, move) for entry in data.unlabeled),
            "val": val,
        }
    )


def _move_labeled(entry: LabeledEntry, move: Callable[[Path], Path]) -> LabeledEntry:
    weights = _moved_or_fetched(entry.weights, move) if isinstance(entry.weights, Path) else entry.weights
    labels = _moved_or_fetched(entry.labels, move)
    return _move_image(entry, move).model_copy(update={"labels": labels, "weights": weights})


def _moved_or_fetched(path: Path, move: Callable[[Path], Path]) -> Path:
    """`move(path)` for a local path; the downloaded local copy for an address."""
    return local_copy(path) if address_of(path) else move(path)


def _move_image(entry: E, move: Callable[[Path], Path]) -> E:
    image = entry.image if "://" in entry.image or entry.image.startswith("/vsi") else str(move(Path(entry.image)))
    return entry.model_copy(update={"image": image, "list": move(entry.list) if entry.list else None})
