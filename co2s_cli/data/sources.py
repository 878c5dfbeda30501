"""Scenes with their labels, as a data.yaml names them: opened once, checked, chips found in their folders."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry, Picked, UnlabeledEntry
from co2s_cli.data.splits import read_list
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.labels.labels import Labels, open_labels
from co2s_cli.geo.labels.weights import LabelWeights, open_weights
from co2s_cli.geo.read.bands import RGB, band_names, find_bands, match_bands, training_names
from co2s_cli.geo.read.checks import alpha_band, check_exists, color_kind, pick_bands
from co2s_cli.geo.read.scene import Nodata, Scene
from co2s_cli.geo.sources import SUFFIXES
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

_EXPANDED = "?expand=rgb"
"""End of the name by which GDAL opens a file with a palette as colours."""


@dataclass(frozen=True, slots=True)
class Source:
    """One image to draw from."""

    scene: Scene
    labels: Labels | None = None
    windows: tuple[Window, ...] = ()
    """Parts to use; empty = all."""
    weights: LabelWeights | None = None
    """How much the labels count; None = fully."""
    holdout: tuple[Window, ...] = ()
    """Parts that no training crop may show: they validate."""
    chip: bool = False
    """Whether it was found in a folder of chips."""

    @property
    def areas(self) -> tuple[Window, ...]:
        """The parts to use, spelled out."""
        return self.windows or (Window(0, 0, self.scene.height, self.scene.width),)

    def keeping_out(self, windows: Iterable[Window]) -> Source:
        """The same image with more parts held out."""
        return replace(self, holdout=(*self.holdout, *windows))


def touch(a: Window, b: Window) -> bool:
    """Whether two windows share a pixel."""
    return a.row < b.bottom and b.row < a.bottom and a.col < b.right and b.col < a.right


def within(inner: Window, outer: Window) -> bool:
    """Whether all pixels of one window are the other's, too."""
    return (
        outer.row <= inner.row
        and outer.col <= inner.col
        and inner.bottom <= outer.bottom
        and inner.right <= outer.right
    )


def inside(window: Window, parts: Sequence[Window]) -> NDArray[np.bool_]:
    """Which pixels (h, w) of `window` lie in one of the parts; all of them where there are none."""
    found = np.full((window.height, window.width), not parts)
    for part in parts:
        rows = slice(max(0, part.row - window.row), max(0, part.bottom - window.row))
        cols = slice(max(0, part.col - window.col), max(0, part.right - window.col))
        found[rows, cols] = True
    return found


def resolved(source: str) -> str:
    """What tells whether two names are one image: the file behind all links, or the address.

    A chip whose palette is expanded (`vrt://FILE?expand=rgb`) is the file itself.
    """
    path = Path(source.removeprefix("vrt://").removesuffix(_EXPANDED) if source.endswith(_EXPANDED) else source)
    return str(path.resolve()) if path.exists() else source


def with_bands(config: DataConfig) -> DataConfig:
    """`config` with the names of its bands: those it gives, else those that all labelled images have, alpha aside.

    Of a folder of chips the first one is asked.

    Raises:
        InputError: the labelled images have not the same bands.
    """
    if config.bands:
        return config
    entries = (*config.labeled, *(config.val if isinstance(config.val, tuple) else ()))
    images = [_images(entry.image, entry.list, entry.columns)[0] for entry in entries]
    names_of = [_names_of(image, entry) for image, entry in zip(images, entries, strict=True)]
    first, names = images[0].path, names_of[0]
    if not all(find_bands(names, names)):
        raise InputError(
            f"{first}: several of its bands have one name ({', '.join(names)})",
            hint="name the bands with bands: in data.yaml and at each image, there by number",
        )
    for image, others in zip(images, names_of, strict=True):
        if len(others) != len(names) or not all(find_bands(others, names)):
            raise InputError(
                f"the labelled images have different bands: {', '.join(names)} in {first}, "
                f"{', '.join(others)} in {image.path}",
                hint="name the bands that all of them have with bands: in data.yaml",
            )
    conflict = config.band_conflict(names)
    if conflict is not None:
        raise InputError(f"{conflict} ({', '.join(names)})")
    return config.model_copy(update={"bands": names})


def _names_of(image: _Image, entry: LabeledEntry) -> tuple[str, ...]:
    """What the bands of a labelled image are called: those that its entry picks, else all of them."""
    if image.chip and not entry.bands and color_kind(image.path) != "bands":
        return RGB
    check_exists(image.path)
    with reading(image.path) as dataset:
        names = band_names(dataset)
        numbers = pick_bands(image.path, names, alpha_band(dataset), entry.bands or None)
    picked = tuple(names[number - 1] for number in numbers)
    return picked if entry.bands else training_names(picked)


def labeled_sources(entries: Iterable[LabeledEntry], classes: ClassMap, bands: tuple[str, ...]) -> list[Source]:
    """The labelled images of a data.yaml, chips in the order of their names."""
    return [source for entry in entries for source in _labeled(entry, classes, bands)]


def unlabeled_sources(entries: Iterable[UnlabeledEntry], bands: tuple[str, ...], *, known: set[str]) -> list[Source]:
    """The unlabelled images; nothing of any labels is opened.

    Chips of a folder that are in `known`, as `resolved` names them, are left out: they are labelled or validate.
    """
    sources = []
    for entry in entries:
        images = _images(entry.image, entry.list)
        fresh = [image for image in images if not (image.chip and resolved(image.path) in known)]
        opened = [Source(_open(image, bands, entry), chip=image.chip) for image in fresh]
        _remark_unnamed(opened, bands, entry)
        sources += opened
    return sources


