"""From one round of self-training to the next: the human labels of a data.yaml, and a data.yaml with more labels."""

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
from co2s_cli.data.sources import Source, inside, labeled_sources, resolved
from co2s_cli.errors import ModelError
from co2s_cli.geo.labels.labels import LabelReader, Labels
from co2s_cli.geo.read.scene import Nodata
from co2s_cli.models.manifest import Manifest
from co2s_cli.tiling import Window

HEADER = "# Pseudo-labels by `co2s pseudo-label`; paths are relative to this file. What is not sure is 255."


@dataclass(frozen=True, slots=True)
class MergedLabels:
    """Labels of one image that several entries name, as one; where they overlap the later entry wins."""

    sources: tuple[Source, ...]

    @property
    def source(self) -> str:
        """The files."""
        return ", ".join(source.labels.source for source in self.sources if source.labels)

    @contextlib.contextmanager
    def reader(self) -> Iterator[_MergedLabelReader]:
        """Readers of all of them."""
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
        found = np.full((window.height, window.width), IGNORE, np.uint8)
        for windows, reader in self.parts:
            labels = reader.read(window)
            known = (labels != IGNORE) & inside(window, windows)
            found[known] = labels[known]
        return found


@dataclass(frozen=True, slots=True)
class Human:
    """The data.yaml of the last round: who labelled what, and what validates."""

    config: DataConfig | None = None
    labeled: tuple[Source, ...] = ()
    """Without those that have weights: they are no human's."""
    val: tuple[Source, ...] = ()

    @classmethod
    def read(cls, path: Path | None, manifest: Manifest) -> Human:
        """Open all labels of a data.yaml; nothing where there is none.

        Raises:
            ModelError: the classes are not the model's.
            InputError: labels or images that cannot be read or do not fit.
        """
        if path is None:
            return cls()
        config = read_data(path)
        config = config if config.bands else config.model_copy(update={"bands": manifest.bands})
        classes = config.class_map
        if classes.names != manifest.class_map.names:
            raise ModelError(
                f"{path}: its classes are {', '.join(classes.names)}, "
                f"the model's are {', '.join(manifest.class_map.names)}",
                hint="the labels that are kept want the model's classes, in the same order",
            )
        trusted = [entry for entry in config.labeled if entry.weights is None]
        val = config.val if isinstance(config.val, tuple) else ()
        return cls(
            config,
            tuple(labeled_sources(trusted, classes, config.bands)),
            tuple(labeled_sources(val, classes, config.bands)),
        )

    @property
    def sample_type(self) -> str | None:
        """The type of the samples of its images; None where no labels are there to tell it."""
        if self.config is not None and self.config.scaling is not None:
            return self.config.scaling.dtype
        return next((source.scene.dtype for source in (*self.labeled, *self.val)), None)

    @property
    def files(self) -> list[str]:
        """The label files."""
        return [source.labels.source for source in (*self.labeled, *self.val) if source.labels is not None]

    def labels_of(self, image: str) -> Labels | None:
        """The labels that train, of one image."""
        return _merged(self.labeled, image)

    def truth_of(self, image: str) -> Labels | None:
        """The labels that validate, of one image: no model has learned from them."""
        return _merged(self.val, image)

    def validates(self, image: str) -> bool:
        """Whether all of an image validates, so that nothing of it may train."""
        return any(not source.windows for source in _of_image(self.val, image))


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with its pseudo-labels."""

    image: str
    labels: Path
    weights: Path
    empty: bool
    """Whether not one pixel has a pseudo-label."""
    bands: Picked = ()
    """Those that the model saw, where they were picked by hand."""
    nodata: Nodata = None
    """What the model took for no data, where that was said by hand."""


def next_round(
    human: Human, manifest: Manifest, made: Sequence[Labelled], folder: Path, scaling: ScalingEntry | None = None
) -> DataConfig:
    """The data.yaml in `folder`: the last one and the pseudo-labels, which replace older ones of the same image.

    Without a last one, a share of the pseudo-labels themselves validates, and `scaling` goes before the model's.
    """
    images = {one.image: one for one in made if not human.validates(one.image)}
    last = human.config or _blank(manifest, scaling)
    known = {resolved(image) for image in images}
    kept = [e for e in last.labeled if e.weights is None or resolved(e.image) not in known]
    fresh = [
        LabeledEntry(image=image, labels=one.labels, weights=one.weights, bands=one.bands, nodata=one.nodata)
        for image, one in images.items()
        if not one.empty
    ]
    listed = {resolved(entry.image) for entry in last.unlabeled}
    more = [
        UnlabeledEntry(image=image, bands=one.bands, nodata=one.nodata)
        for image, one in images.items()
        if resolved(image) not in listed
    ]
    whole = last.model_copy(update={"labeled": (*kept, *fresh), "unlabeled": (*last.unlabeled, *more)})
    return relative(whole, folder)


def text_of(config: DataConfig) -> str:
    """A data.yaml that says what `config` does."""
    content = config.model_dump(exclude_defaults=True)
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return f"{HEADER}\n{body}"


class _Dumper(yaml.SafeDumper):
    """Writes paths as texts; numbers stay numbers, keys among them, as JSON would not have it."""


_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def _blank(manifest: Manifest, scaling: ScalingEntry | None) -> DataConfig:
    """What a model itself says of data like that it was trained on; no labels yet."""
    first = DataConfig(
        classes=manifest.classes,
        labeled=(LabeledEntry(image="", labels=Path()),),
        bands=manifest.bands,
        scaling=scaling or ScalingEntry(**manifest.scaling.model_dump(exclude={"headroom"})),
        ground_resolution=manifest.ground_resolution,
    )
    return first.model_copy(update={"labeled": ()})


def _of_image(sources: Sequence[Source], image: str) -> tuple[Source, ...]:
    return tuple(source for source in sources if resolved(source.scene.source) == resolved(image))


def _merged(sources: Sequence[Source], image: str) -> MergedLabels | None:
    found = _of_image(sources, image)
    return MergedLabels(found) if found else None
