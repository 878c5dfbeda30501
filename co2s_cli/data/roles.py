"""Split labels into those that train and those that validate, and keep the two apart in the images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry
from co2s_cli.data import survey
from co2s_cli.data.holdout import draw_held_out, drawn_places, share_of
from co2s_cli.data.sources import Source, labeled_sources, resolved, shared, within
from co2s_cli.data.splits import draw, draw_tiles, tile_of
from co2s_cli.data.survey import SMALLEST_CELL, LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import Labels
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

_SMALLEST_CROP = 32
"""Smallest side of the crops of a run, in pixels."""


@dataclass(frozen=True, slots=True)
class Area:
    """A window of a scene whose labels are the truth for scores."""

    scene: Scene
    labels: Labels
    window: Window


@dataclass(frozen=True, slots=True)
class Roles:
    """The split of the labelled images into training and validation."""

    labeled: list[Source]
    """Images with labels that train; the parts that validate are held out of them. None has label weights."""
    blocks: list[LabelBlock]
    """Training blocks of `labeled`."""
    areas: list[Area]
    """Areas whose labels validate."""
    held_out: list[Area]
    """Parts that no training crop may show: `areas`, with a rim around those that were drawn."""
    train_blocks: list[LabelBlock]
    """Training labels for the log of the split; empty if data.yaml names the validation labels."""
    val_blocks: list[LabelBlock]
    """Validation labels."""
    unlabeled: list[Source]
    """Images from which a ratio has removed all labels or, if less than one image keeps its labels, a part of them."""


def roles_of(config: DataConfig, labeled: list[Source], crop: int, seed: int, ratio: float | None) -> Roles:
    """Split `labeled`, the labelled images without label weights, into training and validation.

    `crop`, `seed` and `ratio` are as for `assemble`.
    """
    classes = config.class_map
    val = labeled_sources(config.val, classes, config.band_names) if isinstance(config.val, tuple) else []
    if isinstance(config.val, float) and all(source.chip for source in labeled):
        val, labeled = _draw_val_chips(config, labeled, config.val, seed)
    val_blocks = _val_blocks(val, classes, crop)
    areas = held_out = [_area(source, window) for source in val for window in source.areas]
    keep = len(labeled) if ratio is None else int(len(labeled) * ratio + 1e-9)
    labeled, unlabeled = draw(labeled, keep, seed) if keep else (labeled, labeled)
    blocks = _labeled_blocks(labeled, classes, crop)
    train_blocks = blocks if isinstance(config.val, float) else []
    if areas:
        labeled = _checked_holdout(labeled, blocks, areas)
    elif isinstance(config.val, float):
        places = _drawable_places(labeled, blocks, len(classes), crop)
        train_blocks, val_blocks = draw_held_out(places, config.val, seed)
        held_out = [_area(labeled[block.source], block.cell) for block in val_blocks]
        areas = [_area(labeled[block.source], block.core) for block in val_blocks if block.core]
        labeled = with_holdout(labeled, held_out)
        blocks = _not_held_out(_kept_blocks(labeled, blocks, train_blocks, len(classes), crop), labeled, held_out)
    if ratio is not None and not keep:
        hint = _more_blocks_hint(blocks, labeled, crop)
        labeled, blocks = _share_of_blocks(labeled, blocks, ratio, seed, hint=hint)
    without_labels = [replace(source, labels=None) for source in unlabeled]
    return Roles(labeled, blocks, areas, held_out, train_blocks, val_blocks, without_labels)


def _draw_val_chips(
    config: DataConfig, chips: list[Source], share: float, seed: int
) -> tuple[list[Source], list[Source]]:
    """Chips that validate, and chips that train."""
    count = max(1, int(len(chips) * share))
    if config.split_by == "chip":
        return draw(chips, count, seed)
    return draw_tiles(chips, [tile_of(chip.scene.source, config.tile) for chip in chips], count, seed)


def by_trust(sources: list[Source], val: tuple[LabeledEntry, ...] | float) -> tuple[list[Source], list[Source]]:
    """Sources without label weights, and those with weights, which only train.

    If a share of the labels validates and all sources have weights, all are treated as if they had none.
    """
    trusted = [source for source in sources if source.weights is None]
    if isinstance(val, float) and not trusted:
        return sources, []
    return trusted, [source for source in sources if source.weights is not None]


def evenly(trusted: list[LabelBlock], weighted: list[LabelBlock]) -> list[LabelBlock]:
    """Blocks to draw crops from, those without weights repeated so that they make up about half of the list.

    Pseudo-labels mostly cover a whole scene: without repetition, few hand-made labels would hardly ever be drawn.
    """
    times = max(1, round(len(weighted) / len(trusted))) if trusted else 1
    return [*trusted * times, *weighted]


def training_blocks(sources: Sequence[Source], classes: ClassMap, crop: int, *, first: int) -> list[LabelBlock]:
    """Blocks of sources that only train, without those inside a held-out part; source numbers begin at `first`."""
    return [
        replace(block, source=first + block.source)
        for block in _labeled_blocks(sources, classes, crop)
        if not any(within(block.near, holdout) for holdout in sources[block.source].holdout)
    ]


def _labeled_blocks(sources: Sequence[Source], classes: ClassMap, crop: int) -> list[LabelBlock]:
    blocks = survey.labeled_blocks(sources, len(classes), crop)
    if sources and not blocks and not any(source.holdout for source in sources):
        raise InputError(f"{_names_of(sources)}: every pixel is ignored (255), nothing is labelled")
    return blocks


def _val_blocks(val: Sequence[Source], classes: ClassMap, crop: int) -> list[LabelBlock]:
    """Labelled blocks of the validation images; reading them now finds errors before training starts."""
    blocks = survey.labeled_blocks(val, len(classes), crop)
    if val and not blocks:
        raise InputError(
            f"{_names_of(val)}: no labelled pixel to validate with, all of them are ignored (255)",
            hint="val: in data.yaml wants images, or windows of them, with labels inside",
        )
    return [
        replace(block, core=block.cell, core_counts=block.counts) for block in blocks
    ]  # no rim: all of it validates


def _names_of(sources: Sequence[Source]) -> str:
    """Names of the label files, cut off after 200 characters."""
    return ", ".join(sorted({source.labels.source for source in sources if source.labels}))[:200]


def _more_blocks_hint(blocks: Sequence[LabelBlock], labeled: Sequence[Source], crop: int) -> str:
    """Hint for the error that there are too few blocks."""
    side = max((max(labeled[block.source].scene.grid.shape) for block in blocks), default=0)
    if 2 * _SMALLEST_CROP < side <= 2 * crop:
        return f"--crop below {-(-side // 2)} (an image of up to two crops is one block)"
    return "label more places"


def _not_held_out(blocks: Sequence[LabelBlock], labeled: Sequence[Source], areas: Sequence[Area]) -> list[LabelBlock]:
    """The blocks whose cell is not held out; another source of the same image may have given it to validation."""
    images = [resolved(source.scene.source) for source in labeled]
    held_cells = {(resolved(area.scene.source), area.window) for area in areas}
    return [block for block in blocks if (images[block.source], block.cell) not in held_cells]


def _share_of_blocks(
    labeled: Sequence[Source], blocks: Sequence[LabelBlock], ratio: float, seed: int, *, hint: str
) -> tuple[list[Source], list[LabelBlock]]:
    """The share `ratio` of the blocks, and their sources limited to these blocks."""
    if len(blocks) * ratio < 1:
        raise InputError(
            f"--labeled-ratio {ratio:g}: is less than one of the {len(labeled)} labelled images, and less than one of "
            f"their {len(blocks)} blocks with labels",
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


def _checked_holdout(labeled: list[Source], blocks: Sequence[LabelBlock], areas: Sequence[Area]) -> list[Source]:
    """The sources with the validation areas of the same images held out.

    Raises:
        InputError: training labels lie in a validation area.
    """
    sources = with_holdout(labeled, areas)
    for block in blocks:
        source = sources[block.source]
        for holdout in source.holdout:
            both = shared(block.near, holdout)
            if both is not None and _has_labels(source, both):
                raise InputError(
                    f"{source.labels.source if source.labels else ''}: labels train and validate at once, around row "
                    f"{both.row}, column {both.col} of {source.scene.source}",
                    hint="take them out of labeled: or of val:, or let a ratio draw the validation (val: 0.2)",
                )
    return sources


def _has_labels(source: Source, window: Window) -> bool:
    """Whether the source has labels in a window."""
    if source.labels is None:
        return False
    with source.labels.reader() as reader:
        return bool((reader.read(window) != IGNORE).any())


def with_holdout(sources: Sequence[Source], areas: Sequence[Area]) -> list[Source]:
    """The sources with those areas held out that lie on the same images."""
    windows: dict[str, list[Window]] = {}
    for area in areas:
        windows.setdefault(resolved(area.scene.source), []).append(area.window)
    return [source.with_more_holdout(windows.get(resolved(source.scene.source), ())) for source in sources]


def _drawable_places(
    labeled: Sequence[Source], blocks: Sequence[LabelBlock], classes: int, crop: int
) -> list[LabelBlock]:
    """What may be drawn for validation: blocks around a source's polygons or regions, else the source's blocks.

    If no class has two such places, whole polygons would take classes from training: blocks are drawn then, if that
    brings a class into two of them. Where all labels share one place, the images are divided into smaller cells.
    """
    places: list[LabelBlock] = []
    for index, source in enumerate(labeled):
        own_blocks = [block for block in blocks if block.source == index]
        labeled_pixels = sum(sum(block.counts) for block in own_blocks)
        places += drawn_places(index, source, classes, labeled_pixels) or own_blocks
    longest = max(max(source.scene.height, source.scene.width) for source in labeled)
    side = min(crop // 2, longest // 4)
    while len(places) < 2 and side >= SMALLEST_CELL:
        places = [
            cell for index, source in enumerate(labeled) for cell in survey.cells_of(index, source, classes, side)
        ]
        side //= 2
    return list(blocks) if _all_single(places, classes) and not _all_single(blocks, classes) else places


def _all_single(blocks: Sequence[LabelBlock], classes: int) -> bool:
    """Whether no class is in two blocks."""
    return all(sum(block.counts[class_id] > 0 for block in blocks) < 2 for class_id in range(classes))


def _kept_blocks(
    labeled: Sequence[Source], blocks: Sequence[LabelBlock], kept: Sequence[LabelBlock], classes: int, crop: int
) -> list[LabelBlock]:
    """The blocks that train: those of `kept`, except that sources that were split by polygons are divided anew.

    The new blocks of such a source cover what is not held out of it.
    """
    cells = {(block.source, block.cell) for block in blocks}
    by_polygons = {block.source for block in kept if (block.source, block.cell) not in cells}
    by_polygons |= {block.source for block in blocks} - {block.source for block in kept}
    others = [block for block in kept if block.source not in by_polygons]
    return others + [
        block for index in sorted(by_polygons) for block in survey.blocks_of(index, labeled[index], classes, crop)
    ]


def log_split(classes: ClassMap, train: Sequence[LabelBlock], val: Sequence[LabelBlock]) -> None:
    """Log, by class, how many labelled pixels and blocks train and validate; warn of classes without validation."""
    sides = [np.array([block.counts for block in train]), np.array([block.core_counts for block in val])]
    pixels, places = [side.sum(axis=0) for side in sides], [(side > 0).sum(axis=0) for side in sides]
    for class_id, name in enumerate(classes.names):
        log.info(
            "%s: %s labelled pixels in %d place%s train, %s in %d validate",
            name, f"{pixels[0][class_id]:,}", places[0][class_id], "" if places[0][class_id] == 1 else "s",
            f"{pixels[1][class_id]:,}", places[1][class_id],
        )  # fmt: skip
    missing = [name for class_id, name in enumerate(classes.names) if places[0][class_id] and not places[1][class_id]]
    if missing:
        log.warning("class %s cannot be validated: none of its labels were drawn for validation", ", ".join(missing))
