"""Settings of `co2s train`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings, load, read_yaml
from co2s_cli.config.recipes import DATA_SETS, PRESETS
from co2s_cli.errors import ConfigError


def parse_ratio(value: Any) -> Any:
    """The number of 1/16, 0.0625 or 6.25%."""
    text = str(value).strip()
    try:
        return float(Fraction(text[:-1])) / 100 if text.endswith("%") else float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError("wants a share such as 1/16 or 0.0625") from None


Ratio = Annotated[float, BeforeValidator(parse_ratio)]


class TrainConfig(Settings):
    """A training run."""

    data: str = "data.yaml"
    """data.yaml, or a published data set: whdld, loveda, potsdam, gid15, mer, msl."""
    root: Path | None = None
    """Folder of a published data set, with images/ and labels/."""
    splits: Path | None = None
    """Folder with labeled.txt, unlabeled.txt and val.txt (also beside it) of a published data set."""
    labeled_ratio: Ratio | None = Field(None, gt=0, le=1)
    """Share of the labelled images that keep their labels, such as 1/16; the others become unlabelled ones."""
    out: Path | None = None
    """Run folder; runs/<date>-<method> if not given."""
    overwrite: bool = False
    """Start anew in a run folder that holds a run."""
    resume: bool = False
    """Go on from the last whole state of the run folder, with its settings."""
    stop_after: int | None = Field(None, ge=1)
    """Steps of this call; the schedule stays that of the whole run."""

    method: Literal["co2s", "unimatch", "fixmatch", "supervised"] = "co2s"
    """How unlabelled images are used."""
    preset: Literal["default", "published", "tiny"] = "default"
    """default: as the papers intend; published: as the released code behaves; tiny: small networks, no weights."""
    steps: int | None = Field(None, ge=1)
    """Steps of the run; 4000 if neither steps nor epochs are given."""
    epochs: int | None = Field(None, ge=1)
    """Length of the run as passes over the unlabelled images."""
    batch: int = Field(4, ge=1)
    """Labelled crops a step and process; as many unlabelled ones come with them."""
    crop: int = Field(256, ge=32)
    """Side of the crops in pixels."""
    seed: int = Field(0, ge=0)
    """Everything that is drawn depends on it alone."""

    clip: str = "ViT-B-16"
    """Image tower of the explicitly guided student, by its open_clip name."""
    clip_weights: str = "openai"
    """Its weights: an open_clip tag, a file, or none."""
    clip_guidance: Literal["text", "queries"] = "text"
    """What tells it the classes: text embeddings of their prompts, or learnable queries as the other student has."""
    dino: str = "vit_base_patch16_dinov3_qkvb.lvd1689m"
    """Transformer of the implicitly guided student, by its timm name."""
    dino_weights: str = "auto"
    """Its weights: a timm tag, a file, none, or auto (the tag in its name)."""
    dino_init: Literal["pretrained", "random"] = "pretrained"
    """random: weights are dropped and every LayerScale is 1e-5, as happens in the released code."""
    network: Literal["own", "published"] = "own"
    """published: ImageNet statistics, exact GELU, norm eps 1e-6 and bfloat16 positions, as in the released code."""
    init: Path | None = None
    """Model file to start from instead; its classes must be those of the data."""
    train_backbone: Literal["auto", "attention", "all"] = "auto"
    """What of the backbones trains: their attention alone, everything, or auto (everything where no weights are)."""
    fusion: Literal["mean", "confident", "clip", "dino"] = "mean"
    """How the students become one map."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the device is quick at it, else fp32."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one step."""
    compile: bool = False
    """Compile the networks first."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    workers: int = Field(2, ge=1)
    """Threads that read and augment."""
    trained_on: str = ""
    """One phrase for the model file: what it was trained on; counted from the data if not given."""
    licence: str = ""
    """Licence of the weights for the model file; found from the backbones' if not given."""
    half_files: bool = False
    """Write model files in half precision: half the size, logits that differ in the third digit."""

    lr: float = Field(1e-4, gt=0)
    """Base learning rate."""
    backbone_lr: float = Field(0.01, gt=0)
    """Factor of it for the backbones."""
    decoder_lr: float = Field(10.0, gt=0)
    """Factor of it for the decoders."""
    queries_lr: float = Field(1.0, gt=0)
    """Factor of it for the learnable class vectors."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay of AdamW, for every parameter."""
    warmup: int = Field(0, ge=0)
    """Steps in which the learning rate rises."""
    lr_lag: int = Field(0, ge=0, le=1)
    """1: the learning rate lags one step behind its schedule, as in the released code."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of a student's gradient; 0 = any."""

    threshold: float = Field(0.95, ge=0, le=1)
    """Confidence from which a pseudo-label counts."""
    class_thresholds: dict[str, float] = Field(default_factory=dict)
    """Other thresholds by class name."""
    class_weights: str = "none"
    """Weights of the classes in the supervised loss: none, frequency, or a YAML file with name: weight."""
    stability_weight: float = Field(0.5, ge=0)
    """Weight of the stability loss after its ramp; 0 = off."""
    stability_ramp: float = Field(0.2, ge=0, le=1)
    """Share of the run over which it rises."""
    stability_grad: bool = True
    """Whether the stability loss has a gradient; it has none in the released code."""
    stability_in_padding: bool = False
    """Whether padding counts in it; it does in the released code."""
    cutmix_partner: Literal["other", "same"] = "other"
    """What CutMix pastes: another image, or as in the released code another view of the same one."""
    denominators: Literal["all", "rank"] = "all"
    """What losses are divided by: the pixels of all processes, or as in the released code those of each by itself."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor of the random scale."""
    scale_rule: Literal["own", "fitted", "long"] = "own"
    """What it multiplies: the image's size, that fitted into 2048 × 512, or the long side in whole pixels."""

    strong_jitter: float = Field(0.5, ge=0, le=1)
    """Largest relative change of brightness, contrast and saturation in strong views."""
    strong_hue: float = Field(0.25, ge=0, le=0.5)
    """Largest turn of the hue in strong views; where colour tells the classes apart, less is better."""
    strong_gray: float = Field(0.2, ge=0, le=1)
    """Chance that a strong view loses its colours."""
    strong_blur: float = Field(0.5, ge=0, le=1)
    """Chance that a strong view is blurred."""

    val_every: int | None = Field(None, ge=1)
    """Steps between validations; a tenth of the run if not given."""
    eval_tile: int | None = Field(None, ge=32)
    """Side of the windows of validation; the crop if not given."""
    eval_overlap: float = Field(0.25, ge=0, le=0.9)
    """Part of a window that it shares with its neighbours."""
    eval_blend: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged where windows overlap."""
    eval_taper: Literal["smooth", "flat"] = "smooth"
    """Whether the rim of a window counts less."""
    eval_resize: int = Field(0, ge=0)
    """Short side that an image is resized to before validation; 0 = as it is."""
    log_every: int = Field(10, ge=1, le=10)
    """Steps between the lines of metrics.jsonl."""

    @model_validator(mode="after")
    def _fits_itself(self) -> TrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale wants 0 < smallest <= largest, found {self.scale}")
        if self.data in DATA_SETS and self.root is None:
            raise ValueError(f"data set {self.data} wants --root, the folder with its images/ and labels/")
        return self


RESUMABLE = frozenset({"resume", "stop_after", "device", "workers", "out", "overwrite"})
"""Settings that may differ from those of the run that is resumed: no number depends on them."""


def settings_of(config: Path | None, flags: dict[str, Any], extra: list[str]) -> TrainConfig:
    """Settings from defaults < preset < data set < YAML file < `key=value` < flags."""
    written = read_yaml(config) if config else {}
    values = {**written, **_parsed(extra), **flags}
    preset = PRESETS.get(str(values.get("preset", "default")), {})
    known = DATA_SETS.get(str(values.get("data", "")), {})
    base = {**preset, **known}
    if "steps" in values:
        base.pop("epochs", None)
    elif "epochs" in values:
        base.pop("steps", None)
    return load(TrainConfig, None, {**base, **values})


def resumed(folder: Path, flags: dict[str, Any], extra: list[str]) -> TrainConfig:
    """The settings of the run in `folder`; a flag that would change its numbers is refused."""
    stored = {key: value for key, value in read_yaml(folder / "config.yaml").items() if key in TrainConfig.model_fields}
    before = load(TrainConfig, None, {**stored, "out": folder})
    after = load(TrainConfig, None, {**stored, **_parsed(extra), **flags, "out": folder})
    for name in TrainConfig.model_fields.keys() - RESUMABLE:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            raise ConfigError(f"--resume: {name} is {old} in {folder / 'config.yaml'}, {new} was asked for")
    return after


def _parsed(extra: list[str]) -> dict[str, Any]:
    """The settings of `--set key=value`."""
    import yaml  # only when a setting is given

    found = {}
    for text in extra:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: wants key=value")
        try:
            found[key.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not YAML") from error
    return found
