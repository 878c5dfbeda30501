"""The result of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine or its software."""

    name: str
    """What was checked, such as GDAL."""
    state: Literal["ok", "note", "missing"]
    """ok: nothing to do; note: co2s works, but could work better; missing: some command of co2s cannot work."""
    found: str
    """What the check found, in one phrase."""
    advice: str = ""
    """What to do; empty if nothing is to be done."""


Check = Callable[[], Iterator[Finding]]
"""A check: yields its findings. If it raises an error, that is reported as a finding with state `missing`."""
