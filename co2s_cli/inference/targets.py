"""The outputs of each scene: their paths, and the checks that refuse them before any compute."""

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

_RASTER_SUFFIXES = (".tif", ".tiff")

_EXISTS_HINT = "--resume keeps it if it is complete and the same, --overwrite replaces it; or choose another name"

_LEAST_DISK_SHARE = 0.02
"""Smallest file that a map was seen to take, as a share of its uncompressed bytes."""


@dataclass(frozen=True, slots=True)
class Target:
    """One scene and the paths of its outputs."""

    source: str
    out: Path
    """Path of the map."""
    extras: dict[str, Path] = field(default_factory=dict)
    """Further outputs by name."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Object-storage addresses by output name; such an output is made on this machine, then uploaded."""
    work: Path | None = None
    """Folder for unfinished work and outputs to be uploaded; None: unfinished work lies beside the map."""

    @property
    def outputs(self) -> dict[str, Path]:
        """All outputs by name, on this machine; the map is `class`."""
        return {"class": self.out, **self.extras}

    @property
    def local_outputs(self) -> dict[str, Path]:
        """The outputs that stay on this machine, by name."""
        return {name: path for name, path in self.outputs.items() if name not in self.addresses}

    @property
    def display_names(self) -> dict[str, str]:
        """All outputs by name, each as the user named it: a path or an address."""
        return {name: self.addresses.get(name, str(path)) for name, path in self.outputs.items()}

    @property
    def folder(self) -> Path:
        """The folder of unfinished work."""
        return folder_of(self.out) if self.work is None else self.work / "parts"

    def check(self, *, overwrite: bool) -> None:
        """Refuse outputs that exist or whose folder is missing or read-only."""
        for path in self.local_outputs.values():
            check_output(path, overwrite=overwrite, hint=_EXISTS_HINT)
        for address in self.addresses.values():
            if not overwrite and stored_attributes(address) is not None:
                raise OutputError(f"{address}: exists and is not overwritten", hint=_EXISTS_HINT)

    def make_folders(self) -> None:
        """Make the `work` folder and a folder in it for each output that is uploaded."""
        if self.work is not None:
            for folder in (self.work, *(self.outputs[name].parent for name in self.addresses)):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
                check_writable(folder)

    def check_disk(self, needed: int) -> None:
        """Refuse a disk with less free space than the map takes even if it compresses as well as any map seen.

        `needed` are the uncompressed bytes.
        """
        free = shutil.disk_usage(self.out.parent).free
        if free < needed * _LEAST_DISK_SHARE:
            raise OutputError(
                f"{self.out.parent}: {show_bytes(free)} are free, up to {show_bytes(needed)} are needed",
                hint="make room, or write to another disk",
            )


def folder_of(out: Path) -> Path:
    """The folder of an output's unfinished work."""
    return out.with_name(f"{out.name}.parts")


