"""Which chips are labelled: published lists, and seeded draws by ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from co2s_cli.errors import InputError

T = TypeVar("T")


def read_list(path: Path) -> list[str]:
    """The first word of each line: an image by path or name. Published lists have `images/a.png labels/a.png`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of chips ({error})") from error
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise InputError(f"{path}: lists no chip")
    return names


def draw(items: Sequence[T], count: int, seed: int) -> tuple[list[T], list[T]]:
    """`count` of the items and the rest, both in their old order; the same for the same seed and number of items.

    A larger count takes the same items and more.
    """
    chosen = set(np.random.default_rng([seed, len(items)]).permutation(len(items))[:count].tolist())
    parts: tuple[list[T], list[T]] = ([], [])
    for position, item in enumerate(items):
        parts[position not in chosen].append(item)
    return parts
