"""Settings of `co2s vectorize`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.units import Bytes

_MAX_AMOUNT = 1e15
"""Pixels, metres or square metres: the surface of the earth has 5e14 m²."""

_SQUARE_METRES = {"m2": 1.0, "m²": 1.0, "ha": 1e4, "km2": 1e6, "km²": 1e6}


@dataclass(frozen=True, slots=True)
class Amount:
    """A length or an area, in pixels or in (square) metres."""

    value: float
    unit: Literal["px", "m", "m2"]

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def parse_area(text: Any) -> Any:
    """Square metres or pixels of '100m2', '0.5ha', '20px' or a plain number of square metres."""
    return (
        text
        if isinstance(text, Amount)
        else _parse(
            text,
            {"px": ("px", 1.0), "": ("m2", 1.0)} | {unit: ("m2", factor) for unit, factor in _SQUARE_METRES.items()},
            "an area such as 100m2, 0.5ha or 20px",
        )
    )


def parse_length(text: Any) -> Any:
    """Pixels or metres of '1.5px', '2m' or a plain number of pixels."""
    units = {"px": ("px", 1.0), "": ("px", 1.0), "m": ("m", 1.0)}
    return text if isinstance(text, Amount) else _parse(text, units, "a length such as 1.5px or 2m")


def parse_names(text: Any) -> Any:
    """The names in 'a, b, c'."""
    if isinstance(text, str):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    return tuple(map(str, text)) if isinstance(text, list | tuple) else text


def _parse(text: Any, units: dict[str, tuple[Any, float]], wanted: str) -> Amount:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z²]*2?)\s*", str(text).lower())
    if match is None or match[2] not in units:
        raise ValueError(f"wants {wanted}")
    unit, factor = units[match[2]]
    value = float(match[1]) * factor
    if value > _MAX_AMOUNT:
        raise ValueError(f"wants {wanted}, below {_MAX_AMOUNT:g}")
    return Amount(value, unit)


Area = Annotated[Amount, BeforeValidator(parse_area)]
Length = Annotated[Amount, BeforeValidator(parse_length)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]


class VectorizeConfig(Settings):
    """A class raster made into polygons."""

    raster: Annotated[str, Argument("RASTER")]
    """Class raster: one band of bytes, 255 is nodata."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output", slash=True)]
    """File to write, format by suffix (.gpkg .fgb .parquet .geojson .geojsonl); - writes GeoJSON lines to stdout;
    NAME.parquet/ is a folder of GeoParquet files with bounding boxes."""
    min_area: Annotated[Area, Flag(panel="Polygons", metavar="AREA")] = Amount(8, "px")
    """Smaller regions join their largest neighbour: 20px, 100m2, 0.5ha; plain is m²; 0 is off."""
    simplify: Annotated[Length, Flag(panel="Polygons", metavar="LENGTH")] = Amount(1.5, "px")
    """Tolerance of simplified borders: 1.5px, 2m; plain is pixels; 0 is off."""
    classes: Annotated[Names, Flag(panel="Polygons", metavar="NAME,…")] = ()
    """Write polygons of these classes only: names or ids, separated by commas."""
    exclude: Annotated[Names, Flag(panel="Polygons", metavar="NAME,…")] = ()
    """Write no polygons of these classes."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Raster of confidences on the same grid; polygons get its mean and its 10th percentile."""
    dst_crs: Annotated[str | None, Flag(panel="Output")] = None
    """Coordinate system to write, such as EPSG:3857; the raster's own where nothing is said."""
    layer: Annotated[str | None, Flag(panel="Output")] = Field(None, min_length=1, max_length=200)
    """Name of the layer; the output's name where nothing is said."""
    sieved: Annotated[Path | None, Flag(panel="Output")] = None
    """Write the class raster after small regions have joined their neighbours."""
    mem_limit: Annotated[Bytes, Flag(panel="Speed", metavar="SIZE")] = 4_000_000_000
    """Memory that all processes together may take beyond what the program itself needs, such as 4GB."""
    workers: Annotated[int | None, Flag(panel="Speed")] = Field(None, ge=1, le=1024)
    """Processes; as many as there are cores where nothing is said."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace outputs that exist."""
    partitioned: bool = False
    """Write a folder of GeoParquet files, as a name with / at its end does, and that of a folder that is there."""

    @model_validator(mode="before")
    @classmethod
    def _folder_by_name(cls, values: Any) -> Any:
        """A name that ends in / is that of a folder, which its path does not tell any more."""
        folder = isinstance(values, dict) and str(values.get("out", "")).endswith("/")
        return {**values, "partitioned": True} if folder else values

    @model_validator(mode="after")
    def _one_choice(self) -> VectorizeConfig:
        if self.classes and self.exclude:
            raise ValueError("give --classes or --exclude, not both")
        return self

    def chose(self, name: str) -> bool:
        """Whether a setting was given rather than left at its default."""
        return name in self.model_fields_set
