"""Training protocols of published data sets: one YAML file each, in the package or written by the user."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from co2s_cli.classes import ClassMap
from co2s_cli.config.base import Settings, load
from co2s_cli.config.recipes import DISTILL_PRESETS, PRESETS
from co2s_cli.errors import ConfigError

log = logging.getLogger(__name__)

Coding = dict[int, str | None]
"""Value in the label files → class name; None = not labelled."""


class Folders(Settings):
    """Folders of a data set, relative to its root."""

    images: str = "images"
    """Folder of the images."""
    labels: str = "labels"
    """Folder of the label rasters."""


class Training(Settings):
    """Hyperparameters with which the paper trained on the data set."""

    crop: int = Field(ge=32)
    """Side of the crops in pixels."""
    batch: int = Field(ge=1)
    """Labelled crops per step and GPU."""
    gpus: int = Field(1, ge=1)
    """Number of GPUs in the paper; with fewer processes, batches are accumulated to the same total per step."""
    epochs: int = Field(ge=1)
    """Passes over the unlabelled images."""
    scale_rule: Literal["own", "fitted", "long"] = "own"
    """What the random scale multiplies, as the setting of co2s train."""
    eval_resize: int | None = Field(None, ge=0)
    """Short side in pixels to which images are resized for validation; 0: no resizing; None: as the preset says."""


class TrainingProtocol(Settings):
    """A data set, and how a paper trains and validates on it."""

    title: str
    """One phrase about the imagery."""
    command: Literal["train", "distill"]
    """Command that implements the paper: train (Co2S) or distill (RS-MTDF). The other one ignores `training`."""
    get: str = ""
    """Where to download the data."""
    lists_from: str = ""
    """Where to download the published lists of images."""
    ground_resolution: float | None = Field(None, gt=0)
    """Metres per pixel; None if unknown or not the same for all images."""
    image_side: int | None = Field(None, ge=1)
    """Side of the images in pixels; None if they differ."""
    images: dict[Literal["train", "val"], int] = Field(default_factory=dict)
    """Number of images in the published lists."""
    classes: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    """The classes; the position in the list is the class id."""
    codings: dict[str, Coding] = Field(default_factory=dict)
    """Known encodings of the classes in label files, by name, the paper's first; if empty, values are class ids."""
    folders: Folders = Folders()
    columns: tuple[Literal["image", "labels"], ...] = ("image", "labels")
    """Meaning of the words in a line of the lists."""
    tile: str = ""
    """Regular expression, matched to the start of an image's name without suffix; its first group is the tile that the
    image was cut from."""
    training: Training
    excluded: tuple[str, ...] = ()
    """Names of the classes that are trained, but not scored."""
    miou: dict[str, float] = Field(default_factory=dict)
    """Published mIoU in %, by the share of labelled images, such as 1/16."""

    @field_validator("tile")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from None
        if value and groups != 1:
            raise ValueError(f"wants one group, the name of the tile, {groups} found")
        return value

    @property
    def class_map(self) -> ClassMap:
        """The classes with names, colours and prompts."""
        return ClassMap.of(self.classes)

    def shown_resolution(self, eval_resize: int | None) -> float | None:
        """Metres per pixel of the images after their short side is resized to `eval_resize`; 0 or None: no resizing.

        The random scales of scale rule `fitted` lie around the same resolution. None if the resolution is unknown.
        """
        if self.ground_resolution is None or not (self.image_side and eval_resize):
            return self.ground_resolution
        return self.ground_resolution * self.image_side / eval_resize


@functools.cache
def published_names() -> tuple[str, ...]:
    """Names of the protocols in the package, sorted."""
    files = (entry.name for entry in resources.files("co2s_cli.published").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def find_protocol(name: str) -> TrainingProtocol:
    """The packaged protocol called `name`, else the one in the file `name`.

    Raises:
        ConfigError: there is neither, or its content is not valid.
    """
    if name in published_names():
        with resources.as_file(resources.files("co2s_cli.published") / f"{name}.yaml") as path:
            return load(TrainingProtocol, path, {})
    if not Path(name).is_file():
        raise ConfigError(
            f"{name}: neither a published data set ({', '.join(published_names())}) nor a file",
            hint="a protocol of your own is a YAML file like those in co2s_cli/published",
        )
    return load(TrainingProtocol, Path(name), {})


def published_rules(protocol: TrainingProtocol | None) -> dict[str, Any]:
    """The published preset with the protocol's `eval_resize`: how the paper's code validates. None stands for Co2S."""
    if protocol is None:
        return PRESETS["published"]
    presets = PRESETS if protocol.command == "train" else DISTILL_PRESETS
    side = protocol.training.eval_resize
    return {**presets["published"], **({} if side is None else {"eval_resize": side})}


def training_of(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run that follow from the protocol that `values["data"]` names; empty if it names none.

    `batch` is per process. `accumulate` is set so that a step has as many crops as on the paper's GPUs.
    """
    name = str(values.get("data", ""))
    if name not in published_names() and not values.get("root"):
        return {}
    protocol = find_protocol(name)
    if protocol.command != command:
        log.info("%s: is a protocol of co2s %s; its length, crop and batch are not used", name, protocol.command)
        return {}
    training = protocol.training
    settings = training.model_dump(exclude={"gpus"}, exclude_none=True)
    if values.get("preset") == "tiny" or "accumulate" in values:
        return settings
    total, processes = training.batch * training.gpus, int(os.environ.get("WORLD_SIZE", "1"))
    batch = int(values.get("batch", training.batch * processes))
    accumulate = max(1, round(total / batch))
    if accumulate > 1:
        log.info(
            "%s: %d batches of %d make one step, for the %d crops on %d GPUs of the paper",
            name, accumulate, batch, total, training.gpus,
        )  # fmt: skip
    return {**settings, "accumulate": accumulate}
