"""Settings of `co2s train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.flags import Flag
from co2s_cli.config.protocol import training_of
from co2s_cli.config.recipes import PRESETS
from co2s_cli.config.run import RunConfig, from_layers, resumed_as, timm_name, user_values
from co2s_cli.students import DEFAULT_STUDENTS, Fusion, StudentName


def _split(value: Any) -> Any:
    """A list of the names in a comma-separated text; any other value as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _names(value: Any) -> Any:
    """A list of the names in a comma-separated text, or the list itself; refuses a name that occurs twice."""
    names = _split(value)
    if isinstance(names, list | tuple) and len(set(names)) < len(names):
        raise ValueError("wants each student once")
    return names


class TrainConfig(RunConfig):
    """Settings of `co2s train`: a run that learns from labels and unlabelled images, without teachers."""

    method: Annotated[Literal["co2s", "unimatch", "fixmatch", "supervised"], Flag(panel="Training")] = "co2s"
    """Training method, which decides how unlabelled images are used; supervised does not use them."""

    students: Annotated[tuple[StudentName, ...] | None, BeforeValidator(_names), Flag(panel="Model")] = None
    """Networks that learn: clip, dino, local, or several of them; local2 and local3 are further networks like local.
    Default: those of the --init model; with --init start, and the small preset without it, dino,local for red, green,
    blue and local,local2,local3 for other bands; else clip,dino."""
    clip: Annotated[str, Flag(panel="Model")] = "ViT-B-16"
    """Image tower of the clip student (explicit guidance): an open_clip name."""
    clip_weights: Annotated[str, Flag(panel="Model")] = "openai"
    """Weights of --clip: an open_clip tag, a file, TAG=FILE (a file trained as the tag says), or none."""
    clip_guidance: Literal["text", "queries"] = "text"
    """What guides the clip student to the classes: text embeddings of their prompts, or learnable queries like those of
    the dino student."""
    dino: Annotated[str, Flag(panel="Model")] = "vit_base_patch16_dinov3_qkvb.lvd1689m"
    """Transformer of the dino student (implicit guidance): a timm name."""
    dino_weights: Annotated[str, Flag(panel="Model")] = "auto"
    """Weights of --dino: a timm tag, a file, none, or auto (the tag in its name)."""
    dino_init: Literal["pretrained", "random"] = "pretrained"
    """random: ignore the dino student's weights and set every LayerScale to 1e-5, as the released code does."""
    network: Literal["own", "published"] = "own"
    """published: ImageNet statistics, exact GELU, norm eps 1e-6 and bfloat16 positions, as in the released code."""
    fusion: Fusion = "mean"
    """How the students' probabilities are combined into one map."""

    stability_weight: float = Field(0.5, ge=0)
    """Final weight of the stability loss; 0: off."""
    stability_ramp: float = Field(0.2, ge=0, le=1)
    """Share of the run over which the weight of the stability loss rises."""
    stability_grad: bool = True
    """Whether the stability loss has a gradient; it has none in the released code."""
    stability_in_padding: bool = False
    """Whether the stability loss includes padding; it does in the released code."""
    single_view: bool | None = None
    """Methods unimatch and co2s: use one strong view, like fixmatch, instead of two and one with dropped features.
    Default: true if the packaged start's dino student learns."""

    @property
    def method_name(self) -> str:
        """Name of the training method."""
        return self.method

    @property
    def follows_bands(self) -> bool:
        """Whether the bands of the data decide who learns: none are named, and the packaged start or nothing begins."""
        from_nothing = self.init is None and self.preset == "small"
        return self.students is None and (from_nothing or str(self.init) == "start")

    @property
    def sources(self) -> tuple[Path, ...]:
        """Paths of the initial weights, including those of the clip and dino students."""
        return (*super().sources, Path(self.clip_weights.rpartition("=")[2]), Path(self.dino_weights))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Names of the pretrained weights of the students that do not start from a model file."""
        if self.student is not None or self.init is not None:
            return super().pretrained
        students = self.students or (("dino",) if self.follows_bands else DEFAULT_STUDENTS)
        clip_tag, dino_tag = self.clip_weights, "none" if self.dino_init == "random" else self.dino_weights
        weights_by_student = {
            "clip": () if clip_tag == "none" or Path(clip_tag).suffix else (f"{self.clip}:{clip_tag}",),
            "dino": timm_name(self.dino, dino_tag),
        }
        return tuple(name for student in students for name in weights_by_student.get(student, ()))

    @property
    def weight_flags(self) -> str:
        """Options by which weight files can be given instead of `pretrained` names, for error messages."""
        return super().weight_flags if self.student else "--clip-weights FILE, --dino-weights FILE"

    @model_validator(mode="after")
    def _one_student_has_no_peer(self) -> TrainConfig:
        if self.student is not None and self.method in ("co2s", "unimatch"):
            raise ValueError(f"method {self.method} wants the pair; one student learns by fixmatch or supervised")
        return self


_OTHER_DINO = frozenset({"student", "dino", "dino_weights", "dino_init", "network"})
"""Settings that ask for a dino student other than the one in the packaged start model."""


def _without_unfit_start(preset: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The preset; without its `init` if the user's `values` ask for students that this start model does not hold."""
    students = _split(values.get("students"))
    no_dino = isinstance(students, list | tuple) and "dino" not in students
    drop_init = no_dino or bool(_OTHER_DINO & values.keys())
    return {key: value for key, value in preset.items() if key != "init" or not drop_init}


def settings_of(config: Path | None, flags: dict[str, Any], extra: list[str]) -> TrainConfig:
    """Settings of a new or resumed run: defaults < data set's protocol < preset < YAML file < `key=value` < flags.

    With the published preset the order is preset < protocol: it holds what most of the paper's data sets had in common.
    """
    if flags.get("resume") and "out" in flags:
        return resumed(Path(flags["out"]), flags, extra)
    values = user_values(config, flags, extra)
    name = str(values.get("preset", "default"))
    preset, protocol = _without_unfit_start(PRESETS.get(name, {}), values), training_of("train", values)
    base = (preset, protocol) if name == "published" else (protocol, preset)
    return from_layers(TrainConfig, *base, values, config=config, flags=flags)


def resumed(
    folder: Path, flags: dict[str, Any], extra: list[str], content: dict[str, Any] | None = None
) -> TrainConfig:
    """Settings with which to resume the run in `folder`; see `resumed_as`."""
    return resumed_as(TrainConfig, folder, flags, extra, command="train", content=content)
