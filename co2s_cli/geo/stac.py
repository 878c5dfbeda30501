"""STAC: the items to which a file or an address leads, and the rasters of each item that become one scene.

Each item is stored as a small file, `ID.scene`, whose path is then the name of the scene: the item as JSON with only
the picked assets, and with absolute addresses.
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
"""Suffixes of files and addresses that, as scenes, are read as STAC documents."""

_READERS = 16
"""Number of documents of a catalogue that are fetched at the same time."""

_RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".nc", ".zarr")
"""Suffixes of assets that count as rasters if they have no media type."""

_Json = dict[str, Any]


def is_stac(source: str) -> bool:
    """Whether a file name or an address names a STAC document, by its suffix."""
    return PurePosixPath(source.partition("?")[0]).suffix.lower() in SUFFIXES


def scenes_of(source: str, assets: Sequence[str], folder: Path) -> list[str]:
    """Write a scene file into `folder` for every item to which the document `source` leads; the paths of these files.

    Each scene file names the rasters of `assets`, in that order. Without `assets` an item must have exactly one raster.

    Raises:
        InputError: the document is no STAC, cannot be read or leads to no item, or an item lacks one of the assets.
    """
    items = list(_items(source))
    if not items:
        raise InputError(f"{source}: leads to no STAC item")
    return [str(_written(_picked(source, item, assets), folder)) for item in items]


def read_scene(source: str) -> _Json:
    """The STAC item in a scene file."""
    return _document(source, MAX_TEXT_BYTES)


def _items(source: str) -> Iterator[_Json]:
    """All items to which a document leads, with absolute addresses; each linked document is read once."""
    seen = {source}
    pending = [source]
    with ThreadPoolExecutor(_READERS, "catalogue") as pool:
        while pending:
            documents = list(pool.map(lambda name: _document(name, MAX_CATALOGUE_BYTES), pending))
            named_documents, pending = zip(pending, documents, strict=True), []
            for name, document in named_documents:
                yield from (_absolute(item, name) for item in _features(name, document))
                new_links = [link for link in _links(name, document) if link not in seen]
                seen.update(new_links)
                pending += new_links


def _document(source: str, limit: int) -> _Json:
    """The JSON object in a file or at an address, of at most `limit` bytes."""
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
        raise InputError(f"{source}: is no STAC document (no JSON: {shown(str(error))})") from error
    if not isinstance(document, dict):
        raise InputError(f"{source}: is no STAC document (a JSON object is wanted)")
    return document


def _features(source: str, document: _Json) -> list[_Json]:
    """The items that a document itself contains; none for catalogues and collections."""
    kind = document.get("type")
    if kind in ("Catalog", "Collection"):
        return []
    features = document.get("features") if kind == "FeatureCollection" else [document] if kind == "Feature" else None
    if not isinstance(features, list):
        raise InputError(
            f"{source}: is no STAC document, its type is {shown(kind)}",
            hint="an Item, an ItemCollection, a Collection or a Catalog is wanted",
        )
    for item in features:
        is_item = isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("assets"), dict)
        if not is_item or not all(isinstance(asset, dict) for asset in item["assets"].values()):
            raise InputError(f"{source}: is no STAC document, a feature lacks id or assets")
    return features


def _links(source: str, document: _Json) -> list[str]:
    """Addresses to which a document links: items and children of a catalogue, or the next page of a list of items."""
    relations = ("next",) if document.get("type") in ("Feature", "FeatureCollection") else ("item", "child", "items")
    links = document.get("links")
    return [
        _resolved(link["href"], source)
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") in relations and isinstance(link.get("href"), str)
        if str(link.get("method", "GET")).upper() == "GET"
    ]


def _resolved(href: str, base: str) -> str:
    """The path or absolute address of `href`, which may be relative to the document `base`."""
    if re.match(r"\w+://[\w.\[-]", href) or href.startswith(("/vsi", "file://")):
        return href.removeprefix("file://") if address_of(base) is None else href
    address = address_of(base)
    if address is None:
        return str(Path(base).resolve().parent / href)
    scheme = address.partition("://")[0]
    join_scheme = scheme if scheme.startswith("http") else "http"  # urljoin does not know s3, gs and az
    try:
        return scheme + urljoin(join_scheme + address.removeprefix(scheme), href).removeprefix(join_scheme)
    except ValueError as error:
        raise InputError(f"{base}: is no STAC document, its link {shown(href)} is no address") from error


def _absolute(item: _Json, source: str) -> _Json:
    """The item with absolute addresses of assets: relative to its `self` link if that is an address, or to `source`."""
    links = item.get("links") if isinstance(item.get("links"), list) else []
    self_href = next(
        (link["href"] for link in links or [] if isinstance(link, dict) and link.get("rel") == "self"), None
    )
    base = self_href if isinstance(self_href, str) and address_of(self_href) is not None else source
    assets = {
        key: {**asset, "href": _resolved(asset["href"], base)}
        for key, asset in item["assets"].items()
        if isinstance(asset.get("href"), str)
    }
    return {**item, "assets": assets}


def _picked(source: str, item: _Json, wanted: Sequence[str]) -> _Json:
    """The item with only the assets `wanted`, in that order; with its only raster if none is wanted."""
    assets: dict[str, _Json] = item["assets"]
    rasters = [key for key, asset in assets.items() if _is_raster(asset)]
    if not rasters:
        raise InputError(f"{source}: item {item['id']} has no asset that is a raster ({_counted(list(assets))})")
    if not wanted and len(rasters) > 1:
        raise InputError(
            f"{source}: item {item['id']} has {len(rasters)} rasters: {_counted(rasters)}",
            hint="choose the bands of the model with --assets, such as --assets red,green,blue",
        )
    keys = [_asset_key(source, item, name, rasters) for name in wanted] or rasters
    if len(set(keys)) < len(keys):
        raise InputError(f"{source}: --assets {','.join(wanted)} names an asset of item {item['id']} twice")
    kept = {key: value for key, value in item.items() if key not in ("links", "collection", "assets")}
    return {**kept, "links": [], "assets": {key: assets[key] for key in keys}}


def _asset_key(source: str, item: _Json, name: str, rasters: Sequence[str]) -> str:
    """The key of the asset `name`: an asset with that key, else the raster whose only band has that name."""
    if name in item["assets"]:
        return name
    named = [key for key in rasters if name.lower() in {text.lower() for text in _names(item["assets"][key])}]
    if len(named) == 1:
        return named[0]
    raise InputError(
        f"{source}: item {item['id']} has no asset {shown(name)}, or several; its rasters are {_counted(rasters)}"
    )


def _names(asset: Mapping[str, Any]) -> list[str]:
    """Names of the band of an asset that has one band: common name, then its own name; none for other assets."""
    bands = bands_of(asset)
    return bands[0] if len(bands) == 1 else []


def bands_of(asset: Mapping[str, Any]) -> list[list[str]]:
    """For each band that an asset lists, its common name and its own name, as far as they are given."""
    bands = asset.get("eo:bands") or asset.get("bands")  # STAC up to 1.0; from 1.1 on
    return [
        [
            text
            for text in (band.get("common_name"), band.get("eo:common_name"), band.get("name"))
            if isinstance(text, str) and text
        ]
        if isinstance(band, dict)
        else []
        for band in (bands if isinstance(bands, list) else [])
    ]


def _is_raster(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is imagery: by its roles and its media type, or by its suffix if it has no type."""
    roles = asset.get("roles") if isinstance(asset.get("roles"), list) else []
    if {"thumbnail", "overview", "metadata"} & {role for role in roles or [] if isinstance(role, str)}:
        return False
    kind = asset.get("type")
    if isinstance(kind, str):
        return kind.startswith(("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff"))
    return PurePosixPath(asset["href"].partition("?")[0]).suffix.lower() in _RASTERS


def _written(item: _Json, folder: Path) -> Path:
    """Write the scene file of an item; a hash of its content names its folder, so that equal items share one file."""
    text = json.dumps(item, indent=1)
    name = re.sub(r"[^\w.+-]", "_", item["id"]).strip(".")[:150] or "item"
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:12] / f"{name}{SCENE}"
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == len(
            content
        ):  # detects a file cut short by a crash, since it is written without fsync
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
    """The first 20 names as a list in a message."""
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") or "none"
