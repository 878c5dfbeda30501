"""Noise as a pure function of seed and position: hashes, smooth fields of any extent, and textures that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.float64]
"""Coordinates in pixels; float64, as scenes are large."""
T = TypeVar("T", bound=np.generic)

_GOLDEN = np.uint32(0x9E3779B1)
_ONE_THREAD = 200_000
"""Most multiplications of a product that OpenBLAS surely computes in one thread (its limit is 262,144)."""
_SPLINE_DEVIATION = 0.2767
"""Standard deviation of a cubic B-spline surface over uniform values in [-1, 1]."""


def hashed(seed: int, *keys: ArrayLike) -> NDArray[np.uint32]:
    """A well-mixed 32-bit hash of the seed and each combination of the broadcast integer `keys`."""
    value = np.array([seed & 0xFFFFFFFF], dtype=np.uint32)
    for key in keys:
        value = _mixed(value * _GOLDEN ^ np.asarray(key).astype(np.int64).astype(np.uint32))
    return value


def uniform(seed: int, *keys: ArrayLike) -> Floats:
    """A uniform value in [0, 1) for each combination of the broadcast integer `keys`."""
    # 24 bits, the most that float32 represents exactly, so that no value is rounded up to 1.0
    return (hashed(seed, *keys) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def chance(seed: int, *keys: int) -> float:
    """A uniform value in [0, 1) for scalar keys."""
    return float(uniform(seed, *keys)[0])


def _mixed(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    # the finaliser of MurmurHash3: every input bit reaches every output bit
    value = value ^ value >> np.uint32(16)
    value = value * np.uint32(0x85EBCA6B)
    value = value ^ value >> np.uint32(13)
    value = value * np.uint32(0xC2B2AE35)
    return value ^ value >> np.uint32(16)


@dataclass(frozen=True, slots=True)
class Field:
    """A smooth random field over the plane, mean 0, standard deviation 1: cubic B-splines of hashed lattice values."""

    seed: int
    spacing: float
    """Distance of lattice points in pixels; structures are about twice as wide."""

    def grid(self, y: Places, x: Places) -> Floats:
        """(len(y), len(x)) values at all combinations of rows `y` and columns `x`."""
        (rows, down), (cols, across) = self._weights(y), self._weights(x)
        return _product(down, self._lattice(rows[:, None], cols[None]) @ across.T)

    def sloped(self, y: Places, x: Places) -> tuple[Floats, Floats]:
        """Values as by `grid`, and the steepness there (change per pixel, never negative)."""
        rows, down, down_slope = self._weights_and_slopes(y)
        cols, across, across_slope = self._weights_and_slopes(x)
        lattice = self._lattice(rows[:, None], cols[None])
        right = lattice @ across.T
        return _product(down, right), np.hypot(_product(down, lattice @ across_slope.T), _product(down_slope, right))

    def points(self, y: Places, x: Places) -> Floats:
        """Values at the single points (y[i], x[i])."""
        return self.sloped_points(y, x)[0]

    def sloped_points(self, y: Places, x: Places) -> tuple[Floats, Floats]:
        """Values and steepness as by `sloped`, at the single points (y[i], x[i])."""
        i, j = np.floor(y / self.spacing), np.floor(x / self.spacing)
        offsets = np.arange(-1, 3)[:, None]
        lattice = self._lattice((i + offsets)[:, None], (j + offsets)[None])
        t_y, t_x = y / self.spacing - i, x / self.spacing - j
        down, across = np.array(_spline(t_y)), np.array(_spline(t_x))
        left = (down[:, None] * lattice).sum(axis=0)
        slope_y = ((np.array(_spline_slope(t_y))[:, None] * lattice).sum(axis=0) * across).sum(axis=0)
        slope_x = (left * np.array(_spline_slope(t_x))).sum(axis=0)
        values: Floats = (left * across).sum(axis=0)
        return values, np.hypot(slope_y, slope_x) / np.float32(self.spacing)

    def _lattice(self, rows: ArrayLike, cols: ArrayLike) -> Floats:
        return (uniform(self.seed, rows, cols) - np.float32(0.5)) * np.float32(2 / _SPLINE_DEVIATION)

    def _weights(self, positions: Places) -> tuple[NDArray[np.int64], Floats]:
        nodes, weights, _ = self._weights_and_slopes(positions)
        return nodes, weights

    def _weights_and_slopes(self, positions: Places) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Lattice nodes (m,) around n positions along an axis, and the matrices (n, m) of spline weights and slopes."""
        scaled = positions / self.spacing
        first = np.floor(scaled).astype(np.int64)
        low = int(first.min()) - 1
        nodes = np.arange(low, int(first.max()) + 3)
        weights = np.zeros((len(positions), len(nodes)), dtype=np.float32)
        slopes = np.zeros_like(weights)
        rows = np.arange(len(positions))
        for n, (value, slope) in enumerate(zip(_spline(scaled - first), _spline_slope(scaled - first), strict=True)):
            weights[rows, first - 1 - low + n] = value
            slopes[rows, first - 1 - low + n] = slope / self.spacing
        return nodes, weights, slopes


