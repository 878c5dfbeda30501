"""Parsers for values on the command line: sizes in bytes, nodata values, whole numbers, bands and values of a file."""

import re
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, BeforeValidator

from co2s_cli.limits import MAX_BANDS

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

_MAX_DIGITS = 9
"""Most digits of a band's number; text with more digits is taken as a name."""


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


def parse_whole_numbers(value: Any) -> Any:
    """Whole numbers, from '0,99', a number or a list of such; 'none' is an empty list, None stays None."""
    if value is None:
        return None
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [text.strip().lower() for part in parts for text in str(part).split(",")]
    if texts == ["none"]:
        return []
    if not all(re.fullmatch(r"-?\d{1,18}", text) for text in texts):
        raise ValueError("wants whole numbers such as 0 or 0,99, or none")
    return [int(text) for text in texts]


def parse_bands(value: Any) -> Any:
    """List of band numbers (int) and names (str), from '3,2,1', 'red,green,blue', '1..3' or a list of such texts."""
    texts = value if isinstance(value, list | tuple) else [value]
    parts = (part.strip() for text in texts for part in str(text).split(","))
    return [band for part in parts if part for band in span(part) or [_number_or_name(part)]]


def span(text: str) -> list[int | str]:
    """The numbers from the first to the last of `1..3`; empty for any other text."""
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if ends is None:
        return []
    first, last = (int(end[:_MAX_DIGITS]) for end in ends.groups())
    if abs(last - first) >= MAX_BANDS:
        raise ValueError(f"wants at most {MAX_BANDS} bands")
    step = 1 if last >= first else -1
    return list(range(first, last + step, step))


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else text


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Nodata = Annotated[Annotated[float, AllowInfNan()] | Literal["none"] | None, BeforeValidator(parse_nodata)]
WholeNumbers = Annotated[list[int] | None, BeforeValidator(parse_whole_numbers)]
"""A list of whole numbers; None: not given."""
Bands = Annotated[list[int | str], BeforeValidator(parse_bands)]
"""Bands of a file, by number (from 1) or by name."""
