"""A published data set on disk as a data.yaml: its folders, lists and label codes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from co2s_cli.config.data import DataConfig, LabeledEntry, UnlabeledEntry
from co2s_cli.config.protocol import Coding, TrainingProtocol
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import values_in
from co2s_cli.geo.read.bands import RGB
from co2s_cli.geo.sources import SUFFIXES

log = logging.getLogger(__name__)

_SAMPLED_FILES = 64
"""About the number of label files that are read to recognise the label codes."""

_IGNORED = 255
"""Value of pixels without a label, in any coding."""


def data_of(
    protocol: TrainingProtocol, root: Path, splits: Path | None, *, judged: Literal["val", "test"] = "val"
) -> DataConfig:
    """The data.yaml of a protocol's data set.

    Args:
        protocol: the protocol.
        root: folder with the data set's folders of images and labels.
        splits: folder with the published lists; without them all chips are labelled and a tenth of them validates
            (--labeled-ratio then removes labels).
        judged: list of the chips that validate.

    Raises:
        InputError: missing folders or lists, or label codes that the protocol does not know.
    """
    images, labels = root / protocol.folders.images, root / protocol.folders.labels
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; the protocol wants {protocol.folders.images}/ and "
                f"{protocol.folders.labels}/ in {root}"
            )
    values: dict[int | str, int | str | None] = {}
    values.update(coding_of(protocol, labels).items())

    def labeled(listed: Path | None) -> LabeledEntry:
        return LabeledEntry(image=str(images), labels=labels, values=values, list=listed, columns=protocol.columns)

    classes, tile = tuple(protocol.class_map.plain()), protocol.tile
    if splits is None:
        return DataConfig(classes=classes, labeled=(labeled(None),), val=0.1, bands=RGB, tile=tile)
    name = f"{judged}.txt"
    val = next((path for path in (splits / name, splits.parent / name) if path.is_file()), None)
    if val is None:
        raise InputError(f"{splits}: {name} is neither in this folder nor in its parent")
    unlabeled = UnlabeledEntry(image=str(images), list=splits / "unlabeled.txt")
    return DataConfig(
        classes=classes,
        labeled=(labeled(splits / "labeled.txt"),),
        unlabeled=(unlabeled,),
        val=(labeled(val),),
        bands=RGB,
        tile=tile,
    )


def coding_of(protocol: TrainingProtocol, folder: Path) -> Coding:
    """The protocol's coding of classes that the label files in `folder` use, by a sample of the files.

    If several codings fit, it is the first whose highest code occurs.

    Raises:
        InputError: the files hold a code that no coding knows.
    """
    codings = protocol.codings
    if len(codings) < 2:
        return next(iter(codings.values()), {})
    codes = _codes_in(folder)
    fitting = {name: coding for name, coding in codings.items() if codes <= coding.keys() | {_IGNORED}}
    if not fitting:
        raise InputError(
            f"{folder}: label codes {', '.join(map(str, sorted(codes)))} found, known are "
            + " or ".join(", ".join(map(str, sorted(coding))) for coding in codings.values())
        )
    complete = {name: coding for name, coding in fitting.items() if max(coding) in codes}
    name, coding = next(iter((complete or fitting).items()))
    log.info("%s: labels are read as codes %s of the protocol", folder, name)
    return coding


def _codes_in(folder: Path) -> set[int]:
    """The values in a sample of the label files of a folder."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    step = max(1, len(files) // _SAMPLED_FILES)
    values = [values_in(path) for path in files[::step]]
    return set(np.unique(np.concatenate(values)).tolist()) if values else set()
