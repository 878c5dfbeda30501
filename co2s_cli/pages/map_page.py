"""The map section of a page: layers to move and zoom, a legend with areas, and the least sure places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.geo.grid import Grid
from co2s_cli.pages.document import escaped, table
from co2s_cli.pages.doubt import DoubtfulPlace, least_sure
from co2s_cli.pages.pictures import class_picture, distinct, photo, ramp, ramp_picture
from co2s_cli.scoring.strata import ClassTotals

PLACES = 12
"""Most least sure places that are listed."""

HECTARE = 10_000.0
"""Square metres."""

_MAX_AMOUNT_SIDE = 1200
"""About the longest side in pixels of the pictures of confidence and disagreement, which are smooth."""


_FRAME = """<section aria-label="Map"><div class="map"><div>
{controls}
<div id="view" tabindex="0" role="application" aria-roledescription="map" aria-label="Map" aria-describedby="map-keys">
<div id="stage">{pictures}</div><div id="spot" hidden></div>
<div id="scale" hidden><i></i><span></span></div>
</div>
<p id="readout" role="status"></p>
<p id="map-keys" class="soft">Drag to move. With the map chosen: wheel or + and − zoom, arrow keys move, 0 shows all,
1 to 9 choose a layer, n and p go to the next and previous least sure place.</p>
</div><aside>{aside}</aside></div></section>"""

_NO_AMOUNTS = """<h2>Least sure places</h2><p class="soft">Not known: write a confidence raster with co2s predict
--confidence FILE, then list them here with co2s report --confidence FILE.</p>"""


@dataclass(frozen=True, slots=True)
class Amounts:
    """A layer of values from 0 to 1 over the map: confidence or disagreement."""

    name: str
    """Name of the layer in the page: confidence or disagreement."""
    label: str
    """Title of the layer for people."""
    low_means: str
    """Legend text for low values."""
    high_means: str
    """Legend text for high values."""
    values: NDArray[np.float32]
    """(h, w), NaN where there is no value."""

    @property
    def limits(self) -> tuple[float, float]:
        """Values at the ends of the colour ramp: the 1st and the 99th percentile, rounded outwards to 5 %."""
        finite = self.values[~np.isnan(self.values)]
        low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
        return float(np.floor(low * 20) / 20), float(min(1.0, np.ceil(high * 20 + 1e-6) / 20))

    @property
    def doubt(self) -> NDArray[np.float32]:
        """(h, w) values that are high where the map is least sure."""
        return 1 - self.values if self.name == "confidence" else self.values


@dataclass(frozen=True, slots=True)
class MapContent:
    """All that a page shows of a map; the arrays have the same shape, north up, mostly smaller than the map."""

    grid: Grid
    """Grid of the whole map, north up."""
    classes: ClassMap
    totals: ClassTotals
    """Exact class areas of the whole map."""
    labels: NDArray[np.uint8]
    """(h, w) class ids."""
    image: NDArray[np.uint8] | None
    """(h, w, 3) the scene; None without one."""
    valid: NDArray[np.bool_] | None
    """(h, w) True where the image has data."""
    amounts: tuple[Amounts, ...]
    """Further layers."""

    @property
    def stretch(self) -> float:
        """Height divided by width of a picture's pixel on the ground."""
        ground = self.grid.scaled(*self.labels.shape).ground_size()
        return ground[1] / ground[0] if ground else 1.0


def map_section(content: MapContent, step: int) -> tuple[str, dict[str, Any]]:
    """HTML of the map, with every `step`-th pixel of the arrays, and the data for the page's script."""
    colors = distinct(content.classes.colors)
    places = _places(content)
    sidebar = [*(_ramp_key(amounts) for amounts in content.amounts), _place_list(content, places)]
    frame = _FRAME.format(
        controls=_controls(content),
        pictures="".join(_pictures(content, step)),
        aside="".join([_legend(content, colors), *sidebar]),
    )
    return frame, _data(content, colors, places)


def _layers(content: MapContent) -> list[tuple[str, str]]:
    return [("map", "Map"), *((item.name, item.label) for item in content.amounts)]


def _pictures(content: MapContent, step: int) -> Iterator[str]:
    if content.image is not None and content.valid is not None:
        yield f'<img alt="" src="{photo(content.image[::step, ::step], content.valid[::step, ::step])}">'
    labels = class_picture(content.labels[::step, ::step], distinct(content.classes.colors))
    yield f'<img id="layer-map" alt="" src="{labels}">'
    for item in content.amounts:
        coarse_step = step * max(1, round(max(item.values.shape) / _MAX_AMOUNT_SIDE))
        picture = ramp_picture(item.values[::coarse_step, ::coarse_step], *item.limits)
        yield f'<img id="layer-{item.name}" alt="" hidden src="{picture}">'


