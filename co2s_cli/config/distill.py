"""Settings of `co2s distill`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from co2s_cli.config.flags import Flag
from co2s_cli.config.protocol import training_of
from co2s_cli.config.recipes import DISTILL_PRESETS, FROM_MODELS
from co2s_cli.config.run import RunConfig, from_layers, resumed_as, timm_name, user_values
from co2s_cli.errors import ConfigError

_PATCH = re.compile(r"patch(\d+)")


class DistillConfig(RunConfig):
    """Settings of `co2s distill`: a run in which one student also learns from frozen teachers."""

    student: str = "vit_small_patch14_dinov2.lvd142m"
    """The student's transformer: a timm name, or tiny-student."""
    train_backbone: Literal["auto", "attention", "all"] = "all"
    """Trained part of the student's backbone: only its attention, or all; auto: all if it has no pretrained weights,
    else attention."""
    batch: int = Field(8, ge=1)
    """Labelled crops per batch, over all processes together; a batch has as many unlabelled crops. The default is per
    process."""
    crop: int = Field(518, ge=32)
    """Side of the training crops in pixels, a multiple of the student's patch. Default: the smallest of 512 or more."""
    lr: float = Field(5e-6, gt=0)
    """Base learning rate; default with model files as teachers: 1e-4."""
    backbone_lr: float = Field(1.0, gt=0)
    """Learning rate of the backbone, as a factor of `lr`."""
    decoder_lr: float = Field(40.0, gt=0)
    """Learning rate of everything else, as a factor of `lr`; default with model files as teachers: 10."""
    ema: Annotated[float, Flag(panel="Training")] = Field(0.996, ge=0, lt=1)
    """Final decay of the exponential moving average of the weights that makes the pseudo-labels; 0: no average, the
    current weights make them. Default with model files as teachers, which make them: 0."""
    teacher: Annotated[tuple[str, ...], Flag("--teacher", "-t", panel="Teachers", repeats=True)] = ()
    """A foundation model (NAME, NAME:TAG, NAME:FILE, NAME:none), whose features the student learns to predict from its
    own, or a model file (.safetensors), whose class probabilities it learns. Repeat for several."""

    align: Annotated[Literal["second_pass", "pool"], Flag(panel="Teachers")] = "second_pass"
    """If a teacher's patch grid differs from the student's: run the student again at the teacher's image size, or pool
    its features."""
    fuse: Annotated[bool, Flag("--fuse/--no-fuse", panel="Teachers")] = True
    """Mix the predicted teacher features into the student's; with --no-fuse, mapping costs nothing extra."""
    alpha: Annotated[float, Flag(panel="Teachers")] = Field(0.8, gt=0, le=1)
    """With --fuse: share of the student's own features; the teachers share the rest equally."""
    loss: Annotated[Literal["mse", "cosine", "ln_mse"], Flag(panel="Teachers")] = "mse"
    """Loss between predicted and teacher features. mse: squared difference; cosine: by angle; ln_mse: squared
    difference from layer-normalised teacher features."""
    feature_weight: float = Field(1.0, ge=0)
    """Weight of the feature loss; 0: features are mixed (--fuse), but not compared."""
    teacher_statistics: Literal["own", "imagenet"] = "own"
    """Mean and standard deviation that normalise the foundation models' input. own: each model's; imagenet: those of
    ImageNet for all, as in the released code."""

    combine: Annotated[Literal["mean", "arbitrate"], Flag(panel="Teachers")] = "mean"
    """How the students in model files are combined into one prediction: their mean, or per pixel the surer one
    (arbitrate)."""
    soft_weight: float = Field(1.0, ge=0)
    """Weight of the loss on the predictions of model files."""
    temperature: Annotated[float, Flag(panel="Teachers")] = Field(1.0, gt=0)
    """Softmax temperature of that loss on model files' predictions; above 1 softens them."""
    divisor: float = Field(3.0, gt=0)
    """Divisor of the sum of all losses; default with model files as teachers: 1."""

    @field_validator("teacher", mode="before")
    @classmethod
    def _name_to_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_teachers(self) -> DistillConfig:
        if not self.teacher:
            raise ValueError("teacher: at least one --teacher is wanted, a foundation model or a model file")
        if len(set(self.teacher)) < len(self.teacher):
            raise ValueError("teacher: each --teacher may be named once")
        return self

    @property
    def models(self) -> tuple[Path, ...]:
        """The teachers that are model files."""
        return tuple(Path(text) for text in self.teacher if _is_file(text))

    @property
    def foundations(self) -> tuple[str, ...]:
        """The teachers that are foundation models."""
        return tuple(text for text in self.teacher if not _is_file(text))

    @property
    def method_name(self) -> str:
        """Name of the training method: `mtdf` (foundation models), `compress` (model files) or `mtdf+compress`."""
        return "+".join([*["mtdf"] * bool(self.foundations), *["compress"] * bool(self.models)])

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Names of the pretrained weights of the student and of the foundation models."""
        return (*super().pretrained, *(name for teacher in self.foundations for name in _teacher_weights(teacher)))

    @property
    def weight_flags(self) -> str:
        """Options by which weight files can be given instead of `pretrained` names, for error messages."""
        return "--student-weights FILE, --teacher NAME:FILE"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Paths of the initial weights, including those of the teachers."""
        foundation_files = (Path(text.partition(":")[2]) for text in self.foundations)
        return (*super().sources, *self.models, *foundation_files)


