"""The manifest of a model: how it is built, what input it expects, its classes and origin; stored with its weights."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from co2s_cli.classes import ClassMap
from co2s_cli.errors import shown
from co2s_cli.students import LOCAL_NAMES, STUDENT_NAMES, Fusion, StudentName

FORMAT: Literal[1] = 1

SINGLE: Final = "student"
"""Name of the student in a model that has a single dense student."""

_Width = Annotated[int, Field(gt=0, le=16_384)]

_LIMITS: dict[str, tuple[float, float]] = {
    "image_size": (1, 4096),
    "patch_size": (1, 256),
    "width": (1, 16_384),
    "embed_dim": (1, 16_384),
    "output_width": (1, 16_384),
    "layers": (1, 256),
    "depth": (1, 256),
    "heads": (1, 1024),
    "num_heads": (1, 1024),
    "mlp_ratio": (0.01, 64.0),
    "norm_eps": (1e-12, 1.0),
}
"""Smallest and largest value of each size among a backbone's options; only integers if the largest is an integer."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


SampleType = Literal["uint8", "uint16", "int16", "float32"]


class ModelScaling(_Frozen):
    """Scaling of digital numbers to [0, 1], with one range for each band: (value - low) / (high - low)."""

    dtype: SampleType = "uint8"
    """Sample type of the rasters that the ranges belong to."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    headroom: float = Field(default=0.0, ge=0)
    """Where ranges are percentiles of a scene: by how much each end is moved outwards, in parts of the range."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> ModelScaling:
        if len(self.low) != len(self.high) or any(lo > hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low <= high is wanted for each band, got {self.low} and {self.high}")
        return self


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Band statistics that the released codes use for every backbone, CLIP's included; as fields of a `BackboneSpec`."""


class BackboneSpec(_Frozen):
    """A vision transformer by library and name, with the options to rebuild it."""

    library: Literal["open_clip", "timm"]
    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Sizes that differ from those of the name, activation, norm eps, rule and precision of positions, `rgb`."""
    mean: tuple[float, ...]
    """By band, of images in [0, 1]."""
    std: tuple[float, ...]
    """By band, of images in [0, 1]."""

    @property
    def rgb(self) -> tuple[int, ...]:
        """For each band the channel (0 red, 1 green, 2 blue) whose pretrained filter and statistics it starts with."""
        return tuple(self.options.get("rgb", range(3)))

    @field_validator("options")
    @classmethod
    def _sizes_are_sizes(cls, value: dict[str, Any]) -> dict[str, Any]:
        sizes = value.get("sizes", {})
        if not isinstance(sizes, dict):
            raise ValueError(f"sizes are names with numbers, found {shown(sizes)}")  # noqa: TRY004 - pydantic wants it
        for name, (low, high) in _LIMITS.items():
            size = sizes.get(name, value.get(name, low))
            if type(size) not in (int, type(high)) or not low <= size <= high:
                raise ValueError(f"{name} is {shown(size)}, wanted is a number from {low:g} to {high:g}")
        channels = value.get("rgb", [])
        if not isinstance(channels, list | tuple) or any(channel not in (0, 1, 2) for channel in channels):
            raise ValueError(f"rgb is {shown(channels)}, wanted are channels 0, 1 or 2")
        return value

    @model_validator(mode="after")
    def _statistics_are_usable(self) -> BackboneSpec:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ValueError(f"a mean and a positive std for each band are wanted, got {self.mean} and {self.std}")
        return self


class DecoderSpec(_Frozen):
    """Widths of the guided decoder; the defaults are the published ones."""

    width: _Width = 128
    skips: tuple[_Width, _Width] = (32, 16)
    """Channels that the deeper and the shallower skip are projected to."""
    ups: tuple[_Width, _Width] = (64, 32)
    """Channels after the first and after the second upsampling."""
    similarity: float | None = None
    """Initial value of the learnt scale at which the similarity of pixels and class vectors is added to the logits.
    None: it is not added, as published. In a training from scratch the logits then tell the classes apart only late,
    because the class vectors reach them through seven layers."""
    normed_skips: bool = False
    """Whether the two skips are normalised over their channels first. CLIP's skips are taken inside its blocks, as
    published without a norm; in a training from scratch their scale grows until they dominate the class features."""


class _OnBackbone(_Frozen):
    """Common fields of students with a transformer backbone."""

    backbone: BackboneSpec

    @property
    def bands(self) -> int:
        """Bands of the images."""
        return len(self.backbone.mean)

    @property
    def title(self) -> str:
        """The transformer's name in its library."""
        return self.backbone.name


class GuidedSpec(_OnBackbone):
    """Specification of a guided student: backbone, taps, guidance by class vectors, decoder."""

    taps: tuple[int, int, int]
    """Indices (from 0) of the blocks that give the shallower skip, the deeper skip and the semantic map."""
    guidance: Literal["explicit", "implicit"]
    guidance_width: _Width
    """Channels of a class vector and of the semantic map."""
    decoder: DecoderSpec = DecoderSpec()

    @field_validator("taps")
    @classmethod
    def _taps_rise(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not 0 <= value[0] < value[1] < value[2]:
            raise ValueError(f"taps are three blocks in rising order, got {value}")
        return value


class HeadSpec(_Frozen):
    """Widths of the DPT head."""

    features: int = Field(gt=0, le=4096)
    """Channels of the pyramid."""
    widths: tuple[_Width, _Width, _Width, _Width]
    """Channels of each tap before it enters the pyramid."""


class TranslatorSpec(_Frozen):
    """Specification of the translator from a student's tokens to those of one teacher."""

    teacher: str = Field(min_length=1)
    width: _Width
    """Channels of the teacher's tokens."""
    hidden: _Width = 1024
    grid: int | None = Field(None, gt=0, le=256)
    """Rows (and columns) of the teacher's square token grid; None: the teacher has the student's grid."""
    folded: bool = False
    """Whether the projection back to the student's width is merged into the translator's last layer, so that there are
    no tokens in the teacher's space any more."""


class DenseSpec(_OnBackbone):
    """Specification of a single dense student: backbone, taps, DPT head, and token fusion with its teachers."""

    taps: tuple[int, int, int, int]
    """Indices (from 0) of the blocks whose outputs the head gets."""
    head: HeadSpec
    translators: tuple[TranslatorSpec, ...] = Field((), max_length=16)
    alpha: float = Field(0.8, ge=0, le=1)
    """Weight of the student's own tokens in the fusion; the translators share the rest equally."""
    align: Literal["second_pass", "pool"] = "pool"
    """How tokens are brought to a teacher's grid: by a second forward pass of the resized image, or by mean pooling."""
    fuse: bool = True
    """Whether the head gets the fused tokens; else the translators only serve the training loss."""

    @property
    def grids(self) -> tuple[int, ...]:
        """Grids that a second pass is made for, each once."""
        if self.align == "pool":
            return ()
        return tuple(sorted({item.grid for item in self.translators if item.grid is not None}))

    @model_validator(mode="after")
    def _fits_itself(self) -> DenseSpec:
        if list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 0:
            raise ValueError(f"taps are four blocks in rising order, got {self.taps}")
        if self.backbone.library != "timm":
            raise ValueError(f"a single student's backbone is timm's, got {self.backbone.library}")
        names = [item.teacher for item in self.translators]
        if len(names) != len(set(names)):
            raise ValueError(f"translators want different teachers, got {', '.join(names)}")
        if not self.fuse and any(item.folded for item in self.translators):
            raise ValueError("translators are folded only where they are fused")
        return self


class LocalSpec(_Frozen):
    """Specification of the local student, a small convolutional network."""

    kind: Literal["local"] = "local"
    mean: tuple[float, ...]
    """By band: subtracted from images in [0, 1]."""
    std: tuple[float, ...]
    """By band: divisor after the subtraction."""
    pixel: _Width = 32
    """Channels of the 1 × 1 layers."""
    widths: tuple[_Width, _Width, _Width] = (16, 32, 64)
    """Channels at full, half and quarter resolution."""
    mixed: _Width = 32
    """Channels of the map before the last, classifying layer."""
    norm: Literal["group", "batch"] = "group"
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the channels of each map that training drops; `training/views.py` draws the masks."""

    @property
    def bands(self) -> int:
        """Bands of the images."""
        return len(self.mean)

    @property
    def title(self) -> str:
        """One phrase for what it is."""
        return f"convolutions at 1, 1/2, 1/4 ({'-'.join(str(width) for width in self.widths)} channels)"

    @model_validator(mode="after")
    def _statistics_are_usable(self) -> LocalSpec:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ValueError(f"a mean and a positive std for each band are wanted, got {self.mean} and {self.std}")
        return self


StudentSpec = GuidedSpec | DenseSpec | LocalSpec
"""The specification of a student of any kind, from which it can be rebuilt."""


def _kind(student: Any) -> str:
    """Kind of a specification: only that of a dense student has a head, only that of a local one has a field `kind`."""
    fields = student if isinstance(student, dict) else student.__dict__
    return "dense" if fields.get("head") is not None else fields.get("kind", "guided")


_AnyStudent = Annotated[
    Annotated[GuidedSpec, Tag("guided")] | Annotated[DenseSpec, Tag("dense")] | Annotated[LocalSpec, Tag("local")],
    Discriminator(_kind),
]
_KINDS: dict[str, type] = {
    "clip": GuidedSpec, "dino": GuidedSpec, SINGLE: DenseSpec, **dict.fromkeys(LOCAL_NAMES, LocalSpec)
}  # fmt: skip


USUAL_OVERLAP = 0.25
"""Share of a window's side that overlaps the next window where a model says nothing else."""

MAX_TILE_RATIO = 1.5
"""Ratio of the sides of two windows up to which they count as about as large.

A model that learnt on 96 px fell from 85.8 to 65.5 mIoU with windows of 256 px (one aerial scene).
"""


class Manifest(_Frozen):
    """Everything that a model file says about its model, but the weights."""

    format: Literal[1] = FORMAT
    classes: tuple[dict[str, Any], ...]
    bands: tuple[str, ...] = ("red", "green", "blue")
    scaling: ModelScaling
    tile: int = Field(512, gt=0, le=16_384)
    """Side in pixels of the windows that the model was validated with, the default for maps."""
    overlap: float = Field(USUAL_OVERLAP, ge=0, le=0.9)
    """Share of a window's side that overlaps the next window: the default for maps, as validation had it."""
    ground_resolution: float | None = Field(None, gt=0)
    """Metres per pixel of the training imagery, where known."""
    students: dict[StudentName | Literal["student"], _AnyStudent] = Field(min_length=1)
    """By name: one to three students of the kinds clip, dino and local, or a single dense one named `student`."""
    fusion: Fusion = "mean"
    trained_on: str = ""
    """One phrase: the data that the model was trained on."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Facts about the training run: method, seed, steps, validation scores and so on."""
    licence: str = ""
    """Licence of the weights."""

    def window(self, tile: int | None, overlap: float | None) -> tuple[int, float]:
        """Side of a window in pixels and the overlapping share of it: those wanted, else the model's own."""
        return tile or self.tile, self.overlap if overlap is None else overlap

    def tile_gap(self, tile: int) -> str | None:
        """What a user should know of windows of `tile` pixels; None if they are about as large as the model's own."""
        if max(tile, self.tile) <= MAX_TILE_RATIO * min(tile, self.tile):
            return None
        return f"windows of {tile} px, the model learnt on {self.tile} px: its map may be much worse"

    @field_validator("classes")
    @classmethod
    def _classes_are_classes(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        ClassMap.of(value)
        return value

    @model_validator(mode="after")
    def _fits_itself(self) -> Manifest:
        bands = len(self.bands)
        if len(self.scaling.low) != bands:
            raise ValueError(f"{bands} bands, but scaling for {len(self.scaling.low)}")
        for name, student in self.students.items():
            if student.bands != bands:
                raise ValueError(f"{bands} bands, but the {name} student has statistics of {student.bands}")
            if _KINDS[name] is not type(student):
                raise ValueError(f"the {name} student is described as one of another kind")
        if SINGLE in self.students and len(self.students) > 1:
            raise ValueError(f"a single student beside {', '.join(name for name in self.students if name != SINGLE)}")
        if self.fusion in STUDENT_NAMES and self.fusion not in self.students:
            raise ValueError(f"fusion {self.fusion} without that student")
        return self

    @property
    def class_map(self) -> ClassMap:
        """The classes as a `ClassMap`."""
        return ClassMap.of(self.classes)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the foundation models that a single student was distilled from; empty for other models."""
        single = self.students.get(SINGLE)
        return tuple(item.teacher for item in single.translators) if isinstance(single, DenseSpec) else ()
