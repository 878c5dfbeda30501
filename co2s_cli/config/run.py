"""What `co2s train` and `co2s distill` share: settings of a run, how they are read, and how a run's own are found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings, checked, read_yaml
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.protocol import published_names
from co2s_cli.errors import ConfigError, OutputError


def parse_ratio(value: Any) -> Any:
    """The number of 1/16, 0.0625 or 6.25%."""
    text = str(value).strip()
    share, _, parts = text.removesuffix("%").partition("/")
    try:
        return float(share) / float(parts or 1) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("wants a share such as 1/16 or 0.0625") from None


def _none(value: Any) -> Any:
    """None for the word."""
    return None if str(value) == "none" else value


def timm_name(network: str, weights: str) -> tuple[str, ...]:
    """`NETWORK.TAG` of a network whose `weights` are a tag, or `auto`: the tag in its name; none where they are not."""
    name, _, own = network.partition(".")
    tag = own if weights == "auto" else weights
    return (f"{name}.{tag}",) if tag and tag != "none" and not Path(tag).suffix else ()


Ratio = Annotated[float, BeforeValidator(parse_ratio)]


class RunConfig(Settings):
    """A training run of any command."""

    data: Annotated[str, Argument("DATA")] = "data.yaml"
    """data.yaml, or with --root a published data set (whdld, loveda, potsdam, gid15, mer, msl; for distill loveda-dwl,
    potsdam-dwl, deepglobe) or the YAML file of a protocol of your own; with --labels a scene."""
    labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """Polygons of the classes: DATA is then a scene, and data.yaml is written into the run folder, as by co2s init."""
    attribute: Annotated[str | None, Flag(panel="Labels")] = None
    """Attribute of --labels that names the class; if not given class, else the only one that can."""
    overlaps: Annotated[Literal["refuse", "last"], Flag(panel="Labels")] = "refuse"
    """Polygons of --labels of different classes that cover each other: refuse, or the last one in the file wins."""
    root: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder of a published data set, with its folders of images and labels."""
    splits: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder with labeled.txt, unlabeled.txt and val.txt (also beside it) of a published data set."""
    labeled_ratio: Annotated[Ratio | None, Flag(panel="Input", metavar="SHARE")] = Field(None, gt=0, le=1)
    """Share of the labelled images that keep their labels, such as 1/16; the others become unlabelled ones. Where it is
    less than one image: share of the labelled places."""
    out: Annotated[Path | None, Flag("--out", "-o", panel="Output")] = None
    """Run folder; runs/<date>-<method> if not given."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Start anew in a run folder that holds a run."""
    resume: Annotated[bool | Literal["auto"], Flag(panel="Output", alone="true", metavar="[auto]")] = False
    """Go on from the last whole state of the run folder, with its settings. With auto, begin where it holds none yet:
    the same command line begins a run and goes on with it."""
    stop_after: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Steps of this call; the schedule stays that of the whole run."""

    preset: Annotated[Literal["default", "published", "small", "tiny"], Flag(panel="Training")] = "default"
    """default: as the papers intend; published: as the released code behaves; small: what learns best without
    pretrained weights, in minutes on two cores; tiny: the pair in very small networks, for trying things out."""
    steps: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Steps of the run; 4000 if its length is not given in another way."""
    epochs: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Length of the run as passes over the unlabelled images."""
    visits: int | None = Field(None, ge=1, le=1_000_000)
    """Length of the run as labelled crops for each labelled place, a crop's worth of labels or a polygon: few labels
    are learnt by heart in a long run. From 50 to 1,000 steps."""
    minutes: Annotated[float | None, Flag(panel="Training")] = Field(None, gt=0, le=100_000)
    """Length of the run as the time that it may take on this machine, from the pace of its first steps."""
    batch: Annotated[int, Flag(panel="Training")] = Field(4, ge=1, le=65_536)
    """Labelled crops of a batch, in all processes together; as many unlabelled ones come with them. If not given, so
    many for each process."""
    crop: Annotated[int, Flag(panel="Training")] = Field(256, ge=32, le=16_384)
    """Side of the crops in pixels."""
    seed: Annotated[int, Flag(panel="Training")] = Field(0, ge=0, le=2**62)
    """Everything that is drawn depends on it alone."""

    student: Annotated[str | None, Flag(panel="Model")] = None
    """Train one student on this transformer (a timm name, or tiny-student) with a DPT head, in place of the pair."""
    student_weights: Annotated[str, Flag(panel="Model")] = "auto"
    """Its weights: a timm tag, a file, none, or auto (the tag in its name)."""
    init: Annotated[Path | None, BeforeValidator(_none), Flag(panel="Model")] = None
    """Model file to start from: what fits is taken, classes and bands by their names. start: the student in the
    package, which knows made-up land (what the small preset starts from); none: nothing."""
    train_backbone: Literal["auto", "attention", "all"] = "auto"
    """What of the backbones trains: their attention alone, everything, or auto (everything where no weights are)."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Pseudo-labels come from the running mean of the weights, whose decay rises to this; 0 = from the weights."""

    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """auto: bf16 where the device is quick at it, else fp32."""
    accumulate: Annotated[int, Flag(panel="Speed")] = Field(1, ge=1, le=65_536)
    """Batches that make one step: its losses and gradients are those of one batch as large."""
    compile: Annotated[bool, Flag(panel="Speed")] = False
    """Compile the networks first."""
    checkpointing: Annotated[bool, Flag(panel="Speed")] = False
    """Recompute activations in the backward pass: less memory, more time."""
    workers: int | None = Field(None, ge=1, le=1024)
    """Threads that read and cut crops; if not given 2, beside a GPU one for each core of the process, at most 8."""
    trained_on: str = ""
    """One phrase for the model file: what it was trained on; counted from the data if not given."""
    licence: str = ""
    """Licence of the weights for the model file; found from what it began with and its teachers if not given."""
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
    schedule: Literal["poly", "cycle"] = "poly"
    """How the learning rate goes: it falls after the warm-up, or rises over 30 % of the run and falls again."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of a student's gradient; 0 = any."""

    refit: bool = False
    """Where `val` is a share of the labels: run as often again from the beginning, with the labels that validated among
    those that teach. That makes final.safetensors, which nothing is left to validate."""

    threshold: float = Field(0.95, ge=0, le=1)
    """Confidence from which a pseudo-label counts."""
    threshold_share: float = Field(0.0, ge=0, lt=1)
    """Lower the threshold of each class, down to 0.5, until this share of the pixels that are taken for it counts, so
    that rare classes are not starved; 0 = one threshold for all."""
    pseudo_balance: float = Field(0.0, ge=0, le=1)
    """How much pseudo-labels of rare classes weigh more: their share among those that count, to this negative power."""
    consistency_start: float = Field(0.0, ge=0, lt=1)
    """Share of the run in which only labels teach."""
    consistency_after: int = Field(0, ge=0)
    """Steps in which only labels teach at least, up to six tenths of the run."""
    consistency_ramp: float = Field(0.0, ge=0, lt=1)
    """Share of the run over which the weight of unlabelled pixels rises then."""
    class_thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Other thresholds by class name."""
    class_weights: str = "none"
    """Weights of the classes in the supervised loss: none, frequency, or a YAML file with name: weight."""
    cutmix_partner: Literal["other", "same", "flip"] = "other"
    """What CutMix pastes: another image, or as in the released codes another view of the same one (Co2S), or the
    image at the mirrored place of the batch (RS-MTDF)."""
    denominators: Literal["all", "rank"] = "all"
    """What losses are divided by: the pixels of all processes, or as in the released code those of each by itself."""

    headroom: float = Field(0.0, ge=0, le=10)
    """How far the ranges of bands that are not 8 bits reach beyond the 2nd and 98th percentile, in parts of what lies
    between: what is brighter or darker is cut off. Ranges named in data.yaml hold as they are."""
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
    strong_gain: float | None = Field(None, ge=0, le=1)
    """Largest relative change of each band by itself in strong views; if not given 0 for red, green, blue, else 0.2."""
    strong_offset: float | None = Field(None, ge=0, le=1)
    """Largest shift of each band by itself, in parts of its range; if not given 0 for red, green, blue, else 0.05."""
    strong_noise: float | None = Field(None, ge=0, le=1)
    """Largest standard deviation of noise, in parts of the range; if not given 0 for red, green, blue, else 0.02."""

    split_by: Annotated[Literal["chip", "tile"], Flag(panel="Input")] = "chip"
    """What a share that validates is drawn of, where the images are chips in a folder: chips, or the tiles that they
    were cut from, so that no tile trains and validates."""
    balance: Literal["none", "sqrt", "uniform"] = "none"
    """How often a class is at the centre of a labelled crop: not asked, by the root of its labelled pixels, or all
    classes alike."""
    flips: Literal["horizontal", "both"] = "horizontal"
    """How crops are mirrored: left to right, or top to bottom as well."""
    rotate: bool = False
    """Whether crops are turned by 0 to 3 quarter turns."""
    labeled_gain: float = Field(0.0, ge=0, le=1)
    """Largest relative change of each band of labelled crops by itself."""
    labeled_offset: float = Field(0.0, ge=0, le=1)
    """Largest shift of each band of labelled crops, in parts of its range."""
    labeled_noise: float = Field(0.0, ge=0, le=1)
    """Largest standard deviation of noise in labelled crops, in parts of the range."""

    val_every: Annotated[int, Field(ge=1)] | Literal["epoch"] | None = None
    """Steps between validations, or epoch: after each pass over the unlabelled images; a tenth of the run if not
    given."""
    select: Literal["fused", "students"] = "fused"
    """Whose best validation keeps a model file: that of the fused map alone (best.safetensors), or as in the released
    code that of each student too (best-clip.safetensors and best-dino.safetensors, one student in each)."""
    eval_tile: int | None = Field(None, ge=32, le=16_384)
    """Side of the windows of validation; the crop if not given."""
    eval_overlap: float = Field(0.25, ge=0, le=0.9)
    """Part of a window that it shares with its neighbours."""
    eval_blend: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged where windows overlap."""
    eval_taper: Literal["smooth", "flat"] = "smooth"
    """Whether the rim of a window counts less."""
    eval_resize: int = Field(0, ge=0, le=16_384)
    """Short side that an image is resized to before validation; 0 = as it is."""
    log_every: int = Field(10, ge=1, le=10)
    """Steps between the lines of metrics.jsonl."""

    @property
    def lesson(self) -> str:
        """What the records call the way of learning."""
        raise NotImplementedError

    @property
    def sources(self) -> tuple[Path, ...]:
        """Where the weights come from that the run begins with; of tags and the like, paths that lead nowhere."""
        return (*([self.init] if self.init else []), Path(self.student_weights))

    def deciding(self) -> dict[str, Any]:
        """The settings that the numbers of a run depend on, as plain values."""
        return self.model_dump(mode="json", exclude=set(RESUMABLE))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Weights that the run begins with by name, `NETWORK.TAG` of timm or `NETWORK:TAG` of open_clip."""
        return timm_name(self.student, self.student_weights) if self.student and self.init is None else ()

    @property
    def weight_flags(self) -> str:
        """How files are named in place of such weights."""
        return "--student-weights FILE"

    @model_validator(mode="after")
    def _lengths_fit(self) -> RunConfig:
        lengths = [name for name in ("steps", "epochs", "visits", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f"{' and '.join(lengths)} exclude each other")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale wants 0 < smallest <= largest, found {self.scale}")
        if self.labels is not None and self.root is not None:
            raise ValueError("--labels goes with a scene, --root with a published data set")
        if self.labels is not None and self.out is None:
            raise ValueError("--labels wants --out, the folder of the run: data.yaml is written into it")
        if self.labels is None and (self.attribute is not None or self.overlaps != "refuse"):
            raise ValueError("--attribute and --overlaps belong to --labels, polygons for a scene")
        if self.data in published_names() and self.root is None:
            raise ValueError(f"data set {self.data} wants --root, the folder with its images and labels")
        return self


R = TypeVar("R", bound=RunConfig)

LENGTHS = frozenset({"steps", "epochs", "visits", "minutes"})

RESUMABLE = frozenset({"resume", "stop_after", "device", "workers", "out", "overwrite"})
"""Settings that may differ from those of the run that is resumed: no number depends on them."""


def written(config: Path | None, flags: Mapping[str, Any], extra: list[str]) -> dict[str, Any]:
    """What a user has set: a YAML file < `key=value` < flags."""
    values = {**(read_yaml(config) if config else {}), **_parsed(extra), **flags}
    if values.get("resume") and not values.get("out"):
        raise ConfigError("--resume wants --out, the folder of the run")
    return values


def settled(
    kind: type[R], *layers: Mapping[str, Any], config: Path | None = None, flags: Mapping[str, Any] | None = None
) -> R:
    """Settings from defaults < each layer over those before it; each may say the length as steps or as epochs.

    `config` and `flags` are where values of the last layer come from, for what is said of bad ones.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        if LENGTHS & layer.keys():
            found = {key: value for key, value in found.items() if key not in LENGTHS}
        found |= layer
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and "batch" not in layers[-1]:
        found["batch"] = processes * int(found.get("batch", kind.model_fields["batch"].default))
    return checked(kind, found, config=config, typed=flags or ())


