"""Published training protocols as data: one YAML file a protocol, in the package or a user's own."""

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
    """Where a data set keeps its files, below its root."""

    images: str = "images"
    """Folder of the images."""
    labels: str = "labels"
    """Folder of the label rasters."""


class Training(Settings):
    """How the paper trained on the data set."""

    crop: int = Field(ge=32)
    """Side of the crops in pixels."""
    batch: int = Field(ge=1)
    """Labelled crops a step and GPU."""
    gpus: int = Field(1, ge=1)
    """GPUs of the paper's runs; on fewer of them several batches make one step."""
    epochs: int = Field(ge=1)
    """Passes over the unlabelled images."""
    scale_rule: Literal["own", "fitted", "long"] = "own"
    """What the random scale multiplies."""
    eval_resize: int | None = Field(None, ge=0)
    """Short side of the images in validation; 0 = as they are; None = as the preset says."""


class TrainingProtocol(Settings):
    """One data set as one paper trains on it."""

    title: str
    """One phrase about the imagery."""
    command: Literal["train", "distill"]
    """Command whose paper it is: train (Co2S) or distill (RS-MTDF); the other one takes all but `training`."""
    get: str = ""
    """Where to get the data."""
    lists_from: str = ""
    """Where to get the published lists."""
    ground_resolution: float | None = Field(None, gt=0)
    """Metres per pixel, where the imagery lies on the ground and has one."""
    image_side: int | None = Field(None, ge=1)
    """Side of the images in pixels, where all have one."""
    images: dict[Literal["train", "val"], int] = Field(default_factory=dict)
    """Images in the published lists."""
    classes: tuple[dict[str, Any] | str, ...] = Field(min_length=1)
    """The classes; a position is an id."""
    codings: dict[str, Coding] = Field(default_factory=dict)
    """Ways in which label files say the classes, the paper's first; without any, values are class ids."""
    folders: Folders = Folders()
    columns: tuple[Literal["image", "labels"], ...] = ("image", "labels")
    """What the words of a line of the lists are."""
    tile: str = ""
    """Regular expression whose first group is the tile that an image of this name (without suffix) was cut from."""
    training: Training
    excluded: tuple[str, ...] = ()
    """Classes that are trained, but not scored."""
    miou: dict[str, float] = Field(default_factory=dict)
    """Published mIoU in % by share of labelled images."""

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
        """The classes, names, colours and prompts."""
        return ClassMap.of(self.classes)

    def shown_resolution(self, eval_resize: int | None) -> float | None:
        """Metres per pixel at which a model sees the imagery whose short side is resized to `eval_resize` for it.

        The random scales of `fitted` lie around the same resolution. 0 or None = images as they are.
        """
        if self.ground_resolution is None or not (self.image_side and eval_resize):
            return self.ground_resolution
        return self.ground_resolution * self.image_side / eval_resize


@functools.cache
def published_names() -> tuple[str, ...]:
    """The protocols that the package carries."""
    files = (entry.name for entry in resources.files("co2s_cli.published").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def find_protocol(name: str) -> TrainingProtocol:
    """The protocol of the package called `name`, or that in the file `name`.

    Raises:
        ConfigError: there is none, or it is wrong.
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
    """Settings with which the code of a data set's paper validates; without a data set, that of Co2S."""
    if protocol is None:
        return PRESETS["published"]
    presets = PRESETS if protocol.command == "train" else DISTILL_PRESETS
    side = protocol.training.eval_resize
    return {**presets["published"], **({} if side is None else {"eval_resize": side})}


def training_of(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run by the protocol that `values` name as data; empty where they name none.

    Its batch is that of one process. Where fewer run than the paper had GPUs, several batches make one step.
    """
    name = str(values.get("data", ""))
    if name not in published_names() and not values.get("root"):
        return {}
    protocol = find_protocol(name)
    if protocol.command != command:
        log.info("%s: is a protocol of co2s %s, length and batch of it do not count here", name, protocol.command)
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