def targets_of(
    scenes: Iterable[str], out: Path, extras: Mapping[str, Path | None], scratch: Path | None = None
) -> list[Target]:
    """One target per scene; for one scene each output path is a file, for several it is a folder.

    `scratch` is the folder for unfinished work. Without it, unfinished work lies beside the map or, for a map that goes
    to object storage, in a cache folder of this machine that another run of the same command finds again.
    """
    sources = scene_sources(scenes)
    several = len(sources) > 1
    paths = {"class": out, **{name: path for name, path in extras.items() if path is not None}}
    targets = [
        _target(
            source,
            {
                name: _output_path(path, source, _SUFFIXES.get(name, ".tif"), several=several)
                for name, path in paths.items()
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
    """A scene with the bands of a model, on the grid that the model sees (--res)."""
    scene = Scene.open(source, bands=settings.bands or None, nodata=settings.nodata, res=settings.res)
    _check_windows(scene, manifest, settings)
    if not settings.bands or len(scene.bands) != len(manifest.bands):  # bands picked by hand may be called anything
        return scene.with_bands_of(manifest.bands)
    return scene


def _check_windows(scene: Scene, manifest: Manifest, settings: MapConfig) -> None:
    """Refuse a scene with more than `MAX_WINDOWS` windows: these could neither be planned nor computed."""
    tile, overlap = window_of(settings, manifest)
    count = window_count(scene.height, scene.width, tile=tile, overlap=overlap)
    if count > MAX_WINDOWS:
        raise InputError(
            f"{scene.source}: {scene.width} × {scene.height} pixels are {count} windows of {tile} pixels, "
            f"at most {MAX_WINDOWS} are computed",
            hint="cut the scene first, or take a coarser --res or a larger --tile",
        )


def window_of(settings: MapConfig, manifest: Manifest) -> tuple[int, int]:
    """Side of a window and overlap of neighbouring windows, both in pixels."""
    tile, overlap = manifest.window(settings.tile, settings.overlap)
    return tile, math.floor(tile * overlap)


def targets_in(
    scenes: Iterable[str], out: Path, extras: Mapping[str, Path], scratch: Path | None = None
) -> list[Target]:
    """One target per scene, with a raster named after the scene in each folder; the folders need not exist yet."""
    sources = {source: f"{_stem(source)}.tif" for source in scene_sources(scenes)}
    targets = [
        _target(source, {name: folder / file for name, folder in {"class": out, **extras}.items()}, scratch)
        for source, file in sources.items()
    ]
    _check_stems(targets)
    for target in targets:
        _check_names(target)
    return targets


def _target(source: str, outputs: Mapping[str, Path], scratch: Path | None) -> Target:
    """The target of a scene; outputs with an address get a path in the target's own folder."""
    addresses = {name: address for name, path in outputs.items() if (address := address_of(path)) is not None}
    work = None
    if addresses or scratch is not None:
        map_name = addresses.get("class") or str(outputs["class"].resolve())
        digest = hashlib.sha256(map_name.encode()).hexdigest()[:16]
        work = (scratch or cache_folder() / "scratch") / f"{outputs['class'].stem}-{digest}"
    paths = {
        name: work / name / path.name if work is not None and name in addresses else path
        for name, path in outputs.items()
    }
    return Target(source, paths.pop("class"), paths, addresses, work)


def _output_path(path: Path, source: str, suffix: str, *, several: bool) -> Path:
    """The file of an output; in a folder it gets the name of the scene."""
    address = address_of(path)
    if address is not None:
        return _output_in_bucket(path, address, f"{_stem(source)}{suffix}", several=several)
    if not several and not path.is_dir():
        return path
    if not path.is_dir():
        raise OutputError(
            f"{path}: a folder is wanted, since there are several scenes"
            + ("; there is a file of this name" if path.exists() else ""),
            hint=f"mkdir -p {path}",
        )
    return path / f"{_stem(source)}{suffix}"


def _output_in_bucket(path: Path, address: str, name: str, *, several: bool) -> Path:
    """The object of an output; an address without suffix is a folder, in which the object is called `name`."""
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
    source_by_map: dict[str, str] = {}
    for target in targets:
        out = target.display_names["class"]
        if out in source_by_map:
            raise InputError(
                f"{source_by_map[out]} and {target.source} would both become {out}",
                hint="run them one by one, or rename one of them",
            )
        source_by_map[out] = target.source


def _check_names(target: Target) -> None:
    """Refuse file suffixes of formats that cannot be written."""
    for name, path in target.outputs.items():
        if name == "vector":
            from co2s_cli.geo.write import vector  # only where it is wanted: it loads in a second

            vector.format_of(path)
        elif name == "preview" and path.suffix.lower() != ".png":
            raise ConfigError(f"--preview {target.display_names[name]}: a name that ends in .png is wanted")
        elif name not in _SUFFIXES and path.suffix.lower() not in _RASTER_SUFFIXES:
            raise ConfigError(
                f"{target.display_names[name]}: a GeoTIFF is written, so a name that ends in .tif is wanted"
            )
