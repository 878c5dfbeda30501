"""The STAC item of a map: where it lies, what its classes are, and what lies beside it.

This is the one module that knows pystac, which is an optional extra: where it is missing, the one line that says so
names the command that brings it.
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
"""Places along each edge of the outline: borders are bent in degrees."""


def check_pystac() -> None:
    """Refuse where pystac is not installed."""
    try:
        import pystac  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ResourceError(
            "--stac needs the package pystac, which is not installed", hint="pip install 'co2s_cli[stac]'"
        ) from error


def write_item(path: Path, files: Mapping[str, Path], named: Mapping[str, str], classes: ClassMap, source: str) -> None:
    """Write the item of a map.

    Args:
        path: of the item.
        files: the outputs on this machine by name; the map is `class`.
        named: the same as they will be found in the end, and the item itself as `stac`.
        classes: of the map.
        source: the scene that the map was made of.
    """
    import pystac
    from pystac.extensions.projection import ProjectionExtension

    with reading(str(files["class"])) as dataset:
        outline = _outline(dataset)
        item = pystac.Item(
            id=PurePosixPath(named["class"]).stem,
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
            item.add_asset("map" if name == "class" else name, _asset(file, _seen(named[name], named["stac"])))
    _add_bands(item, files, classes)
    address = address_of(source)
    if address is not None and address == printable(address) and "?" not in address:  # no key, no password
        item.add_link(pystac.Link("derived_from", address))
    write_text(path, json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), indent=1))


_TAGS = ("CO2S_MODEL", "CO2S_KEY", "CO2S_VERSION")


def _asset(file: Path, href: str) -> Any:
    import pystac

    role = "overview" if file.suffix.lower() == ".png" else "data"
    return pystac.Asset(href, media_type=media_type(file), roles=[role])


def _add_bands(item: Any, files: Mapping[str, Path], classes: ClassMap) -> None:
    """What the values of each raster mean."""
    from pystac.extensions.classification import Classification, ClassificationExtension
    from pystac.extensions.raster import NoDataStrings, RasterBand, RasterExtension, Sampling

    for name, asset in item.assets.items():
        file = files["class" if name == "map" else name]
        if asset.media_type != COG or not file.exists():  # one that lies in a bucket since an earlier run
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
        Classification.create(value=value, name=_plain(name), title=name, color_hint=bytes(color).hex().upper())
        for value, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]
    legend.append(Classification.create(value=IGNORE, name="no_class", title="no class", nodata=True))
    ClassificationExtension.ext(item.assets["map"], add_if_missing=True).apply(legend)


def _plain(name: str) -> str:
    """A class name of the letters that the extension takes."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or "class"


def _seen(place: str, item: str) -> str:
    """Where an output is, as seen from the item."""
    same = place.rpartition("/")[0] == item.rpartition("/")[0]
    return f"./{place.rpartition('/')[2]}" if same else (place if address_of(place) else str(Path(place).resolve()))


def _outline(dataset: Any) -> dict[str, Any] | None:
    """The outline of a raster in degrees; None where that cannot be told."""
    if dataset.crs is None or dataset.transform.is_identity:
        return None
    height, width = dataset.shape
    steps = [step / (_EDGE_POINTS - 1) for step in range(_EDGE_POINTS - 1)]
    around = [
        *((0.0, part) for part in steps), *((part, 1.0) for part in steps),
        *((1.0, 1 - part) for part in steps), *((1 - part, 0.0) for part in steps),
    ]  # fmt: skip
    places = [dataset.transform @ (width * across, height * down) for across, down in around]
    try:
        lon, lat = warp_points(dataset.crs, "EPSG:4326", [x for x, _ in places], [y for _, y in places])
    except RasterioError:
        return None
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(lon, lat, strict=True)]
    if not all(math.isfinite(number) for place in ring for number in place):
        return None
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _box(outline: dict[str, Any] | None) -> list[float] | None:
    if outline is None:
        return None
    lon, lat = zip(*outline["coordinates"][0], strict=True)
    return [min(lon), min(lat), max(lon), max(lat)]


def _times(source: str, made: Path) -> dict[str, Any]:
    """When the scene was taken: as its item or its file says, else when the map was made."""
    properties = read_scene(source).get("properties") if source.endswith(SCENE) else None
    told = properties if isinstance(properties, dict) else {}
    start, end = (_time(told.get(name)) for name in ("start_datetime", "end_datetime"))
    taken = _time(told.get("datetime"))
    if start and end:
        return {"datetime": taken, "start_datetime": start, "end_datetime": end}
    return {"datetime": taken or _tagged_time(source) or datetime.fromtimestamp(int(made.stat().st_mtime), UTC)}


def _tagged_time(source: str) -> datetime | None:
    """When a file says that it was taken."""
    with reading(source) as dataset:
        return _time(dataset.tags().get("ACQUISITIONDATETIME")) or _time(dataset.tags().get("TIFFTAG_DATETIME"))


def _time(text: Any) -> datetime | None:
    """A time as ISO 8601 or TIFF write it, in UTC where nothing else is said."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(re.sub(r"^(\d{4}):(\d\d):(\d\d) ", r"\1-\2-\3T", text.strip()))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
