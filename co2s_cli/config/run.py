"""Settings that `co2s train` and `co2s distill` share, and how they are read for new and for resumed runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from co2s_cli.config.base import Settings, checked, read_yaml
from co2s_cli.config.flags import BANDS_FLAG, Argument, Flag
from co2s_cli.config.protocol import published_names
from co2s_cli.config.units import Bands, WholeNumbers
from co2s_cli.errors import ConfigError, OutputError


def parse_ratio(value: Any) -> Any:
    """The share as a number, from text such as 1/16, 0.0625 or 6.25%."""
    text = str(value).strip()
    numerator, _, denominator = text.removesuffix("%").partition("/")
    try:
        return float(numerator) / float(denominator or 1) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("wants a share such as 1/16 or 0.0625") from None


def _none(value: Any) -> Any:
    """None for the word "none", any other value as it is."""
    return None if str(value) == "none" else value


def timm_name(network: str, weights: str) -> tuple[str, ...]:
    """`NETWORK.TAG` of timm weights, the tag being `weights` or, if that is `auto`, the one in the network's name.

    Empty if the weights are a file or `none`, or if there is no tag.
    """
    name, _, tag_in_name = network.partition(".")
    tag = tag_in_name if weights == "auto" else weights
    return (f"{name}.{tag}",) if tag and tag != "none" and not Path(tag).suffix else ()


Ratio = Annotated[float, BeforeValidator(parse_ratio)]


class RunConfig(Settings):
    """Settings of a training run, whichever command starts it."""

    data: Annotated[str, Argument("DATA")] = "data.yaml"
    """data.yaml; with --labels: a scene; with --root: a published data set (train: whdld, loveda, potsdam, gid15, mer,
    msl; distill: loveda-dwl, potsdam-dwl, deepglobe) or a YAML file with your own protocol."""
    labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """Labelled polygons or points for the scene DATA, or a raster of labels on its pixels; a data.yaml is written into
    the run folder, as co2s init does."""
    attribute: Annotated[str | None, Flag(panel="Labels")] = None
    """Attribute of --labels that holds the class. Default: class, else the only suitable one, or the name
    beside its code."""
    overlaps: Annotated[Literal["refuse", "last"], Flag(panel="Labels")] = "refuse"
    """If polygons of different classes overlap: refuse them, or let the last one in the file win."""
    ignore: Annotated[WholeNumbers, Flag(panel="Labels", metavar="VALUE,…|none", repeats=True)] = None
    """Values of a raster of labels that mean "not labelled", besides nodata and 255. none: a 0 without a name is a
    class. Wanted only if there is such a 0."""
    bands: Annotated[Bands, BANDS_FLAG] = Field([])
    """With --labels: bands of the scene that the model sees, 8,4,3 or nir,red,green or 1..4. Default: all but alpha."""
    root: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder of a published data set; it holds the folders of images and labels."""
    splits: Annotated[Path | None, Flag(panel="Input")] = None
    """Folder with labeled.txt, unlabeled.txt and val.txt of a published data set; val.txt may be in its parent."""
    labeled_ratio: Annotated[Ratio | None, Flag(panel="Input", metavar="SHARE")] = Field(None, gt=0, le=1)
    """Share of the labelled images that keep their labels, such as 1/16; the others are used without labels. If that
    is less than one image: share of the labelled polygons or blocks."""
    out: Annotated[Path | None, Flag("--out", "-o", panel="Output")] = None
    """Run folder. Default: runs/<date>-<method>."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Delete the files of an earlier run in the run folder and start a new run."""
    resume: Annotated[bool | Literal["auto"], Flag(panel="Output", alone="true", metavar="[auto]")] = False
    """Continue the run in --out from its last complete checkpoint, with its settings. auto: start the run if there is
    no checkpoint yet, so that one command line both starts and continues it."""
    stop_after: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Stop after this many steps, to continue with --resume later; schedules still span the whole run."""

    preset: Annotated[Literal["default", "published", "small", "tiny"], Flag(panel="Training")] = "default"
    """default: as the papers intend; published: as the released code behaves; small: best without pretrained weights,
    minutes on two cores; tiny: the paper's two students as very small networks, for trials."""
    steps: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Length of the run in steps. Default: 4000, unless the preset or another option sets the length."""
    epochs: Annotated[int | None, Flag(panel="Training")] = Field(None, ge=1)
    """Length of the run in passes over the unlabelled images."""
    visits: int | None = Field(None, ge=1, le=1_000_000)
    """Length of the run in labelled crops per labelled place (a polygon, or a crop's area of labels), limited to 100 to
    1,000 steps: a long run overfits few labels."""
    minutes: Annotated[float | None, Flag(panel="Training")] = Field(None, gt=0, le=100_000)
    """Length of the run in minutes on this machine, estimated from the speed of its first steps."""
    batch: Annotated[int, Flag(panel="Training")] = Field(4, ge=1, le=65_536)
    """Labelled crops per batch, over all processes together; a batch has as many unlabelled crops. The default is per
    process."""
    crop: Annotated[int, Flag(panel="Training")] = Field(256, ge=32, le=16_384)
    """Side of the training crops in pixels."""
    seed: Annotated[int, Flag(panel="Training")] = Field(0, ge=0, le=2**62)
    """Seed of all random numbers."""

    student: Annotated[str | None, Flag(panel="Model")] = None
    """Train one student with this transformer (a timm name, or tiny-student) and a DPT head, instead of the pair."""
    student_weights: Annotated[str, Flag(panel="Model")] = "auto"
    """Weights of --student: a timm tag, a file, none, or auto (the tag in its name)."""
    init: Annotated[Path | None, BeforeValidator(_none), Flag(panel="Model")] = None
    """Model file to start from; weights that fit are copied, classes and bands are matched by name. start: the packaged
    student, trained on made-up land (what the small preset starts from); none: no model file."""
    train_backbone: Literal["auto", "attention", "all"] = "auto"
    """Trained part of the backbones: only their attention, or all; auto: all if they have no pretrained weights, else
    attention."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Final decay of the exponential moving average of the weights that makes the pseudo-labels; 0: no average, the
    current weights make them."""

    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """Number format; auto: bf16 if the device is fast at it, else fp32."""
    accumulate: Annotated[int, Flag(panel="Speed")] = Field(1, ge=1, le=65_536)
    """Batches per optimiser step; losses and gradients equal those of one batch of their total size."""
    compile: Annotated[bool, Flag(panel="Speed")] = False
    """Compile the networks with torch.compile before the first step."""
    checkpointing: Annotated[bool, Flag(panel="Speed")] = False
    """Recompute activations in the backward pass: less memory, more time."""
    workers: int | None = Field(None, ge=1, le=1024)
    """Threads that read and cut crops. Default: 2; with a GPU one per core of the process, at most 8."""
    trained_on: str = ""
    """Description of the training data for the model file, in one phrase. Default: counts of images and pixels."""
    licence: str = ""
    """Licence of the weights for the model file. Default: that of the initial weights and of the teachers."""
    half_files: bool = False
    """Write model files in half precision: half the size; logits differ in the third digit."""

    lr: float = Field(1e-4, gt=0)
    """Base learning rate."""
    backbone_lr: float = Field(0.01, gt=0)
    """Learning rate of the backbones, as a factor of `lr`."""
    decoder_lr: float = Field(10.0, gt=0)
    """Learning rate of the decoders, as a factor of `lr`."""
    queries_lr: float = Field(1.0, gt=0)
    """Learning rate of the learnable class vectors, as a factor of `lr`."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW, for all parameters."""
    warmup: int = Field(0, ge=0)
    """Steps over which the learning rate rises to its base."""
    lr_lag: int = Field(0, ge=0, le=1)
    """1: the learning rate lags one step behind its schedule, as in the released code."""
    schedule: Literal["poly", "cycle"] = "poly"
    """Learning rate schedule. poly: falls after the warm-up; cycle: rises over 30 % of the run, then falls."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest gradient norm of a student; larger gradients are scaled down. 0: no limit."""

    refit: bool = False
    """If `val` is a share of the labels: afterwards train again from the start, for as many steps, on all labels,
    including those that validated. The result, final.safetensors, cannot be validated."""

    threshold: float = Field(0.95, ge=0, le=1)
    """Least confidence of a pseudo-label that counts in the loss."""
    threshold_share: float = Field(0.0, ge=0, lt=1)
    """Lower each class's threshold, to 0.5 at least, until this share of the pixels predicted as the class counts, so
    that rare classes get pseudo-labels; 0: one threshold for all classes."""
    pseudo_balance: float = Field(0.0, ge=0, le=1)
    """Exponent p of the class weights of pseudo-labels: a class with the share s of the pseudo-labels that count weighs
    s^-p; 0: all classes weigh the same."""
    consistency_start: float = Field(0.0, ge=0, lt=1)
    """First share of the run, in which only the labelled loss counts."""
    consistency_after: int = Field(0, ge=0)
    """Least number of steps in which only the labelled loss counts, but at most six tenths of the run."""
    consistency_ramp: float = Field(0.0, ge=0, lt=1)
    """Share of the run over which the unlabelled loss then rises to its full weight."""
    class_thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Confidence thresholds of single classes, by name, in place of `threshold`."""
    class_weights: str = "none"
    """Class weights in the supervised loss: none, frequency, or a YAML file with lines name: weight."""
    labeled_balance: float = Field(0.0, ge=0, le=1)
    """Exponent p of the weights of labelled pixels: one in a crop with n labelled pixels weighs n^-p, so that small
    polygons are learnt as soon as large ones; 0: all pixels weigh the same; 1: all crops."""
    cutmix_partner: Literal["other", "same", "flip"] = "other"
    """What CutMix pastes. other: another image; same: another view of the same image, as in the released Co2S code;
    flip: the image at the mirrored position in the batch, as in that of RS-MTDF."""
    denominators: Literal["all", "rank"] = "all"
    """Pixels that a loss is averaged over: those of all processes, or, as in the released code, of each process (rank)
    by itself."""

    headroom: float = Field(0.0, ge=0, le=10)
    """How far the scaling of bands that are not 8-bit extends beyond their 2nd and 98th percentile, as a share of the
    distance between the two; values outside are clipped. `scaling` in data.yaml is never extended."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest random scale factor of training images."""
    scale_rule: Literal["own", "fitted", "long"] = "own"
    """What the random scale multiplies. own: the image's size; fitted: that size fitted into 2048 × 512; long: the long
    side, in whole pixels."""

    strong_jitter: float = Field(0.5, ge=0, le=1)
    """Strong views: largest relative change of brightness, contrast and saturation."""
    strong_hue: float = Field(0.25, ge=0, le=0.5)
    """Strong views: largest turn of the hue, 0.5 being half the circle; use less if colour separates the classes."""
    strong_gray: float = Field(0.2, ge=0, le=1)
    """Strong views: probability of turning grey."""
    strong_blur: float = Field(0.5, ge=0, le=1)
    """Strong views: probability of a blur."""
    strong_gain: float | None = Field(None, ge=0, le=1)
    """Strong views: largest relative change of each band by itself. Default: 0 for red, green, blue, else 0.2."""
    strong_offset: float | None = Field(None, ge=0, le=1)
    """Strong views: largest shift of each band, as a share of its range. Default: 0 for red, green, blue, else 0.05."""
    strong_noise: float | None = Field(None, ge=0, le=1)
    """Strong views: largest standard deviation of noise, as a share of the range. Default: 0 for red, green, blue, else
    0.02."""

    split_by: Annotated[Literal["chip", "tile"], Flag(panel="Input")] = "chip"
    """If a share of a folder of chips validates: draw single chips, or whole tiles (all chips cut from one image), so
    that no tile both trains and validates."""
    balance: Literal["none", "sqrt", "uniform"] = "none"
    """How often each class is at the centre of a labelled crop. none: crops are placed without regard to classes; sqrt:
    in proportion to the square root of its labelled pixels; uniform: all classes equally often."""
    flips: Literal["horizontal", "both"] = "horizontal"
    """Random mirroring of crops: left to right, or also top to bottom."""
    rotate: bool = False
    """Whether crops are turned by 0 to 3 quarter turns at random."""
    labeled_gain: float = Field(0.0, ge=0, le=1)
    """Labelled crops: largest relative change of each band by itself."""
    labeled_offset: float = Field(0.0, ge=0, le=1)
    """Labelled crops: largest shift of each band, as a share of its range."""
    labeled_noise: float = Field(0.0, ge=0, le=1)
    """Labelled crops: largest standard deviation of noise, as a share of the range."""
    labeled_paste: float = Field(0.0, ge=0, le=1)
    """Labelled crops that show few borders of classes: probability that irregular parts of another crop's labelled
    areas (of 64 pixels and more) are pasted in, with their labels. They make borders and narrow shapes, which polygons
    drawn inside things leave out."""

    val_every: Annotated[int, Field(ge=1)] | Literal["epoch"] | None = None
    """Steps between validations, or epoch: after each pass over the unlabelled images. Default: a tenth of the run."""
    select: Literal["fused", "students"] = "fused"
    """Model files of the best validation. fused: one, by the fused map (best.safetensors); students: also one per
    student, by its own map (best-clip.safetensors, best-dino.safetensors), as in the released code."""
    eval_tile: int | None = Field(None, ge=32, le=16_384)
    """Side of the validation windows in pixels. Default: `crop`."""
    eval_overlap: float = Field(0.25, ge=0, le=0.9)
    """Share of a validation window's side that overlaps the next window."""
    eval_blend: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged where validation windows overlap."""
    eval_taper: Literal["smooth", "flat"] = "smooth"
    """Weights within a validation window: smooth: less towards its edge; flat: the same everywhere."""
    eval_resize: int = Field(0, ge=0, le=16_384)
    """Short side in pixels to which images are resized for validation; 0: no resizing."""
    log_every: int = Field(10, ge=1, le=10)
    """Steps between two lines of metrics.jsonl."""

    @property
    def method_name(self) -> str:
        """Name of the training method in records and model files."""
        raise NotImplementedError

    @property
    def sources(self) -> tuple[Path, ...]:
        """Paths of the initial weights; a tag or keyword such as `auto` is included as a path that does not exist."""
        return (*([self.init] if self.init else []), Path(self.student_weights))

    def deciding(self) -> dict[str, Any]:
        """The settings on which the numbers of a run depend, as JSON values by name."""
        return self.model_dump(mode="json", exclude=set(RESUMABLE))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Names of the pretrained weights that the run needs: `NETWORK.TAG` of timm or `NETWORK:TAG` of open_clip."""
        return timm_name(self.student, self.student_weights) if self.student and self.init is None else ()

    @property
    def weight_flags(self) -> str:
        """Options by which weight files can be given instead of `pretrained` names, for error messages."""
        return "--student-weights FILE"

    @model_validator(mode="after")
    def _lengths_fit(self) -> RunConfig:
        lengths = [name for name in ("steps", "epochs", "visits", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            kept = "; a resumed run keeps the length that it began with" if self.resume else ""
            raise ValueError(f"{' and '.join(lengths)} exclude each other{kept}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale wants 0 < smallest <= largest, found {self.scale}")
        if self.labels is not None and self.root is not None:
            raise ValueError("--labels goes with a scene, --root with a published data set")
        if self.labels is not None and self.out is None:
            raise ValueError("--labels wants --out, the folder of the run: data.yaml is written into it")
        if self.labels is None and (self.attribute is not None or self.overlaps != "refuse" or self.ignore is not None):
            raise ValueError("--attribute, --overlaps and --ignore belong to --labels, the labels of a scene")
        if self.labels is None and self.bands:
            raise ValueError("--bands belongs to --labels, the labels of a scene; a data.yaml names them with bands:")
        if self.data in published_names() and self.root is None:
            raise ValueError(f"data set {self.data} wants --root, the folder with its images and labels")
        return self


R = TypeVar("R", bound=RunConfig)

LENGTHS = frozenset({"steps", "epochs", "visits", "minutes"})
"""Settings that give the length of a run, of which only one may be set."""

RESUMABLE = frozenset({"resume", "stop_after", "device", "workers", "out", "overwrite"})
"""Settings that may change when a run is resumed: no number depends on them."""


def user_values(config: Path | None, flags: Mapping[str, Any], extra: list[str]) -> dict[str, Any]:
    """The values that the user set, by field name: YAML file < `--set key=value` < flags."""
    values = {**(read_yaml(config) if config else {}), **_parsed(extra), **flags}
    if values.get("resume") and not values.get("out"):
        raise ConfigError("--resume wants --out, the folder of the run")
    return values


def from_layers(
    kind: type[R], *layers: Mapping[str, Any], config: Path | None = None, flags: Mapping[str, Any] | None = None
) -> R:
    """Settings from the defaults, overridden by each layer in turn; the last layer holds the user's values.

    A layer that sets the length of the run in one of `LENGTHS` removes the lengths of the layers before it. A batch
    that the user did not set is multiplied by the number of processes. `config` and `flags` are the origins of the last
    layer's values, for error messages.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        if LENGTHS & layer.keys():
            values = {key: value for key, value in values.items() if key not in LENGTHS}
        values |= layer
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and "batch" not in layers[-1]:
        values["batch"] = processes * int(values.get("batch", kind.model_fields["batch"].default))
    return checked(kind, values, config=config, typed=flags or ())


def resumed_as(
    kind: type[R],
    folder: Path,
    flags: Mapping[str, Any],
    extra: list[str],
    *,
    command: str,
    content: Mapping[str, Any] | None = None,
) -> R:
    """Settings with which to resume the run in `folder`, which `command` has started.

    `content` is the content of the run's config.yaml if another process has read it already.

    Raises:
        ConfigError: another command started the run, or a flag would change a setting that its numbers depend on.
        OutputError: config.yaml is damaged or missing.
    """
    content = content_of_run(folder) if content is None else content
    try:
        made_with = content.get("made_with")
        started_by = made_with.get("command", command) if isinstance(made_with, dict) else command
        stored = {key: value for key, value in content.items() if key in kind.model_fields}
        before = checked(kind, {**stored, "out": folder}) if started_by == command else None
    except ConfigError as error:
        raise _damaged(folder, error) from error
    if before is None:
        raise ConfigError(
            f"--resume: {folder} holds a run of co2s {started_by}", hint=f"co2s {started_by} --resume --out {folder}"
        )
    after = checked(kind, {**stored, **_parsed(extra), **flags, "out": folder}, typed=flags)
    for name in kind.model_fields.keys() - RESUMABLE:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            raise ConfigError(f"--resume: {name} is {old} in {folder / 'config.yaml'}, {new} was asked for")
    return after


def content_of_run(folder: Path) -> dict[str, Any]:
    """Content of the config.yaml in a run folder.

    Raises:
        OutputError: config.yaml is damaged or missing.
    """
    try:
        return read_yaml(folder / "config.yaml")
    except ConfigError as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: ConfigError) -> OutputError:
    hint = "put it back as the run wrote it, or start a new run"
    return OutputError(f"{folder / 'config.yaml'}: is damaged: {error.message}", hint=hint)


def _parsed(extra: list[str]) -> dict[str, Any]:
    """Values by field name from texts `key=value` of `--set`; each value is read as YAML."""
    import yaml  # slow to import: only once settings are read

    from co2s_cli.config.yaml_file import parse_yaml

    values = {}
    for text in extra:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: wants key=value")
        try:
            values[key.strip().replace("-", "_")] = parse_yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {text}: the value is not YAML") from error
    return values
