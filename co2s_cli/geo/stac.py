"""STAC: the items that a file or an address leads to, and the rasters of each that become one scene.

An item with the assets that are picked is kept as a small file, `ID.scene`, which then is the name of the scene: the
item itself, less what nobody asked for, its addresses absolute.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urljoin

from co2s_cli.addresses import address_of
from co2s_cli.cloud import read_bytes
from co2s_cli.errors import InputError, OutputError, shown
from co2s_cli.files import TEMPORARY, check_readable
from co2s_cli.limits import MAX_CATALOGUE_BYTES, MAX_TEXT_BYTES

SCENE: Final = ".scene"
"""Suffix of the file of an item with its picked assets."""

SUFFIXES: Final = frozenset({".json", ".geojson"})
"""Of files and addresses that are STAC where a scene is wanted."""

_READERS = 16
"""Documents of a catalogue that are fetched at a time."""

_RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".nc", ".zarr")

_Json = dict[str, Any]


def is_stac(source: str) -> bool:
    """Whether a name is that of a STAC document, by its suffix."""
    return PurePosixPath(source.partition("?")[0]).suffix.lower() in SUFFIXES


def scenes_of(source: str, assets: Sequence[str], folder: Path) -> list[str]:
    """The files, in `folder`, of all items that a document leads to, each with the rasters of `assets` in that order.

    Without `assets` an item must have one raster.

    Raises:
        InputError: no STAC, unreadable, without items, or an item without such an asset.
    """
    items = list(_items(source))
    if not items:
        raise InputError(f"{source}: leads to no STAC item")
    return [str(_written(_picked(source, item, assets), folder)) for item in items]


def read_scene(source: str) -> _Json:
    """The item of a scene file."""
    return _document(source, MAX_TEXT_BYTES)


def _items(source: str) -> Iterator[_Json]:
    """All items that a document leads to, their addresses absolute; each document is read once."""
    seen = {source}
    waiting = [source]
    with ThreadPoolExecutor(_READERS, "catalogue") as pool:
        while waiting:
            documents = list(pool.map(lambda name: _document(name, MAX_CATALOGUE_BYTES), waiting))
            found, waiting = zip(waiting, documents, strict=True), []
            for name, document in found:
                yield from (_absolute(item, name) for item in _features(name, document))
                further = [link for link in _links(name, document) if link not in seen]
                seen.update(further)
                waiting += further


def _document(source: str, limit: int) -> _Json:
    """The JSON object in a file or at an address."""
    if address_of(source) is None:
        check_readable(source)
        try:
            if Path(source).stat().st_size > limit:
                raise InputError(f"{source}: has {Path(source).stat().st_size} bytes, at most {limit} are read")
            content = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    else:
        content = read_bytes(source, limit)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is no STAC (no JSON: {shown(str(error))})") from error
    if not isinstance(document, dict):
        raise InputError(f"{source}: is no STAC (a JSON object is wanted)")
    return document


def _features(source: str, document: _Json) -> list[_Json]:
    """The items in a document itself."""
    kind = document.get("type")
    if kind in ("Catalog", "Collection"):
        return []
    features = document.get("features") if kind == "FeatureCollection" else [document] if kind == "Feature" else None
    if not isinstance(features, list):
        raise InputError(
            f"{source}: is no STAC, its type is {shown(kind)}",
            hint="an Item, an ItemCollection, a Collection or a Catalog is wanted",
        )
    for item in features:
        sound = isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("assets"), dict)
        if not sound or not all(isinstance(asset, dict) for asset in item["assets"].values()):
            raise InputError(f"{source}: is no STAC, a feature has no id or no assets")
    return features


def _links(source: str, document: _Json) -> list[str]:
    """Where a document sends on: to items and children of a catalogue, to the next page of a list."""
    wanted = ("next",) if document.get("type") in ("Feature", "FeatureCollection") else ("item", "child", "items")
    links = document.get("links")
    return [
        _resolved(link["href"], source)
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") in wanted and isinstance(link.get("href"), str)
        if str(link.get("method", "GET")).upper() == "GET"
    ]


def _resolved(href: str, base: str) -> str:
    """What `href` is, as seen from the document `base`."""
    if re.match(r"\w+://[\w.\[-]", href) or href.startswith(("/vsi", "file://")):
        return href.removeprefix("file://") if address_of(base) is None else href
    address = address_of(base)
    if address is None:
        return str(Path(base).resolve().parent / href)
    scheme = address.partition("://")[0]
    plain = scheme if scheme.startswith("http") else "http"  # Python joins no other addresses
    try:
        return scheme + urljoin(plain + address.removeprefix(scheme), href).removeprefix(plain)
    except ValueError as error:
        raise InputError(f"{base}: is no STAC, {shown(href)} is no address") from error


def _absolute(item: _Json, source: str) -> _Json:
    """An item whose assets have absolute addresses: from its link to itself where the document holds several."""
    links = item.get("links") if isinstance(item.get("links"), list) else []
    own = next((link["href"] for link in links or [] if isinstance(link, dict) and link.get("rel") == "self"), None)
    base = own if isinstance(own, str) and address_of(own) is not None else source
    assets = {
        key: {**asset, "href": _resolved(asset["href"], base)}
        for key, asset in item["assets"].items()
        if isinstance(asset.get("href"), str)
    }
    return {**item, "assets": assets}


def _picked(source: str, item: _Json, wanted: Sequence[str]) -> _Json:
    """The item with the wanted assets alone, in that order."""
    assets: dict[str, _Json] = item["assets"]
    rasters = [key for key, asset in assets.items() if _is_raster(asset)]
    if not rasters:
        raise InputError(f"{source}: item {item['id']} has no asset that is a raster ({_counted(list(assets))})")
    if not wanted and len(rasters) > 1:
        raise InputError(
            f"{source}: item {item['id']} has {len(rasters)} rasters: {_counted(rasters)}",
            hint="--assets names those that the model sees, such as --assets red,green,blue",
        )
    keys = [_found(source, item, name, rasters) for name in wanted] or rasters
    if len(set(keys)) < len(keys):
        raise InputError(f"{source}: --assets {','.join(wanted)} names an asset of item {item['id']} twice")
    kept = {key: value for key, value in item.items() if key not in ("links", "collection", "assets")}
    return {**kept, "links": [], "assets": {key: assets[key] for key in keys}}


def _found(source: str, item: _Json, name: str, rasters: Sequence[str]) -> str:
    """The key of an asset that is called so, or whose one band is."""
    if name in item["assets"]:
        return name
    named = [key for key in rasters if name.lower() in {text.lower() for text in _names(item["assets"][key])}]
    if len(named) == 1:
        return named[0]
    raise InputError(
        f"{source}: item {item['id']} has no asset {shown(name)}, or several; its rasters are {_counted(rasters)}"
    )


def _names(asset: Mapping[str, Any]) -> list[str]:
    """What the one band of an asset is called: its common name, then its own."""
    bands = bands_of(asset)
    return bands[0] if len(bands) == 1 else []


def bands_of(asset: Mapping[str, Any]) -> list[list[str]]:
    """For each band that an asset tells of, its common name and its own name, as far as it has them."""
    told = asset.get("eo:bands") or asset.get("bands")  # STAC up to 1.0, and from 1.1 on
    return [
        [
            text
            for text in (band.get("common_name"), band.get("eo:common_name"), band.get("name"))
            if isinstance(text, str) and text
        ]
        if isinstance(band, dict)
        else []
        for band in (told if isinstance(told, list) else [])
    ]


def _is_raster(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is imagery, by its roles and its type, else its suffix."""
    roles = asset.get("roles") if isinstance(asset.get("roles"), list) else []
    if {"thumbnail", "overview", "metadata"} & {role for role in roles or [] if isinstance(role, str)}:
        return False
    kind = asset.get("type")
    if isinstance(kind, str):
        return kind.startswith(("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff"))
    return PurePosixPath(asset["href"].partition("?")[0]).suffix.lower() in _RASTERS


def _written(item: _Json, folder: Path) -> Path:
    """The file of an item; its folder is named by its content, so that equal items are one."""
    text = json.dumps(item, indent=1)
    name = re.sub(r"[^\w.+-]", "_", item["id"]).strip(".")[:150] or "item"
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:12] / f"{name}{SCENE}"
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == len(content):  # which tells a whole one: nothing waits here for the disk
            return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror})") from error
    return path


def _counted(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") or "none"
