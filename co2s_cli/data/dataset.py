"""A data.yaml made ready: what to draw from, what validates, and the facts that the model file keeps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.data import DataConfig, LabeledEntry, ScalingEntry
from co2s_cli.data import survey
from co2s_cli.data.known import DATA_SETS
from co2s_cli.data.samples import Pool, View
from co2s_cli.data.sources import Source, labeled_sources, resolved, touch, unlabeled_sources, within
from co2s_cli.data.splits import draw
from co2s_cli.data.survey import Block
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import Labels
from co2s_cli.geo.read.scaling import Scaling, scaling_for, widest
from co2s_cli.geo.read.scene import Scene
from co2s_cli.models.manifest import ModelScaling
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
class Dataset:
    """All that a run learns from."""

    classes: ClassMap
    bands: tuple[str, ...]
    scaling: ModelScaling
    ground_resolution: float | None
    labeled: Pool
    unlabeled: Pool | None
    val: tuple[Area, ...]
    counts: tuple[int, ...]
    """Labelled training pixels by class."""
    digest: str
    """Changes when the images, classes, bands, scaling or labels change, or the parts that train or validate."""

    @property
    def applied_scaling(self) -> Scaling:
        """The scaling of all of its images."""
        return _applied(self.scaling)


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which labels teach and which validate."""

    labeled: list[Source]
    """Without weights; what validates is held out of them."""
    blocks: list[Block]
    """Where their labels are."""
    areas: list[Area]
    """What validates."""
    held: list[Area]
    """What no training crop shows: the areas, and where those were drawn the rim around them."""
    judged: list[Block]
    """The labels of what validates."""
    spare: list[Source]
    """Images of which a ratio has taken labels away, without any."""


def assemble(
    config: DataConfig,
    *,
    view: View,
    seed: int,
    ratio: float | None = None,
    with_unlabeled: bool = True,
    name: str = "data.yaml",
) -> Dataset:
    """Open everything that `config`, called `name`, names and refuse what cannot be trained on.

    `ratio`: the share of the labelled images that keep their labels, the others become unlabelled ones; where that is
    less than one image, the share of the labelled places.

    Raises:
        InputError: unreadable or unfit images and labels, no labels, no unlabelled data, or validation that trains.
    """
    classes = config.class_map
    labeled, weighted = _by_trust(labeled_sources(config.labeled, classes, config.bands), config.val)
    roles = _roles(config, labeled, view.crop, seed, ratio)
    weighted = _holding_out(weighted, roles.held)
    more = _blocks_left(weighted, classes, view.crop, first=len(roles.labeled))
    drawn, blocks, labeled = _evenly(roles.blocks, more), [*roles.blocks, *more], [*roles.labeled, *weighted]
    if not blocks:
        raise InputError(f"{name}: every label lies where it validates, nothing is left to learn from")
    unlabeled = _unlabeled(config, labeled, roles) if with_unlabeled else []
    scaling = _scaling(config, [*labeled, *unlabeled])
    items = [survey.item_of(block, labeled, view.crop) for block in drawn]
    counts = tuple(np.sum([block.counts for block in blocks], axis=0).tolist())
    rest = Pool(unlabeled, survey.unlabeled_items(unlabeled, view.crop), _applied(scaling), view) if unlabeled else None
    if with_unlabeled and not rest:
        raise _no_unlabeled(name, unlabeled, view.crop)
    _remark_missing(classes, counts)
    return Dataset(
        classes=classes,
        bands=config.bands,
        scaling=scaling,
        ground_resolution=config.ground_resolution or _resolution([*labeled, *unlabeled]),
        labeled=Pool(labeled, items, _applied(scaling), view),
        unlabeled=rest,
        val=tuple(roles.areas),
        counts=counts,
        digest=_digest(
            [config.bands, scaling, *((one.name, one.prompts) for one in classes.classes)],
            [*labeled, *unlabeled],
            roles.areas,
            [*blocks, *roles.judged],
        ),
    )


