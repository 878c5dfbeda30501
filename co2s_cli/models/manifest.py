"""The input contract of a model, stored beside its weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from co2s_cli.classes import ClassMap

FORMAT: Literal[1] = 1

Fusion = Literal["mean", "confident", "clip", "dino"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


SampleType = Literal["uint8", "uint16", "int16", "float32"]


class ModelScaling(_Frozen):
    """Digital numbers to [0, 1], one range per band: (value - low) / (high - low)."""

    dtype: SampleType = "uint8"
    """Sample type that the ranges belong to."""
    low: tuple[float, ...]
    high: tuple[float, ...]

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> ModelScaling:
        if len(self.low) != len(self.high) or any(lo > hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low <= high is wanted for each band, got {self.low} and {self.high}")
        return self


class BackboneSpec(_Frozen):
    """One vision transformer by library and name."""

    library: Literal["open_clip", "timm"]
    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    """What rebuilds it: sizes of made-up backbones, activation, norm eps, position grid, rope precision."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _statistics_are_usable(self) -> BackboneSpec:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ValueError(f"a mean and a positive std for each band are wanted, got {self.mean} and {self.std}")
        if not float(self.options.get("norm_eps", 1)) > 0:
            raise ValueError("norm_eps must be positive")
        return self


class DecoderSpec(_Frozen):
    """Widths of the guided decoder; the defaults are the published ones."""

    width: int = 128
    skips: tuple[int, int] = (32, 16)
    """Channels kept of the deeper and of the shallower skip."""
    ups: tuple[int, int] = (64, 32)
    """Channels after the first and after the second upsampling."""


class StudentSpec(_Frozen):
    """One student: backbone, taps, guidance, decoder."""

    backbone: BackboneSpec
    taps: tuple[int, int, int]
    """Blocks (from 0) of the shallower skip, the deeper skip and the semantic map."""
    guidance: Literal["explicit", "implicit"]
    guidance_width: int
    """Channels of a class vector and of the semantic map."""
    decoder: DecoderSpec = DecoderSpec()

    @field_validator("taps")
    @classmethod
    def _taps_rise(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not 0 <= value[0] < value[1] < value[2]:
            raise ValueError(f"taps are three blocks in rising order, got {value}")
        return value


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
    students: dict[Literal["clip", "dino"], StudentSpec] = Field(min_length=1)
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
            if len(student.backbone.mean) != bands:
                raise ValueError(
                    f"{bands} bands, but the {name} student has statistics of {len(student.backbone.mean)}"
                )
        if self.fusion in ("clip", "dino") and self.fusion not in self.students:
            raise ValueError(f"fusion {self.fusion} without that student")
        return self

    @property
    def class_map(self) -> ClassMap:
        """The classes as the rest of the house knows them."""
        return ClassMap.of(self.classes)
