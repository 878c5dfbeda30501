"""Parsers for quantities on the command line: sizes in bytes, nodata values, whole numbers."""

import re
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BeforeValidator

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str | int) -> int:
    """Number of bytes, from '4GB', '512MiB', '2g' or a plain number."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", str(text), re.IGNORECASE)
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError("wants a size such as 4GB, 512MB or 2GiB")
    count = float(match[1]) * _BYTES[match[2].lower()]
    if count >= 2**63:
        raise ValueError("wants a size below 9 exabytes")
    return int(count)


def show_bytes(count: float) -> str:
    """A size as a person reads it: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:  # from here on, three digits round to 1000
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def parse_nodata(value: Any) -> Any:
    """A number (also NaN), 'none' for "every value is data", or None if nothing was given."""
    if value is None:
        return None
    if str(value).strip().lower() in ("none", "null", "nil", "nada"):
        return "none"
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError("wants a number, nan or none") from None


def parse_whole(value: Any) -> Any:
    """A text of digits as int; any other value as it is."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Nodata = Annotated[Annotated[float, AllowInfNan()] | Literal["none"] | None, BeforeValidator(parse_nodata)]