def _roles(config: DataConfig, labeled: list[Source], crop: int, seed: int, ratio: float | None) -> _Roles:
    classes = config.class_map
    val = labeled_sources(config.val, classes, config.bands) if isinstance(config.val, tuple) else []
    if isinstance(config.val, float) and all(source.chip for source in labeled):
        val, labeled = draw(labeled, max(1, int(len(labeled) * config.val)), seed)
    judged = _judged_blocks(val, classes, crop)
    areas = held = [_area(source, window) for source in val for window in source.areas]
    keep = len(labeled) if ratio is None else int(len(labeled) * ratio + 1e-9)
    labeled, rest = draw(labeled, keep, seed) if keep else (labeled, labeled)
    blocks = _labeled_blocks(labeled, classes, crop)
    if areas:
        labeled = _kept_apart(labeled, blocks, areas)
    elif isinstance(config.val, float):
        blocks, judged = survey.held_out(blocks, config.val, seed, hint=_way_to_more(blocks, labeled, crop))
        held = [_area(labeled[block.source], block.cell) for block in judged]
        areas = [_area(labeled[block.source], block.core) for block in judged if block.core]
        labeled = _holding_out(labeled, held)
        blocks = _elsewhere(blocks, labeled, held)
    if ratio is not None and not keep:
        labeled, blocks = _share_of_places(labeled, blocks, ratio, seed, hint=_way_to_more(blocks, labeled, crop))
    return _Roles(labeled, blocks, areas, held, judged, [replace(source, labels=None) for source in rest])


def _by_trust(sources: list[Source], val: tuple[LabeledEntry, ...] | float) -> tuple[list[Source], list[Source]]:
    """Sources whose labels may validate if a share of them shall, and those with weights, which only train."""
    trusted = [source for source in sources if source.weights is None]
    if isinstance(val, float) and not trusted:
        return sources, []
    return trusted, [source for source in sources if source.weights is not None]


def _evenly(trusted: list[Block], weighted: list[Block]) -> list[Block]:
    """Blocks to draw from: those without weights so often that about half of all draws show one of them.

    Pseudo-labels mostly cover all of a scene; beside them a few hand-made labels would hardly ever be seen.
    """
    times = max(1, round(len(weighted) / len(trusted))) if trusted else 1
    return [*trusted * times, *weighted]


def _blocks_left(sources: Sequence[Source], classes: ClassMap, crop: int, *, first: int) -> list[Block]:
    """The blocks of sources that only train, numbered from `first`, without those that lie in what validates."""
    return [
        replace(block, source=first + block.source)
        for block in _labeled_blocks(sources, classes, crop)
        if not any(within(block.near, out) for out in sources[block.source].holdout)
    ]


def _labeled_blocks(sources: Sequence[Source], classes: ClassMap, crop: int) -> list[Block]:
    blocks = survey.labeled_blocks(sources, len(classes), crop)
    if sources and not blocks:
        raise InputError(f"{_names_of(sources)}: every pixel is ignored (255), nothing is labelled")
    return blocks


def _judged_blocks(val: Sequence[Source], classes: ClassMap, crop: int) -> list[Block]:
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


def _way_to_more(blocks: Sequence[Block], labeled: Sequence[Source], crop: int) -> str:
    """What to do where there are too few blocks."""
    side = max((max(labeled[block.source].scene.grid.shape) for block in blocks), default=0)
    if 2 * _SMALLEST_CROP < side <= 2 * crop:
        return f"--crop below {-(-side // 2)} (an image of up to two crops is one block)"
    return "label more places"


def _elsewhere(blocks: Sequence[Block], labeled: Sequence[Source], held: Sequence[Area]) -> list[Block]:
    """The blocks without those whose place another source of the same image has given to the validation."""
    images = [resolved(source.scene.source) for source in labeled]
    taken = {(resolved(area.scene.source), area.window) for area in held}
    return [block for block in blocks if (images[block.source], block.cell) not in taken]


def _share_of_places(
    labeled: Sequence[Source], blocks: Sequence[Block], ratio: float, seed: int, *, hint: str
) -> tuple[list[Source], list[Block]]:
    """The sources with labels in a share of their blocks alone, and these blocks."""
    if len(blocks) * ratio < 1:
        raise InputError(
            f"--labeled-ratio {ratio:g} of {len(labeled)} labelled images is less than one, and of the "
            f"{len(blocks)} blocks with labels in them, too",
            hint=f"{hint}, or ask for a larger share",
        )
    kept = survey.share_of(blocks, ratio, seed)
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


def _kept_apart(labeled: list[Source], blocks: Sequence[Block], areas: Sequence[Area]) -> list[Source]:
    """The labelled sources with the validation on the same images held out; labels that lie in it are refused."""
    kept = _holding_out(labeled, areas)
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


