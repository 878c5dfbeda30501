"""The input contract of a model, stored beside its weights."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from co2s_cli.classes import ClassMap
from co2s_cli.errors import shown
from co2s_cli.students import LOCAL_NAMES, STUDENT_NAMES, Fusion, StudentName

FORMAT: Literal[1] = 1

SINGLE: Final = "student"
"""Name of the student of a model that has one by design."""

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
"""Least and largest value of each size among a backbone's options; whole numbers where the largest is one."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


SampleType = Literal["uint8", "uint16", "int16", "float32"]


class ModelScaling(_Frozen):
    """Digital numbers to [0, 1], one range per band: (value - low) / (high - low)."""

    dtype: SampleType = "uint8"
    """Sample type that the ranges belong to."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    headroom: float = Field(default=0.0, ge=0)
    """How far ranges that are percentiles of a scene reach beyond these, in parts of what lies between."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> ModelScaling:
        if len(self.low) != len(self.high) or any(lo > hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low <= high is wanted for each band, got {self.low} and {self.high}")
        return self


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Statistics that the released codes give to images of every backbone, CLIP's too: fields of a `BackboneSpec`."""


class BackboneSpec(_Frozen):
    """One vision transformer by library and name."""

    library: Literal["open_clip", "timm"]
    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    """What rebuilds it: sizes of made-up backbones, activation, norm eps, position grid, rope precision."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

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
    """Channels kept of the deeper and of the shallower skip."""
    ups: tuple[_Width, _Width] = (64, 32)
    """Channels after the first and after the second upsampling."""
    similarity: float | None = None
    """Scale at which the similarity of pixels and class vectors itself joins the logits at first, learnt from there.
    None: it does not, as published; from scratch the classes then reach the logits through seven layers only, late."""
    normed_skips: bool = False
    """Whether the two skips are normalised over their channels first. CLIP's are taken inside of blocks, as published
    without a norm; from scratch their scale grows until they drown what tells the classes apart."""


class _OnBackbone(_Frozen):
    """What every student with a transformer has."""

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
    """A guided student: backbone, taps, guidance, decoder."""

    taps: tuple[int, int, int]
    """Blocks (from 0) of the shallower skip, the deeper skip and the semantic map."""
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
    """The way from a student's tokens to those of one teacher."""

    teacher: str = Field(min_length=1)
    width: _Width
    """Channels of the teacher's tokens."""
    hidden: _Width = 1024
    grid: int | None = Field(None, gt=0, le=256)
    """Rows and columns of the teacher's tokens; None where it is shown images that give the student's own grid."""
    folded: bool = False
    """Whether the way back is part of it, so that the teacher's own space is left out."""


class DenseSpec(_OnBackbone):
    """A single student: backbone, taps, DPT head, and what it fuses its last tap with."""

    taps: tuple[int, int, int, int]
    """Blocks (from 0) that the head sees."""
    head: HeadSpec
    translators: tuple[TranslatorSpec, ...] = Field((), max_length=16)
    alpha: float = Field(0.8, ge=0, le=1)
    """Share of the student's own tokens; the translators share the rest."""
    align: Literal["second_pass", "pool"] = "pool"
    """How tokens come to a teacher's grid: from a second look at the image in that teacher's size, or as means."""
    fuse: bool = True
    """Whether the head sees what the translators say; else they serve the training alone."""

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
    """The local student: a small convolutional network."""

    kind: Literal["local"] = "local"
    mean: tuple[float, ...]
    """Subtracted from each band of images in [0, 1]."""
    std: tuple[float, ...]
    """What each band is divided by then."""
    pixel: _Width = 32
    """Channels of the layers that see one pixel alone."""
    widths: tuple[_Width, _Width, _Width] = (16, 32, 64)
    """Channels at full, half and quarter resolution."""
    mixed: _Width = 32
    """Channels of the map that the classes are read off."""
    norm: Literal["group", "batch"] = "group"
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the channels of each map that training drops; `training/step.py` draws which."""

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
"""What rebuilds a student of any kind."""


def _kind(student: Any) -> str:
    """Which description a student has: only a dense one has a head, only a local one names its kind."""
    fields = student if isinstance(student, dict) else student.__dict__
    return "dense" if fields.get("head") is not None else fields.get("kind", "guided")


_AnyStudent = Annotated[
    Annotated[GuidedSpec, Tag("guided")] | Annotated[DenseSpec, Tag("dense")] | Annotated[LocalSpec, Tag("local")],
    Discriminator(_kind),
]
_KINDS: dict[str, type] = {
    "clip": GuidedSpec, "dino": GuidedSpec, SINGLE: DenseSpec, **dict.fromkeys(LOCAL_NAMES, LocalSpec)
}  # fmt: skip


class Manifest(_Frozen):
    """Everything that a model file says about itself."""

    format: Literal[1] = FORMAT
    classes: tuple[dict[str, Any], ...]
    bands: tuple[str, ...] = ("red", "green", "blue")
    scaling: ModelScaling
    tile: int = Field(512, gt=0, le=16_384)
    """Window size in pixels that the model was made for."""
    ground_resolution: float | None = Field(None, gt=0)
    """Metres per pixel of the training imagery, where known."""
    students: dict[StudentName | Literal["student"], _AnyStudent] = Field(min_length=1)
    """One, two or three of clip, dino and local, or a single dense one of the name `student`."""
    fusion: Fusion = "mean"
    trained_on: str = ""
    """One phrase: what it was trained on."""
    training: dict[str, Any] = Field(default_factory=dict)
    licence: str = ""
    """Licence of the weights."""

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
        """The classes as the rest of the house knows them."""
        return ClassMap.of(self.classes)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the foundation models that a single student speaks for; empty for a pair."""
        single = self.students.get(SINGLE)
        return tuple(item.teacher for item in single.translators) if isinstance(single, DenseSpec) else ()
