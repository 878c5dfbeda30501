"""A data.yaml made ready: what to draw from, what validates, and the facts that the model file keeps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np

from co2s_cli.classes import ClassMap
from co2s_cli.config.data import DataConfig, ScalingEntry
from co2s_cli.config.protocol import published_names
from co2s_cli.data import survey
from co2s_cli.data.balance import Balance, ClassIndex
from co2s_cli.data.roles import Area, Roles, blocks_left, by_trust, evenly, holding_out, roles_of, tell_sides
from co2s_cli.data.rounds import MergedLabels
from co2s_cli.data.samples import Pool, View
from co2s_cli.data.sources import Source, labeled_sources, resolved, unlabeled_sources, with_bands
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.read.scaling import Scaling, band_statistics, training_scaling
from co2s_cli.models.manifest import ModelScaling
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)


_STATISTICS_OF = 32
"""Images that are looked at for the statistics of the bands."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that a run learns from."""

    classes: ClassMap
    bands: tuple[str, ...]
    scaling: ModelScaling
    ground_resolution: float | None
    labeled: Pool
    whole: Pool | None
    """The labelled images with the labels that validate among them; None unless a share of the labels does."""
    unlabeled: Pool | None
    val: tuple[Area, ...]
    counts: tuple[int, ...]
    """Labelled training pixels by class."""
    places: int
    """Places with labels that train: polygons, blocks, and of large labelled areas each crop's worth of pixels."""
    digest: str
    """Changes when the images, classes, bands, scaling or labels change, or the parts that train or validate."""

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each scaled band, of at most `_STATISTICS_OF` labelled images."""
        sources = self.labeled.sources
        step = -(-len(sources) // _STATISTICS_OF)
        return band_statistics([source.scene for source in sources[::step]], self.applied_scaling)

    @property
    def labeled_images(self) -> int:
        """Images with labels that train; several entries may be of one image."""
        return len({resolved(source.scene.source) for source in self.labeled.sources})

    @property
    def applied_scaling(self) -> Scaling:
        """The scaling of all of its images."""
        return _applied(self.scaling)


def assemble(
    config: DataConfig,
    *,
    view: View,
    seed: int,
    ratio: float | None = None,
    with_unlabeled: bool = True,
    balance: Balance = "none",
    headroom: float = 0.0,
    refit: bool = False,
    name: str = "data.yaml",
) -> Dataset:
    """Open everything that `config`, called `name`, names and refuse what cannot be trained on.

    `ratio`: the share of the labelled images that keep their labels, the others become unlabelled ones; where that is
    less than one image, the share of the labelled places. `balance`: how often each class is at the
    centre of a labelled crop. `headroom`: by how much ranges of the bands are widened on both sides, in parts of them.
    `refit`: whether the labels that a share holds back to validate are to be drawn from, too, in the end.

    Raises:
        InputError: unreadable or unfit images and labels, no labels, no unlabelled data, or validation that trains.
    """
    config, classes = with_bands(config), config.class_map
    trusted, weighted = by_trust(labeled_sources(config.labeled, classes, config.bands), config.val)
    roles = roles_of(config, trusted, view.crop, seed, ratio)
    if roles.taught:
        tell_sides(classes, roles.taught, roles.judged)
    rest = holding_out(weighted, roles.held)
    blocks = [*roles.blocks, *blocks_left(rest, classes, view.crop, first=len(roles.labeled))]
    labeled = [*roles.labeled, *rest]
    if not blocks:
        raise InputError(f"{name}: every label lies where it validates, nothing is left to learn from")
    unlabeled = _unlabeled(config, labeled, roles) if with_unlabeled else []
    scaling = _scaling(config, [*labeled, *unlabeled], headroom)
    made = partial(_labeled_pool, scaling=_applied(scaling), view=view, balance=balance)
    counts = _counted(labeled, blocks, len(classes), view.crop)
    items = survey.unlabeled_items(unlabeled, view.crop)
    others = Pool(unlabeled, items, _applied(scaling), view) if unlabeled else None
    if with_unlabeled and not others:
        raise _no_unlabeled(name, unlabeled, view.crop)
    _remark_missing(classes, counts)
    return Dataset(
        classes=classes,
        bands=config.bands,
        scaling=scaling,
        ground_resolution=config.ground_resolution or _resolution([*labeled, *unlabeled]),
        labeled=made(labeled, blocks, trusted=len(roles.labeled)),
        whole=_whole(config, trusted, weighted, view.crop, made) if refit and ratio is None else None,
        unlabeled=others,
        val=tuple(roles.areas),
        counts=counts,
        places=sum(max(1, round(sum(block.counts) / view.crop**2)) for block in blocks),
        digest=_digest(
            [config.bands, scaling, *((one.name, one.prompts) for one in classes.classes)],
            [*labeled, *unlabeled],
            roles.areas,
            [*blocks, *roles.judged],
        ),
    )


def _counted(labeled: Sequence[Source], blocks: Sequence[LabelBlock], classes: int, crop: int) -> tuple[int, ...]:
    """Labelled pixels by class; one that several entries of an image label counts once, as the last of them has it."""
    entries: dict[str, list[int]] = {}
    for index, source in enumerate(labeled):
        entries.setdefault(resolved(source.scene.source), []).append(index)
    shared = [indices for indices in entries.values() if len(indices) > 1]
    merged = [
        replace(labeled[indices[0]], labels=MergedLabels(tuple(labeled[i] for i in indices)), windows=())
        for indices in shared
    ]
    twice = {index for indices in shared for index in indices}
    once = [block for block in blocks if block.source not in twice]
    counts = [block.counts for block in (*once, *survey.labeled_blocks(merged, classes, crop))]
    return tuple(np.sum(counts, axis=0).tolist())


def _labeled_pool(
    sources: Sequence[Source],
    blocks: Sequence[LabelBlock],
    *,
    trusted: int,
    scaling: Scaling,
    view: View,
    balance: Balance,
) -> Pool:
    """What labelled crops are drawn from; the labels of the first `trusted` sources have no weights."""
    drawn = evenly(*(list(part) for part in _parted(blocks, trusted)))
    index = None if balance == "none" else ClassIndex(drawn, balance)
    return Pool(sources, [survey.item_of(block, sources, view.crop) for block in drawn], scaling, view, classes=index)


def _parted(blocks: Sequence[LabelBlock], first: int) -> tuple[list[LabelBlock], list[LabelBlock]]:
    """Blocks of the first sources, and those of the others."""
    return [one for one in blocks if one.source < first], [one for one in blocks if one.source >= first]


def _whole(
    config: DataConfig, trusted: Sequence[Source], weighted: Sequence[Source], crop: int, made: Callable[..., Pool]
) -> Pool | None:
    """What labelled crops are drawn from when all labels teach; None where no share of them validates."""
    if not isinstance(config.val, float):
        return None
    sources = [*trusted, *weighted]
    return made(sources, survey.labeled_blocks(sources, len(config.class_map), crop), trusted=len(trusted))


def _unlabeled(config: DataConfig, labeled: Sequence[Source], roles: Roles) -> list[Source]:
    scenes = [source.scene for source in (*labeled, *roles.spare)]
    known = {resolved(scene.source) for scene in (*scenes, *(area.scene for area in roles.areas))}
    sources = holding_out(unlabeled_sources(config.unlabeled, config.bands, known=known), roles.held)
    out = [source for source in sources if _validates(source)]
    if out and isinstance(config.val, tuple):
        raise InputError(
            f"{out[0].scene.source}: all of it validates, yet it is listed as unlabelled",
            hint="take it out of unlabeled:, or give val: windows of it",
        )
    named = {resolved(source.scene.source) for source in sources}
    spare = [source for source in roles.spare if resolved(source.scene.source) not in named]
    sources = [*sources, *holding_out(spare, roles.held)]
    return [source for source in sources if not _validates(source)]  # of a share nobody has chosen it


def _no_unlabeled(name: str, sources: Sequence[Source], crop: int) -> InputError:
    """Why there is nothing to draw unlabelled crops from."""
    if sources:
        return InputError(
            f"{sources[0].scene.source}: no place of {crop} × {crop} pixels in the unlabelled images holds data and "
            "lies off what validates",
            hint="add images to unlabeled:, or validate with less",
        )
    if name in published_names():
        way = "take labels away with --labeled-ratio 1/16, or name the folder of published lists with --splits"
    else:
        way = "name some with unlabeled:"
    return InputError(f"{name}: no unlabelled images", hint=f"{way}, or learn from labels alone: --method supervised")


def _validates(source: Source) -> bool:
    """Whether all of a source is held out."""
    return Window(0, 0, source.scene.height, source.scene.width) in source.holdout


def _scaling(config: DataConfig, sources: Sequence[Source], headroom: float) -> ModelScaling:
    """The ranges of data.yaml, else those of the images: the widest over all of them, and `headroom` beyond them."""
    of_type = {source.scene.dtype: source.scene.source for source in reversed(sources)}
    if len(of_type) > 1:
        both = " and ".join(f"{dtype} ({of_type[dtype]})" for dtype in sorted(of_type))
        raise InputError(f"images: sample types {both} found, all must have one")
    (dtype,) = of_type
    if config.scaling is not None:
        if config.scaling.dtype != dtype:
            raise InputError(f"{sources[0].scene.source}: samples are {dtype}, data.yaml scales {config.scaling.dtype}")
        return _model_scaling(config.scaling)
    room = 0.0 if dtype == "uint8" else headroom
    one = training_scaling([source.scene for source in sources], room)
    return ModelScaling.model_validate({"dtype": dtype, "low": one.low, "high": one.high, "headroom": room})


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
    facts: Sequence[object], sources: Sequence[Source], areas: Sequence[Area], blocks: Sequence[LabelBlock]
) -> str:
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
