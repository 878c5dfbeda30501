"""Settings of `co2s distill`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from co2s_cli.config.flags import Flag
from co2s_cli.config.protocol import training_of
from co2s_cli.config.recipes import DISTILL_PRESETS, FROM_MODELS
from co2s_cli.config.run import RunConfig, resumed_as, settled, timm_name, written
from co2s_cli.errors import ConfigError

_PATCH = re.compile(r"patch(\d+)")


class DistillConfig(RunConfig):
    """A training run in which one student also learns from frozen teachers."""

    student: str = "vit_small_patch14_dinov2.lvd142m"
    """The student's transformer: a timm name, or tiny-student."""
    train_backbone: Literal["auto", "attention", "all"] = "all"
    """What of the backbone trains: its attention alone, or everything."""
    batch: int = Field(8, ge=1)
    """Labelled crops a step and process; as many unlabelled ones come with them."""
    crop: int = Field(518, ge=32)
    """Side of the crops in pixels: whole patches of the student; next to 512 if not given."""
    lr: float = Field(5e-6, gt=0)
    """Base learning rate; 1e-4 with model files."""
    backbone_lr: float = Field(1.0, gt=0)
    """Factor of it for the backbone."""
    decoder_lr: float = Field(40.0, gt=0)
    """Factor of it for everything else; 10 with model files."""
    ema: Annotated[float, Flag(panel="Training")] = Field(0.996, ge=0, lt=1)
    """Pseudo-labels come from the running mean of the weights, whose decay rises to this; 0 = from the weights. Model
    files give them themselves, so that it is 0 with those if not given."""
    teacher: Annotated[tuple[str, ...], Flag("--teacher", "-t", panel="Teachers", repeats=True)] = ()
    """A foundation model (NAME, NAME:TAG, NAME:FILE, NAME:none), whose features the student learns to translate its
    own into, or a model file (.safetensors), whose predictions it learns. Any number of both."""

    align: Annotated[Literal["second_pass", "pool"], Flag(panel="Teachers")] = "second_pass"
    """How a teacher of another grid is met: by a second pass of the student at the teacher's size, or by pooling."""
    fuse: Annotated[bool, Flag("--fuse/--no-fuse", panel="Teachers")] = True
    """Whether the translated features are mixed into the student's; without it the map costs no more."""
    alpha: Annotated[float, Flag(panel="Teachers")] = Field(0.8, gt=0, le=1)
    """Share of the student's own features in the mixture; the teachers have the rest in equal parts."""
    loss: Annotated[Literal["mse", "cosine", "ln_mse"], Flag(panel="Teachers")] = "mse"
    """Distance of translated features from the teachers': squared, by angle, or squared to normalised ones."""
    feature_weight: float = Field(1.0, ge=0)
    """Weight of that distance among the losses; 0 = only mixed, never compared."""
    teacher_statistics: Literal["own", "imagenet"] = "own"
    """What foundation models' images are normalised with; imagenet for all of them, as in the released code."""

    combine: Annotated[Literal["mean", "arbitrate"], Flag(panel="Teachers")] = "mean"
    """How model files' students become one prediction: their mean, or the surer one of each pixel."""
    soft_weight: float = Field(1.0, ge=0)
    """Weight of what is learnt from model files."""
    temperature: Annotated[float, Flag(panel="Teachers")] = Field(1.0, gt=0)
    """What soft labels are flattened by."""
    divisor: float = Field(3.0, gt=0)
    """What the sum of all losses is divided by; 3 with foundation models alone, else 1, where nothing else is said."""

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_is_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_teachers(self) -> DistillConfig:
        if not self.teacher:
            raise ValueError("teacher: at least one --teacher is wanted, a foundation model or a model file")
        if len(set(self.teacher)) < len(self.teacher):
            raise ValueError("teacher: one is named twice")
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
    def lesson(self) -> str:
        """Mtdf with foundation models, compress with model files, or both."""
        return "+".join([*["mtdf"] * bool(self.foundations), *["compress"] * bool(self.models)])

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Those of the student and of its teachers."""
        return (*super().pretrained, *(name for teacher in self.foundations for name in _teacher_weights(teacher)))

    @property
    def weight_flags(self) -> str:
        """How files are named in place of such weights."""
        return "--student-weights FILE, --teacher NAME:FILE"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Where the weights come from, those of the teachers among them."""
        named = (Path(text.partition(":")[2]) for text in self.foundations)
        return (*super().sources, *self.models, *named)


def _teacher_weights(teacher: str) -> tuple[str, ...]:
    """The weights of a foundation model by name; none where they are a file, or none are wanted."""
    network, _, weights = teacher.partition(":")
    if "dino" in network:
        return timm_name(network, weights or "auto")
    return () if weights in ("", "none") or Path(weights).suffix else (teacher,)


def settings_of(config: Path | None, flags: dict[str, Any], extra: list[str]) -> DistillConfig:
    """Settings from defaults < what fits the teachers and the student < protocol < preset < YAML file < flags."""
    if flags.get("resume") and "out" in flags:
        return resumed(Path(flags["out"]), flags, extra)
    values = written(config, flags, extra)
    preset = DISTILL_PRESETS.get(str(values.get("preset", "default")), {})
    teachers = values.get("teacher", preset.get("teacher", ()))
    from_files = any(_is_file(str(text)) for text in ([teachers] if isinstance(teachers, str) else teachers))
    student = str(values.get("student", preset.get("student", DistillConfig.model_fields["student"].default)))
    fitting = {**(FROM_MODELS if from_files else {}), "crop": _crop_for(student)}
    protocol = training_of("distill", values)
    if "student" in {*values, *preset}:
        protocol.pop("crop", None)  # that of the paper's student: others have other patches
    base = (preset, protocol) if values.get("preset") == "published" else (protocol, preset)
    return settled(DistillConfig, fitting, *base, values, config=config, flags=flags)


def resumed(
    folder: Path, flags: dict[str, Any], extra: list[str], content: dict[str, Any] | None = None
) -> DistillConfig:
    """The settings of the run in `folder`; a flag that would change its numbers is refused.

    `content` is that of its config.yaml, where another process has read it.
    """
    return resumed_as(DistillConfig, folder, flags, extra, command="distill", content=content)


def check_crop(crop: int, patch: int) -> None:
    """Refuse crops that are not whole patches: teacher and student would see different grids."""
    if crop % patch:
        fitting = max(1, round(crop / patch)) * patch
        raise ConfigError(f"--crop {crop}: is no multiple of the student's patch of {patch}", hint=f"--crop {fitting}")


def _is_file(text: str) -> bool:
    """Whether a teacher is a model file; NAME:FILE is a foundation model with its weights."""
    return text.endswith(".safetensors") and (":" not in text or Path(text).is_file())


def _crop_for(student: str) -> int:
    """Whole patches, next to 512."""
    found = _PATCH.search(student)
    patch = int(found[1]) if found else 16
    return -(-512 // patch) * patch