def open_scene(source: str, bands: tuple[str, ...], picked: Picked = (), nodata: Nodata = None) -> Scene:
    """A scene with the wanted bands: `picked` ones, else those of the names, else all of as many without known names.

    Raises:
        InputError: the bands cannot be told by name, and are not as many unnamed ones.
    """
    if picked:
        return Scene.open(source, bands=picked, nodata=nodata)
    scene = Scene.open(source, nodata=nodata)
    if match_bands(scene.names, bands) is not None:
        return scene.with_bands_of(bands)
    raise InputError(
        f"{source}: {len(scene.bands)} bands found ({', '.join(scene.names)}), wanted are {', '.join(bands)}",
        hint="say which bands of this image they are with bands: at its entry in data.yaml, by number or by name",
    )


def _remark_unnamed(sources: Sequence[Source], bands: tuple[str, ...], entry: LabeledEntry | UnlabeledEntry) -> None:
    """Say where bands without known names were taken in the order of the file."""
    if entry.bands:
        return
    unnamed = [source.scene for source in sources if not all(find_bands(source.scene.names, bands))]
    unnamed = [scene for scene in unnamed if len({*scene.bands}) == len(bands)]  # grey chips have one
    if unnamed:
        others = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        log.warning("%s%s: bands without known names are taken as %s", unnamed[0].source, others, ", ".join(bands))


class _Image(NamedTuple):
    """An image that an entry names."""

    path: str
    chip: bool
    """Whether it was found in a folder of chips."""
    labels: str | None = None
    """What a list says of its labels."""


def _labeled(entry: LabeledEntry, classes: ClassMap, bands: tuple[str, ...]) -> list[Source]:
    windows = tuple(Window(*box) for box in entry.windows)
    label_of, weight_of = _by_stem(entry, entry.labels), _by_stem(entry, entry.weights)
    sources = []
    for image in _images(entry.image, entry.list, entry.columns):
        scene = _open(image, bands, entry)
        for window in windows:
            if window.row < 0 or window.col < 0 or window.bottom > scene.height or window.right > scene.width:
                raise InputError(
                    f"{image.path}: window {window} reaches over its {scene.height} × {scene.width} pixels"
                )
        labels = _labels_of(image, entry.labels, label_of) if image.chip else entry.labels
        opened = open_labels(labels, scene.grid, classes, attribute=entry.attribute, values=entry.values)
        weights = entry.weights
        if image.chip and isinstance(weights, Path):
            weights = _beside(image.path, weights, weight_of)
        weighted = None if weights is None else open_weights(weights, scene.grid)
        sources.append(Source(scene, opened, windows, weighted, chip=image.chip))
    _remark_unnamed(sources, bands, entry)
    return sources


def _open(image: _Image, bands: tuple[str, ...], entry: LabeledEntry | UnlabeledEntry) -> Scene:
    """The scene of an image. Chips of one band, grey or with a palette, are read as colours where these are wanted."""
    if image.chip and not entry.bands and bands == RGB:
        kind = color_kind(image.path)
        if kind == "gray":
            return Scene.open(image.path, bands=(1, 1, 1), nodata=entry.nodata)
        if kind == "palette":
            return Scene.open(f"vrt://{image.path}{_EXPANDED}", nodata=entry.nodata)
    return open_scene(image.path, bands, entry.bands, entry.nodata)


def _labels_of(image: _Image, folder: Path, known: Mapping[str, Path]) -> Path:
    """The labels of a chip: the file that its list names, else that of its name."""
    if image.labels is None:
        return _beside(image.path, folder, known)
    by_name = {path.name: path for path in known.values()}
    return _listed(folder, image.labels, by_name) or _beside(image.labels, folder, known)


def _by_stem(entry: LabeledEntry, folder: Path | float | None) -> Mapping[str, Path]:
    """Rasters that belong to the chips of a folder, labels or weights, by stem."""
    if not isinstance(folder, Path) or not Path(entry.image).is_dir():
        return {}
    if not folder.is_dir():
        raise InputError(f"{folder}: a folder of rasters is wanted for the folder of chips {entry.image}")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _beside(image: str, folder: Path, known: Mapping[str, Path]) -> Path:
    """What belongs to a chip."""
    stem = Path(image).stem
    if stem not in known:
        raise InputError(f"{image}: {folder} holds no raster {stem}.*", hint="list the labelled chips with list:")
    return known[stem]


def _images(image: str, listed: Path | None, columns: Sequence[str] = ("image",)) -> list[_Image]:
    """The image itself, or the chips of a folder: all of them, or those of a list."""
    folder = Path(image)
    if not folder.is_dir():
        if listed is not None:
            raise InputError(f"{image}: list {listed} wants a folder of chips")
        return [_Image(image, chip=False)]
    chips = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if listed is None:
        if not chips:
            raise InputError(f"{image}: holds no raster", hint=f"known suffixes: {' '.join(sorted(SUFFIXES))}")
        return [_Image(str(chip), chip=True) for chip in chips]
    by_name = {name: chip for chip in chips for name in (chip.stem, chip.name)}
    images, missing = [], []
    for words in read_list(listed):
        named = dict(zip(columns, words, strict=False))
        path = _listed(folder, named["image"], by_name)
        if path is None:
            missing.append(Path(named["image"]).name)
        else:
            images.append(_Image(str(path), chip=True, labels=named.get("labels")))
    if missing:
        total = len(missing) + len(images)
        raise InputError(f"{listed}: {len(missing)} of {total} chips are not in {image} (first: {missing[0]})")
    return images


def _listed(folder: Path, name: str, by_name: Mapping[str, Path]) -> Path | None:
    """The file that a list calls `name`: a path from the folder or from the one around it, or a name in the folder."""
    for base in (folder, folder.parent):
        if (base / name).is_file():
            return base / name
    return by_name.get(Path(name).name) or by_name.get(Path(name).stem)
