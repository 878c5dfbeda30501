"""Open and check the images and labels that a data.yaml names, including the chips in its folders."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry, Picked, UnlabeledEntry
from co2s_cli.data.splits import read_list
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.labels.labels import Labels, open_labels
from co2s_cli.geo.labels.weights import LabelWeights, open_weights
from co2s_cli.geo.read.bands import RGB, band_names, find_bands, is_numbered, match_bands, training_names
from co2s_cli.geo.read.checks import alpha_band, check_exists, color_kind, pick_bands
from co2s_cli.geo.read.scene import Nodata, Scene
from co2s_cli.geo.sources import SUFFIXES
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

E = TypeVar("E", LabeledEntry, UnlabeledEntry)

_EXPAND_PALETTE = "?expand=rgb"
"""Suffix of the name under which GDAL opens a file with a palette as RGB."""


@dataclass(frozen=True, slots=True)
class Source:
    """One image to draw crops from, with its labels."""

    scene: Scene
    labels: Labels | None = None
    windows: tuple[Window, ...] = ()
    """Windows of the image to use; empty: the whole image."""
    weights: LabelWeights | None = None
    """Weights of the labels; None: all weigh 1."""
    holdout: tuple[Window, ...] = ()
    """Windows that no training crop may show, because they validate."""
    chip: bool = False
    """Whether the image was found in a folder of chips."""

    @property
    def areas(self) -> tuple[Window, ...]:
        """The windows to use: `windows`, else one of the whole image."""
        return self.windows or (Window(0, 0, self.scene.height, self.scene.width),)

    def with_more_holdout(self, windows: Iterable[Window]) -> Source:
        """The same image with more windows held out."""
        return replace(self, holdout=(*self.holdout, *windows))


def touch(a: Window, b: Window) -> bool:
    """Whether two windows share a pixel."""
    return a.row < b.bottom and b.row < a.bottom and a.col < b.right and b.col < a.right


def shared(a: Window, b: Window) -> Window | None:
    """The pixels that two windows share; None if there are none."""
    if not touch(a, b):
        return None
    row, col = max(a.row, b.row), max(a.col, b.col)
    return Window(row, col, min(a.bottom, b.bottom) - row, min(a.right, b.right) - col)


def within(inner: Window, outer: Window) -> bool:
    """Whether `inner` lies in `outer`."""
    return (
        outer.row <= inner.row
        and outer.col <= inner.col
        and inner.bottom <= outer.bottom
        and inner.right <= outer.right
    )


def inside(window: Window, parts: Sequence[Window]) -> NDArray[np.bool_]:
    """(h, w) mask, True for the pixels of `window` in any of `parts`; all True if there are no parts."""
    mask = np.full((window.height, window.width), not parts)
    for part in parts:
        rows = slice(max(0, part.row - window.row), max(0, part.bottom - window.row))
        cols = slice(max(0, part.col - window.col), max(0, part.right - window.col))
        mask[rows, cols] = True
    return mask


def resolved(source: str) -> str:
    """A name that is equal for two sources of the same image: the path with all links resolved, or the address.

    A chip with an expanded palette (`vrt://FILE?expand=rgb`) gets the path of its file.
    """
    is_expanded = source.endswith(_EXPAND_PALETTE)
    path = Path(source.removeprefix("vrt://").removesuffix(_EXPAND_PALETTE) if is_expanded else source)
    return str(path.resolve()) if path.exists() else source


def with_bands(config: DataConfig, model: tuple[str, ...] = ()) -> DataConfig:
    """`config` with band names: its own, else those of a `model`, else those of all labelled images, without alpha.

    Of a folder of chips only the first one is read.

    Raises:
        InputError: the labelled images have different bands, or one has two bands of the same name, or not a band that
            is picked by number.
    """
    if config.bands:
        return _with_names(config) if any(isinstance(band, int) for band in config.bands) else config
    if model:
        return config.model_copy(update={"bands": model})
    entries = (*config.labeled, *(config.val if isinstance(config.val, tuple) else ()))
    images = [_images_of(entry)[0] for entry in entries]
    names_of = [_names_of(image, entry) for image, entry in zip(images, entries, strict=True)]
    first, names = images[0].path, names_of[0]
    if not all(find_bands(names, names)):
        raise InputError(
            f"{first}: several bands have the same name ({', '.join(names)})",
            hint="name the bands with bands: in data.yaml, and give their numbers with bands: of each image",
        )
    for image, image_names in zip(images, names_of, strict=True):
        if len(image_names) != len(names) or not all(find_bands(image_names, names)):
            raise InputError(
                f"the labelled images have different bands: {', '.join(names)} in {first}, "
                f"{', '.join(image_names)} in {image.path}",
                hint="name the bands that all of them have with bands: in data.yaml",
            )
    conflict = config.band_conflict(names)
    if conflict is not None:
        raise InputError(f"{conflict} ({', '.join(names)})")
    return config.model_copy(update={"bands": names})


def _with_names(config: DataConfig) -> DataConfig:
    """`config` with the names that its bands have in the first labelled image.

    Bands without names are not found by them in files of more. So entries all of whose images name their bands as that
    image does pick the numbers that they have there. Three bands without names are red, green and blue.
    """
    first = _images_of(config.labeled[0])[0].path
    in_file, alpha = _bands_in(first)
    usable = _without(in_file, alpha)
    is_rgb = len(usable) == len(RGB) and all(map(is_numbered, usable.values()))
    rgb = dict(zip(usable, RGB, strict=True)) if is_rgb else {}
    called = tuple(rgb.get(number, name) for number, name in enumerate(in_file, 1))
    numbers = pick_bands(first, called, alpha, config.bands)
    names = tuple(called[number - 1] for number in numbers)
    if not all(find_bands(names, names)):
        raise InputError(f"{first}: bands: names the same band twice, or two of the same name ({', '.join(names)})")
    positions = match_bands(list(usable.values()), names)
    found = None if positions is None else tuple(list(usable)[position - 1] for position in positions)

    def picked(entry: E) -> E:
        if entry.bands or found == numbers:
            return entry
        alike = all(_without(*_bands_in(image.path)) == usable for image in _images_of(entry))
        return entry.model_copy(update={"bands": numbers}) if alike else entry

    return config.model_copy(
        update={
            "bands": names,
            "labeled": tuple(map(picked, config.labeled)),
            "unlabeled": tuple(map(picked, config.unlabeled)),
            "val": tuple(map(picked, config.val)) if isinstance(config.val, tuple) else config.val,
        }
    )


def _bands_in(path: str) -> tuple[tuple[str, ...], int | None]:
    """The names of all bands of a raster, and the number of its alpha band, if there is one."""
    check_exists(path)
    with reading(path) as dataset:
        return band_names(dataset), alpha_band(dataset)


def _without(names: Sequence[str], alpha: int | None) -> dict[int, str]:
    """The names of the bands by their numbers, but for alpha."""
    return {number: name for number, name in enumerate(names, 1) if number != alpha}


def _images_of(entry: LabeledEntry | UnlabeledEntry) -> list[_Image]:
    columns = entry.columns if isinstance(entry, LabeledEntry) else ("image",)
    return _images(entry.image, entry.list, columns)


def _names_of(image: _Image, entry: LabeledEntry) -> tuple[str, ...]:
    """Names of the bands of a labelled image: of those that its entry picks, else of all."""
    if image.chip and not entry.bands and color_kind(image.path) != "bands":
        return RGB
    names, alpha = _bands_in(image.path)
    numbers = pick_bands(image.path, names, alpha, entry.bands or None)
    picked = tuple(names[number - 1] for number in numbers)
    return picked if entry.bands else training_names(picked)


def labeled_sources(entries: Iterable[LabeledEntry], classes: ClassMap, bands: tuple[str, ...]) -> list[Source]:
    """The labelled images of `entries`, opened with their labels; chips in the order of their names."""
    return [source for entry in entries for source in _labeled(entry, classes, bands)]


def unlabeled_sources(entries: Iterable[UnlabeledEntry], bands: tuple[str, ...], *, known: set[str]) -> list[Source]:
    """The unlabelled images of `entries`, opened without any labels.

    Chips in `known` (names as by `resolved`) are left out: they have training or validation labels.
    """
    sources = []
    for entry in entries:
        images = _images(entry.image, entry.list)
        unknown = [image for image in images if not (image.chip and resolved(image.path) in known)]
        opened = [Source(_open(image, bands, entry), chip=image.chip) for image in unknown]
        _warn_of_unnamed(opened, bands, entry)
        sources += opened
    return sources


def open_scene(source: str, bands: tuple[str, ...], picked: Picked = (), nodata: Nodata = None) -> Scene:
    """A scene with the bands `bands`: those `picked`; else found by name; else all of them, if as many and unnamed.

    Raises:
        InputError: the bands are not found by name, and are not as many unnamed ones.
    """
    if picked:
        return Scene.open(source, bands=picked, nodata=nodata)
    scene = Scene.open(source, nodata=nodata)
    if match_bands(scene.names, bands) is not None:
        return scene.with_bands_of(bands)
    raise InputError(
        f"{source}: {len(scene.bands)} bands found ({', '.join(scene.names)}), wanted are {', '.join(bands)}",
        hint="name these bands of the image with bands: of its entry in data.yaml, by number or by name",
    )


def _warn_of_unnamed(sources: Sequence[Source], bands: tuple[str, ...], entry: LabeledEntry | UnlabeledEntry) -> None:
    """Warn if bands without known names were taken in the order of the file."""
    if entry.bands:
        return
    unnamed = [source.scene for source in sources if not all(find_bands(source.scene.all_names, bands))]
    unnamed = [scene for scene in unnamed if len({*scene.bands}) == len(bands)]  # not grey chips: one band thrice
    if unnamed:
        others = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        log.warning("%s%s: bands without known names are taken as %s", unnamed[0].source, others, ", ".join(bands))


class _Image(NamedTuple):
    """An image that an entry of a data.yaml names, directly or as a chip of its folder."""

    path: str
    chip: bool
    """Whether the image was found in a folder of chips."""
    labels: str | None = None
    """Name of the label file in the list of chips; None without one."""


def _labeled(entry: LabeledEntry, classes: ClassMap, bands: tuple[str, ...]) -> list[Source]:
    """The images of one entry, opened with their labels and weights."""
    windows = tuple(Window(*box) for box in entry.windows)
    label_of, weight_of = _by_stem(entry, entry.labels), _by_stem(entry, entry.weights)
    sources = []
    for image in _images(entry.image, entry.list, entry.columns):
        scene = _open(image, bands, entry)
        for box, window in zip(entry.windows, windows, strict=True):
            if window.row < 0 or window.col < 0 or window.bottom > scene.height or window.right > scene.width:
                raise InputError(
                    f"{image.path}: window {list(box)} is not inside the image of {scene.height} × {scene.width} pixels"
                )
        labels = _labels_of(image, entry.labels, label_of) if image.chip else entry.labels
        opened = open_labels(labels, scene.grid, classes, attribute=entry.attribute, values=entry.values)
        weights = entry.weights
        if image.chip and isinstance(weights, Path):
            weights = _raster_of(image.path, weights, weight_of)
        weighted = None if weights is None else open_weights(weights, scene.grid)
        sources.append(Source(scene, opened, windows, weighted, chip=image.chip))
    _warn_of_unnamed(sources, bands, entry)
    return sources


def _open(image: _Image, bands: tuple[str, ...], entry: LabeledEntry | UnlabeledEntry) -> Scene:
    """The image as a scene. If `bands` are RGB, chips with one band, grey or with a palette, are read as RGB."""
    if image.chip and not entry.bands and bands == RGB:
        kind = color_kind(image.path)
        if kind == "gray":
            return Scene.open(image.path, bands=(1, 1, 1), nodata=entry.nodata)
        if kind == "palette":
            return Scene.open(f"vrt://{image.path}{_EXPAND_PALETTE}", nodata=entry.nodata)
    return open_scene(image.path, bands, entry.bands, entry.nodata)


def _labels_of(image: _Image, folder: Path, rasters: Mapping[str, Path]) -> Path:
    """The label file of a chip: the one that the list names, else the one in `rasters` (by stem) with its name."""
    if image.labels is None:
        return _raster_of(image.path, folder, rasters)
    by_name = {path.name: path for path in rasters.values()}
    return _find_listed(folder, image.labels, by_name) or _raster_of(image.labels, folder, rasters)


def _by_stem(entry: LabeledEntry, folder: Path | float | None) -> Mapping[str, Path]:
    """The label or weight rasters in `folder` by stem; empty unless the entry's image is a folder of chips, too."""
    if not isinstance(folder, Path) or not Path(entry.image).is_dir():
        return {}
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; a folder of chips ({entry.image}) wants a folder of rasters here")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _raster_of(image: str, folder: Path, rasters: Mapping[str, Path]) -> Path:
    """The label or weight raster of a chip: the one in `rasters` with the chip's stem."""
    stem = Path(image).stem
    if stem not in rasters:
        raise InputError(f"{image}: {folder} holds no raster {stem}.*", hint="list the labelled chips with list:")
    return rasters[stem]


