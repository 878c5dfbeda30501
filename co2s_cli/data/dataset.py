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
from co2s_cli.data.samples import Pool, View
from co2s_cli.data.sources import Source, labeled_sources, resolved, touch, unlabeled_sources, within
from co2s_cli.data.splits import draw
from co2s_cli.data.survey import Block
from co2s_cli.errors import InputError
from co2s_cli.geo.labels import Labels
from co2s_cli.geo.scaling import Scaling, scaling_for, widest
from co2s_cli.geo.scene import Scene
from co2s_cli.models.manifest import ModelScaling
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)


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
    """Changes when the images, their labels or the parts that train change."""

    @property
    def applied_scaling(self) -> Scaling:
        """The scaling of all of its images."""
        return _applied(self.scaling)


def assemble(
    config: DataConfig, *, view: View, seed: int, ratio: float | None = None, with_unlabeled: bool = True
) -> Dataset:
    """Open everything that `config` names and refuse what cannot be trained on.

    `ratio`: the share of the labelled chips that keep their labels; the others join the unlabelled ones.

    Raises:
        InputError: unreadable or unfit images and labels, no labels, no unlabelled data, or validation that trains.
    """
    classes = config.class_map
    labeled, weighted = _by_trust(labeled_sources(config.labeled, classes, config.bands), config.val)
    val = labeled_sources(config.val, classes, config.bands) if isinstance(config.val, tuple) else []
    if isinstance(config.val, float) and all(source.chip for source in labeled):
        val, labeled = draw(labeled, max(1, int(len(labeled) * config.val)), seed)
    areas = [_area(source, window) for source in val for window in source.areas]
    labeled, spare = _labeled_share(labeled, ratio, seed)
    blocks = _labeled_blocks(labeled, classes, view.crop)
    if areas:
        labeled = _kept_apart(labeled, blocks, areas)
    elif isinstance(config.val, float):
        blocks, out = survey.held_out(blocks, config.val, seed)
        labeled = survey.without(labeled, out)
        areas = [_area(labeled[block.source], survey.validation_window(block, labeled)) for block in out]
    weighted = _like(labeled, _holding_out(weighted, areas))
    more = _blocks_left(weighted, classes, view.crop, first=len(labeled))
    drawn, blocks, labeled = _evenly(blocks, more), [*blocks, *more], [*labeled, *weighted]
    unlabeled = _unlabeled(config, labeled, areas, spare) if with_unlabeled else []
    scaling = _scaling(config, [*labeled, *unlabeled])
    items = [survey.item_of(block, labeled, view.crop) for block in drawn]
    pool = Pool(labeled, items, _applied(scaling), view)
    rest = Pool(unlabeled, survey.unlabeled_items(unlabeled, view.crop), _applied(scaling), view) if unlabeled else None
    if with_unlabeled and not rest:
        raise InputError(
            "data: no unlabelled images",
            hint="name some with unlabeled:, or learn from labels alone: --method supervised",
        )
    counts = tuple(np.sum([block.counts for block in blocks], axis=0).tolist())
    _remark_missing(classes, counts)
    return Dataset(
        classes=classes,
        bands=config.bands,
        scaling=scaling,
        ground_resolution=config.ground_resolution or _resolution([*labeled, *unlabeled]),
        labeled=pool,
        unlabeled=rest,
        val=tuple(areas),
        counts=counts,
        digest=_digest(labeled, unlabeled, areas, blocks),
    )


def _by_trust(sources: list[Source], val: tuple[LabeledEntry, ...] | float) -> tuple[list[Source], list[Source]]:
    """Sources whose labels may validate if a share of them shall, and those with weights, which only train."""
    trusted = [source for source in sources if source.weights is None]
    if isinstance(val, float) and not trusted:
        return sources, []
    return trusted, [source for source in sources if source.weights is not None]


def _like(models: Sequence[Source], sources: Sequence[Source]) -> list[Source]:
    """The sources with all that is held out of a model source of the same image."""
    known: dict[str, dict[Window, None]] = {}
    for source in models:
        known.setdefault(resolved(source.scene.source), {}).update(dict.fromkeys(source.holdout))
    return [
        source.keeping_out(out for out in known.get(resolved(source.scene.source), ()) if out not in source.holdout)
        for source in sources
    ]