def _holding_out(sources: Sequence[Source], areas: Sequence[Area]) -> list[Source]:
    """The sources with the areas on the same images held out."""
    windows: dict[str, list[Window]] = {}
    for area in areas:
        windows.setdefault(resolved(area.scene.source), []).append(area.window)
    return [source.keeping_out(windows.get(resolved(source.scene.source), ())) for source in sources]


def _unlabeled(config: DataConfig, labeled: Sequence[Source], roles: _Roles) -> list[Source]:
    images = [source.scene.source for source in (*labeled, *roles.spare)]
    known = {*images, *(area.scene.source for area in roles.areas)}
    sources = _holding_out(unlabeled_sources(config.unlabeled, config.bands, known=known), roles.held)
    out = [source for source in sources if _validates(source)]
    if out and isinstance(config.val, tuple):
        raise InputError(
            f"{out[0].scene.source}: all of it validates, yet it is listed as unlabelled",
            hint="take it out of unlabeled:, or give val: windows of it",
        )
    named = {resolved(source.scene.source) for source in sources}
    spare = [source for source in roles.spare if resolved(source.scene.source) not in named]
    sources = [*sources, *_holding_out(spare, roles.held)]
    return [source for source in sources if not _validates(source)]  # of a share nobody has chosen it


def _no_unlabeled(name: str, sources: Sequence[Source], crop: int) -> InputError:
    """Why there is nothing to draw unlabelled crops from."""
    if sources:
        return InputError(
            f"{sources[0].scene.source}: no place of {crop} × {crop} pixels in the unlabelled images holds data and "
            "lies off what validates",
            hint="add images to unlabeled:, or validate with less",
        )
    if name in DATA_SETS:
        way = "take labels away with --labeled-ratio 1/16, or name the folder of published lists with --splits"
    else:
        way = "name some with unlabeled:"
    return InputError(f"{name}: no unlabelled images", hint=f"{way}, or learn from labels alone: --method supervised")


def _validates(source: Source) -> bool:
    """Whether all of a source is held out."""
    return Window(0, 0, source.scene.height, source.scene.width) in source.holdout


def _scaling(config: DataConfig, sources: Sequence[Source]) -> ModelScaling:
    """The ranges of data.yaml, else those of the images: the widest over all of them."""
    of_type = {source.scene.dtype: source.scene.source for source in reversed(sources)}
    if len(of_type) > 1:
        both = " and ".join(f"{dtype} ({of_type[dtype]})" for dtype in sorted(of_type))
        raise InputError(f"images: sample types {both} found, all must have one")
    (dtype,) = of_type
    if config.scaling is not None:
        if config.scaling.dtype != dtype:
            raise InputError(f"{sources[0].scene.source}: samples are {dtype}, data.yaml scales {config.scaling.dtype}")
        return _model_scaling(config.scaling)
    blank = ModelScaling(low=(), high=())
    found = [scaling_for(source.scene, "auto", blank) for source in (sources[:1] if dtype == "uint8" else sources)]
    one = widest(found)
    return ModelScaling.model_validate({"dtype": dtype, "low": one.low, "high": one.high})


def _model_scaling(entry: ScalingEntry) -> ModelScaling:
    return ModelScaling.model_validate({"dtype": entry.dtype, "low": entry.low, "high": entry.high})


def _applied(scaling: ModelScaling) -> Scaling:
    return Scaling(scaling.low, scaling.high)


def _resolution(sources: Sequence[Source]) -> float | None:
    found = [value for source in sources if (value := source.scene.ground_resolution) is not None]
    return median(found) if found else None


def _remark_missing(classes: ClassMap, counts: Sequence[int]) -> None:
    missing = [name for name, count in zip(classes.names, counts, strict=True) if count == 0]
    if missing:
        log.warning("no label of class %s trains: the model cannot learn it", ", ".join(missing))


def _digest(facts: Sequence[object], sources: Sequence[Source], areas: Sequence[Area], blocks: Sequence[Block]) -> str:
    total = hashlib.sha256()
    for fact in facts:
        total.update(f"{fact!r}\n".encode())
    for source in sources:
        scene = source.scene
        total.update(f"{scene.identity} {scene.bands} {source.windows} {source.holdout}\n".encode())
        if source.weights is not None:
            total.update(f"{source.weights!r}\n".encode())
    for area in areas:
        total.update(f"{area.scene.identity} {area.scene.bands} {area.window}\n".encode())
    for block in blocks:
        total.update(f"{block.source} {block.cell} {block.content}\n".encode())
    return total.hexdigest()