def _images(image: str, listed: Path | None, columns: Sequence[str] = ("image",)) -> list[_Image]:
    """The images that an entry names: `image` itself, or if it is a folder its chips, all or those in the list file."""
    folder = Path(image)
    if not folder.is_dir():
        if listed is not None:
            raise InputError(f"{image}: is no folder; list: {listed} wants a folder of chips as image:")
        return [_Image(image, chip=False)]
    chips = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if listed is None:
        if not chips:
            raise InputError(f"{image}: holds no raster", hint=f"known suffixes: {' '.join(sorted(SUFFIXES))}")
        return [_Image(str(chip), chip=True) for chip in chips]
    by_name = {name: chip for chip in chips for name in (chip.stem, chip.name)}
    images, missing = [], []
    for words in read_list(listed):
        word_by_column = dict(zip(columns, words, strict=False))
        path = _find_listed(folder, word_by_column["image"], by_name)
        if path is None:
            missing.append(Path(word_by_column["image"]).name)
        else:
            images.append(_Image(str(path), chip=True, labels=word_by_column.get("labels")))
    if missing:
        total = len(missing) + len(images)
        raise InputError(f"{listed}: {len(missing)} of {total} chips are not in {image} (first: {missing[0]})")
    return images


def _find_listed(folder: Path, name: str, by_name: Mapping[str, Path]) -> Path | None:
    """The file that a list calls `name`: a path relative to `folder` or its parent, or else a key of `by_name`."""
    for base in (folder, folder.parent):
        if (base / name).is_file():
            return base / name
    return by_name.get(Path(name).name) or by_name.get(Path(name).stem)
