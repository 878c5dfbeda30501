"""Band names: how a raster names its bands, which names are synonyms, and which bands a model needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rasterio.enums import ColorInterp

from co2s_cli.errors import InputError

SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "coastal": ("coastal_aerosol", "coastal_blue", "aerosol", "ultra_blue"),
    "blue": (),
    "green": (),
    "green_i": ("green_1",),
    "yellow": (),
    "red": (),
    "rededge": ("red_edge", "re"),
    "rededge1": ("red_edge_1", "re1", "vegetation_red_edge_1"),
    "rededge2": ("red_edge_2", "re2", "vegetation_red_edge_2"),
    "rededge3": ("red_edge_3", "re3", "vegetation_red_edge_3"),
    "nir": ("near_infrared", "infrared", "nir1", "nir_1"),
    "nir08": ("narrow_nir", "nir_narrow", "nir2", "nir_2"),
    "nir09": ("water_vapour", "water_vapor"),
    "cirrus": (),
    "swir1": ("swir16", "swir_1", "swir_16", "shortwave_infrared_1"),
    "swir2": ("swir22", "swir_2", "swir_22", "shortwave_infrared_2"),
    "pan": ("panchromatic",),
    "thermal1": ("tir", "thermal", "lwir", "lwir11", "tirs1"),
    "thermal2": ("lwir12", "tirs2"),
}
"""Common name of a band → synonyms. Names are compared as `plain` gives them, without case, blanks, `_`, `-`, `.`."""

SENSORS: Final[Mapping[str, Mapping[str, str]]] = {
    "Sentinel-2": {
        "b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "rededge1", "b6": "rededge2",
        "b7": "rededge3", "b8": "nir", "b8a": "nir08", "b9": "nir09", "b10": "cirrus", "b11": "swir1", "b12": "swir2",
    },
    "Landsat 8-9": {
        "b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "nir", "b6": "swir1", "b7": "swir2",
        "b8": "pan", "b9": "cirrus", "b10": "thermal1", "b11": "thermal2",
    },
    "Landsat 4-7": {
        "b1": "blue", "b2": "green", "b3": "red", "b4": "nir", "b5": "swir1", "b6": "thermal1", "b7": "swir2",
        "b8": "pan",
    },
    "PlanetScope 8-band": {
        "b1": "coastal", "b2": "blue", "b3": "green_i", "b4": "green", "b5": "yellow", "b6": "red", "b7": "rededge",
        "b8": "nir",
    },
    "NAIP, PlanetScope 4-band": {"b1": "red", "b2": "green", "b3": "blue", "b4": "nir"},
}  # fmt: skip
"""Sensor → band code → common name. A code is translated only if all sensors that fit the file agree about it."""

RGB: Final = ("red", "green", "blue")
"""Names given to three bands without names."""

_NUMBERED: Final = re.compile(r"band_\d+")
"""The name that `band_names` gives to a band without description and colour."""

_CODE: Final = re.compile(r"(sr_?)?b(0?)(\d{1,2}a?)")
"""A band code such as B5, B05, SR_B5: prefix of surface reflectance, leading zero, number."""


def band_names(dataset: Any) -> tuple[str, ...]:
    """A name for each band of an open dataset: its description, else its colour, else its number as `band_1`."""
    no_color = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette)
    return tuple(
        text or (f"band_{band}" if color in no_color else color.name)
        for band, text, color in zip(dataset.indexes, dataset.descriptions, dataset.colorinterp, strict=True)
    )


def training_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a model's bands if it is trained on all bands of a file, whose `band_names` are `names`.

    Red, green and blue are put in this order, whatever their order in the file; three bands without names get these
    names.
    """
    if len(names) == len(RGB) and (
        set(common_names(names)) == set(RGB) or tuple(names) == ("band_1", "band_2", "band_3")
    ):
        return RGB
    return tuple(names)


def is_numbered(name: str) -> bool:
    """Whether a name is that of a band without description and colour, which says only where it is in its file."""
    return _NUMBERED.fullmatch(name) is not None


def common_names(names: Sequence[str]) -> tuple[str | None, ...]:
    """(bands) the common name of each band of a file or a model; None if the name is unknown or ambiguous.

    Codes (B5, B05, SR_B5) are looked up in the tables of all sensors that have all codes of the file. A code about
    which these sensors disagree (B5 is near infrared on Landsat 8 and red edge on Sentinel-2) has no common name.
    """
    codes = [_CODE.fullmatch(name.strip().lower()) for name in names]
    sensors = _sensors([code for code in codes if code])
    return tuple(
        _by_code(code, sensors) if code else _BY_PLAIN.get(plain(name)) for name, code in zip(names, codes, strict=True)
    )