def _product(left: Floats, right: Floats) -> Floats:
    """`left` @ `right`, computed in strips that are small enough for BLAS to use one thread.

    For so few columns a second thread costs more than it saves, and many times as much if processors are shared.
    """
    out = np.empty((left.shape[0], right.shape[1]), dtype=np.float32)
    step = max(1, _ONE_THREAD // right.size)
    for row in range(0, len(left), step):
        np.matmul(left[row : row + step], right, out=out[row : row + step])
    return out


def _spline(t: Places) -> list[Floats]:
    """The four cubic B-spline weights at fraction `t` of a lattice step."""
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return [(part / 6).astype(np.float32) for part in parts]


def _spline_slope(t: Places) -> list[Floats]:
    """Derivatives of `_spline` by `t`."""
    parts = (-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2)
    return [(part / 2).astype(np.float32) for part in parts]


@cache
def grain() -> Floats:
    """A mottled texture (1024, 1024) for soil, grass, asphalt: periodic, mean 0, standard deviation 1."""
    size = 1024
    white = np.random.default_rng(11).standard_normal((size, size))
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    shaped = np.fft.irfft2(np.fft.rfft2(white) / (f + 0.004) ** 0.9, s=(size, size))
    texture: Floats = ((shaped - shaped.mean()) / shaped.std()).astype(np.float32)
    return texture


@cache
def white() -> Floats:
    """White noise: independent standard normal values (2048, 2048)."""
    return np.random.default_rng(12).standard_normal((2048, 2048), dtype=np.float32)


@cache
def canopy(size: int, across: int) -> tuple[Floats, NDArray[np.uint8]]:
    """A closed forest canopy with a period of `size` pixels and `across` trees in each direction.

    Returns (size, size) heights in [0, 1], and (size, size) a random value of the tree that each pixel belongs to.
    """
    rng = np.random.default_rng(size)
    cell = size / across
    jitter, radius = rng.uniform(0.1, 0.9, (2, across, across)), rng.uniform(0.5, 0.95, (across, across))
    height, tree = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    position = (np.arange(size) + 0.5) / cell
    own_cell = np.floor(position).astype(np.int64)
    for m in (-1, 0, 1):
        for n in (-1, 0, 1):
            i, j = np.ix_(own_cell + m, own_cell + n)
            i_in, j_in = i % across, j % across
            dy = position[:, None] - (i + jitter[0, i_in, j_in])
            dx = position[None, :] - (j + jitter[1, i_in, j_in])
            r = radius[i_in, j_in]
            dome = np.sqrt(np.maximum(1 - (dy**2 + dx**2) / r**2, 0)) * (0.55 + 0.45 * r)
            taller = dome > height
            height = np.where(taller, dome, height).astype(np.float32)
            tree = np.where(taller, hashed(5, i_in, j_in) >> np.uint32(24), tree).astype(np.uint8)
    return height, tree


def repeated(texture: NDArray[T], row: int, col: int, size: int) -> NDArray[T]:
    """The square of `size` pixels at (row, col) of a plane that is tiled with `texture`."""
    rows = np.arange(row, row + size) % texture.shape[0]
    cols = np.arange(col, col + size) % texture.shape[1]
    part: NDArray[T] = texture.take(rows, axis=0).take(cols, axis=1)
    return part