def _teacher_weights(teacher: str) -> tuple[str, ...]:
    """Names of the pretrained weights of a foundation model; empty if they are a file or `none`."""
    network, _, weights = teacher.partition(":")
    if "dino" in network:
        return timm_name(network, weights or "auto")
    return () if weights in ("", "none") or Path(weights).suffix else (teacher,)


def settings_of(config: Path | None, flags: dict[str, Any], extra: list[str]) -> DistillConfig:
    """Settings of a new or resumed run.

    Defaults < values that follow from teachers and student < data set's protocol < preset < YAML file < `key=value` <
    flags. With the published preset, preset and protocol change places.
    """
    if flags.get("resume") and "out" in flags:
        return resumed(Path(flags["out"]), flags, extra)
    values = user_values(config, flags, extra)
    preset = DISTILL_PRESETS.get(str(values.get("preset", "default")), {})
    teachers = values.get("teacher", preset.get("teacher", ()))
    has_model_files = any(_is_file(str(text)) for text in ([teachers] if isinstance(teachers, str) else teachers))
    student = str(values.get("student", preset.get("student", DistillConfig.model_fields["student"].default)))
    derived = {**(FROM_MODELS if has_model_files else {}), "crop": _crop_for(student)}
    protocol = training_of("distill", values)
    if "student" in {*values, *preset}:
        protocol.pop("crop", None)  # fits the patches of the paper's student only
    base = (preset, protocol) if values.get("preset") == "published" else (protocol, preset)
    return from_layers(DistillConfig, derived, *base, values, config=config, flags=flags)


def resumed(
    folder: Path, flags: dict[str, Any], extra: list[str], content: dict[str, Any] | None = None
) -> DistillConfig:
    """Settings with which to resume the run in `folder`; see `resumed_as`."""
    return resumed_as(DistillConfig, folder, flags, extra, command="distill", content=content)


def check_crop(crop: int, patch: int) -> None:
    """Refuse a crop that is no multiple of `patch`: teacher and student would see different grids."""
    if crop % patch:
        nearest = max(1, round(crop / patch)) * patch
        raise ConfigError(f"--crop {crop}: is no multiple of the student's patch of {patch}", hint=f"--crop {nearest}")


def _is_file(text: str) -> bool:
    """Whether a teacher is a model file; NAME:FILE is a foundation model with a weight file."""
    return text.endswith(".safetensors") and (":" not in text or Path(text).is_file())


def _crop_for(student: str) -> int:
    """Smallest multiple of the student's patch that is at least 512; the patch is read from the name, else 16."""
    match = _PATCH.search(student)
    patch = int(match[1]) if match else 16
    return -(-512 // patch) * patch