def resumed_as(
    kind: type[R],
    folder: Path,
    flags: Mapping[str, Any],
    extra: list[str],
    *,
    command: str,
    content: Mapping[str, Any] | None = None,
) -> R:
    """The settings of the run that `command` began in `folder`; a flag that would change its numbers is refused.

    `content` is that of its config.yaml, where another process has read it.
    """
    content = content_of_run(folder) if content is None else content
    try:
        made_with = content.get("made_with")
        began = made_with.get("command", command) if isinstance(made_with, dict) else command
        stored = {key: value for key, value in content.items() if key in kind.model_fields}
        before = checked(kind, {**stored, "out": folder}) if began == command else None
    except ConfigError as error:
        raise _damaged(folder, error) from error
    if before is None:
        raise ConfigError(
            f"--resume: {folder} holds a run of co2s {began}", hint=f"co2s {began} --resume --out {folder}"
        )
    after = checked(kind, {**stored, **_parsed(extra), **flags, "out": folder}, typed=flags)
    for name in kind.model_fields.keys() - RESUMABLE:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            raise ConfigError(f"--resume: {name} is {old} in {folder / 'config.yaml'}, {new} was asked for")
    return after


def content_of_run(folder: Path) -> dict[str, Any]:
    """What is in the config.yaml of a run.

    Raises:
        OutputError: it is damaged or missing.
    """
    try:
        return read_yaml(folder / "config.yaml")
    except ConfigError as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: ConfigError) -> OutputError:
    hint = "put it back as the run wrote it, or start a new run"
    return OutputError(f"{folder / 'config.yaml'}: is damaged: {error.message}", hint=hint)


def _parsed(extra: list[str]) -> dict[str, Any]:
    """The settings of `--set key=value`."""
    import yaml  # only when a setting is given

    from co2s_cli.config.yaml_file import parse_yaml

    found = {}
    for text in extra:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: wants key=value")
        try:
            found[key.strip().replace("-", "_")] = parse_yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {text}: the value is not YAML") from error
    return found
