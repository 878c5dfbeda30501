"""The data set of a run, opened from a data.yaml: pools to draw crops from, validation areas, facts for model files."""

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
from co2s_cli.data.roles import Area, Roles, by_trust, evenly, log_split, roles_of, training_blocks, with_holdout
from co2s_cli.data.rounds import MergedLabels
from co2s_cli.data.samples import Pool, View
from co2s_cli.data.sources import Source, labeled_sources, resolved, unlabeled_sources, with_bands
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.read.scaling import Scaling, band_statistics, training_scaling
from co2s_cli.models.manifest import ModelScaling
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)


_STATISTICS_IMAGES = 32
"""Most images from which band statistics are computed."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data of a run."""

    classes: ClassMap
    bands: tuple[str, ...]
    scaling: ModelScaling
    ground_resolution: float | None
    labeled: Pool
    """Labelled crops for training; validation areas are held out."""
    whole: Pool | None
    """Labelled crops from all labels, including those for validation; None unless `refit` was asked for and validation
    is a share of the labels."""
    unlabeled: Pool | None
    val: tuple[Area, ...]
    """Areas whose labels validate."""
    counts: tuple[int, ...]
    """Labelled training pixels by class."""
    places: int
    """Number of labelled places that train: one per polygon or block, more for blocks of several crops' area."""
    digest: str
    """Hash of the images, classes, bands, scaling and labels, and of the parts that train and validate."""

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each scaled band, over at most `_STATISTICS_IMAGES` labelled images."""
        sources = self.labeled.sources
        step = -(-len(sources) // _STATISTICS_IMAGES)
        return band_statistics([source.scene for source in sources[::step]], self.applied_scaling)

    @property
    def labeled_images(self) -> int:
        """Number of images with training labels; an image in several entries counts once."""
        return len({resolved(source.scene.source) for source in self.labeled.sources})

    @property
    def applied_scaling(self) -> Scaling:
        """The scaling that all images of the data set get."""
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
    """Open all images and labels of a data.yaml, split them into training and validation, and check them.

    Args:
        config: the data.yaml.
        view: how crops are cut.
        seed: seed of the random splits.
        ratio: share of the labelled images that keep their labels; the others become unlabelled images. If that is less
            than one image: share of the labelled blocks.
        with_unlabeled: whether unlabelled images are opened and required.
        balance: how often each class is at the centre of a labelled crop.
        headroom: share by which measured ranges of the bands are widened at both ends.
        refit: also make the pool `whole`, with the labels that a share holds back for validation.
        name: name of the data.yaml or data set, for messages.

    Raises:
        InputError: unreadable or unfit images and labels, no labels, no unlabelled data, or validation labels that also
            train.
    """
    config, classes = with_bands(config), config.class_map
    trusted, weighted = by_trust(labeled_sources(config.labeled, classes, config.band_names), config.val)
    roles = roles_of(config, trusted, view.crop, seed, ratio)
    if roles.train_blocks:
        log_split(classes, roles.train_blocks, roles.val_blocks)
    weighted_train = with_holdout(weighted, roles.held_out)
    blocks = [*roles.blocks, *training_blocks(weighted_train, classes, view.crop, first=len(roles.labeled))]
    labeled = [*roles.labeled, *weighted_train]
    if not blocks:
        raise InputError(f"{name}: all labels are held back for validation, none are left to train on")
    unlabeled = _unlabeled_sources(config, labeled, roles) if with_unlabeled else []
    scaling = _scaling(config, [*labeled, *unlabeled], headroom)
    make_pool = partial(_labeled_pool, scaling=_applied(scaling), view=view, balance=balance)
    counts = _class_counts(labeled, blocks, len(classes), view.crop)
    items = survey.unlabeled_items(unlabeled, view.crop)
    unlabeled_pool = Pool(unlabeled, items, _applied(scaling), view) if unlabeled else None
    if with_unlabeled and not unlabeled_pool:
        raise _no_unlabeled(name, unlabeled, view.crop, listed=bool(config.unlabeled))
    refits = refit and ratio is None and isinstance(config.val, float)
    _warn_of_missing(classes, counts, roles.val_blocks if refits else ())
    return Dataset(
        classes=classes,
        bands=config.band_names,
        scaling=scaling,
        ground_resolution=config.ground_resolution or _resolution([*labeled, *unlabeled]),
        labeled=make_pool(labeled, blocks, trusted=len(roles.labeled)),
        whole=_whole_pool(config, trusted, weighted, view.crop, make_pool) if refits else None,
        unlabeled=unlabeled_pool,
        val=tuple(roles.areas),
        counts=counts,
        places=sum(max(1, round(sum(block.counts) / view.crop**2)) for block in blocks),
        digest=_digest(
            [config.band_names, scaling, *((item.name, item.prompts) for item in classes.classes)],
            [*labeled, *unlabeled],
            roles.areas,
            [*blocks, *roles.val_blocks],
        ),
    )


def _class_counts(labeled: Sequence[Source], blocks: Sequence[LabelBlock], classes: int, crop: int) -> tuple[int, ...]:
    """Labelled pixels by class. A pixel that several entries of one image label counts once, by the last entry."""
    entries_by_image: dict[str, list[int]] = {}
    for index, source in enumerate(labeled):
        entries_by_image.setdefault(resolved(source.scene.source), []).append(index)
    shared = [indices for indices in entries_by_image.values() if len(indices) > 1]
    merged = [
        replace(labeled[indices[0]], labels=MergedLabels(tuple(labeled[i] for i in indices)), windows=())
        for indices in shared
    ]
    shared_indices = {index for indices in shared for index in indices}
    unshared_blocks = [block for block in blocks if block.source not in shared_indices]
    counts = [block.counts for block in (*unshared_blocks, *survey.labeled_blocks(merged, classes, crop))]
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
    """The pool of labelled crops; labels of the first `trusted` sources have no weights, those of the others have."""
    trusted_blocks = [block for block in blocks if block.source < trusted]
    weighted_blocks = [block for block in blocks if block.source >= trusted]
    drawn = evenly(trusted_blocks, weighted_blocks)
    index = None if balance == "none" else ClassIndex(drawn, balance)
    return Pool(sources, [survey.item_of(block, sources, view.crop) for block in drawn], scaling, view, classes=index)


def _whole_pool(
    config: DataConfig, trusted: Sequence[Source], weighted: Sequence[Source], crop: int, make_pool: Callable[..., Pool]
) -> Pool | None:
    """The pool of labelled crops from all labels; None unless a share of them validates."""
    if not isinstance(config.val, float):
        return None
    sources = [*trusted, *weighted]
    return make_pool(sources, survey.labeled_blocks(sources, len(config.class_map), crop), trusted=len(trusted))


def _unlabeled_sources(config: DataConfig, labeled: Sequence[Source], roles: Roles) -> list[Source]:
    """The unlabelled images and those whose labels a ratio has removed, without images that validate as a whole."""
    scenes = [source.scene for source in (*labeled, *roles.unlabeled)]
    labeled_images = {resolved(scene.source) for scene in (*scenes, *(area.scene for area in roles.areas))}
    listed = unlabeled_sources(config.unlabeled, config.band_names, known=labeled_images)
    sources = with_holdout(listed, roles.held_out)
    val_only = [source for source in sources if _is_all_held_out(source)]
    if val_only and isinstance(config.val, tuple):
        raise InputError(
            f"{val_only[0].scene.source}: is listed under unlabeled:, but all of it is used for validation",
            hint="take it out of unlabeled:, or give val: windows of it",
        )
    listed_images = {resolved(source.scene.source) for source in sources}
    spare = [source for source in roles.unlabeled if resolved(source.scene.source) not in listed_images]
    sources = [*sources, *with_holdout(spare, roles.held_out)]
    # if a share validates, whole images may have been drawn at random: they are dropped without an error
    return [source for source in sources if not _is_all_held_out(source)]


def _no_unlabeled(name: str, sources: Sequence[Source], crop: int, *, listed: bool) -> InputError:
    """The error that there is nothing to draw unlabelled crops from."""
    if sources:
        return InputError(
            f"{sources[0].scene.source}: the unlabelled images hold no {crop} × {crop} pixels with data outside the "
            "validation areas",
            hint="add images to unlabeled:, or hold back less for validation",
        )
    if name in published_names():
        advice = "take labels away with --labeled-ratio 1/16, or name the folder of published lists with --splits"
    else:
        advice = "name some with unlabeled:"
    found = ", those under unlabeled: have labels or validate" if listed else ""
    return InputError(
        f"{name}: no unlabelled images{found}", hint=f"{advice}, or learn from labels alone: --method supervised"
    )


def _is_all_held_out(source: Source) -> bool:
    """Whether the whole image is held out for validation."""
    return Window(0, 0, source.scene.height, source.scene.width) in source.holdout


def _scaling(config: DataConfig, sources: Sequence[Source], headroom: float) -> ModelScaling:
    """The scaling in data.yaml; else the widest range of each band over all images, extended by `headroom`."""
    image_by_dtype = {source.scene.dtype: source.scene.source for source in reversed(sources)}
    if len(image_by_dtype) > 1:
        types = " and ".join(f"{dtype} ({image_by_dtype[dtype]})" for dtype in sorted(image_by_dtype))
        raise InputError(f"images: sample types {types} found, all images must have the same")
    (dtype,) = image_by_dtype
    if config.scaling is not None:
        if config.scaling.dtype != dtype:
            raise InputError(f"{sources[0].scene.source}: samples are {dtype}, data.yaml scales {config.scaling.dtype}")
        return _model_scaling(config.scaling)
    used_headroom = 0.0 if dtype == "uint8" else headroom
    measured = training_scaling([source.scene for source in sources], used_headroom)
    return ModelScaling.model_validate(
        {"dtype": dtype, "low": measured.low, "high": measured.high, "headroom": used_headroom}
    )


def _model_scaling(entry: ScalingEntry) -> ModelScaling:
    return ModelScaling.model_validate({"dtype": entry.dtype, "low": entry.low, "high": entry.high})


def _applied(scaling: ModelScaling) -> Scaling:
    return Scaling(scaling.low, scaling.high)


def _resolution(sources: Sequence[Source]) -> float | None:
    """Median metres per pixel of the images whose resolution is known."""
    resolutions = [value for source in sources if (value := source.scene.ground_resolution) is not None]
    return median(resolutions) if resolutions else None


def _warn_of_missing(classes: ClassMap, counts: Sequence[int], later: Sequence[LabelBlock]) -> None:
    """Warn of classes without training labels; the labels of the blocks `later` train in the second half of the run."""
    missing = [class_id for class_id, count in enumerate(counts) if count == 0]
    validating = [class_id for class_id in missing if any(block.counts[class_id] for block in later)]
    for class_ids, consequence in (
        (validating, "all its labels validate, so that only final.safetensors learns it"),
        ([class_id for class_id in missing if class_id not in validating], "the model cannot learn it"),
    ):
        if class_ids:
            names = ", ".join(classes.names[class_id] for class_id in class_ids)
            log.warning("no training label has class %s: %s", names, consequence)


def _digest(
    facts: Sequence[object], sources: Sequence[Source], areas: Sequence[Area], blocks: Sequence[LabelBlock]
) -> str:
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{fact!r}\n".encode())
    for source in sources:
        scene = source.scene
        digest.update(f"{scene.identity} {scene.bands} {source.windows} {source.holdout}\n".encode())
        if source.weights is not None:
            digest.update(f"{source.weights!r}\n".encode())
    for area in areas:
        digest.update(f"{area.scene.identity} {area.scene.bands} {area.window}\n".encode())
    for block in blocks:
        digest.update(f"{block.source} {block.cell} {block.content}\n".encode())
    return digest.hexdigest()
