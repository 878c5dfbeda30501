"""Areas and lengths on the ellipsoid of lines that are straight in longitude and latitude, as pixel edges are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PLACES, _WEIGHTS = (nodes / 2 for nodes in np.polynomial.legendre.leggauss(3))
"""Gauss quadrature over an edge, which runs from -1/2 to 1/2."""


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An oblate ellipsoid or a sphere, in metres."""

    semi_major: float
    semi_minor: float

    @property
    def eccentricity(self) -> float:
        """Zero for a sphere."""
        return float(np.sqrt(max(0.0, 1 - (self.semi_minor / self.semi_major) ** 2)))

    def zone(self, lat: Floats) -> Floats:
        """Square metres between the equator and a latitude (radians), per radian of longitude.

        Snyder, Map Projections: A Working Manual (1987), equation 3-12.
        """
        sin, e = np.sin(lat), self.eccentricity
        if e == 0:
            return np.asarray(self.semi_major**2 * sin)
        return np.asarray(self.semi_minor**2 / 2 * (sin / (1 - (e * sin) ** 2) + np.arctanh(e * sin) / e))

    def areas(self, lon: Floats, lat: Floats, starts: NDArray[np.int64]) -> Floats:
        """Square metres of closed rings, one after the other, above zero for those that run counter-clockwise.

        Longitudes and latitudes in radians.
        """
        base = np.repeat(self.zone(lat[starts[:-1]]), np.diff(starts))  # a near base keeps the digits of small rings
        turn, middle, rise = _edges(lon, lat, starts)
        mean = sum(w * (self.zone(middle + p * rise) - base) for p, w in zip(_PLACES, _WEIGHTS, strict=True))
        return np.asarray(-np.add.reduceat(turn * mean, starts[:-1]))

    def lengths(self, lon: Floats, lat: Floats, starts: NDArray[np.int64]) -> Floats:
        """Metres around closed rings, one after the other; longitudes and latitudes in radians."""
        turn, middle, rise = _edges(lon, lat, starts)
        total = sum(w * self._step(turn, middle + p * rise, rise) for p, w in zip(_PLACES, _WEIGHTS, strict=True))
        return np.asarray(np.add.reduceat(total, starts[:-1]))

    def _step(self, turn: Floats, lat: Floats, rise: Floats) -> Floats:
        bulge = 1 - (self.eccentricity * np.sin(lat)) ** 2
        across = self.semi_major / np.sqrt(bulge)
        return np.asarray(np.hypot(turn * np.cos(lat) * across, rise * across * (1 - self.eccentricity**2) / bulge))


def _edges(lon: Floats, lat: Floats, starts: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Change of longitude, middle latitude and change of latitude from each point to the next; none after a ring."""
    turn, rise = np.diff(lon, append=0.0), np.diff(lat, append=0.0)
    turn[starts[1:] - 1] = rise[starts[1:] - 1] = 0
    return turn, lat + rise / 2, rise
