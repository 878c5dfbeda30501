"""The outputs of each scene; what cannot be written is refused before any compute."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from co2s_cli.addresses import address_of, has_file_suffix, is_bucket
from co2s_cli.cloud import cache_folder, stored_attributes
from co2s_cli.config.mapping import MapConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ConfigError, InputError, OutputError
from co2s_cli.files import check_output, check_writable
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import scene_sources
from co2s_cli.geo.sources import is_local
from co2s_cli.limits import MAX_WINDOWS
from co2s_cli.models.manifest import Manifest
from co2s_cli.tiling import window_count

_SUFFIXES = {"vector": ".gpkg", "preview": ".png", "stac": ".json"}
"""File suffix of outputs that are no rasters."""

_RASTER = (".tif", ".tiff")

_THERE = "--resume keeps it if it is whole and the same, --overwrite replaces it; or choose another name"

_LEAST_DISK = 0.02
"""Least share of its uncompressed bytes that a map was seen to take."""


@dataclass(frozen=True, slots=True)
class Target:
    """One scene and the paths of its outputs."""

    source: str
    out: Path
    """The map."""
    beside: dict[str, Path] = field(default_factory=dict)
    """Further outputs by name."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Where outputs go in the end that are made on this machine only for that, by name."""
    work: Path | None = None
    """Folder of its own for unfinished work and outputs on their way; None: beside the map."""

    @property
    def outputs(self) -> dict[str, Path]:
        """Everything, by name; the map is `class`."""
        return {"class": self.out, **self.beside}

    @property
    def kept(self) -> dict[str, Path]:
        """The outputs that stay on this machine, by name."""
        return {name: path for name, path in self.outputs.items() if name not in self.addresses}

    @property
    def named(self) -> dict[str, str]:
        """Every output as the user knows it, by name."""
        return {name: self.addresses.get(name, str(path)) for name, path in self.outputs.items()}

    @property
    def folder(self) -> Path:
        """The folder of unfinished work."""
        return folder_of(self.out) if self.work is None else self.work / "parts"

    def check(self, *, overwrite: bool) -> None:
        """Refuse outputs that exist or whose folder is missing or read-only."""
        for path in self.kept.values():
            check_output(path, overwrite=overwrite, hint=_THERE)
        for address in self.addresses.values():
            if not overwrite and stored_attributes(address) is not None:
                raise OutputError(f"{address}: exists and is not overwritten", hint=_THERE)

    def make_folders(self) -> None:
        """Make the folders of its own."""
        if self.work is not None:
            for folder in (self.work, *(self.outputs[name].parent for name in self.addresses)):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
                check_writable(folder)

    def check_disk(self, needed: int) -> None:
        """Refuse where surely less than what is needed is free on the disk of the map."""
        free = shutil.disk_usage(self.out.parent).free
        if free < needed * _LEAST_DISK:
            raise OutputError(
                f"{self.out.parent}: {show_bytes(free)} are free, up to {show_bytes(needed)} are needed",
                hint="make room, or write to another disk",
            )


def folder_of(out: Path) -> Path:
    """The folder of an output's unfinished work."""
    return out.with_name(f"{out.name}.parts")


def targets_of(
    scenes: Iterable[str], out: Path, beside: Mapping[str, Path | None], scratch: Path | None = None
) -> list[Target]:
    """Every scene with its outputs: a file each for one scene, a folder each for several.

    `scratch` is the folder for unfinished work; where there is none, it lies beside the map, and that of maps that go
    to an object store in a folder of this machine that another run of the same command finds again.
    """
    sources = scene_sources(scenes)
    several = len(sources) > 1
    wanted = {"class": out, **{name: path for name, path in beside.items() if path is not None}}
    targets = [
        _target(
            source,
            {
                name: _placed(path, source, _SUFFIXES.get(name, ".tif"), several=several)
                for name, path in wanted.items()
            },
            scratch,
        )
        for source in sources
    ]
    _check_stems(targets)
    for target in targets:
        _check_names(target)
    return targets


def open_scene(source: str, manifest: Manifest, settings: MapConfig) -> Scene:
    """A scene with the bands of a model, on the grid that it sees."""
    scene = Scene.open(source, bands=settings.bands or None, nodata=settings.nodata, res=settings.res)
    _check_windows(scene, manifest, settings)
    if not settings.bands or len(scene.bands) != len(manifest.bands):  # bands picked by hand may be called anything
        return scene.with_bands_of(manifest.bands)
    return scene


