"""Split chips by published lists, or by seeded random draws of chips or whole tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from co2s_cli.errors import InputError

T = TypeVar("T")


def read_list(path: Path) -> list[list[str]]:
    """The words of each line of a list of chips, without empty lines and lines that start with #.

    Words are paths or names; lines of published lists are like `images/a.png labels/a.png`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of chips ({error})") from error
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise InputError(f"{path}: lists no chip")
    return words


def draw(items: Sequence[T], count: int, seed: int) -> tuple[list[T], list[T]]:
    """`count` random items and the rest, both in their old order; they depend on the seed and the number of items.

    A larger count draws the same items and more.
    """
    drawn = set(np.random.default_rng([seed, len(items)]).permutation(len(items))[:count].tolist())
    parts: tuple[list[T], list[T]] = ([], [])
    for position, item in enumerate(items):
        parts[position not in drawn].append(item)
    return parts


_TILE_AND_NUMBERS = r"^(.+?)(?:[_-]\d+){1,2}$"
"""Default pattern of a chip's name: the name of its tile, then one or two numbers."""


def tile_of(name: str, pattern: str = "") -> str:
    """The tile that chip `name` was cut from: the first group of `pattern`; the chip's stem if it does not match."""
    match = re.match(pattern or _TILE_AND_NUMBERS, Path(name).stem)
    return match[1] if match else Path(name).stem


def draw_tiles(items: Sequence[T], tiles: Sequence[str], count: int, seed: int) -> tuple[list[T], list[T]]:
    """At least `count` random items and the rest, so that no tile is in both; `tiles` has the tile of each item.

    Raises:
        InputError: all items are of one tile.
    """
    names = sorted(set(tiles))
    if len(names) < 2:
        raise InputError(
            f"all {len(items)} chips are from one tile, {names[0]}: it cannot be split",
            hint="--split-by chip, or tile: in data.yaml",
        )
    order = np.random.default_rng([seed, len(names)]).permutation(len(names)).tolist()
    drawn: set[str] = set()
    for index in order[: len(names) - 1]:
        if sum(tile in drawn for tile in tiles) >= count:
            break
        drawn.add(names[index])
    parts: tuple[list[T], list[T]] = ([], [])
    for item, tile in zip(items, tiles, strict=True):
        parts[tile not in drawn].append(item)
    return parts