def _controls(content: MapContent) -> str:
    radios = "".join(
        f'<label><input type="radio" name="layer" id="radio-{name}"> {escaped(label)}</label>'
        for name, label in _layers(content)
    )
    opacity = 65 if content.image is not None else 100
    return (
        f'<div class="controls"><fieldset><legend>Layer</legend>{radios}</fieldset>'
        f'<label>Opacity <input type="range" id="opacity" min="0" max="100" value="{opacity}"> '
        '<output id="opacity-value" for="opacity"></output></label>'
        '<span><button type="button" id="zoom-out" aria-label="Zoom out">−</button> '
        '<button type="button" id="zoom-in" aria-label="Zoom in">+</button> '
        '<button type="button" id="zoom-fit">Whole map</button></span></div>'
    )


def _legend(content: MapContent, colors: tuple[tuple[int, int, int], ...]) -> str:
    in_metres = content.totals.row_areas is not None
    whole = float(content.totals.ground.sum()) or 1.0
    unit, size = ("pixels", 1) if not in_metres else ("m²", 1) if whole < HECTARE else ("ha", HECTARE)
    rows = []
    for class_id in content.totals.occurring:
        ground = float(content.totals.ground[class_id])
        name = escaped(content.classes.names[class_id])
        swatch = f'<span class="swatch" style="background:rgb{colors[class_id]}"></span>'
        box = f'<label><input type="checkbox" id="class-{class_id}" checked> {swatch}{name}</label>'
        rows.append((box, three_digits(ground / size), f"{100 * ground / whole:.1f}"))
    caption = "Areas counted on the map; for estimates from sample points see co2s evaluate --areas."
    return f"<h2>Classes</h2>{table(('class', unit, '%'), rows, caption)}"


def three_digits(area: float) -> str:
    """An area with at least three significant digits."""
    return f"{area:,.0f}" if area >= 100 else f"{area:,.3g}"


def _ramp_key(item: Amounts) -> str:
    low, high = item.limits
    colors = ", ".join(f"rgb{color}" for color in ramp())
    return (
        f'<div id="key-{item.name}" hidden><h2>{escaped(item.label)}</h2>'
        f'<div class="ramp" style="background:linear-gradient(to right, {colors})"></div>'
        f'<div class="ends"><span>{100 * low:.0f} % {escaped(item.low_means)}</span>'
        f"<span>{100 * high:.0f} % {escaped(item.high_means)}</span></div></div>"
    )


def _places(content: MapContent) -> list[DoubtfulPlace]:
    return least_sure(content.amounts[0].doubt, content.labels, PLACES) if content.amounts else []


def _place_list(content: MapContent, places: list[DoubtfulPlace]) -> str:
    if not content.amounts:
        return _NO_AMOUNTS
    buttons = "".join(
        f'<li><button type="button">{number}. {escaped(_place_text(content, item))}</button></li>'
        for number, item in enumerate(places, 1)
    )
    return f'<h2>Least sure places</h2><ol id="places">{buttons}</ol>'


def _place_text(content: MapContent, item: DoubtfulPlace) -> str:
    """Text for a least sure place, such as "water: confidence 41 %"."""
    amounts = content.amounts[0]
    value = 1 - item.doubt if amounts.name == "confidence" else item.doubt
    name = "no class" if item.class_id is None else content.classes.names[item.class_id]
    return f"{name}: {amounts.label.lower()} {100 * value:.0f} %"


def _data(content: MapContent, colors: tuple[tuple[int, int, int], ...], places: list[DoubtfulPlace]) -> dict[str, Any]:
    """The data for the page's script, as JSON values."""
    rows, cols = content.labels.shape
    ground = content.grid.ground_size()
    crs = content.grid.crs
    layers: list[dict[str, Any]] = [{"name": "map", "label": "Map"}]
    for item in content.amounts:
        low, high = item.limits
        layers.append({"name": item.name, "label": item.label, "ramp": ramp(), "low": low, "high": high})
    return {
        "stage": [cols, rows * content.stretch],
        "stretch": content.stretch,
        "size": [content.grid.width, content.grid.height],
        "transform": tuple(content.grid.transform)[:6] if content.grid.has_transform else None,
        "decimals": 6 if crs is not None and crs.is_geographic else 1,
        "metres": ground[0] * content.grid.width / cols if ground else None,
        "layers": layers,
        "classes": [
            {"id": class_id, "name": content.classes.names[class_id], "color": colors[class_id]}
            for class_id in content.totals.occurring
        ],
        "places": [
            {
                "left": item.col,
                "top": item.row * content.stretch,
                "side": item.side,
                "text": f"{number}. {_place_text(content, item)}",
            }
            for number, item in enumerate(places, 1)
        ],
    }