def _check_windows(scene: Scene, manifest: Manifest, settings: MapConfig) -> None:
    """Refuse a scene of more windows than could be planned, or computed in a lifetime."""
    tile, overlap = window_of(settings, manifest)
    count = window_count(scene.height, scene.width, tile=tile, overlap=overlap)
    if count > MAX_WINDOWS:
        raise InputError(
            f"{scene.source}: {scene.width} × {scene.height} pixels are {count} windows of {tile} pixels, "
            f"at most {MAX_WINDOWS} are computed",
            hint="cut the scene first, or take a coarser --res or a larger --tile",
        )


def window_of(settings: MapConfig, manifest: Manifest) -> tuple[int, int]:
    """Side of a window, and pixels that neighbouring windows share."""
    tile = settings.tile or manifest.tile
    return tile, math.floor(tile * settings.overlap)


def targets_in(
    scenes: Iterable[str], out: Path, beside: Mapping[str, Path], scratch: Path | None = None
) -> list[Target]:
    """Every scene with its rasters in folders, which need not be there yet, each called as the scene is."""
    sources = {source: f"{_stem(source)}.tif" for source in scene_sources(scenes)}
    targets = [
        _target(source, {name: folder / file for name, folder in {"class": out, **beside}.items()}, scratch)
        for source, file in sources.items()
    ]
    _check_stems(targets)
    for target in targets:
        _check_names(target)
    return targets


def _target(source: str, outputs: Mapping[str, Path], scratch: Path | None) -> Target:
    """A scene with outputs, of which those at an address are made in a folder of the target's own."""
    addresses = {name: address for name, path in outputs.items() if (address := address_of(path)) is not None}
    work = None
    if addresses or scratch is not None:
        place = addresses.get("class") or str(outputs["class"].resolve())
        digest = hashlib.sha256(place.encode()).hexdigest()[:16]
        work = (scratch or cache_folder() / "scratch") / f"{outputs['class'].stem}-{digest}"
    paths = {
        name: work / name / path.name if work is not None and name in addresses else path
        for name, path in outputs.items()
    }
    return Target(source, paths.pop("class"), paths, addresses, work)


def _placed(path: Path, source: str, suffix: str, *, several: bool) -> Path:
    address = address_of(path)
    if address is not None:
        return _placed_in_bucket(path, address, f"{_stem(source)}{suffix}", several=several)
    if not several and not path.is_dir():
        return path
    if not path.is_dir():
        raise OutputError(
            f"{path}: a folder is wanted, since there are several scenes"
            + ("; there is a file of this name" if path.exists() else ""),
            hint=f"mkdir -p {path}",
        )
    return path / f"{_stem(source)}{suffix}"


def _placed_in_bucket(path: Path, address: str, name: str, *, several: bool) -> Path:
    """An output in an object store, where a name without suffix is that of a folder."""
    if not is_bucket(address):
        raise ConfigError(f"{address}: cannot be written to", hint="outputs go to files, or to s3://, gs:// or az://")
    is_file = has_file_suffix(address)
    if is_file and several:
        raise OutputError(f"{address}: a folder is wanted, since there are several scenes")
    return path if is_file else path / name


def _stem(source: str) -> str:
    """The name of a scene without folder, query and suffix."""
    return PurePosixPath(source.split("?", maxsplit=1)[0]).stem if not is_local(source) else Path(source).stem


def _check_stems(targets: list[Target]) -> None:
    """Refuse scenes whose maps would have the same name."""
    taken: dict[str, str] = {}
    for target in targets:
        out = target.named["class"]
        if out in taken:
            raise InputError(
                f"{taken[out]} and {target.source} would both become {out}",
                hint="run them one by one, or rename one of them",
            )
        taken[out] = target.source


def _check_names(target: Target) -> None:
    """Refuse formats that nothing writes."""
    for name, path in target.outputs.items():
        if name == "vector":
            from co2s_cli.geo.write import vector  # only where it is wanted: it loads in a second

            vector.format_of(path)
        elif name == "preview" and path.suffix.lower() != ".png":
            raise ConfigError(f"--preview {target.named[name]}: a name that ends in .png is wanted")
        elif name not in _SUFFIXES and path.suffix.lower() not in _RASTER:
            raise ConfigError(f"{target.named[name]}: a GeoTIFF is written, so a name that ends in .tif is wanted")
