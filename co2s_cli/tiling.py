"""Plan the windows that cover a scene. Pure integer arithmetic; reads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: rows top to bottom, columns left to right; may reach over a scene's edge."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a window has pixels, got {self.height} × {self.width}")

    @property
    def bottom(self) -> int:
        """First row below."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """First column to the right."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices of an array."""
        return slice(self.row, self.bottom), slice(self.col, self.right)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixel of each tile along one axis.

    Consecutive tiles share at least `overlap` pixels and the last one ends exactly at `length`:
    it is moved back, never cut, so every tile has the same size. One tile when `length <= tile`.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"need 0 <= overlap < tile, got overlap={overlap}, tile={tile}")
    if length <= tile:
        return [0]
    last = length - tile
    return [*range(0, last, tile - overlap), last]