def find_bands(names: Sequence[str], wanted: Sequence[str]) -> tuple[int | None, ...]:
    """Number, from 1, of the band with each of the names `wanted`: by equal name, else by equal common name.

    None for a name that fits no band or several.
    """
    spelled = [plain(name) for name in names]
    common = common_names(names)
    return tuple(
        _only([n for n, name in enumerate(spelled, 1) if name == plain(text)])
        or (_only([n for n, name in enumerate(common, 1) if name == common_name]) if common_name else None)
        for text, common_name in zip(wanted, common_names(wanted), strict=True)
    )


def match_bands(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Numbers, from 1, of the bands with the names `wanted`, in that order; None if they cannot be determined.

    Bands are matched by name if all names are found. Otherwise all bands are taken in their order, provided that there
    are as many as wanted and none has a known name. A name that is only a number (`band_4`) matches only in a file with
    as many bands as wanted, and takes part in their order only in its own place.
    """
    positions = tuple(number for number in find_bands(names, wanted) if number is not None)
    as_many = len(names) == len(wanted)
    if len(positions) == len(wanted) and (as_many or not any(map(is_numbered, wanted))):
        return positions
    in_place = all(name == f"band_{place}" for place, name in enumerate(wanted, 1) if is_numbered(name))
    return tuple(range(1, len(names) + 1)) if as_many and in_place and not any(common_names(names)) else None


def bands_of_model(source: str, names: Sequence[str], in_use: Sequence[int], wanted: Sequence[str]) -> tuple[int, ...]:
    """Numbers, from 1, of the raster's bands that a model needs, in the model's order.

    Args:
        source: Name of the raster, for messages.
        names: Names of all bands of the raster.
        in_use: Numbers, from 1, of the bands from which to choose.
        wanted: Names of the model's bands.

    Raises:
        InputError: `match_bands` cannot determine them.
    """
    usable = {number: names[number - 1] for number in in_use}
    positions = match_bands(list(usable.values()), wanted)
    if positions is not None:
        numbers = list(usable)
        return tuple(numbers[position - 1] for position in positions)
    numbers_by_name = zip(wanted, find_bands(list(usable.values()), wanted), strict=True)
    missing = [name for name, number in numbers_by_name if number is None or is_numbered(name)]
    raise InputError(
        f"{source}: {_counted(list(usable.values()))} found, the model wants {_counted(wanted)}",
        hint=f"no band is known to be {', '.join(missing)}: pick all with -b, by number or name, in the model's order"
        if len(names) >= len(wanted)
        else "use a model that was trained on the bands of this scene",
    )


def plain(name: str) -> str:
    """A name in lower case without blanks, `_`, `-` and `.`, so that spellings of one name become equal."""
    return re.sub(r"[\s_.\-]+", "", name.lower())


def _sensors(codes: Sequence[re.Match[str]]) -> list[Mapping[str, str]]:
    """Code tables of the sensors that have all of the codes and spell them that way."""
    keys = {f"b{code[3]}" for code in codes}
    fitting = {sensor for sensor, table in SENSORS.items() if keys <= set(table)}
    if any(code[2] for code in codes):  # leading zeros are the spelling of Sentinel-2 alone
        fitting &= {"Sentinel-2"}
    if any(code[1] for code in codes):  # SR_ is Landsat collection 2, which has SR_B6 only from Landsat 8 on
        fitting &= {"Landsat 8-9"} if "b6" in keys else {"Landsat 8-9", "Landsat 4-7"}
    return [SENSORS[sensor] for sensor in sorted(fitting)]


def _by_code(code: re.Match[str], sensors: Sequence[Mapping[str, str]]) -> str | None:
    """Common name of a code if all `sensors` agree about it."""
    common = {table[f"b{code[3]}"] for table in sensors}
    return common.pop() if len(common) == 1 else None


def _only(numbers: Sequence[int]) -> int | None:
    """The number if there is exactly one, else None."""
    return numbers[0] if len(numbers) == 1 else None


def _counted(names: Sequence[str]) -> str:
    """Number and first six names of bands, for messages."""
    first_names = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"{len(names)} band{'s' * (len(names) != 1)} ({first_names})"


_BY_PLAIN: Final[Mapping[str, str]] = {
    plain(name): common for common, synonyms in SYNONYMS.items() for name in (common, *synonyms)
}
"""Every known name, as `plain` gives it → common name."""
