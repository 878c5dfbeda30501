"""The share of the scenes that a process maps, as --shard names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` (from 1) of `count` shares; None stands for the value that the cluster's scheduler provides."""

    number: int | None
    count: int | None

    def __str__(self) -> str:
        """The share as a user types it."""
        return f"{self.number or 'auto'}" + (f"/{self.count}" if self.count else "")


def parse_shard(value: Any) -> Any:
    """The `Shard` of a text such as `3/64`, `auto` or `auto/64`; None and shards as they are."""
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
"""Type of the setting `shard`."""
