"""The outputs of each scene; what cannot be written is refused before any compute."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from co2s_cli.config.mapping import MapConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ConfigError, InputError, OutputError
from co2s_cli.files import check_output
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import scene_sources
from co2s_cli.geo.sources import is_local
from co2s_cli.limits import MAX_WINDOWS
from co2s_cli.models.manifest import Manifest
from co2s_cli.tiling import window_count

_SUFFIXES = {"vector": ".gpkg", "preview": ".png"}
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

    @property
    def outputs(self) -> dict[str, Path]:
        """Everything, by name; the map is `class`."""
        return {"class": self.out, **self.beside}

    def check(self, *, overwrite: bool) -> None:
        """Refuse outputs that exist or whose folder is missing or read-only."""
        for path in self.outputs.values():
            check_output(path, overwrite=overwrite, hint=_THERE)

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


def targets_of(scenes: Iterable[str], out: Path, beside: Mapping[str, Path | None]) -> list[Target]:
    """Every scene with its outputs: a file each for one scene, a folder each for several."""
    sources = scene_sources(scenes)
    several = len(sources) > 1
    wanted = {name: path for name, path in beside.items() if path is not None}
    targets = [
        Target(
            source,
            _placed(out, source, ".tif", several=several),
            {
                name: _placed(path, source, _SUFFIXES.get(name, ".tif"), several=several)
                for name, path in wanted.items()
            },
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


def targets_in(scenes: Iterable[str], out: Path, beside: Mapping[str, Path]) -> list[Target]:
    """Every scene with its rasters in folders, which need not be there yet, each called as the scene is."""
    sources = {source: f"{_stem(source)}.tif" for source in scene_sources(scenes)}
    targets = [
        Target(source, out / file, {name: folder / file for name, folder in beside.items()})
        for source, file in sources.items()
    ]
    _check_stems(targets)
    for target in targets:
        _check_names(target)
    return targets


def _placed(path: Path, source: str, suffix: str, *, several: bool) -> Path:
    if not several and not path.is_dir():
        return path
    if not path.is_dir():
        raise OutputError(
            f"{path}: a folder is wanted, since there are several scenes"
            + ("; there is a file of this name" if path.exists() else ""),
            hint=f"mkdir -p {path}",
        )
    return path / f"{_stem(source)}{suffix}"


def _stem(source: str) -> str:
    """The name of a scene without folder, query and suffix."""
    return PurePosixPath(source.split("?", maxsplit=1)[0]).stem if not is_local(source) else Path(source).stem


def _check_stems(targets: list[Target]) -> None:
    """Refuse scenes whose maps would have the same name."""
    taken: dict[Path, str] = {}
    for target in targets:
        if target.out in taken:
            raise InputError(
                f"{taken[target.out]} and {target.source} would both become {target.out}",
                hint="run them one by one, or rename one of them",
            )
        taken[target.out] = target.source


def _check_names(target: Target) -> None:
    """Refuse formats that nothing writes."""
    for name, path in target.outputs.items():
        if name == "vector":
            from co2s_cli.geo.write import vector  # only where it is wanted: it loads in a second

            vector.format_of(path)
        elif name == "preview" and path.suffix.lower() != ".png":
            raise ConfigError(f"--preview {path}: a name that ends in .png is wanted")
        elif name not in _SUFFIXES and path.suffix.lower() not in _RASTER:
            raise ConfigError(f"{path}: a GeoTIFF is written, so a name that ends in .tif is wanted")
