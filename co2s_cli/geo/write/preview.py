"""Draw a preview of a map: its classes over the image, with legend, scale bar and areas. Only overviews are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.files import atomic_file
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.picture import stretched
from co2s_cli.geo.read.scene import Scene

_DPI = 100
_LEGEND_INCHES = 3.2
"""Width of the legend."""
_OPACITY = 0.6
"""Opacity of the map over the image."""


@dataclass(frozen=True, slots=True)
class ClassArea:
    """The area of one class on a map."""

    share: float
    """Area of the class divided by that of all classes, without nodata."""
    square_metres: float | None
    """None if the CRS does not determine the size of a pixel."""


def write_preview(path: Path, *, scene: Scene, map_path: Path, classes: ClassMap, max_size: int = 1200) -> None:
    """Draw the map at `map_path` over its scene as a PNG; the picture's longer side has up to `max_size` pixels."""
    original = scene.on_original()
    patch = original.overview(max_size)
    shape = patch.valid.shape
    labels = read_labels(map_path, shape)
    figure = _figure(original.grid, shape)
    picture, legend = figure.axes
    _draw_picture(picture, original.grid, stretched(original, patch), _overlay(labels, classes))
    _draw_scale(picture, original.grid, shape)
    _draw_legend(legend, classes, class_areas(labels, original.grid, classes), title=map_path.name)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")


def read_labels(map_path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(`shape`) class ids of the map, decimated from its overviews."""
    with reading(str(map_path)) as dataset:
        labels: NDArray[np.uint8] = dataset.read(1, out_shape=shape)
    return labels


def class_areas(labels: NDArray[np.uint8], grid: Grid, classes: ClassMap) -> list[ClassArea]:
    """Area of each class of a map on `grid`, estimated from `labels` (h, w), its decimated class ids."""
    decimated = grid.scaled(*labels.shape)
    per_pixel = decimated.pixel_areas()
    weight = np.ones(len(labels)) if per_pixel is None else per_pixel
    totals = [float(((labels == value).sum(axis=1) * weight).sum()) for value in range(len(classes))]
    labelled = sum(totals) or 1.0
    return [ClassArea(total / labelled, None if per_pixel is None else total) for total in totals]


def _figure(grid: Grid, shape: tuple[int, int]) -> Figure:
    """A figure with two axes: the picture, whose columns are drawn one to one, and the legend on its right."""
    ground = grid.scaled(*shape).ground_size()
    stretch = ground[1] / ground[0] if ground else 1.0  # a pixel in degrees is higher than wide on the ground
    width, height = max(shape[1] / _DPI, 2.0), max(shape[0] * stretch / _DPI, 2.0)  # inches of the picture
    figure = Figure(figsize=(width + _LEGEND_INCHES, height))
    FigureCanvasAgg(figure)
    share = width / (width + _LEGEND_INCHES)
    figure.add_axes((0, 0, share, 1)).set_axis_off()
    figure.add_axes((share, 0, 1 - share, 1)).set_axis_off()
    return figure


def _overlay(labels: NDArray[np.uint8], classes: ClassMap) -> NDArray[np.float64]:
    """(h, w, 4) red, green, blue and opacity in [0, 1] of the map; transparent where the map has no class."""
    table = np.zeros((256, 4))
    table[: len(classes), :3] = np.array(classes.colors) / 255
    table[: len(classes), 3] = _OPACITY
    table[IGNORE] = 0
    return table[labels]


def _draw_picture(axes: Any, grid: Grid, image: NDArray[np.float64], overlay: NDArray[np.float64]) -> None:
    origin = "lower" if grid.transform.e > 0 else "upper"  # south-up rasters have their first row in the south
    for layer in (image, overlay):
        axes.imshow(layer, origin=origin, aspect="auto", interpolation="nearest")


def _draw_scale(axes: Any, grid: Grid, shape: tuple[int, int]) -> None:
    """Draw a scale bar of a round length in the lower left corner; none if the size of a pixel is not known."""
    ground = grid.scaled(*shape).ground_size()
    if ground is None:
        return
    metres = round_length(shape[1] * ground[0] / 4)
    share = metres / (shape[1] * ground[0])
    in_axes = {"transform": axes.transAxes, "clip_on": False}
    axes.add_patch(Rectangle((0.02, 0.02), share + 0.02, 0.05, color="white", alpha=0.8, linewidth=0, **in_axes))
    axes.add_patch(Rectangle((0.03, 0.03), share, 0.008, color="black", linewidth=0, **in_axes))
    label = {"ha": "center", "va": "bottom", "fontsize": 8, "transform": axes.transAxes}
    axes.text(0.03 + share / 2, 0.043, _show_length(metres), **label)


def _draw_legend(axes: Any, classes: ClassMap, areas: list[ClassArea], *, title: str) -> None:
    """Draw a title and, for each class, its colour, name and area."""
    step = min(0.07, 0.86 / max(1, len(classes)))
    axes.text(0.06, 0.96, _shortened(title, 34), fontsize=10, weight="bold", va="center", transform=axes.transAxes)
    for position, (item, area) in enumerate(zip(classes.classes, areas, strict=True)):
        y = 0.9 - position * step
        color = tuple(value / 255 for value in item.color)
        axes.add_patch(Rectangle((0.06, y - step * 0.35), 0.07, step * 0.7, color=color, transform=axes.transAxes))
        axes.text(0.16, y, item.name, fontsize=9, va="center", transform=axes.transAxes)
        axes.text(0.97, y, show_area(area), fontsize=9, va="center", ha="right", transform=axes.transAxes)


def _shortened(text: str, length: int) -> str:
    """`text` cut in the middle to `length` characters."""
    return text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}"


def round_length(limit: float) -> float:
    """The largest number of the form 1, 2 or 5 times a power of ten that does not exceed `limit`."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= limit * (1 + 1e-9))


def _show_length(metres: float) -> str:
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


def show_area(area: ClassArea) -> str:
    """An area as text: hectares or km² if known, and the share in %."""
    percent = f"{area.share:.1%}"
    if area.square_metres is None:
        return percent
    hectares = area.square_metres / 10_000
    size = f"{hectares / 100:,.0f} km²" if hectares >= 100_000 else f"{hectares:,.{0 if hectares >= 10 else 2}f} ha"
    return f"{size}  {percent}"
