"""Test-time augmentation: the mean over flipped and turned views of a window, each turned back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

Tta = Literal["none", "flips", "d4"]
Members = Callable[[Tensor], Mapping[str, Tensor]]

_TURNS: dict[Tta, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}
"""Quarter turns and whether columns are swapped first."""


def averaged(members: Members, tta: Tta) -> Members:
    """`members` as the mean over the views of `tta`, summed in a fixed order."""
    if tta == "none":
        return members

    def mean(images: Tensor) -> Mapping[str, Tensor]:
        total: dict[str, Tensor] = {}
        for turns, flip in _TURNS[tta]:
            view = (images.flip(-1) if flip else images).rot90(turns, (-2, -1))
            for name, chances in members(view).items():
                back = chances.rot90(-turns, (-2, -1))
                back = back.flip(-1) if flip else back
                total[name] = total[name].add_(back) if name in total else back.clone()
        return {name: chances.div_(len(_TURNS[tta])) for name, chances in total.items()}

    return mean
