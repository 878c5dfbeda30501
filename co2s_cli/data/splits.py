"""Which chips are labelled: published lists, and seeded draws by ratio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from co2s_cli.errors import InputError

T = TypeVar("T")


def read_list(path: Path) -> list[list[str]]:
    """The words of each line, paths or names. Published lists have `images/a.png labels/a.png`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of chips ({error})") from error
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise InputError(f"{path}: lists no chip")
    return words


def draw(items: Sequence[T], count: int, seed: int) -> tuple[list[T], list[T]]:
    """`count` of the items and the rest, both in their old order; the same for the same seed and number of items.

    A larger count takes the same items and more.
    """
    chosen = set(np.random.default_rng([seed, len(items)]).permutation(len(items))[:count].tolist())
    parts: tuple[list[T], list[T]] = ([], [])
    for position, item in enumerate(items):
        parts[position not in chosen].append(item)
    return parts


_NUMBERS = r"^(.+?)(?:[_-]\d+){1,2}$"
"""A chip's name: that of its tile, and one or two numbers behind it."""


def tile_of(name: str, pattern: str = "") -> str:
    """The tile that a chip called `name` was cut from: the first group of `pattern`; itself where it does not match."""
    match = re.match(pattern or _NUMBERS, Path(name).stem)
    return match[1] if match else Path(name).stem


def draw_tiles(items: Sequence[T], tiles: Sequence[str], count: int, seed: int) -> tuple[list[T], list[T]]:
    """At least `count` of the items and the rest, so that no tile is in both; `tiles` says the tile of each item.

    Raises:
        InputError: all items are of one tile.
    """
    names = sorted(set(tiles))
    if len(names) < 2:
        raise InputError(
            f"all {len(items)} chips are of the tile {names[0]}", hint="--split-by chip, or tile: in data.yaml"
        )
    order = np.random.default_rng([seed, len(names)]).permutation(len(names)).tolist()
    chosen: set[str] = set()
    for index in order[: len(names) - 1]:
        if sum(tile in chosen for tile in tiles) >= count:
            break
        chosen.add(names[index])
    parts: tuple[list[T], list[T]] = ([], [])
    for item, tile in zip(items, tiles, strict=True):
        parts[tile not in chosen].append(item)
    return parts
