"""Which labels teach and which validate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry
from co2s_cli.data import survey
from co2s_cli.data.holdout import held_out, polygon_places, share_of
from co2s_cli.data.sources import Source, labeled_sources, resolved, touch, within
from co2s_cli.data.splits import draw, draw_tiles, tile_of
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import Labels
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

_SMALLEST_CROP = 32
"""Side of the smallest crops that a run may ask for."""


@dataclass(frozen=True, slots=True)
class Area:
    """A part of a scene whose labels validate."""

    scene: Scene
    labels: Labels
    window: Window


@dataclass(frozen=True, slots=True)
class Roles:
    """Which labels teach and which validate."""

    labeled: list[Source]
    """Without weights; what validates is held out of them."""
    blocks: list[LabelBlock]
    """Where their labels are."""
    areas: list[Area]
    """What validates."""
    held: list[Area]
    """What no training crop shows: the areas, and where those were drawn the rim around them."""
    taught: list[LabelBlock]
    """Where labels train that are told of beside those that validate; empty where data.yaml names what validates."""
    judged: list[LabelBlock]
    """The labels of what validates."""
    spare: list[Source]
    """Images of which a ratio has taken labels away, without any."""


def roles_of(config: DataConfig, labeled: list[Source], crop: int, seed: int, ratio: float | None) -> Roles:
    """The roles of the labelled images, none of which has weights; `ratio` as for `assemble`."""
    classes = config.class_map
    val = labeled_sources(config.val, classes, config.bands) if isinstance(config.val, tuple) else []
    if isinstance(config.val, float) and all(source.chip for source in labeled):
        val, labeled = _chips_held_out(config, labeled, config.val, seed)
    judged = _judged_blocks(val, classes, crop)
    areas = held = [_area(source, window) for source in val for window in source.areas]
    keep = len(labeled) if ratio is None else int(len(labeled) * ratio + 1e-9)
    labeled, rest = draw(labeled, keep, seed) if keep else (labeled, labeled)
    blocks = _labeled_blocks(labeled, classes, crop)
    taught = blocks if isinstance(config.val, float) else []
    if areas:
        labeled = _kept_apart(labeled, blocks, areas)
    elif isinstance(config.val, float):
        places = _places(labeled, blocks, len(classes))
        hint = _way_to_more(places, labeled, crop)
        taught, judged = held_out(places, config.val, seed, hint=hint)
        held = [_area(labeled[block.source], block.cell) for block in judged]
        areas = [_area(labeled[block.source], block.core) for block in judged if block.core]
        labeled = holding_out(labeled, held)
        blocks = _elsewhere(_blocks_kept(labeled, blocks, taught, len(classes), crop), labeled, held)
    if ratio is not None and not keep:
        labeled, blocks = _share_of_places(labeled, blocks, ratio, seed, hint=_way_to_more(blocks, labeled, crop))
    return Roles(labeled, blocks, areas, held, taught, judged, [replace(source, labels=None) for source in rest])


def _chips_held_out(
    config: DataConfig, chips: list[Source], share: float, seed: int
) -> tuple[list[Source], list[Source]]:
    """Chips that validate and chips that train."""
    count = max(1, int(len(chips) * share))
    if config.split_by == "chip":
        return draw(chips, count, seed)
    return draw_tiles(chips, [tile_of(chip.scene.source, config.tile) for chip in chips], count, seed)


def by_trust(sources: list[Source], val: tuple[LabeledEntry, ...] | float) -> tuple[list[Source], list[Source]]:
    """Sources whose labels may validate if a share of them shall, and those with weights, which only train."""
    trusted = [source for source in sources if source.weights is None]
    if isinstance(val, float) and not trusted:
        return sources, []
    return trusted, [source for source in sources if source.weights is not None]


def evenly(trusted: list[LabelBlock], weighted: list[LabelBlock]) -> list[LabelBlock]:
    """Blocks to draw from: those without weights so often that about half of all draws show one of them.

    Pseudo-labels mostly cover all of a scene; beside them a few hand-made labels would hardly ever be seen.
    """
    times = max(1, round(len(weighted) / len(trusted))) if trusted else 1
    return [*trusted * times, *weighted]


def blocks_left(sources: Sequence[Source], classes: ClassMap, crop: int, *, first: int) -> list[LabelBlock]:
    """The blocks of sources that only train, numbered from `first`, without those that lie in what validates."""
    return [
        replace(block, source=first + block.source)
        for block in _labeled_blocks(sources, classes, crop)
        if not any(within(block.near, out) for out in sources[block.source].holdout)
    ]


def _labeled_blocks(sources: Sequence[Source], classes: ClassMap, crop: int) -> list[LabelBlock]:
    blocks = survey.labeled_blocks(sources, len(classes), crop)
    if sources and not blocks and not any(source.holdout for source in sources):
        raise InputError(f"{_names_of(sources)}: every pixel is ignored (255), nothing is labelled")
    return blocks


def _judged_blocks(val: Sequence[Source], classes: ClassMap, crop: int) -> list[LabelBlock]:
    """The labels of the images that validate, read here so that what is wrong with them is found before training."""
    blocks = survey.labeled_blocks(val, len(classes), crop)
    if val and not blocks:
        raise InputError(
            f"{_names_of(val)}: no labelled pixel to validate with, all of them are ignored (255)",
            hint="val: in data.yaml wants images, or windows of them, with labels inside",
        )
    return blocks


def _names_of(sources: Sequence[Source]) -> str:
    return ", ".join(sorted({source.labels.source for source in sources if source.labels}))[:200]


def _way_to_more(blocks: Sequence[LabelBlock], labeled: Sequence[Source], crop: int) -> str:
    """What to do where there are too few blocks."""
    side = max((max(labeled[block.source].scene.grid.shape) for block in blocks), default=0)
    if 2 * _SMALLEST_CROP < side <= 2 * crop:
        return f"--crop below {-(-side // 2)} (an image of up to two crops is one block)"
    return "label more places"


def _elsewhere(blocks: Sequence[LabelBlock], labeled: Sequence[Source], held: Sequence[Area]) -> list[LabelBlock]:
    """The blocks without those whose place another source of the same image has given to the validation."""
    images = [resolved(source.scene.source) for source in labeled]
    taken = {(resolved(area.scene.source), area.window) for area in held}
    return [block for block in blocks if (images[block.source], block.cell) not in taken]


def _share_of_places(
    labeled: Sequence[Source], blocks: Sequence[LabelBlock], ratio: float, seed: int, *, hint: str
) -> tuple[list[Source], list[LabelBlock]]:
    """The sources with labels in a share of their blocks alone, and these blocks."""
    if len(blocks) * ratio < 1:
        raise InputError(
            f"--labeled-ratio {ratio:g} of {len(labeled)} labelled images is less than one, and of the "
            f"{len(blocks)} blocks with labels in them, too",
            hint=f"{hint}, or ask for a larger share",
        )
    kept = share_of(blocks, ratio, seed)
    used = sorted({block.source for block in kept})
    cells = {index: tuple(block.cell for block in kept if block.source == index) for index in used}
    return (
        [replace(labeled[index], windows=cells[index]) for index in used],
        [replace(block, source=used.index(block.source)) for block in kept],
    )


def _area(source: Source, window: Window) -> Area:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    return Area(source.scene, source.labels, window)


def _kept_apart(labeled: list[Source], blocks: Sequence[LabelBlock], areas: Sequence[Area]) -> list[Source]:
    """The labelled sources with the validation on the same images held out; labels that lie in it are refused."""
    kept = holding_out(labeled, areas)
    for block in blocks:
        source = kept[block.source]
        for out in source.holdout:
            if touch(block.near, out) and _labels_inside(source, block.near, out):
                raise InputError(
                    f"{source.labels.source if source.labels else ''}: labels train and validate at once, around row "
                    f"{max(block.near.row, out.row)}, column {max(block.near.col, out.col)} of {source.scene.source}",
                    hint="take them out of labeled: or of val:, or let a ratio draw the validation (val: 0.2)",
                )
    return kept


def _labels_inside(source: Source, near: Window, out: Window) -> bool:
    row, col = max(near.row, out.row), max(near.col, out.col)
    shared = Window(row, col, min(near.bottom, out.bottom) - row, min(near.right, out.right) - col)
    if source.labels is None:
        return False
    with source.labels.reader() as reader:
        return bool((reader.read(shared) != IGNORE).any())


def holding_out(sources: Sequence[Source], areas: Sequence[Area]) -> list[Source]:
    """The sources with the areas on the same images held out."""
    windows: dict[str, list[Window]] = {}
    for area in areas:
        windows.setdefault(resolved(area.scene.source), []).append(area.window)
    return [source.keeping_out(windows.get(resolved(source.scene.source), ())) for source in sources]


def _places(labeled: Sequence[Source], blocks: Sequence[LabelBlock], classes: int) -> list[LabelBlock]:
    """What may validate: the polygons of a source, or its blocks where it has none."""
    places: list[LabelBlock] = []
    for index, source in enumerate(labeled):
        polygons = polygon_places(index, source, classes)
        places += polygons or [block for block in blocks if block.source == index]
    return places


def _blocks_kept(
    labeled: Sequence[Source], blocks: Sequence[LabelBlock], kept: Sequence[LabelBlock], classes: int, crop: int
) -> list[LabelBlock]:
    """The blocks that train: those kept, and of sources that were split by polygons what is not held out."""
    known = {(block.source, block.cell) for block in blocks}
    split = {block.source for block in kept if (block.source, block.cell) not in known}
    split |= {block.source for block in blocks} - {block.source for block in kept}
    left = [block for block in kept if block.source not in split]
    return left + [block for index in sorted(split) for block in survey.blocks_of(index, labeled[index], classes, crop)]


def tell_sides(classes: ClassMap, train: Sequence[LabelBlock], val: Sequence[LabelBlock]) -> None:
    """Log the labelled pixels and places of each class that train and that validate; warn of those on one side."""
    sides = [np.array([block.counts for block in side]) for side in (train, val)]
    pixels, places = [side.sum(axis=0) for side in sides], [(side > 0).sum(axis=0) for side in sides]
    for class_id, name in enumerate(classes.names):
        log.info(
            "%s: %s labelled pixels in %d place%s train, %s in %d validate",
            name, f"{pixels[0][class_id]:,}", places[0][class_id], "" if places[0][class_id] == 1 else "s",
            f"{pixels[1][class_id]:,}", places[1][class_id],
        )  # fmt: skip
    missing = [name for class_id, name in enumerate(classes.names) if places[0][class_id] and not places[1][class_id]]
    if missing:
        log.warning("class %s cannot be validated: none of its labels is among those that validate", ", ".join(missing))
