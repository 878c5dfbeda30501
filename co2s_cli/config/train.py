"""Settings of `co2s train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.flags import Flag
from co2s_cli.config.protocol import training_of
from co2s_cli.config.recipes import PRESETS
from co2s_cli.config.run import RunConfig, resumed_as, settled, timm_name, written
from co2s_cli.students import DEFAULT_STUDENTS, Fusion, StudentName


def _names(value: Any) -> Any:
    """Names with commas between them, or a list; none twice."""
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and len(set(names)) < len(names):
        raise ValueError("wants each student once")
    return names


class TrainConfig(RunConfig):
    """A training run from labels and unlabelled images alone."""

    method: Annotated[Literal["co2s", "unimatch", "fixmatch", "supervised"], Flag(panel="Training")] = "co2s"
    """How unlabelled images are used."""

    students: Annotated[tuple[StudentName, ...] | None, BeforeValidator(_names), Flag(panel="Model")] = None
    """Who learns: clip, dino, local, or several of them; local2 and local3 are more networks of local's kind. Where
    nothing is said those of --init, with the packaged start dino,local on red, green and blue and local,local2,local3
    on other bands; else clip,dino."""
    clip: Annotated[str, Flag(panel="Model")] = "ViT-B-16"
    """Image tower of the explicitly guided student, by its open_clip name."""
    clip_weights: Annotated[str, Flag(panel="Model")] = "openai"
    """Its weights: an open_clip tag, a file, TAG=FILE (a file of which the tag says how it was trained), or none."""
    clip_guidance: Literal["text", "queries"] = "text"
    """What tells it the classes: text embeddings of their prompts, or learnable queries as the other student has."""
    dino: Annotated[str, Flag(panel="Model")] = "vit_base_patch16_dinov3_qkvb.lvd1689m"
    """Transformer of the implicitly guided student, by its timm name."""
    dino_weights: Annotated[str, Flag(panel="Model")] = "auto"
    """Its weights: a timm tag, a file, none, or auto (the tag in its name)."""
    dino_init: Literal["pretrained", "random"] = "pretrained"
    """random: weights are dropped and every LayerScale is 1e-5, as happens in the released code."""
    network: Literal["own", "published"] = "own"
    """published: ImageNet statistics, exact GELU, norm eps 1e-6 and bfloat16 positions, as in the released code."""
    fusion: Fusion = "mean"
    """How the students become one map."""

    stability_weight: float = Field(0.5, ge=0)
    """Weight of the stability loss after its ramp; 0 = off."""
    stability_ramp: float = Field(0.2, ge=0, le=1)
    """Share of the run over which it rises."""
    stability_grad: bool = True
    """Whether the stability loss has a gradient; it has none in the released code."""
    stability_in_padding: bool = False
    """Whether padding counts in it; it does in the released code."""

    @property
    def lesson(self) -> str:
        """The method."""
        return self.method

    @property
    def sources(self) -> tuple[Path, ...]:
        """Where the weights come from, those of the pair among them."""
        return (*super().sources, Path(self.clip_weights.rpartition("=")[2]), Path(self.dino_weights))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Those of the students that are new."""
        if self.student is not None or self.init is not None:
            return super().pretrained
        students = self.students or DEFAULT_STUDENTS
        tag, dino = self.clip_weights, "none" if self.dino_init == "random" else self.dino_weights
        by_name = {
            "clip": () if tag == "none" or Path(tag).suffix else (f"{self.clip}:{tag}",),
            "dino": timm_name(self.dino, dino),
        }
        return tuple(name for student in students for name in by_name.get(student, ()))

    @property
    def weight_flags(self) -> str:
        """How files are named in place of such weights."""
        return super().weight_flags if self.student else "--clip-weights FILE, --dino-weights FILE"

    @model_validator(mode="after")
    def _one_student_has_no_peer(self) -> TrainConfig:
        if self.student is not None and self.method in ("co2s", "unimatch"):
            raise ValueError(f"method {self.method} wants the pair; one student learns by fixmatch or supervised")
        return self


_OTHER_DINO = frozenset({"student", "dino", "dino_weights", "dino_init", "network"})
"""Settings that ask for another DINO student than the packaged start holds."""


def _fitting(preset: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The preset, without its start where the user asks for students that it does not hold."""
    students = _names(values.get("students"))
    other = isinstance(students, list | tuple) and "dino" not in students
    return {key: value for key, value in preset.items() if key != "init" or not (other or _OTHER_DINO & values.keys())}


def settings_of(config: Path | None, flags: dict[str, Any], extra: list[str]) -> TrainConfig:
    """Settings from defaults < data set < preset < YAML file < `key=value` < flags.

    The published preset says what most data sets had in common, so that there the data set comes after it.
    """
    if flags.get("resume") and "out" in flags:
        return resumed(Path(flags["out"]), flags, extra)
    values = written(config, flags, extra)
    name = str(values.get("preset", "default"))
    preset, protocol = _fitting(PRESETS.get(name, {}), values), training_of("train", values)
    base = (preset, protocol) if name == "published" else (protocol, preset)
    return settled(TrainConfig, *base, values, config=config, flags=flags)


def resumed(
    folder: Path, flags: dict[str, Any], extra: list[str], content: dict[str, Any] | None = None
) -> TrainConfig:
    """The settings of the run in `folder`; a flag that would change its numbers is refused.

    `content` is that of its config.yaml, where another process has read it.
    """
    return resumed_as(TrainConfig, folder, flags, extra, command="train", content=content)
