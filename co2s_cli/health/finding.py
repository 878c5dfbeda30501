"""What a check tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine or what is installed on it."""

    name: str
    """What was looked at, such as GDAL."""
    state: Literal["ok", "note", "missing"]
    """note: co2s works, and something would make it better; missing: a command of co2s cannot work."""
    found: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


Check = Callable[[], Iterator[Finding]]
"""Looks at one thing and tells what it found; a check that fails is itself told as missing."""
