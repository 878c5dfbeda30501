"""The next round of self-training: read the human labels of the last data.yaml, make one with pseudo-labels added."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import yaml
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.config.data import DataConfig, LabeledEntry, Picked, ScalingEntry, UnlabeledEntry, read_data, relative
from co2s_cli.data.sources import Source, inside, labeled_sources, resolved, with_bands
from co2s_cli.errors import ModelError
from co2s_cli.geo.labels.labels import LabelReader, Labels
from co2s_cli.geo.read.scene import Nodata
from co2s_cli.models.manifest import Manifest
from co2s_cli.tiling import Window

HEADER = "# Pseudo-labels by `co2s pseudo-label`; paths are relative to this file. What is not sure is 255."


@dataclass(frozen=True, slots=True)
class MergedLabels:
    """Labels of one image merged from several entries of a data.yaml; where they overlap, the later entry wins."""

    sources: tuple[Source, ...]

    @property
    def source(self) -> str:
        """The label files, comma-separated."""
        return ", ".join(source.labels.source for source in self.sources if source.labels)

    @contextlib.contextmanager
    def reader(self) -> Iterator[_MergedLabelReader]:
        """A reader that merges the entries; it is closed when the context ends."""
        with contextlib.ExitStack() as stack:
            yield _MergedLabelReader(
                [
                    (source.windows, stack.enter_context(source.labels.reader()))
                    for source in self.sources
                    if source.labels is not None
                ]
            )


@dataclass(frozen=True, slots=True)
class _MergedLabelReader:
    parts: list[tuple[tuple[Window, ...], LabelReader]]

    def read(self, window: Window) -> NDArray[np.uint8]:
        merged = np.full((window.height, window.width), IGNORE, np.uint8)
        for windows, reader in self.parts:
            labels = reader.read(window)
            labelled = (labels != IGNORE) & inside(window, windows)
            merged[labelled] = labels[labelled]
        return merged


@dataclass(frozen=True, slots=True)
class HumanLabels:
    """The human labels of the last round's data.yaml, for training and for validation."""

    config: DataConfig | None = None
    labeled: tuple[Source, ...] = ()
    """Images with labels without weights; labels with weights are pseudo-labels."""
    val: tuple[Source, ...] = ()

    @classmethod
    def read(cls, path: Path | None, manifest: Manifest) -> HumanLabels:
        """Open all human labels of a data.yaml; without a path there are none.

        Raises:
            ModelError: the classes are not the model's.
            InputError: labels or images that cannot be read or do not fit.
        """
        if path is None:
            return cls()
        config = with_bands(read_data(path), manifest.bands)
        classes = config.class_map
        if classes.names != manifest.class_map.names:
            raise ModelError(
                f"{path}: its classes are {', '.join(classes.names)}, "
                f"the model's are {', '.join(manifest.class_map.names)}",
                hint="--keep-labels wants a data.yaml with the model's classes, in the same order",
            )
        trusted = [entry for entry in config.labeled if entry.weights is None]
        val = config.val if isinstance(config.val, tuple) else ()
        return cls(
            config,
            tuple(labeled_sources(trusted, classes, config.band_names)),
            tuple(labeled_sources(val, classes, config.band_names)),
        )

    @property
    def sample_type(self) -> str | None:
        """Data type of the images' samples, by the scaling or the first labelled image; None without either."""
        if self.config is not None and self.config.scaling is not None:
            return self.config.scaling.dtype
        return next((source.scene.dtype for source in (*self.labeled, *self.val)), None)

    @property
    def files(self) -> list[str]:
        """The label files."""
        return [source.labels.source for source in (*self.labeled, *self.val) if source.labels is not None]

    def labels_of(self, image: str) -> Labels | None:
        """The training labels of an image; None if it has none."""
        return _merged(self.labeled, image)

    def truth_of(self, image: str) -> Labels | None:
        """The validation labels of an image, from which no model has learnt; None if it has none."""
        return _merged(self.val, image)

    def validates(self, image: str) -> bool:
        """Whether the whole image is for validation, so that none of it may train."""
        return any(not source.windows for source in _of_image(self.val, image))


@dataclass(frozen=True, slots=True)
class PseudoLabelled:
    """An image with its pseudo-labels."""

    image: str
    labels: Path
    weights: Path
    empty: bool
    """Whether no pixel has a pseudo-label."""
    bands: Picked = ()
    """Bands that the model used, if the user picked them."""
    nodata: Nodata = None
    """Nodata value that the model used, if the user set it."""


def next_round(
    human: HumanLabels,
    manifest: Manifest,
    pseudo_labelled: Sequence[PseudoLabelled],
    folder: Path,
    scaling: ScalingEntry | None = None,
) -> DataConfig:
    """The data.yaml to write into `folder`: the last one with pseudo-labels added, replacing older ones of an image.

    Without a last one, a share of the pseudo-labels validates, and `scaling`, if given, replaces the model's.
    """
    images = {item.image: item for item in pseudo_labelled if not human.validates(item.image)}
    last = human.config or _without_labels(manifest, scaling)
    relabelled = {resolved(image) for image in images}
    kept = [entry for entry in last.labeled if entry.weights is None or resolved(entry.image) not in relabelled]
    new_entries = [
        LabeledEntry(image=image, labels=item.labels, weights=item.weights, bands=item.bands, nodata=item.nodata)
        for image, item in images.items()
        if not item.empty
    ]
    listed = {resolved(entry.image) for entry in last.unlabeled}
    newly_listed = [
        UnlabeledEntry(image=image, bands=item.bands, nodata=item.nodata)
        for image, item in images.items()
        if resolved(image) not in listed
    ]
    changed = {"labeled": (*kept, *new_entries), "unlabeled": (*last.unlabeled, *newly_listed)}
    return relative(last.model_copy(update=changed), folder)


def text_of(config: DataConfig) -> str:
    """The text of a data.yaml with the settings of `config`."""
    content = config.model_dump(exclude_defaults=True)
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return f"{HEADER}\n{body}"


class _Dumper(yaml.SafeDumper):
    """YAML dumper that writes paths as text; keys that are numbers stay numbers."""


_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def _without_labels(manifest: Manifest, scaling: ScalingEntry | None) -> DataConfig:
    """A data.yaml without labels, with classes, bands, scaling and resolution from the model's manifest."""
    with_placeholder = DataConfig(
        classes=manifest.classes,
        labeled=(LabeledEntry(image="", labels=Path()),),
        bands=manifest.bands,
        scaling=scaling or ScalingEntry(**manifest.scaling.model_dump(exclude={"headroom"})),
        ground_resolution=manifest.ground_resolution,
    )
    return with_placeholder.model_copy(update={"labeled": ()})


def _of_image(sources: Sequence[Source], image: str) -> tuple[Source, ...]:
    return tuple(source for source in sources if resolved(source.scene.source) == resolved(image))


def _merged(sources: Sequence[Source], image: str) -> MergedLabels | None:
    of_image = _of_image(sources, image)
    return MergedLabels(of_image) if of_image else None