def _evenly(trusted: list[Block], weighted: list[Block]) -> list[Block]:
    """Blocks to draw from: those without weights so often that about half of all draws show one of them.

    Pseudo-labels mostly cover all of a scene; beside them a few hand-made labels would hardly ever be seen.
    """
    times = max(1, round(len(weighted) / len(trusted))) if trusted else 1
    return [*trusted * times, *weighted]


def _blocks_left(sources: Sequence[Source], classes: ClassMap, crop: int, *, first: int) -> list[Block]:
    """The blocks of sources that only train, numbered from `first`, without those that lie in what validates."""
    left = [
        replace(block, source=first + block.source)
        for block in _labeled_blocks(sources, classes, crop)
        if not any(within(block.near, out) for out in sources[block.source].holdout)
    ]
    if not left and not first:
        raise InputError("data: every label lies where it validates, nothing is left to learn from")
    return left


def _labeled_blocks(sources: Sequence[Source], classes: ClassMap, crop: int) -> list[Block]:
    blocks = survey.labeled_blocks(sources, len(classes), crop)
    if sources and not blocks:
        names = ", ".join(sorted({source.labels.source for source in sources if source.labels}))[:200]
        raise InputError(f"{names}: every pixel is ignored (255), nothing is labelled")
    return blocks


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


def _labeled_share(sources: list[Source], ratio: float | None, seed: int) -> tuple[list[Source], list[Source]]:
    """The sources that keep their labels, and the others without theirs, which are not opened again."""
    if ratio is None:
        return sources, []
    count = int(len(sources) * ratio + 1e-9)
    if count < 1:
        raise InputError(
            f"--labeled-ratio {ratio:g} of {len(sources)} labelled images is less than one",
            hint="the ratio counts images; for few big scenes leave labels out of the label file instead",
        )
    kept, rest = draw(sources, count, seed)
    return kept, [replace(source, labels=None) for source in rest]


def _unlabeled(
    config: DataConfig, labeled: Sequence[Source], areas: Sequence[Area], spare: Sequence[Source]
) -> list[Source]:
    known = {source.scene.source for source in (*labeled, *spare)} | {area.scene.source for area in areas}
    sources = unlabeled_sources(config.unlabeled, config.bands, known=known)
    sources = _holding_out(sources, areas)
    out = [source for source in sources if _validates(source)]
    if out and isinstance(config.val, tuple):
        raise InputError(
            f"{out[0].scene.source}: all of it validates, yet it is listed as unlabelled",
            hint="take it out of unlabeled:, or give val: windows of it",
        )
    sources = [source for source in sources if not _validates(source)]  # of a share nobody has chosen it
    return [*_like(labeled, sources), *spare]


def _validates(source: Source) -> bool:
    """Whether all of a source is held out."""
    return Window(0, 0, source.scene.height, source.scene.width) in source.holdout


def _scaling(config: DataConfig, sources: Sequence[Source]) -> ModelScaling:
    """The ranges of data.yaml, else those of the images: the widest over all of them."""
    types = sorted({source.scene.dtype for source in sources})
    if len(types) > 1:
        raise InputError(f"images: sample types {', '.join(types)} found, all must have one")
    if config.scaling is not None:
        if config.scaling.dtype != types[0]:
            raise InputError(
                f"{sources[0].scene.source}: samples are {types[0]}, data.yaml scales {config.scaling.dtype}"
            )
        return _model_scaling(config.scaling)
    blank = ModelScaling(low=(), high=())
    found = [scaling_for(source.scene, "auto", blank) for source in (sources[:1] if types[0] == "uint8" else sources)]
    one = widest(found)
    return ModelScaling.model_validate({"dtype": types[0], "low": one.low, "high": one.high})


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


def _digest(
    labeled: Sequence[Source], unlabeled: Sequence[Source], areas: Sequence[Area], blocks: Sequence[Block]
) -> str:
    total = hashlib.sha256()
    for source in (*labeled, *unlabeled):
        total.update(f"{source.scene.identity} {source.windows} {source.holdout}\n".encode())
        if source.weights is not None:
            total.update(f"{source.weights!r}\n".encode())
    for area in areas:
        total.update(f"{area.scene.identity} {area.window}\n".encode())
    for block in blocks:
        total.update(f"{block.source} {block.near} {block.counts}\n".encode())
    return total.hexdigest()
