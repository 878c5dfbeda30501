"""Write the STAC item of a map: its outline, its classes, and the other outputs of the same scene.

This is the only module that imports pystac, which is an optional extra; if it is missing, the error names the command
that installs it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from rasterio.errors import RasterioError
from rasterio.warp import transform as warp_points

from co2s_cli.addresses import address_of
from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import ResourceError, printable
from co2s_cli.files import write_text
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.media_types import COG, media_type
from co2s_cli.geo.stac import SCENE, read_scene

_EDGE_POINTS = 9
"""Points on each edge of the outline, since straight edges may be curved in degrees."""


def check_pystac() -> None:
    """Refuse to go on if pystac is not installed."""
    try:
        import pystac  # noqa: F401 - only whether it is installed
    except ImportError as error:
        raise ResourceError(
            "--stac needs the package pystac, which is not installed", hint="pip install 'co2s_cli[stac]'"
        ) from error


def write_item(
    path: Path, files: Mapping[str, Path], final_names: Mapping[str, str], classes: ClassMap, source: str
) -> None:
    """Write the STAC item of a map.

    Args:
        path: File to write.
        files: Outputs on this machine by name; the map is `class`.
        final_names: Final path or address of each output by name, and of the item itself as `stac`.
        classes: Classes of the map.
        source: The scene from which the map was made.
    """
    import pystac
    from pystac.extensions.projection import ProjectionExtension

    with reading(str(files["class"])) as dataset:
        outline = _outline(dataset)
        item = pystac.Item(
            id=PurePosixPath(final_names["class"]).stem,
            geometry=outline,
            bbox=_box(outline),
            properties={f"co2s:{name.removeprefix('CO2S_').lower()}": dataset.tags()[name] for name in _TAGS},
            **_times(source, files["class"]),
        )
        code = dataset.crs.to_epsg() if dataset.crs else None
        ProjectionExtension.ext(item, add_if_missing=True).apply(
            code=f"EPSG:{code}" if code else None,
            wkt2=None if code or dataset.crs is None else dataset.crs.to_wkt(version="WKT2_2019"),
            shape=list(dataset.shape),
            transform=list(dataset.transform)[:6],
        )
    for name, file in files.items():
        if name != "stac":
            item.add_asset(
                "map" if name == "class" else name,
                _asset(file, _href_from_item(final_names[name], final_names["stac"])),
            )
    _add_bands(item, files, classes)
    address = address_of(source)
    if address is not None and address == printable(address) and "?" not in address:  # holds no key and no password
        item.add_link(pystac.Link("derived_from", address))
    write_text(path, json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), indent=1))


_TAGS = ("CO2S_MODEL", "CO2S_KEY", "CO2S_VERSION")
"""Tags of the map that become properties of the item."""


def _asset(file: Path, href: str) -> Any:
    import pystac

    role = "overview" if file.suffix.lower() == ".png" else "data"
    return pystac.Asset(href, media_type=media_type(file), roles=[role])


def _add_bands(item: Any, files: Mapping[str, Path], classes: ClassMap) -> None:
    """Add band types, nodata and scale to each raster of the item, and the classes to the map."""
    from pystac.extensions.classification import Classification, ClassificationExtension
    from pystac.extensions.raster import NoDataStrings, RasterBand, RasterExtension, Sampling

    for name, asset in item.assets.items():
        file = files["class" if name == "map" else name]
        if asset.media_type != COG or not file.exists():  # an earlier run has moved it to a bucket
            continue
        with reading(str(file)) as dataset:
            bands = [
                RasterBand.create(
                    data_type=dataset.dtypes[band],
                    nodata=NoDataStrings.NAN if dataset.dtypes[band].startswith("float") else dataset.nodatavals[band],
                    scale=dataset.scales[band] if dataset.scales[band] != 1 else None,
                    sampling=Sampling.AREA,
                )
                for band in range(dataset.count)
            ]
            if dataset.count > 1:
                asset.extra_fields["bands"] = [
                    {"name": text or str(n)} for n, text in enumerate(dataset.descriptions, 1)
                ]
        RasterExtension.ext(asset, add_if_missing=True).apply(bands)
    legend = [
        Classification.create(value=value, name=_identifier(name), title=name, color_hint=bytes(color).hex().upper())
        for value, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]
    legend.append(Classification.create(value=IGNORE, name="no_class", title="no class", nodata=True))
    ClassificationExtension.ext(item.assets["map"], add_if_missing=True).apply(legend)


def _identifier(name: str) -> str:
    """A class name with only the characters that the classification extension allows."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or "class"


def _href_from_item(output: str, item: str) -> str:
    """The link from the item to an output: relative if both lie in one folder, else absolute."""
    if output.rpartition("/")[0] == item.rpartition("/")[0]:
        return f"./{output.rpartition('/')[2]}"
    return output if address_of(output) else str(Path(output).resolve())


def _outline(dataset: Any) -> dict[str, Any] | None:
    """The outline of a raster in degrees as a GeoJSON polygon; None if it has no georeference."""
    if dataset.crs is None or dataset.transform.is_identity:
        return None
    height, width = dataset.shape
    steps = [step / (_EDGE_POINTS - 1) for step in range(_EDGE_POINTS - 1)]
    edge_points = [
        *((0.0, part) for part in steps), *((part, 1.0) for part in steps),
        *((1.0, 1 - part) for part in steps), *((1 - part, 0.0) for part in steps),
    ]  # fmt: skip
    points = [dataset.transform @ (width * across, height * down) for across, down in edge_points]
    try:
        lon, lat = warp_points(dataset.crs, "EPSG:4326", [x for x, _ in points], [y for _, y in points])
    except RasterioError:
        return None
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(lon, lat, strict=True)]
    if not all(math.isfinite(number) for point in ring for number in point):
        return None
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _box(outline: dict[str, Any] | None) -> list[float] | None:
    """West, south, east, north of an outline."""
    if outline is None:
        return None
    lon, lat = zip(*outline["coordinates"][0], strict=True)
    return [min(lon), min(lat), max(lon), max(lat)]


def _times(source: str, map_path: Path) -> dict[str, Any]:
    """Acquisition time of the scene by its STAC item or its tags; without either the time when the map was written."""
    properties = read_scene(source).get("properties") if source.endswith(SCENE) else None
    item_properties = properties if isinstance(properties, dict) else {}
    start, end = (_time(item_properties.get(name)) for name in ("start_datetime", "end_datetime"))
    acquired = _time(item_properties.get("datetime"))
    if start and end:
        return {"datetime": acquired, "start_datetime": start, "end_datetime": end}
    return {"datetime": acquired or _tagged_time(source) or datetime.fromtimestamp(int(map_path.stat().st_mtime), UTC)}


def _tagged_time(source: str) -> datetime | None:
    """Acquisition time in the tags of a raster."""
    with reading(source) as dataset:
        return _time(dataset.tags().get("ACQUISITIONDATETIME")) or _time(dataset.tags().get("TIFFTAG_DATETIME"))


def _time(text: Any) -> datetime | None:
    """A time from text as ISO 8601 or TIFF write it, in UTC if it names no zone; None if it is no time."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(re.sub(r"^(\d{4}):(\d\d):(\d\d) ", r"\1-\2-\3T", text.strip()))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
