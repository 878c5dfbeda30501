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
"""Largest amount of pixels, metres or square metres; the surface of the earth has 5e14 m²."""

_SQUARE_METRES = {"m2": 1.0, "m²": 1.0, "ha": 1e4, "km2": 1e6, "km²": 1e6}


@dataclass(frozen=True, slots=True)
class Amount:
    """A length or an area, in pixels or in (square) metres."""

    value: float
    unit: Literal["px", "m", "m2"]

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def parse_area(text: Any) -> Any:
    """An area in square metres or pixels, from '100m2', '0.5ha', '20px' or a plain number of square metres."""
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
    """A length in pixels or metres, from '1.5px', '2m' or a plain number of pixels."""
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
    """Settings of `co2s vectorize`."""

    raster: Annotated[str, Argument("RASTER")]
    """Class raster: one uint8 band, 255 is nodata."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output", slash=True)]
    """File to write, format by suffix (.gpkg .fgb .parquet .geojson .geojsonl); - for GeoJSON lines on stdout;
    NAME.parquet/ for a folder of GeoParquet files with bounding boxes."""
    min_area: Annotated[Area, Flag(panel="Polygons", metavar="AREA")] = Amount(8, "px")
    """Merge smaller regions into their largest neighbour: 20px, 100m2 or 0.5ha; without a unit in m²; 0: off."""
    simplify: Annotated[Length, Flag(panel="Polygons", metavar="LENGTH")] = Amount(1.5, "px")
    """Tolerance for simplifying boundaries: 1.5px or 2m; without a unit in pixels; 0: off."""
    classes: Annotated[Names, Flag(panel="Polygons", metavar="NAME,…")] = ()
    """Write polygons of these classes only: comma-separated names or ids."""
    exclude: Annotated[Names, Flag(panel="Polygons", metavar="NAME,…")] = ()
    """Write no polygons of these classes."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Confidence raster on the same grid; each polygon gets its mean and its 10th percentile as attributes."""
    dst_crs: Annotated[str | None, Flag(panel="Output")] = None
    """Coordinate system of the polygons, such as EPSG:3857. Default: that of the raster."""
    layer: Annotated[str | None, Flag(panel="Output")] = Field(None, min_length=1, max_length=200)
    """Name of the layer. Default: the name of the output file."""
    sieved: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write the class raster after small regions were merged."""
    mem_limit: Annotated[Bytes, Flag(panel="Speed", metavar="SIZE")] = 4_000_000_000
    """Most memory of all processes together, such as 4GB, beyond what the program itself needs."""
    workers: Annotated[int | None, Flag(panel="Speed")] = Field(None, ge=1, le=1024)
    """Number of processes. Default: one per core."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace existing outputs."""
    partitioned: bool = False
    """Write a folder of GeoParquet files; also set by a slash at the end of `out`, or if `out` is a folder already."""

    @model_validator(mode="before")
    @classmethod
    def _partitioned_by_slash(cls, values: Any) -> Any:
        """Set `partitioned` if `out` ends in a slash, which a `Path` would lose."""
        ends_in_slash = isinstance(values, dict) and str(values.get("out", "")).endswith("/")
        return {**values, "partitioned": True} if ends_in_slash else values

    @model_validator(mode="after")
    def _classes_or_exclude(self) -> VectorizeConfig:
        if self.classes and self.exclude:
            raise ValueError("give --classes or --exclude, not both")
        return self

    def chose(self, name: str) -> bool:
        """Whether the setting `name` was given rather than left at its default."""
        return name in self.model_fields_set
