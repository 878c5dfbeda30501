"""Which share of the scenes a process makes, as --shard names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` of `count`, the first one being 1; what is None, the scheduler of the cluster tells."""

    number: int | None
    count: int | None

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.number or 'auto'}" + (f"/{self.count}" if self.count else "")


def parse_shard(value: Any) -> Any:
    """The share that `3/64`, `auto` or `auto/64` names."""
    if value is None or isinstance(value, Shard):
        return value
    match = re.fullmatch(r"(auto|\d{1,6})(?:/(\d{1,6}))?", str(value).strip().lower())
    if match:
        number = None if match[1] == "auto" else int(match[1])
        count = int(match[2]) if match[2] else None
        if (number is None and count != 0) or (number and count and number <= count):
            return Shard(number, count)
    raise ValueError("wants K/N, the K-th (from 1) of N shares, or auto, or auto/N")


ShardOf = Annotated[Shard | None, BeforeValidator(parse_shard)]
"""The type of a setting."""
