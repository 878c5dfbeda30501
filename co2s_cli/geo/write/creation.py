"""Creation options of GDAL's COG driver, checked before any work: GDAL itself only warns about bad ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

from co2s_cli.errors import ConfigError

_SWITCH = "YES|NO"
_LOSSLESS = "NONE|LZW|DEFLATE|ZSTD|LZMA"
_RESAMPLING = "NEAREST|AVERAGE|BILINEAR|CUBIC|CUBICSPLINE|LANCZOS|MODE|RMS"
OPTIONS = {
    "COMPRESS": _LOSSLESS,
    "OVERVIEW_COMPRESS": f"AUTO|{_LOSSLESS}",
    "LEVEL": "[0-9]{1,2}",
    "PREDICTOR": "YES|NO|STANDARD|FLOATING_POINT",
    "OVERVIEW_PREDICTOR": "YES|NO|STANDARD|FLOATING_POINT",
    "BLOCKSIZE": "128|256|512|1024|2048|4096",
    "BIGTIFF": "YES|NO|IF_NEEDED|IF_SAFER",
    "NUM_THREADS": "ALL_CPUS|[1-9][0-9]*",
    "OVERVIEWS": "AUTO|IGNORE_EXISTING|FORCE_USE_EXISTING|NONE",
    "OVERVIEW_COUNT": "[0-9]{1,2}",
    "OVERVIEW_RESAMPLING": _RESAMPLING,
    "STATISTICS": "AUTO|YES|NO",
    "SPARSE_OK": _SWITCH,
    "GEOTIFF_VERSION": "AUTO|1\\.0|1\\.1",
}
"""Option → what its value must match. Lossy compression would change classes, a tiling scheme the grid: neither is
offered."""


def parse(pairs: Iterable[str]) -> dict[str, str]:
    """Options of `--co K=V` flags, by name in capitals; `ConfigError` names the first bad one."""
    return dict(_parse(pair) for pair in pairs)


def _parse(pair: str) -> tuple[str, str]:
    name, _, value = (part.strip().upper() for part in pair.partition("="))
    if name not in OPTIONS:
        raise ConfigError(f"--co {pair}: no such option", hint=f"known: {', '.join(sorted(OPTIONS))}")
    if not re.fullmatch(OPTIONS[name], value):
        raise ConfigError(f"--co {pair}: wants {name}={OPTIONS[name].replace(chr(92), '')}")
    return name, value
