"""A published data set as a data.yaml: its folders, its lists, its label codes."""

from __future__ import annotations

from pathlib import Path

from co2s_cli.config.data import DataConfig, LabeledEntry, UnlabeledEntry
from co2s_cli.data.known import DATA_SETS
from co2s_cli.errors import InputError


def published_data(name: str, root: Path, splits: Path | None) -> DataConfig:
    """Data set `name` in `root` with the published lists in `splits`.

    Without lists every chip is labelled; --labeled-ratio then takes labels away, and a tenth of the chips validates.
    """
    known = DATA_SETS[name]
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {name} is wanted as images/ and labels/ in {root}")
    # label codes 1 … N with 0 for "not labelled" become 0 … N - 1
    values: dict[int | str, int | str | None] = (
        {0: None, **{code + 1: code for code in range(len(known.classes))}} if known.zero_ignored else {}
    )

    def labeled(listed: Path | None) -> LabeledEntry:
        return LabeledEntry(image=str(images), labels=labels, values=values, list=listed)

    classes = tuple(known.classes.plain())
    if splits is None:
        return DataConfig(classes=classes, labeled=(labeled(None),), val=0.1)
    val = next((path for path in (splits / "val.txt", splits.parent / "val.txt") if path.is_file()), None)
    if val is None:
        raise InputError(f"{splits}: neither it nor the folder around it holds val.txt")
    unlabeled = UnlabeledEntry(image=str(images), list=splits / "unlabeled.txt")
    return DataConfig(
        classes=classes, labeled=(labeled(splits / "labeled.txt"),), unlabeled=(unlabeled,), val=(labeled(val),)
    )
